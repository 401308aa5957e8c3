"""What is remembered of collections and sorts, and that it is bounded."""

from __future__ import annotations

import pytest

import staggerdns.resolver.forwarder as forwarder_module
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from staggerdns.strategy.run import GivenUp
from staggerdns.traces.brief import MAX_ADDRESSES, BriefAnswer
from staggerdns.traces.trace import (
    CANCELLED,
    MAX_SORTS,
    SILENT,
    SORTED,
    WAITING,
    SortTrace,
    Trace,
    Traces,
    sort_ends,
)
from staggerdns.upstream.exchange import Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.dropped import DENIED, LIMIT, NOT_KEPT, PRIVATE
from tests.kit.acts import Act, fails, negative, says
from tests.kit.probing import address, measure
from tests.kit.ranked import RankedResolver
from tests.kit.simulated import START, SimulatedResolver


def keep(traces: Traces, *keys: bytes) -> list[Trace]:
    """Keep traces under these keys."""
    kept = [Trace(key, number, START) for number, key in enumerate(keys)]
    for trace in kept:
        traces.keep(trace)
    return kept


def test_the_limit() -> None:
    """As many are kept as the limit says; with one more the oldest goes."""
    traces = Traces(3)
    keep(traces, b"a", b"b", b"c")
    assert [trace.key for trace in traces.latest()] == [b"c", b"b", b"a"]
    keep(traces, b"d")
    assert [trace.key for trace in traces.latest()] == [b"d", b"c", b"b"]
    assert (len(traces), traces.find(b"a")) == (3, None)


def test_none() -> None:
    """With a limit of 0 nothing is kept."""
    traces = Traces(0)
    keep(traces, b"a")
    assert (len(traces), traces.find(b"a")) == (0, None)
    assert traces.sort_begins(b"a", "first_answer", START) is None


def test_the_latest_of_a_key() -> None:
    """A later collection takes the place of an earlier one, and is the latest of all."""
    traces = Traces(3)
    keep(traces, b"a", b"b")
    (again,) = keep(traces, b"a")
    assert [trace.key for trace in traces.latest()] == [b"a", b"b"]
    assert traces.find(b"a") is again


def test_another_limit() -> None:
    """A lower limit counts at once: the latest stay."""
    traces = Traces(5)
    keep(traces, b"a", b"b", b"c")
    traces.use(2)
    assert [trace.key for trace in traces.latest()] == [b"c", b"b"]
    traces.use(0)
    assert len(traces) == 0


def test_sorts() -> None:
    """Each has its trigger, its times and its order with the round trips behind it."""
    traces, table = Traces(1), RttTable(RankingSettings())
    keep(traces, b"a")
    one, two = address(1), address(2)
    measure(table, one, [0.004], START)
    measure(table, two, [None], START)
    first = traces.sort_begins(b"a", "first_answer", START)
    assert first is not None
    assert (first.trigger, first.began, first.ended, first.result) == (
        "first_answer",
        START,
        None,
        WAITING,
    )
    sort_ends(first, (one, two), table, START + 1)
    assert (first.ended, first.result) == (START + 1, SORTED)
    assert (first.order, first.round_trips) == ((one, two), (0.004, None))
    second = traces.sort_begins(b"a", "refresh", START + 2)
    assert second is not None
    sort_ends(second, None, table, START + 3)
    assert (second.result, second.order) == (SILENT, ())
    traces.sort_cancelled(b"a")
    assert second.result == SILENT
    third = traces.sort_begins(b"a", "rtt_stale", START + 4)
    traces.sort_cancelled(b"a")
    assert third is not None
    assert (third.result, third.ended) == (CANCELLED, None)
    traces.sort_begins(b"a", "refresh", START + 5)
    assert third.ended == START + 5  # what has cancelled it begins with this sort
    traces.sort_cancelled(b"b")  # there is none


def test_many_sorts() -> None:
    """The last ones are kept, as many as there may be."""
    traces = Traces(1)
    (trace,) = keep(traces, b"a")
    for number in range(MAX_SORTS + 1):
        traces.sort_begins(b"a", str(number), START)
        assert trace.sorts is not None
        assert len(trace.sorts) == min(number + 1, MAX_SORTS)
    assert trace.sorts is not None
    first, last = trace.sorts[0], trace.sorts[-1]
    assert isinstance(first, SortTrace)
    assert isinstance(last, SortTrace)
    assert (first.trigger, last.trigger) == ("1", str(MAX_SORTS))
    answer = AddressPool((), (b"\xc0\0\2\1", b"\xc0\0\2\2"), 60, ad=False)
    traces.sort_was_known(b"a", "known", START, answer)
    assert len(trace.sorts) == MAX_SORTS
    assert trace.sorts[-1] == ("known", START, answer)


