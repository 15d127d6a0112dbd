"""The life of a link: every STATE × EVENT pair, told histories, and any history at all."""

# ruff: noqa: D102 - the name of a rule is its sentence

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from facts import seen
from hypothesis import given, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pykeepssh.link.kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from pykeepssh.link.machine import (
    DELAY,
    ENDED,
    EVENTS,
    IDLE,
    KILL,
    LIFETIME,
    RESTARTING,
    STARTING,
    STATES,
    STOPPING,
    TABLE,
    UP,
    WAITING,
    Action,
    Arm,
    CommandSent,
    DelayElapsed,
    Deserted,
    Disarm,
    Event,
    Exited,
    Finish,
    Kill,
    KillElapsed,
    LifetimeElapsed,
    Link,
    LinkFoundDead,
    PathOpened,
    RetryRequested,
    SessionReached,
    Spawn,
    Started,
    StopRequested,
    Tell,
    Terminate,
    WentUp,
    step,
)
from pykeepssh.link.multiplexer import Without
from pykeepssh.link.outcomes import (
    DOWN,
    ENDED as SAY_ENDED,
    FINISHED,
    FORGED,
    GAVE_UP,
    LEFT,
    LOST,
    NOT_RESUMED,
    RETRY,
    UNREACHABLE,
    UP as SAY_UP,
    Exit,
    Report,
)
from pykeepssh.link.policy import HEALTHY_S, Counts, Rules
from pykeepssh.ssh import evidence
from pykeepssh.ssh.evidence import AUTHENTICATED, CONNECTED, CONNECTING, SESSION, Evidence

FAILED = Exit(255)


def rules(kind: str = TUNNEL, **more: object) -> Rules:
    return Rules(kind, kind in (TUNNEL, SHELL, ATTACH), attended=kind != TUNNEL)._replace(**more)


IN_SESSION = seen(phase=SESSION)
COMMAND_ENDED = seen(phase=SESSION, command_ended=True)
CLOSED = seen(phase=SESSION, spoke=True)
REFUSED = seen(phase=CONNECTING, cause=evidence.UNREACHABLE, error="refused")
NOT_ACCEPTED = seen(phase=CONNECTED, cause=evidence.DENIED)
WRONG_HOST = seen(phase=CONNECTED, cause=evidence.HOST_KEY)
PORT_REFUSED = seen(phase=SESSION, forward_fatal="remote", remote_refused=["80"])


def exited(
    now: float = 0.0,
    ended: Exit = FAILED,
    found: Evidence | None = IN_SESSION,
    left: bool = False,
    jitter: float = 0.5,
) -> Exited:
    return Exited(now, ended, found, left, jitter)


def after(*events: Event, link: Link | None = None, **more: object) -> tuple[Link, list[Action]]:
    """Return a link after events, and what the last of them led to."""
    link = link or Link(more["rules"] if "rules" in more else rules(**more))
    actions: tuple[Action, ...] = ()
    for event in (Started(), *events):
        link, actions = step(link, event)
    return link, list(actions)


def told(actions: Iterable[Action]) -> list[tuple[str, str]]:
    return [(a.report.event, a.report.outcome) for a in actions if isinstance(a, Tell)]


def finish(actions: Iterable[Action]) -> Exit | None:
    ends = [action.ended for action in actions if isinstance(action, Finish)]
    assert len(ends) <= 1
    return ends[0] if ends else None


def delay(actions: Iterable[Action]) -> float | None:
    """Return the wait that follows: 0 for a start at once, None for an end."""
    for action in actions:
        if isinstance(action, Arm) and action.timer == DELAY:
            return action.delay_s
        if isinstance(action, Spawn):
            return 0.0
    return None


# -- a multiplexer that could not be had ---------------------------------------------------------------


@pytest.mark.parametrize(("wait_s", "state"), [(0.0, STARTING), (math.inf, WAITING)])
def test_a_shell_is_had_without_a_multiplexer(wait_s: float, state: str) -> None:
    over = exited(1.0, Exit(1), COMMAND_ENDED)._replace(without=Without(wait_s, "why"))
    link, actions = after(SessionReached(0.0), WentUp(), over, kind=SHELL)
    assert link.state == state
    assert told(actions) == [(DOWN, FINISHED), (RETRY, NOT_RESUMED)]
    report = next(a.report for a in reversed(actions) if isinstance(a, Tell))
    assert (report.reason, report.delay_s, report.start, report.session_s) == ("why", wait_s, 2, None)
    assert (Spawn(2) in actions) == (wait_s == 0)
    if wait_s:
        assert step(link, RetryRequested())[0].state == STARTING


def test_a_multiplexer_that_could_not_be_had_at_the_last_start_is_the_end() -> None:
    over = exited(1.0, Exit(1), COMMAND_ENDED)._replace(without=Without(0.0, "why"))
    link, actions = after(SessionReached(0.0), over, kind=SHELL, maxstart=1)
    assert link.state == ENDED
    assert finish(actions) == Exit(1)


# -- the table ---------------------------------------------------------------------------------------

