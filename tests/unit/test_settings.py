"""The KSSH_* variables: every one with its default, good values, and each kind of bad one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from pykeepssh.errors import BadValue, KsshError, printable
from pykeepssh.settings import AUTO, NO_LIMIT, TABLE, Settings, seconds

DEFAULTS = {
    "INTERVAL": ("interval_s", 15),
    "COUNTMAX": ("countmax", 3),
    "MAXSTART": ("maxstart", NO_LIMIT),
    "RESTART": ("restart", "auto"),
    "FIRST_START": ("first_start", "auto"),
    "BACKOFF_MAX": ("backoff_max_s", 30),
    "CONNECT_TIMEOUT": ("connect_timeout_s", 15),
    "MAXLIFETIME": ("maxlifetime_s", 0),
    "SSH": ("ssh", ""),
    "NAME": ("name", ""),
    "PIDFILE": ("pidfile", ""),
    "LOGFILE": ("logfile", ""),
    "LOGLEVEL": ("loglevel", "INFO"),
    "STATE_DIR": ("state_dir", ""),
    "HOOK": ("hook", ""),
    "BELL": ("bell", True),
    "STALL_NOTICE": ("stall_notice", True),
    "RESUME": ("resume", "off"),
}

TIMES = {
    "0": 0,
    "1": 1,
    "007": 7,
    "90s": 90,
    "2m": 120,
    "2M": 120,
    "1m30s": 90,
    "1m30": 90,
    "1h": 3600,
    "1h1": 3601,
    "1d": 86400,
    "1w": 604800,
    "2147483": 2147483,
}
PATHS = {"/x": "/x", "a b": "a b", "~/x": "~/x", "\udcff": "\udcff", " ": " "}

GOOD: dict[str, dict[str, object]] = {
    "INTERVAL": {**TIMES, "auto": AUTO, "AUTO": AUTO},
    "COUNTMAX": {"1": 1, "010": 10, "2147483647": 2147483647},
    "MAXSTART": {"-1": -1, "1": 1, "2147483647": 2147483647},
    "RESTART": {"auto": "auto", "Attended": "attended", "ALWAYS": "always", "Never": "never"},
    "FIRST_START": {"auto": "auto", "Retry": "retry", "FAIL": "fail"},
    "BACKOFF_MAX": {text: value for text, value in TIMES.items() if value},
    "CONNECT_TIMEOUT": {text: value for text, value in TIMES.items() if value},
    "MAXLIFETIME": {**TIMES, "10d": 864000, "315360000": 315360000},
    "SSH": {**PATHS},
    "NAME": {"a": "a", "u@h:22,x+y_z-1.2": "u@h:22,x+y_z-1.2", "büro": "büro", "x" * 100: "x" * 100},
    "PIDFILE": {**PATHS},
    "LOGFILE": {**PATHS},
    "LOGLEVEL": {"quiet": "QUIET", "Error": "ERROR", "INFO": "INFO", "verbose": "VERBOSE", "DEBUG": "DEBUG"},
    "STATE_DIR": {**PATHS},
    "HOOK": {**PATHS},
    "BELL": {"0": False, "1": True},
    "STALL_NOTICE": {"0": False, "1": True},
    "RESUME": {"OFF": "off", "tmux": "tmux", "Screen": "screen", "zellij": "zellij"},
}

NO_TIMES = [
    "-1",
    "+1",
    "1.5",
    "1,5",
    "x",
    "s",
    "ms",
    "1x",
    "1ms",
    "m1",
    "1 m",
    " 1",
    "1 ",
    "2147484",
    "99999999999",
    "٣",
    "²",
]
NO_NUMBERS = ["0", "-1", "+1", "1.5", "x", " 1", "1 ", "2147483648", "00000000001", "٣", "²", "1s"]
BAD = {
    "INTERVAL": (NO_TIMES, "a time of 0 to 2147483 seconds, such as 90 or 1m30s, or auto"),
    "COUNTMAX": (NO_NUMBERS, "a whole number of 1 to 2147483647"),
    "MAXSTART": (
        [text for text in NO_NUMBERS if text != "-1"] + ["-2", "-01"],
        "a number of starts of at least 1, or -1 for no limit",
    ),
    "RESTART": (["yes", "auto ", "always,never", "0"], "one of auto, attended, always, never"),
    "FIRST_START": (["always", "1"], "one of auto, retry, fail"),
    "BACKOFF_MAX": ([*NO_TIMES, "0", "0m"], "a time of 1 to 2147483 seconds, such as 90 or 1m30s"),
    "CONNECT_TIMEOUT": ([*NO_TIMES, "0"], "a time of 1 to 2147483 seconds, such as 90 or 1m30s"),
    "MAXLIFETIME": (
        ["-1", "x", "315360001", "99999w"],
        "a time of 0 to 315360000 seconds, such as 90 or 1m30s",
    ),
    "NAME": (
        [".", ".x", "a/b", "a b", "x" * 101, "ü" * 51, "\udcff", "a\nb", "*"],
        "up to 100 bytes of letters, digits and -_.@:+, not beginning with a dot",
    ),
    "BELL": (["2", "yes", "00", "-1", "on"], "0 or 1"),
    "STALL_NOTICE": (["2", "no"], "0 or 1"),
    "RESUME": (["on", "tmux ", "1"], "one of off, tmux, screen, zellij"),
    "LOGLEVEL": (["DEBUG1", "warning", "3"], "one of QUIET, ERROR, INFO, VERBOSE, DEBUG"),
}
ANY_TEXT = {"SSH", "PIDFILE", "LOGFILE", "STATE_DIR", "HOOK"}


@pytest.mark.parametrize(
    ("text", "expected"), [*TIMES.items(), *((text, None) for text in ("", *NO_TIMES[:-4]))]
)
def test_times_are_read_as_openssh_reads_them(text: str, expected: int | None) -> None:
    assert seconds(text) == expected


def flat(table: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(name, text) for name, texts in table.items() for text in texts]


def test_the_tables_here_hold_every_variable() -> None:
    assert set(DEFAULTS) == set(GOOD) == set(TABLE)
    assert set(BAD) | ANY_TEXT == set(TABLE)
    assert not set(BAD) & ANY_TEXT


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings({"PATH": "/bin", "KSSH_NO_SUCH": "x", "INTERVAL": "1"})
    assert {name: getattr(settings, attribute) for name, (attribute, _) in DEFAULTS.items()} == {
        name: default for name, (_, default) in DEFAULTS.items()
    }
    assert settings.given == frozenset()


@pytest.mark.parametrize("name", DEFAULTS)
def test_an_empty_value_counts_as_unset(name: str) -> None:
    attribute, default = DEFAULTS[name]
    settings = Settings({"KSSH_" + name: ""})
    assert getattr(settings, attribute) == default
    assert settings.given == frozenset()


@pytest.mark.parametrize(("name", "text"), flat({name: list(good) for name, good in GOOD.items()}))
def test_a_good_value_is_taken(name: str, text: str) -> None:
    attribute, _ = DEFAULTS[name]
    settings = Settings({"KSSH_" + name: text})
    assert getattr(settings, attribute) == GOOD[name][text]
    assert settings.given == {name}


def test_a_value_that_is_the_default_counts_as_given() -> None:
    assert Settings({"KSSH_INTERVAL": "15", "KSSH_RESTART": "auto"}).given == {"INTERVAL", "RESTART"}


@pytest.mark.parametrize(("name", "text"), flat({name: bad for name, (bad, _) in BAD.items()}))
def test_a_bad_value_is_named_with_what_was_expected(name: str, text: str) -> None:
    with pytest.raises(BadValue) as caught:
        Settings({"KSSH_" + name: text})
    error = caught.value
    assert isinstance(error, KsshError)
    assert (error.name, error.value, error.expected) == ("KSSH_" + name, text, BAD[name][1])
    assert str(error) == f"KSSH_{name}={printable(text)}: expected {BAD[name][1]}"


def test_the_first_bad_variable_is_named() -> None:
    with pytest.raises(BadValue, match=r"^KSSH_INTERVAL=x: "):
        Settings({"KSSH_LOGLEVEL": "x", "KSSH_INTERVAL": "x"})


@pytest.mark.parametrize(("found", "interval_s", "beats"), [(80, 80, {"INTERVAL"}), (None, 15, set())])
def test_auto_is_what_was_found_or_as_if_unset(found: int | None, interval_s: int, beats: set[str]) -> None:
    settings = Settings({"KSSH_INTERVAL": "auto", "KSSH_COUNTMAX": "2"})
    settings.take_interval(found)
    assert settings.interval_s == interval_s
    assert settings.given == {"COUNTMAX", *beats}


SHOWN = {
    "plain": "plain",
    "a b": "a b",
    "büro": "büro",
    "back\\slash": "back\\slash",
    "line\nend": "line\\012end",
    "\x1b[2J": "\\033[2J",
    "\x7f": "\\177",
    "\x9b": "\\302\\233",  # CSI in one character
    "\u202e": "\\342\\200\\256",  # turns the direction of what follows
    "\udcff": "\\377",  # a byte that is no UTF-8
    chr(0xD800): "\\355\\240\\200",
    "": "",
}


@pytest.mark.parametrize("text", SHOWN)
def test_control_characters_are_escaped(text: str) -> None:
    assert printable(text) == SHOWN[text]
    with pytest.raises(BadValue) as caught:
        Settings({"KSSH_RESTART": text + "?"})
    assert str(caught.value) == f"KSSH_RESTART={SHOWN[text]}?: expected one of auto, attended, always, never"


@given(st.text())
def test_whatever_it_is_can_be_shown_on_one_line(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()


@given(st.sampled_from(sorted(TABLE)), st.text(min_size=1))
def test_any_value_is_taken_or_named(name: str, text: str) -> None:
    given_names = None
    with contextlib.suppress(BadValue):
        given_names = Settings({"KSSH_" + name: text}).given
    assert given_names in (None, {name})
