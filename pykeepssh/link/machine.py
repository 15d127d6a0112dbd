"""The life of one link as a pure state machine: STATE × EVENT → state, actions.

Two rules: an event that a state does not expect changes nothing and asks for nothing; after
STOPPING only ENDED follows.  Knows no clock, no file and no process: times and random numbers come
with the events (now: monotonic seconds), deeds go out as actions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, Union, get_args

from ..ssh.evidence import SESSION, Evidence
from . import outcomes, policy, wording
from .kinds import COMMAND, TUNNEL
from .outcomes import Exit, Report
from .policy import Counts, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .multiplexer import Without

# States.
IDLE = "IDLE"  # nothing was started yet
STARTING = "STARTING"  # ssh runs; the session, or a forward, is not there yet
UP = "UP"  # session and every forward are there
WAITING = "WAITING"  # ssh does not run; a timer does
RESTARTING = "RESTARTING"  # ssh was told to end, another start follows
STOPPING = "STOPPING"  # ssh was told to end, nothing follows
ENDED = "ENDED"

STATES = (IDLE, STARTING, UP, WAITING, RESTARTING, STOPPING, ENDED)

# Timers.
DELAY = "delay"
KILL = "kill"
LIFETIME = "lifetime"

KILL_AFTER_S = 3.0
KILL_DEAD_AFTER_S = 1.0  # an ssh whose connection is dead has nothing to say good-bye to


# Events.
class Started(NamedTuple):
    """kssh began."""

    lifetime_s: float = 0.0


class SessionReached(NamedTuple):
    """ssh said that the session began."""

    now: float


class WentUp(NamedTuple):
    """The session and every forward are there, or refused and not wanted at any price.

    missing    what was refused, in words, or ""
    allocated  (port, where it leads) that the server chose for each remote forward of port 0
    """

    missing: str = ""
    allocated: tuple[tuple[int, str], ...] = ()


class CommandSent(NamedTuple):
    """ssh asked the server to run a command, whatever was known of its configuration."""


class Exited(NamedTuple):
    """ssh ended and was reaped.

    seen        its Evidence, or None without a log channel
    left        the user left
    jitter      a random number, 0 ≤ jitter < 1
    unanswered  ssh had asked for something, such as a password, and nobody answered
    our_port    the remote port that was refused was not the user's wish: kssh had asked for it again
    without     KSSH_RESUME asked for what the far side did not run: how to go on
    """

    now: float
    ended: Exit
    seen: Evidence | None
    left: bool
    jitter: float
    unanswered: bool = False
    our_port: bool = False
    without: Without | None = None


class DelayElapsed(NamedTuple):
    """The wait before the next start is over."""


class KillElapsed(NamedTuple):
    """ssh was told to end long enough ago."""


class LifetimeElapsed(NamedTuple):
    """KSSH_MAXLIFETIME reached."""


class RetryRequested(NamedTuple):
    """Somebody wants a fresh start now: SIGUSR1, SIGHUP without a terminal."""


class PathOpened(NamedTuple):
    """The server can be reached, and ssh is not on its way to it: not started, or its SYN was lost."""


class LinkFoundDead(NamedTuple):
    """ssh's connection is known to be dead before ssh knows it."""

    reason: str


class Deserted(NamedTuple):
    """Nobody sits at the terminal any more: -f has gone to the background."""


class StopRequested(NamedTuple):
    """kssh was told to end by a signal; with a code, it ends with that instead of by the signal."""

    signal: int
    code: int | None = None


Event = Union[
    Started,
    SessionReached,
    WentUp,
    CommandSent,
    Exited,
    DelayElapsed,
    KillElapsed,
    LifetimeElapsed,
    RetryRequested,
    PathOpened,
    LinkFoundDead,
    Deserted,
    StopRequested,
]
EVENTS: tuple[type, ...] = get_args(Event)


# Actions.
class Spawn(NamedTuple):
    """Start ssh; start is the number of this start, from 1."""

    start: int


class Terminate(NamedTuple):
    """Ask ssh to end (SIGTERM, and SIGCONT in case it is stopped)."""


