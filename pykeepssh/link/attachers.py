"""The programs that keep sessions, tmux, screen and their like: what their words do with a session.

Each program has a row in TABLE: a function that reads the program's words and returns a Step, or None
if it does not know one of the words.  Must not know how a shell reads a line, nor what follows.

Seen with tmux 3.3a, screen 4.9, dtach 0.9, byobu 5.133; others by their manuals.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

# What a program does with a session.
ATTACH = "attach"  # attaches to it, or fails
ENSURE = "ensure"  # attaches to it, or makes it
MAKE = "make"  # makes it and attaches, or fails where there is one of that name
ASIDE = "aside"  # makes it and does not attach, or fails the same way
HAS = "has"  # tells whether it is there
NOTHING = "nothing"  # nothing that matters: the same each time

ANY = ""  # a session's name where none was given: the one used last


class Step(NamedTuple):
    """What one simple command does.

    server  which multiplexer, and which of its servers
    name    of the session; ANY, or None for a new one whose name the program chooses
    free    fails where somebody is attached still: the lost client may be
    ends    the shell does nothing behind it: exec
    """

    verb: str
    server: tuple[str, ...] = ()
    name: str | None = ANY
    free: bool = False
    ends: bool = False


MOVES = Step(NOTHING, name="cd")

# Variables that only decide how things look.
LOOKS = re.compile(r"TERM|COLORTERM|LANG|LANGUAGE|LC_[A-Z]+")
# "\0SHELL\0" is the user's own, as shell_line.py writes $SHELL.
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish", "\0SHELL\0"))
_FLAGS_OF_SHELLS = frozenset(("-l", "-i", "-il", "-li", "--login", "--norc", "--noprofile"))
_EDITORS = frozenset(("vi", "vim", "nvim", "nano", "emacs", "micro", "hx"))
_FOR_PERSONS = frozenset(("irssi", "weechat", "mutt", "neomutt", "htop", "top", "mc", "dvtm"))
_NAME = re.compile(r"[\w\0][\w\0@%+,= -]*\Z")
_PATH = re.compile(r"[\w\0./~][\w\0@%+,=./: -]*\Z")


def is_shell(program: str) -> bool:
    """Tell whether a program, without its directory, is a shell."""
    return program in _SHELLS


def are_flags_of_shell(words: Sequence[str]) -> bool:
    """Tell whether a shell with these words does nothing but wait for what is typed."""
    return _FLAGS_OF_SHELLS.issuperset(words)


def _waits_for_a_person(words: Sequence[str]) -> bool:
    """Tell whether a program ends only when a person ends it.

    Nobody can while the link is dead, so that it still runs.  If it does not (the other machine was
    restarted), a new one is what a login would give.  Any other command may have done its work
    meanwhile, and would be run twice.
    """
    program, *rest = words
    program = program.rpartition("/")[2]
    if is_shell(program):
        return are_flags_of_shell(rest)
    if program in _EDITORS:
        return all(word == "-nw" or _PATH.match(word) for word in rest)
    return program in _FOR_PERSONS and not rest


def _options(words: Sequence[str], flags: str, valued: str) -> tuple[dict[str, str], list[str]] | None:
    """Return the options that lead a program's words, as getopt(3) reads them, and what follows.

    The result is letter: value, "" for a flag; None where a letter is of neither kind.
    """
    found: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0][:1] == "-" and rest[0] != "-":
        letters = rest.pop(0)[1:]
        while letters:
            letter, letters = letters[0], letters[1:]
            if letter in valued:
                if not letters and not rest:
                    return None
                found[letter] = letters or rest.pop(0)
                break
            if letter not in flags:
                return None
            found[letter] = ""
    return found, rest


def _tmux(words: Sequence[str]) -> Step | None:
    read = _options(words, "2CNluv", "fLST")  # never -c: it runs a command
    # A word that ends in ";" separates commands for tmux; "#(…)" runs one.
    if read is None or any(char in word for word in words for char in ";#"):
        return None
    options, rest = read
    server = ("tmux", options.get("L", ""), options.get("S", ""))
    if not rest:
        return Step(MAKE, server, None)
    verb, *rest = rest
    for full, shortest, rule in _TMUX:
        if full.startswith(verb) and len(verb) >= shortest:
            step = rule(rest)
            return step and step._replace(server=server)
    return None


def _tmux_target(options: dict[str, str]) -> str | None:
    """Return the session that -t means; None where that is not sure."""
    if "t" not in options:
        return ANY
    name, _, _ = options["t"].lstrip("=").partition(":")
    return name if _NAME.match(name) else None


def _tmux_attach(words: Sequence[str]) -> Step | None:
    options, rest = _options(words, "dErx", "cft") or ({}, ["?"])
    name = _tmux_target(options)
    return None if rest or name is None else Step(ATTACH, name=name)


def _tmux_new(words: Sequence[str]) -> Step | None:
    options, rest = _options(words, "AdDEPX", "cefFnstxy") or ({}, ["?"])
    name = options.get("s")
    if name is not None:
        name = name.replace(".", "_")  # tmux does the same, or refuses it
    if "t" in options or not (name is None or _NAME.match(name)):
        return None
    if rest and not _waits_for_a_person(rest):
        return None
    if "d" in options:
        return None if "A" in options else Step(ASIDE, name=name)
    return Step(ENSURE if "A" in options and name is not None else MAKE, name=name)


def _tmux_has(words: Sequence[str]) -> Step | None:
    options, rest = _options(words, "", "t") or ({}, ["?"])
    name = _tmux_target(options)
    return None if rest or name is None else Step(HAS, name=name)


def _tmux_list(words: Sequence[str]) -> Step | None:
    return None if words else Step(HAS)


def _tmux_start(words: Sequence[str]) -> Step | None:
    return None if words else Step(NOTHING)


# tmux takes what begins a command's name and no other's; the least that is surely this one.
_TMUX: tuple[tuple[str, int, Callable[[Sequence[str]], Step | None]], ...] = (
    ("attach-session", 1, _tmux_attach),
    ("new-session", 5, _tmux_new),
    ("new", 3, _tmux_new),
    ("has-session", 3, _tmux_has),
    ("list-sessions", 6, _tmux_list),
    ("ls", 2, _tmux_list),
    ("start-server", 5, _tmux_start),
)

_SCREEN_FLAGS = frozenset("rRxdDUaAOq")
_SCREEN_NAMES = "ST"  # the next word is a session's or a terminal's name


def _screen(words: Sequence[str]) -> Step | None:
    """Read screen's words: a name may only stand where it cannot be taken for a command."""
    letters = ""
    named: dict[str, str] = {}
    rest = list(words)
    while rest and rest[0][:1] == "-":
        cluster = rest.pop(0)[1:]
        last = cluster[-1:]
        if last and last in _SCREEN_NAMES and rest:
            named[last] = rest.pop(0)
            cluster = cluster[:-1]
        elif not cluster:
            return None
        if not _SCREEN_FLAGS.issuperset(cluster):
            return None
        letters += cluster
        if rest and rest[0][:1] != "-" and (last not in "rRxdD" or len(rest) > 1 or "S" in named):
            return None
    name = rest[0] if rest else named.get("S", ANY)
    if (name != ANY and not re.match(r"[\w\0][\w\0./@+-]*\Z", name)) or named.get("T", "x")[:1] == "-":
        return None
    server = ("screen",)
    if "R" in letters:
        # Without -d or -x it makes another one while somebody is attached, as a person's own
        # second try would; the manual says so.
        return Step(ENSURE, server, name)
    if "r" in letters or "x" in letters:
        return Step(ATTACH, server, name, free="d" not in letters.lower() and "x" not in letters)
    if "d" in letters.lower():
        return None  # detaches, and that is all
    return Step(MAKE, server, name or None)


