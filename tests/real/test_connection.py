"""A TCP connection of another process as the kernel sees it, on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import IO

import pytest

from harness import absent, wait_for
from pykeepssh.network import connection
from pykeepssh.network.connection import Connection

CLIENT = """\
import socket, sys
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(sys.argv[2]))
client.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1234)
print("ready", flush=True)
for line in sys.stdin:
    if line == "idle\\n":
        print(client.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), flush=True)
    else:
        client.sendall(line.encode())
"""


class Client:
    """A child process with a connection to a listener of ours."""

    def __init__(self, port: int, keepalive: bool) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(port), str(int(keepalive))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        assert self._out.readline() == "ready\n"
        found = connection.of([self.process.pid], ("127.0.0.1", port))
        assert found is not None
        self.connection: Connection = found

    @property
    def _out(self) -> IO[str]:
        assert self.process.stdout
        return self.process.stdout

    def say(self, line: str) -> None:
        """Have it send a line, or tell something."""
        assert self.process.stdin
        self.process.stdin.write(line + "\n")

    def idle_s(self) -> int:
        """Return TCP_KEEPIDLE of its socket."""
        self.say("idle")
        return int(self._out.readline())

    def end(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()
        self._out.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def client(listener: socket.socket) -> Iterator[Client]:
    made = Client(listener.getsockname()[1], keepalive=True)
    yield made
    made.end()


def linux() -> None:
    if sys.platform != "linux":
        absent("Linux")


def test_its_ends_are_known(listener: socket.socket, client: Client) -> None:
    accepted, (address, _) = listener.accept()
    with accepted:
        found = client.connection
        assert (found.local, found.remote, found.remote_port) == (address, *listener.getsockname())
        assert found.retransmissions() == 0
    assert connection.of([client.process.pid], ("127.0.0.1", 1)) is None


def test_use_shows(client: Client) -> None:
    linux()
    before = client.connection.turns()
    client.idle_s()
    wait_for(lambda: client.connection.turns() > before)


def test_the_other_end_answers_and_the_socket_is_given_back_as_it_was(client: Client) -> None:
    linux()
    began = time.monotonic()
    question = client.connection.question()
    assert question is not None
    borrowed = question._socket
    for _ in range(2):
        time.sleep(question.ask())
        assert question.unanswered() == 0
    assert client.idle_s() == 1
    heard = time.monotonic() - question._info(("I", 56)) / 1000
    assert heard > began + 0.5, "no answer came, or nothing was asked"
    question.close()
    assert borrowed.fileno() == -1
    assert client.idle_s() == 1234
    client.say("still works")


def test_a_question_that_comes_too_soon_waits(client: Client) -> None:
    linux()
    question = client.connection.question()
    assert question is not None
    question.ask()
    asked = question._asked
    assert question.ask() > 0
    assert question._asked == asked
    question.close()


def test_where_keepalive_is_off_nothing_is_asked(listener: socket.socket) -> None:
    made = Client(listener.getsockname()[1], keepalive=False)
    assert made.connection.question() is None
    made.end()
    assert made.connection.question() is None  # nor of a process that has ended
    assert made.connection.turns() == made.connection.retransmissions() == 0
