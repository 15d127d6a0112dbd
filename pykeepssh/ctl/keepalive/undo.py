"""A change that takes itself back unless it is confirmed in time, as a router's commit-confirmed.

Knows processes that outlive a session, the record of what waits, and who asks from which connection.
Must not know what was changed: how to take it back is handed in.

The record is there before the change is made.  Whoever takes it away decides: who confirms removes it,
who undoes renames it, and the one that comes second finds nothing.  The change is being undone until
that has worked, however long it takes.
"""

from __future__ import annotations

import json
import os
import select
import signal
import syslog
import time
from collections.abc import Callable
from typing import Any

import psutil

from ...errors import KsshError, printable
from ...system import files
from ...system.sink import Syslog
from ...system.state import state_directory
from ...system.this_host import process_mark
from .. import records

_RECORD = "keepalive-unconfirmed.json"
_UNDOING = "keepalive-undoing.json"
_LARGEST_BYTES = 65536
_AGAIN_S, _AGAIN_MOST_S = 1.0, 30.0  # between two tries to undo
_FIELDS: dict[str, Any] = {
    "what": str,
    "until": (int, float),
    "pid": int,
    "pid_started": (int, float),
    "pid_mark": str,
    "connection": str,
}


def _path(name: str) -> str:
    folder, why = state_directory(os.environ.get("KSSH_STATE_DIR", ""))
    if folder is None:
        raise KsshError(why or "there is no state directory")
    return os.path.join(folder, name)


def _say(priority: int, text: str) -> None:
    """Write a line to syslog, which must not hold the undo up."""
    log = Syslog("ksshctl", syslog.LOG_USER)
    log.write(priority, text)
    log.close()


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
    """A process of its own that takes a change back when the time is up.

    It does so at once if it is asked to end (SIGTERM): then the machine goes down, or logind ends what
    a session has left.
    """

    def __init__(self, what: str, limit_s: int, take_back: Callable[[], None]) -> None:
        """Start it.  Raises KsshError if another change waits already, or if that cannot be done.

        take_back is called again and again until it raises nothing: it must do no harm the second time.
        """
        refuse_a_second()
        self._what = what
        self._record, self._undoing = _path(_RECORD), _path(_UNDOING)
        until = time.time() + limit_s
        read_end, write_end = os.pipe()
        middle = os.fork()
        if middle == 0:
            self._detach(limit_s, take_back, write_end)
        os.close(write_end)
        os.waitpid(middle, 0)
        with open(read_end, "rb") as pipe:
            said = pipe.read()
        if not said.isdigit():
            raise KsshError("the process that would take the change back does not start")
        pid = int(said)
        self._entry: dict[str, Any] = {
            "what": what,
            "until": until,
            "pid": pid,
            "pid_started": psutil.Process(pid).create_time(),
            "pid_mark": process_mark(pid),
            "connection": connection(),
        }
        try:
            files.write_by_rename(self._record, json.dumps(self._entry).encode())
        except OSError as error:
            os.kill(pid, signal.SIGKILL)
            raise KsshError(f"cannot write {printable(self._record)}: {error.strerror}") from error

    def _detach(self, limit_s: int, take_back: Callable[[], None], write_end: int) -> None:
        """Become the process that waits: in a session of its own, with nothing of the old one open."""
        try:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            for signum in (signal.SIGHUP, signal.SIGINT):
                signal.signal(signum, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, _noted)
            os.chdir("/")
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.write(write_end, b"%d" % os.getpid())
            # The lock of the file that is being changed is among these: it is not ours to hold.
            os.closerange(3, 1024)
            _wait(limit_s)
            if self._claim():
                self._undo(take_back)
        except BaseException as error:  # noqa: BLE001 - a fork must not go on as its parent
            _say(syslog.LOG_ERR, f"keepalive could not be undone: {error}")
        finally:
            os._exit(0)

    def _claim(self) -> bool:
        """Begin to undo; return False if the change was confirmed, or taken back already."""
        if not os.path.lexists(self._record):
            return False
        entry = _read(self._record)
        if entry is not None and entry["pid"] != os.getpid():
            return False  # of another change, later than ours
        self._entry = entry or {"what": self._what}
        try:
            os.rename(self._record, self._undoing)
        except FileNotFoundError:
            return False
        except OSError:
            pass  # a disk that cannot be written to for the moment: all the more
        return True

    def _undo(self, take_back: Callable[[], None]) -> None:
        """Take the change back, again and again until that has worked."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        what = printable(self._entry["what"])
        again_s = _AGAIN_S
        said = ""
        while True:
            try:
                take_back()
                break
            except Exception as error:  # noqa: BLE001 - whatever it is, the next try may work
                why = printable(str(error)) or type(error).__name__
            if why != said:
                said = why
                text = f"{what} is not undone yet: {why}; trying again"
                _say(syslog.LOG_ERR, text)
                try:
                    files.write_by_rename(self._undoing, json.dumps({**self._entry, "why": why}).encode())
                except OSError:
                    pass  # it is only for whoever asks
            time.sleep(again_s)
            again_s = min(2 * again_s, _AGAIN_MOST_S)
        files.remove(self._undoing)
        files.remove(self._record)
        _say(syslog.LOG_WARNING, f"{what} was not confirmed and is undone")

    def cancel(self) -> None:
        """End it: the change has been taken back already."""
        if _remove(self._record):
            _end(self._entry)


def _noted(signum: int, frame: object) -> None:
    """Take note of a signal: it has woken _wait() up."""


def _wait(limit_s: float) -> None:
    """Wait so long, or until SIGTERM."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if select.select([read_end], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return


