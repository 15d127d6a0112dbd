"""Where ssh asks: on the controlling terminal, whatever its descriptors are; sshpass gives it one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from harness import PROMPT as LOCAL_PROMPT, Relay, Sshd, Terminal, free_port, need, program, shell, wait_for
from links import PROMPT, Kssh, background, end_background, greets

BY_ITS_SIGNS = {"KSSH_RESTART": ""}
QUESTION = b"Enter passphrase for key"


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


@pytest.fixture
def locked(sshd: Sshd, relay: Relay, tmp_path: Path) -> Path:
    """Return an ssh_config, through a relay, whose key has the passphrase "secret"."""
    key = tmp_path / "locked_key"
    shutil.copy(sshd.directory / "client_key", key)
    shutil.copy(sshd.directory / "client_key.pub", f"{key}.pub")
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", key], check=True, capture_output=True)
    text = sshd.config_for(relay.port).read_text()
    config = tmp_path / "ssh_config"
    config.write_text(re.sub("IdentityFile .*", f"IdentityFile {key}", text))
    return config


def sshpass(word: str = "secret") -> list[str]:
    return [need("sshpass"), "-P", "passphrase", "-p", word]


def forward(sshd: Sshd) -> tuple[int, list[str]]:
    """Return a port, and the options that forward it to the sshd."""
    port = free_port()
    return port, ["-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{sshd.port}"]


# -- sshpass -----------------------------------------------------------------------------------------


def test_sshpass_answers_a_tunnel_where_there_is_no_terminal(sshd: Sshd, locked: Path) -> None:
    port, options = forward(sshd)
    with Kssh(["-F", locked, *options, "t"], before=sshpass()) as kssh:
        kssh.says("tunnel is up")
        wait_for(lambda: greets(port))
        assert "passphrase" not in kssh.said


def test_sshpass_answers_a_tunnel_and_the_terminal_shows_no_question(sshd: Sshd, locked: Path) -> None:
    port, options = forward(sshd)
    with Terminal([*sshpass(), program(), "-F", locked, *options, "t"], env=BY_ITS_SIGNS) as terminal:
        wait_for(lambda: greets(port))
        terminal.read()
        assert terminal.output == b""


def test_sshpass_answers_a_tunnel_on_its_way_to_the_background(sshd: Sshd, locked: Path) -> None:
    port, options = forward(sshd)
    done = subprocess.run(
        [*sshpass(), program(), "-f", "-F", locked, *options, "t"], check=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0
    wait_for(lambda: greets(port))
    assert len(background()) == 1
    end_background()


@pytest.mark.parametrize("words", [[], ["-t"]], ids=["shell", "-t"])
def test_a_session_under_sshpass_is_as_with_ssh(
    sshd: Sshd, locked: Path, relay: Relay, words: list[str]
) -> None:
    """Sshpass answers once: a second login would never get in."""
    for command in (program(), "ssh"):
        line = [*sshpass(), command, "-F", locked, *words, "t", *(["exec sh"] if words else [])]
        with Terminal(line, env=BY_ITS_SIGNS) as terminal:
            terminal.expect(PROMPT)
            assert QUESTION not in terminal.output
            relay.reset()
            assert terminal.wait() == 255


def test_a_wrong_word_is_told_by_sshpass(sshd: Sshd, locked: Path) -> None:
    _, options = forward(sshd)
    for command in (program(), "ssh"):
        ended = subprocess.run(
            [*sshpass("wrong"), command, "-F", locked, *options, "t"],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
        )
        assert ended.returncode == 5  # sshpass(1), RETURN VALUES


# -- a person ----------------------------------------------------------------------------------------


def test_a_tunnel_whose_descriptors_are_elsewhere_asks_on_the_terminal(
    sshd: Sshd, locked: Path, tmp_path: Path
) -> None:
    port, options = forward(sshd)
    said = tmp_path / "said"
    words = ["-F", str(locked), *options, "t"]
    with shell(env=BY_ITS_SIGNS) as terminal:
        before = terminal.modes()
        terminal.send(f"{program()} {' '.join(words)} </dev/null >/dev/null 2>{said}\n".encode())
        terminal.expect(QUESTION)
        terminal.send(b"secret\r")
        wait_for(lambda: greets(port))
        wait_for(lambda: "tunnel is up" in said.read_text())
        terminal.send(b"\x03")
        terminal.expect(LOCAL_PROMPT)
        assert terminal.modes() == before


@pytest.mark.parametrize("command", ["kssh", "ssh"])
def test_a_terminal_that_does_not_control_us_is_nobody_to_ask(sshd: Sshd, locked: Path, command: str) -> None:
    _, options = forward(sshd)
    with shell(env=BY_ITS_SIGNS) as terminal:
        path = program() if command == "kssh" else "ssh"
        words = [path, "-F", str(locked), *options, "t"]
        terminal.send(f"{need('setsid')} -w {' '.join(words)}; echo status $?\n".encode())
        terminal.expect(b"status 255")
        assert QUESTION not in terminal.output
