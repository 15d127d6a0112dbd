"""What Lookout makes of a connection's signs, on a real loop and with a real listener to knock at.

The connection is scripted: no kernel can be made to lose just these packets without root.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from harness import TIMEOUT_S
from pykeepssh.network.connection import Connection
from pykeepssh.network.lookout import Lookout, tells_change
from pykeepssh.system.loop import Loop

NEEDED = 2


class Asked:
    """A question to an end that answers or does not."""

    def __init__(self, connection: Scripted) -> None:
        self._connection = connection
        connection.open_questions += 1

    def ask(self) -> float:
        """Count."""
        self._connection.asked += 1
        self._connection.unanswered += not self._connection.answers
        return 0.01

    def unanswered(self) -> int:
        """Return the count."""
        return self._connection.unanswered

    def close(self) -> None:
        """Count."""
        self._connection.open_questions -= 1


class Scripted:
    """A connection that shows what it is told to; to a listener on loopback, so that knocks are answered."""

    local = remote = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.remote_port = port
        self.sent_again = 0
        self.uses = 0
        self.answers = True
        self.can_be_asked = True
        self.asked = self.unanswered = self.open_questions = 0
        self.looks = 0

    def turns(self) -> int:
        """Return what it is told to."""
        return self.uses

    def retransmissions(self) -> int:
        """Return what it is told to; count."""
        self.looks += 1
        return self.sent_again

    def question(self) -> Asked | None:
        """Return one, unless it is told not to."""
        return Asked(self) if self.can_be_asked else None


class Watched:
    """A Lookout over a scripted connection."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.dead: list[str] = []
        self.loop = Loop()
        self.connection = Scripted(self.server.getsockname()[1])
        self.lookout = Lookout(self.loop, lambda: None, lambda: None, self.dead.append, lambda: 0.0)
        self.guard()

    def guard(self) -> None:
        """Look after the connection from now on."""
        self.connection.unanswered = 0
        self.lookout.guard(cast(Connection, self.connection), NEEDED, 15.0)

    def rests(self) -> bool:
        """Tell whether nothing is looked at any more."""
        return not self.loop._timers

    def until_rest(self) -> None:
        """Run the loop until nothing is left to do."""
        limit = time.monotonic() + TIMEOUT_S
        while not self.rests() and not self.dead:
            assert time.monotonic() < limit, "it goes on looking"
            self.loop.turn()

    def close(self) -> None:
        """Give everything back."""
        self.lookout.close()
        self.loop.close()
        self.server.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    made = Watched()
    yield made
    made.close()
    assert made.connection.open_questions == 0


def test_a_quiet_connection_is_not_looked_at(watched: Watched) -> None:
    assert watched.rests()


def test_one_that_answers_is_left_alone(watched: Watched) -> None:
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert (watched.connection.asked, watched.dead) == (1, [])


def test_one_that_does_not_answer_while_its_path_works_is_dead(watched: Watched) -> None:
    watched.connection.answers = False
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert watched.dead == ["the network forgot the connection"]
    assert watched.connection.asked == NEEDED + 2


def test_where_no_path_works_silence_proves_nothing(watched: Watched) -> None:
    watched.connection.answers = False
    watched.server.close()
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert (watched.connection.asked, watched.dead) == (1, [])


def test_only_so_many_connections_are_given_up_for_their_silence_alone(watched: Watched) -> None:
    watched.connection.answers = False
    for times in (1, 1, 1, 0):
        watched.lookout.hint(shaken=True)
        watched.until_rest()
        assert len(watched.dead) == times
        watched.dead.clear()
        watched.guard()


def test_use_is_no_answer(watched: Watched) -> None:
    test_only_so_many_connections_are_given_up_for_their_silence_alone(watched)
    watched.connection.answers = True
    asked = watched.connection.asked
    watched.lookout.hint(shaken=True)
    while watched.connection.asked == asked:
        watched.loop.turn()
    watched.connection.uses += 1  # it may be this that came over the connection
    watched.until_rest()
    watched.connection.answers = False
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert watched.dead == []


def test_bytes_that_go_on_being_sent_again_are_left_to_the_keepalive(watched: Watched) -> None:
    watched.server.close()
    watched.connection.sent_again = NEEDED
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert watched.dead == []
    assert watched.connection.looks < 30


def test_a_change_during_a_question_is_asked_about_too(watched: Watched) -> None:
    watched.lookout.hint(shaken=True)
    while not watched.connection.asked:
        watched.loop.turn()
    time.sleep(1.1)  # longer than hints are taken for one
    watched.lookout.hint(shaken=True)
    watched.until_rest()
    assert watched.connection.asked == 2


def test_where_it_cannot_be_asked_a_later_hint_is_not_lost(watched: Watched) -> None:
    watched.connection.can_be_asked = False
    watched.lookout.hint(shaken=True)
    while watched.loop.left_s("check the connection") != pytest.approx(16, abs=1):
        watched.loop.turn()
    time.sleep(1.1)
    watched.lookout.hint()
    left_s = watched.loop.left_s("check the connection")
    assert left_s is not None and left_s < 1


def message(kind: int, address: bytes, flags: int = 0, lifetime: int = 0, index: int = 1) -> bytes:
    """Return a message of rtnetlink(7) about an IPv4 address."""
    attributes = struct.pack("=HH4s", 8, 1, address) + struct.pack("=HH16s", 20, 6, bytes([lifetime] * 16))
    body = struct.pack("=BBBBI", 2, 24, flags, 0, index) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


NEW, DELETED, LINK = 20, 21, 16
ONE, OTHER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])

NEWS: dict[str, tuple[list[bytes], list[bool]]] = {
    "an address": ([message(NEW, ONE)], [True]),
    "the same again, with another lifetime": ([message(NEW, ONE), message(NEW, ONE, 4, 9)], [True, False]),
    "another": ([message(NEW, ONE), message(NEW, OTHER)], [True, True]),
    "the same on another interface": ([message(NEW, ONE), message(NEW, ONE, index=2)], [True, True]),
    "gone and back": ([message(NEW, ONE), message(DELETED, ONE), message(NEW, ONE)], [True] * 3),
    "two in one": ([message(NEW, ONE), message(NEW, ONE) + message(NEW, OTHER)], [True, True]),
    "a link": ([message(LINK, ONE), message(LINK, ONE)], [True, True]),
    "rubbish": ([b"", b"\0" * 64, b"x" * 7], [False] * 3),
}


@pytest.mark.parametrize("name", NEWS)
def test_a_change_is(name: str) -> None:
    known: set[bytes] = set()
    messages, expected = NEWS[name]
    found: list[Any] = [tells_change(data, known) for data in messages]
    assert found == expected
