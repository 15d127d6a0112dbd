"""The network as seen from here: what changes, whether a path works, whether a connection is dead.

Knows netlink(7), timerfd_create(2) and bare TCP connects.  Must not know what follows from what it sees.
What only Linux can tell is unknown elsewhere, and says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable

from ..link import backoff

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..system.loop import Loop
    from .connection import Connection, Question
    from .lookup import Lookup

_READ = select.POLLIN

# rtnetlink(7) multicast groups; a healthy link listens to addresses only.
_ADDRESS_GROUPS = (5, 9)  # RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR
_PATH_GROUPS = (1, 7, 11)  # RTNLGRP_LINK, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_NLMSG = struct.Struct("=IH10x")  # netlink(7): length, type
_RTATTR = struct.Struct("=HH")  # rtnetlink(7): length, type
_IFADDRMSG_BYTES = 8
_IFA_ADDRESSES = (1, 2)  # IFA_ADDRESS, IFA_LOCAL
_SOL_NETLINK, _ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 270, 1, 2
_NEVER_S = 1 << 33  # of CLOCK_REALTIME
_TFD_TIMER_ABSTIME, _TFD_TIMER_CANCEL_ON_SET = 1, 2  # linux/timerfd.h
_RESUMED_S = 2.0  # the clocks differ by microseconds unless the machine slept

_ANSWER_S = 3.0  # a path slower than this is no path to wait for


class Watch:
    """Hears of changes to addresses, links and routes (Linux; elsewhere it hears nothing).

    fd  to be watched for reading, or None
    """

    def __init__(self) -> None:
        self.fd: int | None = None
        self._all = False
        self._known: set[bytes] = set()
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
                data = self._socket.recv(65536)
            except BlockingIOError:
                return changed
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return changed
                changed = True  # more changes than fit
                continue
            if not data:
                return changed
            changed = tells_change(data, self._known) or changed

    def close(self) -> None:
        """Hear nothing more."""
        if self.fd is not None:
            self._socket.close()
            self.fd = None


def tells_change(data: bytes, known: set[bytes]) -> bool:
    """Tell whether messages of rtnetlink(7) say anything new, and remember the addresses that they name.

    A router's advertisements bring the same addresses again every few minutes, with new lifetimes.
    """
    changed = False
    while len(data) >= _NLMSG.size:
        length, kind = _NLMSG.unpack_from(data)
        if length < _NLMSG.size:
            break
        # Of struct ifaddrmsg and what follows, the interface and the addresses count, not the flags.
        address = data[_NLMSG.size + 4 : _NLMSG.size + _IFADDRMSG_BYTES]
        rest = data[_NLMSG.size + _IFADDRMSG_BYTES : length]
        while len(rest) >= _RTATTR.size:
            size, name = _RTATTR.unpack_from(rest)
            if size < _RTATTR.size:
                break
            if name in _IFA_ADDRESSES:
                address += rest[:size]
            rest = rest[-(-size // 4) * 4 :]
        changed = changed or kind != _RTM_NEWADDR or address not in known
        if kind == _RTM_NEWADDR:
            known.add(address)
        elif kind == _RTM_DELADDR:
            known.discard(address)
        data = data[-(-length // 4) * 4 :]
    return changed


class Sleep:
    """Notices that the machine slept: CLOCK_BOOTTIME goes on then and CLOCK_MONOTONIC does not.

    fd  readable once the machine has slept or its clock was set, after watch() and on Linux; or None
    """

    def __init__(self) -> None:
        self.fd: int | None = None
        self._offset = self._now()

    @staticmethod
    def _now() -> float:
        clock = getattr(time, "CLOCK_BOOTTIME", None)
        elapsed = time.time() if clock is None else time.clock_gettime(clock)
        return elapsed - time.monotonic()

    def watch(self) -> int | None:
        """Return the descriptor; a timer that is never due costs nothing, and the kernel cancels it then."""
        if self.fd is None and sys.platform == "linux" and sys.maxsize > 1 << 32:
            try:
                import ctypes  # os.timerfd_create() is there from Python 3.13 on
            except ImportError:
                return None  # a Python built without libffi

            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC)
            due = (ctypes.c_long * 4)(0, 0, _NEVER_S, 0)  # struct itimerspec
            if (
                fd >= 0
                and libc.timerfd_settime(fd, _TFD_TIMER_ABSTIME | _TFD_TIMER_CANCEL_ON_SET, due, None) == 0
            ):
                self.fd = fd
            elif fd >= 0:
                os.close(fd)
        return self.fd

    def resumed(self) -> bool:
        """Return whether the machine slept since the last call."""
        if self.fd is not None:
            with contextlib.suppress(OSError):  # ECANCELED tells that something happened to the clock
                os.read(self.fd, 8)
        offset = self._now()
        slept = offset - self._offset > _RESUMED_S
        self._offset = offset
        return slept

    def close(self) -> None:
        """Notice nothing more."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Knock:
    """Bare TCP connects to one address, to learn whether ssh could get there now.

    refused  one was refused: somebody is there, and may count them
    took_s   how long the last answer took
    """

    wanted = select.POLLOUT  # what its descriptors are to be watched for
    pids: tuple[int, ...] = ()

    def __init__(self, address: str, port: int) -> None:
        """Prepare to knock at a numeric address; no name is ever looked up."""
        self._place = (address, port)
        self._tries: list[tuple[float, socket.socket]] = []
        self.refused = False
        self.took_s = 0.0

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
                self.took_s = time.monotonic() - started
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


