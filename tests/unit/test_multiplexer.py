"""KSSH_RESUME: names that are nobody else's, a command for any login shell, what the far side says."""

from __future__ import annotations

import math
import re
import shlex

import pytest
from hypothesis import given, strategies as st

from pykeepssh.link.multiplexer import (
    TOOLS,
    Greeting,
    Resumed,
    Without,
    command,
    is_utf8,
    session_name,
    without,
)
from pykeepssh.link.outcomes import Exit
from pykeepssh.settings import TABLE
from pykeepssh.ssh.evidence import Evidence

BEGUN = b"\033[0;0m\033[m\033[0;0m"
REFUSED = b"\033[0;0m\033[m\033[0;0;0m"


def heard(*parts: bytes) -> Greeting:
    greeting = Greeting()
    for part in parts:
        greeting.feed(part)
    return greeting


# -- what the far side says ----------------------------------------------------------------------------


@given(st.integers(0, len(BEGUN)), st.binary(max_size=50), st.sampled_from([BEGUN, REFUSED]))
def test_a_sign_is_heard_wherever_it_is_cut(cut: int, before: bytes, sign: bytes) -> None:
    greeting = heard(before, sign[:cut], sign[cut:], b"and more", BEGUN)
    if BEGUN not in before + sign[:-1] and REFUSED not in before:
        assert (greeting.begun, greeting.refused) == (sign == BEGUN, sign == REFUSED)


def test_who_says_nothing_for_long_has_begun_all_the_same() -> None:
    assert not heard(b"x" * 60000).begun
    greeting = heard(b"x" * 60000, b"y" * 6000)
    assert greeting.begun
    assert without(greeting, refused=False, status=1, used=False) is None


ENDS: dict[str, tuple[bytes, bool, int | None, bool, Without | None]] = {
    "it ran": (BEGUN, False, 1, False, None),
    "it ran, whatever the server said then": (BEGUN, True, 1, False, None),
    "the server refused it": (b"", True, None, False, Without(0.0, "the server does not run commands")),
    "the shell refused it": (REFUSED, False, 0, False, Without(0.0, "its shell does not run other programs")),
    "something else failed": (b"%", False, 1, False, Without(math.inf, "what it ran ended with status 1")),
    "something else was used": (b"menu", False, 1, True, None),
    "something else did its work": (b"done", False, 0, False, None),
    "the link was lost": (b"", False, None, False, None),
}


@pytest.mark.parametrize("name", ENDS)
def test_how_it_goes_on(name: str) -> None:
    said, refused, status, used, expected = ENDS[name]
    assert without(heard(said), refused, status, used) == expected


def test_a_session_that_was_there_once_is_said_to_be_gone() -> None:
    resumed = Resumed("tmux", "name")
    assert resumed.command({}, input_is_utf8=True) == command("tmux", "name", utf8=True, again=False)
    assert not resumed.greeting().begun
    assert resumed.ended(heard(BEGUN), Exit(255), Evidence(), used=True) is None
    assert resumed.ended(heard(), Exit(255), Evidence(), used=False) is None  # nobody got there
    assert resumed.command({}, input_is_utf8=False) == command("tmux", "name", utf8=False, again=True)
    assert resumed.tool == "tmux"


@pytest.mark.parametrize("by_itself", [True, False])
def test_the_status_of_a_command_that_did_not_end_by_itself_is_sshs(by_itself: bool) -> None:
    resumed, seen = Resumed("screen", "name"), Evidence()
    seen.command_ended = by_itself
    instead = resumed.ended(heard(b"%"), Exit(1), seen, used=False)
    assert (instead is not None) == by_itself
    assert resumed.tool == ("" if by_itself else "screen")


def test_without_a_log_nobody_knows_what_the_far_side_did() -> None:
    resumed = Resumed("tmux", "name")
    assert resumed.ended(heard(REFUSED), Exit(1), None, used=False) is None
    assert resumed.tool == "tmux"


# -- names -----------------------------------------------------------------------------------------------

KEY = ["id", "laptop", "1000", "host"]


def test_a_name_says_whose_it_is() -> None:
    assert re.fullmatch(r"kssh-laptop-1-[0-9a-f]{8}", session_name("", "laptop.home", KEY, 1))
    assert session_name("", "laptop", KEY, 1) == session_name("", "laptop", list(KEY), 1)


@pytest.mark.parametrize(
    ("machine", "key", "slot"),
    [("desktop", KEY, 1), ("laptop", [*KEY, "2222"], 1), ("laptop", KEY, 2), ("laptop", ["", *KEY], 1)],
)
def test_others_have_another_name(machine: str, key: list[str], slot: int) -> None:
    assert session_name("", machine, key, slot) != session_name("", "laptop", KEY, 1)


