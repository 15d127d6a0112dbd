"""Who sits at the terminal, somebody or nobody: one face for both, so that nobody else has to ask.

Knows the terminal, the screen and the
console.  Must not know what ssh is doing, nor what becomes of a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import termios
from typing import Any

from ..ssh.escapes import NOTHING
from ..system.loop import READ, WRITE
from .flow import CHUNK_BYTES
from .screen import IUTF8
from .words import LINE_END, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link.outcomes import Report
    from ..system.loop import Loop
    from .console import Console
    from .screen import Screen


class Unattended:
    """Nobody sits there: what ssh says is said line by line, and nothing is typed.

    words        where ssh's words go that no terminal shows
    answers      whoever sits there can answer what ssh asks
    has_session  the session is on this terminal
    echoes       the terminal, as it was found, shows what is typed
    """

    answers = has_session = echoes = False

    def __init__(self, words: Words) -> None:
        self.words = words

    # -- the terminal itself -----------------------------------------------------------------------

    @property
    def is_raw(self) -> bool:
        """Whether the terminal is kssh's now."""
        return False

    @property
    def has_output(self) -> bool:
        """Whether the terminal has not shown all yet."""
        return False

    def watch(self, loop: Loop, has_room: bool, ready: Callable[[int], None]) -> None:
        """Have ready(events) called once something was typed that there is room for, or more can be shown."""

    def read(self) -> bytes | None:
        """Return what was typed, b"" if the terminal is gone, None if there is nothing now."""
        return None

    def show_more(self) -> None:
        """Show what the terminal takes by now."""

    def close(self, loop: Loop) -> None:
        """Let go of the terminal, in its own settings."""

    def give_back(self) -> None:
        """Give the terminal its own settings while no prompt is expected on it."""

    def take_back(self) -> None:
        """Make the terminal raw again; from the background this stops kssh."""

    def in_foreground(self) -> bool:
        """Tell whether kssh may touch the terminal without being stopped for it."""
        return False

    def signals_us(self) -> bool:
        """Tell whether a key such as Ctrl-C would signal all of kssh's job, were the terminal not raw."""
        return False

    def signal_characters(self) -> tuple[bytes, bytes]:
        """Return the characters that interrupt or quit, and those that suspend."""
        return b"", b""

    def typed_ahead(self) -> int:
        """Return how many bytes were typed before the terminal was raw, and have not been read."""
        return 0

    def for_pty(self) -> tuple[list[Any] | None, bytes | None, int | None]:
        """Return what a pty of ssh's begins with: termios attributes, struct winsize, standard error."""
        return None, None, None

    def takes_utf8(self) -> bool:
        """Tell whether the terminal's settings say that it is one for UTF-8 (IUTF8)."""
        return False

    # -- what ssh says -----------------------------------------------------------------------------

    def show(self, data: bytes) -> None:
        """Show what ssh or its session printed."""
        self.words.say_printed(data)

    def show_line(self, line: bytes, aside: bool) -> None:
        """Show a line of ssh's log; aside: in a retry it is of use only if that is the last."""
        if self.words.may_say():
            self._show_line(line, aside)

    def _show_line(self, line: bytes, aside: bool) -> None:
        self.words.say_line(line)

    def hold_line(self, line: bytes) -> None:
        """Keep a line of ssh's about a retry: the status line says what matters of it."""

    def ask(self) -> bool:
        """Let the person answer; return False if nobody is there to do it."""
        return False

    # -- what kssh says ----------------------------------------------------------------------------

    @property
    def waits(self) -> bool:
        """Whether a session is gone and the next is not there: keys are for kssh."""
        return False

    @property
    def covered(self) -> bool:
        """Whether what ssh said of its end was said on a screen that is gone."""
        return False

    def line(self, text: str) -> None:
        """Show one line of kssh's own."""
        self.words.complain(text)

    def tell(self, report: Report) -> bool:
        """Show a Report; return whether the person knows it all by now."""
        return False

    def connecting(self) -> None:
        """ssh was started."""
        self.words.begin()

    def session_gone(self, began: bool) -> None:
        """ssh has ended, and the session if it began."""

    def resized(self, asked: bool) -> None:
        """The terminal has another size; asked: a question of ssh's stands on it."""

    def clear(self) -> None:
        """Take away what kssh shows beside ssh's own."""

    # -- what is typed -----------------------------------------------------------------------------

    def key(self, data: bytes) -> str:
        """Return what was meant by something typed while there is no session (escapes)."""
        return NOTHING

    def is_rest(self, data: bytes) -> bool:
        """Tell whether what is typed to a session goes on with what was typed to a dead one, or to none."""
        return False

    def rest_s(self) -> float:
        """Return for how many seconds the rest of what was typed to a dead session may still come.

        The local shell would run what is left of a paste.
        """
        return 0.0

    def typed(self, data: bytes) -> None:
        """Something was typed to the session."""

    # -- "~&" --------------------------------------------------------------------------------------

    def pass_on(self, pty: int) -> None:
        """Show what still comes from a pty, until it is closed."""

    def forget_output(self) -> None:
        """Show no more of what has not been shown: another process does."""


