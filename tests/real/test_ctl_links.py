"""ksshctl on links that run, with a fake ssh: what it shows, what it does to them, what it leaves alone."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness import POLL_S, TIMEOUT_S, Terminal, alive, fake_ssh, need, need_root, program, wait_for
from links import LOSE, REFUSE, SESSION, STAY, Kssh, lines_of, records, with_fake
from pykeepssh.ctl.main import VERBS
from pykeepssh.system import state as statefile, this_host
from pykeepssh.system.files import write_by_rename
from pykeepssh.system.log import INFO, Log

UP = SESSION + STAY
DIES = f"[ $start = 1 ] && {{ {SESSION}{LOSE} }}\n"
REPOSITORY = Path(__file__).parents[2]


def ctl(*words: str, **popen: Any) -> subprocess.CompletedProcess[str]:
    """Run ksshctl; its output is text."""
    return subprocess.run(
        [program("ksshctl"), *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        **popen,
    )


@contextmanager
def tunnel(tmp_path: Path, name: str = "bob", script: str = UP, **env: str) -> Iterator[Kssh]:
    """A kssh that keeps a tunnel to the destination NAME.example; it has a record on entry."""
    fake = fake_ssh(tmp_path, script)
    variables = {**with_fake(fake, NAME=name), **env}
    with Kssh(["-N", f"{name}.example"], variables) as kssh:
        wait_for(lambda: [record for record in records() if record["pid"] == kssh.pid], what=kssh.said)
        yield kssh
        if kssh.process.poll() is None:
            kssh.stop()


@contextmanager
def up(tmp_path: Path, name: str = "bob", **env: str) -> Iterator[Kssh]:
    with tunnel(tmp_path, name, UP, **env) as kssh:
        reaches(name, "UP")
        yield kssh


@contextmanager
def waiting(tmp_path: Path, name: str = "bob", script: str = REFUSE, **env: str) -> Iterator[Kssh]:
    """A tunnel that waits, for long enough that nothing happens to it while ksshctl looks."""
    with tunnel(tmp_path, name, script, **{"KSSH_BACKOFF_MAX": "60", **env}) as kssh:
        # The first waits are short, and full jitter may make any of them so.
        wait_for(lambda: (one := record_of(name)) and one["next"] and one["next"] > time.time() + 3)
        yield kssh


def record_of(name: str) -> dict[str, Any] | None:
    return next((record for record in records() if record["name"] == name), None)


def reaches(name: str, state: str) -> None:
    wait_for(lambda: (one := record_of(name)) and one["state"] == state, what=f"{name} {state}")


def folder() -> Path:
    return Path(os.environ["KSSH_STATE_DIR"])


def files() -> list[str]:
    return sorted(path.name.removeprefix(f"{this_host.key()}.") for path in folder().iterdir())


def forge(name: str, **changes: Any) -> Path:
    """Write the record of a link that is not there, like one that is."""
    found = {
        "version": 1,
        "name": name,
        "kind": "tunnel",
        "destination": f"{name}.example",
        "machine": this_host.name(),
        "pid": 2**22 + 1,  # above the kernel's limit: nobody has it
        "pid_started": 1.0,
        "pid_mark": "",
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
    folder().mkdir(exist_ok=True)
    path = folder() / f"{found['machine']}.{name}.json"
    path.write_text(json.dumps(found))
    return path


@pytest.fixture
def bystander() -> Iterator[psutil.Process]:
    """A process that has nothing to do with any link."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


# status


def test_nothing_runs() -> None:
    shown = ctl("status")
    assert (shown.stdout, shown.stderr, shown.returncode) == ("no link runs\n", "", 0)
    assert not folder().exists()  # looking makes nothing


def test_status_tells_what_is_up_and_what_waits(tmp_path: Path) -> None:
    with up(tmp_path, "alice"), waiting(tmp_path, "bob"):
        shown = ctl("status")
        assert shown.returncode == 3
        title, alice, bob = shown.stdout.splitlines()
        assert title.split() == ["LINK", "STATE", "FOR", "RESTARTS", "LAST", "REASON", "NEXT", "RETRY"]
        assert re.fullmatch(r"alice  up       [\d.]+ s +0 +- +-", alice)
        assert re.fullmatch(r"bob    waiting  [\d.]+ s +\d+ +Connection refused  (in [\d.]+ s|now)", bob)


