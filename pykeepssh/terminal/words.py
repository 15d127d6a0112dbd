"""Where ssh's words go that are not shown on a terminal: the user's -E or -y, standard error, kssh's log.

Knows how many may be said in a time.  Must not know what they mean.
"""

from __future__ import annotations

import os
import time

from ..errors import printable
from ..link.allowance import Allowance
from ..ssh.levels import DEBUG1
from ..ssh.messages import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..system.log import Log, SshLines

LINE_END = b"\r\n"
# How many lines of ssh's are shown at once, and how many a second after that: a server can have it say more
# than anybody reads.  ssh says 5 lines as a rule, 300 with -vvv, and one for each connection through a
# forward that cannot be made.
_LINES_AT_ONCE = 4000
_LINES_PER_S, _DEBUG_LINES_PER_S = 10, 400


class Words:
    """What ssh says, line by line.

    user_lines  the user's -E or -y, or None
    """

    def __init__(self, host: str, log: Log, level: int) -> None:
        """Say nothing yet.

        host   where the link goes
        log    kssh's own log, which takes them once standard error is no longer the caller's
        level  lines of ssh's log above this one are not for the user (levels.LEVELS)
        """
        self.user_lines: SshLines | None = None
        self._host = host
        self._log = log
        self._allowance = Allowance(_LINES_AT_ONCE, _DEBUG_LINES_PER_S if level >= DEBUG1 else _LINES_PER_S)
        self._line_begun = False  # the beginning of one was said

    @property
    def go_elsewhere(self) -> bool:
        """Whether the log's lines go where no terminal is."""
        return self.user_lines is not None or self._log.detached

    def may_say(self) -> bool:
        """Tell whether one more line is said; say before it how many were not."""
        if not self._allowance.take(time.monotonic()):
            return False
        self.say_refused()
        return True

    def say_refused(self) -> None:
        """Say how many lines were left out since this was said last."""
        refused = self._allowance.refused()
        if refused:
            lines = "1 line" if refused == 1 else f"{refused} lines"
            self._log.write_error(f"{self._host}: {lines} from ssh left out: they came too fast")

    def say_line(self, line: bytes) -> None:
        """Say a line of ssh's log."""
        if self.user_lines is not None:
            self.user_lines.write(line)
        elif self._log.detached:
            self._quote(line)
        else:
            self._log.stderr.write(line + LINE_END)

    def say_printed(self, data: bytes) -> None:
        """Say what ssh printed, line by line."""
        *lines, last = (line.rstrip(b"\r") for line in data.split(b"\n"))  # the pty adds one to ssh's own
        if lines and self._line_begun and not lines[0]:
            del lines[0]  # its end alone: what stands before it has been said
        self._line_begun = bool(last)
        for line in [*lines, last] if last else lines:
            if not self.may_say():
                continue
            if self._log.detached:
                self._quote(line)
            else:
                text = shown(printable(os.fsdecode(line)))
                self._log.stderr.write(f"{text}\n".encode("utf-8", "backslashreplace"))

    def begin(self) -> None:
        """Another ssh speaks."""
        self._line_begun = False

    def complain(self, text: str) -> None:
        """Write a line of kssh's own to standard error."""
        self._log.complain(text)

    def _quote(self, line: bytes) -> None:
        self._log.quote(f"{self._host}: ssh: {printable(os.fsdecode(line))}")
