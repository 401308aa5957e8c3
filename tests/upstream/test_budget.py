"""The budget of one upstream: in flight, tokens, first answers first, and refusals."""

from __future__ import annotations

import bisect
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.metrics import Metrics
from staggerdns.settings.upstreams import BudgetSettings
from staggerdns.upstream.budget import LOAD, REFUSALS, REFUSED_SHARE, QueryBudget
from tests.kit.acts import REFUSED, fails, says_own
from tests.kit.simulated import SimulatedResolver

LEAST = 5.0


def rules(rate: int = 0, burst: int = 100, inflight: int = 1000) -> BudgetSettings:
    """A budget of so many queries per second, at once, and in flight."""
    return BudgetSettings(max_inflight=inflight, queries_per_second=rate, burst=burst)


def spend_all(budget: QueryBudget, now: float, *, first: bool = True, most: int = 10_000) -> int:
    """Ask at ``now`` as long as there is room; how often."""
    count = 0
    while count < most and budget.has_room(now, first=first):
        budget.spend(now)
        count += 1
    return count


@pytest.mark.parametrize("limit", [1, 2, 1000])
@pytest.mark.parametrize("rate", [0, 10])
@pytest.mark.parametrize("first", [True, False])
def test_in_flight(limit: int, rate: int, first: bool) -> None:
    """One more may go below the cap, none at it or beyond; half of it is for first answers."""
    budget = QueryBudget(rules(rate, 100, limit))
    places = limit if first else (limit + 1) // 2
    for inflight, room in ((places - 1, True), (places, False), (places + 1, False)):
        budget.inflight = inflight
        assert budget.has_room(1.0, first=first) == room


def test_no_limit() -> None:
    """With 0 queries per second any number may go at any time."""
    budget = QueryBudget(rules(0, 1))
    assert spend_all(budget, 1.0, most=5000) == 5000
    assert spend_all(budget, 1.0, first=False, most=5000) == 5000
    assert budget.rate == 0
    assert budget.room_at(1.0) == 1.0


@pytest.mark.parametrize(("rate", "burst"), [(300, 100), (10, 100), (1, 1), (5, 3), (1000, 2)])
def test_the_bucket(rate: int, burst: int) -> None:
    """A burst goes at once and not one more; then one query every 1/rate seconds."""
    budget = QueryBudget(rules(rate, burst))
    assert spend_all(budget, 1000.0) == burst
    due = budget.room_at(1000.0)
    assert due == pytest.approx(1000.0 + 1 / rate)
    assert not budget.has_room(due - 0.01 / rate, first=True)
    assert spend_all(budget, due + 1e-6) == 1
    assert spend_all(budget, 1000.0 + 10 * burst / rate) == burst, "it fills up to the burst"


@pytest.mark.parametrize(("burst", "left"), [(100, 50), (99, 50), (10, 5), (3, 2), (2, 1), (1, 0)])
def test_half_is_for_first_answers(burst: int, left: int) -> None:
    """What only completes pools leaves half of the bucket, whole queries, to first answers."""
    budget = QueryBudget(rules(1, burst))
    assert spend_all(budget, 0.0, first=False) == burst - left
    assert spend_all(budget, 0.0, first=True) == left


def test_who_waits_for_whom() -> None:
    """An empty bucket has room for a first answer long before it has room for more."""
    budget = QueryBudget(rules(10, 10))
    spend_all(budget, 0.0)
    times = {
        first: next(
            now / 100 for now in itertools.count() if budget.has_room(now / 100, first=first)
        )
        for first in (True, False)
    }
    assert times[True] == pytest.approx(0.1, abs=0.011)
    assert times[False] == pytest.approx(0.6, abs=0.011)


@given(
    st.integers(1, 400),
    st.integers(1, 200),
    st.lists(
        st.tuples(st.floats(0.0, 0.5), st.integers(1, 60), st.booleans(), st.booleans()),
        min_size=1,
        max_size=60,
    ),
)
def test_no_window_sees_more(
    rate: int, burst: int, course: list[tuple[float, int, bool, bool]]
) -> None:
    """In any window of t seconds no more than rate * t + burst queries go, refused or not."""
    budget = QueryBudget(rules(rate, burst))
    now, sent = 50.0, list[float]()
    for wait, wanted, first, refused in course:
        now += wait
        sent += [now] * spend_all(budget, now, first=first, most=wanted)
        if refused:
            refuse(budget, now)
        assert budget.rate <= rate
    for start, end in itertools.combinations_with_replacement(sorted(set(sent)), 2):
        count = bisect.bisect_right(sent, end) - bisect.bisect_left(sent, start)
        assert count <= rate * (end - start) + burst + 1e-6


