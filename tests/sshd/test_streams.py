"""Commands, pipes and queries: kssh becomes ssh, and nobody can tell them apart."""

from __future__ import annotations

import filecmp
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from harness import MARK, TIMEOUT_S, Argument, Relay, Sshd, alive, marked, need, program, run_kssh, wait_for
from links import Kssh, lines_of

NULL, PIPE = subprocess.DEVNULL, subprocess.PIPE


@pytest.fixture
def sshd(shared_sshd: Sshd) -> Sshd:
    return shared_sshd


def as_ssh(*words: Argument, **run: object) -> subprocess.CompletedProcess[bytes]:
    """Run ssh itself, as run_kssh() runs kssh."""
    options: dict[str, object] = {"stdin": subprocess.DEVNULL, "capture_output": True, **run}
    return subprocess.run(["ssh", *words], check=False, timeout=TIMEOUT_S, **options)  # type: ignore[call-overload, no-any-return]


def result(done: subprocess.CompletedProcess[bytes]) -> tuple[int, bytes, bytes]:
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130, 255])
def test_the_status_is_the_command_s_and_it_ran_once(sshd: Sshd, tmp_path: Path, status: int) -> None:
    note = tmp_path / "note"
    done = run_kssh(["-F", sshd.config, "t", f"echo ran >>{note}; exit {status}"])
    assert result(done) == (status, b"", b"")
    assert lines_of(note) == ["ran"]


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_a_command_ended_by_a_signal_ends_as_with_ssh(sshd: Sshd, name: str) -> None:
    words = ["-F", sshd.config, "t", f"kill -{name} $$"]
    assert result(run_kssh(words)) == result(as_ssh(*words))


