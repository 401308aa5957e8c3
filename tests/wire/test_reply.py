"""The index of an upstream's reply: RFC 1035 section 4.1, RFC 3597, RFC 6891."""

from __future__ import annotations

import struct

import pytest

from staggerdns.wire.constants import WireError
from staggerdns.wire.names import MAX_HOPS
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.rewrite import expand_data
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
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

NAMED_DATA = [
    ("NS", "ns.example.com."),
    ("CNAME", "c.example.com."),
    ("PTR", "p.example.com."),
    ("DNAME", "d.example.com."),
    ("SOA", "ns.example.com. host.example.com. 1 2 3 4 5"),
    ("MX", "10 mx.example.com."),
    ("RP", "mail.example.com. text.example.com."),
    ("AFSDB", "1 afs.example.com."),
    ("RT", "1 rt.example.com."),
    ("PX", "1 map822.example.com. mapx400.example.com."),
    ("SRV", "1 2 3 srv.example.com."),
    ("KX", "1 kx.example.com."),
    ("NAPTR", '1 2 "s" "SIP+D2U" "" _sip._udp.example.com.'),
]
"""A record's data for each type whose names we look at."""
OBSOLETE_DATA = [
    pytest.param(number, wire_name("x.example.") * names, id=label)
    for number, names, label in [
        (3, 1, "MD"),
        (4, 1, "MF"),
        (7, 1, "MB"),
        (8, 1, "MG"),
        (9, 1, "MR"),
        (14, 2, "MINFO"),
    ]
]
"""The same for types that dnspython does not know."""
A = ask()
TXT = ask(rdtype="TXT")
NUMBERS = {text: rrsets([f". 0 {text} {data}"])[0].rdtype for text, data in NAMED_DATA}


def refused(*answer: bytes, **more: object) -> None:
    """Check that a reply with this answer section is refused."""
    with pytest.raises(WireError):
        index_reply(raw_reply(TXT, answer, **more), TXT)  # type: ignore[arg-type]


def left_out(**more: object) -> None:
    """Check that of a reply with this section this record alone is left out."""
    reply = index_reply(raw_reply(TXT, [record(b"\1x", 16)], **more), TXT)  # type: ignore[arg-type]
    assert len(reply.records()) == 1
    assert sum(reply.strays.values()) == 1


def pointer_to(place: int) -> bytes:
    """Return a compression pointer."""
    return struct.pack("!H", 0xC000 | place)


def data_of(reply: Reply, indexed: Record) -> bytes:
    """Return a record's data as it stands in the message."""
    return reply.message[indexed.data : indexed.end]


def test_index_of_all_sections() -> None:
    """Each section's records are found with type, class, TTL and data, names compressed or not."""
    asked = ask(rdtype="MX")
    wire = upstream_reply(
        asked,
        [f"{NAME} 300 MX 10 mail.example.com.", f"{NAME} 301 MX 20 mail.example.net."],
        ["example.com. 3600 NS ns1.example.com."],
        ["mail.example.com. 60 A 192.0.2.1", "mail.example.com. 61 AAAA 2001:db8::1"],
        edns=True,
    )
    reply = index_reply(wire, asked)
    seen = [
        [(item.type, item.rclass, item.ttl) for item in section]
        for section in (reply.answers, reply.authority, reply.additional)
    ]
    assert seen == [[(15, 1, 300), (15, 1, 301)], [(2, 1, 3600)], [(1, 1, 60), (28, 1, 61)]]
    assert [expand_data(reply, item, do=False) for item in reply.answers] == [
        wire_data("MX", "10 mail.example.com."),
        wire_data("MX", "20 mail.example.net."),
    ]
    assert expand_data(reply, reply.authority[0], do=False) == wire_data("NS", "ns1.example.com.")
    assert data_of(reply, reply.additional[0]) == wire_data("A", "192.0.2.1")
    assert data_of(reply, reply.additional[1]) == wire_data("AAAA", "2001:db8::1")
    assert reply.opt is not None
    assert reply.rcode == 0
    assert len(reply.records()) == 5


@pytest.mark.parametrize(
    ("ttl", "means"), [(0, 0), (1, 1), (0x7FFFFFFF, 0x7FFFFFFF), (0x80000000, 0), (0xFFFFFFFF, 0)]
)
def test_ttl_range(ttl: int, means: int) -> None:
    """A TTL with the top bit set counts as 0 (RFC 2181 section 8)."""
    reply = index_reply(raw_reply(TXT, [record(b"\1x", 16, ttl=ttl)]), TXT)
    assert reply.answers[0].ttl == means


