"""kssh on networks that really break: that it comes back at all, with how many starts, and what it leaves.

How fast it comes back is measured by tests/bench/recovery.py; limits here are generous.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import program, wait_for
from lab.lab import FORWARD_PORT, NO_IDLE_LIMIT_S, Lab, Tunnel

SIDES = ("-L", "-R")
SHORT = {"KSSH_INTERVAL": "1", "KSSH_COUNTMAX": "2"}  # silence is known after 3 s
BACK_S = 20.0
SETTLE_S = 0.5  # what a tunnel works before something happens to it
FLAPS = 60


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A network whose server notices dead clients within 3 s, so that their ports come free."""
    with Lab(tmp_path / "lab", "ClientAliveInterval 1\nClientAliveCountMax 2\n") as running:
        yield running


def kssh(lab: Lab, side: str = "-L", **more: Any) -> Tunnel:
    """Start kssh as a tunnel with short keepalives."""
    return lab.tunnel([program()], side, env={**SHORT, **more.pop("env", {})}, **more)


def settled(tunnel: Tunnel) -> None:
    """Wait for a tunnel to work, and a moment longer."""
    tunnel.up()
    time.sleep(SETTLE_S)


def let_the_port_go(lab: Lab, tunnel: Tunnel, side: str, session: int) -> None:
    """With -R, leave the port alone until the server has noticed that a session is dead.

    sshd does not count unanswered keepalives while others keep its port of -R busy (seen with 9.2):
    looking through the tunnel ten times a second would keep the dead session alive for ever.
    """
    if side == "-R":
        tunnel.probe.pause()
        wait_for(lambda: session not in lab.sshd.sessions(), what="the server to drop the dead session")
        tunnel.probe.resume()


def ends_well(tunnel: Tunnel, most_starts: int) -> None:
    """Assert that few starts of ssh were used, and that nothing stays once kssh is asked to end."""
    assert len(tunnel.watch.starts) <= most_starts, tunnel.said
    assert tunnel.stop() == []
    assert tunnel.process.returncode == -15, tunnel.said


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("fault", ["kill_session", "reset"])
def test_comes_back_when_the_session_dies(lab: Lab, side: str, fault: str) -> None:
    with kssh(lab, side) as tunnel:
        settled(tunnel)
        tunnel.back(getattr(lab, fault)().done, BACK_S)
        # With -R the server may still hold the port for a moment.
        ends_well(tunnel, 2 if side == "-L" else 3)


@pytest.mark.parametrize("side", SIDES)
def test_comes_back_after_a_blackhole(lab: Lab, side: str) -> None:
    with kssh(lab, side) as tunnel:
        settled(tunnel)
        (session,) = lab.sshd.sessions()
        began = lab.blackhole().began
        let_the_port_go(lab, tunnel, side, session)
        time.sleep(max(0.0, began + (20 if side == "-L" else 6) - time.monotonic()))
        # Whatever still waits for an answer waits for at most one connect timeout, then one backoff.
        tunnel.back(lab.heal().began, 50)
        ends_well(tunnel, 20)


def test_comes_back_after_a_listener_outage(lab: Lab) -> None:
    with kssh(lab) as tunnel:
        settled(tunnel)
        lab.stop_listener()
        time.sleep(4)
        tunnel.back(lab.start_listener().began, 40)
        ends_well(tunnel, 12)


@pytest.mark.parametrize("side", SIDES)
def test_comes_back_from_another_address(lab: Lab, side: str) -> None:
    with kssh(lab, side) as tunnel:
        settled(tunnel)
        (session,) = lab.sshd.sessions()
        done = lab.replace_address().done
        let_the_port_go(lab, tunnel, side, session)
        tunnel.back(done, 40)
        ends_well(tunnel, 6)


@pytest.mark.parametrize("side", SIDES)
def test_comes_back_after_the_router_forgot_everything(lab: Lab, side: str) -> None:
    with kssh(lab, side) as tunnel:
        settled(tunnel)
        (session,) = lab.sshd.sessions()
        done = lab.reboot_router().done
        let_the_port_go(lab, tunnel, side, session)
        tunnel.back(done, 40)
        ends_well(tunnel, 6)


# Only the question whether the other end still knows the connection can tell: no keepalive is due.
UNTOLD = {"KSSH_INTERVAL": "600"}
FORGOTTEN = "the network forgot the connection"


def change_network(lab: Lab) -> None:
    """Give the client one more address, which has nothing to do with the tunnel, or take it away."""
    here = lab.client.run("ip", "addr", "show", "dev", "lo")
    lab.client.run("ip", "addr", "del" if "10.77.9.9" in here else "add", "10.77.9.9/32", "dev", "lo")


def test_a_forgotten_connection_is_found_by_the_side_that_only_listens(lab: Lab) -> None:
    with kssh(lab, "-R", env=UNTOLD) as tunnel:
        settled(tunnel)
        time.sleep(3)  # steady use
        (session,) = lab.sshd.sessions()
        done = lab.reboot_router().done
        wait_for(lambda: FORGOTTEN in tunnel.said, what="kssh to find out")
        let_the_port_go(lab, tunnel, "-R", session)
        tunnel.back(done, 40)
        ends_well(tunnel, 6)


