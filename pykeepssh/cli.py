"""The command kssh: reads its command line and environment, then execs ssh or supervises it."""

from __future__ import annotations

import os
import sys

from . import __version__
from .errors import STATUS, KsshError, printable
from .link.kinds import STREAM, TUNNEL
from .settings import AUTO, Settings
from .ssh import args as sshargs
from .system import config_files, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .link.outcomes import Exit
    from .link.plan import Caller, Plan
    from .link.request import Request
    from .ssh.args import CommandLine

USAGE = """\
usage: kssh [ssh's options] destination [command [argument ...]]

kssh is ssh that comes back: it takes ssh's own command line, adds keepalive,
and restarts ssh when the link dies.  It never runs a remote command twice.

  kssh user@host                          a shell that comes back
  kssh -N -L 8080:localhost:80 user@host  a tunnel that comes back
  kssh -f -N -R 2222:localhost:22 host    the same in the background, for cron

environment (defaults in brackets):
  KSSH_INTERVAL [15]  KSSH_COUNTMAX [3]      keepalive: seconds, unanswered probes
  KSSH_MAXSTART [-1]                         limit for the number of starts, -1: none
  KSSH_RESTART [auto]                        auto, always, never, or attended: treat
                                             the terminal as one with a person at it
  KSSH_FIRST_START [auto]                    if the first start fails: auto, retry, fail
  KSSH_BACKOFF_MAX [30]  KSSH_CONNECT_TIMEOUT [15]  KSSH_MAXLIFETIME [0: none]
  KSSH_SSH  KSSH_NAME  KSSH_PIDFILE  KSSH_LOGFILE  KSSH_LOGLEVEL [INFO]
  KSSH_BELL [1]  KSSH_STALL_NOTICE [1]       on a terminal: 0 turns them off
  KSSH_RESUME [off]                          tmux, screen or zellij: keep the shell
                                             there, and find it again
  KSSH_STATE_DIR  KSSH_HOOK                  see kssh(1)

  kssh --help, kssh --version: this text, kssh's version.  kssh -V: ssh's version."""


def main() -> int:
    """Run kssh with the words and the environment of this process; return its exit status."""
    try:
        return _run(sys.argv[1:])
    except KsshError as error:
        program.complain(str(error))
        return STATUS
    except KeyboardInterrupt:
        # Before there is anything to end: as any program that does not handle SIGINT.
        program.die_of(program.SIGINT)


def _run(words: list[str]) -> int:
    line = sshargs.parse(words, _tag_takes_argument)
    if line.long_option:
        return _long_option(line.long_option)
    settings = Settings(os.environ)
    path = program.find(settings.ssh, os.environ)
    # A query: ssh answers it alone, and so it does with a command line that it will refuse.
    if not line.complete or any(option.letter in sshargs.QUERIES for option in line.options):
        program.become(path, words)
    from .link import plan as planning  # 0.3 ms, which a query saves

    program.wait_for_children()
    if not program.is_named_ssh(path) and _version(path) is None:
        program.become(path, words)  # Dropbear's client takes "-G" for nothing, and would connect
    files = config_files.Files(line)
    if not files.lasting:
        program.become(path, words)  # "ssh -G" would leave nothing in it
    caller = _caller(settings)
    stream = program.is_usual(path) and planning.is_left_to_ssh(line, settings, caller)
    if stream and not files.may_name(planning.MATTER_TO_STREAM):
        _become(path, line, None, planning.make(line, None, settings, caller), settings)
    configuration, status = _ask(path, line, files)
    if settings.interval_s == AUTO:
        from .system import measured  # 9 ms, and files: only where they were asked for

        settings.take_interval(measured.interval_s(settings.state_dir, configuration))
    plan = planning.make(line, configuration, settings, caller)
    doubtful = files.naming(planning.DEFAULTS) & plan.defaults.keys()
    if doubtful:
        defaults = {keyword: plan.defaults[keyword] for keyword in doubtful}
        settings.yielding = _explicit(path, line, files, configuration, defaults)
        plan = planning.make(line, configuration, settings, caller)
    if status not in (0, None) and (caller.attended or plan.kind != TUNNEL):
        program.become(path, words)  # ssh refuses its configuration or an option: it says why
    if plan.unsure and status is None and planning.may_tell(plan, settings):
        from .system.effective import LIMIT_S

        why = f"no answer from ssh -G within {LIMIT_S:g} s, so there may be a remote command"
        program.complain(f"{printable(line.destination or '')}: {why}; a lost link is not restarted")
    if not plan.supervised:
        _become(path, line, configuration, plan, settings)
    if plan.kind not in (STREAM, TUNNEL) and not program.can_have_pty():
        program.complain("no pseudo-terminal available; ssh runs alone and is not restarted")
        program.become(path, line.with_options(plan.first, plan.last, plan.without))
    from .link.request import Request

    return _supervise(Request(path, line, configuration, plan, settings, caller))


# The runner of "ssh -G" costs 0.6 ms to import, and most streams need none.


def _ask(
    path: str, line: CommandLine, files: config_files.Files
) -> tuple[dict[str, list[str]] | None, int | None]:
    """Return the configuration in force, None if ssh did not tell, and the status of "ssh -G"."""
    from .system import effective

    try:
        question = effective.ask_configuration(path, line, program.environment_for(path, os.environb))
    except OSError as error:
        raise KsshError(f"cannot run {printable(path)}: {error.strerror}") from error
    try:
        files.read()  # meanwhile
        output, status = question.answer()
    finally:
        question.close()  # Ctrl-C: it is in a session of its own, and nothing else would end it
    return effective.parse_configuration(output) if status == 0 and output else None, status


