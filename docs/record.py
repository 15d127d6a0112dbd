"""Draw what is in docs/: a recording of a link that dies and comes back, and the recovery figures.

    python docs/record.py recording   runs kssh against a throwaway sshd and writes recording.svg
    python docs/record.py recovery    draws the recovery table of benchmarks.md as recovery.svg

Nothing in the pictures is drawn by hand: the recording is what a real terminal showed, with its own times
(a wait of more than PAUSE_S is shortened to that); the bars are the figures of tests/bench/recovery.py.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

import pyte

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from harness import Relay, Sshd, Terminal, program, shell, wait_for

HERE = Path(__file__).resolve().parent
ROWS, COLUMNS = 12, 90
PAUSE_S = 1.5  # the longest that nothing happens in the recording
KEY_S = 0.07  # between two typed keys
END_S = 4.0  # how long the last picture stands before it begins again
CELL_X, CELL_Y = 8.4, 19
COLOURS = {
    "default": "#d8dee9",
    "green": "#a3be8c",
    "brown": "#ebcb8b",  # pyte's name for yellow
    "red": "#bf616a",
    "blue": "#81a1c1",
    "cyan": "#88c0d0",
    "magenta": "#b48ead",
}


class Moment(NamedTuple):
    """What the terminal printed, and when, in seconds."""

    at: float
    data: bytes


class Recorder:
    """A shell on a terminal whose output is kept with its times."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.moments: list[Moment] = []
        self._begin = 0  # of what has not been waited for

    def look(self) -> None:
        """Keep what is new."""
        data = self.terminal.read()
        if data:
            self.moments.append(Moment(time.monotonic(), data))

    def watch(self, seconds: float) -> None:
        """Keep what comes within a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            time.sleep(0.01)

    def until(self, text: bytes) -> None:
        """Keep what comes until a text has come."""

        def came() -> bool:
            self.look()
            return text in self.terminal.output[self._begin :]

        wait_for(came, what=text.decode())
        self._begin = len(self.terminal.output)

    def type(self, text: str) -> None:
        """Type a line as a person does."""
        for char in text + "\r":
            self.terminal.send(char.encode())
            self.watch(KEY_S)


def record() -> list[Moment]:
    """Let a person use kssh while the link dies and comes back."""
    with tempfile.TemporaryDirectory(prefix="recording-") as name:
        folder = Path(name)
        sshd = Sshd(folder / "sshd")
        (sshd.directory / "home" / ".bash_profile").write_text("PS1='office$ '\n")
        (sshd.directory / "home" / ".hushlogin").write_text("")
        with sshd, Relay(sshd.port) as relay:
            config = sshd.config_for(relay.port)
            config.write_text(config.read_text().replace("Host t\n", "Host office\n"))
            with shell(rows=ROWS, columns=COLUMNS, env={"KSSH_STATE_DIR": str(folder / "state")}) as terminal:
                define = f'kssh() {{ command {program()} -F {config} "$@"; }}; clear'
                terminal.send(f"{define}\r".encode())
                terminal.expect(b"local$ ")
                recorder = Recorder(terminal)
                recorder.moments.append(Moment(time.monotonic(), b"local$ "))
                recorder.watch(1)
                recorder.type("kssh office")
                recorder.until(b"office$ ")
                recorder.watch(1)
                recorder.type("date")
                recorder.watch(1.5)
                relay.refuse()
                relay.reset()
                recorder.watch(9)
                relay.listen()
                recorder.until(b"office$ ")
                recorder.watch(1)
                recorder.type("date")
                recorder.watch(2)
                recorder.type("exit")
                recorder.until(b"local$ ")
                return recorder.moments


def pictures(moments: list[Moment]) -> Iterator[tuple[float, pyte.Screen]]:
    """Yield each picture of the terminal with the time that it stands, in seconds."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    for moment, after in zip(moments, [*moments[1:], None]):
        stream.feed(moment.data)
        yield (END_S if after is None else min(PAUSE_S, after.at - moment.at)), screen


