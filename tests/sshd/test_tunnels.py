"""Tunnels to a real sshd, through a network that fails."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from harness import TIMEOUT_S, Argument, Relay, Sshd, Terminal, alive, free_port, program, run_kssh, wait_for
from links import (
    HOST_KEY_QUESTION,
    Kssh,
    Tunnel,
    background,
    behind_a_jump_host,
    end_background,
    greets,
    lines_of,
    quick,
    records,
    sealed,
    tunnel_words,
)

KEEPALIVE = {"KSSH_INTERVAL": "1", "KSSH_COUNTMAX": "1"}


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


@contextmanager
def held_port() -> Iterator[tuple[int, socket.socket]]:
    """A port at which somebody listens who does not greet."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as holder:
        yield port, holder


# It comes back.


@pytest.mark.parametrize("side", ["-L", "-R"])
@pytest.mark.parametrize("fault", ["session killed", "reset", "refused for a while"])
def test_a_tunnel_comes_back(sshd: Sshd, relay: Relay, side: str, fault: str) -> None:
    with Tunnel(sshd, through=relay.port, side=side, env=quick()) as tunnel:
        tunnel.is_up()
        first = tunnel.ssh()
        if fault == "session killed":
            sshd.kill_sessions()
        elif fault == "refused for a while":
            relay.refuse()
            relay.reset()
            tunnel.says("Connection refused")
            relay.listen()
        else:
            relay.reset()
        wait_for(lambda: not alive(first))
        tunnel.is_up()
        assert tunnel.ssh() != first
        tunnel.stop()


def test_a_frozen_tunnel_is_noticed_and_comes_back(sshd: Sshd, relay: Relay) -> None:
    with Tunnel(sshd, through=relay.port, env={**quick(), **KEEPALIVE}) as tunnel:
        tunnel.is_up()
        first = tunnel.ssh()
        relay.freeze()
        frozen = time.monotonic()
        wait_for(lambda: not alive(first))
        assert time.monotonic() - frozen > 1
        tunnel.says("stopped answering")
        relay.thaw()
        tunnel.is_up()
        tunnel.stop()


def test_a_frozen_tunnel_comes_back_while_the_old_session_holds_the_port(sshd: Sshd, relay: Relay) -> None:
    """The server does not learn of the death: the port is free only when the old session goes."""
    with Tunnel(sshd, through=relay.port, side="-R", env={**quick(), **KEEPALIVE}) as tunnel:
        tunnel.is_up()
        first, session = tunnel.ssh(), sshd.sessions()
        relay.freeze()
        wait_for(lambda: not alive(first))
        relay.refuse()
        assert [pid for pid in session if alive(pid)]
        server = psutil.Process(session[0])
        serving = [server, *server.children(recursive=True)]  # for another user than root it is two
        for process in serving:
            process.suspend()  # it cannot learn of the death from here on
        relay.thaw()
        relay.listen()
        tunnel.says(str(tunnel.port))
        for process in serving:
            process.resume()
        tunnel.is_up()
        tunnel.stop()


def test_a_server_that_accepts_and_says_nothing_is_abandoned(sshd: Sshd, relay: Relay) -> None:
    relay.mute = True
    env = quick(CONNECT_TIMEOUT=1)
    with Tunnel(sshd, through=relay.port, env=env) as tunnel:
        wait_for(lambda: len(relay.accepted) >= 2)
        assert relay.accepted[1] - relay.accepted[0] > 0.9
        relay.mute = False
        tunnel.is_up()
        tunnel.stop()


def test_a_first_refusal_is_retried_when_nobody_is_there(sshd: Sshd, relay: Relay) -> None:
    relay.refuse()
    with Tunnel(sshd, through=relay.port, env=quick()) as tunnel:
        tunnel.says("retry 3")
        assert "Connection refused" in tunnel.said
        relay.listen()
        tunnel.is_up()
        tunnel.stop()


