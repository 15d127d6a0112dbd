"""The terminal modes that the remote side has set, and the bytes that take them back.

Knows the control functions of ECMA-48, of xterm (ctlseqs) and of those who came after it: kitty, far2l, the
Linux console (console_codes(4)).  Must not know where the bytes come from, what the terminal is, or when the
modes are taken back.

For each matter the last word counts, and what is set is kept with the bytes that take it back.  Where
terminals differ, a sequence too many is sent rather than one too few, and only such a one that changes
nothing where it is not needed.
"""

from __future__ import annotations

import re
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

ESC, CSI, OSC, ST = b"\x1b", b"\x1b[", b"\x1b]", b"\x1b\\"
LAST_ROW = CSI + b"999B"  # there the cursor goes where nothing else brings it back
_BEL, _CAN, _SO, _SI = b"\x07", b"\x18", b"\x0e", b"\x0f"

# Mode: how it is in a fresh terminal, set (h) or reset (l).  Not in the table: ?3, which clears the screen;
# ?1007 and ?1034, which some terminals begin with and others not.
MODES = {
    b"?9": b"l",  # mouse: press only, as in X10
    b"?1000": b"l",  # mouse: press and release
    b"?1001": b"l",  # mouse: highlighting, which hangs a terminal that gets no answer
    b"?1002": b"l",  # mouse: drags too
    b"?1003": b"l",  # mouse: every motion
    b"?1004": b"l",  # focus in and out
    b"?1005": b"l",  # mouse: coordinates in UTF-8
    b"?1006": b"l",  # mouse: coordinates as SGR parameters
    b"?1015": b"l",  # mouse: coordinates as in urxvt
    b"?1016": b"l",  # mouse: coordinates in pixels
    b"?2004": b"l",  # bracketed paste
    b"?2026": b"l",  # synchronized output
    b"?2027": b"l",  # grapheme clusters
    b"?2031": b"l",  # light and dark are reported
    b"?2048": b"l",  # sizes are reported
    b"?5522": b"l",  # kitty: a paste is reported, not sent
    b"?7727": b"l",  # mintty: the escape key is told apart
    b"?9001": b"l",  # Windows' console: every key as an event
    b"?19997": b"l",  # kitty: Ctrl-C and Ctrl-Z are signals of its own
    b"?1": b"l",  # application cursor keys
    b"?4": b"l",  # smooth scrolling
    b"?5": b"l",  # reverse video
    b"?6": b"l",  # origin: rows are counted from the scroll region
    b"?7": b"h",  # autowrap
    b"?8": b"h",  # keys repeat
    b"?12": b"l",  # blinking cursor
    b"?25": b"h",  # cursor shown
    b"?45": b"l",  # reverse wraparound
    b"?66": b"l",  # application keypad, as ESC = and ESC >
    b"?67": b"l",  # backspace sends BS, not DEL
    b"?69": b"l",  # left and right margins
    b"?1036": b"h",  # Alt sends ESC: so most terminals begin, and programs count on it
    b"2": b"l",  # keyboard locked
    b"4": b"l",  # insert
    b"12": b"h",  # no local echo
    b"20": b"l",  # a newline returns the carriage too
    b"34": b"h",  # screen's and tmux's: an ordinary cursor, not a very visible one
}
_UNDO_MODE = {mode: CSI + mode + fresh for mode, fresh in MODES.items()}
_SYNC, _ORIGIN, _SIDES, _REGION = *(_UNDO_MODE[mode] for mode in (b"?2026", b"?6", b"?69")), CSI + b"r"
_KEYPAD = _UNDO_MODE[b"?66"] = b"\x1b>"  # the Linux console does not know ?66
# What a soft reset, "CSI ! p", surely takes back; the mouse is not among it in xterm.
_SOFT = {_REGION, *(_UNDO_MODE[mode] for mode in (b"?1", b"?6", b"?25", b"?66", b"2", b"4"))}

# The alternate screen; 1048 is only the cursor, saved and restored.
_SCREENS, _WITH_CURSOR, _CURSOR = (b"?47", b"?1047", b"?1049"), b"?1049", b"?1048"
_RESTORED_BY = {b"7": b"\x1b8", b"[s": b"\x1b8", _CURSOR: CSI + _CURSOR + b"l"}

