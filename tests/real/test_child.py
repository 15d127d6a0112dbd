"""ssh as a child, where the system has no room for it, or kssh is killed while it starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import MARK, absent, marked, wait_for

PROGRAM = """\
import os, resource
from pykeepssh.system import child
from pykeepssh.errors import KsshError
os.setuid(65534)  # root may always fork
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
def descriptors():
    return sorted(os.listdir("/proc/self/fd"))
before = descriptors()
for start in range(3):
    try:
        child.PtyChild("/bin/true", [], {}, None, None, 2)
    except KsshError as error:
        print(error)
assert descriptors() == before, (before, descriptors())
"""


def test_a_fork_that_fails_leaves_no_descriptor_open() -> None:
    if sys.platform != "linux" or os.getuid() != 0:
        absent("root on Linux")
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout.count("cannot run /bin/true: ") == 3


# What kssh starts next stands still, just behind the fork, until kssh is dead.
KILLED = """\
import os, signal, sys, time
from pykeepssh.system import child
def kill():
    parent = os.getppid()
    os.kill(parent, signal.SIGKILL)
    while os.getppid() == parent:
        time.sleep(0.001)
program, log, kind = sys.argv[1:]
os.register_at_fork(after_in_child=kill)
given = {"PtyChild": (None, None, None), "PlainChild": ()}
getattr(child, kind)(program, [log], dict(os.environb), *given[kind])
"""


@pytest.mark.parametrize("kind", ["PtyChild", "PlainChild"])
def test_an_ssh_whose_kssh_was_killed_meanwhile_does_not_begin(kind: str, tmp_path: Path) -> None:
    """It would stand for ever at a log that nobody reads."""
    if sys.platform != "linux":
        absent("Linux")
    program, log = tmp_path / "ssh", tmp_path / "log"
    program.write_text('#!/bin/sh\nexec 2>"$1"\n')
    program.chmod(0o755)
    os.mkfifo(log)
    mark = {MARK: str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, program, log, kind], check=False, env={**os.environ, **mark}
    )
    assert ran.returncode == -signal.SIGKILL
    wait_for(lambda: not marked(mark[MARK]))
