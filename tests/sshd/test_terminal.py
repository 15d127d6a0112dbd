"""kssh as a job of an interactive shell on a terminal, with a real sshd behind a relay: what a person meets.

Where the rule is "as ssh", the same steps are taken with ssh itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shlex
import subprocess
import sys
import termios
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from harness import (
    MARK,
    PROMPT as LOCAL,
    TIMEOUT_S,
    Relay,
    Sshd,
    Terminal,
    absent,
    alive,
    ends,
    free_port,
    marked,
    need,
    openssh_version,
    pause_typing,
    program,
    shell,
    type_line,
    wait_for,
)
from links import HOST_KEY_QUESTION, PROMPT, greets, quick

BOTH = pytest.mark.parametrize("command", ["ssh", program()], ids=["ssh", "kssh"])
SIZE = (
    f"{sys.executable} -c 'import fcntl, struct, termios; "
    'print("size", *struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8))), "end")\''
)
ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?]*[A-Za-z]|\].*?\x07)")


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


def states(processes: Iterable[psutil.Process]) -> set[str]:
    """Return the states of processes, as psutil names them."""
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(process.status())
    return found


def asks(terminal: Terminal, question: bytes | re.Pattern[bytes]) -> None:
    """Wait until ssh has asked a question and reads: before that it misses a signal."""
    terminal.expect(question)
    below = psutil.Process(terminal.pid).children(recursive=True)
    wait_for(lambda: states(below) == {psutil.STATUS_SLEEPING})


def jobs(terminal: Terminal) -> list[psutil.Process]:
    """Return all that stands on the terminal but its shell."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(process.pid) == terminal.pid != process.pid:
                found.append(process)
    return found


def type_by_hand(terminal: Terminal, line: bytes) -> None:
    """Type as a person does: key by key."""
    for at in range(len(line)):
        terminal.send(line[at : at + 1])
        time.sleep(0.03)


def at_local_prompt(terminal: Terminal) -> None:
    """Wait until the local shell carries out a command again."""
    terminal.expect(LOCAL)
    type_line(terminal, "echo here-$((1+1))")
    terminal.expect(b"here-2\r\n")
    terminal.expect(LOCAL)


def log_in(
    sshd: Sshd, command: str = "", through: Relay | None = None, words: str = "", extra: str = "", **env: str
) -> Terminal:
    """Return an interactive local shell from which kssh, or another ssh, has opened a remote one."""
    columns = int(env.pop("columns", "80"))
    config = sshd.config_for(through.port if through else sshd.port, extra)
    terminal = shell(columns=columns, env={**quick(), **env})
    type_line(terminal, f"{command or program()} -F {config} {words} t")
    terminal.expect(PROMPT)
    type_line(terminal, "PS1=remote; PS1=$PS1'> '; stty -echo; bind 'set enable-bracketed-paste off'")
    terminal.expect(b"remote> ")
    return terminal


def down(terminal: Terminal, relay: Relay) -> None:
    """Cut the link, let nothing through any more, and wait until kssh says that it waits."""
    relay.refuse()
    relay.reset()
    terminal.expect(b"Enter: now")


# Indistinguishable: the remote terminal.

