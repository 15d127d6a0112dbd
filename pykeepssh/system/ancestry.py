"""The processes above this one, and below any, as the system tells them.

Knows /proc and ps(1).  Must not know what they are looked up for.
"""

from __future__ import annotations

import os
import sys

from ..link.person import Process
from .effective import Question


def this_process() -> Process:
    """Return this process, which has a controlling terminal; its name does not matter."""
    return Process("", os.getppid(), os.getpgrp(), os.getsid(0), terminal=True)


def find(pid: int) -> Process | None:
    """Return a process, or None if it is not there, is hidden (another user's) or is none of this system's.

    A parent of another PID namespace has the id 0.
    """
    if pid <= 0:
        return None
    try:
        return _by_proc(pid) if sys.platform == "linux" else _by_ps(pid)
    except (OSError, ValueError, IndexError):
        return None


def _by_proc(pid: int) -> Process:
    fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.fsdecode(os.read(fd, 4096))
    finally:
        os.close(fd)
    name, _, rest = text.partition("(")[2].rpartition(")")  # a name may hold parentheses itself
    _, parent, group, session, terminal = rest.split()[:5]
    return Process(name, int(parent), int(group), int(session), terminal != "0")


def _by_ps(pid: int) -> Process:
    """Ask ps, for some 5 ms: psutil would cost 30."""
    words = ["-o", "ppid=", "-o", "pgid=", "-o", "tty=", "-o", "comm=", "-p", str(pid)]
    output, _ = Question("/bin/ps", words, os.environb).answer()
    parent, group, terminal, path = os.fsdecode(output).split(None, 3)
    # macOS tells the path of a program, and of a login shell "-zsh"; it does not tell the session.
    name = path.strip().rpartition("/")[2].lstrip("-")
    return Process(name, int(parent), int(group), os.getsid(pid), terminal.strip("?-") != "")


def children(pid: int) -> list[int]:
    """Return the children of a process, where the system lists them (Linux)."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found.extend(map(int, file.read().split()))
    except OSError:
        pass  # it has ended meanwhile
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes below one; none if it has ended meanwhile."""
    if os.path.exists("/proc/thread-self/children"):
        return [one for child in children(pid) for one in (child, *descendants(child))]
    import psutil  # 20 ms and 4 MB, only where the kernel does not list them

    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except (psutil.Error, OSError):
        return []
