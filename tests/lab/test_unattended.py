"""A tunnel that nobody watches, on a machine whose addresses come and go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import Argument, wait_for
from lab.lab import BANNER_PORT, Lab
from links import Kssh, quick

ADDRESS = "10.77.1.200"
BY_PEOPLE = "only a person can fix that; retry"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab") as running:
        yield running


def tunnel(lab: Lab, *forward: Argument) -> Kssh:
    return Kssh(["-F", lab.config, "-N", *forward, "t"], quick(), lab.client.entry)


def test_an_address_to_listen_on_that_is_away_for_a_while_is_waited_for(lab: Lab) -> None:
    with tunnel(lab, "-L", f"{ADDRESS}:2300:127.0.0.1:{BANNER_PORT}") as kssh:
        kssh.says("giving up after 1 start: forward refused (bind")  # a first start ends at once
        assert kssh.wait() == 255
    lab.client.run("ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo")
    with tunnel(lab, "-L", f"{ADDRESS}:2300:127.0.0.1:{BANNER_PORT}") as kssh:
        kssh.says("tunnel is up")
        lab.client.run("ip", "addr", "del", f"{ADDRESS}/32", "dev", "lo")
        lab.kill_session()
        kssh.says("Cannot assign requested address); retry 4")
        lab.client.run("ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo")
        kssh.says("tunnel is up again")
        assert BY_PEOPLE not in kssh.said
        kssh.stop()


def test_a_change_of_the_network_is_a_reason_to_try_what_only_people_can_mend(lab: Lab) -> None:
    """The name may have led to another machine in the network before."""
    known = lab.sshd.directory / "known_hosts"
    right = known.read_text()
    with tunnel(lab) as kssh:
        kssh.says("tunnel is up")
        known.write_text(f"t {(lab.sshd.directory / 'client_key.pub').read_text()}")
        lab.kill_session()
        kssh.says(BY_PEOPLE)
        known.write_text(right)
        lab.replace_address()
        wait_for(lambda: "tunnel is up again" in kssh.said, what=f"the tunnel; kssh said {kssh.said}")
        assert kssh.said.count(BY_PEOPLE) == 1
        kssh.stop()
