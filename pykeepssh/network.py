"""The network as seen from here: what changes, whether a path works, whether a connection is dead.

Knows netlink(7), proc(5) and bare TCP connects.  Must not know what follows from what it sees.
What only Linux can tell is unknown elsewhere, and says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .lookup import Lookup
    from .loop import Loop

_READ = select.POLLIN

# rtnetlink(7) multicast groups; a healthy link listens to addresses only, which hardly ever change.
_ADDRESS_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_PATH_GROUPS = (1, 7, 11)  # RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 270, 1, 2
_ESTABLISHED = "01"  # include/net/tcp_states.h, as /proc/net/tcp prints it
_RESUMED_S = 2.0  # the clocks differ by microseconds unless the machine slept

_ANSWER_S = 3.0  # a path slower than this is no path to wait for


class Flow(NamedTuple):
    """One TCP connection: both ends, and its inode where the system tells (Linux)."""

    local: str
    remote: str
    remote_port: int
    inode: int = 0
    pid: int = 0


class Watch:
    """Hears of changes to addresses, links and routes (Linux; elsewhere it hears nothing).

    fd  to be watched for reading, or None
    """

    def __init__(self) -> None:
        self.fd: int | None = None
        self._all = False
        if not hasattr(socket, "AF_NETLINK"):
            return
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
            self._socket.bind((0, 0))
            self._join(_ADD_MEMBERSHIP, _ADDRESS_GROUPS)
        except OSError:
            return  # a sandbox may forbid it
        self.fd = self._socket.fileno()

    def _join(self, how: int, groups: Iterable[int]) -> None:
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, how, group)

    def listen_to_all(self, everything: bool) -> None:
        """Hear of links and routes too, or of addresses only."""
        if self.fd is not None and everything != self._all:
            self._all = everything
            with contextlib.suppress(OSError):  # then a wait ends by its timers alone
                self._join(_ADD_MEMBERSHIP if everything else _DROP_MEMBERSHIP, _PATH_GROUPS)

    def read(self) -> bool:
        """Take what came; return whether something changed."""
        changed = False
        while True:
            try:
                if not self._socket.recv(65536):
                    return changed
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # more changes than fit: a change all the same
                    return changed
            changed = True

    def close(self) -> None:
        """Hear nothing more."""
        if self.fd is not None:
            self._socket.close()
            self.fd = None


class Sleep:
    """Notices that the machine slept: CLOCK_BOOTTIME goes on then and CLOCK_MONOTONIC does not."""

    def __init__(self) -> None:
        self._offset = self._now()

    @staticmethod
    def _now() -> float:
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        elapsed = time.time() if clock is None else time.clock_gettime(clock)
        return elapsed - time.monotonic()

    def resumed(self) -> bool:
        """Return whether the machine slept since the last call."""
        offset = self._now()
        slept = offset - self._offset > _RESUMED_S
        self._offset = offset
        return slept


class Knock:
    """Bare TCP connects to one address, to learn whether ssh could get there now.

    refused  one was refused: somebody is there, and may count them
    """

    wanted = select.POLLOUT  # what its descriptors are to be watched for

    def __init__(self, address: str, port: int) -> None:
        """Prepare to knock at a numeric address; no name is ever looked up."""
        self._place = (address, port)
        self._tries: list[tuple[float, socket.socket]] = []
        self.refused = False

    def try_once(self) -> list[int]:
        """Start one more connect; return the descriptors to watch for writing."""
        now = time.monotonic()
        for started, tried in list(self._tries):
            if now - started >= _ANSWER_S:
                self._drop(started, tried)
        try:
            # AI_NUMERICHOST also reads a scope such as fe80::1%eth0.
            found = socket.getaddrinfo(*self._place, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except OSError:
            return []
        family, kind, protocol, _, where = found[0]
        try:
            tried = socket.socket(family, kind, protocol)
        except OSError:
            return self.descriptors()
        tried.setblocking(False)
        self._tries.append((now, tried))
        if tried.connect_ex(where) not in (0, errno.EINPROGRESS):
            self._drop(now, tried)  # no route: the network's return is told by Watch
        return self.descriptors()

    def descriptors(self) -> list[int]:
        """Return the descriptors of the connects under way."""
        return [tried.fileno() for _, tried in self._tries]

    def answered(self, fd: int) -> bool:
        """Take the result of a connect whose descriptor is ready; return whether it was answered."""
        for started, tried in list(self._tries):
            if tried.fileno() == fd:
                failed = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                self._drop(started, tried)
                self.refused = self.refused or failed == errno.ECONNREFUSED
                return failed == 0
        return False

    def _drop(self, started: float, tried: socket.socket) -> None:
        self._tries.remove((started, tried))
        tried.close()

    def close(self) -> None:
        """Stop knocking."""
        for started, tried in list(self._tries):
            self._drop(started, tried)


def has_address(address: str) -> bool:
    """Tell whether an address is on one of this machine's interfaces."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError as error:
        # A link-local address without its scope cannot be asked for: assume it is there.
        return error.errno != errno.EADDRNOTAVAIL
    return True


