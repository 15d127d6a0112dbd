"""What kind of session a command line asks for, and what is added to it.

Knows the kinds and options of the design (2, 3, 4).  Must not know how ssh is run or asked: the
effective configuration, who sits at the descriptors 0 to 2 and the settings are handed in.
"""

from __future__ import annotations

from ..settings import AUTO
from ..ssh import config
from ..ssh.args import QUERIES
from .kinds import ATTACH, COMMAND, QUERY, SHELL, STREAM, TUNNEL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..settings import Settings
    from ..ssh.args import CommandLine

# What kssh adds by itself to where a file may say what ssh takes by itself: "ssh -G" shows the same for both.
DEFAULTS = ("serveraliveinterval", "connecttimeout", "exitonforwardfailure", "streamlocalbindunlink")
# What of a configuration changes how kssh treats a stream that it starts once and leaves to ssh; nothing
# else does.  RemoteCommand, StdinNull and ForkAfterAuthentication make a stream of a shell at most;
# ControlMaster and ControlPersist are nothing without a path, and the rest is for links that are supervised.
MATTER_TO_STREAM = (
    "serveraliveinterval",  # the user's keepalive, or none, in place of kssh's
    "serveralivecountmax",  # the user's, with the interval of kssh
    "sessiontype",  # "none" is a tunnel
    "requesttty",  # on a terminal, a command that gets one is supervised
    "controlpath",  # a shared master that is dead is left alone
)
SSH_COUNTMAX = "3"  # ssh_config(5), ServerAliveCountMax
QUIET_LEVELS = ("QUIET", "FATAL", "ERROR")
ALONE = "ControlPath=none"  # a connection of its own
_DEBUG_LEVELS = ("DEBUG1", "DEBUG2", "DEBUG3")
_OTHER_NAMES = {"SILENT": "QUIET", "DEBUG": "DEBUG1"}  # log.c; "ssh -G" prints these
# Every message that kssh has to know, with ssh's process id, at any LogLevel (LogVerbose, OpenSSH 8.7; what
# the tags are for: messages.py).  Left out are functions that write one for each packet, window or keepalive:
# those would wake kssh up on a quiet link and slow a fast one down.  In ssh_local_cmd ssh's child speaks.
TAG_ALL = (
    "!packet.c:ssh_packet_send2_wrapped*,!packet.c:ssh_packet_read_poll2*,"
    "!channels.c:channel_check_window*,!channels.c:channel_input_window_adjust*,"
    "!channels.c:channel_handle_efd*,!channels.c:channel_output_poll*,"
    "!channels.c:channel_input_extended_data*,!channels.c:channel_not_very_much_buffered_data*,"
    "!sshconnect.c:ssh_local_cmd*,*"
)


class Plan:
    """What to do with a command line.

    kind        QUERY to TUNNEL
    supervised  False: exec ssh
    background  kssh does what -f asks for
    first       keywords for CommandLine.with_options: they win over the user's, because kssh itself
                does what the user asked of them
    last        words for CommandLine.with_options: the user's win over them
    defaults    of last, what kssh wants only where nobody says anything; keyword in lower case: value
    without     flag letters that kssh does itself
    log         the log channel can be had (LogLevel or LogVerbose is among the added)
    tagged      ssh tags its messages (TAG_ALL)
    user_level  LogLevel in force for the user, by its usual name: QUIET to DEBUG3
    unsure      a shell as it seems, but ssh did not tell whether it is to run a command
    """

    __slots__ = (
        "background",
        "defaults",
        "first",
        "kind",
        "last",
        "log",
        "supervised",
        "tagged",
        "unsure",
        "user_level",
        "without",
    )

    def __init__(self, kind: str, supervised: bool = False) -> None:
        self.kind = kind
        self.supervised = supervised
        self.background = False
        self.first: list[str] = []
        self.last: list[str] = []
        self.defaults: dict[str, str] = {}
        self.without = ""
        self.log = False
        self.tagged = False
        self.user_level = "INFO"
        self.unsure = False

    def add(self, keyword: str, value: object) -> None:
        """Add "-o keyword=value" where the user's own option wins."""
        self.last += ["-o", f"{keyword}={value}"]

    def add_default(self, keyword: str, value: object, settings: Settings) -> None:
        """Add the same where the user's files win too; "ssh -G" shows no word of theirs against it.

        keyword is one of DEFAULTS.
        """
        if keyword.lower() not in settings.yielding:
            self.add(keyword, value)
            self.defaults[keyword.lower()] = str(value)


