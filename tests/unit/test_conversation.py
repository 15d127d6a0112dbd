"""What ssh says and what is typed, as histories: what is shown and sent, in order, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from pykeepssh.ssh.conversation import (
    Ask,
    Asked,
    AwaitRaw,
    Conversation,
    Effect,
    Hold,
    Send,
    Show,
    ShowLine,
    Turn,
    Typed,
)
from pykeepssh.ssh.escapes import BACKGROUND, SUSPEND, SUSPEND_JOB, Escapes
from pykeepssh.ssh.evidence import SESSION
from pykeepssh.ssh.levels import LEVELS

CONNECTING = b"debug1: Connecting to h [192.0.2.1] port 22."
STANDS = b"debug1: Connection established."
AUTHENTICATED_LINE = b'Authenticated to h ([192.0.2.1]:22) using "publickey".'
BEGINS = b"debug1: Entering interactive session."
SHARED = b"debug1: mux_client_hello_exchange: master version 4"
WARNING = b"Warning: Permanently added 'h' (ED25519) to the list of known hosts."
NO = b"Host key verification failed."
PASSWORD = b"u@h's password: "
HOST_KEY = b"Are you sure you want to continue connecting (yes/no/[fingerprint])? "


class Person(NamedTuple):
    """How the person's side stands while something is read or typed."""

    attended: bool = True
    waits: bool = False
    hides: bool = False
    signals: bool = True
    echoes: bool = True
    rest: bool = False
    report: bool = False


HERE = Person()
WAITS = Person(waits=True)
NOBODY = Person(attended=False)
SECRET = Person(hides=True, echoes=False)
RETRY_SECRET = Person(waits=True, hides=True, echoes=False)
RAW = Person(signals=False)


def conversation(
    has_log: bool = True, tagged: bool = False, proven: bool = True, level: str = "INFO", chars: bool = True
) -> Conversation:
    escapes = Escapes(ord("~"), lambda: (9, 2))
    characters = (b"\x03\x1c", b"\x1a") if chars else (b"", b"")
    return Conversation(escapes, tagged, lambda: proven, LEVELS[level], has_log, characters)


def log(*lines: bytes) -> Turn:
    return Turn(lines=lines)


def pty(data: bytes) -> Turn:
    return Turn(pty=data)


# What happens, one after the other: what is read, or bytes that are typed; each with how the person stands.
Step = tuple[Any, Person]


def tell(talk: Conversation, step: Any, person: Person = HERE) -> list[Effect]:
    if isinstance(step, Turn):
        return talk.heard(step._replace(attended=person.attended, waits=person.waits, hides=person.hides))
    typed = step if isinstance(step, Typed) else Typed(step)
    return talk.typed(
        typed._replace(rest=person.rest, report=person.report, signals=person.signals, echoes=person.echoes)
    )


def follow(talk: Conversation, *steps: Any) -> list[Effect]:
    """Return all that is to be done; a Person among the steps tells how things stand from there on."""
    person, effects = HERE, []
    for step in steps:
        if isinstance(step, Person):
            person = step
        else:
            effects += tell(talk, step, person)
    return effects


def shown(effects: Sequence[Effect]) -> bytes:
    """Return what the person sees in the end, all of it."""
    parts = []
    for effect in effects:
        if isinstance(effect, Show):
            parts.append(effect.data)
        elif isinstance(effect, (ShowLine, Hold)):
            parts.append(effect.line + b"\r\n")
    return b"".join(parts)


def sent(effects: Sequence[Effect]) -> bytes:
    return b"".join(effect.data for effect in effects if isinstance(effect, Send))


def asked(effects: Sequence[Effect]) -> list[str]:
    return [effect.what for effect in effects if isinstance(effect, Asked)]


def in_session(**how: Any) -> Conversation:
    talk = conversation(**how)
    follow(talk, log(CONNECTING, STANDS, BEGINS))
    assert talk.session
    return talk


# What comes first.


