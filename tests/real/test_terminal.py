"""ssh on a terminal of kssh's: a fake ssh on a real pty sees what ssh would see."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import sys
import termios
import time
from pathlib import Path

import psutil
import pytest

from harness import (
    PROMPT,
    TIMEOUT_S,
    FakeSsh,
    Terminal,
    alive,
    fake_ssh,
    pause_typing,
    program,
    shell,
    wait_for,
)
from links import CONNECT, FINISH, LOSE, REFUSE, SESSION, STAY, Kssh, background, started, with_fake

# Prints struct winsize: rows, columns and pixels.
SIZE = (
    f"{sys.executable} -c 'import fcntl, struct, termios\n"
    'size = fcntl.ioctl(0, termios.TIOCGWINSZ, bytes(8)); print("size", *struct.unpack("HHHH", size))\'\n'
)
READY = "stty raw -echo; echo ready\n"  # what a remote shell's line editor does to its own terminal


def on_terminal(fake: FakeSsh, *words: str, **variables: object) -> Terminal:
    return Terminal([program(), *(words or ("host",))], env=with_fake(fake, **variables))


def saved(terminal: Terminal) -> list[object]:
    """Return the settings of a terminal before anything has touched them."""
    return list(terminal.modes())


# How it ends.


@pytest.mark.parametrize(
    "words", [("host",), ("-tt", "host", "command"), ("-t", "host", "tmux", "attach")], ids=" ".join
)
@pytest.mark.parametrize("status", [0, 1, 2, 3, 130, 255])
def test_the_status_is_ssh_s(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}echo said; finish {status}")
    with on_terminal(fake, *words) as terminal:
        before = saved(terminal)
        assert terminal.wait() == status
        assert terminal.output == b"said\r\n"
        assert terminal.modes() == before
    assert len(fake.starts) == 1


@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT"])
def test_a_shell_whose_ssh_was_asked_to_end_is_over(tmp_path: Path, name: str) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}kill -{name} $$; exec sleep 600")
    with on_terminal(fake) as terminal:
        before = saved(terminal)
        assert terminal.wait() == -getattr(signal, f"SIG{name}")
        assert terminal.modes() == before
    assert len(fake.starts) == 1


@pytest.mark.parametrize("name", ["KILL", "SEGV", "TERM"])
def test_an_ssh_ended_by_a_signal_before_the_session_is_over(tmp_path: Path, name: str) -> None:
    fake = fake_ssh(tmp_path, f"ulimit -c 0; kill -{name} $$; exec sleep 600")
    with on_terminal(fake) as terminal:
        before = saved(terminal)
        assert terminal.wait() == -getattr(signal, f"SIG{name}")
        assert terminal.modes() == before
    assert len(fake.starts) == 1


@pytest.mark.parametrize("name", ["KILL", "SEGV"])
def test_a_command_whose_ssh_is_killed_is_not_run_again(tmp_path: Path, name: str) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}ulimit -c 0; kill -{name} $$; exec sleep 600")
    with on_terminal(fake, "-t", "host", "command") as terminal:
        before = saved(terminal)
        assert terminal.wait() == -getattr(signal, f"SIG{name}")
        assert terminal.modes() == before
    assert len(fake.starts) == 1


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR2", "ALRM"])
def test_a_signal_to_kssh_ends_both_and_restores_the_terminal(tmp_path: Path, name: str) -> None:
    signum = getattr(signal, f"SIG{name}")
    fake = fake_ssh(tmp_path, f"ulimit -c 0; {SESSION}{READY}{STAY}")
    with on_terminal(fake) as terminal:
        before = saved(terminal)
        terminal.expect(b"ready")
        os.kill(terminal.pid, signum)
        assert terminal.wait() == -signum
        assert terminal.modes() == before
        assert not alive(fake.starts[0].pid)
    assert len(fake.starts) == 1


def test_an_ssh_killed_from_outside_leaves_the_terminal_restored(tmp_path: Path) -> None:
    """A shell that was there is started again: that one ends by itself."""
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{READY}[ $start = 1 ] || finish 5\n{STAY}")
    with on_terminal(fake) as terminal:
        before = saved(terminal)
        terminal.expect(b"ready")
        os.kill(fake.starts[0].pid, signal.SIGKILL)
        assert terminal.wait() == 5
        assert terminal.modes() == before
    assert len(fake.starts) == 2


def test_the_limit_restores_the_terminal_and_says_so(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{READY}{LOSE}")
    with on_terminal(fake, MAXSTART=3, BACKOFF_MAX=1) as terminal:
        before = saved(terminal)
        assert terminal.wait() == 255
        assert terminal.modes() == before
        assert re.search(rb"giving up after 3 starts [^\n]*link lost[^\n]*\r\n$", terminal.output)
    assert len(fake.starts) == 3


def test_a_failure_of_kssh_s_own_restores_the_terminal_and_ends_ssh(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.mkdir()
    # Breaks a pure function of kssh's, in kssh only.
    (fault / "sitecustomize.py").write_text(
        "if 'kssh' in open('/proc/self/cmdline').read():\n"
        "    from pykeepssh.ssh import log_reader\n"
        "    def fail(*words):\n"
        "        raise RuntimeError('on purpose\\x1b[31m')\n"
        "    log_reader.LogReader.feed = fail\n"
    )
    fake = fake_ssh(tmp_path, f"{READY}sleep 0.1; {SESSION}{STAY}")
    env = {**with_fake(fake), "PYTHONPATH": str(fault)}
    with Terminal([program(), "host"], env=env) as terminal:
        before = saved(terminal)
        assert terminal.wait() == 255
        assert terminal.modes() == before
        shown = bytes(terminal.output).replace(b"ready\r\n", b"").replace(b"ready\n", b"")
        assert shown.count(b"\n") == 1
        assert b"internal error: RuntimeError: on purpose\\033[31m" in shown
    wait_for(lambda: not alive(fake.starts[0].pid))


def test_an_ssh_that_cannot_be_run_restores_the_terminal(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    # Gone once it was asked for its configuration.
    ssh.write_text('#!/bin/sh\n[ "$1" = -G ] && rm "$0"\nexit 0\n')
    ssh.chmod(0o755)
    with Terminal([program(), "host"], env={"KSSH_SSH": str(ssh)}) as terminal:
        before = saved(terminal)
        assert terminal.wait() == 255
        assert terminal.modes() == before
        assert re.fullmatch(rb"kssh: [^\n]*cannot run [^\n]*\r\n", terminal.output)


def test_a_terminal_that_goes_away_ends_both(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{READY}{STAY}")
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        terminal.hang_up()
        assert terminal.process.wait(TIMEOUT_S) == -signal.SIGHUP
    wait_for(lambda: not alive(fake.starts[0].pid))
    assert len(fake.starts) == 1


def test_kill_9_of_kssh_takes_ssh_along(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{READY}{STAY}")
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        os.kill(terminal.pid, signal.SIGKILL)
        wait_for(lambda: not alive(fake.starts[0].pid))


# What ssh sees.


def test_ssh_begins_with_the_user_s_settings_and_size(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f'echo "modes $(stty -g)"\n{SIZE}exit 0')
    script = 'stty erase ^H intr ^G -ixon -echoe iutf8; echo "was $(stty -g)"; read go; exec "$@"'
    command = ["sh", "-c", script, "sh", program(), "host"]
    with Terminal(command, env=with_fake(fake)) as terminal:
        terminal.resize(33, 99, 990, 660)
        was = terminal.expect(re.compile(rb"was (\S+)\r\n"))[1]
        terminal.send(b"\n")
        assert terminal.expect(re.compile(rb"modes (\S+)\r\n"))[1] == was
        terminal.expect(b"size 33 99 990 660")
        assert terminal.wait() == 0


def test_a_second_ssh_begins_with_them_too(tmp_path: Path) -> None:
    fake = fake_ssh(
        tmp_path, f'{FINISH}{SESSION}echo "modes $(stty -g)"\n{SIZE}[ $start = 1 ] || finish 0\n{LOSE}'
    )
    script = 'stty erase ^H; echo "was $(stty -g)"; read go; exec "$@"'
    with Terminal(["sh", "-c", script, "sh", program(), "host"], env=with_fake(fake)) as terminal:
        terminal.resize(33, 99, 990, 660)
        was = terminal.expect(re.compile(rb"was (\S+)\r\n"))[1]
        terminal.send(b"\n")
        for _ in range(2):
            assert terminal.expect(re.compile(rb"modes (\S+)\r\n"))[1] == was
            terminal.expect(b"size 33 99 990 660")
        assert terminal.wait() == 0


def test_a_new_size_reaches_ssh(tmp_path: Path) -> None:
    wait = 'trap got=yes WINCH\necho ready\nwhile [ ! "$got" ]; do sleep 0.02; done\n'
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{wait}{SIZE}finish 0")
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        terminal.resize(50, 132, 1320, 1000)
        terminal.expect(b"size 50 132 1320 1000")
        assert terminal.wait() == 0


def test_every_byte_passes_both_ways(tmp_path: Path) -> None:
    echo = f"{sys.executable} -c 'import os\nwhile d := os.read(0, 999): os.write(1, d)'"
    fake = fake_ssh(tmp_path, f"{SESSION}{READY}{echo}")
    data = bytes(range(256)) * 3
    with on_terminal(fake) as terminal:
        terminal.expect(re.compile(rb"ready\r?\n"))
        begin = len(terminal.output)
        terminal.send(data)
        wait_for(lambda: terminal.read() is None or len(terminal.output) >= begin + len(data))
        assert terminal.output[begin:] == data


def test_a_flood_arrives_whole_and_in_order(tmp_path: Path) -> None:
    data = random.Random(7).randbytes(2_000_000)
    (tmp_path / "data").write_bytes(data)
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{READY}cat {tmp_path}/data; finish 0")
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 0
        assert re.sub(rb"\Aready\r?\n", b"", terminal.output) == data


def test_a_paste_arrives_whole_at_a_slow_reader(tmp_path: Path) -> None:
    """As long as nobody reads, kssh holds the typist back; nothing is lost."""
    data = b"".join(b"%07d\n" % number for number in range(40_000))
    take = (
        f"{sys.executable} -c 'import hashlib, os, time\n"
        "time.sleep(0.3)\n"  # a slow reader
        f"h = hashlib.sha1(); left = {len(data)}\n"
        "while left: d = os.read(0, 999); h.update(d); left -= len(d)\n"
        'print("sum", h.hexdigest())\'\n'
    )
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{READY}{take}finish 0")
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        terminal.send(data)
        terminal.expect(b"sum " + hashlib.sha1(data).hexdigest().encode())
        assert terminal.wait() == 0


def test_a_terminal_that_nobody_looks_at_holds_ssh_back(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{READY}exec cat /dev/zero")
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        kssh = psutil.Process(terminal.pid)
        cat = psutil.Process(started(fake).pid)

        def stands_still() -> bool:
            before = cat.io_counters().write_chars
            time.sleep(0.3)
            return cat.io_counters().write_chars == before

        wait_for(stands_still, what="ssh to be held back")
        assert cat.io_counters().write_chars < 1_000_000
        used_s = kssh.cpu_times().user + kssh.cpu_times().system
        time.sleep(0.5)  # to see that nothing happens in it
        assert kssh.cpu_times().user + kssh.cpu_times().system - used_s < 0.1, "it must not spin"


@pytest.mark.parametrize("words", [("host",), ("-t", "host", "command")], ids=" ".join)
def test_standard_error_redirected_elsewhere_stays_there(tmp_path: Path, words: tuple[str, ...]) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}echo error >&2; echo output; finish 3")
    command = [
        "sh",
        "-c",
        'file=$1; shift; exec "$@" 2>"$file"',
        "sh",
        tmp_path / "errors",
        program(),
        *words,
    ]
    with Terminal(command, env=with_fake(fake)) as terminal:
        assert terminal.wait() == 3
        assert terminal.output == b"output\r\n"
    assert (tmp_path / "errors").read_bytes() == b"error\n"


def test_standard_error_closed_stays_closed(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}echo output; finish 3")
    with Terminal(["sh", "-c", 'exec "$@" 2>&-', "sh", program(), "host"], env=with_fake(fake)) as terminal:
        assert terminal.wait() == 3
        assert terminal.output == b"output\r\n"


def test_the_last_words_before_the_end_are_shown(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}head -c 200000 /dev/zero | tr '\\0' x; echo end; finish 0")
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 0
        assert terminal.output.replace(b"x", b"") == b"end\r\n"
        assert terminal.output.count(b"x") == 200_000


def test_what_ssh_logs_for_the_user_is_shown_on_the_terminal(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}log 'Warning: something to know'; {SESSION}finish 0")
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 0
        assert terminal.output == b"Warning: something to know\r\n"


# What comes after.


def test_a_shell_whose_link_died_comes_back(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}echo shell $start; [ $start = 2 ] && finish 7\n{LOSE}")
    with on_terminal(fake) as terminal:
        before = saved(terminal)
        assert terminal.wait() == 7
        assert terminal.modes() == before
        terminal.expect(b"shell 1\r\n")
        terminal.expect(b"link lost")
        terminal.expect(b"shell 2\r\n")


ATTACHERS = [
    "tmux attach",
    "tmux new -A -s main",
    "screen -DR",
    "zellij attach",
    "byobu",
    "dtach -a s",
    "abduco -a s",
]
OTHERS = [
    "make deploy",
    "tmux new -d -s job deploy",
    "screen -dm deploy",
    "vim",
    "sudo reboot",
    "tmux attach; deploy",
]


@pytest.mark.parametrize(("command", "starts"), [*((c, 2) for c in ATTACHERS), *((c, 1) for c in OTHERS)])
def test_only_an_attacher_is_run_again(tmp_path: Path, command: str, starts: int) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}[ $start = 2 ] && finish 7\n{LOSE}")
    with on_terminal(fake, "-t", "host", command) as terminal:
        assert terminal.wait() == (7 if starts == 2 else 255)
    assert len(fake.starts) == starts


def test_always_is_the_user_s_word_to_run_a_command_again(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}[ $start = 2 ] && finish 7\n{LOSE}")
    with on_terminal(fake, "-t", "host", "deploy", RESTART="always") as terminal:
        assert terminal.wait() == 7
    assert len(fake.starts) == 2


def test_always_runs_a_stream_again_on_its_own_descriptors(tmp_path: Path) -> None:
    fake = fake_ssh(
        tmp_path,
        f"{FINISH}{SESSION}echo out $start; echo error $start >&2; [ $start = 2 ] && finish 7\n{LOSE}",
    )
    with Kssh(["host", "deploy"], with_fake(fake, RESTART="always"), stdout=-1) as kssh:
        assert kssh.process.stdout
        with kssh.process.stdout as out:
            assert out.read() == b"out 1\nout 2\n"
        assert kssh.wait() == 7
        assert "error 1\n" in kssh.said
        assert "error 2\n" in kssh.said


@pytest.mark.parametrize("words", [("host",), ("-N", "host"), ("-t", "host", "command")], ids=" ".join)
def test_a_first_failure_is_final_at_a_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    fake = fake_ssh(tmp_path, REFUSE)
    with on_terminal(fake, *words) as terminal:
        assert terminal.wait() == 255
        # ssh ends its lines with CR LF itself, whatever the terminal makes of that.
        shown = terminal.output.replace(b"\r", b"")
        assert shown == b"ssh: connect to host 127.0.0.1 port 22: Connection refused\n"
    assert len(fake.starts) == 1


def test_a_first_failure_is_retried_at_a_terminal_if_the_user_says_so(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}[ $start = 3 ] || {{ {REFUSE} }}\n{SESSION}finish 0")
    with on_terminal(fake, FIRST_START="retry", BACKOFF_MAX=1) as terminal:
        assert terminal.wait() == 0
    assert len(fake.starts) == 3


# What the user types.


def test_the_user_can_leave_while_kssh_waits(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] || {{ {REFUSE} }}\n{SESSION}{READY}{LOSE}")
    with on_terminal(fake, BACKOFF_MAX=600) as terminal:
        before = saved(terminal)
        terminal.expect(b"retry 3")

        def gone() -> bool:
            terminal.send(b"\x03")  # a start that is under way is ssh's to listen
            terminal.read()
            return terminal.process.poll() is not None

        wait_for(gone)
        assert terminal.wait() == 255
        assert terminal.modes() == before
    assert background() == []


def test_enter_starts_again_at_once(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}[ $start = 2 ] && finish 4\nlog 'debug1: nothing'\n{REFUSE}")
    with on_terminal(fake, FIRST_START="retry", BACKOFF_MAX=600) as terminal:
        terminal.expect(b"retry 2")
        terminal.send(b"\r")
        assert terminal.wait() == 4


def test_what_was_typed_into_a_dead_link_does_not_reach_the_next_one(tmp_path: Path) -> None:
    show = f"{sys.executable} -c 'import os; print(os.read(0, 99))'"
    fake = fake_ssh(
        tmp_path,
        f"{FINISH}{SESSION}{READY}[ $start = 1 ] && {{\n"
        f"until [ -e {tmp_path}/typed ]; do sleep 0.02; done; kill -KILL $$\n"
        "}\n"
        f"{show}; finish 0",
    )
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        terminal.send(b"rm -rf everything\r")
        (tmp_path / "typed").touch()
        terminal.expect(b"ready")
        pause_typing()
        terminal.send(b"new")
        terminal.expect(b"b'new'")
        assert terminal.wait() == 0


# What ssh asks, and what only looks like a question.

FIRST_IS_LOST = f"[ $start = 1 ] && {{ {SESSION}\n{LOSE} }}\n"
# As readpass.c does it: nothing is echoed by the time it asks.
ASK = f"{CONNECT}stty -echo; printf 'password: ' >&2; read -r word; stty echo; "


def type_until_asked(terminal: Terminal) -> None:
    """Type a line by hand from a wait on into a question."""
    terminal.expect(b"retry 3")
    while b"password: " not in terminal.output:
        terminal.send(b"x")
        terminal.read()
        time.sleep(0.05)


@pytest.mark.parametrize(
    "prompt", ["password: ", "Approve the login, then press Enter:\\n"], ids=["open", "whole"]
)
def test_a_question_is_answered_on_a_retry_too(tmp_path: Path, prompt: str) -> None:
    ask = f"stty -echo; printf '{prompt}' >&2; read -r word; stty echo; echo \"got <$word>\"\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}{CONNECT}{ask}{SESSION}finish 4")
    with on_terminal(fake) as terminal:
        terminal.expect(prompt.replace("\\n", "\r\n").encode())
        terminal.send(b"quick\r")
        terminal.expect(b"got <quick>\r\n")
        assert terminal.wait() == 4


@pytest.mark.parametrize("question", ["(yes/no/[fingerprint])? ", "Proceed? [Y/n] ", "Code (1-3) "])
@pytest.mark.parametrize("start", ["first", "retry"])
def test_a_jump_host_s_question_is_answered_key_by_key(tmp_path: Path, question: str, start: str) -> None:
    """With something typed ahead of it on the first start."""
    before = FIRST_IS_LOST if start == "retry" else f"until [ -e {tmp_path}/typed ]; do sleep 0.02; done\n"
    ask = f"printf '{question}' >&2; read -r word; echo \"got <$word>\"\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{before}{ask}{SESSION}finish 4")
    with shell(env=with_fake(fake)) as terminal:
        terminal.send(f"{program()} host\r".encode() + b"x" * (start == "first"))
        wait_for(lambda: fake.starts)
        (tmp_path / "typed").touch()
        terminal.expect(question.encode())
        for key in (b"y", b"e", b"s"):
            terminal.send(key)
            terminal.expect(key)  # its echo
        terminal.send(b"\r")
        terminal.expect(b"got <yes>")
        terminal.expect(PROMPT)


def test_an_escape_typed_before_a_question_is_forgotten_with_it(tmp_path: Path) -> None:
    """ssh throws it away: the session that follows is no session that was left."""
    flush = f"{sys.executable} -c 'import termios; termios.tcflush(0, termios.TCIFLUSH)'\n"
    wait = f"{CONNECT}until [ -e {tmp_path}/typed ]; do sleep 0.02; done\n"
    first = f"{wait}{flush}{ASK}{SESSION}{LOSE}"
    fake = fake_ssh(tmp_path, f"{FINISH}[ $start = 2 ] && {{ {SESSION}\nfinish 5\n }}\n{first}")
    with on_terminal(fake) as terminal:
        wait_for(lambda: fake.starts)
        wait_for(lambda: not terminal.modes()[3] & termios.ICANON)
        terminal.send(b"~.")
        terminal.expect(b"~.")
        (tmp_path / "typed").touch()
        terminal.expect(b"password: ")
        terminal.send(b"secret\r")
        assert terminal.wait() == 5


def test_an_interrupt_at_a_question_is_no_rest_of_a_line(tmp_path: Path) -> None:
    fake = fake_ssh(
        tmp_path,
        f"{FINISH}{FIRST_IS_LOST}[ $start = 2 ] && {{ {REFUSE} }}\n{ASK}{SESSION}finish 4",
    )
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        type_until_asked(terminal)

        def ended() -> bool:
            terminal.send(b"\x03")  # the fake one may not read yet
            terminal.read()
            return terminal.process.poll() is not None

        wait_for(ended)
        assert terminal.wait() == -signal.SIGINT


def test_with_a_terminal_that_does_not_echo_nothing_is_a_question_for_that(tmp_path: Path) -> None:
    """A jump host's error, on an unattended morning."""
    fail = "echo 'ssh: connect to host j port 22: Connection refused' >&2; log 'Connection closed by UNKNOWN'"
    fake = fake_ssh(tmp_path, f"{FINISH}[ $start = 4 ] || {{ {fail}; exit 255; }}\n{SESSION}finish 4")
    quiet = ["/bin/sh", "-c", 'stty -echo; exec "$@"', "sh", program(), "host"]
    with Terminal(quiet, env=with_fake(fake, FIRST_START="retry", BACKOFF_MAX=1)) as terminal:
        assert terminal.wait() == 4


