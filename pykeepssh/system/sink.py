"""Lines on their way to a descriptor of the user's, or to syslog, that never wait for it.

Knows pipes, terminals, sockets and what each does when it is full.  Must not know what a line says.
A pipe that nobody reads, or a terminal that was stopped by Ctrl-S, would hold a link up for as long.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import syslog
import time
from collections.abc import Callable

# What is held for a reader that is slow.  A pipe holds as much again.
MOST_BYTES = 65536
# What a pipe that says that it can be written to takes without waiting, everywhere (PIPE_BUF, POSIX).
_SAFE_BYTES = 512
LAST_WORDS_S = 0.5  # a reader that is alive takes them in less

Told = Callable[[int], bytes]


class Sink:
    """Where lines go; what does not fit is dropped, counted, and said once there is room.

    fd  may be watched for room while is_waiting
    """

    def __init__(self, fd: int, told: Told, ours: bool = False) -> None:
        """Write to a descriptor.

        told  makes the line that says how many others were dropped
        ours  the descriptor is not shared with anybody, does not block, and is closed by close()
        """
        self._told = told
        self._held = b""
        self._held_lines = 0  # how many lines that stands for, those that were dropped and are told of too
        self._dropped = 0
        self._opened = ours
        self.fd = fd
        self._write: Callable[[bytes], int] = self._write_now
        if not ours:
            self._open_again(fd)

    def _open_again(self, fd: int) -> None:
        """Find a way to write to a descriptor that others write to as well.

        O_NONBLOCK belongs to what was opened, which the user's shell shares with us: it may not be set.
        """
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISSOCK(mode):  # of systemd's journal
                self._write = self._send_now
            elif stat.S_ISFIFO(mode) or os.isatty(fd):
                self._write = self._write_if_safe
                again = _open_non_blocking(fd)
                if again is not None:
                    self.fd, self._opened, self._write = again, True, self._write_now
        except OSError:
            pass  # it is closed: so will the first line find

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for room."""
        return bool(self._held)

    def write(self, line: bytes) -> None:
        """Write a line, or hold it, or drop it."""
        if self._held and (self._dropped or len(self._held) + len(line) > MOST_BYTES):
            self._dropped += 1
            return
        self._tell_dropped()
        self._held += line
        self._held_lines += 1
        self.drain()

    def drain(self, events: int = 0) -> None:
        """Write what was held as far as there is room."""
        while self._held:
            try:
                done = self._write(self._held)
            except BlockingIOError:
                return
            except OSError:  # a full disk; or nobody will ever read it
                self._dropped += self._held_lines
                self._held, self._held_lines = b"", 0
                return
            self._held = self._held[done:]
            if not self._held:
                self._held_lines = 0
                self._tell_dropped()

    def _tell_dropped(self) -> None:
        if self._dropped:
            self._held += self._told(self._dropped)
            self._held_lines += self._dropped
            self._dropped = 0

    def move(self, fd: int) -> None:
        """Write to another descriptor of ours from now on."""
        os.dup2(fd, self.fd, inheritable=False)
        os.close(fd)

    def close(self, limit_s: float = LAST_WORDS_S) -> None:
        """Write what is held if somebody reads, and let go."""
        deadline = time.monotonic() + limit_s
        while self._held and _has_room(self.fd, max(0.0, deadline - time.monotonic())):
            self.drain()
        self._held = b""
        if self._opened:
            os.close(self.fd)
            self._opened = False

    def _write_now(self, data: bytes) -> int:
        return os.write(self.fd, data)

    def _write_if_safe(self, data: bytes) -> int:
        if not _has_room(self.fd, 0):
            raise BlockingIOError
        return os.write(self.fd, data[:_SAFE_BYTES])

    def _send_now(self, data: bytes) -> int:
        connection = socket.socket(fileno=os.dup(self.fd))
        with connection:
            return connection.send(data, socket.MSG_DONTWAIT)


def _open_non_blocking(fd: int) -> int | None:
    """Open a pipe or a terminal once more; return None where that cannot be done."""
    names = [f"/dev/fd/{fd}"]
    with contextlib.suppress(OSError):
        names.append(os.ttyname(fd))
    for name in names:
        try:
            again = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            continue  # another user's, after su(1); or without a name here
        # Where /dev/fd is no Linux's it may have been copied only, with its old flags.
        if not os.get_blocking(again) and os.path.samestat(os.fstat(fd), os.fstat(again)):
            return again
        os.close(again)
    return None


def _has_room(fd: int, limit_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(limit_s * 1000))


class Syslog:
    """The system's log; syslog(3) itself waits while nobody reads there."""

    def __init__(self, name: str, facility: int, path: str = "/dev/log") -> None:
        """Open nothing yet; facility as in the module syslog."""
        self._name = name
        self._facility = facility
        self._path = path
        self._socket: socket.socket | None = None
        self._dropped = 0

    def write(self, priority: int, text: str) -> None:
        """Write a line at a priority of the module syslog, or drop it."""
        if sys.platform != "linux":
            syslog.openlog(self._name, syslog.LOG_PID, self._facility)
            syslog.syslog(priority, text)
            return
        dropped = self._dropped
        if dropped and self._send(priority, f"lines lost here: {dropped} (nobody read them)"):
            self._dropped -= dropped
        if not self._send(priority, text):
            self._dropped += 1

    def _send(self, priority: int, text: str) -> bool:
        stamp = time.strftime("%b %d %H:%M:%S")  # RFC 3164, 4.1.2
        line = f"<{self._facility | priority}>{stamp} {self._name}[{os.getpid()}]: {text}"
        for _ in range(2):  # a restarted syslog has another socket
            try:
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    self._socket.setblocking(False)
                    self._socket.connect(self._path)
                self._socket.send(line.encode("utf-8", "backslashreplace"))
                return True
            except BlockingIOError:
                return False
            except OSError:
                self.close()
        return False

    def close(self) -> None:
        """Close the connection; the next line opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
