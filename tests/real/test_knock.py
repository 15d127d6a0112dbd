"""Knocks at real listeners on loopback."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pykeepssh.network.knock import Knock
from pykeepssh.system.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    assert not made._watched
    made.close()


def turn(loop: Loop) -> None:
    """Run the loop until no connect is under way."""
    while loop._watched:
        loop.turn()


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_server_that_is_there_answers(loop: Loop, address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    answers: list[float] = []
    with socket.create_server((address, 0), family=family) as server:
        knock = Knock(loop, address, server.getsockname()[1], lambda: answers.append(knock.took_s))
        for _ in range(2):
            knock.try_once()
            turn(loop)
        for _ in range(2):
            server.accept()[0].close()
    assert len(answers) == 2
    assert min(answers) > 0 and not knock.refused


def test_one_that_refuses_does_not(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    answers: list[bool] = []
    knock = Knock(loop, "127.0.0.1", port, lambda: answers.append(True))
    knock.try_once()
    turn(loop)
    assert (answers, knock.refused) == ([], True)


@pytest.mark.parametrize("address", ["host.invalid", "", "255.255.255.255"])
def test_what_cannot_be_knocked_at_is_silent(loop: Loop, address: str) -> None:
    knock = Knock(loop, address, 22, lambda: pytest.fail("answered"))
    knock.try_once()
    turn(loop)
    assert not knock.refused


def test_what_is_under_way_is_let_go(loop: Loop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        knock = Knock(loop, *server.getsockname(), lambda: pytest.fail("answered"))
        knock.try_once()
        knock.try_once()
        assert len(loop._watched) == 2
        knock.close()
