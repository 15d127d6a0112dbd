"""What runs, in a person's words: records as rows, histories as a picture, and which link a name means.

Knows records, histories and wording.  Must not know where they come from, nor how a row is printed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..errors import printable
from ..link import outcomes
from ..link.history import LINK_DOWN, LINK_UP, Entry, Period, Share
from ..link.kinds import TUNNEL
from ..link.wording import duration, line

UP = "UP"
WAITING = "WAITING"

# States of a record (machine.STATES), in words.
STATE_WORDS = {
    "STARTING": "connecting",
    UP: "up",
    WAITING: "waiting",
    "RESTARTING": "restarting",
    "STOPPING": "ending",
}


class Row(NamedTuple):
    """What a person is told of a link, column by column."""

    link: str
    state: str
    since: str
    restarts: str
    reason: str
    forwards: str
    retry: str


TITLES = Row("LINK", "STATE", "FOR", "RESTARTS", "LAST REASON", "FORWARDS", "NEXT RETRY")


def link_id(record: Mapping[str, Any]) -> str:
    """Return what a link is called: only tunnels have a name of their own, of others there are many."""
    name = str(record["name"])
    return name if record["kind"] == TUNNEL else f"{name}-{record['pid']}"


def row(record: Mapping[str, Any], wall: float) -> Row:
    """Return a record in words; wall is now."""
    state = record["state"]
    return Row(
        printable(link_id(record)),
        STATE_WORDS.get(state, printable(state)),
        duration(max(0.0, wall - record["since"])),
        str(restarts(record)),
        printable(record["reason"]),
        ", ".join([*(_forward(str(forward)) for forward in record["forwards"]), *_chosen(record)]),
        _next(record, wall),
    )


def restarts(record: Mapping[str, Any]) -> int:
    """Return how many times ssh was started again."""
    return max(0, int(record["starts"]) - 1)


def _forward(text: str) -> str:
    """Return a forward as ssh's option has it: "-L 8080:localhost:80"."""
    return printable(f"-{text[:1]} {':'.join(map(_bare, text[1:].split()))}")


def _chosen(record: Mapping[str, Any]) -> list[str]:
    """Return the ports that the server chose, where a record tells them as it should."""
    ports = (one for one in record["allocated"] if isinstance(one, dict))
    return [printable(f"port {one.get('port')} for {one.get('to')}") for one in ports]


def _bare(place: str) -> str:
    """Return an address of "ssh -G" as it is written on a command line: "[127.0.0.1]:80" without brackets."""
    host, bracket, port = place.rpartition("]:")
    return f"{host[1:]}:{port}" if bracket and ":" not in host and host.startswith("[") else place


def _next(record: Mapping[str, Any], wall: float) -> str:
    if record["state"] != WAITING:
        return ""
    if record["next"] is None:
        return "on Enter"
    left_s = math.ceil(record["next"] - wall)
    return f"in {duration(left_s)}" if left_s > 0 else "now"


def resting_row(name: str, entries: Sequence[Entry], wall: float) -> Row:
    """Return a link that does not run, but has a history, in words."""
    last = entries[-1] if entries else None
    since = "" if last is None else duration(max(0.0, wall - last.wall))
    reason = next((e.report.reason for e in reversed(entries) if e.report.reason), "")
    return Row(printable(name), "not running", since, "", printable(reason), "", "")


def exported(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record as "ksshctl status --json" shows it."""
    return {
        "link": link_id(record),
        "name": record["name"],
        "kind": record["kind"],
        "destination": record["destination"],
        "state": STATE_WORDS.get(record["state"], record["state"]),
        "up": record["state"] == UP,
        "since": record["since"],
        "restarts": restarts(record),
        "reason": record["reason"],
        "next": record["next"],
        "forwards": record["forwards"],
        "allocated": record["allocated"],
        "pid": record["pid"],
        "ssh_pid": record["ssh_pid"],
        "logfile": record["logfile"],
        "machine": record["machine"],
    }


# Names.


def matching(word: str, names: Mapping[str, str]) -> list[str]:
    """Return the links that a word means: one, none, or several if it is not clear which.

    names  link: destination
    """
    if word in names:
        return [word]
    same = [name for name, destination in names.items() if destination == word]
    return same or [name for name in names if word and name.startswith(word)]


# Histories.


def log_line(entry: Entry, name: str, stamp: str) -> str | None:
    """Return an event as kssh's own log has it, or None where kssh says nothing."""
    if entry.report.event == outcomes.DOWN:
        return None  # what follows it says the same
    told = (
        line(entry.report, TUNNEL) if entry.report.outcome or entry.report.event == outcomes.UP else "started"
    )
    return printable(f"{stamp} kssh[{entry.pid}]: {name}: {told}")


def percent(share: Share) -> str:
    """Return an availability: "99.98 %", never rounded up to 100."""
    if share.available is None:
        return "unknown"
    hundredths = math.floor(share.available * 10000)
    return f"{hundredths / 100:.2f} %" if hundredths < 10000 else "100 %"


def cell(share: Share, blocks: bool) -> tuple[str, str]:
    """Return a part of the strip, a block or a sign of ASCII, and its colour."""
    if share.available is None:
        shown, colour = "·.", "dim"
    elif share.down_s == 0:
        shown, colour = "█#", "green"
    elif share.available > 0.5:
        shown, colour = "▆+", "yellow"
    else:
        shown, colour = ("▂-", "yellow") if share.up_s else ("▁_", "red")
    return shown[0 if blocks else 1], colour


def outage_row(period: Period, ongoing: bool, stamp: str) -> tuple[str, str, str, str]:
    """Return an outage in words: when, how long, how many starts of ssh, why."""
    length = duration(period.length_s) + (" so far" if ongoing else "")
    why = period.reason or period.outcome
    return stamp, length, str(period.starts), printable(why)


OUTAGE_TITLES = ("DOWN SINCE", "FOR", "STARTS", "REASON")


def state_of(found: Sequence[Period], wall: float) -> str:
    """Return in a sentence how a link stands at the end of its periods."""
    if not found:
        return "no history"
    last = found[-1]
    words = {LINK_UP: "up", LINK_DOWN: "down"}.get(last.state, last.state)
    return f"{words} for {duration(max(0.0, wall - last.begin))}"
