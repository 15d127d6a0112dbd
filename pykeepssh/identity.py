"""Which link this is: its name, its forwards, and what tells it from every other link.

Knows the command line and the effective configuration.  Must not know where a name is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import record
from .sshargs import CommandLine

_Configuration = Mapping[str, Sequence[str]]
_FORWARDS = (("L", "localforward"), ("R", "remoteforward"), ("D", "dynamicforward"))


def forwards(line: CommandLine, configuration: _Configuration | None) -> list[str]:
    """Return what is forwarded, as in "R2222 [localhost]:22"; from the configuration where it is known."""
    devices = [
        option.letter + option.value for option in line.options if option.letter == "w" and option.value
    ]
    if configuration is None:
        return [o.letter + o.value for o in line.options if o.letter in "LRD" and o.value] + devices
    found = [letter + value for letter, word in _FORWARDS for value in configuration.get(word, ())]
    return found + devices


def remote_forwards(line: CommandLine, configuration: _Configuration | None) -> int:
    """Return how many remote forwards the server will have to confirm."""
    return line.count("R") if configuration is None else len(configuration.get("remoteforward", ()))


def name(line: CommandLine, configuration: _Configuration | None) -> str:
    """Return a name that a person can read and that only an identical link has.

    Identical are: user, host and port that ssh connects to, forwards, the configuration file, and
    the control socket of a master.
    """
    destination = line.destination or ""
    values = forwards(line, configuration)
    key = [*values, *line.values("F")]
    if configuration is None:
        key += [destination, *line.values("p"), *line.values("l")]
    else:
        key += [configuration.get(word, [""])[0] for word in ("user", "hostname", "port")]
        if line.count("M") or line.count("S"):
            key += configuration.get("controlpath", ())
    return record.link_name(destination, [value.split()[0] for value in values], key)
