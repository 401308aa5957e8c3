"""Keys by their names: none is passed over, whatever comes and goes between two looks."""

from __future__ import annotations

from itertools import chain

import hypothesis.strategies as st
import pytest
from hypothesis import given

from staggerdns.resolver.collecting import Merger
from staggerdns.resolver.nameindex import EACH, NameIndex
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.question import make_question
from tests.kit.acts import A, name
from tests.kit.cache import WWW, SimulatedCache

POOL = AddressPool((), (bytes(4),), 300, ad=False)


def key(number: int, qtype: int = A) -> bytes:
    """One key of many."""
    return make_question(name(f"n{number}.example"), qtype).key


def test_all_keys_of_a_name() -> None:
    """Of all types, flags and scopes, and of no other name."""
    index = NameIndex(1)
    mine = [
        make_question(name("www.example"), qtype, do=do, cd=not do, scope=scope).key
        for qtype in (1, 28, 65_280)
        for do in (False, True)
        for scope in (0, 7)
    ]
    for one in (*mine, key(1), make_question(name("example"), A).key):
        index.add(one)
    assert index.of(name("www.example")) == mine
    index.remove(mine[3])
    assert mine[3] not in index.of(name("www.example"))
    assert index.of(name("other.example")) == []


@pytest.mark.parametrize("most", [1, EACH - 1, EACH, 100 * EACH])
def test_a_walk_has_all_keys(most: int) -> None:
    """However many lists there are; an empty index has none."""
    index = NameIndex(most)
    assert list(chain.from_iterable(index.walk())) == []
    for number in range(500):
        index.add(key(number))
    assert sorted(chain.from_iterable(index.walk())) == sorted(map(key, range(500)))


def test_lists_are_short() -> None:
    """A walk makes a pause after a few keys when the index is full."""
    index = NameIndex(20_000)
    for number in range(20_000):
        index.add(key(number))
    assert max(map(len, index.walk())) < 3 * EACH


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=60))
def test_changes_during_a_walk(changes: list[tuple[int, bool]]) -> None:
    """What is there from the begin to the end is found once, and what was never there is not."""
    index = NameIndex(10 * EACH)
    held = set(range(200))
    for number in held:
        index.add(key(number))
    stayed, seen = set(held), []
    steps = iter(changes)
    for keys in index.walk():
        seen += keys
        for number, comes in (next(steps, (0, True)) for _ in range(6)):
            if comes and number not in held:
                index.add(key(number))
                held.add(number)
            elif not comes and number in held:
                index.remove(key(number))
                held.remove(number)
                stayed.discard(number)
    assert {key(number) for number in stayed} <= set(seen)
    assert all(seen.count(key(number)) == 1 for number in stayed)


@given(
    st.lists(
        st.tuples(st.sampled_from("cfxel"), st.integers(0, 12), st.sampled_from((0, 1, 300))),
        max_size=80,
    )
)
def test_the_index_of_a_cache(steps: list[tuple[str, int, int]]) -> None:
    """It has the keys of what is kept: commits of any kind, flushes, evictions, expired entries."""
    simulated = SimulatedCache(max_entries=8, max_stale=0)
    cache = simulated.cache
    for generation, (step, number, ttl) in enumerate(steps):
        now = simulated.clock.seconds()
        if step == "c":
            cache.commit(key(number), generation, AddressPool((), (bytes(4),), ttl, ad=False), now)
        elif step == "f":
            cache.commit(key(number), generation, FailureAnswer(Ede.OTHER, ttl), now)
        elif step == "x":
            known = cache.names.of(name_of(number)) == [key(number)]
            assert cache.forget(key(number)) == known
        elif step == "e":
            simulated.clock.advance(ttl)
        else:
            cache.lookup(key(number), now)
        assert sorted(chain.from_iterable(cache.names.walk())) == sorted(cache.entries)
    assert cache.octets == sum(entry.octets for entry in cache.entries.values())


def name_of(number: int) -> bytes:
    """The name of a `key`."""
    return name(f"n{number}.example")


def test_what_is_forgotten() -> None:
    """It is not given any more, and no reply that was ready stands."""
    simulated = SimulatedCache()
    entry = simulated.cache.commit(WWW.key, 1, POOL, simulated.clock.seconds())
    assert simulated.cache.forget(WWW.key)
    assert not entry.alive
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None
    assert not simulated.cache.forget(WWW.key)
    assert simulated.cache.octets == 0


def test_forgotten_while_addresses_wait() -> None:
    """Whoever has more addresses for an entry is asked for them no more, and may go on."""
    simulated = SimulatedCache()
    now = simulated.clock.seconds()
    merger = Waiting()
    simulated.cache.commit(WWW.key, 1, POOL, now)
    simulated.cache.defer(WWW.key, 1, merger)
    assert simulated.cache.forget(WWW.key)
    assert simulated.cache.lookup(WWW.key, now) is None
    simulated.cache.merged(WWW.key, merger)
    assert len(simulated.cache) == 0


class Waiting(Merger):
    """Has more addresses that nobody must ask for."""

    def merge(self, now: float) -> None:
        """Fail."""
        raise AssertionError
