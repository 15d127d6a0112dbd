"""ssh_config and sshd_config: lines, blocks, and keepalive put in and taken out again.

Knows the grammar of ssh_config(5) and sshd_config(5) and how our marks look.  Bytes in, bytes out;
must not know where a file lies, nor who reads it.  What is no keepalive setting is never touched,
and taking out what was put in gives the bytes that were there before.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import KsshError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLIENT = ("ServerAliveInterval", "ServerAliveCountMax")
SERVER = ("ClientAliveInterval", "ClientAliveCountMax")
# The label of our block in an sshd_config, where there is no pattern.
SSHD = b"sshd"

_WORDS = frozenset(word.lower() for word in CLIENT + SERVER)
_WHITE = b" \t\r\n"  # misc.c, WHITESPACE
_MAX_DEPTH = 16  # readconf.c, READCONF_MAX_DEPTH; servconf.c has the same


class Unclear(KsshError):
    """A file that cannot be changed safely; says which line and why."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(f"line {number}: {why}")
        self.number = number
        self.why = why


class Line(NamedTuple):
    """One line: its bytes with the newline, its keyword in lower case ("" for none), its arguments."""

    raw: bytes
    keyword: str
    arguments: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """The line without its newline; a carriage return belongs to it."""
        return self.raw[:-1] if self.raw.endswith(b"\n") else self.raw

    @property
    def ending(self) -> bytes:
        """The newline, or nothing where the file ends without one."""
        return self.raw[len(self.body) :]

    @property
    def opens(self) -> bool:
        """Whether a block begins here."""
        return self.keyword in ("host", "match")


def parse(data: bytes) -> list[Line]:
    """Return the lines of a file; joined, their raw bytes are the file again."""
    parts = data.split(b"\n")
    raws = [part + b"\n" for part in parts[:-1]] + parts[-1:]
    return [_line(raw) for raw in raws if raw]


def _line(raw: bytes) -> Line:
    """Read one line as process_config_line_depth() in readconf.c does."""
    text = raw.partition(b"\0")[0].rstrip(_WHITE + b"\f").lstrip(_WHITE)
    if not text or text.startswith(b"#"):
        return Line(raw, "", ())
    if text.startswith(b'"'):
        keyword, _, rest = text[1:].partition(b'"')
        rest = rest.lstrip(_WHITE)
    else:
        end = next((at for at, byte in enumerate(text) if byte in b" \t\r\n="), len(text))
        keyword, rest = text[:end], text[end:].lstrip(_WHITE)
        if rest.startswith(b"="):  # one only
            rest = rest[1:].lstrip(_WHITE)
    return Line(raw, keyword.decode("latin-1").lower(), _split(rest))


def _split(text: bytes) -> tuple[bytes, ...]:
    """Return the words of an argument list, as argv_split() in misc.c does; none if a quote stays open."""
    words: list[bytes] = []
    at = 0
    while at < len(text):
        if text[at] in b" \t":
            at += 1
            continue
        if text[at] in b"#":
            break
        at, word = _word(text, at)
        if word is None:
            return ()
        words.append(word)
    return tuple(words)


def _word(text: bytes, at: int) -> tuple[int, bytes | None]:
    """Return where the word that begins at a place ends, and the word without quotes and escapes."""
    word = bytearray()
    quote = 0
    while at < len(text):
        byte = text[at]
        following = text[at + 1 : at + 2]
        if byte in b"\\" and following and (following in b"'\"\\" or (not quote and following == b" ")):
            at += 1
            word.append(text[at])
        elif not quote and byte in b" \t":
            break
        elif not quote and byte in b"'\"":
            quote = byte
        elif byte == quote:
            quote = 0
        else:
            word.append(byte)
        at += 1
    return at, None if quote else bytes(word)


# Patterns and blocks.


def matches(pattern: bytes, name: bytes) -> bool:
    """Tell whether a name fits one pattern with * and ?, as match_pattern() in match.c does."""
    if not pattern:
        return not name
    if pattern[:1] == b"*":
        return matches(pattern[1:], name) or (bool(name) and matches(pattern, name[1:]))
    return bool(name) and pattern[:1] in (b"?", name[:1]) and matches(pattern[1:], name[1:])


def host_matches(patterns: Sequence[bytes], name: bytes) -> bool:
    """Tell whether a Host line is for a host: one pattern fits and no negated one does."""
    hit = False
    for pattern in patterns:
        if pattern.startswith(b"!"):
            if matches(_shrunk(pattern[1:]), name):
                return False
        elif matches(_shrunk(pattern), name):
            hit = True
    return hit


