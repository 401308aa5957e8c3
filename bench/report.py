"""Figures and how they are shown: an aligned table, or JSON."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

HEAD = ("", "server", "median", "min", "max", "ratio", "target", "")


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value that ``share`` percent of ``ordered``, smallest first, stay below."""
    return ordered[min(int(len(ordered) * share / 100), len(ordered) - 1)]


@dataclass(frozen=True)
class Target:
    """A bound on the figure itself, or on its ratio to another server's."""

    bound: float
    at_least: bool
    of_ratio: bool = False
    unit: str = ""

    def __str__(self) -> str:
        what = "ratio " if self.of_ratio else ""
        unit = f" {self.unit}" if self.unit else ""
        return f"{what}{'>=' if self.at_least else '<='} {self.bound:g}{unit}"

    def met(self, value: float) -> bool:
        """Tell whether ``value`` keeps the bound."""
        return value >= self.bound if self.at_least else value <= self.bound


@dataclass
class Figure:
    """One figure of one server over all rounds."""

    measure: str
    server: str
    rounds: Sequence[float]
    digits: int = 0
    ratio: float | None = None
    target: Target | None = None

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.rounds)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        value = self.ratio if self.target.of_ratio else self.median
        return value is not None and self.target.met(value)

    def cells(self) -> tuple[str, ...]:
        """The columns of the table."""
        form = f",.{self.digits}f"
        single = len(self.rounds) == 1
        return (
            self.measure,
            self.server,
            format(self.median, form),
            "" if single else format(min(self.rounds), form),
            "" if single else format(max(self.rounds), form),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            "" if self.target is None else str(self.target),
            {None: "", True: "met", False: "MISSED"}[self.met],
        )


@dataclass(frozen=True)
class Curve:
    """What a picture shows of one server; ``picture`` is its name."""

    picture: str
    server: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass
class Section:
    """One question that the benchmark answers."""

    title: str
    #: Which part of the benchmark it is.
    part: str = ""
    figures: list[Figure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    #: Per server: queries that got no good answer, and all that were asked.
    failed: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)

    def count(self, server: str, failed: int, asked: int) -> None:
        """Note how many queries a server was asked, and failed to answer."""
        self.failed[server] += failed
        self.asked[server] += asked

    def add(
        self,
        measure: str,
        rounds: Mapping[str, Sequence[float]],
        *,
        digits: int = 0,
        base: str | None = None,
        target: Target | Mapping[str, Target | None] | None = None,
        paired: bool = False,
    ) -> None:
        """Add a line per server, with ratios to the server ``base``; a single target is for the
        first server, others are for those that they are named with.

        ``paired``: the ratio is the median of the ratios round by round, in which whatever else
        the machine did at the time cancels out, and not the ratio of the medians.
        """
        reference = statistics.median(rounds[base]) if base else None
        for number, (server, values) in enumerate(rounds.items()):
            figure = Figure(measure if number == 0 else "", server, values, digits)
            if base and reference and server != base:
                figure.ratio = figure.median / reference
                if paired:
                    both = zip(values, rounds[base], strict=True)
                    figure.ratio = statistics.median(one / other for one, other in both)
            if isinstance(target, Mapping):
                figure.target = target.get(server)
            elif number == 0:
                figure.target = target
            self.figures.append(figure)

    def text(self) -> str:
        """The section as it is printed."""
        rows = [HEAD, *(figure.cells() for figure in self.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        out = [self.title]
        for row in rows:
            cells = [
                cell.rjust(width) if 2 <= column <= 5 else cell.ljust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            out.append("  " + "  ".join(cells).rstrip())
        out += [f"  {note}" for note in self.all_notes()]
        return "\n".join(out) + "\n"

    def all_notes(self) -> list[str]:
        """What stands below the table."""
        if not self.asked:
            return self.notes
        lost = [
            f"{server} {self.failed[server]:,} of {count:,}" for server, count in self.asked.items()
        ]
        return [*self.notes, f"without a good answer: {'; '.join(lost)}"]


def write_json(path: Path, environment: Mapping[str, str], sections: Sequence[Section]) -> None:
    """Write everything that was measured, all rounds included."""
    document = {
        "environment": dict(environment),
        "sections": [
            {
                "part": section.part,
                "title": section.title,
                "table": [figure.cells() for figure in section.figures],
                "notes": section.all_notes(),
                "failed": dict(section.failed),
                "asked": dict(section.asked),
                "curves": [asdict(curve) for curve in section.curves],
                "lines": [
                    {
                        "measure": figure.measure,
                        "server": figure.server,
                        "median": figure.median,
                        "rounds": list(figure.rounds),
                        "ratio": figure.ratio,
                        "target": asdict(figure.target) if figure.target else None,
                        "met": figure.met,
                    }
                    for figure in _named(section.figures)
                ],
            }
            for section in sections
        ],
    }
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _named(figures: Sequence[Figure]) -> list[Figure]:
    """Give every figure its measure; the table leaves repetitions out."""
    out: list[Figure] = []
    for figure in figures:
        measure = figure.measure or out[-1].measure
        out.append(
            Figure(
                measure, figure.server, figure.rounds, figure.digits, figure.ratio, figure.target
            )
        )
    return out