def refuse_a_second() -> None:
    """Raise KsshError if a change waits for confirmation already, or is still being undone."""
    waiting = _waiting(_RECORD)
    if waiting is not None:
        raise KsshError(
            f"a change of {printable(waiting['what'])} waits for confirmation until "
            f"{_clock(waiting['until'])}: ksshctl keepalive confirm; nothing was written"
        )
    undoing = _waiting(_UNDOING)
    if undoing is not None:
        raise KsshError(
            f"the change of {printable(undoing['what'])} before is still being undone"
            f"{_reason(undoing)}; nothing was written"
        )


def abandoned() -> str | None:
    """Return, once, which change is neither confirmed nor undone, for who waited was killed; or None."""
    for name in (_RECORD, _UNDOING):
        entry = _read(_path(name))
        if entry is not None and not records.is_alive(entry) and _remove(_path(name)):
            what = printable(entry["what"])
            return (
                f"the change of {what} was neither confirmed nor undone, for the process that waited was "
                "killed: it stays; the old file is beside it"
            )
    return None


def confirm() -> str:
    """Keep the change that waits; return what it was.  Raises KsshError."""
    waiting = _waiting(_RECORD)
    if waiting is None:
        undoing = _waiting(_UNDOING)
        if undoing is not None:
            raise KsshError(f"too late: the change is being undone{_reason(undoing)}")
        raise KsshError(
            abandoned() or "no change waits for confirmation: it was confirmed or undone, or there was none"
        )
    here = connection()
    if here and here == waiting["connection"]:
        raise KsshError("this is the connection that made the change: confirm from a new one")
    if not _remove(_path(_RECORD)):
        raise KsshError("too late: the change is being undone")
    _end(waiting)
    return str(waiting["what"])


def _reason(entry: dict[str, Any]) -> str:
    why = entry.get("why")
    return f" ({printable(why)})" if isinstance(why, str) and why else ""


def _waiting(name: str) -> dict[str, Any] | None:
    """Return the record of a change, None if there is none or its process is gone."""
    entry = _read(_path(name))
    return entry if entry is not None and records.is_alive(entry) else None


def _read(path: str) -> dict[str, Any] | None:
    """Return a record, None if there is none that we wrote: what it names is ended by a signal."""
    try:
        entry = json.loads(files.read(path, _LARGEST_BYTES) or b"null")
    except ValueError:
        return None
    if not isinstance(entry, dict):
        return None
    return entry if all(isinstance(entry.get(name), kind) for name, kind in _FIELDS.items()) else None


def _remove(record: str) -> bool:
    """Take the record away; only one of those who try can."""
    try:
        os.unlink(record)
    except OSError:
        return False
    return True


def _end(entry: dict[str, Any]) -> None:
    """End the process that waits: its record is gone, so that it undoes nothing."""
    try:
        records.send({**entry, "name": entry["what"]}, signal.SIGTERM)
    except KsshError:
        pass  # it finds no record when its time is up


def _clock(wall: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(wall))
