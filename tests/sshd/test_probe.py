"""ksshctl probe against a real sshd: each way in which an idle connection can end, and how it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from harness import Sshd, alive, free_port, program, wait_for

TIMEOUT_S = 4.5


class Forgetful:
    """A relay that cuts each connection which was idle for so long; with a reset, or in silence."""

    def __init__(self, target_port: int, timeout_s: float, resets: bool) -> None:
        self.port = free_port()
        self._target_port = target_port
        self._timeout_s = timeout_s
        self._resets = resets
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._stop, self._stopped = os.pipe()
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Forgetful:
        self._threads[0].start()
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._stopped)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        os.close(self._stop)

    def _listen(self) -> None:
        while self._stop not in select.select([self._listener, self._stop], [], [])[0]:
            self._threads.append(threading.Thread(target=self._carry, args=[self._listener.accept()[0]]))
            self._threads[-1].start()

    def _carry(self, near: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            near,
            socket.create_connection(("127.0.0.1", self._target_port)) as far,
        ):
            other = {near: far, far: near}
            last = time.monotonic()
            while True:
                ready = select.select([near, far, self._stop], [], [], 0.02)[0]
                if self._stop in ready:
                    return
                if time.monotonic() >= last + self._timeout_s:
                    break
                for side in ready:
                    data = side.recv(65536)
                    if not data:
                        return
                    other[side].sendall(data)
                    last = time.monotonic()
            if self._resets:
                for side in other:
                    side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                select.select([self._stop], [], [])


@contextlib.contextmanager
def probing(config: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a probe of the host "t"."""
    words = [program("ksshctl"), "probe", "t", "--patience", "1", *options, "--", "-F", str(config)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def probe(config: Path, *options: str) -> tuple[int, str, str]:
    """Run a probe; return its status and what it wrote."""
    with probing(config, *options) as process:
        out, err = process.communicate()
    return process.returncode, out, err


def remembered() -> list[dict[str, object]]:
    """Return every result that is remembered."""
    return [json.loads(path.read_text()) for path in Path(os.environ["KSSH_STATE_DIR"]).glob("probes/*")]


@pytest.mark.parametrize(("resets", "how"), [(False, "in silence"), (True, "with a reset")])
def test_the_timeout_of_a_relay_is_found(sshd: Sshd, resets: bool, how: str) -> None:
    with Forgetful(sshd.port, TIMEOUT_S, resets) as relay:
        status, out, err = probe(sshd.config_for(relay.port), "--max", "8")
    assert status == 0, err
    found = re.search(r"is cut after (\S+) s to (\S+) s of quiet", out)
    assert found, out + err
    assert TIMEOUT_S - 1.5 < float(found[1]) < TIMEOUT_S + 0.2 < float(found[2]) + 0.4 < TIMEOUT_S + 1.5
    assert how in out
    assert "ksshctl keepalive set --user --host t --interval 1\n" in out
    assert [one["how"] for one in remembered()] == [how.rpartition(" ")[2].replace("silence", "silent")]


def survives_s(out: str) -> float:
    """Return for how long a line was quiet and lived, by a verdict; a busy machine adds to it."""
    found = re.search(r"survives (\S+) s of quiet; none was cut", out)
    assert found, out
    return float(found[1])


def test_a_line_that_cuts_nothing_is_said_to_survive(sshd: Sshd) -> None:
    status, out, err = probe(sshd.config, "--max", "4")
    assert status == 0, err
    assert 4 <= survives_s(out) < 8
    assert [(one["dead_s"], one["interval_s"]) for one in remembered()] == [(None, 15)]


def test_a_person_at_a_terminal_sees_a_bar_with_the_time_left(sshd: Sshd) -> None:
    words = ["probe", "t", "--max", "3", "--patience", "1", "--", "-F", str(sshd.config)]
    with pexpect.spawn(program("ksshctl"), words, dimensions=(24, 100), encoding="utf-8") as terminal:
        terminal.expect(r"round 1 .* [234] s left")
        terminal.expect("still alive")
        terminal.expect(r"survives 3(\.\d)? s of quiet")
        shown = terminal.before
        terminal.expect(pexpect.EOF)
    assert terminal.exitstatus == 0
    assert "\x1b[?25h" in shown  # the cursor is back


def test_a_server_that_keeps_the_line_busy_is_told_of(sshd: Sshd) -> None:
    sshd.restart("ClientAliveInterval 3")
    began = time.monotonic()
    status, out, err = probe(sshd.config, "--max", "30")
    assert status == 0, err
    assert "ClientAliveInterval" in out
    assert "none was cut" not in out
    assert time.monotonic() < began + 20


def test_who_cannot_connect_learns_it_from_ssh(sshd: Sshd) -> None:
    port = free_port()
    status, out, err = probe(sshd.config_for(port), "--max", "4")
    assert (status, out) == (1, "")
    assert f"ssh: connect to host 127.0.0.1 port {port}: Connection refused\n" in err
    assert remembered() == []


def test_a_host_that_runs_no_cat_is_told_of(sshd: Sshd) -> None:
    sshd.restart("ForceCommand exit 7")
    status, _, err = probe(sshd.config, "--max", "4")
    assert status == 1
    assert "without an echo (exit status 7)" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["t", "--max", "x"], 2, "argument --max: x: expected a time of 2 to 86400 seconds"),
        (["t", "--step", "0"], 2, "argument --step: 0: expected a time of 1 "),
        (["t", "--", "-N"], 1, "ssh's option -N has no place in a probe"),
        (["t", "--", "other"], 1, "expected one HOST"),
        (["t", "--", "-p"], 1, "expected one HOST"),
        (["t", "u"], 2, "unrecognized arguments: u"),
        ([], 2, "HOST"),
    ],
)
def test_words_that_cannot_be_used_are_named(words: list[str], status: int, said: str) -> None:
    done = subprocess.run([program("ksshctl"), "probe", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def sessions_of(process: subprocess.Popen[str], number: int) -> list[int]:
    """Wait until a probe holds a number of sessions; return their pids."""

    def found() -> list[int]:
        children = [child.pid for child in psutil.Process(process.pid).children() if child.name() == "ssh"]
        return children if len(children) >= number else []

    return wait_for(found)


def test_an_interruption_tells_what_is_known_and_remembers_nothing(sshd: Sshd) -> None:
    with probing(sshd.config, "--max", "60") as process:
        assert process.stderr
        wait_for(lambda: "still alive" in process.stderr.readline())  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate()
        assert process.returncode == 130
    assert "Interrupted; this is not remembered." in out
    assert 2 <= survives_s(out) < 4
    assert "Recommended" not in out
    assert remembered() == []


@pytest.mark.parametrize("cut", [False, True])
def test_nothing_outlives_a_killed_probe(sshd: Sshd, cut: bool) -> None:
    with Forgetful(sshd.port, 1.0 if cut else 60.0, False) as relay:
        with probing(sshd.config_for(relay.port), "--max", "60") as process:
            pids = sessions_of(process, 5)
            if cut:
                time.sleep(1.5)
            process.kill()
            process.wait()
            wait_for(lambda: not any(alive(pid) for pid in pids), what="ssh to end")
        if not cut:
            wait_for(lambda: not sshd.sessions(), what="the server's side to end")
    assert remembered() == []


def test_kssh_uses_what_was_found(sshd: Sshd, tmp_path: Path) -> None:
    script = tmp_path / "ssh"
    script.write_text('#!/bin/sh\n[ "$1" = -G ] && exec ssh "$@"\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)

    def interval() -> list[str]:
        environment = {**os.environ, "KSSH_INTERVAL": "auto", "KSSH_SSH": str(script)}
        words = [program(), "-F", str(sshd.config), "t", "true"]
        out = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
        return re.findall(r"ServerAliveInterval=(.*)", out)

    assert interval() == ["15"]
    with Forgetful(sshd.port, 6.5, resets=True) as relay:
        config = sshd.config_for(relay.port)
        assert probe(config, "--max", "8")[0] == 0
    assert interval() == ["15"]
    sshd.config = config
    assert interval() == ["2"]
