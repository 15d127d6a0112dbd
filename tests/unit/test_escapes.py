"""What is typed reaches ssh unchanged but for what ssh must not see, however it is cut."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ssh.escapes import BACKGROUND, LEAVE, SUSPEND, Escapes, parse

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


# The same by version of OpenSSH: "~I" is a command of its own since 10.3.
INFORMATION: dict[tuple[int, int] | None, list[bytes | str]] = {
    (7, 4): [b"~I~."],
    (10, 2): [b"~I~."],
    (10, 3): [b"~I~.", LEAVE],
    (11, 0): [b"~I~.", LEAVE],
    None: [b"~I~.", LEAVE],
}


def follow(escape: int | None, version: tuple[int, int] | None = (9, 2)) -> Escapes:
    return Escapes(escape, lambda: version)


@pytest.mark.parametrize("version", INFORMATION)
def test_behind_information_it_is_the_beginning_of_a_line_where_ssh_knows_it(
    version: tuple[int, int] | None,
) -> None:
    assert follow(TILDE, version).feed(b"~I~.") == INFORMATION[version]


def test_the_version_is_asked_for_only_where_it_counts() -> None:
    def version() -> tuple[int, int]:
        raise AssertionError("asked")

    assert Escapes(TILDE, version).feed(b"I~xI\r~?~.") == [b"I~xI\r~?~.", LEAVE]


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
    assert follow(TILDE).feed(typed) == TABLE[typed]
    one_by_one = follow(TILDE)
    parts = [part for byte in typed for part in one_by_one.feed(bytes((byte,)))]
    assert joined(parts) == TABLE[typed]


@pytest.mark.parametrize("typed", TABLE, ids=repr)
def test_without_an_escape_character_all_goes_through(typed: bytes) -> None:
    assert follow(None).feed(typed) == ([typed] if typed else [])


def test_another_character_leaves_the_tilde_alone() -> None:
    assert follow(1).feed(b"~.\r\x01.") == [b"~.\r\x01.", LEAVE]


# Rich in what matters.
TYPED = st.lists(st.sampled_from([b"~", b"\r", b"\n", b".", b"\x1a", b"&", b"?", b"a", b"ls\r"])).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 60))


@given(TYPED, CUTS)
def test_it_does_not_matter_where_it_is_cut(typed: bytes, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(typed)) for cut in cuts), len(typed)]
    follower = follow(TILDE)
    parts = [part for begin, end in zip(at, at[1:]) for part in follower.feed(typed[begin:end])]
    assert joined(parts) == joined(follow(TILDE).feed(typed))


@given(st.lists(st.binary()))
def test_without_the_character_in_it_nothing_changes(pieces: list[bytes]) -> None:
    follower = follow(TILDE)
    pieces = [piece.replace(b"~", b"") for piece in pieces]
    assert [follower.feed(piece) for piece in pieces] == [[piece] if piece else [] for piece in pieces]


@given(st.one_of(st.binary(), TYPED))
def test_what_is_sent_on_and_what_is_ours_is_what_was_typed(typed: bytes) -> None:
    ours = {LEAVE: b"", SUSPEND: b"~\x1a", BACKGROUND: b"~&"}
    follower = follow(TILDE)
    parts = follower.feed(typed)
    again = b"".join(part if isinstance(part, bytes) else ours[part] for part in parts)
    # A character held back comes with the next one.
    rest = b"".join(part for part in follower.feed(b"x") if isinstance(part, bytes))
    assert again + rest == typed + b"x"


def test_what_ssh_threw_away_is_forgotten() -> None:
    follower = follow(TILDE)
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
