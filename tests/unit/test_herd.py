"""A thousand clients lose one server in the same instant: they do not come back in one instant."""

from __future__ import annotations

import random

import pytest

from pykeepssh.link import backoff, way_back

CLIENTS = 1000
SLOT_S = 0.1
BACKOFF_MAX_S = 30.0


def arrival_s(back_s: float, chance: random.Random) -> float:
    """Return when one client's ssh reaches a server that is away from 0 until back_s.

    It knocks, and beside that starts ssh after each backoff; what comes first after back_s counts.
    """
    knock_s = way_back.knock_s(None, chance.random())
    while knock_s < back_s:
        knock_s += way_back.knock_s(knock_s, chance.random())
    start_s, failures = 0.0, 0
    while start_s < back_s:
        failures += 1
        start_s += backoff.delay_s(failures, BACKOFF_MAX_S, chance.random())
    return min(knock_s, start_s)


def arrivals(back_s: float) -> list[int]:
    """Return how many clients arrive in each slot from back_s on."""
    chance = random.Random(7)
    slots = [0] * 200
    for _ in range(CLIENTS):
        slots[int((arrival_s(back_s, chance) - back_s) / SLOT_S)] += 1
    return slots


@pytest.mark.parametrize("back_s", [1.5, 3.0, 15.0, 90.0, 400.0])
def test_a_returning_server_is_not_overrun(back_s: float) -> None:
    slots = arrivals(back_s)
    assert sum(slots) == CLIENTS
    # Evenly over a knock's period would be 200 a slot.
    assert max(slots) <= 260


@pytest.mark.parametrize("back_s", [1.5, 15.0, 45.0])
def test_nobody_waits_for_it(back_s: float) -> None:
    slots = arrivals(back_s)
    assert sum(slots[:12]) == CLIENTS  # a period of 1 s and its jitter
