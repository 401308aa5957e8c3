"""The forwarder: the end of the resolver chain, one collection per question at a time.

A question that is being collected is never asked again meanwhile: newcomers join
(single flight, SPEC section 2). Each collection gets the next generation number, and a collection
that has ended leaves nothing behind but its entry in the cache.
"""

from __future__ import annotations

from itertools import count

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.base import WireResolver
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.collection import Books, Collection, PoolRules
from staggerdns.resolver.entry import Entry
from staggerdns.strategy.strategy import Strategy
from staggerdns.wire.answer import Failed
from staggerdns.wire.constants import Ede
from staggerdns.wire.question import Question

MAX_COLLECTIONS = 20_000
"""Collections under way at once; a new question beyond them gets SERVFAIL."""
MAX_FOLLOWERS = 1_000
"""Clients waiting for one collection; one more gets SERVFAIL."""


class Forwarder(WireResolver):
    """Collects answers with ``strategy`` and commits them to ``cache``."""

    def __init__(
        self,
        strategy: Strategy,
        cache: AnswerCache,
        rules: PoolRules,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        super().__init__()
        self._strategy = strategy
        self._cache = cache
        self._books = Books(cache, rules, clock, metrics, journal)
        self._clock = clock
        self._collections: dict[bytes, Collection] = {}
        self._generations = count(1)
        self._followers = metrics.followers.cell()
        self._refreshes = metrics.refreshes.cell()
        self._shed = metrics.shed.cell()
        self._closed = False
        metrics.collections.read_from(lambda: len(self._collections))

    def find(self, question: Question) -> Deferred[Entry]:
        """Return a Deferred of the entry for ``question``; it does not fail, but for `cancel`."""
        collection = self._collections.get(question.key)
        if collection is not None:
            if len(collection.followers) >= MAX_FOLLOWERS:
                return self._refuse()
            self._followers.value += 1
            return collection.join()
        collection = self._start(question)
        return self._refuse() if collection is None else collection.join()

    def refresh(self, question: Question) -> None:
        """Collect anew behind an answer that was given, unless that is under way."""
        if question.key not in self._collections and self._start(question) is not None:
            self._refreshes.value += 1

    def reply_ttl(self, entry: Entry) -> int:
        """Return the TTL in seconds that a client may be given now: the cache knows."""
        return self._cache.reply_ttl(entry)

    def close(self) -> None:
        """Cancel every collection and start no more; whoever waits gets SERVFAIL."""
        self._closed = True
        while self._collections:
            self._collections.popitem()[1].cancel()

    def _start(self, question: Question) -> Collection | None:
        if self._closed or len(self._collections) >= MAX_COLLECTIONS:
            return None
        collection = Collection(question, next(self._generations), self._books, self._ended)
        self._collections[question.key] = collection
        collection.begin(self._strategy.ask(question, collection))
        return collection

    def _ended(self, key: bytes) -> None:
        self._collections.pop(key, None)

    def _refuse(self) -> Deferred[Entry]:
        self._shed.value += 1
        return succeed(Entry(Failed(Ede.OTHER, 0), 0, self._clock.seconds(), 0))
