#!/usr/bin/env python3
# ruff: noqa: T201 - printing is what it is for
"""What a terminal session costs over plain ssh's: throughput, keystroke echo, log-out.

Runs ssh, kssh, script(1) with ssh in it, and a script that hands ssh to pexpect's interact(), in
turn, each on a pseudo-terminal of its own with a reader that takes all it gets, against one sshd on
this machine.  Ratios are medians over the rounds, so that the machine's mood meets all alike.
script(1) is a relay in C that does nothing else: it shows what a second pseudo-terminal costs on
this machine whoever serves it.  The goals: at least 0.9 of ssh's throughput, an echo at most 0.3 ms
later at the median.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import statistics
import string
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Sshd, need

GOAL_RATIO, GOAL_ECHO_MS = 0.9, 0.3
BEGIN, END = b"<begin>", b"<end>"
INTERACT = """\
import sys, pexpect
child = pexpect.spawn(sys.argv[1], sys.argv[2:], dimensions=(24, 80))
child.interact(escape_character=None)
child.close()
sys.exit(child.exitstatus)
"""
SCRIPT = """\
import os, shlex, sys
os.execv(sys.argv[1], ["script", "-q", "-e", "-c", shlex.join(sys.argv[2:]), "/dev/null"])
"""
READ_BYTES = 65536
ECHO_PAUSE_S = 0.004


class Session:
    """A command on a pseudo-terminal of its own."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        self.pid, self.fd = os.forkpty()
        if self.pid == 0:
            os.execvpe(command[0], command, env)

    def until(self, mark: bytes, tail: bytes = b"") -> tuple[int, bytes]:
        """Read up to a mark, or the end; return how many bytes came, and the last of them."""
        count = 0
        while True:
            try:
                data = os.read(self.fd, READ_BYTES)
            except OSError:  # the other side has gone
                return count, tail
            count += len(data)
            tail = tail[-len(mark) :] + data
            if mark in tail:
                return count, tail

    def end(self) -> int:
        """Read to the end and reap; return the status."""
        try:
            while os.read(self.fd, READ_BYTES):
                pass
        except OSError:  # the other side has gone
            pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return status

    def kill(self) -> None:
        """End it in a hurry."""
        os.kill(self.pid, signal.SIGKILL)
        self.end()


def throughput(command: list[str], env: dict[str, str]) -> tuple[float, bool]:
    """Return the MB/s at which what stands between the marks came, and whether all of it came."""
    session = Session(command, env)
    _, rest = session.until(BEGIN)
    began = time.perf_counter()
    count, rest = session.until(END, rest.partition(BEGIN)[2])
    took_s = time.perf_counter() - began
    if session.end():
        sys.exit(f"failed: {command}")
    return count / took_s / 1e6, END in rest


def echoes_ms(sessions: dict[str, Session], samples: int) -> dict[str, list[float]]:
    """Return how long characters took that were typed in turn into open sessions that send them back."""
    took: dict[str, list[float]] = {name: [] for name in sessions}
    order = list(sessions)
    for sample in range(samples + 20):
        random.shuffle(order)
        for name in order:
            time.sleep(ECHO_PAUSE_S)  # nobody types into a session that is still busy
            character = b"abcdefghij"[sample % 10 : sample % 10 + 1]
            began = time.perf_counter()
            os.write(sessions[name].fd, character)
            sessions[name].until(character)
            if sample >= 20:
                took[name].append((time.perf_counter() - began) * 1000)
    return took


def log_out_ms(command: list[str], env: dict[str, str]) -> float:
    """Return how long a command took to end once the remote side was told to."""
    session = Session(command, env)
    session.until(BEGIN)
    time.sleep(0.05)  # until the session is quiet
    began = time.perf_counter()
    os.write(session.fd, b"\r")
    if session.end():
        sys.exit(f"failed: {command}")
    return (time.perf_counter() - began) * 1000


