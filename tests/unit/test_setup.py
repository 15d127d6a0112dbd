"""What tests run, .ci/setup installs: a program that is only on one machine would be missing on the next."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
EVERYWHERE = {"bash", "sh"}


def test_every_program_that_a_test_needs_is_installed() -> None:
    setup = (TESTS.parent / ".ci" / "setup").read_text()
    listed = re.search(r'^programs="(.*)"$', setup, re.MULTILINE)
    assert listed
    installed = {pair.partition(":")[0] for pair in listed[1].split()}
    needed = {
        name
        for path in TESTS.rglob("*.py")
        for name in re.findall(r'\bneed\("([\w.-]+)"\)', path.read_text())
    }
    assert needed
    assert needed - installed - EVERYWHERE == set()
