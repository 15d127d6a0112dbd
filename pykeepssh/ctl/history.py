"""The verbs on what was: history, log.

Knows terminals and files.  Must not know how periods follow from events.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ..errors import KsshError, printable
from ..link import history
from ..link.wording import duration
from ..system import files
from . import overview, records
from .arguments import a_number
from .main import complain, say
from .records import State, Unknown

UNKNOWN = 4
JSON_VERSION = 1
_POLL_S = 0.3
_DAY_S = 86400.0
_WINDOWS = (("day", _DAY_S), ("week", 7 * _DAY_S), ("month", 30 * _DAY_S))
_COLUMNS = 80
_LEAST_COLUMNS, _MOST_COLUMNS = 30, 120
_INDENT = "       "
_LAST_LINES = 10  # as tail(1)


def add_parser(subparsers: Any) -> None:
    """Add the verbs of this module to ksshctl's."""
    summary = "show the outages and the availability of a tunnel"
    shown = _add(subparsers, "history", summary)
    shown.add_argument(
        "-n", "--outages", type=a_number(), default=20, metavar="N", help="show only the last N [20]"
    )
    shown.add_argument("--json", action="store_true", help="print JSON; ksshctl(1) describes it")
    log = _add(subparsers, "log", "print kssh's log of a link")
    log.add_argument("-f", "--follow", action="store_true", help="print new lines as they come")
    log.add_argument(
        "-n",
        "--lines",
        type=a_number(),
        metavar="N",
        help=f"only the last N [all; with -f {_LAST_LINES}]",
    )


