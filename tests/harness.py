"""What the tests on real processes stand on: an sshd, a bad network, a fake ssh and a terminal.

Knows OpenSSH's programs and this machine.  Must not know how kssh works inside: it is run as a
program and watched from outside.  Everything that is started here is ended here, by its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import os
import pty
import pwd
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Callable, NamedTuple, TypeVar, Union

import psutil
import pytest

T = TypeVar("T")

TIMEOUT_S = 60.0  # longer than anything takes on a busy machine; passing tests never wait for it
POLL_S = 0.005

# Debian keeps sshd where an ordinary user's PATH does not look.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# The scripts of the environment whose Python runs the tests: "pip install -e ." puts them there.
PROGRAMS = Path(sys.executable).parent
# Every process of a test carries this variable, so that one that went to the background is found.
MARK = "TEST_RUN_MARK"


# Needs, waits and processes.


def absent(what: str) -> None:
    """Skip the test for want of something, or fail where nothing may be skipped."""
    if os.environ.get("KSSH_TEST_NO_SKIP"):
        pytest.fail(f"needs {what}, and KSSH_TEST_NO_SKIP is set")
    pytest.skip(f"needs {what}")


def need(program: str) -> str:
    """Return the path of a program that the test cannot do without."""
    path = shutil.which(program, path=SEARCH_PATH)
    if path is None:
        absent(program)
    assert path is not None
    return path


def need_root() -> None:
    """Go on only as root."""
    if os.geteuid() != 0:
        absent("root")


def wait_for(condition: Callable[[], T], timeout: float = TIMEOUT_S, what: str = "") -> T:
    """Return the first true value of condition, asked again and again; fail after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout:g} s in vain{': ' + what if what else ''}")
        time.sleep(POLL_S)


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not reaped yet does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def marked(mark: str) -> list[psutil.Process]:
    """Return the processes other than this one that were started with a mark in their environment."""
    found = []
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if pid != os.getpid() and _carries(pid, mark) and alive(pid):
                found.append(psutil.Process(pid))
    return found


def _carries(pid: int, mark: str) -> bool:
    if sys.platform == "linux":  # a quarter of the time, and each test looks more than once
        return f"{MARK}={mark}\0".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    return bool(psutil.Process(pid).environ().get(MARK) == mark)


def end(processes: Sequence[psutil.Process]) -> None:
    """Kill processes, stopped ones too, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # Not psutil.wait_procs(): an orphan is gone for it only once init has reaped it.
    wait_for(lambda: not any(alive(process.pid) for process in processes), what="killed processes to go")


def _ports() -> Iterator[int]:
    """Yield ports for ever, each again only after all others: another may still be about to listen there.

    They lie below those that the kernel gives to outgoing connections: there, one that asks again
    and again whether the port is open can be given that very port, and then has itself on the line.
    Each worker of pytest-xdist has a thousand of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    ports = range(20000 + worker % 12 * 1000, 20000 + worker % 12 * 1000 + 1000)
    start = random.randrange(len(ports))
    return itertools.cycle((*ports[start:], *ports[:start]))


_PORTS = _ports()


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listened a moment ago."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


# A real sshd.


