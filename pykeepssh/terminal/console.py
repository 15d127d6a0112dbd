"""What a person sees and types between two sessions: status line, countdown, keys.

Knows words and screens.  Must not know what becomes of a link: it is told, and says what a key means.
"""

from __future__ import annotations

import math
import time

from ..link import wording
from ..link.keys import Keys
from ..link.kinds import SHELL
from ..link.outcomes import ENDED, FINISHED, GAVE_UP, LOST, NOT_RESUMED, RETRY, UP, Report
from ..ssh.escapes import NOTHING, QUIT, RETRY_NOW, SUSPEND_JOB
from . import modes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..system.loop import Loop
    from .screen import Screen

_KEYS = {b"\r": RETRY_NOW, b"\n": RETRY_NOW, b"\x03": QUIT, b"\x1a": SUSPEND_JOB}
SILENT_S = 1.5  # an echo that takes longer than this may never come
STALL_S = 6.0  # an echo that takes longer than this is no slow line any more
_MOST_HELD_LINES = 50
_LINE_END = b"\r\n"

# Timers on the loop.
_COUNTDOWN = "countdown"
_STALL = "stall"


class Console:
    """The person's side of a link.

    has_session  its session is on the terminal; if not, there is nothing to show here and no key to take
    waits        a session is gone and the next is not there: keys are for kssh
    covered      what ssh said of its end was said on a screen that is gone
    """

    def __init__(
        self,
        screen: Screen,
        loop: Loop,
        host: str,
        has_session: bool,
        bell: bool,
        stall_notice: bool,
        silent: Callable[[], None],
    ) -> None:
        """Show things about a host on a screen.

        bell, stall_notice  the user's wishes
        silent              is called when something was typed and nothing came back for a while
        """
        self.has_session = has_session
        self.waits = self.covered = False
        self._screen = screen
        self._loop = loop
        self._host = host
        self._bell = bell
        self._stall_notice = stall_notice
        self._silent = silent
        self._retry = Report(RETRY)  # what the status line tells
        self._retry_at = 0.0  # when ssh is started next (monotonic), or infinity
        self._lost_s: float | None = None  # how long the session had lasted that was lost
        self._connecting = False
        self._held_lines: list[bytes] = []  # ssh's words about a retry, of use only if it is the last
        self._dropped = False
        self._stream = Keys()
        self._typed_at: float | None = None  # typed, and not a byte came back since

    # -- telling ---------------------------------------------------------------------------------

    def tell(self, report: Report) -> bool:
        """Show a Report; return whether the person knows it all by now."""
        if report.event == UP:
            return self._tell_up(report)
        if report.outcome == FINISHED or not self.has_session:
            return False
        self.covered = self._screen.undo_modes() or (self.covered and report.event == GAVE_UP)
        if report.event == RETRY:
            self._tell_retry(report)
            return True
        self._screen.clear_status()
        if report.event == GAVE_UP:
            self._show_held_lines()
            self._screen.terminal.drop_input = self.waits or report.session_s is not None
        if not self.waits or report.event not in (GAVE_UP, ENDED):
            return False
        # What was in the status line is said for good: the session that was lost, and the end.
        if report.event == ENDED and not report.reason:
            report = self._retry._replace(event=ENDED)
        elif report.event == GAVE_UP and self._lost_s is not None:
            report = report._replace(outcome=LOST, session_s=self._lost_s)
        self._screen.line(f"kssh: {self._host}: {wording.line(report, SHELL)}")
        self.close()  # a countdown that is due in this very turn must not write below it
        return True

    def _tell_up(self, report: Report) -> bool:
        if not self.waits:
            return False
        self._show_held_lines()  # such as a forward's that could not be had this time
        self._screen.line(wording.back(report, self._retry, self._host, self._dropped), good=True)
        if self._bell and self._retry.outcome != NOT_RESUMED:
            self._screen.bell()
        self.waits, self._lost_s, self._dropped = False, None, False
        return True

    def _tell_retry(self, report: Report) -> None:
        if self._lost_s is None:
            self._lost_s = report.session_s
        if self._lost_s is not None:
            report = report._replace(outcome=LOST, session_s=self._lost_s)
        assert report.delay_s is not None
        self._retry, self._retry_at = report, time.monotonic() + report.delay_s
        self.waits, self._connecting = True, False
        self._held_lines.clear()
        if report.delay_s:
            self.show_status()

    def connecting(self) -> None:
        """ssh was started again."""
        if self.waits:
            self._connecting = True
            if not self._screen.is_dumb:
                self.show_status()

    def show_status(self) -> None:
        """Show, in one place, what kssh waits for, and count down; nothing if it does not wait."""
        if not self.waits:
            return
        left_s = None if self._connecting else max(0.0, self._retry_at - time.monotonic())
        self._screen.status(wording.status(self._retry, self._host, left_s, self._screen.columns))
        if left_s and left_s != math.inf and not self._screen.is_dumb:
            self._loop.arm(_COUNTDOWN, left_s % 1.0 or 1.0, self._count_down)  # at the next whole second

    def _count_down(self) -> None:
        if not self._connecting:
            self.show_status()

    def settle(self) -> None:
        """Leave the status line where it is, and what ssh said meanwhile below it: ssh asks something."""
        if self.waits:
            if self._screen.has_status:
                self._screen.clear_status(wording.status(self._retry, self._host, None, self._screen.columns))
            self._show_held_lines()

    def hold_line(self, line: bytes) -> None:
        """Keep a line of ssh's about a retry: the status line says what matters of it."""
        self._held_lines = [*self._held_lines[1 - _MOST_HELD_LINES :], line]

    def _show_held_lines(self) -> None:
        for line in self._held_lines:
            self._screen.relay(line + _LINE_END)
        self._held_lines.clear()

    def close(self) -> None:
        """All is over, or the terminal is gone: show nothing more."""
        self.waits = False
        for timer in (_COUNTDOWN, _STALL):
            self._loop.disarm(timer)

    # -- keys ------------------------------------------------------------------------------------

    def key(self, data: bytes) -> str:
        """Return what was meant by something typed while there is no session (escapes)."""
        if modes.is_report(data):
            return NOTHING  # the terminal's own word, not the person's
        of_old = self._stream.is_rest(data, time.monotonic(), session=False)
        if self._stream.pasting:
            self._dropped = True
            return NOTHING
        key = data[:1] if len(set(data)) == 1 else data  # held down, or pressed again and again
        interrupt, suspend = self._screen.terminal.signal_characters()
        meaning = _KEYS.get(key, QUIT if key in interrupt else NOTHING)
        if key in suspend:
            meaning = SUSPEND_JOB
        if meaning == NOTHING:
            self._dropped = True
            self._stream.threw()
        elif not of_old:
            self._stream.forget()
        return meaning

    def is_rest(self, data: bytes) -> bool:
        """Tell whether what is typed to a session goes on with what was typed to a dead one, or to none."""
        return not modes.is_report(data) and self._stream.is_rest(data, time.monotonic())

    def rest_s(self) -> float:
        """Return for how many seconds what is typed is not yet for whoever gets the terminal."""
        return self._stream.rest_s(time.monotonic()) if self._screen.terminal.drop_input else 0.0

    # -- a silent link ---------------------------------------------------------------------------

    def typed(self, data: bytes) -> None:
        """Something was typed to the session: an answer is due, but to what the terminal says by itself."""
        if modes.is_report(data):
            return
        if self._typed_at is None:
            self._typed_at = time.monotonic()
            self._loop.arm(_STALL, SILENT_S, self._has_stalled)

    def _has_stalled(self) -> None:
        self._silent()
        if self._stall_notice:
            self._loop.arm(_STALL, STALL_S - SILENT_S, self._show_stall)

    def answered(self) -> None:
        """Something came from the session."""
        if self._typed_at is not None:
            self._typed_at = None
            self._loop.disarm(_STALL)
            self._screen.title("")

    def session_gone(self, began: bool) -> None:
        """ssh has ended, and the session if it began: what was typed and not answered is lost."""
        if self._typed_at is not None:
            self._dropped = True
        if began and self.has_session:
            self._stream.lost(time.monotonic(), self._screen.terminal.waiting_bytes())
        self.answered()

    def _show_stall(self) -> None:
        """Say in the window's title that nothing comes back; it goes with the next byte."""
        if self._typed_at is not None:
            silent_s = round(time.monotonic() - self._typed_at)
            self._screen.title(f"kssh: {self._host}: no answer for {wording.duration(silent_s)}")
            self._loop.arm(_STALL, 1.0, self._show_stall)
