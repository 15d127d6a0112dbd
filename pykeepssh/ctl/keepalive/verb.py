"""ksshctl keepalive: shows, sets and takes back keepalive of plain ssh and of sshd.

Knows which file a scope means and the order of the steps of a safe change.  The grammar is in
grammar.py, the writing in configfile.py, what ssh and sshd make of it in openssh.py.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import Any

from ...errors import KsshError, Unusable, printable
from ...system import files, program
from . import grammar as sshconfig, openssh, sshserver, undo
from .configfile import ConfigFile, Refused, write_new

ANY_HOST = "keepalive-check"  # a host that no block names
INTERVAL_S, COUNT_MAX = 60, 3  # what set takes by default
LONGEST_S = 86400
MOST = 1000
SYSTEM_DROP_IN = "99-ksshctl-keepalive.conf"  # last: the first value wins, so that others keep theirs
SERVER_DROP_IN = "00-ksshctl-keepalive.conf"  # first, for the same reason

EPILOG = """exit status: 0 done, or nothing to do; 1 not done, the file is as it was; 2 usage"""


def add_parser(subparsers: argparse._SubParsersAction[Any]) -> None:
    """Add the verb and its actions."""
    parser = subparsers.add_parser(
        "keepalive", help="keepalive in ssh_config and sshd_config", epilog=EPILOG, allow_abbrev=False
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    show = actions.add_parser("show", help="what is in force, and which file says so", allow_abbrev=False)
    show.add_argument("host", nargs="?", metavar="HOST", help="default: a host that no block names")
    _add_scope(show, required=False)
    show.add_argument("--connection", metavar="SPEC", help='for sshd\'s Match blocks: "user=U,host=H,addr=A"')
    show.add_argument("--json", action="store_true", help="for programs")
    for name, text in (("set", "set it"), ("unset", "take back what set did")):
        change = actions.add_parser(name, help=text, epilog=EPILOG, allow_abbrev=False)
        _add_scope(change, required=True)
        change.add_argument(
            "--host",
            default=None,
            metavar="PATTERN",
            help="hosts, as after Host in ssh_config(5) (default: *)",
        )
        if name == "set":
            change.add_argument("--interval", type=_number(LONGEST_S), default=INTERVAL_S, metavar="S")
            change.add_argument("--count-max", type=_number(MOST), default=COUNT_MAX, metavar="N")
        change.add_argument("--dry-run", action="store_true", help="show the difference, write nothing")
        change.add_argument(
            "--confirm-within",
            type=_number(LONGEST_S),
            metavar="S",
            help='take it back after S seconds unless "ksshctl keepalive confirm" comes by a new connection',
        )
    actions.add_parser("confirm", help="keep what was set with --confirm-within", allow_abbrev=False)


def _add_scope(parser: argparse.ArgumentParser, required: bool) -> None:
    scope = parser.add_mutually_exclusive_group(required=required)
    for name, text in (
        ("user", "~/.ssh/config"),
        ("system", openssh.SYSTEM_CONFIG),
        ("server", openssh.SERVER_CONFIG),
    ):
        scope.add_argument(f"--{name}", dest="scope", action="store_const", const=name, help=text)
    parser.add_argument(
        "--config", type=path_argument, metavar="FILE", help="the file instead of the usual one"
    )
    parser.add_argument("--sshd", metavar="PROGRAM", help="sshd instead of the one in PATH")


def _number(most: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most and len(text) < 9):
            raise argparse.ArgumentTypeError(f"{printable(text)}: expected a whole number from 1 to {most}")
        return int(text)

    return number


def path_argument(text: str) -> str:
    """Return the absolute path of a file that the command line names."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError("expected the path of a file")
    return os.path.abspath(text)


def run(arguments: argparse.Namespace) -> int:
    """Do what the command line asks for; return the exit status."""
    if arguments.action == "show":
        return _show(arguments)
    if arguments.action == "confirm":
        _say(f"confirmed: {printable(undo.confirm())}")
        return 0
    change = _Server(arguments) if arguments.scope == "server" else _Client(arguments)
    return change.dry_run() if arguments.dry_run else change.make()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _tell(line: str) -> None:
    """Say a line in the midst of a change, which goes on even if nobody listens or can read it."""
    try:
        _say(line)
        sys.stdout.flush()
    except (OSError, ValueError):
        pass


