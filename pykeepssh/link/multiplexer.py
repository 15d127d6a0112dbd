"""A shell inside a remote multiplexer's session (KSSH_RESUME): the command that is sent, and its name.

Knows tmux, screen and zellij, and what a login shell would have shown.  Must not know how ssh is
started, nor what follows when the far side did not run the command.

The command passes any login shell (seen: bash, dash, zsh, fish, tcsh, mksh, busybox) as
``exec /bin/sh -c '...'`` with neither "!" nor a line end nor a single quote inside; two backslashes in a
row would be one in fish.  A restricted shell refuses the exec and goes on behind it.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..ssh.evidence import Evidence
from .outcomes import Exit

TOOLS = ("tmux", "screen", "zellij")
NEEDS = (7, 6)  # OpenSSH with RemoteCommand

# What the far side says of itself: changes of colour that change nothing, which no terminal shows.
_BEGUN = b"\033[0;0m\033[m\033[0;0m"
_REFUSED = b"\033[0;0m\033[m\033[0;0;0m"
# The sign is printed first: what goes on for so long without it is somebody's session.
_MOST_BYTES = 65536


class Greeting:
    """What the far side has said of itself in one run.

    begun    the command runs: whatever follows, a shell was had
    refused  a shell was there that may run no other program
    """

    __slots__ = ("_last", "_read", "begun", "refused")

    def __init__(self) -> None:
        self.begun = self.refused = False
        self._last = b""
        self._read = 0

    def feed(self, data: bytes) -> None:
        """Take some of the session's output, in order."""
        if self.begun or self.refused:
            return
        self._read += len(data)
        last = self._last + data
        self.begun = _BEGUN in last or self._read > _MOST_BYTES
        self.refused = _REFUSED in last
        self._last = last[-len(_REFUSED) :]


class Without(NamedTuple):
    """A shell is to be had without a multiplexer.

    delay_s  before ssh is started again; infinity: when the person says so
    reason   in a person's words
    """

    delay_s: float
    reason: str


def without(greeting: Greeting, refused: bool, status: int | None, used: bool) -> Without | None:
    """Tell whether a run that is over is to be followed by one without a multiplexer.

    refused  the server refused the command, and nothing was run
    status   of what was run instead, if that ended by itself; else None
    used     the person typed to it

    What ended without a sign may be a command line that took ours for a mistake, or a forced command:
    nobody can tell.  That is not run again unless the person says so.
    """
    if greeting.begun:
        return None
    if refused:
        return Without(0.0, "the server does not run commands")
    if greeting.refused:
        return Without(0.0, "its shell does not run other programs")
    if status and not used:
        return Without(math.inf, f"what it ran ended with status {status}")
    return None


_LONGEST_HOST = 12  # characters: zellij's sockets have little room for a name


def session_name(chosen: str, this_host: str, key: Sequence[str], slot: int | str) -> str:
    """Return the name of a session: the same for the same link, and no other's.

    chosen     KSSH_NAME, or ""; it is the name, unless a multiplexer could not take it as it is
    this_host  name of the host that kssh runs on
    key        what tells this user on this host, and the account that is logged in to, from any other
    slot       which of several kssh at once this is, from 1; where nobody counts, anything

    Each made name ends in eight digits, so that none is the beginning of another (screen takes
    those for the same), and none has a dot or a colon (tmux does not take those).
    """
    if chosen:
        plain = _plain(chosen)
        return plain if plain == chosen else f"{plain}-{_digits([chosen])}"
    host = _plain(this_host.partition(".")[0])[:_LONGEST_HOST].strip("-")
    return f"kssh-{host}-{slot}-{_digits(key)}"


def _plain(text: str) -> str:
    plain = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "_" for char in text)
    return f"_{plain}" if plain[:1] == "-" else plain


def _digits(key: Sequence[str]) -> str:
    return f"{zlib.crc32(chr(0).join(key).encode('utf-8', 'surrogateescape')):08x}"


def is_utf8(environment: Mapping[bytes, bytes], input_is_utf8: bool) -> bool:
    """Tell whether the user's terminal takes UTF-8: by the locale (setlocale(3), LC_CTYPE).

    input_is_utf8  the terminal's IUTF8 (termios(3)) is set: that tells where no locale does
    """
    values = (environment.get(name, b"") for name in (b"LC_ALL", b"LC_CTYPE", b"LANG"))
    chosen = next(filter(None, values), b"C")
    return input_is_utf8 if chosen in (b"C", b"POSIX") else b"utf8" in chosen.lower().replace(b"-", b"")


