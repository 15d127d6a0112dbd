"""A remote command as a shell would read it: a Line of Steps, if all of it is known.

Knows sh's grammar of a line.  Must not know a program's words (attachers.py), nor whether a line
finds a session again (attach.py).  None always says: something here is not known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from .attachers import ASIDE, HAS, LOOKS, MOVES, NOTHING, TABLE, Step, are_flags_of_shell, is_shell

# The same from one login to the next; $$ or $SSH_TTY in a session's name would make a second one.
_LASTING = "USER|LOGNAME|HOME|HOST|HOSTNAME|SHELL|UID|EUID|XDG_RUNTIME_DIR"
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t]+)
    |(?P<operator>\|\||&&|;)
    |(?P<quiet>1?>[ \t]*/dev/null(?![^ \t;&|]))
    |(?P<errors>2>(?:[ \t]*/dev/null|&1)(?![^ \t;&|]))
    |(?P<plain>[\w@%+=:,./-]+|~(?=/))
    |\$(?P<bare>{_LASTING})(?!\w)|\$\{{(?P<braced>{_LASTING})\}}
    |'(?P<single>[^'!\\\x00-\x1f\x7f]*)'
    |"(?P<double>(?:[^"!\\`$\x00-\x1f\x7f]|\$(?:{_LASTING})(?!\w)|\$\{{(?:{_LASTING})\}})*)"
    """,
    re.VERBOSE,
)
_EXPANSION = re.compile(r"\$\{?(\w+)\}?")
_MOST_CHARS = 1000
_RUNS_A_STRING = re.compile(r"-[il]*c\Z")
# What decides which program a new session runs, or what a program loads.
_DECIDING = re.compile(r"SHELL|ENV|BASH_ENV|SCREENRC|ABDUCO_CMD|BYOBU_.*|LD_.*|DYLD_.*|PATH|HOME|ZDOTDIR")


class Line(NamedTuple):
    """A list of commands, each with the operator before it: "", ";", "&&" or "||".  A shell of its own."""

    parts: tuple[tuple[str, Step | Line], ...]
    ends: bool = False


class _Word(NamedTuple):
    """A word.

    text   what the shell makes of it; an expansion is a name between NULs
    plain  its part before the first quote or expansion
    """

    text: str
    plain: str


def read(command: str, within: int = 0) -> Line | None:
    """Return what a command does; None where anything in it is not known."""
    commands = _commands(command) if len(command) <= _MOST_CHARS and within <= 2 else None
    if commands is None:
        return None
    parts: list[tuple[str, Step | Line]] = []
    for operator, words, silent in commands:
        part = _command(words, within) if words else None
        if part is None or (silent and not _may_be_silent(part)):
            return None
        if part == MOVES and any(before != MOVES for _, before in parts):
            return None  # a socket's name may mean another one from here on
        parts.append((operator, part))
    return Line(tuple(parts))


def _may_be_silent(part: Step | Line) -> bool:
    return isinstance(part, Step) and part.verb in (HAS, ASIDE, NOTHING)


def _commands(command: str) -> list[tuple[str, list[_Word], bool]] | None:
    """Split a line into commands: the operator before each, its words, whether its output goes nowhere.

    None where something is not understood.
    """
    found: list[tuple[str, list[_Word], bool]] = []
    operator, words, silent = "", list[_Word](), False
    joined = False  # the next piece belongs to the last word
    place = 0
    while place < len(command):
        token = _TOKEN.match(command, place)
        kind = token.lastgroup if token else None
        if token is None or (joined and kind in ("quiet", "errors")):
            return None
        place = token.end()
        if kind == "operator":
            found.append((operator, words, silent))
            operator, words, silent = token[0], [], False
        elif kind == "quiet":
            silent = True
        elif kind not in ("blank", "errors"):
            piece = _piece(token)
            if joined:
                text, plain = words.pop()
                # What stands behind a quote is not plain any more, even an empty one.
                piece = _Word(text + piece.text, plain + piece.plain if text and plain == text else plain)
            words.append(piece)
        joined = kind not in ("operator", "blank", "quiet", "errors")
    found.append((operator, words, silent))
    return found


def _piece(token: re.Match[str]) -> _Word:
    kind = token.lastgroup or ""
    text = token[kind]
    if kind == "plain":
        return _Word(text, text)
    if kind in ("bare", "braced"):
        return _Word(f"\0{text}\0", "")
    if kind == "double":
        text = _EXPANSION.sub("\0\\1\0", text)
    return _Word(text, "")


def _command(given: Sequence[_Word], within: int) -> Step | Line | None:
    """Return what a simple command does."""
    words = list(given)
    assigned = _take_assignments(words)
    ends = bool(words) and words[0].text == "exec"
    if ends or (words and words[0].text == "command" and len(words) > 1 and words[1].text[:1] != "-"):
        del words[0]
    if words and words[0].text.rpartition("/")[2] == "env":
        del words[0]
        while len(words) > 1 and words[0].text == "-u":
            assigned.append(words[1])
            del words[:2]
        assigned += _take_assignments(words)
    names = [word.plain.partition("=")[0] for word in assigned]
    if not words or any(_DECIDING.fullmatch(name) for name in names):
        return None
    program = words[0].text.rpartition("/")[2]
    rest = [word.text for word in words[1:]]
    # TMUX_TMPDIR and its like choose the server: with another one the session would be another.
    elsewhere = tuple(word.text for word, name in zip(assigned, names) if not LOOKS.fullmatch(name))
    if is_shell(program):
        line = read(rest[-1], within + 1) if _is_a_string(rest) and not elsewhere else None
        return line and line._replace(ends=ends)
    rule = TABLE.get(program)
    step = rule(rest) if rule else None
    return step and step._replace(server=step.server and step.server + elsewhere, ends=ends)


def _is_a_string(rest: Sequence[str]) -> bool:
    """Tell whether a shell's words are -c and a string, with no expansion in it that would be read again."""
    if len(rest) < 2 or "\0" in rest[-1]:
        return False
    *flags, last = rest[:-1]
    return bool(_RUNS_A_STRING.match(last)) and are_flags_of_shell(flags)


def _take_assignments(words: list[_Word]) -> list[_Word]:
    """Take what reads "NAME=value" off the beginning and return it."""
    taken = []
    while words:
        name, equals, _ = words[0].plain.partition("=")
        if not (equals and name.isidentifier() and name.isascii()):
            break
        taken.append(words.pop(0))
    return taken
