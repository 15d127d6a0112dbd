"""The links of a user: their records read, checked against the processes that run, and cleaned.

Knows the state directory and processes.  Must not know what is shown of them.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import pwd
import signal
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import psutil

from ..errors import KsshError, Unusable, printable
from ..link import history, record
from ..system import files, state, this_host
from . import overview

# For systems without a mark (this_host.process_mark): psutil computes start times from clock ticks and,
# where the clock is disciplined, from a boot time that moves by a fraction of a second.
_SAME_START_S = 1.0
_STALE_S = 60.0  # a file that was being written for so long has lost its writer
_MARK_OF_BOOT = ":"
_HISTORY = ".history"


class Unknown(KsshError):
    """A name that means no link, or several."""


class Link(NamedTuple):
    """A link that runs: its record, and the file that holds it."""

    name: str
    record: dict[str, Any]
    path: str


class State(NamedTuple):
    """What a user's state directories hold.

    links      that run on this machine, by name
    elsewhere  records of other machines that share the directory; whether they run is not known here
    histories  name: file, of links that run and of links that ran
    left_alone why a directory is not read: it is somebody else's, or others may write to it; or None
    """

    links: dict[str, Link]
    elsewhere: list[dict[str, Any]]
    histories: dict[str, str]
    left_alone: str | None

    def find(self, word: str) -> Link:
        """Return the link that a word means.  Raises Unknown."""
        found = overview.matching(word, {n: link.record["destination"] for n, link in self.links.items()})
        if len(found) == 1:
            return self.links[found[0]]
        raise Unknown(self._why(word, found))

    def find_history(self, word: str) -> str:
        """Return the name of the link with a history that a word means.  Raises Unknown."""
        running = {n: link.record["destination"] for n, link in self.links.items() if n in self.histories}
        found = overview.matching(word, running)
        found = found or overview.matching(word, dict.fromkeys(self.histories, ""))
        if len(found) == 1:
            return found[0]
        raise Unknown(self._why(word, found))

    def _why(self, word: str, found: list[str]) -> str:
        shown = printable(word)
        if found:
            return f"{shown}: matches several links: {', '.join(map(printable, sorted(found)))}"
        names = {overview.link_id(other): other for other in self.elsewhere}
        there = overview.matching(word, {name: other["destination"] for name, other in names.items()})
        if there:
            return f"{shown}: runs on {printable(names[there[0]]['machine'])}; ask ksshctl there"
        return f"{shown}: no such link" + (f"; {self.left_alone}" if self.left_alone else "")


def add_user(parser: argparse.ArgumentParser) -> None:
    """Add --user to a verb's options."""
    parser.add_argument("--user", metavar="USER", help="use the links of another user (root only)")


