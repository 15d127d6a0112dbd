"""Changing a configuration file so that it is old or new at every moment, never half.

Knows locks, backups, modes, symbolic links and rename(2).  Must not know what is in the file, nor
which program reads it: what to write, how a candidate is checked and how the result is read back
are handed in.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from .errors import KsshError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Whoever else changes the file does so in milliseconds, or waits for a server to be reloaded.
LOCK_WAIT_S = 5.0
_LOCK_STEP_S = 0.05


class Refused(KsshError):
    """A change that was not made, or that was taken back: the file is as it was before."""


class ConfigFile:
    """One configuration file, locked from enter to exit.

    path     as it was named
    real     the file itself, where path leads through symbolic links
    before   its bytes when it was locked; None if there was no file
    backup   where before was kept, once something was written
    """

    def __init__(
        self, path: str, create_directory: bool = False, mode: int = 0o600, like: str | None = None
    ) -> None:
        """Name a file.

        create_directory  a missing directory is made, for its owner only
        mode              of a file that does not exist yet
        like              a file whose mode and owner such a file takes instead
        """
        self.path = os.path.abspath(path)
        self.real = os.path.realpath(path)
        self.before: bytes | None = None
        self.backup: str | None = None
        self._folder, self._name = os.path.split(self.real)
        self._create_directory = create_directory
        self._mode = mode
        self._like = like
        self._lock_fd = -1
        self._made_directory = False

    def __enter__(self) -> ConfigFile:
        try:
            self._open()
        except OSError as error:
            self._unlock()
            raise Refused(f"cannot change {printable(self.real)}: {error.strerror}") from error
        except BaseException:
            self._unlock()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._made_directory and not os.path.lexists(self.real):
            try:
                os.rmdir(self._folder)
            except OSError:
                pass  # somebody uses it by now
        self._unlock()

    def _open(self) -> None:
        if self._create_directory and not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o700)
            self._made_directory = True
        self._lock_fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The directory itself is locked: no lock file that an Include could read or a crash leave.
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Refused(f"{printable(self._folder)} is locked by another ksshctl") from None
                time.sleep(_LOCK_STEP_S)
        self.before = read(self.real)

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def replace(
        self,
        data: bytes | None,
        check: Callable[[str], str | None],
        verify: Callable[[], str | None],
    ) -> None:
        """Put data in the file's place; None removes it.

        check(path) looks at the candidate in a file of its own, verify() at the result: each returns
        None, or why it will not do.  Raises Refused; the old file is in its place then.
        """
        try:
            self._replace(data, check, verify)
        except OSError as error:
            raise Refused(f"cannot change {printable(self.real)}: {error.strerror}") from error

    def _replace(
        self, data: bytes | None, check: Callable[[str], str | None], verify: Callable[[], str | None]
    ) -> None:
        candidate = self._write(b"" if data is None else data)
        try:
            why = check(candidate)
            if why is not None:
                raise Refused(why)
            if read(self.real) != self.before:
                raise Refused(f"{printable(self.real)} was changed by somebody else meanwhile")
            self._keep_backup()
            if data is None:
                os.unlink(self.real)
            else:
                os.rename(candidate, self.real)
            self._sync_folder()
        finally:
            _remove(candidate)
        try:
            why = verify()
        except BaseException:
            self.put_back()
            raise
        if why is not None:
            self.put_back()
            raise Refused(f"{why}; the old file is back")

    def put_back(self) -> None:
        """Give the file the bytes it had when it was locked.  Raises OSError."""
        if self.before is None:
            _remove(self.real)
        else:
            os.rename(self._write(self.before, like=self.backup), self.real)
        self._sync_folder()

    def beside(self, purpose: str) -> str:
        """Return a path in the same directory that no Include with a pattern finds."""
        return os.path.join(self._folder, f".{self._name}.ksshctl-{purpose}")

    def _write(self, data: bytes, like: str | None = None) -> str:
        """Write data to a new file with the mode and owner of the present one; return its path."""
        path = self.beside("new")
        _remove(path)  # of one that was killed; we hold the lock
        known = [file for file in (like, self.real, self._like) if file and os.path.exists(file)]
        write_new(path, data, known[0] if known else None, self._mode)
        return path

    def _keep_backup(self) -> None:
        if self.before is None:
            return
        name = time.strftime("%Y%m%d-%H%M%S")
        for number in range(1, 100):
            path = self.beside(name if number == 1 else f"{name}-{number}")
            try:
                write_new(path, self.before, self.real)
            except FileExistsError:
                continue
            self.backup = path
            return
        raise Refused(f"no free name for a backup of {printable(self.real)}")

    def _sync_folder(self) -> None:
        try:
            os.fsync(self._lock_fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot do it for directories
                raise


def read(path: str) -> bytes | None:
    """Return the bytes of a regular file; None if there is none.  Raises OSError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read()


def write_new(path: str, data: bytes, like: str | None = None, mode: int = 0o600) -> None:
    """Write a file that does not exist yet, on disk when this returns.

    It takes mode, owner and attributes of another file, or only a mode.  Raises OSError.
    """
    other = os.stat(like) if like is not None else None
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if other is not None:
            own = os.fstat(fd)
            if (own.st_uid, own.st_gid) != (other.st_uid, other.st_gid):
                os.fchown(fd, other.st_uid, other.st_gid)
            os.fchmod(fd, stat.S_IMODE(other.st_mode))
            _copy_attributes(like or "", fd)
        else:
            os.fchmod(fd, mode)
        os.fsync(fd)
    except BaseException:
        _remove(path)
        raise
    finally:
        os.close(fd)


def _copy_attributes(path: str, fd: int) -> None:
    """Copy extended attributes, among them access lists and what SELinux calls a file."""
    if not hasattr(os, "listxattr"):  # macOS
        return
    try:
        for name in os.listxattr(path):
            os.setxattr(fd, name, os.getxattr(path, name))
    except OSError:
        pass  # a file system without them, or one that sets them itself


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
