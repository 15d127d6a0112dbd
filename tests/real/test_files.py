"""What other people put in our way is not followed, not believed and not waited for."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness import TIMEOUT_S, absent, alive, fake_ssh, need, need_root, program, run_kssh, wait_for
from links import SESSION, STAY, Kssh, lines_of, sealed, started, with_fake
from pykeepssh.system import files, state as statefile, this_host

UP = SESSION + STAY
STRANGER = 54321  # a user who is not us


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@contextlib.contextmanager
def umask(wanted: int) -> Iterator[None]:
    before = os.umask(wanted)
    try:
        yield
    finally:
        os.umask(before)


def ctl(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ksshctl until it ends."""
    return subprocess.run(
        [program("ksshctl"), *words],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def record(name: str, pid: int, **changes: object) -> dict[str, object]:
    """Return the record of a link that runs as this process, whatever that is."""
    return {
        "version": 1,
        "name": name,
        "kind": "tunnel",
        "destination": name,
        "machine": this_host.name(),
        "pid": pid,
        "pid_started": psutil.Process(pid).create_time(),
        "pid_mark": this_host.process_mark(pid),
        "ssh_pid": None,
        "state": "UP",
        "since": time.time(),
        "starts": 1,
        "reason": "",
        "next": None,
        "forwards": [],
        "logfile": "",
        **changes,
    }


# Which directory counts.


@pytest.mark.parametrize("wanted", [0, 0o022, 0o177, 0o777])
def test_modes_are_not_the_umask_s_to_choose(tmp_path: Path, wanted: int) -> None:
    path = tmp_path / ".local" / "state" / "kssh"
    with umask(wanted):
        assert files.own_directory(str(path)) == str(path)
        files.write_by_rename(str(path / "record"), b"x")
        files.write_by_rename(str(path / "pidfile"), b"x", 0o644)
        statefile.append_line(str(path / "history"), b"x")
        statefile.Lock(str(path / "lock")).acquire()
    made = [tmp_path / ".local", tmp_path / ".local" / "state", path]
    assert [mode(folder) for folder in made] == [0o700] * 3
    assert {file.name: mode(file) for file in path.iterdir()} == {
        "record": 0o600,
        "pidfile": 0o644,
        "history": 0o600,
        "lock": 0o600,
    }


@pytest.mark.parametrize("wanted", ["0", "0177", "0777"])
def test_a_tunnel_under_any_umask(tmp_path: Path, wanted: str) -> None:
    """ssh-copy-id -s sets 0177 and runs sftp, and so kssh where that is ssh."""
    fake = fake_ssh(tmp_path, UP)
    env = {**with_fake(fake, LOGFILE=tmp_path / "log", PIDFILE=tmp_path / "pid"), "KSSH_STATE_DIR": ""}
    under = ["sh", "-c", f'umask {wanted}; exec "$@"', "sh"]
    home = Path(os.environ["HOME"])
    with Kssh(["-N", "host"], env, under) as kssh:
        wait_for(lambda: any("tunnel is up" in line for line in lines_of(tmp_path / "log")))
        made = [home / ".local", home / ".local/state", home / ".local/state/kssh"]
        assert [mode(folder) for folder in made] == [0o700] * 3
        assert {mode(file) for file in made[-1].iterdir()} == {0o600}
        assert (mode(tmp_path / "log"), mode(tmp_path / "pid")) == (0o600, 0o644)
        kssh.stop()


GOOD = {
    "ours": lambda path: None,
    "ours, others may read it": lambda path: path.chmod(0o755),
    "in a sticky directory": lambda path: path.parent.chmod(0o1777),
    "by a link of ours": lambda path: (path.rename(path.with_name("real")), path.symlink_to("real")),
    "by a link up and down": lambda path: (
        path.rename(path.with_name("real")),
        path.symlink_to(f"../{path.parent.name}/./real"),
    ),
}
BAD = {
    "others may write to it": lambda path: path.chmod(0o777),
    "sticky": lambda path: path.chmod(0o1777),
    "others may write above it": lambda path: path.parent.chmod(0o777),
    "no directory": lambda path: (path.rmdir(), path.touch()),
    "below a file": lambda path: (path.rmdir(), path.parent.rmdir(), path.parent.touch()),
    "a link in a circle": lambda path: (path.rmdir(), path.symlink_to(path.name)),
}
# What takes another user to build.
FOREIGN = {
    "somebody else's": lambda path: os.chown(path, STRANGER, STRANGER),
    "below somebody else's": lambda path: os.chown(path.parent, STRANGER, STRANGER),
    "a group may write to it": lambda path: (os.chown(path, -1, STRANGER), path.chmod(0o770)),
    "by somebody else's link": lambda path: (
        path.rename(path.with_name("real")),
        path.symlink_to("real"),
        os.lchown(path, STRANGER, STRANGER),
        path.parent.chmod(0o1777),
    ),
}


@pytest.mark.parametrize("case", GOOD)
def test_a_directory_that_counts(tmp_path: Path, case: str) -> None:
    path = tmp_path / "above" / "kssh"
    path.mkdir(parents=True, mode=0o700)
    GOOD[case](path)
    assert files.own_directory(str(path)) == os.path.realpath(path)
    assert files.existing_own_directory(str(path)) == os.path.realpath(path)


@pytest.mark.parametrize("case", [*BAD, *FOREIGN])
def test_a_directory_that_does_not_count(tmp_path: Path, case: str) -> None:
    path = tmp_path / "above" / "kssh"
    path.mkdir(parents=True, mode=0o700)
    if case in FOREIGN:
        need_root()
    {**BAD, **FOREIGN}[case](path)
    for look in (files.own_directory, files.existing_own_directory):
        with pytest.raises(OSError, match=r".") as refused:
            look(str(path))
        assert refused.value.strerror


def test_a_group_of_one_s_own_may_write(tmp_path: Path) -> None:
    """Where each user has such a group the umask is 002, and ~/.local has mode 0775."""
    own = os.stat(tmp_path).st_gid
    path = tmp_path / "kssh"
    path.mkdir()
    path.chmod(0o775)
    if files._is_private_group(own):
        assert files.own_directory(str(path))
    else:
        with pytest.raises(PermissionError, match="others may write"):
            files.own_directory(str(path))


def test_nothing_is_made_where_somebody_else_leads_us(tmp_path: Path) -> None:
    """With sudo that keeps HOME, root would make directories where alice's links point."""
    need_root()
    home, elsewhere = tmp_path / "alice", tmp_path / "etc"
    for folder in (home, elsewhere):
        folder.mkdir()
    (home / ".local").symlink_to(elsewhere)
    os.lchown(home / ".local", STRANGER, STRANGER)
    os.chown(home, STRANGER, STRANGER)
    with pytest.raises(PermissionError, match="belongs to"):
        files.own_directory(str(home / ".local/state/kssh"))
    assert list(elsewhere.iterdir()) == []


ODD = {
    "a FIFO": os.mkfifo,
    "a directory": lambda path: path.mkdir(),
    "a link": lambda path: (path.with_name("real").write_text("x"), path.symlink_to("real")),
    "one that others may write": lambda path: (path.write_text("x"), path.chmod(0o666)),
    "somebody else's": lambda path: (path.write_text("x"), os.chown(path, STRANGER, STRANGER)),
    "a device": lambda path: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),  # zero(4): no end
}


