"""The words for a person: every outcome and every event has one line, and none of it is the server's."""

from __future__ import annotations

import math

import pytest
from facts import seen as facts_of
from hypothesis import given, strategies as st

from pykeepssh.link import wording
from pykeepssh.link.kinds import COMMAND, SHELL, TUNNEL
from pykeepssh.link.outcomes import (
    DENIED,
    DOWN,
    ENDED,
    FINISHED,
    FORGED,
    GAVE_UP,
    HOST_KEY,
    LEFT,
    LOST,
    NOT_RESUMED,
    PORT_HELD_LOCAL,
    PORT_HELD_REMOTE,
    REFUSED_SETUP,
    RETRY,
    UNREACHABLE,
    UNRESOLVED,
    UP,
    Exit,
    Report,
)
from pykeepssh.link.policy import TABLE
from pykeepssh.ssh import evidence
from pykeepssh.ssh.evidence import Evidence

DURATIONS = {
    0: "0 s",
    0.04: "0 s",
    0.05: "0 s",  # rounded half to even, as Python does
    0.06: "0.1 s",
    0.4: "0.4 s",
    0.96: "1 s",
    1: "1 s",
    1.04: "1 s",
    1.25: "1.2 s",
    3.98: "4 s",
    9.94: "9.9 s",
    9.96: "10 s",
    10.4: "10 s",
    45: "45 s",
    59.4: "59 s",
    59.6: "1 min",
    60: "1 min",
    125: "2 min 5 s",
    3599.6: "1h00m",
    3600: "1h00m",
    8000: "2h13m",
    86399: "23h59m",
    86400: "1d0h",
    3 * 86400 + 4 * 3600 + 59: "3d4h",
    400 * 86400: "400d0h",
}


@pytest.mark.parametrize("seconds", DURATIONS)
def test_a_length_of_time_is_said_as_a_person_says_it(seconds: float) -> None:
    assert wording.duration(seconds) == DURATIONS[seconds]


@given(st.floats(0, 10**9))
def test_any_length_of_time_can_be_said(seconds: float) -> None:
    said = wording.duration(seconds)
    assert said.isprintable()
    assert len(said) <= 12


def seen(**facts: object) -> Evidence:
    """Return the Evidence with these facts, of an ssh that wrote something."""
    return facts_of(**{"spoke": True, **facts})


