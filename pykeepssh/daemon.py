"""What -f asks for: a front that answers prompts and waits, a back that stays.

The back is a child of the front and does all the work.  Until the link is up it remains in the
front's session and process group, so that job control treats both as the one command which the user
typed; then it leaves for a session of its own and the front returns 0.  Knows processes; must not
know what the back does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import STATUS
from .link.outcomes import Exit
from .system.descriptors import to_nowhere

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)


class Back:
    """The side that stays; hands its result to the front once."""

    def __init__(self, front: int) -> None:
        self.front: int | None = front

    def _tell(self, result: Exit) -> None:
        if self.front is None:
            return
        word = f"s{result.signal}" if result.signal is not None else f"c{result.code}"
        try:
            os.write(self.front, word.encode())
        except OSError:
            pass  # the front was killed this moment
        os.close(self.front)
        self.front = None

    def detach(self) -> None:
        """Leave the caller: session, process group and descriptors 0 to 2; the front returns 0."""
        if self.front is None:
            return
        os.setsid()
        to_nowhere(0, 1, 2)
        self._tell(Exit(0))

    def end(self, result: Exit) -> NoReturn:
        """End the back; a front that still waits ends the same way."""
        self._tell(result)
        os._exit(result.code if result.code is not None else 128 + (result.signal or 0))


def fork(serve: Callable[[Back], Exit]) -> Exit:
    """Run serve in the back; return, in the front, what the caller is to see."""
    modes = _terminal_modes()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read_end)
        back = Back(write_end)
        result = Exit(STATUS)
        try:
            result = serve(back)
        finally:
            back.end(result)
    os.close(write_end)
    before = {number: signal.getsignal(number) for number in FORWARDED}
    for number in FORWARDED:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, lambda signum, frame: _forward(pid, signum))
    word = os.read(read_end, 16)
    for number in FORWARDED:
        signal.signal(number, before[number])
    if word[:1] == b"s":
        return Exit(signal=int(word[1:]))
    if word[:1] == b"c":
        return Exit(code=int(word[1:]))
    # The back was killed: what it would have put right is the front's now.
    if modes is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(0, termios.TCSADRAIN, modes)
    return Exit(STATUS)


def _forward(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
        os.kill(pid, signal.SIGCONT)  # a stopped back would never hear of it
    except ProcessLookupError:
        pass


def _terminal_modes() -> list[Any] | None:
    try:
        return termios.tcgetattr(0)
    except (OSError, termios.error):
        return None
