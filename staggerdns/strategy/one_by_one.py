"""Strategies ``sequential`` and ``random``: one upstream at a time until one answers well.

(SPEC section 4.) ``sequential`` takes the best first, ``random`` shuffles. The next has its turn
after 1.5 times the upstream's average reply time, within the bounds of the configuration.
"""

from __future__ import annotations

from functools import partial
from math import inf

from staggerdns.strategy.adaptive import SequentialNumbers, try_timeout
from staggerdns.strategy.alarms import SLACK
from staggerdns.strategy.listener import Listener
from staggerdns.strategy.run import ACTIVE, Run
from staggerdns.strategy.single import SingleAnswerRun
from staggerdns.strategy.strategy import Tools
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.health import State
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict


class Sequential:
    """Asks the upstreams one by one, best first; ``numbers`` limit a try."""

    name = "sequential"

    def __init__(self, tools: Tools, numbers: SequentialNumbers) -> None:
        self.tools = tools
        self.numbers = numbers
        for upstream in tools.upstreams:
            tools.metrics.sequential_timeout.read_from(
                partial(self.try_timeout, upstream), upstream.name
            )

    def ask(self, question: Question, listener: Listener) -> Run:
        """Return a run that asks ``question``."""
        return OneByOneRun(self, question, listener, self.arrange())

    def arrange(self) -> list[Upstream]:
        """Return the upstreams in the order in which they are asked."""
        return self.tools.upstreams.arranged(self.tools.clock.seconds())

    def try_timeout(self, upstream: Upstream) -> float:
        """Return the seconds that a try of ``upstream`` may take now."""
        latency = upstream.latency
        average = latency.mean(self.tools.clock.seconds()) if latency.measured else None
        return min(try_timeout(self.numbers, average), self.tools.timeout)


class Random(Sequential):
    """Asks the upstreams one by one in random order."""

    name = "random"

    def __init__(self, tools: Tools, numbers: SequentialNumbers) -> None:
        super().__init__(tools, numbers)
        self._entropy = Entropy(tools.rng)

    def arrange(self) -> list[Upstream]:
        """Return the usable upstreams, every order equally likely; those on trial come last."""
        shuffled = super().arrange()
        closed = sum(upstream.health.state != State.UNHEALTHY for upstream in shuffled)
        for last in range((closed or len(shuffled)) - 1, 0, -1):
            other = self._entropy.below(last + 1)
            shuffled[last], shuffled[other] = shuffled[other], shuffled[last]
        return shuffled


class OneByOneRun(SingleAnswerRun):
    """One question, one upstream at a time.

    When a try's time is over the next upstream has its turn. The answer of the one before is
    welcome until another has answered; only then was its silence a failure.
    """

    def __init__(
        self, strategy: Sequential, question: Question, listener: Listener, arranged: list[Upstream]
    ) -> None:
        super().__init__(strategy.tools, question, listener, grace=0.0, waiting=arranged)
        self._strategy = strategy
        self.strategy = strategy.name
        self._tried_at = self._started
        self._next_at = self._started

    def _step(self, now: float) -> float | None:
        while self._candidates.waiting and self._next_at <= now + SLACK:
            self._tried_at, self._next_at = now, inf
            first = not self._candidates.asked
            asked = self._ask_next(1, ACTIVE, now)
            if not asked:
                self._next_at = now
                return self._candidates.room_at(now)
            if self._next_at == inf:
                self._next_at = now + self._strategy.try_timeout(asked[0])
            if first:
                self._visit(now)
        return self._next_at if self._candidates.waiting else None

    def _lose(self, exchange: Exchange) -> None:
        if exchange.started < self._tried_at:
            exchange.expire()  # it had its time
        else:
            super()._lose(exchange)

    def _heard(self, outcome: Outcome, exchange: Exchange) -> None:
        if outcome.verdict > Verdict.NEGATIVE:
            self._heard_hint(exchange)

    def _heard_hint(self, exchange: Exchange) -> None:
        if exchange.tier == ACTIVE and exchange.started >= self._tried_at:
            self._next_at = self._tried_at
