"""The standard descriptors, and those that somebody left open to this process.

Knows open files.  Must not know what they are for.
"""

from __future__ import annotations

import contextlib
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


def numbers() -> list[int]:
    """Return the numbers that may be open: those of the open ones, and of the listing itself."""
    try:
        return [int(fd) for fd in os.listdir("/dev/fd")]  # the limit can be a thousand million
    except OSError:
        return list(range(1024))  # no /proc here


def keep_only_standard() -> None:
    """Open what is closed of the standard descriptors, and close all others, as ssh does at its start.

    What is closed of 0 to 2 must not become a file of ours, and a pipe that somebody left open to this
    process would never see its end.
    """
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass
    for fd in numbers():
        if fd > 2:
            with contextlib.suppress(OSError):  # not open after all
                os.close(fd)
