"""What a recorded program set in a real tmux is taken back there; a title is no text on a real terminal."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import TIMEOUT_S, need, wait_for
from pykeepssh.terminal import screen as terminal
from pykeepssh.terminal.modes import Tracker

ROWS = 24
RECORDINGS = sorted((Path(__file__).parents[1] / "unit" / "data").glob("*.bin"))
CUTS = 8
# Each with its value on a fresh pane.
FLAGS = {
    "alternate_on": "0",
    "mouse_any_flag": "0",
    "mouse_sgr_flag": "0",
    "mouse_utf8_flag": "0",
    "cursor_flag": "1",
    "keypad_cursor_flag": "0",
    "keypad_flag": "0",
    "insert_flag": "0",
    "origin_flag": "0",
    "wrap_flag": "1",
    "scroll_region_upper": "0",
    "scroll_region_lower": str(ROWS - 1),
}
FRESH = list(FLAGS.values())
# All that tmux can tell, set by hand.
MESS = b"\x1b[?1049h\x1b[?1003;1005;1006;1h\x1b[?25;7l\x1b=\x1b[4h\x1b[5;9r\x1b[31m\x1b(0\x0e\x1b]0;cut"


class Pane:
    """A pane of a tmux of its own, in which a program that writes files to it can be started."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = str(directory / "tmux")
        self._turn = 0
        config = directory / "tmux.conf"
        config.write_text("set -g remain-on-exit on\nset -g status off\n")
        self.tmux("-f", str(config), "new-session", "-d", "-x", "80", "-y", str(ROWS), "sleep 1000")

    def tmux(self, *words: str) -> str:
        """Have tmux carry out a command; return what it says."""
        done = subprocess.run(
            [need("tmux"), "-u", "-S", self._socket, *words],
            stdout=subprocess.PIPE,
            check=True,
            timeout=TIMEOUT_S,
        )
        return done.stdout.decode()

    def show(self, data: bytes) -> list[str]:
        """Write data on a fresh pane; return the values of FLAGS, the cursor's place and the lines."""
        self._turn += 1
        title = f"turn {self._turn}"
        path = self._directory / "data"
        path.write_bytes(data + f"\x1b]2;{title}\x07".encode())
        self.tmux("respawn-pane", "-k", f"stty raw -echo; cat '{path}'; exec sleep 1000")
        wait_for(
            lambda: self.tmux("display", "-p", "#{pane_title}").strip() == title, what="tmux to take it in"
        )
        wanted = [f"#{{{name}}}" for name in (*FLAGS, "cursor_x", "cursor_y")]
        return [*self.tmux("display", "-p", " ".join(wanted)).split(), self.tmux("capture-pane", "-p")]


@pytest.fixture
def pane(tmp_path: Path) -> Iterator[Pane]:
    pane = Pane(tmp_path)
    yield pane
    pane.tmux("kill-server")


def undo_of(data: bytes) -> bytes:
    tracker = Tracker(ROWS)
    tracker.feed(data)
    return tracker.undo()


def test_everything_that_tmux_can_tell_is_taken_back_and_the_screen_stands(pane: Pane) -> None:
    before = b"one\r\ntwo\r\n\x1b[1mthree"
    assert pane.show(before + MESS + undo_of(before + MESS)) == pane.show(before)
    assert pane.show(before)[: len(FLAGS)] == FRESH
    # Last: in a pane of tmux 3.1 some of it would outlive the program.
    assert pane.show(MESS + b"\x07")[: len(FLAGS)] == [*"1111011100", "4", "8"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_program_that_was_cut_off_leaves_tmux_as_it_was(pane: Pane, path: Path) -> None:
    data = path.read_bytes()
    changed = 0
    for turn in range(1, CUTS):
        cut = data[: len(data) * turn // CUTS]
        undone = undo_of(cut)
        dead, after = pane.show(cut), pane.show(cut + undone)
        assert after[: len(FLAGS)] == FRESH, (len(cut), undone)
        changed += dead[: len(FLAGS)] != FRESH
        if dead[0] == "0":
            assert after[len(FLAGS) :] == dead[len(FLAGS) :], (len(cut), undone)
    assert changed or path.stem.startswith(("bash", "vim-linux"))


@pytest.mark.parametrize(
    ("term", "has_title"),
    [("xterm-256color", True), ("screen", True), ("eterm-color", False), ("linux", False), ("dumb", False)],
)
def test_a_title_is_shown_only_where_it_is_no_text(term: str, has_title: bool) -> None:
    ours, theirs = os.openpty()
    person = terminal.Terminal(theirs, theirs)
    screen = terminal.Screen(person, term, no_colour=True)
    screen.title("away")
    screen.title("")
    screen.line("end")
    seen = b""
    while b"end" not in seen:
        seen += os.read(ours, 1024)
    assert (b"away" in seen) == has_title
    person.close()
    os.close(ours)
    os.close(theirs)