_KEYBOARD = CSI + b"=0;1u"  # kitty's flags
# Set by any value but 0: the cursor's style, and the Linux console's.
_UNDO_VALUE = {b"[ q": CSI + b"0 q", b"[?c": CSI + b"?0c", b"[=u": _KEYBOARD}
_ZERO = re.compile(rb"0*(?:;1)?")
_POINTER, _PROGRESS, _PALETTE = OSC + b"22;" + ST, OSC + b"9;4;0" + ST, OSC + b"R" + ST
_FAR2L = b"_far2l"
_OF_SCREEN = (_KEYBOARD, _POINTER)  # kitty has them for the main and the alternate screen

# Styles come back with a saved cursor, and stand in all output: they are not followed, but taken back once
# they were used.  10 is for the Linux console, whose 0 keeps the font.
_ATTRIBUTES, _LINK = CSI + b"0;10m", OSC + b"8;;" + ST
_G0, _G1, _G2, _G3 = b"\x1b(B", b"\x1b)B", b"\x1b*B", b"\x1b+B"
_STYLES = {
    b"[m": _ATTRIBUTES,
    **dict.fromkeys((b"n", b"o"), _SI),
    **dict(zip((b"(", b")", b"*", b"+", b"-", b".", b"/"), (_G0, _G1, _G2, _G3, _G1, _G2, _G3))),
}

# CSI > N ; VALUE m: 4 is modifyOtherKeys, 1 modifyCursorKeys…
_KEY_RESOURCES = [b"%d" % number for number in range(8)]
# OSC 4; xterm has eight special ones behind the others.
_COLOURS = {b"%d" % number for number in range(256 + 8)}
# OSC 10 is the foreground, 11 the background, 12 the cursor…; 110 takes 10 back.
_DYNAMIC_COLOURS = [b"%d" % number for number in range(10, 20)]
_RESET_COLOURS = [b"1" + number for number in _DYNAMIC_COLOURS]
# What pushes or pops all colours, xterm's way and kitty's: what pops them.
_POP_XTERM, _POP_KITTY = CSI + b"#Q", OSC + b"30101" + ST
_COLOUR_STACKS = {b"[#P": _POP_XTERM, b"[#Q": _POP_XTERM, b"30001": _POP_KITTY, b"30101": _POP_KITTY}
_MOST_PUSHED = 16  # xterm keeps 10

# Longer ones no terminal takes in; a sequence must be given up at the same byte however it is cut.
_KEPT_BYTES = 8192  # "OSC 4" with 256 colours is 6 kB
_VALUES = rb"[0-9:;]{0,256}"
_INSIDE = rb"[\0-\x17\x19\x1c-?\x7f]"
_CONTROLS = bytes([*range(0x20), 0x7F])
# OSC, DCS, SOS, PM, APC and screen's title.  What sets the Linux console's palette begins as an OSC, but has
# no end.
_STRINGS = (b"]", b"P", b"X", b"^", b"_", b"k")
_SET_PALETTE = rb"P[0-9A-Fa-f]{7}|R"
_STRING = rb"\](?!%b)[^\x07\x18\x1a\x1b]*|[PX^_k][^\x18\x1a\x1b]*" % _SET_PALETTE
# tmux's passthrough doubles each ESC in it and takes CAN and SUB as content.
_PASSTHROUGH = rb"Ptmux;(?:[^\x1b]+|\x1b[^\\])*"
_UNFINISHED = re.compile(rb"\x1b(?:[ -/]{0,4}|\[%b{0,513}|(?:%b)\x1b?)\Z" % (_INSIDE, _STRING))


