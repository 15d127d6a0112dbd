"""Commands that find the same session again, and those that do not, with the real multiplexers.

The lost client is there still when kssh comes back, as after most outages: its sshd is stopped and
learns nothing.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import PROMPT as LOCAL, Relay, Sshd, need, program, shell, type_line, wait_for
from links import PROMPT, lose, quick


class Far:
    """A far side with multiplexers of its own, behind a relay."""

    def __init__(self, sshd: Sshd, relay: Relay, folder: Path) -> None:
        self.sshd = sshd
        self.relay = relay
        self.folder = folder  # for tmux's and screen's sockets

    @property
    def config(self) -> Path:
        """ssh_config for "-F": there it is the host "t"."""
        return self.sshd.config_for(
            self.relay.port, f"SetEnv TMUX_TMPDIR={self.folder} SCREENDIR={self.folder}/screen"
        )

    def lose(self) -> None:
        """Cut the link so that the far side does not know, while the person pauses."""
        lose(self.sshd, self.relay)


@pytest.fixture
def tmp_path(short_path: Path) -> Path:
    return short_path


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Far]:
    folder = tmp_path / "sockets"
    (folder / "screen").mkdir(parents=True)
    folder.chmod(0o700)
    (folder / "screen").chmod(0o700)
    with Sshd(tmp_path / "sshd", "AcceptEnv TMUX_TMPDIR SCREENDIR") as sshd, Relay(sshd.port) as relay:
        (sshd.directory / "home" / ".screenrc").write_text("startup_message off\n")
        yield Far(sshd, relay, folder)


FIND_AGAIN = [
    "tmux new -A -s main",
    "tmux attach 2>/dev/null || tmux new",
    "tmux has-session -t x 2>/dev/null && tmux attach -t x || tmux new -s x",
    "tmux new -d -s x 2>/dev/null; tmux attach -t x",
    'TERM=screen tmux new -A -s "$USER"',
    "bash -c 'exec tmux new -A -s main'",
    "screen -dR",
    "screen -D -RR -S main",
    "screen -x main || screen -S main",
    "dtach -A ~/sock -r winch bash",
]


@pytest.mark.parametrize("command", FIND_AGAIN)
def test_the_same_session_is_found_again(far: Far, command: str) -> None:
    need(next(name for name in ("tmux", "screen", "dtach") if name in command))
    if command.startswith("tmux attach"):
        # Without a session tmux starts a server that ends, and the next command may meet its end.
        subprocess.run(["ssh", "-F", far.config, "t", "tmux new -d"], check=True)
        wait_for(lambda: not far.sshd.sessions())
    with shell(env=quick()) as terminal:
        type_line(terminal, f"{program()} -F {far.config} -t t {_quoted(command)}")
        terminal.expect(PROMPT)
        type_line(terminal, "word=abra; echo ${word}cadabra-$$-")
        shown = terminal.expect(re.compile(rb"abracadabra-\d+-"))[0]
        far.lose()
        terminal.expect(b"kssh: t: back")
        terminal.expect(re.compile(rb"[$#] |\x1b\[J"))  # drawn again; dtach only clears
        type_line(terminal, "echo ${word}cadabra-$$-again")
        terminal.expect(shown + b"again")


SECOND = ["tmux new -s main", "tmux", "screen", "screen -S main", "tmux attach -t x || tmux new -s y"]


@pytest.mark.parametrize("command", SECOND)
def test_what_would_make_a_second_session_or_fail_is_not_run_again(far: Far, command: str) -> None:
    need(command.split()[0])
    with shell(env=quick()) as terminal:
        type_line(terminal, f"{program()} -F {far.config} -t t {_quoted(command)}")
        terminal.expect(PROMPT)
        type_line(terminal, "echo in-$((40+2))-there")
        terminal.expect(b"in-42-there")
        far.lose()
        terminal.expect(LOCAL)
        type_line(terminal, "echo was=$?")
        terminal.expect(b"was=255\r\n")
        assert b"back" not in terminal.output
        assert len(far.relay.accepted) == 1
        wait_for(lambda: far.relay.connections == 0)


def _quoted(command: str) -> str:
    return "'" + command.replace("'", "'\\''") + "'"
