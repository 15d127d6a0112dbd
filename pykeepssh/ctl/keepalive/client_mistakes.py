"""The known mistakes with keepalive in files of ssh's: a small function for each, and what fixes it.

What ssh makes of the files is in openssh.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ...errors import KsshError
from ...system import measured, program
from . import fix, grammar, openssh
from .mistakes import (
    SHORTEST_TIMEOUT_S,
    TOO_LONG,
    Finding,
    argument,
    at,
    number,
    only_tcp,
    open_to_others,
    refused,
    with_words,
)
from .tree import Tree

_INTERVAL, _COUNT_MAX = grammar.CLIENT
_FORWARDS = ("LocalForward", "RemoteForward", "DynamicForward")


class Files:
    """The files of ssh's that are examined, and what ssh makes of them.

    host    the host that they are examined for, None for no one in particular
    groups  their lines, for each file that ssh reads by itself; settings: all of them
    main    the file that something new is written to
    """

    def __init__(self, tree: Tree, host: str | None) -> None:
        self.host = host
        self.main = tree.roots[0].path
        self.groups = tree.groups()
        self.settings = [setting for group in self.groups for setting in group]
        self._tree = tree
        self._program = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
        self._pattern = os.fsencode(host) if host is not None and grammar.is_plain(host) else None
        self._asked: dict[str, openssh.Client] = {}

    def ask(self, host: str) -> openssh.Client:
        """Return what is in force for a host.  Raises KsshError."""
        if host not in self._asked:
            self._asked[host] = openssh.Client(self._program, host, self._tree)
        return self._asked[host]

    @property
    def client(self) -> openssh.Client:
        """What is in force for the host, or for one that no block names."""
        return self.ask(self.host or openssh.ANY_HOST)

    def measured_s(self) -> int | None:
        """Return the interval that a probe recommended for the host, None if nothing is known."""
        if self.host is None:
            return None
        return measured.interval_s(os.environ.get("KSSH_STATE_DIR", ""), self.client.values)

    def interval_steps(self, source: grammar.Setting | None) -> tuple[fix.Step, ...]:
        """Return what gives a good interval where a line, or none, gives a bad one."""
        return self._steps(_INTERVAL, self.measured_s() or grammar.INTERVAL_S, source)

    def count_steps(self, source: grammar.Setting) -> tuple[fix.Step, ...]:
        """Return what gives a good count where a line gives a bad one."""
        return self._steps(_COUNT_MAX, grammar.COUNT_MAX, source)

    def _steps(self, word: str, value: int, source: grammar.Setting | None) -> tuple[fix.Step, ...]:
        """A line is changed where it stands, unless a block of the user's that comes before it will do."""
        if (
            source is not None
            and source in self.groups[0]
            and not (self._pattern and source.file == self.main)
        ):
            return (fix.Edit(source, f"{word} {value}"),)
        interval_s, count_max = (value, None) if word == _INTERVAL else (None, value)
        return (fix.Set(self.main, self._pattern or b"*", interval_s, count_max),)


def examine(tree: Tree, host: str | None) -> tuple[list[Finding], list[str]]:
    """Return what is wrong, and what cannot be examined."""
    files = Files(tree, host)
    found = list(_servers_words(files))
    paths = [files.main, *(setting.file for setting in files.settings)]
    if tree.option is None:
        paths.append(os.path.dirname(files.main))
    found += open_to_others(paths, "ssh refuses a configuration that others could have written")
    why = openssh.why_not_as_root(tree.option) if tree.option is not None else ""
    if why:
        if not found:
            raise KsshError(why)
        return found, [why]
    try:
        for check in CHECKS:
            found += check(files)
    except KsshError as error:
        explained = [one for one in found if one.line or one.code in ("mode", "owner")]
        found += refused(str(error), files.main, explained, files.settings)
    return found, []


def _servers_words(files: Files) -> Iterator[Finding]:
    lines = list(with_words(files.settings, *grammar.SERVER))  # ssh wants none of them
    for setting in lines:
        yield Finding(
            "client-alive-in-ssh-config",
            *setting[:2],
            "ClientAlive… is a setting of the server",
            "ssh refuses to start with it; its own words are ServerAliveInterval and ServerAliveCountMax",
            tuple(fix.Edit(line, "") for line in lines),
        )


def _no_interval(files: Files) -> Iterator[Finding]:
    if number(files.client.value(_INTERVAL)) == 0:
        source = files.client.source(_INTERVAL)
        yield Finding(
            "no-interval",
            *at(source, files.main),
            "ServerAliveInterval is 0" + ("" if files.host else " for hosts without one of their own"),
            "ssh sends nothing while idle: firewalls forget the connection, a dead one hangs for ever",
            files.interval_steps(source),
        )


def _only_tcp(files: Files) -> Iterator[Finding]:
    client = files.client
    if number(client.value(_INTERVAL)) == 0 and openssh.flag(client.value("TCPKeepAlive")) == "yes":
        yield from only_tcp(client.source("TCPKeepAlive"), files.interval_steps(client.source(_INTERVAL)))