def test_before_a_session_the_log_comes_before_what_was_printed_in_the_same_turn() -> None:
    talk = conversation()
    effects = follow(talk, log(CONNECTING, STANDS), Turn(PASSWORD, (WARNING,)))
    assert effects == [ShowLine(WARNING, False), Ask(), Show(PASSWORD)]


def test_in_a_session_what_was_printed_comes_before_the_log() -> None:
    assert follow(in_session(), Turn(b"out", (WARNING,))) == [Show(b"out"), ShowLine(WARNING, False)]


def test_the_echo_of_an_answer_comes_before_the_log_and_the_next_question_behind_it() -> None:
    talk = conversation()
    steps = log(CONNECTING, STANDS), pty(HOST_KEY), b"yes\r"
    assert shown(follow(talk, *steps)) == HOST_KEY
    assert talk.echo_is_due
    effects = follow(talk, Turn(b"yes\r\n" + PASSWORD, (WARNING,)))
    assert effects == [Show(b"yes\r\n"), ShowLine(WARNING, False), Ask(), Show(PASSWORD)]
    assert not talk.echo_is_due


def test_the_end_of_an_answer_is_waited_for_once() -> None:
    """Some program that asks ends no line."""
    talk = conversation()
    follow(talk, log(CONNECTING, STANDS), pty(HOST_KEY), b"n")
    assert not talk.answer_is_due
    follow(talk, b"o\r")
    assert talk.answer_is_due
    follow(talk, pty(b"n"))
    assert talk.answer_is_due
    follow(talk, log(NO))
    assert not talk.answer_is_due
    assert talk.echo_is_due


def test_what_a_session_printed_that_begins_in_the_same_turn_comes_behind_the_log() -> None:
    talk = conversation()
    assert shown(follow(talk, Turn(b"motd", (WARNING, BEGINS)))) == WARNING + b"\r\nmotd"
    assert talk.session


def test_a_log_that_is_cut_inside_a_message_goes_on_with_it() -> None:
    talk = conversation()
    rest = b"rest of a message"
    one = follow(talk, Turn(lines=(WARNING,), more=True))
    assert one == []
    assert follow(talk, Turn(lines=())) == [ShowLine(WARNING, False)]
    session = in_session()
    assert follow(session, Turn(b"a", (rest,), True), pty(b"b")) == [Show(b"a"), Show(b"b")]
    assert follow(session, Turn(lines=())) == [ShowLine(rest, False)]


def test_lines_above_the_person_s_level_are_not_shown() -> None:
    assert follow(conversation(level="ERROR"), log(CONNECTING, WARNING, NO)) == [ShowLine(NO, False)]
    assert len(follow(conversation(level="DEBUG"), log(CONNECTING, WARNING, NO))) == 3


def test_a_shared_session_has_begun_once_something_is_printed() -> None:
    """Not all versions log it."""
    talk = conversation()
    follow(talk, log(SHARED))
    assert not talk.session
    follow(talk, pty(b"out"))
    assert talk.session


def test_last_words() -> None:
    talk = conversation()
    follow(talk, pty(b"ssh: connect to host j"))
    effects = talk.ended([b"Connection closed by UNKNOWN port 65535"], Turn(lines=(WARNING,)))
    assert shown(effects) == WARNING + b"\r\nConnection closed by UNKNOWN port 65535\r\n"
    assert talk.evidence.error == "ssh: connect to host j"


# What is proven.


@pytest.mark.parametrize("proven", [True, False])
def test_a_session_that_may_be_a_server_s_word_counts_if_it_is_proven(proven: bool) -> None:
    talk = conversation(proven=proven)
    follow(talk, log(CONNECTING, STANDS, AUTHENTICATED_LINE, BEGINS))
    assert talk.session == proven
    assert talk.evidence.may_have_begun != proven


def test_it_is_asked_once_a_turn_whether_ssh_has_authenticated() -> None:
    asked_so_far = []

    def proof() -> bool:
        asked_so_far.append(1)
        return False

    talk = Conversation(Escapes(None, lambda: None), False, proof, LEVELS["INFO"], True)
    follow(talk, log(BEGINS, BEGINS))
    assert len(asked_so_far) == 1
    follow(talk, log(BEGINS))
    assert len(asked_so_far) == 2


