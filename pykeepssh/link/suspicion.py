"""When a connection is taken for dead, as a pure state machine: STATE × EVENT → state, actions.

A quiet connection costs nothing: until something hints at trouble it is QUIET, and nobody looks at it.
After a hint it is looked at for as long as it is in use or in trouble.  There are two proofs of death, and
both need that the server answers a knock at the same time, for else it may be the path alone:

- bytes that were sent again and again are still not acknowledged;
- the other end does not answer questions whether it still knows the connection.  It is asked after
  something happened to the network, and once a connection in steady use falls silent: so a connection that
  the network forgot looks to the side that only listens.

Where the other end cannot be asked, a LAST_LOOK follows once the silence has made ssh send a keepalive.
Knows no clock and no socket; what only Linux can tell (Signs) is 0 elsewhere, and then nothing is proved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Union, get_args

from .kinds import TUNNEL

# States.
QUIET = "QUIET"  # nobody looks
LOOKING = "LOOKING"  # it is looked at while it is in use or in trouble
ASKING = "ASKING"  # the other end was asked; whether its answer can get here is not known
INSISTING = "INSISTING"  # the path works, and the other end is asked again
LAST_LOOK = "LAST_LOOK"  # ssh has sent a keepalive by the next look

STATES = (QUIET, LOOKING, ASKING, INSISTING, LAST_LOOK)

FORGOTTEN = "the network forgot the connection"
UNANSWERED = "the server stopped answering"

LOOK_S = 0.5
HINT_S = 1.0  # /proc/net/tcp is long on a busy machine: hints that follow sooner are one
MOST_TROUBLES = 20  # a connection that is this long in trouble is left to the keepalive
STEADY_USES = 3
# A middlebox may swallow questions: so many times a connection is given up for its silence alone
# before one of them must have been answered.
MOST_UNPROVEN = 3
SENT_S = 1.0  # ssh counts whole seconds; then the keepalive has been sent, and sent again if it was lost


class Terms(NamedTuple):
    """What does not change while a connection lives.

    needed       retransmissions that make it suspect; of questions without an answer it takes one
                 more, for nothing but the loss of some packets may be wrong
    keepalive_s  seconds of silence after which ssh sends a keepalive, or 0
    silence_s    seconds without an acknowledgement after which it is given up, whether the path works
                 or not; 0 leaves that to the keepalive
    """

    needed: int
    keepalive_s: float = 0.0
    silence_s: float = 0.0


def terms(kind: str, keepalive_s: float) -> Terms:
    """Return the terms for ssh's own connection: to restart a tunnel by mistake costs the least."""
    return Terms(2 if kind == TUNNEL else 3, keepalive_s)


def shared_terms(silence_s: float) -> Terms:
    """Return the terms for a master's connection: whoever made it may have given it no keepalive."""
    return Terms(3, silence_s=silence_s)


class Signs(NamedTuple):
    """What the system shows of a connection at one moment.

    sent_again  how often its oldest unacknowledged bytes were sent again; 0 if none are
    turns       how often its process has waited for something so far: that it grows tells of use
    unanswered  questions without an answer; 0 once something came over the connection
    """

    sent_again: int
    turns: int
    unanswered: int = 0


# Events.
class Hinted(NamedTuple):
    """Something hints at trouble, or the connection is in use.

    now     monotonic seconds
    turns   as in Signs
    shaken  something happened to the network
    """

    now: float
    turns: int
    shaken: bool = False


class Looked(NamedTuple):
    """The time for a look came."""

    signs: Signs


class PathWorked(NamedTuple):
    """A knock was answered, took_s seconds after it was sent."""

    signs: Signs
    took_s: float


class NotAskable(NamedTuple):
    """The other end cannot be asked."""


class LookedAway(NamedTuple):
    """Nothing is to be looked at until the next hint."""


Event = Union[Hinted, Looked, PathWorked, NotAskable, LookedAway]
EVENTS: tuple[type, ...] = get_args(Event)


# Actions.
class Look(NamedTuple):
    """Look after so many seconds."""

    after_s: float


class Ask(NamedTuple):
    """Begin to ask the other end; look once there can be an answer."""


class AskAgain(NamedTuple):
    """Ask once more; look once there can be an answer, but not before least_s seconds are over."""

    least_s: float


class Knock(NamedTuple):
    """Try whether the server can be reached."""


class Rest(NamedTuple):
    """Look no more, and knock no more."""


class GiveUp(NamedTuple):
    """The connection cannot work any more."""

    why: str


Action = Union[Look, Ask, AskAgain, Knock, Rest, GiveUp]


class Case(NamedTuple):
    """All that is remembered of a connection under suspicion.

    hinted      when the last hint that counted came (monotonic seconds)
    shaken      something happened to the network that the connection was not asked about yet
    turns       of the last look
    uses        looks that found it in use
    troubles    looks that found it in trouble, since it was last in use
    in_vain     questions from before the path was seen to work
    patience_s  what an answer may take at least
    unproven    connections given up for their silence since one answered: survives the connection
    """

    terms: Terms
    state: str = QUIET
    hinted: float = float("-inf")
    shaken: bool = False
    turns: int = 0
    uses: int = 0
    troubles: int = 0
    in_vain: int = 0
    patience_s: float = 0.0
    unproven: int = 0

    @property
    def asks(self) -> bool:
        """The other end is being asked."""
        return self.state in (ASKING, INSISTING)

    @property
    def most_troubles(self) -> int:
        """After so many looks at bytes that wait, waiting longer has no use."""
        return max(MOST_TROUBLES, round(self.terms.silence_s / LOOK_S))


