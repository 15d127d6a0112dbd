"""A running sshd from outside: which one uses a file, its reload, its addresses, its greeting.

Knows processes, sockets, and systemd's and init's way of reloading.  Must not know what is to be
configured.

Any process can call itself sshd and name a file, and any may greet on a port that sshd had a moment ago.
What a process says of itself counts only if it runs for root, or for us, and is the program that was
chosen: the kernel tells that.  Where it listens the kernel tells as well.  And what has to be
restarted is that program with words of ours, never with its own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import time

import psutil

from ...errors import KsshError, printable
from ...system import sockets
from . import sshdtitle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Union

    Address = tuple[str, int]
    Sockets = Union[frozenset[int], None]

LIMIT_S = 15.0
GREETING_S = 10.0  # after a HUP sshd restarts itself: its sockets are closed for a moment
RESTART_S = 2.0
_STEP_S = 0.02
UNITS = ("ssh.service", "sshd.service")
# Not PATH, which may be the one of the user who became root by su(1).  The last is NixOS.
_FOLDERS = "/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin"
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:" + _FOLDERS}


def _run(words: Sequence[str]) -> tuple[int, str]:
    """Run a program of the system's; return its status and all that it said."""
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
            cwd="/",
            env=_ENVIRONMENT,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, os.fsdecode(done.stdout).strip()


def _by(words: Sequence[str]) -> str:
    """Run a program of the system's; return how it was called.  Raises KsshError."""
    status, said = _run(words)
    if status != 0:
        why = "; ".join(line.strip() for line in said.splitlines() if line.strip())
        raise KsshError(f"{' '.join(words)}: {printable(why) or f'status {status}'}")
    return " ".join(words)


# Which process it is.


def _processes(config: str) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Yield what listens with a configuration file, as far as who runs it may say so, and its words."""
    wanted = os.path.realpath(config)
    for process in _all_processes():
        try:
            if not _is_for_root_or_us(process):
                continue
            words = sshdtitle.daemon_words(process.cmdline())
            if words is not None and _config_of(process, words) == wanted and _same_root(process):
                yield process, words
        except (psutil.Error, OSError):
            continue


def _all_processes() -> list[psutil.Process]:
    """Return what runs.  Raises KsshError where that cannot be seen."""
    try:
        return list(psutil.process_iter())
    except (psutil.Error, OSError, IndexError) as error:  # IndexError: psutil's, where there is no process
        raise KsshError("cannot see which processes run, and so no sshd: is /proc there?") from error


def _is_for_root_or_us(process: psutil.Process) -> bool:
    """Tell whether nobody else can have a hand in a process: all its user ids are root's, or ours."""
    return set(process.uids()) <= {0, os.geteuid()}


def _is_program(process: psutil.Process, program: str) -> bool:
    """Tell whether a process runs a program, or the one that stood in its place before an update."""
    try:
        if os.path.samestat(os.stat(f"/proc/{process.pid}/exe"), os.stat(program)):
            return True
    except OSError:
        pass  # replaced, or no Linux
    return process.exe() == os.path.realpath(program)  # psutil leaves " (deleted)" away


def _config_of(process: psutil.Process, words: Sequence[str]) -> str:
    config = sshdtitle.config_of(words)
    return os.path.realpath(config if config.startswith("/") else os.path.join(process.cwd(), config))


def _same_root(process: psutil.Process) -> bool:
    """Tell whether a process sees our files: one in a container reads others of the same name."""
    try:
        return os.path.samestat(os.stat(f"/proc/{process.pid}/root"), os.stat("/"))
    except PermissionError:
        return process.uids().real == os.getuid()
    except FileNotFoundError:
        return True  # no such directory outside of Linux


def listener_for(config: str, program: str, pidfile: str = "none") -> Listener | None:
    """Return the running sshd that uses a configuration file, None if there is none we can see.

    program  the sshd that was chosen: others are not taken for one
    pidfile  says which, where several use the file
    """
    found = []
    for process, words in _processes(config):
        try:
            if _is_program(process, program):
                found.append(Listener(process, words))
        except (psutil.Error, OSError):
            continue
    # One without a socket that listens serves a session.
    found = [one for one in found if one.addresses() != frozenset()]
    preferred = pid_in(pidfile)
    found.sort(key=lambda one: one.pid != preferred)
    return found[0] if found else None


