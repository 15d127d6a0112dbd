"""ssh as a child, where the system has no room for it."""

from __future__ import annotations

import os
import subprocess
import sys

from harness import absent

PROGRAM = """\
import os, resource
from pykeepssh import child
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