class Kill(NamedTuple):
    """End ssh (SIGKILL)."""


class Arm(NamedTuple):
    """Set a timer, in place of the same timer set before."""

    timer: str
    delay_s: float


class Disarm(NamedTuple):
    """Forget a timer."""

    timer: str


class Tell(NamedTuple):
    """Tell the person, the hook and the state record."""

    report: Report


class Finish(NamedTuple):
    """End kssh: with ssh's exit code, or by a signal."""

    ended: Exit


Action = Union[Spawn, Terminate, Kill, Arm, Disarm, Tell, Finish]


class Link(NamedTuple):
    """All that a link remembers.

    session_since  when the running ssh reached its session (monotonic seconds), or None
    end            what kssh ends with once ssh has ended, in STOPPING
    end_reason     why ssh was told to end, in words, or "" where whoever asked for it knows
    told_up        UP was told and no DOWN yet
    """

    rules: Rules
    state: str = IDLE
    counts: Counts = Counts()
    session_since: float | None = None
    end: Exit | None = None
    end_reason: str = ""
    told_up: bool = False


Step = tuple[Link, tuple[Action, ...]]


def _spawn(link: Link) -> Step:
    starts = link.counts.starts + 1
    link = link._replace(state=STARTING, counts=link.counts._replace(starts=starts))
    return link, (Spawn(starts),)


def _idle_started(link: Link, event: Started) -> Step:
    link, actions = _spawn(link)
    if event.lifetime_s:
        actions = (Arm(LIFETIME, event.lifetime_s), *actions)
    return link, actions


def _running_session(link: Link, event: SessionReached) -> Step:
    if link.session_since is not None:
        return link, ()
    return link._replace(session_since=event.now), ()


def _running_command(link: Link, event: CommandSent) -> Step:
    # A "Match exec" may answer ssh otherwise than it answered "ssh -G", and otherwise at each start.
    if not link.rules.runs_no_command:
        return link, ()
    rules = link.rules._replace(kind=COMMAND, restartable=False, runs_no_command=False)
    return link._replace(rules=rules), ()


def _starting_up(link: Link, event: WentUp) -> Step:
    report = Report(outcomes.UP, "", event.missing, link.counts.starts, allocated=event.allocated)
    return link._replace(state=UP, told_up=True), (Tell(report),)


def _judge(link: Link, event: Exited) -> tuple[Link, Report, str, bool]:
    """Return the link after a run, the facts to tell, the table's entry, and whether to skip backoff."""
    since = link.session_since
    if since is None and event.seen is not None and event.seen.phase == SESSION:
        since = event.now  # ssh's last words told it
    session_s = None if since is None else max(0.0, event.now - since)
    result = policy.outcome(event.ended, event.seen, link.rules, event.left, session_s)
    counts, at_once = policy.counted(link.counts, result, session_s)
    entry = policy.verdict(result, event.ended, event.seen, link.rules, counts)
    why = wording.reason(result, event.ended, event.seen, session_s is not None)
    report = Report(outcomes.DOWN, result, why, counts.starts, None, session_s)
    return link._replace(counts=counts, session_since=None), report, entry, at_once


def _told_down(link: Link, report: Report) -> tuple[Link, tuple[Action, ...]]:
    """Tell DOWN, once for each UP: whoever does something at the one undoes it at the other."""
    return link._replace(told_up=False), (Tell(report),) if link.told_up else ()


def _running_exited(link: Link, event: Exited) -> Step:
    link, report, entry, at_once = _judge(link, event)
    if event.our_port and entry == policy.FLAT:
        entry, at_once = policy.RESTART, True  # any other port will do
    decision = policy.decide(entry, link.rules, link.counts, at_once, event.jitter)
    link, told = _told_down(link, report)
    if event.without is not None and not policy.is_last_start(link.rules, link.counts):
        report = report._replace(outcome=outcomes.NOT_RESUMED, reason=event.without.reason, session_s=None)
        return _again(link, told, report, event.without.delay_s)
    if decision.delay_s is None:
        over = outcomes.ENDED if report.outcome in (outcomes.FINISHED, outcomes.LEFT) else outcomes.GAVE_UP
        report = report._replace(event=over, limit=decision.limit)
        return _ended(link, _status(event.ended, report), (*told, Tell(report)))
    # Without a person the next start would only ask the empty room again.
    report = report._replace(by_people=entry == policy.RARE)
    return _again(link, told, report, math.inf if event.unanswered else decision.delay_s)