def _check_file(path: str) -> None:
    """Raise KsshError if a file is none, or is not to be read by root."""
    openssh.check_file(path)
    why = openssh.why_not_as_root(path)
    if why:
        raise KsshError(why)


def _folder_of_our_own() -> str:
    """Make a directory that nobody else can put another one in place of: ssh does what is in its files.

    TMPDIR may be another user's, where su(1) keeps it.  Raises Refused.
    """
    why = ""
    for parent in files.temporary_folders(os.environ):
        try:
            return files.fresh_directory(parent)
        except OSError as error:
            why = why or f"cannot make a temporary directory in {printable(parent)}: {error.strerror}"
    raise Refused(f"{why}; nothing was written")


def place_of(setting: sshconfig.Setting | None) -> str:
    """Return where a setting stands, in words."""
    return "default" if setting is None else f"{printable(setting.file)} line {setting.number}"


# Changing.


class _Change:
    """One set or unset.

    main    the file that the program reads first
    target  the file that is changed: main, or a drop-in that main includes
    """

    def __init__(self, arguments: argparse.Namespace, main: str) -> None:
        self.arguments = arguments
        self.setting = arguments.action == "set"
        self.main = main
        if os.path.exists(main):
            _check_file(main)
        self.target = main
        self.net = ""  # what is done if it cannot be taken back now, in words
        self.wanted: dict[str, str] = {}

    def new_bytes(self, old: bytes) -> bytes:
        """Return what the target is to hold.  Raises sshconfig.Unclear."""
        raise NotImplementedError

    def refusal(self, config: str) -> str | None:
        """Return why a main file will not do, None if it will: for the program, or for the wanted values."""
        raise NotImplementedError

    def prepare(self, file: ConfigFile) -> None:
        """Do what has to come first, while the file is locked already.  Raises KsshError."""

    def written(self, file: ConfigFile) -> None:
        """Do what is to follow while the file is still locked; if it fails, the old file returns."""

    def abandon(self) -> None:
        """Take back what was prepared: the file is as it was."""

    def _data(self, before: bytes | None) -> bytes | None:
        try:
            new = self.new_bytes(before or b"")
        except sshconfig.Unclear as error:
            raise Refused(f"{printable(self.target)} {error}; nothing was written") from error
        if not new and (before is None or self.target != self.main):
            return None  # a drop-in of ours that holds nothing any more
        return new

    def dry_run(self) -> int:
        """Show the difference that it would make."""
        try:
            before = openssh.read(self.target) if os.path.exists(self.target) else None
            after = self._data(before)
        except OSError as error:
            raise Refused(f"cannot read {printable(self.target)}: {error.strerror}") from error
        if after == before:
            _say(f"{printable(self.target)}: nothing to change")
        sys.stdout.write(_difference(before or b"", after or b"", self.target))
        return 0

    def make(self) -> int:
        """Make the change, checked before and after; nothing or everything."""
        user = self.arguments.scope == "user"
        like = self.main if self.main != self.target else None
        self._check_folder()
        with ConfigFile(self.target, user, 0o600 if user else 0o644, like) as file:
            data = self._data(file.before)
            if data == file.before:
                why = self.refusal(self.main) if os.path.exists(self.main) else None
                if why is not None:
                    raise Refused(f"{why}; nothing was written")
                _tell(f"{printable(self.target)}: nothing to change")
                return 0
            if file.before is not None and self.main == self.target:
                self._check_present()
            try:
                self.prepare(file)
                file.replace(
                    data, lambda candidate: self._check(candidate, data), lambda: self.refusal(self.main)
                )
                _tell(f"{printable(file.real)}: {'removed' if data is None else 'written'}")
                if file.backup is not None:
                    _tell(f"backup: {printable(file.backup)}")
                self.written(file)
                _ignore_signals()  # it is done: what is said now is no failure
            except BaseException as error:
                self._fail(file, error)
                raise
            if file.names > 1:
                others = (
                    "its other name keeps" if file.names == 2 else f"its {file.names - 1} other names keep"
                )
                _tell(f"{printable(file.real)} had hard links: {others} the old file")
        return 0

    def _fail(self, file: ConfigFile, error: BaseException) -> None:
        """Put the old file back, then take back what was prepared: that is the net if the first fails."""
        _ignore_signals()  # a second Ctrl-C is not to cut this short
        if not file.changed:
            self.abandon()
            return
        why = file.reason(error)
        try:
            file.put_back(why)
        except Refused as away:
            raise Refused(f"{away}{self.net}") from error
        said = self.restored()
        self.abandon()
        if isinstance(error, (KsshError, OSError)):
            raise Refused(f"{why}; the old file is back{said}") from error

    def restored(self) -> str:
        """Do what follows where the old file is back; return that in words, or nothing."""
        return ""

    def _check_folder(self) -> None:
        """Raise Refused where root would write to a directory that somebody else can change."""
        folder = os.path.dirname(os.path.realpath(self.target))
        if os.geteuid() == 0 and os.path.isdir(folder):
            why = files.why_doubtful(folder)
            if why:
                raise Refused(f"{why}; nothing was written")

    def _check_present(self) -> None:
        """Raise Refused if the file is refused already, as it is now."""
        wanted, self.wanted = self.wanted, {}
        why = self.refusal(self.main)
        self.wanted = wanted
        if why is not None:
            raise Refused(
                f"{printable(self.main)} is refused already as it is now: {why}; nothing was written"
            )

    def _check(self, candidate: str, data: bytes | None) -> str | None:
        """Check a candidate in a main file of its own; return why it will not do."""
        if self.target == self.main:
            why = self.refusal(candidate)
        elif data is None:
            why = None  # a file less: verified afterwards
        else:
            why = self._check_drop_in(candidate)
        if why is not None:
            shown = why.replace(printable(candidate), printable(self.target))
            return f"{shown}; nothing was written"
        return None

    def _check_drop_in(self, candidate: str) -> str | None:
        lines = sshconfig.parse(openssh.read(self.main) or b"")
        at = self._include(lines)
        text = b"".join(line.raw for line in lines[:at])
        text += b'Include "%s"\n' % os.fsencode(candidate)
        text += b"".join(line.raw for line in lines[at:])
        folder = _folder_of_our_own()
        try:
            path = os.path.join(folder, os.path.basename(self.main))
            write_new(path, text)
            return self.refusal(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _include(self, lines: list[sshconfig.Line]) -> int:
        """Return the index of the Include line that finds drop-ins for every connection; -1: none."""
        folder = os.path.basename(self.main) + ".d"
        for index, line in enumerate(lines):
            if line.opens:
                break
            if line.keyword == "include" and self._drop_in_folder(line.arguments, folder):
                return index
        return -1

    def _drop_in_folder(self, arguments: tuple[bytes, ...], folder: str) -> str | None:
        for argument in arguments:
            head, tail = os.path.split(os.fsdecode(argument))
            if not head.startswith("/"):
                head = os.path.join("/etc/ssh", head)
            if os.path.basename(head) == folder and tail in ("*", "*.conf") and os.path.isdir(head):
                return head
        return None

    def _use_drop_in(self, name: str, words: tuple[str, ...]) -> None:
        """Choose the drop-in as target if main includes some and does not say otherwise before."""
        data = openssh.read(self.main)
        if data is None:
            return
        lines = sshconfig.parse(data)
        at = self._include(lines)
        if at < 0 or sshconfig.labels(data):
            return
        lower = {word.lower() for word in words}
        if any(line.keyword in lower for line in lines[:at]):
            return
        folder = self._drop_in_folder(lines[at].arguments, os.path.basename(self.main) + ".d")
        self.target = os.path.join(folder or "", name)

    def mismatch(self, word: str, found: str, source: sshconfig.Setting | None, config: str) -> str:
        """Return the sentence for a value that does not come out as wanted."""
        said = f"{word} would be {printable(found) or 'unknown'}, not {self.wanted[word]}"
        if source is None:
            return f"{said}: nothing sets it"
        if source.file == config:
            source = source._replace(file=self.main, number=_number_before(self.main, config, source.number))
        where = place_of(source)
        return f"{said}: {where} says so first; change it there"


class _Client(_Change):
    def __init__(self, arguments: argparse.Namespace) -> None:
        usual = openssh.user_config() if arguments.scope == "user" else openssh.SYSTEM_CONFIG
        super().__init__(arguments, arguments.config or usual)
        if arguments.confirm_within is not None:
            raise Unusable("--confirm-within is for --server")
        self._ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
        self._pattern = _pattern("*" if arguments.host is None else arguments.host)
        self._name = ANY_HOST
        if self._pattern != b"*":
            self._name = os.fsdecode(sshconfig.example_of(self._pattern))
        if arguments.scope == "system":
            self._check_includes()
            self._use_drop_in(SYSTEM_DROP_IN, ())
        if self.setting:
            values = (arguments.interval, arguments.count_max)
            self.wanted = dict(zip(sshconfig.CLIENT, map(str, values)))

    def _check_includes(self) -> None:
        """Refuse what cannot be checked: "ssh -F" takes a relative Include for one in ~/.ssh."""
        for number, line in enumerate(sshconfig.parse(openssh.read(self.main) or b""), 1):
            if line.keyword == "include" and not all(word.startswith(b"/") for word in line.arguments):
                raise Refused(
                    f"{printable(self.main)} line {number}: Include with a path that does not begin with /; "
                    "write it in full first; nothing was written"
                )

    def new_bytes(self, old: bytes) -> bytes:
        if not self.setting:
            return sshconfig.unset(old, self._pattern)
        return sshconfig.set_client(old, self._pattern, self.arguments.interval, self.arguments.count_max)

    def refusal(self, config: str) -> str | None:
        # The user's own file is read without -F: only then ssh looks at its owner and mode.
        usual = self.arguments.config is None and self.arguments.scope == "user" and config == self.main
        try:
            client = openssh.Client(self._ssh, self._name, None if usual else config)
        except KsshError as error:
            return f"ssh: {error}"
        for word, value in self.wanted.items():
            if client.value(word) != value:
                return self.mismatch(word, client.value(word), client.source(word), config)
        return None


def _pattern(text: str) -> bytes:
    """Return the pattern list of --host.  Raises Unusable if ssh_config has no way to write it."""
    if not sshconfig.is_plain(text):
        raise Unusable(f'--host "{printable(text)}": expected patterns as after Host in ssh_config(5)')
    return os.fsencode(" ".join(text.split()))


class _Server(_Change):
    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments, arguments.config or openssh.SERVER_CONFIG)
        if arguments.host is not None:
            raise Unusable("--host is for --user and --system: sshd's keepalive is for every client")
        undo.refuse_a_second()
        left = undo.abandoned()
        if left is not None:
            _tell(f"note: {left}")
        found = openssh.find_sshd(arguments.sshd)
        if found is None:
            raise KsshError("there is no sshd in PATH; name it with --sshd")
        self._sshd = found
        self._daemon: sshserver.Daemon | None = None
        self._watcher: undo.Watcher | None = None
        self._has_read_it = False
        if not os.path.exists(self.main):
            raise KsshError(f"{printable(self.main)}: no such file")
        self._use_drop_in(SERVER_DROP_IN, sshconfig.SERVER)
        if self.setting:
            values = (arguments.interval, arguments.count_max)
            self.wanted = dict(zip(sshconfig.SERVER, map(str, values)))

    def new_bytes(self, old: bytes) -> bytes:
        if not self.setting:
            return sshconfig.unset(old, sshconfig.SSHD)
        return sshconfig.set_server(old, self.arguments.interval, self.arguments.count_max)

    def refusal(self, config: str) -> str | None:
        why = openssh.sshd_refuses(self._sshd, config)
        if why is not None:
            return f"sshd: {_explained(why)}"
        try:
            values = openssh.sshd_values(self._sshd, config) if self.wanted else {}
        except KsshError as error:
            return f"sshd: {error}"
        for word, value in self.wanted.items():
            found = values.get(word.lower(), [""])[0]
            if found != value:
                return self.mismatch(
                    word, found, server_source(openssh.server_settings(config), word, found), config
                )
        return None

    def prepare(self, file: ConfigFile) -> None:
        """Find the sshd that uses the file while it is well, and have somebody wait who undoes the change."""
        # The session that this runs in may be cut by what it does: the check afterwards is not to suffer.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end)
        values = openssh.sshd_values(self._sshd, self.main)
        self._daemon = sshserver.Daemon.find(self.main, self._sshd, values)
        if self._daemon is None:
            return
        pending = self._daemon.pending()
        if pending is not None:
            raise Refused(f"{pending}, as its file says by now: reload it first; nothing was written")
        if self.arguments.confirm_within is not None:
            self._watcher = undo.Watcher(
                file.real,
                self.arguments.confirm_within,
                lambda: self._take_back(file.real, file.before, file.mode),
            )
            self.net = f"; it is tried again in {self.arguments.confirm_within} s"

    def written(self, file: ConfigFile) -> None:
        """Reload the sshd that uses the file, and have it greet."""
        if self._daemon is None:
            _tell(f"no running sshd uses {printable(self.main)}: nothing was reloaded")
            for path in sshserver.other_programs(self.main, self._sshd):
                _tell(f"{printable(path)} seems to use it, but is not {printable(self._sshd)}: see --sshd")
            if self.arguments.confirm_within is not None:
                _tell("so there is nothing to confirm either")
            return
        self._has_read_it = True
        _tell(f"reloaded: {self._daemon.reload()}")
        silent = self._daemon.silent()
        if silent or not self._daemon.listener.alive():
            gone = sshserver.shown(silent or self._daemon.wanted)
            raise Refused(f"sshd does not greet on {gone} after the reload")
        _tell(f"it greets on {sshserver.shown(self._daemon.wanted)}")
        if self._watcher is not None:
            _tell(
                f"undone in {self.arguments.confirm_within} s unless confirmed from a new connection: "
                "ksshctl keepalive confirm"
            )

    def restored(self) -> str:
        """Have sshd read the old file again; return how it is, in words."""
        if self._daemon is None or not self._has_read_it:
            return ""
        try:
            self._daemon.restore()
        except KsshError as error:
            return f", but sshd was not reloaded: {error}"
        return ", sshd STILL DOES NOT GREET" if self._daemon.silent() else ", sshd greets"

    def abandon(self) -> None:
        """Have nobody wait any more for a confirmation."""
        if self._watcher is not None:
            self._watcher.cancel()

    def _take_back(self, path: str, before: bytes | None, mode: int) -> None:
        """Give a file back what it held, whatever it holds now, and reload sshd, or raise."""
        with ConfigFile(path, mode=mode) as file:
            if file.before != before:
                file.replace(before, lambda _: None, lambda: None)
        if self._daemon is not None:
            self._daemon.restore()