SETTINGS = [
    "sane",
    "erase ^H -iutf8",
    "erase ^? iutf8",
    "intr ^X susp undef",
    "-ixon ixany",
    "-echoe cs7 parenb",
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_remote_settings_and_pixels_are_as_with_ssh(sshd: Sshd, settings: str) -> None:
    def remote(command: str) -> bytes:
        with shell() as terminal:
            terminal.resize(33, 99, 1010, 707)
            (sshd.directory / "size").write_text(SIZE)
            words = f"-F {sshd.config} -t t 'stty -a; echo $TERM; sh {sshd.directory}/size'"
            type_line(terminal, f"stty {settings}; {command} {words}")
            return terminal.expect(re.compile(rb"speed .*size 33 99 1010 707 end", re.DOTALL))[0]

    assert remote(program()) == remote("ssh")


def test_a_burst_of_resizes_ends_at_the_last_one(sshd: Sshd) -> None:
    with log_in(sshd) as terminal:
        for step in range(100):
            terminal.resize(20 + step % 40, 60 + step, 600 + step, 400 + step)
        (sshd.directory / "size").write_text(SIZE)

        def has_arrived() -> bool:
            type_line(terminal, f"sh {sshd.directory}/size")
            return terminal.expect(re.compile(rb"size (.*) end"))[1] == b"39 159 699 499"

        wait_for(has_arrived)


def test_a_paste_of_200_kb_is_complete_and_in_order(sshd: Sshd) -> None:
    lines = [b"%06d %s" % (n, random.Random(n).randbytes(12).hex().encode()) for n in range(6_250)]
    data = b"\r".join(lines)
    assert len(data) >= 190_000
    with log_in(sshd) as terminal:
        type_line(terminal, f"stty raw; echo ready; head -c {len(data)} | sha1sum; stty -raw")
        terminal.expect(b"ready")
        terminal.send(data)
        terminal.expect(hashlib.sha1(data).hexdigest().encode())


def test_50_mb_are_complete_with_a_slow_reader(sshd: Sshd, tmp_path: Path) -> None:
    data = random.Random(1).randbytes(5_000_000)
    (tmp_path / "data").write_bytes(data)
    files = " ".join([f"{tmp_path}/data"] * 10)
    with log_in(sshd) as terminal:
        type_line(terminal, f"stty raw; printf BEGIN; cat {files}; printf END; stty -raw")
        begin = terminal.expect(b"BEGIN").end()
        whole = begin + 10 * len(data)

        def is_whole() -> bool:
            if terminal.read() and not random.randrange(500):
                time.sleep(0.02)  # this makes it slow
            return len(terminal.output) >= whole

        wait_for(is_whole, what="50 MB")
        assert terminal.output[begin:whole] == data * 10
        terminal.expect(b"remote> ")


@BOTH
def test_what_ssh_says_at_the_end_stands_below_all_output(sshd: Sshd, command: str, tmp_path: Path) -> None:
    remote = f"stty raw; seq -s, 99999; echo END; touch {tmp_path}/sent"
    with Terminal([command, "-F", sshd.config, "-tt", "t", remote]) as terminal:
        wait_for((tmp_path / "sent").exists)  # all of it is on its way, to a terminal that takes none
        time.sleep(0.5)
        assert terminal.wait() == 0
    end = re.search(rb",99998,99999\nEND\n(.*)", terminal.output, re.DOTALL)
    assert end and re.fullmatch(rb"\r?Connection to 127\.0\.0\.1 closed\.\r+\n", end[1])


@BOTH
def test_a_local_command_has_the_terminal(sshd: Sshd, command: str) -> None:
    told = "LocalCommand=test -t 0 && test -t 1 && test -t 2 && echo all"
    words = ["-F", sshd.config, "-o", "PermitLocalCommand=yes", "-o", told, "-tt", "t", "echo remote"]
    with Terminal([command, *words]) as terminal:
        terminal.expect(re.compile(rb"all\r?\n.*remote\r\n", re.DOTALL))
        assert terminal.wait() == 0


# What ssh says itself, and the session's output: each in its place.


def has_log(process: psutil.Process) -> bool:
    """Tell whether it is the ssh of a session, not one that only answers a question."""
    try:
        return "-E" in process.cmdline()
    except psutil.Error:
        return False


def test_a_session_that_was_over_before_kssh_could_look_is_shown_in_order(tmp_path: Path) -> None:
    (tmp_path / "banner").write_text("No trespassing\n")
    with Sshd(tmp_path / "sshd", f"Banner {tmp_path}/banner") as sshd:
        with Terminal([program(), "-F", sshd.config, "-tt", "t", "echo out"]) as terminal:
            kssh = psutil.Process(terminal.pid)
            ssh = wait_for(lambda: next(filter(has_log, kssh.children()), None))
            kssh.suspend()
            wait_for(lambda: not ssh.is_running() or ssh.status() == psutil.STATUS_ZOMBIE)
            kssh.resume()
            assert terminal.wait() == 0
        shown = b"No trespassing\r\nout\r\nConnection to 127.0.0.1 closed.\r\r\n"
        assert bytes(terminal.output) == shown


@BOTH
def test_a_banner_stands_above_the_output(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, command: str
) -> None:
    (tmp_path / "banner").write_text("No trespassing\n")
    with Sshd(tmp_path_factory.mktemp("banner"), f"Banner {tmp_path}/banner") as sshd:
        for _ in range(5):
            with Terminal([command, "-F", sshd.config, "-tt", "t", "echo out"]) as terminal:
                assert terminal.wait() == 0
            shown = bytes(terminal.output).replace(b"\r", b"")
            assert shown == b"No trespassing\nout\nConnection to 127.0.0.1 closed.\n"


@BOTH
def test_ctrl_c_stops_a_flood(sshd: Sshd, command: str) -> None:
    with log_in(sshd, command) as terminal:
        type_line(terminal, "yes")
        wait_for(lambda: terminal.read() and len(terminal.output) > 3_000_000)
        at = len(terminal.output)
        terminal.send(b"\x03")
        terminal.expect(b"remote> ")
        # What was on its way; a reader of 10 MB/s has that within a second.
        assert len(terminal.output) - at < 10_000_000


@BOTH
def test_control_characters_act_on_the_remote_side(sshd: Sshd, command: str) -> None:
    with log_in(sshd, command) as terminal:
        for character, word in ((b"\x03", b""), (b"\x1c", b"Quit"), (b"\x1a", b"Stopped")):
            type_line(terminal, "echo go; sleep 1000")
            terminal.expect(b"go\r\n")
            wait_for(
                lambda: any(p.name() == "sleep" for p in psutil.Process(sshd.pid).children(recursive=True))
            )
            terminal.send(character)
            terminal.expect(word)
            terminal.expect(b"remote> ")
            # Ctrl-D does not log out while a stopped job is left.
            type_line(terminal, 'kill -9 %1; while [ "$(jobs)" ]; do sleep 0.1; done; echo left $?')
            terminal.expect(b"left 0\r\n")
            terminal.expect(b"remote> ")
        terminal.send(b"\x04")
        terminal.expect(b"logout")
        at_local_prompt(terminal)


# Indistinguishable: escape sequences.

ESCAPES = {
    "help": ("", b"~?"),
    "connections": ("", b"~#"),
    "the character itself": ("", b"~~x"),
    "another character": ("", b"~x"),
    "not at the start of a line": ("", b"a~?"),
    "none": ("-e none", b"~?~.~#"),
    "^A": ("-e ^A", b"\x01?"),
    "^A, and a tilde is ordinary": ("-e ^A", b"~?"),
    "none, configured": ("-o EscapeChar=none", b"~."),
    "another, configured": ("-o EscapeChar=%", b"%#"),
    "a command line": ("", b"~C"),
    "new keys": ("", b"~R"),
}


@pytest.mark.parametrize("case", ESCAPES)
def test_escape_sequences_are_as_with_ssh(sshd: Sshd, case: str) -> None:
    words, typed = ESCAPES[case]

    def shown(command: str) -> bytes:
        """Return what the screen shows up to where the remote side has what was typed behind."""
        config = ["-F", str(sshd.config), *words.split(), "-tt", "t"]
        with Terminal([command, *config, "stty -echo; echo ready; exec cat"]) as terminal:
            terminal.expect(b"ready\r\n")
            terminal.send(typed)
            terminal.send(b"\rend\r")
            terminal.expect(b"end\r\n")
            terminal.send(b"\x04")
            terminal.wait()
            return bytes(terminal.output)

    # kssh has ssh write its log elsewhere, so that descriptors have other numbers.
    assert re.sub(rb"\d+", b"N", shown(program())) == re.sub(rb"\d+", b"N", shown("ssh"))


@BOTH
@pytest.mark.parametrize("escape", ["~", "%"])
def test_escape_and_dot_end_it_with_255(sshd: Sshd, command: str, escape: str) -> None:
    with log_in(sshd, command, words=f"-e '{escape}'") as terminal:
        terminal.send(b"\r" + escape.encode() + b".")
        terminal.expect(re.compile(rb"Connection to 127.0.0.1 closed.\r+\n"))
        ends(terminal, 255)


@BOTH
@pytest.mark.parametrize("name", ["bash", "dash"])
def test_tilde_ctrl_z_suspends_and_fg_goes_on(sshd: Sshd, command: str, name: str) -> None:
    with shell(name) as terminal:
        before = terminal.modes()
        type_line(terminal, f"{command} -F {sshd.config} t")
        terminal.expect(PROMPT)
        type_line(terminal, "PS1=remote; PS1=$PS1'> '; stty -echo")
        terminal.expect(b"remote> ")
        terminal.send(b"\r~\x1a")
        terminal.expect(b"~^Z [suspend ssh]\r\n")
        if name == "bash":  # dash says it at the next command
            terminal.expect(b"Stopped")
        ends(terminal, 148)
        at_local_prompt(terminal)
        assert terminal.modes()[:4] == before[:4]
        terminal.resize(37, 121, 1210, 740)
        type_line(terminal, "fg")
        (sshd.directory / "size").write_text(SIZE)

        def has_arrived() -> bool:
            type_line(terminal, f"sh {sshd.directory}/size")
            return terminal.expect(re.compile(rb"size (.*) end"))[1] == b"37 121 1210 740"

        wait_for(has_arrived)
        type_line(terminal, "exit 5")
        ends(terminal, 5)


@BOTH
def test_tilde_ampersand_gives_the_terminal_back(sshd: Sshd, command: str) -> None:
    with log_in(sshd, command) as terminal:
        assert len(sshd.sessions()) == 1
        terminal.send(b"\r~&")
        terminal.expect(b"~& [backgrounded]\r\n")
        wait_for(lambda: not sshd.sessions(), what="the session to end")
        terminal.expect(b"logout")
        type_line(terminal, "echo was=$?")
        terminal.expect(b"was=0\r\n")
        at_local_prompt(terminal)


@BOTH
def test_tilde_ampersand_keeps_what_was_on_its_way_in_order(sshd: Sshd, command: str) -> None:
    with log_in(sshd, command) as terminal:
        type_line(terminal, "stty raw; seq -s, 60000; echo END; stty -raw")
        terminal.expect(b"1,2,3")
        time.sleep(0.3)  # now it is held up all the way, for nobody reads
        terminal.send(b"\r~&")
        terminal.expect(b"END")
        text = bytes(terminal.output)
        for between in (b"\r", b"~& [backgrounded]\n", LOCAL):
            text = text.replace(between, b"")
        assert b",".join(b"%d" % number for number in range(1, 60_001)) in text


@BOTH
def test_one_signal_ends_it_although_the_terminal_takes_nothing(sshd: Sshd, command: str) -> None:
    with Terminal([command, "-F", sshd.config, "-tt", "t", "yes"]) as terminal:
        terminal.expect(b"y\r\ny\r\n")
        time.sleep(0.3)  # until everything is full
        terminal.process.terminate()
        wait_for(lambda: terminal.process.poll() is not None)


# A server that gives no terminal.


@pytest.fixture(scope="module")
def bare_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("bare"), "PermitTTY no") as running:
        yield running


