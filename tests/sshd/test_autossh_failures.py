"""What autossh is known to do to its users, each as a sentence that is not true of kssh."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from harness import Relay, Sshd, Terminal, alive, free_port, program, run_kssh, wait_for
from links import Kssh, Tunnel, greets, lines_of, quick


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


@pytest.mark.parametrize("status", [1, 7, 255])
@pytest.mark.parametrize("terminal", [False, True])
def test_the_exit_status_is_not_lost(sshd: Sshd, status: int, terminal: bool) -> None:
    words = ["-F", sshd.config, "t", f"exit {status}"]
    if terminal:
        with Terminal([program(), "-t", *words]) as screen:
            assert screen.wait() == status
    else:
        assert run_kssh(words).returncode == status


@pytest.mark.parametrize("way", ["exit 255", "killed link", "kill -9 $$"])
def test_a_command_is_not_run_again(sshd: Sshd, relay: Relay, tmp_path: Path, way: str) -> None:
    note = tmp_path / "note"
    end = "exec sleep 600" if way == "killed link" else way
    words = ["-F", sshd.config_for(relay.port), "t", f"echo ran >>{note}; {end}"]
    with Kssh(words, quick()) as kssh:
        if way == "killed link":
            wait_for(lambda: lines_of(note))
            sshd.kill_sessions()
        assert kssh.wait() == 255
    assert lines_of(note) == ["ran"]
    assert len(relay.accepted) == 1


def test_half_an_upload_is_not_fed_to_a_second_ssh(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    """An archive whose second half arrives alone is worse than one that fails."""
    target = tmp_path / "target"
    words = ["-F", sshd.config_for(relay.port), "t", f"cat >{target}"]
    with Kssh(words, quick(), stdin=subprocess.PIPE) as kssh:
        upload = kssh.process.stdin
        assert upload
        upload.write(b"first half, ")
        upload.flush()
        wait_for(lambda: target.exists() and target.read_bytes() == b"first half, ")
        relay.reset()
        assert kssh.wait() == 255
        upload.close()
    assert target.read_bytes() == b"first half, "
    assert len(relay.accepted) == 1


@pytest.mark.parametrize("words", [[], ["-N"]], ids=str)
def test_a_wrong_password_is_not_asked_for_without_end(tmp_path: Path, words: list[str]) -> None:
    with Sshd(tmp_path / "sshd", "PasswordAuthentication yes\nUsePAM no") as sshd, Relay(sshd.port) as relay:
        options = ["-o", "PasswordAuthentication=yes", "-o", "PubkeyAuthentication=no"]
        options += ["-o", "NumberOfPasswordPrompts=1", *words]
        with Terminal([program(), "-F", sshd.config_for(relay.port), *options, "t"]) as terminal:
            terminal.expect(b"password: ")
            terminal.send(b"wrong\r")
            assert terminal.wait() == 255
        assert len(relay.accepted) == 1


def test_kill_9_leaves_no_ssh_that_holds_the_forward(sshd: Sshd) -> None:
    with Tunnel(sshd, side="-R") as tunnel:
        tunnel.is_up()
        ssh = tunnel.ssh()
        os.kill(tunnel.pid, signal.SIGKILL)
        wait_for(lambda: not alive(ssh))
        wait_for(lambda: not greets(tunnel.port))
        port = tunnel.port
    with Tunnel(sshd, side="-R", port=port, env=quick()) as tunnel:
        tunnel.is_up()
        tunnel.stop()


def test_a_reconnect_never_goes_without_its_forward(sshd: Sshd, relay: Relay) -> None:
    """The old session still holds the port: ssh alone would stay up with a warning and no forward."""
    with Tunnel(sshd, through=relay.port, side="-R", env=quick(INTERVAL=1, COUNTMAX=1)) as tunnel:
        tunnel.is_up()
        tunnel.says("tunnel is up")
        session, first = sshd.sessions()[0], tunnel.ssh()
        os.kill(session, signal.SIGSTOP)  # as one that has not noticed
        wait_for(lambda: not alive(first))
        tunnel.says(f"listen on port {tunnel.port}")
        assert "again" not in tunnel.said, "it is not up without the forward"
        os.kill(session, signal.SIGKILL)
        tunnel.is_up()
        tunnel.says("again")
        tunnel.stop()


def test_a_first_failure_in_the_first_seconds_is_not_final_for_cron(sshd: Sshd, relay: Relay) -> None:
    """autossh's gate: a fault within 30 s of the start ends it."""
    relay.refuse()
    with Tunnel(sshd, through=relay.port, env=quick()) as tunnel:
        tunnel.says("Connection refused")
        relay.listen()
        tunnel.is_up()
        relay.reset()
        tunnel.is_up()
        tunnel.stop()


def test_no_monitoring_port_is_opened(sshd: Sshd) -> None:
    with Tunnel(sshd) as tunnel:
        tunnel.is_up()
        command = Path(f"/proc/{tunnel.ssh()}/cmdline").read_bytes().split(b"\0")
        assert [word for word in command if word in (b"-L", b"-R", b"-D")] == [b"-L"]
        tunnel.stop()


def test_a_free_port_is_free() -> None:
    assert not greets(free_port())