class Sshd:
    """A throwaway sshd on 127.0.0.1 for the user who runs the tests, with keys of its own.

    port          where it listens; the same after a restart
    config        ssh_config for "-F": there it is the host "t"
    key_exchange  its KexAlgorithms; "" for what it has by itself

    Remote commands find an empty home directory, so that nobody's start-up files matter.
    """

    key_exchange = ""

    def __init__(self, directory: Path, extra: str = "", variables: Mapping[str, str] | None = None) -> None:
        """Prepare keys and files in directory.

        extra      more sshd_config, which beats the rest
        variables  environment of remote commands, which beats what stands there
        """
        self._program = need("sshd")
        need("ssh")
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.extra = extra
        self.variables = {"HOME": f"{directory}/home", **(variables or {})}
        self.port = free_port()
        self._mark = uuid.uuid4().hex
        self._listener: subprocess.Popen[bytes] | None = None
        self._log = directory / "sshd.log"
        (directory / "home").mkdir(exist_ok=True)
        for name in ("host_key", "client_key"):
            key = str(directory / name)
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        shutil.copy(directory / "client_key.pub", directory / "authorized_keys")
        host_key = (directory / "host_key.pub").read_text()
        (directory / "known_hosts").write_text(f"t {host_key}")
        self.config = self.config_for(self.port)

    def __enter__(self) -> Sshd:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def config_for(self, port: int, extra: str = "") -> Path:
        """Write an ssh_config whose host "t" is this sshd, reached through port; return its path."""
        path = self.directory / f"ssh_config.{port}"
        path.write_text(
            f"{extra}\n"
            "Host t\n"
            "HostName 127.0.0.1\n"
            f"Port {port}\n"
            f"User {pwd.getpwuid(os.geteuid()).pw_name}\n"
            f"IdentityFile {self.directory}/client_key\n"
            "IdentitiesOnly yes\n"
            "IdentityAgent none\n"
            "HostKeyAlias t\n"
            "StrictHostKeyChecking yes\n"
            f"UserKnownHostsFile {self.directory}/known_hosts\n"
            "GlobalKnownHostsFile /dev/null\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
        )
        return path

    def start(self) -> None:
        """Start it; it listens when this returns."""
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # its empty chroot on Debian
        variables = " ".join(f'"{name}={value}"' for name, value in self.variables.items())
        config = self.directory / "sshd_config"
        config.write_text(
            f"{self.extra}\n"
            "ListenAddress 127.0.0.1\n"
            f"Port {self.port}\n"
            f"HostKey {self.directory}/host_key\n"
            f"AuthorizedKeysFile {self.directory}/authorized_keys\n"
            "PidFile none\n"
            "StrictModes no\n"
            f"UsePAM {'yes' if _root_is_locked() else 'no'}\n"
            "PermitRootLogin yes\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "PrintMotd no\n"
            "PrintLastLog no\n"
            "LogLevel DEBUG1\n"
            "MaxStartups 100\n"
            f"SetEnv {MARK}={self._mark} {variables}\n"
            "Subsystem sftp internal-sftp\n"
            + (f"KexAlgorithms {self.key_exchange}\n" if self.key_exchange else "")
            # Tests fail to log in on purpose; from 9.8 on sshd would shut 127.0.0.1 out for that.
            + ("PerSourcePenalties no\n" if openssh_version(self._program) >= (9, 8) else "")
        )
        self._log.write_bytes(b"")
        self._listener = subprocess.Popen(
            [self._program, "-D", "-f", config, "-E", self._log],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, MARK: self._mark},
        )
        listener = self._listener
        # Asking the log, not the port: a connection would be one more in what the tests see.
        wait_for(lambda: "Server listening" in self.log or listener.poll() is not None, what="sshd to listen")
        if listener.poll() is not None:
            self.stop()
            pytest.fail(f"sshd did not start: {self.log}")

    def stop(self) -> None:
        """End it with all its sessions and all that they started."""
        if self._listener is not None:
            listener = psutil.Process(self._listener.pid)
            if self._listener.poll() is None:
                listener.suspend()  # no new session from here on
                end([*listener.children(recursive=True), listener])
            self._listener.wait()
            self._listener = None
        end(marked(self._mark))

    def restart(self, extra: str = "") -> None:
        """Stop it, sessions included, and start it on the same port with other extra configuration."""
        self.stop()
        self.extra = extra
        self.start()

    @property
    def pid(self) -> int:
        """The pid of the process that listens."""
        assert self._listener is not None, "sshd was not started"
        return self._listener.pid

    @property
    def log(self) -> str:
        """What it has logged since its last start."""
        return self._log.read_text(errors="replace")

    def sessions(self) -> list[int]:
        """Return the pids of the processes that serve a connection each, the oldest first."""
        children = [child for child in psutil.Process(self.pid).children() if alive(child.pid)]
        return [child.pid for child in sorted(children, key=lambda child: child.create_time())]

    def kill_sessions(self) -> list[int]:
        """Kill -9 what serves the connections and return the pids; remote commands go on."""
        killed = self.sessions()
        family = [member for pid in killed for member in _family(pid)]
        # For another user than root a second sshd, without privileges, holds the connection.
        end([process for process in family if _name(process).startswith("sshd")])
        return killed


