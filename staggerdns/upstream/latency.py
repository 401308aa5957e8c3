"""How long an upstream takes to answer, as a moving average."""

from __future__ import annotations

ALPHA = 0.2
"""Weight of a new measurement (SPEC section 4)."""
UNKNOWN = 0.2
"""Seconds assumed of an upstream that has not been measured."""


class Latency:
    """An exponentially weighted moving average (EWMA) of reply times in seconds."""

    __slots__ = ("seconds", "measured")

    def __init__(self) -> None:
        self.seconds = UNKNOWN
        self.measured = False

    def add(self, seconds: float) -> None:
        """Take in one measured reply time; the first replaces the assumption."""
        if self.measured:
            self.seconds += ALPHA * (seconds - self.seconds)
        else:
            self.seconds = seconds
            self.measured = True
