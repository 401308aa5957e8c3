"""The words of the house: those of the field, in names as in docstrings."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import staggerdns

PACKAGE = Path(staggerdns.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FORMER_NAME = re.compile(
    "asks_again|all_rest|deaf|denied|doomed|flee|identities|outsider|rests|spots|tell|NO_LINE"
    "|Books|Budget|Clients|Credit|Dial|Failed|Line|Local|Nothing|Pace|RateLimit|Tools|Waiter|WebLine"
    "|Whole|[A-Z][A-Za-z]*(?:Limits|Numbers|Rules)"
)
"""What was a word of our own, or repeated a section of the settings. The words of the field that
stand there now are in docs/glossary.rst.
"""
EMPTY_VERBS = ("Say", "Says", "Take", "Takes")
"""With which a docstring does not tell what comes back, or what is done."""


def label(path: Path) -> str:
    """A module's name in the output of the tests."""
    return str(path.relative_to(PACKAGE))


def defined(tree: ast.AST) -> set[str]:
    """Names that a module gives: to classes, functions, their arguments, and attributes."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                found.update(ast.literal_eval(slot) for slot in slots)
            case ast.Name(id=name, ctx=ast.Store()) if name.isupper():
                found.add(name)
    return {name.lstrip("_") for name in found}


def former_names(tree: ast.AST) -> set[str]:
    """Those of a module's names that are words of our own."""
    return {name for name in defined(tree) if FORMER_NAME.fullmatch(name)}


def empty_docstrings(tree: ast.AST) -> list[str]:
    """First lines of docstrings that begin with one of `EMPTY_VERBS`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if first.split(maxsplit=1)[:1] and first.split(maxsplit=1)[0] in EMPTY_VERBS:
                found.append(first)
    return found


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_docstrings_tell_what_comes_back(path: Path) -> None:
    """They begin with "Return whether ...", or with what is done."""
    assert empty_docstrings(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", MODULES, ids=label)
def test_names_are_the_fields(path: Path) -> None:
    """Nobody takes up a former name again."""
    assert former_names(ast.parse(path.read_text(encoding="utf-8"))) == set()


def test_a_chain_is_one_of_resolvers() -> None:
    """That of CNAMEs is a ``cname_chain``, and certificates are ``certificates``."""
    rooms = ("wire", "upstream", "server")
    paths = [path for room in rooms for path in (PACKAGE / room).glob("*.py")]
    assert len(paths) > 10
    wrong = [path for path in paths if "chain" in defined(ast.parse(path.read_bytes()))]
    assert wrong == []


@pytest.mark.parametrize(
    "text",
    [
        "class Line: ...",
        "class _Line: ...",
        "class PendingLimits: ...",
        "def flee(self): ...",
        "def f(identities): ...",
        "self.doomed = True",
        "self._doomed: bool = True",
        '__slots__ = ("spots",)',
        "NO_LINE = ''",
    ],
)
def test_former_names_are_found(text: str) -> None:
    """Wherever a name can be given."""
    assert len(former_names(ast.parse(text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "line = 1",
        "content.tell()",
        "class ServerSettings: ...",
        "def outlines(): ...",
        "self.numbers = 1",
    ],
)
def test_other_names_are_not_found(text: str) -> None:
    """Words in their own sense, and those that are Python's."""
    assert former_names(ast.parse(text)) == set()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ('"""Say it."""', 1),
        ('class A:\n    """Takes it."""', 1),
        ('def f():\n    """\n    Take it.\n    """', 1),
        ('async def f():\n    """Say whether."""', 1),
        ('def f():\n    """Sayings."""', 0),
        ('def f():\n    """Return what it says."""', 0),
        ("def f(): ...", 0),
    ],
)
def test_empty_docstrings_are_found(text: str, count: int) -> None:
    """Of modules, classes and functions."""
    assert len(empty_docstrings(ast.parse(text))) == count
