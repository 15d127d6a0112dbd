"""Tunnels that nobody watches: they do not give up, they say why, and they end when they are asked to."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from harness import (
    TIMEOUT_S,
    Argument,
    Relay,
    Sshd,
    Terminal,
    free_port,
    need,
    need_root,
    program,
    run_kssh,
    wait_for,
)
from links import (
    Kssh,
    Tunnel,
    background,
    behind_a_jump_host,
    end_background,
    greets,
    lines_of,
    quick,
    records,
    tunnel_words,
)

TEN_MINUTES = "only a person can fix that; retry"
ERROR_ONLY = quick(LOGLEVEL="ERROR")


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


# It does not give up.


def state() -> str:
    """The state of the one link of this test."""
    return "".join(record["state"] for record in records())


class Fault:
    """Something that only people can mend: how it comes, how it goes, and what is said of it."""

    def __init__(self, come: Callable[[], object], go: Callable[[], object], words: str) -> None:
        self.come, self.go, self.words = come, go, words


def faults(sshd: Sshd, config: Path) -> dict[str, Fault]:
    """Return what may happen to a tunnel to an sshd that is started with a configuration."""
    known, keys, right = (
        sshd.directory / "known_hosts",
        sshd.directory / "authorized_keys",
        config.read_text(),
    )
    other = (sshd.directory / "client_key.pub").read_text()
    host, authorized = known.read_text(), keys.read_text()
    return {
        "host key": Fault(
            lambda: known.write_text(f"t {other}"),
            lambda: known.write_text(host),
            "HOST KEY CHANGED OR UNKNOWN, not connecting (host key verification failed; Host key for t has",
        ),
        "typo": Fault(
            lambda: config.write_text(f"Compresion yes\n{right}"),
            lambda: config.write_text(right),
            "Bad configuration option: compresion",
        ),
        "no common algorithm": Fault(
            lambda: config.write_text(f"Ciphers 3des-cbc\n{right}"),
            lambda: config.write_text(right),
            "no matching cipher found",
        ),
        "key": Fault(lambda: keys.write_text(""), lambda: keys.write_text(authorized), "Permission denied"),
    }


@pytest.mark.parametrize("fault", ["host key", "typo", "no common algorithm", "key"])
@pytest.mark.parametrize("how", ["alone", "sent to the background by a person"])
def test_what_only_people_can_mend_is_said_and_tried_again(tmp_path: Path, fault: str, how: str) -> None:
    log, port = tmp_path / "log", free_port()
    env = {**ERROR_ONLY, "KSSH_LOGFILE": str(log)}

    def told() -> list[str]:
        return [line for line in lines_of(log) if TEN_MINUTES in line]

    with Sshd(tmp_path / "sshd") as sshd:
        words = tunnel_words(sshd, port)
        config = sshd.config_for(sshd.port)
        broken = faults(sshd, config)[fault]
        if how == "alone":
            with Kssh(words, env) as kssh:
                lives_through(sshd, port, broken, told, kssh.pid)
                kssh.stop()
        else:
            with Terminal([program(), "-f", *words], env=env) as terminal:
                assert terminal.wait() == 0, terminal.output
                (back,) = background()
                lives_through(sshd, port, broken, told, back.pid)
            end_background()


def lives_through(sshd: Sshd, port: int, fault: Fault, told: Callable[[], list[str]], kssh: int) -> None:
    wait_for(lambda: greets(port), what="the tunnel")
    wait_for(lambda: state() == "UP")
    fault.come()
    sshd.kill_sessions()
    wait_for(told, what="a line about what only a person can mend")
    assert fault.words in told()[0]
    assert "in 10 min" in told()[0]
    wait_for(lambda: state() == "WAITING")
    (record,) = records()
    assert 500 < record["next"] - time.time() <= 600
    os.kill(kssh, signal.SIGUSR1)
    wait_for(lambda: len(told()) == 2, what="the next try to be told as well")
    fault.go()
    wait_for(lambda: state() == "WAITING")
    os.kill(kssh, signal.SIGUSR1)
    wait_for(lambda: greets(port), what="the tunnel to come back")


def test_a_directory_of_a_socket_that_is_away_is_waited_for(sshd: Sshd, tmp_path: Path) -> None:
    """As an address of this machine: time alone brings it back."""
    here, away = tmp_path / "here", tmp_path / "away"
    here.mkdir()
    path = here / "s"

    with Kssh(["-F", sshd.config, "-N", "-L", f"{path}:127.0.0.1:{sshd.port}", "t"], quick()) as kssh:
        wait_for(lambda: greets(path))
        here.rename(away)
        sshd.kill_sessions()
        kssh.says("No such file or directory); retry 4")
        assert TEN_MINUTES not in kssh.said
        away.rename(here)
        wait_for(lambda: greets(path))
        kssh.stop()


@pytest.mark.parametrize("place", ["192.0.2.1:2300:x:80", "/no/such/directory/s:x:80"])
def test_where_nothing_can_listen_a_first_start_ends_and_says_why(sshd: Sshd, place: str) -> None:
    done = run_kssh(["-F", sshd.config, "-N", "-L", place, "t"])
    assert done.returncode == 255
    (own,) = [line for line in done.stderr.decode().splitlines() if line.startswith("kssh: ")]
    assert "giving up after 1 start: forward refused (" in own
    assert place.rpartition(":x:")[0].split(":")[0] in own


def test_behind_a_jump_host_that_denies_later_the_slow_pace_is_slow(tmp_path: Path) -> None:
    """The jump host answers knocks, and that cures nothing."""
    port = free_port()
    with Sshd(tmp_path / "sshd") as sshd:
        config = behind_a_jump_host(sshd, tmp_path / "config", sshd.port)
        words: list[Argument] = ["-F", config, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{sshd.port}", "t"]
        with Kssh(words, quick(BACKOFF_MAX="1h")) as kssh:
            wait_for(lambda: greets(port))
            sshd.restart("AllowUsers nobody-at-all")
            kssh.says("access denied")
            refused = sshd.log.count("not allowed because not listed")
            before = kssh.said.count("access denied")
            time.sleep(3)  # a knock is answered within half a second
            assert kssh.said.count("access denied") == before == 1, kssh.said
            assert sshd.log.count("not allowed because not listed") == refused
            kssh.stop()


# It says why.


@pytest.mark.parametrize(
    "why", ["mode of a key", "option", "ProxyCommand", "jump host", "command of a jump host", "user"]
)
def test_a_log_file_alone_tells_why(sshd: Sshd, tmp_path: Path, why: str) -> None:
    log = tmp_path / "log"
    words: list[Argument] = ["-F", sshd.config]
    before: list[Argument] = []
    expected = ""
    if why == "mode of a key":
        key = tmp_path / "key"
        shutil.copy(sshd.directory / "client_key", key)
        key.chmod(0o644)
        config = tmp_path / "config"
        config.write_text(sshd.config.read_text().replace(f"{sshd.directory}/client_key", str(key)))
        words, expected = ["-F", config], f"Permissions 0644 for '{key}' are too open"
    elif why == "option":
        words += ["-o", "NoSuchThing=1"]
        expected = "Bad configuration option: nosuchthing"
    elif why == "ProxyCommand":
        words += ["-o", "ProxyCommand=no-such-program %h"]
        expected = "no-such-program"
    elif why == "jump host":
        words += ["-J", "127.0.0.1:1"]
        expected = "Connection refused"
    elif why == "command of a jump host":
        words += ["-o", "ProxyCommand=sh -c 'echo the gate is shut >&2; exit 1'"]
        expected = "unreachable (the gate is shut)"
    else:
        before = [need("unshare"), "-U", "--map-user=54321"]
        if subprocess.run([*before, "true"], capture_output=True, check=False).returncode:
            pytest.skip("needs user namespaces")
        expected = "No user exists for uid 54321"
    env = quick(LOGFILE=str(log), LOGLEVEL="ERROR", MAXSTART=1)
    done = subprocess.run(
        [*before, program(), *words, "-N", "t"],
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 255
    (line,) = lines_of(log)
    assert expected in line
    assert "UNKNOWN port" not in line


def test_a_changed_key_that_forbids_forwarding_is_a_host_key(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"t {(sshd.directory / 'client_key.pub').read_text()}")
    words = ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={known}"]
    done = run_kssh([*words, *tunnel_words(sshd, free_port(), side="-R")])
    assert done.returncode == 255
    assert b"HOST KEY CHANGED" in done.stderr
    assert b"unreachable" not in done.stderr


def need_tunnel_device() -> None:
    need_root()
    if not os.access("/dev/net/tun", os.W_OK):
        pytest.skip("needs /dev/net/tun")


def test_a_refused_tunnel_device_is_no_tunnel_that_is_up(sshd: Sshd) -> None:
    need_tunnel_device()
    with Kssh(["-F", sshd.config, "-N", "-w", "any", "t"]) as kssh:
        kssh.says(
            "forward refused (the server refused a tunnel device (-w); an old session may still hold it)"
        )
        kssh.says("retry 2 in 5 s")
        assert "tunnel is up" not in kssh.said
        assert "link lost" not in kssh.said
        kssh.stop()


def test_a_tunnel_device_that_is_done_without_is_named(sshd: Sshd) -> None:
    need_tunnel_device()
    words = ["-N", "-w", "any", "-o", "ExitOnForwardFailure=no"]
    with Kssh(["-F", sshd.config, *words, "t"]) as kssh:
        kssh.says("tunnel is up, but the server refused a tunnel device (-w)")
        kssh.stop()


# A port that the server chooses.


def allocated() -> list[int]:
    return [one["port"] for record in records() if record["state"] == "UP" for one in record["allocated"]]


def ports_of(kssh: Kssh, number: int) -> list[int]:
    """Wait until kssh is up and knows so many ports."""
    wait_for(lambda: len(allocated()) == number, what=f"ports; kssh said {kssh.said!r}")
    return allocated()


def test_the_port_that_the_server_chose_is_told_and_asked_for_again(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1 $KSSH_ALLOCATED" >>{heard}\n')
    hook.chmod(0o755)
    target = f"127.0.0.1:{sshd.port}"
    words: list[Argument] = [
        "-F",
        sshd.config_for(relay.port),
        "-N",
        "-R",
        f"127.0.0.1:0:{target}",
        "-R",
        "127.0.0.1:0",
    ]
    with Kssh([*words, "t"], {**quick(), "KSSH_HOOK": str(hook)}) as kssh:
        first, second = ports_of(kssh, 2)
        kssh.says(f"tunnel is up; port {first} of the server leads to {target}, port {second} of the server")
        assert greets(first)
        done = subprocess.run([program("ksshctl"), "status", "--json"], capture_output=True, check=True)
        (link,) = json.loads(done.stdout)["links"]
        assert link["allocated"] == [{"port": first, "to": target}, {"port": second, "to": "a SOCKS proxy"}]
        assert f"port {first} for {target}" in os.fsdecode(
            subprocess.run([program("ksshctl"), "status"], capture_output=True, check=True).stdout
        )
        relay.reset()
        kssh.says(f"(start 2); port {first} of the server leads to {target}, port {second}")
        assert greets(first)
        # Somebody else takes the port: another one is had at once.
        relay.refuse()
        relay.reset()
        kssh.says("Connection refused")
        wait_for(lambda: not greets(first))
        with socket.create_server(("127.0.0.1", first)):
            relay.listen()
            kssh.says(f"the server refused to listen on port {first}")
            other, same = ports_of(kssh, 2)
        assert (other != first, same) == (True, second)
        assert greets(other)
        assert kssh.said.count("refused to listen") == 1
        kssh.stop()
    assert [line for line in lines_of(heard) if line.startswith("up ")] == [
        f"up {first} {second}",
        f"up {first} {second}",
        f"up {other} {second}",
    ]


# It ends when it is asked to.


@pytest.mark.parametrize("first", ["ssh", "kssh"])
def test_who_stops_all_of_a_service_stops_kssh(sshd: Sshd, tmp_path: Path, first: str) -> None:
    """systemd's KillMode=control-group: one after the other, within a moment."""
    heard = tmp_path / "heard"
    hook = tmp_path / "hook"
    hook.write_text(f'#!/bin/sh\necho "$1" >>{heard}\n')
    hook.chmod(0o755)
    for _ in range(20):
        with Tunnel(sshd, env={"KSSH_HOOK": str(hook)}) as tunnel:
            tunnel.says("tunnel is up")
            ssh = psutil.Process(tunnel.ssh())
            kssh = psutil.Process(tunnel.pid)
            for process in (ssh, kssh) if first == "ssh" else (kssh, ssh):
                try:
                    process.terminate()
                except psutil.NoSuchProcess:
                    assert process is ssh  # kssh was fast
            assert tunnel.wait() == -signal.SIGTERM
            assert "link lost" not in tunnel.said
            assert "retry" not in tunnel.said
            tunnel.says("ended as asked")
    wait_for(lambda: len(lines_of(heard)) == 40, what="every hook")
    assert sorted(lines_of(heard)) == ["down"] * 20 + ["up"] * 20


