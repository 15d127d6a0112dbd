"""Tunnels, with a fake ssh: what it is started with, when it is started again, and how kssh ends."""

from __future__ import annotations

import os
import pwd
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness import MARK, Argument, Terminal, alive, end, fake_ssh, marked, program, run_kssh, shell, wait_for
from links import (
    CONNECT,
    LOSE,
    PORT_REFUSED,
    REFUSE,
    SESSION,
    STAY,
    Kssh,
    background,
    end_background,
    lines_of,
    records,
    sealed,
    started,
    with_fake,
)

UP = SESSION + STAY
# A session, and a child of ssh's that keeps what it inherited open, as a control master does.
FIRST_DIES = f"[ $start = 1 ] && {{ {SESSION}{LOSE} }}\n"


# What ssh is started with.


def test_the_default_options_stand_behind_the_user_s(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    given = ["-N", "-p", "22", "-L", "1:h:2", "host", "-v"]
    with Kssh(given, with_fake(fake)) as kssh:
        words = started(fake).argv
        assert [word for word in words if word in given] == given
        for option in (
            "ServerAliveInterval=15",
            "ServerAliveCountMax=3",
            "ConnectTimeout=15",
            "ExitOnForwardFailure=yes",
            "BatchMode=yes",
        ):
            assert words[words.index(option) - 1] == "-o"
            assert words.index(option) > words.index("-p")
        assert words.index("-E") > words.index("host")
        kssh.stop()


@pytest.mark.parametrize(
    ("env", "option"),
    [
        ({"KSSH_INTERVAL": "1m"}, "ServerAliveInterval=60"),
        ({"KSSH_COUNTMAX": "5"}, "ServerAliveCountMax=5"),
        ({"KSSH_CONNECT_TIMEOUT": "7"}, "ConnectTimeout=7"),
    ],
)
def test_the_environment_sets_the_options(tmp_path: Path, env: dict[str, str], option: str) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], {**with_fake(fake), **env}) as kssh:
        assert option in started(fake).argv
        kssh.stop()


@pytest.mark.parametrize(
    ("configuration", "absent"),
    [
        ({"serveraliveinterval": "30"}, "ServerAlive"),
        ({"connecttimeout": "5"}, "ConnectTimeout"),
        ({"controlpath": "none"}, "ControlPath"),
    ],
)
def test_what_the_configuration_sets_is_left_alone(
    tmp_path: Path, configuration: dict[str, str], absent: str
) -> None:
    fake = fake_ssh(tmp_path, UP, configuration)
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        assert not [word for word in started(fake).argv if absent in word]
        kssh.stop()


def test_a_shared_master_is_not_used_for_a_tunnel(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP, {"controlpath": "/tmp/master", "controlmaster": "auto"})
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        assert "ControlPath=none" in started(fake).argv
        kssh.stop()


def test_ssh_askpass_is_asked_in_a_person_s_place(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f'echo "$SSH_ASKPASS_REQUIRE" >"$here/require"; {UP}')
    env = {**with_fake(fake), "SSH_ASKPASS": "/bin/false", "DISPLAY": ":0"}
    with Kssh(["-N", "host"], env) as kssh:
        assert "BatchMode=yes" not in started(fake).argv
        wait_for(lambda: lines_of(fake.path.parent / "require") == ["force"])
        kssh.stop()


# As ssh does without BatchMode: it asks, and waits for ever.
ASK = (
    CONNECT + "case \"$*\" in *BatchMode=yes*) log 'u@h: Permission denied (password).'; exit 255 ;; esac\n"
    "printf 'password: ' >/dev/tty; read -r word </dev/tty\n"
)


@pytest.mark.parametrize(("end", "asks"), [("", True), (" &", False)], ids=["foreground", "background"])
def test_a_job_that_nobody_watches_asks_in_the_foreground_only(tmp_path: Path, end: str, asks: bool) -> None:
    """Asking in the background stops a job; if nobody watches it, for good."""
    fake = fake_ssh(tmp_path, UP)
    with shell(env=with_fake(fake)) as terminal:
        terminal.send(f"{program()} -N host </dev/null >/dev/null 2>&1{end}\n".encode())
        assert ("BatchMode=yes" not in started(fake).argv) == asks