def test_a_forgotten_connection_is_found_when_the_network_changes(lab: Lab) -> None:
    lab.sshd.restart(f"ListenAddress {lab.address}\n")  # no keepalive of the server's
    with kssh(lab, env=UNTOLD) as tunnel:
        settled(tunnel)
        tunnel.probe.pause()
        lab.reboot_router()
        change_network(lab)
        wait_for(lambda: FORGOTTEN in tunnel.said, what="kssh to find out")
        tunnel.probe.resume()
        tunnel.back(time.monotonic(), BACK_S)
        ends_well(tunnel, 2)


def test_a_healthy_quiet_connection_outlives_changes_of_the_network(lab: Lab) -> None:
    lab.sshd.restart(f"ListenAddress {lab.address}\n")
    with kssh(lab, env=UNTOLD) as tunnel:
        settled(tunnel)
        tunnel.probe.pause()
        for _ in range(4):
            change_network(lab)
            time.sleep(2)
        tunnel.probe.resume()
        tunnel.back(time.monotonic(), BACK_S)
        ends_well(tunnel, 1)


def test_a_firewall_that_swallows_the_question_costs_few_starts(lab: Lab) -> None:
    """Nothing is wrong with the connection: kssh is misled no more than three times."""
    lab.sshd.restart(f"ListenAddress {lab.address}\n")
    with kssh(lab, env=UNTOLD) as tunnel:
        settled(tunnel)
        tunnel.probe.pause()
        lab.swallow_empty_packets()
        while tunnel.said.count(FORGOTTEN) < 3:
            change_network(lab)
            time.sleep(1)
        for _ in range(3):
            change_network(lab)
            time.sleep(3)
        assert tunnel.said.count(FORGOTTEN) == 3
        tunnel.probe.resume()
        tunnel.back(time.monotonic(), BACK_S)
        ends_well(tunnel, 4)


def test_keepalive_outlives_an_idle_limit(lab: Lab) -> None:
    lab.set_idle_timeout(4)
    with kssh(lab) as tunnel:
        settled(tunnel)
        tunnel.probe.pause()
        time.sleep(6)
        tunnel.probe.resume()
        tunnel.back(time.monotonic(), BACK_S)
        ends_well(tunnel, 1)


def test_without_keepalive_an_idle_flow_is_forgotten(lab: Lab) -> None:
    """The router of this lab does drop quiet flows: the test above is not about nothing."""
    lab.sshd.restart(f"ListenAddress {lab.address}\n")  # no keepalive of the server's either
    lab.set_idle_timeout(2)
    with kssh(lab, env={"KSSH_INTERVAL": "0"}) as tunnel:
        settled(tunnel)
        tunnel.probe.pause()
        time.sleep(4)
        tunnel.probe.resume()
        asked = time.monotonic()
        time.sleep(1)
        assert tunnel.probe.works_since(asked) is None
        lab.set_idle_timeout(NO_IDLE_LIMIT_S)
        tunnel.stop()


def test_waits_for_a_stale_listener(lab: Lab) -> None:
    with kssh(lab, "-R") as tunnel:
        settled(tunnel)
        lab.hold_port()
        wait_for(lambda: str(FORWARD_PORT) in tunnel.said, what="kssh to say which port")
        time.sleep(3)
        tunnel.back(lab.release_port().began, BACK_S)
        ends_well(tunnel, 8)


def test_waits_for_a_name(lab: Lab) -> None:
    lab.unresolvable()
    with kssh(lab, config=lab.named_config) as tunnel:
        wait_for(lambda: tunnel.watch.starts, what="a first start")
        time.sleep(2)
        assert tunnel.process.poll() is None, tunnel.said
        tunnel.back(lab.resolvable().began, 40)
        ends_well(tunnel, 12)


def test_a_silent_server_is_given_up(lab: Lab) -> None:
    with kssh(lab, env={"KSSH_CONNECT_TIMEOUT": "2"}) as tunnel:
        settled(tunnel)
        lab.mute()
        time.sleep(4)
        tunnel.back(lab.unmute().began, 40)
        ends_well(tunnel, 12)


def test_short_flaps_cost_few_starts(lab: Lab) -> None:
    """A wire that is out for a tenth of a second kills no TCP connection: it need not cost a start."""
    with kssh(lab, env={"KSSH_INTERVAL": "5"}) as tunnel:
        settled(tunnel)
        for _ in range(FLAPS):
            lab.flap()
            time.sleep(0.1)
        tunnel.back(time.monotonic(), 40)
        ends_well(tunnel, FLAPS // 2)


def test_sessions_killed_as_they_start_are_not_hammered(lab: Lab) -> None:
    with kssh(lab) as tunnel:
        settled(tunnel)
        began = time.monotonic()
        while time.monotonic() < began + 8:
            if lab.sshd.sessions():
                lab.kill_session()
            time.sleep(0.05)
        # At once, then 1, 2, 4 s at most, with full jitter: far from one start every 0.3 s.
        assert tunnel.watch.starts_since(began) <= 14
        tunnel.back(time.monotonic(), 40)
        ends_well(tunnel, 20)
