"""Masters of shared connections, and tunnels beside them: what scripts rely on with ssh holds with kssh."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import (
    MARK,
    TIMEOUT_S,
    Argument,
    Relay,
    Sshd,
    alive,
    end,
    free_port,
    marked,
    program,
    run_kssh,
    shell,
    wait_for,
)
from links import PROMPT, Kssh, background, end_background, quick, records

NULL, PIPE = subprocess.DEVNULL, subprocess.PIPE


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Give a folder for control sockets; masters that stayed are ended."""
    yield tmp_path
    end(marked(os.environ[MARK]))


def ask(sshd: Sshd, path: Path, verb: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh", "-F", sshd.config, "-S", path, "-O", verb, "t"],
        capture_output=True,
        check=False,
        timeout=TIMEOUT_S,
    )


# How scripts ask for one: Net::OpenSSH, DataLad, Zed, nix, the openssh crate.
FORMS: list[list[str]] = [
    ["-M", "-f", "-N", "-o", "ControlPersist=60"],
    ["-fNM"],
    ["-f", "-N", "-oControlMaster=yes", "-oControlPersist=yes"],
    ["-f", "-N", "-o", "ControlMaster auto", "-o", "BatchMode=yes"],
    ["-x", "-f", "-N", "-o", "controlmaster = yes", "-T"],
]


@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_a_master_in_the_background_is_there_ten_times_in_a_row(
    sshd: Sshd, folder: Path, form: list[str]
) -> None:
    for number in range(10 if form is FORMS[0] else 2):
        path = folder / f"m{number}"
        # Whoever reads what it says reads to its end: only ssh's own -f lets go of that.
        done = run_kssh(["-F", sshd.config, *form, "-S", path, "t"], stdout=NULL, stderr=NULL)
        assert done.returncode == 0
        assert path.is_socket()
        said = ask(sshd, path, "check")
        assert said.returncode == 0, said.stderr
        shared = ["ssh", "-F", sshd.config, "-S", path, "t", "echo $SSH_CONNECTION"]
        assert subprocess.run(shared, stdout=PIPE, check=True, timeout=TIMEOUT_S).stdout.startswith(
            b"127.0.0.1"
        )
        assert ask(sshd, path, "exit").returncode == 0
        wait_for(lambda path=path: not path.exists(), what="the socket to go")  # type: ignore[misc]


@pytest.mark.parametrize("form", [["-M", "-N"], ["-N", "-o", "ControlMaster=yes"], ["-MNT"]], ids=" ".join)
def test_the_master_is_the_caller_s_child(sshd: Sshd, folder: Path, form: list[str]) -> None:
    path = folder / "m"
    with Kssh(["-F", sshd.config, *form, "-S", path, "t"]) as kssh:
        wait_for(path.exists)
        assert f"(pid={kssh.pid})".encode() in ask(sshd, path, "check").stderr
        assert ask(sshd, path, "exit").returncode == 0
        kssh.wait()
        assert not kssh.said


def test_a_dead_host_is_told_at_once(folder: Path) -> None:
    words: list[Argument] = ["-F", "none", "-p", str(free_port()), "-MN", "-S", folder / "m", "127.0.0.1"]
    done = run_kssh(words)
    assert done.returncode == 255
    assert b"kssh: " not in done.stderr


