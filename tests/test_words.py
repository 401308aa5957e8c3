"""The words of the project: those of the field, in names as in docstrings, of tests too."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import pytest

import staggerdns

PACKAGE = Path(staggerdns.__file__).parent
ROOT = PACKAGE.parent
SOURCES = sorted(
    path
    for room in ("staggerdns", "tests", "bench", "fuzz")
    for path in ROOT.glob(f"{room}/**/*.py")
)
FORMER_NAME = re.compile(
    "asks_again|all_rest|bringers?|deaf|denied|doomed|flee|identities|outsider|rests|spots|tell"
    "|NO_LINE|Books|Budget|Clients|Course|Credit|Deaf|Dial|Failed|Line|Local|Nothing|Pace|Place|RateLimit"
    "|Tools|Waiter|WebLine|Whole|[A-Z][A-Za-z]*(?:Limits|Numbers|Rules)"
)
"""What was a word of our own, or repeated a section of the settings. The words of the field that
stand there now are in docs/glossary.rst.
"""
RIDDLE = re.compile(
    "line|[A-Za-z]*(?:House|Town|Room|Desk|Shelf|Stage|Larder|Office)"
    "|room|(?:[a-z0-9_]+_)?(?:house|town|desk|shelf|stage|larder|office)"
)
"""What tells nothing of what a class, a function, an attribute or a file is. An argument may be
a line of text, or the room that is left in a message; ``has_room`` asks for that, too.
"""
EMPTY_VERBS = ("Say", "Says", "Take", "Takes")
"""With which a docstring does not tell what comes back, or what is done."""


def in_sources(find: Callable[[ast.AST], Collection[str]]) -> dict[str, Collection[str]]:
    """Return what is found in each source in which anything is."""
    assert len(SOURCES) > 300
    found = {
        str(path.relative_to(ROOT)): find(ast.parse(path.read_text(encoding="utf-8")))
        for path in SOURCES
    }
    return {path: names for path, names in found.items() if names}


def arguments(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that a module gives to the arguments of its functions."""
    return {node.arg.lstrip("_") for node in nodes if isinstance(node, ast.arg)}


def things(nodes: Iterable[ast.AST]) -> set[str]:
    """Names that a module gives to classes, functions and attributes."""
    found: set[str] = set()
    for node in nodes:
        match node:
            case ast.ClassDef():
                found.add(node.name)
                fields = [one.target for one in node.body if isinstance(one, ast.AnnAssign)]
                found.update(field.id for field in fields if isinstance(field, ast.Name))
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Attribute(attr=name, ctx=ast.Store()):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")], value=ast.Tuple(elts=slots)):
                found.update(ast.literal_eval(slot) for slot in slots)
            case ast.Name(id=name, ctx=ast.Store()) if name.isupper():
                found.add(name)
    return {name.lstrip("_") for name in found}


def defined(tree: ast.AST) -> set[str]:
    """Return all that `things` and `arguments` find."""
    nodes = list(ast.walk(tree))
    return things(nodes) | arguments(nodes)


def former_names(tree: ast.AST) -> set[str]:
    """Those of a module's names that are words of our own."""
    nodes = list(ast.walk(tree))
    own = things(nodes)
    former = {name for name in own | arguments(nodes) if FORMER_NAME.fullmatch(name)}
    return former | {name for name in own if RIDDLE.fullmatch(name)}


def empty_docstrings(tree: ast.AST) -> list[str]:
    """First lines of docstrings that begin with one of `EMPTY_VERBS`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = (ast.get_docstring(node) or "").partition("\n")[0]
            if first.split(maxsplit=1)[:1] and first.split(maxsplit=1)[0] in EMPTY_VERBS:
                found.append(first)
    return found


def test_docstrings_tell_what_comes_back() -> None:
    """They begin with "Return whether ...", or with what is done."""
    assert in_sources(empty_docstrings) == {}


def test_names_are_the_fields() -> None:
    """Nobody takes up a former name again, in the package, its tests or its measurements."""
    assert in_sources(former_names) == {}


def test_files_tell_what_is_in_them() -> None:
    """Their names are not riddles either."""
    assert [path for path in SOURCES if RIDDLE.fullmatch(path.stem)] == []


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
        "class DemoStage: ...",
        "class _House: ...",
        "class A:\n    larder: int",
        "def stage(): ...",
        "def _make_town(): ...",
        "self.line = 1",
        "self._line: Any = 1",
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
        "def f(line, room): ...",
        "room: int = 1",
        "def has_room(): ...",
        "class Headroom: ...",
        "self.lines = 1",
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
