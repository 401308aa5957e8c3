"""YAML text to plain values, strictly: nothing is bent silently, each error names its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import yaml

from staggerdns.errors import StaggerDNSError

_TAG = "tag:yaml.org,2002:"
MAX_VALUES = 100_000
"""Values of one document, lists and mappings included. One counts wherever an alias repeats it,
so that a few lines of aliases of aliases do not keep us busy for hours.
"""
_PLAIN_SCALARS = {
    "str": re.compile(r".*", re.DOTALL),
    "null": re.compile(r".*"),
    "bool": re.compile(r".*"),
    "int": re.compile(r"[-+]?(0|[1-9][0-9]{0,17})"),
    "float": re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}"),
}


class ConfigError(StaggerDNSError, ValueError):
    """A configuration that cannot be used; the text names the place and what was expected.

    ``problems``: all that is wrong, a line each; the text has the first, and how many there are.
    """

    def __init__(self, *problems: str) -> None:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)
        self.problems = problems


class Problems(list[str]):
    """All that is found wrong, a line each."""

    def of(self, check: Callable[..., object], *arguments: Any, **more: Any) -> None:
        """Add what ``check``, called with the rest, raises as `ConfigError`."""
        try:
            check(*arguments, **more)
        except ConfigError as error:
            self.extend(error.problems)


def read_document(text: str) -> object:
    """Return the values in YAML ``text``, all of them of the plain kinds that JSON has, too."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            problems = [*_problems(node, "", count())]
            if problems:
                raise ConfigError(*problems)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}: " if mark is not None else ""
        what = error.problem or error.context or ""
        if what.startswith("but "):  # the first half of PyYAML's sentence is its context
            what = f"{error.context} {what}"
        if "alias" in f"{error.context} {what}":
            what += " (put quotes around text that begins with *)"
        raise ConfigError(f"{place}not YAML: {what}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ConfigError("nested too deeply, or within itself") from None


def lines_of(text: str) -> dict[str, int]:
    """Return the line of YAML ``text`` on which each of the first `MAX_VALUES` values stands.

    Raises `yaml.YAMLError`, or `RecursionError`.
    """
    lines: dict[str, int] = {}

    def note(node: yaml.Node, path: str) -> None:
        for inner, place, value in _items(node, path):
            if len(lines) == MAX_VALUES:
                return
            lines[inner] = place.start_mark.line + 1
            note(value, inner)

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is not None:
            note(node, "")
    finally:
        loader.dispose()
    return lines


def _items(node: yaml.Node, path: str) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
    """Yield the path of each value in a node, where it stands, and the value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{path}.{one_line(str(key.value))}".lstrip("."), key, value
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield f"{path}[{index}]", value, value


def _problems(node: yaml.Node, path: str, number: Iterator[int]) -> Iterator[str]:
    """Yield what YAML would silently bend: duplicate keys, 1:30 as 90, 010 as 8, dates.

    Raises `ConfigError` for what is too much.
    """
    if next(number) == MAX_VALUES:
        raise ConfigError(f"{path}: more than {MAX_VALUES} values")
    if isinstance(node, yaml.ScalarNode):
        plain = _PLAIN_SCALARS.get(node.tag.removeprefix(_TAG))
        if plain is None or not plain.fullmatch(node.value):
            shown = one_line(node.value)
            yield (
                f"{path}: YAML reads {shown} as something else than it looks: put quotes around it"
            )
        return
    seen: set[str] = set()
    for inner, key, value in _items(node, path):
        if key is not value:
            if key.tag != _TAG + "str":
                yield f"{path or 'top level'}: expected text as a key"
                continue
            if key.value in seen:
                yield f"{inner}: this key is there twice"
            seen.add(key.value)
        yield from _problems(value, inner, number)


def one_line(text: str) -> str:
    """Escape what would break an error into two lines, or not show."""
    return "".join(
        octet if octet.isprintable() else octet.encode("unicode_escape").decode() for octet in text
    )
