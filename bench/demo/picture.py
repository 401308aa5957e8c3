"""The same as a picture for the documentation: SVG, in colours that most eyes tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.demo.upstreams import Asked

#: Pixels: the whole, where time begins and ends, a row, and what is above the first.
WIDTH, LEFT, RIGHT, ROW, TOP = 870, 162, 705, 30, 56
#: Milliseconds between two marks of the scale.
MARK = 50
_ACTIVE, _BATCH, _SILENT, _CLIENT = "#0072b2", "#009e73", "#6b6b6b", "#d55e00"
_INK, _FAINT = "#222222", "#d8d8d8"


@dataclass(frozen=True)
class Timeline:
    """What happened to one question; times are seconds since the client asked.

    ``queries``: what upstreams were asked, with the name of the tier or batch; their times are
    those of a clock that showed ``began`` then. ``first``: the client's answer, when and with how
    many addresses. ``growth``: the same of the pool each time it grew. ``ranked``: when the
    addresses were in order, `None` if they were not probed.
    """

    queries: Sequence[tuple[Asked, str]]
    began: float
    first: tuple[float, int]
    growth: Sequence[tuple[float, int]]
    ranked: float | None


def draw(timeline: Timeline) -> str:
    """Return the picture as the text of an SVG file."""
    return "\n".join(_Picture(timeline).lines()) + "\n"


class _Picture:
    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        last = max(timeline.ranked or 0.0, timeline.growth[-1][0], timeline.first[0])
        self._marks = int(last * 1000 / MARK) + 1
        self._height = TOP + ROW * (len(timeline.queries) + 2) + 34

    def _x(self, seconds: float) -> float:
        share = seconds * 1000 / (self._marks * MARK)
        return round(LEFT + (RIGHT - LEFT) * min(max(share, 0.0), 1.0), 1)

    def lines(self) -> Iterator[str]:
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {self._height}" '
            f'width="{WIDTH}" height="{self._height}" font-family="sans-serif" font-size="13" '
            f'fill="{_INK}" role="img">'
        )
        yield "<title>One question on the clock</title>"
        yield f'<rect width="{WIDTH}" height="{self._height}" rx="8" fill="#ffffff"/>'
        yield from self._scale()
        row = TOP
        for asked, tier in self._timeline.queries:
            yield from self._upstream(row, asked, tier)
            row += ROW
        yield from self._client(row)
        yield from self._pool(row + ROW)
        yield "</svg>"

    def _scale(self) -> Iterator[str]:
        bottom = self._height - 34
        for mark in range(self._marks + 1):
            x = self._x(mark * MARK / 1000)
            yield f'<path d="M{x} {TOP - 18}V{bottom}" stroke="{_FAINT}"/>'
            if mark % 2 == 0:
                unit = " ms" if mark == 0 else ""
                yield _text(x, TOP - 26, f"{mark * MARK}{unit}", anchor="middle")

    def _upstream(self, row: float, asked: Asked, tier: str) -> Iterator[str]:
        began = self._timeline.began
        start = self._x(asked.at - began)
        yield _text(16, row + 5, asked.host)
        yield _text(LEFT - 10, row + 5, tier, anchor="end", fill=_SILENT)
        if asked.answered is None:
            yield (
                f'<path d="M{start} {row}H{RIGHT}" stroke="{_SILENT}" stroke-width="2" '
                f'stroke-dasharray="2 5"/>'
            )
            yield _text(RIGHT + 12, row + 5, "no answer", fill=_SILENT)
            return
        colour = _ACTIVE if tier == "active" else _BATCH
        yield self._bar(row, start, self._x(asked.answered - began), colour)
        milliseconds = (asked.answered - asked.at) * 1000
        yield _text(RIGHT + 12, row + 5, f"{milliseconds:.0f} ms, {_addresses(asked.addresses)}")

    def _client(self, row: float) -> Iterator[str]:
        seconds, addresses = self._timeline.first
        yield _text(16, row + 5, "client", weight="bold")
        yield self._bar(row, self._x(0), self._x(seconds), _CLIENT)
        said = f"{seconds * 1000:.0f} ms, {_addresses(addresses)}"
        yield _text(RIGHT + 12, row + 5, said, weight="bold")

    def _pool(self, row: float) -> Iterator[str]:
        timeline = self._timeline
        yield _text(16, row + 5, "pool", weight="bold")
        end = RIGHT if timeline.ranked is None else self._x(timeline.ranked)
        first = self._x(timeline.growth[0][0])
        yield f'<path d="M{first} {row}H{end}" stroke="{_CLIENT}" stroke-width="2"/>'
        for seconds, size in timeline.growth:
            x = self._x(seconds)
            yield f'<circle cx="{x}" cy="{row}" r="9" fill="{_CLIENT}"/>'
            yield _text(x, row + 4.5, str(size), anchor="middle", fill="#ffffff")
        if timeline.ranked is not None:
            yield f'<path d="M{end} {row - 9}V{row + 9}" stroke="{_CLIENT}" stroke-width="3"/>'
            said = f"nearest first after {timeline.ranked * 1000:.0f} ms"
            yield _text(end, row + 26, said, anchor="end")
        yield _text(RIGHT + 12, row + 5, _addresses(timeline.growth[-1][1]), weight="bold")

    def _bar(self, row: float, start: float, end: float, colour: str) -> str:
        width = max(2.0, round(end - start, 1))
        return (
            f'<rect x="{start}" y="{row - 7}" width="{width}" height="14" rx="3" fill="{colour}"/>'
        )


def _addresses(count: int) -> str:
    return f"{count} address" if count == 1 else f"{count} addresses"


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    fill: str = _INK,
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="{fill}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
