"""Keepalive set and unset in a file of sshd's, and the running sshd that reads it."""

from __future__ import annotations

import argparse
import os
import signal

from ...errors import KsshError, Unusable, printable
from . import grammar, marks, openssh, sshserver, undo
from .change import Change, tell
from .configfile import ConfigFile, Refused

SERVER_DROP_IN = "00-ksshctl-keepalive.conf"  # first: the first value wins


class Server(Change):
    """One set or unset for sshd."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        super().__init__(arguments, arguments.config or openssh.SERVER_CONFIG)
        if arguments.host is not None:
            raise Unusable("--host is for --user and --system: sshd's keepalive is for every client")
        undo.refuse_a_second()
        left = undo.abandoned()
        if left is not None:
            tell(f"note: {left}")
        found = openssh.find_sshd(arguments.sshd)
        if found is None:
            raise KsshError("there is no sshd in PATH; name it with --sshd")
        self._sshd = found
        self._daemon: sshserver.Daemon | None = None
        self._watcher: undo.Watcher | None = None
        self._has_read_it = False
        if not os.path.exists(self.main):
            raise KsshError(f"{printable(self.main)}: no such file")
        self._use_drop_in(SERVER_DROP_IN, grammar.SERVER)
        if self.setting:
            values = (arguments.interval, arguments.count_max)
            self.wanted = dict(zip(grammar.SERVER, map(str, values)))

    def new_bytes(self, old: bytes) -> bytes:
        """Return what the file is to hold.  Raises marks.Unclear."""
        if not self.setting:
            return marks.unset(old, marks.SSHD)
        return marks.set_server(old, self.arguments.interval, self.arguments.count_max)

    def refusal(self, config: str) -> str | None:
        """Return why sshd will not do with a main file, None if it will."""
        why = openssh.sshd_refuses(self._sshd, config)
        if why is not None:
            return f"sshd: {openssh.explained(why)}"
        try:
            values = openssh.sshd_values(self._sshd, config) if self.wanted else {}
        except KsshError as error:
            return f"sshd: {error}"
        for word, value in self.wanted.items():
            found = values.get(word.lower(), [""])[0]
            if found != value:
                return self.mismatch(
                    word, found, openssh.server_source(openssh.server_settings(config), word, found), config
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
            tell(f"no running sshd uses {printable(self.main)}: nothing was reloaded")
            for path in sshserver.other_programs(self.main, self._sshd):
                tell(f"{printable(path)} seems to use it, but is not {printable(self._sshd)}: see --sshd")
            if self.arguments.confirm_within is not None:
                tell("so there is nothing to confirm either")
            return
        self._has_read_it = True
        tell(f"reloaded: {self._daemon.reload()}")
        silent = self._daemon.silent()
        if silent or not self._daemon.listener.alive():
            gone = sshserver.shown(silent or self._daemon.wanted)
            raise Refused(f"sshd does not greet on {gone} after the reload")
        tell(f"it greets on {sshserver.shown(self._daemon.wanted)}")
        if self._watcher is not None:
            tell(
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
