"""Looking up names with the real resolver, in a real process.  A numeric address asks no server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psutil
import pytest

from harness import wait_for
from pykeepssh.network.lookup import Lookup
from pykeepssh.system.loop import Loop


class Asked:
    """A name that is looked up on a loop."""

    def __init__(self, name: str, family: str) -> None:
        self._loop = Loop()
        self._news = 0
        self.lookup = Lookup(self._loop, name, family, self._found)

    def _found(self) -> None:
        self._news += 1

    def is_news(self) -> bool:
        """Look up once; return whether it was good news."""
        before = self._news
        self.lookup.try_once()
        while self.lookup.pids:
            self._loop.turn()
        assert not self._loop._watched
        return self._news > before


Ask = Callable[[str, str], Asked]


@pytest.fixture
def asked() -> Iterator[Ask]:
    """Give a way to look up names."""
    made: list[Asked] = []

    def make(name: str, family: str) -> Asked:
        made.append(Asked(name, family))
        return made[-1]

    yield make
    for one in reversed(made):
        one._loop.close()


@pytest.fixture
def children() -> Iterator[list[psutil.Process]]:
    """Give a list for processes that have to be gone in the end."""
    started: list[psutil.Process] = []
    yield started
    wait_for(lambda: not any(process.is_running() for process in started))


@pytest.mark.parametrize("family", ["any", "inet"])
def test_a_name_that_is_there_is_found(asked: Ask, family: str) -> None:
    assert asked("127.0.0.1", family).is_news()


@pytest.mark.parametrize(
    ("name", "family"), [("127.0.0.1", "inet6"), ("", "any"), ("a..b", "any"), ("x" * 300, "any")]
)
def test_a_name_that_is_not_there_is_not_found(asked: Ask, name: str, family: str) -> None:
    assert not asked(name, family).is_news()


def test_a_name_that_is_found_again_is_no_news(asked: Ask) -> None:
    one = asked("127.0.0.1", "any")
    assert [one.is_news(), one.is_news()] == [True, False]


def test_one_lookup_at_a_time_and_none_left_behind(asked: Ask, children: list[psutil.Process]) -> None:
    one = asked("127.0.0.1", "any")
    others = psutil.Process().children()
    for _ in range(2):
        one.lookup.try_once()
    children.extend(set(psutil.Process().children()) - set(others))
    assert len(children) == 1
    one.lookup.close()
    assert one.lookup.pids == ()
    assert one.is_news()
