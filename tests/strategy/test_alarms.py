"""One timer of the reactor for the alarms of all runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from staggerdns.journal import Journal
from staggerdns.strategy.alarms import (
    GROUP_INTERVAL,
    MANY_ALARMS,
    MAX_CANCELLED,
    SLACK,
    Alarm,
    Alarms,
)

if TYPE_CHECKING:
    from tests.conftest import CriticalEvents


class SimulatedAlarms:
    """Alarms on a clock, and what went off when."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.alarms = Alarms(self.clock, Journal())
        self.gone: list[tuple[float, object]] = []

    def set(self, due: float, name: object = "") -> Alarm:
        """Set an alarm so many seconds from the beginning."""
        return self.alarms.set(1000 + due, partial(self.note, name))

    def note(self, name: object) -> None:
        """Note that an alarm goes off now."""
        self.gone.append((round(self.clock.seconds() - 1000, 6), name))

    def run(self) -> None:
        """Let everything go off at its time."""
        while self.clock.calls:
            self.clock.advance(max(0.0, self.clock.calls[0].getTime() - self.clock.seconds()))


@pytest.fixture
def simulated() -> SimulatedAlarms:
    """A fresh one."""
    return SimulatedAlarms()


def test_each_at_its_time(simulated: SimulatedAlarms) -> None:
    """In whatever order they are set; equal ones in that order."""
    for due, name in ((0.3, "c"), (0.1, "a"), (0.2, "b"), (0.1, "a2")):
        simulated.set(due, name)
    assert len(simulated.clock.getDelayedCalls()) == 1
    simulated.run()
    assert simulated.gone == [(0.1, "a"), (0.1, "a2"), (0.2, "b"), (0.3, "c")]


def test_cancelled_ones_are_silent(simulated: SimulatedAlarms) -> None:
    """And leave no call on the reactor when none is left."""
    first, second = simulated.set(0.1, 1), simulated.set(0.2, 2)
    simulated.alarms.cancel(first)
    simulated.run()
    assert simulated.gone == [(0.2, 2)]
    third = simulated.set(0.5)
    assert simulated.clock.getDelayedCalls()
    simulated.alarms.cancel(third)
    assert simulated.clock.getDelayedCalls() == []
    assert not second, "it has gone off"


def test_one_that_is_due_already(simulated: SimulatedAlarms) -> None:
    """Goes off as soon as the reactor has its turn."""
    simulated.set(-5.0, "late")
    simulated.clock.advance(0)
    assert simulated.gone == [(0, "late")]


@pytest.mark.parametrize(("early", "together"), [(SLACK * 0.9, True), (SLACK * 1.1, False)])
def test_slack(simulated: SimulatedAlarms, early: float, together: bool) -> None:
    """What would be due within the slack goes off with the one before."""
    simulated.set(0.1, 1)
    simulated.set(0.1 + early, 2)
    simulated.run()
    assert (simulated.gone[1][0] == simulated.gone[0][0]) == together


def test_set_and_cancelled_while_others_go_off(simulated: SimulatedAlarms) -> None:
    """An alarm may set and cancel others, and the last one may leave nothing."""
    victim = simulated.set(0.1, "victim")
    simulated.alarms.cancel(victim)
    later: list[Alarm] = []

    def first() -> None:
        later.append(simulated.set(0.05, "set for the past"))
        later.append(simulated.set(0.2, "cancelled at once"))
        simulated.alarms.cancel(later[1])
        later.append(simulated.set(0.3, "later"))

    simulated.alarms.set(1000.1, first)
    simulated.run()
    assert simulated.gone == [(0.1, "set for the past"), (0.3, "later")]
    assert simulated.clock.getDelayedCalls() == []


def test_one_cancels_the_other_of_the_same_moment(simulated: SimulatedAlarms) -> None:
    """The second of two does not go off any more."""
    second: list[Alarm] = []
    simulated.alarms.set(1000.1, lambda: simulated.alarms.cancel(second[0]))
    second.append(simulated.set(0.1, "second"))
    simulated.run()
    assert simulated.gone == []
    assert simulated.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("count", "calls"), [(MANY_ALARMS + 1, 1), (10 * MANY_ALARMS, 2)])
def test_a_crowd_goes_off_in_groups(simulated: SimulatedAlarms, count: int, calls: int) -> None:
    """Many within a millisecond cost a call or two, and none is late by more than the grain."""
    for index in range(count):
        simulated.set(0.1 + index * GROUP_INTERVAL / count, index)
    turns = 0
    while simulated.clock.calls and len(simulated.gone) < count - MANY_ALARMS:
        simulated.clock.advance(
            max(0.0, simulated.clock.calls[0].getTime() - simulated.clock.seconds())
        )
        turns += 1
    assert turns <= calls
    simulated.run()
    assert [name for _, name in simulated.gone] == list(range(count))
    assert all(
        at <= 0.1 + index * GROUP_INTERVAL / count + GROUP_INTERVAL + SLACK
        for index, (at, _) in enumerate(simulated.gone)
    )


def test_few_are_never_late(simulated: SimulatedAlarms) -> None:
    """Without a crowd each goes off at its own time, however close the next one is."""
    for index in range(MANY_ALARMS):
        simulated.set(0.1 + index * 2 * SLACK, index)
    simulated.run()
    assert simulated.gone == [
        (round(0.1 + index * 2 * SLACK, 6), index) for index in range(MANY_ALARMS)
    ]


def test_cancelled_ones_do_not_pile_up(simulated: SimulatedAlarms) -> None:
    """Whatever is set and cancelled, little more than what is live is kept."""
    simulated.set(500.0, "live")
    for _ in range(20 * MAX_CANCELLED):
        simulated.alarms.cancel(simulated.set(300.0))
        assert len(simulated.alarms._heap) <= MAX_CANCELLED + 2
    simulated.run()
    assert simulated.gone == [(500.0, "live")]


def test_a_defect_holds_up_nobody(
    simulated: SimulatedAlarms, critical_events: CriticalEvents
) -> None:
    """One that fails is logged, and the others go off."""

    def fail() -> None:
        raise RuntimeError("a defect")

    simulated.alarms.set(1000.1, fail)
    simulated.set(0.1, "same time")
    simulated.set(0.2, "later")
    simulated.run()
    assert simulated.gone == [(0.1, "same time"), (0.2, "later")]
    assert [event["log_failure"].type for event in critical_events.flush()] == [RuntimeError]


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=200))
def test_whatever_is_set(course: list[tuple[int, bool]]) -> None:
    """All that is not cancelled goes off, in order, at its time or within the grain."""
    simulated = SimulatedAlarms()
    expected = []
    for number, (milliseconds, cancelled) in enumerate(course):
        alarm = simulated.set(milliseconds / 1000, number)
        if cancelled:
            simulated.alarms.cancel(alarm)
        else:
            expected.append((milliseconds / 1000, number))
    simulated.run()
    assert [name for _, name in simulated.gone] == [number for _, number in sorted(expected)]
    for (at, _), (due, _) in zip(simulated.gone, sorted(expected), strict=True):
        assert due - SLACK <= at <= due + GROUP_INTERVAL + SLACK
    assert simulated.clock.getDelayedCalls() == []
