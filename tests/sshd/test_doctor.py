"""ksshctl doctor: finds each known mistake, says where it is, and fixes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import (
    MARK,
    PROGRAMS,
    Fragile,
    Sshd,
    Terminal,
    absent,
    marked,
    need,
    need_root,
    program,
    tree,
    wait_for,
)
from pykeepssh.system.files import why_doubtful


class Mistake(NamedTuple):
    """A file with a mistake, the code of the finding, and the line it is in (None: it is not there)."""

    data: str
    code: str
    line: int | None


ZERO = "ServerAliveInterval 0"
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
    """A file with mistakes, and interval and count in force for a host when all are fixed."""

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
    "more than set takes": Kept("Host *\n  ServerAliveCountMax 5000\n", "60", "5000"),
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


def fix(*words: object) -> subprocess.CompletedProcess[str]:
    """Have it fix what it finds, without asking."""
    return doctor(*words, "--fix", "--yes")


def fix_all(option: str, config: Path) -> None:
    """Fix what is found, until nothing is wrong."""
    done = fix(option, config)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout.endswith("nothing is wrong\n")
    assert doctor(option, config).stdout == "nothing is wrong\n"


def is_fixed(option: str, config: Path, mistake: Mistake) -> None:
    """Look at a mistake from its finding to its end."""
    config.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(config, 0, 12)
    before, status = config.read_bytes(), config.stat()
    files = tree(config.parent)
    (finding,) = [one for one in findings(option, config) if one["code"] == mistake.code]
    assert (finding["file"], finding["line"]) == (str(config), mistake.line)
    assert finding["why"]
    assert not finding["by_hand"]

    done = doctor(option, config, "--fix", "--dry-run")
    assert (done.returncode, done.stderr) == (1, "")
    assert f"\n--- {config}\n+++ {config} (new)\n@@ " in done.stdout
    assert finding["fix"] in done.stdout
    assert tree(config.parent) == files

    done = fix(option, config)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"\n{config}: written\n" in done.stdout
    assert findings(option, config) == []
    after = config.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (status.st_mode, status.st_uid, status.st_gid)
    backup = Path(done.stdout.partition("backup: ")[2].partition("\n")[0])
    assert backup.read_bytes() == before
    # What was said is there still, if only in a comment, and in its order.
    lines = iter(config.read_text().splitlines())
    for line in before.decode().splitlines():
        assert any(one == line or one == f"# ksshctl doctor, was: {line}" for one in lines), line


@pytest.mark.parametrize("name", CLIENT)
def test_a_mistake_in_ssh_config_is_found_and_fixed(name: str, tmp_path: Path) -> None:
    config = tmp_path / "my config"  # a path that would have to be quoted
    config.write_text(CLIENT[name].data)
    is_fixed("--config", config, CLIENT[name])


@pytest.mark.parametrize("name", SERVER)
def test_a_mistake_in_sshd_config_is_found_and_fixed(name: str, tmp_path: Path, shared_sshd: Sshd) -> None:
    config = tmp_path / "sshd_config"
    config.write_text(f"{SERVER[name].data}HostKey {shared_sshd.directory}/host_key\n")
    is_fixed("--sshd-config", config, SERVER[name])


def test_all_is_fixed_at_once_in_both_files(tmp_path: Path, shared_sshd: Sshd) -> None:
    config, server = tmp_path / "config", tmp_path / "sshd_config"
    config.write_text("Host tun*\n  RemoteForward 2222 localhost:22\nHost *\n  ServerAliveInterval 0\n")
    server.write_text(f"HostKey {shared_sshd.directory}/host_key\nTCPKeepAlive yes\nServerAliveInterval 9\n")
    words = ("--config", config, "--sshd-config", server)
    assert len({one["file"] for one in findings(*words)}) == 2
    done = fix(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("backup: ") == 2
    assert doctor(*words).stdout == "nothing is wrong\n"
    assert fix(*words).stdout == "nothing is wrong\n"


def in_force(words: Sequence[object], keyword: str) -> str:
    """Return a value that "ssh -G" or "sshd -T" tells."""
    said = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=True).stdout
    return next(line.split()[1] for line in said.splitlines() if line.lower().startswith(f"{keyword} "))


def included(folder: Path, data: str) -> str:
    """Write a file that an Include of a whole directory finds; return the Include."""
    drop_ins = folder / "my files"
    drop_ins.mkdir()
    (drop_ins / "some").write_text(data)
    return f'Include "{drop_ins}/*"\n'


@pytest.mark.parametrize("where", ["in the file", "in an Include"])
@pytest.mark.parametrize("name", KEPT)
def test_what_fixes_one_value_keeps_the_other(name: str, where: str, tmp_path: Path) -> None:
    kept = KEPT[name]
    config = tmp_path / "config"
    config.write_text(kept.data if where == "in the file" else included(tmp_path, kept.data))
    fix_all("--config", config)
    words = ("ssh", "-G", "-F", config, kept.host)
    assert in_force(words, "serveraliveinterval") == kept.interval
    assert in_force(words, "serveralivecountmax") == kept.count


@pytest.mark.parametrize("where", ["in the file", "in an Include"])
@pytest.mark.parametrize("name", SERVER_KEPT)
def test_what_fixes_one_value_of_the_server_keeps_the_other(
    name: str, where: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    kept = SERVER_KEPT[name]
    config = tmp_path / "sshd_config"
    data = kept.data if where == "in the file" else included(tmp_path, kept.data)
    config.write_text(f"HostKey {shared_sshd.directory}/host_key\n{data}")
    fix_all("--sshd-config", config)
    for one in ((), ("-C", "user=x,host=h,addr=192.0.2.1")):
        words = (need("sshd"), "-T", "-f", config, *one)
        assert in_force(words, "clientaliveinterval") == kept.interval
        assert in_force(words, "clientalivecountmax") == kept.count


BLOCKS = {
    "a port, of which sshd -T will not speak": ("LocalPort 2222", 20, "lport=2222"),
    "a value that sshd has by itself": ("LocalPort 2223", 0, "lport=2223"),
    "the same for a user": ("User nobody", 0, "user=nobody"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_a_match_block_is_neither_in_the_way_nor_changed(
    name: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    words, value, connection = BLOCKS[name]
    config = tmp_path / "sshd_config"
    block = f"Match {words}\n  ClientAliveInterval {value}\n"
    config.write_text(f"HostKey {shared_sshd.directory}/host_key\nUsePAM no\n{block}")
    fix_all("--sshd-config", config)
    assert block in config.read_text()
    asked = (need("sshd"), "-T", "-f", config, "-C")
    assert in_force((*asked, connection), "clientaliveinterval") == str(value)
    assert in_force((*asked, "lport=1,user=root"), "clientaliveinterval") == "60"


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTERM])
def test_who_is_ended_leaves_no_copy(signum: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setenv("TMPDIR", str(copies))
    config = tmp_path / "config"
    config.write_text(f'Match exec "touch {tmp_path}/asked; sleep 1; false"\n  Port 3\nHost *\n  {ZERO}\n')
    before = config.read_bytes()
    words = [program("ksshctl"), "doctor", "--config", str(config), "--fix", "--yes"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: list(copies.iterdir()))
        process.send_signal(signum)
        assert process.wait() == 128 + signum
    assert (list(copies.iterdir()), config.read_bytes()) == ([], before)


def keepalive(*words: object) -> None:
    """Run ksshctl keepalive."""
    subprocess.run([program("ksshctl"), "keepalive", *map(str, words)], capture_output=True, check=True)


@pytest.mark.parametrize("data", ["Host *\n  ServerAliveInterval 300\n", "Host z\n"])
def test_what_set_wrote_can_be_taken_out_after_a_fix(data: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(data)
    keepalive("set", "--user", "--config", config)
    config.write_text(config.read_text() + "Host a\n  ServerAliveInterval 15\n")
    assert [one["code"] for one in findings("--config", config)] == ["host-star-too-early"]
    fix_all("--config", config)
    assert in_force(("ssh", "-G", "-F", config, "a"), "serveraliveinterval") == "15"
    keepalive("unset", "--user", "--config", config)
    assert "ksshctl keepalive" not in config.read_text()


def test_a_value_that_set_wrote_is_corrected_where_it_stands(tmp_path: Path) -> None:
    config = tmp_path / "config"
    before = "Host *\n  ServerAliveInterval 15\n"
    config.write_text(before)
    keepalive("set", "--user", "--config", config, "--interval", "300")
    assert [one["code"] for one in findings("--config", config)] == ["interval-too-long"]
    fix_all("--config", config)
    assert "doctor" not in config.read_text()
    keepalive("unset", "--user", "--config", config)
    assert config.read_text() == before


# -- who is asked ------------------------------------------------------------------------------------

ASKS = b"fix it? y: yes, n: no, q: no more questions: "
THREE = "Host b\n  ServerAliveInterval 300\nHost *\n  ServerAliveInterval 300\n  ServerAliveCountMax 0\n"


@pytest.mark.parametrize(
    ("answers", "left"),
    [
        ("yyy", []),
        ("nyn", ["interval-too-long", "count-max-0"]),
        ("xyeyn", ["count-max-0"]),
        ("yq", ["interval-too-long", "count-max-0"]),
        ("q", ["interval-too-long", "interval-too-long", "count-max-0"]),
    ],
)
def test_on_a_terminal_it_asks_before_each(answers: str, left: list[str], tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(THREE)
    words = {"x": b"perhaps\r", "e": b"\r"}  # neither yes nor no: it asks again
    with Terminal([program("ksshctl"), "doctor", "--config", config, "--fix"]) as terminal:
        for answer in answers:
            terminal.expect(ASKS)
            terminal.send(words.get(answer, f"{answer}\r".encode()))
        assert terminal.wait() == (1 if left else 0)
        said = bytes(terminal.output)
    assert [one["code"] for one in findings("--config", config)] == left
    assert (b"%d not fixed" % len(left) if left else b"nothing is wrong") in said
    if len(left) == 3:
        assert config.read_text() == THREE
    if answers.startswith("n"):  # what it asked of first is the line for every host
        assert in_force(("ssh", "-G", "-F", config, "b"), "serveraliveinterval") == "60"
        assert in_force(("ssh", "-G", "-F", config, "a"), "serveraliveinterval") == "300"


def test_ctrl_c_at_a_question_leaves_all_as_it_was(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(THREE)
    with Terminal([program("ksshctl"), "doctor", "--config", config, "--fix"]) as terminal:
        terminal.expect(ASKS)
        terminal.send(b"y\r")
        terminal.expect(ASKS)
        terminal.send(b"\x03")
        assert terminal.wait() == -signal.SIGINT
    assert config.read_text() == THREE


def test_what_is_changed_while_it_asks_is_left_alone(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ServerAliveInterval 300\n")
    with Terminal([program("ksshctl"), "doctor", "--config", config, "--fix"]) as terminal:
        terminal.expect(ASKS)
        config.write_text("# one line more\nHost *\n  ServerAliveInterval 300\n")
        terminal.send(b"y\r")
        terminal.expect(b"changed by somebody else meanwhile; nothing was written")
        assert terminal.wait() == 1
    assert config.read_text() == "# one line more\nHost *\n  ServerAliveInterval 300\n"


def test_without_a_terminal_it_says_what_to_do_and_changes_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(THREE)
    files = tree(tmp_path)
    done = subprocess.run(
        [program("ksshctl"), "doctor", "--config", config, "--fix"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == doctor("--config", config).stdout
    assert done.stderr == (
        "ksshctl: nothing was changed: there is no terminal to ask on; --yes fixes all, --dry-run shows how\n"
    )
    assert tree(tmp_path) == files


@pytest.mark.parametrize(
    "words",
    ["--yes", "--dry-run", "--confirm-within 9", "--fix --json", "--fix --confirm-within 9 --config FILE"],
)
def test_options_that_mean_nothing_together_are_usage(words: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text(GOOD)
    done = doctor(*words.replace("FILE", str(tmp_path / "FILE")).split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_program_that_is_no_sshd_is_named_and_nothing_is_changed(tmp_path: Path) -> None:
    config = tmp_path / "sshd_config"
    config.write_text("ServerAliveInterval 300\n")
    done = fix("--sshd-config", config, "--sshd", "/bin/true")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "ksshctl: --sshd /bin/true: expected OpenSSH's sshd\n"
    assert tree(tmp_path)["sshd_config"] == b"ServerAliveInterval 300\n"


# -- what it must not do -----------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_no_word_of_a_file_names_another_file_to_be_fixed(option: str, tmp_path: Path) -> None:
    """What ssh complains about holds words of the file, which could be a complaint about another one."""
    config, other = tmp_path / "config", tmp_path / "passwd"
    other.write_text("root:x:0:0\n")
    config.write_text(f'AddressFamily "x; {other} line 1: Bad configuration option: y"\n')
    files = tree(tmp_path)
    found = findings(option, config)
    assert found
    assert {one["file"] for one in found} == {str(config)}
    assert all(one["by_hand"] for one in found)
    assert fix(option, config).returncode == 1
    assert tree(tmp_path) == files


@pytest.mark.parametrize(
    ("option", "good", "bad"),
    [("--config", "ServerAliveInterval 60", "abc"), ("--sshd-config", "ClientAliveInterval 60", "Match x")],
)
def test_a_refused_value_is_for_a_person_to_correct(
    option: str, good: str, bad: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    config = tmp_path / "my config"
    key = f"HostKey {shared_sshd.directory}/host_key\n" if option == "--sshd-config" else "# none\n"
    config.write_text(key + good.replace("60", bad) + "\n")
    (finding,) = findings(option, config)
    assert (finding["code"], finding["line"], finding["by_hand"]) == ("refused", 2, True)
    assert finding["fix"] == "correct it, then ask again"
    done = fix(option, config)
    assert (done.returncode, done.stderr) == (1, "")
    assert "    by hand: correct it, then ask again\n1 not fixed\n" in done.stdout


def test_a_file_that_would_still_be_refused_stays_as_it_was(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Foo bar\nServerAliveInterval abc\n")
    files = tree(tmp_path)
    done = fix("--config", config)
    assert done.returncode == 1
    assert f"{config} is refused already as it is now" in done.stderr
    assert "nothing was written" in done.stderr
    assert f"{config} line 2: " in done.stdout
    assert "by hand: correct it, then ask again" in done.stdout
    assert tree(tmp_path) == files


def test_of_two_files_both_are_changed_or_none(tmp_path: Path) -> None:
    """That ssh refuses the result is seen once both are written."""
    config, more = tmp_path / "config", tmp_path / "more"
    more.write_text("Host *\n  ServerAliveInterval 60\n")
    config.write_text(f"Include {more}\nHost a\n  ServerAliveInterval 15\n")
    files = tree(tmp_path)
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(
        f'#!/bin/sh\ncase "$*" in *"-F {config} "*) if grep -q ksshctl {more} {config}; then '
        f'echo no >&2; exit 1; fi;; esac\nexec {need("ssh")} "$@"\n'
    )
    ssh.chmod(0o755)
    done = subprocess.run(
        [program("ksshctl"), "doctor", "--config", config, "--fix", "--yes"],
        env={**os.environ, "KSSH_SSH": str(ssh)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "ksshctl: ssh: no; the old files are back\n"
    assert {name: data for name, data in tree(tmp_path).items() if name in files} == files
    fix_all("--config", config)
    assert in_force(("ssh", "-G", "-F", config, "a"), "serveraliveinterval") == "15"
    assert in_force(("ssh", "-G", "-F", config, "b"), "serveraliveinterval") == "60"


# -- a running sshd ----------------------------------------------------------------------------------


def test_a_running_sshd_reads_what_was_fixed_and_its_sessions_stay(sshd: Sshd) -> None:
    """Its file would have locked everybody out at the next restart."""
    config = sshd.directory / "sshd_config"
    config.write_text(f"ServerAliveInterval 60\nServerAliveCountMax 3\n{config.read_text()}")
    with subprocess.Popen(["ssh", "-F", sshd.config, "t", "read x; echo $x"], stdin=-1, stdout=-1) as session:
        wait_for(lambda: "Starting session" in sshd.log)
        done = fix("--sshd-config", config)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"reloaded: HUP to pid {sshd.pid}\nit greets on 127.0.0.1 port {sshd.port}\n" in done.stdout
        out, _ = session.communicate(b"still here\n")
    assert out == b"still here\n"
    assert sshd.log.count("Server listening") == 2
    assert in_force((need("sshd"), "-T", "-f", config), "clientaliveinterval") == "60"


def test_a_fix_that_is_not_confirmed_is_undone(sshd: Sshd) -> None:
    config = sshd.directory / "sshd_config"
    config.write_text(f"ClientAliveInterval 0\n{config.read_text()}")
    before = config.read_bytes()
    done = fix("--sshd-config", config, "--confirm-within", "2")
    assert done.returncode == 0
    assert "undone in 2 s unless confirmed" in done.stdout
    assert config.read_bytes() != before
    wait_for(lambda: config.read_bytes() == before, what="the fix to be undone")
    wait_for(lambda: not marked(os.environ[MARK]))


def test_what_sshd_refuses_never_comes_back(sshd: Sshd) -> None:
    """It could not be started again with it."""
    config = sshd.directory / "sshd_config"
    config.write_text(f"ServerAliveInterval 60\n{config.read_text()}")
    before = config.read_bytes()
    done = fix("--sshd-config", config, "--confirm-within", "600")
    assert done.returncode == 1
    assert "fix it without --confirm-within; nothing was written" in done.stderr
    assert config.read_bytes() == before
    assert sshd.log.count("Server listening") == 1


def test_a_fixed_file_stays_where_the_old_one_was_refused(tmp_path: Path) -> None:
    with Fragile(tmp_path / "sshd", "ksshctl doctor") as sshd:  # it ends once its file was fixed
        config = sshd.directory / "sshd_config"
        config.write_text(f"ServerAliveInterval 60\n{config.read_text()}")
        done = fix("--sshd-config", config)
        assert done.returncode == 1
        assert "after the reload; the new file stays, for sshd refuses the old one" in done.stderr
        assert subprocess.run([need("sshd"), "-t", "-f", config], check=False).returncode == 0


# -- what is examined --------------------------------------------------------------------------------


def test_a_finding_is_told_to_a_person_with_place_reason_and_fix(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host *\n  ServerAliveInterval 300\n")
    done = doctor("--config", config)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{config} line 2: ServerAliveInterval 300 is too long",
        "    why: some firewalls forget an idle connection after 240 s",
        '    fix: line 2 becomes "ServerAliveInterval 60"',
        '"ksshctl doctor --fix" does that, and asks before each',
    ]


def test_what_newer_versions_print_is_understood(tmp_path: Path, shared_sshd: Sshd) -> None:
    """From 10.5 on sshd prints keywords in CamelCase, from 10.6 on TCPKeepAlive as true or false."""
    config, sshd = tmp_path / "sshd_config", tmp_path / "sshd"
    config.write_text(f"HostKey {shared_sshd.directory}/host_key\nTCPKeepAlive yes\n")
    sshd.write_text(
        f"#!/bin/sh\n{need('sshd')} \"$@\" | sed -e 's/^clientaliveinterval/ClientAliveInterval/' "
        "-e 's/^tcpkeepalive yes/TCPKeepAlive true/' -e 's/^clientalivecountmax/ClientAliveCountMax/'\n"
    )
    sshd.chmod(0o755)
    codes = {one["code"] for one in findings("--sshd-config", config, "--sshd", sshd)}
    assert codes == {"server-without-keepalive", "tcp-keep-alive-only"}
    words = ["keepalive", "show", "--server", "--config", config, "--sshd", sshd]
    shown = subprocess.run([program("ksshctl"), *words], capture_output=True, text=True, check=True).stdout
    assert ["TCPKeepAlive", "yes", str(config), "line", "2"] in [line.split() for line in shown.splitlines()]


def test_a_host_is_examined_as_ssh_sees_it(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Match host tunnel exec true\n  LocalForward 2000 localhost:22\nHost good\n  ServerAliveInterval 60\n"
    )
    assert findings("good", "--config", config) == []
    codes = {one["code"]: one for one in findings("tunnel", "--config", config)}
    assert set(codes) == {"no-interval", "tunnel-without-exit"}
    assert codes["tunnel-without-exit"]["line"] == 2
    assert fix("tunnel", "--config", config).returncode == 0
    assert findings("tunnel", "--config", config) == []
    words = ("ssh", "-G", "-F", config)
    assert in_force((*words, "tunnel"), "serveraliveinterval") == "60"
    assert in_force((*words, "other"), "serveraliveinterval") == "0"


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
    assert fix("near", "--config", config).returncode == 0
    assert findings("near", "--config", config) == []
    config.write_text("Host near\n  HostName 192.0.2.1\n  ServerAliveInterval 0\n")
    (finding,) = findings("near", "--config", config)
    assert finding["code"] == "no-interval"
    assert fix("near", "--config", config).returncode == 0
    assert in_force(("ssh", "-G", "-F", config, "near"), "serveraliveinterval") == "45"
    assert findings("near", "--config", config) == []


def good(option: str, sshd: Sshd) -> str:
    """Return a file in which nothing is wrong."""
    return GOOD if option == "--config" else f"HostKey {sshd.directory}/host_key\nClientAliveInterval 60\n"


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_a_file_that_our_group_may_write_to(option: str, tmp_path: Path, shared_sshd: Sshd) -> None:
    """As a umask of 002 makes them."""
    config = tmp_path / "config"
    config.write_text(good(option, shared_sshd))
    config.chmod(0o664)
    if why_doubtful(str(config)):
        absent("a group with only us in it")
    (finding,) = findings(option, config)
    assert (finding["code"], finding["fix"]) == ("mode", "the mode becomes 0644")
    assert "0664" in finding["what"]
    assert "not fixed: this is a dry run" in doctor(option, config, "--fix", "--dry-run").stdout
    assert config.stat().st_mode & 0o777 == 0o664
    fix_all(option, config)
    assert config.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("option", ["--config", "--sshd-config"])
def test_what_others_may_have_written_is_for_a_person_to_look_through(
    option: str, tmp_path: Path, shared_sshd: Sshd
) -> None:
    """Once its mode is good, root does what it says."""
    config = tmp_path / "my config"
    config.write_text(good(option, shared_sshd))
    config.chmod(0o666)
    (finding,) = findings(option, config)
    assert (finding["code"], finding["by_hand"]) == ("mode", True)
    assert finding["fix"] == f"look through it first, then: chmod go-w '{config}'"
    assert fix(option, config).returncode == 1
    assert config.stat().st_mode & 0o777 == 0o666


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    need_root()
    config = tmp_path / "config"
    config.write_text(GOOD)
    shutil.chown(config, 65534)
    (finding,) = findings("--config", config)
    assert (finding["code"], finding["by_hand"]) == ("owner", True)
    assert finding["fix"] == f"look through it first, then: chown 0 {config}"
    assert fix("--config", config).returncode == 1
    assert config.stat().st_uid == 65534


def test_what_has_no_effect_is_named_by_its_block(tmp_path: Path) -> None:
    """Its line would have another number once a line above it is fixed."""
    config = tmp_path / "config"
    config.write_text(GOOD + "  ServerAliveCountMax 0\nHost a b\n  ServerAliveInterval 15\n")
    why = f'the first value wins: what "Host a b" says in {config} has no effect'
    assert [one["why"] for one in findings("--config", config) if one["line"] == 2] == [why]
    assert doctor("--config", config, "--fix", "--dry-run").stdout.count(f"why: {why}\n") == 1


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
