"""What OpenSSH itself makes of configuration files: "ssh -G", "sshd -t", "sshd -T".

Knows the programs' options, their debug lines and which files they begin with.  Must not know which
setting anybody is after.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess

from ...errors import KsshError, Unusable, printable
from ...settings import seconds
from ...system import files
from ...system.effective import parse_configuration
from . import grammar
from .tree import Root, Tree, home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

SYSTEM_CONFIG = "/etc/ssh/ssh_config"
SERVER_CONFIG = "/etc/ssh/sshd_config"
ANY_HOST = "keepalive-check"  # a host that no block names
_FOLDER, _USERS = "/etc/ssh", "~/.ssh"  # SSHDIR, of every package; _PATH_SSH_USER_DIR
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


def user_config() -> str:
    """Return the path of the user's configuration file."""
    return os.path.join(home(), ".ssh", "config")


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


def client_tree(config: str | None) -> Tree:
    """Return the files that ssh reads: with -F config, or the user's and then the system's."""
    if config is not None:
        return Tree([Root(config, _USERS, True)], config)
    return Tree([Root(user_config(), _USERS, True), Root(SYSTEM_CONFIG, _FOLDER, True)], None)


def server_tree(config: str) -> Tree:
    """Return the files that sshd reads."""
    return Tree([Root(config, _FOLDER, False)], config)


class Client:
    """What ssh makes of its configuration for one host.

    values   keyword in lower case: values in order
    """

    def __init__(self, program: str, host: str, tree: Tree, options: Sequence[str] = ()) -> None:
        """Ask "ssh -G".  Raises KsshError with what ssh says if it refuses the configuration."""
        self._host = host
        self._settings = tree.settings()
        with tree.on_disk() as (config, named):
            which = [] if config is None else ["-F", config]
            # Under BatchMode=yes Debian's ssh sets ServerAliveInterval to 300 where nobody set it.
            words = [program, "-vvv", "-G", *which, "-o", "BatchMode=no", *options, "--", host]
            status, output, said = run(words)
            said = named(said)
        if status != 0:
            raise KsshError(complaint(said))
        self.values = parse_configuration(output)
        self._passes = [_results(part) for part in said.split(_NEXT_PASS)]

    def value(self, word: str) -> str:
        """Return the value in force of a keyword, "" if ssh does not know it."""
        return self.values.get(word.lower(), [""])[0]

    def source(self, word: str) -> grammar.Setting | None:
        """Return the line that gives a keyword its value; None: no file, it is the default."""
        for results in self._passes:
            for setting in self._settings:
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
    """Return the path of sshd, None if there is none.  Raises Unusable if the wanted one is no such program.

    As root none is taken from PATH that somebody else could have put there: su(1) keeps the user's PATH.
    """
    if wanted is not None:
        path = shutil.which(wanted)
        if path is None:
            raise Unusable(f"--sshd {printable(wanted)}: expected a program that can be run")
        path = os.path.abspath(path)  # sshd insists on it
        if sshd_version(path) is None:  # another program would find nothing wrong with any file
            raise Unusable(f"--sshd {printable(wanted)}: expected OpenSSH's sshd")
        return path
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in (*folders, "/usr/sbin", "/usr/local/sbin", "/sbin"):
        path = shutil.which("sshd", path=os.path.abspath(folder))
        if path is not None and (os.geteuid() != 0 or not files.why_doubtful(path)):
            return path
    return None


def _ask_sshd(program: str, tree: Tree, *words: str) -> bytes:
    """Return what sshd tells of its files.  Raises KsshError with what it says against them."""
    with tree.on_disk() as (config, named):
        status, output, said = run([program, *words, "-f", config or SERVER_CONFIG])
        if status != 0:
            raise KsshError(complaint(named(said)))
    return output


def sshd_refuses(program: str, tree: Tree) -> str | None:
    """Return None if sshd would start with these files, else what it says against them."""
    try:
        _ask_sshd(program, tree, "-t")
    except KsshError as error:
        return str(error)
    return None


def sshd_values(program: str, tree: Tree, connection: str | None = None) -> dict[str, list[str]]:
    """Return keyword in lower case: values, from "sshd -T"; connection is what -C takes.

    Raises KsshError with what sshd says if it will not tell.
    """
    if connection is not None:
        return parse_configuration(_ask_sshd(program, tree, "-T", "-C", connection))
    try:
        return parse_configuration(_ask_sshd(program, tree, "-T"))
    except KsshError as error:
        if "'lport'" not in str(error):
            raise
    # "Match LocalPort" is the one that refuses to be asked without a connection: a port that is nobody's.
    return parse_configuration(_ask_sshd(program, tree, "-T", "-C", "lport=65535"))


def sshd_version(program: str) -> tuple[int, int] | None:
    """Return the version of sshd, such as (9, 2); None if it does not tell."""
    # Before 9.2 there is no -V: the complaint about it has the version as well.
    _, output, said = run([program, "-V"])
    told = re.search(r"OpenSSH_(\d+)\.(\d+)", said + os.fsdecode(output))
    return (int(told[1]), int(told[2])) if told else None


def explained(why: str) -> str:
    """Return what sshd says, and what it does not say to an ordinary user."""
    return f"{why} (only root can read its keys)" if "hostkeys" in why and os.geteuid() != 0 else why


def server_source(
    settings: list[grammar.Setting], word: str, value: str, connection: bool = False
) -> grammar.Setting | None:
    """Return the line that gives sshd a value: the first for all, or in a Match block if that differs.

    connection  the value is one connection's: of the blocks not only "Match all" may apply
    """
    lines = [setting for setting in settings if setting.line.keyword == word.lower()]
    for setting in lines:
        if not setting.scope:
            if _number_in(setting) == value:
                return setting
            break
    return next(
        (
            setting
            for setting in lines
            if setting.scope
            and _number_in(setting) == value
            and (connection or all(grammar.is_for_all(opener.line) for opener in setting.scope))
        ),
        None,
    )


def _number_in(setting: grammar.Setting) -> str:
    if not setting.line.arguments:
        return ""
    text = os.fsdecode(setting.line.arguments[0])
    return str(seconds(text)) if setting.line.keyword.endswith("interval") else text
