"""ksshctl keepalive with the real ssh and a private sshd: checked, written, reloaded, undone."""

from __future__ import annotations

import concurrent.futures
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness import (
    MARK,
    Fragile,
    Relay,
    Sshd,
    absent,
    alive,
    marked,
    need,
    openssh_version,
    program,
    tree,
    wait_for,
)

REPOSITORY = Path(__file__).parents[2]
SAMPLES = REPOSITORY / "tests" / "unit" / "ssh_configs"


def keepalive(*words: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ksshctl keepalive, as nobody who came by ssh unless env says so."""
    plain = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    return subprocess.run(
        [program("ksshctl"), "keepalive", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**plain, **(env or {})},
    )


def in_force(config: Path, host: str = "some-host") -> tuple[str, str]:
    """Return interval and count that ssh takes from a file."""
    said = subprocess.run(
        ["ssh", "-G", "-F", config, host], capture_output=True, text=True, check=True
    ).stdout
    return found(said, "serveraliveinterval"), found(said, "serveralivecountmax")


def in_force_for_sshd(config: Path) -> tuple[str, str]:
    """Return interval and count that sshd takes from a file."""
    words = [need("sshd"), "-T", "-f", str(config)]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return found(said, "clientaliveinterval"), found(said, "clientalivecountmax")


def found(said: str, word: str) -> str:
    match = re.search(rf"^{word} (.*)$", said, re.MULTILINE)
    assert match, word
    return match[1]


# What ssh and sshd find and ksshctl does not, so that it notices only once the file is written.
ONLY_GLOB_3 = "[[:digit:]]*"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory for configuration files."""
    path = tmp_path / "etc"
    path.mkdir(mode=0o755)
    return path


# -- the user's file ---------------------------------------------------------------------------------


def test_show_tells_value_place_and_arithmetic(folder: Path) -> None:
    config, more = folder / "config", folder / "more"
    more.write_text("# more\nHost web\n  ServerAliveCountMax 5\n")
    config.write_text(
        f"Include {more}\nMatch host web,db\n  TCPKeepAlive no\nHost *\n  ServerAliveInterval 20\n"
    )
    done = keepalive("show", "web", "--config", config)
    assert done.returncode == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1] == ["ServerAliveInterval", "20", str(config), "line", "5"]
    assert lines[2] == ["ServerAliveCountMax", "5", str(more), "line", "3"]
    assert lines[3] == ["TCPKeepAlive", "no", str(config), "line", "3"]
    assert "noticed after 120 s: 20 × (5 + 1)" in done.stdout
    told = json.loads(keepalive("show", "other", "--config", config, "--json").stdout)["client"]
    assert told["ServerAliveCountMax"] == {"value": "3", "from": None}
    assert told["TCPKeepAlive"] == {"value": "yes", "from": None}
    assert told["noticed_after_s"] == 80


@pytest.mark.parametrize(
    "words",
    [["show"], ["show", "--server"], ["set", "--server", "--dry-run"], ["unset", "--user"]],
    ids=" ".join,
)
def test_what_is_no_file_is_refused_at_once(words: list[str], folder: Path) -> None:
    os.mkfifo(folder / "config")
    done = keepalive(*words, "--config", folder / "config")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ksshctl: {folder}/config: not a regular file\n"


def test_dev_null_can_be_shown() -> None:
    assert keepalive("show", "--user", "--config", "/dev/null").returncode == 0


