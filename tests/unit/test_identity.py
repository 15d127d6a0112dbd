"""Two links have one name only if they are the same link."""

from __future__ import annotations

import pytest

from pykeepssh.link import identity
from pykeepssh.ssh.args import CommandLine, parse
from pykeepssh.ssh.evidence import Evidence

CONFIGURATION = {
    "user": ["alice"],
    "hostname": ["10.0.0.1"],
    "port": ["22"],
    "localforward": ["8080 [localhost]:80"],
    "remoteforward": ["2222 [localhost]:22", "2223 [localhost]:23"],
    "dynamicforward": ["1080"],
    "controlpath": ["/run/a"],
}


def line(*words: str) -> CommandLine:
    return parse(words, lambda: True)


def refused(*places: str, fatal: str = "remote") -> Evidence:
    seen = Evidence()
    seen.remote_refused += places
    seen.forward_fatal = fatal
    return seen


def test_forwards_are_those_of_the_configuration() -> None:
    given = line("-N", "-L", "1:a:1", "-w", "0:0", "host")
    found = identity.forwards(given, CONFIGURATION)
    assert found == ["L8080 [localhost]:80", "R2222 [localhost]:22", "R2223 [localhost]:23", "D1080", "w0:0"]
    assert identity.remote_forwards(given, CONFIGURATION) == 2


def test_without_one_they_are_the_command_line_s() -> None:
    given = line("-N", "-L", "1:a:1", "-R", "2:b:2", "-R", "3:b:3", "-D", "4", "-w", "0", "host")
    assert identity.forwards(given, None) == ["L1:a:1", "R2:b:2", "R3:b:3", "D4", "w0"]
    assert identity.remote_forwards(given, None) == 2
    assert identity.forwards(line("host"), None) == []
    assert identity.remote_forwards(line("host"), {}) == 0


def test_those_of_an_option_count_too() -> None:
    given = line(
        "-N", "-oLocalForward=1 a:1", "-o", "remoteforward 2 b:2", "-o", "DynamicForward = 4", "host"
    )
    assert identity.forwards(given, None) == ["L1:a:1", "R2:b:2", "D4"]
    assert identity.remote_forwards(given, None) == 1


# Two command lines; whether they are the same link.
PAIRS = {
    "the same": (["h"], ["h"], True),
    "written in another order": (["-N", "-v", "h"], ["-vN", "h"], True),
    "forwards in another order": (["-L1:a:1", "-R2:b:2", "h"], ["-R2:b:2", "-L1:a:1", "h"], True),
    "a forward by -o": (["-L", "1:a:1", "h"], ["-o", "LocalForward=1 a:1", "h"], True),
    "a host in capitals": (["Host"], ["host"], True),
    "another user": (["-l", "a", "h"], ["-l", "b", "h"], False),
    "a user by @": (["-l", "a", "h"], ["a@h"], True),
    "a user by -o": (["-oUser=a", "h"], ["a@h"], True),
    "-l beats @": (["-l", "a", "b@h"], ["a@h"], True),
    "the first one counts": (["-oUser a", "-l", "b", "h"], ["-l", "a", "-oUser=b", "h"], True),
    "another port": (["-p", "1", "h"], ["-p", "2", "h"], False),
    "a port by -o": (["-p", "1", "h"], ["-o", "Port 1", "h"], True),
    "a URI": (["-p", "1", "a@h"], ["ssh://a@h:1/"], True),
    "a URI of an address": (["-p", "1", "[::1]"], ["ssh://[::1]:1"], True),
    "a URI without a port": (["[::1]"], ["ssh://[::1]"], True),
    "another host": (["h"], ["i"], False),
    "another host by -o": (["h"], ["-o", "HostName=i", "h"], False),
    "another forward": (["-L", "1:a:1", "h"], ["-L", "2:a:1", "h"], False),
    "another way": (["-J", "a", "h"], ["-J", "b", "h"], False),
    "a way by -o": (["-J", "a", "h"], ["-o", "ProxyJump=a", "h"], True),
    "another program": (["-o", "ProxyCommand=a b", "h"], ["-o", "ProxyCommand=a c", "h"], False),
    "another configuration file": (["-F", "a", "h"], ["-F", "b", "h"], False),
    "and behind something else": (["-v", "-F", "a", "h"], ["-v", "-F", "b", "h"], False),
    "the same file": (["-F", "a", "h"], ["-F", "/folder/a", "h"], True),
    "no file": (["-F", "none", "h"], ["-F", "/folder/none", "h"], False),
    "another socket": (["-S", "/a", "h"], ["-o", "ControlPath=/b", "h"], False),
    "what changes nothing": (["h"], ["-v", "-o", "ServerAliveInterval=5", "-o", "", "h"], True),
}


