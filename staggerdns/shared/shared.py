"""The second level of the cache, put together: what a configuration wants of it, while it runs.

Nothing waits for it, at the start or later. A reload that changes its settings puts another one in
its place; collections that are under way go on without it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.files import Unreadable
from staggerdns.journal import Journal
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from staggerdns.settings.shared import SharedSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.breaker import Breaker
from staggerdns.shared.checks import read_password
from staggerdns.shared.flushes import Flush, Flushes
from staggerdns.shared.level import Access, ScopeLevel
from staggerdns.shared.metrics import SharedMetrics
from staggerdns.shared.poll import Poll
from staggerdns.shared.roundtrips import RoundTrips

if TYPE_CHECKING:  # an extra
    from staggerdns.shared.redis import RedisStore

ApplyFlush = Callable[[Flush, float], object]


class Shared:
    """The second level: `use` what a configuration says, `open` and `close` it.

    ``resolve`` finds the host of the store if it is a name. ``table`` returns the round trips that
    are known here, if anything is measured.
    """

    def __init__(
        self,
        reactor: Any,
        clock: IReactorTime,
        journal: Journal,
        resolve: Callable[[str], Deferred[Sequence[str]]],
        table: Callable[[], RttTable | None],
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self.metrics = SharedMetrics(
            lambda: self._level is not None and self._level.access.breaker.closed
        )
        self._journal = journal
        self._resolve = resolve
        self._table = table
        self._settings = SharedSettings()
        self._ranking = RankingSettings()
        self._password = ""
        self._since = clock.seconds()
        self._problem = ""
        self._level: _Level | None = None
        self.apply_flush: ApplyFlush = lambda *_: None
        """Forgets here what was flushed elsewhere so many seconds ago, if it was stored before."""
        self._flushes = Flushes(self._flushed_elsewhere)
        self._is_open = False

    def use(self, settings: SharedSettings, ranking: RankingSettings) -> None:
        """Go by these settings from now on, and by what the file of the password has now;
        ``ranking``: how round trips are measured.
        """
        password = self._read_password(settings)
        if (settings, ranking, password) == (self._settings, self._ranking, self._password):
            return
        is_same_store = settings.url == self._settings.url
        self._settings, self._ranking, self._password = settings, ranking, password
        if self._level is not None:
            self._level.stop()
            if not is_same_store:
                self._flushes = self._flushes.of_another_store()
        self._since = self._clock.seconds()
        self._problem = ""
        self._level = None if settings.url is None else self._make_level(settings)
        if self._level is not None and self._is_open:
            self._level.start()

    def of(
        self, digest: bytes, names: frozenset[str], settings: ParallelSettings
    ) -> ScopeLevel | None:
        """Return the second level for a scope, `None` if there is none: see `ScopeLevel`."""
        if self._level is None:
            return None
        return ScopeLevel(self._level.access, digest, names, settings)

    def shown(self) -> dict[str, Any] | None:
        """Return how the second level is, as ``status`` shows it; `None` if there is none."""
        level = self._level
        if level is None:
            return None
        return {
            "store": str(self._settings.url),
            "site": self._settings.site,
            "asked": level.access.breaker.closed,
            "seconds": round(self._clock.seconds() - self._since, 3),
            "problem": "" if level.access.breaker.closed else self._problem or level.store.problem,
        }

    def flush(self, flush: Flush) -> None:
        """Have the other servers do what was flushed here, as soon as the store can be told."""
        if self._level is not None:
            self._level.access.flushes.add(flush)
            self._level.poll.flush()

    def open(self) -> None:
        """Connect to the store, now and whenever there is no connection."""
        if not self._is_open and self._level is not None:
            self._level.start()
        self._is_open = True

    def close(self) -> None:
        """Close all connections."""
        self.use(SharedSettings(), self._ranking)

    def _make_level(self, settings: SharedSettings) -> _Level:
        """Return what asks the store of these settings."""
        store = self._make_store(settings)
        access = Access(
            store,
            Breaker(lambda why: self._changed(why, settings)),
            self._flushes,
            RoundTrips(store, settings.site, self._ranking, self._table, self._clock.seconds()),
            settings.timeout,
            self._clock,
            self.metrics,
            self._journal,
        )
        return _Level(store, access, Poll(access))

    def _make_store(self, settings: SharedSettings) -> RedisStore:
        from staggerdns.shared.redis import RedisStore  # noqa: PLC0415 (an extra)

        assert settings.url is not None
        return RedisStore(
            settings.url,
            self._password,
            settings.tls_ca,
            reactor=self._reactor,
            clock=self._clock,
            resolve=self._resolve,
        )

    def _read_password(self, settings: SharedSettings) -> str:
        try:
            return read_password(settings)
        except Unreadable as error:  # it was there when the configuration was read
            self._journal.warn("cache.shared.password: {problem}", problem=str(error))
            return ""

    def _flushed_elsewhere(self, flush: Flush, age: float) -> None:
        self.apply_flush(flush, age)

    def _changed(self, why: str, settings: SharedSettings) -> None:
        """Log that the second level is asked again, or why it is not any more."""
        self._since = self._clock.seconds()
        self._problem = why
        if why:
            self._journal.warn(
                "the second level {store} is not asked: {problem}",
                store=str(settings.url),
                problem=why,
            )
        else:
            self._journal.info("the second level {store} is asked", store=str(settings.url))


class _Level(NamedTuple):
    """What there is of the second level by one configuration."""

    store: RedisStore
    access: Access
    poll: Poll

    def start(self) -> None:
        """Connect, and poll."""
        self.store.start()
        self.poll.start()

    def stop(self) -> None:
        """Ask nothing any more."""
        self.access.close()
        self.poll.stop()
        self.store.stop()
