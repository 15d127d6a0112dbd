"""What the remote side sets is taken back, exactly; judged by tables, by pyte and by a model of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pyte
import pytest
from hypothesis import assume, example, given, strategies as st

from pykeepssh.terminal.modes import MODES, Tracker, is_report

ROWS = 24
RECORDINGS = sorted((Path(__file__).parent / "data").glob("*.bin"))


def undo_of(*chunks: bytes, rows: int = 0) -> bytes:
    tracker = Tracker(rows)
    for chunk in chunks:
        tracker.feed(chunk)
    return tracker.undo()


# What was written, with \e for ESC | what takes it back.
UNDONE = {
    "nothing": ("", ""),
    "plain text": ("hello\r\n\a\t", ""),
    "moving and erasing": (r"\e[H\e[2J\e[3;4H\e[K\eM\e[5n\e[c\e[6n\e[?u\e[>c\e[>q\e[?1$p\eD\eE\eH\e#8", ""),
    "unknown modes": (r"\e[?9999h\e[99h\e[?3h\e[?1007h\e[?1034h\e[?h\e[h", ""),
    "several at once": (r"\e[?1002;1006;25l\e[?1002;1006h", r"\e[?1002l\e[?1006l\e[?25h"),
    "set twice": (r"\e[?2004h\e[?2004h", r"\e[?2004l"),
    "mode and its opposite": (r"\e[?1000h\e[?1000l\e[?25l\e[?25h", ""),
    "on by default": (r"\e[?7l\e[?25l", r"\e[?25h\e[?7h"),
    "on by default, set": (r"\e[?7h\e[?25h", ""),
    "insert": (r"\e[4h", r"\e[4l"),
    "local echo": (r"\e[12l", r"\e[12h"),
    "keypad": (r"\e=", r"\e>"),
    "keypad by mode": (r"\e[?66h", r"\e>"),
    "keypad, taken back": (r"\e=\e[?66l\e[?66h\e>", ""),
    "synchronized output first": (r"\e[?1000h\e[1m\e[?2026h", r"\e[?2026l\e[0;10m\e[?1000l"),
    # screens
    "1049": (r"\e[?1049h", r"\e[?1049l"),
    "1047": (r"\e[?1047h", r"\e[?1047l"),
    "47": (r"\e[?47h", r"\e[?47l"),
    "1049, left": (r"\e[?1049h\e[?1049l", ""),
    "1049, left by 47": (r"\e[?1049h\e[?47l", ""),
    "twice alternate is once": (r"\e[?1047h\e[?1049h", r"\e[?1047l"),
    "left without having come": (r"\e[?1049l\e[?1047l", ""),
    "47 with the cursor saved": (r"\e7\e[?47h", r"\e[?47l\e8"),
    "47 with the cursor saved long ago": (r"\e7\e8\e[?47h", r"\e[?47l"),
    "1047 and 1048": (r"\e[?1048h\e[?1047h", r"\e[?1047l\e[?1048l"),
    "47 with another cursor saved there": (r"\e7\e[?47h\e7\e8", r"\e[?47l\e8"),
    "1048 alone": (r"\e[?1048h", ""),
    "1048 and back": (r"\e[?1048h\e[?1048l\e[?1047h", r"\e[?1047l"),
    "saved alone": (r"\e7\e[s", ""),
    "left and right margins set": (r"\e[s\e[?47h\e[5;70s", r"\e[?47l\e8"),
    "a key is no restored cursor": (r"\e7\e[97;5u\e[?47h", r"\e[?47l\e8"),
    "restored in the manner of SCO": (r"\e[s\e[u\e[?47h", r"\e[?47l"),
    # keyboards
    "kitty pushed": (r"\e[>1u\e[>5u", r"\e[<2u"),
    "kitty popped": (r"\e[>1u\e[>1u\e[<u\e[<1u", ""),
    "kitty popped at once": (r"\e[>1u\e[>1u\e[>u\e[<2u", r"\e[<1u"),
    "kitty set": (r"\e[=5u", r"\e[=0;1u"),
    "kitty set and not": (r"\e[=5;1u\e[=0u\e[=5u\e[=0;1u", ""),
    "kitty set by bits": (r"\e[=2;2u\e[=2;3u", r"\e[=0;1u"),
    "kitty set for each screen": (r"\e[=5u\e[?1049h\e[=1u\e[=0u", r"\e[?1049l\e[=0;1u"),
    "kitty set above a push": (r"\e[>1u\e[=5u\e[<u", ""),
    "kitty on the alternate screen": (r"\e[>1u\e[?1049h\e[>1u\e[>1u", r"\e[<2u\e[?1049l\e[<1u"),
    "kitty left on the alternate screen": (r"\e[?1049h\e[>1u\e[?1049l", ""),
    "modifyOtherKeys": (r"\e[>4;2m", r"\e[>4m"),
    "modifyOtherKeys, all ways back": (r"\e[>4;2m\e[>4m\e[>4;1m\e[>4;0m\e[>4;1m\e[>4;m\e[>4;1m\e[>m", ""),
    "modifyOtherKeys disabled": (r"\e[>4n", r"\e[>4m"),
    "formatOtherKeys": (r"\e[>4;1f\e[>m", r"\e[>4f"),
    "modifyCursorKeys": (r"\e[>1;0m", r"\e[>1m"),
    "no such key resource": (r"\e[>99;1m", ""),
    # margins
    "region": (r"\e[5;20r", r"\e7\e[r\e8"),
    "region without end": (r"\e[5r", r"\e7\e[r\e8"),
    "region taken back": (r"\e[5;20r\e[r\e[5;20r\e[;r\e[5;20r\e[1r\e[5;20r\e[0;0r", ""),
    "region ignored": (r"\e[9;3r", ""),
    "saved modes are no region": (r"\e[?1;2r", ""),
    "region on 1049": (r"\e[?1049h\e[5;20r", r"\e[r\e[?1049l"),
    "region on 47": (r"\e[?47h\e[5;20r", r"\e7\e[r\e8\e[?47l"),
    "region on 47 with the cursor saved": (r"\e7\e[?47h\e[5;20r", r"\e[r\e[?47l\e8"),
    "left and right margins": (r"\e[?69h", r"\e7\e[?69l\e8"),
    "origin": (r"\e[5;20r\e[?6h", r"\e[?6l\e[r\e[999B"),
    "origin on 1049": (r"\e[?1049h\e[?6h", r"\e[?6l\e[?1049l"),
    "origin comes back with 1049": (r"\e[?6h\e[?1049h\e[?6l", r"\e[?1049l\e[?6l\e[999B"),
    # styles: taken back once they were used, however they stand, for they come back with a saved cursor
    "line drawing": (r"\e(0", r"\e(B"),
    "line drawing, back": (r"\e(0qqq\e(B", r"\e(B"),
    "ASCII": (r"\e(B\e)B\e*B\e+B", ""),
    "other sets": (r"\e(B\e)0\e*A\e+%5", r"\e)B\e*B\e+B"),
    "96-character sets": (r"\e-A\e.B", r"\e)B\e*B"),
    "sets with odd names": (r"\e(P\e)k\e*%5", r"\e(B\e)B\e*B"),
    "not a set": (r"\e%G\e F\e#8", ""),
    "shifted": ("\x0e", "\x0f"),
    "shifted, back": ("\x0eqqq\x0f", "\x0f"),
    "locking shifts": (r"\en\eo", "\x0f"),
    "sets come back with the cursor": (r"\e(0\e7\e(B\e8", r"\e(B"),
    "SGR": (r"\e[1m", r"\e[0;10m"),
    "SGR back": (r"\e[1;31mred\e[0m \e[4mline\e[m", r"\e[0;10m"),
    "SGR, nothing but back": (r"\e[m\e[0m\e[0;0m\e[0:0m", ""),
    "SGR on in the same": (r"\e[0;1m", r"\e[0;10m"),
    "SGR colours": (r"\e[38;5;1m", r"\e[0;10m"),
    "SGR curly underline": (r"\e[4:3m", r"\e[0;10m"),
    "SGR comes back with 1049": (r"\e[1m\e[?1049h\e[m", r"\e[?1049l\e[0;10m"),
    "link": (r"\e]8;id=1;http://h/\e\\here", r"\e]8;;\e\\"),
    "link closed": (r"\e]8;;http://h/\ahere\e]8;;\e\\", r"\e]8;;\e\\"),
    "link, nothing but closed": (r"\e]8;;\e\\\e]8;;\a", ""),
    "long link": (r"\e]8;;" + "x" * 10000 + r"\a", r"\e]8;;\e\\"),
    "all styles": (r"\e]8;;h\a\e[1m\e(0\x0e\e)0", r"\x0f\e(B\e)B\e[0;10m\e]8;;\e\\"),
    # colours
    "palette": (r"\e]4;1;red;7;rgb:1/2/3;9;?\a", r"\e]104;1\e\\\e]104;7\e\\"),
    "palette, one back": (r"\e]4;1;red;7;blue\a\e]104;1;x\a", r"\e]104;7\e\\"),
    "palette, all back": (r"\e]11;red\a\e]4;1;red;7;blue;x;red;999;red\a\e]104\a", r"\e]111\e\\"),
    "dynamic colours": (r"\e]10;red;blue;?\a\e]12;red\e\\", r"\e]110\e\\\e]111\e\\\e]112\e\\"),
    "dynamic colours, back": (r"\e]10;red;blue\a\e]110\a\e]111;\a\e]10;?\a\e]11;\a", ""),
    "console palette": (r"\e]P1ff0000\e[1m", r"\e[0;10m\e]R\e\\"),
    "console palette, back": (r"\e]P1ff0000text\e]R", ""),
    "no console palette": (r"\ePR\e\\\e]Pxyz1234\a\e]P12\a", ""),
    "colours pushed": (r"\e]30001\e\\\e]30001\a\e[#P\e[2#P\e]30101\e\\", r"\e[#Q\e[#Q\e]30101\e\\"),
    "colours popped": (r"\e]30101\a\e]30001\a\e]30101\a\e[#P\e[#Q\e[#Q", ""),
    "colours pushed without end": (r"\e[#P" * 100, r"\e[#Q" * 16),
    "no such colour": (r"\e]4;" + "1" * 5000 + r";red;x;red;264;red\a\e]4;1\a", ""),
    # the rest
    "pointer": (r"\e]22;wait\a", r"\e]22;\e\\"),
    "pointer, back": (r"\e]22;wait\a\e]22;\e\\\e]22\a\e]22;?__current__\a\e]22;<\a", ""),
    "pointer pushed": (r"\e]22;>wait,help\a\e]22;<\a", r"\e]22;\e\\"),
    "pointer, for each screen": (
        r"\e]22;wait\a\e[?1049h\e]22;help\a",
        r"\e]22;\e\\\e[?1049l\e]22;\e\\",
    ),
    "pointer on the main screen": (r"\e]22;wait\a\e[?1049h\e]22;\a", r"\e[?1049l\e]22;\e\\"),
    "far2l": (r"\e_far2l1\e\\", r"\e_far2l0\e\\"),
    "far2l, ended by BEL": (r"\e_far2l1\a\e[5n", r"\e\\\e_far2l0\e\\"),
    "far2l, back": (r"\e_far2l1\e\\\e_far2l:AAAA\e\\\e_far2l0\e\\", ""),
    "backspace": (r"\e[?67h", r"\e[?67l"),
    "Alt without ESC": (r"\e[?1036h\e[?1036l", r"\e[?1036h"),
    "kitty's paste events": (r"\e[?5522h", r"\e[?5522l"),
    "cursor style": (r"\e[4 q", r"\e[0 q"),
    "cursor style, back": (r"\e[4 q\e[0 q\e[4 q\e[ q", ""),
    "console cursor": (r"\e[?8c", r"\e[?0c"),
    "console cursor, back": (r"\e[?8c\e[?0c", ""),
    "progress": (r"\e]9;4;1;50\a", r"\e]9;4;0\e\\"),
    "progress, done": (r"\e]9;4;1;50\a\e]9;4;0\a\e]9;4\a\e]9;hello\a", ""),
    "title": (r"\e]0;title\a\e]2;title\e\\\ektitle\e\\\e];\a\e]x\a\e]12345;1\a", ""),
    "titles pushed": (r"\e[22;0;0t\e[22;2t\e[22;1t", r"\e[23;1t\e[23;2t\e[23;0t"),
    "titles popped": (r"\e[22;0;0t\e[22t\e[23;0t\e[23t\e[22;2t\e[22;1t\e[23;2t\e[23;1t", ""),
    "titles popped that were not pushed": (r"\e[22;0t\e[23;1t", r"\e[23;0t"),
    "titles popped too often": (r"\e[23;0t\e[22;2t", r"\e[23;2t"),
    "window operations": (r"\e[14t\e[22;9t\e[23;9t", ""),
    "titles pushed without end": (r"\e[22;2t" * 100, r"\e[23;2t" * 16),
    # resets
    "soft reset": (r"\e[?1;6h\e[?25l\e[4h\e[5;9r\e=\e[!p", ""),
    "soft reset leaves": (r"\e[?1000h\e[20h\e[?1049h\e[!p", r"\e[?1049l\e[20l\e[?1000l"),
    "hard reset": (r"\e[?1;6;1000;1049h\e[4 q\e[22;0t\e]4;1;red\a\e[>1u\e[20h\e[#P\ec", ""),
    # cut off
    "ESC": (r"\e", "\x18"),
    "ESC (": (r"\e(", "\x18"),
    "CSI": (r"\e[?100", "\x18"),
    "cut mode and others": (r"\e[?1000h\e[?1002", r"\x18\e[?1000l"),
    "OSC": (r"\e]", r"\x18\e\\"),
    "OSC text": (r"\e]0;tit", r"\x18\e\\"),
    "OSC with half of ST": (r"\e]0;title\e", r"\x18\e\\"),
    "half a link takes no effect": (r"\e]8;;http://h", r"\x18\e\\"),
    "half a console colour": (r"\e]P12", r"\x18\e\\"),
    "DCS": (r"\ePq#0", r"\x18\e\\"),
    "DCS with half of ST": (r"\ePq#0\e", r"\x18\e\\"),
    "passthrough": (r"\ePtmux;\e\e[?1000h", r"\x18\e\\"),
    "passthrough with half of ST": (r"\ePtmux;\e\e[?1000h\e", r"\x18\e\\"),
    "passthrough with half a pair": (r"\e[4h\ePtmux;\e\e[4l\e\e\e", r"\x18\e\\\e[4l"),
    "APC": (r"\e_Gf=100;AAAA", r"\x18\e\\"),
    # contents
    "sixel": (r"\ePq#0;2;0;0;0~~@@\e\\", ""),
    "passthrough, whole": (r"\ePtmux;\e\e[?1000h\e\e]0;x\x18\a\e\e\\\e\\", ""),
    "passthrough takes nothing back": (r"\e[?1000h\ePtmux;\e\e[?1000l\e\\", r"\e[?1000l"),
    "kitty picture": (r"\e_Ga=T;[?1000h\e\\", ""),
    "PM and SOS": (r"\e^[4h\e\\\eX[4h\e\\", ""),
    "BEL ends OSC only": (r"\ePx\a\e\\\e]0;x\a\e[4h", r"\e[4l"),
    "CAN ends a string": (r"\e]0;x\x18\e[4h", r"\e\\\e[4l"),
    "SUB ends a string": (r"\ePx\x1a\e[4h", r"\e\\\e[4l"),
    "ESC ends a string": (r"\ePx\e[4h", r"\e\\\e[4l"),
    "what ended a string may have been ended by ST": (r"\ePx\e[4h\e_x\e\\", r"\e\\\e[4l"),
    "shifts are taken for real in a string too": (r"\e]0;\x0e\a\eP\x0e\e\\", r"\x0f"),
    # odd ones
    "CAN ends a sequence": (r"\e[?1000\x18h", ""),
    "ESC ends a sequence": (r"\e[?1000\e[?1002h", r"\e[?1002l"),
    "ESC twice": (r"\e\e[4h", r"\e[4l"),
    "text ends a sequence": (r"\e[?1000é4h", ""),
    "controls inside": (r"\e[?10\x0d00h\e[\x081m\e[1\x09A", r"\e[0;10m\e[?1000l"),
    "ill-formed": (r"\e[1?4h\e[4<h\e[?1:2h\e[1?1h\e[\x0d1?1h\e[\x0d=\x0d?1h", ""),
    "longer than any": (r"\e[" + "1;" * 200 + r"4h\e[" + "1;" * 300 + "m", ""),
}


def written(text: str) -> bytes:
    r"""Read what the table writes: \e, \a, \xNN, and \\ behind \e for a backslash."""
    text = text.replace(r"\e\\", "\x1b\x5c").replace(r"\e", "\x1b").replace(r"\a", "\a")
    return re.sub(r"\\x(..)", lambda match: chr(int(match[1], 16)), text).encode()


@pytest.mark.parametrize(("before", "after"), UNDONE.values(), ids=UNDONE)
def test_exactly_what_was_set_is_taken_back(before: str, after: str) -> None:
    assert undo_of(written(before)) == written(after)


@pytest.mark.parametrize("before", [before for before, _ in UNDONE.values()], ids=UNDONE)
def test_it_does_not_matter_where_the_stream_is_cut(before: str) -> None:
    data = written(before)
    whole = undo_of(data)
    assert undo_of(*(data[at : at + 1] for at in range(len(data)))) == whole
    for at in range(0, len(data), 1 + len(data) // 100):
        assert undo_of(data[:at], data[at:]) == whole


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_a_way_there_and_back(mode: bytes) -> None:
    back = b"\x1b[" + mode + MODES[mode]
    there = back[:-1] + (b"l" if MODES[mode] == b"h" else b"h")
    undone = undo_of(there)
    assert undo_of(there, back) == undo_of(back) == undo_of(there, undone) == b""
    assert back in undone or mode == b"?66"


def test_after_an_undo_it_begins_anew() -> None:
    tracker = Tracker()
    tracker.feed(b"\x1b[?1049h\x1b[>1u\x1b[22;0t\x1b[")
    assert tracker.undo()
    assert tracker.undo() == b""


def test_a_region_of_the_whole_height_is_none() -> None:
    assert undo_of(b"\x1b[1;24r", rows=ROWS) == undo_of(b"\x1b[0;25r", rows=ROWS) == b""
    assert undo_of(b"\x1b[1;23r", rows=ROWS) == undo_of(b"\x1b[2;24r", rows=ROWS) == b"\x1b7\x1b[r\x1b8"
    assert undo_of(b"\x1b[1;24r") == b"\x1b7\x1b[r\x1b8"


# Any bytes.

# What is not followed, and taken back once it was used: strings that were given up, and styles.
STYLES = re.compile(rb"(\x1b\\)?\x0f?(\x1b[()*+]B)*(\x1b\[0;10m)?(\x1b\]8;;\x1b\\)?")
FRAGMENTS = sorted({written(text) for pair in UNDONE.values() for text in pair if len(text) < 1000})
PIECES = re.findall(rb"\x1b\[?|[0-9]+|.", b"".join(FRAGMENTS), re.DOTALL)
STREAMS = st.one_of(
    st.binary(),
    st.lists(st.sampled_from(FRAGMENTS)).map(b"".join),
    st.lists(st.sampled_from(sorted(set(PIECES)))).map(b"".join),
    st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.binary(max_size=3))).map(b"".join),
)


@given(STREAMS, st.lists(st.integers(0, 200)))
@example(b"\x1b]" + b"x" * 8191 + b"\x1b\\", [3, 8193, 8194])
@example(b"\x1b]8;;http://h\x0e\a", [5, 13])
@example(b"\x1b]4;1;red" + b";" * 8181 + b"4;red\x1b\\", [8190, 8192, 8193, 8194, 8195])
@example(b"\x1bP" + b"x" * 8300 + b"\x1b[4h\x1b_far2l1" + b"x" * 8300 + b"\x1b\\", [8301, 8303, 16610])
@example(b"\x1b[" + b"1" * 257 + b"h\x1b[?" + b"4" * 255 + b" " * 257 + b"h", [200, 259, 500, 600])
@example(b"\x1b[" + b"1" * 256 + b"\x0e;m", [100, 262, 263])
def test_any_cuts_make_no_difference(data: bytes, cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(data)]
    assert undo_of(*(data[start:end] for start, end in zip([0, *ends], ends))) == undo_of(data)


@given(STREAMS)
def test_what_was_taken_back_is_back(data: bytes) -> None:
    undone = undo_of(data)
    assert STYLES.fullmatch(undo_of(data, undone))
    assert STYLES.fullmatch(undo_of(undone))


@given(STREAMS)
def test_nothing_is_cleared_or_written(data: bytes) -> None:
    undone = undo_of(data)
    assert not re.search(rb"\x1b(c|\[[0-9;?]*[JKHfLMPSTX@])", undone)
    strings = re.sub(rb"\x1b[]_].*?\x1b\\", b"", undone)
    assert not re.sub(rb"\x1b\[[<-?]?[0-9;]*[ #]?[@-~]|\x1b[()*+]B|\x1b[78>\\]|[\x0f\x18]", b"", strings)


# Real programs: each was run on a terminal of 24 rows and ended as a person ends it; cut anywhere, that is a
# link that died.


class Model:
    """What is set after a stream, by the simplest means: the last word on each matter counts."""

    def __init__(self, data: bytes) -> None:
        data = re.sub(rb"\x1b[P_].*?\x1b\\", b"", data, flags=re.DOTALL)
        modes: dict[bytes, bytes] = {}
        for values, to in re.findall(rb"\x1b\[(\??[0-9;]*)([hl])", data):
            for value in values.lstrip(b"?").split(b";"):
                modes[values[: values.startswith(b"?")] + value] = to
        screens = [modes.pop(b"?%d" % mode, b"l") for mode in (47, 1047, 1049)]
        self.alternate = b"h" in screens
        initial = {b"?7": b"h", b"?25": b"h", b"?8": b"h", b"34": b"h"}
        self.changed = {mode for mode, to in modes.items() if initial.get(mode, b"l") != to}
        self.changed -= {b"?1034", b"?7727"} if modes.get(b"?7727") == b"l" else {b"?1034"}
        self.keypad = re.findall(rb"\x1b([=>])", data)[-1:] == [b"="]
        self.modify = re.findall(rb"\x1b\[>4;?(\d*)m", data)[-1:] not in ([], [b""], [b"0"])
        self.keyboard = re.findall(rb"\x1b\[=(\d*)(?:;1)?u", data)[-1:] not in ([], [b"0"])
        self.region = re.findall(rb"\x1b\[([0-9;]*)r", data)[-1:] not in ([], [b""], [b"1;24"])
        pushed, popped = (len(re.findall(rb"\x1b\[%d[;0-9]*t" % deed, data)) for deed in (22, 23))
        self.titles = max(pushed - popped, 0)
        self.shifted = re.findall(rb"[\x0e\x0f]", data)[-1:] == [b"\x0e"]
        self.sets = {
            which for which, to in dict(re.findall(rb"\x1b([()])([0-9A-Z])", data)).items() if to != b"B"
        }
        self.cursor = re.findall(rb"\x1b\[\?([0-9]*)c", data)[-1:] not in ([], [b"0"])

    def is_initial(self) -> bool:
        """Tell whether nothing is set."""
        return not any(vars(self).values())


def emulate(data: bytes) -> pyte.Screen:
    """Return the screen that pyte makes of a stream; it takes xterm's and kitty's "CSI >" for others."""
    screen = pyte.Screen(80, ROWS)
    # What begins a sequence that is given up it would draw, as it would the content of strings.
    data = re.sub(rb"\x1b[P_].*?\x1b\\", b"", data, flags=re.DOTALL)
    data = re.sub(rb"\x1b(?:\[[<-?]?[0-9;]*|\][^\x1b\a]*|[()]|P[^\x1b]*)?\x18", b"", data)
    data = re.sub(rb"\x1b\[(?:[<=>][0-9;]*[a-z]|\?[0-9;]*m)|\x1b\[[0-9;]*t|\x1b\\", b"", data)
    pyte.ByteStream(screen).feed(data)
    return screen


def cuts(data: bytes) -> list[int]:
    """Return places all over a recording, none of them inside a character."""
    return [
        at for at in range(0, len(data) + 1, 7) if data[at : at + 1] < b"\x80" or data[at : at + 1] >= b"\xc0"
    ]


def test_the_recordings_are_there() -> None:
    programs = {path.name.split("-")[0] for path in RECORDINGS}
    assert programs == {"bash", "dialog", "htop", "less", "man", "nano", "tmux", "top", "vim"}


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_program_that_ended_leaves_little(path: Path) -> None:
    """Nothing but styles; ncurses and tmux leave a region of the whole height."""
    assert STYLES.fullmatch(undo_of(path.read_bytes(), rows=ROWS))


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_a_program_that_was_cut_off_leaves_a_terminal_as_it_was(path: Path) -> None:
    data = path.read_bytes()
    seen_changed = 0
    for at in cuts(data):
        undone = undo_of(data[:at], rows=ROWS)
        after = Model(data[:at] + undone)
        assert after.is_initial(), (at, undone, {key: value for key, value in vars(after).items() if value})
        before = Model(data[:at])
        seen_changed += not before.is_initial()
        if before.is_initial() and not before.alternate:
            assert STYLES.fullmatch(undone.lstrip(b"\x18")), at
    assert seen_changed


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_an_emulator_agrees(path: Path) -> None:
    fresh = pyte.Screen(80, ROWS)
    data = path.read_bytes()
    for at in cuts(data)[::10]:
        before, after = (emulate(data[:at] + undone) for undone in (b"", undo_of(data[:at], rows=ROWS)))
        known = {mode << 5 for mode in (1, 5, 6, 7, 25)} | {4, 20}
        assert after.mode & known == fresh.mode & known, at
        assert (after.margins or (0, ROWS - 1)) in ((0, ROWS - 1), (0, 0)), at
        assert (after.charset, after.g0_charset) == (0, fresh.g0_charset), at
        assert after.cursor.attrs._replace(data=" ") == fresh.cursor.attrs, at
        assert not after.cursor.hidden, at
        assert after.display == before.display, at
        assert (after.cursor.x, after.cursor.y) == (before.cursor.x, before.cursor.y), at


# What pyte knows, but for the alternate screen, which it ignores.
KNOWN_TO_PYTE = [
    written(text)
    for text in (
        *(
            r"\e[?1h",
            r"\e[?5h",
            r"\e[?6h",
            r"\e[?6l",
            r"\e[?7l",
            r"\e[?25l",
            r"\e[?1;5;7;25h",
            r"\e[4h",
            r"\e[20;4h",
        ),
        *(r"\e7", r"\e8", r"\e[5;20r", r"\e[r", r"\e[7r", r"\e(0", r"\e)0", r"\e(B", "\x0e", "\x0f", r"\ec"),
        *(
            r"\e[1;31m",
            r"\e[38;5;1;4m",
            r"\e[48;2;1;2;3m",
            r"\e[m",
            r"\e[3;4H",
            r"\e[A",
            "text",
            "\r\n",
            "\b",
        ),
    )
]


@given(st.lists(st.sampled_from(KNOWN_TO_PYTE)).map(b"".join), st.integers(0, 3))
def test_an_emulator_is_as_at_first_after_anything_it_knows(data: bytes, lost: int) -> None:
    data = data[: len(data) - lost]
    # A reset forgets the saved cursor (xterm, VT510); pyte's does not.
    assume(not re.search(rb"\x1b7.*\x1bc.*\x1b8", data, re.DOTALL))
    latin = b"\x1b%@"  # with UTF-8 pyte knows no line drawing
    fresh = emulate(latin)
    before, after = (emulate(latin + data + undone) for undone in (b"", undo_of(data, rows=ROWS)))
    assert after.mode == fresh.mode
    assert after.margins in (None, (0, ROWS - 1), (0, 0))
    assert (after.charset, after.g0_charset) == (0, fresh.g0_charset)
    assert after.cursor.attrs._replace(data=" ") == fresh.cursor.attrs
    assert not after.cursor.hidden
    assert after.display == before.display
    if b"\x1b[?6h" not in data:
        assert (after.cursor.x, after.cursor.y) == (before.cursor.x, before.cursor.y)


@pytest.mark.parametrize(
    ("data", "inside"),
    [
        (b"", False),
        (b"a", False),
        (b"\x1b", True),
        (b"\x1b[3", True),
        (b"\x1b]2;x", True),
        (b"\x1b]2;x\a", False),
    ],
)
def test_it_knows_whether_a_sequence_is_open(data: bytes, inside: bool) -> None:
    tracker = Tracker()
    tracker.feed(data)
    assert tracker.is_inside == inside


# From a terminal: whether it sent that by itself.
FROM_TERMINAL = {
    b"\x1b[?62;22c": True,
    b"\x1b[>0;276;0c\x1b[24;80R": True,
    b"\x1b]11;rgb:0000/0000/0000\x1b\\": True,
    b"\x1bP1+r544e\x1b\\": True,
    b"\x1b[I": True,
    b"\x1b[<35;10;20M": True,
    b"\x1b[M #!": True,
    b"\x1b[?1u": True,
    b"\x1b[A": False,
    b"\x1b[15~": False,
    b"\x1b[97;5u": False,
    b"a": False,
    b"\x1b[Ils\r": False,
    b"": False,
}


@pytest.mark.parametrize("data", FROM_TERMINAL)
def test_what_a_terminal_sends_by_itself_is_not_typed(data: bytes) -> None:
    assert is_report(data) == FROM_TERMINAL[data]


@pytest.mark.parametrize("number", [b"9" * 10, b"9" * 5000])
def test_a_colour_of_any_number_is_none(number: bytes) -> None:
    tracker = Tracker()
    tracker.feed(b"\x1b]4;" + number + b";red\x07")
    tracker.feed(b"\x1b]104;" + number + b"\x07")
    assert tracker.undo() == b""
