"""A collection: one question's whole life, from the first query to the last answer.

It hears every outcome of its run and commits what it finds to the cache under its generation.
Clients that wait are followers; they get the first answer, and neither their coming nor their going
changes what the collection does: it belongs to the question, not to whoever asked first
(docs/specification.rst, Flights and generations).

Later answers wait until somebody looks: to merge, order and store a pool costs more than all else
about an answer, and nobody has to see the steps in between.

    later answer --> waiting --+-- the entry is looked up, or a newcomer joins --+--> merged
                               +-- `MERGE_DELAY` is over                        --+
                               +-- the collection ends                          --+
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from staggerdns.resolver.context import FAILED, FALLBACK, NEGATIVE, POSITIVE, CollectionContext
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.failures import failure_answer, is_served
from staggerdns.resolver.freshness import FAILURE_TTL
from staggerdns.resolver.gathering import Gathering
from staggerdns.resolver.secondlevel import Found
from staggerdns.resolver.sharing import Sharer, Sharing, sharing_of
from staggerdns.strategy.alarms import Alarm
from staggerdns.strategy.run import Run
from staggerdns.strategy.tiers import SHARED
from staggerdns.traces.lines import log_end, log_first
from staggerdns.traces.trace import Trace
from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.dropped import NOT_KEPT, PRIVATE
from staggerdns.wire.pool import without_private
from staggerdns.wire.question import Question
from staggerdns.wire.sections import LoneAliasAnswer

MAX_ALIASES = 8
"""Lone aliases that are followed for one question, one behind the other."""
MERGE_DELAY = 0.2
"""Seconds that a later answer may wait to be merged.

