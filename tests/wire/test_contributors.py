"""Who brought an address: the table of sets of upstreams, its bounds, and what pools say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.contributors import (
    CONTRIBUTORS,
    MAX_JOINT_SETS,
    MAX_UPSTREAMS,
    UNKNOWN,
    UNKNOWN_BITS,
    ContributorSets,
)
from staggerdns.wire.pool import bounded, cap, without_private
from tests.kit.pools import merge

UPSTREAMS = ["udp://192.0.2.1", "192.0.2.2", "tls://192.0.2.3#dns.example"]


def address(number: int) -> bytes:
    """A public address."""
    return bytes((203, 0, 113, number))


def test_sets() -> None:
    """A set has one number, whatever order it was put together in; the empty one has 0."""
    sets = ContributorSets()
    first, second, third = map(sets.bit, UPSTREAMS)
    assert sets.number(0) == UNKNOWN == 0
    assert sets.names(UNKNOWN) == frozenset()
    both = sets.number(first | third)
    assert sets.number(third | first) == both
    assert sets.names(both) == {UPSTREAMS[0], UPSTREAMS[2]}
    assert sets.names(sets.number(second)) == {UPSTREAMS[1]}
    assert sets.mask(both) == first | third
    assert sets.bit(UPSTREAMS[1]) == second
    assert len(sets) == 5


@pytest.mark.parametrize("joint", [0, 1, 2])
def test_room_for_joint_sets(joint: int) -> None:
    """What does not fit is not known; what is there stays, and single upstreams have room."""
    sets = ContributorSets(upstreams=4, joint_sets=joint)
    bits = [sets.bit(name) for name in "abcd"]
    wanted = [bits[0] | bits[1], bits[0] | bits[2], bits[0] | bits[1]]
    found = [len(sets.names(sets.number(mask))) for mask in wanted]
    assert found == [2 * (joint > 0), 2 * (joint > 1), 2 * (joint > 0)]
    assert len(sets) == 1 + 4 + joint
    assert [sets.names(sets.number(bit)) for bit in bits] == [{name} for name in "abcd"]


def test_room_for_upstreams() -> None:
    """One too many brings without being known, and does not hide the others."""
    sets = ContributorSets(upstreams=2)
    first, second, third = map(sets.bit, "abc")
    assert third == UNKNOWN_BITS
    assert sets.names(sets.number(first | third)) == frozenset()
    assert sets.names(sets.number(first | sets.mask(UNKNOWN))) == frozenset()
    assert sets.names(sets.number(first | second)) == {"a", "b"}
    assert sets.bit("b") == second
    assert len(sets) == 4


def test_two_octets_are_enough() -> None:
    """Even a full table has numbers of two octets."""
    assert 1 + MAX_UPSTREAMS + MAX_JOINT_SETS <= 1 << 16


BROUGHT = st.lists(
    st.tuples(
        st.sampled_from(UPSTREAMS),
        st.lists(st.integers(1, 6).map(address), unique=True, min_size=1, max_size=4),
        st.sampled_from([30, 60, 60]),
    ),
    min_size=1,
    max_size=6,
)


@given(BROUGHT, st.permutations(range(6)), st.integers(1, 6))
def test_pools(brought: list[tuple[str, list[bytes], int]], order: list[int], limit: int) -> None:
    """Whoever gave an address is in its set, nobody else is, and sets follow their addresses."""
    pool: AddressPool | None = None
    expected: dict[bytes, set[str]] = {}
    for name, addresses, ttl in brought:
        bit = CONTRIBUTORS.bit(name)
        other = AddressPool((), tuple(addresses), ttl, ad=False)
        if pool is None:
            other.brought_by = CONTRIBUTORS.number(bit)
            pool = other
        else:
            pool = merge(pool, other, 32, private=False, contributor=bit)
        for each in addresses:
            expected.setdefault(each, set()).add(name)
    assert pool is not None

    def check(pool: AddressPool) -> None:
        assert dict(zip(pool.addresses, pool.contributors, strict=True)) == {
            each: expected[each] for each in pool.addresses
        }
        assert len(pool.packed_contributors) in (0, 2 * len(pool.addresses))
        assert (pool.packed_contributors == b"") == (len(set(pool.contributors)) == 1)

    check(pool)
    turned = pool.reordered(
        tuple(address(place + 1) for place in order if address(place + 1) in pool.addresses)
    )
    check(turned)
    check(cap(turned, limit))
    check(bounded(turned, 45, 50))
    check(turned.living(40, 5))
    before = turned.addresses, list(turned.lives)
    turned.pack()
    turned.pack()
    assert (turned.addresses, list(turned.lives)) == before
    check(turned)
    check(turned.reordered(pool.addresses))
    check(cap(turned, limit))


def test_without_private_addresses() -> None:
    """What is left keeps its contributors."""
    bits = [CONTRIBUTORS.bit(name) for name in UPSTREAMS]
    pool = AddressPool(
        (), (b"\n\0\0\1", address(1)), 60, ad=False, brought_by=CONTRIBUTORS.number(bits[0])
    )
    other = AddressPool((), (address(1), address(2)), 60, ad=False)
    public = without_private(merge(pool, other, 32, private=False, contributor=bits[1]))
    assert isinstance(public, AddressPool)
    assert public.contributors == (frozenset(UPSTREAMS[:2]), frozenset(UPSTREAMS[1:2]))


@pytest.mark.parametrize("width", [4, 16])
def test_packed(width: int) -> None:
    """A packed pool says the same."""
    addresses = tuple(bytes([number] * width) for number in (3, 1, 2))
    pool = AddressPool((b"\1a\0",), addresses, 60, ad=True)
    octets, sections = pool.octets, pool.sections(20, 5, 500)
    pool.pack()
    assert (pool.addresses, pool.octets, pool.sections(20, 5, 500)) == (addresses, octets, sections)
    assert pool.reordered(addresses) is pool
