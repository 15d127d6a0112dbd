"""What changes around a link: addresses, links and routes of this machine, and that it slept.

Knows netlink(7) and timerfd_create(2).  Must not know what follows from what it sees.  What only Linux
can tell is unknown elsewhere, and says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable

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