def tagged(text: bytes, pid: int) -> bytes:
    level, colon, words = text.rpartition(b": ") if text.startswith(b"debug") else (b"", b"", text)
    return b"%s%sssh.c:main():1 (bin=ssh, pid=%d): %s" % (level, colon, pid, words)


def test_a_session_that_another_process_tells_of_is_forged_and_does_not_begin() -> None:
    talk = conversation(tagged=True)
    begins = b"Entering interactive session."
    own, other = tagged(CONNECTING, 7), b"debug1: client.c:f():1 (bin=ssh, pid=%d): %s"
    follow(talk, log(own, other % (8, b"nothing of interest")))
    assert not talk.evidence.forged
    follow(talk, log(other % (8, begins), other % (7, begins)))
    assert talk.evidence.forged
    assert talk.evidence.phase == SESSION
    assert not talk.session


# Questions.

QUESTIONS = [b"password: ", b"Proceed? [Y/n] ", b"Code (1-3) ", b"name> ", b"Touch it:"]
NO_QUESTIONS = [b"Waking the host...", b" ", b"\n", b"a notice:\n", b"done\r\n"]


@pytest.mark.parametrize("words", [*QUESTIONS, *NO_QUESTIONS])
def test_what_a_jump_host_asks_ends_as_questions_do(words: bytes) -> None:
    talk = conversation()
    effects = follow(talk, pty(words))
    assert talk.ended_unanswered(1) == (Ask() in effects) == (words in QUESTIONS)
    assert talk.prompt == (words if words in QUESTIONS else b"")


def test_what_ssh_itself_leaves_without_a_line_end_is_a_question() -> None:
    assert Ask() in follow(conversation(), log(CONNECTING), pty(b"Touch your key"))


@pytest.mark.parametrize("words", [b"Enter PIN", b"Approve it, then press Enter:\n"])
def test_while_nothing_is_echoed_it_is_a_question(words: bytes) -> None:
    """And once it is answered, what follows is none."""
    talk = conversation()
    assert Ask() in follow(talk, SECRET, pty(words))
    follow(talk, SECRET, b"\r", pty(b"\r\nthank you"))
    assert talk.is_prompted and not talk.ended_unanswered(1)


def test_nobody_is_asked_where_nobody_sits() -> None:
    talk = conversation()
    assert follow(talk, NOBODY, pty(PASSWORD)) == [Show(PASSWORD)]
    assert not talk.is_prompted


def test_once_ssh_has_authenticated_nothing_is_a_question() -> None:
    talk = conversation()
    assert Ask() not in follow(talk, log(CONNECTING, AUTHENTICATED_LINE), pty(b"said: "))
    assert not talk.prompt


def test_the_beginning_of_a_line_is_no_question_once_it_goes_on() -> None:
    talk = conversation()
    follow(talk, pty(b"Waiting for host:"))
    assert talk.ended_unanswered(1)
    follow(talk, pty(b" there\n"))
    assert not talk.is_prompted


def test_an_ssh_that_goes_on_has_not_asked() -> None:
    talk = conversation()
    follow(talk, log(CONNECTING), pty(b"Authorised use only."))
    assert talk.ended_unanswered(1)
    follow(talk, log(b"debug1: Authentications that can continue: publickey"))
    assert not talk.is_prompted


def test_what_comes_back_of_a_line_that_is_typed_is_no_question() -> None:
    talk = conversation()
    effects = follow(talk, log(CONNECTING, STANDS), b"l", pty(b"l"))
    assert sent(effects) == b"l"
    assert not talk.is_prompted


def test_a_question_stays_one_while_it_is_answered_key_by_key() -> None:
    talk = conversation()
    follow(talk, pty(b"Proceed? [Y/n] "), b"y", pty(b"y"))
    assert talk.ended_unanswered(1)
    follow(talk, b"\r", pty(b"\r\n"))
    assert talk.is_prompted and not talk.ended_unanswered(1)


