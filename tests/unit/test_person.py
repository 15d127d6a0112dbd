"""Who counts as a person: pictures of processes, as they were seen below the real programs."""

from __future__ import annotations

import pytest

from pykeepssh.link.person import PASSES_ON, SHOWS, Process, sits_there

KSSH = 100


def picture(*rows: tuple[int, str, int, int, int]) -> dict[int, Process]:
    """Return processes by their ids: each id, name, parent, group, session, on a terminal all of them."""
    return {
        pid: Process(name, parent, group, session, terminal=True)
        for pid, name, parent, group, session in rows
    }


def attended(processes: dict[int, Process]) -> bool:
    return sits_there(processes[KSSH], processes.get)


# The process id 2 is whoever opened the terminal.
PERSONS = {
    "a job of a shell, in whatever window": picture(
        (KSSH, "kssh", 3, KSSH, 3), (3, "zsh", 2, 3, 3), (2, "node", 1, 2, 2)
    ),
    "in a script that is a job": picture(
        (KSSH, "kssh", 99, 99, 3), (99, "script.sh", 3, 99, 3), (3, "bash", 2, 3, 3)
    ),
    "in a pipeline whose first command has ended": picture((KSSH, "kssh", 3, 99, 3), (3, "bash", 2, 3, 3)),
    "a job in a container, whose shell's parent is outside": picture(
        (KSSH, "kssh", 3, KSSH, 3), (3, "bash", 0, 3, 3)
    ),
    "a job of a shell that is hidden": picture((KSSH, "kssh", 3, KSSH, 3)),
    "exec kssh in a window": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "gnome-terminal-server", 1, 2, 2)),
    "tmux new-window kssh": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "tmux: server", 1, 2, 2)),
    "tmux new-window 'kssh; read'": picture(
        (KSSH, "kssh", 3, 3, 3), (3, "sh", 2, 3, 3), (2, "tmux: server", 1, 2, 2)
    ),
    "ssh -t host kssh other": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "sshd-session", 1, 2, 2)),
    "sudo with a terminal of its own": picture(
        (KSSH, "kssh", 5, KSSH, 5), (5, "sudo", 4, 5, 5), (4, "sudo", 3, 4, 3), (3, "bash", 2, 3, 3)
    ),
    "a job of a shell that su runs in a container": picture(
        (KSSH, "kssh", 4, KSSH, 3), (4, "bash", 3, 4, 3), (3, "su", 0, 3, 3)
    ),
    "script -c kssh": picture(
        (KSSH, "kssh", 4, KSSH, KSSH), (4, "script", 3, 4, 3), (3, "bash", 2, 3, 3), (2, "foot", 1, 2, 2)
    ),
    "a window that runs su -c kssh": picture(
        (KSSH, "kssh", 3, 3, 3), (3, "su", 2, 3, 3), (2, "xterm", 1, 2, 2)
    ),
}
NOBODY = {
    "expect": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "expect", 1, 2, 1)),
    "pexpect": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "python3", 1, 2, 1)),
    "clogin, a script of expect's": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "clogin", 1, 2, 1)),
    "Emacs": picture((KSSH, "kssh", 2, KSSH, KSSH), (2, "emacs", 1, 2, 1)),
    "a wrapper in sh that expect runs": picture(
        (KSSH, "kssh", 3, 3, 3), (3, "sh", 2, 3, 3), (2, "expect", 1, 2, 1)
    ),
    "sudo that expect runs": picture(
        (KSSH, "kssh", 5, KSSH, 5), (5, "sudo", 3, 5, 5), (3, "sudo", 2, 3, 3), (2, "expect", 1, 2, 1)
    ),
    "su --pty that expect runs": picture(
        (KSSH, "kssh", 3, KSSH, KSSH), (3, "su", 2, 3, 3), (2, "expect", 1, 2, 1)
    ),
    "script that a service runs": picture((KSSH, "kssh", 3, KSSH, KSSH))
    | {3: Process("script", 2, 5, 2, terminal=False)},
    "a container's first process": picture((KSSH, "kssh", 0, KSSH, KSSH)),
    "a parent that is gone": picture((KSSH, "kssh", 2, KSSH, KSSH)),
    "a leader that is hidden": picture((KSSH, "kssh", 3, 3, 3)),
    "a session of another PID namespace": picture((KSSH, "kssh", 0, 0, 0)),
}


@pytest.mark.parametrize("name", PERSONS)
def test_a_person_sits_there(name: str) -> None:
    assert attended(PERSONS[name])


@pytest.mark.parametrize("name", NOBODY)
def test_nobody_sits_there(name: str) -> None:
    assert not attended(NOBODY[name])


def test_without_a_terminal_nobody_sits_there() -> None:
    job = PERSONS["a job of a shell, in whatever window"]
    me = job[KSSH]
    assert not sits_there(Process(me.name, me.parent, me.group, me.session, terminal=False), job.get)


def test_terminals_within_terminals_without_end_are_nobody() -> None:
    def find(pid: int) -> Process:
        return Process("script", pid + 1, pid, pid, terminal=True)

    assert not sits_there(find(KSSH), find)


@pytest.mark.parametrize("name", ["gnome-terminal-server", "gnome-terminal-"])
def test_a_long_name_is_known_whole_and_as_linux_cuts_it(name: str) -> None:
    assert attended(picture((KSSH, "kssh", 2, KSSH, KSSH), (2, name, 1, 2, 2)))


def test_no_program_is_in_both_tables_and_every_name_can_be_met() -> None:
    assert not SHOWS & PASSES_ON
    assert all(0 < len(name) <= 15 and name == name.strip() for name in SHOWS | PASSES_ON)
