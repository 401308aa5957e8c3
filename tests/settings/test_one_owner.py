"""A setting has one owner: its default stands in `staggerdns.settings` alone, and it is read."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, get_origin

import msgspec
import pytest

import staggerdns
from staggerdns.settings import policy, sections, shared, upstreams
from staggerdns.settings.section import NAME, sections_in
from staggerdns.settings.sections import Config

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = Path(staggerdns.__file__).parent
SOURCES = {
    str(path.relative_to(PACKAGE)): path.read_text(encoding="utf-8")
    for path in PACKAGE.rglob("*.py")
    if path.parent.name != "settings"
}
LOOK_ON = {"config.py", "configgroups.py", "configroutes.py", "configwarnings.py"}
"""Modules that check settings; what they read has no effect by that."""
HOLDER = re.compile(
    r"^class (\w+)[^\n]*\n(?:(?:    .*)?\n)*?    settings: (\w+Settings)\n", re.MULTILINE
)
"""A class with a section among its fields."""
MODULES = {
    "upstream": upstreams,
    "addresses": policy,
    "families": policy,
    "cache.shared": shared,
    "routes[]": policy,
    "groups": policy,
    "lists": policy,
}
"""Where sections stand that are not with the others."""
SPENT = {"upstream.profile", "routes[].profile"}
"""Keys that have had their effect when the configuration has been read."""


def sections_of(
    kind: type[msgspec.Struct], path: str = ""
) -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield the path and the class of each section."""
    yield path, kind
    for field in msgspec.structs.fields(kind):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            yield from sections_of(field.type, f"{path}.{field.name}".lstrip("."))
        if get_origin(field.type) not in (tuple, dict):
            continue
        for mark, item in sections_in(field.type):
            yield from sections_of(item, f"{path}.{field.name}{mark}".lstrip("."))


SECTIONS = dict(sections_of(Config))
KEYS = {
    f"{path}.{field.name}": field
    for path, kind in SECTIONS.items()
    for field in msgspec.structs.fields(kind)
    if field.type not in SECTIONS.values()
}


def attributes(source: str) -> Iterator[tuple[str, str]]:
    """Yield each attribute that is read, behind the name of what it is read from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            if isinstance(node.value, ast.Name):
                yield node.value.id.lstrip("_"), node.attr
            elif isinstance(node.value, ast.Attribute):
                yield node.value.attr.lstrip("_"), node.attr


def called(path: str) -> str:
    """Return what a section is called where it is read; an item by its singular."""
    name = path.removesuffix(f".{NAME}")
    return name.rpartition(".")[2].removesuffix("s" if name != path else "s[]")


def unread(sources: Iterable[str]) -> set[str]:
    """Return the keys that no module reads.

    A section is called ``settings`` where its class is named, or a class that has it under this
    name; or as its key is where the class of a section around it is.
    """
    read: set[str] = set()
    texts = list(sources)
    holders = [pair for source in texts for pair in HOLDER.findall(source)]
    for source in texts:
        named = set(re.findall(r"\w+", source))
        named.update(kind for holder, kind in holders if holder in named)
        known = [path for path, kind in SECTIONS.items() if kind.__name__ in named]
        for holder, attribute in attributes(source):
            read.update(f"{path}.{attribute}" for path in known if holder == "settings")
            if holder == "config" and "Config" in named:
                read.add(f".{attribute}")
            read.update(
                f"{inner}.{attribute}"
                for path in known
                for inner in SECTIONS
                if inner.startswith(path) and called(inner) == holder
            )
    return KEYS.keys() - read


def test_every_key_is_read() -> None:
    """What can be configured has an effect: a module that does not only check it reads it."""
    assert unread(text for name, text in SOURCES.items() if name not in LOOK_ON) == SPENT


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("def f(settings: CacheSettings): settings.max_stale", {"cache.max_stale"}),
        ("class C:\n    s: CacheSettings\n    x = self._settings.max_stale", {"cache.max_stale"}),
        ("def f(config: Config): config.cache.max_stale", {"cache.max_stale"}),
        ("def f(settings: UpstreamSettings): settings.budget.burst", {"upstream.budget.burst"}),
        ("def f(settings: RateLimitSettings): settings.burst", {"server.rate_limit.burst"}),
        ("def f(settings: CacheSettings): entry.max_stale", set()),
        ("def f(settings: CacheSettings): settings.burst", set()),
        ("def f(settings: CacheSettings): settings.max_stale = 1", set()),
        ("def f(settings): settings.max_stale", set()),
        ("def f(cache): cache.max_stale", set()),
    ],
)
def test_what_counts_as_reading(source: str, read: set[str]) -> None:
    """A key counts as read in its own section, by a module that knows the section's class."""
    assert KEYS.keys() - unread([source]) == read


