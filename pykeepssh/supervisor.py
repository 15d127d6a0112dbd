"""The loop that keeps one link: feeds events to the machine, performs the actions it asks for.

Reads the clock and randomness.  Must not know why an action was chosen.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import signal
import termios
import time
from collections.abc import Callable, Sequence

import pexpect

from . import (
    connection,
    effective,
    escapes,
    history,
    identity,
    lookup,
    machine,
    network,
    notify,
    plan as planning,
    policy,
    program,
    record,
    sshlog,
    statefile,
    terminal,
    wording,
)
from .child import PIPE_BYTES, PlainChild, PtyChild
from .console import QUIT, RETRY_NOW, SUSPEND, Console
from .errors import STATUS, KsshError, printable
from .evidence import (
    AUTHENTICATED,
    CONNECTED,
    CONNECTING,
    LEVELS,
    SESSION,
    Evidence,
    level_and_text,
    untagged,
)
from .kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from .loop import READ, WRITE, Loop
from .outcomes import DOWN, GAVE_UP, LOST, RETRY, UNREACHABLE, UNRESOLVED, UP, Exit, Report
from .plan import Plan, Standing
from .policy import HEALTHY_S, Rules
from .settings import Settings
from .sshargs import CommandLine

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
# A pty hands over what was written to it a moment after its writer has ended.
_PTY_TAIL_S = 0.05
# A pty gives 4 kB at a time.  Reading again takes less than half of what a turn of the loop takes; the
# limit is for the keyboard, which waits meanwhile.
_READS_A_TURN = 16
# Output that comes faster than this between two reads of the pipe is left to gather for a moment when a
# read took little: ssh writes 4 kB at a time, and to be woken for each costs more than to move them.
# Measured (tests/bench/terminal.py): 0.87 to 0.91 of plain ssh's throughput without, 0.90 to 0.98 with
# it; 0.1 to 0.8 ms and 4 to 64 kB make no difference that stands out.
_STEADY_S = 0.002
_LITTLE_BYTES = 16384
_GATHER_S = 0.0002
# Timers beside the machine's.
_ASSUMED = "assumed up"
_OPENED = "path opened"
_HOOK = "hook"
_OPENED_S = 0.1
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
        program.complain(str(error))
    except Exception as error:  # noqa: BLE001 - the terminal is given back whatever happened
        if supervisor is not None:
            supervisor.close()
        program.complain(f"internal error: {type(error).__name__}: {printable(str(error))}")
        if settings.loglevel == "DEBUG":
            import traceback  # 5 ms and 1 MB, only for a fault of ours

            traceback.print_exc()
    finally:
        if supervisor is not None:
            supervisor.close()
    return Exit(STATUS)


class Run:
    """One run of ssh: its process, its log, what the log said, and what the user typed to it."""

    def __init__(
        self, child: PtyChild | PlainChild, channel: sshlog.LogChannel | None, escape: int | None
    ) -> None:
        self.child = child
        self.channel = channel
        self.evidence = Evidence()
        self.escapes = escapes.Escapes(escape)
        self.to_ssh = terminal.Flow()
        self.readable = True  # somebody still has the pty open
        self.piping = child.pipe is not None  # and the pipe
        self.printed = False  # something came through it
        self.taken = 0.0  # when it was read last
        self.line_begun = False  # ssh printed the beginning of one where nobody sits at the terminal
        self.started = time.monotonic()
        self.left = False
        self.interrupted = False  # by a character that the terminal would have sent a signal for
        self.connected = False
        self.session = False
        self.up = False
        self.prompted = False  # ssh has asked for something before the session
        self.prompt = b""  # that, and what was typed and echoed behind it
        self.answered = False  # and something was typed after that
        self.echoes = False  # and the end of that line has not come back yet

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
        self._kind = plan.kind
        self._background = plan.background
        self._settings = settings
        self._standing = standing
        self._back = back
        self._host = printable(line.destination or "")
        self._name = settings.name or identity.name(line, configuration)
        self._remote_forwards = identity.remote_forwards(line, configuration)
        self._user_level = LEVELS.get(plan.user_level, LEVELS["INFO"])
        self._version: tuple[int, int] | None = None
        shares = planning.shares_connection(plan, line, configuration)
        if shares or plan.user_level in planning.QUIET_LEVELS:
            self._version = effective.ask_version(path, program.environment_for(path, os.environb))
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
        )
        self._link = machine.Link(rules)
        self._loop = Loop()
        self._lookout = network.Lookout(
            self._loop, self._path_opened, self._network_changed, self._found_dead, random.random
        )
        self._server: tuple[str, int] | None = None  # where ssh connected to last, or its first hop
        self._lookup: lookup.Lookup | None = None  # while ssh cannot find the host's name
        self._seen: Evidence | None = None  # of the last run
        self._run: Run | None = None
        self._finish: Exit | None = None
        self._abandoned = False  # a second signal: what the terminal did not take is given up
        self._down_since: float | None = None
        self._reason = ""

        self._screen: terminal.Screen | None = None
        self._console: Console | None = None  # only where the session is on the terminal
        self._stderr_fd = self._separate_stderr(plan)
        # Not where another program than ssh may ask whether its output goes to a terminal, nor where a
        # master's words go elsewhere: they may say that the session got none.
        local_commands = planning.first_value(configuration, "permitlocalcommand", "yes") != "no"
        unheard = shares and self._stderr_fd is not None
        self._pipes = not (local_commands or unheard or program.is_script(path))
        self._channel_told = False
        self._ssh_lines: notify.SshLines | None = None
        self._hook = notify.Hook(settings.hook)
        # ssh's -q is a word about its own lines and kssh's; only KSSH_LOGLEVEL says otherwise.
        quiet = plan.user_level == "QUIET" and not settings.given & {"LOGLEVEL", "LOGFILE"}
        level = "QUIET" if quiet else settings.loglevel
        self._log = notify.Log(level, settings.logfile, self._show if standing.attended else None)
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
        self._open_ssh_lines()
        self._take_signals()
        self._take_terminal()
        if self._back is not None and self._back.front is not None:
            self._loop.watch(self._back.front, READ, self._front_gone)
        self._note(Report(history.STARTED))
        self._dispatch(machine.Started(float(self._settings.maxlifetime_s)))
        while self._finish is None or (self._screen and len(self._screen.flow) and not self._abandoned):
            self._watch()
            self._loop.turn()
        return self._finish

    def close(self) -> None:
        """Leave nothing behind; may be called twice."""
        if self._screen is not None:
            self._screen.terminal.close()
            self._screen = None
        if self._run is not None:
            run, self._run = self._run, None
            with contextlib.suppress(pexpect.ExceptionPexpect, OSError):
                run.close()  # an ssh that would not go yet has lost its pty
        self._place.leave()
        self._hook.disown()
        self._log.close()
        self._lookout.close()
        self._loop.close()

    def _take_place(self) -> str | None:
        """Take the lock and the pidfile; return who holds the lock, or None."""
        if self._settings.pidfile:
            statefile.Pidfile.check(self._settings.pidfile)
        name = self._name if self._kind == TUNNEL else f"{self._name}-{os.getpid()}"
        try:
            odd = self._place.open(self._settings.state_dir, name)
        except KsshError:
            if self._settings.state_dir or self._kind == TUNNEL:
                raise
            odd = None  # a shell needs no record
        if odd and self._kind == TUNNEL:
            self._log.write(notify.ERROR, odd)
        holder = self._place.lock() if self._kind == TUNNEL else None
        if holder is None and self._settings.pidfile:
            self._place.write_pidfile(self._settings.pidfile)
        return holder

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

    def _separate_stderr(self, plan: Plan) -> int | None:
        """Return a descriptor for ssh's standard error where it is not the terminal."""
        if plan.kind == STREAM or not self._standing.attended or plan.background:
            return None
        try:
            return None if os.isatty(2) else 2
        except OSError:
            return None

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
        if self._kind in _ON_TERMINAL:
            self._loop.on_signal(signal.SIGWINCH, self._resized)
            self._loop.on_signal(signal.SIGCONT, self._continued)
            if signal.getsignal(signal.SIGTSTP) != signal.SIG_IGN:
                self._loop.on_signal(signal.SIGTSTP, self._suspend)
        for signum in (signal.SIGCHLD, signal.SIGCONT, signal.SIGWINCH):
            # tcsetattr(3) that a background process is stopped in must go on after "fg".
            signal.siginterrupt(signum, False)

    def _stopper(self, signum: int) -> Callable[[], None]:
        def stop() -> None:
            if signum == signal.SIGHUP and not self._standing.session:
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

    def _resized(self) -> None:
        if self._screen is not None:
            self._screen.resized()
        if self._screen is not None and self._run is not None:
            with contextlib.suppress(OSError):
                self._run.child.resize(self._screen.terminal.size())
        if self._console is not None:
            self._console.show_status()

    def _continued(self) -> None:
        """Go on after a stop from outside: the shell has given the terminal its own settings."""
        if self._screen is not None and self._screen.terminal.raw:
            if self._screen.terminal.in_foreground():
                with contextlib.suppress(OSError, termios.error):
                    self._screen.terminal.make_raw()
            self._resized()

    def _suspend(self, by_key: bool = False) -> None:
        """Stop as a job of the shell, with the terminal as the shell left it; go on when continued.

        by_key  the person typed what stops all of a job, such as the script that started kssh

        ssh goes on meanwhile: it answers keepalives, and its output waits in pipe and pty.
        """
        self._lookout.look_away()
        if self._run is not None:
            self._read_pipe(self._run)  # the first output of all sets what the next line takes back
            self._run.child.set_output_waits(False)
            self._read_pipe(self._run)  # an ssh that waits already goes on
        screen = self._screen
        by_key = by_key and screen is not None and screen.terminal.signals_us()
        whole_job = by_key or self._back is not None  # the front of -f is of it
        was_raw = screen is not None and screen.terminal.raw
        if screen is not None:
            screen.clear_status()
            screen.drain()
            screen.terminal.restore()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0 if whole_job else os.getpid(), signal.SIGTSTP)
        # Here kssh stands still; in a session without a job-control shell the kernel goes straight on.
        signal.signal(signal.SIGTSTP, handler)
        if screen is not None and was_raw:
            with contextlib.suppress(OSError, termios.error):
                screen.terminal.make_raw()  # in the background this stops kssh again
            self._resized()
            if self._run is not None and self._run.prompted and not self._run.session:
                self._print(self._run.prompt)  # as ssh does: the shell has written below it
        if self._run is not None:
            self._run.child.set_output_waits(True)

    # -- the terminal ----------------------------------------------------------------------------

    def _take_terminal(self) -> None:
        if self._kind == STREAM or not self._standing.attended:
            return
        stdin = 0 if self._standing.stdin_tty else None
        stdout = 1 if self._kind in _ON_TERMINAL else None
        try:
            taken = terminal.Terminal(stdin, stdout)
            no_colour = bool(os.environ.get("NO_COLOR"))
            self._screen = terminal.Screen(taken, os.environ.get("TERM", ""), no_colour)
            if self._kind in _ON_TERMINAL:
                taken.make_raw()
                wishes = self._settings.bell, self._settings.stall_notice
                self._console = Console(
                    self._screen, self._loop, self._host, *wishes, self._lookout.hint, self._quit
                )
        except (OSError, termios.error) as error:
            raise KsshError(f"cannot use the terminal: {printable(str(error))}") from error

    def _watch(self) -> None:
        """Watch what there is room for, and what there is something for."""
        run = self._run
        if self._screen is not None:
            fd_in, fd_out = self._screen.terminal.fd_in, self._screen.terminal.fd_out
            reads = self._screen.terminal.raw and self._finish is None
            reads = reads and (run is None or run.to_ssh.has_room)
            writes = len(self._screen.flow) > 0
            if fd_in == fd_out:
                self._loop.watch(fd_in, reads * READ | writes * WRITE, self._terminal_ready)
            else:
                self._loop.watch(fd_in, reads * READ, self._terminal_ready)
                self._loop.watch(fd_out, writes * WRITE, self._terminal_ready)
        if run is not None and run.child.fd is not None:
            takes = self._screen is None or not len(self._screen.flow)
            writes = len(run.to_ssh) > 0
            self._loop.watch(run.child.fd, (takes and run.readable) * READ | writes * WRITE, self._ssh_ready)
            if run.child.pipe is not None:
                # Behind the pty, so that poll(2) reports an answer of ssh's before what it is older than.
                self._loop.watch(run.child.pipe, (takes and run.piping) * READ, self._pipe_ready)

    def _terminal_ready(self, events: int) -> None:
        screen = self._screen
        if screen is None:
            return
        if events & WRITE:
            screen.drain()
            if self._run is not None and self._run.child.pipe is None:
                self._read_more(self._run)
        if events & ~WRITE and screen.terminal.raw and self._finish is None:
            data = terminal.read(screen.terminal.fd_in)
            if data:
                self._typed(data)
            elif data == b"":
                self._forget_terminal()  # hung up: the window was closed
                self._dispatch(machine.StopRequested(signal.SIGHUP))

    def _forget_terminal(self) -> None:
        if self._console is not None:
            self._console.close()
        if self._screen is not None:
            self._loop.forget(self._screen.terminal.fd_in)
            self._loop.forget(self._screen.terminal.fd_out)
            self._screen.terminal.close()
            self._screen = self._console = None

    def _leave_terminal(self) -> None:
        """From now on nobody is there to answer a prompt."""
        self._forget_terminal()
        self._standing = Standing(False, False, attended=False, askpass=self._standing.askpass)

    def _typed(self, data: bytes) -> None:
        """Take what the person typed: for ssh, or for kssh while there is no session."""
        run, console = self._run, self._console
        if console is not None and console.waits and (run is None or not run.prompted):
            self._typed_while_waiting(console.key(data))
        elif run is not None and run.session:
            self._typed_in_session(run, data)
        elif run is not None:
            self._typed_before_session(run, data)
        self._drain_to_ssh()

    def _typed_in_session(self, run: Run, data: bytes) -> None:
        if self._console is not None and self._console.rest_of_line(data):
            return
        if self._is_signal(run, data):  # without a pty on the remote side they are for ssh
            return
        for part in run.escapes.feed(data):
            if isinstance(part, bytes):
                run.to_ssh.put(part)
            elif part == escapes.LEAVE:
                run.left = True
            elif part == escapes.SUSPEND:
                self._print(run.escapes.character + b"^Z [suspend ssh]\r\n")
                self._suspend()
            else:
                self._leave_in_background(run)
                return
        if self._console is not None:
            self._console.typed(data)

    def _typed_before_session(self, run: Run, data: bytes) -> None:
        run.answered = run.echoes = True
        if not self._is_signal(run, data):
            run.to_ssh.put(data)

    def _is_signal(self, run: Run, data: bytes) -> bool:
        """Do what characters of the terminal ask for; return whether that is all that they are for."""
        assert self._screen is not None
        if not run.child.interprets_signals():
            return False
        interrupt, suspend = self._screen.terminal.signal_characters()
        if any(char in data for char in suspend):
            self._suspend(by_key=True)  # the kernel would not stop ssh on a pty of ours
            return True
        if any(char in data for char in interrupt):
            run.left = run.interrupted = True  # the pty turns the character into a signal for ssh
        return False

    def _typed_while_waiting(self, meaning: str) -> None:
        if meaning == QUIT:
            self._quit()
        elif meaning == SUSPEND:
            self._suspend(by_key=True)
        elif meaning == RETRY_NOW and self._run is None:
            self._dispatch(machine.RetryRequested())

    def _quit(self) -> None:
        self._dispatch(machine.StopRequested(signal.SIGINT, STATUS))

    def _drain_to_ssh(self) -> None:
        if self._run is not None and self._run.child.fd is not None:
            self._run.to_ssh.drain(self._run.child.fd)

    def _print(self, data: bytes) -> None:
        if self._screen is not None:
            self._screen.relay(data)

    def _show(self, text: str) -> None:
        """Show one line of kssh's own to the person at the terminal."""
        if self._screen is not None and self._screen.terminal.raw:
            self._screen.line(f"kssh: {text}")
        else:
            program.complain(text)

    def _leave_in_background(self, run: Run) -> None:
        """Do what "~&" asks for: the caller gets its terminal back, the session goes on to its end.

        A second process holds ssh's pty, without which ssh would hang up; like ssh it sends the end
        of input and shows what still comes.
        """
        assert self._screen is not None and run.child.fd is not None
        self._print(run.escapes.character + b"& [backgrounded]\r\n")
        run.to_ssh.put(b"\x04")
        self._drain_to_ssh()
        out = self._screen.terminal.fd_out
        self._screen.terminal.restore()
        sources = self._let_go(run)
        if run.channel is not None:
            self._loop.forget(run.channel.fd)
            run.channel.close()  # ssh would stop for a log that nobody reads
            run.channel = None
        if os.fork() == 0:
            try:
                signal.set_wakeup_fd(-1)
                for name in _STOPPING:
                    if callable(signal.getsignal(getattr(signal, name))):
                        signal.signal(getattr(signal, name), signal.SIG_DFL)
                terminal.pass_on(sources, out, self._screen.flow)
            finally:
                os._exit(0)
        run.child.abandon()
        self._screen.flow.clear()  # the other process writes it
        self._run = None
        self._finish = Exit(0)

    # -- ssh -------------------------------------------------------------------------------------

    def _spawn(self, start: int) -> None:
        """Start ssh; a failure to do so is one more way in which a run can end."""
        channel = self._open_channel()
        plan = planning.make(self._line, self._configuration, self._settings, self._standing)
        if self._kind == TUNNEL and self._link.history.sessions:
            # The socket of a "-L PATH:…" outlives the ssh that made it.
            plan.add("StreamLocalBindUnlink", "yes")
        if self._kind == SHELL and self._settings.resume != "off":
            planning.add_resume(plan, self._settings.resume, f"kssh-{statefile.machine()}-{os.getpid()}")
        if channel is not None:
            shared = planning.shares_connection(plan, self._line, self._configuration)
            planning.add_log_channel(plan, channel.path, shared, self._version, bool(self._line.count("q")))
            if not plan.log:
                channel.close()
                channel = None
        words = self._line.with_options(plan.first, plan.last, plan.without)
        try:
            child = self._start_child(words, piped=self._pipes and channel is not None)
        except KsshError as error:
            if channel is not None:
                channel.close()
            if start == 1:
                raise
            seen = Evidence()
            seen.cause, seen.error = UNREACHABLE, str(error)
            self._exited(Exit(STATUS), seen)
            return
        self._run = Run(child, channel, self._escape)
        if channel is not None:
            self._loop.watch(channel.fd, READ, lambda events: self._log_came())
        else:
            self._loop.arm(_ASSUMED, HEALTHY_S, self._assume_up)
        if self._console is not None:
            self._console.connecting()

    def _start_child(self, words: Sequence[str], piped: bool) -> PtyChild | PlainChild:
        environment = program.environment_for(self._path, os.environb)
        if self._kind == STREAM:
            if self._background:
                # "-f" takes standard input away, and kssh has taken the -f.
                null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                os.dup2(null, 0)
                os.close(null)
            return PlainChild(self._path, words, environment)
        if not self._standing.attended and self._standing.askpass:
            # ssh would ask on its terminal, which is a pty of ours that nobody looks at.
            environment.setdefault(b"SSH_ASKPASS_REQUIRE", b"force")
        if self._screen is None:
            return PtyChild(self._path, words, environment, None, None, None)
        user = self._screen.terminal
        piped = piped and self._kind in _ON_TERMINAL
        return PtyChild(self._path, words, environment, user.modes, user.size(), self._stderr_fd, piped)

    def _open_channel(self) -> sshlog.LogChannel | None:
        try:
            return sshlog.LogChannel(sshlog.folder(os.environ))
        except OSError as error:
            if not self._channel_told:
                self._channel_told = True
                why = f"no log channel ({error.strerror}); judging ssh by its exit status alone"
                self._log.write(notify.ERROR, f"{self._host}: {why}")
            return None

    def _assume_up(self) -> None:
        """Without a log channel, a run that lasted this long counts as a session from its start."""
        if self._run is not None:
            self._dispatch(machine.SessionReached(self._run.started))
            self._dispatch(machine.WentUp())

    def _log_came(self) -> None:
        run = self._run
        if run is not None and run.session:
            self._read_more(run)  # what ssh printed before it logged comes first
        elif run is not None and run.echoes:
            self._read_pty(run)
        self._log_ready()

    def _log_ready(self) -> None:
        run = self._run
        if run is not None:
            self._read_log(run)
            self._follow(run)

    def _read_log(self, run: Run) -> None:
        if run.channel is None:
            return
        lines, is_open = run.channel.read()
        for line in lines:
            self._take_line(run, line)
        if not is_open and run.evidence.spoke:
            self._loop.forget(run.channel.fd)  # ssh has closed it: nothing more comes

    def _read_log_first(self, run: Run) -> None:
        """Read what ssh logged before it printed: it logs before it prompts."""
        self._read_log(run)
        if run.evidence.shared:
            # A master's client prints nothing of its own, and not all versions log that it began.
            run.evidence.reach(SESSION)

    def _take_line(self, run: Run, line: bytes) -> None:
        text = os.fsdecode(line)
        run.evidence.feed(text)
        level, _ = level_and_text(text)
        if level <= self._user_level:
            self._show_ssh_line(run, os.fsencode(untagged(text)))
        if run.up and self._kind == TUNNEL:
            self._lookout.hint()  # ssh does something: somebody uses a forward

    def _show_ssh_line(self, run: Run, line: bytes) -> None:
        """Show a line of ssh's log where the user would have seen it without kssh."""
        if self._ssh_lines is not None:
            self._ssh_lines.write(line)
        elif self._log.detached:
            self._log.write(notify.VERBOSE, f"{self._host}: ssh: {printable(os.fsdecode(line))}")
        elif self._screen is not None and self._screen.terminal.raw and self._stderr_fd is None:
            if self._console is not None and self._console.waits and not run.prompted:
                self._console.hold_line(line)
            else:
                if run.session:
                    self._empty_pipe(run)
                self._print(line + sshlog.LINE_END)
        else:
            with contextlib.suppress(OSError):
                os.write(2, line + sshlog.LINE_END)

    def _follow(self, run: Run) -> None:
        """Tell the machine how far ssh has come."""
        seen = run.evidence
        if seen.phase >= CONNECTED and not run.connected:
            run.connected = True
            self._lookout.rest()
        if seen.phase >= AUTHENTICATED and self._kind == TUNNEL and self._screen is not None:
            self._screen.drain()
            self._screen.terminal.restore()  # no prompt follows: Ctrl-C and Ctrl-Z are for kssh again
        if seen.phase == SESSION and not run.session:
            for _ in range(_READS_A_TURN):
                # Said before the session, such as a banner: it comes before the session's output.  If all
                # is over by now, it cannot be told from what ssh says at the end, which comes after it.
                if seen.command_ended or not self._read_pty(run, follows=False):
                    break
            run.session = True
            run.left = run.interrupted = False  # an interrupt typed before did not end ssh
            self._guard(run)
            self._dispatch(machine.SessionReached(time.monotonic()))
        if not run.up and machine.has_gone_up(seen, self._kind, self._remote_forwards):
            run.up = True
            self._dispatch(machine.WentUp())

    def _ssh_ready(self, events: int) -> None:
        run = self._run
        if run is None:
            return
        if events & WRITE:
            self._drain_to_ssh()
        if events & ~WRITE:
            self._read_more(run)

    def _pipe_ready(self, events: int) -> None:
        run = self._run
        if run is None:
            return
        taken = self._read_pipe(run)
        now = time.monotonic()
        if 0 < taken < _LITTLE_BYTES and now - run.taken < _STEADY_S:
            time.sleep(_GATHER_S)
        run.taken = now

    def _read_more(self, run: Run) -> None:
        """Take what ssh printed as long as there is more, and the terminal takes it."""
        for _ in range(_READS_A_TURN):
            if (self._screen is not None and len(self._screen.flow)) or not self._read_ssh(run):
                return

    def _read_ssh(self, run: Run) -> bool:
        """Take what ssh printed; return whether there was something."""
        return self._read_pty(run) or self._read_pipe(run) > 0

    def _read_pipe(self, run: Run) -> int:
        """Take some of the session's output; return how many bytes."""
        if run.child.pipe is None or not run.piping:
            return 0
        data = terminal.read(run.child.pipe)
        if data:
            if not run.printed:
                run.printed = True
                self._read_log_first(run)  # ssh says there that the session begins, and if it got no terminal
                self._follow(run)
                run.child.set_output_waits(True)  # whoever writes has made it non-blocking before that
            if run.evidence.pty_refused and self._screen is not None:
                data = self._screen.terminal.processed(data)
            if self._console is not None:
                self._console.answered()
            self._print(data)
        run.piping = data != b""
        return len(data or b"")

    def _empty_pipe(self, run: Run) -> None:
        """Take what came through the pipe before what ssh says now: it is there, and no more than this."""
        for _ in range(PIPE_BYTES // terminal.CHUNK_BYTES + 1):
            if (self._screen is not None and len(self._screen.flow) > PIPE_BYTES) or not self._read_pipe(run):
                return

    def _read_pty(self, run: Run, follows: bool = True) -> bool:
        """Take what came through the pty; return whether there was something.

        That is what ssh itself says: before the session, in answer to "~?" and when all is over.  Then
        the pty is raw no more, and what came through the pipe is older than this; an answer is older
        than the echo of what was typed behind it.
        """
        if run.child.fd is None or not run.readable:
            return False
        data = terminal.read(run.child.fd)
        if data:
            said = data
            if not run.session:
                if run.echoes and b"\n" in data:
                    # The end of an answer is echoed before ssh has it, and a new prompt ends no line.
                    run.echoes = False
                    echo, newline, said = data.rpartition(b"\n")
                    self._printed(run, echo + newline)
                self._read_log_first(run)
            refused = run.evidence.pty_refused
            if run.evidence.shared and run.child.pipe is not None:
                for line in data.splitlines():
                    run.evidence.feed_master(os.fsdecode(line))
            if run.session and run.evidence.pty_refused == refused and not run.child.is_raw():
                self._empty_pipe(run)
            if said:
                self._printed(run, said)
            if not run.session and follows:
                self._follow(run)
        run.readable = data != b""  # or every process has closed the pty; SIGCHLD follows
        return bool(data)

    def _printed(self, run: Run, data: bytes) -> None:
        if run.evidence.address is None and run.evidence.phase < AUTHENTICATED:
            for line in data.splitlines():
                run.evidence.feed_jump(os.fsdecode(line))
            whole = run.evidence.phase < CONNECTED and not run.prompted and data.endswith(b"\n")
            if whole and self._console is not None and self._console.waits:
                for line in data.splitlines():
                    self._console.hold_line(line)  # as ssh's own about a retry
                return
        if not run.session and run.channel is not None:  # without it nobody knows when a session begins
            run.prompt = (run.prompt + data).rpartition(b"\n")[2]
        if self._screen is not None:
            if not run.session and run.evidence.phase < AUTHENTICATED and not data.endswith(b"\n"):
                if self._console is not None:
                    self._console.settle()
                run.prompted, run.answered = True, False
                if not self._screen.terminal.raw:
                    # A tunnel asks.  In the background this stops kssh, as it would stop ssh.
                    try:
                        self._screen.terminal.make_raw()
                    except (OSError, termios.error):
                        self._leave_terminal()  # nobody is there any more
            if self._screen is not None and self._screen.terminal.raw:
                if self._console is not None:
                    self._console.answered()
                self._print(data)
                return
        *lines, last = (line.rstrip(b"\r") for line in data.split(b"\n"))  # the pty adds one to ssh's own
        if lines and run.line_begun and not lines[0]:
            del lines[0]  # its end alone: what stands before it has been said
        run.line_begun = bool(last)
        for line in [*lines, last] if last else lines:
            self._say_for_ssh(line)

    def _say_for_ssh(self, line: bytes) -> None:
        text = printable(os.fsdecode(line))
        if self._log.detached:
            self._log.write(notify.VERBOSE, f"{self._host}: ssh: {text}")
        else:
            with contextlib.suppress(OSError):
                os.write(2, f"{text}\n".encode("utf-8", "backslashreplace"))

    def _let_go(self, run: Run) -> list[int]:
        """Watch ssh's output no more; return where it comes."""
        sources = [fd for fd in (run.child.pipe, run.child.fd) if fd is not None]
        for fd in sources:
            self._loop.forget(fd)
        return sources

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
        self._loop.disarm(_ASSUMED)
        self._loop.disarm(_OPENED)
        if not run.session:
            self._log_came()
        self._let_go(run)
        while self._read_pipe(run):
            pass
        while run.child.fd is not None and run.readable and terminal.wait_readable(run.child.fd, _PTY_TAIL_S):
            if not self._read_pty(run):
                break
        if run.channel is not None:
            self._log_ready()
            for line in run.channel.rest():
                self._take_line(run, line)
            self._loop.forget(run.channel.fd)
        if self._console is not None:
            self._console.session_gone()
        seen = run.evidence if run.channel is not None else None
        run.close()
        self._run = None
        self._lookout.guard(None, 0, 0.0)
        if self._kind == TUNNEL and self._screen is not None:
            self._screen.drain()
            self._screen.terminal.restore()
        if run.interrupted:
            self._interrupt_job(signal.SIGQUIT if ended.signal == signal.SIGQUIT else signal.SIGINT)
        self._exited(ended, seen, run.left, run.prompted and not run.answered)

    def _interrupt_job(self, signum: int) -> None:
        """Let all of the job have the signal that the person typed, such as the script that started kssh.

        A shell that waits for kssh goes on with its script unless it had the signal as well.
        """
        if self._screen is not None and self._screen.terminal.signals_us():
            before = signal.signal(signum, signal.SIG_IGN)
            os.kill(0, signum)
            signal.signal(signum, before)

    def _exited(
        self, ended: Exit, seen: Evidence | None, left: bool = False, unanswered: bool = False
    ) -> None:
        now = time.monotonic()
        if self._down_since is None:
            self._down_since = now
        self._seen = seen
        self._dispatch(machine.Exited(now, ended, seen, left, random.random(), unanswered))

    # -- the network -----------------------------------------------------------------------------

    def _guard(self, run: Run) -> None:
        """Look after the connection of a session, and remember where it goes."""
        if run.evidence.shared:
            return  # the connection is another ssh's
        pids, place = [run.child.pid], run.evidence.address
        if place is None:
            if planning.first_value(self._configuration, "proxyjump", "none") == "none":
                return  # a ProxyCommand goes ways of its own
            pids = connection.descendants(run.child.pid)
        found = connection.of(pids, place)
        if found is not None:
            self._server = found.remote, found.remote_port
            if not self._link.rules.restartable:
                return  # ssh will find out, and kssh can do nothing with it sooner
            keepalive_s = planning.keepalive_s(self._configuration, self._settings)
            self._lookout.guard(found, 2 if self._kind == TUNNEL else 3, keepalive_s)

    def _look_out(self, report: Report) -> None:
        """Look for a way back for as long as there is none."""
        knocks = policy.worth_knocking(report.outcome, self._seen)
        # A session that was lost is started again at once; should the path be dead, that ssh will
        # sit on a lost packet while a knock each second finds out first that the path is back.
        if report.outcome == LOST and report.delay_s == 0:
            knocks = True
        if report.outcome != UNRESOLVED:
            self._lookup = None
        elif self._lookup is None:
            name = planning.first_value(self._configuration, "hostname", self._line.destination or "")
            family = planning.first_value(self._configuration, "addressfamily", "any")
            self._lookup = lookup.Lookup(name, family)
        if report.delay_s == math.inf:
            return
        if self._lookup is not None:
            self._lookout.wait(self._lookup)
        elif report.outcome in (LOST, UNREACHABLE):
            place = self._knock_place()
            if self._lookout.opened_once and (self._seen is None or self._seen.address != place):
                place = None  # it answers, and the host behind it, or elsewhere, does not
            self._lookout.wait(network.Knock(*place) if knocks and place is not None else None)

    def _path_opened(self) -> None:
        run = self._run
        if run is None:
            self._dispatch(machine.PathOpened())
        elif not run.connected:
            # This ssh may be told of the same good news any moment.
            self._loop.arm(_OPENED, _OPENED_S, self._still_not_connected)

    def _still_not_connected(self) -> None:
        run = self._run
        if run is None or run.connected:
            return
        if self._lookup is not None:
            lost = run.evidence.phase < CONNECTING  # an ssh that has the address needs no name
        else:
            # Only ssh's own connect to that very place: it may be looking a name up, try another
            # address first, or be on its way through a jump host that did answer.
            lost = run.evidence.phase == CONNECTING and run.evidence.address == self._knock_place()
        if lost:
            self._dispatch(machine.PathOpened())

    def _knock_place(self) -> tuple[str, int] | None:
        """Where to knock: where ssh connected to last, or tried to."""
        return self._server or (self._seen.address if self._seen is not None else None)

    def _network_changed(self) -> None:
        if self._run is None:
            self._dispatch(machine.RetryRequested())

    def _found_dead(self, why: str) -> None:
        self._dispatch(machine.LinkFoundDead(why))

    # -- the machine -----------------------------------------------------------------------------

    def _dispatch(self, event: machine.Event) -> None:
        self._link, actions = machine.step(self._link, event)
        for action in actions:
            self._perform(action)
        self._write_record()

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
            self._finish = action.ended

    def _signal(self, *numbers: int) -> None:
        if self._run is not None:
            for number in numbers:
                self._run.child.send_signal(number)

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self, report: Report) -> None:
        if report.event == UP and self._down_since is not None:
            report = report._replace(delay_s=time.monotonic() - self._down_since)
            self._down_since = None
        self._note(report)
        if report.reason:
            self._reason = report.reason
        if report.event == RETRY:
            self._look_out(report)
        elif report.event == UP:
            self._lookout.rest()
        shown = self._console is not None and self._console.tell(report)
        if report.event == UP and self._back is not None:
            self._go_to_background()  # first: cron would mail what its command prints
        as_ssh = self._standing.attended or self._kind == STREAM
        level = notify.LEVELS[wording.level(report, as_ssh)]
        self._log.write(level, f"{self._host}: {wording.line(report, self._kind)}", shown)
        if report.event == UP:
            self._tell_held_ports()
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

    def _tell_held_ports(self) -> None:
        """Name local ports that are open for one address family only: ssh stays up with that."""
        held = self._run.evidence.local_held if self._run is not None else []
        if held and self._kind == TUNNEL:
            ports = ", ".join(printable(port) for port in held)
            self._log.write(notify.ERROR, f"{self._host}: port {ports} is in use here for one address family")

    def _go_to_background(self) -> None:
        assert self._back is not None
        if self._screen is not None:
            self._screen.drain()
        self._log.detached = True
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
                    "pid": os.getpid(),
                    "pid_started": self._pid_started,
                    "pid_mark": self._pid_mark,
                    "ssh_pid": self._run.child.pid if self._run is not None else None,
                    "state": state,
                    "since": self._since,
                    "starts": starts,
                    "reason": self._reason,
                    "next": self._next_wall(),
                    "forwards": [printable(f) for f in identity.forwards(self._line, self._configuration)],
                    "logfile": os.path.abspath(self._settings.logfile) if self._settings.logfile else "",
                }
            )
        )
        if failed:
            # A full disk must not end the link; the record is only for those who look.
            self._log.write(notify.DEBUG, f"{self._host}: no state record: {failed}")

    def _next_wall(self) -> float | None:
        left_s = self._loop.left_s(machine.DELAY)
        return None if left_s is None else time.time() + left_s


_TIMERS: dict[str, machine.Event] = {
    machine.DELAY: machine.DelayElapsed(),
    machine.KILL: machine.KillElapsed(),
    machine.LIFETIME: machine.LifetimeElapsed(),
}