def test_set_and_unset_leave_the_bytes_as_they_were(folder: Path) -> None:
    config = folder / "config"
    before = b"Host a\n  ServerAliveInterval 5\n\nHost *\n  # mine\n  ServerAliveInterval 300"
    config.write_bytes(before)
    done = keepalive("set", "--user", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert in_force(config) == ("60", "3")
    assert in_force(config, "a") == ("5", "3")
    backup = Path(done.stdout.partition("backup: ")[2].strip())
    assert backup.read_bytes() == before
    again = keepalive("set", "--user", "--config", config)
    assert "nothing to change" in again.stdout
    assert keepalive("unset", "--user", "--config", config).returncode == 0
    assert config.read_bytes() == before


@pytest.mark.parametrize("name", [path.name for path in sorted(SAMPLES.iterdir()) if "sshd" not in path.name])
def test_files_as_people_have_them(name: str, folder: Path) -> None:
    config = folder / "config"
    # What they include is of this machine, or not there.
    before = re.sub(rb"(?m)^(\s*)Include .*$", rb"\1Include /nonexistent/*", (SAMPLES / name).read_bytes())
    config.write_bytes(before)
    done = keepalive("set", "--user", "--config", config, "--interval", "61")
    if subprocess.run(["ssh", "-G", "-F", config, "x"], capture_output=True, check=False).returncode:
        assert done.returncode == 1  # UseKeychain is Apple's own word
        assert "refused already as it is now" in done.stderr
    else:
        assert (done.returncode, done.stderr) == (0, "")
        assert in_force(config)[0] == "61"
        assert keepalive("unset", "--user", "--config", config).returncode == 0
    assert config.read_bytes() == before


@pytest.mark.parametrize("name", [path.name for path in sorted(SAMPLES.iterdir()) if "sshd" in path.name])
def test_server_files_as_people_have_them(name: str, folder: Path, shared_sshd: Sshd) -> None:
    config = folder / "config"
    data = re.sub(rb"(?m)^Include .*$", rb"Include /nonexistent/*", (SAMPLES / name).read_bytes())
    data = re.sub(rb"(?m)^(HostKey|GSSAPI).*$", b"# \\g<0>", data)  # not built in everywhere
    before = b"HostKey %s/host_key\n" % os.fsencode(shared_sshd.directory) + data
    config.write_bytes(before)
    done = keepalive("set", "--server", "--config", config, "--interval", "61")
    assert (done.returncode, done.stderr) == (0, "")
    assert in_force_for_sshd(config) == ("61", "3")
    assert keepalive("unset", "--server", "--config", config).returncode == 0
    assert config.read_bytes() == before


@pytest.mark.parametrize("umask", [0o022, 0, 0o177], ids=oct)
def test_a_missing_file_and_directory_are_made_for_their_owner_only(umask: int, tmp_path: Path) -> None:
    config = tmp_path / ".ssh" / "config"
    before = os.umask(umask)
    try:
        assert keepalive("set", "--user", "--config", config).returncode == 0
    finally:
        os.umask(before)
    assert config.stat().st_mode & 0o777 == 0o600
    assert config.parent.stat().st_mode & 0o777 == 0o700
    assert in_force(config) == ("60", "3")


def test_mode_and_symbolic_link_stay(folder: Path) -> None:
    real, link = folder / "dotfiles", folder / "config"
    real.write_text("Host a\n")
    real.chmod(0o640)
    link.symlink_to("dotfiles")
    assert keepalive("set", "--user", "--config", link).returncode == 0
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert in_force(real) == ("60", "3")


def test_group_and_attributes_stay_in_the_file_and_in_its_backup(folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host a\n")
    groups = [gid for gid in (12, *os.getgroups()) if os.geteuid() == 0 or gid in os.getgroups()]
    os.chown(config, -1, groups[0])
    try:
        os.setxattr(config, "user.note", b"mine")
    except (AttributeError, OSError):
        absent("extended attributes")
    done = keepalive("set", "--user", "--config", config)
    assert done.returncode == 0
    for path in (config, Path(done.stdout.partition("backup: ")[2].strip())):
        assert path.stat().st_gid == groups[0]
        assert os.getxattr(path, "user.note") == b"mine"


def test_hard_links_are_told_of_and_kept_where_nothing_changes(folder: Path) -> None:
    config, other = folder / "config", folder / "other"
    config.write_text("Match exec true\n  ServerAliveInterval 5\n")
    os.link(config, other)
    (folder / "config.d").mkdir()
    refused = keepalive("set", "--user", "--config", config)
    assert refused.returncode == 1
    assert config.samefile(other)
    config.write_text("Host a\n")
    done = keepalive("set", "--user", "--config", config)
    assert done.returncode == 0
    assert f"{config} had hard links: its other name keeps the old file" in done.stdout
    assert other.read_text() == "Host a\n"
    assert other.stat().st_nlink == 1


def test_what_is_taken_back_is_the_same_file_again(folder: Path) -> None:
    config, drop_ins = folder / "ssh_config", folder / "ssh_config.d"
    drop_ins.mkdir()
    ours, other = drop_ins / "99-ksshctl-keepalive.conf", folder / "other"
    (folder / "10-site").write_text("Host *\n  ServerAliveInterval 5\n")
    config.write_text(f"Include {folder}/{ONLY_GLOB_3}\nInclude {drop_ins}/*.conf\n")
    ours.write_text("# nothing yet\n")
    os.link(ours, other)
    done = keepalive("set", "--system", "--config", config)
    assert done.returncode == 1
    assert "the old file is back" in done.stderr
    assert ours.samefile(other)
    assert ours.stat().st_nlink == 2


def test_an_old_file_that_cannot_be_put_back_is_said_to_be_away_and_where_it_is(folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host a\n")
    ssh = folder / "ssh"  # as if somebody put a directory there while ssh looked at the result
    ssh.write_text(
        f"#!/bin/sh\nif ls -A {folder} | grep -q ksshctl-old; then\n"
        f"rm -f {config}; mkdir -p {config}; exit 1; fi\n"
        f'exec {need("ssh")} "$@"\n'
    )
    ssh.chmod(0o755)
    done = keepalive("set", "--user", "--config", config, env={"KSSH_SSH": str(ssh)})
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    backup = Path(re.sub(r".*; THE OLD FILE IS NOT BACK: .*; it is in (.*)\n", r"\1", done.stderr))
    assert backup.read_text() == "Host a\n"


def test_a_dry_run_shows_the_difference_and_writes_nothing(folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host *\n  ServerAliveInterval 5\n")
    before = tree(folder)
    done = keepalive("set", "--user", "--config", config, "--dry-run")
    assert done.returncode == 0
    assert "-  ServerAliveInterval 5\n" in done.stdout
    assert "+  ServerAliveInterval 60\n" in done.stdout
    assert keepalive("set", "--user", "--config", folder / "no" / "such", "--dry-run").returncode == 0
    assert tree(folder) == before
    assert not (folder / "no").exists()


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--interval", "0"], 2),
        (["--interval", "-5"], 2),
        (["--interval", "1x"], 2),
        (["--interval", "\u0669"], 2),
        (["--interval", "99999999999999"], 2),
        (["--count-max", "0"], 2),
        (["--server"], 2),
        (["--host", ""], 2),
        (["--host", "!a"], 2),
        (["--host", 'a"b'], 2),
        (["--host", "a\nHost b"], 2),
        (["--host", "\x1b[31m"], 2),
        (["--confirm-within", "5"], 2),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(words: list[str], status: int, folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host a\n")
    before = tree(folder)
    done = keepalive("set", "--user", "--config", config, *words)
    assert done.returncode == status
    assert done.stdout == ""
    assert done.stderr.startswith("ksshctl: ")
    assert done.stderr.count("\n") == 1
    assert "\x1b" not in done.stderr
    assert tree(folder) == before


@pytest.mark.parametrize(
    "words",
    [
        ["set", "--server", "--host", "a"],
        ["show", "--server", "--sshd", "/nonexist"],
        ["show", "--server", "--sshd", "/bin/true"],
        ["set", "--server", "--sshd", "/bin/true"],
    ],
    ids=" ".join,
)
def test_a_command_line_that_cannot_be_used_is_usage(words: list[str], folder: Path) -> None:
    config = folder / "sshd_config"
    config.write_text("")
    done = keepalive(*words, "--config", config)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\xef\xbb\xbfHost *\n  User me\n", "refused already"),
        (b"ClientAliveInterval 5\n", "refused already"),
        (b"Host a\0\n", "NUL"),
        (b"Match exec true\n  ServerAliveInterval 5\n", "line 2 says so first"),
        (
            b"# >>> ksshctl keepalive for * >>>\nUser me\n# <<< ksshctl keepalive for * <<<\n",
            "between its marks",
        ),
    ],
)
def test_what_cannot_be_done_safely_is_refused(data: bytes, why: str, folder: Path) -> None:
    (folder / "config").write_bytes(data)
    done = keepalive("set", "--user", "--config", folder / "config")
    assert done.returncode == 1
    assert why in done.stderr
    assert "nothing was written" in done.stderr
    assert tree(folder) == {"config": data}


def test_an_include_that_wins_is_named(folder: Path) -> None:
    (folder / "defaults").write_text("Host *\n  ServerAliveInterval 300\n")
    (folder / "config").write_text(f"Include {folder}/defaults\n")
    done = keepalive("set", "--user", "--config", folder / "config")
    assert done.returncode == 1
    assert f"{folder}/defaults line 2 says so first" in done.stderr
    assert set(tree(folder)) == {"config", "defaults"}


def test_a_line_that_wins_is_named_by_its_number_in_the_file_as_it_is(folder: Path) -> None:
    config = folder / "config"
    own = "Host *\n  ServerAliveCountMax 5\n  ServerAliveCountMax 6\n"
    config.write_text(f"{own}Match exec true\n  ServerAliveInterval 5\n")
    done = keepalive("set", "--user", "--config", config)
    assert done.returncode == 1
    assert f"{config} line 5 says so first" in done.stderr


def test_an_include_that_wins_over_a_host_is_named(folder: Path) -> None:
    (folder / "defaults").write_text("Host *\n  ServerAliveInterval 300\n")
    (folder / "config").write_text(f"Include {folder}/defaults\nHost web\n  ServerAliveInterval 5\n")
    done = keepalive("set", "--user", "--config", folder / "config", "--host", "web")
    assert done.returncode == 1
    assert f"{folder}/defaults line 2 says so first; change it there; nothing was written" in done.stderr
    assert set(tree(folder)) == {"config", "defaults"}


def test_a_single_host_beats_a_match(folder: Path) -> None:
    config = folder / "config"
    before = "Match exec true\n  ServerAliveInterval 5\n"
    config.write_text(before)
    assert keepalive("set", "--user", "--config", config, "--host", "web").returncode == 0
    assert (in_force(config, "web")[0], in_force(config)[0]) == ("60", "5")
    assert keepalive("unset", "--user", "--config", config, "--host", "web").returncode == 0
    assert config.read_text() == before


def test_a_single_host_and_all_others(folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host *\n  ServerAliveInterval 300\n")
    assert keepalive("set", "--user", "--config", config, "--host", "web *.lan").returncode == 0
    assert keepalive("set", "--user", "--config", config, "--interval", "90").returncode == 0
    assert (in_force(config, "web")[0], in_force(config, "a.lan")[0], in_force(config)[0]) == (
        "60",
        "60",
        "90",
    )
    assert keepalive("unset", "--user", "--config", config).returncode == 0
    assert keepalive("unset", "--user", "--config", config, "--host", "web *.lan").returncode == 0
    assert config.read_text() == "Host *\n  ServerAliveInterval 300\n"


# -- the system's file -------------------------------------------------------------------------------


def test_a_system_file_gets_a_drop_in_where_it_includes_some(folder: Path) -> None:
    config, drop_ins = folder / "ssh_config", folder / "ssh_config.d"
    drop_ins.mkdir()
    (drop_ins / "50-site.conf").write_text("Host a\n  ServerAliveInterval 5\n")
    config.write_text(f"Include {drop_ins}/*.conf\nHost *\n  ServerAliveInterval 300\n")
    config.chmod(0o644)
    before = tree(folder)
    assert keepalive("set", "--system", "--config", config).returncode == 0
    ours = drop_ins / "99-ksshctl-keepalive.conf"
    assert tree(folder) == {**before, str(ours.relative_to(folder)): ours.read_bytes()}
    assert ours.stat().st_mode & 0o777 == 0o644
    assert (in_force(config)[0], in_force(config, "a")[0]) == ("60", "5")
    assert keepalive("unset", "--system", "--config", config).returncode == 0
    assert not ours.exists()


def test_a_drop_in_that_would_not_win_is_not_written(folder: Path) -> None:
    config, drop_ins = folder / "ssh_config", folder / "ssh_config.d"
    drop_ins.mkdir()
    (drop_ins / "10-site.conf").write_text("Host *\n  ServerAliveInterval 5\n")
    config.write_text(f"Include {drop_ins}/*.conf\n")
    before = tree(folder)
    done = keepalive("set", "--system", "--config", config)
    assert done.returncode == 1
    assert "10-site.conf line 2 says so first" in done.stderr
    assert "nothing was written" in done.stderr
    assert tree(folder) == before


def test_a_system_file_without_drop_ins_is_changed_itself(folder: Path) -> None:
    config = folder / "ssh_config"
    config.write_text("Host *\n  SendEnv LANG\n")
    assert keepalive("set", "--system", "--config", config).returncode == 0
    assert in_force(config) == ("60", "3")


# -- the server's file -------------------------------------------------------------------------------


def test_a_server_that_nobody_runs_is_written_and_that_is_said(folder: Path) -> None:
    config, drop_ins = folder / "sshd_config", folder / "sshd_config.d"
    drop_ins.mkdir()
    (drop_ins / "50-site.conf").write_text("ClientAliveInterval 0\nClientAliveCountMax 9\n")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    config.write_text(
        f"HostKey {folder}/key\nInclude {drop_ins}/*.conf\nMatch User x\n  ClientAliveInterval 7\n"
    )
    done = keepalive("set", "--server", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing was reloaded" in done.stdout
    assert (drop_ins / "00-ksshctl-keepalive.conf").exists()
    assert in_force_for_sshd(config) == ("60", "3")
    shown = keepalive("show", "--server", "--config", config).stdout
    assert f"{drop_ins}/00-ksshctl-keepalive.conf line 2" in shown
    assert f"other in a Match block: {config} line 4" in shown
    matched = keepalive(
        "show", "--server", "--config", config, "--connection", "user=x,host=h,addr=192.0.2.1"
    ).stdout
    assert "7 × (3 + 1)" in matched
    assert keepalive("unset", "--server", "--config", config).returncode == 0
    assert in_force_for_sshd(config) == ("0", "9")


def test_what_would_stop_sshd_is_not_written(folder: Path) -> None:
    config = folder / "sshd_config"
    config.write_text("ServerAliveInterval 60\n")
    done = keepalive("set", "--server", "--config", config)
    assert done.returncode == 1
    assert "Bad configuration option: ServerAliveInterval" in done.stderr
    assert "nothing was written" in done.stderr
    assert tree(folder) == {"sshd_config": b"ServerAliveInterval 60\n"}


def config_of(sshd: Sshd) -> Path:
    return sshd.directory / "sshd_config"


def login(sshd: Sshd) -> str:
    words = ["ssh", "-F", str(sshd.config), "t", "echo in"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def test_a_running_sshd_is_reloaded_and_its_sessions_stay(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", "ListenAddress 127.0.0.2\n") as sshd:
        with subprocess.Popen(
            ["ssh", "-F", sshd.config, "t", "read x; echo $x"], stdin=-1, stdout=-1
        ) as session:
            wait_for(lambda: "Starting session" in sshd.log)
            pid = sshd.pid
            done = keepalive("set", "--server", "--config", config_of(sshd))
            assert (done.returncode, done.stderr) == (0, "")
            assert f"HUP to pid {pid}" in done.stdout
            greeted = {f"{host} port {sshd.port}" for host in ("127.0.0.1", "127.0.0.2")}
            assert set(done.stdout.partition("greets on ")[2].strip().split(", ")) == greeted
            assert sshd.log.count("Server listening") == 4
            assert login(sshd) == "in"
            out, _ = session.communicate(b"still here\n")
        assert out == b"still here\n"


def test_nobody_need_listen_while_it_works(sshd: Sshd) -> None:
    with open("/dev/full", "wb") as full:
        words = [program("ksshctl"), "keepalive", "set", "--server", "--config", config_of(sshd)]
        subprocess.run(words, stdout=full, stderr=subprocess.DEVNULL, check=False)
    assert in_force_for_sshd(config_of(sshd)) == ("60", "3")
    assert sshd.log.count("Server listening") == 2
    assert login(sshd) == "in"


def test_without_confirmation_it_is_undone(sshd: Sshd) -> None:
    config = config_of(sshd)
    before = config.read_bytes()
    done = keepalive("set", "--server", "--config", config, "--confirm-within", "2")
    assert done.returncode == 0
    wait_for(lambda: config.read_bytes() == before, what="the change to be undone")
    wait_for(lambda: sshd.log.count("Server listening") == 3, what="sshd to be reloaded with it")
    assert login(sshd) == "in"
    late = keepalive("confirm")
    assert late.returncode == 1
    assert "no change waits" in late.stderr


def test_only_a_new_connection_can_confirm(sshd: Sshd) -> None:
    config = config_of(sshd)
    here, new = ({"SSH_CONNECTION": f"192.0.2.1 {port} 192.0.2.2 22"} for port in (1000, 1001))
    assert (
        keepalive("set", "--server", "--config", config, "--confirm-within", "60", env=here).returncode == 0
    )
    refused = keepalive("confirm", env=here)
    assert refused.returncode == 1
    assert "from a new one" in refused.stderr
    second = keepalive("set", "--server", "--config", config, "--interval", "5")
    assert second.returncode == 1
    assert "waits for confirmation" in second.stderr
    assert keepalive("confirm", env=new).returncode == 0
    wait_for(lambda: not marked(os.environ[MARK]), what="the process that would have undone it to end")
    assert in_force_for_sshd(config) == ("60", "3")


def test_the_undo_survives_the_session_that_started_it(sshd: Sshd) -> None:
    config = config_of(sshd)
    before = config.read_bytes()
    command = (
        f"KSSH_STATE_DIR={os.environ['KSSH_STATE_DIR']} {sys.executable} {program('ksshctl')} "
        f"keepalive set --server --config {config} --confirm-within 3; sleep 600"
    )
    with subprocess.Popen(["ssh", "-tt", "-F", sshd.config, "t", command], stdin=-1, stdout=-1) as session:
        assert session.stdout is not None
        wait_for(lambda: b"confirmed from a new connection" in session.stdout.readline())
        sshd.kill_sessions()
        session.wait()
    assert config.read_bytes() != before
    wait_for(lambda: config.read_bytes() == before, what="the change to be undone")
    # The file is back a moment before sshd has read it again.
    wait_for(lambda: login(sshd) == "in", what="sshd after its reload")


def waiting() -> int:
    """Return the pid of the process that would undo a change."""
    record = Path(os.environ["KSSH_STATE_DIR"]) / "keepalive-unconfirmed.json"
    return int(json.loads(record.read_text())["pid"])


def test_the_undo_is_tried_until_it_works(sshd: Sshd) -> None:
    config = config_of(sshd)
    before = config.read_bytes()
    assert keepalive("set", "--server", "--config", config, "--confirm-within", "2").returncode == 0
    lock = os.open(sshd.directory / ".sshd_config.ksshctl-lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another ksshctl, for longer than anybody waits
        undoing = Path(os.environ["KSSH_STATE_DIR"]) / "keepalive-undoing.json"
        wait_for(lambda: undoing.exists() and "is locked" in undoing.read_text(), what="a try that fails")
        late = keepalive("confirm")
        assert late.returncode == 1
        assert late.stderr.startswith(f"ksshctl: too late: the change is being undone ({config} is locked")
        second = keepalive("set", "--server", "--config", config, "--interval", "5")
        assert second.returncode == 1
        assert "is still being undone" in second.stderr
        assert config.read_bytes() != before
    finally:
        os.close(lock)
    wait_for(lambda: not marked(os.environ[MARK]), what="the change to be undone")
    assert config.read_bytes() == before
    wait_for(lambda: sshd.log.count("Server listening") == 3, what="sshd to be reloaded with it")
    assert not list(Path(os.environ["KSSH_STATE_DIR"]).iterdir())


def test_that_who_would_undo_it_was_killed_is_said_once(sshd: Sshd) -> None:
    config = config_of(sshd)
    for words in (["confirm"], ["unset", "--server", "--config", config]):
        done = keepalive("set", "--server", "--config", config, "--confirm-within", "600")
        assert done.returncode == 0
        os.kill(waiting(), signal.SIGKILL)
        wait_for(lambda: not marked(os.environ[MARK]))
        said = keepalive(*words)
        assert f"the change of {config} was neither confirmed nor undone" in said.stdout + said.stderr
        assert said.returncode == (1 if words == ["confirm"] else 0)
        assert "no change waits" in keepalive("confirm").stderr
        keepalive("unset", "--server", "--config", config)


def test_a_drop_in_that_was_removed_comes_back_as_it_was(tmp_path: Path) -> None:
    drop_ins = tmp_path / "sshd_config.d"
    drop_ins.mkdir()
    with Sshd(tmp_path / "sshd", f"Include {drop_ins}/*.conf\n") as sshd:
        config = config_of(sshd)
        assert keepalive("set", "--server", "--config", config).returncode == 0
        (ours,) = drop_ins.iterdir()
        ours.chmod(0o640)
        before = ours.read_bytes()
        done = keepalive("unset", "--server", "--config", config, "--confirm-within", "1")
        assert done.returncode == 0
        wait_for(lambda: not marked(os.environ[MARK]), what="the change to be undone")
        assert ours.read_bytes() == before
        assert ours.stat().st_mode & 0o777 == 0o640


def test_an_sshd_that_has_not_read_the_new_file_is_left_alone(tmp_path: Path) -> None:
    drop_ins = tmp_path / "sshd_config.d"
    drop_ins.mkdir()
    (tmp_path / "00-a").write_text("ClientAliveInterval 5\n")
    with Sshd(tmp_path / "sshd", f"Include {tmp_path}/{ONLY_GLOB_3}\nInclude {drop_ins}/*.conf\n") as sshd:
        words = ["--server", "--config", config_of(sshd), "--confirm-within", "600"]
        done = keepalive("set", *words)
        assert done.returncode == 1
        assert "ClientAliveInterval would be 5, not 60" in done.stderr
        assert "the old file is back\n" in done.stderr
        assert sshd.log.count("Server listening") == 1
        assert "no change waits" in keepalive("confirm").stderr
        assert not list(drop_ins.iterdir())


def test_who_would_undo_it_does_so_at_once_when_it_is_to_end(sshd: Sshd) -> None:
    """As logind ends what a session has left, and systemd everything before the machine goes down."""
    config = config_of(sshd)
    before = config.read_bytes()
    assert keepalive("set", "--server", "--config", config, "--confirm-within", "600").returncode == 0
    os.kill(waiting(), signal.SIGTERM)
    wait_for(lambda: not marked(os.environ[MARK]), what="the change to be undone")
    assert config.read_bytes() == before
    wait_for(lambda: sshd.log.count("Server listening") == 3, what="sshd to be reloaded with it")


# Ends itself with SIGKILL as soon as the new file is there.
CUT = """
import os, sys
sys.path.insert(0, {repository!r})
from pykeepssh.ctl.main import main
def trace(frame, event, _):
    if frame.f_code.co_name == "_sync_folder":
        os.kill(os.getpid(), 9)
sys.settrace(trace)
sys.exit(main())
"""


def test_a_change_is_undone_even_if_it_was_cut_while_it_was_made(sshd: Sshd, tmp_path: Path) -> None:
    config = config_of(sshd)
    before = config.read_bytes()
    script = tmp_path / "cut.py"
    script.write_text(CUT.format(repository=str(REPOSITORY)))
    words = ["keepalive", "set", "--server", "--config", config, "--confirm-within", "2"]
    assert subprocess.run([sys.executable, script, *words], check=False).returncode == -9
    assert config.read_bytes() != before
    wait_for(lambda: config.read_bytes() == before, what="the change to be undone")
    wait_for(lambda: not marked(os.environ[MARK]))
    assert login(sshd) == "in"


DIES_OF = "^ClientAliveInterval 66"


def test_an_sshd_that_does_not_come_back_gets_its_old_file_back(tmp_path: Path) -> None:
    with Fragile(tmp_path / "sshd", DIES_OF) as sshd:
        config = config_of(sshd)
        before = config.read_bytes()
        old = sshd.pid
        done = keepalive("set", "--server", "--config", config, "--interval", "66")
        assert done.returncode == 1
        assert "the old file is back, sshd greets" in done.stderr
        assert config.read_bytes() == before
        assert not alive(old)
        assert login(sshd) == "in"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_who_is_ended_while_sshd_comes_back_puts_the_old_file_back(
    signum: signal.Signals, tmp_path: Path
) -> None:
    with Fragile(tmp_path / "sshd", DIES_OF, "sleep 3") as sshd:
        config = config_of(sshd)
        before = config.read_bytes()
        words = ["set", "--server", "--config", config, "--interval", "66", "--confirm-within", "600"]
        with subprocess.Popen(
            [program("ksshctl"), "keepalive", *map(str, words)], stdout=-1, stderr=-1, text=True
        ) as process:
            assert process.stdout is not None
            wait_for(lambda: process.stdout.readline().startswith("reloaded: HUP"))
            process.send_signal(signum)
            _, said = process.communicate()
        if signum == signal.SIGTERM:
            assert process.returncode == 1
            assert said == "ksshctl: ended by SIGTERM; the old file is back, sshd greets\n"
        else:
            assert process.returncode == -signal.SIGINT
        assert config.read_bytes() == before
        assert login(sshd) == "in"
        assert "no change waits" in keepalive("confirm").stderr


# -- interrupted -------------------------------------------------------------------------------------

# Runs ksshctl again and again, each time in a process and a directory of its own: first something happens
# before the first line of configfile.py, then before the second, until there is no such line any more.
# Prints how each ended; the last one's status is NEVER.  Every third change that was killed is made again.
INTERRUPTED = """
import os, shutil, sys
sys.path.insert(0, {repository!r})
import pykeepssh.ctl.keepalive.verb  # here, and not in each process
from pykeepssh.ctl.main import main
what, base = sys.argv[1:]
# Where what is done is done, or is being taken back already.
AFTERWARDS = ("__exit__", "_close", "_remove", "put_back") if what != "kill" else ()
left = 0
def trace(frame, event, _):
    global left
    if not frame.f_code.co_filename.endswith("configfile.py"):
        return None
    caller = frame
    while caller is not None:
        if caller.f_code.co_name in AFTERWARDS:
            return None
        caller = caller.f_back
    if event == "line":
        left -= 1
        if left == 0:
            happen()
    return trace
def happen():
    if what == "kill":
        os.kill(os.getpid(), 9)
    raise KeyboardInterrupt if what == "Ctrl-C" else OSError(5, os.strerror(5))
def change(folder, line=0):
    global left
    left = line
    sys.argv[1:] = ["keepalive", "set", "--user", "--config", os.path.join(folder, "config")]
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            if line:
                sys.settrace(trace)
            status = main()
            sys.settrace(None)
            os._exit({never} if left > 0 else status)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
line = status = 0
while status != {never}:
    line += 1
    folder = os.path.join(base, str(line))
    shutil.copytree(os.path.join(base, "before"), folder)
    status = change(folder, line)
    print(status, flush=True)
    if status == -9 and line % 3 == 1:
        again = folder + "-again"
        shutil.copytree(folder, again)
        assert change(again) == 0, again
"""
NEVER = 100


def interrupted(what: str, folder: Path, before: bytes | None) -> list[tuple[int, bytes | None]]:
    """Return the status and what the file holds, for a change in which something happens at each line.

    The last of them is one in which nothing happened.
    """
    start = folder / "before"
    start.mkdir(parents=True)
    if before is not None:
        (start / "config").write_bytes(before)
    script = folder / "interrupted.py"
    script.write_text(INTERRUPTED.format(repository=str(REPOSITORY), never=NEVER))
    words = [sys.executable, script, what, folder]
    left = []
    said = subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout.split()
    for number, status in enumerate(said, 1):
        config = folder / str(number) / "config"
        left.append((int(status), config.read_bytes() if config.exists() else None))
    return left


def changed(before: bytes | None, folder: Path) -> bytes:
    """Return what a change makes of a file."""
    folder.mkdir()
    sample = folder / "config"
    if before is not None:
        sample.write_bytes(before)
    assert keepalive("set", "--user", "--config", sample).returncode == 0
    return sample.read_bytes()


def test_killed_at_any_line_the_file_is_old_or_new(tmp_path: Path) -> None:
    before = b"Host *\n  ServerAliveInterval 300\n"
    after = changed(before, tmp_path / "sample")
    *ended, last = interrupted("kill", tmp_path / "at", before)
    assert len(ended) > 60
    assert {status for status, _ in ended} == {-9}
    assert {left for _, left in ended} == {before, after}
    assert last == (NEVER, after)
    made_again = list((tmp_path / "at").glob("*-again"))
    assert len(made_again) > 20
    for folder in made_again:  # whatever was left behind is in nobody's way
        assert (folder / "config").read_bytes() == after
        leftovers = {path.name for path in folder.iterdir()}
        assert not leftovers & {f".config.ksshctl-{purpose}" for purpose in ("new", "old", "lock")}


@pytest.mark.parametrize("before", [b"Host *\n  ServerAliveInterval 300\n", None], ids=["changed", "made"])
@pytest.mark.parametrize("what", ["error", "Ctrl-C"])
def test_what_fails_at_any_line_leaves_the_old_file(what: str, before: bytes | None, tmp_path: Path) -> None:
    after = changed(before, tmp_path / "sample")
    *ended, last = interrupted(what, tmp_path / "at", before)
    failed = [left for status, left in ended if status in (1, -2)]
    assert len(failed) > 60
    assert set(failed) == {before}
    assert all(status in (0, 1, -2) for status, _ in ended)
    assert all(left == after for status, left in ended if status == 0)
    assert last == (NEVER, after)


def test_two_at_a_time_wait_for_each_other(folder: Path) -> None:
    config = folder / "config"
    config.write_text("Host a\n")
    hosts = [f"h{number}" for number in range(6)]
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        done = list(
            pool.map(lambda host: keepalive("set", "--user", "--config", config, "--host", host), hosts)
        )
    assert [one.returncode for one in done] == [0] * 6
    assert [in_force(config, host)[0] for host in hosts] == ["60"] * 6


# -- the true arithmetic -----------------------------------------------------------------------------


def test_interval_times_count_plus_one_is_when_a_dead_peer_is_noticed(tmp_path: Path) -> None:
    # The last byte came up to one interval before the link froze.
    slow = (9, 2) <= openssh_version() <= (9, 4)
    expected = (4.0, 6.0 if slow else 3.0)
    for turn in range(3):  # a busy machine adds to what it takes, and takes nothing from it
        took = seconds_to_notice(tmp_path / str(turn))
        assert all(want - 1.2 <= was for want, was in zip(expected, took)), took
        if all(was <= want + 0.6 for want, was in zip(expected, took)):
            return
    pytest.fail(f"the last one took {took}")


def seconds_to_notice(tmp_path: Path) -> tuple[float, float]:
    """Freeze a link; return after how many seconds client and server have ended."""
    with (
        Sshd(tmp_path / "sshd", "ClientAliveInterval 1\nClientAliveCountMax 2\n") as sshd,
        Relay(sshd.port) as relay,
    ):
        config = sshd.config_for(relay.port, "ServerAliveInterval 1\nServerAliveCountMax 3\n")
        with subprocess.Popen(
            ["ssh", "-F", config, "t", "echo in; sleep 600"], stdout=-1, stderr=-1
        ) as session:
            assert session.stdout is not None
            assert session.stdout.readline() == b"in\n"
            (server,) = sshd.sessions()
            relay.freeze()
            frozen = time.monotonic()
            session.wait()
            client_s = time.monotonic() - frozen
            wait_for(lambda: not alive(server))
            server_s = time.monotonic() - frozen
        assert "Timeout, client not responding" in sshd.log
    return client_s, server_s
