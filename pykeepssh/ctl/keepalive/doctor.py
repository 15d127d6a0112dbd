"""ksshctl doctor: finds the known mistakes with keepalive, says why they are some, and what mends them.

Knows the mistakes.  The grammar is in grammar.py; what ssh and sshd make of a file, in openssh.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from ...errors import KsshError, printable
from ...system import measured, program
from . import grammar, marks, openssh, sshserver
from .verb import path_argument

# Azure's load balancer and NAT forget an idle connection, silently, after this: the shortest of the
# well-known ones (AWS 350, Google 600 and 1200, Juniper 1800, Cisco ASA 3600; RFC 5382 asks for 7440).
SHORTEST_TIMEOUT_S = 240
_SET = "ksshctl keepalive set"
_LONG_WHY = f"some firewalls forget an idle connection after {SHORTEST_TIMEOUT_S} s"
_TCP_WHY = "the kernel asks for the first time after two hours as a rule, when firewalls have long forgotten"
_FORWARDS = ("localforward", "remoteforward", "dynamicforward")
_REFUSED = re.compile(r"(/\S.*?):? line (\d+): (.*)")
_UNKNOWN = "Bad configuration option"
# GNU sed puts the name, as it is given, for the *: the copy is hidden, and "Include folder/*" does not
# read it.
_SED = "sed -i'.*.bak'"
_MOVED = "mend one, then ask again: line numbers move\n"


class Finding(NamedTuple):
    """One mistake.

    code  a name for programs
    file  where it is, or the file that the mending goes to; line may be None
    """

    code: str
    file: str
    line: int | None
    what: str
    why: str
    mend: str


class _Value(NamedTuple):
    """A value in force, and the line that gives it (None: it is the default)."""

    number: int
    source: grammar.Setting | None


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="find the known mistakes with keepalive",
        epilog="exit status: 0 nothing is wrong; 1 something is, or a file cannot be examined; 2 usage",
        allow_abbrev=False,
    )
    parser.add_argument("host", nargs="?", metavar="HOST", help="examine what is in force for HOST")
    parser.add_argument(
        "--config", type=path_argument, metavar="FILE", help="ssh's file; sshd's is not examined then"
    )
    parser.add_argument(
        "--sshd-config", type=path_argument, metavar="FILE", help="sshd's file; ssh's is not examined then"
    )
    parser.add_argument("--sshd", metavar="PROGRAM", help="sshd instead of the one in PATH")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    """Examine and report; return the exit status."""
    for path in (arguments.config, arguments.sshd_config):
        if path is None:
            continue
        if not os.access(path, os.R_OK):
            raise KsshError(f"{printable(path)}: cannot be read")
        openssh.check_file(path)
    findings: list[Finding] = []
    unseen: list[str] = []
    if arguments.config is not None or arguments.sshd_config is None:
        findings += _Client(arguments.host, arguments.config).findings(unseen)
    if arguments.sshd_config is not None or arguments.config is None:
        findings += _server(arguments.sshd_config, arguments.sshd, unseen)
    findings = list(dict.fromkeys(findings))
    if arguments.json:
        shown = [
            {
                key: printable(value) if isinstance(value, str) else value
                for key, value in one._asdict().items()
            }
            for one in findings
        ]
        sys.stdout.write(json.dumps({"findings": shown, "not_examined": unseen}, indent=2) + "\n")
        return 1 if findings else 0
    for finding in findings:
        sys.stdout.write(_paragraph(finding))
    for line in unseen:
        sys.stdout.write(f"not examined: {line}\n")
    if not findings:
        sys.stdout.write("nothing is wrong\n")
    if len(findings) > 1:
        sys.stdout.write(_MOVED)
    return 1 if findings else 0


def _paragraph(finding: Finding) -> str:
    where = printable(finding.file) + (f" line {finding.line}" if finding.line else "")
    return (
        f"{where}: {printable(finding.what)}\n    why: {printable(finding.why)}\n"
        f"    mend: {printable(finding.mend)}\n"
    )


def _edit(file: str, number: int, added: str | None = None) -> str:
    """Return the command that comments a line out, or adds one below it; one that has moved is left alone.

    What keepalive set wrote stays such that it can be taken out: its comment above goes with the line,
    and between its marks the line goes itself.
    """
    path = os.path.realpath(file)
    lines = grammar.parse(openssh.read(path) or b"")
    here = f"{number}{{/{_guard(lines, number - 1)}/"
    if added is not None:
        parts = [f"{here}a {added}", "}"]
    else:
        parts = [f"{here}d;}}" if marks.is_marked(lines, number - 1) else f"{here}s/^/#/;}}"]
        above = lines[number - 2].body if 1 < number <= len(lines) else b""
        if above.startswith(marks.WAS):
            parts.insert(0, f"{number - 1}{{/^{marks.WAS.decode()}/d;}}")
    option = "-e " if len(parts) > 1 else ""
    script = " ".join(option + shlex.quote(part) for part in parts)
    folder, name = map(shlex.quote, os.path.split(path))
    return f"(cd {folder} && {_SED} {script} {name})"


def _guard(lines: Sequence[grammar.Line], index: int) -> str:
    """Return what sed can know a line by: its keyword as it is written, no further than letters go."""
    written = lines[index].body.decode("latin-1") if 0 <= index < len(lines) else ""
    word = re.search(r"[A-Za-z0-9]+", written)
    return word[0] if word else "^"


def _mend(
    command: str,
    force: tuple[_Value, _Value],
    wins: Callable[[grammar.Setting], bool],
    lines: Sequence[grammar.Setting] = (),
    limit_s: int = SHORTEST_TIMEOUT_S,
    better_s: int = grammar.INTERVAL_S,
) -> str:
    """Return the command that sets keepalive, keeps what is good, and first comments out what would win.

    command   keepalive set with its scope
    force     interval and count as they are
    wins      whether a line would win over what is set
    lines     to be commented out whatever they say
    limit_s   an interval is good below it; better_s is what it is to be otherwise
    """
    interval, count = force
    good_interval, good_count = 0 < interval.number < limit_s, 0 < count.number <= grammar.COUNT_MOST
    bad = [one.source for one, good in zip(force, (good_interval, good_count)) if not good]
    losing = {line[:2] for line in lines} | {line[:2] for line in bad if line is not None and wins(line)}
    interval_s = interval.number if good_interval else better_s
    if interval_s != grammar.INTERVAL_S or interval.number >= limit_s:
        command += f" --interval {interval_s}"
    if good_count and count.number != grammar.COUNT_MAX:
        command += f" --count-max {count.number}"
    # From the last line on: where a comment of ours goes too, those below it move.
    return " && ".join([*(_edit(*place) for place in sorted(losing, reverse=True)), command])


def _for_everyone(settings: Sequence[grammar.Setting], words: Sequence[str]) -> tuple[_Value, _Value]:
    """Return interval and count as files have them for everyone, where no program can be asked."""

    def value(word: str, default: int) -> _Value:
        for setting in _words(settings, word):
            if all(grammar.is_for_all(opener.line) for opener in setting.scope):
                return _Value(_number(_argument(setting)), setting)
        return _Value(default, None)

    return value(words[0], 0), value(words[1], grammar.COUNT_MAX)


def _words(settings: Sequence[grammar.Setting], *words: str) -> Iterator[grammar.Setting]:
    """Yield the lines with one of some keywords."""
    lower = {word.lower() for word in words}
    return (setting for setting in settings if setting.line.keyword in lower)


def _argument(setting: grammar.Setting) -> str:
    return os.fsdecode(setting.line.arguments[0]) if setting.line.arguments else ""


def _number(text: str) -> int:
    return grammar.seconds(text) or 0


def _only_tcp(line: grammar.Setting | None, mend: str) -> Iterator[Finding]:
    """Yield that a line with TCPKeepAlive is all that is relied upon, if there is one."""
    if line is not None:
        what = "only TCPKeepAlive is relied upon"
        yield Finding("tcp-keep-alive-only", line.file, line.number, what, _TCP_WHY, mend)


def _refused(
    said: str, usual: str, check: str, seen: Sequence[Finding], settings: Sequence[grammar.Setting]
) -> Iterator[Finding]:
    """Yield what a program says against its files, unless that is explained already.

    What it says has words of the files in it, which could make one more such sentence, about another
    file: only those that were read are believed in.
    """
    read = {os.path.realpath(path) for path in (usual, *(setting.file for setting in settings))}
    told = [match for match in map(_REFUSED.match, said.split("; ")) if match]
    told = [match for match in told if os.path.realpath(match[1]) in read]
    for match in told:
        file, line = match[1], int(match[2])
        if (file, line) not in {(one.file, one.line) for one in seen}:
            mend = f"${{EDITOR:-vi}} +{line} {shlex.quote(file)}"
            if match[3].startswith(_UNKNOWN):  # what else is wrong may be needed, with another value
                mend = _edit(file, line)
            yield Finding(
                "refused",
                file,
                line,
                match[3],
                "nothing works with a file that is refused",
                f"{mend} && {check}",
            )
    if not told and not seen:
        yield Finding("refused", usual, None, said, "nothing works with a file that is refused", check)


def _modes(files: Sequence[str], why: str) -> Iterator[Finding]:
    """Yield the files that others could change."""
    for file in dict.fromkeys(files):
        try:
            found = os.stat(file)
        except OSError:
            continue
        path = shlex.quote(file)
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = f"mode {stat.S_IMODE(found.st_mode):04o}: others may write to it"
            yield Finding("mode", file, None, mode, why, f"chmod go-w {path}")
        if found.st_uid not in (0, os.getuid()):
            owner = f"it belongs to user {found.st_uid}"
            yield Finding("owner", file, None, owner, why, f"chown {os.getuid()} {path}")


class _Client:
    """What is wrong for ssh."""

    def __init__(self, host: str | None, config: str | None) -> None:
        self._ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
        self._host = host
        self._config = config
        self._groups = openssh.client_groups(config)
        self._settings = [setting for group in self._groups for setting in group]
        self._file = config or openssh.user_config()
        self._command = f"{_SET} --user" + ("" if config is None else f" --config {shlex.quote(config)}")
        self._pattern = host if host is not None and grammar.is_plain(host) else None
        self._asked: dict[str, openssh.Client] = {}

    def findings(self, unseen: list[str]) -> list[Finding]:
        """Return them all; what cannot be examined is added to unseen."""
        found = list(self._servers_words())
        files = [self._file, *(setting.file for setting in self._settings)]
        if self._config is None:
            files.append(os.path.dirname(self._file))
        found += _modes(files, "ssh refuses a configuration that others could have written")
        why = openssh.why_not_as_root(self._config) if self._config is not None else ""
        if why:
            if not found:
                raise KsshError(why)
            unseen.append(why)
            return found
        which = "" if self._config is None else f"-F {shlex.quote(self._config)} "
        try:
            client = self._ask(self._host or openssh.ANY_HOST)
        except KsshError as error:
            check = f"ssh -G {which}{shlex.quote(self._host or openssh.ANY_HOST)} >/dev/null"
            explained = [one for one in found if one.line or one.code in ("mode", "owner")]
            return [*found, *_refused(str(error), self._file, check, explained, self._settings)]
        found += self._interval(client)
        found += self._too_long_for_some()
        found += self._count_max(client)
        found += self._too_early()
        found += self._per_host(client)
        return found

    def _ask(self, host: str) -> openssh.Client:
        if host not in self._asked:
            self._asked[host] = openssh.Client(self._ssh, host, self._config)
        return self._asked[host]

    def _mend(self, pattern: str | None, *lines: grammar.Setting) -> str:
        """Return the command for a pattern, None for every host; lines are commented out first."""
        command, name = self._command, openssh.ANY_HOST
        limits = (SHORTEST_TIMEOUT_S, grammar.INTERVAL_S)
        if pattern is not None:
            command += f" --host {shlex.quote(pattern)}"
            name = os.fsdecode(grammar.example_of(os.fsencode(pattern)))
        try:
            client = self._ask(name)
        except KsshError:
            force = _for_everyone(self._settings, grammar.CLIENT)
        else:
            interval, count = (_Value(_number(client.value(w)), client.source(w)) for w in grammar.CLIENT)
            force = (interval, count)
            known = self._measured(client) if pattern == self._host else None
            if known is not None:
                limits = (known + 1, known)
        return _mend(command, force, lambda line: self._wins(line, pattern), lines, *limits)

    def _wins(self, setting: grammar.Setting, pattern: str | None) -> bool:
        """Tell whether a line wins over what is set for a pattern, None for every host."""
        if self._config is None and setting in self._groups[1]:
            return False  # the user's file comes before the system's
        blocks = [opener.line for opener in setting.scope if not grammar.is_for_all(opener.line)]
        if pattern is not None:
            blocks = [line for line in blocks if line.keyword == "match"]
        return setting.file != self._file or bool(blocks)

    def _mend_value(self, source: grammar.Setting | None) -> str:
        """Return the command for the host, or for every host, where a line gives a bad value."""
        wins = source is not None and self._wins(source, self._pattern)
        return self._mend(self._pattern, *([source] if source is not None and wins else []))

    def _measured(self, client: openssh.Client) -> int | None:
        """Return the interval that a probe recommended for the host, None if nothing is known."""
        if self._host is None:
            return None
        return measured.interval_s(os.environ.get("KSSH_STATE_DIR", ""), client.values)

    def _servers_words(self) -> Iterator[Finding]:
        lines = list(_words(self._settings, *grammar.SERVER))  # ssh wants none of them
        for setting in lines:
            yield Finding(
                "client-alive-in-ssh-config",
                setting.file,
                setting.number,
                "ClientAlive… is a setting of the server",
                "ssh refuses to start with it; its own words are ServerAliveInterval and ServerAliveCountMax",
                self._mend(None, *lines),
            )

    def _interval(self, client: openssh.Client) -> Iterator[Finding]:
        interval = _number(client.value("ServerAliveInterval"))
        source = client.source("ServerAliveInterval")
        file, line = (self._file, None) if source is None else source[:2]
        if interval == 0:
            yield Finding(
                "no-interval",
                file,
                line,
                "ServerAliveInterval is 0" + ("" if self._host else " for hosts without one of their own"),
                "ssh sends nothing while idle: firewalls forget the connection, a dead one hangs for ever",
                self._mend_value(source),
            )
            if openssh.flag(client.value("TCPKeepAlive")) == "yes":
                yield from _only_tcp(client.source("TCPKeepAlive"), self._mend_value(source))
            return
        limit, why = SHORTEST_TIMEOUT_S, _LONG_WHY
        known = self._measured(client)
        if known is not None:
            limit, why = known + 1, f"ksshctl probe measured this path and recommends {known} s"
        if interval >= limit:
            what = f"ServerAliveInterval {interval} is too long"
            yield Finding("interval-too-long", file, line, what, why, self._mend_value(source))

    def _too_long_for_some(self) -> Iterator[Finding]:
        """Yield what single blocks set too high, where no host was named."""
        if self._host is not None:
            return
        for setting in _words(self._settings, "ServerAliveInterval"):
            interval = _number(_argument(setting))
            if interval < SHORTEST_TIMEOUT_S or all(grammar.is_for_all(one.line) for one in setting.scope):
                continue
            pattern = os.fsdecode(b" ".join(setting.scope[-1].line.arguments))
            if setting.scope[-1].line.keyword == "host" and grammar.is_plain(pattern):
                mend = self._mend(pattern, *([setting] if self._wins(setting, pattern) else []))
            else:
                mend = self._mend(None, setting)
            yield Finding(
                "interval-too-long",
                setting.file,
                setting.number,
                f"ServerAliveInterval {interval} is too long",
                _LONG_WHY,
                mend,
            )

    def _count_max(self, client: openssh.Client) -> Iterator[Finding]:
        lines = [one for one in _words(self._settings, "ServerAliveCountMax") if _argument(one) == "0"]
        if self._host is not None:
            source = client.source("ServerAliveCountMax")
            lines = [one for one in lines if source is not None and one[:2] == source[:2]]
        for setting in lines:
            yield Finding(
                "count-max-0",
                setting.file,
                setting.number,
                "ServerAliveCountMax 0",
                "ssh gives up after one quiet interval without having asked: every idle session is cut",
                self._mend(self._pattern, setting),
            )

    def _too_early(self) -> Iterator[Finding]:
        # That the user's own file beats the system's is as it should be: each is looked at by itself.
        for group in self._groups:
            for word in grammar.CLIENT:
                yield from self._beaten(list(_words(group, word)), word)

    def _beaten(self, settings: Sequence[grammar.Setting], word: str) -> Iterator[Finding]:
        first: grammar.Setting | None = None
        for setting in settings:
            everyone = all(grammar.is_for_all(opener.line) for opener in setting.scope)
            if first is None:
                first = setting if everyone else None
            elif not everyone and _argument(setting) != _argument(first):
                yield Finding(
                    "host-star-too-early",
                    first.file,
                    first.number,
                    f"{word} for every host comes too early",
                    f"the first value wins: {setting.file} line {setting.number} has no effect",
                    self._mend(None, first),
                )
                return

    def _per_host(self, any_host: openssh.Client) -> Iterator[Finding]:
        """Yield what is wrong with tunnels and shared connections, of one host or of all that are named."""
        if self._host is not None:
            yield from self._of_host(any_host, self._host)
            return
        asked: dict[str, openssh.Client] = {openssh.ANY_HOST: any_host}
        for setting in _words(self._settings, *_FORWARDS, "ControlPersist"):
            name = openssh.ANY_HOST
            if setting.scope:
                opener = setting.scope[-1].line
                if opener.keyword != "host" or all(word.startswith(b"!") for word in opener.arguments):
                    continue  # for whom a Match is only ssh knows: doctor HOST
                name = os.fsdecode(grammar.example_of(b" ".join(opener.arguments)))
            if name not in asked:
                asked[name] = self._ask(name)
        for name, client in asked.items():
            yield from self._of_host(client, name)

    def _of_host(self, client: openssh.Client, name: str) -> Iterator[Finding]:
        forwards = [client.source(word) for word in _FORWARDS if client.value(word)]
        forward = next((source for source in forwards if source is not None), None)
        if forward is not None and openssh.flag(client.value("ExitOnForwardFailure")) == "no":
            yield Finding(
                "tunnel-without-exit",
                forward.file,
                forward.number,
                f"a tunnel without ExitOnForwardFailure ({name})",
                "when the port is taken, mostly by an old session, ssh stays connected without the forward",
                _edit(forward.file, forward.number, "ExitOnForwardFailure yes"),
            )
        persist = client.source("ControlPersist")
        shared = (
            _is_on(client, "ControlPersist")
            and _is_on(client, "ControlMaster")
            and _is_on(client, "ControlPath")
        )
        if persist is not None and shared and _number(client.value("ServerAliveInterval")) == 0:
            yield Finding(
                "master-without-keepalive",
                persist.file,
                persist.number,
                f"a ControlPersist master without keepalive ({name})",
                "when its connection dies it stays, and every new ssh to the host hangs on it",
                self._mend_master(client),
            )

    def _mend_master(self, client: openssh.Client) -> str:
        """Return the command for a host: where a block of its own sets the interval, for that block."""
        source = client.source("ServerAliveInterval")
        if self._host is None and source is not None and source.scope:
            opener = source.scope[-1].line
            pattern = os.fsdecode(b" ".join(opener.arguments))
            if opener.keyword == "host" and not grammar.is_for_all(opener) and grammar.is_plain(pattern):
                return self._mend(pattern, *([source] if self._wins(source, pattern) else []))
        return self._mend_value(source)


def _is_on(client: openssh.Client, word: str) -> bool:
    return client.value(word) not in ("", "no", "false", "none")


def _server(config: str | None, wanted: str | None, unseen: list[str]) -> list[Finding]:
    """Return what is wrong for sshd."""
    path = config or openssh.SERVER_CONFIG
    sshd = openssh.find_sshd(wanted)
    if not os.path.exists(path):
        return []
    settings = openssh.server_settings(path)
    option = "" if config is None else f" --config {shlex.quote(config)}"
    if wanted is not None:
        option += f" --sshd {shlex.quote(wanted)}"
    command = f"{_SET} --server{option}"
    clients = list(_words(settings, *grammar.CLIENT))  # sshd wants none of them
    found = [
        Finding(
            "server-alive-in-sshd-config",
            setting.file,
            setting.number,
            "ServerAlive… is a setting of the client",
            "sshd does not start with it, and locks everybody out at its next restart; its own words are "
            "ClientAliveInterval and ClientAliveCountMax",
            _mend(command, _for_everyone(settings, grammar.SERVER), _in_match, clients),
        )
        for setting in clients
    ]
    files = [path, *(setting.file for setting in settings)]
    found += _modes(files, "whoever can write to it becomes root")
    if sshd is None:
        unseen.append("there is no sshd in PATH")
        return found
    why = openssh.sshd_refuses(sshd, path)
    if why is not None:
        if "no hostkeys" in why and os.geteuid() != 0:
            unseen.append(f"{printable(path)}: only root can read sshd's keys")
            return found
        check = f"{shlex.quote(sshd)} -t -f {shlex.quote(path)}"
        return [*found, *_refused(why, path, check, [one for one in found if one.line], settings)]
    try:
        unused = config is None and sshserver.listener_for(path, sshd) is None
    except KsshError as error:
        unseen.append(f"{printable(path)}: {error}")
        return found
    if unused:
        unseen.append(f"{printable(path)}: no running sshd uses it")
        return found
    return [*found, *_server_values(openssh.sshd_values(sshd, path), settings, path, command)]


def _in_match(setting: grammar.Setting) -> bool:
    """Tell whether a line of sshd's wins over those for everyone."""
    return bool(setting.scope)