def test_the_exit_status_of_status_serves_health_checks(tmp_path: Path) -> None:
    expected = {
        "alice": 0,
        "alice.example": 0,
        "al": 0,
        "alice al": 0,
        "bob": 3,
        "alice bob": 3,
        "zorro": 4,
        "alice zorro": 4,
        "bob zorro": 4,
    }
    with up(tmp_path, "alice"), waiting(tmp_path, "bob"):
        for words, status in expected.items():
            shown = ctl("status", *words.split())
            assert shown.returncode == status, words
            assert shown.stderr == ("ksshctl: zorro: no such link\n" if status == 4 else "")


def test_a_name_that_begins_several_is_asked_back(tmp_path: Path) -> None:
    with up(tmp_path, "alice"), up(tmp_path, "albert"):
        for verb in ("status", "stop", "restart", "retry"):
            shown = ctl(verb, "al")
            assert shown.stderr == "ksshctl: al: matches several links: albert, alice\n"
            assert shown.returncode == 4
        assert len(records()) == 2


def test_status_as_json(tmp_path: Path) -> None:
    before = time.time()
    with up(tmp_path, "alice") as kssh:
        shown = json.loads(ctl("status", "--json").stdout)
        ssh_pid = shown["links"][0].pop("ssh_pid")
        assert psutil.Process(ssh_pid).ppid() == kssh.pid
        assert before - 1 < shown["links"][0].pop("since") < time.time() + 1
        assert shown == {
            "version": 1,
            "machine": this_host.name(),
            "links": [
                {
                    "link": "alice",
                    "name": "alice",
                    "kind": "tunnel",
                    "destination": "alice.example",
                    "state": "up",
                    "up": True,
                    "restarts": 0,
                    "reason": "",
                    "next": None,
                    "forwards": [],
                    "allocated": [],
                    "pid": kssh.pid,
                    "logfile": "",
                    "machine": this_host.name(),
                }
            ],
            "resting": [],
            "elsewhere": [],
        }


def test_the_forwards_are_shown_as_ssh_takes_them(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP, {"localforward": "8080 [localhost]:80"})
    with Kssh(["-N", "-L", "8080:localhost:80", "host"], with_fake(fake)) as kssh:
        wait_for(records)
        shown = ctl("status", "host").stdout
        assert "-L 8080:localhost:80" in shown
        assert re.search(r"host-L8080-[0-9a-f]{8}", shown)
        kssh.stop()


def test_names_of_what_runs_and_of_what_ran(tmp_path: Path) -> None:
    with up(tmp_path, "alice"):
        with up(tmp_path, "bob"):
            assert ctl("status", "--names").stdout == "alice\nbob\n"
        assert ctl("status", "--names").stdout == "alice\n"
        assert ctl("status", "--all", "--names").stdout == "alice\nbob\n"
        assert ctl("status").returncode == 0
        shown = ctl("status", "--all")
        assert re.search(r"^bob +not running", shown.stdout, re.MULTILINE)
        assert shown.returncode == 3
        assert ctl("status", "bob").returncode == 3


def test_a_shell_is_called_by_its_pid_too(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "host"], with_fake(fake)) as terminal:
        wait_for(lambda: records() and records()[0]["state"] == "UP")
        name = ctl("status", "--names").stdout.strip()
        assert name.endswith(f"-{records()[0]['pid']}")
        assert ctl("status", name).returncode == ctl("status", "host").returncode == 0
        assert ctl("log", name).stderr.startswith(f"ksshctl: {name}: only tunnels have a history")
        assert ctl("stop", "host").stdout == f"{name}: stopped\n"
        assert terminal.wait() == -signal.SIGTERM


def test_on_a_terminal_the_table_has_colours_unless_they_are_unwanted(tmp_path: Path) -> None:
    with up(tmp_path, "alice"):
        for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
            with Terminal([program("ksshctl"), "status"], env, columns=120) as terminal:
                terminal.expect(b"alice")
                assert terminal.wait() == 0
                assert (b"\x1b[32m" in terminal.output) == coloured


def test_watch_on_a_terminal_ends_with_ctrl_c(tmp_path: Path) -> None:
    with up(tmp_path, "alice"), Terminal([program("ksshctl"), "status", "--watch"]) as terminal:
        terminal.expect(b"alice")
        terminal.send(b"\x03")
        assert terminal.wait() == 0
        assert b"\x1b[?1049l" in terminal.output


def test_watch_elsewhere_prints_what_changes(tmp_path: Path) -> None:
    with subprocess.Popen(
        [program("ksshctl"), "status", "--watch", "--names"], stdout=subprocess.PIPE, text=True
    ) as watch:
        assert watch.stdout is not None
        try:
            with up(tmp_path, "alice"):
                assert watch.stdout.readline() == "alice\n"
        finally:
            watch.send_signal(signal.SIGINT)
        assert watch.wait() == -signal.SIGINT


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    with up(tmp_path, "alice"):
        said = subprocess.run(
            ["sh", "-c", f"{program('ksshctl')} status | :"], stderr=subprocess.PIPE, check=False
        )
        assert said.stderr == b""


