"""The effective configuration: what "ssh -G" says about a command line.

Knows how to ask ssh, once, with a time limit.  Must not know what an answer leads to.
"""

from __future__ import annotations

import os
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from ..ssh.args import CommandLine
    from .config_files import Files

# About 4 ms as a rule; "Match exec" commands and name look-ups can take any time.
LIMIT_S = 3.0
_STEP_S = 0.0001  # from the end of the output to the process's own it is hardly ever longer


class Question:
    """A running "ssh -G": ask first, do other work, then take the answer.

    subprocess would cost 11 ms to import; posix_spawn costs none.
    """

    def __init__(
        self, path: str, words: Sequence[str], environment: Mapping[bytes, bytes], stdin: int | None = None
    ) -> None:
        """Start ssh with words, the first of which ask for output and exit.  Raises OSError.

        stdin  a descriptor above 2 for its standard input, or None for none

        It gets a session of its own: a "Match exec" command that asks on the terminal finds none, and so
        the person is asked once, by the ssh that connects.
        """
        read_end, write_end = _pipe()
        source: tuple[Any, ...] = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        if stdin is not None:
            source = (os.POSIX_SPAWN_DUP2, stdin, 0)
        try:
            self._pid = _spawn_apart(
                path,
                [path, *words],
                environment,
                file_actions=[
                    source,
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
        """Return what ssh printed and its exit status; the status is None if it took too long.

        limit_s is for all of it: for each part of the output, and for the end that follows.
        """
        deadline = time.monotonic() + limit_s
        output = bytearray()
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                part = os.read(self._fd, 65536)
                if not part:
                    return bytes(output), self._status(deadline)
                output += part
            return bytes(output), None
        finally:
            self.close()

    def _status(self, deadline: float) -> int | None:
        """Return the exit status, or None if there is none by the deadline."""
        step_s = _STEP_S
        while True:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() >= deadline:
                return None
            time.sleep(step_s)
            step_s *= 1.5

    def close(self) -> None:
        """End ssh, and what it has started, if they still run; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._pid:
            for kill in (os.killpg, os.kill):  # a group of its own, where the system can give it one
                try:
                    kill(self._pid, 9)
                except OSError:
                    pass
            os.waitpid(self._pid, 0)
            self._pid = 0


def _spawn_apart(path: str, words: list[str], environment: Mapping[bytes, bytes], **how: Any) -> int:
    """Start a program as the leader of a session of its own, where the system can do that."""
    try:
        return os.posix_spawn(path, words, environment, setsid=True, **how)
    except NotImplementedError:  # a macOS or a C library older than POSIX_SPAWN_SETSID
        return os.posix_spawn(path, words, environment, setpgroup=0, **how)


def _pipe() -> tuple[int, int]:
    """Return a pipe clear of descriptors 0 to 2, which may be closed and then belong to ssh."""
    ends = os.pipe()
    return _high(ends[0]), _high(ends[1])


def _high(fd: int) -> int:
    """Return a descriptor, or a copy in its place, that is none of 0 to 2."""
    if fd > 2:
        return fd
    import fcntl  # only where a standard descriptor is closed

    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return copy


def ask_configuration(path: str, line: CommandLine, environment: Mapping[bytes, bytes]) -> Question:
    """Ask for the configuration in force for a command line.

    -E and -y stay out: an error would be written twice where the user wanted it once.
    """
    return Question(path, _question(line), environment)


def _question(line: CommandLine, config: str | None = None) -> list[str]:
    """Return the words that ask for what is in force; with config, of that file alone."""
    # Under BatchMode=yes Debian's ssh sets ServerAliveInterval to 300 where the user set none.
    words = ["-G", "-o", "BatchMode=no"]
    for option in line.options:
        if option.letter not in ("Ey" if config is None else "EyF"):
            words.append("-" + option.letter)
            if option.value is not None:
                words.append(option.value)
    if config is not None:
        words += ["-F", config]
    return [*words, "--", line.destination or "", *line.command]


def parse_configuration(output: bytes) -> dict[str, list[str]]:
    """Return keyword in lower case: values in order, from the output of "ssh -G" or "sshd -T".

    OpenSSH 10.5 began to print keywords as its manual writes them.
    """
    found: dict[str, list[str]] = {}
    for entry in os.fsdecode(output).split("\n"):
        keyword, _, value = entry.partition(" ")
        if keyword:
            found.setdefault(keyword.lower(), []).append(value)
    return found


def explicit(
    path: str,
    line: CommandLine,
    environment: Mapping[bytes, bytes],
    files: Files,
    configuration: Mapping[str, Sequence[str]],
    defaults: Mapping[str, str],
) -> frozenset[str]:
    """Return the keywords that the files set to the very value which ssh takes where nobody sets them.

    files          those of the command line
    configuration  what "ssh -G" said: for both it is the same
    defaults       keyword in lower case: another value

    ssh is asked with the defaults behind its files, where the first value of a keyword counts: what
    does not change was set before.  A keyword that ssh does not tell of counts as set.  Where no line
    says 0 or no there is nothing to ask.
    """
    defaults = {keyword: value for keyword, value in defaults.items() if files.may_deny(keyword)}
    if not defaults:
        return frozenset()
    if not files.anchored or any(char in path for path in files.paths for char in '"\\\n'):
        return frozenset(defaults)
    # Behind what is only set once the name is canonical, or the rest is known.
    last = "final all" if files.hold(b"final") or files.hold(b"canonical") else "all"
    lines = [f'Include "{_literally(path)}"' for path in files.paths]
    lines += [f"Match {last}", *(f"{keyword} {value}" for keyword, value in defaults.items())]
    try:
        source = _file_of(os.fsencode("\n".join(lines) + "\n"))
    except OSError:
        return frozenset(defaults)
    try:
        words = _question(line, "/dev/stdin")
        output, _ = Question(path, words, environment, source).answer()
    except OSError:
        output = b""
    finally:
        os.close(source)
    told = parse_configuration(output)
    return frozenset(
        keyword for keyword in defaults if keyword not in told or told[keyword] == configuration.get(keyword)
    )


def _literally(path: str) -> str:
    """Return a path for glob(3) to find as it is."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in path)


def _file_of(data: bytes) -> int:
    """Return a descriptor, above 2, of a file that holds data; it has no name.  Raises OSError."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("ssh_config")
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return _high(fd)
    fd, write_end = _pipe()  # can be read once: enough, but for "Match final"
    os.write(write_end, data)
    os.close(write_end)
    return fd


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
