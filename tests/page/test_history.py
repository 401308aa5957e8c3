"""The last minutes, as the overview shows them."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from staggerdns.instruments import BOUNDS
from staggerdns.metrics import Metrics
from staggerdns.page.history import (
    LATENCY_SAMPLES,
    RATE_SAMPLES,
    SAMPLE_EVERY,
    SAMPLES,
    History,
    quantile,
)

NONE = [0] * (len(BOUNDS) + 1)


class Watched:
    """A history on a clock, and what it watches."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.history = History(self.clock, self.metrics)

    def answer(self, source: str, seconds: float, times: int = 1) -> None:
        """Count answers."""
        self.metrics.answer_seconds.distribution(source).observe(seconds, times)

    def wait(self, looks: int) -> None:
        """Let so many looks be taken."""
        for _ in range(looks):
            self.clock.advance(SAMPLE_EVERY)


def counts(**at: int) -> list[int]:
    """Return buckets with these counts, as in ``b3=5``."""
    return [at.get(f"b{place}", 0) for place in range(len(NONE))]


def test_before_anything() -> None:
    """No share and no times of nothing, before it begins, too."""
    watched = Watched()
    shown = watched.history.shown()
    assert shown["traffic"]["queries_per_second"] == 0
    assert shown["traffic"]["cache_share"] is None
    assert shown["latency"]["all"] == {"p50_ms": None, "p95_ms": None}
    assert shown["history"] == {"every": SAMPLE_EVERY, "queries_per_second": [], "cache_share": []}


def test_rates() -> None:
    """Those of the last stretches; stale answers are the cache's, local ones are not."""
    watched = Watched()
    watched.answer("cache", 0.001, 1_000)
    watched.history.start()
    for _ in range(20):
        watched.answer("cache", 0.001, 4)
        watched.answer("stale", 0.001, 2)
        watched.answer("upstream", 0.05, 1)
        watched.answer("local", 0.0, 1)
        watched.wait(1)
    traffic = watched.history.shown()["traffic"]
    assert traffic["seconds"] == SAMPLE_EVERY * (RATE_SAMPLES - 1)
    assert traffic["queries_per_second"] == 8 / SAMPLE_EVERY
    assert traffic["cache_share"] == 0.75
    assert traffic["answered"] == 1_160
    assert traffic["sources"]["cache"] == 1_080
    watched.history.stop()
    assert not watched.clock.getDelayedCalls()


def test_history_is_bounded() -> None:
    """Five minutes, the last ones."""
    watched = Watched()
    watched.history.start()
    watched.history.start()
    watched.wait(SAMPLES + 50)
    for _ in range(3):
        watched.answer("cache", 0.001, 2)
        watched.wait(1)
    shown = watched.history.shown()["history"]
    assert len(shown["queries_per_second"]) == len(shown["cache_share"]) == SAMPLES - 1
    assert shown["queries_per_second"][-4:] == [0, 1, 1, 1]
    assert shown["cache_share"][-4:] == [None, 1, 1, 1]
    watched.history.stop()
    assert watched.history.shown()["history"]["queries_per_second"] == []


def test_latency_forgets() -> None:
    """A slow time is gone a minute later."""
    watched = Watched()
    watched.history.start()
    watched.answer("upstream", 4.0)
    watched.wait(1)
    assert watched.history.shown()["latency"]["upstream"]["p50_ms"] == 4_000
    watched.wait(LATENCY_SAMPLES)
    assert watched.history.shown()["latency"]["upstream"]["p50_ms"] is None
    watched.history.stop()


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        (NONE, 0.5, None),
        (counts(b0=10), 0.5, 0.05),
        (counts(b6=10), 0.5, 37.5),  # from 25 to 50 ms
        (counts(b6=10), 1.0, 50),
        (counts(b6=50, b7=50), 0.5, 50),
        (counts(b6=50, b7=50), 0.95, 95),
        (counts(b0=1, b14=1), 0.75, 4_000),
        (counts(b15=3), 0.5, 5_000),  # beyond all bounds
    ],
)
def test_quantile(buckets: list[int], share: float, expected: float | None) -> None:
    """Within a bucket as if it had them evenly."""
    found = quantile(buckets, share)
    assert found == (None if expected is None else pytest.approx(expected))