FAILED = Exit(255)
# outcome, exit, evidence, was there a session: reason
REASONS: dict[str, tuple[str, Exit, Evidence | None, bool, str]] = {
    "a remote port": (
        PORT_HELD_REMOTE,
        FAILED,
        seen(remote_refused=["80", "2222"]),
        True,
        "the server refused to listen on port 2222; an old session may still hold it",
    ),
    "a remote path": (
        PORT_HELD_REMOTE,
        FAILED,
        seen(remote_refused=["/s\x1b"]),
        True,
        "the server refused to listen on /s\\033; an old session may still hold it",
    ),
    "a local port": (
        PORT_HELD_LOCAL,
        FAILED,
        seen(local_held=["8080"], error="Could not request local forwarding."),
        False,
        "port 8080 is in use on this machine",
    ),
    "a local path": (PORT_HELD_LOCAL, FAILED, seen(local_held=["/s"]), False, "/s is in use on this machine"),
    "keepalive": (
        LOST,
        FAILED,
        seen(timed_out=True, error="Timeout, …"),
        True,
        "the server stopped answering",
    ),
    "killed": (LOST, Exit(signal=9), seen(), True, "ssh was ended by signal 9"),
    "killed, no log": (LOST, Exit(signal=9), None, False, "ssh was ended by signal 9"),
    "no log": (UNREACHABLE, FAILED, None, False, "ssh ended with status 255"),
    "told to end": (LOST, FAILED, seen(killed_by=15), True, "ssh was asked to end by signal 15"),
    "a tunnel told to end by TERM": (LOST, Exit(0), seen(), True, "ssh was asked to end"),
    "denied": (
        DENIED,
        FAILED,
        seen(error="u@h: Permission denied (publickey).", cause=evidence.DENIED),
        False,
        "u@h: Permission denied (publickey)",
    ),
    "denied, and ssh knows why": (
        DENIED,
        FAILED,
        seen(
            error="u@h: Permission denied (publickey).", remarks=["Permissions 0644 for '/k' are too open."]
        ),
        False,
        "Permissions 0644 for '/k' are too open; u@h: Permission denied (publickey)",
    ),
    "denied, nothing said": (DENIED, FAILED, seen(), False, "authentication failed"),
    "forged": (
        FORGED,
        Exit(signal=9),
        seen(error="x"),
        False,
        "the server wrote lines that look like ssh's own",
    ),
    "host key": (HOST_KEY, FAILED, seen(error="Host key …"), False, "host key verification failed"),
    "host key, and ssh knows why": (
        HOST_KEY,
        FAILED,
        seen(remarks=["No ED25519 host key is known for h and you have requested strict checking."]),
        False,
        (
            "host key verification failed; "
            "No ED25519 host key is known for h and you have requested strict checking"
        ),
    ),
    "a local address that is away": (
        PORT_HELD_LOCAL,
        FAILED,
        seen(local_held=["80"], local_away="bind [10.0.0.9]:80: Cannot assign requested address"),
        False,
        "bind [10.0.0.9]:80: Cannot assign requested address",
    ),
    "a tunnel device": (
        PORT_HELD_REMOTE,
        FAILED,
        seen(remote_refused=["-w"]),
        True,
        "the server refused a tunnel device (-w); an old session may still hold it",
    ),
    "any port": (
        PORT_HELD_REMOTE,
        FAILED,
        seen(remote_refused=["0"]),
        True,
        "the server refused to listen on a port; an old session may still hold it",
    ),
    "a jump host that says nothing": (
        UNREACHABLE,
        FAILED,
        seen(error="Connection closed by UNKNOWN port 65535"),
        False,
        "the ProxyCommand or jump host ended without an error message",
    ),
    "a privileged port": (
        REFUSED_SETUP,
        FAILED,
        seen(remarks=["bind [::]:80: Permission denied"], error="Could not request local forwarding."),
        False,
        "bind [::]:80: Permission denied; Could not request local forwarding",
    ),
    "closed by the server": (LOST, FAILED, seen(), True, "the connection was closed"),
    "reset in a session": (
        LOST,
        FAILED,
        seen(cause=evidence.UNREACHABLE, error="Connection reset by 1.2.3.4 port 22"),
        True,
        "Connection reset by 1.2.3.4 port 22",
    ),
    "refused": (
        UNREACHABLE,
        FAILED,
        seen(cause=evidence.UNREACHABLE, error="ssh: connect to host h port 22: Connection refused"),
        False,
        "Connection refused",
    ),
    "not found": (
        UNRESOLVED,
        FAILED,
        seen(error="ssh: Could not resolve hostname h: Name or service not known"),
        False,
        "Name or service not known",
    ),
    "a broken pipe is no reason": (
        LOST,
        FAILED,
        seen(cause=LOST, error="client_loop: send disconnect: Broken pipe"),
        True,
        "the connection was closed",
    ),
    "a full stop goes": (REFUSED_SETUP, FAILED, seen(error="It is so."), False, "It is so"),
    "what a server says is escaped": (UNREACHABLE, FAILED, seen(error="\x1b[2Jx"), False, "\\033[2Jx"),
    "no word of it": (REFUSED_SETUP, FAILED, seen(), False, "ssh ended with status 255"),
    "nothing at all": (
        REFUSED_SETUP,
        FAILED,
        seen(spoke=False),
        False,
        "ssh rejected its command line or configuration",
    ),
    "nothing in the log": (
        REFUSED_SETUP,
        FAILED,
        seen(spoke=False, printed=["command-line: line 0: Bad configuration option: foo\x1b"]),
        False,
        "command-line: line 0: Bad configuration option: foo\\033",
    ),
    "no ssh at all": (
        REFUSED_SETUP,
        Exit(127),
        seen(spoke=False, printed=["libcrypto.so.3: cannot open shared object file"]),
        False,
        "libcrypto.so.3: cannot open shared object file; ssh ended with status 127",
    ),
    "the remote command ended": (FINISHED, Exit(3), seen(command_ended=True), True, ""),
    "a status that nothing explains": (FINISHED, Exit(3), seen(), False, "ssh ended with status 3"),
    "finished, no log": (FINISHED, Exit(3), None, True, "ssh ended with status 3"),
    "left": (LEFT, FAILED, seen(error="x"), True, ""),
    "left, no log": (LEFT, Exit(signal=1), None, True, ""),
}


@pytest.mark.parametrize("name", REASONS)
def test_the_reason_is(name: str) -> None:
    result, ended, found, session, expected = REASONS[name]
    assert wording.reason(result, ended, found, session) == expected


