"""The log channel: ssh writes its log to a FIFO of ours ("-E FIFO").

Knows how to make the FIFO and to read whole lines.  Must not know what a line means.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys

LINE_END = b"\r\n"  # log.c writes this; a newline inside a message stays bare
_READ_BYTES = 65536
_F_SETPIPE_SZ = 1031  # fcntl(2), Linux; the module knows it from Python 3.10 on
_FIFO_BYTES = 1 << 18  # one user's pipes may have 64 MB in all before new ones get a single page (pipe(7))


class LogChannel:
    """A FIFO in a directory of its own, private to the user; it vanishes once ssh has opened it.

    path  the FIFO
    fd    its reading end, non-blocking
    """

    def __init__(self, folder: str) -> None:
        """Make the FIFO below a folder and open its reading end.  Raises OSError."""
        self._folder = os.path.join(folder, f"kssh-{os.urandom(8).hex()}")
        self.path = os.path.join(self._folder, "log")
        self._rest = b""
        self._there = False
        os.mkdir(self._folder, 0o700)
        try:
            os.mkfifo(self.path, 0o600)
            # Before ssh is started: it would block on a FIFO that nobody reads.
            self.fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._remove()
            raise
        self._there = True
        if sys.platform == "linux":
            # ssh stands still once the FIFO is full, and while kssh is suspended nobody reads it.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _FIFO_BYTES)

    def read(self) -> tuple[list[bytes], bool]:
        """Return the lines that came, without their ends, and whether the FIFO is open at all.

        False means that nobody has it open for writing, before ssh or after it.
        """
        lines: list[bytes] = []
        while True:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return lines, True
            if not data:
                return lines, False
            if self._there:
                self._remove()
            *whole, self._rest = (self._rest + data).split(LINE_END)
            lines += whole

    def rest(self) -> list[bytes]:
        """Return what stands behind the last line end, as a line; ssh has ended."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _remove(self) -> None:
        self._there = False
        for remove, path in ((os.unlink, self.path), (os.rmdir, self._folder)):
            try:
                remove(path)
            except OSError:
                pass  # a tidier of temporary files was faster

    def close(self) -> None:
        """Close the reading end and remove what is left of the FIFO."""
        if self._there:
            self._remove()
        os.close(self.fd)


def folder(environment: dict[str, str] | os._Environ[str]) -> str:
    """Return where FIFOs go: the user's runtime directory if there is one, else TMPDIR or /tmp."""
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        path = environment.get(name, "")
        if path.startswith("/") and os.access(path, os.W_OK | os.X_OK):
            return path
    return "/tmp"