# Records of dead processes, and of others.


def test_what_a_killed_kssh_left_is_cleaned(tmp_path: Path) -> None:
    with tunnel(tmp_path) as kssh:
        reaches("bob", "UP")
        kssh.send(signal.SIGKILL)
        kssh.wait()
        assert files() == ["bob.history", "bob.json", "bob.lock"]
        shown = ctl("status", "bob")
        assert shown.returncode == 3
        assert "not running" in shown.stdout
        assert files() == ["bob.history"]
    with up(tmp_path):
        assert ctl("status", "bob").returncode == 0


def test_a_pid_that_is_another_process_now_is_neither_believed_nor_signalled(
    bystander: psutil.Process,
) -> None:
    other = bystander.pid
    started_at = bystander.create_time()
    forge("old", pid=other, pid_started=started_at - 100)
    # The same second, but not the same process: only the mark knows.
    forge("near", pid=other, pid_started=started_at, pid_mark=f"{this_host.process_mark(other)}0")
    assert ctl("stop", "old", "near").returncode == 4
    assert ctl("restart", "old").returncode == 4
    assert alive(other)
    assert files() == []


def test_without_a_mark_the_start_time_counts(bystander: psutil.Process) -> None:
    forge("bob", pid=bystander.pid, pid_started=bystander.create_time() + 0.3)
    assert ctl("status", "bob").returncode == 0


def test_a_clock_that_was_set_since_costs_no_record(bystander: psutil.Process) -> None:
    mark = this_host.process_mark(bystander.pid)
    if not mark:
        pytest.skip("only Linux has it")
    forge("bob", pid=bystander.pid, pid_started=1.0, pid_mark=mark)
    assert ctl("status", "bob").returncode == 0


def test_this_machine_is_known_under_another_name_too(tmp_path: Path, bystander: psutil.Process) -> None:
    mark = this_host.process_mark(bystander.pid)
    if not mark:
        pytest.skip("only Linux has it")
    forge("bob", machine="before-dhcp", pid=bystander.pid, pid_mark=mark)
    assert ctl("status", "bob").returncode == 0


@pytest.mark.parametrize("pid", [0, -1, 1, 2**31, 2**70])
def test_an_impossible_pid_is_a_dead_one(pid: int) -> None:
    forge("bob", pid=pid)
    assert ctl("stop", "bob").returncode == 4
    assert files() == []


def test_a_record_whose_lock_is_held_is_left_alone() -> None:
    path = forge("bob")
    lock = path.with_suffix(".lock")
    lock.touch(0o600)  # nobody else may open it
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert ctl("status", "bob").returncode == 0  # alive, in a container perhaps
        stopped = ctl("stop", "bob")
        assert (stopped.returncode, stopped.stdout) == (3, "")
        assert "cannot be seen from here" in stopped.stderr
        assert path.exists() and lock.exists()
    assert ctl("status", "bob").returncode == 4
    assert files() == []


def test_what_another_machine_wrote_is_told_but_not_touched() -> None:
    path = forge("bob", machine="elsewhere")
    lock = path.with_suffix(".lock")
    lock.touch()
    shown = ctl("status")
    assert shown.stdout == "bob: up, as elsewhere wrote; not checked from here\n"
    assert ctl("stop", "bob").stderr == "ksshctl: bob: runs on elsewhere; ask ksshctl there\n"
    assert [one["link"] for one in json.loads(ctl("status", "--json").stdout)["elsewhere"]] == ["bob"]
    assert path.exists() and lock.exists()


def test_locks_without_a_record_and_files_half_written_are_cleaned() -> None:
    folder().mkdir()
    here = this_host.key()
    for name in ("bob.lock", "bob.json.17.new", "fresh.json.18.new"):
        (folder() / f"{here}.{name}").touch()
    os.utime(folder() / f"{here}.bob.json.17.new", (1, 1))
    (folder() / "unrelated").touch()
    assert ctl("status").returncode == 0
    assert files() == ["fresh.json.18.new", "unrelated"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"version":99}', b"\xff", b"[" * 100_000])
def test_a_record_that_nobody_can_read_is_left_alone(data: bytes) -> None:
    path = forge("bob")
    path.write_bytes(data)
    shown = ctl("status")
    assert (shown.stdout, shown.returncode) == ("no link runs\n", 0)
    assert path.read_bytes() == data