# report, kind: line
LINES: dict[str, tuple[Report, str, str]] = {
    "a shell is up": (Report(UP, start=1), SHELL, "connected"),
    "a tunnel is up": (Report(UP, start=1), TUNNEL, "tunnel is up"),
    "a tunnel is up again": (
        Report(UP, start=3, delay_s=4.2),
        TUNNEL,
        "tunnel is up again after 4.2 s (start 3)",
    ),
    "a tunnel is up that lacks something": (
        Report(UP, "", "the server refused to listen on port 80", 1),
        TUNNEL,
        "tunnel is up, but the server refused to listen on port 80",
    ),
    "the server chose a port": (
        Report(UP, start=3, delay_s=4.2, allocated=((4000, "localhost:22"), (4001, "/s\n"))),
        TUNNEL,
        (
            "tunnel is up again after 4.2 s (start 3); port 4000 of the server leads to localhost:22, "
            "port 4001 of the server leads to /s\\012"
        ),
    ),
    "for people to fix": (
        Report(RETRY, HOST_KEY, "why", 5, 600.0, by_people=True),
        TUNNEL,
        "HOST KEY CHANGED OR UNKNOWN, not connecting (why); only a person can fix that; retry 5 in 10 min",
    ),
    "down": (Report(DOWN, LOST, "why", 1, None, 8000.0), TUNNEL, "link lost after 2h13m (why)"),
    "a retry": (
        Report(RETRY, LOST, "why", 2, 4.0, 8000.0),
        SHELL,
        "link lost after 2h13m (why); retry 2 in 4 s",
    ),
    "a retry at once": (
        Report(RETRY, LOST, "why", 2, 0.0, 90.0),
        SHELL,
        "link lost after 1 min 30 s (why); retry 2 now",
    ),
    "a retry almost at once": (
        Report(RETRY, UNREACHABLE, "why", 2, 0.04),
        SHELL,
        "unreachable (why); retry 2 now",
    ),
    "a retry without a session": (
        Report(RETRY, UNREACHABLE, "refused", 7, 12.6),
        TUNNEL,
        "unreachable (refused); retry 7 in 13 s",
    ),
    "a retry for which a person is needed": (
        Report(RETRY, LOST, "why", 2, math.inf),
        SHELL,
        "link lost (why); no answer to the prompt; press Enter to retry",
    ),
    "no multiplexer": (
        Report(RETRY, NOT_RESUMED, "why", 2, 0.0),
        SHELL,
        "no multiplexer there (why); opening a plain shell",
    ),
    "no multiplexer, and a person is asked": (
        Report(RETRY, NOT_RESUMED, "why", 2, math.inf),
        SHELL,
        "no multiplexer there (why); press Enter for a plain shell",
    ),
    "gave up": (
        Report(GAVE_UP, DENIED, "no", 1),
        TUNNEL,
        "giving up after 1 start: access denied (no)",
    ),
    "gave up at the limit": (
        Report(GAVE_UP, LOST, "gone", 5, None, 1.0, limit=True),
        TUNNEL,
        "giving up after 5 starts (KSSH_MAXSTART): link lost after 1 s (gone)",
    ),
    "a command that is lost": (
        Report(GAVE_UP, LOST, "gone", 1, None, 4.0),
        COMMAND,
        "link lost after 4 s (gone); not run again",
    ),
    "ended": (Report(ENDED, FINISHED, "", 1, None, 5.0), SHELL, "finished"),
    "left": (Report(ENDED, LEFT, "", 1, None, 5.0), SHELL, "ended as asked"),
    "host key": (
        Report(GAVE_UP, HOST_KEY, "why", 2),
        TUNNEL,
        "giving up after 2 starts: HOST KEY CHANGED OR UNKNOWN, not connecting (why)",
    ),
    "unresolved": (Report(DOWN, UNRESOLVED, "", 1), TUNNEL, "host name unresolved"),
    "refused setup": (Report(DOWN, REFUSED_SETUP, "", 1), TUNNEL, "setup refused"),
    "a port": (Report(DOWN, PORT_HELD_LOCAL, "", 1), TUNNEL, "forward refused"),
}


@pytest.mark.parametrize("name", LINES)
def test_the_line_says(name: str) -> None:
    report, kind, expected = LINES[name]
    assert wording.line(report, kind) == expected


