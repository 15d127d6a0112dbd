"""The user's terminal: its settings, its size, and the relay between it and ssh's pty.

Knows termios and non-blocking descriptors.  Must not know what the bytes mean.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import termios
from typing import Any

WINSIZE = b"\0" * 8  # struct winsize: rows, columns, x pixels, y pixels (ioctl_tty(2))
CHUNK_BYTES = 65536
_BLOCKING_CHUNK_BYTES = 512  # what a terminal takes without waiting long, where it cannot be asked
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)


class Terminal:
    """The terminal that a person sits at.

    fd_in, fd_out  descriptors to read from and write to; non-blocking unless "blocking"
    modes          its termios attributes as they were found
    """

    def __init__(self, stdin: int | None, stdout: int | None) -> None:
        """Take the terminal of two descriptors; for None the controlling terminal is opened.

        Raises OSError or termios.error if there is no terminal.
        """
        self.blocking = False
        self._opened: list[int] = []
        self.fd_in = self._open(stdin)
        one = stdin is None or stdout is None or os.fstat(stdin).st_rdev == os.fstat(stdout).st_rdev
        self.fd_out = self.fd_in if one else self._open(stdout)
        self.modes: list[Any] = termios.tcgetattr(self.fd_in)
        self.raw = False

    def _open(self, fd: int | None) -> int:
        """Open the terminal once more: O_NONBLOCK must not reach the shell, which shares ours."""
        names = ["/dev/tty"]
        if fd is not None:
            names.insert(0, os.ttyname(fd))
            if not self._is_controlling(fd):
                names.pop()
        for name in names:
            try:
                opened = os.open(name, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue  # a terminal that another user owns, after su(1)
            self._opened.append(opened)
            return opened
        if fd is None:
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO))
        self.blocking = True
        return fd

    @staticmethod
    def _is_controlling(fd: int) -> bool:
        try:
            os.tcgetpgrp(fd)
        except OSError:
            return False
        return True

    def size(self) -> bytes:
        """Return struct winsize, pixels too."""
        try:
            return fcntl.ioctl(self.fd_in, termios.TIOCGWINSZ, WINSIZE)
        except OSError:
            return WINSIZE

    def in_foreground(self) -> bool:
        """Tell whether kssh may touch the terminal without being stopped for it."""
        try:
            return os.tcgetpgrp(self.fd_in) == os.getpgrp()
        except OSError:
            return True  # not our controlling terminal: there is no job control on it

    def make_raw(self) -> None:
        """Hand every byte on untouched, as ssh does (sshtty.c, enter_raw_mode).

        From the background this stops kssh until it is brought to the foreground.
        """
        modes = list(self.modes)
        modes[_IFLAG] |= termios.IGNPAR
        modes[_IFLAG] &= ~(
            termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
            | termios.IXANY
            | termios.IXOFF
            | getattr(termios, "IUCLC", 0)
        )
        modes[_LFLAG] &= ~(
            termios.ISIG
            | termios.ICANON
            | termios.ECHO
            | termios.ECHOE
            | termios.ECHOK
            | termios.ECHONL
            | termios.IEXTEN
        )
        modes[_OFLAG] &= ~termios.OPOST
        modes[_CC] = list(modes[_CC])
        modes[_CC][termios.VMIN] = 1
        modes[_CC][termios.VTIME] = 0
        # TCSADRAIN: what was typed ahead stays.
        termios.tcsetattr(self.fd_in, termios.TCSADRAIN, modes)
        self.raw = True

    def restore(self) -> None:
        """Give the terminal back as it was found; a terminal that is gone is left alone."""
        if not self.raw:
            return
        self.raw = False
        # A background process that sets modes is stopped; a terminal that is somebody else's by
        # now must not be touched either, but ours is not given back by anybody else.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        try:
            if self.in_foreground():
                termios.tcsetattr(self.fd_in, termios.TCSADRAIN, self.modes)
        except (OSError, termios.error):
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def interrupt_characters(self) -> bytes:
        """Return the characters that interrupt or quit in the settings as found."""
        chars = (self.modes[_CC][termios.VINTR], self.modes[_CC][termios.VQUIT])
        return b"".join(char for char in chars if isinstance(char, bytes) and char != b"\0")

    def close(self) -> None:
        """Restore the terminal and close what was opened."""
        self.restore()
        for fd in self._opened:
            os.close(fd)
        self._opened = []


class Flow:
    """One direction of a relay: bytes read from one descriptor, not yet written to another.

    Holds back its source when a slow sink lets more than CHUNK_BYTES pile up.
    """

    def __init__(self, blocking_sink: bool = False) -> None:
        self._held = bytearray()
        self._chunk = _BLOCKING_CHUNK_BYTES if blocking_sink else CHUNK_BYTES

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """Whether the source may be read."""
        return len(self._held) < CHUNK_BYTES

    def put(self, data: bytes) -> None:
        """Hold bytes for the sink."""
        self._held += data

    def clear(self) -> None:
        """Throw away what was not written."""
        self._held.clear()

    def drain(self, sink: int) -> bool:
        """Write what the sink takes; return False if it is gone (the rest is thrown away)."""
        while self._held:
            try:
                done = os.write(sink, memoryview(self._held)[: self._chunk].tobytes())
            except BlockingIOError:
                return True
            except OSError:
                self._held.clear()
                return False
            del self._held[:done]
            if self._chunk == _BLOCKING_CHUNK_BYTES:
                return True  # ask poll(2) again before the next write could block
        return True


def read(fd: int) -> bytes | None:
    """Return bytes from a non-blocking descriptor, b"" at its end, None if there are none now."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:  # Linux: the other side of the pty is closed
            return b""
        raise
