"""When a connection is taken for dead: whole histories, in no time."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from pykeepssh.link import suspicion
from pykeepssh.link.kinds import SHELL, TUNNEL
from pykeepssh.link.suspicion import (
    ASKING,
    EVENTS,
    FORGOTTEN,
    HINT_S,
    INSISTING,
    LAST_LOOK,
    LOOK_S,
    LOOKING,
    MOST_TROUBLES,
    MOST_UNPROVEN,
    QUIET,
    SENT_S,
    STATES,
    STEADY_USES,
    TABLE,
    UNANSWERED,
    Action,
    Ask,
    AskAgain,
    Case,
    GiveUp,
    Hinted,
    Knock,
    Look,
    Looked,
    LookedAway,
    NotAskable,
    PathWorked,
    Rest,
    Signs,
    Terms,
)

NEEDED = 2
KEEPALIVE_S = 15.0
TERMS = Terms(NEEDED, KEEPALIVE_S)


class History:
    """A connection, what happens to it, and what its guard would do."""

    def __init__(self, terms: Terms = TERMS, unproven: int = 0) -> None:
        self.case = Case(terms, unproven=unproven)
        self.now = 1000.0
        self.sent_again = self.turns = self.unanswered = 0
        self.answers = self.is_askable = self.path_works = True
        self.look_s: float | None = None  # until the next look
        self.asked = self.knocks = self.looks = 0
        self.given_up: list[str] = []

    @property
    def signs(self) -> Signs:
        """Return what the system shows of it now."""
        return Signs(self.sent_again, self.turns, self.unanswered)

    def tell(self, event: suspicion.Event) -> None:
        """Tell what happened, and do what follows."""
        self.case, actions = suspicion.step(self.case, event)
        for action in actions:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        if isinstance(action, Look):
            self.look_s = action.after_s
        elif isinstance(action, Ask):
            self.look_s = self.unanswered = 0
            if self.is_askable:
                self._ask()
            else:
                self.tell(NotAskable())
        elif isinstance(action, AskAgain):
            self.look_s = action.least_s
            self._ask()
        elif isinstance(action, Knock):
            self.knocks += 1
        elif isinstance(action, Rest):
            self.look_s = None
        elif isinstance(action, GiveUp):
            self.given_up.append(action.why)

    def _ask(self) -> None:
        self.asked += 1
        self.unanswered += not self.answers

    def hint(self, shaken: bool = False) -> History:
        """Hint at trouble."""
        self.tell(Hinted(self.now, self.turns, shaken))
        return self

    def shake(self) -> History:
        """Let something happen to the network."""
        return self.hint(shaken=True)

    def look(self, times: int = 1, *, uses: bool = False) -> History:
        """Let the time for the next look come."""
        for _ in range(times):
            assert self.look_s is not None
            self.now += self.look_s
            self.look_s = None
            self.turns += uses
            self.looks += 1
            before = self.knocks
            self.tell(Looked(self.signs))
            if self.knocks > before and self.path_works:
                self.path_worked()
        return self

    def path_worked(self, took_s: float = 0.1) -> None:
        """Answer a knock."""
        self.tell(PathWorked(self.signs, took_s))

    def until_rest(self) -> History:
        """Let the time pass until nobody looks any more."""
        for _ in range(100):
            if self.look_s is None:
                return self
            self.look()
        raise AssertionError("it goes on looking")


def test_a_quiet_connection_is_not_looked_at() -> None:
    history = History()
    assert (history.case.state, history.look_s) == (QUIET, None)


def test_one_look_follows_a_hint() -> None:
    history = History().hint()
    assert (history.case.state, history.look_s) == (LOOKING, LOOK_S)
    history.look()
    assert (history.case.state, history.look_s, history.asked) == (QUIET, None, 0)


def test_hints_that_follow_soon_are_one() -> None:
    history = History().hint().look()
    history.now += HINT_S - LOOK_S - 0.01
    assert history.hint().case.state == QUIET
    assert history.shake().case.state == LOOKING  # this one counts at once
    history.until_rest()
    history.now += HINT_S
    assert history.hint().case.state == LOOKING


def test_it_is_looked_at_for_as_long_as_it_is_in_use() -> None:
    history = History().hint().look(50, uses=True)
    assert (history.case.state, history.asked) == (LOOKING, 0)


@pytest.mark.parametrize("uses", range(STEADY_USES + 2))
def test_silence_after_steady_use_is_asked_about(uses: int) -> None:
    history = History().hint().look(uses, uses=True).look()
    assert (history.case.state == ASKING) == (history.asked == 1) == (uses >= STEADY_USES)
    assert history.until_rest().given_up == []


def test_one_that_answers_is_left_alone() -> None:
    history = History().shake().until_rest()
    assert (history.case.state, history.asked, history.knocks, history.given_up) == (QUIET, 1, 0, [])


def test_one_that_does_not_answer_while_its_path_works_is_dead() -> None:
    history = History().shake()
    history.answers = False
    history.until_rest()
    assert history.given_up == [FORGOTTEN]
    assert history.asked == NEEDED + 2
    assert (history.case.state, history.look_s) == (QUIET, None)


def test_an_answer_is_waited_for_as_long_as_the_path_takes_and_more() -> None:
    history = History().shake().look()
    history.answers, history.unanswered, history.path_works = False, 1, False
    history.look()
    history.path_worked(took_s=0.7)
    assert (history.case.state, history.look_s) == (INSISTING, 1.4)


def test_an_answer_that_comes_late_is_one() -> None:
    history = History().shake()
    history.answers = False
    history.look().look().look()
    assert history.case.state == INSISTING
    history.unanswered = 0
    assert history.until_rest().given_up == []


def test_where_no_path_works_silence_proves_nothing() -> None:
    history = History().shake()
    history.answers = history.path_works = False
    history.until_rest()
    assert (history.asked, history.knocks, history.given_up) == (1, MOST_TROUBLES, [])


def test_only_so_many_are_given_up_for_their_silence_alone() -> None:
    unproven, given_up = 0, []
    for _ in range(MOST_UNPROVEN + 2):
        history = History(unproven=unproven).shake()
        history.answers = False
        unproven = history.until_rest().case.unproven
        given_up.append(len(history.given_up))
    assert given_up == [1] * MOST_UNPROVEN + [0, 0]


@pytest.mark.parametrize(("used", "unproven"), [(False, 0), (True, MOST_UNPROVEN)])
def test_an_answer_restores_the_trust_in_questions_and_use_is_none(used: bool, unproven: int) -> None:
    history = History(unproven=MOST_UNPROVEN).shake().look().look(uses=used)
    assert (history.case.state, history.case.unproven) == (QUIET, unproven)


@pytest.mark.parametrize("sent_again", range(NEEDED + 2))
def test_bytes_that_are_sent_again_although_the_path_works_are_lost(sent_again: int) -> None:
    history = History().hint()
    history.sent_again = sent_again
    history.look()
    history.path_worked()
    assert history.given_up == ([FORGOTTEN] if sent_again >= NEEDED else [])
    assert history.case.state == (LOOKING if 0 < sent_again < NEEDED else QUIET)


@pytest.mark.parametrize(
    ("silence_s", "looks", "given_up"), [(0, 20, []), (5, 20, [UNANSWERED]), (60, 120, [UNANSWERED])]
)
def test_bytes_that_go_on_being_sent_again_are_left_to_the_keepalive_where_there_is_one(
    silence_s: float, looks: int, given_up: list[str]
) -> None:
    history = History(Terms(NEEDED, KEEPALIVE_S, silence_s)).hint()
    history.sent_again, history.path_works = NEEDED, False
    for _ in range(looks):
        history.look()
        assert history.case.state == LOOKING
    assert history.knocks == looks
    history.look()
    assert (history.case.state, history.look_s, history.given_up) == (QUIET, None, given_up)


def test_trouble_that_passes_is_forgotten() -> None:
    history = History().hint()
    for _ in range(3):
        history.sent_again = 1
        history.look(MOST_TROUBLES - 1)
        history.sent_again = 0
        history.look(uses=True)
    assert history.case.state == LOOKING


def test_bytes_that_wait_tell_more_than_a_question() -> None:
    history = History().shake().look()
    assert history.case.asks
    history.unanswered, history.sent_again, history.path_works = 1, 1, False
    history.look()
    assert (history.case.state, history.case.asks) == (LOOKING, False)
    history.sent_again = NEEDED
    history.look().path_worked()
    assert (history.given_up, history.case.unproven) == ([FORGOTTEN], 0)


def test_a_change_during_a_question_is_asked_about_too() -> None:
    history = History().shake().look()
    assert history.shake().asked == 1
    assert history.until_rest().asked == 2


def test_a_change_while_it_is_looked_at_is_asked_about() -> None:
    assert History().hint().shake().until_rest().asked == 1


def test_where_it_cannot_be_asked_the_keepalive_that_silence_brings_is_waited_for() -> None:
    history = History().shake()
    history.is_askable = False
    history.look()
    assert (history.case.state, history.look_s) == (LAST_LOOK, KEEPALIVE_S + SENT_S)
    history.look(uses=True)
    assert (history.case.state, history.look_s, history.given_up) == (QUIET, None, [])


def test_a_keepalive_that_is_lost_shows_at_the_last_look() -> None:
    history = History().shake()
    history.is_askable = False
    history.look()
    history.sent_again = NEEDED
    assert history.look().given_up == [FORGOTTEN]


def test_trouble_at_the_last_look_may_pass() -> None:
    history = History().shake()
    history.is_askable = history.path_works = False
    history.look()
    history.sent_again = 1
    assert history.look().look_s == LOOK_S
    history.sent_again = 0
    assert history.look(uses=True).case.state == QUIET


def test_a_hint_before_the_last_look_is_not_lost() -> None:
    history = History().shake()
    history.is_askable = False
    history.look()
    history.now += HINT_S
    assert history.hint().case.state == LOOKING


def test_without_a_keepalive_there_is_nothing_to_wait_for() -> None:
    history = History(Terms(NEEDED)).shake()
    history.is_askable = False
    assert history.until_rest().looks == 1


@pytest.mark.parametrize("state", STATES)
def test_who_looks_away_rests(state: str) -> None:
    case, actions = suspicion.step(Case(TERMS, state, shaken=True, unproven=2), LookedAway())
    assert (case.state, case.shaken, case.unproven, actions) == (QUIET, False, 2, (Rest(),))


def test_the_least_that_is_suspect() -> None:
    assert suspicion.terms(TUNNEL, 15.0) == Terms(2, 15.0)
    assert suspicion.terms(SHELL, 15.0) == Terms(3, 15.0)
    assert suspicion.shared_terms(60.0) == Terms(3, 0.0, 60.0)


# What each state does not expect: a guard that rests has no timer and no knock, one that insists has
# stopped knocking, and only who was told to ask can fail to.
UNEXPECTED = {
    (QUIET, Looked),
    (QUIET, PathWorked),
    (INSISTING, PathWorked),
    *((state, NotAskable) for state in STATES if state != ASKING),
}
SAMPLES: dict[type, Any] = {
    Hinted: Hinted(0.0, 0, True),
    Looked: Looked(Signs(5, 5, 5)),
    PathWorked: PathWorked(Signs(5, 5, 5), 1.0),
    NotAskable: NotAskable(),
    LookedAway: LookedAway(),
}


def test_the_table_is_complete() -> None:
    every = {(state, event) for state in STATES for event in EVENTS}
    assert set(TABLE) == every - UNEXPECTED


@pytest.mark.parametrize(("state", "event"), UNEXPECTED)
def test_what_is_not_expected_changes_nothing(state: str, event: type) -> None:
    case = Case(TERMS, state, turns=7)
    assert suspicion.step(case, SAMPLES[event]) == (case, ())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("since_s", [0.0, suspicion.HINT_S - 0.1, suspicion.HINT_S, 60.0])
def test_a_hint_that_is_not_heeded_changes_nothing(state: str, since_s: float) -> None:
    case, now = Case(TERMS, state, hinted=100.0, turns=7), 100.0 + since_s
    heeded = state in (QUIET, LAST_LOOK) and since_s >= suspicion.HINT_S
    assert suspicion.heeds(case, now) == heeded
    assert (suspicion.step(case, Hinted(now, 8)) == (case, ())) == (not heeded)


EVENT = st.one_of(
    st.builds(Hinted, st.floats(0, 1e6), st.integers(0, 3), st.booleans()),
    st.builds(Looked, st.builds(Signs, st.integers(0, 3), st.integers(0, 3), st.integers(0, 6))),
    st.builds(PathWorked, st.builds(Signs, st.integers(0, 3), st.integers(0, 3)), st.floats(0, 3)),
    st.builds(NotAskable),
    st.builds(LookedAway),
)


@given(st.lists(EVENT), st.sampled_from([0.0, 15.0]), st.sampled_from([0.0, 60.0]))
def test_there_is_a_next_look_exactly_while_it_is_not_quiet(
    events: list[suspicion.Event], keepalive_s: float, silence_s: float
) -> None:
    case, will_look = Case(Terms(NEEDED, keepalive_s, silence_s)), False
    for event in events:
        if isinstance(event, Looked) and not will_look:
            continue
        before = case
        case, actions = suspicion.step(case, event)
        for action in actions:
            will_look = will_look if isinstance(action, (Knock, GiveUp)) else not isinstance(action, Rest)
        assert will_look == (case.state != QUIET)
        if any(isinstance(action, GiveUp) for action in actions):
            assert case.state == QUIET and before.state != QUIET
