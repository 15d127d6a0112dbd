"""The terminal modes that the remote side has set, and the bytes that take them back.

Knows the control functions of ECMA-48, of xterm (ctlseqs) and of those who came after it: kitty's
keyboard protocol, the Linux console's palette (console_codes(4)).  Must not know where the bytes
come from, what the terminal is, or when the modes are taken back.

Where terminals differ, a sequence too many is sent rather than one too few, and only such a one
that changes nothing where it is not needed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache

ESC, CSI, OSC, ST = b"\x1b", b"\x1b[", b"\x1b]", b"\x1b\\"
_CAN, _SO, _SI = b"\x18", b"\x0e", b"\x0f"

OFF, ON = False, True
SOFT, HARD = True, False

# Mode: (as it is in a fresh terminal, whether a soft reset, "CSI ! p", surely takes it back).  Undone in this
# order, but for 2026, 6 and 69, which come before everything that shows.
PRIVATE_MODES = {
    2026: (OFF, HARD),  # synchronized output
    9: (OFF, HARD),  # mouse: press only, as in X10
    1000: (OFF, HARD),  # mouse: press and release
    1001: (OFF, HARD),  # mouse: highlighting, which hangs a terminal that gets no answer
    1002: (OFF, HARD),  # mouse: drags too
    1003: (OFF, HARD),  # mouse: every motion
    1004: (OFF, HARD),  # focus in and out
    1005: (OFF, HARD),  # mouse: coordinates in UTF-8
    1006: (OFF, HARD),  # mouse: coordinates as SGR parameters
    1015: (OFF, HARD),  # mouse: coordinates as in urxvt
    1016: (OFF, HARD),  # mouse: coordinates in pixels
    2004: (OFF, HARD),  # bracketed paste
    2027: (OFF, HARD),  # grapheme clusters
    2031: (OFF, HARD),  # light and dark are reported
    2048: (OFF, HARD),  # sizes are reported
    7727: (OFF, HARD),  # mintty: the escape key is told apart
    9001: (OFF, HARD),  # Windows' console: every key as an event
    1: (OFF, SOFT),  # application cursor keys
    4: (OFF, HARD),  # smooth scrolling
    5: (OFF, HARD),  # reverse video
    6: (OFF, SOFT),  # origin: rows are counted from the scroll region
    7: (ON, HARD),  # autowrap
    8: (ON, HARD),  # keys repeat
    12: (OFF, HARD),  # blinking cursor
    45: (OFF, HARD),  # reverse wraparound
    69: (OFF, HARD),  # left and right margins
    25: (ON, SOFT),  # cursor shown
}
# Not in the table: 3, which clears the screen; 1007 and 1034, which some terminals begin with and others not.
ANSI_MODES = {
    2: (OFF, SOFT),  # keyboard locked
    4: (OFF, SOFT),  # insert
    12: (ON, HARD),  # no local echo
    20: (OFF, HARD),  # a newline returns the carriage too
    34: (ON, HARD),  # screen's and tmux's: an ordinary cursor, not a very visible one
}
KEYPAD = 66  # the same thing as ESC = and ESC >
# The alternate screen; 1048 is only the cursor, saved and restored.
SCREENS = (47, 1047, 1049)
SAVED_CURSOR = 1048

# SGR: the parameters that switch something on, and the one that switches it off again.  0: all off.
ATTRIBUTES = (
    ((1, 2), 22),  # bold, faint
    ((3, 20), 23),  # italic, fraktur
    ((4, 21), 24),  # underlined
    ((5, 6), 25),  # blinking
    ((7,), 27),  # inverse
    ((8,), 28),  # concealed
    ((9,), 29),  # crossed out
    (tuple(range(11, 20)), 10),  # font; on the Linux console line drawing
    ((26,), 50),  # proportional
    ((*range(30, 39), *range(90, 98)), 39),  # foreground
    ((*range(40, 49), *range(100, 108)), 49),  # background
    ((51, 52), 54),  # framed, encircled
    ((53,), 55),  # overlined
    ((58,), 59),  # colour of the underline
    (tuple(range(60, 65)), 65),  # ideogram marks
    ((73, 74), 75),  # superscript, subscript
)
_ATTRIBUTE_ON = {code: 1 << bit for bit, (codes, _) in enumerate(ATTRIBUTES) for code in codes}
_ATTRIBUTE_OFF = {off: 1 << bit for bit, (_, off) in enumerate(ATTRIBUTES)}
_ALL_ATTRIBUTES = (1 << len(ATTRIBUTES)) - 1
_FONT = _ATTRIBUTE_OFF[10]
_EXTENDED_COLOURS = {38, 48, 58}
_EXTENSION = {5: 2, 2: 4}  # 38;5;INDEX and 38;2;RED;GREEN;BLUE

_CHARACTER_SETS = {b"(": 0, b")": 1, b"*": 2, b"+": 3, b"-": 1, b".": 2, b"/": 3}
_DESIGNATE = (b"(", b")", b"*", b"+")
_ASCII = b"B"
_TITLES = {0: 3, 1: 1, 2: 2}  # CSI 22;N t: icon name (1), window title (2) or both
_KEY_RESOURCES = range(8)  # CSI > N ; VALUE m: 4 is modifyOtherKeys, 1 modifyCursorKeys…
_PALETTE = 256 + 8  # OSC 4: xterm has eight special colours behind the others
_DYNAMIC_COLOURS = range(10, 20)  # OSC 10 foreground, 11 background, 12 cursor…

# Longer ones no terminal takes in; a sequence must be given up at the same byte however it is cut.
_MAX_PARAMETERS = 256
_MAX_SEQUENCE = _MAX_PARAMETERS + 5
_MAX_OSC = 8192  # "OSC 4" with 256 colours is 6 kB
_MAX_TITLES = 16  # xterm keeps 10

_PARAMETERS = rb"[0-9:;]{0,%d}" % _MAX_PARAMETERS
_OSC_TEXT = rb"[^\x07\x0e\x0f\x18\x1a\x1b]{0,%d}(?:\x07|\x1b\\)" % _MAX_OSC
# What moves the cursor or paints is passed over without a step of Python; so is what styles text (SGR, G0,
# SO, SI, hyperlinks): there the last one counts, and _style() finds it.
_TOKENS = re.compile(
    rb"\x1b(?!\[" + _PARAMETERS + rb"[@-gi-km-qv-~]|\([0-~]|\\|\]8;" + _OSC_TEXT + rb")(?:"
    rb"\[([<-?]?)(" + _PARAMETERS + rb")([ -/]{0,4})([@-~])"
    rb"|([ -/]{0,4})([0-OQ-WYZ`-jl-~])"
    rb"|\](P[0-9A-Fa-f]{7}|R|" + _OSC_TEXT + rb")"
    rb")?"
)
_PREFIX, _VALUES, _MIDDLE, _FINAL, _ESC_MIDDLE, _ESC_FINAL, _COMMAND = range(1, 8)
# Of a single extended colour only the kind is taken: there are 16 million of them.
_SGR = re.compile(
    rb"\x1b\[([34]8(?=;(?:5;[0-9]{1,3}|2;[0-9]{1,3};[0-9]{1,3};[0-9]{1,3})m)|" + _PARAMETERS + rb"(?=m))"
)
_LINK = re.compile(rb"\x1b\]8;[^;\x07\x1b]*;[^\x07\x1b]")
_STRING_START = re.compile(rb"\x1b[]P^_Xk]")  # OSC DCS PM APC SOS; k: screen's title
# Controls inside a sequence are obeyed as if they stood before it (ECMA-48 leaves it open, DEC's do it).
_CONTROLLED = re.compile(rb"\x1b\[([\0-\x17\x19\x1c-?\x7f]{0,%d})([@-~])" % _MAX_SEQUENCE)
_CONTROLS = bytes([*range(0x20), 0x7F])
_UNFINISHED = re.compile(
    rb"\x1b(?:[ -/]{0,4}|\](?:P[0-9A-Fa-f]{0,6})?|\[[\0-\x17\x19\x1c-?\x7f]{0,%d})\Z" % _MAX_SEQUENCE
)

_MAIN, _ALTERNATE = 0, 1
_Saved = tuple[int, frozenset[int], bool, bool, bytes]


# What a terminal sends by itself: answers to what a program asked (DA, CPR, DSR, DECRPM, XTWINOPS, kitty's
# flags, OSC, DCS, APC), focus, mouse.
_REPORT = re.compile(
    rb"(?:\x1b\[[?>=]?[\d;]*(?:c|R|n|\$y|t)|\x1b\[\?\d*u|\x1b[P\]_][^\x07\x1b]*(?:\x07|\x1b\\)"
    rb"|\x1b\[[IO]|\x1b\[<[\d;]*[Mm]|\x1b\[M...)+",
    re.DOTALL,
)


def is_report(data: bytes) -> bool:
    """Tell whether what came from a terminal is only what it sends by itself, and nothing typed."""
    return _REPORT.fullmatch(data) is not None


class Tracker:
    """Follows what is written to a terminal, and knows what would have to be taken back.

    rows  the terminal's height, 0 if unknown: a scroll region of that many is none
    """

    def __init__(self, rows: int = 0) -> None:
        self.rows = rows
        self._rest = b""  # of the last chunk: a sequence that is not complete
        self._string: bytes | None = None  # the letter behind ESC that began the string we are in
        self._head = bytearray()  # the string's beginning
        self._reset()

    @property
    def is_inside(self) -> bool:
        """Whether the last byte stands inside a sequence, which nothing of ours may interrupt."""
        return bool(self._rest) or self._string is not None

    def feed(self, data: bytes) -> None:
        """Take in bytes that are written to the terminal, cut anywhere."""
        if self._rest:
            data = self._rest + data
            self._rest = b""
        if self._string is None and not (ESC in data or _SO in data or _SI in data):
            return
        position = 0
        while True:
            while self._string is not None:
                if position == len(data):
                    return
                position = self._follow_string(data, position)
            position = self._follow(data, position)
            if self._string is None:
                return

    def undo(self) -> bytes:
        """Return the bytes that take back what is set, b"" if nothing is; begin anew.

        They neither clear the screen nor move the cursor, but for what leaving the alternate
        screen does, and for origin mode, after which the cursor goes to the last row.
        """
        undone = bytearray()
        for sequence in self._steps():
            undone += sequence
            self.feed(sequence)
        self._reset()
        return bytes(undone)

    def _reset(self) -> None:
        self._open = False  # whether some terminal may still be in a string that others have left
        self._modes: set[int] = set()  # those that are not as in a fresh terminal
        self._ansi_modes: set[int] = set()
        self._keypad = False
        self._attributes = 0
        self._sets: frozenset[int] = frozenset()  # G0…G3 that are not ASCII
        self._shifted = False
        self._link = False
        self._region = False
        self._alternate: int | None = None  # the mode that switched to the alternate screen
        self._saved: list[_Saved | None] = [None, None]
        self._depth = [0, 0]  # kitty's keyboard stack, for each screen: entries above the first
        self._flags = [0, 0]  # and the flags of the first
        self._titles: list[int] = []
        self._keys: dict[bytes, bytes] = {}  # what was set: how it is taken back
        self._others: dict[bytes, bytes] = {}

    # The grammar.

    def _follow(self, data: bytes, position: int) -> int:
        """Take in bytes outside of strings; return where a string's content begins, or the end."""
        styled = position  # what styles text is not looked at yet from here on
        while True:
            for token in _TOKENS.finditer(data, position):
                kind = token.lastindex
                if kind == _ESC_FINAL:
                    middle, final = token.group(_ESC_MIDDLE, _ESC_FINAL)
                    if middle:
                        self._designate(middle, final)
                        continue
                    key, values = final, b""
                elif kind == _FINAL:
                    prefix, values, middle, final = token.group(_PREFIX, _VALUES, _MIDDLE, _FINAL)
                    key = b"[" + prefix + middle + final
                elif kind == _COMMAND:
                    self._command(token[_COMMAND])
                    continue
                else:
                    start = token.start()
                    self._style(data, styled, start)
                    position = styled = self._follow_odd(data, start)
                    if self._string is not None:
                        return position
                    break
                if key in _FUNCTIONS:
                    if key in _STYLED or b"104" in values:  # 1048, 1049
                        self._style(data, styled, token.start())
                        styled = token.end()
                    _FUNCTIONS[key](self, values, final)
            else:
                self._style(data, styled, len(data))
                return len(data)

    def _follow_odd(self, data: bytes, start: int) -> int:
        """Take in what begins with ESC and is no complete, clean sequence; return where to go on."""
        if _UNFINISHED.match(data, start):
            self._rest = data[start:]
            return len(data)
        if _STRING_START.match(data, start):
            self._string = data[start + 1 : start + 2]
            self._head.clear()
            return start + 2
        sequence = _CONTROLLED.match(data, start)
        if sequence:
            clean = CSI + sequence[1].translate(None, _CONTROLS) + sequence[2]
            if clean != sequence[0]:
                self._follow(clean, 0)
            return sequence.end()
        return start + 1

    def _follow_string(self, data: bytes, position: int) -> int:
        """Take in a string's content; return where to go on behind it, or the end."""
        string = self._string
        end = data.find(ESC, position)
        stop = len(data) if end < 0 else end
        # tmux's passthrough doubles each ESC in it and takes every other control as content.
        doubled = string == b"P" and (self._head + data[position : position + 5])[:5] == b"tmux;"
        if not doubled:
            ends = b"\x18\x1a\x07" if string == b"]" else b"\x18\x1a"
            found = [at for at in (data.find(byte, position, stop) for byte in ends) if at >= 0]
            if found:
                stop = min(found)
        self._head += data[position : min(stop, position + _MAX_OSC - len(self._head))]
        if stop == len(data):
            return stop
        if stop != end:
            self._end_string(data[stop : stop + 1])
            return stop + 1
        following = data[end + 1 : end + 2]
        if not following:
            self._rest = ESC
            return len(data)
        if following == b"\\":
            self._end_string(ST)
            return end + 2
        if doubled:
            return end + 2
        self._end_string(ESC)
        return end

    def _end_string(self, end: bytes) -> None:
        """Leave a string; where others give it up, kitty and tmux may stay in it until ST."""
        string, self._string = self._string, None
        if end == ST:
            self._open = False
        elif end != b"\x07":
            self._open = True
            return
        if string == b"]":
            self._command(bytes(self._head) + end)

    # The functions.

    def _switch_private_modes(self, values: bytes, final: bytes) -> None:
        to = final == b"h"
        for mode in _numbers(values):
            if mode in SCREENS:
                self._switch_screen(mode, to)
            elif mode == SAVED_CURSOR:
                if to:
                    self._save_cursor(how_restored=CSI + b"?%dl" % SAVED_CURSOR)
                else:
                    self._restore_cursor()
            elif mode == KEYPAD:
                self._keypad = to
            elif mode in PRIVATE_MODES:
                _switch(self._modes, mode, to != PRIVATE_MODES[mode][0])

    def _switch_ansi_modes(self, values: bytes, final: bytes) -> None:
        to = final == b"h"
        for mode in _numbers(values):
            if mode in ANSI_MODES:
                _switch(self._ansi_modes, mode, to != ANSI_MODES[mode][0])

    def _switch_screen(self, mode: int, to: bool) -> None:
        if to and self._alternate is None:
            if mode == 1049:
                self._save_cursor(how_restored=b"")
            self._alternate = mode
        elif not to and self._alternate is not None:
            self._alternate = None
            if mode == 1049:
                self._restore_cursor()

    @property
    def _screen(self) -> int:
        return _MAIN if self._alternate is None else _ALTERNATE

    def _save_cursor(self, values: bytes = b"", final: bytes = b"", how_restored: bytes = b"\x1b8") -> None:
        """Save what DECSC does beside the position; "CSI LEFT;RIGHT s" sets margins instead."""
        if not values:
            state = (self._attributes, self._sets, self._shifted, 6 in self._modes, how_restored)
            self._saved[self._screen] = state

    def _restore_cursor(self, values: bytes = b"", final: bytes = b"") -> None:
        saved = self._saved[self._screen] or (0, frozenset(), False, False, b"")
        if not values:
            self._attributes, self._sets, self._shifted, origin, _ = saved
            _switch(self._modes, 6, origin)
            self._saved[self._screen] = (*saved[:4], b"")

    def _switch_keypad(self, values: bytes, final: bytes) -> None:
        self._keypad = final == b"="

    def _hard_reset(self, values: bytes, final: bytes) -> None:
        self._reset()

    def _soft_reset(self, values: bytes, final: bytes) -> None:
        """Take back what every terminal does that knows it; the mouse is not among it in xterm."""
        self._modes = {mode for mode in self._modes if not PRIVATE_MODES[mode][1]}
        self._ansi_modes = {mode for mode in self._ansi_modes if not ANSI_MODES[mode][1]}
        self._keypad = self._shifted = self._region = False
        self._sets = frozenset()
        self._attributes = 0
        self._saved[self._screen] = None

    def _shift(self, values: bytes, final: bytes) -> None:
        self._shifted = True

    def _designate(self, middle: bytes, final: bytes) -> None:
        number = _CHARACTER_SETS.get(middle[:1])
        if number is not None:
            if (middle[1:] + final, middle[:1]) == (_ASCII, _DESIGNATE[number]):
                self._sets -= {number}
            else:
                self._sets |= {number}

    def _set_region(self, values: bytes, final: bytes) -> None:
        top, bottom = (*_numbers(values), 0)[:2]
        if not bottom or top < bottom:  # others are ignored
            self._region = top > 1 or (bottom > 0 and not 0 < self.rows <= bottom)

    def _style(self, data: bytes, start: int, end: int) -> None:
        """Take in what styles text among bytes outside of strings, and ST."""
        out, back = data.rfind(_SO, start, end), data.rfind(_SI, start, end)
        if out != back:
            self._shifted = out > back
        if data.find(ESC, start, end) < 0:
            return
        if self._open and data.find(ST, start, end) >= 0:
            self._open = False
        at = data.rfind(b"\x1b(", start, end)
        if at >= 0:
            self._designate(b"(", data[at + 2 : at + 3])
        at = data.rfind(b"\x1b]8;", start, end)
        if at >= 0:
            self._link = _LINK.match(data, at) is not None
        at = data.rfind(b"\x1b[m", start, end)
        at = max(at, data.rfind(b"\x1b[0m", max(start, at), end))
        if at >= 0:
            self._attributes = 0
        for values in _SGR.findall(data, max(start, at), end):
            kept, added = _attributes(values)
            self._attributes = self._attributes & kept | added

    def _push_keyboard(self, values: bytes, final: bytes) -> None:
        self._depth[self._screen] += 1

    def _pop_keyboard(self, values: bytes, final: bytes) -> None:
        screen = self._screen
        left = self._depth[screen] - max(_numbers(values)[0], 1)
        if left < 0:
            self._flags[screen] = 0  # a stack that is emptied has no flags
        self._depth[screen] = max(left, 0)

    def _set_keyboard(self, values: bytes, final: bytes) -> None:
        screen = self._screen
        if not self._depth[screen]:
            flags, how = (*_numbers(values), 1)[:2]
            before = self._flags[screen]
            self._flags[screen] = {2: before | flags, 3: before & ~flags}.get(how, flags)

    def _set_keys(self, values: bytes, final: bytes) -> None:
        """Set one resource, or with no value give it back: "CSI > 4 ; 2 m", "CSI > 4 m", "CSI > m"."""
        first, value = [*values.split(b";"), b""][:2]
        if not first:
            self._keys = {key: undo for key, undo in self._keys.items() if not key.endswith(final)}
        elif _numbers(first)[0] in _KEY_RESOURCES:
            key = b"%d" % _numbers(first)[0] + final
            self._note(
                self._keys, key, value not in ((b"", b"0") if key == b"4m" else (b"",)), CSI + b">" + key
            )

    def _disable_keys(self, values: bytes, final: bytes) -> None:
        """Switch a resource off, "CSI > 4 n": for xterm that is not how it begins."""
        self._set_keys(b"%d;-1" % _numbers(values)[0], b"m")

    def _set_cursor_style(self, values: bytes, final: bytes) -> None:
        self._note(self._others, b" q", _numbers(values)[0] != 0, CSI + b"0 q")

    def _set_console_cursor(self, values: bytes, final: bytes) -> None:
        self._note(self._others, b"?c", _numbers(values)[0] != 0, CSI + b"?0c")

    def _move_title(self, values: bytes, final: bytes) -> None:
        deed, which = (*_numbers(values), 0)[:2]
        titles = _TITLES.get(which, 0)
        if deed == 22 and titles:
            self._titles = [*self._titles, titles][-_MAX_TITLES:]
        elif deed == 23:
            for at in reversed(range(len(self._titles))):
                self._titles[at], titles = self._titles[at] & ~titles, titles & ~self._titles[at]
            self._titles = [pushed for pushed in self._titles if pushed]

    def _command(self, text: bytes) -> None:
        """Take in an OSC with its end: hyperlinks, colours and the progress bar."""
        if text == b"R":
            self._others.pop(b"console palette", None)
            return
        if not text.endswith((b"\x07", ST)):
            self._others[b"console palette"] = OSC + b"R" + ST
            return
        number, *values = text[: -2 if text.endswith(ST) else -1].split(b";")
        if number == b"8" and values:
            self._link = values[1:] not in ([], [b""])
        elif number == b"9" and values[:1] == [b"4"]:
            self._note(self._others, b"9", values[1:2] not in ([], [b"0"]), OSC + b"9;4;0" + ST)
        elif number == b"4":
            for colour, value in zip(map(_colour, values[::2]), values[1::2]):
                if value != b"?" and colour < _PALETTE:
                    self._others[b"4;%d" % colour] = OSC + b"104;%d" % colour + ST
        elif number == b"104":
            for key in [b"4;%d" % _colour(value) for value in values if value.isdigit()] or list(
                self._others
            ):
                if key.startswith(b"4;"):
                    self._others.pop(key, None)
        elif number.isdigit() and len(number) <= 3:
            self._set_colours(int(number), values)

    def _set_colours(self, number: int, values: list[bytes]) -> None:
        """Set the dynamic colours from a number on, or give one back."""
        if number - 100 in _DYNAMIC_COLOURS:
            self._others.pop(b"%d" % number, None)
        elif number in _DYNAMIC_COLOURS:
            for colour, value in zip(range(number, _DYNAMIC_COLOURS.stop), values):
                if value not in (b"", b"?"):
                    self._others[b"%d" % (colour + 100)] = OSC + b"%d" % (colour + 100) + ST

    @staticmethod
    def _note(where: dict[bytes, bytes], key: bytes, is_set: bool, undo: bytes) -> None:
        if is_set:
            where[key] = undo
        else:
            where.pop(key, None)

    # Taking back.  Each step is fed to the tracker before the next one is asked for.

    def _steps(self) -> Iterator[bytes]:
        """Return the sequences in their order: what was cut off, this screen, the main screen, the rest."""
        if self._rest or self._string is not None:
            # Not ST alone: it would have half a clipboard or half a title take effect.
            yield _CAN
        if self._open or self._string is not None:
            yield ST
        if 2026 in self._modes:
            yield CSI + b"?2026l"
        yield from self._screen_steps()
        if self._alternate is not None:
            yield CSI + b"?%dl" % self._alternate
            how_restored = self._how_restored
            if how_restored:
                yield how_restored
            yield from self._screen_steps()
        for mode, (default, _) in ANSI_MODES.items():
            if mode in self._ansi_modes:
                yield CSI + b"%d%c" % (mode, b"h" if default else b"l")
        if self._keypad:
            yield b"\x1b>"  # not ?66l, which the Linux console does not know
        for mode, (default, _) in PRIVATE_MODES.items():
            if mode in self._modes:
                yield CSI + b"?%d%c" % (mode, b"h" if default else b"l")
        yield from list(self._others.values())
        for titles in self._titles[::-1]:
            yield CSI + b"23;%dt" % (titles % 3)

    def _screen_steps(self) -> Iterator[bytes]:
        """Return what belongs to one screen, or comes back with its saved cursor."""
        yield from list(self._keys.values())
        if self._depth[self._screen]:
            yield CSI + b"<%du" % self._depth[self._screen]
        if self._flags[self._screen]:
            yield CSI + b"=0;1u"
        yield from self._margin_steps()
        if self._shifted:
            yield _SI
        for number in sorted(self._sets):
            yield ESC + _DESIGNATE[number] + _ASCII
        if self._attributes:
            # The Linux console keeps the font through SGR 0.
            yield CSI + (b"0;10m" if self._attributes & _FONT else b"0m")
        if self._link:
            yield OSC + b"8;;" + ST

    def _margin_steps(self) -> Iterator[bytes]:
        """Return what frees the margins: all of it sends the cursor home.

        Saving the cursor saves origin mode too, so where that is on nothing brings the cursor back;
        in the last row it overwrites nothing.
        """
        origin, sides = 6 in self._modes, 69 in self._modes
        if not (origin or sides or self._region):
            return
        brought_back = self._alternate == 1049 or (self._alternate is not None and self._how_restored)
        bracket = not (origin or brought_back)
        if bracket:
            yield b"\x1b7"
        if origin:
            yield CSI + b"?6l"
        if sides:
            yield CSI + b"?69l"
        if self._region:
            yield CSI + b"r"
        if bracket:
            yield b"\x1b8"
        elif not brought_back:
            yield CSI + b"999B"

    @property
    def _how_restored(self) -> bytes:
        """How the main screen's cursor is restored that the remote saved and did not restore yet."""
        saved = self._saved[_MAIN]
        return saved[4] if saved else b""


