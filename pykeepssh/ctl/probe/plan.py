"""How an idle timeout is searched for, and what the answers mean.

Knows which idle times are worth a try and how results become a verdict.  Must not know how a
connection is made, left idle or asked: results are handed in.
"""

from __future__ import annotations

import math

from ...link.wording import duration

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Idle timeouts of real networks: Azure 240 s, 300, AWS 350, GCP VPC 600, Cloud NAT 1200, Juniper
# 1800, FortiGate and Cisco ASA 3600.
KNOWN_S = (240, 300, 350, 600, 1200, 1800, 3600)
_BELOW_S = 230  # a little less than the shortest of them; from there down by halves
_RUNGS_BELOW = 6  # halves: 230 s to 7 s, or the same number down from a smaller --max
_NEAREST = 0.85  # --max replaces a rung that is nearer to it than this
MOST_SESSIONS = 12  # in one round: nobody's server is to be filled
# sshd's MaxStartups is 10:30:100 by default: from the tenth connection that has not logged in yet
# it begins to refuse.  Others want to log in as well.
AT_ONCE = 3
# Half the world's advice; four times this passes until a dead link is noticed (ssh_config(5)).
LONGEST_INTERVAL_S = 60
USUAL_INTERVAL_S = 15  # kssh's own: what is recommended at least where nothing speaks against it

# What became of one session.
ALIVE = "alive"  # it answered after its idle time
SILENT = "silent"  # it got no answer: its packets vanish
RESET = "reset"  # it was told so, with a TCP reset
CLOSED = "closed"  # it was ended in order: the server did that, not the path
BUSY = "busy"  # it was not left in peace: packets came or went by themselves
_DEAD = (SILENT, RESET, CLOSED)


class Result:
    """What became of one session.

    idle_s   for how long it had been idle when that became known
    outcome  ALIVE, SILENT, RESET, CLOSED or BUSY
    """

    __slots__ = ("idle_s", "outcome")

    def __init__(self, idle_s: float, outcome: str) -> None:
        self.idle_s = idle_s
        self.outcome = outcome

    @property
    def dead(self) -> bool:
        """Tell whether the session did not survive."""
        return self.outcome in _DEAD


class Verdict:
    """What all results say together.

    alive_s  the longest idle time that was survived, below dead_s; 0 if there is none
    dead_s   the shortest idle time that was not survived, or None
    how      outcome of that session, or None
    busy_s   after how much quiet something sent by itself, or None
    later_s  an idle time above dead_s that was survived: the results contradict, or None
    """

    __slots__ = ("alive_s", "busy_s", "dead_s", "how", "later_s")

    def __init__(self, results: Iterable[Result]) -> None:
        results = sorted(results, key=lambda result: result.idle_s)
        dead = next((result for result in results if result.dead), None)
        survived = [result.idle_s for result in results if not result.dead]
        self.busy_s = next((result.idle_s for result in results if result.outcome == BUSY), None)
        self.dead_s = dead.idle_s if dead else None
        self.how = dead.outcome if dead else None
        below = [idle_s for idle_s in survived if dead is None or idle_s < dead.idle_s]
        self.alive_s = max(below, default=0.0)
        above = [idle_s for idle_s in survived if dead is not None and idle_s >= dead.idle_s]
        self.later_s = max(above, default=None)

    @property
    def known(self) -> bool:
        """Tell whether there is anything to say."""
        return self.dead_s is not None or self.alive_s > 0

    @property
    def interval_s(self) -> int:
        """The keepalive interval to recommend, in whole seconds.

        Two keepalives fall into the shortest time that was fatal, and two into the longest that was
        not: one may be lost.  Never more than LONGEST_INTERVAL_S, never less than a second.
        """
        if self.dead_s is None:
            return min(LONGEST_INTERVAL_S, max(USUAL_INTERVAL_S, math.floor(self.alive_s / 2)))
        safe_s = self.alive_s / 2 if self.alive_s else self.dead_s
        return max(1, math.floor(min(LONGEST_INTERVAL_S, self.dead_s / 3, safe_s)))