class Fragile(Sshd):
    """An sshd that does not start with a file in which a pattern is found: its reload goes wrong."""

    def __init__(self, directory: Path, pattern: str, instead: str = "exit 1") -> None:
        """Prepare it; pattern is grep's; instead: what happens in the shell that would start sshd."""
        super().__init__(directory)
        wrapper = directory / "sshd"
        wrapper.write_text(
            "#!/bin/bash\n"
            f"grep -q '{pattern}' {directory}/sshd_config && {instead}\n"
            f'exec -a "$0" {self._program} "$@"\n'
        )
        wrapper.chmod(0o755)
        self._program = str(wrapper)

    def stop(self) -> None:
        """End it, and what was started in its place, which has emptied its environment."""
        super().stop()
        config = str(self.directory / "sshd_config")
        found = psutil.process_iter(["cmdline"])
        end([process for process in found if config in " ".join(process.info["cmdline"] or [])])


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file below a directory with its bytes."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _name(process: psutil.Process) -> str:
    try:
        return str(process.name())
    except psutil.NoSuchProcess:
        return ""


def _root_is_locked() -> bool:
    """Tell whether we are root without a usable password: only with PAM does sshd let root in then."""
    if os.geteuid() != 0:
        return False
    entries = Path("/etc/shadow").read_text().splitlines()
    return any(entry.startswith("root:!") for entry in entries)


def openssh_version(program: str = "ssh") -> tuple[int, int]:
    """Return the version of an ssh or sshd; an old sshd says it with its usage."""
    said = subprocess.run([program, "-V"], stderr=subprocess.PIPE, check=False).stderr
    match = re.search(rb"OpenSSH_(\d+)\.(\d+)", said)
    assert match, said
    return int(match[1]), int(match[2])


# A bad network.


class Relay:
    """A TCP relay on 127.0.0.1 whose link can be made to fail.

    port      where it listens; the same after refuse() and listen()
    accepted  time.monotonic() of every connection that was taken, in order
    mute      True: new connections are taken and left without a word
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = free_port()
        self.accepted: list[float] = []
        self.mute = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Future[Any]] = set()
        self._server: asyncio.AbstractServer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Relay:
        self._thread.start()
        self._do(self._prepare)
        self.listen()
        return self

    def __exit__(self, *exc: object) -> None:
        self._do(self._close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        """How many connections are open now."""
        return len(self._tasks)

    def freeze(self) -> None:
        """Pass nothing on any more, in silence; new connections are taken and wait as well."""
        self._do(self._set_open, False)

    def thaw(self) -> None:
        """Pass on what waited and all that follows."""
        self._do(self._set_open, True)

    def reset(self) -> None:
        """End every open connection with RST, on both sides."""
        self._do(self._reset)

    def refuse(self) -> None:
        """Stop listening: new connections are refused; open ones go on."""
        self._do(self._stop_listening)

    def listen(self) -> None:
        """Listen again, on the same port."""
        self._do(self._listen)

    # All below runs on the loop's thread, so that no lock is needed.

    def _do(self, deed: Callable[..., Any], *args: object) -> None:
        async def call() -> None:
            await deed(*args)

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(TIMEOUT_S)

    async def _prepare(self) -> None:
        self._open = asyncio.Event()  # in Python 3.9 it belongs to the loop that it is made on
        self._open.set()

    async def _set_open(self, open_: bool) -> None:
        if open_:
            self._open.set()
        else:
            self._open.clear()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _reset(self) -> None:
        for writer in list(self._writers):
            _abort(writer)
        for task in self._tasks:
            task.cancel()  # a frozen one waits and would not notice
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _close(self) -> None:
        await self._stop_listening()
        await self._reset()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted.append(time.monotonic())
        task = asyncio.ensure_future(self._carry(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        ends = {writer}
        try:
            if self.mute:
                while await reader.read(65536):
                    pass
                return
            target = await asyncio.open_connection("127.0.0.1", self.target_port)
            self._writers.add(target[1])
            ends.add(target[1])
            await asyncio.gather(self._pump(reader, target[1]), self._pump(target[0], writer))
        except OSError:
            pass  # one side is gone or was never there: the other learns it below
        finally:
            for one in ends:
                self._writers.discard(one)
                _abort(one)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            data = await reader.read(65536)
            await self._open.wait()
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _abort(writer: asyncio.StreamWriter) -> None:
    """Close a connection; with RST, unless both sides have said that they are done."""
    with contextlib.suppress(OSError):
        connection = writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# A fake ssh.


class Start(NamedTuple):
    """One start of the fake ssh: its pid and its arguments."""

    pid: int
    argv: list[str]


class FakeSsh:
    """A program for KSSH_SSH that notes each start and does what its script says.

    path  the program
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def starts(self) -> list[Start]:
        """The starts so far, in order; questions (-G, -V) are none."""
        notes = sorted((int(note.name), note) for note in (self.path.parent / "starts").glob("*[0-9]"))
        fields = [os.fsdecode(note.read_bytes()).split("\0")[:-1] for _, note in notes]
        return [Start(int(pid), argv) for pid, *argv in fields]


