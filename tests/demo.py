"""A tunnel dies and comes back: kssh against a throwaway sshd on this machine, with times.

Needs no root, and its files are in a temporary directory.  The tunnel counts as up when a greeting
arrives through it, whatever kssh says.  Exits 0 only if everything happened.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import IO

import pytest

from harness import MARK, Sshd, end, free_port, marked, program, wait_for

LIMIT_S = 60  # a few seconds are usual
GREETING = b"hello from this end of the tunnel\n"

began = time.monotonic()


def say(text: str) -> None:
    """Print a line of the timeline."""
    print(f"{time.monotonic() - began:6.2f} s  {text}", flush=True)


def serve_greeting() -> int:
    """Greet whoever connects, until this program ends; return the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(GREETING)

    threading.Thread(target=greet, daemon=True).start()
    return int(listener.getsockname()[1])


def greets(port: int) -> bool:
    """Tell whether the greeting comes from a port."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            return connection.recv(len(GREETING)) == GREETING
    except OSError:
        return False


def repeat(lines: IO[str]) -> None:
    """Put what kssh says into the timeline."""
    for line in lines:
        say(f"    {line.rstrip()}")


def play(folder: Path, mark: str) -> None:
    """Bring a tunnel up, kill its session, wait until it is back, and end it."""
    with Sshd(folder / "sshd") as sshd:
        say(f"sshd on 127.0.0.1:{sshd.port}")
        far_end = free_port()
        forward = f"127.0.0.1:{far_end}:127.0.0.1:{serve_greeting()}"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KSSH_")}
        kssh = subprocess.Popen(
            [program(), "-F", sshd.config, "-N", "-R", forward, "t"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**environment, "KSSH_STATE_DIR": str(folder / "state"), MARK: mark},
            start_new_session=True,  # Ctrl-C here is not meant for it: it is ended below
        )
        assert kssh.stderr
        reader = threading.Thread(target=repeat, args=[kssh.stderr], daemon=True)
        reader.start()
        say(f"kssh -N -R {forward} t")

        wait_for(lambda: greets(far_end), what="the tunnel to come up")
        say("up: a greeting came through the tunnel")
        time.sleep(1)  # nothing to wait for: only so that the timeline can be read

        say(f"the server kills the session: kill -9 {' '.join(map(str, sshd.sessions()))}")
        died = time.monotonic()
        sshd.kill_sessions()
        wait_for(lambda: greets(far_end), what="the tunnel to come back")
        say(f"back after {time.monotonic() - died:.1f} s: a greeting came through the tunnel")

        kssh.terminate()
        status = kssh.wait(10)
        reader.join(5)
        if status != -signal.SIGTERM:
            pytest.fail(f"kssh was asked to end by SIGTERM, and ended with {status}")
        say("kssh ended by SIGTERM")
    wait_for(lambda: not marked(mark), timeout=3, what="every process to go")
    say("clean: no process left")


def main() -> int:
    """Play it, within a time limit; leave nothing behind even if it fails."""

    def stop(signum: int, frame: object) -> None:
        pytest.fail("took too long" if signum == signal.SIGALRM else f"stopped by signal {signum}")

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.alarm(LIMIT_S)
    mark = uuid.uuid4().hex
    try:
        with tempfile.TemporaryDirectory(prefix="demo-") as folder:
            try:
                play(Path(folder), mark)
            finally:
                end(marked(mark))
    except (pytest.fail.Exception, pytest.skip.Exception, subprocess.TimeoutExpired) as problem:
        say(f"FAILED: {problem}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
