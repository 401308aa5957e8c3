"""Sorts and generations: what ends late changes nothing (docs/specification.rst, Flights and
generations).
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import AAAA
from tests.kit.cache import no_such_name
from tests.kit.ranked import (
    SimulatedRankedCache,
    asks,
    dead_below,
    packed,
    pool,
    sections_answer,
    shown,
)

WWW, OTHER, DO = asks(), asks("other.example"), asks(do=True)


@pytest.mark.parametrize("at", [0.0, 0.040, 0.089])
def test_an_older_collection_changes_nothing(at: float) -> None:
    """An old generation neither replaces an answer nor ends its sort."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10, generation=2)
    simulated.at(at)
    entry = simulated.put(8, 7, generation=1)
    assert entry.generation == 2
    assert simulated.ranking.cancelled() == 0
    simulated.at(1)
    assert simulated.hit()[0] == [10, 30]


def test_a_sort_that_ends_late_changes_nothing() -> None:
    """After CancelSort the old sort's addresses never come back, though its probes do."""
    simulated = SimulatedRankedCache()
    simulated.put(90, 80, generation=1)
    simulated.at(0.020)
    simulated.put(7, 6, generation=2)
    simulated.at(0.1)
    assert simulated.hit()[0] == [6, 7]
    before = simulated.peek()
    simulated.at(30)
    assert simulated.ranking.table.fresh(
        packed(90)[0], simulated.clock.seconds()
    )  # the old measurement has ended by now
    assert simulated.peek() is before
    assert simulated.hit()[0] == [6, 7]
    simulated.ranking.assert_nothing_left()


def test_a_late_sort_of_the_same_addresses() -> None:
    """A refresh that brings the same addresses voids the old sort all the same."""
    simulated = SimulatedRankedCache()
    old = simulated.put(30, 10, generation=1)
    simulated.at(0.020)
    new = simulated.put(10, 30, generation=2)
    assert (old.alive, new.alive) == (False, True)
    simulated.at(1)
    entry = simulated.peek()
    assert entry is not None
    assert (entry.generation, shown(entry)) == (2, [10, 30])


def test_refresh_is_visible_at_the_next_hit() -> None:
    """New addresses are served at once, though a sort of the old ones is still under way."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, ttl=86_400))
    simulated.at(301)
    simulated.hit()  # the old order is measured anew
    simulated.at(301.020)
    simulated.store(pool(50, 40, ttl=86_400), generation=2)
    assert simulated.hit()[0] == [50, 40]
    for at in (301.2, 302, 330):
        simulated.at(at)
        assert simulated.hit()[0] == [40, 50]


def test_an_entry_that_was_evicted_does_not_come_back() -> None:
    """The sort of an entry that had to make room ends for nobody."""
    simulated = SimulatedRankedCache(max_entries=1)
    simulated.put(30, 10)
    simulated.store(pool(8, 7), OTHER)
    simulated.at(1)
    assert simulated.peek() is None
    assert len(simulated.cache) == 1
    simulated.put(30, 10, generation=3)
    simulated.at(2)
    assert simulated.hit()[0] == [10, 30]


def test_an_entry_that_died_does_not_come_back() -> None:
    """The sort of an entry that outlived its stale phase ends for nobody."""
    simulated = SimulatedRankedCache(lambda address, _: 0.9, max_stale=1)
    simulated.put(30, 10, ttl=1)
    for at in (2.5, 5):
        simulated.at(at)
        assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None


def test_a_failed_refresh_does_not_end_the_sort() -> None:
    """A failure keeps the entry, and so its sort."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10)
    simulated.at(0.020)
    simulated.cache.commit(WWW.key, 2, FailureAnswer(Ede.OTHER, 1), simulated.clock.seconds())
    assert simulated.ranking.cancelled() == 0
    simulated.at(1)
    assert simulated.hit()[0] == [10, 30]


