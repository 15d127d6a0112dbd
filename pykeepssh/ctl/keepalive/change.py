"""One set or unset of keepalive: the order of the steps of a safe change.

Knows which steps come when, and what is taken back if one fails.  Must not know which program reads the
file: that is in client.py and server.py.  The writing is in configfile.py.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import signal
import sys

from ...errors import KsshError, printable
from ...system import files
from . import grammar, marks, openssh
from .configfile import ConfigFile, Refused, write_new


def say(line: str) -> None:
    """Say a line."""
    sys.stdout.write(line + "\n")


def tell(line: str) -> None:
    """Say a line in the midst of a change, which goes on even if nobody listens or can read it."""
    try:
        say(line)
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def _folder_of_our_own() -> str:
    """Make a directory that nobody else can put another one in place of: ssh does what is in its files.

    TMPDIR may be another user's, where su(1) keeps it.  Raises Refused.
    """
    why = ""
    for parent in files.temporary_folders(os.environ):
        try:
            return files.fresh_directory(parent)
        except OSError as error:
            why = why or f"cannot make a temporary directory in {printable(parent)}: {error.strerror}"
    raise Refused(f"{why}; nothing was written")


def place_of(setting: grammar.Setting | None) -> str:
    """Return where a setting stands, in words."""
    return "default" if setting is None else f"{printable(setting.file)} line {setting.number}"


class Change:
    """One set or unset.

    main    the file that the program reads first
    target  the file that is changed: main, or a drop-in that main includes
    """

    def __init__(self, arguments: argparse.Namespace, main: str) -> None:
        self.arguments = arguments
        self.setting = arguments.action == "set"
        self.main = main
        if os.path.exists(main):
            openssh.check_trusted(main)
        self.target = main
        self.net = ""  # what is done if it cannot be taken back now, in words
        self.wanted: dict[str, str] = {}

    def new_bytes(self, old: bytes) -> bytes:
        """Return what the target is to hold.  Raises marks.Unclear."""
        raise NotImplementedError

    def refusal(self, config: str) -> str | None:
        """Return why a main file will not do, None if it will: for the program, or for the wanted values."""
        raise NotImplementedError

    def prepare(self, file: ConfigFile) -> None:
        """Do what has to come first, while the file is locked already.  Raises KsshError."""

    def written(self, file: ConfigFile) -> None:
        """Do what is to follow while the file is still locked; if it fails, the old file returns."""

    def abandon(self) -> None:
        """Take back what was prepared: the file is as it was."""

    def _data(self, before: bytes | None) -> bytes | None:
        try:
            new = self.new_bytes(before or b"")
        except marks.Unclear as error:
            raise Refused(f"{printable(self.target)} {error}; nothing was written") from error
        if not new and (before is None or self.target != self.main):
            return None  # a drop-in of ours that holds nothing any more
        return new

    def dry_run(self) -> int:
        """Show the difference that it would make."""
        try:
            before = openssh.read(self.target) if os.path.exists(self.target) else None
            after = self._data(before)
        except OSError as error:
            raise Refused(f"cannot read {printable(self.target)}: {error.strerror}") from error
        if after == before:
            say(f"{printable(self.target)}: nothing to change")
        sys.stdout.write(_difference(before or b"", after or b"", self.target))
        return 0

    def make(self) -> int:
        """Make the change, checked before and after; nothing or everything."""
        user = self.arguments.scope == "user"
        like = self.main if self.main != self.target else None
        self._check_folder()
        with ConfigFile(self.target, user, 0o600 if user else 0o644, like) as file:
            data = self._data(file.before)
            if data == file.before:
                why = self.refusal(self.main) if os.path.exists(self.main) else None
                if why is not None:
                    raise Refused(f"{why}; nothing was written")
                tell(f"{printable(self.target)}: nothing to change")
                return 0
            if file.before is not None and self.main == self.target:
                self._check_present()
            try:
                self.prepare(file)
                file.replace(
                    data, lambda candidate: self._check(candidate, data), lambda: self.refusal(self.main)
                )
                tell(f"{printable(file.real)}: {'removed' if data is None else 'written'}")
                if file.backup is not None:
                    tell(f"backup: {printable(file.backup)}")
                self.written(file)
                ignore_signals()  # it is done: what is said now is no failure
            except BaseException as error:
                self._fail(file, error)
                raise
            if file.names > 1:
                others = (
                    "its other name keeps" if file.names == 2 else f"its {file.names - 1} other names keep"
                )
                tell(f"{printable(file.real)} had hard links: {others} the old file")
        return 0

    def _fail(self, file: ConfigFile, error: BaseException) -> None:
        """Put the old file back, then take back what was prepared: that is the net if the first fails."""
        ignore_signals()  # a second Ctrl-C is not to cut this short
        if not file.changed:
            self.abandon()
            return
        why = file.reason(error)
        try:
            file.put_back(why)
        except Refused as away:
            raise Refused(f"{away}{self.net}") from error
        said = self.restored()
        self.abandon()
        if isinstance(error, (KsshError, OSError)):
            raise Refused(f"{why}; the old file is back{said}") from error

    def restored(self) -> str:
        """Do what follows where the old file is back; return that in words, or nothing."""
        return ""

    def _check_folder(self) -> None:
        """Raise Refused where root would write to a directory that somebody else can change."""
        folder = os.path.dirname(os.path.realpath(self.target))
        if os.geteuid() == 0 and os.path.isdir(folder):
            why = files.why_doubtful(folder)
            if why:
                raise Refused(f"{why}; nothing was written")

    def _check_present(self) -> None:
        """Raise Refused if the file is refused already, as it is now."""
        wanted, self.wanted = self.wanted, {}
        why = self.refusal(self.main)
        self.wanted = wanted
        if why is not None:
            raise Refused(
                f"{printable(self.main)} is refused already as it is now: {why}; nothing was written"
            )

    def _check(self, candidate: str, data: bytes | None) -> str | None:
        """Check a candidate in a main file of its own; return why it will not do."""
        if self.target == self.main:
            why = self.refusal(candidate)
        elif data is None:
            why = None  # a file less: verified afterwards
        else:
            why = self._check_drop_in(candidate)
        if why is not None:
            shown = why.replace(printable(candidate), printable(self.target))
            return f"{shown}; nothing was written"
        return None

    def _check_drop_in(self, candidate: str) -> str | None:
        lines = grammar.parse(openssh.read(self.main) or b"")
        at = self._include(lines)
        text = b"".join(line.raw for line in lines[:at])
        text += b'Include "%s"\n' % os.fsencode(candidate)
        text += b"".join(line.raw for line in lines[at:])
        folder = _folder_of_our_own()
        try:
            path = os.path.join(folder, os.path.basename(self.main))
            write_new(path, text)
            return self.refusal(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _include(self, lines: list[grammar.Line]) -> int:
        """Return the index of the Include line that finds drop-ins for every connection; -1: none."""
        folder = os.path.basename(self.main) + ".d"
        for index, line in enumerate(lines):
            if line.opens:
                break
            if line.keyword == "include" and self._drop_in_folder(line.arguments, folder):
                return index
        return -1

    def _drop_in_folder(self, arguments: tuple[bytes, ...], folder: str) -> str | None:
        for argument in arguments:
            head, tail = os.path.split(os.fsdecode(argument))
            if not head.startswith("/"):
                head = os.path.join("/etc/ssh", head)
            if os.path.basename(head) == folder and tail in ("*", "*.conf") and os.path.isdir(head):
                return head
        return None

    def _use_drop_in(self, name: str, words: tuple[str, ...]) -> None:
        """Choose the drop-in as target if main includes some and does not say otherwise before."""
        data = openssh.read(self.main)
        if data is None:
            return
        lines = grammar.parse(data)
        at = self._include(lines)
        if at < 0 or marks.labels(data):
            return
        lower = {word.lower() for word in words}
        if any(line.keyword in lower for line in lines[:at]):
            return
        folder = self._drop_in_folder(lines[at].arguments, os.path.basename(self.main) + ".d")
        self.target = os.path.join(folder or "", name)

    def mismatch(self, word: str, found: str, source: grammar.Setting | None, config: str) -> str:
        """Return the sentence for a value that does not come out as wanted."""
        said = f"{word} would be {printable(found) or 'unknown'}, not {self.wanted[word]}"
        if source is None:
            return f"{said}: nothing sets it"
        if source.file == config:
            source = source._replace(file=self.main, number=_number_before(self.main, config, source.number))
        where = place_of(source)
        return f"{said}: {where} says so first; change it there"


def ignore_signals() -> None:
    """Let no signal end this process any more."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _number_before(old: str, new: str, number: int) -> int:
    """Return the number that a line of a new file has in the old one, the same if it is not there."""
    before, after = ([line.raw for line in grammar.parse(openssh.read(path) or b"")] for path in (old, new))
    for a, b, size in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        if b < number <= b + size:
            return number - b + a
    return number


def _difference(old: bytes, new: bytes, path: str) -> str:
    def lines(data: bytes) -> list[str]:
        shown = []
        for line in grammar.parse(data):
            text = os.fsdecode(line.body)
            safe = "\t".join(printable(part) for part in text.split("\t"))
            shown.append(safe + ("\n" if line.ending else "\n\\ No newline at end of file\n"))
        return shown

    name = printable(path)
    return "".join(difflib.unified_diff(lines(old), lines(new), name, name + " (new)"))