def _again(link: Link, told: tuple[Action, ...], report: Report, delay_s: float) -> Step:
    """Start ssh once more, after a while; infinity: when somebody asks for it."""
    told += (Tell(report._replace(event=outcomes.RETRY, start=link.counts.starts + 1, delay_s=delay_s)),)
    if delay_s == math.inf:
        return link._replace(state=WAITING), told
    if delay_s == 0:
        link, actions = _spawn(link)
        return link, (*told, *actions)
    return link._replace(state=WAITING), (*told, Arm(DELAY, delay_s))


def _status(ended: Exit, report: Report) -> Exit:
    """Return what kssh ends with: ssh's own status, but never success for a link given up on."""
    killed = report.outcome == outcomes.FORGED  # by kssh: its signal is no status of ssh's
    return Exit(policy.SSH_FAILED) if killed or (report.limit and ended.code in (0, None)) else ended


def _ended(link: Link, ended: Exit, actions: tuple[Action, ...] = ()) -> Step:
    return link._replace(state=ENDED), (*actions, Disarm(LIFETIME), Disarm(KILL), Finish(ended))


def _waiting_elapsed(link: Link, event: DelayElapsed) -> Step:
    return _spawn(link)


def _waiting_retry(link: Link, event: RetryRequested | PathOpened) -> Step:
    link, actions = _spawn(link)
    return link, (Disarm(DELAY), *actions)


def _starting_open(link: Link, event: PathOpened) -> Step:
    return _restart(link, "its first packets were lost", KILL_DEAD_AFTER_S)


def _running_dead(link: Link, event: LinkFoundDead) -> Step:
    # What cannot be restarted is left alone: ssh will find out, and nothing is gained by knowing it sooner.
    return (link, ()) if _runs_once(link) else _restart(link, event.reason, KILL_DEAD_AFTER_S)


def _running_retry(link: Link, event: RetryRequested) -> Step:
    # Promise 1: to ask for a restart is not to ask for a command to be run twice.
    return (link, ()) if _runs_once(link) else _restart(link, "", KILL_AFTER_S)


def _runs_once(link: Link) -> bool:
    """Tell whether what runs now must not be run again."""
    return link.session_since is not None and not link.rules.restartable


def _restart(link: Link, reason: str, kill_after_s: float) -> Step:
    if policy.is_last_start(link.rules, link.counts):
        return link, ()  # it is not thrown away
    link = link._replace(state=RESTARTING, end_reason=reason)
    return link, (Terminate(), Arm(KILL, kill_after_s))


def _any_deserted(link: Link, event: Deserted) -> Step:
    return link._replace(rules=link.rules._replace(attended=False)), ()


_Stop = Union[StopRequested, LifetimeElapsed]


def _waiting_stop(link: Link, event: _Stop) -> Step:
    end, why = _end_of(link, event)
    return _ended(link, end, (Disarm(DELAY), Tell(_stopped(link, why))))


def _running_stop(link: Link, event: _Stop) -> Step:
    link, _ = _restarting_stop(link, event)
    return link, (Terminate(), Arm(KILL, KILL_AFTER_S))


def _restarting_stop(link: Link, event: _Stop) -> Step:
    end, why = _end_of(link, event)
    return link._replace(state=STOPPING, end=end, end_reason=why), ()


def _end_of(link: Link, event: _Stop) -> tuple[Exit, str]:
    """Return what kssh ends with, and why in words, or "" where whoever asked for it knows."""
    if isinstance(event, LifetimeElapsed):
        # A tunnel that lived its time has done its work; a session cut short has not.
        return Exit(0 if link.rules.kind == TUNNEL else policy.SSH_FAILED), "KSSH_MAXLIFETIME reached"
    return Exit(signal=event.signal) if event.code is None else Exit(event.code), ""


