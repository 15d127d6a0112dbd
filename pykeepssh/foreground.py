"""What kssh shares with its caller: the terminal, the signals of a job, the front of "-f".

Knows how they are taken and given back.  Must not know what becomes of the link.
"""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Callable
from functools import partial

from .errors import KsshError, printable
from .link.kinds import STREAM
from .link.request import ON_TERMINAL, Request
from .system.loop import READ, Loop
from .terminal.console import Console
from .terminal.person import Attended
from .terminal.screen import Screen, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .daemon import Back
    from .network.lookout import Lookout
    from .terminal.relay import Relay

# What would end kssh without its tidying up; each ends the link in order, then kssh by the same signal.
_STOPPING = (
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGTERM",
    "SIGALRM",
    "SIGUSR2",
    "SIGXCPU",
    "SIGVTALRM",
    "SIGPROF",
)


class Foreground:
    """The caller's side of kssh, for as long as the caller is there."""

    def __init__(
        self, request: Request, loop: Loop, relay: Relay, lookout: Lookout, back: Back | None
    ) -> None:
        """Take nothing yet.

        lookout  gets a hint when a person waits for an echo, and looks away while kssh is stopped
        back     the side of a fork that stays, for -f
        """
        self._request = request
        self._loop = loop
        self._relay = relay
        self._lookout = lookout
        self._back = back

    # -- signals -----------------------------------------------------------------------------------

    def take_signals(
        self,
        stop: Callable[[int], None],
        retry: Callable[[], None],
        suspend: Callable[[], None],
        child_changed: Callable[[], None],
    ) -> None:
        """Take the signals.

        stop           is called with a signal that would end kssh
        retry          is called for SIGUSR1
        suspend        is called for SIGTSTP
        child_changed  is called for SIGCHLD
        """
        for name in _STOPPING:
            signum = getattr(signal, name)
            # What was ignored at the start (nohup, a background job of sh) stays ignored, as with ssh.
            if signal.getsignal(signum) != signal.SIG_IGN:
                self._loop.on_signal(signum, partial(stop, signum))
        self._loop.on_signal(signal.SIGCHLD, child_changed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})  # a parent may have blocked it
        self._loop.on_signal(signal.SIGUSR1, retry)
        if self._request.plan.kind != STREAM:
            self._loop.on_signal(signal.SIGWINCH, self._relay.resized)
            self._loop.on_signal(signal.SIGCONT, self._relay.continued)
            if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
                self._loop.on_signal(signal.SIGTSTP, suspend)
        for signum in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            # tcsetattr(3) that a background process is stopped in must go on after "fg".
            signal.siginterrupt(signum, False)

    def suspend(self, by_key: bool = False) -> list[str]:
        """Stop as a job of the shell; go on when continued.  Returns what happened (relay).

        by_key  the person typed what stops all of a job, such as the script that started kssh
        """
        self._lookout.look_away()
        by_key = by_key and self._relay.person.signals_us()
        return self._relay.suspend(whole_job=by_key or self._back is not None)  # the front of -f is of it

    # -- the terminal ------------------------------------------------------------------------------

    def take_terminal(self) -> None:
        """Take the terminal if this kind of session needs it.  Raises KsshError."""
        caller = self._request.caller
        on_terminal = self._request.plan.kind in ON_TERMINAL
        try:
            stdin = 0 if on_terminal or not caller.session else None
            taken = Terminal(stdin, 1 if on_terminal else None)
            if on_terminal:
                taken.make_raw()
        except (OSError, termios.error) as error:
            if not caller.attended:
                return  # it goes away; nobody has typed anything that could be lost
            raise KsshError(f"cannot use the terminal: {printable(str(error))}") from error
        settings = self._request.settings
        screen = Screen(taken, os.environ.get("TERM", ""), bool(os.environ.get("NO_COLOR")))
        wishes = on_terminal, settings.bell, settings.stall_notice
        console = Console(screen, self._loop, self._request.host, *wishes, self._lookout.hint)
        stderr_fd = 2 if self._request.separates_stderr else None
        self._relay.attend(Attended(self._relay.person.words, screen, console, stderr_fd))

    def leave_terminal(self) -> None:
        """From now on nobody is there to answer a prompt."""
        self._relay.forget_terminal()
        self._request.caller.leave()

    # -- the front ---------------------------------------------------------------------------------

    def watch_front(self, gone: Callable[[], None]) -> None:
        """Call gone if the command that the caller waits for is killed."""

        def closed(events: int) -> None:
            self._loop.forget(front)
            gone()

        if self._back is not None and self._back.front is not None:
            front = self._back.front
            self._loop.watch(front, READ, closed)

    @property
    def is_waited_for(self) -> bool:
        """Whether the caller of "kssh -f" waits for the link."""
        return self._back is not None

    def leave(self) -> None:
        """Go to the background: the caller goes on."""
        assert self._back is not None
        self.leave_terminal()
        if self._back.front is not None:
            self._loop.forget(self._back.front)
        self._back.detach()
        self._back = None
