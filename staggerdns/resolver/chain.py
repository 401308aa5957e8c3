"""The whole chain as one resolver, for Twisted programs that want answers and no server."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.resolver.base import WireResolver
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.wire.answer import Answer
from staggerdns.wire.question import Question


class CachingResolver(WireResolver):
    """Answers from ``cache``, else through ``forwarder``."""

    def __init__(self, cache: AnswerCache, forwarder: Forwarder, clock: IReactorTime) -> None:
        super().__init__(clock)
        self._cache = cache
        self._forwarder = forwarder

    def find(self, question: Question, now: float) -> Deferred[Entry] | Entry:
        """Return the entry for ``question``, at once or later."""
        entry = self._cache.lookup(question.key, now)
        return entry if entry is not None else self._forwarder.find(question, now)

    def living(self, entry: Entry, now: float) -> Answer:
        """Return what of an entry a client may be given at ``now``: the cache knows."""
        return self._cache.living(entry, now)

    def reply_ttl(self, entry: Entry, now: float) -> int:
        """Return the TTL in seconds that a client may be given at ``now``."""
        return self._cache.reply_ttl(entry, now)
