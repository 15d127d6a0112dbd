"""Where kssh's own words go: standard error, a file, syslog; and the hook program.

Knows descriptors, files and syslog.  Must not know when something is worth saying.
"""

from __future__ import annotations

import os
import signal
import stat
import syslog
import time
from collections.abc import Callable, Mapping

from . import files
from .errors import BadValue, printable
from .settings import LOG_LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

QUIET, ERROR, INFO, VERBOSE, DEBUG = range(len(LOG_LEVELS))
LEVELS = {name: level for level, name in enumerate(LOG_LEVELS)}
_SYSLOG_PRIORITIES = {
    ERROR: syslog.LOG_ERR,
    INFO: syslog.LOG_INFO,
    VERBOSE: syslog.LOG_INFO,
    DEBUG: syslog.LOG_DEBUG,
}
MOST_HOOKS = 8  # running or waiting; a hook that hangs must not pile up
HOOK_PATIENCE_S = 30.0  # a hook that runs for longer is not waited for


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
        self._file: int | None = None
        self.path = ""
        self._syslog = False
        self.detached = False
        if path:
            try:
                self.path = os.path.abspath(path)  # -f changes the directory
                self._file = open_log(path)
            except OSError as error:
                raise BadValue("KSSH_LOGFILE", path, f"a file to append to ({error.strerror})") from error

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
            stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z")
            _write(self._file, f"{stamp} kssh[{os.getpid()}]: {text}\n")
        elif self._on_terminal is None or self.detached:
            if self.detached or not can_be_read(2):
                self._to_syslog(level, text)
            else:
                _write(2, f"kssh: {text}\n")

    def quote(self, text: str) -> None:
        """Write a line of ssh's own."""
        self.write(VERBOSE, text)

    def _follow(self, present: int) -> None:
        """Open the file anew if it was renamed or removed, as logrotate(8) does; else stay with it."""
        # Descriptors have names there, and may mean something else by now.
        if self.path.startswith(("/dev/", "/proc/")):
            return
        try:
            there = os.stat(self.path)
            if os.path.samestat(there, os.fstat(present)) or not stat.S_ISREG(there.st_mode):
                return
        except FileNotFoundError:
            pass
        except OSError:
            return
        try:
            self._file = open_log(self.path)
        except OSError:
            return  # the old one is better than none
        os.close(present)

    def _to_syslog(self, level: int, text: str) -> None:
        if not self._syslog:
            syslog.openlog("kssh", syslog.LOG_PID, syslog.LOG_DAEMON)
            self._syslog = True
        syslog.syslog(_SYSLOG_PRIORITIES[level], text)

    def close(self) -> None:
        """Close the file and syslog."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._syslog:
            syslog.closelog()


def open_log(path: str) -> int:
    """Open a log file to append to, private if it is new, as log.c does.  Raises OSError."""
    with files.exact_modes():
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY, 0o600)


def _write(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # a full disk or a reader that left must not cost the link


def can_be_read(fd: int) -> bool:
    """Tell whether what is written to a descriptor can reach anybody: it is open and not /dev/null."""
    try:
        return os.fstat(fd).st_rdev != os.stat(os.devnull).st_rdev
    except OSError:
        return False


class SshLines:
    """Where the user wanted ssh's own log lines: their -E file or -y, in ssh's place."""

    def __init__(self, path: str | None) -> None:
        """Open the user's -E file, or syslog for None.  Raises OSError."""
        self._fd = None if path is None else open_log(path)

    def write(self, line: bytes) -> None:
        """Write one line as ssh would have."""
        if self._fd is None:
            syslog.openlog("ssh", syslog.LOG_PID, syslog.LOG_USER)
            syslog.syslog(syslog.LOG_INFO, printable(os.fsdecode(line)))
            syslog.closelog()
            return
        try:
            os.write(self._fd, line + b"\r\n")
        except OSError:
            pass


class Hook:
    """KSSH_HOOK: a program told of up, down, retry and gave-up; it never holds the link up.

    One runs after the other, so that a program which keeps a state hears of things in their order;
    one that hangs is not waited for.
    """

    def __init__(self, program: str) -> None:
        """Check the program.  Raises BadValue if it cannot be run."""
        self._program = program
        self._running: list[subprocess.Popen[bytes]] = []
        self._waiting: list[Mapping[str, str]] = []
        self._last_started = 0.0
        if not program:
            return
        try:
            self._program = os.path.abspath(program)
        except OSError:
            pass  # a relative path, and the working directory is gone
        if not (os.path.isfile(program) and os.access(program, os.X_OK)):
            raise BadValue("KSSH_HOOK", program, "a program that can be run, with its path")

    def run(self, facts: Mapping[str, str]) -> str | None:
        """Start the program with facts in its environment; return None, or why it was not started."""
        if not self._program:
            return None
        if len(self._running) + len(self._waiting) >= MOST_HOOKS:
            return f"hook not run: {MOST_HOOKS} are still running or waiting"
        self._waiting.append(facts)
        return self.reap()

    def reap(self) -> str | None:
        """Collect programs that have ended and start the next; return None, or why that failed."""
        if not self._program:
            return None
        self._running = [process for process in self._running if process.poll() is None]
        hangs = time.monotonic() - self._last_started > HOOK_PATIENCE_S
        return self._start_next() if not self._running or hangs else None

    def _start_next(self) -> str | None:
        import subprocess  # 4 ms and 1 MB, only where there is a hook

        if not self._waiting:
            return None
        facts = self._waiting.pop(0)
        self._last_started = time.monotonic()
        try:
            process = subprocess.Popen(
                [self._program, facts["KSSH_EVENT"]],
                env={**os.environ, **facts},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            return f"hook not run: {error.strerror}"
        self._running.append(process)
        return None

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [process.pid for process in self._running]

    @property
    def is_waiting(self) -> bool:
        """Whether something waits behind a hook that runs."""
        return bool(self._waiting)

    def disown(self) -> None:
        """Start what still waits and leave it all to the system: kssh ends, and they go on."""
        while self._waiting:
            self._start_next()
        for process in self._running:
            process.returncode = -signal.SIGCHLD  # no warning that it was left unreaped
        self._running = []
