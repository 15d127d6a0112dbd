"""ssh as the reader of a change, and keepalive set and unset in the user's or the system's file."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping

from ...errors import KsshError, Unusable, printable
from ...system import program
from . import grammar, marks, openssh
from .change import Change, Data, Reader, drop_in
from .configfile import Refused
from .tree import Tree

SYSTEM_DROP_IN = "99-ksshctl-keepalive.conf"  # last: the first value wins, so that others keep theirs


class Client(Reader):
    """ssh, which reads its files for one host."""

    def __init__(self, main: str, tree: Tree, host: str = openssh.ANY_HOST) -> None:
        super().__init__(main, tree)
        self._ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
        self._host = host

    def refusal(self, tree: Tree, wanted: Mapping[str, str]) -> str | None:
        """Return why ssh will not do with files, None if it will."""
        try:
            client = openssh.Client(self._ssh, self._host, tree)
        except KsshError as error:
            return f"ssh: {error}"
        for word, value in wanted.items():
            if client.value(word) != value:
                return self.mismatch(word, client.value(word), client.source(word), tree)
        return None


def change(arguments: argparse.Namespace) -> Change:
    """Return the change that keepalive set or unset asks for."""
    if arguments.confirm_within is not None:
        raise Unusable("--confirm-within is for --server")
    user = arguments.scope == "user"
    main = arguments.config or (openssh.user_config() if user else openssh.SYSTEM_CONFIG)
    pattern = _pattern("*" if arguments.host is None else arguments.host)
    name = openssh.ANY_HOST if pattern == b"*" else os.fsdecode(grammar.example_of(pattern))
    # The user's own file is read without -F: only then ssh looks at its owner and mode.
    tree = openssh.client_tree(None if user and arguments.config is None else main)
    reader = Client(main, tree, name)
    target = main
    if not user:
        _check_includes(main, tree)
        target = drop_in(main, tree, SYSTEM_DROP_IN, ()) or main
    if arguments.action == "set":
        reader.wanted = dict(zip(grammar.CLIENT, (str(arguments.interval), str(arguments.count_max))))

    def edit(before: Data) -> Data:
        if arguments.action == "set":
            return marks.set_client(before or b"", pattern, arguments.interval, arguments.count_max)
        left = marks.unset(before or b"", pattern)
        return left if left or (before is not None and target == main) else None

    return Change(reader, {target: edit}, private=user)


def _check_includes(main: str, tree: Tree) -> None:
    """Refuse what cannot be checked: "ssh -F" takes a relative Include for one in ~/.ssh."""
    for number, line in enumerate(grammar.parse(tree.read(main) or b""), 1):
        if line.keyword == "include" and not all(word.startswith(b"/") for word in line.arguments):
            raise Refused(
                f"{printable(main)} line {number}: Include with a path that does not begin with /; "
                "write it in full first; nothing was written"
            )


def _pattern(text: str) -> bytes:
    """Return the pattern list of --host.  Raises Unusable if ssh_config has no way to write it."""
    if not grammar.is_plain(text):
        raise Unusable(f'--host "{printable(text)}": expected patterns as after Host in ssh_config(5)')
    return os.fsencode(" ".join(text.split()))
