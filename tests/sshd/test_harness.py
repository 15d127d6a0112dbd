"""The harness itself, with plain ssh: a test that stands on it may trust it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness import (
    MARK,
    TIMEOUT_S,
    Relay,
    Sshd,
    Terminal,
    alive,
    fake_ssh,
    marked,
    need,
    run_kssh,
    shell,
    wait_for,
)


@contextmanager
def ssh(config: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    pipe = subprocess.PIPE
    with subprocess.Popen(["ssh", "-F", config, *words], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            yield process
        finally:
            process.kill()


def echoes(process: subprocess.Popen[bytes], text: bytes) -> None:
    """Send a line to a remote cat and wait for it."""
    assert process.stdin and process.stdout
    process.stdin.write(text + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == text + b"\n"


def status(config: Path, *words: str) -> int:
    command = ["ssh", "-F", config, *words, "t", "true"]
    null = subprocess.DEVNULL
    return subprocess.run(command, stdin=null, stderr=null, check=False).returncode


def test_sshd_runs_commands_in_an_empty_home(sshd: Sshd) -> None:
    command = ["ssh", "-F", sshd.config, "t", "ls -A; echo $HOME; exit 3"]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    assert said.returncode == 3
    assert said.stdout.endswith(f"{sshd.directory}/home\n".encode())


def test_sshd_restarts_with_other_configuration(sshd: Sshd) -> None:
    assert status(sshd.config) == 0
    sshd.restart("AllowUsers nobody-at-all")
    assert status(sshd.config) == 255
    sshd.stop()
    assert status(sshd.config) == 255
    sshd.restart()
    assert status(sshd.config) == 0


def test_sshd_sessions_can_be_killed(sshd: Sshd) -> None:
    with ssh(sshd.config, "t", "cat") as first, ssh(sshd.config, "t", "cat") as second:
        echoes(first, b"one")
        echoes(second, b"two")
        assert len(sshd.sessions()) == 2
        killed = sshd.kill_sessions()
        assert len(killed) == 2
        assert not any(alive(pid) for pid in killed)
        assert first.wait() == second.wait() == 255
        assert sshd.sessions() == []
    assert alive(sshd.pid)


def test_sshd_takes_remote_commands_along(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as sshd:
        command = ["ssh", "-F", sshd.config, "t", "sleep 600 >/dev/null 2>&1 & echo $!"]
        remote = int(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        assert alive(remote)
        sshd.kill_sessions()
        assert alive(remote)
    assert not alive(remote)


def test_relay_carries_and_counts(sshd: Sshd, relay: Relay) -> None:
    config = sshd.config_for(relay.port)
    before = time.monotonic()
    assert status(config) == 0
    assert len(relay.accepted) == 1
    assert before < relay.accepted[0] < time.monotonic()
    wait_for(lambda: relay.connections == 0)
    data = os.urandom(3_000_000)
    command = ["ssh", "-F", config, "t", "cat"]
    assert subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout == data


def test_relay_freezes_in_silence_and_thaws(sshd: Sshd, relay: Relay) -> None:
    with ssh(sshd.config_for(relay.port), "t", "cat") as process:
        echoes(process, b"before")
        relay.freeze()
        assert process.stdin and process.stdout
        process.stdin.write(b"held\n")
        process.stdin.flush()
        time.sleep(0.3)
        assert process.poll() is None
        relay.thaw()
        assert process.stdout.readline() == b"held\n"


def test_a_frozen_link_ends_by_keepalive(sshd: Sshd, relay: Relay) -> None:
    options = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    with ssh(sshd.config_for(relay.port), *options, "t", "cat") as process:
        echoes(process, b"before")
        relay.freeze()
        assert process.wait(TIMEOUT_S) == 255
        assert len(sshd.sessions()) == 1, "the server must not learn of it"
        assert status(sshd.config_for(relay.port), "-o", "ConnectTimeout=1") == 255
        assert len(relay.accepted) == 2
    relay.thaw()
    wait_for(lambda: sshd.sessions() == [])


def test_relay_resets(sshd: Sshd, relay: Relay) -> None:
    with ssh(sshd.config_for(relay.port), "t", "cat") as process:
        echoes(process, b"before")
        relay.reset()
        assert process.wait(TIMEOUT_S) == 255
        wait_for(lambda: sshd.sessions() == [])
    with socket.create_connection(("127.0.0.1", relay.port)) as connection:
        assert connection.recv(100).startswith(b"SSH-2.0-")
        relay.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert status(sshd.config_for(relay.port)) == 0


def test_relay_resets_what_is_frozen(sshd: Sshd, relay: Relay) -> None:
    with ssh(sshd.config_for(relay.port), "t", "cat") as process:
        echoes(process, b"before")
        relay.freeze()
        relay.reset()
        assert process.wait(TIMEOUT_S) == 255
        relay.thaw()
    assert status(sshd.config_for(relay.port)) == 0


def test_relay_refuses_and_keeps_what_is_open(sshd: Sshd, relay: Relay) -> None:
    config = sshd.config_for(relay.port)
    with ssh(config, "t", "cat") as process:
        echoes(process, b"before")
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", relay.port)).close()
        assert status(config) == 255
        echoes(process, b"still there")
        relay.listen()
        assert status(config) == 0


def test_relay_can_be_mute(sshd: Sshd, relay: Relay) -> None:
    config = sshd.config_for(relay.port)
    with ssh(config, "t", "cat") as process:
        echoes(process, b"before")
        relay.mute = True
        assert status(config, "-o", "ConnectTimeout=1") == 255
        echoes(process, b"the older one is spoken to")
        relay.mute = False
        assert status(config) == 0


def test_relay_without_a_target_takes_and_closes(tmp_path: Path) -> None:
    with Relay(1) as relay, socket.create_connection(("127.0.0.1", relay.port)) as connection:
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        assert len(relay.accepted) == 1


def test_a_dead_session_is_noticed_through_the_relay(sshd: Sshd, relay: Relay) -> None:
    with ssh(sshd.config_for(relay.port), "t", "cat") as process:
        echoes(process, b"before")
        sshd.kill_sessions()
        assert process.wait(TIMEOUT_S) == 255


def test_fake_ssh_answers_and_notes(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, 'log "debug1: start $start"; exit 7', {"loglevel": "ERROR"})
    question = [fake.path, "-G", "-fN", "-o", "BatchMode=yes", "host"]
    answer = subprocess.run(question, stdout=subprocess.PIPE, check=True).stdout.decode().splitlines()
    assert {"loglevel ERROR", "sessiontype none", "forkafterauthentication yes"} <= set(answer)
    assert fake.starts == []
    log = tmp_path / "log"
    starts = [["-E", str(log), "host", "a  b", ""], ["host", "\udcff\n"]]
    for words in starts:
        started = subprocess.run([fake.path, *words], check=False, stderr=subprocess.PIPE)
        assert started.returncode == 7
    assert log.read_bytes() == b"debug1: start 1\r\n"
    assert started.stderr == b"debug1: start 2\r\n"
    assert [start.argv for start in fake.starts] == starts


def test_kssh_runs_with_the_fake(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "cat; exit 9")
    done = run_kssh(["host", "command"], env={"KSSH_SSH": str(fake.path)}, stdin=b"\0\xff\r\n")
    assert (done.returncode, done.stdout, done.stderr) == (9, b"\0\xff\r\n", b"")
    assert fake.starts[0].argv[-2:] == ["host", "command"]


def test_terminal_controls_its_command() -> None:
    script = "stty size; read line </dev/tty; echo got:$line; exit 5"
    with Terminal(["sh", "-c", script], rows=30) as terminal:
        terminal.expect(b"30 80")
        terminal.send(b"abc\n")
        terminal.expect(b"got:abc")
        assert terminal.wait() == 5
        assert terminal.size() == (30, 80, 0, 0)


def test_terminal_keeps_its_settings_to_be_read() -> None:
    with Terminal(["sh", "-c", "read go; stty -echo; exec sleep 600"]) as terminal:
        before = terminal.modes()
        terminal.send(b"\n")
        wait_for(lambda: terminal.modes() != before)
        terminal.set_modes(before)
        assert terminal.modes() == before
        assert terminal.foreground() == terminal.pid
        terminal.send(b"\x03")
        assert terminal.wait() == -signal.SIGINT


def test_terminal_hangs_up() -> None:
    with Terminal(["sleep", "600"]) as terminal:
        wait_for(lambda: psutil.Process(terminal.pid).name() == "sleep")
        terminal.hang_up()
        assert terminal.process.wait(TIMEOUT_S) == -signal.SIGHUP


@pytest.mark.parametrize("name", ["bash", "dash"])
def test_shell_has_job_control(name: str) -> None:
    need(name)
    with shell(name) as terminal:
        terminal.send(b"sleep 600\n")
        # Not before it is "sleep": a child of the shell's still ignores the signal.
        wait_for(lambda: psutil.Process(terminal.foreground()).name() == "sleep")
        terminal.send(b"\x1a")
        terminal.expect(b"local$ ")
        terminal.send(b"echo status $?; kill %1; fg\n")
        terminal.expect(b"status 148")
        terminal.send(b"exit\n")


def test_a_process_in_the_background_is_found() -> None:
    command = "setsid sleep 600 >/dev/null 2>&1 &"
    subprocess.run(["sh", "-c", command], check=True)
    found = wait_for(lambda: marked(os.environ[MARK]))
    assert len(found) == 1
    for process in found:
        process.kill()
