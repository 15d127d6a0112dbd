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
import traceback
from collections.abc import Callable, Sequence

from . import effective, escapes, machine, notify, program, record, sshlog, statefile, terminal, wording
from . import plan as planning
from .child import PlainChild, PtyChild
from .daemon import Back, fork
from .errors import STATUS, KsshError, printable
from .evidence import AUTHENTICATED, LEVELS, SESSION, UNREACHABLE, Evidence, level_and_text, untagged
from .kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from .loop import READ, WRITE, Loop
from .outcomes import DOWN, ENDED, FINISHED, GAVE_UP, HOST_KEY, LEFT, RETRY, UP, Exit, Report
from .plan import Plan, Standing
from .policy import HEALTHY_S, Rules
from .settings import Settings
from .sshargs import CommandLine

_ON_TERMINAL = (SHELL, ATTACH, COMMAND)
# What would end kssh without its tidying up; each ends the link in order, then kssh by the same signal.
_STOPPING = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR2", "SIGXCPU", "SIGVTALRM", "SIGPROF")
# A pty hands over what was written to it a moment after its writer has ended.
_PTY_TAIL_MS = 50
_ASSUMED = "assumed up"


def run(
    path: str,
    line: CommandLine,
    configuration: dict[str, list[str]] | None,
    plan: Plan,
    settings: Settings,
    standing: Standing,
) -> int:
    """Keep a link until it ends; return kssh's exit status, or die of the signal that ended it.

    path           the ssh program
    line           the user's command line
    configuration  what "ssh -G" said of it, or None
    plan           what to do with it

    Raises KsshError for a file or a setting that cannot be used, before ssh is started.
    """

    # As ssh does at its start: what is closed of 0 to 2 must not become a file of ours, and a pipe
    # that somebody left open to us would never see its end.
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))

    def serve(back: Back | None) -> Exit:
        supervisor = None
        try:
            supervisor = Supervisor(path, line, configuration, plan, settings, standing, back)
            return supervisor.run()
        except KsshError as error:
            _complain(str(error))
        except Exception as error:
            if supervisor is not None:
                supervisor.close()
            _complain(f"internal error: {type(error).__name__}: {printable(str(error))}")
            if settings.loglevel == "DEBUG":
                traceback.print_exc()
        finally:
            if supervisor is not None:
                supervisor.close()
        return Exit(STATUS)

    ended = fork(serve) if plan.background else serve(None)
    if ended.signal is not None:
        program.die_of(ended.signal)
    return ended.code if ended.code is not None else STATUS


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"kssh: {text}\n".encode("utf-8", "backslashreplace"))


