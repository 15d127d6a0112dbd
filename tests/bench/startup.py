#!/usr/bin/env python3
# ruff: noqa: T201 - printing is what it is for
"""What "kssh host command" costs over "ssh host command", in starts of a bare Python.

Nothing listens at the host's port, so that ssh itself is short: what kssh does is done before.  All is
run in turn, with the Python of one environment; the overhead is the median over the rounds of kssh's
time less ssh's.  --beside takes the Python of another environment, with another kssh, into the rounds.
The goal is an overhead of at most 1.25 times "python -c pass" where ssh need not be asked.
"""

from __future__ import annotations

import argparse
import compileall
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import need

GOAL = 1.25
Command = tuple[list[str], dict[str, str]]
# What makes it longer: lines of the configuration file, variables.
CASES: dict[str, tuple[str, dict[str, str]]] = {
    "kssh host true": ("", {}),
    "  a log file, a state directory": ("", {"KSSH_LOGFILE": "{0}/log", "KSSH_STATE_DIR": "{0}/state"}),
    "  ServerAliveInterval in a file": ("ServerAliveInterval 60", {}),
    "  that is 0 for another host": ("Host x\nServerAliveInterval 0", {}),
}


def run_ms(command: Command) -> float:
    """Run a command; return how long it took."""
    words, env = command
    null = subprocess.DEVNULL
    began = time.perf_counter()
    subprocess.run(words, env=env, stdin=null, stdout=null, stderr=null, check=False)
    return (time.perf_counter() - began) * 1000


def times_ms(commands: dict[str, Command], rounds: int) -> dict[str, list[float]]:
    """Return the times of each command, run in turn so that the machine's mood meets all alike."""
    took: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(rounds + 2):
        for name, command in commands.items():
            took_ms = run_ms(command)
            if round_ >= 2:  # the first ones fill the caches
                took[name].append(took_ms)
    return took


def median_and_limits(values: list[float]) -> tuple[float, float, float]:
    """Return the median and its 95 % confidence interval, by order statistics."""
    ordered = sorted(values)
    half = len(ordered) / 2
    reach = 0.98 * len(ordered) ** 0.5
    low, high = max(0, int(half - reach)), min(len(ordered) - 1, int(half + reach))
    return statistics.median(ordered), ordered[low], ordered[high]


def commands_of(python: str, name: str, env: dict[str, str], folder: str) -> dict[str, Command]:
    """Return the commands for the kssh of an environment, whose modules are compiled."""
    where = "import os, pykeepssh; print(os.path.dirname(pykeepssh.__file__))"
    out = subprocess.run(
        [python, "-c", where], env=env, cwd="/", stdout=subprocess.PIPE, check=True, text=True
    )
    compileall.compile_dir(out.stdout.strip(), quiet=1)
    kssh = str(Path(python).parent / "kssh")
    return {
        f"{case}{name}": (
            [kssh, "-F", f"{folder}/{number}", "t", "true"],
            {**env, **{variable: value.format(folder) for variable, value in variables.items()}},
        )
        for number, (case, (_, variables)) in enumerate(CASES.items())
    }


def main() -> int:
    """Print the table; the status tells whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="rounds (100)")
    parser.add_argument("--python", default=sys.executable, help="of the environment that has kssh")
    parser.add_argument("--beside", help="the Python of another environment, with another kssh")
    given = parser.parse_args()
    env = {n: v for n, v in os.environ.items() if not n.startswith(("KSSH_", "PYTHON"))}
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        for number, (text, _) in enumerate(CASES.values()):
            host = f"Match all\nHostName 127.0.0.1\nPort {port}\n"
            Path(folder, str(number)).write_text(f"{text}\n{host}")
        commands: dict[str, Command] = {
            "python -c pass": ([given.python, "-c", "pass"], env),
            "ssh host true": ([need("ssh"), "-F", f"{folder}/0", "t", "true"], env),
            "ssh -G host": ([need("ssh"), "-G", "-F", f"{folder}/0", "t"], env),
            **commands_of(given.python, "", env, folder),
        }
        if given.beside:
            commands |= commands_of(given.beside, " (the other)", env, folder)
        times = times_ms(commands, given.n)
    bare = statistics.median(times["python -c pass"])
    print("   time  overhead  in starts of Python")
    for name, values in times.items():
        print(f"{statistics.median(values):7.1f}", end=" ")
        if "kssh" not in name and not name.startswith(" "):
            print(f"{'':30}{name}")
            continue
        # Of each round: the machine's moods are larger than the difference.
        pairs = [with_ - without for with_, without in zip(values, times["ssh host true"])]
        overhead, low, high = median_and_limits(pairs)
        print(f"{overhead:9.1f}  {overhead / bare:5.2f} ({low / bare:.2f}–{high / bare:.2f})    {name}")
    print(f"ms; medians of {given.n} rounds, with 95 % confidence; load {os.getloadavg()[0]:.1f}")
    pairs = [with_ - without for with_, without in zip(times["kssh host true"], times["ssh host true"])]
    return 0 if statistics.median(pairs) <= GOAL * bare else 1


if __name__ == "__main__":
    sys.exit(main())
