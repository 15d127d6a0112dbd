"""What is news among the messages of rtnetlink(7)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pykeepssh.network.watch import tells_change


def message(kind: int, address: bytes, flags: int = 0, lifetime: int = 0, index: int = 1) -> bytes:
    """Return a message of rtnetlink(7) about an IPv4 address."""
    attributes = struct.pack("=HH4s", 8, 1, address) + struct.pack("=HH16s", 20, 6, bytes([lifetime] * 16))
    body = struct.pack("=BBBBI", 2, 24, flags, 0, index) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


NEW, DELETED, LINK = 20, 21, 16
ONE, OTHER = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])

NEWS: dict[str, tuple[list[bytes], list[bool]]] = {
    "an address": ([message(NEW, ONE)], [True]),
    "the same again, with another lifetime": ([message(NEW, ONE), message(NEW, ONE, 4, 9)], [True, False]),
    "another": ([message(NEW, ONE), message(NEW, OTHER)], [True, True]),
    "the same on another interface": ([message(NEW, ONE), message(NEW, ONE, index=2)], [True, True]),
    "gone and back": ([message(NEW, ONE), message(DELETED, ONE), message(NEW, ONE)], [True] * 3),
    "two in one": ([message(NEW, ONE), message(NEW, ONE) + message(NEW, OTHER)], [True, True]),
    "a link": ([message(LINK, ONE), message(LINK, ONE)], [True, True]),
    "rubbish": ([b"", b"\0" * 64, b"x" * 7], [False] * 3),
}


@pytest.mark.parametrize("name", NEWS)
def test_a_change_is(name: str) -> None:
    known: set[bytes] = set()
    messages, expected = NEWS[name]
    found: list[Any] = [tells_change(data, known) for data in messages]
    assert found == expected