def ladder(max_s: int, remembered: Sequence[float] = ()) -> list[int]:
    """Return the idle times of the first round, in seconds, ascending; the last is max_s.

    remembered holds idle times from an earlier probe that are worth another look.

    Between two known timeouts lies one rung, at their geometric mean, so that the bracket that is
    found holds one of them; below the shortest the rungs halve.
    """
    between = [math.sqrt(low * high) for low, high in zip(KNOWN_S, KNOWN_S[1:])]
    between.append(2.0 * KNOWN_S[-1])
    while between[-1] < max_s:
        between.append(between[-1] * 2)
    top = float(min(_BELOW_S, max_s))
    rungs = [top / 2**fold for fold in range(_RUNGS_BELOW)] + between
    chosen = {round(rung) for rung in rungs if 1 <= rung < max_s * _NEAREST}
    chosen |= {round(idle_s) for idle_s in remembered if 1 <= idle_s < max_s}
    return [*sorted(chosen)[-(MOST_SESSIONS - 1) :], max_s]


def finest_s(dead_s: float) -> int:
    """Return how narrow a bracket is narrow enough where the user did not say: a fiftieth."""
    return max(1, round(dead_s / 50))


def refine(verdict: Verdict, step_s: int | None) -> list[int]:
    """Return the idle times of the second round, from alive to dead; none if that needs no more.

    The fatal time itself is tried again: a link that failed for a moment would contradict it.
    """
    if verdict.dead_s is None:
        return []
    low, high = math.floor(verdict.alive_s), math.ceil(verdict.dead_s)
    step = step_s or finest_s(verdict.dead_s)
    spacing = max(step, math.ceil((high - low) / MOST_SESSIONS))
    between = list(range(low + spacing, high, spacing))
    return [*between, high] if between else []


def decided(results: Sequence[Result], waiting: Iterable[int]) -> bool:
    """Tell whether the sessions that still wait cannot change the verdict.

    waiting holds their idle times.  A death counts once the next longer time was fatal as well;
    behind something that sends by itself there is nothing to be seen.
    """
    shortest = min(waiting, default=None)
    if shortest is None:
        return True
    limits = [result.idle_s for result in results if result.outcome == BUSY]
    limits += sorted(result.idle_s for result in results if result.dead)[1:2]
    return any(shortest > limit for limit in limits)


_HOW = {
    SILENT: "in silence: packets vanish, and neither side is told",
    RESET: "with a reset",
    CLOSED: "by the server, in order (ChannelTimeout in sshd_config(5)?): keepalive may not prevent that",
}


def sentences(verdict: Verdict, host: str) -> list[str]:
    """Return the verdict in words, one line each."""
    if not verdict.known:
        return ["Nothing is known yet."]
    said = []
    if verdict.dead_s is None and verdict.busy_s is None:
        said.append(f"A connection to {host} survives {duration(verdict.alive_s)} of quiet; none was cut.")
    if verdict.dead_s is not None:
        if verdict.alive_s:
            span = f"{duration(verdict.alive_s)} to {duration(verdict.dead_s)} of quiet"
        else:
            span = f"less than {duration(verdict.dead_s)} of quiet, the shortest time tried"
        said.append(f"A connection to {host} is cut after {span},")
        said.append(f"{_HOW[verdict.how or SILENT]}.")
    if verdict.later_s is not None:
        said.append(
            f"The results contradict each other: {duration(verdict.later_s)} of quiet was survived once."
        )
        said.append("The most cautious value is taken; a line that loses packets can look like this.")
    if verdict.busy_s is not None:
        said.append(
            f"Something sends after {duration(verdict.busy_s)} of quiet: the server's ClientAliveInterval, "
            "or keepalive"
        )
        said.append("of a jump host.  That keeps the path open, and hides what more quiet would do.")
    return said
