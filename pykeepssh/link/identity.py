"""Which link this is: its name, its forwards, and what tells it from every other link.

Knows the command line and the effective configuration.  Must not know where a name is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ssh.args import CommandLine
from ..ssh.evidence import Evidence
from . import record

_Configuration = Mapping[str, Sequence[str]]
# What else tells two links apart: the way to the host, the configuration, the socket of a master.
_WAY = (("F", ""), ("J", "proxyjump"), ("", "proxycommand"), ("", "hostname"), ("S", "controlpath"))
_FORWARDS = (("L", "localforward"), ("R", "remoteforward"), ("D", "dynamicforward"))


def forwards(line: CommandLine, configuration: _Configuration | None) -> list[str]:
    """Return what is forwarded, as in "R2222 [localhost]:22"; from the configuration where it is known."""
    given = _given_forwards(line)
    if configuration is None:
        return given
    devices = [forward for forward in given if forward[0] == "w"]
    found = [letter + value for letter, word in _FORWARDS for value in configuration.get(word, ())]
    return found + devices


def remote_forwards(line: CommandLine, configuration: _Configuration | None) -> int:
    """Return how many remote forwards the server will have to confirm."""
    if configuration is None:
        return sum(forward[0] == "R" for forward in _given_forwards(line))
    return len(configuration.get("remoteforward", ()))


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

        A number that is no port is no answer: the next ssh would refuse it, and every one after that.
        """
        free = [index for index in self._open if index not in self._asked]
        for index, (port, to) in zip(free, allocated):
            if 0 < port < 65536:
                self._ports[index] = port, to
        return [self._ports[index] for index in self._open if index in self._ports] + list(
            allocated[len(free) :]
        )

    def refused(self, seen: Evidence | None) -> bool:
        """Tell whether ssh ended for a port that was asked for again; it is not any more."""
        if seen is None or not seen.forward_fatal or not seen.remote_refused:
            return False
        return self._refuse(seen.remote_refused[-1])

    def _refuse(self, place: str) -> bool:
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


def account(line: CommandLine, folder: str = "") -> list[str]:
    """Return what says who logs in where, and by which way: user, host, port and what else tells.

    folder  the working directory, which a relative "-F" is in

    All of it is the command line's, and so always known, whatever "ssh -G" says or fails to say; "" is
    what the command line leaves open.
    """
    told = list(_target(line))
    for letter, keyword in _WAY:
        value = _first(line, letter, keyword)
        if letter == "F" and value and value != "none" and not value.startswith("/"):
            value = f"{folder}/{value}"
        told.append(value)
    return told


def name(line: CommandLine, folder: str = "") -> str:
    """Return a name that a person can read and that only an identical link has.

    Identical are account() and forwards, as the command line has them.  What the configuration adds is
    not asked: it is not always known ("ssh -G" may take too long), and a name that depends on that does
    not keep a second one from starting.
    """
    given = sorted(_given_forwards(line), key=lambda forward: ("LRDw".index(forward[0]), forward))
    user, host, *_ = told = account(line, folder)
    destination = f"{user}@{host}" if user else host
    return record.link_name(destination, [_listener(forward) for forward in given], [*told, *given])


def _target(line: CommandLine) -> tuple[str, str, str]:
    """Return user, host and port as the command line names them, "" for what it leaves open."""
    word, port = line.destination or "", ""
    is_uri = word.lower().startswith("ssh://")
    if is_uri:
        word = word[len("ssh://") :].partition("/")[0]
    user, _, host = word.rpartition("@")
    if is_uri and ":" in host.rpartition("]")[2]:
        host, _, port = host.rpartition(":")
    return _first(line, "l", "user") or user, host.lower(), _first(line, "p", "port") or port


def _first(line: CommandLine, letter: str, keyword: str) -> str:
    """Return what the first option says that sets a keyword, as ssh takes it; "" if there is none."""
    for option in line.options:
        if option.letter == letter and option.value is not None:
            return option.value
        word, value = line.setting(option)
        if word and word == keyword:
            return value
    return ""


def _given_forwards(line: CommandLine) -> list[str]:
    """Return what the command line forwards, "-o" or not, as in "R2222:localhost:22"."""
    found = []
    for option in line.options:
        if option.letter in "LRDw" and option.value:
            found.append(option.letter + option.value)
        word, value = line.setting(option)
        found += [letter + ":".join(value.split()) for letter, keyword in _FORWARDS if keyword == word]
    return found


def _listener(forward: str) -> str:
    """Return the part of a forward that says where it listens, as in "R2222"."""
    letter, parts = forward[0], _parts(forward[1:])
    if letter in "LR":
        if len(parts) > 1 and "/" in parts[-1]:
            del parts[-1]  # a socket
        elif len(parts) > 2:
            del parts[-2:]  # host and port
    return letter + ":".join(parts)
