"""What ssh finds in its place when kssh has become it: a fake ssh notes everything."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from harness import MARK, TIMEOUT_S, fake_ssh, marked, program, run_kssh, wait_for
from links import STAY, Kssh, started, with_fake

NESTING = "KSSH_NESTING"  # only where the ssh program is a script, as the fake is

# Notes what a process is born with; closed descriptors stay closed for the note.
NOTE = """\
#!/bin/sh
[ "$1" = -G ] && exit 1
here=$(dirname "$0")
for fd in 0 1 2 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$fd ] && open="$open $fd"; done
{
    echo "open $open"
    grep -E '^(Sig(Blk|Ign)|Umask|Groups):' /proc/self/status
    echo "nice $(nice)"
    ps -o pgid=,sid= -p $$
    pwd
} >"$here/born"
"""


@pytest.mark.parametrize("status", [0, 1, 2, 3, 130, 255])
def test_the_status_is_ssh_s(tmp_path: Path, status: int) -> None:
    fake = fake_ssh(tmp_path, f"echo out; echo err >&2; exit {status}")
    done = run_kssh(["host", "command"], env=with_fake(fake))
    assert (done.returncode, done.stdout, done.stderr) == (status, b"out\n", b"err\n")
    assert len(fake.starts) == 1


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGINT", "SIGHUP", "SIGABRT"])
def test_death_by_a_signal_is_ssh_s(tmp_path: Path, name: str) -> None:
    """SIGPIPE and SIGXFSZ are ignored by Python: ssh must not be born with that."""
    fake = fake_ssh(tmp_path, f"kill -{name[3:]} $$; exit 3")
    done = run_kssh(["host", "command"], env=with_fake(fake))
    assert done.returncode == -getattr(signal, name)


def test_ssh_has_the_pid_that_the_caller_knows_and_nothing_else_runs(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, STAY)
    with Kssh(["host", "command"], with_fake(fake)) as kssh:
        assert started(fake).pid == kssh.pid
        wait_for(
            lambda: (
                Path(f"/proc/{kssh.pid}/exe").resolve().name
                == Path(shutil.which("sleep") or "").resolve().name
            )
        )
        assert [process.pid for process in marked(os.environ[MARK])] == [kssh.pid]


@pytest.mark.parametrize(
    ("prefix", "suffix"),
    [
        ("", ""),
        ("", "0<&-"),
        ("", "1>&-"),
        ("", "2>&-"),
        ("", "0<&- 1>&- 2>&-"),
        ("umask 027;", ""),
        ("cd /;", ""),
        ("nice -n 5", ""),
        ("nohup", ""),
        ("trap '' INT TERM QUIT USR1;", ""),
    ],
)
def test_ssh_is_born_as_if_the_caller_had_started_it(tmp_path: Path, prefix: str, suffix: str) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(NOTE)
    ssh.chmod(0o755)

    def born(command: str) -> str:
        # "exec" is not for words like nice: the shell waits, and all is in one session.
        script = f'{prefix} "$@" {suffix}'
        env = {**os.environ, "KSSH_SSH": str(ssh)}
        note = tmp_path / "born"
        note.unlink(missing_ok=True)
        null = subprocess.DEVNULL
        subprocess.run(
            ["sh", "-c", script, "sh", command, "host", "true"],
            env=env,
            stdin=null,
            stdout=null,
            stderr=null,
            check=False,
        )
        return note.read_text()

    assert born(program()) == born(str(ssh))


ODD_WORDS = [
    b"\xff\xfe\x80",
    b"",
    b"a  b",
    b"a\nb",
    b"*",
    b"~",
    b"$HOME",
    b"'\"\\",
    "ž".encode(),
    b"-",
    b"--",
]


def test_odd_bytes_in_arguments_arrive(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    run_kssh(["host", *ODD_WORDS], env=with_fake(fake))
    assert fake.starts[0].argv[-len(ODD_WORDS) :] == [os.fsdecode(word) for word in ODD_WORDS]


@pytest.mark.parametrize(
    "locale",
    [
        {},
        {"LANG": "C"},
        {"LC_ALL": "C"},
        {"LC_CTYPE": "C"},
        {"LC_CTYPE": "C.UTF-8"},
        {"LANG": "C.UTF-8"},
        {"LC_ALL": "POSIX", "LANG": "xx_YY"},
    ],
    ids=str,
)
def test_the_environment_is_the_caller_s(tmp_path: Path, locale: dict[str, str]) -> None:
    """Python adds LC_CTYPE in the C locale; odd bytes and empty values stay as they are."""
    fake = fake_ssh(tmp_path, 'cat /proc/$$/environ >"$here/environ"')
    kept = {
        name: value for name, value in os.environ.items() if name != "LANG" and not name.startswith("LC_")
    }
    given = {**kept, **locale, **with_fake(fake), "ODD": os.fsdecode(b"\xff\n="), "EMPTY": ""}
    subprocess.run([program(), "host", "command"], env=given, stdin=subprocess.DEVNULL, check=True)
    entries = os.fsdecode((fake.path.parent / "environ").read_bytes()).split("\0")[:-1]
    found = dict(entry.split("=", 1) for entry in entries)
    found.pop(NESTING)
    assert found == given


# kssh under the name of ssh.


def as_link(ssh: Path) -> None:
    ssh.symlink_to(program())


def as_hard_copy(ssh: Path) -> None:
    shutil.copy(program(), ssh)


def as_script(ssh: Path) -> None:
    ssh.write_text(f'#!/bin/sh\nexec {program()} "$@"\n')
    ssh.chmod(0o755)


def as_script_by_name(ssh: Path) -> None:
    ssh.write_text('#!/bin/sh\nexec kssh "$@"\n')
    ssh.chmod(0o755)


def as_script_that_hides_it(ssh: Path) -> None:
    ssh.write_text('#!/bin/sh\nexec "$THE_REAL_THING" "$@"\n')
    ssh.chmod(0o755)


INSTALLED = [as_link, as_hard_copy, as_script, as_script_by_name, as_script_that_hides_it]


@pytest.mark.parametrize("caller", ["ssh", "kssh"])
@pytest.mark.parametrize("install", INSTALLED[:4])
def test_kssh_installed_as_ssh_does_not_call_itself(tmp_path: Path, install: object, caller: str) -> None:
    assert callable(install)
    fake = fake_ssh(tmp_path, "echo real; exit 7")
    folder = tmp_path / "first"
    folder.mkdir()
    install(folder / "ssh")
    path = f"{folder}:{folder}/../first:{Path(program()).parent}:{fake.path.parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "THE_REAL_THING": program()}
    command = [folder / "ssh" if caller == "ssh" else program(), "host", "command"]
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIMEOUT_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, b"real\n", b"")
    assert len(fake.starts) == 1


@pytest.mark.parametrize("install", INSTALLED)
def test_kssh_as_the_only_ssh_in_path_finds_the_system_s(tmp_path: Path, install: object) -> None:
    assert callable(install)
    install(tmp_path / "ssh")
    path = f"{tmp_path}:{Path(program()).parent}:{Path(shutil.which('sh') or '').parent}"
    env = {**os.environ, "PATH": path, "THE_REAL_THING": program()}
    done = subprocess.run(
        [tmp_path / "ssh", "-V"], env=env, capture_output=True, check=False, timeout=TIMEOUT_S
    )
    assert done.returncode == 0
    assert done.stderr.startswith(b"OpenSSH_")


def test_ssh_that_is_a_script_leading_back_again_and_again_is_named(tmp_path: Path) -> None:
    as_script_that_hides_it(tmp_path / "wrapper")
    env = {"KSSH_SSH": str(tmp_path / "wrapper"), "THE_REAL_THING": program()}
    done = run_kssh(["host", "command"], env=env)
    assert done.returncode == 255
    assert done.stderr.startswith(b"kssh: ")
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("path", ["/nonexistent", "", ".:", "relative"])
def test_a_useless_path_does_not_matter(path: str) -> None:
    done = run_kssh(["-V"], env={"PATH": path})
    assert done.returncode == 0
    assert done.stderr.startswith(b"OpenSSH_")


def test_no_path_at_all_does_not_matter() -> None:
    env = {name: value for name, value in os.environ.items() if name != "PATH"}
    done = subprocess.run([program(), "-V"], env=env, capture_output=True, check=True)
    assert done.stderr.startswith(b"OpenSSH_")


# Options that are added.

KEEPALIVE = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3"]


@pytest.mark.parametrize(
    ("words", "configuration", "env", "expected"),
    [
        (["h", "c"], {}, {}, [*KEEPALIVE, "h", "c"]),
        (["-p", "22", "h", "-4", "c", "-v"], {}, {}, ["-p", "22", "h", "-4", *KEEPALIVE, "c", "-v"]),
        (["-W", "a:1", "h"], {}, {}, ["-W", "a:1", "h", *KEEPALIVE]),
        (["h", "c"], {"serveraliveinterval": "60"}, {}, ["h", "c"]),
        (["h", "c"], {}, {"KSSH_INTERVAL": "0"}, ["h", "c"]),
        (
            ["h", "c"],
            {},
            {"KSSH_INTERVAL": "7", "KSSH_COUNTMAX": "2"},
            ["-o", "ServerAliveInterval=7", "-o", "ServerAliveCountMax=2", "h", "c"],
        ),
    ],
)
def test_a_stream_gets_keepalive_and_nothing_else(
    tmp_path: Path, words: list[str], configuration: dict[str, str], env: dict[str, str], expected: list[str]
) -> None:
    fake = fake_ssh(tmp_path, "exit 0", configuration)
    run_kssh(words, env={**with_fake(fake), **env})
    assert sorted(fake.starts[0].argv) == sorted(expected)
    assert [word for word in fake.starts[0].argv if word in words] == words


@pytest.mark.parametrize("restart", ["never"])
def test_never_means_ssh_itself(tmp_path: Path, restart: str) -> None:
    fake = fake_ssh(tmp_path, "exit 255")
    with Kssh(["-N", "host"], with_fake(fake, RESTART=restart)) as kssh:
        assert kssh.wait() == 255
    assert [start.pid for start in fake.starts] == [kssh.pid]
    assert "-E" not in fake.starts[0].argv


def test_an_ssh_that_does_not_answer_is_asked_in_vain(tmp_path: Path) -> None:
    """Match exec commands of a configuration may hang: the answer to -G has a time limit."""
    ssh = tmp_path / "ssh"
    ssh.write_text('#!/bin/sh\n[ "$1" = -G ] && exec sleep 600\necho "$@"\n')
    ssh.chmod(0o755)
    done = run_kssh(["host", "command"], env={"KSSH_SSH": str(ssh)})
    assert done.returncode == 0
    assert done.stdout.endswith(b"host command\n")


def test_few_descriptors_are_enough(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 4")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limited = ["sh", "-c", 'ulimit -n 16; exec "$@"', "sh", program(), "host", "command"]
    env = {**os.environ, **with_fake(fake)}
    assert subprocess.run(limited, env=env, stdin=subprocess.DEVNULL, check=False).returncode == 4
    assert (soft, hard) == resource.getrlimit(resource.RLIMIT_NOFILE)


def test_python_s_own_variables_do_not_change_the_arguments(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 0")
    env = {**with_fake(fake), "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    run_kssh(["host", b"\xff\xc3\xbe"], env=env)
    assert fake.starts[0].argv[-1] == "\udcffþ"


# Dropbear's client on every -G: "WARNING: Ignoring unknown option -G", and then it connects.
OTHER_CLIENT = """\
#!/bin/sh
[ "$1" = -V ] && { echo "Dropbear v2022.83" >&2; exit 0; }
echo "$@" >>"$(dirname "$0")/runs"
exit 3
"""


@pytest.mark.parametrize("by_link", [False, True], ids=["named", "linked"])
def test_another_client_than_openssh_s_runs_once_with_the_user_s_words(tmp_path: Path, by_link: bool) -> None:
    client = tmp_path / "dbclient"
    client.write_text(OTHER_CLIENT)
    client.chmod(0o755)
    path = client
    if by_link:  # as where the small one stands in ssh's place
        path = tmp_path / "ssh"
        path.symlink_to("dbclient")
    done = run_kssh(["-p", "22", "host", "command"], env={"KSSH_SSH": str(path)})
    assert done.returncode == 3
    assert (tmp_path / "runs").read_text() == "-p 22 host command\n"


def test_openssh_under_another_name_is_known(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "exit 4")
    other = fake.path.rename(fake.path.with_name("hpnssh"))
    assert run_kssh(["host", "command"], env={"KSSH_SSH": str(other)}).returncode == 4
    assert "ServerAliveInterval=15" in fake.starts[0].argv
