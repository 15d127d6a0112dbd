"""What doctor can do about a mistake: steps, each of which changes one file, and says so in words.

Knows what becomes of bytes and modes.  Must not know why.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Union

from ...errors import KsshError, printable
from . import grammar, marks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .tree import Tree


class Edit(NamedTuple):
    """A line says something else, or nothing any more; what it said is kept in a comment.

    new    what it says then, "" for nothing
    below  the line stays, and the new one is added below it
    """

    setting: grammar.Setting
    new: str
    below: bool = False

    @property
    def file(self) -> str:
        """The file that changes."""
        return self.setting.file

    def applied(self, data: bytes) -> bytes:
        """Return what the file is to hold."""
        number, new = self.setting.number, self.new.encode()
        if self.below:
            return marks.add_below(data, number, new)
        return marks.change_line(data, number, new) if new else marks.comment_out(data, number)

    def words(self, tree: Tree) -> str:
        """Say what is done, with the number that the line has on disk."""
        line = f"line {tree.number_on_disk(self.file, self.setting.number)}"
        if self.below:
            return f'"{self.new}" is added below {line}'
        return f'{line} becomes "{self.new}"' if self.new else f"{line} becomes a comment"


class Set(NamedTuple):
    """Keepalive is set, as keepalive set does; a value that is None stays as it is.

    label  a pattern list for ssh, marks.SSHD for sshd
    """

    file: str
    label: bytes
    interval_s: int | None
    count_max: int | None

    def applied(self, data: bytes) -> bytes:
        """Return what the file is to hold."""
        if self.label == marks.SSHD:
            return marks.set_server(data, self.interval_s, self.count_max)
        return marks.set_client(data, self.label, self.interval_s, self.count_max)

    def words(self, tree: Tree) -> str:
        """Say what is done."""
        server = self.label == marks.SSHD
        words = zip(grammar.SERVER if server else grammar.CLIENT, (self.interval_s, self.count_max))
        values = ", ".join(f"{word} {value}" for word, value in words if value is not None)
        if server:
            return f"{values} is set"
        return f"{values} is set for {'every host' if self.label == b'*' else os.fsdecode(self.label)}"


class Mode(NamedTuple):
    """Others may write to a file no more."""

    file: str
    old: int

    def make(self) -> None:
        """Change the mode.  Raises KsshError."""
        try:
            fd = os.open(os.path.realpath(self.file), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if os.fstat(fd).st_uid != os.geteuid():
                    raise KsshError(f"{printable(self.file)} belongs to somebody else by now")
                os.fchmod(fd, self._new())
            finally:
                os.close(fd)
        except OSError as error:
            raise KsshError(f"cannot change the mode of {printable(self.file)}: {error.strerror}") from error

    def _new(self) -> int:
        return self.old & ~(stat.S_IWGRP | stat.S_IWOTH)

    def words(self, tree: Tree) -> str:
        """Say what is done."""
        return f"the mode becomes {self._new():04o}"


Step = Union[Edit, Set]


def applied(tree: Tree, steps: Sequence[Step]) -> Tree:
    """Return the files as they are after some steps.  Raises marks.Unclear."""

    def order(step: Step) -> int:
        """Lines from the last one on, so that none moves before its turn; then what looks for its place."""
        return 1 if isinstance(step, Set) else -step.setting.number

    for step in sorted(steps, key=order):
        data = tree.read(step.file) or b""
        tree = tree.with_changes({os.path.realpath(step.file): step.applied(data)})
    return tree


def words(steps: Sequence[Step | Mode], file: str, tree: Tree) -> str:
    """Say what some steps do, to a file and to others."""
    said = [(step.file, step.words(tree)) for step in steps]
    return "; ".join(text if path == file else f"{path}: {text}" for path, text in said)
