"""A network that breaks: client, router and server, each in a network namespace of its own.

    client 10.77.1.2 -- 10.77.1.1 router 10.77.2.1 -- 10.77.2.2 server

The router masquerades and tracks connections; packets of flows that it does not know vanish.  The
server runs a real sshd and has no route but to the router.  Nothing leaves the namespaces, and
nothing of them has a name outside: each lives as long as a process of it does.

Needs root, or user namespaces that an ordinary user may make.  Knows harness.py; must not know how
kssh works inside.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import select
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from harness import Argument, Sshd, absent, alive, end, need, wait_for

CLIENT, SERVER = "10.77.1.2", "10.77.2.2"
GATE, OUTER_GATE = "10.77.1.1", "10.77.2.1"
NAME = "server.test"  # the server's, for those who can look it up
FORWARD_PORT, BANNER_PORT = 2200, 7000
INSIDE = Path(__file__).parent / "inside.py"
FLAP_S = 0.1
NO_IDLE_LIMIT_S = 432000  # Linux's own, five days

Command = Sequence[Argument]


class Deed(NamedTuple):
    """When something was done, in time.monotonic(): before it nothing was different, after it all was."""

    began: float
    done: float


class Machine:
    """A network and mount namespace, kept by a process that ends with this one."""

    def __init__(self, name: str, unprivileged: Sequence[str]) -> None:
        self.name = name
        # "cat" ends with its standard input, which ends with us: nothing stays after kill -9 either.
        self._keeper = subprocess.Popen(
            [*unprivileged, "unshare", "-n", "-m", "cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        self.pid = self._keeper.pid
        wait_for(lambda: self._comm() == "cat", what=f"the namespace of the {name}")
        self._net = os.stat(f"/proc/{self.pid}/ns/net").st_ino
        users = ["-U", "--preserve-credentials"] if unprivileged else []
        self.entry: list[str] = ["nsenter", "-t", str(self.pid), *users, "-n", "-m", "--"]
        self.helpers: list[Helper] = []

    def _comm(self) -> str:
        if self._keeper.poll() is not None:
            raise RuntimeError(f"no namespace for the {self.name}")
        return Path(f"/proc/{self.pid}/comm").read_text().strip()

    def run(self, *command: Argument) -> str:
        """Run a command inside; return what it printed, fail with what it complained of."""
        done = subprocess.run([*self.entry, *command], capture_output=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{self.name}: {command}: {os.fsdecode(done.stderr).strip()}")
        return os.fsdecode(done.stdout)

    def works(self, *command: Argument) -> bool:
        """Tell whether a command inside succeeds."""
        with contextlib.suppress(RuntimeError):
            self.run(*command)
            return True
        return False

    def help(self, *args: object) -> Helper:
        """Start a deed of inside.py that goes on."""
        helper = Helper(self, args)
        self.helpers.append(helper)
        return helper

    def pids(self) -> list[int]:
        """Return the processes inside, but for the lab's own."""
        own = {self.pid, *(helper.pid for helper in self.helpers)}
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and int(entry) not in own:
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{entry}/ns/net").st_ino == self._net and alive(int(entry)):
                        found.append(int(entry))
        return found

    def end(self) -> None:
        """End what runs inside; the namespace goes with it."""
        for helper in self.helpers:
            helper.end()
        processes = []
        for pid in self.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                processes.append(psutil.Process(pid))
        end(processes)
        assert self._keeper.stdin
        self._keeper.stdin.close()
        self._keeper.wait()


class Helper:
    """A running inside.py.

    lines  what it has printed so far
    """

    def __init__(self, machine: Machine, args: Sequence[object]) -> None:
        command: list[Argument] = [*machine.entry, sys.executable, "-S", INSIDE, *map(str, args)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self._process.pid
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.prints(1)

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.lines.append(line.strip())

    def prints(self, number: int) -> None:
        """Wait until it has printed that many lines."""
        wait_for(lambda: len(self.lines) >= number or self._process.poll() is not None, what="inside.py")
        assert self._process.poll() is None, "inside.py ended"

    def end(self) -> None:
        """End it."""
        if self._process.returncode is None:
            assert self._process.stdin
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1)
            self._process.kill()
            self._process.wait()
        self._reader.join()


