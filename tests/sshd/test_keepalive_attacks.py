"""ksshctl keepalive where somebody else wants to be root: processes, sockets, files and locks of others."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from harness import Sshd, alive, end, free_port, need, need_root, program, wait_for
from links import sealed

NOBODY = 65534
WHO = pwd.getpwuid(NOBODY).pw_name


def ksshctl(*words: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ksshctl, as nobody who came by ssh."""
    plain = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    return subprocess.run(
        [sys.executable, program("ksshctl"), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**plain, **(env or {})},
    )


def keepalive(*words: object, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run ksshctl keepalive."""
    return ksshctl("keepalive", *words, env=env)


def reachable(path: Path) -> Path:
    """Let other users come to a directory: pytest makes it and those above it for their owner only."""
    for above in (path, *path.parents[:-2]):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o011)
    return path


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """A directory that another user can reach and write to."""
    path = reachable(tmp_path) / "open"
    path.mkdir()
    path.chmod(0o777)
    return path


@contextlib.contextmanager
def titled(words: Sequence[str], user: int | None) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a user's with a command line of its choice, which ends at a HUP."""
    with subprocess.Popen(words, executable="/bin/sh", stdin=-1, user=user, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def config_in(folder: Path) -> Path:
    """An sshd_config that nobody uses."""
    folder.mkdir()
    config = folder / "sshd_config"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    config.write_text(f"HostKey {folder}/key\nPort 1\nPidFile none\n")
    return config


@pytest.mark.parametrize("whose", ["another user", "our own"])
@pytest.mark.parametrize("how", ["as 8.2 and later", "as before 8.2"])
def test_a_process_that_calls_itself_sshd_is_left_alone(
    how: str, whose: str, tmp_path: Path, open_to_all: Path
) -> None:
    """Its title was believed, and when it died of the reload, root ran the words in its title."""
    if whose == "another user":
        need_root()
    config = config_in(tmp_path / "etc")
    evil, ran = open_to_all / "sshd", open_to_all / "ran"
    evil.write_text(f"#!/bin/sh\nid -u >{ran}\n")
    evil.chmod(0o755)
    wait = ["-c", "read x"]
    words = [str(evil), *wait, "-f", str(config)]
    if how == "as 8.2 and later":
        words = [f"sshd: {evil} -f {config} [listener] 0 of 10-100 startups", *wait]
    with titled(words, NOBODY if whose == "another user" else None) as process:
        done = keepalive("set", "--server", "--config", config)
        assert (done.returncode, done.stderr) == (0, "")
        assert "no running sshd uses" in done.stdout
        assert process.poll() is None
    assert not ran.exists()


def test_neither_a_process_of_a_user_nor_its_words_come_in_where_the_true_one_runs(
    sshd: Sshd, open_to_all: Path
) -> None:
    need_root()
    config = config_of(sshd)
    ran = open_to_all / "ran"
    evil = open_to_all / "sshd"
    evil.write_text(f"#!/bin/sh\nid -u >{ran}\n")
    evil.chmod(0o755)
    with titled(
        [f"sshd: {evil} -f {config} [listener] 0 of 10-100 startups", "-c", "read x"], NOBODY
    ) as other:
        done = keepalive("set", "--server", "--config", config, "--confirm-within", "600")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"HUP to pid {sshd.pid}" in done.stdout
        assert keepalive("confirm").returncode == 0
        assert other.poll() is None
    assert not ran.exists()


def config_of(sshd: Sshd) -> Path:
    return sshd.directory / "sshd_config"


def daemons(config: Path) -> list[psutil.Process]:
    """Return the processes that have a configuration file in their title."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(config) in " ".join(process.info["cmdline"] or []) and alive(process.pid)
    ]


class Changed(Sshd):
    """An sshd that, when it reads a file with 66 in it, does something else first: a line of bash."""

    def __init__(self, directory: Path, line: str, extra: str = "", options: str = "") -> None:
        super().__init__(directory, extra)
        wrapper = directory / "sshd"
        wrapper.write_text(
            "#!/bin/bash\n"
            f"grep -q '^ClientAliveInterval 66' {directory}/sshd_config && {{ {line}; }}\n"
            f'exec -a "$0" {self._program} {options} "$@"\n'
        )
        wrapper.chmod(0o755)
        self._program = str(wrapper)

    def stop(self) -> None:
        """End it, and what was started in its place, which has emptied its environment."""
        super().stop()
        end(daemons(config_of(self)))


def test_a_daemon_that_died_is_started_again_with_our_words_where_it_listened(tmp_path: Path) -> None:
    """Its own words stand where it can write: none of them is run, not even the name of the program."""
    port = free_port()
    with Changed(tmp_path / "sshd", "exit 1", options=f"-p {port}") as sshd:
        config = config_of(sshd)
        # "-p" counts only where the file says no address.
        config.write_text(config.read_text().replace("ListenAddress 127.0.0.1\n", ""))
        os.kill(sshd.pid, signal.SIGHUP)
        wait_for(lambda: f"port {port}." in sshd.log)
        before = config.read_bytes()
        done = keepalive("set", "--server", "--config", config, "--interval", "66")
        assert done.returncode == 1
        assert f"does not greet on 127.0.0.1 port {port}" in done.stderr
        assert "the old file is back, sshd greets" in done.stderr
        assert config.read_bytes() == before
        (found,) = daemons(config)
        title = " ".join(found.cmdline())
        assert title.startswith(f"sshd: {need('sshd')} -f {config} -p {port} [listener]")
        assert found.cwd() == "/"
        assert "KSSH_STATE_DIR" not in Path(f"/proc/{found.pid}/environ").read_text()


def test_a_greeting_of_somebody_else_on_its_port_is_no_greeting(tmp_path: Path, open_to_all: Path) -> None:
    """Between two openings of its sockets anybody may take one of its ports, and say SSH-2.0 on it."""
    stranger = open_to_all / "stranger.py"
    told = open_to_all / "pid"
    stranger.write_text(
        "import os, socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        f"open({str(told)!r}, 'w').write(str(os.getpid()))\n"
        "while True:\n"
        "    connection, _ = listener.accept()\n"
        "    connection.sendall(b'SSH-2.0-OpenSSH_9.2\\r\\n')\n"
        "    connection.close()\n"
    )
    port = f"$(sed -n 's/^Port //p' {tmp_path}/sshd/sshd_config)"
    line = (
        f"[ -e {told} ] || {{ {sys.executable} {stranger} {port} "
        f">/dev/null 2>&1 & while ! [ -s {told} ]; do sleep 0.05; done; }}"
    )
    with Changed(tmp_path / "sshd", line, "ListenAddress 127.0.0.2\n") as sshd:
        config = config_of(sshd)
        before = config.read_bytes()
        try:
            done = keepalive("set", "--server", "--config", config, "--interval", "66")
        finally:
            if told.exists():
                end([psutil.Process(int(told.read_text()))])
        assert done.returncode == 1
        assert f"sshd does not greet on 127.0.0.1 port {sshd.port} after the reload" in done.stderr
        assert "the old file is back, sshd STILL DOES NOT GREET" in done.stderr
        assert config.read_bytes() == before


def test_an_sshd_that_was_replaced_by_an_update_is_known(tmp_path: Path) -> None:
    copy = tmp_path / "sbin" / "sshd"
    copy.parent.mkdir()
    shutil.copy(need("sshd"), copy)
    sshd = Sshd(tmp_path / "sshd")
    sshd._program = str(copy)
    with sshd:
        shutil.copy(need("sshd"), tmp_path / "new")
        (tmp_path / "new").rename(copy)
        assert os.readlink(f"/proc/{sshd.pid}/exe").endswith(" (deleted)")
        done = keepalive("set", "--server", "--config", config_of(sshd), "--sshd", copy)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"HUP to pid {sshd.pid}" in done.stdout
        other = keepalive("set", "--server", "--config", config_of(sshd), "--interval", "7")
        assert "nothing was reloaded" in other.stdout
        assert f"{copy} seems to use it, but is not {need('sshd')}: see --sshd" in other.stdout


def test_a_reload_that_would_move_sshd_to_another_port_is_left_to_people(sshd: Sshd) -> None:
    config = config_of(sshd)
    config.write_text(config.read_text().replace(f"Port {sshd.port}\n", f"Port {free_port()}\n"))
    before = config.read_bytes()
    done = keepalive("set", "--server", "--config", config)
    assert done.returncode == 1
    assert f"listens on 127.0.0.1 port {sshd.port}, not on 127.0.0.1" in done.stderr
    assert "reload it first; nothing was written" in done.stderr
    assert config.read_bytes() == before
    assert sshd.log.count("Server listening") == 1


@pytest.mark.parametrize("what", ["FIFO", "our own pid"])
def test_a_pidfile_is_not_waited_for_and_proves_nothing(what: str, tmp_path: Path) -> None:
    config, pidfile = config_in(tmp_path / "etc"), tmp_path / "pid"
    config.write_text(config.read_text().replace("PidFile none", f"PidFile {pidfile}"))
    if what == "FIFO":
        os.mkfifo(pidfile)
    else:
        pidfile.write_text(f"{os.getpid()}\n")  # a HUP would end the test
    done = keepalive("set", "--server", "--config", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert "no running sshd uses" in done.stdout


def test_where_no_process_can_be_seen_nothing_is_changed(tmp_path: Path) -> None:
    """A chroot without /proc."""
    config = config_in(tmp_path / "etc")
    before = config.read_bytes()
    words = ["keepalive", "set", "--server", "--config", config]
    done = subprocess.run(
        [*sealed(tmp_path, "/proc"), sys.executable, program("ksshctl"), *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "ksshctl: cannot see which processes run, and so no sshd: is /proc there?\n"
    assert config.read_bytes() == before


# -- files and programs of others --------------------------------------------------------------------


def test_root_does_not_do_what_another_users_file_says(open_to_all: Path) -> None:
    need_root()
    config, ran = open_to_all / "config", open_to_all / "ran"
    config.write_text(f'Match exec "id -u >{ran}"\n  ServerAliveInterval 5\n')
    os.chown(config, NOBODY, NOBODY)
    for words in (
        ["keepalive", "show", "--user", "--config", config],
        ["keepalive", "set", "--user", "--config", config],
        ["doctor", "--config", config],
    ):
        done = ksshctl(*words)
        assert done.returncode == 1
        assert f"{config} belongs to {WHO}" in done.stdout + done.stderr
    os.chown(config, 0, 0)  # but anybody may put another in its place
    assert "others may write to" in keepalive("show", "--user", "--config", config).stderr
    assert not ran.exists()


@pytest.mark.parametrize("how", ["of another user", "that others may write to"])
def test_what_ssh_would_refuse_is_not_done_as_a_copy_of_ours(
    how: str, tmp_path: Path, open_to_all: Path
) -> None:
    """ssh looks at the owner and the mode of what a file includes; a copy has ours."""
    need_root()
    theirs, ran, config = open_to_all / "config", open_to_all / "ran", tmp_path / "config"
    theirs.write_text(f'Match exec "id -u >{ran}"\n  ServerAliveInterval 300\n')
    if how == "of another user":
        os.chown(theirs, NOBODY, NOBODY)
    else:
        theirs.chmod(0o666)
    config.write_text(f"ClientAliveInterval 60\nInclude {theirs}\n")
    before = config.read_bytes()
    done = ksshctl("doctor", "--config", config, "--fix", "--yes")
    assert done.returncode == 1
    assert "nothing was written" in done.stderr
    config.write_bytes(before.replace(b"ClientAliveInterval 60\n", b""))
    assert keepalive("set", "--user", "--config", config).returncode == 1
    assert not ran.exists()
    assert theirs.read_text().endswith("300\n")
    assert {path.name for path in open_to_all.iterdir()} == {"config"}


def test_root_writes_into_no_directory_of_another_user(tmp_path: Path) -> None:
    need_root()
    drop_ins = tmp_path / "sshd_config.d"
    drop_ins.mkdir()
    os.chown(drop_ins, NOBODY, NOBODY)
    config = config_in(tmp_path / "etc")
    config.write_text(f"{config.read_text()}Include {drop_ins}/*.conf\n")
    for words in (["--server", "--config", config], ["--user", "--config", drop_ins / "config"]):
        done = keepalive("set", *words)
        assert done.returncode == 1
        assert f"{drop_ins} belongs to {WHO}; nothing was written" in done.stderr
    assert not list(drop_ins.iterdir())


def test_root_runs_no_sshd_that_somebody_else_put_into_path(tmp_path: Path, open_to_all: Path) -> None:
    need_root()
    config = config_in(tmp_path / "etc")
    ran = open_to_all / "ran"
    for name in ("sshd", "systemctl", "service"):
        fake = open_to_all / name
        fake.write_text(f"#!/bin/sh\nid -u >{ran}\n")
        fake.chmod(0o755)
    path = {"PATH": f"{open_to_all}:{os.environ['PATH']}"}
    done = keepalive("set", "--server", "--config", config, env=path)
    assert (done.returncode, done.stderr) == (0, "")
    assert keepalive("show", "--server", "--config", config, env=path).returncode == 0
    assert not ran.exists()


def test_a_link_that_is_put_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("Host a\n")
    config = tmp_path / "config"
    config.write_text("Host a\n")
    swap = tmp_path / "ssh"  # as if somebody had done it while ssh looked at the candidate
    swap.write_text(
        f'#!/bin/sh\ncase "$*" in */kssh-*) ln -sf {secret} {config};; esac\nexec {need("ssh")} "$@"\n'
    )
    swap.chmod(0o755)
    done = keepalive("set", "--user", "--config", config, env={"KSSH_SSH": str(swap)})
    assert done.returncode == 1
    assert "was changed by somebody else meanwhile" in done.stderr
    assert secret.read_text() == "Host a\n"
    assert config.is_symlink()


def test_a_lock_that_any_reader_of_the_directory_can_hold_is_not_waited_for(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host a\n")
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        assert keepalive("set", "--user", "--config", config).returncode == 0
    finally:
        os.close(fd)
    assert not (tmp_path / ".config.ksshctl-lock").exists()


# What somebody does, as soon as ssh is told of a file, to whom the directory above its own belongs.
_SWAP = """\
import os, sys
os.setuid({nobody})
config = sys.argv[sys.argv.index("-F") + 1]
folder = os.path.dirname(config)
try:
    os.rename(folder, folder + ".away")
    os.mkdir(folder)
    open(config, "w").write('Match exec "id -u >{ran}"\\n')
    os.chmod(folder, 0o755)
except OSError:
    pass
"""


def test_root_does_not_do_what_somebody_puts_into_a_tmpdir_of_theirs(
    tmp_path: Path, open_to_all: Path
) -> None:
    """TMPDIR stays that of the user who became root by su(1)."""
    need_root()
    etc = tmp_path / "etc"
    (etc / "ssh_config.d").mkdir(parents=True)
    config, ran, theirs = etc / "ssh_config", open_to_all / "ran", open_to_all / "tmp"
    config.write_text(f"Include {etc}/ssh_config.d/*.conf\n")
    theirs.mkdir()
    os.chown(theirs, NOBODY, NOBODY)
    (tmp_path / "swap.py").write_text(_SWAP.format(nobody=NOBODY, ran=ran))
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\n{sys.executable} {tmp_path}/swap.py "$@"\nexec {need("ssh")} "$@"\n')
    ssh.chmod(0o755)
    env = {"KSSH_SSH": str(ssh), "TMPDIR": str(theirs)}
    done = keepalive("set", "--system", "--config", config, env=env)
    assert not ran.exists()
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(theirs.iterdir())
