"""The budgets of upstreams, seen from the strategies: who waits, who yields, who is left out."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import pytest

from staggerdns.settings.upstreams import BudgetSettings, ParallelSettings
from staggerdns.strategy.parallel import MAX_DELAYS
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from tests.kit.acts import NOERROR, SERVFAIL, SILENT, own, says_own
from tests.kit.simulated import BUDGET, SimulatedResolver

if TYPE_CHECKING:
    from tests.kit.acts import Act
    from tests.kit.simulated import Client

MOST = BUDGET.max_inflight
NONE = BudgetSettings(max_inflight=1, queries_per_second=0, burst=1)


def fill(resolver: SimulatedResolver, *indices: int) -> None:
    """Use up the places in flight of these upstreams."""
    for index in indices:
        resolver.upstreams[index].occupy(MOST)


def drain(resolver: SimulatedResolver, *indices: int) -> None:
    """Give the places back."""
    for index in indices:
        resolver.upstreams[index].occupy(-MOST)


def skipped(resolver: SimulatedResolver) -> list[int]:
    """How often each upstream was left out."""
    return [upstream.skipped.value for upstream in resolver.upstreams]


def test_active_tier_takes_the_next_best() -> None:
    """An upstream without room is passed over for the active tier."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(5)])
    fill(resolver, 0)
    client = resolver.ask()
    assert resolver.launched == [(0, 1, ACTIVE), (0, 2, ACTIVE)]
    resolver.run_to(60)
    assert client.at == 10
    assert resolver.launched[2:] == [(50, 3, STAGGERED), (50, 4, STAGGERED)]
    drain(resolver, 0)
    resolver.run()
    assert resolver.launched[4:] == [(100, 0, STAGGERED)]
    resolver.assert_nothing_left()


def test_active_tier_shrinks() -> None:
    """With room at one upstream alone, the active tier is that one."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(4)])
    fill(resolver, 0, 1, 3)
    client = resolver.ask()
    resolver.run()
    assert resolver.launched == [(0, 2, ACTIVE)]
    assert (client.at, client.addresses) == (10, [own(2)])
    drain(resolver, 0, 1, 3)
    resolver.assert_nothing_left()


def test_first_answers_wait_for_room() -> None:
    """No room anywhere: the question waits, and goes out soon after there is some."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(4)])
    fill(resolver, 0, 1, 2, 3)
    client = resolver.ask()
    resolver.run_to(200)
    assert resolver.launches == []
    assert not client.answers
    drain(resolver, 1, 2)
    resolver.run_to(400)
    (at, first), (also_at, second) = resolver.launches[:2]
    assert {first, second} == {1, 2}
    assert at == also_at <= 200 + 200
    assert (client.at, client.rcode) == (at + 10, NOERROR)
    drain(resolver, 0, 3)
    resolver.run()
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", ["parallel", "racing", "sequential", "random"])
def test_a_question_that_waited_is_asked_like_any_other(strategy: str) -> None:
    """Time spent waiting for room is not the first upstreams' fault: the others keep their turn."""
    resolver = SimulatedResolver(*[says_own(index, 40) for index in range(6)], strategy=strategy)
    fill(resolver, *range(6))
    client = resolver.ask()
    resolver.run_to(1000)
    drain(resolver, *range(6))
    resolver.run()
    began = resolver.times[0]
    assert client.at == began + 40
    if strategy == "parallel":
        assert resolver.times == [began + at for at in (0, 0, 50, 50, 100, 100)]
        assert resolver.strategy.staggered_starts["answered"].value == 1
        assert resolver.strategy.active_outcomes["answered"].value == 1
    else:
        assert len(resolver.launches) == 1
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", ["parallel", "racing", "sequential", "random"])
def test_no_room_at_all(strategy: str) -> None:
    """Whoever waits for room in vain gets SERVFAIL when the time is up; nobody is marked."""
    resolver = SimulatedResolver(*[SILENT] * 3, strategy=strategy)
    fill(resolver, 0, 1, 2)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == []
    assert (client.at, client.rcode) == (3000 if strategy == "parallel" else 6000, SERVFAIL)
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 3
    drain(resolver, 0, 1, 2)
    resolver.assert_nothing_left()


def test_staggered_tier_is_delayed_then_skipped() -> None:
    """Behind the answer a batch without room is put off three times, then left out and counted."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(4)])
    fill(resolver, 2, 3)
    client = resolver.ask()
    resolver.run()
    assert client.at == 10
    assert len(resolver.launches) == 2
    assert MAX_DELAYS == 3
    assert resolver.now == 50 + 100 + 200 + 400
    assert skipped(resolver) == [0, 0, 1, 1]
    assert resolver.pool() == [own(0), own(1)]
    drain(resolver, 2, 3)
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("room_at", "asked_at"), [(60, 150), (149, 150), (151, 350), (400, 750), (749, 750)]
)
def test_staggered_tier_goes_when_there_is_room(room_at: float, asked_at: float) -> None:
    """Put off for 100, 200 and 400 ms; with room at one of these times the batch goes."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(4)])
    fill(resolver, 2, 3)
    resolver.ask()
    resolver.run_to(room_at)
    drain(resolver, 2, 3)
    resolver.run()
    assert resolver.launches[2:] == [(asked_at, 2), (asked_at, 3)]
    assert skipped(resolver) == [0] * 4
    assert len(resolver.pool()) == 4
    resolver.assert_nothing_left()


