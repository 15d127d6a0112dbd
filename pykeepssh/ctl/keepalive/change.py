"""One change of configuration files: the order of the steps that make it safe.

Knows which steps come when, and what is taken back if one fails.  Must not know which program reads the
files: that is in client.py and server.py.  The writing is in configfile.py.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Optional

from ...errors import KsshError, printable
from ...system.files import why_doubtful
from . import grammar, marks, openssh
from .configfile import ConfigFile, Refused
from .tree import Tree

Data = Optional[bytes]  # of a file; None: there is none
Edit = Callable[[Data], Data]


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


class Reader:
    """The program that reads the files.

    main    the file that it reads first
    tree    all its files
    wanted  the values that are to be in force afterwards
    net     what is done if a change cannot be taken back now, in words
    """

    def __init__(self, main: str, tree: Tree) -> None:
        self.main = main
        if os.path.exists(main):
            openssh.check_trusted(main)
        self.tree = tree
        self.wanted: dict[str, str] = {}
        self.net = ""

    def refusal(self, tree: Tree, wanted: Mapping[str, str]) -> str | None:
        """Return why files will not do, None if they will: for the program, or for the wanted values."""
        raise NotImplementedError

    def prepare(self, files: Sequence[ConfigFile], after: Tree) -> None:
        """Do what has to come first, while the files are locked already.  Raises KsshError."""

    def written(self) -> None:
        """Do what is to follow while the files are still locked; if it fails, the old ones return."""

    def stays(self) -> str:
        """Return why the new files must stay whatever happens, "" if the old ones may return."""
        return ""

    def restored(self) -> str:
        """Do what follows where the old files are back; return that in words, or nothing."""
        return ""

    def abandon(self) -> None:
        """Take back what was prepared: the files are as they were."""

    def mismatch(self, word: str, found: str, source: grammar.Setting | None, tree: Tree) -> str:
        """Return the sentence for a value that does not come out as wanted."""
        said = f"{word} would be {printable(found) or 'unknown'}, not {self.wanted[word]}"
        if source is None:
            return f"{said}: nothing sets it"
        number = tree.number_on_disk(source.file, source.number)
        return f"{said}: {printable(source.file)} line {number} says so first; change it there"


class Change:
    """A change of one file or more, each written whole, checked before and after; all or nothing."""

    def __init__(self, reader: Reader, edits: Mapping[str, Edit], private: bool) -> None:
        """Prepare it.

        edits    for each file what makes its new bytes of its old ones
        private  a file, and its directory, that is not there yet is made for its owner only
        """
        self._reader = reader
        self._edits = {os.path.realpath(path): edit for path, edit in edits.items()}
        self._private = private

    def dry_run(self) -> None:
        """Show the difference that it would make."""
        for path in self._edits:
            try:
                before = _content(path)
                after = self._new(path, before)
            except OSError as error:
                raise Refused(f"cannot read {printable(path)}: {error.strerror}") from error
            if after == before:
                say(f"{printable(path)}: nothing to change")
            sys.stdout.write(_difference(before or b"", after or b"", path))

    def make(self) -> None:
        """Make the change.  Raises KsshError if it was not made, or was taken back."""
        reader = self._reader
        self._check_folders()
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(self._file(path)) for path in self._edits]
            new = {file.real: self._new(file.real, file.before) for file in files}
            files = [file for file in files if new[file.real] != file.before]
            if not files:
                why = reader.refusal(reader.tree, reader.wanted) if os.path.exists(reader.main) else None
                if why is not None:
                    raise Refused(f"{why}; nothing was written")
                tell(f"{printable(next(iter(self._edits)))}: nothing to change")
                return
            after = reader.tree.with_changes({file.real: new[file.real] for file in files})
            self._check(after)
            try:
                reader.prepare(files, after)
                for file in files:
                    file.replace(new[file.real])
                why = reader.refusal(reader.tree.again(), reader.wanted)
                if why is not None:
                    raise Refused(why)
                for file in files:
                    _tell_of(file, new[file.real])
                reader.written()
                ignore_signals()  # it is done: what is said now is no failure
            except BaseException as error:
                self._fail(files, error)
                raise
            for file in files:
                _tell_of_hard_links(file)

    def _file(self, path: str) -> ConfigFile:
        main = os.path.realpath(self._reader.main)
        like = main if path != main and os.path.exists(main) else None
        return ConfigFile(path, self._private, 0o600 if self._private else 0o644, like)

    def _new(self, path: str, before: Data) -> Data:
        try:
            return self._edits[path](before)
        except marks.Unclear as error:
            raise Refused(f"{printable(path)} {error}; nothing was written") from error

    def _check(self, after: Tree) -> None:
        """Raise Refused if the files would not do as they would be."""
        reader = self._reader
        why = reader.refusal(after, reader.wanted)
        if why is None:
            return
        now = reader.refusal(reader.tree, {}) if os.path.exists(reader.main) else None
        if now is not None:
            why = f"{printable(reader.main)} is refused already as it is now: {now}"
        raise Refused(f"{why}; nothing was written")

    def _fail(self, files: Sequence[ConfigFile], error: BaseException) -> None:
        """Put the old files back, then take back what was prepared: that is the net if the first fails."""
        ignore_signals()  # a second Ctrl-C is not to cut this short
        changed = [file for file in files if file.changed]
        if not changed:
            self._reader.abandon()
            if isinstance(error, Ended):
                raise Refused(str(error)) from error
            return
        why = changed[0].reason(error)
        stays = self._reader.stays()
        if stays:
            for file in changed:
                file.changed = False
            raise Refused(f"{why}; the new file stays, for {stays}") from error
        try:
            for file in reversed(changed):
                file.put_back(why)
        except Refused as away:
            raise Refused(f"{away}{self._reader.net}") from error
        said = self._reader.restored()
        self._reader.abandon()
        if isinstance(error, (KsshError, OSError, Ended)):
            back = "the old file is back" if len(changed) == 1 else "the old files are back"
            raise Refused(f"{why}; {back}{said}") from error

    def _check_folders(self) -> None:
        """Raise Refused where root would write to a directory that somebody else can change."""
        for path in self._edits:
            folder = os.path.dirname(path)
            if os.geteuid() == 0 and os.path.isdir(folder):
                why = why_doubtful(folder)
                if why:
                    raise Refused(f"{why}; nothing was written")


def _tell_of(file: ConfigFile, data: Data) -> None:
    tell(f"{printable(file.real)}: {'removed' if data is None else 'written'}")
    if file.backup is not None:
        tell(f"backup: {printable(file.backup)}")


def drop_in(main: str, tree: Tree, name: str, words: Sequence[str]) -> str | None:
    """Return the path of a drop-in that a main file includes for every connection.

    None where it includes none, or sets one of the words before.
    """
    data = tree.read(main) or b""
    lower = {word.lower() for word in words}
    for line in grammar.parse(data):
        if line.opens or line.keyword in lower or marks.labels(data):
            break
        if line.keyword == "include":
            for argument in line.arguments:
                folder, pattern = os.path.split(os.path.join("/etc/ssh", os.fsdecode(argument)))
                found = os.path.basename(folder) == f"{os.path.basename(main)}.d" and os.path.isdir(folder)
                if found and pattern in ("*", "*.conf"):
                    return os.path.join(folder, name)
    return None


SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


def end_in_order() -> None:
    """Have signals that would end this process end it as an error does: copies go, an old file returns."""
    for signum in SIGNALS:
        if signal.getsignal(signum) == signal.SIG_DFL:
            signal.signal(signum, _end)


class Ended(SystemExit):
    """A signal ended this process."""

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self._name = signal.Signals(signum).name

    def __str__(self) -> str:
        return f"ended by {self._name}"


def _end(signum: int, frame: object) -> None:
    raise Ended(signum)


def ignore_signals() -> None:
    """Let no signal end this process any more."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


def _content(path: str) -> Data:
    if not os.path.exists(path):
        return None
    with open(path, "rb") as file:
        return file.read()


def _tell_of_hard_links(file: ConfigFile) -> None:
    if file.names > 1:
        others = "its other name keeps" if file.names == 2 else f"its {file.names - 1} other names keep"
        tell(f"{printable(file.real)} had hard links: {others} the old file")


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
