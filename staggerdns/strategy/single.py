"""Runs that answer with one upstream's records: what racing and one-at-a-time have in common.

Such a run ends with the answer that the client gets: what is still under way then has lost and is
cancelled, without a mark. Two kinds of exchanges go on all the same. The health of an upstream may
depend on one: these strategies ask the best, and would never hear that another has recovered. And
one may have been refused by ICMP: whether that was true shows when its time is over.
"""

from __future__ import annotations

from staggerdns.strategy.decision import Decision
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.strategy.tiers import STAGGERED
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.judge import Judge


class SingleAnswerRun(Run):
    """A run that is over with its first good answer, save for a query for the sake of health.

    When all have been silent it asks them again one at a time. It may take twice the timeout of one
    exchange.
    For subclasses: `ask_for_health` is there to be called, `had_its_time` to be extended.
    """

    __slots__ = ()

    def __init__(
        self,
        context: StrategyContext,
        judge: Judge,
        observer: Observer,
        *,
        started: float,
        grace: float,
        waiting: list[Upstream],
    ) -> None:
        super().__init__(
            judge,
            observer,
            context.clock,
            context.alarms,
            started=started,
            timeout=context.settings.timeout,
            total=2 * context.settings.timeout,
            decision=Decision(grace, single=True),
            adaptive=context.adaptive,
            waiting=waiting,
            at_once=1,
        )

    def ask_for_health(self, now: float) -> None:
        """Ask one upstream more than the strategy does, if the health of one wants it."""
        visited = self.candidates.take_for_health(now)
        if visited:
            self.launch(visited, STAGGERED, now)

    def had_its_time(self, exchange: Exchange) -> bool:
        """Return whether an exchange that has lost had enough time, so that its silence fails."""
        return False

    def answer(self, outcome: Outcome, now: float) -> None:
        """Give the client its answer and end what has lost by it."""
        self.candidates.waiting = []
        super().answer(outcome, now)
        self.adaptive.racing_delay.follow(now)
        for exchange, upstream in list(self.outstanding.items()):
            if not upstream.decides_health and exchange.hinted is None:
                self.end_exchange(exchange, expired=self.had_its_time(exchange))
