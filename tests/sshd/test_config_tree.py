"""Copies of configuration files, on which a change is tried: programs find in them what is in the files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness import Sshd, need
from pykeepssh.ctl.keepalive import openssh
from pykeepssh.ctl.keepalive.tree import Root, Tree
from pykeepssh.errors import KsshError

HOSTS = ("a", "b", "other")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A file with Includes of all kinds."""
    more = tmp_path / "more files"
    more.mkdir()
    (more / "10").write_text(f'Port 3\nHost b\n  User from-10\nInclude "{tmp_path}/*/deep"\n')
    (more / "20").write_text("Port 4\nUser from-20\n")
    (more / ".hidden").write_text("Foo bar\n")
    (more / "deep").write_text("Match host b\n  HostName deep\nHost *\n  ServerAliveCountMax 7\n")
    path = tmp_path / "config"
    path.write_text(
        f'Host a\n  Include = "{more}/2*" /nonexistent/*\n'
        f"Host *\n\tinclude {tmp_path}/more\\ files/[!2d]*\nServerAliveInterval 30\n"
    )
    return path


def told(words: list[str]) -> list[str]:
    """Return what ssh -G says, which names no file that it read."""
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.parametrize("host", HOSTS)
def test_ssh_finds_in_the_copies_what_is_in_the_files(host: str, config: Path) -> None:
    tree = openssh.client_tree(str(config))
    changed = tree.with_changes({str(config): config.read_bytes()})
    with changed.on_disk() as (copy, _):
        assert copy is not None
        assert Path(copy).parent.stat().st_mode & 0o777 == 0o700
        assert told(["ssh", "-G", "-F", copy, host]) == told(["ssh", "-G", "-F", str(config), host])
    assert not Path(copy).parent.exists()


def test_the_users_and_the_systems_file_come_one_after_the_other(tmp_path: Path) -> None:
    users, systems = tmp_path / "users", tmp_path / "systems"
    users.write_text("Host a\n  Port 3\n")
    systems.write_text("Port 4\nUser s\n")
    tree = Tree([Root(str(users), str(tmp_path), True), Root(str(systems), str(tmp_path), True)], None)
    with tree.with_changes({str(systems): b"Port 5\nUser s\n"}).on_disk() as (copy, _):
        assert copy is not None
        for host, port in (("a", "3"), ("b", "5")):
            said = told(["ssh", "-G", "-F", copy, host])
            assert {f"port {port}", "user s"} <= set(said)


def test_what_is_said_of_a_copy_is_said_of_the_file(config: Path, shared_sshd: Sshd) -> None:
    deep = config.parent / "more files" / "deep"
    tree = openssh.client_tree(str(config)).with_changes({str(deep): b"# one\nFoo bar\n"})
    with pytest.raises(KsshError) as refused:
        openssh.Client("ssh", "b", tree)
    assert f"{deep}: line 2: Bad configuration option: foo" in str(refused.value)
    server = config.parent / "sshd_config"
    server.write_text(f"HostKey {shared_sshd.directory}/host_key\nInclude {config.parent}/sshd.d/*\n")
    (config.parent / "sshd.d").mkdir()
    new = config.parent / "sshd.d" / "new"  # which is not there yet
    of_sshd = openssh.server_tree(str(server)).with_changes({str(new): b"ClientAliveInterval 9\n"})
    assert openssh.sshd_values(need("sshd"), of_sshd)["clientaliveinterval"] == ["9"]
    broken = of_sshd.with_changes({str(new): b"\n\nFoo bar\n"})
    assert f"{new}: line 3: Bad configuration option" in str(openssh.sshd_refuses(need("sshd"), broken))


def test_which_match_applies_is_known_of_the_files(config: Path) -> None:
    deep = config.parent / "more files" / "deep"
    tree = openssh.client_tree(str(config)).with_changes({str(deep): b"#\nMatch host b\n  HostName new\n"})
    source = openssh.Client("ssh", "b", tree).source("HostName")
    assert source is not None
    assert source[:2] == (str(deep), 3)
    assert tree.number_on_disk(str(deep), 2) == 1
    assert openssh.Client("ssh", "other", tree).source("HostName") is None


def test_a_file_that_includes_itself_is_refused_as_ssh_does(config: Path) -> None:
    config.write_text(f"Include {config}\nPort 3\n")
    tree = openssh.client_tree(str(config))
    with pytest.raises(KsshError, match="Too many recursive configuration includes"):
        openssh.Client("ssh", "a", tree.with_changes({os.path.realpath(config): config.read_bytes()}))
