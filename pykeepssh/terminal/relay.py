"""The bytes between a person and the ssh that runs for them: read, handed to the conversation, and moved.

Knows the loop, ssh's pty and its log channel, and how a job of a shell stops and goes on.  What comes first,
what is a question and for whom a key is says ssh.conversation.  Must not know what becomes of a link: it
tells what happened, turn by turn.
"""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Callable, Iterator

from ..ssh import conversation as talk
from ..ssh.conversation import Conversation, Turn, Typed
from ..ssh.evidence import Evidence
from . import job, modes
from .flow import Flow
from .person import Unattended, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..link.multiplexer import Greeting
    from ..system.child import PlainChild, PtyChild
    from ..system.log_channel import LogChannel
    from ..system.loop import Loop

# What happens, beside what a key asks for (escapes).
HEARD = "heard"  # ssh may have said how far it has come
HUNG_UP = "hung up"  # the terminal's window was closed
DESERTED = "deserted"  # nobody is there to answer a prompt

_READ, _WRITE = select.POLLIN, select.POLLOUT
# A pty hands over what was written to it a moment after its writer has ended.
_PTY_TAIL_S = 0.05
_RAW_S = 0.1  # ssh makes its pty raw within this from when it says that the session begins
_LONGEST_TAIL_S = 0.5  # some other program may hold it, and write for ever
# A pty gives 4 kB at a time, and hardly less work goes into moving them than 64 kB: what is there is taken
# together, up to this.  The limit is for the keyboard, which waits meanwhile.
_MOST_BYTES = 65536