def at_bare_shell(terminal: Terminal) -> None:
    """Wait for a shell without a terminal or a prompt; then ssh has left raw mode as well."""
    terminal.expect(b"PTY allocation request failed on channel 0")
    terminal.send(b"echo $((6*7))\n")
    terminal.expect(b"42")


def test_without_a_terminal_over_there_the_output_is_as_with_ssh(bare_sshd: Sshd) -> None:
    def shown(command: str) -> bytes:
        with Terminal([command, "-F", bare_sshd.config, "t"]) as terminal:
            at_bare_shell(terminal)
            terminal.send(b"seq 3; echo err >&2; exit 3\r")
            assert terminal.wait() == 3
            return bytes(terminal.output).partition(b"42")[2]

    assert shown(program()) == shown("ssh")


def test_without_a_terminal_over_there_a_shared_master_s_output_is_as_with_ssh(
    bare_sshd: Sshd, tmp_path: Path
) -> None:
    words = ["-F", bare_sshd.config, "-S", tmp_path / "master"]

    def shown(command: str, more: str = "") -> tuple[int, bytes]:
        line = shlex.join(map(str, [command, *words, "-t", "t", "sleep 0.1; seq 3; exit 3"]))
        with Terminal(["sh", "-c", line + more]) as terminal:
            # ssh races with its master for what the terminal makes of the ends of their own lines.
            return terminal.wait(), bytes(terminal.output).replace(b"\r\r", b"\r")

    with subprocess.Popen(["ssh", *words, "-MNT", "t"], stdin=subprocess.DEVNULL) as master:
        wait_for((tmp_path / "master").exists)
        expected = shown("ssh")
        assert expected[0] == 3 and b"\r\n1\r\n2\r\n3\r\n" in expected[1]
        assert shown(program()) == expected
        elsewhere = f" 2>{tmp_path}/err"
        assert shown(program(), elsewhere) == shown("ssh", elsewhere) == (3, b"1\r\n2\r\n3\r\n")
        master.kill()


@BOTH
def test_without_a_terminal_over_there_a_session_that_must_have_one_ends(
    bare_sshd: Sshd, command: str
) -> None:
    with Terminal([command, "-F", bare_sshd.config, "-tt", "t"]) as terminal:
        assert terminal.wait() == 255
        assert b"PTY allocation request failed on channel 0\r\n" in terminal.output