@lru_cache(maxsize=8)
def _sequences(attributes: bool, drawing: bool, link: bool) -> re.Pattern[bytes]:
    """Return what finds sequences, but for those that need no step of Python.

    These move the cursor, paint, end a style, or use one of the three that was used before.
    """
    passed = rb"\[" + _VALUES + (rb"[@-gi-km-qv-~]" if attributes else rb"[@-gi-kn-qv-~]|\[[0:;]{0,256}m")
    passed += rb"|\([0-~]" if drawing else rb"|\(B"
    passed += rb"|\]8;[^\x07\x18\x1a\x1b]*(?:\x07|\x1b\\)" if link else rb"|\]8;;(?:\x07|\x1b\\)"
    control_sequence = rb"(\[[<-?]?)(%b)(?![0-?])(%b{0,256}[@-~])" % (_VALUES, _INSIDE)
    other = rb"([ -/]{1,4}[0-~]|[0-OQ-WYZ`-jl-~]|\](?:%b)|(?:%b|%b)(?:\x07|\x1b\\)?)" % (
        _SET_PALETTE,
        _PASSTHROUGH,
        _STRING,
    )
    return re.compile(rb"\x1b(?!%b|\\)(?:%b|%b)?" % (passed, control_sequence, other))


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
        self._in_passthrough = False  # at the end of what was followed
        self._styles: set[bytes] = set()  # what takes back those that were used
        self._reset()

    def _reset(self, key: bytes = b"", values: bytes = b"") -> None:
        self._set: set[bytes] = set()  # what takes back what is set
        self._may_be_inside = False  # whether some terminals are still in a string that others have left
        self._alternate = b""  # the mode that opened the alternate screen
        self._restored_by = b""  # what restores the cursor saved on the main screen, if it was not yet
        self._saved_origin = False  # whether origin mode may come back with a saved cursor
        # Of the main and the alternate screen: as _set; how many states are on kitty's keyboard stack.
        self._of_screen: tuple[set[bytes], set[bytes]] = (set(), set())
        self._keyboards = [0, 0]
        self._pushed: list[bytes] = []  # what pops titles and colours

    @property
    def is_alternate(self) -> bool:
        """Whether the alternate screen is shown."""
        return bool(self._alternate)

    @property
    def is_inside(self) -> bool:
        """Whether the last byte stands inside a sequence, which nothing of ours may interrupt."""
        return bool(self._rest)

    def feed(self, data: bytes) -> None:
        """Take in bytes that are written to the terminal, cut anywhere."""
        if _SO in data:
            self._styles.add(_SI)
        data = self._rest + data
        if ESC not in data:
            return
        unfinished = _UNFINISHED.search(data, max(data.rfind(ESC, 0, -1), 0))
        end = unfinished.start() if unfinished else len(data)
        self._in_passthrough = False
        self._follow(data[:end])
        self._rest = data[end:]
        if self._in_passthrough:
            self._rest = b"\x1bPtmux;" + ESC * _ends_in_half_a_pair(data[:end]) + self._rest
        if len(self._rest) > _KEPT_BYTES:
            self._rest = self._rest[:_KEPT_BYTES] + (ESC if data.endswith(ESC) else b"")

    def undo(self) -> bytes:
        """Return the bytes that take back what is set, b"" if nothing is; forget it all.

        They neither clear the screen nor move the cursor, but for what leaving the alternate
        screen does, and for origin mode, after which the cursor goes to the last row.
        """
        steps = [_CAN] if self._rest else []
        if self._rest[1:2] in _STRINGS or self._may_be_inside:
            # Not alone: it would have half a clipboard or half a title take effect.
            steps.append(ST)
        steps += {_SYNC} & self._set
        if self._alternate:
            comes_back = bool(self._restored_by) or self._alternate == _WITH_CURSOR
            steps += [self._undo_screen(comes_back), CSI, self._alternate, b"l", self._restored_by]
            self._alternate = b""
            if comes_back:
                self._restore_cursor()
        steps.append(self._undo_screen())
        steps += sorted(self._styles)
        steps += sorted(self._set - {_SYNC})
        steps += reversed(self._pushed)
        self._rest = b""
        self._styles = set()
        self._reset()
        return b"".join(steps)

    def _undo_screen(self, comes_back: bool = False) -> bytes:
        """Take back what each screen has of its own, and the margins, which send the cursor home.

        comes_back  whether the cursor is restored afterwards anyway
        """
        pushed = self._keyboards[self.is_alternate]
        steps = [CSI + b"<%du" % pushed] if pushed else []
        steps += sorted(self._of_screen[self.is_alternate])
        margins = [undo for undo in (_ORIGIN, _SIDES, _REGION) if undo in self._set]
        self._set.difference_update(margins)
        if comes_back or not margins:
            steps += margins
        elif _ORIGIN in margins:
            # A saved cursor brings origin mode back; in the last row ours overwrites nothing.
            steps += [*margins, LAST_ROW]
        else:
            steps += [b"\x1b7", *margins, b"\x1b8"]
        return b"".join(steps)

    def _note(self, undo: bytes, is_set: bool) -> None:
        where = self._of_screen[self.is_alternate] if undo in _OF_SCREEN else self._set
        (where.add if is_set else where.discard)(undo)

    def _follow(self, data: bytes) -> None:
        """Take in sequences that are complete."""
        used = [style in self._styles for style in (_ATTRIBUTES, _G0, _LINK)]
        for start, values, final, text in _sequences(*used).findall(data):
            key = start + final or text[:1]
            if key in _FUNCTIONS:
                _FUNCTIONS[key](self, key, values or text[1:])
            elif start and key != key.translate(None, _CONTROLS):
                # Controls are obeyed as if they stood before (ECMA-48 leaves it open, DEC's do it).
                self._follow(ESC + (start + values + final).translate(None, _CONTROLS))

    # The functions: key is ESC's final, or the control sequence without its values.

    def _soft_reset(self, key: bytes, values: bytes) -> None:
        self._set -= _SOFT

    def _switch_modes(self, key: bytes, values: bytes) -> None:
        prefix, to = key[1:-1], key[-1:]
        for value in values.split(b";"):
            mode = prefix + value.lstrip(b"0")
            if mode in MODES:
                self._note(_UNDO_MODE[mode], to != MODES[mode])
            elif mode in _SCREENS:
                self._switch_screen(mode, to == b"h")
            elif mode == _CURSOR and to == b"h":
                self._save_cursor(mode)
            elif mode == _CURSOR:
                self._restore_cursor()

    def _switch_screen(self, mode: bytes, to: bool) -> None:
        if to and not self._alternate:
            if mode == _WITH_CURSOR:
                self._save_cursor(mode)
            self._alternate = mode
        elif self._alternate and not to:
            self._alternate = b""
            if mode == _WITH_CURSOR:
                self._restore_cursor()

    def _save_cursor(self, key: bytes, values: bytes = b"") -> None:
        if values:  # "CSI LEFT;RIGHT s" sets margins
            return
        self._saved_origin |= _ORIGIN in self._set
        if not self._alternate:
            self._restored_by = _RESTORED_BY.get(key, b"")

    def _restore_cursor(self, key: bytes = b"", values: bytes = b"") -> None:
        if values:  # "CSI NUMBER u" is a key
            return
        if self._saved_origin:
            self._set.add(_ORIGIN)
        if not self._alternate:
            self._restored_by = b""

    def _switch_keypad(self, key: bytes, values: bytes) -> None:
        self._note(_KEYPAD, key == b"=")

    def _set_value(self, key: bytes, values: bytes) -> None:
        self._note(_UNDO_VALUE[key], not _ZERO.fullmatch(values))

    def _set_region(self, key: bytes, values: bytes) -> None:
        top, bottom = _numbers(values + b";")[:2]
        if not bottom or top < bottom:  # others are ignored
            is_set = top > 1 or (bottom > 0 and not 0 < self.rows <= bottom)
            self._note(_REGION, is_set)

    def _use_style(self, key: bytes, values: bytes) -> None:
        if ESC + key + values != _STYLES[key]:
            self._styles.add(_STYLES[key])

    def _set_keyboard(self, key: bytes, values: bytes) -> None:
        if not self._keyboards[self.is_alternate]:  # otherwise it goes with what was pushed
            self._set_value(key, values)

    def _push_keyboard(self, key: bytes, values: bytes) -> None:
        self._keyboards[self.is_alternate] += 1

    def _pop_keyboard(self, key: bytes, values: bytes) -> None:
        left = self._keyboards[self.is_alternate] - max(_numbers(values)[0], 1)
        self._keyboards[self.is_alternate] = max(left, 0)

    def _set_keys(self, key: bytes, values: bytes) -> None:
        """Set a resource or give it back, "CSI > 4 ; 2 m" and "CSI > 4 m"; without a number, all of them."""
        number, _, value = values.partition(b";")
        for resource in [number] if number else _KEY_RESOURCES:
            if resource in _KEY_RESOURCES:
                self._note(CSI + b">" + resource + key[-1:], number != b"" and value != b"")

    def _disable_keys(self, key: bytes, values: bytes) -> None:
        """Switch a resource off, "CSI > 4 n": for xterm that is not how it begins."""
        self._set_keys(b"[>m", (values or b"2") + b";-1")

    def _move_title(self, key: bytes, values: bytes) -> None:
        """Push the icon name (1), the window's title (2) or both, "CSI 22;N t", or pop it, "CSI 23;N t"."""
        deed, which = _numbers(values + b";")[:2]
        if deed in (22, 23) and which in (0, 1, 2):
            self._push_or_pop(deed == 22, CSI + b"23;%dt" % which)

    def _move_colours(self, key: bytes, values: bytes = b"") -> None:
        self._push_or_pop(key in (b"[#P", b"30001"), _COLOUR_STACKS[key])

    def _push_or_pop(self, push: bool, pop: bytes) -> None:
        if push:
            self._pushed = [*self._pushed, pop][-_MOST_PUSHED:]
        elif pop in self._pushed:
            self._pushed.remove(pop)

    def _take_string(self, key: bytes, text: bytes) -> None:
        """Take in a string with its end; where others give it up, kitty and tmux may stay in it until ST."""
        if key + text[:5] == _FAR2L:  # which takes BEL for an end
            self._note(ESC + _FAR2L + b"0" + ST, text[5:6] == b"1")
        if key == b"P" and text.startswith(b"tmux;"):
            self._in_passthrough = not (text.endswith(ST) and _ends_in_half_a_pair(text[:-1]))
        elif not text.endswith(ST):
            self._may_be_inside = True

    def _take_command(self, key: bytes, text: bytes) -> None:
        """Take in an OSC with its end, or what sets the Linux console's palette, which has none."""
        if text.endswith((ST, _BEL)):
            text = text[: -1 if text.endswith(_BEL) else -2]
            self._command(*text[: _KEPT_BYTES - 2].split(b";"))
        elif re.fullmatch(_SET_PALETTE, text):
            self._note(_PALETTE, text != b"R")
        else:
            self._take_string(key, text)

    def _command(self, number: bytes, *values: bytes) -> None:
        """Take in an OSC: links, colours, the pointer, the progress bar."""
        if number == b"8":
            self._styles.add(_LINK)
        elif number == b"4":
            for colour, value in zip(values[::2], values[1::2]):
                if colour in _COLOURS and value != b"?":
                    self._set.add(OSC + b"104;" + colour + ST)
        elif number == b"104":
            for colour in values or _COLOURS:
                self._set.discard(OSC + b"104;" + colour + ST)
        elif number in _DYNAMIC_COLOURS:
            first = _DYNAMIC_COLOURS.index(number)
            for colour, value in zip(_DYNAMIC_COLOURS[first:], values):
                if value not in (b"", b"?"):
                    self._set.add(OSC + b"1" + colour + ST)
        elif number in _RESET_COLOURS:
            self._set.discard(OSC + number + ST)
        elif number in _COLOUR_STACKS:
            self._move_colours(number)
        elif number == b"9" and values[:1] == (b"4",):
            self._note(_PROGRESS, values[1:2] not in ((), (b"0",)))
        elif number == b"22" and values and values[0][:1] not in (b"<", b"?"):
            self._note(_POINTER, values[0] != b"")  # empties kitty's stack too


