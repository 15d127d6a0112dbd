"""The grammar of ssh's command line.

Knows which letters take an argument and how ssh's getopt(3) walks the words.  Must not know what
any option means to kssh: that is plan.py.

Source: ssh.c main() of openssh-portable 7.4 to 10.x, openbsd-compat/getopt_long.c.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FLAGS = frozenset("1246ACGKMNTVXYZafgknqstvxy")
TAKES_ARGUMENT = frozenset("BDEFIJLOQRSWbceilmopw")
# -P was an ignored flag up to 9.3 and takes a tag since 9.4: the caller says which.
TAG = "P"
# These ask ssh for something other than a connection.
QUERIES = frozenset("VQGOZ")
# remaining: HUdhjruz; an unknown letter is passed on as a flag, and ssh says what it thinks of it
_MASTERS = ("yes", "true", "auto", "ask", "autoask")  # readconf.c, multistate_controlmaster
_SEPARATORS = str.maketrans('="\t\r\n', "     ")  # misc.c, strdelim()


class Option:
    """One option as getopt saw it: its letter, its argument or None, and where the letter stands."""

    __slots__ = ("char", "letter", "value", "word")

    def __init__(self, letter: str, value: str | None, word: int, char: int) -> None:
        self.letter = letter
        self.value = value
        self.word = word  # index of the word that holds the letter
        self.char = char  # index of the letter in that word


class CommandLine:
    """What ssh reads from its words.

    words        all words after the program's name, as given
    options      every Option in order, from before and after the destination
    destination  the word that names the host, or None
    command      the words of the remote command; never parsed
    insert_at    index in words behind the last option that ssh reads: added options go there
    complete     False if ssh will refuse the words: an option lacks its argument, no destination
                 follows, or a dash stands among the letters ("-N-")
    long_option  the first word such as "--help" where ssh expects options, or None
    """

    __slots__ = (
        "command",
        "complete",
        "destination",
        "insert_at",
        "long_option",
        "options",
        "words",
    )

    def __init__(self, words: Sequence[str]) -> None:
        self.words = tuple(words)
        self.options: list[Option] = []
        self.destination: str | None = None
        self.command: tuple[str, ...] = ()
        self.insert_at = 0
        self.complete = True
        self.long_option: str | None = None

    def count(self, letter: str) -> int:
        """Return how often a letter was given."""
        return sum(option.letter == letter for option in self.options)

    def values(self, letter: str) -> list[str]:
        """Return the arguments given to a letter, in order."""
        return [o.value for o in self.options if o.letter == letter and o.value is not None]

    def keyword(self, keyword: str) -> str | None:
        """Return what the first -o for a configuration keyword says, in lower case; None if there is none.

        The line is split as readconf.c would; of the value it is the first word, or "".
        """
        for value in self.values("o"):
            name, *words = value.translate(_SEPARATORS).lower().split() or [""]
            if name == keyword.lower():
                return words[0] if words else ""
        return None

    def has_keyword(self, keyword: str) -> bool:
        """Tell whether -o sets a configuration keyword."""
        return self.keyword(keyword) is not None

    @property
    def asks_to_be_master(self) -> bool:
        """Whether ssh is to be the master of a shared connection: over -M no ControlMaster wins (ssh.c)."""
        return bool(self.count("M")) or self.keyword("ControlMaster") in _MASTERS

    @staticmethod
    def setting(option: Option) -> tuple[str, str]:
        """Return the keyword in lower case that an "-o" sets and its value; "" and "" for another option."""
        if option.letter != "o" or option.value is None:
            return "", ""
        text = option.value.strip()
        end = next((i for i, char in enumerate(text) if char in "= \t"), len(text))
        value = text[end:].lstrip()
        return text[:end].lower(), value.removeprefix("=").strip()

    def with_options(
        self,
        first: Sequence[str] = (),
        last: Sequence[str] = (),
        without: str = "",
        instead: Mapping[int, str] | None = None,
    ) -> list[str]:
        """Return the words with "-o" options added and flags taken out.

        first    keywords ("LogLevel=DEBUG1") that must win: they stand before all other words
        last     whole words that must lose: they stand behind the last option that ssh reads
        without  flag letters whose work kssh does itself
        instead  index in options: another argument for that option
        """
        words: list[str | None] = list(self.words)
        for index, option in reversed(list(enumerate(self.options))):  # so that char stays valid
            if instead and index in instead:
                word = words[option.word]
                assert word is not None
                if word[option.char + 1 :]:
                    words[option.word] = word[: option.char + 1] + instead[index]
                else:
                    words[option.word + 1] = instead[index]
            if option.letter in without:
                word = words[option.word]
                assert word is not None
                shorter = word[: option.char] + word[option.char + 1 :]
                # "-2" does nothing, but without it an argument of "--" before it would end the options.
                nothing = "-2" if option.word and words[option.word - 1] == "--" else None
                words[option.word] = nothing if shorter == "-" else shorter
        added = [word for keyword in first for word in ("-o", keyword)]
        head = [word for word in words[: self.insert_at] if word is not None]
        tail = [word for word in words[self.insert_at :] if word is not None]
        return added + head + list(last) + tail


def parse(words: Sequence[str], tag_takes_argument: Callable[[], bool]) -> CommandLine:
    """Read the words that follow the program's name as ssh would.

    words               the arguments, without argv[0]
    tag_takes_argument  asked once and only if -P is met: True for OpenSSH 9.4 and later
    """
    line = CommandLine(words)
    tag: bool | None = None
    index = 0
    terminated = False
    while True:
        # One run of getopt: up to the first word that is no option.
        while index < len(words) and words[index].startswith("-") and words[index] != "-":
            word = words[index]
            if word == "--":
                index += 1
                terminated = True
                break
            if word.startswith("--"):
                line.long_option = word
                line.complete = False
                return line
            start = index
            char = 1
            while char < len(word):
                letter = word[char]
                if letter == "-":
                    line.complete = False
                    return line
                if letter == TAG and tag is None:
                    tag = tag_takes_argument()
                if letter in TAKES_ARGUMENT or (letter == TAG and tag):
                    value = word[char + 1 :]
                    if not value:
                        index += 1
                        if index == len(words):
                            line.complete = False
                            return line
                        value = words[index]
                    line.options.append(Option(letter, value, start, char))
                    break
                line.options.append(Option(letter, None, start, char))
                char += 1
            index += 1
            # ssh.c asks whether the last word that getopt read is "--", so an argument counts too;
            # an option added behind such an argument would change the answer.
            terminated = words[index - 1] == "--"
            line.insert_at = start if terminated and line.destination is None else index
        if line.destination is not None:
            line.command = tuple(words[index:])
            return line
        if index == len(words):
            line.complete = False
            return line
        line.destination = words[index]
        index += 1
        if terminated:
            line.command = tuple(words[index:])
            return line
