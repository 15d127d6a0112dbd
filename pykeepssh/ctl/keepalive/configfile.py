"""Changing a configuration file so that it is old or new at every moment, never half.

Knows locks, backups, modes, links and rename(2).  Must not know what is in the file, nor which program
reads it.

All is done in a directory that is open, to files that are open: whoever may write to a path's upper
directories cannot lead what is done to another file by a link put there meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time

from ...errors import KsshError, printable
from ...system import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

# Whoever else changes the file does so in milliseconds, or waits for a server to be reloaded.
LOCK_WAIT_S = 5.0
_LOCK_STEP_S = 0.05
# O_NONBLOCK: a FIFO in the file's place would be waited for.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


class Refused(KsshError):
    """A change that was not made or was taken back: the file is as it was, or the text says what it is."""


class ConfigFile:
    """One configuration file, locked from enter to exit; an exception takes back what was changed.

    path     as it was named
    real     the file itself, where path leads through symbolic links
    before   its bytes when it was locked; None if there was no file
    names    how many names it had then (hard links)
    mode     its mode, or that of a file that does not exist yet
    backup   where before was kept, once something was written
    changed  True while the new file stands in its place, or may
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
        self.names = 0
        self.backup: str | None = None
        self.changed = False
        self._folder, self._name = os.path.split(self.real)
        self._create_directory = create_directory
        self.mode = mode
        self._like = like
        self._folder_fd = -1
        self._lock_fd = -1
        self._old_fd = -1
        self._like_fd = -1
        self._made_directory = False
        self._kept = False
        self._given_up = False

    def __enter__(self) -> ConfigFile:
        try:
            self._open()
        except OSError as error:
            self._close()
            raise Refused(self.reason(error)) from error
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is not None and self.changed and not self._given_up:
                why = self.reason(error)
                self.put_back(why)
                if isinstance(error, (KsshError, OSError)):
                    raise Refused(f"{why}; the old file is back") from error
        finally:
            self._close()

    def _open(self) -> None:
        if self._create_directory and not os.path.isdir(self._folder):
            os.mkdir(self._folder, 0o700)
            self._made_directory = True
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        self._folder_fd = os.open(self._folder, flags)
        if self._made_directory:
            os.fchmod(self._folder_fd, 0o700)  # whatever the umask is
        self._check_owner(self._folder_fd, self._folder)
        self._lock_fd = _locked(self._folder_fd, self._hidden("lock"), self.real)
        for purpose in ("new", "old"):  # of one that was killed; we hold the lock
            self._remove(self._hidden(purpose))
        if self._like is not None:
            self._like_fd = os.open(os.path.realpath(self._like), _READ)
        try:
            self._old_fd = os.open(self._name, _READ, dir_fd=self._folder_fd)
        except FileNotFoundError:
            return
        self._check_owner(self._old_fd, self.real)
        found = os.fstat(self._old_fd)
        self.names, self.mode = found.st_nlink, stat.S_IMODE(found.st_mode)
        self.before = _content(self._old_fd)

    def _check_owner(self, fd: int, path: str) -> None:
        """Raise Refused where root would work for somebody else: who owns a directory may swap its files."""
        found = os.fstat(fd)
        if os.geteuid() == 0 and not files.is_ours(found):
            raise Refused(f"{printable(path)} belongs to user {found.st_uid}; nothing was written")

    def _close(self) -> None:
        if self._lock_fd >= 0:
            self._remove(self._hidden("old"))
            if self._made_directory and not self._exists():
                self._remove(self._hidden("lock"))
                try:
                    os.rmdir(self._folder)
                except OSError:
                    pass  # somebody uses it by now
            self._remove(self._hidden("lock"))  # first, so that nobody locks a file that is about to vanish
        for fd in (self._lock_fd, self._old_fd, self._like_fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._lock_fd = self._old_fd = self._like_fd = self._folder_fd = -1

    def replace(self, data: bytes | None) -> None:
        """Put data in the file's place; None removes it.

        Raises Refused; the exit puts the old file back then.
        """
        candidate = self._hidden("new")
        try:
            self._write(candidate, b"" if data is None else data)
            if not self._is_as_before():
                raise Refused(f"{printable(self.real)} was changed by somebody else meanwhile")
            self._keep_backup()
            self._keep_old()
            self.changed = True
            if data is not None:
                self._rename(candidate, self._name)
            elif self.before is not None:
                os.unlink(self._name, dir_fd=self._folder_fd)
            self._sync_folder()
        except OSError as error:
            raise Refused(self.reason(error)) from error
        finally:
            self._remove(candidate)

    def put_back(self, why: str) -> None:
        """Give the file's place back to the old one.  Raises Refused, with why, if that cannot be done."""
        try:
            if self.before is None:
                if self._exists():
                    os.unlink(self._name, dir_fd=self._folder_fd)
            elif self._kept:
                # If the new one never got there both are the same file, and nothing is renamed.
                self._rename(self._hidden("old"), self._name)
            else:
                self._remove(self._hidden("new"))
                self._write(self._hidden("new"), self.before)
                self._rename(self._hidden("new"), self._name)
        except OSError as error:
            self._given_up = True
            what = "THE NEW FILE IS NOT REMOVED" if self.before is None else "THE OLD FILE IS NOT BACK"
            where = f"; it is in {printable(self.backup)}" if self.backup else ""
            raise Refused(f"{why}; {what}: {error.strerror}{where}") from error
        self.changed = False
        try:
            self._sync_folder()
        except OSError:
            pass  # it is back for everybody who reads it

    def reason(self, error: BaseException) -> str:
        """Return why a change failed, in words."""
        if isinstance(error, OSError):
            return f"cannot change {printable(self.real)}: {error.strerror}"
        return str(error) or "interrupted"

    def beside(self, purpose: str) -> str:
        """Return a path in the same directory that no Include with a pattern finds."""
        return os.path.join(self._folder, self._hidden(purpose))

    def _hidden(self, purpose: str) -> str:
        return f".{self._name}.ksshctl-{purpose}"

    def _exists(self) -> bool:
        try:
            os.stat(self._name, dir_fd=self._folder_fd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self._folder_fd, dst_dir_fd=self._folder_fd)

    def _remove(self, name: str) -> None:
        try:
            os.unlink(name, dir_fd=self._folder_fd)
        except OSError:
            pass

    def _is_as_before(self) -> bool:
        """Tell whether the file is the one that was locked, and holds the same."""
        if self.before is None:
            return not self._exists()
        return _is_here(self._old_fd, self._name, self._folder_fd) and _content(self._old_fd) == self.before

    def _write(self, name: str, data: bytes) -> None:
        """Write data to a new file with the mode and owner of the present one."""
        like = self._old_fd if self._old_fd >= 0 else self._like_fd
        write_new(name, data, like if like >= 0 else None, self.mode, self._folder_fd)

    def _keep_backup(self) -> None:
        if self.before is None:
            return
        stamp = time.strftime("%Y%m%d-%H%M%S")
        for number in range(1, 100):
            name = stamp if number == 1 else f"{stamp}-{number}"
            try:
                self._write(self._hidden(name), self.before)
            except FileExistsError:
                continue
            self.backup = self.beside(name)
            return
        raise Refused(f"no free name for a backup of {printable(self.real)}")

    def _keep_old(self) -> None:
        """Keep the old file itself, by a second name: to put it back needs no room then."""
        if self.before is None:
            return
        try:
            os.link(
                self._name,
                self._hidden("old"),
                src_dir_fd=self._folder_fd,
                dst_dir_fd=self._folder_fd,
                follow_symlinks=False,
            )
        except (OSError, NotImplementedError):
            return  # a file system without: a copy is put back then
        self._kept = True

    def _sync_folder(self) -> None:
        try:
            os.fsync(self._folder_fd)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot do it for directories
                raise


def _locked(folder_fd: int, name: str, path: str) -> int:
    """Lock a file beside another one, which is gone afterwards; return its descriptor, -1 if that cannot be.

    Not the directory itself: whoever may read that could hold its lock for ever (flock(2)), and NFS
    locks only what is open for writing.  Raises Refused for path, or OSError.
    """
    deadline = time.monotonic() + LOCK_WAIT_S
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
        try:
            fd = os.open(name, flags, 0o600, dir_fd=folder_fd)
        except OSError as error:
            if error.errno in (errno.EROFS, errno.EACCES):
                return -1  # nothing can be written, and there may be nothing to write
            raise
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
        except BaseException:
            os.close(fd)
            raise
        else:
            if _is_here(fd, name, folder_fd):
                return fd
            os.close(fd)  # its holder removed it between our open and our lock
            continue
        if time.monotonic() > deadline:
            raise Refused(f"{printable(path)} is locked by another ksshctl")
        time.sleep(_LOCK_STEP_S)


def _is_here(fd: int, name: str, folder_fd: int) -> bool:
    """Tell whether an open file is the one that has a name in a directory."""
    try:
        there = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(fd), there)


