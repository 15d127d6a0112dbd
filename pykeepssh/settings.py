"""The KSSH_* environment: its names, defaults and what each value must look like.

Knows the grammar of every variable.  Must not know what a setting leads to, nor read the
environment itself: it is handed in.
"""

from __future__ import annotations

from .errors import BadValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

NO_LIMIT = -1
AUTO = -1  # interval_s: what a probe found out about this network and host

_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_MOST_DIGITS = 10  # of a number: enough for any time, and a bound for who writes more
_LARGEST = 2**31 - 1
_LONGEST_S = _LARGEST // 1000  # ssh and poll(2) count in milliseconds that fit an int
_LONGEST_LIFE_S = 10 * 365 * 86400


def _digits(text: str) -> int | None:
    """Return a decimal number of ASCII digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None


def seconds(text: str) -> int | None:
    """Return a time such as "90" or "1m30s" in seconds, or None if the text is none.

    The one grammar of times, of the command line and of ssh's files too.
    Source: sshd_config(5), TIME FORMATS; convtime() in misc.c.
    """
    total, digits = 0, ""
    for char in text.lower():
        if "0" <= char <= "9" and len(digits) < _MOST_DIGITS:
            digits += char
        elif digits and char in _UNITS_S:
            total += int(digits) * _UNITS_S[char]
            digits = ""
        else:
            return None
    return total + int(digits or 0) if text else None


def _time(name: str, text: str, least: int = 0, most: int = _LONGEST_S) -> int:
    found = seconds(text)
    if found is None or not least <= found <= most:
        raise BadValue(name, text, f"a time of {least} to {most} seconds, such as 90 or 1m30s")
    return found


def _delay(name: str, text: str) -> int:
    return _time(name, text, least=1)


def _lifetime(name: str, text: str) -> int:
    return _time(name, text, most=_LONGEST_LIFE_S)


def _interval(name: str, text: str) -> int:
    if text.lower() == "auto":
        return AUTO
    try:
        return _time(name, text)
    except BadValue as error:
        raise BadValue(name, text, f"{error.expected}, or auto") from None


def _positive(name: str, text: str) -> int:
    number = _digits(text)
    if number is None or not 1 <= number <= _LARGEST:
        raise BadValue(name, text, f"a whole number of 1 to {_LARGEST}")
    return number


def _limit(name: str, text: str) -> int:
    if text == str(NO_LIMIT):
        return NO_LIMIT
    number = _digits(text)
    if number is None or not 1 <= number <= _LARGEST:
        raise BadValue(name, text, "a number of starts of at least 1, or -1 for no limit")
    return number


def _one_of(*words: str) -> Callable[[str, str], str]:
    def choose(name: str, text: str) -> str:
        if text.lower() not in {word.lower() for word in words}:
            raise BadValue(name, text, "one of " + ", ".join(words))
        return next(word for word in words if word.lower() == text.lower())

    return choose


def _text(name: str, text: str) -> str:
    return text


def _link_name(name: str, text: str) -> str:
    usable = all(c.isalnum() or c in "-_.@:+," for c in text) and not text.startswith(".")
    if not usable or len(text.encode()) > 100:  # it becomes part of a file's name, of 255 bytes at most
        raise BadValue(name, text, "up to 100 bytes of letters, digits and -_.@:+, not beginning with a dot")
    return text


def _switch(name: str, text: str) -> bool:
    if text not in ("0", "1"):
        raise BadValue(name, text, "0 or 1")
    return text == "1"


LOG_LEVELS = ("QUIET", "ERROR", "INFO", "VERBOSE", "DEBUG")  # ssh_config(5), LogLevel

# name without KSSH_: (default as it would be written, parser)
TABLE: dict[str, tuple[str, Callable[[str, str], object]]] = {
    "INTERVAL": ("15", _interval),
    "COUNTMAX": ("3", _positive),
    "MAXSTART": ("-1", _limit),
    "RESTART": ("auto", _one_of("auto", "attended", "always", "never")),
    "FIRST_START": ("auto", _one_of("auto", "retry", "fail")),
    "BACKOFF_MAX": ("30", _delay),
    "CONNECT_TIMEOUT": ("15", _delay),
    "MAXLIFETIME": ("0", _lifetime),
    "SSH": ("", _text),
    "NAME": ("", _link_name),
    "PIDFILE": ("", _text),
    "LOGFILE": ("", _text),
    "LOGLEVEL": ("INFO", _one_of(*LOG_LEVELS)),
    "STATE_DIR": ("", _text),
    "HOOK": ("", _text),
    "BELL": ("1", _switch),
    "STALL_NOTICE": ("1", _switch),
    "RESUME": ("off", _one_of("off", "tmux", "screen", "zellij")),
}


class Settings:
    """What the KSSH_* variables say.

    Times are whole seconds.  interval_s 0 adds no keepalive, AUTO waits for take_interval(); maxstart
    and maxlifetime_s know NO_LIMIT and 0 for "none"; paths and names are "" where unset.  given holds
    the names (without KSSH_) that the environment sets: those beat ssh_config, defaults do not.
    yielding holds keywords of ssh_config, in lower case, that the user's files set: a default of kssh's
    gives way to what they say, be it only what ssh does by itself.
    """

    __slots__ = (
        "backoff_max_s",
        "bell",
        "connect_timeout_s",
        "countmax",
        "first_start",
        "given",
        "hook",
        "interval_s",
        "logfile",
        "loglevel",
        "maxlifetime_s",
        "maxstart",
        "name",
        "pidfile",
        "restart",
        "resume",
        "ssh",
        "stall_notice",
        "state_dir",
        "yielding",
    )

    interval_s: int
    countmax: int
    maxstart: int
    restart: str
    first_start: str
    backoff_max_s: int
    connect_timeout_s: int
    maxlifetime_s: int
    ssh: str
    name: str
    pidfile: str
    logfile: str
    loglevel: str
    state_dir: str
    hook: str
    bell: bool
    stall_notice: bool
    resume: str
    given: frozenset[str]

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Read the environment; an empty value counts as unset.

        Raises BadValue for the first variable that cannot be used.
        """
        given = set()
        for name, (default, read) in TABLE.items():
            text = environment.get("KSSH_" + name, "")
            if text:
                given.add(name)
            value = read("KSSH_" + name, text or default)
            attribute = name.lower()
            setattr(self, attribute if hasattr(type(self), attribute) else attribute + "_s", value)
        self.given = frozenset(given)
        self.yielding: frozenset[str] = frozenset()

    def take_interval(self, interval_s: int | None) -> None:
        """Put a remembered interval in the place of AUTO; None: as if the variable were unset."""
        if interval_s is None:
            self.interval_s = _interval("KSSH_INTERVAL", TABLE["INTERVAL"][0])
            self.given -= {"INTERVAL"}
        else:
            self.interval_s = interval_s