def other_programs(config: str, program: str) -> list[str]:
    """Return the programs, other than the sshd that was chosen, that seem to use a configuration file."""
    found = []
    for process, _ in _processes(config):
        try:
            if not _is_program(process, program):
                found.append(process.exe())
        except (psutil.Error, OSError):
            continue
    return sorted({path for path in found if path})


def pid_in(pidfile: str) -> int | None:
    """Return the pid that a pidfile holds, None if it holds none."""
    try:
        fd = os.open(pidfile, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            text = file.read(32).strip() if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return None
    return int(text) if text.isdigit() else None


class Listener:
    """A running sshd that waits for connections."""

    def __init__(self, process: psutil.Process, words: Sequence[str] = ()) -> None:
        """Take a process that is known to be one; words are those it was started with."""
        self.process = process
        self.says_where = sshdtitle.says_where(words)

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

    def addresses(self) -> frozenset[Address] | None:
        """Return where it listens, as one reaches it from here; None if this system does not tell."""
        try:
            found = sockets.of(self.pid)
        except OSError:
            return None
        return frozenset(_reached(*one.local) for one in found if one.state == sockets.LISTEN)

    def sockets(self) -> Sockets:
        """Return what names its open sockets, None if this system does not tell."""
        try:
            return frozenset(sockets.descriptors(self.pid))
        except OSError:
            return None

    def hang_up(self) -> str:
        """Send it a HUP; return that in words.  Raises KsshError."""
        try:
            fd = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1  # Linux
            try:
                if not self.alive():
                    raise KsshError(f"sshd, pid {self.pid}, has ended")
                # Nothing can have taken its place since: its pid is held, or psutil looks again.
                if fd >= 0:
                    signal.pidfd_send_signal(fd, signal.SIGHUP)
                else:
                    self.process.send_signal(signal.SIGHUP)
            finally:
                if fd >= 0:
                    os.close(fd)
        except (psutil.Error, OSError) as error:
            raise KsshError(f"cannot signal sshd, pid {self.pid}: {error}") from error
        return f"HUP to pid {self.pid}"


# What is done with it.


class Daemon:
    """The sshd that serves with a configuration file, through reloads and also through its death.

    wanted  where it has to greet: where it listens now, as far as its file says so
    """

    def __init__(self, listener: Listener, config: str, program: str, values: dict[str, list[str]]) -> None:
        """Learn who looks after it and where it listens while it is well: asked for once it is not.

        values is what "sshd -T" makes of the file.
        """
        self.listener = listener
        self._config = config
        self._program = program
        self._pidfile = values.get("pidfile", ["none"])[0]
        self._manager = self._find_manager()
        configured = addresses(values)
        listening = listener.addresses()
        found = [one for one in configured if listening is None or _is_among(one, listening)]
        self._elsewhere = not found and listening is not None
        if self._elsewhere:
            found = sorted(listening or ())
        self._file_says = configured
        # An address family that this machine has not is listed, and never greeted.
        self.wanted = [one for one in found if greets(one)] or found

    @classmethod
    def find(cls, config: str, program: str, values: dict[str, list[str]]) -> Daemon | None:
        """Return the one that runs, None if there is none we can see."""
        listener = listener_for(config, program, values.get("pidfile", ["none"])[0])
        return None if listener is None else cls(listener, config, program, values)

    def _find_manager(self) -> tuple[str, ...]:
        """Return the words to which "reload" or "restart" is to be added; none if nobody looks after it."""
        systemctl = shutil.which("systemctl", path=_FOLDERS)
        if systemctl and os.path.isdir("/run/systemd/system"):
            for unit in UNITS:
                asked = [systemctl, "show", "-p", "MainPID", "--value", unit]
                if _run(asked) == (0, str(self.listener.pid)):
                    return (systemctl, unit)
        pidfile = self._pidfile
        service = shutil.which("service", path=_FOLDERS)
        if (
            service
            and pidfile == f"/run/{os.path.basename(pidfile)}"
            and pid_in(pidfile) == self.listener.pid
        ):
            for name in ("ssh", "sshd"):
                if os.access(f"/etc/init.d/{name}", os.X_OK):
                    return (service, name)
        return ()

    def _manage(self, verb: str) -> str:
        program, name = self._manager
        words = [program, verb, name] if name in UNITS else [program, name, verb]
        return os.path.basename(_by(words))

    def pending(self) -> str | None:
        """Return in words that a reload would have it listen elsewhere than now, None if it would not."""
        if not self._elsewhere or self.listener.says_where:
            return None
        return (
            f"sshd, pid {self.listener.pid}, listens on {shown(self.wanted)}, not on {shown(self._file_says)}"
        )

    def reload(self) -> str:
        """Have it read its file again, and wait until it has; return how, in words.  Raises KsshError."""
        before = self.listener.sockets()
        how = self._manage("reload") if self._manager else self.listener.hang_up()
        deadline = time.monotonic() + RESTART_S
        # Until its sockets are others it is the old configuration that greets.
        while time.monotonic() < deadline and self.listener.alive():
            now = self.listener.sockets()
            if before is not None and now and now != before:
                break
            time.sleep(_STEP_S)
        return how

    def restore(self) -> None:
        """Have it read its file again, or restart it with it; it runs when this returns.

        Raises KsshError.
        """
        if self._found_again():
            try:
                self.reload()
            except KsshError:
                if self.listener.alive():
                    raise
            if self.listener.alive():
                return
        self._start()
        if not self._found_again():
            raise KsshError("sshd was restarted and does not listen")

    def _found_again(self) -> bool:
        """Tell whether it runs, or whether somebody restarted it, who may take a moment for that."""
        deadline = time.monotonic() + RESTART_S
        while not self.listener.alive():
            other = listener_for(self._config, self._program, self._pidfile)
            if other is not None:
                self.listener = other
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_STEP_S)
        return True

    def _start(self) -> None:
        """Restart it: through who looks after it, else the program that was chosen, with its file.

        Its own words are not used: they stand where it can write.  Where they told it to listen
        elsewhere than its file does, the kernel has told where.
        """
        if self._manager:
            if self._manager[1] in UNITS:
                _run([self._manager[0], "reset-failed", self._manager[1]])  # it has tried often enough
            self._manage("restart")
            return
        words = [self._program, "-f", self._config]
        if self._elsewhere:
            for port in sorted({port for _, port in self.wanted}):
                words += ["-p", str(port)]
        _by(words)  # which returns once sshd is a daemon

    def silent(self) -> list[Address]:
        """Return the addresses where it does not greet, asking again and again for some seconds.

        A greeting counts only where it is this sshd that listens: anybody may take a port above 1023
        while sshd restarts itself.
        """
        return silent(self.wanted, self._listens, self.listener.alive)

    def _listens(self, address: Address) -> bool:
        listening = self.listener.addresses()
        return listening is None or _is_among(address, listening)


