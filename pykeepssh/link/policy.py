"""Why ssh ended, and what follows: Evidence and exit become one Outcome, that and the Counts one Decision.

Knows the outcome table of the design.  Must not know how a decision is carried out.
"""

from __future__ import annotations

from typing import NamedTuple

from ..ssh.evidence import (
    AUTHENTICATED,
    CONNECTING,
    DENIED as CAUSE_DENIED,
    HOST_KEY as CAUSE_HOST_KEY,
    SESSION,
    SETUP,
    UNREACHABLE as CAUSE_UNREACHABLE,
    UNRESOLVED as CAUSE_UNRESOLVED,
    Evidence,
)
from . import backoff
from .kinds import STREAM, TUNNEL
from .outcomes import (
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

# What the table can say.
END = "end"
RESTART = "restart"  # at once, then with backoff
RETRY = "retry"  # with backoff
FLAT = "retry at a flat pace"
SLOW = "retry at the slowest pace, three times"
RARE = "retry every ten minutes"  # what only a person can fix, where nobody watches

HEALTHY_S = 10.0  # a session that lasted this long resets the backoff
PORT_HELD_S = 5.0  # a dead session's listener goes with its sshd, at a moment that nobody knows
DENIALS = 3  # after a healthy session: an account may be locked or a directory server be away
# Nothing is given away by that: under BatchMode no secret is typed, and an unknown host gets none.
# Six tries an hour are below what fail2ban, or PerSourcePenalties of sshd, turns an address away for.
RARE_S = 600.0
SSH_FAILED = 255
# The signals by which a person or a system asks a program to end: 1 HUP, 2 INT, 3 QUIT, 15 TERM.
# They have these numbers on every POSIX system.
ASKING_SIGNALS = frozenset((1, 2, 3, 15))

# outcome: first start with a person at a terminal, first start unattended, after a session
TABLE = {
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
# Rows that time can cure; KSSH_FIRST_START chooses for them.
TRANSIENT = frozenset((UNREACHABLE, UNRESOLVED, PORT_HELD_REMOTE))
# Rows that a person has to cure.  A tunnel that once stood and that nobody watches does not end by
# them, for nobody would start it again: a name that leads elsewhere for a while looks like them too.
BY_PEOPLE = frozenset((DENIED, HOST_KEY, FORGED, REFUSED_SETUP))


class Rules(NamedTuple):
    """What does not change while a link lives."""

    kind: str
    restartable: bool  # may be started again after it reached the session phase
    attended: bool  # a person is at a terminal
    first_start: str = "auto"
    backoff_max_s: float = 30.0
    maxstart: int = -1
    runs_no_command: bool = False  # restartable for that reason alone


class Counts(NamedTuple):
    """What happened to a link so far, counted.

    starts    how often ssh was started
    sessions  how many of those reached the session phase
    failures  failures in a row since the last healthy session
    denials   authentication failures in a row
    short     the last session ended within HEALTHY_S
    """

    starts: int = 0
    sessions: int = 0
    failures: int = 0
    denials: int = 0
    short: bool = False


class Decision(NamedTuple):
    """What to do now: start again after delay_s seconds, or end (delay_s is None).

    limit tells that only KSSH_MAXSTART forbids another start.
    """

    delay_s: float | None
    limit: bool = False


def outcome(ended: Exit, seen: Evidence | None, rules: Rules, left: bool, session_s: float | None) -> str:
    """Return the Outcome of one run of ssh.

    ended      how the process ended
    seen       what its log said, or None without a log channel
    rules      the link's rules
    left       the user left: "~.", an interrupt that ended ssh, the terminal closed
    session_s  how long the session lasted, or None if none was reached
    """
    if left:
        return LEFT
    if seen is None:
        return _outcome_by_code(ended, rules, session_s)
    if seen.forged:
        return FORGED  # and what else the log said was believed in vain
    if seen.host_key and ended.code == SSH_FAILED:
        return HOST_KEY
    if seen.command_ended or seen.asked_to_end:
        return FINISHED
    if seen.forward_fatal and ended.code == SSH_FAILED:
        return PORT_HELD_REMOTE if seen.forward_fatal == "remote" else PORT_HELD_LOCAL
    if ended.signal is not None:
        return LOST
    if ended.code != SSH_FAILED:
        # "ssh -N" ends with 0 on SIGTERM; through a shared master it ends with 0 at once.
        if rules.kind != TUNNEL or seen.shared:
            return FINISHED
        return LOST if seen.phase == SESSION else REFUSED_SETUP
    if seen.session_refused or (seen.pty_refused and (session_s or 0.0) < HEALTHY_S):
        return REFUSED_SETUP  # with "-tt" ssh itself ends a session that gets no terminal
    if seen.phase == SESSION:
        return LOST
    return _outcome_before_session(seen)


_BY_CAUSE = {
    CAUSE_DENIED: DENIED,
    CAUSE_HOST_KEY: HOST_KEY,
    CAUSE_UNRESOLVED: UNRESOLVED,
    CAUSE_UNREACHABLE: UNREACHABLE,
    SETUP: REFUSED_SETUP,
}


def _outcome_before_session(seen: Evidence) -> str:
    if seen.cause is not None:
        return _BY_CAUSE[seen.cause]
    if seen.killed_by is not None:
        return LOST
    # An error that no row of log_rows.py knows.  Once ssh was on its way the network is the likelier
    # cause; before that only its command line, configuration and keys had been looked at.
    return UNREACHABLE if CONNECTING <= seen.phase < AUTHENTICATED else REFUSED_SETUP


def _outcome_by_code(ended: Exit, rules: Rules, session_s: float | None) -> str:
    """Judge without a log: only a tunnel may be started again, for nothing of it can run twice."""
    if rules.kind != TUNNEL:
        return FINISHED
    if ended.signal is not None or ended.code == 0:
        return LOST
    if ended.code == SSH_FAILED:
        return LOST if session_s is not None and session_s >= HEALTHY_S else UNREACHABLE
    return REFUSED_SETUP  # not a status of ssh's: its libraries are being replaced, or a script around it


def counted(counts: Counts, result: str, session_s: float | None) -> tuple[Counts, bool]:
    """Return the counts after a run, and whether backoff may be skipped for the next start."""
    if session_s is None or result in (PORT_HELD_REMOTE, HOST_KEY, FORGED):
        # The server answers about a forward when the session has begun; the link never stood.
        denials = counts.denials + 1 if result == DENIED else 0
        return counts._replace(failures=counts.failures + 1, denials=denials), False
    short = session_s < HEALTHY_S
    at_once = not (short and counts.short)
    failures = counts.failures + 1 if short else 0
    return (
        counts._replace(sessions=counts.sessions + 1, failures=failures, denials=0, short=short),
        at_once,
    )


def asked_to_end(ended: Exit, seen: Evidence | None, kind: str) -> bool:
    """Tell whether somebody, perhaps not kssh, asked ssh to end."""
    if kind == TUNNEL and ended.code == 0:
        return seen is None or not seen.shared  # "ssh -N" ends so on SIGTERM, and never by itself
    signum = ended.signal if ended.signal is not None else seen and seen.killed_by
    return signum in ASKING_SIGNALS


def may_have_run(seen: Evidence | None, kind: str) -> bool:
    """Tell whether the remote command may have been started, or input been read; without a log nobody knows.

    ssh itself reads none before its session; but a LocalCommand, which it runs once it is authenticated,
    has the same standard input, and so has the master of a shared connection.
    """
    if seen is None or seen.phase == SESSION or seen.may_have_begun:
        return True
    return kind == STREAM and (seen.phase >= AUTHENTICATED or seen.shared)


def verdict(result: str, ended: Exit, seen: Evidence | None, rules: Rules, counts: Counts) -> str:
    """Return the entry of the table that counts: END, RESTART, RETRY, FLAT, SLOW or RARE.

    counts are those after this run.
    """
    if not rules.restartable and may_have_run(seen, rules.kind):
        return END  # promise 1: what was started once is not started again
    if counts.sessions:
        entry = TABLE[result][2]
        if entry == SLOW and counts.denials > DENIALS:
            entry = END
        if entry == END and result in BY_PEOPLE and rules.kind == TUNNEL and not rules.attended:
            entry = RARE
    else:
        entry = TABLE[result][0 if rules.attended else 1]
        if result in TRANSIENT and rules.first_start != "auto":
            entry = END if rules.first_start == "fail" else TABLE[result][1]
        if not rules.restartable and rules.first_start != "retry":
            return END
    asked = asked_to_end(ended, seen, rules.kind)
    if result == LOST and rules.kind != TUNNEL and (asked or not counts.sessions):
        return END
    return entry


def is_last_start(rules: Rules, counts: Counts) -> bool:
    """Tell whether KSSH_MAXSTART allows no start after this one."""
    return 0 < rules.maxstart <= counts.starts


def decide(entry: str, rules: Rules, counts: Counts, at_once: bool, jitter: float) -> Decision:
    """Turn a table entry into a Decision; jitter is a random number in 0 ≤ jitter < 1."""
    if entry == END:
        return Decision(None)
    if is_last_start(rules, counts):
        return Decision(None, limit=True)
    if entry == FLAT:
        return Decision(min(PORT_HELD_S, rules.backoff_max_s))
    if entry == SLOW:
        return Decision(rules.backoff_max_s)
    if entry == RARE:
        return Decision(max(RARE_S, rules.backoff_max_s))
    if entry == RESTART and at_once:
        return Decision(0.0)
    return Decision(backoff.delay_s(max(1, counts.failures), rules.backoff_max_s, jitter))
