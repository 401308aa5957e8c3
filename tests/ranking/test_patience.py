"""One timer for all who wait equally long (docs/specification.rst, Measuring)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from staggerdns.ranking.patience import Patience
from tests.kit.probing import elapse, make_clock
from tests.kit.simulated import START

SECONDS = 0.25


class Waiters:
    """Those who wait, each with a number, and when they were called: seconds after the start."""

    def __init__(self) -> None:
        self.clock: Clock = make_clock()
        self.patience = Patience(self.clock, SECONDS)
        self.called: dict[int, float] = {}
        self._over: dict[int, Callable[[], None]] = {}

    def begin(self, number: int, then: Callable[[], object] = lambda: None) -> None:
        """Have one wait, who does something when its time is over."""

        def over() -> None:
            self.called[number] = round(self.clock.seconds() - START, 6)
            then()

        self._over[number] = over
        self.patience.begin(over)

    def end(self, number: int) -> bool:
        """Have one wait no more."""
        return self.patience.end(self._over[number])

    def at(self, seconds: float) -> None:
        """Let time pass until so many seconds after the start."""
        elapse(self.clock, seconds)


def test_each_at_its_time() -> None:
    """One delayed call is enough, whoever leaves."""
    waiters = Waiters()
    for number in range(5):
        waiters.at(number / 100)
        waiters.begin(number)
        assert len(waiters.clock.calls) == 1
    assert waiters.end(0)
    assert waiters.end(3)
    waiters.at(1)
    assert waiters.called == {1: 0.26, 2: 0.27, 4: 0.29}
    assert not waiters.clock.calls


def test_ended() -> None:
    """Who has left, or been called, would not be called any more; with the last the timer goes."""
    waiters = Waiters()
    waiters.begin(1)
    assert waiters.end(1)
    assert not waiters.end(1)
    assert not waiters.clock.calls
    waiters.begin(2)
    waiters.at(1)
    assert not waiters.end(2)


def test_begun_and_ended_by_one_whose_time_is_over() -> None:
    """One that is called may begin anew, and end others whose time is over as well."""
    waiters = Waiters()

    def then() -> None:
        waiters.end(2)
        waiters.begin(3)

    waiters.begin(1, then)
    waiters.begin(2)
    waiters.at(0.25)
    assert waiters.called == {1: 0.25}
    assert len(waiters.clock.calls) == 1
    waiters.at(1)
    assert waiters.called == {1: 0.25, 3: 0.5}
    assert not waiters.clock.calls


def test_the_last_is_ended_by_one_whose_time_is_over() -> None:
    """Then nothing is left to wait for."""
    waiters = Waiters()
    waiters.begin(1, lambda: waiters.end(2))
    waiters.at(0.1)
    waiters.begin(2)
    waiters.at(1)
    assert waiters.called == {1: 0.25}
    assert not waiters.clock.calls


def test_a_defect() -> None:
    """One that fails costs the others nothing."""
    waiters = Waiters()
    waiters.begin(1, lambda: 1 / 0)
    waiters.begin(2)
    with pytest.raises(ZeroDivisionError):
        waiters.at(0.3)
    waiters.at(1)
    assert waiters.called == {1: 0.25, 2: 0.25}


@given(
    st.lists(
        st.tuples(st.floats(0, 0.4), st.booleans(), st.integers(0, 30)), min_size=1, max_size=30
    )
)
def test_like_a_timer_for_each(steps: list[tuple[float, bool, int]]) -> None:
    """Whoever comes and goes, all are called when a timer of their own would have gone off."""
    waiters, alone = Waiters(), Waiters()
    timers: dict[int, IDelayedCall] = {}
    now = 0.0
    for number, (pause, leaves, who) in enumerate(steps):
        now += pause
        waiters.at(now)
        alone.at(now)
        if leaves and who in timers:
            waits = timers[who].active()
            assert waiters.end(who) == waits
            if waits:
                timers[who].cancel()
        else:
            waiters.begin(number)
            note = alone.called.__setitem__
            timers[number] = alone.clock.callLater(SECONDS, note, number, round(now + SECONDS, 6))
    waiters.at(now + 1)
    alone.at(now + 1)
    assert waiters.called == pytest.approx(alone.called, abs=2e-6)
    assert not waiters.clock.calls
