"""What a process that is known to be sshd says of itself: its command line and its title.

Knows the letters of sshd's options and how sshd writes its title.  Must not know processes: a title can
be written by anybody, so that whose process it is, and which program, is asked before.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIG = "/etc/ssh/sshd_config"  # of an sshd without -f
# As sshd.c gives them to getopt(3): C:E:b:c:f:g:h:k:o:p:u:46DGQRTdeiqrtV
_WITH_ARGUMENT = "CEbcfghkopu"
# Only checks a file (t, T, G), says its version (V), serves one connection (R, i).
_NO_DAEMON = "tTGVRi"
_TITLE, _LISTENS = "sshd: ", " [listener]"
_WHERE = ("port", "listenaddress")  # sshd_config(5)


def daemon_words(cmdline: Sequence[str]) -> list[str] | None:
    """Return the words that an sshd was started with, if it is the one that waits for connections.

    From 8.2 on its title tells them ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"); before,
    it has no title, while the processes of sessions always have one.  sshd wants its own path in full.
    """
    text = " ".join(cmdline)
    if text.startswith(f"{_TITLE}/") and _LISTENS in text:
        return text[len(_TITLE) : text.index(_LISTENS)].split()
    if not text.startswith("/") or any(letter in _NO_DAEMON for letter, _ in options(cmdline)):
        return None
    return list(cmdline)


def options(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the options of sshd's command line, each as its letter and its argument or ""."""
    found: list[tuple[str, str]] = []
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or word in ("-", "--"):
            break
        for at, letter in enumerate(word[1:], 2):
            if letter in _WITH_ARGUMENT:
                found.append((letter, word[at:] or next(rest, "")))
                break
            found.append((letter, ""))
    return found


def config_of(words: Sequence[str]) -> str:
    """Return the configuration file that a command line names, or the usual one."""
    return next((argument for letter, argument in reversed(options(words)) if letter == "f"), CONFIG)


def says_where(words: Sequence[str]) -> bool:
    """Tell whether a command line says itself on which addresses to listen, whatever the file says."""
    return any(
        letter == "p" or (letter == "o" and argument.lower().startswith(_WHERE))
        for letter, argument in options(words)
    )
