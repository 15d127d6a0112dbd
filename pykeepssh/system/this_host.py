"""Where we are: the host, the user's home, the process, by names that no other has.

Knows files of the system.  Must not know what a name is used for.
"""

from __future__ import annotations

import os
import pwd
import socket
import string
import sys
import time
import zlib


def home() -> str:
    """Return the home directory: HOME, or the password database's, as at boot there is no HOME."""
    path = os.environ.get("HOME", "")
    if path.startswith("/"):
        return path
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def name() -> str:
    """Return this machine's host name, fit for a file name: homes are shared between machines."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in socket.gethostname()) or "localhost"


def identity() -> str:
    """Return what tells this machine from all others for good, or "" where nothing does; machine-id(5)."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            with open(path, encoding="ascii") as file:
                found = file.read(64).strip()
        except (OSError, ValueError):
            continue
        if len(found) == 32 and all(c in string.hexdigits for c in found):  # not "uninitialized"
            return found
    if sys.platform == "darwin":
        import ctypes  # 2 ms, only there

        identifier = ctypes.create_string_buffer(16)
        if ctypes.CDLL(None).gethostuuid(identifier, (ctypes.c_long * 2)(1, 0)) == 0:
            return identifier.raw.hex()
    return ""


def key() -> str:
    """Return what stands for this machine in the names of files: homes are shared between machines.

    Not its host name where that can be helped, which changes: after boot, and with the network on some
    systems.  The id itself is not for others to see.
    """
    found = identity()
    return f"{zlib.crc32(found.encode()):08x}" if found else name()


def process_started() -> float:
    """Return when this process started, in epoch seconds, as psutil's create_time() tells it to others.

    psutil itself would stay in the memory of every link with 4 MB; on Linux it computes the same
    from two lines of proc(5).
    """
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])  # starttime
        with open("/proc/stat", "rb") as file:
            booted = next(int(line.split()[1]) for line in file if line.startswith(b"btime "))
    except (OSError, StopIteration):
        import psutil

        try:
            return psutil.Process().create_time()
        except psutil.Error:
            return time.time()  # a chroot without /proc
    return ticks / os.sysconf("SC_CLK_TCK") + booted


def process_mark(pid: int) -> str:
    """Return what no other process has that ever had this pid, or "" if there is no such thing.

    That is the id of this boot and the clock ticks from there to the start of the process: unlike
    a time of day it stays the same when the clock is set.  Only Linux has it; proc(5).
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            ticks = file.read().rpartition(b")")[2].split()[19]
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return (file.read().strip() + b":" + ticks).decode()
    except (OSError, IndexError):
        return ""
