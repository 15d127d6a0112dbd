"""Tables and bars as a person sees them, and the same for a pipe.

On a terminal they have its colours and its width.  Elsewhere they have the same columns without
colour, and no cell is cut or wrapped, so that scripts can read them.  Must not know what is in them.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.table import Table
from rich.text import Text

from .main import say

_UNBOUNDED = 100_000  # columns: wider than any table
_LEAST_WRAPPED = 16  # columns of a terminal that a wrapped one gets
_GAP = 2  # between two of them


def console() -> Console:
    """Return what draws on standard output."""
    on_terminal = sys.stdout.isatty()
    width = None if on_terminal else _UNBOUNDED
    return Console(force_terminal=on_terminal, width=width, highlight=False, markup=False, emoji=False)


def load() -> None:
    """Load all that drawing takes: who becomes another user may not be able to read Python's files then."""
    Console(file=io.StringIO(), force_terminal=True, width=9).print(Columns(("日",), [("█",)], {"█": "red"}))


class Columns:
    """Rows as aligned columns; an empty cell is a dash, and an empty column is left out.

    colours  of cells: what it says, its colour
    wrapped  titles of the columns that may take several lines where there is no room
    spare    titles of the columns that go where there is none for that either, the first one first
    """

    def __init__(
        self,
        titles: Sequence[str],
        rows: Iterable[Sequence[str]],
        colours: Mapping[str, str] | None = None,
        wrapped: Sequence[str] = (),
        spare: Sequence[str] = (),
    ) -> None:
        columns = zip(titles, zip(*rows))
        self._cells = {title: [cell or "-" for cell in column] for title, column in columns if any(column)}
        self._colours = colours or {}
        self._wrapped = wrapped
        self._spare = spare

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Table]:
        """Draw what fits; rich calls it."""
        cells = dict(self._cells)
        for title in self._spare:
            if self._least_width(cells) > options.max_width:
                cells.pop(title, None)
        fits = self._least_width(cells) <= options.max_width
        drawn = Table(box=None, pad_edge=False, header_style="bold")
        for title in cells:
            drawn.add_column(title, no_wrap=fits and title not in self._wrapped, overflow="fold")
        for row in zip(*cells.values()):
            drawn.add_row(*(Text(cell, self._colours.get(cell, "")) for cell in row))
        yield drawn

    def _least_width(self, cells: Mapping[str, Sequence[str]]) -> int:
        widths = {title: max(map(cell_len, (title, *column))) for title, column in cells.items()}
        return sum(
            min(width, _LEAST_WRAPPED) if title in self._wrapped else width for title, width in widths.items()
        ) + _GAP * (len(cells) - 1)


def bar(cells: Iterable[tuple[str, str]]) -> Text:
    """Return (character, colour) of each cell as one line."""
    return Text.assemble(*cells, no_wrap=True, overflow="crop")


def show(drawn: Columns | Text) -> None:
    """Print a table or a bar; elsewhere than on a terminal without blanks at the end of a line."""
    out = console()
    if out.is_terminal:
        out.print(drawn, soft_wrap=isinstance(drawn, Text))  # rich forgets the no_wrap of a Text
        return
    with out.capture() as captured:
        out.print(drawn)
    say(*(line.rstrip() for line in captured.get().splitlines()))