# ESC FINAL, or "[" and the PREFIX, MIDDLE and FINAL of a control sequence.
_FUNCTIONS: dict[bytes, Callable[[Tracker, bytes, bytes], None]] = {
    b"7": Tracker._save_cursor,
    b"8": Tracker._restore_cursor,
    b"=": Tracker._switch_keypad,
    b">": Tracker._switch_keypad,
    b"c": Tracker._hard_reset,
    b"n": Tracker._shift,
    b"o": Tracker._shift,
    b"[?h": Tracker._switch_private_modes,
    b"[?l": Tracker._switch_private_modes,
    b"[h": Tracker._switch_ansi_modes,
    b"[l": Tracker._switch_ansi_modes,
    b"[!p": Tracker._soft_reset,
    b"[r": Tracker._set_region,
    b"[s": Tracker._save_cursor,
    b"[u": Tracker._restore_cursor,
    b"[>u": Tracker._push_keyboard,
    b"[<u": Tracker._pop_keyboard,
    b"[=u": Tracker._set_keyboard,
    b"[>m": Tracker._set_keys,
    b"[>n": Tracker._disable_keys,
    b"[>f": Tracker._set_keys,
    b"[ q": Tracker._set_cursor_style,
    b"[?c": Tracker._set_console_cursor,
    b"[t": Tracker._move_title,
}
# Those before which _style() must have caught up.
_STYLED = {b"7", b"8", b"c", b"n", b"o", b"[s", b"[u", b"[!p"}


