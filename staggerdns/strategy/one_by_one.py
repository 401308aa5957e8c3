"""Strategies ``sequential`` and ``random``: one upstream at a time until one answers well.

(docs/specification.rst, Other strategies.) ``sequential`` asks the best first, ``random`` shuffles.
The next one is asked after 1.5 times the upstream's average reply time, within the bounds of the
configuration.
"""

from __future__ import annotations

from functools import partial
from math import inf

from staggerdns.strategy.adaptive import try_timeout
from staggerdns.strategy.alarms import SLACK
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.strategy.single import SingleAnswerRun
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.strategy.tiers import ACTIVE
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.health import State
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict


class Sequential:
    """Asks the upstreams one by one, best first."""

    name = "sequential"

    def __init__(self, context: StrategyContext) -> None:
        self.context = context
        self._settings = context.settings
        for upstream in context.upstreams:
            context.metrics.sequential_timeout.read_from(
                partial(self._try_timeout_now, upstream), upstream.name
            )

    def ask(self, judge: Judge, observer: Observer) -> Run:
        """Return a run that asks the question of ``judge``."""
        return OneByOneRun(self, judge, observer, self.context.clock.seconds())

    def arrange(self, now: float) -> list[Upstream]:
        """Return the upstreams in the order in which they are asked at ``now``."""
        return self.context.upstreams.arranged(now)

    def try_timeout(self, upstream: Upstream, now: float) -> float:
        """Return the seconds that a try of ``upstream`` may take at ``now``."""
        latency = upstream.latency
        average = latency.mean(now) if latency.measured else None
        settings = self._settings
        return min(try_timeout(settings.sequential, average), settings.timeout)

    def _try_timeout_now(self, upstream: Upstream) -> float:
        return self.try_timeout(upstream, self.context.clock.seconds())


class Random(Sequential):
    """Asks the upstreams one by one in random order."""

    name = "random"

    def __init__(self, context: StrategyContext) -> None:
        super().__init__(context)
        self._entropy = Entropy(context.rng)

    def arrange(self, now: float) -> list[Upstream]:
        """Return the usable upstreams, every order equally likely; those on trial come last."""
        shuffled = super().arrange(now)
        closed = sum(upstream.health.state != State.UNHEALTHY for upstream in shuffled)
        for last in range((closed or len(shuffled)) - 1, 0, -1):
            other = self._entropy.below(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled


class OneByOneRun(SingleAnswerRun):
    """One question, one upstream at a time.

    When the time of a try is over the next upstream is asked. The answer of the one before is
    still welcome; only when another answers first, its silence was a failure.
    """

    __slots__ = ("strategy", "_next_at", "_strategy", "_tried_at")

    def __init__(self, strategy: Sequential, judge: Judge, observer: Observer, now: float) -> None:
        super().__init__(
            strategy.context,
            judge,
            observer,
            started=now,
            grace=0.0,
            waiting=strategy.arrange(now),
        )
        self.strategy = strategy.name
        self._strategy = strategy
        self._tried_at = now
        self._next_at = now

    def step(self, now: float) -> float | None:
        """Ask the next one when the time of the one before is over, or it has failed."""
        while self.candidates.waiting and self._next_at <= now + SLACK:
            self._tried_at, self._next_at = now, inf
            first = not self.candidates.asked
            asked = self.ask_next(1, ACTIVE, now)
            if not asked:
                self._next_at = now
                return self.candidates.room_at(now)
            if self._next_at == inf:
                self._next_at = now + self._strategy.try_timeout(asked[0], now)
            if first:
                self.ask_for_health(now)
        return self._next_at if self.candidates.waiting else None

    def had_its_time(self, exchange: Exchange) -> bool:
        """Return whether the exchange was a try before this one."""
        return exchange.started < self._tried_at

    def heard(self, outcome: Outcome, exchange: Exchange) -> None:
        """Have the next one asked when this try has failed."""
        if outcome.verdict > Verdict.NEGATIVE:
            self.hinted(exchange, outcome.at)

    def hinted(self, exchange: Exchange, now: float) -> None:
        """Have the next one asked when this try may have failed."""
        if exchange.tier == ACTIVE and exchange.started >= self._tried_at:
            self._next_at = self._tried_at
