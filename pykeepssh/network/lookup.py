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

    wanted = select.POLLIN  # what its descriptors are to be watched for
    refused = False

    def __init__(self, name: str, family: str) -> None:
        """Prepare to look up a name; family is AddressFamily of ssh_config(5): any, inet or inet6."""
        number = int(_FAMILIES.get(family, socket.AF_UNSPEC))
        self._words = [sys.executable, "-IS", "-c", _PROGRAM, name, str(number)]
        self._was_found = False
        self._pid = 0
        self._fd = -1

    def try_once(self) -> list[int]:
        """Ask, unless an answer is still to come; return the descriptors to watch."""
        if not self._pid:
            answer, out = os.pipe()
            try:
                self._pid = self._start(out)
                self._fd = answer
            except OSError:
                os.close(answer)  # no more processes: the next try may have one
            finally:
                os.close(out)
        return self.descriptors()

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

    def descriptors(self) -> list[int]:
        """Return the descriptor of the lookup under way."""
        return [self._fd] if self._pid else []

    def answered(self, fd: int) -> bool:
        """Take the result of a lookup whose descriptor is ready; return whether the name is there now.

        A name that was found and is found again is no news: should ssh fail to find it all the same,
        each start would be followed by the next at once.
        """
        found = bool(os.read(self._fd, 16))
        news = found and not self._was_found
        self._was_found = found
        self.close()
        return news

    def close(self) -> None:
        """End a lookup under way."""
        if self._pid:
            os.close(self._fd)
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid, self._fd = 0, -1
