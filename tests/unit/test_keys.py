"""Which typed keys belong to a session that is gone: histories of keys, pauses, losses and pastes."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pykeepssh.link.keys import PASTE_PAUSE_S, PAUSE_S, Keys

BEGIN, END = b"\x1b[200~", b"\x1b[201~"
STEP_S = 0.1
LOST, HELD, NONE, FORGET = "lost", "lost, keys wait", "no session", "forget"


def kept(*steps: bytes | float | str) -> bytes:
    """Return what reaches a session of steps: bytes typed, STEP_S each; seconds to wait; what happens.

    HELD is a loss while two bytes wait to be read.  Behind LOST there is a new session at once; behind NONE
    there is none up to the next LOST or BACK.
    """
    keys, now, session, arrived, waiting = Keys(), 100.0, True, b"", False
    for step in steps:
        if isinstance(step, float):
            now += step
        elif step in (LOST, HELD):
            waiting = step == HELD
            keys.lost(now, 2 if waiting else 0)
        elif step == NONE:
            session = False
        elif step == "back":
            session = True
        elif step == FORGET:
            keys.forget()
        elif isinstance(step, bytes):
            now += STEP_S
            before = 1.0 if waiting else keys.rest_s(now)
            waiting = False
            rest = keys.is_rest(step, now, session)
            assert not session or (rest <= (before > 0) if len(step) > 4 else rest == (before > 0))
            if session and not rest:
                arrived += step
            if not session and not rest:
                keys.threw()
    return arrived


LONG, SHORT = PAUSE_S + 0.1, PAUSE_S - 2 * STEP_S
HISTORIES: dict[str, tuple[tuple[bytes | float | str, ...], bytes]] = {
    "no loss": ((b"a\r", b"b\r"), b"a\rb\r"),
    "lines that go on after the loss": ((b"a\r", LOST, b"b\r", b"c\r"), b"a\r"),
    "after a pause": ((b"a\r", LOST, LONG, b"b\r"), b"a\rb\r"),
    "after a pause behind more of it": ((b"a\r", LOST, b"b\r", LONG, b"c\r"), b"a\rc\r"),
    "a pause that is too short": ((b"a\r", LOST, SHORT, b"b\r"), b"a\r"),
    "a line at once, a moment later": ((b"a\r", LOST, 0.1, b"exit 3\r"), b"a\rexit 3\r"),
    "a paste without marks goes on": ((b"line 1\r", LOST, b"line 2\r", b"line 3\r"), b"line 1\r"),
    "an arrow key is a key": ((b"a\r", LOST, 0.1, b"\x1b[1;5A"), b"a\r"),
    "typed long before the loss": ((b"a\r", LONG, LOST, b"b\r"), b"a\rb\r"),
    "typed long before it, and waiting to be read": ((b"a\r", LONG, HELD, b"b\r"), b"a\r"),
    "waiting to be read, and read late": ((b"a\r", LONG, HELD, LONG, b"b\r"), b"a\r"),
    "behind what was read late": ((b"a\r", HELD, LONG, b"b\r", SHORT, b"c\r", LONG, b"d\r"), b"a\rd\r"),
    "a long line that is read late": ((b"a\r", HELD, LONG, b"rm -rf x\r"), b"a\r"),
    "a paste goes on after a pause": ((BEGIN + b"a\r", LOST, LONG, b"b\r"), BEGIN + b"a\r"),
    "a paste, its end and what follows at once": ((BEGIN, LOST, LONG, END, b"a"), BEGIN),
    "a paste, its end and what follows later": ((BEGIN, LOST, LONG, END, LONG, b"a"), BEGIN + b"a"),
    "a paste that is whole before the loss": (
        (BEGIN + b"a" + END, LONG, LOST, b"b"),
        BEGIN + b"a" + END + b"b",
    ),
    "a paste whose end never comes": ((BEGIN, LOST, PASTE_PAUSE_S + 0.1, b"b"), BEGIN + b"b"),
    "a paste that stood still before the loss": ((BEGIN, 60.0, LOST, LONG, b"b"), BEGIN),
    "a mark that is cut": ((BEGIN[:3], BEGIN[3:], LOST, LONG, b"b"), BEGIN),
    "an end that is cut": ((BEGIN, LOST, END[:5], END[5:], LONG, b"b"), BEGIN + b"b"),
    "a paste behind a paste": ((BEGIN + END + BEGIN, LOST, LONG, b"b"), BEGIN + END + BEGIN),
    "thrown away, and the session is back": ((NONE, b"a", "back", b"b\r", LONG, b"c"), b"c"),
    "thrown away, and a pause": ((NONE, b"a", "back", LONG, b"b"), b"b"),
    "a key of a meaning": ((NONE, b"a", FORGET, "back", b"b"), b"b"),
    "a second loss": ((b"a", LOST, LONG, b"b", LOST, b"c"), b"ab"),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_what_reaches_a_session(name: str) -> None:
    steps, expected = HISTORIES[name]
    assert kept(*steps) == expected


@given(st.lists(st.sampled_from([b"x", b"\r", BEGIN, END, b"\x1b", b"[20", LONG, SHORT]), max_size=20))
def test_without_a_loss_everything_arrives(steps: list[bytes | float]) -> None:
    assert kept(*steps) == b"".join(step for step in steps if isinstance(step, bytes))


@given(st.binary(max_size=30), st.integers(1, 7))
def test_a_paste_is_known_however_it_is_cut(text: bytes, size: int) -> None:
    inside = text.replace(b"\x1b", b"")
    data = BEGIN + inside
    cut = [data[at : at + size] for at in range(0, len(data), size)]
    assert kept(*cut, LOST, LONG, b"rest") == data
    assert kept(*cut, LOST, LONG, b"rest", END, LONG, b"new") == data + b"new"
