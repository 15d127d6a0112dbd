"""What typed keys ask for; the escape sequences that ssh understands.

Knows clientloop.c's process_escapes: an escape character counts at the beginning of a line, and
the next character says what is meant.  Must not know what kssh does about it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LEAVE = "leave"  # "~.": ssh ends
SUSPEND = "suspend"  # "~^Z"
BACKGROUND = "background"  # "~&"
# Of kssh, while there is no session.
QUIT = "quit"
RETRY_NOW = "retry now"
SUSPEND_JOB = "suspend job"  # the terminal's own Ctrl-Z, also at a prompt: with the script that started kssh
NOTHING = "nothing"

_NEWLINES = b"\r\n"
_MEANINGS = {ord("."): LEAVE, 0x1A: SUSPEND, ord("&"): BACKGROUND}
# ssh cannot do these two on a pty of ours, where the kernel stops nobody and hangs up behind it:
# they are kssh's to do, and ssh never sees them.
_OURS = (SUSPEND, BACKGROUND)
# Commands that send nothing on; behind them it is still the beginning of a line.
_CONSUMED = b"\x1aBCRVv&?#"
_INFORMATION = ord("I")  # such a command since INFORMS; sent on, with the escape character, before
INFORMS = (10, 3)


class Escapes:
    """Follows ssh's own escape handling over what the user types, and takes out what ssh must not see.

    As ssh does, it holds an escape character back until the next one tells what it means.
    """

    def __init__(self, escape: int | None, version: Callable[[], tuple[int, int] | None]) -> None:
        """Follow an escape character given as a byte value, or none at all; it stands in "character".

        version  returns that of OpenSSH, or None if it is not known; asked only where it counts
        """
        self._escape = escape
        self._version = version
        self.character = b"" if escape is None else bytes((escape,))
        self.reset()

    def reset(self) -> None:
        """Forget what was typed: ssh has thrown it away."""
        self._pending = False
        self._line_start = True

    def feed(self, data: bytes) -> list[bytes | str]:
        """Take in typed bytes; return, in order, bytes for ssh and LEAVE, SUSPEND, BACKGROUND.

        LEAVE stands behind the bytes that make ssh leave.
        """
        if self._escape is None or not data:
            return [data] if data else []
        if not self._pending and self._escape not in data:
            self._line_start = data[-1] in _NEWLINES
            return [data]
        parts: list[bytes | str] = []
        held = bytearray()
        for byte in data:
            if self._pending:
                self._pending = False
                meaning = _MEANINGS.get(byte)
                if meaning not in _OURS:
                    held += bytes((self._escape, byte))
                if meaning is not None:
                    if held:
                        parts.append(bytes(held))
                        held.clear()
                    parts.append(meaning)
                if byte in _CONSUMED or (byte == _INFORMATION and self._informs()):
                    continue
            elif self._line_start and byte == self._escape:
                self._pending = True
                continue
            else:
                held.append(byte)
            self._line_start = byte in _NEWLINES
        if held:
            parts.append(bytes(held))
        return parts

    def _informs(self) -> bool:
        """Tell whether ssh takes "~I" for itself.

        Of one whose version is not known it is believed: to end once too often where the person may have
        typed "~." is better than to log in again where they have left.
        """
        version = self._version()
        return version is None or version >= INFORMS


def parse(value: str) -> int | None:
    r"""Return the byte of an EscapeChar as -e or "ssh -G" writes it: "~", "^A"; None for "none".

    With -G it went through vis(3), which puts a backslash before what cannot be seen: "\^A", "\\", "\040",
    "\M-x", "\M^A".
    """
    quoted = len(value) > 1 and value[0] == "\\"
    meta = 0
    if quoted:
        value = value[1:]
        if len(value) == 3 and value.isdigit():
            return int(value, 8) & 0xFF
        if len(value) > 1 and value[0] == "M":
            meta, value = 0x80, value[2:] if value[1] == "-" else value[1:]
    if len(value) == 1:
        return ord(value) & 0xFF | meta
    if len(value) == 2 and value[0] == "^":
        return (0x7F if quoted and value[1] == "?" else ord(value[1]) & 0x1F) | meta
    return None