@pytest.mark.parametrize("words", [[], ["-N"], ["-fN"]], ids=str)
def test_a_first_refusal_is_final_at_a_terminal(sshd: Sshd, relay: Relay, words: list[str]) -> None:
    relay.refuse()
    command: list[Argument] = ["-F", sshd.config_for(relay.port), *words, "t"]
    with Terminal([program(), *command]) as kssh, Terminal(["ssh", *command]) as ssh:
        assert kssh.wait() == ssh.wait() == 255
        assert kssh.output.replace(b"\r", b"") == ssh.output.replace(b"\r", b"")


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_an_ssh_that_somebody_else_ended_is_started_again(sshd: Sshd, signum: int) -> None:
    with Tunnel(sshd) as tunnel:
        tunnel.is_up()
        first = tunnel.ssh()
        os.kill(first, signum)
        wait_for(lambda: not alive(first))
        tunnel.is_up()
        tunnel.stop()


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_a_request_makes_a_new_session(sshd: Sshd, relay: Relay, signum: int) -> None:
    with Tunnel(sshd, through=relay.port, side="-R") as tunnel:
        tunnel.is_up()
        tunnel.says("tunnel is up")
        first = tunnel.ssh()
        tunnel.send(signum)
        wait_for(lambda: not alive(first))
        tunnel.is_up()
        wait_for(lambda: len(relay.accepted) >= 2)
        tunnel.stop()


@pytest.mark.parametrize(
    "words", [["-o", "LogLevel=ERROR"], ["-q"], ["-o", "LogLevel=QUIET"], ["-v"]], ids=str
)
def test_a_lost_link_is_known_at_any_level(sshd: Sshd, words: list[str]) -> None:
    with Tunnel(sshd, *words, env={"KSSH_LOGLEVEL": "INFO"}) as tunnel:
        tunnel.is_up()
        tunnel.says("tunnel is up")
        sshd.kill_sessions()
        tunnel.says("link lost")
        tunnel.is_up()
        tunnel.stop()
        # ssh says the first one at every level, and not in its log; the others are errors that depend on
        # the moment.  (LogVerbose takes "client_loop: " from the last, as from every function's name.)
        moment = ("client_loop: ", "Read from remote host ", "send disconnect: ")
        own = ("kssh: ", "Connection to 127.0.0.1 closed by remote host.", *moment)
        shown = [line for line in tunnel.said.splitlines() if not line.startswith(own)]
        assert bool(shown) is (words == ["-v"]), shown
        assert "\\015" not in tunnel.said  # the pty's line ends are no control characters of the other side


def test_without_a_log_channel_a_tunnel_comes_back(sshd: Sshd, tmp_path: Path) -> None:
    with Tunnel(sshd, env=quick(), before=sealed(tmp_path, "/proc")) as tunnel:
        tunnel.is_up()
        assert "cannot read ssh's log" in tunnel.said
        first = tunnel.ssh()
        sshd.kill_sessions()
        wait_for(lambda: not alive(first))
        tunnel.is_up()
        tunnel.stop()


def test_where_no_directory_can_be_had_ssh_logs_to_a_pipe_without_a_name(sshd: Sshd, tmp_path: Path) -> None:
    with Tunnel(sshd, env=quick(), before=sealed(tmp_path)) as tunnel:
        tunnel.is_up()
        first = tunnel.ssh()
        sshd.kill_sessions()
        wait_for(lambda: not alive(first))
        tunnel.is_up()
        assert "cannot read ssh's log" not in tunnel.said
        assert "tunnel is up again" in tunnel.said
        tunnel.stop()


# It knows when not to.


def change_host_key(sshd: Sshd) -> None:
    key = (sshd.directory / "client_key.pub").read_text()
    (sshd.directory / "known_hosts").write_text(f"t {key}")


FINAL: list[tuple[str, list[str], str]] = [
    ("denied", ["-l", "no-such-user"], "Permission denied"),
    ("host key", ["-o", "UserKnownHostsFile=CHANGED"], "Host key verification failed"),
    ("host key", ["-o", "UserKnownHostsFile=/dev/null"], "Host key verification failed"),
    ("refused setup", ["-o", "NoSuchKeyword=1"], "Bad configuration option"),
    ("refused setup", ["-L", "nonsense"], "Bad local forwarding specification"),
    ("refused setup", ["-o", "Ciphers=3des-cbc"], "no matching cipher"),
    ("refused setup", ["-o", "KexAlgorithms=no-such"], "Bad SSH2 KexAlgorithms"),
]


