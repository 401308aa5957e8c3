"""The forwarder: the end of the resolver chain, one collection per question at a time.

A question that is being collected is never asked again meanwhile: newcomers join (single flight,
docs/specification.rst, Flights and generations). Each collection gets the next generation number,
and a collection that has ended leaves nothing behind but its entry in the cache.

Starting a collection is the dearest thing that a query can cause. So that answers which are
there already need not wait behind it, in one turn of the reactor only `STARTS_PER_TURN` begin, or
on a slow machine as many as `TURN` lasts for; the others queue for the next turns. Everything that
can wait is bounded, and the oldest makes room for the newest: whoever asked first has given up
first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container, Mapping
from functools import partial
from typing import NamedTuple

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.collecting import Merger
from staggerdns.resolver.collection import Collection
from staggerdns.resolver.context import CollectionContext, not_routed
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.secondlevel import SecondLevel
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.strategy import Strategy
from staggerdns.traces.trace import Traces
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.key import DEFAULT_SCOPE
from staggerdns.wire.question import Question
from staggerdns.wire.rebinding import Rebinding

MAX_COLLECTIONS = 10_000
"""Collections under way at once; one more ends the oldest."""
MAX_FOLLOWERS = 1_000
"""Clients waiting for one collection; for one more, the oldest gets SERVFAIL."""
MAX_QUEUED = 2_000
"""Collections that wait for their turn; for one more, the oldest is dropped with SERVFAIL."""
STARTS_PER_TURN = 16
"""Collections that begin in one turn of the reactor, between two looks at its sockets."""
SPARE_STARTS = STARTS_PER_TURN // 2
SPARE_COLLECTIONS = MAX_COLLECTIONS // 2
"""How many of the two may be there when one more begins for which nobody waits."""
TURN = 0.001
"""Seconds after the first of them from which on no more begin in this turn."""


class WayOfAsking(NamedTuple):
    """How questions of a scope are asked: by which ``strategy``, what may join a pool
    (``settings``), and whose answers must have no private addresses, `None` for nobody's.

    ``fallback``: those that nobody answers there are asked as the default scope says. ``route``:
    what metrics call the routes that lead there, empty for the default scope. ``second_level``:
    what other servers know of the scope's names, if anybody tells.
    """

    strategy: Strategy
    settings: ParallelSettings
    rebinding: Rebinding | None
    fallback: bool = False
    route: str = ""
    second_level: SecondLevel | None = None


def _ignore_failure(_: bool) -> None:
    """Do nothing: nobody wants to hear of failures yet."""


class Forwarder:
    """Collects answers and commits them to ``cache``.

    ``strategy``, ``settings`` and ``rebinding`` are those of the default scope: how its upstreams
    are asked, what may join a pool, and whose answers must have no private addresses, `None` for
    nobody's. ``address_filter``: the rules about addresses in all answers, if there are any.
    ``is_routed`` tells which names are not for the default scope, by their types. ``traces`` keep
    the record of each collection; without them there is none. `use` puts the rules of more scopes,
    or of another configuration, in their place.
    """

    def __init__(
        self,
        strategy: Strategy,
        cache: AnswerCache,
        settings: ParallelSettings,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
        rebinding: Rebinding | None = None,
        address_filter: AddressFilter | None = None,
        is_routed: Callable[[bytes, int], bool] = not_routed,
        traces: Traces | None = None,
    ) -> None:
        self.traces = Traces(0) if traces is None else traces
        self._clock = clock
        self._journal = journal
        self._cache = cache
        self._metrics = metrics
        self._tell_failure: Callable[[bool], None] = _ignore_failure
        rules = WayOfAsking(strategy, settings, rebinding)
        self._default = self._context(rules, address_filter)
        self._contexts: dict[int, CollectionContext] = {}  # by the number of the scope
        self.use({DEFAULT_SCOPE: rules}, address_filter, is_routed)
        self._collections: dict[bytes, Collection] = {}
        self._detached: dict[Collection, None] = {}
        self._endings: list[tuple[set[Collection], Deferred[None]]] = []
        self._followers = metrics.followers.cell()
        self._refreshes = metrics.refreshes.cell()
        self._prefetches = metrics.prefetches.cell()
        self._evictions = metrics.evicted_queries
        self._closed = False
        self._queue: deque[Collection] = deque()
        self._turn: IDelayedCall | None = None
        self._evicted: list[tuple[Deferred[Entry], str]] = []
        self._turn_end = 0.0
        self._starts = 0  # in this turn; `_turn` is set while it is not 0
        metrics.collections_queued.read_from(lambda: len(self._queue))
        metrics.collections.read_from(lambda: len(self._collections))

    def use(
        self,
        scopes: Mapping[int, WayOfAsking],
        address_filter: AddressFilter | None,
        is_routed: Callable[[bytes, int], bool],
    ) -> None:
        """Begin collections by these rules from now on, by the numbers of scopes; what is under way
        goes on as it began.
        """
        self._default = default = self._context(scopes[DEFAULT_SCOPE], address_filter)
        default.is_routed = is_routed
        default.failed = self._tell_failure
        self._contexts = {DEFAULT_SCOPE: default}
        for number, rules in scopes.items():
            if number != DEFAULT_SCOPE:
                context = self._contexts[number] = self._context(rules, address_filter)
                if rules.fallback:
                    context.fall_back = partial(self._fall_back, default)

    def detach(self, numbers: Container[int]) -> Deferred[None]:
        """Let nobody join what is being collected in these scopes: it goes on for those who wait.

        Return a Deferred that fires when all collections that are under way now have ended.
        """
        for key, collection in [*self._collections.items()]:
            if collection.question.scope in numbers:
                del self._collections[key]
                self._detached[collection] = None
        while len(self._detached) > MAX_COLLECTIONS:
            self._drop(next(iter(self._detached)), "collections")
        under_way = {*self._collections.values(), *self._detached}
        if not under_way:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._endings.append((under_way, ended))
        return ended

    def find(self, question: Question, now: float) -> Deferred[Entry]:
        """Return a Deferred of the entry for ``question``; it does not fail, but for `cancel`.

        ``now``: seconds of the clock.
        """
        collection = self._collections.get(question.key)
        if collection is not None:
            self._followers.value += 1
        else:
            collection = self._start(question, now)
            if collection is None:
                return succeed(_failure(now))
        follower = collection.join(now)
        if len(collection.followers) > MAX_FOLLOWERS:
            self._evict([collection.evict_oldest()], "followers")
        self._make_room()
        return follower

    def refresh(self, question: Question, now: float) -> None:
        """Collect anew behind an answer that was given, unless that is under way."""
        if question.key not in self._collections and self._start(question, now) is not None:
            self._refreshes.value += 1
            self._make_room()

    def under_way(self, key: bytes) -> Mapping[Exchange, Upstream]:
        """Return the queries that wait for upstreams' replies to a question, and who was asked."""
        collection = self._collections.get(key)
        run = None if collection is None else collection.run
        return {} if run is None else run.outstanding

    def ended(self, key: bytes) -> Deferred[None]:
        """Return a Deferred that fires when nothing is being collected for a question."""
        collection = self._collections.get(key)
        if collection is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        self._endings.append(({collection}, ended))
        return ended

    def prefetch(self, question: Question, now: float) -> bool:
        """Collect anew ahead of time, if that takes nothing from those who wait for answers; return
        whether the question is being collected.
        """
        if question.key in self._collections:
            return True
        if (
            self._queue
            or self._starts >= SPARE_STARTS
            or (self._starts and now >= self._turn_end)
            or len(self._collections) >= SPARE_COLLECTIONS
            or not self._contexts[question.scope].strategy.context.can_spare()
            or self._start(question, now) is None
        ):
            return False
        self._prefetches.value += 1
        return True

    def tell_failures(self, listener: Callable[[bool], None]) -> None:
        """Call ``listener`` when the default upstreams have answered nothing to a question, with
        whether we were served.
        """
        self._tell_failure = self._default.failed = listener

    def close(self) -> None:
        """Cancel every collection and start no more; whoever waits gets SERVFAIL."""
        self._closed = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        self._queue.clear()
        self._fail_evicted()
        self._endings.clear()
        while self._detached:
            self._detached.popitem()[0].cancel()
        while self._collections:
            self._collections.popitem()[1].cancel()

    def _context(
        self, rules: WayOfAsking, address_filter: AddressFilter | None
    ) -> CollectionContext:
        return CollectionContext(
            rules.strategy,
            self._cache,
            rules.settings,
            self._clock,
            self._metrics,
            self._journal,
            rules.rebinding,
            address_filter,
            self.traces,
            rules.route,
            rules.second_level,
        )

    def _start(self, question: Question, now: float) -> Collection | None:
        if self._closed:
            return None
        context = self._contexts[question.scope]
        collection = Collection(question, next(self._cache.generations), context, self._forget, now)
        self._collections[question.key] = collection
        if self._queue or (
            self._starts and (self._starts >= STARTS_PER_TURN or now >= self._turn_end)
        ):
            self._queue.append(collection)
            return collection
        if not self._starts:
            self._turn_end = now + TURN
            self._schedule_turn()
        self._begin(collection)
        return None if collection.abandoned else collection

    def _begin(self, collection: Collection) -> None:
        """Ask; a defect in that costs this collection and no other."""
        self._starts += 1
        try:
            collection.begin()
        except Exception:  # noqa: BLE001
            self._failed_to_begin(collection)

    def _fall_back(self, default: CollectionContext, collection: Merger) -> None:
        """Ask the ``default`` upstreams what those of another scope have not answered."""
        assert isinstance(collection, Collection)
        try:
            collection.begin_anew(default)
        except Exception:  # noqa: BLE001
            self._failed_to_begin(collection)

    def _failed_to_begin(self, collection: Collection) -> None:
        self._journal.failure("a collection has failed to begin")
        key = collection.question.key
        if self._collections.get(key) is collection or collection in self._detached:
            self._drop(collection, "")  # it has not ended

    def _make_room(self) -> None:
        """Drop the oldest where one more has come than there may be."""
        if len(self._queue) > MAX_QUEUED:
            self._drop(self._queue.popleft(), "queued")
        if len(self._collections) > MAX_COLLECTIONS:
            self._drop(next(iter(self._collections.values())), "collections")

    def _take_turn(self) -> None:
        """Begin as many collections as one turn may, the oldest first."""
        self._turn = None
        self._starts = 0
        self._fail_evicted()
        if not self._queue:
            return
        self._schedule_turn()
        now = self._clock.seconds()
        self._turn_end = now + TURN
        while self._queue and self._starts < STARTS_PER_TURN and now < self._turn_end:
            collection = self._queue.popleft()
            if not collection.abandoned:
                self._begin(collection)
                now = self._clock.seconds()

    def _schedule_turn(self) -> None:
        if self._turn is None:
            self._turn = self._clock.callLater(0, self._take_turn)

    def _drop(self, collection: Collection, limit: str) -> None:
        """End a collection before its time, without marks on anybody."""
        if collection.abandoned:
            return
        self._forget(collection)
        self._evict(collection.abandon(), limit)

    def _evict(self, waiting: list[Deferred[Entry]], limit: str) -> None:
        """Have followers fail in the next turn: who fails may ask again at once, and must not nest.

        ``limit``: what they are counted under, empty for a defect, which is in the log.
        """
        if waiting:
            self._evicted += [(follower, limit) for follower in waiting]
            self._schedule_turn()

    def _fail_evicted(self) -> None:
        """Give SERVFAIL to those who shall wait no longer."""
        if not self._evicted:
            return
        evicted, self._evicted = self._evicted, []
        failure = _failure(self._clock.seconds())
        for follower, limit in evicted:
            if not follower.called:  # it may have gone away meanwhile
                if limit:
                    self._evictions.cell(limit).value += 1
                follower.callback(failure)

    def _forget(self, collection: Collection) -> None:
        """Forget a collection that has ended."""
        key = collection.question.key
        if self._collections.get(key) is collection:
            del self._collections[key]
        elif self._detached:
            self._detached.pop(collection, None)
        if self._endings:
            self._note_end(collection)

    def _note_end(self, collection: Collection) -> None:
        """Fire the Deferreds of `detach` for which this was the last one."""
        endings, self._endings = self._endings, []
        for under_way, ended in endings:
            under_way.discard(collection)
            if under_way:
                self._endings.append((under_way, ended))
            else:
                ended.callback(None)


def _failure(now: float) -> Entry:
    """Return a failure that the cache does not keep."""
    return Entry(FailureAnswer(Ede.OTHER, 0), 0, now)