def _server_values(
    values: dict[str, list[str]], settings: Sequence[grammar.Setting], path: str, command: str
) -> Iterator[Finding]:
    def value(word: str) -> str:
        return values.get(word.lower(), [""])[0]

    def in_force(word: str) -> _Value:
        return _Value(_number(value(word)), openssh.server_source(list(settings), word, value(word)))

    def at(found: _Value) -> tuple[str, int | None]:
        return (path, None) if found.source is None else found.source[:2]

    force = (in_force(grammar.SERVER[0]), in_force(grammar.SERVER[1]))
    interval, count = force
    mend = _mend(command, force, _in_match)
    if interval.number == 0:
        yield Finding(
            "server-without-keepalive",
            *at(interval),
            "ClientAliveInterval is 0",
            "sshd never learns that a client is gone: its session stays, and the port of its -R stays taken",
            mend,
        )
        if openssh.flag(value("TCPKeepAlive")) == "yes":
            yield from _only_tcp(next(_words(settings, "TCPKeepAlive"), None), mend)
    elif interval.number >= SHORTEST_TIMEOUT_S:
        yield Finding(
            "interval-too-long",
            *at(interval),
            f"ClientAliveInterval {interval.number} is too long",
            _LONG_WHY,
            mend,
        )
    if value("ClientAliveCountMax") == "0":
        yield Finding(
            "count-max-0",
            *at(count),
            "ClientAliveCountMax 0",
            "sshd never gives a dead client up; before OpenSSH 8.2 it cut every idle session instead",
            mend,
        )
