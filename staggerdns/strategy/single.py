"""Runs that answer with one upstream's records: what racing and one-at-a-time have in common.

Such a run ends with the answer that the client gets: whoever is still asked then has lost, and
is cancelled without a mark. Only a query on which an upstream's health depends runs on: these
strategies ask the best, and would never hear that another one has recovered. So does one that
was refused: whether that was true shows when its time is over.
"""

from __future__ import annotations

from staggerdns.strategy.listener import Listener
from staggerdns.strategy.run import STAGGERED, Run
from staggerdns.strategy.strategy import Tools
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.question import Question


class SingleAnswerRun(Run):
    """A run that is over with its first good answer, and with the visit it pays.

    It asks one at a time when all have been silent, and may take twice the timeout of one exchange.
    """

    def __init__(
        self,
        tools: Tools,
        question: Question,
        listener: Listener,
        *,
        grace: float,
        waiting: list[Upstream],
    ) -> None:
        super().__init__(
            question,
            listener,
            tools.clock,
            tools.alarms,
            timeout=tools.timeout,
            total=2 * tools.timeout,
            grace=grace,
            adaptive=tools.adaptive,
            waiting=waiting,
            at_once=1,
        )

    def _visit(self, now: float) -> None:
        """Ask one more than the strategy does, whose health wants it."""
        visited = self._candidates.take_visited(now)
        if visited:
            self._launch(visited, STAGGERED, now)

    def _decide(self, outcome: Outcome, tier: str, now: float) -> None:
        self._candidates.waiting = []
        self._agreed = True  # later answers, of visits, change nothing
        super()._decide(outcome, tier, now)
        self._adaptive.racing_delay.follow(now)
        self._busy = True
        for loser in [one for one in self._outstanding if not (one.decides_health or one.hinted)]:
            self._lose(loser)
        self._busy = False

    def _lose(self, exchange: Exchange) -> None:
        del self._outstanding[exchange]
        exchange.cancel()
