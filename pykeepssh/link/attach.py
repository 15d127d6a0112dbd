"""Whether a remote command finds the same session again if it is run again (DESIGN 2, kind attach).

The command is read as a shell would, its programs by one table, and what is not known there is no
attaching: in doubt the answer is no.  Then it is tried out on paper: whatever sessions there were
before, and wherever it was attached when the link died, a second run must come to the same session
and make none.  Knows sh's grammar of a line and these programs' words.  Must not know how a
session is started or kept.

Seen with tmux 3.3a, screen 4.9, dtach 0.9, byobu 5.133; others by their manuals.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Generator, Iterable, Sequence
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


class Line(NamedTuple):
    """A list of commands, each with the operator before it: "", ";", "&&" or "||".  A shell of its own."""

    parts: tuple[tuple[str, Step | Line], ...]
    ends: bool = False


def attaches(command: str) -> bool:
    """Tell whether a remote command may be run again because it finds the same session again."""
    line = _read(command)
    return line is not None and _finds_again(line)


# -- the shell -----------------------------------------------------------------------------------------

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
_SHELLS = frozenset(("sh", "bash", "dash", "zsh", "ksh", "mksh", "fish"))
_RUNS_A_STRING = re.compile(r"-[il]*c\Z")
# What decides which program a new session runs, or what a program loads.
_DECIDING = re.compile(r"SHELL|ENV|BASH_ENV|SCREENRC|ABDUCO_CMD|BYOBU_.*|LD_.*|DYLD_.*|PATH|HOME|ZDOTDIR")
_LOOKS = re.compile(r"TERM|COLORTERM|LANG|LANGUAGE|LC_[A-Z]+")  # these decide about no session


class _Word(NamedTuple):
    """A word.

    text   what the shell makes of it; an expansion is a name between NULs
    plain  its part before the first quote or expansion
    """

    text: str
    plain: str


def _read(command: str, within: int = 0) -> Line | None:
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
    elsewhere = tuple(word.text for word, name in zip(assigned, names) if not _LOOKS.fullmatch(name))
    if program in _SHELLS or program == "\0SHELL\0":
        line = _read(rest[-1], within + 1) if _is_a_string(rest) and not elsewhere else None
        return line and line._replace(ends=ends)
    rule = _TABLE.get(program)
    step = rule(rest) if rule else None
    return step and step._replace(server=step.server and step.server + elsewhere, ends=ends)


def _is_a_string(rest: Sequence[str]) -> bool:
    """Tell whether a shell's words are -c and a string, with no expansion in it that would be read again."""
    if len(rest) < 2 or "\0" in rest[-1]:
        return False
    *flags, last = rest[:-1]
    return bool(_RUNS_A_STRING.match(last)) and _FLAGS_OF_SHELLS.issuperset(flags)


def _take_assignments(words: list[_Word]) -> list[_Word]:
    """Take what reads "NAME=value" off the beginning and return it."""
    taken = []
    while words:
        name, equals, _ = words[0].plain.partition("=")
        if not (equals and name.isidentifier() and name.isascii()):
            break
        taken.append(words.pop(0))
    return taken


# -- the programs --------------------------------------------------------------------------------------

_NAME = re.compile(r"[\w\0][\w\0@%+,= -]*\Z")
_PATH = re.compile(r"[\w\0./~][\w\0@%+,=./: -]*\Z")
_FLAGS_OF_SHELLS = frozenset(("-l", "-i", "-il", "-li", "--login", "--norc", "--noprofile"))
_EDITORS = frozenset(("vi", "vim", "nvim", "nano", "emacs", "micro", "hx"))
_FOR_PERSONS = frozenset(("irssi", "weechat", "mutt", "neomutt", "htop", "top", "mc", "dvtm"))


def _waits_for_a_person(words: Sequence[str]) -> bool:
    """Tell whether a program ends only when a person ends it.

    Nobody can while the link is dead: it is there still, and were it not (the machine was started
    again), a fresh one is what a login would give.  Any other command may have done its work
    meanwhile and would be run twice.
    """
    program, *rest = words
    program = program.rpartition("/")[2]
    if program in _SHELLS or program == "\0SHELL\0":
        return _FLAGS_OF_SHELLS.issuperset(rest)
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
    return Step(NOTHING) if names and all(map(_LOOKS.fullmatch, names)) else None


