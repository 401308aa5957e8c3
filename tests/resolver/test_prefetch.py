"""Names in demand are asked for again before their answers expire (docs/specification.rst, Lives of
addresses), and what that must not do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.resolver import forwarder as forwarder_module
from staggerdns.resolver.entry import MOST_DEMAND, Entry
from staggerdns.resolver.forwarder import (
    MAX_COLLECTIONS,
    SPARE_COLLECTIONS,
    SPARE_STARTS,
    STARTS_PER_TURN,
    TURN,
)
from staggerdns.settings.sections import CacheSettings, PrefetchSettings
from staggerdns.settings.upstreams import BudgetSettings
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from tests.kit.acts import SILENT, TXT, Act, fails, gives, negative, own, says, says_own
from tests.kit.cache import WWW, SimulatedCache, no_such_name
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.ranked import asks, pool, sections_answer
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.strategy.observer import Observer
    from staggerdns.strategy.run import Run
    from staggerdns.wire.judge import Judge


def prefetches(resolver: SimulatedResolver) -> float:
    """How many there were."""
    return resolver.metrics.prefetches.cell().value


def wanted(*acts: Act, ttl: int = 60, **arguments: object) -> SimulatedResolver:
    """A name that was asked for often, at the beginning of the last tenth of its life."""
    resolver = SimulatedResolver(*acts, **arguments)  # type: ignore[arg-type]
    resolver.ask()
    for second in range(1, 5):
        resolver.run_to(second * 1000)
        resolver.ask()
    resolver.run_to(ttl * 900 + 100)
    assert prefetches(resolver) == 0
    return resolver


class Demanded(SimulatedCache):
    """A cache, and what it wanted to have prefetched; ``is_free``: whether there is room."""

    def __init__(self, **limits: object) -> None:
        super().__init__(**limits)
        self.prefetched: list[float] = []
        self.is_free = True
        refresh = self.cache.refresh_with
        refresh(lambda question, now: self.refreshed.append(question.key), self._prefetch)

    def _prefetch(self, _: object, now: float) -> bool:
        self.prefetched.append(round(now - self.began, 3))
        return self.is_free

    def put(self, ttl: int = 100) -> None:
        """Commit a pool that has come now."""
        self.began = self.clock.seconds()
        self.cache.commit(WWW.key, 1, pool(1, 2, ttl=ttl), self.began)
        self.cache.complete(WWW.key, 1)

    def hit(self, *ages: float) -> None:
        """Ask at these ages of the answer."""
        for age in ages:
            self.clock.rightNow = self.began + age
            self.cache.lookup(WWW.key, self.clock.seconds())


@pytest.mark.parametrize(
    ("hits", "demand"),
    [
        ((), 0),
        ((0,), 1),
        ((0, 0.3, 0.99), 1),
        ((0.99, 1.0), 2),
        ((0, 1, 2), 3),
        ((5.5, 5.6, 7.1, 7.9, 90.5), 3),
    ],
)
def test_the_demand(hits: tuple[float, ...], demand: int) -> None:
    """It is the number of seconds of the entry's life in which it was asked for."""
    simulated = Demanded()
    simulated.put()
    simulated.hit(*hits)
    assert simulated.cache.entries[WWW.key].demand == demand


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("hearsay", [False, True])
def test_the_most_demand(*, complete: bool, hearsay: bool) -> None:
    """More is not counted, and nothing beside the demand changes: size, state, time."""
    entry = Entry(pool(1, 2), 1, 0.0, 1000)
    entry.hearsay, entry.complete = hearsay, complete
    octets = entry.octets
    for second in range(300):
        assert entry.note_demand(second) == min(second + 1, MOST_DEMAND)
        assert (entry.octets, entry.complete, entry.hearsay) == (octets, complete, hearsay)
    other = Entry(pool(1, 2), 1, 0.0)
    octets = other.octets
    other.take_over_demand(entry)
    assert (other.octets, other.complete, other.hearsay) == (octets, False, False)
    assert other.demand == MOST_DEMAND == 255