@lru_cache(maxsize=1024)
def _numbers(values: bytes) -> tuple[int, ...]:
    """Return the parameters of a control sequence, 0 for those left out: at least one."""
    return tuple(int(value) if value.isdigit() else 0 for value in values.split(b";"))


def _colour(digits: bytes) -> int:
    """Return the number of a palette's colour, or one beyond them all: int() does not take every length."""
    return int(digits) if digits.isdigit() and len(digits) <= 9 else _PALETTE


def _switch(modes: set[int], mode: int, on: bool) -> None:
    (modes.add if on else modes.discard)(mode)


@lru_cache(maxsize=1024)
def _attributes(values: bytes) -> tuple[int, int]:
    """Return which attributes an SGR keeps and which it adds, as bits by their place in ATTRIBUTES."""
    kept, added = _ALL_ATTRIBUTES, 0
    parameters = iter(values.split(b";"))
    for parameter in parameters:
        first, *parts = parameter.split(b":")
        code = _numbers(first)[0]
        off = _ALL_ATTRIBUTES if code == 0 else _ATTRIBUTE_OFF.get(code, 0)
        if code == 4 and parts == [b"0"]:
            off = _ATTRIBUTE_ON[4]
        else:
            added |= _ATTRIBUTE_ON.get(code, 0)
        kept &= ~off
        added &= ~off
        if code in _EXTENDED_COLOURS and not parts:
            space = _numbers(next(parameters, b""))[0]
            for _ in range(_EXTENSION.get(space, 1) - 1):
                next(parameters, None)
    return kept, added