@pytest.mark.parametrize("answer", [no_such_name(), pool(30, 10, ttl=0), pool(8)])
def test_what_replaces_an_answer_ends_its_sort(answer: AddressPool | SectionsAnswer) -> None:
    """A negative, an answer that is not kept, a single address: the sort is ended."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10)
    simulated.at(0.020)
    simulated.store(answer, generation=2)
    assert simulated.ranking.cancelled() == 1
    assert WWW.key not in simulated.ranking.sorts
    simulated.at(1)
    entry = simulated.peek()
    assert entry is None or entry.answer is answer


def test_what_is_not_kept_is_not_sorted() -> None:
    """TTL 0: ordered by what is known, given once, never probed."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10), OTHER)
    simulated.at(1)
    entry = simulated.put(30, 99, 10, ttl=0)
    assert shown(entry) == [10, 30, 99]
    assert simulated.cache.reply_ttl(entry, simulated.clock.seconds()) == 0
    simulated.at(2)
    assert simulated.probed == set(packed(10, 30))


def test_sorting_keeps_what_else_is_known() -> None:
    """A sorted entry keeps age, generation and the end of its collection."""
    simulated = SimulatedRankedCache()
    old = simulated.store(pool(30, 10))
    old.retry_at = 77.0
    simulated.at(1)
    new = simulated.peek()
    assert new is not None
    assert new is not old
    assert (old.alive, new.alive) == (False, True)
    for field in ("generation", "stored", "lifetime", "expires", "retry_at", "complete"):
        assert getattr(new, field) == getattr(old, field)


def test_keys_do_not_meet() -> None:
    """A and AAAA of one name, with and without DO, are sorted apart."""
    simulated = SimulatedRankedCache(lambda address, _: address[-1] / 1000)
    six = asks(qtype=AAAA)
    simulated.store(pool(30, 10))
    simulated.store(pool("2001:db8::30", "2001:db8::10"), six)
    simulated.store(sections_answer(DO, 99, 98), DO)
    assert simulated.ranking.counts() == {"first_answer": 3}
    simulated.at(1)
    assert simulated.hit()[0] == [10, 30]
    assert simulated.hit(six)[0] == ["2001:db8::10", "2001:db8::30"]
    assert simulated.hit(DO)[0] == [98, 99]


STEP = st.tuples(
    st.sampled_from(["new", "old", "more", "fails", "hit"]),
    st.integers(0, 2),
    st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
    st.sampled_from([0.001, 0.03, 1.0, 61.0, 301.0]),
)


@given(st.lists(STEP, max_size=25), st.integers(1, 3))
def test_any_order_of_events(steps: list[tuple[str, int, list[int], float]], queue: int) -> None:
    """The newest answer's addresses are those in the cache, in order when all is at rest."""
    simulated = SimulatedRankedCache(dead_below(4), queue=queue)
    names = [asks(f"n{number}.example") for number in range(3)]
    held: dict[int, tuple[int, list[int]]] = {}
    for newest, (what, number, numbers, pause) in enumerate(steps, 5):
        key = names[number].key
        generation, known = held.get(number, (0, []))
        if what == "hit" and generation:
            entry = simulated.cache.lookup(key, simulated.clock.seconds())
            assert entry is not None
            assert entry.alive
            assert 0 < simulated.cache.reply_ttl(entry, simulated.clock.seconds()) <= 600
        elif what == "fails" and generation:
            simulated.cache.commit(
                key, newest, FailureAnswer(Ede.OTHER, 1), simulated.clock.seconds()
            )
        elif what == "old" and generation:
            simulated.cache.commit(
                key, generation - 1, pool(*numbers, ttl=86_400), simulated.clock.seconds()
            )
        elif what in ("new", "more"):
            its = generation if what == "more" and generation else newest
            now = list(dict.fromkeys([*(known if its == generation else []), *numbers]))
            simulated.cache.commit(key, its, pool(*now, ttl=86_400), simulated.clock.seconds())
            held[number] = (its, now)
        simulated.at(simulated.ranking.now + pause)
        assert simulated.metrics.sorts_running.values()[()] <= queue
        for one, (its, now) in held.items():
            found = simulated.peek(names[one])
            assert found is not None
            assert (found.generation, sorted(shown(found), key=int)) == (its, sorted(now))
    simulated.at(simulated.ranking.now + 10)
    for one in held:
        found = simulated.peek(names[one])
        assert found is not None
        if found.sorted_at is not None:
            order = [int(number) for number in shown(found)]
            answering = [number for number in order if number >= 4]
            assert order[: len(answering)] == sorted(answering)
    simulated.ranking.assert_nothing_left()
