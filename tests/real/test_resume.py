"""KSSH_RESUME where the far side runs no command, or ssh cannot send one: a fake ssh says so."""

from __future__ import annotations

import re
from pathlib import Path

from harness import FakeSsh, Start, Terminal, fake_ssh, program
from links import FINISH, LOSE, SESSION, with_fake

EXEC_REFUSED = "log 'exec request failed on channel 0'; exit 255\n"
BEGUN = "printf '\\033[0;0m\\033[m\\033[0;0m'\n"


def on_terminal(fake: FakeSsh, **variables: object) -> Terminal:
    return Terminal([program(), "host"], env=with_fake(fake, RESUME="tmux", **variables))


def resumes(start: Start) -> list[str]:
    """Return the names of the session that a start asks for."""
    return [found for word in start.argv for found in re.findall(r"RemoteCommand=.*; n=([\w-]+);", word)]


def test_a_server_that_runs_no_command_gives_a_plain_shell_at_once(tmp_path: Path) -> None:
    fake = fake_ssh(
        tmp_path, f"{FINISH}{SESSION}[ $start = 1 ] && {{ {EXEC_REFUSED} }}\necho shell; finish 7"
    )
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 7
        terminal.expect(b"kssh: host: no multiplexer there (the server does not run commands); a plain shell")
        terminal.expect(b"shell\r\n")
    assert [len(resumes(start)) for start in fake.starts] == [1, 0]


def test_the_name_stays_through_every_loss(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}{BEGUN}[ $start = 3 ] && finish 7\n{LOSE}")
    with on_terminal(fake, BACKOFF_MAX=1) as terminal:
        assert terminal.wait() == 7
    names = [resumes(start) for start in fake.starts]
    assert len(names) == 3
    assert names[0] == names[1] == names[2]
    gone = ["is gone" in " ".join(start.argv) for start in fake.starts]
    assert gone == [False, True, True]


def test_a_link_that_was_lost_before_the_session_asks_for_it_again(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}[ $start = 2 ] && {{ {BEGUN} finish 7; }}\n{LOSE}")
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 7
    assert [len(resumes(start)) for start in fake.starts] == [1, 1]


def test_an_ssh_without_remote_command_opens_a_plain_shell_and_says_so(tmp_path: Path) -> None:
    fake = fake_ssh(tmp_path, f"{FINISH}{SESSION}echo shell; finish 7")
    fake.path.write_text(fake.path.read_text().replace("OpenSSH_9.2p1", "OpenSSH_7.4p1"))
    with on_terminal(fake) as terminal:
        assert terminal.wait() == 7
        terminal.expect(b"kssh: host: this ssh has no RemoteCommand; opening a plain shell\r\n")
        terminal.expect(b"shell\r\n")
    assert not resumes(fake.starts[0])
