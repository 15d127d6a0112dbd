"""A server that lies to ssh before its host key is checked, and an ssh that is too old to tell it apart.

Knows RFC 4253.  What it sends needs no key: packets in the clear, with line ends in their texts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Callable

VERSION = b"SSH-2.0-OpenSSH_9.2p1\r\n"
STRICT_KEX = b"kex-strict-s-v00@openssh.com"
_DISCONNECT, _DEBUG, _KEXINIT = 1, 4, 20


def _string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def packet(payload: bytes) -> bytes:
    """Return an unencrypted binary packet (RFC 4253, 6)."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack(">IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def debug(text: bytes) -> bytes:
    """Return a debug message, which ssh logs at DEBUG1."""
    return packet(struct.pack(">BB", _DEBUG, 1) + _string(text) + _string(b""))


def disconnect(text: bytes) -> bytes:
    """Return a message that ends the connection, which ssh shows to everybody."""
    return packet(struct.pack(">BI", _DISCONNECT, 2) + _string(text) + _string(b""))


def kexinit(algorithms: bytes = b"curve25519-sha256") -> bytes:
    """Return the beginning of a key exchange; an algorithm that ssh does not have is shown in its error."""
    names = [
        algorithms,
        b"ssh-ed25519",
        *[b"aes128-ctr"] * 2,
        *[b"hmac-sha2-256"] * 2,
        *[b"none"] * 2,
        b"",
        b"",
    ]
    lists = b"".join(map(_string, names))
    return packet(bytes([_KEXINIT]) + os.urandom(16) + lists + bytes(5))


class Hostile:
    """A server on 127.0.0.1 that says the same to everybody.

    port         where it listens
    connections  how many came
    """

    def __init__(self, said: bytes, again: bytes = b"") -> None:
        """Say something to who connects, then something else for as long as it is taken, then hang up."""
        self._said, self._again = said, again
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def __enter__(self) -> Hostile:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._thread.join()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with connection, contextlib.suppress(OSError):
            connection.sendall(self._said)
            while self._again:
                connection.sendall(self._again)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        self._open.discard(connection)


class Injector(Hostile):
    """Somebody on the way to a real sshd, who puts packets of their own in front of its first.

    What is exchanged of keys is left as it is, but for the promise to count packets from there on.
    """

    def __init__(self, target_port: int, injected: bytes) -> None:
        super().__init__(injected)
        self._target_port = target_port

    def _serve(self, connection: socket.socket) -> None:
        self._open.add(connection)
        with connection, socket.create_connection(("127.0.0.1", self._target_port)) as target:
            self._open.add(target)
            back = threading.Thread(target=_pump, args=(connection, target, bytes), daemon=True)
            back.start()
            with contextlib.suppress(OSError):
                first = b""
                while b"\n" not in first:
                    first += target.recv(1)
                connection.sendall(first + self._said)
            _pump(target, connection, lambda data: data.replace(STRICT_KEX, STRICT_KEX[::-1]))
            back.join()
            self._open.discard(target)
        self._open.discard(connection)


def _pump(source: socket.socket, sink: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(change(data))
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def old_ssh(tmp_path: Path) -> Path:
    """Return a program that is ssh and passes for one that does not know LogVerbose (before 8.5)."""
    path = tmp_path / "old" / "ssh"
    path.parent.mkdir()
    path.write_text(
        "#!/bin/sh\n"
        f"ssh={shutil.which('ssh')}\n"
        'case "$1" in\n'
        "-V) echo OpenSSH_7.4p1 >&2; exit 0 ;;\n"
        '-G) $ssh "$@" | sed /^logverbose/d; exit ;;\n'
        "esac\n"
        'exec $ssh "$@"\n'
    )
    path.chmod(0o755)
    return path


def injections(lie: bytes) -> Iterator[tuple[str, bytes]]:
    """Return the ways to have ssh write a line of one's own to its log, by name."""
    text = b"x\r\n" + lie
    yield "debug", VERSION + debug(text)
    yield "disconnect", VERSION + disconnect(text)
    yield "debug after KEXINIT", VERSION + kexinit() + debug(text)
    yield "no common algorithm", VERSION + kexinit(b"none-of-yours" + b"\r\n" + lie)
    yield "text before the version", lie + b"\r\n" + VERSION + disconnect(b"bye")
