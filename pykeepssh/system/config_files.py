"""The configuration files that ssh reads for a command line, looked through for keywords.

Knows where they are and how one includes another.  Must not know which lines are for which host: that
only ssh knows, and it is asked where it matters.
"""

from __future__ import annotations

import os
import pwd
import stat

from ..ssh import config
from . import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..ssh.args import CommandLine

# As the packages have it; openSUSE's ssh falls back on the second, the third is ALT Linux's.
SYSTEM_FILES = ("/etc/ssh/ssh_config", "/usr/etc/ssh/ssh_config", "/etc/openssh/ssh_config")
_OWN_FOLDER = "~/.ssh"
_WILD = "*?[]"
# To look at more takes longer than to ask ssh.
_MOST_BYTES = 256 * 1024  # of one file
_MOST_FILES = 100


class Files:
    """The files that ssh reads, and which keywords may stand in them.

    paths     the files themselves, without those that they include
    lasting   they can be read twice: -F names no FIFO and no descriptor
    anchored  no file of the system's has a relative Include, which in a user's file is another one
    """

    def __init__(self, line: CommandLine) -> None:
        """Choose the files as ssh.c does; nothing is read yet."""
        given = line.values("F")
        self.lasting = True
        self._system = not given
        self._texts: dict[tuple[str, str], bytes] = {}
        self._unsure = False
        self.anchored = True
        if not given:
            self.paths = [f"{_home()}/.ssh/config", *SYSTEM_FILES]
        elif given[-1].lower() == "none":
            self.paths = []
        else:
            self.paths = [_absolute(given[-1])]
            self.lasting = _is_lasting(self.paths[0])

    def read(self) -> None:
        """Read the files and what they include, once."""
        if not self._texts:
            for path in self.paths:
                system = self._system and path in SYSTEM_FILES
                self._read(path, os.path.dirname(path) if system else _OWN_FOLDER)

    def may_name(self, keywords: Iterable[str]) -> bool:
        """Tell whether a keyword, in lower case, may stand in a file that ssh reads, wherever that is."""
        named = self.naming(keywords)
        # A system without any of these has another one, perhaps.
        known = not self._system or any(map(os.path.exists, SYSTEM_FILES))
        return bool(named) or not known

    def naming(self, keywords: Iterable[str]) -> frozenset[str]:
        """Return which keywords, in lower case, may stand in the files; all where that is not known."""
        self.read()
        if self._unsure:
            return frozenset(keywords)
        return frozenset().union(*(config.named(text, keywords) for text in self._texts.values()))

    def may_deny(self, keyword: str) -> bool:
        """Tell whether a line may say 0 or no for a keyword, whichever host it is for."""
        return self._unsure or any(config.may_deny(text, keyword) for text in self._texts.values())

    def hold(self, word: bytes) -> bool:
        """Tell whether a word in lower case may stand anywhere in the files."""
        return self._unsure or any(word in text.lower() for text in self._texts.values())

    def _read(self, path: str, folder: str) -> None:
        """Read a file and what it includes; folder is where the relative paths in it begin."""
        if (path, folder) in self._texts or self._unsure:
            return
        self._texts[path, folder] = b""
        try:
            text = b"" if path == os.devnull else files.read_regular(path, _MOST_BYTES)
        except FileNotFoundError:
            return  # as ssh, which goes on without it or ends
        except OSError:
            text = b"\0"
        included = config.included(text) if config.is_plain(text) else None
        if included is None or len(self._texts) > _MOST_FILES:
            self._unsure = True
            return
        self._texts[path, folder] = text
        if folder != _OWN_FOLDER and not all(word.startswith(b"/") for word in included):
            self.anchored = False
        for word in map(os.fsdecode, included):
            self._include(word if word.startswith("~") else os.path.join(folder, word), folder)

    def _include(self, path: str, folder: str) -> None:
        if path.startswith("~/") and os.environ.get("HOME", "").startswith("/"):
            path = os.environ["HOME"] + path[1:]  # HOME here: as glob(3)
        above, name = os.path.split(path)
        wild = [at for at, char in enumerate(name) if char in _WILD]
        if path.startswith("~") or any(char in above for char in _WILD):
            self._unsure = True
        elif not wild:
            self._read(path, folder)
        else:
            # To import glob would cost 5 ms.  These may be more than ssh takes: that costs one question.
            for other in self._listed(above):
                if other.startswith(name[: wild[0]]) and other.endswith(name[wild[-1] + 1 :]):
                    self._read(os.path.join(above, other), folder)

    def _listed(self, folder: str) -> list[str]:
        try:
            return os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError:
            self._unsure = True
            return []


def _home() -> str:
    """Return the home directory that the password database names: never HOME, as ssh."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return "/"


def _absolute(path: str) -> str:
    try:
        return os.path.abspath(path)
    except OSError:  # the working directory is gone
        return path


def _is_lasting(path: str) -> bool:
    if path.startswith(("/dev/", "/proc/")):
        return path == os.devnull
    try:
        return not stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return True  # ssh says what it thinks of it