SAMPLES: dict[type, Event] = {
    Started: Started(5.0),
    SessionReached: SessionReached(7.0),
    WentUp: WentUp(),
    CommandSent: CommandSent(),
    Exited: exited(),
    DelayElapsed: DelayElapsed(),
    KillElapsed: KillElapsed(),
    LifetimeElapsed: LifetimeElapsed(),
    RetryRequested: RetryRequested(),
    PathOpened: PathOpened(),
    LinkFoundDead: LinkFoundDead("local address 10.0.0.1 is gone"),
    Deserted: Deserted(),
    StopRequested: StopRequested(15),
}
LINKS = {
    IDLE: Link(rules()),
    STARTING: after()[0],
    UP: after(SessionReached(0.0), WentUp())[0],
    WAITING: after(exited(found=REFUSED))[0],
    RESTARTING: after(RetryRequested())[0],
    STOPPING: after(StopRequested(15))[0],
    ENDED: after(StopRequested(15), exited())[0],
}
# State after the event; a pair that is not here changes nothing.
NEXT = {
    (IDLE, Started): STARTING,
    (STARTING, SessionReached): STARTING,
    (STARTING, WentUp): UP,
    (STARTING, CommandSent): STARTING,
    (STARTING, Exited): WAITING,
    (STARTING, RetryRequested): RESTARTING,
    (STARTING, PathOpened): RESTARTING,
    (STARTING, LinkFoundDead): RESTARTING,
    (STARTING, StopRequested): STOPPING,
    (STARTING, LifetimeElapsed): STOPPING,
    (UP, CommandSent): UP,
    (UP, Exited): STARTING,
    (UP, RetryRequested): RESTARTING,
    (UP, LinkFoundDead): RESTARTING,
    (UP, StopRequested): STOPPING,
    (UP, LifetimeElapsed): STOPPING,
    (WAITING, DelayElapsed): STARTING,
    (WAITING, RetryRequested): STARTING,
    (WAITING, PathOpened): STARTING,
    (WAITING, StopRequested): ENDED,
    (WAITING, LifetimeElapsed): ENDED,
    (RESTARTING, SessionReached): RESTARTING,
    (RESTARTING, CommandSent): RESTARTING,
    (RESTARTING, Exited): STARTING,
    (RESTARTING, KillElapsed): RESTARTING,
    (RESTARTING, StopRequested): STOPPING,
    (RESTARTING, LifetimeElapsed): STOPPING,
    (STOPPING, Exited): ENDED,
    (STOPPING, KillElapsed): STOPPING,
    **{(state, Deserted): state for state in STATES if state != ENDED},
}


def test_the_samples_are_what_they_say() -> None:
    assert set(LINKS) == set(STATES)
    assert set(SAMPLES) == set(EVENTS)
    assert all(link.state == state for state, link in LINKS.items())
    assert set(NEXT) == set(TABLE)


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("state", STATES)
def test_each_state_meets_each_event(state: str, event: type) -> None:
    before = LINKS[state]
    sample = exited(found=REFUSED) if (state, event) == (STARTING, Exited) else SAMPLES[event]
    link, actions = step(before, sample)
    if (state, event) in NEXT:
        assert link.state == NEXT[state, event]
    else:
        assert link is before
        assert actions == ()


@pytest.mark.parametrize("state", [STARTING, UP, RESTARTING])
def test_the_first_moment_of_a_session_counts(state: str) -> None:
    link, _ = step(LINKS[state]._replace(session_since=None), SessionReached(3.0))
    if state != UP:
        assert link.session_since == 3.0
    assert step(link, SessionReached(9.0)) == (link, ())


# -- starting ----------------------------------------------------------------------------------------


def test_it_begins_with_a_start() -> None:
    link, actions = after()
    assert actions == [Spawn(1)]
    assert link.counts == Counts(starts=1)


def test_a_lifetime_is_set_before_the_start() -> None:
    _, actions = step(Link(rules()), Started(60.0))
    assert actions == (Arm(LIFETIME, 60.0), Spawn(1))


def test_up_is_told_once() -> None:
    link, actions = after(SessionReached(0.0), WentUp())
    assert told(actions) == [(SAY_UP, "")]
    assert step(link, WentUp()) == (link, ())


# -- a command that nobody knew of ---------------------------------------------------------------------


@pytest.mark.parametrize("before", [[], [WentUp()], [WentUp(), RetryRequested()]], ids=len)
def test_a_shell_that_turns_out_to_be_a_command_is_not_started_again(before: list[Event]) -> None:
    """What a "Match exec" says at one start it need not say at another."""
    events = [SessionReached(0.0), *before]
    shell = rules(SHELL, runs_no_command=True)
    _, actions = after(*events, exited(HEALTHY_S), rules=shell)
    assert delay(actions) == 0.0
    link, _ = after(*events, CommandSent(), rules=shell)
    assert link.rules == rules(COMMAND)
    _, actions = after(*events, CommandSent(), exited(HEALTHY_S), rules=shell)
    assert delay(actions) is None
    assert finish(actions) == FAILED


