#!/usr/bin/env python3
# ruff: noqa: T201 - printing is what it is for
"""How soon a tunnel is back: kssh, autossh and a plain loop on a network that really breaks.

Each run has a network of its own (tests/lab) and takes one program through one fault; the programs
take turns.  All get the same options of ssh, ExitOnForwardFailure and the keepalive that a row
names; autossh has "-M 0" and AUTOSSH_GATETIME=0, which suits tunnels best.  Before each run plain
ssh is started in the same network: how long it takes to come up from nothing is the yardstick.

detected  from the fault until the ssh that was hit has ended; "–" where it went on or there was none
usable    from the moment when the link can work again until an answer came through the tunnel
starts    of ssh, from the fault until then
left      processes on the client after the program was asked to end by SIGTERM

Cells are medians (least–most).  A run in which the machine stood still for more than 0.1 s is
repeated.  Prints a table in Markdown.  Other questions: --idle, what an idle link costs; --flaps N,
what a server does to it that kills each session as it starts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import MARK, POLL_S, end, marked, need, program, restore_signals
from lab.lab import FLAP_S, FORWARD_PORT, Deed, Lab, Tunnel

LIMIT_S = 75.0  # the default keepalive takes 60 s to notice anything
SETTLE_S = 2.0  # what a tunnel works before something happens to it
STALL_S = 0.1
REPEATS = 3  # how often a run is repeated that the machine has spoilt
APART_S = 3.0  # between programs that are measured side by side

SHORT, DEFAULT, NONE = (2, 3), (15, 3), (0, 3)


def programs() -> dict[str, tuple[list[str], dict[str, str]]]:
    """Return what is compared: command and environment."""
    return {
        "kssh": ([program()], {}),
        "autossh -M 0": ([need("autossh"), "-M", "0"], {"AUTOSSH_GATETIME": "0"}),
        "loop": (["/bin/sh", "-c", 'while :; do ssh "$@"; sleep 1; done', "sh"], {}),
    }


def options(keepalive: tuple[int, int]) -> list[str]:
    """Return the options of ssh that every program is given."""
    interval, count = keepalive
    words = ["-o", "ExitOnForwardFailure=yes"]
    return [*words, "-o", f"ServerAliveInterval={interval}", "-o", f"ServerAliveCountMax={count}"]


def until(condition: Callable[[], object], limit_s: float) -> bool:
    """Tell whether something comes true within a time."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


# The faults.  Each returns when it happened, since when the link could work, and since when an
# answer through the tunnel is one that came after it.


class Broken(NamedTuple):
    """One fault that has been lived through, in time.monotonic()."""

    fault: float
    able: float
    after: float


def at_once(deed: Deed) -> Broken:
    """For a fault that leaves the way open."""
    return Broken(deed.began, deed.done, deed.done)


def outage(start: Deed, seconds: float, finish: Callable[[], Deed]) -> Broken:
    """For a fault that lasts."""
    time.sleep(max(0.0, start.done + seconds - time.monotonic()))
    over = finish()
    return Broken(start.began, over.began, over.began)


def blackhole(seconds: float) -> Callable[[Lab, Tunnel], Broken]:
    """Let every packet vanish for a time."""
    return lambda lab, tunnel: outage(lab.blackhole(), seconds, lab.heal)


def listener(seconds: float) -> Callable[[Lab, Tunnel], Broken]:
    """Let connections be refused for a time; the link can work once sshd listens."""

    def fault(lab: Lab, tunnel: Tunnel) -> Broken:
        broken = outage(lab.stop_listener(), seconds, lab.start_listener)
        return broken._replace(able=lab.listens_since)

    return fault


def muted(lab: Lab, tunnel: Tunnel) -> Broken:
    """Put a silent server in the place of sshd for 10 s."""
    broken = outage(lab.mute(), 10, lab.unmute)
    return broken._replace(able=lab.listens_since)


def held(lab: Lab, tunnel: Tunnel) -> Broken:
    """End the session and keep its port of -R held for 10 s."""
    return outage(lab.hold_port(), 10, lab.release_port)


def stale(fault: Callable[[Lab], Deed], seconds: float = 10) -> Callable[[Lab, Tunnel], Broken]:
    """Let a silent fault end, and the port of -R be released by the dead session, after a time.

    A blackhole is healed then.
    """

    def run(lab: Lab, tunnel: Tunnel) -> Broken:
        sessions = lab.sshd.sessions()
        tunnel.probe.pause()  # it would talk to the dead session

        def release() -> Deed:
            released = lab.end_sessions(sessions)
            if fault is Lab.blackhole:
                lab.heal()
            tunnel.probe.resume()
            return released

        return outage(fault(lab), seconds, release)

    return run


