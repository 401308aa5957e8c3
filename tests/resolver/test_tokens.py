"""Sorts and generations: what ends late changes nothing (SPEC sections 2 and 3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.answer import Failed, Pool, Whole
from staggerdns.wire.constants import Ede
from tests.kit.acts import AAAA
from tests.kit.ranked import Shelf, asks, dead_below, packed, pool, shown, whole
from tests.resolver.test_cache import no_such_name

WWW, OTHER, DO = asks(), asks("other.example"), asks(do=True)


@pytest.mark.parametrize("at", [0.0, 0.040, 0.089])
def test_an_older_collection_changes_nothing(at: float) -> None:
    """An old generation neither replaces an answer nor ends its sort."""
    shelf = Shelf()
    shelf.put(30, 10, generation=2)
    shelf.at(at)
    entry = shelf.put(8, 7, generation=1)
    assert entry.generation == 2
    assert shelf.ranking.cancelled() == 0
    shelf.at(1)
    assert shelf.hit()[0] == [10, 30]


def test_a_sort_that_ends_late_changes_nothing() -> None:
    """After CancelSort the old sort's addresses never come back, though its probes do."""
    shelf = Shelf()
    shelf.put(90, 80, generation=1)
    shelf.at(0.020)
    shelf.put(7, 6, generation=2)
    shelf.at(0.1)
    assert shelf.hit()[0] == [6, 7]
    before = shelf.peek()
    shelf.at(30)
    assert shelf.ranking.table.fresh(
        packed(90)[0], shelf.clock.seconds()
    )  # the old measurement has ended by now
    assert shelf.peek() is before
    assert shelf.hit()[0] == [6, 7]
    shelf.ranking.assert_nothing_left()


def test_a_late_sort_of_the_same_addresses() -> None:
    """A refresh that brings the same addresses voids the old sort all the same."""
    shelf = Shelf()
    old = shelf.put(30, 10, generation=1)
    shelf.at(0.020)
    new = shelf.put(10, 30, generation=2)
    assert (old.alive, new.alive) == (False, True)
    shelf.at(1)
    entry = shelf.peek()
    assert entry is not None
    assert (entry.generation, shown(entry)) == (2, [10, 30])


def test_refresh_is_visible_at_the_next_hit() -> None:
    """New addresses are served at once, though a sort of the old ones is still under way."""
    shelf = Shelf()
    shelf.store(pool(30, 10, ttl=86_400))
    shelf.at(301)
    shelf.hit()  # the old order is measured anew
    shelf.at(301.020)
    shelf.store(pool(50, 40, ttl=86_400), generation=2)
    assert shelf.hit()[0] == [50, 40]
    for at in (301.2, 302, 330):
        shelf.at(at)
        assert shelf.hit()[0] == [40, 50]


def test_an_entry_that_was_evicted_does_not_come_back() -> None:
    """The sort of an entry that had to make room ends for nobody."""
    shelf = Shelf(max_entries=1)
    shelf.put(30, 10)
    shelf.store(pool(8, 7), OTHER)
    shelf.at(1)
    assert shelf.peek() is None
    assert len(shelf.cache) == 1
    shelf.put(30, 10, generation=3)
    shelf.at(2)
    assert shelf.hit()[0] == [10, 30]


def test_an_entry_that_died_does_not_come_back() -> None:
    """The sort of an entry that outlived its stale phase ends for nobody."""
    shelf = Shelf(lambda address, _: 0.9, max_stale=1)
    shelf.put(30, 10, ttl=1)
    shelf.at(2.5)
    assert shelf.cache.lookup(WWW.key, shelf.clock.seconds()) is None
    shelf.at(5)
    assert shelf.peek() is None


def test_a_failed_refresh_does_not_end_the_sort() -> None:
    """A failure keeps the entry, and so its sort."""
    shelf = Shelf()
    shelf.put(30, 10)
    shelf.at(0.020)
    shelf.cache.commit(WWW.key, 2, Failed(Ede.OTHER, 1), shelf.clock.seconds())
    assert shelf.ranking.cancelled() == 0
    shelf.at(1)
    assert shelf.hit()[0] == [10, 30]