@pytest.mark.parametrize(
    "words",
    [
        "printf 'Authorised use only.' >&2; log 'debug1: Authentications that can continue: publickey'",
        "seq 3000 >&2",
        "printf 'Waking the host...' >&2; sleep 0.3; echo ' done' >&2",
    ],
    ids=["no line end", "long", "in pieces"],
)
def test_what_is_said_before_a_session_is_no_question(tmp_path: Path, words: str) -> None:
    """Nobody has to answer it: kssh goes on trying."""
    failure = f"{CONNECT}{words}; log 'Connection closed by 127.0.0.1 port 22'; exit 255\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}[ $start = 4 ] || {{ {failure} }}\n{SESSION}finish 6")
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        assert terminal.wait() == 6
    assert len(fake.starts) == 4


def test_a_question_of_a_jump_host_s_that_nobody_answers_is_asked_once(tmp_path: Path) -> None:
    ask = "printf 'password: ' >&2; sleep 0.3; log 'Connection closed by UNKNOWN port 65535'; exit 255\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}[ $start = 2 ] && {{ {ask} }}\n{SESSION}finish 4")
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        terminal.expect(b"no answer to the prompt. Enter: retry")
        assert len(fake.starts) == 2
        terminal.send(b"\r")
        assert terminal.wait() == 4