@pytest.mark.parametrize("chosen", ["work", "my_site", "a-1"])
def test_a_name_that_all_take_is_taken_as_it_is(chosen: str) -> None:
    assert session_name(chosen, "laptop", KEY, 1) == chosen


@pytest.mark.parametrize("chosen", ["my.site", "my:site", "me@site", "büro", "-x", "a+b"])
def test_a_name_that_not_all_take_is_changed_and_stays_its_own(chosen: str) -> None:
    name = session_name(chosen, "laptop", KEY, 1)
    assert re.fullmatch(r"_?[A-Za-z0-9_-]+-[0-9a-f]{8}", name)
    assert name == session_name(chosen, "desktop", [], 2)
    others = {session_name(c, "", [], 0) for c in ("my.site", "my:site", "my_site", "büro", "b_ro")}
    assert len(others) == 5


@given(
    st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=9), max_size=3), st.integers(1, 99)
)
def test_every_multiplexer_takes_every_name(chosen: str, machine: str, key: list[str], slot: int) -> None:
    name = session_name(chosen, machine, key, slot)
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name)
    made = session_name("", machine, key, slot)
    assert len(made) <= 33  # beside the socket's folder
    assert not session_name("", machine, [*key, "x"], slot).startswith(made)
    assert not session_name("", machine, key, 100 + slot).startswith(made)


# -- the terminal ----------------------------------------------------------------------------------------

LOCALES: dict[str, tuple[dict[bytes, bytes], bool, bool]] = {
    "UTF-8": ({b"LANG": b"de_DE.UTF-8"}, False, True),
    "in other letters": ({b"LANG": b"C.utf8"}, False, True),
    "macOS": ({b"LC_CTYPE": b"UTF-8"}, False, True),
    "another": ({b"LANG": b"de_DE.ISO-8859-1"}, True, False),
    "none named": ({b"LANG": b"de_DE"}, True, False),
    "LC_ALL wins": ({b"LC_ALL": b"de_DE@euro", b"LANG": b"C.UTF-8"}, False, False),
    "empty is unset": ({b"LC_ALL": b"", b"LANG": b"C.UTF-8"}, False, True),
    "nothing, and the terminal knows": ({}, True, True),
    "nothing at all": ({}, False, False),
    "C, and the terminal knows": ({b"LANG": b"C"}, True, True),
    "POSIX": ({b"LC_ALL": b"POSIX"}, False, False),
}


@pytest.mark.parametrize("name", LOCALES)
def test_whether_the_terminal_takes_utf8(name: str) -> None:
    environment, iutf8, expected = LOCALES[name]
    assert is_utf8(environment, iutf8) == expected


# -- the command -----------------------------------------------------------------------------------------

COMMANDS = [(tool, utf8, again) for tool in TOOLS for utf8 in (False, True) for again in (False, True)]


@pytest.mark.parametrize(("tool", "utf8", "again"), COMMANDS)
def test_any_login_shell_passes_the_command_on(tool: str, utf8: bool, again: bool) -> None:
    sent = command(tool, "kssh-x-1-0a1b2c3d", utf8, again)
    assert sent.isascii()
    assert sent.isprintable()
    assert sent.replace("%%", "").count("%") == 0  # ssh expands tokens
    line = sent.replace("%%", "%")
    start, script, behind = line.split("'")
    assert start == "exec /bin/sh -c "
    assert behind.startswith("; printf ")
    assert "!" not in script  # csh's history
    assert "\\\\" not in script  # one in fish
    assert "\\'" not in line
    assert "@" not in script  # filled in
    assert shlex.split(line, posix=False)[:3] == ["exec", "/bin/sh", "-c"]
    assert "n=kssh-x-1-0a1b2c3d;" in script
    assert ("is gone" in script) == again
    assert len(line) < 4000
    # What it prints is not in it: a forced command that shows what was asked gives no sign.
    assert BEGUN not in sent.encode()
    assert REFUSED not in sent.encode()


def test_utf8_is_the_word_of_each() -> None:
    assert " -u attach-session " in command("tmux", "n", utf8=True, again=False)
    assert " -u " not in command("tmux", "n", utf8=False, again=False)
    assert ' -U -S "$n"' in command("screen", "n", utf8=True, again=False)
    assert " -U " not in command("screen", "n", utf8=False, again=False)


def test_each_that_can_be_asked_for_is_known() -> None:
    _, read = TABLE["RESUME"]
    assert all(read("KSSH_RESUME", tool) == tool for tool in TOOLS)
