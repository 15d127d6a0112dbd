"""Every row and column of the outcome table: why ssh ended, and what follows."""

from __future__ import annotations

import pytest
from facts import seen
from hypothesis import given, strategies as st

from pykeepssh.link import backoff, outcomes, policy
from pykeepssh.link.kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from pykeepssh.link.outcomes import (
    DENIED,
    FINISHED,
    FORGED,
    HOST_KEY,
    LEFT,
    LOST,
    PORT_HELD_LOCAL,
    PORT_HELD_REMOTE,
    REFUSED_SETUP,
    UNREACHABLE,
    UNRESOLVED,
    Exit,
)
from pykeepssh.link.policy import (
    DENIALS,
    END,
    FLAT,
    HEALTHY_S,
    PORT_HELD_S,
    RARE,
    RARE_S,
    RESTART,
    RETRY,
    SLOW,
    Counts,
    Decision,
    Rules,
)
from pykeepssh.ssh import evidence
from pykeepssh.ssh.evidence import AUTHENTICATED, CONNECTED, CONNECTING, SESSION, STARTED, Evidence

OUTCOMES = (
    FINISHED,
    LEFT,
    LOST,
    UNREACHABLE,
    UNRESOLVED,
    DENIED,
    FORGED,
    HOST_KEY,
    REFUSED_SETUP,
    PORT_HELD_REMOTE,
    PORT_HELD_LOCAL,
)
FAILED = Exit(255)
FIRST = Counts(starts=1, failures=1)
LATER = Counts(starts=5, sessions=2, failures=1)


def rules(
    kind: str = TUNNEL, restartable: bool | None = None, attended: bool = True, **more: object
) -> Rules:
    if restartable is None:
        restartable = kind != COMMAND
    return Rules(kind, restartable, attended)._replace(**more)


# -- the outcome -------------------------------------------------------------------------------------

CAUSES = {
    evidence.DENIED: DENIED,
    evidence.HOST_KEY: HOST_KEY,
    evidence.UNRESOLVED: UNRESOLVED,
    evidence.UNREACHABLE: UNREACHABLE,
    evidence.SETUP: REFUSED_SETUP,
}

