"""kssh at work: started in the background, and what anybody can see of it from outside.

Knows harness.py.  Must not know how kssh works inside.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from harness import (
    MARK,
    TIMEOUT_S,
    Argument,
    FakeSsh,
    Relay,
    Sshd,
    Start,
    absent,
    alive,
    end,
    free_port,
    marked,
    need,
    pause_typing,
    program,
    wait_for,
)

# What a fake ssh logs, in the words of OpenSSH 9.2, on its way to a session and out of it.
CONNECT = "log 'debug1: Connecting to 127.0.0.1 [127.0.0.1] port 22.' 'debug1: Connection established.'\n"
SESSION = CONNECT + (
    "log 'Authenticated to 127.0.0.1 ([127.0.0.1]:22) using \"publickey\".' "
    "'debug1: channel 0: new session [client-session] (inactive timeout: 0)' "
    "'debug1: Entering interactive session.'\n"
    # With -N ssh gives up its standard output there.
    "for word do case $word in -*[!a-zA-Z]*) ;; -*N*) exec >/dev/null ;; esac; done\n"
)
# $1 of the function is the status.
FINISH = (
    "finish() { log 'debug1: client_input_channel_req: channel 0 rtype exit-status reply 0' "
    '"debug1: Exit status $1"; exit "$1"; }\n'
)
LOSE = "log 'debug1: channel 0: free: client-session, nchannels 1' 'debug1: Exit status -1'; exit 255\n"
REFUSE = "log 'ssh: connect to host 127.0.0.1 port 22: Connection refused'; exit 255\n"
PORT_REFUSED = SESSION + "log 'Error: remote port forwarding failed for listen port 2222'; exit 255\n"
STAY = "exec sleep 600\n"  # in ssh's place, so that a signal for ssh ends it

HOST_KEY_QUESTION = re.compile(rb"\(yes/no[^)]*\)\? ")  # older ones do not take a fingerprint
PROMPT = re.compile(rb"[$#] ")  # of the remote shell, whoever it is for


class Kssh:
    """kssh running without a terminal.

    process  its Popen
    said     what it has written to standard error so far
    """

    def __init__(
        self,
        args: Sequence[Argument],
        env: Mapping[str, str] | None = None,
        before: Sequence[Argument] = (),
        **popen: Any,
    ) -> None:
        """Start it; before is a command in front of it, such as nohup."""
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__
        self.process = subprocess.Popen(
            [*before, program(), *args],
            env={**os.environ, **(env or {})},
            start_new_session=True,
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.DEVNULL,
                "stderr": self._stderr,
                **popen,
            },
        )

    def __enter__(self) -> Kssh:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            kssh = psutil.Process(self.process.pid)
            end([kssh, *kssh.children(recursive=True)])
        self.process.wait()
        self._stderr.close()

    @property
    def pid(self) -> int:
        """The pid of kssh."""
        return self.process.pid

    @property
    def said(self) -> str:
        """What it has written to standard error so far."""
        return os.pread(self._stderr.fileno(), 1_000_000, 0).decode(errors="replace")

    def says(self, text: str, timeout: float = TIMEOUT_S) -> None:
        """Wait until standard error holds a text."""
        wait_for(lambda: text in self.said or self._gone(), timeout, f"{text!r}; it said {self.said!r}")
        assert text in self.said

    def _gone(self) -> bool:
        return self.process.poll() is not None

    def send(self, signum: int) -> None:
        """Send it a signal."""
        self.process.send_signal(signum)

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for it to end; return its status, -N for signal N."""
        return self.process.wait(timeout)

    def stop(self) -> None:
        """End it in order."""
        self.send(signal.SIGTERM)
        assert self.wait() == -signal.SIGTERM, self.said

    def ssh(self) -> int:
        """Return the pid of the real ssh below it, once there is one."""
        pid = wait_for(lambda: ssh_below(self.pid), what=f"ssh; kssh said {self.said!r}")
        assert pid is not None
        return pid


def ssh_below(pid: int) -> int | None:
    """Return the pid of the real ssh that a process has started, or None."""
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if child.name() == "ssh" and alive(child.pid):
                    return int(child.pid)
    return None


def started(fake: FakeSsh, number: int = 1, timeout: float = TIMEOUT_S) -> Start:
    """Wait for a start of a fake ssh, counted from 1, and return it."""
    wait_for(lambda: len(fake.starts) >= number, timeout, f"start {number} of ssh")
    return fake.starts[number - 1]


def lose(sshd: Sshd, relay: Relay) -> None:
    """Cut a link so that the far side does not know, as in most outages, while the person pauses."""
    pause_typing()
    for pid in sshd.sessions():
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            if process.name().startswith("sshd"):
                process.suspend()
    relay.reset()


