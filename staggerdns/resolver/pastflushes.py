"""What has been flushed since the start, for entries of an earlier run that are read later.

To read them may take seconds, and longer where they wait for the clock. Times are seconds of the
cache's clock.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

MAX_PAST_FLUSHES = 100
"""Flushes that are remembered one by one; with more, all names count as flushed."""


class PastFlushes:
    """The flushes of one cache."""

    def __init__(self) -> None:
        self._flushes: list[tuple[Callable[[bytes], bool], float]] = []
        self._all_before = -inf

    def add(self, covers: Callable[[bytes], bool], before: float) -> None:
        """Note that what was stored ``before`` that time, or at it, of names (wire form, lower
        case) which ``covers`` says is flushed.
        """
        if len(self._flushes) >= MAX_PAST_FLUSHES:
            self._all_before = max([before, self._all_before, *(at for _, at in self._flushes)])
            self._flushes.clear()
        else:
            self._flushes.append((covers, before))

    def covers(self, name: bytes, stored: float) -> bool:
        """Return whether an answer for a name that was stored at that time is flushed."""
        return stored <= self._all_before or any(
            stored <= before and covers(name) for covers, before in self._flushes
        )