def test_cut_anywhere() -> None:
    """A reply cut in its answer section is refused; of what comes behind, the rest is missed."""
    asked = ask()
    wire = upstream_reply(
        asked,
        [f"{NAME} 300 CNAME host.example.net.", "host.example.net. 60 A 192.0.2.1"],
        ["example.net. 60 SOA ns.example.net. h.example.net. 1 2 3 4 5"],
        edns=True,
    )
    whole = index_reply(wire, asked)
    assert not whole.strays
    (soa,) = whole.authority
    for size in range(12 + len(asked.section), len(wire)):
        if size < soa.owner:
            with pytest.raises(WireError):
                index_reply(wire[:size], asked)
        else:
            reply = index_reply(wire[:size], asked)
            assert len(reply.answers) == 2
            assert len(reply.authority) == (size >= soa.end)
            assert reply.opt is None
            assert reply.strays == {"cut": 1}


@pytest.mark.parametrize("offset", [6, 8, 10])
@pytest.mark.parametrize("count", [2, 65535])
def test_counts_that_promise_too_much(offset: int, count: int) -> None:
    """A count beyond what is there is refused for answers, and noted for the rest."""
    wire = bytearray(raw_reply(TXT, [record(b"\1x", 16)]))
    struct.pack_into("!H", wire, offset, count)
    if offset == 6:
        with pytest.raises(WireError):
            index_reply(bytes(wire), TXT)
    else:
        reply = index_reply(bytes(wire), TXT)
        assert (len(reply.answers), reply.strays) == (1, {"cut": 1})


@pytest.mark.parametrize("tail", [record(b"\1x", 16), b"\0", bytes(24), OPT])
def test_a_count_that_promises_too_little(tail: bytes) -> None:
    """What no count promises is octets behind the last record."""
    reply = index_reply(raw_reply(TXT, [record(b"\1x", 16)]) + tail, TXT)
    assert (len(reply.answers), reply.opt, reply.strays) == (1, None, {"octets": 1})


@pytest.mark.parametrize("flags", [0x8181, 0x8182, 0x8184, 0x8185])
def test_errors_are_read_leniently(flags: int) -> None:
    """An error is told by its code: nobody is given its records, so nothing in it is refused."""
    wire = bytearray(raw_reply(TXT, [record(b"", 1)], additional=[OPT], flags=flags))
    assert index_reply(bytes(wire), TXT).rcode == flags & 0xF
    struct.pack_into("!H", wire, 6, 3)
    assert index_reply(bytes(wire), TXT).rcode == flags & 0xF


def test_data_over_the_end() -> None:
    """A record whose length leads over the end of the message is refused."""
    wire = bytearray(raw_reply(TXT, [record(b"", 65280)]))
    struct.pack_into("!H", wire, len(wire) - 2, 1)
    with pytest.raises(WireError):
        index_reply(bytes(wire), TXT)


@pytest.mark.parametrize("extended", [0, 1, 0x7F, 0x80, 0xFF])
def test_extended_codes(extended: int) -> None:
    """The OPT record's eight bits go on top of the header's four, all of them."""
    opt = record(b"", 41, owner=b"\0", rdclass=1232, ttl=extended << 24)
    reply = index_reply(raw_reply(TXT, additional=[opt], flags=0x8183), TXT)
    assert reply.rcode == extended << 4 | 3


@pytest.mark.parametrize("position", range(3))
def test_opt_need_not_be_last(position: int) -> None:
    """OPT is taken out of the additional section wherever it stands there."""
    additional = [record(bytes(4), 1), record(bytes(16), 28)]
    additional.insert(position, OPT)
    reply = index_reply(raw_reply(TXT, additional=additional), TXT)
    assert [item.type for item in reply.additional] == [1, 28]
    assert reply.opt is not None


