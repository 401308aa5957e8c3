"""Replies to clients, byte by byte: RFC 1035, RFC 2181, RFC 6840, RFC 6891, RFC 8914."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer, RecordAnswer
from staggerdns.wire.constants import Rcode
from staggerdns.wire.query import Rejected, parse_query
from staggerdns.wire.render import render, render_error
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.clients import addresses, parse
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
    client_query,
    pool_of,
    raw_reply,
    record,
    replied,
    rrsets,
    scanned,
    sections_answer,
    texts,
    upstream_reply,
    wire_data,
    wire_name,
)

EDE = 15


def numbered(count: int, width: int = 4) -> tuple[bytes, ...]:
    """Return this many different addresses of 4 or 16 octets."""
    first = ip_address("198.18.0.0" if width == 4 else "2001:db8::")
    return tuple((first + number).packed for number in range(count))


def pool(
    count: int = 1, *, width: int = 4, cname_chain: tuple[str, ...] = (), ad: bool = False
) -> AddressPool:
    """Return a pool of this many addresses."""
    return AddressPool(tuple(map(wire_name, cname_chain)), numbered(count, width), 300, ad)


def answer_with(
    rdtype: str = "TXT", *data: str, do: bool = False, ad: bool = False
) -> SectionsAnswer:
    """Return the answer of one upstream with these records."""
    asked = ask(rdtype=rdtype, do=do)
    return sections_answer(
        upstream_reply(asked, [f"{NAME} 300 {rdtype} {one}" for one in data], ad=ad), asked
    )


def options(message: dns.message.Message) -> list[dns.edns.Option]:
    """Return the EDNS options of a reply."""
    return list(message.options)


ANSWERS = [
    pytest.param("A", pool(), id="pool"),
    pytest.param("TXT", answer_with("TXT", "x"), id="whole"),
    pytest.param("A", FailureAnswer(22, 1), id="failed"),
    pytest.param("A", RecordAnswer(13, 1, b"\7RFC8482\0", 60), id="local"),
]


@pytest.mark.parametrize(("rdtype", "answer"), ANSWERS)
@pytest.mark.parametrize("payload", [None, 1232])
@pytest.mark.parametrize("rd", [False, True])
@pytest.mark.parametrize("cd", [False, True])
def test_header(rdtype: str, answer: Answer, payload: int | None, rd: bool, cd: bool) -> None:
    """ID, RD, CD and question come back, QR and RA are set, OPT exactly when one came."""
    query = scanned("wWw.eXample.com.", rdtype, id=0xFEDC, rd=rd, cd=cd, payload=payload)
    reply = replied(query, answer)
    assert reply.id == 0xFEDC
    expected = dns.flags.QR | dns.flags.RA
    expected |= (dns.flags.RD if rd else 0) | (dns.flags.CD if cd else 0)
    assert reply.flags & 0xFFF0 == expected
    assert str(reply.question[0].name) == "wWw.eXample.com."
    assert dns.message.from_wire(query.message).is_response(reply)
    assert reply.edns == (-1 if payload is None else 0)
    if payload is not None:
        assert (reply.payload, reply.ednsflags, reply.options) == (1232, 0, ())


def test_flags_that_are_never_copied() -> None:
    """AA, TC and the reserved bit of a query do not come back; nor do AA and TC of an upstream."""
    wire = bytearray(client_query())
    wire[2] |= 0x06
    wire[3] |= 0xC0
    reply = replied(parse_query(bytes(wire)), pool())
    assert reply.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    asked = ask(rdtype="TXT")
    authoritative = sections_answer(raw_reply(asked, [record(b"\1x", 16)], flags=0x8580), asked)
    assert replied(scanned(rdtype="TXT"), authoritative).flags == reply.flags


@pytest.mark.parametrize("do", [False, True])
def test_do_is_copied(do: bool) -> None:
    """The OPT record of a reply has the DO bit of the query (RFC 3225 section 3)."""
    reply = replied(scanned(rdtype="TXT", do=do, payload=1232), answer_with("TXT", "x"))
    assert reply.ednsflags == (0x8000 if do else 0)


@pytest.mark.parametrize("validated", [False, True])
@pytest.mark.parametrize("ad", [False, True])
@pytest.mark.parametrize("do", [False, True])
def test_ad_is_for_those_who_asked(validated: bool, ad: bool, do: bool) -> None:
    """AD needs an upstream that validated and a client that set AD or DO (RFC 6840 section 5.8)."""
    expected = validated and (ad or do)
    for rdtype, answer in (
        ("A", pool(ad=validated)),
        ("TXT", answer_with("TXT", "x", ad=validated)),
    ):
        reply = replied(scanned(rdtype=rdtype, ad=ad, do=do), answer)
        assert bool(reply.flags & dns.flags.AD) == expected


@pytest.mark.parametrize("count", [1, 2, 28])
@pytest.mark.parametrize(("rdtype", "width"), [("A", 4), ("AAAA", 16)])
def test_pool(rdtype: str, width: int, count: int) -> None:
    """A pool is one RRset with the question's name, in the pool's order."""
    reply = replied(scanned(rdtype=rdtype), pool(count, width=width), ttl=77)
    expected = [f"{NAME} 77 {rdtype} {ip_address(address)}" for address in numbered(count, width)]
    assert texts(reply.answer) == expected
    assert len(reply.answer) == 1
    assert not reply.authority
    assert not reply.additional


@pytest.mark.parametrize("payload", [None, 1232])
def test_pool_behind_a_chain(payload: int | None) -> None:
    """Links come in order with the case they had, every owner is the target before it."""
    cname_chain = ("b.Example.NET.", "c.example.", "d.example.")
    reply = replied(
        scanned("WWW.example.com.", payload=payload), pool(2, cname_chain=cname_chain), ttl=5
    )
    assert texts(reply.answer) == [
        "WWW.example.com. 5 CNAME b.Example.NET.",
        "b.Example.NET. 5 CNAME c.example.",
        "c.example. 5 CNAME d.example.",
        "d.example. 5 A 198.18.0.0",
        "d.example. 5 A 198.18.0.1",
    ]


def test_a_chain_through_the_root() -> None:
    """A CNAME to the root is as good as any other."""
    reply = replied(scanned("."), pool(1, cname_chain=("x.", ".")))
    assert texts(reply.answer) == [". 60 CNAME x.", "x. 60 CNAME .", ". 60 A 198.18.0.0"]


@pytest.mark.parametrize(("rdtype", "width"), [("A", 4), ("AAAA", 16)])
@pytest.mark.parametrize("payload", [None, 512, 513, 600, 1231, 1232])
@pytest.mark.parametrize("cname_chain", [(), ("other.example.net.",)])
def test_a_pool_that_is_too_big(
    rdtype: str, width: int, payload: int | None, cname_chain: tuple[str, ...]
) -> None:
    """Addresses are cut from the end, as few as need be, and TC stays clear."""
    query = scanned(rdtype=rdtype, payload=payload)
    big = pool(200, width=width, cname_chain=cname_chain)
    reply = replied(query, big, limit=query.payload)
    assert not reply.flags & dns.flags.TC
    kept = addresses(reply)
    assert kept == [str(ip_address(address)) for address in numbered(len(kept), width)]
    # By hand: header, question, chain and OPT, then 12 octets and the address for each.
    chain = sum(12 + len(wire_name(link)) for link in cname_chain)
    fixed = 12 + len(wire_name(NAME)) + 4 + chain + (0 if payload is None else 11)
    assert len(kept) == (query.payload - fixed) // (12 + width)
    assert len(kept) < 200
    everything = replied(query, big)
    assert len(addresses(everything)) == 200


def test_the_edge_of_the_room() -> None:
    """With room for exactly n addresses n are given; with one byte less, n - 1."""
    query = scanned()
    fixed = len(query.message)
    for count in (1, 2, 5):
        room = fixed + 16 * count
        assert len(addresses(replied(query, pool(9), limit=room))) == count
        smaller = replied(query, pool(9), limit=room - 1)
        assert len(addresses(smaller)) == count - 1
        assert bool(smaller.flags & dns.flags.TC) == (count == 1)


def test_a_chain_that_leaves_no_room() -> None:
    """A chain that leaves no room for one address cannot be cut: TC, and no records."""
    cname_chain = tuple(f"{letter * 60}.{letter * 60}.{letter * 60}.example." for letter in "abc")
    query = scanned(payload=512)
    reply = replied(query, pool(3, cname_chain=cname_chain), limit=512)
    assert reply.flags & dns.flags.TC
    assert not reply.answer
    assert reply.edns == 0
    assert len(replied(query, pool(3, cname_chain=cname_chain)).answer) == 4


@pytest.mark.parametrize("edns", [False, True])
def test_the_rest_is_truncated_whole(edns: bool) -> None:
    """What is no pool is given whole or, one byte over the limit, as an empty reply with TC."""
    query = scanned(rdtype="TXT", payload=1232 if edns else None)
    answer = answer_with("TXT", '"' + "x" * 200 + '"', '"' + "y" * 200 + '"')
    size = len(render(query, answer, 60, 65535))
    fits = replied(query, answer, limit=size)
    assert len(texts(fits.answer)) == 2
    assert not fits.flags & dns.flags.TC
    cut = replied(query, answer, limit=size - 1)
    assert cut.flags & dns.flags.TC
    assert not (cut.answer)
    assert not (cut.authority)
    assert not (cut.additional)
    assert cut.edns == (0 if edns else -1)
    assert cut.rcode() == 0


def test_truncated_negatives_keep_their_code() -> None:
    """A NXDOMAIN that does not fit is still NXDOMAIN."""
    asked = ask()
    soa = "example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 60"
    answer = sections_answer(upstream_reply(asked, authority=[soa], rcode=3), asked)
    reply = replied(scanned(), answer, limit=len(client_query()))
    assert reply.flags & dns.flags.TC
    assert reply.rcode() == 3


@pytest.mark.parametrize("ttl", [0, 1, 60, 604800, 0x7FFFFFFF])
def test_ttls_are_patched_byte_by_byte(ttl: int) -> None:
    """Every record gets the TTL; with the TTLs it came with, every byte of the sections is back."""
    asked = ask(rdtype="MX")
    wire = upstream_reply(
        asked,
        [f"{NAME} 300 MX 10 mail.example.com.", f"{NAME} 300 MX 20 mail.example.net."],
        ["example.com. 3600 NS ns1.example.com."],
        ["mail.example.com. 60 A 192.0.2.1", "mail.example.com. 61 AAAA 2001:db8::1"],
    )
    reply = render(scanned(rdtype="MX"), sections_answer(wire, asked), ttl, 65535)
    message = dns.message.from_wire(wire)
    expected = bytearray(wire)
    position = 12 + len(asked.section)
    for section in (message.answer, message.authority, message.additional):
        for rrset in section:
            for _ in rrset:
                # By hand: owner, type and class stand in front of the TTL.
                while expected[position]:
                    if expected[position] >= 0xC0:
                        position += 1
                        break
                    position += expected[position] + 1
                position += 5
                expected[position : position + 4] = ttl.to_bytes(4, "big")
                length = int.from_bytes(expected[position + 4 : position + 6], "big")
                position += 6 + length
    assert position == len(wire)
    assert reply[12:] == expected[12:]
    for section in (parse(reply).answer, parse(reply).authority, parse(reply).additional):
        assert {rrset.ttl for rrset in section} == {ttl}


@pytest.mark.parametrize(("rdtype", "width"), [("A", 4), ("AAAA", 16)])
def test_signed_addresses_in_another_order(rdtype: str, width: int) -> None:
    """A signed answer keeps every record and its signature when its addresses are reordered."""
    asked = ask(rdtype=rdtype, do=True)
    one, two, three = (str(ip_address(address)) for address in numbered(3, width))
    signature = f"{rdtype} 8 3 300 20300101000000 20200101000000 1 example.net. c2ln"
    wire = upstream_reply(
        asked,
        [f"{NAME} 300 CNAME b.example.net."]
        + [f"b.example.net. 300 {rdtype} {address}" for address in (one, two, three)]
        + [f"b.example.net. 300 RRSIG {signature}"],
        additional=[f"b.example.net. 300 A {ip_address('192.0.2.1')}"],
        edns=True,
    )
    answer = sections_answer(wire, asked)
    assert answer.addresses == numbered(3, width)
    query = scanned(rdtype=rdtype, do=True)
    before = texts(replied(query, answer).answer)
    other = answer.reordered(tuple(reversed(numbered(3, width))))
    reply = replied(query, other)
    assert addresses(reply)[:3] == [three, two, one]
    assert sorted(texts(reply.answer)) == sorted(before)
    assert texts(reply.additional) == ["b.example.net. 60 A 192.0.2.1"]
    assert other.addresses == tuple(reversed(numbered(3, width)))
    assert (other.ttl, other.ad, other.rcode, other.negative) == (300, False, 0, False)
    assert texts(replied(query, answer).answer) == before, "the answer itself stays as it was"


@pytest.mark.parametrize(
    "records",
    [
        [f"{NAME} 60 CNAME b.example."],
        [f"{NAME} 60 AAAA 2001:db8::1"],
        [f"{NAME} 60 A 192.0.2.1", f"{NAME} 60 A 192.0.2.1"],
    ],
)
def test_addresses_that_are_no_choice(records: list[str]) -> None:
    """Addresses that are twice the same, or none, are not for a client to choose from.

    Nor are those of a NXDOMAIN, which has no business with any.
    """
    asked = ask(do=True)
    soa = "example.com. 60 SOA a.example.com. b.example.com. 1 2 3 4 60"
    assert sections_answer(upstream_reply(asked, records, [soa]), asked).addresses == ()
    nxdomain = upstream_reply(asked, [f"{NAME} 60 A 192.0.2.1"], rcode=3)
    assert sections_answer(nxdomain, asked).addresses == ()


def test_other_types_have_no_addresses() -> None:
    """An MX answer with addresses in its additional section has nothing to be reordered."""
    asked = ask(rdtype="MX")
    wire = upstream_reply(
        asked, [f"{NAME} 60 MX 1 m.example."], additional=["m.example. 60 A 192.0.2.1"]
    )
    assert sections_answer(wire, asked).addresses == ()


def test_rendering_twice() -> None:
    """A reply leaves its answer as it was."""
    answer = answer_with("TXT", "x")
    query = scanned(rdtype="TXT")
    first = render(query, answer, 60, 65535)
    assert render(query, answer, 7, 65535) != first
    assert render(query, answer, 60, 65535) == first


@pytest.mark.parametrize(
    ("rdtype", "data"),
    [
        ("HTTPS", "1 . alpn=h2,h3 ipv4hint=192.0.2.1 key65280=x"),
        ("MX", "10 mail.example.net."),
        ("TXT", r'"a\000b" "" "\255"'),
        ("SRV", "1 2 443 srv.example.net."),
        ("CAA", '0 issue "ca.example"'),
        ("NAPTR", '1 2 "u" "E2U+sip" "!^.*$!sip:x@example.com!" .'),
        ("DNSKEY", "256 3 13 AAAA"),
        ("TYPE65280", r"\# 8 c00cc0ff40800001"),
        ("TYPE65280", r"\# 0"),
    ],
)
@pytest.mark.parametrize("do", [False, True])
def test_data_is_untouched(rdtype: str, data: str, do: bool) -> None:
    """The data of any type, known to us or not, is given as the upstream gave it."""
    reply = replied(scanned(rdtype=rdtype, do=do), answer_with(rdtype, data, do=do), ttl=60)
    assert reply.answer == rrsets([f"{NAME} 60 {rdtype} {data}"])
    assert reply.answer[0].ttl == 60
    assert reply.answer[0][0].to_wire() == wire_data(rdtype, data)


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("edns", [False, True])
def test_the_upstreams_opt_is_not_passed_on(position: int, edns: bool) -> None:
    """OPT is per hop: the upstream's goes, wherever it stood, and the records around it stay."""
    asked = ask(rdtype="MX")
    target = wire_name("mail.example.com.")
    mx = record(b"\0\x0a" + target, 15)
    mail = (0xC000 | 12 + len(asked.section) + 14).to_bytes(2, "big")
    additional = [
        record(ip_address("192.0.2.1").packed, 1, owner=mail),
        record(ip_address("2001:db8::1").packed, 28, owner=mail),
    ]
    opt = record(b"\0\x0a\0\x08COOKIE!!", 41, owner=b"\0", rdclass=4096, ttl=0x8000)
    additional.insert(position, opt)
    answer = sections_answer(raw_reply(asked, [mx], additional=additional), asked)
    reply = replied(scanned(rdtype="MX", payload=1232 if edns else None), answer)
    assert texts(reply.answer) == [f"{NAME} 60 MX 10 mail.example.com."]
    assert texts(reply.additional) == [
        "mail.example.com. 60 A 192.0.2.1",
        "mail.example.com. 60 AAAA 2001:db8::1",
    ]
    assert reply.edns == (0 if edns else -1)
    assert reply.options == ()
    assert reply.ednsflags == 0


