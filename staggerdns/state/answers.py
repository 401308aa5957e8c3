"""Entries of the cache as they are saved, and back again.

Entries are independent of each other, so each is taken as it stands at some moment of the save. Of
one whose collection has not ended what has come is saved, and it is asked for again at its first
use. Failures are not saved.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from math import ceil

from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.state.blocks import AnswersBlock, SavedPool, SavedSections
from staggerdns.state.poolparts import WIDTHS, SetMembers, SetTable, pool_of, split
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.key import NAME_END, scope_of, type_and_class, with_scope, without_scope
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.serviceanswer import with_ranked_hints

BLOCK_ENTRIES = 512
"""Entries of one block."""
BLOCK_OCTETS = 262_144
"""Memory of the entries of one block, about; one entry more may exceed it."""
SHORTEST = 6
"""Octets of the shortest question: that of the root, with its type, class and marks."""
_COUNTS = 6  # octets of the numbers of records in three sections
_TTL = 4  # octets

_Common = tuple[bytes, int, int, int, int, bool, int | None, bytes, int, bool]
"""What is saved of every entry, in the order of `SavedEntry`."""


class AnswersOut:
    """Makes blocks of entries; ``now``: the time, by the cache's clock, that ages count from."""

    def __init__(self, scopes: Mapping[int, bytes], now: float) -> None:
        self._scopes = scopes
        self._now = now
        self._octets = 0
        self._entries: list[SavedPool | SavedSections] = []
        self._digests: dict[bytes, int] = {}
        self._sets = SetTable()

    def add(self, key: bytes, entry: Entry) -> None:
        """Add an entry, if it is one that is saved."""
        answer = entry.answer
        digest = self._scopes.get(scope_of(key))
        if digest is None or not answer.ttl:
            return
        scope = self._digests.setdefault(digest, len(self._digests))
        now = self._now
        sorted_at = entry.sorted_at
        common: _Common = (
            without_scope(key),
            scope,
            ceil((now - entry.stored) * 1000),
            entry.due_age,
            entry.refresh_age,
            entry.complete,
            None if sorted_at is None else ceil((now - sorted_at) * 1000),
            b"".join(entry.rank),
            answer.ttl,
            answer.ad,
        )
        if isinstance(answer, AddressPool):
            self._entries.append(SavedPool(*common, *self._sets.parts_of(answer)))
        elif isinstance(answer, SectionsAnswer):
            self._entries.append(
                SavedSections(
                    *common,
                    answer.rcode,
                    answer.negative,
                    answer.counts,
                    answer.body,
                    tuple(answer.ttl_offsets),
                    answer.address_offsets,
                )
            )
        else:
            return
        self._octets += entry.octets

    @property
    def is_full(self) -> bool:
        """Whether it is time for another block."""
        return len(self._entries) >= BLOCK_ENTRIES or self._octets >= BLOCK_OCTETS

    def take(self) -> AnswersBlock | None:
        """Return a block of what was added since the last one, if anything was."""
        if not self._entries:
            return None
        block = AnswersBlock(list(self._digests), self._sets.names, self._sets.sets, self._entries)
        self._octets = 0
        self._entries = []
        self._digests, self._sets = {}, SetTable()
        return block


class AnswersIn:
    """Puts entries of ``block`` back into ``cache``.

    ``scopes``: the number of each scope that there is now, by its digest. ``since``: the time, by
    the cache's clock, that ages count from; ``now``: what it is now.
    """

    def __init__(
        self,
        cache: AnswerCache,
        scopes: Mapping[bytes, int],
        since: float,
        now: float,
        block: AnswersBlock,
    ) -> None:
        self._cache = cache
        self._scopes = scopes
        self._since = since
        self._now = now
        self._block = block
        self._numbers = SetMembers(block.names, block.sets)

    def restore(self, saved: SavedPool | SavedSections) -> bool:
        """Put an entry of the block back, and return whether it counts now.

        It does not where its scope has gone or is full, where something else is known by now, or
        when it is too old.
        """
        scopes = self._block.scopes
        number = self._scopes.get(scopes[saved.scope]) if saved.scope < len(scopes) else None
        stored = min(self._since - saved.stored / 1000, self._now)
        if number is None or len(saved.question) < SHORTEST:
            return False
        key = with_scope(saved.question, number)
        width = WIDTHS.get(type_and_class(key), 0)
        answer: Answer | None
        if isinstance(saved, SavedPool):
            answer = pool_of(saved, width, self._numbers.number)
        else:
            answer = _sections(saved, width, Question(key))
        if answer is None or self._cache.past_flushes.covers(key[:NAME_END], stored):
            return False
        answer = self._cache.freshness.admit(answer)
        entry = self._cache.restore(key, answer, stored, self._now)
        if entry is None:
            return False
        entry.rank = split(saved.rank, width)
        if saved.sorted is not None:
            entry.sorted_at = min(self._since - saved.sorted / 1000, self._now)
        if saved.complete:
            entry.due_age = min(saved.due, entry.due_age)
            entry.refresh_age = min(saved.refresh, entry.refresh_age)
            entry.complete = True
            entry.settle()
        else:
            entry.due_age = 0
        return True


def _sections(saved: SavedSections, width: int, question: Question) -> SectionsAnswer | None:
    """Return the answer to ``question``, with addresses of that ``width`` if there are any, unless
    it cannot be one.
    """
    body, ttls, addresses = saved.body, saved.ttl_offsets, saved.address_offsets
    end = max(max(ttls, default=-_TTL) + _TTL, max(addresses, default=-width) + width)
    if len(saved.counts) != _COUNTS or end > len(body) or (addresses and not width):
        return None
    answer = SectionsAnswer(
        saved.rcode,
        saved.ad,
        saved.negative,
        saved.ttl,
        saved.counts,
        body,
        array("H", ttls),
        addresses,
        width if addresses else 0,
    )
    return with_ranked_hints(answer, question)
