"""The ranker: what makes the addresses of a cached answer stand in the order of their round trips.

Every answer goes into the cache with its addresses ordered by what is known already; a sort then
measures and puts them in their final order. The entry is its sort's token: a new entry under a key
cancels the old sort and starts its own in one step with being stored, and a sort that ends for an
entry which has been replaced changes nothing. Until an entry is sorted, and again when its
order has become old, clients get a short TTL, so that they come back for the better order.
(docs/specification.rst, Ranking.)

Entries are the cache's: it alone replaces them, and a ranker asks it to by the `Reorder` that it is
given. Of an entry ``sorted_at``, ``sort_after``, ``rank`` and ``rankable`` are the ranker's to set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from staggerdns.journal import Journal
from staggerdns.ranking.order import order
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sorts import Listener, Sorts
from staggerdns.resolver.entry import Entry
from staggerdns.settings.sections import RankingSettings
from staggerdns.traces.trace import QUEUE_FULL, SortTrace, Traces, sort_ends
from staggerdns.wire.addresskinds import is_private, is_unicast
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.key import NAME_END
from staggerdns.wire.names import to_text
from staggerdns.wire.serviceanswer import ServiceAnswer

UNRANKED_RETRY = 60.0
"""Seconds until the next sort of addresses none of which answered; the order stays as received."""
QUEUE_FULL_RETRY = 0.1
"""Seconds until the next try of a sort for which the queue had no room."""
MAX_RANKED = 128
"""Addresses of one answer; a longer one is given as it came."""
ORDER_IS_OLD = "rtt_stale"
"""Why an entry is sorted whose addresses are to be asked for anew, too."""


Reorder = Callable[[bytes, Entry, tuple[bytes, ...], float | None], Entry | None]
"""Gives an entry that still stands its addresses in another order: see `AnswerCache.reorder`."""


class Ranker:
    """Has the addresses of answers sorted by ``sorts``; ``traces`` have the record of that.

    All times are seconds of the cache's clock.
    """

    def __init__(
        self,
        settings: RankingSettings,
        sorts: Sorts,
        journal: Journal,
        traces: Traces | None = None,
    ) -> None:
        self._traces = Traces(0) if traces is None else traces
        self._settings = settings
        self._sorts = sorts
        self._journal = journal

    def arranged(self, answer: Answer, previous: Entry | None) -> Answer:
        """Return ``answer``, which shall replace ``previous``, ordered by what is known."""
        addresses = answer.addresses
        if not 1 < len(addresses) <= MAX_RANKED:
            return answer
        return answer.reordered(order(addresses, self._sorts.table, _rank_after(previous)))

    def committed(self, key: bytes, entry: Entry, previous: Entry | None) -> None:
        """Prepare an entry for its sort; cancel that of ``previous``, which it has replaced."""
        entry.rank = _rank_after(previous)
        addresses = entry.answer.addresses
        if 1 < len(addresses) <= MAX_RANKED:
            entry.rankable = bool(self.probed(entry.answer))
        if self._sorts.cancel(key):
            self._traces.sort_cancelled(key)

    def sort_new(
        self, key: bytes, entry: Entry, previous: Entry | None, now: float, reorder: Reorder
    ) -> None:
        """Sort an entry that has just been stored in the place of ``previous``.

        Its answer is `arranged`, so that it is sorted when nothing has to be measured for it.
        """
        if previous is None or not previous.answer.addresses:
            trigger = "first_answer"
        else:
            trigger = "more_addresses" if previous.generation == entry.generation else "refresh"
        addresses = entry.answer.addresses
        if self._sorts.over_at_once(self.probed(entry.answer), trigger, now):
            entry.sorted_at = now
            self._traces.sort_was_known(key, trigger, now, entry.answer)
            _log_sorted(self._journal, key, addresses)
        else:
            self._start(key, entry, trigger, entry.rank, now, reorder)

    def why_sort(self, key: bytes, entry: Entry, now: float) -> str:
        """Return why an entry that is asked for has to be sorted now, empty if it has not.

        If its sort is under way that comes before the sorts of others.
        """
        if now >= entry.expires or self._sorts.demand(key) or now < entry.sort_after:
            return ""
        if entry.sorted_at is None:
            return "sorted_missing"
        return ORDER_IS_OLD if self._order_is_old(entry, now) else ""

    def sort(self, key: bytes, entry: Entry, reason: str, now: float, reorder: Reorder) -> None:
        """Sort an entry that is asked for, for that ``reason``."""
        addresses = entry.answer.addresses
        rank = addresses if reason == ORDER_IS_OLD else entry.rank
        if not self._start(key, entry, reason, rank, now, reorder):
            # Until a later hit the order is that of what is known.
            known = order(addresses, self._sorts.table, rank)
            if known != addresses:
                reorder(key, entry, known, None)

    def ttl(self, entry: Entry, ttl: int, short: int, now: float) -> int:
        """Return the TTL that a client may be given of an entry that allows ``ttl`` seconds.

        ``short``: what one gets who shall come back soon (docs/specification.rst, TTL phases).
        """
        if not entry.complete and isinstance(entry.answer, AddressPool):
            return min(ttl, short)
        if entry.rankable and self._order_is_old(entry, now):
            return min(ttl, max(int(entry.sort_after - now), short))
        return ttl

    def _start(
        self,
        key: bytes,
        entry: Entry,
        trigger: str,
        rank: tuple[bytes, ...],
        now: float,
        reorder: Reorder,
    ) -> bool:
        """Start a sort, or have it tried again later if there is no room for it."""
        answer = entry.answer
        addresses = answer.addresses
        record = self._traces.sort_begins(key, trigger, now)
        started = self._sorts.start(
            key,
            self.probed(answer),
            addresses,
            rank,
            trigger,
            now,
            _Sorting(key, entry, reorder, self._journal, record, self._sorts.table),
            answer.ports if isinstance(answer, ServiceAnswer) else None,
        )
        if not started:
            entry.sort_after = now + QUEUE_FULL_RETRY
            if record is not None:
                record.result = QUEUE_FULL
        return started

    def probed(self, answer: Answer) -> list[bytes]:
        """Return those that may be probed of the addresses of an answer."""
        addresses = answer.addresses
        usable = self._sorts.measurer.usable
        if isinstance(answer, ServiceAnswer):  # addresses of both families
            addresses = tuple([address for address in addresses if usable(address)])
        elif not usable(addresses[0]):
            return []
        private = self._settings.probe_private
        return [
            address
            for address in addresses
            if not is_private(address) or (private and is_unicast(address))
        ]

    def _order_is_old(self, entry: Entry, now: float) -> bool:
        return entry.sorted_at is None or now >= entry.sorted_at + self._settings.rtt_cache_ttl


def _rank_after(previous: Entry | None) -> tuple[bytes, ...]:
    """Return the order of the last whole pool that was sorted where ``previous`` was."""
    if previous is None:
        return ()
    if previous.sorted_at is not None and (previous.complete or not previous.rank):
        return previous.answer.addresses
    return previous.rank


class _Sorting(Listener):
    """What becomes of an entry by its sort. It counts as long as the entry stands."""

    __slots__ = ("_key", "_entry", "_reorder", "_journal", "_record", "_table")

    def __init__(
        self,
        key: bytes,
        entry: Entry,
        reorder: Reorder,
        journal: Journal,
        record: SortTrace | None,
        table: RttTable,
    ) -> None:
        self._key = key
        self._entry = entry
        self._reorder = reorder
        self._journal = journal
        self._record = record
        self._table = table

    def nearer(self, addresses: tuple[bytes, ...]) -> None:
        """Give the entry the order so far; it is not sorted yet."""
        if addresses != self._entry.answer.addresses:
            self._entry = self._reorder(self._key, self._entry, addresses, None) or self._entry
            if self._journal.verbose:
                self._journal.debug(
                    "{name}: a nearer address answers", name=to_text(self._key[:NAME_END])
                )

    def ended(self, addresses: tuple[bytes, ...] | None, now: float) -> None:
        """Give the entry its order, or leave it alone for a while."""
        if self._record is not None:
            sort_ends(self._record, addresses, self._table, now)
        if addresses is None:
            self._entry.sort_after = now + UNRANKED_RETRY
        elif self._reorder(self._key, self._entry, addresses, now) is not None:
            _log_sorted(self._journal, self._key, addresses)


def _log_sorted(journal: Journal, key: bytes, addresses: Sequence[bytes]) -> None:
    if journal.verbose:
        journal.debug(
            "{name}: sort done, {count} addresses",
            name=to_text(key[:NAME_END]),
            count=len(addresses),
        )
