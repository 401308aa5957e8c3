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


class Bedside:
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
def by() -> Bedside:
    """A fresh one."""
    return Bedside()


def test_each_at_its_time(by: Bedside) -> None:
    """In whatever order they are set; equal ones in that order."""
    for due, name in ((0.3, "c"), (0.1, "a"), (0.2, "b"), (0.1, "a2")):
        by.set(due, name)
    assert len(by.clock.getDelayedCalls()) == 1
    by.run()
    assert by.gone == [(0.1, "a"), (0.1, "a2"), (0.2, "b"), (0.3, "c")]


def test_cancelled_ones_are_silent(by: Bedside) -> None:
    """And leave no call on the reactor when none is left."""
    first, second = by.set(0.1, 1), by.set(0.2, 2)
    by.alarms.cancel(first)
    by.run()
    assert by.gone == [(0.2, 2)]
    third = by.set(0.5)
    assert by.clock.getDelayedCalls()
    by.alarms.cancel(third)
    assert by.clock.getDelayedCalls() == []
    assert not second, "it has gone off"


def test_one_that_is_due_already(by: Bedside) -> None:
    """Goes off as soon as the reactor has its turn."""
    by.set(-5.0, "late")
    by.clock.advance(0)
    assert by.gone == [(0, "late")]


@pytest.mark.parametrize(("early", "together"), [(SLACK * 0.9, True), (SLACK * 1.1, False)])
def test_slack(by: Bedside, early: float, together: bool) -> None:
    """What would be due within the slack goes off with the one before."""
    by.set(0.1, 1)
    by.set(0.1 + early, 2)
    by.run()
    assert (by.gone[1][0] == by.gone[0][0]) == together


def test_set_and_cancelled_while_others_go_off(by: Bedside) -> None:
    """An alarm may set and cancel others, and the last one may leave nothing."""
    victim = by.set(0.1, "victim")
    by.alarms.cancel(victim)
    later: list[Alarm] = []

    def first() -> None:
        later.append(by.set(0.05, "set for the past"))
        later.append(by.set(0.2, "cancelled at once"))
        by.alarms.cancel(later[1])
        later.append(by.set(0.3, "later"))

    by.alarms.set(1000.1, first)
    by.run()
    assert by.gone == [(0.1, "set for the past"), (0.3, "later")]
    assert by.clock.getDelayedCalls() == []


def test_one_cancels_the_other_of_the_same_moment(by: Bedside) -> None:
    """The second of two does not go off any more."""
    second: list[Alarm] = []
    by.alarms.set(1000.1, lambda: by.alarms.cancel(second[0]))
    second.append(by.set(0.1, "second"))
    by.run()
    assert by.gone == []
    assert by.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("count", "calls"), [(MANY_ALARMS + 1, 1), (10 * MANY_ALARMS, 2)])
def test_a_crowd_goes_off_in_groups(by: Bedside, count: int, calls: int) -> None:
    """Many within a millisecond cost a call or two, and none is late by more than the grain."""
    for index in range(count):
        by.set(0.1 + index * GROUP_INTERVAL / count, index)
    turns = 0
    while by.clock.calls and len(by.gone) < count - MANY_ALARMS:
        by.clock.advance(max(0.0, by.clock.calls[0].getTime() - by.clock.seconds()))
        turns += 1
    assert turns <= calls
    by.run()
    assert [name for _, name in by.gone] == list(range(count))
    assert all(
        at <= 0.1 + index * GROUP_INTERVAL / count + GROUP_INTERVAL + SLACK
        for index, (at, _) in enumerate(by.gone)
    )


def test_few_are_never_late(by: Bedside) -> None:
    """Without a crowd each goes off at its own time, however close the next one is."""
    for index in range(MANY_ALARMS):
        by.set(0.1 + index * 2 * SLACK, index)
    by.run()
    assert by.gone == [(round(0.1 + index * 2 * SLACK, 6), index) for index in range(MANY_ALARMS)]


def test_cancelled_ones_do_not_pile_up(by: Bedside) -> None:
    """Whatever is set and cancelled, little more than what is live is kept."""
    by.set(500.0, "live")
    for _ in range(20 * MAX_CANCELLED):
        by.alarms.cancel(by.set(300.0))
        assert len(by.alarms._heap) <= MAX_CANCELLED + 2
    by.run()
    assert by.gone == [(500.0, "live")]


def test_a_defect_holds_up_nobody(by: Bedside, critical_events: CriticalEvents) -> None:
    """One that fails is logged, and the others go off."""

    def fail() -> None:
        raise RuntimeError("a defect")

    by.alarms.set(1000.1, fail)
    by.set(0.1, "same time")
    by.set(0.2, "later")
    by.run()
    assert by.gone == [(0.1, "same time"), (0.2, "later")]
    assert [event["log_failure"].type for event in critical_events.flush()] == [RuntimeError]


@given(st.lists(st.tuples(st.integers(0, 3000), st.booleans()), max_size=200))
def test_whatever_is_set(course: list[tuple[int, bool]]) -> None:
    """All that is not cancelled goes off, in order, at its time or within the grain."""
    by = Bedside()
    expected = []
    for number, (milliseconds, cancelled) in enumerate(course):
        alarm = by.set(milliseconds / 1000, number)
        if cancelled:
            by.alarms.cancel(alarm)
        else:
            expected.append((milliseconds / 1000, number))
    by.run()
    assert [name for _, name in by.gone] == [number for _, number in sorted(expected)]
    for (at, _), (due, _) in zip(by.gone, sorted(expected), strict=True):
        assert due - SLACK <= at <= due + GROUP_INTERVAL + SLACK
    assert by.clock.getDelayedCalls() == []
