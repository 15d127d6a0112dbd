"""What a run of ssh and the person at the terminal say to each other: in which order, and for whom a key is.

Knows ssh's two voices, its log and its pty; what is a question, and its answer; what becomes of keys that
are typed ahead of a session, and within it.  It is told what was read and typed, and returns what is to be
done, in order.  Must not know descriptors, nor what becomes of a link.

The order is: the echo of an answer, then the log, then the pty: ssh logs before it prompts.  In a session it
is the pty, then the log.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Union

from .escapes import BACKGROUND, LEAVE, SUSPEND, SUSPEND_JOB, Escapes
from .evidence import AUTHENTICATED, CONNECTED, SESSION
from .levels import level_and_text
from .log_reader import LogReader, tells
from .messages import Message, Messages, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SIGINT, _SIGQUIT = 2, 3  # POSIX gives them these numbers (kill(1))
_MOST_HELD_BYTES = 65536
_LONGEST_PROMPT_BYTES = 4096
_ANSWER = re.compile(rb"[^\r\n\x04]*[\r\n\x04]")
# How a question ends that a jump host's ssh or a ProxyCommand asks; what else they print without a line end
# goes on: "waking the host..."
_QUESTION_ENDS = tuple(b"%c" % char for char in b":?>])")

UNASKED, ASKED, ANSWERED = "unasked", "asked", "answered"


class Turn(NamedTuple):
    """What was read in one turn of the loop.

    pty       what ssh and its session printed
    lines     whole lines of the log, without their ends, or None if it was not read; it is read after the
              pty, so that what ssh logged before it printed is among them
    more      there is more to read of the log
    attended  a person sits at a terminal and can answer
    waits     this is a retry, and a status line of kssh's tells of it
    hides     the pty does not show what is typed, where the person's own terminal would
    """

    pty: bytes = b""
    lines: Sequence[bytes] | None = None
    more: bool = False
    attended: bool = False
    waits: bool = False
    hides: bool = False


class Typed(NamedTuple):
    """What the person typed.

    data     the bytes
    ahead    how many of them, from the first, were typed before kssh had the terminal
    rest     they go on with what was typed to a session that is gone (link.keys)
    report   they are only what a terminal sends by itself
    signals  the pty turns Ctrl-C and the like into signals: ssh has not made it raw
    echoes   and it shows what is typed
    """

    data: bytes
    ahead: int = 0
    rest: bool = False
    report: bool = False
    signals: bool = False
    echoes: bool = True


# What is to be done.
class Show(NamedTuple):
    """Show the person what ssh or its session printed."""

    data: bytes


class ShowLine(NamedTuple):
    """Show a message of ssh's log where ssh would have.

    aside  it is about a retry: of use only if that is the last
    """

    line: bytes
    aside: bool


class Hold(NamedTuple):
    """Keep a line that was printed about a retry: of use only if that is the last."""

    line: bytes


class Ask(NamedTuple):
    """Let the person answer: ssh asks something."""


class Send(NamedTuple):
    """Type bytes to ssh's pty."""

    data: bytes


class AwaitRaw(NamedTuple):
    """Wait until ssh has made its pty raw for the session, then call typed_ahead()."""


class Asked(NamedTuple):
    """Tell who keeps the link what a key asks for (escapes)."""

    what: str


Effect = Union[Show, ShowLine, Hold, Ask, Send, AwaitRaw, Asked]


class Prompt:
    """Whether ssh asks something before the session, guessed from what it printed.

    state  UNASKED, ASKED or ANSWERED
    text   the last line that was printed, with what was typed and echoed behind it
    """

    def __init__(self) -> None:
        self.state = UNASKED
        self.text = b""

    def printed(self, data: bytes) -> None:
        """Take in what was printed."""
        self.text = (self.text + data).rpartition(b"\n")[2][-_LONGEST_PROMPT_BYTES:]

    def look(self, by_ssh: bool, hides: bool, echo_is_due: bool) -> bool:
        """Tell whether ssh asks with what it printed last.

        by_ssh       ssh itself printed it, no jump host's and no ProxyCommand
        hides        as in Turn
        echo_is_due  what was printed may be what comes back of a line that is being typed
        """
        if hides and self.state != ANSWERED:
            self.state = ASKED  # readpass.c, before it prints
        elif self.text and ((by_ssh and not echo_is_due) or self.text.rstrip().endswith(_QUESTION_ENDS)):
            self.state = ASKED
        elif self.state == ASKED and not echo_is_due:
            self.state = UNASKED  # that was the beginning of a line
            return False
        else:
            return False
        return True


