"""ksshctl doctor: finds the known mistakes with keepalive, says why they are some, and what mends them.

Knows the mistakes.  The grammar is in sshconfig.py; what ssh and sshd make of a file, in openssh.py.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import stat
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from .. import measured, openssh, program, sshconfig, sshserver
from ..errors import KsshError, printable
from .keepalive import ANY_HOST, path_argument, server_source

# Azure's load balancer and NAT forget an idle connection, silently, after this: the shortest of the
# well-known ones (AWS 350, Google 600 and 1200, Juniper 1800, Cisco ASA 3600; RFC 5382 asks for 7440).
SHORTEST_TIMEOUT_S = 240
_SET = "ksshctl keepalive set"
_TCP_WHY = "the kernel asks for the first time after two hours as a rule, when firewalls have long forgotten"
_FORWARDS = ("localforward", "remoteforward", "dynamicforward")
_REFUSED = re.compile(r"(/\S.*?):? line (\d+): (.*)")


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
        if path is not None and not os.access(path, os.R_OK):
            raise KsshError(f"{printable(path)}: cannot be read")
    findings: list[Finding] = []
    unseen: list[str] = []
    if arguments.config is not None or arguments.sshd_config is None:
        findings += _Client(arguments.host, arguments.config).findings()
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
    return 1 if findings else 0


def _paragraph(finding: Finding) -> str:
    where = printable(finding.file) + (f" line {finding.line}" if finding.line else "")
    return (
        f"{where}: {printable(finding.what)}\n    why: {printable(finding.why)}\n"
        f"    mend: {printable(finding.mend)}\n"
    )


def _comment_out(file: str, line: int) -> str:
    return f"sed -i.bak '{line}s/^/#/' {shlex.quote(os.path.realpath(file))}"


def _words(settings: Sequence[sshconfig.Setting], *words: str) -> Iterator[sshconfig.Setting]:
    """Yield the lines with one of some keywords."""
    lower = {word.lower() for word in words}
    return (setting for setting in settings if setting.line.keyword in lower)


def _argument(setting: sshconfig.Setting) -> str:
    return os.fsdecode(setting.line.arguments[0]) if setting.line.arguments else ""


def _number(text: str) -> int:
    return sshconfig.seconds(text) or 0


def _refused(said: str, usual: str, check: str, seen: Sequence[Finding]) -> Iterator[Finding]:
    """Yield what a program says against its file, unless that is explained already."""
    told = [match for match in map(_REFUSED.match, said.split("; ")) if match]
    for match in told:
        file, line = match[1], int(match[2])
        if (file, line) not in {(one.file, one.line) for one in seen}:
            yield Finding(
                "refused",
                file,
                line,
                match[3],
                "nothing works with a file that is refused",
                f"{_comment_out(file, line)} && {check}",
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
        self._settings = openssh.client_settings(config)
        self._file = config or openssh.user_config()
        option = [] if config is None else ["--config", shlex.quote(config)]
        if host is not None and sshconfig.is_plain(host):
            option += ["--host", shlex.quote(host)]
        self._set = " ".join([_SET, "--user", *option])
        self._set_all = " ".join([_SET, "--user", *(option[:2] if config else [])])

    def findings(self) -> list[Finding]:
        """Return them all."""
        found = list(self._servers_words())
        files = [self._file, *(setting.file for setting in self._settings)]
        if self._config is None:
            files.append(os.path.dirname(self._file))
        found += _modes(files, "ssh refuses a configuration that others could have written")
        which = "" if self._config is None else f"-F {shlex.quote(self._config)} "
        try:
            client = self._ask(self._host or ANY_HOST)
        except KsshError as error:
            check = f"ssh -G {which}{shlex.quote(self._host or ANY_HOST)} >/dev/null"
            explained = [one for one in found if one.line or one.code in ("mode", "owner")]
            return [*found, *_refused(str(error), self._file, check, explained)]
        found += self._interval(client)
        found += self._too_long_for_some()
        found += self._count_max(client)
        found += self._too_early()
        found += self._per_host(client)
        return found

    def _ask(self, host: str) -> openssh.Client:
        return openssh.Client(self._ssh, host, self._config)

    def _servers_words(self) -> Iterator[Finding]:
        for setting in _words(self._settings, *sshconfig.SERVER):
            yield Finding(
                "client-alive-in-ssh-config",
                setting.file,
                setting.number,
                "ClientAlive… is a setting of the server",
                "ssh refuses to start with it; its own words are ServerAliveInterval and ServerAliveCountMax",
                f"{_comment_out(setting.file, setting.number)} && {self._set_all}",
            )

    def _at(self, client: openssh.Client, word: str) -> tuple[str, int | None]:
        source = client.source(word)
        return (self._file, None) if source is None else (source.file, source.number)

    def _interval(self, client: openssh.Client) -> Iterator[Finding]:
        interval = _number(client.value("ServerAliveInterval"))
        file, line = self._at(client, "ServerAliveInterval")
        if interval == 0:
            yield Finding(
                "no-interval",
                file,
                line,
                "ServerAliveInterval is 0" + ("" if self._host else " for hosts without one of their own"),
                "ssh sends nothing while idle: firewalls forget the connection, a dead one hangs for ever",
                self._set,
            )
            tcp = client.source("TCPKeepAlive")
            if tcp is not None and client.value("TCPKeepAlive") == "yes":
                yield Finding(
                    "tcp-keep-alive-only",
                    tcp.file,
                    tcp.number,
                    "only TCPKeepAlive is relied upon",
                    _TCP_WHY,
                    self._set,
                )
            return
        yield from self._too_long(client, interval, file, line)

    def _too_long(
        self, client: openssh.Client, interval: int, file: str, line: int | None
    ) -> Iterator[Finding]:
        known = None
        if self._host is not None:
            known = measured.interval_s(os.environ.get("KSSH_STATE_DIR", ""), client.values)
        limit, why = (
            SHORTEST_TIMEOUT_S,
            f"some firewalls forget an idle connection after {SHORTEST_TIMEOUT_S} s",
        )
        good = 60
        if known is not None:
            limit, good = known + 1, known
            why = f"ksshctl probe measured this path and recommends {known} s"
        if interval >= limit:
            mend = f"{self._set} --interval {good}"
            yield Finding(
                "interval-too-long", file, line, f"ServerAliveInterval {interval} is too long", why, mend
            )

    def _too_long_for_some(self) -> Iterator[Finding]:
        """Yield what single blocks set too high, where no host was named."""
        if self._host is not None:
            return
        for setting in _words(self._settings, "ServerAliveInterval"):
            interval = _number(_argument(setting))
            if interval < SHORTEST_TIMEOUT_S or all(sshconfig.is_for_all(one.line) for one in setting.scope):
                continue
            pattern = os.fsdecode(b" ".join(setting.scope[-1].line.arguments))
            mend = f"{_comment_out(setting.file, setting.number)} && {self._set}"
            if setting.scope[-1].line.keyword == "host" and sshconfig.is_plain(pattern):
                mend = f"{self._set} --host {shlex.quote(pattern)}"
            yield Finding(
                "interval-too-long",
                setting.file,
                setting.number,
                f"ServerAliveInterval {interval} is too long",
                f"some firewalls forget an idle connection after {SHORTEST_TIMEOUT_S} s",
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
                f"{_comment_out(setting.file, setting.number)} && {self._set}",
            )

    def _too_early(self) -> Iterator[Finding]:
        # That the user's own file beats the system's is as it should be: each is looked at by itself.
        for group in openssh.client_groups(self._config):
            for word in sshconfig.CLIENT:
                yield from self._beaten(list(_words(group, word)), word)

    def _beaten(self, settings: Sequence[sshconfig.Setting], word: str) -> Iterator[Finding]:
        first: sshconfig.Setting | None = None
        for setting in settings:
            everyone = all(sshconfig.is_for_all(opener.line) for opener in setting.scope)
            if first is None:
                first = setting if everyone else None
            elif not everyone and _argument(setting) != _argument(first):
                value = _number(_argument(first))
                option = "--interval" if word == sshconfig.CLIENT[0] else "--count-max"
                again = f" {option} {value}" if value else ""
                yield Finding(
                    "host-star-too-early",
                    first.file,
                    first.number,
                    f"{word} for every host comes too early",
                    f"the first value wins: {setting.file} line {setting.number} has no effect",
                    f"{_comment_out(first.file, first.number)} && {self._set_all}{again}",
                )
                return

    def _per_host(self, any_host: openssh.Client) -> Iterator[Finding]:
        """Yield what is wrong with tunnels and shared connections, of one host or of all that are named."""
        if self._host is not None:
            yield from self._of_host(any_host, self._host)
            return
        asked: dict[str, openssh.Client] = {ANY_HOST: any_host}
        for setting in _words(self._settings, *_FORWARDS, "ControlPersist"):
            name = ANY_HOST
            if setting.scope:
                opener = setting.scope[-1].line
                if opener.keyword != "host" or all(word.startswith(b"!") for word in opener.arguments):
                    continue  # for whom a Match is only ssh knows: doctor HOST
                name = os.fsdecode(sshconfig.example_of(b" ".join(opener.arguments)))
            if name not in asked:
                asked[name] = self._ask(name)
        for name, client in asked.items():
            yield from self._of_host(client, name)

    def _of_host(self, client: openssh.Client, name: str) -> Iterator[Finding]:
        forwards = [client.source(word) for word in _FORWARDS if client.value(word)]
        forward = next((source for source in forwards if source is not None), None)
        if forward is not None and client.value("ExitOnForwardFailure") == "no":
            file = shlex.quote(os.path.realpath(forward.file))
            yield Finding(
                "tunnel-without-exit",
                forward.file,
                forward.number,
                f"a tunnel without ExitOnForwardFailure ({name})",
                "when the port is taken, mostly by an old session, ssh stays connected without the forward",
                f"sed -i.bak '{forward.number}a ExitOnForwardFailure yes' {file}",
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
                self._set_for(client),
            )

    def _set_for(self, client: openssh.Client) -> str:
        """Return the command for a host: where a block of its own sets the interval, for that block."""
        source = client.source("ServerAliveInterval")
        if self._host is None and source is not None and source.scope:
            opener = source.scope[-1].line
            pattern = os.fsdecode(b" ".join(opener.arguments))
            if opener.keyword == "host" and not sshconfig.is_for_all(opener) and sshconfig.is_plain(pattern):
                return f"{self._set} --host {shlex.quote(pattern)}"
        return self._set


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
    mend = f"{_SET} --server{option}"
    found = [
        Finding(
            "server-alive-in-sshd-config",
            setting.file,
            setting.number,
            "ServerAlive… is a setting of the client",
            "sshd does not start with it, and locks everybody out at its next restart; its own words are "
            "ClientAliveInterval and ClientAliveCountMax",
            f"{_comment_out(setting.file, setting.number)} && {mend}",
        )
        for setting in _words(settings, *sshconfig.CLIENT)
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
        return [*found, *_refused(why, path, check, [one for one in found if one.line])]
    if config is None and sshserver.listener_for(path) is None:
        unseen.append(f"{printable(path)}: no running sshd uses it")
        return found
    return [*found, *_server_values(openssh.sshd_values(sshd, path), settings, path, mend)]


def _server_values(
    values: dict[str, list[str]], settings: Sequence[sshconfig.Setting], path: str, mend: str
) -> Iterator[Finding]:
    def value(word: str) -> str:
        return values.get(word.lower(), [""])[0]

    def at(word: str) -> tuple[str, int | None]:
        source = server_source(list(settings), word, value(word))
        return (path, None) if source is None else (source.file, source.number)

    interval = _number(value("ClientAliveInterval"))
    if interval == 0:
        yield Finding(
            "server-without-keepalive",
            *at("ClientAliveInterval"),
            "ClientAliveInterval is 0",
            "sshd never learns that a client is gone: its session stays, and the port of its -R stays taken",
            mend,
        )
        tcp = next(_words(settings, "TCPKeepAlive"), None)
        if tcp is not None and value("TCPKeepAlive") == "yes":
            yield Finding(
                "tcp-keep-alive-only",
                tcp.file,
                tcp.number,
                "only TCPKeepAlive is relied upon",
                _TCP_WHY,
                mend,
            )
    elif interval >= SHORTEST_TIMEOUT_S:
        yield Finding(
            "interval-too-long",
            *at("ClientAliveInterval"),
            f"ClientAliveInterval {interval} is too long",
            f"some firewalls forget an idle connection after {SHORTEST_TIMEOUT_S} s",
            f"{mend} --interval 60",
        )
    if value("ClientAliveCountMax") == "0":
        yield Finding(
            "count-max-0",
            *at("ClientAliveCountMax"),
            "ClientAliveCountMax 0",
            "sshd never gives a dead client up; before OpenSSH 8.2 it cut every idle session instead",
            mend,
        )
