"""ksshctl doctor: finds each known mistake, says where it is, and what it says mends it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
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


class Kept(NamedTuple):
    """A file with mistakes, and interval and count in force for a host when all are mended."""

    data: str
    interval: str
    count: str
    host: str = "some-host"


MATCH = "Match exec true\n  ServerAliveInterval 300\n  ServerAliveCountMax 0\n"
KEPT = {
    "count 0": Kept("Host *\n  ServerAliveInterval 15\n  ServerAliveCountMax 0\n", "15", "3"),
    "count 0 for one": Kept(
        "Host a\n  ServerAliveCountMax 0\nHost *\n  ServerAliveInterval 1m30s\n", "90", "3", "a"
    ),
    "interval 0": Kept("Host *\n  ServerAliveInterval 0\n  ServerAliveCountMax 5\n", "60", "5"),
    "too long": Kept("Host *\n  ServerAliveInterval 300\n  ServerAliveCountMax 7\n", "60", "7"),
    "too long for one": Kept(
        "Host a\n  ServerAliveInterval 300\n  ServerAliveCountMax 7\n" + GOOD, "60", "7", "a"
    ),
    "too long for one, quoted": Kept('Host "a#b"\n  ServerAliveInterval 300\n' + GOOD, "60", "3", "a#b"),
    "more than set takes": Kept("Host *\n  ServerAliveCountMax 5000\n", "60", "3"),
    "TCPKeepAlive only": Kept("Host *\n  TCPKeepAlive yes\n  ServerAliveCountMax 5\n", "60", "5"),
    "too early": Kept(
        "Host *\n  ServerAliveInterval 30\n  ServerAliveCountMax 5\nHost a\n  ServerAliveInterval 15\n",
        "30",
        "5",
    ),
    "the server's words": Kept(
        "ClientAliveInterval 9\nclientalivecountmax 9\nServerAliveInterval 20\nServerAliveCountMax 4\n",
        "20",
        "4",
    ),
    "Match": Kept(MATCH, "60", "3"),
    "Match, and a good count": Kept(MATCH.replace("Max 0", "Max 9"), "60", "9"),
    "Match, and TCPKeepAlive": Kept("TCPKeepAlive yes\n" + MATCH.replace("300", "0"), "60", "3"),
    "all but one": Kept("Host * !a\n  ServerAliveInterval 300\n", "60", "3"),
    "master": Kept(f"Host m\n{SHARED}  ServerAliveInterval 0\n  ServerAliveCountMax 6\n", "60", "6", "m"),
    "master in a Match": Kept(
        f"Host m\n{SHARED}Match host m\n  ServerAliveInterval 0\n" + GOOD, "60", "3", "m"
    ),
    "an unknown word": Kept("Foo/bar yes\n" + GOOD, "60", "3"),
}
MATCH_ALL = "Match all\n  ClientAliveInterval 300\n  ClientAliveCountMax 0\n"
SERVER_KEPT = {
    "count 0": Kept("ClientAliveInterval 15\nClientAliveCountMax 0\n", "15", "3"),
    "interval 0": Kept("ClientAliveInterval 0\nClientAliveCountMax 5\n", "60", "5"),
    "too long": Kept("ClientAliveInterval 300\nClientAliveCountMax 7\n", "60", "7"),
    "TCPKeepAlive only": Kept("TCPKeepAlive yes\nClientAliveCountMax 5\n", "60", "5"),
    "the client's words": Kept(
        "ServerAliveInterval 9\nServerAliveCountMax 9\nClientAliveInterval 20\nClientAliveCountMax 4\n",
        "20",
        "4",
    ),
    "Match all": Kept(MATCH_ALL, "60", "3"),
    "Match all, and a good count": Kept(MATCH_ALL.replace("Max 0", "Max 9"), "60", "9"),
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


def mend(command: str, **env: str) -> None:
    """Do what a finding says, as a person would who pastes it into a shell."""
    path = os.pathsep.join([str(PROGRAMS), str(Path(need("sshd")).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["sh", "-c", command],
        env={**os.environ, "PATH": path, **env},
        capture_output=True,
        text=True,
        check=False,
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


def mend_all(option: str, config: Path) -> None:
    """Mend what is found first, ask again, until nothing is wrong."""
    for _ in range(9):
        if not (left := findings(option, config)):
            break
        mend(left[0]["mend"])
    done = doctor(option, config)
    assert (done.returncode, done.stdout) == (0, "nothing is wrong\n")


def in_force(words: Sequence[object], keyword: str) -> str:
    """Return a value that "ssh -G" or "sshd -T" tells."""
    said = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout
    return next(line.split()[1] for line in said.splitlines() if line.startswith(f"{keyword} "))


def included(folder: Path, data: str) -> str:
    """Write a file that an Include of a whole directory finds; return the Include."""
    drop_ins = folder / "my files"
    drop_ins.mkdir()
    (drop_ins / "some").write_text(data)
    return f'Include "{drop_ins}/*"\n'


@pytest.mark.parametrize("where", ["in the file", "in an Include"])
@pytest.mark.parametrize("name", KEPT)
def test_what_mends_one_value_keeps_the_other(name: str, where: str, tmp_path: Path) -> None:
    kept = KEPT[name]
    config = tmp_path / "config"
    config.write_text(kept.data if where == "in the file" else included(tmp_path, kept.data))
    mend_all("--config", config)
    words = ("ssh", "-G", "-F", config, kept.host)
    assert in_force(words, "serveraliveinterval") == kept.interval
    assert in_force(words, "serveralivecountmax") == kept.count


@pytest.mark.parametrize("where", ["in the file", "in an Include"])
@pytest.mark.parametrize("name", SERVER_KEPT)
def test_what_mends_one_value_of_the_server_keeps_the_other(
    name: str, where: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    kept = SERVER_KEPT[name]
    config = tmp_path / "sshd_config"
    data = kept.data if where == "in the file" else included(tmp_path, kept.data)
    config.write_text(f"HostKey {shared_sshd.directory}/host_key\n{data}")
    mend_all("--sshd-config", config)
    for one in ((), ("-C", "user=x,host=h,addr=192.0.2.1")):
        words = (need("sshd"), "-T", "-f", config, *one)
        assert in_force(words, "clientaliveinterval") == kept.interval
        assert in_force(words, "clientalivecountmax") == kept.count


@pytest.mark.parametrize("data", ["Host *\n  ServerAliveInterval 300\n", "Host z\n"])
def test_what_set_wrote_can_be_taken_out_after_a_mend(data: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(data)
    mend(f"ksshctl keepalive set --user --config {config}")
    config.write_text(config.read_text() + "Host a\n  ServerAliveInterval 15\n")
    assert [one["code"] for one in findings("--config", config)] == ["host-star-too-early"]
    mend_all("--config", config)
    mend(f"ksshctl keepalive unset --user --config {config}")
    assert "ksshctl" not in config.read_text()


def test_a_line_that_has_moved_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host t\n  RemoteForward 2222 localhost:22\n  Foo bar\n" + GOOD)
    (refused,) = findings("--config", config)
    config.write_text(config.read_text().replace("  Foo bar\n", ""))
    (tunnel,) = findings("--config", config)
    moved = "# one line more\n" + config.read_text()
    config.write_text(moved)
    for finding in (refused, tunnel):
        mend(finding["mend"])
        assert config.read_text() == moved


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_no_word_of_a_file_names_another_file_to_be_mended(option: str, tmp_path: Path) -> None:
    """What ssh complains about holds words of the file, which could be a complaint about another one."""
    config, other = tmp_path / "config", tmp_path / "passwd"
    other.write_text("root:x:0:0\n")
    config.write_text(f'AddressFamily "x; {other} line 1: Bad configuration option: y"\n')
    found = findings(option, config)
    assert found
    assert {one["file"] for one in found} == {str(config)}
    assert not any(str(other) in one["mend"] for one in found)


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [("--config", "ServerAliveInterval 60", "abc"), ("--sshd-config", "ClientAliveInterval 60", "Match x")],
)
def test_a_refused_value_is_for_a_person_to_mend(
    option: str, good: str, bad: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    config, editor = tmp_path / "my config", tmp_path / "editor"
    key = f"HostKey {shared_sshd.directory}/host_key\n" if option == "--sshd-config" else "# none\n"
    config.write_text(key + good.replace("60", bad) + "\n")
    (finding,) = findings(option, config)
    assert (finding["code"], finding["line"]) == ("refused", 2)
    editor.write_text(f'#!/bin/sh\nsed -i "${{1#+}}s/{bad}/60/" "$2"\n')
    editor.chmod(0o755)
    mend(finding["mend"], EDITOR=str(editor))
    assert config.read_text() == key + good + "\n"
    assert findings(option, config) == []


def test_with_two_findings_it_says_that_lines_move(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ServerAliveInterval 300\n  ServerAliveCountMax 0\n")
    assert doctor("--config", config).stdout.splitlines()[-1] == (
        "mend one, then ask again: line numbers move"
    )


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
        "import os; from pykeepssh.system import measured; measured.remember(os.environ['KSSH_STATE_DIR'], "
        "measured.network(), '192.0.2.1:22', {'interval_s': 45})"
    )
    subprocess.run([PROGRAMS / "python", "-c", remember], check=True)
    (finding,) = findings("near", "--config", config)
    assert finding["code"] == "interval-too-long"
    assert "recommends 45 s" in finding["why"]
    mend(finding["mend"])
    assert findings("near", "--config", config) == []
    config.write_text("Host near\n  HostName 192.0.2.1\n  ServerAliveInterval 0\n")
    (finding,) = findings("near", "--config", config)
    assert finding["code"] == "no-interval"
    mend(finding["mend"])
    assert in_force(("ssh", "-G", "-F", config, "near"), "serveraliveinterval") == "45"
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


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_what_is_no_file_is_an_error_at_once(option: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, "/dev/zero"):
        done = doctor(option, path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ksshctl: {path}: not a regular file\n"
    assert doctor(option, "/dev/null").stderr == ""


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for option in ("--config", "--sshd-config"):
        done = doctor(option, tmp_path / "none")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"ksshctl: {tmp_path}/none: cannot be read\n"
