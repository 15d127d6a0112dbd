"""ssh_config and sshd_config: files as people have them, and what put in comes out again to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ctl.keepalive.grammar import (
    CLIENT,
    SERVER,
    Line,
    Setting,
    client_notices_s,
    example_of,
    host_matches,
    is_for_all,
    is_plain,
    matches,
    parse,
    server_notices_s,
    walk,
)
from pykeepssh.ctl.keepalive.marks import (
    SSHD,
    Unclear,
    add_below,
    change_line,
    comment_out,
    labels,
    set_client,
    set_server,
    unset,
)

SAMPLES = Path(__file__).parent / "ssh_configs"
FILES = {path.name: path.read_bytes() for path in sorted(SAMPLES.iterdir())}
# What a repository or an editor might correct by itself.
ODD = {
    "empty": b"",
    "one newline": b"\n",
    "only comments": b"# nothing yet\n#Host *\n#  ServerAliveInterval 60\n",
    "comment without newline": b"# nothing yet",
    "no newline at the end": b"Host a\n    User b",
    "no newline after a setting that is changed": b"Host *\n    ServerAliveInterval 300",
    "CRLF": b"Host a\r\n    User b\r\nHost *\r\n    ServerAliveInterval 300\r\n",
    "CRLF without newline at the end": b"Host a\r\n    User b",
    "CR at the very end": b"ServerAliveInterval 5\r",
    "BOM": b"\xef\xbb\xbfHost *\n    ServerAliveInterval 30\n",
    "BOM and comment": b"\xef\xbb\xbf# saved by an editor\nHost a\n",
    "Latin-1": b"# Schl\xfcssel\nHost m\xfcller\n  User x\n",
    "quoted keyword and host": b'"Host" "*"\n  "ServerAliveInterval" "300"\n',
    "quoted host": b'Host "*" \'web 1\'\n\tServerAliveCountMax "9"\n',
    "several Host *": b"Host *\n User a\nHost b\n Port 3\nHost *\n ServerAliveInterval 9\nHost *\n Port 4\n",
    "the setting twice": b"Host *\n  ServerAliveInterval 9\n  ServerAliveInterval 8\n",
    "before any Host": b"ServerAliveInterval 30\nUser me\nHost a\n  Port 3\n",
    "equals signs": b"Host=*\nServerAliveInterval=30\nServerAliveCountMax = 4\n",
    "comment behind the value": b"Host * # all\n  ServerAliveInterval 30 # half a minute\n",
    "Include at the top": b"Include ~/.ssh/config.d/*\nHost a\n  User b\n",
    "Include at the end": b"Host a\n  User b\nHost *\nInclude defaults",
    "blank lines at the end": b"Host a\n\n\n\n",
    "white space only": b" \t\n\t\n   ",
    "form feed": b"Host *\x0c\n  ServerAliveInterval 9\x0c\n",
    "Match all": b"Host a\n User b\nMatch all\n ServerAliveInterval 7\n",
    "a quote that stays open": b'Host "a\n  User b\n',
    "marks of somebody else": b"# >>> conda initialize >>>\nHost a\n# <<< conda initialize <<<\n",
    "sshd: Match first": b"Match User x\n  ClientAliveInterval 5\n",
    "sshd: ServerAlive, which stops it": b"ServerAliveInterval 60\nServerAliveCountMax 3\n",
}
CONFIGS = {**FILES, **ODD}
PATTERNS = (b"*", b"web", b"*.internal 10.1.* !10.1.9.9", b"login?.hpc.example.org")


def test_there_are_enough_of_them() -> None:
    assert len(FILES) >= 15
    assert len(CONFIGS) >= 40


@pytest.mark.parametrize("name", CONFIGS)
def test_the_lines_of_a_file_are_the_file(name: str) -> None:
    assert b"".join(line.body + line.ending for line in parse(CONFIGS[name])) == CONFIGS[name]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("name", CONFIGS)
def test_unset_after_set_gives_the_same_bytes(name: str, pattern: bytes) -> None:
    before = CONFIGS[name]
    once = set_client(before, pattern, 60, 3)
    assert labels(once) == [pattern]
    assert unset(once, pattern) == before
    assert set_client(once, pattern, 60, 3) == once
    assert unset(set_client(once, pattern, 15, 9), pattern) == before


@pytest.mark.parametrize("name", CONFIGS)
def test_unset_after_set_gives_sshd_the_same_bytes(name: str) -> None:
    before = CONFIGS[name]
    once = set_server(before, 60, 3)
    assert labels(once) == [SSHD]
    assert unset(once, SSHD) == before
    assert set_server(once, 60, 3) == once


@pytest.mark.parametrize("name", CONFIGS)
def test_nothing_but_keepalive_is_touched(name: str) -> None:
    def others(data: bytes) -> list[bytes]:
        lines = [line.body.rstrip(b"\r") for line in parse(data) if "alive" not in line.keyword]
        return [line for line in lines if b"ksshctl keepalive for" not in line and line != b"Host *"]

    assert others(set_client(CONFIGS[name], b"*", 60, 3)) == others(CONFIGS[name])
    assert others(set_server(CONFIGS[name], 60, 3)) == others(CONFIGS[name])


def value(data: bytes, word: str, host: bytes) -> bytes | None:
    """Return the first value for a host, by the rules of ssh_config(5), as far as Host goes."""
    for setting in walk("f", {"f": data}.get, lambda _: []):
        applies = all(
            is_for_all(opener.line)
            or (opener.line.keyword == "host" and host_matches(opener.line.arguments, host))
            for opener in setting.scope
        )
        if setting.line.keyword == word.lower() and applies:
            return setting.line.arguments[0] if setting.line.arguments else b""
    return None


@pytest.mark.parametrize("name", CONFIGS)
def test_a_host_that_no_block_names_gets_what_was_set(name: str) -> None:
    after = set_client(CONFIGS[name], b"*", 61, 7)
    if not name.startswith("BOM"):  # ssh reads no such file, and the candidate's check says so
        assert [value(after, word, b"some.other") for word in CLIENT] == [b"61", b"7"]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_single_host_gets_what_was_set(name: str) -> None:
    after = set_client(CONFIGS[name], b"web", 61, 7)
    assert [value(after, word, b"web") for word in CLIENT] == [b"61", b"7"]


@pytest.mark.parametrize("name", CONFIGS)
def test_no_other_host_loses_what_it_had(name: str) -> None:
    after = set_client(CONFIGS[name], b"web", 61, 7)
    for word in (*CLIENT, "User", "Port"):
        assert value(after, word, b"other") == value(CONFIGS[name], word, b"other")


@pytest.mark.parametrize("name", CONFIGS)
def test_sshd_reads_what_was_set_first_and_for_everybody(name: str) -> None:
    lines = parse(set_server(CONFIGS[name], 61, 7))
    for word, wanted in zip(SERVER, (b"61", b"7")):
        at = next(index for index, line in enumerate(lines) if line.keyword == word.lower())
        assert lines[at].arguments == (wanted,)
        assert not any(line.keyword in ("match", "include") for line in lines[:at])


# -- where it goes -----------------------------------------------------------------------------------


def test_a_setting_for_all_is_changed_where_it_stands() -> None:
    before = (
        b"Host a\n  ServerAliveInterval 5\nHost *\n"
        b"\tserveraliveinterval=300\n  # mine\n  ServerAliveCountMax 9\n"
    )
    assert set_client(before, b"*", 60, 3) == (
        b"Host a\n  ServerAliveInterval 5\nHost *\n"
        b"# ksshctl keepalive for *, was: \tserveraliveinterval=300\n"
        b"\tServerAliveInterval 60\n"
        b"  # mine\n"
        b"# ksshctl keepalive for *, was:   ServerAliveCountMax 9\n"
        b"  ServerAliveCountMax 3\n"
    )


def test_what_is_missing_goes_into_a_block_at_the_end() -> None:
    assert set_client(b"Host a\n  Port 3\n", b"*", 60, 3) == (
        b"Host a\n  Port 3\n"
        b"# >>> ksshctl keepalive for * >>>\n"
        b"Host *\n"
        b"    ServerAliveInterval 60\n"
        b"    ServerAliveCountMax 3\n"
        b"# <<< ksshctl keepalive for * <<<\n"
    )


def test_a_single_host_goes_above_what_would_win_over_it() -> None:
    before = b"Host a\n\n# for all\n# of them\nHost *\n  ServerAliveInterval 5\n"
    block = (
        b"# >>> ksshctl keepalive for web >>>\n"
        b"Host web\n"
        b"    ServerAliveInterval 60\n"
        b"    ServerAliveCountMax 3\n"
        b"# <<< ksshctl keepalive for web <<<\n"
    )
    assert set_client(before, b"web", 60, 3) == b"Host a\n\n" + block + before[8:]


def test_a_single_host_goes_above_a_match_that_may_be_for_it() -> None:
    before = b"Match user x\n  Port 3\n# mine\nMatch exec true\n  ServerAliveInterval 5\nHost *\n"
    after = set_client(before, b"web", 60, 3)
    assert after.startswith(b"Match user x\n  Port 3\n# >>> ksshctl keepalive for web >>>\nHost web\n")
    assert after.endswith(b"# mine\nMatch exec true\n  ServerAliveInterval 5\nHost *\n")


def test_a_setting_above_every_block_stays_for_every_host() -> None:
    after = set_client(b"ServerAliveInterval 5\nUser u\n", b"web", 60, 3)
    assert after.endswith(b"Host *\n# <<< ksshctl keepalive for web <<<\nServerAliveInterval 5\nUser u\n")


def test_two_patterns_go_in_and_out_in_any_order() -> None:
    for before in (b"ServerAliveInterval 5\n", b"Host *\n  ServerAliveInterval 5", b"User u", b""):
        both = set_client(set_client(before, b"*", 60, 3), b"web", 15, 3)
        assert value(both, CLIENT[0], b"web") == b"15"
        assert value(both, CLIENT[0], b"db") == b"60"
        assert unset(unset(both, b"web"), b"*") == unset(unset(both, b"*"), b"web") == before


def test_sshd_gets_it_above_match_and_include() -> None:
    assert set_server(b"Port 22\n# customers\nMatch User x\n  PermitTTY no\n", 60, 3) == (
        b"Port 22\n"
        b"# >>> ksshctl keepalive for sshd >>>\n"
        b"ClientAliveInterval 60\n"
        b"ClientAliveCountMax 3\n"
        b"# <<< ksshctl keepalive for sshd <<<\n"
        b"# customers\nMatch User x\n  PermitTTY no\n"
    )
    assert set_server(b"Include x\nClientAliveInterval 5\n", 60, 3).endswith(
        b"\nInclude x\nClientAliveInterval 5\n"
    )


def test_sshd_both_settings_are_changed_where_they_stand() -> None:
    after = set_server(b"ClientAliveInterval 5m\nClientAliveCountMax 0\nMatch all\n", 60, 3)
    assert after == (
        b"# ksshctl keepalive for sshd, was: ClientAliveInterval 5m\nClientAliveInterval 60\n"
        b"# ksshctl keepalive for sshd, was: ClientAliveCountMax 0\nClientAliveCountMax 3\nMatch all\n"
    )


# -- what somebody else wrote into it ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "line", "why"),
    [
        (b"# >>> ksshctl keepalive for * >>>\nHost *\n  User me\n", 3, "between its marks"),
        (b"# >>> ksshctl keepalive for * >>>\nHost *\n", 1, "no end"),
        (b"a b\n# ksshctl keepalive for *, was: ServerAliveInterval 5\n", 2, "gone"),
        (b"# ksshctl keepalive for *, was: ServerAliveInterval 5\nUser me\n", 1, "gone"),
        (b"User me\n\0\n", 2, "NUL"),
    ],
)
def test_what_is_not_ours_is_never_removed(data: bytes, line: int, why: str) -> None:
    with pytest.raises(Unclear, match=why) as caught:
        unset(data, b"*")
    assert caught.value.number == line
    assert why in caught.value.why


@pytest.mark.parametrize("name", CONFIGS)
def test_one_value_is_set_and_the_other_stays(name: str) -> None:
    before = CONFIGS[name]
    for pattern in (b"*", b"web"):
        once = set_client(before, pattern, 61, None)
        assert unset(once, pattern) == before
        assert b"erveralivecountmax" not in set_client(b"", pattern, 61, None).lower()
        assert set_client(once, pattern, None, 7) == set_client(before, pattern, 61, 7)
    assert set_server(set_server(before, 61, None), None, 7) == set_server(before, 61, 7)


WAS = b"# ksshctl doctor, was: "
LINE = b"Host *\n\tServerAliveInterval 300 # long\n  Port 3\n"


def test_a_line_says_something_else_or_is_a_comment_or_gets_another_one() -> None:
    assert change_line(LINE, 2, b"X 1") == (
        b"Host *\n" + WAS + b"\tServerAliveInterval 300 # long\n\tX 1\n  Port 3\n"
    )
    assert comment_out(LINE, 2) == b"Host *\n" + WAS + b"\tServerAliveInterval 300 # long\n  Port 3\n"
    assert add_below(LINE, 2, b"X 1") == LINE.replace(b"long\n", b"long\n\tX 1\n")


@pytest.mark.parametrize("name", [name for name in CONFIGS if CONFIGS[name]])
def test_nothing_but_one_line_is_touched(name: str) -> None:
    before = CONFIGS[name]
    lines = parse(before)
    for at in range(len(lines)):
        above, below = (b"".join(line.raw for line in part) for part in (lines[:at], lines[at + 1 :]))
        for after in (
            change_line(before, at + 1, b"X 1"),
            comment_out(before, at + 1),
            add_below(before, at + 1, b"X 1"),
        ):
            assert after.startswith(above)
            assert after.endswith(below)
            assert lines[at].body in after
            assert after.endswith(b"\n") == before.endswith(b"\n")
            assert sum(line.body.endswith(b"\r") for line in parse(after)) >= before.count(b"\r\n")


def test_what_set_wrote_needs_no_comment_and_can_be_taken_out_afterwards() -> None:
    before = b"Host *\n  ServerAliveInterval 15\n"
    once = set_client(before, b"*", 300, 3)
    lines = [line.keyword for line in parse(once)]
    interval, count = (lines.index(word.lower()) + 1 for word in CLIENT)
    for number in (interval, count):
        changed = change_line(once, number, b"X 1")
        assert WAS not in changed
    assert unset(change_line(once, interval, b"ServerAliveInterval 60"), b"*") == before
    assert comment_out(once, interval).startswith(b"Host *\n" + WAS + b"  ServerAliveInterval 15\n")
    assert parse(comment_out(once, count))[count - 1].body.startswith(b"# <<<")


def test_a_newline_that_an_editor_added_is_no_trouble() -> None:
    before = b"Host a"
    after = set_client(before, b"*", 60, 3)
    assert unset(after + b"\n", b"*") == before + b"\n"
    assert unset(after + b"\nHost b\n", b"*") == before + b"\nHost b\n"


# -- the grammar -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "keyword", "arguments"),
    [
        (b"Host a b", "host", [b"a", b"b"]),
        (b"\tHOST\t=\ta\n", "host", [b"a"]),
        (b"Host=a\r\n", "host", [b"a"]),
        (b"Host = = a", "host", [b"=", b"a"]),
        (b"Host", "host", []),
        (b'"Host" "a b" c', "host", [b"a b", b"c"]),
        (b"Host 'a \"b' # c", "host", [b'a "b']),
        (b"Host a#b", "host", [b"a#b"]),
        (rb"Host a\ b \"c\" d\\e f\g", "host", [b"a b", b'"c"', b"d\\e", b"f\\g"]),
        (b'Host a"b c"d', "host", [b"ab cd"]),
        (b'Host "a', "host", []),
        (b'Host "a\\ b"', "host", [b"a\\ b"]),
        (b"Host a\\", "host", [b"a\\"]),
        (b"Host a \x0c\n", "host", [b"a"]),
        (b"  # Host a", "", []),
        (b"\n", "", []),
        (b"Port 22\0 23", "port", [b"22"]),
    ],
)
def test_a_line_is_read_as_openssh_reads_it(raw: bytes, keyword: str, arguments: Sequence[bytes]) -> None:
    assert parse(raw) == [Line(raw, keyword, tuple(arguments))]


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    [
        (b"*", b"x", True),
        (b"*", b"", True),
        (b"a?c", b"abc", True),
        (b"a?c", b"ac", False),
        (b"*.b", b"a.b", True),
        (b"*.b", b"a.bc", False),
        (b"a !*", b"a", False),
        (b"* !b*", b"abc", True),
        (b"!a", b"b", False),
        (b"**a**", b"xax", True),
        (b"********************b", b"a" * 200, False),
    ],
)
def test_patterns_match_as_openssh_matches_them(patterns: bytes, name: bytes, expected: bool) -> None:
    assert host_matches(patterns.split(), name) is expected


@given(st.lists(st.sampled_from([b"a", b"*", b"?", b"."]), max_size=8).map(b"".join))
def test_the_example_of_a_pattern_fits_it(pattern: bytes) -> None:
    if pattern:
        assert host_matches([pattern], example_of(b"!z " + pattern))
        assert matches(pattern.replace(b"**", b"*"), pattern.replace(b"?", b"x").replace(b"*", b""))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("*", True),
        ("a *.b !c", True),
        ("", False),
        ("!a", False),
        ("a ! b", False),
        ("a\nb", False),
        ('"a"', False),
    ],
)
def test_what_can_be_written_after_host(text: str, plain: bool) -> None:
    assert is_plain(text) is plain


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"Host *", True),
        (b"Host a *", True),
        (b"Host * !a", False),
        (b"Host a", False),
        (b"Match ALL", True),
        (b"Match final all", False),
    ],
)
def test_what_is_for_every_host(line: bytes, expected: bool) -> None:
    assert is_for_all(parse(line)[0]) is expected


def test_a_walk_goes_through_every_include_in_order() -> None:
    files = {
        "main": b"User a\nHost x\nInclude sub none\nPort 1\nMatch all\nInclude sub\n",
        "sub": b"# c\nPort 2\nHost y\nPort 3\n",
    }

    def told(setting: Setting) -> tuple[str, int, str, list[int]]:
        return setting.file, setting.number, setting.line.keyword, [opener.number for opener in setting.scope]

    walked = [told(one) for one in walk("main", files.get, lambda word: [word.decode()])]
    assert walked == [
        ("main", 1, "user", []),
        ("main", 2, "host", [2]),
        ("main", 3, "include", [2]),
        ("sub", 2, "port", [2]),
        ("sub", 3, "host", [2, 3]),
        ("sub", 4, "port", [2, 3]),
        ("main", 4, "port", [2]),
        ("main", 5, "match", [5]),
        ("main", 6, "include", [5]),
        ("sub", 2, "port", [5]),
        ("sub", 3, "host", [5, 3]),
        ("sub", 4, "port", [5, 3]),
    ]


def test_a_file_that_includes_itself_ends_the_walk() -> None:
    files = {"f": b"Include f f\nInclude g\n", "g": b"Include f g\nUser x\n"}
    said = [(setting.file, setting.number) for setting in walk("f", files.get, lambda word: [word.decode()])]
    assert said == [("f", 1), ("f", 2), ("g", 1), ("g", 2)]


# -- numbers -----------------------------------------------------------------------------------------


def test_the_true_arithmetic() -> None:
    assert client_notices_s(15, 3) == server_notices_s(15, 3) == 60
    assert client_notices_s(0, 3) is server_notices_s(0, 3) is None
    assert client_notices_s(15, 0) == 15  # ssh gives up before it has asked
    assert server_notices_s(15, 0) is None  # sshd never does, from 8.2 on
    assert server_notices_s(15, 0, (8, 1)) == 15


@pytest.mark.parametrize(
    ("version", "expected"), [((8, 9), 60), ((9, 2), 120), ((9, 4), 120), ((9, 5), 60), ((10, 0), 60)]
)
def test_some_versions_of_sshd_take_twice_as_long(version: tuple[int, int], expected: int) -> None:
    assert server_notices_s(15, 3, version) == expected


# -- any file at all ---------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(b"Host *\n", b"Host a b\n", b"Match all\n", b"Match user x\n", b'"Host" "*"\n', b"Include x\n"),
        *(b"  ServerAliveInterval 5", b"ServerAliveCountMax=3\r\n", b"ClientAliveInterval 0\n"),
        *(b"\n", b"\r\n", b"\r", b"\x0c", b"# x\n", b"# >>>", b"\xef\xbb\xbf", b" \t"),
    ]
)
ANYTHING = st.binary(max_size=6).map(lambda data: data.replace(b"\0", b""))


@given(st.lists(PIECES | ANYTHING, max_size=12).map(b"".join), st.sampled_from(PATTERNS))
def test_unset_after_set_gives_the_same_bytes_whatever_they_are(before: bytes, pattern: bytes) -> None:
    once = set_client(before, pattern, 60, 3)
    assert unset(once, pattern) == before
    assert set_client(once, pattern, 60, 3) == once
    twice = set_client(once, b"z", 1, 2)
    assert unset(twice, b"z") == once
    assert unset(unset(twice, pattern), b"z") == before
    server = set_server(before, 60, 3)
    assert unset(server, SSHD) == before
    assert set_server(server, 60, 3) == server
