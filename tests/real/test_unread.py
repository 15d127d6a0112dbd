"""Nobody reads what kssh says: it drops and counts, and goes on all the same."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import syslog
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import TIMEOUT_S, Terminal, alive, fake_ssh, program, wait_for
from links import LOSE, REFUSE, SESSION, STAY, Kssh, end_background, lines_of, records, started, with_fake
from pykeepssh.system.sink import MOST_BYTES, Sink, Syslog

UP = SESSION + STAY
# More than kssh holds for a full pipe, in fewer lines than it shows of a flood.
LINES = 90
FLOOD = (
    f"room=$(printf %2000s); i=0; while [ $i -lt {LINES} ]; do i=$((i + 1)); "
    'log "Warning: $i, a line of ssh that takes room in a pipe $room"; done\n'
)
LOST = re.compile(rb"lines lost here: (\d+) \(nobody read them\)\r?\n")


def fill(fd: int) -> None:
    """Fill a pipe or a socket to the brim, as whoever does not read it finds it."""
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x")
    os.set_blocking(fd, True)


def empty(fd: int) -> bytes:
    """Take what is there."""
    os.set_blocking(fd, False)
    said = b""
    with contextlib.suppress(BlockingIOError):
        while data := os.read(fd, 65536):
            said += data
    return said


@contextlib.contextmanager
def full(kind: str) -> Iterator[tuple[int, int]]:
    """Give the ends of a pipe or a socket that is full: to read from, to write to."""
    if kind == "pipe":
        ends = os.pipe()
    else:
        reader, writer = socket.socketpair()
        ends = reader.detach(), writer.detach()
    fill(ends[1])
    try:
        yield ends
    finally:
        for fd in ends:
            os.close(fd)


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_full_standard_error_holds_nothing_up(tmp_path: Path, kind: str) -> None:
    fake = fake_ssh(tmp_path, f"[ $start -le 2 ] && {{ {FLOOD}{REFUSE} }}\n{UP}")
    with full(kind) as (_, write), Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=1), stderr=write) as kssh:
        ssh = started(fake, 3).pid
        assert os.get_blocking(write)  # which we share with it
        kssh.send(signal.SIGTERM)
        assert kssh.wait() == -signal.SIGTERM
        assert not alive(ssh)


def test_what_was_lost_is_said_once_somebody_reads(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FLOOD}{UP}")
    with full("pipe") as (read, write), Kssh(["-N", "host"], with_fake(fake), stderr=write) as kssh:
        wait_for(lambda: [one for one in records() if one["state"] == "UP"])
        said = bytearray()
        wait_for(lambda: said.extend(empty(read)) or LOST.search(said))
        match = LOST.search(said)
        assert match
        kept = said.count(b"Warning: ")
        assert 0 < kept < LINES
        kssh.stop()
        said += empty(read)
        lost = sum(map(int, LOST.findall(said)))
        assert said.count(b"\n") - len(LOST.findall(said)) + lost == LINES + 2  # "is up" and "ended"


def test_a_reader_that_is_slow_loses_nothing(tmp_path: Path) -> None:
    # A pipe holds 16 of these lines, one in a page, and kssh another 31, should nobody read for long.
    fake = fake_ssh(tmp_path, f"{FLOOD.replace(str(LINES), '40')}{UP}")
    read, write = os.pipe()
    with Kssh(["-N", "host"], with_fake(fake), stderr=write) as kssh:
        os.close(write)
        said = bytearray()
        while b"tunnel is up" not in said:
            said += os.read(read, 1000)
        assert said.count(b"Warning: ") == 40
        kssh.stop()
    os.close(read)


def test_a_pipe_without_a_reader_holds_nothing_up(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] && {{ {REFUSE} }}\n{UP}")
    read, write = os.pipe()
    os.close(read)
    with Kssh(["-N", "host"], with_fake(fake, BACKOFF_MAX=1), stderr=write) as kssh:
        os.close(write)
        started(fake, 2)
        kssh.stop()


@pytest.mark.parametrize(
    ("words", "variables"), [(["-N"], {}), ([], {"RESTART": "attended"})], ids=["tunnel", "shell"]
)
def test_a_terminal_that_was_stopped_holds_nothing_up(
    tmp_path: Path, words: list[str], variables: dict[str, str]
) -> None:
    """By Ctrl-S."""
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] && {{ {SESSION}read -r line <$here/go; {LOSE} }}\n{UP}")
    os.mkfifo(fake.path.parent / "go")
    with Terminal([program(), *words, "host"], env=with_fake(fake, **variables)) as terminal:
        started(fake)
        termios.tcflow(terminal._slave, termios.TCOOFF)
        (fake.path.parent / "go").write_text("\n")
        ssh = started(fake, 2).pid
        terminal.process.terminate()
        assert terminal.process.wait(TIMEOUT_S) == -signal.SIGTERM
        assert not alive(ssh)
        termios.tcflow(terminal._slave, termios.TCOON)


@pytest.mark.parametrize("reads", [True, False], ids=["never read", "without a reader"])
@pytest.mark.parametrize("way", ["KSSH_LOGFILE", "-E"])
def test_a_fifo_to_log_to_holds_nothing_up(tmp_path: Path, way: str, reads: bool) -> None:
    fake = fake_ssh(tmp_path, f"[ $start = 1 ] && {{ {FLOOD}{REFUSE} }}\n{UP}")
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK) if reads else -1
    if reads:
        writer = os.open(fifo, os.O_WRONLY)
        fill(writer)
        os.close(writer)
    variables = {"LOGFILE": fifo, "LOGLEVEL": "VERBOSE"} if way == "KSSH_LOGFILE" else {}
    words = ["-E", fifo] if way == "-E" else []
    with Kssh(["-N", *words, "host"], with_fake(fake, BACKOFF_MAX=1, **variables)) as kssh:
        started(fake, 2)
        if reads and way == "-E":
            said = bytearray()
            wait_for(lambda: said.extend(empty(reader)) or LOST.search(said))
        kssh.stop()
    if reads:
        os.close(reader)


def test_f_comes_back_though_nobody_reads(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FLOOD}{UP}")
    with full("pipe") as (_, write), Kssh(["-f", "-N", "host"], with_fake(fake), stderr=write) as front:
        assert front.wait() == 0
        os.kill(started(fake).pid, signal.SIGKILL)
        started(fake, 2)
    for start in fake.starts:
        wait_for(lambda pid=start.pid: not alive(pid) or os.kill(pid, signal.SIGTERM) is None)
    end_background()


def test_an_error_is_not_waited_for(tmp_path: Path) -> None:
    with full("pipe") as (_, write), Kssh(["--nonsense"], stderr=write) as kssh:
        assert kssh.wait() == 255


# A sink alone.


def told(number: int) -> bytes:
    return b"lost %d\n" % number


def test_a_sink_that_shares_its_descriptor_leaves_it_as_it_is() -> None:
    with full("pipe") as (read, write):
        sink = Sink(write, told)
        sink.write(b"one\n")
        assert sink.is_waiting
        assert os.get_blocking(write)
        empty(read)
        sink.drain()
        assert empty(read) == b"one\n"
        assert not sink.is_waiting
        sink.close()
        assert os.get_blocking(write)


def test_a_sink_that_cannot_open_it_again_asks_before_it_writes() -> None:
    """A pipe of another user's, after su(1), and one of a system whose /dev/fd only copies."""
    with full("pipe") as (read, write):
        sink = Sink(write, told)
        os.close(sink.fd)
        sink.fd, sink._opened, sink._write = write, False, sink._write_if_safe
        lines = b"".join(b"%03d\n" % number for number in range(1000))
        sink.write(lines)
        assert sink.is_waiting
        empty(read)
        sink.drain()
        assert empty(read) == lines
        sink.close()