def traced(resolver: SimulatedResolver, qtype: int = 1) -> Trace:
    """The trace of a question that is asked, when all has ended."""
    question = resolver.question(qtype=qtype)
    resolver.ask(question)
    resolver.run()
    trace = resolver.traces.find(question.key)
    assert trace is not None
    return trace


def told(trace: Trace) -> list[tuple[str, str, int, int | None]]:
    """Of each query upstream, tier, and the milliseconds of its begin and its end."""
    return [
        (
            one.upstream.name,
            one.tier,
            round(1000 * (one.asked - trace.began)),
            round(1000 * (one.at - trace.began)),
        )
        for one in trace.history
    ]


def test_a_collection() -> None:
    """Each query is there with its tier and times, and which one answered the client, and when."""
    resolver = SimulatedResolver(
        says(10, "203.0.113.1"),
        says(20, "203.0.113.2"),
        fails(5),
        says(30, "203.0.113.4"),
    )
    trace = traced(resolver)
    names = [upstream.name for upstream in resolver.upstreams]
    assert told(trace) == [
        (names[0], "active", 0, 10),
        (names[1], "active", 0, 20),
        (names[2], "staggered", 50, 55),
        (names[3], "staggered", 50, 80),
    ]
    assert trace.first is trace.history[0]
    assert (trace.strategy, trace.generation) == ("parallel", 1)
    assert trace.answered == pytest.approx(START + 0.01)
    assert trace.ended == pytest.approx(START + 0.08)


@pytest.mark.parametrize("strategy", ["racing", "sequential", "random"])
def test_what_nobody_needs_any_more(strategy: str) -> None:
    """Queries that are given up are there as well."""
    resolver = SimulatedResolver(
        Act(), says(400, "203.0.113.1"), strategy=strategy, rng=bytes, timeout=1.0
    )
    trace = traced(resolver)
    assert len(trace.history) == len(resolver.launched) >= 1
    for one in trace.history:
        if isinstance(one, GivenUp):
            assert one.at >= one.asked
    if strategy == "racing":
        assert any(isinstance(one, GivenUp) for one in trace.history)


def test_nobody_waits_for_a_refresh() -> None:
    """Then no client has had an answer of it."""
    resolver = SimulatedResolver(says(10, "203.0.113.1"))
    resolver.forwarder.refresh(resolver.question(), resolver.clock.seconds())
    resolver.run()
    trace = resolver.traces.find(resolver.question().key)
    assert trace is not None
    assert trace.answered is None
    assert trace.ended is not None


def drops(trace: Trace) -> list[list[str]]:
    """Why something was dropped, of each query that has ended."""
    return [
        [why for _, why in one.dropped] if isinstance(one, Outcome) else [] for one in trace.history
    ]


def test_private_addresses_of_others() -> None:
    """They do not join, and it is said why; those of the first answer are in it."""
    resolver = SimulatedResolver(
        says(10, "203.0.113.1", "10.0.0.1"), says(20, "203.0.113.2", "10.0.0.2")
    )
    assert drops(traced(resolver)) == [[], [PRIVATE]]


def test_private_addresses_after_a_negative() -> None:
    """The same where they come after an answer without addresses."""
    resolver = SimulatedResolver(negative(10), says(60, "203.0.113.2", "10.0.0.2"))
    assert drops(traced(resolver)) == [[], [PRIVATE]]


def test_a_full_pool() -> None:
    """What finds no room is dropped, in the first answer and later."""
    many = [f"203.0.113.{number}" for number in range(40)]
    trace = traced(SimulatedResolver(says(10, *many), says(20, "203.0.114.1")))
    assert drops(trace) == [[LIMIT] * 8, [LIMIT]]


def test_all_of_the_active_tier_deny() -> None:
    """Whoever brings addresses after that is not believed."""
    resolver = SimulatedResolver(negative(5), negative(5), says(10, "203.0.113.1"))
    assert drops(traced(resolver)) == [[], [], [DENIED]]