def unasked(fault: Callable[[Lab], Deed], fed: bool) -> Callable[[Lab, Tunnel], Broken]:
    """Look through the tunnel only once ssh has ended: looks are new channels, which a log can tell of.

    fed  one old channel goes on sending; otherwise nobody asks anything of the tunnel
    """

    def run(lab: Lab, tunnel: Tunnel) -> Broken:
        tunnel.probe.pause()
        hit = tunnel.watch.current()
        assert hit
        feeder = lab.client.help("feed", FORWARD_PORT) if fed else None
        time.sleep(1)
        deed = fault(lab)
        until(lambda: hit.pid in tunnel.watch.ends, LIMIT_S)
        tunnel.probe.resume()
        if feeder:
            feeder.end()
        return at_once(deed)

    return run


def idle(lab: Lab, tunnel: Tunnel) -> Broken:
    """Leave the tunnel alone for 15 s behind a router that forgets after 10 s."""
    lab.set_idle_timeout(10)
    tunnel.probe.pause()
    time.sleep(15)
    tunnel.probe.resume()
    now = time.monotonic()
    return Broken(now, now, now)


def flaps(lab: Lab, tunnel: Tunnel) -> Broken:
    """Pull the client's wire 60 times for a tenth of a second."""
    first = time.monotonic()
    for _ in range(60):
        over = lab.flap()
        time.sleep(FLAP_S)
    return Broken(first, over.done, over.done)


class Scenario(NamedTuple):
    """One row.

    title      what it says
    side       -L or -R
    keepalive  ServerAliveInterval and ServerAliveCountMax for all
    fault      what happens; None: the server's name is unknown for the first 5 s
    """

    title: str
    side: str
    keepalive: tuple[int, int]
    fault: Callable[[Lab, Tunnel], Broken] | None


SCENARIOS = {
    "killed": Scenario("session killed", "-L", SHORT, lambda lab, tunnel: at_once(lab.kill_session())),
    "killed-R": Scenario("session killed, -R", "-R", SHORT, lambda lab, tunnel: at_once(lab.kill_session())),
    "reset": Scenario("reset", "-L", SHORT, lambda lab, tunnel: at_once(lab.reset())),
    "reset-R": Scenario("reset, -R", "-R", SHORT, lambda lab, tunnel: at_once(lab.reset())),
    "blackhole20": Scenario("blackhole, 20 s", "-L", SHORT, blackhole(20)),
    "blackhole20-R": Scenario("blackhole, 20 s, -R", "-R", SHORT, stale(Lab.blackhole, 20)),
    "blackhole90": Scenario("blackhole, 90 s", "-L", SHORT, blackhole(90)),
    **{
        f"blackhole{seconds}": Scenario(f"blackhole, {seconds} s", "-L", SHORT, blackhole(seconds))
        for seconds in (12, 16, 24, 28, 32)
    },
    "listener15": Scenario("no listener, 15 s", "-L", SHORT, listener(15)),
    "listener90": Scenario("no listener, 90 s", "-L", SHORT, listener(90)),
    "address": Scenario("new address", "-L", DEFAULT, lambda lab, tunnel: at_once(lab.replace_address())),
    "address-R": Scenario(
        "new address, -R, port released after 10 s", "-R", DEFAULT, stale(Lab.replace_address)
    ),
    "router": Scenario("router rebooted", "-L", DEFAULT, lambda lab, tunnel: at_once(lab.reboot_router())),
    "router-fed": Scenario(
        "router rebooted, one old channel in use", "-L", DEFAULT, unasked(Lab.reboot_router, True)
    ),
    "router-quiet": Scenario(
        "router rebooted, tunnel not in use", "-L", DEFAULT, unasked(Lab.reboot_router, False)
    ),
    "address-quiet": Scenario(
        "new address, tunnel not in use", "-L", DEFAULT, unasked(Lab.replace_address, False)
    ),
    "router-R": Scenario(
        "router rebooted, -R, port released after 10 s", "-R", DEFAULT, stale(Lab.reboot_router)
    ),
    "idle": Scenario("idle limit 10 s, idle 15 s", "-L", (3, 3), idle),
    "idle-bare": Scenario("idle limit 10 s, idle 15 s, no keepalive", "-L", NONE, idle),
    "port": Scenario("port of -R held for 10 s", "-R", SHORT, held),
    "name": Scenario("name unknown in the first 5 s", "-L", SHORT, None),
    "mute": Scenario("silent server for 10 s", "-L", SHORT, muted),
    "flaps": Scenario("60 flaps of 0.1 s", "-L", DEFAULT, flaps),
}
USUAL = [
    name for name in SCENARIOS if name not in {f"blackhole{n}" for n in (12, 16, 24, 28, 32)} | {"listener90"}
]


