"""How the answers of one collection become one pool (docs/specification.rst, Merging)."""

from __future__ import annotations

import pytest

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.names import to_text
from tests.kit.acts import (
    AAAA,
    NOERROR,
    NXDOMAIN,
    SILENT,
    Act,
    fails,
    negative,
    own,
    says,
    says_own,
    unreachable,
)
from tests.kit.simulated import SimulatedResolver

AD_FLAGS = 0x81A0


def collect(
    *acts: Act, parallel: ParallelSettings | None = None
) -> tuple[SimulatedResolver, AddressPool]:
    """Run one collection to its end; the resolver and the pool in the cache."""
    resolver = SimulatedResolver(*acts, parallel=parallel)
    resolver.ask()
    resolver.run()
    entry = resolver.cache.lookup(resolver.question().key, resolver.clock.seconds())
    assert entry is not None
    assert isinstance(entry.answer, AddressPool)
    return resolver, entry.answer


@pytest.mark.parametrize(
    "dead",
    [
        (),
        (SILENT, SILENT),
        (fails(2), fails(3)),
        (unreachable(None), unreachable(1)),
        (SILENT, fails(1)),
    ],
)
def test_five_sets_one_pool(dead: tuple[Act, ...]) -> None:
    """All sets are in the pool, the client's first, whatever the active tier does."""
    acts = [says_own(index, 20 + 9 * index) for index in range(5)]
    resolver, _ = collect(*dead, *acts)
    assert resolver.pool() == [own(index) for index in range(5)]
    assert sorted(upstream for _, upstream in resolver.launches) == list(range(5 + len(dead)))


def test_later_answers_join_behind() -> None:
    """Order: the winner's addresses as they came, then those of the others as these came."""
    resolver, _ = collect(
        says(20, own(3), own(1)), says(10, own(2), own(0)), says(5, own(1), own(7), own(2))
    )
    assert resolver.pool() == [own(index) for index in (2, 0, 3, 1, 7)]


def test_duplicates_go() -> None:
    """An address is in the pool once, within one answer and between answers."""
    resolver, _ = collect(says(5, own(0), own(0)), says(6, own(0), own(1)), says_own(1, 7))
    assert resolver.pool() == [own(0), own(1)]
    joined = resolver.metrics.pool_addresses
    assert (joined.cell(ACTIVE).value, joined.cell(STAGGERED).value) == (2, 0)


def test_joined_addresses_are_counted_by_tier() -> None:
    """The gain of the background is what the staggered tier added."""
    resolver, _ = collect(says_own(0, 5), says_own(1, 6), says(7, own(2), own(3)), says_own(0, 7))
    joined = resolver.metrics.pool_addresses
    assert (joined.cell(ACTIVE).value, joined.cell(STAGGERED).value) == (2, 2)


def completeness(resolver: SimulatedResolver) -> tuple[int, int]:
    """How many upstreams had answered at the ends of pools, and how many were missing."""
    cell = resolver.metrics.pool_upstreams.cell
    return cell("answered").value, cell("missing").value


@pytest.mark.parametrize(
    ("others", "counted"),
    [
        ((says_own(1, 6), says_own(2, 7)), (3, 0)),
        ((says_own(0, 6), negative(7)), (3, 0)),
        ((fails(6), says_own(2, 7)), (2, 1)),
        ((SILENT, unreachable(1)), (1, 2)),
    ],
)
def test_who_is_missing_is_counted(others: tuple[Act, ...], counted: tuple[int, int]) -> None:
    """At the end of a pool each upstream has answered, be it to say that it has nothing, or not."""
    resolver, _ = collect(says_own(0, 5), *others)
    assert completeness(resolver) == counted


def test_who_is_not_asked_is_missing() -> None:
    """An upstream with an open circuit is none that the pool can do without."""
    resolver = SimulatedResolver(*(says_own(index, 5) for index in range(4)))
    resolver.upstreams[3].open_circuit()
    resolver.ask()
    resolver.run()
    assert 3 not in {upstream for _, upstream in resolver.launches}
    assert completeness(resolver) == (3, 1)


def test_nobody_answers_twice() -> None:
    """One that was asked again, and answers both queries in the end, is counted once."""
    resolver, _ = collect(says_own(0, 1500))
    assert len(resolver.launches) == 2
    assert completeness(resolver) == (1, 0)