# In sh, for any system; all of it becomes one line.  What begins with "@" is filled in.
_HEAD = r"""
printf "\033[0;0m\033[m\033[0;0m";
unset TMUX STY ZELLIJ ZELLIJ_SESSION_NAME;
n=@NAME;
t=@TOOL;
s="${SHELL:-/bin/sh}";
"""

# What a login would have shown, were no command given (sshd's do_login, pam_motd); and what kssh says.
_LOGIN_SHOWS = r"""
shows() {
  [ -e "$HOME/.hushlogin" ] && return;
  for f in /run/motd.dynamic /etc/motd /etc/motd.d/* /run/motd.d/*; do [ -f "$f" ] && cat "$f"; done;
  last -Fwn 3 "${LOGNAME:-$USER}" 2>/dev/null | awk -v tty="${SSH_TTY#/dev/}" "
    NF < 7 || (\$2 == tty && /still|gone/) { next }
    { at = (\$3 ~ /^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)\$/) ? 3 : 4;
      print \"Last login:\", \$at, \$(at+1), \$(at+2), \$(at+3), \$(at+4),
        (at == 4 ? \"from \" \$3 : \"on \" \$2);
      exit }";
};
"""

_PLAIN_SHELL = r"""
plain() {
  echo "kssh: $1; opening a plain shell" >&2;
  shows;
  exec "$s" -l;
};
"""

# Neither sshd's PATH nor a login shell's alone is enough: cargo's and Homebrew's are in neither.
_FIND = r"""
m=$(command -v $t) || for d in /usr/local/bin /opt/homebrew/bin /opt/local/bin /usr/pkg/bin
    "$HOME/.local/bin" "$HOME/bin" "$HOME/.cargo/bin" "$HOME/.nix-profile/bin" /run/current-system/sw/bin
    /home/linuxbrew/.linuxbrew/bin; do
  [ -x "$d/$t" ] && m=$d/$t && break;
done;
[ -n "$m" ] || case "${s##*/}" in
  (*csh) m=$("$s" -c "which $t" </dev/null 2>/dev/null | sed -n "s,^/,/,p" | tail -n 1);;
  (*) m=$("$s" -lc "command -v $t" </dev/null 2>/dev/null | sed -n "s,^/,/,p" | tail -n 1);;
esac;
[ -n "$m" ] || plain "$t was not found on this host";
"""

_KNOW_TERMINAL = r"""
command -v tput >/dev/null && { tput -T "$TERM" clear >/dev/null 2>&1 ||
  plain "this host has no entry for TERM=$TERM, so $t cannot start"; };
"""

# A link with a lasting name leads to the agent of whoever attached last.  It stands where nobody else writes.
# A socket's name may have 104 bytes at most.
_AGENT = r"""
l=$HOME/.ssh/kssh-agent.$n;
[ -S "$SSH_AUTH_SOCK" ] && [ ${#l} -lt 104 ] && {
  [ -d "$HOME/.ssh" ] || mkdir -m 700 "$HOME/.ssh";
  [ -O "$HOME/.ssh" ] && [ -z "$(find -H "$HOME/.ssh" -prune \( -perm -020 -o -perm -002 \))" ] &&
    rm -f "$l.$$" && ln -s "$SSH_AUTH_SOCK" "$l.$$" && mv -f "$l.$$" "$l" && SSH_AUTH_SOCK=$l;
} 2>/dev/null;
"""

_WELCOME = r"""
there || {
  w="$(@GONE echo "kssh: this shell lives in $t, session $n"; shows 2>/dev/null)";
  w="$(printf "%s\n" "$w" | head -c 8000) ";
};
"""
_GONE = r"""echo "kssh: the session $n of $t is gone; this is a new one";"""

# The first program of a new session: shows it, then what the user's own settings would have started.
_FIRST = r"""
g="printf \"%s\n\" \"\${1% }\"; c=\$(\"\$2\" show-options -gqv default-command 2>/dev/null);
  [ -n \"\$c\" ] && exec \"\${SHELL:-/bin/sh}\" -c \"\$c\"; exec \"\${SHELL:-/bin/sh}\" -l";
"""

