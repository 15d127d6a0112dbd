"""KSSH_RESUME: a shell that lives in a real tmux or screen on the far side, in an sshd of our own.

The login shell is a link in ForceCommand's place: sshd runs what the test names in the way in which it
runs a login shell, so that no account is needed for each.  zellij is a script that notes its words.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import (
    PROMPT as LOCAL,
    Relay,
    Sshd,
    Terminal,
    ends,
    need,
    pause_typing,
    program,
    shell,
    type_line,
    wait_for,
)
from links import lose, quick

NAME = re.compile(rb"this shell lives in (?:tmux|screen|zellij), session ([\w-]+)")


class Far:
    """A far side whose login shell, home and PATH a test can choose, behind a relay."""

    def __init__(
        self, folder: Path, login_shell: str = "bash", path: str = "", forced: str = "", **variables: str
    ) -> None:
        self.folder = folder
        self.home = folder / "sshd" / "home"
        self.sockets = folder / "sockets"
        (self.sockets / "screen").mkdir(parents=True)
        for private in (self.sockets, self.sockets / "screen"):
            private.chmod(0o700)
        given = {
            "SHELL": need(login_shell),
            "TMUX_TMPDIR": str(self.sockets),
            "SCREENDIR": str(self.sockets / "screen"),
            **({"PATH": path} if path else {}),
            **variables,
        }
        # As sshd runs a login shell: with -c and the command, or as one that logs in.
        login = folder / "login"
        login.write_text(
            f"#!{need('bash')}\n{forced}\n"
            '[ "${SSH_ORIGINAL_COMMAND+x}" ] && exec -a "${SHELL##*/}" "$SHELL" -c "$SSH_ORIGINAL_COMMAND"\n'
            'exec -a "-${SHELL##*/}" "$SHELL"\n'
        )
        login.chmod(0o755)
        self.sshd = Sshd(folder / "sshd", f"ForceCommand {login}", given)
        (self.home / ".hushlogin").touch()
        (self.home / ".screenrc").write_text("startup_message off\n")
        self.relay = Relay(self.sshd.port)

    def __enter__(self) -> Far:
        self.sshd.start()
        self.relay.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.relay.__exit__(*exc)
        self.sshd.stop()

    def kssh(self, tool: str = "tmux", words: str = "", **env: str) -> Terminal:
        """Return a local shell from which kssh was started."""
        variables = {**quick(), "KSSH_RESUME": tool, "LANG": "C.UTF-8", **env}
        terminal = shell(env=variables)
        config = self.sshd.config_for(self.relay.port)
        type_line(terminal, f"{program()} -F {config} {words} t")
        return terminal

    def tmux(self, *words: str) -> str:
        """Ask the far side's tmux."""
        command = ["tmux", "-S", f"{self.sockets}/tmux-{os.getuid()}/default", *words]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout

    def sessions(self) -> list[str]:
        """Return the names of tmux's sessions."""
        return self.tmux("list-sessions", "-F", "#{session_name}").split()

    def has_logins(self) -> bool:
        """Tell whether last(1) knows of an earlier login here."""
        command = ["sh", "-c", 'last -Fwn 3 "$(id -un)" | grep -v still']
        said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout
        return any(len(line.split()) > 6 and not line.startswith("wtmp") for line in said.splitlines())

    def lose(self) -> None:
        """Cut the link so that the far side does not know, while the person pauses."""
        lose(self.sshd, self.relay)


@pytest.fixture
def tmp_path(short_path: Path) -> Path:
    return short_path


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    need("tmux")
    with Far(tmp_path / "far") as opened:
        yield opened


def is_a_shell(terminal: Terminal, word: str = "hello") -> None:
    type_line(terminal, f"echo '{word}'-there")
    terminal.expect(f"{word}-there".encode())


@pytest.mark.parametrize("tool", ["tmux", "screen"])
@pytest.mark.parametrize("login_shell", ["bash", "dash", "zsh", "fish"])
def test_any_login_shell_is_found_again(tmp_path: Path, login_shell: str, tool: str) -> None:
    """The old client is attached still, as after most outages; it has to go."""
    need(tool)
    with Far(tmp_path / "far", login_shell) as far, far.kssh(tool) as terminal:
        (far.home / ".zshrc").touch()  # or zsh asks which one is wanted
        name = terminal.expect(NAME)[1]
        is_a_shell(terminal)
        type_line(terminal, "clear; echo sed' runs'; sed s/same/very-same/")
        terminal.expect(b"sed runs")
        far.lose()
        terminal.expect(b"kssh: t: back")
        terminal.expect(b"sed runs")
        type_line(terminal, "the same")
        terminal.expect(b"the very-same")
        if tool == "tmux":
            wait_for(lambda: len(far.tmux("list-clients").splitlines()) == 1, what="the old client to go")
        terminal.send(b"\x04")
        type_line(terminal, "exit")
        terminal.expect(LOCAL)
        assert terminal.output.count(b"this shell lives in") >= 1
        assert name.startswith(b"kssh-")
        if tool == "tmux":
            assert far.sessions() == []


