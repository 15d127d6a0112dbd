"""The guard of a connection on a real loop, with a real listener to knock at.

When a connection is taken for dead is tested in tests/unit/test_suspicion.py.  It is scripted here: no
kernel can be made to lose just these packets without root.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import cast

import pytest

from harness import TIMEOUT_S
from pykeepssh.link.suspicion import FORGOTTEN, Terms
from pykeepssh.network.connection import Connection
from pykeepssh.network.guard import Guard
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
        return 0.01

    def unanswered(self) -> int:
        """Return the count."""
        return 0 if self._connection.answers else self._connection.asked

    def close(self) -> None:
        """Count."""
        self._connection.open_questions -= 1


class Scripted:
    """A connection that shows what it is told to; to a listener on loopback, so that knocks are answered."""

    local = remote = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.remote_port = port
        self.sent_again = self.uses = 0
        self.answers = self.can_be_asked = True
        self.asked = self.open_questions = 0

    def turns(self) -> int:
        """Return what it is told to."""
        return self.uses

    def retransmissions(self) -> int:
        """Return what it is told to."""
        return self.sent_again

    def question(self) -> Asked | None:
        """Return one, unless it is told not to."""
        return Asked(self) if self.can_be_asked else None


class Watched:
    """A guard of a scripted connection."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.dead: list[str] = []
        self.loop = Loop()
        self.connection = Scripted(self.server.getsockname()[1])
        self.guard = Guard(self.loop, self.dead.append)
        self.guard.take(cast(Connection, self.connection), Terms(NEEDED, 15.0))

    def rests(self) -> bool:
        """Tell whether nothing is waited for any more."""
        return not self.loop._timers and len(self.loop._watched) == 0

    def until_rest(self) -> None:
        """Run the loop until nothing is left to do."""
        limit = time.monotonic() + TIMEOUT_S
        while not self.rests():
            assert time.monotonic() < limit, "it goes on looking"
            self.loop.turn()

    def close(self) -> None:
        """Give everything back."""
        self.guard.close()
        assert self.rests()
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
    watched.guard.hint(shaken=True)
    watched.until_rest()
    assert (watched.connection.asked, watched.dead) == (1, [])


def test_one_that_does_not_answer_while_its_path_works_is_dead(watched: Watched) -> None:
    watched.connection.answers = False
    watched.guard.hint(shaken=True)
    watched.until_rest()
    assert watched.dead == [FORGOTTEN]
    assert watched.connection.asked == NEEDED + 2


def test_bytes_that_are_sent_again_while_its_path_works_are_lost(watched: Watched) -> None:
    watched.connection.sent_again = NEEDED
    watched.guard.hint()
    watched.until_rest()
    assert (watched.connection.asked, watched.dead) == (0, [FORGOTTEN])


def test_where_it_cannot_be_asked_the_keepalive_is_waited_for(watched: Watched) -> None:
    watched.connection.can_be_asked = False
    watched.guard.hint(shaken=True)
    watched.loop.turn()
    (timer,) = watched.loop._timers
    assert watched.loop.left_s(timer) == pytest.approx(16, abs=1)


def test_a_question_under_way_is_given_up_by_who_looks_away(watched: Watched) -> None:
    watched.guard.hint(shaken=True)
    while not watched.connection.asked:
        watched.loop.turn()
    assert watched.connection.open_questions == 1
    watched.guard.look_away()
    assert watched.connection.open_questions == 0
    assert watched.rests()


@pytest.mark.parametrize(
    ("local", "dead"), [("127.0.0.1", []), ("192.0.2.77", ["local address 192.0.2.77 is gone"])]
)
def test_a_connection_whose_address_is_gone_is_dead(watched: Watched, local: str, dead: list[str]) -> None:
    watched.connection.local = local  # type: ignore[misc]
    watched.guard.network_changed()
    watched.until_rest()
    assert (watched.connection.asked, watched.dead) == (1 - len(dead), dead)