Step = tuple[Case, tuple[Action, ...]]


def _rest(case: Case, *actions: Action) -> Step:
    return case._replace(state=QUIET, shaken=False), (Rest(), *actions)


def heeds(case: Case, now: float) -> bool:
    """Tell whether a hint at a time (monotonic seconds) begins a look, though nothing was shaken."""
    return case.state in (QUIET, LAST_LOOK) and now - case.hinted >= HINT_S


def _hinted(case: Case, event: Hinted) -> Step:
    if not event.shaken and not heeds(case, event.now):
        return case, ()
    case = case._replace(state=LOOKING, hinted=event.now, shaken=event.shaken, turns=event.turns)
    return case._replace(uses=0, troubles=0), (Look(LOOK_S),)


def _hinted_again(case: Case, event: Hinted) -> Step:
    return case._replace(shaken=case.shaken or event.shaken), ()


def _looked(case: Case, event: Looked) -> Step:
    used = event.signs.turns != case.turns
    case = case._replace(turns=event.signs.turns)
    if event.signs.sent_again:
        return _in_trouble(case, event.signs)
    if case.state == LAST_LOOK:
        return _rest(case)
    if used:
        return case._replace(uses=case.uses + 1, troubles=0), (Look(LOOK_S),)
    if case.shaken or case.uses >= STEADY_USES:
        return _doubt(case)
    return _rest(case)


def _in_trouble(case: Case, signs: Signs) -> Step:
    if case.troubles >= case.most_troubles:
        return _rest(case, GiveUp(UNANSWERED)) if case.terms.silence_s else _rest(case)
    suspect = signs.sent_again >= case.terms.needed
    return case._replace(troubles=case.troubles + 1), (Look(LOOK_S), *((Knock(),) if suspect else ()))


def _doubt(case: Case) -> Step:
    return case._replace(state=ASKING, shaken=False), (Ask(),)


def _cannot_ask(case: Case, event: NotAskable) -> Step:
    if not case.terms.keepalive_s:
        return _rest(case)
    return case._replace(state=LAST_LOOK), (Look(case.terms.keepalive_s + SENT_S),)


def _listened(case: Case, event: Looked | PathWorked) -> Step:
    signs = event.signs
    if signs.sent_again:
        return _looked(case._replace(state=LOOKING), Looked(signs))  # bytes that wait tell more
    if not signs.unanswered:
        return _answered(case, signs)
    if case.state == INSISTING:
        return _insisted(case, signs)
    if case.troubles >= MOST_TROUBLES:
        return _rest(case)
    return case._replace(troubles=case.troubles + 1), (Look(LOOK_S), Knock())


def _answered(case: Case, signs: Signs) -> Step:
    if signs.turns == case.turns:
        case = case._replace(unproven=0)  # ssh has done nothing meanwhile: this was the answer
    return _doubt(case) if case.shaken else _rest(case)  # it may be older than what happened


def _insisted(case: Case, signs: Signs) -> Step:
    if signs.unanswered - case.in_vain <= case.terms.needed:
        return case, (AskAgain(case.patience_s),)
    if case.unproven >= MOST_UNPROVEN:
        return _rest(case)
    return _rest(case._replace(unproven=case.unproven + 1), GiveUp(FORGOTTEN))


def _path_worked(case: Case, event: PathWorked) -> Step:
    """What still waits for an answer belongs to a dead connection."""
    dead = event.signs.sent_again >= case.terms.needed
    return _rest(case, GiveUp(FORGOTTEN)) if dead else (case, ())


def _path_worked_unanswered(case: Case, event: PathWorked) -> Step:
    case = case._replace(state=INSISTING, in_vain=event.signs.unanswered, patience_s=2 * event.took_s)
    return _listened(case, event)


def _look_away(case: Case, event: LookedAway) -> Step:
    return _rest(case)


_Rule = Callable[..., Step]

# What is not in the table is ignored: nothing changes, nothing is done.
TABLE: dict[tuple[str, type], _Rule] = {
    (QUIET, Hinted): _hinted,
    (LOOKING, Hinted): _hinted_again,
    (LOOKING, Looked): _looked,
    (LOOKING, PathWorked): _path_worked,
    (ASKING, Hinted): _hinted_again,
    (ASKING, Looked): _listened,
    (ASKING, PathWorked): _path_worked_unanswered,
    (ASKING, NotAskable): _cannot_ask,
    (INSISTING, Hinted): _hinted_again,
    (INSISTING, Looked): _listened,
    (LAST_LOOK, Hinted): _hinted,
    (LAST_LOOK, Looked): _looked,
    (LAST_LOOK, PathWorked): _path_worked,
    **{(state, LookedAway): _look_away for state in STATES},
}


def step(case: Case, event: Event) -> Step:
    """Return the case after an event, and the actions to perform in order."""
    rule = TABLE.get((case.state, type(event)))
    return (case, ()) if rule is None else rule(case, event)