def test_csh_and_its_like_are_found_again(tmp_path: Path) -> None:
    """Where there is one."""
    need("tmux")
    with Far(tmp_path / "far", "tcsh") as far, far.kssh() as terminal:
        terminal.expect(NAME)
        is_a_shell(terminal)


# Where the multiplexer cannot start, a shell is had all the same.


@pytest.mark.parametrize("tool", ["tmux", "screen"])
def test_a_terminal_that_the_far_side_does_not_know(tmp_path: Path, tool: str) -> None:
    need(tool)
    with Far(tmp_path / "far") as far, far.kssh(tool, TERM="no-such-terminal") as terminal:
        terminal.expect(b"this host has no entry for TERM=no-such-terminal")
        terminal.expect(b"opening a plain shell")
        is_a_shell(terminal)
        assert far.sessions() == []
        type_line(terminal, "exit 6")
        ends(terminal, 6)
        assert len(far.relay.accepted) == 1


def test_without_tput_tmux_itself_is_asked_and_leaves_no_session(tmp_path: Path) -> None:
    bare = folder_of(tmp_path, "sh", "tmux", "grep", "stty", "find", "rm", "cat", "head", "sed", "tail")
    far = Far(tmp_path / "far", path=str(bare))
    with far, far.kssh(TERM="no-such-terminal") as terminal:
        terminal.expect(b"kssh: tmux cannot start; opening a plain shell")
        is_a_shell(terminal)
        assert far.sessions() == []


@pytest.mark.parametrize("tool", ["tmux", "screen", "zellij"])
def test_a_multiplexer_that_fails(tmp_path: Path, tool: str) -> None:
    broken = tmp_path / "bin"
    script(broken / tool, "echo 'no room left' >&2; exit 1")
    path = f"{broken}:{os.environ['PATH']}"
    with Far(tmp_path / "far", path=path) as far, far.kssh(tool) as terminal:
        terminal.expect(f"kssh: {tool} cannot start; opening a plain shell".encode())
        is_a_shell(terminal)
        type_line(terminal, "exit 6")
        ends(terminal, 6)


def test_a_tmux_whose_settings_let_no_session_wait(far: Far) -> None:
    (far.home / ".tmux.conf").write_text("set -g destroy-unattached on\n")
    with far.kssh() as terminal:
        is_a_shell(terminal)
        type_line(terminal, "exit 6")
        terminal.expect(LOCAL)


