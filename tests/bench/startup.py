#!/usr/bin/env python3
# ruff: noqa: T201 - printing is what it is for
"""What "kssh host true" costs over "ssh host true", beside what Python itself costs.

Runs "python -c pass", "ssh host true" and "kssh host true" in turn against an sshd on this machine,
all with the Python of one environment, and prints the medians; the overhead is the median over the
rounds of kssh's time less ssh's.  The goal is an overhead of at most 1.6 times "python -c pass".
"""

from __future__ import annotations

import argparse
import compileall
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import Sshd, need

GOAL = 1.6


def run_ms(command: list[str], env: dict[str, str]) -> float:
    """Run a command; return how long it took."""
    began = time.perf_counter()
    null = subprocess.DEVNULL
    done = subprocess.run(command, env=env, stdin=null, stdout=null, stderr=null, check=False)
    took_ms = (time.perf_counter() - began) * 1000
    if done.returncode:
        sys.exit(f"status {done.returncode}: {' '.join(command)}")
    return took_ms


def times_ms(commands: dict[str, list[str]], rounds: int, env: dict[str, str]) -> dict[str, list[float]]:
    """Return the times of each command, run in turn so that the machine's mood meets all alike."""
    took: dict[str, list[float]] = {name: [] for name in commands}
    for round_ in range(rounds + 2):
        for name, command in commands.items():
            took_ms = run_ms(command, env)
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


def main() -> int:
    """Print the table; the status tells whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="rounds (100)")
    parser.add_argument("--python", default=sys.executable, help="of the environment that has kssh")
    given = parser.parse_args()
    python = given.python
    kssh = str(Path(python).parent / "kssh")
    where = "import os, pykeepssh; print(os.path.dirname(pykeepssh.__file__))"
    env = {n: v for n, v in os.environ.items() if not n.startswith(("KSSH_", "PYTHON"))}
    package = subprocess.run(
        [python, "-c", where], env=env, cwd="/", stdout=subprocess.PIPE, check=True, text=True
    ).stdout.strip()
    compileall.compile_dir(package, quiet=1)

    with tempfile.TemporaryDirectory(prefix="startup-") as folder, Sshd(Path(folder) / "sshd") as sshd:
        to_host = ["-F", str(sshd.config), "t"]
        modules = "pykeepssh.cli, pykeepssh.link.plan"
        times = times_ms(
            {
                "python -c pass": [python, "-c", "pass"],
                "ssh host true": [need("ssh"), *to_host, "true"],
                "kssh host true": [kssh, *to_host, "true"],
                "ssh -G host": [need("ssh"), "-G", *to_host],
                "python -c 'import …'": [python, "-c", f"import {modules}"],
            },
            given.n,
            env,
        )
    took = {name: statistics.median(values) for name, values in times.items()}
    for name, value in took.items():
        print(f"{value:7.1f} ms  {name}")
    bare = took["python -c pass"]
    # Of each round, what kssh took more than ssh: the network's moods are larger than the difference.
    pairs = zip(times["kssh host true"], times["ssh host true"])
    overhead, low, high = median_and_limits([with_ - without for with_, without in pairs])
    imports = took["python -c 'import …'"] - bare
    rest = overhead - bare - imports - took["ssh -G host"]
    print(f"{overhead:7.1f} ms  overhead of kssh ({low:.1f} to {high:.1f} with 95 % confidence)")
    print(f"{overhead / bare:7.2f}     times python -c pass (goal: {GOAL})")
    print(f"{bare:7.1f} ms    of that Python's start and end")
    print(f"{imports:7.1f} ms    importing {modules}")
    print(f"{took['ssh -G host']:7.1f} ms    ssh -G, which runs beside a part of the imports")
    print(f"{rest:7.1f} ms    all else")
    print(f"(medians of {given.n}, {package})")
    return 0 if overhead <= GOAL * bare else 1


if __name__ == "__main__":
    sys.exit(main())