def _byobu(words: Sequence[str]) -> Step | None:
    """By itself it attaches to the only session, asks which of several, or makes the first."""
    if not words:
        return Step(ENSURE, ("byobu",))
    step = _tmux(words)
    return step and step._replace(server=("byobu",))


def _zellij(words: Sequence[str]) -> Step | None:
    server = ("zellij",)
    if not words:
        return Step(MAKE, server, None)
    if words[0] not in ("attach", "a"):
        return None
    creates = "-c" in words or "--create" in words
    names = [word for word in words[1:] if word not in ("-c", "--create")]
    if len(names) > 1 or not all(_NAME.match(name) for name in names):
        return None
    return Step(ENSURE if creates else ATTACH, server, names[0] if names else ANY)


def _dtach(words: Sequence[str]) -> Step | None:
    """dtach and its like: a mode, a socket, options, a command."""
    if len(words) < 2 or words[0] not in ("-a", "-A") or not _PATH.match(words[1]):
        return None
    read = _options(words[2:], "Ez", "erR")
    if read is None:
        return None
    return _kept("dtach", words[1], read[1], makes=words[0] == "-A", alone=False)


def _kept(
    program: str, name: str, command: Sequence[str], makes: bool, alone: bool, free: bool = False
) -> Step | None:
    """A session of one command: makes it where it is missing, alone without a command too (a shell)."""
    if not makes:
        return None if command else Step(ATTACH, (program,), name, free)
    may = _waits_for_a_person(command) if command else alone
    return Step(ENSURE, (program,), name, free) if may else None