class Caller:
    """Who started kssh: whether a person sees what becomes of it, and what ssh can ask on.

    person    tells whether a person, and no program, sits at the terminal that standard input and output
              are; asked only where it counts, for it may take a look at other processes
    terminal  standard input and output are terminals
    attended  somebody who starts this sees what becomes of it
    asks      ssh has a terminal to ask on
    askpass   SSH_ASKPASS can answer in a person's place
    session   there is a controlling terminal: it is the one that ssh asks on, and SIGHUP tells that its
              window was closed
    stderr_shown  standard error is that terminal
    """

    __slots__ = ("askpass", "asks", "attended", "person", "session", "stderr_shown", "terminal")

    def __init__(
        self,
        person: Callable[[], bool],
        attended: bool,
        asks: bool,
        askpass: bool,
        session: bool = False,
        stderr_shown: bool = False,
        terminal: bool = False,
    ) -> None:
        self.person = person
        self.terminal = terminal
        self.attended = attended
        self.asks = asks
        self.askpass = askpass
        self.session = session
        self.stderr_shown = stderr_shown

    def leave(self) -> None:
        """Nobody is there any more: the terminal is gone, or kssh is in the background."""
        self.person = lambda: False
        self.terminal = self.attended = self.asks = self.session = self.stderr_shown = False


def first_value(effective: Mapping[str, Sequence[str]] | None, keyword: str, otherwise: str) -> str:
    """Return a keyword's value from "ssh -G", or another where that is not known."""
    values = effective.get(keyword) if effective else None
    return values[0] if values else otherwise


def choice(effective: Mapping[str, Sequence[str]] | None, keyword: str, otherwise: str) -> str:
    """Return the word that a keyword has from "ssh -G", in lower case, or another where that is not known.

    For yes and no there are two spellings each, and which one ssh prints changes with its version.
    """
    word = first_value(effective, keyword, otherwise).lower()
    return {"true": "yes", "false": "no"}.get(word, word)


def is_left_to_ssh(line: CommandLine, settings: Settings, caller: Caller) -> bool:
    """Tell whether a command line is a stream that ssh does alone, unless a file says otherwise.

    A file can say so only by one of MATTER_TO_STREAM; the plan without an answer from ssh is then right.
    """
    options = "\n".join(line.values("o")).encode("utf-8", "surrogateescape")
    return (
        kind_of(line, None, lambda: caller.terminal) == STREAM
        and not _is_supervised(STREAM, line, settings)
        and settings.interval_s != AUTO  # the host's name and port tell what was found out
        and not line.count("S")
        and not config.named(options, MATTER_TO_STREAM)
    )


def kind_of(
    line: CommandLine, effective: Mapping[str, Sequence[str]] | None, person: Callable[[], bool]
) -> str:
    """Return the kind of session that a complete command line asks for; person as in Caller."""
    if any(option.letter in QUERIES for option in line.options):
        return QUERY
    if line.destination is None or not line.complete:
        return QUERY
    session = choice(effective, "sessiontype", "none" if line.count("N") else "default")
    if line.count("W") or line.count("s") or session == "subsystem":
        return STREAM
    if session == "none":
        return TUNNEL
    background = line.count("f") or choice(effective, "forkafterauthentication", "no") == "yes"
    no_stdin = background or line.count("n") or choice(effective, "stdinnull", "no") == "yes"
    if no_stdin:
        return STREAM
    command = _command(line, effective)
    wish = choice(effective, "requesttty", _wish_by_letters(line))
    if wish == "no" or (command and wish == "auto") or not person():
        return STREAM
    if not command:
        return SHELL
    from .attach import attaches  # 3 ms: only for a command on a terminal

    return ATTACH if attaches(command) else COMMAND


def _command(line: CommandLine, effective: Mapping[str, Sequence[str]] | None) -> str:
    remote = first_value(effective, "remotecommand", "none")
    return " ".join(line.command) or ("" if remote == "none" else remote)


def _wish_by_letters(line: CommandLine) -> str:
    wishes = [option.letter for option in line.options if option.letter in "tT"]
    return {"T": "no", "t": "yes"}[wishes[-1]] if wishes else "auto"  # the last one counts


