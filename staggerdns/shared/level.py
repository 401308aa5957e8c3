"""The second level for the questions of one scope: how pools are read and written.

    reading --the reply--> round trips of its addresses --> heard
       +--`timeout` is over--> heard: nothing; a pool that comes after that is heard as well
       +--an error, a lost connection--> heard: nothing

    writing --there is what was read, or nothing--> written
       +--there is something else--> merged with it --> writing, `MAX_TRIES` times at most

Whoever writes has read before, so that a pool of others is never lost: it is replaced by one that
is whole, and merged into any other. What is read and written is bounded, and nobody waits for a
write.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.resolver.secondlevel import (
    BUSY,
    ERROR,
    INVALID,
    MISS,
    OPEN,
    PARTIAL,
    TIMEOUT,
    Collected,
    Found,
    Heard,
    Reading,
    Screen,
)
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.breaker import Breaker
from staggerdns.shared.flushes import Flushes
from staggerdns.shared.metrics import BEATEN, LEFT_OUT, MERGED, WRITTEN, SharedMetrics
from staggerdns.shared.pools import pool_key, read_pool, write_pool
from staggerdns.shared.roundtrips import RoundTrips
from staggerdns.shared.store import Present, Store, StoreError
from staggerdns.strategy.alarms import Alarm, Alarms
from staggerdns.wire.pool import GrowingPool, aged
from staggerdns.wire.question import Question

MAX_READINGS = 256
"""Readings under way; for one more, upstreams are asked at once."""
MAX_WRITES = 64
"""Writes under way; one more is left out."""
MAX_TRIES = 3
"""Tries of one write, if others write under the same key meanwhile."""


class Access:
    """What all scopes ask the store with: ``store``, ``breaker``, ``flushes``, ``round_trips``
    and limits.

    ``timeout``: seconds that a reading waits.
    """

    def __init__(
        self,
        store: Store,
        breaker: Breaker,
        flushes: Flushes,
        round_trips: RoundTrips,
        timeout: float,
        clock: IReactorTime,
        metrics: SharedMetrics,
        journal: Journal,
    ) -> None:
        self.store = store
        self.breaker = breaker
        self.flushes = flushes
        self.round_trips = round_trips
        self.timeout = timeout
        self.clock = clock
        self.journal = journal
        self.alarms = Alarms(clock, journal)
        self.metrics = metrics
        self.reading = 0
        self.writing = 0
        self.closed = False

    def close(self) -> None:
        """Ask nothing any more."""
        self.closed = True


class ScopeLevel:
    """The second level for the questions of a scope, by ``access``.

    ``digest`` stands for how its answers come about, ``names`` are its upstreams, ``settings`` say
    what may join a pool.
    """

    def __init__(
        self, access: Access, digest: bytes, names: frozenset[str], settings: ParallelSettings
    ) -> None:
        self.access = access
        self.digest = digest
        self.names = names
        self.settings = settings
        self.reads: Mapping[str, Cell] = access.metrics.reads

    def read(self, question: Question, screen: Screen, heard: Heard) -> Reading | None:
        """Ask the store, unless that makes no sense now."""
        access = self.access
        if access.closed or not access.breaker.closed:
            self.reads[OPEN].value += 1
            return None
        if access.reading >= MAX_READINGS:
            self.reads[BUSY].value += 1
            return None
        reading = PoolReading(self, question, screen, heard)
        reading.begin()
        return reading


class PoolReading:
    """What one collection asks and tells the store."""

    def __init__(self, level: ScopeLevel, question: Question, screen: Screen, heard: Heard) -> None:
        self._level = level
        self._access = level.access
        self._question = question
        self._key = pool_key(level.digest, question)
        self._screen = screen
        self._heard: Heard | None = heard
        self._expected = b""
        self._epoch = level.access.flushes.epoch
        self._pool_epoch = 0  # that of what is there
        self._present: Found | None = None  # what is believed of what is there
        self._alarm: Alarm | None = None
        self._last_turn: IDelayedCall | None = None
        self._began = 0.0

    def begin(self) -> None:
        """Ask the store."""
        access = self._access
        self._began = access.clock.seconds()
        access.reading += 1
        self._alarm = access.alarms.set(self._began + access.timeout, self._alarmed)
        access.store.read([self._key]).addCallbacks(self._came, self._failed).addErrback(
            self._defect
        )

    def cancel(self) -> None:
        """Hear nothing any more."""
        self._heard = None
        self._disarm()

    def _disarm(self) -> bool:
        """Await nothing any more; return whether the time is not over yet."""
        alarm, self._alarm = self._alarm, None
        last_turn, self._last_turn = self._last_turn, None
        if alarm is not None:
            self._access.alarms.cancel(alarm)
        if last_turn is not None:
            last_turn.cancel()
        return alarm is not None or last_turn is not None

    def _alarmed(self) -> None:
        """Look at the socket once more: on a busy machine the reply may be there already."""
        self._alarm = None
        self._last_turn = self._access.clock.callLater(0, self._late)

    def _late(self) -> None:
        """Go on without a reply; it is still welcome."""
        self._last_turn = None
        if self._present is not None:  # without the round trips
            self._conclude(self._present, PARTIAL, in_time=True)
            return
        self._access.breaker.failed("no reply in time")
        self._report(None, TIMEOUT)

    def _came(self, values: list[Present | None]) -> None:
        access = self._access
        access.reading -= 1
        access.metrics.seconds.observe(access.clock.seconds() - self._began)
        in_time = self._alarm is not None or self._last_turn is not None
        if in_time:
            access.breaker.succeeded()
        present = values[0]
        if present is None:
            self._conclude(None, MISS, in_time=in_time)
            return
        self._expected = present.value
        if self._heard is None:
            return
        found = self._believe(present)
        if isinstance(found, str):
            self._conclude(None, found, in_time=in_time)
        else:
            self._present = found
            self._look_for_round_trips(found, in_time=in_time)

    def _look_for_round_trips(self, found: Found, *, in_time: bool) -> None:
        """Learn how far the addresses are, if there is time for it, and tell of the pool."""
        access, now = self._access, self._access.clock.seconds()
        missing = []
        if in_time and len(found.pool.addresses) > 1:
            missing = access.round_trips.missing(found.pool.addresses, now)
        if not missing:
            self._conclude(found, PARTIAL, in_time=in_time)
            return
        read = access.round_trips.read(missing, now)
        read.addBoth(self._round_trips_came, found).addErrback(self._defect)

    def _round_trips_came(self, result: Failure | None, found: Found) -> None:
        if self._disarm():
            self._conclude(found, PARTIAL, in_time=True)
        if isinstance(result, Failure):
            result.trap(StoreError)

    def _failed(self, failure: Failure) -> None:
        failure.trap(StoreError)
        access = self._access
        access.reading -= 1
        in_time = self._disarm()
        access.breaker.failed(failure.getErrorMessage())
        self._conclude(None, ERROR, in_time=in_time)

    def _conclude(self, found: Found | None, why: str, *, in_time: bool) -> None:
        """Tell what has come, if that is of any use by now."""
        self._disarm()
        if found is not None and self._is_flushed(self._question.name, self._pool_epoch):
            self._present, found, why = None, None, MISS  # since it came
        if found is not None or in_time:
            self._report(found, why)

    def _report(self, found: Found | None, why: str) -> None:
        if self._heard is None:
            return
        if found is None:
            self._level.reads[why].value += 1
        self._heard(found, why)

    def _believe(self, present: Present) -> Found | str:
        """Return what can be believed of a value, or why nothing: see `READS`."""
        found = read_pool(self._question, present, self._level.names, self._is_flushed)
        if isinstance(found, str):
            return found
        pool = self._screen(found.pool)
        if pool is None:
            return INVALID
        return Found(pool, found.due, found.answered, found.whole, found.age)

    def _is_flushed(self, name: bytes, epoch: int) -> bool:
        self._pool_epoch = epoch
        return self._access.flushes.covers(name, epoch)

    def is_flushed(self) -> bool:
        """Return whether the name was flushed since the store was asked."""
        return self._access.flushes.covers(self._question.name, self._epoch)

    def write(self, collected: Collected) -> None:
        """Let others have what was collected, unless they know more by now."""
        access = self._access
        if access.closed or not access.breaker.closed:
            return
        if access.writing >= MAX_WRITES or self.is_flushed():
            access.metrics.writes[LEFT_OUT].value += 1
            return
        access.writing += 1
        done = Deferred.fromCoroutine(self._write(collected))
        done.addBoth(self._written).addErrback(self._defect)

    async def _write(self, collected: Collected) -> str:
        """Write, and return what became of it."""
        access, what = self._access, WRITTEN
        if not collected.whole and self._present is not None:
            # What those know who have not answered this time.
            age = access.clock.seconds() - self._began
            collected, what = self._merged(collected, self._present, age), MERGED
        for _ in range(MAX_TRIES):
            made = write_pool(self._question, collected, self._epoch)
            if made is None:
                return LEFT_OUT
            value, life = made
            present = await access.store.replace(self._key, self._expected, value, life)
            if present is None:
                return what
            self._expected = present.value
            theirs = self._believe(present)
            if isinstance(theirs, Found):
                merged, what = self._merged(collected, theirs, 0.0), MERGED
                due, answered = min(merged.due, theirs.due), theirs.answered.union(merged.answered)
                collected = Collected(merged.pool, due, answered, merged.whole)
        return BEATEN

    def _merged(self, collected: Collected, theirs: Found, age: float) -> Collected:
        """Return a pool together with one of others, read so many seconds ago."""
        pool = aged(theirs.pool, ceil(age))
        if pool is None:
            return collected
        settings = self._level.settings
        both = GrowingPool(collected.pool, settings.max_pool_size, private=settings.merge_private)
        both.add(pool, 0, None)
        return Collected(both.pool(), collected.due, collected.answered, collected.whole)

    def _written(self, result: str | Failure) -> None:
        access = self._access
        access.writing -= 1
        if isinstance(result, Failure):
            access.metrics.writes[ERROR].value += 1
            result.trap(StoreError)
        else:
            access.metrics.writes[result].value += 1

    def _defect(self, failure: Failure) -> None:
        """Log what must not happen; whoever waits goes on without the second level."""
        self._access.journal.failure("the second level of the cache has failed", failure)
        self._disarm()
        self._report(None, ERROR)
