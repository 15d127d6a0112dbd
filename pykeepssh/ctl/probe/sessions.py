"""Idle ssh sessions, side by side: opened, left alone, asked for an echo, ended.

Knows processes, pipes and clocks.  Must not know which idle times are worth a try, nor what the
results mean: plan.py does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol

from ...errors import KsshError, printable
from ...link.wording import duration
from . import traffic
from .plan import ALIVE, AT_ONCE, BUSY, CLOSED, RESET, SILENT, Result, decided

OPEN_LIMIT_S = 60.0  # to log in and echo
_TRIES = 3  # to open one session, once another one was opened
_TRY_AGAIN_S = 2.0
_TURN_S = 0.25
_SETTLE_S = 0.7  # as a rule the last acknowledgement of the first echo has come by then
_LATE_S = 5.0  # on a slow or lossy line: what moves once until then still belongs to that echo
_LOOK_S, _LOOK_SELDOM_S = 1.0, 5.0  # from one look at the traffic to the next
_SHORT_S = 120
_GRACE_S = 2.0  # a session that is asked to end may take as long
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_MOST_TEXT_BYTES = 16384

# States of a session.
WAITING, OPENING, IDLE, ASKED, DONE = "WAITING", "OPENING", "IDLE", "ASKED", "DONE"


class CannotConnectError(KsshError):
    """No session could be opened; the text is what ssh said."""


class Listener(Protocol):
    """Who wants to know how a round goes on."""

    def found(self, result: Result) -> None:
        """One session has its result."""

    def tell(self, text: str) -> None:
        """Something else is worth a line."""

    def passed(self, elapsed_s: float, left_s: float) -> None:
        """Time has passed; left_s more are needed at most."""


def now_s() -> float:
    """Return a clock that runs while the machine sleeps, too, where there is one: idle is idle."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def remote_command(longest_s: float) -> str:
    """Return what echoes on the other side, in any login shell.

    A session whose path was cut would stay on the server for ever: timeout(1) ends it, where there
    is one.  "timeout 9 true" fails with versions that want other arguments.
    """
    return f"sh -c 'timeout 9 true 2>/dev/null && exec timeout {int(longest_s)} cat; exec cat'"


def _load_prctl() -> Callable[[], object] | None:
    """Return what makes the kernel end a child together with us, kill -9 included; Linux only.

    The end of its standard input ends the remote cat as well, but not where the path is cut.
    """
    if sys.platform != "linux":
        return None
    try:
        prctl = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return None
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Session:
    """One ssh, and how far it is."""

    def __init__(self, plan_s: int) -> None:
        """Plan a session that is to be idle for so long."""
        self.plan_s = plan_s
        self.state = WAITING
        self.since = 0.0  # OPENING: start; IDLE: last traffic; ASKED: the question
        self.idle_s = 0.0  # ASKED: for how long it had been idle
        self.tries = 0
        self.not_before = 0.0
        self.sockets: frozenset[int] = frozenset()
        self.segments: int | None = None
        self.settled_late = False
        self._process: subprocess.Popen[bytes] | None = None
        self._output = b""
        self._said = b""
        self._token = b""

    @property
    def files(self) -> list[IO[bytes]]:
        """What is to be read from it."""
        assert self._process and self._process.stdout and self._process.stderr
        return [self._process.stdout, self._process.stderr]

    @property
    def pid(self) -> int:
        """The pid of ssh."""
        assert self._process
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status of ssh, if it has ended."""
        return self._process.poll() if self._process else None

    @property
    def running(self) -> bool:
        """Tell whether ssh was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, words: Sequence[str], environment: Mapping[bytes, bytes]) -> None:
        """Start ssh and ask for the first echo.  Raises KsshError."""
        self._output = self._said = b""
        try:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                # Ctrl-C at the terminal is for us: what is known so far is still to be told.
                start_new_session=True,
                preexec_fn=_load_prctl(),  # noqa: PLW1509 - there are no threads
            )
        except OSError as error:
            raise KsshError(f"cannot run {printable(words[0])}: {error.strerror}") from error
        for file in self.files:
            os.set_blocking(file.fileno(), False)
        self.state, self.since = OPENING, now_s()
        self.tries += 1
        self.ask()

    def ask(self) -> None:
        """Ask for an echo."""
        assert self._process and self._process.stdin
        self._token = b"probe %d\n" % time.monotonic_ns()
        self._output = b""
        with contextlib.suppress(OSError):  # ssh has ended: its end tells why
            os.write(self._process.stdin.fileno(), self._token)

    @property
    def answered(self) -> bool:
        """Tell whether the echo has come."""
        return self._token in self._output

    def read(self) -> bool:
        """Read what there is; return False at the end of ssh's output."""
        open_ = True
        for place, file in enumerate(self.files):
            with contextlib.suppress(BlockingIOError):
                data = os.read(file.fileno(), 65536)
                if place == 0:
                    self._output = (self._output + data)[-_MOST_TEXT_BYTES:]
                    open_ = bool(data)
                else:
                    self._said = (self._said + data)[-_MOST_TEXT_BYTES:]
        return open_

    @property
    def said(self) -> list[str]:
        """The lines that ssh wrote to standard error."""
        lines = self._said.decode("utf-8", "surrogateescape").splitlines()
        return [printable(line.rstrip()) for line in lines if line.strip()]

    def wait(self) -> None:
        """Give an ssh whose output has ended the time to end itself, and read its last words."""
        assert self._process
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self.read()

    def cause(self) -> str:
        """Return the outcome that an ended ssh tells of."""
        text = " ".join(self.said).lower()
        if "reset by" in text or "broken pipe" in text:
            return RESET
        if "timed out" in text or "no route" in text or "unreachable" in text:
            return SILENT
        return CLOSED

    def hang_up(self) -> None:
        """End the remote side by the end of its input."""
        if self._process and self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def signal(self, signum: int) -> None:
        """Send ssh and what it has started a signal, if it runs."""
        if self._process and self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signum)

    def close(self) -> None:
        """Reap ssh, which must have ended or been killed."""
        if self._process:
            self._process.wait()
            for file in self.files:
                file.close()
            self._process = None


