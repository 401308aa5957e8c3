"""Bring the page on performance up to date: ``python -m bench.pictures FILE.json [--into DOCS]``.

FILE is what ``python -m bench --json FILE`` has written. Its tables go into ``performance.json``,
which the page is made of, and what it has of curves becomes pictures beside it. Parts that FILE
does not have stay as they are. The same figures give the same files.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import drawing
from tests.kit.checkout import ROOT

TABLES = "performance.json"
#: What of the environment the page tells; the machine it describes in words.
_VERSIONS = (
    "staggerdns",
    "python",
    "twisted",
    "unbound",
    "dnsmasq",
    "smartdns",
    "nsd",
    "dnsdist",
    "dnsperf",
)
_STYLES = {
    "staggerdns": (drawing.BLUE, "-"),
    "staggerdns (compiled)": (drawing.SKY, "-"),
    "dnsmasq": (drawing.RED, "--"),
    "unbound": (drawing.GREEN, "-."),
    "smartdns": (drawing.PINK, ":"),
}


class _Picture(NamedTuple):
    title: str
    x: str
    y: str
    draw: str = "plot"
    logarithmic: bool = False


PICTURES = {
    "first": _Picture("First answers", "milliseconds", "% of the names answered"),
    "launches": _Picture(
        "Upstreams asked for a new name", "milliseconds since the client asked", "upstreams", "step"
    ),
    "pool": _Picture(
        "Addresses in the answer for a new name",
        "milliseconds since the client first asked",
        "addresses",
        "step",
    ),
    "rates": _Picture(
        "What a cached hit costs", "queries/s", "microseconds of CPU", logarithmic=True
    ),
}


def merge(tables: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a page with those of a report in place of older ones."""
    environment = report["environment"]
    versions = {key: environment[key] for key in _VERSIONS if key in environment}
    parts = dict(tables.get("parts", {}))
    for section in report["sections"]:
        kept = {key: section[key] for key in ("title", "table", "notes")}
        lines = [_thinned(curve) for curve in section["curves"]]
        parts[section["part"]] = {**kept, "curves": lines, "versions": versions}
    return {"parts": {name: parts[name] for name in sorted(parts)}}


def curves(tables: Mapping[str, Any]) -> dict[str, list[Mapping[str, Any]]]:
    """Return what is drawn in each of the pictures for which there is something."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for part in tables["parts"].values():
        for curve in part["curves"]:
            found.setdefault(curve["picture"], []).append(curve)
    return found


def written(tables: Mapping[str, Any]) -> str:
    """Return the text of the file with the tables: a line for each part."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(part, separators=(',', ':'))}"
        for name, part in tables["parts"].items()
    ]
    return '{"parts": {\n' + ",\n".join(lines) + "\n}}\n"


def draw(name: str, lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw one of the `PICTURES` into a file."""
    picture = PICTURES[name]
    with drawing.sheet(path, picture.title, picture.x, picture.y) as axes:
        for line in lines:
            color, style = _STYLES.get(line["server"], (drawing.INK, "-"))
            look: Any = {"color": color, "linestyle": style, "label": line["server"]}
            if picture.draw == "step":
                axes.step(line["x"], line["y"], where="post", **look)
            else:
                axes.plot(line["x"], line["y"], **look)
        if picture.logarithmic:
            axes.set_xscale("log")
            axes.set_xticks(lines[0]["x"], [f"{rate:,}" for rate in lines[0]["x"]])
            axes.minorticks_off()
        axes.legend()


def _thinned(curve: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a line of steps the points at which it does not change, but for its ends."""
    x, y = curve["x"], curve["y"]
    steps = PICTURES[curve["picture"]].draw == "step"
    kept = [at for at in range(len(x)) if not steps or at in {0, len(x) - 1} or y[at] != y[at - 1]]
    return {**curve, "x": [x[at] for at in kept], "y": [y[at] for at in kept]}


def main() -> int:
    """Write the tables and the pictures."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.pictures", description=__doc__.split("\n")[0]
    )
    parser.add_argument("report", type=Path, metavar="FILE.json")
    parser.add_argument("--into", type=Path, default=ROOT / "docs", metavar="DOCS")
    arguments = parser.parse_args()
    path = arguments.into / TABLES
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    after = merge(before, json.loads(arguments.report.read_text(encoding="utf-8")))
    path.write_text(written(after), encoding="utf-8")
    for name, lines in curves(after).items():
        picture = arguments.into / f"performance-{name}.svg"
        draw(name, lines, picture)
        print(os.path.relpath(picture))
    print(os.path.relpath(path))
    return 0


if __name__ == "__main__":
    sys.exit(main())
