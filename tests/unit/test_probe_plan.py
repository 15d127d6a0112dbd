"""Which idle times are tried, and what the answers mean: tables, and any timeout at all."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ctl.probe.plan import (
    ALIVE,
    AT_ONCE,
    BUSY,
    CLOSED,
    KNOWN_S,
    LONGEST_INTERVAL_S,
    MOST_SESSIONS,
    RESET,
    SILENT,
    Result,
    Verdict,
    decided,
    finest_s,
    ladder,
    refine,
    sentences,
)

LETTERS = {"a": ALIVE, "s": SILENT, "r": RESET, "c": CLOSED, "b": BUSY}


def results(text: str) -> list[Result]:
    """Return the results that a line tells of: "5a 10s" was alive after 5 s and silent after 10."""
    return [Result(float(word[:-1]), LETTERS[word[-1]]) for word in text.split()]


def words(seconds: float) -> str:
    return f"{seconds:g} s"


@pytest.mark.parametrize(
    ("max_s", "remembered", "expected"),
    [
        (2, (), [1, 2]),
        (20, (), [1, 2, 5, 10, 20]),
        (30, (), [2, 4, 8, 15, 30]),
        (240, (), [7, 14, 29, 58, 115, 240]),
        (600, (), [7, 14, 29, 58, 115, 230, 268, 324, 458, 600]),
        (1200, (), [7, 14, 29, 58, 115, 230, 268, 324, 458, 849, 1200]),
        (3600, (), [14, 29, 58, 115, 230, 268, 324, 458, 849, 1470, 2546, 3600]),
        (7440, (), [14, 29, 58, 115, 230, 268, 324, 458, 849, 1470, 2546, 7440]),
        (600, (345.0, 351.2), [7, 14, 29, 58, 115, 230, 268, 324, 345, 351, 458, 600]),
        (20, (0.0, 12.0, 13.1, 30.0), [1, 2, 5, 10, 12, 13, 20]),
    ],
)
def test_the_first_round_climbs_a_ladder(
    max_s: int, remembered: Sequence[float], expected: list[int]
) -> None:
    assert ladder(max_s, remembered) == expected


@given(st.integers(2, 86400), st.lists(st.floats(0, 90000), max_size=2))
def test_a_ladder_ascends_to_the_longest_time_with_few_sessions(max_s: int, remembered: list[float]) -> None:
    rungs = ladder(max_s, remembered)
    assert rungs == sorted(set(rungs))
    assert rungs[0] >= 1
    assert rungs[-1] == max_s
    assert len(rungs) <= MOST_SESSIONS


def test_a_bracket_of_the_first_round_holds_one_known_timeout() -> None:
    rungs = ladder(3600)
    for low, high in zip(rungs, rungs[1:]):
        assert sum(low < known < high for known in KNOWN_S) <= 1


def test_few_log_in_at_once() -> None:
    assert AT_ONCE < 10  # MaxStartups 10:30:100


@pytest.mark.parametrize(
    ("found", "alive_s", "dead_s", "how", "busy_s", "later_s"),
    [
        ("", 0, None, None, None, None),
        ("5a 10a", 10, None, None, None, None),
        ("10s 5a 20s", 5, 10, SILENT, None, None),
        ("5a 7.2r 7.1r", 5, 7.1, RESET, None, None),
        ("5c", 0, 5, CLOSED, None, None),
        ("5s 10s", 0, 5, SILENT, None, None),
        ("2a 5s 10a 20s", 2, 5, SILENT, None, 10),
        ("5s 5a", 0, 5, SILENT, None, 5),
        ("2a 5b 5b", 5, None, None, 5, None),
        ("2a 5b 10s", 5, 10, SILENT, 5, None),
    ],
)
def test_results_become_a_verdict(
    found: str,
    alive_s: float,
    dead_s: float | None,
    how: str | None,
    busy_s: float | None,
    later_s: float | None,
) -> None:
    verdict = Verdict(results(found))
    assert (verdict.alive_s, verdict.dead_s, verdict.how) == (alive_s, dead_s, how)
    assert (verdict.busy_s, verdict.later_s) == (busy_s, later_s)
    assert verdict.known == bool(found)


@pytest.mark.parametrize(
    ("found", "interval_s"),
    [
        ("230a 240s", 60),
        ("115a 230s", 57),
        ("10a 11s", 3),
        ("10a 30s", 5),
        ("10s", 3),
        ("1s", 1),
        ("1a 2s", 1),
        ("1200a", 60),
        ("100a", 50),
        ("20a", 15),
        ("15b", 15),
        ("", 15),
    ],
)
def test_the_interval_leaves_room_for_a_lost_keepalive(found: str, interval_s: int) -> None:
    assert Verdict(results(found)).interval_s == interval_s


@given(st.floats(1, 90000), st.floats(0.1, 1))
def test_two_keepalives_fall_into_the_shortest_fatal_time(dead_s: float, part: float) -> None:
    interval_s = Verdict([Result(dead_s, SILENT), Result(dead_s * part / 2, ALIVE)]).interval_s
    assert 1 <= interval_s <= LONGEST_INTERVAL_S
    assert interval_s == 1 or 3 * interval_s <= dead_s


@pytest.mark.parametrize(
    ("found", "step_s", "expected"),
    [
        ("5a", None, []),
        ("5a 10s", None, [6, 7, 8, 9, 10]),
        ("5a 10s", 2, [7, 9, 10]),
        ("5a 10s", 5, []),
        ("10s", None, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("5.1a 7.2r", None, [6, 7, 8]),
        ("230a 268s", None, [235, 240, 245, 250, 255, 260, 265, 268]),
        ("458a 849s", 1, [491, 524, 557, 590, 623, 656, 689, 722, 755, 788, 821, 849]),
    ],
)
def test_the_second_round_lies_in_the_bracket(found: str, step_s: int | None, expected: list[int]) -> None:
    plan = refine(Verdict(results(found)), step_s)
    assert plan == expected
    assert len(plan) <= MOST_SESSIONS


@pytest.mark.parametrize(("dead_s", "expected"), [(1, 1), (20, 1), (350, 7), (3600, 72)])
def test_how_narrow_is_narrow_enough(dead_s: float, expected: int) -> None:
    assert finest_s(dead_s) == expected


@pytest.mark.parametrize(
    ("found", "waiting", "expected"),
    [
        ("", [], True),
        ("", [5], False),
        ("5a", [10], False),
        ("10s", [20], False),
        ("10s 20s", [30, 40], True),
        ("10s 30s", [20, 40], False),
        ("5b", [10], True),
        ("5b", [4, 10], False),
        ("5s 10a", [20], False),
    ],
)
def test_what_cannot_change_the_verdict_is_not_waited_for(
    found: str, waiting: list[int], expected: bool
) -> None:
    assert decided(results(found), waiting) is expected


@given(st.integers(1, 8000), st.integers(2, 7440), st.none() | st.integers(1, 60))
def test_two_rounds_find_any_timeout(timeout_s: int, max_s: int, step_s: int | None) -> None:
    """A path that cuts whatever was idle for longer than a timeout; sessions answer in their order."""

    def answers(plan: list[int], earlier: list[Result]) -> list[Result]:
        found: list[Result] = []
        for place, idle_s in enumerate(plan):
            if decided([*earlier, *found], plan[place:]):
                break
            found.append(Result(idle_s, ALIVE if idle_s <= timeout_s else SILENT))
        return found

    first = answers(ladder(max_s), [])
    whole = first + answers(refine(Verdict(first), step_s), first)
    verdict = Verdict(whole)
    assert verdict.later_s is None
    assert verdict.alive_s <= timeout_s
    if timeout_s >= max_s:
        assert (verdict.alive_s, verdict.dead_s) == (max_s, None)
    else:
        assert verdict.dead_s is not None
        assert verdict.dead_s > timeout_s
        before = Verdict(first)
        assert before.dead_s is not None
        width = before.dead_s - before.alive_s
        narrow = max(step_s or finest_s(before.dead_s), math.ceil(width / MOST_SESSIONS))
        assert verdict.dead_s - verdict.alive_s <= min(width, narrow)


CUT = "A connection to host is cut after 5 s to 6 s of quiet,\n"
SAID = {
    "": "Nothing is known yet.",
    "5a": "A connection to host survives 5 s of quiet; none was cut.",
    "5a 6s": CUT + "in silence: packets vanish, and neither side is told.",
    "5a 6r": CUT + "with a reset.",
    "6c": "A connection to host is cut after less than 6 s of quiet, the shortest time tried,\n"
    "by the server, in order (ChannelTimeout in sshd_config(5)?): keepalive may not prevent that.",
    "5a 6r 7a": CUT + "with a reset.\n"
    "The results contradict each other: 7 s of quiet was survived once.\n"
    "The most cautious value is taken; a line that loses packets can look like this.",
    "5b": "Something sends after 5 s of quiet: the server's ClientAliveInterval, or keepalive\n"
    "of a jump host.  That keeps the path open, and hides what more quiet would do.",
}


@pytest.mark.parametrize("found", SAID)
def test_the_verdict_in_words(found: str) -> None:
    assert "\n".join(sentences(Verdict(results(found)), "host")) == SAID[found]