def test_a_fifo_in_a_record_s_place_holds_nobody_up() -> None:
    path = forge("bob")
    path.unlink()
    os.mkfifo(path)
    assert ctl("status").returncode == 0


def test_control_characters_reach_no_terminal(bystander: psutil.Process) -> None:
    facts = {"pid": bystander.pid, "pid_started": bystander.create_time()}
    forge("bob", reason="\x1b[31mred", forwards=["L\x1b[1m"], destination="\x07", state="\x1b", **facts)
    for words in (["status"], ["status", "--names"], ["status", "x\x1b[1m"], ["history", "\x1b"]):
        shown = ctl(*words)
        assert "\x1b" not in shown.stdout + shown.stderr
        assert "\x07" not in shown.stdout + shown.stderr


# stop, restart, retry


@pytest.mark.parametrize("path", ["/x\0", "\ud800"])
def test_what_is_no_path_is_said_so(path: str, bystander: psutil.Process) -> None:
    forge("bob", logfile=path, pid=bystander.pid, pid_started=bystander.create_time())
    done = ctl("log", "bob")
    assert done.returncode == 1
    assert done.stderr.endswith(": not a file path\n")


def test_stop_waits_until_the_link_is_gone(tmp_path: Path) -> None:
    with up(tmp_path, "alice") as alice, waiting(tmp_path, "bob") as bob:
        shown = ctl("stop", "alice", "bob")
        assert shown.stdout == "alice: stopped\nbob: stopped\n"
        assert (shown.stderr, shown.returncode) == ("", 0)
        assert not alive(alice.pid) and not alive(bob.pid)
        assert alice.wait() == bob.wait() == -signal.SIGTERM
    assert files() == ["alice.history", "bob.history"]


def test_stop_stops_what_it_knows_and_says_what_it_does_not(tmp_path: Path) -> None:
    with up(tmp_path, "alice") as kssh:
        shown = ctl("stop", "zorro", "alice")
        assert shown.stdout == "alice: stopped\n"
        assert shown.stderr == "ksshctl: zorro: no such link\n"
        assert shown.returncode == 4
        assert kssh.wait() == -signal.SIGTERM


@pytest.mark.parametrize("verb", ["stop", "restart", "retry"])
def test_a_tunnel_that_ran_is_known_as_not_running(tmp_path: Path, verb: str) -> None:
    with up(tmp_path, "alice"):
        ctl("stop", "alice")
    shown = ctl(verb, "alice")
    assert (shown.stdout, shown.stderr, shown.returncode) == ("", "ksshctl: alice: not running\n", 4)


def test_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with up(tmp_path, "alice") as kssh:
        kssh.send(signal.SIGSTOP)
        shown = ctl("stop", "--timeout", "1", "alice")
        assert shown.returncode == 3
        assert shown.stderr == f"ksshctl: alice: no reaction within 1 s (process {kssh.pid})\n"
        kssh.send(signal.SIGCONT)
        assert kssh.wait() == -signal.SIGTERM


def test_restart_starts_a_new_ssh(tmp_path: Path) -> None:
    with up(tmp_path, "alice"):
        before = record_of("alice")
        shown = ctl("restart", "alice")
        assert (shown.stdout, shown.returncode) == ("alice: restarting\n", 0)
        assert ctl("wait", "alice", "--timeout", "10").returncode == 0
        after = record_of("alice")
        assert before and after
        assert after["starts"] == 2
        assert after["ssh_pid"] != before["ssh_pid"]
        assert after["pid"] == before["pid"]


@pytest.mark.parametrize("verb", ["restart", "retry"])
def test_a_wait_is_cut_short(tmp_path: Path, verb: str) -> None:
    with waiting(tmp_path, "bob"):
        before = record_of("bob")
        shown = ctl(verb, "bob")
        assert (shown.stdout, shown.returncode) == ("bob: connecting\n", 0)
        after = record_of("bob")
        assert before and after
        assert after["starts"] > before["starts"]


def test_there_is_nothing_to_retry_where_a_link_is_up(tmp_path: Path) -> None:
    with up(tmp_path, "alice"):
        shown = ctl("retry", "alice")
        assert (shown.stdout, shown.returncode) == ("alice: up; nothing to retry\n", 0)
        assert (record_of("alice") or {})["starts"] == 1


