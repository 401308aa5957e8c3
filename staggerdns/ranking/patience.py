"""One timer for all samples that wait for their answers.

All of them wait equally long, so whoever began first is the first to have waited for long enough.
Most are answered before, so a delayed call of the reactor for each would be work for nothing. Here
they stand in a line, and the reactor has one delayed call, for whoever was at the head when it was
set. The call stays when that one leaves, and is set anew when it goes off.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_ROUNDING = 1e-6


class Patience:
    """Calls back ``seconds`` after each beginning, by ``clock``, unless it is ended before."""

    def __init__(self, clock: IReactorTime, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._due: dict[Callable[[], None], float] = {}
        self._timer: IDelayedCall | None = None
        self._going_off = False

    def begin(self, over: Callable[[], None]) -> None:
        """Have ``over``, which does not wait yet, called when the time is over."""
        self._due[over] = self._clock.seconds() + self._seconds
        if self._timer is None and not self._going_off:
            self._timer = self._clock.callLater(self._seconds, self._go_off)

    def end(self, over: Callable[[], None]) -> bool:
        """Do not call ``over``; return whether it would have been called."""
        if self._due.pop(over, None) is None:
            return False
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return True

    def _go_off(self) -> None:
        now = self._clock.seconds()
        self._timer, self._going_off = None, True
        try:
            while self._due:
                over, due = next(iter(self._due.items()))
                if due > now + _ROUNDING:
                    break
                del self._due[over]
                over()
        finally:  # a defect in one must not hold up the others
            self._going_off = False
            if self._due:
                delay = max(0.0, next(iter(self._due.values())) - now)
                self._timer = self._clock.callLater(delay, self._go_off)
