"""The words in which kssh tells a person what happened.

Knows reports and evidence.  Must not know where a line goes, nor decide anything.
"""

from __future__ import annotations

from .errors import printable
from .evidence import Evidence
from .kinds import TUNNEL
from .outcomes import (
    DENIED,
    FINISHED,
    GAVE_UP,
    HOST_KEY,
    LEFT,
    LOST,
    PORT_HELD_LOCAL,
    PORT_HELD_REMOTE,
    REFUSED_SETUP,
    RETRY,
    UNREACHABLE,
    UNRESOLVED,
    UP,
    Exit,
    Report,
)


def duration(seconds: float) -> str:
    """Return a length of time as a person says it: "0.4 s", "45 s", "2 min 5 s", "2h13m", "3d4h"."""
    tenths = round(seconds * 10)
    if tenths < 100 and tenths % 10:
        return f"{tenths / 10} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest_s = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s" if rest_s else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02}m"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h"


def _port(held: list[str]) -> str:
    """Return the last of the ports or socket paths, which is the one that ended ssh."""
    return f"port {held[-1]}" if held[-1].isdigit() else printable(held[-1])


def reason(outcome: str, ended: Exit, seen: Evidence | None, session: bool) -> str:
    """Return why ssh ended, in one line without a full stop.

    session tells whether the session phase was reached.  Nothing has to be explained about a
    remote command that ended, or a person who left.
    """
    if outcome == LEFT or (outcome == FINISHED and seen is not None and seen.command_ended):
        return ""
    if seen is not None:
        if outcome == PORT_HELD_REMOTE:
            held = _port(seen.remote_refused)
            return f"the server refused to listen on {held}; an old session may still hold it"
        if outcome == PORT_HELD_LOCAL:
            return f"{_port(seen.local_held)} is in use on this machine"
        if seen.timed_out:
            return "the server stopped answering"
    if ended.signal is not None:
        return f"ssh was ended by signal {ended.signal}"
    if seen is None:
        return f"ssh ended with status {ended.code}"
    if seen.killed_by is not None:
        return f"ssh was asked to end by signal {seen.killed_by}"
    if outcome == LOST and ended.code == 0:
        return "ssh was asked to end"
    if outcome == DENIED:
        return printable(seen.error) or "authentication failed"
    if outcome == HOST_KEY:
        return "host key verification failed"
    if not seen.spoke:
        return "it refused its command line or configuration"
    if session and seen.cause is None:
        return "the connection was closed"
    return printable(_short(seen.error)) or f"ssh ended with status {ended.code}"


def _short(error: str) -> str:
    """Return an error of ssh's without what the line says already: "Connection refused"."""
    if error.startswith(("ssh: connect to host ", "ssh: Could not resolve hostname ")):
        error = error.rpartition(": ")[2]
    return error.removesuffix(".")


_WHAT = {
    FINISHED: "finished",
    UNREACHABLE: "not reachable",
    LOST: "link lost",
    UNRESOLVED: "host name not found",
    DENIED: "access denied",
    HOST_KEY: "HOST KEY CHANGED OR UNKNOWN, not connecting",
    REFUSED_SETUP: "ssh cannot do what was asked",
    PORT_HELD_REMOTE: "forward refused",
    PORT_HELD_LOCAL: "forward refused",
    LEFT: "ended as asked",
}


def line(report: Report, kind: str) -> str:
    """Return the one line that tells a Report, without the host's name in front."""
    if report.event == UP:
        what = "tunnel is up" if kind == TUNNEL else "connected"
        if report.delay_s is not None:
            return f"{what} again after {duration(report.delay_s)} (start {report.start})"
        return what
    what = _WHAT[report.outcome]
    if report.session_s is not None and report.outcome == LOST:
        what += f" after {duration(report.session_s)}"
    if report.reason:
        what += f" ({report.reason})"
    if report.event == RETRY:
        assert report.delay_s is not None
        when = "now" if report.delay_s < 0.05 else f"in {duration(report.delay_s)}"
        return f"{what}; retry {report.start} {when}"
    if report.event == GAVE_UP:
        starts = "1 start" if report.start == 1 else f"{report.start} starts"
        limit = " (KSSH_MAXSTART)" if report.limit else ""
        return f"giving up after {starts}{limit}: {what}"
    return what
