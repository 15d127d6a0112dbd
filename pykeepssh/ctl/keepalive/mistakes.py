"""Mistakes with keepalive that are the same for ssh and sshd, and what is found of one.

Knows how a finding is made.  Which there are is in client_mistakes.py and server_mistakes.py.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import NamedTuple

from ...settings import seconds
from ...system.files import why_doubtful
from . import fix, grammar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Azure's load balancer and NAT forget an idle connection, silently, after this: the shortest of the
# well-known ones (AWS 350, Google 600 and 1200, Juniper 1800, Cisco ASA 3600; RFC 5382 asks for 7440).
SHORTEST_TIMEOUT_S = 240
TOO_LONG = f"some firewalls forget an idle connection after {SHORTEST_TIMEOUT_S} s"
_REFUSED = re.compile(r"(/\S.*?):? line (\d+): (.*)")
_UNKNOWN = "Bad configuration option"
_NOTHING_WORKS = "nothing works with a file that is refused"
_BY_HAND = "correct it, then ask again"


class Finding(NamedTuple):
    """One mistake.

    code     a name for programs
    file     where it is, or the file that the fix goes to; line may be None
    steps    what doctor can do about it
    by_hand  what a person is to do where that is nothing
    """

    code: str
    file: str
    line: int | None
    what: str
    why: str
    steps: tuple[fix.Step | fix.Mode, ...] = ()
    by_hand: str = ""

    @property
    def key(self) -> tuple[str, str, str]:
        """What stays the same of it when lines move."""
        return self.code, self.file, self.what


def at(setting: grammar.Setting | None, file: str) -> tuple[str, int | None]:
    """Return file and line of a setting; only the file that it would be in, where nothing sets it."""
    return (file, None) if setting is None else setting[:2]


def with_words(settings: Sequence[grammar.Setting], *words: str) -> Iterator[grammar.Setting]:
    """Yield the lines with one of some keywords."""
    lower = {word.lower() for word in words}
    return (setting for setting in settings if setting.line.keyword in lower)


def argument(setting: grammar.Setting) -> str:
    """Return the first argument of a line."""
    return os.fsdecode(setting.line.arguments[0]) if setting.line.arguments else ""


def number(text: str) -> int:
    """Return a number of seconds or of anything else, 0 where there is none."""
    return seconds(text) or 0


def only_tcp(line: grammar.Setting | None, steps: tuple[fix.Step, ...]) -> Iterator[Finding]:
    """Yield that a line with TCPKeepAlive is all that is relied upon, if there is one."""
    if line is not None:
        yield Finding(
            "tcp-keep-alive-only",
            *line[:2],
            "only TCPKeepAlive is relied upon",
            "the kernel asks for the first time after two hours as a rule; firewalls have forgotten by then",
            steps,
        )


def refused(
    said: str, main: str, seen: Sequence[Finding], settings: Sequence[grammar.Setting]
) -> Iterator[Finding]:
    """Yield what a program says against its files, unless that is explained already.

    What it says has words of the files in it, which could make one more such sentence, about another
    file: only those that were read are believed in.
    """
    lines = {(os.path.realpath(setting.file), setting.number): setting for setting in settings}
    told = [match for match in map(_REFUSED.match, said.split("; ")) if match]
    places = [(os.path.realpath(match[1]), int(match[2]), match[3]) for match in told]
    places = [place for place in places if place[:2] in lines]
    for file, line, what in places:
        setting = lines[file, line]
        if setting[:2] not in {(one.file, one.line) for one in seen}:
            # What else is wrong may be needed, with another value.
            steps = (fix.Edit(setting, ""),) if what.startswith(_UNKNOWN) else ()
            yield Finding("refused", setting.file, line, what, _NOTHING_WORKS, steps, _BY_HAND)
    if not places and not seen:
        yield Finding("refused", main, None, said, _NOTHING_WORKS, (), _BY_HAND)


def open_to_others(paths: Sequence[str], why: str) -> Iterator[Finding]:
    """Yield the files that others could change.

    Only a person can tell whether somebody has done so: what a file says counts once its mode is good.
    """
    for path in dict.fromkeys(paths):
        try:
            found = os.stat(path)
            doubtful = why_doubtful(path)
        except OSError:
            continue
        mode = stat.S_IMODE(found.st_mode)
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            safe = not doubtful and found.st_uid == os.geteuid()
            steps = (fix.Mode(path, mode),) if safe else ()
            by_hand = f"look through it first, then: chmod go-w {shlex.quote(path)}"
            what = f"mode {mode:04o}: others may write to it"
            yield Finding("mode", path, None, what, why, steps, by_hand)
        if found.st_uid not in (0, os.getuid()):
            by_hand = f"look through it first, then: chown {os.getuid()} {shlex.quote(path)}"
            yield Finding("owner", path, None, f"it belongs to user {found.st_uid}", why, (), by_hand)