def test_a_restart_of_a_remote_command_is_refused(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "-t", "host", "make"], with_fake(fake)) as terminal:
        wait_for(lambda: records() and records()[0]["state"] == "UP")
        shown = ctl("restart", "host")
        assert shown.returncode == 3
        assert shown.stderr.endswith(": no reaction within 5 s; a remote command is not run twice\n")
        assert len(fake.starts) == 1
        assert ctl("stop", "host").returncode == 0
        terminal.wait()


# wait


def test_wait_until_up_for_a_link_that_is_to_come(tmp_path: Path) -> None:
    with subprocess.Popen(
        [program("ksshctl"), "wait", "alice", "--timeout", "20"], stdout=subprocess.PIPE, text=True
    ) as waits:
        with up(tmp_path, "alice"):
            assert waits.wait(TIMEOUT_S) == 0
        assert waits.stdout is not None
        assert waits.stdout.read() == "alice: up\n"


def test_wait_gives_up_in_time(tmp_path: Path) -> None:
    with waiting(tmp_path, "bob"):
        shown = ctl("wait", "bob", "--timeout", "1")
        assert shown.stderr == "ksshctl: bob: waiting after 1 s (Connection refused)\n"
        assert shown.returncode == 3
    shown = ctl("wait", "nobody", "--timeout", "0")
    assert shown.stderr == "ksshctl: nobody: no such link\n"
    assert shown.returncode == 4


# history, log


def test_a_tunnel_s_outages_are_remembered(tmp_path: Path) -> None:
    with tunnel(tmp_path, "bob", f"{DIES}[ $start = 2 ] && {{ {REFUSE} }}\n{UP}", KSSH_BACKOFF_MAX="1"):
        wait_for(lambda: (record_of("bob") or {}).get("starts") == 3)
        reaches("bob", "UP")
        shown = ctl("history", "bob")
        assert shown.returncode == 0
        lines = shown.stdout.splitlines()
        assert re.match(r"bob: up for ", lines[0])
        assert lines[2].split() == ["DOWN", "SINCE", "FOR", "STARTS", "REASON"]
        assert re.fullmatch(r"[\d-]{10} [\d:]{8}  [\d.]+ s +2 +the connection was closed", lines[3])
        assert [line.split()[0] for line in lines if re.match(r"(day|week|month) +[\d.]+ %", line)] == [
            "day", "week", "month",
        ]  # fmt: skip
        told = json.loads(ctl("history", "--json", "bob").stdout)
        assert [period["state"] for period in told["periods"]] == ["starting", "up", "down", "up"]
        assert told["periods"][2]["outcome"] == "lost"
        assert 0 < told["availability"]["day"] < 1
    told = json.loads(ctl("history", "--json", "bob").stdout)
    assert told["periods"][-1]["state"] == "not running"


def test_a_history_is_private_and_bounded(tmp_path: Path) -> None:
    with up(tmp_path, "bob"):
        pass
    path = next(folder().glob("*.history"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    line = path.read_bytes().splitlines(keepends=True)[-1]
    for number in range(4000):
        statefile.append_line(str(path), b"%d %b" % (number, line))
        assert path.stat().st_size <= statefile.HISTORY_BYTES
    kept = path.read_bytes().splitlines()
    numbers = [int(one.split()[0]) for one in kept]
    assert numbers == list(range(numbers[0], 4000))
    assert path.stat().st_size >= statefile.HISTORY_BYTES // 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("what", ["a directory", "a fifo", "a symbolic link"])
def test_a_history_that_cannot_be_written_ends_no_link(tmp_path: Path, what: str) -> None:
    folder().mkdir()
    path = folder() / f"{this_host.key()}.bob.history"
    if what == "a directory":
        path.mkdir()
    elif what == "a fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with up(tmp_path, "bob"):
        assert ctl("status", "bob").returncode == 0
    assert not (tmp_path / "elsewhere").exists()


def test_only_tunnels_have_a_history(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "host"], with_fake(fake)) as terminal:
        wait_for(lambda: records() and records()[0]["state"] == "UP")
        shown = [ctl(verb, "host") for verb in ("history", "log")]
        assert shown[0].stderr == shown[1].stderr
        assert ": only tunnels have a history" in shown[0].stderr
        assert [one.returncode for one in shown] == [1, 1]
        ctl("stop", "host")
        terminal.wait()
    assert files() == []


def test_the_log_reads_as_kssh_s_own(tmp_path: Path) -> None:
    with waiting(tmp_path, "bob", f"{DIES}{REFUSE}") as kssh:
        said = [
            re.sub(r"^kssh: bob.example: ", "", line) for line in kssh.said.splitlines() if "kssh:" in line
        ]
        shown = ctl("log", "bob").stdout.splitlines()
        begin = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} kssh\[" + str(kssh.pid) + r"\]: bob: ")
        assert all(begin.match(line) for line in shown)
        # On a busy machine the wait may be over meanwhile: then there is more.
        assert [begin.sub("", line) for line in shown][: len(said) + 1] == ["started", *said]
        (last,) = ctl("log", "-n", "1", "bob").stdout.splitlines()
        assert last in ctl("log", "bob").stdout.splitlines()[len(shown) - 1 :]


