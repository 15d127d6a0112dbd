"""A shared master (ControlMaster), asked over its control socket whether it is there.

Knows what a client of such a master says (PROTOCOL.mux of openssh-portable), 7.4 to 10.x.  Must not
know what follows from an answer.
"""

from __future__ import annotations

import _socket as socket  # the module around it takes 5 ms to import
import struct
import time

from ..system import sockets

_HELLO, _ALIVE_CHECK, _ALIVE = 0x00000001, 0x10000004, 0x80000005
_VERSION = 4
_WORD = struct.Struct(">I")
_LONGEST_BYTES = 4096  # an answer has 12
# A master answers between two turns of its loop.  One that is stopped, as by Ctrl-Z, never does.
LIMIT_S = 0.5

# After so many the oldest bytes wait for 50 s and more, about as long as a keepalive would.
LOST = 8

SILENT = 0  # somebody listens there, and does not answer


def pid(path: str, limit_s: float = LIMIT_S) -> int | None:
    """Return the process that is the master at a socket, SILENT, or None if there is none.

    The process that made the socket may be another one: with ControlPersist the master is its child.
    """
    until = time.monotonic() + limit_s
    asked = None
    try:
        asked = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        asked.settimeout(limit_s)
        asked.connect(path)
        asked.sendall(_packet(_HELLO, _VERSION) + _packet(_ALIVE_CHECK, 0))
        while True:
            kind, body = _answer(asked, until)
            if kind == _ALIVE:
                return int(_WORD.unpack_from(body, 4)[0])
    except (TimeoutError, socket.timeout, BlockingIOError):
        return SILENT  # BlockingIOError: as many as may wait there do so already
    except (OSError, ValueError, struct.error):
        return None
    finally:
        if asked is not None:
            asked.close()


def resends(process: int) -> bool:
    """Tell whether anything that a process's network knows was sent again LOST times (Linux, proc(5)).

    That is cheap to ask; whose it is, is not.
    """
    try:
        return any(row.sent_again >= LOST for table in sockets.TABLES for row in sockets.rows(process, table))
    except OSError:
        return False  # hidden, or it has ended


def _packet(*words: int) -> bytes:
    body = b"".join(_WORD.pack(word) for word in words)
    return _WORD.pack(len(body)) + body


def _answer(asked: socket.socket, until: float) -> tuple[int, bytes]:
    """Return kind and body of the next message.  Raises OSError or ValueError."""
    (length,) = _WORD.unpack(_read(asked, _WORD.size, until))
    if not _WORD.size <= length <= _LONGEST_BYTES:
        raise ValueError(length)
    message = _read(asked, length, until)
    return _WORD.unpack_from(message)[0], message[_WORD.size :]


def _read(asked: socket.socket, size: int, until: float) -> bytes:
    data = b""
    while len(data) < size:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        asked.settimeout(left_s)
        part = asked.recv(size - len(data))
        if not part:
            raise ValueError("closed")
        data += part
    return data
