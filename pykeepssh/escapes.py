"""The escape sequences that ssh understands in what the user types: "~." and "~^Z".

Knows clientloop.c's process_escapes: an escape character counts at the beginning of a line, and
the next character says what is meant.  Must not know what kssh does about it.
"""

from __future__ import annotations

LEAVE = "leave"
SUSPEND = "suspend"

_NEWLINES = b"\r\n"
_MEANINGS = {ord("."): LEAVE, 0x1A: SUSPEND}
# Commands that send nothing on; behind them it is still the beginning of a line.
_CONSUMED = b"\x1aBCRVv&?#"


class Escapes:
    """Follows the state of ssh's own escape handling over the bytes that it is sent."""

    def __init__(self, escape: int | None) -> None:
        """Follow an escape character given as a byte value, or none at all."""
        self._escape = escape
        self._pending = False
        self._line_start = True

    def feed(self, data: bytes) -> list[str]:
        """Take in typed bytes; return LEAVE and SUSPEND in the order in which they were typed."""
        if self._escape is None or not data:
            return []
        if not self._pending and self._escape not in data:
            self._line_start = data[-1] in _NEWLINES
            return []
        meant = []
        for byte in data:
            if self._pending:
                self._pending = False
                if byte in _MEANINGS:
                    meant.append(_MEANINGS[byte])
                if byte in _CONSUMED:
                    continue
            elif self._line_start and byte == self._escape:
                self._pending = True
                continue
            self._line_start = byte in _NEWLINES
        return meant


def parse(value: str) -> int | None:
    """Return the byte of an EscapeChar as "ssh -G" or -e writes it: "~", "^A" or "none"."""
    if len(value) == 1:
        return ord(value) & 0xFF
    if len(value) == 2 and value[0] == "^":
        return ord(value[1]) & 0x1F
    return None