@pytest.mark.parametrize("act", [negative(5, NXDOMAIN), fails(5)])
def test_what_is_no_pool_is_not_counted(act: Act) -> None:
    """Neither is a name without addresses, nor one that nobody knows."""
    resolver = SimulatedResolver(act, act)
    resolver.ask()
    resolver.run()
    assert completeness(resolver) == (0, 0)


@pytest.mark.parametrize("strategy", ["racing", "sequential", "random"])
def test_one_answer_is_no_pool(strategy: str) -> None:
    """Strategies that want the answer of one have nobody missing."""
    resolver = SimulatedResolver(says_own(0, 5), says_own(1, 5), strategy=strategy)
    resolver.ask()
    resolver.run()
    assert resolver.pool()
    assert completeness(resolver) == (0, 0)


def test_each_address_has_its_ttl() -> None:
    """Every address lives as long as its upstream allowed."""
    _, pool = collect(says_own(0, 5, 300), says_own(1, 6, 90), says_own(2, 7, 120))
    assert list(pool.lives) == [300, 90, 120]


def test_pool_of_ipv6() -> None:
    """AAAA is merged as A is."""
    resolver = SimulatedResolver(
        says(5, "2001:db8::1"), says(6, "2001:db8::2"), says(7, "2001:db8::3")
    )
    question = resolver.question(qtype=AAAA)
    resolver.ask(question)
    resolver.run()
    assert resolver.pool(question) == ["2001:db8::1", "2001:db8::2", "2001:db8::3"]


def test_the_first_chain_stays() -> None:
    """Other upstreams' addresses join at the end of the first CNAME chain."""
    _, pool = collect(
        says(5, own(0), cname_chain=["a.cdn.example", "b.cdn.example"]),
        says(6, own(1), cname_chain=["z.cdn.example"]),
        says(7, own(2)),
    )
    assert [to_text(link) for link in pool.cname_chain] == ["a.cdn.example.", "b.cdn.example."]
    assert len(pool.addresses) == 3


@pytest.mark.parametrize(
    ("flags", "ad"),
    [
        ((AD_FLAGS, AD_FLAGS, AD_FLAGS), True),
        ((AD_FLAGS, AD_FLAGS, 0x8180), False),
        ((0x8180, AD_FLAGS, AD_FLAGS), False),
    ],
)
def test_ad_needs_every_contributor(flags: tuple[int, ...], ad: bool) -> None:
    """AD is left only when all who brought an address had it."""
    acts = [says(5 + index, own(index), flags=flag) for index, flag in enumerate(flags)]
    _, pool = collect(*acts)
    assert pool.ad is ad


@pytest.mark.parametrize(
    "bad",
    ["0.0.0.0", "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "224.0.0.1"],
)
def test_a_liar_does_not_spoil_the_pool(bad: str) -> None:
    """Private addresses join only from the winner, unless ``merge_private`` says otherwise."""
    acts = [says_own(0, 5), says(6, bad, own(1))]
    resolver, _ = collect(*acts)
    assert resolver.pool() == [own(0), own(1)]
    resolver, _ = collect(*acts, parallel=ParallelSettings(merge_private=True))
    assert resolver.pool() == [own(0), bad, own(1)]
    resolver, _ = collect(*reversed(acts[1:]), says_own(0, 8))
    assert resolver.pool() == [bad, own(1), own(0)]


@pytest.mark.parametrize("bad", ["::", "::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1"])
def test_an_ipv6_liar(bad: str) -> None:
    """The same holds for IPv6, mapped IPv4 included."""
    resolver = SimulatedResolver(says(5, "2001:db8::1"), says(6, bad))
    question = resolver.question(qtype=AAAA)
    resolver.ask(question)
    resolver.run()
    assert resolver.pool(question) == ["2001:db8::1"]


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (3, 3), (4, 4), (5, 4)])
def test_pool_is_capped(limit: int, kept: int) -> None:
    """``max_pool_size`` bounds the first answer and what joins."""
    resolver, _ = collect(
        says(5, own(0), own(1), own(2)),
        says_own(3, 6),
        parallel=ParallelSettings(max_pool_size=limit),
    )
    assert resolver.pool() == [own(index) for index in range(kept)]


def test_hundred_addresses() -> None:
    """The cap holds for the winner's own answer too."""
    resolver, _ = collect(says(5, *[own(index) for index in range(100)]))
    assert len(resolver.pool()) == 32


