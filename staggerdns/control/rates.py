"""How many queries are answered a second, lately, and how many of them from the cache."""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from staggerdns.metrics import Metrics
from staggerdns.server.sources import FROM_CACHE

SAMPLE_EVERY = 2.0
"""Seconds from one look at the counters to the next."""
SAMPLES = 6
"""Looks that are remembered: the last ten to twelve seconds are what is shown."""


class Rates:
    """Looks at the counters of answers in ``metrics`` now and then, from `start` to `stop`."""

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._samples: deque[tuple[float, int, int]] = deque(maxlen=SAMPLES)
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look, unless it has begun."""
        if not self._loop.running:
            self._loop.start(SAMPLE_EVERY)

    def stop(self) -> None:
        """Look no more."""
        if self._loop.running:
            self._loop.stop()

    def shown(self) -> dict[str, Any]:
        """Return the rates of the last ``seconds``; the share is `None` if nothing was answered."""
        now = self._look()
        then = self._samples[0] if self._samples else now
        seconds, answered, cached = (new - old for new, old in zip(now, then, strict=True))
        return {
            "seconds": round(seconds, 3),
            "queries_per_second": round(answered / seconds, 3) if seconds > 0 else 0.0,
            "cache_share": round(cached / answered, 4) if answered else None,
            "answered": now[1],
        }

    def _sample(self) -> None:
        self._samples.append(self._look())

    def _look(self) -> tuple[float, int, int]:
        counts = self._metrics.answer_seconds.counts()
        cached = sum(counts.get((source,), 0) for source in FROM_CACHE)
        return self._clock.seconds(), sum(counts.values()), cached