def test_the_log_of_a_link_with_a_logfile_is_that_file(tmp_path: Path) -> None:
    log = tmp_path / "kssh.log"
    with waiting(tmp_path, "bob", f"{DIES}{REFUSE}", KSSH_LOGFILE=str(log)):
        shown = ctl("log", "bob").stdout.splitlines()
        assert shown and lines_of(log)[: len(shown)] == shown


def test_a_logfile_that_was_rotated_is_opened_anew(tmp_path: Path) -> None:
    log, old = tmp_path / "kssh.log", tmp_path / "kssh.log.1"
    with up(tmp_path, "bob", KSSH_LOGFILE=str(log)):
        log.rename(old)
        before = lines_of(old)
        ctl("restart", "bob")
        wait_for(lambda: log.exists() and any("up again" in line for line in lines_of(log)))
        assert lines_of(old) == before
        assert log.stat().st_mode & 0o777 == 0o600
        log.unlink()
        os.mkfifo(log)  # nobody reads it
        ctl("restart", "bob")
        reaches("bob", "UP")


def test_a_log_goes_on_where_its_file_cannot_be_opened_anew(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    log = Log("INFO", str(folder / "log"), None)
    folder.rename(tmp_path / "moved")
    log.write(INFO, "still here")
    log.close()
    assert lines_of(tmp_path / "moved" / "log")[-1].endswith("still here")


@contextmanager
def following(output: Path, *words: str) -> Iterator[None]:
    """A "ksshctl log -f" that writes to a file."""
    with output.open("wb") as file:
        process = subprocess.Popen([program("ksshctl"), "log", "-f", *words], stdout=file)
        try:
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


@pytest.mark.parametrize("logfile", [True, False], ids=["KSSH_LOGFILE", "history"])
def test_log_follows(tmp_path: Path, logfile: bool) -> None:
    env = {"KSSH_LOGFILE": str(tmp_path / "kssh.log")} if logfile else {}
    output = tmp_path / "followed"
    with up(tmp_path, "bob", **env), following(output, "bob"):
        wait_for(lambda: len(lines_of(output)) >= 1, what="the first line")
        ctl("restart", "bob")
        wait_for(lambda: any("up again" in line for line in lines_of(output)), what="the last line")
        lines = lines_of(output)
        assert len(lines) == len(set(lines))


def test_log_follows_a_history_that_was_shortened(tmp_path: Path) -> None:
    output = tmp_path / "followed"
    with up(tmp_path, "bob"):
        pass
    path = next(folder().glob("*.history"))
    line = b'{"at":%d,"event":"up","pid":1,"start":1}\n'
    for number in range(100):
        statefile.append_line(str(path), line % number)
    with following(output, "-n", "3", "bob"):
        wait_for(lambda: len(lines_of(output)) == 3)
        write_by_rename(str(path), b"".join(line % n for n in range(50, 102)))
        wait_for(lambda: len(lines_of(output)) >= 5)
        statefile.append_line(str(path), line % 102)
        wait_for(lambda: len(lines_of(output)) > 5)
        assert len(lines_of(output)) == 6


def test_a_history_of_a_link_that_is_not_there() -> None:
    for verb in ("history", "log"):
        shown = ctl(verb, "nobody")
        assert (shown.stderr, shown.returncode) == ("ksshctl: nobody: no such link\n", 4)


# The command line.


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["fly"],
        ["status", "--fly"],
        ["status", "--json", "--names"],
        ["stop"],
        ["stop", "--timeout", "soon", "x"],
        ["wait"],
        ["wait", "a", "b"],
        ["wait", "a", "--timeout", "-1"],
        ["log"],
        ["log", "-n", "-1", "x"],
        ["history", "-n", "x\x1b", "y"],
    ],
    ids=repr,
)
def test_a_wrong_command_line_is_one_line(words: list[str]) -> None:
    shown = ctl(*words)
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert re.fullmatch(r"ksshctl: [ -~]+; see ksshctl[a-z ]* --help\n", shown.stderr)


