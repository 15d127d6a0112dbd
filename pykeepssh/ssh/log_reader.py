"""Reads ssh's log, and what is printed where no log goes: one message in, facts out.

A server can write lines that look like ssh's own.  Where they cannot be told apart (messages.py), a LATE row
counts only once it is proven that ssh has authenticated.  Phases only go forward, an address counts
only until the connection stands, and no cause is kept once the session begins: so a server that lies
can end its own link, and do nothing more.
"""

from __future__ import annotations

import re

from . import log_rows
from .evidence import AUTHENTICATED, DENIED, HOST_KEY, UNREACHABLE, Evidence
from .levels import VERBOSE, level_and_text
from .log_rows import MOST_CHARS, Reading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# How ssh tells that its jump host has failed it; the second up to OpenSSH 8.0.
_SAID_OF_A_JUMP = (" UNKNOWN port ", "ssh_exchange_identification: ")
_JUMP_ROWS = (
    (re.compile(r"\S+@[^\s@]+: Permission denied \("), DENIED),
    (re.compile(r"Host key verification failed\."), HOST_KEY),
)

# Lines that tell why, where the last one only tells what.
_REMARKS = re.compile(
    r".{1,200}? line \d+: |Permissions \d+ for |Load key |Bad owner or permissions on "
    r"|Warning: Identity file |sign_and_send_pubkey: |Host key for |No \S+ host key is known for "
    r"|bind(?: \[|: )|(?:\w+: )?cannot bind to path |Error: forwarding disabled |Tunnel device open failed"
)
_MOST_REMARKS, _MOST_PRINTED = 3, 3


class LogReader:
    """Reads what one run of ssh says; what that proves is in evidence."""

    def __init__(self, proof: Callable[[], bool] = lambda: True) -> None:
        """Know nothing yet; proof tells whether ssh has authenticated, by what no server can forge."""
        self.evidence = Evidence()
        self._reading = Reading(self.evidence)
        self._proof = proof
        self._part = ""  # of a line that was printed
        self._blamed = False  # ssh could only tell that the connection ended
        self._jump_error = ""

    def feed(self, line: str, certain: bool = True) -> None:
        """Take in one message of the log, without its line end.

        certain  no server can have written it; else what only an authenticated server may cause
                 counts once it is proven that there is one
        """
        self.evidence.spoke = True
        level, text = level_and_text(line)
        if level < VERBOSE:
            self.evidence.error = text
            self._blamed = any(words in text for words in _SAID_OF_A_JUMP)
            self._blame_jump()
            self._remark(text)
        rows, late_rows = log_rows.rows(level)
        for pattern, learn in rows:
            match = pattern.match(text)
            if match:
                learn(self._reading, match)
                return
        for pattern, learn in late_rows:
            match = pattern.match(text)
            if match:
                if certain or self._is_authenticated():
                    learn(self._reading, match)
                elif learn in log_rows.TELL_OF_A_SESSION:
                    self.evidence.may_have_begun = True
                return

    def _is_authenticated(self) -> bool:
        if not self._reading.proven and self._proof():
            self._reading.proven = True
            self.evidence.reach(AUTHENTICATED)
        return self._reading.proven

    def feed_printed(self, text: str) -> None:
        """Take in what came where no log goes: of ssh before it has one, of a ProxyCommand, of a jump host.

        text is any part of that; a line end alone ends a line that nobody ended.  Of a jump host that
        fails ssh itself only sees the connection end.  A server could print the same to end its own
        link, and no other.
        """
        *lines, part = (self._part + text).split("\n")
        self._part = part[:MOST_CHARS]
        for line in filter(None, (line.strip()[:MOST_CHARS] for line in lines)):
            if line[-1] not in ":?":  # a question without its answer
                self._printed_line(line)

    def _printed_line(self, line: str) -> None:
        for pattern, cause in _JUMP_ROWS:
            if self.evidence.cause in (None, UNREACHABLE) and pattern.match(line):
                self.evidence.cause = cause
        self.evidence.printed = [*self.evidence.printed, line][-_MOST_PRINTED:]
        self._remark(line)
        if line.startswith("ssh: "):
            self._jump_error = line
        self._blame_jump()

    def _blame_jump(self) -> None:
        if self._blamed and self.evidence.printed:
            self.evidence.error = self._jump_error or "; ".join(self.evidence.printed)

    def _remark(self, text: str) -> None:
        if _REMARKS.match(text):
            text = text[:MOST_CHARS]
            others = [remark for remark in self.evidence.remarks if remark != text]
            self.evidence.remarks = [*others, text][-_MOST_REMARKS:]


def tells(line: str) -> bool:
    """Tell whether there is a fact in a message, if ssh wrote it."""
    level, text = level_and_text(line)
    return any(pattern.match(text) for rows in log_rows.rows(level) for pattern, _ in rows)