@pytest.mark.parametrize(
    ("rdtype", "data"),
    [
        ("NS", "ns.example.com."),
        ("SOA", "ns.example.com. host.example.com. 1 2 3 4 5"),
        ("MX", "10 mx.example.com."),
        ("SRV", "1 2 3 srv.example.com."),
        ("RP", "mail.example.com. text.example.com."),
        ("TXT", '"x"'),
        ("TYPE65280", r"\# 2 c00c"),
    ],
)
def test_records_behind_opt_keep_their_names(rdtype: str, data: str) -> None:
    """Records that move up because OPT stood before them still mean the same."""
    asked = ask(rdtype=rdtype)
    expected = [f"{NAME} 60 {rdtype} {data}", f"{NAME} 60 A 192.0.2.1"]
    wire = bytearray(upstream_reply(asked, expected[:1], additional=expected[1:]))
    # The last record, an address with a pointer for owner, is 16 octets long.
    wire[-16:-16] = record(b"", 41, owner=b"\0", rdclass=1232, ttl=0)
    wire[11] = 2
    reply = replied(scanned(rdtype=rdtype), sections_answer(bytes(wire), asked))
    assert texts(reply.answer) + texts(reply.additional) == texts(rrsets(expected))


@pytest.mark.parametrize("code", [0, 3, 14, 18, 22, 23])
def test_extended_errors(code: int) -> None:
    """An EDE goes to those who sent OPT, alone in their OPT record; others get none."""
    failed = FailureAnswer(code, 1)
    reply = replied(scanned(payload=1232), failed, ede=code)
    assert reply.rcode() == dns.rcode.SERVFAIL
    (option,) = options(reply)
    assert isinstance(option, dns.edns.EDEOption)
    assert (option.code, option.text) == (code, None)
    plain = replied(scanned(), failed, ede=code)
    assert plain.edns == -1
    assert plain.rcode() == dns.rcode.SERVFAIL