@pytest.mark.parametrize("answer", [no_such_name(), pool(30, 10, ttl=0), pool(8)])
def test_what_replaces_an_answer_ends_its_sort(answer: Pool | Whole) -> None:
    """A negative, an answer that is not kept, a single address: the sort is ended."""
    shelf = Shelf()
    shelf.put(30, 10)
    shelf.at(0.020)
    shelf.store(answer, generation=2)
    assert shelf.ranking.cancelled() == 1
    assert WWW.key not in shelf.ranking.sorts
    shelf.at(1)
    entry = shelf.peek()
    assert entry is None or entry.answer is answer


def test_what_is_not_kept_is_not_sorted() -> None:
    """TTL 0: ordered by what is known, given once, never probed."""
    shelf = Shelf()
    shelf.store(pool(30, 10), OTHER)
    shelf.at(1)
    entry = shelf.put(30, 99, 10, ttl=0)
    assert shown(entry) == [10, 30, 99]
    assert shelf.cache.reply_ttl(entry, shelf.clock.seconds()) == 0
    shelf.at(2)
    assert shelf.probed == set(packed(10, 30))


def test_sorting_keeps_what_else_is_known() -> None:
    """A sorted entry keeps age, generation and the end of its collection."""
    shelf = Shelf()
    old = shelf.store(pool(30, 10))
    old.retry_at = 77.0
    shelf.at(1)
    new = shelf.peek()
    assert new is not None
    assert new is not old
    assert (old.alive, new.alive) == (False, True)
    for field in ("generation", "stored", "lifetime", "expires", "retry_at", "complete"):
        assert getattr(new, field) == getattr(old, field)


def test_keys_do_not_meet() -> None:
    """A and AAAA of one name, with and without DO, are sorted apart."""
    shelf = Shelf(lambda address, _: address[-1] / 1000)
    six = asks(qtype=AAAA)
    shelf.store(pool(30, 10))
    shelf.store(pool("2001:db8::30", "2001:db8::10"), six)
    shelf.store(whole(DO, 99, 98), DO)
    assert shelf.ranking.counts() == {"first_answer": 3}
    shelf.at(1)
    assert shelf.hit()[0] == [10, 30]
    assert shelf.hit(six)[0] == ["2001:db8::10", "2001:db8::30"]
    assert shelf.hit(DO)[0] == [98, 99]


STEP = st.tuples(
    st.sampled_from(["new", "old", "more", "fails", "hit"]),
    st.integers(0, 2),
    st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True),
    st.sampled_from([0.001, 0.03, 1.0, 61.0, 301.0]),
)


@given(st.lists(STEP, max_size=25), st.integers(1, 3))
def test_any_order_of_events(steps: list[tuple[str, int, list[int], float]], queue: int) -> None:
    """The newest answer's addresses are those in the cache, in order when all is at rest."""
    shelf = Shelf(dead_below(4), queue=queue)
    names = [asks(f"n{number}.example") for number in range(3)]
    held: dict[int, tuple[int, list[int]]] = {}
    for newest, (what, number, numbers, pause) in enumerate(steps, 5):
        key = names[number].key
        generation, known = held.get(number, (0, []))
        if what == "hit" and generation:
            entry = shelf.cache.lookup(key, shelf.clock.seconds())
            assert entry is not None
            assert entry.alive
            assert 0 < shelf.cache.reply_ttl(entry, shelf.clock.seconds()) <= 600
        elif what == "fails" and generation:
            shelf.cache.commit(key, newest, Failed(Ede.OTHER, 1), shelf.clock.seconds())
        elif what == "old" and generation:
            shelf.cache.commit(
                key, generation - 1, pool(*numbers, ttl=86_400), shelf.clock.seconds()
            )
        elif what in ("new", "more"):
            its = generation if what == "more" and generation else newest
            now = list(dict.fromkeys([*(known if its == generation else []), *numbers]))
            shelf.cache.commit(key, its, pool(*now, ttl=86_400), shelf.clock.seconds())
            held[number] = (its, now)
        shelf.at(shelf.ranking.now + pause)
        assert len(shelf.ranking.sorts._sorts) <= queue
        for one, (its, now) in held.items():
            found = shelf.peek(names[one])
            assert found is not None
            assert (found.generation, sorted(shown(found), key=int)) == (its, sorted(now))
    shelf.at(shelf.ranking.now + 10)
    for one in held:
        found = shelf.peek(names[one])
        assert found is not None
        if found.sorted_at is not None:
            order = [int(number) for number in shown(found)]
            answering = [number for number in order if number >= 4]
            assert order[: len(answering)] == sorted(answering)
    shelf.ranking.assert_nothing_left()
