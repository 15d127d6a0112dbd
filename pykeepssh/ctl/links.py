"""The verbs on links that run: status, stop, restart, retry, wait.

Knows terminals and signals.  Must not know how a record is found or checked.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable

from ..errors import KsshError, printable
from ..link import record
from ..link.kinds import COMMAND, STREAM
from ..link.wording import duration
from ..system import files, this_host
from . import overview, records
from .arguments import a_time
from .main import complain, say
from .records import Link, State, Unknown

NOT_UP = 3
UNKNOWN = 4

JSON_VERSION = 1
_WATCH_S = 1.0
_POLL_S = 0.1
_STOP_S = 10.0  # kssh gives ssh 3 s, and the loop of a busy machine a few
_REACT_S = 5.0


def add_parser(subparsers: Any) -> None:
    """Add the verbs of this module to ksshctl's."""
    status = _add(subparsers, "status", "show what runs", "*")
    status.description = (
        "Show what runs.  Exit status: 0 if all links are up (or all named ones); "
        "3 if one is not; 4 if a name is unknown."
    )
    shape = status.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print JSON; ksshctl(1) describes it")
    shape.add_argument(
        "--names", dest="names_only", action="store_true", help="print only names, one per line"
    )
    status.add_argument("--all", action="store_true", help="also tunnels that have run but do not run now")
    status.add_argument("--watch", action="store_true", help="refresh until Ctrl-C")
    stop = _add(subparsers, "stop", "stop links, and wait until they have ended", "+")
    stop.add_argument(
        "--timeout", type=a_time(), default=_STOP_S, metavar="TIME", help="wait at most this long [10]"
    )
    _add(subparsers, "restart", "restart ssh; if it waits for a retry, start it now", "+")
    _add(subparsers, "retry", "start ssh now if it waits for a retry; a link that is up is not touched", "+")
    wait = _add(subparsers, "wait", "wait until a link is up; it need not exist yet", 1)
    wait.description = (
        "Wait until a link is up; it need not exist yet.  Exit status: 0 if it is up; after the timeout "
        "3 if it is not, 4 if there is no such link."
    )
    wait.add_argument("--timeout", type=a_time(), metavar="TIME", help="wait at most this long [for ever]")


