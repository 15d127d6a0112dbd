"""A change that takes itself back unless it is confirmed in time, as a router's commit-confirmed.

Knows processes that outlive a session, the record of what waits, and who asks from which connection.
Must not know what was changed: how to take it back is handed in.
"""

from __future__ import annotations

import json
import os
import signal
import syslog
import time
from collections.abc import Callable
from typing import Any

import psutil

from .. import files, statefile
from ..errors import KsshError, printable

_RECORD = "keepalive-unconfirmed.json"


def _path() -> str:
    folder, why = statefile.state_directory(os.environ.get("KSSH_STATE_DIR", ""))
    if folder is None:
        raise KsshError(why or "there is no state directory")
    return os.path.join(folder, _RECORD)


def connection() -> str:
    """Return the SSH_CONNECTION that this command came by, "" if by none.

    sudo takes the variable away, so that the parents are asked as well.
    """
    found = os.environ.get("SSH_CONNECTION", "")
    if found:
        return found
    try:
        parents = psutil.Process().parents()
    except psutil.Error:
        return ""
    for parent in parents:
        try:
            found = parent.environ().get("SSH_CONNECTION", "")
        except (psutil.Error, OSError):
            continue
        if found:
            return found
    return ""


class Watcher:
    """A process of its own that takes a change back when the time is up."""

    def __init__(self, what: str, limit_s: int, take_back: Callable[[], None]) -> None:
        """Start it.  Raises KsshError if another change waits already, or if that cannot be done."""
        refuse_a_second()
        self._record = _path()
        until = time.time() + limit_s
        read_end, write_end = os.pipe()
        middle = os.fork()
        if middle == 0:
            self._detach(limit_s, take_back, write_end, read_end)
        os.close(write_end)
        os.waitpid(middle, 0)
        with open(read_end, "rb") as pipe:
            said = pipe.read()
        if not said.isdigit():
            raise KsshError("the process that would take the change back does not start")
        self._pid = int(said)
        entry = {
            "what": what,
            "until": until,
            "pid": self._pid,
            "started": psutil.Process(self._pid).create_time(),
            "connection": connection(),
        }
        try:
            files.write_by_rename(self._record, json.dumps(entry).encode())
        except OSError as error:
            os.kill(self._pid, signal.SIGKILL)
            raise KsshError(f"cannot write {printable(self._record)}: {error.strerror}") from error

    def _detach(self, limit_s: int, take_back: Callable[[], None], write_end: int, read_end: int) -> None:
        """Become the process that waits: in a session of its own, with nothing of the old one open."""
        try:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.write(write_end, b"%d" % os.getpid())
            # The lock of the file that is being changed is among these: it is not ours to hold.
            os.closerange(3, 1024)
            deadline = time.monotonic() + limit_s
            while time.monotonic() < deadline:
                time.sleep(max(0.0, deadline - time.monotonic()))
            if _claim(self._record):
                take_back()
                syslog.syslog(syslog.LOG_WARNING, "ksshctl: keepalive was not confirmed and is undone")
        except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
            syslog.syslog(syslog.LOG_ERR, f"ksshctl: keepalive could not be undone: {error}")
        finally:
            os._exit(0)

    def cancel(self) -> None:
        """End it: the change has been taken back already."""
        if _claim(self._record):
            _end(self._pid)


def refuse_a_second() -> None:
    """Raise KsshError if a change waits for confirmation already."""
    waiting = _waiting()
    if waiting is not None:
        raise KsshError(
            f"a change of {printable(waiting['what'])} waits for confirmation until "
            f"{_clock(waiting['until'])}: ksshctl keepalive confirm; nothing was written"
        )


def confirm() -> str:
    """Keep the change that waits; return what it was.  Raises KsshError."""
    waiting = _waiting()
    if waiting is None:
        raise KsshError("no change waits for confirmation: it was confirmed or undone, or there was none")
    here = connection()
    if here and here == waiting["connection"]:
        raise KsshError("this is the connection that made the change: confirm from a new one")
    if not _claim(_path()):
        raise KsshError("too late: the change is being undone")
    _end(waiting["pid"])
    return str(waiting["what"])


def _waiting() -> dict[str, Any] | None:
    """Return the record of the change that waits, None if there is none or its process is gone."""
    try:
        entry: dict[str, Any] = json.loads(files.read(_path(), 65536) or b"null")
        process = psutil.Process(entry["pid"])
        return entry if process.create_time() == entry["started"] else None
    except (OSError, ValueError, KeyError, TypeError, psutil.Error):
        return None


def _claim(record: str) -> bool:
    """Take the record away; only one of those who try can."""
    try:
        os.unlink(record)
    except OSError:
        return False
    return True


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError:
        pass


def _clock(wall: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall))
