"""When requests begin: so many a second in the long run, and so many at once after a quiet time.

Those beyond wait in the order in which they have come. Only what begins is counted, so that a crowd
that comes and goes keeps nobody waiting for longer than those that are still there.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

BURST = 64
"""Requests that may begin at once."""
INTERVAL = 1 / 16
"""Seconds from one request to the next in the long run."""
_ROUNDING = 1e-6  # seconds; sums of intervals are not exact


class Turns:
    """Gives turns to those that wait for one."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._next_at = clock.seconds() - BURST * INTERVAL  # for one who has not saved up
        self._waiting: dict[Callable[[], None], None] = {}  # in order
        self._timer: IDelayedCall | None = None

    def begin(self, call: Callable[[], None]) -> bool:
        """Return whether a request may begin now; else ``call`` is called when its turn has come,
        unless it is given up before.
        """
        now = self._clock.seconds()
        if not self._waiting and self._is_free(now):
            self._count(now)
            return True
        self._waiting[call] = None
        self._schedule(now)
        return False

    def give_up(self, call: Callable[[], None]) -> None:
        """Have ``call`` called no more."""
        self._waiting.pop(call, None)
        if not self._waiting and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _is_free(self, now: float) -> bool:
        return self._next_at <= now + _ROUNDING

    def _count(self, now: float) -> None:
        self._next_at = max(self._next_at, now - (BURST - 1) * INTERVAL) + INTERVAL

    def _schedule(self, now: float) -> None:
        if self._timer is None:
            self._timer = self._clock.callLater(max(0.0, self._next_at - now), self._take)

    def _take(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        self._count(now)
        call = next(iter(self._waiting))
        del self._waiting[call]
        if self._waiting:
            self._schedule(now)
        call()
