"""Descriptors of another process, borrowed (pidfd_getfd(2), Linux).

Knows system calls.  Must not know what is done with what is borrowed.
"""

from __future__ import annotations

import os

_PIDFD_GETFD = 438  # of Linux 5.6, on nearly every architecture; elsewhere there is no such call


def descriptor(pid: int, fd: int) -> int:
    """Return a copy of a descriptor of one's own child, to be closed.

    Raises OSError or ImportError where the system does not allow it or does not know it.
    """
    if not hasattr(os, "pidfd_open"):
        raise OSError("no pidfd_open(2)")
    import ctypes  # 2 ms and 1 MB, only for who is suspended or asks a connection

    process = os.pidfd_open(pid)
    try:
        ours = int(ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, process, fd, 0))
    finally:
        os.close(process)
    if ours < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return ours