# The client gets NXDOMAIN from these active tiers, in which not both have said so by then.
DISAGREEING = [
    pytest.param((negative(5), fails(6)), id="one fails"),
    pytest.param((negative(5), unreachable(None)), id="one is not there"),
    pytest.param((negative(5), SILENT), id="one says nothing"),
    pytest.param((negative(5), says_own(1, 80)), id="one has data, too late"),
]


@pytest.mark.parametrize("active", DISAGREEING)
def test_positive_behind_a_negative(active: tuple[Act, Act]) -> None:
    """Addresses that come after a negative went out are kept: the next client gets them."""
    resolver = SimulatedResolver(*active, says_own(2, 7), says_own(3, 9))
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NXDOMAIN
    again = resolver.ask()
    assert again.rcode == NOERROR
    assert set(again.addresses) >= {own(2), own(3)}


@pytest.mark.parametrize("merge_private", [False, True])
@pytest.mark.parametrize("rcode", [NXDOMAIN, NOERROR])
def test_a_negative_of_the_whole_active_tier_stands(rcode: int, merge_private: bool) -> None:
    """Where all of the first tier say no, one liar behind them does not make it a yes."""
    resolver = SimulatedResolver(
        negative(5, rcode),
        negative(6, NXDOMAIN),
        says_own(2, 7),
        says(8, "192.168.1.1"),
        parallel=ParallelSettings(merge_private=merge_private),
    )
    client = resolver.ask()
    resolver.run()
    again = resolver.ask()
    assert again.entry.answer is client.entry.answer
    assert (again.rcode, again.addresses) == (rcode, [])
    assert len(resolver.launches) == 4, "all were asked, and once"


def test_a_late_agreement_stands() -> None:
    """The slower half of the active tier may say no after the grace: then both have said it."""
    resolver = SimulatedResolver(negative(5), negative(60), says_own(2, 30), says_own(3, 30))
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (35, NXDOMAIN)
    assert resolver.ask().rcode == NXDOMAIN


def test_a_positive_before_the_agreement_stays() -> None:
    """What came before the slower active upstream said no is not taken back, and still grows."""
    resolver = SimulatedResolver(negative(5), negative(60), says_own(2, 5), says_own(3, 40))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [own(2), own(3)]


def test_a_pool_grows_whatever_the_active_tier_says_later() -> None:
    """Where a positive won, two late negatives do not keep other addresses out."""
    resolver = SimulatedResolver(
        negative(340), negative(345), says_own(2, 5), says_own(3, 60), says_own(4, 60)
    )
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (305, NOERROR)
    assert resolver.pool() == [own(2), own(3), own(4)]


@pytest.mark.parametrize("liar", [says(5, "192.168.1.1"), says(5, own(2), "127.0.0.1")])
def test_private_addresses_with_do_behind_a_negative(liar: Act) -> None:
    """A whole answer that holds private addresses does not take a negative's place."""
    resolver = SimulatedResolver(negative(5), fails(6), liar)
    question = resolver.question(do=True)
    client = resolver.ask(question)
    resolver.run()
    assert client.rcode == NXDOMAIN
    assert resolver.ask(question).rcode == NXDOMAIN


def test_public_addresses_with_do_behind_a_negative() -> None:
    """A whole answer without such addresses does."""
    resolver = SimulatedResolver(negative(5), fails(6), says_own(2, 5))
    question = resolver.question(do=True)
    resolver.ask(question)
    resolver.run()
    assert resolver.ask(question).rcode == NOERROR


def test_ttl_0_behind_a_negative() -> None:
    """What may not be kept does not throw a negative that may out of the cache."""
    resolver = SimulatedResolver(negative(5), fails(6), says_own(2, 5, 0))
    resolver.ask()
    resolver.run()
    asked = len(resolver.launches)
    assert resolver.ask().rcode == NXDOMAIN
    resolver.run()
    assert len(resolver.launches) == asked


def test_a_lone_upstream_agrees_with_itself() -> None:
    """A first tier of one is a whole one."""
    resolver = SimulatedResolver(
        negative(5), says_own(1, 7), parallel=ParallelSettings(active_tier_size=1)
    )
    resolver.ask()
    resolver.run()
    assert resolver.ask().rcode == NXDOMAIN


def test_a_failed_active_tier_has_agreed_in_nothing() -> None:
    """A negative of the staggered tier alone gives way to data."""
    resolver = SimulatedResolver(fails(5), fails(5), negative(5), negative(5), says_own(4, 5))
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NXDOMAIN
    assert resolver.ask().addresses == [own(4)]


