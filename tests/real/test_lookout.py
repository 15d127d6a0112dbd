"""Looking out for a way back, on a real loop with a real listener.

Which way is looked for is tested in tests/unit/test_way_back.py, the guard of a connection in
test_guard.py, and what the network tells in tests/lab.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from harness import TIMEOUT_S
from pykeepssh.link import outcomes
from pykeepssh.link.outcomes import RETRY, Report
from pykeepssh.network.lookout import Lookout
from pykeepssh.ssh.evidence import CONNECTING, STARTED, Evidence
from pykeepssh.system.loop import Loop


class Waiting:
    """A lookout for a link that was lost."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.told: list[str] = []
        self.loop = Loop()
        self.lookout = Lookout(
            self.loop,
            ("localhost", "any"),
            lambda: self.told.append("opened"),
            lambda: self.told.append("changed"),
            self.told.append,
            lambda: 0.0,
        )
        self.seen = Evidence()
        self.seen.phase, self.seen.address = CONNECTING, self.server.getsockname()

    def look(self, outcome: str = outcomes.UNREACHABLE) -> None:
        """Look for a way back after an end of ssh."""
        self.lookout.look_for_a_way(Report(RETRY, outcome, delay_s=9.0), self.seen)

    def until_told(self) -> list[str]:
        """Run the loop until something is told."""
        limit = time.monotonic() + TIMEOUT_S
        while not self.told:
            assert time.monotonic() < limit, "nothing is told"
            self.loop.turn()
        told, self.told = self.told, []
        return told

    def close(self) -> None:
        """Give everything back."""
        self.lookout.close()
        assert not self.loop._timers
        assert not self.loop._watched
        self.loop.close()
        self.server.close()


@pytest.fixture
def waiting() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.close()


def test_a_server_that_answers_again_is_told_once(waiting: Waiting) -> None:
    waiting.look()
    assert waiting.until_told() == ["opened"]
    assert waiting.lookout.overtaken(waiting.seen)
    # It answers, and ssh fails elsewhere: its knocks say nothing any more.
    waiting.seen.address = ("192.0.2.1", 22)
    assert not waiting.lookout.overtaken(waiting.seen)


def test_a_name_that_is_there_again_is_told(waiting: Waiting) -> None:
    waiting.seen.phase = STARTED
    waiting.look(outcomes.UNRESOLVED)
    assert waiting.lookout.pids == ()
    assert waiting.until_told() == ["opened"]
    assert waiting.lookout.overtaken(waiting.seen)


def test_what_no_knock_cures_is_only_listened_for(waiting: Waiting) -> None:
    before = len(waiting.loop._watched)
    waiting.look(outcomes.DENIED)
    assert len(waiting.loop._timers) == 1
    assert len(waiting.loop._watched) == before


def test_who_rests_waits_for_nothing(waiting: Waiting) -> None:
    before = len(waiting.loop._watched)
    waiting.look()
    waiting.lookout.rest()
    assert not waiting.loop._timers
    assert len(waiting.loop._watched) == before
