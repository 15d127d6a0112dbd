"""How far a run of ssh has come: each step is news once, in order.

Knows evidence.  Must not know what follows from a step.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..ssh.evidence import AUTHENTICATED, CONNECTED, CONNECTING, DEVICE, SESSION, Evidence
from .kinds import STREAM, TUNNEL
from .policy import Rules, may_have_run

# The steps, in order.
FORGED = "forged"  # a server wrote lines that look like ssh's own: nothing else is believed
IS_SHARED = "shared"  # ssh is a client of a shared master
IS_CONNECTING = "connecting"
IS_CONNECTED = "connected"
HAS_READ = "has read"  # a stream that must not run twice: ssh may have read input, or run the command
IS_AUTHENTICATED = "authenticated"  # ssh asks for nothing any more
HAS_SESSION = "session"
HAS_COMMAND = "command"  # in place of the shell that was expected
IS_UP = "up"  # all that was asked for is there


class Progress:
    """The steps of one run."""

    def __init__(self, remote_forwards: int, device: bool) -> None:
        """Begin a run; the arguments are those of has_gone_up()."""
        self._remote_forwards = remote_forwards
        self._device = device
        self._told: set[str] = set()

    @property
    def is_up(self) -> bool:
        """Whether IS_UP was told."""
        return IS_UP in self._told

    def news(self, seen: Evidence, rules: Rules) -> Iterator[str]:
        """Yield the steps that are new, one at a time: what follows from one may end the run."""
        for step in self._reached(seen, rules):
            if step not in self._told:
                self._told.add(step)
                yield step

    def _reached(self, seen: Evidence, rules: Rules) -> Iterator[str]:
        if seen.forged:
            yield FORGED
            return
        if seen.shared:
            yield IS_SHARED
        if seen.phase >= CONNECTING:
            yield IS_CONNECTING
        if seen.phase >= CONNECTED:
            yield IS_CONNECTED
        if rules.kind == STREAM and not rules.restartable and may_have_run(seen, STREAM):
            yield HAS_READ
        if seen.phase >= AUTHENTICATED:
            yield IS_AUTHENTICATED
        if seen.phase == SESSION:
            yield HAS_SESSION
        if seen.command_sent and rules.runs_no_command:
            yield HAS_COMMAND
        if has_gone_up(seen, rules.kind, self._remote_forwards, self._device):
            yield IS_UP


def has_gone_up(seen: Evidence, kind: str, remote_forwards: int, device: bool = False) -> bool:
    """Tell whether the session and every requested forward are there.

    remote_forwards  how many of them were asked for
    device           a tunnel device was asked for, of an ssh that tells the answer

    Local forwards are opened before the session phase and ssh ends itself if one fails; remote ones
    are confirmed after it.  A user who switched ExitOnForwardFailure off accepts refused ones.
    """
    if seen.phase != SESSION or seen.forward_fatal or seen.replies is False:
        return False
    if device and not seen.device_answered:
        return False
    refused = sum(place != DEVICE for place in seen.remote_refused)
    return kind != TUNNEL or seen.remote_up + refused >= remote_forwards
