"""The loop that keeps one link: feeds events to the machine, performs the actions it asks for.

Reads the clock and randomness.  Must not know why an action was chosen.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import termios
import time
from collections.abc import Callable, Sequence

import pexpect

from .errors import STATUS, KsshError, printable
from .link import (
    history,
    identity,
    machine,
    multiplexer,
    plan as planning,
    policy,
    record,
    suspicion,
    way_back,
    wording,
)
from .link.kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from .link.outcomes import DOWN, GAVE_UP, RETRY, UNREACHABLE, UP, Exit, Report
from .link.plan import Plan, Standing
from .link.policy import HEALTHY_S, Rules
from .network import connection, mastersocket
from .network.lookout import Lookout
from .settings import Settings
from .ssh import escapes
from .ssh.args import CommandLine
from .ssh.evidence import AUTHENTICATED, CONNECTED, CONNECTING, LEVELS, SESSION, Evidence
from .system import effective, files, log_channel, notify, program, state as statefile
from .system.child import PlainChild, PtyChild, gave_up_output, reap_others
from .system.loop import READ, WRITE, Loop
from .terminal import screen
from .terminal.console import Console
from .terminal.relay import DESERTED, HUNG_UP, Relay, Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .daemon import Back

_ON_TERMINAL = (SHELL, ATTACH, COMMAND)
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
# Timers beside the machine's.
_ASSUMED = "assumed up"
_OPENED = "path opened"
_HOOK = "hook"
_MASTER = "shared master"
_ASKED = "ssh was asked to end"
_ASKED_S = 0.2
_REST = "rest of a paste"
_STUCK = "terminal is stuck"
_STUCK_S = 3.0


def keep(
    path: str,
    line: CommandLine,
    configuration: dict[str, list[str]] | None,
    plan: Plan,
    settings: Settings,
    standing: Standing,
    back: Back | None,
) -> Exit:
    """Keep a link until it ends; return how kssh is to end.

    path           the ssh program
    line           the user's command line
    configuration  what "ssh -G" said of it, or None
    plan           what to do with it
    back           the side of a fork that stays, for -f

    A file or a setting that cannot be used is said in one line, before ssh is started.
    """
    supervisor = None
    try:
        supervisor = Supervisor(path, line, configuration, plan, settings, standing, back)
        return supervisor.run()
    except KsshError as error:
        if supervisor is not None:
            supervisor.close()  # first: it gives the terminal back
        notify.complain(str(error))
    except Exception as error:  # noqa: BLE001 - the terminal is given back whatever happened
        if supervisor is not None:
            supervisor.close()
        notify.complain(f"internal error: {type(error).__name__}: {printable(str(error))}")
        if settings.loglevel == "DEBUG":
            import traceback  # 5 ms and 1 MB, only for a fault of ours

            notify.complain(traceback.format_exc())
    finally:
        if supervisor is not None:
            supervisor.close()
    return Exit(STATUS)


class Supervisor:
    """One link and all that belongs to it."""

    def __init__(
        self,
        path: str,
        line: CommandLine,
        configuration: dict[str, list[str]] | None,
        plan: Plan,
        settings: Settings,
        standing: Standing,
        back: Back | None,
    ) -> None:
        self._path = path
        self._line = line
        self._configuration = configuration
        self._kind = plan.kind
        self._background = plan.background
        self._settings = settings
        self._standing = standing
        self._back = back
        self._host = printable(line.destination or "")
        self._name = settings.name or identity.name(line, files.working_directory())
        forwards = identity.forwards(line, configuration) + identity.forwards(line, None)
        # What ssh did not tell in time may be a listener too.
        fixed = bool(settings.name) or configuration is None or identity.stands_once(forwards)
        self._once = plan.kind == TUNNEL and fixed
        self._remote_forwards = identity.remote_forwards(line, configuration)
        self._tags = self._tags_of()
        shares = planning.shares_connection(plan, line, configuration)
        device = plan.kind == TUNNEL and identity.wants_device(line, configuration)
        self._control_path = planning.first_value(configuration, "controlpath", "none") if shares else "none"
        self._master: int | None = None  # process of the shared master that ssh uses now
        self._dead_master: int | None = None  # of one that is of no use any more
        version = self._ask_version() if device else None
        self._device = version is not None and version >= (8, 3)
        self._escape = escapes.parse(
            planning.first_value(configuration, "escapechar", (line.values("e") or ["~"])[-1])
        )
        rules = Rules(
            plan.kind,
            settings.restart == "always" or plan.kind in (TUNNEL, SHELL, ATTACH),
            standing.attended,
            settings.first_start,
            float(settings.backoff_max_s),
            settings.maxstart,
            plan.kind == SHELL and settings.restart != "always" and settings.resume == "off",
        )
        self._link = machine.Link(rules)
        self._loop = Loop()
        name = planning.first_value(configuration, "hostname", line.destination or "")
        name_and_family = name, planning.first_value(configuration, "addressfamily", "any")
        told = self._path_opened, self._network_changed, self._found_dead
        self._lookout = Lookout(self._loop, name_and_family, *told, random.random)
        self._seen: Evidence | None = None  # of the last run
        self._chosen = identity.Chosen(line)
        self._allocated: tuple[tuple[int, str], ...] = ()  # ports of the server while the link is up
        self._held: Callable[[], None] | None = None  # tells the machine that ssh has ended
        self._finish: Exit | None = None
        self._stands_aside = False
        self._abandoned = False  # a second signal: what the terminal did not take is given up
        self._down_since: float | None = None
        self._reason = ""
        self._multiplexer = settings.resume if plan.kind == SHELL and settings.resume != "off" else ""
        self._session_name = ""  # of that
        self._resumed = False  # it was there

        self._has_pty = plan.kind == STREAM or program.can_have_pty()
        self._channel_told = False
        self._hook = notify.Hook(settings.hook)
        # ssh's -q is a word about its own lines and kssh's; only KSSH_LOGLEVEL says otherwise.
        quiet = plan.user_level == "QUIET" and not settings.given & {"LOGLEVEL", "LOGFILE"}
        level = "QUIET" if quiet else settings.loglevel
        self._log = notify.Log(level, settings.logfile, self._show if standing.attended else None)
        user_level = LEVELS.get(plan.user_level, LEVELS["INFO"])
        self._relay = Relay(self._loop, self._host, self._log, user_level, self._follow, self._asked)
        self._relay.stderr_fd = self._separate_stderr(plan)
        self._place = statefile.Place()
        self._recorded = ("", 0)
        self._since = time.time()
        self._pid_started = statefile.process_started()
        self._pid_mark = statefile.process_mark(os.getpid())

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """Keep the link until it ends; return how."""
        holder = self._take_place()
        if holder is not None:
            told = f"{self._host}: {self._name} runs already, held by {printable(holder)}; nothing to do"
            self._log.write(notify.INFO, told)
            return Exit(0)
        if self._multiplexer:
            self._choose_session()
        self._relay.ssh_lines = self._open_ssh_lines()
        self._take_signals()
        self._take_terminal()
        if self._back is not None and self._back.front is not None:
            self._loop.watch(self._back.front, READ, self._front_gone)
        self._note(Report(history.STARTED))
        self._dispatch(machine.Started(float(self._settings.maxlifetime_s)))
        while self._finish is None or self._lingers():
            self._relay.watch()
            self._watch_sinks()
            self._loop.turn()
        return self._finish

    def _watch_sinks(self) -> None:
        """Write what nobody has read in time as soon as there is room."""
        lines = self._relay.ssh_lines
        for sink in [*self._log.sinks(), *([lines.sink] if lines is not None and lines.sink else [])]:
            self._loop.watch(sink.fd, WRITE if sink.is_waiting else 0, sink.drain)

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
        self._place.leave()
        self._hook.disown()
        self._log.close()
        if self._relay.ssh_lines is not None:
            self._relay.ssh_lines.close()
        self._lookout.close()
        self._loop.close()

    def _take_place(self) -> str | None:
        """Take the lock and the pidfile; return who holds the lock, or None."""
        if self._settings.pidfile:
            statefile.Pidfile.check(self._settings.pidfile)
        name = self._name if self._once else f"{self._name}-{os.getpid()}"
        odd = self._place.open(self._settings.state_dir, name)
        if odd and self._kind == TUNNEL:  # a shell needs no record
            self._log.write(notify.ERROR, odd)
        try:
            holder = self._place.lock() if self._once else None
        except OSError as error:
            holder = None
            why = f"no lock ({error.strerror}): a second one of this tunnel would not be noticed"
            self._log.write(notify.ERROR, f"{self._host}: {why}")
        if holder is None and self._settings.pidfile:
            self._place.write_pidfile(self._settings.pidfile)
        return holder

    def _choose_session(self) -> None:
        """Choose the name of the multiplexer's session that this kssh comes back to."""
        version = self._ask_version()
        if version is not None and version < multiplexer.NEEDS:
            self._log.write(
                notify.ERROR, f"{self._host}: this ssh knows no RemoteCommand; a plain shell opens"
            )
            self._multiplexer = ""
            return
        named = self._settings.name
        account = identity.account(self._line, files.working_directory())
        # Two at once share no session, and the next one finds what a dead one left.
        slot = 0 if named else self._place.number(record.link_name("resume", [], account))
        us = [statefile.machine_id(), statefile.machine(), str(os.getuid()), *account]
        name = multiplexer.session_name(named, statefile.machine(), us, slot or os.urandom(4).hex())
        self._session_name = name

    def _open_ssh_lines(self) -> notify.SshLines | None:
        """Open what the user's -E or -y names; return None for neither."""
        paths = self._line.values("E")
        if paths:
            try:
                return notify.SshLines(paths[-1])
            except OSError as error:
                raise KsshError(
                    f"-E {printable(paths[-1])}: expected a file to append to ({error.strerror})"
                ) from error
        return notify.SshLines(None) if self._line.count("y") else None

    def _separate_stderr(self, plan: Plan) -> int | None:
        """Return a descriptor for ssh's standard error where it is not the terminal."""
        if plan.kind == STREAM or not self._standing.asks or plan.background:
            return None
        return None if self._standing.stderr_shown else 2

    # -- signals ---------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for name in _STOPPING:
            signum = getattr(signal, name)
            # What was ignored at the start (nohup, a background job of sh) stays ignored, as with ssh.
            if signal.getsignal(signum) != signal.SIG_IGN:
                self._loop.on_signal(signum, self._stopper(signum))
        self._loop.on_signal(signal.SIGCHLD, self._child_changed)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})  # a parent may have blocked it
        self._loop.on_signal(signal.SIGUSR1, lambda: self._dispatch(machine.RetryRequested()))
        if self._kind != STREAM:
            self._loop.on_signal(signal.SIGWINCH, self._relay.resized)
            self._loop.on_signal(signal.SIGCONT, self._relay.continued)
            if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
                self._loop.on_signal(signal.SIGTSTP, self._suspend)
        for signum in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            # tcsetattr(3) that a background process is stopped in must go on after "fg".
            signal.siginterrupt(signum, False)

    def _stopper(self, signum: int) -> Callable[[], None]:
        def stop() -> None:
            if signum == signal.SIGHUP and not self._standing.session and self._link.rules.restartable:
                self._dispatch(machine.RetryRequested())
            elif self._finish is not None or self._link.state == machine.STOPPING:
                self._abandon()
            else:
                self._loop.arm(_STUCK, _STUCK_S, self._abandon)
                self._dispatch(machine.StopRequested(signum))

        return stop

    def _abandon(self) -> None:
        """Give up what a terminal that was stopped has not taken."""
        self._abandoned = True

    def _suspend(self, by_key: bool = False) -> None:
        """Stop as a job of the shell; go on when continued.

        by_key  the person typed what stops all of a job, such as the script that started kssh
        """
        self._lookout.look_away()
        by_key = by_key and self._relay.signals_us()
        self._relay.suspend(whole_job=by_key or self._back is not None)  # the front of -f is of it

    # -- the terminal ----------------------------------------------------------------------------

    def _take_terminal(self) -> None:
        if not self._has_pty:
            how = "no pseudo-terminal can be had; ssh runs without one"
            self._log.write(notify.VERBOSE, f"{self._host}: {how}")
        if self._kind == STREAM or not self._standing.asks or not self._has_pty:
            return
        on_terminal = self._kind in _ON_TERMINAL
        stdin = 0 if on_terminal or not self._standing.session else None
        try:
            taken = screen.Terminal(stdin, 1 if on_terminal else None)
            no_colour = bool(os.environ.get("NO_COLOR"))
            self._relay.screen = screen.Screen(taken, os.environ.get("TERM", ""), no_colour)
            if on_terminal:
                taken.make_raw()
                self._relay.typed_ahead = taken.waiting_bytes()
                wishes = self._settings.bell, self._settings.stall_notice
                self._relay.console = Console(
                    self._relay.screen, self._loop, self._host, *wishes, self._lookout.hint
                )
        except (OSError, termios.error) as error:
            if not self._standing.attended:
                return  # it goes away; nobody has typed anything that could be lost
            raise KsshError(f"cannot use the terminal: {printable(str(error))}") from error

    def _asked(self, what: str) -> None:
        """Do what a key asks for, or what has become of the terminal."""
        if what == escapes.QUIT:
            self._dispatch(machine.StopRequested(signal.SIGINT, STATUS))
        elif what == escapes.RETRY_NOW and self._relay.run is None:
            self._dispatch(machine.RetryRequested())
        elif what in (escapes.SUSPEND, escapes.SUSPEND_JOB):
            self._suspend(by_key=what == escapes.SUSPEND_JOB)
        elif what == escapes.BACKGROUND:
            self._relay.leave_in_background()
            self._end(Exit(0))
        elif what == HUNG_UP:
            self._dispatch(machine.StopRequested(signal.SIGHUP))
        elif what == DESERTED:
            self._leave_terminal()
            self._found_dead("ssh asks, and nobody is at the terminal")  # it would wait for ever

    def _show(self, text: str) -> None:
        """Show one line of kssh's own to the person at the terminal."""
        screen = self._relay.screen
        prompts_only = self._relay.console is None and self._relay.stderr_fd is not None
        if screen is not None and screen.terminal.raw and not prompts_only:
            screen.line(f"kssh: {text}")
        else:
            self._log.complain(text)

    def _leave_terminal(self) -> None:
        """From now on nobody is there to answer a prompt."""
        self._relay.forget_terminal()
        self._dispatch(machine.Deserted())
        askpass = self._standing.askpass
        self._standing = Standing(lambda: False, attended=False, asks=False, askpass=askpass)

    # -- ssh -------------------------------------------------------------------------------------

    def _spawn(self, start: int) -> None:
        """Start ssh; a failure to do so is one more way in which a run can end."""
        channel = self._open_channel()
        self._look_whether_to_ask()
        plan = planning.make(self._line, self._configuration, self._settings, self._standing)
        if self._kind == TUNNEL and self._link.history.sessions:
            planning.add_for_restart(plan, self._settings)
        if self._multiplexer:
            planning.add_resume(plan, self._session_command())
        instead = self._leave_master(plan)
        shared = planning.shares_connection(plan, self._line, self._configuration)
        forks_away = planning.forks_away(plan, self._configuration, shared)
        if channel is not None:
            tags = planning.NAMES if forks_away and self._tags == planning.IDS else self._tags
            planning.add_log_channel(plan, channel.path, shared, tags, bool(self._line.count("q")))
            if not plan.log:
                channel.close()
                channel = None
        # A refused port ends ssh, and then any other will do; an ssh that stays would lack its forward.
        own_wish = self._line.has_keyword("ExitOnForwardFailure")
        again = "ExitOnForwardFailure=yes" in plan.last and not own_wish
        if again:
            instead.update(self._chosen.instead())
        words = self._line.with_options(plan.first, plan.last, plan.without, instead)
        try:
            child = self._start_child(words)
        except KsshError as error:
            if channel is not None:
                channel.close()
            if start == 1:
                raise
            seen = Evidence()
            seen.cause, seen.error = UNREACHABLE, str(error)
            self._exited(Exit(STATUS), seen)
            return
        if shared and self._kind != TUNNEL:
            self._loop.arm(_MASTER, float(self._settings.connect_timeout_s), self._master_silent)

        def proof() -> bool:
            return forks_away or any(map(gave_up_output, self._pids_of(child)))

        typed = escapes.Escapes(self._escape, self._ask_version)
        run = Run(child, channel, typed, plan.tagged, proof)
        run.greeting = multiplexer.Greeting() if self._multiplexer else None
        self._relay.begin(run)
        if channel is None:
            self._loop.arm(_ASSUMED, HEALTHY_S, self._assume_up)

    def _leave_master(self, plan: Plan) -> dict[int, str]:
        """Keep ssh from a shared master that is known to be dead; return the options to change for that."""
        self._master = None
        if self._dead_master is None:
            return {}
        found = mastersocket.pid(self._control_path)
        if found is None or found not in (self._dead_master, mastersocket.SILENT):
            self._dead_master = None  # it has ended, and another one may be there
            return {}
        return planning.leave_master(plan, self._line)

    def _look_whether_to_ask(self) -> None:
        """See whether ssh may ask: a job in the background is stopped for it; unwatched, for good."""
        screen = self._relay.screen
        if screen is not None and not self._standing.attended:
            self._standing.asks = screen.terminal.signals_us()

    def _session_command(self) -> str:
        """Return what puts the shell into the multiplexer's session."""
        shown_on = self._relay.screen
        iutf8 = shown_on is not None and bool(shown_on.terminal.modes[0] & screen.IUTF8)
        utf8 = multiplexer.is_utf8(program.environment_for(self._path, os.environb), iutf8)
        return multiplexer.command(self._multiplexer, self._session_name, utf8, self._resumed)

    def _tags_of(self) -> int:
        """Return how ssh can be made to tag its messages (plan.NO_TAGS, NAMES or IDS)."""
        if self._line.has_keyword("LogVerbose"):
            return planning.NO_TAGS
        if self._configuration:
            return planning.tags_of(self._configuration)
        version = self._ask_version()
        return planning.IDS if version is not None and version >= (8, 7) else planning.NO_TAGS

    def _ask_version(self) -> tuple[int, int] | None:
        return effective.ask_version(self._path, program.environment_for(self._path, os.environb))

    def _pids_of(self, child: PtyChild | PlainChild) -> list[int]:
        """Return the processes of which one is ssh: a script may have started it."""
        below = connection.descendants(child.pid) if program.is_script(self._path) else []
        return [child.pid, *below]

    def _start_child(self, words: Sequence[str]) -> PtyChild | PlainChild:
        environment = program.environment_for(self._path, os.environb)
        if self._kind == STREAM:
            if self._background:
                # "-f" takes standard input away, and kssh has taken the -f.
                null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                os.dup2(null, 0)
                os.close(null)
            return PlainChild(self._path, words, environment)
        if not self._has_pty:
            return PlainChild(self._path, words, environment, heard=True)
        if self._standing.askpass and not (self._standing.asks and self._standing.session):
            # Without kssh ssh would have no terminal to ask on.  This one is a pty of ours.
            environment.setdefault(b"SSH_ASKPASS_REQUIRE", b"force")
        stdout_fd = 1 if self._kind == TUNNEL and not _is_terminal(1) else None  # for a LocalCommand
        if self._relay.screen is None:
            return PtyChild(self._path, words, environment, None, None, None, stdout_fd=stdout_fd)
        user = self._relay.screen.terminal
        terms = user.modes, user.size(), self._relay.stderr_fd
        return PtyChild(self._path, words, environment, *terms, stdout_fd)

    def _open_channel(self) -> log_channel.LogChannel | None:
        try:
            return log_channel.LogChannel(log_channel.folders(os.environ))
        except OSError as error:
            if not self._channel_told:
                self._channel_told = True
                why = f"no log channel ({error.strerror}); judging ssh by its exit status alone"
                self._log.write(notify.ERROR, f"{self._host}: {why}")
            return None

    def _give_up_output(self) -> None:
        """Let go of standard output, as "ssh -N" does once it is connected: who reads it to its end goes on.

        What a LocalCommand has to say has been said by then.
        """
        if self._kind == TUNNEL and not _is_terminal(1):
            _to_nowhere(1)

    def _stand_aside(self) -> None:
        """Leave input and output to an ssh that is not started again: it alone says when they end."""
        for fd in (0, 1):
            _to_nowhere(fd)
        self._stands_aside = True

    def _assume_up(self) -> None:
        """Without a log channel, a run that lasted this long counts as a session from its start."""
        if self._relay.run is not None:
            self._give_up_output()
            self._dispatch(machine.SessionReached(self._relay.run.started))
            self._dispatch(machine.WentUp())

    def _follow(self, run: Run) -> None:
        """Tell the machine how far ssh has come."""
        seen = run.evidence
        if seen.forged:
            self._signal(signal.SIGKILL)
            return
        if run.up and self._kind == TUNNEL:
            self._lookout.hint()  # ssh does something: somebody uses a forward
        if seen.shared and self._master is None:
            self._guard_master()
        if seen.phase >= CONNECTING:
            self._loop.disarm(_MASTER)
        if seen.phase >= CONNECTED and not run.connected:
            run.connected = True
            self._lookout.rest()
        once = self._kind == STREAM and not self._link.rules.restartable
        if once and not self._stands_aside and policy.may_have_run(seen, STREAM):
            self._stand_aside()
        if seen.phase >= AUTHENTICATED and self._kind == TUNNEL:
            self._relay.give_back()  # no prompt follows: Ctrl-C and Ctrl-Z are for kssh again
        if seen.phase == SESSION and not run.session:
            self._relay.begin_session(run)
            if self._relay.run is not run:
                return  # "~&" was typed ahead of it
            self._give_up_output()
            self._guard(run)
            self._dispatch(machine.SessionReached(time.monotonic()))
        if seen.command_sent and self._link.rules.runs_no_command:
            self._dispatch(machine.CommandSent())
            self._kind = self._link.rules.kind
        if not run.up and machine.has_gone_up(seen, self._kind, self._remote_forwards, self._device):
            run.up = True
            missing = wording.missing(seen) if self._kind == TUNNEL else ""
            self._dispatch(machine.WentUp(missing, tuple(self._chosen.learn(seen.allocated))))

    def _child_changed(self) -> None:
        self._hook.reap()
        run = self._relay.run
        ended = None if run is None else run.child.reap()
        if run is not None and ended is not None:
            self._reaped(run, ended)
        # In a container kssh may be the first process, to which what others leave behind is given: the
        # ssh of a jump host outlives the one that started it.
        ours = {*self._hook.pids, *self._lookout.pids}
        if self._relay.run is not None:
            ours.add(self._relay.run.child.pid)
        reap_others(ours)

    def _reaped(self, run: Run, ended: Exit) -> None:
        """ssh has ended: take its last words, then tell the machine."""
        self._loop.disarm(_ASSUMED)
        self._loop.disarm(_MASTER)
        self._loop.disarm(_OPENED)
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
        without = None if left else self._without(run, ended, seen)
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

    def _without(self, run: Run, ended: Exit, seen: Evidence | None) -> multiplexer.Without | None:
        """Tell whether a shell is to be had without a multiplexer, for that is where it failed."""
        if run.greeting is None:
            return None
        self._resumed = self._resumed or run.greeting.begun
        if seen is None:
            return None
        status = ended.code if seen.command_ended else None
        without = multiplexer.without(run.greeting, seen.session_refused, status, run.typed)
        if without is not None:
            self._multiplexer = ""
        return without

    def _exited(
        self,
        ended: Exit,
        seen: Evidence | None,
        left: bool = False,
        unanswered: bool = False,
        without: multiplexer.Without | None = None,
    ) -> None:
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
        self._seen = seen
        refused = seen.remote_refused[-1:] if seen is not None and seen.forward_fatal else []
        our_port = any(self._chosen.refuse(place) for place in refused)
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
            if planning.first_value(self._configuration, "proxyjump", "none") == "none":
                return  # a ProxyCommand goes ways of its own
            pids = connection.descendants(run.child.pid)
        found = connection.of(pids, place)
        # Of a session that is not started again ssh will find out, and kssh can do nothing with it sooner.
        if found is not None and self._link.rules.restartable:
            keepalive_s = planning.keepalive_s(self._configuration, self._settings)
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

    # -- the machine -----------------------------------------------------------------------------

    def _dispatch(self, event: machine.Event) -> None:
        self._link, actions = machine.step(self._link, event)
        for action in actions:
            self._perform(action)
        self._write_record()
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

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, report: Report) -> None:
        if report.event == UP and self._down_since is not None:
            report = report._replace(delay_s=time.monotonic() - self._down_since)
            self._down_since = None
        self._note(report)
        if report.reason:
            self._reason = report.reason
        self._allocated = report.allocated
        if report.event == RETRY:
            self._lookout.look_for_a_way(report, self._seen)
        elif report.event == UP:
            self._lookout.rest()
        console = self._relay.console
        shown = console is not None and console.tell(report)
        if report.event == UP and self._back is not None:
            self._go_to_background()  # first: cron would mail what its command prints
        as_ssh = self._standing.attended or self._kind == STREAM
        if console is not None and console.covered:
            as_ssh = False  # nobody can read what ssh has said
        level = notify.LEVELS[wording.level(report, as_ssh)]
        self._log.write(level, f"{self._host}: {wording.line(report, self._kind)}", shown)
        if report.event in (UP, DOWN, RETRY, GAVE_UP):
            place = {"KSSH_HOST": self._host, "KSSH_LINK": self._name, "KSSH_KIND": self._kind}
            facts = {**wording.hook_facts(report), **place, "KSSH_PID": str(os.getpid())}
            failed = self._hook.run(facts)
            if failed:
                self._log.write(notify.ERROR, f"{self._host}: {failed}")
            self._follow_hook()

    def _follow_hook(self) -> None:
        """Run what waits behind a hook that hangs, also if nothing else happens."""
        self._hook.reap()
        if self._hook.is_waiting:
            self._loop.arm(_HOOK, notify.HOOK_PATIENCE_S + 0.1, self._follow_hook)

    def _go_to_background(self) -> None:
        assert self._back is not None
        self._relay.give_back()
        for sink in self._log.sinks():
            self._loop.forget(sink.fd)
        self._log.detach()
        self._leave_terminal()
        if self._back.front is not None:
            self._loop.forget(self._back.front)
        self._back.detach()
        self._back = None

    def _front_gone(self, events: int) -> None:
        """The command that the caller waits for was killed: the link that it was to start ends too."""
        assert self._back is not None and self._back.front is not None
        self._loop.forget(self._back.front)
        self._dispatch(machine.StopRequested(signal.SIGHUP))

    def _note(self, report: Report) -> None:
        """Write a tunnel's history; no failure may end the link."""
        failed = self._place.append_history(history.pack(time.time(), os.getpid(), report))
        if failed:
            self._log.write(notify.DEBUG, f"{self._host}: no history: {failed}")

    def _write_record(self) -> None:
        state = self._link.state
        starts = self._link.history.starts
        if state == machine.ENDED or (state, starts) == self._recorded:
            return
        if self._recorded[0] != state:
            self._since = time.time()
        self._recorded = (state, starts)
        failed = self._place.write_record(
            record.pack(
                {
                    "version": record.VERSION,
                    "name": self._name,
                    "kind": self._kind,
                    "destination": self._host,
                    "machine": statefile.machine(),
                    "machine_key": statefile.machine_key(),
                    "pid": os.getpid(),
                    "pid_started": self._pid_started,
                    "pid_mark": self._pid_mark,
                    "ssh_pid": self._relay.run.child.pid if self._relay.run is not None else None,
                    "state": state,
                    "since": self._since,
                    "starts": starts,
                    "reason": self._reason,
                    "next": self._next_wall(),
                    "allocated": [{"port": port, "to": printable(to)} for port, to in self._allocated],
                    "forwards": [printable(f) for f in identity.forwards(self._line, self._configuration)],
                    "logfile": self._log.path,
                }
            )
        )
        if failed:
            # A full disk must not end the link; the record is only for those who look.
            self._log.write(notify.DEBUG, f"{self._host}: no state record: {failed}")

    def _next_wall(self) -> float | None:
        left_s = self._loop.left_s(machine.DELAY)
        return None if left_s is None else time.time() + left_s


def _to_nowhere(fd: int) -> None:
    """Let go of what a standard descriptor is open for."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd)
    os.close(null)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


_TIMERS: dict[str, machine.Event] = {
    machine.DELAY: machine.DelayElapsed(),
    machine.KILL: machine.KillElapsed(),
    machine.LIFETIME: machine.LifetimeElapsed(),
}