def _reached(host: str, port: int) -> Address:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _is_among(address: Address, listening: frozenset[Address]) -> bool:
    """Tell whether an address is among those that the kernel tells, which leaves scopes (%eth0) away."""
    return (address[0].partition("%")[0], address[1]) in listening


def shown(several: Sequence[Address]) -> str:
    """Return addresses in words."""
    return ", ".join(f"{host} port {port}" for host, port in several) or "no address"


def addresses(configuration: dict[str, list[str]]) -> list[Address]:
    """Return host and port of each address that "sshd -T" names, as one reaches it from here."""
    found = []
    for value in configuration.get("listenaddress", ()):
        host, _, port = value.split(" ", 1)[0].rpartition(":")
        found.append(_reached(host.strip("[]"), int(port)))
    return found


def greets(address: Address, limit_s: float = 5.0) -> bool:
    """Tell whether an SSH server says its version at an address."""
    try:
        with socket.create_connection(address, timeout=limit_s) as connection:
            connection.settimeout(limit_s)
            return connection.recv(255).startswith(b"SSH-")
    except OSError:
        return False


def silent(
    wanted: Sequence[Address], is_ours: Callable[[Address], bool], worth_it: Callable[[], bool]
) -> list[Address]:
    """Return the addresses where no server of ours greets, asking again and again for some seconds.

    It gives up early when worth_it says that nothing is to be expected any more.
    """
    deadline = time.monotonic() + GREETING_S
    left = list(wanted)
    while True:
        left = [address for address in left if not (is_ours(address) and greets(address))]
        if not left or time.monotonic() > deadline or not worth_it():
            return left
        time.sleep(_STEP_S)