def test_where_nobody_can_answer_any_more_ssh_waits_for_no_answer(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, ASK)
    with shell(env=with_fake(fake)) as terminal:
        # An orphaned job: the kernel stops it no more, and lets it have no keys.
        terminal.send(f"({program()} -N host &)\n".encode())
        started(fake, 2)
        terminal.expect(b"Permission denied (password).")
        wait_for(lambda: not background())
    assert len(fake.starts) == 2


@pytest.mark.parametrize(
    "words", [["-N"], ["-fN"], ["-o", "SessionType=none"], ["-Nn"], ["-NT"]], ids=" ".join
)
def test_ssh_gets_a_session_of_its_own_and_never_f(tmp_path: Path, words: list[str]) -> None:
    configuration = {"sessiontype": "none"} if "-o" in words else {}
    fake = fake_ssh(tmp_path, UP, configuration)
    with Kssh([*words, "host"], with_fake(fake)) as kssh:
        start = started(fake)
        assert os.getsid(start.pid) == start.pid
        assert not [word for word in start.argv if re.fullmatch(r"-[a-zA-Z]*f[a-zA-Z]*", word)]
        if "f" not in words[0]:
            kssh.stop()
    end_background()


# When it is started again.


def test_a_lost_link_is_started_again_at_once(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FIRST_DIES}{UP}")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=3600)) as kssh:
        second = started(fake, 2)
        kssh.says("again")
        assert alive(second.pid)
        assert re.search(r"^kssh: host: link lost .*retry 2 now$", kssh.said, re.MULTILINE)
        kssh.stop()


def test_short_sessions_back_off(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{LOSE}")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=3600)) as kssh:
        wait_for(lambda: re.search(r"retry [4-9] in ([\d.]+) (s|min)", kssh.said))
        kssh.stop()
    assert len(fake.starts) < 40


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("status", [None, 0])
def test_an_ssh_that_somebody_else_ended_is_started_again(
    tmp_path: Path, signum: int, status: int | None
) -> None:
    """ssh -N ends with 0 on SIGTERM: that is no success."""
    name = signal.Signals(signum).name[3:]
    say = f"log 'Killed by signal {int(signum)}.'; exit 0"
    trap = "" if status is None or signum == signal.SIGKILL else f'trap "{say}" {name}\n'
    stay = "while :; do sleep 0.02; done\n"
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] && {{ {trap}{SESSION}{stay} }}\n{UP}")
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        os.kill(started(fake).pid, signum)
        second = started(fake, 2)
        kssh.says("again")
        assert alive(second.pid)
        kssh.stop()


def kssh_up(kssh: Kssh) -> None:
    kssh.says("tunnel is up")


def test_a_first_refusal_is_retried_when_nobody_is_there(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 3 ] || {{ {REFUSE} }}\n{UP}")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=1)) as kssh:
        kssh_up(kssh)
        assert "Connection refused" in kssh.said
        kssh.stop()
    assert len(fake.starts) == 3


@pytest.mark.parametrize("line", ["", "ssh: Could not resolve hostname h: Name or service not known"])
def test_first_start_fail_makes_it_final(tmp_path: Path, line: str) -> None:
    fake = fake_ssh(tmp_path, f"log '{line}'; exit 255" if line else REFUSE)
    with Kssh(["-N", "host"], with_fake(fake, FIRST_START="fail")) as kssh:
        assert kssh.wait() == 255
    assert len(fake.starts) == 1


def test_a_port_that_is_refused_is_tried_at_a_flat_pace_and_named(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, PORT_REFUSED, {"remoteforward": "2222"})
    with Kssh(["-N", "-R", "2222:h:22", "host"], with_fake(fake)) as kssh:
        kssh.says("retry 2 in 5 s")
        assert "port 2222; an old session may still hold it" in kssh.said
        kssh.stop()
    assert len(fake.starts) == 1


