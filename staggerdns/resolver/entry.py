"""One cached answer and its place in time."""

from __future__ import annotations

from staggerdns.wire.answer import Answer


class Entry:
    """An answer as the cache keeps it; times are seconds of the cache's monotonic clock.

    ``lifetime``: whole seconds for which it may be given as fresh, 0 for one that is not kept.
    ``generation``: the collection that it comes from. ``alive``: no newer answer has taken its
    place; replies made ready from it are void as soon as this is false. ``retry_at``: no
    refresh before then.
    """

    __slots__ = ("answer", "generation", "stored", "lifetime", "expires", "alive", "retry_at")

    def __init__(self, answer: Answer, generation: int, stored: float, lifetime: int) -> None:
        self.answer = answer
        self.generation = generation
        self.stored = stored
        self.lifetime = lifetime
        self.expires = stored + lifetime
        self.alive = True
        self.retry_at = 0.0