class Row(NamedTuple):
    """What one run showed, in seconds; None: not seen."""

    plain: float
    detected: float | None
    usable: float | None
    starts: int
    left: int
    stalled: float


@contextlib.contextmanager
def network() -> Iterator[Lab]:
    """Set up a lab in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="recovery-", dir="/tmp") as name, Lab(Path(name)) as lab:
        yield lab


def environment(lab: Lab, more: dict[str, str]) -> dict[str, str]:
    """Return variables for a program: its state belongs into the lab."""
    return {**more, "HOME": str(lab.directory), "KSSH_STATE_DIR": str(lab.directory / "state")}


def plain_start_s(lab: Lab, scenario: Scenario) -> float:
    """Return how long plain ssh takes from its start until an answer comes through the tunnel."""
    with lab.tunnel([need("ssh")], scenario.side, options=options(scenario.keepalive)) as tunnel:
        took_s = tunnel.up() - tunnel.began
        tunnel.stop()
    return took_s


def measure(scenario: Scenario, command: Sequence[str], env: dict[str, str]) -> Row:
    """Take a program through a fault in a network of its own."""
    with network() as lab:
        plain = plain_start_s(lab, scenario)
        config = None
        if scenario.fault is None:
            lab.unresolvable()
            config = lab.named_config
        words, env = options(scenario.keepalive), environment(lab, env)
        with lab.tunnel(command, scenario.side, options=words, env=env, config=config) as tunnel:
            hit = None
            if scenario.fault is None:
                now = tunnel.began
                broken = outage(Deed(now, now), 5, lab.resolvable)
            else:
                tunnel.up()
                time.sleep(SETTLE_S)
                hit = tunnel.watch.current()
                broken = scenario.fault(lab, tunnel)
            until(
                lambda: tunnel.probe.works_since(broken.after) or tunnel.process.poll() is not None, LIMIT_S
            )
            works = tunnel.probe.works_since(broken.after)
            starts = tunnel.watch.starts_since(broken.fault)
            ended = tunnel.watch.ends.get(hit.pid) if hit else None
            stalled = tunnel.watch.worst_gap_s(broken.fault)
            left = len(tunnel.stop())
        return Row(
            plain,
            ended - broken.fault if ended else None,
            works - broken.able if works else None,
            starts,
            left,
            stalled,
        )


def steady(scenario: Scenario, command: Sequence[str], env: dict[str, str]) -> tuple[Row, int]:
    """Measure until the machine did not stand still meanwhile; return also how many runs it spoilt."""
    for spoilt in range(REPEATS):
        row = measure(scenario, command, env)
        if row.stalled <= STALL_S:
            return row, spoilt
    return row, REPEATS


def seconds(values: Sequence[float | None], missing: str) -> str:
    """Return median, least and most; missing stands for what was not seen."""
    seen = [value for value in values if value is not None]
    if not seen:
        return missing
    digits = 2 if max(seen) < 10 else 1
    # What was not seen took longer than all that was.
    middle = statistics.median_high([*seen, *([float("inf")] * (len(values) - len(seen)))])
    median = missing if middle == float("inf") else f"{statistics.median(seen):.{digits}f}"
    most = missing if len(seen) < len(values) else f"{max(seen):.{digits}f}"
    return f"{median} ({min(seen):.{digits}f}–{most})" if len(values) > 1 else median


def counts(values: Sequence[int]) -> str:
    """Return median, least and most of counts."""
    median = f"{statistics.median(values):g}"
    return median if min(values) == max(values) else f"{median} ({min(values)}–{max(values)})"


def recovery(scenarios: Sequence[str], names: Sequence[str], runs: int, jobs: int) -> None:
    """Print the table."""
    rows: dict[tuple[str, str], list[Row]] = {}
    spoilt = 0
    lock = threading.Lock()

    def one(run: int, key: str, name: str, wait_s: float) -> None:
        nonlocal spoilt
        time.sleep(wait_s)
        command, env = programs()[name]
        row, bad = steady(SCENARIOS[key], command, env)
        with lock:
            spoilt += bad
            rows.setdefault((key, name), []).append(row)
            print(f"run {run + 1}, {key}, {name}: {row}", file=sys.stderr, flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        for run in range(runs):
            for key in scenarios:
                turn = [names[(run + at) % len(names)] for at in range(len(names))]
                started = [
                    pool.submit(one, run, key, name, at % jobs * APART_S) for at, name in enumerate(turn)
                ]
                for future in started:
                    future.result()
    print("| fault (keepalive) | plain ssh's start, s | program | detected, s | usable, s | starts | left |")
    print("|---|---|---|---|---|---|---|")
    for key in scenarios:
        scenario = SCENARIOS[key]
        interval, count = scenario.keepalive
        plain = seconds([row.plain for name in names for row in rows[key, name]], "–")
        first = f"{scenario.title} ({f'{interval} s × {count}' if interval else 'none'}) | {plain}"
        for name in names:
            found = rows[key, name]
            cells = [
                name,
                seconds([row.detected for row in found], "–"),
                seconds([row.usable for row in found], f"not in {LIMIT_S:.0f}"),
                counts([row.starts for row in found]),
                counts([row.left for row in found]),
            ]
            print(f"| {first} | {' | '.join(cells)} |")
            first = " | "
    print()
    print(f"Runs that the machine spoilt by standing still for more than {STALL_S} s: {spoilt}.")


# What a process costs.


class Cost(NamedTuple):
    """What a process has used so far, and holds now."""

    voluntary: int
    involuntary: int
    cpu_ms: float
    pss_kb: int
    private_kb: int
    fds: int


def cost(pid: int) -> Cost:
    """Read it from /proc, all threads together."""
    switches = {"voluntary_ctxt_switches": 0, "nonvoluntary_ctxt_switches": 0}
    cpu_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in switches:
                switches[name] += int(value)
        cpu_ns += int((task / "schedstat").read_text().split()[0])
    memory: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split()[:2]
        memory[name.rstrip(":")] = int(value)
    return Cost(
        switches["voluntary_ctxt_switches"],
        switches["nonvoluntary_ctxt_switches"],
        cpu_ns / 1e6,
        memory["Pss"],
        memory["Private_Clean"] + memory["Private_Dirty"],
        len(os.listdir(f"/proc/{pid}/fd")),
    )


def idle_cost(names: Sequence[str], runs: int, idle_s: float = 60.0, settle_s: float = 15.0) -> None:
    """Print what a supervisor of an idle, healthy link uses, beside an interpreter that sleeps."""
    subjects = [name for name in names if name != "loop"]
    found: dict[str, list[tuple[Cost, Cost]]] = {}
    for _ in range(runs):
        with contextlib.ExitStack() as stack:
            pids = {}
            for name in subjects:
                lab = stack.enter_context(network())
                command, env = programs()[name]
                words = options(DEFAULT)
                tunnel = stack.enter_context(lab.tunnel(command, options=words, env=environment(lab, env)))
                tunnel.up()
                tunnel.probe.pause()
                pids[name] = tunnel.process.pid
            bare = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({idle_s * 9})"])
            stack.callback(bare.wait)
            stack.callback(bare.kill)
            pids["a bare interpreter"] = bare.pid
            time.sleep(settle_s)
            before = {name: cost(pid) for name, pid in pids.items()}
            time.sleep(idle_s)
            for name, pid in pids.items():
                found.setdefault(name, []).append((before[name], cost(pid)))
    print(f"Idle link, keepalive 15 s × 3, {idle_s:.0f} s, {runs} runs, medians:")
    print()
    print("| process | voluntary switches | involuntary | CPU, ms | PSS, MB | private, MB |")
    print("|---|---|---|---|---|---|")
    for name, pairs in found.items():
        gained = [[new - old for old, new in zip(*pair)][:3] for pair in pairs]
        cells = [f"{statistics.median(values):g}" for values in zip(*(row[:2] for row in gained))]
        cells.append(f"{statistics.median(row[2] for row in gained):.2f}")
        held_kb = ([pair[1].pss_kb for pair in pairs], [pair[1].private_kb for pair in pairs])
        cells += [f"{statistics.median(values) / 1024:.2f}" for values in held_kb]
        print(f"| {name} | {' | '.join(cells)} |")


# A server that kills each session as it starts.


def kill_as_it_starts(lab: Lab) -> bool:
    """Kill the session if there is one that has authenticated; tell whether there was."""
    for pid in lab.sshd.sessions():
        with contextlib.suppress(OSError):
            # sshd writes into its title how far a connection is: "sshd: root [priv]" before that.
            title = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
            if title.startswith(b"sshd: ") and b"[" not in title:
                lab.end_sessions([pid])
                return True
    return False


def flapping(names: Sequence[str], number: int, limit_s: float) -> None:
    """Print what killing so many sessions does to a supervisor."""
    print(
        f"Each session killed as it starts, {number} of them in at most {limit_s:.0f} s (KSSH_BACKOFF_MAX=1):"
    )
    print()
    print(
        "| program | sessions | in, s | starts of ssh | most in 10 s | gaps between starts, s"
        " | PSS, MB, after 10 sessions → at the end | descriptors | processes |"
    )
    print("|---|---|---|---|---|---|---|---|---|")

    def one(name: str) -> str:
        command, env = programs()[name]
        with network() as lab:
            env = environment(lab, {**env, "KSSH_BACKOFF_MAX": "1"})
            with lab.tunnel(command, options=options(DEFAULT), env=env, probe=False) as tunnel:
                pid = tunnel.process.pid
                killed, early, processes, deadline = 0, None, 0, time.monotonic() + limit_s
                while killed < number and tunnel.process.poll() is None and time.monotonic() < deadline:
                    killed += kill_as_it_starts(lab)
                    if killed == 10 and early is None:
                        early, processes = cost(pid), len(lab.client.pids())
                    time.sleep(0.01)
                took_s = time.monotonic() - tunnel.began
                if tunnel.process.poll() is not None or early is None:
                    return f"| {name} | {killed} | {took_s:.0f} | ended by itself |||||||"
                late = cost(pid)
                began = [start.began for start in tunnel.watch.starts]
                gaps = [new - old for old, new in zip(began, began[1:])]
                busiest = max(sum(1 for other in began if one <= other < one + 10) for one in began)
                return (
                    f"| {name} | {killed} | {took_s:.0f} | {len(began)} | {busiest} | {seconds(gaps, '–')} "
                    f"| {early.pss_kb / 1024:.2f} → {late.pss_kb / 1024:.2f} | {early.fds} → {late.fds} "
                    f"| {processes} → {len(lab.client.pids())} |"
                )

    with ThreadPoolExecutor(len(names)) as pool:
        for line in pool.map(one, names):
            print(line)


# Putting it together.


def first_line(*command: str) -> str:
    """Return the first line that a command prints."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout.decode().partition("\n")[0]


