"""ssh's log as messages: which line begins one, and which is only the rest of what a server wrote.

ssh writes a message with the line ends that a server put into it (log.c), so that the rest of it looks
like lines of ssh's own, and a server can do that before its host key is checked.  LogVerbose puts
a tag in front of every message, with ssh's process id, which the server does not know: what
carries none is the rest of the message before it.  Another id is that of a child, before it is another
program, or a server's guess.
Knows the form of a tag.  Must not know what a message means.

Source: log.c, sshlogv(): "%.48s:%.48s():%d (bin=%s, pid=%ld)" in 127 bytes, up to 8.6 without what stands
in brackets, "bin=" newer than 9.9.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_LONGEST = 4096  # ssh writes 1024 bytes at most

_TAG = re.compile(
    r"(debug\d: )?[\w.-]+\.c:(\w+)\(\):\d+(?: \((?:bin=(.*?), )?pid=(\d+)\)| \(bin=[^:]*)?: (.*)", re.DOTALL
)
# A program whose name is this long has its process id cut off behind the longest names of functions.
_LONGEST_BIN = 48
# What the functions say that are not tagged, at a level that everybody sees.
_NEVER_TAGGED = re.compile(
    r"(?:Bad packet length \d+|Corrupted MAC on input|padding error: need \d+ block \d+ mod \d+"
    r"|(?:outgoing|incoming) seqnr wraps around)\.?$"
)
# A tag takes the place of a function's name.  These are the messages that have one and that people see.
_NAMED = re.compile(
    r"client_loop: send disconnect: |kex_exchange_identification: (?!Protocol major versions differ)"
    r"|sign_and_send_pubkey: |mux_client_\w+: (?!Control )|mux_confirm_remote_forward: |muxclient: "
    r"|unix_listener: |channel_setup_fwd_listener_tcpip: cannot listen |ssh_askpass: |notify_start: "
    r"|client_global_hostkeys_prove_confirm: |client_input_hostkeys: |hostkeys_find|load_hostkeys_command: "
    r"|ssh_\w+_sign: |sshsk_\w+: |start_helper: |pkcs11_\w+: |client_converse: "
)
# Here the server's text is the message, from its first letter on.
_SERVERS_WORDS = frozenset(("input_userauth_info_req", "input_userauth_passwd_changereq"))
# Messages of ssh's own that have several lines, with nothing of a server's in them.  Where nothing is
# tagged a server can have its words begin so, and with a question that it asks it always can.
_OF_SEVERAL_LINES = re.compile(
    r"Warning: the \S+ host key for |WARNING: \S+ key found for host |Host key fingerprint is"
    r"|The fingerprint for the \S+ key sent by the remote host is\n"
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f]")
_OURS = re.compile(r"(?<![^\r\n])(?=[ \t]*kssh)")


class Message(NamedTuple):
    """One message of ssh's.

    text     as ssh writes it without LogVerbose, with its "debugN: "; line ends in it are a server's
    is_ssh   ssh has said it; if not, the words are a server's, or those of another process
    certain  that is known; if not, it may be the rest of what a server wrote
    other    it carries the id of another process
    """

    text: str
    is_ssh: bool = True
    certain: bool = True
    other: bool = False


class Messages:
    """The log of one run of ssh."""

    def __init__(self, tagged: bool) -> None:
        """Begin a log; tagged tells that ssh tags all of them (plan.TAG_ALL)."""
        self._tagged = tagged
        self._pid = ""  # as the first tag says it: that stands there before ssh has connected
        self._begun: Message | None = None

    def take(self, lines: Iterable[str], more: bool = False) -> list[Message]:
        """Return the messages in some lines of the log; more tells that the last may not be whole yet.

        What ssh writes it writes at once, so that all of it is there when one line of it is.
        """
        found: list[Message] = []
        for line in lines:
            tag = _TAG.match(line) if ".c:" in line else None
            message = self._next(line, tag) if self._pid else self._first(line, tag)
            if message is None:
                self._go_on(line)
                continue
            if self._begun is not None:
                found.append(self._begun)
            self._begun = message
        if self._begun is not None and not more:
            found.append(self._begun)
            self._begun = None
        return found

    def _first(self, line: str, tag: re.Match[str] | None) -> Message:
        """Take a line that ssh wrote before it had read all of its configuration, or the first tag."""
        text = line if tag is None else (tag[1] or "") + tag[5]
        if tag is not None and (tag[4] is None or len(tag[3] or "") > _LONGEST_BIN):
            self._tagged = False
        if tag is None or not self._tagged:
            return Message(text, certain=self._tagged)
        self._pid = tag[4]
        return _tagged_message(tag)

    def _next(self, line: str, tag: re.Match[str] | None) -> Message | None:
        if tag is None or tag[4] is None:
            return Message(line, is_ssh=False) if _NEVER_TAGGED.match(line) else None
        message = _tagged_message(tag)
        return message if tag[4] == self._pid else message._replace(is_ssh=False, other=True)

    def _go_on(self, line: str) -> None:
        begun = self._begun or Message("", is_ssh=False)
        self._begun = begun._replace(text=f"{begun.text}\r\n{line}"[:_LONGEST])


def _tagged_message(tag: re.Match[str]) -> Message:
    level, function, _, _, words = tag.groups()
    if function in _SERVERS_WORDS and level is None:
        return Message(words, is_ssh=False)
    named = f"{function}: {words}"
    if level is None and _NAMED.match(named):
        words = named
    return Message((level or "") + words)


def shown(text: str) -> str:
    """Return a message as it may be shown: in one line as a rule, and none that could be taken for kssh's.

    What remains of ssh's own escaping (vis(3)) is escaped as ssh escapes the rest.
    """
    control = _CONTROL_IN_LINES if _OF_SEVERAL_LINES.match(text) else _CONTROL
    text = control.sub(lambda char: f"\\{ord(char[0]):03o}", text)
    return _OURS.sub("ssh: ", text)