class Round:
    """Sessions that run side by side, each idle for its own time.

    results  of this round, in the order in which they were found
    blind    True if nobody could tell whether the line was quiet
    """

    def __init__(
        self,
        words: Callable[[float], Sequence[str]],
        environment: Mapping[bytes, bytes],
        plan: Sequence[int],
        patience_s: float,
        listener: Listener,
    ) -> None:
        """Plan a round.

        words       for how long the remote side may live → the words that start ssh
        plan        idle times, in seconds
        patience_s  for how long an echo is waited for
        """
        self._words = words
        self._environment = environment
        self._patience_s = patience_s
        self._listener = listener
        self._sessions = [Session(plan_s) for plan_s in sorted(plan, reverse=True)]
        self._look_every_s = _LOOK_S if max(plan) <= _SHORT_S else _LOOK_SELDOM_S
        self._looked = 0.0
        self._began = 0.0
        self._selector = selectors.DefaultSelector()
        self.results: list[Result] = []
        self.blind = False

    def run(self, earlier: Sequence[Result] = ()) -> None:
        """Run until every session has its result, or until those that wait cannot change a thing.

        earlier holds the results of rounds before.  Raises CannotConnectError; ends all sessions in any case.
        """
        self._began = now_s()
        try:
            while True:
                waiting = [session.plan_s for session in self._sessions if session.state != DONE]
                if decided([*earlier, *self.results], waiting):
                    return
                self._turn()
        finally:
            self._end()

    def _turn(self) -> None:
        self._open()
        moment = now_s()
        due = [limit - moment for limit in map(self._limit, self._sessions) if limit is not None]
        for key, _ in self._selector.select(max(0.0, min([_TURN_S, *due]))):
            self._read(key.data)
        if now_s() >= self._looked + self._look_every_s:
            self._look()
        moment = now_s()
        for session in self._sessions:
            limit = self._limit(session)
            if limit is not None and moment >= limit:
                self._time_is_up(session)
        self._listener.passed(moment - self._began, self._left_s(moment))

    def _limit(self, session: Session) -> float | None:
        """Return when something is due for a session, or None."""
        lasts_s = {OPENING: OPEN_LIMIT_S, IDLE: session.plan_s, ASKED: self._patience_s}
        return session.since + lasts_s[session.state] if session.state in lasts_s else None

    def _left_s(self, moment: float) -> float:
        lefts = [0.0]
        for session in self._sessions:
            if session.state in (WAITING, OPENING):
                lefts.append(session.plan_s + self._patience_s)
            elif session.state == IDLE:
                lefts.append(session.since + session.plan_s + self._patience_s - moment)
            elif session.state == ASKED:
                lefts.append(session.since + self._patience_s - moment)
        return max(lefts)

    def _open(self) -> None:
        """Start what may be started now: one alone at first, so that a wrong host is told once."""
        proven = any(session.state not in (WAITING, OPENING) for session in self._sessions)
        room = AT_ONCE if proven else 1
        room -= sum(session.state == OPENING for session in self._sessions)
        for session in self._sessions:
            if room <= 0:
                return
            if session.state == WAITING and now_s() >= session.not_before:
                longest_s = 2 * session.plan_s + self._patience_s + OPEN_LIMIT_S
                session.start(self._words(longest_s), self._environment)
                for file in session.files:
                    self._selector.register(file, selectors.EVENT_READ, session)
                room -= 1

    def _read(self, session: Session) -> None:
        if session.state in (DONE, WAITING):  # as of an event before in this turn
            return
        if not session.read():
            session.wait()
            self._ended(session)
        elif session.answered and session.state == OPENING:
            session.state, session.since = IDLE, now_s()
        elif session.answered and session.state == ASKED:
            self._done(session, Result(session.idle_s, ALIVE))

    def _time_is_up(self, session: Session) -> None:
        if session.state == OPENING:
            self._failed(session, [f"no echo within {OPEN_LIMIT_S:.0f} s"])
        elif session.state == ASKED:
            self._done(session, Result(session.idle_s, SILENT))
        else:
            self._look()
            if session.state == IDLE:  # nothing was seen to move
                moment = now_s()
                session.idle_s = round(moment - session.since, 1)
                session.ask()
                session.state, session.since = ASKED, moment

    def _ended(self, session: Session) -> None:
        """Ssh has ended by itself."""
        if session.state == OPENING:
            self._failed(session, session.said)
        else:
            idle_s = session.idle_s if session.state == ASKED else round(now_s() - session.since, 1)
            self._done(session, Result(idle_s, session.cause()))

    def _failed(self, session: Session, why: Sequence[str]) -> None:
        if not why:
            status = "" if session.status is None else f" (exit status {session.status})"
            why = [f"the session ended without an echo{status}; probe needs a host that runs cat"]
        self._forget(session)
        session.signal(signal.SIGKILL)
        session.close()
        proven = any(other.state not in (WAITING, OPENING) for other in self._sessions)
        if not proven and all(other is session or other.state == WAITING for other in self._sessions):
            raise CannotConnectError("\n".join(why))
        if session.tries < _TRIES:
            # A server may have refused it for want of room (MaxStartups).
            session.state, session.not_before = WAITING, now_s() + _TRY_AGAIN_S
        else:
            session.state = DONE
            self._listener.tell(f"no result for {duration(session.plan_s)}: {why[-1]}")

    def _done(self, session: Session, result: Result) -> None:
        session.state = DONE
        self._forget(session)
        session.hang_up()
        if result.dead:
            session.signal(signal.SIGTERM)
        self.results.append(result)
        self._listener.found(result)

    def _forget(self, session: Session) -> None:
        for file in session.files:
            with contextlib.suppress(KeyError):
                self._selector.unregister(file)

    def _look(self) -> None:
        """See whether anything moved on a line that should be quiet."""
        moment = self._looked = now_s()
        idle = [s for s in self._sessions if s.state == IDLE and moment >= s.since + _SETTLE_S]
        if self.blind or not idle:
            return
        table = traffic.segments()
        if table is None:
            self.blind = True
            return
        for session in idle:
            if session.segments is None:
                session.sockets = traffic.inodes(session.pid)
            found = [table[inode] for inode in session.sockets if inode in table]
            if not found:
                self.blind = self.blind or session.status is None
            elif session.segments is None:
                session.segments = sum(found)
            elif session.segments == sum(found):
                continue
            elif moment < session.since + _LATE_S and not session.settled_late:
                session.settled_late = True
                session.since, session.segments = moment, sum(found)
            else:
                self._done(session, Result(round(moment - session.since, 1), BUSY))

    def _end(self) -> None:
        """End every session, politely, then not."""
        # A second Ctrl-C would leave some behind; this takes a few seconds at most.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for session in self._sessions:
                session.hang_up()
                if session.state == OPENING:
                    session.signal(signal.SIGTERM)
            for signum in (signal.SIGTERM, signal.SIGKILL):
                deadline = time.monotonic() + _GRACE_S
                while any(s.running for s in self._sessions) and time.monotonic() < deadline:
                    time.sleep(0.02)
                for session in self._sessions:
                    session.signal(signum)
            for session in self._sessions:
                session.close()
            self._selector.close()
        finally:
            signal.signal(signal.SIGINT, before)
