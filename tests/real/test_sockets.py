"""The sockets and the processes of this process, as the system tells them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from harness import absent, wait_for
from pykeepssh.system import ancestry, borrowed, sockets
from pykeepssh.system.sockets import ESTABLISHED, LISTEN

HERE = os.getpid()


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as made:
        yield made


def places_of(state: str) -> list[tuple[str, int]]:
    return [one.local for one in sockets.of(HERE) if one.state == state]


def test_where_it_listens_and_what_it_is_connected_to(server: socket.socket) -> None:
    host, port = server.getsockname()[:2]
    assert (host, port) in places_of(LISTEN)
    with socket.create_connection((host, port)) as client:
        (found,) = [one for one in sockets.of(HERE) if one.remote == (host, port)]
        assert (found.state, found.local) == (ESTABLISHED, client.getsockname()[:2])
    assert (host, port) not in places_of(ESTABLISHED)


def test_psutil_tells_the_same(server: socket.socket) -> None:
    with socket.create_connection(server.getsockname()[:2]):
        ways = [
            sorted((one.state, one.local, one.remote) for one in found if one.state == ESTABLISHED)
            for found in (sockets.of(HERE), sockets._elsewhere(HERE))
        ]
    assert ways[0] == ways[1] != []


def test_ipv4_on_a_socket_for_both_is_ipv4() -> None:
    if sys.platform != "linux":
        absent("Linux")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)), server.accept()[0]:
            assert ("127.0.0.1", port) in places_of(ESTABLISHED)


def test_what_was_opened_first_comes_first(server: socket.socket) -> None:
    if sys.platform != "linux":
        absent("Linux")
    clients = [socket.create_connection(server.getsockname()[:2]) for _ in range(3)]
    here = [client.getsockname()[:2] for client in clients]
    assert [one.local for one in sockets.of(HERE) if one.local in here] == here
    for client in clients:
        client.close()


def test_of_a_process_that_has_ended_nothing_is_known() -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    with pytest.raises((FileNotFoundError, ProcessLookupError)):
        sockets.of(ended.pid)
    with pytest.raises(ProcessLookupError):
        sockets._elsewhere(ended.pid)
    with pytest.raises((OSError, ImportError)):
        borrowed.descriptor(ended.pid, 0)
    assert ancestry.descendants(ended.pid) == []


def test_the_processes_below_one() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 600 & sleep 600; true"]) as shell:
        below = wait_for(lambda: (found := ancestry.descendants(HERE)) and len(found) >= 3 and found)
        assert shell.pid in below
        assert set(ancestry.descendants(shell.pid)) < set(below)
        assert set(below) == {child.pid for child in psutil.Process().children(recursive=True)}
        for pid in ancestry.descendants(shell.pid):
            os.kill(pid, 9)
