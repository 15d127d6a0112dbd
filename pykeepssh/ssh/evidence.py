"""What one run of ssh has proven: facts, read from its log and from what it prints.

Must not know how a fact is read (log_rows.py, log_reader.py), nor what follows from it: that is
link/policy.py.
"""

from __future__ import annotations

# The phases of a run, in order.
STARTED, CONNECTING, CONNECTED, AUTHENTICATED, SESSION = range(5)

# The causes that a run can name for its failure before a session.
DENIED = "denied"
HOST_KEY = "host key"
UNRESOLVED = "unresolved"
UNREACHABLE = "unreachable"
SETUP = "setup"

DEVICE = "-w"  # a tunnel device, among ports and paths


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
    local_up         where ssh listens here, as text: "[::1]:80", "/path"
    local_held       where it could not, as that was in use: the same, or "80" where it tells no address
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

    def __init__(self) -> None:
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

    def reach(self, phase: int) -> None:
        """Go on to a phase; never back."""
        self.phase = max(self.phase, phase)