def _shrunk(pattern: bytes) -> bytes:
    while b"**" in pattern:
        pattern = pattern.replace(b"**", b"*")
    return pattern


def example_of(pattern: bytes) -> bytes:
    """Return a host name that a pattern list is for, such as "xy.example.com" for "*.example.com"."""
    first = next(word for word in pattern.split() if not word.startswith(b"!"))
    return first.replace(b"*", b"keepalive-check").replace(b"?", b"x")


def is_plain(text: str) -> bool:
    """Tell whether a text can be written after Host as it is, and is for some host."""
    words = text.split()
    return (
        text.isprintable()
        and not any(char in "\"'#\\=,>" for char in text)
        and "!" not in words
        and any(not word.startswith("!") for word in words)
    )


def is_for_all(opener: Line) -> bool:
    """Tell whether a Host or Match line is for every connection."""
    if opener.keyword == "host":
        return b"*" in opener.arguments and not any(word.startswith(b"!") for word in opener.arguments)
    return [word.lower() for word in opener.arguments] == [b"all"]


def _openers(lines: Sequence[Line]) -> list[int]:
    """Return for each line the index of the Host or Match line above it, itself included; -1: none."""
    found: list[int] = []
    opener = -1
    for index, line in enumerate(lines):
        if line.opens:
            opener = index
        found.append(opener)
    return found


# Settings with their places, through every Include.


class Opener(NamedTuple):
    """A Host or Match line: where it is and what it says."""

    file: str
    number: int
    line: Line


class Setting(NamedTuple):
    """A line that is no blank, no comment: where it is, and which blocks it is in (outermost first)."""

    file: str
    number: int
    line: Line
    scope: tuple[Opener, ...]


def walk(
    file: str,
    read: Callable[[str], bytes | None],
    expand: Callable[[bytes], Sequence[str]],
    scope: tuple[Opener, ...] = (),
    depth: int = 0,
) -> Iterator[Setting]:
    """Yield what a file and those it includes say, in the order in which it is read.

    read gives a file's bytes, None if it cannot be read; expand gives the files that one argument of
    Include stands for.
    """
    data = read(file)
    if data is None or depth > _MAX_DEPTH:
        return
    here = scope
    for number, line in enumerate(parse(data), 1):
        if not line.keyword:
            continue
        if line.opens:
            here = (*scope, Opener(file, number, line))
        yield Setting(file, number, line, here)
        if line.keyword == "include":
            for argument in line.arguments:
                for included in expand(argument):
                    yield from walk(included, read, expand, here, depth + 1)


# Putting in and taking out.


def set_client(data: bytes, pattern: bytes, interval_s: int, count_max: int) -> bytes:
    """Return an ssh_config with keepalive for a pattern list; b"*" is for every host.

    A setting that such a block has already is changed where it stands, what it said kept above it in a
    comment.  What is missing goes into a marked block at the end, or above the first block that would
    win over it.  Raises Unclear.
    """
    lines = parse(unset(data, pattern))
    openers = _openers(lines)

    def ours(index: int) -> bool:
        opener = openers[index]
        if pattern == b"*":
            return opener < 0 or is_for_all(lines[opener])
        return (
            opener >= 0
            and lines[opener].keyword == "host"
            and (lines[opener].arguments == tuple(pattern.split()))
        )

    values = dict(zip(CLIENT, (interval_s, count_max)))
    missing = _change(lines, values, ours, pattern)
    if not missing:
        return _join(lines)
    block = [b"Host " + pattern, *(b"    %s %d" % (word.encode(), values[word]) for word in missing)]
    place = len(lines)
    if pattern != b"*":
        place = _rival(lines, openers, missing, example_of(pattern))
        if place < 0:
            place = 0
            block.append(b"Host *")  # what follows was for every host, and stays so
        else:
            place = _above_comments(lines, place)
    return _insert(lines, place, block, pattern)


def _rival(lines: Sequence[Line], openers: Sequence[int], words: Sequence[str], name: bytes) -> int:
    """Return the index of the first block that gives a host one of the words.

    A Match block may be for the host: only ssh knows, and a Host block may always stand above it.
    -1: they stand above every block; the number of lines: nothing does.
    """
    wanted = {word.lower() for word in words}
    for line, opener in zip(lines, openers):
        if line.keyword not in wanted:
            continue
        if opener < 0 or is_for_all(lines[opener]):
            return opener
        if lines[opener].keyword == "match" or host_matches(lines[opener].arguments, name):
            return opener
    return len(lines)