# kind, exit, evidence, outcome
ENDINGS: dict[str, tuple[str, Exit, Evidence, str]] = {
    "status 0": (COMMAND, Exit(0), seen(phase=SESSION, command_ended=True), FINISHED),
    "status 3": (COMMAND, Exit(3), seen(phase=SESSION, command_ended=True), FINISHED),
    "status 255 of the remote command": (SHELL, FAILED, seen(phase=SESSION, command_ended=True), FINISHED),
    "a status that no log explains": (SHELL, Exit(3), seen(phase=SESSION), FINISHED),
    "a status before a session": (SHELL, Exit(3), seen(phase=CONNECTED), FINISHED),
    "a tunnel with a status that is none of ssh's": (
        TUNNEL,
        Exit(127),
        seen(),
        REFUSED_SETUP,
    ),
    "a tunnel that ends well before it began": (TUNNEL, Exit(0), seen(phase=CONNECTED), REFUSED_SETUP),
    "exit status received, then killed": (
        SHELL,
        Exit(signal=9),
        seen(phase=SESSION, command_ended=True),
        FINISHED,
    ),
    "ssh -O exit": (TUNNEL, FAILED, seen(phase=SESSION, asked_to_end=True), FINISHED),
    "a tunnel through a master": (
        TUNNEL,
        Exit(0),
        seen(phase=SESSION, shared=True, command_ended=True),
        FINISHED,
    ),
    "a tunnel through a master, no status": (TUNNEL, Exit(0), seen(phase=SESSION, shared=True), FINISHED),
    "a tunnel told to end by TERM": (TUNNEL, Exit(0), seen(phase=SESSION), LOST),
    "a tunnel told to end by HUP": (TUNNEL, FAILED, seen(phase=SESSION, killed_by=1), LOST),
    "a tunnel killed": (TUNNEL, Exit(signal=9), seen(phase=SESSION), LOST),
    "a shell killed before its session": (SHELL, Exit(signal=15), seen(phase=CONNECTING), LOST),
    "a shell told to end, no session": (SHELL, FAILED, seen(phase=CONNECTED, killed_by=15), LOST),
    "the server is gone": (SHELL, FAILED, seen(phase=SESSION), LOST),
    "the keepalive gave up": (
        SHELL,
        FAILED,
        seen(phase=SESSION, timed_out=True, cause=evidence.UNREACHABLE),
        LOST,
    ),
    "reset in a session": (TUNNEL, FAILED, seen(phase=SESSION, cause=evidence.UNREACHABLE), LOST),
    "the session is refused": (SHELL, FAILED, seen(phase=SESSION, session_refused=True), REFUSED_SETUP),
    "the terminal is refused": (SHELL, FAILED, seen(phase=SESSION, pty_refused=True), REFUSED_SETUP),
    "a remote port is held": (
        TUNNEL,
        FAILED,
        seen(phase=SESSION, forward_fatal="remote", remote_refused=["80"]),
        PORT_HELD_REMOTE,
    ),
    "a local port is held": (
        TUNNEL,
        FAILED,
        seen(phase=AUTHENTICATED, forward_fatal="local", local_held=["80"], cause=evidence.SETUP),
        PORT_HELD_LOCAL,
    ),
    "a remote port was refused and ssh stayed": (
        TUNNEL,
        FAILED,
        seen(phase=SESSION, remote_refused=["80"]),
        LOST,
    ),
    "a host key refused, whatever else is said": (
        TUNNEL,
        FAILED,
        seen(phase=SESSION, host_key=True, asked_to_end=True, cause=evidence.DENIED),
        HOST_KEY,
    ),
    "a host key refused, and killed": (
        TUNNEL,
        Exit(signal=9),
        seen(phase=CONNECTED, host_key=True, cause=evidence.HOST_KEY),
        LOST,
    ),
    "a remote port refused, and killed": (
        TUNNEL,
        Exit(signal=9),
        seen(phase=SESSION, forward_fatal="remote", remote_refused=["80"]),
        LOST,
    ),
    "forged, and killed for it": (TUNNEL, Exit(signal=9), seen(phase=SESSION, forged=True), FORGED),
    "forged, and gone": (TUNNEL, FAILED, seen(command_ended=True, forged=True), FORGED),
    "not a word": (TUNNEL, FAILED, seen(), REFUSED_SETUP),
    "an unknown error on the way": (TUNNEL, FAILED, seen(phase=CONNECTING), UNREACHABLE),
    "an unknown error once connected": (TUNNEL, FAILED, seen(phase=CONNECTED), UNREACHABLE),
    "an unknown error once authenticated": (TUNNEL, FAILED, seen(phase=AUTHENTICATED), REFUSED_SETUP),
    **{
        f"the log says {cause}": (kind, FAILED, seen(phase=CONNECTED, cause=cause), outcome)
        for kind in (SHELL, TUNNEL)
        for cause, outcome in CAUSES.items()
    },
}


@pytest.mark.parametrize("name", ENDINGS)
def test_the_outcome_of(name: str) -> None:
    kind, ended, found, expected = ENDINGS[name]
    assert policy.outcome(ended, found, rules(kind), left=False, session_s=None) == expected


@pytest.mark.parametrize("name", ENDINGS)
def test_who_left_has_left_whatever_ssh_says(name: str) -> None:
    kind, ended, found, _ = ENDINGS[name]
    assert policy.outcome(ended, found, rules(kind), left=True, session_s=1.0) == LEFT


# kind, exit, length of the session as far as known, outcome
WITHOUT_LOG: dict[str, tuple[str, Exit, float | None, str]] = {
    "a shell that ends": (SHELL, Exit(0), None, FINISHED),
    "a shell that fails": (SHELL, FAILED, 100.0, FINISHED),
    "a command that is killed": (COMMAND, Exit(signal=9), None, FINISHED),
    "an attacher that fails": (ATTACH, FAILED, None, FINISHED),
    "a tunnel that ends with 0": (TUNNEL, Exit(0), None, LOST),
    "a tunnel that is killed": (TUNNEL, Exit(signal=15), None, LOST),
    "a tunnel that fails at once": (TUNNEL, FAILED, None, UNREACHABLE),
    "a tunnel that fails soon": (TUNNEL, FAILED, 9.9, UNREACHABLE),
    "a tunnel that fails late": (TUNNEL, FAILED, 10.0, LOST),
    "a tunnel with a status of its own": (TUNNEL, Exit(2), None, REFUSED_SETUP),
}


