"""What the page shows of the last minutes: how much was answered, from where, and how fast.

The counters of the program are looked at now and then, and the looks are kept; nothing is counted
for the page alone, and nothing of it is in the way of a query.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from staggerdns.instruments import BOUNDS
from staggerdns.metrics import Metrics
from staggerdns.server.sources import FROM_CACHE, UPSTREAM

SAMPLE_EVERY = 2.0
"""Seconds from one look to the next."""
SAMPLES = 151
"""Looks that are kept, the oldest of which begins the first of 150 stretches: five minutes."""
RATE_SAMPLES = 5
"""Stretches that the rates of now are of."""
LATENCY_SAMPLES = 30
"""Stretches that the times of answers are of: a minute."""


class Sample(NamedTuple):
    """One look: seconds of the clock, answers by source, and times of answers by bucket, those of
    all and those that upstreams gave.
    """

    at: float
    answers: dict[str, int]
    times: array[int]
    upstream_times: array[int]


class History:
    """Looks at ``metrics``, from `start` to `stop`."""

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._loop = LoopingCall(self._sample)
        self._loop.clock = clock

    def start(self) -> None:
        """Begin to look, unless that has begun."""
        if not self._loop.running:
            self._loop.start(SAMPLE_EVERY)

    def stop(self) -> None:
        """Look no more, and forget what was seen."""
        if self._loop.running:
            self._loop.stop()
        self._samples.clear()

    def shown(self) -> dict[str, Any]:
        """Return ``traffic``, ``latency`` and ``history`` of the overview (docs/page.rst)."""
        samples = [*self._samples, self._look()]
        return {
            "traffic": _traffic(samples[-1 - RATE_SAMPLES :]),
            "latency": _latency(samples[-1 - LATENCY_SAMPLES :]),
            "history": _history([*self._samples]),
        }

    def _sample(self) -> None:
        self._samples.append(self._look())

    def _look(self) -> Sample:
        seconds = self._metrics.answer_seconds
        answers = {source: count for (source,), count in seconds.counts().items()}
        times = array("Q", seconds.buckets())
        upstream_times = array("Q", seconds.buckets(UPSTREAM))
        return Sample(self._clock.seconds(), answers, times, upstream_times)


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the milliseconds within which ``share`` of those counted in the buckets of a histogram
    were, as if each bucket had them evenly; `None` if none were. What is beyond all bounds counts
    as the last one.
    """
    total = sum(counts)
    if not total:
        return None
    wanted, seen, low = share * total, 0, 0.0
    for count, high in zip(counts, BOUNDS, strict=False):
        if count and seen + count >= wanted:
            return _milliseconds(low + (high - low) * (wanted - seen) / count)
        seen, low = seen + count, high
    return _milliseconds(low)


def _traffic(samples: Sequence[Sample]) -> dict[str, Any]:
    first, last = samples[0], samples[-1]
    answered, cached = _gained(first, last)
    seconds = last.at - first.at
    return {
        "seconds": round(seconds, 3),
        "queries_per_second": _rate(answered, seconds),
        "cache_share": _share(cached, answered),
        "answered": sum(last.answers.values()),
        "sources": dict(sorted(last.answers.items())),
    }


def _latency(samples: Sequence[Sample]) -> dict[str, Any]:
    first, last = samples[0], samples[-1]
    found: dict[str, Any] = {"seconds": round(last.at - first.at, 3)}
    for key, new, old in (
        ("all", last.times, first.times),
        ("upstream", last.upstream_times, first.upstream_times),
    ):
        counts = [one - other for one, other in zip(new, old, strict=True)]
        found[key] = {"p50_ms": quantile(counts, 0.5), "p95_ms": quantile(counts, 0.95)}
    return found


def _history(samples: Sequence[Sample]) -> dict[str, Any]:
    rates, shares = [], []
    for first, last in pairwise(samples):
        answered, cached = _gained(first, last)
        rates.append(_rate(answered, last.at - first.at))
        shares.append(_share(cached, answered))
    return {"every": SAMPLE_EVERY, "queries_per_second": rates, "cache_share": shares}


def _gained(first: Sample, last: Sample) -> tuple[int, int]:
    """Return how many answers came between two looks, and how many of them from the cache."""
    gained = {
        source: last.answers[source] - first.answers.get(source, 0) for source in last.answers
    }
    return sum(gained.values()), sum(gained.get(source, 0) for source in FROM_CACHE)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 3) if seconds > 0 else 0.0


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 3)