# $1 a directory that stays writable, $2 one that vanishes or "", then a command.
_SEAL = """\
keep=$1 hide=$2; shift 2
mount --make-rprivate /
cut -d' ' -f2 /proc/self/mounts | while read -r place; do
    mount -o remount,bind,ro "$place" 2>/dev/null
done
mount --bind "$keep" "$keep" && mount -o remount,bind,rw "$keep" || exit
[ -z "$hide" ] || mount -t tmpfs -o ro none "$hide" || exit
exec "$@"
"""


def sealed(keep: Path, hide: str = "") -> list[Argument]:
    """Return what stands in front of a command that sees no file system to write to but one directory.

    hide  a directory that looks empty to it as well, such as "/proc"
    """
    unshare = [need("unshare"), "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL, check=False).returncode != 0:
        absent("mount namespaces")
    return [*unshare, "sh", "-c", _SEAL, "sh", keep, hide]


def with_fake(fake: FakeSsh, **variables: object) -> dict[str, str]:
    """Return the environment in which kssh takes a fake ssh, with more KSSH_ variables."""
    settings = {f"KSSH_{name}": str(value) for name, value in variables.items()}
    return {"KSSH_SSH": str(fake.path), **settings}


def quick(**variables: object) -> dict[str, str]:
    """Return KSSH_ variables that make kssh try again soon, and more of them."""
    settings = {"BACKOFF_MAX": 1, **variables}
    return {f"KSSH_{name}": str(value) for name, value in settings.items()}


class Tunnel(Kssh):
    """A kssh that forwards a port of 127.0.0.1 to an sshd: "kssh -N -L" or "-R".

    port  where the sshd greets through the tunnel
    """

    def __init__(
        self,
        sshd: Sshd,
        *options: Argument,
        through: int | None = None,
        side: str = "-L",
        port: int | None = None,
        env: Mapping[str, str] | None = None,
        **kssh: Any,
    ) -> None:
        """Start it; through is the port of a relay."""
        self.port = port or free_port()
        super().__init__(tunnel_words(sshd, self.port, through, side, *options), env, **kssh)

    def is_up(self) -> None:
        """Wait until the sshd greets through the tunnel."""
        wait_for(lambda: greets(self.port) or self._gone(), what=f"the tunnel; kssh said {self.said!r}")
        assert self.process.poll() is None, self.said


def tunnel_words(
    sshd: Sshd, port: int, through: int | None = None, side: str = "-L", *options: Argument
) -> list[Argument]:
    """Return the command line of a tunnel from a port of 127.0.0.1 to an sshd."""
    config = sshd.config_for(through or sshd.port)
    return ["-F", config, "-N", side, f"127.0.0.1:{port}:127.0.0.1:{sshd.port}", *options, "t"]


def behind_a_jump_host(sshd: Sshd, path: Path, port: int, jump: str = "") -> Path:
    """Write an ssh_config whose host "t" is at a port, behind an sshd as jump host; jump: more for that."""
    path.write_text(
        f"Host jump\nPort {sshd.port}\n{jump}\nHost t\nPort {port}\nProxyJump jump\n"
        + sshd.config.read_text().replace("Host t\n", "Host *\n")
    )
    return path


def greets(place: int | Path) -> bool:
    """Tell whether an sshd greets behind a port of 127.0.0.1, or behind a socket with a path."""
    at_port = isinstance(place, int)
    with socket.socket(socket.AF_INET if at_port else socket.AF_UNIX) as client:
        client.settimeout(5)
        try:
            client.connect(("127.0.0.1", place) if at_port else str(place))
            return client.recv(4) == b"SSH-"
        except OSError:
            return False


def listens(port: int) -> bool:
    """Tell whether anything takes connections at a port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def background() -> list[psutil.Process]:
    """Return the processes of this test that kssh left in the background, and it below them."""
    found = []
    for process in marked(os.environ[MARK]):
        with contextlib.suppress(psutil.Error):
            if any(word.endswith("/kssh") for word in process.cmdline()[:2]):
                found.append(process)
    return found


def end_background() -> None:
    """End every kssh in the background in order, and wait until it is gone."""
    processes = background()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    wait_for(lambda: not any(alive(process.pid) for process in processes), what="kssh to end")


def records() -> list[dict[str, Any]]:
    """Return the state records of this test's links."""
    found = []
    for path in Path(os.environ["KSSH_STATE_DIR"]).glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            found.append(json.loads(path.read_bytes()))
    return found


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file that need not be there yet."""
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def started_with(pid: int) -> list[str]:
    """Return the words that a process was started with."""
    return list(psutil.Process(pid).cmdline())
