"""The raw cache: answers as collected, at the head of the resolver chain.

Entries are kept in the order of their last use and the least recently used one makes room for
a new one; there is no timer. An entry past its TTL stays for ``max_stale`` seconds: it is
answered with a short TTL while one refresh runs behind (RFC 8767). `AnswerCache.commit` is the
only way in, one synchronous step: an older generation changes nothing, so the order in which
collections end does not matter (SPEC section 2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime
from twisted.names.error import AuthoritativeDomainError

from staggerdns.metrics import Metrics
from staggerdns.resolver.base import WireResolver
from staggerdns.resolver.entry import Entry
from staggerdns.wire.answer import Answer, Failed
from staggerdns.wire.question import Question

FAILURE_TTL = 1
"""Seconds for which a failure is remembered, the least that RFC 9520 section 3.2 allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLimits:
    """Numbers of the cache: entries, and TTLs in seconds (SPEC section 3); 0 turns a TTL off."""

    max_entries: int = 50_000
    fast_response_ttl: int = 5
    user_return_ttl: int = 600
    min_ttl: int = 0
    max_ttl: int = 86_400
    max_negative_ttl: int = 300
    max_stale: int = 3_600


def _no_refresh(_: Question) -> None:
    """Refresh nothing: the cache is not in a chain yet."""


class AnswerCache(WireResolver):
    """Answers by question key, bounded by ``limits``.

    ``refresh`` is called with the question of a stale entry that has been asked for; whoever
    builds the chain sets it.
    """

    def __init__(self, limits: CacheLimits, clock: IReactorTime, metrics: Metrics) -> None:
        super().__init__()
        self.refresh: Callable[[Question], None] = _no_refresh
        self._limits = limits
        self._clock = clock
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._evictions = metrics.cache_evictions.cell()
        metrics.cache_entries.read_from(lambda: len(self._entries))

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, question: Question) -> Entry | None:
        """Return the entry for ``question``, fresh or stale, or `None`."""
        return self.lookup(question.key)

    def exceptionForCode(self, responseCode: int) -> type[Exception]:
        """Return the error of a cached failure: one with which a Twisted chain ends."""
        return AuthoritativeDomainError

    def lookup(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, fresh or stale; a stale one gets its refresh started."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock.seconds()
        if now >= entry.expires:
            if not self._servable(entry, now):
                del self._entries[key]
                entry.alive = False
                return None
            if now >= entry.retry_at:
                entry.retry_at = now + self._limits.fast_response_ttl
                self.refresh(Question(key))
                entry = self._entries.get(key, entry)
        self._entries.move_to_end(key)
        return entry

    def commit(self, key: bytes, generation: int, answer: Answer) -> Entry:
        """Store ``answer`` unless a later collection has stored one; return what now holds.

        An answer without a lifetime is returned as an entry but not kept. A failure never
        takes the place of an answer that can still be given.
        """
        now = self._clock.seconds()
        existing = self._entries.get(key)
        if existing is not None:
            if existing.generation > generation and not existing.derived:
                return existing
            if isinstance(answer, Failed) and self._servable(existing, now):
                existing.retry_at = now + self._limits.fast_response_ttl
                return existing
            existing.alive = False
        lifetime = self._lifetime(answer)
        entry = Entry(answer, generation, now, lifetime)
        if lifetime > 0:
            self._entries[key] = entry
            self._entries.move_to_end(key)
            if len(self._entries) > self._limits.max_entries:
                self._entries.popitem(last=False)[1].alive = False
                self._evictions.value += 1
        elif existing is not None:
            del self._entries[key]
        return entry

    def complete(self, key: bytes, generation: int, answer: Answer | None) -> None:
        """Note that the collection of that generation has ended with ``answer``."""
        entry = self._entries.get(key)
        if entry is not None and entry.generation == generation:
            entry.complete = True

    def is_stale(self, entry: Entry) -> bool:
        """Say whether the entry outlived its TTL."""
        return bool(entry.lifetime) and self._clock.seconds() >= entry.expires

    def reply_ttl(self, entry: Entry) -> int:
        """Return the TTL in seconds that a client may be given now (SPEC section 3)."""
        now = self._clock.seconds()
        if now >= entry.expires:
            kept = entry.lifetime and self._servable(entry, now)
            return self._limits.fast_response_ttl if kept else 0
        age = int(now - entry.stored)
        ttl = max(1, entry.lifetime - age)
        period = self._limits.user_return_ttl
        return min(ttl, period - age % period) if period else ttl

    def true_until(self, entry: Entry) -> float:
        """Return the time at which a reply made now stops being true: its TTL is one too long."""
        now = self._clock.seconds()
        if now >= entry.expires:
            return now + 1
        return min(entry.stored + int(now - entry.stored) + 1, entry.expires)

    def _servable(self, entry: Entry, now: float) -> bool:
        if isinstance(entry.answer, Failed):
            return now < entry.expires
        return now < entry.expires + self._limits.max_stale

    def _lifetime(self, answer: Answer) -> int:
        if isinstance(answer, Failed):
            return FAILURE_TTL
        limits = self._limits
        ttl = answer.ttl
        if answer.negative:
            ttl = min(ttl, limits.max_negative_ttl) if limits.max_negative_ttl else ttl
        else:
            ttl = max(ttl, limits.min_ttl)
        return min(ttl, limits.max_ttl) if limits.max_ttl else ttl
