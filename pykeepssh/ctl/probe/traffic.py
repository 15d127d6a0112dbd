"""Whether a connection is quiet: how many TCP segments it has seen.

Knows ss(8) of Linux.  Must not know what follows from traffic.  Elsewhere nothing can be told.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess

from ...system import ancestry, sockets

_INODE = re.compile(rb"\bino:(\d+)\b")
_SEGMENTS = re.compile(rb"\bsegs_(?:in|out):(\d+)\b")
_LIMIT_S = 5
_FOLDERS = "/usr/sbin:/usr/bin:/sbin:/bin"


def inodes(pid: int) -> frozenset[int]:
    """Return the sockets of a process and of those below it: a jump host's connection is theirs."""
    found: set[int] = set()
    for one in (pid, *ancestry.descendants(pid)):
        with contextlib.suppress(OSError):  # it is gone
            found.update(sockets.descriptors(one))
    return frozenset(found)


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
