"""The ranked cache: answers whose addresses are in the order of their round-trip times.

Every answer goes in with its addresses ordered by what is known already; a sort then measures and
puts them in their final order. The entry is its sort's token: `RankedCache.commit` cancels the
old sort and starts the new one in one step with storing, and a sort that ends for an entry which
has been replaced changes nothing. Until an entry is sorted, and again when its order has
become old, clients get a short TTL, so that they come back for the better order.
(SPEC section 3.)
"""

from __future__ import annotations

from functools import partial

from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.order import order
from staggerdns.ranking.sorts import Sorts
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.settings.sections import CacheSettings, RankingSettings
from staggerdns.wire.answer import Answer, Pool
from staggerdns.wire.key import NAME
from staggerdns.wire.names import to_text
from staggerdns.wire.pool import is_private, is_unicast
from staggerdns.wire.question import Question

UNRANKED_RETRY = 60.0
"""Seconds until the next sort of addresses none of which answered; the order stays as received."""


QUEUE_FULL_RETRY = 0.1
"""Seconds until the next try of a sort for which the queue had no room."""
MAX_RANKED = 128
"""Addresses of one answer; a longer one is given as it came."""


class RankedCache(AnswerCache):
    """An `AnswerCache` that has the addresses of its answers sorted by ``sorts``."""

    def __init__(
        self,
        settings: CacheSettings,
        clock: IReactorTime,
        metrics: Metrics,
        sorts: Sorts,
        ranking: RankingSettings,
        journal: Journal,
    ) -> None:
        super().__init__(settings, clock, metrics)
        self._sorts = sorts
        self._ranking = ranking
        self._journal = journal

    def lookup(self, key: bytes, now: float) -> Entry | None:
        """Return the entry under ``key``; one that is not or no longer sorted gets its sort."""
        entry = super().lookup(key, now)
        if entry is None or not entry.rankable:
            return entry
        if now >= entry.expires or key in self._sorts or now < entry.sort_after:
            return entry
        if entry.sorted_at is None:
            self._sort(key, entry, "sorted_missing", entry.rank, now)
        elif self._order_is_old(entry, now):
            self._sort(key, entry, "rtt_stale", entry.answer.addresses, now)
            if now >= entry.retry_at:
                entry.retry_at = now + self._settings.fast_response_ttl
                self.refresh(Question(key), now)
        return self._entries.get(key, entry)

    def commit(
        self, key: bytes, generation: int, answer: Answer, now: float, since: float | None = None
    ) -> Entry:
        """Store ``answer`` unless a later collection has; cancel the old sort, start a new one."""
        previous = self._entries.get(key)
        if previous is None or not previous.answer.addresses:
            trigger = "first_answer"
        else:
            trigger = "more_addresses" if previous.generation == generation else "refresh"
        ranked = _ranked(previous)
        if 1 < len(answer.addresses) <= MAX_RANKED:
            answer = answer.reordered(order(answer.addresses, self._sorts.table, ranked))
        entry = super().commit(key, generation, answer, now, since)
        if entry.answer is not answer:
            return entry
        entry.rank = ranked
        entry.rankable = self._rankable(answer)
        self._sorts.cancel(key)
        if entry.rankable and self._entries.get(key) is entry:
            self._sort(key, entry, trigger, ranked, now)
        return self._entries.get(key, entry)

    def reply_ttl(self, entry: Entry, now: float) -> int:
        """Return the TTL in seconds that a client may be given at ``now`` (SPEC section 3)."""
        ttl = super().reply_ttl(entry, now)
        answer = entry.answer
        if isinstance(answer, Pool) and not entry.complete:
            return min(ttl, self._settings.fast_response_ttl)
        if entry.rankable and self._order_is_old(entry, now):
            next_sort = int(entry.sort_after - now)
            return min(ttl, max(next_sort, self._settings.fast_response_ttl))
        return ttl

    def _sort(
        self, key: bytes, entry: Entry, trigger: str, ranked: tuple[bytes, ...], now: float
    ) -> None:
        addresses = entry.answer.addresses
        started = self._sorts.start(
            key,
            [address for address in addresses if self._probed(address)],
            addresses,
            ranked,
            trigger,
            now,
            partial(self._sorted, key, entry),
        )
        if not started:  # the order of what is known has to do until a later hit
            known = order(addresses, self._sorts.table, ranked)
            if known != addresses and self._entries.get(key) is entry:
                entry = self._entries[key] = entry.reordered(known)
            entry.sort_after = now + QUEUE_FULL_RETRY

    def _sorted(
        self, key: bytes, entry: Entry, addresses: tuple[bytes, ...] | None, now: float
    ) -> None:
        """Take the order in, if the entry that it was made for still stands."""
        if self._entries.get(key) is not entry:
            return
        if addresses is None:
            entry.sort_after = now + UNRANKED_RETRY
            return
        entry = self._entries[key] = entry.reordered(addresses)
        entry.sorted_at = now
        if entry.complete:
            self._set_due(entry)
        if self._journal.verbose:
            self._journal.debug(
                "{name}: sort done, {count} addresses",
                name=to_text(key[NAME]),
                count=len(addresses),
            )

    def true_until(self, entry: Entry, now: float) -> float:
        """Return the time at which a reply made at ``now`` stops being true.

        One that still has to be sorted is not kept at all: its next hit shall start the sort.
        """
        if entry.sorted_at is None and now >= entry.sort_after and entry.rankable:
            return now
        return super().true_until(entry, now)

    def _rankable(self, answer: Answer) -> bool:
        addresses = answer.addresses
        some = 1 < len(addresses) <= MAX_RANKED
        return some and any(self._probed(address) for address in addresses)

    def _probed(self, address: bytes) -> bool:
        if is_private(address) and (not self._ranking.probe_private or not is_unicast(address)):
            return False
        return self._sorts.measurer.usable(address)

    def _order_is_old(self, entry: Entry, now: float) -> bool:
        return entry.sorted_at is None or now >= entry.sorted_at + self._ranking.rtt_cache_ttl


def _ranked(entry: Entry | None) -> tuple[bytes, ...]:
    """Return the order of the last whole pool that was sorted under an entry's key."""
    if entry is None:
        return ()
    if entry.sorted_at is not None and (entry.complete or not entry.rank):
        return entry.answer.addresses
    return entry.rank