def descendants(pid: int) -> list[int]:
    """Return the processes below one: of a ProxyJump, the ssh that makes the connection is among them."""
    import psutil  # 20 ms and 4 MB, only where another ssh makes the connection

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except (psutil.Error, OSError):
        return []  # ssh has ended meanwhile


def flow_of(pids: Iterable[int], remote: tuple[str, int] | None) -> Flow | None:
    """Return the connection of one of some processes, to a given (address, port) or to any.

    Where there is no /proc/net (macOS) the answer comes from psutil, without an inode.
    """
    for pid in pids:
        found = _linux_flows(pid) if sys.platform == "linux" else _other_flows(pid)
        for flow in found:
            if remote is None or (flow.remote, flow.remote_port) == remote:
                return flow
    return None


def _linux_flows(pid: int) -> list[Flow]:
    try:
        links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
    except OSError:
        return []
    inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
    flows = []
    for table in ("tcp", "tcp6"):
        for fields in _rows(pid, table):
            if fields[9] in inodes and fields[3] == _ESTABLISHED:
                local, _ = _end(fields[1])
                remote, port = _end(fields[2])
                flows.append(Flow(local, remote, port, int(fields[9]), pid))
    return flows


def _rows(pid: int, table: str) -> list[list[str]]:
    try:
        with open(f"/proc/{pid}/net/{table}", encoding="ascii") as file:
            return [line.split() for line in file.readlines()[1:]]
    except OSError:
        return []


def _end(text: str) -> tuple[str, int]:
    """Return address and port from "0100007F:0016"; the address is in 32-bit words of host order."""
    address, _, port = text.partition(":")
    raw = b"".join(int(address[i : i + 8], 16).to_bytes(4, sys.byteorder) for i in range(0, len(address), 8))
    if len(raw) == 16 and raw.startswith(b"\0" * 10 + b"\xff\xff"):
        raw = raw[12:]  # IPv4 on an IPv6 socket
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw), int(port, 16)


def _other_flows(pid: int) -> list[Flow]:
    import psutil

    try:
        connections = psutil.Process(pid).net_connections(kind="tcp")
    except (psutil.Error, OSError):
        return []
    return [
        Flow(c.laddr.ip, c.raddr.ip, c.raddr.port)
        for c in connections
        if c.status == psutil.CONN_ESTABLISHED and c.raddr
    ]


