"""The person's terminal and the ssh that runs on it: the bytes between them, each in its place.

Knows ssh's two voices, its log and its pty, and their order; for whom a key is; how a job of a shell
stops and goes on.  Must not know what becomes of a link: it says that ssh was heard, and what was asked for.

The order is: the echo of an answer, then the log, then the pty.  ssh logs before it prompts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import termios
import time
from collections.abc import Callable

from ..errors import printable
from ..link.allowance import Allowance
from ..ssh import escapes
from ..ssh.escapes import BACKGROUND, LEAVE, SUSPEND, SUSPEND_JOB
from ..ssh.evidence import AUTHENTICATED, CONNECTED, SESSION
from ..ssh.levels import DEBUG1, level_and_text
from ..ssh.log_reader import LogReader, tells
from ..ssh.messages import Message, Messages, shown
from . import modes
from .flow import CHUNK_BYTES, Flow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..link.multiplexer import Greeting
    from ..link.outcomes import Exit
    from ..system.child import PlainChild, PtyChild
    from ..system.log import Log, SshLines
    from ..system.log_channel import LogChannel
    from ..system.loop import Loop
    from .console import Console
    from .screen import Screen

# What becomes of the terminal, beside what a key asks for (escapes).
HUNG_UP = "hung up"  # its window was closed
DESERTED = "deserted"  # nobody is there to answer a prompt

_READ, _WRITE = select.POLLIN, select.POLLOUT
_LINE_END = b"\r\n"
_LONGEST_PROMPT_BYTES = 4096
_ANSWER_ENDS = (b"\r", b"\n", b"\x04")
# How a question ends that a jump host's ssh or a ProxyCommand asks; what else they print without a line end
# goes on: "waking the host..."
_QUESTION_ENDS = b":?>])"
# A pty hands over what was written to it a moment after its writer has ended.
_PTY_TAIL_S = 0.05
_RAW_S = 0.1  # ssh makes its pty raw within this from when it says that the session begins
_LONGEST_TAIL_S = 0.5  # some other program may hold it, and write for ever
# A pty gives 4 kB at a time, and hardly less work goes into moving them than 64 kB: what is there is taken
# together, up to this.  The limit is for the keyboard, which waits meanwhile.
_MOST_BYTES = 65536


# How many lines of ssh's are shown at once, and how many a second after that: a server can have it say more
# than anybody reads.  ssh says 5 lines as a rule, 300 with -vvv, and one for each connection through a
# forward that cannot be made.
_LINES_AT_ONCE = 4000
_LINES_PER_S, _DEBUG_LINES_PER_S = 10, 400


class Run:
    """One run of ssh: its process, its log, what the log said, and what the user typed to it."""

    def __init__(
        self,
        child: PtyChild | PlainChild,
        channel: LogChannel | None,
        typed: escapes.Escapes,
        tagged: bool,
        proof: Callable[[], bool],
    ) -> None:
        """Begin with an ssh that was started.

        typed   follows what is typed to it
        tagged  it tags what it logs (Messages)
        proof   tells whether it has authenticated (LogReader)
        """
        self.child = child
        self.channel = channel
        self.messages = Messages(tagged)
        self.log = LogReader(self._is_proven)
        self.evidence = self.log.evidence
        self._proof = proof
        self._proven: bool | None = None  # what that said of the lines that are read now
        self.escapes = typed
        self.to_ssh = Flow(child.write)
        self.readable = True  # somebody still has the pty open
        self.line_begun = False  # ssh printed the beginning of one where nobody sits at the terminal
        self.started = time.monotonic()
        self.left = False  # the user has typed what makes ssh end
        self.leaves_at_once = False  # "~." was typed ahead of the session
        self.interrupted = False  # by a character that the terminal would have sent a signal for
        self.session = False
        self.prompted = False  # ssh asks for something before the session, or has had its answer
        self.prompt = b""  # the end of that, and what was typed and echoed behind it
        self.answered = False  # a line was typed since it asked
        self.echoes = False  # and the end of that line has not come back yet
        self.typed = False  # something, to the session
        self.greeting: Greeting | None = None  # what the far side says of itself, where that counts
        self.held = b""  # typed ahead and shown already: the pty, which echoes, gets it when it is raw

    def _is_proven(self) -> bool:
        if self._proven is None:
            self._proven = self._proof()
        return self._proven

    def hear(self, lines: list[bytes], more: bool) -> list[Message]:
        """Return the messages in lines of the log."""
        self._proven = None  # ssh has done by now what it wrote of
        return self.messages.take(map(os.fsdecode, lines), more)

    @property
    def connected(self) -> bool:
        """Whether ssh has its connection."""
        return self.evidence.phase >= CONNECTED

    @property
    def asks(self) -> bool:
        """Whether ssh seems to ask, and has no answer yet."""
        return self.prompted and not self.answered and not self.session

    def answer(self) -> None:
        """A question is answered: ssh threw away what was typed before it asked (readpass.c)."""
        self.answered, self.held, self.leaves_at_once = True, b"", False
        self.escapes.reset()

    def unanswered(self, ended: Exit) -> bool:
        """Tell whether this run has ended because nobody answered.

        ssh itself waits for its answer; it gives up on a jump host's ssh, or a ProxyCommand, that waits.
        """
        return self.asks and (self.evidence.address is None or ended.signal is not None)

    @property
    def has_room(self) -> bool:
        """Whether more may be typed."""
        return self.to_ssh.has_room and len(self.held) < CHUNK_BYTES

    def interrupted_by(self, ended: Exit) -> int | None:
        """Return the signal that the user's key stood for, or None if ssh has not ended for that.

        Before a session it always has.  Within one ssh can outlive it: at its own command line ("~C").
        """
        signum = self.evidence.killed_by if ended.signal is None else ended.signal
        if not self.interrupted or (self.session and signum not in (signal.SIGINT, signal.SIGQUIT)):
            return None
        return signal.SIGQUIT if ended.signal == signal.SIGQUIT else signal.SIGINT

    def close_channel(self) -> None:
        """Read the log no more."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None

    def close(self) -> None:
        """Close what belongs to this run; ssh has been reaped or goes with its pty."""
        self.close_channel()
        self.child.close()


