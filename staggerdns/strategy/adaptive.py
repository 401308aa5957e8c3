"""Numbers that follow what is measured, in bounded steps (docs/specification.rst, Adaptive
numbers).

Three of them: the delay of `racing`, the timeout per try of `sequential`, and the fallback
timeout of `parallel` when it is ``auto``. None leaves its bounds, whatever is measured.
Times are seconds.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable

from staggerdns.instruments import Maximum
from staggerdns.settings.upstreams import (
    LEARNED,
    AdaptiveSettings,
    RacingSettings,
    SequentialSettings,
    UpstreamSettings,
)
from staggerdns.strategy.learned import SALT_OCTETS, Learned
from staggerdns.upstream.latency import Latency

SAMPLES = 128
"""Reply times from which the fallback timeout is learnt."""
ENOUGH_SAMPLES = 16
"""Fewer say nothing about a 95th percentile."""
LOOK_AGAIN = 0.01
"""Seconds between two looks for room in the budgets of upstreams."""
MANY_WAITING = 50
"""Runs that may look so often. With more of them each looks less often, so that all of them
together cost no more.
"""
_MARGIN = 1.25
_SLACK = 0.005


class RacingDelay:
    """How long the first upstream of a race has the field to itself.

    The target is the average time of first answers less half its deviation; every one of them
    moves the delay towards it by ``max_step`` at the most.
    """

    __slots__ = ("_settings", "_max_step", "latency", "seconds")

    def __init__(self, settings: RacingSettings, adaptive: AdaptiveSettings) -> None:
        self._settings = settings
        self._max_step = adaptive.max_step
        self.latency = Latency(adaptive.ewma_alpha)
        self.seconds = settings.delay

    def deviation(self, now: float) -> float:
        """Return the standard deviation at ``now``."""
        return self.latency.deviation(now)

    def add(self, seconds: float, now: float) -> None:
        """Learn from a reply time measured at ``now``."""
        self.latency.add(seconds, now)
        self.follow(now)

    def follow(self, now: float) -> None:
        """Move the delay by one step towards what the reply times so far ask for."""
        settings, latency, max_step = self._settings, self.latency, self._max_step
        target = latency.mean(now) - latency.deviation(now) / 2
        target = min(max(target, settings.min_delay), settings.max_delay)
        step = target - self.seconds
        if abs(step) > max_step:
            step = max_step if step > 0 else -max_step
        self.seconds += step

    def average(self, now: float) -> float:
        """Return the average reply time at ``now``."""
        return self.latency.mean(now)


def batch_numbers(deviation: float, remaining: int) -> tuple[int, float]:
    """Return size and interval of a racing batch: the table of docs/specification.rst, Other
    strategies.
    """
    if deviation < 0.05:
        return (3 if remaining > 5 else 2), 0.02
    return (4 if remaining > 5 else 3), 0.015


def try_timeout(settings: SequentialSettings, average: float | None) -> float:
    """Return how long one try may take: 1.5 times the upstream's average, within bounds."""
    if average is None:
        return settings.timeout
    return min(max(1.5 * average, settings.min_timeout), settings.max_timeout)


class FallbackTimeout:
    """How long the active tier has before the others are asked, learnt from how long it takes.

    It is the 95th percentile of the last `SAMPLES` first answers, with a margin, but never above
    ``longest`` seconds. So a lost packet costs about as much time as a slow answer does.
    """

    SHORTEST = 0.05

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._in_order: deque[float] = deque()
        self._sorted: list[float] = []
        self.seconds = longest

    def add(self, seconds: float) -> None:
        """Learn from the time of a first answer of the active tier."""
        if len(self._in_order) == SAMPLES:
            self._sorted.remove(self._in_order.popleft())
        self._in_order.append(seconds)
        insort(self._sorted, seconds)
        if len(self._sorted) >= ENOUGH_SAMPLES:
            percentile = self._sorted[-(-95 * len(self._sorted) // 100) - 1]
            learnt = max(percentile * _MARGIN + _SLACK, self.SHORTEST)
            self.seconds = min(learnt, self._longest)


class Adaptive:
    """What all runs of a scope share and feed: numbers, and who has what to say.

    ``window``: seconds within which queries of one name count as started together. ``learned``:
    whom the staggered tier asks if it is not everybody. ``rng`` returns random octets.
    """

    def __init__(self, settings: UpstreamSettings, rng: Callable[[int], bytes]) -> None:
        self.window = settings.parallel.stagger_delay
        self.launches_window = Maximum()
        self.racing_delay = RacingDelay(settings.racing, settings.adaptive)
        self.fallback = FallbackTimeout(settings.parallel.max_fallback_timeout)
        self.learned = Learned(rng(SALT_OCTETS)) if settings.parallel.ask == LEARNED else None
        self.waiting = 0
        """Runs that wait for room in the budgets."""

    @property
    def look_again(self) -> float:
        """Seconds after which such a run looks for room again."""
        return LOOK_AGAIN * max(1.0, self.waiting / MANY_WAITING)
