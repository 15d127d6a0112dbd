"""Keepalive put into ssh_config and sshd_config, and taken out again.

Knows how our marks look.  Bytes in, bytes out; must not know where a file lies, nor who reads it.  What
is no keepalive setting is never touched, and taking out what was put in gives the bytes that were there
before.
"""

from __future__ import annotations

from ...errors import KsshError
from ...settings import seconds
from . import grammar
from .grammar import CLIENT, SERVER, Line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# The label of our block in an sshd_config, where there is no pattern.
SSHD = b"sshd"
_BEGIN = b"# >>> ksshctl keepalive for "
_END = b"# <<< ksshctl keepalive for "
# Begins the comment that keeps what the line below it said before.
_WAS = b"# ksshctl keepalive for "
_WORDS = frozenset(word.lower() for word in CLIENT + SERVER)


class Unclear(KsshError):
    """A file that cannot be changed safely; says which line and why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number
        self.why = why


def set_client(data: bytes, pattern: bytes, interval_s: int | None, count_max: int | None) -> bytes:
    """Return an ssh_config with keepalive for a pattern list; b"*" is for every host.

    A setting that such a block has already is changed where it stands, what it said kept above it in a
    comment.  What is missing goes into a marked block at the end, or above the first block that would
    win over it.  None leaves a value as it is.  Raises Unclear.
    """
    values = _values(data, pattern, CLIENT, interval_s, count_max)
    lines = grammar.parse(unset(data, pattern))
    openers = _openers(lines)

    def ours(index: int) -> bool:
        opener = openers[index]
        if pattern == b"*":
            return opener < 0 or grammar.is_for_all(lines[opener])
        return (
            opener >= 0
            and lines[opener].keyword == "host"
            and (lines[opener].arguments == tuple(pattern.split()))
        )

    missing = _change(lines, values, ours, pattern)
    if not missing:
        return _join(lines)
    block = [b"Host " + pattern, *(b"    %s %d" % (word.encode(), values[word]) for word in missing)]
    place = len(lines)
    if pattern != b"*":
        place = _rival(lines, openers, missing, grammar.example_of(pattern))
        if place < 0:
            place = 0
            block.append(b"Host *")  # what follows was for every host, and stays so
        else:
            place = _above_comments(lines, place)
    return _insert(lines, place, block, pattern)


def _openers(lines: Sequence[Line]) -> list[int]:
    """Return for each line the index of the Host or Match line above it, itself included; -1: none."""
    found: list[int] = []
    opener = -1
    for index, line in enumerate(lines):
        if line.opens:
            opener = index
        found.append(opener)
    return found


def _rival(lines: Sequence[Line], openers: Sequence[int], words: Sequence[str], name: bytes) -> int:
    """Return the index of the first block that gives a host one of the words.

    A Match block may be for the host: only ssh knows, and a Host block may always stand above it.
    -1: they stand above every block; the number of lines: nothing does.
    """
    wanted = {word.lower() for word in words}
    for line, opener in zip(lines, openers):
        if line.keyword not in wanted:
            continue
        if opener < 0 or grammar.is_for_all(lines[opener]):
            return opener
        if lines[opener].keyword == "match" or grammar.host_matches(lines[opener].arguments, name):
            return opener
    return len(lines)


def set_server(data: bytes, interval_s: int | None, count_max: int | None) -> bytes:
    """Return an sshd_config with keepalive for every connection, above the first Match and Include.

    None leaves a value as it is.  Raises Unclear.
    """
    values = _values(data, SSHD, SERVER, interval_s, count_max)
    lines = grammar.parse(unset(data, SSHD))
    first = next((at for at, line in enumerate(lines) if line.keyword in ("match", "include")), len(lines))
    missing = _change(lines, values, lambda index: index < first, SSHD)
    if not missing:
        return _join(lines)
    block = [b"%s %d" % (word.encode(), values[word]) for word in missing]
    return _insert(lines, _above_comments(lines, first), block, SSHD)


def _values(
    data: bytes, label: bytes, words: Sequence[str], interval_s: int | None, count_max: int | None
) -> dict[str, int]:
    """Return what is to be set for a label: the given values, else those that were set before."""
    found = dict(zip(words, (interval_s, count_max)))
    lines = grammar.parse(data)
    inside = False
    for index, line in enumerate(lines):
        if line.body.rstrip(b"\r") in (_begin(label), _end(label)):
            inside = line.body.startswith(_BEGIN)
        above = lines[index - 1].body if index else b""
        for word in words:
            if line.keyword != word.lower() or found[word] is not None or not line.arguments:
                continue
            if inside or above.startswith(_was(label)):
                found[word] = seconds(line.arguments[0].decode("latin-1"))
    return {word: value for word, value in found.items() if value is not None}


def _change(
    lines: list[Line], values: dict[str, int], ours: Callable[[int], bool], label: bytes
) -> list[str]:
    """Change the first setting of each word where it stands; return the words that stand nowhere."""
    missing = []
    for word, value in values.items():
        for index, line in enumerate(lines):
            if line.keyword == word.lower() and ours(index):
                changed = _like(line, b"%s %d" % (word.encode(), value)) + line.ending
                lines[index] = line._replace(raw=_was(label) + line.body + b"\n" + changed)
                break
        else:
            missing.append(word)
    return missing


def _above_comments(lines: Sequence[Line], index: int) -> int:
    """Return where the comment begins that stands directly above a line, or the block of ours it is in."""
    for at in range(index - 1, -1, -1):
        if lines[at].body.startswith(_END):
            break
        if lines[at].body.startswith(_BEGIN):
            index = at
            break
    while index > 0:
        body = lines[index - 1].body
        if not body.lstrip(grammar.WHITE).startswith(b"#") or body.startswith(_END):
            break
        index -= 1
    return index


def _insert(lines: Sequence[Line], index: int, block: Sequence[bytes], label: bytes) -> bytes:
    """Put a marked block above a line, or at the end.

    Where the file ended without a newline it does so afterwards too: so it is known that the newline
    above the block belongs to the block.
    """
    eol = b"\r\n" if lines and lines[0].raw.endswith(b"\r\n") else b"\n"
    text = eol.join([_begin(label), *block, _end(label)])
    above, below = _join(lines[:index]), _join(lines[index:])
    if above and not below and not above.endswith(b"\n"):
        return above + b"\n" + text
    return above + text + eol + below


def _join(lines: Sequence[Line]) -> bytes:
    return b"".join(line.raw for line in lines)


def _begin(label: bytes) -> bytes:
    return _BEGIN + label + b" >>>"


def _end(label: bytes) -> bytes:
    return _END + label + b" <<<"


def _was(label: bytes) -> bytes:
    return _WAS + label + b", was: "


def labels(data: bytes) -> list[bytes]:
    """Return for which patterns a file holds settings of ours, in order; SSHD in an sshd_config."""
    found: list[bytes] = []
    for line in grammar.parse(data):
        body = line.body.rstrip(b"\r")
        if body.startswith(_BEGIN) and body.endswith(b" >>>"):
            found.append(body[len(_BEGIN) : -4])
        elif body.startswith(_WAS) and b", was: " in body:
            found.append(body[len(_WAS) : body.index(b", was: ")])
    return list(dict.fromkeys(found))


def unset(data: bytes, label: bytes) -> bytes:
    """Return a file without what was set for a pattern list or SSHD: the bytes from before.

    Raises Unclear where somebody has written into our block.
    """
    lines = grammar.parse(data)
    kept: list[bytes] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if b"\0" in line.raw:
            raise Unclear(at + 1, "a NUL byte: this is no text file")
        if line.body.rstrip(b"\r") == _begin(label):
            at = _skip_block(lines, at, label)
            if not lines[at - 1].ending and kept:
                kept[-1] = kept[-1][:-1]  # the newline was ours as well
        elif line.body.startswith(_was(label)):
            if at + 1 == len(lines) or lines[at + 1].keyword not in _WORDS:
                raise Unclear(at + 1, "what this comment belongs to is gone from the line below: remove it")
            kept.append(line.body[len(_was(label)) :] + lines[at + 1].ending)
            at += 2
        else:
            kept.append(line.raw)
            at += 1
    return b"".join(kept)


def _skip_block(lines: Sequence[Line], begin: int, label: bytes) -> int:
    """Return the index behind a marked block that holds nothing of anybody else's."""
    for at in range(begin + 1, len(lines)):
        line = lines[at]
        if line.body.rstrip(b"\r") == _end(label):
            return at + 1
        if line.keyword not in _WORDS and line.keyword != "host":
            raise Unclear(at + 1, "not written by ksshctl, but between its marks: move it out of there")
    raise Unclear(begin + 1, "this mark has no end: remove it and what belongs to it")


