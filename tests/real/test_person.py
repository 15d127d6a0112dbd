"""Who counts as a person: a shell's job and a program's terminal, and nobody where a program drives kssh."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from harness import TIMEOUT_S, FakeSsh, Terminal, fake_ssh, need, program, shell, wait_for
from links import FINISH, LOSE, SESSION, started, with_fake
from pykeepssh.system import ancestry

BY_ITS_SIGNS = {"KSSH_RESTART": ""}  # the harness says that a person sits at its terminals
# The first session is lost; a second one, if it comes, ends in order.
LOST_ONCE = SESSION + FINISH + f"case $start in 1) read -r word; {LOSE.strip()} ;; *) finish 0 ;; esac\n"


def is_supervised(fake: FakeSsh) -> bool:
    return "-E" in started(fake).argv


@pytest.fixture
def fake(tmp_path: Path) -> FakeSsh:
    return fake_ssh(tmp_path, LOST_ONCE)


def environment(fake: FakeSsh, **variables: str) -> dict[str, str]:
    return {**os.environ, "TERM": "xterm", **with_fake(fake, **variables)}


@pytest.fixture
def driven(fake: FakeSsh) -> Iterator[pexpect.spawn[bytes]]:
    """Kssh as pexpect runs it."""
    child = pexpect.spawn(program(), ["host"], env=environment(fake), timeout=TIMEOUT_S)
    yield child
    child.close(force=True)


# -- persons -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bash", "dash", "zsh"])
def test_a_job_of_a_shell_is_a_persons(fake: FakeSsh, name: str) -> None:
    with shell(name, env={**with_fake(fake), **BY_ITS_SIGNS}) as terminal:
        terminal.send(f"{program()} host\n".encode())
        assert is_supervised(fake)
        terminal.send(b"\n")
        terminal.expect(b"back after")


def test_a_script_that_is_a_job_of_a_shell_is_a_persons(fake: FakeSsh, tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text(f"{program()} host\nexit\n")
    with shell(env={**with_fake(fake), **BY_ITS_SIGNS}) as terminal:
        terminal.send(f"sh {script}\n".encode())
        assert is_supervised(fake)
        terminal.send(b"\n")
        terminal.expect(b"back after")


def test_script_passes_on_who_sits_at_its_own_terminal(fake: FakeSsh) -> None:
    command = shlex.quote(f"{program()} host")
    with shell(env={**with_fake(fake), **BY_ITS_SIGNS}) as terminal:
        terminal.send(f"{need('script')} -qc {command} /dev/null\n".encode())
        assert is_supervised(fake)
        terminal.send(b"\n")
        terminal.expect(b"back after")


@pytest.mark.parametrize("more", ["", "; true"], ids=["itself", "below a shell"])
def test_a_window_of_tmux_is_a_persons(fake: FakeSsh, tmp_path: Path, more: str) -> None:
    tmux = [need("tmux"), "-S", tmp_path / "tmux", "-f", "/dev/null"]
    command = f"{program()} host{more}"
    try:
        subprocess.run([*tmux, "new-session", "-d", command], check=True, env=environment(fake))
        assert is_supervised(fake)
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


# -- nobody ------------------------------------------------------------------------------------------


def test_after_a_loss_a_program_sees_the_end_and_255(driven: pexpect.spawn[bytes], fake: FakeSsh) -> None:
    assert not is_supervised(fake)
    driven.sendline("word")
    driven.expect(pexpect.EOF)
    driven.wait()
    assert driven.exitstatus == 255
    assert len(fake.starts) == 1
    assert started(fake).pid == driven.pid


@pytest.mark.parametrize("words", [["-t", "host", "top"], ["-t", "host", "tmux attach"]])
def test_a_command_that_a_program_drives_is_sshs_own(fake: FakeSsh, words: list[str]) -> None:
    child = pexpect.spawn(program(), words, env=environment(fake))
    assert not is_supervised(fake)
    child.close(force=True)


@pytest.mark.parametrize(
    "command", ["{kssh} host", 'sh -c "{kssh} host; exit \\$?"'], ids=["itself", "through a shell"]
)
def test_expect_sees_the_end_and_255(fake: FakeSsh, command: str) -> None:
    said = (
        f"spawn {command.format(kssh=program())}\n"
        'send "word\\r"\nset timeout 20\nexpect eof\ncatch wait result\nexit [lindex $result 3]'
    )
    ended = subprocess.run(
        [need("expect"), "-c", said], env=environment(fake), stdout=subprocess.DEVNULL, check=False
    )
    assert ended.returncode == 255
    assert len(fake.starts) == 1
    assert not is_supervised(fake)


def test_what_a_window_shows_as_plain_text_is_no_persons(fake: FakeSsh) -> None:
    with shell(env={**with_fake(fake), **BY_ITS_SIGNS, "TERM": "dumb"}) as terminal:
        terminal.send(f"{program()} host\n".encode())
        assert not is_supervised(fake)


def test_a_terminal_that_is_not_the_controlling_one_is_nobody(fake: FakeSsh) -> None:
    with shell(env={**with_fake(fake), **BY_ITS_SIGNS}) as terminal:
        terminal.send(f"{need('setsid')} -w {program()} host\n".encode())
        assert not is_supervised(fake)


# -- KSSH_RESTART says otherwise ---------------------------------------------------------------------


def test_attended_says_that_a_person_sits_there(fake: FakeSsh) -> None:
    child = pexpect.spawn(program(), ["host"], env=environment(fake, RESTART="attended"), timeout=TIMEOUT_S)
    assert is_supervised(fake)
    child.sendline("word")
    child.expect_exact("back after")
    child.expect(pexpect.EOF)
    assert child.wait() == 0


def test_always_starts_again_what_a_program_drives(fake: FakeSsh) -> None:
    child = pexpect.spawn(program(), ["host"], env=environment(fake, RESTART="always"), timeout=TIMEOUT_S)
    assert is_supervised(fake)
    child.sendline("word")
    child.expect(pexpect.EOF)
    assert child.wait() == 0
    assert len(fake.starts) == 2


def test_attended_is_for_a_terminal(fake: FakeSsh) -> None:
    command = f"{program()} host | cat"
    with Terminal(["sh", "-c", command], env=with_fake(fake, RESTART="attended")) as terminal:
        assert not is_supervised(fake)
        terminal.send(b"word\n")
        terminal.wait()
    assert len(fake.starts) == 1


# -- how it is known ---------------------------------------------------------------------------------


def test_a_process_is_known_as_the_system_knows_it() -> None:
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        # Until it has become sleep it has the name of this program.
        wait_for(lambda: (found := ancestry.find(child.pid)) is not None and found.name == "sleep")
        found = ancestry.find(child.pid)
        assert found is not None
        seen = (found.parent, found.group, found.session, found.terminal)
        assert seen == (os.getpid(), child.pid, child.pid, False)
    finally:
        child.kill()
        child.wait()
    assert ancestry.find(child.pid) is None
    assert ancestry.find(0) is None


def test_ps_tells_the_same_as_proc() -> None:
    if sys.platform != "linux":
        pytest.skip("no /proc to compare with")
    with Terminal(["sh", "-c", "sleep 600; true"]) as terminal:
        name = wait_for(lambda: (found := ancestry.find(terminal.pid)) and found.terminal and found.name)
        by_proc, by_ps = ancestry._by_proc(terminal.pid), ancestry._by_ps(terminal.pid)
        assert all(getattr(by_proc, field) == getattr(by_ps, field) for field in by_proc.__slots__), name
    for pid in (os.getpid(), 1):
        by_proc, by_ps = ancestry._by_proc(pid), ancestry._by_ps(pid)
        assert all(getattr(by_proc, field) == getattr(by_ps, field) for field in by_proc.__slots__)
