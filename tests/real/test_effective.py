"""What the real ssh tells of its configuration, and how long it may take to do so."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness import alive, need, wait_for
from pykeepssh.ssh.args import CommandLine, parse
from pykeepssh.system import config_files
from pykeepssh.system.config_files import Files
from pykeepssh.system.effective import Question, ask_configuration, explicit, parse_configuration

ENVIRONMENT = dict(os.environb)
DEFAULTS = {"serveraliveinterval": "15", "exitonforwardfailure": "yes", "streamlocalbindunlink": "yes"}


# Debian has more names for ServerAliveInterval.
_ASKED = subprocess.run([need("ssh"), "-G", "-oSetupTimeOut=5", "h"], capture_output=True, check=False)
DEBIAN = _ASKED.returncode == 0


def line_of(*words: str) -> CommandLine:
    return parse(words, lambda: False)


# -- one limit over all --------------------------------------------------------------------------------

# Each ends in time for no read to wait for long, and not in time as a whole; $$ is noted.
SLOW = {
    "says nothing": "sleep 600",
    "says a little, again and again": "while :; do echo x; sleep 0.1; done",
    "has said all and does not end": "exec >&-; sleep 600",
    "has a child that says nothing": "sleep 600 & wait",
}


@pytest.mark.parametrize("name", SLOW)
def test_one_limit_is_over_all_of_an_answer_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    question = Question("/bin/sh", ["-c", f"echo $$ >{note}; {SLOW[name]}"], ENVIRONMENT)
    pid = int(wait_for(lambda: note.exists() and note.read_text().strip()))
    below = psutil.Process(pid).children(recursive=True)
    began = time.monotonic()
    _, status = question.answer(0.5)
    assert status is None
    assert time.monotonic() - began >= 0.5
    assert not alive(pid)
    wait_for(lambda: not any(alive(process.pid) for process in below), what="its children to go")


@pytest.mark.parametrize(("script", "expected"), [("echo a; exit 3", 3), ("kill -9 $$", -9)])
def test_an_answer_is_what_was_printed_and_the_status(script: str, expected: int) -> None:
    output, status = Question("/bin/sh", ["-c", script], ENVIRONMENT).answer()
    assert (output, status) == (b"a\n" if expected == 3 else b"", expected)


def test_what_an_answer_left_running_goes_on(tmp_path: Path) -> None:
    """As a "Match exec" that opens a door may do."""
    note = tmp_path / "note"
    script = f"(sleep 0.2; echo done >{note}) >&- & exit 0"
    assert Question("/bin/sh", ["-c", script], ENVIRONMENT).answer()[1] == 0
    wait_for(note.exists)


def test_the_question_has_no_terminal_to_ask_on() -> None:
    script = (
        "exec 2>/dev/null; (: </dev/tty) && echo terminal; cat; ps -o sid= -p $$ | grep -qw $$ && echo leads"
    )
    output, _ = Question("/bin/sh", ["-c", script], ENVIRONMENT).answer()
    assert output == b"leads\n"


# -- what the files say --------------------------------------------------------------------------------

# The configuration files by name, the first of which is for -F; what of DEFAULTS they set to what ssh
# takes anyway.
FILES: dict[str, tuple[dict[str, str], set[str]]] = {
    "nothing": ({"config": ""}, set()),
    "an interval of 0": ({"config": "ServerAliveInterval 0"}, {"serveraliveinterval"}),
    "written otherwise": ({"config": '\tserveraliveinterval = "0"'}, {"serveraliveinterval"}),
    "for this host": ({"config": "Host h*\n ServerAliveInterval 0"}, {"serveraliveinterval"}),
    "for another host": ({"config": "Host other\n ServerAliveInterval 0"}, set()),
    "for another user": ({"config": "Match user nobody-here\n ServerAliveInterval 0"}, set()),
    "for all but others": (
        {"config": "Match host !other,*\n ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "by a command": ({"config": 'Match exec "true"\n ServerAliveInterval 0'}, {"serveraliveinterval"}),
    "not by a command": ({"config": 'Match exec "false"\n ServerAliveInterval 0'}, set()),
    "in the end": ({"config": "Match final\n ServerAliveInterval 0"}, {"serveraliveinterval"}),
    "a comment": ({"config": "# ServerAliveInterval 0"}, set()),
    "forwards need not stand": ({"config": "ExitOnForwardFailure no"}, {"exitonforwardfailure"}),
    "a socket is to stay": ({"config": "StreamLocalBindUnlink no"}, {"streamlocalbindunlink"}),
    "all of them": (
        {"config": "ServerAliveInterval 0\nExitOnForwardFailure no\nStreamLocalBindUnlink no"},
        set(DEFAULTS),
    ),
    "the first value counts": (
        {"config": "ServerAliveInterval 0\nServerAliveInterval 60"},
        {"serveraliveinterval"},
    ),
    "in an included file": (
        {"config": "Include {folder}/more", "more": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in an included file at home": (
        {"config": "Include ~/more", "home/more": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in one of many": (
        {"config": "Host h\nInclude {folder}/*.conf", "a.conf": "", "b.conf": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in one that an included file includes": (
        {"config": "Include {folder}/a", "a": "Include {folder}/b", "b": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in a file for another host": (
        {"config": "Host other\nInclude {folder}/more", "more": "ServerAliveInterval 0"},
        set(),
    ),
    "in a quoted file": (
        {"config": 'Include "{folder}/m ore"', "m ore": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in a folder of many": (
        {"config": "Include {folder}/*/more", "sub/more": "ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "in a file that includes itself": ({"config": "Include {folder}/a", "a": "Include {folder}/a"}, set()),
    "in a file with an odd name": ({"co[n]f*g": "ServerAliveInterval 0"}, {"serveraliveinterval"}),
    "in a file whose name cannot be asked for": (
        {'co"nfig': "Host other\n ServerAliveInterval 0"},
        {"serveraliveinterval"},
    ),
    "by a name that only Debian knows": (
        {"config": "IgnoreUnknown ProtocolKeepAlives\nProtocolKeepAlives 0"},
        {"serveraliveinterval"} if DEBIAN else set(),
    ),
    "another keyword": ({"config": "ServerAliveCountMax 0"}, set()),
}


@pytest.mark.parametrize("name", FILES)
def test_a_word_of_the_user_s_is_known_although_it_changes_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, expected = FILES[name]
    environment = {**ENVIRONMENT, b"HOME": os.fsencode(tmp_path / "home")}
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text.replace("{folder}", str(tmp_path)) + "\n")
    ssh = need("ssh")
    line = line_of("-F", str(tmp_path / next(iter(files))), "-N", "h")
    output, status = ask_configuration(ssh, line, environment).answer()
    if status != 0:
        assert name == "in a file that includes itself"
        return
    configuration = parse_configuration(output)
    read = Files(line)
    named = read.naming(DEFAULTS)
    assert named >= expected
    if name in ("nothing", "another keyword"):
        assert not named
    assert explicit(ssh, line, environment, read, configuration, DEFAULTS) == expected


# What needs no second question: a line of a file.
NO_QUESTION = [
    "ServerAliveInterval 60",
    "Host other\nServerAliveInterval 60",
    "ExitOnForwardFailure yes",
    "# ServerAliveInterval 0",
]


@pytest.mark.parametrize("text", NO_QUESTION)
def test_a_word_that_ssh_tells_of_needs_no_second_question(text: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text + "\n")
    files = Files(line_of("-F", str(tmp_path / "config"), "h"))
    files.naming(DEFAULTS)
    # A program that does not tell leaves every word to the user.
    assert explicit("/bin/false", line_of("h"), ENVIRONMENT, files, {}, DEFAULTS) == frozenset()


@pytest.mark.parametrize("value", ["0", "00", "0s", '"0"', "'0'", "= 0", "=0", "no"])
def test_a_nothing_is_known_however_it_is_written(value: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(f"\tserveraliveINTERVAL {value}\n")
    files = Files(line_of("-F", str(tmp_path / "config"), "h"))
    files.naming(DEFAULTS)
    assert explicit("/bin/false", line_of("h"), ENVIRONMENT, files, {}, DEFAULTS) == {"serveraliveinterval"}


def test_a_relative_include_of_the_system_s_is_left_to_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the file that ssh is asked with it would be one of the user's folder."""
    (tmp_path / "more").write_text("ServerAliveInterval 0\n")
    (tmp_path / "ssh_config").write_text("Include more\n")
    monkeypatch.setattr(config_files, "SYSTEM_FILES", (str(tmp_path / "ssh_config"),))
    files = Files(line_of("h"))
    files.naming(DEFAULTS)
    found = explicit(need("ssh"), line_of("h"), ENVIRONMENT, files, {"serveraliveinterval": ["0"]}, DEFAULTS)
    assert found == {"serveraliveinterval"}


def test_the_command_line_is_a_word_too(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host other\n ServerAliveInterval 0\n")
    line = line_of("-F", str(tmp_path / "config"), "-oServerAliveInterval=0", "h", "-N")
    configuration = parse_configuration(ask_configuration(need("ssh"), line, ENVIRONMENT).answer()[0])
    files = Files(line)
    files.naming(DEFAULTS)
    found = explicit(need("ssh"), line, ENVIRONMENT, files, configuration, DEFAULTS)
    assert found == {"serveraliveinterval"}


def test_an_ssh_that_does_not_tell_leaves_the_word_to_the_user(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host other\nServerAliveInterval 0\nExitOnForwardFailure no\n")
    line = line_of("-F", str(tmp_path / "config"), "h")
    files = Files(line)
    files.naming(DEFAULTS)
    for path in ("/bin/false", "/nonexistent"):
        found = explicit(path, line, ENVIRONMENT, files, {}, DEFAULTS)
        assert found == {"serveraliveinterval", "exitonforwardfailure"}