def test_a_timeout_in_between_is_no_delay() -> None:
    """What else happens meanwhile does not use up the delays of a batch."""
    resolver = SimulatedResolver(says_own(0, 10), *[SILENT] * 3, timeout=0.12)
    fill(resolver, 2, 3)
    resolver.ask()
    resolver.run_to(740)
    drain(resolver, 2, 3)
    resolver.run_to(760)
    assert resolver.launches[2:] == [(750, 2), (750, 3)]
    resolver.run()
    resolver.assert_nothing_left()


def test_batch_takes_whoever_has_room() -> None:
    """One upstream without room holds up no other; it alone is left out."""
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(7)])
    fill(resolver, 2)
    resolver.ask()
    resolver.run()
    assert resolver.launches[2:] == [(50, 3), (50, 4), (100, 5), (100, 6)]
    assert skipped(resolver) == [0, 0, 1, 0, 0, 0, 0]
    drain(resolver, 2)
    resolver.assert_nothing_left()


def test_staggered_tier_that_the_client_waits_for_is_not_skipped() -> None:
    """Behind a silent active tier the staggered tier is what the client waits for."""
    resolver = SimulatedResolver(SILENT, SILENT, says_own(2, 10), says_own(3, 10))
    fill(resolver, 2, 3)
    client = resolver.ask()
    resolver.run_to(1500)
    drain(resolver, 2, 3)
    resolver.run_to(1500 + 300)
    assert skipped(resolver) == [0] * 4
    assert resolver.launches[2][0] <= 1500 + 200
    assert client.addresses == [own(2)]
    resolver.run()


def test_completeness_needs_half_of_the_bucket() -> None:
    """A query that only completes a pool is left out while one for a client still goes."""
    rules = BudgetSettings(max_inflight=100, queries_per_second=1, burst=10)
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(4)], budget=rules)
    for index in (2, 3):
        resolver.upstreams[index].spend(6)
    resolver.ask()
    resolver.run()
    assert skipped(resolver) == [0, 0, 1, 1]
    resolver.script(SILENT, SILENT, says_own(2, 10), says_own(3, 10))
    client = resolver.ask(resolver.question("other.example"))
    resolver.run()
    assert client.addresses == [own(2)]


def test_sequential_passes_over() -> None:
    """One by one: whoever has no room is passed over, and comes later if need be."""
    resolver = SimulatedResolver(
        *[says_own(index, 10) for index in range(3)], strategy="sequential"
    )
    fill(resolver, 0)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 1)]
    assert client.addresses == [own(1)]
    drain(resolver, 0)


def test_race_goes_on_without_those_that_have_no_room() -> None:
    """A race starts with the best that has room, and its batches take whoever has some."""
    resolver = SimulatedResolver(*[SILENT] * 3, says_own(3, 10), strategy="racing")
    fill(resolver, 0, 2)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 1), (100, 3)]
    assert client.at == 110
    drain(resolver, 0, 2)
    resolver.assert_nothing_left()


def assert_within(times: list[float], rules: BudgetSettings) -> None:
    """Assert that no stretch of time saw more queries than the bucket and its filling allow."""
    recent: deque[float] = deque()
    tokens, before = float(rules.burst), times[0] if times else 0.0
    for at in times:
        tokens = min(rules.burst, tokens + (at - before) / 1000 * rules.queries_per_second)
        before = at
        tokens -= 1
        recent.append(at)
        assert tokens >= -0.001, f"over budget at {at} ms"


def test_staggered_tier_that_the_time_leaves_out() -> None:
    """Those whom the end of the collection leaves unasked count as skipped, too."""
    pace = ParallelSettings(stagger_delay=0.05, total_collect_timeout=0.12)
    resolver = SimulatedResolver(*[says_own(index, 10) for index in range(8)], parallel=pace)
    resolver.ask()
    resolver.run()
    assert len(resolver.launches) == 6
    assert skipped(resolver) == [0] * 6 + [1, 1]


LATENCIES = (18, 25, 40, 80, 140)


BUCKET = BudgetSettings(max_inflight=100, queries_per_second=300, burst=50)
PLACES = BudgetSettings(max_inflight=20, queries_per_second=0, burst=100)


@pytest.mark.parametrize(
    ("strategy", "rules", "window"),
    [
        pytest.param("parallel", BUCKET, 1000, id="parallel"),
        pytest.param("racing", BUCKET, 1000, id="racing"),
        pytest.param("random", BUCKET, 1000, id="random"),
        pytest.param("auto", PLACES, 1000, id="auto, in flight"),
        pytest.param("sequential", PLACES, 1, id="sequential, in flight, at once"),
    ],
)
def test_two_thousand_names(strategy: str, rules: BudgetSettings, window: int) -> None:
    """2,000 names within a second: nobody gets more than the budget, each client its answer."""
    acts: list[Act] = [says_own(index, after) for index, after in enumerate(LATENCIES)]
    resolver = SimulatedResolver(*acts, strategy=strategy, budget=rules, level="info")
    clients: list[Client] = []
    for index in range(2000):
        resolver.run_to(index * window / 2000)
        clients.append(resolver.ask(resolver.question(f"n{index}.example")))
    resolver.run()
    assert sum(client.rcode == NOERROR for client in clients) == 2000
    assert max(resolver.peaks) <= rules.max_inflight
    for index in range(5):
        times = [at for at, upstream in resolver.launches if upstream == index]
        if rules.queries_per_second:
            assert_within(times, rules)
    resolver.assert_nothing_left()
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 5
