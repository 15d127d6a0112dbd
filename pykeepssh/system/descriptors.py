"""The standard descriptors: what they are, and letting go of them.

Knows open files.  Must not know what they are for.
"""

from __future__ import annotations

import os


def is_terminal(fd: int) -> bool:
    """Tell whether a descriptor is a terminal; one that is closed is none."""
    try:
        return os.isatty(fd)
    except OSError:
        return False


def to_nowhere(*fds: int) -> None:
    """Put /dev/null in the place of what descriptors are open for."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in fds:
        os.dup2(null, fd)
    if null not in fds:
        os.close(null)
