"""Numbers that follow what is measured: their tables, bounds and steps (docs/specification.rst,
Adaptive numbers).
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.settings.upstreams import AdaptiveSettings, RacingSettings, SequentialSettings
from staggerdns.strategy.adaptive import (
    ENOUGH_SAMPLES,
    SAMPLES,
    FallbackTimeout,
    RacingDelay,
    batch_numbers,
    try_timeout,
)

RACING, ADAPTIVE = RacingSettings(), AdaptiveSettings()
reply_times = st.floats(0, 5)


def path(*phases: tuple[float, int]) -> list[float]:
    """The delay after each of so many measurements of so many milliseconds, one every 10 ms."""
    delay, now, seen = RacingDelay(RACING, ADAPTIVE), 1000.0, [RACING.delay]
    for milliseconds, count in phases:
        for _ in range(count):
            now += 0.01
            delay.add(milliseconds / 1000, now)
            seen.append(delay.seconds)
    return seen


@pytest.mark.parametrize(
    ("deviation", "remaining", "size", "interval"),
    [
        (0, 1, 2, 20),
        (49, 5, 2, 20),
        (49, 6, 3, 20),
        (49.999, 5, 2, 20),
        (50, 5, 3, 15),
        (50, 6, 4, 15),
        (51, 5, 3, 15),
        (51, 6, 4, 15),
        (500, 50, 4, 15),
    ],
)
def test_batch_table(deviation: float, remaining: int, size: int, interval: float) -> None:
    """Size and interval at 49, 50 and 51 ms of deviation, with 5 and 6 upstreams remaining."""
    assert batch_numbers(deviation / 1000, remaining) == (size, interval / 1000)


def test_delay_follows_in_steps() -> None:
    """From 100 ms: down to steady 60 ms in whole steps, up to the cap, down to the floor."""
    seen = path((60, 4), (60, 20))
    assert [round(seconds * 1000, 6) for seconds in seen[:6]] == [100, 90, 80, 70, 60, 60]
    assert seen[-1] == pytest.approx(0.06)
    seen = path((900, 100))
    assert [round(seconds * 1000, 6) for seconds in seen[:4]] == [100, 110, 120, 130]
    assert seen[10:] == pytest.approx([0.2] * 91)
    assert path((1, 100))[8:] == pytest.approx([0.02] * 93)


def test_delay_over_changing_latencies() -> None:
    """Near, far, near again: always within 20 to 200 ms, never more than 10 ms in one step."""
    seen = path((30, 50), (400, 60), (80, 100), (5, 100))
    for before, after in pairwise(seen):
        assert abs(after - before) <= 0.01 + 1e-9
    assert min(seen) >= 0.02 - 1e-9
    assert max(seen) <= 0.2 + 1e-9
    assert seen[50] == pytest.approx(0.03, abs=0.001)
    assert max(seen[51:111]) == pytest.approx(0.2)
    assert seen[210] == pytest.approx(0.08, abs=0.001)
    assert seen[-1] == pytest.approx(0.02, abs=0.001)


def test_delay_is_average_less_half_the_deviation() -> None:
    """With reply times that spread, the delay settles below their average."""
    delay = RacingDelay(RACING, ADAPTIVE)
    for index in range(400):
        delay.add((0.09, 0.15)[index % 2], 1000 + index / 100)
    average = delay.average(1004)
    assert 0.1 < average < 0.14
    assert delay.deviation(1004) == pytest.approx(0.03, abs=0.005)
    assert delay.seconds == pytest.approx(average - delay.deviation(1004) / 2, abs=0.001)


@given(
    st.lists(st.tuples(reply_times, st.floats(0, 1000)), max_size=60),
    st.floats(0.001, 0.05),
    st.floats(0.01, 1),
)
def test_delay_keeps_its_bounds(
    measured: list[tuple[float, float]], step: float, alpha: float
) -> None:
    """Whatever is measured and whenever: inside the bounds, one step at a time at the most."""
    adaptive = AdaptiveSettings(ewma_alpha=alpha, max_step=step)
    delay, now = RacingDelay(RACING, adaptive), 1000.0
    for seconds, idle in measured:
        before = delay.seconds
        now += idle
        delay.add(seconds, now)
        assert abs(delay.seconds - before) <= step + 1e-9
        assert 0.02 - 1e-9 <= delay.seconds <= 0.2 + 1e-9


@pytest.mark.parametrize(
    ("average", "timeout"),
    [
        (None, 1000),
        (0, 500),
        (20, 500),
        (333, 500),
        (334, 501),
        (800, 1200),
        (1333, 1999.5),
        (1334, 2000),
        (9000, 2000),
    ],
)
def test_timeout_of_a_try(average: float | None, timeout: float) -> None:
    """1.5 times the average within 500 ms and 2 s; 1 s before anything is measured."""
    seconds = None if average is None else average / 1000
    assert try_timeout(SequentialSettings(), seconds) == pytest.approx(timeout / 1000)


def fallback(*milliseconds: float) -> float:
    """The fallback timeout in milliseconds that these first answers teach."""
    learnt = FallbackTimeout(0.3)
    for one in milliseconds:
        learnt.add(one / 1000)
    return learnt.seconds * 1000


def test_fallback_needs_samples() -> None:
    """300 ms until there are enough first answers to speak of a percentile."""
    assert fallback() == 300
    assert fallback(*[20] * (ENOUGH_SAMPLES - 1)) == 300
    assert fallback(*[20] * ENOUGH_SAMPLES) == 50


@pytest.mark.parametrize(
    ("usual", "expected"), [(1, 50), (36, 50), (40, 55), (80, 105), (236, 300), (900, 300)]
)
def test_fallback_bounds(usual: float, expected: float) -> None:
    """The percentile and a margin, at least 50 ms and at most 300 ms."""
    assert fallback(*[usual] * 100) == pytest.approx(expected)


def test_fallback_goes_by_its_upper_bound() -> None:
    """That is what it is at first, and counts more than the lower one."""
    for longest, expected in ((0.5, 0.5), (0.2, 0.2), (0.03, 0.03)):
        learnt = FallbackTimeout(longest)
        assert learnt.seconds == longest
        for _ in range(ENOUGH_SAMPLES):
            learnt.add(1.0)
        assert learnt.seconds == expected
        for _ in range(SAMPLES):
            learnt.add(0.001)
        assert learnt.seconds == min(longest, FallbackTimeout.SHORTEST)


def test_fallback_ignores_the_slowest_twentieth() -> None:
    """Five of a hundred slow answers change nothing, ten do."""
    assert fallback(*[60] * 95, *[250] * 5) == pytest.approx(80)
    assert fallback(*[60] * 90, *[200] * 10) == pytest.approx(255)


def test_fallback_forgets() -> None:
    """Old times give way to new ones: a network that has become faster is learnt."""
    assert fallback(*[200] * SAMPLES, *[60] * SAMPLES) == pytest.approx(80)
    assert fallback(*[60] * SAMPLES, *[200] * SAMPLES) == pytest.approx(255)


@given(st.lists(reply_times, min_size=ENOUGH_SAMPLES, max_size=2 * SAMPLES))
def test_fallback_covers_the_percentile(measured: list[float]) -> None:
    """Always within the bounds, and never below the 95th percentile unless the cap says so."""
    learnt = FallbackTimeout(0.3)
    for seconds in measured:
        learnt.add(seconds)
    assert 0.05 <= learnt.seconds <= 0.3
    window = sorted(measured[-SAMPLES:])
    covered = sum(seconds <= learnt.seconds for seconds in window)
    assert covered >= 0.95 * len(window) or learnt.seconds == 0.3
    if window[-(-97 * len(window) // 100) - 1] * 1.25 < 0.04:
        assert learnt.seconds == 0.05
