"""The system's ssh program: where it is, and how to become it.

Knows PATH, exec and what Python changes in a process that ssh must not inherit.  Decides nothing.
"""

from __future__ import annotations

import os

from ..errors import KsshError, printable

# Importing the public module costs 4 ms (enum, for its constants' names) of the 15 that "kssh host
# true" may cost in all; this is the part in C that it wraps.
try:
    import _signal as signal  # type: ignore[import-not-found]
except ImportError:  # pragma: no cover - another Python than CPython or PyPy
    import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

# Where OpenSSH installs itself (pathnames.h) and where packages put it, for a PATH without ssh.
USUAL_PLACES = ("/usr/bin/ssh", "/usr/local/bin/ssh", "/opt/homebrew/bin/ssh", "/bin/ssh")
# Where the packages of systems put it whose files system/config_files.py knows.
_USUAL = "/usr/bin/ssh"
# Counts how many programs named ssh that are scripts called kssh again, one inside the other.
NESTING = "KSSH_NESTING"
DEEPEST = 8
_SCRIPT_BYTES = 65536  # a wrapper script is short; kssh's own is a few lines
# Python ignores these two for its own good (pylifecycle.c); ignored they would stay across exec.
RESET_SIGNALS = ("SIGPIPE", "SIGXFSZ")


def find(wanted: str, environment: Mapping[str, str]) -> str:
    """Return the absolute path of the ssh program to run.

    wanted  KSSH_SSH: a path, a name to look up in PATH, or "" for ssh

    kssh never finds itself: neither a link nor a copy of it under the name ssh, nor a script that
    calls it.  Raises KsshError if there is no ssh.
    """
    nested = environment.get(NESTING, "")
    depth = int(nested) if nested.isascii() and nested.isdigit() else 0
    if depth >= DEEPEST:
        whose = f"KSSH_SSH={printable(wanted)}" if wanted else "the ssh program in PATH"
        raise KsshError(f"{whose} calls kssh in a loop; set KSSH_SSH to the real ssh")
    if wanted:
        return _wanted(wanted, environment)
    for path in _candidates("ssh", environment):
        # A script in our place is left out once it has led back to us.
        if _is_program(path) and not _calls_kssh(path) and not (depth and is_script(path)):
            return path
    raise KsshError("there is no ssh program in PATH; install OpenSSH's client or set KSSH_SSH")


def _wanted(wanted: str, environment: Mapping[str, str]) -> str:
    if wanted.startswith("/"):
        paths = [os.path.normpath(wanted)]
    elif "/" in wanted:
        try:
            paths = [os.path.abspath(wanted)]
        except OSError:
            paths = []  # the working directory is gone
    else:
        paths = [
            os.path.join(folder, wanted)
            for folder in environment.get("PATH", os.defpath).split(":")
            if folder.startswith("/")
        ]
    for path in paths:
        if _is_program(path):
            if _is_kssh(path):
                raise KsshError(f"KSSH_SSH={printable(wanted)}: expected ssh, but this is kssh itself")
            return path
    raise KsshError(f"KSSH_SSH={printable(wanted)}: expected a program that can be run")


def _candidates(name: str, environment: Mapping[str, str]) -> list[str]:
    folders = environment.get("PATH", os.defpath).split(":")
    found = [os.path.join(folder, name) for folder in folders if folder.startswith("/")]
    return found + [path for path in USUAL_PLACES if path not in found]


def _is_program(path: str) -> bool:
    return os.access(path, os.X_OK) and os.path.isfile(path)