@BOTH
@pytest.mark.parametrize("key", [b"\x1a", b"\x03"], ids=["Ctrl-Z", "Ctrl-C"])
def test_without_a_terminal_over_there_the_signal_keys_are_for_ssh(
    bare_sshd: Sshd, command: str, key: bytes
) -> None:
    with shell() as terminal:
        type_line(terminal, f"{command} -F {bare_sshd.config} t")
        at_bare_shell(terminal)
        terminal.send(key)
        if key == b"\x1a":
            terminal.expect(b"Stopped")
            at_local_prompt(terminal)
            type_line(terminal, "fg")
            type_line(terminal, "echo $((7*7)); exit 5")
            terminal.expect(b"49")
            ends(terminal, 5)
        else:
            at_local_prompt(terminal)


@BOTH
def test_a_prompt_is_shown_again_after_fg(sshd: Sshd, command: str) -> None:
    with shell() as terminal:
        options = "-o StrictHostKeyChecking=ask -o UserKnownHostsFile=/dev/null"
        type_line(terminal, f"{command} -F {sshd.config} {options} t")
        asks(terminal, HOST_KEY_QUESTION)
        terminal.send(b"\x1a")
        terminal.expect(b"^Z\r\n[1]+  Stopped")
        at_local_prompt(terminal)
        type_line(terminal, "fg")
        terminal.expect(HOST_KEY_QUESTION)
        type_line(terminal, "no")
        ends(terminal, 255)


# Another escape character.


@pytest.mark.parametrize("words", ["-e ^]", "-e \\\\", "-o EscapeChar=^]"])
@BOTH
def test_an_escape_character_of_the_user_s_own(sshd: Sshd, command: str, words: str) -> None:
    with log_in(sshd, command, words=words) as terminal:
        key = b"\x1d" if "]" in words else b"\\"
        begin = len(terminal.output)
        terminal.send(b"\r" + key + b"\x1a")
        terminal.expect(key + b"^Z [suspend ssh]\r\n")
        terminal.expect(b"Stopped")
        at_local_prompt(terminal)
        type_line(terminal, "fg")
        wait_for(lambda: not terminal.modes()[3] & termios.ECHO)
        terminal.send(b"\r" + key + b".")
        ends(terminal, 255)
        assert b"link lost" not in terminal.output[begin:]


# The keys that send signals to all of a job.


@pytest.mark.parametrize("key", [b"\x1a", b"\x03"], ids=["Ctrl-Z", "Ctrl-C"])
@pytest.mark.parametrize("name", ["bash", "dash"])
@BOTH
def test_a_signal_key_at_a_prompt_is_for_the_whole_job(
    sshd: Sshd, command: str, name: str, key: bytes
) -> None:
    options = "-o StrictHostKeyChecking=ask -o UserKnownHostsFile=/dev/null"
    script = f"for i in 1 2; do {command} -F {sshd.config} {options} t; echo st=$?; done"
    with shell() as terminal:
        type_line(terminal, f"{need(name)} -c '{script}'")
        asks(terminal, HOST_KEY_QUESTION)
        begin = len(terminal.output)
        wait_for(lambda: not terminal.modes()[3] & termios.ICANON or command == "ssh")
        terminal.send(key)
        terminal.expect(LOCAL)
        # The shell waits for dash alone: until the signal has come to ssh too, that takes what is typed.
        wait_for(lambda: states(jobs(terminal)) <= {psutil.STATUS_STOPPED})
        type_line(terminal, "echo here-$((1+1))")
        terminal.expect(b"here-2\r\n")
        assert (b"Stopped" in terminal.output[begin:]) == (key == b"\x1a")
        assert b"st=1" not in terminal.output[begin:]
        assert b"continue connecting" not in terminal.output[begin:]


def test_the_echo_of_an_answer_stands_before_what_ssh_says_to_it(sshd: Sshd) -> None:
    words = ["-F", sshd.config, "-o", "StrictHostKeyChecking=ask", "-o", "UserKnownHostsFile=/dev/null", "t"]
    for _ in range(8):  # without care it went wrong in one of five
        with Terminal([program(), *words]) as terminal:
            terminal.expect(HOST_KEY_QUESTION)
            type_by_hand(terminal, b"no\r")
            assert terminal.wait() == 255
            assert terminal.output.endswith(b"? no\r\nHost key verification failed.\r\n")


# What is typed ahead.


@pytest.mark.parametrize("name", ["bash", "dash"])
def test_lines_typed_ahead_are_shown_as_with_ssh(sshd: Sshd, name: str) -> None:
    """By the local terminal, where it echoes, and by the remote shell; nobody else shows them again."""
    shown = {}
    for command in ("ssh", program()):
        with shell(name) as terminal:
            begin = len(terminal.output)
            line = f"{command} -F {sshd.config} -tt t 'PS1= exec sh -i'\r"
            terminal.send(line.encode() + b"echo $((6*7)) ahead\rexit 3\r")
            terminal.expect(b"42 ahead\r\n")
            ends(terminal, 3)
            shown[command] = bytes(terminal.output[begin:]).count(b"$((6*7))")
    assert shown[program()] == shown["ssh"]


def test_what_was_typed_before_a_question_is_no_answer(sshd: Sshd) -> None:
    options = "-o StrictHostKeyChecking=ask -o UserKnownHostsFile=/dev/null"
    with shell() as terminal:
        terminal.send(f"{program()} -F {sshd.config} {options} t\ryes\r".encode())
        asks(terminal, HOST_KEY_QUESTION)
        type_line(terminal, "no")
        ends(terminal, 255)