def test_a_tunnel_that_nobody_answers_goes_on(tmp_path: Path) -> None:
    """Between two runs its terminal is the user's, and no key of kssh's could ask for a retry."""
    ask = "printf 'password: ' >&2; sleep 0.3; log 'Connection closed by UNKNOWN port 65535'; exit 255\n"
    fake = fake_ssh(tmp_path, f"{FIRST_IS_LOST}[ $start = 4 ] || {{ {ask} }}\n{SESSION}{STAY}")
    with on_terminal(fake, "-N", "host", BACKOFF_MAX=1) as terminal:
        wait_for(lambda: len(fake.starts) == 4)
        os.kill(terminal.pid, signal.SIGTERM)
        assert terminal.wait() == -signal.SIGTERM


@pytest.mark.parametrize("words", ["host", "-N host"])
def test_a_stop_at_a_prompt_hides_the_secret_after_fg_too(tmp_path: Path, words: str) -> None:
    fake = fake_ssh(tmp_path, f"{ASK}{SESSION}{STAY}")
    with shell("dash", env=with_fake(fake)) as terminal:
        before = saved(terminal)
        terminal.send(f"{program()} {words}\r".encode())
        terminal.expect(b"password: ")
        wait_for(lambda: terminal.modes() != before)
        (kssh,) = psutil.Process(terminal.pid).children()
        kssh.send_signal(signal.SIGTSTP)
        terminal.expect(PROMPT)
        assert terminal.modes() == before
        terminal.send(b"fg\r")
        wait_for(lambda: terminal.modes() != before)
        begin = len(terminal.output)
        terminal.send(b"secret\r")
        wait_for(lambda: terminal.modes() == before if "-N" in words else started_session(fake))
        terminal.read()
        assert b"secret" not in terminal.output[begin:]