def _add(subparsers: Any, verb: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = subparsers.add_parser(
        verb, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
    )
    what = "a link that runs or has run: its name or a beginning of it; while it runs, also its destination"
    parser.add_argument("name", metavar="NAME", help=what)
    records.add_user(parser)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Do what a verb of this module says; return the exit status."""
    records.become_user(arguments.user)
    found = records.read()
    try:
        return _log(found, arguments) if arguments.verb == "log" else _history(found, arguments)
    except Unknown as error:
        complain(str(error))
        return UNKNOWN


# history


def _history(found: State, arguments: argparse.Namespace) -> int:
    name = _with_history(found, arguments.name)
    entries = records.read_history(found.histories[name])
    link = found.links.get(name)
    running = link is not None and bool(entries) and entries[-1].pid == link.record["pid"]
    wall = time.time()
    periods = history.periods(entries, wall, running)
    if arguments.json:
        say(json.dumps(_exported(name, periods, wall), indent=2))
    else:
        say(f"{printable(name)}: {overview.state_of(periods, wall)}", "")
        _show_outages(history.outages(periods), arguments.outages, wall)
        say("")
        _show_availability(periods, wall)
    return 0


def _with_history(found: State, word: str) -> str:
    """Return the name of the link with a history that a word means.  Raises Unknown, KsshError."""
    try:
        return found.find_history(word)
    except Unknown:
        try:
            link = found.find(word)
        except Unknown:
            link = None
        if link is None or link.name in found.histories:
            raise
        raise _without_history(link) from None


def _without_history(link: records.Link) -> KsshError:
    return KsshError(f"{printable(link.name)}: only tunnels have a history; KSSH_LOGFILE keeps more")


def _show_outages(outages: list[history.Period], most: int, wall: float) -> None:
    from . import tables  # 40 ms, only where a table is drawn

    shown = outages[-most:] if most else []
    if not shown:
        say(f"{len(outages)} outages" if outages else "no outage")
        return
    titles = overview.OUTAGE_TITLES
    rows = [overview.outage_row(period, period.end >= wall, _stamp(period.begin)) for period in shown]
    tables.show(tables.Columns(titles, rows, wrapped=titles[-1:], spare=("STARTS",)))
    if len(outages) > len(shown):
        say(f"({len(outages) - len(shown)} earlier not shown; -n shows more)")


def _stamp(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))


def _show_availability(periods: list[history.Period], wall: float) -> None:
    from . import tables

    begin = periods[0].begin if periods else wall
    blocks = _shows_blocks()
    for name, length_s in _WINDOWS:
        share = history.share(periods, wall - length_s, wall)
        known = share.available is not None and begin > wall - length_s
        part = f"  (known for {duration(wall - begin)})" if known else ""
        say(f"{name:{len(_INDENT)}}{overview.percent(share)}{part}")
        shares = history.strip(periods, wall - length_s, wall, _cells())
        tables.show(tables.bar([(_INDENT, ""), *(overview.cell(share, blocks) for share in shares)]))


def _cells() -> int:
    columns = _COLUMNS
    if sys.stdout.isatty():
        try:
            columns = os.get_terminal_size(1).columns or _COLUMNS
        except OSError:
            pass
    return min(max(columns, _LEAST_COLUMNS), _MOST_COLUMNS) - len(_INDENT)


def _shows_blocks() -> bool:
    try:
        "█▁·".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _exported(name: str, periods: list[history.Period], wall: float) -> dict[str, Any]:
    return {
        "version": JSON_VERSION,
        "link": name,
        "availability": {
            window: history.share(periods, wall - length_s, wall).available for window, length_s in _WINDOWS
        },
        "periods": [
            {
                "begin": period.begin,
                "end": period.end,
                "state": period.state,
                "outcome": period.outcome,
                "reason": period.reason,
                "starts": period.starts,
            }
            for period in periods
        ],
    }


# log


def _log(found: State, arguments: argparse.Namespace) -> int:
    """Print the lines of KSSH_LOGFILE where the link has one, else those of its history."""
    try:
        link = found.find(arguments.name)
    except Unknown:
        link = None
    if link is not None and link.record["logfile"]:
        _tail(link.record["logfile"], arguments, lambda line: printable(os.fsdecode(line)))
        return 0
    if link is not None and link.name not in found.histories:
        raise _without_history(link)
    name = found.find_history(arguments.name)
    _tail(found.histories[name], arguments, lambda line: _told(name, line), files.open_own)
    return 0


def _told(name: str, line: bytes) -> str | None:
    entry = history.unpack(line)
    if entry is None:
        return None
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(entry.wall))
    return overview.log_line(entry, name, stamp)


def _tail(
    path: str, arguments: argparse.Namespace, shown: Any, opener: Callable[[str, int], int] = os.open
) -> None:
    most = arguments.lines
    if most is None and arguments.follow:
        most = _LAST_LINES
    try:
        file = _open(path, opener)
    except OSError as error:
        raise KsshError(f"{printable(path)}: {error.strerror}") from error
    except ValueError as error:  # whoever wrote the record wrote no path
        raise KsshError(f"{printable(path)}: not a file path") from error
    with file:
        lines = (line for line in map(shown, _lines(file)) if line is not None)
        say(*(lines if most is None else deque(lines, most)))
        if arguments.follow:
            _follow(path, file, shown, opener)


def _open(path: str, opener: Callable[[str, int], int]) -> BinaryIO:
    return open(opener(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines that are there; half a line waits for its end."""
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), os.SEEK_CUR)
            return
        yield line.rstrip(b"\r\n")


def _follow(path: str, file: BinaryIO, shown: Any, opener: Callable[[str, int], int]) -> None:
    """Print what is appended, for ever; a file that took this one's place is read from its first line on.

    A history that was shortened begins with lines that were printed: only newer ones follow.
    """
    latest = _last_line(file)
    while True:
        for line in _lines(file):
            latest = line
            say(*(told for told in [shown(line)] if told is not None))
        time.sleep(_POLL_S)
        replaced = _replacement(path, file, opener)
        if replaced is not None:
            file.close()
            file = replaced
            _skip_past(file, latest)


def _last_line(file: BinaryIO) -> bytes:
    here = file.tell()
    file.seek(max(0, here - 65536))
    lines = file.read(here - file.tell()).splitlines()
    file.seek(here)
    return lines[-1] if lines else b""


def _skip_past(file: BinaryIO, line: bytes) -> None:
    """Go behind a line, or stay at the beginning if it is not there."""
    for found in _lines(file):
        if found == line:
            return
    file.seek(0)


def _replacement(path: str, file: BinaryIO, opener: Callable[[str, int], int]) -> BinaryIO | None:
    """Return the file that stands in this one's place now, or None if it is the same."""
    try:
        there, here = os.stat(path), os.fstat(file.fileno())
        if not os.path.samestat(there, here):
            return _open(path, opener)
        if there.st_size < file.tell():
            file.seek(0)  # cut off, as copytruncate does
    except OSError:
        pass  # gone for the moment
    return None