def test_nothing_is_asked_any_more_in_a_session() -> None:
    talk = conversation()
    follow(talk, log(CONNECTING, STANDS), pty(PASSWORD))
    assert talk.prompt == PASSWORD
    follow(talk, SECRET, b"secret\r", log(BEGINS), pty(b"\r\n$ "))
    assert talk.session
    assert not talk.prompt


# A retry, while kssh's status line stands.


def test_what_is_said_about_a_retry_is_kept_until_ssh_asks() -> None:
    refused = b"ssh: connect to host j port 22: Connection refused\r\r\n"
    talk = conversation()
    effects = follow(talk, WAITS, pty(refused), log(WARNING))
    assert effects == [Hold(refused.rstrip()), ShowLine(WARNING, True)]
    effects = follow(talk, RETRY_SECRET, pty(PASSWORD), log(NO))
    assert effects == [Ask(), Show(PASSWORD), ShowLine(NO, False)]


@pytest.mark.parametrize(
    "steps",
    [[HERE], [WAITS, log(CONNECTING, STANDS)], [RETRY_SECRET, pty(b"PIN: "), WAITS]],
    ids=["no retry", "connected", "asked"],
)
def test_it_is_shown_otherwise(steps: list[Any]) -> None:
    talk = conversation()
    follow(talk, *steps)
    person = next(step for step in reversed(steps) if isinstance(step, Person))
    assert Show(b"a line\r\n") in follow(talk, person, pty(b"a line\r\n"))


def test_a_line_whose_beginning_was_shown_is_shown_to_its_end() -> None:
    effects = follow(conversation(), WAITS, pty(b"Waking the host..."), pty(b" done\n"), pty(b"next\n"))
    assert effects == [Show(b"Waking the host..."), Show(b" done\n"), Hold(b"next")]


# What is typed before a session.


def test_what_is_typed_ahead_goes_to_ssh_but_for_what_ssh_must_not_see() -> None:
    talk = conversation()
    assert follow(talk, b"ls\r~\x1a") == [Send(b"ls\r"), Show(b"^Z"), Asked(SUSPEND_JOB)]
    assert follow(talk, b"~") == [Send(b"~~")]
    assert follow(talk, b"\r~&x") == [Send(b"\r"), Send(b"x")]


def test_what_was_typed_before_kssh_had_the_terminal_waits_for_the_session() -> None:
    talk = conversation()
    assert follow(talk, Typed(b"echo a\r", ahead=7), b"b") == []
    assert follow(talk, log(BEGINS)) == [AwaitRaw()]
    assert talk.typed_ahead(False, False) == [Send(b"echo a\rb")]
    assert follow(talk, RAW, b"c") == [Send(b"c")]


def test_keys_that_were_typed_ahead_mean_in_the_session_what_they_mean_there() -> None:
    talk = conversation()
    follow(talk, Typed(b"\r~&lost", ahead=7), log(BEGINS))
    effects = talk.typed_ahead(True, True)
    assert (sent(effects), asked(effects)) == (b"\r", [BACKGROUND])


def test_without_a_log_nothing_waits_for_a_session() -> None:
    talk = conversation(has_log=False)
    assert sent(follow(talk, Typed(b"echo a\r", ahead=7), b"b\rc~.d")) == b"echo a\rb\rc~.d"
    assert not talk.prompt


def test_what_was_typed_before_a_question_is_no_answer() -> None:
    talk = conversation()
    follow(talk, pty(HOST_KEY))
    assert sent(follow(talk, Typed(b"yes\rn", ahead=4), Typed(b"o\r", ahead=0))) == b"no\r"
    other = conversation()
    assert follow(other, Typed(b"yes\r", ahead=4), pty(HOST_KEY)) == [Ask(), Show(HOST_KEY)]
    assert sent(follow(other, b"no\r", log(BEGINS))) == b"no\r"
    assert other.typed_ahead(True, True) == []


def test_the_rest_of_a_line_that_was_typed_to_a_dead_session_is_no_answer() -> None:
    talk = conversation()
    rest = RETRY_SECRET._replace(rest=True)
    assert (
        sent(follow(talk, RETRY_SECRET, pty(PASSWORD), rest, b"foo\r", RETRY_SECRET, b"word\r")) == b"word\r"
    )