@given(st.integers(1, 500), st.integers(1, 200), st.floats(0.0, 100_000.0))
def test_room_at_is_when_there_is_room(rate: int, burst: int, start: float) -> None:
    """At the time that it names a first answer may be asked for, and not much earlier."""
    budget = QueryBudget(rules(rate, burst))
    spend_all(budget, start)
    due = budget.room_at(start)
    assert start < due <= start + 1.001 / rate
    assert budget.has_room(due + 1e-6, first=True)


def refuse(budget: QueryBudget, now: float, count: int = 1000) -> None:
    """Have so many queries refused."""
    for _ in range(count):
        budget.refused(now)


def busy(budget: QueryBudget, now: float, count: int) -> None:
    """Ask ``count`` times within the second of ``now``."""
    for _ in range(count):
        budget.spend(now)


def test_a_refusal_at_rest_says_nothing() -> None:
    """With up to 20 queries in a second a refusal is about the name."""
    budget = QueryBudget(rules())
    busy(budget, 10.0, LOAD)
    refuse(budget, 10.5)
    assert budget.rate == 0
    assert LOAD == 20


@pytest.mark.parametrize("load", [21, 100, 1000])
def test_a_refusal_under_load(load: int) -> None:
    """Beyond that it halves what was asked, and at once."""
    budget = QueryBudget(rules())
    busy(budget, 10.0, load)
    refuse(budget, 10.5)
    assert budget.rate == max(LEAST, load / 2)
    assert spend_all(budget, 10.5) <= 100
    assert not budget.has_room(10.5, first=True)


@pytest.mark.parametrize("load", [21, 40, 400])
def test_few_refusals_are_about_names(load: int) -> None:
    """Below a quarter of the queries, and below five, they change nothing; one more does."""
    few = max(REFUSALS, -(-load // 4)) - 1
    assert REFUSED_SHARE == 0.25
    budget = QueryBudget(rules())
    busy(budget, 10.0, load)
    refuse(budget, 10.5, few)
    assert budget.rate == 0
    refuse(budget, 10.6, 1)
    assert budget.rate == max(LEAST, load / 2)


def test_refusals_count_within_a_second() -> None:
    """Those of the second before are not added up."""
    budget = QueryBudget(rules())
    for second in range(10, 30):
        busy(budget, float(second), 40)
        refuse(budget, second + 0.5, 9)
    assert budget.rate == 0


def test_the_load_of_the_second_before_counts() -> None:
    """A reply comes later than its query: the second before counts, the one before that not."""
    for second, slowed in ((11.0, True), (12.0, False)):
        budget = QueryBudget(rules())
        busy(budget, 10.9, 100)
        budget.spend(second)
        refuse(budget, second)
        assert (budget.rate > 0) == slowed


def test_many_refusals_of_one_burst() -> None:
    """A hundred refusals within a second are one sign; going on for seconds, it goes on falling."""
    budget = QueryBudget(rules(400, 400))
    busy(budget, 10.0, 400)
    for number in range(100):
        refuse(budget, 10.1 + number / 200)
    assert budget.rate == 200
    for second in range(11, 30):
        spend_all(budget, float(second))
        refuse(budget, second + 0.5)
    assert LEAST <= budget.rate <= LOAD, "below that load a refusal says nothing"


def test_the_rate_never_falls_below_five() -> None:
    """However much is refused, some queries still go: they find out when it is over."""
    for limit, least in ((6, LEAST), (5, LEAST), (3, 3)):
        budget = QueryBudget(rules(limit, 100))
        busy(budget, 10.0, 100)
        refuse(budget, 10.0)
        assert budget.rate == least, "a slower limit stays as it is"


@pytest.mark.parametrize("limit", [0, 300])
def test_recovery(limit: int) -> None:
    """Without refusals the rate rises by a tenth a second, back to the limit or to none."""
    budget = QueryBudget(rules(limit, 300))
    busy(budget, 0.0, 300)
    refuse(budget, 0.0)
    seen = [budget.rate]
    for second in range(1, 60):
        spend_all(budget, float(second), most=5)
        seen.append(budget.rate)
    assert seen[0] == 150
    rising = [rate for rate in seen if rate not in (limit, 0)]
    assert all(after == pytest.approx(1.1 * before) for before, after in itertools.pairwise(rising))
    assert seen[-1] == limit, "not back after a minute"
    assert set(seen[len(rising) :]) == {limit}


def test_slowed_down_it_bursts_less() -> None:
    """The bucket shrinks with the rate: a slowed upstream gets no burst of the old size."""
    budget = QueryBudget(rules(200, 200))
    busy(budget, 10.0, 100)
    refuse(budget, 10.0)
    assert budget.rate == 50
    assert spend_all(budget, 10.0) <= 50
    assert spend_all(budget, 1000.0) <= 55


def many(resolver: SimulatedResolver, count: int, label: str = "n") -> list[float]:
    """Ask so many names at once and run; when each client had its answer, in milliseconds."""
    clients = [
        resolver.ask(resolver.question(f"{label}{number}.example")) for number in range(count)
    ]
    resolver.run(60_000)
    assert [client.rcode for client in clients] == [0] * count
    return [client.at for client in clients]


def test_a_burst_of_names_on_the_clock() -> None:
    """400 names at once, five upstreams, 60 a second and 20 at once: nobody gets more, and every
    client is answered, those at once whose active tier the bursts hold.
    """
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(5)], budget=rules(60, 20))
    answered = sorted(many(resolver, 400))
    for upstream in range(5):
        sent = [at for at, index in resolver.launches if index == upstream]
        for place, start in enumerate(sent):
            within = bisect.bisect_left(sent, start + 1000) - place
            assert within <= 80
    assert answered[49] == 5
    assert answered[-1] < 2600


