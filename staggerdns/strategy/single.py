"""Runs that answer with one upstream's records: what racing and one-at-a-time have in common.

Such a run ends with the answer that the client gets: whoever is still asked then has lost, and
is cancelled without a mark. Only a query on which an upstream's health depends runs on: these
strategies ask the best, and would never hear that another one has recovered. So does one that
was refused: whether that was true shows when its time is over.
"""

from __future__ import annotations

from staggerdns.strategy.decision import Decision
from staggerdns.strategy.listener import Listener
from staggerdns.strategy.run import Run
from staggerdns.strategy.strategy import Tools
from staggerdns.strategy.tiers import STAGGERED
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.judge import Judge


class SingleAnswerRun(Run):
    """A run that is over with its first good answer, and with the visit it pays.

    It asks one at a time when all have been silent, and may take twice the timeout of one exchange.
    For subclasses: `visit` is there to be called, `had_its_time` to be extended.
    """

    __slots__ = ()

    def __init__(
        self,
        tools: Tools,
        judge: Judge,
        listener: Listener,
        *,
        started: float,
        grace: float,
        waiting: list[Upstream],
    ) -> None:
        super().__init__(
            judge,
            listener,
            tools.clock,
            tools.alarms,
            started=started,
            timeout=tools.settings.timeout,
            total=2 * tools.settings.timeout,
            decision=Decision(grace, single=True),
            adaptive=tools.adaptive,
            waiting=waiting,
            at_once=1,
        )

    def visit(self, now: float) -> None:
        """Ask one more than the strategy does, whose health wants it."""
        visited = self.candidates.take_visited(now)
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
        for one in list(self.outstanding):
            if not (one.decides_health or one.hinted):
                self.end_exchange(one, expired=self.had_its_time(one))
