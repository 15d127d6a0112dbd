"""What the text of a configuration file may say: in doubt, it says it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ssh.config import LONGEST_LINE, OTHER_NAMES, included, is_plain, may_deny, named

INTERVAL = "serveraliveinterval"
KEYWORDS = (INTERVAL, "requesttty", "controlpath")

# A text, and which of KEYWORDS it may set.
NAMED: dict[str, tuple[bytes, set[str]]] = {
    "nothing": (b"", set()),
    "other words": (b"Host *\n ServerAliveCountMax 4\n", set()),
    "as the manual writes it": (b"ServerAliveInterval 5", {INTERVAL}),
    "behind a Host": (b"Host a\n\tserverALIVEinterval\t5\nHost b\n RequestTTY no", {INTERVAL, "requesttty"}),
    "with an equals sign": (b"ControlPath=none", {"controlpath"}),
    "with one before it": (b" =ControlPath none", {"controlpath"}),
    "quoted": (b'"ControlPath" none', {"controlpath"}),
    "quoted in part": (b'Control"Path" none', {"controlpath"}),
    "behind nothing that is quoted": (b'"" ControlPath none', {"controlpath"}),
    "Debian's names for it": (b"ProtocolKeepAlives 5\nSetupTimeOut 5", {INTERVAL}),
    "a comment": (b"# ControlPath none\n \t#ControlPath none\n\r#RequestTTY no", set()),
    "a comment that is none for ssh": (b'"" # ControlPath none', set()),
    "behind a comment": (b"# x\nControlPath none", {"controlpath"}),
    "in a value": (b"ProxyCommand ssh -o ControlPath=none h", set()),
    "the end of a longer word": (b"XControlPath none", set()),
    "the beginning of a longer word": (b"ControlPaths none", {"controlpath"}),
    "no text": (b"\xff\xfe\x80\nControlPath none", {"controlpath"}),
}


@pytest.mark.parametrize("name", NAMED)
def test_which_keywords_a_text_names(name: str) -> None:
    text, expected = NAMED[name]
    assert named(text, KEYWORDS) == expected
    assert named(text.replace(b"\n", b"\r\n"), KEYWORDS) == expected


def quoted(word: str, start: int, length: int) -> str:
    return f'{word[:start]}"{word[start : start + length]}"{word[start + length :]}'


@given(
    st.sampled_from([*KEYWORDS, *OTHER_NAMES[INTERVAL]]),
    st.lists(st.booleans(), min_size=20, max_size=20),
    st.tuples(st.integers(0, 20), st.integers(0, 20)),
    st.sampled_from(["", " ", "\t", " \t ", "=", " ="]),
    st.sampled_from([" 5", "=5", "\t=\t5", '"5"', ' "5"', " '5'", ""]),
    st.lists(st.sampled_from(["", "Host x", "# y", "Port 5", 'User "z"']), max_size=4),
)
def test_a_keyword_is_found_however_it_is_written(
    word: str, upper: list[bool], quotes: tuple[int, int], before: str, value: str, others: list[str]
) -> None:
    written = "".join(c.upper() if up else c for c, up in zip(word, upper))
    line = before + quoted(written, *quotes) + value
    text = "\n".join([*others, line, *others]).encode()
    assert named(text, KEYWORDS)


# A line, and whether it may say nothing of the kind of 0 or no.
DENIES = [
    ("ServerAliveInterval 0", True),
    ("ServerAliveInterval=00", True),
    ("serveraliveinterval = '0s'", True),
    ('ServerAliveInterval "0"', True),
    ("ServerAliveInterval no", True),
    ("ServerAliveInterval False", True),
    ("ServerAliveInterval", True),
    ("ServerAliveInterval ${X}", True),
    ("SetupTimeOut 0", True),
    ("ServerAliveInterval 60", False),
    ("ServerAliveInterval 1m30s # 0", False),
    ("ServerAliveInterval yes", False),
    ("# ServerAliveInterval 0", False),
    ("ServerAliveCountMax 0", False),
]


@pytest.mark.parametrize(("line", "expected"), DENIES)
def test_what_may_say_no(line: str, expected: bool) -> None:
    assert may_deny(f"Host x\n{line}\nPort 5".encode(), INTERVAL) is expected


# A text and what it includes; None: only ssh knows.
INCLUDED: dict[str, tuple[bytes, list[bytes] | None]] = {
    "nothing": (b"Host x", []),
    "a file": (b"Include a", [b"a"]),
    "more than one": (b"include a  b\nHost x\n\tINCLUDE = c/*.conf\n", [b"a", b"b", b"c/*.conf"]),
    "with an equals sign": (b"Include=a", [b"a"]),
    "and a comment": (b"Include a # b", [b"a", b"#", b"b"]),
    "in a comment": (b"# Include a", []),
    "in a value": (b"ProxyCommand Include a", []),
    "quoted": (b'Include "a b"', None),
    "quoted otherwise": (b"Include 'a b'", None),
    "a keyword that is quoted": (b'"Include" a', None),
    "a keyword that is quoted in part": (b'In"clude" a', None),
    "behind an equals sign": (b"=Include a", None),
    "a token": (b"Include %h", None),
    "a variable": (b"Include ${HOME}/a", None),
    "a backslash": (b"Include a\\ b", None),
    "an equals sign in it": (b"Include a=b", None),
    "a form feed in it": (b"Include a\x0cb", None),
    "one that is known and one that is not": (b"Include a\nInclude %h", None),
}


@pytest.mark.parametrize("name", INCLUDED)
def test_what_a_text_includes(name: str) -> None:
    text, expected = INCLUDED[name]
    assert included(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", True),
        (b"a\nb", True),
        (b"a" * LONGEST_LINE + b"\nb\n", True),
        (b"b\n" + b"a" * (LONGEST_LINE + 1), False),  # OpenSSH 7.4 sees two lines
        (b"#\0\nControlPath none", False),
    ],
)
def test_what_ssh_may_read_otherwise_is_not_plain(text: bytes, expected: bool) -> None:
    assert is_plain(text) is expected