def test_a_tmux_that_cannot_attach_leaves_no_session(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    refuses = 'case "$*" in *attach-session*) echo "open terminal failed" >&2; exit 1;; esac'
    script(tools / "tmux", f'{refuses}; exec {need("tmux")} "$@"')
    with Far(tmp_path / "far", path=f"{tools}:{os.environ['PATH']}") as far, far.kssh() as terminal:
        terminal.expect(b"kssh: tmux cannot attach; opening a plain shell")
        is_a_shell(terminal)
        assert far.sessions() == []


def test_a_restricted_shell_is_had_without_it_at_once(tmp_path: Path) -> None:
    with Far(tmp_path / "far", "rbash") as far, far.kssh() as terminal:
        terminal.expect(b"kssh: t: no multiplexer there (its shell does not run other programs)")
        is_a_shell(terminal)
        type_line(terminal, "exit 6")
        ends(terminal, 6)
        assert len(far.relay.accepted) == 2


ROUTER = """
[ "${SSH_ORIGINAL_COMMAND+x}" ] || exec bash --norc
echo "% Invalid input detected" >&2; exit 1
"""


def test_a_command_line_that_is_no_shell_is_had_without_it_on_a_key(tmp_path: Path) -> None:
    with Far(tmp_path / "far", forced=ROUTER) as far, far.kssh() as terminal:
        terminal.expect(b"% Invalid input detected")
        terminal.expect(b"not logged in. Enter: a plain shell, Ctrl-C: quit")
        terminal.send(b"\r")
        terminal.expect(b"; a plain shell\x1b[0m\r\n")
        is_a_shell(terminal)
        far.lose()
        terminal.expect(b"kssh: t: back")
        is_a_shell(terminal, "again")
        type_line(terminal, "exit 6")
        ends(terminal, 6)


@pytest.mark.parametrize("status", [0, 1])
def test_a_forced_command_is_not_run_twice(tmp_path: Path, status: int) -> None:
    notes = tmp_path / "notes"
    with Far(tmp_path / "far", forced=f"echo ran >>{notes}; echo done; exit {status}") as far:
        with far.kssh() as terminal:
            terminal.expect(b"done")
            if status:
                terminal.expect(b"Enter: a plain shell")
                terminal.send(b"\x03")
            ends(terminal, 255 if status else 0)
        assert notes.read_text() == "ran\n"


def test_a_menu_that_was_used_ends_as_with_ssh(tmp_path: Path) -> None:
    with Far(tmp_path / "far", forced="read -p 'menu: ' -r; exit 3") as far, far.kssh() as terminal:
        terminal.expect(b"menu: ")
        type_line(terminal, "quit")
        ends(terminal, 3)
        assert len(far.relay.accepted) == 1


# Where it is found.


def test_one_that_only_the_login_shell_finds(tmp_path: Path) -> None:
    bare = folder_of(tmp_path, "sh", "bash", "grep", "stty", "find", "rm", "cat", "head", "sed", "tail")
    tools = tmp_path / "tools"
    script(tools / "tmux", f'exec {need("tmux")} "$@"')
    with Far(tmp_path / "far", path=str(bare)) as far:
        (far.home / ".bash_profile").write_text(f"echo noise; PATH=$PATH:{tools}\n")
        with far.kssh() as terminal:
            terminal.expect(NAME)
            is_a_shell(terminal)


def test_one_in_the_user_s_own_folder(tmp_path: Path) -> None:
    bare = folder_of(tmp_path, "sh", "grep", "stty", "find", "rm", "cat", "head", "sed", "tail")
    with Far(tmp_path / "far", "dash", path=str(bare)) as far:
        script(far.home / ".local" / "bin" / "tmux", f'exec {need("tmux")} "$@"')
        with far.kssh() as terminal:
            terminal.expect(NAME)
            is_a_shell(terminal)


# Names.


def test_two_at_once_have_two_sessions_and_the_next_one_finds_what_is_left(far: Far) -> None:
    with far.kssh() as first:
        names = [first.expect(NAME)[1].decode()]
        is_a_shell(first, "first")
        with far.kssh() as second:
            names.append(second.expect(NAME)[1].decode())
            is_a_shell(second, "second")
            assert sorted(far.sessions()) == names
        assert re.fullmatch(r"kssh-[\w-]+-1-[0-9a-f]{8}", names[0])
        assert names[1] == names[0].replace("-1-", "-2-")
    with far.kssh() as third:
        third.expect(b"first-there")
        is_a_shell(third, "third")
        assert sorted(far.sessions()) == names


def test_kssh_name_names_the_session(far: Far) -> None:
    with far.kssh(KSSH_NAME="work") as terminal:
        assert terminal.expect(NAME)[1] == b"work"
        is_a_shell(terminal)
        assert far.sessions() == ["work"]
    with far.kssh(KSSH_NAME="my.site:1") as terminal:
        name = terminal.expect(NAME)[1].decode()
        assert name.startswith("my_site_1-")
        is_a_shell(terminal)
        assert sorted(far.sessions()) == sorted([name, "work"])


@pytest.mark.parametrize("tool", ["tmux", "screen"])
def test_a_name_that_another_begins_with_is_its_own(tmp_path: Path, tool: str) -> None:
    need(tool)
    with Far(tmp_path / "far") as far:
        for name in ("workshop", "work"):
            with far.kssh(tool, KSSH_NAME=name) as terminal:
                assert terminal.expect(NAME)[1] == name.encode()
                is_a_shell(terminal, name)


# As a login.


def test_what_a_login_shows_is_shown_once(far: Far) -> None:
    (far.home / ".hushlogin").unlink()
    motd = Path("/etc/motd").read_bytes().split() if Path("/etc/motd").exists() else []
    with far.kssh() as terminal:
        terminal.expect(NAME)
        if motd:
            terminal.expect(motd[0])
        is_a_shell(terminal)
        login = re.search(rb"Last login: (\w+ \w+ .*)", terminal.output)
        assert login or not far.has_logins()
        far.lose()
        begin = len(terminal.output)
        terminal.expect(b"kssh: t: back")
        terminal.expect(b"hello-there")
        before_tmux = terminal.output[begin:].partition(b"\x1b[?1049h")[0]
        assert b"this shell lives" not in before_tmux


@pytest.mark.parametrize("still", ["still logged in", "gone - no logout"])
def test_the_last_login_is_not_this_one(tmp_path: Path, still: str) -> None:
    """Last(1) calls whoever is logged in gone where there is no login uid, as in a container."""
    programs = tmp_path / "programs"
    programs.mkdir()
    last = programs / "last"
    last.write_text(
        "#!/bin/sh\n"
        f'echo "me ${{SSH_TTY#/dev/}} 127.0.0.1 Sat Nov 28 16:28:38 2026   {still}"\n'
        'echo "me pts/99 192.0.2.7 Fri Nov 27 09:00:00 2026 - Fri Nov 27 10:00:00 2026  (01:00)"\n'
    )
    last.chmod(0o755)
    with Far(tmp_path / "far", path=f"{programs}:/usr/bin:/bin") as far:
        (far.home / ".hushlogin").unlink()
        with far.kssh() as terminal:
            login = terminal.expect(re.compile(rb"Last login: ([\w .:]+)"))[1]
            assert login == b"Fri Nov 27 09:00:00 2026 from 192.0.2.7"


def test_hushlogin_hushes(far: Far) -> None:
    with far.kssh() as terminal:
        terminal.expect(NAME)
        is_a_shell(terminal)
        assert b"Last login" not in terminal.output


def test_a_session_that_died_meanwhile_is_said_to_be_gone(far: Far) -> None:
    with far.kssh() as terminal:
        name = terminal.expect(NAME)[1]
        is_a_shell(terminal)
        far.relay.refuse()
        far.relay.reset()
        terminal.expect(b"Enter: now")
        far.tmux("kill-server")
        wait_for(lambda: not far.sessions())
        far.relay.listen()
        terminal.expect(b"kssh: the session " + name + b" of tmux is gone; this is a new one")
        is_a_shell(terminal, "anew")


@pytest.mark.parametrize(("lang", "shown"), [("de_DE.UTF-8", "ü"), ("de_DE.ISO-8859-1", "_")])
def test_letters_beyond_ascii_are_shown_though_the_far_side_has_no_locale(
    tmp_path: Path, lang: str, shown: str
) -> None:
    need("tmux")
    far = Far(tmp_path / "far", LANG="C", LC_ALL="C")
    with far, far.kssh(LANG=lang, LC_ALL="", LC_CTYPE="") as terminal:
        terminal.expect(NAME)
        is_a_shell(terminal)
        type_line(terminal, "printf 'x\\303\\274%s\\n' y")
        terminal.expect(f"x{shown}y".encode())


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Path]:
    """The socket of an agent without keys."""
    path = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL) as running:
        try:
            wait_for(path.exists)
            yield path
        finally:
            running.terminate()


