"""What kssh was asked to do: command line, settings, configuration and plan, as one value.

Knows what follows from these alone.  Must not know how any of it is done.
"""

from __future__ import annotations

from ..errors import printable
from ..ssh import escapes
from ..ssh.levels import LEVELS
from . import identity, plan as planning
from .kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from .policy import Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..settings import Settings
    from ..ssh.args import CommandLine
    from .plan import Caller, Plan

ON_TERMINAL = (SHELL, ATTACH, COMMAND)


class Request:
    """One call of kssh.

    path           the ssh program
    line           the user's command line
    configuration  what "ssh -G" said of it (keyword in lower case: values), or None
    plan           what to do with it
    settings       the user's KSSH_ variables
    caller         who started kssh; it changes when the terminal is given up
    host           the destination, as text for a line of kssh's
    """

    def __init__(
        self,
        path: str,
        line: CommandLine,
        configuration: dict[str, list[str]] | None,
        plan: Plan,
        settings: Settings,
        caller: Caller,
    ) -> None:
        self.path = path
        self.line = line
        self.configuration = configuration
        self.plan = plan
        self.settings = settings
        self.caller = caller
        self.host = printable(line.destination or "")

    def first_value(self, keyword: str, otherwise: str) -> str:
        """Return a keyword's value in the effective configuration, or another where that is not known."""
        return planning.first_value(self.configuration, keyword, otherwise)

    def make_plan(self) -> Plan:
        """Return a plan for the next start; the caller may add options to it."""
        return planning.make(self.line, self.configuration, self.settings, self.caller)

    @property
    def rules(self) -> Rules:
        """The rules of the machine."""
        kind, settings = self.plan.kind, self.settings
        always = settings.restart == "always"
        return Rules(
            kind,
            always or kind in (TUNNEL, SHELL, ATTACH),
            self.caller.attended,
            settings.first_start,
            float(settings.backoff_max_s),
            settings.maxstart,
            kind == SHELL and not always and settings.resume == "off",
        )

    # -- which link it is --------------------------------------------------------------------------

    def name(self, folder: str) -> str:
        """Return the link's name; folder is the working directory."""
        return self.settings.name or identity.name(self.line, folder)

    @property
    def stands_once(self) -> bool:
        """Whether only one of this link can run at a time."""
        if self.plan.kind != TUNNEL:
            return False
        # What ssh did not tell in time may be a listener too.
        if self.settings.name or self.configuration is None:
            return True
        return identity.stands_once(self.forwards + identity.forwards(self.line, None))

    @property
    def forwards(self) -> list[str]:
        """What is forwarded, as in "R2222 [localhost]:22"."""
        return identity.forwards(self.line, self.configuration)

    @property
    def remote_forwards(self) -> int:
        """How many remote forwards the server will have to confirm."""
        return identity.remote_forwards(self.line, self.configuration)

    @property
    def wants_device(self) -> bool:
        """Whether a tunnel waits for a device ("-w")."""
        return self.plan.kind == TUNNEL and identity.wants_device(self.line, self.configuration)

    @property
    def name_and_family(self) -> tuple[str, str]:
        """The name that ssh looks up, and AddressFamily of ssh_config(5) for it."""
        name = self.first_value("hostname", self.line.destination or "")
        return name, self.first_value("addressfamily", "any")

    # -- what ssh is given -------------------------------------------------------------------------

    @property
    def control_path(self) -> str:
        """The socket of the shared master that ssh may use, or "none"."""
        if not planning.shares_connection(self.plan, self.line, self.configuration):
            return "none"
        return self.first_value("controlpath", "none")

    @property
    def multiplexer(self) -> str:
        """Which one holds the shell (KSSH_RESUME), or ""."""
        resume = self.settings.resume
        return resume if self.plan.kind == SHELL and resume != "off" else ""

    @property
    def escape(self) -> int | None:
        """The escape character, as a byte value; None for none."""
        return escapes.parse(self.first_value("escapechar", (self.line.values("e") or ["~"])[-1]))

    def hangup_restarts(self, rules: Rules) -> bool:
        """Tell whether SIGHUP asks for a restart, as of a daemon: there is no window that could close."""
        return rules.restartable and not self.caller.session

    # -- who sees what -----------------------------------------------------------------------------

    @property
    def uses_terminal(self) -> bool:
        """Whether kssh stands between ssh and a terminal, be it for prompts alone."""
        return self.plan.kind != STREAM and self.caller.asks

    @property
    def separates_stderr(self) -> bool:
        """Whether ssh's standard error is not the terminal, and so not the pty."""
        return self.uses_terminal and not self.plan.background and not self.caller.stderr_shown

    @property
    def log_level(self) -> str:
        """The level of kssh's own lines.

        ssh's -q is a word about its own lines and kssh's; only KSSH_LOGLEVEL says otherwise.
        """
        quiet = self.plan.user_level == "QUIET" and not self.settings.given & {"LOGLEVEL", "LOGFILE"}
        return "QUIET" if quiet else self.settings.loglevel

    @property
    def ssh_level(self) -> int:
        """Lines of ssh's log above this level are not for the user (levels.LEVELS)."""
        return LEVELS.get(self.plan.user_level, LEVELS["INFO"])
