"""The history of a link: its format, a line of JSON for each event, and what the lines add up to.

Knows what follows from one event after another.  Must not know where a history is kept, nor how it
is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .outcomes import DOWN, ENDED, GAVE_UP, RETRY, UP, Report

STARTED = "started"  # kssh began to keep the link; no Report, as nobody is told

# States of a Period.
LINK_UP = "up"
LINK_DOWN = "down"
STARTING = "starting"  # for the first time, and nothing has failed yet
NOT_RUNNING = "not running"  # nobody wanted the link to be there
UNKNOWN = "unknown"  # kssh was killed, or the machine went down: nobody wrote when

_STATE_AFTER = {
    STARTED: STARTING,
    UP: LINK_UP,
    DOWN: LINK_DOWN,
    RETRY: LINK_DOWN,
    GAVE_UP: LINK_DOWN,  # somebody wanted the link, and it is not there
    ENDED: NOT_RUNNING,
}
EVENTS = tuple(_STATE_AFTER)
_FINAL = (GAVE_UP, ENDED)


class Entry(NamedTuple):
    """One line: when (epoch seconds), which kssh (its pid), and what it told."""

    wall: float
    pid: int
    report: Report


class Period(NamedTuple):
    """A time in which a link was in one state, in epoch seconds.

    outcome  for LINK_DOWN: why, in the words of outcomes
    reason   the same in a person's words: what began it
    starts   how many times ssh was started again in it
    """

    begin: float
    end: float
    state: str
    outcome: str = ""
    reason: str = ""
    starts: int = 0

    @property
    def length_s(self) -> float:
        """Seconds from begin to end."""
        return self.end - self.begin


class Share(NamedTuple):
    """How long a link was up and down in some time; what else there was of it is unknown or not run."""

    up_s: float
    down_s: float

    @property
    def available(self) -> float | None:
        """The part of the time that it was up, 0 to 1, or None if nothing is known."""
        known_s = self.up_s + self.down_s
        return self.up_s / known_s if known_s else None


# The format.


def pack(wall: float, pid: int, report: Report) -> bytes:
    """Return an event as a line of JSON; what is empty is left out."""
    line: dict[str, object] = {"at": round(wall, 3), "event": report.event, "pid": pid}
    if report.start:
        line["start"] = report.start
    if report.outcome:
        line["outcome"] = report.outcome
    if report.reason:
        line["reason"] = report.reason
    for name, seconds in (("delay", report.delay_s), ("session", report.session_s)):
        if seconds is not None and math.isfinite(seconds):
            line[name] = round(seconds, 6)  # so that it reads the same in words: 0.1496 is no 0.15
    for name in ("limit", "by_people"):
        if getattr(report, name):
            line[name] = True
    if report.allocated:
        line["allocated"] = report.allocated
    return json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def unpack(line: bytes) -> Entry | None:
    """Return the event of a line, or None if it is none that this version can read."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("event") not in EVENTS:
        return None
    wall, pid, start = (_number(found.get(name, 0)) for name in ("at", "pid", "start"))
    outcome, reason = found.get("outcome", ""), found.get("reason", "")
    if wall is None or pid is None or start is None or not _are_texts(outcome, reason):
        return None
    delay_s, session_s = _number(found.get("delay")), _number(found.get("session"))
    if found["event"] == RETRY and delay_s is None:
        delay_s = math.inf
    limit, by_people = (found.get(name) is True for name in ("limit", "by_people"))
    allocated = _ports(found.get("allocated"))
    return Entry(
        wall,
        int(pid),
        Report(found["event"], outcome, reason, int(start), delay_s, session_s, limit, by_people, allocated),
    )


def _ports(found: object) -> tuple[tuple[int, str], ...]:
    """Return (port, where it leads) of each pair that is one."""
    pairs = found if isinstance(found, list) else []
    return tuple(
        (pair[0], pair[1])
        for pair in pairs
        if isinstance(pair, list) and [type(part) for part in pair] == [int, str]
    )


def _are_texts(*values: object) -> bool:
    return all(isinstance(value, str) for value in values)


def _number(value: object) -> float | None:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12
    return float(value) if usable else None  # type: ignore[arg-type]


def newer_half(data: bytes) -> bytes:
    """Return the lines that begin in the newer half of a history."""
    return data[data.find(b"\n", len(data) // 2) + 1 :]


# What the lines add up to.


def periods(entries: Iterable[Entry], now: float, running: bool) -> list[Period]:
    """Return the periods of a link from its first event on, each beginning where the one before ends.

    entries  in the order in which they were written
    now      epoch seconds
    running  whether the kssh of the last entry still runs
    """
    found: list[Period] = []
    last: Entry | None = None
    for entry in _in_order(entries):
        if last is not None:
            _add(found, last, entry.wall, entry)
        last = entry
    if last is not None:
        _add(found, last, max(now, last.wall), last if running else None)
    return found


def _in_order(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Yield entries with times that never go back, as a clock does that is set."""
    latest = 0.0
    for entry in entries:
        latest = max(latest, entry.wall)
        yield entry._replace(wall=latest)


def _add(found: list[Period], last: Entry, end: float, following: Entry | None) -> None:
    """Add the time that begins with one entry; following is what came next, or None if nobody told."""
    report = last.report
    state = _STATE_AFTER[report.event]
    if report.event not in _FINAL and (following is None or following.pid != last.pid):
        state = UNKNOWN
    elif report.event == DOWN and following is not None and following.report.event == ENDED:
        state = NOT_RUNNING  # ssh was told to end, and nothing had failed
    begin = last.wall
    period = Period(begin, end, state)
    if state == LINK_DOWN:
        period = Period(begin, end, state, report.outcome, report.reason, int(report.event == RETRY))
    if found and _goes_on(found[-1].state, state):
        before = found.pop()
        period = period._replace(
            begin=before.begin,
            state=LINK_DOWN if before.state == LINK_DOWN else state,
            outcome=before.outcome or period.outcome,
            reason=before.reason or period.reason,
            starts=before.starts + period.starts,
        )
    found.append(period)


def _goes_on(before: str, state: str) -> bool:
    """Tell whether two states are one period: a start that fails was an outage from the beginning."""
    return before == state or (before, state) in ((STARTING, LINK_DOWN), (LINK_DOWN, STARTING))


def outages(found: Sequence[Period]) -> list[Period]:
    """Return the times when the link was down because something failed."""
    return [period for period in found if period.state == LINK_DOWN]


def share(found: Iterable[Period], begin: float, end: float) -> Share:
    """Return how long the link was up and down between two times."""
    lengths = {LINK_UP: 0.0, LINK_DOWN: 0.0}
    for period in found:
        within_s = min(end, period.end) - max(begin, period.begin)
        if within_s > 0 and period.state in lengths:
            lengths[period.state] += within_s
    return Share(lengths[LINK_UP], lengths[LINK_DOWN])


def strip(found: Sequence[Period], begin: float, end: float, cells: int) -> list[Share]:
    """Return the time between begin and end in equal parts, each with what is known of it."""
    width_s = (end - begin) / cells
    return [share(found, begin + cell * width_s, begin + (cell + 1) * width_s) for cell in range(cells)]
