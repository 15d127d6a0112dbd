"""What follows from a call of kssh alone: which link it is, what ssh is given, who sees what."""

from __future__ import annotations

import pytest

from pykeepssh.link.kinds import ATTACH, COMMAND, SHELL, STREAM, TUNNEL
from pykeepssh.link.plan import Caller, Plan
from pykeepssh.link.request import Request
from pykeepssh.settings import Settings
from pykeepssh.ssh.args import parse
from pykeepssh.ssh.levels import DEBUG2, INFO, QUIET

Configuration = dict[str, list[str]]


def request(
    *words: str,
    kind: str = TUNNEL,
    configuration: Configuration | None = None,
    attended: bool = True,
    stderr_shown: bool = True,
    **environment: str,
) -> Request:
    settings = Settings({f"KSSH_{name}": value for name, value in environment.items()})
    caller = Caller(lambda: True, attended, attended, False, attended, stderr_shown)
    line = parse(words or ("host",), lambda: True)
    return Request("/usr/bin/ssh", line, configuration, Plan(kind), settings, caller)


def test_the_host_is_fit_for_a_line() -> None:
    assert request("a\x07b").host == "a\\007b"
    assert request("-V").host == ""


def test_a_plan_is_made_for_each_start() -> None:
    asked = request("-N", "host")
    first, second = asked.make_plan(), asked.make_plan()
    first.add("Keyword", "value")
    assert first.kind == second.kind == TUNNEL
    assert "Keyword=value" not in second.last


# -- the rules -----------------------------------------------------------------------------------------

RESTARTABLE = {SHELL: True, ATTACH: True, TUNNEL: True, COMMAND: False, STREAM: False}


@pytest.mark.parametrize("kind", RESTARTABLE)
def test_what_may_be_started_again(kind: str) -> None:
    assert request(kind=kind).rules.restartable == RESTARTABLE[kind]
    assert request(kind=kind, RESTART="always").rules.restartable


def test_only_a_plain_shell_stays_restartable_for_running_no_command() -> None:
    assert request(kind=SHELL).rules.runs_no_command
    assert not request(kind=SHELL, RESTART="always").rules.runs_no_command
    assert not request(kind=SHELL, RESUME="tmux").rules.runs_no_command
    assert not request(kind=ATTACH).rules.runs_no_command


@pytest.mark.parametrize("attended", [True, False])
def test_the_rules_are_the_settings(attended: bool) -> None:
    asked = request(attended=attended, FIRST_START="retry", BACKOFF_MAX="7", MAXSTART="3")
    rules = asked.rules
    assert (rules.kind, rules.attended) == (TUNNEL, attended)
    assert (rules.first_start, rules.backoff_max_s, rules.maxstart) == ("retry", 7.0, 3)


@pytest.mark.parametrize("kind", [TUNNEL, COMMAND])
@pytest.mark.parametrize("attended", [True, False])
def test_a_hangup_restarts_what_has_no_terminal(kind: str, attended: bool) -> None:
    asked = request(kind=kind, attended=attended)
    assert asked.hangup_restarts(asked.rules) == (kind == TUNNEL and not attended)
    asked.caller.leave()
    assert asked.hangup_restarts(asked.rules) == (kind == TUNNEL)


# -- which link it is ----------------------------------------------------------------------------------


def test_a_name_is_the_users_or_made() -> None:
    assert request(NAME="mine").name("/") == "mine"
    assert request("-R", "2222:localhost:22", "host").name("/").startswith("host-R2222-")


ONCE = {
    "a forward that listens": (("-L", "1:a:2", "host"), {}, {}, True),
    "one of a file": (("host",), {"localforward": ["1 [a]:2"]}, {}, True),
    "one that ssh did not tell of": (("-L", "1:a:2", "host"), {"x": ["y"]}, {}, True),
    "no forward": (("host",), {"x": ["y"]}, {}, False),
    "nothing is known": (("host",), None, {}, True),
    "a name": (("host",), {"x": ["y"]}, {"NAME": "mine"}, True),
}


@pytest.mark.parametrize("name", ONCE)
def test_what_stands_once(name: str) -> None:
    words, configuration, environment, once = ONCE[name]
    assert request(*words, configuration=configuration, **environment).stands_once == once