# Paths come from $0: were one written here that has "kssh" in it, as the directories of tests do,
# the script would look like one that calls kssh.
_FAKE_SSH = """\
#!/bin/sh
here=$(dirname "$0")
case "$1" in
-V)
    echo 'OpenSSH_9.2p1 (fake)' >&2
    exit 0 ;;
-G)
    session=default tty=auto fork=no
    for word do
        case "$word" in
        -[!146ACGKMNTVXYafgknqstvxy]*) continue ;;
        -*) ;;
        *) continue ;;
        esac
        case "$word" in *N*) session=none ;; *s*) session=subsystem ;; esac
        case "$word" in *tt*) tty=force ;; *t*) tty=true ;; *T*) tty=false ;; esac
        case "$word" in *f*) fork=yes ;; esac
    done
    cat "$here/configuration"
    echo "sessiontype $session"
    echo "requesttty $tty"
    echo "forkafterauthentication $fork"
    exit 0 ;;
esac
start=
[ -e "$here/last" ] && read -r start <"$here/last"
start=${start:-1}
until mkdir "$here/starts/$start.taken" 2>/dev/null; do start=$((start + 1)); done
echo "$start" >"$here/last"
printf '%s\\0' "$$" "$@" >"$here/starts/$start.new"
mv "$here/starts/$start.new" "$here/starts/$start"
log= tag=
for word do
    [ "$previous" = -E ] && log=$word
    case "$word" in LogVerbose=*) tag="ssh.c:main():1 (pid=$$): " ;; esac
    previous=$word
done
if [ "$log" ]; then exec 9>>"$log"; else exec 9>&2; fi
log() {
    for line do
        case "$line" in
        debug[123]:\\ *) line="${line%%: *}: $tag${line#*: }" ;;
        *) line="$tag$line" ;;
        esac
        printf '%s\\r\\n' "$line" >&9
    done
}
"""

CONFIGURATION = {
    "hostname": "127.0.0.1",
    "port": "1",  # nothing listens there
    "user": "somebody",
    "serveraliveinterval": "0",
    "serveralivecountmax": "3",
    "connecttimeout": "none",
    "controlmaster": "false",
    "controlpath": "none",
    "exitonforwardfailure": "no",
    "batchmode": "no",
    "stdinnull": "no",
    "escapechar": "~",
    "loglevel": "INFO",
    "logverbose": "none",
}