def test_the_limit_ends_it_with_ssh_s_status_and_one_line(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, REFUSE)
    with Kssh(["-N", "host"], with_fake(fake, MAXSTART=3, BACKOFF_MAX=1, LOGLEVEL="ERROR")) as kssh:
        assert kssh.wait() == 255
        own = [line for line in kssh.said.splitlines() if line.startswith("kssh: ")]
        assert len(own) == 1
        assert "3 starts" in own[0]
        assert "Connection refused" in own[0]
    assert len(fake.starts) == 3


def test_the_limit_never_ends_a_lost_tunnel_with_success(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}log 'Killed by signal 15.'; exit 0")
    with Kssh(["-N", "host"], with_fake(fake, MAXSTART=1)) as kssh:
        assert kssh.wait() == 255


def test_a_session_that_heals_counts_anew(tmp_path: Path) -> None:
    """The restart of a healthy session is at once, however many failures came before it."""
    fake = fake_ssh(
        tmp_path, f"[ $start -le 3 ] && {{ {REFUSE} }}\n[ $start = 4 ] && {{ {SESSION}{LOSE} }}\n{UP}"
    )
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=1)) as kssh:
        started(fake, 5)
        kssh.says("retry 5 now")
        kssh.stop()


# Signals for kssh.


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGALRM])
@pytest.mark.parametrize("stopped", [False, True])
def test_a_signal_ends_ssh_and_then_kssh_by_the_same(tmp_path: Path, signum: int, stopped: bool) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake), before=["sh", "-c", 'ulimit -c 0; exec "$@"', "sh"]) as kssh:
        kssh_up(kssh)
        ssh = started(fake).pid
        if stopped:
            os.kill(ssh, signal.SIGSTOP)
            wait_for(lambda: psutil.Process(ssh).status() == psutil.STATUS_STOPPED)
        kssh.send(signum)
        assert kssh.wait() == -signum
        assert not alive(ssh)
    assert len(fake.starts) == 1


def test_an_ssh_that_does_not_want_to_end_is_killed_after_3_s(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"trap '' TERM HUP INT\n{UP}")
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        asked = time.monotonic()
        kssh.send(signal.SIGTERM)
        assert kssh.wait() == -signal.SIGTERM
        assert time.monotonic() - asked > 2.9
        assert not alive(started(fake).pid)


def test_a_signal_ends_a_wait(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{LOSE}")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=3600)) as kssh:
        wait_for(lambda: re.search(r"retry \d+ in", kssh.said))  # a wait may come out as good as none
        kssh.stop()


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_a_request_starts_a_new_session(tmp_path: Path, signum: int) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        kssh.send(signum)
        second = started(fake, 2)
        assert not alive(fake.starts[0].pid)
        kssh.says("again")
        assert alive(second.pid)
        kssh.stop()


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGHUP])
def test_a_request_ends_a_wait(tmp_path: Path, signum: int) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 3 ] || {{ {PORT_REFUSED} }}\n{UP}")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=3600)) as kssh:
        for number in (2, 3):
            kssh.says(f"retry {number} in 5 s")
            kssh.send(signum)
        kssh_up(kssh)
        kssh.stop()


def test_sighup_ends_a_tunnel_at_a_terminal(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "-N", "host"], env=with_fake(fake)) as terminal:
        before = terminal.modes()
        wait_for(lambda: [record for record in records() if record["state"] == "UP"])
        os.kill(terminal.pid, signal.SIGHUP)
        assert terminal.wait() == -signal.SIGHUP
        assert terminal.modes() == before


def test_ctrl_c_ends_a_tunnel_at_a_terminal(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "-N", "host"], env=with_fake(fake)) as terminal:
        before = terminal.modes()
        wait_for(lambda: [record for record in records() if record["state"] == "UP"])
        terminal.send(b"\x03")
        assert terminal.wait() == -signal.SIGINT
        assert terminal.modes() == before
    assert not alive(started(fake).pid)


