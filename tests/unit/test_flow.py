"""Bytes on their way to a slow sink."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from pykeepssh.terminal.flow import CHUNK_BYTES, Flow


class Sink:
    """Takes as many bytes at a time as it is told; 0 is EAGAIN, and with nothing more to go by, all."""

    def __init__(self, takes: list[int]) -> None:
        self.taken = b""
        self._takes = list(takes)

    def write(self, data: memoryview) -> int:
        """Take what is allowed now."""
        size = min(self._takes.pop(0), len(data)) if self._takes else len(data)
        if not size:
            raise BlockingIOError
        self.taken += bytes(data[:size])
        return size


@given(st.lists(st.binary(min_size=1, max_size=20)), st.lists(st.integers(0, 20)))
def test_nothing_is_lost_or_moved(pieces: list[bytes], takes: list[int]) -> None:
    sink = Sink(takes)
    flow = Flow(sink.write)
    for piece in pieces:
        assert flow.send(piece)
    while len(flow):
        assert flow.drain()
    assert sink.taken == b"".join(pieces)


def test_a_sink_that_takes_nothing_holds_the_source_back() -> None:
    flow = Flow(Sink([0] * 10).write)
    flow.send(b"x" * (CHUNK_BYTES - 1))
    assert flow.has_room
    flow.send(b"x")
    assert not flow.has_room
    flow.clear()
    assert flow.has_room


def test_a_sink_that_is_gone_is_told_once_and_the_rest_is_dropped() -> None:
    def gone(data: memoryview) -> int:
        raise OSError(5, "gone")

    flow = Flow(gone)
    assert not flow.send(b"lost")
    assert len(flow) == 0
    assert flow.drain()


@pytest.mark.parametrize(("blocking", "most"), [(False, CHUNK_BYTES), (True, 512)])
def test_a_sink_that_blocks_gets_little_at_a_time(blocking: bool, most: int) -> None:
    sizes: list[int] = []

    def write(data: memoryview) -> int:
        sizes.append(len(data))
        return len(data)

    flow = Flow(write, blocking)
    flow.put(b"x" * (CHUNK_BYTES + 1))
    while len(flow):
        flow.drain()
    assert max(sizes) == most
