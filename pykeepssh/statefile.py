"""Files that say what runs: the state directory, records, locks, the pidfile.

Knows files.  Must not know what a state means.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import pwd
import socket
import stat
import time

from . import history, record
from .errors import BadValue, KsshError, printable
from .kinds import TUNNEL

# A lock that was released a moment ago, by a link that is just ending, is worth this wait.
LOCK_WAIT_S = 0.5
_LOCK_STEP_S = 0.02
HISTORY_BYTES = 256 * 1024  # some 2000 events


def home() -> str:
    """Return the home directory: HOME, or the password database's, as at boot there is no HOME."""
    path = os.environ.get("HOME", "")
    if path.startswith("/"):
        return path
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def machine() -> str:
    """Return this machine's host name, fit for a file name: homes are shared between machines."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in socket.gethostname()) or "localhost"


def state_directory(wanted: str) -> tuple[str, str | None]:
    """Return the directory for records and locks, made if need be, and why it is not the usual one.

    wanted is KSSH_STATE_DIR or "".  The second value is None where all is as it should be.
    Raises BadValue if KSSH_STATE_DIR cannot be used.
    """
    if wanted:
        try:
            return _private_directory(os.path.abspath(wanted)), None
        except OSError as error:
            raise BadValue("KSSH_STATE_DIR", wanted, f"a directory to write to ({error.strerror})") from error
    usual, other = _usual_directories()
    try:
        return _private_directory(usual), None
    except OSError as error:
        why = f"cannot use {printable(usual)}: {error.strerror}"
    try:
        return _private_directory(other), f"{why}; using {printable(other)}"
    except OSError as error:
        raise KsshError(f"{why}; nor {printable(other)}: {error.strerror}; set KSSH_STATE_DIR") from error


def _usual_directories() -> tuple[str, str]:
    """Return the directory for records and locks, and the one that serves where it cannot be used."""
    usual = os.path.join(home(), ".local", "state", "kssh")
    return usual, os.path.join(temporary_folder(), f"kssh-{os.getuid()}")


def existing_directories(wanted: str) -> list[str]:
    """Return the directories where links of this user may have their records; none is made.

    Raises BadValue if KSSH_STATE_DIR is something else.
    """
    if wanted:
        if os.path.exists(wanted) and not os.path.isdir(wanted):
            raise BadValue("KSSH_STATE_DIR", wanted, "a directory")
        return [wanted] if os.path.isdir(wanted) else []
    usual, other = _usual_directories()
    found = [usual] if os.path.isdir(usual) else []
    try:
        told = os.lstat(other)
    except OSError:
        return found
    return [*found, other] if stat.S_ISDIR(told.st_mode) and told.st_uid == os.getuid() else found


def temporary_folder() -> str:
    """Return TMPDIR if it can be used, else /tmp."""
    path = os.environ.get("TMPDIR", "")
    return path if path.startswith("/") and os.access(path, os.W_OK | os.X_OK) else "/tmp"


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


def _private_directory(path: str) -> str:
    os.makedirs(path, mode=0o700, exist_ok=True)
    found = os.lstat(path) if path.startswith(temporary_folder()) else os.stat(path)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if found.st_uid != os.getuid() or not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return path


def write_by_rename(path: str, data: bytes) -> None:
    """Write a file that others see either old or new; mode 0600.  Raises OSError."""
    temporary = f"{path}.{os.getpid()}.new"
    remove(temporary)  # of a process with this pid before; nobody else's is ever written to
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            if os.write(fd, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        remove(temporary)
        raise


def append_line(path: str, line: bytes) -> None:
    """Append a line to a file of ours, which keeps its newer half when it grows too long.

    Raises OSError.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if found.st_size + len(line) > HISTORY_BYTES:
            write_by_rename(path, history.newer_half(os.pread(fd, found.st_size, 0)) + line)
        elif os.write(fd, line) < len(line):
            os.ftruncate(fd, found.st_size)  # half a line would spoil the next one too
    finally:
        os.close(fd)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except OSError:
        pass


