"""The ways in which a run of ssh can end, in the words that every floor uses."""

from __future__ import annotations

from typing import NamedTuple

FINISHED = "finished"
LEFT = "left"
LOST = "lost"
UNREACHABLE = "unreachable"
UNRESOLVED = "unresolved"
DENIED = "denied"
HOST_KEY = "host key"
FORGED = "forged"
REFUSED_SETUP = "refused setup"
PORT_HELD_REMOTE = "port held (remote)"
PORT_HELD_LOCAL = "port held (local)"
NOT_RESUMED = "no multiplexer"  # only told: the far side ran nothing of what KSSH_RESUME asks for


class Exit(NamedTuple):
    """How a process ended: its exit code, or the signal that ended it (the other is None)."""

    code: int | None = None
    signal: int | None = None


class Report(NamedTuple):
    """One thing worth telling: a line, a hook's facts and a state record are made of it.

    event      UP, DOWN, RETRY, GAVE_UP or ENDED
    outcome    why ssh ended, or "" for UP
    reason     the same in a person's words; for UP, what is missing all the same
    start      number of the start that ended or is up, from 1
    delay_s    wait before the next start, for RETRY; how long the link was down, for UP after that
    session_s  how long the session had lasted, or None if none was reached
    limit      GAVE_UP because of KSSH_MAXSTART
    allocated  for UP: (port, where it leads) that the server chose for each remote forward of port 0
    by_people  RETRY though only a person can fix what ended ssh
    """

    event: str
    outcome: str = ""
    reason: str = ""
    start: int = 0
    delay_s: float | None = None
    session_s: float | None = None
    limit: bool = False
    by_people: bool = False
    allocated: tuple[tuple[int, str], ...] = ()


# Events of a Report; the first four are also KSSH_EVENT of a hook.
UP = "up"
DOWN = "down"
RETRY = "retry"
GAVE_UP = "gave-up"
ENDED = "ended"
