"""One TCP connection of ssh's, as the kernel sees it.

Knows proc(5), tcp(7) and pidfd_getfd(2).  Must not know what follows from what it sees.  What only
Linux can tell is unknown elsewhere, and says so.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterable

from ..system import borrowed, sockets

# struct tcp_info (linux/tcp.h): unanswered probes; milliseconds since the last data and the last
# acknowledgement came; round trip time and its deviation in microseconds.
_INFO_BYTES = 76
_PROBES, _LAST_DATA, _LAST_ACK, _RTT, _RTTVAR = ("B", 3), ("I", 52), ("I", 56), ("I", 68), ("I", 72)
_SHORTEST_IDLE_S = 1  # of TCP_KEEPIDLE
# As for a retransmission (RFC 6298), but that these answers are not delayed.
_SOONEST_ANSWER_S, _LATEST_ANSWER_S = 0.15, 3.0
# Linux answers what carries no data twice a second at most (ip-sysctl, tcp_invalid_ratelimit).
_PACE_S = 0.55
_SPARE_PROBES = 5  # the kernel ends a connection after TCP_KEEPCNT that were not answered


class Connection:
    """Both ends of a TCP connection, and whose it is.

    local        address here
    remote       address there, with remote_port
    inode        of the socket, where the system tells (Linux), or 0
    pid          process that holds it
    """

    def __init__(self, local: str, remote: str, remote_port: int, pid: int, inode: int = 0) -> None:
        self.local = local
        self.remote = remote
        self.remote_port = remote_port
        self._pid = pid
        self.inode = inode

    def turns(self) -> int:
        """Return how often its process has waited for something so far; Linux only, elsewhere 0.

        That it grows tells that ssh has something to do, whatever it is (proc(5), voluntary_ctxt_switches).
        """
        try:
            with open(f"/proc/{self._pid}/status", "rb") as file:
                return next(
                    int(line.split()[1]) for line in file if line.startswith(b"voluntary_ctxt_switches:")
                )
        except (OSError, StopIteration):
            return 0

    def retransmissions(self) -> int:
        """Return how often its oldest unacknowledged bytes were sent again; 0 if none are.

        Only Linux tells (proc(5), /proc/net/tcp: tx_queue, retrnsmt); elsewhere it is 0.
        """
        if not self.inode:
            return 0
        with contextlib.suppress(OSError):  # ssh has ended meanwhile
            for row in sockets.rows(self._pid, "tcp6" if ":" in self.local else "tcp"):
                if row.inode == self.inode:
                    return row.sent_again if row.waiting_bytes else 0
        return 0

    def question(self) -> Question | None:
        """Return a way to ask the other end whether it still knows this connection, or None (not Linux)."""
        if not self.inode:
            return None
        try:
            ours = _borrowed(self._pid, self.inode)
        except (ImportError, OSError):
            # A Python without libffi, an old kernel, a container without the right; or ssh has ended.
            return None
        try:
            return Question(ours)
        except OSError:
            ours.close()
            return None


class Question:
    """Asks the kernel at the other end of a connection whether it still knows it.

    That is TCP's own keepalive (RFC 9293, 3.8.4), brought forward: a segment without data, which
    is acknowledged by whoever has the connection.  ssh's socket is borrowed for it; ssh neither sends
    nor notices anything.  close() gives the socket back as it was.

    Raises OSError where it is not to be asked: TCPKeepAlive is off, or the kernel would soon end the
    connection for want of answers.
    """

    def __init__(self, ours: socket.socket) -> None:
        self._socket = ours
        self._asked = -_PACE_S
        self._idle_s = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        limit = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        if not ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
            raise OSError("TCPKeepAlive is off")
        if self.unanswered() + _SPARE_PROBES > limit:
            raise OSError("too many probes are unanswered")

    def ask(self) -> float:
        """Ask, unless that was done just now; return after how many seconds there is something to see.

        The kernel asks only what has been silent for a second.
        """
        early_s = self._asked + _PACE_S - time.monotonic()
        if early_s > 0:
            return early_s
        silent_s = min(self._info(_LAST_DATA), self._info(_LAST_ACK)) / 1000
        wait_s = max(0.0, _SHORTEST_IDLE_S - silent_s)
        self._asked = time.monotonic() + wait_s
        # Setting it starts the timer again, with what is left of it.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SHORTEST_IDLE_S)
        answer_s = (self._info(_RTT) + 4 * self._info(_RTTVAR)) / 1e6
        answer_s = min(max(answer_s, _SOONEST_ANSWER_S), _LATEST_ANSWER_S)
        return wait_s + answer_s

    def unanswered(self) -> int:
        """Return how many questions wait for an answer; 0 once something came over the connection."""
        return self._info(_PROBES)

    def _info(self, field: tuple[str, int]) -> int:
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
        return int(struct.unpack_from(field[0], info, field[1])[0])

    def close(self) -> None:
        """Ask no more."""
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, self._idle_s)
        self._socket.close()


def _borrowed(pid: int, inode: int) -> socket.socket:
    """Return a process's socket; the system allows it for one's own children.

    Raises OSError or ImportError.
    """
    fd = sockets.descriptors(pid).get(inode)
    if fd is None:
        raise FileNotFoundError(inode)
    ours = borrowed.descriptor(pid, fd)
    if os.fstat(ours).st_ino != inode:  # closed meanwhile, and its number used again
        os.close(ours)
        raise FileNotFoundError(inode)
    return socket.socket(fileno=ours)


def of(pids: Iterable[int], remote: tuple[str, int] | None) -> Connection | None:
    """Return the connection of one of some processes, to a given (address, port) or to any.

    Where there is no /proc/net (macOS) it is without an inode.
    """
    for pid in pids:
        for found in _connections(pid):
            if remote is None or (found.remote, found.remote_port) == remote:
                return found
    return None


def first_of(pid: int) -> Connection | None:
    """Return the connection of a process that it opened first: of a shared master, the one to its server.

    What its clients and its forwards have came later, and has higher descriptors.
    """
    found = _connections(pid)
    if len(found) > 1 and not found[0].inode:
        return None  # nobody tells which was the first
    return found[0] if found else None


def _connections(pid: int) -> list[Connection]:
    try:
        found = sockets.of(pid)
    except OSError:
        return []  # ssh has ended meanwhile
    return [
        Connection(one.local[0], *one.remote, pid, one.inode)
        for one in found
        if one.state == sockets.ESTABLISHED
    ]
