"""ssh as a child: started on a pty of its own or on our descriptors, signalled, reaped.

Knows pexpect.  Must not know why ssh is started or ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import termios
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import pexpect
from ptyprocess import PtyProcess  # type: ignore[import-untyped]

from ..errors import KsshError, printable
from ..link.outcomes import Exit
from . import ancestry, borrowed, descriptors

_PR_SET_PDEATHSIG = 1  # prctl(2), Linux
_GONE = 1 << 40  # beside the bits of c_lflag: ssh has closed the pty


@contextlib.contextmanager
def _signals_held() -> Iterator[set[int]]:
    """Hold signals back over a fork: the child must not run kssh's handlers.  Gives the mask before."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _closed_on_failure() -> Iterator[None]:
    """Close what a failure leaves open: of a fork that fails, ptyprocess leaves its pipe and its pty."""
    before = _descriptors()
    try:
        yield
    except BaseException:
        for fd in _descriptors() - before:
            os.close(fd)
        raise


def _descriptors() -> set[int]:
    """Return what is open, without the descriptor that the list is read from."""
    return {fd for fd in descriptors.numbers() if _is_open(fd)}


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _prepare(mask: set[int], keep_hangup: bool) -> None:
    """Undo, between fork and exec, what kssh did to signals."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
    for signum in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python itself
        signal.signal(signum, signal.SIG_DFL)
    if not keep_hangup:
        # A pty of ours hangs up when kssh dies: that must end ssh even under nohup.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Pty(PtyProcess):  # type: ignore[misc]
    """A PtyProcess that leaves the window's size alone: the child has set it, pixels too, before ssh."""

    def setwinsize(self, rows: int, cols: int) -> None:
        """Do nothing; spawn() calls this once more when ssh already runs."""


class _Spawn(pexpect.spawn):  # type: ignore[type-arg]
    """pexpect.spawn that hands descriptors down, for what of ssh's does not go to the pty."""

    pass_fds: tuple[int, ...] = ()

    def _spawnpty(self, args: list[str], **kwargs: Any) -> PtyProcess:
        return _Pty.spawn(args, pass_fds=self.pass_fds, **kwargs)


class PtyChild:
    """ssh on a pty of its own: its controlling terminal, so that it goes when kssh goes.

    fd   the pty's master, non-blocking
    pid  ssh's process id
    """

    def __init__(
        self,
        path: str,
        words: Sequence[str],
        environment: dict[bytes, bytes],
        modes: list[Any] | None,
        size: bytes | None,
        stderr_fd: int | None,
        stdout_fd: int | None = None,
    ) -> None:
        """Start ssh.

        modes      termios attributes that the pty has before ssh begins, or None
        size       struct winsize (ioctl_tty(2)) that it has then, or None
        stderr_fd  descriptor for ssh's standard error, or None for the pty
        stdout_fd  descriptor for ssh's standard output, or None for the pty

        Raises KsshError if ssh cannot be run.
        """

        def prepare() -> None:
            if modes is not None:
                termios.tcsetattr(0, termios.TCSANOW, modes)
            if size is not None:
                fcntl.ioctl(0, termios.TIOCSWINSZ, size)
            for fd, ours in replaced.items():
                os.dup2(ours, fd)
            _avoid_null()
            _prepare(mask, keep_hangup=False)

        replaced: dict[int, int] = {}  # ssh's descriptor: which of ours it is
        try:
            with _closed_on_failure(), _signals_held() as mask:
                if stderr_fd is not None:
                    replaced[2] = _clear_of_the_pty(stderr_fd)
                if stdout_fd is not None:
                    replaced[1] = _clear_of_the_pty(stdout_fd)
                spawn_class: Any = type("Spawn", (_Spawn,), {"pass_fds": tuple(replaced.values())})
                self._process = spawn_class(
                    path, list(words), env=environment, preexec_fn=prepare, timeout=None
                )
                for ours in replaced.values():
                    os.close(ours)
        except (pexpect.ExceptionPexpect, OSError) as error:
            raise KsshError(f"cannot run {printable(path)}: {printable(str(error))}") from error
        self.pid: int = self._process.pid
        self.fd: int = self._process.child_fd
        os.set_blocking(self.fd, False)

    def write(self, data: memoryview) -> int:
        """Type to ssh; return how many bytes its pty took.  Raises OSError."""
        return os.write(self.fd, data)

    def resize(self, size: bytes) -> None:
        """Give the pty a new struct winsize; the kernel tells ssh."""
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, size)

    def send_signal(self, signum: int) -> None:
        """Signal ssh; nothing happens if it has ended."""
        _send_signal(self.pid, signum)

    def set_output_waits(self, waits: bool) -> None:
        """Let whoever writes ssh's output wait while nobody reads it, as it does for a terminal, or not.

        That may be a shared master, which serves nobody while it waits.  Only Linux lets us; elsewhere
        nothing changes.
        """
        for fd in (0, 2):  # in a session /dev/null stands in the place of 1
            with contextlib.suppress(ImportError, OSError):
                terminal = borrowed.descriptor(self.pid, fd)
                try:
                    if os.isatty(terminal):
                        os.set_blocking(terminal, waits)
                finally:
                    os.close(terminal)

    def reap(self) -> Exit | None:
        """Return how ssh ended, or None while it runs.  After that only close() may be called."""
        if self._process.isalive():
            return None
        if self._process.signalstatus is not None:
            return Exit(signal=self._process.signalstatus)
        return Exit(code=self._process.exitstatus)

    def interprets_signals(self) -> bool:
        """Tell whether the pty turns Ctrl-C and the like into signals: ssh has not made it raw."""
        return bool(self._local_modes() & termios.ISIG)

    def echoes(self) -> bool:
        """Tell whether the pty shows what is typed: not while ssh asks for a secret."""
        return bool(self._local_modes() & (termios.ECHO | _GONE))

    def is_raw(self) -> bool:
        """Tell whether ssh has made the pty raw, as it does for the length of a session."""
        return not self._local_modes() & (termios.ISIG | _GONE)

    def _local_modes(self) -> int:
        try:
            return int(termios.tcgetattr(self.fd)[3])
        except termios.error:
            return _GONE

    def abandon(self) -> None:
        """Let go of ssh without ending it: another process holds its pty."""
        self._process.ptyproc.closed = True  # or it would end ssh when it is collected
        self._process.closed = True
        self._process.ptyproc.fileobj.close()

    def close(self) -> None:
        """Close the pty."""
        self._process.ptyproc.delayafterclose = 0  # it would sleep for 0.1 s
        self._process.delayafterclose = 0
        self._process.close(force=False)