def test_five_megabytes_pass_both_ways_unchanged(sshd: Sshd) -> None:
    data = random.Random(5).randbytes(5_000_000)
    done = run_kssh(["-F", sshd.config, "t", "cat"], stdin=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_standard_error_stays_apart(sshd: Sshd) -> None:
    done = run_kssh(["-F", sshd.config, "t", "echo out; echo err >&2; exit 4"])
    assert result(done) == (4, b"out\n", b"err\n")


def test_the_command_is_never_parsed(sshd: Sshd, tmp_path: Path) -> None:
    words = ["printf", "'<%s>'", "-V", "-G", "--all", "-M", "5", "-f", "''", "'a  b'", "-N"]
    done = run_kssh(["-F", sshd.config, "t", *words])
    assert done.stdout == b"<-V><-G><--all><-M><5><-f><><a  b><-N>"


QUERIES: list[list[str]] = [
    [],
    ["-V"],
    ["-G", "t"],
    ["-G", "-o", "Port=77", "t", "some command"],
    ["-Q", "cipher"],
    ["-Q", "no-such-list"],
    ["-O", "check", "t"],
    ["-O", "check", "-S", "/nonexistent/control", "t"],
    ["-O", "no-such-command", "t"],
    ["-Y"],
    ["-K"],
    ["-p"],
    ["-p", "70000", "t"],
    ["-o", "NoSuchKeyword=1", "t", "true"],
    ["-o", "Port", "t", "true"],
    ["-h"],
    ["-F", "/nonexistent/config", "t", "true"],
    ["-W", "nowhere", "t"],
    ["-L", "nonsense", "t", "true"],
    ["-e", "too-long", "t"],
    ["--", "-t"],
]


@pytest.mark.parametrize("words", QUERIES, ids=" ".join)
def test_queries_and_mistakes_are_answered_by_ssh(sshd: Sshd, words: list[str]) -> None:
    given = words if "-F" in words else ["-F", str(sshd.config), *words]
    assert result(run_kssh(given)) == result(as_ssh(*given))
    assert result(run_kssh(words)) == result(as_ssh(*words))


def test_a_shared_master_is_asked_and_told_to_end(sshd: Sshd, tmp_path: Path) -> None:
    control = ["-F", sshd.config, "-S", tmp_path / "master"]
    with subprocess.Popen([program(), *control, "-MNT", "t"], stdin=subprocess.DEVNULL) as master:
        wait_for((tmp_path / "master").exists)
        words: list[Argument] = [*control, "-O", "check", "t"]
        checked = run_kssh(words)
        assert result(checked) == result(as_ssh(*words))
        assert b"Master running" in checked.stderr
        assert run_kssh([*control, "t", "echo shared; exit 3"]).stdout == b"shared\n"
        assert run_kssh([*control, "-O", "exit", "t"]).returncode == 0
        assert master.wait(TIMEOUT_S) is not None


def test_w_connects_standard_input_to_a_port(sshd: Sshd) -> None:
    done = run_kssh(["-F", sshd.config, "-W", f"127.0.0.1:{sshd.port}", "t"], stdin=b"SSH-2.0-probe\r\n")
    assert done.stdout.startswith(b"SSH-2.0-OpenSSH")


def test_s_asks_for_a_subsystem(sshd: Sshd) -> None:
    hello = b"\0\0\0\5\1\0\0\0\3"  # SSH_FXP_INIT of version 3
    with Kssh(["-F", sshd.config, "-s", "t", "sftp"], stdin=PIPE, stdout=PIPE) as kssh:
        to_server, from_server = kssh.process.stdin, kssh.process.stdout
        assert to_server and from_server
        with from_server:
            with to_server:
                to_server.write(hello)
                to_server.flush()
                assert from_server.read(9)[4:] == b"\2\0\0\0\3"
            assert kssh.wait() == 0


def test_a_jump_host_is_reached_although_kssh_is_the_ssh_in_path(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "ssh").symlink_to(program())
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = run_kssh(["-F", sshd.config, "-J", "t", "t", "echo there; exit 6"], env={"PATH": path})
    assert (done.returncode, done.stdout) == (6, b"there\n"), done.stderr


# Programs that run ssh.


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of random bytes."""
    path = tmp_path / "big"
    path.write_bytes(random.Random(1).randbytes(500_000))
    return path


@pytest.mark.parametrize("protocol", ["-O", "-s"])
def test_scp_copies_there_and_back(sshd: Sshd, tmp_path: Path, big: Path, protocol: str) -> None:
    scp = [need("scp"), "-q", protocol, "-S", program(), "-F", sshd.config]
    there, back = tmp_path / "there", tmp_path / "back"
    subprocess.run([*scp, big, f"t:{there}"], check=True)
    subprocess.run([*scp, f"t:{there}", back], check=True)
    assert filecmp.cmp(big, back, shallow=False)
    assert subprocess.run([*scp, "t:/nonexistent", back], check=False, stderr=PIPE).returncode == 1


def test_sftp_copies_there_and_back(sshd: Sshd, tmp_path: Path, big: Path) -> None:
    batch = f"put {big} {tmp_path}/there\nget {tmp_path}/there {tmp_path}/back\n".encode()
    sftp = [need("sftp"), "-q", "-S", program(), "-F", sshd.config, "-b", "-", "t"]
    subprocess.run(sftp, input=batch, check=True, stdout=PIPE)
    assert filecmp.cmp(big, tmp_path / "back", shallow=False)


def test_rsync_copies_there_and_back(sshd: Sshd, tmp_path: Path, big: Path) -> None:
    rsync = [need("rsync"), "-e", f"{program()} -F {sshd.config}"]
    subprocess.run([*rsync, big, f"t:{tmp_path}/there"], check=True)
    subprocess.run([*rsync, f"t:{tmp_path}/there", tmp_path / "back"], check=True)
    assert filecmp.cmp(big, tmp_path / "back", shallow=False)


@pytest.mark.parametrize("variable", ["GIT_SSH", "GIT_SSH_COMMAND"])
def test_git_clones_and_pushes(sshd: Sshd, tmp_path: Path, variable: str) -> None:
    git = [need("git"), "-c", "user.name=n", "-c", "user.email=e", "-c", "init.defaultBranch=main"]
    ssh = f"{program()} -F {sshd.config}"
    if variable == "GIT_SSH":
        script = tmp_path / "kssh"
        script.write_text(f'#!/bin/sh\nexec {ssh} "$@"\n')
        script.chmod(0o755)
        ssh = str(script)
    environment = {**os.environ, variable: ssh}
    bare, clone, other = tmp_path / "bare", tmp_path / "clone", tmp_path / "other"
    subprocess.run([*git, "init", "-q", "--bare", bare], check=True)
    subprocess.run([*git, "clone", "-q", f"t:{bare}", clone], env=environment, check=True, stderr=PIPE)
    subprocess.run([*git, "-C", clone, "commit", "-q", "--allow-empty", "-m", "one"], check=True)
    subprocess.run([*git, "-C", clone, "push", "-q", "origin", "HEAD:main"], env=environment, check=True)
    subprocess.run([*git, "clone", "-q", f"t:{bare}", other], env=environment, check=True)
    log = subprocess.run([*git, "-C", other, "log", "--format=%s"], check=True, stdout=PIPE)
    assert log.stdout == b"one\n"


# What becomes of the process.


def test_after_the_exec_no_python_remains(sshd: Sshd) -> None:
    with Kssh(["-F", sshd.config, "t", "sleep 600"]) as kssh:
        exe = Path(f"/proc/{kssh.pid}/exe")
        wait_for(lambda: exe.resolve().name == "ssh")
        wait_for(sshd.sessions)
        assert [process.pid for process in marked(os.environ[MARK])] == [kssh.pid]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_signal_for_the_caller_s_child_reaches_ssh(sshd: Sshd, signum: int) -> None:
    with Kssh(["-F", sshd.config, "t", "sleep 600"]) as kssh:
        wait_for(lambda: any(psutil.Process(one).children() for one in sshd.sessions()))
        kssh.send(signum)
        mine = kssh.wait()
    ssh = ["ssh", "-F", sshd.config, "t", "sleep 600"]
    wait_for(lambda: not sshd.sessions())
    with subprocess.Popen(ssh, stdin=NULL, stdout=NULL, stderr=NULL) as plain:
        wait_for(lambda: any(psutil.Process(one).children() for one in sshd.sessions()))
        plain.send_signal(signum)
        assert mine == plain.wait(TIMEOUT_S)


@pytest.mark.parametrize("command", ["yes", "head -c 5 /dev/zero", "cat /nonexistent"])
def test_a_pipe_whose_reader_leaves_ends_as_with_ssh(sshd: Sshd, command: str) -> None:
    script = '"$@" | head -1 >/dev/null; echo "${PIPESTATUS[@]}"'

    def statuses(ssh: str) -> bytes:
        words = [need("bash"), "-c", script, "bash", ssh, "-F", sshd.config, "t", command]
        return subprocess.run(
            words, check=True, stdin=NULL, stdout=PIPE, stderr=PIPE, timeout=TIMEOUT_S
        ).stdout

    assert statuses(program()) == statuses("ssh")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_descriptors_end_as_with_ssh(sshd: Sshd, tmp_path: Path, closed: str) -> None:
    def status_and_note(ssh: str) -> tuple[int, list[str]]:
        note = tmp_path / "note"
        note.unlink(missing_ok=True)
        script = f'exec "$@" {closed}'
        command = ["sh", "-c", script, "sh", ssh, "-F", sshd.config, "t", f"echo ran >>{note}; exit 7"]
        done = subprocess.run(command, check=False, stdin=NULL, stdout=PIPE, stderr=PIPE, timeout=TIMEOUT_S)
        return done.returncode, lines_of(note)

    assert status_and_note(program()) == status_and_note("ssh") == (7, ["ran"])


def test_a_locale_is_not_sent_that_the_caller_does_not_have(tmp_path: Path) -> None:
    with Sshd(tmp_path / "sshd", "AcceptEnv LC_*") as sshd:
        config = sshd.config_for(sshd.port, "SendEnv LC_*")
        script = 'unset LANG LC_ALL LC_CTYPE; exec "$@"'
        words = ["sh", "-c", script, "sh", program(), "-F", config, "t", "echo ${LC_CTYPE-unset}"]
        assert subprocess.run(words, check=True, stdin=NULL, stdout=PIPE).stdout == b"unset\n"


# A link that dies.


def test_a_command_whose_link_dies_ran_once(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    note = tmp_path / "note"
    words = ["-F", sshd.config_for(relay.port), "t", f"echo ran >>{note}; exec sleep 600"]
    with Kssh(words) as kssh:
        wait_for(lambda: lines_of(note))
        sshd.kill_sessions()
        assert kssh.wait() == 255
    assert len(relay.accepted) == 1
    assert lines_of(note) == ["ran"]


def test_half_an_upload_is_not_continued_by_a_second_ssh(sshd: Sshd, relay: Relay, tmp_path: Path) -> None:
    target = tmp_path / "target"
    words = ["-F", sshd.config_for(relay.port), "t", f"cat >>{target}"]
    with Kssh(words, stdin=subprocess.PIPE) as kssh:
        upload = kssh.process.stdin
        assert upload
        upload.write(b"first half\n")
        upload.flush()
        wait_for(lambda: lines_of(target))
        sshd.kill_sessions()
        assert kssh.wait() == 255
        upload.write(b"second half\n")
        with pytest.raises(BrokenPipeError):
            upload.flush()
    assert len(relay.accepted) == 1
    assert lines_of(target) == ["first half"]


def test_a_frozen_command_ends_by_the_keepalive_that_was_added(sshd: Sshd, relay: Relay) -> None:
    words = ["-F", sshd.config_for(relay.port), "t", "echo ready; exec sleep 600"]
    env = {"KSSH_INTERVAL": "1", "KSSH_COUNTMAX": "1"}
    with Kssh(words, env, stdout=subprocess.PIPE) as kssh:
        assert kssh.process.stdout
        assert kssh.process.stdout.readline() == b"ready\n"
        frozen = time.monotonic()
        relay.freeze()
        assert kssh.wait() == 255
        assert time.monotonic() - frozen > 1
        assert "not responding" in kssh.said
        kssh.process.stdout.close()


def test_an_ssh_in_the_background_is_not_waited_for(sshd: Sshd, tmp_path: Path) -> None:
    note = tmp_path / "note"
    words = ["-F", sshd.config, "-f", "t", f"echo $PPID >{note}; exec sleep 600"]
    # ssh -f keeps its caller's standard error: captured, it would never end.
    done = run_kssh(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert done.returncode == 0
    wait_for(lambda: lines_of(note))
    left = marked(os.environ[MARK])
    assert [process.name() for process in left] == ["ssh"]
    left[0].terminate()
    wait_for(lambda: not alive(left[0].pid))
