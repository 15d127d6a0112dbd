"""Whether ssh need be asked for its configuration: what stands in the files, and what ssh makes of it."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings, strategies as st

from harness import Argument, need, openssh_version, program, run_kssh
from links import lines_of
from pykeepssh.link.plan import MATTER_TO_STREAM, Caller, is_left_to_ssh, joins_master, make
from pykeepssh.settings import Settings
from pykeepssh.ssh.args import CommandLine, parse
from pykeepssh.system import config_files
from pykeepssh.system.config_files import Files
from pykeepssh.system.effective import ask_configuration, parse_configuration
from pykeepssh.system.program import is_usual

ENVIRONMENT = dict(os.environb)
TERMINAL = Caller(lambda: True, attended=True, asks=True, askpass=False, terminal=True)
CRON = Caller(lambda: False, attended=False, asks=False, askpass=False)


def line_of(*words: str) -> CommandLine:
    return parse(words, lambda: False)


def write(folder: Path, files: dict[str, str]) -> CommandLine:
    """Write files, the first of which is for -F, with the folder for {folder} in them."""
    for path, text in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(text.replace("{folder}", str(folder)) + "\n")
    return line_of("-F", str(folder / next(iter(files))), "h", "true")


# -- which files ---------------------------------------------------------------------------------------


def test_the_files_are_those_of_ssh() -> None:
    own, *system = Files(line_of("h")).paths
    assert own.endswith("/.ssh/config")
    assert system[0] == "/etc/ssh/ssh_config"
    assert Files(line_of("-F", "None", "h")).paths == []
    assert Files(line_of("-F", "a", "h", "-F", "/b")).paths == ["/b"]
    assert Files(line_of("-F", "a", "h")).paths == [str(Path.cwd() / "a")]


# The files, of which one says something that matters, and whether that is seen or feared.
MAY_NAME: dict[str, tuple[dict[str, str], bool]] = {
    "nothing": ({"config": ""}, False),
    "what does not matter": ({"config": "Host *\nUser x\nRemoteCommand true\nProxyJump j"}, False),
    "a keyword": ({"config": "Host other\nControlPath ~/m"}, True),
    "a comment": ({"config": "# ControlPath ~/m"}, False),
    "in an included file": ({"config": "Include {folder}/a", "a": "RequestTTY no"}, True),
    "not in an included file": ({"config": "Include {folder}/a", "a": "User x"}, False),
    "two below": ({"config": "Include {folder}/a", "a": "Include {folder}/b", "b": "RequestTTY no"}, True),
    "one of many": ({"config": "Include {folder}/*.d/../*.x", "d.d/a": ""}, True),
    "a pattern": ({"config": "Include {folder}/c*.d", "c1.d": "", "c2.d": "RequestTTY no"}, True),
    "a set of letters": ({"config": "Include {folder}/c[0-9]d", "c1d": "", "c2d": "RequestTTY no"}, True),
    "a pattern for nothing": ({"config": "Include {folder}/*.x", "a": "RequestTTY no"}, False),
    "a folder that is not there": ({"config": "Include {folder}/x/*"}, False),
    "a file that is not there": ({"config": "Include {folder}/x"}, False),
    "a file that is a folder": ({"config": "Include {folder}"}, True),
    "a folder in a pattern": ({"config": "Include {folder}/d*", "d/a": ""}, True),
    "a quoted file": ({"config": 'Include "{folder}/a"', "a": ""}, True),
    "somebody's home": ({"config": "Include ~root/a"}, True),
    "a pattern in the way": ({"config": "Include {folder}/*/a", "d/a": ""}, True),
    "one that includes itself": ({"config": "Include {folder}/a", "a": "Include {folder}/a"}, False),
    "a line that is too long": ({"config": f"# {'x' * 1000}"}, True),
    "a NUL": ({"config": "User x\0"}, True),
    "a huge one": ({"config": "# comment\n" * 30_000}, True),
    "too many": ({"config": "Include {folder}/c*.d", **{f"c{i}.d": "" for i in range(110)}}, True),
}


@pytest.mark.parametrize("name", MAY_NAME)
def test_what_may_stand_in_the_files(name: str, tmp_path: Path) -> None:
    files, expected = MAY_NAME[name]
    assert Files(write(tmp_path, files)).may_name(MATTER_TO_STREAM) is expected


def test_what_cannot_be_read_is_no_reason_to_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    (tmp_path / "config").write_text(f"Include {tmp_path}/fifo\n")
    for name in ("fifo", "link", "config", "."):
        files = Files(line_of("-F", str(tmp_path / name), "h"))
        assert files.may_name(MATTER_TO_STREAM)
        assert files.lasting is (name not in ("fifo", "link"))
    for path, expected in ((tmp_path / "none", False), (Path(os.devnull), False), (Path("/dev/stdin"), True)):
        files = Files(line_of("-F", str(path), "h"))
        assert files.lasting is not expected
        if files.lasting:
            assert not files.may_name(MATTER_TO_STREAM)


def test_what_cannot_be_opened_may_say_anything(tmp_path: Path) -> None:
    line = write(tmp_path, {"config": "Include {folder}/a"})
    (tmp_path / "a").symlink_to("a")  # root, who may read everything, cannot read this
    assert Files(line).may_name(MATTER_TO_STREAM)


def test_a_link_to_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("ControlPath x\n")
    (tmp_path / "link").symlink_to("real")
    assert Files(line_of("-F", str(tmp_path / "link"), "h")).may_name(MATTER_TO_STREAM)


def test_where_relative_paths_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, etc = tmp_path / "home", tmp_path / "etc"
    (home / ".ssh").mkdir(parents=True)
    etc.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(config_files, "SYSTEM_FILES", (str(etc / "ssh_config"),))
    for path in (etc / "ssh_config", tmp_path / "config"):
        path.write_text("Include more\n")
    system, own = line_of("h"), line_of("-F", str(tmp_path / "config"), "h")
    for folder, line, other in ((etc, system, own), (home / ".ssh", own, system)):
        (folder / "more").write_text("ControlPath x\n")
        assert "controlpath" in Files(line).naming(MATTER_TO_STREAM)
        assert "controlpath" not in Files(other).naming(MATTER_TO_STREAM)
        (folder / "more").unlink()
    (tmp_path / "config").write_text("Include ~/more\n")
    (home / "more").write_text("ControlPath x\n")
    assert Files(own).may_name(MATTER_TO_STREAM)
    monkeypatch.setenv("HOME", "")  # whose it is then, only glob(3) knows
    (home / "more").unlink()
    assert Files(own).may_name(MATTER_TO_STREAM)


def test_a_system_whose_file_is_not_found_may_have_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config_files, "SYSTEM_FILES", (str(tmp_path / "ssh_config"),))
    assert Files(line_of("h")).may_name(MATTER_TO_STREAM)
    assert not Files(line_of("-F", "none", "h")).may_name(MATTER_TO_STREAM)


# -- and what the real ssh makes of them ---------------------------------------------------------------

WORDS = st.sampled_from(
    [
        *("ServerAliveInterval", "ServerAliveCountMax", "SessionType", "RequestTTY", "ControlPath"),
        *("ProtocolKeepAlives", "SetupTimeOut", "RemoteCommand", "StdinNull", "ForkAfterAuthentication"),
        *("ControlMaster", "ControlPersist", "ConnectTimeout", "LogLevel", "User", "BatchMode"),
    ]
)
VALUES = st.sampled_from(["0", "7", "yes", "no", "none", "auto", "force", "QUIET", "/tmp/x"])
BEFORE = st.sampled_from(["", " ", "\t ", "=", ' ""', "#", "# ", '"# "', "\f", '"" #'])
BETWEEN = st.sampled_from([" ", "=", " = ", "\t", '"', "  #"])
HEADS = st.sampled_from(["Host h", "Host other", "Match all", "Match user nobody", "Match final", ""])
INCLUDES = st.sampled_from(
    [
        "Include {0}/a",
        'Include "{0}/a"',
        '"Include" {0}/a',
        "include={0}/[ab]",
        "Include {0}/?",
        "=Include {0}/b",
    ]
)


@st.composite
def spelled(draw: st.DrawFn) -> str:
    """A line: a keyword in odd letters, perhaps with a quote in it, and a value."""
    upper = draw(st.integers(0, 2**24 - 1))
    word = "".join(c.upper() if upper >> i & 1 else c.lower() for i, c in enumerate(draw(WORDS)))
    if draw(st.integers(0, 3)) == 0:
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(word))] * 2)))
        word = f'{word[:start]}"{word[start:end]}"{word[end:]}'
    between = draw(BETWEEN)
    return draw(BEFORE) + word + between + draw(VALUES) + ('"' if '"' in between else "")


TEXTS = st.lists(st.one_of(spelled(), HEADS, INCLUDES), max_size=5).map("\n".join)
LINES = (
    (("h", "true"), CRON),
    (("h", "true"), TERMINAL),
    (("h",), CRON),
    (("-n", "h"), TERMINAL),
    (("-s", "h", "sftp"), CRON),
)


@pytest.mark.timeout(300)
@settings(max_examples=60, deadline=None)
@given(TEXTS, TEXTS, TEXTS, st.sampled_from(LINES))
@example('Server"AliveInterval" 7', "", "", LINES[0])
@example("Include {0}/?", "", "Host h\n=SessionType none", LINES[2])
@example("Host h\nServerAliveInterval 60", "", "", LINES[0])
@example("Host *\nServerAliveCountMax 5", "", "", LINES[0])
@example("SessionType none", "", "", LINES[2])
@example("RequestTTY yes", "", "", LINES[1])
@example("ControlPath /tmp/x", "", "", LINES[0])
@example("User x", "", "", LINES[0])
def test_what_is_taken_for_unimportant_changes_nothing_for_the_real_ssh(
    config: str, a: str, b: str, asked: tuple[tuple[str, ...], Caller]
) -> None:
    words, caller = asked
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (("config", config), ("a", a), ("b", b)):
            Path(folder, name).write_text(text.replace("{0}", folder) + "\n")
        line = line_of("-F", f"{folder}/config", *words)
        assert is_left_to_ssh(line, Settings({}), caller)
        if Files(line).may_name(MATTER_TO_STREAM):
            return
        output, status = ask_configuration(need("ssh"), line, ENVIRONMENT).answer()
    if status != 0:
        return  # ssh refuses the files, whoever asks
    configuration = parse_configuration(output)
    assert configuration
    with_answer = make(line, configuration, Settings({}), caller)
    without = make(line, None, Settings({}), caller)
    assert (with_answer.kind, with_answer.supervised) == (without.kind, without.supervised)
    for plan in (with_answer, without):
        assert (plan.first, plan.last, plan.without) == (without.first, without.last, without.without)
    assert not joins_master(configuration)


# -- how often ssh is run ------------------------------------------------------------------------------

# A Match whose command notes the words of the ssh that runs it; nothing listens at the port.
COUNTS = 'Match exec "ps -ww -o args= -p $PPID >>{folder}/note"\nHost h\nHostName 127.0.0.1\nPort 1\n'
ADDED = "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"
usual = pytest.mark.skipif(not is_usual(need("ssh")), reason="another ssh is always asked")


def runs_of_ssh(folder: Path, text: str, words: list[Argument], **env: str) -> list[str]:
    """Return the words of each ssh that read the configuration."""
    config = folder / "config"
    config.write_text(text.replace("{folder}", str(folder)))
    done = run_kssh(["-F", config, *words], env={"KSSH_SSH": need("ssh"), **env})
    assert done.returncode == 255
    return lines_of(folder / "note")


@usual
@pytest.mark.parametrize("words", [["h", "true"], ["h"], ["-n", "h"], ["-T", "h", "true"]], ids=" ".join)
def test_a_match_exec_runs_once_for_a_stream(tmp_path: Path, words: list[Argument]) -> None:
    (run,) = runs_of_ssh(tmp_path, COUNTS, words)
    assert " -G " not in run
    assert ADDED in run


# What may matter; what the ssh that connects is told by kssh.
ASKED = {
    "an interval": ("Host *\nServerAliveInterval 60", ""),
    "an interval of 0": ("Host *\nServerAliveInterval 0", ""),
    "another host's interval": ("Host other\nServerAliveInterval 60", ADDED),
    "a count": ("Host *\nServerAliveCountMax 7", "-o ServerAliveInterval=15"),
    "odd letters": ('Host *\n = serverALIVE"interval" = 60', ""),
    "an included file": ("Host *\nInclude {folder}/more", ""),
}
if openssh_version() < (8, 7):
    del ASKED["odd letters"]  # an error for those that read words by hand


@usual
@pytest.mark.parametrize("name", ASKED)
def test_ssh_is_asked_where_a_file_may_say_something(tmp_path: Path, name: str) -> None:
    text, added = ASKED[name]
    (tmp_path / "more").write_text("ServerAliveInterval 60\n")
    *questions, run = runs_of_ssh(tmp_path, f"{text}\n{COUNTS}", ["h", "true"])
    assert questions
    assert all(" -G " in question for question in questions)
    assert " -G " not in run
    assert run.partition(" -o ")[1:] == (added and " -o ", added[3:] + " h true" if added else "")


@usual
def test_a_command_that_a_file_names_does_not_matter_without_a_terminal(tmp_path: Path) -> None:
    (run,) = runs_of_ssh(tmp_path, f"RemoteCommand date\n{COUNTS}", ["h"])
    assert ADDED in run


@usual
@pytest.mark.parametrize("variable", ["HOOK", "LOGFILE", "PIDFILE", "STATE_DIR"])
def test_a_variable_that_cannot_be_used_is_named_although_ssh_is_not_asked(
    tmp_path: Path, variable: str
) -> None:
    (tmp_path / "file").write_text("")
    bad = {f"KSSH_{variable}": str(tmp_path / "file" / "x")}
    assert runs_of_ssh(tmp_path, COUNTS, ["h", "true"], **bad) == []
    good = {"KSSH_HOOK": "/bin/true"} if variable == "HOOK" else {f"KSSH_{variable}": str(tmp_path / "new")}
    assert len(runs_of_ssh(tmp_path, COUNTS, ["h", "true"], **good)) == 1


def test_another_ssh_is_asked(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    ssh.write_text(f'#!/bin/sh\nexec {need("ssh")} "$@"\n')
    ssh.chmod(0o755)
    assert len(runs_of_ssh(tmp_path, COUNTS, ["h", "true"], KSSH_SSH=str(ssh))) == 2


@usual
def test_a_refused_configuration_ends_as_with_ssh(tmp_path: Path) -> None:
    config = tmp_path / "config"
    for text in ("Nonsense 1", "Port x", "ServerAliveCountMax", "Include a\nMatch nonsense"):
        config.write_text(f"{text}\n")
        words = ["-F", str(config), "h", "true"]
        kssh = run_kssh(words)
        ssh = subprocess.run([need("ssh"), *words], capture_output=True, check=False)
        assert (kssh.returncode, kssh.stderr) == (255, ssh.stderr)
        assert ssh.stderr


def test_what_can_be_read_only_once_is_read_by_the_ssh_that_connects(tmp_path: Path) -> None:
    fifo, note = tmp_path / "fifo", tmp_path / "note"
    os.mkfifo(fifo)
    text = COUNTS.replace("{folder}", str(tmp_path))
    with subprocess.Popen(["sh", "-c", 'printf %s "$1" >"$2"', "sh", text, fifo]):
        assert run_kssh(["-F", fifo, "h", "true"]).returncode == 255
    assert run_kssh(["-F", "/dev/stdin", "h", "true"], stdin=text.encode()).returncode == 255
    assert [run.partition(" -F ")[2] for run in lines_of(note)] == [f"{fifo} h true", "/dev/stdin h true"]


def test_a_working_directory_that_is_gone_is_no_harm(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'rmdir "$1"; exec "$2" -F config h true'
    words = ["sh", "-c", script, "sh", gone, program()]
    done = subprocess.run(words, cwd=gone, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert done.returncode == 255
    assert done.stderr.startswith(b"Can't open user config file config")