def test_opt_where_none_may_be() -> None:
    """A second OPT record, one outside the additional section, one with a name: left out."""
    text = record(b"\1x", 16)
    bad = record(b"", 41, owner=b"\0", rdclass=512, ttl=1 << 24)
    for reply, good in (
        (raw_reply(TXT, [bad, text]), 0),
        (raw_reply(TXT, [text], authority=[bad]), 0),
        (raw_reply(TXT, [text], additional=[OPT, bad]), 1),
        (raw_reply(TXT, [text], additional=[record(b"", 41, owner=b"\1a\0")]), 0),
        (raw_reply(TXT, [text], additional=[record(b"", 41, owner=POINTER), OPT]), 1),
    ):
        found = index_reply(reply, TXT)
        assert (len(found.records()), found.rcode) == (1, 0)
        assert (found.opt is not None) == good
        assert found.strays == {"opt": 1}


@pytest.mark.parametrize(("rdtype", "size"), [(1, 4), (28, 16)])
def test_address_sizes(rdtype: int, size: int) -> None:
    """An A record has 4 octets, an AAAA record 16; another is refused, or left out."""
    index_reply(raw_reply(TXT, [record(bytes(size), rdtype)]), TXT)
    for wrong in (0, size - 1, size + 1):
        broken = [record(bytes(wrong), rdtype)]
        refused(*broken)
        left_out(authority=broken)
        left_out(additional=broken)


@pytest.mark.parametrize("data", [b"", b"\0", b"\1x", b"\1x\0", b"\xff" + b"x" * 255])
def test_txt(data: bytes) -> None:
    """The strings of a TXT record fill its data."""
    reply = index_reply(raw_reply(TXT, [record(data, 16)]), TXT)
    assert data_of(reply, reply.answers[0]) == data


@pytest.mark.parametrize("data", [b"\1", b"\2x", b"\1x\1", b"\xff" + b"x" * 254])
def test_broken_txt(data: bytes) -> None:
    """A string that leads over the data's end is refused."""
    refused(record(data, 16))
    refused(record(data, 16), record(b"\1x" * 200, 16))


@pytest.mark.parametrize(("rdtype", "text"), NAMED_DATA)
def test_names_in_data(rdtype: str, text: str) -> None:
    """Data with names is accepted when the names fill it, and not one octet more or less."""
    check_named_data(NUMBERS[rdtype], wire_data(rdtype, text))


@pytest.mark.parametrize(("number", "data"), OBSOLETE_DATA)
def test_names_in_the_data_of_obsolete_types(number: int, data: bytes) -> None:
    """The same for the other types of RFC 1035 that hold names."""
    check_named_data(number, data)


def check_named_data(number: int, data: bytes) -> None:
    """Check the data of one type that holds names."""
    index_reply(raw_reply(TXT, [record(data, number)]), TXT)
    follower = record(b"\1x", 16)  # so that a name does not run over the message's end
    refused(record(data + b"\0", number), follower)
    refused(record(data[:-1], number), follower)
    refused(record(b"", number), follower)


@pytest.mark.parametrize(("rdtype", "text"), NAMED_DATA)
def test_compressed_names_in_data(rdtype: str, text: str) -> None:
    """Compressed names in data are expanded to what dnspython wrote without compression."""
    owner = "example.com."
    asked = ask(owner, rdtype)
    wire = upstream_reply(asked, [f"{owner} 60 {rdtype} {text}"])
    reply = index_reply(wire, asked)
    assert expand_data(reply, reply.answers[0], do=False) == wire_data(rdtype, text)


@pytest.mark.parametrize(("before", "number"), [(b"", 5), (b"\0\x0a", 15), (bytes(6), 33)])
def test_pointers_in_data(before: bytes, number: int) -> None:
    """A name in data may point backwards, and neither to itself nor forwards."""
    start = 12 + len(TXT.section) + 12 + len(before)
    for target, fine in ((12, True), (start, False), (start + 2, False), (0x3FFF, False)):
        broken = record(before + struct.pack("!H", 0xC000 | target), number)
        if fine:
            index_reply(raw_reply(TXT, [broken]), TXT)
        else:
            refused(broken, record(b"\0", 16))


@pytest.mark.parametrize("target", range(12))
@pytest.mark.parametrize("number", [5, 65280])
def test_pointers_into_the_header(target: int, number: int) -> None:
    """No name may lead into the header: ours has another ID, other flags and other counts."""
    pointer = struct.pack("!H", 0xC000 | target)
    if number == 5:
        refused(record(pointer, number))
    else:
        refused(record(b"x", number, owner=pointer))