def make(
    line: CommandLine,
    effective: Mapping[str, Sequence[str]] | None,
    settings: Settings,
    caller: Caller,
) -> Plan:
    """Return the Plan for a command line.

    effective is what "ssh -G" said (keyword in lower case: values), or None if it could not be asked.
    """
    kind = kind_of(line, effective, caller.person)
    if kind == QUERY:
        return Plan(QUERY)
    unsure = kind == SHELL and not effective and settings.restart != "always"
    if unsure:
        kind = STREAM  # a RemoteCommand that nobody knows of must not run twice
    supervised = _is_supervised(kind, line, settings)
    plan = Plan(kind, supervised)
    plan.unsure = unsure
    level = first_value(effective, "loglevel", _level_by_letters(line)).upper()
    plan.user_level = _OTHER_NAMES.get(level, level)
    _add_keepalive(plan, effective, settings)
    if not supervised:
        return plan
    by_configuration = choice(effective, "forkafterauthentication", "")
    if line.count("f") or by_configuration == "yes":
        plan.background = True
        plan.without += "f"
        if by_configuration:  # ssh knows the keyword (8.7), and a file may say it as well as -f
            plan.first.append("ForkAfterAuthentication=no")
    timeout = first_value(effective, "connecttimeout", "none")
    if "CONNECT_TIMEOUT" in settings.given:
        plan.add("ConnectTimeout", settings.connect_timeout_s)
    elif not effective:
        plan.add_default("ConnectTimeout", settings.connect_timeout_s, settings)
    elif timeout in ("none", "-1"):  # 0 is the user's word; "none" in a file is none for ssh itself
        plan.add("ConnectTimeout", settings.connect_timeout_s)
    if kind != STREAM and choice(effective, "controlpersist", "no") != "no":
        # A master in the background would take the session along, out of kssh's sight.
        plan.first.append("ControlPersist=no")
    if kind == TUNNEL:
        _add_for_tunnel(plan, line, effective, settings, caller)
    return plan


def _is_supervised(kind: str, line: CommandLine, settings: Settings) -> bool:
    if settings.restart in ("always", "never"):
        return settings.restart == "always"
    if line.asks_to_be_master:
        return False  # a master's clients, its socket and its process id are ssh's own
    return kind != STREAM or settings.first_start == "retry"  # until the server is there, no longer


def _level_by_letters(line: CommandLine) -> str:
    if line.count("q"):
        return "QUIET"
    return ("INFO", "DEBUG1", "DEBUG2", "DEBUG3")[min(3, line.count("v"))]


def _add_keepalive(plan: Plan, effective: Mapping[str, Sequence[str]] | None, settings: Settings) -> None:
    interval = first_value(effective, "serveraliveinterval", "0")
    if settings.interval_s != 0:
        if "INTERVAL" in settings.given:
            plan.add("ServerAliveInterval", settings.interval_s)
        elif interval == "0":
            plan.add_default("ServerAliveInterval", settings.interval_s, settings)
    ours = bool(plan.last)
    countmax = first_value(effective, "serveralivecountmax", SSH_COUNTMAX)
    if (ours and countmax == SSH_COUNTMAX) or "COUNTMAX" in settings.given:
        plan.add("ServerAliveCountMax", settings.countmax)


def may_tell(plan: Plan, settings: Settings) -> bool:
    """Tell whether a word of kssh's own, at INFO, is wanted where ssh takes its place."""
    levels = (plan.user_level, settings.loglevel)
    return settings.restart != "never" and not any(level in QUIET_LEVELS for level in levels)


def keepalive_s(
    line: CommandLine, effective: Mapping[str, Sequence[str]] | None, settings: Settings
) -> float:
    """Return the interval of the keepalive that ssh ends up with, in seconds; 0 for none.

    effective knows the user's command line; where that and KSSH_INTERVAL name different ones, the
    answer is KSSH_INTERVAL's and ssh's is the command line's.
    """
    interval = first_value(effective, "serveraliveinterval", "0")
    if interval == "0" and (
        "serveraliveinterval" in settings.yielding or line.has_keyword("serveraliveinterval")
    ):
        return 0.0
    if "INTERVAL" in settings.given or not interval.isdigit() or interval == "0":
        return float(settings.interval_s)
    return float(interval)


