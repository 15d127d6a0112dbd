"""The user's terminal: its settings, its size, and what is shown on it.

Knows termios and non-blocking descriptors.  Must not know when something is worth showing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import struct
import sys
import termios
from typing import Any

from . import modes
from .flow import Flow

WINSIZE = b"\0" * 8  # struct winsize: rows, columns, x pixels, y pixels (ioctl_tty(2))
IUTF8 = 0x4000  # in the input flags, on Linux as on macOS; Python's termios has no name for it
# What waits for a terminal that was stopped (Ctrl-S); the countdown alone adds 80 bytes a second.
_MOST_BYTES = 1 << 20
_UNTITLED = ("ansi", "cons", "eterm", "linux", "vt")  # terminals without a title: some would show it as text
GREEN, YELLOW = "32", "33"  # SGR parameters (ECMA-48)
_IFLAG, _OFLAG, _CFLAG, _LFLAG, _ISPEED, _OSPEED, _CC = range(7)


class Terminal:
    """The terminal that a person sits at.

    fd_in, fd_out  descriptors to read from and write to; non-blocking unless "blocking"
    modes          its termios attributes as they were found
    echoed         whether it showed then what was typed
    drop_input     what was typed and not read is thrown away when the terminal is given back: it was
                   meant for a session that is dead, not for the shell
    """

    def __init__(self, stdin: int | None, stdout: int | None) -> None:
        """Take the terminal of two descriptors; for None the controlling terminal is opened.

        Raises OSError or termios.error if there is no terminal.
        """
        self.blocking = False
        self._opened: list[int] = []
        self.fd_in = self._open(stdin)
        one = stdin is None or stdout is None or os.fstat(stdin).st_rdev == os.fstat(stdout).st_rdev
        # Without a name of its own fd_in may be open for reading only.
        self.fd_out = self.fd_in if one and not self.blocking else self._open(stdout)
        self.modes: list[Any] = termios.tcgetattr(self.fd_in)
        self.echoed = bool(self.modes[_LFLAG] & termios.ECHO)
        self.raw = False
        self.drop_input = False

    def _open(self, fd: int | None) -> int:
        """Open the terminal once more: O_NONBLOCK must not reach the shell, which shares ours."""
        names = ["/dev/tty"]
        if fd is not None:
            if not self._is_controlling(fd):
                names.pop()
            with contextlib.suppress(OSError):  # a terminal of another mount namespace has no name here
                names.insert(0, os.ttyname(fd))
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

    def write(self, data: memoryview) -> int:
        """Show bytes; return how many it took.  Raises OSError."""
        if self.blocking and not _has_room(self.fd_out):
            raise BlockingIOError
        return os.write(self.fd_out, data)

    def size(self) -> bytes:
        """Return struct winsize, pixels too."""
        try:
            return fcntl.ioctl(self.fd_in, termios.TIOCGWINSZ, WINSIZE)
        except OSError:
            return WINSIZE

    def in_foreground(self) -> bool:
        """Tell whether kssh may touch the terminal without being stopped for it."""
        return self._foreground_group() in (os.getpgrp(), None)

    def signals_us(self) -> bool:
        """Tell whether a key such as Ctrl-C would signal kssh's process group, were the terminal not raw."""
        return self._foreground_group() == os.getpgrp()

    def _foreground_group(self) -> int | None:
        try:
            return os.tcgetpgrp(self.fd_in)
        except OSError:
            return None  # not our controlling terminal: there is no job control on it

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
                when = termios.TCSAFLUSH if self.drop_input else termios.TCSADRAIN
                termios.tcsetattr(self.fd_in, when, self.modes)
        except (OSError, termios.error):
            pass
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def waiting_bytes(self) -> int:
        """Return how much has been typed and not read, on a terminal that is raw."""
        try:
            return int.from_bytes(fcntl.ioctl(self.fd_in, termios.FIONREAD, b"\0" * 4), sys.byteorder)
        except OSError:
            return 0

    def signal_characters(self) -> tuple[bytes, bytes]:
        """Return the characters that interrupt or quit, and those that suspend, in the settings as found."""
        chars = [self.modes[_CC][index] for index in (termios.VINTR, termios.VQUIT, termios.VSUSP)]
        usable = [char if char != b"\0" else b"" for char in chars]
        return usable[0] + usable[1], usable[2]

    def processed(self, data: bytes) -> bytes:
        """Return output as the terminal in the settings as found would show it: with its line ends."""
        ends = termios.OPOST | termios.ONLCR
        return data.replace(b"\n", b"\r\n") if self.modes[_OFLAG] & ends == ends else data

    def close(self) -> None:
        """Restore the terminal and close what was opened."""
        self.restore()
        for fd in self._opened:
            os.close(fd)
        self._opened = []


def _has_room(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(0))


