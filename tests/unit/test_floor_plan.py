"""The house: imports go to floors below, pure folders stay pure, the way to exec stays short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[2] / "pykeepssh"

# The rooms of each floor, lowest first.  The rule: an import goes to a lower floor or stays in its room,
# and the imports of a room make no circle.
FLOORS = (
    ("errors, settings",),
    ("ssh",),
    ("link",),
    ("system",),
    ("terminal", "network"),
    ("supervisor, driver, connections, launch, reporter, foreground, daemon",),
    ("cli", "ctl"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOM = {name: room for room in FLOOR for name in room.split(", ")}  # of what stands right in the package

PURE = ("errors, settings", "ssh", "link")
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
TO_EXEC = (
    "cli",
    "errors",
    "settings",
    "ssh.args",
    "ssh.config",
    "link.kinds",
    "link.plan",
    "system.checks",
    "system.config_files",
    "system.files",
    "system.program",
)
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
        "contextlib",
        "functools",
        "collections",
        "select",
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
            if whole.partition(".")[0] == "pykeepssh":
                for alias in node.names:
                    yield Import(_module(whole, alias.name), node.lineno, at_start, fallback)
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


def _module(package: str, name: str) -> str:
    """Return the module that "from package import name" loads: name itself, or the one that defines it."""
    inside = f"{package}.{name}".split(".")[1:]
    found = PACKAGE.joinpath(*inside)
    return f"{package}.{name}" if found.with_suffix(".py").is_file() or found.is_dir() else package


def module_of(path: Path) -> str:
    """Return a file's dotted name below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the room that a module stands in, "" for the package itself."""
    first = module.partition(".")[0]
    return ROOM.get(first, first)


def imports_of(path: Path) -> list[Import]:
    inside = path.relative_to(PACKAGE.parent).with_suffix("")
    package = ".".join(inside.parts[:-1])
    return list(imports_in(ast.parse(path.read_text()).body, package))


def ours(found: Import) -> str:
    """Return the dotted name below the package of what is imported, "" for anything else."""
    root, _, rest = found.name.partition(".")
    return rest if root == "pykeepssh" and not rest.startswith("__") else ""


FILES = {
    module_of(path): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if path.relative_to(PACKAGE).parts not in (("__init__.py",), ("__main__.py",))
}


@pytest.mark.parametrize("module", FILES)
def test_every_module_stands_in_a_room(module: str) -> None:
    assert room_of(module) in FLOOR, f"{module} is in no room: put it into a folder of FLOORS"


@pytest.mark.parametrize("module", FILES)
def test_imports_go_to_lower_floors_or_stay_in_their_room(module: str) -> None:
    room = room_of(module)
    wrong = []
    for found in imports_of(FILES[module]):
        other = room_of(ours(found))
        if other and other != room and FLOOR[other] >= FLOOR.get(room, len(FLOORS)):
            wrong.append(f"{module}:{found.line}: {room} → {other} ({ours(found)})")
    assert not wrong, "arrows that do not point to a lower floor:\n" + "\n".join(wrong)


def test_no_room_has_a_circle() -> None:
    arrows = {
        module: {
            ours(found)
            for found in imports_of(path)
            if found.at_start and room_of(ours(found)) == room_of(module) and ours(found) != module
        }
        for module, path in FILES.items()
    }
    while leaves := {module for module, others in arrows.items() if not others & arrows.keys()}:
        arrows = {module: others for module, others in arrows.items() if module not in leaves}
    assert not arrows, f"these import each other in a circle: {sorted(arrows)}"


@pytest.mark.parametrize("module", [module for module in FILES if room_of(module) in PURE])
def test_pure_rooms_touch_no_system(module: str) -> None:
    wrong = [
        f"{module}:{found.line}: imports {found.name}"
        for found in imports_of(FILES[module])
        if found.name.partition(".")[0] in IMPURE
    ]
    assert not wrong, "ssh/ and link/ are tables and functions:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", TO_EXEC)
def test_the_way_to_exec_imports_nothing_slow(module: str) -> None:
    wrong = [
        f"{module}:{found.line}: imports {found.name} at start"
        for found in imports_of(FILES[module])
        if found.at_start and found.name.partition(".")[0] in SLOW and not found.fallback
    ]
    assert not wrong, "import it in the function that needs it, or do without:\n" + "\n".join(wrong)


@pytest.mark.parametrize("module", TO_EXEC)
def test_the_way_to_exec_loads_nothing_else_of_the_house(module: str) -> None:
    allowed = {*TO_EXEC, *(name.rpartition(".")[0] for name in TO_EXEC)}
    wrong = [
        f"{module}:{found.line}: imports {found.name} at start"
        for found in imports_of(FILES[module])
        if found.at_start and ours(found) not in allowed
    ]
    assert not wrong, "what supervises is imported once it is known to be needed:\n" + "\n".join(wrong)


# -- this file itself --------------------------------------------------------------------------------

SAMPLE = """
import os.path
from . import link, ssh
from .settings import Settings
from ..link.machine import step
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
        "pykeepssh.link": (True, False),
        "pykeepssh.ssh": (True, False),
        "pykeepssh.settings": (True, False),
        "pykeepssh.link.machine": (True, False),
        "_signal": (True, False),
        "signal": (True, True),
        "json": (True, False),
        "psutil": (False, False),
        "enum": (True, False),
        "pexpect": (False, False),
        "glob": (True, False),
    }


def test_a_package_below_reads_its_relatives() -> None:
    body = ast.parse("from . import links\nfrom .. import cli\nfrom ..link.record import pack\n").body
    assert [i.name for i in imports_in(body, "pykeepssh.ctl")] == [
        "pykeepssh.ctl.links",
        "pykeepssh.cli",
        "pykeepssh.link.record",
    ]


def test_what_the_package_says_of_itself_is_no_room() -> None:
    version = Import("pykeepssh.__version__", 1, True, False)
    assert ours(version) == ""
    assert ours(Import("os.path", 1, True, False)) == ""
