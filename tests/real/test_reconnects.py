"""Two hundred reconnects in a row leave kssh as it was."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from harness import TIMEOUT_S, Terminal, fake_ssh, program, wait_for
from links import LOSE, SESSION, STAY, Kssh, records, with_fake

RECONNECTS = 200
WARM = 20  # by then every module and buffer that a restart needs is there
GROWTH_BYTES = 1_000_000


def measure(pid: int) -> tuple[int, int]:
    """Return memory and open descriptors of a process; it has no zombie.

    Of memory what is its own: how much of programs and libraries is resident is the machine's affair.
    """
    process = psutil.Process(pid)
    zombies = [child for child in process.children() if child.status() == psutil.STATUS_ZOMBIE]
    assert zombies == []
    memory = process.memory_info()
    return memory.rss - getattr(memory, "shared", 0), process.num_fds()


@pytest.mark.parametrize("way", ["lost", "asked for"])
def test_a_tunnel_that_reconnects_for_ever_does_not_grow(tmp_path: Path, way: str) -> None:
    """Every other session dies by itself; SIGUSR1 cuts the wait short or ends the session."""
    # The number of starts is the number of this file's bytes: faster to read than the notes.
    count = tmp_path / "count"
    script = f"{SESSION}printf x >>{count}\n"
    fake = fake_ssh(tmp_path, script + (LOSE if way == "lost" else STAY))

    def starts() -> int:
        return count.stat().st_size if count.exists() else 0

    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=3600, LOGLEVEL="ERROR")) as kssh:
        wait_for(lambda: starts() >= 1)
        state = "WAITING" if way == "lost" else "UP"
        asked: set[int] = set()

        def reaches(number: int) -> bool:
            # Asked once for each start, when it is there: a request too many would end what is to come.
            there = {record["starts"] for record in records() if record["state"] == state}
            if there - asked:
                asked.update(there)
                kssh.send(signal.SIGUSR1)
            return starts() > number

        wait_for(lambda: reaches(WARM))
        at_first = _settled(kssh.pid, state)
        wait_for(lambda: reaches(RECONNECTS), 2 * TIMEOUT_S)
        rss, descriptors = _settled(kssh.pid, state)
        assert descriptors <= at_first[1]  # that may have been a moment with one more
        assert rss - at_first[0] < GROWTH_BYTES
        kssh.stop()


def _within(condition: object, seconds: float = 0.2) -> bool:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.002)
    return False


def _settled(pid: int, state: str) -> tuple[int, int]:
    """Measure kssh while the link is in a state, by its own record."""
    seen = []

    def there() -> bool:
        return [record["state"] for record in records()] == [state]

    def measured() -> bool:
        if not there():
            return False
        seen.append(measure(pid))
        return there()

    wait_for(measured)
    return seen[-1]


def test_a_shell_that_reconnects_for_ever_does_not_grow(tmp_path: Path) -> None:
    """Enter cuts the wait short."""
    stay = f"[ $start = 10 ] || [ $start = 100 ] && {STAY}"
    fake = fake_ssh(tmp_path, f"{SESSION}echo shell $start\n{stay}{LOSE}")
    with Terminal([program(), "host"], env=with_fake(fake, BACKOFF_MAX=3600)) as terminal:

        def reach(number: int) -> None:
            mark = f"shell {number}\r\n".encode()
            while mark not in terminal.output[-2000:]:
                terminal.send(b"\r")
                _within(lambda: bool(terminal.read()), 0.05)
                assert terminal.process.poll() is None

        reach(10)
        at_first = _settled(terminal.pid, "UP")
        psutil.Process(fake.starts[-1].pid).kill()
        reach(100)
        rss, descriptors = _settled(terminal.pid, "UP")
        assert descriptors <= at_first[1]  # that may have been a moment with one more
        assert rss - at_first[0] < GROWTH_BYTES