def test_demand_outlives_merges_and_sorts() -> None:
    """An entry with more of the same collection, or in another order, is as much in demand; that of
    the next collection begins anew.
    """
    simulated = Demanded()
    simulated.put()
    simulated.hit(0, 1)
    cache = simulated.cache
    entry = cache.commit(WWW.key, 1, pool(1, 2, 3, ttl=100), simulated.clock.seconds(), 0.0)
    assert entry.demand == 2
    addresses = entry.answer.addresses
    reordered = cache.reorder(WWW.key, entry, addresses[::-1], simulated.clock.seconds())
    assert reordered is not None
    assert reordered.demand == 2
    assert cache.commit(WWW.key, 2, pool(1, ttl=100), simulated.clock.seconds()).demand == 0


def test_enough_demand() -> None:
    """Three seconds with hits are enough, the last of which may be in the last tenth."""
    simulated = Demanded()
    simulated.put()
    simulated.hit(0, 1, 89.999, 90)
    assert simulated.prefetched == [90.0]
    simulated = Demanded()
    simulated.put()
    simulated.hit(0, 90, 90.999, 91)
    assert simulated.prefetched == [91.0]


@pytest.mark.parametrize(
    ("prefetch", "at"),
    [
        (PrefetchSettings(enabled=False), None),
        (PrefetchSettings(min_hits=5), None),
        (PrefetchSettings(min_hits=4), 80.0),
        (PrefetchSettings(min_hits=1), 80.0),
        (PrefetchSettings(last_percent=50), 50.0),
        (PrefetchSettings(last_percent=1), 99.0),
    ],
)
def test_the_settings(prefetch: PrefetchSettings, at: float | None) -> None:
    """Each is obeyed: an answer asked for in three seconds of its life, and then at this age."""
    if prefetch.last_percent == 10:
        prefetch = PrefetchSettings(
            enabled=prefetch.enabled, min_hits=prefetch.min_hits, last_percent=20
        )
    simulated = Demanded(prefetch=prefetch)
    simulated.put()
    simulated.hit(0, 1, 2)
    if at is None:
        simulated.hit(99.999)
        assert simulated.prefetched == []
    else:
        simulated.hit(at - 0.001)
        assert simulated.prefetched == []
        simulated.hit(at)
        assert simulated.prefetched == [at]


def test_no_room() -> None:
    """What was not done is tried again behind the next hit; what was, not before 5 s are over."""
    simulated = Demanded()
    simulated.put()
    simulated.hit(0, 1, 2)
    simulated.is_free = False
    simulated.hit(91, 91.5)
    simulated.is_free = True
    simulated.hit(92, 93, 96.9, 97)
    assert simulated.prefetched == [91.0, 91.5, 92.0, 97.0]
    assert simulated.refreshed == []


@pytest.mark.parametrize(
    ("answer", "prefetched"),
    [
        (FailureAnswer(Ede.OTHER, 1), 0),
        (no_such_name(), 1),
        (sections_answer(asks(do=True), 1, ttl=60), 1),
    ],
    ids=["failure", "negative", "signed"],
)
def test_other_answers(answer: FailureAnswer, prefetched: int) -> None:
    """All but failures are prefetched."""
    simulated = Demanded(prefetch=PrefetchSettings(min_hits=1))
    simulated.began = simulated.clock.seconds()
    simulated.cache.commit(WWW.key, 1, answer, simulated.began)
    simulated.hit(answer.ttl * 0.95)
    assert len(simulated.prefetched) == prefetched


@pytest.mark.parametrize(("hits", "end"), [((0, 1), 4.5), ((0,), 5)])
def test_ready_replies_end_where_it_begins(hits: tuple[float, ...], end: float) -> None:
    """Else the last tenth of a short life could pass without a look at the entry. That is of no use
    where the next look will not be enough.
    """
    simulated = Demanded()
    simulated.put(ttl=5)
    simulated.hit(*hits)
    entry = simulated.cache.entries[WWW.key]
    until = simulated.cache.freshness.true_until
    untils = [until(entry, simulated.began + age) - simulated.began for age in (3.5, 4.2, 4.5, 4.8)]
    assert untils == [4, end, 5, 5]


