"""Fixtures: a clean environment, nothing left behind, an sshd and a relay in front of it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import MARK, POLL_S, Relay, Sshd, alive, end, marked, restore_signals

UNIT = Path(__file__).parent / "unit"
# What a developer's own environment could change about ssh or a shell.
FOREIGN = ("SSH_AUTH_SOCK", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DISPLAY", "WAYLAND_DISPLAY", "TMUX")
GRACE_S = 30.0  # what ends by itself may take that long on a busy machine; passing tests never wait for it


def pytest_configure(config: pytest.Config) -> None:
    restore_signals()
    # sntrup761, the first choice since 9.0, costs each connection 0.2 s of a processor (Debian's 9.2).
    Sshd.key_exchange = "curve25519-sha256"


@pytest.fixture(autouse=True)
def clean_environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hide the developer's settings from the test, and fail it if a process of its stays behind."""
    if UNIT in request.path.parents:
        yield  # pure functions: no environment, no processes
        return
    tmp_path: Path = request.getfixturevalue("tmp_path")
    for name in list(os.environ):
        if name in FOREIGN or (name.startswith(("KSSH_", "PYTHON")) and not name.startswith("KSSH_TEST_")):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("KSSH_STATE_DIR", str(tmp_path / "state"))
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    before = set(psutil.Process().children(recursive=True))

    yield

    def left() -> list[psutil.Process]:
        children = set(psutil.Process().children(recursive=True)) - before
        return [process for process in {*children, *marked(mark)} if alive(process.pid)]

    deadline = time.monotonic() + GRACE_S
    while (remaining := left()) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    if remaining:
        names = [f"{process.pid} {_command(process)}" for process in remaining]
        end(remaining)
        pytest.fail("left behind: " + "; ".join(names))


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return "(gone)"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A running sshd; "ssh -F sshd.config t" logs in."""
    with Sshd(tmp_path / "sshd") as running:
        yield running


@pytest.fixture
def relay(sshd: Sshd) -> Iterator[Relay]:
    """A relay in front of sshd; "ssh -F sshd.config_for(relay.port) t" goes through it."""
    with Relay(sshd.port) as running:
        yield running
