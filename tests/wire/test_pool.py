"""From replies to one pool: docs/specification.rst, Merging."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.addresskinds import is_private
from staggerdns.wire.addresspool import AddressPool, MixedPool, mixed
from staggerdns.wire.constants import WireError
from staggerdns.wire.pool import MAX_OTHER_TARGETS, GrowingPool, bounded, cap, without_private
from staggerdns.wire.scrub import MAX_CNAME_CHAIN
from staggerdns.wire.verdict import Verdict
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
    judged,
    pool_of,
    raw_reply,
    read_the_long_way,
    record,
    upstream_reply,
    wire_name,
)
from tests.kit.pools import merge

A = ask()


def packed(*addresses: str) -> tuple[bytes, ...]:
    """Return addresses in wire form."""
    return tuple(ip_address(text).packed for text in addresses)


def pool(
    *addresses: str, ttl: int = 300, ad: bool = False, cname_chain: tuple[str, ...] = ()
) -> AddressPool:
    """Return a pool of these addresses."""
    return AddressPool(tuple(map(wire_name, cname_chain)), packed(*addresses), ttl, ad)


def cname_chain(length: int) -> list[str]:
    """Return a chain of this many CNAME links and an address behind it."""
    names = [NAME, *(f"n{number}.example." for number in range(length))]
    links = [f"{names[i]} 60 CNAME {names[i + 1]}" for i in range(length)]
    return [*links, f"{names[-1]} 60 A 192.0.2.1"]


def test_addresses_of_a_reply() -> None:
    """The addresses come in their order, each once, with the smallest TTL and the AD flag."""
    reply = raw_reply(
        A,
        [
            record(data, 1, ttl=ttl)
            for data, ttl in zip(
                packed("192.0.2.3", "192.0.2.1", "192.0.2.3", "192.0.2.2"),
                (300, 200, 100, 400),
                strict=True,
            )
        ],
        flags=0x81A0,
    )
    found = pool_of(reply, A)
    assert found.addresses == packed("192.0.2.3", "192.0.2.1", "192.0.2.2")
    assert (found.cname_chain, found.ttl, found.ad) == ((), 100, True)
    assert (found.rcode, found.negative) == (0, False)


def test_aaaa_of_a_reply() -> None:
    """AAAA questions take AAAA records alone, A questions A records alone."""
    both = [f"{NAME} 60 A 192.0.2.1", f"{NAME} 60 AAAA 2001:db8::1"]
    for asked, expected in ((A, "192.0.2.1"), (ask(rdtype="AAAA"), "2001:db8::1")):
        assert pool_of(upstream_reply(asked, both), asked).addresses == packed(expected)


def test_a_chain_is_kept_in_order() -> None:
    """The links are followed from the question, whatever order and case the records have."""
    one, two, stray = packed("192.0.2.1", "192.0.2.2", "192.0.2.9")
    records = [
        ("c.example.", 70, 1, two),
        ("B.example.", 50, 5, wire_name("C.Example.")),
        ("other.example.", 1, 1, stray),
        ("other.example.", 1, 5, wire_name("elsewhere.example.")),
        ("WWW.example.com.", 60, 5, wire_name("b.EXAMPLE.")),
        ("C.EXAMPLE.", 40, 1, one),
    ]
    # By hand: dnspython would compress names of different case into one spelling.
    answer = [record(data, n, owner=wire_name(owner), ttl=ttl) for owner, ttl, n, data in records]
    found = pool_of(raw_reply(A, answer), A)
    assert found.cname_chain == (wire_name("b.EXAMPLE."), wire_name("C.Example."))
    assert found.addresses == packed("192.0.2.2", "192.0.2.1")
    assert found.ttl == 40


@pytest.mark.parametrize("shortest", range(3))
def test_the_ttl_of_a_pool_counts_its_links(shortest: int) -> None:
    """The pool lives as long as the first of its chain and its addresses to go."""
    ttls = [100 - (index == shortest) * 90 for index in range(3)]
    reply = upstream_reply(
        A,
        [
            f"{NAME} {ttls[0]} CNAME b.example.",
            f"b.example. {ttls[1]} A 192.0.2.1",
            f"b.example. {ttls[2]} A 192.0.2.2",
        ],
    )
    assert pool_of(reply, A).ttl == 10


def test_chain_limit() -> None:
    """A chain of `MAX_CNAME_CHAIN` links is followed, one more is refused."""
    assert (
        len(pool_of(upstream_reply(A, cname_chain(MAX_CNAME_CHAIN)), A).cname_chain)
        == MAX_CNAME_CHAIN
    )
    with pytest.raises(WireError):
        pool_of(upstream_reply(A, cname_chain(MAX_CNAME_CHAIN + 1)), A)


@pytest.mark.parametrize(
    "records",
    [
        [f"{NAME} 60 CNAME {NAME}"],
        [f"{NAME} 60 CNAME b.example.", f"b.example. 60 CNAME {NAME}"],
        [
            f"{NAME} 60 CNAME b.example.",
            "b.example. 60 CNAME c.example.",
            "c.example. 60 CNAME B.EXAMPLE.",
        ],
    ],
)
def test_chains_that_loop(records: list[str]) -> None:
    """A chain that leads back to itself is refused, unused addresses beside it or not."""
    for more in ([], ["z.example. 60 A 192.0.2.1"]):
        with pytest.raises(WireError):
            read_the_long_way(upstream_reply(A, records + more), A)


@pytest.mark.parametrize(
    "records",
    [
        [],
        [f"{NAME} 60 CNAME b.example."],
        ["b.example. 60 A 192.0.2.1"],
        [f"{NAME} 60 CNAME b.example.", "c.example. 60 A 192.0.2.1"],
        [f"{NAME} 60 AAAA 2001:db8::1"],
        [f"{NAME} 60 TXT x"],
    ],
)
def test_no_address_at_the_end_of_the_chain(records: list[str]) -> None:
    """What holds no address for the name asked is no pool."""
    assert read_the_long_way(upstream_reply(A, records), A) is None


@pytest.mark.parametrize("size", [4, 6, 16])
@pytest.mark.parametrize("beside", [False, True])
def test_addresses_of_another_class(size: int, beside: bool) -> None:
    """A record of another class is no address of this one, alone or beside a real one."""
    answer = [record(b"x" * size, 1, rdclass=3)]
    if beside:
        answer.append(record(packed("192.0.2.1")[0], 1))
    with contextlib.suppress(WireError):  # to refuse the whole reply is as good
        _, found = judged(raw_reply(A, answer), A)
        assert getattr(found, "addresses", ()) == (packed("192.0.2.1") if beside else ())


def test_an_alias_of_another_class() -> None:
    """A CNAME of another class leads nowhere."""
    alias = record(wire_name("b.example."), 5, rdclass=3)
    target = record(packed("192.0.2.1")[0], 1, owner=wire_name("b.example."))
    with contextlib.suppress(WireError):
        assert judged(raw_reply(A, [alias, target]), A)[0] is Verdict.NEGATIVE


def usual_reply(
    *, authority: Sequence[bytes] = (), additional: Sequence[bytes] = (), flags: int = 0x8180
) -> bytes:
    """Return a reply with one address for the name asked."""
    answer = [record(packed("192.0.2.1")[0], 1)]
    return raw_reply(A, answer, authority, additional, flags=flags)


def test_usual_replies_are_whole() -> None:
    """An address reply is refused when it is cut in its answer; the rest adds nothing to it."""
    glue = [record(packed("192.0.2.2")[0], 1, owner=wire_name("ns.example."))]
    ns = [record(wire_name("ns.example."), 2)]
    for wire in (
        usual_reply(),
        usual_reply(additional=[OPT]),
        usual_reply(authority=ns, additional=[*glue, OPT]),
        usual_reply(authority=ns, additional=[OPT, *glue]),
    ):
        assert pool_of(wire, A).addresses == packed("192.0.2.1")
        start = 12 + len(A.section)
        for size in range(start, start + 16):
            with pytest.raises(WireError):
                judged(wire[:size], A)
        for size in range(start + 16, len(wire)):
            assert pool_of(wire[:size], A).addresses == packed("192.0.2.1")
        assert pool_of(wire + b"\0", A).addresses == packed("192.0.2.1")


def test_opt_in_usual_replies() -> None:
    """An OPT record where none may be is ignored; the codes of one that may are a failure."""
    for wire in (
        usual_reply(additional=[OPT, record(b"", 41, owner=b"\0", ttl=1 << 24)]),
        usual_reply(authority=[record(b"", 41, owner=b"\0", ttl=1 << 24)]),
        usual_reply(additional=[record(b"", 41, owner=b"\1a\0", ttl=1 << 24)]),
    ):
        assert pool_of(wire, A).addresses == packed("192.0.2.1")
    for extended in (1, 0x80, 0xFF):
        opt = record(b"", 41, owner=b"\0", rdclass=1232, ttl=extended << 24)
        assert judged(usual_reply(additional=[opt]), A) == (Verdict.FAILURE, None)
    signed = record(b"\0\x0a\0\2ab", 41, owner=b"\0", rdclass=4096, ttl=0x8000)
    assert pool_of(usual_reply(additional=[signed], flags=0x81A0), A).ad


@pytest.mark.parametrize("qtype", ["A", "AAAA"])
@pytest.mark.parametrize(
    ("change", "stays"),
    [
        pytest.param({}, True, id="usual"),
        pytest.param({"owner": wire_name(NAME)}, True, id="owner written out"),
        pytest.param({"owner": wire_name("WWW.Example.COM.")}, True, id="owner in another case"),
        pytest.param({"ttl": 0}, True, id="TTL 0"),
        pytest.param({"ttl": 0x80000000}, True, id="TTL with the top bit"),
        pytest.param({"owner": wire_name("other.example.")}, False, id="another owner"),
        pytest.param({"rdtype": 16, "data": b"\1x"}, False, id="TXT"),
        pytest.param({"rdtype": 46, "data": bytes(30)}, False, id="RRSIG"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_quick_way_is_the_long_way(
    qtype: str, change: dict[str, Any], stays: bool, place: int
) -> None:
    """Usual replies and those with one unusual record give what the index says they give."""
    asked = ask(rdtype=qtype)
    usual = packed("192.0.2.1", "192.0.2.2", "192.0.2.3")
    if qtype == "AAAA":
        usual = packed("2001:db8::1", "2001:db8::2", "2001:db8::3")
    parts: list[dict[str, Any]] = [
        {"data": data, "rdtype": asked.qtype, "ttl": 300} for data in usual
    ]
    parts[place] |= change
    wire = raw_reply(asked, [record(**part) for part in parts], additional=[OPT])
    quick, long = pool_of(wire, asked), read_the_long_way(wire, asked)
    assert long is not None
    assert (quick.addresses, quick.cname_chain, quick.ttl) == (
        long.addresses,
        long.cname_chain,
        long.ttl,
    )
    assert quick.addresses == (usual if stays else usual[:place] + usual[place + 1 :])
    assert quick.ttl == (0 if "ttl" in change else 300)


def test_a_question_with_the_upstreams_case() -> None:
    """An owner spelled in another case than the question is the same name."""
    owner = wire_name(NAME.upper())
    reply = raw_reply(A, [record(data, 1, owner=owner) for data in packed("192.0.2.1")])
    assert pool_of(reply, A).addresses == packed("192.0.2.1")
    assert owner != POINTER


# The model uses what `having` and `lives` say, which have tests of their own below.


def in_turn(
    held: AddressPool, other: AddressPool, limit: int, *, private: bool, age: int
) -> AddressPool:
    """What `merge` returns, told rule by rule: the model."""
    if held.ttl and not other.ttl:
        return held
    life = other.ttl + age if held.ttl else 0
    found = dict(zip(held.addresses, held.lives, strict=True))
    cname_life = held.cname_life
    if other.ad or not held.ad:
        for address in set(found) & set(other.addresses):
            found[address] = max(found[address], life)
        if held.cname_chain and held.cname_chain == other.cname_chain:
            cname_life = max(cname_life, other.cname_life + age)
    new = [
        address
        for address in other.addresses
        if address not in found and (private or not is_private(address))
    ][: max(0, limit - len(found))]
    found.update(dict.fromkeys(new, life))
    merged = held.having(found, held.ad and (other.ad or not new), cname_life)
    others = [target for target in other.cname_chain if target not in held.chain_targets(b"")]
    if not others or not set(other.addresses) & set(found):
        return merged
    return mixed(merged, (*(held.other_targets if isinstance(held, MixedPool) else ()), *others))


POOLS = st.builds(
    lambda chain, addresses, ttl, ad, cname_life: AddressPool(
        chain, tuple(addresses), ttl, ad, cname_life=cname_life
    ),
    st.sampled_from([(), (b"\1b\0",), (b"\1c\0", b"\1d\0")]),
    st.lists(
        st.sampled_from(packed(*(f"192.0.2.{n}" for n in range(1, 7)), "10.0.0.1", "10.0.0.2")),
        unique=True,
        min_size=1,
        max_size=5,
    ),
    st.sampled_from([0, 1, 30, 60, 60, 90]),
    st.booleans(),
    st.sampled_from([0, 30, 60, 90]),
)


def facts(pool: AddressPool) -> tuple[object, ...]:
    """All that is in a pool."""
    targets = pool.chain_targets(b"")
    return (pool.cname_chain, targets, pool.addresses, lives(pool), pool.ad, pool.cname_life)


@given(POOLS, st.lists(st.tuples(POOLS, st.integers(0, 40))), st.integers(1, 8), st.booleans())
def test_a_growing_pool(
    first: AddressPool, others: list[tuple[AddressPool, int]], limit: int, private: bool
) -> None:
    """Adding answers to a pool that grows, and looking now and then, is merging one by one."""
    growing, seldom = (GrowingPool(first, limit, private=private) for _ in range(2))
    merged = first
    for other, age in others:
        before, merged = merged, in_turn(merged, other, limit, private=private, age=age)
        new = len(merged.addresses) - len(before.addresses)
        assert (growing.add(other, age), seldom.add(other, age)) == (new, new)
        assert growing.changed == (facts(merged) != facts(before))
        found = growing.pool()
        assert facts(found) == facts(merged)
        assert growing.pool() is found
        assert facts(merge(before, other, limit, private=private, age=age)) == facts(merged)
    assert facts(seldom.pool()) == facts(merged)


def test_names_that_others_lead_through() -> None:
    """They stay with the pool whatever is done with it, each once, in lower case."""
    first = pool("192.0.2.1", cname_chain=("b.example.",))
    second = pool("192.0.2.2", ttl=9, cname_chain=("C.example.", "B.example.", "d.example."))
    merged = merge(first, second, 32, private=False)
    names = tuple(map(wire_name, ("b.example.", "c.example.", "d.example.")))
    last, early = merged.addresses[::-1], merged.only([True, False])
    for same in (merged, merged.reordered(last), early, merged.living(20, 1), cap(merged, 1)):
        assert same.chain_targets(b"") == names
        assert same.cname_chain == first.cname_chain
    assert bounded(merged, 30, 40).chain_targets(b"") == names
    assert merged.octets > merge(first, pool("192.0.2.2", ttl=9), 32, private=False).octets + 100
    third = pool("192.0.2.3", cname_chain=("e.example.",))
    assert merge(merged, third, 32, private=False).chain_targets(b"") == (
        *names,
        wire_name("e.example."),
    )


def test_names_of_answers_that_do_not_join() -> None:
    """They say nothing about the addresses that are there."""
    first = pool("192.0.2.1", cname_chain=("b.example.",))
    second = pool("10.0.0.1", cname_chain=("c.example.",))
    assert merge(first, second, 32, private=False) is first


def test_how_many_names_others_may_lead_through() -> None:
    """`MAX_OTHER_TARGETS`; an answer with one more does not join, and the next may."""
    growing = GrowingPool(pool("192.0.2.1"), 300, private=False)
    for number in range(MAX_OTHER_TARGETS):
        other = pool(f"198.18.0.{number}", cname_chain=(f"n{number}.example.",))
        assert growing.add(other, 0) == 1
    assert growing.add(pool("198.18.1.1", cname_chain=("more.example.",)), 0) == 0
    assert growing.add(pool("198.18.1.2", cname_chain=("n0.example.",)), 0) == 1
    assert growing.add(pool("198.18.1.3"), 0) == 1
    assert len(growing.pool().chain_targets(b"")) == MAX_OTHER_TARGETS


def test_merge_appends_what_is_new() -> None:
    """New addresses join behind the pool's own, each once, in the order they came."""
    first = pool("192.0.2.1", "192.0.2.2", cname_chain=("b.example.",))
    second = pool("192.0.2.3", "192.0.2.2", "192.0.2.4", cname_chain=("c.example.", "d.example."))
    merged = merge(first, second, 32, private=False)
    assert merged.addresses == packed("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
    assert merged.cname_chain == first.cname_chain
    assert first.addresses == packed("192.0.2.1", "192.0.2.2"), "a pool never changes"


def lives(pool: AddressPool) -> list[int]:
    """The lives of a pool's addresses, which `ttl` and `least` bound exactly."""
    found = list(pool.lives)
    assert (max(found), min(found)) == (pool.ttl, pool.least)
    assert len(found) == len(pool.addresses)
    return found


@pytest.mark.parametrize(("first", "second"), [(10, 300), (300, 10), (300, 300), (2**31 - 1, 1)])
@pytest.mark.parametrize("age", [0, 3])
def test_a_new_address_has_a_life_of_its_own(first: int, second: int, age: int) -> None:
    """It lives as long as its contributor allowed, from when it came; the others live as before."""
    merged = merge(
        pool("192.0.2.1", ttl=first), pool("192.0.2.2", ttl=second), 32, private=False, age=age
    )
    assert lives(merged) == [first, second + age]


@pytest.mark.parametrize(
    ("ttl", "age", "expected"), [(60, 0, 60), (59, 0, 60), (61, 0, 61), (58, 3, 61), (57, 3, 60)]
)
def test_a_known_address_lives_as_long_as_the_longest_allows(
    ttl: int, age: int, expected: int
) -> None:
    """Who brings a known address lengthens its life or leaves it; other addresses stay theirs."""
    held = pool("192.0.2.1", "192.0.2.2", ttl=60)
    merged = merge(held, pool("192.0.2.2", ttl=ttl), 32, private=False, age=age)
    assert lives(merged) == [60, expected]
    assert merged.addresses == held.addresses
    assert (merged is held) == (expected == 60)


def test_an_answer_that_lengthens_and_adds() -> None:
    """Both at once, and a full pool still takes the longer life."""
    held = merge(
        pool("192.0.2.1", ttl=60), pool("192.0.2.2", "192.0.2.3", ttl=20), 9, private=False
    )
    other = pool("192.0.2.9", "192.0.2.3", "192.0.2.1", ttl=40)
    assert lives(merge(held, other, 9, private=False)) == [60, 20, 40, 40]
    assert lives(merge(held, other, 3, private=False)) == [60, 20, 40]


def test_who_did_not_validate_lengthens_nothing_validated() -> None:
    """An answer without AD leaves the lives in a pool that has it."""
    held = pool("192.0.2.1", ttl=60, ad=True)
    assert merge(held, pool("192.0.2.1", ttl=90), 32, private=False) is held
    assert lives(merge(held, pool("192.0.2.1", ttl=90, ad=True), 32, private=False)) == [90]


@pytest.mark.parametrize(("target", "chain"), [("b.example.", 95), ("z.example.", 60)])
def test_the_life_of_a_chain(target: str, chain: int) -> None:
    """The same chain from another upstream lengthens it as an address is lengthened."""
    held = pool("192.0.2.1", ttl=60, cname_chain=("b.example.",))
    other = pool("192.0.2.1", ttl=90, cname_chain=(target,))
    merged = merge(held, other, 32, private=False, age=5)
    assert (merged.cname_life, lives(merged)) == (chain, [95])


def test_lives_of_a_reply() -> None:
    """The addresses of one reply are one set with one TTL; a chain has its own, and bounds them."""
    for link, address, chain, life in ((40, 300, 40, 40), (300, 40, 300, 40)):
        reply = upstream_reply(
            A, [f"{NAME} {link} CNAME b.example.", f"b.example. {address} A 192.0.2.1"]
        )
        found = pool_of(reply, A)
        assert (found.cname_life, lives(found)) == (chain, [life])


def test_lives_follow_their_addresses() -> None:
    """In another order and in a part of a pool each address keeps its life."""
    held = merge(pool("192.0.2.1", ttl=60), pool("192.0.2.2", ttl=20), 9, private=False)
    held = merge(held, pool("192.0.2.3", ttl=40), 9, private=False)
    turned = held.reordered(packed("192.0.2.3", "192.0.2.1", "192.0.2.2"))
    assert lives(turned) == [40, 60, 20]
    assert lives(cap(turned, 2)) == [40, 60]
    assert held.reordered(held.addresses) is held


@pytest.mark.parametrize(
    ("age", "left"),
    [(0, [60, 20, 40]), (15, [60, 20, 40]), (16, [60, 40]), (35, [60, 40]), (36, [60]),
     (55, [60]), (56, [60]), (59, [60]), (60, [60, 20, 40]), (99, [60, 20, 40])],
)  # fmt: skip
def test_what_lives(age: int, left: list[int]) -> None:
    """Addresses with less than 5 s left are left out while others remain, dead ones always."""
    held = merge(pool("192.0.2.1", ttl=60), pool("192.0.2.2", ttl=20), 9, private=False)
    held = merge(held, pool("192.0.2.3", ttl=40), 9, private=False)
    assert lives(held.living(age, 5)) == left


def test_short_lives() -> None:
    """Where none has 5 s left, all that live are given."""
    held = merge(pool("192.0.2.1", ttl=4), pool("192.0.2.2", ttl=2), 9, private=False)
    assert [lives(held.living(age, 5)) for age in range(4)] == [[4, 2], [4, 2], [4], [4]]


@pytest.mark.parametrize(
    ("seconds", "half"),
    [([9], 9), ([9, 5], 5), ([9, 5, 7], 7), ([9, 5, 7, 8], 7), ([9, 5, 7, 8, 6], 7)],
)
def test_half_life(seconds: list[int], half: int) -> None:
    """The age at which half of the addresses have died, or one more for an odd number."""
    held = pool("192.0.2.0", ttl=seconds[0])
    for number, ttl in enumerate(seconds[1:], 1):
        held = merge(held, pool(f"192.0.2.{number}", ttl=ttl), 9, private=False)
    assert held.half_life == half


def test_bounds_of_lives() -> None:
    """`bounded` raises what is less and cuts what is more, the chain as well."""
    held = merge(
        pool("192.0.2.1", ttl=60, cname_chain=("b.example.",)),
        pool("192.0.2.2", ttl=1),
        9,
        private=False,
    )
    cut = bounded(held, 5, 50)
    assert (lives(cut), cut.cname_life, cut.cname_chain) == ([50, 5], 50, held.cname_chain)
    assert bounded(held, 1, 60) is held
    assert lives(bounded(held, 0, 59)) == [59, 1]
    assert lives(bounded(held, 70, 70)) == [70, 70]


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_merged_ad(first: bool, second: bool) -> None:
    """AD stays only if every contributor had it."""
    one = pool("192.0.2.1", ad=first)
    merged = merge(one, pool("192.0.2.2", ad=second), 32, private=False)
    assert merged.ad == (first and second)
    # An answer without a new address takes nothing away.
    assert merge(one, pool("192.0.2.1", ad=second), 32, private=False).ad == first


def test_merging_nothing_new_changes_nothing() -> None:
    """Known addresses, or only private ones: the pool itself comes back."""
    held = pool("192.0.2.1", "192.0.2.2")
    for other in (pool("192.0.2.2"), pool("10.0.0.1", "127.0.0.1"), pool("192.0.2.2", "10.1.1.1")):
        assert merge(held, other, 32, private=False) is held


def test_private_addresses_of_others_are_kept_out() -> None:
    """The winner's private addresses stay, another's do not join unless they are let."""
    held = pool("10.0.0.1", "192.0.2.1")
    other = pool("10.0.0.2", "192.0.2.2", "127.0.0.1", "0.0.0.0")
    assert merge(held, other, 32, private=False).addresses == packed(
        "10.0.0.1", "192.0.2.1", "192.0.2.2"
    )
    assert merge(held, other, 32, private=True).addresses == packed(
        "10.0.0.1", "192.0.2.1", "10.0.0.2", "192.0.2.2", "127.0.0.1", "0.0.0.0"
    )


@pytest.mark.parametrize(("limit", "size"), [(1, 2), (2, 2), (3, 3), (4, 4), (5, 4)])
def test_merge_limit(limit: int, size: int) -> None:
    """A pool grows to its limit and not beyond; one that is full stays as it is."""
    merged = merge(
        pool("192.0.2.1", "192.0.2.2"), pool("192.0.2.3", "192.0.2.4"), limit, private=False
    )
    assert merged.addresses == packed("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")[:size]


def test_what_may_not_be_kept_does_not_join_what_may() -> None:
    """An answer with TTL 0 leaves a pool that lives as it is; TTL 1 joins."""
    held = pool("192.0.2.1", ttl=300)
    assert merge(held, pool("192.0.2.2", ttl=0), 32, private=False) is held
    assert merge(held, pool("192.0.2.2", ttl=0), 32, private=True, age=299) is held
    joined = merge(held, pool("192.0.2.2", ttl=1), 32, private=False)
    assert joined.addresses == packed("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize("ttl", [0, 300])
def test_what_cannot_be_kept_takes_anything(ttl: int) -> None:
    """What joins an answer with TTL 0 may not be kept either."""
    merged = merge(pool("192.0.2.1", ttl=0), pool("192.0.2.2", ttl=ttl), 32, private=False, age=2)
    assert merged.addresses == packed("192.0.2.1", "192.0.2.2")
    assert lives(merged) == [0, 0]


def test_without_private() -> None:
    """Public addresses stay in their order, with chain, TTL and AD; none left is no pool."""
    mixed = AddressPool(
        (b"\1a\0",), packed("10.0.0.1", "192.0.2.1", "0.0.0.0", "192.0.2.2"), 7, True
    )
    found = without_private(mixed)
    assert isinstance(found, AddressPool)
    assert found.addresses == packed("192.0.2.1", "192.0.2.2")
    assert (found.cname_chain, found.ttl, found.ad) == (mixed.cname_chain, 7, True)
    assert without_private(pool("10.0.0.1", "127.0.0.1")) is None


def test_private_addresses_take_no_room() -> None:
    """What may not join does not count towards the limit."""
    merged = merge(pool("192.0.2.1"), pool("10.0.0.1", "192.0.2.2"), 2, private=False)
    assert merged.addresses == packed("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(("limit", "size"), [(1, 1), (2, 2), (3, 3), (4, 3)])
def test_cap(limit: int, size: int) -> None:
    """A pool is cut from the end, everything else stays."""
    whole = pool("192.0.2.1", "192.0.2.2", "192.0.2.3", ttl=7, ad=True, cname_chain=("b.example.",))
    cut = cap(whole, limit)
    assert cut.addresses == whole.addresses[:size]
    assert (cut.cname_chain, cut.ttl, cut.ad) == (whole.cname_chain, 7, True)


def test_mapped_addresses_do_not_join() -> None:
    """An IPv4-mapped private address in an AAAA reply is kept out like the IPv4 address."""
    held = pool("2001:db8::1")
    other = pool("::ffff:192.168.1.1", "::ffff:203.0.113.1", "fe80::1", "2001:db8::2")
    merged = merge(held, other, 32, private=False)
    assert merged.addresses == packed("2001:db8::1", "::ffff:203.0.113.1", "2001:db8::2")
