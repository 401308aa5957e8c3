"""The budget of probes: a rate and a burst (docs/specification.rst, Ranking)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.ranking.budget import BURST, ProbeBudget
from tests.kit.probing import make_clock


def waits(budget: ProbeBudget, count: int) -> list[float]:
    """How long each of so many probes has to wait that want to go at once, at a clock that stands
    still: their own wait and that of those before them.
    """
    found = []
    for _ in range(count):
        found.append(budget.wait())
        budget.spend()
    return found


def test_burst_then_rate() -> None:
    """Half a second's worth goes at once, what follows one by one."""
    budget = ProbeBudget(10, make_clock())
    found = waits(budget, 8)
    assert found == pytest.approx([0, 0, 0, 0, 0, 0.1, 0.2, 0.3])


def test_savings_are_bounded() -> None:
    """A day of idleness saves no more than the burst."""
    clock = make_clock()
    budget = ProbeBudget(10, clock)
    clock.rightNow += 86_400
    found = waits(budget, 6)
    assert found == pytest.approx([0] * 5 + [0.1], abs=1e-6)


def test_savings_come_back() -> None:
    """After a pause there is as much of the burst again as the pause was long."""
    clock = make_clock()
    budget = ProbeBudget(10, clock)
    waits(budget, 5)
    clock.rightNow += 0.3001
    assert waits(budget, 4) == pytest.approx([0, 0, 0, 0.1], abs=0.001)


@pytest.mark.parametrize("rate", [1, 2, 3])
def test_small_rates(rate: float) -> None:
    """Even the least rate sends one probe at once, and then holds itself."""
    budget = ProbeBudget(rate, make_clock())
    found = waits(budget, 4)
    assert found[0] == 0
    assert found[3] == pytest.approx(3 / rate - max(0, BURST - 1 / rate))


STEPS = st.lists(st.tuples(st.floats(0, 2), st.integers(1, 30)), min_size=1, max_size=60)


@given(rate=st.integers(1, 100), steps=STEPS)
def test_rate_and_burst_hold_in_any_window(rate: int, steps: list[tuple[float, int]]) -> None:
    """Whenever it is asked, no window of t seconds gets more than rate x t + burst probes."""
    clock = make_clock()
    budget = ProbeBudget(rate, clock)
    sent: list[float] = []
    for pause, askers in steps:
        clock.rightNow += pause
        for wait in waits(budget, askers):
            assert wait >= 0
            sent.append(clock.seconds() + wait)
    assert_within(sent, rate)


def assert_within(sent: list[float], rate: float) -> None:
    """Assert that every window that begins and ends with a probe keeps rate and burst."""
    burst = max(1, rate * BURST)
    sent.sort()
    for first, start in enumerate(sent):
        for last in range(first, len(sent)):
            assert last - first + 1 <= rate * (sent[last] - start) + burst + 1e-3


@given(st.integers(1, 100))
def test_the_rate_is_reached(rate: int) -> None:
    """Whoever asks all the time gets the whole rate: the budget wastes nothing."""
    clock = make_clock()
    budget = ProbeBudget(rate, clock)
    granted = 0
    for _ in range(100):
        clock.rightNow += 0.1
        while not budget.wait():
            budget.spend()
            granted += 1
    assert granted >= rate * 10