class ServerSshd(Sshd):
    """An sshd inside the server."""

    def __init__(self, directory: Path, machine: Machine, extra: str) -> None:
        super().__init__(directory, f"ListenAddress {SERVER}\n{extra}")
        entry = machine.entry
        if os.geteuid() != 0:
            # As the only user of its user namespace sshd would be root who may become nobody else.
            entry = [*entry, "unshare", "-U", f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        script = directory / "sshd"
        script.write_text(f'#!/bin/sh\nexec {shlex.join([*entry, self._program])} "$@"\n')
        script.chmod(0o755)
        self._program = str(script)

    def config_for(self, port: int, extra: str = "", name: str = SERVER) -> Path:
        """As for another sshd; name is what "t" stands for."""
        path = super().config_for(port, extra)
        named = path.with_name(f"ssh_config.{name}.{port}")
        named.write_text(path.read_text().replace("HostName 127.0.0.1\n", f"HostName {name}\n"))
        return named


class Lab:
    """Client, router and server; use it as a context manager.

    address       the server's, for its clients and its sshd_config
    config        ssh_config with the server as the host "t"
    named_config  the same, by a name that resolvable() and unresolvable() decide over
    listens_since time.monotonic() since which sshd listens
    """

    address = SERVER

    def __init__(self, directory: Path, sshd_extra: str = "") -> None:
        for program in ("unshare", "nsenter", "ip", "iptables", "sysctl", "ss"):
            need(program)
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._sshd_extra = sshd_extra
        self._stack = contextlib.ExitStack()
        self._last_byte = 2
        self._holder: Helper | None = None
        self._mute: Helper | None = None

    def __enter__(self) -> Lab:
        with self._stack:
            unprivileged = self._user_namespace()
            self.client, self.router, self.server = (
                self._machine(name, unprivileged) for name in ("client", "router", "server")
            )
            self._connect()
            self._set_up_router()
            self._set_up_names()
            self.sshd = ServerSshd(self.directory / "sshd", self.server, self._sshd_extra)
            self._stack.callback(self.sshd.stop)
            self.start_listener()
            self.config = self.sshd.config_for(self.sshd.port)
            self.named_config = self.sshd.config_for(self.sshd.port, name=NAME)
            for machine in (self.client, self.server):
                machine.help("banner", BANNER_PORT)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    # Building it.

    def _user_namespace(self) -> list[str]:
        """Return the command that enters a user namespace in which we are root; nothing for root."""

        def possible(*words: str) -> bool:
            return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0

        if os.geteuid() == 0 and possible("unshare", "-n", "-m"):
            return []
        if not possible("unshare", "-U", "-r", "-n", "-m"):
            absent("root, or user namespaces that an ordinary user may make")
        keeper = subprocess.Popen(["unshare", "-U", "-r", "cat"], stdin=subprocess.PIPE)
        self._stack.callback(keeper.wait)
        assert keeper.stdin
        self._stack.callback(keeper.stdin.close)
        wait_for(lambda: Path(f"/proc/{keeper.pid}/comm").read_text() == "cat\n", what="the user namespace")
        return ["nsenter", "-t", str(keeper.pid), "-U", "--preserve-credentials"]

    def _machine(self, name: str, unprivileged: list[str]) -> Machine:
        machine = Machine(name, unprivileged)
        self._stack.callback(machine.end)
        machine.run("ip", "link", "set", "lo", "up")
        return machine

    def _connect(self) -> None:
        wires = (
            (self.client, "c0", CLIENT, "r0", GATE),
            (self.server, "s0", SERVER, "r1", OUTER_GATE),
        )
        for machine, near, address, far, gate in wires:
            machine.run(
                "ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", str(self.router.pid)
            )
            for side, device, own in ((machine, near, address), (self.router, far, gate)):
                side.run("ip", "addr", "add", f"{own}/24", "dev", device)
                side.run("ip", "link", "set", device, "up")
        self.client.run("ip", "route", "add", "default", "via", GATE)

    def _set_up_router(self) -> None:
        if not self.router.works("sysctl", "-q", "-w", "net.ipv4.ip_forward=1"):
            absent("a writable /proc/sys/net")
        self._tables("-t", "nat", "-A", "POSTROUTING", "-o", "r1", "-j", "MASQUERADE")
        # INPUT too: the router would answer an unknown flow with RST.
        for chain in ("FORWARD", "INPUT"):
            self._tables("-A", chain, "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP")
        self.router.run("sysctl", "-q", "-w", "net.netfilter.nf_conntrack_tcp_loose=0")
        self.set_idle_timeout(NO_IDLE_LIMIT_S)

    def _tables(self, *words: str) -> None:
        lock = f"XTABLES_LOCKFILE={self.directory}/xtables.lock"  # /run is not everybody's
        self.router.run("env", lock, "iptables", "-w", *words)

    def _set_up_names(self) -> None:
        # The client's own mounts: the machine that the lab runs on keeps its files.
        switch = self.directory / "nsswitch.conf"
        switch.write_text("hosts: files\n")
        self._hosts = self.directory / "hosts"
        self.resolvable()
        self.client.run("mount", "--bind", switch, "/etc/nsswitch.conf")
        self.client.run("mount", "--bind", self._hosts, "/etc/hosts")

    # Faults.

    def kill_session(self) -> Deed:
        """Kill -9 what serves the connections on the server."""
        now = time.monotonic()
        self.sshd.kill_sessions()
        return Deed(now, time.monotonic())

    def end_sessions(self, pids: Sequence[int]) -> Deed:
        """Kill -9 some sessions alone."""
        now = time.monotonic()
        processes = []
        for pid in pids:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                processes += [process, *process.children(recursive=True)]
        end(processes)
        return Deed(now, time.monotonic())

    def reset(self) -> Deed:
        """Reset the connections: both ends die at once."""
        port = str(self.sshd.port)
        which = ["-4", "-H", "-t", "state", "established", f"sport = :{port}"]
        peers = self._peers(which)
        now = time.monotonic()
        self.server.run("ss", "-K", *which)
        # A kernel without CONFIG_INET_DIAG_DESTROY; a new connection may be there already.
        if peers & self._peers(which):
            self.server.run(sys.executable, "-S", INSIDE, "disconnect", port)
        return Deed(now, time.monotonic())

    def _peers(self, which: Sequence[str]) -> set[str]:
        return {line.split()[3] for line in self.server.run("ss", "-n", *which).splitlines()}

    def blackhole(self) -> Deed:
        """Let every packet vanish in the router."""
        now = time.monotonic()
        self._tables("-I", "FORWARD", "1", "-j", "DROP")
        return Deed(now, time.monotonic())

    def heal(self) -> Deed:
        """Let packets pass again."""
        now = time.monotonic()
        self._tables("-D", "FORWARD", "1")
        return Deed(now, time.monotonic())

    def swallow_empty_packets(self) -> None:
        """Let the client's segments without data vanish: acknowledgements, questions, not a SYN."""
        self._tables(
            "-I", "FORWARD", "1", "-i", "r0", "-p", "tcp", "-m", "length", "--length", "0:52", "-j", "DROP"
        )

    def stop_listener(self) -> Deed:
        """End sshd with its sessions: connections are refused."""
        now = time.monotonic()
        self.sshd.stop()
        return Deed(now, time.monotonic())

    def start_listener(self) -> Deed:
        """Start sshd again, on the same port."""
        now = time.monotonic()
        self.sshd.start()
        self.listens_since = time.monotonic()
        return Deed(now, self.listens_since)

    def replace_address(self) -> Deed:
        """Give the client another address on the same wire."""
        old, self._last_byte = self._last_byte, 2 + (self._last_byte - 1) % 200
        near = CLIENT.rpartition(".")[0]
        batch = self.directory / "batch"
        batch.write_text(
            f"addr del {near}.{old}/24 dev c0\n"
            f"addr add {near}.{self._last_byte}/24 dev c0\n"
            f"route replace default via {GATE}\n"
        )
        now = time.monotonic()
        self.client.run("ip", "-batch", batch)
        return Deed(now, time.monotonic())

    def set_idle_timeout(self, seconds: int) -> None:
        """Make the router forget flows that were quiet for so long."""
        name = "net.netfilter.nf_conntrack_tcp_timeout_established"
        self.router.run("sysctl", "-q", "-w", f"{name}={seconds}")

    def reboot_router(self) -> Deed:
        """Make the router forget every flow: their packets vanish, new flows pass."""
        ports = self.client.run("ss", "-4", "-H", "-n", "-t", "state", "established", f"dst {SERVER}")
        now = time.monotonic()
        if not self.router.works(sys.executable, "-S", INSIDE, "flush"):
            for line in ports.splitlines():
                port = line.split()[2].rpartition(":")[2]
                self._tables(
                    "-I",
                    "FORWARD",
                    "1",
                    "-p",
                    "tcp",
                    "-m",
                    "conntrack",
                    "--ctorigsrcport",
                    port,
                    "-j",
                    "DROP",
                )
        return Deed(now, time.monotonic())

    def hold_port(self) -> Deed:
        """End the session and leave the port of "-R" held on the server, as by a dead session."""
        assert self._holder is None
        self._holder = self.server.help("hold", FORWARD_PORT)
        now = self.kill_session().began
        self._holder.prints(2)
        return Deed(now, time.monotonic())

    def release_port(self) -> Deed:
        """Give the port of "-R" back."""
        assert self._holder is not None
        now = time.monotonic()
        self._holder.end()
        self._holder = None
        return Deed(now, time.monotonic())

    def unresolvable(self) -> Deed:
        """Let no name be found."""
        now = time.monotonic()
        self._hosts.write_text("127.0.0.1 localhost\n")
        return Deed(now, time.monotonic())

    def resolvable(self) -> Deed:
        """Let the server's name be found."""
        now = time.monotonic()
        # In place: a mount is of the file, not of its name.
        self._hosts.write_text(f"127.0.0.1 localhost\n{SERVER} {NAME}\n")
        return Deed(now, time.monotonic())

    def mute(self) -> Deed:
        """Put a server in sshd's place that takes connections and stays silent."""
        now = self.stop_listener().began
        self._mute = self.server.help("mute", SERVER, self.sshd.port)
        return Deed(now, time.monotonic())

    def unmute(self) -> Deed:
        """Put sshd back in its place."""
        assert self._mute is not None
        self._mute.end()
        self._mute = None
        return self.start_listener()

    def flap(self, down_s: float = FLAP_S) -> Deed:
        """Pull the client's wire and plug it in again."""
        now = time.monotonic()
        self.client.run("ip", "link", "set", "c0", "down")
        time.sleep(down_s)
        self.client.run("ip", "link", "set", "c0", "up")
        self.client.run("ip", "route", "replace", "default", "via", GATE)  # went with the link
        return Deed(now, time.monotonic())

    # What is looked at.

    def tunnel(self, command: Command, side: str = "-L", **more: Any) -> Tunnel:
        """Start a program on the client as a tunnel; see Tunnel."""
        return Tunnel(self, command, side, **more)


class Probed(NamedTuple):
    """One look through the tunnel, in time.monotonic()."""

    began: float
    ended: float
    ok: bool


class Probe:
    """Looks through a forward every 0.1 s, from inside the right namespace."""

    def __init__(self, lab: Lab, side: str) -> None:
        self._machine = lab.client if side == "-L" else lab.server
        self._helpers: list[Helper] = []
        self.resume()

    def __enter__(self) -> Probe:
        return self

    def __exit__(self, *exc: object) -> None:
        self.pause()

    def pause(self) -> None:
        """Leave the tunnel alone: looks through it would keep a flow alive."""
        for helper in self._helpers:
            helper.end()
            with contextlib.suppress(ValueError):
                self._machine.helpers.remove(helper)

    def resume(self) -> None:
        """Look again."""
        self._helpers.append(self._machine.help("probe", FORWARD_PORT))

    def looks(self) -> list[Probed]:
        """Return the looks so far, in the order in which they ended."""
        found = []
        for helper in self._helpers:
            for line in helper.lines[1:]:
                began, ended, ok = line.split()
                found.append(Probed(float(began), float(ended), ok == "1"))
        return found

    def works_since(self, moment: float) -> float | None:
        """Return when the first look that began after a moment had its answer, or None."""
        answers = [look.ended for look in self.looks() if look.ok and look.began >= moment]
        return min(answers, default=None)

    def wait_since(self, moment: float, timeout: float, what: str = "") -> float:
        """Wait for works_since()."""
        works = wait_for(lambda: self.works_since(moment), timeout, what or "an answer through the tunnel")
        assert works is not None
        return works


class Start(NamedTuple):
    """One ssh that was seen: its pid and when it was first there."""

    pid: int
    began: float


class Watch:
    """Watches for the ssh processes below a process.

    starts  in their order, but for those that only answer a question (-G, -V)
    ends    when each pid had ended

    Looks at the process table every 2 ms for starts; ends come from a pidfd.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self.starts: list[Start] = []
        self.ends: dict[int, float] = {}
        self._gaps: list[tuple[float, float]] = []
        self._unknown: set[int] = set()
        self._known: dict[int, int] = {}  # pid: pidfd, -1 for no ssh that counts
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._stopped.set()
        self._thread.join()

    def current(self) -> Start | None:
        """Return the ssh that runs, or None."""
        running = [start for start in self.starts if start.pid not in self.ends]
        return running[-1] if running else None

    def starts_since(self, moment: float) -> int:
        """Return how many were started after a moment."""
        return len(self.starts) - bisect.bisect([start.began for start in self.starts], moment)

    def worst_gap_s(self, since: float) -> float:
        """Return for how long the machine kept the watch from looking, at worst, after a moment."""
        return max((gap for moment, gap in self._gaps if moment >= since), default=0.0)

    def _watch(self) -> None:
        poll = select.poll()
        fds: dict[int, int] = {}
        last = time.monotonic()
        while not self._stopped.is_set():
            for fd, _ in poll.poll(2):
                pid = fds.pop(fd)
                self.ends[pid] = time.monotonic()
                poll.unregister(fd)
                os.close(fd)
            now = time.monotonic()
            if now - last > 0.02:
                self._gaps.append((now, now - last))
            last = now
            below = set(_below(self._root))
            for pid in [pid for pid in self._known if pid not in below]:
                del self._known[pid]  # the number may come again
            for pid in below - set(self._known):
                verdict = _is_session(pid)
                if verdict is None:
                    continue
                self._known[pid] = 1
                if verdict:
                    with contextlib.suppress(ProcessLookupError):
                        fd = os.pidfd_open(pid)
                        fds[fd] = pid
                        poll.register(fd, select.POLLIN)
                    self.ends.pop(pid, None)
                    self.starts.append(Start(pid, now))
                    if pid not in fds.values():
                        self.ends[pid] = now
        for fd in fds:
            os.close(fd)


def _below(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from _below(int(child))


def _is_session(pid: int) -> bool | None:
    """Tell whether a process is an ssh that connects; None while that cannot be told."""
    try:
        comm = Path(f"/proc/{pid}/comm").read_text().strip()
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    if comm == "sleep":
        return False
    if comm != "ssh" or words == [b""]:
        return None  # a fork that has not called exec yet, is in the midst of it, or a process between
    return b"-G" not in words and b"-V" not in words


class Tunnel:
    """A program on the client that is to keep a tunnel up.

    probe    looks through it
    watch    knows the ssh processes below it
    began    time.monotonic() before it was started
    """

    def __init__(
        self,
        lab: Lab,
        command: Command,
        side: str = "-L",
        options: Command = (),
        env: Mapping[str, str] | None = None,
        config: Path | None = None,
        probe: bool = True,
    ) -> None:
        """Start it: command, then the words of ssh with options among them.  side is -L or -R."""
        self._lab = lab
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        forward = f"127.0.0.1:{FORWARD_PORT}:127.0.0.1:{BANNER_PORT}"
        words = ["-F", config or lab.config, "-N", side, forward, *options, "t"]
        self.probe = Probe(lab, side)
        if not probe:
            self.probe.pause()
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [*lab.client.entry, *command, *words],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            start_new_session=True,
        )
        self.watch = Watch(self.process.pid)

    def __enter__(self) -> Tunnel:
        return self

    def __exit__(self, *exc: object) -> None:
        self.probe.pause()
        self.stop(0)
        self.watch.stop()
        self._stderr.close()

    @property
    def said(self) -> str:
        """What it has written to standard error so far."""
        return os.pread(self._stderr.fileno(), 1_000_000, 0).decode(errors="replace")

    def up(self, timeout: float = 20) -> float:
        """Wait until the tunnel works for the first time; return when."""
        return self.back(self.began, timeout)

    def back(self, since: float, timeout: float) -> float:
        """Wait until a look that began after a moment has its answer; return when it had."""
        wait_for(
            lambda: self.probe.works_since(since) or self.process.poll() is not None,
            timeout,
            f"the tunnel; it said {self.said!r}",
        )
        works = self.probe.works_since(since)
        assert works is not None, f"ended with {self.process.poll()}; it said {self.said!r}"
        return works

    def stop(self, grace_s: float = 5) -> list[str]:
        """End the program by SIGTERM; return the commands that it left, after ending them too."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(max(grace_s, 0.01))
        deadline = time.monotonic() + (1 if grace_s else 0)
        while self._lab.client.pids() and time.monotonic() < deadline:
            time.sleep(0.01)
        left, processes = [], []
        for pid in self._lab.client.pids():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                left.append(" ".join(process.cmdline()))
                processes.append(process)
        end(processes)
        self.process.wait()
        return left
