"""The state record of a link: one small JSON object.

Knows the format.  Must not know where a record is kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any

VERSION = 1

# name: (type, what it holds)
FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "version": ((int,), "of this format"),
    "name": ((str,), "the link's name"),
    "kind": ((str,), "kind of session"),
    "destination": ((str,), "as the user wrote it"),
    "machine": ((str,), "name of the host that kssh runs on"),
    "machine_key": ((str,), "what stands for that host in the file's name, where its name cannot"),
    "pid": ((int,), "of kssh"),
    "pid_started": ((int, float), "when that process started, epoch seconds: a pid alone may be reused"),
    "pid_mark": ((str,), 'the same, exact even where the clock was set since; "" where there is none'),
    "ssh_pid": ((int, type(None)), "of ssh, while it runs"),
    "state": ((str,), "of the link, as link/machine.py has it: STARTING, UP, WAITING, RESTARTING, STOPPING"),
    "since": ((int, float), "when that state began, epoch seconds"),
    "starts": ((int,), "starts of ssh so far"),
    "reason": ((str,), "why ssh ended last, in words"),
    "next": ((int, float, type(None)), "when ssh is started next, epoch seconds, while WAITING"),
    "forwards": ((list,), 'what is forwarded, as in "R2222"'),
    "allocated": ((list,), "[{port, to}]: what the server chose for each remote forward of port 0"),
    "logfile": ((str,), 'KSSH_LOGFILE as an absolute path, or ""'),
}

MOST_BYTES = 1_000_000  # more than any record has
_BEYOND = 1e12  # any time, and any count
_PROCESSES = ("pid", "ssh_pid")
# Fields that a record of an older kssh, which still runs, lacks.
_LATER: dict[str, Any] = {"allocated": [], "machine_key": ""}

_NAME_CHARS = "-_.@+,:"
_LONGEST_NAME = 80  # bytes: with the host's name it becomes a file's, which may have 255


def pack(record: dict[str, Any]) -> bytes:
    """Return a record as one line of JSON."""
    return json.dumps(record, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"


def unpack(data: bytes) -> dict[str, Any] | None:
    """Return a record, or None if the data is none that this version can read."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or record.get("version") != VERSION:
        return None
    record = {**_LATER, **record}
    for field, (types, _) in FIELDS.items():
        value = record.get(field)
        if not isinstance(value, types) or isinstance(value, bool):
            return None
        # Python's JSON has infinity and NaN.  An impossible process is a dead one.
        if field not in _PROCESSES and isinstance(value, (int, float)) and not 0 <= value < _BEYOND:
            return None
    return record


def link_name(destination: str, forwards: Sequence[str], key: Sequence[str]) -> str:
    """Return a name that a person can read and that no other link has: "alice@host-R2222-1f0c9a2b".

    key is everything that tells two links apart; it goes into the last eight digits.
    """
    readable = "-".join([destination, *forwards])
    readable = "".join(c if c.isalnum() or c in _NAME_CHARS else "_" for c in readable)
    digest = zlib.crc32("\0".join(key).encode("utf-8", "surrogateescape"))
    short = readable.lstrip(".").encode()[:_LONGEST_NAME].decode(errors="ignore")
    return f"{short}-{digest:08x}"