def with_agent(far: Far, agent: Path) -> Terminal:
    return far.kssh(words=f"-A -o IdentityAgent={agent}", SSH_AUTH_SOCK=str(agent), KSSH_NAME="a")


def test_agent_of_whoever_is_attached(tmp_path: Path, agent: Path) -> None:
    need("tmux")
    with Far(tmp_path) as far, with_agent(far, agent) as terminal:
        terminal.expect(NAME)
        is_a_shell(terminal)
        type_line(terminal, "ssh-add -l")
        terminal.expect(b"The agent has no identities.")
        link = far.home / ".ssh" / "kssh-agent.a"
        first = os.readlink(link)
        pause_typing()
        far.sshd.kill_sessions()
        terminal.expect(b"kssh: t: back")
        terminal.expect(b"hello-there")
        wait_for(lambda: os.readlink(link) != first)
        type_line(terminal, "clear; ssh-add -l")
        terminal.expect(b"The agent has no identities.")
        assert link.parent.stat().st_mode & 0o777 == 0o700
        type_line(terminal, "exit")
        terminal.expect(LOCAL)
        assert not link.is_symlink()


def test_agent_without_a_link_where_others_write(tmp_path: Path, agent: Path) -> None:
    need("tmux")
    with Far(tmp_path) as far:
        (far.home / ".ssh").mkdir()
        (far.home / ".ssh").chmod(0o777)
        with with_agent(far, agent) as terminal:
            terminal.expect(NAME)
            is_a_shell(terminal)
            type_line(terminal, "clear; ssh-add -l")
            terminal.expect(b"The agent has no identities.")
            assert not list((far.home / ".ssh").iterdir())


# zellij.


def test_zellij_is_told_to_attach_or_create(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    tools = tmp_path / "tools"
    script(tools / "zellij", f'echo "$*" >>{notes}; [ "$1" = attach ] || exit 0; exec bash --norc')
    path = f"{tools}:{os.environ['PATH']}"
    with Far(tmp_path / "far", path=path) as far, far.kssh("zellij", KSSH_NAME="work") as terminal:
        assert terminal.expect(NAME)[1] == b"work"
        is_a_shell(terminal)
        far.lose()
        terminal.expect(b"the session work of zellij is gone")
        is_a_shell(terminal, "again")
        calls = [line for line in notes.read_text().splitlines() if line.startswith("attach")]
        assert calls == ["attach -c work"] * 2


def script(path: Path, text: str) -> None:
    """Write a program of a few lines of sh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def folder_of(tmp_path: Path, *programs: str) -> Path:
    """Return a folder with nothing but these programs."""
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in programs:
        (bare / name).symlink_to(need(name))
    return bare
