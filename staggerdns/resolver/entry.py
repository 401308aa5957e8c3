"""One cached answer and its place in time."""

from __future__ import annotations

from math import inf
from typing import Final

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer

ENTRY_OCTETS: Final = 240
"""What an entry takes beside its answer: itself, its times, its place in a table."""
_BLOCK: Final = 16  # octets; so the number of those that an entry takes needs no object of its own

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
    say of its CNAMEs, `None` if nobody has looked. ``blocks``: how many blocks of memory all of it
    takes, about; negative until its collection has ended.
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
        "blocks",
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
        self.blocks = -((ENTRY_OCTETS + answer.octets + octets + _BLOCK - 1) // _BLOCK)

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
        return abs(self.blocks) * _BLOCK

    @property
    def complete(self) -> bool:
        """Whether its collection has ended."""
        return self.blocks > 0

    @complete.setter
    def complete(self, complete: bool) -> None:
        self.blocks = abs(self.blocks) if complete else -abs(self.blocks)

    def is_whole(self, now: float, spare: int) -> bool:
        """Return whether nothing of it has died at ``now``, or will within ``spare`` seconds while
        others live on.
        """
        answer = self.answer
        if isinstance(answer, AddressPool) and not answer.is_whole(int(now - self.stored), spare):
            return False
        return now < self.expires

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
        entry.blocks = self.blocks
        return entry