class Lock:
    """A lock that goes with its holder: flock(2) on a file that tells who holds it."""

    def __init__(self, path: str) -> None:
        """Prepare a lock; nothing is locked yet."""
        self._path = path
        self._fd: int | None = None

    def acquire(self, wait_s: float = LOCK_WAIT_S) -> str | None:
        """Take the lock; return None, or what its holder wrote if it is held.  Raises OSError."""
        deadline = time.monotonic() + wait_s
        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 200).decode("utf-8", "replace").strip()
                os.close(fd)
                if time.monotonic() >= deadline:
                    return holder or "unknown"
                time.sleep(_LOCK_STEP_S)
                continue
            if self._is_the_file(fd):
                break
            os.close(fd)  # the holder removed it between our open and our lock
        self._fd = fd
        try:
            self.write(f"pid {os.getpid()}")
        except OSError:
            pass  # a full disk; it is held all the same
        return None

    def _is_the_file(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._path))
        except OSError:
            return False

    def write(self, text: str) -> None:
        """Say who holds the lock."""
        assert self._fd is not None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, text.encode(), 0)

    def release(self) -> None:
        """Remove the file and let the lock go; it need not be held."""
        if self._fd is not None:
            remove(self._path)  # first, so that nobody locks a file that is about to vanish
            os.close(self._fd)
            self._fd = None


class Place:
    """What a link holds in the file system while it lives: lock, record, pidfile."""

    def __init__(self) -> None:
        self._base: str | None = None
        self._recorded = False
        self._lock: Lock | None = None
        self._pidfile: Pidfile | None = None

    def open(self, wanted: str, name: str) -> str | None:
        """Choose the directory for a link's name; return why it is not the usual one, or None.

        Raises KsshError if there is none.
        """
        folder, odd = state_directory(wanted)
        _tidy(folder)
        self._base = os.path.join(folder, f"{machine()}.{name}")
        return odd

    def lock(self) -> str | None:
        """Take the link's lock; return None, or who holds it.  Raises KsshError."""
        path = f"{self._base}.lock"
        lock = Lock(path)
        try:
            holder = lock.acquire()
        except OSError as error:
            raise KsshError(f"cannot lock {printable(path)}: {error.strerror}") from error
        if holder is None:
            self._lock = lock
        return holder

    def write_pidfile(self, path: str) -> None:
        """Write the pidfile.  Raises BadValue."""
        self._pidfile = Pidfile(path)

    def write_record(self, data: bytes) -> str | None:
        """Write the state record; return None, or why that failed."""
        if self._base is None:
            return None
        try:
            write_by_rename(self._base + ".json", data)
        except OSError as error:
            return error.strerror or "unknown error"
        self._recorded = True
        return None

    def append_history(self, line: bytes) -> str | None:
        """Write a line of the link's history, which stays; return None, or why that failed.

        Only for who holds the lock: two writers would lose each other's lines.
        """
        if self._lock is None:
            return None
        try:
            append_line(f"{self._base}.history", line)
        except OSError as error:
            return error.strerror or "unknown error"
        return None

    def leave(self) -> None:
        """Remove all of it but the history; may be called twice."""
        if self._recorded:
            remove(f"{self._base}.json")
            self._recorded = False
        if self._pidfile is not None:
            self._pidfile.remove()
            self._pidfile = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._base = None


def _tidy(folder: str) -> None:
    """Remove the records of sessions whose kssh was killed: unlike a tunnel's, nobody writes them again."""
    for path in glob.glob(os.path.join(glob.escape(folder), f"{machine()}.*.json")):
        try:
            with open(path, "rb") as file:
                found = record.unpack(file.read())
            if found is not None and found["kind"] != TUNNEL:
                os.kill(found["pid"], 0)
        except ProcessLookupError:
            remove(path)
        except (OSError, OverflowError):
            pass


class Pidfile:
    """KSSH_PIDFILE: the pid of the kssh that watches the link."""

    def __init__(self, path: str) -> None:
        """Write the file.  Raises BadValue if that cannot be done."""
        self._path = os.path.abspath(path)
        try:
            write_by_rename(self._path, b"%d\n" % os.getpid())
            os.chmod(self._path, 0o644)
        except OSError as error:
            raise self._bad(path, error.strerror) from error

    @classmethod
    def check(cls, path: str) -> None:
        """Check that the file could be written.  Raises BadValue."""
        folder = os.path.dirname(os.path.abspath(path))
        if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
            raise cls._bad(path, "not writable")

    @staticmethod
    def _bad(path: str, why: str | None) -> BadValue:
        return BadValue("KSSH_PIDFILE", path, f"a file that can be written ({why})")

    def remove(self) -> None:
        """Remove the file if it is still ours."""
        try:
            with open(self._path, "rb") as file:
                ours = file.read(32) == b"%d\n" % os.getpid()
        except OSError:
            return
        if ours:
            remove(self._path)
