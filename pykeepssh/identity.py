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


def with_port(forward: str, port: int) -> str | None:
    """Return the argument of a "-R" with a port in place of its 0, or None if it names another than 0.

    Which part is the port: readconf.c, parse_forward().
    """
    parts = _parts(forward)
    last_is_path = "/" in parts[-1]
    # [bind:]port, [bind:]port:path, [bind:]port:host:hostport
    place = {1: 0, 2: 0 if last_is_path else 1, 3: 1 if last_is_path else 0, 4: 1}.get(len(parts))
    if place is None or parts[place] != "0":
        return None
    parts[place] = str(port)
    return ":".join(parts)


def _parts(forward: str) -> list[str]:
    """Return the parts of a forward; a ":" in brackets is an address's."""
    parts, depth = [""], 0
    for char in forward:
        depth += (char == "[") - (char == "]")
        if char == ":" and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def ports_to_choose(line: CommandLine) -> list[int]:
    """Return which options of a command line are a "-R" whose port the server chooses, by index."""
    return [
        index
        for index, option in enumerate(line.options)
        if option.letter == "R" and option.value and with_port(option.value, 0)
    ]


class Chosen:
    """The ports that the server chose for a command line's "-R 0": they are asked for again.

    This is the one place where a word of the user's reaches ssh changed: whoever asks for any port
    is given the one that others know by now.
    """

    def __init__(self, line: CommandLine) -> None:
        self._line = line
        self._open = ports_to_choose(line)
        self._ports: dict[int, tuple[int, str]] = {}
        self._asked: list[int] = []

    def instead(self) -> dict[int, str]:
        """Return what the next ssh is to be asked for: index of an option, its argument."""
        self._asked = list(self._ports)
        arguments = {}
        for index, (port, _) in self._ports.items():
            argument = with_port(self._line.options[index].value or "", port)
            assert argument is not None
            arguments[index] = argument
        return arguments

    def learn(self, allocated: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Take in what the server chose now; return all ports that it once chose and that are there.

        allocated  (port, where it leads), in the order of the forwards: the command line's come first
        """
        free = [index for index in self._open if index not in self._asked]
        self._ports.update(zip(free, allocated))
        return [self._ports[index] for index in self._open if index in self._ports] + list(
            allocated[len(free) :]
        )

    def refuse(self, place: str) -> bool:
        """Tell whether a port that was refused is one that was asked for again; it is not any more."""
        for index in self._asked:
            if index in self._ports and str(self._ports[index][0]) == place:
                del self._ports[index]
                return True
        return False


def wants_device(line: CommandLine, configuration: _Configuration | None) -> bool:
    """Tell whether a tunnel device is asked for ("-w")."""
    wish = configuration.get("tunnel", ["no"])[0] if configuration else ""
    return wish not in ("no", "false") if wish else bool(line.count("w"))


def stands_once(forwards: Sequence[str]) -> bool:
    """Tell whether one of the forwards, as forwards() returns them, is a listener that only one can have."""
    return any(_is_fixed(forward[0], forward[1:]) for forward in forwards)


def _is_fixed(letter: str, value: str) -> bool:
    if letter == "w":
        return value.partition(":")[0].isdigit() or value.partition(":")[2].isdigit()
    if letter != "R":
        return True
    # Only on the other side a port of 0 leaves the choice to the one who listens.
    return with_port(value.partition(" ")[0], 1) is None


def account(line: CommandLine) -> list[str]:
    """Return the words that say who logs in where: always known, whatever "ssh -G" says or fails to say."""
    return [line.destination or "", *(value for letter in "lpFJ" for value in line.values(letter))]


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