@BOTH
def test_ctrl_c_behind_what_was_typed_ahead_ends_it(sshd: Sshd, relay: Relay, command: str) -> None:
    with shell() as terminal:
        relay.freeze()
        terminal.send(f"{command} -F {sshd.config_for(relay.port)} t\recho ahead\r".encode())
        wait_for(lambda: relay.accepted)
        terminal.send(b"\x03")
        ends(terminal, 130)


@BOTH
def test_an_escape_typed_ahead_ends_the_session(sshd: Sshd, relay: Relay, command: str) -> None:
    with shell() as terminal:
        relay.freeze()
        type_line(terminal, f"{command} -F {sshd.config_for(relay.port)} t")
        wait_for(lambda: relay.accepted)
        time.sleep(0.3)  # past the moment when the terminal is made raw, or not: it must not matter
        for key in (b"l", b"\r", b"~", b"."):
            terminal.send(key)
            time.sleep(0.1)
        relay.thaw()
        ends(terminal, 255)
        assert b"link lost" not in terminal.output
    assert len(relay.accepted) == 1


@pytest.mark.parametrize("words", ["banner", "banner without end", "typed ahead"])
def test_a_link_comes_back_whatever_was_said_before_the_session(tmp_path: Path, words: str) -> None:
    text = {"banner": "a legal notice\n" * 500, "banner without end": "Authorised use only."}.get(words, "")
    (tmp_path / "banner").write_text(text)
    with Sshd(tmp_path / "sshd", f"Banner {tmp_path}/banner") as sshd, Relay(sshd.port) as relay:
        if words == "typed ahead":
            relay.freeze()
        with shell(env=quick()) as terminal:
            type_line(terminal, f"{program()} -F {sshd.config_for(relay.port)} t")
            if words == "typed ahead":
                wait_for(lambda: relay.accepted)
                terminal.send(b"l")
                time.sleep(0.3)
                relay.thaw()
            terminal.expect(PROMPT)
            terminal.send(b"\r")
            terminal.expect(PROMPT)
            relay.reset()
            terminal.expect(b"kssh: t: back")


def test_an_interrupt_at_ssh_s_own_command_line_is_not_the_end(sshd: Sshd, relay: Relay) -> None:
    words = "-o IgnoreUnknown=EnableEscapeCommandline -o EnableEscapeCommandline=yes"
    with log_in(sshd, through=relay, words=words) as terminal:
        terminal.send(b"\r~C")
        asks(terminal, b"ssh> ")
        terminal.send(b"\x03")
        terminal.expect(b"remote> ")
        type_line(terminal, "echo $((6*7)) still")
        terminal.expect(b"42 still\r\n")
        relay.reset()
        terminal.expect(b"kssh: t: back")


# A local terminal that is raw, or nobody's.


@pytest.mark.parametrize("settings", ["-isig", "raw -echo"])
def test_the_end_is_told_in_order_on_a_terminal_that_is_raw_already(sshd: Sshd, settings: str) -> None:
    with shell() as terminal:
        for _ in range(6):  # without care it went wrong in one of three
            begin = len(terminal.output)
            type_line(
                terminal, f"stty {settings}; {program()} -F {sshd.config} -t t 'echo INN; exit 3'; stty sane"
            )
            terminal.expect(b"Connection to")
            terminal.expect(LOCAL)
            told = bytes(terminal.output[begin:]).partition(b"stty sane")[2]
            assert told.index(b"INN") < told.index(b"Connection to")


def test_without_a_controlling_terminal_askpass_answers(sshd: Sshd, tmp_path: Path) -> None:
    """As with ssh: "setsid" is how scripts get it to."""
    if openssh_version() < (8, 4):
        absent("an ssh that knows SSH_ASKPASS_REQUIRE")
    answer = tmp_path / "answer"
    answer.write_text("#!/bin/sh\necho yes\n")
    answer.chmod(0o755)
    options = f"-o StrictHostKeyChecking=ask -o UserKnownHostsFile={tmp_path}/known"
    with shell(env={"SSH_ASKPASS": str(answer), "DISPLAY": ":9"}) as terminal:
        type_line(terminal, f"setsid -w {program()} -F {sshd.config} {options} -t t 'echo $((6*7)) in'")
        terminal.expect(b"42 in\r\n")
        ends(terminal, 0)


# A connection that is shared.


