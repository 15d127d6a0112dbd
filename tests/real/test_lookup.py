"""Looking up names with the real resolver, in a real process.  A numeric address asks no server."""

from __future__ import annotations

import select
from collections.abc import Iterator

import psutil
import pytest

from harness import wait_for
from pykeepssh.network.lookup import Lookup


def answer(lookup: Lookup) -> bool:
    """Look up once; return whether it was good news."""
    (fd,) = lookup.try_once()
    poll = select.poll()
    poll.register(fd, lookup.wanted)
    assert poll.poll(20_000)
    return lookup.answered(fd)


@pytest.fixture
def children() -> Iterator[list[psutil.Process]]:
    """Give a list for processes that have to be gone in the end."""
    started: list[psutil.Process] = []
    yield started
    wait_for(lambda: not any(process.is_running() for process in started))


@pytest.mark.parametrize("family", ["any", "inet"])
def test_a_name_that_is_there_is_found(family: str) -> None:
    assert answer(Lookup("127.0.0.1", family))


@pytest.mark.parametrize(
    ("name", "family"), [("127.0.0.1", "inet6"), ("", "any"), ("a..b", "any"), ("x" * 300, "any")]
)
def test_a_name_that_is_not_there_is_not_found(name: str, family: str) -> None:
    assert not answer(Lookup(name, family))


def test_a_name_that_is_found_again_is_no_news() -> None:
    lookup = Lookup("127.0.0.1", "any")
    assert [answer(lookup), answer(lookup)] == [True, False]


def test_one_lookup_at_a_time_and_none_left_behind(children: list[psutil.Process]) -> None:
    lookup = Lookup("127.0.0.1", "any")
    others = psutil.Process().children()
    assert lookup.try_once() == lookup.try_once()
    children.extend(set(psutil.Process().children()) - set(others))
    assert len(children) == 1
    lookup.close()
    assert lookup.descriptors() == []
    assert answer(lookup)
