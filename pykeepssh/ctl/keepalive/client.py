"""Keepalive set and unset in a file of ssh's: the user's or the system's."""

from __future__ import annotations

import argparse
import os

from ...errors import KsshError, Unusable, printable
from ...system import program
from . import grammar, marks, openssh
from .change import Change
from .configfile import Refused

SYSTEM_DROP_IN = "99-ksshctl-keepalive.conf"  # last: the first value wins, so that others keep theirs


class Client(Change):
    """One set or unset for ssh."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        usual = openssh.user_config() if arguments.scope == "user" else openssh.SYSTEM_CONFIG
        super().__init__(arguments, arguments.config or usual)
        if arguments.confirm_within is not None:
            raise Unusable("--confirm-within is for --server")
        self._ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
        self._pattern = _pattern("*" if arguments.host is None else arguments.host)
        self._name = openssh.ANY_HOST
        if self._pattern != b"*":
            self._name = os.fsdecode(grammar.example_of(self._pattern))
        if arguments.scope == "system":
            self._check_includes()
            self._use_drop_in(SYSTEM_DROP_IN, ())
        if self.setting:
            values = (arguments.interval, arguments.count_max)
            self.wanted = dict(zip(grammar.CLIENT, map(str, values)))

    def _check_includes(self) -> None:
        """Refuse what cannot be checked: "ssh -F" takes a relative Include for one in ~/.ssh."""
        for number, line in enumerate(grammar.parse(openssh.read(self.main) or b""), 1):
            if line.keyword == "include" and not all(word.startswith(b"/") for word in line.arguments):
                raise Refused(
                    f"{printable(self.main)} line {number}: Include with a path that does not begin with /; "
                    "write it in full first; nothing was written"
                )

    def new_bytes(self, old: bytes) -> bytes:
        """Return what the file is to hold.  Raises marks.Unclear."""
        if not self.setting:
            return marks.unset(old, self._pattern)
        return marks.set_client(old, self._pattern, self.arguments.interval, self.arguments.count_max)

    def refusal(self, config: str) -> str | None:
        """Return why ssh will not do with a main file, None if it will."""
        # The user's own file is read without -F: only then ssh looks at its owner and mode.
        usual = self.arguments.config is None and self.arguments.scope == "user" and config == self.main
        try:
            client = openssh.Client(self._ssh, self._name, None if usual else config)
        except KsshError as error:
            return f"ssh: {error}"
        for word, value in self.wanted.items():
            if client.value(word) != value:
                return self.mismatch(word, client.value(word), client.source(word), config)
        return None


def _pattern(text: str) -> bytes:
    """Return the pattern list of --host.  Raises Unusable if ssh_config has no way to write it."""
    if not grammar.is_plain(text):
        raise Unusable(f'--host "{printable(text)}": expected patterns as after Host in ssh_config(5)')
    return os.fsencode(" ".join(text.split()))