def _end(signum: int, frame: object) -> None:
    """Have a signal end this process as an error does: the old file returns."""
    raise Refused(f"ended by {signal.Signals(signum).name}")


def _ignore_signals() -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _explained(why: str) -> str:
    """Return what sshd says, and what it does not say to an ordinary user."""
    return f"{why} (only root can read its keys)" if "hostkeys" in why and os.geteuid() != 0 else why


def server_source(settings: list[sshconfig.Setting], word: str, value: str) -> sshconfig.Setting | None:
    """Return the line that gives sshd a value: the first for all, or in a Match block if that differs."""
    lines = [setting for setting in settings if setting.line.keyword == word.lower()]
    for setting in lines:
        if not setting.scope:
            if _number_in(setting) == value:
                return setting
            break
    return next((setting for setting in lines if setting.scope and _number_in(setting) == value), None)


def _number_in(setting: sshconfig.Setting) -> str:
    if not setting.line.arguments:
        return ""
    text = os.fsdecode(setting.line.arguments[0])
    return str(sshconfig.seconds(text)) if setting.line.keyword.endswith("interval") else text


def _number_before(old: str, new: str, number: int) -> int:
    """Return the number that a line of a new file has in the old one, the same if it is not there."""
    before, after = ([line.raw for line in sshconfig.parse(openssh.read(path) or b"")] for path in (old, new))
    for a, b, size in difflib.SequenceMatcher(None, before, after, autojunk=False).get_matching_blocks():
        if b < number <= b + size:
            return number - b + a
    return number