def test_nobody_waits_and_nothing_is_stale() -> None:
    """A prefetch takes over when it has ended: until then the old answer, whole, then the new."""
    resolver = wanted(says_own(0, 10, 60), says_own(1, 20, 60))
    resolver.script(says(10, own(2)), says(1000, own(3)))
    old = [own(0), own(1)]
    assert resolver.ask().addresses == old
    assert prefetches(resolver) == 1
    for at in (54_110, 54_600, 55_090):
        resolver.run_to(at)
        assert resolver.ask().addresses == old
    resolver.run_to(55_110)
    assert resolver.ask().addresses == [own(2), own(3)]
    assert (len(resolver.launches), prefetches(resolver)) == (4, 1)
    assert resolver.metrics.refreshes.cell().value == 0
    resolver.run()
    resolver.assert_nothing_left()


def test_without_demand() -> None:
    """What nobody asked for often expires, and is refreshed behind a stale answer as ever."""
    resolver = SimulatedResolver(says_own(0, 10, 60))
    for at in (0, 1_000, 59_000, 61_000):
        resolver.run_to(at)
        resolver.ask()
    assert prefetches(resolver) == 0
    assert resolver.metrics.refreshes.cell().value == 1
    resolver.run()


def test_a_failed_prefetch_keeps_the_entry() -> None:
    """It is tried again after ``fast_response_ttl``, while the answer lives and afterwards."""
    resolver = wanted(says_own(0, 10, 60))
    resolver.script(fails(10))
    for at, launches in [(54_100, 2), (59_100, 2), (59_200, 3), (64_000, 3), (64_300, 4)]:
        resolver.run_to(at)
        assert resolver.ask().addresses == [own(0)]
        assert len(resolver.launches) == launches
    resolver.run()
    resolver.assert_nothing_left()


def test_a_collection_under_way_is_enough() -> None:
    """A name whose first collection still runs is not asked for once more."""
    resolver = SimulatedResolver(says_own(0, 10, 4), SILENT, timeout=5)
    for at in (0, 1_000, 2_000, 2_900):
        resolver.run_to(at)
        resolver.ask()
    resolver.run_to(3_700)
    launches = len(resolver.launches)
    resolver.ask()
    resolver.run_to(3_950)
    resolver.ask()
    assert len(resolver.launches) <= launches + 2  # those of one collection
    assert resolver.running <= 1
    resolver.run()


def test_spare_starts() -> None:
    """In a turn in which half of what may begin has begun it waits for the next."""
    for before, done in ((SPARE_STARTS - 1, 1), (SPARE_STARTS, 0)):
        resolver = wanted(says_own(0, 10, 60))
        for index in range(before):
            resolver.ask(resolver.question(f"n{index}.example"))
        resolver.ask()
        assert prefetches(resolver) == done
        resolver.run_to(resolver.now + 5)
        resolver.ask()
        assert prefetches(resolver) == 1
        resolver.run()
    assert SPARE_STARTS == STARTS_PER_TURN // 2


@PURE_ONLY
@pytest.mark.parametrize("others", [1, 2])
def test_slow_starts_come_first(monkeypatch: pytest.MonkeyPatch, others: int) -> None:
    """Where one start takes all of a turn, nothing is prefetched in it, nor before what queues."""
    resolver = wanted(says_own(0, 10, 60))
    chosen, clock = resolver.strategies.chosen, resolver.clock
    ask = chosen.ask

    def ask_slowly(judge: Judge, observer: Observer) -> Run:
        clock.rightNow += 2 * TURN
        return ask(judge, observer)

    monkeypatch.setattr(chosen, "ask", ask_slowly)
    before = clock.seconds()
    clients = [resolver.ask(resolver.question(f"n{index}.example")) for index in range(others)]
    # Whoever looks at the clock once for many queries has the time before the first of them.
    now = before if others > 1 else clock.seconds()
    assert not resolver.forwarder.prefetch(resolver.question(), now)
    resolver.run_to(resolver.now + 10)
    assert resolver.forwarder.prefetch(resolver.question(), clock.seconds())
    resolver.run()
    assert all(client.addresses for client in clients)


def test_spare_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """With half of the collections that there may be under way there is no room for it."""
    assert SPARE_COLLECTIONS == MAX_COLLECTIONS // 2
    monkeypatch.setattr(forwarder_module, "SPARE_COLLECTIONS", 4)
    for before, done in ((3, 1), (4, 0)):
        resolver = wanted(says_own(0, 40, 60))
        for index in range(before):
            resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run_to(resolver.now + 5)
        resolver.ask()
        assert prefetches(resolver) == done
        resolver.run()


