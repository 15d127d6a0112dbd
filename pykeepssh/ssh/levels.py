"""The LogLevel at which ssh wrote a message; only a debug message carries it.

Knows the texts of OpenSSH 7.4 to 10.x that are not errors.  Must not know what a message means.

Source: log.c, and the calls of verbose(), logit() and logdie() in the client.
"""

from __future__ import annotations

import re

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
