"""Later answers wait until somebody looks (docs/specification.rst, Merging): whoever does sees all
that came before, and in the end it makes no difference whether anybody did.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.collection import MERGE_DELAY
from staggerdns.settings.sections import CacheSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.addresspool import AddressPool
from tests.kit.acts import SILENT, Act, fails, negative, own, says, says_own
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.ranked import RankedResolver, near
from tests.kit.simulated import SimulatedResolver, addresses

ACTS = st.lists(
    st.builds(
        says,
        st.sampled_from([1, 2, 30, 70, 130, 450]),
        *[st.sampled_from([own(1), own(2), own(3), own(4), "10.0.0.1", "192.168.1.1"])] * 2,
        ttl=st.sampled_from([0, 0, 1, 20, 60, 300]),
    )
    | st.builds(says_own, st.integers(5, 8), st.sampled_from([1, 2, 90]), st.just(60))
    | st.builds(negative, st.sampled_from([1, 2, 3]))
    | st.just(SILENT)
    | st.just(fails(2)),
    min_size=2,
    max_size=5,
)


class Look:
    """A collection of one name, and what clients who look at these times find."""

    def __init__(
        self, acts: list[Act], parallel: ParallelSettings, cache: CacheSettings, *, always: bool
    ) -> None:
        self.resolver = resolver = SimulatedResolver(*acts, parallel=parallel, cache=cache)
        self.always = always
        self.found: dict[float, list[str]] = {}
        self.client = resolver.ask()

    def run(self, looks: set[float]) -> None:
        """Go on to the end; look after each event if that is always wanted, else at ``looks``."""
        resolver = self.resolver
        ahead = sorted(looks, reverse=True)
        while resolver.running:
            event = resolver.next_event
            while ahead and ahead[-1] < event:
                resolver.run_to(ahead[-1])
                self.look(ahead.pop())
            resolver.run_to(event)
            if self.always and resolver.running:
                self.look(event)

    def look(self, at: float) -> None:
        """Ask, if the first answer has come."""
        if self.client.answers:
            self.found[at] = self.resolver.ask().addresses

    def facts(self) -> list[object]:
        """All that can be seen in the end."""
        resolver = self.resolver
        entry = resolver.cache.entries.get(resolver.question().key)
        counts = dict(resolver.metrics.pool_addresses.values())
        facts: list[object] = [self.client.at, self.client.addresses, counts]
        if entry is None:
            return facts
        answer = entry.answer
        facts += [type(answer), entry.stored, entry.due, entry.expires, entry.refresh_age]
        facts += [entry.complete, entry.alive, answer.ad, answer.ttl]
        if isinstance(answer, AddressPool):
            facts += [answer.addresses, list(answer.lives), answer.cname_life]
        return facts


@PURE_ONLY
@given(
    ACTS,
    st.sets(st.integers(1, 500).map(lambda at: at + 0.5), max_size=3),
    st.sampled_from([2, 4, 32]),
    st.booleans(),
    st.sampled_from([0, 25]),
)
@settings(max_examples=amount(60, 500))
def test_lazily_is_as_at_once(
    acts: list[Act], looks: set[float], limit: int, private: bool, min_ttl: int
) -> None:
    """Whoever looks finds what he would have found had each answer been merged when it came, and so
    does who comes when all is over.
    """
    parallel = ParallelSettings(max_pool_size=limit, merge_private=private)
    cache = CacheSettings(min_ttl=min_ttl)
    at_once = Look(acts, parallel, cache, always=True)
    lazily = Look(acts, parallel, cache, always=False)
    for each in (at_once, lazily):
        each.run(looks)
    assert lazily.facts() == at_once.facts()
    for at, found in lazily.found.items():
        assert found == at_once.found[at]
    lazily.resolver.run()
    lazily.resolver.assert_nothing_left()


def committed(resolver: SimulatedResolver) -> list[str]:
    """The addresses of the entry as it is, without a look."""
    return addresses(resolver.cache.entries.get(resolver.question().key))


def test_nobody_looks() -> None:
    """Then the pool is merged, stored and sorted once, when the collection ends."""
    resolver = RankedResolver(*[says(5 + index, near(50 - index)) for index in range(5)])
    resolver.ask()
    resolver.run_to(108)
    assert committed(resolver) == [near(50)]
    resolver.run()
    assert committed(resolver) == [near(46 + index) for index in range(5)]
    assert resolver.ranking.counts() == {"more_addresses": 1}


def test_a_look_sorts_what_it_finds() -> None:
    """The addresses that have come are in the order that is known, and those that are new are
    probed from now on.
    """
    resolver = RankedResolver(says(5, near(50)), says(6, near(40), near(30)), SILENT)
    resolver.ask()
    resolver.run_to(8)
    assert resolver.ranking.counts() == {}
    assert resolver.ask().addresses == [near(50), near(40), near(30)]
    assert resolver.ranking.counts() == {"more_addresses": 1}
    resolver.run_to(400)
    assert resolver.ask().addresses == [near(30), near(40), near(50)]


@pytest.mark.parametrize(("at", "merged"), [(-0.5, False), (0.5, True)])
def test_the_longest_wait(at: float, merged: bool) -> None:
    """While somebody is silent, an answer waits no longer than `MERGE_DELAY`; the next one waits
    for itself.
    """
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 20), says_own(2, 300), SILENT)
    resolver.ask()
    delay = MERGE_DELAY * 1000
    resolver.run_to(20 + delay + at)
    assert committed(resolver) == [own(index) for index in range(2 if merged else 1)]
    resolver.run_to(350 + delay + at)
    assert committed(resolver) == [own(index) for index in range(3 if merged else 2)]


def test_ready_replies_are_void() -> None:
    """An answer that has come makes replies without it void, and when it turns out that it brought
    nothing new, they hold again.
    """
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 10), says(20, own(0), own(1)), SILENT)
    resolver.ask()
    resolver.run_to(7)
    first = resolver.ask().entry
    assert (addresses(first), first.alive) == ([own(0)], True)
    resolver.run_to(12)
    assert not first.alive
    second = resolver.ask().entry
    assert (addresses(second), second.alive) == ([own(0), own(1)], True)
    resolver.run_to(80)
    assert not second.alive
    assert resolver.ask().entry is second
    assert (second.alive, first.alive) == (True, False)


def test_an_order_that_comes_meanwhile() -> None:
    """An entry that is sorted while answers wait is as void for ready replies as before."""
    resolver = RankedResolver(says(5, near(30), near(10)), says(6, near(20)), SILENT)
    resolver.ask()
    resolver.run_to(150)
    entry = resolver.cache.entries[resolver.question().key]
    assert (addresses(entry), entry.alive) == ([near(10), near(30)], False)
    assert resolver.ask().addresses == [near(10), near(30), near(20)]


def crowd_out(cache: AnswerCache, resolver: SimulatedResolver) -> None:
    """Have another name take the one place in the cache."""
    other = resolver.question("other")
    cache.commit(
        other.key, 0, AddressPool((), (b"\1\2\3\4",), 60, ad=False), resolver.clock.seconds()
    )


def test_an_entry_that_goes_meanwhile() -> None:
    """What waits for it is not lost, and comes back with the end of the collection."""
    resolver = SimulatedResolver(
        says_own(0, 5), says_own(1, 6), says_own(2, 300), cache=CacheSettings(max_entries=1)
    )
    resolver.ask()
    resolver.run_to(10)
    crowd_out(resolver.cache, resolver)
    resolver.run_to(11)
    assert committed(resolver) == []
    assert resolver.ask().addresses == [own(0), own(1)]
    crowd_out(resolver.cache, resolver)
    resolver.run()
    assert committed(resolver) == [own(0), own(1), own(2)]


def test_a_later_generation_takes_its_place() -> None:
    """What waits for an entry that another collection has replaced changes nothing."""
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 6), SILENT)
    resolver.ask()
    resolver.run_to(10)
    newer = AddressPool((), (b"\1\2\3\4",), 60, ad=False)
    key = resolver.question().key
    resolver.cache.commit(key, 99, newer, resolver.clock.seconds())
    assert resolver.ask().addresses == ["1.2.3.4"]
    resolver.run_to(10 + 2 * MERGE_DELAY * 1000)
    assert committed(resolver) == ["1.2.3.4"]


@pytest.mark.parametrize("ending", ["close", "give_up"])
def test_an_end_before_its_time(ending: str) -> None:
    """What waits is in the cache, and nothing waits any more."""
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 6), SILENT)
    resolver.ask()
    resolver.run_to(10)
    if ending == "close":
        resolver.forwarder.close()
    else:
        resolver.give_up()
    assert committed(resolver) == [own(0), own(1)]
    resolver.assert_nothing_left()
