"""The known mistakes with keepalive in files of sshd's: a small function for each, and what fixes it.

What sshd makes of the files is in openssh.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import KsshError, printable
from . import fix, grammar, marks, openssh, server, sshserver
from .mistakes import (
    SHORTEST_TIMEOUT_S,
    TOO_LONG,
    Finding,
    at,
    number,
    only_tcp,
    open_to_others,
    refused,
    with_words,
)
from .tree import Tree

_INTERVAL, _COUNT_MAX = grammar.SERVER


class Files:
    """The files of sshd's that are examined, and what sshd makes of them."""

    def __init__(self, tree: Tree) -> None:
        self.main = tree.roots[0].path
        self.settings = tree.settings()
        self._tree = tree
        self._values: dict[str, list[str]] = {}

    def ask(self, sshd: str) -> None:
        """Have sshd say which values are in force.  Raises KsshError."""
        self._values = openssh.sshd_values(sshd, self._tree)

    def value(self, word: str) -> str:
        """Return a value in force."""
        return openssh.flag(self._values.get(word.lower(), [""])[0])

    def source(self, word: str) -> grammar.Setting | None:
        """Return the line that gives it."""
        return openssh.server_source(self.settings, word, self.value(word))

    def interval_steps(self) -> tuple[fix.Step, ...]:
        """Return what gives a good interval."""
        source = self.source(_INTERVAL)
        if source is not None:
            return (fix.Edit(source, f"{_INTERVAL} {grammar.INTERVAL_S}"),)
        target = server.target_of(self.main, self._tree)
        return (fix.Set(target, marks.SSHD, grammar.INTERVAL_S, None),)


def examine(tree: Tree, usual: bool, sshd: str | None) -> tuple[list[Finding], list[str]]:
    """Return what is wrong, and what cannot be examined.

    usual  whether this is the file that sshd reads by itself
    sshd   the program that the user named
    """
    files = Files(tree)
    path = printable(files.main)
    program = openssh.find_sshd(sshd)
    if not os.path.exists(files.main):
        return [], []
    found = list(_clients_words(files))
    paths = [files.main, *(setting.file for setting in files.settings)]
    found += open_to_others(paths, "whoever can write to it becomes root")
    if program is None:
        return found, ["there is no sshd in PATH"]
    why = openssh.sshd_refuses(program, tree)
    if why is not None:
        if "no hostkeys" in why and os.geteuid() != 0:
            return found, [f"{path}: only root can read sshd's keys"]
        return [*found, *refused(why, files.main, [one for one in found if one.line], files.settings)], []
    try:
        if usual and sshserver.listener_for(files.main, program) is None:
            return found, [f"{path}: no running sshd uses it"]
        files.ask(program)
    except KsshError as error:
        return found, [f"{path}: {error}"]
    for check in CHECKS:
        found += check(files)
    return found, []


def _clients_words(files: Files) -> Iterator[Finding]:
    lines = list(with_words(files.settings, *grammar.CLIENT))  # sshd wants none of them
    for setting in lines:
        yield Finding(
            "server-alive-in-sshd-config",
            *setting[:2],
            "ServerAlive… is a setting of the client",
            "sshd does not start with it, and locks everybody out at its next restart; its own words are "
            "ClientAliveInterval and ClientAliveCountMax",
            tuple(fix.Edit(line, "") for line in lines),
        )


def _no_interval(files: Files) -> Iterator[Finding]:
    if number(files.value(_INTERVAL)) == 0:
        yield Finding(
            "server-without-keepalive",
            *at(files.source(_INTERVAL), files.main),
            "ClientAliveInterval is 0",
            "sshd never learns that a client is gone: its session stays, and the port of its -R stays taken",
            files.interval_steps(),
        )


def _only_tcp(files: Files) -> Iterator[Finding]:
    if number(files.value(_INTERVAL)) == 0 and files.value("TCPKeepAlive") == "yes":
        yield from only_tcp(next(with_words(files.settings, "TCPKeepAlive"), None), files.interval_steps())


def _interval_too_long(files: Files) -> Iterator[Finding]:
    interval = number(files.value(_INTERVAL))
    if interval >= SHORTEST_TIMEOUT_S:
        what = f"ClientAliveInterval {interval} is too long"
        place = at(files.source(_INTERVAL), files.main)
        yield Finding("interval-too-long", *place, what, TOO_LONG, files.interval_steps())


def _count_max_0(files: Files) -> Iterator[Finding]:
    source = files.source(_COUNT_MAX)
    if files.value(_COUNT_MAX) == "0" and source is not None:  # it is 3 where nothing sets it
        yield Finding(
            "count-max-0",
            *source[:2],
            "ClientAliveCountMax 0",
            "sshd never gives a dead client up; before OpenSSH 8.2 it cut every idle session instead",
            (fix.Edit(source, f"{_COUNT_MAX} {grammar.COUNT_MAX}"),),
        )


CHECKS = (_no_interval, _only_tcp, _interval_too_long, _count_max_0)