def test_extended_errors_beside_records() -> None:
    """A stale answer carries its EDE and leaves room for it."""
    query = scanned(payload=512)
    reply = replied(query, pool(100), limit=512, ede=3)
    assert [int(option.otype) for option in options(reply)] == [EDE]
    fixed = 12 + len(wire_name(NAME)) + 4 + 11 + 6
    assert len(addresses(reply)) == (512 - fixed) // 16


@pytest.mark.parametrize("rcode", [Rcode.FORMERR, Rcode.NOTIMP, Rcode.REFUSED, Rcode.SERVFAIL])
@pytest.mark.parametrize("payload", [None, 1232])
def test_errors(rcode: Rcode, payload: int | None) -> None:
    """An error reply has the question and no records; OPT and EDE as in any reply."""
    query = scanned("wWw.example.", id=7, cd=True, payload=payload)
    reply = parse(render_error(query, rcode, 18))
    assert (reply.id, reply.rcode()) == (7, int(rcode))
    assert reply.flags & 0xFFF0 == dns.flags.QR | dns.flags.RD | dns.flags.RA | dns.flags.CD
    assert str(reply.question[0].name) == "wWw.example."
    assert not (reply.answer)
    assert not (reply.authority)
    assert not (reply.additional)
    assert reply.edns == (-1 if payload is None else 0)
    assert len(options(reply)) == (payload is not None)


