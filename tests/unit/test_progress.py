"""How far a run of ssh has come: each thing is news once, and in order."""

from __future__ import annotations

from itertools import permutations

import pytest
from facts import seen as evidence

from pykeepssh.link.kinds import COMMAND, SHELL, STREAM, TUNNEL
from pykeepssh.link.policy import Rules
from pykeepssh.link.progress import (
    FORGED,
    HAS_COMMAND,
    HAS_READ,
    HAS_SESSION,
    IS_AUTHENTICATED,
    IS_CONNECTED,
    IS_CONNECTING,
    IS_SHARED,
    IS_UP,
    Progress,
    has_gone_up,
)
from pykeepssh.ssh.evidence import AUTHENTICATED, CONNECTED, CONNECTING, SESSION, STARTED, Evidence

Facts = dict[str, object]


def told(kind: str, *moments: Facts, remote_forwards: int = 0, **rules: bool) -> list[list[str]]:
    """Return the news of each moment; the facts of one are added to those before."""
    seen = Evidence()
    progress = Progress(remote_forwards, device=False)
    news = []
    for facts in moments:
        for name, value in facts.items():
            setattr(seen, name, value)
        news.append(list(progress.news(seen, Rules(kind, rules.pop("restartable", True), True, **rules))))  # type: ignore[arg-type]
    return news


def test_each_phase_is_news_once() -> None:
    phases: list[Facts] = [{"phase": phase} for phase in range(STARTED, SESSION + 1) for _ in range(2)]
    assert told(TUNNEL, *phases) == [
        *([], []),
        *([IS_CONNECTING], []),
        *([IS_CONNECTED], []),
        *([IS_AUTHENTICATED], []),
        *([HAS_SESSION, IS_UP], []),
    ]


def test_what_comes_all_at_once_is_told_in_order() -> None:
    assert told(SHELL, {"shared": True, "phase": SESSION}) == [
        [IS_SHARED, IS_CONNECTING, IS_CONNECTED, IS_AUTHENTICATED, HAS_SESSION, IS_UP]
    ]


def test_a_tunnel_is_up_when_its_forwards_are() -> None:
    session: Facts = {"phase": SESSION}
    news = told(TUNNEL, session, {"remote_up": 1}, {"remote_up": 2}, remote_forwards=2)
    assert [IS_UP in each for each in news] == [False, False, True]


def test_it_knows_that_it_is_up() -> None:
    progress, seen = Progress(0, device=False), Evidence()
    rules = Rules(SHELL, True, True)
    assert not list(progress.news(seen, rules))
    assert not progress.is_up
    seen.reach(SESSION)
    assert list(progress.news(seen, rules))[-1] == IS_UP
    assert progress.is_up


def test_of_a_forged_log_nothing_else_is_believed() -> None:
    assert told(SHELL, {"phase": CONNECTED}, {"forged": True, "phase": SESSION}, {"shared": True}) == [
        [IS_CONNECTING, IS_CONNECTED],
        [FORGED],
        [],
    ]


READS: dict[str, tuple[str, bool, Facts, bool]] = {
    "a stream that is authenticated": (STREAM, False, {"phase": AUTHENTICATED}, True),
    "a stream through a master": (STREAM, False, {"shared": True}, True),
    "a stream that connects": (STREAM, False, {"phase": CONNECTING}, False),
    "a stream that is started again at any time": (STREAM, True, {"phase": SESSION}, False),
    "no stream": (COMMAND, False, {"phase": SESSION}, False),
}


@pytest.mark.parametrize("name", READS)
def test_when_input_may_have_been_read(name: str) -> None:
    kind, restartable, facts, reads = READS[name]
    (news,) = told(kind, facts, restartable=restartable)
    assert (HAS_READ in news) == reads