class PlainChild:
    """ssh without a pty of its own: a stream that KSSH_RESTART=always supervises, or where none can be had.

    fd  where ssh's output comes, non-blocking, or None if it goes to kssh's own descriptors
    """

    def write(self, data: memoryview) -> int:
        """Take what was typed and drop it: ssh has the user's own input."""
        return len(data)

    def __init__(
        self, path: str, words: Sequence[str], environment: dict[bytes, bytes], heard: bool = False
    ) -> None:
        """Start ssh.

        heard  its output comes through fd, and its input is empty; else it has our descriptors 0 to 2

        It asks on kssh's own controlling terminal.  Raises KsshError if it cannot be run.
        """
        import ctypes  # 2 ms and 1 MB that a pty does not need, and as much again:
        import subprocess

        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def prepare() -> None:
            _prepare(mask, keep_hangup=True)
            _avoid_null()
            if hasattr(libc, "prctl"):
                # No pty hangs up here: on Linux the kernel ends ssh when kssh dies.
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
                if os.getppid() != parent:
                    os._exit(255)  # it died before, and ssh would wait for ever for a reader of its log

        self.fd: int | None = None
        ours: dict[str, Any] = {}
        if heard:
            self.fd, write = os.pipe()
            os.set_blocking(self.fd, False)
            ours = {"stdin": subprocess.DEVNULL, "stdout": write, "stderr": write}
        try:
            with _signals_held() as mask:
                self._process = subprocess.Popen(
                    [path, *words],
                    env=environment,
                    preexec_fn=prepare,  # noqa: PLW1509
                    **ours,
                )
        except OSError as error:
            self.close()
            raise KsshError(f"cannot run {printable(path)}: {error.strerror}") from error
        finally:
            if heard:
                os.close(write)
        self.pid = self._process.pid

    def resize(self, size: bytes) -> None:
        """Do nothing: ssh has the user's terminal itself."""

    def is_raw(self) -> bool:
        """Return False: there is no pty."""
        return False

    def interprets_signals(self) -> bool:
        """Return False: nobody types through kssh."""
        return False

    def echoes(self) -> bool:
        """Return True: there is no pty that would hide anything."""
        return True

    def set_output_waits(self, waits: bool) -> None:
        """Do nothing: ssh has the user's own output."""

    def abandon(self) -> None:
        """Do nothing: there is nothing that would end with kssh."""

    def send_signal(self, signum: int) -> None:
        """Signal ssh; nothing happens if it has ended."""
        _send_signal(self.pid, signum)

    def reap(self) -> Exit | None:
        """Return how ssh ended, or None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return Exit(signal=-code) if code < 0 else Exit(code=code)

    def close(self) -> None:
        """Close where its output comes."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def reap_others(ours: Collection[int]) -> None:
    """Reap children that have ended and that this process did not start; it waits for ours itself.

    A process that is the first of a container, or a subreaper (prctl(2)), is given what others leave
    behind; and a program that execs kssh hands its children on.
    """
    if not hasattr(os, "waitid"):
        return
    while True:
        try:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if found is None:
            return
        if found.si_pid in ours:
            break  # whoever waits for it will; it hides what ended after it
        _reap(found.si_pid)
    for pid in ancestry.children(os.getpid()):
        if pid not in ours:
            _reap(pid)


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _clear_of_the_pty(fd: int) -> int:
    """Return a copy of a descriptor above 0 to 2, which are the pty before prepare() runs."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)


def _avoid_null() -> None:
    """Give an ssh whose output is thrown away /dev/zero for it, so that it is seen to give it up."""
    with contextlib.suppress(OSError):
        if sys.platform == "linux" and _is_null(1):
            zero = os.open("/dev/zero", os.O_WRONLY)
            os.dup2(zero, 1)
            os.close(zero)


def _is_null(path: str | int) -> bool:
    return os.stat(path).st_rdev == os.stat(os.devnull).st_rdev


def gave_up_output(pid: int) -> bool:
    """Tell whether an ssh has put /dev/null in the place of its standard output.

    It does so once it has authenticated, before it says that the session begins (ssh.c, "stdout is now
    owned by the session channel"), and no server can make it do that sooner.  Where nobody can look
    (there is no /proc) the answer is yes.
    """
    try:
        return _is_null(f"/proc/{pid}/fd/1")
    except OSError:
        return not os.path.exists("/proc/self/fd/0")


def _send_signal(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):  # gone, or another user's: its pty hangs up
        pass
