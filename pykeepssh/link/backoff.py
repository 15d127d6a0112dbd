"""How long to wait before the next start: exponential, with full jitter.

Knows numbers only.  Full jitter spreads a crowd of clients whose server comes back over the whole
interval: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

FIRST_S = 1.0


def ceiling_s(failures: int, most_s: float) -> float:
    """Return the longest wait in seconds after a number of failures in a row (1 or more)."""
    # 2.0 ** 1024 overflows; long before that the ceiling is reached.
    return min(most_s, FIRST_S * 2.0 ** min(failures - 1, 40))


def delay_s(failures: int, most_s: float, jitter: float) -> float:
    """Return the wait in seconds: a share of the ceiling, jitter being in 0 ≤ jitter < 1."""
    return jitter * ceiling_s(failures, most_s)
