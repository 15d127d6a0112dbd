"""The history of a link: what is written is read again, and what events add up to."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, strategies as st

from pykeepssh.link import history
from pykeepssh.link.history import (
    EVENTS,
    LINK_DOWN,
    LINK_UP,
    NOT_RUNNING,
    STARTED,
    STARTING,
    UNKNOWN,
    Entry,
    Period,
    Share,
    newer_half,
    outages,
    pack,
    periods,
    share,
    strip,
    unpack,
)
from pykeepssh.link.outcomes import DOWN, ENDED, GAVE_UP, LEFT, LOST, RETRY, UNREACHABLE, UP, Report
from pykeepssh.link.wording import duration

# What one kssh tells, as (seconds, event) or (seconds, event, outcome).
HEALTHY = [(0, STARTED), (1, UP)]
LOSES = [*HEALTHY, (10, DOWN, LOST), (10, RETRY, LOST)]
RETURNS = [*LOSES, (12, RETRY, UNREACHABLE), (15, UP)]
STOPPED = [*HEALTHY, (10, DOWN, LEFT), (10.5, ENDED, LEFT)]
GIVES_UP = [(0, STARTED), (1, RETRY, UNREACHABLE), (3, GAVE_UP, UNREACHABLE)]


def entries(told: list[tuple[float, str] | tuple[float, str, str]], pid: int = 1) -> list[Entry]:
    return [
        Entry(float(at), pid, Report(event, *(rest or ("",)), "".join(f"why {word}" for word in rest)))
        for at, event, *rest in told
    ]


def states(told: list[Entry], now: float, running: bool = True) -> list[tuple[float, float, str]]:
    return [(period.begin, period.end, period.state) for period in periods(told, now, running)]


@pytest.mark.parametrize(
    ("told", "running", "expected"),
    [
        ([], True, []),
        (HEALTHY, True, [(0, 1, STARTING), (1, 20, LINK_UP)]),
        (HEALTHY, False, [(0, 1, STARTING), (1, 20, UNKNOWN)]),
        ([(0, STARTED)], True, [(0, 20, STARTING)]),
        (LOSES, True, [(0, 1, STARTING), (1, 10, LINK_UP), (10, 20, LINK_DOWN)]),
        (
            RETURNS,
            True,
            [(0, 1, STARTING), (1, 10, LINK_UP), (10, 15, LINK_DOWN), (15, 20, LINK_UP)],
        ),
        (STOPPED, False, [(0, 1, STARTING), (1, 10, LINK_UP), (10, 20, NOT_RUNNING)]),
        (GIVES_UP, False, [(0, 20, LINK_DOWN)]),
        # The older half was cut off.
        (RETURNS[4:], True, [(12, 15, LINK_DOWN), (15, 20, LINK_UP)]),
        # The clock was set back: time stands still until it has caught up.
        ([(5, STARTED), (2, UP), (7, DOWN, LOST)], True, [
            (5, 5, STARTING), (5, 7, LINK_UP), (7, 20, LINK_DOWN),
        ]),
    ],
)  # fmt: skip
def test_events_add_up_to_periods(
    told: list[tuple[float, str]], running: bool, expected: list[tuple[float, float, str]]
) -> None:
    assert states(entries(told), 20.0, running) == expected  # type: ignore[arg-type]


def test_a_kssh_that_was_killed_leaves_an_unknown_time() -> None:
    told = [*entries(HEALTHY), *entries([(50, STARTED), (51, UP)], pid=2)]
    assert states(told, 60.0) == [(0, 1, STARTING), (1, 50, UNKNOWN), (50, 51, STARTING), (51, 60, LINK_UP)]


def test_a_link_that_gave_up_is_down_until_it_is_back() -> None:
    told = [*entries(GIVES_UP), *entries([(50, STARTED), (51, UP)], pid=2)]
    assert states(told, 60.0) == [(0, 51, LINK_DOWN), (51, 60, LINK_UP)]


def test_a_link_that_was_stopped_is_not_down_until_somebody_wants_it() -> None:
    told = [*entries(STOPPED), *entries([(50, STARTED), (51, UP)], pid=2)]
    assert states(told, 60.0)[-3:] == [(10, 50, NOT_RUNNING), (50, 51, STARTING), (51, 60, LINK_UP)]


def test_an_outage_has_the_cause_that_began_it_and_counts_the_starts() -> None:
    found = outages(periods(entries(RETURNS), 20.0, True))
    assert found == [Period(10, 15, LINK_DOWN, LOST, "why lost", 2)]
    assert found[0].length_s == 5


def test_a_first_start_that_fails_is_an_outage_from_its_beginning() -> None:
    found = outages(periods(entries(GIVES_UP[:2]), 5.0, True))
    assert found == [Period(0, 5, LINK_DOWN, UNREACHABLE, "why unreachable", 1)]


def test_availability_counts_what_is_known() -> None:
    found = periods(entries(RETURNS), 20.0, True)
    assert share(found, 0, 20) == Share(14, 5)
    assert share(found, 0, 20).available == pytest.approx(14 / 19)
    assert share(found, 9, 11) == Share(1, 1)
    assert share(found, -100, 0.5) == Share(0, 0)
    assert share(found, -100, 0.5).available is None
    assert share(found, 100, 200).available is None


def test_a_strip_shares_the_time_evenly() -> None:
    found = periods(entries(RETURNS), 20.0, True)
    assert strip(found, 0, 20, 4) == [Share(4, 0), Share(5, 0), Share(0, 5), Share(5, 0)]


told_events = st.builds(
    Report,
    st.sampled_from(EVENTS),
    st.sampled_from(["", LOST, UNREACHABLE]),
    st.text(max_size=20),
    st.integers(0, 10**6),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
    st.booleans(),
    st.booleans(),
    st.lists(st.tuples(st.integers(1, 65535), st.text(max_size=9)), max_size=3).map(tuple),
)


@given(st.floats(0, 4e9), st.integers(1, 2**22), told_events)
def test_what_is_written_is_read_again(wall: float, pid: int, report: Report) -> None:
    line = pack(wall, pid, report)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii()
    entry = unpack(line)
    assert entry is not None
    if report.event == RETRY and report.delay_s is None:
        report = report._replace(delay_s=math.inf)
    assert entry.pid == pid
    assert entry.wall == pytest.approx(wall, abs=0.001)
    assert entry.report._replace(delay_s=None, session_s=None) == report._replace(
        delay_s=None, session_s=None
    )
    assert entry.report.delay_s == (
        None if report.delay_s is None else pytest.approx(report.delay_s, abs=0.001)
    )


@pytest.mark.parametrize("seconds", [0.1496, 0.9499, 9.9496, 59.4996, 3599.4996])
def test_a_time_reads_the_same_in_words_as_when_it_was_told(seconds: float) -> None:
    entry = unpack(pack(1.0, 2, Report(RETRY, LOST, "", 3, seconds)))
    assert entry is not None and entry.report.delay_s is not None
    assert duration(entry.report.delay_s) == duration(seconds)


def test_a_wait_for_a_person_has_no_end() -> None:
    entry = unpack(pack(1.0, 2, Report(RETRY, LOST, "", 3, math.inf)))
    assert entry is not None
    assert entry.report.delay_s == math.inf


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"event":"up"',
        b'{"event":"exploded","at":1,"pid":1}',
        b'{"event":["up"],"at":1,"pid":1}',
        b'{"event":"up","at":"now","pid":1}',
        b'{"event":"up","at":-1,"pid":1}',
        b'{"event":"up","at":NaN,"pid":1}',
        b'{"event":"up","at":1,"pid":true}',
        b'{"event":"up","at":1,"pid":1,"start":"x"}',
        b'{"event":"up","at":1,"pid":1,"reason":3}',
        b'{"event":"up","at":1,"pid":1,"outcome":["x"]}',
    ],
)
def test_a_line_that_is_none_is_passed_over(line: bytes) -> None:
    assert unpack(line) is None


@given(st.lists(st.tuples(st.floats(0, 1000), st.integers(1, 3), told_events), max_size=30), st.booleans())
def test_periods_are_without_gaps_and_shares_add_up(
    told: list[tuple[float, int, Report]], running: bool
) -> None:
    found = periods([Entry(*one) for one in told], 2000.0, running)
    assert bool(found) == bool(told)
    for one, other in zip(found, found[1:]):
        assert one.end == other.begin
        assert one.state != other.state
    if found:
        assert found[-1].end == 2000.0
        whole = share(found, 0, 2000)
        parts = strip(found, 0, 2000, 7)
        assert sum(part.up_s for part in parts) == pytest.approx(whole.up_s)
        assert sum(part.down_s for part in parts) == pytest.approx(whole.down_s)
        assert whole.up_s + whole.down_s <= 2000.001


@pytest.mark.parametrize(
    ("data", "kept"),
    [(b"", b""), (b"a\nb\nc\nd\n", b"d\n"), (b"one line\n", b""), (b"aa\nbb\ncc", b"cc")],
)
def test_the_newer_half_begins_with_a_whole_line(data: bytes, kept: bytes) -> None:
    assert newer_half(data) == kept


def test_every_event_has_a_state() -> None:
    assert {UP, DOWN, RETRY, GAVE_UP, ENDED, STARTED} == set(EVENTS)
    assert history.EVENTS == EVENTS
