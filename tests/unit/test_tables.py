"""Tables and bars: the same columns on a pipe as on a terminal, whole and without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from pykeepssh.ctl import tables

TITLES = ("LINK", "STATE", "LAST REASON")
ANY = "…"


def printed(capfd: pytest.CaptureFixture[str], drawn: object) -> list[str]:
    tables.show(drawn)  # type: ignore[arg-type]
    return capfd.readouterr().out.splitlines()


def test_a_table_is_aligned_and_leaves_empty_columns_out(capfd: pytest.CaptureFixture[str]) -> None:
    rows = [("a", "up", ""), ("日本", "", "")]
    assert printed(capfd, tables.Columns(TITLES, rows)) == ["LINK  STATE", "a     up", "日本  -"]


def test_on_a_pipe_no_cell_is_cut_or_wrapped_and_none_has_a_colour(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("COLUMNS", "40"), ("FORCE_COLOR", "1"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    rows = [("x" * 100, "up", "[red]why :smile:[/red] " * 20)]
    title, row = printed(capfd, tables.Columns(TITLES, rows, {"up": "green"}, ("LAST REASON",)))
    assert title.split() == ["LINK", "STATE", "LAST", "REASON"]
    assert row == f"{rows[0][0]}  up     {rows[0][2].rstrip()}"


def on_terminal(columns: int) -> list[str]:
    """Return a table as a terminal of so many columns shows it."""
    rows = [("a-long-name", "waiting", "Connection refused by peer", "3")]
    drawn = tables.Columns((*TITLES, "N"), rows, wrapped=("LAST REASON",), spare=("N", "LAST REASON"))
    file = io.StringIO()
    Console(file=file, width=columns).print(drawn)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (80, ["LINK         STATE    LAST REASON                 N", ANY + "  3"]),
        (41, ["LINK         STATE    LAST REASON       N", ANY, ANY]),
        (38, ["LINK         STATE    LAST REASON", ANY, ANY]),
        (30, ["LINK         STATE", "a-long-name  waiting"]),
    ],
)
def test_where_there_is_no_room_cells_wrap_and_then_columns_go(columns: int, expected: list[str]) -> None:
    shown = on_terminal(columns)
    assert len(shown) == len(expected)
    for line, pattern in zip(shown, expected):
        assert len(line) <= columns
        assert line.endswith(pattern.removeprefix(ANY)) if pattern.startswith(ANY) else line == pattern
    assert "a-long-name" in shown[1]  # whatever else has to go


def test_a_name_that_has_no_room_takes_several_lines() -> None:
    assert "".join(line.split()[0] for line in on_terminal(12)[1:]) == "a-long-name"


def test_a_bar_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert printed(capfd, tables.bar([("  ", ""), *[("█", "green")] * 120])) == ["  " + "█" * 120]


def test_what_draws_can_be_loaded_beforehand(capfd: pytest.CaptureFixture[str]) -> None:
    tables.load()
    assert capfd.readouterr() == ("", "")
