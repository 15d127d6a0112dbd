"""The log channel: ssh writes its log to a FIFO of ours ("-E FIFO").

Knows how to make the FIFO and to read whole lines.  Must not know what a line means.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Mapping, Sequence

from . import files

LINE_END = b"\r\n"  # log.c writes this; a newline inside a message stays bare
_READ_BYTES = 65536
_F_SETPIPE_SZ = 1031  # fcntl(2), Linux; the module knows it from Python 3.10 on
_MOST_BYTES = 1 << 18  # of one read: whatever stood in the FIFO by then
_LONGEST_BYTES = 1 << 16  # of a line that has no end; ssh writes 1024 at once
_FIFO_BYTES = 1 << 18  # one user's pipes may have 64 MB in all before new ones get a single page (pipe(7))


class LogChannel:
    """A FIFO in a directory of its own, private to the user; it vanishes once ssh has opened it.

    path  the FIFO
    fd    its reading end, non-blocking
    """

    def __init__(self, folders: Sequence[str]) -> None:
        """Make the FIFO below the first folder that it can be made in, and open its reading end.

        Where there is none, Linux gives a pipe a name as well.  Raises OSError.
        """
        self._folder = ""
        self._rest = b""
        for folder in folders:
            try:
                self.path, self.fd = self._make(folder)
                break
            except OSError:
                continue
        else:
            self.path, self.fd = _nameless()
        if sys.platform == "linux":
            # ssh stands still once the FIFO is full, and while kssh is suspended nobody reads it.
            with contextlib.suppress(OSError):
                fcntl.fcntl(self.fd, _F_SETPIPE_SZ, _FIFO_BYTES)

    def _make(self, folder: str) -> tuple[str, int]:
        self._folder = files.fresh_directory(folder)
        path = os.path.join(self._folder, "log")
        try:
            with files.ExactModes():
                os.mkfifo(path, 0o600)
            # Before ssh is started: it would block on a FIFO that nobody reads.
            return path, os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._remove()
            raise

    def read(self) -> tuple[list[bytes], bool, bool]:
        """Return the lines that came, without their ends; whether the FIFO is open; whether there is more.

        Not open means that nobody has it open for writing, before ssh or after it.
        """
        lines: list[bytes] = []
        taken = 0
        while taken < _MOST_BYTES:
            try:
                data = os.read(self.fd, _READ_BYTES)
            except BlockingIOError:
                return lines, True, False
            if not data:
                return lines, False, False
            self._remove()
            taken += len(data)
            *whole, self._rest = (self._rest + data).split(LINE_END)
            self._rest = self._rest[:_LONGEST_BYTES]
            lines += whole
        return lines, True, True

    def rest(self) -> list[bytes]:
        """Return what stands behind the last line end, as a line; ssh has ended."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []

    def _remove(self) -> None:
        folder, self._folder = self._folder, ""
        if folder:
            for remove, path in ((os.unlink, os.path.join(folder, "log")), (os.rmdir, folder)):
                with contextlib.suppress(OSError):  # a tidier of temporary files was faster
                    remove(path)

    def close(self) -> None:
        """Close the reading end and remove what is left of the FIFO."""
        self._remove()
        os.close(self.fd)


def _nameless() -> tuple[str, int]:
    """Return the name of a pipe and its reading end; the name goes with it (proc(5)).  Raises OSError."""
    read, write = os.pipe()
    os.close(write)
    os.set_blocking(read, False)
    path = f"/proc/{os.getpid()}/fd/{read}"
    if not os.path.exists(path):
        os.close(read)
        raise OSError(errno.ENOENT, "no directory for it")
    return path, read


def folders(environment: Mapping[str, str]) -> list[str]:
    """Return where FIFOs may go: the user's runtime directory, and where temporary files go."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    return [*([runtime] if runtime.startswith("/") else []), *files.temporary_folders(environment)]