def _add_for_tunnel(
    plan: Plan,
    line: CommandLine,
    effective: Mapping[str, Sequence[str]] | None,
    settings: Settings,
    caller: Caller,
) -> None:
    if choice(effective, "exitonforwardfailure", "no") == "no":
        plan.add_default("ExitOnForwardFailure", "yes", settings)
    plan.defaults["streamlocalbindunlink"] = "yes"  # see add_for_restart()
    shared = first_value(effective, "controlpath", "none") != "none"
    if shared and not line.asks_to_be_master:
        plan.add("ControlPath", "none")
    if not caller.asks and not caller.askpass:
        plan.add("BatchMode", "yes")


def add_for_restart(plan: Plan, settings: Settings) -> None:
    """Add what a tunnel needs that stood before: the socket of a "-L PATH:…" outlives its ssh."""
    plan.add_default("StreamLocalBindUnlink", "yes", settings)


def add_resume(plan: Plan, command: str) -> None:
    """Run a command of kssh's own in place of the login shell (KSSH_RESUME).

    RemoteCommand (OpenSSH 7.6) is an option, so the command line's words stay the user's.
    """
    plan.add("RequestTTY", "yes")
    plan.add("RemoteCommand", command)


def shares_connection(plan: Plan, line: CommandLine, effective: Mapping[str, Sequence[str]] | None) -> bool:
    """Tell whether this ssh may be a client of a shared master, or one itself."""
    if ALONE in plan.first:
        return False
    if ALONE in plan.last and not (line.count("S") or line.has_keyword("ControlPath")):
        return False
    path = first_value(effective, "controlpath", "none")
    return path != "none"


def joins_master(effective: Mapping[str, Sequence[str]] | None) -> bool:
    """Tell whether ssh becomes a client of the shared master at its ControlPath, if there is one."""
    wish = choice(effective, "controlmaster", "no")
    return wish in ("no", "auto", "autoask") and first_value(effective, "controlpath", "none") != "none"


def leave_master(plan: Plan, line: CommandLine) -> dict[int, str]:
    """Give ssh a connection of its own; return which of the user's options to change: index, argument.

    The last -S wins over any ControlPath (ssh.c), so kssh says "none" there in its place.
    """
    plan.first.append(ALONE)
    return {index: "none" for index, option in enumerate(line.options) if option.letter == "S"}


def forks_away(plan: Plan, effective: Mapping[str, Sequence[str]] | None, shared: bool) -> bool:
    """Tell whether an ssh may leave its connection to a process of its own and become its client."""
    persists = choice(effective, "controlpersist", "no") != "no"
    return shared and persists and "ControlPersist=no" not in plan.first


# What LogVerbose puts in front of a message: nothing (before 8.5, or the user has a use of their own for it),
# the function's name, or ssh's process id too (8.7).
NO_TAGS, NAMES, IDS = range(3)


def tags_of(effective: Mapping[str, Sequence[str]]) -> int:
    """Return NO_TAGS, NAMES or IDS for the ssh of a configuration: which keywords it knows tells its age."""
    if first_value(effective, "logverbose", "not known") not in ("", "none"):
        return NO_TAGS
    return IDS if "forkafterauthentication" in effective else NAMES


def add_log_channel(plan: Plan, log_path: str, shared: bool, tags: int, quiet_letter: bool) -> None:
    """Add what makes ssh write its log to log_path at a level that tells what happened.

    shared        the connection may be shared: only mux.c's DEBUG2 says how a master's client ended
    tags          NO_TAGS, NAMES or IDS
    quiet_letter  the user gave -q, over which no LogLevel wins

    ssh takes its level as a whole, and below INFO it also withholds the server's banner and
    "Connection to HOST closed.": with LogVerbose the level stays.  A user who reads along (-v) has the
    lines as ssh writes them, which no tag tells in full.
    """
    debugs, quiet = plan.user_level in _DEBUG_LEVELS, plan.user_level in QUIET_LEVELS
    if not debugs and (tags == IDS or (tags == NAMES and quiet)):
        plan.add("LogVerbose", TAG_ALL)
        plan.tagged = tags == IDS
    elif quiet_letter and quiet:
        return
    else:
        if not debugs:  # over the user's -v no LogLevel wins
            plan.first.append("LogLevel=DEBUG2" if shared and tags == NO_TAGS else "LogLevel=DEBUG1")
        if shared and tags != NO_TAGS and plan.user_level in ("INFO", "VERBOSE", "DEBUG1"):
            # All of DEBUG2 would be a line for every 100 kB of every client: a master whose kssh is
            # suspended would soon stand still for its full log.
            plan.add("LogVerbose", "mux.c:*")
    plan.without += "y"
    plan.last += ["-E", log_path]
    plan.log = True
