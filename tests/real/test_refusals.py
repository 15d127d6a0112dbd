"""What cannot be used is named in one line; ssh is not started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from harness import Terminal, fake_ssh, program, run_kssh
from links import with_fake

BAD_VALUES = [
    ("INTERVAL", "soon"),
    ("INTERVAL", "-1"),
    ("INTERVAL", "1.5"),
    ("INTERVAL", " "),
    ("INTERVAL", "999999999999"),
    ("COUNTMAX", "0"),
    ("COUNTMAX", "three"),
    ("MAXSTART", "0"),
    ("MAXSTART", "-2"),
    ("MAXSTART", "1e3"),
    ("RESTART", "sometimes"),
    ("FIRST_START", "yes"),
    ("BACKOFF_MAX", "0"),
    ("BACKOFF_MAX", "ever"),
    ("CONNECT_TIMEOUT", "0"),
    ("CONNECT_TIMEOUT", "1 m"),
    ("MAXLIFETIME", "forever"),
    ("MAXLIFETIME", "-5"),
    ("SSH", "/nonexistent/ssh"),
    ("SSH", "no-such-program"),
    ("SSH", "/tmp"),
    ("NAME", "../escape"),
    ("NAME", "a b"),
    ("LOGLEVEL", "LOUD"),
    ("INTERVAL", "\x1b[31mred\n"),
    ("INTERVAL", "\udcff"),
]
KINDS = [["host", "command"], ["-N", "host"], ["-f", "-N", "host"]]


def complaint(done_stderr: bytes, name: str) -> None:
    """Check that there is one line, printable, that names what is wrong."""
    assert done_stderr.startswith(b"kssh: ")
    assert done_stderr.count(b"\n") == 1
    assert done_stderr.endswith(b"\n")
    assert name.encode() in done_stderr
    assert all(byte >= 32 for byte in done_stderr[:-1])


@pytest.mark.parametrize(("name", "value"), BAD_VALUES)
def test_a_bad_value_is_named(tmp_path: Path, name: str, value: str) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    env = {**with_fake(fake), f"KSSH_{name}": value}
    for words in KINDS:
        done = run_kssh(words, env=env)
        assert (done.returncode, done.stdout) == (255, b"")
        complaint(done.stderr, f"KSSH_{name}=")
    assert fake.starts == []


UNUSABLE = [
    ("PIDFILE", "nonexistent/pid"),
    ("PIDFILE", "folder"),
    ("LOGFILE", "nonexistent/log"),
    ("LOGFILE", "folder"),
    ("STATE_DIR", "file"),
    ("STATE_DIR", "file/below"),
    ("HOOK", "nonexistent"),
    ("HOOK", "file"),
    ("HOOK", "folder"),
]


@pytest.mark.parametrize(("name", "path"), UNUSABLE)
@pytest.mark.parametrize("words", KINDS, ids=" ".join)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, path: str, words: list[str]) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch(0o600)
    done = run_kssh(words, env={**with_fake(fake), f"KSSH_{name}": str(tmp_path / path)})
    assert (done.returncode, done.stdout) == (255, b"")
    complaint(done.stderr, f"KSSH_{name}=")
    assert fake.starts == []
    assert list((tmp_path / "folder").iterdir()) == []


def test_a_terminal_is_told_the_same(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    env = with_fake(fake, LOGFILE=tmp_path / "nonexistent" / "log")
    with Terminal([program(), "host"], env=env) as terminal:
        before = terminal.modes()
        assert terminal.wait() == 255
        assert terminal.modes() == before
        complaint(bytes(terminal.output.replace(b"\r\n", b"\n")), "KSSH_LOGFILE=")
    assert fake.starts == []


@pytest.mark.parametrize("path", ["nonexistent/log", "."])
def test_the_user_s_e_file_that_cannot_be_used_is_named(tmp_path: Path, path: str) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    done = run_kssh(["-N", "-E", tmp_path / path, "host"], env=with_fake(fake))
    assert done.returncode == 255
    complaint(done.stderr, str(tmp_path / path))
    assert fake.starts == []


def test_an_empty_value_counts_as_unset(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 3")
    names = {name for name, _ in BAD_VALUES} | {name for name, _ in UNUSABLE}
    env = {**{f"KSSH_{name}": "" for name in names}, **with_fake(fake)}
    assert run_kssh(["host", "command"], env=env).returncode == 3


@pytest.mark.parametrize(
    "words", [["--nonsense"], ["--nonsense", "host"], ["-N", "--nonsense", "host"]], ids=" ".join
)
def test_an_unknown_long_option_is_named(tmp_path: Path, words: list[str]) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    done = run_kssh(words, env=with_fake(fake))
    assert (done.returncode, done.stdout) == (255, b"")
    complaint(done.stderr, "--nonsense")
    assert fake.starts == []


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_the_long_options_are_answered_without_ssh(option: str) -> None:
    done = run_kssh([option], env={"PATH": "/nonexistent"})
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"kssh" in done.stdout


def test_no_ssh_at_all_is_said(tmp_path: Path) -> None:
    (tmp_path / "ssh").write_text("not a program\n")
    done = run_kssh(["host"], env={"KSSH_SSH": str(tmp_path / "ssh"), "PATH": os.environ["PATH"]})
    assert done.returncode == 255
    complaint(done.stderr, "KSSH_SSH=")
