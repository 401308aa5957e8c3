"""How long an upstream takes to answer: a moving average and its spread.

The exponentially weighted average (EWMA) and variance follow RFC 6298's idea with the weight of
the configuration. What is not measured decays towards `UNKNOWN`, so that an upstream that was
slow once gets asked again some day. Times are seconds.
"""

from __future__ import annotations

from math import exp, sqrt

UNKNOWN = 0.2
"""Seconds assumed of an upstream that has not been measured."""
DECAY = 300.0
"""Seconds without a measurement after which two thirds of what was known are forgotten."""


class Latency:
    """The reply times of one upstream, or of several together; ``alpha`` weighs a new one."""

    __slots__ = ("_alpha", "_mean", "_variance", "_measured")

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha
        self._mean = UNKNOWN
        self._variance = 0.0
        self._measured: float | None = None

    def succeed(self, other: Latency) -> None:
        """Adopt what ``other`` has measured."""
        self._mean = other._mean
        self._variance = other._variance
        self._measured = other._measured

    def add(self, seconds: float, now: float) -> None:
        """Add one reply time measured at ``now``; the first replaces the assumption."""
        measured, self._measured = self._measured, now
        if measured is None:
            self._mean = seconds
            return
        idle = now - measured
        if idle >= 1:  # so that what has decayed stays so
            self._mean = self._decayed(idle)
            self._variance *= exp(-idle / DECAY)
        off = seconds - self._mean
        step = self._alpha * off
        self._mean += step
        self._variance = (1 - self._alpha) * (self._variance + step * off)

    def mean(self, now: float) -> float:
        """Return the average as it counts at ``now``, decayed towards `UNKNOWN`."""
        if self._measured is None:
            return UNKNOWN
        idle = now - self._measured
        return self._mean if idle < 1 else self._decayed(idle)

    def _decayed(self, idle: float) -> float:
        return UNKNOWN + (self._mean - UNKNOWN) * exp(-idle / DECAY)

    @property
    def measured(self) -> bool:
        """Whether there was any measurement."""
        return self._measured is not None

    def deviation(self, now: float) -> float:
        """Return the standard deviation as it counts at ``now``, decayed towards none."""
        if self._measured is None:
            return 0.0
        return sqrt(self._variance * exp(-(now - self._measured) / DECAY))

    def saved(self, now: float) -> tuple[float, float, float] | None:
        """Return average, variance, and the seconds since the last measurement; `None` if there was
        none.
        """
        if self._measured is None:
            return None
        return self._mean, self._variance, now - self._measured

    def restore(self, mean: float, variance: float, measured: float) -> None:
        """Go on from an average and a variance that were last ``measured`` at that time, unless
        there has been a measurement since.
        """
        if self._measured is None:
            self._mean, self._variance, self._measured = mean, variance, measured