def description() -> str:
    """Return what the machine and the programs are."""
    info = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.partition(": ")[2] for line in info.splitlines() if line.startswith("model name")), "?"
    )
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    release = Path("/etc/os-release").read_text().partition('PRETTY_NAME="')[2].partition('"')[0]
    machine = f"{os.cpu_count()} × {model}, {memory_gb:.0f} GB; {release}, Linux {platform.release()}"
    versions = (
        first_line(program(), "--version"),
        first_line("ssh", "-V"),
        first_line("autossh", "-V"),
        f"Python {platform.python_version()}",
    )
    command = shlex.join([os.path.basename(sys.executable), *sys.argv])
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return f"{machine}; {load}\n{'; '.join(versions)}\n\n    {command}\n"


def main() -> int:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = programs()
    parser.add_argument("--runs", type=int, default=5, help="runs of each scenario and program (5)")
    parser.add_argument("--only", action="append", choices=SCENARIOS, help="a scenario; may be repeated")
    parser.add_argument("--programs", action="append", choices=known, help="a program; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="programs measured side by side, 3 s apart (1)")
    parser.add_argument("--idle", action="store_true", help="what an idle link costs")
    parser.add_argument("--flaps", type=int, metavar="N", help="kill N sessions as they start")
    parser.add_argument("--limit", type=float, default=900, help="most seconds for --flaps (900)")
    given = parser.parse_args()
    names = given.programs or list(known)

    restore_signals()
    for name in list(os.environ):
        if name.startswith(("KSSH_", "AUTOSSH_", "PYTHON", "SSH_")):
            del os.environ[name]
    mark = f"recovery-{os.getpid()}"
    os.environ[MARK] = mark
    print(description(), flush=True)
    try:
        if given.idle:
            idle_cost(names, given.runs)
        elif given.flaps:
            flapping(names, given.flaps, given.limit)
        else:
            recovery(given.only or USUAL, names, given.runs, given.jobs)
    finally:
        end(marked(mark))
    return 0


if __name__ == "__main__":
    sys.exit(main())
