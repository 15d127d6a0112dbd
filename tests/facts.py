"""Evidence as the tests of pure rules need it."""

from __future__ import annotations

from pykeepssh.ssh.evidence import Evidence


def seen(**facts: object) -> Evidence:
    """Return the Evidence with these facts."""
    found = Evidence()
    for name, value in facts.items():
        assert hasattr(found, name)
        setattr(found, name, value)
    return found