def test_a_session_that_went_on_without_a_terminal_can_be_lost() -> None:
    found = seen(phase=SESSION, pty_refused=True)
    lasted = policy.HEALTHY_S
    assert policy.outcome(FAILED, found, rules(SHELL), left=False, session_s=lasted) == LOST


@pytest.mark.parametrize("name", WITHOUT_LOG)
def test_the_outcome_without_a_log_of(name: str) -> None:
    kind, ended, session_s, expected = WITHOUT_LOG[name]
    assert policy.outcome(ended, None, rules(kind), left=False, session_s=session_s) == expected


def test_every_outcome_is_reached() -> None:
    assert {row[-1] for row in ENDINGS.values()} | {LEFT} == set(OUTCOMES)


# -- the verdict -------------------------------------------------------------------------------------

# The table of the design: first start with a person, first start unattended, after a session.
DESIGN = {
    FINISHED: (END, END, END),
    LEFT: (END, END, END),
    LOST: (RESTART, RESTART, RESTART),
    UNREACHABLE: (END, RETRY, RETRY),
    UNRESOLVED: (END, RETRY, RETRY),
    DENIED: (END, END, SLOW),
    HOST_KEY: (END, END, END),
    FORGED: (END, END, END),
    REFUSED_SETUP: (END, END, END),
    PORT_HELD_REMOTE: (END, FLAT, FLAT),
    PORT_HELD_LOCAL: (END, END, RETRY),
}


def test_the_table_is_complete() -> None:
    assert set(policy.TABLE) == set(DESIGN) == set(OUTCOMES)
    named = {value for name, value in vars(outcomes).items() if name.isupper() and isinstance(value, str)}
    events = {outcomes.UP, outcomes.DOWN, outcomes.RETRY, outcomes.GAVE_UP, outcomes.ENDED}
    assert named == set(OUTCOMES) | events | {outcomes.NOT_RESUMED}  # which is only told
    assert set(OUTCOMES) >= policy.TRANSIENT


def verdict(result: str, column: int, ended: Exit = FAILED, **more: object) -> str:
    counts = LATER if column == 2 else FIRST
    found = seen(phase=SESSION if result == LOST else CONNECTED)
    return policy.verdict(result, ended, found, rules(**{"attended": column != 1, **more}), counts)


@pytest.mark.parametrize("result", OUTCOMES)
@pytest.mark.parametrize("column", [0, 1, 2])
def test_what_follows_for_a_tunnel(result: str, column: int) -> None:
    assert verdict(result, column) == DESIGN[result][column]


@pytest.mark.parametrize("result", OUTCOMES)
@pytest.mark.parametrize("attended", [False, True])
@pytest.mark.parametrize("denials", [0, 3, 4, 100])
def test_a_tunnel_that_stood_and_nobody_watches_never_gives_up(
    result: str, attended: bool, denials: int
) -> None:
    counts = LATER._replace(denials=denials)
    found = policy.verdict(result, FAILED, seen(phase=CONNECTED), rules(attended=attended), counts)
    expected = DESIGN[result][2]
    if result == DENIED and denials > DENIALS:
        expected = END
    if expected == END and result not in (FINISHED, LEFT) and not attended:
        expected = RARE
    assert found == expected
    shell = policy.verdict(result, FAILED, seen(phase=CONNECTED), rules(SHELL, attended=attended), counts)
    assert shell != RARE


@pytest.mark.parametrize("result", OUTCOMES)
@pytest.mark.parametrize("first_start", ["retry", "fail"])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_the_user_decides_about_the_first_start(result: str, first_start: str, column: int) -> None:
    expected = DESIGN[result][column]
    if column < 2 and result in (UNREACHABLE, UNRESOLVED, PORT_HELD_REMOTE):
        expected = END if first_start == "fail" else DESIGN[result][1]
    assert verdict(result, column, first_start=first_start) == expected


