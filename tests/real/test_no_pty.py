"""Where no pty can be had, as in a chroot without devpts: what ssh can do there, kssh does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness import TIMEOUT_S, Argument, Terminal, alive, fake_ssh, need, program, wait_for
from links import (
    FINISH,
    LOSE,
    SESSION,
    STAY,
    Kssh,
    background,
    end_background,
    started,
    with_fake,
)

UP = SESSION + STAY
# Standard error is said, a loss follows, then it stays.
LOST_ONCE = f"echo 'a banner' >&2\n{SESSION}case $start in 1) {LOSE.strip()} ;; esac\n{STAY}"
ASK = (
    "printf 'password: ' >/dev/tty; read -r word </dev/tty\n"
    f'[ "$word" = secret ] || exit 255\n{SESSION}{FINISH}finish 0\n'
)


@pytest.fixture(scope="module")
def ptyless() -> list[Argument]:
    """Return what stands before a command that is to get no pty."""
    if sys.platform != "linux":
        pytest.skip("needs mount namespaces")
    words: list[Argument] = [need("unshare"), "-m" if os.geteuid() == 0 else "-rm"]
    words += ["sh", "-c", 'mount --bind /dev/null /dev/ptmx && exec "$@"', "sh"]
    script = "import os, pty\ntry: os.openpty()\nexcept OSError: pass\nelse: raise SystemExit(1)"
    subprocess.run([*words, sys.executable, "-c", script], check=True)
    return words


def test_a_tunnel_goes_on_without(tmp_path: Path, ptyless: list[Argument]) -> None:
    fake = fake_ssh(tmp_path, LOST_ONCE)
    with Kssh(["-N", "host"], with_fake(fake), before=ptyless) as kssh:
        kssh.says("tunnel is up again")
        assert "a banner" in kssh.said
        kssh.stop()
    assert len(fake.starts) == 2


def test_kill_9_of_kssh_takes_ssh_along_all_the_same(tmp_path: Path, ptyless: list[Argument]) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake), before=ptyless) as kssh:
        kssh.says("tunnel is up")
        kssh.send(signal.SIGKILL)
        wait_for(lambda: not alive(started(fake).pid), what="ssh to go with kssh")


def test_a_tunnel_goes_to_the_background_and_leaves_the_caller_s_descriptors(
    tmp_path: Path, ptyless: list[Argument]
) -> None:
    fake = fake_ssh(tmp_path, UP)
    command = [*ptyless, program(), "-fN", "host"]
    done = subprocess.run(
        command, env={**os.environ, **with_fake(fake)}, capture_output=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(background()) == 1
    end_background()


def test_ssh_asks_on_the_terminal_itself(tmp_path: Path, ptyless: list[Argument]) -> None:
    fake = fake_ssh(tmp_path, ASK)
    with Terminal([*ptyless, program(), "-N", "host"], env=with_fake(fake)) as terminal:
        terminal.expect(b"password: ")
        terminal.send(b"secret\n")
        assert terminal.wait() == 0, terminal.output
    assert "BatchMode=yes" not in started(fake).argv


@pytest.mark.parametrize("words", [["host"], ["-t", "host", "top"]], ids=["shell", "command"])
def test_a_session_on_a_terminal_is_ssh_s_own(
    tmp_path: Path, ptyless: list[Argument], words: list[str]
) -> None:
    fake = fake_ssh(tmp_path, "exit 7")
    with Terminal([*ptyless, program(), *words], env=with_fake(fake)) as terminal:
        assert terminal.wait() == 7
        assert terminal.output.count(b"no pseudo-terminal available") == 1
    assert started(fake).pid == terminal.pid


def test_a_stream_needs_none(ptyless: list[Argument], tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 7")
    ended = subprocess.run(
        [*ptyless, program(), "host", "true"],
        env={**os.environ, **with_fake(fake, RESTART="always")},
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert ended.returncode == 7
