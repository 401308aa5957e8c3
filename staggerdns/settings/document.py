"""YAML text to plain values, strictly: nothing is bent silently, each error names its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

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
    """A configuration that cannot be used; the text names the place and what was expected."""


def read_document(text: str) -> object:
    """Return the values in YAML ``text``, all of them of the plain kinds that JSON has, too."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _check_node(node, "", count())
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


def _check_node(node: yaml.Node, path: str, number: Iterator[int]) -> None:
    """Refuse what YAML would silently bend: duplicate keys, 1:30 as 90, 010 as 8, dates."""
    if next(number) == MAX_VALUES:
        raise ConfigError(f"{path}: more than {MAX_VALUES} values")
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag != _TAG + "str":
                raise ConfigError(f"{path or 'top level'}: expected text as a key")
            inner = f"{path}.{one_line(key.value)}".lstrip(".")
            if key.value in seen:
                raise ConfigError(f"{inner}: this key is there twice")
            seen.add(key.value)
            _check_node(value, inner, number)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _check_node(value, f"{path}[{index}]", number)
    else:
        plain = _PLAIN_SCALARS.get(node.tag.removeprefix(_TAG))
        if plain is None or not plain.fullmatch(node.value):
            shown = one_line(node.value)
            raise ConfigError(
                f"{path}: YAML reads {shown} as something else than it looks: put quotes around it"
            )


def one_line(text: str) -> str:
    """Escape what would break an error into two lines, or not show."""
    return "".join(
        octet if octet.isprintable() else octet.encode("unicode_escape").decode() for octet in text
    )