def _difference(old: bytes, new: bytes, path: str) -> str:
    def lines(data: bytes) -> list[str]:
        shown = []
        for line in sshconfig.parse(data):
            text = os.fsdecode(line.body)
            safe = "\t".join(printable(part) for part in text.split("\t"))
            shown.append(safe + ("\n" if line.ending else "\n\\ No newline at end of file\n"))
        return shown

    name = printable(path)
    return "".join(difflib.unified_diff(lines(old), lines(new), name, name + " (new)"))


# Showing.


def _show(arguments: argparse.Namespace) -> int:
    told: dict[str, Any] = {}
    if arguments.scope != "server":
        told["client"] = _client_in_force(arguments)
    if arguments.scope == "server" or (arguments.scope is None and arguments.config is None):
        told["server"] = _server_in_force(arguments, required=arguments.scope == "server")
    if arguments.json:
        _say(json.dumps(told, indent=2))
        return 0
    host = printable(arguments.host or "") or "a host that no block names"
    for part, title in (("client", f"ssh, for {host}"), ("server", "sshd")):
        if told.get(part):
            _say_part(title, part, told[part])
    return 0


def _client_in_force(arguments: argparse.Namespace) -> dict[str, Any]:
    config = arguments.config
    if arguments.scope == "system" and config is None:
        config = openssh.SYSTEM_CONFIG
    if arguments.scope == "user" and config is None:
        config = openssh.user_config()
    if config is not None:
        if not os.path.exists(config):
            raise KsshError(f"{printable(config)}: no such file")
        _check_file(config)
    ssh = program.find(os.environ.get("KSSH_SSH", ""), os.environ)
    client = openssh.Client(ssh, arguments.host or ANY_HOST, config)
    told: dict[str, Any] = {}
    for word in (*sshconfig.CLIENT, "TCPKeepAlive"):
        told[word] = {"value": client.value(word), "from": _json_place(client.source(word))}
    interval, count = (int(client.value(word) or 0) for word in sshconfig.CLIENT)
    told["noticed_after_s"] = sshconfig.client_notices_s(interval, count)
    return told


