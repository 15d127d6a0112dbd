"""What kind of session a command line asks for, what is added to it, and what may be run again."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from pykeepssh.link.kinds import ATTACH, COMMAND, QUERY, SHELL, STREAM, TUNNEL
from pykeepssh.link.plan import (
    DEFAULTS,
    IDS,
    MATTER_TO_STREAM,
    NAMES,
    NO_TAGS,
    TAG_ALL,
    Caller,
    Plan,
    add_for_restart,
    add_log_channel,
    add_resume,
    choice,
    first_value,
    forks_away,
    is_left_to_ssh,
    joins_master,
    keepalive_s,
    kind_of,
    leave_master,
    make,
    may_tell,
    shares_connection,
    tags_of,
)
from pykeepssh.settings import Settings
from pykeepssh.ssh.args import CommandLine, parse

TERMINAL = Caller(person=lambda: True, attended=True, asks=True, askpass=False)
CRON = Caller(person=lambda: False, attended=False, asks=False, askpass=False)
ASKPASS = Caller(person=lambda: False, attended=False, asks=False, askpass=True)
# Input or output redirected, or a program that drives ssh on a pty.
NO_PERSON = Caller(person=lambda: False, attended=True, asks=True, askpass=False)

Effective = Mapping[str, list[str]]
# What "ssh -G" of 9.2 says without any configuration, as far as kssh asks.
UNTOUCHED = {
    "requesttty": "auto",
    "sessiontype": "default",
    "stdinnull": "no",
    "forkafterauthentication": "no",
    "serveraliveinterval": "0",
    "serveralivecountmax": "3",
    "connecttimeout": "none",
    "exitonforwardfailure": "no",
    "loglevel": "INFO",
}
UNTOUCHED_LISTS = {keyword: [value] for keyword, value in UNTOUCHED.items()}
# And what it says on top of that for options of the command line.
BY_LETTER = {
    "N": {"sessiontype": "none", "requesttty": "false"},
    "s": {"sessiontype": "subsystem"},
    "t": {"requesttty": "true"},
    "T": {"requesttty": "false"},
    "f": {"forkafterauthentication": "yes", "stdinnull": "yes"},
    "n": {"stdinnull": "yes"},
    "W": {"sessiontype": "none", "requesttty": "false"},
    "v": {"loglevel": "DEBUG"},
    "q": {"loglevel": "SILENT"},
}


def line_of(words: str) -> CommandLine:
    return parse(words.split(), lambda: False)


def effective_of(line: CommandLine, **configured: str) -> Effective:
    """Return what "ssh -G" would say: the options of the command line over a configuration."""
    values = {**UNTOUCHED, **configured}
    for option in line.options:
        values.update(BY_LETTER.get(option.letter, {}))
    return {keyword: [value] for keyword, value in values.items()}


def plan_of(
    words: str,
    caller: Caller = TERMINAL,
    environment: Mapping[str, str] | None = None,
    **configured: str,
) -> Plan:
    line = line_of(words)
    variables = {"KSSH_" + name: value for name, value in (environment or {}).items()}
    return make(line, effective_of(line, **configured), Settings(variables), caller)


def added(plan: Plan) -> dict[str, str]:
    """Return the keywords that lose against the user's."""
    assert plan.last[::2] == ["-o"] * (len(plan.last) // 2)
    pairs = [word.split("=", 1) for word in plan.last[1::2]]
    assert len({keyword for keyword, _ in pairs}) == len(pairs)
    return dict(pairs)


# -- kinds -------------------------------------------------------------------------------------------

# words, caller, configuration, kind
KINDS: dict[str, tuple[str, Caller, dict[str, str], str]] = {
    "-V": ("-V", TERMINAL, {}, QUERY),
    "-G": ("-G h", TERMINAL, {}, QUERY),
    "-Q": ("-Q cipher", TERMINAL, {}, QUERY),
    "-O": ("-O check h", TERMINAL, {}, QUERY),
    "-Z": ("-Z h", TERMINAL, {}, QUERY),
    "a query behind the destination": ("h -O exit", TERMINAL, {}, QUERY),
    "no destination": ("-N", TERMINAL, {}, QUERY),
    "a missing argument": ("h -p", TERMINAL, {}, QUERY),
    "nothing": ("", TERMINAL, {}, QUERY),
    "a host": ("h", TERMINAL, {}, SHELL),
    "a host with options": ("-4vp 22 u@h", TERMINAL, {}, SHELL),
    "a shell with -t": ("-t h", TERMINAL, {}, SHELL),
    "a shell without a terminal there": ("-T h", TERMINAL, {}, STREAM),
    "a shell, RequestTTY no": ("h", TERMINAL, {"requesttty": "false"}, STREAM),
    "a shell, RequestTTY no of old": ("h", TERMINAL, {"requesttty": "no"}, STREAM),
    "a shell, RequestTTY force": ("h", TERMINAL, {"requesttty": "force"}, SHELL),
    "a shell without a person": ("h", NO_PERSON, {}, STREAM),
    "a shell in cron": ("h", CRON, {}, STREAM),
    "a shell without input": ("-n h", TERMINAL, {}, STREAM),
    "a shell, StdinNull yes": ("h", TERMINAL, {"stdinnull": "yes"}, STREAM),
    "a command": ("h ls", TERMINAL, {}, STREAM),
    "a command that is empty": ("h  ", TERMINAL, {}, SHELL),
    "a command on a terminal": ("-t h top", TERMINAL, {}, COMMAND),
    "a command, RequestTTY yes": ("h top", TERMINAL, {"requesttty": "true"}, COMMAND),
    "a command, RequestTTY force": ("h top", TERMINAL, {"requesttty": "force"}, COMMAND),
    "a command on a terminal without a person": ("-t h top", NO_PERSON, {}, STREAM),
    "a command in the background": ("-f h sleep 1", TERMINAL, {}, STREAM),
    "a command in the background by configuration": (
        "h sleep 1",
        TERMINAL,
        {"forkafterauthentication": "yes", "requesttty": "true"},
        STREAM,
    ),
    "an attacher": ("-t h tmux attach", TERMINAL, {}, ATTACH),
    "an attacher without a person": ("-t h tmux attach", NO_PERSON, {}, STREAM),
    "an attacher without a terminal": ("h tmux attach", TERMINAL, {}, STREAM),
    "RemoteCommand": ("h", TERMINAL, {"remotecommand": "top", "requesttty": "true"}, COMMAND),
    "RemoteCommand that attaches": (
        "h",
        TERMINAL,
        {"remotecommand": "tmux new -A -s x", "requesttty": "true"},
        ATTACH,
    ),
    "RemoteCommand without a terminal": ("h", TERMINAL, {"remotecommand": "top"}, STREAM),
    "RemoteCommand none": ("h", TERMINAL, {"remotecommand": "none"}, SHELL),
    "-W": ("-W h:22 j", TERMINAL, {}, STREAM),
    "-W with -N": ("-NW h:22 j", TERMINAL, {}, STREAM),
    "-s": ("-s h sftp", TERMINAL, {}, STREAM),
    "SessionType subsystem": ("h sftp", TERMINAL, {"sessiontype": "subsystem"}, STREAM),
    "-N": ("-N h", TERMINAL, {}, TUNNEL),
    "-N in cron": ("-N h", CRON, {}, TUNNEL),
    "-fN": ("-fNL 1:h:1 h", TERMINAL, {}, TUNNEL),
    "-N without a person": ("-N h", NO_PERSON, {}, TUNNEL),
    "-N behind the destination": ("h -N", TERMINAL, {}, TUNNEL),
    "-N in the command": ("-t h cmd -N", TERMINAL, {}, COMMAND),
    "SessionType none": ("h", TERMINAL, {"sessiontype": "none"}, TUNNEL),
}


@pytest.mark.parametrize("name", KINDS)
def test_the_kind_of(name: str) -> None:
    words, caller, configured, kind = KINDS[name]
    line = line_of(words)
    assert kind_of(line, effective_of(line, **configured), caller.person) == kind


def test_every_kind_is_asked_for_above() -> None:
    assert {kind for *_, kind in KINDS.values()} == {QUERY, SHELL, STREAM, ATTACH, COMMAND, TUNNEL}


@pytest.mark.parametrize("name", [name for name, row in KINDS.items() if not row[2]])
def test_the_kind_without_an_answer_from_ssh_of(name: str) -> None:
    words, caller, _, kind = KINDS[name]
    assert kind_of(line_of(words), None, caller.person) == kind
    assert kind_of(line_of(words), {}, caller.person) == kind


def test_the_first_value_of_a_keyword_counts() -> None:
    assert first_value({"a": ["1", "2"]}, "a", "x") == "1"
    assert first_value({"a": []}, "a", "x") == "x"
    assert first_value({}, "a", "x") == first_value(None, "a", "x") == "x"


@pytest.mark.parametrize(
    ("said", "expected"), [("yes", "yes"), ("True", "yes"), ("NO", "no"), ("false", "no"), ("Force", "force")]
)
def test_a_word_has_one_spelling(said: str, expected: str) -> None:
    assert choice({"requesttty": [said]}, "requesttty", "auto") == expected
    assert choice(None, "requesttty", said) == expected


@pytest.mark.parametrize(("words", "kind"), [("-tT h top", STREAM), ("-T -tt h top", COMMAND)])
def test_the_last_wish_for_a_terminal_counts(words: str, kind: str) -> None:
    assert kind_of(line_of(words), None, TERMINAL.person) == kind


# -- what needs no answer from ssh ---------------------------------------------------------------------

ON_TERMINAL = Caller(lambda: True, attended=True, asks=True, askpass=False, terminal=True)
# Words, where, the environment without KSSH_; whether ssh -G need not be asked where no file says anything.
LEFT_TO_SSH = {
    "a command": ("h ls", CRON, {}, True),
    "a command on a terminal": ("h ls", ON_TERMINAL, {}, True),
    "one that gets a terminal": ("-t h ls", ON_TERMINAL, {}, False),
    "one that gets none": ("-tT h ls", ON_TERMINAL, {}, True),
    "-t without one": ("-t h ls", CRON, {}, True),
    "a shell": ("h", ON_TERMINAL, {}, False),
    "a shell's input redirected": ("h", CRON, {}, True),
    "no standard input": ("-n h", ON_TERMINAL, {}, True),
    "in the background": ("-f h ls", ON_TERMINAL, {}, True),
    "-W": ("-W h:22 j", ON_TERMINAL, {}, True),
    "-s": ("-s h sftp", ON_TERMINAL, {}, True),
    "-N": ("-N h", CRON, {}, False),
    "a query": ("-G h", CRON, {}, False),
    "the path of a master": ("-S p h ls", CRON, {}, False),
    "a word that matters": ("-o ServerAliveInterval=5 h ls", CRON, {}, False),
    "an odd one": ('-oRequest"TTY" h ls', CRON, {}, False),
    "a word that does not": ("-o RemoteCommand=none h ls", CRON, {}, True),
    "a master": ("-M h ls", CRON, {}, True),
    "always": ("h ls", CRON, {"RESTART": "always"}, False),
    "never": ("h ls", CRON, {"RESTART": "never", "FIRST_START": "retry"}, True),
    "wait for the server": ("h ls", CRON, {"FIRST_START": "retry"}, False),
    "an interval that was found out": ("h ls", CRON, {"INTERVAL": "auto"}, False),
    "an interval": ("h ls", CRON, {"INTERVAL": "20"}, True),
}


def with_variables(variables: Mapping[str, str]) -> Settings:
    return Settings({f"KSSH_{name}": value for name, value in variables.items()})


@pytest.mark.parametrize("name", LEFT_TO_SSH)
def test_ssh_need_not_be_asked(name: str) -> None:
    words, caller, variables, expected = LEFT_TO_SSH[name]
    assert is_left_to_ssh(line_of(words), with_variables(variables), caller) is expected


# What "ssh -G" can say of a stream without one of MATTER_TO_STREAM.
UNIMPORTANT = {
    "remotecommand": ["none", "tmux attach", "true"],
    "stdinnull": ["no", "yes"],
    "forkafterauthentication": ["no", "yes"],
    "controlmaster": ["false", "auto"],
    "controlpersist": ["no", "60"],
    "connecttimeout": ["none", "7"],
    "exitonforwardfailure": ["no", "yes"],
    "loglevel": ["INFO", "QUIET"],
    "proxyjump": ["j"],
}


@pytest.mark.parametrize("keyword", UNIMPORTANT)
@pytest.mark.parametrize("name", [name for name, row in LEFT_TO_SSH.items() if row[3]])
def test_no_other_word_of_a_file_changes_what_is_left_to_ssh(name: str, keyword: str) -> None:
    words, caller, variables, _ = LEFT_TO_SSH[name]
    line = line_of(words)
    unasked = make(line, None, with_variables(variables), caller)
    for value in UNIMPORTANT[keyword]:
        configuration = effective_of(line, **{keyword: value})
        asked = make(line, configuration, with_variables(variables), caller)
        assert (asked.kind, asked.supervised, asked.unsure) == (unasked.kind, False, False)
        assert (asked.first, asked.last, asked.without) == (unasked.first, unasked.last, unasked.without)
        assert not joins_master(configuration)


# And for each of them, a line whose plan it changes.
IMPORTANT = {
    "serveraliveinterval": ("h ls", CRON, "60"),
    "serveralivecountmax": ("h ls", CRON, "5"),
    "sessiontype": ("h", CRON, "none"),
    "requesttty": ("h ls", ON_TERMINAL, "force"),
}


@pytest.mark.parametrize("keyword", MATTER_TO_STREAM)
def test_each_word_that_matters_does(keyword: str) -> None:
    if keyword == "controlpath":
        assert joins_master({keyword: ["/tmp/m"], "controlmaster": ["false"]})
        return
    words, caller, value = IMPORTANT[keyword]
    line = line_of(words)
    unasked = make(line, None, Settings({}), caller)
    asked = make(line, effective_of(line, **{keyword: value}), Settings({}), caller)
    assert (asked.kind, asked.last) != (unasked.kind, unasked.last)


# -- exec or supervise -------------------------------------------------------------------------------

LINE_OF_KIND = {
    QUERY: "-V",
    STREAM: "h ls",
    SHELL: "h",
    ATTACH: "-t h tmux a",
    COMMAND: "-t h top",
    TUNNEL: "-N h",
}
SUPERVISED = {
    "auto": {SHELL, ATTACH, COMMAND, TUNNEL},
    "always": {STREAM, SHELL, ATTACH, COMMAND, TUNNEL},
    "never": set(),
}


@pytest.mark.parametrize("restart", SUPERVISED)
@pytest.mark.parametrize("kind", LINE_OF_KIND)
def test_who_is_supervised(kind: str, restart: str) -> None:
    plan = plan_of(LINE_OF_KIND[kind], environment={"RESTART": restart})
    assert plan.kind == kind
    assert plan.supervised == (kind in SUPERVISED[restart])
    keywords = set(added(plan))
    assert ("ServerAliveInterval" in keywords) == (kind != QUERY)
    assert ("ConnectTimeout" in keywords) == plan.supervised
    assert ("ExitOnForwardFailure" in keywords) == (plan.supervised and kind == TUNNEL)
    assert plan.first == []
    assert plan.without == ""
    assert not plan.log


# words, KSSH_FIRST_START, KSSH_RESTART, supervised
WAITING = {
    "a stream that waits for its server": ("h ls", "retry", "auto", True),
    "a stream that ends": ("h ls", "fail", "auto", False),
    "a port": ("-W h:22 j", "retry", "auto", True),
    "never": ("h ls", "retry", "never", False),
    "a master is ssh's own": ("-M h ls", "retry", "auto", False),
}


@pytest.mark.parametrize("name", WAITING)
def test_a_stream_is_supervised_if_it_is_to_wait_for_its_server(name: str) -> None:
    words, first_start, restart, supervised = WAITING[name]
    plan = plan_of(words, environment={"FIRST_START": first_start, "RESTART": restart})
    assert (plan.kind, plan.supervised) == (STREAM, supervised)


def test_a_query_gets_nothing_added_whatever_the_settings() -> None:
    plan = plan_of("-O check h", environment={"RESTART": "always", "INTERVAL": "5", "COUNTMAX": "5"})
    assert (plan.first, plan.last, plan.without, plan.supervised) == ([], [], "", False)


# -- keepalive ---------------------------------------------------------------------------------------

# environment, configuration, what is added (the command line wins over that by ssh's own rule)
KEEPALIVE: dict[str, tuple[dict[str, str], dict[str, str], dict[str, str]]] = {
    "nothing said: the default": ({}, {}, {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}),
    "ssh_config says": ({}, {"serveraliveinterval": "60"}, {}),
    "ssh_config says both": ({}, {"serveraliveinterval": "60", "serveralivecountmax": "9"}, {}),
    "ssh_config says the count alone": ({}, {"serveralivecountmax": "9"}, {"ServerAliveInterval": "15"}),
    "KSSH_INTERVAL beats the default": (
        {"INTERVAL": "20"},
        {},
        {"ServerAliveInterval": "20", "ServerAliveCountMax": "3"},
    ),
    "KSSH_INTERVAL beats ssh_config": (
        {"INTERVAL": "15"},
        {"serveraliveinterval": "60", "serveralivecountmax": "9"},
        {"ServerAliveInterval": "15"},
    ),
    "KSSH_INTERVAL 0 adds none": ({"INTERVAL": "0"}, {}, {}),
    "KSSH_INTERVAL 0 leaves ssh_config": ({"INTERVAL": "0"}, {"serveraliveinterval": "60"}, {}),
    "KSSH_COUNTMAX beats the default": (
        {"COUNTMAX": "5"},
        {},
        {"ServerAliveInterval": "15", "ServerAliveCountMax": "5"},
    ),
    "KSSH_COUNTMAX beats ssh_config": (
        {"COUNTMAX": "3"},
        {"serveraliveinterval": "60", "serveralivecountmax": "9"},
        {"ServerAliveCountMax": "3"},
    ),
    "both beat ssh_config": (
        {"COUNTMAX": "5", "INTERVAL": "5"},
        {"serveraliveinterval": "60", "serveralivecountmax": "9"},
        {"ServerAliveInterval": "5", "ServerAliveCountMax": "5"},
    ),
    "KSSH_INTERVAL 0 with KSSH_COUNTMAX": (
        {"INTERVAL": "0", "COUNTMAX": "5"},
        {"serveraliveinterval": "60"},
        {"ServerAliveCountMax": "5"},
    ),
}


@pytest.mark.parametrize("name", KEEPALIVE)
@pytest.mark.parametrize("kind", [STREAM, SHELL, TUNNEL])
def test_whose_word_about_keepalive_wins(name: str, kind: str) -> None:
    environment, configured, expected = KEEPALIVE[name]
    plan = plan_of(LINE_OF_KIND[kind], environment=environment, **configured)
    keepalive = {keyword: value for keyword, value in added(plan).items() if "Alive" in keyword}
    assert keepalive == expected


def test_keepalive_is_added_without_an_answer_from_ssh() -> None:
    plan = make(line_of("h"), None, Settings({}), TERMINAL)
    assert added(plan) == {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}
    assert plan.user_level == "INFO"


# words, KSSH_RESTART, kind, is it supervised, is it said
UNKNOWN = {
    "a shell, or a RemoteCommand": ("h", "auto", STREAM, False, True),
    "a shell that may run anything again": ("h", "always", SHELL, True, False),
    "a shell that kssh keeps out of": ("h", "never", STREAM, False, True),
    "a command": ("-t h top", "auto", COMMAND, True, False),
    "an attacher": ("-t h tmux a", "auto", ATTACH, True, False),
    "a tunnel": ("-N h", "auto", TUNNEL, True, False),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_is_not_known_is_taken_for_a_command(name: str) -> None:
    words, restart, kind, supervised, unsure = UNKNOWN[name]
    for effective in (None, {}):
        plan = make(line_of(words), effective, Settings({"KSSH_RESTART": restart}), TERMINAL)
        assert (plan.kind, plan.supervised, plan.unsure) == (kind, supervised, unsure)
    assert not plan_of(words, environment={"RESTART": restart}).unsure


# words, environment, is a word of kssh's wanted
TOLD = {
    "as a rule": ("h", {}, True),
    "ssh is to be quiet": ("-q h", {}, False),
    "kssh is to be quiet": ("h", {"LOGLEVEL": "ERROR"}, False),
    "nothing would be started again": ("h", {"RESTART": "never"}, False),
}


@pytest.mark.parametrize("name", TOLD)
def test_kssh_says_what_it_does_not_know(name: str) -> None:
    words, environment, wanted = TOLD[name]
    settings = Settings({"KSSH_" + variable: value for variable, value in environment.items()})
    assert may_tell(make(line_of(words), None, settings, TERMINAL), settings) == wanted


# -- what the user's files say although ssh takes it anyway ----------------------------------------------

# words, environment, what kssh adds where nothing is said, and may give way
GIVING_WAY: dict[str, tuple[str, dict[str, str], set[str]]] = {
    "a stream": ("h ls", {}, {"serveraliveinterval"}),
    "a shell": ("h", {}, {"serveraliveinterval"}),
    "a tunnel": ("-N h", {}, {"serveraliveinterval", "exitonforwardfailure", "streamlocalbindunlink"}),
    "KSSH_INTERVAL beats the files": ("h ls", {"INTERVAL": "15"}, set()),
    "KSSH_INTERVAL adds none": ("h ls", {"INTERVAL": "0"}, set()),
}


@pytest.mark.parametrize("name", GIVING_WAY)
def test_a_default_gives_way_to_the_files(name: str) -> None:
    words, environment, expected = GIVING_WAY[name]
    line, settings = line_of(words), Settings({"KSSH_" + name: value for name, value in environment.items()})
    plan = make(line, effective_of(line), settings, TERMINAL)
    assert set(plan.defaults) == expected
    assert (
        plan.defaults.items()
        >= {k.lower(): v for k, v in added(plan).items() if k.lower() in expected}.items()
    )
    settings.yielding = frozenset(DEFAULTS)
    assert {k.lower() for k in added(make(line, effective_of(line), settings, TERMINAL))}.isdisjoint(expected)


def test_what_ssh_does_not_tell_at_all_may_be_in_the_files() -> None:
    plan = make(line_of("-N h"), None, Settings({}), TERMINAL)
    assert set(plan.defaults) == set(DEFAULTS)
    settings = Settings({})
    settings.yielding = frozenset(DEFAULTS)
    assert added(make(line_of("-N h"), None, settings, TERMINAL)) == {}


@pytest.mark.parametrize(
    "configured",
    [
        {"serveraliveinterval": "9", "connecttimeout": "9", "exitonforwardfailure": "yes"},
        {"serveraliveinterval": "1", "connecttimeout": "1", "exitonforwardfailure": "yes"},
    ],
)
def test_what_ssh_tells_needs_no_second_question(configured: dict[str, str]) -> None:
    plan = plan_of("-N h", **configured)
    assert set(plan.defaults) == {"streamlocalbindunlink"}
    assert added(plan) == {}


def test_a_count_alone_is_added_to_no_keepalive() -> None:
    settings = Settings({})
    settings.yielding = frozenset(DEFAULTS)
    assert added(make(line_of("h ls"), UNTOUCHED_LISTS, settings, TERMINAL)) == {}
    settings = Settings({"KSSH_COUNTMAX": "5"})
    settings.yielding = frozenset(DEFAULTS)
    plan = make(line_of("h ls"), UNTOUCHED_LISTS, settings, TERMINAL)
    assert added(plan) == {"ServerAliveCountMax": "5"}


def test_the_socket_of_a_tunnel_that_stood_is_taken_away() -> None:
    for yielding, keywords in ((frozenset[str](), {"StreamLocalBindUnlink"}), (frozenset(DEFAULTS), set())):
        settings = Settings({})
        settings.yielding = yielding
        plan = Plan(TUNNEL)
        add_for_restart(plan, settings)
        assert set(added(plan)) == keywords


# -- other options -----------------------------------------------------------------------------------

TIMEOUTS: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "nothing said": ({}, {}, "15"),
    "ssh_config says": ({}, {"connecttimeout": "60"}, None),
    "ssh_config says 0": ({}, {"connecttimeout": "0"}, None),
    "nothing said, as a number": ({}, {"connecttimeout": "-1"}, "15"),
    "KSSH_CONNECT_TIMEOUT beats ssh_config": ({"CONNECT_TIMEOUT": "7"}, {"connecttimeout": "60"}, "7"),
}


@pytest.mark.parametrize("name", TIMEOUTS)
def test_the_time_to_connect(name: str) -> None:
    environment, configured, expected = TIMEOUTS[name]
    assert added(plan_of("h", environment=environment, **configured)).get("ConnectTimeout") == expected


def test_a_tunnel_fails_with_its_forwards() -> None:
    assert added(plan_of("-N h"))["ExitOnForwardFailure"] == "yes"
    assert "ExitOnForwardFailure" not in added(plan_of("h"))


# caller, does BatchMode follow
BATCH = {"a person": (TERMINAL, False), "cron": (CRON, True), "askpass": (ASKPASS, False)}


@pytest.mark.parametrize("name", BATCH)
def test_a_tunnel_asks_nobody_where_nobody_is(name: str) -> None:
    caller, expected = BATCH[name]
    assert ("BatchMode" in added(plan_of("-N h", caller))) == expected
    assert "BatchMode" not in added(plan_of("h ls", caller, {"RESTART": "always"}))


# words, ControlPath in force, is ControlPath=none added, is the connection shared then
MASTERS = {
    "no master": ("-N h", "none", False, False),
    "a master is configured": ("-N h", "/m", True, False),
    "the user's own -S": ("-N -S /m h", "/m", True, True),
    "the user's own ControlPath": ("-N -o ControlPath=/m h", "/m", True, True),
    "the user makes this the master": ("-N -M h", "/m", False, True),
    "the user says ControlMaster": ("-N -o ControlMaster=auto h", "/m", False, True),
    "a shell shares": ("h", "/m", False, True),
    "a shell, no master": ("h", "none", False, False),
}


@pytest.mark.parametrize("name", MASTERS)
def test_a_tunnel_has_its_own_connection(name: str) -> None:
    words, path, own, shared = MASTERS[name]
    plan = plan_of(words, controlpath=path)
    line = line_of(words)
    assert (added(plan).get("ControlPath") == "none") == own
    assert shares_connection(plan, line, {"controlpath": [path]}) == shared


# words, KSSH_RESTART, supervised
WHO_IS_MASTER = {
    "-M": ("-M h", "auto", False),
    "-M for a tunnel": ("-fNM -S s h", "auto", False),
    "-M behind the host": ("h -M -N", "auto", False),
    "ControlMaster=yes": ("-N -oControlMaster=yes h", "auto", False),
    "ControlMaster=auto": ("-N -o ControlMaster=auto h", "auto", False),
    "ControlMaster=ask": ("-N -o controlmaster=ASK h", "auto", False),
    "ControlMaster=autoask": ("-N -o ControlMaster=autoask h", "auto", False),
    "ControlMaster=no": ("-N -o ControlMaster=no h", "auto", True),
    "no, then -M": ("-N -o ControlMaster=no -M h", "auto", False),
    "the first word counts": ("-N -o ControlMaster=no -o ControlMaster=yes h", "auto", True),
    "a word that ssh refuses": ("-N -o ControlMaster=maybe h", "auto", True),
    "a client": ("-N -S s h", "auto", True),
    "always": ("-N -M h", "always", True),
    "never": ("-N -M h", "never", False),
    "in the remote command": ("-t h top -M", "auto", True),
}


@pytest.mark.parametrize("name", WHO_IS_MASTER)
def test_who_asks_to_be_a_master_gets_ssh_itself(name: str) -> None:
    words, restart, supervised = WHO_IS_MASTER[name]
    plan = plan_of(words, environment={"RESTART": restart}, controlpath="/m", controlpersist="60")
    assert plan.supervised == supervised
    assert (plan.first == ["ControlPersist=no"]) == supervised
    if not supervised:
        assert added(plan) == {"ServerAliveInterval": "15", "ServerAliveCountMax": "3"}


@pytest.mark.parametrize("value", ["ControlMaster yes", "controlmaster = auto", '"ControlMaster" "yes"'])
def test_a_master_is_known_however_it_is_written(value: str) -> None:
    line = parse(["-N", "-o" + value, "h"], lambda: False)
    assert not make(line, effective_of(line), Settings({}), TERMINAL).supervised


# words, KSSH_RESTART, ControlPersist in force, is it taken back
PERSISTENT = {
    "a shell": ("h", "auto", "yes", True),
    "for a time": ("h", "auto", "600", True),
    "a command": ("-t h top", "auto", "yes", True),
    "a tunnel": ("-N h", "auto", "yes", True),
    "none": ("-N h", "auto", "no", False),
    "ssh itself": ("h", "never", "yes", False),
    "a stream is ssh itself": ("h ls", "auto", "yes", False),
    "a stream has no pty that hangs up": ("h ls", "always", "yes", False),
}


@pytest.mark.parametrize("name", PERSISTENT)
def test_no_master_takes_a_supervised_session_into_the_background(name: str) -> None:
    words, restart, persist, expected = PERSISTENT[name]
    plan = plan_of(words, environment={"RESTART": restart}, controlpersist=persist)
    assert ("ControlPersist=no" in plan.first) == expected


def test_without_an_answer_from_ssh_nothing_is_known_to_be_shared() -> None:
    assert not shares_connection(Plan(SHELL), line_of("h"), None)


@pytest.mark.parametrize(
    ("effective", "joins"),
    [
        (None, False),
        ({"controlpath": ["none"]}, False),
        ({"controlpath": ["/a"], "controlmaster": ["false"]}, True),
        ({"controlpath": ["/a"], "controlmaster": ["auto"]}, True),
        ({"controlpath": ["/a"], "controlmaster": ["true"]}, False),
        ({"controlpath": ["/a"], "controlmaster": ["ask"]}, False),
    ],
)
def test_who_wants_to_be_a_master_joins_none(effective: Effective | None, joins: bool) -> None:
    assert joins_master(effective) == joins


def test_a_master_that_is_dead_is_left_for_a_connection_of_one_s_own() -> None:
    line = line_of("-S /a -S /b h")
    plan = plan_of("-S /a -S /b h", controlpath="/b")
    assert shares_connection(plan, line, {"controlpath": ["/b"]})
    instead = leave_master(plan, line)
    assert not shares_connection(plan, line, {"controlpath": ["/b"]})
    words = line.with_options(plan.first, instead=instead)
    assert words == ["-o", "ControlPath=none", "-S", "none", "-S", "none", "h"]


# words, ForkAfterAuthentication in force ("" in an ssh that does not know it), first, without
BACKGROUND: dict[str, tuple[str, str, list[str], str]] = {
    "in front": ("-N h", "no", [], ""),
    "-f": ("-fN h", "yes", ["ForkAfterAuthentication=no"], "f"),  # a file may say it too
    "the file": ("-N h", "yes", ["ForkAfterAuthentication=no"], "f"),
    "-f before 8.7": ("-fN h", "", [], "f"),
    "in front before 8.7": ("-N h", "", [], ""),
}


@pytest.mark.parametrize("name", BACKGROUND)
def test_kssh_itself_goes_to_the_background(name: str) -> None:
    words, said, first, without = BACKGROUND[name]
    effective = {"sessiontype": ["none"], **({"forkafterauthentication": [said]} if said else {})}
    plan = make(line_of(words), effective, Settings({}), TERMINAL)
    assert (plan.first, plan.without, plan.background) == (first, without, bool(without))


def test_a_stream_that_is_not_supervised_goes_there_by_itself() -> None:
    plan = plan_of("-f h sleep 9")
    assert not plan.background
    assert plan.without == ""


# -- the log channel ---------------------------------------------------------------------------------

FORCED = ["-o", "LogVerbose=" + TAG_ALL]
MUX = ["-o", "LogVerbose=mux.c:*"]

# words, LogLevel of the file, shared, tags: first, last before -E, is there a log
LOGS: dict[str, tuple[str, str, bool, int, list[str], list[str], bool]] = {
    "INFO": ("h", "INFO", False, IDS, [], FORCED, True),
    "INFO, shared": ("h", "INFO", True, IDS, [], FORCED, True),
    "INFO, 8.6": ("h", "INFO", False, NAMES, ["LogLevel=DEBUG1"], [], True),
    "INFO, shared, 8.6": ("h", "INFO", True, NAMES, ["LogLevel=DEBUG1"], MUX, True),
    "INFO, old": ("h", "INFO", False, NO_TAGS, ["LogLevel=DEBUG1"], [], True),
    "INFO, shared, old": ("h", "INFO", True, NO_TAGS, ["LogLevel=DEBUG2"], [], True),
    "VERBOSE": ("h", "VERBOSE", False, IDS, [], FORCED, True),
    "-v": ("-v h", "DEBUG1", False, IDS, [], [], True),
    "-v, shared": ("-v h", "DEBUG1", True, IDS, [], MUX, True),
    "-v, shared, old": ("-v h", "DEBUG1", True, NO_TAGS, [], [], True),
    "DEBUG1 by file, shared": ("h", "DEBUG1", True, IDS, [], MUX, True),
    "DEBUG2": ("h", "DEBUG2", True, IDS, [], [], True),
    "DEBUG3": ("h", "DEBUG3", True, IDS, [], [], True),
    "-q": ("-q h", "INFO", False, IDS, [], FORCED, True),
    "-q, 8.6": ("-q h", "INFO", False, NAMES, [], FORCED, True),
    "-q, old": ("-q h", "INFO", False, NO_TAGS, [], [], False),
    "QUIET by file": ("h", "SILENT", False, IDS, [], FORCED, True),
    "ERROR": ("h", "ERROR", True, IDS, [], FORCED, True),
    "FATAL": ("h", "FATAL", False, IDS, [], FORCED, True),
    "ERROR, old": ("h", "ERROR", False, NO_TAGS, ["LogLevel=DEBUG1"], [], True),
    "ERROR, old, shared": ("h", "ERROR", True, NO_TAGS, ["LogLevel=DEBUG2"], [], True),
}


@pytest.mark.parametrize("name", LOGS)
def test_ssh_is_made_to_tell(name: str) -> None:
    words, level, shared, tags, first, last, log = LOGS[name]
    plan = plan_of(words, loglevel=level)
    before = list(plan.last)
    add_log_channel(plan, "/fifo", shared, tags, "-q" in words)
    assert plan.log == log
    assert plan.tagged == (last is FORCED and tags == IDS)
    assert plan.first == first
    assert plan.last == before + last + (["-E", "/fifo"] if log else [])
    assert plan.without == ("y" if log else "")


@pytest.mark.parametrize(
    ("value", "shared", "first", "expected"),
    [
        ("no", True, [], False),
        ("60", True, [], True),
        ("yes", False, [], False),
        ("yes", True, ["ControlPersist=no"], False),
    ],
)
def test_an_ssh_that_persists_is_another_process(
    value: str, shared: bool, first: list[str], expected: bool
) -> None:
    plan = Plan(SHELL, True)
    plan.first = first
    assert forks_away(plan, {"controlpersist": [value]}, shared) == expected


@pytest.mark.parametrize(
    ("effective", "expected"),
    [
        ({"logverbose": ["none"], "forkafterauthentication": ["no"]}, IDS),
        ({"logverbose": [""]}, NAMES),  # 8.5 and 8.6
        ({"logverbose": ["kex.c:*"], "forkafterauthentication": ["no"]}, NO_TAGS),
        ({"loglevel": ["INFO"]}, NO_TAGS),  # 8.4
    ],
)
def test_the_configuration_tells_how_ssh_tags(effective: dict[str, list[str]], expected: int) -> None:
    assert tags_of(effective) == expected


LEVELS = {
    "h": "INFO",
    "-v h": "DEBUG1",
    "-vv h": "DEBUG2",
    "-vvv h": "DEBUG3",
    "-vvvvv h": "DEBUG3",
    "-q h": "QUIET",
    "-qv h": "QUIET",
}


@pytest.mark.parametrize("words", LEVELS)
def test_the_users_level_by_letters_alone(words: str) -> None:
    plan = make(line_of(words), None, Settings({}), TERMINAL)
    assert plan.user_level == LEVELS[words]


@pytest.mark.parametrize(
    ("said", "level"),
    [("SILENT", "QUIET"), ("DEBUG", "DEBUG1"), ("info", "INFO"), ("ERROR", "ERROR"), ("DEBUG3", "DEBUG3")],
)
def test_the_users_level_has_its_usual_name(said: str, level: str) -> None:
    assert plan_of("h", loglevel=said).user_level == level


def test_the_forced_functions_are_a_list_as_ssh_reads_it() -> None:
    # log.c matches "file:function():line" with them: what is not left out is in.
    *left_out, all_others = TAG_ALL.split(",")
    assert all_others == "*"
    for entry in left_out:
        source, _, function = entry.partition(":")
        assert source.startswith("!") and source.endswith(".c")
        assert function.endswith("*")


# -- a shell inside a multiplexer --------------------------------------------------------------------


def test_a_command_of_kssh_s_own_is_an_option() -> None:
    plan = plan_of("h")
    add_resume(plan, "exec tmux")
    assert added(plan)["RequestTTY"] == "yes"
    assert added(plan)["RemoteCommand"] == "exec tmux"


@pytest.mark.parametrize(
    ("said", "environment", "expected"),
    [
        ("0", {}, 15),
        ("300", {}, 300),
        ("300", {"KSSH_INTERVAL": "5"}, 5),
        ("0", {"KSSH_INTERVAL": "0"}, 0),
        ("", {}, 15),
    ],
)
def test_the_keepalive_that_ssh_ends_up_with(said: str, environment: dict[str, str], expected: int) -> None:
    assert keepalive_s(line_of("h"), {"serveraliveinterval": [said]}, Settings(environment)) == expected
    settings = Settings(environment)
    settings.yielding = frozenset(DEFAULTS)
    told = {"serveraliveinterval": [said]}
    assert keepalive_s(line_of("h"), told, settings) == (0 if said == "0" else expected)
    line = line_of(f"-o ServerAliveInterval={said or 0} h")
    assert keepalive_s(line, told, Settings(environment)) == (0 if said == "0" else expected)
