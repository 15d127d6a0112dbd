"""The words in which kssh tells a person what happened.

Knows reports and evidence.  Must not know where a line goes, nor decide anything.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import printable
from ..ssh.evidence import DEVICE, Evidence
from .kinds import COMMAND, TUNNEL
from .outcomes import (
    DENIED,
    ENDED,
    FINISHED,
    FORGED,
    GAVE_UP,
    HOST_KEY,
    LEFT,
    LOST,
    NOT_RESUMED,
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

_SSH_FAILED = 255  # ssh(1), EXIT STATUS


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


def _place(held: str) -> str:
    """Return a port, a socket's path or a tunnel device in words."""
    if held == DEVICE:
        return "a tunnel device (-w)"
    port = _address_and_port(held)[1]
    return f"port {port}" if port.isdigit() else printable(port)


def _address_and_port(held: str) -> tuple[str, str]:
    """Return the two parts of "[::1]:80"; what has no address is all port."""
    address, bracket, port = held.rpartition("]:")
    return (address[1:], port) if bracket else ("", held)


def _why(*said: str) -> str:
    """Return several things that ssh said as one."""
    return printable("; ".join(line.removesuffix(".") for line in dict.fromkeys(said) if line))


def reason(outcome: str, ended: Exit, seen: Evidence | None, session: bool) -> str:
    """Return why ssh ended, in one line without a full stop.

    session tells whether the session phase was reached.  Nothing has to be explained about a
    remote command that ended, or a person who left.
    """
    if outcome == LEFT:
        return ""
    if outcome == FINISHED and seen is not None and (seen.command_ended or seen.asked_to_end):
        return ""
    if seen is not None:
        if outcome == PORT_HELD_REMOTE:
            return f"{_refused(seen.remote_refused[-1])}; an old session may still hold it"
        if outcome == PORT_HELD_LOCAL:
            if seen.local_away:
                return printable(seen.local_away)
            return _held(seen.local_held[-1], seen)
        if outcome == FORGED:
            return "the server wrote lines that look like ssh's own"
        if outcome == HOST_KEY:
            return _why("host key verification failed", *seen.remarks)
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
        return _why(*seen.remarks, seen.error) or "authentication failed"
    if not seen.spoke:
        status = f"ssh ended with status {ended.code}" if ended.code != _SSH_FAILED else ""
        return _why(*seen.printed, status) or "ssh rejected its command line or configuration"
    if outcome == REFUSED_SETUP and seen.error:
        return _why(*seen.remarks, seen.error)
    if session and seen.cause is None:
        return "the connection was closed"
    return printable(_short(seen.error)) or f"ssh ended with status {ended.code}"


def _refused(place: str) -> str:
    if place == "0":
        return "the server refused to listen on a port"
    if place == DEVICE:
        return f"the server refused {_place(place)}"
    return f"the server refused to listen on {_place(place)}"


def missing(seen: Evidence) -> str:
    """Return what a tunnel lacks that is up all the same, in one line, or ""."""
    lacks = [_refused(place) for place in dict.fromkeys(seen.remote_refused)]
    lacks += dict.fromkeys(_held(place, seen) for place in seen.local_held)
    return "; ".join(lacks)


def _held(place: str, seen: Evidence) -> str:
    """Return that a place to listen is in use on this machine, and where its port is open all the same."""
    address, port = _address_and_port(place)
    open_for = [up for up, same in map(_address_and_port, seen.local_up) if same == port]
    if not address or not open_for:
        return f"{_place(place)} is in use on this machine"
    family, families = _family(address), sorted({_family(up) for up in open_for})
    if family in families:  # two addresses of the user's own
        family, families = address, open_for
    return f"{_place(place)} is in use for {printable(family)}, open for {printable(' and '.join(families))}"


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _short(error: str) -> str:
    """Return an error of ssh's without what the line says already: "Connection refused"."""
    if error.startswith(("ssh: connect to host ", "ssh: Could not resolve hostname ")):
        error = error.rpartition(": ")[2]
    if "UNKNOWN port" in error:
        return "the ProxyCommand or jump host ended without an error message"
    if error.startswith(("client_loop: ", "send disconnect: ")):  # with LogVerbose it is a tag
        return "the connection was closed"
    return error.removesuffix(".")


