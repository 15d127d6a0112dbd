"""One poll(2) loop: descriptors, timers, signals.

Knows how to wait.  Must not know what it waits for.  With nothing to do it sleeps without end: an
idle link costs no wake-up.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

READ = select.POLLIN
WRITE = select.POLLOUT
_LONGEST_MS = 2**31 - 1


def _noticed(signum: int, frame: FrameType | None) -> None:
    """Do nothing: the interpreter has already written the number to the wake-up pipe."""


class Loop:
    """Callbacks for descriptors that are ready, timers that are due and signals that came."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}
        self._timers: dict[str, tuple[float, Callable[[], None]]] = {}
        self._signals: dict[int, Callable[[], None]] = {}
        self._before: dict[int, object] = {}
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        self._wakeup_before = signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._poll.register(self._wake_read, READ)

    def watch(self, fd: int, mask: int, ready: Callable[[int], None]) -> None:
        """Call ready(events) when a descriptor is ready for READ, WRITE or both; mask 0 forgets it."""
        known = self._watched.get(fd)
        if known is None:
            if not mask:
                return
            self._poll.register(fd, mask)
        elif not mask:
            self.forget(fd)
            return
        elif known[0] != mask:
            self._poll.modify(fd, mask)
        elif known[1] == ready:
            return
        self._watched[fd] = (mask, ready)

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more; it need not have been watched."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def arm(self, timer: str, delay_s: float, due: Callable[[], None]) -> None:
        """Call due once after delay_s seconds, in place of the same timer armed before."""
        self._timers[timer] = (time.monotonic() + delay_s, due)

    def disarm(self, timer: str) -> None:
        """Forget a timer; it need not be armed."""
        self._timers.pop(timer, None)

    def is_armed(self, timer: str) -> bool:
        """Tell whether a timer is armed."""
        return timer in self._timers

    def left_s(self, timer: str) -> float | None:
        """Return the seconds until a timer is due, or None if it is not armed."""
        armed = self._timers.get(timer)
        return None if armed is None else max(0.0, armed[0] - time.monotonic())

    def on_signal(self, signum: int, came: Callable[[], None]) -> None:
        """Call came in the loop when a signal arrives."""
        self._signals[signum] = came
        before = signal.signal(signum, _noticed)
        self._before.setdefault(signum, before)

    def turn(self) -> None:
        """Wait for something and call what belongs to it."""
        wait_ms: float | None = None
        if self._timers:
            next_due = min(due for due, _ in self._timers.values())
            # Rounded up: a timer must not wake the loop before it is due.
            wait_ms = min(_LONGEST_MS, max(0, int((next_due - time.monotonic()) * 1000) + 1))
        for fd, events in self._poll.poll(wait_ms):
            if fd == self._wake_read:
                self._call_signals()
                continue
            watched = self._watched.get(fd)
            if watched is not None:  # an earlier callback of this turn may have let go of it
                watched[1](events)
        if self._timers:
            self._call_timers()

    def _call_timers(self) -> None:
        now = time.monotonic()
        for timer, (due, callback) in list(self._timers.items()):
            if due <= now and self._timers.get(timer, (None,))[0] == due:
                del self._timers[timer]
                callback()

    def _call_signals(self) -> None:
        try:
            came = os.read(self._wake_read, 4096)
        except BlockingIOError:
            return
        for signum in dict.fromkeys(came):
            callback = self._signals.get(signum)
            if callback is not None:
                callback()

    def close(self) -> None:
        """Give signals back to who had them, and close the wake-up pipe; may be called twice."""
        for signum, before in self._before.items():
            signal.signal(signum, before)  # type: ignore[arg-type]
        self._before.clear()
        if self._wake_read >= 0:
            signal.set_wakeup_fd(self._wakeup_before)
            os.close(self._wake_read)
            os.close(self._wake_write)
            self._wake_read = self._wake_write = -1
