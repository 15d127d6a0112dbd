"""The guard of one connection: looks, asks and knocks as link/suspicion.py tells it to.

Knows how signs are read.  Must not know what they prove.
"""

from __future__ import annotations

import time

from ..link import suspicion
from ..link.suspicion import Case, Event, Signs, Terms
from .knock import Knock
from .watch import has_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..system.loop import Loop
    from .connection import Connection, Question

_LOOK = "look at the connection"  # timer on the loop
_NONE = Terms(0)


class Guard:
    """Looks after a connection; one that is healthy and quiet costs nothing."""

    def __init__(self, loop: Loop, dead: Callable[[str], None]) -> None:
        """Guard on a loop; dead is called with the reason once the connection cannot work any more."""
        self._loop = loop
        self._dead = dead
        self._connection: Connection | None = None
        self._case = Case(_NONE)
        self._question: Question | None = None  # the other end is being asked
        self._knock: Knock | None = None

    def take(self, connection: Connection | None, terms: Terms = _NONE) -> None:
        """Look after a connection from now on, and no more after the one of before; None: after none."""
        self.look_away()
        self._connection = connection
        self._case = Case(terms, unproven=self._case.unproven)

    def hint(self, shaken: bool = False) -> None:
        """Look at the connection: something hints at trouble, or it is in use.

        shaken  something happened to the network
        """
        now = time.monotonic()
        # Asked first: a busy tunnel hints with each line of ssh's log, and to count turns is to read a file.
        if self._connection is not None and (shaken or suspicion.heeds(self._case, now)):
            self._tell(suspicion.Hinted(now, self._connection.turns(), shaken))

    def network_changed(self) -> None:
        """Look whether the connection has lost its address, or its way."""
        if self._connection is None:
            return
        if has_address(self._connection.local):
            self.hint(shaken=True)
        else:
            self._dead(f"local address {self._connection.local} is gone")

    def look_away(self) -> None:
        """Look at the connection no more until something hints at trouble again."""
        self._tell(suspicion.LookedAway())

    def close(self) -> None:
        """Look no more."""
        self.take(None)

    def _tell(self, event: Event) -> None:
        self._case, actions = suspicion.step(self._case, event)
        if not self._case.asks:
            self._end_question()
        for action in actions:
            self._perform(action)

    def _perform(self, action: suspicion.Action) -> None:
        if isinstance(action, suspicion.Look):
            self._loop.arm(_LOOK, action.after_s, self._look)
        elif isinstance(action, suspicion.Ask):
            self._ask()
        elif isinstance(action, suspicion.AskAgain):
            assert self._question is not None
            self._loop.arm(_LOOK, max(self._question.ask(), action.least_s), self._look)
        elif isinstance(action, suspicion.Knock):
            self._try_path()
        elif isinstance(action, suspicion.Rest):
            self._stop_knocking()
            self._loop.disarm(_LOOK)
        elif isinstance(action, suspicion.GiveUp):
            self._dead(action.why)

    def _signs(self) -> Signs:
        assert self._connection is not None
        unanswered = self._question.unanswered() if self._question is not None else 0
        return Signs(self._connection.retransmissions(), self._connection.turns(), unanswered)

    def _look(self) -> None:
        self._tell(suspicion.Looked(self._signs()))

    def _ask(self) -> None:
        """Ask from the beginning: earlier answers and earlier knocks no longer count."""
        assert self._connection is not None
        self._stop_knocking()
        self._end_question()
        self._question = self._connection.question()
        if self._question is None:
            self._tell(suspicion.NotAskable())
        else:
            self._loop.arm(_LOOK, self._question.ask(), self._look)

    def _end_question(self) -> None:
        if self._question is not None:
            self._question.close()
            self._question = None

    def _try_path(self) -> None:
        assert self._connection is not None
        if self._knock is None:
            place = self._connection.remote, self._connection.remote_port
            self._knock = Knock(self._loop, *place, self._path_works)
        self._knock.try_once()

    def _path_works(self) -> None:
        assert self._knock is not None
        took_s = self._knock.took_s
        self._stop_knocking()
        self._tell(suspicion.PathWorked(self._signs(), took_s))

    def _stop_knocking(self) -> None:
        if self._knock is not None:
            self._knock.close()
            self._knock = None
