"""One cached answer and its place in time."""

from __future__ import annotations

from staggerdns.wire.answer import Answer

ENTRY_OCTETS = 340
"""What an entry takes beside its answer: itself, its times, its place in a table."""


class Entry:
    """An answer as the cache keeps it; times are seconds of the cache's monotonic clock.

    ``stored``: when the first of it came. ``lifetime``: whole seconds after that for which some of
    it may be given as fresh, 0 for one that is not kept. ``due``: when it is to be refreshed, at
    the latest when it expires (`AnswerCache` says); ``refresh_age``: the seconds until then,
    whatever its order. ``generation``: the collection that it comes from. ``alive``: no newer
    answer has taken its place, and none has come that belongs to it; replies made ready from it are
    void as soon as this is false.
    ``retry_at``: no refresh before then. ``complete``: its collection has ended. ``sorted_at``:
    when its addresses were ranked, `None` if they are not. ``sort_after``: no new sort before then.
    ``rank``: the order of the last whole pool that was sorted here. ``rankable``: there is
    something to sort. ``octets``: about how much memory all of it takes.
    """

    __slots__ = (
        "answer",
        "generation",
        "stored",
        "lifetime",
        "expires",
        "due",
        "refresh_age",
        "alive",
        "retry_at",
        "complete",
        "sorted_at",
        "sort_after",
        "rank",
        "rankable",
        "octets",
    )

    def __init__(self, answer: Answer, generation: int, stored: float, lifetime: int) -> None:
        self.answer = answer
        self.generation = generation
        self.stored = stored
        self.lifetime = lifetime
        self.due = self.expires = stored + lifetime
        self.refresh_age = lifetime
        self.alive = True
        self.retry_at = 0.0
        self.complete = False
        self.sorted_at: float | None = None
        self.sort_after = 0.0
        self.rank: tuple[bytes, ...] = ()
        self.rankable = False
        self.octets = ENTRY_OCTETS + answer.octets

    def prolong(self, answer: Answer) -> None:
        """Set the lives of the addresses to those in ``answer``, which has the same addresses."""
        self.answer = answer.reordered(self.answer.addresses)
        self.lifetime = self.refresh_age = answer.ttl
        self.due = self.expires = self.stored + self.lifetime

    def reordered(self, addresses: tuple[bytes, ...]) -> Entry:
        """Return an entry with the addresses in a new order, to take the place of this one."""
        entry = Entry(self.answer.reordered(addresses), self.generation, self.stored, self.lifetime)
        entry.retry_at = self.retry_at
        entry.complete = self.complete
        entry.due = self.due
        entry.refresh_age = self.refresh_age
        entry.rank = self.rank
        entry.rankable = self.rankable
        entry.octets = self.octets
        entry.sorted_at = self.sorted_at
        entry.sort_after = self.sort_after
        entry.alive, self.alive = self.alive, False
        return entry