def test_an_interrupt_at_a_question_is_no_rest_of_a_line() -> None:
    talk = conversation()
    rest = RETRY_SECRET._replace(rest=True)
    assert sent(follow(talk, RETRY_SECRET, pty(PASSWORD), rest, b"foo\x03")) == b"\x03"
    assert talk.interrupted_by(None) == 2


def test_an_interrupt_throws_away_what_was_typed_before_it() -> None:
    talk = conversation()
    assert sent(follow(talk, Typed(b"echo ahead\r\x03", ahead=11), log(BEGINS))) == b"\x03"
    assert talk.typed_ahead(False, False) == []


@pytest.mark.parametrize(("person", "echo"), [(HERE, b"^Z"), (SECRET, b"\r\n")])
def test_a_stop_at_a_question_is_kssh_s_to_do(person: Person, echo: bytes) -> None:
    talk = conversation()
    follow(talk, pty(PASSWORD))
    assert follow(talk, person, b"\x1a") == [Show(echo), Asked(SUSPEND_JOB)]
    assert talk.prompt == PASSWORD


def test_a_terminal_without_such_characters_has_none() -> None:
    assert sent(follow(conversation(chars=False), b"a\x1a\x03")) == b"a\x1a\x03"


def test_what_follows_an_answer_that_is_shown_is_typed_ahead() -> None:
    talk = conversation()
    effects = follow(talk, pty(HOST_KEY), b"yes\r~.", log(BEGINS))
    assert sent(effects) == b"yes\r~."
    assert talk.left


def test_what_follows_a_secret_at_once_is_thrown_away_by_ssh() -> None:
    """A paste of a password and of what to do then."""
    talk = conversation()
    effects = follow(talk, pty(PASSWORD), SECRET, b"secret\r~.\r~", log(BEGINS))
    assert sent(effects) == b"secret\r~.\r~"
    assert not talk.left
    assert sent(follow(talk, RAW, b".")) == b"."  # that "~" is not half of "~."
    assert not talk.left


@pytest.mark.parametrize(
    ("ahead", "used"), [([True], False), ([False], True), ([True, False], True), ([False, True], True)]
)
def test_what_a_terminal_says_by_itself_ahead_of_the_session_does_not_use_it(
    ahead: list[bool], used: bool
) -> None:
    talk = conversation()
    for report in ahead:
        tell(talk, Typed(b"\x1b[?62;1c", ahead=9), Person(report=report))
    follow(talk, log(BEGINS))
    assert sent(talk.typed_ahead(False, False)) == b"\x1b[?62;1c" * len(ahead)
    assert talk.used == used


@pytest.mark.parametrize("answered", [True, False])
def test_leaving_that_is_typed_ahead_counts_unless_a_question_made_ssh_forget_it(answered: bool) -> None:
    talk = conversation()
    follow(talk, log(CONNECTING, STANDS), b"~.")
    if answered:
        follow(talk, SECRET, pty(PASSWORD), b"word\r")
    follow(talk, log(BEGINS))
    assert talk.left != answered


def test_an_escape_character_before_a_question_is_forgotten_with_it() -> None:
    talk = conversation()
    follow(talk, b"~", SECRET, pty(PASSWORD), b"word\r", log(BEGINS), RAW)
    assert sent(follow(talk, RAW, b".")) == b"."
    assert not talk.left


def test_a_typist_is_held_back() -> None:
    talk = conversation()
    assert talk.has_room
    follow(talk, Typed(b"x" * 65536, ahead=1))
    assert not talk.has_room


# What is typed to a session.


def test_what_is_typed_to_a_session() -> None:
    talk = in_session()
    effects = follow(talk, RAW, b"ls\r~\x1aps\r~.")
    told = b"~^Z [suspend ssh]\r\n"
    assert effects == [Send(b"ls\r"), Show(told), Asked(SUSPEND), Send(b"ps\r~.")]
    assert talk.left