_FORGOTTEN = "the network forgot the connection"
_UNANSWERED = "the server stopped answering"
# Timers on the loop.
_TICK = "knock"
_CHANGED = "network changed"
_CHECK = "check the connection"
_SETTLED_S = 0.25  # one change of a network is many messages; an address may go and come back
_RESTLESS_S = 5.0  # a network that never rests must not undo the backoff
_CHECK_S = 0.5
_HINT_S = 1.0  # /proc/net/tcp is long on a busy machine: hints that follow sooner are one
_MOST_CHECKS = 20  # a connection that is this long in trouble is left to the keepalive
_USE_S = 0.5
_STEADY_USES = 3
# A middlebox may swallow questions: so many times a connection is given up for its silence alone
# before one of them must have been answered.
_MOST_UNPROVEN = 3
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
        self._connection: Connection | None = None
        self._question: Question | None = None  # the other end is being asked
        self._asked_in_vain: int | None = None  # questions from before the path was seen to work
        self._patience_s = 0.0  # what an answer may take at least
        self._unproven = 0  # connections given up for their silence since one was answered
        self._needed = 0  # retransmissions that make a connection suspect; of questions it takes one more
        self._keepalive_s = 0.0
        self._most_checks = _MOST_CHECKS
        self._gives_up = False  # after so many checks; else it is left to the keepalive
        self._looking = False
        self._checks = 0  # looks that found trouble
        self._uses = 0  # looks that found the connection in use; -1: the last look is due
        self._shaken = False  # something happened to the network
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

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that look for a way back."""
        return () if self._knock is None else self._knock.pids

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

    def guard(
        self, connection: Connection | None, needed: int, keepalive_s: float, silence_s: float = 0.0
    ) -> None:
        """Look after a connection; None: after none.

        needed       retransmissions that make it suspect; of questions without an answer it takes one
                     more, for nothing but the loss of some packets may be wrong
        keepalive_s  seconds of silence after which ssh sends a keepalive, or 0
        silence_s    seconds without an acknowledgement after which it is given up, whether the path works
                     or not; 0 leaves that to the keepalive
        """
        self.look_away()
        self._connection, self._needed, self._keepalive_s = connection, needed, keepalive_s
        self._most_checks = max(_MOST_CHECKS, round(silence_s / _CHECK_S))
        self._gives_up = silence_s > 0
        if connection is not None and self._sleep.fd is None:
            fd = self._sleep.watch()
            if fd is not None:
                self._loop.watch(fd, _READ, self._clock_ready)

    def hint(self, shaken: bool = False) -> None:
        """Something hints at trouble, or the connection is in use: look at it while it is.

        A connection in use is looked at every USE_S.  One that was in steady use and falls silent is
        doubted: that is how a network that forgot the connection looks from the side which only
        listens.  So is one over which something happened to the network (shaken).
        """
        if self._connection is None:
            return
        self._shaken = shaken = self._shaken or shaken
        if self._looking and self._uses >= 0:
            return
        now = time.monotonic()
        if shaken or now - self._hinted >= _HINT_S:
            self.look_away()
            self._hinted = now
            self._looking, self._uses, self._checks, self._shaken = True, 0, 0, shaken
            self._turns = self._connection.turns()
            self._loop.arm(_CHECK, _CHECK_S, self._check)

    def _check(self) -> None:
        if self._connection is None:
            return
        count = self._connection.retransmissions()
        now_turns = self._connection.turns()
        used, self._turns = now_turns != self._turns, now_turns
        if count and self._checks < self._most_checks:
            self._checks += 1
            self._loop.arm(_CHECK, _CHECK_S, self._check)
            if count >= self._needed:
                self._try_path(self._connection)
        elif count:
            self.look_away()
            if self._gives_up:
                self._dead(_UNANSWERED)
        elif used and self._uses >= 0:
            self._uses += 1
            self._checks = 0
            self._loop.arm(_CHECK, _USE_S, self._check)
        elif self._shaken or self._uses >= _STEADY_USES:
            self._doubt(self._connection)
        else:
            self.look_away()

    def _doubt(self, connection: Connection) -> None:
        """Ask the other end; where it cannot be asked, look again after the keepalive that silence brings."""
        self._stop_knocking()
        self._end_question()
        self._shaken = False
        self._question = connection.question()
        if self._question is not None:
            self._asked_in_vain = None
            self._loop.arm(_CHECK, self._question.ask(), self._listen)
        elif self._keepalive_s:
            self._uses = -1  # this look is the last
            self._loop.arm(_CHECK, self._keepalive_s + _SENT_S, self._check)
        else:
            self.look_away()

    def _listen(self) -> None:
        """See whether the other end has answered; if the path works and it still does not, it never will."""
        connection, question = self._connection, self._question
        if connection is None or question is None:
            return
        unanswered = question.unanswered()
        if connection.retransmissions():
            self._end_question()  # bytes that wait tell more
            self._check()
        elif not unanswered:
            if connection.turns() == self._turns:
                self._unproven = 0  # ssh has done nothing meanwhile: this was the answer
            if self._shaken:
                self._doubt(connection)  # something happened after it was given, perhaps
            else:
                self.look_away()
        elif self._asked_in_vain is not None and unanswered - self._asked_in_vain <= self._needed:
            self._loop.arm(_CHECK, max(question.ask(), self._patience_s), self._listen)
        elif self._asked_in_vain is not None:
            self.look_away()
            if self._unproven < _MOST_UNPROVEN:
                self._unproven += 1
                self._dead(_FORGOTTEN)
        elif self._checks < _MOST_CHECKS:
            self._checks += 1
            self._loop.arm(_CHECK, _CHECK_S, self._listen)
            self._try_path(connection)
        else:
            self.look_away()

    def _try_path(self, connection: Connection) -> None:
        if self._knock is None:
            self._knock = Knock(connection.remote, connection.remote_port)
        self._knock_now()

    def _path_works(self) -> None:
        """A knock was answered: what still waits for an answer belongs to a dead connection."""
        assert isinstance(self._knock, Knock)
        self._patience_s = 2 * self._knock.took_s
        self._stop_knocking()
        if self._connection is None:
            return
        if self._question is not None:
            self._asked_in_vain = self._question.unanswered()
            self._listen()
        elif self._connection.retransmissions() >= self._needed:
            self._dead(_FORGOTTEN)

    def look_away(self) -> None:
        """Look at the connection no more until something hints at trouble again."""
        self._end_question()
        if self._waiting_since is None:
            self._stop_knocking()
        self._looking = self._shaken = False
        self._loop.disarm(_CHECK)

    def _end_question(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

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
        elif self._connection is not None:
            if has_address(self._connection.local):
                self.hint(shaken=True)
            else:
                self._dead(f"local address {self._connection.local} is gone")

    def _clock_ready(self, events: int) -> None:
        if not self._sleep.resumed():
            return  # the clock was set
        if self._waiting_since is not None:
            self._changed()
        else:
            self.hint(shaken=True)

    def close(self) -> None:
        """Look no more."""
        self._stop_knocking()
        self._end_question()
        if self._sleep.fd is not None:
            self._loop.forget(self._sleep.fd)
            self._sleep.close()
        for timer in (_TICK, _CHANGED, _CHECK):
            self._loop.disarm(timer)
        if self._watch.fd is not None:
            self._loop.forget(self._watch.fd)
            self._watch.close()