def test_a_sink_counts_what_it_drops() -> None:
    with full("pipe") as (read, write):
        sink = Sink(write, told)
        line = b"x" * (MOST_BYTES // 4) + b"\n"
        for _ in range(3):
            sink.write(line)
        for _ in range(5):
            sink.write(line)
        sink.write(b"short, and later than what was dropped\n")
        said = b""
        for _ in range(10):
            said += empty(read)
            sink.drain()
        assert said.lstrip(b"x").replace(b"x", b"").split() == [b"lost", b"6"]
        sink.write(b"after\n")
        assert empty(read) == b"after\n"
        sink.close()


def test_a_sink_on_a_full_disk_says_so_later(tmp_path: Path) -> None:
    sink = Sink(os.open("/dev/full", os.O_WRONLY), told, ours=True)
    sink.write(b"one\n")
    sink.write(b"two\n")
    assert not sink.is_waiting
    sink.move(os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    sink.write(b"three\n")
    sink.close()
    assert lines_of(tmp_path / "file") == ["lost 2", "three"]


def test_the_end_waits_for_a_reader_that_is_alive() -> None:
    with full("pipe") as (read, write):
        sink = Sink(write, told)
        sink.write(b"last words\n")
        pid = os.fork()
        if pid == 0:
            os.read(read, 65536)
            os._exit(0)
        sink.close(20)
        os.waitpid(pid, 0)
        assert empty(read).endswith(b"last words\n")


def test_syslog_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        log = Syslog("kssh", syslog.LOG_DAEMON, str(tmp_path / "log"))
        for number in range(3000):
            log.write(syslog.LOG_ERR, f"line {number}")
        server.setblocking(False)
        said = []
        with contextlib.suppress(BlockingIOError):
            while True:
                said.append(server.recv(1000))
        assert re.fullmatch(rb"<27>\w\w\w [ \d]\d [\d:]{8} kssh\[\d+\]: line 0", said[0])
        log.write(syslog.LOG_INFO, "again")
        lost, again = server.recv(1000), server.recv(1000)
        assert lost.endswith(b": lines lost here: %d (nobody read them)" % (3000 - len(said)))
        assert again.endswith(b": again")
        log.close()
    os.unlink(tmp_path / "log")
    log.write(syslog.LOG_INFO, "nobody is there")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "log"))
        log.write(syslog.LOG_INFO, "it was started anew")
        assert server.recv(1000).endswith(b": lines lost here: 1 (nobody read them)")
        assert server.recv(1000).endswith(b": it was started anew")
    log.close()
