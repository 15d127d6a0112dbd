"""What OpenSSH itself makes of configuration files: "ssh -G", "sshd -t", "sshd -T", and Include.

Knows the programs' options, their debug lines and where they look for files.  Must not know which
setting anybody is after.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess

from ...errors import KsshError, Unusable, printable
from ...system import files
from ...system.effective import parse_configuration
from . import grammar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM_CONFIG = "/etc/ssh/ssh_config"
SERVER_CONFIG = "/etc/ssh/sshd_config"
ANY_HOST = "keepalive-check"  # a host that no block names
_FOLDER = "/etc/ssh"  # SSHDIR, of every package
LIMIT_S = 15.0
# readconf.c, match_cfg_line(): "FILE line N: not matched 'user "x"'"
_MATCHED = re.compile(r"debug3: (.*) line (\d+): (not )?matched '")
_NEXT_PASS = "debug1: re-parsing configuration"


def run(words: Sequence[str]) -> tuple[int, bytes, str]:
    """Run a program; return status, output and what it complained about, within LIMIT_S.

    It gets a session of its own: a "Match exec" command finds no terminal to ask on, and goes with it.

    Raises KsshError if it cannot be started or takes too long.
    """
    nobody, pipe = subprocess.DEVNULL, subprocess.PIPE
    try:
        with subprocess.Popen(
            words, stdin=nobody, stdout=pipe, stderr=pipe, start_new_session=True
        ) as process:
            try:
                output, said = process.communicate(timeout=LIMIT_S)
            except BaseException:  # Ctrl-C too: nothing else would end it
                os.killpg(process.pid, signal.SIGKILL)
                raise
    except subprocess.TimeoutExpired as error:
        raise KsshError(f"{printable(words[0])} took more than {LIMIT_S:g} s") from error
    except OSError as error:
        raise KsshError(f"cannot run {printable(words[0])}: {error.strerror}") from error
    return process.returncode, output, os.fsdecode(said)


def complaint(said: str) -> str:
    """Return what a program complained about, in one line that can be shown."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("debug", "OpenSSH_", "Pseudo-terminal"))]
    return printable("; ".join(lines[-3:])) or "it did not say why"


def flag(value: str) -> str:
    """Return "yes" or "no" for a flag in force, of which 10.6 says true or false; else the value itself."""
    return {"true": "yes", "false": "no"}.get(value, value)


def home() -> str:
    """Return the home directory as OpenSSH does: from the password database, never from HOME."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError as error:
        raise KsshError(f"no password entry for user {os.getuid()}: name the file with --config") from error


def user_config() -> str:
    """Return the path of the user's configuration file."""
    return os.path.join(home(), ".ssh", "config")


def read(path: str) -> bytes | None:
    """Return a file's bytes, None if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def check_file(path: str) -> None:
    """Raise KsshError if something else than a file is to be read: it could last for ever."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise KsshError(f"{printable(path)}: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) and not _is_null(found):
        raise KsshError(f"{printable(path)}: not a regular file")


def check_trusted(path: str) -> None:
    """Raise KsshError if a file is none, or is not to be read by root."""
    check_file(path)
    why = why_not_as_root(path)
    if why:
        raise KsshError(why)


def why_not_as_root(path: str) -> str:
    """Return why ssh must not read a file as root, "" if it may: it does what "Match exec" says.

    That is so where somebody else has written the file, or could replace it.
    """
    if os.geteuid() != 0 or _is_null(os.stat(path)):
        return ""
    why = files.why_doubtful(path)
    return f"{why}: root does not act on that; run ksshctl as that user, or give it to root" if why else ""


