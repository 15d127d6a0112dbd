"""sshd as the reader of a change, its reload and its undo, and keepalive set and unset for it."""

from __future__ import annotations

import argparse
import os
import signal
from collections.abc import Mapping, Sequence

from ...errors import KsshError, Unusable, printable
from . import grammar, marks, openssh, sshserver, undo
from .change import Change, Data, Reader, drop_in, tell
from .configfile import ConfigFile, Refused
from .tree import Tree

SERVER_DROP_IN = "00-ksshctl-keepalive.conf"  # first: the first value wins


class Server(Reader):
    """sshd, and the running one that uses the files."""

    def __init__(self, main: str, tree: Tree, sshd: str | None, confirm_within_s: int | None) -> None:
        """Take sshd's program and the time in which a change is to be confirmed; None: not at all."""
        super().__init__(main, tree)
        undo.refuse_a_second()
        left = undo.abandoned()
        if left is not None:
            tell(f"note: {left}")
        found = openssh.find_sshd(sshd)
        if found is None:
            raise KsshError("there is no sshd in PATH; name it with --sshd")
        self._sshd = found
        self._confirm_within_s = confirm_within_s
        self._refused_before = False
        self._daemon: sshserver.Daemon | None = None
        self._watcher: undo.Watcher | None = None
        self._has_read_it = False
        if not os.path.exists(main):
            raise KsshError(f"{printable(main)}: no such file")

    def refusal(self, tree: Tree, wanted: Mapping[str, str]) -> str | None:
        """Return why sshd will not do with files, None if it will."""
        why = openssh.sshd_refuses(self._sshd, tree)
        if why is not None:
            return f"sshd: {openssh.explained(why)}"
        try:
            values = openssh.sshd_values(self._sshd, tree) if wanted else {}
        except KsshError as error:
            return f"sshd: {error}"
        for word, value in wanted.items():
            found = values.get(word.lower(), [""])[0]
            if found != value:
                source = openssh.server_source(tree.settings(), word, found)
                return self.mismatch(word, found, source, tree)
        return None

    def prepare(self, files: Sequence[ConfigFile], after: Tree) -> None:
        """Find the sshd that uses the file while it is well, and have somebody wait who undoes the change."""
        # The session that this runs in may be cut by what it does: the check afterwards is not to suffer.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._refused_before = openssh.sshd_refuses(self._sshd, self.tree) is not None
        values = openssh.sshd_values(self._sshd, after)
        self._daemon = sshserver.Daemon.find(self.main, self._sshd, values)
        if self._daemon is None:
            return
        pending = self._daemon.pending()
        if pending is not None:
            raise Refused(f"{pending}, as its file says by now: reload it first; nothing was written")
        if self._confirm_within_s is None:
            return
        if self._refused_before:
            raise Refused(
                "sshd refuses the old file, which could not be taken back: fix it without --confirm-within; "
                "nothing was written"
            )
        old = [(file.real, file.before, file.mode) for file in files]
        names = ", ".join(file.real for file in files)
        self._watcher = undo.Watcher(names, self._confirm_within_s, lambda: self._take_back(old))
        self.net = f"; it is tried again in {self._confirm_within_s} s"

    def written(self) -> None:
        """Reload the sshd that uses the file, and have it greet."""
        if self._daemon is None:
            tell(f"no running sshd uses {printable(self.main)}: nothing was reloaded")
            for path in sshserver.other_programs(self.main, self._sshd):
                tell(f"{printable(path)} seems to use it, but is not {printable(self._sshd)}: see --sshd")
            if self._confirm_within_s is not None:
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
                f"undone in {self._confirm_within_s} s unless confirmed from a new connection: "
                "ksshctl keepalive confirm"
            )

    def stays(self) -> str:
        """Return why the new file must stay: with one that it refuses, no sshd could be started again."""
        return "sshd refuses the old one" if self._has_read_it and self._refused_before else ""

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

    def _take_back(self, old: Sequence[tuple[str, Data, int]]) -> None:
        """Give files back what they held, whatever they hold now, and reload sshd, or raise."""
        for path, before, mode in old:
            with ConfigFile(path, mode=mode) as file:
                if file.before != before:
                    file.replace(before)
        if self._daemon is not None:
            self._daemon.restore()


def change(arguments: argparse.Namespace) -> Change:
    """Return the change that keepalive set or unset asks for."""
    if arguments.host is not None:
        raise Unusable("--host is for --user and --system: sshd's keepalive is for every client")
    main = arguments.config or openssh.SERVER_CONFIG
    tree = openssh.server_tree(main)
    reader = Server(main, tree, arguments.sshd, arguments.confirm_within)
    target = target_of(main, tree)
    if arguments.action == "set":
        reader.wanted = dict(zip(grammar.SERVER, (str(arguments.interval), str(arguments.count_max))))

    def edit(before: Data) -> Data:
        if arguments.action == "set":
            return marks.set_server(before or b"", arguments.interval, arguments.count_max)
        left = marks.unset(before or b"", marks.SSHD)
        return left if left or (before is not None and target == main) else None

    return Change(reader, {target: edit}, private=False)


def target_of(main: str, tree: Tree) -> str:
    """Return the file that keepalive is set in: a drop-in where the main file includes some."""
    return drop_in(main, tree, SERVER_DROP_IN, grammar.SERVER) or main