class Conversation:
    """The words of one run of ssh, and what is typed to it.

    evidence       what ssh's log says of the run
    session        the session has begun
    echo_is_due    the end of a line that was typed before the session has not come back yet
    answer_is_due  it ends an answer: it comes, and ssh logs what it makes of the answer after it
    left           the person has typed what makes ssh end
    used           something was typed to the session
    """

    def __init__(
        self,
        escapes: Escapes,
        tagged: bool,
        proof: Callable[[], bool],
        level: int,
        has_log: bool,
        signal_characters: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """Begin with an ssh that was started.

        escapes            follows what is typed
        tagged             ssh tags what it logs (Messages)
        proof              tells whether it has authenticated (LogReader)
        level              messages above this one are not for the person (levels.LEVELS)
        has_log            there is a log; without it nobody knows when a session begins
        signal_characters  what the person's terminal interrupts or quits with, and what it suspends with
        """
        self._log = LogReader(self._is_proven)
        self.evidence = self._log.evidence
        self.session = False
        self.echo_is_due = self.answer_is_due = False
        self.left = self.used = False
        self._escapes = escapes
        self._messages = Messages(tagged)
        self._proof = proof
        self._proven: bool | None = None  # what that said of what is read in this turn
        self._prompt = Prompt()
        self._level = level
        self._has_log = has_log
        self._interrupt, self._suspend = signal_characters
        chars = b"".join(signal_characters)
        self._signal = re.compile(b"([" + re.escape(chars) + b"])" if chars else b"(?!)")
        self._interrupted = False  # by a character that the terminal would have sent a signal for
        self._is_in_background = False  # by "~&"
        self._leaves_at_once = False  # "~." was typed ahead of the session
        self._held = b""  # typed ahead and shown already: the pty, which echoes, gets it when it is raw
        self._held_keys = False  # and not only what a terminal sends by itself

    @property
    def has_room(self) -> bool:
        """Whether more may be typed."""
        return len(self._held) < _MOST_HELD_BYTES

    @property
    def is_prompted(self) -> bool:
        """Whether ssh has asked for something before the session; it may have had its answer."""
        return self._prompt.state != UNASKED

    @property
    def prompt(self) -> bytes:
        """What ssh asks for, as it stands on the terminal, or b""."""
        return self._prompt.text if self.is_prompted and self._has_log and not self.session else b""

    def _is_proven(self) -> bool:
        if self._proven is None:
            self._proven = self._proof()
        return self._proven

    # -- what ssh says -----------------------------------------------------------------------------

    def heard(self, turn: Turn) -> list[Effect]:
        """Take what was read in a turn."""
        if self.session:
            shown: list[Effect] = [Show(turn.pty)] if turn.pty else []
            return shown if turn.lines is None else shown + self._logged(turn, turn.lines)
        effects: list[Effect] = []
        said = turn.pty
        if self.echo_is_due and b"\n" in said:
            # The end of an answer is echoed before ssh has it, and a new prompt ends no line.
            self.echo_is_due = self.answer_is_due = False
            echo, newline, said = said.rpartition(b"\n")
            effects += self._printed(echo + newline, turn)
        elif turn.lines:
            self.answer_is_due = False  # what asked ends no line
        effects += self._logged(turn, turn.lines or ())
        if turn.pty and self.evidence.shared:
            # A master's client prints nothing of its own, and not all versions log that it began.
            self.evidence.reach(SESSION)
        if said:
            effects += self._printed(said, turn)
        if self.evidence.phase == SESSION and not self.evidence.forged:
            effects += self._begin()
        return effects

    def ended(self, rest: Sequence[bytes], turn: Turn) -> list[Effect]:
        """Take the last words of an ssh that has ended.

        rest  what stands in the log behind its last line end
        """
        self._log.feed_printed("\n")  # what nobody will end any more is a line
        effects = self.heard(turn)
        return effects + self._logged(turn._replace(more=False), rest)

    def _logged(self, turn: Turn, lines: Sequence[bytes]) -> list[Effect]:
        self._proven = None  # ssh has done by now what it wrote of
        effects: list[Effect] = []
        for message in self._messages.take(map(_text, lines), turn.more):
            self._learn(message)
            if level_and_text(message.text)[0] <= self._level:
                aside = turn.waits and not self.is_prompted
                effects.append(ShowLine(_bytes(shown(message.text)), aside))
        return effects

    def _learn(self, message: Message) -> None:
        seen = self.evidence
        if message.is_ssh:
            self._log.feed(message.text, message.certain)
        elif message.other and tells(message.text):
            seen.forged = True  # a child of ssh's knows nothing of a connection
        if self._asks and seen.address is not None:
            # ssh, which is not waiting for a jump host's, goes on: it has not asked.
            self._prompt.state = UNASKED

    def _printed(self, data: bytes, turn: Turn) -> list[Effect]:
        """Take what was printed before the session."""
        seen = self.evidence
        if seen.address is None and seen.phase < AUTHENTICATED:
            self._log.feed_printed(_text(data))
            is_whole = data.endswith(b"\n") and not self._prompt.text
            if is_whole and turn.waits and seen.phase < CONNECTED and not self.is_prompted:
                lines = data.split(b"\n")[:-1]
                return [Hold(line.rstrip(b"\r")) for line in lines]  # as ssh's own about a retry
        self._prompt.printed(data)
        can_ask = turn.attended and seen.phase < AUTHENTICATED
        if can_ask and self._prompt.look(seen.address is not None, turn.hides, self.echo_is_due):
            return [Ask(), Show(data)]
        return [Show(data)]

    def _begin(self) -> list[Effect]:
        self.session, self.echo_is_due, self.answer_is_due = True, False, False
        self.left, self._interrupted = self._leaves_at_once, False  # what was typed before did not end ssh
        return [AwaitRaw()] if self._held else []

    # -- what is typed -----------------------------------------------------------------------------

    def typed(self, typed: Typed) -> list[Effect]:
        """Take what the person typed."""
        if self._is_in_background or (self.session and typed.rest):
            return []
        if not typed.signals:
            return self._keys(typed)
        effects: list[Effect] = []
        at = 0
        for data in filter(None, self._signal.split(typed.data)):
            part = typed._replace(data=data, ahead=max(0, typed.ahead - at))
            at += len(data)
            if data in self._suspend:
                effects += self._suspended(typed.echoes)
            else:
                # The pty turns the character into a signal for ssh.
                self._interrupted = self._interrupted or data in self._interrupt
                effects += self._keys(part)
            if self._is_in_background:
                break
        return effects

    def typed_ahead(self, signals: bool, echoes: bool) -> list[Effect]:
        """Give the session what was typed ahead of it; signals, echoes: as in Typed."""
        held, self._held = self._held, b""
        return self.typed(Typed(held, report=not self._held_keys, signals=signals, echoes=echoes))

    def _suspended(self, echoes: bool) -> list[Effect]:
        # The kernel would not stop ssh on a pty of ours, which does not get the key to echo either;
        # where it is not echoed ssh ends the line of its question.
        echo = bytes((ord("^"), self._suspend[0] ^ 0x40)) if echoes else b"\r\n"
        return [Show(echo), Asked(SUSPEND_JOB)]

    def _keys(self, typed: Typed) -> list[Effect]:
        return self._keys_in_session(typed) if self.session else self._keys_before_session(typed)

    def _keys_in_session(self, typed: Typed) -> list[Effect]:
        effects: list[Effect] = []
        for part in self._escapes.feed(typed.data):
            if isinstance(part, bytes):
                effects.append(Send(part))
                self.used = self.used or not typed.report
            elif part == LEAVE:
                self.left = True
            elif part == SUSPEND:
                told = self._escapes.character + b"^Z [suspend ssh]\r\n"
                effects += [Show(told), Asked(SUSPEND)]
            else:
                self._is_in_background = True  # what follows is for nobody
                told = self._escapes.character + b"& [backgrounded]\r\n"
                return [*effects, Show(told), Asked(BACKGROUND)]
        return effects

    def _keys_before_session(self, typed: Typed) -> list[Effect]:
        data = typed.data
        if self._interrupted:
            self._held = b""  # as the kernel throws away what was typed before an interrupt
        elif typed.rest:
            return []  # it is no answer to a question that came in the midst of it
        elif self.is_prompted:
            data = data[typed.ahead :]
        elif (typed.ahead or self._held) and self._has_log:
            self._held_keys = not typed.report or (bool(self._held) and self._held_keys)
            self._held += data  # what comes behind must not overtake it
            return []
        effects: list[Effect] = []
        self.echo_is_due = self.echo_is_due or bool(data)
        answer = _ANSWER.match(data) if self._asks else None
        if answer:
            # ssh threw away what was typed before it asked (readpass.c).
            self._prompt.state, self._held, self._leaves_at_once = ANSWERED, b"", False
            self._escapes.reset()
            self.answer_is_due = True
            effects.append(Send(answer[0]))
            data = data[answer.end() :]
        # Behind a secret it does so too, once it shows again what is typed (readpassphrase.c, TCSAFLUSH).
        is_lost = self._prompt.state == ANSWERED and typed.signals and not typed.echoes
        if self._asks or is_lost or not self._has_log:
            return [*effects, Send(data)] if data else effects
        # Ahead of the session: ssh will find it when that begins, and the escapes in it.
        for part in self._escapes.feed(data):
            if isinstance(part, bytes):
                effects.append(Send(part))
            elif part == LEAVE:
                self._leaves_at_once = True
        return effects

    @property
    def _asks(self) -> bool:
        """Whether ssh seems to ask, and has no answer yet."""
        return self._prompt.state == ASKED and not self.session

    # -- how it ended ------------------------------------------------------------------------------

    def ended_unanswered(self, signum: int | None) -> bool:
        """Tell whether this run has ended because nobody answered; signum: by which signal, or None.

        ssh itself waits for its answer; it gives up on a jump host's ssh, or a ProxyCommand, that waits.
        """
        return self._asks and (self.evidence.address is None or signum is not None)

    def interrupted_by(self, signum: int | None) -> int | None:
        """Return the signal that the person's key stood for, or None if ssh has not ended for that.

        signum  the signal that ended ssh, or None

        Before a session it always has.  Within one ssh can outlive it: at its own command line ("~C").
        """
        ended_by = self.evidence.killed_by if signum is None else signum
        if not self._interrupted or (self.session and ended_by not in (_SIGINT, _SIGQUIT)):
            return None
        return _SIGQUIT if signum == _SIGQUIT else _SIGINT


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