@pytest.mark.parametrize("how", ["alone", "in the background", "at a terminal"])
@pytest.mark.parametrize(("outcome", "words", "message"), FINAL, ids=lambda value: str(value)[:30])
def test_what_time_does_not_cure_is_tried_once(
    sshd: Sshd, relay: Relay, tmp_path: Path, how: str, outcome: str, words: list[str], message: str
) -> None:
    changed = tmp_path / "known_hosts"
    changed.write_text(f"t {(sshd.directory / 'client_key.pub').read_text()}")
    given = [word.replace("CHANGED", str(changed)) for word in words]
    # The user's word comes first: the configuration below says otherwise.
    command: list[Argument] = [*given, *tunnel_words(sshd, free_port(), relay.port)]
    if how == "at a terminal":
        with Terminal([program(), *command]) as terminal:
            assert terminal.wait() == 255
            said = terminal.output.decode()
    else:
        done = run_kssh(["-f", *command] if how == "in the background" else command)
        assert done.returncode == 255
        said = done.stderr.decode()
    assert message in said
    assert len(relay.accepted) <= 1
    assert background() == []
    assert how == "at a terminal" or outcome != "host key" or "HOST KEY" in said


def test_a_refused_remote_port_is_named_and_tried_at_a_flat_pace(sshd: Sshd, relay: Relay) -> None:
    with held_port() as (port, _), Tunnel(sshd, through=relay.port, side="-R", port=port) as tunnel:
        tunnel.says("an old session may still hold it")
        assert f"port {port}" in tunnel.said
        wait_for(lambda: time.monotonic() - relay.accepted[0] > 1.2)
        first = relay.accepted[0]
        assert len([at for at in relay.accepted if at < first + 1]) <= 2
        assert tunnel.process.poll() is None
        tunnel.stop()


def test_a_refused_remote_port_comes_up_once_it_is_released(sshd: Sshd) -> None:
    with held_port() as (port, holder), Tunnel(sshd, side="-R", port=port, env=quick()) as tunnel:
        tunnel.says(f"port {port}")
        holder.close()
        tunnel.is_up()
        tunnel.stop()


def test_a_refused_remote_port_is_final_at_a_terminal(sshd: Sshd, relay: Relay) -> None:
    with held_port() as (port, _):
        command = [program(), *tunnel_words(sshd, port, relay.port, "-R")]
        with Terminal(command) as terminal:
            assert terminal.wait() == 255
            assert f"remote port forwarding failed for listen port {port}".encode() in terminal.output
    assert len(relay.accepted) == 1


def test_a_local_port_in_use_is_final_at_the_first_start(sshd: Sshd, relay: Relay) -> None:
    with held_port() as (port, _), Tunnel(sshd, through=relay.port, port=port) as tunnel:
        assert tunnel.wait() == 255
        assert f"{port}" in tunnel.said
    assert len(relay.accepted) == 1


def test_a_user_who_accepts_refused_forwards_keeps_the_tunnel(sshd: Sshd, relay: Relay) -> None:
    with held_port() as (port, _):
        options = ["-o", "ExitOnForwardFailure=no", "-L", f"127.0.0.1:{free_port()}:127.0.0.1:1"]
        with Tunnel(sshd, *options, through=relay.port, side="-R", port=port) as tunnel:
            tunnel.says(f"tunnel is up, but the server refused to listen on port {port}")
            tunnel.stop()
    assert len(relay.accepted) == 1


def test_the_limit_ends_it_with_count_and_reason(sshd: Sshd) -> None:
    with held_port() as (port, _):
        env = quick(MAXSTART=2, LOGLEVEL="ERROR")
        with Tunnel(sshd, side="-R", port=port, env=env) as tunnel:
            assert tunnel.wait() == 255
            own = [line for line in tunnel.said.splitlines() if line.startswith("kssh: ")]
            assert len(own) == 1
            assert "2 starts" in own[0]
            assert str(port) in own[0]


