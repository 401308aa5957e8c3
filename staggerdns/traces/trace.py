"""Traces: the record of each collection, and of the sorts of what it found.

A trace is written by those who do what it tells of, as they do it: the run notes how each query
ended, the collection when the client had its answer, the ranker its sorts. All but the sorts is
what these have to know anyway, so that a new name costs little more. `Traces` keeps the last ones,
the latest of each name; whoever explains an answer reads them there.

    collection begins --> `Traces.keep` --> outcomes, sorts --> `Trace.end`: bounded in memory
                                                |
                     a newer collection of the same key takes its place, or `limit` others do
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence

from staggerdns.ranking.rtt import RttTable
from staggerdns.strategy.run import History
from staggerdns.traces.brief import MAX_ADDRESSES, BriefAnswer
from staggerdns.upstream.exchange import Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.dropped import NOT_KEPT
from staggerdns.wire.sections import LoneAliasAnswer

MAX_SORTS = 20
"""Sorts of one trace that are kept, the latest of them."""
MAX_OCTETS = 1_024
"""An answer that is no pool and takes more is kept as a `BriefAnswer`."""

QUEUE_FULL = "queue_full"
SORTED = "sorted"
SILENT = "silent"
CANCELLED = "cancelled"
WAITING = "waiting"


class SortTrace:
    """A sort: its ``trigger``, when it ``began`` and ``ended``, its ``result``, and the ``order``
    that it found with the round trips behind it, in seconds, `None` for silence.
    """

    __slots__ = ("trigger", "began", "ended", "result", "order", "round_trips")

    def __init__(self, trigger: str, began: float) -> None:
        self.trigger = trigger
        self.began = began
        self.ended: float | None = None
        self.result = WAITING
        self.order: tuple[bytes, ...] = ()
        self.round_trips: tuple[float | None, ...] = ()


KnownSort = tuple[str, float, Answer]
"""A sort that ended where it began, since nothing had to be measured: its trigger, when that was,
and the answer in its order, which the cache keeps as well. Most are of this kind, and an object, or
an order of its own, would cost more than the sort.
"""


class Trace:
    """The record of a collection; all times are seconds of its clock.

    ``key``: of the question; ``strategy``: how it was asked. ``history`` has how the queries ended,
    in order, and ``first`` the one that answered the clients, at ``answered``. ``spared``: how many
    upstreams were not asked since they would add nothing. ``ended``: when the collection did. A
    time that has not come is `None`.
    """

    __slots__ = (
        "key",
        "generation",
        "began",
        "strategy",
        "history",
        "first",
        "answered",
        "spared",
        "ended",
        "sorts",
    )

    def __init__(self, key: bytes, generation: int, began: float) -> None:
        self.key = key
        self.generation = generation
        self.began = began
        self.strategy = ""
        self.history: History = []
        self.first: Outcome | None = None
        self.answered: float | None = None
        self.spared = 0
        self.ended: float | None = None
        self.sorts: list[SortTrace | KnownSort] | None = None

    def let_go_of_all_but(self, addresses: Collection[bytes], last: Outcome) -> None:
        """Note that what may not be kept has made room for these ``addresses``, which may. Later
        answers than the ``last`` that led to this have yet to join them.
        """
        for outcome in self.history:
            if isinstance(outcome, Outcome) and outcome.answer is not None:
                kept = [address for address in outcome.answer.addresses if address in addresses]
                outcome.drop_all_but(kept, NOT_KEPT)
            if outcome is last:
                return

    def end(self, now: float) -> None:
        """Note the end of the collection; large answers are let go of, and what was dropped of
        them.
        """
        self.ended = now
        for outcome in self.history:
            if not isinstance(outcome, Outcome):
                continue
            if len(outcome.dropped) > MAX_ADDRESSES:
                _keep_few_dropped(outcome)
            answer = outcome.answer
            if answer is not None:
                if isinstance(answer, AddressPool):
                    is_large = len(answer.addresses) > MAX_ADDRESSES
                else:  # an alias has the whole message that it came in
                    is_large = answer.octets > MAX_OCTETS or isinstance(answer, LoneAliasAnswer)
                if is_large:
                    outcome.answer = BriefAnswer(answer)


class Traces:
    """The last ``limit`` traces by key, the oldest first; with 0 there are none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._traces: OrderedDict[bytes, Trace] = OrderedDict()

    def __len__(self) -> int:
        return len(self._traces)

    def use(self, limit: int) -> None:
        """Keep so many from now on."""
        self._limit = limit
        while len(self._traces) > limit:
            self._traces.popitem(last=False)

    def keep(self, trace: Trace) -> None:
        """Keep the trace of a collection that begins, in the place of an earlier one."""
        if not self._limit:
            return
        traces = self._traces
        key = trace.key
        if key in traces:
            del traces[key]
        elif len(traces) >= self._limit:
            traces.popitem(last=False)
        traces[key] = trace

    def find(self, key: bytes) -> Trace | None:
        """Return the latest trace under a key."""
        return self._traces.get(key)

    def latest(self) -> Iterator[Trace]:
        """Yield all traces, the latest first; none may be kept meanwhile."""
        return reversed(self._traces.values())

    def sort_was_known(self, key: bytes, trigger: str, now: float, answer: Answer) -> None:
        """Note a sort that has ended where it began, with an ``answer`` in its order."""
        trace = self._traces.get(key)
        if trace is not None:
            _add(trace, (trigger, now, answer), now)

    def sort_begins(self, key: bytes, trigger: str, now: float) -> SortTrace | None:
        """Note that a sort begins; return its record if there is a trace that it belongs to."""
        trace = self._traces.get(key)
        if trace is None:
            return None
        sort = SortTrace(trigger, now)
        _add(trace, sort, now)
        return sort

    def sort_cancelled(self, key: bytes) -> None:
        """Note that the sort under a key has been cancelled."""
        trace = self._traces.get(key)
        last = trace.sorts[-1] if trace is not None and trace.sorts else None
        if isinstance(last, SortTrace) and last.result is WAITING:
            last.result = CANCELLED


def _keep_few_dropped(outcome: Outcome) -> None:
    """Keep as many of what was dropped as of the addresses, those that are among them first."""
    answer = outcome.answer
    shown = () if answer is None else answer.addresses[:MAX_ADDRESSES]
    outcome.dropped = sorted(outcome.dropped, key=lambda one: one[0] not in shown)[:MAX_ADDRESSES]


def _add(trace: Trace, sort: SortTrace | KnownSort, now: float) -> None:
    sorts = trace.sorts
    if sorts is None:
        trace.sorts = [sort]
        return
    last = sorts[-1]
    if isinstance(last, SortTrace) and last.result is CANCELLED and last.ended is None:
        last.ended = now  # by what has led to this one
    sorts.append(sort)
    if len(sorts) > MAX_SORTS:
        del sorts[0]


def sort_ends(
    sort: SortTrace, addresses: Sequence[bytes] | None, table: RttTable, now: float
) -> None:
    """Note the order that a sort has found, `None` if no address has answered."""
    sort.ended = now
    if addresses is None:
        sort.result = SILENT
        return
    sort.result = SORTED
    sort.order = tuple(addresses)
    sort.round_trips = table.round_trips(addresses)