def fake_ssh(tmp_path: Path, script: str, configuration: Mapping[str, str] | None = None) -> FakeSsh:
    """Write a fake ssh that runs script, in sh, at each start but for the questions -G and -V.

    script finds $start (1 for the first), the arguments in "$@", the path that -E names in $log,
    and the function log, which writes messages there as ssh does.  configuration changes single
    lines of the answer to -G; sessiontype, requesttty and forkafterauthentication follow the
    letters N, s, t, T and f unless it names them.
    """
    folder = Path(tmp_path, f"fake-ssh-{uuid.uuid4().hex[:8]}")
    (folder / "starts").mkdir(parents=True)
    given = {**CONFIGURATION, **(configuration or {})}
    # The first line of a keyword counts, as with ssh: these stand before those of the letters.
    (folder / "configuration").write_text("".join(f"{name} {value}\n" for name, value in given.items()))
    path = folder / "ssh"
    path.write_text(f"{_FAKE_SSH}{script}\n")
    path.chmod(0o755)
    return FakeSsh(path)


# Running kssh.


def program(name: str = "kssh") -> str:
    """Return the path of a command of ours as it is installed."""
    path = PROGRAMS / name
    if not path.exists():
        pytest.fail(f"{path} is not there: run {sys.executable} -m pip install -e .")
    return str(path)


Argument = Union[str, bytes, Path]