def test_an_ssh_alone_that_is_asked_to_end_is_started_again(sshd: Sshd) -> None:
    with Tunnel(sshd) as tunnel:
        tunnel.says("tunnel is up")
        os.kill(tunnel.ssh(), signal.SIGTERM)
        tunnel.says("again")
        tunnel.stop()


_SUBREAPER = """\
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "prctl"), reason="needs Linux")
def test_what_is_left_to_the_first_process_of_a_container_is_reaped(tmp_path: Path) -> None:
    """The ssh of a jump host outlives the one that started it."""
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\n(sleep 0.1) &\necho $1 >>{tmp_path}/heard\n")
    hook.chmod(0o755)
    port = free_port()
    with Sshd(tmp_path / "sshd") as sshd:
        config = behind_a_jump_host(sshd, tmp_path / "config", sshd.port)
        words: list[Argument] = ["-F", config, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{sshd.port}", "t"]
        before: list[Argument] = [sys.executable, "-c", _SUBREAPER]
        with Kssh(words, {**quick(), "KSSH_HOOK": str(hook)}, before) as kssh:
            wait_for(lambda: greets(port))
            for start in (2, 3, 4):
                ssh = psutil.Process(kssh.ssh())
                ssh.kill()  # and not the one below it
                kssh.says(f"(start {start})")
                wait_for(lambda: greets(port))
            itself = psutil.Process(kssh.pid)

            def zombies() -> list[psutil.Process]:
                found = []
                for one in itself.children():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        found += [one] if one.status() == psutil.STATUS_ZOMBIE else []
                return found

            wait_for(lambda: not zombies() and len(itself.children()) == 1, what="zombies to go")
            assert "internal error" not in kssh.said
            kssh.stop()