def _abduco(words: Sequence[str]) -> Step | None:
    read = _options(words, "aAfrql", "e")
    if read is None or not read[1] or not _PATH.match(read[1][0]):
        return None
    options, (name, *command) = read
    makes = "A" in options
    # -f runs the command of a session again that has ended.
    if makes == ("a" in options) or (makes and "f" in options):
        return None
    return _kept("abduco", name, command, makes, alone=True)


def _diss(words: Sequence[str]) -> Step | None:
    options, command = _options(words, "", "ae") or ({}, [])
    name = options.get("a", "")
    if not _NAME.match(name):
        return None
    return _kept("diss", name, command, makes=bool(command), alone=False)


def _zmx(words: Sequence[str]) -> Step | None:
    if len(words) < 2 or words[0] not in ("attach", "a") or not _NAME.match(words[1]):
        return None
    return _kept("zmx", words[1], words[2:], makes=True, alone=True)


def _shpool(words: Sequence[str]) -> Step | None:
    if words[:1] != ["attach"]:
        return None
    names = [word for word in words[1:] if word not in ("-f", "--force")]
    if len(names) != 1 or not _NAME.match(names[0]):
        return None
    return Step(ENSURE, ("shpool",), names[0], free=len(names) == len(words) - 1)


# Everything that atch would take for another command.
_ATCH_VERBS = frozenset(
    (
        *("new", "n", "start", "s", "run", "push", "p", "kill", "k", "clear", "tail", "list", "l", "ls"),
        *("rm", "current", "help", "version", "stop", "detach"),
    )
)


def _atch(words: Sequence[str]) -> Step | None:
    read = _options(words, "qEzt", "erRC")
    if read is None:  # the older form begins with a mode
        return _dtach_like_atch(words)
    _, rest = read
    makes = rest[:1] not in (["attach"], ["a"])
    if not makes:
        del rest[0]
    if not rest or not _PATH.match(rest[0]) or (makes and rest[0] in _ATCH_VERBS):
        return None
    command = rest[2:] if rest[1:2] == ["--"] else rest[1:]
    return _kept("atch", rest[0], command, makes, alone=True)


def _dtach_like_atch(words: Sequence[str]) -> Step | None:
    if words[0] not in ("-a", "-A") or len(words) < 2 or not _PATH.match(words[1]):
        return None
    return _kept("atch", words[1], words[2:], makes=words[0] == "-A", alone=True)


def _idle(words: Sequence[str]) -> Step | None:
    return Step(NOTHING)


def _idle_bare(words: Sequence[str]) -> Step | None:
    return None if words else Step(NOTHING)


def _idle_export(words: Sequence[str]) -> Step | None:
    names = [word.partition("=")[0] for word in words]
    return Step(NOTHING) if names and all(map(LOOKS.fullmatch, names)) else None


def _cd(words: Sequence[str]) -> Step | None:
    return MOVES


def _idle_command(words: Sequence[str]) -> Step | None:
    """Only "command -v tmux" comes here: it looks."""
    return Step(NOTHING) if words[:1] == ["-v"] else None


TABLE: dict[str, Callable[[Sequence[str]], Step | None]] = {
    "tmux": _tmux,
    "screen": _screen,
    "byobu": _byobu,
    "zellij": _zellij,
    "dtach": _dtach,
    "abduco": _abduco,
    "diss": _diss,
    "zmx": _zmx,
    "shpool": _shpool,
    "atch": _atch,
    "cd": _cd,
    "true": _idle,
    ":": _idle,
    "echo": _idle,
    "stty": _idle,
    "which": _idle,
    "clear": _idle_bare,
    "export": _idle_export,
    "command": _idle_command,
}
