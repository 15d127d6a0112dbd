"""A shared master of plain ssh, on a network that forgets its connection: kssh over it notices."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness import Argument, Terminal, program, wait_for
from lab.lab import Lab
from links import PROMPT, quick
from pykeepssh.network import mastersocket


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as running:
        yield running


@contextmanager
def over_a_master(lab: Lab, path: Path, **more: str) -> Iterator[Terminal]:
    """A kssh that uses a master without keepalive."""
    ssh: list[Argument] = [*lab.client.entry, "ssh", "-F", lab.config, "-S", path]
    with subprocess.Popen([*ssh, "-MNT", "t"], stdin=subprocess.DEVNULL) as master:
        try:
            wait_for(lambda: mastersocket.pid(str(path)), what="the master")
            words: list[Argument] = [*lab.client.entry, program(), "-F", lab.config, "-S", path, "t"]
            with Terminal(words, env=quick(**more), columns=250) as terminal:
                yield terminal
        finally:
            master.kill()


def in_session(terminal: Terminal) -> None:
    """Wait until a command's output is seen."""
    terminal.expect(PROMPT)
    terminal.send(b"echo be''gun\r")
    terminal.expect(b"begun\r\n")


def test_a_connection_that_was_forgotten_is_left_at_the_next_key(lab: Lab, tmp_path: Path) -> None:
    with over_a_master(lab, tmp_path / "m") as terminal:
        in_session(terminal)
        lab.reboot_router()
        terminal.send(b"echo lo''st\r")
        terminal.expect(b"is dead (the network forgot the connection); connecting without it")
        terminal.expect(b"back after")
        in_session(terminal)
        assert b"lost\r\n" not in terminal.output
        terminal.send(b"exit\r")
        assert terminal.wait() == 0


def test_a_new_one_does_not_hang_with_a_master_whose_connection_was_forgotten(
    lab: Lab, tmp_path: Path
) -> None:
    with over_a_master(lab, tmp_path / "m") as terminal:
        in_session(terminal)
        lab.reboot_router()
        words: list[Argument] = [*lab.client.entry, program(), "-F", lab.config, "-S", tmp_path / "m", "t"]
        with Terminal(words, env=quick(CONNECT_TIMEOUT=60), columns=250) as another:
            another.expect(b"is dead (the network forgot the connection); connecting without it")
            in_session(another)
            another.send(b"exit\r")
            assert another.wait() == 0


def test_an_address_that_is_gone_ends_the_use_of_a_master(lab: Lab, tmp_path: Path) -> None:
    with over_a_master(lab, tmp_path / "m") as terminal:
        in_session(terminal)
        lab.replace_address()
        terminal.expect(b"is gone); connecting without it")
        terminal.expect(b"back after")
        in_session(terminal)


def test_a_path_that_is_dead_for_long_ends_the_use_of_a_master(lab: Lab, tmp_path: Path) -> None:
    """Nobody knows whether that master has a keepalive."""
    with over_a_master(lab, tmp_path / "m", INTERVAL="1", COUNTMAX="2") as terminal:
        in_session(terminal)
        lab.blackhole()
        terminal.send(b"echo lo''st\r")
        terminal.expect(b"is dead (the server stopped answering); connecting without it")
        lab.heal()
        terminal.expect(b"back after")
        in_session(terminal)
