"""The texts of ssh's log and the fact that each of them proves: a row for each text.

Knows the texts of OpenSSH 7.4 to 10.x at DEBUG1 and DEBUG2.  Must not know how a message comes here, nor
what follows from a fact.

Every pattern is anchored at the start of the message: what a server says behind "debug1: Remote: " or
"Received disconnect from …" is no fact.  LATE rows tell what cannot happen before ssh has authenticated.

Source: ssh.c, sshconnect.c, sshconnect2.c, clientloop.c, channels.c, mux.c, packet.c.
"""

from __future__ import annotations

import re

from .evidence import (
    AUTHENTICATED,
    CONNECTED,
    CONNECTING,
    DENIED,
    DEVICE,
    HOST_KEY,
    SESSION,
    SETUP,
    UNREACHABLE,
    UNRESOLVED,
    Evidence,
)
from .levels import DEBUG1

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Learn = Callable[["Reading", re.Match[str]], None]
    Rows = tuple[tuple[re.Pattern[str], Learn], ...]
    _Row = tuple[str, Learn]

MOST_CHARS = 200  # of a text that is kept
_MOST = 4096  # of each list: more than anybody's forwards, and a bound for a server that makes them up


class Reading:
    """The facts so far, and what the next messages are read by.

    facts            the Evidence
    proven           it is proven that ssh has authenticated, by what no server can forge
    has_connection   this ssh has a connection of its own; else it is a shared master's client
    has_keys         the server has proven its host key
    session_channel  number of the channel of ssh's own session, or None
    device_channel   number of a tunnel device's channel that is not open yet, or None
    has_clients      this ssh is a shared master, and others use it
    can_be_had       what keeps the present local forward from listening may pass with time
    """

    __slots__ = (
        "can_be_had",
        "device_channel",
        "facts",
        "has_clients",
        "has_connection",
        "has_keys",
        "proven",
        "session_channel",
    )

    def __init__(self, facts: Evidence) -> None:
        self.facts = facts
        self.proven = False
        self.has_connection = False
        self.has_keys = False
        self.session_channel: str | None = None
        self.device_channel: str | None = None
        self.has_clients = False
        self.can_be_had = False


def _phase(phase: int) -> Learn:
    return lambda log, match: log.facts.reach(phase)


_authenticated = _phase(AUTHENTICATED)


def _fact(name: str, value: object = True) -> Learn:
    return lambda log, match: setattr(log.facts, name, value)


def _failed(cause: str) -> Learn:
    def learn(log: Reading, match: re.Match[str]) -> None:
        # What is known first and exactly stays: "Host key verification failed." is followed by
        # nothing, but "Permission denied (…)" can be followed by "Connection closed by …".
        if log.facts.cause in (None, UNREACHABLE):
            log.facts.cause = cause

    return learn


def _host_key(log: Reading, match: re.Match[str]) -> None:
    log.facts.host_key = True
    log.facts.cause = HOST_KEY  # whatever was said before


def _new_keys(log: Reading, match: re.Match[str]) -> None:
    log.has_keys = True


def _too_many_failures(log: Reading, match: re.Match[str]) -> None:
    # The server's words; before its host key is verified anybody can say them.
    _failed(DENIED if log.has_keys else UNREACHABLE)(log, match)


def _connecting(log: Reading, match: re.Match[str]) -> None:
    if log.facts.phase <= CONNECTING:
        log.facts.reach(CONNECTING)
        log.facts.address = (match[1], int(match[2]))
        _connects_itself(log)


def _by_proxy(log: Reading, match: re.Match[str]) -> None:
    if log.facts.phase <= CONNECTING:
        log.facts.reach(CONNECTING)
        _connects_itself(log)


def _connects_itself(log: Reading) -> None:
    log.has_connection, log.facts.shared = True, False  # the master refused, and ssh goes on by itself


def _detached(log: Reading, match: re.Match[str]) -> None:
    log.has_connection = False  # it belongs to another process from here on, this one's master


def _session(log: Reading, match: re.Match[str]) -> None:
    log.facts.reach(SESSION)
    log.facts.remarks.clear()
    log.facts.host_key = log.facts.host_key and not log.proven
    # What went wrong before did not end ssh: a local port in use does so only if the user wants it.
    log.facts.cause = log.facts.forward_fatal = None


def _of_master(learn: Learn) -> Learn:
    def only_of_master(log: Reading, match: re.Match[str]) -> None:
        if not log.has_connection:
            learn(log, match)

    return only_of_master


def _shared_session(log: Reading, match: re.Match[str]) -> None:
    log.session_channel = match[1]
    _session(log, match)


def _note(where: list[str], text: str) -> None:
    if len(where) < _MOST:
        where.append(text[:MOST_CHARS])


def _remote_forward(log: Reading, match: re.Match[str]) -> None:
    if match[1] == "success" and match[2] is None:  # of port 0 the line with the port follows
        log.facts.remote_up += 1


def _allocated(log: Reading, match: re.Match[str]) -> None:
    log.facts.remote_up += 1
    # "socks:0" and "/path:-2" are how ssh writes what is no host and port.
    to = "a SOCKS proxy" if match[2] == "socks:0" else match[2].removesuffix(":-2")
    log.facts.allocated = [*log.facts.allocated[-_MOST:], (int(match[1]), to[:MOST_CHARS])]


def _device_refused(log: Reading, match: re.Match[str]) -> None:
    log.facts.device_answered = True
    if DEVICE not in log.facts.remote_refused:
        _note(log.facts.remote_refused, DEVICE)
    log.facts.forward_fatal = "remote"


def _device_confirmed(log: Reading, match: re.Match[str]) -> None:
    log.facts.device_answered = True
    # Said of a refused one as well, where ExitOnForwardFailure=no lets ssh go on.
    if DEVICE in log.facts.remote_refused:
        log.facts.forward_fatal = None