def test_a_master_goes_on_without_a_forward_that_only_the_file_names(sshd: Sshd, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        taken = holder.getsockname()[1]
        config = sshd.directory / "held_config"
        config.write_text(
            f"Host t\nLocalForward 127.0.0.1:{taken} 127.0.0.1:1\nMatch all\nInclude {sshd.config}\n"
        )
        path = folder / "m"
        with Kssh(["-F", config, "-MN", "-S", path, "t"]):
            wait_for(path.exists)
            assert ask(sshd, path, "check").returncode == 0


def test_a_master_that_shall_be_supervised_is(sshd: Sshd, folder: Path) -> None:
    path = folder / "m"
    with Relay(sshd.port) as relay:
        config = sshd.config_for(relay.port)
        words: list[Argument] = ["-F", config, "-MN", "-S", path, "-o", "ControlPersist=60", "t"]
        with Kssh(words, {"KSSH_RESTART": "always", **quick()}) as kssh:
            wait_for(lambda: ask(sshd, path, "check").returncode == 0)
            relay.reset()
            kssh.says("up again")
            assert f"(pid={kssh.ssh()})".encode() in ask(sshd, path, "check").stderr
            kssh.stop()


# -- ControlPersist in the file ------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["-N", "-S"], ["-fN", "-S"]], ids=" ".join)
def test_a_tunnel_is_not_taken_into_the_background_by_the_file(
    sshd: Sshd, folder: Path, words: list[str]
) -> None:
    path = folder / "m"
    with Relay(sshd.port) as relay:
        config = sshd.config_for(relay.port, "ControlMaster auto\nControlPersist 60\n")
        with Kssh(["-F", config, *words, path, "t"], quick(LOGFILE=folder / "log")) as kssh:
            wait_for(lambda: "tunnel is up" in _said(folder))
            relay.reset()
            wait_for(lambda: "up again" in _said(folder))
            assert "signal 1" not in _said(folder)
            if words[0] == "-N":
                kssh.stop()
            else:
                assert kssh.wait() == 0
                assert background()
                end_background()
        wait_for(lambda: not marked(os.environ[MARK]), what="all to be gone")


def test_a_shell_that_is_a_master_by_the_file_comes_back_and_ends_with_its_own_status(
    sshd: Sshd, folder: Path
) -> None:
    path = folder / "m"
    extra = f"ControlMaster auto\nControlPath {path}\nControlPersist 60\n"
    with Relay(sshd.port) as relay, shell(env=quick()) as terminal:
        config = sshd.config_for(relay.port, extra)
        terminal.send(f"{program()} -F {config} t; echo was=$?\r".encode())
        terminal.expect(PROMPT)
        wait_for(lambda: ask(sshd, path, "check").returncode == 0)
        relay.reset()
        terminal.expect(b"back after")
        terminal.expect(PROMPT)
        wait_for(lambda: ask(sshd, path, "check").returncode == 0)
        terminal.send(b"exit 3\r")
        terminal.expect(b"was=3\r\n")
        assert not path.exists()


def _said(folder: Path) -> str:
    path = folder / "log"
    return path.read_text() if path.exists() else ""


# -- tunnels that are no masters -----------------------------------------------------------------------


def test_a_tunnel_without_a_listener_may_run_as_often_as_one_likes(sshd: Sshd) -> None:
    words: list[Argument] = ["-F", sshd.config, "-N", "t"]
    with Kssh(words) as one, Kssh(words) as two, Kssh([*words[:-1], "-R", "0:127.0.0.1:1", "t"]) as three:
        for kssh in (one, two, three):
            kssh.says("tunnel is up")
        assert len({record["pid"] for record in records()}) == 3
        for kssh in (one, two, three):
            kssh.stop()
    assert not records()


def test_a_name_runs_once(sshd: Sshd) -> None:
    words: list[Argument] = ["-F", sshd.config, "-N", "t"]
    with Kssh(words, {"KSSH_NAME": "mine"}) as one:
        one.says("tunnel is up")
        done = run_kssh(words, {"KSSH_NAME": "mine"})
        assert (done.returncode, b"mine is already running" in done.stderr) == (0, True)
        one.stop()


@pytest.mark.parametrize("command", ["ssh", program()], ids=["ssh", "kssh"])
def test_standard_output_is_given_up_once_the_tunnel_stands(sshd: Sshd, command: str) -> None:
    """Who reads it to its end goes on while the tunnel stays; a LocalCommand has written there before."""
    options = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo local; echo aside >&2"]
    words = [command, "-F", sshd.config, "-N", *options, "t"]
    with subprocess.Popen(words, stdin=NULL, stdout=PIPE, stderr=NULL, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.read() == b"local\n"
        assert alive(process.pid)
        process.terminate()


def test_a_tunnel_that_came_back_has_nothing_to_say_to_who_went_on(sshd: Sshd) -> None:
    options = ["-o", "PermitLocalCommand=yes", "-o", "LocalCommand=echo local"]
    with Relay(sshd.port) as relay:
        words: list[Argument] = ["-F", sshd.config_for(relay.port), "-N", *options, "t"]
        with Kssh(words, quick(), stdout=PIPE) as kssh:
            assert kssh.process.stdout is not None
            with kssh.process.stdout as output:
                assert output.read() == b"local\n"
            relay.reset()
            kssh.says("up again")
            kssh.stop()
