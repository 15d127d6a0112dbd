"""KSSH_HOOK: the user's program that is told what happens to a link.

Knows processes.  Must not know what is worth telling.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess

MOST = 8  # running or waiting; a hook that hangs must not pile up
PATIENCE_S = 30.0  # a hook that runs for longer is not waited for


class Hook:
    """A program told of up, down, retry and gave-up; it never holds the link up.

    One runs after the other, so that a program which keeps a state hears of things in their order;
    one that hangs is not waited for.
    """

    def __init__(self, program: str) -> None:
        """Check the program.  Raises BadValue if it cannot be run."""
        self._program = checks.hook(program) if program else ""
        self._running: list[subprocess.Popen[bytes]] = []
        self._waiting: list[Mapping[str, str]] = []
        self._last_started = 0.0

    def run(self, facts: Mapping[str, str]) -> str | None:
        """Start the program with facts in its environment; return None, or why it was not started."""
        if not self._program:
            return None
        if len(self._running) + len(self._waiting) >= MOST:
            return f"hook not run: {MOST} are still running or waiting"
        self._waiting.append(facts)
        return self.reap()

    def reap(self) -> str | None:
        """Collect programs that have ended and start the next; return None, or why that failed."""
        if not self._program:
            return None
        self._running = [process for process in self._running if process.poll() is None]
        hangs = time.monotonic() - self._last_started > PATIENCE_S
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
