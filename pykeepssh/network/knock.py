"""Bare TCP connects to one address, to learn whether ssh could get there now.

Knows connect(2).  Must not know why that is asked, or how often.
"""

from __future__ import annotations

import errno
import select
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..system.loop import Loop

_ANSWER_S = 3.0  # a path slower than this is no path to wait for


class Knock:
    """Connects to one address, as often as it is told to.

    refused  one was refused: somebody is there, and may count them
    took_s   how long the answer took
    """

    pids: tuple[int, ...] = ()

    def __init__(self, loop: Loop, address: str, port: int, answered: Callable[[], None]) -> None:
        """Prepare to knock at a numeric address: no name is ever looked up.

        answered  is called for each connect that is
        """
        self._loop = loop
        self._place = (address, port)
        self._answered = answered
        self._tries: dict[int, tuple[float, socket.socket]] = {}
        self.refused = False
        self.took_s = 0.0

    def try_once(self) -> None:
        """Start one more connect."""
        now = time.monotonic()
        for fd, (started, _) in list(self._tries.items()):
            if now - started >= _ANSWER_S:
                self._drop(fd)
        try:
            # AI_NUMERICHOST also reads a scope such as fe80::1%eth0.
            found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
            family, kind, protocol, _, where = found[0]
            tried = socket.socket(family, kind, protocol)
        except OSError:
            return
        tried.setblocking(False)
        if tried.connect_ex(where) not in (0, errno.EINPROGRESS):
            tried.close()  # no route: the network's return is told by Watch
            return
        fd = tried.fileno()
        self._tries[fd] = (now, tried)
        self._loop.watch(fd, select.POLLOUT, lambda events: self._ready(fd))

    def _ready(self, fd: int) -> None:
        started, tried = self._tries[fd]
        failed = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self._drop(fd)
        self.took_s = time.monotonic() - started
        self.refused = self.refused or failed == errno.ECONNREFUSED
        if failed == 0:
            self._answered()

    def _drop(self, fd: int) -> None:
        self._loop.forget(fd)
        self._tries.pop(fd)[1].close()

    def close(self) -> None:
        """Let go of what is under way."""
        for fd in list(self._tries):
            self._drop(fd)
