"""The TCP sockets of a process, as the system tells them.

Knows proc(5), and psutil for where there is no /proc.  Must not know what they are looked up for.
"""

from __future__ import annotations

import _socket as socket  # the module around it takes 5 ms to import, and who execs ssh may ask too
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Place = tuple[str, int]

TABLES = ("tcp", "tcp6")
ESTABLISHED, LISTEN = "ESTABLISHED", "LISTEN"
_STATES = {"01": ESTABLISHED, "0A": LISTEN}  # include/net/tcp_states.h, as /proc/net/tcp prints it


class Row:
    """A line of /proc/net/tcp.

    waiting_bytes  sent and not acknowledged
    sent_again     how often the oldest of them were sent
    """

    def __init__(self, line: str) -> None:
        fields = line.split()
        self._ends = fields[1], fields[2]
        self.state = _STATES.get(fields[3], "")
        self.waiting_bytes = int(fields[4].partition(":")[0], 16)
        self.sent_again = int(fields[6], 16)
        self.inode = int(fields[9])

    def ends(self) -> tuple[Place, Place]:
        """Return address and port here, and there."""
        return _place(self._ends[0]), _place(self._ends[1])


class Socket:
    """A TCP socket of a process.

    state    ESTABLISHED, LISTEN, or "" for any other
    local    address and port here
    remote   address and port there; of one that listens it says nothing
    inode    of the socket, where the system tells (Linux), or 0
    """

    def __init__(self, state: str, local: Place, remote: Place, inode: int = 0) -> None:
        self.state = state
        self.local = local
        self.remote = remote
        self.inode = inode


def of(pid: int) -> list[Socket]:
    """Return the TCP sockets of a process; on Linux that which it opened first comes first.

    Raises OSError where the system does not tell, or the process has ended.
    """
    return _on_linux(pid) if sys.platform == "linux" else _elsewhere(pid)


def _on_linux(pid: int) -> list[Socket]:
    ours = descriptors(pid)
    found = [row for table in TABLES for row in rows(pid, table) if row.inode in ours]
    found.sort(key=lambda row: ours[row.inode])
    return [Socket(row.state, *row.ends(), row.inode) for row in found]


def _elsewhere(pid: int) -> list[Socket]:
    import psutil

    try:
        process = psutil.Process(pid)
        # The name from psutil 6.0 on.
        ask = getattr(process, "net_connections", None) or process.connections
        found = ask("tcp")
    except psutil.AccessDenied as error:
        raise PermissionError(str(error)) from error
    except psutil.Error as error:
        raise ProcessLookupError(str(error)) from error
    states = _STATES.values()
    return [Socket(c.status if c.status in states else "", tuple(c.laddr), tuple(c.raddr)) for c in found]


def descriptors(pid: int) -> dict[int, int]:
    """Return the descriptor of each socket of a process, by inode (Linux).  Raises OSError."""
    folder = f"/proc/{pid}/fd"
    found = {}
    for name in os.listdir(folder):
        try:
            link = os.readlink(f"{folder}/{name}")
        except OSError:
            continue  # closed meanwhile
        if link.startswith("socket:["):
            found[int(link[8:-1])] = int(name)
    return found


def rows(pid: int, table: str) -> Iterator[Row]:
    """Yield what the network that a process is in knows of TCP, whosever it is (Linux).

    Raises OSError where that is hidden, or the process has ended.  No table means no such connection.
    """
    try:
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
            next(file, None)
            yield from map(Row, file)
    except FileNotFoundError:
        return


def _place(text: str) -> Place:
    """Return address and port from "0100007F:0016"; the address is in 32-bit words of host order."""
    address, _, port = text.partition(":")
    raw = b"".join(int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(address), 8))
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]  # IPv4 on an IPv6 socket
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)