@pytest.mark.parametrize("result", OUTCOMES)
def test_a_shell_comes_back_as_a_tunnel_does_once_it_was_there(result: str) -> None:
    assert verdict(result, 2, kind=SHELL) == DESIGN[result][2]


@pytest.mark.parametrize("kind", [SHELL, ATTACH])
def test_a_shell_lost_before_any_session_ends(kind: str) -> None:
    found = seen(phase=CONNECTED, killed_by=15)
    assert policy.verdict(LOST, FAILED, found, rules(kind), FIRST) == END
    assert policy.verdict(LOST, Exit(signal=9), seen(), rules(kind, attended=False), FIRST) == END


@pytest.mark.parametrize("signum", [1, 2, 3, 15])
@pytest.mark.parametrize("kind", [SHELL, ATTACH, TUNNEL])
def test_a_signal_that_asks_ends_all_but_a_tunnel(kind: str, signum: int) -> None:
    expected = RESTART if kind == TUNNEL else END
    told = seen(phase=SESSION, killed_by=signum)
    assert policy.verdict(LOST, FAILED, told, rules(kind), LATER) == expected
    silent = seen(phase=SESSION)
    assert policy.verdict(LOST, Exit(signal=signum), silent, rules(kind), LATER) == expected


ASKED = {
    "a signal": (Exit(signal=15), seen(), SHELL, True),
    "a signal that does not ask": (Exit(signal=9), seen(phase=SESSION), TUNNEL, False),
    "its log says so": (FAILED, seen(phase=SESSION, killed_by=1), SHELL, True),
    "a tunnel that ends well": (Exit(0), seen(phase=SESSION), TUNNEL, True),
    "a tunnel that ends well, no log": (Exit(0), None, TUNNEL, True),
    "a tunnel through a master": (Exit(0), seen(phase=SESSION, shared=True), TUNNEL, False),
    "a shell that ends well": (Exit(0), None, SHELL, False),
    "a lost link": (FAILED, seen(phase=SESSION), TUNNEL, False),
}


@pytest.mark.parametrize("name", ASKED)
def test_whether_somebody_asked_ssh_to_end(name: str) -> None:
    ended, found, kind, expected = ASKED[name]
    assert bool(policy.asked_to_end(ended, found, kind)) == expected


@pytest.mark.parametrize("kind", [SHELL, ATTACH, TUNNEL])
def test_a_signal_that_does_not_ask_is_a_lost_link(kind: str) -> None:
    assert policy.verdict(LOST, Exit(signal=9), seen(phase=SESSION), rules(kind), LATER) == RESTART


@pytest.mark.parametrize("result", OUTCOMES)
@pytest.mark.parametrize("counts", [FIRST, LATER])
@pytest.mark.parametrize("first_start", ["auto", "retry", "fail"])
@pytest.mark.parametrize("found", [None, seen(phase=SESSION)], ids=["no log", "session"])
def test_what_may_have_run_is_not_run_again(
    result: str, counts: Counts, first_start: str, found: Evidence | None
) -> None:
    for ended in (FAILED, Exit(0), Exit(signal=9)):
        given_rules = rules(COMMAND, first_start=first_start, attended=False)
        assert policy.verdict(result, ended, found, given_rules, counts) == END


# what the log of a run said; may a command have run, may a stream have been read from
TOUCHED = {
    "on its way": (seen(phase=CONNECTING), False, False),
    "connected": (seen(phase=CONNECTED), False, False),
    "a LocalCommand may have read": (seen(phase=AUTHENTICATED), False, True),
    "a session": (seen(phase=SESSION), True, True),
    "a master may have read": (seen(phase=CONNECTING, shared=True), False, True),
    "the log tells of a session, and nobody else does": (
        seen(phase=CONNECTED, may_have_begun=True),
        True,
        True,
    ),
    "nobody knows": (None, True, True),
}