def _device_channel(log: Reading, match: re.Match[str]) -> None:
    if log.facts.phase < SESSION:
        log.device_channel = match[1]


def _open_failed(log: Reading, match: re.Match[str]) -> None:
    if match[1] == log.session_channel:
        log.facts.session_refused = True
    elif match[1] == log.device_channel:
        # Before 8.3 nothing else is said of it.
        _note(log.facts.remote_refused, DEVICE)
        log.device_channel = None


def _remote_refused(log: Reading, match: re.Match[str]) -> None:
    _note(log.facts.remote_refused, match[2])
    if match[1] == "Error":
        log.facts.forward_fatal = "remote"


def _local_listening(log: Reading, match: re.Match[str]) -> None:
    _note(log.facts.local_up, match[1] or f"[{match[2]}]:{match[3]}")


def _cannot_bind(log: Reading, match: re.Match[str]) -> None:
    if match[1]:
        del log.facts.local_up[-1:]  # ssh says "listening on" before it tries
    if match[3] in _IN_USE:
        _note(log.facts.local_held, f"[{match[1]}]:{match[2]}" if match[1] else "?")
        log.can_be_had = True
    elif match[3] in _AWAY:
        _away(log, match)


def _path_held(log: Reading, match: re.Match[str]) -> None:
    _note(log.facts.local_held, match[1])
    log.can_be_had = True


def _device_held(log: Reading, match: re.Match[str]) -> None:
    _note(log.facts.local_held, DEVICE)
    log.can_be_had = True


def _away(log: Reading, match: re.Match[str]) -> None:
    log.facts.local_away = match.string[:MOST_CHARS]
    log.can_be_had = True


def _next_local(log: Reading, match: re.Match[str]) -> None:
    # What kept another forward from listening, such as no IPv6, is not what ends ssh.
    log.can_be_had, log.facts.local_away = False, ""


def _cannot_listen(log: Reading, match: re.Match[str]) -> None:
    # Follows "bind …" whatever the reason was; only here do old versions name the port or path.
    if log.facts.local_held[-1:] == ["?"]:
        log.facts.local_held[-1] = match[1]
    closed = f"]:{match[1]}"
    log.facts.local_up = [up for up in log.facts.local_up if up != match[1] and not up.endswith(closed)]


def _local_failed(log: Reading, match: re.Match[str]) -> None:
    log.facts.cause = SETUP
    if log.can_be_had:
        log.facts.forward_fatal = "local"


def _session_channel(log: Reading, match: re.Match[str]) -> None:
    if log.facts.phase < SESSION:
        log.session_channel = match[1]
    else:
        log.has_clients = True


def _command_sent(log: Reading, match: re.Match[str]) -> None:
    # A shared master says it of its clients' commands too.
    log.facts.command_sent = log.facts.command_sent or not log.has_clients


def _own(name: str) -> Learn:
    def learn(log: Reading, match: re.Match[str]) -> None:
        if match[1] == log.session_channel:
            setattr(log.facts, name, True)

    return learn


def _killed(log: Reading, match: re.Match[str]) -> None:
    log.facts.killed_by = int(match[1])


def _stopped_listening(log: Reading, match: re.Match[str]) -> None:
    log.facts.asked_to_end = log.facts.asked_to_end or log.session_channel is None


# The signals that a shared master's client handles (mux.c), as strsignal(3) begins to name them.
_SIGNALS = {"Hangup": 1, "Interrupt": 2, "Terminated": 15}


def _client_killed(log: Reading, match: re.Match[str]) -> None:
    log.facts.killed_by = _SIGNALS.get(match[1]) or int(match[1])


def _timed_out(log: Reading, match: re.Match[str]) -> None:
    log.facts.timed_out = True
    _failed(UNREACHABLE)(log, match)


# strerror(3) of EADDRINUSE, and of EADDRNOTAVAIL: of the GNU C library and BSD's, of musl.
_IN_USE = ("Address already in use", "Address in use")
_AWAY = ("Cannot assign requested address", "Can't assign requested address", "Address not available")

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
    (r"Local forwarding listening on (?:path (.*)\.$|(\S+) port (\d+)\.)", _local_listening),
    # Those of a shared master's client.
    (r"(?:mux_client_request_(?:session|stdio_fwd): )?master session id: (\d+)", _of_master(_shared_session)),
    (r"(?:mux_client_hello_exchange: )?master version \d+", _of_master(_fact("shared"))),
    (r"Received exit status from master ", _of_master(_fact("command_ended"))),
    # Only said of a session; OpenSSH 7.9 to 8.2 do not say that it began.
    (r"Control master terminated unexpectedly", _of_master(_session)),
    (r"Exiting on signal:? (Hangup|Interrupt|Terminated|\d{1,2}\b)", _of_master(_client_killed)),
)
# Those of what cannot happen before ssh has authenticated.
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
    (r"bind(?: \[(.*)\]:(\S+))?: (.*)", _cannot_bind),
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


def _compiled(table: tuple[_Row, ...]) -> Rows:
    return tuple((re.compile(pattern), learn) for pattern, learn in table)


_DEBUGGING = _compiled(_DEBUG_ROWS), _compiled(_LATE_DEBUG_ROWS)
_PLAIN = _compiled(_PLAIN_ROWS), _compiled(_LATE_PLAIN_ROWS)
# Rows that matter even where they may be a lie: a command may have run.
TELL_OF_A_SESSION = (_authenticated, _session, _command_sent)


def rows(level: int) -> tuple[Rows, Rows]:
    """Return the rows for a message of that level, and the LATE ones: pattern, what is learnt from it."""
    return _DEBUGGING if level >= DEBUG1 else _PLAIN
