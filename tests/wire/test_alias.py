"""CNAMEs of our own in front of answers of all kinds."""

from __future__ import annotations

import struct

import dns.message
import dns.name
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.settings.records import MAX_CNAMES
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.alias import Alias
from staggerdns.wire.answer import (
    Answer,
    FailureAnswer,
    LocalNegativeAnswer,
    RecordAnswer,
)
from staggerdns.wire.constants import Rcode
from staggerdns.wire.query import parse_query
from staggerdns.wire.render import render
from staggerdns.wire.scrub import MAX_CNAME_CHAIN
from tests.kit.clients import parse
from tests.kit.messages import (
    ask,
    longest_name,
    replied,
    scanned,
    sections_answer,
    texts,
    upstream_reply,
    wire_data,
    wire_name,
)

OLD, TARGET = "Old.Example.", "www.new.example."
CNAME_CHAIN = (wire_name("middle.example."), wire_name(TARGET))
FRONT = [f"{OLD} 30 CNAME middle.example.", f"middle.example. 30 CNAME {TARGET}"]
SOA = "new.example. 900 SOA ns.new.example. host.new.example. 1 2 3 4 60"
SIGNATURE = "8 3 60 20300101000000 20200101000000 7 new.example. c2lnbmF0dXJl"


def shown(
    answer: Answer, rdtype: str = "A", *, do: bool = False, limit: int = 65535
) -> dns.message.Message:
    """The reply to a question about the old name, when that is the answer for the new one."""
    key = ask(TARGET, rdtype, do=do).key
    joined = Alias(CNAME_CHAIN, 60).joined(answer, key)
    query = scanned(OLD, rdtype, do=do, payload=1232)
    return replied(query, joined, ttl=30, limit=limit)


def sections(rdtype: str, answer: list[str], *, do: bool = False, **more: object) -> Answer:
    """What an upstream says of the new name."""
    asked = ask(TARGET, rdtype, do=do)
    return sections_answer(upstream_reply(asked, answer, **more), asked)  # type: ignore[arg-type]


def test_a_pool() -> None:
    """Addresses stand behind all CNAMEs, those of upstreams included."""
    pool = AddressPool((wire_name("cdn.example."),), (b"\xc0\0\2\1", b"\xc0\0\2\2"), 300, True)
    reply = shown(pool)
    assert texts(reply.answer) == [
        *FRONT,
        f"{TARGET} 30 CNAME cdn.example.",
        "cdn.example. 30 A 192.0.2.1",
        "cdn.example. 30 A 192.0.2.2",
    ]


def test_what_nobody_validated() -> None:
    """AD goes with the CNAMEs, and the shortest time counts."""
    for answer in (
        AddressPool((), (b"\xc0\0\2\1",), 300, True),
        sections("MX", [f"{TARGET} 300 MX 1 mail.new.example."], ad=True),
    ):
        assert answer.ad
        joined = Alias(CNAME_CHAIN, 60).joined(answer, ask(TARGET, "MX").key)
        assert (joined.ad, joined.ttl, joined.negative) == (False, 60, False)
        assert Alias(CNAME_CHAIN, 900).joined(answer, ask(TARGET).key).ttl == 300


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(
    ("rdtype", "data"),
    [
        ("MX", [f"10 mail.{TARGET}", "20 mail.elsewhere.example.", "30 ."]),
        ("TXT", ['"a text" "and another"', '""']),
        ("SRV", [f"1 2 443 {TARGET}", "1 2 80 a.new.example."]),
        ("HTTPS", ["1 . alpn=h2 ipv4hint=192.0.2.1", f"2 x.{TARGET}"]),
        ("NS", ["ns.new.example.", "ns.middle.example."]),
        ("TYPE65280", [r"\# 4 c00cc00c"]),
        ("NAPTR", [f'1 2 "u" "sip" "" {TARGET}']),
    ],
)
def test_records_of_any_type(rdtype: str, data: list[str], do: bool) -> None:
    """All of it is there, with the names that it had, additional records and signatures too."""
    answer = [f"{TARGET} 300 {rdtype} {one}" for one in data]
    signed = [f"{TARGET} 300 RRSIG {rdtype} {SIGNATURE}"] if do and rdtype != "TYPE65280" else []
    extra = [f"mail.{TARGET} 300 A 192.0.2.9"] if rdtype == "MX" else []
    reply = shown(sections(rdtype, answer + signed, do=do, additional=extra), rdtype, do=do)
    given_records = texts(reply.answer)
    assert given_records[:2] == FRONT
    expected = [
        one.replace(" 300 ", " 30 ", 1)
        for one in texts(
            dns.message.from_wire(upstream_reply(ask(TARGET, rdtype), answer + signed)).answer
        )
    ]
    assert sorted(given_records[2:]) == sorted(expected)
    assert texts(reply.additional) == [one.replace(" 300 ", " 30 ") for one in extra]


