"""One sshd for the tests that leave it as they found it: each start of one takes a third of a second."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Sshd, wait_for


@pytest.fixture(scope="session")
def lasting_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd that serves many tests."""
    with Sshd(tmp_path_factory.mktemp("lasting") / "sshd") as running:
        yield running


@pytest.fixture
def shared_sshd(lasting_sshd: Sshd) -> Sshd:
    """The same, once the sessions of the test before have gone; not to be stopped or restarted."""
    wait_for(lambda: not lasting_sshd.sessions(), what="earlier sessions to end")
    return lasting_sshd


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name: that of a socket has 104 bytes at most."""
    folder = tempfile.mkdtemp(prefix="far-")
    yield Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
