"""Whether a connection is quiet: how many TCP segments it has seen.

Knows ss(8) of Linux.  Must not know what follows from traffic.  Elsewhere nothing can be told.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator

_INODE = re.compile(rb"\bino:(\d+)\b")
_SEGMENTS = re.compile(rb"\bsegs_(?:in|out):(\d+)\b")
_LIMIT_S = 5
_FOLDERS = "/usr/sbin:/usr/bin:/sbin:/bin"


def inodes(pid: int) -> frozenset[int]:
    """Return the sockets of a process and of those below it: a jump host's connection is theirs."""
    found = set()
    for one in (pid, *_below(pid)):
        try:
            for entry in os.scandir(f"/proc/{one}/fd"):
                target = os.readlink(entry.path)
                if target.startswith("socket:["):
                    found.add(int(target[8:-1]))
        except OSError:
            continue  # it is gone, or it closed one as we looked
    return frozenset(found)


def _below(pid: int) -> Iterator[int]:
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            children = [int(child) for child in file.read().split()]
    except OSError:
        return
    for child in children:
        yield child
        yield from _below(child)


def segments() -> dict[int, int] | None:
    """Return inode: segments sent and received so far, of every TCP connection; None if unknown."""
    try:
        done = subprocess.run(
            ["ss", "-HOtine"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
            check=True,
            # Before PATH, which for root may be the one of the user who became root by su(1).
            env={**os.environ, "PATH": f"{_FOLDERS}:{os.environ.get('PATH', os.defpath)}"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = {}
    for line in done.stdout.splitlines():
        inode = _INODE.search(line)
        if inode:
            found[int(inode[1])] = sum(int(number) for number in _SEGMENTS.findall(line))
    return found