def test_a_shell_may_stand_as_often_as_one_likes() -> None:
    assert not request("-L", "1:a:2", "host", kind=SHELL, NAME="mine").stands_once


def test_forwards_are_counted_by_the_configuration() -> None:
    asked = request("host", configuration={"remoteforward": ["1 [a]:2", "3 [b]:4"]})
    assert asked.remote_forwards == 2
    assert asked.forwards == ["R1 [a]:2", "R3 [b]:4"]


def test_the_name_that_is_looked_up_is_that_of_the_configuration() -> None:
    assert request("alias").name_and_family == ("alias", "any")
    asked = request("alias", configuration={"hostname": ["host.example"], "addressfamily": ["inet6"]})
    assert asked.name_and_family == ("host.example", "inet6")


def test_only_a_tunnel_waits_for_a_device() -> None:
    assert request("-w", "0:0", "host").wants_device
    assert not request("-w", "0:0", "host", kind=SHELL).wants_device
    assert not request("host").wants_device


# -- what ssh is given ---------------------------------------------------------------------------------


def test_a_shared_master_is_that_of_the_configuration() -> None:
    shared = {"controlpath": ["/s"]}
    assert request(kind=SHELL, configuration=shared).control_path == "/s"
    assert request(kind=SHELL, configuration={}).control_path == "none"
    alone = request(kind=SHELL, configuration=shared)
    alone.plan.add("ControlPath", "none")
    assert alone.control_path == "none"


def test_a_shell_alone_is_held_by_a_multiplexer() -> None:
    assert request(kind=SHELL, RESUME="tmux").multiplexer == "tmux"
    assert request(kind=SHELL).multiplexer == ""
    assert request(kind=ATTACH, RESUME="tmux").multiplexer == ""


ESCAPES = {
    "ssh's own": (("host",), None, ord("~")),
    "by letter": (("-e", "^A", "host"), None, 1),
    "the configuration's": (("-e", "%", "host"), {"escapechar": ["%"]}, ord("%")),
    "none": (("host",), {"escapechar": ["none"]}, None),
}


@pytest.mark.parametrize("name", ESCAPES)
def test_the_escape_character(name: str) -> None:
    words, configuration, escape = ESCAPES[name]
    assert request(*words, configuration=configuration).escape == escape


# -- who sees what -------------------------------------------------------------------------------------


def test_who_has_a_terminal_uses_it_but_for_a_stream() -> None:
    assert request(kind=TUNNEL).uses_terminal
    assert not request(kind=STREAM).uses_terminal
    assert not request(kind=TUNNEL, attended=False).uses_terminal


def test_standard_error_that_is_no_terminal_is_not_the_ptys() -> None:
    assert request(stderr_shown=False).separates_stderr
    assert not request(stderr_shown=True).separates_stderr
    assert not request(stderr_shown=False, attended=False).separates_stderr
    background = request(stderr_shown=False)
    background.plan.background = True
    assert not background.separates_stderr


LEVELS = {
    "ssh's own": ("INFO", {}, "INFO", INFO),
    "-q is for both": ("QUIET", {}, "QUIET", QUIET),
    "-q and a level": ("QUIET", {"LOGLEVEL": "ERROR"}, "ERROR", QUIET),
    "-q and a log file": ("QUIET", {"LOGFILE": "/l"}, "INFO", QUIET),
    "-vv is ssh's alone": ("DEBUG2", {}, "INFO", DEBUG2),
    "one that nobody knows": ("LOUD", {}, "INFO", INFO),
}


@pytest.mark.parametrize("name", LEVELS)
def test_the_levels_of_lines(name: str) -> None:
    user_level, environment, ours, of_ssh = LEVELS[name]
    asked = request(**environment)
    asked.plan.user_level = user_level
    assert (asked.log_level, asked.ssh_level) == (ours, of_ssh)


def test_who_has_left_is_not_there() -> None:
    caller = request(kind=SHELL).caller
    caller.leave()
    assert not caller.person()
    left = caller.terminal, caller.attended, caller.asks, caller.session, caller.stderr_shown
    assert not any(left)
