"""A shared master that plain ssh made, and that is of no use any more."""

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

from harness import TIMEOUT_S, Argument, Relay, Sshd, Terminal, alive, end, program, run_kssh, wait_for
from links import PROMPT, quick
from pykeepssh.network import connection, mastersocket

SOON = quick(CONNECT_TIMEOUT=2)
DEAD = b"is dead (no answer); connecting without it"


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


@contextmanager
def master(sshd: Sshd, relay: Relay, path: Path) -> Iterator[int]:
    """A master at a socket that works: its process."""
    words = ["ssh", "-F", sshd.config_for(relay.port), "-S", path, "-MNT", "t"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: mastersocket.pid(str(path)) == process.pid)
            yield process.pid
        finally:
            process.kill()


def test_a_master_is_asked_which_process_it_is(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "m"
    assert mastersocket.pid(str(path)) is None
    with master(sshd, relay, path) as pid:
        assert mastersocket.pid(str(path)) == pid
        found = connection.first_of(pid)
        assert found is not None
        assert (found.remote, found.remote_port) == ("127.0.0.1", relay.port)
        os.kill(pid, signal.SIGSTOP)
        assert mastersocket.pid(str(path), 0.1) == mastersocket.SILENT
        os.kill(pid, signal.SIGCONT)
    assert mastersocket.pid(str(path)) is None


def test_a_master_that_persists_is_the_child_of_who_made_the_socket(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    words = ["-F", sshd.config_for(relay.port), "-S", path, "-o", "ControlPersist=60"]
    subprocess.run(
        ["ssh", *words, "-M", "t", "true"], stdin=subprocess.DEVNULL, check=True, timeout=TIMEOUT_S
    )
    pid = mastersocket.pid(str(path))
    assert pid and alive(pid)
    assert connection.first_of(pid) is not None
    subprocess.run(["ssh", *words, "-O", "exit", "t"], capture_output=True, check=True, timeout=TIMEOUT_S)
    wait_for(lambda: not alive(pid))


def test_what_is_no_master_s_answer_is_none(tmp_path: Path) -> None:
    path = str(tmp_path / "m")
    for answer in (b"", b"\0\0\0\1x", b"\xff\xff\xff\xff", b"\0\0\0\4\x80\0\0\5", b"\0\0\0\4\0"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            asked = subprocess.Popen(
                [
                    "python3",
                    "-c",
                    f"from pykeepssh.network import mastersocket as m; print(m.pid({path!r}, 20))",
                ],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[2],
            )
            taken, _ = listener.accept()
            taken.sendall(answer)
            taken.shutdown(socket.SHUT_WR)
            assert asked.communicate(timeout=TIMEOUT_S)[0] == b"None\n"
            taken.close()
        os.unlink(path)


@pytest.mark.parametrize("how", ["stopped", "its link is silent"])
@pytest.mark.parametrize("option", ["-S", "ControlPath"])
def test_a_new_kssh_does_not_hang_with_a_dead_master(
    sshd: Sshd, relay: Relay, tmp_path: Path, how: str, option: str
) -> None:
    path = tmp_path / "m"
    with master(sshd, relay, path) as pid:
        shared: list[Argument] = ["-S", path] if option == "-S" else ["-o", f"ControlPath={path}"]
        if how == "stopped":
            os.kill(pid, signal.SIGSTOP)
        else:
            relay.freeze()
        ran = tmp_path / "ran"
        command: list[Argument] = [program(), "-F", sshd.config, *shared, "-t", "t", f"echo >>{ran}; exit 3"]
        with Terminal(command, env=SOON, columns=250) as terminal:
            assert terminal.wait() == 3
            assert DEAD in terminal.output
        assert ran.read_text() == "\n"  # once
        assert alive(pid)


def test_a_stream_does_not_hang_with_a_master_that_is_stopped(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    path = tmp_path / "m"
    words: list[Argument] = ["-F", sshd.config, "-S", path, "t", "cat; exit 3"]
    logins = sshd.log.count("Accepted publickey")
    with master(sshd, relay, path) as pid:
        for stopped in (True, False):
            if stopped:
                os.kill(pid, signal.SIGSTOP)
            done = run_kssh(words, stdin=b"bytes")
            assert (done.returncode, done.stdout) == (3, b"bytes")
            assert (DEAD in done.stderr) == stopped
            os.kill(pid, signal.SIGCONT)
            # The second went through the master: nobody logged in for it.
            assert sshd.log.count("Accepted publickey") == logins + 2


def test_another_master_is_used_again(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with master(sshd, relay, path) as pid:
        os.kill(pid, signal.SIGSTOP)
        words: list[Argument] = ["-F", sshd.config, "-S", path, "t"]
        with Terminal([program(), *words], env=SOON, columns=250) as terminal:
            terminal.expect(PROMPT)
            assert DEAD in terminal.output
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: len(sshd.sessions()) == 1)
            (own,) = sshd.sessions()
            path.unlink()
            with master(sshd, relay, path):
                wait_for(lambda: len(sshd.sessions()) == 2)
                session = psutil.Process(own)
                end([session, *session.children(recursive=True)])
                terminal.expect(b"back after")
                assert len(sshd.sessions()) == 1  # the master's alone


def test_a_slow_answer_is_no_dead_master(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "m"
    with master(sshd, relay, path):
        relay.freeze()
        with Terminal(
            [program(), "-F", sshd.config, "-S", path, "t"], env=quick(CONNECT_TIMEOUT=60)
        ) as terminal:
            time.sleep(1)
            relay.thaw()
            terminal.expect(PROMPT)
            assert b"is dead" not in terminal.output
            terminal.send(b"exit\r")
            assert terminal.wait() == 0