class Attended(Unattended):
    """Somebody sits there: the session is on the terminal, or ssh may ask there and the rest is the caller's.

    terminal   the terminal
    """

    answers = True

    def __init__(self, words: Words, screen: Screen, console: Console, stderr_fd: int | None) -> None:
        """Let somebody sit there.

        screen     what they see
        console    what they see and type between two sessions
        stderr_fd  ssh's standard error where that is not the terminal, or None
        """
        super().__init__(words)
        self.terminal = screen.terminal
        self.echoes = screen.terminal.echoed
        self.has_session = console.has_session
        self._screen = screen
        self._console = console
        self._stderr_fd = stderr_fd

    @property
    def is_raw(self) -> bool:
        """Whether the terminal is kssh's now."""
        return self.terminal.raw

    @property
    def has_output(self) -> bool:
        """Whether the terminal has not shown all yet."""
        return len(self._screen.flow) > 0

    def watch(self, loop: Loop, has_room: bool, ready: Callable[[int], None]) -> None:
        """Have ready(events) called once something was typed that there is room for, or more can be shown."""
        fd_in, fd_out = self.terminal.fd_in, self.terminal.fd_out
        reads, writes = has_room * READ, self.has_output * WRITE
        if fd_in == fd_out:
            loop.watch(fd_in, reads | writes, ready)
        else:
            loop.watch(fd_in, reads, ready)
            loop.watch(fd_out, writes, ready)

    def read(self) -> bytes | None:
        """Return what was typed, b"" if the terminal is gone, None if there is nothing now."""
        return read(self.terminal.fd_in)

    def show_more(self) -> None:
        """Show what the terminal takes by now."""
        self._screen.drain()

    def close(self, loop: Loop) -> None:
        """Let go of the terminal, in its own settings."""
        self._console.close()
        loop.forget(self.terminal.fd_in)
        loop.forget(self.terminal.fd_out)
        self.terminal.close()

    def give_back(self) -> None:
        """Give the terminal its own settings while no prompt is expected on it."""
        self._screen.drain()
        self.terminal.restore()

    def take_back(self) -> None:
        """Make the terminal raw again; from the background this stops kssh."""
        with contextlib.suppress(OSError, termios.error):
            self.terminal.make_raw()

    def in_foreground(self) -> bool:
        """Tell whether kssh may touch the terminal without being stopped for it."""
        return self.terminal.in_foreground()

    def signals_us(self) -> bool:
        """Tell whether a key such as Ctrl-C would signal all of kssh's job, were the terminal not raw."""
        return self.terminal.signals_us()

    def signal_characters(self) -> tuple[bytes, bytes]:
        """Return the characters that interrupt or quit, and those that suspend."""
        return self.terminal.signal_characters()

    def typed_ahead(self) -> int:
        """Return how many bytes were typed before the terminal was raw, and have not been read."""
        return self.terminal.waiting_bytes() if self.terminal.raw else 0

    def for_pty(self) -> tuple[list[Any] | None, bytes | None, int | None]:
        """Return what a pty of ssh's begins with: termios attributes, struct winsize, standard error."""
        return self.terminal.modes, self.terminal.size(), self._stderr_fd

    def takes_utf8(self) -> bool:
        """Tell whether the terminal's settings say that it is one for UTF-8 (IUTF8)."""
        return bool(self.terminal.modes[0] & IUTF8)

    def show(self, data: bytes) -> None:
        """Show what ssh or its session printed."""
        if self.terminal.raw:
            self._console.answered()
            self._screen.relay(data)
        else:
            super().show(data)

    def _show_line(self, line: bytes, aside: bool) -> None:
        if not self.terminal.raw or self._stderr_fd is not None or self.words.go_elsewhere:
            self.words.say_line(line)
            return
        line = self.terminal.processed(line)  # a message may have several lines
        if aside:
            self.hold_line(line)
        else:
            self._screen.relay(line + LINE_END)

    def hold_line(self, line: bytes) -> None:
        """Keep a line of ssh's about a retry: the status line says what matters of it."""
        self._console.hold_line(line)

    def ask(self) -> bool:
        """Let the person answer; return False if nobody is there to do it."""
        self._console.settle()
        if not self.terminal.raw:
            try:
                self.terminal.make_raw()  # in the background this stops kssh, as it would stop ssh
            except (OSError, termios.error):
                return False
        return True

    @property
    def waits(self) -> bool:
        """Whether a session is gone and the next is not there: keys are for kssh."""
        return self._console.waits

    @property
    def covered(self) -> bool:
        """Whether what ssh said of its end was said on a screen that is gone."""
        return self._console.covered

    def line(self, text: str) -> None:
        """Show one line of kssh's own."""
        if self.terminal.raw and (self.has_session or self._stderr_fd is None):
            self._screen.line(f"kssh: {text}")
        else:
            super().line(text)

    def tell(self, report: Report) -> bool:
        """Show a Report; return whether the person knows it all by now."""
        return self._console.tell(report)

    def connecting(self) -> None:
        """ssh was started."""
        super().connecting()
        self._console.connecting()

    def session_gone(self, began: bool) -> None:
        """ssh has ended, and the session if it began."""
        self._console.session_gone(began)

    def resized(self, asked: bool) -> None:
        """The terminal has another size; asked: a question of ssh's stands on it."""
        self._screen.resized()
        if not asked:
            self._console.show_status()

    def clear(self) -> None:
        """Take away what kssh shows beside ssh's own."""
        self._screen.clear_status()
        self._screen.title("")

    def key(self, data: bytes) -> str:
        """Return what was meant by something typed while there is no session (escapes)."""
        return self._console.key(data)

    def is_rest(self, data: bytes) -> bool:
        """Tell whether what is typed to a session goes on with what was typed to a dead one, or to none."""
        return self._console.is_rest(data)

    def rest_s(self) -> float:
        """Return for how many seconds the rest of what was typed to a dead session may still come."""
        return self._console.rest_s()

    def typed(self, data: bytes) -> None:
        """Something was typed to the session."""
        self._console.typed(data)

    def pass_on(self, pty: int) -> None:
        """Show what still comes from a pty, until it is closed; the terminal may go away meanwhile."""
        sink, held = self.terminal.fd_out, self._screen.flow
        os.set_blocking(sink, True)
        os.set_blocking(pty, True)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        while len(held):
            held.drain()
        while data := read(pty):
            with contextlib.suppress(OSError):
                os.write(sink, data)

    def forget_output(self) -> None:
        """Show no more of what has not been shown: another process does."""
        self._screen.flow.clear()


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