def main() -> int:
    """Print the figures; the status tells whether the goals were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=7, help="rounds (7)")
    parser.add_argument("--samples", type=int, default=300, help="keystrokes (300)")
    parser.add_argument("--megabytes", type=int, default=50, help="of raw output (50)")
    parser.add_argument("--kssh", default=str(Path(sys.executable).parent / "kssh"), help="the kssh to run")
    parser.add_argument("--short", action="store_true", help="ssh and kssh only")
    given = parser.parse_args()
    env = {n: v for n, v in os.environ.items() if not n.startswith(("KSSH_", "PYTHON"))}
    env.update(TERM="xterm", KSSH_RESTART="attended")  # kssh would take this program for what drives it
    ssh = need("ssh")

    with tempfile.TemporaryDirectory(prefix="terminal-") as name, Sshd(Path(name) / "sshd") as sshd:
        folder = Path(name)
        letters = (string.ascii_letters + string.digits).encode() + b"  "
        some = bytes(random.choices(letters, k=1_000_000))
        lines = b"\r\n".join(some[at : at + 78] for at in range(0, len(some), 78))
        (folder / "output").write_bytes(lines * given.megabytes)
        (folder / "interact.py").write_text(INTERACT)
        (folder / "script.py").write_text(SCRIPT)
        begin, end = f"printf {BEGIN.decode()!r}", f"printf {END.decode()!r}"
        # Output as it is, as full-screen programs send it, and as a terminal makes it of lines.
        raw = f"stty raw -echo; {begin}; cat {folder}/output; {end}"
        seq = f"stty -echo; {begin}; seq 3000000; {end}"
        echo = f"stty raw -echo; {begin}; exec cat"
        leave = f"{begin}; read line"
        here = ["-F", str(sshd.config), "-tt", "t"]
        programs = {"ssh": [ssh, *here], "kssh": [given.kssh, *here]}
        if not given.short:
            programs["interact()"] = [sys.executable, str(folder / "interact.py"), ssh, *here]
            programs["script(1)"] = [sys.executable, str(folder / "script.py"), need("script"), ssh, *here]

        speeds: dict[tuple[str, str], list[float]] = {}
        leaves: dict[str, list[float]] = {program: [] for program in programs}
        cut = dict.fromkeys(programs, 0)
        order = list(programs)
        for round_ in range(given.n):
            random.shuffle(order)
            for what, command in (("raw output", raw), ("seq 3000000", seq)):
                for program in order:
                    speed, is_whole = throughput([*programs[program], command], env)
                    speeds.setdefault((what, program), []).append(speed)
                    cut[program] += not is_whole
            for program in order * 3:
                leaves[program].append(log_out_ms([*programs[program], leave], env))
            print(f"round {round_ + 1} of {given.n}", file=sys.stderr)
        sessions = {program: Session([*programs[program], echo], env) for program in ("ssh", "kssh")}
        for session in sessions.values():
            session.until(BEGIN)
        echoes = echoes_ms(sessions, given.samples)
        for session in sessions.values():
            session.kill()

    met = True
    for what in ("raw output", "seq 3000000"):
        plain = speeds[what, "ssh"]
        for program in programs:
            ratio = statistics.median(a / b for a, b in zip(speeds[what, program], plain))
            median = statistics.median(speeds[what, program])
            print(f"{median:8.1f} MB/s  {what:12s} {program:11s} {ratio:.2f} of ssh")
            met &= program != "kssh" or ratio >= GOAL_RATIO
    for program, times in cut.items():
        print(f"{times:8d} of {2 * given.n} outputs lost their end with {program}")
        met &= program != "kssh" or not times
    for program, values in echoes.items():
        late = statistics.quantiles(values, n=20)[-1]
        print(f"{statistics.median(values):8.2f} ms    echo         {program:11s} 95 %: {late:.2f} ms")
    later_ms = statistics.median(a - b for a, b in zip(echoes["kssh"], echoes["ssh"]))
    print(f"{later_ms:8.2f} ms    echo         later than ssh's, at the median of {given.samples} pairs")
    met &= later_ms <= GOAL_ECHO_MS
    for program, values in leaves.items():
        print(f"{statistics.median(values):8.2f} ms    log-out      {program}")
    print(f"(medians of {given.n} rounds; goals: {GOAL_RATIO} of ssh, echo {GOAL_ECHO_MS} ms later)")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