NOHUP: list[list[Argument]] = [[], ["nohup"], ["sh", "-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh"]]


@pytest.mark.parametrize("before", NOHUP, ids=lambda words: str(words[:1]))
def test_kill_9_of_kssh_takes_ssh_along(tmp_path: Path, before: list[Argument]) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake), before=before) as kssh:
        kssh_up(kssh)
        kssh.send(signal.SIGKILL)
        assert kssh.wait() == -signal.SIGKILL
        wait_for(lambda: not alive(started(fake).pid), what="ssh to go with kssh")


def test_nohup_protects_kssh_from_sighup(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake), before=["nohup"]) as kssh:
        kssh_up(kssh)
        kssh.send(signal.SIGHUP)
        kssh.stop()
    assert len(fake.starts) == 1


def test_a_lifetime_ends_a_tunnel_with_0(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake, MAXLIFETIME=1)) as kssh:
        assert kssh.wait() == 0
        assert "KSSH_MAXLIFETIME" in kssh.said
    assert not alive(started(fake).pid)


def test_a_lifetime_ends_a_wait_as_well(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, PORT_REFUSED)
    with Kssh(["-N", "host"], with_fake(fake, MAXLIFETIME=1)) as kssh:
        assert kssh.wait() == 0
    assert len(fake.starts) == 1


