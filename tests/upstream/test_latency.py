"""Average and deviation of reply times, and how they fade."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.upstream.latency import DECAY, UNKNOWN, Latency


def test_unknown() -> None:
    """What was never measured counts 200 ms and deviates by nothing, at any time."""
    latency = Latency(0.2)
    assert not latency.measured
    assert latency.mean(0.0) == latency.mean(1e6) == UNKNOWN == 0.2
    assert latency.deviation(0.0) == latency.deviation(1e6) == 0


def test_the_first_measurement_replaces_the_assumption() -> None:
    """One reply time is all that is known then."""
    latency = Latency(0.2)
    latency.add(0.03, 10.0)
    assert latency.measured
    assert latency.mean(10.0) == 0.03
    assert latency.deviation(10.0) == 0


@pytest.mark.parametrize("alpha", [0.01, 0.2, 0.5, 1.0])
def test_numbers(alpha: float) -> None:
    """Average and variance are those of their definition, weight by weight."""
    latency = Latency(alpha)
    values = [0.02, 0.05, 0.011, 0.3, 0.04, 0.04, 0.09]
    for value in values:
        latency.add(value, 5.0)
    weights = [(1 - alpha) ** (len(values) - 1)] + [
        alpha * (1 - alpha) ** (len(values) - 1 - place) for place in range(1, len(values))
    ]
    assert sum(weights) == pytest.approx(1)
    mean = sum(weight * value for weight, value in zip(weights, values, strict=True))
    spread = sum(
        weight * (value - mean) ** 2 for weight, value in zip(weights, values, strict=True)
    )
    assert latency.mean(5.0) == pytest.approx(mean)
    assert latency.deviation(5.0) == pytest.approx(math.sqrt(spread))


def test_a_step() -> None:
    """With 0.2, half of a step is made after 4 measurements at the most, 99 % after 21."""
    latency = Latency(0.2)
    latency.add(0.1, 0.0)
    seen = []
    for _ in range(21):
        latency.add(0.2, 0.0)
        seen.append(latency.mean(0.0))
    assert seen[0] == pytest.approx(0.12)
    assert seen[3] > 0.15
    assert seen[20] > 0.199


def test_what_is_fresh_does_not_decay() -> None:
    """Within a second the average is the average."""
    latency = Latency(0.2)
    latency.add(0.05, 10.0)
    assert latency.mean(10.999) == 0.05


@pytest.mark.parametrize("known", [0.01, 0.2, 3.0])
def test_decay(known: float) -> None:
    """Unmeasured, it goes towards unknown and never past it: two thirds of the way in 300 s."""
    latency = Latency(0.2)
    latency.add(known, 0.0)
    seen = [latency.mean(float(now)) for now in range(0, 5000, 50)]
    off = [abs(mean - UNKNOWN) for mean in seen]
    assert off == sorted(off, reverse=True)
    assert all((mean - UNKNOWN) * (known - UNKNOWN) >= 0 for mean in seen)
    assert latency.mean(DECAY) - UNKNOWN == pytest.approx((known - UNKNOWN) / math.e)
    assert latency.mean(3600.0) == pytest.approx(UNKNOWN, abs=0.0001)


def test_looking_changes_nothing() -> None:
    """Reading it, even at a time far ahead, leaves the average as it is."""
    latency = Latency(0.2)
    latency.add(0.05, 0.0)
    latency.mean(9999.0)
    assert latency.mean(0.5) == 0.05


def test_what_was_forgotten_does_not_come_back() -> None:
    """An upstream that was slow long ago is judged by its new reply, not by the old ones."""
    latency = Latency(0.2)
    latency.add(3.0, 0.0)
    latency.add(0.02, 3600.0)
    assert latency.mean(3600.0) == pytest.approx(0.8 * UNKNOWN + 0.2 * 0.02, abs=0.001)


def test_the_deviation_fades() -> None:
    """An hour after the last measurement nothing is left of the spread, also for the next one."""
    latency = Latency(0.2)
    for index in range(50):
        latency.add((0.05, 0.4)[index % 2], 10.0)
    assert latency.deviation(10.0) > 0.15
    assert latency.deviation(10.0 + 300) == pytest.approx(latency.deviation(10.0) * math.exp(-0.5))
    assert latency.deviation(3610.0) < 0.001
    latency.add(UNKNOWN, 3610.0)
    assert latency.deviation(3610.0) < 0.001


@given(
    st.lists(st.tuples(st.floats(0.0001, 5.0), st.floats(0.0, 400.0)), min_size=1, max_size=40),
    st.floats(0.01, 1.0),
)
def test_within_what_was_seen(replies: list[tuple[float, float]], alpha: float) -> None:
    """The average never leaves the range of the reply times and of the assumption; the deviation
    never exceeds that range.
    """
    latency, now = Latency(alpha), 0.0
    for seconds, wait in replies:
        now += wait
        latency.add(seconds, now)
    values = [seconds for seconds, _ in replies] + [UNKNOWN]
    assert min(values) - 1e-9 <= latency.mean(now) <= max(values) + 1e-9
    assert 0 <= latency.deviation(now) <= max(values) - min(values) + 1e-9