@pytest.mark.parametrize("case", ODD)
def test_a_file_that_is_not_opened(tmp_path: Path, case: str) -> None:
    if case in ("somebody else's", "a device"):
        need_root()
    path = tmp_path / "record"
    ODD[case](path)
    assert files.read(str(path), 100) is None
    with pytest.raises(OSError, match=r"."):
        statefile.append_line(str(path), b"line\n")


# kssh's state.


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("ending", ["json", "lock", "history", "other.json"])
def test_nothing_in_the_way_of_a_state_file_holds_a_tunnel_up(tmp_path: Path, case: str, ending: str) -> None:
    """A FIFO named like any record hung every start, and ksshctl with it."""
    if case in ("somebody else's", "a device"):
        need_root()
    fake = fake_ssh(tmp_path, UP)
    state = Path(os.environ["KSSH_STATE_DIR"])
    state.mkdir(mode=0o700)
    ODD[case](state / f"{this_host.key()}.link.{ending}")
    with Kssh(["-N", "host"], with_fake(fake, NAME="link")) as kssh:
        kssh.says("tunnel is up")
        assert ctl("status").returncode == 0
        assert "already running" not in kssh.said
        kssh.stop()


def test_another_user_s_lock_does_not_say_that_a_tunnel_runs(tmp_path: Path) -> None:
    """Whoever may open a file may lock it; so nobody else may open ours."""
    need_root()
    fake = fake_ssh(tmp_path, UP)
    state = Path(os.environ["KSSH_STATE_DIR"])
    state.mkdir(mode=0o700)
    lock = state / f"{this_host.key()}.link.lock"
    lock.touch()
    lock.chmod(0o644)
    hold = (
        "import fcntl, os, sys; os.setuid(54321); fcntl.flock(int(sys.argv[1]), fcntl.LOCK_EX); "
        "print(flush=True); input()"
    )
    fd = os.open(lock, os.O_RDONLY)
    words = [sys.executable, "-c", hold, str(fd)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(words, pass_fds=[fd], **pipes) as stranger:
        os.close(fd)
        assert stranger.stdout is not None
        stranger.stdout.readline()
        with Kssh(["-N", "host"], with_fake(fake, NAME="link")) as kssh:
            kssh.says("tunnel is up")
            assert mode(lock) == 0o600
            second = run_kssh(["-N", "host"], env=with_fake(fake, NAME="link"))
            assert (second.returncode, b"already running" in second.stderr) == (0, True)  # ours counts
            kssh.stop()
        stranger.kill()


def test_a_state_directory_that_others_may_write_to_is_named(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    state = Path(os.environ["KSSH_STATE_DIR"])
    state.mkdir()
    state.chmod(0o777)
    for done in (
        run_kssh(["-N", "host"], env=with_fake(fake)),
        run_kssh(["host", "true"], env=with_fake(fake)),
    ):
        assert done.returncode == 255
        assert b"others may write to it (mode 0777)" in done.stderr
    assert fake.starts == []
    asked = ctl("status")
    assert (asked.returncode, "others may write to it" in asked.stderr) == (2, True)


def test_a_usual_one_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    usual = Path(os.environ["HOME"], ".local/state/kssh")
    usual.mkdir(parents=True)
    usual.chmod(0o777)
    env = {**with_fake(fake), "KSSH_STATE_DIR": "", "TMPDIR": str(tmp_path)}
    with Kssh(["-N", "host"], env) as kssh:
        kssh.says("tunnel is up")
        assert f"cannot use {usual}: others may write to it (mode 0777); using {tmp_path}/kssh-" in kssh.said
        assert list(usual.iterdir()) == []
        kssh.stop()


# One of each.


def test_a_tunnel_is_known_whether_ssh_tells_its_configuration_in_time_or_not(tmp_path: Path) -> None:
    """A second one retried for ever on the port that the first one held."""
    fake = fake_ssh(tmp_path, UP, {"hostname": "10.0.0.1", "user": "alice", "port": "2200"})
    slow = tmp_path / "slow"
    slow.write_text(f'#!/bin/sh\n[ "$1" = -G ] && exec sleep 600\nexec {fake.path} "$@"\n')
    slow.chmod(0o755)
    words = ["-N", "-L", "1:h:2", "host"]
    with Kssh(words, with_fake(fake)) as kssh:
        kssh.says("tunnel is up")
        second = run_kssh(words, env={"KSSH_SSH": str(slow)})
        assert (second.returncode, b"already running" in second.stderr) == (0, True), second.stderr
        kssh.stop()


def test_a_tunnel_is_known_by_another_name_of_this_machine_too(tmp_path: Path) -> None:
    """At boot a machine may be called localhost, and with each network something else."""
    if not this_host.identity():
        absent("machine-id(5)")
    fake = fake_ssh(tmp_path, UP)
    words = ["-N", "-L", "1:h:2", "host"]
    renamed = [need("unshare"), "--uts", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    renamed += ["sh", "-c", 'hostname another-name; exec "$@"', "sh"]
    with Kssh(words, with_fake(fake), renamed) as kssh:
        kssh.says("tunnel is up")
        second = run_kssh(words, env=with_fake(fake))
        assert (second.returncode, b"already running" in second.stderr) == (0, True), second.stderr
        assert "another-name" in json.dumps(json.loads(ctl("status", "--json").stdout)["links"])
        assert ctl("stop", "host").returncode == 0
        assert kssh.wait() == -signal.SIGTERM


def test_records_and_histories_of_an_older_kssh_are_read(bystander: psutil.Process) -> None:
    """Their files begin with the host name."""
    state = Path(os.environ["KSSH_STATE_DIR"])
    state.mkdir(mode=0o700)
    here = this_host.name()
    (state / f"{here}.old.json").write_text(json.dumps(record("old", bystander.pid)))
    (state / f"{here}.old.history").write_text('{"at":1,"event":"up","pid":1,"start":1}\n')
    assert ctl("status", "old").returncode == 0
    assert ctl("log", "old").stdout
    dead = state / f"{here}.dead.json"
    dead.write_text(json.dumps({**record("dead", bystander.pid), "pid_mark": "", "pid_started": 1.0}))
    assert ctl("status").returncode == 0
    assert not dead.exists()  # and cleaned


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process that has nothing to do with any link."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def test_ksshctl_believes_no_record_of_another_user(tmp_path: Path, bystander: psutil.Process) -> None:
    """With sudo that keeps HOME: stop killed what alice named, and log printed what only root may read."""
    need_root()
    secret = tmp_path / "shadow"
    secret.write_text("root:secret\n")
    secret.chmod(0o600)
    home = tmp_path / "alice"
    state = home / ".local/state/kssh"
    state.mkdir(parents=True)
    forged = state / f"{this_host.key()}.trap.json"
    forged.write_text(json.dumps(record("trap", bystander.pid, logfile=str(secret))))
    for path in (home, home / ".local", home / ".local/state", state, forged):
        os.chown(path, STRANGER, STRANGER)
    variables = {"HOME": str(home), "KSSH_STATE_DIR": "", "TMPDIR": str(tmp_path)}
    for words in (["stop", "trap"], ["log", "trap"], ["status", "trap"], ["retry", "trap"]):
        asked = ctl(*words, **variables)
        assert asked.returncode != 0
        assert f"ignoring {state}" in asked.stderr
        assert "secret" not in asked.stdout
    assert f"ignoring {state}" in ctl("status", **variables).stdout
    assert alive(bystander.pid)
    assert forged.exists()  # and not cleaned either
    # One file of another user's in a directory of ours, which was open to all for a while.
    for path in (home, home / ".local", home / ".local/state", state):
        os.chown(path, 0, 0)
    assert ctl("stop", "trap", **variables).returncode != 0
    assert alive(bystander.pid)


def test_a_record_that_names_another_user_s_process_names_none(tmp_path: Path) -> None:
    need_root()
    state = Path(os.environ["KSSH_STATE_DIR"])
    state.mkdir(mode=0o700)
    words = [sys.executable, "-c", "import os, time; os.setuid(54321); print(flush=True); time.sleep(600)"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as stranger:
        assert stranger.stdout is not None
        stranger.stdout.readline()
        (state / f"{this_host.key()}.trap.json").write_text(json.dumps(record("trap", stranger.pid)))
        assert ctl("stop", "trap").returncode != 0
        assert alive(stranger.pid)
        stranger.kill()


# The FIFO.


@pytest.mark.parametrize("name", ["XDG_RUNTIME_DIR", "TMPDIR"])
@pytest.mark.parametrize("whose", ["somebody else's", "below somebody else's", "others may write to it"])
def test_the_log_fifo_is_made_in_no_directory_of_another_user(tmp_path: Path, name: str, whose: str) -> None:
    """Its owner could swap the FIFO for a link, and ssh would append to the file that it points to."""
    if whose in FOREIGN:
        need_root()
    fake = fake_ssh(tmp_path, UP)
    path = tmp_path / "above" / "run"
    path.mkdir(parents=True, mode=0o700)
    {**BAD, **FOREIGN}[whose](path)
    with Kssh(["-N", "host"], {**with_fake(fake), name: str(path)}) as kssh:
        words = started(fake).argv
        assert not words[words.index("-E") + 1].startswith(str(path))
        kssh.says("tunnel is up")
        kssh.stop()
    assert list(path.iterdir()) == []


# The pidfile.


def test_a_pidfile_changes_the_mode_of_no_other_file(tmp_path: Path) -> None:
    """Between rename and chmod somebody else put a link there, and the mode of what it points to changed."""
    secret, path = tmp_path / "secret", tmp_path / "pid"
    secret.touch(0o600)
    done = threading.Event()

    def swap() -> None:
        link = tmp_path / "link"
        while not done.is_set():
            with contextlib.suppress(OSError):
                link.symlink_to(secret)
                link.rename(path)

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        for _ in range(2000):
            statefile.Pidfile(str(path))
            assert mode(secret) == 0o600
    finally:
        done.set()
        attacker.join()


# Nowhere to write, nowhere to be.


def test_where_nothing_can_be_written_a_tunnel_runs_all_the_same(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    env = {**with_fake(fake), "KSSH_STATE_DIR": "", "HOME": "/root/nowhere"}
    with Kssh(["-N", "-L", "1:h:2", "host"], env, sealed(tmp_path)) as kssh:
        kssh.says("tunnel is up")
        assert [line for line in kssh.said.splitlines() if "without lock" in line], kssh.said
        assert len(kssh.said.splitlines()) == 2, kssh.said
        kssh.stop()
    assert ctl("status", KSSH_STATE_DIR="").returncode == 0


def test_a_directory_in_tmp_that_somebody_else_made_blocks_nobody(tmp_path: Path) -> None:
    need_root()
    fake = fake_ssh(tmp_path, UP)
    squatted = tmp_path / f"kssh-{os.getuid()}"
    squatted.mkdir()
    os.chown(squatted, STRANGER, STRANGER)
    env = {**with_fake(fake), "KSSH_STATE_DIR": "", "HOME": "/root/nowhere", "TMPDIR": str(tmp_path)}
    with Kssh(["-N", "host"], env, sealed(tmp_path)) as kssh:
        kssh.says("tunnel is up")
        kssh.stop()
    assert list(squatted.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["-N", "host"], ["-f", "-N", "host"], ["host", "true"], ["-V"]], ids=" ".join
)
def test_a_working_directory_that_is_gone_does_not_matter(tmp_path: Path, words: list[str]) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}exit 3")
    env = with_fake(fake, FIRST_START="fail", MAXSTART=1)
    into = ["sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', tmp_path / "gone"]
    done = subprocess.run(
        [*into, program(), *words],
        env={**os.environ, **env},
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == (0 if "-V" in words or "-f" in words else 3)


@pytest.mark.parametrize("name", ["PIDFILE", "LOGFILE", "STATE_DIR", "HOOK", "SSH"])
def test_a_relative_name_is_named_where_the_working_directory_is_gone(tmp_path: Path, name: str) -> None:
    fake = fake_ssh(tmp_path, UP)
    into = ["sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', tmp_path / "gone"]
    env = {**os.environ, **with_fake(fake), f"KSSH_{name}": "./relative"}
    for words in (["-N", "host"], ["host", "true"]):
        done = subprocess.run(
            [*into, program(), *words], env=env, capture_output=True, timeout=TIMEOUT_S, check=False
        )
        assert (done.returncode, done.stderr.count(b"\n")) == (255, 1), done.stderr
        assert done.stderr.startswith(f"kssh: KSSH_{name}=./relative: expected ".encode())
    assert fake.starts == []


@pytest.mark.parametrize(
    "verb", [["keepalive", "show", "--user"], ["keepalive", "set", "--user"], ["doctor"]]
)
def test_ksshctl_names_a_working_directory_that_is_gone(tmp_path: Path, verb: list[str]) -> None:
    into = ["sh", "-c", 'mkdir "$0" && cd "$0" && rmdir "$0" && exec "$@"', tmp_path / "gone"]
    words = [*into, program("ksshctl"), *verb, "--config", "relative"]
    done = subprocess.run(words, capture_output=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"ksshctl: the working directory was removed")
