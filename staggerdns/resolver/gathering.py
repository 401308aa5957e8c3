"""What the answers of one collection come to: the first of them, and what has joined it since.

The first answer stands as it came until another one brings more (`Gathering.add`); then a pool
grows from both. `Gathering.settle` has the answer say all of it. TTLs are counted from the moment
at which the first answer came (docs/specification.rst, Merging).
"""

from __future__ import annotations

from staggerdns.resolver.context import CollectionContext
from staggerdns.strategy.tiers import SHARED
from staggerdns.traces.trace import Trace
from staggerdns.upstream.exchange import Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.dropped import LIMIT, NOT_KEPT
from staggerdns.wire.pool import GrowingPool, cap, without_private


class Gathering:
    """The answers of one collection; the rules are those of the ``context`` that each call gets.

    ``answer``: what they come to, but for what was added since the last `settle`. ``since``: when
    the first of it came. ``credited``: its contributors are others now than when that was false.
    ``first_ttl``: of the answer that came first, ``second_ttl``: the second-longest, in seconds.
    ``hearsay``: all of it is from the second level, of which no TTL counts.
    """

    __slots__ = (
        "answer",
        "since",
        "credited",
        "hearsay",
        "first_ttl",
        "second_ttl",
        "_growing",
        "_same",
        "_longest_ttl",
        "_keepable",
    )

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.since = 0.0
        self.credited = False
        self.hearsay = False
        self.first_ttl = self.second_ttl = 0
        self._growing: GrowingPool | None = None  # what the answer comes from, if it has grown
        self._same = 0  # bits of the upstreams that gave the very answer, too
        self._longest_ttl = 0
        self._keepable: tuple[AddressPool, float] | None = None  # the first one after a TTL of 0

    def begin(
        self, answer: Answer, outcome: Outcome, since: float, context: CollectionContext
    ) -> None:
        """Begin, or begin anew, with an admitted answer, the one of ``outcome``."""
        self.since = since
        self.hearsay = outcome.tier == SHARED
        self.first_ttl = self._longest_ttl = 0 if self.hearsay else answer.ttl
        self.second_ttl = 0
        if isinstance(answer, AddressPool):
            answer = cap(answer, context.settings.max_pool_size)
            outcome.drop_all_but(answer.addresses, LIMIT)
            if not answer.brought_by:
                answer.brought_by = CONTRIBUTORS.number(CONTRIBUTORS.bit(outcome.upstream.name))
            context.joined[outcome.tier].value += len(answer.addresses)
        self.answer = answer
        self._growing = None
        self._same = 0

    def is_known(self, outcome: Outcome) -> bool:
        """Return whether an outcome brings the very answer that is held, which nobody would see;
        then its upstream is noted.
        """
        if outcome.answer is not self.answer or self._growing is not None:
            return False
        self._same |= CONTRIBUTORS.bit(outcome.upstream.name)
        return True

    def add(self, outcome: Outcome, context: CollectionContext, trace: Trace) -> bool:
        """Add a further pool; return whether that brought new addresses."""
        answer, held, growing = outcome.answer, self.answer, self._growing
        is_shared = outcome.tier == SHARED
        contributor = None if is_shared else CONTRIBUTORS.bit(outcome.upstream.name)
        if answer is held and (growing is None or not growing.changed):  # the same reply again
            self._same |= contributor or 0
            return False
        assert answer is not None
        if not is_shared:
            answer = context.cache.freshness.admit(answer)
        assert isinstance(answer, AddressPool)
        assert isinstance(held, AddressPool)
        if is_shared and not held.ttl:
            outcome.drop_all_but((), NOT_KEPT)
            return False
        if answer.ttl and not held.ttl and self._overrules(answer, outcome, context, trace):
            return True
        if growing is None or self._same:
            self.credit()
            settings = context.settings
            growing = self._growing = GrowingPool(
                held, settings.max_pool_size, private=settings.merge_private
            )
        age = int(outcome.at - self.since)
        if not is_shared:
            self._note_ttl(answer.ttl + age)
        gain = growing.add(answer, age, contributor)
        if growing.refused:
            outcome.dropped = (*outcome.dropped, *growing.refused)
        context.joined[outcome.tier].value += gain
        return gain > 0

    def settle(self) -> None:
        """Have the answer say all that was added."""
        if self._growing is not None:
            self.answer = self._growing.pool()

    def credit(self) -> None:
        """Add those who gave the very answer that is held to who brought it."""
        held = self.answer
        if not self._same or not isinstance(held, AddressPool):
            return
        held.brought_by = CONTRIBUTORS.number(self._same | CONTRIBUTORS.mask(held.brought_by))
        self._same = 0
        self.credited = True

    def _overrules(
        self, answer: AddressPool, outcome: Outcome, context: CollectionContext, trace: Trace
    ) -> bool:
        """Return whether this is the second upstream that allows its answer to be kept, after a
        first answer that may not be (TTL 0): then what those two say takes its place. One alone
        against another is not believed.
        """
        settings = context.settings
        public = answer if settings.merge_private else without_private(answer)
        if not isinstance(public, AddressPool):
            return False
        contributor = CONTRIBUTORS.bit(outcome.upstream.name)
        if self._keepable is None:
            public.brought_by = CONTRIBUTORS.number(contributor)
            self._keepable = public, outcome.at
            return False
        first, since = self._keepable
        age = int(outcome.at - since)
        both = GrowingPool(first, settings.max_pool_size, private=True)
        both.add(public, age, contributor)
        pool = both.pool()
        self.begin(pool, outcome, since, context)
        trace.let_go_of_all_but(pool.addresses, outcome)
        self.first_ttl = self._longest_ttl = first.ttl
        self._note_ttl(public.ttl + age)
        return True

    def _note_ttl(self, ttl: int) -> None:
        """Note the TTL of one more upstream's answer, counted from the first answer on."""
        if self.hearsay and ttl:
            self.hearsay = False
            self.first_ttl = ttl
        self.second_ttl = max(self.second_ttl, min(self._longest_ttl, ttl))
        self._longest_ttl = max(self._longest_ttl, ttl)