@pytest.mark.parametrize("active", DISAGREEING[:3])
@pytest.mark.parametrize(
    "bad",
    ["0.0.0.0", "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.1.1", "224.0.0.1"],
)
def test_private_addresses_behind_a_negative(active: tuple[Act, Act], bad: str) -> None:
    """A late answer's private addresses do not turn a negative over; public ones alone do."""
    resolver = SimulatedResolver(*active, says(7, bad))
    client = resolver.ask()
    resolver.run()
    assert client.rcode == NXDOMAIN
    again = resolver.ask()
    assert again.entry.answer is client.entry.answer
    assert list(resolver.metrics.pool_addresses.values().values()) == [0, 0]

    resolver = SimulatedResolver(*active, says(7, bad, own(2)), says(8, bad, own(3)))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [own(2), own(3)]
    assert resolver.metrics.pool_addresses.cell(STAGGERED).value == 2

    resolver = SimulatedResolver(
        *active, says(7, bad, own(2)), parallel=ParallelSettings(merge_private=True)
    )
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [bad, own(2)]


def test_private_ipv6_behind_a_negative() -> None:
    """The same holds for AAAA."""
    resolver = SimulatedResolver(
        negative(5), fails(6), says(7, "::1", "fd00::1"), says(9, "2001:db8::1", "::1")
    )
    question = resolver.question(qtype=AAAA)
    resolver.ask(question)
    resolver.run()
    assert resolver.pool(question) == ["2001:db8::1"]


def test_a_private_answer_within_the_grace_wins() -> None:
    """The client's own answer may be private: split horizon is no lie."""
    resolver = SimulatedResolver(negative(5), says(20, "192.168.1.1"))
    client = resolver.ask()
    resolver.run()
    assert client.addresses == ["192.168.1.1"]
    assert resolver.pool() == ["192.168.1.1"]


@pytest.mark.parametrize("liar", [0, 1, 3])
def test_ttl_0_of_one_does_not_cost_the_pool(liar: int) -> None:
    """An answer with TTL 0 does not join, first or not: the others' addresses are kept."""
    ttls = [300] * 4
    ttls[liar] = 0
    acts = [says_own(index, 5 + index, ttls[index]) for index in range(4)]
    resolver = SimulatedResolver(*acts)
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [own(0)]
    assert resolver.pool() == [own(index) for index in range(4) if index != liar]
    launched = len(resolver.launches)
    resolver.run_to(1_000)
    assert len(resolver.ask().addresses) == 3
    assert len(resolver.launches) == launched


@pytest.mark.parametrize("ttls", [(0, 300), (0, 0, 0, 300), (0, 300, 0, 0)])
def test_what_may_not_be_kept_is_not_kept_by_the_word_of_one(ttls: tuple[int, ...]) -> None:
    """When the first answer has TTL 0, it takes two others who allow theirs to be kept."""
    resolver = SimulatedResolver(
        *[says_own(index, 5 + 70 * index, ttl) for index, ttl in enumerate(ttls)]
    )
    resolver.ask()
    resolver.run()
    assert resolver.pool() == []


def test_private_addresses_do_not_overrule_ttl_0() -> None:
    """What may not join a pool does not begin one either."""
    acts = [says_own(0, 5, 0), says(60, "10.0.0.1", own(1)), says(90, "10.0.0.2")]
    resolver = SimulatedResolver(*acts, says(120, "10.0.0.3", own(3), ttl=90))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [own(1), own(3)]
    entry = resolver.cache.entries[resolver.question().key]
    assert entry.due == pytest.approx(entry.stored + 180)  # twice what the second one allowed


def test_the_smallest_ttl_joins() -> None:
    """A TTL of 1 s is no 0: it joins, for as long."""
    _, pool = collect(says_own(0, 5), says_own(1, 6, 1))
    assert list(pool.lives) == [300, 1]


def test_negative_behind_a_positive() -> None:
    """A negative, or any failure, takes nothing out of a pool."""
    resolver, _ = collect(says_own(0, 5), negative(6), negative(7, NOERROR), fails(8))
    assert resolver.pool() == [own(0)]


def test_do_is_answered_whole() -> None:
    """With DO the answer of one upstream is kept as it came, and nobody's is added."""
    resolver = SimulatedResolver(says(5, own(0), own(1)), says_own(2, 6))
    question = resolver.question(do=True)
    client = resolver.ask(question)
    resolver.run()
    again = resolver.ask(question)
    assert again.entry is client.entry
    assert not isinstance(client.entry.answer, AddressPool)
