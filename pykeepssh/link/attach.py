"""Whether a remote command finds the same session again if it is run again (DESIGN 2, kind attach).

The command is read as a shell would (shell_line.py), its programs by one table (attachers.py), and what
is not known there is no attaching: in doubt the answer is no.  Then it is tried out on paper: whatever
sessions there were before, and wherever it was attached when the link died, a second run must come
to the same session and make none.  Must not know how a session is started or kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable
from typing import NamedTuple

from . import shell_line
from .attachers import ANY, ASIDE, ATTACH, HAS, MAKE, NOTHING, Step
from .shell_line import Line

_Session = tuple[tuple[str, ...], str]
_MADE, _AT = "made", "at"
_MOST_BITS = 10


def attaches(command: str) -> bool:
    """Tell whether a remote command may be run again because it finds the same session again."""
    line = shell_line.read(command)
    return line is not None and _finds_again(line)


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
    """One guess at what nobody knows beforehand.

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
