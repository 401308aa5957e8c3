"""Whether an upstream is worth asking: a circuit breaker per upstream (docs/specification.rst,
Health).

States and what moves between them:

    healthy    --degraded_after failures in a row-->   degraded
    degraded   --unhealthy_after failures in a row-->  unhealthy (circuit open)
    unhealthy  --open_for has passed-->                one trial query
    trial good -->  degraded;  trial bad --> unhealthy again, for twice as long, up to a cap
    degraded   --heal_after successes in a row-->      healthy

What counts as what:

    an answer, NXDOMAIN, NODATA                                success
    no reply in time, a network error                          failure
    an error reply to what nobody answered well                nothing
    an error reply to what others answered well                failure, once for each zone
                                                               or type in a row
    malformed, too large for TCP, an Extended DNS Error        nothing
    about DNSSEC or blocking (see `staggerdns.upstream.blame`)
    any of the last two after `LONG_SERIES` that said nothing  failure
    a query that we cancelled                                  nothing
    a query that was asked before the circuit closed           nothing

The last is not the trial, and after an outage of our uplink such failures still trickle in. While
nobody answers at all the fault is likely the uplink's: then circuits open for `OUTAGE_RETRY` only,
and trials do not wait for each other. The module keeps no clock: times are arguments, in seconds
of the caller's monotonic clock.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf

from staggerdns.settings.upstreams import HealthSettings

OUTAGE_RETRY = 0.5
"""Seconds between two trials of an upstream while no upstream answers."""
HEALING = 1.0
"""Seconds after a good reply of a degraded upstream to the next query for its sake."""
LONG_SERIES = 50
"""Error replies in a row that may be the fault of the names: those behind them are failures."""
DOUBTFUL = 0.2
"""Share of contradicted negatives above which others are asked first."""
_WEIGHT = 0.05  # the weight of one negative in that share


class State(IntEnum):
    """The state of an upstream, best first; the value is what the metrics show."""

    HEALTHY = 0
    DEGRADED = 1
    UNHEALTHY = 2


_HEALTHY, _DEGRADED, _UNHEALTHY = State


class Health:
    """The health of one upstream. The methods that note something return the new state if it
    has just changed, else `None`.
    """

    __slots__ = (
        "_settings",
        "state",
        "_failures",
        "_successes",
        "_open_for",
        "_open_until",
        "_trial_until",
        "_visit_at",
        "_alone",
        "_good_since",
        "_subjects",
        "_excused",
        "last_failed",
    )

    def __init__(self, settings: HealthSettings) -> None:
        self._settings = settings
        self.state = _HEALTHY
        self._failures = 0
        self._successes = 0
        self._open_for = settings.open_for
        self._open_until = 0.0
        self._trial_until = 0.0  # no other trial before then
        self._visit_at = 0.0
        self._alone = True
        self._good_since = 0.0
        self._subjects: set[bytes] = set()  # of error replies that counted, with no success since
        self._excused = 0  # those that did not
        self.last_failed = inf
        """When the query was asked that failed last, with no success since."""

    def succeed(self, other: Health) -> None:
        """Adopt the state of ``other``, by the settings that count here. What becomes of queries
        under way, the other one hears: if one was the trial, another may follow.
        """
        settings = self._settings
        self.state = other.state
        self._failures = other._failures
        self._successes = other._successes
        self._open_for = min(max(other._open_for, settings.open_for), settings.max_open_for)
        self._open_until = other._open_until
        self._visit_at = other._visit_at
        self._alone = other._alone
        self._good_since = other._good_since
        self._subjects = {*other._subjects}
        self._excused = other._excused
        self.last_failed = other.last_failed

    @property
    def failures(self) -> int:
        """Failures in a row up to now."""
        return self._failures

    def usable(self, now: float) -> bool:
        """Return whether the upstream should be asked at ``now``: not while its circuit is open,
        and only once when the time for a trial has come.
        """
        if self.state != _UNHEALTHY:
            return True
        return now >= self._open_until and now >= self._trial_until

    def wants_visit(self, now: float) -> bool:
        """Return whether a query should go there for the sake of its health alone: a trial that is
        due, or one that may heal a degraded upstream which nobody asks otherwise.
        """
        if self.state == _UNHEALTHY:
            return self.usable(now)
        return self.state == _DEGRADED and now >= self._visit_at

    def asked(self, now: float) -> None:
        """Note that a query is on its way: the trial, if the time for one has come."""
        self._visit_at = now + self._settings.open_for
        if self.state == _UNHEALTHY and now >= self._open_until:
            self._trial_until = inf if self._alone else now + OUTAGE_RETRY

    def abandoned(self, asked: float) -> None:
        """Note that a query of the time ``asked`` says nothing about the upstream: if it was the
        trial, another one may follow.
        """
        if asked >= self._open_until:
            self._trial_until = 0.0

    def excuses(self, subject: bytes | None, asked: float) -> bool:
        """Return whether an error reply to a query of the time ``asked``, which others answered
        well, may be no fault of the upstream's; if not, it goes to `failed`.

        ``subject``: the zone or type that it may be about, `None` for what says that itself.
        """
        if asked < self._good_since:
            return True
        if subject is not None and self.state is _UNHEALTHY:
            return False
        if subject is not None and subject not in self._subjects:
            self._subjects.add(subject)
            return False
        self._excused += 1
        return self._excused <= LONG_SERIES

    def succeeded(self, now: float, asked: float) -> State | None:
        """Note a good reply to a query of the time ``asked``."""
        if asked > self._good_since:  # noqa: PLR1730 (max() is slower)
            self._good_since = asked
        self._failures = 0
        self._excused = 0
        if self._subjects:
            self._subjects.clear()
        self.last_failed = inf
        if self.state is _HEALTHY:
            return None
        self._trial_until = 0.0
        self._visit_at = now + HEALING
        self._open_until = min(self._open_until, now)
        self._successes += 1
        if self._successes >= self._settings.heal_after:
            self._open_for = self._settings.open_for
            return self._become(_HEALTHY)
        return self._become(_DEGRADED)

    def failed(self, now: float, asked: float, *, alone: bool) -> State | None:
        """Note a bad reply to a query of the time ``asked``. ``alone``: other upstreams are doing
        better; when all fail at once the fault is likely our own uplink, and the circuit opens for
        a moment only.
        """
        if asked < self._open_until or asked < self._good_since:
            return None  # a later query says more
        self.last_failed = asked
        self._visit_at = now + self._settings.open_for
        self._failures += 1
        self._successes = 0
        if self.state == _UNHEALTHY:
            if alone and self._alone:
                self._open_for = min(2 * self._open_for, self._settings.max_open_for)
            self._open_circuit(now, alone=alone)
            return None
        if self._failures >= self._settings.unhealthy_after:
            self._open_circuit(now, alone=alone)
            return self._become(_UNHEALTHY)
        if self._failures >= self._settings.degraded_after:
            return self._become(_DEGRADED)
        return None

    def saved(self, now: float) -> tuple[int, int, int, float, float, bool]:
        """Return state, failures and successes in a row, the seconds for which the circuit opens
        and will still be open, and whether the upstream was alone with its failures.
        """
        left = max(0.0, self._open_until - now) if self.state is _UNHEALTHY else 0.0
        open_for = float(self._open_for)  # a setting may be a number of a kind of its own
        return self.state, self._failures, self._successes, open_for, left, self._alone

    def restore(
        self,
        state: State,
        failures: int,
        successes: int,
        open_for: float,
        left: float,
        now: float,
        *,
        alone: bool,
    ) -> None:
        """Go on from what `saved` has returned once, unless a reply has said something since."""
        if self.state is not _HEALTHY or self._failures or self._good_since:
            return
        settings = self._settings
        self.state = state
        self._failures, self._successes = failures, successes
        self._open_for = min(max(open_for, settings.open_for), settings.max_open_for)
        self._open_until = now + min(left, self._open_for)
        self._alone = alone

    def _open_circuit(self, now: float, *, alone: bool) -> None:
        self._alone = alone
        self._trial_until = 0.0
        self._open_until = now + (self._open_for if alone else min(self._open_for, OUTAGE_RETRY))

    def _become(self, state: State) -> State | None:
        if state == self.state:
            return None
        if state != _DEGRADED or self.state == _HEALTHY:
            self._successes = 0
        self.state = state
        return state


class NegativeTrust:
    """Whether an upstream's negative answers can be believed: how often others contradict them.

    One that denies what exists, quickly, would sit in the active tier for ever and leave its work
    to the other one there.
    """

    __slots__ = ("_contradicted",)

    def __init__(self) -> None:
        self._contradicted = 0.0

    def negative(self, *, contradicted: bool) -> None:
        """Note a negative answer, and whether somebody else knew better."""
        self._contradicted += _WEIGHT * (contradicted - self._contradicted)

    @property
    def contradicted(self) -> float:
        """The share of its negatives that was contradicted of late."""
        return self._contradicted

    def restore(self, contradicted: float) -> None:
        """Go on from that share, unless there was a negative since."""
        if not self._contradicted:
            self._contradicted = contradicted

    @property
    def doubtful(self) -> bool:
        """Whether more than `DOUBTFUL` of its negatives were contradicted of late."""
        return self._contradicted > DOUBTFUL


class Uplink:
    """What all upstreams of a program have in common: the uplink.

    ``last_worked``: when the latest query was asked that anybody answered well. An upstream that
    failed since is not alone with that: the uplink is likely at fault.
    """

    __slots__ = ("last_worked",)

    def __init__(self) -> None:
        self.last_worked = -inf