@pytest.mark.parametrize("verb", ["status", "stop", "restart", "retry", "wait", "history", "log"])
def test_every_verb_explains_itself(verb: str) -> None:
    shown = ctl(verb, "--help")
    assert shown.returncode == 0
    assert shown.stdout.startswith(f"usage: ksshctl {verb}")
    assert verb in ctl("--help").stdout


def test_the_version_is_told() -> None:
    assert re.fullmatch(r"ksshctl \d+\.\d+\.\d+\n", ctl("--version").stdout)


def test_a_user_that_is_not_there() -> None:
    shown = ctl("status", "--user", "no-such-user")
    assert shown.stderr == "ksshctl: --user no-such-user: no such user\n"
    assert shown.returncode == 2


@pytest.mark.parametrize("words", [["status"], ["history", "x"], ["keepalive", "confirm"]], ids=" ".join)
def test_a_state_directory_that_is_none(words: list[str]) -> None:
    folder().touch()
    shown = ctl(*words)
    assert re.fullmatch(rf"ksshctl: KSSH_STATE_DIR={folder()}: expected a directory[^\n]*\n", shown.stderr)
    assert (shown.stdout, shown.returncode) == ("", 2)


@pytest.mark.parametrize(
    ("name", "words", "status"),
    [
        ("ksshctl", ["--help"], 1),
        ("ksshctl", ["status", "--help"], 1),
        ("ksshctl", ["--version"], 1),
        ("ksshctl", ["status"], 1),
        ("ksshctl", ["status", "--json"], 1),
        ("ksshctl", ["status", "--watch"], 1),
        ("ksshctl", ["doctor", "--config", "/dev/null"], 1),
        ("kssh", ["--help"], 255),
        ("kssh", ["--version"], 255),
    ],
)
def test_output_that_cannot_be_written_is_one_line(name: str, words: list[str], status: int) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([program(name), *words], stdout=full, stderr=-1, text=True, check=False)
    assert done.stderr == f"{name}: cannot write: No space left on device\n"
    assert done.returncode == status


def test_output_that_is_not_buffered_and_cannot_be_written_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        words = [program("ksshctl"), "status"]
        done = subprocess.run(words, stdout=full, stderr=-1, text=True, check=False, env=env)
    assert done.stderr == "ksshctl: cannot write: No space left on device\n"
    assert done.returncode == 1


@pytest.mark.parametrize("name", ["kssh", "ksshctl"])
def test_a_pipe_that_nobody_reads_is_no_matter(name: str) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run([program(name), "--help"], stdout=write_end, stderr=-1, text=True, check=False)
    os.close(write_end)
    assert done.stderr == ""


def test_root_sees_the_links_of_another_user_as_that_user(tmp_path: Path) -> None:
    need_root()
    with up(tmp_path, "alice"):
        shown = ctl("status", "--user", "nobody")
        assert (shown.stdout, shown.returncode) == ("no link runs\n", 0)
        assert ctl("stop", "--user", "nobody", "alice").returncode == 4


def test_kssh_does_not_load_what_only_ksshctl_or_a_setting_needs(tmp_path: Path) -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", "import sys, pykeepssh.supervisor as s; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=REPOSITORY,
    ).stdout.split()
    few_need = {"rich", "argparse", "pykeepssh.ctl.overview", "pykeepssh.link.multiplexer"}
    assert not few_need & set(loaded)


# Completion.


def complete_in_bash(text: str) -> list[str]:
    script = (
        f"source {REPOSITORY}/completions/bash/ksshctl; COMP_LINE=$1 COMP_POINT=${{#1}}; "
        'read -ra COMP_WORDS <<<"$1"; [[ $1 == *" " ]] && COMP_WORDS+=(""); '
        'COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ksshctl; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{Path(program()).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [need("bash"), "-c", script, "bash", text],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": path},
    )  # fmt: skip
    assert ran.stderr == ""
    return sorted(ran.stdout.split())


def complete_in_fish(text: str) -> list[str]:
    script = f"source {REPOSITORY}/completions/fish/ksshctl.fish; complete -C $argv[1]"
    path = f"{Path(program()).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        [need("fish"), "--no-config", "-c", script, text],
        capture_output=True, text=True, check=True, env={**os.environ, "PATH": path},
    )  # fmt: skip
    return sorted(line.split("\t")[0] for line in ran.stdout.splitlines())


