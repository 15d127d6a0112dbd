"""The connection of a run of ssh: its own, or that of a shared master.

Knows how it is found and given to the lookout.  Must not know what follows when it is dead.
"""

from __future__ import annotations

from .errors import printable
from .link import plan as planning, suspicion
from .link.policy import Rules
from .link.request import Request
from .network import connection, mastersocket
from .network.lookout import Lookout
from .ssh.evidence import Evidence
from .system import ancestry
from .system.log import INFO, Log


class Connections:
    """The connections of a link's runs, one after the other."""

    def __init__(self, request: Request, lookout: Lookout, log: Log) -> None:
        self._request = request
        self._lookout = lookout
        self._log = log
        self._path = request.control_path  # of a shared master
        self._master: int | None = None  # its process, where ssh uses it now
        self._dead_master: int | None = None  # of one that is of no use any more

    # -- a shared master ---------------------------------------------------------------------------

    def leave_master(self) -> bool:
        """Begin a run; tell whether it must not use the shared master, which is known to be dead."""
        self._master = None
        if self._dead_master is None:
            return False
        found = mastersocket.pid(self._path)
        if found is None or found not in (self._dead_master, mastersocket.SILENT):
            self._dead_master = None  # it has ended, and another one may be there
        return self._dead_master is not None

    @property
    def may_share(self) -> bool:
        """Whether the run may become a client of a shared master."""
        return self._path != "none" and self._dead_master is None

    def guard_master(self) -> None:
        """Look after the connection of the master that ssh uses, which tells nobody that it is dead.

        The request of this very ssh may be what no answer comes to.
        """
        self._master = mastersocket.pid(self._path) or mastersocket.SILENT
        found = connection.first_of(self._master) if self._master else None
        self._lookout.rest()
        if found is not None:
            settings = self._request.settings
            silence_s = float(settings.interval_s * (settings.countmax + 1))
            self._lookout.guard(found, suspicion.shared_terms(silence_s))
            self._lookout.doubt()

    def master_is_silent(self) -> bool:
        """Tell whether an ssh that has no session yet waits for a master that does not answer.

        Through a master that works the session is there at once: nobody has to log in for it.
        """
        if self._master is None and mastersocket.pid(self._path) == mastersocket.SILENT:
            self._master = mastersocket.SILENT
        return self._master is not None

    def blame(self, why: str) -> str:
        """Take the connection for dead, and its master if it has one; return the reason to tell."""
        if self._master is None:
            return why
        self._dead_master = self._master
        shared = f"the shared connection {printable(self._path)} is dead"
        self._log.write(INFO, f"{self._request.host}: {shared} ({why}); connecting without it")
        return "the shared connection is dead"

    # -- ssh's own ---------------------------------------------------------------------------------

    def guard(self, pid: int, seen: Evidence, rules: Rules) -> None:
        """Look after the connection of an ssh whose session has begun."""
        if seen.shared:
            if not rules.restartable:
                self._lookout.leave()
            return  # the connection is the master's, and looked after
        pids, place = [pid], seen.address
        if place is None:
            if self._request.first_value("proxyjump", "none") == "none":
                return  # a ProxyCommand goes ways of its own
            pids = ancestry.descendants(pid)
        found = connection.of(pids, place)
        # Of a session that is not started again ssh will find out, and kssh can do nothing with it sooner.
        if found is not None and rules.restartable:
            request = self._request
            keepalive_s = planning.keepalive_s(request.line, request.configuration, request.settings)
            self._lookout.guard(found, suspicion.terms(rules.kind, keepalive_s))
