"""Addresses in another order: of a pool, and of an answer that is kept whole."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer, RecordAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
    pool_of,
    raw_reply,
    record,
    replied,
    scanned,
    sections_answer,
    texts,
    upstream_reply,
    wire_name,
)

A, AAAA = ask(do=True), ask(rdtype="AAAA", do=True)
SIGNATURE = "A 8 3 300 20300101000000 20200101000000 4711 example.com. c2lnbmF0dXJl"


def packed(*addresses: str) -> tuple[bytes, ...]:
    """Addresses in wire form."""
    return tuple(ip_address(text).packed for text in addresses)


def shown(addresses: Iterable[bytes]) -> list[str]:
    """Addresses as text."""
    return [str(ip_address(address)) for address in addresses]


def signed(*addresses: str) -> SectionsAnswer:
    """A signed answer with authority, glue and OPT."""
    return sections_answer(
        upstream_reply(
            A,
            [*(f"{NAME} 300 A {one}" for one in addresses), f"{NAME} 300 RRSIG {SIGNATURE}"],
            ["example.com. 900 NS ns.example.com."],
            ["ns.example.com. 900 A 192.0.2.53"],
            edns=True,
        ),
        A,
    )


def test_pool() -> None:
    """A pool's addresses come in the new order; chain, TTL and AD stay."""
    cname_chain = tuple(map(wire_name, ("b.example.", "c.example.")))
    pool = AddressPool(cname_chain, packed("192.0.2.1", "192.0.2.2", "192.0.2.3"), 77, True)
    other = pool.reordered(packed("192.0.2.3", "192.0.2.1", "192.0.2.2"))
    assert (other.cname_chain, other.ttl, other.ad, other.rcode) == (cname_chain, 77, True, 0)
    assert texts(replied(scanned(), other).answer) == [
        f"{NAME} 60 CNAME b.example.",
        "b.example. 60 CNAME c.example.",
        "c.example. 60 A 192.0.2.3",
        "c.example. 60 A 192.0.2.1",
        "c.example. 60 A 192.0.2.2",
    ]
    assert shown(pool.addresses) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]


def test_pool_cut_to_size() -> None:
    """A pool too big for the reply loses its last, so its farthest, addresses."""
    numbers = [f"192.0.2.{number}" for number in range(1, 101)]
    pool = AddressPool((), packed(*numbers), 60, False).reordered(packed(*reversed(numbers)))
    found = [text.split()[-1] for text in texts(replied(scanned(), pool, limit=512).answer)]
    assert found == numbers[::-1][: len(found)]
    assert 20 < len(found) < 100


def test_whole() -> None:
    """The records of the set change places, everything else is what it was."""
    answer = signed("192.0.2.1", "192.0.2.2", "192.0.2.3")
    assert shown(answer.addresses) == ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    other = answer.reordered(packed("192.0.2.3", "192.0.2.2", "192.0.2.1"))
    assert shown(other.addresses) == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
    reply = replied(scanned(do=True), other)
    assert texts(reply.answer) == [
        f"{NAME} 60 A 192.0.2.3",
        f"{NAME} 60 A 192.0.2.2",
        f"{NAME} 60 A 192.0.2.1",
        f"{NAME} 60 RRSIG {SIGNATURE}",
    ]
    assert texts(reply.authority) == ["example.com. 60 NS ns.example.com."]
    assert texts(reply.additional) == ["ns.example.com. 60 A 192.0.2.53"]


def test_whole_to_the_byte() -> None:
    """Outside of the addresses not a byte is changed; the answer given is left as it was."""
    answer = signed("192.0.2.1", "192.0.2.2")
    body = answer.body
    other = answer.reordered(packed("192.0.2.2", "192.0.2.1"))
    assert answer.body == body
    assert shown(answer.addresses) == ["192.0.2.1", "192.0.2.2"]
    first, second = packed("192.0.2.1", "192.0.2.2")
    assert other.body == body.replace(first, b"****").replace(second, first).replace(
        b"****", second
    )
    assert (other.counts, other.ttl_offsets, other.address_offsets) == (
        answer.counts,
        answer.ttl_offsets,
        answer.address_offsets,
    )
    assert (other.rcode, other.ad, other.ttl, other.negative) == (0, False, 300, False)


def test_whole_again() -> None:
    """An answer can be put in another order again and again, and back."""
    answer = signed("192.0.2.1", "192.0.2.2", "192.0.2.3")
    there = answer.reordered(packed("192.0.2.2", "192.0.2.3", "192.0.2.1"))
    back = there.reordered(answer.addresses)
    assert back.body == answer.body


@given(st.permutations([f"2001:db8::{number}" for number in range(1, 6)]))
def test_whole_in_any_order(wanted: list[str]) -> None:
    """Any order of an AAAA set is rendered as it is, and the set stays the same."""
    given_ = [f"2001:db8::{number}" for number in range(1, 6)]
    answer = sections_answer(
        upstream_reply(AAAA, [f"{NAME} 300 AAAA {one}" for one in given_]), AAAA
    )
    reply = replied(scanned(NAME, "AAAA", do=True), answer.reordered(packed(*wanted)))
    assert [text.split()[-1] for text in texts(reply.answer)] == wanted


