"""Looks out for a link: for a way back while there is none, for trouble while there is one.

Ties knocks, lookups, the guard of a connection and what is heard of the network to the loop.  Which
way back is looked for, and how often, is decided in link/way_back.py.
"""

from __future__ import annotations

import time

from ..link import way_back
from ..link.way_back import Way
from ..system.loop import READ
from .guard import Guard
from .knock import Knock
from .lookup import Lookup
from .watch import Sleep, Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..link.outcomes import Report
    from ..link.suspicion import Terms
    from ..ssh.evidence import Evidence
    from ..system.loop import Loop
    from .connection import Connection

# Timers on the loop.
_TRY = "look for a way back"
_CHANGED = "network changed"


class Lookout:
    """Looks out for a link; a link that is healthy and quiet costs nothing."""

    def __init__(
        self,
        loop: Loop,
        name: tuple[str, str],
        opened: Callable[[], None],
        changed: Callable[[], None],
        dead: Callable[[str], None],
        jitter: Callable[[], float],
    ) -> None:
        """Look out on a loop.

        name     the host's, and AddressFamily of ssh_config(5) for it
        opened   the server answers again, or its name is there
        changed  the network changed, or the machine woke up, while waiting
        dead     the connection cannot work any more; told why
        jitter   gives random numbers, 0 ≤ jitter < 1: a crowd of clients must not knock in step
        """
        self._loop = loop
        self._name = name
        self._opened = opened
        self._changed = changed
        self._jitter = jitter
        self._watch = Watch()
        self._sleep = Sleep()
        self._guard = Guard(loop, dead)
        self._server: tuple[str, int] | None = None  # where ssh was connected to last, or its first hop
        self._way: Way | None = None
        self._lookup: Lookup | None = None  # while ssh cannot find the host's name
        self._tries: Knock | Lookup | None = None
        self._since: float | None = None  # when the wait for a way back began
        self._opened_once = False  # a knock was answered since then
        self._refused = False  # one was refused
        self._settled_at = float("-inf")
        if self._watch.fd is not None:
            self._loop.watch(self._watch.fd, READ, self._network_ready)

    # -- while there is no link ------------------------------------------------------------------

    def look_for_a_way(self, report: Report, seen: Evidence | None) -> None:
        """Look for a way back, after a RETRY that was told and an ssh whose log said what was seen."""
        way = way_back.after(report, seen, self._server, self._opened_once)
        if way is None:
            return
        self._way = way
        self._stop_trying()
        self._tries = self._tries_for(way)
        first = self._since is None
        if first:
            self._since = time.monotonic()
            self._sleep.resumed()
            self._watch.listen_to_all(True)
        if first or self._tries is None or not self._loop.is_armed(_TRY):
            self._arm(first)

    def _tries_for(self, way: Way) -> Knock | Lookup | None:
        if way.how != way_back.LOOK_UP:
            self._lookup = None
        elif self._lookup is None:
            self._lookup = Lookup(self._loop, *self._name, self._way_opened)
        if way.place is not None:
            return Knock(self._loop, *way.place, self._way_opened)
        return self._lookup

    def overtaken(self, seen: Evidence) -> bool:
        """Tell whether the way is open, and an ssh whose log says what was seen will not notice soon."""
        return self._way is not None and way_back.overtaken(self._way, seen)

    @property
    def pids(self) -> tuple[int, ...]:
        """The processes that look for a way back."""
        return () if self._tries is None else self._tries.pids

    def rest(self) -> None:
        """Look for a way back no more."""
        self._stop_trying()
        self._since = None
        self._opened_once = self._refused = False
        self._loop.disarm(_TRY)
        self._watch.listen_to_all(False)

    def _waited_s(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since

    def _arm(self, first: bool = False) -> None:
        if self._tries is None:
            delay_s = way_back.KNOCK_LATER_S  # only to see whether the machine slept
        else:
            delay_s = way_back.knock_s(None if first else self._waited_s(), self._jitter())
        self._loop.arm(_TRY, delay_s, self._due)

    def _due(self) -> None:
        self._arm()
        if self._sleep.resumed():
            self._changed()
        elif self._tries is not None:
            refused = self._refused or self._tries.refused
            if not (refused and way_back.rests(self._waited_s())):
                self._tries.try_once()

    def _way_opened(self) -> None:
        self._stop_trying()
        self._opened_once = True
        self._opened()

    def _stop_trying(self) -> None:
        if self._tries is not None:
            self._refused = self._refused or self._tries.refused
            self._tries.close()
            self._tries = None

    # -- while there is one ----------------------------------------------------------------------

    def guard(self, connection: Connection, terms: Terms) -> None:
        """Look after a connection from now on, and remember where it goes."""
        self._server = connection.remote, connection.remote_port
        self._guard.take(connection, terms)
        if self._sleep.fd is None:
            fd = self._sleep.watch()
            if fd is not None:
                self._loop.watch(fd, READ, self._clock_ready)

    def leave(self) -> None:
        """Look after no connection any more."""
        self._guard.take(None)

    def hint(self) -> None:
        """Something hints at trouble, or the connection is in use: look at it while it is."""
        self._guard.hint()

    def doubt(self) -> None:
        """Ask the other end of the connection whether it still knows it."""
        self._guard.hint(shaken=True)

    def look_away(self) -> None:
        """Look at the connection no more until something hints at trouble again."""
        self._guard.look_away()

    # -- the network -----------------------------------------------------------------------------

    def _network_ready(self, events: int) -> None:
        if self._watch.read() and not self._loop.is_armed(_CHANGED):
            since_s = time.monotonic() - self._settled_at
            self._loop.arm(_CHANGED, way_back.news_s(self._since is not None, since_s), self._settled)

    def _settled(self) -> None:
        self._settled_at = time.monotonic()
        if self._since is None:
            self._guard.network_changed()
        elif self._tries is not None:
            self._tries.close()  # what is under way was sent into the network of before
            self._tries.try_once()
        else:
            self._changed()

    def _clock_ready(self, events: int) -> None:
        if not self._sleep.resumed():
            return  # the clock was set
        if self._since is not None:
            self._changed()
        else:
            self.doubt()

    def close(self) -> None:
        """Look no more."""
        self._stop_trying()
        self._guard.close()
        if self._sleep.fd is not None:
            self._loop.forget(self._sleep.fd)
            self._sleep.close()
        for timer in (_TRY, _CHANGED):
            self._loop.disarm(timer)
        if self._watch.fd is not None:
            self._loop.forget(self._watch.fd)
            self._watch.close()
