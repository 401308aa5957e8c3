"""The cache: answers as collected, at the head of the resolver chain.

Entries are kept in the order of their last use and the least recently used one makes room for a new
one; there is no timer. `AnswerCache.commit` is the only way in, one synchronous step: an older
generation changes nothing, so the order in which collections end does not matter
(docs/specification.rst, Flights and generations).

When another configuration changes a scope its entries stay where they are, and are judged when they
are looked up (`ScopeChanges`).

An entry has two times. It is due for a refresh when much of it has died: it is answered as fresh,
with what lives of it, while one refresh runs behind. It has expired when all of it has died, and
stays for ``max_stale`` seconds: it is answered with a short TTL while one refresh runs behind
(RFC 8767). A pool stays even then, given to nobody: the next collection may ask those who brought
its addresses.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import count

from staggerdns.metrics import Metrics
from staggerdns.resolver.collecting import Merger, Prefetch, Refresh, no_prefetch, no_refresh
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.freshness import Freshness
from staggerdns.resolver.nameindex import NameIndex
from staggerdns.resolver.pastflushes import PastFlushes
from staggerdns.resolver.ranker import ORDER_IS_OLD, Ranker
from staggerdns.resolver.restored import AllEntries, RestoredEntries
from staggerdns.resolver.scopechanges import GONE, STALE, ScopeChange, ScopeChanges
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.key import DEFAULT_SCOPE, scope_of
from staggerdns.wire.question import Question

LARGEST_SHARE = 16
"""An answer that takes more than this part of ``max_size`` is given but not kept."""
KEY_OCTETS = 40
"""What a key takes beside its own octets."""


class AnswerCache:
    """Answers by question key, bounded by ``settings`` and put in order by ``ranker``, if any.

    ``most_given``: how many addresses of a pool a client gets at most, 0: all.
    All times are seconds of one clock, the caller's. ``generations`` are the numbers of
    collections: each takes the next one, whoever collects.
    """

    def __init__(
        self,
        settings: CacheSettings,
        metrics: Metrics,
        ranker: Ranker | None = None,
        *,
        most_given: int = 0,
    ) -> None:
        self.generations: Iterator[int] = count(1)
        self.changes = ScopeChanges()
        self.past_flushes = PastFlushes()
        self._settings = settings
        self.freshness = Freshness(settings)
        self._most_given = most_given
        self._ranker = ranker
        self._scopes: dict[int, tuple[Ranker | None, int]] = {}  # with rules of their own
        self._refresh: Refresh = no_refresh
        self._prefetch: Prefetch = no_prefetch
        self._entries: OrderedDict[bytes, Entry] = OrderedDict()
        self._restored = RestoredEntries()
        self.names = NameIndex(settings.max_entries)
        """The keys of what is kept, by name."""
        self._mergers: dict[bytes, Merger] = {}
        self._octets = 0
        self._evicted = {
            limit: metrics.cache_evictions.cell(limit) for limit in ("max_entries", "max_size")
        }
        metrics.cache_entries.read_from(lambda: len(self))
        metrics.cache_octets.read_from(lambda: self._octets)

    def __len__(self) -> int:
        return len(self._entries) + len(self._restored)

    @property
    def entries(self) -> Mapping[bytes, Entry]:
        """What is kept, by key, the least recently used first; to be read, not changed.

        Nothing is refreshed, moved or let go of when this is looked at.
        """
        return AllEntries(self._restored, self._entries)

    @property
    def octets(self) -> int:
        """About how much memory the entries take."""
        return self._octets

    def refresh_with(self, refresh: Refresh, prefetch: Prefetch = no_prefetch) -> None:
        """Call ``refresh`` from now on for each entry that is due when it is looked up, and
        ``prefetch`` for each in demand whose life is nearly over.
        """
        self._refresh = refresh
        self._prefetch = prefetch

    def use(self, settings: CacheSettings, scopes: Mapping[int, tuple[Ranker | None, int]]) -> None:
        """Go by these settings from now on. ``scopes`` say of each number who puts the answers of
        that scope in order, and how many addresses of each are given at most.
        """
        if settings.max_entries > self._settings.max_entries:
            names = NameIndex(settings.max_entries)
            for key in self.entries:
                names.add(key)
            self.names = names
        self._settings = settings
        self.freshness = Freshness(settings)
        default = scopes[DEFAULT_SCOPE]
        self._ranker, self._most_given = default
        self._scopes = {number: rules for number, rules in scopes.items() if rules != default}
        self._make_room()

    def change(self, changes: Mapping[int, ScopeChange]) -> None:
        """Judge all that has been collected up to now in these scopes by their change, when
        somebody asks for it.
        """
        if changes:
            self.changes.note(changes, next(self.generations))

    def lookup(self, key: bytes, now: float) -> Entry | None:
        """Return the entry under ``key``, fresh or stale; one that is due gets its refresh.

        One that is not, or no longer, in the order of its round trips gets its sort.
        """
        entry = self._find(key)
        if entry is None:
            return None
        is_due = now >= entry.due
        if not entry.alive or (is_due and key in self._mergers and now >= entry.expires):
            self._mergers[key].merge(now)
            entry = self._entries.get(key)
            if entry is None:
                return None
            is_due = now >= entry.due
        if entry.generation < self.changes.latest:
            if self._judge(key, entry, now) == GONE:
                return None
            is_due = now >= entry.due
        if is_due and not self.freshness.is_servable(entry, now):
            if not isinstance(entry.answer, AddressPool):
                self._remove(key)
            return None  # who brought the addresses of a pool is of use to the next collection
        self._entries.move_to_end(key)
        ranker = self.ranker_of(key)
        why_sort = "" if ranker is None or not entry.rankable else ranker.why_sort(key, entry, now)
        demand = entry.note_demand(now)
        if now >= entry.retry_at:
            if is_due or why_sort == ORDER_IS_OLD:
                entry.retry_at = now + self._settings.fast_response_ttl
                self._refresh(Question(key), now)
            elif (
                demand >= self.freshness.min_hits
                and self.freshness.is_nearly_over(entry, now)
                and self._prefetch(Question(key), now)
            ):
                entry.retry_at = now + self._settings.fast_response_ttl
        if why_sort and ranker is not None and self._entries.get(key) is entry:
            ranker.sort(key, entry, why_sort, now, self.reorder)
        return self._entries.get(key, entry)

    def commit(
        self, key: bytes, generation: int, answer: Answer, now: float, since: float | None = None
    ) -> Entry:
        """Store an admitted answer unless a later collection has stored one; return what now holds.

        ``since``: when the first of it came, if that is not ``now``. An answer without a TTL, or
        of a scope that is another one by now, is returned as an entry but not kept. A failure never
        takes the place of an answer that can still be given.
        """
        if generation < self.changes.latest and generation < self.changes.since(scope_of(key)):
            return Entry(answer, generation, now if since is None else since)
        ranker = self.ranker_of(key)
        existing = self._find(key)
        if existing is not None:
            is_servable = self.freshness.is_servable(existing, now)
            if existing.generation > generation and is_servable:
                return existing
            if isinstance(answer, FailureAnswer) and is_servable:
                existing.retry_at = now + self._settings.fast_response_ttl
                return existing
            self._take_out(key)
        if ranker is not None:
            answer = ranker.arranged(answer, existing)
        stored = now if since is None else since
        entry = Entry(answer, generation, stored, KEY_OCTETS + len(key))
        if existing is not None and existing.generation == generation:
            entry.take_over_demand(existing)
        kept = answer.ttl and entry.octets * LARGEST_SHARE <= self._settings.max_size
        if kept:
            self._entries[key] = entry
            if existing is None:
                self.names.add(key)
            self._octets += entry.octets
            self._make_room()
        elif existing is not None:
            self.names.remove(key)
        if ranker is not None:
            ranker.committed(key, entry, existing)
            if kept and entry.rankable:
                ranker.sort_new(key, entry, existing, now, self.reorder)
                return self._entries.get(key, entry)
        return entry

    def reorder(
        self,
        key: bytes,
        entry: Entry,
        addresses: tuple[bytes, ...],
        sorted_at: float | None,
    ) -> Entry | None:
        """Put another with its addresses in that order in the place of ``entry``, and return it.

        ``sorted_at``: when a sort has found that order, `None` if it is only what is known.
        Returns `None` when ``entry`` does not stand any more.
        """
        if self._entries.get(key) is not entry:
            return None
        entry = self._entries[key] = entry.reordered(addresses)
        if sorted_at is not None:
            entry.sorted_at = sorted_at
            if entry.complete:
                self.freshness.set_due(entry)
        entry.settle()
        return entry

    def defer(self, key: bytes, generation: int, merger: Merger) -> bool:
        """Have ``merger`` add to the entry of that generation when somebody looks at it.

        Return whether there is one. Until then no ready reply is made of it.
        """
        entry = self._entries.get(key)
        if entry is None or entry.generation != generation:
            return False
        entry.alive = False
        self._mergers[key] = merger
        return True

    def hold_back(self, key: bytes, generation: int, merger: Merger, now: float) -> bool:
        """Return whether an unexpired answer of an earlier collection is given at ``now``.

        It need not make room before the later collection has ended. If it expires before that,
        ``merger`` has what takes its place for whoever looks then.
        """
        entry = self._find(key)
        if (
            entry is None
            or entry.generation >= generation
            or now >= entry.expires
            or isinstance(entry.answer, FailureAnswer)
        ):
            return False
        self._mergers.setdefault(key, merger)
        return True

    def merged(self, key: bytes, merger: Merger) -> None:
        """Ask ``merger`` for nothing any more; it may `defer` or `hold_back` again."""
        if self._mergers.get(key) is merger:
            del self._mergers[key]
            self._entries[key].alive = True

    def forget(self, key: bytes) -> bool:
        """Let go of what is kept under ``key``; return whether there was anything.

        A collection that is under way is not told: what it finds from now on is kept as usual.
        """
        if self._find(key) is None:
            return False
        self._remove(key)
        return True

    def restore(self, key: bytes, answer: Answer, stored: float, now: float) -> Entry | None:
        """Keep an admitted answer of an earlier run as the least recently used, if there is room
        and nothing under its key, and it can still be given; return its entry. Any collection wins
        over it.
        """
        most = self._settings.max_size
        entry = Entry(answer, 0, stored, KEY_OCTETS + len(key))
        if (
            self.held(key) is not None
            or len(self) >= self._settings.max_entries
            or self._octets + entry.octets > most
            or entry.octets * LARGEST_SHARE > most
            or not self.freshness.is_servable(entry, now)
        ):
            return None
        self._restored.add(key, entry)
        self.names.add(key)
        self._octets += entry.octets
        ranker = self.ranker_of(key)
        if ranker is not None:
            ranker.committed(key, entry, None)
        return entry

    def held(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, without it counting as used."""
        entry = self._entries.get(key)
        return self._restored.held(key) if entry is None else entry

    def _find(self, key: bytes) -> Entry | None:
        """Return the entry under ``key``, which is used now."""
        entry = self._entries.get(key)
        if entry is None and self._restored:
            entry = self._restored.pop(key)
            if entry is not None:
                self._entries[key] = entry
        return entry

    def _remove(self, key: bytes) -> None:
        self._take_out(key)
        self.names.remove(key)

    def _take_out(self, key: bytes) -> None:
        """Remove an entry, whose key stays known for the one that takes its place."""
        entry = self._entries.pop(key)
        self._mergers.pop(key, None)
        entry.alive = False
        self._octets -= entry.octets

    def _judge(self, key: bytes, entry: Entry, now: float) -> int:
        """Return what has become of an entry by changes of its scope, and make it that."""
        number = scope_of(key)
        verdict = self.changes.verdict(number, entry.generation, entry.answer)
        if verdict == GONE:
            self._remove(key)
        elif verdict == STALE:
            entry.expire(now)
            entry.generation = self.changes.since(number)
        return verdict

    def _make_room(self) -> None:
        """Remove what was used least recently until the rest is within the limits."""
        settings = self._settings
        while True:
            if self._octets > settings.max_size:
                limit = "max_size"
            elif len(self) > settings.max_entries:
                limit = "max_entries"
            else:
                return
            self.forget(self._restored.any_key() if self._restored else next(iter(self._entries)))
            self._evicted[limit].value += 1

    def prolong(self, key: bytes, generation: int, answer: Answer) -> None:
        """Update the lives of the addresses that the collection of that generation committed."""
        entry = self._entries.get(key)
        if entry is not None and entry.generation == generation:
            entry.prolong(answer)

    def complete(
        self, key: bytes, generation: int, first_ttl: int = 0, second_ttl: int | None = None
    ) -> None:
        """Mark the entry of that generation as complete: its collection has ended.

        TTLs of upstreams' answers in seconds: ``first_ttl`` of the one that came first,
        ``second_ttl`` the second-longest, `None` if there was one answer alone.
        """
        entry = self._entries.get(key)
        if entry is not None and entry.generation == generation:
            entry.complete = True
            if isinstance(entry.answer, AddressPool):
                self.freshness.complete(entry, first_ttl, second_ttl)
                entry.settle()

    def living(self, entry: Entry, now: float, scope: int = DEFAULT_SCOPE) -> Answer:
        """Return what of the entry a client may be given at ``now``; ``scope``: that of its key.

        That are the nearest addresses of a pool, as many as a reply may hold, that live. The answer
        of one upstream is whole, since a signature may cover all of it.
        """
        most = self._most_given if not self._scopes else self._rules_of(scope)[1]
        return self.freshness.living(entry, now, most)

    def reply_ttl(self, entry: Entry, now: float, scope: int = DEFAULT_SCOPE) -> int:
        """Return the TTL in seconds that a client may be given at ``now`` (docs/specification.rst,
        TTL phases); ``scope``: that of its key.
        """
        ranker, most = self._ranker, self._most_given
        if self._scopes:
            ranker, most = self._rules_of(scope)
        ttl = self.freshness.ttl(entry, now, most)
        if ranker is None:
            return ttl
        return ranker.ttl(entry, ttl, self._settings.fast_response_ttl, now)

    def ranker_of(self, key: bytes) -> Ranker | None:
        """Return who puts the answers of the key's scope in order, if anybody does."""
        return self._ranker if not self._scopes else self._rules_of(scope_of(key))[0]

    def _rules_of(self, scope: int) -> tuple[Ranker | None, int]:
        """Return who puts the answers of a scope in order, and how many addresses are given."""
        return self._scopes.get(scope, (self._ranker, self._most_given))