def test_behind_a_chain() -> None:
    """The addresses at the end of a chain are the answer's, the links and their signatures stay."""
    answer = sections_answer(
        upstream_reply(
            A,
            [
                f"{NAME} 300 CNAME b.example.",
                "b.example. 300 A 192.0.2.1",
                "b.example. 300 A 192.0.2.2",
            ],
        ),
        A,
    )
    reply = replied(scanned(do=True), answer.reordered(packed("192.0.2.2", "192.0.2.1")))
    assert texts(reply.answer) == [
        f"{NAME} 60 CNAME b.example.",
        "b.example. 60 A 192.0.2.2",
        "b.example. 60 A 192.0.2.1",
    ]


def test_signatures_between_addresses() -> None:
    """Records that lie between the addresses stay where they are."""
    rrsig = record(b"\0\1\x08\3" + b"\0" * 14 + b"\0sig", 46)
    one, two = packed("192.0.2.1", "192.0.2.2")
    answer = sections_answer(raw_reply(A, [record(one, 1), rrsig, record(two, 1)]), A)
    other = answer.reordered((two, one))
    assert other.body == b"".join([record(two, 1), rrsig, record(one, 1)])


@pytest.mark.parametrize(
    ("answer", "authority", "additional"),
    [
        (["192.0.2.1", "192.0.2.1", "192.0.2.2"], [], []),  # no set
        ([], ["192.0.2.1", "192.0.2.2"], []),
        ([], [], ["192.0.2.1", "192.0.2.2"]),
    ],
)
def test_what_is_no_set_of_addresses(
    answer: list[str], authority: list[str], additional: list[str]
) -> None:
    """Duplicates, and addresses in other sections, are not for us to order."""
    sections = [
        [record(one, 1) for one in packed(*section)] for section in (answer, authority, additional)
    ]
    if not answer:
        sections[0] = [record(b"\3abc", 16)]
    found = sections_answer(raw_reply(ask(rdtype="A" if answer else "TXT", do=True), *sections),
                     ask(rdtype="A" if answer else "TXT", do=True))  # fmt: skip
    assert found.addresses == ()


def test_two_owners() -> None:
    """Addresses of another name are no part of the set."""
    one, two, three = packed("192.0.2.1", "192.0.2.2", "192.0.2.3")
    stranger = record(two, 1, owner=wire_name("other.example."))
    records = [record(one, 1), stranger, record(three, 1)]
    answer = sections_answer(raw_reply(A, records), A)
    assert answer.addresses == (one, three)
    other = answer.reordered((three, one))
    assert other.body == record(three, 1) + record(one, 1)


def test_one_owner_in_two_spellings() -> None:
    """Case and compression make no other owner."""
    one, two = packed("192.0.2.1", "192.0.2.2")
    records = [record(one, 1, owner=POINTER), record(two, 1, owner=wire_name(NAME.upper()))]
    assert sections_answer(raw_reply(A, records), A).addresses == (one, two)


def test_the_other_family() -> None:
    """Only addresses of the type that was asked for are the answer's."""
    one, six = packed("192.0.2.1", "2001:db8::1")
    assert sections_answer(raw_reply(A, [record(one, 1), record(six, 28)]), A).addresses == (one,)


def test_an_opt_in_the_middle() -> None:
    """An answer that has to be written anew is ordered like any other."""
    one, two = packed("192.0.2.1", "192.0.2.2")
    six = record(packed("2001:db8::1")[0], 28)
    answer = sections_answer(raw_reply(A, [record(one, 1), record(two, 1)], [], [OPT, six]), A)
    assert answer.addresses == (one, two)
    reply = replied(scanned(do=True), answer.reordered((two, one)))
    assert texts(reply.answer) == [f"{NAME} 60 A 192.0.2.2", f"{NAME} 60 A 192.0.2.1"]
    assert texts(reply.additional) == [f"{NAME} 60 AAAA 2001:db8::1"]


def test_negatives_and_failures_have_no_addresses() -> None:
    """There is nothing to order where there is no address."""
    nodata = sections_answer(upstream_reply(A, [], ["example.com. 300 SOA a. b. 1 2 3 4 5"]), A)
    assert nodata.addresses == ()
    assert FailureAnswer(Ede.OTHER, 0).addresses == ()
    assert RecordAnswer(1, 1, b"\x7f\0\0\1", 60).addresses == ()


def test_the_first_of_a_pool_is_the_first_of_the_reply() -> None:
    """What an upstream gave first is first until somebody ranks."""
    pool = pool_of(upstream_reply(ask(), [f"{NAME} 60 A 192.0.2.{n}" for n in (9, 1, 5)]), ask())
    assert shown(pool.addresses) == ["192.0.2.9", "192.0.2.1", "192.0.2.5"]
