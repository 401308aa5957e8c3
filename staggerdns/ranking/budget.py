"""How many probes may be sent: a token bucket that tells how long to wait."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

BURST = 0.5
"""Seconds' worth of probes that may go at once after a quiet time."""
_ROUNDING = 1e-9


class ProbeBudget:
    """``rate`` probes per second, with a burst of `BURST` seconds' worth, but at least one."""

    def __init__(self, rate: float, clock: IReactorTime) -> None:
        self._interval = 1 / rate
        self._clock = clock
        self._ahead = max(BURST - self._interval, 0.0)
        self._next = clock.seconds() - self._ahead

    def wait(self) -> float:
        """Return the seconds until the next probe may be sent, 0 for now."""
        wait = self._next - self._clock.seconds()
        return wait if wait > _ROUNDING else 0.0

    def spend(self) -> None:
        """Count a probe that is being sent."""
        self._next = max(self._next, self._clock.seconds() - self._ahead) + self._interval