def test_what_may_not_be_kept() -> None:
    """An answer of TTL 0 joins none that may be kept; and one that came first makes room for two
    that may.
    """
    late = SimulatedResolver(says(5, "203.0.113.1"), says(10, "203.0.113.2", ttl=0))
    assert drops(traced(late)) == [[], [NOT_KEPT]]
    early = SimulatedResolver(
        says(5, "203.0.113.1", "203.0.113.2", ttl=0),
        says(10, "203.0.113.2"),
        says(15, "203.0.113.3"),
    )
    assert drops(traced(early))[0] == [NOT_KEPT]
    # All but the first two are merged together, the last one after the two that make room.
    together = SimulatedResolver(
        says(0, "203.0.113.1", ttl=0),
        says(0, "203.0.113.1", ttl=0),
        *[says(0, "203.0.113.1", ttl=900)] * 2,
        says(0, "203.0.113.2", ttl=900),
    )
    assert drops(traced(together)) == [[], [], [], [], []]


def test_large_answers() -> None:
    """An answer with too many addresses, or too large, is kept in brief when all has ended."""
    for count, is_brief in ((MAX_ADDRESSES, False), (MAX_ADDRESSES + 1, True)):
        many = [f"203.0.113.{number}" for number in range(count)]
        trace = traced(SimulatedResolver(says(10, *many)))
        (one,) = trace.history
        assert isinstance(one, Outcome)
        assert one.answer is not None
        assert isinstance(one.answer, BriefAnswer) is is_brief
        assert len(one.answer.addresses) == MAX_ADDRESSES
        if isinstance(one.answer, BriefAnswer):
            assert (one.answer.left_out, one.answer.ttl, one.answer.rcode) == (1, 300, 0)
            assert one.answer.sections(12, 1, 65_535) is None


def test_many_that_are_dropped() -> None:
    """No more of them are kept than of addresses, and those which are shown are among them."""
    many = [f"203.0.{number // 250}.{number % 250}" for number in range(4_000)]
    private = [f"10.0.{number // 250}.{number % 250}" for number in range(MAX_ADDRESSES + 1)]
    trace = traced(SimulatedResolver(says(5, "203.0.113.1"), says(10, *many), says(60, *private)))
    for one in trace.history[1:]:
        assert isinstance(one, Outcome)
        assert one.answer is not None
        assert len(one.dropped) == MAX_ADDRESSES
    late = trace.history[2]
    assert isinstance(late, Outcome)
    assert late.answer is not None
    assert {address for address, _ in late.dropped} == set(late.answer.addresses)


def test_a_collection_that_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has ended, and large answers are let go of, as they are at any end."""
    many = [f"203.0.113.{number}" for number in range(MAX_ADDRESSES + 1)]
    monkeypatch.setattr(forwarder_module, "MAX_COLLECTIONS", 1)
    resolver = SimulatedResolver(says(5, *many), Act())
    question = resolver.question()
    resolver.ask(question)
    resolver.run_to(20)
    trace = resolver.traces.find(question.key)
    assert trace is not None
    assert not trace.ended
    resolver.ask(resolver.question("other.example"))
    assert trace.ended == resolver.clock.seconds()
    one = trace.history[0]
    assert isinstance(one, Outcome)
    assert isinstance(one.answer, BriefAnswer)


def test_sorts_of_a_collection() -> None:
    """A pool is sorted when its first answer comes, and again when more do."""
    resolver = RankedResolver(
        says(10, "203.0.113.2", "203.0.113.3"),
        says(20, "203.0.113.1"),
    )
    trace = traced(resolver)
    assert trace.sorts is not None
    first, last = trace.sorts
    assert isinstance(first, SortTrace)
    assert isinstance(last, SortTrace)
    assert (first.trigger, last.trigger) == ("first_answer", "more_addresses")
    assert last.result == SORTED
    assert len(last.order) == len(last.round_trips) == 3
    assert None not in last.round_trips


def test_sorts_for_which_nothing_is_measured() -> None:
    """They have their trigger, and the order that was known."""
    resolver = RankedResolver(says(10, "203.0.113.2", "203.0.113.3"))
    traced(resolver)
    question = resolver.question("other.example")
    resolver.ask(question)
    resolver.run()
    trace = resolver.traces.find(question.key)
    assert trace is not None
    assert trace.sorts is not None
    assert [
        (sort[0], len(sort[2].addresses)) for sort in trace.sorts if isinstance(sort, tuple)
    ] == [("first_answer", 2)]
