"""One timer of the reactor for the alarms of all runs.

A run sets an alarm for each batch and for its end, and cancels most of them. If each were a delayed
call of the reactor, they would make a third of what a new name costs. Alarms are kept in a heap by
their time, and the reactor has one delayed call, for the earliest. A cancelled alarm stays in the
heap, empty, until its time comes or there are too many of them. Times are seconds of the clock.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal

SLACK = 0.0001
"""Seconds by which an alarm may go off early (rounding, two clocks) and still count as due."""
MANY_ALARMS = 64
"""With more alarms than these they go off in groups, so that one delayed call is for many."""
GROUP_INTERVAL = 0.001
"""Seconds from one group to the next, by which an alarm may then be late."""
MAX_CANCELLED = 256
"""With more cancelled alarms than these, and than others, the heap is built anew without them."""

Alarm = list[Callable[[], None]]
"""What `Alarms.set` returns: the callable, until it has been called or cancelled."""


class Alarms:
    """Calls back at given times of ``clock``; callables that fail are logged to ``journal``."""

    def __init__(self, clock: IReactorTime, journal: Journal) -> None:
        self._clock = clock
        self._journal = journal
        self._heap: list[tuple[float, int, Alarm]] = []
        self._numbers = count()  # equal times go off in the order in which they were set
        self._live = 0
        self._call: IDelayedCall | None = None
        self._call_due = inf

    def set(self, due: float, callback: Callable[[], None]) -> Alarm:
        """Have ``callback`` called at ``due``, or as soon as possible."""
        alarm = [callback]
        heappush(self._heap, (due, next(self._numbers), alarm))
        self._live += 1
        if due < self._call_due:
            self._wait_until(due)
        return alarm

    def cancel(self, alarm: Alarm) -> None:
        """Forget an alarm that has not gone off."""
        alarm.clear()
        self._live -= 1
        if not self._live and self._call is not None:
            self._heap.clear()
            self._call.cancel()
            self._call, self._call_due = None, inf
        elif len(self._heap) - self._live > max(MAX_CANCELLED, self._live):
            self._heap = [entry for entry in self._heap if entry[2]]
            heapify(self._heap)

    def _wait_until(self, due: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._call_due = due
        delay = max(0.0, due - self._clock.seconds())
        self._call = self._clock.callLater(delay, self._go_off)

    def _go_off(self) -> None:
        now = self._clock.seconds()
        latest = now + SLACK
        self._call, self._call_due = None, -inf  # what is set meanwhile needs no call
        while self._heap and self._heap[0][0] <= latest:
            alarm = heappop(self._heap)[2]
            if not alarm:
                continue
            self._live -= 1
            try:
                alarm.pop()()
            except Exception:  # noqa: BLE001 (a defect in one run must not hold up the others)
                self._journal.failure("a run has failed")
        self._call_due = inf
        if self._live:
            soonest = now + GROUP_INTERVAL if self._live > MANY_ALARMS else now
            self._wait_until(max(self._heap[0][0], soonest))
