"""Whether the files and the program that KSSH_ variables name can be used: a bad value is named at once.

Knows what each is for.  Light to import: "kssh host command" checks them too, and leaves the rest to ssh.
"""

from __future__ import annotations

import os

from ..errors import BadValue
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..settings import Settings


def all_of(settings: Settings) -> None:
    """Check what only a supervised link uses, so that a bad value never waits for the day it counts.

    Raises BadValue.
    """
    if settings.hook:
        hook(settings.hook)
    if settings.logfile:
        os.close(log_file(settings.logfile))
    if settings.state_dir:
        state_directory(settings.state_dir)
    if settings.pidfile:
        pidfile(settings.pidfile)


def hook(path: str) -> str:
    """Return KSSH_HOOK as an absolute path, if that can be told.  Raises BadValue."""
    if not (os.path.isfile(path) and os.access(path, os.X_OK)):
        raise BadValue("KSSH_HOOK", path, "the path of a program that can be run")
    try:
        return os.path.abspath(path)
    except OSError:
        return path  # a relative path, and the working directory is gone


def log_file(path: str) -> int:
    """Open KSSH_LOGFILE to append to; return its descriptor.  Raises BadValue."""
    try:
        return files.open_log(path)
    except OSError as error:
        raise BadValue("KSSH_LOGFILE", path, f"a file to append to ({error.strerror})") from error


def state_directory(path: str) -> str:
    """Return KSSH_STATE_DIR as a real path, made if need be.  Raises BadValue."""
    try:
        return files.own_directory(os.path.abspath(path))
    except OSError as error:
        raise bad_state_directory(path, "a directory to write to", error) from error


def bad_state_directory(path: str, expected: str, error: OSError) -> BadValue:
    """Return what is wrong with KSSH_STATE_DIR."""
    return BadValue("KSSH_STATE_DIR", path, f"{expected} ({error.strerror})")


def pidfile(path: str) -> None:
    """Check that KSSH_PIDFILE could be written.  Raises BadValue."""
    try:
        folder = os.path.dirname(os.path.abspath(path))
    except OSError as error:  # a relative path, and the working directory is gone
        raise bad_pidfile(path, error.strerror) from error
    if os.path.isdir(path) or not os.access(folder, os.W_OK | os.X_OK):
        raise bad_pidfile(path, "not writable")


def bad_pidfile(path: str, why: str | None) -> BadValue:
    """Return what is wrong with KSSH_PIDFILE."""
    return BadValue("KSSH_PIDFILE", path, f"a file that can be written ({why})")