@pytest.mark.parametrize("case", PAIRS)
def test_a_name_is_the_same_only_for_the_same_link(case: str) -> None:
    first, second, same = PAIRS[case]
    names = [identity.name(line(*words), "/folder") for words in (first, second)]
    assert (names[0] == names[1]) == same


def test_another_directory_has_another_file_of_that_name() -> None:
    given = line("-F", "ssh_config", "h")
    assert identity.name(given, "/a") != identity.name(given, "/b")


NAMES = {
    "alice@host-L8080-R2222-R2223-D1080-w0:0": [
        *("-L", "8080:localhost:80", "-R", "2222:localhost:22", "-oRemoteForward=2223 localhost:23"),
        *("-D", "1080", "-w", "0:0", "alice@host"),
    ],
    "h-L_run_a-L_run_b-L2-Llocalhost:1-R4-R[::1]:3-Rx:5": [
        *("-L", "localhost:1:a:1", "-L", "/run/a:/run/c", "-L", "/run/b:a:1", "-L", "2:/run/d"),
        *("-R", "[::1]:3:a:1", "-R", "4", "-R", "x:5", "h"),
    ],
    "": ["-N"],  # no destination: ssh will say so
}


@pytest.mark.parametrize("readable", NAMES)
def test_a_name_can_be_read(readable: str) -> None:
    name, _, digits = identity.name(line(*NAMES[readable])).rpartition("-")
    assert name == readable.replace("[", "_").replace("]", "_")
    assert len(digits) == 8


# the argument of -R: the same with port 4000, or None where it names a port of its own
FORWARDS = {
    "0": "4000",
    "0:localhost:22": "4000:localhost:22",
    "0:/path": "4000:/path",
    "localhost:0": "localhost:4000",
    "*:0:localhost:22": "*:4000:localhost:22",
    ":0:/path": ":4000:/path",
    "[::1]:0:[2001:db8::1]:22": "[::1]:4000:[2001:db8::1]:22",
    "0:[::1]:22": "4000:[::1]:22",
    "2222:0:80": None,  # a host that is called 0
    "2222": None,
    "2222:localhost:0": None,
    "/path:localhost:22": None,
    "/path:/path": None,
    "h:80:/path": None,
    "a:b:c:d:e": None,
    "": None,
}


@pytest.mark.parametrize("forward", FORWARDS)
def test_the_port_of_a_remote_forward_is_found(forward: str) -> None:
    assert identity.with_port(forward, 4000) == FORWARDS[forward]


def test_a_port_that_the_server_chose_is_asked_for_again() -> None:
    given = line("-NR", "0:a:1", "-R", "2222:b:2", "-R0:c:3", "host")
    chosen = identity.Chosen(given)
    assert given.with_options(instead=chosen.instead()) == list(given.words)
    # The last one is in a file: it can only be told.
    assert chosen.learn([(4000, "a:1"), (4001, "c:3"), (4002, "d:4")]) == [
        (4000, "a:1"),
        (4001, "c:3"),
        (4002, "d:4"),
    ]
    again = ["-NR", "4000:a:1", "-R", "2222:b:2", "-R4001:c:3", "host"]
    assert given.with_options(instead=chosen.instead()) == again
    assert chosen.learn([(4005, "d:4")]) == [(4000, "a:1"), (4001, "c:3"), (4005, "d:4")]
    assert not chosen.refused(refused("2222"))  # the user's own
    assert chosen.refused(refused("4000", "4001"))  # the last one ended ssh
    assert not chosen.refused(refused("4001"))
    assert given.with_options(instead=chosen.instead())[-2:] == ["-R0:c:3", "host"]
    assert chosen.learn([(4006, "c:3")]) == [(4000, "a:1"), (4006, "c:3")]