class Relay:
    """What stands between a person and ssh.

    screen, console  the person's side; None where nobody sits, or where no session is on the terminal
    run              ssh's side; None between two
    stderr_fd        ssh's standard error where that is not the terminal, or None
    ssh_lines        the user's -E or -y, or None
    typed_ahead      how many bytes were typed before the terminal was raw, and have not been read
    ended            kssh ends: what is typed now is for whoever comes after it, but for rest_s()
    """

    def __init__(
        self,
        loop: Loop,
        host: str,
        log: Log,
        level: int,
        heard: Callable[[Run], None],
        asked: Callable[[str], None],
    ) -> None:
        """Relay nothing yet.

        host   where the link goes, for the log
        log    takes ssh's words where no terminal can
        level  lines of ssh's log above this one are not for the user (levels.LEVELS)
        heard  is called with the run when ssh may have said how far it has come
        asked  is called with what a key asks of kssh (escapes), HUNG_UP or DESERTED
        """
        self.screen: Screen | None = None
        self.console: Console | None = None
        self.run: Run | None = None
        self.stderr_fd: int | None = None
        self.ssh_lines: SshLines | None = None
        self.typed_ahead = 0
        self.ended = False
        self._loop = loop
        self._host = host
        self._log = log
        self._level = level
        self._allowance = Allowance(_LINES_AT_ONCE, _DEBUG_LINES_PER_S if level >= DEBUG1 else _LINES_PER_S)
        self._heard = heard
        self._asked = asked

    # -- who is watched, and for what --------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """ssh was started."""
        self.run = run
        if run.channel is not None:
            self._loop.watch(run.channel.fd, _READ, self._log_ready)
        if self.console is not None:
            self.console.connecting()

    def watch(self) -> None:
        """Watch what there is room for, and what there is something for."""
        run, screen = self.run, self.screen
        if screen is not None:
            fd_in, fd_out = screen.terminal.fd_in, screen.terminal.fd_out
            reads = self._takes_keys and (run is None or run.has_room)
            writes = len(screen.flow) > 0
            if fd_in == fd_out:
                self._loop.watch(fd_in, reads * _READ | writes * _WRITE, self._terminal_ready)
            else:
                self._loop.watch(fd_in, reads * _READ, self._terminal_ready)
                self._loop.watch(fd_out, writes * _WRITE, self._terminal_ready)
        if run is not None and run.child.fd is not None:
            takes = not self.has_output
            writes = len(run.to_ssh) > 0
            self._loop.watch(
                run.child.fd, (takes and run.readable) * _READ | writes * _WRITE, self._pty_ready
            )

    @property
    def _takes_keys(self) -> bool:
        raw = self.screen is not None and self.screen.terminal.raw
        return raw and (not self.ended or self.rest_s() > 0)

    def rest_s(self) -> float:
        """Return for how many seconds the rest of what was typed to a dead session may still come.

        The local shell would run what is left of a paste.
        """
        return self.console.rest_s() if self.console is not None else 0.0

    @property
    def has_output(self) -> bool:
        """Whether the terminal has not taken all yet."""
        return self.screen is not None and len(self.screen.flow) > 0

    def forget_terminal(self) -> None:
        """Let go of the terminal: it is gone, or nobody sits there any more."""
        if self.console is not None:
            self.console.close()
        if self.screen is not None:
            self._loop.forget(self.screen.terminal.fd_in)
            self._loop.forget(self.screen.terminal.fd_out)
            self.screen.terminal.close()
        self.screen = self.console = None

    def give_back(self) -> None:
        """Give the terminal its own settings while no prompt is expected on it."""
        if self.screen is not None:
            self.screen.drain()
            self.screen.terminal.restore()

    def _terminal_ready(self, events: int) -> None:
        screen = self.screen
        if screen is None:
            return
        if events & _WRITE:
            screen.drain()
        if events & ~_WRITE and self._takes_keys:
            data = _read(screen.terminal.fd_in)
            if data == b"":
                self.forget_terminal()
                self._asked(HUNG_UP)
            elif data and self.ended and self.console is not None:
                self.console.is_rest(data)
            elif data:
                self._typed(data)

    def _pty_ready(self, events: int) -> None:
        run = self.run
        if run is None:
            return
        if events & _WRITE:
            run.to_ssh.drain()
        if events & ~_WRITE:
            self._read_pty(run)

    def _log_ready(self, events: int) -> None:
        if self.run is not None:
            self._log_came(self.run)

    # -- what is typed -----------------------------------------------------------------------------

    def _typed(self, data: bytes) -> None:
        """Take what the person typed: for ssh, or for kssh while there is no session."""
        run, console = self.run, self.console
        if console is not None and console.waits and (run is None or not run.prompted):
            self._asked(console.key(data))
        elif run is not None and run.session:
            self._typed_in_session(run, data)
        elif run is not None:
            self._typed_before_session(run, data)
        if self.run is not None:
            self.run.to_ssh.drain()

    def _typed_in_session(self, run: Run, data: bytes) -> None:
        if self.console is not None and self.console.is_rest(data):
            return
        if self._is_signal(run, data):  # without a pty on the remote side they are for ssh
            return
        for part in run.escapes.feed(data):
            if isinstance(part, bytes):
                run.to_ssh.put(part)
                run.typed = run.typed or not modes.is_report(part)
                if self.console is not None:
                    self.console.typed(part)
            elif part == LEAVE:
                run.left = True
            elif part == SUSPEND:
                self.show(run.escapes.character + b"^Z [suspend ssh]\r\n")
                self._asked(SUSPEND)
            else:
                self._asked(BACKGROUND)
                return

    def _typed_before_session(self, run: Run, data: bytes) -> None:
        ahead, self.typed_ahead = self.typed_ahead, max(0, self.typed_ahead - len(data))
        if self._is_signal(run, data):
            return
        if run.interrupted:
            run.held = b""  # as the kernel throws away what was typed before an interrupt
        elif self.console is not None and self.console.waits and self.console.is_rest(data):
            return  # it is no answer to a question that came in the midst of it
        elif run.prompted:
            data = data[ahead:]
        elif (ahead or run.held) and run.channel is not None:
            run.held += data  # what comes behind must not overtake it
            return
        run.echoes = True
        if run.asks or run.channel is None:  # without that nobody knows when a session begins
            if any(end in data for end in _ANSWER_ENDS):
                run.answer()
            run.to_ssh.put(data)
            return
        # Ahead of the session: ssh will find it when that begins, and the escapes in it.
        for part in run.escapes.feed(data):
            if isinstance(part, bytes):
                run.to_ssh.put(part)
            elif part == LEAVE:
                run.leaves_at_once = True

    def _is_signal(self, run: Run, data: bytes) -> bool:
        """Do what characters of the terminal ask for; return whether that is all that they are for."""
        assert self.screen is not None
        if not run.child.interprets_signals():
            return False
        interrupt, suspend = self.screen.terminal.signal_characters()
        if any(char in data for char in suspend):
            # The kernel would not stop ssh on a pty of ours, which does not get the key to echo either;
            # where it is not echoed ssh ends the line of its question.
            self.show(bytes((ord("^"), suspend[0] ^ 0x40)) if run.child.echoes() else b"\r\n")
            self._asked(SUSPEND_JOB)
            return True
        if any(char in data for char in interrupt):
            run.interrupted = True  # the pty turns the character into a signal for ssh
        return False

    # -- a job of a shell --------------------------------------------------------------------------

    def resized(self) -> None:
        """The terminal has another size."""
        if self.screen is not None:
            self.screen.resized()
            if self.run is not None:
                with contextlib.suppress(OSError):
                    self.run.child.resize(self.screen.terminal.size())
        if self.console is not None and (self.run is None or not self.run.prompted):
            self.console.show_status()

    def continued(self) -> None:
        """Go on after a stop from outside: the shell has given the terminal its own settings."""
        if self.screen is not None and self.screen.terminal.raw:
            if self.screen.terminal.in_foreground():
                with contextlib.suppress(OSError, termios.error):
                    self.screen.terminal.make_raw()
            self.resized()

    def suspend(self, whole_job: bool) -> None:
        """Stop, with the terminal as the shell left it, and all of the job if asked to; go on when continued.

        ssh goes on meanwhile: it answers keepalives, and its output waits in the pty.
        """
        run, screen = self.run, self.screen
        if run is not None:
            run.child.set_output_waits(False)
            self._read_pty(run)  # who waits already goes on
        was_raw = screen is not None and screen.terminal.raw
        if screen is not None:
            screen.clear_status()
            screen.title("")
            self.give_back()
        handler = signal.getsignal(signal.SIGTSTP)
        if handler != signal.SIG_IGN:
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(0 if whole_job else os.getpid(), signal.SIGTSTP)
        # Here kssh stands still; in a session without a job-control shell the kernel goes straight on.
        signal.signal(signal.SIGTSTP, handler)
        if screen is not None and was_raw:
            with contextlib.suppress(OSError, termios.error):
                screen.terminal.make_raw()  # in the background this stops kssh again
            self.resized()
            if run is not None and run.prompted and not run.session:
                self.show(run.prompt)  # as ssh does: the shell has written below it
        if run is not None:
            run.child.set_output_waits(True)

    def signals_us(self) -> bool:
        """Tell whether a key such as Ctrl-C would signal all of kssh's job, were the terminal not raw."""
        return self.screen is not None and self.screen.terminal.signals_us()

    def interrupt_job(self, signum: int) -> None:
        """Let all of the job have the signal that the person typed, such as the script that started kssh.

        A shell that waits for kssh goes on with its script unless it had the signal as well.
        """
        if self.signals_us():
            before = signal.signal(signum, signal.SIG_IGN)
            os.kill(0, signum)
            signal.signal(signum, before)

    def leave_in_background(self) -> None:
        """Do what "~&" asks for: the caller gets its terminal back, the session goes on to its end.

        A second process holds ssh's pty, without which ssh would hang up; like ssh it sends the end
        of input and shows what still comes.
        """
        run, screen = self.run, self.screen
        assert run is not None and screen is not None
        self.show(run.escapes.character + b"& [backgrounded]\r\n")
        screen.title("")
        run.to_ssh.put(b"\x04")
        run.to_ssh.drain()
        screen.terminal.restore()
        assert run.child.fd is not None
        self._loop.forget(run.child.fd)
        if run.channel is not None:
            self._loop.forget(run.channel.fd)
            run.close_channel()  # ssh would stop for a log that nobody reads
        if os.fork() == 0:
            try:
                signal.set_wakeup_fd(-1)
                for signum in signal.valid_signals():
                    if callable(signal.getsignal(signum)):
                        signal.signal(signum, signal.SIG_DFL)
                _pass_on(run.child.fd, screen.terminal.fd_out, screen.flow)
            finally:
                os._exit(0)
        run.child.abandon()
        screen.flow.clear()  # the other process writes it
        self.run = None

    # -- what ssh says -----------------------------------------------------------------------------

    def show(self, data: bytes) -> None:
        """Show bytes of ssh's to the person."""
        if self.run is not None and self.run.greeting is not None:
            self.run.greeting.feed(data)
        if self.screen is not None:
            self.screen.relay(data)

    def _log_came(self, run: Run) -> None:
        if run.session or run.echoes:
            self._read_pty(run)  # what ssh printed before it logged comes first
        self._read_log(run)
        self._heard(run)

    def _read_log(self, run: Run) -> None:
        if run.channel is None:
            return
        lines, is_open, more = run.channel.read()
        self._take_lines(run, lines, more)
        if not is_open and run.evidence.spoke:
            self._loop.forget(run.channel.fd)  # ssh has closed it: nothing more comes

    def _read_log_first(self, run: Run) -> None:
        """Read what ssh logged before it printed: it logs before it prompts."""
        self._read_log(run)
        if run.evidence.shared:
            # A master's client prints nothing of its own, and not all versions log that it began.
            run.evidence.reach(SESSION)

    def _take_lines(self, run: Run, lines: list[bytes], more: bool = False) -> None:
        for message in run.hear(lines, more):
            self._take_message(run, message)

    def _take_message(self, run: Run, message: Message) -> None:
        if message.is_ssh:
            run.log.feed(message.text, message.certain)
        elif message.other and tells(message.text):
            run.evidence.forged = True  # a child of ssh's knows nothing of a connection
        if run.asks and run.evidence.address is not None:
            run.prompted = False  # ssh, which is not waiting for a jump host's, goes on: it has not asked
        level, _ = level_and_text(message.text)
        if level <= self._level and self._may_say():
            self._show_log_line(run, os.fsencode(shown(message.text)))

    def _may_say(self) -> bool:
        """Tell whether one more line of ssh's is said; say before it how many were not."""
        if not self._allowance.take(time.monotonic()):
            return False
        self._say_refused()
        return True

    def _say_refused(self) -> None:
        refused = self._allowance.refused()
        if refused:
            lines = "1 line" if refused == 1 else f"{refused} lines"
            self._log.write_error(f"{self._host}: {lines} from ssh left out: they came too fast")

    def _show_log_line(self, run: Run, line: bytes) -> None:
        """Show a line of ssh's log where the user would have seen it without kssh."""
        if self.ssh_lines is not None:
            self.ssh_lines.write(line)
        elif self._log.detached:
            self._quote(line)
        elif self.screen is not None and self.screen.terminal.raw and self.stderr_fd is None:
            line = self.screen.terminal.processed(line)  # a message may have several lines
            if self.console is not None and self.console.waits and not run.prompted:
                self.console.hold_line(line)
            else:
                self.show(line + _LINE_END)
        else:
            self._log.stderr.write(line + _LINE_END)

    def begin_session(self, run: Run) -> None:
        """ssh's session begins: give it what was typed ahead."""
        run.session = True
        run.left, run.interrupted = run.leaves_at_once, False  # what was typed before did not end ssh
        held, run.held = run.held, b""
        if held:
            until = time.monotonic() + _RAW_S
            while not run.child.is_raw() and time.monotonic() < until:
                time.sleep(0.001)
            self._typed_in_session(run, held)
            if self.run is run:
                run.to_ssh.drain()

    def take_last_words(self, run: Run) -> None:
        """Take all that an ssh that has ended still said."""
        if not run.session:
            self._log_came(run)
        if run.child.fd is not None:
            self._loop.forget(run.child.fd)
        waited_s = 0.0
        while run.child.fd is not None and run.readable and waited_s < _LONGEST_TAIL_S:
            began = time.monotonic()
            if not _wait_readable(run.child.fd, _PTY_TAIL_S):
                break
            waited_s += time.monotonic() - began
            if not self._read_pty(run):
                break
        if run.channel is not None:
            run.log.feed_printed("\n")  # what nobody will end any more is a line
            self._read_log(run)
            self._heard(run)
            self._take_lines(run, run.channel.rest())
            self._loop.forget(run.channel.fd)
        self._say_refused()
        if self.console is not None:
            self.console.session_gone(run.session)
        self.run = None

    def _read_pty(self, run: Run) -> bool:
        """Take what ssh and its session printed; return whether there was something."""
        if run.child.fd is None or not run.readable:
            return False
        data = _read_all(run.child.fd)
        if data:
            said = data
            if not run.session:
                if run.echoes and b"\n" in data:
                    # The end of an answer is echoed before ssh has it, and a new prompt ends no line.
                    run.echoes = False
                    echo, newline, said = data.rpartition(b"\n")
                    self._printed(run, echo + newline)
                self._read_log_first(run)
            if said:
                self._printed(run, said)
            if not run.session:
                self._heard(run)
        run.readable = data != b""  # or every process has closed the pty; SIGCHLD follows
        return bool(data)

    def _printed(self, run: Run, data: bytes) -> None:
        if run.evidence.address is None and run.evidence.phase < AUTHENTICATED:
            run.log.feed_printed(os.fsdecode(data))
            whole = run.evidence.phase < CONNECTED and not run.prompted and data.endswith(b"\n")
            if whole and self.console is not None and self.console.waits:
                for line in data.splitlines():
                    self.console.hold_line(line)  # as ssh's own about a retry
                return
        if not run.session and run.channel is not None:  # without it nobody knows when a session begins
            run.prompt = (run.prompt + data).rpartition(b"\n")[2][-_LONGEST_PROMPT_BYTES:]
        if self.screen is not None:
            if not run.session and run.evidence.phase < AUTHENTICATED:
                if self._is_question(run, data):
                    self._expect_answer(run)
                elif not run.answered and not run.echoes:
                    run.prompted = False  # that was the beginning of a line
            if self.screen is not None and self.screen.terminal.raw:
                if self.console is not None:
                    self.console.answered()
                self.show(data)
                return
        self._say(run, data)

    def _is_question(self, run: Run, data: bytes) -> bool:
        """Tell whether ssh asks with what it printed before the session."""
        echoed = self.screen is not None and self.screen.terminal.echoed
        if echoed and not run.child.echoes() and not run.answered:
            return True  # readpass.c, before it prints
        if data.endswith(b"\n"):
            return False
        by_ssh = run.evidence.address is not None or run.evidence.shared
        # Nor is a question what comes back of a line that is being typed.
        return (by_ssh and not run.echoes) or data.rstrip()[-1:] in _QUESTION_ENDS

    def _expect_answer(self, run: Run) -> None:
        assert self.screen is not None
        if self.console is not None:
            self.console.settle()
        run.prompted, run.answered = True, False
        if not self.screen.terminal.raw:
            # A tunnel asks.  In the background this stops kssh, as it would stop ssh.
            try:
                self.screen.terminal.make_raw()
            except (OSError, termios.error):
                self.forget_terminal()
                self._asked(DESERTED)

    def _say(self, run: Run, data: bytes) -> None:
        """Say what ssh printed, line by line, where nobody sits at the terminal."""
        *lines, last = (line.rstrip(b"\r") for line in data.split(b"\n"))  # the pty adds one to ssh's own
        if lines and run.line_begun and not lines[0]:
            del lines[0]  # its end alone: what stands before it has been said
        run.line_begun = bool(last)
        for line in [*lines, last] if last else lines:
            if not self._may_say():
                continue
            if self._log.detached:
                self._quote(line)
            else:
                text = shown(printable(os.fsdecode(line)))
                self._log.stderr.write(f"{text}\n".encode("utf-8", "backslashreplace"))

    def _quote(self, line: bytes) -> None:
        self._log.quote(f"{self._host}: ssh: {printable(os.fsdecode(line))}")


def _read(fd: int) -> bytes | None:
    """Return bytes from a non-blocking descriptor, b"" at its end, None if there are none now."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:  # Linux: the other side of the pty is closed
            return b""
        raise


def _read_all(fd: int) -> bytes | None:
    """Return what a non-blocking descriptor has now, about _MOST_BYTES at most; the rest as _read()."""
    parts = []
    taken = 0
    data = _read(fd)
    while data:
        parts.append(data)
        taken += len(data)
        data = _read(fd) if taken < _MOST_BYTES else None
    return b"".join(parts) or data


def _wait_readable(fd: int, limit_s: float) -> bool:
    """Wait until a descriptor has something to read or is at its end; return False if it took too long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))


def _pass_on(pty: int, sink: int, held: Flow) -> None:
    """Write what is held, then copy what ssh prints to a terminal until its pty is closed.

    The terminal may go away meanwhile.
    """
    os.set_blocking(sink, True)
    os.set_blocking(pty, True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    while len(held):
        held.drain()
    while data := _read(pty):
        with contextlib.suppress(OSError):
            os.write(sink, data)
