"""What an entry of the cache is worth at a time: what of it lives, how long, and with which TTL.

These are the rules of docs/specification.rst, TTL phases and Lives of addresses, as far as they
follow from the entry and from the settings. Nothing here keeps anything.
"""

from __future__ import annotations

from staggerdns.resolver.entry import Entry
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import MAX_TTL
from staggerdns.wire.pool import bounded
from staggerdns.wire.sections import SectionsAnswer

FIRST_TTL_LIMIT = 2
"""How many times the second-longest TTL that of the first answer counts for at most."""
FAILURE_TTL = 1
"""Seconds for which a failure is remembered, the least that RFC 9520 section 3.2 allows."""


class Freshness:
    """What ``settings`` say of entries. Times are seconds of the cache's clock, TTLs seconds.

    ``most`` is how many addresses of a pool a client gets at most, 0: all. ``min_hits``: the demand
    from which on an entry is prefetched.
    """

    def __init__(self, settings: CacheSettings) -> None:
        self._settings = settings
        prefetch = settings.prefetch
        self.min_hits = prefetch.min_hits
        self._last_part = prefetch.last_percent / 100 if prefetch.enabled else 0.0

    @property
    def short(self) -> int:
        """The TTL of an answer for whose better one the client shall come back soon."""
        return self._settings.fast_response_ttl

    def admit(self, answer: Answer) -> Answer:
        """Return ``answer`` with the TTL for which the limits let it be kept."""
        settings = self._settings
        most = settings.max_ttl or MAX_TTL
        if isinstance(answer, AddressPool):
            return bounded(answer, settings.min_ttl, most)
        if isinstance(answer, FailureAnswer):
            least = most = FAILURE_TTL
        elif answer.negative:
            least = 0
            most = min(settings.max_negative_ttl or most, most)
        else:
            least = settings.min_ttl
        ttl = min(max(answer.ttl, least), most)
        if ttl == answer.ttl:
            return answer
        if isinstance(answer, FailureAnswer):
            return answer.lasting(ttl)
        return answer.lasting(ttl) if isinstance(answer, SectionsAnswer) else answer

    def limit(self, pool: AddressPool) -> AddressPool:
        """Return a pool that has been admitted elsewhere with the lives that the limits allow: none
        is raised, or it would go on for ever from one to the other.
        """
        return bounded(pool, 0, self._settings.max_ttl or MAX_TTL)

    def is_stale(self, entry: Entry, now: float) -> bool:
        """Return whether the entry has outlived its TTL at ``now``."""
        return bool(entry.lifetime) and now >= entry.expires

    def is_whole(self, entry: Entry, now: float) -> bool:
        """Return whether nothing of the entry has died at ``now``, not even the entry itself."""
        return entry.is_whole(now, self._settings.fast_response_ttl)

    def is_servable(self, entry: Entry, now: float) -> bool:
        """Return whether the entry may be given at ``now``, fresh or stale."""
        if isinstance(entry.answer, FailureAnswer):
            return now < entry.expires
        return now < entry.expires + self._settings.max_stale

    def living(self, entry: Entry, now: float, most: int) -> Answer:
        """Return what of the entry a client may be given at ``now``.

        That are the nearest ``most`` addresses of a pool that live. The answer of one upstream is
        whole, since a signature may cover all of it.
        """
        answer = self._all_living(entry, now)
        if most and len(answer.addresses) > most and isinstance(answer, AddressPool):
            return answer.only((True,) * most)
        return answer

    def ttl(self, entry: Entry, now: float, most: int) -> int:
        """Return the TTL that the answer allows at ``now``, whatever its order."""
        short = self._settings.fast_response_ttl
        if now >= entry.expires:
            return short if entry.lifetime and self.is_servable(entry, now) else 0
        age = int(now - entry.stored)
        answer = self.living(entry, now, most)
        ttl = answer.ttl - age
        if isinstance(answer, AddressPool):
            ttl = answer.least - age
            if answer.cname_chain:  # an expired chain is given as a stale entry is
                ttl = min(ttl, answer.cname_life - age if answer.cname_life > age else short)
        period = self._settings.user_return_ttl
        return max(1, min(ttl, period - age % period) if period else ttl)

    def is_nearly_over(self, entry: Entry, now: float) -> bool:
        """Return whether the entry is in the last part of its life at ``now``, in which it is asked
        for again if it is in demand.
        """
        ttl = entry.answer.ttl
        return ttl * (1 - self._last_part) <= now - entry.stored < ttl and not isinstance(
            entry.answer, FailureAnswer
        )

    def true_until(self, entry: Entry, now: float) -> float:
        """Return the time at which a reply made at ``now`` stops being true.

        Lives are whole seconds: with each of them the TTL is another one, and so may be what lives.
        One that still has to be sorted is not kept at all: its next hit shall start the sort.
        """
        if entry.rankable and entry.sorted_at is None and now >= entry.sort_after:
            return now
        if now >= entry.expires:
            return now + 1
        end = entry.due if now < entry.due else entry.expires
        if (
            entry.answer.ttl * self._last_part < 1  # that part may begin and end between two looks
            and entry.demand >= self.min_hits - 1
            and now < (prefetch_at := entry.expires - entry.answer.ttl * self._last_part)
        ):
            end = min(end, prefetch_at)
        return min(entry.stored + int(now - entry.stored) + 1, end)

    def complete(self, entry: Entry, first_ttl: int, second_ttl: int | None) -> None:
        """Set when the pool of an entry is to be refreshed whose collection has ended.

        The TTLs are those of upstreams' answers: `AnswerCache.complete`.
        """
        if isinstance(entry.answer, AddressPool):
            second = entry.lifetime if second_ttl is None else second_ttl
            entry.refresh_age = _refresh_age(entry.answer, first_ttl, second)
            self.set_due(entry)

    def set_due(self, entry: Entry) -> None:
        """Set when an entry is to be refreshed whose order is another one now.

        That is when much of it, or its nearest address, has died; but not before it is worth it: a
        client that comes for the better order comes as late.
        """
        answer, age = entry.answer, entry.refresh_age
        if entry.sorted_at is not None and isinstance(answer, AddressPool):
            age = min(age, answer.lives[0])
        age = max(age, self._settings.fast_response_ttl)
        entry.due_age = min(age, entry.lifetime)

    def _all_living(self, entry: Entry, now: float) -> Answer:
        answer = entry.answer
        if not isinstance(answer, AddressPool) or not answer.packed_lives or not entry.lifetime:
            return answer
        age = int(now - entry.stored)
        if now < entry.expires:
            return answer.living(age, self._settings.fast_response_ttl)
        return answer.living(age - self._settings.max_stale, 1)


def _refresh_age(pool: AddressPool, first_ttl: int, second_ttl: int) -> int:
    """Return the age in seconds at which a pool is to be refreshed, whatever its order.

    When half of it, or its CNAME chain, has died; but not while a cache that knew the first answer
    alone would ask nobody. One upstream with a long TTL must not keep the others from being
    asked: so the second-longest is a limit to half of the pool, and `FIRST_TTL_LIMIT` times
    that to the first answer.
    """
    age = max(min(pool.half_life, second_ttl), min(first_ttl, FIRST_TTL_LIMIT * second_ttl))
    return min(age, pool.cname_life) if pool.cname_chain else age
