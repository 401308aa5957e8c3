"""One cached answer and its place in time."""

from __future__ import annotations

from math import inf
from typing import Final

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer

ENTRY_OCTETS: Final = 240
"""What an entry takes beside its answer: itself, its times, its place in a table."""
_BLOCK: Final = 16  # octets; so the number of those that an entry takes needs no object of its own
_BLOCKS: Final = 0xFFFFFF
_DEMAND_AT: Final = 24  # the bit at which the count of hits begins, behind that of blocks
MOST_DEMAND: Final = 0xFF
"""So many seconds with hits are counted, and no more."""
_HEARSAY: Final = 1 << 32
_KEPT: Final = _BLOCKS | _HEARSAY  # what no hit changes
_HIT_AT: Final = 33  # the bit at which the second of the last counted hit begins

ChainListings = tuple[int, tuple[tuple[int, int], ...]]
"""The number of a set of lists, and for each target of a CNAME that any of its lists has: which of
them block it, and which allow it, as bits. It is nobody's verdict: groups of clients have different
lists.
"""


class Entry:
    """An answer as the cache keeps it; times are seconds of the cache's monotonic clock.

    ``stored``: when the first of it came. ``due_age``: seconds after that until it is to be
    refreshed, at the latest when it expires (`AnswerCache` says); ``refresh_age``: the same
    whatever its order. ``generation``: the collection that it comes from. ``alive``: no newer
    answer has taken its place, and none has come that belongs to it; replies made ready from it are
    void as soon as this is false. ``retry_at``: no refresh before then. ``sorted_at``: when its
    addresses were ranked, `None` if they are not. ``sort_after``: no new sort before then.
    ``rank``: the order of the last whole pool that was sorted here. ``chain_listings``: what lists
    say of its CNAMEs, `None` if nobody has looked.
    """

    # There are many: what follows from something else is a property, and takes no memory.
    __slots__ = (
        "answer",
        "generation",
        "stored",
        "due_age",
        "refresh_age",
        "alive",
        "retry_at",
        "sorted_at",
        "sort_after",
        "rank",
        "chain_listings",
        "_packed",
    )

    def __init__(self, answer: Answer, generation: int, stored: float, octets: int = 0) -> None:
        """``octets``: what is taken beside entry and answer."""
        self.answer = answer
        self.generation = generation
        self.stored = stored
        self.due_age = self.refresh_age = answer.ttl
        self.alive = True
        self.retry_at = 0.0
        self.sorted_at: float | None = None
        self.sort_after = inf
        self.rank: tuple[bytes, ...] = ()
        self.chain_listings: ChainListings | None = None
        # How many blocks of memory it takes, how often it was asked for, whether it is hearsay, and
        # its age in seconds when it was asked for last; negative until its collection has ended.
        # Nobody has asked for most entries yet, and a small number needs no object of its own.
        blocks = (ENTRY_OCTETS + answer.octets + octets + _BLOCK - 1) // _BLOCK
        self._packed = -min(blocks, _BLOCKS)

    @property
    def lifetime(self) -> int:
        """Whole seconds for which some of it may be given as fresh, 0 if it is not kept."""
        return self.answer.ttl

    @property
    def expires(self) -> float:
        """When all of it has died."""
        return self.stored + self.answer.ttl

    @property
    def due(self) -> float:
        """When it is to be refreshed."""
        return self.stored + self.due_age

    @property
    def rankable(self) -> bool:
        """Whether there is something to sort."""
        return self.sort_after != inf

    @rankable.setter
    def rankable(self, rankable: bool) -> None:
        self.sort_after = 0.0 if rankable else inf

    @property
    def octets(self) -> int:
        """About how much memory all of it takes."""
        return (abs(self._packed) & _BLOCKS) * _BLOCK

    @property
    def complete(self) -> bool:
        """Whether its collection has ended."""
        return self._packed > 0

    @complete.setter
    def complete(self, complete: bool) -> None:
        self._packed = abs(self._packed) if complete else -abs(self._packed)

    @property
    def hearsay(self) -> bool:
        """Whether all of it is from the second level, and no upstream had been waited for."""
        return bool(abs(self._packed) & _HEARSAY)

    @hearsay.setter
    def hearsay(self, hearsay: bool) -> None:
        packed = abs(self._packed) & ~_HEARSAY | (_HEARSAY if hearsay else 0)
        self._packed = packed if self._packed > 0 else -packed

    @property
    def demand(self) -> int:
        """In how many seconds it was asked for, up to `MOST_DEMAND`."""
        return abs(self._packed) >> _DEMAND_AT & MOST_DEMAND

    def note_demand(self, now: float) -> int:
        """Note that it is asked for; return the `demand`."""
        packed = abs(self._packed)
        demand = packed >> _DEMAND_AT & MOST_DEMAND
        age = int(now - self.stored)
        if demand < MOST_DEMAND and (age != packed >> _HIT_AT or not demand):
            demand += 1
            packed = packed & _KEPT | demand << _DEMAND_AT | age << _HIT_AT
            self._packed = packed if self._packed > 0 else -packed
        return demand

    def take_over_demand(self, other: Entry) -> None:
        """Count what was noted of an entry with less of the same collection."""
        packed = abs(self._packed) | abs(other._packed) & ~_KEPT
        self._packed = packed if self._packed > 0 else -packed

    def is_whole(self, now: float, spare: int) -> bool:
        """Return whether nothing of it has died at ``now``, or will within ``spare`` seconds while
        others live on.
        """
        answer = self.answer
        if isinstance(answer, AddressPool) and not answer.is_whole(int(now - self.stored), spare):
            return False
        return now < self.expires

    def expire(self, now: float) -> None:
        """Let it be as if all of it had died just now."""
        self.stored = min(self.stored, now - self.answer.ttl)
        self.due_age = self.refresh_age = self.answer.ttl

    def prolong(self, answer: Answer) -> None:
        """Adopt lives, contributors and names of ``answer``, which has the same addresses."""
        self.answer = answer.reordered(self.answer.addresses)
        self.chain_listings = None
        self.due_age = self.refresh_age = answer.ttl

    def settle(self) -> None:
        """Let go of what is not needed any more when the collection has ended."""
        if self.complete:
            self.answer.pack()
            if self.sorted_at is not None:
                self.rank = ()

    def reordered(self, addresses: tuple[bytes, ...]) -> Entry:
        """Return an entry with the addresses in a new order, to take the place of this one."""
        entry = Entry(self.answer.reordered(addresses), self.generation, self.stored)
        entry.due_age = self.due_age
        entry.refresh_age = self.refresh_age
        entry.alive, self.alive = self.alive, False
        entry.retry_at = self.retry_at
        entry.sorted_at = self.sorted_at
        entry.sort_after = self.sort_after
        entry.rank = self.rank
        entry.chain_listings = self.chain_listings
        entry._packed = self._packed
        return entry