def _server_in_force(arguments: argparse.Namespace, required: bool) -> dict[str, Any] | None:
    sshd = openssh.find_sshd(arguments.sshd)
    config = arguments.config or openssh.SERVER_CONFIG
    if sshd is None or not os.path.exists(config):
        if required:
            raise KsshError(
                "there is no sshd in PATH" if sshd is None else f"{printable(config)}: no such file"
            )
        return None
    _check_file(config)
    try:
        values = openssh.sshd_values(sshd, config, arguments.connection)
    except KsshError as error:
        why = _explained(str(error))
        if required:
            raise KsshError(f"sshd: {why}") from error
        return {"error": why}
    settings = openssh.server_settings(config)
    told: dict[str, Any] = {}
    for word in (*sshconfig.SERVER, "TCPKeepAlive"):
        value = values.get(word.lower(), [""])[0]
        told[word] = {"value": value, "from": _json_place(server_source(settings, word, value))}
    interval, count = (int(told[word]["value"] or 0) for word in sshconfig.SERVER)
    version = openssh.sshd_version(sshd)
    told["noticed_after_s"] = sshconfig.server_notices_s(interval, count, version)
    told["intervals_per_probe"] = 2 if sshconfig.is_slow(version) else 1
    if arguments.connection is None:
        told["match_blocks"] = [
            _json_place(setting)
            for setting in settings
            if setting.scope and setting.line.keyword in {word.lower() for word in sshconfig.SERVER}
        ]
    return told


