"""What stands in ssh's configuration files, with a real sshd: a word there is a word of the user's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import MARK, Argument, Relay, Sshd, Terminal, marked, program, wait_for
from links import PROMPT, Kssh, lines_of, quick, started_with


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


def on_terminal(config: Path, *words: Argument, **env: str) -> Terminal:
    """Return a terminal on which kssh runs."""
    return Terminal([program(), "-F", config, *words, "t"], env={**quick(), **env})


# -- a command that only the configuration names -------------------------------------------------------

# What is in the file before the RemoteCommand, whose notes are at {note}; what kssh says of it.
UNKNOWN = {
    # The first time, which is that of "ssh -G", it takes longer than kssh waits.
    "slow to tell": 'Match exec "if [ -e {note}.asked ]; then true; else >{note}.asked; sleep 600; fi"',
    # It says no to "ssh -G", and yes to the ssh that connects.
    "tells otherwise": 'Match exec "if [ -e {note}.asked ]; then true; else >{note}.asked; false; fi"',
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_command_that_ssh_g_did_not_tell_of_is_not_run_twice(sshd: Sshd, tmp_path: Path, name: str) -> None:
    note = tmp_path / "note"
    command = f"echo ran >>{note}; echo it-runs; sleep 600"
    extra = f"{UNKNOWN[name]}\nRequestTTY yes\nRemoteCommand {command}\n".replace("{note}", str(note))
    with Relay(sshd.port) as relay, on_terminal(sshd.config_for(relay.port, extra)) as terminal:
        terminal.expect(b"it-runs")
        relay.reset()
        assert terminal.wait() == 255
    assert lines_of(note) == ["ran"]
    if name == "slow to tell":
        assert b"kssh: t: no answer from ssh -G within 3 s" in terminal.output
        wait_for(lambda: not marked(os.environ[MARK]), what="the slow command to be ended")


def test_a_question_on_the_terminal_is_asked_once(sshd: Sshd, tmp_path: Path) -> None:
    note = tmp_path / "note"
    script = tmp_path / "ask"
    script.write_text(
        "#!/bin/sh\nprintf 'Which? ' 2>/dev/null >/dev/tty || exit 1\n"
        f"echo asked >>{note}.asked\nread a </dev/tty\n"
    )
    script.chmod(0o755)
    command = f"echo ran >>{note}; echo it-runs; sleep 600"
    extra = f'Match exec "{script}"\nRequestTTY yes\nRemoteCommand {command}\n'
    with Relay(sshd.port) as relay, on_terminal(sshd.config_for(relay.port, extra)) as terminal:
        terminal.expect(b"Which? ")
        terminal.send(b"x\r")
        terminal.expect(b"it-runs")
        relay.reset()
        assert terminal.wait() == 255
    assert lines_of(Path(f"{note}.asked")) == ["asked"]
    assert lines_of(note) == ["ran"]


def test_a_shell_is_still_started_again_behind_a_match_that_says_no(sshd: Sshd, tmp_path: Path) -> None:
    with Relay(sshd.port) as relay:
        config = sshd.config_for(relay.port, 'Match exec "false"\nRemoteCommand true\n')
        with on_terminal(config) as terminal:
            terminal.expect(PROMPT)
            relay.reset()
            terminal.expect(b"back after")
            terminal.send(b"exit 3\r")
            assert terminal.wait() == 3


# -- an explicit 0 or no -------------------------------------------------------------------------------


# Lines of the file; what kssh must not add, and what it adds all the same.
WORDS = {
    "no keepalive": ("ServerAliveInterval 0", "ServerAliveInterval=", "ExitOnForwardFailure=yes"),
    "forwards may fail": ("ExitOnForwardFailure no", "ExitOnForwardFailure=", "ServerAliveInterval=15"),
    "no time to connect": ("ConnectTimeout 0", "ConnectTimeout=", "ServerAliveInterval=15"),
    "none of another host's": ("Host other\nServerAliveInterval 0", "BatchMode=no", "ServerAliveInterval=15"),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_word_of_the_file_is_not_overridden(sshd: Sshd, name: str) -> None:
    text, absent, present = WORDS[name]
    config = sshd.directory / "own_config"
    config.write_text(f"{text}\nMatch all\nInclude {sshd.config}\n")
    with Kssh(["-F", config, "-N", "t"]) as kssh:
        kssh.says("tunnel is up")
        words = started_with(kssh.ssh())
        assert not [word for word in words if word.startswith(absent)]
        assert present in words


def test_a_tunnel_whose_forwards_may_fail_goes_on_without_them(sshd: Sshd) -> None:
    config = sshd.directory / "failing_config"
    config.write_text(f"ExitOnForwardFailure no\nMatch all\nInclude {sshd.config}\n")
    words: list[Argument] = ["-F", config, "-N", "-R", f"127.0.0.1:{sshd.port}:127.0.0.1:1", "t"]
    with Kssh(words) as kssh:
        kssh.says("tunnel is up")
        kssh.stop()
