"""How a question's life is drawn: one line an upstream, time from left to right, in 100 columns."""

from __future__ import annotations

from collections.abc import Sequence

from bench.demo.upstreams import Asked

#: Milliseconds per column, and columns of the chart.
STEP = 4
COLUMNS = 53


def _column(seconds: float) -> int:
    return min(max(round(seconds * 1000 / STEP), 0), COLUMNS - 1)


def _row(who: str, what: str, drawn: str, said: str = "") -> str:
    return f"  {who:<12}{what:<10}{drawn:<{COLUMNS}}  {said}".rstrip()


def tiers(count: int, active: int, batch: int) -> list[str]:
    """Return what the queries of one collection are called, in the order in which they start."""
    batches = (number // batch + 1 for number in range(max(0, count - active)))
    return [*["active"] * min(count, active), *(f"batch {number}" for number in batches)]


def scale() -> str:
    """Return the line with the milliseconds."""
    marks = [" "] * COLUMNS
    for time in range(0, COLUMNS * STEP, 50):
        label = f"{time} ms" if time == 0 else str(time)
        at = round(time / STEP)
        if at + len(label) <= COLUMNS:
            marks[at : at + len(label)] = label
    return _row("", "", "".join(marks))


def asked_line(asked: Asked, tier: str, began: float) -> str:
    """Return the line of one upstream; ``began``: when the client asked."""
    start = _column(asked.at - began)
    if asked.answered is None:
        return _row(asked.host, tier, " " * start + "|" + "." * (COLUMNS - start - 1), "no answer")
    length = max(1, _column(asked.answered - began) - start)
    drawn = " " * start + "|" + "=" * (length - 1) + ">"
    return _row(asked.host, tier, drawn, _said(asked.answered - asked.at, asked.addresses))


def _said(seconds: float, addresses: int) -> str:
    plural = "" if addresses == 1 else "es"
    return f"{seconds * 1000:.0f} ms, {addresses} address{plural}"


def client_line(first: float, addresses: int) -> str:
    """Return the line of the client, who had an answer after ``first`` seconds."""
    drawn = "?" + "-" * (max(1, _column(first)) - 1) + "!"
    return _row("client", "", drawn, _said(first, addresses))


def pool_line(growth: Sequence[tuple[float, int]]) -> str:
    """Return the line of the pool: (seconds, addresses) at each growth."""
    drawn = [" "] * COLUMNS
    for seconds, size in growth:
        drawn[_column(seconds)] = str(size)
    return _row("pool", "", "".join(drawn).rstrip(), f"{growth[-1][1]} addresses")
