"""The errors kssh itself reports.

Every error that reaches the user is one line on standard error and status 255, the status that
ssh(1) uses for its own failures.  This module knows nothing else.
"""

from __future__ import annotations

STATUS = 255  # ssh(1), EXIT STATUS: "255 if an error occurred"


class KsshError(Exception):
    """Something that kssh cannot do; the text is the one line that the user reads."""


class Unusable(KsshError):
    """What a person wrote cannot be used: nothing was done."""


class BadValue(Unusable):
    """A setting that cannot be used: names the variable, its value and what was expected."""

    def __init__(self, name: str, value: str, expected: str) -> None:
        super().__init__(f"{name}={printable(value)}: expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected


def printable(text: str) -> str:
    """Return text with control characters and undecodable bytes escaped, as OpenSSH's vis(3) does.

    Whatever comes from the other side, from the environment or from the command line passes
    through here before it reaches a log or a terminal line of ours.
    """
    if text.isprintable():
        return text
    shown = []
    for char in text:
        if char.isprintable():
            shown.append(char)
        elif "\udc80" <= char <= "\udcff":  # a byte that is no UTF-8 (surrogateescape)
            shown.append(f"\\{ord(char) - 0xDC00:03o}")
        else:
            shown.extend(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogatepass"))
    return "".join(shown)
