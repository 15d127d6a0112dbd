"""A running sshd from outside: which one uses a file, reloading it, its greeting.

Knows sshd's process title, its options and systemd's and init's way of reloading.  Must not know
what is to be configured.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time

import psutil

from .errors import KsshError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIG = "/etc/ssh/sshd_config"  # of an sshd without -f
LIMIT_S = 15.0
GREETING_S = 10.0  # after a HUP sshd starts itself anew: its sockets are closed for a moment
ANEW_S = 2.0
_STEP_S = 0.02
UNITS = ("ssh.service", "sshd.service")


def _run(words: Sequence[str]) -> tuple[int, str]:
    """Run a program of the service manager; return its status and all that it said."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, os.fsdecode(done.stdout).strip()


class Listener:
    """A running sshd that waits for connections, and the words it was started with."""

    def __init__(self, process: psutil.Process, words: list[str]) -> None:
        self.process = process
        self.words = words

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def alive(self) -> bool:
        """Tell whether it still runs."""
        try:
            return self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def unit(self) -> str | None:
        """Return the systemd unit it is the main process of, None without one."""
        if shutil.which("systemctl") is None or not os.path.isdir("/run/systemd/system"):
            return None
        for unit in UNITS:
            if _run(["systemctl", "show", "-p", "MainPID", "--value", unit]) == (0, str(self.pid)):
                return unit
        return None

    def reload(self, pidfile: str) -> str:
        """Have it read its configuration anew; return how, in words.  Raises KsshError."""
        unit = self.unit()
        if unit is not None:
            self._by(["systemctl", "reload", unit])
            return f"systemctl reload {unit}"
        if pidfile == f"/run/{os.path.basename(pidfile)}" and pid_in(pidfile) == self.pid:
            for name in ("ssh", "sshd"):
                if os.access(f"/etc/init.d/{name}", os.X_OK) and shutil.which("service"):
                    self._by(["service", name, "reload"])
                    return f"service {name} reload"
        try:
            self.process.send_signal(signal.SIGHUP)  # psutil checks that the pid is still the same process
        except psutil.Error as error:
            raise KsshError(f"cannot signal sshd, pid {self.pid}: {error}") from error
        return f"HUP to pid {self.pid}"

    def _by(self, words: list[str]) -> None:
        status, said = _run(words)
        if status != 0:
            raise KsshError(f"{' '.join(words)}: {printable(said)}")

    def sockets(self) -> frozenset[str] | None:
        """Return what names its open sockets, None if this system does not tell."""
        folder = f"/proc/{self.pid}/fd"
        try:
            links = [os.readlink(os.path.join(folder, fd)) for fd in os.listdir(folder)]
        except OSError:
            return None
        return frozenset(link for link in links if link.startswith("socket:"))

    def wait_until_anew(self, before: frozenset[str] | None) -> None:
        """Wait until it listens with other sockets than before the reload, or some seconds.

        Until then it is the old configuration that greets.
        """
        deadline = time.monotonic() + ANEW_S
        while time.monotonic() < deadline and self.alive():
            now = self.sockets()
            if before is not None and now and now != before:
                return
            time.sleep(_STEP_S)

    def revive(self) -> None:
        """Start it again if it ended.  Raises KsshError."""
        if self.alive():
            return
        for unit in UNITS:
            if os.path.isdir("/run/systemd/system") and _run(["systemctl", "restart", unit])[0] == 0:
                return
        subprocess.Popen(
            self.words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


def listener_for(config: str, pidfile: str = "none") -> Listener | None:
    """Return the running sshd that uses a configuration file, None if there is none we can see."""
    wanted = os.path.realpath(config)
    preferred = pid_in(pidfile)
    found = []
    for process in psutil.process_iter():
        try:
            words = _listener_words(process)
            if words is not None and _config_of(process, words) == wanted and _same_root(process):
                found.append(Listener(process, words))
        except (psutil.Error, OSError):
            continue
    found.sort(key=lambda one: one.pid != preferred)
    return found[0] if found else None


def _listener_words(process: psutil.Process) -> list[str] | None:
    """Return the words that a listening sshd was started with.

    From 8.2 on its title tells them; before, it has no title, while the processes of sessions have one.
    """
    words = process.cmdline()
    title = " ".join(words)
    if title.startswith("sshd: ") and " [listener]" in title:
        return title[len("sshd: ") : title.index(" [listener]")].split()
    plain = bool(words) and words[0].startswith("/") and os.path.basename(words[0]) == "sshd"
    # Not one that only checks a file, serves one connection, or was started by inetd.
    other = any(word[:2] in ("-t", "-T", "-G", "-V", "-R", "-i") for word in words[1:])
    return words if plain and not other else None


def _config_of(process: psutil.Process, words: Sequence[str]) -> str:
    config = CONFIG
    for at, word in enumerate(words[1:], 1):
        if word == "-f" and at + 1 < len(words):
            config = words[at + 1]
        elif word.startswith("-f") and len(word) > 2:
            config = word[2:]
    if not config.startswith("/"):
        config = os.path.join(process.cwd(), config)
    return os.path.realpath(config)


def _same_root(process: psutil.Process) -> bool:
    """Tell whether a process sees our files: one in a container reads others of the same name."""
    try:
        return os.path.samestat(os.stat(f"/proc/{process.pid}/root"), os.stat("/"))
    except PermissionError:
        return process.uids().real == os.getuid()
    except FileNotFoundError:
        return True  # no such directory outside of Linux


def pid_in(pidfile: str) -> int | None:
    """Return the pid that a pidfile holds, None if it holds none."""
    try:
        with open(pidfile, "rb") as file:
            text = file.read(32).strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def addresses(configuration: dict[str, list[str]]) -> list[tuple[str, int]]:
    """Return host and port of each address that sshd listens on, as one reaches it from here."""
    found = []
    for value in configuration.get("listenaddress", ()):
        host, _, port = value.split(" ", 1)[0].rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
        found.append((host, int(port)))
    return found


def greets(address: tuple[str, int], limit_s: float = 5.0) -> bool:
    """Tell whether an SSH server says its version at an address."""
    try:
        with socket.create_connection(address, timeout=limit_s) as connection:
            connection.settimeout(limit_s)
            return connection.recv(255).startswith(b"SSH-")
    except OSError:
        return False


def silent(
    wanted: Sequence[tuple[str, int]], worth_it: Callable[[], bool] = lambda: True
) -> list[tuple[str, int]]:
    """Return the addresses where no server greets, asking again and again for some seconds.

    It gives up early when worth_it says that nothing is to be expected any more.
    """
    deadline = time.monotonic() + GREETING_S
    left = list(wanted)
    while True:
        left = [address for address in left if not greets(address)]
        if not left or time.monotonic() > deadline or not worth_it():
            return left
        time.sleep(_STEP_S)
