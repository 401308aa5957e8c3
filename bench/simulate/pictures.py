"""The pictures of the page on strategies, from what the simulation has found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import drawing

#: The plan whose fallback timeout is not learnt, and the one that differs in nothing else.
FIXED, BALANCED = "parallel fixed fallback", "parallel balanced"
FALLBACK, LEARNED = "strategies-fallback.svg", "strategies-learned.svg"
_MANY = 10


def draw(results: Sequence[Mapping[str, Any]], into: Path) -> None:
    """Write the pictures for which there is something in the results: landscapes of a few
    upstreams, and those that teach whom to ask.
    """
    landscapes = [one for one in results if "ask_all" in one and one["upstreams"] < _MANY]
    if landscapes:
        _draw_fallback(landscapes, into / FALLBACK)
    learnt = [one for one in results if "day" in one]
    if learnt:
        _draw_learned(learnt, into / LEARNED)


def _draw_fallback(landscapes: Sequence[Mapping[str, Any]], path: Path) -> None:
    names = [one["landscape"] for one in landscapes]

    def slowest(plan: str) -> list[float]:
        return [
            1000 * line["firsts"]["p99"]
            for one in landscapes
            for line in one["plans"]
            if line["plan"] == plan
        ]

    title = "First answers: the slowest of a hundred, by landscape"
    with drawing.sheet(path, title, "", "milliseconds (99th percentile)") as axes:
        lines = [
            ("fallback_timeout: 300ms", drawing.RED, slowest(FIXED)),
            ("fallback_timeout: auto", drawing.BLUE, slowest(BALANCED)),
        ]
        drawing.bars(axes, names, lines)


def _draw_learned(learnt: Sequence[Mapping[str, Any]], path: Path) -> None:
    names = [one["landscape"] for one in learnt]

    def queries(part: str, plan: int) -> list[float]:
        return [one[part][plan]["queries"] for one in learnt]

    title = "Upstream queries, by how upstreams differ"
    with drawing.sheet(path, title, "", "queries") as axes:
        lines = [
            ("a new name, ask: all", drawing.RED, queries("plans", 0)),
            ("ask: learned", drawing.BLUE, queries("plans", 1)),
            ("a client query of a day, ask: all", drawing.PINK, queries("day", 0)),
            ("ask: learned", drawing.SKY, queries("day", 1)),
        ]
        drawing.bars(axes, names, lines)
