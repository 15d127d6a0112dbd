"""The way back: knock, look up or listen; how often; and when an ssh under way is overtaken."""

from __future__ import annotations

import math
from random import Random
from typing import NamedTuple

import pytest

from pykeepssh.link import backoff, outcomes, way_back
from pykeepssh.link.outcomes import RETRY, Report
from pykeepssh.link.way_back import KNOCK, LISTEN, LOOK_UP, Way
from pykeepssh.ssh.evidence import CONNECTED, CONNECTING, STARTED, Evidence

HOST = ("192.0.2.1", 22)
OTHER = ("192.0.2.2", 22)


def seen_at(phase: int, address: tuple[str, int] | None = HOST) -> Evidence:
    seen = Evidence()
    seen.phase, seen.address = phase, address
    return seen


class End(NamedTuple):
    """How an ssh ended."""

    outcome: str = outcomes.UNREACHABLE
    delay_s: float = 4.0
    seen: Evidence | None = seen_at(CONNECTING)
    server: tuple[str, int] | None = None
    opened: bool = False


WAYS: dict[str, tuple[End, Way | None]] = {
    "no answer": (End(), Way(KNOCK, HOST)),
    "no answer where a session was before": (End(server=HOST), Way(KNOCK, HOST)),
    "it had answered": (End(seen=seen_at(CONNECTED)), Way(LISTEN)),
    "not on its way yet": (End(seen=seen_at(STARTED)), Way(LISTEN)),
    "no log": (End(seen=None), Way(LISTEN)),
    "no log, of a known server": (End(seen=None, server=HOST), Way(LISTEN)),
    "no address: a ProxyCommand": (End(seen=seen_at(CONNECTING, None)), Way(LISTEN)),
    "no address, behind a jump host": (End(seen=seen_at(CONNECTING, None), server=HOST), Way(KNOCK, HOST)),
    "a session that is restarted at once": (End(outcomes.LOST, 0.0, server=HOST), Way(KNOCK, HOST)),
    "the same without a log": (End(outcomes.LOST, 0.0, None, HOST), Way(KNOCK, HOST)),
    "the same of an unknown server": (End(outcomes.LOST, 0.0, None), Way(LISTEN)),
    "a session that died young again": (End(outcomes.LOST, 2.0, server=HOST), Way(LISTEN)),
    "no such name": (End(outcomes.UNRESOLVED, seen=seen_at(STARTED, None)), Way(LOOK_UP)),
    "no such name of a known server": (End(outcomes.UNRESOLVED, server=HOST), Way(LOOK_UP)),
    "wrong password": (End(outcomes.DENIED), Way(LISTEN)),
    "a port that is held": (End(outcomes.PORT_HELD_REMOTE, server=HOST), Way(LISTEN)),
    "answered, and its packet was lost": (End(server=HOST, opened=True), Way(KNOCK, HOST)),
    "the jump host answers": (End(seen=seen_at(CONNECTING, None), server=HOST, opened=True), Way(LISTEN)),
    "another address fails": (End(seen=seen_at(CONNECTING, OTHER), server=HOST, opened=True), Way(LISTEN)),
    "answered, no log": (End(outcomes.LOST, 0.0, None, HOST, opened=True), Way(LISTEN)),
    "nobody answered a prompt": (End(delay_s=math.inf), None),
    "no such name, nobody there": (End(outcomes.UNRESOLVED, math.inf), None),
}


@pytest.mark.parametrize("name", WAYS)
def test_the_way_that_is_looked_for_after(name: str) -> None:
    end, way = WAYS[name]
    report = Report(RETRY, end.outcome, delay_s=end.delay_s)
    assert way_back.after(report, end.seen, end.server, end.opened) == way


OVERTAKEN = {
    "its packet was lost": (Way(KNOCK, HOST), seen_at(CONNECTING), True),
    "it tries another address": (Way(KNOCK, HOST), seen_at(CONNECTING, OTHER), False),
    "it looks the name up": (Way(KNOCK, HOST), seen_at(STARTED), False),
    "it is on its way through a jump host": (Way(KNOCK, HOST), seen_at(CONNECTING, None), False),
    "it waits for the name": (Way(LOOK_UP), seen_at(STARTED, None), True),
    "it has the name": (Way(LOOK_UP), seen_at(CONNECTING), False),
}


@pytest.mark.parametrize("name", OVERTAKEN)
def test_an_ssh_under_way_is_overtaken_if(name: str) -> None:
    way, seen, overtaken = OVERTAKEN[name]
    assert way_back.overtaken(way, seen) == overtaken


@pytest.mark.parametrize(
    ("waits", "since_s", "after_s"),
    [(False, 0.0, 0.25), (False, 99.0, 0.25), (True, 1.0, 4.0), (True, 4.9, 0.25), (True, math.inf, 0.25)],
)
def test_a_network_that_never_rests_is_followed_now_and_then(
    waits: bool, since_s: float, after_s: float
) -> None:
    assert way_back.news_s(waits, since_s) == after_s


@pytest.mark.parametrize(
    ("waited_s", "shortest_s", "longest_s"),
    [(None, 0, 0.5), (0.0, 0.45, 0.55), (59.9, 0.45, 0.55), (60.0, 0.9, 1.1), (300.0, 4.5, 5.5)],
)
def test_knocks_are_spread(waited_s: float | None, shortest_s: float, longest_s: float) -> None:
    found = [way_back.knock_s(waited_s, jitter) for jitter in (0.0, 0.5, 1.0)]
    assert found == pytest.approx([shortest_s, (shortest_s + longest_s) / 2, longest_s])


@pytest.mark.parametrize(
    ("waited_s", "rests"),
    [(0, False), (59.9, False), (60, True), (149.9, True), (150, False), (359.9, False), (360, True)],
)
def test_a_server_that_refuses_is_left_alone_now_and_then(waited_s: float, rests: bool) -> None:
    assert way_back.rests(waited_s) == rests


class Limiter:
    """What "ufw limit" does: each connection counts, and from the sixth within 30 s on twice, refused."""

    def __init__(self) -> None:
        self._stamps: list[float] = []

    def admits(self, now: float) -> bool:
        """Take in a connection; return whether it may pass."""
        self._stamps = [stamp for stamp in (*self._stamps, now) if stamp > now - 30]
        if len(self._stamps) < 6:
            return True
        self._stamps.append(now)
        return False


def back_s(chance: Random, down_s: float) -> float:
    """Return when a client is back whose server's sshd is away for a time, from the loss on."""
    limiter, failures = Limiter(), 1
    next_knock_s = way_back.knock_s(None, chance.random())
    next_start_s = backoff.delay_s(failures, 30.0, chance.random())
    while True:
        now = min(next_knock_s, next_start_s)
        starts = next_start_s <= next_knock_s
        if not starts:
            next_knock_s += way_back.knock_s(now, chance.random())
            if way_back.rests(now):
                continue
        if limiter.admits(now) and now >= down_s:
            return now
        if starts:
            failures += 1
            next_start_s = now + backoff.delay_s(failures, 30.0, chance.random())


@pytest.mark.parametrize("down_s", [5.0, 10.0, 60.0, 200.0])
def test_a_rate_limit_is_outlived(down_s: float) -> None:
    waits = sorted(back_s(Random(seed), down_s) - down_s for seed in range(200))
    assert waits[-1] < way_back.CYCLE_S