@pytest.mark.parametrize("result", TABLE)
@pytest.mark.parametrize("event", [DOWN, RETRY, GAVE_UP, ENDED])
@pytest.mark.parametrize("session_s", [None, 3.0])
def test_every_outcome_has_words(event: str, result: str, session_s: float | None) -> None:
    said = wording.line(Report(event, result, "why", 2, 1.0, session_s), TUNNEL)
    assert "(why)" in said
    assert said.isprintable()


def test_no_outcome_has_two_names() -> None:
    assert set(wording._WHAT) == {*TABLE, NOT_RESUMED}  # which is only told


def test_a_line_names_the_outcome_as_the_hook_and_the_history_do() -> None:
    # A person says what became of it; the reason behind that names port or path.
    others = {LEFT: "ended as asked", PORT_HELD_LOCAL: "forward refused", PORT_HELD_REMOTE: "forward refused"}
    for result, words in wording._WHAT.items():
        told = set(words.lower().replace(",", "").split())
        assert words == others.get(result) or set(result.split()) <= told, (result, words)


# -- the line that stands on a terminal --------------------------------------------------------------

GONE = Report(RETRY, LOST, "the server stopped answering", 2, 4.0, 8000.0)
HEAD = "kssh: h: link lost after 2h13m"
WHY = " (the server stopped answering)"
KEYS = ". Enter: now, Ctrl-C: quit"
STATUS = {
    (3.2, 120): HEAD + WHY + "; retry 2 in 4 s" + KEYS,
    (0.3, 120): HEAD + WHY + "; retry 2 in 1 s" + KEYS,
    (0.0, 120): HEAD + WHY + "; retry 2 in 1 s" + KEYS,
    (None, 120): HEAD + WHY + "; retry 2: connecting",
    (math.inf, 120): HEAD + WHY + "; no answer to the prompt. Enter: retry, Ctrl-C: quit",
    (3.2, 90): HEAD + " (the server st…); retry 2 in 4 s" + KEYS,
    (3.2, 80): HEAD + "; retry 2 in 4 s" + KEYS,
    (3.2, 60): "kssh: h: retry 2 in 4 s" + KEYS,
    (3.2, 40): "kssh: h: retry 2 in 4 s (Enter, ^C)",
    (3.2, 30): "kssh: h: retry 2 in 4 s",
    (3.2, 20): "retry 2 in 4 s",
    (3.2, 10): "retry 2 …",
    (None, 40): "kssh: h: retry 2: connecting",
    (math.inf, 40): "kssh: h: no answer (Enter, ^C)",
    (3.2, 2): "…",
}


def test_a_plain_shell_in_place_of_a_multiplexer_is_said() -> None:
    retry = Report(RETRY, NOT_RESUMED, "status 1", 2, math.inf)
    said = "kssh: h: no multiplexer there (status 1); not logged in. Enter: a plain shell, Ctrl-C: quit"
    assert wording.status(retry, "h", math.inf, 99) == said
    assert wording.status(retry, "h", None, 99).endswith("(status 1); retry 2: connecting")
    said = "kssh: h: no multiplexer there (status 1); a plain shell"
    assert wording.back(Report(UP, start=2, delay_s=1.0), retry, "h", dropped=True) == said


WAITS = st.one_of(st.none(), st.just(math.inf), st.floats(0, 10**6))


@pytest.mark.parametrize(("left_s", "columns"), STATUS)
def test_the_status_line_fits(left_s: float | None, columns: int) -> None:
    said = wording.status(GONE, "h", left_s, columns)
    assert said == STATUS[left_s, columns]
    assert len(said) < columns


def test_a_long_name_leaves_the_countdown_and_the_keys() -> None:
    said = wording.status(GONE, "a-very-long-name.of.a.host.example.com", 3.2, 80)
    assert said == "kssh: a-very-…: link lost after 2h13m; retry 2 in 4 s" + KEYS
    assert len(said) == 79


def test_a_name_of_wide_characters_takes_twice_the_room() -> None:
    said = wording.status(GONE, "日本語サーバーのような長い名前", 3.2, 80)
    assert said == "kssh: 日本語…: link lost after 2h13m; retry 2 in 4 s" + KEYS
    assert len(said) + len("日本語") in (78, 79)


# Characters without a width are counted by len() alone.
@given(
    st.text(st.characters(blacklist_categories=("Mn", "Me", "Cf", "Cs")), max_size=60),
    WAITS,
    st.integers(2, 300),
)
def test_whatever_is_said_fits_the_terminal(reason: str, left_s: float | None, columns: int) -> None:
    assert len(wording.status(GONE._replace(reason=reason), "host", left_s, columns)) < columns


