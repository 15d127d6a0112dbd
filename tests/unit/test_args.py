"""ssh's command line: read as ssh.c reads it, and given back with nothing changed but what was asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, strategies as st

from pykeepssh.ssh.args import FLAGS, QUERIES, TAKES_ARGUMENT, CommandLine, parse


def no_tag() -> bool:
    return False


def tag() -> bool:
    return True


def never() -> bool:
    raise AssertionError("nobody had to know whether -P takes an argument")


def read(words: list[str], tag_takes_argument: Callable[[], bool] = never) -> CommandLine:
    return parse(words, tag_takes_argument)


def options(line: CommandLine) -> str:
    """Return the options as one text: "N p=22"."""
    return " ".join(o.letter if o.value is None else f"{o.letter}={o.value}" for o in line.options)


# words | options | destination | command | where added options go
LINES = {
    "nothing but a host": (["h"], "", "h", [], 0),
    "a command": (["h", "ls", "-l"], "", "h", ["ls", "-l"], 0),
    "a command whose first word is empty": (["h", "", "-N"], "", "h", ["", "-N"], 0),
    "flags one by one": (["-N", "-T", "h"], "N T", "h", [], 2),
    "flags in a cluster": (["-NT", "h"], "N T", "h", [], 1),
    "a glued argument": (["-p22", "h"], "p=22", "h", [], 1),
    "a separate argument": (["-p", "22", "h"], "p=22", "h", [], 2),
    "a cluster with a glued argument": (["-fNL8080:h:80", "h"], "f N L=8080:h:80", "h", [], 1),
    "a cluster with a separate argument": (["-fNL", "8080:h:80", "h"], "f N L=8080:h:80", "h", [], 2),
    "an argument that looks like an option": (["-o", "-N", "h"], "o=-N", "h", [], 2),
    "an argument that looks like a long option": (["-i", "--help", "h"], "i=--help", "h", [], 2),
    "a glued argument that holds letters": (["-ifile-N", "h"], "i=file-N", "h", [], 1),
    "an empty argument": (["-p", "", "h"], "p=", "h", [], 2),
    "an argument that is a lone dash": (["-F", "-", "h"], "F=-", "h", [], 2),
    "options after the destination": (["h", "-p", "22", "-N"], "p=22 N", "h", [], 4),
    "options on both sides": (["-v", "h", "-p22", "ls", "-a"], "v p=22", "h", ["ls", "-a"], 3),
    "a command that begins with a dash word later": (
        ["h", "-v", "ls", "--", "-x"],
        "v",
        "h",
        ["ls", "--", "-x"],
        2,
    ),
    "two dashes before the destination": (["--", "h", "-p", "22"], "", "h", ["-p", "22"], 0),
    "two dashes behind options": (["-v", "--", "h", "-p", "22"], "v", "h", ["-p", "22"], 1),
    "two dashes before the command": (["h", "--", "ls", "--all"], "", "h", ["ls", "--all"], 0),
    "two dashes between options and command": (["h", "-v", "--", "-N"], "v", "h", ["-N"], 2),
    "two dashes at the end": (["h", "--"], "", "h", [], 0),
    "two dashes twice": (["--", "--", "-N"], "", "--", ["-N"], 0),
    "a lone dash is a destination": (["-", "-v", "x"], "v", "-", ["x"], 2),
    "a lone dash is a command": (["h", "-", "-v"], "", "h", ["-", "-v"], 0),
    "an empty destination": (["", "-v"], "v", "", [], 2),
    "a URI": (["-v", "ssh://u@h:22", "ls"], "v", "ssh://u@h:22", ["ls"], 1),
    "unknown letters are flags": (["-HUz", "h", "-j"], "H U z j", "h", [], 3),
    "no letter at all is one too": (["-:", "h"], ":", "h", [], 1),
    # ssh.c: opt_terminated is set if the last word that getopt read is "--", an argument too.
    "an argument of two dashes ends the options": (
        ["-i", "--", "h", "-p", "22"],
        "i=--",
        "h",
        ["-p", "22"],
        0,
    ),
    "unless another option follows it": (["-i", "--", "-v", "h", "-p", "22"], "i=-- v p=22", "h", [], 6),
    "behind the destination nothing ends that way": (["h", "-i", "--", "-v", "x"], "i=-- v", "h", ["x"], 4),
    "a glued argument of two dashes ends nothing": (["-i--", "h", "-v"], "i=-- v", "h", [], 3),
}


@pytest.mark.parametrize("name", LINES)
def test_words_are_read_as_ssh_reads_them(name: str) -> None:
    words, expected, destination, command, insert_at = LINES[name]
    line = read(words)
    assert options(line) == expected
    assert line.destination == destination
    assert list(line.command) == command
    assert line.insert_at == insert_at
    assert line.complete
    assert line.long_option is None
    assert line.words == tuple(words)


REFUSED = {
    "no word": [],
    "no destination": ["-N"],
    "no destination behind two dashes": ["-N", "--"],
    "an option without its argument": ["h", "-p"],
    "a cluster without its argument": ["-vNo"],
    "a dash in the middle of a cluster": ["-v-N", "h"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_command_line_that_ssh_refuses_is_not_complete(name: str) -> None:
    line = read(REFUSED[name])
    assert not line.complete
    assert line.long_option is None


def test_a_dash_at_the_end_of_a_cluster_is_left_to_ssh() -> None:
    # getopt_long.c reads -N and then hands "-N-" out once more, as destination or command.
    assert not read(["h", "-N-", "ls"]).complete


@pytest.mark.parametrize("words", [["--help"], ["-v", "--version"], ["h", "-v", "--no-such", "ls"]])
def test_a_long_option_where_options_are_read_is_noticed(words: list[str]) -> None:
    line = read(words)
    assert line.long_option == next(word for word in words if word.startswith("--"))
    assert not line.complete


def test_a_long_option_in_the_command_is_none() -> None:
    assert read(["h", "ls", "--help"]).long_option is None
    assert read(["h", "--", "--help"]).long_option is None


TAGGED = {
    "-P is a flag up to 9.3": (["-P", "h", "x"], no_tag, "P", "h", ["x"]),
    "-P takes a tag since 9.4": (["-P", "t", "h", "x"], tag, "P=t", "h", ["x"]),
    "-P in a cluster, a flag": (["-NPv", "h"], no_tag, "N P v", "h", []),
    "-P in a cluster, with its tag": (["-NPv", "h"], tag, "N P=v", "h", []),
}


@pytest.mark.parametrize("name", TAGGED)
def test_the_version_decides_about_the_tag(name: str) -> None:
    words, takes, expected, destination, command = TAGGED[name]
    line = read(words, takes)
    assert (options(line), line.destination, list(line.command)) == (expected, destination, command)


def test_the_version_is_asked_once() -> None:
    asked = []

    def takes() -> bool:
        asked.append(1)
        return False

    read(["-P", "-vP", "h", "-P"], takes)
    assert len(asked) == 1


def test_the_letters_are_those_of_ssh() -> None:
    # ssh.c of 10.x; -B came with 7.7, -J with 7.3, -Z with 10.x.
    assert sorted(FLAGS) == sorted("1246ACGKMNTVXYZafgknqstvxy")
    assert sorted(TAKES_ARGUMENT) == sorted("BDEFIJLOQRSWbceilmopw")
    assert not FLAGS & TAKES_ARGUMENT
    assert FLAGS | TAKES_ARGUMENT >= QUERIES


def test_letters_are_counted_and_their_arguments_kept_in_order() -> None:
    line = read(["-vv", "-L1:h:1", "h", "-v", "-L", "2:h:2"])
    assert line.count("v") == 3
    assert line.values("L") == ["1:h:1", "2:h:2"]
    assert line.values("v") == []
    assert line.count("N") == 0


@pytest.mark.parametrize(
    "value",
    [
        "ControlPath=/x",
        "controlpath /x",
        "CONTROLPATH\t/x",
        "  ControlPath = /x",
        "ControlPath",
        '"ControlPath" /x',
        "\tControlPath=none",
    ],
)
def test_a_keyword_is_found_however_it_is_written(value: str) -> None:
    assert read(["-o", value, "h"]).has_keyword("ControlPath")


@pytest.mark.parametrize("value", ["ControlPathX=/x", "User=ControlPath", "", "=", "ControlMaster=auto"])
def test_another_keyword_is_not_taken_for_it(value: str) -> None:
    assert not read(["-o", value, "h"]).has_keyword("ControlPath")


# What an -o says: the first word of its value, in lower case.
KEYWORDS = {
    "Port=22": "22",
    "Port 22 33": "22",
    " PORT = YES ": "yes",
    "Port": "",
    "Port=": "",
    "Ports=22": None,
}


@pytest.mark.parametrize("value", KEYWORDS)
def test_the_value_of_a_keyword_is_its_first_word(value: str) -> None:
    assert read(["-o", value, "h"]).keyword("port") == KEYWORDS[value]


def test_the_first_of_several_counts() -> None:
    assert read(["-oPort=1", "-oUser=x", "h", "-oPort=2"]).keyword("Port") == "1"


# An option: the keyword that it sets, in lower case, and all of its value.
SETTINGS = {
    "-oPort=22": ("port", "22"),
    "-o Port = 22 ": ("port", "22"),
    "-oPort\t22": ("port", "22"),
    "-oLocalForward 80 Host:80": ("localforward", "80 Host:80"),
    "-oRemoteCommand==x": ("remotecommand", "=x"),
    "-oPort": ("port", ""),
    "-o": ("", ""),
    "-p22": ("", ""),
    "-v": ("", ""),
}


@pytest.mark.parametrize("word", SETTINGS)
def test_what_an_option_sets(word: str) -> None:
    line = read([word, "", "h"] if word == "-o" else [word, "h"])
    assert line.setting(line.options[0]) == SETTINGS[word]


# Words: whether ssh is to be the master of a shared connection.
MASTERS = {
    "": False,
    "-M": True,
    "-oControlMaster=no": False,
    "-oControlMaster=none": False,
    "-M -oControlMaster=no": True,
    **{f"-oControlMaster={value}": True for value in ("yes", "true", "auto", "ask", "autoask", "Auto")},
    "-oControlMaster=no -oControlMaster=yes": False,
    "-S/s": False,
}


@pytest.mark.parametrize("words", MASTERS)
def test_whether_ssh_is_asked_to_be_a_master(words: str) -> None:
    assert read([*words.split(), "h"]).asks_to_be_master is MASTERS[words]


# Words, index of an option: the words with another argument for that option.
INSTEAD = {
    "in the same word": (["-R0:h:1", "h"], 0, ["-RX", "h"]),
    "in the next word": (["-R", "0:h:1", "h"], 0, ["-R", "X", "h"]),
    "behind flags in one word": (["-NR0:h:1", "h"], 1, ["-NRX", "h"]),
    "behind flags, in the next word": (["-NR", "0:h:1", "h"], 1, ["-NR", "X", "h"]),
    "of several": (["-R", "1:h:1", "h", "-R0:h:1", "-R", "2"], 1, ["-R", "1:h:1", "h", "-RX", "-R", "2"]),
}


@pytest.mark.parametrize("name", INSTEAD)
def test_an_argument_is_replaced(name: str) -> None:
    words, index, expected = INSTEAD[name]
    assert read(words).with_options(instead={index: "X"}) == expected


# words | first | last | without | result
ADDED = {
    "nothing": (["-v", "h", "ls"], [], [], "", ["-v", "h", "ls"]),
    "what must win stands first": (
        ["-v", "h"],
        ["A=1", "B=2"],
        [],
        "",
        ["-o", "A=1", "-o", "B=2", "-v", "h"],
    ),
    "what must lose stands behind the last option": (
        ["-v", "h", "-p", "1", "ls"],
        [],
        ["-o", "A=1"],
        "",
        ["-v", "h", "-p", "1", "-o", "A=1", "ls"],
    ),
    "before the destination if nothing follows it": (
        ["h", "ls"],
        [],
        ["-E", "f"],
        "",
        ["-E", "f", "h", "ls"],
    ),
    "before two dashes": (["-v", "--", "h"], [], ["-E", "f"], "", ["-v", "-E", "f", "--", "h"]),
    "before two dashes and the command": (
        ["h", "--", "ls"],
        [],
        ["-E", "f"],
        "",
        ["-E", "f", "h", "--", "ls"],
    ),
    "before an argument of two dashes": (
        ["-i", "--", "h"],
        [],
        ["-E", "f"],
        "",
        ["-E", "f", "-i", "--", "h"],
    ),
    "a flag alone is taken out": (["-f", "h"], [], ["-E", "f"], "f", ["-E", "f", "h"]),
    "a flag in a cluster is taken out": (["-fNL1:h:1", "h"], [], [], "f", ["-NL1:h:1", "h"]),
    "a flag before a letter whose argument follows": (["-fL", "f", "h"], [], [], "f", ["-L", "f", "h"]),
    "flags of several letters": (["-fNy", "h", "-yv"], [], [], "fy", ["-N", "h", "-v"]),
    "the same flag twice in a word": (["-ff", "h", "-vff"], [], [], "f", ["h", "-v"]),
    "a letter in an argument stays": (
        ["-iff", "-o", "f", "h", "f"],
        [],
        [],
        "f",
        ["-iff", "-o", "f", "h", "f"],
    ),
    "a letter in the command stays": (["-f", "h", "-f", "cmd", "-f"], [], [], "f", ["h", "cmd", "-f"]),
    "an argument of two dashes does not come to end the options": (
        ["-i", "--", "-f", "h", "-v"],
        [],
        [],
        "f",
        ["-i", "--", "-2", "h", "-v"],
    ),
    "bytes that are no UTF-8 stay": (["-i", "\udcff", "h\udc80"], [], [], "f", ["-i", "\udcff", "h\udc80"]),
}


@pytest.mark.parametrize("name", ADDED)
def test_options_are_added_and_flags_taken_out(name: str) -> None:
    words, first, last, without, expected = ADDED[name]
    line = read(words)
    assert line.with_options(first, last, without) == expected
    assert line.words == tuple(words)  # and may be asked again


# -- any command line -------------------------------------------------------------------------------

LETTERS = "".join(sorted(FLAGS | TAKES_ARGUMENT)) + "HUz"
PLAIN = st.text(st.sampled_from("ab -=\udcff;é"), max_size=4)
CLUSTER = st.text(st.sampled_from(LETTERS), min_size=1, max_size=4).map("-".__add__)
WORD = st.one_of(CLUSTER, st.sampled_from(["--", "-", "", "host", "-f", "-fN", "-y", "-i", "-o"]), PLAIN)
WORDS = st.lists(WORD, max_size=7)


@given(WORDS)
def test_the_words_stay_in_order_and_unchanged(words: list[str]) -> None:
    line = read(words)
    assert line.with_options() == words
    assert tuple(words[len(words) - len(line.command) :]) == line.command
    if line.complete:
        assert line.destination in words


@given(WORDS, st.lists(st.sampled_from(["LogLevel=DEBUG1", "A=f"]), max_size=2))
@example(["-i", "--", "-f", "host", "-v"], [])
@example(["-ff", "-if", "host"], [])
def test_only_the_flags_asked_for_are_taken_out(words: list[str], first: list[str]) -> None:
    line = read(words)
    assume(line.complete)
    last = ["-E", "fy"]
    after = read(line.with_options(first, last, "fy"))
    assert after.complete
    assert after.destination == line.destination
    assert after.command == line.command
    seen = [(o.letter, o.value) for o in after.options]
    users = [(o.letter, o.value) for o in line.options if o.letter not in "fy"]
    assert seen[: len(first)] == [("o", keyword) for keyword in first]
    own = seen[len(first) :]
    own.remove(("E", "fy"))
    assert [option for option in own if option != ("2", None)] == [u for u in users if u != ("2", None)]
    if "--" not in [value for _, value in users]:
        assert seen[-1] == ("E", "fy")  # so that the user's own wins


@given(WORDS)
def test_what_is_taken_out_changes_no_other_word(words: list[str]) -> None:
    line = read(words)
    remaining = line.with_options(without="f")
    shortened = {o.word for o in line.options if o.letter == "f"}
    kept = [word for index, word in enumerate(words) if index not in shortened]
    rest = iter(remaining)
    assert all(word in rest for word in kept)  # a subsequence