# By ESC's final or the first byte behind it; by the control sequence without its values.
_FUNCTIONS: dict[bytes, Callable[[Tracker, bytes, bytes], None]] = {
    b"7": Tracker._save_cursor,
    b"8": Tracker._restore_cursor,
    **dict.fromkeys((b"=", b">"), Tracker._switch_keypad),
    b"c": Tracker._reset,
    **dict.fromkeys(_STRINGS, Tracker._take_string),
    b"]": Tracker._take_command,
    **dict.fromkeys(_STYLES, Tracker._use_style),
    **dict.fromkeys((b"[h", b"[l", b"[?h", b"[?l"), Tracker._switch_modes),
    **dict.fromkeys(_UNDO_VALUE, Tracker._set_value),
    b"[!p": Tracker._soft_reset,
    b"[r": Tracker._set_region,
    b"[s": Tracker._save_cursor,
    b"[u": Tracker._restore_cursor,
    b"[=u": Tracker._set_keyboard,
    b"[>u": Tracker._push_keyboard,
    b"[<u": Tracker._pop_keyboard,
    **dict.fromkeys((b"[>m", b"[>f"), Tracker._set_keys),
    b"[>n": Tracker._disable_keys,
    b"[t": Tracker._move_title,
    **dict.fromkeys((b"[#P", b"[#Q"), Tracker._move_colours),
}


def _numbers(values: bytes) -> list[int]:
    """Return the parameters of a control sequence, 0 for those left out: at least one."""
    return [int(value) if value.isdigit() else 0 for value in values.split(b";")]


def _ends_in_half_a_pair(data: bytes) -> bool:
    """Tell whether the last ESC of a passthrough is not yet doubled."""
    return (len(data) - len(data.rstrip(ESC))) % 2 == 1
