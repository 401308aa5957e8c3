"""A clock that does not count the time for which the whole program stood still.

A process that was stopped (SIGSTOP, a debugger, a paused machine) or slept with its machine finds
its timers late and replies in its sockets, and a reactor runs the timers first: everything would
time out that was answered long ago. So calls are watched:

    in time --late by more than `LATE`--> standstill --sockets read--> late calls run, in time

The time by which the earliest call is late is left out, except for `LATE`: the clock goes on near
where it was when the standstill began. Late calls wait for one more turn of the reactor, in which
it reads the sockets. While no call waits, a standstill is not noticed, and harms nobody.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

LATE = 0.25
"""Seconds by which a call may be late because the program is busy."""
LONG = 5.0
"""Seconds of standstill after which connections may have died without a word."""
_ROUNDING = 1e-6


@implementer(IReactorTime)
class StandstillClock:
    """The time of ``clock``, a reactor or the like, without standstills.

    ``woke``: when the last standstill was over, ``woke_late``: the last of more than `LONG`
    seconds. All times are seconds of this clock.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._now: Callable[[], float] = clock.seconds
        self._lost = 0.0
        self._pending: dict[_Call, None] = {}
        self._first: _Call | None = None  # the earliest, unless cancelled or put off since
        self._first_due = inf  # when it was due then
        self._late_at = inf  # of ``clock``: when the first is late
        self._gap = 0.0  # by how much it is, beyond that
        self.woke = -inf
        self.woke_late = -inf

    def seconds(self) -> float:
        """Return the time; it never runs backwards unless ``clock`` does."""
        now = self._now()
        if now > self._late_at:
            self._look(now)
        return now - self._lost

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> _Call:
        """Call ``callable`` after ``delay`` seconds."""
        call = _Call(self, self.seconds() + delay, callable, args, kw)
        self.start(call, delay)
        return call

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Return the calls that wait."""
        return list(self._pending)

    def start(self, call: _Call, delay: float) -> None:
        """Set the timer of a call; called by the call."""
        self._pending[call] = None
        call.timer = self._clock.callLater(delay, self._fire, call)
        self.moved(call)

    def moved(self, call: _Call) -> None:
        """Watch a call if it is the earliest now; called by the call."""
        if call.due < self._first_due:
            self._watch(call)

    def stop(self, call: _Call) -> None:
        """Cancel the timer of a call; called by the call."""
        del self._pending[call]
        timer, call.timer = call.timer, None  # they hold each other
        timer.cancel()

    def _fire(self, call: _Call) -> None:
        now = self.seconds()
        if call.due - now > _ROUNDING:  # time has stood still since it was set
            call.timer = self._clock.callLater(call.due - now, self._fire, call)
        elif call.due <= self.woke and not call.put_off:
            call.put_off = True  # once: a busy program would never make the call
            call.timer = self._clock.callLater(0, self._fire, call)
        else:
            del self._pending[call]
            call.timer = None
            call.run()

    def _watch(self, first: _Call) -> None:
        self._first = first
        self._first_due = first.due
        self._late_at = first.due + LATE + self._lost
        self._gap = 0.0

    def _look(self, now: float) -> None:
        """Leave out the time by which the earliest call is late, if it still waits."""
        first = self._first
        if first is None or first not in self._pending or first.due > self._first_due:
            if not self._pending:
                self._first, self._first_due, self._late_at = None, inf, inf
                return
            self._watch(min(self._pending, key=_Call.getTime))
            if now <= self._late_at:
                return
        excess = now - self._late_at
        self._lost += excess
        self._gap += excess
        self._late_at = now
        self.woke = now - self._lost
        if self._gap > LONG:
            self.woke_late = self.woke


@implementer(IDelayedCall)
class _Call:
    """A call that waits for its time, ``due``."""

    __slots__ = ("_clock", "_callable", "_args", "_kw", "_over", "due", "put_off", "timer")

    def __init__(
        self,
        clock: StandstillClock,
        due: float,
        callable: Callable[..., Any],
        args: tuple[object, ...],
        kw: dict[str, object],
    ) -> None:
        self._clock = clock
        self._callable = callable
        self._args = args
        self._kw = kw
        self._over: type[Exception] | None = None
        self.due = due
        self.put_off = False
        self.timer: Any = None

    def run(self) -> None:
        """Make the call; called by the clock."""
        self._over = AlreadyCalled
        self._callable(*self._args, **self._kw)

    def getTime(self) -> float:
        """Return when the call is due."""
        return self.due

    def active(self) -> bool:
        """Return whether the call still waits."""
        return self._over is None

    def cancel(self) -> None:
        """Do not make the call. Raises `AlreadyCalled` or `AlreadyCancelled`."""
        self._check()
        self._over = AlreadyCancelled
        self._clock.stop(self)

    def reset(self, secondsFromNow: float) -> None:
        """Make the call so many seconds from now."""
        self._check()
        self.put_off = False
        self.due = self._clock.seconds() + secondsFromNow
        self.timer.reset(secondsFromNow)  # cheaper than another one: connections do it often
        self._clock.moved(self)

    def delay(self, secondsLater: float) -> None:
        """Make the call so many seconds later."""
        self.reset(max(0.0, self.due + secondsLater - self._clock.seconds()))

    def _check(self) -> None:
        if self._over is not None:
            raise self._over
