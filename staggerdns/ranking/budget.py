"""How many probes may be sent: a token bucket that tells how long to wait."""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

BURST = 0.5
"""Seconds' worth of probes that may go at once after a quiet time."""


class ProbeBudget:
    """``rate`` probes per second, with a burst of `BURST` seconds' worth, but at least one."""

    def __init__(self, rate: float, clock: IReactorTime) -> None:
        self._interval = 1 / rate
        self._clock = clock
        self._ahead = max(BURST - self._interval, 0.0)
        self._next = clock.seconds() - self._ahead

    def reserve(self) -> float:
        """Reserve one probe; return the seconds until it may be sent, 0 for at once.

        Whoever reserves is bounded in number, and so is the wait.
        """
        now = self._clock.seconds()
        slot = max(self._next, now - self._ahead)
        self._next = slot + self._interval
        return max(0.0, slot - now)
