"""Messages of ssh's log: what is one, and what a server only wrote behind one."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pykeepssh.ssh.messages import Message, Messages, shown

BEGIN = "debug1: Reading configuration data /etc/ssh/ssh_config"
FIRST = "debug1: sshconnect.c:ssh_connect_direct():485 (pid=77): Connecting to h [1.2.3.4] port 22."
REMOTE = "debug1: packet.c:ssh_packet_read_poll_seqnr():1782 (pid=77): Remote: x"
LIE = "debug1: Entering interactive session."


def texts(messages: list[Message]) -> list[str]:
    return [message.text for message in messages]


def begun() -> Messages:
    log = Messages(tagged=True)
    log.take([BEGIN, FIRST])
    return log


def test_a_tag_is_taken_off() -> None:
    assert Messages(tagged=True).take([BEGIN, FIRST]) == [
        Message(BEGIN),
        Message("debug1: Connecting to h [1.2.3.4] port 22."),
    ]


def test_what_a_server_wrote_stays_within_its_message() -> None:
    log = begun()
    without_id = REMOTE.replace(" (pid=77)", "")
    assert texts(log.take([REMOTE, LIE, "kssh[1]: x", without_id, FIRST])) == [
        f"debug1: Remote: x\r\n{LIE}\r\nkssh[1]: x\r\n{without_id}",
        "debug1: Connecting to h [1.2.3.4] port 22.",
    ]


def test_a_message_that_is_not_whole_is_waited_for() -> None:
    log = begun()
    assert log.take([REMOTE], more=True) == []
    assert texts(log.take([LIE])) == [f"debug1: Remote: x\r\n{LIE}"]


def test_the_rest_of_a_message_that_was_taken_for_whole_is_nobodys() -> None:
    log = begun()
    assert log.take([LIE]) == [Message(f"\r\n{LIE}", is_ssh=False)]


def test_what_another_process_wrote_or_is_said_to_have_written_is_not_ssh() -> None:
    line = "readpass.c:ssh_askpass():80 (pid=78): exec(/none): No such file or directory"
    assert begun().take([REMOTE, line]) == [
        Message("debug1: Remote: x"),
        Message("ssh_askpass: exec(/none): No such file or directory", is_ssh=False, other=True),
    ]


@pytest.mark.parametrize("function", ["input_userauth_info_req", "input_userauth_passwd_changereq"])
def test_a_message_that_is_all_the_servers_is_not_ssh(function: str) -> None:
    tag = f"sshconnect2.c:{function}():9 (pid=77): "
    assert begun().take([tag + LIE]) == [Message(LIE, is_ssh=False)]
    assert begun().take([f"debug2: {tag}entering"]) == [Message("debug2: entering")]


def test_functions_that_are_not_tagged_are_known_by_their_words() -> None:
    assert begun().take([REMOTE, "Corrupted MAC on input."])[1] == Message(
        "Corrupted MAC on input.", is_ssh=False
    )


def test_a_name_that_the_tag_has_taken_is_put_back() -> None:
    line = "clientloop.c:client_loop():9 (pid=77): send disconnect: Broken pipe"
    assert texts(begun().take([line])) == ["client_loop: send disconnect: Broken pipe"]


def test_a_newer_tag_names_the_program_too() -> None:
    line = FIRST.replace("(pid", "(bin=/opt/a (b), c/ssh, pid")
    assert texts(Messages(tagged=True).take([line])) == ["debug1: Connecting to h [1.2.3.4] port 22."]


LONG = "/nix/store/" + 60 * "x" + "/bin/ssh"


@pytest.mark.parametrize(
    "line",
    [
        FIRST.replace("(pid", f"(bin={LONG}, pid"),  # whole here, cut off behind a longer name
        FIRST[: FIRST.index("(pid")] + f"(bin={LONG}: Connecting to h [1.2.3.4] port 22.",
        FIRST.replace(" (pid=77)", ""),  # 8.6
    ],
)
def test_a_tag_that_has_no_room_for_the_id_tells_nothing(line: str) -> None:
    log = Messages(tagged=True)
    taken = log.take([BEGIN, line, LIE])
    assert [message.certain for message in taken] == [True, False, False]
    assert texts(taken) == [BEGIN, "debug1: Connecting to h [1.2.3.4] port 22.", LIE]


def test_without_tags_a_line_is_a_message_and_nothing_is_certain() -> None:
    line = "debug1: mux.c:mux_client_request_session():2072 (pid=7): master session id: 2"
    assert Messages(tagged=False).take([BEGIN, line]) == [
        Message(BEGIN, certain=False),
        Message("debug1: master session id: 2", certain=False),
    ]


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"]), max_size=40), max_size=30))
def test_nothing_behind_a_message_becomes_one_without_the_id(lines: list[str]) -> None:
    log = begun()
    taken = log.take([REMOTE, *(line.replace("77", "") for line in lines), FIRST])
    assert [message.text for message in taken if message.is_ssh][1:] == [
        "debug1: Connecting to h [1.2.3.4] port 22."
    ]


def test_no_message_grows_without_end() -> None:
    (message,) = begun().take([REMOTE, *["x" * 1000] * 999])
    assert len(message.text) < 5000


SHOWN = {
    "Permission denied (publickey).": "Permission denied (publickey).",
    "Received disconnect from h: x\r\nkssh[1]: up": r"Received disconnect from h: x\015\012kssh[1]: up",
    "x\b\b\b\a\x1b": r"x\010\010\010\007\033",
    "a\tb": "a\tb",
    "kssh: h: tunnel is up": "ssh: kssh: h: tunnel is up",
    "Warning: the ED25519 host key for 'h' differs\nOffending key in f:1": (
        "Warning: the ED25519 host key for 'h' differs\nOffending key in f:1"
    ),
    "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:x.": (
        "The fingerprint for the ED25519 key sent by the remote host is\nSHA256:x."
    ),
    "Host key fingerprint is\nkssh[1]: h: up\n\r  kssh: h: up\r\b": (
        "Host key fingerprint is\nssh: kssh[1]: h: up\n\rssh:   kssh: h: up\r\\010"
    ),
}


@pytest.mark.parametrize("text", SHOWN)
def test_a_message_is_shown_in_one_line_and_not_as_one_of_ours(text: str) -> None:
    assert shown(text) == SHOWN[text]
