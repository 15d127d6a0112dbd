"""What ssh's own log says about one run of ssh: one line in, facts out.

Knows the texts of OpenSSH 7.4 to 10.x at DEBUG1 and DEBUG2, and the level at which each line that
carries none was written.  Must not know what follows from a fact: that is policy.py.

Every pattern is anchored at the start of the message: what a server says behind "debug1: Remote: " or
"Received disconnect from …" is no fact.  Where messages cannot be told from what a server wrote
(messages.py), what only an authenticated server may cause counts once it is proven that it is one.  Phases
only go forward, an address counts only until the connection stands, and no cause outlives the
beginning of the session: a lie can end the link of the liar, nothing more.

Source: log.c, ssh.c, sshconnect.c, sshconnect2.c, clientloop.c, channels.c, mux.c, packet.c.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    _Learn = Callable[["Evidence", re.Match[str]], None]

# The phases of a run, in order.
STARTED, CONNECTING, CONNECTED, AUTHENTICATED, SESSION = range(5)

# LogLevel, in ssh's order (log.h); a line is shown if its level is not above the user's.
QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG1, DEBUG2, DEBUG3 = range(-1, 7)
LEVELS = {
    "QUIET": QUIET,
    "FATAL": FATAL,
    "ERROR": ERROR,
    "INFO": INFO,
    "VERBOSE": VERBOSE,
    "DEBUG": DEBUG1,
    "DEBUG1": DEBUG1,
    "DEBUG2": DEBUG2,
    "DEBUG3": DEBUG3,
}

# The causes that a run can name for its failure before a session.
DENIED = "denied"
HOST_KEY = "host key"
UNRESOLVED = "unresolved"
UNREACHABLE = "unreachable"
SETUP = "setup"

_MOST = 4096  # of each list: more than anybody's forwards, and a bound for who makes them up

_DEBUG = re.compile(r"debug([123]): (.*)", re.DOTALL)

# Lines without a level that ssh writes with verbose(): below INFO only the log channel sees them.
_VERBOSE_LINES = re.compile(
    r"Authenticated to |Authenticated with partial success|Authenticated using "
    r"|Transferred: sent |Bytes per second: sent |Killed by signal "
    # An error for the last address of a name, else verbose: by default that is the IPv4 one.
    r"|Rejected X11 connection after ForwardX11Timeout|bind \[[^\]]*:[^\]]*\]:|socket(?: \[.*?\]:\S+)?: "
    r"|DNS lookup error: |Error parsing fingerprint from DNS|Deferring PIN entry"
    r"|Canonicalized DNS aliased hostname |channel \d+: closing after "
)
# Lines without a level that ssh writes with logit() or logdie(): hidden at ERROR and below.
_INFO_LINES = re.compile(
    r"Warning: (?:Permanently added|remote port forwarding failed|Could not request remote"
    r"|No xauth data|Remote host|the \S+ host key|this server does not support rekeying)"
    r"|Pseudo-terminal will not be allocated|Timeout, server |Allocated port |Host key fingerprint is"
    r"|Failed to add the |X11 connection rejected|Server does not |Received request |Connection closed by "
    r"|Connection reset by |Connection (?:to|from) \S+ (?:port \d+ )?timed out|Disconnected from "
    r"|Disconnecting |Unable to negotiate with |DISPLAY |Created directory "
    r"|channel \d+: (?:open failed|rcvd |bad ext data|ext data )"
    r"|[\w ]+: Connection (?:to|from) |OpenSSH_|\*\* |This session will eventually fail"
    r"|Corrupted MAC on input|Bad packet length|WARNING: \S+ key found for host |padding error: "
    r"|Finished discarding for |\S+ host key for IP address |getifaddrs: \S+: no suitable addresses"
    r"|Mismatch; try again, EOF to quit\.|No user exists for uid "
)


class Evidence:
    """The facts of one run of ssh, folded from its log.

    phase            STARTED to SESSION
    spoke            True once a line came at all: ssh had read its command line and configuration
    address          (address, port) that ssh last connected to, or None
    remote_up        how many remote forwards the server confirmed
    remote_refused   listen ports or paths that it refused, as text
    allocated        (port, where it leads) that the server chose for each remote forward of port 0, in
                     their order
    replies          what the server was asked for has been answered; None where this ssh, before 8.3, does
                     not tell, or nothing was asked for
    device_answered  the server has said yes or no to a tunnel device (8.3 and later)
    local_up         listen ports or paths that are open here, as text
    local_held       listen addresses that were in use here, as text
    local_away       why the last forward cannot listen here now: its address or directory is away, as
                     ssh says it; or ""
    forward_fatal    "remote" or "local" if ssh ended itself over a forward
    command_ended    the remote command ended by itself: exit-status or exit-signal was received,
                     or the shared master handed its status on
    command_sent     ssh asked the server to run a command or a subsystem, not a shell
    pty_refused      the server gave the session no terminal
    session_refused  the server would not open the session or run the request, or connect for -W
    shared           this ssh is a client of a shared master
    asked_to_end     a master was told to end ("ssh -O exit"), or one without a session of its own to
                     take no more clients ("ssh -O stop"), after which it ends with the last of them
    timed_out        the keepalive gave up
    killed_by        signal number that ssh says ended it, or None
    host_key         ssh refused the host key: then nothing else that the log says is to be believed
    forged           the server wrote lines that look like ssh's own
    may_have_begun   the log tells of a session, and nobody else does
    cause            why it failed before a session, or None
    error            the last line that was no debug line, as text
    remarks          what else ssh said that tells why, such as the mode of a key file, the newest last
    printed          what was printed instead of logged before the session, the newest last: by ssh before
                     it has its log, by a ProxyCommand, by the ssh of a jump host
    """

    __slots__ = (
        "_authenticated",
        "_blamed",
        "_can_be_had",
        "_device_channel",
        "_has_clients",
        "_has_connection",
        "_has_keys",
        "_jump_error",
        "_part",
        "_proof",
        "_session_channel",
        "address",
        "allocated",
        "asked_to_end",
        "cause",
        "command_ended",
        "command_sent",
        "device_answered",
        "error",
        "forged",
        "forward_fatal",
        "host_key",
        "killed_by",
        "local_away",
        "local_held",
        "local_up",
        "may_have_begun",
        "phase",
        "printed",
        "pty_refused",
        "remarks",
        "remote_refused",
        "remote_up",
        "replies",
        "session_refused",
        "shared",
        "spoke",
        "timed_out",
    )

    def __init__(self, proof: Callable[[], bool] = lambda: True) -> None:
        """Know nothing yet; proof tells whether ssh has authenticated, by what no server can forge."""
        self.phase = STARTED
        self.spoke = False
        self.address: tuple[str, int] | None = None
        self.remote_up = 0
        self.remote_refused: list[str] = []
        self.allocated: list[tuple[int, str]] = []
        self.replies: bool | None = None
        self.device_answered = False
        self.local_up: list[str] = []
        self.local_held: list[str] = []
        self.local_away = ""
        self.forward_fatal: str | None = None
        self.command_ended = False
        self.command_sent = False
        self.pty_refused = False
        self.session_refused = False
        self.shared = False
        self.asked_to_end = False
        self.timed_out = False
        self.killed_by: int | None = None
        self.host_key = False
        self.forged = False
        self.may_have_begun = False
        self.cause: str | None = None
        self.error = ""
        self.remarks: list[str] = []
        self.printed: list[str] = []
        self._part = ""
        self._blamed = False  # ssh could only tell that the connection ended
        self._can_be_had = False  # what the forward that is made now lacks, time can give
        self._device_channel: str | None = None
        self._jump_error = ""
        self._proof = proof
        self._authenticated = False
        self._has_connection = False  # of its own; else it is a shared master's client
        self._has_keys = False
        self._session_channel: str | None = None
        self._has_clients = False  # of this ssh as a shared master

    def feed(self, line: str, certain: bool = True) -> None:
        """Take in one message of the log, without its line end.

        certain  no server can have written it; else what only an authenticated server may cause
                 counts once it is proven that there is one
        """
        self.spoke = True
        level, text = level_and_text(line)
        if level < VERBOSE:
            self.error = text
            self._blamed = any(words in text for words in _SAID_OF_A_JUMP)
            self._blame_jump()
            self._remark(text)
        rows = _DEBUGGING if level >= DEBUG1 else _PLAIN
        for pattern, learn in rows:
            match = pattern.match(text)
            if match:
                learn(self, match)
                return
        for pattern, learn in _LATE_DEBUGGING if level >= DEBUG1 else _LATE_PLAIN:
            match = pattern.match(text)
            if match:
                if certain or self._is_authenticated():
                    learn(self, match)
                elif learn in (_authenticated, _session, _command_sent):
                    self.may_have_begun = True
                return

    @staticmethod
    def tells(line: str) -> bool:
        """Tell whether there is a fact in a message, if ssh wrote it."""
        level, text = level_and_text(line)
        rows = (*_DEBUGGING, *_LATE_DEBUGGING) if level >= DEBUG1 else (*_PLAIN, *_LATE_PLAIN)
        return any(pattern.match(text) for pattern, _ in rows)

    def _is_authenticated(self) -> bool:
        if not self._authenticated and self._proof():
            self._authenticated = True
            self.reach(AUTHENTICATED)
        return self._authenticated

    def feed_printed(self, text: str) -> None:
        """Take in what came where no log goes: of ssh before it has one, of a ProxyCommand, of a jump host.

        text is any part of that; a line end alone ends a line that nobody ended.  Of a jump host that
        fails ssh itself only sees the connection end.  A server could print the same to end its own
        link, and no other.
        """
        *lines, part = (self._part + text).split("\n")
        self._part = part[:_MOST_CHARS]
        for line in filter(None, (line.strip()[:_MOST_CHARS] for line in lines)):
            if line[-1] not in ":?":  # a question without its answer
                self._printed_line(line)

    def _printed_line(self, line: str) -> None:
        for pattern, cause in _JUMP_ROWS:
            if self.cause in (None, UNREACHABLE) and pattern.match(line):
                self.cause = cause
        self.printed = [*self.printed, line][-_MOST_PRINTED:]
        self._remark(line)
        if line.startswith("ssh: "):
            self._jump_error = line
        self._blame_jump()

    def _blame_jump(self) -> None:
        if self._blamed and self.printed:
            self.error = self._jump_error or "; ".join(self.printed)

    def _remark(self, text: str) -> None:
        if _REMARKS.match(text):
            text = text[:_MOST_CHARS]
            others = [remark for remark in self.remarks if remark != text]
            self.remarks = [*others, text][-_MOST_REMARKS:]

    def reach(self, phase: int) -> None:
        """Go on to a phase; never back."""
        self.phase = max(self.phase, phase)


def level_and_text(line: str) -> tuple[int, str]:
    """Return the level at which ssh wrote a message (FATAL counts as ERROR), and it without "debugN: "."""
    debug = _DEBUG.match(line)
    if debug:
        return VERBOSE + int(debug[1]), debug[2]
    if _VERBOSE_LINES.match(line):
        return VERBOSE, line
    if _INFO_LINES.match(line):
        return INFO, line
    return ERROR, line


def _phase(phase: int) -> _Learn:
    return lambda seen, match: seen.reach(phase)


_authenticated = _phase(AUTHENTICATED)


def _fact(name: str, value: object = True) -> _Learn:
    return lambda seen, match: setattr(seen, name, value)


def _failed(cause: str) -> _Learn:
    def learn(seen: Evidence, match: re.Match[str]) -> None:
        # What is known first and exactly stays: "Host key verification failed." is followed by
        # nothing, but "Permission denied (…)" can be followed by "Connection closed by …".
        if seen.cause in (None, UNREACHABLE):
            seen.cause = cause

    return learn


def _host_key(seen: Evidence, match: re.Match[str]) -> None:
    seen.host_key = True
    seen.cause = HOST_KEY  # whatever was said before


def _new_keys(seen: Evidence, match: re.Match[str]) -> None:
    seen._has_keys = True


def _too_many_failures(seen: Evidence, match: re.Match[str]) -> None:
    # The server's words; before its host key is verified anybody can say them.
    _failed(DENIED if seen._has_keys else UNREACHABLE)(seen, match)


def _connecting(seen: Evidence, match: re.Match[str]) -> None:
    if seen.phase <= CONNECTING:
        seen.reach(CONNECTING)
        seen.address = (match[1], int(match[2]))
        _connects_itself(seen)


def _by_proxy(seen: Evidence, match: re.Match[str]) -> None:
    if seen.phase <= CONNECTING:
        seen.reach(CONNECTING)
        _connects_itself(seen)


def _connects_itself(seen: Evidence) -> None:
    seen._has_connection, seen.shared = True, False  # the master refused, and ssh goes on by itself


def _detached(seen: Evidence, match: re.Match[str]) -> None:
    seen._has_connection = False  # it belongs to another process from here on, this one's master


def _session(seen: Evidence, match: re.Match[str]) -> None:
    seen.reach(SESSION)
    seen.remarks.clear()
    seen.host_key = seen.host_key and not seen._authenticated
    # What went wrong before did not end ssh: a local port in use does so only if the user wants it.
    seen.cause = seen.forward_fatal = None


def _of_master(learn: _Learn) -> _Learn:
    def only_of_master(seen: Evidence, match: re.Match[str]) -> None:
        if not seen._has_connection:
            learn(seen, match)

    return only_of_master


def _shared_session(seen: Evidence, match: re.Match[str]) -> None:
    seen._session_channel = match[1]
    _session(seen, match)


def _note(where: list[str], text: str) -> None:
    if len(where) < _MOST:
        where.append(text[:_MOST_CHARS])


def _remote_forward(seen: Evidence, match: re.Match[str]) -> None:
    if match[1] == "success" and match[2] is None:  # of port 0 the line with the port follows
        seen.remote_up += 1


def _allocated(seen: Evidence, match: re.Match[str]) -> None:
    seen.remote_up += 1
    # "socks:0" and "/path:-2" are how ssh writes what is no host and port.
    to = "a SOCKS proxy" if match[2] == "socks:0" else match[2].removesuffix(":-2")
    seen.allocated = [*seen.allocated[-_MOST:], (int(match[1]), to[:_MOST_CHARS])]


def _device_refused(seen: Evidence, match: re.Match[str]) -> None:
    seen.device_answered = True
    if DEVICE not in seen.remote_refused:
        _note(seen.remote_refused, DEVICE)
    seen.forward_fatal = "remote"


def _device_confirmed(seen: Evidence, match: re.Match[str]) -> None:
    seen.device_answered = True
    # Said of a refused one as well, where ExitOnForwardFailure=no lets ssh go on.
    if DEVICE in seen.remote_refused:
        seen.forward_fatal = None


def _device_channel(seen: Evidence, match: re.Match[str]) -> None:
    if seen.phase < SESSION:
        seen._device_channel = match[1]


def _open_failed(seen: Evidence, match: re.Match[str]) -> None:
    if match[1] == seen._session_channel:
        seen.session_refused = True
    elif match[1] == seen._device_channel:
        # Before 8.3 nothing else is said of it.
        _note(seen.remote_refused, DEVICE)
        seen._device_channel = None


def _remote_refused(seen: Evidence, match: re.Match[str]) -> None:
    _note(seen.remote_refused, match[2])
    if match[1] == "Error":
        seen.forward_fatal = "remote"


def _local_listening(seen: Evidence, match: re.Match[str]) -> None:
    _note(seen.local_up, match[1] or match[2])


def _cannot_bind(seen: Evidence, match: re.Match[str]) -> None:
    if match[1]:
        del seen.local_up[-1:]  # ssh says "listening on" before it tries
    if match[2] in _IN_USE:
        _note(seen.local_held, match[1] or "?")
        seen._can_be_had = True
    elif match[2] in _AWAY:
        _away(seen, match)


def _path_held(seen: Evidence, match: re.Match[str]) -> None:
    _note(seen.local_held, match[1])
    seen._can_be_had = True


def _device_held(seen: Evidence, match: re.Match[str]) -> None:
    _note(seen.local_held, DEVICE)
    seen._can_be_had = True


def _away(seen: Evidence, match: re.Match[str]) -> None:
    seen.local_away = match.string[:_MOST_CHARS]
    seen._can_be_had = True


def _next_local(seen: Evidence, match: re.Match[str]) -> None:
    # What another forward lacked, such as IPv6, is not what ends ssh.
    seen._can_be_had, seen.local_away = False, ""


def _cannot_listen(seen: Evidence, match: re.Match[str]) -> None:
    # Follows "bind …" whatever the reason was; only here do old versions name the port or path.
    if seen.local_held[-1:] == ["?"]:
        seen.local_held[-1] = match[1]
    seen.local_up = [up for up in seen.local_up if up != match[1]]


def _local_failed(seen: Evidence, match: re.Match[str]) -> None:
    seen.cause = SETUP
    if seen._can_be_had:
        seen.forward_fatal = "local"


def _session_channel(seen: Evidence, match: re.Match[str]) -> None:
    if seen.phase < SESSION:
        seen._session_channel = match[1]
    else:
        seen._has_clients = True


def _command_sent(seen: Evidence, match: re.Match[str]) -> None:
    # A shared master says it of its clients' commands too.
    seen.command_sent = seen.command_sent or not seen._has_clients


def _own(name: str) -> _Learn:
    def learn(seen: Evidence, match: re.Match[str]) -> None:
        if match[1] == seen._session_channel:
            setattr(seen, name, True)

    return learn


def _killed(seen: Evidence, match: re.Match[str]) -> None:
    seen.killed_by = int(match[1])


def _stopped_listening(seen: Evidence, match: re.Match[str]) -> None:
    seen.asked_to_end = seen.asked_to_end or seen._session_channel is None


# The signals that a shared master's client handles (mux.c), as strsignal(3) begins to name them.
_SIGNALS = {"Hangup": 1, "Interrupt": 2, "Terminated": 15}


def _client_killed(seen: Evidence, match: re.Match[str]) -> None:
    seen.killed_by = _SIGNALS.get(match[1]) or int(match[1])


def _timed_out(seen: Evidence, match: re.Match[str]) -> None:
    seen.timed_out = True
    _failed(UNREACHABLE)(seen, match)


# How ssh tells that its jump host has failed it; the second up to OpenSSH 8.0.
_SAID_OF_A_JUMP = (" UNKNOWN port ", "ssh_exchange_identification: ")
_JUMP_ROWS = (
    (re.compile(r"\S+@[^\s@]+: Permission denied \("), DENIED),
    (re.compile(r"Host key verification failed\."), HOST_KEY),
)

# Lines that tell why, where the last one only tells what.
_REMARKS = re.compile(
    r".{1,200}? line \d+: |Permissions \d+ for |Load key |Bad owner or permissions on "
    r"|Warning: Identity file |sign_and_send_pubkey: |Host key for |No \S+ host key is known for "
    r"|bind(?: \[|: )|(?:\w+: )?cannot bind to path |Error: forwarding disabled |Tunnel device open failed"
)
_MOST_CHARS, _MOST_REMARKS, _MOST_PRINTED = 200, 3, 3

DEVICE = "-w"  # a tunnel device, among ports and paths
# strerror(3) of EADDRINUSE, and of EADDRNOTAVAIL: of the GNU C library and BSD's, of musl.
_IN_USE = ("Address already in use", "Address in use")
_AWAY = ("Cannot assign requested address", "Can't assign requested address", "Address not available")

_Row = tuple[str, "_Learn"]

# Messages at DEBUG1 and beyond.  The first row that matches counts.
_DEBUG_ROWS: tuple[_Row, ...] = (
    (r"Connecting to .* \[(.*)\] port (\d+)\.", _connecting),
    (r"Executing proxy (?:command|dialer)", _by_proxy),
    (r"Connection established\.", _phase(CONNECTED)),
    (r"Remote protocol version ", _phase(CONNECTED)),
    (r"SSH2_MSG_NEWKEYS received", _new_keys),
    (r"(?:ssh_init_forwarding: )?expecting replies for \d+ forwards", _fact("replies", False)),
    (r"channel (\d+): new (?:tun )?\[tun\]", _device_channel),
    (r"(?:sys_tun_open: )?failed to configure tunnel .*: Device or resource busy", _device_held),
    (r"Local connections to ", _next_local),
    (r"Local forwarding listening on (?:path (.*)\.$|\S+ port (\d+)\.)", _local_listening),
    # Those of a shared master's client.
    (r"(?:mux_client_request_(?:session|stdio_fwd): )?master session id: (\d+)", _of_master(_shared_session)),
    (r"(?:mux_client_hello_exchange: )?master version \d+", _of_master(_fact("shared"))),
    (r"Received exit status from master ", _of_master(_fact("command_ended"))),
    # Only said of a session; OpenSSH 7.9 to 8.2 do not say that it began.
    (r"Control master terminated unexpectedly", _of_master(_session)),
    (r"Exiting on signal:? (Hangup|Interrupt|Terminated|\d{1,2}\b)", _of_master(_client_killed)),
)
# Those that only a server can cause which is authenticated.
_LATE_DEBUG_ROWS: tuple[_Row, ...] = (
    (r"Authentication succeeded \(", _authenticated),
    (r"Entering interactive session\.", _session),
    (r"(?:control_persist_detach: )?backgrounding master process", _detached),
    (r"channel (\d+): new (?:session )?\[client-session\]", _session_channel),
    (r"Sending (?:command|subsystem): ", _command_sent),
    (r"client_input_channel_req: channel (\d+) rtype exit-s(?:tatus|ignal) ", _own("command_ended")),
    (r"remote forward (success|failure) for: listen (?:(?:\S+:)?(0), )?", _remote_forward),
    (r"(?:forwarding_success: )?all expected forwarding replies received", _fact("replies")),
    (r"(?:ssh_tun_confirm: )?tunnel forward established, ", _device_confirmed),
    (r"(?:\w+: )?channel \d+: terminate request", _fact("asked_to_end")),
    (r"(?:\w+: )?channel \d+: stop listening", _stopped_listening),
)

# Messages without "debugN:".
_PLAIN_ROWS: tuple[_Row, ...] = (
    (r"Killed by signal (\d+)\.", _killed),
    (r"Timeout, server .* not responding", _timed_out),
    (r"bind(?: \[.*\]:(\S+))?: (.*)", _cannot_bind),
    (r"(?:\w+: )?cannot (?:listen to port|bind to path): (.*)", _cannot_listen),
    (r"(?:\w+: )?cannot bind to path (.*): Address (?:already )?in use$", _path_held),
    (r"(?:\w+: )?cannot bind to path (.*): No such file or directory$", _away),
    (r"(?:\w+: )?getaddrinfo\(", _away),
    (r"Could not request (?:local|tunnel) forwarding\.", _local_failed),
    (r"Host key verification failed\.", _host_key),
    (r"Error: forwarding disabled due to host key ", _failed(HOST_KEY)),
    (r"(?:\S+@[^\s@]+: )?Permission denied \(", _failed(DENIED)),
    (r"(?:Received disconnect|Disconnecting).*Too many authentication failures", _too_many_failures),
    (r"Authentication failed\.", _failed(DENIED)),
    (r"\S+: Could not resolve host(?:name)? ", _failed(UNRESOLVED)),
    (r"Unable to negotiate with ", _failed(SETUP)),
    (r"ssh: connect to host ", _failed(UNREACHABLE)),
    (r"(?:kex|ssh)_exchange_identification: ", _failed(UNREACHABLE)),
    (r"Connection timed out during banner exchange", _failed(UNREACHABLE)),
    (r"Connection (?:closed|reset) by ", _failed(UNREACHABLE)),
    (r"Connection (?:to|from) .* timed out", _failed(UNREACHABLE)),
    (r"(?:[\w ]+: )?Connection (?:to|from) .*: ", _failed(UNREACHABLE)),
    (r"(?:Received disconnect|Disconnected|Disconnecting)\b", _failed(UNREACHABLE)),
    (r"(?:client_loop: )?send disconnect: ", _failed(UNREACHABLE)),
)
_LATE_PLAIN_ROWS: tuple[_Row, ...] = (
    (r"Authenticated to ", _authenticated),
    (r"(Error|Warning): remote port forwarding failed for listen (?:port|path) (.*)", _remote_refused),
    (r"Allocated port (\d{1,5}) for remote forward to (.*)", _allocated),
    (r"Tunnel forwarding failed", _device_refused),
    (r"channel (\d+): open failed: ", _open_failed),
    (r"PTY allocation request failed on channel (\d+)", _own("pty_refused")),
    (r"(?:shell|exec|subsystem) request failed on channel (\d+)", _own("session_refused")),
    (r"[Ss]tdio forwarding (?:request )?failed", _fact("session_refused")),
)


def _compiled(rows: tuple[_Row, ...]) -> tuple[tuple[re.Pattern[str], _Learn], ...]:
    return tuple((re.compile(pattern), learn) for pattern, learn in rows)


_DEBUGGING = _compiled(_DEBUG_ROWS)
_PLAIN = _compiled(_PLAIN_ROWS)
_LATE_DEBUGGING = _compiled(_LATE_DEBUG_ROWS)
_LATE_PLAIN = _compiled(_LATE_PLAIN_ROWS)
