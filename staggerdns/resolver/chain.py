"""The whole chain as one resolver, for Twisted programs that want answers and no server."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from staggerdns.resolver.base import WireResolver
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.wire.answer import Answer
from staggerdns.wire.question import Question


class CachingResolver(WireResolver):
    """Answers from ``cache``, else through ``forwarder``."""

    def __init__(self, cache: AnswerCache, forwarder: Forwarder) -> None:
        super().__init__()
        self._cache = cache
        self._forwarder = forwarder

    def find(self, question: Question) -> Deferred[Entry] | Entry:
        """Return the entry for ``question``, now or later."""
        entry = self._cache.find(question)
        return entry if entry is not None else self._forwarder.find(question)

    def living(self, entry: Entry) -> Answer:
        """Return what of an entry a client may be given now: the cache knows."""
        return self._cache.living(entry)

    def reply_ttl(self, entry: Entry) -> int:
        """Return the TTL in seconds that a client may be given now."""
        return self._cache.reply_ttl(entry)
