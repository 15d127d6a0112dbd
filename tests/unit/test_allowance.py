"""How much may be said in a time."""

from __future__ import annotations

from hypothesis import given, strategies as st

from pykeepssh.link.allowance import Allowance


def test_so_much_passes_at_once() -> None:
    allowance = Allowance(3, 2)
    assert [allowance.take(100.0) for _ in range(5)] == [True, True, True, False, False]
    assert allowance.refused() == 2
    assert allowance.refused() == 0


def test_what_comes_later_comes_a_second_s_worth_together() -> None:
    allowance = Allowance(3, 2)
    for _ in range(4):
        allowance.take(100.0)
    assert not allowance.take(100.6), "one would have come, which is not yet a second's worth"
    assert [allowance.take(101.1) for _ in range(3)] == [True, True, False]


def test_a_clock_that_stands_still_or_a_long_silence_gives_no_more_than_at_once() -> None:
    allowance = Allowance(3, 2)
    assert sum(allowance.take(1e9) for _ in range(9)) == 3


@given(st.lists(st.floats(0, 100), max_size=300))
def test_never_more_than_the_rate(times: list[float]) -> None:
    allowance = Allowance(5, 2)
    passed = sum(allowance.take(now) for now in sorted(times))
    assert passed <= 5 + 2 * 100
    assert passed + allowance.refused() == len(times)
