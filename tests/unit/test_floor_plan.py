"""The floor plan: imports run strictly downwards, pure floors stay pure, the way to exec stays short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "pykeepssh"

FLOORS = (
    (
        "errors",
        "kinds",
        "outcomes",
        "sshargs",
        "settings",
        "evidence",
        "messages",
        "allowance",
        "backoff",
        "record",
        "escapes",
        "keys",
        "flow",
        "termmodes",
        "sshconfig",
        "attach",
        "sshdtitle",
    ),
    ("plan", "policy", "wording", "identity", "person", "probeplan", "history", "multiplexer"),
    ("machine", "overview"),
    ("files", "sink"),
    (
        "program",
        "effective",
        "child",
        "sshlog",
        "terminal",
        "network",
        "connection",
        "lookup",
        "mastersocket",
        "statefile",
        "notify",
        "loop",
        "console",
        "configfile",
        "openssh",
        "sshserver",
        "relay",
    ),
    ("supervisor", "daemon", "measured", "ancestry"),
    ("cli", "ctl"),
)
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
# Everybody may use it, on its own floor too: the words for what goes wrong.
SHARED = "errors"

PURE = range(3)
IMPURE = frozenset(
    (
        "os",
        "time",
        "signal",
        "random",
        "socket",
        "pexpect",
        "psutil",
        "select",
        "subprocess",
        "termios",
        "fcntl",
        "pty",
        "tty",
        "sys",
        "threading",
    )
)
# What is loaded before ssh takes kssh's place: each import below costs milliseconds.
TO_EXEC = ("cli", "errors", "kinds", "sshargs", "settings", "plan", "program", "effective")
SLOW = frozenset(
    (
        "dataclasses",
        "argparse",
        "logging",
        "asyncio",
        "psutil",
        "pexpect",
        "re",
        "typing",
        "subprocess",
        "signal",
        "enum",
    )
)


class Import(NamedTuple):
    """One import: what, where, at module level or not, and whether it is only a fallback."""

    name: str
    line: int
    at_start: bool
    fallback: bool


def is_type_checking(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_in(
    body: list[ast.stmt], package: str, at_start: bool = True, fallback: bool = False
) -> Iterator[Import]:
    """Yield every import below some statements, without those that only a type checker sees."""
    for node in body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, at_start, fallback)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            whole = ".".join(part for part in (base, module) if part)
            if whole == "pykeepssh":
                yield from (
                    Import(f"pykeepssh.{alias.name}", node.lineno, at_start, fallback) for alias in node.names
                )
            else:
                yield Import(whole, node.lineno, at_start, fallback)
        elif isinstance(node, ast.Try):
            for part in (node.body, node.orelse, node.finalbody):
                yield from imports_in(part, package, at_start, fallback)
            for handler in node.handlers:
                yield from imports_in(handler.body, package, at_start, True)
        elif is_type_checking(node):
            yield from imports_in(node.orelse, package, at_start, fallback)
        else:
            inner = at_start and not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            for field in ("body", "orelse"):
                yield from imports_in(getattr(node, field, []), package, inner, fallback)


def module_of(path: Path) -> str:
    """Return the name by which the floor plan knows a file: a package counts as one module."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports_of(path: Path) -> list[Import]:
    inside = path.relative_to(PACKAGE.parent).with_suffix("")
    package = ".".join(inside.parts[:-1])
    return list(imports_in(ast.parse(path.read_text()).body, package))


FILES = {
    str(path.relative_to(PACKAGE)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts not in (("__init__.py",), ("__main__.py",))
}


@pytest.mark.parametrize("name", FILES)
def test_every_module_stands_on_a_floor(name: str) -> None:
    module = module_of(FILES[name])
    assert module in FLOOR, f"{module} is not in the floor plan: add it to FLOORS here and to the design"


@pytest.mark.parametrize("name", FILES)
def test_imports_run_strictly_downwards(name: str) -> None:
    module = module_of(FILES[name])
    floor = FLOOR.get(module, len(FLOORS))  # of a new module the test above tells
    wrong = []
    for found in imports_of(FILES[name]):
        root, _, rest = found.name.partition(".")
        other = rest.partition(".")[0]
        if root != "pykeepssh" or other in (module, SHARED) or other.startswith("__"):
            continue
        if FLOOR.get(other, -1) >= floor:
            wrong.append(f"{name}:{found.line}: {module} ({floor}) → {other} ({FLOOR.get(other, 'none')})")
    assert not wrong, "arrows that do not point down:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if FLOOR.get(module_of(path)) in PURE])
def test_pure_floors_touch_no_system(name: str) -> None:
    wrong = [
        f"{name}:{found.line}: imports {found.name}"
        for found in imports_of(FILES[name])
        if found.name.partition(".")[0] in IMPURE
    ]
    assert not wrong, "floors 0 to 2 are tables and functions:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if module_of(path) in TO_EXEC])
def test_the_way_to_exec_imports_nothing_slow(name: str) -> None:
    wrong = [
        f"{name}:{found.line}: imports {found.name} at start"
        for found in imports_of(FILES[name])
        if found.at_start and found.name.partition(".")[0] in SLOW and not found.fallback
    ]
    assert not wrong, "import it in the function that needs it, or do without:\n" + "\n".join(wrong)


@pytest.mark.parametrize("name", [name for name, path in FILES.items() if module_of(path) in TO_EXEC])
def test_the_way_to_exec_loads_none_of_the_other_floors(name: str) -> None:
    wrong = [
        f"{name}:{found.line}: imports {found.name} at start"
        for found in imports_of(FILES[name])
        if found.at_start
        and found.name.startswith("pykeepssh.")
        and found.name.split(".")[1] not in (*TO_EXEC, "__version__")
    ]
    assert not wrong, "what supervises is imported once it is known to be needed:\n" + "\n".join(wrong)


def test_no_module_stands_on_two_floors() -> None:
    modules = [module for floor in FLOORS for module in floor]
    assert len(modules) == len(set(modules))
    assert set(TO_EXEC) <= set(modules)


# -- this file itself --------------------------------------------------------------------------------

SAMPLE = """
import os.path
from . import plan, wording
from .settings import Settings
from ..machine import step
try:
    import _signal
except ImportError:
    import signal
if TYPE_CHECKING:
    import re
else:
    import json
def late():
    import psutil
class Thing:
    import enum
    def method(self):
        with x:
            import pexpect
for i in x:
    import glob
"""


def test_the_reader_of_imports_reads_them_all() -> None:
    found = {i.name: (i.at_start, i.fallback) for i in imports_in(ast.parse(SAMPLE).body, "pykeepssh")}
    assert found == {
        "os.path": (True, False),
        "pykeepssh.plan": (True, False),
        "pykeepssh.wording": (True, False),
        "pykeepssh.settings": (True, False),
        "pykeepssh.machine": (True, False),
        "_signal": (True, False),
        "signal": (True, True),
        "json": (True, False),
        "psutil": (False, False),
        "enum": (True, False),
        "pexpect": (False, False),
        "glob": (True, False),
    }


def test_a_package_below_reads_its_relatives() -> None:
    body = ast.parse("from . import verb\nfrom .. import plan\nfrom ..record import pack\n").body
    assert [i.name for i in imports_in(body, "pykeepssh.ctl")] == [
        "pykeepssh.ctl",
        "pykeepssh.plan",
        "pykeepssh.record",
    ]