def run_kssh(
    args: Sequence[Argument],
    env: Mapping[str, str] | None = None,
    stdin: int | IO[bytes] | bytes = subprocess.DEVNULL,
    timeout: float = TIMEOUT_S,
    **popen: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run kssh without a terminal until it ends; its output is captured as bytes.

    env    variables besides those of the test
    stdin  the bytes themselves, or what subprocess.run takes
    """
    source: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    outputs = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.run(
        [program(), *args],
        env={**os.environ, **(env or {})},
        timeout=timeout,
        # Without this the terminal of whoever runs the tests would be kssh's too.
        start_new_session=popen.pop("start_new_session", True),
        check=False,
        **{**outputs, **source, **popen},
    )


# A terminal.


class Terminal:
    """A command on a pseudo-terminal of its own, which controls the command's session.

    output  all bytes that the terminal has shown so far

    Nothing is read but while expect(), read() or wait() run: a terminal that nobody looks at is a
    slow one.
    """

    def __init__(
        self,
        command: Sequence[Argument],
        env: Mapping[str, str] | None = None,
        rows: int = 24,
        columns: int = 80,
        cwd: Path | None = None,
    ) -> None:
        self.output = bytearray()
        self._seen = 0  # where the next expect() begins to look
        # The slave stays open here: so its settings can be read after the command has ended.
        self._master, self._slave = pty.openpty()
        self.resize(rows, columns)
        os.set_blocking(self._master, False)
        # A session's leader gets the first terminal that it opens for its controlling one: that
        # takes no code between fork and exec, which in a process with threads may hang.
        opening = ["/bin/sh", "-c", 'exec "$@" <>"$0" >&0 2>&0', os.ttyname(self._slave), *command]
        # For kssh pytest is a program that drives it; what is tested here is what persons see.
        environment = {**os.environ, "TERM": "xterm", "KSSH_RESTART": "attended", **(env or {})}
        self.process = subprocess.Popen(opening, env=environment, cwd=cwd, start_new_session=True)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The pid of the command."""
        return self.process.pid

    def send(self, data: bytes, timeout: float = TIMEOUT_S) -> None:
        """Type bytes."""
        deadline = time.monotonic() + timeout
        while data:
            try:
                data = data[os.write(self._master, data) :]
            except BlockingIOError:
                self.read()
                if time.monotonic() > deadline:
                    pytest.fail(f"nobody reads what was typed; {self._tail()}")
                time.sleep(POLL_S)

    def read(self) -> bytes:
        """Take what the terminal shows now, without waiting; return what is new."""
        new = bytearray()
        with contextlib.suppress(BlockingIOError, OSError):
            while len(new) < 1_000_000:  # more may come for ever
                new += os.read(self._master, 65536)
        self.output += new
        return bytes(new)

    def expect(self, pattern: bytes | re.Pattern[bytes], timeout: float = TIMEOUT_S) -> re.Match[bytes]:
        """Wait for bytes, or for a compiled pattern; the next expect() looks behind them."""
        compiled = re.compile(re.escape(pattern)) if isinstance(pattern, bytes) else pattern
        deadline = time.monotonic() + timeout
        searched = self._seen
        while True:
            self.read()
            match = compiled.search(self.output, searched)
            if isinstance(pattern, bytes):  # megabytes are not searched again for each new read
                searched = max(self._seen, len(self.output) - len(pattern) + 1)
            if match:
                self._seen = match.end()
                return match
            if time.monotonic() > deadline:
                pytest.fail(f"no {compiled.pattern!r} in {timeout:g} s; {self._tail()}")
            select.select([self._master], [], [], POLL_S)

    def wait(self, timeout: float = TIMEOUT_S) -> int:
        """Wait for the command to end; return its status, -N for signal N."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            self.read()
            if time.monotonic() > deadline:
                pytest.fail(f"still running after {timeout:g} s; {self._tail()}")
            select.select([self._master], [], [], POLL_S)
        self.read()
        return int(self.process.returncode)

    def modes(self) -> list[Any]:
        """Return the settings of the terminal, as termios.tcgetattr() does."""
        return termios.tcgetattr(self._slave)

    def set_modes(self, modes: list[Any]) -> None:
        """Change the settings of the terminal."""
        termios.tcsetattr(self._slave, termios.TCSANOW, modes)

    def resize(self, rows: int, columns: int, width: int = 0, height: int = 0) -> None:
        """Give the window a size in characters and in pixels."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))

    def size(self) -> tuple[int, int, int, int]:
        """Return rows, columns, width and height."""
        answer = fcntl.ioctl(self._slave, termios.TIOCGWINSZ, bytes(8))
        rows, columns, width, height = struct.unpack("HHHH", answer)
        return rows, columns, width, height

    def foreground(self) -> int:
        """Return the process group that the keyboard talks to."""
        return os.tcgetpgrp(self._master)

    def hang_up(self) -> None:
        """Take the terminal away, as closing its window does."""
        for fd in (self._slave, self._master):
            with contextlib.suppress(OSError):
                os.close(fd)
        self._slave = self._master = -1

    def close(self) -> None:
        """End what still runs on the terminal and take it away."""
        family = _family(self.pid) if self.process.poll() is None else []
        self.hang_up()
        end(family)
        self.process.wait()

    def _tail(self) -> str:
        return f"the terminal shows {bytes(self.output[-2000:])!r}"


def pause_typing() -> None:
    """Pause as a person does before something new: half a second parts it from what was typed before."""
    time.sleep(1)


PROMPT = b"local$ "


def shell(name: str = "bash", **terminal: Any) -> Terminal:
    """Return a Terminal with an interactive shell at its prompt, PROMPT; type commands with send()."""
    # An ordinary user's zsh without start-up files would ask which ones are wanted.
    words = {"bash": ["--norc", "--noprofile", "--noediting"], "zsh": ["-f"]}.get(name, [])
    env = {**terminal.pop("env", {}), "PS1": PROMPT.decode(), "ENV": "", "HISTFILE": ""}
    opened = Terminal([need(name), *words, "-i"], env=env, **terminal)
    opened.expect(PROMPT)
    return opened


def type_line(terminal: Terminal, line: str) -> None:
    """Type a line and Enter, in one piece."""
    terminal.send(line.encode() + b"\r")


def ends(terminal: Terminal, status: int) -> None:
    """Assert that what a shell() had started has ended with a status, and that it has its terminal back."""
    terminal.expect(PROMPT)
    type_line(terminal, "echo was=$?")
    terminal.expect(b"was=%d\r\n" % status)


def restore_signals() -> None:
    """Undo ignored signals, which children inherit: those of "nohup" and of a shell's "&"."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
