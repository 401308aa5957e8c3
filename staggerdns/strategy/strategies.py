"""All strategies of a configuration, made together because they share what they learn."""

from __future__ import annotations

from staggerdns.strategy.auto import Auto
from staggerdns.strategy.one_by_one import Random, Sequential
from staggerdns.strategy.parallel import Parallel
from staggerdns.strategy.racing import Racing
from staggerdns.strategy.statistics import Statistics
from staggerdns.strategy.strategy import Strategy, StrategyContext

NAMES = ("parallel", "racing", "sequential", "random", "auto")


class Strategies:
    """The five strategies; ``chosen`` is the one that the configuration names."""

    def __init__(self, context: StrategyContext) -> None:
        self.context = context
        self._parallel = Parallel(context)
        self._racing = Racing(context)
        self._sequential = Sequential(context)
        by_name: dict[str, Strategy] = {
            "parallel": self._parallel,
            "racing": self._racing,
            "sequential": self._sequential,
            "random": Random(context),
            "auto": Auto(context, self._sequential, self._racing, self._parallel),
        }
        self.chosen = by_name[context.settings.strategy]
        context.metrics.launches_window_max.read_from(
            lambda: context.adaptive.launches_window.at(context.clock.seconds())
        )

    def statistics(self) -> Statistics:
        """Return the numbers of now."""
        context = self.context
        now = context.clock.seconds()
        delay = context.adaptive.racing_delay
        best = context.upstreams.arranged(now)[0]
        return Statistics(
            average_latency=delay.average(now),
            deviation=delay.deviation(now),
            racing_delay=delay.seconds,
            fallback_timeout=self._parallel.fallback_timeout(),
            sequential_timeout=self._sequential.try_timeout(best, now),
            batch_size=self._racing.batch_size,
            early_triggers=self._racing.early_triggers.value,
        )
