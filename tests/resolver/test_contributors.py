"""A collection notes of each address who brought it."""

from __future__ import annotations

from staggerdns.wire.addresspool import AddressPool
from tests.kit.acts import SILENT, fails, negative, own, says, says_own
from tests.kit.ranked import RankedResolver, near
from tests.kit.simulated import SimulatedResolver, addresses


def contributors(resolver: SimulatedResolver) -> dict[str, list[int]]:
    """Who brought each address of the pool in the cache: the numbers of upstreams."""
    entry = resolver.cache.entries[resolver.question().key]
    assert isinstance(entry.answer, AddressPool)
    numbers = {upstream.name: number for number, upstream in enumerate(resolver.upstreams)}
    sets = [sorted(numbers[name] for name in names) for names in entry.answer.contributors]
    return dict(zip(addresses(entry), sets, strict=True))


def collected(resolver: SimulatedResolver) -> dict[str, list[int]]:
    """Who brought what when all have answered."""
    resolver.ask()
    resolver.run()
    return contributors(resolver)


def test_everybody_the_same() -> None:
    """Replies that are equal to the octet are credited to all who sent them."""
    acts = [says(5 + index, own(1), own(2)) for index in range(5)]
    assert collected(SimulatedResolver(*acts)) == {own(1): [*range(5)], own(2): [*range(5)]}


def test_everybody_the_same_in_another_order() -> None:
    """So they are when the pool has been put in order meanwhile."""
    acts = [says(5 + index, near(30), near(10)) for index in range(3)]
    assert collected(RankedResolver(*acts)) == {near(10): [0, 1, 2], near(30): [0, 1, 2]}


def test_to_each_his_own() -> None:
    """Addresses of one's own, and one that two have."""
    resolver = RankedResolver(
        says(5, near(30)), says(6, near(20), near(30)), says(7, near(10)), fails(5), SILENT
    )
    assert collected(resolver) == {near(10): [2], near(20): [1], near(30): [0, 1]}


def test_the_same_again_after_others() -> None:
    """A reply that is equal to the first one counts, too, when the pool has grown since."""
    acts = [says(5, own(1)), says(6, own(1), own(2)), says(7, own(1))]
    assert collected(SimulatedResolver(*acts)) == {own(1): [0, 1, 2], own(2): [1]}


def test_the_same_again_after_one_that_joins_nothing() -> None:
    """TTL 0 brings nothing; the pool is as it was then, and so is what is equal to it."""
    acts = [says(5, own(1)), says(6, own(2), ttl=0), says(7, own(1))]
    assert collected(SimulatedResolver(*acts)) == {own(1): [0, 2]}


def test_what_takes_the_place_of_ttl_0() -> None:
    """The two who are believed brought it."""
    acts = [says(5, own(1), ttl=0), says(6, own(2), own(3)), says(7, own(3))]
    assert collected(SimulatedResolver(*acts)) == {own(2): [1], own(3): [1, 2]}


def test_what_takes_the_place_of_a_negative() -> None:
    """Its contributor is whoever gave it."""
    acts = [negative(5), SILENT, says_own(2, 1)]
    assert collected(SimulatedResolver(*acts)) == {own(2): [2]}


def test_a_look_in_between() -> None:
    """What is merged in steps is credited as what is merged at once."""
    resolver = SimulatedResolver(
        says(5, own(1)), says(10, own(1)), says(5, own(1), own(2)), says(9, own(1))
    )
    resolver.ask()
    for at in (7, 12, 56, 58):
        resolver.run_to(at)
        resolver.ask()
    resolver.run()
    assert contributors(resolver) == {own(1): [0, 1, 2, 3], own(2): [2]}