@pytest.mark.parametrize("complete", [complete_in_bash, complete_in_fish])
def test_verbs_and_names_complete(tmp_path: Path, complete: Any) -> None:
    assert set(complete("ksshctl ")) >= set(VERBS)
    assert complete("ksshctl re") == ["restart", "retry"]
    with up(tmp_path, "alice"), up(tmp_path, "alfred"), up(tmp_path, "bob"):
        assert complete("ksshctl stop al") == ["alfred", "alice"]
        assert complete("ksshctl stop alice b") == ["bob"]
    assert complete("ksshctl stop al") == []
    assert complete("ksshctl history al") == ["alfred", "alice"]
    assert "--timeout" in complete("ksshctl stop --")


@pytest.mark.parametrize("complete", [complete_in_bash, complete_in_fish])
@pytest.mark.parametrize(
    "words",
    ["keepalive show", "keepalive set", "keepalive unset", "doctor", "probe", "history", "log", "stop"],
)
def test_every_long_option_completes(words: str, complete: Any) -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", ctl(*words.split(), "--help").stdout.split("exit status")[0]))
    assert set(complete(f"ksshctl {words} --")) >= options


@pytest.mark.parametrize("complete", [complete_in_bash, complete_in_fish])
@pytest.mark.parametrize("words", ["keepalive set --config", "doctor --sshd-config", "doctor --sshd"])
def test_files_complete(words: str, complete: Any, tmp_path: Path) -> None:
    (tmp_path / "sshd_config").touch()
    assert complete(f"ksshctl {words} {tmp_path}/sshd_c") == [f"{tmp_path}/sshd_config"]


def test_kssh_asks_for_the_options_of_ssh_in_bash() -> None:
    script = f'source {REPOSITORY}/completions/bash/kssh; _ssh() {{ echo "$*"; }}; _kssh kssh - kssh'
    ran = subprocess.run([need("bash"), "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "ssh - kssh\n"


def in_shell(command: list[str], typed: bytes, shown: bytes, **env: str) -> None:
    """Type into an interactive shell, which is ready once it answers, and wait for what it makes of that."""
    path = f"{Path(program()).parent}{os.pathsep}{os.environ['PATH']}"
    with Terminal(command, {"PATH": path, "PS1": "", **env}) as terminal:
        deadline = time.monotonic() + 20
        while b"ready.42" not in terminal.output and time.monotonic() < deadline:
            terminal.send(b"echo ready.$((6 * 7))\r")
            time.sleep(20 * POLL_S)
            terminal.read()
        terminal.send(typed)
        terminal.expect(shown)


SHOW = b'ksshctl() { echo "<$*>"; }\r'  # what would run, completed


@pytest.mark.parametrize("typed", [b"al", b"al@", b"al@a", b"al@a:", b"al@a:1-"])
def test_names_with_an_at_sign_and_a_colon_complete_in_bash(tmp_path: Path, typed: bytes) -> None:
    with up(tmp_path, "al@a:1-xyz"):
        source = f"source {REPOSITORY}/completions/bash/ksshctl\r".encode()
        in_shell(
            [need("bash"), "--norc", "--noprofile", "-i"],
            source + SHOW + b"ksshctl status " + typed + b"\t\r",
            b"<status al@a:1-xyz>",
        )


ZSH = f"fpath=({REPOSITORY}/completions/zsh $fpath); autoload -U compinit; compinit -D -u\r".encode()


def test_zsh_completes(tmp_path: Path) -> None:
    with up(tmp_path, "al@a:1-xyz"):
        in_shell([need("zsh"), "-f", "-i"], ZSH + SHOW + b"ksshctl hist\tal\t\r", b"<history al@a:1-xyz>")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("keepalive set --count\t3", "keepalive set --count-max 3"),
        ("keepalive show --conn\tx", "keepalive show --connection x"),
        ("doctor --sshd-c\tx", "doctor --sshd-config x"),
        ("probe --pat\t9", "probe --patience 9"),
    ],
)
def test_options_complete_in_zsh(typed: str, shown: str) -> None:
    in_shell([need("zsh"), "-f", "-i"], ZSH + SHOW + f"ksshctl {typed}\r".encode(), f"<{shown}>".encode())


def test_kssh_completes_as_ssh(tmp_path: Path) -> None:
    config = Path(os.environ["HOME"], ".ssh", "config")
    config.parent.mkdir()
    config.write_text("Host faraway\n")
    script = f"source {REPOSITORY}/completions/fish/kssh.fish; complete -C 'kssh fara'"
    ran = subprocess.run([need("fish"), "-c", script], capture_output=True, check=True)
    assert ran.stdout.startswith(b"faraway")
    show = SHOW.replace(b"ksshctl", b"kssh")
    in_shell([need("zsh"), "-f", "-i"], ZSH + show + b"kssh fara\t\r", b"<faraway>")