_TMUX = r"""
there() { "$m" list-sessions -F "#{session_name}" 2>/dev/null | grep -qx "$n"; };
@WELCOME @FIRST
there || {
  new=1;
  set -- $(stty size 2>/dev/null);
  "$m" new-session -d -s "$n" ${2:+-x $2 -y $1} /bin/sh -c "$g" kssh "$w" "$m" 2>/dev/null ||
    "$m" new-session -d -s "$n" || plain "tmux cannot start";
};
b=$(date +%s);
"$m" @UTF8 attach-session -d -t "$n";
r=$?;
[ $r = 0 ] || if there; then
  [ -z "$new" ] || "$m" kill-session -t "$n";
  plain "tmux cannot attach";
elif [ $(($(date +%s) - b)) -le 2 ]; then
  plain "tmux cannot keep a session";
fi;
"""

# Its status tells little, and "-r NAME" would take any session that begins so: the full name is looked up.
_SCREEN = r"""
id() { "$m" -ls "$n" 2>/dev/null | sed -n "/tached)/s/^[[:blank:]]*\([0-9][0-9]*\.$n\)[[:blank:]].*/\1/p" |
  head -n 1; };
there() { [ -n "$(id)" ]; };
@WELCOME @FIRST
if there; then "$m" @UTF8 -d -r "$(id)"; else "$m" @UTF8 -S "$n" /bin/sh -c "$g" kssh "$w" true; fi;
r=$?;
[ $r = 0 ] || plain "screen cannot start";
"""

_ZELLIJ = r"""
there() { "$m" list-sessions -s 2>/dev/null | grep -qx "$n"; };
@WELCOME
[ -z "$w" ] || printf "%s\n" "$w";
"$m" attach -c "$n";
r=$?;
[ $r = 0 ] || plain "zellij cannot start";
"""

_TAIL = r"""
there || rm -f "$l";
exit $r;
"""

_BODY = {
    "tmux": _KNOW_TERMINAL + _AGENT + _TMUX,
    "screen": _KNOW_TERMINAL + _AGENT + _SCREEN,
    "zellij": _AGENT + _ZELLIJ,
}
_UTF8 = {"tmux": "-u", "screen": "-U", "zellij": ""}


def command(tool: str, name: str, utf8: bool, again: bool) -> str:
    """Return the value for RemoteCommand (OpenSSH 7.6) that puts the shell into a session of that name.

    utf8   the user's terminal takes UTF-8, whatever locale the far side has
    again  there was one: where it is gone now, that is said
    """
    script = _HEAD + _LOGIN_SHOWS + _PLAIN_SHELL + _FIND + _BODY[tool] + _TAIL
    for word, text in (
        ("@WELCOME", _WELCOME),
        ("@FIRST", _FIRST),
        ("@GONE", _GONE if again else ""),
        ("@UTF8", _UTF8[tool] if utf8 else ""),
        ("@NAME", name),
        ("@TOOL", tool),
    ):
        script = script.replace(word, text)
    line = " ".join(script.split())
    sign = _REFUSED.replace(b"\033", b"\\033").decode()
    # RemoteCommand expands "%": ssh_config(5), TOKENS.
    return f"exec /bin/sh -c '{line}'; printf \"{sign}\"".replace("%", "%%")


class Resumed:
    """The multiplexer's session that a shell comes back to, over all starts of ssh.

    tool  the multiplexer; "" once it is known that the far side has none to give
    """

    def __init__(self, tool: str, name: str) -> None:
        self.tool = tool
        self._name = name
        self._begun = False  # the session was there

    def command(self, environment: Mapping[bytes, bytes], input_is_utf8: bool) -> str:
        """Return what the next ssh is to run; the arguments are those of is_utf8()."""
        return command(self.tool, self._name, is_utf8(environment, input_is_utf8), self._begun)

    @staticmethod
    def greeting() -> Greeting:
        """Return what listens to the far side in the next run."""
        return Greeting()

    def ended(self, greeting: Greeting, ended: Exit, seen: Evidence | None, used: bool) -> Without | None:
        """Take in how a run ended; tell whether the next is to be without a multiplexer.

        used  the person typed to it
        """
        self._begun = self._begun or greeting.begun
        if seen is None:
            return None
        status = ended.code if seen.command_ended else None
        instead = without(greeting, seen.session_refused, status, used)
        if instead is not None:
            self.tool = ""
        return instead
