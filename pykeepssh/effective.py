"""The effective configuration: what "ssh -G" says about a command line.

Knows how to ask ssh, once, with a time limit.  Must not know what an answer leads to.
"""

from __future__ import annotations

import os
import select

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .sshargs import CommandLine

# About 4 ms as a rule; "Match exec" commands and name look-ups can take any time.
LIMIT_S = 3.0
_POLL_S = 0.002


class Question:
    """A running "ssh -G": ask first, do other work, then take the answer.

    subprocess would cost 11 ms to import; posix_spawn costs none.
    """

    def __init__(self, path: str, words: Sequence[str], environment: Mapping[bytes, bytes]) -> None:
        """Start ssh with words, the first of which ask for output and exit.  Raises OSError."""
        read_end, write_end = _pipe()
        try:
            self._pid = os.posix_spawn(
                path,
                [path, *words],
                environment,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, write_end, 1),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
            )
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        self._fd = read_end

    def answer(self, limit_s: float = LIMIT_S) -> tuple[bytes, int | None]:
        """Return what ssh printed and its exit status; the status is None if it took too long."""
        output = bytearray()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        in_time = True
        while True:
            if not poll.poll(limit_s * 1000):
                in_time = False
                break
            part = os.read(self._fd, 65536)
            if not part:
                break
            output += part
        os.close(self._fd)
        if not in_time:
            os.kill(self._pid, 9)
        _, status = os.waitpid(self._pid, 0)
        return bytes(output), os.waitstatus_to_exitcode(status) if in_time else None


def _pipe() -> tuple[int, int]:
    """Return a pipe clear of descriptors 0 to 2, which may be closed and then belong to ssh."""
    ends = os.pipe()
    if min(ends) > 2:
        return ends
    import fcntl  # only where a standard descriptor is closed

    high = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return high[0], high[1]


def ask_configuration(path: str, line: CommandLine, environment: Mapping[bytes, bytes]) -> Question:
    """Ask for the configuration in force for a command line.

    -E and -y stay out: an error would be written twice where the user wanted it once.
    """
    # Under BatchMode=yes Debian's ssh sets ServerAliveInterval to 300 where the user set none.
    words = ["-G", "-o", "BatchMode=no"]
    for option in line.options:
        if option.letter not in "Ey":
            words.append("-" + option.letter)
            if option.value is not None:
                words.append(option.value)
    return Question(path, [*words, "--", line.destination or "", *line.command], environment)


def parse_configuration(output: bytes) -> dict[str, list[str]]:
    """Return keyword in lower case: values in order, from the output of "ssh -G"."""
    found: dict[str, list[str]] = {}
    for entry in os.fsdecode(output).splitlines():
        keyword, _, value = entry.partition(" ")
        if keyword:
            found.setdefault(keyword, []).append(value)
    return found


def ask_version(path: str, environment: Mapping[bytes, bytes]) -> tuple[int, int] | None:
    """Return the version of OpenSSH, such as (9, 2), or None if the program does not tell it."""
    try:
        # "ssh -V" prints to standard error; "ssh -Q protocol-version" has no number.
        output, _ = Question("/bin/sh", ["-c", 'exec "$1" -V 2>&1', "sh", path], environment).answer()
    except OSError:
        return None
    return parse_version(os.fsdecode(output))


def parse_version(text: str) -> tuple[int, int] | None:
    """Return (9, 2) for "OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL …", None for any other program."""
    mark = "OpenSSH_"
    if not text.startswith(mark):
        return None
    major, _, rest = text[len(mark) :].partition(".")
    minor = ""
    for char in rest:
        if not char.isdigit():
            break
        minor += char
    return (int(major), int(minor)) if major.isdigit() and minor else None