def started_session(fake: FakeSsh) -> bool:
    return psutil.Process(fake.starts[0].pid).name() == "sleep"


def test_a_new_size_does_not_cover_a_question_of_a_retry(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}{ASK}{SESSION}finish 4")
    with on_terminal(fake) as terminal:
        terminal.expect(b"password: ")
        terminal.resize(30, 100)
        terminal.send(b"quick\r")
        shown = terminal.expect(b"back after").string
        assert terminal.wait() == 4
        assert b"connecting" not in bytes(shown).partition(b"password: ")[2]


# What is said about the end.


def test_a_warning_of_the_start_that_succeeds_is_shown(tmp_path: Path) -> None:
    held = "bind [127.0.0.1]:8080: Address already in use"
    warn = f"log '{held}' 'Could not request local forwarding.'\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}{CONNECT}{warn}{SESSION}sleep 0.2; finish 0")
    with on_terminal(fake, "-L", "8080:localhost:80", "host") as terminal:
        assert terminal.wait() == 0
        assert terminal.output.index(held.encode()) < terminal.output.index(b"back after")


def test_a_command_that_dies_on_an_alternate_screen_says_why(tmp_path: Path) -> None:
    """What ssh said stood on that screen."""
    lose = "log 'client_loop: send disconnect: Broken pipe'; " + LOSE
    fake = fake_ssh(tmp_path, f"{SESSION}printf '\\033[?1049h'; sleep 0.3; {lose}")
    with on_terminal(fake, "-t", "host", "htop") as terminal:
        assert terminal.wait() == 255
        told = bytes(terminal.output.rpartition(b"?1049l")[2])
        assert re.search(rb"kssh: host: link lost after \S+ s \([^)]+\); not run again\r\n$", told)
    assert len(fake.starts) == 1