With a few upstreams the collection has ended by then, so that the pool is merged once. Addresses
are probed that much later at most, which nobody feels who obeys the short TTL of the first answer.
"""


class Collection(Sharer):
    """The collection of one question; `begin` starts it.

    ``over`` is called once, when the collection has ended by itself.
    """

    def __init__(
        self,
        question: Question,
        generation: int,
        context: CollectionContext,
        over: Callable[[Collection], None],
        now: float,
    ) -> None:
        self.judge = context.judge(question)
        self.question = question
        self.followers: list[Deferred[Entry]] = []
        self.trace = Trace(question.key, generation, now)
        context.traces.keep(self.trace)
        self._generation = generation
        self._context = context
        self._over = over
        self.run: Run | None = None
        self._gathering = Gathering()  # all that came, but for what waits in `_later`
        self._later: list[Outcome] = []
        self._alarm: Alarm | None = None
        self._alias: LoneAliasAnswer | None = None  # whose target is asked for
        self._aliases = 0
        self._sharing: Sharing | None = None
        self._entry: Entry | None = None
        self._committed: Answer | None = None  # what the cache holds of this collection
        self.abandoned = False

    def begin(self) -> None:
        """Start: ask the second level, if there is one, and then the upstreams if need be."""
        sharing = sharing_of(self.question, self._context, self.trace, self)
        self._sharing = sharing
        if sharing is None or not sharing.begin():
            self._sharing = None
            self.ask(self.new_run())

    def new_run(self) -> Run:
        """Return a run that would ask the upstreams now."""
        return self._context.strategy.ask(self.judge, self)

    def ask(self, run: Run) -> None:
        """Start asking upstreams."""
        self.run = run
        if self._sharing is not None:
            self._sharing.expect(run)
        self.trace.strategy = run.strategy
        run.history = self.trace.history  # of several runs one, if that many are needed
        run.start()

    def begin_anew(self, context: CollectionContext) -> None:
        """Start asking once more, by the rules of ``context``; the key stays.

        An alias that others have found may lead to a name that these must not see.
        """
        self._context.count(self.judge)
        self._context, alias = context, self._alias
        if alias is not None and context.is_routed(alias.target, self.question.qtype):
            self._alias = None
        self.judge = context.judge(self.question, self._alias)
        self.ask(self.new_run())

    def join(self, now: float) -> Deferred[Entry]:
        """Return a Deferred of the first answer, fired already when that has come before ``now``.

        Cancelling it takes this follower out and disturbs nobody else.
        """
        follower: Deferred[Entry] = Deferred(self._leave)
        if self._later:
            self.merge(now)
        if self._entry is None and self._gathering.answer is not None:  # not in the cache any more
            self._commit(now)
        if self._entry is not None:
            follower.callback(self._entry)
        else:
            self.followers.append(follower)
        return follower

    def evict_oldest(self) -> Deferred[Entry]:
        """Remove the follower that has waited for the longest, and return it."""
        return self.followers.pop(0)

    def abandon(self) -> list[Deferred[Entry]]:
        """Stop asking, to make room for others; return the followers that still wait.

        What was found so far stays in the cache.
        """
        self.abandoned = True
        self._stop_sharing()
        if self.run is not None:
            self.run.cancel()
            self.run = None
        cache, key, now = self._context.cache, self.question.key, self._context.clock.seconds()
        if self._later:
            self.merge(now)
        self.trace.end(now)
        cache.merged(key, self)
        if self._entry is not None:
            cache.complete(key, self._generation, self._gathering.first_ttl)
        followers, self.followers = self.followers, []
        return followers

    def cancel(self) -> None:
        """Stop asking; followers that still wait get a failure."""
        self._stop_sharing()
        if self.run is not None:
            self.run.cancel()
        now = self._context.clock.seconds()
        if self._entry is None:
            self._later = []
            self._gathering.answer = FailureAnswer(Ede.NOT_READY, 0)
            self._commit(now)
        elif self._later:
            self.merge(now)
        self.trace.end(now)

    def known(self) -> AddressPool | None:
        """Return the pool that is in the cache from an earlier collection."""
        entry = self._context.cache.held(self.question.key)
        pool = None if entry is None else entry.answer
        return pool if isinstance(pool, AddressPool) else None

    def first(self, outcome: Outcome) -> None:
        """Commit the answer that the run gives to the clients."""
        answer = outcome.answer
        assert answer is not None
        if answer.negative and isinstance(answer, LoneAliasAnswer):
            if self._follow(answer):
                return
            answer = answer.plain()
        if self._gathering.hearsay:
            if isinstance(answer, AddressPool):
                self.more(outcome)
                return
            self._take_later()  # upstreams know better
        self.trace.first = outcome
        if self._context.journal.verbose:
            log_first(self._context.journal, self.question, outcome)
        now = self._context.clock.seconds()
        answer = self._context.cache.freshness.admit(answer)
        self._gathering.begin(answer, outcome, now, self._context)
        self._settle(now)

    def _follow(self, alias: LoneAliasAnswer) -> bool:
        """Ask for the target of an alias, if that may be done; return whether it is."""
        before = self._alias
        if self._aliases == MAX_ALIASES or (before and before.target == alias.target):
            return False
        if self._context.is_routed(alias.target, self.question.qtype):
            return False
        self._aliases += 1
        self._alias = alias
        run, self.run = self.run, None
        if run is not None:
            run.cancel()
        self.begin_anew(self._context)
        return True

    def more(self, outcome: Outcome) -> None:
        """Have a later positive answer join the pool."""
        answer, held = outcome.answer, self._gathering.answer
        assert answer is not None
        assert held is not None
        if isinstance(held, AddressPool) and isinstance(answer, AddressPool):
            if not self._later and self._gathering.is_known(outcome):
                return
            self._later.append(outcome)
            if len(self._later) == 1:
                self._await_look(outcome.at)
        elif held.negative:  # it answered the clients, but data is worth more
            context = self._context
            answer = context.cache.freshness.admit(answer)
            public = answer if context.settings.merge_private else without_private(answer)
            outcome.drop_all_but(() if public is None else public.addresses, PRIVATE)
            if public is not None and (public.ttl or not held.ttl):
                now = context.clock.seconds()
                self._gathering.begin(public, outcome, now, context)
                self._settle(now)
            else:
                outcome.drop_all_but((), NOT_KEPT)

    def merge(self, now: float) -> None:
        """Merge what has come since, and commit the pool if it grew or has been held back."""
        if self._merge_later() or self._entry is None:
            self._settle(now)

    def ended(self, reasons: Sequence[Reason]) -> None:
        """Complete what is in the cache when the run has ended, or commit a failure."""
        context, gathering = self._context, self._gathering
        if gathering.answer is None and context.fall_back is not None:
            context.ended_by_route(FALLBACK)
            context.fall_back(self)
            return
        now = context.clock.seconds()
        if gathering.answer is None:
            gathering.since = now
            gathering.answer = context.cache.freshness.admit(failure_answer(reasons, FAILURE_TTL))
        grown = self._merge_later()
        if reasons and (gathering.hearsay or isinstance(gathering.answer, FailureAnswer)):
            context.failed(is_served(reasons))
        gathering.credit()
        answer, key = gathering.answer, self.question.key
        if grown or self._entry is None:
            self._commit(now)
        elif isinstance(answer, AddressPool) and (
            answer is not self._committed or gathering.credited
        ):
            context.cache.prolong(key, self._generation, answer)
        second_ttl = 0 if gathering.hearsay else gathering.second_ttl or None
        context.cache.complete(key, self._generation, gathering.first_ttl, second_ttl)
        self._share(now)
        outcome = FAILED if isinstance(answer, FailureAnswer) else POSITIVE
        outcome = NEGATIVE if answer.negative else outcome
        context.count(self.judge)
        context.ended(self.trace.strategy, outcome)
        context.seconds.observe(now - self.trace.began)
        run = self.run
        if run is not None:
            self.trace.spared = run.spared
        if run is not None and run.wants_all and isinstance(answer, AddressPool):
            context.pool_ended(run.decision.answered, run.spared)
        if context.journal.verbose:
            log_end(context.journal, self.question, self.trace, answer)
        self.trace.end(now)
        self.run = None  # they refer to each other: no reference cycle stays behind
        if not self.abandoned:
            self._over(self)

    def end_with(self, found: Found, outcome: Outcome, now: float) -> None:
        """End with a pool of the second level that is the answer."""
        context, key = self._context, self.question.key
        self._sharing = None
        self.trace.strategy = SHARED
        self.trace.first = outcome
        self._gathering.begin(found.pool, outcome, now, context)
        self._commit(now)
        context.cache.complete(key, self._generation, found.due, found.due)
        context.outcomes.cell(SHARED, POSITIVE).value += 1
        context.seconds.observe(now - self.trace.began)
        self.trace.end(now)
        if not self.abandoned:
            self._over(self)

    def hear_part(self, outcome: Outcome, now: float) -> None:
        """Have what the second level knows be the first answer, or join what there is."""
        held = self._gathering.answer
        if held is None:
            assert outcome.answer is not None
            self.trace.first = outcome
            self._gathering.begin(outcome.answer, outcome, now, self._context)
            self._settle(now)
        elif isinstance(held, AddressPool):
            self._later.append(outcome)
            if len(self._later) == 1:
                self._await_look(now)
        else:
            outcome.answer = None  # upstreams know better

    def _share(self, now: float) -> None:
        """Let the second level have what upstreams have said, if it counts here."""
        sharing, self._sharing = self._sharing, None
        entry = self._context.cache.held(self.question.key)
        if sharing is None:
            return
        if entry is None or entry.generation != self._generation or self._gathering.hearsay:
            sharing.stop()
        elif sharing.is_flushed():
            sharing.stop()
            self._context.cache.forget(self.question.key)
        else:
            sharing.write(entry, now)

    def _stop_sharing(self) -> None:
        if self._sharing is not None:
            self._sharing.stop()
            self._sharing = None

    def _leave(self, follower: Deferred[Entry]) -> None:
        """Forget a follower that went away."""
        if follower in self.followers:
            self.followers.remove(follower)

    def _await_look(self, now: float) -> None:
        """Leave the first answer that waits to whoever looks at the entry, or to the alarm."""
        context = self._context
        key = self.question.key
        if self._entry is not None:
            if context.cache.defer(key, self._generation, self):
                self._alarm = context.alarms.set(now + MERGE_DELAY, self._alarmed)
        elif not context.cache.hold_back(key, self._generation, self, now):
            self.merge(now)

    def _alarmed(self) -> None:
        self._alarm = None
        self.merge(self._context.clock.seconds())

    def _take_later(self) -> list[Outcome]:
        """Return the answers that wait; nobody has to look, and no alarm is set, any more."""
        later, self._later = self._later, []
        if self._alarm is not None:
            self._context.alarms.cancel(self._alarm)
            self._alarm = None
        self._context.cache.merged(self.question.key, self)
        return later

    def _merge_later(self) -> bool:
        """Merge the answers that wait; return whether that brought new addresses."""
        if not self._later:
            return False
        grown = False
        for outcome in self._take_later():
            grown = self._gathering.add(outcome, self._context, self.trace) or grown
        self._gathering.settle()
        return grown

    def _settle(self, now: float) -> None:
        """Commit what there is; but while a refresh runs behind an answer that has not expired, at
        its end. So a name that is asked for often never shrinks to what one upstream says.
        """
        cache = self._context.cache
        if self.followers or not cache.hold_back(self.question.key, self._generation, self, now):
            self._commit(now)

    def _commit(self, now: float) -> None:
        answer = self._gathering.answer
        assert answer is not None
        cache = self._context.cache
        cache.merged(self.question.key, self)
        self._entry = entry = cache.commit(
            self.question.key, self._generation, answer, now, self._gathering.since
        )
        self._committed = answer
        if self._gathering.hearsay and entry.generation == self._generation:
            entry.hearsay = True
        followers, self.followers = self.followers, []
        if followers and self.trace.answered is None:
            self.trace.answered = now
        for follower in followers:
            follower.callback(entry)
