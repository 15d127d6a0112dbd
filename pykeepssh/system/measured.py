"""What a probe found out, remembered for each network and host.

Knows files and how a network is recognised.  Must not know how a timeout is measured or used.

One JSON object in the folder "probes" of the state directory for each pair of network and host:

    version     1
    network     where this machine was, as network() tells it
    host        as host() tells it
    wall        when the probe ended, epoch seconds
    alive_s     the longest idle time that was survived
    dead_s      the shortest that was not, or null
    how         "silent", "reset", "closed", or null
    busy_s      after how much quiet something sent by itself, or null
    interval_s  the keepalive interval that was recommended, whole seconds
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import KsshError, printable
from . import files, state, this_host

VERSION = 1
_FOLDER = "probes"
_ROUTE, _ROUTE6, _ARP = "/proc/net/route", "/proc/net/ipv6_route", "/proc/net/arp"
_UP_GATEWAY = 0x3  # RTF_UP | RTF_GATEWAY, linux/route.h
_UP = 0x1


def network() -> str:
    """Return what tells this network from others.

    Linux: the default route with the lowest metric: its device, the gateway's address and, for IPv4,
    that gateway's hardware address, as many homes are 192.168.1.1.  Elsewhere, or without a default
    route: the first 24 bits of the local address that packets for the Internet would leave with.
    """
    return _by_route() or _by_route6() or _by_address()


def _rows(path: str) -> list[list[str]]:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return [line.split() for line in file]
    except OSError:
        return []


def _by_route() -> str:
    # Iface Destination Gateway Flags RefCnt Use Metric Mask …: addresses in the machine's order
    found = [
        (int(row[6]), row[0], row[2])
        for row in _rows(_ROUTE)[1:]
        if len(row) >= 8 and row[1] == row[7] == "00000000" and int(row[3], 16) & _UP
    ]
    if not found:
        return ""
    _, device, gateway = min(found)
    if gateway == "00000000":
        return f"dev {device}"  # a tunnel
    address = socket.inet_ntoa(int(gateway, 16).to_bytes(4, sys.byteorder))
    return " ".join(["via", address, "dev", device, *_hardware_address(address, device)])


def _hardware_address(address: str, device: str) -> list[str]:
    for row in _rows(_ARP)[1:]:
        # IP-address HW-type Flags HW-address Mask Device
        if len(row) >= 6 and row[0] == address and row[5] == device and row[3] != "00:00:00:00:00:00":
            return [row[3]]
    return []


def _by_route6() -> str:
    # destination length source length next-hop metric refcount use flags device
    found = [
        (int(row[5], 16), row[9], row[4])
        for row in _rows(_ROUTE6)
        if len(row) >= 10 and row[1] == "00" and int(row[8], 16) & _UP_GATEWAY == _UP_GATEWAY
    ]
    if not found:
        return ""
    _, device, gateway = min(found)
    return f"via {socket.inet_ntop(socket.AF_INET6, bytes.fromhex(gateway))} dev {device}"


def _by_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker, contextlib.suppress(OSError):
        asker.connect(("192.0.2.1", 9))  # of RFC 5737; a datagram socket sends nothing by that
        return f"from {asker.getsockname()[0].rpartition('.')[0]}.0/24"
    return "none"


def host(configuration: Mapping[str, Sequence[str]]) -> str:
    """Return what tells a host from others: name and port in force, and the way by a jump host.

    configuration is what "ssh -G" said (keyword in lower case: values).
    """

    def value(keyword: str) -> str:
        return (configuration.get(keyword) or [""])[0]

    way = [f"by {value(keyword)}" for keyword in ("proxyjump", "proxycommand") if _is_set(value(keyword))]
    return " ".join([f"{value('hostname').lower()}:{value('port')}", *way])


def _is_set(value: str) -> bool:
    return value not in ("", "none")


def _name(where: str, which: str) -> str:
    key = zlib.crc32(f"{where}\0{which}".encode("utf-8", "surrogateescape"))
    readable = "".join(c if c.isalnum() or c in "-." else "_" for c in which)[:80].lstrip(".")
    return f"{this_host.key()}.{readable}-{key:08x}.json"


def remember(state_dir: str, where: str, which: str, found: Mapping[str, Any]) -> str:
    """Write a result for a network and a host; return the file.

    state_dir is KSSH_STATE_DIR or "".  Raises KsshError.
    """
    folder, why = state.state_directory(state_dir)
    if folder is None:
        raise KsshError(f"cannot remember the result: {why}")
    path = os.path.join(folder, _FOLDER, _name(where, which))
    record = {"version": VERSION, "network": where, "host": which, **found}
    try:
        files.own_directory(os.path.dirname(path))
        files.write_by_rename(path, json.dumps(record).encode() + b"\n")
    except OSError as error:
        raise KsshError(f"cannot remember the result in {printable(path)}: {error.strerror}") from error
    return path


def recall(state_dir: str, where: str, which: str) -> dict[str, Any] | None:
    """Return the result for a network and a host, or None.  Raises BadValue for KSSH_STATE_DIR."""
    for folder in state.existing_directories(state_dir)[0]:
        try:
            probes = files.existing_own_directory(os.path.join(folder, _FOLDER))
            found = json.loads(files.read(os.path.join(probes, _name(where, which)), 65536) or b"null")
        except (OSError, ValueError):
            continue
        if not isinstance(found, dict) or found.get("version") != VERSION:
            continue
        if (found.get("network"), found.get("host")) == (where, which):
            return found if _is_interval(found.get("interval_s")) else None
    return None


def _is_interval(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 86400


def interval_s(state_dir: str, configuration: Mapping[str, Sequence[str]] | None) -> int | None:
    """Return the interval that was recommended for this network and host, or None (KSSH_INTERVAL=auto)."""
    if not configuration:
        return None
    found = recall(state_dir, network(), host(configuration))
    return found["interval_s"] if found else None
