"""How the tests are laid out: what is shared stands in the kit, and tests know nothing of tests."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

import pytest

from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from pathlib import Path

TESTS = ROOT / "tests"
MODULES = sorted(TESTS.rglob("*.py"))
OUTSIDE = {
    *("behaviours", "certificates", "checkout", "clients", "clock", "crowd", "daemons"),
    *("forkserver", "internet", "namespaces", "octets", "ports", "program", "scripted"),
    *("signed", "testbed"),
}
"""The parts of the kit that see the program as its users do."""


@cache
def imported(path: Path) -> frozenset[str]:
    """The dotted names that a module imports anywhere in it: modules, and what is in them."""
    package = path.relative_to(ROOT).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def ours(path: Path) -> list[list[str]]:
    """What a module imports from below ``tests``, each name in parts without that first one."""
    names = (name.split(".") for name in imported(path))
    return [parts[1:] for parts in names if parts[0] == "tests"]


def test_no_module_imports_a_test() -> None:
    """What two modules need is in the kit, or a fixture of a conftest."""
    found = [
        (str(path.relative_to(TESTS)), ".".join(parts))
        for path in MODULES
        for parts in ours(path)
        if (parts[0] != "kit" and "conftest" not in parts) or any("test_" in part for part in parts)
    ]
    assert found == []


def test_from_outside() -> None:
    """Those parts of the kit import no module of the package, nor a part that does."""
    kit = TESTS / "kit"
    paths = [
        path
        for path in kit.rglob("*.py")
        if path.relative_to(kit).parts[0].removesuffix(".py") in OUTSIDE
    ]
    for path in paths:
        # The package alone tells where it is.
        assert not [name for name in imported(path) if name.startswith("staggerdns.")], path
        assert {parts[1] for parts in ours(path)} <= OUTSIDE, path


@pytest.mark.parametrize("name", ["staggerdns", "twisted"])
def test_nothing_else_needs_the_tests(name: str) -> None:
    """The package runs without tests, benchmarks and fuzzing."""
    for path in (ROOT / name).rglob("*.py"):
        assert not {full.split(".")[0] for full in imported(path)} & {"tests", "bench", "fuzz"}


MOST_PRIVATE = 29
"""How often the tests may reach for what is private to the package: for what has no readout."""


def private_names() -> set[str]:
    """Every name of the package with one underscore in front: of attributes, and in modules."""
    found: set[str] = set()
    for path in (ROOT / "staggerdns").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.Name):
                found.add(node.id)
            elif isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(node.name)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_few_privates_are_touched() -> None:
    """Tests look at readouts: `Counter.values`, `AnswerCache.entries`, `Health.failures`.

    A class of the kit that is an upstream, with another transport, may use what it inherits.
    """
    private = private_names()
    found = [
        f"{path.relative_to(TESTS)}:{node.lineno}: {ast.unparse(node)}"
        for path in MODULES
        if any(name.startswith(("staggerdns.", "tests.kit.")) for name in imported(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in private
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]
    assert len(found) <= MOST_PRIVATE, "\n".join(found)


def test_nothing_private_is_imported() -> None:
    """What a test imports from the package, or from the kit, is for others to use."""
    for path in MODULES:
        names = [
            name.split(".") for name in imported(path) if name.startswith(("staggerdns.", "tests."))
        ]
        assert not [n for n in names if n[-1].startswith("_") and not n[-1].startswith("__")], path