def rejected(wire: bytes) -> dns.message.Message:
    """Return the reply to a query that is refused for its form."""
    with pytest.raises(Rejected) as caught:
        parse_query(wire)
    return parse(render_error(caught.value.query, caught.value.rcode))


def test_badvers() -> None:
    """BADVERS is code 16: its upper bits are in our OPT record, whose version is 0."""
    message = dns.message.make_query(NAME, "A", use_edns=1, want_dnssec=True)
    reply = rejected(message.to_wire())
    assert reply.rcode() == dns.rcode.BADVERS
    assert reply.edns == 0
    assert reply.ednsflags & 0x8000
    assert message.is_response(reply)


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 15])
def test_notimp(opcode: int) -> None:
    """The opcode is copied into a NOTIMP, and nothing of a body that we did not read."""
    wire = bytearray(client_query(id=99))
    wire[2] |= opcode << 3
    reply = rejected(bytes(wire))
    assert (reply.id, reply.rcode()) == (99, dns.rcode.NOTIMP)
    assert reply.flags & 0x7800 == opcode << 11
    assert not reply.question


def test_formerr() -> None:
    """A FORMERR has the question if that could be read, and no question otherwise."""
    wire = client_query(payload=1232)
    for size, questions in ((12, 0), (len(wire) - 12, 0), (len(wire) - 11, 1), (len(wire) - 1, 1)):
        reply = rejected(wire[:size])
        assert reply.rcode() == dns.rcode.FORMERR
        assert len(reply.question) == questions
        assert reply.id == 0x1234


