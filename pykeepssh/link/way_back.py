"""The way back to a server while there is no link: to knock, to look its name up, or only to listen.

A knock is a bare TCP connect, to learn whether ssh could get there now.  Knows numbers and Evidence; must
not know how any of it is done.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..ssh.evidence import CONNECTING, Evidence
from .outcomes import LOST, UNREACHABLE, UNRESOLVED, Report

KNOCK = "knock"
LOOK_UP = "look up"
LISTEN = "listen"

# One that reaches a server costs it one connection without authentication.  sshd since 9.8 counts 1 s of
# penalty for that (PerSourcePenalties noauth:1) and refuses an address only above 15 s (min:15): since the
# first knock that is answered ends the knocking, and ssh follows it, there is at most one for each return
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

SETTLED_S = 0.25  # one change of a network is many messages; an address may go and come back
RESTLESS_S = 5.0  # a network that never rests must not undo the backoff
NEWS_REACHES_SSH_S = 0.1  # an ssh under way may be told of the same good news any moment


class Way(NamedTuple):
    """How to look for a way back.

    how    KNOCK, LOOK_UP or LISTEN
    place  numeric address and port to knock at
    """

    how: str
    place: tuple[str, int] | None = None


def after(report: Report, seen: Evidence | None, server: tuple[str, int] | None, opened: bool) -> Way | None:
    """Return how to look for a way back once ssh has ended; None: only a person starts it again.

    report  the RETRY that was told
    seen    what the log of that ssh said, or None
    server  where ssh was connected to last, or the first hop of that, or None
    opened  a knock was answered since the link was lost, and ssh failed all the same
    """
    if report.delay_s == math.inf:
        return None
    if report.outcome == UNRESOLVED:
        return Way(LOOK_UP)
    tried = seen.address if seen is not None else None
    place = server or tried
    if place is None or not _is_cured_by_an_answer(report, seen):
        return Way(LISTEN)
    if opened and tried != place:
        return Way(LISTEN)  # it answers, and the host behind it, or elsewhere, does not
    return Way(KNOCK, place)


def _is_cured_by_an_answer(report: Report, seen: Evidence | None) -> bool:
    """Tell whether a server that answers would cure what ended ssh.

    Not if it had answered already: then it is reachable and fails for another reason, and knocking
    would turn every backoff into an attempt each second.
    """
    if report.outcome == LOST:
        # ssh is started again at once; should the path be dead, that ssh will sit on a lost packet
        # while a knock each second finds out first that the path is back.
        return report.delay_s == 0
    return report.outcome == UNREACHABLE and seen is not None and seen.phase == CONNECTING


def overtaken(way: Way, seen: Evidence) -> bool:
    """Tell whether an ssh that has no connection yet waits for what was lost, although the way is open.

    seen  what its log says so far
    """
    if way.how == LOOK_UP:
        return seen.phase < CONNECTING  # an ssh that has the address needs no name
    # Only ssh's own connect to that very place: it may be looking a name up, try another
    # address first, or be on its way through a jump host that did answer.
    return seen.phase == CONNECTING and seen.address == way.place


def rests(waited_s: float) -> bool:
    """Tell whether a server that refused knocks is left alone after so many seconds of waiting."""
    return waited_s >= KNOCKS_FREELY_S and (waited_s - KNOCKS_FREELY_S) % CYCLE_S < REST_S


def knock_s(waited_s: float | None, jitter: float) -> float:
    """Return the seconds to the next knock, or lookup.

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


def news_s(waits: bool, since_s: float) -> float:
    """Return the seconds after which a change of the network is looked at.

    waits    there is no link
    since_s  seconds since that was done last
    """
    return max(SETTLED_S, RESTLESS_S - since_s) if waits else SETTLED_S
