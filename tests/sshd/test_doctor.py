"""ksshctl doctor: finds each known mistake, says where it is, and what it says mends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import PROGRAMS, Sshd, need, need_root, program


class Mistake(NamedTuple):
    """A file with a mistake, the code of the finding, and the line it is in (None: it is not there)."""

    data: str
    code: str
    line: int | None


GOOD = "Host *\n  ServerAliveInterval 60\n"
SHARED = "  ControlMaster auto\n  ControlPath /tmp/%C\n  ControlPersist 10m\n"
CLIENT = {
    "the server's words": Mistake("User me\nClientAliveInterval 60\n", "client-alive-in-ssh-config", 2),
    "no interval": Mistake("Host a\n  Port 3\n", "no-interval", None),
    "interval 0": Mistake("Host *\n  ServerAliveInterval 0\n", "no-interval", 2),
    "too long": Mistake("Host *\n  ServerAliveInterval 5m\n", "interval-too-long", 2),
    "too long for one": Mistake("Host a\n  ServerAliveInterval 300\n" + GOOD, "interval-too-long", 2),
    "TCPKeepAlive only": Mistake("Host *\n  TCPKeepAlive yes\n", "tcp-keep-alive-only", 2),
    "count 0": Mistake(GOOD + "  ServerAliveCountMax 0\n", "count-max-0", 3),
    "tunnel": Mistake("Host t\n  RemoteForward 2222 localhost:22\n" + GOOD, "tunnel-without-exit", 2),
    "master": Mistake(f"Host m\n{SHARED}  ServerAliveInterval 0\n", "master-without-keepalive", 4),
    "too early": Mistake(GOOD + "Host a\n  ServerAliveInterval 15\n", "host-star-too-early", 2),
    "unknown word": Mistake(GOOD + "  Foo bar\n", "refused", 3),
}
SERVER = {
    "the client's words": Mistake("ServerAliveInterval 60\n", "server-alive-in-sshd-config", 1),
    "would not start": Mistake("ClientAliveInterval 60\nFoo bar\n", "refused", 2),
    "no interval": Mistake("X11Forwarding no\n", "server-without-keepalive", None),
    "interval 0": Mistake("ClientAliveInterval 0\n", "server-without-keepalive", 1),
    "too long": Mistake("ClientAliveInterval 300\n", "interval-too-long", 1),
    "count 0": Mistake("ClientAliveInterval 60\nClientAliveCountMax 0\n", "count-max-0", 2),
    "TCPKeepAlive only": Mistake("TCPKeepAlive yes\n", "tcp-keep-alive-only", 1),
}


def doctor(*words: object) -> subprocess.CompletedProcess[str]:
    """Run ksshctl doctor."""
    return subprocess.run(
        [program("ksshctl"), "doctor", *map(str, words)], capture_output=True, text=True, check=False
    )


def findings(*words: object) -> list[dict[str, Any]]:
    """Return what it finds, as it tells programs."""
    done = doctor(*words, "--json")
    found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
    assert (done.returncode, done.stderr) == (1 if found else 0, "")
    return found


def mend(command: str) -> None:
    """Do what a finding says, as a person would who pastes it into a shell."""
    path = os.pathsep.join([str(PROGRAMS), str(Path(need("sshd")).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)


@pytest.mark.parametrize("name", CLIENT)
def test_a_mistake_in_ssh_config_is_found_and_what_it_says_mends_it(name: str, tmp_path: Path) -> None:
    mistake = CLIENT[name]
    config = tmp_path / "my config"  # a path that a shell takes apart
    config.write_text(mistake.data)
    (finding,) = [one for one in findings("--config", config) if one["code"] == mistake.code]
    assert (finding["file"], finding["line"]) == (str(config), mistake.line)
    assert finding["why"]
    mend(finding["mend"])
    assert mistake.code not in [one["code"] for one in findings("--config", config)]


@pytest.fixture
def server_file(tmp_path: Path, shared_sshd: Sshd) -> Iterator[Path]:
    """A file that sshd could start with, but for what a test writes into it first."""
    path = tmp_path / "sshd_config"
    yield path
    assert path.exists()


@pytest.mark.parametrize("name", SERVER)
def test_a_mistake_in_sshd_config_is_found_and_what_it_says_mends_it(
    name: str, server_file: Path, shared_sshd: Sshd
) -> None:
    mistake = SERVER[name]
    server_file.write_text(f"{mistake.data}HostKey {shared_sshd.directory}/host_key\n")
    (finding,) = [one for one in findings("--sshd-config", server_file) if one["code"] == mistake.code]
    assert (finding["file"], finding["line"]) == (str(server_file), mistake.line)
    mend(finding["mend"])
    assert mistake.code not in [one["code"] for one in findings("--sshd-config", server_file)]


def test_when_all_is_mended_nothing_is_wrong(tmp_path: Path, shared_sshd: Sshd) -> None:
    config, server = tmp_path / "config", tmp_path / "sshd_config"
    config.write_text("Host tun*\n  RemoteForward 2222 localhost:22\nHost *\n  ServerAliveInterval 0\n")
    server.write_text(f"HostKey {shared_sshd.directory}/host_key\nTCPKeepAlive yes\n")
    words = ("--config", config, "--sshd-config", server)
    assert len({one["file"] for one in findings(*words)}) == 2
    for _ in range(9):
        if not (left := findings(*words)):
            break
        mend(left[0]["mend"])
    done = doctor(*words)
    assert (done.returncode, done.stdout) == (0, "nothing is wrong\n")


def test_a_finding_is_told_to_a_person_with_place_reason_and_command(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ServerAliveInterval 300\n")
    done = doctor("--config", config)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{config} line 2: ServerAliveInterval 300 is too long",
        "    why: some firewalls forget an idle connection after 240 s",
        f"    mend: ksshctl keepalive set --user --config {config} --interval 60",
    ]


def test_a_host_is_examined_as_ssh_sees_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Match host tunnel exec true\n  LocalForward 2000 localhost:22\nHost good\n  ServerAliveInterval 60\n"
    )
    assert findings("good", "--config", config) == []
    codes = {one["code"]: one for one in findings("tunnel", "--config", config)}
    assert set(codes) == {"no-interval", "tunnel-without-exit"}
    assert codes["tunnel-without-exit"]["line"] == 2
    mend(codes["no-interval"]["mend"])
    assert [one["code"] for one in findings("tunnel", "--config", config)] == ["tunnel-without-exit"]


def test_a_measured_path_is_the_better_judge(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host near\n  HostName 192.0.2.1\n  ServerAliveInterval 90\n")
    assert findings("near", "--config", config) == []
    remember = (
        "import os; from pykeepssh import measured; measured.remember(os.environ['KSSH_STATE_DIR'], "
        "measured.network(), '192.0.2.1:22', {'interval_s': 45})"
    )
    subprocess.run([PROGRAMS / "python", "-c", remember], check=True)
    (finding,) = findings("near", "--config", config)
    assert finding["code"] == "interval-too-long"
    assert "recommends 45 s" in finding["why"]
    mend(finding["mend"])
    assert findings("near", "--config", config) == []


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_a_file_that_others_may_write_to(option: str, tmp_path: Path, shared_sshd: Sshd) -> None:
    config = tmp_path / "config"
    config.write_text(
        GOOD
        if option == "--config"
        else f"HostKey {shared_sshd.directory}/host_key\nClientAliveInterval 60\n"
    )
    config.chmod(0o664)
    (finding,) = findings(option, config)
    assert finding["code"] == "mode"
    assert "0664" in finding["what"]
    mend(finding["mend"])
    assert findings(option, config) == []


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    need_root()
    config = tmp_path / "config"
    config.write_text(GOOD)
    shutil.chown(config, 65534)
    (finding,) = findings("--config", config)
    assert finding["code"] == "owner"
    mend(finding["mend"])
    assert findings("--config", config) == []


def test_included_files_are_named_themselves(tmp_path: Path) -> None:
    config, more = tmp_path / "config", tmp_path / "more"
    more.write_text("# more\nServerAliveInterval 0\n")
    config.write_text(f"Include {more}\n")
    (finding,) = findings("--config", config)
    assert (finding["code"], finding["file"], finding["line"]) == ("no-interval", str(more), 2)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for option in ("--config", "--sshd-config"):
        done = doctor(option, tmp_path / "none")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ksshctl: {tmp_path}/none: cannot be read\n"