def turns(pid: int) -> int:
    """Return how often a process has waited for something so far; Linux only, elsewhere 0.

    That it grows tells that ssh has something to do, whatever it is (proc(5), voluntary_ctxt_switches).
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            return next(int(line.split()[1]) for line in file if line.startswith(b"voluntary_ctxt_switches:"))
    except (OSError, StopIteration):
        return 0


def retransmissions(flow: Flow) -> int:
    """Return how often the oldest unacknowledged bytes of a connection were sent again; 0 if none are.

    Only Linux tells (proc(5), /proc/net/tcp: tx_queue, retrnsmt); elsewhere it is 0.
    """
    if not flow.inode:
        return 0
    inode = str(flow.inode)
    for fields in _rows(flow.pid, "tcp6" if ":" in flow.local else "tcp"):
        if fields[9] == inode:
            waiting = int(fields[4].partition(":")[0], 16)
            return int(fields[6], 16) if waiting else 0
    return 0


# Timers on the loop.
_TICK = "knock"
_CHANGED = "network changed"
_CHECK = "check the connection"
_SETTLED_S = 0.25  # one change of a network is many messages; an address may go and come back
_RESTLESS_S = 5.0  # a network that never rests must not undo the backoff
_CHECK_S = 0.5
_HINT_S = 1.0  # /proc/net/tcp is long on a busy machine: hints that follow sooner are one
_MOST_CHECKS = 20  # a connection that is this long in trouble is left to the keepalive
_USE_S = 1.0
_STEADY_USES = 3
_SENT_S = 1.0  # ssh counts whole seconds; then the keepalive has been sent, and sent again if it was lost


class Lookout:
    """Looks out for a link: for a way back while there is none, for trouble while there is one.

    A healthy, quiet link costs nothing: nothing is looked at until something hints at trouble.

    opened_once  a knock was answered since the link was lost
    """

    def __init__(
        self,
        loop: Loop,
        opened: Callable[[], None],
        changed: Callable[[], None],
        dead: Callable[[str], None],
        jitter: Callable[[], float],
    ) -> None:
        """Look out on a loop.

        opened   the server answers again
        changed  the network changed, or the machine woke up, while waiting
        dead     the connection cannot work any more; told why
        jitter   gives random numbers, 0 ≤ jitter < 1: a crowd of clients must not knock in step
        """
        self._loop = loop
        self._opened = opened
        self._changed = changed
        self._dead = dead
        self._jitter = jitter
        self._watch = Watch()
        self._sleep = Sleep()
        self._knock: Knock | Lookup | None = None
        self._waiting_since: float | None = None
        self._refused = False  # a knock of this wait was refused
        self._flow: Flow | None = None
        self._needed = 0  # retransmissions that make a connection suspect
        self._keepalive_s = 0.0
        self._looking = False
        self._checks = 0  # looks that found trouble
        self._uses = 0  # looks that found the connection in use; -1: the last look is due
        self._turns = 0
        self._hinted = -_HINT_S
        self._changes_from = 0.0
        self.opened_once = False
        if self._watch.fd is not None:
            self._loop.watch(self._watch.fd, _READ, self._network_ready)

    # -- while there is no link ------------------------------------------------------------------

    def wait(self, knock: Knock | Lookup | None) -> None:
        """Look for a way back: knock again and again, or only listen for None."""
        self._stop_knocking()
        first = self._waiting_since is None
        if self._waiting_since is None:
            self._waiting_since = time.monotonic()
            self._sleep.resumed()
        self._watch.listen_to_all(True)
        self._knock = knock
        if first or self._knock is None or not self._loop.is_armed(_TICK):
            self._arm_tick(first)

    def rest(self) -> None:
        """Look for a way back no more."""
        self._stop_knocking()
        self._waiting_since = None
        self.opened_once = self._refused = False
        self._loop.disarm(_TICK)
        self._watch.listen_to_all(False)

    def _arm_tick(self, first: bool = False) -> None:
        assert self._waiting_since is not None
        waited_s = None if first else time.monotonic() - self._waiting_since
        delay_s = backoff.knock_s(waited_s, self._jitter())
        if self._knock is None:
            delay_s = backoff.KNOCK_LATER_S  # only to see whether the machine slept
        self._loop.arm(_TICK, delay_s, self._tick)

    def _tick(self) -> None:
        self._arm_tick()
        if self._sleep.resumed():
            self._changed()
        elif self._knock is not None and not self._leaves_alone():
            self._knock_now()

    def _leaves_alone(self) -> bool:
        assert self._waiting_since is not None
        return self._refused and backoff.rests(time.monotonic() - self._waiting_since)

    def _knock_now(self) -> None:
        assert self._knock is not None
        before = set(self._knock.descriptors())
        after = self._knock.try_once()
        for fd in before - set(after):
            self._loop.forget(fd)
        for fd in after:
            self._loop.watch(fd, self._knock.wanted, self._answer_of(fd))

    def _answer_of(self, fd: int) -> Callable[[int], None]:
        return lambda events: self._knock_ready(fd)

    def _knock_ready(self, fd: int) -> None:
        self._loop.forget(fd)
        if self._knock is None:
            return
        answered = self._knock.answered(fd)
        self._refused = self._refused or self._knock.refused
        if not answered:
            return
        if self._waiting_since is not None:
            self._stop_knocking()
            self.opened_once = True
            self._opened()
        else:
            self._path_works()

    def _drop_knocks(self) -> None:
        if self._knock is not None:
            for fd in self._knock.descriptors():
                self._loop.forget(fd)
            self._knock.close()

    def _stop_knocking(self) -> None:
        self._drop_knocks()
        self._knock = None

    # -- while there is one ----------------------------------------------------------------------

    def guard(self, flow: Flow | None, needed: int, keepalive_s: float) -> None:
        """Look after a connection; None: after none.

        needed       retransmissions that make it suspect
        keepalive_s  seconds of silence after which ssh sends a keepalive, or 0
        """
        self._flow, self._needed, self._keepalive_s = flow, needed, keepalive_s
        self._looking = False
        self._loop.disarm(_CHECK)
        if self._waiting_since is None:
            self._stop_knocking()

    def hint(self) -> None:
        """Something hints at trouble, or the connection is in use: look at it while it is.

        A connection in use is looked at every USE_S.  One that was in steady use and falls silent is
        looked at once more, after the keepalive that this silence will bring about: that is how a
        network that forgot the connection looks from the side which only listens.
        """
        now = time.monotonic()
        if self._flow is not None and not self._looking and now - self._hinted >= _HINT_S:
            self._hinted = now
            self._looking, self._uses, self._checks = True, 0, 0
            self._turns = turns(self._flow.pid)
            self._loop.arm(_CHECK, _CHECK_S, self._check)

    def _check(self) -> None:
        if self._flow is None:
            return
        count = retransmissions(self._flow)
        now_turns = turns(self._flow.pid)
        used, self._turns = now_turns != self._turns, now_turns
        if count and self._checks < _MOST_CHECKS:
            self._checks += 1
            self._loop.arm(_CHECK, _CHECK_S, self._check)
            if count >= self._needed:
                if self._knock is None:
                    self._knock = Knock(self._flow.remote, self._flow.remote_port)
                self._knock_now()
        elif used and self._uses >= 0:
            self._uses += 1
            self._loop.arm(_CHECK, _USE_S, self._check)
        elif self._uses >= _STEADY_USES and self._keepalive_s:
            self._uses = -1  # this look is the last
            self._loop.arm(_CHECK, self._keepalive_s + _SENT_S, self._check)
        else:
            self._looking = False

    def _path_works(self) -> None:
        """A knock was answered: bytes that are still being sent again belong to a dead connection."""
        self._stop_knocking()
        if self._flow is not None and retransmissions(self._flow) >= self._needed:
            self._dead("the network forgot the connection")

    # -- the network -----------------------------------------------------------------------------

    def _network_ready(self, events: int) -> None:
        if self._watch.read() and not self._loop.is_armed(_CHANGED):
            later_s = self._changes_from - time.monotonic() if self._waiting_since is not None else 0.0
            self._loop.arm(_CHANGED, max(_SETTLED_S, later_s), self._settled)

    def _settled(self) -> None:
        self._changes_from = time.monotonic() + _RESTLESS_S
        if self._waiting_since is not None:
            if self._knock is not None:
                self._drop_knocks()  # what is under way was sent into the network of before
                self._knock_now()
            else:
                self._changed()
        elif self._flow is not None:
            if has_address(self._flow.local):
                self.hint()
            else:
                self._dead(f"local address {self._flow.local} is gone")

    def close(self) -> None:
        """Look no more."""
        self._stop_knocking()
        for timer in (_TICK, _CHANGED, _CHECK):
            self._loop.disarm(timer)
        if self._watch.fd is not None:
            self._loop.forget(self._watch.fd)
            self._watch.close()