@pytest.mark.parametrize(
    ("records", "edns"),
    [([], False), ([OPT], True), ([record(b"x", 65280), OPT], True), ([OPT[:-1]], False)],
)
@pytest.mark.parametrize("opcode", [0, 4])
@pytest.mark.parametrize("questions", [0, 1, 2])
def test_refusals_have_opt_when_the_query_had(
    records: list[bytes], edns: bool, opcode: int, questions: int
) -> None:
    """Even a query that is refused for its header gets OPT for OPT, if one is to be found."""
    section = wire_name(NAME) + b"\0\1\0\1"
    # An answer that no query may have, so that each of these is refused.
    body = section * questions + record(bytes(4), 1, owner=b"\0") + b"".join(records)
    wire = struct.pack("!6H", 5, opcode << 11, questions, 1, 0, len(records)) + body
    reply = rejected(wire)
    assert reply.id == 5
    assert reply.rcode() == (dns.rcode.NOTIMP if opcode else dns.rcode.FORMERR)
    assert reply.edns == (0 if edns else -1)


@pytest.mark.parametrize("opt", [record(b"", 41, owner=b"\1a\0"), record(b"", 42, owner=b"\0")])
def test_what_is_no_opt(opt: bytes) -> None:
    """A refusal has no OPT for a record that is none, nor for one among the answers."""
    assert rejected(struct.pack("!6H", 5, 0, 0, 0, 0, 1) + opt).edns == -1
    assert rejected(struct.pack("!6H", 5, 0, 0, 1, 0, 0) + OPT).edns == -1


