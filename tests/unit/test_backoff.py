"""Knocking at a server that counts knocks."""

from __future__ import annotations

from random import Random

import pytest

from pykeepssh.link import backoff


@pytest.mark.parametrize(
    ("waited_s", "rests"),
    [(0, False), (59.9, False), (60, True), (149.9, True), (150, False), (359.9, False), (360, True)],
)
def test_a_server_that_refuses_is_left_alone_now_and_then(waited_s: float, rests: bool) -> None:
    assert backoff.rests(waited_s) == rests


class Limiter:
    """What "ufw limit" does: each connection counts, and from the sixth within 30 s on twice, refused."""

    def __init__(self) -> None:
        self._stamps: list[float] = []

    def admits(self, now: float) -> bool:
        """Take in a connection; return whether it may pass."""
        self._stamps.append(now)
        if len([stamp for stamp in self._stamps if stamp > now - 30]) < 6:
            return True
        self._stamps.append(now)
        return False


def back_s(chance: Random, down_s: float) -> float:
    """Return when a client is back whose server's sshd is away for a time, from the loss on."""
    limiter, failures = Limiter(), 1
    next_knock_s = backoff.knock_s(None, chance.random())
    next_start_s = backoff.delay_s(failures, 30.0, chance.random())
    while True:
        now = min(next_knock_s, next_start_s)
        starts = next_start_s <= next_knock_s
        if not starts:
            next_knock_s += backoff.knock_s(now, chance.random())
            if backoff.rests(now):
                continue
        if limiter.admits(now) and now >= down_s:
            return now
        if starts:
            failures += 1
            next_start_s = now + backoff.delay_s(failures, 30.0, chance.random())


@pytest.mark.parametrize("down_s", [5.0, 10.0, 60.0, 200.0])
def test_a_rate_limit_is_outlived(down_s: float) -> None:
    waits = sorted(back_s(Random(seed), down_s) - down_s for seed in range(200))
    assert waits[-1] < backoff.CYCLE_S
