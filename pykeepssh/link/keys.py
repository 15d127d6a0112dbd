"""Which session typed keys belong to: those that go on after theirs is gone belong to nobody.

Knows pauses and pastes.  Must not know what a key means, nor what time it is.
"""

from __future__ import annotations

import math

# ctlseqs of xterm, "Bracketed Paste Mode".
_PASTE_BEGINS, _PASTE_ENDS = b"\x1b[200~", b"\x1b[201~"
# A person who types on pauses for less.
PAUSE_S = 0.5
# What comes at once was not typed key by key: it goes on with a paste only if it follows it closely.  More
# bytes than a key has, in UTF-8.
BURST_PAUSE_S = 0.15
_BURST_BYTES = 5
# The longest that a paste may stand still on its way here: an end that got lost must not lock the keyboard.
PASTE_PAUSE_S = 5.0


class Keys:
    """Follows what is typed as streams that a pause parts.

    A stream that was under way when its session was lost goes on to its pause: a paste of ten lines would
    run the last five in another shell, and in another directory.

    pasting  the stream is inside a bracketed paste
    """

    def __init__(self) -> None:
        self._at = -math.inf  # when the last one came
        self.pasting = False
        self._tail = b""  # what may be the beginning of a mark of a paste
        self._lost = False  # the stream began in a session that is gone
        self._thrown = False  # its beginning was thrown away
        self._waiting = 0  # so many bytes were typed before the loss, and are not taken yet

    def rest_s(self, now: float) -> float:
        """Return for how many seconds from now (monotonic) a key may still be for a session that is gone."""
        return self._goes_on_s(now, PAUSE_S) if self._lost or self._thrown else 0.0

    def _goes_on_s(self, now: float, pause_s: float) -> float:
        return max(0.0, self._at + (PASTE_PAUSE_S if self.pasting else pause_s) - now)

    def is_rest(self, data: bytes, now: float, session: bool = True) -> bool:
        """Take typed bytes; tell whether they are the rest of a stream that no session is there for.

        session  False: there is none, and what was thrown away since matters not yet
        """
        burst = len(data) >= _BURST_BYTES and data[:1] != b"\x1b"
        waited, self._waiting = self._waiting > 0, max(0, self._waiting - len(data))
        if not waited and not self._goes_on_s(now, BURST_PAUSE_S if burst else PAUSE_S):
            self.forget()
        rest = self._lost or (self._thrown and session)
        self._follow(data, now)
        if not rest and session:
            self._lost = self._thrown = False
        return rest

    def threw(self) -> None:
        """What was no rest meant nothing, and was thrown away."""
        self._thrown = True

    def lost(self, now: float, waiting: int) -> None:
        """The session is gone.

        waiting  so many bytes were typed and not taken: the stream has not paused, it was stopped
        """
        self._lost, self._waiting = True, waiting
        if waiting or self.pasting:
            self._at = now

    def forget(self) -> None:
        """What was typed so far is over, and what comes is another stream."""
        self._at, self._waiting = -math.inf, 0
        self.pasting = self._lost = self._thrown = False
        self._tail = b""

    def _follow(self, data: bytes, now: float) -> None:
        self._at = now
        text = self._tail + data
        began, ended = text.rfind(_PASTE_BEGINS), text.rfind(_PASTE_ENDS)
        if began != ended:
            self.pasting = began > ended
        self._tail = text[1 - len(_PASTE_BEGINS) :]
