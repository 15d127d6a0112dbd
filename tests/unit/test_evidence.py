"""The log of ssh: what real transcripts prove, what a user sees of them, and what a server cannot fake."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ssh import log_rows
from pykeepssh.ssh.evidence import (
    AUTHENTICATED,
    CONNECTED,
    CONNECTING,
    DENIED,
    HOST_KEY,
    SESSION,
    SETUP,
    STARTED,
    UNREACHABLE,
    UNRESOLVED,
    Evidence,
)
from pykeepssh.ssh.levels import (
    DEBUG1,
    DEBUG2,
    DEBUG3,
    ERROR,
    FATAL,
    INFO,
    LEVELS,
    QUIET,
    VERBOSE,
    level_and_text,
)
from pykeepssh.ssh.log_reader import LogReader, tells
from pykeepssh.ssh.messages import Messages


def transcripts() -> dict[str, list[str]]:
    text = (Path(__file__).parent / "ssh_logs.txt").read_text()
    found: dict[str, list[str]] = {}
    for part in text.split("\n== ")[1:]:
        name, *lines = part.rstrip("\n").split("\n")
        found[name] = lines
    return found


LOGS = transcripts()


def seen_in(lines: list[str]) -> Evidence:
    log = LogReader()
    for message in Messages(tagged=any("pid=" in line for line in lines)).take(lines):
        log.feed(message.text)
    return log.evidence


def facts(seen: Evidence) -> dict[str, object]:
    """Return what differs from the beginning, without the address and the words."""
    fresh = Evidence()
    return {
        name: getattr(seen, name)
        for name in Evidence.__slots__
        if name not in ("address", "error", "printed", "remarks", "spoke")
        and getattr(seen, name) != getattr(fresh, name)
    }


SESSION_ENDED = {"phase": SESSION, "command_ended": True}

FACTS: dict[str, dict[str, object]] = {
    "exit status 3": SESSION_ENDED,
    "exit status 255": SESSION_ENDED,
    "remote command killed by a signal": SESSION_ENDED,
    "server killed under a command": {"phase": SESSION},
    "server killed under a tunnel": {"phase": SESSION},
    "tunnel told to end by TERM": {"phase": SESSION},  # and ssh ends with 0
    "tunnel told to end by HUP": {"phase": SESSION, "killed_by": 1},
    "command told to end by TERM": {"phase": SESSION, "killed_by": 15},
    "connection refused": {"phase": CONNECTING, "cause": UNREACHABLE},
    "name not found": {"cause": UNRESOLVED},
    "key not accepted": {"phase": CONNECTED, "cause": DENIED},
    "host key changed": {"phase": CONNECTED, "cause": HOST_KEY, "host_key": True},
    "host key unknown": {"phase": CONNECTED, "cause": HOST_KEY, "host_key": True},
    "host key added": SESSION_ENDED,
    "remote port held, fatal": {"phase": SESSION, "remote_refused": ["46737"], "forward_fatal": "remote"},
    "remote port held, not fatal": {
        "phase": SESSION,
        "remote_refused": ["46737"],
        "remote_up": 2,
        "allocated": [(41561, "127.0.0.1:22")],
    },
    "remote forwards forbidden": {"phase": SESSION, "remote_refused": ["0"], "forward_fatal": "remote"},
    "local port held, fatal": {
        "phase": AUTHENTICATED,
        "cause": SETUP,
        "local_held": ["[127.0.0.1]:46737"],
        "forward_fatal": "local",
    },
    "local port held in one address family": {
        "phase": SESSION,
        "local_up": ["[::1]:46737"],
        "local_held": ["[127.0.0.1]:46737"],
    },
    "local port held, not fatal": {"phase": SESSION, "local_held": ["[127.0.0.1]:46737"]},
    "local path held": {
        "phase": AUTHENTICATED,
        "cause": SETUP,
        "local_held": ["/d/l.sock"],
        "forward_fatal": "local",
    },
    "local address not there": {
        "phase": AUTHENTICATED,
        "cause": SETUP,
        "forward_fatal": "local",
        "local_away": "bind [192.0.2.1]:22000: Cannot assign requested address",
    },
    "forwards up": {"phase": SESSION, "local_up": ["[127.0.0.1]:39709", "/d/l.sock"], "remote_up": 1},
    "keepalive timeout": {"phase": SESSION, "timed_out": True, "cause": UNREACHABLE},
    "no common cipher": {"phase": CONNECTED, "cause": SETUP},
    "bad option": {},
    "-W": {"phase": SESSION},
    "-W refused": {"phase": SESSION, "session_refused": True},
    "subsystem refused": {"phase": SESSION, "session_refused": True},
    "session refused": {"phase": SESSION, "session_refused": True},
    "terminal refused": {"phase": SESSION, "pty_refused": True},
    "through a master": {"phase": SESSION, "shared": True, "command_ended": True},
    "tunnel through a master": {"phase": SESSION, "shared": True, "command_ended": True},
    # A master says nothing of a signal: it cannot be told from a master that is gone.
    "through a master, remote command killed by a signal": {"phase": SESSION, "shared": True},
    "through a master that is killed": {"phase": SESSION, "shared": True},
    "through a master, told to end by TERM": {"phase": SESSION, "shared": True, "killed_by": 15},
    "-W through a master": {"phase": SESSION, "shared": True},
    "the master refuses, ssh goes on by itself": {
        "phase": SESSION,
        "remote_refused": ["46737"],
        "command_ended": True,
    },
    # What a master's clients did is not what the master's own session did.
    "master of many clients": {"phase": SESSION},
    "tunnel, master of a client, server killed": {"phase": SESSION},
    "master told to end, at DEBUG1": {"phase": SESSION},
    "tunnel, master told to end, at DEBUG2": {"phase": SESSION, "asked_to_end": True},
    "master that persists, and its first client": {"phase": SESSION, "shared": True, "command_ended": True},
    "quiet: exit status 3": SESSION_ENDED,
    "quiet: terminal refused": {"phase": SESSION, "pty_refused": True},
    "quiet: connection refused": {"phase": CONNECTING, "cause": UNREACHABLE},
    "quiet: key not accepted": {"phase": CONNECTED, "cause": DENIED},
    "quiet: host key changed": {"phase": CONNECTED, "cause": HOST_KEY, "host_key": True},
    "quiet: server killed": {"phase": SESSION},
    "quiet: remote port held": {"phase": SESSION, "remote_refused": ["46737"], "forward_fatal": "remote"},
    "quiet: local port held": {
        "phase": AUTHENTICATED,
        "cause": SETUP,
        "local_held": ["[127.0.0.1]:46737"],
        "forward_fatal": "local",
    },
    "quiet: no common cipher": {"phase": CONNECTED, "cause": SETUP},
    "quiet: name not found": {"cause": UNRESOLVED},
    "quiet: keepalive timeout": {"phase": SESSION, "timed_out": True, "cause": UNREACHABLE},
    "quiet: master that persists, and its first client": {
        "phase": SESSION,
        "shared": True,
        "command_ended": True,
    },
    "closed at once": {"phase": CONNECTED, "cause": UNREACHABLE},
    "no banner": {"phase": CONNECTED, "cause": UNREACHABLE},
    "no ssh server": {"phase": CONNECTED, "cause": UNREACHABLE},
    "closed after the banner": {"phase": CONNECTED, "cause": UNREACHABLE},
    "proxy command fails": {"phase": CONNECTING, "cause": UNREACHABLE},
    "too many authentication failures": {"phase": CONNECTED, "cause": DENIED},
    "too many connections at the server": {"phase": CONNECTED, "cause": UNREACHABLE},
    "a server that talks": SESSION_ENDED,
}


def test_every_transcript_is_judged() -> None:
    assert set(FACTS) == set(LOGS)


@pytest.mark.parametrize("name", FACTS)
def test_a_real_log_proves(name: str) -> None:
    seen = seen_in(LOGS[name])
    assert facts(seen) == FACTS[name]
    assert seen.spoke == bool(LOGS[name])
    if seen.phase >= CONNECTING and not seen.shared and name != "proxy command fails":
        assert seen.address is not None
        assert seen.address[0] == "127.0.0.1"


ERRORS = {
    "connection refused": "ssh: connect to host 127.0.0.1 port {}: Connection refused",
    "name not found": "ssh: Could not resolve hostname nowhere.invalid: Name or service not known",
    "quiet: name not found": "ssh: Could not resolve hostname nowhere.invalid: Name or service not known",
    "key not accepted": "root@127.0.0.1: Permission denied (publickey).",
    "quiet: key not accepted": "root@127.0.0.1: Permission denied (publickey).",
    "command told to end by TERM": "",  # ssh writes that at VERBOSE
    "exit status 3": "",
    "local port held in one address family": "bind [127.0.0.1]:46737: Address already in use",
}


@pytest.mark.parametrize("name", ERRORS)
def test_the_last_error_is_kept_as_ssh_wrote_it(name: str) -> None:
    seen = seen_in(LOGS[name])
    port = seen.address[1] if seen.address else 0
    assert seen.error == ERRORS[name].format(port)


# -- other versions: the texts of their format strings -----------------------------------------------

OTHER_VERSIONS: dict[str, tuple[list[str], dict[str, object]]] = {
    "7.4: authenticated": (
        ["debug1: Authentication succeeded (publickey).", "Authenticated to h ([::1]:22)."],
        {"phase": AUTHENTICATED},
    ),
    "9.2: authenticated through a proxy": (
        ['Authenticated to h (via proxy) using "publickey".'],
        {"phase": AUTHENTICATED},
    ),
    "7.4: exit status of the own session": (
        [
            "debug1: channel 0: new [client-session]",
            "debug1: Entering interactive session.",
            "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0",
        ],
        SESSION_ENDED,
    ),
    "a command": (
        [
            "debug1: channel 0: new session [client-session] (inactive timeout: 0)",
            "debug1: Entering interactive session.",
            "debug1: Sending command: top",
        ],
        {"phase": SESSION, "command_sent": True},
    ),
    "a subsystem": (
        [
            "debug1: channel 0: new [client-session]",
            "debug1: Entering interactive session.",
            "debug1: Sending subsystem: sftp",
        ],
        {"phase": SESSION, "command_sent": True},
    ),
    "a command of a client of this master": (
        [
            "debug1: channel 0: new session [client-session] (inactive timeout: 0)",
            "debug1: Entering interactive session.",
            "debug1: channel 2: new session [client-session] (inactive timeout: 0)",
            "debug1: Sending command: top",
        ],
        {"phase": SESSION},
    ),
    "a command of its own, then a client's": (
        [
            "debug1: channel 0: new session [client-session] (inactive timeout: 0)",
            "debug1: Entering interactive session.",
            "debug1: Sending command: top",
            "debug1: channel 2: new session [client-session] (inactive timeout: 0)",
            "debug1: Sending command: top",
        ],
        {"phase": SESSION, "command_sent": True},
    ),
    "an exit status for another channel": (
        [
            "debug1: channel 1: new [client-session]",
            "debug1: Entering interactive session.",
            "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0",
            "debug1: client_input_channel_req: channel 1 rtype eow@openssh.com reply 0",
        ],
        {"phase": SESSION},
    ),
    "a client of a shared master is refused, the master is not": (
        [
            "debug1: Entering interactive session.",
            "debug1: channel 2: new session [client-session] (inactive timeout: 0)",
            "channel 2: open failed: administratively prohibited: open failed",
            "shell request failed on channel 2",
        ],
        {"phase": SESSION},
    ),
    "a forwarded connection is refused, the session is not": (
        [
            "debug1: channel 0: new [client-session]",
            "debug1: Entering interactive session.",
            "channel 3: open failed: connect failed: Connection refused",
        ],
        {"phase": SESSION},
    ),
    "no terminal is given, the session is": (
        [
            "debug1: channel 0: new [client-session]",
            "debug1: Entering interactive session.",
            "PTY allocation request failed on channel 0",
        ],
        {"phase": SESSION, "pty_refused": True},
    ),
    "7.9: the master of a session is gone": (
        [
            "debug2: mux_client_hello_exchange: master version 4",
            "debug2: Control master terminated unexpectedly",
        ],
        {"phase": SESSION, "shared": True},
    ),
    "7.4: local port held": (
        [
            "debug1: Local forwarding listening on ::1 port 80.",
            "bind: Address already in use",
            "debug1: Local forwarding listening on 127.0.0.1 port 80.",
            "bind: Address already in use",
            "channel_setup_fwd_listener_tcpip: cannot listen to port: 80",
            "Could not request local forwarding.",
        ],
        {"local_held": ["?", "80"], "cause": SETUP, "forward_fatal": "local"},
    ),
    "7.4: local path held": (
        [
            "bind: Address already in use",
            "unix_listener: cannot bind to path: /s",
            "Could not request local forwarding.",
        ],
        {"local_held": ["/s"], "cause": SETUP, "forward_fatal": "local"},
    ),
    "a local path that may not be made": (
        ["unix_listener: cannot bind to path /s: Permission denied", "Could not request local forwarding."],
        {"cause": SETUP},
    ),
    "a privileged port after one that was held": (
        [
            "bind [127.0.0.1]:80: Permission denied",
            "channel_setup_fwd_listener_tcpip: cannot listen to port: 80",
            "Could not request local forwarding.",
        ],
        {"cause": SETUP},
    ),
    "a local address that is away, elsewhere": (
        ["bind [10.1.2.3]:80: Can't assign requested address", "Could not request local forwarding."],
        {
            "local_away": "bind [10.1.2.3]:80: Can't assign requested address",
            "cause": SETUP,
            "forward_fatal": "local",
        },
    ),
    "a socket's directory that is away": (
        [
            "debug1: Local connections to /d/l.sock:-2 forwarded to remote address x:80",
            "unix_listener: cannot bind to path /d/l.sock: No such file or directory",
            "Could not request local forwarding.",
        ],
        {
            "local_away": "unix_listener: cannot bind to path /d/l.sock: No such file or directory",
            "cause": SETUP,
            "forward_fatal": "local",
        },
    ),
    "a name to listen on that is not found": (
        [
            "channel_setup_fwd_listener_tcpip: getaddrinfo(me): Name or service not known",
            "Could not request local forwarding.",
        ],
        {
            "local_away": "channel_setup_fwd_listener_tcpip: getaddrinfo(me): Name or service not known",
            "cause": SETUP,
            "forward_fatal": "local",
        },
    ),
    "no IPv6 for one forward, no right to another": (
        [
            "debug1: Local connections to LOCALHOST:8080 forwarded to remote address x:80",
            "bind [::1]:8080: Cannot assign requested address",
            "debug1: Local connections to LOCALHOST:80 forwarded to remote address x:80",
            "bind [127.0.0.1]:80: Permission denied",
            "Could not request local forwarding.",
        ],
        {"cause": SETUP},
    ),
    "a tunnel device": (
        [
            "debug1: channel 0: new tun [tun] (inactive timeout: 0)",
            "debug1: ssh_init_forwarding: expecting replies for 1 forwards",
            "debug1: Entering interactive session.",
            "debug1: ssh_tun_confirm: tunnel forward established, id=0",
            "debug1: forwarding_success: all expected forwarding replies received",
        ],
        {"phase": SESSION, "replies": True, "device_answered": True},
    ),
    "a tunnel device refused": (
        [
            "debug1: channel 0: new tun [tun] (inactive timeout: 0)",
            "debug1: ssh_init_forwarding: expecting replies for 1 forwards",
            "debug1: Entering interactive session.",
            "channel 0: open failed: connect failed: open failed",
            "Tunnel forwarding failed",
        ],
        {
            "phase": SESSION,
            "replies": False,
            "device_answered": True,
            "remote_refused": ["-w"],
            "forward_fatal": "remote",
        },
    ),
    "a tunnel device refused in one line": (
        ["Tunnel forwarding failed"],
        {"device_answered": True, "remote_refused": ["-w"], "forward_fatal": "remote"},
    ),
    "a tunnel device refused, not fatal": (
        [
            "debug1: channel 0: new tun [tun] (inactive timeout: 0)",
            "debug1: Entering interactive session.",
            "channel 0: open failed: connect failed: open failed",
            "Tunnel forwarding failed",
            "debug1: ssh_tun_confirm: tunnel forward established, id=0",
        ],
        {"phase": SESSION, "device_answered": True, "remote_refused": ["-w"]},
    ),
    "7.4: a tunnel device refused": (
        [
            "debug1: channel 0: new [tun]",
            "debug1: Entering interactive session.",
            "debug1: channel 1: new tun [tun] (inactive timeout: 0)",
            "channel 0: open failed: connect failed: open failed",
            "channel 0: open failed: connect failed: open failed",
        ],
        {"phase": SESSION, "remote_refused": ["-w"]},
    ),
    "a tunnel device that is in use here": (
        [
            "debug1: sys_tun_open: failed to configure tunnel (mode 1): Device or resource busy",
            "Tunnel device open failed.",
            "Could not request tunnel forwarding.",
        ],
        {"local_held": ["-w"], "cause": SETUP, "forward_fatal": "local"},
    ),
    "ports that the server chooses": (
        [
            "debug1: Entering interactive session.",
            "debug1: remote forward success for: listen 0, connect localhost:22",
            "debug1: remote forward success for: listen 2222, connect localhost:22",
            "Allocated port 41561 for remote forward to localhost:22",
            "debug1: remote forward success for: listen ::1:0, connect /s:-2",
            "Allocated port 41562 for remote forward to /s:-2",
            "Allocated port 41563 for remote forward to socks:0",
        ],
        {
            "phase": SESSION,
            "remote_up": 4,
            "allocated": [(41561, "localhost:22"), (41562, "/s"), (41563, "a SOCKS proxy")],
        },
    ),
    "a changed key that forbids forwarding": (
        ["Error: forwarding disabled due to host key check failure"],
        {"cause": HOST_KEY},
    ),
    "an IPv6 address that is held": (["bind [::1]:80: Address already in use"], {"local_held": ["[::1]:80"]}),
    "7.4: a shared master ends at a signal": (
        ["debug1: mux_client_request_session: master session id: 3", "debug2: Exiting on signal 2"],
        {"phase": SESSION, "killed_by": 2},
    ),
    "elsewhere: a signal's name with its number": (
        ["debug2: Exiting on signal: Hangup: 1"],
        {"killed_by": 1},
    ),
    "7.4: a master is told to end": (
        ["debug2: process_mux_terminate: channel 1: terminate request"],
        {"asked_to_end": True},
    ),
    "a tunnel's master is told to take no more clients": (
        [
            "debug1: Entering interactive session.",
            "debug1: channel 2: new session [client-session] (inactive timeout: 0)",
            "debug1: mux_master_process_stop_listening: channel 1: stop listening",
        ],
        {"phase": SESSION, "asked_to_end": True},
    ),
    "a shell's master is told so, and its shell goes on": (
        [
            "debug1: channel 1: new session [client-session] (inactive timeout: 0)",
            "debug1: Entering interactive session.",
            "debug1: mux_master_process_stop_listening: channel 0: stop listening",
        ],
        {"phase": SESSION},
    ),
    "7.4: denied": (["Permission denied (publickey,password)."], {"cause": DENIED}),
    "unreadable password": (["Authentication failed."], {"cause": DENIED}),
    "7.4: no host": (['ssh: Could not resolve host "x"'], {"cause": UNRESOLVED}),
    "7.4: no answer": (
        ["Timeout, server h not responding."],
        {"timed_out": True, "cause": UNREACHABLE},
    ),
    "7.4: closed before the banner": (
        ["ssh_exchange_identification: Connection closed by remote host"],
        {"cause": UNREACHABLE},
    ),
    "7.4: written into a dead connection": (
        ["packet_write_wait: Connection to 1.2.3.4 port 22: Broken pipe"],
        {"cause": UNREACHABLE},
    ),
    "9.2: written into a dead connection": (
        ["client_loop: send disconnect: Broken pipe"],
        {"cause": UNREACHABLE},
    ),
    "a packet from nowhere": (
        ["ssh_dispatch_run_fatal: Connection to 1.2.3.4 port 22: message authentication code incorrect"],
        {"cause": UNREACHABLE},
    ),
    "no banner of ssh": (
        ["banner exchange: Connection to 1.2.3.4 port 22: invalid format"],
        {"cause": UNREACHABLE},
    ),
    "reset": (["Connection reset by 1.2.3.4 port 22"], {"cause": UNREACHABLE}),
    "no route": (["ssh: connect to host h port 22: No route to host"], {"cause": UNREACHABLE}),
    "7.4: disconnecting": (["Disconnecting: Protocol error"], {"cause": UNREACHABLE}),
    "9.2: too many keys": (
        [
            "debug1: SSH2_MSG_NEWKEYS received",
            "Disconnecting 1.2.3.4 port 22: Too many authentication failures",
        ],
        {"cause": DENIED},
    ),
    "denied, then closed": (
        ["u@h: Permission denied (publickey).", "Connection closed by 1.2.3.4 port 22"],
        {"cause": DENIED},
    ),
    "closed, then known better": (
        ["Connection closed by 1.2.3.4 port 22", "Host key verification failed."],
        {"cause": HOST_KEY, "host_key": True},
    ),
    "a proxy": (["debug1: Executing proxy dialer command: x"], {"phase": CONNECTING}),
    "-W through a master fails": (
        ["debug2: master version 4", "Stdio forwarding request failed: x"],
        {"shared": True, "session_refused": True},
    ),
    "a remote path refused": (
        ["Error: remote port forwarding failed for listen path /s"],
        {"remote_refused": ["/s"], "forward_fatal": "remote"},
    ),
    "the second address": (
        [
            "debug1: Connecting to h [::1] port 22.",
            "debug1: connect to address ::1 port 22: Connection refused",
            "debug1: Connecting to h [127.0.0.1] port 22.",
        ],
        {"phase": CONNECTING},
    ),
    "10.x: tagged lines": (
        [
            "debug1: channels.c:channel_new():562 (bin=ssh, pid=7): channel 0: new session [client-session]",
            "debug1: clientloop.c:client_loop():1464 (bin=ssh, pid=7): Entering interactive session.",
            "debug1: mux.c:mux_client_request_session():2072 (bin=ssh, pid=7): master session id: 2",
            "debug2: mux.c:f():2166 (bin=ssh, pid=7): Received exit status from master 3",
        ],
        SESSION_ENDED,
    ),
}


@pytest.mark.parametrize("name", OTHER_VERSIONS)
def test_other_words_prove_the_same(name: str) -> None:
    lines, expected = OTHER_VERSIONS[name]
    assert facts(seen_in(lines)) == expected


def test_the_address_is_the_last_one_tried() -> None:
    assert seen_in(OTHER_VERSIONS["the second address"][0]).address == ("127.0.0.1", 22)


def test_a_session_forgets_what_went_wrong_before_it() -> None:
    lines = [*LOGS["local port held, not fatal"], "Connection reset by 127.0.0.1 port 22"]
    seen = seen_in(lines)
    assert seen.forward_fatal is None
    assert seen.cause == UNREACHABLE


# -- what a user sees --------------------------------------------------------------------------------

# As "ssh -v" and friends showed it in the same runs: lines of a transcript by the level that ssh gave them.
LEVEL_OF = {
    "debug1: Connection established.": DEBUG1,
    "debug2: Received exit status from master 4": DEBUG2,
    "debug3: send packet: type 5": DEBUG3,
    "debug4: no such level": ERROR,
    'Authenticated to h ([1.2.3.4]:22) using "publickey".': VERBOSE,
    'Authenticated using "publickey" with partial success.': VERBOSE,
    "Transferred: sent 3472, received 3264 bytes, in 0.2 seconds": VERBOSE,
    "Bytes per second: sent 21674.1, received 20375.6": VERBOSE,
    "Killed by signal 15.": VERBOSE,
    "bind [::1]:80: Address already in use": VERBOSE,  # by default the IPv4 address follows it
    "bind [fe80::1%eth0]:80: Address already in use": VERBOSE,
    "bind [127.0.0.1]:80: Address already in use": ERROR,
    "bind: Address already in use": ERROR,
    "Warning: Permanently added '[h]:22' (ED25519) to the list of known hosts.": INFO,
    "Warning: remote port forwarding failed for listen port 80": INFO,
    "Warning: No xauth data; using fake authentication data for X11 forwarding.": INFO,
    "Warning: the ECDSA host key for 'h' differs from the key for the IP address '1.2.3.4'": INFO,
    "Pseudo-terminal will not be allocated because stdin is not a terminal.": INFO,
    "Timeout, server h not responding.": INFO,
    "Allocated port 41561 for remote forward to 127.0.0.1:22": INFO,
    "Connection closed by 1.2.3.4 port 22": INFO,
    "Connection reset by 1.2.3.4 port 22": INFO,
    "Connection to 1.2.3.4 port 22 timed out": INFO,
    "Disconnected from 1.2.3.4 port 22": INFO,
    "Disconnecting 1.2.3.4 port 22: Packet corrupt": INFO,
    "Unable to negotiate with 1.2.3.4 port 22: no matching cipher found. Their offer: x": INFO,
    "ssh_dispatch_run_fatal: Connection to 1.2.3.4 port 22: message authentication code incorrect": INFO,
    "banner exchange: Connection to 1.2.3.4 port 22: invalid format": INFO,
    "channel 0: open failed: connect failed: open failed": INFO,
    "Bad packet length 1397966893.": INFO,
    "Corrupted MAC on input.": INFO,
    "OpenSSH_9.2p1 Debian-2+deb12u10, OpenSSL 3.0.19 27 Jan 2026": INFO,
    "Host key fingerprint is SHA256:x": INFO,
    "Authenticated with partial success.": VERBOSE,
    "Rejected X11 connection after ForwardX11Timeout expired": VERBOSE,
    "socket [::1]:80: Address family not supported": VERBOSE,
    "socket: Address family not supported": VERBOSE,
    "DNS lookup error: name does not exist": VERBOSE,
    "Error parsing fingerprint from DNS": VERBOSE,
    "Deferring PIN entry for security key": VERBOSE,
    'Canonicalized DNS aliased hostname "a" => "b"': VERBOSE,
    "channel 1: closing after 60 seconds of inactivity": VERBOSE,
    "Warning: Could not request remote forwarding.": INFO,
    "Warning: Remote host refused compression.": INFO,
    "Warning: this server does not support rekeying.": INFO,
    "Failed to add the host to the list of known hosts (/k).": INFO,
    "X11 connection rejected because of wrong authentication.": INFO,
    "Server does not support it": INFO,
    "Received request to connect to host h port 80, but the request was denied.": INFO,
    "Connection to 1.2.3.4 timed out": INFO,
    "Connection from 1.2.3.4 port 22 timed out": INFO,
    'DISPLAY "x" invalid; disabling X11 forwarding': INFO,
    "Created directory '/h/.ssh'.": INFO,
    "channel 0: rcvd big packet 9": INFO,
    "channel 0: bad ext data": INFO,
    "channel 0: ext data for non open": INFO,
    "kex: Connection from 1.2.3.4 port 22: x": INFO,
    "** WARNING: connection is not using a post-quantum key exchange algorithm.": INFO,
    "This session will eventually fail": INFO,
    "WARNING: RSA key found for host h": INFO,
    "padding error: need 9 block 8 mod 1": INFO,
    "Finished discarding for 1.2.3.4 port 22": INFO,
    "ED25519 host key for IP address 1.2.3.4 not in list": INFO,
    "getifaddrs: eth0: no suitable addresses": INFO,
    "Mismatch; try again, EOF to quit.": INFO,
    "No user exists for uid 9": INFO,
    "ssh: connect to host h port 22: Connection refused": ERROR,
    "ssh: Could not resolve hostname h: Name or service not known": ERROR,
    "kex_exchange_identification: read: Connection reset by peer": ERROR,
    "Connection timed out during banner exchange": ERROR,
    "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures": ERROR,
    "u@h: Permission denied (publickey).": ERROR,
    "Host key verification failed.": ERROR,
    "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @": ERROR,
    "Could not request local forwarding.": ERROR,
    "Error: remote port forwarding failed for listen port 80": ERROR,
    "channel_setup_fwd_listener_tcpip: cannot listen to port: 80": ERROR,
    "client_loop: send disconnect: Broken pipe": ERROR,
    "subsystem request failed on channel 0": ERROR,
    "": ERROR,
}


@pytest.mark.parametrize("line", LEVEL_OF)
def test_a_line_has_the_level_that_ssh_gave_it(line: str) -> None:
    level, text = level_and_text(line)
    assert level == LEVEL_OF[line]
    assert text == (line.split(": ", 1)[1] if level >= DEBUG1 else line)


# Transcript: how many of its lines a user at QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG1, DEBUG2, DEBUG3 sees.
SHOWN = {
    "exit status 3": ([], [], 3, None),
    "server killed under a command": ([], [], 3, None),
    "connection refused": (
        ["ssh: connect to host 127.0.0.1 port {port}: Connection refused"],
        [],
        0,
        None,
    ),
    "keepalive timeout": ([], ["Timeout, server 127.0.0.1 not responding."], 1, None),
    "host key unknown": (["Host key verification failed."], [], 0, None),
    "key not accepted": (["root@127.0.0.1: Permission denied (publickey)."], [], 0, None),
    "remote port held, not fatal": (
        [],
        [
            "Warning: remote port forwarding failed for listen port 46737",
            "Allocated port 41561 for remote forward to 127.0.0.1:22",
        ],
        3,
        None,
    ),
    "through a master": ([], [], 0, 1),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_user_sees_what_their_level_shows(name: str) -> None:
    errors, infos, verbose, debug1 = SHOWN[name]
    seen = seen_in(LOGS[name])
    port = seen.address[1] if seen.address else 0

    def shown(user: int) -> list[str]:
        return [line for line in LOGS[name] if level_and_text(line)[0] <= user]

    assert shown(QUIET) == shown(FATAL) == []
    assert shown(ERROR) == [line.format(port=port) for line in errors]
    assert shown(INFO) == [line.format(port=port) for line in errors + infos]
    assert len(shown(VERBOSE)) == len(errors + infos) + verbose
    if debug1 is not None:
        assert len(shown(DEBUG1)) == debug1
    assert shown(DEBUG2) == shown(DEBUG3) == LOGS[name]


def test_the_levels_are_in_the_order_of_ssh() -> None:
    assert list(LEVELS.values()) == sorted(LEVELS.values())
    assert sorted(set(LEVELS.values())) == [QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG1, DEBUG2, DEBUG3]


# -- what a server says ------------------------------------------------------------------------------

LIES = [
    "debug1: Entering interactive session.",
    "Killed by signal 15.",
    "ssh.c:main():1 (pid=7): Killed by signal 15.",
    "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0",
    "debug2: Received exit status from master 0",
    "Error: remote port forwarding failed for listen port 80",
    "Host key verification failed.",
    "u@h: Permission denied (publickey).",
    "debug1: Connecting to x [10.0.0.1] port 25.",
]
# Where ssh puts a server's words into its log: before or behind words of its own.
FRAMES = {
    "a debug message": "debug1: Remote: {}",
    "a tagged debug message": "debug1: packet.c:ssh_packet_read_poll_seqnr():1782 (pid=7): Remote: {}",
    "a refused channel": "channel 4: open failed: administratively prohibited: {}",
    "a version": "debug1: Remote protocol version 2.0, remote software version {}",
    "a line before the version": "debug1: kex_exchange_identification: banner line 0: {}",
    "an extension": "debug1: kex_input_ext_info: server-sig-algs=<{}>",
    "a global request": "debug1: client_input_global_request: rtype {} want_reply 0",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("frame", FRAMES)
def test_the_words_of_a_server_are_no_facts(frame: str, lie: str) -> None:
    start = [
        "debug1: Connecting to h [1.2.3.4] port 22.",
        "debug1: Connection established.",
        "debug1: channel 0: new session [client-session]",
    ]
    before = seen_in(start)
    after = seen_in([*start, FRAMES[frame].format(lie)])
    assert facts(after) == facts(before)
    assert after.address == ("1.2.3.4", 22)


def test_a_reason_to_disconnect_is_unreachable_whatever_it_says() -> None:
    for lie in LIES:
        words = f"Received disconnect from 1.2.3.4 port 22:2: {lie}"
        seen = seen_in(["debug1: Connection established.", words])
        assert facts(seen) == {"phase": CONNECTED, "cause": UNREACHABLE}


def test_once_connected_no_line_changes_the_address() -> None:
    # keyboard-interactive lets a server write whole lines; kssh knocks at this address.
    seen = seen_in(
        [
            "debug1: Connecting to h [1.2.3.4] port 22.",
            "debug1: Connection established.",
            "debug1: Connecting to h [10.0.0.1] port 25.",
        ]
    )
    assert seen.address == ("1.2.3.4", 22)


# -- any line ----------------------------------------------------------------------------------------

ALL_LINES = sorted({line for lines in LOGS.values() for line in lines} | set(LEVEL_OF))
# What the patterns ask for, and what a server may put in between.
TEXT = st.text("aé019 \t\r\n\x00\x1b:.,[]()@#%/-_'\"")
LINE = st.one_of(
    st.sampled_from(ALL_LINES),
    TEXT,
    st.builds(str.__add__, st.sampled_from(ALL_LINES), TEXT),
    st.builds(lambda line, at: line[:at], st.sampled_from(ALL_LINES), st.integers(0, 80)),
)


@given(st.lists(LINE, max_size=12))
def test_no_line_is_too_odd_and_no_phase_goes_back(lines: list[str]) -> None:
    log = LogReader()
    phase = STARTED
    for line in lines:
        log.feed(line)
        assert phase <= log.evidence.phase <= SESSION
        phase = log.evidence.phase
        assert log.evidence.forward_fatal in (None, "local", "remote")
    assert log.evidence.spoke == bool(lines)


DEBUGGING = [row for rows in log_rows.rows(DEBUG1) for row in rows]
PLAIN = [row for rows in log_rows.rows(ERROR) for row in rows]


@pytest.mark.parametrize("row", range(len(DEBUGGING) + len(PLAIN)))
def test_no_row_of_the_tables_is_without_an_example(row: int) -> None:
    compiled = [*DEBUGGING, *PLAIN]
    table = DEBUGGING if row < len(DEBUGGING) else PLAIN
    lines = [*ALL_LINES, *(line for lines, _ in OTHER_VERSIONS.values() for line in lines)]
    for line in lines:
        level, text = level_and_text(line)
        if (level >= DEBUG1) == (table is DEBUGGING):
            first = next((pattern for pattern, _ in table if pattern.match(text)), None)
            if first is compiled[row][0]:
                return
    pytest.fail(f"no line reaches {compiled[row][0].pattern!r}")


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("me@jump: Permission denied (publickey).", DENIED),
        ("Host key verification failed.", HOST_KEY),
        ("Welcome. Permission denied (not really).", None),
        ("Connection refused", None),
    ],
)
def test_a_jump_host_is_heard(line: str, cause: str | None) -> None:
    log = LogReader()
    log.feed_printed(line + "\n")
    assert log.evidence.cause == cause
    log.feed("Connection closed by UNKNOWN port 65535")
    assert log.evidence.cause == (cause or UNREACHABLE)
    log.feed_printed(line + "\n")
    assert log.evidence.cause == (cause or UNREACHABLE)


@pytest.mark.parametrize(
    "own",
    [
        "Connection closed by UNKNOWN port 65535",
        "ssh_exchange_identification: Connection closed by remote host",
    ],
)
def test_what_a_jump_host_says_is_the_reason(own: str) -> None:
    said = "ssh: connect to host 127.0.0.1 port 22: Connection refused"
    for lines in (("jump", "log"), ("log", "jump")):
        log = LogReader()
        for line in lines:
            if line == "jump":
                log.feed_printed(said[:20])  # in whatever parts it comes
                log.feed_printed(said[20:])
                log.feed_printed("\r\n")
            else:
                log.feed(own)
        assert log.evidence.error == said
        assert log.evidence.cause == UNREACHABLE
    log.feed("Connection reset by 10.0.0.1 port 22")
    assert log.evidence.error == "Connection reset by 10.0.0.1 port 22"


def test_what_a_proxy_command_says_is_the_reason() -> None:
    log = LogReader()
    log.feed_printed("waking the host\nPassword: \nsh: 1: exec: nc: not found\n")
    log.feed("kex_exchange_identification: Connection closed by remote host")
    assert "exchange" in log.evidence.error
    log.feed("Connection closed by UNKNOWN port 65535")
    assert log.evidence.error == "waking the host; sh: 1: exec: nc: not found"


def test_what_nobody_can_tell_better_stays() -> None:
    log = LogReader()
    log.feed("Connection closed by UNKNOWN port 65535")
    assert log.evidence.error == "Connection closed by UNKNOWN port 65535"


@given(st.lists(st.one_of(TEXT, st.sampled_from(["x" * 199, "x" * 1000, "a\nb\n", "ssh: no"])), max_size=30))
def test_what_is_printed_is_bounded(parts: list[str]) -> None:
    log = LogReader()
    for part in parts:
        log.feed_printed(part)
    log.feed_printed("\n")
    assert len(log.evidence.printed) <= 3
    assert all(0 < len(line) <= 200 for line in log.evidence.printed)
    assert len(log._part) <= 200


def test_what_tells_why_is_kept_once_each_and_the_newest() -> None:
    log = LogReader()
    for number in (1, 2, 3, 4, 3):
        log.feed(f"Permissions 0644 for '/k{number}' are too open.")
    log.feed("This private key will be ignored.")
    assert log.evidence.remarks == [
        f"Permissions 0644 for '/k{number}' are too open." for number in (2, 4, 3)
    ]
    log.feed("debug1: Entering interactive session.")
    assert log.evidence.remarks == []


# -- what a server may have written ------------------------------------------------------------------

CONNECTION = ["debug1: Connecting to h [1.2.3.4] port 22.", "debug1: Connection established."]
OF_A_SESSION = [
    'Authenticated to h ([1.2.3.4]:22) using "publickey".',
    "debug1: channel 0: new session [client-session]",
    "debug1: Entering interactive session.",
    "debug1: client_input_channel_req: channel 0 rtype exit-status reply 0",
    "debug1: remote forward success for: listen 80, connect h:80",
    "Warning: remote port forwarding failed for listen port 81",
    "PTY allocation request failed on channel 0",
    "debug1: channel 1: terminate request",
]


def test_what_nobody_else_tells_is_not_believed_of_a_log_that_a_server_can_write_to() -> None:
    log = LogReader(lambda: False)
    for line in [*CONNECTION, *OF_A_SESSION]:
        log.feed(line, certain=False)
    assert facts(log.evidence) == {"phase": CONNECTED, "may_have_begun": True}


@pytest.mark.parametrize(
    "line",
    [
        'Authenticated to h ([1.2.3.4]:22) using "publickey".',
        "debug1: Authentication succeeded (publickey).",
        "debug1: Entering interactive session.",
        "debug1: Sending command: ls",
    ],
)
def test_what_may_be_true_is_not_risked(line: str) -> None:
    log = LogReader(lambda: False)
    for said in [*CONNECTION, line]:
        log.feed(said, certain=False)
    assert facts(log.evidence) == {"phase": CONNECTED, "may_have_begun": True}


def test_once_ssh_has_authenticated_its_log_is_believed() -> None:
    answers = iter([False, True])
    log = LogReader(lambda: next(answers))
    for line in [*CONNECTION, "debug1: Entering interactive session.", *OF_A_SESSION]:
        log.feed(line, certain=False)
    assert facts(log.evidence) == {
        "phase": SESSION,
        "command_ended": True,
        "remote_up": 1,
        "remote_refused": ["81"],
        "pty_refused": True,
        "asked_to_end": True,
        "may_have_begun": True,
    }


def test_authentication_is_what_was_proven() -> None:
    log = LogReader(lambda: True)
    log.feed("debug1: channel 0: new session [client-session]", certain=False)
    assert log.evidence.phase == AUTHENTICATED


@pytest.mark.parametrize(
    "before", ["u@h: Permission denied (publickey).", "Connection closed by 1.2.3.4 port 22"]
)
def test_a_refused_host_key_is_what_counts(before: str) -> None:
    seen = seen_in(
        [*CONNECTION, before, "debug1: Entering interactive session.", "Host key verification failed."]
    )
    assert (seen.cause, seen.host_key) == (HOST_KEY, True)


def test_a_session_does_not_excuse_a_refused_host_key() -> None:
    seen = seen_in([*CONNECTION, "Host key verification failed.", "debug1: Entering interactive session."])
    assert seen.host_key


def test_a_session_that_is_proven_shows_that_the_host_key_was_not_refused() -> None:
    log = LogReader(lambda: True)
    for line in [*CONNECTION, "Host key verification failed.", "debug1: Entering interactive session."]:
        log.feed(line, certain=False)
    assert (log.evidence.cause, log.evidence.host_key) == (None, False)


TOO_MANY = "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures"


@pytest.mark.parametrize(
    ("line", "cause"), [("debug1: SSH2_MSG_NEWKEYS received", DENIED), ("x", UNREACHABLE)]
)
def test_only_a_server_whose_key_is_verified_denies(line: str, cause: str) -> None:
    assert seen_in([*CONNECTION, line, TOO_MANY]).cause == cause


@pytest.mark.parametrize(
    "line",
    [
        "debug1: mux_client_request_session: master session id: 1",
        "debug2: mux_client_hello_exchange: master version 4",
        "debug2: Received exit status from master 0",
        "Control master terminated unexpectedly",
        "debug1: Exiting on signal Hangup",
    ],
)
@pytest.mark.parametrize(
    "way", ["debug1: Connecting to h [1.2.3.4] port 22.", "debug1: Executing proxy command: x"]
)
def test_an_ssh_with_a_connection_of_its_own_is_nobodys_client(way: str, line: str) -> None:
    lines = ["debug2: mux_client_hello_exchange: master version 4", way]
    assert facts(seen_in([*lines, line])) == facts(seen_in(lines))


def test_a_proxy_that_is_told_of_later_changes_nothing() -> None:
    assert facts(seen_in([*CONNECTION, "debug1: Executing proxy command: x"])) == facts(seen_in(CONNECTION))


@pytest.mark.parametrize(
    ("line", "fact"),
    [
        ("debug1: Entering interactive session.", True),
        ("debug1: Connection established.", True),
        ("Authenticated to h ([1.2.3.4]:22).", True),
        ("Host key verification failed.", True),
        ("debug3: sigaction(Killed): Invalid argument", False),
        ("ssh_askpass: exec(/none): No such file or directory", False),
    ],
)
def test_a_fact_is_known_as_one(line: str, fact: bool) -> None:
    assert tells(line) == fact


def test_no_list_grows_without_end() -> None:
    log = LogReader()
    seen = log.evidence
    seen.remote_refused = ["80"] * 4095
    seen.allocated = [(80, "h:80")] * 4095
    refused = f"Warning: remote port forwarding failed for listen path {'x' * 900}"
    allocated = f"Allocated port 1 for remote forward to {'x' * 900}:1"
    for line in [*CONNECTION, *[refused, allocated] * 5]:
        log.feed(line)
    assert seen.remote_refused == ["80"] * 4095 + ["x" * 200]
    assert len(seen.allocated) == 4097
    assert seen.allocated[-5:] == [(1, "x" * 200)] * 5
