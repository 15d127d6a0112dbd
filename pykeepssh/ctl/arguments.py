"""What ksshctl's verbs read from the command line: times and numbers, as types of argparse."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..settings import seconds

_LONGEST_S = 10 * 365 * 86400
_LARGEST = 10**9


def a_time(least: int = 0, most: int = _LONGEST_S) -> Callable[[str], int]:
    """Return what reads a time in whole seconds.  Raises argparse.ArgumentTypeError."""

    def read(text: str) -> int:
        found = seconds(text)
        if found is None or not least <= found <= most:
            bounds = f"of {least} to {most} seconds, " if (least, most) != (0, _LONGEST_S) else ""
            raise argparse.ArgumentTypeError(f"{text}: expected a time {bounds}such as 90 or 1m30s")
        return found

    return read


def a_number(least: int = 0, most: int = _LARGEST) -> Callable[[str], int]:
    """Return what reads a whole number.  Raises argparse.ArgumentTypeError."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 10 and least <= int(text) <= most):
            bounds = f" from {least} to {most}" if (least, most) != (0, _LARGEST) else ""
            raise argparse.ArgumentTypeError(f"{text}: expected a whole number{bounds}")
        return int(text)

    return read
