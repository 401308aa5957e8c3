"""A directive that writes tables of measured figures, so that a page cannot say anything else.

``performance-table:: PART [PART ...]``
    the tables of these parts of the benchmark, as ``docs/performance.json`` has them.

``performance-versions``
    the versions of all programs that were measured, for all parts that they were the same for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FIGURES = Path(__file__).parents[1] / "performance.json"
COLUMNS = ("", "Server", "Median", "Least", "Most", "Ratio", "Target", "")


class PerformanceTable(SphinxDirective):
    """Writes what was measured in some parts of the benchmark."""

    required_arguments = 1
    optional_arguments = 100

    def run(self) -> list[nodes.Node]:
        """Return the tables."""
        self.env.note_dependency(str(FIGURES))
        parts = read()
        missing = [name for name in self.arguments if name not in parts]
        if missing:
            raise self.error(f"no figures of {', '.join(missing)}: make performance")
        lines = [line for name in self.arguments for line in table(parts[name])]
        return self.parse_text_to_nodes("\n".join(lines))


class PerformanceVersions(SphinxDirective):
    """Writes which versions of the programs the figures are of."""

    def run(self) -> list[nodes.Node]:
        """Return the list."""
        self.env.note_dependency(str(FIGURES))
        return self.parse_text_to_nodes("\n".join(versions(read())))


def read() -> dict[str, Any]:
    """Return the figures by the parts of the benchmark."""
    parts: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8"))["parts"]
    return parts


def versions(parts: dict[str, Any]) -> Iterator[str]:
    """Yield a line for all parts that were measured with the same programs."""
    same: dict[str, list[str]] = {}
    for name, part in parts.items():
        listed = ", ".join(f"{program} {version}" for program, version in part["versions"].items())
        same.setdefault(listed, []).append(name)
    for listed, names in same.items():
        yield f"* {listed}" + (f" ({', '.join(names)})" if len(same) > 1 else "")


def table(part: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a table, and of what is to be said below it."""
    yield from (f".. list-table:: {part['title']}", "   :header-rows: 1", "")
    for row in (COLUMNS, *part["table"]):
        for number, cell in enumerate(row):
            plain = f"\\{cell}" if cell.startswith("-") else cell  # that would be a list
            yield f"   {' ' if number else '*'} - {plain}".rstrip()
    yield ""
    yield from (f"* {note}" for note in part["notes"])
    yield ""


def setup(app: Sphinx) -> dict[str, Any]:
    """Tell Sphinx what there is here."""
    app.add_directive("performance-table", PerformanceTable)
    app.add_directive("performance-versions", PerformanceVersions)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
