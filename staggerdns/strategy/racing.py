"""Strategy ``racing``: the best upstream first, the others after an adaptive delay.

(docs/specification.rst, Other strategies.) The delay follows the reply times that are measured. A
network error of the first upstream starts the others at once (an early trigger); an application
error does not, but as soon as all that were asked have failed the next batch goes without waiting.
Batches follow the table in `adaptive.batch_numbers`; at most ``max_concurrent`` queries are under
way.
"""

from __future__ import annotations

from staggerdns.strategy.adaptive import batch_numbers
from staggerdns.strategy.alarms import SLACK
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.strategy.single import SingleAnswerRun
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.refusals import unrefused
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict


class Racing:
    """Starts races: ``max_concurrent`` queries at most, ``grace`` seconds for negatives."""

    name = "racing"

    def __init__(self, context: StrategyContext) -> None:
        self.context = context
        self.max_concurrent = context.settings.racing.max_concurrent
        self.grace = context.settings.parallel.negative_grace
        self.early_triggers = context.metrics.early_triggers.cell()
        self.batch_size = 0
        metrics = context.metrics
        metrics.average_latency.read_from(
            lambda: context.adaptive.racing_delay.average(context.clock.seconds())
        )
        metrics.racing_delay.read_from(lambda: context.adaptive.racing_delay.seconds)
        metrics.racing_deviation.read_from(
            lambda: context.adaptive.racing_delay.deviation(context.clock.seconds())
        )
        metrics.racing_batch.read_from(lambda: self.batch_size)

    def ask(self, judge: Judge, observer: Observer) -> Run:
        """Return a race for the question of ``judge``."""
        return RacingRun(self, judge, observer)


class RacingRun(SingleAnswerRun):
    """One race."""

    __slots__ = ("_all_at_once", "_next_at", "_strategy")
    strategy = "racing"

    def __init__(self, strategy: Racing, judge: Judge, observer: Observer) -> None:
        context = strategy.context
        now = context.clock.seconds()
        super().__init__(
            context,
            judge,
            observer,
            started=now,
            grace=strategy.grace,
            waiting=context.upstreams.arranged(now),
        )
        self._strategy = strategy
        self._next_at = 0.0
        self._all_at_once = False

    def step(self, now: float) -> float | None:
        """Ask the best one, and then the next batch when it is due."""
        while self.candidates.waiting:
            if not self.candidates.asked:
                self._next_at = now + self.adaptive.racing_delay.seconds
                if not self.ask_next(1, ACTIVE, now):
                    return self.candidates.room_at(now)
                self.ask_for_health(now)
                continue
            under_way = unrefused(self.outstanding)
            if not under_way:
                self._next_at = now
            if self._next_at > now + SLACK:
                return self._next_at
            room = self._strategy.max_concurrent - under_way
            if room <= 0:
                return None  # whoever answers makes room
            deviation = self.adaptive.racing_delay.deviation(now)
            size, interval = batch_numbers(deviation, len(self.candidates.waiting))
            if self._all_at_once:
                size = room
            launched = len(self.ask_next(min(size, room), STAGGERED, now))
            if not launched:
                return self.candidates.room_at(now)
            self._all_at_once = False
            self._strategy.batch_size = launched
            self._next_at = now + interval
        return None

    def retry(self, now: float) -> float | None:
        """Ask silent ones once more, as far as ``max_concurrent`` lets it."""
        if unrefused(self.outstanding) >= self._strategy.max_concurrent:
            return None
        return super().retry(now)

    def heard(self, outcome: Outcome, exchange: Exchange) -> None:
        """Start the others at once when the first has failed, unless that is known already."""
        reason = outcome.reason
        if (
            outcome.verdict == Verdict.NETWORK_ERROR
            and reason is not None
            and reason.counts_against_upstream
            and exchange.hinted is None
        ):
            self.hinted(exchange, outcome.at)

    def hinted(self, exchange: Exchange, now: float) -> None:
        """Start the others at once when the first may have failed."""
        if exchange.tier == ACTIVE and self.candidates.waiting:
            self._strategy.early_triggers.value += 1
            self._all_at_once = True
            self._next_at = now
