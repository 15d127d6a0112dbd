"""ssh_config and sshd_config: lines, blocks, patterns, and what keepalive's numbers mean.

Knows the grammar of ssh_config(5) and sshd_config(5).  Must not know where a file lies, nor who reads
or changes it.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CLIENT = ("ServerAliveInterval", "ServerAliveCountMax")
SERVER = ("ClientAliveInterval", "ClientAliveCountMax")

WHITE = b" \t\r\n"  # misc.c, WHITESPACE
_MAX_DEPTH = 16  # readconf.c, READCONF_MAX_DEPTH; servconf.c has the same


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
    text = raw.partition(b"\0")[0].rstrip(WHITE + b"\f").lstrip(WHITE)
    if not text or text.startswith(b"#"):
        return Line(raw, "", ())
    if text.startswith(b'"'):
        keyword, _, rest = text[1:].partition(b'"')
        rest = rest.lstrip(WHITE)
    else:
        end = next((at for at, byte in enumerate(text) if byte in b" \t\r\n="), len(text))
        keyword, rest = text[:end], text[end:].lstrip(WHITE)
        if rest.startswith(b"="):  # one only
            rest = rest[1:].lstrip(WHITE)
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
    above: tuple[str, ...] = (),
) -> Iterator[Setting]:
    """Yield what a file and those it includes say, in the order in which it is read.

    read gives a file's bytes, None if it cannot be read; expand gives the files that one argument of
    Include stands for; above are the files that include this one.  A file inside itself, which ssh and
    sshd refuse, is not read again.
    """
    data = read(file)
    if data is None or file in above or len(above) > _MAX_DEPTH:
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
                    yield from walk(included, read, expand, here, (*above, file))


# Numbers.

INTERVAL_S, COUNT_MAX = 60, 3  # what keepalive set takes by default
LONGEST_S, COUNT_MOST = 86400, 1000


def client_notices_s(interval_s: int, count_max: int) -> int | None:
    """Return after how many seconds without a byte ssh gives up; None: never.

    The probe that goes unanswered is counted when the next one is due (clientloop.c,
    server_alive_check()): interval × (count + 1), not interval × count as ssh_config(5) has it.
    """
    return interval_s * (count_max + 1) if interval_s > 0 else None


def server_notices_s(interval_s: int, count_max: int, version: tuple[int, int] | None = None) -> int | None:
    """Return after how many seconds without a byte sshd gives up; None: never.

    serverloop.c, client_alive_check(), counts as ssh does, but for a count of 0, which means never from
    8.2 on.  In 9.2 to 9.4 each probe waits for a second interval ("now > last_client_time + …", fixed
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
