"""What each upstream is good for, as far as the traces of the latest collections tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from itertools import islice
from typing import Any

from staggerdns.traces.trace import Trace, Traces
from staggerdns.upstream.exchange import Outcome

MAX_TRACES = 1_000
"""Collections that are looked at, the latest."""
TRACE_WORK = 20
"""As how many steps one of them counts (`staggerdns.policy.domains.in_turns`)."""


class Shares:
    """Counts, by the names of upstreams, of ``collections`` that have ended."""

    def __init__(self) -> None:
        self.collections = 0
        self._answered = 0
        self._first: Counter[str] = Counter()
        self._only_here: Counter[str] = Counter()

    def add(self, trace: Trace) -> None:
        """Count a collection."""
        self.collections += 1
        if trace.first is not None:
            self._answered += 1
            self._first[trace.first.upstream.name] += 1
        brought: dict[bytes, str | None] = {}  # by whom, `None` for several
        for outcome in trace.history:
            if not isinstance(outcome, Outcome) or outcome.answer is None:
                continue
            name = outcome.upstream.name
            dropped = {address for address, _ in outcome.dropped}
            for address in outcome.answer.addresses:
                if address not in dropped and brought.setdefault(address, name) != name:
                    brought[address] = None
        self._only_here.update(name for name in brought.values() if name is not None)

    def of(self, upstream: str) -> dict[str, Any]:
        """Return ``first_share``, the share of first answers that were its, and ``only_here``,
        addresses that it alone brought; `None` where there are no collections to tell.
        """
        answered, first = self._answered, self._first[upstream]
        return {
            "first_share": round(first / answered, 4) if answered else None,
            "only_here": self._only_here[upstream] if self.collections else None,
        }


def look_at(traces: Traces) -> Generator[int, None, Shares]:
    """Return the shares of the latest collections, in steps."""
    shares = Shares()
    for trace in list(islice(traces.latest(), MAX_TRACES)):
        if trace.ended is not None:
            shares.add(trace)
        yield TRACE_WORK
    return shares
