"""The text of ssh_config(5), looked through for keywords.

Knows how ssh finds the keyword of a line.  Must not know what a keyword means, nor which lines are for
which host: what may be said counts as said.  (To the letter: ctl/keepalive/grammar.py.)

Source: readconf.c, read_config_file_depth() and process_config_line_depth(); misc.c, strdelim().
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# Debian's ssh has more than one name for it: ssh_config(5) there, ServerAliveInterval.
OTHER_NAMES = {"serveraliveinterval": ("protocolkeepalives", "setuptimeout")}
LONGEST_LINE = 1000  # OpenSSH 7.4 reads a line of 1024 bytes as two
_BLANKS = b" \t\r"
# Quotes, tokens, variables: what a path becomes with them is for ssh to know.
_ODD = frozenset(b"\"'\\%$=\f\v")


def is_plain(text: bytes) -> bool:
    """Tell whether ssh reads the same lines in a file as these functions do."""
    return b"\0" not in text and max(map(len, text.split(b"\n"))) <= LONGEST_LINE


def named(text: bytes, keywords: Iterable[str]) -> frozenset[str]:
    """Return which of the keywords, all in lower case, a plain text may set, by whichever name."""
    return frozenset(keyword for keyword in keywords if any(True for _ in _lines(text, keyword)))


def may_deny(text: bytes, keyword: str) -> bool:
    """Tell whether a plain text may say 0 or no for a keyword that takes a time, or yes and no."""
    return any(_may_be_nothing(line) for line in _lines(text, keyword))


def _may_be_nothing(line: bytes) -> bool:
    words = line.replace(b"=", b" ").translate(None, b"\"'").lower().split()
    value = words[1] if len(words) > 1 else b""
    # 0, 00 and 0s are times of nothing (sshd_config(5), TIME FORMATS).
    return value in (b"no", b"false") or not value.isalnum() or not value.strip(b"0smhdw")


def included(text: bytes) -> list[bytes] | None:
    """Return what the Include lines of a plain text name, paths and patterns; None if only ssh knows."""
    found: list[bytes] = []
    for line in _lines(text, "include"):
        written = line.lstrip(_BLANKS)
        keyword, rest = written[:7].lower(), written[7:].lstrip(_BLANKS).removeprefix(b"=")
        if keyword != b"include" or not _ODD.isdisjoint(rest):
            return None
        found += rest.split()
    return found


def _lines(text: bytes, keyword: str) -> Iterable[bytes]:
    """Return the lines that may begin with a keyword or another name of it; comments do not."""
    names = tuple(name.encode() for name in (keyword, *OTHER_NAMES.get(keyword, ())))
    whole = _read(text)
    if not any(name in whole for name in names):
        return []  # as a rule; to look at each line takes ten times as long
    lines = [line for line in text.split(b"\n") if not line.lstrip(_BLANKS).startswith(b"#")]
    # To strdelim() a "=" is a blank.
    return [line for line in lines if _read(line).lstrip(_BLANKS + b"\f\v=").startswith(names)]


def _read(text: bytes) -> bytes:
    """Return a text as far as keywords are concerned: a quote can stand within one."""
    return text.replace(b'"', b"").lower()
