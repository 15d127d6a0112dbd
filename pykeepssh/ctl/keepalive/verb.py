"""ksshctl keepalive: the words of its command line."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ...errors import printable
from ..arguments import a_number, a_time
from . import client, openssh, server, show, undo
from .change import end_in_order, say
from .grammar import COUNT_MAX, COUNT_MOST, INTERVAL_S, LONGEST_S

EPILOG = """exit status: 0 done, or nothing to do; 1 not done, the file is as it was; 2 usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the verb and its actions."""
    parser = subparsers.add_parser(
        "keepalive", help="keepalive in ssh_config and sshd_config", epilog=EPILOG, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    one = actions.add_parser("show", help="what is in force, and which file says so", allow_abbrev=False)
    one.add_argument("host", nargs="?", metavar="HOST", help="default: a host that no block names")
    _add_scope(one, required=False)
    one.add_argument("--connection", metavar="SPEC", help='for sshd\'s Match blocks: "user=U,host=H,addr=A"')
    one.add_argument("--json", action="store_true", help="for programs")
    for name, text in (("set", "set it"), ("unset", "take back what set did")):
        change = actions.add_parser(name, help=text, epilog=EPILOG, allow_abbrev=False)
        _add_scope(change, required=True)
        change.add_argument(
            "--host",
            default=None,
            metavar="PATTERN",
            help="hosts, as after Host in ssh_config(5) (default: *)",
        )
        if name == "set":
            change.add_argument("--interval", type=a_time(1, LONGEST_S), default=INTERVAL_S, metavar="TIME")
            change.add_argument("--count-max", type=a_number(1, COUNT_MOST), default=COUNT_MAX, metavar="N")
        change.add_argument("--dry-run", action="store_true", help="show the difference, write nothing")
        add_confirm_within(change)
    actions.add_parser("confirm", help="keep what was set with --confirm-within", allow_abbrev=False)


def _add_scope(parser: argparse.ArgumentParser, required: bool) -> None:
    scope = parser.add_mutually_exclusive_group(required=required)
    for name, text in (
        ("user", "~/.ssh/config"),
        ("system", openssh.SYSTEM_CONFIG),
        ("server", openssh.SERVER_CONFIG),
    ):
        scope.add_argument(f"--{name}", dest="scope", action="store_const", const=name, help=text)
    parser.add_argument(
        "--config", type=path_argument, metavar="FILE", help="the file instead of the usual one"
    )
    parser.add_argument("--sshd", metavar="PROGRAM", help="sshd instead of the one in PATH")


def add_confirm_within(parser: argparse.ArgumentParser, where: str = "") -> None:
    """Add the option of a change that takes itself back."""
    parser.add_argument(
        "--confirm-within",
        type=a_time(1, LONGEST_S),
        metavar="TIME",
        help=f'{where}take it back after TIME unless "ksshctl keepalive confirm" comes by a new connection',
    )


def path_argument(text: str) -> str:
    """Return the absolute path of a file that the command line names."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("expected the path of a file")
    return os.path.abspath(text)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit status."""
    end_in_order()
    if arguments.action == "show":
        return show.run(arguments)
    if arguments.action == "confirm":
        say(f"confirmed: {printable(undo.confirm())}")
        return 0
    change = (server if arguments.scope == "server" else client).change(arguments)
    if arguments.dry_run:
        change.dry_run()
    else:
        change.make()
    return 0
