"""ksshctl keepalive show: what is in force, and which line of which file says so."""

from __future__ import annotations

import argparse
import json
import os
from typing import Any

from ...errors import KsshError, printable
from ...system import program
from . import grammar, openssh
from .change import say


def run(arguments: argparse.Namespace) -> int:
    """Show what the command line asks for; return the exit status."""
    told: dict[str, Any] = {}
    if arguments.scope != "server":
        told["client"] = _client_in_force(arguments)
    if arguments.scope == "server" or (arguments.scope is None and arguments.config is None):
        told["server"] = _server_in_force(arguments, required=arguments.scope == "server")
    if arguments.json:
        say(json.dumps(told, indent=2))
        return 0
    host = printable(arguments.host or "") or "a host that no block names"
    for part, title in (("client", f"ssh, for {host}"), ("server", "sshd")):
        if told.get(part):
            _say_part(title, part, told[part])
    return 0


def _client_in_force(arguments: argparse.Namespace) -> dict[str, Any]:
    config = arguments.config
    if arguments.scope == "system" and config is None:
        config = openssh.SYSTEM_CONFIG
    if arguments.scope == "user" and config is None:
        config = openssh.user_config()
    if config is not None:
        if not os.path.exists(config):
            raise KsshError(f"{printable(config)}: no such file")
        openssh.check_trusted(config)
    ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
    client = openssh.Client(ssh, arguments.host or openssh.ANY_HOST, openssh.client_tree(config))
    told: dict[str, Any] = {}
    for word in (*grammar.CLIENT, "TCPKeepAlive"):
        told[word] = {"value": openssh.flag(client.value(word)), "from": _json_place(client.source(word))}
    interval, count = (int(client.value(word) or 0) for word in grammar.CLIENT)
    told["noticed_after_s"] = grammar.client_notices_s(interval, count)
    return told


def _server_in_force(arguments: argparse.Namespace, required: bool) -> dict[str, Any] | None:
    sshd = openssh.find_sshd(arguments.sshd)
    config = arguments.config or openssh.SERVER_CONFIG
    if sshd is None or not os.path.exists(config):
        if required:
            raise KsshError(
                "there is no sshd in PATH" if sshd is None else f"{printable(config)}: no such file"
            )
        return None
    openssh.check_trusted(config)
    tree = openssh.server_tree(config)
    try:
        values = openssh.sshd_values(sshd, tree, arguments.connection)
    except KsshError as error:
        why = openssh.explained(str(error))
        if required:
            raise KsshError(f"sshd: {why}") from error
        return {"error": why}
    settings = tree.settings()
    told: dict[str, Any] = {}
    for word in (*grammar.SERVER, "TCPKeepAlive"):
        value = openssh.flag(values.get(word.lower(), [""])[0])
        place = _json_place(openssh.server_source(settings, word, value, arguments.connection is not None))
        told[word] = {"value": value, "from": place}
    interval, count = (int(told[word]["value"] or 0) for word in grammar.SERVER)
    version = openssh.sshd_version(sshd)
    told["noticed_after_s"] = grammar.server_notices_s(interval, count, version)
    told["intervals_per_probe"] = 2 if grammar.is_slow(version) else 1
    if arguments.connection is None:
        told["match_blocks"] = [
            _json_place(setting)
            for setting in settings
            if setting.scope and setting.line.keyword in {word.lower() for word in grammar.SERVER}
        ]
    return told


def _json_place(setting: grammar.Setting | None) -> dict[str, Any] | None:
    return None if setting is None else {"file": printable(setting.file), "line": setting.number}


def _say_part(title: str, part: str, told: dict[str, Any]) -> None:
    say(title)
    if "error" in told:
        say(f"  not readable: {told['error']}")
        return
    words = grammar.CLIENT if part == "client" else grammar.SERVER
    for word in (*words, "TCPKeepAlive"):
        place = told[word]["from"]
        where = f"{place['file']} line {place['line']}" if place else "default"
        say(f"  {word:<20} {told[word]['value'] or 'unknown':<6} {where}")
    interval, count = (told[word]["value"] for word in words)
    peer = "server" if part == "client" else "client"
    noticed = told["noticed_after_s"]
    if noticed is None:
        say(f"  a dead {peer} is not noticed while nothing is sent")
    elif told.get("intervals_per_probe") == 2:
        say(f"  a dead {peer} is noticed after {noticed} s: 2 × {interval} × ({count} + 1)")
        say("  (sshd 9.2 to 9.4 take two intervals for each probe; fixed in 9.5)")
    else:
        say(f"  a dead {peer} is noticed after {noticed} s: {interval} × ({count} + 1)")
    for place in told.get("match_blocks", ()):
        say(f"  other in a Match block: {place['file']} line {place['line']} (--connection shows it)")