@pytest.mark.parametrize("strategy", ["parallel", "racing", "sequential", "random", "auto"])
@pytest.mark.parametrize(
    ("budget", "inflight", "spent", "done"),
    [
        (BudgetSettings(max_inflight=10), 4, 0, 1),
        (BudgetSettings(max_inflight=10), 5, 0, 0),
        (BudgetSettings(queries_per_second=1, burst=10), 0, 4, 1),
        (BudgetSettings(queries_per_second=1, burst=10), 0, 5, 0),
    ],
)
def test_spare_budget(
    strategy: str, budget: BudgetSettings, inflight: int, spent: int, done: int
) -> None:
    """It takes from the upstream's budget what complete pools may take, and not what is kept for
    first answers.
    """
    resolver = wanted(says_own(0, 10, 60), strategy=strategy, budget=budget)
    (upstream,) = resolver.upstreams
    upstream.occupy(inflight)
    upstream.spend(spent)
    resolver.ask()
    assert prefetches(resolver) == done
    assert resolver.ask(resolver.question("other.example")) is not None
    upstream.occupy(-inflight)
    resolver.run()


@PURE_ONLY
def test_after_the_end() -> None:
    """A forwarder that has been closed prefetches nothing."""
    resolver = wanted(says_own(0, 10, 60))
    resolver.forwarder.close()
    assert resolver.ask().addresses == [own(0)]
    assert prefetches(resolver) == 0
    resolver.assert_nothing_left()


ADDRESSES = st.lists(st.sampled_from([own(index) for index in range(12)]), min_size=1, max_size=5)
AFTER = st.sampled_from([1, 20, 60, 110])
TTLS = st.sampled_from([5, 7, 12, 30, 61])


@PURE_ONLY
@given(
    st.lists(
        st.lists(
            st.builds(
                lambda after, found, ttl: says(after, *found, ttl=ttl), AFTER, ADDRESSES, TTLS
            ),
            min_size=3,
            max_size=3,
        ),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([90, 250, 310]),
    st.integers(0, 999),
)
@settings(max_examples=amount(25, 300))
def test_a_name_in_demand_is_always_there(scripts: list[list[Act]], pause: int, phase: int) -> None:
    """Whatever the TTLs and the answers, once a name has been asked for often nobody who asks for
    it again and again waits for it or gets it stale.
    """
    resolver = SimulatedResolver(*scripts[0])
    resolver.run_to(phase)
    resolver.ask()
    resolver.run_to(resolver.now + 120)
    for step in range(30_000 // pause):
        if step % 40 == 0:
            resolver.script(*scripts[step // 40 % len(scripts)])
        client = resolver.ask()
        assert client.answers, f"waits at {resolver.now}"
        now = resolver.clock.seconds()
        assert not resolver.cache.freshness.is_stale(client.entry, now), f"stale at {resolver.now}"
        resolver.run_to(resolver.now + pause)
    resolver.run()
    resolver.assert_nothing_left()


@pytest.mark.parametrize("act", [gives(10, TXT, b"\1x", ttl=20), negative(10, ttl=20, minimum=20)])
def test_other_types_in_demand(act: Act) -> None:
    """What has no addresses is there as well, always."""
    resolver = SimulatedResolver(act, act)
    question = resolver.question(qtype=TXT)
    resolver.ask(question)
    for at in range(500, 100_000, 500):
        resolver.run_to(at)
        client = resolver.ask(question)
        assert client.answers
        assert not resolver.cache.freshness.is_stale(client.entry, resolver.clock.seconds())
    assert prefetches(resolver) == 5


def test_it_is_off_when_it_is_off() -> None:
    """Then a name in demand is given stale once its answer has expired."""
    settings = CacheSettings(prefetch=PrefetchSettings(enabled=False))
    resolver = wanted(says_own(0, 10, 60), cache=settings)
    for at in (54_200, 59_990):
        resolver.run_to(at)
        resolver.ask()
    assert len(resolver.launches) == 1
    resolver.run_to(60_020)
    client = resolver.ask()
    assert resolver.cache.freshness.is_stale(client.entry, resolver.clock.seconds())
    resolver.run()
