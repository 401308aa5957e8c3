"""What a strategy is to the rest of the program, and what all strategies are made with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.upstream.upstreams import Upstreams
from staggerdns.wire.judge import Judge


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyContext:
    """What every strategy works with."""

    upstreams: Upstreams
    settings: UpstreamSettings
    adaptive: Adaptive
    alarms: Alarms
    clock: IReactorTime
    rng: Callable[[int], bytes]
    metrics: Metrics
    journal: Journal

    def can_spare(self) -> bool:
        """Return whether a question may be asked now for whose answer no client waits: the upstream
        that is asked first has room for more than first answers.
        """
        now = self.clock.seconds()
        return self.upstreams.arranged(now)[0].has_room(now, first=False)


class Strategy(Protocol):
    """A way of asking upstreams."""

    name: str
    context: StrategyContext

    def ask(self, judge: Judge, observer: Observer) -> Run:
        """Return a run that asks the question of ``judge``; start it to send the first queries."""