class Run:
    """One run of ssh: its process, its log, and what is said in it."""

    def __init__(
        self,
        child: PtyChild | PlainChild,
        channel: LogChannel | None,
        conversation: Conversation,
        greeting: Greeting | None,
    ) -> None:
        """Begin with an ssh that was started.

        greeting  what the far side says of itself, where that counts
        """
        self.child = child
        self.channel = channel
        self.conversation = conversation
        self.greeting = greeting
        self.to_ssh = Flow(child.write)
        self.started = time.monotonic()
        self.is_readable = True  # somebody still has the pty open

    @property
    def evidence(self) -> Evidence:
        """What ssh's log says of it."""
        return self.conversation.evidence

    @property
    def has_room(self) -> bool:
        """Whether more may be typed."""
        return self.to_ssh.has_room and self.conversation.has_room

    def read_pty(self) -> bytes:
        """Return what ssh and its session have printed, about _MOST_BYTES at most."""
        if self.child.fd is None or not self.is_readable:
            return b""
        data = _read_all(self.child.fd)
        self.is_readable = data != b""  # or every process has closed the pty; SIGCHLD follows
        return data or b""

    def read_log(self) -> tuple[list[bytes] | None, bool, bool]:
        """Return what LogChannel.read() does; None for the lines without a log."""
        return (None, True, False) if self.channel is None else self.channel.read()

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

    person  who sits at the terminal
    """

    def __init__(self, loop: Loop, person: Unattended, told: Callable[[list[str]], None]) -> None:
        """Relay nothing yet.

        told  is called at the end of each turn in which something happened: HEARD, HUNG_UP, DESERTED, or
              what a key asks for (escapes)
        """
        self.person = person
        self._run: Run | None = None  # None between two
        self._loop = loop
        self._told = told
        self._typed_ahead = 0  # so much was typed before the terminal was raw, and has not been read
        self._ended = False

    # -- who is watched, and for what --------------------------------------------------------------

    def attend(self, person: Unattended) -> None:
        """Somebody sits at the terminal."""
        self.person = person
        self._typed_ahead = person.typed_ahead()

    def begin(self, run: Run) -> None:
        """ssh was started."""
        self._run = run
        if run.channel is not None:
            self._loop.watch(run.channel.fd, _READ, self._log_ready)
        self.person.connecting()

    def end(self) -> None:
        """kssh ends: what is typed now is for whoever comes after it, but for rest_s()."""
        self._ended = True

    def watch(self) -> None:
        """Watch what there is room for, and what there is something for."""
        run = self._run
        self.person.watch(
            self._loop, self._takes_keys and (run is None or run.has_room), self._terminal_ready
        )
        if run is not None and run.child.fd is not None:
            reads = run.is_readable and not self.person.has_output
            writes = len(run.to_ssh) > 0
            self._loop.watch(run.child.fd, reads * _READ | writes * _WRITE, self._pty_ready)

    @property
    def _takes_keys(self) -> bool:
        return self.person.is_raw and (not self._ended or self.person.rest_s() > 0)

    def forget_terminal(self) -> None:
        """Let go of the terminal: it is gone, or nobody sits there any more."""
        self.person.close(self._loop)
        self.person = Unattended(self.person.words)

    # -- one turn ----------------------------------------------------------------------------------

    def _terminal_ready(self, events: int) -> None:
        if events & _WRITE:
            self.person.show_more()
        if not events & ~_WRITE or not self._takes_keys:
            return
        data = self.person.read()
        if data == b"":
            self.forget_terminal()
            self._told([HUNG_UP])
        elif data and self._ended:
            self.person.is_rest(data)
        elif data:
            self._told(self._type(data))

    def _pty_ready(self, events: int) -> None:
        run = self._run
        if run is None:
            return
        if events & _WRITE:
            run.to_ssh.drain()
        if events & ~_WRITE:
            self._told(self._take_printed(run))

    def _log_ready(self, events: int) -> None:
        if self._run is not None:
            self._told(self._take_log(self._run))

    def _take_printed(self, run: Run) -> list[str]:
        """Take what ssh and its session have printed; return what happened."""
        printed = run.read_pty()
        return self._hear(run, printed, not run.conversation.session) if printed else []

    def _take_log(self, run: Run) -> list[str]:
        """Take what ssh has logged, and what it printed before where that comes first."""
        printed_first = run.conversation.session or run.conversation.echo_is_due
        return self._hear(run, run.read_pty() if printed_first else b"", True)

    def _hear(self, run: Run, printed: bytes, logs: bool) -> list[str]:
        """Take what was printed, and then what was logged if it counts; return what happened."""
        if not logs:
            return self._perform(run, run.conversation.heard(Turn(printed)))
        lines, is_open, more = run.read_log()
        if lines and run.conversation.answer_is_due and (end := _read_line_end(run, printed)):
            printed += end
            later, is_open, more = run.read_log()  # ssh logged before it printed what came behind that end
            lines += later or []
        turn = self._turn(run, printed, lines, more)
        happened = [HEARD, *self._perform(run, run.conversation.heard(turn))]
        if run.channel is not None and not is_open and run.evidence.spoke:
            self._loop.forget(run.channel.fd)  # ssh has closed it: nothing more comes
        return happened

    def _turn(self, run: Run, printed: bytes, lines: list[bytes] | None, more: bool) -> Turn:
        person = self.person
        hides = person.echoes and not run.child.echoes()
        return Turn(printed, lines, more, person.answers, person.waits, hides)

    def _type(self, data: bytes) -> list[str]:
        """Take what was typed, for ssh or, while there is no session, for kssh; return what happened."""
        run, person = self._run, self.person
        if person.waits and (run is None or not run.conversation.is_prompted):
            return [person.key(data)]
        if run is None:
            return []
        ahead, self._typed_ahead = self._typed_ahead, max(0, self._typed_ahead - len(data))
        signals = run.child.interprets_signals()
        echoes = signals and run.child.echoes()
        typed = Typed(data, ahead, person.is_rest(data), modes.is_report(data), signals, echoes)
        happened = self._perform(run, run.conversation.typed(typed))
        run.to_ssh.drain()
        return happened

    def _type_ahead(self, run: Run) -> list[str]:
        """Give the session what was typed before it, once its pty does not echo that again."""
        until = time.monotonic() + _RAW_S
        while not run.child.is_raw() and time.monotonic() < until:
            time.sleep(0.001)
        how = run.child.interprets_signals(), run.child.echoes()
        happened = self._perform(run, run.conversation.typed_ahead(*how))
        run.to_ssh.drain()
        return happened

    def _perform(self, run: Run, effects: list[talk.Effect]) -> list[str]:
        """Do what the conversation asks for, in order; return what is for whoever keeps the link."""
        happened = []
        for effect in effects:
            if isinstance(effect, talk.Show):
                if run.greeting is not None:
                    run.greeting.feed(effect.data)
                self.person.show(effect.data)
            elif isinstance(effect, talk.Send):
                run.to_ssh.put(effect.data)
                if run.conversation.session:
                    self.person.typed(effect.data)
            elif isinstance(effect, talk.ShowLine):
                self.person.show_line(effect.line, effect.aside)
            elif isinstance(effect, talk.Hold):
                self.person.hold_line(effect.line)
            elif isinstance(effect, talk.AwaitRaw):
                happened += self._type_ahead(run)
            elif isinstance(effect, talk.Asked):
                happened.append(effect.what)
            elif not self.person.ask():
                self.forget_terminal()
                happened.append(DESERTED)
        return happened

    def last_words(self) -> Iterator[list[str]]:
        """Take all that an ssh that has ended still said; yield what happened, turn by turn."""
        run = self._run
        if run is None:
            return
        if not run.conversation.session:
            yield self._take_log(run)
        if run.child.fd is not None:
            self._loop.forget(run.child.fd)
        waited_s = 0.0
        # "~&" that was typed ahead may have handed it on.
        while (
            self._run is run and run.child.fd is not None and run.is_readable and waited_s < _LONGEST_TAIL_S
        ):
            began = time.monotonic()
            if not _wait_readable(run.child.fd, _PTY_TAIL_S):
                break
            waited_s += time.monotonic() - began
            printed = run.read_pty()
            if not printed:
                break
            yield self._hear(run, printed, not run.conversation.session)
        if run.channel is not None:
            lines, _, more = run.channel.read()
            turn = self._turn(run, b"", lines, more)
            yield [HEARD, *self._perform(run, run.conversation.ended(run.channel.rest(), turn))]
            self._loop.forget(run.channel.fd)
        self.person.words.say_refused()
        self.person.session_gone(run.conversation.session)
        self._run = None

    # -- a job of a shell --------------------------------------------------------------------------

    def resized(self) -> None:
        """The terminal has another size."""
        run, (_, size, _) = self._run, self.person.for_pty()
        if run is not None and size is not None:
            with contextlib.suppress(OSError):
                run.child.resize(size)
        self.person.resized(run is not None and run.conversation.is_prompted)

    def continued(self) -> None:
        """Go on after a stop from outside: the shell has given the terminal its own settings."""
        if self.person.is_raw:
            if self.person.in_foreground():
                self.person.take_back()
            self.resized()

    def suspend(self, whole_job: bool) -> list[str]:
        """Stop, with the terminal as the shell left it, and all of the job if asked to; go on when continued.

        ssh goes on meanwhile: it answers keepalives, and its output waits in the pty.  Returns what happened.
        """
        run, happened = self._run, []
        if run is not None:
            run.child.set_output_waits(False)
            happened = self._take_printed(run)  # who waits already goes on
        was_raw = self.person.is_raw
        self.person.clear()
        self.person.give_back()
        job.stop(whole_job)
        if was_raw:
            self.person.take_back()  # in the background this stops kssh again
            self.resized()
            if run is not None and run.conversation.prompt:
                self.person.show(run.conversation.prompt)  # as ssh does: the shell has written below it
        if run is not None:
            run.child.set_output_waits(True)
        return happened

    def leave_in_background(self) -> None:
        """Do what "~&" asks for: the caller gets its terminal back, the session goes on to its end."""
        run = self._run
        assert run is not None and run.child.fd is not None
        self.person.clear()
        self._loop.forget(run.child.fd)
        if run.channel is not None:
            self._loop.forget(run.channel.fd)
        job.hand_over(run, self.person)
        self._run = None


def _read_line_end(run: Run, printed: bytes) -> bytes:
    """Return what is printed up to a line end that ssh has caused; b"" if that has been printed."""
    until = time.monotonic() + _PTY_TAIL_S
    more = b""
    while b"\n" not in printed + more and run.child.fd is not None:
        if not _wait_readable(run.child.fd, max(0.0, until - time.monotonic())):
            break
        data = run.read_pty()
        if not data:
            break
        more += data
    return more


def _read_all(fd: int) -> bytes | None:
    """Return what a non-blocking descriptor has now, about _MOST_BYTES at most; the rest as read()."""
    parts = []
    taken = 0
    data = read(fd)
    while data:
        parts.append(data)
        taken += len(data)
        data = read(fd) if taken < _MOST_BYTES else None
    return b"".join(parts) or data


def _wait_readable(fd: int, limit_s: float) -> bool:
    """Wait until a descriptor has something to read or is at its end; return False if it took too long."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(limit_s * 1000))