_WHAT = {
    FINISHED: "finished",
    UNREACHABLE: "unreachable",
    LOST: "link lost",
    UNRESOLVED: "host name unresolved",
    DENIED: "access denied",
    HOST_KEY: "HOST KEY CHANGED OR UNKNOWN, not connecting",
    FORGED: "SSH'S LOG IS FORGED, not connecting",
    REFUSED_SETUP: "setup refused",
    PORT_HELD_REMOTE: "forward refused",
    PORT_HELD_LOCAL: "forward refused",
    LEFT: "ended as asked",
    NOT_RESUMED: "no multiplexer there",
}


def _what(report: Report) -> str:
    what = _WHAT[report.outcome]
    if report.session_s is not None and report.outcome == LOST:
        what += f" after {duration(report.session_s)}"
    return what


def _when(report: Report, delay_s: float) -> str:
    start = report.start
    if report.outcome == NOT_RESUMED:
        return "press Enter for a plain shell" if delay_s == math.inf else "opening a plain shell"
    if delay_s == math.inf:
        return "no answer to the prompt; press Enter to retry"
    return f"retry {start} now" if delay_s < 0.05 else f"retry {start} in {duration(delay_s)}"


def status(report: Report, host: str, left_s: float | None, columns: int) -> str:
    """Return the line that stands on a terminal from a link's death to its return.

    report   the RETRY that was told
    left_s   seconds until the next start, or None while ssh connects
    columns  what the terminal has; the line is cut to fit into one less

    What tells least goes first when there is no room: the reason is shortened, then left out; then the
    host's name is shortened; then goes what became of the link, the host, and the keys.
    """
    what, tails = _what(report), _next(report, left_s)
    room = columns - 1
    tail = tails[0]
    name = _shortened(host, room - _cells(f"kssh: : {what}; {tail}"), _LEAST_HOST)
    if name:
        left = room - _cells(f"kssh: {name}: {what} (); {tail}")
        why = _shortened(report.reason, left, _LEAST_REASON)
        return f"kssh: {name}: {what} ({why}); {tail}" if why else f"kssh: {name}: {what}; {tail}"
    for tail in tails:
        name = _shortened(host, room - _cells(f"kssh: : {tail}"), _LEAST_HOST)
        if name:
            return f"kssh: {name}: {tail}"
    return _shortened(tails[-1], room, 1)


def _next(report: Report, left_s: float | None) -> tuple[str, ...]:
    """Return what comes next and the keys, the longest wording first."""
    if left_s is None:
        return (f"retry {report.start}: connecting",)
    if left_s == math.inf and report.outcome == NOT_RESUMED:
        return ("not logged in. Enter: a plain shell, Ctrl-C: quit", "not logged in (Enter, ^C)")
    if left_s == math.inf:
        return ("no answer to the prompt. Enter: retry, Ctrl-C: quit", "no answer (Enter, ^C)")
    # Whole seconds, rounded up: a countdown ends at 1, not at 0.
    retry = f"retry {report.start} in {duration(max(1, math.ceil(left_s)))}"
    return (f"{retry}. Enter: now, Ctrl-C: quit", f"{retry} (Enter, ^C)", retry)


_LEAST_REASON = 10
_LEAST_HOST = 4


def _shortened(text: str, room: int, least: int) -> str:
    """Return a text that takes so many cells of a terminal, with "…" for what was cut off.

    Nothing is returned where it would have to be cut to fewer than least.
    """
    if _cells(text) <= room:
        return text
    if room < least:
        return ""
    while text and _cells(text) >= room:
        text = text[:-1]
    return text + "…" if room > 0 else ""