def test_what_changes_later_ends_a_tunnel_that_somebody_watches(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as sshd:
        port = free_port()
        with Terminal([program(), *tunnel_words(sshd, port)], env=quick()) as terminal:
            wait_for(lambda: greets(port))
            change_host_key(sshd)
            sshd.kill_sessions()
            assert terminal.wait() == 255
            assert b"REMOTE HOST IDENTIFICATION HAS CHANGED" in terminal.output
            assert b"HOST KEY CHANGED" in terminal.output


# It ends.


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stopped_ssh_too(sshd: Sshd, signum: int) -> None:
    with Tunnel(sshd) as tunnel:
        tunnel.is_up()
        ssh = tunnel.ssh()
        os.kill(ssh, signal.SIGSTOP)
        wait_for(lambda: psutil.Process(ssh).status() == psutil.STATUS_STOPPED)
        tunnel.send(signum)
        assert tunnel.wait() == -signum
        assert not alive(ssh)
    wait_for(lambda: not sshd.sessions())


@pytest.mark.parametrize("before", [[], ["nohup"]], ids=str)
def test_kill_9_of_kssh_takes_ssh_along(sshd: Sshd, before: list[str]) -> None:
    with Tunnel(sshd, before=before) as tunnel:
        tunnel.is_up()
        ssh = tunnel.ssh()
        tunnel.send(signal.SIGKILL)
        wait_for(lambda: not alive(ssh))
        wait_for(lambda: not greets(tunnel.port))


def test_a_lifetime_ends_it_with_0(sshd: Sshd) -> None:
    with Tunnel(sshd, env={"KSSH_MAXLIFETIME": "2"}) as tunnel:
        assert tunnel.wait() == 0
    wait_for(lambda: not sshd.sessions())


# In the background.


def test_f_returns_0_once_the_forwards_are_up(sshd: Sshd) -> None:
    port = free_port()
    done = run_kssh(["-f", *tunnel_words(sshd, port, side="-R")])
    assert done.returncode == 0, done.stderr
    assert greets(port)
    sshd.kill_sessions()
    wait_for(lambda: greets(port))
    end_background()
    wait_for(lambda: not greets(port))


def test_f_waits_for_a_port_that_is_held(sshd: Sshd) -> None:
    """Unattended, as from cron: an old session may still hold it."""
    with held_port() as (port, holder):
        with Kssh(["-f", *tunnel_words(sshd, port, side="-R")], quick()) as kssh:
            kssh.says(f"port {port}")
            assert kssh.process.poll() is None
            holder.close()
            assert kssh.wait() == 0
        assert greets(port)
    end_background()


def test_a_second_start_finds_the_first(sshd: Sshd) -> None:
    words = ["-f", *tunnel_words(sshd, free_port())]
    assert run_kssh(words).returncode == 0
    (back,) = background()
    done = run_kssh(words)
    assert done.returncode == 0
    assert str(back.pid).encode() in done.stderr
    assert [one.pid for one in background()] == [back.pid]
    end_background()


def test_f_asks_in_the_foreground(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd") as sshd:
        known = tmp_path / "known_hosts"
        port = free_port()
        words = ["-o", "StrictHostKeyChecking=ask", "-o", f"UserKnownHostsFile={known}"]
        with Terminal([program(), "-f", *words, *tunnel_words(sshd, port)]) as terminal:
            before = terminal.modes()
            terminal.expect(HOST_KEY_QUESTION)
            terminal.send(b"yes\r")
            assert terminal.wait() == 0, terminal.output
            assert terminal.modes() == before
        assert len(lines_of(known)) == 1
        assert greets(port)
        # The terminal is gone, and the link comes back without it.
        sshd.kill_sessions()
        wait_for(lambda: greets(port))
        end_background()


def test_cron_s_way_of_starting_it_at_boot(sshd: Sshd, tmp_path: Path) -> None:
    """No HOME, no terminal, a bare PATH, closed standard input; log and state where they are told."""
    port, log = free_port(), tmp_path / "log"
    env = {
        "PATH": "/usr/bin:/bin",
        "KSSH_LOGFILE": str(log),
        "KSSH_STATE_DIR": str(tmp_path / "state"),
        **{name: value for name, value in os.environ.items() if name.startswith("TEST_RUN")},
    }
    command = ["sh", "-c", 'exec "$@" <&-', "sh", program(), "-f", *tunnel_words(sshd, port, side="-R")]
    done = subprocess.run(command, env=env, capture_output=True, check=False, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert greets(port)
    assert re.search(r"kssh\[\d+\]: t: tunnel is up$", log.read_text(), re.MULTILINE)
    end_background()


def test_the_user_s_log_file_holds_ssh_s_lines(sshd: Sshd, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with Tunnel(sshd, "-v", "-E", log) as tunnel:
        tunnel.is_up()
        tunnel.says("tunnel is up")
        tunnel.stop()
        assert "debug1" not in tunnel.said
    assert "debug1: Entering interactive session." in log.read_text()


def test_reconnects_through_a_real_network_leave_nothing_behind(sshd: Sshd, relay: Relay) -> None:
    """Each session is killed; SIGUSR1 cuts the wait short."""
    with Tunnel(sshd, through=relay.port, side="-R", env=quick(LOGLEVEL="ERROR")) as tunnel:

        def is_up_again() -> bool:
            # One for each wait: where ssh runs already, it would end that ssh.
            waits = {record["starts"] for record in records() if record["state"] == "WAITING"}
            if waits - urged:
                urged.update(waits)
                tunnel.send(signal.SIGUSR1)
            return greets(tunnel.port)

        def lose_and_return() -> None:
            first = tunnel.ssh()
            sshd.kill_sessions()
            wait_for(lambda: not alive(first))
            wait_for(is_up_again, what=f"the tunnel; kssh said {tunnel.said!r}")

        tunnel.is_up()
        process = psutil.Process(tunnel.pid)
        urged: set[int] = set()
        lose_and_return()  # some are opened for the first loss, and stay
        descriptors = process.num_fds()
        for _ in range(5):
            lose_and_return()
        wait_for(lambda: process.num_fds() <= descriptors, what="no more descriptors than before")
        assert [child.status() for child in process.children()].count(psutil.STATUS_ZOMBIE) == 0
        tunnel.stop()


# What a knock must not do, and what else a lost tunnel meets.

HEALTHY_S = 10.5  # what a session lasts that counts as one


def test_a_start_that_takes_its_time_is_not_ended_by_a_knock(sshd: Sshd) -> None:
    port = free_port()
    config = sshd.directory / "slow_config"
    config.write_text('Match exec "sleep 1"\n  ServerAliveCountMax 2\nHost *\n' + sshd.config.read_text())
    forward = f"127.0.0.1:{port}:127.0.0.1:{sshd.port}"
    with Kssh(["-F", config, "-N", "-L", forward, "t"]) as kssh:
        wait_for(lambda: greets(port))
        time.sleep(HEALTHY_S)  # only then the next start follows at once, beside a knock
        sshd.kill_sessions()
        kssh.says("again")
        assert kssh.said.count("retry") == 1, kssh.said
        assert greets(port)
        kssh.stop()


def test_a_jump_host_is_not_logged_in_to_at_the_pace_of_knocks(
    sshd: Sshd, relay: Relay, tmp_path: Path
) -> None:
    port = free_port()
    config = behind_a_jump_host(sshd, tmp_path / "config", relay.port)
    forward = f"127.0.0.1:{port}:127.0.0.1:{sshd.port}"
    with Kssh(["-F", config, "-N", "-L", forward, "t"], {"KSSH_BACKOFF_MAX": "3600"}) as kssh:
        wait_for(lambda: greets(port))
        time.sleep(HEALTHY_S)
        relay.refuse()
        relay.reset()
        wait_for(lambda: "retry 2" in kssh.said)
        time.sleep(8)
        assert kssh.said.count("retry") <= 8, kssh.said  # knocks would make it sixteen
        kssh.stop()


def test_the_socket_of_a_lost_session_is_taken_over(sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    words = ["-F", sshd.config, "-N", "-L", f"{path}:127.0.0.1:{sshd.port}", "t"]

    with Kssh(words, quick()) as kssh:
        wait_for(lambda: greets(path))
        sshd.kill_sessions()
        kssh.says("again")
        wait_for(lambda: greets(path))
        kssh.stop()
    path.unlink(missing_ok=True)
    path.touch()
    assert run_kssh(words).returncode == 255  # what is there at the first start is not ours
    assert path.exists()


@pytest.mark.parametrize("what", ["key", "host key"])
def test_a_jump_host_that_will_not_have_us_ends_it(sshd: Sshd, tmp_path: Path, what: str) -> None:
    jump = "PubkeyAuthentication no" if what == "key" else "UserKnownHostsFile /dev/null"
    config = behind_a_jump_host(sshd, tmp_path / "config", sshd.port, jump)
    done = run_kssh(["-F", config, "-N", "-L", f"{free_port()}:127.0.0.1:{sshd.port}", "t"])
    assert done.returncode == 255
    assert b"retry" not in done.stderr
    assert b"giving up" in done.stderr


def test_a_full_disk_does_not_keep_a_tunnel_from_starting(sshd: Sshd) -> None:
    limited = ["sh", "-c", 'trap "" XFSZ; ulimit -f 0; exec "$@"', "sh"]  # no file may get a byte
    with open(os.devnull, "wb") as null, Tunnel(sshd, before=limited, stderr=null) as tunnel:
        tunnel.is_up()
        tunnel.stop()


def test_a_background_start_that_is_killed_leaves_nobody_behind(sshd: Sshd, relay: Relay) -> None:
    relay.refuse()
    with Tunnel(sshd, "-f", through=relay.port, env=quick()) as tunnel:
        wait_for(lambda: len(background()) == 2)
        tunnel.process.kill()
        wait_for(lambda: not background())