class Run:
    """One run of ssh: its process, its log and what the log said."""

    def __init__(
        self, child: PtyChild | PlainChild, channel: sshlog.LogChannel | None, escape: int | None
    ) -> None:
        self.child = child
        self.channel = channel
        self.evidence = Evidence()
        self.escapes = escapes.Escapes(escape)
        self.started = time.monotonic()
        self.left = False
        self.session = False
        self.up = False

    def close(self) -> None:
        """Close what belongs to this run; ssh has been reaped or goes with its pty."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        self.child.close()


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
        self._plan = plan
        self._settings = settings
        self._standing = standing
        self._back = back
        self._host = printable(line.destination or "")
        self._user_level = LEVELS.get(plan.user_level, LEVELS["INFO"])
        self._remote_forwards = self._count_remote_forwards()
        self._escape = escapes.parse(
            planning.first_value(configuration, "escapechar", (line.values("e") or ["~"])[0])
        )
        self._version: tuple[int, int] | None = None
        if plan.user_level in planning.QUIET_LEVELS:
            self._version = effective.ask_version(path)
        self._loop: Loop | None = None
        self._terminal: terminal.Terminal | None = None
        self._to_user = terminal.Flow()
        self._to_ssh = terminal.Flow()
        self._last_shown = b"\n"
        self._run: Run | None = None
        self._finish: Exit | None = None
        self._abandoned = False
        self._down_since: float | None = None
        self._lock: statefile.Lock | None = None
        self._pidfile: statefile.Pidfile | None = None
        self._record_path: str | None = None
        self._recorded_state = ""
        self._since = time.time()
        self._next: float | None = None
        self._reason = ""
        self._pid_started = 0.0
        self._ssh_lines: notify.SshLines | None = None
        self._no_channel_told = False
        self._stderr_fd = self._separate_stderr()
        rules = Rules(
            plan.kind,
            settings.restart == "always" or plan.kind in (TUNNEL, SHELL, ATTACH),
            standing.attended,
            settings.first_start,
            float(settings.backoff_max_s),
            settings.maxstart,
        )
        self._link = machine.Link(rules)
        self._hook = notify.Hook(settings.hook)
        on_terminal = self._show if standing.attended else None
        self._log = notify.Log(settings.loglevel, settings.logfile, on_terminal)

    # -- life ------------------------------------------------------------------------------------

    def run(self) -> Exit:
        """Keep the link until it ends; return how."""
        self._name, forwards = self._name_link()
        self._forwards = forwards
        holder = self._take_place()
        if holder is not None:
            _complain(f"{self._host}: {self._name} runs already, held by {printable(holder)}; nothing to do")
            return Exit(0)
        if self._settings.pidfile:
            self._pidfile = statefile.Pidfile(self._settings.pidfile)
        self._open_ssh_lines()
        self._loop = Loop()
        self._take_signals()
        self._take_terminal()
        self._dispatch(machine.Started(float(self._settings.maxlifetime_s)))
        while self._finish is None or (len(self._to_user) and not self._abandoned):
            self._watch()
            self._loop.turn()
        return self._finish

    def close(self) -> None:
        """Leave nothing behind; may be called twice."""
        if self._run is not None:
            self._run.close()
            self._run = None
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
        if self._record_path is not None:
            statefile.remove(self._record_path)
            self._record_path = None
        if self._pidfile is not None:
            self._pidfile.remove()
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._hook.disown()
        self._log.close()
        if self._loop is not None:
            self._loop.close()
            self._loop = None

    def _name_link(self) -> tuple[str, list[str]]:
        forwards = [o.letter + o.value for o in self._line.options if o.letter in "LRDw" and o.value]
        values = self._configuration or {}
        if self._configuration is not None:
            forwards = [
                letter + value
                for letter, keyword in (("L", "localforward"), ("R", "remoteforward"), ("D", "dynamicforward"))
                for value in values.get(keyword, [])
            ] + [o.letter + o.value for o in self._line.options if o.letter == "w" and o.value]
        if self._settings.name:
            return self._settings.name, forwards
        key = [*(first for k in ("user", "hostname", "port") for first in values.get(k, [])[:1])]
        key += [*forwards, *self._line.values("F")]
        if self._line.count("M") or self._line.count("S"):
            key += values.get("controlpath", [])
        if not self._configuration:
            key += [self._line.destination or "", *self._line.values("p"), *self._line.values("l")]
        short = [forward.split()[0] for forward in forwards]
        return record.link_name(self._line.destination or "", short, key), forwards

    def _take_place(self) -> str | None:
        """Take the lock of a tunnel and the place of the record; return who holds the lock, or None."""
        try:
            folder, odd = statefile.state_directory(self._settings.state_dir)
        except KsshError:
            if self._settings.state_dir or self._plan.kind == TUNNEL:
                raise
            return None  # a shell needs no record
        if self._plan.kind == TUNNEL:
            if odd:
                self._log.write(notify.ERROR, odd)
            base = os.path.join(folder, f"{statefile.machine()}.{self._name}")
            lock = statefile.Lock(base + ".lock")
            try:
                holder = lock.acquire()
            except OSError as error:
                raise KsshError(f"cannot lock {printable(base)}.lock: {error.strerror}") from error
            if holder is not None:
                return holder
            self._lock = lock
        else:
            self._name = f"{self._name}-{os.getpid()}"
            base = os.path.join(folder, f"{statefile.machine()}.{self._name}")
        self._record_path = base + ".json"
        return None

    def _open_ssh_lines(self) -> None:
        files = self._line.values("E")
        if files:
            try:
                self._ssh_lines = notify.SshLines(files[-1])
            except OSError as error:
                raise KsshError(
                    f"-E {printable(files[-1])}: expected a file to append to ({error.strerror})"
                ) from error
        elif self._line.count("y"):
            self._ssh_lines = notify.SshLines(None)

    def _separate_stderr(self) -> int | None:
        """Return a descriptor for ssh's standard error where it is not the terminal."""
        if self._plan.kind == STREAM or not self._standing.attended or self._plan.background:
            return None
        try:
            return None if os.isatty(2) else 2
        except OSError:
            return None

    def _count_remote_forwards(self) -> int:
        if self._configuration is not None:
            return len(self._configuration.get("remoteforward", []))
        return self._line.count("R")

    # -- signals ---------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        assert self._loop is not None
        for name in _STOPPING:
            signum = getattr(signal, name)
            # What was ignored at the start (nohup, a background job of sh) stays ignored, as with ssh.
            if signal.getsignal(signum) != signal.SIG_IGN:
                self._loop.on_signal(signum, self._stopper(signum))
        self._loop.on_signal(signal.SIGCHLD, self._child_changed)
        self._loop.on_signal(signal.SIGUSR1, lambda: self._dispatch(machine.RetryRequested()))
        if self._plan.kind in _ON_TERMINAL:
            self._loop.on_signal(signal.SIGWINCH, self._resized)
            self._loop.on_signal(signal.SIGCONT, self._continued)

    def _stopper(self, signum: int) -> Callable[[], None]:
        def stop() -> None:
            if signum == signal.SIGHUP and not self._holds_terminal():
                self._dispatch(machine.RetryRequested())
            elif self._finish is not None or self._link.state == machine.STOPPING:
                self._abandoned = True
            else:
                self._dispatch(machine.StopRequested(signum))

        return stop

    def _holds_terminal(self) -> bool:
        return self._standing.attended and not self._log.detached

    def _resized(self) -> None:
        if self._terminal is not None and self._run is not None:
            with contextlib.suppress(OSError):
                self._run.child.resize(self._terminal.size())

    def _continued(self) -> None:
        """Go on after a stop: the shell has given the terminal its own settings meanwhile."""
        if self._terminal is not None and self._terminal.raw and self._terminal.in_foreground():
            with contextlib.suppress(OSError, termios.error):
                self._terminal.make_raw()
        self._resized()

    # -- the terminal ----------------------------------------------------------------------------

    def _take_terminal(self) -> None:
        if self._plan.kind == STREAM or not self._standing.attended:
            return
        stdin = 0 if self._standing.stdin_tty else None
        stdout = 1 if self._plan.kind in _ON_TERMINAL else None
        try:
            self._terminal = terminal.Terminal(stdin, stdout)
            self._to_user = terminal.Flow(self._terminal.blocking)
            if self._plan.kind in _ON_TERMINAL:
                self._terminal.make_raw()
        except (OSError, termios.error) as error:
            raise KsshError(f"cannot use the terminal: {printable(str(error))}") from error

    def _watch(self) -> None:
        """Watch what there is room for, and what there is something for."""
        assert self._loop is not None
        if self._terminal is not None:
            fd_in, fd_out = self._terminal.fd_in, self._terminal.fd_out
            wants_input = self._terminal.raw and self._finish is None and self._to_ssh.has_room
            if fd_in == fd_out:
                mask = (READ if wants_input else 0) | (WRITE if len(self._to_user) else 0)
                self._loop.watch(fd_in, mask, self._terminal_ready)
            else:
                self._loop.watch(fd_in, READ if wants_input else 0, self._terminal_ready)
                self._loop.watch(fd_out, WRITE if len(self._to_user) else 0, self._terminal_ready)
        run = self._run
        if run is not None and run.child.fd is not None:
            mask = (READ if self._to_user.has_room else 0) | (WRITE if len(self._to_ssh) else 0)
            self._loop.watch(run.child.fd, mask, self._pty_ready)

    def _terminal_ready(self, events: int) -> None:
        assert self._terminal is not None
        if events & WRITE:
            self._drain_to_user()
        if events & ~WRITE and self._terminal.raw and self._finish is None:
            data = terminal.read(self._terminal.fd_in)
            if data:
                self._typed(data)
            elif data == b"":
                # Hung up: the window was closed.
                self._forget_terminal()
                self._dispatch(machine.StopRequested(signal.SIGHUP))

    def _forget_terminal(self) -> None:
        assert self._terminal is not None and self._loop is not None
        self._loop.forget(self._terminal.fd_in)
        self._loop.forget(self._terminal.fd_out)
        self._to_user.clear()
        self._terminal.close()
        self._terminal = None

    def _typed(self, data: bytes) -> None:
        run = self._run
        if run is None:
            self._typed_while_waiting(data)
            return
        if run.session:
            if escapes.LEAVE in run.escapes.feed(data):
                run.left = True
        elif self._terminal is not None and any(
            char in data for char in self._terminal.interrupt_characters()
        ):
            run.left = True  # the pty turns the character into a signal for ssh
        self._to_ssh.put(data)
        self._drain_to_ssh()

    def _typed_while_waiting(self, data: bytes) -> None:
        """Enter: now.  q or Ctrl-C: quit.  All else was meant for a session that is gone."""
        if b"q" in data or b"\x03" in data:
            self._finish_waiting()
        elif b"\r" in data or b"\n" in data:
            self._dispatch(machine.RetryRequested())

    def _finish_waiting(self) -> None:
        self._dispatch(machine.StopRequested(signal.SIGINT))
        if self._finish is not None:
            self._finish = Exit(STATUS)

    def _drain_to_user(self) -> None:
        if self._terminal is not None:
            self._to_user.drain(self._terminal.fd_out)

    def _drain_to_ssh(self) -> None:
        if self._run is not None and self._run.child.fd is not None:
            self._to_ssh.drain(self._run.child.fd)

    def _to_screen(self, data: bytes) -> None:
        self._last_shown = data[-1:]
        self._to_user.put(data)
        self._drain_to_user()

    def _show(self, text: str) -> None:
        """Show one line of kssh's own to the person at the terminal."""
        if self._terminal is not None and self._terminal.raw:
            start = "" if self._last_shown == b"\n" else "\r\n"
            self._to_screen(f"{start}kssh: {text}\r\n".encode("utf-8", "backslashreplace"))
        else:
            _complain(text)

    # -- ssh -------------------------------------------------------------------------------------

    def _spawn(self, start: int) -> None:
        """Start ssh; a failure to do so is one more way in which a run can end."""
        channel = self._open_channel()
        plan = planning.make(self._line, self._configuration, self._settings, self._standing)
        if channel is not None:
            shared = planning.shares_connection(plan, self._line, self._configuration)
            planning.add_log_channel(plan, channel.path, shared, self._version, bool(self._line.count("q")))
            if not plan.log:
                channel.close()
                channel = None
        words = self._line.with_options(plan.first, plan.last, plan.without)
        try:
            child = self._start_child(words)
        except KsshError as error:
            if channel is not None:
                channel.close()
            if start == 1:
                raise
            seen = Evidence()
            seen.cause, seen.error = UNREACHABLE, str(error)
            self._exited(Exit(STATUS), seen, left=False)
            return
        self._run = Run(child, channel, self._escape)
        self._to_ssh.clear()
        assert self._loop is not None
        if channel is not None:
            self._loop.watch(channel.fd, READ, lambda events: self._log_ready())
        else:
            self._loop.arm(_ASSUMED, HEALTHY_S, self._assume_up)

    def _start_child(self, words: Sequence[str]) -> PtyChild | PlainChild:
        environment = program.environment_for(self._path, os.environb)
        if self._plan.kind == STREAM:
            return PlainChild(self._path, words, environment)
        if not self._standing.attended and self._standing.askpass:
            # ssh would ask on its terminal, which is a pty of ours that nobody looks at.
            environment.setdefault(b"SSH_ASKPASS_REQUIRE", b"force")
        if self._terminal is None:
            return PtyChild(self._path, words, environment, None, None, None)
        return PtyChild(
            self._path,
            words,
            environment,
            self._terminal.modes,
            self._terminal.size(),
            self._stderr_fd,
        )

    def _open_channel(self) -> sshlog.LogChannel | None:
        try:
            return sshlog.LogChannel(sshlog.folder(os.environ))
        except OSError as error:
            if not self._no_channel_told:
                self._no_channel_told = True
                self._log.write(
                    notify.ERROR,
                    f"{self._host}: no log channel ({error.strerror}); judging ssh by its exit status alone",
                )
            return None

    def _assume_up(self) -> None:
        """Without a log channel, a run that lasted this long counts as a session from its start."""
        if self._run is not None:
            self._dispatch(machine.SessionReached(self._run.started))
            self._dispatch(machine.WentUp())

    def _log_ready(self) -> None:
        run = self._run
        if run is None or run.channel is None:
            return
        lines, is_open = run.channel.read()
        for line in lines:
            self._take_line(run, line)
        if not is_open and run.evidence.spoke:
            assert self._loop is not None
            self._loop.forget(run.channel.fd)  # ssh has closed it: nothing more comes
        self._follow(run)

    def _take_line(self, run: Run, line: bytes) -> None:
        text = os.fsdecode(line)
        run.evidence.feed(text)
        level, _ = level_and_text(text)
        if level <= self._user_level:
            self._show_ssh_line(os.fsencode(untagged(text)))

    def _show_ssh_line(self, line: bytes) -> None:
        """Show a line of ssh's log where the user would have seen it without kssh."""
        if self._ssh_lines is not None:
            self._ssh_lines.write(line)
        elif self._log.detached:
            self._log.write(notify.VERBOSE, f"{self._host}: ssh: {printable(os.fsdecode(line))}")
        elif self._terminal is not None and self._terminal.raw and self._stderr_fd is None:
            self._to_screen(line + sshlog.LINE_END)
        else:
            with contextlib.suppress(OSError):
                os.write(2, line + sshlog.LINE_END)

    def _follow(self, run: Run) -> None:
        """Tell the machine how far ssh has come."""
        seen = run.evidence
        if seen.phase >= AUTHENTICATED and self._plan.kind == TUNNEL and self._terminal is not None:
            self._terminal.restore()  # no prompt follows: Ctrl-C and Ctrl-Z are for kssh again
        if seen.phase == SESSION and not run.session:
            run.session = True
            run.left = False  # an interrupt typed before did not end ssh
            self._dispatch(machine.SessionReached(time.monotonic()))
        if not run.up and machine.has_gone_up(seen, self._plan.kind, self._remote_forwards):
            run.up = True
            self._dispatch(machine.WentUp())

    def _pty_ready(self, events: int) -> None:
        run = self._run
        if run is None or run.child.fd is None:
            return
        if events & WRITE:
            self._drain_to_ssh()
        if events & ~WRITE:
            self._read_pty(run)

    def _read_pty(self, run: Run) -> bool:
        """Take what ssh printed; return whether there was something."""
        assert run.child.fd is not None
        data = terminal.read(run.child.fd)
        if data:
            # ssh logs before it prompts: what it logged comes first.
            self._log_ready()
            self._printed(data)
            return True
        if data == b"" and self._loop is not None:
            self._loop.forget(run.child.fd)
        return False

    def _printed(self, data: bytes) -> None:
        if self._plan.kind in _ON_TERMINAL and self._terminal is not None:
            self._to_screen(data)
            return
        if self._terminal is not None and not self._log.detached:
            run = self._run
            asking = run is not None and run.evidence.phase < AUTHENTICATED and not data.endswith(b"\n")
            if asking and not self._terminal.raw:
                # A prompt.  In the background this stops kssh, as it would stop ssh.
                self._terminal.make_raw()
            if self._terminal.raw:
                self._to_screen(data)
                return
        for line in data.replace(b"\r\n", b"\n").splitlines():
            text = printable(os.fsdecode(line))
            if self._log.detached:
                self._log.write(notify.VERBOSE, f"{self._host}: ssh: {text}")
            else:
                with contextlib.suppress(OSError):
                    os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))

    def _child_changed(self) -> None:
        self._hook.reap()
        run = self._run
        if run is None:
            return
        ended = run.child.reap()
        if ended is not None:
            self._reaped(run, ended)

    def _reaped(self, run: Run, ended: Exit) -> None:
        """ssh has ended: take its last words, then tell the machine."""
        assert self._loop is not None
        self._loop.disarm(_ASSUMED)
        if run.channel is not None:
            self._log_ready()
            for line in run.channel.rest():
                self._take_line(run, line)
            self._loop.forget(run.channel.fd)
        if run.child.fd is not None:
            self._loop.forget(run.child.fd)
            self._read_pty_tail(run)
        seen = run.evidence if run.channel is not None else None
        left = run.left
        run.close()
        self._run = None
        self._to_ssh.clear()
        if self._plan.kind == TUNNEL and self._terminal is not None:
            self._drain_to_user()
            self._terminal.restore()
        self._exited(ended, seen, left)

    def _read_pty_tail(self, run: Run) -> None:
        import select

        poll = select.poll()
        assert run.child.fd is not None
        poll.register(run.child.fd, READ)
        while poll.poll(_PTY_TAIL_MS):
            if not self._read_pty(run):
                break

    def _exited(self, ended: Exit, seen: Evidence | None, left: bool) -> None:
        if self._down_since is None:
            self._down_since = time.monotonic()
        self._dispatch(machine.Exited(time.monotonic(), ended, seen, left, random.random()))

    # -- the machine -----------------------------------------------------------------------------

    def _dispatch(self, event: machine.Event) -> None:
        self._link, actions = machine.step(self._link, event)
        for action in actions:
            self._perform(action)
        self._write_record()

    def _perform(self, action: machine.Action) -> None:
        assert self._loop is not None
        if isinstance(action, machine.Spawn):
            self._spawn(action.start)
        elif isinstance(action, machine.Terminate):
            self._signal(signal.SIGTERM, signal.SIGCONT)
        elif isinstance(action, machine.Kill):
            self._signal(signal.SIGKILL)
        elif isinstance(action, machine.Arm):
            self._loop.arm(action.timer, action.delay_s, lambda: self._elapsed(action.timer))
            if action.timer == machine.DELAY:
                self._next = time.time() + action.delay_s
        elif isinstance(action, machine.Disarm):
            self._loop.disarm(action.timer)
        elif isinstance(action, machine.Tell):
            self._tell(action.report)
        elif isinstance(action, machine.Finish):
            self._finish = action.ended

    def _elapsed(self, timer: str) -> None:
        events: dict[str, machine.Event] = {
            machine.DELAY: machine.DelayElapsed(),
            machine.KILL: machine.KillElapsed(),
            machine.LIFETIME: machine.LifetimeElapsed(),
        }
        self._dispatch(events[timer])

    def _signal(self, *numbers: int) -> None:
        if self._run is not None:
            for number in numbers:
                self._run.child.send_signal(number)

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, report: Report) -> None:
        if report.event == UP and self._down_since is not None:
            report = report._replace(delay_s=time.monotonic() - self._down_since)
            self._down_since = None
        if report.reason:
            self._reason = report.reason
        self._log.write(self._level(report), f"{self._host}: {wording.line(report, self._plan.kind)}")
        if report.event == UP and self._back is not None:
            self._go_to_background()
        if report.event in (UP, DOWN, RETRY, GAVE_UP):
            failed = self._hook.run(self._facts(report))
            if failed:
                self._log.write(notify.ERROR, f"{self._host}: {failed}")

    def _level(self, report: Report) -> int:
        """Say nothing that ssh itself would not have said, until something went wrong."""
        as_ssh = self._standing.attended and report.start == 1 and not report.limit
        if report.event == UP:
            return notify.VERBOSE if as_ssh else notify.INFO
        if report.event == GAVE_UP:
            return notify.VERBOSE if as_ssh and report.outcome != HOST_KEY else notify.ERROR
        if report.event == ENDED:
            quiet = self._standing.attended and report.outcome in (FINISHED, LEFT)
            return notify.VERBOSE if quiet else notify.INFO
        return notify.INFO if report.event == RETRY else notify.DEBUG

    def _go_to_background(self) -> None:
        assert self._back is not None
        if self._terminal is not None:
            self._drain_to_user()
            self._forget_terminal()
        self._log.detached = True
        # From now on nobody is there to answer a prompt.
        self._standing = Standing(False, False, attended=False, askpass=self._standing.askpass)
        self._back.detach()
        self._back = None
        if self._loop is not None and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
            self._loop.on_signal(signal.SIGHUP, self._stopper(signal.SIGHUP))

    def _facts(self, report: Report) -> dict[str, str]:
        """Return what a hook learns, as environment variables."""
        return {
            "KSSH_EVENT": report.event,
            "KSSH_HOST": self._line.destination or "",
            "KSSH_LINK": self._name,
            "KSSH_KIND": self._plan.kind,
            "KSSH_OUTCOME": report.outcome,
            "KSSH_REASON": report.reason,
            "KSSH_START": str(report.start),
            "KSSH_DELAY": "" if report.delay_s is None else f"{report.delay_s:.3f}",
            "KSSH_SESSION": "" if report.session_s is None else f"{report.session_s:.3f}",
            "KSSH_PID": str(os.getpid()),
        }

    def _write_record(self) -> None:
        state = self._link.state
        if self._record_path is None or state == machine.ENDED:
            return
        mark = f"{state} {self._link.history.starts}"
        if mark == self._recorded_state:
            return
        if self._recorded_state.partition(" ")[0] != state:
            self._since = time.time()
        self._recorded_state = mark
        facts = {
            "version": record.VERSION,
            "name": self._name,
            "kind": self._plan.kind,
            "destination": self._host,
            "machine": statefile.machine(),
            "pid": os.getpid(),
            "pid_started": self._process_started(),
            "ssh_pid": self._run.child.pid if self._run is not None else None,
            "state": state,
            "since": self._since,
            "starts": self._link.history.starts,
            "reason": self._reason,
            "next": self._next if state == machine.WAITING else None,
            "forwards": [printable(forward) for forward in self._forwards],
        }
        try:
            statefile.write_by_rename(self._record_path, record.pack(facts))
        except OSError as error:
            # A full disk must not end the link; the record is only for those who look.
            self._log.write(notify.DEBUG, f"{self._host}: no state record: {error.strerror}")

    def _process_started(self) -> float:
        if not self._pid_started:
            import psutil  # 20 ms, spent while ssh shakes hands

            self._pid_started = psutil.Process().create_time()
        return self._pid_started


