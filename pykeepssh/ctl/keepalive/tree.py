"""Configuration files as one program reads them, from its first file on through every Include.

Knows where Include looks, and files as they would be after a change that is not written yet.  Must not
know which program reads them, nor what is in them.
"""

from __future__ import annotations

import contextlib
import difflib
import fnmatch
import glob
import os
import pwd
import shutil
from typing import NamedTuple

from ...errors import KsshError, printable
from ...system import files
from . import grammar
from .configfile import write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence


class Root(NamedTuple):
    """A file that a program reads by itself.

    folder  where it looks for what that includes
    strict  whether it refuses what others could have written, as ssh does: "Match exec" names programs
    """

    path: str
    folder: str
    strict: bool


class Tree:
    """Files that are read together.

    roots    the files that the program reads by itself, in order
    option   the file that it is told to read; None: it knows its files
    changes  what files would hold: real path: bytes, None for a file that would be gone

    What was read once stays as it was read.
    """

    def __init__(self, roots: Sequence[Root], option: str | None) -> None:
        self.roots = tuple(roots)
        self.option = option
        self.changes: dict[str, bytes | None] = {}
        self._on_disk: dict[str, tuple[bytes | None, bool]] = {}

    def with_changes(self, changes: Mapping[str, bytes | None]) -> Tree:
        """Return the same files with more changes."""
        other = Tree(self.roots, self.option)
        other.changes = {**self.changes, **changes}
        other._on_disk = self._on_disk
        return other

    def again(self) -> Tree:
        """Return the files as they are on disk by now."""
        return Tree(self.roots, self.option)

    def original(self, path: str) -> bytes | None:
        """Return what a file holds on disk, None if it cannot be read."""
        return self._look(path)[0]

    def is_open_to_others(self, path: str) -> bool:
        """Tell whether somebody else could have written what a file holds on disk."""
        return self._look(path)[1]

    def _look(self, path: str) -> tuple[bytes | None, bool]:
        real = os.path.realpath(path)
        if real not in self._on_disk:
            self._on_disk[real] = _read(real)
        return self._on_disk[real]

    def read(self, path: str) -> bytes | None:
        """Return what a file would hold, None if it cannot be read."""
        real = os.path.realpath(path)
        return self.changes[real] if real in self.changes else self.original(real)

    def number_on_disk(self, path: str, number: int) -> int:
        """Return the number that a line has in the file as it is, the same if it is not there."""
        before, after = (
            [line.raw for line in grammar.parse(data or b"")]
            for data in (self.original(path), self.read(path))
        )
        for a, b, size in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
            if b < number <= b + size:
                return number - b + a
        return number

    def groups(self) -> list[list[grammar.Setting]]:
        """Return every line that is read, for each root."""
        return [self._walk(root) for root in self.roots]

    def _walk(self, root: Root) -> list[grammar.Setting]:
        return list(grammar.walk(root.path, self.read, lambda word: self.included(word, root)))

    def settings(self) -> list[grammar.Setting]:
        """Return the same in one list."""
        return [setting for group in self.groups() for setting in group]

    def included(self, argument: bytes, root: Root) -> list[str]:
        """Return the files that one argument of Include stands for, in the order of glob(3)."""
        path = os.fsdecode(argument)
        if not path.startswith(("/", "~")):
            path = os.path.join(root.folder, path)
        if path == "~" or path.startswith("~/"):
            path = (os.environ.get("HOME") or home()) + path[1:]  # as glob(3), by which ssh finds them
        elif path.startswith("~"):
            path = os.path.expanduser(path)
        found = set(glob.glob(path))
        folder, pattern = os.path.split(path)
        for changed in self.changes:  # perhaps a file that is not there yet
            if os.path.dirname(changed) == os.path.realpath(folder):
                name = os.path.basename(changed)
                if fnmatch.fnmatchcase(name, pattern) and not name.startswith("."):
                    found.add(os.path.join(folder, name))
        return sorted(found)

    @contextlib.contextmanager
    def on_disk(self) -> Iterator[tuple[str | None, Callable[[str], str]]]:
        """Give the file that the program is to be told to read, and what puts true names into its words.

        With changes that is a copy of all files, in a directory of its own.  Raises KsshError.
        """
        if not self.changes:
            yield self.option, str
            return
        folder = _folder_of_our_own(os.path.dirname(self.roots[0].path))
        try:
            copies = _Copies(self, folder)
            try:
                first = copies.make()
            except OSError as error:
                raise KsshError(f"cannot write to {printable(folder)}: {error.strerror}") from error
            yield first, copies.named
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Copies:
    """Copies of all files of a tree, which include each other, line by line like the files themselves."""

    def __init__(self, tree: Tree, folder: str) -> None:
        self._tree = tree
        self._folder = folder
        self._names: dict[str, tuple[str, str]] = {}  # real path: path, copy

    def make(self) -> str:
        """Write them; return the one to begin with."""
        made = [copy for root in self._tree.roots if (copy := self._copy(root.path, root)) is not None]
        if len(made) == 1:
            return made[0]
        first = self._path("first")
        write_new(first, b"".join(b"Include %s\n" % _quoted(copy) for copy in made), lasting=False)
        return first

    def named(self, said: str) -> str:
        """Return what a program said of the copies as if it had read the files themselves."""
        for path, copy in self._names.values():
            said = said.replace(copy, path)
        return said

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, f"{name}.conf")

    def _copy(self, path: str, root: Root) -> str | None:
        data = self._tree.read(path)
        if data is None:
            return None
        # The copy belongs to us: ssh cannot see any more what it would refuse.  With -F it trusts the file.
        trusted = not root.strict or path == self._tree.option
        if not trusted and self._tree.is_open_to_others(path):
            raise KsshError(f"Bad owner or permissions on {printable(path)}")
        real = os.path.realpath(path)
        if real not in self._names:
            copy = self._path(str(len(self._names)))
            self._names[real] = path, copy  # before what it includes, which may be the file itself
            lines = [self._line(line, root) for line in grammar.parse(data)]
            write_new(copy, b"".join(lines), lasting=False)
        return self._names[real][1]

    def _line(self, line: grammar.Line, root: Root) -> bytes:
        """Return a line as it is in the copy: an Include names copies."""
        if line.keyword != "include" or not line.arguments:
            return line.raw
        found = [path for argument in line.arguments for path in self._tree.included(argument, root)]
        copies = [copy for path in found if (copy := self._copy(path, root)) is not None]
        if not copies:
            return b"#" + line.raw
        return b"Include " + b" ".join(map(_quoted, copies)) + line.ending


def _quoted(path: str) -> bytes:
    return b'"%s"' % os.fsencode(path)


def home() -> str:
    """Return the home directory as OpenSSH does: from the password database, never from HOME."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError as error:
        raise KsshError(f"no password entry for user {os.getuid()}: name the file with --config") from error


def _read(path: str) -> tuple[bytes | None, bool]:
    """Return what a file holds, and whether somebody else could have written it, as readconf.c asks."""
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            open_to_others = found.st_uid not in (0, os.getuid()) or bool(found.st_mode & 0o022)
            return file.read(), open_to_others
    except OSError:
        return None, False


def _folder_of_our_own(last: str) -> str:
    """Make a directory that nobody else can put another one in place of: ssh does what is in its files.

    TMPDIR may be another user's, where su(1) keeps it.  The last resort is a directory that must be
    writable anyway.  Raises KsshError.
    """
    why = ""
    for parent in (*files.temporary_folders(os.environ), last):
        try:
            return files.fresh_directory(parent)
        except OSError as error:
            why = why or f"cannot make a temporary directory in {printable(parent)}: {error.strerror}"
    raise KsshError(why)
