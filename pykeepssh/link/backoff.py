"""How long to wait: before the next start (exponential, with full jitter), before the next knock.

Knows numbers only.  Full jitter spreads a crowd of clients whose server comes back over the whole
interval: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

FIRST_S = 1.0

# A knock is a bare TCP connect, to learn whether ssh could get there now.  One that reaches a server
# costs it one connection without authentication.  sshd since 9.8 counts 1 s of penalty for that
# (PerSourcePenalties noauth:1) and refuses an address only above 15 s (min:15): since the first
# knock that is answered ends the knocking, and ssh follows it, there is at most one for each return
# of a server.  Knocks that are not answered cost a server nothing.
#
# (waited less than, seconds between knocks): a loop that starts ssh every second is back half a second
# after its server on the average, and kssh means to be there first.
KNOCKS_S = ((60.0, 0.5), (300.0, 1.0))
KNOCK_LATER_S = 5.0
# A server that refuses knocks, because its sshd is away, may count them all the same.  "ufw limit" turns an
# address away that came 6 times within 30 s, and each knock that it turns away renews that: once sshd is
# back, whoever goes on knocking stays out.  So a server that refused is left alone, but for ssh's own
# starts, from the end of the first minute on for REST_S of every CYCLE_S seconds.
KNOCKS_FREELY_S = 60.0
REST_S, CYCLE_S = 90.0, 300.0


def ceiling_s(failures: int, most_s: float) -> float:
    """Return the longest wait in seconds after a number of failures in a row (1 or more)."""
    # 2.0 ** 1024 overflows; long before that the ceiling is reached.
    return min(most_s, FIRST_S * 2.0 ** min(failures - 1, 40))


def delay_s(failures: int, most_s: float, jitter: float) -> float:
    """Return the wait in seconds: a share of the ceiling, jitter being in 0 ≤ jitter < 1."""
    return jitter * ceiling_s(failures, most_s)


def rests(waited_s: float) -> bool:
    """Tell whether a server that refused knocks is left alone after so many seconds of waiting."""
    return waited_s >= KNOCKS_FREELY_S and (waited_s - KNOCKS_FREELY_S) % CYCLE_S < REST_S


def knock_s(waited_s: float | None, jitter: float) -> float:
    """Return the seconds to the next knock.

    waited_s  how long the wait has lasted, or None for its first knock
    jitter    a random number, 0 ≤ jitter < 1

    The first comes anywhere in the first period: of a thousand clients that lost the same server in
    the same instant, each keeps a moment of its own to come back in.  That costs one client half a
    period on the average, and nothing after that.
    """
    if waited_s is None:
        return jitter * KNOCKS_S[0][1]
    period_s = next((period for until, period in KNOCKS_S if waited_s < until), KNOCK_LATER_S)
    return period_s * (0.9 + 0.2 * jitter)
