"""Whether an upstream is worth asking.

An upstream is usable until `UNHEALTHY_AFTER` replies in a row were failures or network errors.
Then it rests for `OPEN_FOR` seconds, after which it is asked again: one success makes it
usable, one more failure sends it back to rest. Negative answers are successes, and a query that
we cancelled says nothing.
"""

from __future__ import annotations

UNHEALTHY_AFTER = 5
OPEN_FOR = 30.0


class Health:
    """The health of one upstream; times are seconds of the caller's monotonic clock."""

    __slots__ = ("_failures", "_rests_until")

    def __init__(self) -> None:
        self._failures = 0
        self._rests_until = 0.0

    def usable(self, now: float) -> bool:
        """Say whether the upstream should be asked at ``now``."""
        return self._failures < UNHEALTHY_AFTER or now >= self._rests_until

    def succeeded(self) -> bool:
        """Note a good reply; return whether it ended a rest."""
        recovered = self._failures >= UNHEALTHY_AFTER
        self._failures = 0
        return recovered

    def failed(self, now: float) -> bool:
        """Note a bad reply; return whether the upstream has just become unhealthy."""
        self._failures += 1
        if self._failures >= UNHEALTHY_AFTER:
            self._rests_until = now + OPEN_FOR
        return self._failures == UNHEALTHY_AFTER
