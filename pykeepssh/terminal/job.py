"""kssh as a job of a shell: how it stops, interrupts its whole job, leaves its session to the background.

Knows process groups and signals.  Must not know why, nor what the terminal shows meanwhile.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .person import Unattended
    from .relay import Run


def stop(whole_job: bool) -> None:
    """Stop, and all of the job if asked to; return when continued.

    In a session without a job-control shell the kernel goes straight on.
    """
    handler = signal.getsignal(signal.SIGTSTP)
    if handler != signal.SIG_IGN:
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(0 if whole_job else os.getpid(), signal.SIGTSTP)
    # Here kssh stands still.
    signal.signal(signal.SIGTSTP, handler)


def interrupt(signum: int) -> None:
    """Let all of the job have the signal that the person typed, such as the script that started kssh.

    A shell that waits for kssh goes on with its script unless it had the signal as well.
    """
    before = signal.signal(signum, signal.SIG_IGN)
    os.kill(0, signum)
    signal.signal(signum, before)


def hand_over(run: Run, person: Unattended) -> None:
    """Let another process hold ssh's pty, without which ssh would hang up, and give the terminal back.

    Like ssh behind "~&" it sends the end of input and shows what still comes.
    """
    assert run.child.fd is not None
    run.to_ssh.put(b"\x04")
    run.to_ssh.drain()
    person.give_back()
    run.close_channel()  # ssh would stop for a log that nobody reads
    if os.fork() == 0:
        try:
            _forget_signals()
            person.pass_on(run.child.fd)
        finally:
            os._exit(0)
    run.child.abandon()
    person.forget_output()


def _forget_signals() -> None:
    """Handle no signal any more as kssh does."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals():
        if callable(signal.getsignal(signum)):
            signal.signal(signum, signal.SIG_DFL)
