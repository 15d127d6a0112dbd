#!/usr/bin/env python3
# ruff: noqa: T201 - printing is what it is for
"""kssh, autossh and a plain loop: what each does when something goes wrong, seen from outside.

Every column has an sshd, a relay and files of its own on this machine, so they run side by side.
autossh and the loop get the keepalive options that autossh's manual asks for with "-M 0"; kssh gets
none.  "gate off" is autossh at its best for tunnels: AUTOSSH_GATETIME=0 and ExitOnForwardFailure=yes.
Prints a table in Markdown.  Takes two and a half minutes, most of it to let autossh's gate time of 30 s pass.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import psutil

from harness import MARK, Relay, Sshd, alive, end, free_port, marked, need, program

GATE_S = 31  # longer than autossh's default gate time: what comes later is a link that had worked
KEEPALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")


class Column(NamedTuple):
    """One program with its flags.

    title      head of the column
    words      the command's first words
    keepalive  options of ssh that follow them
    env        variables besides those of the caller
    log        variable that names a log file, or "" if the program says why on standard error
    """

    title: str
    words: tuple[str, ...]
    keepalive: tuple[str, ...]
    env: dict[str, str]
    log: str = ""


def columns() -> list[Column]:
    """Return what is compared."""
    autossh = (need("autossh"), "-M", "0")
    return [
        Column("kssh", (program(),), (), {}),
        Column("autossh -M 0", autossh, KEEPALIVE, {}, "AUTOSSH_LOGFILE"),
        Column(
            "autossh -M 0, gate off",
            (*autossh, "-o", "ExitOnForwardFailure=yes"),
            KEEPALIVE,
            {"AUTOSSH_GATETIME": "0"},
            "AUTOSSH_LOGFILE",
        ),
        Column(
            "until ssh …; do sleep 1; done",
            ("/bin/sh", "-c", 'until ssh "$@"; do sleep 1; done', "sh"),
            KEEPALIVE,
            {},
        ),
    ]


class Bench:
    """One column's own sshd, relay and files."""

    def __init__(self, column: Column, folder: Path, sshd: Sshd, relay: Relay) -> None:
        self.column = column
        self.folder = folder
        self.sshd = sshd
        self.relay = relay
        self.config = sshd.config_for(relay.port)
        self.log = folder / "log"

    @contextlib.contextmanager
    def run(self, *words: str, stdin: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
        """Start the program against the relay; end it and all that it started afterwards."""
        mark = uuid.uuid4().hex
        clean = {n: v for n, v in os.environ.items() if not n.startswith(("KSSH_", "AUTOSSH_"))}
        env = {**clean, **self.column.env, "KSSH_STATE_DIR": str(self.folder / "state"), MARK: mark}
        if self.column.log:
            env[self.column.log] = str(self.log)
        self.log.write_bytes(b"")
        with self.log.open("ab") as errors:
            process = subprocess.Popen(
                [*self.column.words, *self.column.keepalive, "-F", str(self.config), *words],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env=env,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                end(marked(mark))
                process.wait()

    def said(self) -> list[str]:
        """Return what the program has said so far."""
        return [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]


def soon(condition: Callable[[], object], limit_s: float) -> bool:
    """Tell whether something comes true within a time."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def status(process: subprocess.Popen[bytes], limit_s: float) -> str:
    """Return how a program ended, in words."""
    try:
        return f"status {process.wait(limit_s)}"
    except subprocess.TimeoutExpired:
        return "still running"


def answers(port: int) -> bool:
    """Tell whether an SSH banner comes from a port: it leads through the tunnel to sshd."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def times(number: int) -> str:
    """Return "once", "2 times" and so on."""
    return {0: "never", 1: "once"}.get(number, f"{number} times")


# The rows.  Each returns what was seen, in a few words.


def exit_status(bench: Bench) -> str:
    """``exit N`` on the far side, for N = 0, 1, 3."""
    seen = []
    for wanted in (0, 1, 3):
        with bench.run("t", f"exit {wanted}") as process:
            seen.append(status(process, 5))
    return ", ".join(one.removeprefix("status ") for one in seen)


def ran_twice(bench: Bench) -> str:
    """A remote command; its link is cut after 31 s."""
    mark = bench.folder / "ran"
    with bench.run("t", f"echo run >> {mark}; sleep 60") as process:
        soon(mark.exists, 10)
        time.sleep(GATE_S)
        bench.relay.reset()
        ended = status(process, 8)
        return f"ran {times(len(mark.read_text().splitlines()))}; {ended}"


def half_upload(bench: Bench) -> str:
    """``cat > file`` with 5 MB; the link is cut in the middle, after 31 s."""
    target, runs = bench.folder / "upload", bench.folder / "uploads"
    half = 2_500_000
    command = f"echo run >> {runs}; cat > {target}"
    with bench.run("t", command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        process.stdin.write(b"1" * half)
        process.stdin.flush()
        soon(lambda: target.exists() and target.stat().st_size == half, 10)
        time.sleep(GATE_S)
        bench.relay.reset()
        time.sleep(3)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(b"2" * half)
            process.stdin.close()
        ended = status(process, 10)
        arrived = target.read_bytes()
        what = {b"1": "the first half", b"2": "the second half alone", b"": "nothing"}[arrived[:1]]
        if arrived[-1:] == b"2" and arrived[:1] == b"1":
            what = "all of it"
        return f"ran {times(len(runs.read_text().splitlines()))}; the file holds {what}; {ended}"


def wrong_key(bench: Bench) -> str:
    """A tunnel whose key the server does not accept, for 10 s."""
    return denied(bench, 0)


def wrong_key_later(bench: Bench) -> str:
    """The same after a session of 31 s, for 10 s."""
    return denied(bench, GATE_S)


def denied(bench: Bench, healthy_s: float) -> str:
    """Take the key's permission away at the start or after a healthy session; count the attempts."""
    allowed, hidden = bench.sshd.directory / "authorized_keys", bench.sshd.directory / "hidden"
    if not healthy_s:
        allowed.rename(hidden)
    try:
        bench.relay.accepted.clear()
        with bench.run("-N", "t") as process:
            if healthy_s:
                soon(lambda: "session opened" in bench.sshd.log or bench.sshd.sessions(), 10)
                time.sleep(healthy_s)
                allowed.rename(hidden)
                bench.relay.accepted.clear()
                bench.relay.reset()
            ended = status(process, 10)
            return f"tried {times(len(bench.relay.accepted))}; {ended}"
    finally:
        hidden.rename(allowed)


def orphan(bench: Bench) -> str:
    """A tunnel; the program is killed with SIGKILL."""
    with bench.run("-N", "t") as process:
        soon(bench.sshd.sessions, 10)
        time.sleep(0.5)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.kill()
        process.wait()
        gone = soon(lambda: not any(alive(pid) for pid in children), 3)
        return "ssh goes with it" if gone else "ssh stays, and nobody watches it"


def forward_missing(bench: Bench) -> str:
    """A tunnel with -R, lost after 31 s; its port stays held on the server for 8 s."""
    port = free_port()
    with bench.run("-N", "-R", f"127.0.0.1:{port}:127.0.0.1:{bench.sshd.port}", "t") as process:
        if not soon(lambda: answers(port), 10):
            return "never up"
        time.sleep(GATE_S)
        bench.relay.refuse()
        bench.relay.reset()
        holder = socket.socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def bound() -> bool:
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                holder.listen()
                return True
            return False

        if not soon(bound, 5):
            return "not measured: the port could not be held"
        bench.relay.listen()
        time.sleep(8)
        holder.close()
        released = time.monotonic()
        if soon(lambda: answers(port), 30):
            return f"back {time.monotonic() - released:.0f} s after the port is free"
        runs = "ssh runs" if process.poll() is None and bench.sshd.sessions() else "nothing runs"
        return f"not back in 30 s; {runs}"


def first_start(bench: Bench) -> str:
    """A tunnel whose server is down for the first 5 s."""
    port = free_port()
    bench.relay.refuse()
    try:
        with bench.run("-N", "-R", f"127.0.0.1:{port}:127.0.0.1:{bench.sshd.port}", "t") as process:
            time.sleep(5)
            bench.relay.listen()
            if soon(lambda: answers(port), 20):
                return "waits, then works"
            return f"gives up; {status(process, 0.1)}"
    finally:
        bench.relay.listen()


def says_why(bench: Bench) -> str:
    """What it says when the server stops answering; keepalive of 1 s, one probe."""
    quick = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=1")
    # The loss comes at once, so the gate time is switched off for both columns of autossh.
    env = {**bench.column.env, **({"AUTOSSH_GATETIME": "0"} if bench.column.log else {})}
    column = bench.column._replace(keepalive=quick, env=env)
    one = Bench(column, bench.folder, bench.sshd, bench.relay)
    with one.run("-N", "t"):
        soon(bench.sshd.sessions, 10)
        time.sleep(1)
        before = len(one.said())
        bench.relay.freeze()
        try:
            soon(lambda: len(one.said()) > before, 10)
            time.sleep(0.5)
            said = one.said()[before:]
        finally:
            bench.relay.thaw()
        own = [line for line in said if not line.startswith("Timeout, server ")]
        return f"`{own[0]}`" if own else "nothing but ssh's own line"


ROWS: dict[str, Callable[[Bench], str]] = {
    "status of `exit 0`, `exit 1`, `exit 3`": exit_status,
    "remote command, link cut after 31 s": ran_twice,
    "upload of 5 MB, link cut in the middle, after 31 s": half_upload,
    "tunnel, key not accepted, seen for 10 s": wrong_key,
    "tunnel, key not accepted after a session of 31 s, seen for 10 s": wrong_key_later,
    "the program is killed with SIGKILL": orphan,
    "`-R`, link cut after 31 s, port still held for 8 s": forward_missing,
    "tunnel, server down for the first 5 s": first_start,
    "says why, when the server stops answering": says_why,
}


def measure(column: Column) -> list[str]:
    """Return one column's cells."""
    cells = []
    for title, row in ROWS.items():
        with tempfile.TemporaryDirectory(prefix="compare-") as name:
            folder = Path(name)
            with Sshd(folder / "sshd") as sshd, Relay(sshd.port) as relay:
                cells.append(row(Bench(column, folder, sshd, relay)))
        print(f"{column.title}: {title}: {cells[-1]}", file=sys.stderr, flush=True)
    return cells


def main() -> int:
    """Print the table."""
    compared = columns()
    with ThreadPoolExecutor(len(compared)) as pool:
        cells = list(pool.map(measure, compared))
    print("| | " + " | ".join(column.title for column in compared) + " |")
    print("|---" * (len(compared) + 1) + "|")
    for title, row in zip(ROWS, zip(*cells)):
        print(f"| {title} | " + " | ".join(row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