def test_the_reason_for_an_end_while_it_waits_is_said(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] || {{ {REFUSE} }}\n{SESSION}{LOSE}")
    with on_terminal(fake, MAXLIFETIME=3, BACKOFF_MAX=600) as terminal:
        terminal.wait()
        assert terminal.output.endswith(b"(KSSH_MAXLIFETIME reached)\r\n")


def test_several_lines_of_one_message_begin_at_the_margin(tmp_path: Path) -> None:
    words = "The fingerprint for the ED25519 key sent by the remote host is"
    fake = fake_ssh(tmp_path, f"log '{words}\nSHA256:xyz.'\n{REFUSE}")
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 255
        assert b"host is\r\nSHA256:xyz.\r\n" in terminal.output


def test_another_writer_on_ssh_s_terminal_does_not_hold_kssh_up(tmp_path: Path) -> None:
    """Such as what a ProxyCommand leaves behind."""
    flood = f"(trap '' HUP; echo $$ >{tmp_path}/pid; while sleep 0.02; do echo tick; done) &\n"
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{flood}finish 7")
    with on_terminal(fake) as terminal:
        try:
            assert terminal.wait() == 7
        finally:
            for left in background():
                left.kill()


def test_the_link_comes_back_where_python_has_no_curses(tmp_path: Path) -> None:
    (tmp_path / "curses.py").write_text("raise ImportError\n")
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}{SESSION}finish 4")
    with Terminal([program(), "host"], env={**with_fake(fake), "PYTHONPATH": str(tmp_path)}) as terminal:
        assert terminal.wait() == 4
        assert b"\x1b[33m" not in terminal.output