@pytest.mark.parametrize("name", TOUCHED)
def test_input_that_was_perhaps_read_is_not_given_to_a_second_ssh(name: str) -> None:
    found, command, stream = TOUCHED[name]
    for kind, touched in ((COMMAND, command), (STREAM, stream)):
        assert policy.may_have_run(found, kind) == touched
        retry = rules(kind, first_start="retry", attended=False)._replace(restartable=False)
        expected = END if touched else RETRY
        assert policy.verdict(UNREACHABLE, FAILED, found, retry, FIRST) == expected


def test_a_command_that_did_not_start_is_tried_again_only_if_the_user_says_so() -> None:
    found = seen(phase=CONNECTING, cause=evidence.UNREACHABLE)
    for attended in (True, False):
        assert policy.verdict(UNREACHABLE, FAILED, found, rules(COMMAND, attended=attended), FIRST) == END
    retry = rules(COMMAND, first_start="retry")
    assert policy.verdict(UNREACHABLE, FAILED, found, retry, FIRST) == RETRY
    assert policy.verdict(DENIED, FAILED, found, retry, FIRST) == END


# -- the decision ------------------------------------------------------------------------------------

# entry, counts, at once: delay at jitter 0.5, with KSSH_BACKOFF_MAX 30
DECISIONS: dict[str, tuple[str, Counts, bool, float | None]] = {
    "end": (END, LATER, True, None),
    "restart at once": (RESTART, LATER, True, 0.0),
    "restart, the one before was short too": (RESTART, LATER._replace(failures=2), False, 1.0),
    "restart, not at once, no failure counted": (RESTART, LATER._replace(failures=0), False, 0.5),
    "retry the first time": (RETRY, LATER._replace(failures=1), True, 0.5),
    "retry the second time": (RETRY, LATER._replace(failures=2), False, 1.0),
    "retry the fifth time": (RETRY, LATER._replace(failures=5), False, 8.0),
    "retry the sixth time: the most": (RETRY, LATER._replace(failures=6), False, 15.0),
    "retry for ever": (RETRY, LATER._replace(failures=10**6), False, 15.0),
    "flat": (FLAT, LATER._replace(failures=9), False, 5.0),
    "denied once": (SLOW, LATER._replace(denials=1), False, 30.0),
    "denied three times": (SLOW, LATER._replace(denials=3), False, 30.0),
    "for people to mend": (RARE, LATER._replace(denials=4), False, 600.0),
}


@pytest.mark.parametrize("name", DECISIONS)
def test_when_it_starts_again(name: str) -> None:
    entry, counts, at_once, delay_s = DECISIONS[name]
    assert policy.decide(entry, rules(), counts, at_once, 0.5) == Decision(delay_s)


@pytest.mark.parametrize("entry", [RESTART, RETRY, FLAT, SLOW, RARE])
def test_the_number_of_starts_is_limited(entry: str) -> None:
    limited = rules(maxstart=5)
    for starts, over in ((4, False), (5, True), (6, True)):
        decision = policy.decide(entry, limited, LATER._replace(starts=starts), True, 0.5)
        assert decision.limit == over
        assert (decision.delay_s is None) == over


@pytest.mark.parametrize("maxstart", [-1, 0])
def test_without_a_limit_there_is_always_a_next_start(maxstart: int) -> None:
    assert not policy.is_last_start(rules(maxstart=maxstart), LATER._replace(starts=1000))


def test_an_end_is_not_the_limits_doing() -> None:
    assert policy.decide(END, rules(maxstart=1), LATER, False, 0.5) == Decision(None)


def test_a_short_backoff_shortens_the_flat_pace() -> None:
    assert policy.decide(FLAT, rules(backoff_max_s=2.0), LATER, False, 0.5) == Decision(2.0)
    assert PORT_HELD_S == 5.0


def test_a_short_backoff_does_not_hurry_people_and_a_long_one_counts() -> None:
    assert policy.decide(RARE, rules(backoff_max_s=2.0), LATER, False, 0.5) == Decision(RARE_S)
    assert policy.decide(RARE, rules(backoff_max_s=3600.0), LATER, False, 0.5) == Decision(3600.0)
    assert RARE_S == 600.0


