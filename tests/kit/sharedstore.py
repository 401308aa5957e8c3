"""A store in memory on a clock, and resolvers that share it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from staggerdns.control.flushing import forget
from staggerdns.ranking.rtt import RttTable
from staggerdns.resolver.forwarder import WayOfAsking
from staggerdns.settings.sections import RankingSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.breaker import Breaker
from staggerdns.shared.flushes import MAX_FLUSHES, Flush, Flushes, NumberedFlush, Polled
from staggerdns.shared.level import Access, ScopeLevel
from staggerdns.shared.metrics import SharedMetrics
from staggerdns.shared.poll import Poll
from staggerdns.shared.roundtrips import RoundTrips
from staggerdns.shared.store import Present, StoreError
from staggerdns.wire.key import DEFAULT_SCOPE
from tests.kit.acts import Act
from tests.kit.simulated import SimulatedResolver

DIGEST = bytes(range(16))
"""Stands for the scope of all resolvers of a test."""


class MemoryStore:
    """A store whose replies take ``delay`` seconds of ``clock``; with ``broken`` they are errors,
    without ``replies`` there are none.
    """

    problem = ""

    def __init__(self, clock: Clock, delay: float = 0.001) -> None:
        self.clock = clock
        self.delay = delay
        self.broken = ""
        self.replies = True
        self.epoch = 0
        self.flushes: list[NumberedFlush] = []
        self.values: dict[bytes, tuple[bytes, float]] = {}
        """Values, and when their keys end."""
        self.commands: list[str] = []
        self.dropped: list[str] = []

    def start(self) -> None:
        """Nothing is to be connected."""

    def stop(self) -> None:
        """Nothing is open."""

    def present(self, key: bytes) -> Present | None:
        """What is under a key now."""
        value, end = self.values.get(key, (b"", 0.0))
        left = round((end - self.clock.seconds()) * 1000)
        return Present(value, left) if left > 0 else None

    def put(self, key: bytes, value: bytes, life: int) -> None:
        """Put a value under a key for so many milliseconds."""
        self.values[key] = value, self.clock.seconds() + life / 1000

    def read(self, keys: Sequence[bytes]) -> Deferred[list[Present | None]]:
        """What is under these keys."""
        return self._later("read", lambda: [self.present(key) for key in keys])

    def replace(
        self, key: bytes, expected: bytes, value: bytes, life: int
    ) -> Deferred[Present | None]:
        """Put a value in the place of the one that is expected, or of none."""

        def do() -> Present | None:
            present = self.present(key)
            if present is not None and present.value != expected:
                return present
            self.put(key, value, life)
            return None

        return self._later("replace", do)

    def write(self, values: Sequence[tuple[bytes, bytes]], life: int) -> Deferred[None]:
        """Put values under their keys."""

        def do() -> None:
            for key, value in values:
                self.put(key, value, life)

        return self._later("write", do)

    def poll(self, epoch: int) -> Deferred[Polled]:
        """What was flushed."""
        return self._later("poll", lambda: self._polled(epoch))

    def flush(self, epoch: int, flushes: Sequence[Flush]) -> Deferred[Polled]:
        """Note flushes."""
        return self._later("flush", lambda: self.flushed(epoch, *flushes))

    def flushed(self, epoch: int, *flushes: Flush) -> Polled:
        """Note flushes now."""
        time = self._polled(epoch).time
        for flush in flushes:
            before, self.epoch = self.epoch, max(self.epoch + 1, time)
            self.flushes.insert(0, NumberedFlush(self.epoch, before, time, flush))
        del self.flushes[MAX_FLUSHES:]
        return Polled(self.epoch, time, [*self.flushes])

    def clear(self) -> None:
        """Forget all, as another server in its place does."""
        self.values.clear()
        self.flushes.clear()
        self.epoch = 0

    def _polled(self, epoch: int) -> Polled:
        time = round(self.clock.seconds() * 1000)
        if not self.epoch or self.epoch < epoch:
            self.epoch = epoch or time
            self.flushes.insert(0, NumberedFlush(self.epoch, epoch, time, None))
        return Polled(self.epoch, time, [] if self.epoch == epoch else [*self.flushes])

    def drop(self, why: str) -> None:
        """Note that the connection is of no use."""
        self.dropped.append(why)

    def _later(self, command: str, do: Any) -> Deferred[Any]:
        self.commands.append(command)
        result: Deferred[Any] = Deferred()

        def reply() -> None:
            if self.broken:
                result.errback(StoreError(self.broken))
            else:
                result.callback(do())

        if self.replies:
            self.clock.callLater(self.delay, reply)
        return result


class SharingResolver(SimulatedResolver):
    """A `SimulatedResolver` with a second level; without ``store`` it makes one on its clock."""

    def __init__(
        self,
        *acts: Act,
        store: MemoryStore | None = None,
        timeout: float = 0.005,
        parallel: ParallelSettings | None = None,
        clock: Clock | None = None,
        **keywords: Any,
    ) -> None:
        if clock is None and store is not None:
            clock = store.clock
        super().__init__(*acts, parallel=parallel, clock=clock, **keywords)
        self.store = store or MemoryStore(self.clock)
        self.table: RttTable | None = None
        self.told: list[str] = []
        self.breaker = Breaker(self.told.append)
        self.breaker.recovered()
        self.shared = SharedMetrics(lambda: self.breaker.closed)
        self.flushes = Flushes(self._flushed)
        self.round_trips = RoundTrips(
            self.store, "here", RankingSettings(), lambda: self.table, self.clock.seconds()
        )
        self.access = Access(
            self.store,
            self.breaker,
            self.flushes,
            self.round_trips,
            timeout,
            self.clock,
            self.shared,
            self.journal,
        )
        self.poll = Poll(self.access)
        settings = parallel or ParallelSettings()
        names = frozenset([upstream.name for upstream in self.upstreams])
        self.level = ScopeLevel(self.access, DIGEST, names, settings)
        ways = WayOfAsking(
            self.strategies.chosen, settings, keywords.get("rebinding"), second_level=self.level
        )
        self.forwarder.use({DEFAULT_SCOPE: ways}, keywords.get("address_filter"), lambda *_: False)

    def flush(self, flush: Flush) -> None:
        """Flush here, and have others do the same."""
        self._flushed(flush, 0.0)
        self.flushes.add(flush)
        self.poll.flush()

    def _flushed(self, flush: Flush, age: float) -> None:
        for _ in forget(self.cache, flush, self.clock.seconds() - age):
            pass

    @property
    def reads(self) -> dict[str, int]:
        """What became of asking the second level, but for what never happened."""
        return {why: cell.value for why, cell in self.shared.reads.items() if cell.value}

    @property
    def writes(self) -> dict[str, int]:
        """What became of pools that were to be written."""
        return {what: cell.value for what, cell in self.shared.writes.items() if cell.value}
