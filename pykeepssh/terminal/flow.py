"""Bytes on their way to a sink that may be slower than their source.

Knows what is held and what may be written at once.  Must not know what the bytes are, nor where they go.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 65536
_BLOCKING_CHUNK_BYTES = 512  # what a terminal takes without waiting long, where it cannot be asked


class Flow:
    """One direction of a relay: bytes read from one descriptor, not yet written to another.

    Holds back its source when a slow sink lets more than CHUNK_BYTES pile up.
    """

    def __init__(self, write: Callable[[memoryview], int], blocking_sink: bool = False) -> None:
        """Write with a function as write(2): it returns how many bytes it took, or raises OSError."""
        self._write = write
        self._held = memoryview(b"")
        self._chunk = _BLOCKING_CHUNK_BYTES if blocking_sink else CHUNK_BYTES

    def __len__(self) -> int:
        return len(self._held)

    @property
    def has_room(self) -> bool:
        """Whether the source may be read."""
        return len(self._held) < CHUNK_BYTES

    def put(self, data: bytes) -> None:
        """Hold bytes for the sink."""
        self._held = memoryview(b"".join((self._held, data)) if self._held else data)

    def send(self, data: bytes) -> bool:
        """Write bytes behind those that are held; as drain()."""
        self.put(data)
        return self.drain()

    def clear(self) -> None:
        """Throw away what was not written."""
        self._held = memoryview(b"")

    def drain(self) -> bool:
        """Write what the sink takes at once; return False if it is gone (the rest is thrown away)."""
        if self._held:
            try:
                done = self._write(self._held[: self._chunk])
            except BlockingIOError:
                return True
            except OSError:
                self.clear()
                return False
            self._held = self._held[done:]
        return True
