"""ksshctl probe: measures after how long an idle connection to a host is cut.

Knows the command line, progress and result lines.  Must not know how a session is held or a
verdict reached: sessions.py and plan.py do.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ...errors import KsshError, printable
from ...link.wording import duration
from ...settings import Settings
from ...ssh import args as sshargs
from ...system import effective, measured, program
from ..arguments import a_time
from ..main import say
from .plan import ALIVE, BUSY, CLOSED, RESET, SILENT, Result, Verdict, ladder, refine, sentences
from .sessions import CannotConnectError, Round, now_s, remote_command

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

FOUND, NOT_CONNECTED, INTERRUPTED = 0, 1, 130
_LONGEST_S = 86400
_LONGEST_PATIENCE_S = 300
_PLAIN_EVERY_S = 60.0

# What would keep the line busy, share it, or do more than hold a session open.
ADDED = (
    "ServerAliveInterval=0",
    "TCPKeepAlive=no",
    "RekeyLimit=default none",
    "ControlMaster=no",
    "ControlPath=none",
    "BatchMode=yes",
    "UpdateHostKeys=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "Tunnel=no",
    "PermitLocalCommand=no",
    "RequestTTY=no",
    "RemoteCommand=none",
)
# Letters that have no place here: sessions without a command, shared ones, terminals, ssh's log elsewhere.
_REFUSED = sshargs.QUERIES | frozenset("EMNSWfnsty")

_WORDS = {
    ALIVE: "still alive",
    SILENT: "cut: no answer",
    RESET: "cut: reset",
    CLOSED: "ended by the server",
    BUSY: "not quiet: something was sent",
}


def add_parser(subparsers: Any) -> None:
    """Add the parser of "probe"."""
    parser: argparse.ArgumentParser = subparsers.add_parser(
        "probe",
        help="measure after how long an idle connection is cut",
        usage="ksshctl probe [--max TIME] [--step TIME] [--patience TIME] HOST [-- SSH-OPTION ...]",
        description="Holds sessions to HOST without keepalive, each idle for its own time; asks which live.",
        epilog="Times are written as 90, 90s or 1m30s.  Exit status: 0 result, 1 could not connect, "
        "2 bad value, 130 interrupted.",
        allow_abbrev=False,
    )
    parser.add_argument("host", metavar="HOST", help="as ssh knows it")
    for name, most_s, default_s, what in (
        ("--max", _LONGEST_S, 1200, "the longest idle time to try [20m]"),
        ("--step", _LONGEST_S, None, "how precise the result must be [a fiftieth of it, at least 1 s]"),
        ("--patience", _LONGEST_PATIENCE_S, 10, "how long an answer may take [10 s]"),
    ):
        least_s = 2 if name == "--max" else 1
        parser.add_argument(name, type=a_time(least_s, most_s), default=default_s, metavar="TIME", help=what)
    parse = parser.parse_known_args

    # argparse cannot give one positional what precedes "--" and another one what follows it.
    def split(words: Any = None, namespace: Any = None) -> Any:
        words = list(words or ())
        place = words.index("--") if "--" in words else len(words)
        namespace, unknown = parse(words[:place], namespace)
        namespace.ssh_options = words[place + 1 :]
        return namespace, unknown

    parser.parse_known_args = split  # type: ignore[method-assign,assignment]


def run(arguments: argparse.Namespace) -> int:
    """Probe, and print what was found.  Raises KsshError."""
    settings = Settings(os.environ)
    target = Target(arguments.host, arguments.ssh_options, settings)
    network = measured.network()
    remembered = measured.recall(settings.state_dir, network, target.key)
    probe = Probe(target, arguments.patience)
    with Progress() as progress:
        try:
            probe.round(ladder(arguments.max, _times_in(remembered)), 1, progress)
            plan = refine(Verdict(probe.results), arguments.step)
            if plan:
                probe.round(plan, 2, progress)
            end = FOUND
        except KeyboardInterrupt:
            end = INTERRUPTED
        except CannotConnectError as error:
            end = NOT_CONNECTED
            failure = str(error)
    if end == NOT_CONNECTED:
        _complain(failure)
        if probe.results:
            _complain("the connection failed between two rounds; what the first one found:")
            say(*_told(probe, target, end))
        return end
    say(*_told(probe, target, end))
    if end == FOUND:
        verdict = Verdict(probe.results)
        before, network = network, measured.network()
        if not network.startswith(before):  # the gateway's hardware address may not have been known yet
            say("This machine changed to another network meanwhile: the result is not remembered.")
        else:
            _remember(settings.state_dir, network, target.key, verdict)
            say("Remembered for this network and host; kssh uses it with KSSH_INTERVAL=auto.")
    return end


class Target:
    """A host and how ssh is to be called for it.

    name  as the user wrote it
    key   as results are remembered
    """

    def __init__(self, name: str, options: Sequence[str], settings: Settings) -> None:
        """Ask ssh for the configuration in force.  Raises KsshError for words that cannot be used."""
        self.name = name
        self._path = program.find(settings.ssh, os.environ)
        self.environment = program.environment_for(self._path, os.environb)
        self._options = list(options)
        line = sshargs.parse([*options, name], self._tag_takes_argument)
        if line.destination != name or not line.complete or line.insert_at != len(options):
            raise KsshError("expected one HOST, and behind -- only options of ssh")
        wrong = next((option.letter for option in line.options if option.letter in _REFUSED), None)
        if wrong:
            raise KsshError(f"ssh's option -{printable(wrong)} has no place in a probe")
        output, status = effective.ask_configuration(self._path, line, self.environment).answer()
        configuration = effective.parse_configuration(output) if status == 0 else {}
        self.key = measured.host(configuration) if configuration else name
        self._connect_timeout_s = settings.connect_timeout_s

    def _tag_takes_argument(self) -> bool:
        version = effective.ask_version(self._path, self.environment)
        return version is not None and version >= (9, 4)

    @property
    def pattern(self) -> str:
        """The host as a Host line in ssh_config would name it: without user and port."""
        scheme, _, rest = self.name.partition("://")
        host = (rest if scheme == "ssh" else self.name).rpartition("@")[2]
        if scheme == "ssh":
            host = host.partition("/")[0]
            host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
        return host

    def words(self, longest_s: float) -> list[str]:
        """Return the words that start ssh with an echo that lives no longer than that."""
        added = [word for keyword in ADDED for word in ("-o", keyword)]
        lose = ["-o", f"ConnectTimeout={self._connect_timeout_s}"]
        command = remote_command(longest_s)
        return [self._path, *added, *self._options, *lose, "--", self.name, command]


class Probe:
    """All rounds of one probe.

    results  of all of them so far
    blind    nobody could tell whether the line was quiet
    """

    def __init__(self, target: Target, patience_s: float) -> None:
        self._target = target
        self._patience_s = patience_s
        self.results: list[Result] = []
        self.blind = False

    def round(self, plan: Sequence[int], number: int, progress: Progress) -> None:
        """Run one round.  Raises CannotConnectError."""
        progress.begin(number, self._target.name, plan, self._patience_s)
        running = Round(self._target.words, self._target.environment, plan, self._patience_s, progress)
        try:
            running.run(self.results)
        finally:
            self.results += running.results
            self.blind = self.blind or running.blind


class Progress:
    """How far it is, on standard error: a bar with the time left, or lines where that is no terminal."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._task: Any = None
        self._last = 0.0

    def __enter__(self) -> Progress:
        if sys.stderr.isatty():
            # 90 ms to import: only where a bar is drawn.
            from rich.console import Console
            from rich.progress import BarColumn, Progress as Bar, TextColumn

            text = TextColumn("{task.description}", markup=False)
            left = TextColumn("{task.fields[left]}", markup=False)
            console = Console(stderr=True, highlight=False, markup=False)
            self._bar = Bar(text, BarColumn(), left, console=console, transient=True, refresh_per_second=4)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def begin(self, number: int, host: str, plan: Sequence[int], patience_s: float) -> None:
        """A round begins."""
        many = f"{len(plan)} sessions to {printable(host)}" if len(plan) > 1 else "one session"
        longest = duration(max(plan) + patience_s)
        span = f"{duration(min(plan))} to {duration(max(plan))}" if len(plan) > 1 else duration(plan[0])
        self.tell(f"round {number}: {many}, idle for {span}; at most {longest}")
        self._last = now_s()
        if self._bar is not None:
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._bar.add_task(f"round {number}", total=max(plan) + patience_s, left="")

    def tell(self, text: str) -> None:
        """Print a line, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            _complain(text)

    def found(self, result: Result) -> None:
        """One session has its result."""
        self.tell(f"{duration(result.idle_s):>12}  {_WORDS[result.outcome]}")

    def passed(self, elapsed_s: float, left_s: float) -> None:
        """Draw the bar; without one, say now and then that it goes on."""
        if self._bar is not None:
            left = f"{duration(round(left_s))} left"
            self._bar.update(self._task, completed=elapsed_s, total=elapsed_s + left_s, left=left)
        elif now_s() >= self._last + _PLAIN_EVERY_S:
            self._last = now_s()
            _complain(f"at most {duration(round(left_s))} left")


def _times_in(remembered: Mapping[str, Any] | None) -> list[float]:
    found = [remembered.get(name) for name in ("alive_s", "dead_s")] if remembered else []
    return [float(value) for value in found if isinstance(value, (int, float))]


def _told(probe: Probe, target: Target, end: int) -> list[str]:
    verdict = Verdict(probe.results)
    said = ["Interrupted; this is not remembered.  So far:"] if end == INTERRUPTED else []
    said += sentences(verdict, printable(target.name))
    if not verdict.known or (end == INTERRUPTED and verdict.dead_s is None):
        return said
    if probe.blind and verdict.busy_s is None:
        said += [
            "It could not be seen whether the line was quiet (that takes Linux and ss): if the server",
            "sends keepalives of its own (ClientAliveInterval), they hide the path's timeout.",
        ]
    interval = verdict.interval_s
    host = shlex.quote(target.pattern)
    said += [
        f"Recommended: keepalive every {duration(interval)}:",
        f"    ksshctl keepalive set --user --host {host} --interval {interval}",
    ]
    return said


def _remember(state_dir: str, network: str, key: str, verdict: Verdict) -> None:
    measured.remember(
        state_dir,
        network,
        key,
        {
            "wall": round(time.time()),
            "alive_s": verdict.alive_s,
            "dead_s": verdict.dead_s,
            "how": verdict.how,
            "busy_s": verdict.busy_s,
            "interval_s": verdict.interval_s,
        },
    )


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