def test_pointers_to_other_places() -> None:
    """A pointer may lead to any earlier octets that are a name, as others have it. No client gets
    it so: TTLs change, and records move.
    """
    asked = ask(rdtype="MX")
    first = 12 + len(asked.section)
    opaque = record(b"xx" + wire_name("mail.example."), 65280)
    for place, target in ((first + 14, "mail.example."), (first + 6, "."), (first + 7, ".")):
        pointer = struct.pack("!H", 0xC000 | place)
        wire = raw_reply(asked, [opaque, record(b"\0\1" + pointer, 15)])
        answer = replied(scanned(rdtype="MX"), sections_answer(wire, asked), ttl=0x01010101)
        assert texts(answer.answer) == [f"{NAME} 16843009 MX 1 {target}"]


def test_pointers_into_a_ttl() -> None:
    """A name in a TTL means what it meant when it came, though that is another one now."""
    asked = ask(rdtype="MX")
    ttl = 12 + len(asked.section) + 6
    names = [record(b"\0\1" + wire_name("m."), 15), record(b"\0\2" + pointer_to(ttl), 15)]
    answer = replied(
        scanned(rdtype="MX"), sections_answer(raw_reply(asked, names), asked), ttl=0x01010101
    )
    assert [text.split(None, 3)[3] for text in texts(answer.answer)] == ["1 m.", "2 ."]


@pytest.mark.parametrize("place", [11, 0, 200, -1])
def test_pointers_to_no_name(place: int) -> None:
    """Nothing is a name that is none, ends in the header, behind, or in the middle of itself."""
    start = 12 + len(TXT.section)
    opaque = record(b"\x3fxx\x40\xc0\xff", 65280)
    if place < 0:
        place = start + len(opaque) - 6
    refused(opaque, record(struct.pack("!H", 0xC000 | place), 5))


@pytest.mark.parametrize(("hops", "legal"), [(MAX_HOPS, True), (MAX_HOPS + 1, False)])
def test_pointers_through_opaque_data(hops: int, legal: bool) -> None:
    """What is only pointed to is followed as far as any name, and not once per record."""
    data = b"\0" + b"".join(
        struct.pack("!H", 0xC000 | 12 + len(TXT.section) + 12 + max(0, 2 * n - 1))
        for n in range(hops)
    )
    opaque = record(data[:-2], 65280)
    owner = data[-2:]
    if legal:
        assert (
            len(index_reply(raw_reply(TXT, [opaque, record(b"\1x", 16, owner=owner)]), TXT).answers)
            == 2
        )
    else:
        refused(opaque, record(b"\1x", 16, owner=owner))


@pytest.mark.parametrize("number", [10, 29, 46, 47, 64, 65, 99, 257, 65280, 65535])
def test_other_types_are_opaque(number: int) -> None:
    """What looks like a pointer or a bad label in other types is just data (RFC 3597)."""
    asked = ask(rdtype=f"TYPE{number}")
    for data in (b"", b"\xc0", b"\xc0\xff\x40\x80" * 10, bytes(1000)):
        reply = index_reply(raw_reply(asked, [record(data, number)]), asked)
        assert data_of(reply, reply.answers[0]) == data
        assert expand_data(reply, reply.answers[0], do=True) == data


@pytest.mark.parametrize(("extra", "legal"), [(0, True), (1, False)])
def test_name_limit_counts_what_pointers_add(extra: int, legal: bool) -> None:
    """A name that has 255 octets once written out is fine, one of 256 is refused."""
    asked = ask(".".join(["a" * 63] * 3 + ["b" * 59]) + ".", "TXT")
    assert len(asked.name) == 253
    owner = bytes((1 + extra,)) + b"x" * (1 + extra) + POINTER
    wire = raw_reply(asked, [record(b"\1x", 16, owner=owner)])
    if legal:
        assert len(index_reply(wire, asked).answers) == 1
    else:
        with pytest.raises(WireError):
            index_reply(wire, asked)


@pytest.mark.parametrize(("hops", "legal"), [(MAX_HOPS, True), (MAX_HOPS + 1, False)])
def test_owners_that_point_to_owners(hops: int, legal: bool) -> None:
    """Each owner may point to the one before, as often as a name's reader follows."""
    start = 12 + len(TXT.section)
    records = [record(b"\1x", 16)]
    for number in range(hops - 1):
        owner = struct.pack("!H", 0xC000 | start + number * len(records[0]))
        records.append(record(b"\1x", 16, owner=owner))
    if legal:
        assert len(index_reply(raw_reply(TXT, records), TXT).answers) == hops
    else:
        refused(*records)


