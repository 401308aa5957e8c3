"""How much one resolver may be asked: queries in flight, and a token bucket of queries per second.

Upstreams that differ in the client subnet alone are one resolver, and share its budget.

First answers come before complete pools: a query that only completes a pool needs a bucket at
least half full, so that in a burst the staggered tier waits and the active tier does not. An
upstream that refuses many of many queries gets fewer: its rate falls to a part of what it was asked
in the last second, and recovers slowly, as TCP's does after losses.
"""

from __future__ import annotations

from staggerdns.settings.upstreams import BudgetSettings

LOAD = 20
"""Queries within a second above which a refusal counts as a sign to slow down."""
REFUSALS = 5
REFUSED_SHARE = 0.25
"""Refusals within a second, at least and as a part of its queries, that count as many."""
LONGEST_PAUSE = 300.0
"""Seconds that a resolver may have itself left alone by Retry-After."""
_FALL = 0.5
_RISE = 1.1
_LEAST_RATE = 5.0


class QueryBudget:
    """One resolver's budget, as ``settings`` allow; times are seconds of the caller's clock.

    ``inflight``: its queries that wait for an answer, which upstreams count here.
    """

    __slots__ = (
        "_settings",
        "inflight",
        "rate",
        "_tokens",
        "_filled",
        "_second",
        "_asked",
        "_asked_before",
        "_refused",
        "_slowed",
        "spare_places",
    )

    def __init__(self, settings: BudgetSettings) -> None:
        self._settings = settings
        self.inflight = 0
        self.rate = float(settings.queries_per_second)
        """Queries per second allowed now, 0 for no limit."""
        self._tokens = float(settings.burst)
        self._filled = 0.0
        self._second = 0.0  # when the one that is counted began
        self._asked = 0  # in this second
        self._asked_before = 0  # in the one before
        self._refused = 0  # in this second
        self._slowed = float("-inf")
        self.spare_places = (settings.max_inflight + 1) // 2
        """Queries in flight below which others than first answers may go."""

    def has_room(self, now: float, *, first: bool) -> bool:
        """Return whether one more query may go; ``first``: a client waits for its answer."""
        if self.inflight >= (self._settings.max_inflight if first else self.spare_places):
            return False
        if not self.rate:
            return True
        self._refill(now)
        burst = self._burst
        return self._tokens >= (1 if first else min(burst, burst / 2 + 1))

    def room_at(self, now: float) -> float:
        """Return the earliest time at which a first answer may be asked for."""
        if not self.rate:
            return now
        self._refill(now)
        return now + max(0.0, 1 - self._tokens) / self.rate

    def spend(self, now: float) -> None:
        """Note a query that goes out."""
        if now >= self._second + 1:
            second = float(int(now))
            self._asked_before = self._asked if second == self._second + 1 else 0
            self._second, self._asked, self._refused = second, 0, 0
            self._recover()
        self._asked += 1
        if self.rate:
            self._refill(now)
            self._tokens -= 1

    def refused(self, now: float) -> None:
        """Note a refusal. Many of them under load mean that we ask too much: the rate falls, once
        a second at most, since the refusals of one burst come together. A few only mean that some
        names are refused.
        """
        self._refused += 1
        load = max(self._asked, self._asked_before)
        many = self._refused >= max(REFUSALS, REFUSED_SHARE * load)
        if many and load > LOAD and now >= self._slowed + 1:
            self._slowed = now
            self._refill(now)
            least = min(_LEAST_RATE, self.rate or _LEAST_RATE)
            self.rate = max(least, _FALL * (min(load, self.rate) if self.rate else load))
            self._tokens = min(self._tokens, self._burst)

    def pause(self, now: float, seconds: float) -> None:
        """Let no query go for ``seconds``, as the upstream has asked, though for `LONGEST_PAUSE` at
        most, and few for a while after.
        """
        seconds = min(seconds, LONGEST_PAUSE)
        self._slowed = now
        self.rate = min(self.rate or LOAD, float(LOAD))
        self._filled = now
        self._tokens = 1 - seconds * self.rate

    @property
    def _burst(self) -> float:
        burst = float(self._settings.burst)
        if self.rate == self._settings.queries_per_second:
            return burst
        return min(burst, max(2.0, self.rate))  # slowed down

    def _recover(self) -> None:
        limit = self._settings.queries_per_second
        if not self.rate:
            return
        self.rate *= _RISE
        if limit and self.rate >= limit:
            self.rate = float(limit)
        elif not limit and self.rate > 100 * LOAD:
            self.rate = 0.0

    def _refill(self, now: float) -> None:
        if self.rate:
            self._tokens = min(self._burst, self._tokens + (now - self._filled) * self.rate)
        self._filled = now