def _interval_too_long(files: Files) -> Iterator[Finding]:
    interval = number(files.client.value(_INTERVAL))
    limit, why = SHORTEST_TIMEOUT_S, TOO_LONG
    known = files.measured_s()
    if known is not None:
        limit, why = known + 1, f"ksshctl probe measured this path and recommends {known} s"
    if interval >= limit:
        source = files.client.source(_INTERVAL)
        what = f"ServerAliveInterval {interval} is too long"
        steps = files.interval_steps(source)
        yield Finding("interval-too-long", *at(source, files.main), what, why, steps)


def _too_long_for_some(files: Files) -> Iterator[Finding]:
    """Yield what single blocks set too high, where no host was named."""
    if files.host is not None:
        return
    for setting in with_words(files.settings, _INTERVAL):
        interval = number(argument(setting))
        if interval >= SHORTEST_TIMEOUT_S and not _is_for_all(setting):
            what = f"ServerAliveInterval {interval} is too long"
            steps = (fix.Edit(setting, f"{_INTERVAL} {grammar.INTERVAL_S}"),)
            yield Finding("interval-too-long", *setting[:2], what, TOO_LONG, steps)


def _count_max_0(files: Files) -> Iterator[Finding]:
    lines = [one for one in with_words(files.settings, _COUNT_MAX) if argument(one) == "0"]
    if files.host is not None:
        source = files.client.source(_COUNT_MAX)
        lines = [one for one in lines if one == source]
    for setting in lines:
        yield Finding(
            "count-max-0",
            *setting[:2],
            "ServerAliveCountMax 0",
            "ssh gives up after one quiet interval without having asked: every idle session is cut",
            files.count_steps(setting)
            if files.host
            else (fix.Edit(setting, f"{_COUNT_MAX} {grammar.COUNT_MAX}"),),
        )


def _host_star_too_early(files: Files) -> Iterator[Finding]:
    # That the user's own file beats the system's is as it should be: each is looked at by itself.
    for group in files.groups:
        for word in grammar.CLIENT:
            yield from _beaten(group, word)


def _beaten(group: list[grammar.Setting], word: str) -> Iterator[Finding]:
    first: grammar.Setting | None = None
    for setting in with_words(group, word):
        if first is None:
            first = setting if _is_for_all(setting) else None
        elif not _is_for_all(setting) and argument(setting) != argument(first):
            value = number(argument(first))
            interval_s, count_max = (value, None) if word == _INTERVAL else (None, value)
            yield Finding(
                "host-star-too-early",
                *first[:2],
                f"{word} for every host comes too early",
                f'the first value wins: what "{_opener(setting)}" says in {setting.file} has no effect',
                (fix.Edit(first, ""), fix.Set(group[0].file, b"*", interval_s, count_max)),
            )
            return


def _opener(setting: grammar.Setting) -> str:
    return os.fsdecode(setting.scope[-1].line.body).strip()


def _is_for_all(setting: grammar.Setting) -> bool:
    return all(grammar.is_for_all(opener.line) for opener in setting.scope)


def _tunnel_without_exit(files: Files) -> Iterator[Finding]:
    for name, client in _named(files).items():
        forwards = [client.source(word) for word in _FORWARDS if client.value(word)]
        forward = next((source for source in forwards if source is not None), None)
        if forward is None or openssh.flag(client.value("ExitOnForwardFailure")) != "no":
            continue
        said = client.source("ExitOnForwardFailure")
        new = "ExitOnForwardFailure yes"
        yield Finding(
            "tunnel-without-exit",
            *forward[:2],
            f"a tunnel without ExitOnForwardFailure ({name})",
            "when the port is taken, mostly by an old session, ssh stays connected without the forward",
            (fix.Edit(forward, new, below=True) if said is None else fix.Edit(said, new),),
        )


def _master_without_keepalive(files: Files) -> Iterator[Finding]:
    for name, client in _named(files).items():
        persist = client.source("ControlPersist")
        shared = all(_is_on(client, word) for word in ("ControlPersist", "ControlMaster", "ControlPath"))
        if persist is not None and shared and number(client.value(_INTERVAL)) == 0:
            yield Finding(
                "master-without-keepalive",
                *persist[:2],
                f"a ControlPersist master without keepalive ({name})",
                "when its connection dies it stays, and every new ssh to the host hangs on it",
                files.interval_steps(client.source(_INTERVAL)),
            )


def _is_on(client: openssh.Client, word: str) -> bool:
    return client.value(word) not in ("", "no", "false", "none")


def _named(files: Files) -> dict[str, openssh.Client]:
    """Return what is in force for the host, or for those that have forwards or shared connections."""
    if files.host is not None:
        return {files.host: files.client}
    found = {openssh.ANY_HOST: files.client}
    for setting in with_words(files.settings, *_FORWARDS, "ControlPersist"):
        if setting.scope:
            opener = setting.scope[-1].line
            if opener.keyword != "host" or all(word.startswith(b"!") for word in opener.arguments):
                continue  # for whom a Match is only ssh knows: doctor HOST
            name = os.fsdecode(grammar.example_of(b" ".join(opener.arguments)))
            found[name] = files.ask(name)
    return found


CHECKS = (
    _no_interval,
    _only_tcp,
    _interval_too_long,
    _too_long_for_some,
    _count_max_0,
    _host_star_too_early,
    _tunnel_without_exit,
    _master_without_keepalive,
)
