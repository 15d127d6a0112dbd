"""Whether a person sits at the terminal that kssh was started on, or a program drives it.

A program (expect, pexpect, clogin, TRAMP) that got a fresh login shell after a loss would type the rest of
its script into that.  So a person is known by a positive sign, and in doubt there is none.  Knows the
signs.  Must not know how a process is looked up: that is handed in.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_NAME_CHARS = 15  # what Linux keeps of a process's name (proc_pid_comm(5))


def _names(*lines: str) -> frozenset[str]:
    return frozenset(name[:_NAME_CHARS] for line in lines for name in line.split(","))


# Programs that open a terminal, do nothing with what it shows but show it, and run a command on it.  What
# does both, an editor or a language, is not among them: Emacs drives ssh (TRAMP) as well as it shows it.
SHOWS = _names(
    # keep sessions
    "tmux,tmux: server,screen,zellij,dtach,abduco,shpool,zmx,atch,diss",
    # log in, here or from elsewhere
    "login,sshd,sshd-session,dropbear,tinysshd,tailscaled,teleport,mosh-server,etterminal,ttyd,gotty,shellinaboxd",
    # windows
    "xterm,uxterm,x-terminal-emulator,rxvt,urxvt,urxvtd,st,Eterm,aterm,kterm,mlterm,zutty",
    "gnome-terminal,gnome-terminal-server,kgx,ptyxis,ptyxis-agent,konsole,yakuake,xfce4-terminal,mate-terminal",
    "lxterminal,qterminal,terminology,deepin-terminal,io.elementary.terminal,cosmic-term,terminator,tilix,tilda",
    "guake,sakura,roxterm,termite,cool-retro-term,kitty,alacritty,foot,wezterm,wezterm-gui,wezterm-mux-server",
    "ghostty,rio,contour,warp,warp-terminal,blackbox,iTerm2,Terminal,com.termux,kmscon,fbterm,yaft",
)
# Programs that open a terminal within the one that they were started on: who sits at that one, sits at both.
PASSES_ON = _names("script,sudo,su,doas,runuser,asciinema,ttyrec,termrec,rlwrap")
_MOST_TERMINALS = 8  # one within the other; more than that nobody needs


class Process:
    """What is known of a process, as in proc_pid_stat(5).

    name      of its program, as far as the system keeps it
    parent    process id
    group     process group id
    session   session id: the process id of its leader
    terminal  whether it has a controlling terminal
    """

    __slots__ = ("group", "name", "parent", "session", "terminal")

    def __init__(self, name: str, parent: int, group: int, session: int, terminal: bool) -> None:
        self.name = name[:_NAME_CHARS]
        self.parent = parent
        self.group = group
        self.session = session
        self.terminal = terminal


def sits_there(kssh: Process, find: Callable[[int], Process | None]) -> bool:
    """Tell whether a person sits at the controlling terminal of kssh.

    find  returns the process of an id, or None if nothing can be known of it

    Either the process is a job of its own in its session: an interactive shell makes those, and a shell that
    runs a script does not.  Or the session was opened by a program of SHOWS.
    """
    process: Process | None = kssh
    for _ in range(_MOST_TERMINALS):
        if process is None or not process.terminal:
            return False
        job_maker = _parent(find(process.group), find)
        by_shell = job_maker is None or job_maker.name not in PASSES_ON  # sudo makes jobs as well
        if process.group != process.session and by_shell:
            return True
        opener = _parent(find(process.session), find)
        if opener is None or opener.name not in PASSES_ON:
            return opener is not None and opener.name in SHOWS
        process = opener
    return False


def _parent(process: Process | None, find: Callable[[int], Process | None]) -> Process | None:
    return find(process.parent) if process is not None else None