@pytest.mark.parametrize("sent", [True, False])
@pytest.mark.parametrize("runs_no_command", [True, False])
def test_a_command_in_place_of_a_shell(sent: bool, runs_no_command: bool) -> None:
    (news,) = told(SHELL, {"phase": SESSION, "command_sent": sent}, runs_no_command=runs_no_command)
    assert (HAS_COMMAND in news) == (sent and runs_no_command)
    if HAS_COMMAND in news:
        assert news.index(HAS_SESSION) < news.index(HAS_COMMAND) < news.index(IS_UP)


def test_who_stops_listening_hears_the_rest_later() -> None:
    progress, seen, rules = Progress(0, device=False), Evidence(), Rules(SHELL, True, True)
    seen.reach(SESSION)
    first = []
    for step in progress.news(seen, rules):
        first.append(step)
        if step == IS_CONNECTED:
            break
    rest = list(progress.news(seen, rules))
    assert first + rest == [IS_CONNECTING, IS_CONNECTED, IS_AUTHENTICATED, HAS_SESSION, IS_UP]


def test_what_is_done_about_news_may_bring_news() -> None:
    """As a session that begins gives ssh what was typed ahead, and reads what it says."""
    progress, seen, rules = Progress(0, device=False), Evidence(), Rules(SHELL, True, True)
    order = []

    def follow() -> None:
        for step in progress.news(seen, rules):
            order.append(step)
            if step == HAS_SESSION:
                follow()

    seen.reach(SESSION)
    follow()
    assert order == [IS_CONNECTING, IS_CONNECTED, IS_AUTHENTICATED, HAS_SESSION, IS_UP]


@pytest.mark.parametrize("order", list(permutations(("shared", "phase", "command_sent"))))
def test_nothing_is_told_twice_in_whatever_order_facts_come(order: tuple[str, ...]) -> None:
    facts: Facts = {"shared": True, "phase": SESSION, "command_sent": True}
    news = told(SHELL, *({name: facts[name]} for name in order), runs_no_command=True)
    steps = [step for each in news for step in each]
    assert len(steps) == len(set(steps)) == 7


# -- up ----------------------------------------------------------------------------------------------

# evidence, kind, forwards asked for: is it up
UPS = {
    "connected": (evidence(phase=CONNECTED), SHELL, 0, False),
    "a shell's session": (evidence(phase=SESSION), SHELL, 2, True),
    "a tunnel without remote forwards": (evidence(phase=SESSION), TUNNEL, 0, True),
    "a tunnel before its forwards": (evidence(phase=SESSION), TUNNEL, 1, False),
    "a tunnel with some": (evidence(phase=SESSION, remote_up=1), TUNNEL, 2, False),
    "a tunnel with all": (evidence(phase=SESSION, remote_up=2), TUNNEL, 2, True),
    "a tunnel that does without": (
        evidence(phase=SESSION, remote_up=1, remote_refused=["80"]),
        TUNNEL,
        2,
        True,
    ),
    "a tunnel without its device, before its forwards": (
        evidence(phase=SESSION, remote_refused=["-w"]),
        TUNNEL,
        1,
        False,
    ),
    "a tunnel some of whose replies are due": (evidence(phase=SESSION, replies=False), TUNNEL, 0, False),
    "a tunnel with every reply": (evidence(phase=SESSION, replies=True), TUNNEL, 0, True),
    "a forward that ends ssh": (
        evidence(phase=SESSION, remote_up=1, remote_refused=["80"], forward_fatal="remote"),
        TUNNEL,
        2,
        False,
    ),
    "forwards without a session": (evidence(phase=CONNECTED, remote_up=1), TUNNEL, 1, False),
}


@pytest.mark.parametrize("name", UPS)
def test_up_is(name: str) -> None:
    found, kind, forwards, expected = UPS[name]
    assert has_gone_up(found, kind, forwards) == expected


def test_a_tunnel_device_is_waited_for() -> None:
    for answered in (False, True):
        found = evidence(phase=SESSION, device_answered=answered)
        assert has_gone_up(found, TUNNEL, 0, device=True) == answered