def set_server(data: bytes, interval_s: int, count_max: int) -> bytes:
    """Return an sshd_config with keepalive for every connection, above the first Match and Include.

    Raises Unclear.
    """
    lines = parse(unset(data, SSHD))
    first = next((at for at, line in enumerate(lines) if line.keyword in ("match", "include")), len(lines))
    values = dict(zip(SERVER, (interval_s, count_max)))
    missing = _change(lines, values, lambda index: index < first, SSHD)
    if not missing:
        return _join(lines)
    block = [b"%s %d" % (word.encode(), values[word]) for word in missing]
    return _insert(lines, _above_comments(lines, first), block, SSHD)


def _change(
    lines: list[Line], values: dict[str, int], ours: Callable[[int], bool], label: bytes
) -> list[str]:
    """Change the first setting of each word where it stands; return the words that stand nowhere."""
    missing = []
    for word, value in values.items():
        for index, line in enumerate(lines):
            if line.keyword == word.lower() and ours(index):
                indent = line.body[: len(line.body) - len(line.body.lstrip(b" \t"))]
                cr = b"\r" if line.body.endswith(b"\r") else b""
                changed = b"%s%s %d%s%s" % (indent, word.encode(), value, cr, line.ending)
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
        if not body.lstrip(_WHITE).startswith(b"#") or body.startswith(_END):
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


_BEGIN = b"# >>> ksshctl keepalive for "
_END = b"# <<< ksshctl keepalive for "
# Begins the comment that keeps what the line below it said before.
WAS = b"# ksshctl keepalive for "


def _begin(label: bytes) -> bytes:
    return _BEGIN + label + b" >>>"


def _end(label: bytes) -> bytes:
    return _END + label + b" <<<"


def _was(label: bytes) -> bytes:
    return WAS + label + b", was: "


def is_marked(lines: Sequence[Line], index: int) -> bool:
    """Tell whether a line is between marks of ours."""
    marks = [line.body for line in lines[:index] if line.body.startswith((_BEGIN, _END))]
    return bool(marks) and marks[-1].startswith(_BEGIN)


def labels(data: bytes) -> list[bytes]:
    """Return for which patterns a file holds settings of ours, in order; SSHD in an sshd_config."""
    found: list[bytes] = []
    for line in parse(data):
        body = line.body.rstrip(b"\r")
        if body.startswith(_BEGIN) and body.endswith(b" >>>"):
            found.append(body[len(_BEGIN) : -4])
        elif body.startswith(WAS) and b", was: " in body:
            found.append(body[len(WAS) : body.index(b", was: ")])
    return list(dict.fromkeys(found))


def unset(data: bytes, label: bytes) -> bytes:
    """Return a file without what was set for a pattern list or SSHD: the bytes from before.

    Raises Unclear where somebody has written into our block.
    """
    lines = parse(data)
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


# Numbers.

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds(text: str) -> int | None:
    """Return a time such as "90" or "1h30m" in seconds, as convtime() in misc.c does; None if it is none."""
    total, digits = 0, ""
    for char in text.lower():
        if char.isascii() and char.isdigit():
            digits += char
        elif digits and char in _UNITS:
            total += int(digits) * _UNITS[char]
            digits = ""
        else:
            return None
    return total + int(digits or 0) if text else None


def client_notices_s(interval_s: int, count_max: int) -> int | None:
    """Return after how many seconds without a byte ssh gives up; None: never.

    The probe that goes unanswered is counted when the next one is due (clientloop.c,
    server_alive_check()): interval × (count + 1), not interval × count as ssh_config(5) has it.
    """
    return interval_s * (count_max + 1) if interval_s > 0 else None


def server_notices_s(interval_s: int, count_max: int, version: tuple[int, int] | None = None) -> int | None:
    """Return after how many seconds without a byte sshd gives up; None: never.

    serverloop.c, client_alive_check(), counts as ssh does, but for a count of 0, which means never from
    8.2 on.  In 9.2 to 9.4 each probe waits for a second interval ("now > last_client_time + …", mended
    in 9.5: "caused the probes to be sent less frequently than configured").  None is the newest version.
    """
    if interval_s == 0:
        return None
    if count_max == 0:
        return interval_s if version is not None and version < (8, 2) else None
    return interval_s * (count_max + 1) * (2 if is_slow(version) else 1)


def is_slow(version: tuple[int, int] | None) -> bool:
    """Tell whether a version of sshd takes two intervals for each probe."""
    return version is not None and (9, 2) <= version <= (9, 4)
