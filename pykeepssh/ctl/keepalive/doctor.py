"""ksshctl doctor: finds the known mistakes with keepalive, says why they are some, and fixes them.

Knows how findings are told and what a person is asked.  Which mistakes there are is in
client_mistakes.py and server_mistakes.py, what is done about one in fix.py, how files are written in
change.py.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from ...errors import KsshError, Unusable, printable
from ...system import program
from . import client_mistakes, fix, openssh, server_mistakes
from .change import SIGNALS, Change, Data, Reader, end_in_order, say
from .client import Client
from .configfile import Refused
from .mistakes import Finding
from .server import Server
from .tree import Tree
from .verb import add_confirm_within, path_argument

Examined = tuple[list[Finding], list[str]]
_MOST = 100  # fixes: should one ever bring back what another took away


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = subparsers.add_parser(
        "doctor",
        help="find the known mistakes with keepalive, and fix them",
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
    parser.add_argument("--fix", action="store_true", help="fix what is found; asks before each")
    parser.add_argument("--yes", action="store_true", help="with --fix: fix all without asking")
    parser.add_argument(
        "--dry-run", action="store_true", help="with --fix: show the difference, write nothing"
    )
    add_confirm_within(parser, "with --fix, for sshd's file: ")


class Side(NamedTuple):
    """What one program reads.

    tree     its files
    examine  what is wrong with files, and what cannot be examined
    reader   the program, as who a change is made for
    private  whether a file that is not there yet is for its owner only
    """

    tree: Tree
    examine: Callable[[Tree], Examined]
    reader: Callable[[], Reader]
    private: bool

    def findings(self, tree: Tree) -> list[Finding]:
        """Return what is wrong, each once."""
        return list(dict.fromkeys(self.examine(tree)[0]))


def run(arguments: argparse.Namespace) -> int:
    """Examine, and fix what is to be fixed; return the exit status."""
    _check(arguments)
    end_in_order()
    sides = _sides(arguments)
    if arguments.fix and (arguments.yes or arguments.dry_run or _is_terminal()):
        return _fix(sides, _Asker(arguments.yes or arguments.dry_run), arguments.dry_run)
    status = _report(sides, arguments.json)
    if arguments.fix and status != 0:
        program.complain(
            "nothing was changed: there is no terminal to ask on; --yes fixes all, --dry-run shows how",
            "ksshctl",
        )
    return status


def _check(arguments: argparse.Namespace) -> None:
    """Raise KsshError for options that cannot be used, or files that cannot be read."""
    for option in ("yes", "dry_run", "confirm_within"):
        if getattr(arguments, option) and not arguments.fix:
            raise Unusable(f"--{option.replace('_', '-')} is for --fix")
    if arguments.fix and arguments.json:
        raise Unusable("--json is not for --fix")
    if arguments.confirm_within is not None and arguments.config and not arguments.sshd_config:
        raise Unusable("--confirm-within is for sshd's file")
    for path in (arguments.config, arguments.sshd_config):
        if path is not None:
            if not os.access(path, os.R_OK):
                raise KsshError(f"{printable(path)}: cannot be read")
            openssh.check_file(path)


def _sides(arguments: argparse.Namespace) -> list[Side]:
    sides = []
    config, host = arguments.config, arguments.host
    if config is not None or arguments.sshd_config is None:
        tree = openssh.client_tree(config)
        main = tree.roots[0].path
        sides.append(
            Side(
                tree,
                lambda tree: client_mistakes.examine(tree, host),
                lambda: Client(main, tree.again(), host or openssh.ANY_HOST),
                private=config is None,
            )
        )
    if arguments.sshd_config is not None or config is None:
        of_sshd = openssh.server_tree(arguments.sshd_config or openssh.SERVER_CONFIG)
        usual = arguments.sshd_config is None
        sides.append(
            Side(
                of_sshd,
                lambda tree: server_mistakes.examine(tree, usual, arguments.sshd),
                lambda: Server(
                    of_sshd.roots[0].path, of_sshd.again(), arguments.sshd, arguments.confirm_within
                ),
                private=False,
            )
        )
    return sides


# Telling.


def _report(sides: Sequence[Side], as_json: bool) -> int:
    """Tell what is found and what would fix it; return the exit status."""
    findings: list[tuple[Finding, Tree]] = []
    unseen: list[str] = []
    for side in sides:
        found, not_seen = side.examine(side.tree)
        findings += [(finding, side.tree) for finding in dict.fromkeys(found)]
        unseen += not_seen
    if as_json:
        told = {"findings": [_for_programs(*one) for one in findings], "not_examined": unseen}
        say(json.dumps(told, indent=2))
        return 1 if findings else 0
    for finding, tree in findings:
        _tell(finding, tree)
    for line in unseen:
        say(f"not examined: {line}")
    if not findings:
        say("nothing is wrong")
    if any(finding.steps for finding, _ in findings):
        say('"ksshctl doctor --fix" does that, and asks before each')
    return 1 if findings else 0


def _for_programs(finding: Finding, tree: Tree) -> dict[str, str | int | bool | None]:
    return {
        "code": finding.code,
        "file": printable(finding.file),
        "line": finding.line,
        "what": printable(finding.what),
        "why": printable(finding.why),
        "fix": printable(_remedy(finding, tree)),
        "by_hand": not finding.steps,
    }


def _remedy(finding: Finding, tree: Tree) -> str:
    return fix.words(finding.steps, finding.file, tree) if finding.steps else finding.by_hand


def _tell(finding: Finding, tree: Tree) -> None:
    where = printable(finding.file)
    if finding.line:
        where += f" line {tree.number_on_disk(finding.file, finding.line)}"
    say(f"{where}: {printable(finding.what)}")
    say(f"    why: {printable(finding.why)}")
    say(f"    {'fix' if finding.steps else 'by hand'}: {printable(_remedy(finding, tree))}")


# Fixing.


def _is_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


class _Asker:
    """Who asks, for each finding, whether it is to be fixed."""

    def __init__(self, always: bool) -> None:
        self._always = always
        self._quit = False

    def agrees(self, finding: Finding, tree: Tree) -> bool:
        """Tell of a finding and return whether it is to be fixed."""
        if self._quit:
            return False
        _tell(finding, tree)
        while not self._always:
            line = _ask("    fix it? y: yes, n: no, q: no more questions: ")
            answer = line.strip().lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")
            if answer in ("q", "quit") or not line:
                self._quit = True
                return False
        return True


def _ask(question: str) -> str:
    """Return the answer to a question, "" at the end of input."""
    with _handlers_kept():
        # Nothing is under way: a signal ends it at once.  Python would take note of one that comes just
        # before it reads, and read on.
        for signum in SIGNALS:
            if callable(signal.getsignal(signum)):
                signal.signal(signum, signal.SIG_DFL)
        sys.stdout.write(question)
        sys.stdout.flush()
        return sys.stdin.readline()


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Give signals back at the end to who had them."""
    handlers = {signum: signal.getsignal(signum) for signum in SIGNALS}
    try:
        yield
    finally:
        for signum, handler in handlers.items():
            signal.signal(signum, handler)


