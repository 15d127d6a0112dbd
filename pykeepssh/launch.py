"""How ssh is started: its options, its log channel, its descriptors.

Knows the request, and what earlier starts have shown.  Must not know when ssh is started, nor what
becomes of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from .errors import KsshError
from .link import identity, plan as planning, record
from .link.kinds import STREAM, TUNNEL
from .link.plan import Plan
from .link.request import Request
from .ssh.conversation import Conversation
from .ssh.escapes import Escapes
from .system import ancestry, effective, files, log_channel, program, state, this_host
from .system.child import PlainChild, PtyChild, gave_up_output
from .system.descriptors import is_terminal, to_nowhere
from .system.log import Log
from .terminal.relay import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .link.multiplexer import Resumed
    from .terminal.person import Unattended

_TELLS_DEVICE = (8, 3)  # OpenSSH that logs what the server says to "-w"


class Launcher:
    """Starts the runs of one link.

    has_pty  there is a pseudo-terminal for a run that needs one
    ports    the ports that the server chose: the next ssh asks for them again
    resumed  the multiplexer's session that a shell comes back to, or None
    """

    def __init__(self, request: Request, log: Log) -> None:
        self._request = request
        self._log = log
        self._tags = self._ask_tags()
        self._told_channel = False
        self.has_pty = request.plan.kind == STREAM or program.can_have_pty()
        self.ports = identity.Chosen(request.line)
        self.resumed: Resumed | None = None

    # -- what is asked before the first start ------------------------------------------------------

    def ask_version(self) -> tuple[int, int] | None:
        """Return the version of OpenSSH, or None if it does not tell."""
        return effective.ask_version(self._request.path, self._environment())

    def _environment(self) -> dict[bytes, bytes]:
        return program.environment_for(self._request.path, os.environb)

    def _ask_tags(self) -> int:
        """Return how ssh can be made to tag its messages (plan.NO_TAGS, NAMES or IDS)."""
        if self._request.line.has_keyword("LogVerbose"):
            return planning.NO_TAGS
        if self._request.configuration:
            return planning.tags_of(self._request.configuration)
        version = self.ask_version()
        return planning.IDS if version is not None and version >= (8, 7) else planning.NO_TAGS

    def waits_for_device(self) -> bool:
        """Tell whether a tunnel device is asked for, of an ssh that tells the answer."""
        if not self._request.wants_device:
            return False
        version = self.ask_version()
        return version is not None and version >= _TELLS_DEVICE

    def choose_session(self, link_files: state.LinkFiles) -> None:
        """Choose the multiplexer's session that this kssh comes back to, if it is to come back to one."""
        request = self._request
        if not request.multiplexer:
            return
        from .link import multiplexer  # 0.2 ms, only for KSSH_RESUME

        version = self.ask_version()
        if version is not None and version < multiplexer.NEEDS:
            self._log.write_error(f"{request.host}: this ssh has no RemoteCommand; opening a plain shell")
            return
        named = request.settings.name
        account = identity.account(request.line, files.working_directory())
        # Two at once share no session, and the next one finds what a dead one left.
        slot = 0 if named else link_files.number(record.link_name("resume", [], account))
        us = [this_host.identity(), this_host.name(), str(os.getuid()), *account]
        name = multiplexer.session_name(named, this_host.name(), us, slot or os.urandom(4).hex())
        self.resumed = multiplexer.Resumed(request.multiplexer, name)

    # -- one start ---------------------------------------------------------------------------------

    def start(self, person: Unattended, stood: bool, alone: bool) -> Run:
        """Start ssh; return its run.

        person  who sits at the terminal
        stood   the link had a session before
        alone   the shared master is known to be dead: ssh is to have a connection of its own

        Raises KsshError if ssh cannot be run.
        """
        request = self._request
        self._look_whether_to_ask(person)
        plan = request.make_plan()
        if request.plan.kind == TUNNEL and stood:
            planning.add_for_restart(plan, request.settings)
        resumed = self.resumed if self.resumed is not None and self.resumed.tool else None
        if resumed is not None:
            planning.add_resume(plan, resumed.command(self._environment(), person.takes_utf8()))
        instead = planning.leave_master(plan, request.line) if alone else {}
        shared = planning.shares_connection(plan, request.line, request.configuration)
        forks_away = planning.forks_away(plan, request.configuration, shared)
        channel = self._open_channel(plan, shared, forks_away)
        instead.update(self._ports_again(plan))
        words = request.line.with_options(plan.first, plan.last, plan.without, instead)
        try:
            child = self._start_child(words, person)
        except KsshError:
            if channel is not None:
                channel.close()
            raise

        def proof() -> bool:
            return forks_away or any(map(gave_up_output, self._pids_of(child)))

        conversation = Conversation(
            Escapes(request.escape, self.ask_version),
            plan.tagged,
            proof,
            request.ssh_level,
            channel is not None,
            person.signal_characters(),
        )
        return Run(child, channel, conversation, resumed.greeting() if resumed is not None else None)

    def _look_whether_to_ask(self, person: Unattended) -> None:
        """See whether ssh may ask: a job in the background is stopped for it; unwatched, for good."""
        if person.answers and not self._request.caller.attended:
            self._request.caller.asks = person.signals_us()

    def _open_channel(self, plan: Plan, shared: bool, forks_away: bool) -> log_channel.LogChannel | None:
        """Open a log channel and add to a plan what makes ssh write to it; None if there is none."""
        try:
            channel = log_channel.LogChannel(log_channel.folders(os.environ))
        except OSError as error:
            if not self._told_channel:
                self._told_channel = True
                why = f"cannot read ssh's log ({error.strerror}); judging by its exit status alone"
                self._log.write_error(f"{self._request.host}: {why}")
            return None
        tags = planning.NAMES if forks_away and self._tags == planning.IDS else self._tags
        quiet = bool(self._request.line.count("q"))
        planning.add_log_channel(plan, channel.path, shared, tags, quiet)
        if plan.log:
            return channel
        channel.close()
        return None

    def _ports_again(self, plan: Plan) -> dict[int, str]:
        """Return the options that ask again for the ports that the server chose before."""
        # A refused port ends ssh, and then any other will do; an ssh that stays would lack its forward.
        own_wish = self._request.line.has_keyword("ExitOnForwardFailure")
        again = "ExitOnForwardFailure=yes" in plan.last and not own_wish
        return self.ports.instead() if again else {}

    def _pids_of(self, child: PtyChild | PlainChild) -> list[int]:
        """Return the processes of which one is ssh: a script may have started it."""
        below = ancestry.descendants(child.pid) if program.is_script(self._request.path) else []
        return [child.pid, *below]

    def _start_child(self, words: Sequence[str], person: Unattended) -> PtyChild | PlainChild:
        path, plan, caller = self._request.path, self._request.plan, self._request.caller
        environment = self._environment()
        if plan.kind == STREAM:
            if plan.background:
                to_nowhere(0)  # "-f" takes standard input away, and kssh has taken the -f
            return PlainChild(path, words, environment)
        if not self.has_pty:
            return PlainChild(path, words, environment, heard=True)
        if caller.askpass and not (caller.asks and caller.session):
            # Without kssh ssh would have no terminal to ask on.  This one is a pty of ours.
            environment.setdefault(b"SSH_ASKPASS_REQUIRE", b"force")
        stdout_fd = 1 if plan.kind == TUNNEL and not is_terminal(1) else None  # for a LocalCommand
        return PtyChild(path, words, environment, *person.for_pty(), stdout_fd)
