"""Shells and commands on a terminal, with a real sshd: as with ssh, and back when the link dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pexpect
import pytest
from pexpect import pxssh

from harness import TIMEOUT_S, Argument, Relay, Sshd, Terminal, alive, fake_ssh, program, wait_for
from links import HOST_KEY_QUESTION, PROMPT, SESSION, STAY, lines_of, quick, ssh_below, started


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


def kssh(sshd: Sshd, *words: Argument, through: int | None = None, **env: object) -> Terminal:
    config = sshd.config_for(through or sshd.port)
    return Terminal([program(), "-F", config, *words], env={k: str(v) for k, v in env.items()})


def both(*words: Argument) -> list[tuple[int, bytes]]:
    """Return status and output of kssh and of ssh on a terminal each."""
    results = []
    for command in (program(), "ssh"):
        with Terminal([command, *words]) as terminal:
            before = terminal.modes()
            status = terminal.wait()
            assert terminal.modes() == before
            results.append((status, bytes(terminal.output)))
    return results


# As with ssh.


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130, 255])
@pytest.mark.parametrize("words", [["-tt"], ["-t"], []], ids=str)
def test_the_status_is_the_command_s_and_it_ran_once(
    sshd: Sshd, tmp_path: Path, words: list[str], status: int
) -> None:
    note = tmp_path / "note"
    command = f"echo ran >>{note}; echo said; exit {status}"
    with kssh(sshd, *words, "t", command) as terminal:
        assert terminal.wait() == status
        terminal.expect(b"said\r\n")
    assert lines_of(note) == ["ran"]


@pytest.mark.parametrize(
    "command", ["kill -9 $$", "kill -TERM $$", "exit 300", "true", "tty | cut -c-5", "stty -a"]
)
def test_a_command_on_a_terminal_ends_as_with_ssh(sshd: Sshd, command: str) -> None:
    mine, theirs = both("-F", sshd.config, "-t", "t", command)
    assert mine == theirs


@pytest.mark.parametrize(
    "words",
    [["-o", "NoSuchKeyword=1", "t"], ["-l", "no-such-user", "t"], ["-p", "1", "t"], ["no-such-host.invalid"]],
    ids=str,
)
def test_a_first_failure_is_as_with_ssh(sshd: Sshd, words: list[str]) -> None:
    mine, theirs = both("-F", sshd.config, *words)
    assert mine[0] == theirs[0] == 255
    # ssh's own lines end in CR LF, which a terminal that is still cooked turns into CR CR LF.
    assert mine[1].replace(b"\r", b"") == theirs[1].replace(b"\r", b"")


def test_a_shell_is_a_login_shell_with_the_user_s_window(sshd: Sshd) -> None:
    with kssh(sshd, "t") as terminal:
        before = terminal.modes()
        terminal.resize(33, 99)
        terminal.expect(PROMPT)
        terminal.send(b"shopt -q login_shell && stty size\r")
        terminal.expect(b"33 99\r\n")
        terminal.resize(44, 111)
        terminal.expect(PROMPT)
        wait_for(lambda: size_is(terminal, b"44 111"))
        terminal.send(b"exit 7\r")
        assert terminal.wait() == 7
        assert terminal.modes() == before


def size_is(terminal: Terminal, size: bytes) -> bool:
    """Ask the remote shell for its size: a change takes its time on the way there."""
    terminal.send(b"stty size\r")
    return terminal.expect(re.compile(rb"[\r\n](\d+ \d+)\r\n"))[1] == size


def test_the_remote_terminal_has_the_user_s_settings(sshd: Sshd) -> None:
    script = 'stty erase ^H intr ^G -ixon; exec "$@"'

    def remote(ssh: str) -> bytes:
        command = ["sh", "-c", script, "sh", ssh, "-F", sshd.config, "-t", "t", "stty -g"]
        with Terminal(command) as terminal:
            assert terminal.wait() == 0
            return bytes(terminal.output)

    assert remote(program()) == remote("ssh")


def test_standard_error_redirected_elsewhere_stays_there(sshd: Sshd, tmp_path: Path) -> None:
    def run(ssh: str) -> tuple[int, bytes, bytes]:
        errors = tmp_path / "errors"
        command = [
            "sh",
            "-c",
            'exec "$@" 2>"$0"',
            errors,
            ssh,
            "-F",
            sshd.config,
            "-t",
            "t",
            "echo out; exit 3",
        ]
        with Terminal(command) as terminal:
            return terminal.wait(), bytes(terminal.output), errors.read_bytes()

    assert run(program()) == run("ssh")


# Prompts.


def test_a_host_key_is_asked_for_and_learnt(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    words = ["-o", "StrictHostKeyChecking=ask", "-o", f"UserKnownHostsFile={known}", "-t", "t", "echo inside"]
    with kssh(sshd, *words) as terminal:
        terminal.expect(b"authenticity of host")
        terminal.expect(HOST_KEY_QUESTION)
        terminal.send(b"maybe\r")
        terminal.expect(b"Please type 'yes'")
        terminal.send(b"yes\r")
        terminal.expect(b"Permanently added")
        terminal.expect(b"inside")
        assert terminal.wait() == 0
    assert len(lines_of(known)) == 1


def test_a_host_key_that_is_not_accepted_ends_it(sshd: Sshd) -> None:
    words = ["-o", "StrictHostKeyChecking=ask", "-o", "UserKnownHostsFile=/dev/null", "t"]
    with kssh(sshd, *words) as terminal:
        before = terminal.modes()
        terminal.expect(HOST_KEY_QUESTION)
        terminal.send(b"no\r")
        terminal.expect(b"Host key verification failed.")
        assert terminal.wait() == 255
        assert terminal.modes() == before


@pytest.mark.parametrize("words", [["t"], ["-t", "t", "echo inside"], ["-N", "t"]], ids=str)
def test_a_passphrase_is_asked_for_and_not_shown(tmp_path: Path, sshd: Sshd, words: list[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes((sshd.directory / "client_key").read_bytes())
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", key], check=True, stdout=-1)
    config = tmp_path / "config"
    config.write_text(sshd.config.read_text().replace(f"{sshd.directory}/client_key", str(key)))
    with Terminal([program(), "-F", config, *words]) as terminal:
        before = terminal.modes()
        terminal.expect(b"Enter passphrase for key")
        terminal.expect(b": ")
        terminal.send(b"wrong\r")
        terminal.expect(b"Enter passphrase for key")
        terminal.expect(b": ")
        terminal.send(b"open sesame\r")
        if "-N" in words:
            wait_for(sshd.sessions)
            wait_for(lambda: terminal.modes() == before, what="the terminal to be the user's again")
            terminal.send(b"\x03")
            assert terminal.wait() == -signal.SIGINT
        elif words == ["t"]:
            terminal.expect(PROMPT)
            terminal.send(b"exit\r")
            assert terminal.wait() == 0
        else:
            terminal.expect(b"inside\r\n")
            assert terminal.wait() == 0
        terminal.read()
        assert b"sesame" not in terminal.output
        assert b"wrong" not in terminal.output


def test_wrong_passwords_come_to_an_end(tmp_path: Path) -> None:
    """One connection, as many prompts as ssh gives, each refusal before the next prompt."""
    with Sshd(tmp_path / "sshd", "PasswordAuthentication yes\nUsePAM no") as sshd, Relay(sshd.port) as relay:
        words = ["-o", "PasswordAuthentication=yes", "-o", "PubkeyAuthentication=no"]
        words += ["-o", "NumberOfPasswordPrompts=2"]
        with kssh(sshd, *words, "t", through=relay.port) as terminal:
            before = terminal.modes()
            terminal.expect(b"password: ")
            terminal.send(b"wrong\r")
            terminal.expect(re.compile(rb"Permission denied, please try again\.\r\n[^\n]*password: "))
            terminal.send(b"again\r")
            terminal.expect(b"Permission denied (")
            assert terminal.wait() == 255
            assert terminal.modes() == before
            assert b"wrong" not in terminal.output
        assert len(relay.accepted) == 1


@pytest.mark.parametrize("moment", ["at a prompt", "while connecting"])
def test_ctrl_c_before_the_session_ends_it_as_with_ssh(sshd: Sshd, relay: Relay, moment: str) -> None:
    words = ["-o", "StrictHostKeyChecking=ask", "-o", "UserKnownHostsFile=/dev/null", "t"]
    relay.mute = moment == "while connecting"
    statuses = []
    for command in (program(), "ssh"):
        taken = len(relay.accepted)
        with Terminal([command, "-F", sshd.config_for(relay.port), *words]) as terminal:
            before = terminal.modes()
            if relay.mute:
                wait_for(lambda taken=taken: len(relay.accepted) > taken)
            else:
                terminal.expect(HOST_KEY_QUESTION)

            # ssh can miss a signal that comes just after it prints a prompt.
            def ended(terminal: Terminal = terminal) -> bool:
                terminal.send(b"\x03")
                terminal.read()
                return terminal.process.poll() is not None

            wait_for(ended)
            statuses.append(terminal.wait())
            assert terminal.modes() == before
        assert len(relay.accepted) == taken + 1
    assert statuses[0] == statuses[1]


# The link dies, or the user leaves.


def test_tilde_dot_ends_it_as_with_ssh(sshd: Sshd, relay: Relay) -> None:
    results = []
    for command in (program(), "ssh"):
        with Terminal([command, "-F", sshd.config_for(relay.port), "t"]) as terminal:
            before = terminal.modes()
            terminal.expect(PROMPT)
            terminal.send(b"\r")
            terminal.expect(PROMPT)
            terminal.send(b"~.")
            results.append(terminal.wait())
            assert terminal.modes() == before
            assert b"Connection to 127.0.0.1 closed." in terminal.output
    assert results == [255, 255]
    assert len(relay.accepted) == 2


def test_another_escape_character_is_followed(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "-e", "%", "t", through=relay.port) as terminal:
        terminal.expect(PROMPT)
        terminal.send(b"\recho ~.marked\r")
        terminal.expect(b"~.marked\r\n")
        terminal.expect(PROMPT)
        terminal.send(b"\r%.")
        assert terminal.wait() == 255
    assert len(relay.accepted) == 1


@pytest.mark.parametrize("fault", ["session killed", "reset"])
def test_a_shell_whose_link_dies_gets_a_new_login_shell(sshd: Sshd, relay: Relay, fault: str) -> None:
    with kssh(sshd, "t", through=relay.port, **quick()) as terminal:
        before = terminal.modes()
        terminal.expect(PROMPT)
        terminal.send(b"echo shell $(( 40 + 2 )) $$\r")
        first = terminal.expect(re.compile(rb"shell 42 (\d+)\r\n"))[1]
        terminal.expect(PROMPT)
        sshd.kill_sessions() if fault == "session killed" else relay.reset()
        terminal.expect(b"link lost")
        terminal.expect(PROMPT)
        terminal.send(b"echo shell $(( 40 + 2 )) $$\r")
        assert terminal.expect(re.compile(rb"shell 42 (\d+)\r\n"))[1] != first
        terminal.send(b"exit 9\r")
        assert terminal.wait() == 9
        assert terminal.modes() == before
    # Not by connections: a knock may come while the second ssh connects.
    assert terminal.output.count(b"link lost") == terminal.output.count(b"back after") == 1


def test_a_frozen_shell_is_noticed_and_comes_back(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "t", through=relay.port, **quick(INTERVAL=1, COUNTMAX=1)) as terminal:
        terminal.expect(PROMPT)
        relay.freeze()
        terminal.expect(b"link lost")
        relay.thaw()
        terminal.expect(PROMPT)
        terminal.send(b"exit 9\r")
        assert terminal.wait() == 9


def test_a_shell_waits_for_a_server_that_is_away(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "t", through=relay.port, **quick()) as terminal:
        terminal.expect(PROMPT)
        relay.refuse()
        relay.reset()
        terminal.expect(b"link lost")
        terminal.expect(re.compile(rb"retry [3-9]"))
        relay.listen()
        terminal.expect(PROMPT)
        terminal.send(b"exit 9\r")
        assert terminal.wait() == 9


def test_a_command_on_a_terminal_whose_link_dies_ran_once(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with kssh(
        sshd, "-t", "t", f"echo ran >>{note}; exec sleep 600", through=relay.port, **quick()
    ) as terminal:
        before = terminal.modes()
        wait_for(lambda: lines_of(note))
        sshd.kill_sessions()
        assert terminal.wait() == 255
        assert terminal.modes() == before
    assert lines_of(note) == ["ran"]
    assert len(relay.accepted) == 1


def test_an_attach_command_whose_link_dies_is_run_again(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    tmux = tmp_path / "tmux"
    tmux.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/note\necho attached\nread line\nexit 8\n')
    tmux.chmod(0o755)
    with kssh(sshd, "-t", "t", f"{tmux} attach", through=relay.port, **quick()) as terminal:
        terminal.expect(b"attached\r\n")
        sshd.kill_sessions()
        terminal.expect(b"link lost")
        terminal.expect(b"attached\r\n")
        terminal.send(b"detach\r")
        assert terminal.wait() == 8
    assert lines_of(tmp_path / "note") == ["attach", "attach"]


def test_exit_255_of_the_remote_shell_is_no_lost_link(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "t", through=relay.port) as terminal:
        terminal.expect(PROMPT)
        terminal.send(b"exit 255\r")
        assert terminal.wait() == 255
    assert len(relay.accepted) == 1


def test_a_remote_shell_that_is_killed_is_no_lost_link(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "t", through=relay.port) as terminal:
        terminal.expect(PROMPT)
        terminal.send(b"kill -9 $$\r")
        assert terminal.wait() == 255
    assert len(relay.accepted) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_for_kssh_ends_ssh_too(sshd: Sshd, signum: int) -> None:
    with kssh(sshd, "t") as terminal:
        before = terminal.modes()
        terminal.expect(PROMPT)
        ssh = ssh_below(terminal.pid)
        assert ssh
        os.kill(terminal.pid, signum)
        assert terminal.wait() == -signum
        wait_for(lambda: not alive(ssh))
        # What was killed could not restore anything: ssh itself leaves the terminal so.
        assert signum == signal.SIGKILL or terminal.modes() == before
    wait_for(lambda: not sshd.sessions())


def test_a_terminal_that_goes_away_ends_the_session(sshd: Sshd) -> None:
    with kssh(sshd, "t") as terminal:
        terminal.expect(PROMPT)
        terminal.hang_up()
        assert terminal.process.wait(TIMEOUT_S) == -signal.SIGHUP
    wait_for(lambda: not sshd.sessions())


def test_the_limit_restores_the_terminal(sshd: Sshd, relay: Relay) -> None:
    with kssh(sshd, "t", through=relay.port, **quick(MAXSTART=1)) as terminal:
        before = terminal.modes()
        terminal.expect(PROMPT)
        sshd.kill_sessions()
        assert terminal.wait() == 255
        assert b"giving up after 1 start" in terminal.output
        assert terminal.modes() == before
    assert len(relay.accepted) == 1


def test_a_terminal_that_sshd_opened_is_a_person_s(sshd: Sshd, tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, SESSION + STAY)
    words = f"KSSH_SSH={fake.path} KSSH_STATE_DIR={tmp_path}/state TERM=xterm {program()} host"
    with Terminal(["ssh", "-F", sshd.config, "-tt", "t", words]):
        assert "-E" in started(fake).argv


@pytest.mark.parametrize("name", ["ssh", "kssh"])
def test_pxssh_sees_the_end_after_a_loss(sshd: Sshd, relay: Relay, tmp_path: Path, name: str) -> None:
    note = tmp_path / "note"
    driver = pxssh.pxssh(timeout=TIMEOUT_S)
    config = str(sshd.config_for(relay.port))
    driver.login("t", ssh_config=config, cmd=name if name == "ssh" else program(), check_local_ip=False)
    driver.sendline(f"cd /; echo before >>{note}")
    assert driver.prompt()
    relay.reset()
    driver.expect(pexpect.EOF)
    driver.close()
    assert driver.exitstatus == 255
    assert lines_of(note) == ["before"]
