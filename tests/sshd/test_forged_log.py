"""Servers that write lines of ssh's into ssh's log, and floods of them: nothing of it is believed."""

from __future__ import annotations

import re
import subprocess
import termios
from pathlib import Path

import psutil
import pytest

from harness import Sshd, Terminal, program, run_kssh, wait_for
from hostile import VERSION, Hostile, Injector, debug, disconnect, injections, old_ssh
from links import Kssh, background, lines_of, records

SESSION = b"debug1: Entering interactive session."
LIES = dict(injections(SESSION))


@pytest.fixture(params=["ssh", "old ssh"])
def ssh(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return the environment for an ssh that tags its lines, and for one that cannot."""
    return {"KSSH_SSH": str(old_ssh(tmp_path))} if request.param == "old ssh" else {}


def to(port: int) -> list[str]:
    """Return options for a host "t" that is on a port of this machine, and whose key nobody knows."""
    return [
        "-F",
        "/dev/null",
        "-p",
        str(port),
        "-o",
        "HostName=127.0.0.1",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ]


def hook(tmp_path: Path) -> tuple[Path, Path]:
    """Return a hook and the file to which it writes its events."""
    path, told = tmp_path / "hook", tmp_path / "told"
    path.write_text(f'#!/bin/sh\necho "$1" >>{told}\n')
    path.chmod(0o755)
    return path, told


@pytest.mark.parametrize("way", LIES)
def test_a_session_that_the_server_made_up_is_none(way: str, ssh: dict[str, str], tmp_path: Path) -> None:
    path, told = hook(tmp_path)
    env = {**ssh, "KSSH_HOOK": str(path), "KSSH_FIRST_START": "fail"}
    with Hostile(LIES[way]) as server:
        done = run_kssh([*to(server.port), "-f", "-N", "t"], env)
    assert done.returncode == 255, done
    assert b"is up" not in done.stderr
    wait_for(lambda: lines_of(told), what="the hook")
    assert "up" not in lines_of(told)
    assert not background()


def test_a_tunnel_is_not_finished_because_the_server_says_so(ssh: dict[str, str]) -> None:
    lie = b"x\r\ndebug1: channel 0: terminate request\r\ndebug1: channel 0: stop listening"
    with (
        Hostile(VERSION + debug(lie)) as server,
        Kssh([*to(server.port), "-N", "t"], {**ssh, "KSSH_BACKOFF_MAX": "1"}) as tunnel,
    ):
        wait_for(lambda: server.connections >= 3, what=f"more tries; it said {tunnel.said}")
        tunnel.stop()


LINE = b"kssh[1]: t: tunnel is up"


SEVERAL = b"x\r\nHost key fingerprint is\n" + LINE  # words of ssh's own, which it writes in several lines


@pytest.mark.parametrize("way", ["debug", "disconnect", "no common algorithm", "bare", "several"])
def test_no_line_of_the_server_stands_there_as_one_of_ours(way: str, ssh: dict[str, str]) -> None:
    ways = {**dict(injections(LINE)), "bare": VERSION + disconnect(b"x\n" + LINE)}
    ways["several"] = VERSION + disconnect(SEVERAL)
    with Hostile(ways[way]) as server:
        done = run_kssh([*to(server.port), "-N", "t"], {**ssh, "KSSH_FIRST_START": "fail"})
    assert not re.search(rb"(?m)^kssh\[1\]", done.stderr), done.stderr
    if way != "debug":
        assert LINE in done.stderr, "it is shown, as what it is"


def test_a_line_with_another_process_id_ends_the_link_loudly(tmp_path: Path) -> None:
    path, told = hook(tmp_path)
    lie = b"x\r\ndebug1: clientloop.c:client_loop():1290 (pid=1): Entering interactive session."
    with Hostile(VERSION + debug(lie)) as server:
        done = run_kssh([*to(server.port), "-N", "t"], {"KSSH_HOOK": str(path)})
    assert done.returncode == 255
    assert b"FORGED" in done.stderr
    assert server.connections == 1
    wait_for(lambda: lines_of(told), what="the hook")
    assert lines_of(told) == ["gave-up"]


@pytest.fixture
def other_key(sshd: Sshd) -> list[str]:
    """Return options with which the sshd has not the key that is known."""
    known = sshd.directory / "other_hosts"
    known.write_text("t " + (sshd.directory / "client_key.pub").read_text())
    return ["-o", f"UserKnownHostsFile={known}"]


def test_a_wrong_host_key_ends_at_once_whatever_was_forged(
    sshd: Sshd, other_key: list[str], ssh: dict[str, str]
) -> None:
    lie = b"x\r\nroot@t: Permission denied (x).\r\n" + SESSION
    with Injector(sshd.port, debug(lie)) as server:
        words = ["-F", sshd.config_for(server.port), *other_key, "-N", "t"]
        done = run_kssh(words, {**ssh, "KSSH_BACKOFF_MAX": "1"})
        assert server.connections == 1
    assert done.returncode == 255
    assert b"HOST KEY" in done.stderr, done.stderr


def test_no_lie_gives_the_terminal_back_before_a_question(sshd: Sshd, ssh: dict[str, str]) -> None:
    lie = b'x\r\nAuthenticated to t ([127.0.0.1]:22) using "none".\r\n' + SESSION
    nobody = ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=ask"]
    with Injector(sshd.port, debug(lie)) as server:
        words = ["-F", sshd.config_for(server.port), *nobody, "-N", "t"]
        with Terminal([program(), *words], env=ssh) as terminal:
            terminal.expect(re.compile(rb"\(yes/no[^)]*\)\? "))
            assert not terminal.modes()[3] & (termios.ECHO | termios.ICANON)
            terminal.send(b"no\r")
            assert terminal.wait() == 255


FLOODS = {
    "lines": debug(b"x\r\nWarning: remote port forwarding failed for listen port 1" * 12),
    "facts": debug(b"x\r\ndebug1: Local forwarding listening on 127.0.0.1 port 1." * 12),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_costs_neither_memory_nor_an_endless_log(flood: str, ssh: dict[str, str]) -> None:
    with Hostile(VERSION, FLOODS[flood] * 20) as server, Kssh([*to(server.port), "-N", "t"], ssh) as tunnel:
        kssh = psutil.Process(tunnel.pid)
        wait_for(lambda: server.connections and kssh.cpu_times().user > 0.5, what="a flood")
        before = kssh.memory_full_info().uss
        wait_for(lambda: kssh.cpu_times().user > 2.0, what="a flood")
        assert kssh.memory_full_info().uss < before + 4_000_000
        tunnel.stop()
        assert len(tunnel.said) < 500_000


CHILDREN: dict[str, list[str]] = {
    "LocalCommand": ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=/bin/echo here"],
    "LocalCommand that cannot be run": ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=/nonexistent"],
    "KnownHostsCommand": ["-o", "KnownHostsCommand=/bin/true"],
    "ProxyCommand": ["-o", "ProxyCommand=ssh -F {config} -W 127.0.0.1:%p t"],
}


@pytest.mark.parametrize("name", CHILDREN)
def test_what_ssh_starts_is_no_forger(name: str, sshd: Sshd, ssh: dict[str, str]) -> None:
    options = [option.format(config=sshd.config) for option in CHILDREN[name]]
    with Kssh(["-F", sshd.config, *options, "-N", "t"], ssh) as tunnel:
        wait_for(lambda: [one for one in records() if one["state"] == "UP"], what=f"up; {tunnel.said}")
        tunnel.stop()
        assert "FORGED" not in tunnel.said


def test_an_askpass_that_is_not_there_is_no_forger(sshd: Sshd) -> None:
    nobody = ["-o", "UserKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=ask"]
    env = {"SSH_ASKPASS": "/nonexistent", "SSH_ASKPASS_REQUIRE": "force"}
    done = run_kssh(["-F", sshd.config, *nobody, "-N", "t"], env)
    assert done.returncode == 255
    assert b"FORGED" not in done.stderr
    assert b"ssh_askpass: exec(/nonexistent): No such file or directory" in done.stderr


def test_a_banner_is_no_line_of_ours(sshd: Sshd, ssh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "banner").write_bytes(b"Welcome\n" + LINE + b"\n")
    sshd.restart(f"Banner {tmp_path}/banner")
    with Kssh(["-F", sshd.config, "-N", "t"], ssh) as tunnel:
        tunnel.says("Welcome")
        tunnel.says(f"ssh: {LINE.decode()}")
        tunnel.stop()
        assert not re.search(r"(?m)^kssh\[1\]", tunnel.said)


@pytest.mark.parametrize("way", ["debug", "disconnect"])
def test_who_reads_along_is_not_deceived(way: str, tmp_path: Path) -> None:
    path, told = hook(tmp_path)
    env = {"KSSH_HOOK": str(path), "KSSH_FIRST_START": "fail"}
    said = dict(injections(SESSION + b"\r\n" + LINE))[way]
    with Hostile(said) as server:
        done = run_kssh([*to(server.port), "-v", "-f", "-N", "t"], env)
    assert done.returncode == 255
    assert SESSION in done.stderr, "as ssh writes it"
    assert not re.search(rb"(?m)^kssh\[1\]", done.stderr), done.stderr
    wait_for(lambda: lines_of(told), what="the hook")
    assert lines_of(told) == ["gave-up"]


def test_lines_are_shown_as_ssh_writes_them(sshd: Sshd, other_key: list[str]) -> None:
    """Whatever is put in front of them for kssh."""
    words = ["-F", sshd.config, *other_key, "-o", "CheckHostIP=no", "-N", "t"]
    done = run_kssh(words)
    plain = subprocess.run(["ssh", *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert len(plain.stderr) > 500, "the warning of a changed key"
    assert done.stderr.startswith(plain.stderr)