def _is_null(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.stat(os.devnull).st_rdev


def _expand(argument: bytes, folder: str) -> list[str]:
    """Return the files that one argument of Include stands for, in the order of glob(3)."""
    path = os.fsdecode(argument)
    if path == "~" or path.startswith("~/"):
        path = home() + path[1:]
    elif path.startswith("~"):
        path = os.path.expanduser(path)
    elif not path.startswith("/"):
        path = os.path.join(folder, path)
    return sorted(glob.glob(path))


def included(argument: bytes, user: bool) -> list[str]:
    """Return the files that an argument of Include stands for in a client's file; user: the user's."""
    return _expand(argument, os.path.join(home(), ".ssh") if user else _FOLDER)


def client_groups(main: str | None) -> list[list[grammar.Setting]]:
    """Return every line that ssh reads: with -F main, or of the user's file and then of the system's."""
    if main is not None:
        return [list(grammar.walk(main, read, lambda word: included(word, True)))]
    return [
        list(grammar.walk(user_config(), read, lambda word: included(word, True))),
        list(grammar.walk(SYSTEM_CONFIG, read, lambda word: included(word, False))),
    ]


def client_settings(main: str | None) -> list[grammar.Setting]:
    """Return the same in one list."""
    return [setting for group in client_groups(main) for setting in group]


def server_settings(main: str) -> list[grammar.Setting]:
    """Return every line that sshd reads from a configuration file on."""
    return list(grammar.walk(main, read, lambda word: _expand(word, _FOLDER)))


class Client:
    """What ssh makes of its configuration for one host.

    values   keyword in lower case: values in order
    """

    def __init__(self, program: str, host: str, config: str | None, options: Sequence[str] = ()) -> None:
        """Ask "ssh -G".  Raises KsshError with what ssh says if it refuses the configuration."""
        self._host = host
        self._config = config
        which = [] if config is None else ["-F", config]
        # Under BatchMode=yes Debian's ssh sets ServerAliveInterval to 300 where nobody set it.
        words = [program, "-vvv", "-G", *which, "-o", "BatchMode=no", *options, "--", host]
        status, output, said = run(words)
        if status != 0:
            raise KsshError(complaint(said))
        self.values = parse_configuration(output)
        self._passes = [_results(part) for part in said.split(_NEXT_PASS)]

    def value(self, word: str) -> str:
        """Return the value in force of a keyword, "" if ssh does not know it."""
        return self.values.get(word.lower(), [""])[0]

    def source(self, word: str) -> grammar.Setting | None:
        """Return the line that gives a keyword its value; None: no file, it is the default."""
        settings = client_settings(self._config)
        for results in self._passes:
            for setting in settings:
                if setting.line.keyword == word.lower() and all(
                    self._applies(opener, results) for opener in setting.scope
                ):
                    return setting
        return None

    def _applies(self, opener: grammar.Opener, results: dict[tuple[str, int], bool]) -> bool:
        if grammar.is_for_all(opener.line):
            return True
        if opener.line.keyword == "host":
            return grammar.host_matches(opener.line.arguments, os.fsencode(self._host))
        return results.get((opener.file, opener.number), False)


def _results(said: str) -> dict[tuple[str, int], bool]:
    """Return for each Match line, by file and number, whether ssh found that it applies."""
    found: dict[tuple[str, int], bool] = {}
    for line in said.splitlines():
        told = _MATCHED.match(line)
        if told:
            place = (told[1], int(told[2]))
            found[place] = found.get(place, True) and not told[3]
    return found


# sshd.


def find_sshd(wanted: str | None) -> str | None:
    """Return the path of sshd, None if there is none.  Raises Unusable if the wanted one cannot be run.

    As root none is taken from PATH that somebody else could have put there: su(1) keeps the user's PATH.
    """
    if wanted is not None:
        path = shutil.which(wanted)
        if path is None:
            raise Unusable(f"--sshd {printable(wanted)}: expected a program that can be run")
        return os.path.abspath(path)  # sshd insists on it
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in (*folders, "/usr/sbin", "/usr/local/sbin", "/sbin"):
        path = shutil.which("sshd", path=os.path.abspath(folder))
        if path is not None and (os.geteuid() != 0 or not files.why_doubtful(path)):
            return path
    return None


def sshd_refuses(program: str, config: str) -> str | None:
    """Return None if sshd would start with a configuration file, else what it says against it."""
    status, _, said = run([program, "-t", "-f", config])
    return None if status == 0 else complaint(said)


def sshd_values(program: str, config: str, connection: str | None = None) -> dict[str, list[str]]:
    """Return keyword in lower case: values, from "sshd -T"; connection is what -C takes.

    Raises KsshError with what sshd says if it will not tell.
    """
    extra = [] if connection is None else ["-C", connection]
    status, output, said = run([program, "-T", "-f", config, *extra])
    if status != 0:
        raise KsshError(complaint(said))
    return parse_configuration(output)


def sshd_version(program: str) -> tuple[int, int] | None:
    """Return the version of sshd, such as (9, 2); None if it does not tell."""
    # Before 9.2 there is no -V: the complaint about it has the version as well.
    _, output, said = run([program, "-V"])
    told = re.search(r"OpenSSH_(\d+)\.(\d+)", said + os.fsdecode(output))
    return (int(told[1]), int(told[2])) if told else None


def explained(why: str) -> str:
    """Return what sshd says, and what it does not say to an ordinary user."""
    return f"{why} (only root can read its keys)" if "hostkeys" in why and os.geteuid() != 0 else why


def server_source(settings: list[grammar.Setting], word: str, value: str) -> grammar.Setting | None:
    """Return the line that gives sshd a value: the first for all, or in a Match block if that differs."""
    lines = [setting for setting in settings if setting.line.keyword == word.lower()]
    for setting in lines:
        if not setting.scope:
            if _number_in(setting) == value:
                return setting
            break
    return next((setting for setting in lines if setting.scope and _number_in(setting) == value), None)


def _number_in(setting: grammar.Setting) -> str:
    if not setting.line.arguments:
        return ""
    text = os.fsdecode(setting.line.arguments[0])
    return str(grammar.seconds(text)) if setting.line.keyword.endswith("interval") else text