def test_what_follows_leaving_for_the_background_is_dropped() -> None:
    effects = follow(in_session(), RAW, b"a\r~&b")
    assert effects == [Send(b"a\r"), Show(b"~& [backgrounded]\r\n"), Asked(BACKGROUND)]
    for behind in (b"\x03", b"\x1a", b"\x03\r~&"):  # nor do signals stop what was left
        assert asked(follow(in_session(), b"a\r~&" + behind)) == [BACKGROUND]


def test_the_rest_of_what_was_typed_to_a_dead_session_is_not_for_the_next() -> None:
    assert follow(in_session(), RAW._replace(rest=True), b"rm -rf x\r") == []


def test_a_session_without_a_terminal_leaves_the_signal_keys_to_ssh() -> None:
    talk = in_session()
    assert follow(talk, b"a\x1ab") == [Send(b"a"), Show(b"^Z"), Asked(SUSPEND_JOB), Send(b"b")]
    assert sent(follow(talk, b"\x03")) == b"\x03"


def test_a_session_is_used_once_something_is_typed_that_no_terminal_sends_by_itself() -> None:
    talk = in_session()
    follow(talk, RAW._replace(report=True), b"\x1b[I")
    assert not talk.used
    follow(talk, RAW, b"x")
    assert talk.used


# How it ended.

# steps, the signal that ended ssh, what it says of one: the signal that the person's key stood for
INTERRUPTS: list[tuple[list[Any], int | None, int | None, int | None]] = [
    ([], None, None, None),
    ([b"x"], 2, None, None),
    ([b"\x03"], 2, None, 2),
    ([b"\x03"], None, None, 2),
    ([b"\x1c"], 3, None, 3),
    ([b"\x03", log(BEGINS)], 2, None, None),
    ([log(BEGINS), b"\x03"], 2, None, 2),
    ([log(BEGINS), b"\x03"], None, 2, 2),
    ([log(BEGINS), b"\x03"], None, None, None),  # at ssh's own command line
    ([log(BEGINS), b"\x03"], 15, None, None),
    ([log(BEGINS), RAW, b"\x03"], 2, None, None),
]


@pytest.mark.parametrize(("steps", "signum", "says", "expected"), INTERRUPTS)
def test_the_signal_that_a_key_stood_for(
    steps: list[Any], signum: int | None, says: int | None, expected: int | None
) -> None:
    talk = conversation()
    follow(talk, *steps)
    talk.evidence.killed_by = says
    assert talk.interrupted_by(signum) == expected


# steps, the signal that ended ssh: whether nobody answered
UNANSWERED: list[tuple[list[Any], int | None, bool]] = [
    ([], None, False),
    ([pty(PASSWORD)], None, True),
    ([pty(PASSWORD), b"word\r"], None, False),
    ([pty(PASSWORD), b"word"], None, True),
    ([log(CONNECTING), SECRET, pty(PASSWORD)], None, False),  # ssh itself waits for its answer
    ([log(CONNECTING), SECRET, pty(PASSWORD)], 1, True),
    ([pty(PASSWORD), log(BEGINS)], None, False),
]


@pytest.mark.parametrize(("steps", "signum", "expected"), UNANSWERED)
def test_whether_it_ended_because_nobody_answered(
    steps: list[Any], signum: int | None, expected: bool
) -> None:
    talk = conversation()
    follow(talk, *steps)
    assert talk.ended_unanswered(signum) == expected


# However it is cut.

MANY = settings(max_examples=60)