def drawn(screen: pyte.Screen) -> str:
    """Return a picture of the terminal as SVG."""
    rows = []
    for y in range(ROWS):
        spans, x = [], 0
        while x < COLUMNS:
            begin, colour = x, screen.buffer[y][x].fg
            while x < COLUMNS and screen.buffer[y][x].fg == colour:
                x += 1
            text = "".join(screen.buffer[y][column].data for column in range(begin, x))
            if text.strip():
                fill = COLOURS.get(colour, COLOURS["default"])
                spans.append(
                    f'<tspan x="{12 + begin * CELL_X:.1f}" fill="{fill}">{escape(text.rstrip())}</tspan>'
                )
        if spans:
            rows.append(f'<text y="{44 + y * CELL_Y}">{"".join(spans)}</text>')
    cursor = screen.cursor
    rows.append(
        f'<rect x="{12 + cursor.x * CELL_X:.1f}" y="{30 + cursor.y * CELL_Y}" width="{CELL_X}" height="17" '
        f'fill="{COLOURS["default"]}" opacity="0.6"/>'
    )
    return "".join(rows)


def animated(moments: list[Moment]) -> str:
    """Return the whole recording as one SVG that begins again when it has ended."""
    frames = [(stands, drawn(screen)) for stands, screen in pictures(moments)]
    whole = sum(stands for stands, _ in frames)
    width, height = 24 + COLUMNS * CELL_X, 40 + ROWS * CELL_Y
    out = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" '
            f'height="{height}" font-family="ui-monospace,Menlo,Consolas,monospace" font-size="14" '
            'xml:space="preserve">'
        ),
        "<title>A link dies while kssh runs, and comes back</title>",
        '<rect width="100%" height="100%" rx="8" fill="#2e3440"/>',
        *(f'<circle cx="{18 + 18 * i}" cy="14" r="5" fill="#4c566a"/>' for i in range(3)),
    ]
    begin = 0.0
    for stands, body in frames:
        a, b = begin / whole, (begin + stands) / whole
        values = "visible;hidden" if a == 0 else "hidden;visible;hidden"
        times = f"0;{b:.5f}" if a == 0 else f"0;{a:.5f};{min(b, 1):.5f}"
        if b > 0.99999:
            values, times = "hidden;visible", f"0;{a:.5f}"
        out.append(
            f'<g visibility="hidden">{body}<animate attributeName="visibility" calcMode="discrete" '
            f'dur="{whole:.2f}s" repeatCount="indefinite" values="{values}" keyTimes="{times}"/></g>'
        )
        begin += stands
    return "\n".join([*out, "</svg>", ""])


# The recovery figures.

PROGRAMS = {"kssh": "#5e81ac", "autossh -M 0": "#d08770", "loop": "#a0a8b4"}


def figures(text: str) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Return fault, program: seconds until usable again (median, least, most) from the benchmark's table."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    fault = ""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[2] in PROGRAMS:
            fault = cells[0] or fault
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", cells[4])]
            median, least, most = numbers if len(numbers) == 3 else (numbers[0],) * 3
            found.setdefault(fault, {})[cells[2]] = median, least, most
    return found


def plotted(target: Path) -> None:
    """Draw the figures as bars, on a scale that shows 0.2 s and 60 s."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "kssh"  # the same figures give the same file
    found = figures((HERE / "benchmarks.md").read_text())
    figure, axes = plt.subplots(figsize=(8.6, 0.62 * len(found) + 1.3))
    for row, values in enumerate(found.values()):
        for place, (name, colour) in enumerate(PROGRAMS.items()):
            median, least, most = values[name]
            y = row + (place - 1) * 0.27
            label = name if row == 0 else None
            axes.barh(y, median, 0.25, color=colour, label=label, xerr=[[median - least], [most - median]])
            axes.text(most * 1.08, y, f"{median:g} s", va="center", fontsize=7.5)
    axes.set_xscale("log")
    axes.set_xlim(0.1, 150)
    axes.set_xticks([0.1, 1, 10, 60], ["0.1 s", "1 s", "10 s", "60 s"])
    axes.set_yticks(range(len(found)), list(found), fontsize=9)
    axes.invert_yaxis()
    axes.set_title("seconds from a link that can work again to a tunnel that works", fontsize=10)
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def main() -> int:
    """Draw what the command line names."""
    if sys.argv[1:] == ["recording"]:
        (HERE / "recording.svg").write_text(animated(record()))
    elif sys.argv[1:] == ["recovery"]:
        plotted(HERE / "recovery.svg")
    else:
        sys.stderr.write(__doc__ or "")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