def test_the_staggered_tier_yields() -> None:
    """When first answers take all there is, pools stay incomplete, are counted, and end."""
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(5)], budget=rules(60, 20))
    many(resolver, 300)
    tiers = [launch.tier for launch in resolver.launched]
    assert tiers.count("active") >= 300
    skipped = sum(resolver.metrics.staggered_skipped.values().values())
    assert skipped > 0
    assert tiers.count("staggered") + skipped <= 4 * 300
    resolver.assert_nothing_left()


def test_at_rest_nobody_is_left_out() -> None:
    """A budget that suffices skips nobody."""
    resolver = SimulatedResolver(
        *[says_own(index, 5) for index in range(5)], budget=rules(300, 100)
    )
    for number in range(20):
        many(resolver, 1, f"x{number}-")
    assert len(resolver.launched) == 100
    assert sum(resolver.metrics.staggered_skipped.values().values()) == 0


def test_in_flight_on_the_clock() -> None:
    """With a cap on queries in flight nobody has more, and all are answered in turn."""
    resolver = SimulatedResolver(says_own(0, 50), says_own(1, 50), budget=rules(0, 100, 3))
    clients = [resolver.ask(resolver.question(f"n{number}.example")) for number in range(12)]
    most = 0
    for at in range(0, 1000, 5):
        resolver.run_to(at)
        most = max(most, *(upstream.inflight for upstream in resolver.upstreams))
    resolver.run()
    assert most == 3
    assert [client.rcode for client in clients] == [0] * 12


def test_refused_under_load_slows_down() -> None:
    """REFUSED to a hundred names at once lowers the rate of that upstream, and of no other."""
    resolver = SimulatedResolver(fails(5, REFUSED), says_own(1, 5), says_own(2, 5))
    many(resolver, 100)
    first, *others = resolver.rates
    assert 0 < first <= 50
    assert others == [0, 0]


def test_servfail_under_load_does_not() -> None:
    """SERVFAIL says something about names, not about rates."""
    resolver = SimulatedResolver(fails(5), says_own(1, 5))
    many(resolver, 100)
    assert resolver.rates == [0, 0]


def test_the_metric_is_there_from_the_start() -> None:
    """Every upstream shows a rate and a count of what it was left out of."""
    resolver = SimulatedResolver(says_own(0, 5))
    metrics: Metrics = resolver.metrics
    assert list(metrics.upstream_rate.values()) == [(resolver.upstreams[0].name,)]
    assert list(metrics.staggered_skipped.values()) == [(resolver.upstreams[0].name,)]