def _head(path: str, size: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""  # executable but not readable: a program in machine code
    try:
        return os.read(fd, size)
    finally:
        os.close(fd)


def is_script(path: str) -> bool:
    """Tell whether a program is a script for an interpreter."""
    return _head(path, 2) == b"#!"


def is_named_ssh(path: str) -> bool:
    """Tell whether a program is called ssh where it lies: a link of that name may lead to another client."""
    return os.path.basename(os.path.realpath(path)) == "ssh"


def is_usual(path: str) -> bool:
    """Tell whether a program is the ssh that comes with the system."""
    return os.path.realpath(path) == _USUAL and not is_script(path)


def _is_kssh(path: str) -> bool:
    """Tell whether a program is kssh: a script of Python's that imports this package."""
    return is_script(path) and b"pykeepssh" in _head(path, _SCRIPT_BYTES)


def _calls_kssh(path: str) -> bool:
    """Tell whether a program is kssh or a script with kssh as a command in it."""
    if not is_script(path):
        return False
    if _is_kssh(path):
        return True
    lines = _head(path, _SCRIPT_BYTES).splitlines()
    code = b" ".join(line for line in lines if not line.lstrip().startswith(b"#"))
    words = code.translate(None, b"\"'").split()
    return any(word.rpartition(b"/")[2] == b"kssh" for word in words)


def environment_for(path: str, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the environment for ssh: the one kssh was started with.

    Python itself sets LC_CTYPE in the C locale (PEP 538), which ssh would send on.  KSSH_NESTING is
    added only where ssh is a script, which might lead back here.
    """
    environment = dict(inherited)
    if environment.get(b"LC_CTYPE") in (b"C.UTF-8", b"C.utf8", b"UTF-8"):
        given = _given_lc_ctype(environment[b"LC_CTYPE"])
        if given is None:
            del environment[b"LC_CTYPE"]
        else:
            environment[b"LC_CTYPE"] = given
    if is_script(path):
        depth = environment.get(NESTING.encode(), b"0")
        environment[NESTING.encode()] = b"%d" % (int(depth) + 1 if depth.isdigit() else 1)
    else:
        environment.pop(NESTING.encode(), None)
    return environment


def _given_lc_ctype(now: bytes) -> bytes | None:
    """Return LC_CTYPE as it stood in the environment before Python began; now is its value by now."""
    try:
        fd = os.open("/proc/self/environ", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        # No such file on macOS: Python adds the variable only where no other one names a locale.
        return now if any(os.environ.get(name) for name in ("LC_ALL", "LANG")) else None
    try:
        block = b""
        while True:
            part = os.read(fd, 65536)
            if not part:
                break
            block += part
    finally:
        os.close(fd)
    given = [entry for entry in block.split(b"\0") if entry.startswith(b"LC_CTYPE=")]
    return given[-1].partition(b"=")[2] if given else None


def can_have_pty() -> bool:
    """Tell whether a pseudo-terminal can be had: not in a chroot or a container without devpts."""
    try:
        ends = os.openpty()
    except OSError:
        return False
    for end in ends:
        os.close(end)
    return True


_ignored: list[int] = []  # what was ignored at the start and is not meanwhile


def wait_for_children() -> None:
    """Make sure that children can be waited for: a parent that ignored SIGCHLD handed that down."""
    if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
        _ignored.append(signal.SIGCHLD)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def reset_signals() -> None:
    """Give signals back the action that kssh was started with, before an exec."""
    for signum in _ignored:
        signal.signal(signum, signal.SIG_IGN)
    for name in RESET_SIGNALS:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)


SIGINT = signal.SIGINT
PATIENCE_MS = 500  # a reader that is alive takes a line in less


def complain(text: str, name: str = "kssh") -> None:
    """Write one line of ours to standard error, which may be closed, or full and read by nobody."""
    import select  # 0.3 ms

    poll = select.poll()
    poll.register(2, select.POLLOUT)
    if not poll.poll(PATIENCE_MS):
        return
    try:
        os.write(2, f"{name}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def die_of(signum: int) -> NoReturn:
    """End this process by a signal, so that whoever waits sees what ended it."""
    if signum not in (signal.SIGKILL, signal.SIGSTOP):  # these two have no other action
        signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
    os._exit(128 + signum)  # the signal is blocked: the status a shell would show for it


def become(path: str, words: Sequence[str]) -> NoReturn:
    """Become ssh: nothing of Python remains.  Raises KsshError if that fails."""
    reset_signals()
    try:
        # argv[0] is the absolute path: ProxyJump starts the same program again by it (ssh.c).
        os.execve(path, [path, *words], environment_for(path, os.environb))
    except OSError as error:
        raise KsshError(f"cannot run {printable(path)}: {error.strerror}") from error