@given(
    st.sampled_from([RESTART, RETRY, FLAT, SLOW, END]),  # of RARE people decide
    st.integers(0, 2000),
    st.integers(0, 9),
    st.booleans(),
    st.floats(0, 1, exclude_max=True),
    st.integers(1, 10**6),
)
def test_no_delay_is_longer_than_the_user_wants(
    entry: str, failures: int, denials: int, at_once: bool, jitter: float, most_s: int
) -> None:
    counts = Counts(1, 1, failures, denials)
    decision = policy.decide(entry, rules(backoff_max_s=float(most_s)), counts, at_once, jitter)
    assert decision.delay_s is None or 0 <= decision.delay_s <= most_s


# -- what is learnt ----------------------------------------------------------------------------------

# counts before, outcome, length of the session: counts after, at once
LESSONS: dict[str, tuple[Counts, str, float | None, Counts, bool]] = {
    "no session": (Counts(1), UNREACHABLE, None, Counts(1, failures=1), False),
    "no session again": (Counts(2, failures=1), UNREACHABLE, None, Counts(2, failures=2), False),
    "denied": (Counts(1), DENIED, None, Counts(1, failures=1, denials=1), False),
    "denied again": (
        Counts(2, 1, failures=1, denials=1),
        DENIED,
        None,
        Counts(2, 1, failures=2, denials=2),
        False,
    ),
    "not denied in between": (
        Counts(3, 1, failures=2, denials=2),
        UNREACHABLE,
        None,
        Counts(3, 1, failures=3),
        False,
    ),
    **{
        f"{result}, which is no session": (
            Counts(2, 1, short=True),
            result,
            60.0,
            Counts(2, 1, 1, short=True),
            False,
        )
        for result in (HOST_KEY, PORT_HELD_REMOTE, FORGED)
    },
    "a healthy session": (Counts(3, 1, 5, 2, True), LOST, HEALTHY_S, Counts(3, 2), True),
    "a short session": (Counts(1), LOST, 9.9, Counts(1, 1, 1, 0, True), True),
    "a second short session": (Counts(2, 1, 1, 0, True), LOST, 0.0, Counts(2, 2, 2, 0, True), False),
    "short ones with a failure between": (
        Counts(3, 1, 2, 0, True),
        LOST,
        1.0,
        Counts(3, 2, 3, 0, True),
        False,
    ),
    "short after a healthy one": (Counts(3, 2), LOST, 1.0, Counts(3, 3, 1, 0, True), True),
}


@pytest.mark.parametrize("name", LESSONS)
def test_a_run_teaches(name: str) -> None:
    before, result, session_s, after, at_once = LESSONS[name]
    assert policy.counted(before, result, session_s) == (after, at_once)


def test_three_denials_are_waited_for() -> None:
    for attended, after in ((True, None), (False, 600.0)):
        counts, pace = Counts(1, 1), []
        for _ in range(5):
            counts, at_once = policy.counted(counts, DENIED, None)
            found, who = seen(phase=CONNECTED), rules(attended=attended)
            entry = policy.verdict(DENIED, FAILED, found, who, counts)
            pace.append(policy.decide(entry, who, counts, at_once, 0.5).delay_s)
        assert pace == [30.0, 30.0, 30.0, after, after]
    assert DENIALS == 3


def test_the_phases_come_in_order() -> None:
    assert list(range(5)) == [STARTED, CONNECTING, CONNECTED, AUTHENTICATED, SESSION]


# -- backoff -----------------------------------------------------------------------------------------


def test_the_ceiling_doubles_from_one_second() -> None:
    assert [backoff.ceiling_s(n, 30) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert backoff.ceiling_s(10**9, 30) == 30
    assert backoff.ceiling_s(3, 0.5) == 0.5


@given(st.integers(1, 10**6), st.floats(0, 10**7), st.floats(0, 1, exclude_max=True))
def test_the_delay_is_a_share_of_the_ceiling(failures: int, most_s: float, jitter: float) -> None:
    assert 0 <= backoff.delay_s(failures, most_s, jitter) <= backoff.ceiling_s(failures, most_s) <= most_s
