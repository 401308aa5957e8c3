"""Strategy ``auto``: chosen anew for every question, by how many upstreams are usable now."""

from __future__ import annotations

from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.strategy.strategy import Strategy, StrategyContext
from staggerdns.wire.judge import Judge

MOST_FOR_SEQUENTIAL = 1
MOST_FOR_RACING = 3


class Auto:
    """One usable upstream: ``sequential``; two or three: ``racing``; more: ``parallel``."""

    name = "auto"

    def __init__(
        self, context: StrategyContext, sequential: Strategy, racing: Strategy, parallel: Strategy
    ) -> None:
        self.context = context
        self._sequential = sequential
        self._racing = racing
        self._parallel = parallel

    def ask(self, judge: Judge, observer: Observer) -> Run:
        """Return a run of the strategy that suits the health of now."""
        return self.choose().ask(judge, observer)

    def choose(self) -> Strategy:
        """Return the strategy for now; when no upstream is usable, all of them count."""
        usable = self.context.upstreams.usable(self.context.clock.seconds())
        if usable <= MOST_FOR_SEQUENTIAL:
            return self._sequential
        return self._racing if usable <= MOST_FOR_RACING else self._parallel
