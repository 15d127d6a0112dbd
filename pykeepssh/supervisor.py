"""The process around a link: its loop, its signals, what a key asks for, its end.

Must not know what becomes of the link.
"""

from __future__ import annotations

import signal

from .driver import Driver
from .errors import STATUS, KsshError, printable
from .foreground import Foreground
from .link import history, machine
from .link.outcomes import Exit, Report
from .link.request import Request
from .reporter import Reporter
from .ssh import escapes
from .system.child import reap_others
from .system.log import VERBOSE, complain
from .system.loop import Loop
from .terminal.relay import DESERTED, HEARD, HUNG_UP

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .daemon import Back

# Timers.
_REST = "rest of a paste"
_STUCK = "terminal is stuck"
_STUCK_S = 3.0


def keep(request: Request, back: Back | None) -> Exit:
    """Keep a link until it ends; return how kssh is to end.

    back  the side of a fork that stays, for -f

    A file or a setting that cannot be used is said in one line, before ssh is started.
    """
    supervisor = None
    try:
        supervisor = Supervisor(request, back)
        return supervisor.run()
    except KsshError as error:
        if supervisor is not None:
            supervisor.close()  # first: it gives the terminal back
        complain(str(error))
    except Exception as error:  # noqa: BLE001 - the terminal is given back whatever happened
        if supervisor is not None:
            supervisor.close()
        complain(f"internal error: {type(error).__name__}: {printable(str(error))}")
        if request.settings.loglevel == "DEBUG":
            import traceback  # 5 ms and 1 MB, only for a fault of ours

            complain(traceback.format_exc())
    finally:
        if supervisor is not None:
            supervisor.close()
    return Exit(STATUS)


class Supervisor:
    """One kssh that keeps a link."""

    def __init__(self, request: Request, back: Back | None) -> None:
        """Open what the settings name.  Raises BadValue."""
        self._request = request
        self._loop = Loop()
        self._reporter = Reporter(request, self._loop)
        self._driver = Driver(request, self._loop, self._reporter, self._told, self._went_up)
        self._relay = self._reporter.relay = self._driver.relay
        self._foreground = Foreground(request, self._loop, self._relay, self._driver.lookout, back)
        self._abandoned = False  # a second signal: what the terminal did not take is given up

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """Keep the link until it ends; return how."""
        if self._reporter.take_lock() is not None:
            return Exit(0)
        self._driver.launcher.choose_session(self._reporter.files)
        self._reporter.open_ssh_lines()
        self._foreground.take_signals(self._stop_asked, self._retry_asked, self._suspend, self._child_changed)
        if not self._driver.launcher.has_pty:
            how = "no pseudo-terminal available; ssh runs without one"
            self._reporter.log.write(VERBOSE, f"{self._request.host}: {how}")
        elif self._request.uses_terminal:
            self._foreground.take_terminal()
        self._foreground.watch_front(self._caller_gone)
        self._reporter.note(Report(history.STARTED))
        self._driver.dispatch(machine.Started(float(self._request.settings.maxlifetime_s)))
        while self._driver.finish is None or self._lingers():
            self._relay.watch()
            self._reporter.watch()
            self._loop.turn()
        return self._driver.finish

    def _lingers(self) -> bool:
        """Tell whether the terminal cannot be given back yet: it has not shown all, or keys are under way."""
        person = self._relay.person
        rest_s = person.rest_s()
        if rest_s:
            self._loop.arm(_REST, rest_s, lambda: None)
        return not self._abandoned and (rest_s > 0 or person.has_output)

    def close(self) -> None:
        """Leave nothing behind; may be called twice."""
        self._relay.forget_terminal()
        self._driver.close()
        self._reporter.close()
        self._loop.close()

    # -- what is asked of kssh -------------------------------------------------------------------

    def _retry_asked(self) -> None:
        self._driver.dispatch(machine.RetryRequested())

    def _stop_asked(self, signum: int) -> None:
        """Do what a signal asks for that would have ended kssh."""
        link = self._driver.link
        if signum == signal.SIGHUP and self._request.hangup_restarts(link.rules):
            self._retry_asked()
        elif self._driver.finish is not None or link.state == machine.STOPPING:
            self._abandon()
        else:
            self._loop.arm(_STUCK, _STUCK_S, self._abandon)
            self._driver.dispatch(machine.StopRequested(signum))

    def _abandon(self) -> None:
        """Give up what a terminal that was stopped has not taken."""
        self._abandoned = True

    def _caller_gone(self) -> None:
        """The command that the caller waits for was killed, or the terminal's window closed."""
        self._driver.dispatch(machine.StopRequested(signal.SIGHUP))

    def _told(self, happened: list[str]) -> None:
        """Do what follows from what has happened in one turn between the person and ssh."""
        for what in happened:
            if what == HEARD:
                self._driver.follow()
            else:
                self._asked(what)

    def _asked(self, what: str) -> None:
        """Do what a key asks for, or what has become of the terminal."""
        if what == escapes.QUIT:
            self._driver.dispatch(machine.StopRequested(signal.SIGINT, STATUS))
        elif what == escapes.RETRY_NOW and self._driver.run is None:
            self._retry_asked()
        elif what in (escapes.SUSPEND, escapes.SUSPEND_JOB):
            self._suspend(by_key=what == escapes.SUSPEND_JOB)
        elif what == escapes.BACKGROUND:
            self._driver.leave_ssh()
        elif what == HUNG_UP:
            self._caller_gone()
        elif what == DESERTED:
            self._foreground.leave_terminal()
            self._driver.dispatch(machine.Deserted())
            # It would wait for ever.
            self._driver.found_dead("ssh asks, but nobody is at the terminal")

    def _suspend(self, by_key: bool = False) -> None:
        self._told(self._foreground.suspend(by_key))

    def _child_changed(self) -> None:
        self._reporter.reap_hooks()
        self._driver.child_changed()
        # In a container kssh may be the first process, to which what others leave behind is given: the
        # ssh of a jump host outlives the one that started it.
        reap_others({*self._reporter.hooks, *self._driver.pids})

    def _went_up(self) -> None:
        """Go to the background if that was asked for, before UP is told: cron would mail it."""
        if self._foreground.is_waited_for:
            self._relay.person.give_back()
            self._reporter.detach()
            self._driver.dispatch(machine.Deserted())  # the record is there when the caller goes on
            self._foreground.leave()
