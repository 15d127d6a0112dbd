"""What sshd's command line and title tell of it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pykeepssh.ctl.keepalive.sshdtitle import CONFIG, config_of, daemon_words, options, says_where


@pytest.mark.parametrize(
    ("cmdline", "words"),
    [
        (["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"], ["/usr/sbin/sshd", "-D"]),
        (
            ["sshd:", "/usr/sbin/sshd", "-f", "/x", "[listener]", "0", "of", "10-100", "startups"],
            ["/usr/sbin/sshd", "-f", "/x"],
        ),
        (["/usr/sbin/sshd", "-D"], ["/usr/sbin/sshd", "-D"]),  # before 8.2
        (["/usr/sbin/sshd", "-Dt"], None),
        (["/usr/sbin/sshd", "-T", "-f", "/x"], None),
        (["/usr/sbin/sshd", "-R"], None),
        (["sshd: jane [priv]"], None),
        (["sshd: jane@pts/0"], None),
        (["sshd: [accepted]"], None),
        (["sshd: jane [listener] [priv]"], None),  # a name that somebody chose
        (["sshd: /usr/sbin/sshd -D -f /a_long_na"], None),  # cut off: its file is not known
        (["sshd"], None),
        ([], None),
    ],
)
def test_only_the_process_that_listens_is_meant(cmdline: Sequence[str], words: list[str] | None) -> None:
    assert daemon_words(cmdline) == words


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], []),
        (["-D", "-e"], [("D", ""), ("e", "")]),
        (["-De", "-p22"], [("D", ""), ("e", ""), ("p", "22")]),
        (["-Df", "/x", "-o", "Port 1"], [("D", ""), ("f", "/x"), ("o", "Port 1")]),
        (["-f"], [("f", "")]),
        (["-D", "--", "-p", "1"], [("D", "")]),
        (["-D", "x", "-p", "1"], [("D", "")]),
        (["-"], []),
    ],
)
def test_options_are_read_as_getopt_does(words: list[str], found: list[tuple[str, str]]) -> None:
    assert options(["/usr/sbin/sshd", *words]) == found


@pytest.mark.parametrize(
    ("words", "config", "where"),
    [
        (["-D"], CONFIG, False),
        (["-D", "-f", "/a", "-f/b"], "/b", False),
        (["-Df", "/a", "-p", "2222"], "/a", True),
        (["-o", "Port=2222"], CONFIG, True),
        (["-oListenAddress", "::1"], CONFIG, True),
        (["-oPermitRootLogin=no", "-E", "/-p"], CONFIG, False),
    ],
)
def test_file_and_addresses_that_a_command_line_names(words: list[str], config: str, where: bool) -> None:
    assert (config_of(["/usr/sbin/sshd", *words]), says_where(["/usr/sbin/sshd", *words])) == (config, where)