LOGS = st.sampled_from([CONNECTING, STANDS, BEGINS, WARNING, AUTHENTICATED_LINE]).map(log)
PRINTED = st.lists(st.sampled_from([*b"ab:? \r\n", *b"\r\n"]), min_size=1, max_size=12).map(bytes).map(pty)
TYPED = st.lists(st.sampled_from(b"ab\r\n~.&\x1a\x03\x04"), min_size=1, max_size=12).map(bytes)
PERSONS = st.sampled_from([HERE, NOBODY, SECRET, RAW, WAITS])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    """Return a history, and the same with what is printed and typed in it cut anywhere."""
    ahead = draw(st.integers(0, 20))
    steps: list[Any] = []
    pieces: list[Any] = []
    for step in draw(st.lists(st.one_of(LOGS, PRINTED, TYPED), max_size=8)):
        if isinstance(step, Turn) and step.lines is not None:
            steps.append(step)
            pieces.append(step)
            continue
        data = step.pty if isinstance(step, Turn) else step
        cuts = sorted(draw(st.sets(st.integers(1, len(data)))) | {0, len(data)})
        parts = [data[begin:end] for begin, end in zip(cuts, cuts[1:])]
        if isinstance(step, Turn):
            steps.append(step)
            pieces += map(pty, parts)
            continue
        steps.append(Typed(data, min(ahead, len(data))))
        for part in parts:
            pieces.append(Typed(part, min(ahead, len(part))))
            ahead -= min(ahead, len(part))
    return steps, pieces


def told(talk: Conversation, steps: list[Any], person: Person) -> list[Effect]:
    """Return what is done, where a session gets at once what was typed ahead of it."""
    effects: list[Effect] = []
    for step in steps:
        for effect in tell(talk, step, person):
            effects += talk.typed_ahead(False, False) if isinstance(effect, AwaitRaw) else [effect]
    return effects


@MANY
@given(histories(), PERSONS, st.booleans())
def test_all_that_is_said_is_shown_once_and_in_order(
    history: tuple[list[Any], list[Any]], person: Person, has_log: bool
) -> None:
    whole, cut = (
        [effect for effect in told(conversation(has_log), steps, person) if not isinstance(effect, Ask)]
        for steps in history
    )
    # A line that is kept is kept without its end.
    assert shown(whole).replace(b"\r", b"") == shown(cut).replace(b"\r", b"")


@MANY
@given(histories(), st.sampled_from([NOBODY, RAW._replace(attended=False)]), st.booleans())
def test_where_nothing_is_a_question_cuts_change_nothing(
    history: tuple[list[Any], list[Any]], person: Person, has_log: bool
) -> None:
    outcomes = []
    for steps in history:
        talk = conversation(has_log)
        effects = told(talk, steps, person)
        seen = talk.session, talk.is_prompted, talk.echo_is_due, talk.left, talk.used, talk.has_room
        outcomes.append((shown(effects), sent(effects), asked(effects), seen, talk.interrupted_by(2)))
    assert outcomes[0] == outcomes[1]


@MANY
@given(TYPED, st.sets(st.integers(1, 11)), PERSONS, st.booleans())
def test_an_answer_is_the_same_however_it_is_cut(
    typed: bytes, cuts: set[int], person: Person, has_log: bool
) -> None:
    def outcome(parts: list[bytes]) -> tuple[Any, ...]:
        talk = conversation(has_log)
        follow(talk, SECRET, pty(PASSWORD))
        effects = told(talk, [*parts, log(BEGINS)], person)
        return shown(effects), sent(effects), asked(effects), talk.prompt, talk.left, talk.interrupted_by(2)

    edges = [0, *sorted(cut for cut in cuts if cut < len(typed)), len(typed)]
    assert outcome([typed]) == outcome([typed[a:b] for a, b in zip(edges, edges[1:])])


@MANY
@given(st.sets(st.integers(1, 15)), st.sampled_from([b"", b"a notice\r\n", b"half a line"]))
def test_a_question_is_known_however_it_is_cut(cuts: set[int], before: bytes) -> None:
    data = before + b"Code (1-3): "
    edges = [0, *sorted(cuts), len(data)]
    talk = conversation()
    follow(talk, *(pty(data[a:b]) for a, b in zip(edges, edges[1:]) if a < b))
    assert talk.ended_unanswered(1)


@MANY
@given(st.lists(st.one_of(LOGS, PRINTED, TYPED), max_size=10), PERSONS)
def test_nothing_is_typed_to_ssh_that_was_not_typed(steps: list[Any], person: Person) -> None:
    """And what is, keeps its order."""
    effects = told(conversation(), steps, person)
    keys = iter(b"".join(step for step in steps if isinstance(step, bytes)))
    assert all(byte in keys for byte in sent(effects))