def _cells(text: str) -> int:
    """Return how many cells of a terminal a text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    import unicodedata  # 1 ms, for other names than most hosts have

    wide = sum(unicodedata.east_asian_width(char) in "WF" for char in text)
    return len(text) + wide - sum(unicodedata.category(char) in ("Mn", "Me", "Cf") for char in text)


def back(report: Report, retry: Report, host: str, dropped: bool) -> str:
    """Return the line that stands above the new session once a link is back.

    report, retry  its UP, and the RETRY that was told before
    """
    if retry.outcome == NOT_RESUMED:
        return f"kssh: {host}: {_what(retry)} ({retry.reason}); a plain shell"
    text = f"kssh: {host}: back"
    if report.delay_s is not None:
        text += f" after {duration(report.delay_s)}"
    return text + ("; what was typed meanwhile was discarded" if dropped else "")


def level(report: Report, attended: bool) -> str:
    """Return the LogLevel of a Report: ERROR, INFO, VERBOSE or DEBUG.

    Nothing is said that ssh itself would not have said, until something went wrong.
    """
    as_ssh = attended and report.start == 1 and not report.limit
    if report.event == UP and report.reason:
        return "ERROR"  # of a local forward that is half there ssh says nothing
    if report.event == UP:
        return "VERBOSE" if as_ssh else "INFO"
    if report.event == GAVE_UP:
        return "VERBOSE" if as_ssh else "ERROR"
    if report.event == ENDED:
        as_ssh = attended and report.outcome in (FINISHED, LEFT) and not report.limit
        return "VERBOSE" if as_ssh else "INFO"
    if report.event == RETRY:
        return "ERROR" if report.by_people else "INFO"
    return "DEBUG"


def hook_facts(report: Report) -> dict[str, str]:
    """Return what a Report tells a hook, as environment variables."""
    return {
        "KSSH_EVENT": report.event,
        "KSSH_OUTCOME": report.outcome,
        "KSSH_REASON": report.reason,
        "KSSH_START": str(report.start),
        "KSSH_DELAY": _number(report.delay_s),
        "KSSH_SESSION": _number(report.session_s),
        "KSSH_ALLOCATED": " ".join(str(port) for port, _ in report.allocated),
    }


def _number(seconds: float | None) -> str:
    return "" if seconds is None or seconds == math.inf else f"{seconds:.3f}"


def _allocated(ports: Sequence[tuple[int, str]]) -> str:
    """Return in words which ports the server chose, and what is behind each."""
    return ", ".join(f"port {port} of the server leads to {printable(to)}" for port, to in ports)


def line(report: Report, kind: str) -> str:
    """Return the one line that tells a Report, without the host's name in front."""
    if report.event == UP:
        what = "tunnel is up" if kind == TUNNEL else "connected"
        if report.delay_s is not None:
            what += f" again after {duration(report.delay_s)} (start {report.start})"
        if report.allocated:
            what += f"; {_allocated(report.allocated)}"
        return f"{what}, but {report.reason}" if report.reason else what
    what = _what(report)
    if report.reason:
        what += f" ({report.reason})"
    if report.event == RETRY:
        assert report.delay_s is not None
        if report.by_people:
            what += "; only a person can fix that"
        return f"{what}; {_when(report, report.delay_s)}"
    if report.event == GAVE_UP and kind == COMMAND and report.outcome == LOST and not report.limit:
        return f"{what}; not run again"
    if report.event == GAVE_UP:
        starts = "1 start" if report.start == 1 else f"{report.start} starts"
        limit = " (KSSH_MAXSTART)" if report.limit else ""
        return f"giving up after {starts}{limit}: {what}"
    if report.event == ENDED and report.outcome not in (FINISHED, LEFT):
        return f"{what}; quit"
    return what