@pytest.mark.parametrize("kind", [SHELL, ATTACH])
def test_a_command_that_may_run_again_is_started_again(kind: str) -> None:
    """One that kssh itself asked for, one that attaches, one that the user wants restarted."""
    _, actions = after(SessionReached(0.0), CommandSent(), exited(HEALTHY_S), rules=rules(kind))
    assert delay(actions) == 0.0


# -- histories ---------------------------------------------------------------------------------------

# Each row: rules, then runs of (evidence, exit, session length or None), and what follows each of them:
# a delay at jitter 0.5, or None for the end.
Run = tuple[Evidence, Exit, "float | None"]
HISTORIES: dict[str, tuple[Rules, list[Run], list[float | None]]] = {
    "a tunnel in cron waits for its server": (
        rules(),
        [(REFUSED, FAILED, None)] * 7,
        [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0],
    ),
    "a person is told at once": (rules(attended=True), [(REFUSED, FAILED, None)], [None]),
    "a person who wants to wait": (
        rules(attended=True, first_start="retry"),
        [(REFUSED, FAILED, None)] * 2,
        [0.5, 1.0],
    ),
    "a tunnel that shall not wait": (rules(first_start="fail"), [(REFUSED, FAILED, None)], [None]),
    "healthy sessions come back at once": (rules(), [(IN_SESSION, FAILED, HEALTHY_S)] * 4, [0.0] * 4),
    "a short session comes back at once, once": (
        rules(),
        [(IN_SESSION, FAILED, 1.0)] * 4,
        [0.0, 1.0, 2.0, 4.0],
    ),
    "a healthy session resets": (
        rules(),
        [
            (IN_SESSION, FAILED, 1.0),
            (IN_SESSION, FAILED, 1.0),
            (REFUSED, FAILED, None),
            (IN_SESSION, FAILED, HEALTHY_S),
            (IN_SESSION, FAILED, 1.0),
            (REFUSED, FAILED, None),
        ],
        [0.0, 1.0, 2.0, 0.0, 0.0, 1.0],
    ),
    "a person's link that was there is waited for": (
        rules(SHELL),
        [(IN_SESSION, FAILED, 60.0), (REFUSED, FAILED, None), (REFUSED, FAILED, None)],
        [0.0, 0.5, 1.0],
    ),
    "a remote port is asked for at a flat pace": (
        rules(),
        [(PORT_REFUSED, FAILED, 0.1)] * 5,
        [5.0] * 5,
    ),
    "denied at the first start": (rules(), [(NOT_ACCEPTED, FAILED, None)], [None]),
    "denied later: three times at the slowest pace, then rarely": (
        rules(),
        [(IN_SESSION, FAILED, 60.0)] + [(NOT_ACCEPTED, FAILED, None)] * 5,
        [0.0, 30.0, 30.0, 30.0, 600.0, 600.0],
    ),
    "the same where somebody watches": (
        rules(attended=True),
        [(IN_SESSION, FAILED, 60.0)] + [(NOT_ACCEPTED, FAILED, None)] * 4,
        [0.0, 30.0, 30.0, 30.0, None],
    ),
    "a changed host key: rarely": (
        rules(),
        [(IN_SESSION, FAILED, 60.0), (WRONG_HOST, FAILED, None), (IN_SESSION, FAILED, 60.0)],
        [0.0, 600.0, 0.0],
    ),
    "a changed host key ends at once where somebody watches": (
        rules(attended=True),
        [(IN_SESSION, FAILED, 60.0), (WRONG_HOST, FAILED, None)],
        [0.0, None],
    ),
    "what only people can mend counts for the limit": (
        rules(maxstart=2),
        [(IN_SESSION, FAILED, 60.0), (WRONG_HOST, FAILED, None)],
        [0.0, None],
    ),
    "a limit of starts": (
        rules(maxstart=3),
        [(REFUSED, FAILED, None)] * 3,
        [0.5, 1.0, None],
    ),
    "one start": (rules(maxstart=1), [(IN_SESSION, FAILED, 60.0)], [None]),
    "no limit": (rules(maxstart=0), [(IN_SESSION, FAILED, 60.0)] * 2, [0.0] * 2),
    "a tunnel told to end by somebody comes back": (rules(), [(IN_SESSION, Exit(0), 60.0)], [0.0]),
    "a shell that ends": (rules(SHELL), [(COMMAND_ENDED, Exit(1), 60.0)], [None]),
    "a shell that is lost": (rules(SHELL), [(IN_SESSION, FAILED, 60.0)], [0.0]),
    "an attacher that is lost": (rules(ATTACH), [(IN_SESSION, FAILED, 60.0)], [0.0]),
    "a command that is lost": (rules(COMMAND), [(IN_SESSION, FAILED, 60.0)], [None]),
    "a command that the user wants again": (
        rules(COMMAND, restartable=True),
        [(IN_SESSION, FAILED, 60.0)],
        [0.0],
    ),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history(name: str) -> None:
    given_rules, runs, delays = HISTORIES[name]
    link, _ = step(Link(given_rules), Started())
    now = 100.0
    for number, ((found, ended, session_s), expected) in enumerate(zip(runs, delays), 1):
        assert link.state == STARTING
        assert link.counts.starts == number
        if session_s is not None:
            link, _ = step(link, SessionReached(now))
            link, _ = step(link, WentUp())
            now += session_s
        link, actions = step(link, exited(now, ended, found))
        assert delay(actions) == expected
        assert (link.state == ENDED) == (expected is None)
        if expected:
            assert link.state == WAITING
            link, _ = step(link, DelayElapsed())
        now += 1


def test_a_session_that_only_the_last_words_tell_of_counts() -> None:
    link, actions = after(exited(5.0))
    assert link.counts == Counts(starts=2, sessions=1, failures=1, short=True)
    assert delay(actions) == 0.0


def test_a_clock_that_steps_back_does_no_harm() -> None:
    _, actions = after(SessionReached(50.0), exited(40.0))
    assert [a.report.session_s for a in actions if isinstance(a, Tell)] == [0.0]


def test_a_delay_of_nothing_is_a_start() -> None:
    _, actions = after(exited(found=REFUSED, jitter=0.0))
    assert delay(actions) == 0.0


def test_where_nobody_answered_only_a_person_starts_again() -> None:
    link, actions = after(SessionReached(0.0), exited(60.0)._replace(unanswered=True))
    assert link.state == WAITING
    assert [a.report.delay_s for a in actions if isinstance(a, Tell)] == [math.inf]
    assert not any(isinstance(action, (Arm, Spawn)) for action in actions)
    _, actions = step(link, RetryRequested())
    assert delay(actions) == 0.0


# -- what is told ------------------------------------------------------------------------------------

# events after the start: what the last one tells
TOLD: dict[str, tuple[Rules, list[Event], list[tuple[str, str]]]] = {
    "lost": (
        rules(),
        [SessionReached(0.0), WentUp(), exited(60.0)],
        [(DOWN, LOST), (RETRY, LOST)],
    ),
    "lost before it was up": (rules(), [SessionReached(0.0), exited(60.0)], [(RETRY, LOST)]),
    "not reached": (rules(), [exited(found=REFUSED)], [(RETRY, UNREACHABLE)]),
    "given up": (rules(attended=True), [exited(found=REFUSED)], [(GAVE_UP, UNREACHABLE)]),
    "finished": (
        rules(SHELL),
        [SessionReached(0.0), WentUp(), exited(60.0, Exit(0), COMMAND_ENDED)],
        [(DOWN, FINISHED), (SAY_ENDED, FINISHED)],
    ),
    "left": (
        rules(SHELL),
        [SessionReached(0.0), WentUp(), exited(60.0, left=True)],
        [(DOWN, LEFT), (SAY_ENDED, LEFT)],
    ),
    "left before it was there": (rules(SHELL), [exited(left=True)], [(SAY_ENDED, LEFT)]),
    "stopped": (
        rules(),
        [SessionReached(0.0), WentUp(), StopRequested(15), exited(60.0, Exit(0))],
        [(DOWN, LEFT), (SAY_ENDED, LEFT)],
    ),
    "stopped before it was up": (rules(), [StopRequested(15), exited()], [(SAY_ENDED, LEFT)]),
    "stopped while it waits": (rules(), [exited(found=REFUSED), StopRequested(15)], [(SAY_ENDED, LEFT)]),
    "restarted": (
        rules(),
        [SessionReached(0.0), WentUp(), RetryRequested(), exited(60.0, Exit(0))],
        [(DOWN, LOST), (RETRY, LOST)],
    ),
    "restarted over the limit": (
        rules(maxstart=1),
        [SessionReached(0.0), WentUp(), RetryRequested(), exited(60.0, Exit(0))],
        [(DOWN, LOST), (GAVE_UP, LOST)],
    ),
    "ended by itself while a restart is asked for": (
        rules(SHELL),
        [SessionReached(0.0), WentUp(), RetryRequested(), exited(60.0, Exit(3), COMMAND_ENDED)],
        [(DOWN, FINISHED), (SAY_ENDED, FINISHED)],
    ),
    **{
        f"left while a restart is asked for, {log}": (
            rules(),
            [SessionReached(0.0), RetryRequested(), exited(60.0, found=found, left=True)],
            [(SAY_ENDED, LEFT)],
        )
        for log, found in (("with a log", IN_SESSION), ("without", None))
    },
}


@pytest.mark.parametrize("name", TOLD)
def test_it_is_told(name: str) -> None:
    given_rules, events, expected = TOLD[name]
    _, actions = after(*events, link=Link(given_rules))
    assert told(actions) == expected


def reports(actions: Iterable[Action]) -> list[Report]:
    return [action.report for action in actions if isinstance(action, Tell)]


# Rules, events after the start: the last thing that is told.
SAID: dict[str, tuple[Rules, list[Event], Report]] = {
    "a restart that was asked for": (
        rules(),
        [SessionReached(0.0), WentUp(), RetryRequested(), exited(60.0, Exit(0))],
        Report(RETRY, LOST, "restart requested", 2, 0.0, 60.0),
    ),
    "a start whose first packets were lost": (
        rules(),
        [PathOpened(), exited(1.0, Exit(signal=15), REFUSED)],
        Report(RETRY, LOST, "its first packets were lost", 2, 0.0),
    ),
    "a connection that was found dead": (
        rules(),
        [SessionReached(0.0), WentUp(), LinkFoundDead("no route"), exited(60.0, Exit(0))],
        Report(RETRY, LOST, "no route", 2, 0.0, 60.0),
    ),
    "a loss": (
        rules(),
        [SessionReached(0.0), WentUp(), exited(60.0, found=CLOSED)],
        Report(RETRY, LOST, "the connection was closed", 2, 0.0, 60.0),
    ),
    "a failure before a session": (
        rules(),
        [exited(found=seen(phase=CONNECTED, spoke=True))],
        Report(RETRY, UNREACHABLE, "ssh ended with status 255", 2, 0.5),
    ),
    "a loss that is the second in a short time": (
        rules(),
        [SessionReached(0.0), exited(60.0), SessionReached(61.0), exited(62.0, found=CLOSED)],
        Report(RETRY, LOST, "the connection was closed", 3, 0.0, 1.0),
    ),
    "a stop": (
        rules(),
        [SessionReached(0.0), WentUp(), StopRequested(15), exited(60.0, Exit(0))],
        Report(SAY_ENDED, LEFT, "", 1, session_s=60.0),
    ),
    "a stop while a dead connection is restarted": (
        rules(),
        [SessionReached(0.0), LinkFoundDead("no route"), StopRequested(15), exited(60.0, Exit(0))],
        Report(SAY_ENDED, LEFT, "", 1, session_s=60.0),
    ),
    "a stop while it waits": (
        rules(),
        [exited(found=REFUSED), StopRequested(15)],
        Report(SAY_ENDED, LEFT, "", 1),
    ),
    **{
        f"the end of its time while it {what}": (
            rules(),
            [*events, *end],
            Report(SAY_ENDED, LEFT, "KSSH_MAXLIFETIME reached", 1, limit=True),
        )
        for what, events, end in (
            ("starts", [LifetimeElapsed()], [exited(found=REFUSED)]),
            ("restarts", [RetryRequested(), LifetimeElapsed()], [exited(found=REFUSED)]),
            ("waits", [exited(found=REFUSED)], [LifetimeElapsed()]),
        )
    },
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_told_of(name: str) -> None:
    given_rules, events, expected = SAID[name]
    _, actions = after(*events, link=Link(given_rules))
    assert reports(actions)[-1] == expected


def test_a_retry_names_the_start_to_come_and_an_end_the_last_one() -> None:
    _, actions = after(exited(found=REFUSED))
    assert [a.report.start for a in actions if isinstance(a, Tell)] == [2]
    _, actions = after(exited(found=REFUSED), DelayElapsed(), exited(found=WRONG_HOST))
    assert [a.report.start for a in actions if isinstance(a, Tell)] == [2]


def test_the_limit_is_told_as_the_reason() -> None:
    _, actions = after(exited(found=REFUSED), maxstart=1)
    assert [a.report.limit for a in actions if isinstance(a, Tell)] == [True]
    _, actions = after(exited(found=WRONG_HOST), maxstart=1)
    assert [a.report.limit for a in actions if isinstance(a, Tell)] == [False]


def test_a_link_whose_log_is_forged_ends_with_the_status_of_a_failure() -> None:
    _, actions = after(exited(ended=Exit(signal=9), found=seen(forged=True)))
    assert told(actions) == [(GAVE_UP, FORGED)]
    assert finish(actions) == FAILED


# -- the end -----------------------------------------------------------------------------------------

# rules, events: status
ENDS: dict[str, tuple[Rules, list[Event], Exit]] = {
    "the remote command's": (
        rules(SHELL),
        [SessionReached(0.0), exited(1.0, Exit(3), COMMAND_ENDED)],
        Exit(3),
    ),
    "ssh's own": (rules(SHELL), [exited(found=REFUSED)], FAILED),
    "the signal that ended ssh": (
        rules(COMMAND),
        [SessionReached(0.0), exited(1.0, Exit(signal=9))],
        Exit(signal=9),
    ),
    "at the limit": (rules(maxstart=1), [exited(found=REFUSED)], FAILED),
    "at the limit never success": (rules(maxstart=1), [exited(60.0, Exit(0))], FAILED),
    "at the limit no signal of ssh's": (rules(maxstart=1), [exited(60.0, Exit(signal=9))], FAILED),
    "at the limit another failure": (
        rules(maxstart=2),
        [SessionReached(0.0), exited(60.0), exited(61.0, Exit(127), seen())],
        Exit(127),
    ),
    "the signal that stopped kssh": (rules(), [StopRequested(15), exited(1.0, Exit(0))], Exit(signal=15)),
    "a code in place of a signal": (rules(), [exited(found=REFUSED), StopRequested(2, 255)], FAILED),
    "the signal, while it waits": (rules(), [exited(found=REFUSED), StopRequested(2)], Exit(signal=2)),
    "the signal, while it restarts": (
        rules(),
        [RetryRequested(), StopRequested(2), exited(found=REFUSED)],
        Exit(signal=2),
    ),
    "the first signal counts": (
        rules(),
        [StopRequested(2), StopRequested(15), exited(found=REFUSED)],
        Exit(signal=2),
    ),
    "a tunnel that lived its time": (rules(), [LifetimeElapsed(), exited(1.0, Exit(0))], Exit(0)),
    "a tunnel, while it waits": (rules(), [exited(found=REFUSED), LifetimeElapsed()], Exit(0)),
    "a tunnel, while it restarts": (
        rules(),
        [RetryRequested(), LifetimeElapsed(), exited(found=REFUSED)],
        Exit(0),
    ),
    "a shell that lived its time": (rules(SHELL), [LifetimeElapsed(), exited()], FAILED),
}


@pytest.mark.parametrize("name", ENDS)
def test_it_ends_with(name: str) -> None:
    given_rules, events, expected = ENDS[name]
    link, actions = after(*events, link=Link(given_rules))
    assert link.state == ENDED
    assert finish(actions) == expected
    assert isinstance(actions[-1], Finish)
    assert {a.timer for a in actions if isinstance(a, Disarm)} >= {LIFETIME, KILL}


# Events after the start: the timers that what follows from the last one takes away.
DISARMED: dict[str, tuple[list[Event], set[str]]] = {
    "a start in place of a wait": ([exited(found=REFUSED), RetryRequested()], {DELAY}),
    "an open path in place of a wait": ([exited(found=REFUSED), PathOpened()], {DELAY}),
    "a stop while it waits": ([exited(found=REFUSED), StopRequested(15)], {DELAY, LIFETIME, KILL}),
    "the end of its time while it waits": (
        [exited(found=REFUSED), LifetimeElapsed()],
        {DELAY, LIFETIME, KILL},
    ),
    "an ssh that ended when it was told to": ([RetryRequested(), exited(found=REFUSED)], {KILL}),
}


@pytest.mark.parametrize("name", DISARMED)
def test_no_timer_outlives_what_it_was_for(name: str) -> None:
    events, timers = DISARMED[name]
    _, actions = after(*events)
    assert {action.timer for action in actions if isinstance(action, Disarm)} == timers


@pytest.mark.parametrize("event", [StopRequested(15), LifetimeElapsed(), RetryRequested()])
@pytest.mark.parametrize("up", [False, True])
def test_ssh_is_asked_to_end_and_then_made_to(event: Event, up: bool) -> None:
    begin: list[Event] = [SessionReached(0.0), WentUp()] if up else []
    link, actions = after(*begin, event)
    assert actions == [Terminate(), Arm(KILL, 3.0)]
    assert step(link, KillElapsed()) == (link, (Kill(),))


@pytest.mark.parametrize("event", [RetryRequested(), PathOpened(), LinkFoundDead("gone")])
def test_the_last_start_that_is_allowed_is_not_thrown_away(event: Event) -> None:
    link, _ = after(link=Link(rules(maxstart=1)))
    assert step(link, event) == (link, ())


# -- the network ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [PathOpened(), LinkFoundDead("gone")])
def test_an_ssh_on_a_dead_path_gives_way_at_once(event: Event) -> None:
    link, actions = after(event)
    assert actions == [Terminate(), Arm(KILL, 1.0)]
    _, actions = step(link, exited(found=REFUSED))
    assert delay(actions) == 0.0


def test_a_dead_link_says_why() -> None:
    link, _ = after(SessionReached(0.0), WentUp(), LinkFoundDead("local address 10.0.0.1 is gone"))
    link, actions = step(link, exited(60.0, Exit(0)))
    assert told(actions) == [(DOWN, LOST), (RETRY, LOST)]
    assert {a.report.reason for a in actions if isinstance(a, Tell)} == {"local address 10.0.0.1 is gone"}
    _, actions = step(step(link, RetryRequested())[0], exited(61.0, Exit(0)))
    assert {a.report.reason for a in actions if isinstance(a, Tell)} == {"restart requested"}


def test_a_dead_link_of_a_command_is_left_to_ssh() -> None:
    link, _ = after(SessionReached(0.0), WentUp(), kind=COMMAND)
    assert step(link, LinkFoundDead("gone")) == (link, ())


# -- nothing runs twice ------------------------------------------------------------------------------


def test_a_command_that_runs_is_not_restarted_by_request() -> None:
    link, _ = after(SessionReached(0.0), kind=COMMAND)
    assert step(link, RetryRequested()) == (link, ())


# What is known at the end of a command that was told to end before it was known to run.
PERHAPS_STARTED = {
    "the session began meanwhile": (
        [SessionReached(1.0)],
        exited(2.0, FAILED, seen(phase=SESSION, killed_by=15)),
    ),
    "the last words say so": ([], exited(2.0, FAILED, seen(phase=SESSION, killed_by=15))),
    "nobody knows": ([], exited(2.0, Exit(signal=15), None)),
}


@pytest.mark.parametrize("name", PERHAPS_STARTED)
@pytest.mark.parametrize("first_start", ["auto", "retry"])
def test_a_command_that_may_have_run_is_not_run_again(name: str, first_start: str) -> None:
    events, end = PERHAPS_STARTED[name]
    link, actions = after(RetryRequested(), *events, end, kind=COMMAND, first_start=first_start)
    assert link.state == ENDED
    assert finish(actions) == end.ended


@pytest.mark.parametrize("event", [RetryRequested(), LinkFoundDead("gone")])
def test_a_command_that_did_not_run_may_be_restarted(event: Event) -> None:
    _, actions = after(event, exited(found=REFUSED), kind=COMMAND)
    assert delay(actions) == 0.0


# exit, log, session: does a restart that was asked for follow
AFTER_A_REQUEST = {
    "a shell, told to end": (SHELL, FAILED, seen(phase=SESSION, killed_by=15), True, True),
    "a shell that ended by itself": (SHELL, Exit(0), COMMAND_ENDED, True, False),
    "a shell without a log": (SHELL, FAILED, None, True, False),
    "a shell without a log or a session": (SHELL, Exit(signal=15), None, False, True),
    "a tunnel": (TUNNEL, Exit(0), IN_SESSION, True, True),
    "a tunnel without a log": (TUNNEL, Exit(0), None, True, True),
    "a tunnel without a log, odd status": (TUNNEL, Exit(2), None, True, True),
    "a master told to end": (TUNNEL, FAILED, seen(phase=SESSION, asked_to_end=True), True, False),
}


@pytest.mark.parametrize("name", AFTER_A_REQUEST)
def test_a_restart_asked_for_follows_unless_ssh_ended_by_itself(name: str) -> None:
    kind, ended, found, session, follows = AFTER_A_REQUEST[name]
    begin: list[Event] = [SessionReached(0.0)] if session else []
    link, actions = after(*begin, RetryRequested(), exited(60.0, ended, found), kind=kind)
    assert (delay(actions) == 0.0) == follows
    assert (link.state == ENDED) == (not follows)


# -- any history -------------------------------------------------------------------------------------

FOUND = st.one_of(
    st.none(),
    st.builds(
        seen,
        phase=st.integers(0, SESSION),
        cause=st.sampled_from([None, "denied", "host key", "unreachable", "unresolved", "setup"]),
        command_ended=st.booleans(),
        asked_to_end=st.booleans(),
        session_refused=st.booleans(),
        pty_refused=st.booleans(),
        shared=st.booleans(),
        timed_out=st.booleans(),
        killed_by=st.sampled_from([None, 1, 15]),
    ),
    st.builds(seen, phase=st.just(SESSION), forward_fatal=st.just("remote"), remote_refused=st.just(["80"])),
    st.builds(seen, phase=st.just(SESSION)),
    st.builds(seen, phase=st.just(CONNECTING), cause=st.just(evidence.UNREACHABLE)),
)
ENDED_BY = st.one_of(
    st.sampled_from([0, 1, 255, 255, 255]).map(lambda code: Exit(code=code)),
    st.sampled_from([9, 15]).map(lambda number: Exit(signal=number)),
)
JITTER = st.floats(0, 1, exclude_max=True)
RULES = st.builds(
    lambda kind, restartable, attended, first_start, most_s, maxstart: Rules(
        kind, restartable or kind in (TUNNEL, SHELL, ATTACH), attended, first_start, most_s, maxstart
    ),
    st.sampled_from([TUNNEL, SHELL, ATTACH, COMMAND, STREAM]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["auto", "retry", "fail"]),
    st.sampled_from([1.0, 30.0]),
    st.sampled_from([-1, 1, 2, 3]),
)


class Life(RuleBasedStateMachine):
    """Any events in any order, with a world beside the machine that holds what must be true."""

    @initialize(given_rules=RULES)
    def begin(self, given_rules: Rules) -> None:
        self.link = Link(given_rules)
        self.now = 0.0
        self.running = False
        self.starts = 0
        self.stopped = False
        self.finished = 0
        self.in_session = False
        self.may_have_run = False
        self.up = False
        self.armed: set[str] = set()

    def happen(self, event: Event) -> None:
        before = self.link
        self.link, actions = step(self.link, event)
        if (before.state, type(event)) not in TABLE:
            assert self.link is before
            assert actions == ()
        for action in actions:
            self.perform(action)

    def perform(self, action: Action) -> None:
        assert not self.finished, "nothing follows the end"
        if isinstance(action, Spawn):
            assert not self.running, "two at a time"
            assert not self.stopped
            assert not self.may_have_run or self.link.rules.restartable, "twice"
            self.starts += 1
            assert action.start == self.starts
            assert self.link.rules.maxstart < 0 or self.starts <= self.link.rules.maxstart
            assert DELAY not in self.armed
            self.running, self.in_session = True, False
        elif isinstance(action, (Terminate, Kill)):
            assert self.running
        elif isinstance(action, Arm):
            if action.timer == DELAY:
                assert 0 < action.delay_s <= self.link.rules.backoff_max_s
            self.armed.add(action.timer)
        elif isinstance(action, Disarm):
            self.armed.discard(action.timer)
        elif isinstance(action, Finish):
            assert not self.running
            assert (action.ended.code is None) != (action.ended.signal is None)
            self.finished += 1
        else:
            self.hear(action.report.event)

    def hear(self, event: str) -> None:
        if event == SAY_UP:
            assert not self.up
            self.up = True
        elif event == DOWN:
            assert self.up
            self.up = False
        else:
            assert not self.up, "down first"

    @rule(lifetime_s=st.sampled_from([0.0, 60.0]))
    def start(self, lifetime_s: float) -> None:
        self.happen(Started(lifetime_s))

    @precondition(lambda self: self.running)
    @rule(passed_s=st.floats(0, 30), ended=ENDED_BY, found=FOUND, left=st.booleans(), jitter=JITTER)
    def ssh_ends(
        self, passed_s: float, ended: Exit, found: Evidence | None, left: bool, jitter: float
    ) -> None:
        self.now += passed_s
        self.running = False
        if self.in_session and found is not None:
            found.phase = SESSION
        self.may_have_run |= found is None or found.phase == SESSION
        if self.link.rules.kind == STREAM and found is not None:
            self.may_have_run |= found.shared or found.phase >= AUTHENTICATED
        self.happen(Exited(self.now, ended, found, left, jitter))

    @precondition(lambda self: self.running)
    @rule()
    def session_begins(self) -> None:
        self.in_session = True
        self.happen(SessionReached(self.now))

    @precondition(lambda self: self.running and self.in_session)
    @rule()
    def goes_up(self) -> None:
        self.happen(WentUp())

    @precondition(lambda self: self.armed)
    @rule(data=st.data())
    def timer_elapses(self, data: st.DataObject) -> None:
        timer = data.draw(st.sampled_from(sorted(self.armed)))
        self.armed.discard(timer)
        self.happen({DELAY: DelayElapsed(), KILL: KillElapsed(), LIFETIME: LifetimeElapsed()}[timer])

    @rule()
    def somebody_wants_a_restart(self) -> None:
        self.happen(RetryRequested())

    @rule(event=st.sampled_from([PathOpened(), LinkFoundDead("gone")]))
    def the_network_tells(self, event: Event) -> None:
        self.happen(event)

    @precondition(lambda self: self.starts)
    @rule(signum=st.sampled_from([1, 2, 15]))
    def somebody_stops_it(self, signum: int) -> None:
        self.stopped = True
        self.happen(StopRequested(signum))

    @rule(event=st.sampled_from([DelayElapsed(), KillElapsed(), WentUp()]))
    def something_comes_late(self, event: Event) -> None:
        if (self.link.state, type(event)) not in TABLE:
            self.happen(event)

    @invariant()
    def state_and_world_agree(self) -> None:
        assert self.running == (self.link.state in (STARTING, UP, RESTARTING, STOPPING))
        assert (self.finished == 1) == (self.link.state == ENDED)
        assert self.link.counts.starts == self.starts
        assert self.link.state != WAITING or DELAY in self.armed
        assert self.link.state != ENDED or not self.armed
        assert self.up == self.link.told_up


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=60, stateful_step_count=25)


def test_what_only_a_person_can_mend_is_told_as_that() -> None:
    link, _ = after(SessionReached(0.0), WentUp(), exited(60.0))
    link, actions = step(link, exited(70.0, found=WRONG_HOST))
    (report,) = (action.report for action in actions if isinstance(action, Tell))
    assert (report.event, report.by_people, report.delay_s) == (RETRY, True, 600.0)
    assert step(link, RetryRequested())[0].state == STARTING  # the network changed, or SIGUSR1


def test_a_tunnel_that_went_to_the_background_is_watched_no_more() -> None:
    link, _ = after(SessionReached(0.0), WentUp(), Deserted(), exited(60.0), attended=True)
    link, actions = step(link, exited(70.0, found=WRONG_HOST))
    assert link.state == WAITING
    assert finish(actions) is None


def test_what_is_missing_and_what_the_server_chose_is_told_with_up() -> None:
    _, actions = after(SessionReached(0.0), WentUp("no port", ((4000, "h:22"),)))
    (report,) = (action.report for action in actions if isinstance(action, Tell))
    assert (report.reason, report.allocated) == ("no port", ((4000, "h:22"),))


def test_a_port_that_was_asked_for_again_and_refused_costs_no_wait() -> None:
    for ours, state in ((False, WAITING), (True, STARTING)):
        link, _ = after(SessionReached(0.0), exited(60.0), SessionReached(61.0))
        assert step(link, exited(61.0, found=PORT_REFUSED)._replace(our_port=ours))[0].state == state
    first = exited(1.0, found=PORT_REFUSED)._replace(our_port=True)
    assert after(first, attended=True)[0].state == ENDED  # it was no wish of the user's to wait


@given(st.lists(st.sampled_from(list(SAMPLES.values())), max_size=30))
def test_the_end_swallows_everything(events: list[Event]) -> None:
    link = LINKS[ENDED]
    for event in events:
        assert step(link, event) == (link, ())
