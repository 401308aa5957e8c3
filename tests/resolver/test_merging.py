"""How the answers of one collection become one pool (SPEC section 2, merging)."""

from __future__ import annotations

import pytest

from staggerdns.resolver.collection import PoolRules
from staggerdns.strategy.run import ACTIVE, STAGGERED
from staggerdns.wire.answer import Pool
from staggerdns.wire.names import to_text
from tests.strategy.fakes import (
    AAAA,
    NOERROR,
    NXDOMAIN,
    SILENT,
    Act,
    Stage,
    fails,
    negative,
    own,
    says,
    says_own,
    unreachable,
)

AD_FLAGS = 0x81A0


def collect(*acts: Act, rules: PoolRules | None = None) -> tuple[Stage, Pool]:
    """Run one collection to its end; the stage and the pool in the cache."""
    stage = Stage(*acts, rules=rules)
    stage.ask()
    stage.run()
    entry = stage.cache.lookup(stage.question().key)
    assert entry is not None
    assert isinstance(entry.answer, Pool)
    return stage, entry.answer


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
    stage, _ = collect(*dead, *acts)
    assert stage.pool() == [own(index) for index in range(5)]
    assert sorted(upstream for _, upstream in stage.launches) == list(range(5 + len(dead)))


def test_later_answers_join_behind() -> None:
    """Order: the winner's addresses as they came, then those of the others as these came."""
    stage, _ = collect(
        says(20, own(3), own(1)), says(10, own(2), own(0)), says(5, own(1), own(7), own(2))
    )
    assert stage.pool() == [own(index) for index in (2, 0, 3, 1, 7)]


def test_duplicates_go() -> None:
    """An address is in the pool once, within one answer and between answers."""
    stage, _ = collect(says(5, own(0), own(0)), says(6, own(0), own(1)), says_own(1, 7))
    assert stage.pool() == [own(0), own(1)]
    joined = stage.metrics.pool_addresses
    assert (joined.cell(ACTIVE).value, joined.cell(STAGGERED).value) == (2, 0)


def test_joined_addresses_are_counted_by_tier() -> None:
    """The gain of the background is what the staggered tier added."""
    stage, _ = collect(says_own(0, 5), says_own(1, 6), says(7, own(2), own(3)), says_own(0, 7))
    joined = stage.metrics.pool_addresses
    assert (joined.cell(ACTIVE).value, joined.cell(STAGGERED).value) == (2, 2)


def test_minimum_ttl() -> None:
    """The pool lives as long as its shortest-lived member."""
    _, pool = collect(says_own(0, 5, 300), says_own(1, 6, 90), says_own(2, 7, 120))
    assert pool.ttl == 90


def test_pool_of_ipv6() -> None:
    """AAAA is merged as A is."""
    stage = Stage(says(5, "2001:db8::1"), says(6, "2001:db8::2"), says(7, "2001:db8::3"))
    question = stage.question(qtype=AAAA)
    stage.ask(question)
    stage.run()
    assert stage.pool(question) == ["2001:db8::1", "2001:db8::2", "2001:db8::3"]


def test_the_first_chain_stays() -> None:
    """Other upstreams' addresses join at the end of the first CNAME chain."""
    _, pool = collect(
        says(5, own(0), chain=["a.cdn.example", "b.cdn.example"]),
        says(6, own(1), chain=["z.cdn.example"]),
        says(7, own(2)),
    )
    assert [to_text(link) for link in pool.links] == ["a.cdn.example.", "b.cdn.example."]
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
    stage, _ = collect(*acts)
    assert stage.pool() == [own(0), own(1)]
    stage, _ = collect(*acts, rules=PoolRules(merge_private=True))
    assert stage.pool() == [own(0), bad, own(1)]
    stage, _ = collect(*reversed(acts[1:]), says_own(0, 8))
    assert stage.pool() == [bad, own(1), own(0)]


@pytest.mark.parametrize("bad", ["::", "::1", "fe80::1", "fd00::1", "ff02::1", "::ffff:127.0.0.1"])
def test_an_ipv6_liar(bad: str) -> None:
    """The same holds for IPv6, mapped IPv4 included."""
    stage = Stage(says(5, "2001:db8::1"), says(6, bad))
    question = stage.question(qtype=AAAA)
    stage.ask(question)
    stage.run()
    assert stage.pool(question) == ["2001:db8::1"]


@pytest.mark.parametrize(("limit", "kept"), [(1, 1), (3, 3), (4, 4), (5, 4)])
def test_pool_is_capped(limit: int, kept: int) -> None:
    """``max_pool_size`` bounds the first answer and what joins."""
    stage, _ = collect(
        says(5, own(0), own(1), own(2)), says_own(3, 6), rules=PoolRules(max_pool_size=limit)
    )
    assert stage.pool() == [own(index) for index in range(kept)]


def test_hundred_addresses() -> None:
    """The cap holds for the winner's own answer too."""
    stage, _ = collect(says(5, *[own(index) for index in range(100)]))
    assert len(stage.pool()) == 32


def test_positive_behind_a_negative() -> None:
    """Addresses that come after a negative went out are kept: the next client gets them."""
    stage = Stage(negative(5), negative(6), says_own(2, 7), says_own(3, 9))
    client = stage.ask()
    stage.run()
    assert client.rcode == NXDOMAIN
    again = stage.ask()
    assert (again.rcode, again.addresses) == (NOERROR, [own(2), own(3)])


def test_negative_behind_a_positive() -> None:
    """A negative, or any failure, takes nothing out of a pool."""
    stage, _ = collect(says_own(0, 5), negative(6), negative(7, NOERROR), fails(8))
    assert stage.pool() == [own(0)]


def test_do_is_answered_whole() -> None:
    """With DO the answer of one upstream is kept as it came, and nobody's is added."""
    stage = Stage(says(5, own(0), own(1)), says_own(2, 6))
    question = stage.question(do=True)
    client = stage.ask(question)
    stage.run()
    again = stage.ask(question)
    assert again.entry is client.entry
    assert not isinstance(client.entry.answer, Pool)
