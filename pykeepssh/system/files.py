"""What may be believed in the file system: whose a file or a directory is, and who else can change it.

Knows owners, modes, links and descriptors.  Must not know what a file is for.

A directory counts if it is ours, nobody else may write to it, and nobody else can put another one in
its place: each directory and each link on the way is ours or root's, and where others may write the
directory is sticky.  (OpenSSH asks the same of authorized_keys: safe_path() in misc.c.)  A file in it
counts if it is a regular file of ours or of root's; it is opened without following a link and without
waiting for anybody.  Modes are ours to choose, whatever the umask is.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat

from ..errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_LINKS = 40  # MAXSYMLINKS, path_resolution(7)
_NO_SURPRISE = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_ACCESS_LIST = "system.posix_acl_access"  # acl(5), Linux


# Directories.


def own_directory(path: str) -> str:
    """Return the real path of a directory of ours that may be written to; what is missing of it is made.

    All that is made has mode 0700: the XDG Base Directory Specification asks for that, and the user's
    own programs can do in it what they like.  Raises OSError.
    """
    here, missing = _way(path, strict_last=False)
    for name in missing:
        here = os.path.join(here, name)
        try:
            with ExactModes():
                os.mkdir(here, 0o700)
        except FileExistsError:
            return own_directory(path)  # another kssh was faster
    _check_own(here)
    if not os.access(here, os.W_OK | os.X_OK):
        read_only = os.statvfs(here).f_flag & os.ST_RDONLY
        number = errno.EROFS if read_only else errno.EACCES
        raise OSError(number, os.strerror(number))
    return here


def existing_own_directory(path: str) -> str:
    """Return the real path of a directory of ours that is there; it need not be writable.  Raises OSError."""
    here, missing = _way(path, strict_last=False)
    if missing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    _check_own(here)
    return here


def fresh_directory(parent: str) -> str:
    """Make a directory with a name that is new, mode 0700; return its real path.

    The parent may be a sticky one of root's, such as /tmp.  Raises OSError.
    """
    here, missing = _way(parent)
    if missing:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    path = os.path.join(here, f"kssh-{os.urandom(8).hex()}")
    with ExactModes():
        os.mkdir(path, 0o700)
    return path


def temporary_folders(environment: Mapping[str, str]) -> list[str]:
    """Return where temporary files may go, the best first; the last is in memory."""
    wanted = environment.get("TMPDIR", "")
    found = [wanted] if wanted.startswith("/") else []
    return list(dict.fromkeys([*found, "/tmp", "/dev/shm"]))


def _way(path: str, strict_last: bool = True) -> tuple[str, list[str]]:
    """Follow a path; return the real path of the last directory that is there, and the names that are not.

    strict_last  the directory that the path names is looked at as those above it are

    Raises PermissionError if somebody else could lead it elsewhere, now or later.
    """
    home = _own_home()
    names = path.split("/")[::-1]
    here, links = "/", 0
    why = _why_not("/", os.lstat("/"))
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            here = os.path.dirname(here)  # all that is above has been looked at on the way down
            continue
        there = os.path.join(here, name)
        try:
            found = os.lstat(there)
        except FileNotFoundError:
            names.append(name)
            break
        if stat.S_ISLNK(found.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            why = why or _why_not_owner(there, found)
            target = os.readlink(there)
            names += target.split("/")[::-1]
            here = "/" if target.startswith("/") else here
            continue
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        here = there
        # Who can replace our home has our ~/.ssh and our shell's start-up files: sshd looks no further
        # either, and there are systems on which what is above belongs to neither root nor us.
        is_home = here == home and found.st_uid == os.geteuid()
        if is_home:
            why = ""
        elif names or strict_last:
            why = why or _why_not(here, found)
    if why:
        raise PermissionError(errno.EACCES, why)
    return here, [name for name in names[::-1] if name not in ("", ".")]


def _own_home() -> str:
    """Return the home directory that the password database names; HOME may be somebody else's."""
    try:
        return os.path.realpath(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError:
        return ""


def why_doubtful(path: str) -> str:
    """Return why what a path leads to may say what somebody else wants, now or later; "" if it may not.

    It counts if it, each directory above it and each link on the way is ours or root's, and nobody else
    may write to it.  Raises OSError.
    """
    for end in dict.fromkeys((os.path.abspath(path), os.path.realpath(path))):
        here = end
        while True:
            found = os.lstat(here)
            link = stat.S_ISLNK(found.st_mode)
            why = _why_not_owner(here, found) if link else _why_not(here, found)
            if why or here == os.path.dirname(here):
                break
            here = os.path.dirname(here)
        if why:
            return why
    return ""


def _check_own(path: str) -> None:
    found = os.lstat(path)
    if found.st_uid != os.geteuid():
        raise PermissionError(errno.EACCES, f"it belongs to {_owner(found)}")
    if _others_may_write(path, found):
        raise PermissionError(errno.EACCES, f"others may write to it (mode {_mode(found)})")


def _why_not(path: str, found: os.stat_result) -> str:
    """Return why what lies in a directory may be replaced by somebody else, "" if it may not."""
    why = _why_not_owner(path, found)
    if not why and _others_may_write(path, found) and not found.st_mode & stat.S_ISVTX:
        why = f"others may write to {printable(path)} (mode {_mode(found)})"
    return why


def _why_not_owner(path: str, found: os.stat_result) -> str:
    return "" if is_ours(found) else f"{printable(path)} belongs to {_owner(found)}"


def is_ours(found: os.stat_result) -> bool:
    """Tell whether something belongs to us or to root.

    Root is whoever "/" belongs to, too: in a user namespace that is all that can be seen of root.
    """
    return found.st_uid in (0, os.geteuid(), os.lstat("/").st_uid)


def _owner(found: os.stat_result) -> str:
    try:
        return printable(pwd.getpwuid(found.st_uid).pw_name)
    except KeyError:
        return f"user {found.st_uid}"


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _others_may_write(path: str, found: os.stat_result) -> bool:
    if not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return False
    return bool(found.st_mode & stat.S_IWOTH) or not _is_private_group(found.st_gid) or _has_list(path)


def _is_private_group(gid: int) -> bool:
    """Tell whether a group has only us in it: many systems give each user one, and the umask 002."""
    import grp  # 0.2 ms, and seldom needed

    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
        group = grp.getgrgid(gid)
    except KeyError:
        return False
    return group.gr_name == name and all(member == name for member in group.gr_mem)


def _has_list(path: str) -> bool:
    """Tell whether an access list may let more people in than owner, group and mode say."""
    try:
        return _ACCESS_LIST in os.listxattr(path, follow_symlinks=False)
    except (OSError, AttributeError):  # macOS has no such call, and shows no list in the mode
        return False


def working_directory() -> str:
    """Return the working directory, "" if it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


# Files.


class ExactModes:
    """Make files and directories with just the mode that is asked for, from their first moment on."""

    def __enter__(self) -> None:
        self._before = os.umask(0)

    def __exit__(self, *_: object) -> None:
        os.umask(self._before)


def open_own(path: str, flags: int, mode: int = 0o600) -> int:
    """Open a regular file of ours or root's, in a directory that counts.  Raises OSError."""
    with ExactModes():
        fd = os.open(path, flags | _NO_SURPRISE, mode)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        if not is_ours(found):
            raise PermissionError(errno.EACCES, f"it belongs to {_owner(found)}")
        if _others_may_write(path, found):
            raise PermissionError(errno.EACCES, "others may write to it")
    except OSError:
        os.close(fd)
        raise
    return fd


def open_log(path: str) -> int:
    """Open a log file to append to, private if it is new, as log.c does.  Raises OSError.

    A FIFO that nobody has opened to read is no reason to wait: it is opened to read as well, as
    syslog daemons do it.
    """
    flags = os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    with ExactModes():
        try:
            return os.open(path, flags | os.O_WRONLY, 0o600)
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            return os.open(path, flags | os.O_RDWR, 0o600)


def read(path: str, most: int) -> bytes | None:
    """Return what a file of ours holds, no more than so many bytes; None if it cannot be read."""
    try:
        with open(open_own(path, os.O_RDONLY), "rb") as file:
            return file.read(most)
    except OSError:
        return None


def read_regular(path: str, most: int) -> bytes:
    """Return what a regular file holds, whoever it belongs to; no FIFO and no device is opened.

    Raises OSError, also for more bytes than most.
    """
    if stat.S_ISREG(os.stat(path).st_mode):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            found = os.fstat(fd)
            if stat.S_ISREG(found.st_mode) and found.st_size <= most:
                return os.read(fd, most)
        finally:
            os.close(fd)
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def write_by_rename(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file that others see either old or new.  Raises OSError."""
    temporary = f"{path}.{os.urandom(4).hex()}.new"
    fd = open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
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


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except OSError:
        pass