def number(node: ast.expr | None) -> float | None:
    """Return the number that an expression of numbers is."""
    try:
        value = eval(ast.unparse(node), {"__builtins__": {}}) if node is not None else None  # noqa: S307 (our own sources)
    except (NameError, TypeError, AttributeError, KeyError, IndexError, SyntaxError):
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def defaults(tree: ast.Module) -> Iterator[tuple[str, float]]:
    """Yield parameters and fields of classes with the numbers that stand for them by default."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            given = node.args
            named = [*given.posonlyargs, *given.args]
            last = zip(reversed(named), reversed(given.defaults), strict=False)
            pairs = [*last, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
            found = [(argument.arg, number(default)) for argument, default in pairs]
        elif isinstance(node, ast.ClassDef):
            found = [
                (ast.unparse(part.target), number(part.value))
                for part in node.body
                if isinstance(part, ast.AnnAssign)
            ]
        else:
            continue
        yield from ((name, value) for name, value in found if value is not None)


def constants(tree: ast.Module) -> Iterator[tuple[str, float]]:
    """Yield the constants of a module and of its classes that are numbers, and the numbers in
    its dictionaries by their keys; annotated fields of classes are `defaults`.
    """
    nodes = list(ast.walk(tree))
    fields = {part for node in nodes if isinstance(node, ast.ClassDef) for part in node.body}
    for node in nodes:
        pairs: list[tuple[str, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            pairs = [(ast.unparse(target), node.value) for target in node.targets]
        elif isinstance(node, ast.AnnAssign) and node not in fields:
            pairs = [(ast.unparse(node.target), node.value)]
        elif isinstance(node, ast.Dict):
            pairs = [
                (key.value, value)
                for key, value in zip(node.keys, node.values, strict=True)
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
        for name, expression in pairs:
            value = number(expression)
            if value is not None:
                yield name, value


def repeated(source: str) -> list[str]:
    """Return where a module states the number of a setting: a default of that name, whatever the
    number, and a constant or a key of a dictionary of that name with the very number.

    It goes by the name: the same number under another name is not found.
    """
    values: dict[str, set[object]] = {}
    for key, field in KEYS.items():
        values.setdefault(key.rpartition(".")[2], set()).add(field.default)
    tree = ast.parse(source)
    found = [name for name, _ in defaults(tree) if name.strip("_").lower() in values]
    found += [
        name
        for name, value in constants(tree)
        if value in values.get(name.rpartition(".")[2].strip("_").lower(), ())
    ]
    return found


@pytest.mark.parametrize("path", SOURCES)
def test_no_default_is_repeated(path: str) -> None:
    """The number of a setting stands under its name in `staggerdns.settings` and nowhere else."""
    assert repeated(SOURCES[path]) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f(max_stale=3_600): pass",
        "def f(*, max_stale: int = 7): pass",
        "class C:\n    def m(self, burst: int = 100) -> None: pass",
        "@dataclass\nclass Limits:\n    max_entries: int = 50_000",
        "MAX_ENTRIES = 50_000",
        "MAX_STALE: int = 3_600",
        "_MAX_STALE: Final = 60 * 60",
        "def f():\n    max_stale: int = 3_600",
        'DEFAULTS = {"max_fallback_timeout": 0.3}',
        'DEFAULTS = {"upstream.max_fallback_timeout": 0.3, **others, 7: 0.3}',
        "_MAX_SIZE = 128 * 1024 * 1024",
        "class C:\n    STAGGER_DELAY = 0.05",
        "f = lambda samples=3: samples",
    ],
)
def test_repeated_defaults_would_be_found(source: str) -> None:
    """Each way of stating such a number again is found."""
    assert len(repeated(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "MAX_STALE: int",
        "MAX_STALE: int = 3_599",
        "SECONDS_AN_HOUR: int = 3_600",
        'LABELS = {"max_fallback_timeout": "seconds"}',
        'OTHERS = {"max_fallback_timeout": 0.31, "else": 0.3}',
    ],
)
def test_other_numbers_are_not_found(source: str) -> None:
    """Another number under the name of a setting, or its number under another name."""
    assert repeated(source) == []


def test_sections_are_declared_once() -> None:
    """Every section is a class of its own in its module, frozen, and every key has a meaning."""
    for path, kind in SECTIONS.items():
        module = MODULES.get(path, MODULES.get(path.partition(".")[0], sections))
        assert kind.__module__ == module.__name__
        assert kind.__struct_config__.frozen
        assert kind.__struct_config__.forbid_unknown_fields
        assert inspect.getdoc(kind)