def _explicit(
    path: str,
    line: CommandLine,
    files: config_files.Files,
    configuration: dict[str, list[str]] | None,
    defaults: dict[str, str],
) -> frozenset[str]:
    """Return the keywords that the user's files set; where ssh does not tell, that they may set."""
    from .system import effective

    if configuration is None:
        return frozenset(defaults)
    environment = program.environment_for(path, os.environb)
    return effective.explicit(path, line, environment, files, configuration, defaults)


def _version(path: str) -> tuple[int, int] | None:
    from .system import effective

    return effective.ask_version(path, program.environment_for(path, os.environb))


def _tag_takes_argument() -> bool:
    version = _version(program.find(os.environ.get("KSSH_SSH", ""), os.environ))
    return version is not None and version >= (9, 4)


def _become(
    path: str,
    line: CommandLine,
    configuration: dict[str, list[str]] | None,
    plan: Plan,
    settings: Settings,
) -> NoReturn:
    """Let ssh take the place of kssh, with what the plan adds."""
    if settings.given & _FILES:
        from .system import checks  # 0.2 ms

        checks.all_of(settings)
    instead = _leave_hanging_master(plan, line, configuration, settings)
    program.become(path, line.with_options(plan.first, plan.last, plan.without, instead))


def _leave_hanging_master(
    plan: Plan, line: CommandLine, configuration: dict[str, list[str]] | None, settings: Settings
) -> dict[int, str]:
    """Keep ssh from a shared master with which it would wait for ever; return the options to change."""
    from .link import plan as planning

    control_path = planning.first_value(configuration, "controlpath", "none")
    joins = settings.restart != "never" and planning.joins_master(configuration)
    if not joins or not os.path.exists(control_path):
        return {}
    from .network import mastersocket  # 1 ms

    found = mastersocket.pid(control_path)
    why = "no answer" if found == mastersocket.SILENT else ""
    if found and mastersocket.resends(found):
        from .network import connection  # 5 ms, only where there may be trouble

        to_server = connection.first_of(found)
        if to_server is not None and to_server.retransmissions() >= mastersocket.LOST:
            why = "the server stopped answering"
    if not why:
        return {}
    if planning.may_tell(plan, settings):
        shared = f"the shared connection {printable(control_path)} is dead ({why})"
        program.complain(f"{printable(line.destination or '')}: {shared}; connecting without it")
    return planning.leave_master(plan, line)


def _supervise(request: Request) -> int:
    """Keep a link until it ends, then end as it did."""
    from . import daemon, supervisor
    from .system import descriptors

    descriptors.keep_only_standard()

    def serve(back: daemon.Back | None) -> Exit:
        return supervisor.keep(request, back)

    ended = daemon.fork(serve) if request.plan.background else serve(None)
    if ended.signal is not None:
        program.die_of(ended.signal)
    # The interpreter's own tidying up would take as long as ssh takes to log out: 8 ms.
    os._exit(STATUS if ended.code is None else ended.code)


_FILES = frozenset(("HOOK", "LOGFILE", "PIDFILE", "STATE_DIR"))


def _long_option(option: str) -> int:
    if option == "--help":
        text = USAGE
    elif option == "--version":
        text = f"kssh {__version__}"
    else:
        raise KsshError(
            f"unknown option {printable(option)}; ssh has no long options, kssh has --help and --version"
        )
    try:
        os.write(1, f"{text}\n".encode())
    except BrokenPipeError:
        return STATUS  # who read it has seen enough
    except OSError as error:
        raise KsshError(f"cannot write: {error.strerror}") from error
    return 0


def _caller(settings: Settings) -> Caller:
    from .link.plan import Caller

    stdin_tty, stdout_tty, stderr_tty = (_is_terminal(fd) for fd in (0, 1, 2))
    session = _has_controlling_terminal()
    vouched = settings.restart == "attended"
    # ssh asks on the controlling terminal, whatever its descriptors are; sshpass makes such a one.
    attended = (session and (stdin_tty or stderr_tty)) or (vouched and stdin_tty)
    stderr_shown = stderr_tty and (not session or _is_controlling_terminal(2))

    def person() -> bool:
        if not (stdin_tty and stdout_tty):
            return False
        controlling = session and _is_controlling_terminal(0)
        if vouched:
            return controlling or not session  # of two terminals only ssh itself can use both
        if not controlling or os.environ.get("TERM") == "dumb":
            return False
        from .link.person import sits_there
        from .system import ancestry  # 0.6 ms that a stream does not need, and as much again:

        return sits_there(ancestry.this_process(), ancestry.find)

    asks = session or attended
    return Caller(person, attended, asks, _can_ask(), session, stderr_shown, stdin_tty and stdout_tty)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _has_controlling_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_controlling_terminal(fd: int) -> bool:
    try:
        os.tcgetpgrp(fd)
    except OSError:
        return False
    return True


def _can_ask() -> bool:
    """Tell whether ssh would let SSH_ASKPASS ask (ssh(1), ENVIRONMENT)."""
    get = os.environ.get
    require = get("SSH_ASKPASS_REQUIRE", "").lower()
    if require == "never" or not get("SSH_ASKPASS"):
        return False
    return require in ("force", "prefer") or bool(get("DISPLAY") or get("WAYLAND_DISPLAY"))