def test_back_says_how_long_and_what_was_lost() -> None:
    up = Report(UP, start=2, delay_s=61.0)
    assert wording.back(up, GONE, "h", dropped=False) == "kssh: h: back after 1 min 1 s"
    assert wording.back(up, GONE, "h", dropped=True).endswith("; what was typed meanwhile was discarded")
    assert wording.back(Report(UP, start=2), GONE, "h", dropped=False) == "kssh: h: back"


# event, outcome, start, limit: level for a person, level for a log
LEVELS = {
    (UP, "", 1, False): ("VERBOSE", "INFO"),
    (UP, "", 2, False): ("INFO", "INFO"),
    (DOWN, LOST, 1, False): ("DEBUG", "DEBUG"),
    (RETRY, LOST, 2, False): ("INFO", "INFO"),
    (GAVE_UP, UNREACHABLE, 1, False): ("VERBOSE", "ERROR"),  # ssh has said it already
    (GAVE_UP, UNREACHABLE, 1, True): ("ERROR", "ERROR"),
    (GAVE_UP, UNREACHABLE, 2, False): ("ERROR", "ERROR"),
    (GAVE_UP, HOST_KEY, 1, False): ("VERBOSE", "ERROR"),
    (GAVE_UP, HOST_KEY, 2, False): ("ERROR", "ERROR"),
    (ENDED, FINISHED, 3, False): ("VERBOSE", "INFO"),
    (ENDED, LEFT, 3, False): ("VERBOSE", "INFO"),
    (ENDED, LEFT, 3, True): ("INFO", "INFO"),  # KSSH_MAXLIFETIME
    (ENDED, LOST, 3, False): ("INFO", "INFO"),
}


@pytest.mark.parametrize(("event", "result", "start", "limit"), LEVELS)
def test_how_loud_a_report_is(event: str, result: str, start: int, limit: bool) -> None:
    report = Report(event, result, "" if event == UP else "why", start, limit=limit)
    assert (wording.level(report, True), wording.level(report, False)) == LEVELS[event, result, start, limit]


def test_what_is_missing_and_what_people_must_fix_is_loud() -> None:
    for report in (Report(UP, "", "a port is missing", 1), Report(RETRY, DENIED, "no", 2, by_people=True)):
        assert wording.level(report, True) == wording.level(report, False) == "ERROR"


MISSING = {
    "nothing": (seen(local_up=["[::1]:80"]), ""),
    "a remote port, told twice": (
        seen(remote_refused=["80", "80"]),
        "the server refused to listen on port 80",
    ),
    "a device": (seen(remote_refused=["-w"]), "the server refused a tunnel device (-w)"),
    "one address family": (
        seen(local_up=["[::1]:80"], local_held=["[127.0.0.1]:80"]),
        "port 80 is in use for IPv4, open for IPv6",
    ),
    "the other one": (
        seen(local_up=["[0.0.0.0]:80", "[::1]:81"], local_held=["[::]:80"]),
        "port 80 is in use for IPv6, open for IPv4",
    ),
    "one address of the user's own": (
        seen(local_up=["[10.0.0.1]:80", "[::1]:80"], local_held=["[127.0.0.1]:80"]),
        "port 80 is in use for 127.0.0.1, open for 10.0.0.1 and ::1",
    ),
    "a local port and more": (
        seen(local_held=["[::1]:80", "[127.0.0.1]:80"], remote_refused=["/s", "0"]),
        (
            "the server refused to listen on /s; the server refused to listen on a port; "
            "port 80 is in use on this machine"
        ),
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_what_is_missing_is_named(name: str) -> None:
    found, expected = MISSING[name]
    assert wording.missing(found) == expected


def test_a_hook_learns_the_facts() -> None:
    assert wording.hook_facts(Report(RETRY, LOST, "why", 2, 4.0, None)) == {
        "KSSH_EVENT": "retry",
        "KSSH_OUTCOME": "lost",
        "KSSH_REASON": "why",
        "KSSH_START": "2",
        "KSSH_DELAY": "4.000",
        "KSSH_SESSION": "",
        "KSSH_ALLOCATED": "",
    }
    up = Report(UP, start=1, allocated=((4000, "h:22"), (4001, "/s")))
    assert wording.hook_facts(up)["KSSH_ALLOCATED"] == "4000 4001"
    assert wording.hook_facts(Report(RETRY, delay_s=math.inf))["KSSH_DELAY"] == ""