def _fix(sides: Sequence[Side], asker: _Asker, dry_run: bool) -> int:
    """Ask, then write what was agreed to; return the exit status."""
    trees = [_agreed(side, asker, dry_run) for side in sides]
    failed = False
    for side, tree in zip(sides, trees):
        try:
            _write(side, tree, dry_run)
        except KsshError as error:
            program.complain(str(error), "ksshctl")
            failed = True
    left = 0
    for side, tree in zip(sides, trees):
        after = tree if dry_run else side.tree.again()
        findings, unseen = side.examine(after)
        for finding in dict.fromkeys(findings):
            left += 1
            if not finding.steps:
                _tell(finding, after)
        for line in unseen:
            say(f"not examined: {line}")
    if left:
        say(f"{left} not fixed")
    elif not failed:
        say("nothing would be wrong then" if dry_run else "nothing is wrong")
    return 1 if left or failed or (dry_run and any(tree.changes for tree in trees)) else 0


def _agreed(side: Side, asker: _Asker, dry_run: bool) -> Tree:
    """Return the files with all that is to be fixed; nothing is written yet, but modes."""
    tree = side.tree
    declined: Counter[tuple[str, str, str]] = Counter()
    for _ in range(_MOST):
        findings = side.findings(tree)
        finding = _first(findings, declined)
        if finding is None:
            break
        if asker.agrees(finding, tree):
            try:
                tree = _fixed(side, finding, findings, tree, dry_run)
                continue
            except KsshError as error:
                say(f"    not fixed: {error}")
        declined[finding.key] += 1
    return tree


def _first(findings: Iterable[Finding], declined: Counter[tuple[str, str, str]]) -> Finding | None:
    """Return the first finding that can be fixed and is not among so many like it that are not to be."""
    passed: Counter[tuple[str, str, str]] = Counter()
    for finding in findings:
        if finding.steps:
            passed[finding.key] += 1
            if passed[finding.key] > declined[finding.key]:
                return finding
    return None


def _fixed(side: Side, finding: Finding, findings: Sequence[Finding], tree: Tree, dry_run: bool) -> Tree:
    """Return the files without one of the findings in them.  Raises KsshError with why that cannot be."""
    for step in finding.steps:
        folder = os.path.dirname(os.path.realpath(step.file))
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            raise KsshError(f"{printable(folder)} cannot be written to; ask its owner, or root")
        if isinstance(step, fix.Mode):
            if dry_run:
                raise KsshError("this is a dry run")
            step.make()
    after = fix.applied(tree, [step for step in finding.steps if not isinstance(step, fix.Mode)])
    if _like(finding, side.findings(after)) >= _like(finding, findings):
        raise KsshError("it would still be there; see which lines come before")
    return after


def _like(finding: Finding, findings: Sequence[Finding]) -> int:
    """Return how many findings are like one, wherever they are in its file."""
    return sum(one.key == finding.key for one in findings)


def _write(side: Side, tree: Tree, dry_run: bool) -> None:
    """Write what is changed, as keepalive set does, or only show it.  Raises KsshError."""
    edits = {
        path: functools.partial(_edit, tree.original(path), data)
        for path, data in tree.changes.items()
        if data != tree.original(path)
    }
    if not edits:
        return
    change = Change(side.reader(), edits, side.private)
    with _handlers_kept():
        if dry_run:
            change.dry_run()
        else:
            change.make()


def _edit(examined: Data, new: Data, before: Data) -> Data:
    """Return what a file is to hold, if it still holds what was examined."""
    if before != examined:
        raise Refused("a file was changed by somebody else meanwhile; nothing was written")
    return new
