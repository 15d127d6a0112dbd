"""One link on a loop: what happens goes to the machine, and the actions that it answers with are done.

Reads the clock and randomness.  Must not know why an action was chosen, nor what else the process does.
"""

from __future__ import annotations

import contextlib
import random
import signal
import time
from collections.abc import Callable

import pexpect

from .connections import Connections
from .errors import STATUS, KsshError
from .launch import Launcher
from .link import machine, policy, progress, way_back, wording
from .link.kinds import TUNNEL
from .link.outcomes import RETRY, UNREACHABLE, UP, Exit, Report
from .link.policy import HEALTHY_S
from .link.request import Request
from .network.lookout import Lookout
from .reporter import Reporter
from .ssh.evidence import CONNECTED, CONNECTING, Evidence
from .system.descriptors import is_terminal, to_nowhere
from .system.loop import Loop
from .terminal import job
from .terminal.person import Unattended
from .terminal.relay import Relay, Run

# Timers beside the machine's.
_ASSUMED = "assumed up"
_OPENED = "path opened"
_MASTER = "shared master"
_ASKED = "ssh was asked to end"
_ASKED_S = 0.2


class Driver:
    """Drives one link.

    link      what the machine remembers of it
    finish    how kssh is to end, once the link has ended
    run       the ssh that runs, or None
    relay     stands between the person and ssh
    lookout   looks for a way back, or for trouble
    launcher  starts ssh
    """

    def __init__(
        self,
        request: Request,
        loop: Loop,
        reporter: Reporter,
        told: Callable[[list[str]], None],
        went_up: Callable[[], None],
    ) -> None:
        """Drive a link that has not begun.

        told     is called with what has happened between the person and ssh, as the relay does
        went_up  is called before UP is told
        """
        self._request = request
        self._loop = loop
        self._reporter = reporter
        self._told = told
        self._went_up = went_up
        self.link = machine.Link(request.rules)
        self.finish: Exit | None = None
        news = self._path_opened, self._network_changed, self.found_dead
        self.lookout = Lookout(loop, request.name_and_family, *news, random.random)
        self.launcher = Launcher(request, reporter.log)
        self._waits_for_device = self.launcher.waits_for_device()
        self.relay = Relay(loop, Unattended(reporter.words), told)
        self._connections = Connections(request, self.lookout, reporter.log)
        self.run: Run | None = None
        self._progress = progress.Progress(0, device=False)  # of the run
        self._seen: Evidence | None = None  # of the run before
        self._held: machine.Exited | None = None  # not told to the machine yet

    @property
    def _is_tunnel(self) -> bool:
        return self._request.plan.kind == TUNNEL

    def close(self) -> None:
        """Leave no ssh behind; may be called twice."""
        run, self.run = self.run, None
        if run is not None:
            with contextlib.suppress(pexpect.ExceptionPexpect, OSError):
                run.close()  # an ssh that would not go yet has lost its pty
        self.lookout.close()

    # -- the machine -----------------------------------------------------------------------------

    def dispatch(self, event: machine.Event) -> None:
        """Tell the machine what has happened, and do what it answers."""
        self.link, actions = machine.step(self.link, event)
        for action in actions:
            self._perform(action)
        self._reporter.write_record(self.link, None if self.run is None else self.run.child.pid)
        if self.link.state in (machine.STOPPING, machine.RESTARTING):
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
            self._loop.arm(timer, action.delay_s, lambda: self.dispatch(_TIMERS[timer]))
        elif isinstance(action, machine.Disarm):
            self._loop.disarm(action.timer)
        elif isinstance(action, machine.Tell):
            self._tell(action.report)
        elif isinstance(action, machine.Finish):
            self._end(action.ended)

    def _end(self, ended: Exit) -> None:
        self.finish = ended
        self.relay.end()

    def leave_ssh(self) -> None:
        """Leave ssh in the background, and have kssh end."""
        self.relay.leave_in_background()
        self.run = None
        self._end(Exit(0))

    def _signal(self, *numbers: int) -> None:
        if self.run is not None:
            for number in numbers:
                self.run.child.send_signal(number)

    def _tell(self, report: Report) -> None:
        report = self._reporter.note(report)
        if report.event == RETRY:
            self.lookout.look_for_a_way(report, self._seen)
        elif report.event == UP:
            self.lookout.rest()
            self._went_up()
        self._reporter.tell(report, self.link.rules.kind)

    # -- one run of ssh --------------------------------------------------------------------------

    def _spawn(self, start: int) -> None:
        """Start ssh; a failure to do so is one more way in which a run can end."""
        alone = self._connections.leave_master()
        self._progress = progress.Progress(self._request.remote_forwards, self._waits_for_device)
        try:
            self.run = run = self.launcher.start(self.relay.person, self.link.counts.sessions > 0, alone)
        except KsshError as error:
            if start == 1:
                raise
            seen = Evidence()
            seen.cause, seen.error = UNREACHABLE, str(error)
            self._exited(machine.Exited(time.monotonic(), Exit(STATUS), seen, False, random.random()))
            return
        if self._connections.may_share and not self._is_tunnel:
            patience_s = float(self._request.settings.connect_timeout_s)
            self._loop.arm(_MASTER, patience_s, self._not_connected_in_time)
        self.relay.begin(run)
        if run.channel is None:
            self._loop.arm(_ASSUMED, HEALTHY_S, self._assume_up)

    def _assume_up(self) -> None:
        """Without a log channel, a run that lasted this long counts as a session from its start."""
        if self.run is not None:
            _give_up_output(self._is_tunnel)
            self.dispatch(machine.SessionReached(self.run.started))
            self.dispatch(machine.WentUp())

    def follow(self) -> None:
        """Do what follows from how far ssh has come."""
        if self.run is None:
            return
        if self._progress.is_up and self._is_tunnel:
            self.lookout.hint()  # ssh does something: somebody uses a forward
        for step in self._progress.news(self.run.evidence, self.link.rules):
            self._step(step, self.run)

    def _step(self, step: str, run: Run) -> None:
        if step == progress.FORGED:
            self._signal(signal.SIGKILL)
        elif step == progress.IS_SHARED:
            self._connections.guard_master()
        elif step == progress.IS_CONNECTING:
            self._loop.disarm(_MASTER)
        elif step == progress.IS_CONNECTED:
            self.lookout.rest()
        elif step == progress.HAS_READ:
            to_nowhere(0, 1)  # this ssh is not started again: it alone says when input and output end
        elif step == progress.IS_AUTHENTICATED and self._is_tunnel:
            self.relay.person.give_back()  # no prompt follows: Ctrl-C and Ctrl-Z are for kssh again
        elif step == progress.HAS_SESSION:
            _give_up_output(self._is_tunnel)
            self._connections.guard(run.child.pid, run.evidence, self.link.rules)
            self.dispatch(machine.SessionReached(time.monotonic()))
        elif step == progress.HAS_COMMAND:
            self.dispatch(machine.CommandSent())
        elif step == progress.IS_UP:
            missing = wording.missing(run.evidence) if self._is_tunnel else ""
            allocated = self.launcher.ports.learn(run.evidence.allocated)
            self.dispatch(machine.WentUp(missing, tuple(allocated)))

    def child_changed(self) -> None:
        """See whether ssh has ended."""
        run = self.run
        if run is not None and (ended := run.child.reap()) is not None:
            self._reaped(run, ended)

    @property
    def pids(self) -> set[int]:
        """The processes that run for the link, and that it reaps."""
        return {*self.lookout.pids, *([] if self.run is None else [self.run.child.pid])}

    def _reaped(self, run: Run, ended: Exit) -> None:
        """ssh has ended: take its last words, then tell the machine."""
        for timer in (_ASSUMED, _MASTER, _OPENED):
            self._loop.disarm(timer)
        for happened in self.relay.last_words():
            self._told(happened)
        self.run = None
        seen = run.evidence if run.channel is not None else None
        run.close()
        self.lookout.leave()
        if self._is_tunnel:
            self.relay.person.give_back()
        interrupt = run.conversation.interrupted_by(ended.signal)
        if interrupt is not None and self.relay.person.signals_us():
            job.interrupt(interrupt)
        event = self._event_of(run, ended, seen, left=run.conversation.left or interrupt is not None)
        asked = not event.left and policy.asked_to_end(ended, seen, self.link.rules.kind)
        if asked and self.link.state in (machine.STARTING, machine.UP):
            # Whoever stops all of a service asks kssh as well, this moment, before it or after it.
            self._held = event
            self._loop.arm(_ASKED, _ASKED_S, self._tell_held)
        else:
            self._exited(event)

    def _event_of(self, run: Run, ended: Exit, seen: Evidence | None, left: bool) -> machine.Exited:
        # A tunnel gives the terminal back in between: no key can ask for a retry.
        unanswered = run.conversation.ended_unanswered(ended.signal) and self.relay.person.has_session
        our_port = self.launcher.ports.refused(seen)
        without, resumed = None, self.launcher.resumed
        if resumed is not None and run.greeting is not None and not left:
            without = resumed.ended(run.greeting, ended, seen, run.conversation.used)
        now, jitter = time.monotonic(), random.random()
        return machine.Exited(now, ended, seen, left, jitter, unanswered, our_port, without)

    def _tell_held(self) -> None:
        """Tell the machine of an ssh that was asked to end, for kssh was not, or is by now."""
        held, self._held = self._held, None
        self._loop.disarm(_ASKED)
        if held is not None:
            self._exited(held)

    def _exited(self, event: machine.Exited) -> None:
        self._reporter.ssh_ended(event.now)
        self._seen = event.seen
        self.dispatch(event)

    # -- the network -----------------------------------------------------------------------------

    def _not_connected_in_time(self) -> None:
        run = self.run
        if run is not None and run.evidence.phase < CONNECTING and self._connections.master_is_silent():
            self.found_dead("no answer")

    def _path_opened(self) -> None:
        if self.run is None:
            self.dispatch(machine.PathOpened())
        elif self.run.evidence.phase < CONNECTED:
            self._loop.arm(_OPENED, way_back.NEWS_REACHES_SSH_S, self._still_not_connected)

    def _still_not_connected(self) -> None:
        seen = self.run.evidence if self.run is not None else None
        if seen is not None and seen.phase < CONNECTED and self.lookout.overtaken(seen):
            self.dispatch(machine.PathOpened())

    def _network_changed(self) -> None:
        if self.run is None:
            self.dispatch(machine.RetryRequested())

    def found_dead(self, why: str) -> None:
        """Take ssh's connection for dead."""
        self.dispatch(machine.LinkFoundDead(self._connections.blame(why)))


def _give_up_output(is_tunnel: bool) -> None:
    """Let go of standard output, as "ssh -N" does once it is connected: who reads it to its end goes on.

    What a LocalCommand has to say has been said by then.
    """
    if is_tunnel and not is_terminal(1):
        to_nowhere(1)


_TIMERS: dict[str, machine.Event] = {
    machine.DELAY: machine.DelayElapsed(),
    machine.KILL: machine.KillElapsed(),
    machine.LIFETIME: machine.LifetimeElapsed(),
}