def _add(subparsers: Any, verb: str, summary: str, count: str | int) -> argparse.ArgumentParser:
    what = "a link: its name, its destination, or an unambiguous beginning of its name"
    parser: argparse.ArgumentParser = subparsers.add_parser(
        verb, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    parser.add_argument("names", nargs=count, metavar="NAME", help=what)
    records.add_user(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what a verb of this module says; return the exit status."""
    records.become_user(arguments.user)
    if arguments.verb == "status":
        return _watch(arguments) if arguments.watch else _status(arguments)
    if arguments.verb == "wait":
        return _wait(arguments.names[0], arguments.timeout)
    return _each(arguments)


# status


class View:
    """What is to be shown of the links that were asked for.

    rows     of the table
    notes    lines below it
    missing  lines about names that mean nothing
    """

    def __init__(self, found: State, words: list[str], with_resting: bool) -> None:
        wall = time.time()
        self.links: list[Link] = [] if words else list(found.links.values())
        self.missing: list[str] = []
        resting = sorted(set(found.histories) - set(found.links)) if with_resting and not words else []
        for word in dict.fromkeys(words):
            try:
                self.links.append(found.find(word))
            except Unknown as error:
                try:
                    resting.append(found.find_history(word))
                except Unknown:
                    self.missing.append(str(error))
        self.links = list({link.name: link for link in self.links}.values())
        self.rows = [overview.row(link.record, wall) for link in self.links]
        for name in resting:
            self.rows.append(overview.resting_row(name, records.read_history(found.histories[name]), wall))
        self.elsewhere = [] if words else found.elsewhere
        self.left_alone = None if words else found.left_alone
        self.resting = resting

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [printable(name) for name in (*(link.name for link in self.links), *self.resting)]

    @property
    def notes(self) -> list[str]:
        """Lines about links of other machines, which cannot be checked from here, and what was not read."""
        told = [
            printable(f"{overview.link_id(other)}: {_state_of(other)}, as {other['machine']} wrote; ")
            + "not checked from here"
            for other in self.elsewhere
        ]
        return [*told, self.left_alone] if self.left_alone else told

    def status(self) -> int:
        """Return the exit status that tells of these links."""
        if self.missing:
            return UNKNOWN
        return 0 if not self.resting and all(_is_up(link) for link in self.links) else NOT_UP

    def exported(self) -> dict[str, Any]:
        """Return what "--json" shows."""
        return {
            "version": JSON_VERSION,
            "machine": this_host.name(),
            "links": [overview.exported(link.record) for link in self.links],
            "resting": self.resting,
            "elsewhere": [overview.exported(other) for other in self.elsewhere],
        }


def _is_up(link: Link) -> bool:
    return bool(link.record["state"] == overview.UP)


def _state_of(record: dict[str, Any]) -> str:
    return overview.STATE_WORDS.get(record["state"], str(record["state"]))


def _status(arguments: argparse.Namespace) -> int:
    view = View(records.read(), arguments.names, arguments.all)
    if arguments.json:
        say(json.dumps(view.exported(), indent=2))
    elif arguments.names_only:
        say(*view.names)
    else:
        _show(view)
    for line in view.missing:
        complain(line)
    return view.status()


def _show(view: View) -> None:
    from . import tables  # 40 ms, only where a table is drawn

    if view.rows:
        tables.show(_table(view.rows))
    elif not view.missing and not view.elsewhere:
        say(_NOTHING)
    say(*view.notes)


_NOTHING = "no link runs"
_COLOURS = {"up": "green", "waiting": "yellow", "connecting": "yellow", "restarting": "yellow"}


def _table(rows: Sequence[overview.Row]) -> Any:
    from . import tables

    colours = {row.state: _COLOURS.get(row.state, "red") for row in rows}
    titles = overview.TITLES
    wrapped = titles.reason, titles.forwards
    spare = titles.forwards, titles.restarts, titles.reason, titles.since, titles.retry
    return tables.Columns(titles, rows, colours, wrapped, spare)


def _watch(arguments: argparse.Namespace) -> int:
    """Show the links until Ctrl-C; where nobody looks, only what changed."""
    if sys.stdout.isatty() and not arguments.json and not arguments.names_only:
        return _watch_live(arguments)
    shown: object = None
    while True:
        view = View(records.read(), arguments.names, arguments.all)
        # Lengths of time change with every look; what a link does, does not.
        told = [view.missing, view.resting, [link.record for link in view.links], view.elsewhere]
        if told != shown:
            if arguments.json:
                say(json.dumps(view.exported(), separators=(",", ":")))
            elif arguments.names_only:
                say(*view.names)
            else:
                _show(view)
                say(*view.missing)
            shown = told
        time.sleep(_WATCH_S)


def _watch_live(arguments: argparse.Namespace) -> int:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from . import tables

    view = View(records.read(), arguments.names, arguments.all)
    with Live(console=tables.console(), auto_refresh=False, screen=True) as live:
        try:
            while True:
                table = _table(view.rows) if view.rows else Text("" if view.elsewhere else _NOTHING)
                stamp = Text(f"{time.strftime('%H:%M:%S')}  Ctrl-C: end", style="dim")
                live.update(Group(stamp, table, *map(Text, [*view.notes, *view.missing])), refresh=True)
                time.sleep(_WATCH_S)
                view = View(records.read(), arguments.names, arguments.all)
        except KeyboardInterrupt:
            return view.status()


# stop, restart, retry


def _each(arguments: argparse.Namespace) -> int:
    """Do something to every link that is named; return the worst status."""
    found = records.read()
    links: dict[str, Link] = {}
    worst = 0
    for word in arguments.names:
        try:
            link = found.find(word)
            links[link.name] = link
        except Unknown as error:
            resting = _resting(found, word)
            complain(str(error) if resting is None else f"{printable(resting)}: not running")
            worst = UNKNOWN
    deeds: dict[str, Callable[[Link], Callable[[], str | None]]] = {
        "stop": _stop,
        "restart": _restart,
        "retry": _retry,
    }
    limit_s = arguments.timeout if arguments.verb == "stop" else _REACT_S
    deadline = time.monotonic() + limit_s
    waiting: list[tuple[Link, Callable[[], str | None]]] = []
    for link in links.values():
        try:
            waiting.append((link, deeds[arguments.verb](link)))
        except KsshError as error:
            complain(str(error))
            worst = max(worst, NOT_UP)
    for link, done in waiting:  # all were told first, so they take no longer than the slowest
        said = _until(done, deadline)
        if said is None:
            why = _why_not(link, arguments.verb)
            complain(f"{printable(link.name)}: no reaction within {duration(limit_s)}{why}")
            worst = max(worst, NOT_UP)
        else:
            say(f"{printable(link.name)}: {said}")
    return worst


def _resting(found: State, word: str) -> str | None:
    """Return the name of the tunnel that a word means and that does not run, None if there is none."""
    try:
        name = found.find_history(word)
    except Unknown:
        return None
    return None if name in found.links else name


def _until(done: Callable[[], str | None], deadline: float) -> str | None:
    while True:
        said = done()
        if said is not None or time.monotonic() >= deadline:
            return said
        time.sleep(_POLL_S)


def _why_not(link: Link, verb: str) -> str:
    if verb != "stop" and link.record["kind"] in (COMMAND, STREAM):
        return "; a remote command is not run twice"
    return f" (process {link.record['pid']})"


def _stop(link: Link) -> Callable[[], str | None]:
    if not records.send(link.record, signal.SIGTERM) and records.out_of_sight(link):
        raise KsshError(
            f"{printable(link.name)}: process {link.record['pid']} cannot be seen from here; stop it there"
        )
    return lambda: None if records.is_alive(link.record) else "stopped"


def _restart(link: Link) -> Callable[[], str | None]:
    if link.record["state"] == overview.WAITING:
        return _retry(link)
    return _told(link, "restarting")


def _retry(link: Link) -> Callable[[], str | None]:
    if link.record["state"] != overview.WAITING:
        said = f"{_state_of(link.record)}; nothing to retry"
        return lambda: said
    return _told(link, "connecting")


def _told(link: Link, said: str) -> Callable[[], str | None]:
    """Ask kssh for a fresh start; what is returned tells when it has begun."""
    before = _progress(link)
    if not records.send(link.record, signal.SIGUSR1):
        raise KsshError(f"{printable(link.name)}: has just ended")
    return lambda: said if _progress(link) != before else None


def _progress(link: Link) -> object:
    """Return what of a link's record changes when kssh does something."""
    data = files.read(link.path, record.MOST_BYTES)
    try:
        found = json.loads(data or b"null")
        return found["state"], found["starts"]
    except (ValueError, TypeError, KeyError):
        return None  # it ended


# wait


def _wait(word: str, limit_s: float | None) -> int:
    """Wait until a link is up."""
    deadline = None if limit_s is None else time.monotonic() + limit_s
    announced = False
    while True:
        link, why = None, ""
        try:
            link = records.read().find(word)
        except Unknown as error:
            why = str(error)
        if link is not None and _is_up(link):
            say(f"{printable(link.name)}: up")
            return 0
        if deadline is not None and time.monotonic() >= deadline:
            if link is None:
                complain(why)
                return UNKNOWN
            reason = f" ({printable(link.record['reason'])})" if link.record["reason"] else ""
            waited = duration(limit_s or 0)
            complain(f"{printable(link.name)}: {_state_of(link.record)} after {waited}{reason}")
            return NOT_UP
        if link is None and not announced and os.isatty(2):
            complain(f"{why}; waiting for it")
            announced = True
        time.sleep(_POLL_S if deadline is None else min(_POLL_S, max(0.0, deadline - time.monotonic())))
