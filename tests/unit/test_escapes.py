"""What is typed reaches ssh unchanged but for what ssh must not see, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from pykeepssh.escapes import BACKGROUND, LEAVE, SUSPEND, Escapes, parse

TILDE = ord("~")

# typed: what ssh gets and what is meant, in order
TABLE: dict[bytes, list[bytes | str]] = {
    b"": [],
    b"ls\r": [b"ls\r"],
    b"~": [],  # held back: the next one tells
    b"~.": [b"~.", LEAVE],
    b"~\x1a": [SUSPEND],
    b"~&": [BACKGROUND],
    b"~?": [b"~?"],
    b"~~": [b"~~"],
    b"~x": [b"~x"],
    b"a~.": [b"a~."],
    b"a\r~.b": [b"a\r~.", LEAVE, b"b"],
    b"a\n~\x1ab": [b"a\n", SUSPEND, b"b"],
    b"a\r~&": [b"a\r", BACKGROUND],
    # Behind a command that sends nothing on, it is still the beginning of a line.
    b"~?~.": [b"~?~.", LEAVE],
    b"~\x1a~\x1a": [SUSPEND, SUSPEND],
    b"~#~&": [b"~#", BACKGROUND],
    # Behind what is sent on it is not.
    b"~~~.": [b"~~~."],
    b"~x~.": [b"~x~."],
    b"~\r~.": [b"~\r~.", LEAVE],
}


def joined(parts: Sequence[bytes | str]) -> list[bytes | str]:
    """Return the same with neighbouring bytes made one."""
    result: list[bytes | str] = []
    for part in parts:
        if isinstance(part, bytes) and result and isinstance(result[-1], bytes):
            result[-1] += part
        else:
            result.append(part)
    return result


@pytest.mark.parametrize("typed", TABLE, ids=repr)
def test_what_ssh_gets_and_what_is_meant(typed: bytes) -> None:
    assert Escapes(TILDE).feed(typed) == TABLE[typed]
    one_by_one = Escapes(TILDE)
    parts = [part for byte in typed for part in one_by_one.feed(bytes((byte,)))]
    assert joined(parts) == TABLE[typed]


@pytest.mark.parametrize("typed", TABLE, ids=repr)
def test_without_an_escape_character_all_goes_through(typed: bytes) -> None:
    assert Escapes(None).feed(typed) == ([typed] if typed else [])


def test_another_character_leaves_the_tilde_alone() -> None:
    assert Escapes(1).feed(b"~.\r\x01.") == [b"~.\r\x01.", LEAVE]


# Rich in what matters.
TYPED = st.lists(st.sampled_from([b"~", b"\r", b"\n", b".", b"\x1a", b"&", b"?", b"a", b"ls\r"])).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 60))


@given(TYPED, CUTS)
def test_it_does_not_matter_where_it_is_cut(typed: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(typed)) for cut in cuts), len(typed)]
    follower = Escapes(TILDE)
    parts = [part for begin, end in zip(at, at[1:]) for part in follower.feed(typed[begin:end])]
    assert joined(parts) == joined(Escapes(TILDE).feed(typed))


@given(st.lists(st.binary()))
def test_without_the_character_in_it_nothing_changes(pieces: list[bytes]) -> None:
    follower = Escapes(TILDE)
    pieces = [piece.replace(b"~", b"") for piece in pieces]
    assert [follower.feed(piece) for piece in pieces] == [[piece] if piece else [] for piece in pieces]


@given(st.one_of(st.binary(), TYPED))
def test_what_is_sent_on_and_what_is_ours_is_what_was_typed(typed: bytes) -> None:
    ours = {LEAVE: b"", SUSPEND: b"~\x1a", BACKGROUND: b"~&"}
    follower = Escapes(TILDE)
    parts = follower.feed(typed)
    again = b"".join(part if isinstance(part, bytes) else ours[part] for part in parts)
    # A character held back comes with the next one.
    rest = b"".join(part for part in follower.feed(b"x") if isinstance(part, bytes))
    assert again + rest == typed + b"x"


def test_what_ssh_threw_away_is_forgotten() -> None:
    follower = Escapes(TILDE)
    assert follower.feed(b"ls\r~") == [b"ls\r"]
    follower.reset()
    assert follower.feed(b".") == [b"."]
    follower.feed(b"ls")
    follower.reset()
    assert follower.feed(b"~.") == [b"~.", LEAVE]


WRITTEN = {
    "~": TILDE,
    "%": ord("%"),
    "^A": 1,
    "^a": 1,
    "^]": 0x1D,
    "^?": 0x1F,
    "\\^]": 0x1D,
    "\\^A": 1,
    "\\\\": ord("\\"),
    "\\040": ord(" "),
    "\\M-x": 0xF8,
    "\\M^A": 0x81,
    "\\M^?": 0xFF,
    "\\^?": 0x7F,
    "none": None,
    "": None,
    "ab": None,
}


@pytest.mark.parametrize("value", WRITTEN)
def test_an_escape_character_as_ssh_writes_it(value: str) -> None:
    assert parse(value) == WRITTEN[value]