def _cd(words: Sequence[str]) -> Step | None:
    return MOVES


def _idle_command(words: Sequence[str]) -> Step | None:
    """Only "command -v tmux" comes here: it looks."""
    return Step(NOTHING) if words[:1] == ["-v"] else None


_TABLE: dict[str, Callable[[Sequence[str]], Step | None]] = {
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


# -- on paper ------------------------------------------------------------------------------------------

_Session = tuple[tuple[str, ...], str]
_MADE, _AT = "made", "at"
_MOST_BITS = 10


class _World(NamedTuple):
    """The sessions that there are, and the one used last of each server."""

    sessions: set[_Session]
    last: dict[tuple[str, ...], _Session]

    def find(self, step: Step) -> _Session | None:
        """Return the session that a step means, if it is there."""
        if step.name != ANY:
            session = step.server, step.name or ANY
            return session if step.name is not None and session in self.sessions else None
        last = self.last.get(step.server)
        return last or next((each for each in sorted(self.sessions) if each[0] == step.server), None)

    def make(self, step: Step) -> _Session:
        """Add a session; return it."""
        name = step.name or f"\n{len(self.sessions)}"
        session = step.server, name
        self.sessions.add(session)
        return session

    def lose(self, session: _Session) -> None:
        """Take a session away."""
        self.sessions.discard(session)
        self.last.pop(session[0], None)

    def copy(self) -> _World:
        return _World(set(self.sessions), dict(self.last))


class _Fate(NamedTuple):
    """How turns out what is not known.

    idle   the status of each step that does nothing
    left   each attachment is left in good order; else its session came to its end, with an error
    taken  a session where somebody is attached still
    """

    idle: dict[int, bool]
    left: bool
    taken: _Session | None = None


_Happening = tuple[str, _Session]
_Walk = Generator[_Happening, None, tuple[bool, bool]]


def _finds_again(line: Line) -> bool:
    steps = list(_steps(line))
    idle = [id(step) for step in steps if step.verb == NOTHING]
    others = {step.server for step in steps if step.server}
    named = {(step.server, step.name) for step in steps if step.server and step.name}
    sessions = sorted(named | {(server, "\nother") for server in others})
    if len(sessions) + len(idle) + 1 > _MOST_BITS:
        return False
    attached = False
    for bits in itertools.product((False, True), repeat=len(sessions) + len(idle) + 1):
        left, *rest = bits
        there = {session for session, bit in zip(sessions, rest) if bit}
        fate = _Fate(dict(zip(idle, rest[len(sessions) :])), left)
        world = _World(there, {})
        for what, session in _walk(line, world, fate):
            if what == _AT:
                attached = True
                if not _comes_back(line, world, fate, session):
                    return False
    return attached


def _comes_back(line: Line, world: _World, fate: _Fate, session: _Session) -> bool:
    """Tell whether another run comes to the same session, and makes none while the lost client is there."""
    again = (_AT, session)
    first = next(_walk(line, world.copy(), fate), None)
    if first != again:
        return False
    taken = next(_walk(line, world.copy(), fate._replace(taken=session)), None)
    return taken in (None, again)


def _steps(line: Line) -> Iterable[Step]:
    for _, part in line.parts:
        if isinstance(part, Line):
            yield from _steps(part)
        else:
            yield part


def _walk(line: Line, world: _World, fate: _Fate) -> _Walk:
    """Run a line on paper: yields what happens, returns its status and whether its shell is left."""
    status = True
    for operator, part in line.parts:
        if (operator == "&&" and not status) or (operator == "||" and status):
            continue
        if isinstance(part, Line):
            status, _ = yield from _walk(part, world, fate)
        else:
            status = yield from _do(part, world, fate)
        if part.ends:
            return status, True
    return status, False


def _do(step: Step, world: _World, fate: _Fate) -> Generator[_Happening, None, bool]:
    if step.verb == NOTHING:
        return fate.idle[id(step)]
    session = world.find(step)
    if step.verb == HAS:
        return session is not None
    if session is None:
        if step.verb == ATTACH:
            return False
        session = world.make(step)
        yield _MADE, session
        if step.verb == ASIDE:
            return True
    elif step.verb in (MAKE, ASIDE) or (step.free and session == fate.taken):
        return False
    world.last[step.server] = session
    yield _AT, session
    if not fate.left:
        world.lose(session)
    return fate.left