# What is typed.


def test_a_report_of_the_terminal_s_is_not_typing(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{FIRST_IS_LOST}[ $start = 2 ] && {{ {REFUSE} }}\n{SESSION}finish 4")
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        terminal.expect(b"retry 3")
        terminal.send(b"\x1b[I\x1b[?1;2c")
        assert terminal.wait() == 4
        assert b"thrown away" not in terminal.output


def test_a_line_under_way_is_no_answer_to_a_question(tmp_path: Path) -> None:
    fake = fake_ssh(
        tmp_path,
        f"{FINISH}[ $start = 1 ] && {{ {SESSION}\n{LOSE} }}\n[ $start = 2 ] && {{ {REFUSE} }}\n"
        f'{ASK}echo "got <$word>"; {SESSION}finish 4',
    )
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        type_until_asked(terminal)
        for key in (b"x", b"\r"):
            terminal.send(key)
            time.sleep(0.05)
        pause_typing()
        terminal.send(b"right\r")
        terminal.expect(re.compile(rb"got <\w*>"))
        assert b"got <right>" in terminal.output
        assert terminal.wait() == 4


def test_a_stop_that_is_ignored_stops_nothing(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{READY}head -c 1 >/dev/null; finish 4")
    trap = ["/bin/sh", "-c", "trap '' TSTP; exec \"$@\"", "sh", program(), "host"]
    with Terminal(trap, env=with_fake(fake)) as terminal:
        terminal.expect(b"ready")
        terminal.send(b"\r~\x1a")
        terminal.expect(b"[suspend ssh]")
        assert terminal.wait() == 4


@pytest.mark.parametrize(("version", "starts"), [("9.2p1", 2), ("10.3p1", 1)])
def test_leaving_behind_information_is_leaving_where_ssh_takes_it_so(
    tmp_path: Path, version: str, starts: int
) -> None:
    read = "stty raw -echo; head -c 5 >/dev/null; stty -raw; "
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{READY}[ $start = 1 ] || finish 3\n{read}{LOSE}")
    fake.path.write_text(fake.path.read_text().replace("OpenSSH_9.2p1", f"OpenSSH_{version}"))
    with on_terminal(fake) as terminal:
        terminal.expect(b"ready")
        terminal.send(b"\r~I~.")
        assert terminal.wait() == (3 if starts == 2 else 255)
    assert len(fake.starts) == starts
