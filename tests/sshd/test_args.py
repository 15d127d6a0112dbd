"""ssh's command line: kssh reads it as the real ssh does, asked with "ssh -G"."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import HealthCheck, assume, given, settings, strategies as st

from harness import need
from pykeepssh.ssh.args import parse


def never() -> bool:
    raise AssertionError("nobody had to know whether -P takes an argument")


@pytest.fixture(scope="module")
def ssh() -> str:
    return need("ssh")


def configuration(ssh: str, words: list[str]) -> dict[str, str] | None:
    """Return what "ssh -G" says, the first value of each keyword, or None if it refuses the words."""
    asked = subprocess.run(
        [ssh, "-F", "none", "-G", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
        check=False,
    )
    if asked.returncode != 0:
        return None
    found: dict[str, str] = {}
    for entry in os.fsdecode(asked.stdout).splitlines():
        keyword, _, value = entry.partition(" ")
        found.setdefault(keyword, value)
    return found


HARMLESS = st.sampled_from(
    [
        ["-4"],
        ["-AT"],
        ["-Nv"],
        ["-vp", "2201"],
        ["-p2202"],
        ["-oPort=2203"],
        ["-o", "port 2204"],
        ["-l", "ann"],
        ["-NTlbob"],
        ["-o", "User=eve"],
        ["-CqL8080:h:80"],
        ["-i", "--"],
        ["-S--"],
    ]
)

HOSTS = st.sampled_from(["plain", "cara@plain", "ssh://dan@plain:2205"])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    before=st.lists(HARMLESS, max_size=3),
    ended=st.booleans(),
    host=HOSTS,
    after=st.lists(HARMLESS, max_size=2),
    command=st.sampled_from([[], ["ls", "-p", "1"], ["--", "-p", "1"], ["-", "-p", "1"], ["", "-p1"]]),
)
def test_the_real_ssh_reads_the_same(
    ssh: str, before: list[list[str]], ended: bool, host: str, after: list[list[str]], command: list[str]
) -> None:
    words = [word for option in before for word in option] + (["--"] if ended else [])
    words += [host, *(word for option in after for word in option), *command]
    said = configuration(ssh, words)
    line = parse(words, never)
    assume(said is not None)
    assert said is not None
    assert line.complete
    assert line.destination == host

    ports = [value.replace("=", " ").split()[-1] for value in line.values("o") if "ort" in value]
    given_ports = line.values("p")[:1] + ports[:1] + (["2205"] if "2205" in host else []) + ["22"]
    assert said["port"] in given_ports
    if line.values("p") or ports:
        assert said["port"] in line.values("p") + ports + (["2205"] if "2205" in host else [])

    added = line.with_options(last=["-o", "Port=2299", "-o", "User=kssh", "-o", "HostName=other"])
    with_added = configuration(ssh, added)
    assert with_added is not None
    assert with_added["hostname"] == "other"  # the added words are options, not part of the command
    # A destination with user or port is read later than options before it: kssh adds neither.
    users = line.values("l") + [value for value in line.values("o") if "User" in value]
    if users or host == "plain":
        assert with_added["user"] == (said["user"] if users else "kssh")
    if line.values("p") or ports or "2205" not in host:
        assert with_added["port"] == (said["port"] if line.values("p") or ports else "2299")


@pytest.mark.parametrize(
    "words", [[], ["-N"], ["-N", "--"], ["h", "-p"], ["-vNo"], ["-v-N", "h"]], ids=" ".join
)
def test_the_real_ssh_refuses_what_is_not_complete(ssh: str, words: list[str]) -> None:
    assert not parse(words, never).complete
    assert configuration(ssh, words) is None
