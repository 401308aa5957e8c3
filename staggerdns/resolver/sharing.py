"""A collection's dealings with the second level: it asks there first, and tells at the end.

looking --whole pool--> the collection ends with it
   |----part of one, nothing, an error, no reply in time--> upstreams are asked --> told
                                                              ^
                                 a late pool joins here ------+
"""

from __future__ import annotations

from abc import abstractmethod

from staggerdns.resolver.collecting import Merger
from staggerdns.resolver.context import CollectionContext
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.secondlevel import (
    PARTIAL,
    WHOLE,
    Found,
    Reading,
    SecondLevel,
    collected_of,
    expected_of,
    is_answer,
    outcome_of,
    screened,
)
from staggerdns.strategy.run import Run
from staggerdns.traces.trace import Trace
from staggerdns.upstream.exchange import Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question


class Sharer(Merger):
    """A collection, as its `Sharing` sees it."""

    __slots__ = ()

    @abstractmethod
    def new_run(self) -> Run:
        """Return a run that would ask the upstreams now."""

    @abstractmethod
    def ask(self, run: Run) -> None:
        """Ask the upstreams."""

    @abstractmethod
    def end_with(self, found: Found, outcome: Outcome, now: float) -> None:
        """End with a pool that is the answer."""

    @abstractmethod
    def hear_part(self, outcome: Outcome, now: float) -> None:
        """Have a pool be the first answer, or join what there is."""


class Sharing:
    """What one ``sharer`` asks the second level, and tells it."""

    __slots__ = (
        "_level",
        "_question",
        "_context",
        "_trace",
        "_sharer",
        "_reading",
        "_began",
        "_looking",
        "_expected",
        "_has_part",
    )

    def __init__(
        self,
        level: SecondLevel,
        question: Question,
        context: CollectionContext,
        trace: Trace,
        sharer: Sharer,
    ) -> None:
        self._level = level
        self._question = question
        self._context = context
        self._trace = trace
        self._sharer = sharer
        self._reading: Reading | None = None
        self._began = 0.0
        self._looking = False
        self._expected: frozenset[str] | None = None  # upstreams that make a pool whole
        self._has_part = False  # of the pool that the collection has

    def begin(self) -> bool:
        """Ask the second level if that makes sense now; return whether that is so. What follows may
        be done already.
        """
        self._looking = True
        self._began = self._context.clock.seconds()
        self._reading = self._level.read(self._question, self._screen, self._heard)
        return self._reading is not None

    def expect(self, run: Run) -> None:
        """Note whom a run is going to ask that has yet to be started."""
        self._expected = expected_of(run)

    def stop(self) -> None:
        """Hear nothing any more."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()

    def is_flushed(self) -> bool:
        """Return whether something that the second level had was flushed since."""
        return self._has_part and self._reading is not None and self._reading.is_flushed()

    def write(self, entry: Entry, now: float) -> None:
        """Let others have an entry whose collection has ended, and hear nothing any more."""
        reading = self._reading
        self.stop()
        collected = collected_of(entry, self._trace.history, self._expected, now)
        if reading is not None and collected is not None:
            reading.write(collected)

    def _screen(self, pool: AddressPool) -> AddressPool | None:
        """Return what can be believed of a pool of the second level."""
        context = self._context
        judge: Judge = context.judge(self._question)
        left = screened(pool, judge)
        context.count(judge)
        return None if left is None else context.cache.freshness.limit(left)

    def _heard(self, found: Found | None, why: str) -> None:
        looking, self._looking = self._looking, False
        context, sharer = self._context, self._sharer
        now = context.clock.seconds()
        outcome = outcome_of(found, why, self._began, now)
        self._trace.history.append(outcome)
        run = sharer.new_run() if looking else None
        if found is not None:
            previous = context.cache.held(self._question.key)
            short = context.cache.freshness.short
            if run is not None and is_answer(found, expected_of(run), previous, now, short):
                self._level.reads[WHOLE].value += 1
                sharer.end_with(found, outcome, now)
                return
            self._level.reads[PARTIAL].value += 1
            if not looking or previous is None or now >= previous.expires:
                self._has_part = True
                sharer.hear_part(outcome, now)
            else:
                outcome.answer = None  # what is held is as good, and a refresh shall replace it
        if run is not None:
            sharer.ask(run)


def sharing_of(
    question: Question, context: CollectionContext, trace: Trace, sharer: Sharer
) -> Sharing | None:
    """Return the dealings of a collection that begins, `None` if its question is not shared."""
    level = context.second_level
    if level is None or not question.mergeable:
        return None
    return Sharing(level, question, context, trace, sharer)
