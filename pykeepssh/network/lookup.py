"""Whether a host name can be looked up: asked of the system's resolver in a process of its own.

Knows getaddrinfo(3), which may take half a minute and cannot be interrupted.  Must not know what
follows from the answer.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..system.loop import Loop

_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}  # ssh_config(5), AddressFamily
# getaddrinfo() in a fork would be quicker, but it is not safe there on macOS.
_PROGRAM = """\
import os, signal, socket, sys
signal.alarm(60)  # for want of a kssh that would end it
try:
    socket.getaddrinfo(os.fsencode(sys.argv[1]), 22, int(sys.argv[2]), socket.SOCK_STREAM)
except (OSError, ValueError):
    sys.exit(1)
os.write(1, b"found")
"""


class Lookup:
    """Lookups of one name, to learn whether ssh could find its address now."""

    refused = False

    def __init__(self, loop: Loop, name: str, family: str, found: Callable[[], None]) -> None:
        """Prepare to look up a name.

        family  AddressFamily of ssh_config(5): any, inet or inet6
        found   is called once it is there.  A name that was found and is found again is no news: should
                ssh fail to find it all the same, each start would be followed by the next at once.
        """
        number = int(_FAMILIES.get(family, socket.AF_UNSPEC))
        self._words = [sys.executable, "-IS", "-c", _PROGRAM, name, str(number)]
        self._loop = loop
        self._found = found
        self._was_found = False
        self._pid = 0
        self._fd = -1

    def try_once(self) -> None:
        """Ask, unless an answer is still to come."""
        if self._pid:
            return
        answer, out = os.pipe()
        try:
            self._pid = self._start(out)
            self._fd = answer
            self._loop.watch(answer, select.POLLIN, self._ready)
        except OSError:
            os.close(answer)  # no more processes: the next try may have one
        finally:
            os.close(out)

    def _start(self, out: int) -> int:
        with open(os.devnull, "r+b", buffering=0) as null:
            return os.posix_spawn(
                self._words[0],
                self._words,
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, null.fileno(), 0),
                    (os.POSIX_SPAWN_DUP2, out, 1),
                    (os.POSIX_SPAWN_DUP2, null.fileno(), 2),
                ],
                setsigmask=(),
                setsigdef=(signal.SIGTERM, signal.SIGALRM, signal.SIGPIPE),
            )

    @property
    def pids(self) -> tuple[int, ...]:
        """The process of the lookup under way."""
        return (self._pid,) if self._pid else ()

    def _ready(self, events: int) -> None:
        found = bool(os.read(self._fd, 16))
        news = found and not self._was_found
        self._was_found = found
        self.close()
        if news:
            self._found()

    def close(self) -> None:
        """End a lookup under way."""
        if self._pid:
            self._loop.forget(self._fd)
            os.close(self._fd)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid, self._fd = 0, -1