def test_a_pointer_to_compressed_data() -> None:
    """An owner may point to an alias's target that is nothing but a pointer itself."""
    parent = struct.pack("!H", 0xC000 | 12 + 4)  # example.com of www.example.com
    alias = record(parent, 5)
    target = struct.pack("!H", 0xC000 | 12 + len(A.section) + 12)
    address = record(b"\xc0\x00\x02\x01", 1, owner=target)
    found = pool_of(raw_reply(A, [alias, address]), A)
    assert found.cname_chain == (wire_name("example.com."),)
    assert found.addresses == (b"\xc0\x00\x02\x01",)


def test_an_error_without_a_question() -> None:
    """A reply without its question, as some servers refuse, is indexed all the same."""
    wire = struct.pack("!6H", 1, 0x8185, 0, 0, 0, 1) + OPT
    reply = index_reply(wire, TXT)
    assert reply.rcode == 5
    assert reply.opt is not None


def test_owners() -> None:
    """An owner is any legal name; an illegal one is refused, or ends what is read."""
    index_reply(raw_reply(TXT, [record(b"\1x", 16, owner=wire_name("other.example."))]), TXT)
    for owner in (b"\xc0\xff", b"\x40\0", b"\x3f" + b"x" * 10):
        refused(record(b"\1x", 16, owner=owner))
        left_out(authority=[record(b"\1x", 16, owner=owner)])
        left_out(additional=[record(b"\1x", 16, owner=owner)])


SIGNED = struct.pack("!HBBIIIH", 1, 8, 3, 300, 2_000_000_000, 1_900_000_000, 4711)
COMPRESSED = {
    "SIG": (24, SIGNED, b"signature"),
    "RRSIG": (46, SIGNED, b"signature"),
    "NXT": (30, b"", b"\x40\0\0\x08"),
    "NSEC": (47, b"", b"\0\1\x40"),
    "SVCB": (64, b"\0\1", b"\0\1\0\3\2h2"),
    "HTTPS": (65, b"\0\1", b"\0\1\0\3\2h2"),
    "NAPTR": (35, b"\0\1\0\1\1s\7SIP+D2U\0", b""),
    "SRV": (33, bytes(6), b""),
    "RP": (17, b"", b"\0"),
    "AFSDB": (18, b"\0\1", b""),
    "RT": (21, b"\0\1", b""),
    "PX": (26, b"\0\1", b"\0"),
    "KX": (36, b"\0\1", b""),
    "DNAME": (39, b"", b""),
}
"""Types in which nobody may compress names, and old servers do: what stands around the name."""


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("rdtype", COMPRESSED)
def test_what_old_servers_compress(rdtype: str, do: bool) -> None:
    """Names are written out for the client, wherever their pointers lead."""
    number, before, behind = COMPRESSED[rdtype]
    asked = ask(rdtype=rdtype, do=do)
    alias = record(wire_name("carrier.example.net."), 5)
    target = 12 + len(asked.section) + 12
    owner = struct.pack("!H", 0xC000 | target)
    for pointer, name in (
        (owner, "carrier.example.net."),
        (b"\4_sip" + struct.pack("!H", 0xC000 | target + 8), "_sip.example.net."),
        (b"\1x" + POINTER, "x." + NAME),
        (b"\xc0\x10", "example.com."),
        (b"\xc0\x1c", "."),
    ):
        wire = raw_reply(asked, [alias, record(before + pointer + behind, number, owner=owner)])
        answer = sections_answer(wire, asked)
        data = before + wire_name(name) + behind
        assert answer.body.endswith(struct.pack("!H", len(data)) + data)
        shown = replied(scanned(rdtype=rdtype, do=do), answer)
        assert shown.answer[-1].name.to_text() == "carrier.example.net."


@pytest.mark.parametrize("rdtype", ["SIG", "RRSIG", "NXT", "NSEC", "SVCB", "HTTPS"])
@pytest.mark.parametrize("data", [b"", b"\0", b"\xc0", b"\xc0\xff", b"\0\1" + bytes(16) + b"\x3fa"])
def test_what_is_no_name_is_opaque(rdtype: str, data: bytes) -> None:
    """Where no legal name stands in the data of these types they are passed on as they came."""
    number = COMPRESSED[rdtype][0]
    asked = ask(rdtype=rdtype, do=True)
    assert sections_answer(raw_reply(asked, [record(data, number)]), asked).body == record(
        data, number
    )