def _json_place(setting: sshconfig.Setting | None) -> dict[str, Any] | None:
    return None if setting is None else {"file": printable(setting.file), "line": setting.number}


def _say_part(title: str, part: str, told: dict[str, Any]) -> None:
    _say(title)
    if "error" in told:
        _say(f"  not readable: {told['error']}")
        return
    words = sshconfig.CLIENT if part == "client" else sshconfig.SERVER
    for word in (*words, "TCPKeepAlive"):
        place = told[word]["from"]
        where = f"{place['file']} line {place['line']}" if place else "default"
        _say(f"  {word:<20} {told[word]['value'] or 'unknown':<6} {where}")
    interval, count = (told[word]["value"] for word in words)
    peer = "server" if part == "client" else "client"
    noticed = told["noticed_after_s"]
    if noticed is None:
        _say(f"  a dead {peer} is not noticed while nothing is sent")
    elif told.get("intervals_per_probe") == 2:
        _say(f"  a dead {peer} is noticed after {noticed} s: 2 × {interval} × ({count} + 1)")
        _say("  (sshd 9.2 to 9.4 take two intervals for each probe; mended in 9.5)")
    else:
        _say(f"  a dead {peer} is noticed after {noticed} s: {interval} × ({count} + 1)")
    for place in told.get("match_blocks", ()):
        _say(f"  other in a Match block: {place['file']} line {place['line']} (--connection shows it)")
