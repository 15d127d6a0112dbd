"""What is shown of links: rows, tables, the strip, and which link a name means."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pykeepssh.ctl import overview
from pykeepssh.ctl.overview import (
    OUTAGE_TITLES,
    Row,
    cell,
    exported,
    log_line,
    matching,
    outage_row,
    percent,
    resting_row,
    row,
    state_of,
)
from pykeepssh.link import machine, record
from pykeepssh.link.history import LINK_DOWN, LINK_UP, NOT_RUNNING, STARTED, Entry, Period, Share
from pykeepssh.link.outcomes import DOWN, LOST, RETRY, UNREACHABLE, UP, Report

RECORD: dict[str, Any] = {
    "version": record.VERSION,
    "name": "bob",
    "kind": "tunnel",
    "destination": "bob@host",
    "machine": "here",
    "machine_key": "",
    "pid": 17,
    "pid_started": 5.0,
    "pid_mark": "",
    "ssh_pid": None,
    "state": "UP",
    "since": 100.0,
    "starts": 3,
    "reason": "Connection refused",
    "next": None,
    "allocated": [],
    "forwards": ["R2222 [localhost]:22"],
    "logfile": "",
}


def test_the_record_of_these_tests_is_one() -> None:
    assert record.unpack(record.pack(RECORD)) == RECORD


def test_a_link_that_is_up() -> None:
    assert row(RECORD, 165.0) == Row(
        "bob", "up", "1 min 5 s", "2", "Connection refused", "-R 2222:localhost:22", ""
    )


@pytest.mark.parametrize(
    ("change", "column", "expected"),
    [
        ({"state": "WAITING", "next": 104.2}, "retry", "in 5 s"),
        ({"state": "WAITING", "next": 99.0}, "retry", "now"),
        ({"state": "WAITING", "next": None}, "retry", "on Enter"),
        ({"state": "STARTING", "next": None}, "retry", ""),
        ({"state": "NEW\x1b"}, "state", r"NEW\033"),
        ({"since": 500.0}, "since", "0 s"),  # the clock was set back
        ({"starts": 0}, "restarts", "0"),
        ({"reason": "a\x1b[1m"}, "reason", r"a\033[1m"),
        ({"kind": "shell"}, "link", "bob-17"),
        ({"name": "b\nob"}, "link", r"b\012ob"),
        ({"forwards": []}, "forwards", ""),
        ({"forwards": ["L8080 [::1]:80", "D1080"]}, "forwards", "-L 8080:[::1]:80, -D 1080"),
        ({"forwards": ["L[127.0.0.1]:80 [h]:80"]}, "forwards", "-L 127.0.0.1:80:h:80"),
        ({"forwards": ["L80:h:80"]}, "forwards", "-L 80:h:80"),
        ({"forwards": ["L/a /b"]}, "forwards", "-L /a:/b"),
        ({"forwards": ["", "R"]}, "forwards", "- , -R "),
        (
            {"forwards": ["R0 [h]:22"], "allocated": [{"port": 4000, "to": "h:22"}, "\x1b"]},
            "forwards",
            "-R 0:h:22, port 4000 for h:22",
        ),
    ],
)
def test_a_column_in_words(change: dict[str, Any], column: str, expected: str) -> None:
    assert getattr(row({**RECORD, **change}, 100.0), column) == expected


def test_every_state_of_a_running_link_has_a_word() -> None:
    assert set(overview.STATE_WORDS) == set(machine.STATES) - {machine.IDLE, machine.ENDED}
    assert (overview.UP, overview.WAITING) == (machine.UP, machine.WAITING)


def test_what_is_exported_is_what_the_manual_promises() -> None:
    assert exported(RECORD) == {
        "link": "bob",
        "name": "bob",
        "kind": "tunnel",
        "destination": "bob@host",
        "state": "up",
        "up": True,
        "since": 100.0,
        "restarts": 2,
        "reason": "Connection refused",
        "next": None,
        "forwards": ["R2222 [localhost]:22"],
        "allocated": [],
        "pid": 17,
        "ssh_pid": None,
        "logfile": "",
        "machine": "here",
    }


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([], Row("bob", "not running", "", "", "", "", "")),
        (
            [Report(DOWN, LOST, "gone"), Report(UP)],
            Row("bob", "not running", "9 s", "", "gone", "", ""),
        ),
    ],
)
def test_a_link_that_does_not_run(told: list[Report], expected: Row) -> None:
    assert resting_row("bob", [Entry(1.0, 1, report) for report in told], 10.0) == expected


NAMES = {"alice@a-1": "alice@a", "bob": "b", "bobby": "b", "t": "alice@a-1", "tt": "x"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("bob", ["bob"]),  # exactly, though it begins another
        ("bobb", ["bobby"]),
        ("bo", ["bob", "bobby"]),
        ("b", ["bob", "bobby"]),
        ("alice@a", ["alice@a-1"]),  # a destination
        ("alice@a-1", ["alice@a-1"]),  # a name beats a destination
        ("x", ["tt"]),
        ("nobody", []),
        ("", []),
    ],
)
def test_which_links_a_word_means(word: str, expected: list[str]) -> None:
    assert matching(word, NAMES) == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Report(STARTED), "started"),
        (Report(UP, start=1), "tunnel is up"),
        (Report(UP, start=2, delay_s=5.0), "tunnel is up again after 5 s (start 2)"),
        (
            Report(RETRY, UNREACHABLE, "Connection refused", 2, 4.0),
            "unreachable (Connection refused); retry 2 in 4 s",
        ),
        (
            Report(RETRY, LOST, "a\x07", 2, math.inf),
            r"link lost (a\007); no answer to the prompt; press Enter to retry",
        ),
    ],
)
def test_an_event_reads_as_in_kssh_s_log(entry: Report, expected: str) -> None:
    assert log_line(Entry(1.0, 7, entry), "bob", "NOW") == f"NOW kssh[7]: bob: {expected}"


def test_what_the_next_line_tells_is_not_told_twice() -> None:
    assert log_line(Entry(1.0, 7, Report(DOWN, LOST)), "bob", "NOW") is None


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (Share(0, 0), "unknown"),
        (Share(10, 0), "100 %"),
        (Share(1_000_000, 1), "99.99 %"),
        (Share(1, 1), "50.00 %"),
        (Share(0, 5), "0.00 %"),
    ],
)
def test_availability_is_never_rounded_up(part: Share, expected: str) -> None:
    assert percent(part) == expected


@pytest.mark.parametrize(
    ("part", "block", "colour"),
    [
        (Share(0, 0), "·", "dim"),
        (Share(5, 0), "█", "green"),
        (Share(5, 0.01), "▆", "yellow"),
        (Share(1, 5), "▂", "yellow"),
        (Share(0, 5), "▁", "red"),
    ],
)
def test_a_cell_of_the_strip(part: Share, block: str, colour: str) -> None:
    assert cell(part, True) == (block, colour)
    plain, hue = cell(part, False)
    assert hue == colour
    assert plain.isascii() and len(plain) == 1


def test_the_cells_differ_without_colour_too() -> None:
    parts = [Share(0, 0), Share(5, 0), Share(5, 0.01), Share(1, 5), Share(0, 5)]
    for blocks in (True, False):
        assert len({cell(part, blocks)[0] for part in parts}) == len(parts)


def test_an_outage_in_words() -> None:
    period = Period(0, 65, LINK_DOWN, LOST, "gone", 3)
    assert outage_row(period, False, "then") == ("then", "1 min 5 s", "3", "gone")
    assert outage_row(period._replace(reason=""), True, "then") == ("then", "1 min 5 s so far", "3", LOST)
    assert len(OUTAGE_TITLES) == len(outage_row(period, False, ""))


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], "no history"),
        ([Period(0, 5, LINK_UP)], "up for 5 s"),
        ([Period(0, 5, LINK_UP), Period(5, 5, LINK_DOWN)], "down for 0 s"),
        ([Period(0, 5, NOT_RUNNING)], "not running for 5 s"),
    ],
)
def test_how_a_link_stands(found: list[Period], expected: str) -> None:
    assert state_of(found, 5.0) == expected