def become_user(name: str | None) -> None:
    """Become another user for good, so that what that user's files say can do no harm.

    Raises KsshError if this may not be done.
    """
    if name is None:
        return
    try:
        entry = pwd.getpwnam(name)
    except KeyError as error:
        raise Unusable(f"--user {printable(name)}: no such user") from error
    if entry.pw_uid == os.getuid():
        return
    if os.geteuid() != 0:
        raise KsshError(f"--user {printable(name)}: only root may do that")
    from . import tables

    tables.load()
    os.initgroups(name, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    # What root's environment says is about root's links.
    os.environ["HOME"] = entry.pw_dir
    os.environ.pop("KSSH_STATE_DIR", None)


def read() -> State:
    """Return what runs, and remove what dead processes left.  Raises KsshError."""
    links: dict[str, Link] = {}
    elsewhere: list[dict[str, Any]] = []
    histories: dict[str, str] = {}
    folders, left_alone = state.existing_directories(os.environ.get("KSSH_STATE_DIR", ""))
    for folder in folders:
        names = _list(folder)
        for name in names:
            if name.endswith(".json"):
                path = os.path.join(folder, name)
                data = files.read(path, record.MOST_BYTES)
                found = record.unpack(data) if data is not None else None
                if found is None:
                    continue  # gone meanwhile, or of a version that is not ours to judge
                if not is_here(found):
                    elsewhere.append(found)
                elif is_alive(found) or not _clean(path, data):
                    links[overview.link_id(found)] = Link(overview.link_id(found), found, path)
        histories.update(_histories(folder, names))
        if not elsewhere:
            _clean_leftovers(folder, names)
    return State(dict(sorted(links.items())), elsewhere, histories, left_alone)


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise KsshError(f"cannot read {printable(folder)}: {error.strerror}") from error


def _histories(folder: str, names: list[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        for start in (f"{this_host.name()}.", f"{this_host.key()}."):  # of an older kssh, and now
            if name.startswith(start) and name.endswith(_HISTORY):
                yield name[len(start) : -len(_HISTORY)], os.path.join(folder, name)


def read_history(path: str) -> list[history.Entry]:
    """Return the events of a history that this version can read, the oldest first."""
    data = files.read(path, 2 * state.HISTORY_BYTES) or b""
    return [entry for entry in map(history.unpack, data.splitlines()) if entry is not None]


# Processes.


def is_here(found: dict[str, Any]) -> bool:
    """Tell whether a record is of this machine: by its id, or by this boot.

    Older records tell only the host name, which others may have.
    """
    key = found["machine_key"]
    if key == this_host.key() or (not key and found["machine"] == this_host.name()):
        return True
    boot = this_host.process_mark(os.getpid()).partition(_MARK_OF_BOOT)[0]
    return bool(boot) and found["pid_mark"].partition(_MARK_OF_BOOT)[0] == boot


def is_alive(found: dict[str, Any]) -> bool:
    """Tell whether the process that wrote a record runs: its pid, started when the record says."""
    pid = found["pid"]
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or process.uids().real != os.getuid():
            return False
        mark = this_host.process_mark(pid)
        if mark and found["pid_mark"]:
            return bool(mark == found["pid_mark"])
        return bool(abs(process.create_time() - found["pid_started"]) <= _SAME_START_S)
    except psutil.AccessDenied:
        return True  # it is there, and nothing says that it is another
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False


def send(found: dict[str, Any], signum: signal.Signals) -> bool:
    """Send a signal to the process that wrote a record; return False if it is gone.

    On Linux nothing can take its place between the check and the signal (pidfd_open(2)).
    Raises KsshError if it may not be sent.
    """
    pid = found["pid"]
    fd = -1
    try:
        with contextlib.suppress(AttributeError):  # Linux only
            fd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):
            return False
    try:
        if not is_alive(found):
            return False
        if fd >= 0:
            signal.pidfd_send_signal(fd, signum)
        else:
            os.kill(pid, signum)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise KsshError(f"{printable(found['name'])}: process {pid}: {error.strerror}") from error
    finally:
        if fd >= 0:
            os.close(fd)
    return True


def out_of_sight(link: Link) -> bool:
    """Tell whether somebody holds a link whose process cannot be seen from here; else it is gone."""
    return not is_alive(link.record) and not _clean(link.path, files.read(link.path, record.MOST_BYTES))


# What dead processes left.


def _clean(path: str, data: bytes | None) -> bool:
    """Remove the record of a dead process and its lock; return False if somebody holds the lock.

    A kssh of the same name that starts meanwhile waits for the lock, so its record is not removed.
    """
    lock_path = f"{path.removesuffix('.json')}.lock"
    if not os.path.lexists(lock_path):
        if files.read(path, record.MOST_BYTES) == data:
            files.remove(path)
        return True
    lock = state.Lock(lock_path)
    try:
        if lock.acquire(0) is not None:
            return False  # in a container of this machine, say, whose pids are not ours
    except OSError:
        return True
    if files.read(path, record.MOST_BYTES) == data:
        files.remove(path)
    lock.release()
    return True


def _clean_leftovers(folder: str, names: list[str]) -> None:
    """Remove locks that nobody holds and files that were never finished."""
    for name in names:
        path = os.path.join(folder, name)
        if not state.is_ours(name):
            continue
        if name.endswith(".lock") and name.removesuffix(".lock") + ".json" not in names:
            lock = state.Lock(path)
            with contextlib.suppress(OSError):
                if lock.acquire(0) is None:
                    lock.release()
        elif name.endswith(".new"):
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_mtime > _STALE_S:
                    files.remove(path)
