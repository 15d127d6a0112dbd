"""KSSH_FIRST_START=retry for commands and pipes: kssh waits for the server, then ssh has the streams."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from harness import Argument, Relay, Sshd, fake_ssh, free_port, run_kssh, wait_for
from links import CONNECT, REFUSE, Kssh, lines_of, quick, started, with_fake

PIPE = subprocess.PIPE
RETRY = quick(FIRST_START="retry")


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


class Waiting(Kssh):
    """A kssh that waits for a server behind a relay that refuses."""

    def __init__(self, sshd: Sshd, relay: Relay, *command: Argument, **kssh: object) -> None:
        relay.refuse()
        config = sshd.config_for(relay.port)
        super().__init__(["-F", config, *command], RETRY, **kssh)  # type: ignore[arg-type]
        self.says("retry 2")


def test_a_command_waits_for_its_server_and_runs_once(sshd: Sshd, tmp_path: Path) -> None:
    note = tmp_path / "note"
    command = f"echo ran >>{note}; cat; echo err >&2; exit 7"
    data = bytes(range(256)) * 4000
    with Relay(sshd.port) as relay, Waiting(sshd, relay, "t", command, stdin=PIPE, stdout=PIPE) as kssh:
        assert "ssh: connect to host 127.0.0.1 port" in kssh.said
        relay.listen()
        output, _ = kssh.process.communicate(data, 30)
        assert (output, kssh.wait()) == (data, 7)
        assert kssh.said.rstrip().endswith("err")
    assert lines_of(note) == ["ran"]


def test_a_session_that_was_lost_is_not_begun_again(sshd: Sshd, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Relay(sshd.port) as relay, Waiting(sshd, relay, "t", f"echo ran >>{note}; sleep 600") as kssh:
        relay.listen()
        wait_for(lambda: lines_of(note))
        relay.reset()
        assert kssh.wait() == 255
    assert lines_of(note) == ["ran"]


def test_a_port_is_connected_to_once_the_server_is_there(sshd: Sshd) -> None:
    with Relay(sshd.port) as relay:
        words = ["-W", f"127.0.0.1:{sshd.port}", "t"]
        with Waiting(sshd, relay, *words, stdin=PIPE, stdout=PIPE) as kssh:
            relay.listen()
            output, _ = kssh.process.communicate(b"SSH-2.0-probe\r\n", 30)
            assert output.startswith(b"SSH-2.0-OpenSSH")


@pytest.mark.parametrize("env", [{}, RETRY], ids=["ssh", "kssh that would wait"])
def test_the_end_of_the_output_is_ssh_s(sshd: Sshd, env: dict[str, str]) -> None:
    """A command that closes its output, and runs on, ends ours."""
    with Kssh(["-F", sshd.config, "t", "exec >&- 2>&-; exec sleep 600"], env, stdout=PIPE) as kssh:
        assert kssh.process.stdout is not None
        with kssh.process.stdout as output:
            assert output.read() == b""
        assert kssh.process.poll() is None


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
@pytest.mark.parametrize("when", ["waits", "runs"])
def test_a_signal_ends_it(sshd: Sshd, tmp_path: Path, name: str, when: str) -> None:
    note, signum = tmp_path / "note", getattr(signal, f"SIG{name}")
    if when == "runs":
        with Kssh(["-F", sshd.config, "t", f"echo ran >>{note}; sleep 600"], RETRY) as kssh:
            wait_for(lambda: lines_of(note))
            kssh.send(signum)
            assert kssh.wait() == -signum
        return
    with Relay(sshd.port) as relay, Waiting(sshd, relay, "t", "true") as kssh:
        kssh.send(signum)
        assert kssh.wait() == -signum


def test_a_command_in_the_background_is_there_when_the_caller_goes_on(sshd: Sshd, tmp_path: Path) -> None:
    note = tmp_path / "note"
    with Relay(sshd.port) as relay:
        relay.refuse()
        words: list[Argument] = ["-f", "-F", sshd.config_for(relay.port), "t", f"cat; echo ran >>{note}"]
        with Kssh(words, RETRY, stdin=PIPE) as kssh:
            kssh.says("retry 2")
            relay.listen()
            assert kssh.wait() == 0
            wait_for(lambda: lines_of(note))


def test_one_that_waits_is_ended_by_nobody_s_refusal(sshd: Sshd) -> None:
    """A key that is not accepted, a host key that is wrong: no server that comes back cures that."""
    for option in ("User=no-such-user", "HostKeyAlias=other"):
        done = run_kssh(["-F", sshd.config, "-o", option, "t", "true"], RETRY)
        assert done.returncode == 255
        assert b"retry" not in done.stderr


def test_without_the_variable_it_ends_as_ssh_does() -> None:
    done = run_kssh(["-F", "none", "-p", str(free_port()), "127.0.0.1", "true"])
    assert done.returncode == 255
    assert b"kssh: " not in done.stderr


# A fake for what no real ssh can be made to do at a chosen moment.

AUTHENTICATED = CONNECT + "log 'Authenticated to 127.0.0.1 ([127.0.0.1]:22) using \"publickey\".'\n"
RESET = "log 'Connection reset by 127.0.0.1 port 22'; exit 255\n"


def test_a_first_line_of_input_is_there_for_the_ssh_that_reaches_the_server(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f'if [ "$start" -lt 3 ]; then {REFUSE.strip()}; fi; {CONNECT}\ncat; exit 4')
    done = run_kssh(
        ["host", "command"], with_fake(fake, FIRST_START="retry", BACKOFF_MAX=1), stdin=b"one\ntwo\n"
    )
    assert (done.returncode, done.stdout) == (4, b"one\ntwo\n")
    assert len(fake.starts) == 3


def test_an_ssh_that_was_authenticated_is_the_last(tmp_path: Path) -> None:
    """A LocalCommand may have read from the input by then."""
    fake = fake_ssh(tmp_path, AUTHENTICATED + RESET)
    done = run_kssh(["host", "command"], with_fake(fake, FIRST_START="retry", BACKOFF_MAX=1))
    assert done.returncode == 255
    assert len(fake.starts) == 1


def test_death_by_a_signal_is_ssh_s(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, AUTHENTICATED + "log 'debug1: Entering interactive session.'; kill -USR2 $$")
    done = run_kssh(["host", "command"], with_fake(fake, FIRST_START="retry"))
    assert done.returncode == -signal.SIGUSR2


def test_ssh_does_not_outlive_a_kssh_that_is_killed(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, AUTHENTICATED + "exec sleep 600")
    with Kssh(["host", "command"], with_fake(fake, FIRST_START="retry")) as kssh:
        pid = started(fake).pid
        kssh.send(signal.SIGKILL)
        wait_for(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