@pytest.mark.parametrize("rcode", [0, 3])
def test_a_denial(rcode: int) -> None:
    """NXDOMAIN and NODATA are about the last name, and have its SOA."""
    answer = sections("AAAA", [], authority=[SOA], rcode=rcode)
    reply = shown(answer, "AAAA")
    assert reply.rcode() == rcode
    assert texts(reply.answer) == FRONT
    assert texts(reply.authority) == [SOA.replace(" 900 ", " 30 ")]


def test_answers_of_our_own() -> None:
    """They point into the question, which is another one here."""
    denial = LocalNegativeAnswer(Rcode.NXDOMAIN, len(wire_name("example.")), 600)
    reply = shown(denial)
    assert reply.rcode() == 3
    assert texts(reply.answer) == FRONT
    (soa,) = texts(reply.authority)
    assert soa.startswith("example. 30 SOA example. nobody.invalid. ")
    text = RecordAnswer(16, 1, b"\2hi", 600)
    assert texts(shown(text, "TXT").answer) == [*FRONT, f'{TARGET} 600 TXT "hi"']


def test_a_failure() -> None:
    """SERVFAIL has no records."""
    reply = shown(FailureAnswer(22, 1, "timeout"))
    assert (reply.rcode(), reply.answer) == (2, [])


def test_what_does_not_fit() -> None:
    """A pool loses addresses, other answers are cut whole, with TC."""
    pool = AddressPool((), tuple(bytes((192, 0, 2, number)) for number in range(100)), 300, False)
    reply = shown(pool, limit=512)
    assert not reply.flags & dns.flags.TC
    assert 10 < len(texts(reply.answer)) < 102
    data = " ".join(['"' + "x" * 200 + '"'] * 3)
    answer = sections("TXT", [f"{TARGET} 300 TXT {data}"])
    assert shown(answer, "TXT", limit=1232).answer
    for limit in (512, 640):  # the second has room for the records, but not for the CNAMEs
        reply = shown(answer, "TXT", limit=limit)
        assert reply.flags & dns.flags.TC
        assert not reply.answer


@pytest.mark.parametrize("rdtype", ["A", "MX"])
def test_the_longest_names(rdtype: str) -> None:
    """Behind as many CNAMEs as there may be, ours and upstreams', all pointers are right."""
    ours, theirs = (longest_name(),) * MAX_CNAMES, (longest_name(),) * MAX_CNAME_CHAIN
    answer: Answer = AddressPool(theirs, (b"\xc0\0\2\1",), 300, ad=False)
    if rdtype == "MX":
        answer = sections("MX", [f"{TARGET} 300 MX 1 mail.{TARGET}"])
        ours = (*ours[1:], wire_name(TARGET))
    query = parse_query(query_for(longest_name(), dns.rdatatype.from_text(rdtype)))
    joined = Alias(ours, 60).joined(answer, ask(TARGET, rdtype).key)
    reply = parse(render(query, joined, 30, 65535))
    last = texts(reply.answer)[-1]
    if rdtype == "MX":
        assert last == f"{TARGET} 30 MX 1 mail.{TARGET}"
    else:
        assert last == f"{dns.name.from_wire(longest_name(), 0)[0]} 30 A 192.0.2.1"


@given(st.lists(st.sampled_from(["a", "b.new.example.", TARGET, ".", "x.y.z."]), max_size=6))
def test_any_names(names: list[str]) -> None:
    """Whatever names there are in it, dnspython reads what the upstream said."""
    answer = [f"{TARGET} 300 MX {number} {one.rstrip('.')}." for number, one in enumerate(names)]
    if not answer:
        return
    reply = shown(sections("MX", answer), "MX")
    assert sorted(texts(reply.answer)[2:]) == sorted(one.replace(" 300 ", " 30 ") for one in answer)


def query_for(name: bytes, rdtype: int) -> bytes:
    """A query for a name in wire form."""
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + name + struct.pack("!2H", rdtype, 1)


def test_wire_names_of_the_test() -> None:
    """The examples are what they look like."""
    assert wire_data("CNAME", TARGET) == CNAME_CHAIN[1]