@contextlib.contextmanager
def shared_master(sshd: Sshd, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A master of plain ssh at a socket."""
    words = ["ssh", "-F", sshd.config, "-S", path, "-MNT", "t"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as master:
        try:
            wait_for(path.exists)
            yield master
        finally:
            master.kill()


def test_a_session_of_a_shared_master_is_as_with_ssh(sshd: Sshd, tmp_path: Path) -> None:
    words = ["-F", sshd.config, "-S", tmp_path / "master"]

    def shown(command: str) -> tuple[int, bytes]:
        with Terminal([command, *words, "-tt", "t", "echo there; exit 7"]) as terminal:
            # The first line may come before ssh has made the terminal raw, and gets one more "\r" there.
            return terminal.wait(), bytes(terminal.output).replace(b"\r\r\n", b"\r\n")

    with shared_master(sshd, tmp_path / "master") as master:
        assert shown(program()) == shown("ssh")
        with Terminal([program(), *words, "t"], env=quick()) as terminal:
            terminal.expect(PROMPT)
            master.kill()
            terminal.expect(b"link lost")
            terminal.expect(PROMPT)  # by a connection of its own
            terminal.send(b"exit 4\r")
            assert terminal.wait() == 4


def test_a_suspended_kssh_does_not_hold_up_others_on_its_connection(sshd: Sshd, tmp_path: Path) -> None:
    words = f"-F {sshd.config} -S {tmp_path}/master"
    shared = f"ControlMaster auto\nControlPath {tmp_path}/master\n"
    with log_in(sshd, extra=shared) as terminal:
        terminal.send(b"\r~\x1a")
        terminal.expect(b"Stopped")
        at_local_prompt(terminal)
        others = ["ssh", *words.split(), "t", "head -c 300000000 /dev/zero"]
        with subprocess.Popen(others, stdout=subprocess.DEVNULL) as other:
            assert other.wait(TIMEOUT_S) == 0
        type_line(terminal, "fg")
        wait_for(lambda: not terminal.modes()[3] & termios.ECHO)
        type_line(terminal, "exit 5")
        ends(terminal, 5)


def test_a_suspended_kssh_does_not_hold_up_its_master(sshd: Sshd, tmp_path: Path) -> None:
    words = f"-F {sshd.config} -S {tmp_path}/master"

    def answers(limit_s: float) -> bool:
        try:
            return subprocess.call(["ssh", *words.split(), "t", "true"], timeout=limit_s) == 0
        except subprocess.TimeoutExpired:
            return False

    with (
        shared_master(sshd, tmp_path / "master"),
        log_in(sshd, words=f"-S {tmp_path}/master") as terminal,
    ):
        type_line(terminal, "stty -opost; head -c 12000000 /dev/zero; echo done")
        for _ in range(2):
            # Nobody reads the terminal.  As with ssh that mostly holds up the master; whether it does
            # depends on where in the pipe its last write ends, which no test can force.
            answers(3)
            terminal.send(b"\r~\x1a")
            terminal.expect(b"Stopped")
            at_local_prompt(terminal)
            assert answers(TIMEOUT_S)
            type_line(terminal, "fg")
        terminal.expect(b"\0done\n")
        type_line(terminal, "exit 5")
        ends(terminal, 5)


# Job control of a tunnel.


def tunnel(sshd: Sshd, port: int, words: str = "") -> str:
    forward = f"127.0.0.1:{port}:127.0.0.1:{sshd.port}"
    return f"-F {sshd.config} -N {words} -L {forward} t"


@BOTH
def test_a_tunnel_in_the_foreground_stops_and_goes_on(sshd: Sshd, command: str) -> None:
    port = free_port()
    with shell() as terminal:
        before = terminal.modes()
        type_line(terminal, f"{command} {tunnel(sshd, port)}")
        wait_for(lambda: greets(port))
        for onward in ("fg", "bg"):
            wait_for(lambda: terminal.modes() == before)
            terminal.send(b"\x1a")
            terminal.expect(b"Stopped")
            at_local_prompt(terminal)
            type_line(terminal, onward)
            wait_for(lambda: greets(port))
        at_local_prompt(terminal)
        type_line(terminal, "jobs")
        terminal.expect(b"Running")
        type_line(terminal, "kill %1; wait %1")
        at_local_prompt(terminal)
        assert terminal.modes() == before


@BOTH
def test_a_tunnel_in_the_background_is_not_stopped(sshd: Sshd, command: str) -> None:
    port = free_port()
    with shell() as terminal:
        type_line(terminal, f"{command} {tunnel(sshd, port)} &")
        wait_for(lambda: greets(port))
        at_local_prompt(terminal)
        type_line(terminal, "jobs")
        terminal.expect(b"Running")
        type_line(terminal, "kill %1; wait")
        at_local_prompt(terminal)


@BOTH
def test_a_prompt_in_the_background_stops_it(sshd: Sshd, command: str, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "open sesame", "-f", key], check=True)
    with (sshd.directory / "authorized_keys").open("a") as keys:
        keys.write((tmp_path / "key.pub").read_text())
    port = free_port()
    with shell() as terminal:
        before = terminal.modes()
        type_line(terminal, f"{command} {tunnel(sshd, port, f'-i {key} -o IdentityFile={key}')} &")

        def has_stopped() -> bool:
            type_line(terminal, "jobs; echo listed")
            return b"Stopped" in terminal.expect(re.compile(rb"\[1\](.*?)\r\nlisted", re.DOTALL))[1]

        wait_for(has_stopped)
        assert terminal.modes() == before
        type_line(terminal, "fg")
        terminal.expect(b"passphrase for key")
        terminal.send(b"open sesame\r")
        wait_for(lambda: greets(port))
        wait_for(lambda: terminal.modes() == before)
        terminal.send(b"\x03")
        at_local_prompt(terminal)
        assert b"sesame" not in terminal.output


# The window is closed.


@pytest.mark.parametrize("what", ["a shell", "a tunnel", "a tunnel in the background", "waiting"])
def test_nothing_is_left_when_the_window_is_closed(sshd: Sshd, relay: Relay, what: str) -> None:
    port = free_port()
    is_shell = what in ("a shell", "waiting")
    with log_in(sshd, through=relay) if is_shell else shell() as terminal:
        if what == "waiting":
            down(terminal, relay)
        elif not is_shell:
            type_line(terminal, f"{program()} {tunnel(sshd, port)}{' &' * what.endswith('background')}")
            wait_for(lambda: greets(port))
        terminal.hang_up()
        wait_for(lambda: not alive(terminal.pid), what="the local shell to end")
        wait_for(lambda: not marked(os.environ[MARK]), what="kssh and ssh to end")
        wait_for(lambda: not sshd.sessions(), what="the session to end")


# When the link dies.


def test_what_the_remote_side_set_is_undone_and_nothing_else(sshd: Sshd, relay: Relay) -> None:
    with log_in(sshd, through=relay) as terminal:
        type_line(
            terminal, r"printf '\033[?1049h\033[?1000;1006h\033[?25l\033[?2004h\033[4mX'; exec sleep 1000"
        )
        terminal.expect(b"\x1b[4mX")
        begin = len(terminal.output)
        relay.reset()
        terminal.expect(PROMPT)
        undone = bytes(terminal.output[begin:])
        for sequence in (b"?1049l", b"?1000l", b"?1006l", b"?2004l", b"?25h", b"0m"):
            assert b"\x1b[" + sequence in undone
        assert undone.index(b"?1049l") < undone.index(b"kssh: t: ")
        assert b"?1003" not in undone

        pause_typing()
        type_line(terminal, "stty -echo; bind 'set enable-bracketed-paste off'; echo plain; exec sleep 1000")
        terminal.expect(b"plain\r\n")
        begin = len(terminal.output)
        relay.reset()
        terminal.expect(b"kssh: t: back")
        assert b"?" not in terminal.output[begin:]


@pytest.mark.parametrize("term", ["xterm", "NO_COLOR", "dumb"])
def test_the_status_line_fits_the_terminal(sshd: Sshd, relay: Relay, term: str) -> None:
    env = {"NO_COLOR": "1"} if term == "NO_COLOR" else {"TERM": term}
    with log_in(sshd, through=relay, columns="46", **env) as terminal:
        begin = len(terminal.output)
        relay.refuse()
        relay.reset()
        terminal.expect(re.compile(rb"retry 3"))
        terminal.send(b"\x03")
        ends(terminal, 255)
        said = bytes(terminal.output[begin:]).partition(LOCAL)[0]
        *ours, last = [piece for piece in re.split(rb"[\r\n]+", said) if b"kssh:" in piece]
        assert last.endswith(b"; quit")
        assert ours
        widths = {piece: len(ESCAPE.sub(b"", piece).decode()) for piece in ours}
        assert max(widths.values()) < 46, widths
        assert (b"\x1b[33m" in said) == (term == "xterm")
        if term == "dumb":
            assert b"\x1b" not in said
        else:
            lines = [line for line in said.split(b"\r\n") if b"kssh:" in line]
            assert len(lines) == 1, "it is rewritten in place"


def test_quitting_while_it_waits(sshd: Sshd, relay: Relay) -> None:
    """What was typed before reaches the local shell no more than the remote one."""
    with log_in(sshd, through=relay) as terminal:
        down(terminal, relay)
        terminal.send(b"xyzzy\t")
        terminal.expect(re.compile(rb"retry [3-9] in"))
        terminal.expect(re.compile(rb"retry [4-9] in"))
        terminal.send(b"\x03")
        ends(terminal, 255)
        assert b"xyzzy" not in terminal.output
        assert b"not found" not in terminal.output


def test_enter_retries_now(sshd: Sshd, relay: Relay) -> None:
    with log_in(sshd, through=relay, KSSH_BACKOFF_MAX="600") as terminal:
        down(terminal, relay)
        wait_for(lambda: terminal.read() and re.search(rb"retry [5-9] in", terminal.output))
        shown = re.findall(rb"retry (\d) in", terminal.output)[-1]
        terminal.send(b"\r")
        terminal.expect(b"retry %d in" % (int(shown) + 1))
        terminal.send(b"\x03")
        ends(terminal, 255)


def test_ctrl_z_suspends_while_it_waits(sshd: Sshd, relay: Relay) -> None:
    with log_in(sshd, through=relay, KSSH_BACKOFF_MAX="600") as terminal:
        down(terminal, relay)
        terminal.send(b"\x1a")
        terminal.expect(b"Stopped")
        ends(terminal, 148)
        at_local_prompt(terminal)
        type_line(terminal, "fg")
        terminal.expect(b"Enter: now")
        relay.listen()
        terminal.expect(b"kssh: t: back after")
        terminal.expect(PROMPT)
        type_line(terminal, "exit 3")
        ends(terminal, 3)


def test_a_narrower_window_leaves_no_pieces_of_the_status_line(sshd: Sshd, relay: Relay) -> None:
    with log_in(sshd, through=relay, columns="120", KSSH_BACKOFF_MAX="600") as terminal:
        down(terminal, relay)
        terminal.resize(24, 60)
        terminal.expect(b"\r\x1b[J")  # the terminal has wrapped it
        terminal.expect(b"Enter: now")
        terminal.send(b"\x03")
        ends(terminal, 255)


@pytest.mark.parametrize("bell", ["1", "0"])
def test_back_rings_once_and_has_the_size_and_nothing_typed(sshd: Sshd, relay: Relay, bell: str) -> None:
    with log_in(sshd, through=relay, KSSH_BELL=bell) as terminal:
        down(terminal, relay)
        begin = len(terminal.output)
        terminal.send(b"xyzzy")
        terminal.resize(31, 91)
        terminal.expect(re.compile(rb"retry [3-9]"))
        relay.listen()
        terminal.expect(re.compile(rb"kssh: t: back after [^\n]*; what was typed meanwhile was discarded"))
        terminal.expect(PROMPT)
        type_line(terminal, "stty size; echo typed")
        terminal.expect(b"31 91\r\n")
        terminal.expect(b"typed\r\n")
        rung = ESCAPE.sub(b"", bytes(terminal.output[begin:])).count(b"\a")
        assert rung == int(bell)
        assert b"xyzzy" not in terminal.output
        type_line(terminal, "exit 4")
        ends(terminal, 4)


def test_a_line_that_is_typed_while_it_waits_stays_out_of_the_local_shell(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    with log_in(sshd, through=relay) as terminal:
        down(terminal, relay)
        terminal.expect(re.compile(rb"retry [4-9] in"))
        type_by_hand(terminal, b"sqlite3 db; touch %s/made\r" % os.fsencode(tmp_path))
        terminal.send(b"\x03")
        ends(terminal, 255)
        at_local_prompt(terminal)
        assert not (tmp_path / "made").exists()
        assert b"sqlite3" not in terminal.output


def test_the_rest_of_a_line_stays_out_of_the_new_session(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    with log_in(sshd, through=relay) as terminal:
        relay.reset()
        while b"kssh: t: back" not in terminal.output:
            type_by_hand(terminal, b"x")
            terminal.read()
        type_by_hand(terminal, b"; touch %s/made\r" % os.fsencode(tmp_path))
        pause_typing()
        type_line(terminal, "echo $((6*7)) whole")
        terminal.expect(b"42 whole\r\n")
        assert not (tmp_path / "made").exists()


# A paste of lines, as terminals send them: in one piece between marks (bracketed paste), or as if typed.
PASTES = pytest.mark.parametrize(
    ("begin", "end", "pause_s"),
    [(b"\x1b[200~", b"\x1b[201~", 0.7), (b"", b"", 0.02)],
    ids=["bracketed, on a slow line", "as if typed"],
)


@PASTES
def test_what_is_left_of_a_paste_stays_out_of_the_new_session(
    sshd: Sshd, relay: Relay, tmp_path: Path, begin: bytes, end: bytes, pause_s: float
) -> None:
    def lines(name: str) -> bytes:
        return b"touch %s/%s\r" % (os.fsencode(tmp_path), name.encode())

    with log_in(sshd, through=relay) as terminal:
        terminal.send(begin + lines("before"))
        relay.reset()
        while b"kssh: t: back" not in terminal.output:
            terminal.send(lines("meanwhile"))
            terminal.read()
            time.sleep(0.02)
        for _ in range(5):
            terminal.send(lines("after"))
            time.sleep(pause_s)
        terminal.send(end)
        pause_typing()
        type_line(terminal, "echo $((6*7)) whole")
        terminal.expect(b"42 whole\r\n")
    assert not [name for name in ("meanwhile", "after") if (tmp_path / name).exists()]


@PASTES
def test_what_is_left_of_a_paste_stays_out_of_the_local_shell(
    sshd: Sshd, relay: Relay, tmp_path: Path, begin: bytes, end: bytes, pause_s: float
) -> None:
    with shell() as terminal:
        config = sshd.config_for(relay.port)
        type_line(terminal, f"{program()} -F {config} -tt t 'echo at $((6*7)); exec cat'")
        terminal.expect(b"at 42\r\n")
        terminal.send(begin + b"a line\r")
        relay.reset()
        for _ in range(max(5, round(1 / pause_s))):
            terminal.send(b"touch %s/made\r" % os.fsencode(tmp_path))
            terminal.read()
            time.sleep(pause_s)
        terminal.send(end)
        ends(terminal, 255)
    assert not (tmp_path / "made").exists()


def test_behind_a_jump_host_the_status_line_names_what_failed(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    through = sshd.config_for(relay.port)
    config = tmp_path / "config"
    config.write_text(f"Host j\nProxyCommand none\n{through.read_text().replace('Host t', 'Match all')}")
    with shell(env=quick()) as terminal:
        type_line(terminal, f"{program()} -F {config} -o HostName=127.0.0.1 -J j t")
        terminal.expect(PROMPT)
        down(terminal, relay)
        terminal.expect(re.compile(rb"retry [3-9] in"))
        begin = len(terminal.output)
        terminal.expect(re.compile(rb"\(Connection refused\); retry [4-9]: connecting"))
        terminal.expect(re.compile(rb"retry [5-9] in"))
        assert b"ssh: connect" not in terminal.output[begin:]
        terminal.send(b"\x03")
        ends(terminal, 255)


# A session that is found again.


def test_tmux_has_the_very_same_screen_after_a_reconnect(tmp_path: Path) -> None:
    need("tmux")
    with Sshd(tmp_path / "sshd", "AcceptEnv TMUX_TMPDIR") as sshd, Relay(sshd.port) as relay:
        config = sshd.config_for(relay.port, f"SetEnv TMUX_TMPDIR={tmp_path}")
        with shell(env={**quick(), "KSSH_RESUME": "tmux"}) as terminal:
            type_line(terminal, f"{program()} -F {config} t")
            terminal.expect(PROMPT)
            type_line(terminal, "word=abra; echo ${word}cadabra $$")
            shown = terminal.expect(re.compile(rb"abracadabra \d+"))[0]
            relay.reset()
            terminal.expect(b"kssh: t: back")
            terminal.expect(shown)  # tmux paints it again
            pause_typing()
            type_line(terminal, "echo ${word}cadabra $$ again")
            terminal.expect(shown + b" again")
            type_line(terminal, "exit")
            at_local_prompt(terminal)


def test_a_remote_side_without_tmux_opens_a_plain_shell_and_says_so(tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "sh").symlink_to(need("sh"))
    environment = f"SetEnv PATH={bare} HOME={tmp_path} {MARK}={os.environ[MARK]}"
    with Sshd(tmp_path / "sshd", environment) as sshd, shell(env={"KSSH_RESUME": "tmux"}) as terminal:
        type_line(terminal, f"{program()} -F {sshd.config} t")
        terminal.expect(b"kssh: tmux was not found on this host; opening a plain shell\r\n")
        terminal.expect(PROMPT)
        type_line(terminal, "exit 6")
        ends(terminal, 6)


# A link that is silent.


def test_silence_is_told_in_the_title_and_goes_by_itself(sshd: Sshd, relay: Relay) -> None:
    """Beside it another that is told not to."""
    loud, quiet_one = log_in(sshd, through=relay), log_in(sshd, through=relay, KSSH_STALL_NOTICE="0")
    with loud as terminal, quiet_one as quiet:
        begin = len(quiet.output)
        relay.freeze()
        quiet.send(b"e")
        terminal.send(b"echo thawed\r")
        title = rb"\x1b\]2;kssh: t: no answer for (\d+) s\x07"
        first = int(terminal.expect(re.compile(rb"\x1b\[22;2t" + title))[1])
        assert first >= 6
        assert int(terminal.expect(re.compile(title))[1]) > first
        relay.thaw()
        terminal.expect(b"\x1b]2;\x07\x1b[23;2t")  # emptied for terminals that keep no stack of them
        terminal.expect(b"thawed\r\n")
        type_line(quiet, "cho thawed")
        quiet.expect(b"thawed\r\n")
        assert b"\x1b" not in quiet.output[begin:]
        for each in (terminal, quiet):
            type_line(each, "exit 2")
            ends(each, 2)