@pytest.mark.parametrize("seen", [None, refused("4000", fatal=""), refused(fatal="remote")])
def test_ssh_that_did_not_end_for_a_port_may_ask_for_it_again(seen: Evidence | None) -> None:
    chosen = identity.Chosen(line("-N", "-R", "0:a:1", "host"))
    chosen.learn([(4000, "a:1")])
    asked = chosen.instead()
    assert not chosen.refused(seen)
    assert list(chosen.instead().values()) == list(asked.values()) == ["4000:a:1"]


def test_a_number_that_is_no_port_is_not_asked_for() -> None:
    given = line("-N", "-R", "0:a:1", "-R", "0:b:2", "-R", "0:c:3", "host")
    chosen = identity.Chosen(given)
    assert chosen.learn([(70000, "a:1"), (0, "b:2"), (65535, "c:3")]) == [(65535, "c:3")]
    again = ["-N", "-R", "0:a:1", "-R", "0:b:2", "-R", "65535:c:3", "host"]
    assert given.with_options(instead=chosen.instead()) == again


def test_without_such_a_forward_nothing_is_replaced() -> None:
    chosen = identity.Chosen(line("-N", "-L", "0:a:1", "-R", "1:a:1", "host"))
    assert chosen.learn([(4000, "a:1")]) == [(4000, "a:1")]
    assert chosen.instead() == {}


def test_a_tunnel_device_is_asked_for_by_letter_or_file() -> None:
    assert identity.wants_device(line("-w", "0", "h"), None)
    assert not identity.wants_device(line("h"), None)
    assert identity.wants_device(line("h"), {"tunnel": ["point-to-point"]})
    assert not identity.wants_device(line("h"), {"tunnel": ["false"]})
    assert not identity.wants_device(line("h"), {"user": ["x"]})


# The forwards of a link, as ssh tells them or as the command line has them; can it stand only once.
ONCE = {
    "none": ([], False),
    "a local port": (["L8080 [localhost]:80"], True),
    "a local port of the command line": (["L8080:localhost:80"], True),
    "a local socket": (["L/run/s [localhost]:80"], True),
    "a proxy": (["D1080"], True),
    "a remote port": (["R2222 [localhost]:22"], True),
    "a remote port of the command line": (["R2222:localhost:22"], True),
    "a remote port at an address": (["R[::1]:2222 [localhost]:22"], True),
    "a remote port at an address of the command line": (["R[::1]:2222:localhost:22"], True),
    "a remote proxy": (["R1080"], True),
    "a remote socket": (["R/run/s [localhost]:22"], True),
    "to host 0": (["R2222:0:22"], True),
    "any remote port": (["R0 [localhost]:22"], False),
    "any remote port of the command line": (["R0:localhost:22"], False),
    "any remote port at an address": (["R127.0.0.1:0 [localhost]:22"], False),
    "any remote port at an address of the command line": (["R127.0.0.1:0:localhost:22"], False),
    "any remote port at an IPv6 address of the command line": (["R[::1]:0:localhost:22"], False),
    "any remote port for a proxy": (["R0"], False),
    "any remote port at an address for a proxy": (["R127.0.0.1:0"], False),
    "any of one and a fixed one": (["R0 [localhost]:22", "R2222 [localhost]:22"], True),
    "any device": (["wany"], False),
    "any devices": (["wany:any"], False),
    "a device": (["w3"], True),
    "a device over there": (["wany:3"], True),
}


@pytest.mark.parametrize("case", ONCE)
def test_only_a_fixed_listener_cannot_stand_twice(case: str) -> None:
    forwards, once = ONCE[case]
    assert identity.stands_once(forwards) == once


def test_an_account_is_told_by_words_that_are_always_known() -> None:
    given = line("-p", "2", "-l", "bob", "-F", "f", "-J", "j", "-o", "x=y", "h")
    assert identity.account(given, "/d") == ["bob", "h", "2", "/d/f", "j", "", "", ""]
    assert identity.account(line("h")) == ["", "h", *[""] * 6]