def _content(fd: int) -> bytes:
    """Return the bytes of an open file.  Raises OSError if it is no regular one."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    os.lseek(fd, 0, os.SEEK_SET)
    found = b""
    while part := os.read(fd, 1 << 20):
        found += part
    return found


def write_new(
    path: str,
    data: bytes,
    like: int | None = None,
    mode: int = 0o600,
    dir_fd: int | None = None,
    lasting: bool = True,
) -> None:
    """Write a file that does not exist yet.

    like     an open file whose mode, owner and attributes it takes
    mode     what it takes otherwise
    lasting  it is on disk when this returns: fsync(2) may take seconds on a busy disk

    Raises OSError.
    """
    fd = os.open(path, _MAKE, 0o600, dir_fd=dir_fd)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        if like is not None:
            own, other = os.fstat(fd), os.fstat(like)
            if (own.st_uid, own.st_gid) != (other.st_uid, other.st_gid):
                os.fchown(fd, other.st_uid, other.st_gid)
            os.fchmod(fd, stat.S_IMODE(other.st_mode))
            _copy_attributes(like, fd)
        else:
            os.fchmod(fd, mode)
        if lasting:
            os.fsync(fd)
    except BaseException:
        try:
            os.unlink(path, dir_fd=dir_fd)
        except OSError:
            pass
        raise
    finally:
        os.close(fd)


def _copy_attributes(like: int, fd: int) -> None:
    """Copy extended attributes, among them access lists and what SELinux calls a file."""
    if not hasattr(os, "listxattr"):  # macOS
        return
    try:
        names = os.listxattr(like)
    except OSError:
        return  # a file system without them
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(like, name))
        except OSError:
            pass  # one that the system sets itself, or only root
