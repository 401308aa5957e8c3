"""Which series an expression of Prometheus asks for.

This is no parser: Prometheus itself says whether an expression is one. It finds the selectors of
those that can be written without the label ``__name__``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_NAME = r"(?<![\w:.$])(?P<name>[a-zA-Z_:][\w:]*+)"
_SELECTOR = re.compile(_NAME + r"\s*+(?P<labels>\{[^{}]*\})?(?!\s*\()")
_DURATION = re.compile(r"\[[^\[\]]*\]|\boffset\s+\S+")
_KEYWORDS = {"and", "or", "unless", "bool", "by", "without", "on", "ignoring"}


class Selector(NamedTuple):
    """``text``: what it is in PromQL; ``name`` of the metric; ``labels`` that it names."""

    text: str
    name: str
    labels: frozenset[str]


def selectors(expression: str) -> list[Selector]:
    """Return the selectors of an expression, in order, without ranges and offsets."""
    strings: list[str] = []

    def keep(found: re.Match[str]) -> str:
        strings.append(found.group())
        return f'"{len(strings) - 1}"'

    bare = _STRING.sub(keep, expression)
    bare = _DURATION.sub(" ", _LABELS.sub(" ", bare))
    found = []
    for match in _SELECTOR.finditer(bare):
        name, labels = match["name"], match["labels"] or ""
        if name not in _KEYWORDS:
            text = re.sub(r'"(\d+)"', lambda number: strings[int(number[1])], labels)
            names = frozenset(re.findall(r"(\w+)\s*[=!]", labels))
            found.append(Selector(name + text, name, names))
    return found
