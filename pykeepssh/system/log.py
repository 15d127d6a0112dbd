"""Where kssh's own lines go: standard error, a file, syslog; and ssh's, for the user's -E and -y.

Knows descriptors, files and syslog.  Must not know when something is worth saying.
"""

from __future__ import annotations

import os
import stat
import syslog
import time
from collections.abc import Callable

from ..errors import printable
from ..settings import LOG_LEVELS
from . import checks, files
from .sink import Sink, Syslog

QUIET, ERROR, INFO, VERBOSE, DEBUG = range(len(LOG_LEVELS))
LEVELS = {name: level for level, name in enumerate(LOG_LEVELS)}
_SYSLOG_PRIORITIES = {
    ERROR: syslog.LOG_ERR,
    INFO: syslog.LOG_INFO,
    VERBOSE: syslog.LOG_INFO,
    DEBUG: syslog.LOG_DEBUG,
}


class Log:
    """kssh's log: lines at a level, each to every place that shows it.

    path      KSSH_LOGFILE as an absolute path, or ""
    detached  standard error is no longer the caller's
    """

    def __init__(self, level: str, path: str, on_terminal: Callable[[str], None] | None) -> None:
        """Open the log.

        level        KSSH_LOGLEVEL
        path         KSSH_LOGFILE or ""
        on_terminal  shows a line to the person at the terminal, or None

        Raises BadValue if the file cannot be written.
        """
        self._level = LEVELS[level]
        self._on_terminal = on_terminal
        self._file: Sink | None = None
        self._stderr: Sink | None = None
        self._syslog = Syslog("kssh", syslog.LOG_DAEMON)
        self.path = ""
        self.detached = False
        if path:
            self._file = Sink(checks.log_file(path), lambda dropped: _stamped(_lost(dropped)), ours=True)
            self.path = os.path.abspath(path)  # the working directory may be removed

    def write(self, level: int, text: str, shown: bool = False) -> None:
        """Write one line at a level; text holds no control characters.

        shown tells that the person at the terminal has seen it already.
        """
        if level > self._level:
            return
        if self._on_terminal is not None and not self.detached and not shown:
            self._on_terminal(text)
        if self._file is not None:
            self._follow(self._file)
            self._file.write(_stamped(text))
        elif self._on_terminal is None or self.detached:
            if self.detached or not can_be_read(2):
                self._syslog.write(_SYSLOG_PRIORITIES[level], text)
            else:
                self.stderr.write(_line(text))

    def write_error(self, text: str) -> None:
        """Write a line that everybody sees."""
        self.write(ERROR, text)

    def quote(self, text: str) -> None:
        """Write a line of ssh's own."""
        self.write(VERBOSE, text)

    def complain(self, text: str) -> None:
        """Write a line to standard error, whatever the level."""
        self.stderr.write(_line(text))

    @property
    def stderr(self) -> Sink:
        """Standard error, for lines of ssh's too."""
        if self._stderr is None:
            self._stderr = Sink(2, lambda dropped: _line(_lost(dropped)))
        return self._stderr

    def sinks(self) -> list[Sink]:
        """Return what may be waiting for room."""
        return [sink for sink in (self._file, self._stderr) if sink is not None]

    def detach(self) -> None:
        """Leave the caller's standard error."""
        self.detached = True
        stderr, self._stderr = self._stderr, None
        if stderr is not None:
            stderr.close()

    def _follow(self, present: Sink) -> None:
        """Reopen the file if it was renamed or removed, as logrotate(8) does; else stay with it."""
        # Descriptors have names there, and may mean something else by now.
        if self.path.startswith(("/dev/", "/proc/")):
            return
        try:
            there = os.stat(self.path)
            if os.path.samestat(there, os.fstat(present.fd)) or not stat.S_ISREG(there.st_mode):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            present.move(files.open_log(self.path))
        except OSError:
            return  # the old one is better than none

    def close(self) -> None:
        """Close the file, standard error and syslog."""
        for sink in self.sinks():
            sink.close()
        self._file = self._stderr = None
        self._syslog.close()


def _line(text: str) -> bytes:
    return f"kssh: {text}\n".encode("utf-8", "backslashreplace")


def _stamped(text: str) -> bytes:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    return f"{stamp} kssh[{os.getpid()}]: {text}\n".encode("utf-8", "backslashreplace")


def _lost(dropped: int) -> str:
    return f"lines lost here: {dropped} (nobody read them)"


def complain(text: str) -> None:
    """Write one line of ours to standard error, which may be closed, or full and read by nobody."""
    sink = Sink(2, lambda dropped: b"")
    sink.write(_line(text))
    sink.close()


def can_be_read(fd: int) -> bool:
    """Tell whether what is written to a descriptor can reach anybody: it is open and not /dev/null."""
    try:
        return os.fstat(fd).st_rdev != os.stat(os.devnull).st_rdev
    except OSError:
        return False


class SshLines:
    """Where the user wanted ssh's own log lines: their -E file or -y, in ssh's place.

    sink  the file, which may be waiting for room, or None
    """

    def __init__(self, path: str | None) -> None:
        """Open the user's -E file, or syslog for None.  Raises OSError."""
        self.sink = None if path is None else Sink(files.open_log(path), _line_lost, ours=True)
        self._syslog = Syslog("ssh", syslog.LOG_USER)

    def write(self, line: bytes) -> None:
        """Write one line as ssh would have."""
        if self.sink is None:
            self._syslog.write(syslog.LOG_INFO, printable(os.fsdecode(line)))
        else:
            self.sink.write(line + b"\r\n")

    def close(self) -> None:
        """Close the file, or syslog."""
        if self.sink is not None:
            self.sink.close()
        self._syslog.close()


def _line_lost(dropped: int) -> bytes:
    return f"kssh: {_lost(dropped)}\r\n".encode()
