"""How much may be said in a time: so much at once, then so much a second; the rest is counted.

A server can have ssh say more than anybody reads.  Knows numbers alone: times are handed in.
"""

from __future__ import annotations


class Allowance:
    """A token bucket."""

    def __init__(self, at_once: float, per_s: float) -> None:
        """Let at_once pass, then as many as come with per_s, a second's worth together."""
        self._at_once, self._per_s = at_once, per_s
        self._left = at_once
        self._least = 1.0
        self._then = 0.0
        self._refused = 0

    def take(self, now: float) -> bool:
        """Tell whether one more may pass; now is in monotonic seconds."""
        self._left = min(self._at_once, self._left + max(0.0, now - self._then) * self._per_s)
        self._then = now
        if self._left < self._least:
            self._least = max(
                1.0, self._per_s
            )  # so that what was refused is said once a second, not between all
            self._refused += 1
            return False
        self._least = 1.0
        self._left -= 1
        return True

    def refused(self) -> int:
        """Return how many did not pass since this was asked last."""
        refused, self._refused = self._refused, 0
        return refused
