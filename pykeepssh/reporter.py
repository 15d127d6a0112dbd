"""What is told of a link, and to whom: the person, the log, the hook, the history, the state directory.

Knows who is told what.  Must not know why anything happens to the link.
"""

from __future__ import annotations

import os
import time

from .errors import KsshError, printable
from .link import history, machine, record, wording
from .link.kinds import STREAM, TUNNEL
from .link.outcomes import DOWN, GAVE_UP, RETRY, UP, Report
from .link.request import Request
from .system import checks, files, state, this_host
from .system.hook import PATIENCE_S, Hook
from .system.log import DEBUG, INFO, LEVELS, Log, SshLines
from .system.loop import WRITE, Loop
from .terminal.person import Unattended
from .terminal.words import Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .terminal.relay import Relay

_HOOK = "hook"  # timer


class Reporter:
    """Tells what happens to one link.

    log        kssh's own lines
    words      ssh's words, where they go that no terminal shows
    files      lock, record, history and pidfile
    relay      shows lines on the person's terminal; set once it exists
    """

    def __init__(self, request: Request, loop: Loop) -> None:
        """Open the log, and look at the hook.  Raises BadValue."""
        self._request = request
        self._loop = loop
        self._hook = Hook(request.settings.hook)
        show = self._show if request.caller.attended else None
        self.log = Log(request.log_level, request.settings.logfile, show)
        self.words = Words(request.host, self.log, request.ssh_level)
        self.relay: Relay | None = None
        self.files = state.LinkFiles()
        self._name = request.name(files.working_directory())
        self._pid_started = this_host.process_started()
        self._pid_mark = this_host.process_mark(os.getpid())
        self._recorded = ("", 0)  # state and start that the record tells
        self._since = time.time()  # when that state began
        self._down_since: float | None = None  # monotonic
        self._reason = ""  # why ssh ended last
        self._allocated: tuple[tuple[int, str], ...] = ()  # ports of the server while the link is up

    # -- beginning and end -------------------------------------------------------------------------

    def take_lock(self) -> str | None:
        """Take the lock and the pidfile; return who holds the lock, or None.  Raises BadValue."""
        request, pidfile = self._request, self._request.settings.pidfile
        once = request.stands_once
        if pidfile:
            checks.pidfile(pidfile)
        odd = self.files.open(
            request.settings.state_dir, self._name if once else f"{self._name}-{os.getpid()}"
        )
        if odd and request.plan.kind == TUNNEL:  # a shell needs no record
            self.log.write_error(odd)
        try:
            holder = self.files.lock() if once else None
        except OSError as error:
            holder = None
            why = f"cannot lock ({error.strerror}): a second kssh for this tunnel would go unnoticed"
            self.log.write_error(f"{request.host}: {why}")
        if holder is not None:
            told = f"{request.host}: {self._name} is already running ({printable(holder)})"
            self.log.write(INFO, told)
        elif pidfile:
            self.files.write_pidfile(pidfile)
        return holder

    def open_ssh_lines(self) -> None:
        """Open what the user's -E or -y names.  Raises KsshError."""
        paths = self._request.line.values("E")
        if not paths:
            self.words.user_lines = SshLines(None) if self._request.line.count("y") else None
            return
        try:
            self.words.user_lines = SshLines(paths[-1])
        except OSError as error:
            why = f"expected a file to append to ({error.strerror})"
            raise KsshError(f"-E {printable(paths[-1])}: {why}") from error

    def watch(self) -> None:
        """Write what nobody has read in time as soon as there is room."""
        lines = self.words.user_lines
        for sink in [*self.log.sinks(), *([lines.sink] if lines is not None and lines.sink else [])]:
            self._loop.watch(sink.fd, WRITE if sink.is_waiting else 0, sink.drain)

    def detach(self) -> None:
        """Leave the caller's standard error."""
        for sink in self.log.sinks():
            self._loop.forget(sink.fd)
        self.log.detach()

    def close(self) -> None:
        """Leave nothing behind but the history; may be called twice."""
        self.files.leave()
        self._hook.disown()
        self.log.close()
        if self.words.user_lines is not None:
            self.words.user_lines.close()

    # -- what happens ------------------------------------------------------------------------------

    def ssh_ended(self, now: float) -> None:
        """Take the time (monotonic) since when the link is down, if it was not down before."""
        if self._down_since is None:
            self._down_since = now

    def note(self, report: Report) -> Report:
        """Write a report into the history; return it with all that the others are told."""
        if report.event == UP and self._down_since is not None:
            report = report._replace(delay_s=time.monotonic() - self._down_since)
            self._down_since = None
        failed = self.files.append_history(history.pack(time.time(), os.getpid(), report))
        if failed:  # no failure may end the link
            self.log.write(DEBUG, f"{self._request.host}: cannot write the history: {failed}")
        self._reason = report.reason or self._reason
        self._allocated = report.allocated
        return report

    def tell(self, report: Report, kind: str) -> None:
        """Tell a report to the person, the log and the hook; kind is the link's kind of session now."""
        person = self._person
        shown = person.tell(report)
        as_ssh = self._request.caller.attended or kind == STREAM
        if person.covered:
            as_ssh = False  # nobody can read what ssh has said
        level = LEVELS[wording.level(report, as_ssh)]
        self.log.write(level, f"{self._request.host}: {wording.line(report, kind)}", shown)
        if report.event in (UP, DOWN, RETRY, GAVE_UP):
            self._run_hook(report, kind)

    def _show(self, text: str) -> None:
        """Show one line of kssh's own to the person at the terminal."""
        self._person.line(text)

    @property
    def _person(self) -> Unattended:
        return Unattended(self.words) if self.relay is None else self.relay.person

    # -- the hook ----------------------------------------------------------------------------------

    def _run_hook(self, report: Report, kind: str) -> None:
        link = {"KSSH_HOST": self._request.host, "KSSH_LINK": self._name, "KSSH_KIND": kind}
        failed = self._hook.run({**wording.hook_facts(report), **link, "KSSH_PID": str(os.getpid())})
        if failed:
            self.log.write_error(f"{self._request.host}: {failed}")
        self._follow_hook()

    def _follow_hook(self) -> None:
        """Start the hook that waits behind one that hangs, even if nothing else happens."""
        self._hook.reap()
        if self._hook.is_waiting:
            self._loop.arm(_HOOK, PATIENCE_S + 0.1, self._follow_hook)

    def reap_hooks(self) -> None:
        """Collect hooks that have ended; the next may begin."""
        self._hook.reap()

    @property
    def hooks(self) -> list[int]:
        """The processes of hooks that run."""
        return self._hook.pids

    # -- the record --------------------------------------------------------------------------------

    def write_record(self, link: machine.Link, ssh_pid: int | None) -> None:
        """Write the state record if it tells anything new; ssh_pid is None while no ssh runs."""
        state_now, starts = link.state, link.counts.starts
        if state_now == machine.ENDED or (state_now, starts) == self._recorded:
            return
        if self._recorded[0] != state_now:
            self._since = time.time()
        self._recorded = (state_now, starts)
        failed = self.files.write_record(record.pack(self._record(link, ssh_pid)))
        if failed:
            # A full disk must not end the link; the record is only for those who look.
            self.log.write(DEBUG, f"{self._request.host}: cannot write the state record: {failed}")

    def _record(self, link: machine.Link, ssh_pid: int | None) -> dict[str, object]:
        """Return the fields of the record (record.FIELDS)."""
        left_s = self._loop.left_s(machine.DELAY)
        return {
            "version": record.VERSION,
            "name": self._name,
            "kind": link.rules.kind,
            "destination": self._request.host,
            "machine": this_host.name(),
            "machine_key": this_host.key(),
            "pid": os.getpid(),
            "pid_started": self._pid_started,
            "pid_mark": self._pid_mark,
            "ssh_pid": ssh_pid,
            "state": link.state,
            "since": self._since,
            "starts": link.counts.starts,
            "reason": self._reason,
            "next": None if left_s is None else time.time() + left_s,
            "allocated": [{"port": port, "to": printable(to)} for port, to in self._allocated],
            "forwards": [printable(forward) for forward in self._request.forwards],
            "logfile": self.log.path,
        }