def test_pools_from_the_wire() -> None:
    """An upstream's chain and addresses reach the client as dnspython would put them."""
    asked = ask()
    records = [
        f"{NAME} 300 CNAME b.example.net.",
        "b.example.net. 300 CNAME c.example.net.",
        "c.example.net. 300 A 192.0.2.1",
    ]
    reply = replied(scanned(), pool_of(upstream_reply(asked, records), asked), ttl=300)
    assert texts(reply.answer) == records


@pytest.mark.parametrize(
    ("rdtype", "number", "before"), [("SRV", 33, b"\0\1\0\2\0\x35"), ("DNAME", 39, b"")]
)
@pytest.mark.parametrize(
    ("pointer", "target"), [(POINTER, NAME), (b"\xc0\x1c", "."), (b"\1a\xc0\x1c", "a.")]
)
def test_data_that_nobody_may_compress(
    rdtype: str, number: int, before: bytes, pointer: bytes, target: str
) -> None:
    """A name compressed where newer types forbid it is written out: clients may not expect it."""
    asked = ask(NAME, rdtype)
    assert asked.section[0x1C - 12] == 0, "the root behind the name asked for"
    answer = sections_answer(raw_reply(asked, [record(before + pointer, number)]), asked)
    assert answer.body.endswith(before + wire_name(target))
    message = replied(scanned(NAME, rdtype), answer)
    assert message.answer[0][0].target.to_text() == target
