"""Files that say what runs: the state directory, records, locks, the pidfile.

Knows files.  Must not know what a state means.
"""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import stat
import time

from ..errors import printable
from ..link import history, record
from . import checks, files, this_host

# A lock that was released a moment ago, by a link that is just ending, is worth this wait.
LOCK_WAIT_S = 0.5
_LOCK_STEP_S = 0.02
# What opening a file says that is another user's, a link, a FIFO, a socket.
_NOT_OURS = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.EINVAL, errno.ENXIO)
HISTORY_BYTES = 256 * 1024  # some 2000 events


def is_ours(name: str) -> bool:
    """Tell whether a file in a state directory is of this machine; older ones begin with its host name."""
    return name.startswith((f"{this_host.key()}.", f"{this_host.name()}."))


def state_directory(wanted: str) -> tuple[str | None, str | None]:
    """Return the directory for records and locks, made if need be, and why it is not the usual one.

    wanted is KSSH_STATE_DIR or "".  The first value is None where no directory can be had, the second
    where all is as it should be.  Raises BadValue if KSSH_STATE_DIR cannot be used.
    """
    if wanted:
        return checks.state_directory(wanted), None
    usual, *others = _usual_directories()
    try:
        return files.own_directory(usual), None
    except OSError as error:
        why = f"cannot use {printable(usual)}: {error.strerror}"
    for other in others:
        try:
            return files.own_directory(other), f"{why}; using {printable(other)}"
        except OSError:
            continue  # read-only too, or somebody else was there first
    return None, f"{why}, nor {' or '.join(map(printable, others))}; running without lock and record"


def existing_directories(wanted: str) -> tuple[list[str], str | None]:
    """Return the directories where links of this user may have their records; none is made.

    The second value is why the usual one is left alone although it is there, or None.  Raises BadValue
    if KSSH_STATE_DIR is something else.
    """
    if wanted:
        try:
            return [files.existing_own_directory(os.path.abspath(wanted))], None
        except FileNotFoundError:
            return [], None
        except OSError as error:
            raise checks.bad_state_directory(wanted, "a directory", error) from error
    found, why = [], None
    usual, *others = _usual_directories()
    for folder in (usual, *others):
        try:
            found.append(files.existing_own_directory(folder))
        except FileNotFoundError:
            continue
        except OSError as error:
            # Anybody may put a directory of our name into /tmp: that is no news.
            why = f"ignoring {printable(usual)}: {error.strerror}" if folder == usual else why
    return found, why


def _usual_directories() -> list[str]:
    """Return the directory for records and locks, and those that serve where it cannot be used."""
    mine = f"kssh-{os.getuid()}"
    usual = os.path.join(this_host.home(), ".local", "state", "kssh")
    return [usual, *(os.path.join(folder, mine) for folder in files.temporary_folders(os.environ))]


def append_line(path: str, line: bytes) -> None:
    """Append a line to a file of ours, which keeps its newer half when it grows too long.

    Raises OSError.
    """
    fd = files.open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        found = os.fstat(fd)
        if found.st_size + len(line) > HISTORY_BYTES:
            files.write_by_rename(path, history.newer_half(os.pread(fd, found.st_size, 0)) + line)
        elif os.write(fd, line) < len(line):
            os.ftruncate(fd, found.st_size)  # half a line would spoil the next one too
    finally:
        os.close(fd)


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
            fd = self._open()
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

    def _open(self) -> int:
        """Open the file, or a new one in the place of what anybody else could open, and so lock."""
        try:
            fd = files.open_own(self._path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            if error.errno not in _NOT_OURS:
                raise
        else:
            if not stat.S_IMODE(os.fstat(fd).st_mode) & 0o077:
                return fd
            os.close(fd)
        os.unlink(self._path)
        return files.open_own(self._path, os.O_RDWR | os.O_CREAT)

    def _is_the_file(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.lstat(self._path))
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
            files.remove(self._path)  # first, so that nobody locks a file that is about to vanish
            os.close(self._fd)
            self._fd = None


class LinkFiles:
    """The files of a link while it runs: lock, record, pidfile; and its history, which stays."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._base: str | None = None
        self._number: Lock | None = None
        self._recorded = False
        self._lock: Lock | None = None
        self._pidfile: Pidfile | None = None

    def open(self, wanted: str, name: str) -> str | None:
        """Choose the directory for a link's name; return why it is not the usual one, or None.

        Where none can be had there is no lock, no record and no history.  Raises BadValue.
        """
        folder, odd = state_directory(wanted)
        if folder is not None:
            _tidy(folder)
            self._folder = folder
            self._base = os.path.join(folder, f"{this_host.key()}.{name}")
        return odd

    def lock(self) -> str | None:
        """Take the link's lock; return None, or who holds it.  Raises OSError."""
        if self._base is None:
            return None
        lock = Lock(f"{self._base}.lock")
        holder = lock.acquire()
        if holder is None:
            self._lock = lock
        return holder

    def number(self, name: str) -> int | None:
        """Return the least number from 1 that no other kssh holds with this name; held until leave().

        None where there is no place for it.
        """
        number = 0
        while self._folder is not None:
            number += 1
            lock = Lock(os.path.join(self._folder, f"{this_host.key()}.{name}.{number}.lock"))
            try:
                holder = lock.acquire(0.0)
            except OSError:
                break
            if holder is None:
                self._number = lock
                return number
        return None

    def write_pidfile(self, path: str) -> None:
        """Write the pidfile.  Raises BadValue."""
        self._pidfile = Pidfile(path)

    def write_record(self, data: bytes) -> str | None:
        """Write the state record; return None, or why that failed."""
        if self._base is None:
            return None
        try:
            files.write_by_rename(self._base + ".json", data)
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
            files.remove(f"{self._base}.json")
            self._recorded = False
        if self._pidfile is not None:
            self._pidfile.remove()
            self._pidfile = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        if self._number is not None:
            self._number.release()
            self._number = None
        self._base = None


def _tidy(folder: str) -> None:
    """Remove the records whose kssh was killed and has its pid in their name: nobody writes them again."""
    for path in glob.glob(os.path.join(glob.escape(folder), "*.json")):
        if not is_ours(os.path.basename(path)):
            continue
        try:
            found = record.unpack(files.read(path, record.MOST_BYTES) or b"")
            if found is not None and path.endswith(f"-{found['pid']}.json"):
                os.kill(found["pid"], 0)
        except ProcessLookupError:
            files.remove(path)
        except (OSError, OverflowError):
            pass


class Pidfile:
    """KSSH_PIDFILE: the pid of the kssh that watches the link."""

    def __init__(self, path: str) -> None:
        """Write the file.  Raises BadValue if that cannot be done."""
        try:
            self._path = os.path.abspath(path)
            files.write_by_rename(self._path, b"%d\n" % os.getpid(), 0o644)
        except OSError as error:
            raise checks.bad_pidfile(path, error.strerror) from error

    def remove(self) -> None:
        """Remove the file if it is still ours."""
        if files.read(self._path, 32) == b"%d\n" % os.getpid():
            files.remove(self._path)