# Single lines of anybody's, for doctor.

_DOCTOR = b"# ksshctl doctor, was: "


def change_line(data: bytes, number: int, new: bytes) -> bytes:
    """Return a file in which a line says something else; what it said is kept above it in a comment.

    In what set wrote there is nothing to keep.
    """
    lines = grammar.parse(data)
    line = lines[number - 1]
    changed = _like(line, new) + line.ending
    ours = _is_marked(lines, number - 1) or _keeps_another(lines, number - 1)
    lines[number - 1] = line._replace(raw=changed if ours else _DOCTOR + line.body + b"\n" + changed)
    return _join(lines)


def comment_out(data: bytes, number: int) -> bytes:
    """Return a file in which a line is a comment; what set wrote is taken out with its mark."""
    lines = grammar.parse(data)
    line = lines[number - 1]
    if _is_marked(lines, number - 1):
        del lines[number - 1]
    elif _keeps_another(lines, number - 1):
        old = lines[number - 2].body.partition(b", was: ")[2]
        lines[number - 2 : number] = [line._replace(raw=_DOCTOR + old + line.ending)]
    else:
        lines[number - 1] = line._replace(raw=_DOCTOR + line.raw)
    return _join(lines)


def add_below(data: bytes, number: int, new: bytes) -> bytes:
    """Return a file with a line more, below one and indented like it."""
    lines = grammar.parse(data)
    line = lines[number - 1]
    lines[number - 1] = line._replace(raw=line.body + (line.ending or b"\n") + _like(line, new) + line.ending)
    return _join(lines)


def _like(line: Line, new: bytes) -> bytes:
    """Return words indented as a line is, with a carriage return if that has one."""
    indent = line.body[: len(line.body) - len(line.body.lstrip(b" \t"))]
    return indent + new + (b"\r" if line.body.endswith(b"\r") else b"")


def _is_marked(lines: Sequence[Line], index: int) -> bool:
    """Tell whether a line is between marks of ours."""
    marks = [line.body for line in lines[:index] if line.body.startswith((_BEGIN, _END))]
    return bool(marks) and marks[-1].startswith(_BEGIN)


def _keeps_another(lines: Sequence[Line], index: int) -> bool:
    """Tell whether a line stands below the comment in which set keeps what it said before."""
    return index > 0 and lines[index - 1].body.startswith(_WAS)