# Files.


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_pidfile_holds_kssh_s_pid_as_long_as_it_runs(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    pidfile = tmp_path / "pid"
    with Kssh(["-N", "host"], with_fake(fake, PIDFILE=pidfile)) as kssh:
        kssh_up(kssh)
        assert pidfile.read_text() == f"{kssh.pid}\n"
        kssh.stop()
    assert not pidfile.exists()


def test_a_pidfile_that_somebody_else_has_taken_over_stays(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    pidfile = tmp_path / "pid"
    with Kssh(["-N", "host"], with_fake(fake, PIDFILE=pidfile)) as kssh:
        kssh_up(kssh)
        pidfile.write_text("1\n")
        kssh.stop()
    assert pidfile.read_text() == "1\n"


def test_the_logfile_is_private_and_appended_to(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, FIRST_DIES + UP)
    log = tmp_path / "log"
    for round_ in (1, 2):
        with Kssh(["-N", "host"], with_fake(fake, LOGFILE=log)) as kssh:
            wait_for(lambda round_=round_: len([line for line in lines_of(log) if "up" in line]) >= round_)
            kssh.stop()
            assert kssh.said == ""
    assert mode(log) == 0o600
    assert all(
        re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} kssh\[\d+\]: host: ", line)
        for line in lines_of(log)
    )


def test_control_characters_of_the_other_side_are_escaped_in_the_log(tmp_path: Path) -> None:
    odd = "ssh: connect to host h port 22: \\033[2J\\007\\200"
    fake = fake_ssh(tmp_path, f"printf '{odd}\\r\\n' >&9; exit 255")
    log = tmp_path / "log"
    with Kssh(["-N", "host"], with_fake(fake, LOGFILE=log, MAXSTART=1)) as kssh:
        assert kssh.wait() == 255
    text = log.read_bytes()
    assert b"\\033[2J\\007" in text
    assert not [byte for byte in text if byte != 10 and (byte < 32 or byte > 126)]


def test_the_record_tells_the_truth(tmp_path: Path) -> None:
    log = "log 'debug1: remote forward success for: listen 2222, connect h:22'\n"
    fake = fake_ssh(tmp_path, f"{FIRST_DIES}{SESSION}{log}{STAY}", {"remoteforward": "2222 [h]:22"})
    with Kssh(["-N", "-R", "2222:h:22", "host"], with_fake(fake, NAME="my-link")) as kssh:
        wait_for(lambda: [one for one in records() if one["state"] == "UP"])
        (record,) = records()
        assert record["pid"] == kssh.pid
        assert abs(record["pid_started"] - psutil.Process(kssh.pid).create_time()) < 0.01
        assert record["ssh_pid"] == started(fake, 2).pid
        assert (record["name"], record["kind"], record["destination"]) == ("my-link", "tunnel", "host")
        assert record["starts"] == 2
        assert abs(record["since"] - time.time()) < 60
        assert "closed" in record["reason"]
        (path,) = Path(os.environ["KSSH_STATE_DIR"]).glob("*.json")
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o700
        kssh.stop()
    assert records() == []


def test_the_record_says_when_the_next_start_is(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, PORT_REFUSED)
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        wait_for(lambda: [one for one in records() if one["state"] == "WAITING"])
        (record,) = records()
        assert record["ssh_pid"] is None
        assert 0 < record["next"] - record["since"] <= 6
        kssh.stop()


@pytest.mark.parametrize("way", ["stopped", "gave up", "lifetime", "in the background"])
def test_nothing_is_left_after_a_clean_end(tmp_path: Path, way: str) -> None:
    fake = fake_ssh(tmp_path, f"{SESSION}{LOSE}" if way == "gave up" else UP)
    for name in ("tmp", "state", "run"):
        (tmp_path / name).mkdir(exist_ok=True)
    env = {**with_fake(fake), "TMPDIR": str(tmp_path / "tmp"), "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    if way == "in the background":
        assert run_kssh(["-fN", "host"], env=env).returncode == 0
        end_background()
    else:
        more = {"gave up": {"KSSH_MAXSTART": "1"}, "lifetime": {"KSSH_MAXLIFETIME": "1"}}.get(way, {})
        with Kssh(["-N", "host"], {**env, **more}) as kssh:
            if way == "stopped":
                kssh_up(kssh)
                kssh.stop()
            assert kssh.wait() is not None
    left = [path for name in ("tmp", "state", "run") for path in (tmp_path / name).iterdir()]
    assert [path for path in left if path.suffix != ".history"] == []


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_home_the_password_database_says_where_it_is(home: str | None) -> None:
    """At boot cron sets none.  Asked, not run: the state would be written to the real home."""
    ask = "from pykeepssh.system import this_host; print(this_host.home())"
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    env |= {} if home is None else {"HOME": home}
    said = subprocess.run([sys.executable, "-c", ask], env=env, stdout=subprocess.PIPE, check=True).stdout
    assert said.decode().strip() == pwd.getpwuid(os.getuid()).pw_dir


def test_a_home_that_cannot_be_used_is_said_and_replaced(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    home = tmp_path / "file"
    home.touch()
    env = {**with_fake(fake), "KSSH_STATE_DIR": "", "HOME": str(home), "TMPDIR": str(tmp_path)}
    with Kssh(["-N", "host"], env) as kssh:
        kssh_up(kssh)
        assert str(home) in kssh.said
        assert list(tmp_path.glob("kssh-*/*.json"))
        kssh.stop()


# The hook.

HOOK = """\
#!/bin/sh
env | grep '^KSSH_' | grep -v '^KSSH_SSH' | sort >"$(dirname "$0")/facts.$1.$KSSH_START.new"
mv "$(dirname "$0")/facts.$1.$KSSH_START.new" "$(dirname "$0")/facts.$1.$KSSH_START"
"""


def hook(tmp_path: Path, script: str = HOOK) -> Path:
    path = tmp_path / "hook"
    path.write_text(script)
    path.chmod(0o755)
    return path


def test_the_hook_learns_what_happens(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] && {{ {SESSION}{LOSE} }}\n{REFUSE}")
    with Kssh(["-N", "host"], with_fake(fake, HOOK=hook(tmp_path), MAXSTART=2, NAME="link")) as kssh:
        assert kssh.wait() == 255

    def facts(event: str) -> dict[str, str]:
        path = tmp_path / f"facts.{event}"
        wait_for(path.exists)
        return dict(line.split("=", 1) for line in lines_of(path))

    common = {"KSSH_HOST": "host", "KSSH_LINK": "link", "KSSH_KIND": "tunnel", "KSSH_PID": str(kssh.pid)}
    for event, more in {
        "up.1": {"KSSH_EVENT": "up"},
        "down.1": {"KSSH_EVENT": "down", "KSSH_OUTCOME": "lost", "KSSH_REASON": "the connection was closed"},
        "retry.2": {"KSSH_EVENT": "retry", "KSSH_DELAY": "0.000"},
        "gave-up.2": {
            "KSSH_EVENT": "gave-up",
            "KSSH_OUTCOME": "unreachable",
            "KSSH_REASON": "Connection refused",
        },
    }.items():
        found = facts(event)
        assert {**found, **common, **more} == found, event


def test_a_hook_that_hangs_does_not_hold_the_link_up(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    hanging = hook(tmp_path, "#!/bin/sh\nexec sleep 600\n")
    with Kssh(["-N", "host"], with_fake(fake, HOOK=hanging)) as kssh:
        kssh_up(kssh)
        for number in range(2, 12):
            kssh.send(signal.SIGUSR1)
            kssh.says(f"start {number}")
        kssh.stop()
    # They go on without kssh; more than eight at once are not started.
    hanging_hooks = marked(os.environ[MARK])
    assert 0 < len(hanging_hooks) <= 8
    end(hanging_hooks)


def test_a_hook_that_cannot_be_run_any_more_is_said(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    path = hook(tmp_path)
    with Kssh(["-N", "host"], with_fake(fake, HOOK=path)) as kssh:
        kssh_up(kssh)
        path.unlink()
        kssh.send(signal.SIGUSR1)
        kssh.says("hook not run")
        started(fake, 2)
        kssh.stop()


# The log channel.


def test_without_a_log_channel_a_tunnel_is_judged_by_its_status(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, "[ $start -le 2 ] && exit 255\n[ $start = 3 ] && exit 0\nexec sleep 600")
    nowhere = sealed(tmp_path, "/proc")
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=1), nowhere) as kssh:
        started(fake, 4)
        assert kssh.said.count("cannot read ssh's log") == 1
        assert "-E" not in fake.starts[0].argv
        kssh.stop()


@pytest.mark.parametrize("status", [0, 3, 255])
def test_without_a_log_channel_a_shell_keeps_its_status_and_is_not_run_again(
    tmp_path: Path, status: int
) -> None:
    fake = fake_ssh(tmp_path, f"exit {status}")
    with Terminal([*sealed(tmp_path, "/proc"), program(), "host"], env=with_fake(fake)) as terminal:
        before = terminal.modes()
        assert terminal.wait() == status
        assert b"cannot read ssh's log" in terminal.output
        assert terminal.modes() == before
    assert len(fake.starts) == 1


def test_where_no_directory_can_be_had_the_log_comes_through_a_pipe_without_a_name(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, FIRST_DIES + UP)
    with Kssh(["-N", "host"], with_fake(fake), sealed(tmp_path)) as kssh:
        kssh.says("again")
        assert "cannot read ssh's log" not in kssh.said
        kssh.stop()


@pytest.mark.parametrize("folder", ["/nonexistent", "relative", ""])
def test_a_useless_temporary_directory_does_not_matter(tmp_path: Path, folder: str) -> None:
    fake = fake_ssh(tmp_path, FIRST_DIES + UP)
    with Kssh(["-N", "host"], {**with_fake(fake), "TMPDIR": folder, "XDG_RUNTIME_DIR": folder}) as kssh:
        kssh.says("again")
        assert "cannot read ssh's log" not in kssh.said
        kssh.stop()


def test_the_user_s_e_file_holds_what_ssh_would_have_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    fake = fake_ssh(tmp_path, f"log 'Warning: for the user'; {FIRST_DIES}{UP}")
    with Kssh(["-N", "-E", log, "host"], with_fake(fake)) as kssh:
        kssh.says("again")
        kssh.stop()
        assert "Warning" not in kssh.said
    assert log.read_bytes() == b"before\n" + b"Warning: for the user\r\n" * 2


def test_y_sends_ssh_s_lines_away_from_standard_error(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"log 'Warning: for the user'; {UP}")
    with Kssh(["-N", "-y", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        kssh.stop()
        assert "Warning" not in kssh.said
    assert "-y" not in fake.starts[0].argv


LINES = {
    "ERROR": "an error",
    "INFO": "Warning: Permanently added 'h' (ED25519) to the list of known hosts.",
    "VERBOSE": "Authenticated using nothing",
}


@pytest.mark.parametrize(("level", "number"), [("QUIET", 0), ("ERROR", 1), ("INFO", 2), ("VERBOSE", 3)])
def test_the_user_sees_what_their_own_level_shows(tmp_path: Path, level: str, number: int) -> None:
    said = "".join(f'log "{line}"\n' for line in LINES.values())
    fake = fake_ssh(tmp_path, f"{said}{UP}", {"loglevel": level})
    shown = list(LINES.values())[:number]
    with Kssh(["-N", "host"], with_fake(fake, LOGLEVEL="INFO")) as kssh:
        kssh_up(kssh)
        assert [line for line in LINES.values() if line in kssh.said] == shown
        assert "debug1" not in kssh.said
        kssh.stop()


def test_a_user_who_wants_quiet_gets_it_from_kssh_too(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FIRST_DIES}{UP}", {"loglevel": "QUIET"})
    with Kssh(["-N", "-q", "host"], with_fake(fake)) as kssh:
        started(fake, 2)
        wait_for(lambda: [one for one in records() if one["state"] == "UP"])
        kssh.stop()
        assert kssh.said == ""


def test_a_background_child_of_ssh_that_holds_everything_open_is_not_waited_for(tmp_path: Path) -> None:
    """As a control master that persists does with the log."""
    fake = fake_ssh(tmp_path, f"sleep 600 &\necho $! >>{tmp_path}/children\n{SESSION}{LOSE}")
    with Kssh(["-N", "host"], with_fake(fake, MAXSTART=2)) as kssh:
        assert kssh.wait() == 255
    for line in lines_of(tmp_path / "children"):
        if alive(int(line)):
            os.kill(int(line), signal.SIGKILL)


# One of each, in the background.


def same(tmp_path: Path) -> list[str]:
    return ["-N", "-L", "1:h:2", "host"]


def test_a_second_identical_start_says_who_holds_it_and_ends_with_0(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(same(tmp_path), with_fake(fake)) as kssh:
        kssh_up(kssh)
        for words in (same(tmp_path), ["-f", *same(tmp_path)]):
            done = run_kssh(words, env=with_fake(fake))
            assert (done.returncode, done.stdout) == (0, b"")
            assert done.stderr.count(b"\n") == 1
            assert str(kssh.pid).encode() in done.stderr
        assert alive(kssh.pid)
        kssh.stop()
    assert len(fake.starts) == 1


@pytest.mark.parametrize(
    "other", [["-N", "-L", "3:h:2", "host"], ["-N", "-L", "1:h:2", "other"]], ids=" ".join
)
def test_another_link_starts_beside_it(tmp_path: Path, other: list[str]) -> None:
    # The fake's configuration names no forwards: kssh must know them from the command line.
    fake, second = (
        fake_ssh(tmp_path, UP),
        fake_ssh(tmp_path, UP, {"hostname": "other", "localforward": "3 [h]:2"}),
    )
    first = Kssh(same(tmp_path), with_fake(fake))
    with first, Kssh(other, with_fake(second)) as beside:
        kssh_up(first)
        kssh_up(beside)
        first.stop()
        beside.stop()


def test_a_name_makes_two_links_one(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "one"], with_fake(fake, NAME="same")) as kssh:
        kssh_up(kssh)
        assert run_kssh(["-N", "two"], env=with_fake(fake, NAME="same")).returncode == 0
        kssh.stop()
    assert len(fake.starts) == 1


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_the_place_is_free_once_its_holder_is_gone(tmp_path: Path, signum: int) -> None:
    fake = fake_ssh(tmp_path, UP)
    for number in (1, 2):
        with Kssh(same(tmp_path), with_fake(fake)) as kssh:
            started(fake, number)
            kssh_up(kssh)
            kssh.send(signum)
            kssh.wait()


def test_f_returns_0_once_the_tunnel_is_up_and_holds_nothing_of_the_caller_s(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"sleep 0.3\n{FIRST_DIES}{UP}")
    done = run_kssh(["-fN", "host"], env=with_fake(fake))  # captures: ends only once the pipes are closed
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    second = started(fake, 2)
    backs = background()
    assert len(backs) == 1
    assert os.getsid(backs[0].pid) == backs[0].pid
    for fd in (0, 1, 2):
        assert os.readlink(f"/proc/{backs[0].pid}/fd/{fd}") == os.devnull
    end_background()
    assert not alive(second.pid)


@pytest.mark.parametrize("status", [255])
def test_f_gives_ssh_s_message_and_status_if_it_failed(tmp_path: Path, status: int) -> None:
    fake = fake_ssh(tmp_path, f"log 'h@h: Permission denied (publickey).'; exit {status}")
    done = run_kssh(["-fN", "host"], env=with_fake(fake))
    assert done.returncode == status
    assert b"h@h: Permission denied (publickey)." in done.stderr
    assert background() == []
    assert len(fake.starts) == 1


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_f_that_waits(tmp_path: Path, signum: int) -> None:
    fake = fake_ssh(tmp_path, "exec sleep 600")
    with Kssh(["-fN", "host"], with_fake(fake)) as kssh:
        ssh = started(fake)
        kssh.send(signum)
        assert kssh.wait() == -signum
        wait_for(lambda: not alive(ssh.pid))
    assert background() == []


def test_f_goes_on_by_itself_and_can_be_asked_and_ended(tmp_path: Path) -> None:
    fake, pidfile, log = fake_ssh(tmp_path, UP), tmp_path / "pid", tmp_path / "log"
    env = with_fake(fake, PIDFILE=pidfile, LOGFILE=log)
    assert run_kssh(["-fN", "host"], env=env).returncode == 0
    pid = int(pidfile.read_text())
    assert [one.pid for one in background()] == [pid]
    for number, signum in ((2, signal.SIGUSR1), (3, signal.SIGHUP)):
        os.kill(pid, signum)
        started(fake, number)
        wait_for(lambda number=number: f"start {number}" in log.read_text())
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not alive(pid))
    assert not pidfile.exists()
    assert not alive(fake.starts[-1].pid)


def test_f_at_a_terminal_survives_it(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Terminal([program(), "-fN", "host"], env=with_fake(fake)) as terminal:
        before = terminal.modes()
        assert terminal.wait() == 0
        assert terminal.output == b""
        assert terminal.modes() == before
        terminal.hang_up()
    assert alive(started(fake).pid)
    assert len(background()) == 1
    end_background()


def test_an_idle_tunnel_costs_no_wake_up(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, UP)
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        process = psutil.Process(kssh.pid)

        def switches() -> int:
            return int(process.num_ctx_switches().voluntary)

        # What follows the start takes its time; then there is a second in which nothing happens.
        def quiet() -> bool:
            before = switches()
            time.sleep(1)
            return switches() == before

        wait_for(quiet, what="a second without a wake-up")
        kssh.stop()


def test_a_pty_that_ssh_writes_to_is_read(tmp_path: Path) -> None:
    """A banner or a prompt on an unattended tunnel: said, not piled up."""
    fake = fake_ssh(
        tmp_path, f"{{ echo 'a banner'; head -c 300000 /dev/zero | tr '\\0' x; echo; }} >&2; {UP}"
    )
    with Kssh(["-N", "host"], with_fake(fake)) as kssh:
        kssh_up(kssh)
        assert "a banner" in kssh.said
        kssh.stop()
