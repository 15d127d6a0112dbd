# ruff: noqa: T201 - printing is how it answers
"""What has to run inside a namespace of the lab: services, probe, and requests to the kernel.

    inside.py banner PORT       answers each connection to 127.0.0.1:PORT with one line
    inside.py probe PORT        reads that line through a forward, again and again; prints "BEGAN ENDED OK"
    inside.py feed PORT         sends a byte every 0.2 s through one connection of a forward
    inside.py hold PORT         listens on 127.0.0.1:PORT as soon as it is free, and prints "held"
    inside.py mute ADDR PORT    takes connections and says nothing
    inside.py flush             empties the connection tracking table
    inside.py disconnect PORT   resets the established TCP connections of a local port

The services end when their standard input does.  Times are time.monotonic(), which all namespaces
share.  Needs the standard library alone and knows nothing of the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import select
import socket
import struct
import sys
import time
from pathlib import Path

GREETING = b"LAB\n"
EVERY_S = 0.1  # from one probe to the next while the forward takes connections
REFUSED_EVERY_S = 0.01  # refused costs nothing: so the moment of its return is known well
PATIENCE_S = 2.0  # what one probe waits for its line


def ended() -> bool:
    """Tell whether whoever started this has gone."""
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 1)


async def until_ended() -> None:
    """Return when standard input ends."""
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, lambda: None if os.read(0, 1) else gone.set())
    await gone.wait()


async def serve(address: str, port: int, greeting: bytes) -> None:
    """Take connections, greet, and hold them until the other side closes."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            writer.write(greeting)
            while await reader.read(65536):
                pass
        writer.close()

    await asyncio.start_server(greet, address, port, backlog=1000)
    print("listens", flush=True)
    await until_ended()


async def probe(port: int) -> None:
    """Probe for ever: the next one starts on time even while others wait for their line."""
    running: set[asyncio.Task[None]] = set()
    refused = asyncio.Event()

    async def once() -> None:
        began = time.monotonic()
        said = b""
        writer = None
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said = await asyncio.wait_for(reader.readline(), PATIENCE_S)
        except ConnectionRefusedError:
            refused.set()
        except (OSError, asyncio.TimeoutError):
            pass
        print(f"{began:.6f} {time.monotonic():.6f} {int(said == GREETING)}", flush=True)
        if writer is not None:
            writer.transport.abort()

    async def probes() -> None:
        while True:
            refused.clear()
            task = asyncio.ensure_future(once())
            running.add(task)
            task.add_done_callback(running.discard)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(refused.wait(), EVERY_S)
                await asyncio.sleep(REFUSED_EVERY_S)

    print("listens", flush=True)
    going = asyncio.ensure_future(probes())
    await until_ended()
    going.cancel()


def feed(port: int) -> None:
    """Use one connection, as a person in a shell or a transfer does: no new one tells of trouble."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.recv(len(GREETING))
        print("feeds", flush=True)
        while not ended():
            with contextlib.suppress(OSError):
                connection.send(b".")
            time.sleep(0.2)


def hold(port: int) -> None:
    """Listen on a port as soon as nobody else does."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        print("waits", flush=True)
        while not ended():
            with contextlib.suppress(OSError):
                holder.bind(("127.0.0.1", port))
                holder.listen()
                break
            time.sleep(0.0005)
        print("held", flush=True)
        while not ended():
            time.sleep(0.01)


def flush() -> None:
    """Empty the connection tracking table: linux/netfilter/nfnetlink_conntrack.h, DELETE without a tuple."""
    request_and_acknowledge, conntrack_delete = 0x5, 1 << 8 | 2
    message = struct.pack("=IHHIIBBH", 20, conntrack_delete, request_and_acknowledge, 1, 0, 0, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
        netfilter.bind((0, 0))
        netfilter.sendto(message, (0, 0))
        error = struct.unpack_from("=i", netfilter.recv(4096), 16)[0]
    if error:
        sys.exit(f"flush: {os.strerror(-error)}")


def disconnect(port: int) -> None:
    """Reset connections from the server's side where the kernel has no "ss -K".

    Takes a copy of each socket out of the process that has it (pidfd_getfd(2)): connecting it to
    AF_UNSPEC sends RST and ends it for its owner too.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    established = {
        words[9]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if (words := line.split())[3] == "01" and int(words[1].split(":")[1], 16) == port
    }
    done: set[str] = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            inode = os.readlink(link).partition("socket:[")[2].rstrip("]")
            if inode not in established - done:
                continue
            pidfd = os.pidfd_open(int(link.parts[2]))
            pidfd_getfd = 438
            fd = libc.syscall(pidfd_getfd, pidfd, int(link.name), 0)
            if fd >= 0 and libc.connect(fd, struct.pack("=H14x", socket.AF_UNSPEC), 16) == 0:
                done.add(inode)
            os.close(pidfd)
    if done != established:
        sys.exit(f"disconnect: {len(done)} of {len(established)} connections")


def main() -> None:
    """Do what the first argument says."""
    deed, rest = sys.argv[1], sys.argv[2:]
    if deed == "banner":
        asyncio.run(serve("127.0.0.1", int(rest[0]), GREETING))
    elif deed == "mute":
        asyncio.run(serve(rest[0], int(rest[1]), b""))
    elif deed == "probe":
        asyncio.run(probe(int(rest[0])))
    else:
        {"feed": feed, "hold": hold, "flush": lambda *args: flush(), "disconnect": disconnect}[deed](
            *map(int, rest)
        )


if __name__ == "__main__":
    main()