def _stopped(link: Link, why: str) -> Report:
    """Return the facts about a link that was stopped from outside, by a signal or by its age."""
    return Report(outcomes.ENDED, outcomes.LEFT, why, link.counts.starts, limit=bool(why))


def _told_kill(link: Link, event: KillElapsed) -> Step:
    return link, (Kill(),)


def _restarting_exited(link: Link, event: Exited) -> Step:
    link, report, _entry, _at_once = _judge(link, event)
    if _ended_by_itself(report, event, link.rules):
        link, told = _told_down(link, report)
        return _ended(link, event.ended, (*told, Tell(report._replace(event=outcomes.ENDED))))
    report = report._replace(reason=link.end_reason or "restart requested")
    link = link._replace(end_reason="")
    link, told = _told_down(link, report)
    told += (Tell(report._replace(event=outcomes.RETRY, start=link.counts.starts + 1, delay_s=0.0)),)
    link, actions = _spawn(link)
    return link, (Disarm(KILL), *told, *actions)


def _ended_by_itself(report: Report, event: Exited, rules: Rules) -> bool:
    """Tell whether nothing may follow a run, although ssh was told to end for a restart."""
    if not rules.restartable and policy.may_have_run(event.seen, rules.kind):
        return True  # promise 1: the session began while ssh was told to end
    if report.outcome == outcomes.FINISHED and event.seen is None:
        return report.session_s is not None
    return report.outcome in (outcomes.FINISHED, outcomes.LEFT)


def _stopping_exited(link: Link, event: Exited) -> Step:
    link, report, _entry, _at_once = _judge(link, event)
    end = link.end
    assert end is not None
    stopped = _stopped(link, link.end_reason)._replace(session_s=report.session_s)
    link, told = _told_down(link, stopped._replace(event=outcomes.DOWN))
    return _ended(link, end, (*told, Tell(stopped)))


_Rule = Callable[..., Step]

# What is not in the table is ignored: nothing changes, nothing is done.
TABLE: dict[tuple[str, type], _Rule] = {
    (IDLE, Started): _idle_started,
    (STARTING, SessionReached): _running_session,
    (STARTING, WentUp): _starting_up,
    (STARTING, CommandSent): _running_command,
    (STARTING, Exited): _running_exited,
    (STARTING, RetryRequested): _running_retry,
    (STARTING, PathOpened): _starting_open,
    (STARTING, LinkFoundDead): _running_dead,
    (STARTING, StopRequested): _running_stop,
    (STARTING, LifetimeElapsed): _running_stop,
    (UP, CommandSent): _running_command,
    (UP, Exited): _running_exited,
    (UP, RetryRequested): _running_retry,
    (UP, LinkFoundDead): _running_dead,
    (UP, StopRequested): _running_stop,
    (UP, LifetimeElapsed): _running_stop,
    (WAITING, DelayElapsed): _waiting_elapsed,
    (WAITING, RetryRequested): _waiting_retry,
    (WAITING, PathOpened): _waiting_retry,
    (WAITING, StopRequested): _waiting_stop,
    (WAITING, LifetimeElapsed): _waiting_stop,
    (RESTARTING, SessionReached): _running_session,
    (RESTARTING, CommandSent): _running_command,
    (RESTARTING, Exited): _restarting_exited,
    (RESTARTING, KillElapsed): _told_kill,
    (RESTARTING, StopRequested): _restarting_stop,
    (RESTARTING, LifetimeElapsed): _restarting_stop,
    (STOPPING, Exited): _stopping_exited,
    (STOPPING, KillElapsed): _told_kill,
    **{(state, Deserted): _any_deserted for state in STATES if state != ENDED},
}


def step(link: Link, event: Event) -> Step:
    """Return the link after an event, and the actions to perform in order."""
    rule = TABLE.get((link.state, type(event)))
    return (link, ()) if rule is None else rule(link, event)