class Screen:
    """What the person sees: ssh's bytes, kssh's lines between them, and one status line in place.

    Everything goes through one Flow, so that nothing overtakes anything.
    """

    def __init__(self, terminal: Terminal, term: str, no_colour: bool) -> None:
        """Write to a terminal of the type term (TERM)."""
        self.terminal = terminal
        self.flow = Flow(terminal.write, terminal.blocking)
        self._modes = modes.Tracker(self._size()[0])
        self._term = term
        self._no_colour = no_colour
        self._line_start = True
        self._status = False
        self._titled = False
        self._missed = 0

    def relay(self, data: bytes) -> None:
        """Show bytes of ssh's, untouched."""
        self.clear_status()
        self._modes.feed(data)
        self._put(data)

    def line(self, text: str, good: bool = False) -> None:
        """Show one whole line of kssh's own; one that the terminal does not take for long is counted."""
        if self._is_stuck:
            self._missed += 1
            return
        self.clear_status()
        if self._missed:
            missed, self._missed = self._missed, 0
            self.line(f"kssh: lines not shown: {missed}")
        start = b"" if self._line_start else b"\r\n"
        self._put(start + self._coloured(text, GREEN if good else "") + b"\r\n")

    def status(self, text: str) -> None:
        """Show a line of kssh's own in place of the one before; it stays without a line end.

        On a terminal that cannot rewrite a line it is a line like any other.
        """
        if self.is_dumb:
            self.line(text)
            return
        if self._is_stuck:
            return  # the next one says more
        start = b"\r" if self._line_start or self._status else b"\r\n"
        self._put(start + b"\x1b[K" + self._coloured(text, YELLOW) + b"\r", line_start=True)
        self._status = True

    def clear_status(self, keep: str = "") -> None:
        """Take the status line away, or leave it behind as a line with another text."""
        if self._status:
            self._status = False
            self._put(b"\x1b[K", line_start=True)
        if keep:
            self.line(keep)

    def title(self, text: str) -> None:
        """Show a text in the window's title, where it disturbs nothing; "" puts the old one back."""
        if self.is_dumb or self._term.startswith(_UNTITLED):
            return
        if text and self._is_stuck:
            return
        if text and not self._modes.is_inside:
            push = b"" if self._titled else b"\x1b[22;2t"
            self._put(push + b"\x1b]2;" + text.encode("utf-8", "replace") + b"\x07", self._line_start)
            self._titled = True
        elif not text and self._titled:
            # Emptied first: GNU screen and others keep no stack of titles.
            self._put(b"\x1b]2;\x07\x1b[23;2t", self._line_start)
            self._titled = False

    def undo_modes(self) -> bool:
        """Take back what the remote side set and can no longer take back itself.

        Return whether an alternate screen went, and all that was said on it.
        """
        covered = self._modes.is_alternate
        undo = self._modes.undo()  # first: it closes what may be half a sequence
        if undo:
            moved = covered or modes.LAST_ROW in undo
            self._put(undo, line_start=self._line_start and not moved)
        self.title("")
        return covered

    def bell(self) -> None:
        """Ring once."""
        self._put(b"\a", self._line_start)

    @property
    def _is_stuck(self) -> bool:
        return len(self.flow) > _MOST_BYTES

    @property
    def has_status(self) -> bool:
        """Whether the status line stands on the screen."""
        return self._status

    @property
    def is_dumb(self) -> bool:
        """Whether the terminal cannot rewrite a line."""
        return self._term in ("", "dumb", "unknown")

    @property
    def columns(self) -> int:
        """Width in characters; 80 where the terminal does not know."""
        return self._size()[1] or 80

    def resized(self) -> None:
        """The terminal has another size."""
        self._modes.rows = self._size()[0]
        if self._status:
            self._put(b"\r\x1b[J", line_start=True)  # of a narrower one it takes several lines

    def _size(self) -> tuple[int, int]:
        rows, columns, _, _ = struct.unpack("HHHH", self.terminal.size())
        return rows, columns

    def drain(self) -> bool:
        """Write what the terminal takes; return False if it is gone."""
        return self.flow.drain()

    def _put(self, data: bytes, line_start: bool | None = None) -> None:
        self._line_start = data.endswith(b"\n") if line_start is None else line_start
        self.flow.send(data)

    def _coloured(self, text: str, colour: str) -> bytes:
        data = text.encode("utf-8", "backslashreplace")
        if not colour or self._no_colour or not _has_colours(self._term):
            return data
        return f"\x1b[{colour}m".encode() + data + b"\x1b[0m"


def _has_colours(term: str) -> bool:
    """Tell whether terminfo knows colours for a terminal type."""
    try:
        import curses  # only once a link has died; some builds of Python lack it
    except ImportError:
        return False
    try:
        curses.setupterm(term)
    except curses.error:
        return False
    return curses.tigetnum("colors") >= 8
