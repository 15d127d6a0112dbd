"""The loop that keeps one link: feeds events to the machine, performs the actions it asks for.

Reads the clock and randomness.  Must not know why an action was chosen.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable

import pexpect

from .errors import STATUS, KsshError, printable
from .foreground import Foreground
from .launch import Launcher
from .link import (
    history,
    machine,
    multiplexer,
    plan as planning,
    policy,
    progress,
    suspicion,
    way_back,
    wording,
)
from .link.kinds import TUNNEL
from .link.outcomes import RETRY, UNREACHABLE, UP, Exit, Report
from .link.policy import HEALTHY_S
from .link.request import Request
from .network import connection, mastersocket
from .network.lookout import Lookout
from .reporter import Reporter
from .ssh import escapes
from .ssh.evidence import CONNECTING, Evidence
from .system import notify
from .system.child import reap_others
from .system.loop import Loop
from .terminal.relay import DESERTED, HUNG_UP, Relay, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .daemon import Back

# Timers beside the machine's.
_ASSUMED = "assumed up"
_OPENED = "path opened"
_MASTER = "shared master"
_ASKED = "ssh was asked to end"
_ASKED_S = 0.2
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
        notify.complain(str(error))
    except Exception as error:  # noqa: BLE001 - the terminal is given back whatever happened
        if supervisor is not None:
            supervisor.close()
        notify.complain(f"internal error: {type(error).__name__}: {printable(str(error))}")
        if request.settings.loglevel == "DEBUG":
            import traceback  # 5 ms and 1 MB, only for a fault of ours

            notify.complain(traceback.format_exc())
    finally:
        if supervisor is not None:
            supervisor.close()
    return Exit(STATUS)


class Supervisor:
    """One link on a loop: what happens goes to the machine, and what that answers is done."""

    def __init__(self, request: Request, back: Back | None) -> None:
        """Open what the settings name.  Raises BadValue."""
        self._request = request
        self._settings = request.settings
        self._host = request.host
        self._control_path = request.control_path
        self._master: int | None = None  # process of the shared master that ssh uses now
        self._dead_master: int | None = None  # of one that is of no use any more
        self._seen: Evidence | None = None  # of the last run
        self._link = machine.Link(request.rules)
        self._loop = Loop()
        name = request.first_value("hostname", request.line.destination or "")
        name_and_family = name, request.first_value("addressfamily", "any")
        told = self._path_opened, self._network_changed, self._found_dead
        self._lookout = Lookout(self._loop, name_and_family, *told, random.random)
        self._reporter = Reporter(request, self._loop)
        self._log = self._reporter.log
        self._launcher = Launcher(request, self._log)
        self._waits_for_device = self._launcher.waits_for_device()
        self._relay = Relay(self._loop, self._host, self._log, request.ssh_level, self._follow, self._asked)
        self._relay.stderr_fd = self._launcher.stderr_fd
        self._reporter.relay = self._relay
        self._foreground = Foreground(request, self._loop, self._relay, self._lookout, back)
        self._progress = progress.Progress(0, device=False)  # of the run
        self._held: Callable[[], None] | None = None  # tells the machine that ssh has ended
        self._finish: Exit | None = None
        self._abandoned = False  # a second signal: what the terminal did not take is given up

    @property
    def _kind(self) -> str:
        return self._link.rules.kind

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """Keep the link until it ends; return how."""
        if self._reporter.take_place() is not None:
            return Exit(0)
        self._launcher.choose_session(self._reporter.place)
        self._reporter.open_ssh_lines()
        self._relay.ssh_lines = self._reporter.ssh_lines
        self._foreground.take_signals(self._stop_asked, self._retry_asked, self._child_changed)
        if not self._launcher.has_pty:
            how = "no pseudo-terminal can be had; ssh runs without one"
            self._log.write(notify.VERBOSE, f"{self._host}: {how}")
        elif self._request.uses_terminal:
            self._foreground.take_terminal()
        self._foreground.watch_front(lambda: self._dispatch(machine.StopRequested(signal.SIGHUP)))
        self._reporter.note(Report(history.STARTED))
        self._dispatch(machine.Started(float(self._settings.maxlifetime_s)))
        while self._finish is None or self._lingers():
            self._relay.watch()
            self._reporter.watch()
            self._loop.turn()
        return self._finish

    def _lingers(self) -> bool:
        """Tell whether the terminal cannot be given back yet: it has not shown all, or keys are under way."""
        rest_s = self._relay.rest_s()
        if rest_s:
            self._loop.arm(_REST, rest_s, lambda: None)
        return not self._abandoned and (rest_s > 0 or self._relay.has_output)

    def close(self) -> None:
        """Leave nothing behind; may be called twice."""
        self._relay.forget_terminal()
        run, self._relay.run = self._relay.run, None
        if run is not None:
            with contextlib.suppress(pexpect.ExceptionPexpect, OSError):
                run.close()  # an ssh that would not go yet has lost its pty
        self._reporter.close()
        self._lookout.close()
        self._loop.close()

    # -- what is asked of kssh -------------------------------------------------------------------

    def _retry_asked(self) -> None:
        self._dispatch(machine.RetryRequested())

    def _stop_asked(self, signum: int) -> None:
        """Do what a signal asks for that would have ended kssh."""
        if signum == signal.SIGHUP and not self._request.standing.session and self._link.rules.restartable:
            self._retry_asked()
        elif self._finish is not None or self._link.state == machine.STOPPING:
            self._abandon()
        else:
            self._loop.arm(_STUCK, _STUCK_S, self._abandon)
            self._dispatch(machine.StopRequested(signum))

    def _abandon(self) -> None:
        """Give up what a terminal that was stopped has not taken."""
        self._abandoned = True

    def _asked(self, what: str) -> None:
        """Do what a key asks for, or what has become of the terminal."""
        if what == escapes.QUIT:
            self._dispatch(machine.StopRequested(signal.SIGINT, STATUS))
        elif what == escapes.RETRY_NOW and self._relay.run is None:
            self._retry_asked()
        elif what in (escapes.SUSPEND, escapes.SUSPEND_JOB):
            self._foreground.suspend(by_key=what == escapes.SUSPEND_JOB)
        elif what == escapes.BACKGROUND:
            self._relay.leave_in_background()
            self._end(Exit(0))
        elif what == HUNG_UP:
            self._dispatch(machine.StopRequested(signal.SIGHUP))
        elif what == DESERTED:
            self._foreground.leave_terminal()
            self._dispatch(machine.Deserted())
            self._found_dead("ssh asks, and nobody is at the terminal")  # it would wait for ever

    # -- ssh -------------------------------------------------------------------------------------

    def _spawn(self, start: int) -> None:
        """Start ssh; a failure to do so is one more way in which a run can end."""
        alone = self._master_is_dead()
        self._progress = progress.Progress(self._request.remote_forwards, self._waits_for_device)
        try:
            run = self._launcher.start(self._relay.screen, self._link.history.sessions > 0, alone)
        except KsshError as error:
            if start == 1:
                raise
            seen = Evidence()
            seen.cause, seen.error = UNREACHABLE, str(error)
            self._exited(Exit(STATUS), seen)
            return
        if self._control_path != "none" and not alone and self._kind != TUNNEL:
            self._loop.arm(_MASTER, float(self._settings.connect_timeout_s), self._master_silent)
        self._relay.begin(run)
        if run.channel is None:
            self._loop.arm(_ASSUMED, HEALTHY_S, self._assume_up)

    def _assume_up(self) -> None:
        """Without a log channel, a run that lasted this long counts as a session from its start."""
        if self._relay.run is not None:
            self._foreground.give_up_output()
            self._dispatch(machine.SessionReached(self._relay.run.started))
            self._dispatch(machine.WentUp())

    def _follow(self, run: Run) -> None:
        """Do what follows from how far ssh has come."""
        if self._progress.is_up and self._kind == TUNNEL:
            self._lookout.hint()  # ssh does something: somebody uses a forward
        for step in self._progress.news(run.evidence, self._link.rules):
            if self._relay.run is not run:
                return  # "~&" was typed ahead of its session
            self._step(step, run)

    def _step(self, step: str, run: Run) -> None:
        if step == progress.FORGED:
            self._signal(signal.SIGKILL)
        elif step == progress.IS_SHARED:
            self._guard_master()
        elif step == progress.IS_CONNECTING:
            self._loop.disarm(_MASTER)
        elif step == progress.IS_CONNECTED:
            self._lookout.rest()
        elif step == progress.HAS_READ:
            self._foreground.stand_aside()
        elif step == progress.IS_AUTHENTICATED and self._kind == TUNNEL:
            self._relay.give_back()  # no prompt follows: Ctrl-C and Ctrl-Z are for kssh again
        elif step == progress.HAS_SESSION:
            self._begin_session(run)
        elif step == progress.HAS_COMMAND:
            self._dispatch(machine.CommandSent())
        elif step == progress.IS_UP:
            seen = run.evidence
            missing = wording.missing(seen) if self._kind == TUNNEL else ""
            self._dispatch(machine.WentUp(missing, tuple(self._launcher.ports.learn(seen.allocated))))

    def _begin_session(self, run: Run) -> None:
        self._relay.begin_session(run)
        if self._relay.run is run:
            self._foreground.give_up_output()
            self._guard(run)
            self._dispatch(machine.SessionReached(time.monotonic()))

    def _child_changed(self) -> None:
        self._reporter.reap_hooks()
        run = self._relay.run
        ended = None if run is None else run.child.reap()
        if run is not None and ended is not None:
            self._reaped(run, ended)
        # In a container kssh may be the first process, to which what others leave behind is given: the
        # ssh of a jump host outlives the one that started it.
        ours = {*self._reporter.hooks, *self._lookout.pids}
        if self._relay.run is not None:
            ours.add(self._relay.run.child.pid)
        reap_others(ours)

    def _reaped(self, run: Run, ended: Exit) -> None:
        """ssh has ended: take its last words, then tell the machine."""
        for timer in (_ASSUMED, _MASTER, _OPENED):
            self._loop.disarm(timer)
        self._relay.take_last_words(run)
        seen = run.evidence if run.channel is not None else None
        run.close()
        self._lookout.leave()
        if self._kind == TUNNEL:
            self._relay.give_back()
        interrupt = run.interrupted_by(ended)
        if interrupt is not None:
            self._relay.interrupt_job(interrupt)
        # A tunnel gives the terminal back in between: no key can ask for a retry.
        unanswered = run.unanswered(ended) and self._relay.console is not None
        left = run.left or interrupt is not None
        without = None
        if run.greeting is not None and self._launcher.resumed is not None and not left:
            without = self._launcher.resumed.ended(run.greeting, ended, seen, run.typed)
        asked = not left and policy.asked_to_end(ended, seen, self._kind)
        if asked and self._link.state in (machine.STARTING, machine.UP):
            # Whoever stops all of a service asks kssh as well, this moment, before it or after it.
            self._held = lambda: self._exited(ended, seen, left, unanswered, without)
            self._loop.arm(_ASKED, _ASKED_S, self._tell_held)
        else:
            self._exited(ended, seen, left, unanswered, without)

    def _tell_held(self) -> None:
        """Tell the machine of an ssh that was asked to end, for kssh was not, or is by now."""
        held, self._held = self._held, None
        self._loop.disarm(_ASKED)
        if held is not None:
            held()

    def _exited(
        self,
        ended: Exit,
        seen: Evidence | None,
        left: bool = False,
        unanswered: bool = False,
        without: multiplexer.Without | None = None,
    ) -> None:
        now = time.monotonic()
        self._reporter.ssh_ended(now)
        self._seen = seen
        our_port = self._launcher.ports.refused(seen)
        facts = left, random.random(), unanswered, our_port, without
        self._dispatch(machine.Exited(now, ended, seen, *facts))

    # -- the network -----------------------------------------------------------------------------

    def _guard(self, run: Run) -> None:
        """Look after the connection of a session, and remember where it goes."""
        if run.evidence.shared:
            if not self._link.rules.restartable:
                self._lookout.leave()
            return  # the connection is the master's, and looked after
        pids, place = [run.child.pid], run.evidence.address
        if place is None:
            if self._request.first_value("proxyjump", "none") == "none":
                return  # a ProxyCommand goes ways of its own
            pids = connection.descendants(run.child.pid)
        found = connection.of(pids, place)
        # Of a session that is not started again ssh will find out, and kssh can do nothing with it sooner.
        if found is not None and self._link.rules.restartable:
            keepalive_s = planning.keepalive_s(self._request.configuration, self._settings)
            self._lookout.guard(found, suspicion.terms(self._kind, keepalive_s))

    def _guard_master(self) -> None:
        """Look after the connection of a shared master, which tells nobody that it is dead.

        The request of this very ssh may be what no answer comes to.
        """
        self._master = mastersocket.pid(self._control_path) or mastersocket.SILENT
        found = connection.first_of(self._master) if self._master else None
        self._lookout.rest()
        if found is not None:
            silence_s = float(self._settings.interval_s * (self._settings.countmax + 1))
            self._lookout.guard(found, suspicion.shared_terms(silence_s))
            self._lookout.doubt()

    def _master_silent(self) -> None:
        """A session through a master that works is there at once: nobody has to log in for it."""
        run = self._relay.run
        if run is None or run.evidence.phase >= CONNECTING:
            return  # ssh has a connection of its own
        if self._master is None and mastersocket.pid(self._control_path) == mastersocket.SILENT:
            self._master = mastersocket.SILENT
        if self._master is not None:
            self._found_dead("no answer")

    def _path_opened(self) -> None:
        run = self._relay.run
        if run is None:
            self._dispatch(machine.PathOpened())
        elif not run.connected:
            self._loop.arm(_OPENED, way_back.NEWS_REACHES_SSH_S, self._still_not_connected)

    def _still_not_connected(self) -> None:
        run = self._relay.run
        if run is not None and not run.connected and self._lookout.overtaken(run.evidence):
            self._dispatch(machine.PathOpened())

    def _network_changed(self) -> None:
        if self._relay.run is None:
            self._dispatch(machine.RetryRequested())

    def _found_dead(self, why: str) -> None:
        if self._master is not None:
            self._dead_master = self._master
            shared = f"the shared connection {printable(self._control_path)} is dead"
            self._log.write(notify.INFO, f"{self._host}: {shared} ({why}); going on without it")
            why = "the shared connection is dead"
        self._dispatch(machine.LinkFoundDead(why))

    def _master_is_dead(self) -> bool:
        """Tell, before a start, whether the shared master is still the one that is known to be dead."""
        self._master = None
        if self._dead_master is None:
            return False
        found = mastersocket.pid(self._control_path)
        if found is None or found not in (self._dead_master, mastersocket.SILENT):
            self._dead_master = None  # it has ended, and another one may be there
        return self._dead_master is not None

    # -- the machine -----------------------------------------------------------------------------

    def _dispatch(self, event: machine.Event) -> None:
        self._link, actions = machine.step(self._link, event)
        for action in actions:
            self._perform(action)
        run = self._relay.run
        self._reporter.write_record(self._link, None if run is None else run.child.pid)
        if self._link.state in (machine.STOPPING, machine.RESTARTING):
            self._tell_held()

    def _perform(self, action: machine.Action) -> None:
        if isinstance(action, machine.Spawn):
            self._spawn(action.start)
        elif isinstance(action, machine.Terminate):
            self._signal(signal.SIGTERM, signal.SIGCONT)
        elif isinstance(action, machine.Kill):
            self._signal(signal.SIGKILL)
        elif isinstance(action, machine.Arm):
            timer = action.timer
            self._loop.arm(timer, action.delay_s, lambda: self._dispatch(_TIMERS[timer]))
        elif isinstance(action, machine.Disarm):
            self._loop.disarm(action.timer)
        elif isinstance(action, machine.Tell):
            self._tell(action.report)
        elif isinstance(action, machine.Finish):
            self._end(action.ended)

    def _end(self, ended: Exit) -> None:
        self._finish = ended
        self._relay.ended = True

    def _signal(self, *numbers: int) -> None:
        if self._relay.run is not None:
            for number in numbers:
                self._relay.run.child.send_signal(number)

    def _tell(self, report: Report) -> None:
        report = self._reporter.note(report)
        if report.event == RETRY:
            self._lookout.look_for_a_way(report, self._seen)
        elif report.event == UP:
            self._lookout.rest()
            if self._foreground.is_waited_for:
                self._go_to_background()  # first: cron would mail what is told from here on
        self._reporter.tell(report, self._kind)

    def _go_to_background(self) -> None:
        self._relay.give_back()
        self._reporter.detach()
        self._dispatch(machine.Deserted())  # its record is there when the caller goes on
        self._foreground.leave()


_TIMERS: dict[str, machine.Event] = {
    machine.DELAY: machine.DelayElapsed(),
    machine.KILL: machine.KillElapsed(),
    machine.LIFETIME: machine.LifetimeElapsed(),
}
