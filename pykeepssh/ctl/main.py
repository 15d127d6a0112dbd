"""The command ksshctl: finds the module of a verb and hands the command line to it.

Knows which verb is in which module.  Must not know what a verb does: a module offers
add_parser(subparsers), which adds the parsers of all its verbs, and run(arguments) -> status, where
arguments.verb is the verb.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import io
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from .. import __version__
from ..errors import KsshError, Unusable, printable
from ..system import files, program

FAILED = 1
USAGE = 2

# What write(2) says of standard output; all other input and output is looked after where it is done.
_UNWRITABLE = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

# verb: its module.  Only the module that is asked for is imported; for the list of them, all are.
VERBS = {
    "status": "links",
    "stop": "links",
    "restart": "links",
    "retry": "links",
    "wait": "links",
    "history": "history",
    "log": "history",
    "keepalive": "keepalive.verb",
    "doctor": "keepalive.doctor",
    "probe": "probe.verb",
}

DESCRIPTION = "Show and control the links that kssh keeps, and set up keepalive for plain ssh."


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the command line, and end with status 2."""
        complain(f"{printable(message)}; see {self.prog} --help")
        sys.exit(USAGE)


def complain(text: str) -> None:
    """Write one line of ksshctl's to standard error."""
    program.complain(text, "ksshctl")


def say(*lines: str) -> None:
    """Print lines as they are, whatever the encoding of standard output."""
    for line in lines:
        sys.stdout.buffer.write(f"{line}\n".encode(sys.stdout.encoding or "utf-8", "backslashreplace"))
    sys.stdout.flush()


def main() -> int:
    """Run ksshctl with the words of this process; return its exit status."""
    _prepare_descriptors()
    try:
        status = _run()
        sys.stdout.flush()
    except OSError as error:
        if (
            error.errno == errno.ENOENT and not files.working_directory()
        ):  # a relative path can mean nothing there
            complain(f"the working directory was removed: {error.strerror}")
            return FAILED
        if error.filename is not None or error.errno not in _UNWRITABLE:
            raise
        if not isinstance(error, BrokenPipeError):  # who read a pipe has seen enough
            complain(f"cannot write: {error.strerror}")
        # What is still buffered must not fail a second time at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED
    except KeyboardInterrupt:
        program.die_of(program.SIGINT)
    return status


def _prepare_descriptors() -> None:
    """Have nothing that is said get in the way of what is done, nor into a file that is opened.

    A closed descriptor would be given to the next file, and what ASCII has no sign for would be an error.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(fd)
    if sys.stdout is None:  # it was closed
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run() -> int:
    """Do what the words of this process ask for; return the exit status."""
    try:
        arguments = _parser(sys.argv[1:]).parse_args()
        status: int = _module(arguments.verb).run(arguments)
    except SystemExit as end:  # of argparse, which has said why
        return int(end.code or 0)
    except KsshError as error:
        complain(str(error))
        return USAGE if isinstance(error, Unusable) else FAILED
    return status


def _parser(words: Sequence[str]) -> Parser:
    parser = Parser(prog="ksshctl", description=DESCRIPTION, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"ksshctl {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="COMMAND", required=True)
    verb = next((word for word in words if not word.startswith("-")), "")
    for name in [VERBS[verb]] if verb in VERBS else dict.fromkeys(VERBS.values()):
        _module_named(name).add_parser(subparsers)
    return parser


def _module(verb: str) -> Any:
    return _module_named(VERBS[verb])


def _module_named(name: str) -> Any:
    return importlib.import_module(f"{__package__}.{name}")
