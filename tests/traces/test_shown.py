"""Whatever happens to questions, their traces say what happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.inspection.waterfall import show_trace
from staggerdns.resolver import forwarder
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.traces.trace import MAX_SORTS, Trace
from staggerdns.wire.addresspool import AddressPool
from tests.kit.acts import SILENT, Act, fails, garbles, negative, says, unreachable
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.ranked import RankedResolver, dead_below
from tests.kit.simulated import START

UPSTREAMS = 5
NAMES = 3
ROOM = 2
"""Collections that there may be at once: one more, and the oldest is dropped."""
CLOSE = 0.02
"""Milliseconds: what is shown is rounded."""


def addresses() -> st.SearchStrategy[list[str]]:
    """What an upstream says: addresses that are near, far, silent to probes, or private."""
    one = st.integers(1, 90).map(lambda number: f"203.0.113.{number}")
    return st.lists(one | st.sampled_from(["10.0.0.1", "10.0.0.2"]), min_size=1, max_size=4)


def acts() -> st.SearchStrategy[Act]:
    """What an upstream does."""
    after = st.integers(0, 700)
    return st.one_of(
        st.builds(
            lambda after, said, ttl: says(after, *said, ttl=ttl),
            after,
            addresses(),
            st.sampled_from([0, 900]),
        ),
        st.builds(negative, after),
        st.builds(fails, after),
        st.builds(garbles, after),
        st.builds(unreachable, st.none() | after),
        st.just(SILENT),
    )


Step = Callable[["Model"], None]


def steps() -> st.SearchStrategy[Step]:
    """What happens."""
    names = st.integers(0, NAMES - 1)
    return st.one_of(
        names.map(lambda number: lambda model: model.ask(number)),
        names.map(lambda number: lambda model: model.refresh(number)),
        st.integers(1, 1_500).map(lambda wait: lambda model: model.wait(wait)),
        st.lists(acts(), min_size=UPSTREAMS, max_size=UPSTREAMS).map(
            lambda acts: lambda model: model.resolver.script(*acts)
        ),
        st.just(lambda model: model.resolver.give_up()),
        st.just(lambda model: model.resolver.run()),
    )


class Model:
    """A resolver, and which of what it did belongs to which trace."""

    def __init__(self, acts: list[Act], limit: int) -> None:
        parallel = ParallelSettings(max_pool_size=limit)
        self.resolver = RankedResolver(*acts, script=dead_below(20), parallel=parallel)
        self.questions = [self.resolver.question(f"n{number}.example") for number in range(NAMES)]
        self.traces: list[tuple[Trace, int]] = []
        """All that there ever were, and how many queries had been sent before each."""

    def ask(self, number: int) -> None:
        """A client asks."""
        self.resolver.ask(self.questions[number])

    def refresh(self, number: int) -> None:
        """The answer is collected anew."""
        self.resolver.forwarder.refresh(self.questions[number], self.resolver.clock.seconds())

    def wait(self, milliseconds: float) -> None:
        """Time passes."""
        self.resolver.run_to(self.resolver.now + milliseconds)

    def do(self, step: Step) -> None:
        """Have something happen, and look for the trace of what it began: one at most for each
        name.
        """
        before = len(self.resolver.launched)
        step(self)
        known = [trace for trace, _ in self.traces]
        begun = [trace for trace in self.resolver.traces.latest() if trace not in known]
        self.traces += [(trace, before) for trace in reversed(begun)]

    def launches(self, trace: Trace, since: int) -> list[tuple[str, str, float]]:
        """The queries of a trace: whom, in which tier, and milliseconds since it began."""
        later = [when for other, when in self.traces if other.key == trace.key and when > since]
        until = min(later, default=len(self.resolver.launched))
        asked = [iter(one.script.questions) for one in self.resolver.upstreams]
        found = []
        for place, launch in enumerate(self.resolver.launched):
            question = next(asked[launch.upstream])
            if since <= place < until and question.key == trace.key:
                name = self.resolver.upstreams[launch.upstream].name
                found.append((name, launch.tier, launch.at - 1000 * (trace.began - START)))
        return found

    def show(self, trace: Trace) -> dict[str, Any]:
        """What is shown of a trace."""
        is_latest = self.resolver.traces.find(trace.key) is trace
        under_way: Mapping[Any, Any] = {}
        if is_latest:
            under_way = self.resolver.forwarder.under_way(trace.key)
        now = self.resolver.clock.seconds()
        return show_trace(trace, under_way, self.resolver.ranking.table, now, now)


def check(model: Model, trace: Trace, since: int, *, over: bool) -> None:
    """Compare what is shown of a trace with what has happened; ``over``: nothing is under way."""
    shown = model.show(trace)
    asked = shown["asked"]
    launched = sorted(model.launches(trace, since))
    told = sorted((one["upstream"], one["tier"], one["at_ms"]) for one in asked)
    assert [one[:2] for one in told] == [one[:2] for one in launched]
    assert [one[2] for one in told] == pytest.approx([one[2] for one in launched], abs=CLOSE)
    check_times(shown)
    for one in asked:
        assert (one["took_ms"] is None) == (one["result"] == "waiting")
        assert one["new"] <= len(one["addresses"])
    if not shown["running"]:
        entry = model.resolver.cache.entries.get(trace.key)
        if entry is not None and entry.generation == trace.generation:
            pool = entry.answer.addresses if isinstance(entry.answer, AddressPool) else ()
            assert sum(one["new"] for one in asked) == len(pool)
    if over:
        assert not shown["running"]
        assert "waiting" not in {one["result"] for one in asked}
        if model.resolver.traces.find(trace.key) is trace:  # others are not told of the end
            assert "waiting" not in {sort["result"] for sort in shown["sorts"]}


def check_times(shown: Mapping[str, Any]) -> None:
    """Everything stands in the order of time, and nothing is later than the end."""
    asked, sorts, client = shown["asked"], shown["sorts"], shown["client_ms"]
    begins = [one["at_ms"] for one in asked]
    assert begins == sorted(begins)
    assert all(begin >= 0 for begin in begins)
    ends = [one["at_ms"] + one["took_ms"] for one in asked if one["took_ms"] is not None]
    assert all(one["took_ms"] is None or one["took_ms"] >= 0 for one in [*asked, *sorts])
    first = [one["at_ms"] + one["took_ms"] for one in asked if one["first"]]
    assert len(first) <= 1
    if first and client is not None:
        assert client >= first[0] - CLOSE
    if shown["ended_ms"] is not None:
        assert max([0.0, *ends]) <= shown["ended_ms"] + CLOSE
        assert client is None or client <= shown["ended_ms"] + CLOSE
    times = [sort["at_ms"] for sort in sorts]
    assert times == sorted(times)
    assert all(time >= 0 for time in times)


@PURE_ONLY
@given(
    st.lists(acts(), min_size=UPSTREAMS, max_size=UPSTREAMS),
    st.sampled_from([3, 32]),
    st.lists(steps(), min_size=1, max_size=12),
)
@settings(max_examples=amount(60, 3_000), deadline=None)
def test_whatever_happens(acts: list[Act], limit: int, steps: list[Step]) -> None:
    """Collections that end, are given up, or are dropped for want of room, and sorts of what they
    find: each query is in one trace, once; times, addresses and sorts are those that there were.
    """
    model = Model(acts, limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forwarder, "MAX_COLLECTIONS", ROOM)
        for step in [lambda model: model.ask(0), *steps]:
            model.do(step)
            for trace, since in model.traces:
                check(model, trace, since, over=False)
        model.do(lambda model: model.resolver.run())
    for trace, since in model.traces:
        check(model, trace, since, over=True)
    sorts = [sort for trace, _ in model.traces for sort in model.show(trace)["sorts"]]
    if all(len(trace.sorts or ()) < MAX_SORTS for trace, _ in model.traces):
        counted = model.resolver.ranking.counts()
        for trigger in {sort["trigger"] for sort in sorts}.union(counted):
            told = [sort for sort in sorts if sort["trigger"] == trigger]
            assert len(told) == counted.get(trigger, 0)
