"""The scan of a client's message: RFC 1035 section 4.1, RFC 6891 section 6."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.opcode
import pytest

from staggerdns.wire.constants import Rcode
from staggerdns.wire.query import Query, Rejected, Unanswerable, parse_query
from staggerdns.wire.question import make_question
from tests.kit.messages import NAME, OPT, client_query, longest_name, record, scanned, wire_name

A_IN = b"\0\1\0\1"


def raw_query(
    section: bytes,
    tail: bytes = b"",
    *,
    flags: int = 0x0100,
    counts: tuple[int, ...] = (1, 0, 0, 0),
) -> bytes:
    """Return a query put together octet by octet."""
    return struct.pack("!6H", 0x1234, flags, *counts) + section + tail


def with_additional(*records: bytes) -> bytes:
    """Return a query with these additional records."""
    return raw_query(wire_name(NAME) + A_IN, b"".join(records), counts=(1, 0, 0, len(records)))


def opt(*, payload: int = 1232, ttl: int = 0, data: bytes = b"", owner: bytes = b"\0") -> bytes:
    """Return an OPT record; ``ttl`` holds extended code, version and flags."""
    return record(data, 41, owner=owner, rdclass=payload, ttl=ttl)


def rejection(message: bytes) -> tuple[Rcode, Query]:
    """Return the code that a message is refused with, and what is known of it."""
    with pytest.raises(Rejected) as caught:
        parse_query(message)
    return caught.value.rcode, caught.value.query


@pytest.mark.parametrize("name", [".", "com.", "localhost.", "1.0.0.127.in-addr.arpa.", NAME])
@pytest.mark.parametrize(
    ("rdtype", "number"), [("A", 1), ("PTR", 12), ("HTTPS", 65), ("CAA", 257), ("TYPE65280", 65280)]
)
def test_facts_of_a_query(name: str, rdtype: str, number: int) -> None:
    """Any name and any type is a question; without OPT a reply may have 512 bytes."""
    wire = client_query(name, rdtype)
    query = parse_query(wire)
    assert (query.qtype, query.qclass) == (number, 1)
    assert query.question_end == len(wire)
    assert query.key == wire_name(name) + struct.pack("!HH", number, 1) + bytes(3)
    assert (query.edns, query.do, query.payload, query.plain) == (False, False, 512, True)


@pytest.mark.parametrize(
    ("offered", "taken"),
    [
        (0, 512),
        (511, 512),
        (512, 512),
        (513, 513),
        (1231, 1231),
        (1232, 1232),
        (4096, 4096),
        (65535, 65535),
    ],
)
def test_payload_limits(offered: int, taken: int) -> None:
    """The size of a reply is what the client offers, but 512 bytes at least."""
    assert scanned(payload=offered).payload == taken


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("cd", [False, True])
def test_do_and_cd_are_part_of_the_key(do: bool, cd: bool) -> None:
    """Equal questions share a key exactly when DO and CD are equal."""
    query = scanned(do=do, cd=cd, payload=1232)
    assert query.do == do
    keys = {
        scanned(do=other_do, cd=other_cd, payload=1232).key: (other_do, other_cd)
        for other_do in (False, True)
        for other_cd in (False, True)
    }
    assert len(keys) == 4
    assert keys[query.key] == (do, cd)
    asked = query.question()
    assert (asked.do, asked.cd) == (do, cd)


def test_rd_and_ad_are_not_part_of_the_key() -> None:
    """How much a client wants to know about the answer does not change the question."""
    assert scanned(rd=False).key == scanned(ad=True).key == scanned().key


def test_the_key_folds_the_name_only() -> None:
    """Case is folded in the name; type 65 (0x41, HTTPS) stays apart from type 97 (0x61)."""
    assert scanned("WWW.eXample.COM.").key == scanned("www.example.com.").key
    assert scanned(rdtype="TYPE65").key != scanned(rdtype="TYPE97").key
    assert scanned(rdtype="HTTPS").question().qtype == 65
    name = wire_name(NAME)
    keys = {
        make_question(name, rdtype, rdclass).key
        for rdtype in (0x4141, 0x6161)
        for rdclass in (0x4141, 0x6161)
    }
    assert len(keys) == 4


def test_the_case_of_the_message_is_kept() -> None:
    """The query keeps the bytes as they came: the reply needs them (0x20 clients)."""
    wire = client_query("wWw.EXAMPLE.com.")
    assert parse_query(wire).message == wire


@pytest.mark.parametrize("size", range(12))
def test_too_short_for_a_reply(size: int) -> None:
    """Fewer bytes than a header get no reply."""
    with pytest.raises(Unanswerable):
        parse_query(client_query()[:size])


@pytest.mark.parametrize("opcode", [0, 1, 4, 5, 15])
def test_responses_get_no_reply(opcode: int) -> None:
    """QR=1 is never answered, whatever else it says: two servers could talk for ever."""
    wire = bytearray(client_query())
    wire[2] |= 0x80 | opcode << 3
    with pytest.raises(Unanswerable):
        parse_query(bytes(wire))


@pytest.mark.parametrize("opcode", range(1, 16))
def test_other_opcodes(opcode: int) -> None:
    """Every opcode but QUERY is NOTIMP."""
    wire = bytearray(client_query())
    wire[2] |= opcode << 3
    assert rejection(bytes(wire))[0] is Rcode.NOTIMP


@pytest.mark.parametrize(
    "counts", [(0, 0, 0, 0), (2, 0, 0, 0), (256, 0, 0, 0), (1, 1, 0, 0), (1, 0, 1, 0)]
)
def test_section_counts(counts: tuple[int, ...]) -> None:
    """A query has one question and neither answer nor authority."""
    section = wire_name(NAME) + A_IN
    extra = record(bytes(4), 1) if counts[1] or counts[2] else b""
    message = raw_query(section * min(counts[0], 2), extra, counts=counts)
    rcode, query = rejection(message)
    assert rcode is Rcode.FORMERR
    assert query.question_end == 12


def test_a_header_alone() -> None:
    """Twelve bytes that promise a question are answered FORMERR."""
    assert rejection(client_query()[:12])[0] is Rcode.FORMERR


def test_cut_anywhere() -> None:
    """A query cut behind its header is FORMERR at every length, and so is one byte more."""
    wire = client_query(
        payload=1232, options=[dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"cookie!!")]
    )
    parse_query(wire)
    for size in range(12, len(wire)):
        assert rejection(wire[:size])[0] is Rcode.FORMERR, size
    assert rejection(wire + b"\0")[0] is Rcode.FORMERR
    plain = client_query()
    assert rejection(plain + b"\0")[0] is Rcode.FORMERR


def test_a_legible_question_is_known_to_the_refusal() -> None:
    """What is wrong behind the question leaves the question to be copied into the reply."""
    wire = client_query()
    assert rejection(wire + b"junk")[1].question_end == len(wire)
    assert rejection(wire[:-1])[1].question_end == 12


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(b"\xc0\x0c", id="pointer to itself"),
        pytest.param(b"\xc0\x04", id="pointer to a zero in the header"),
        pytest.param(b"\1a\xc0\x04", id="label and pointer"),
        pytest.param(b"\x40" + b"a" * 64 + b"\0", id="64-octet label"),
        pytest.param(b"\x80\0", id="label type 10"),
        pytest.param(longest_name(1), id="256 octets"),
    ],
)
def test_illegal_names(name: bytes) -> None:
    """A question's name has no pointers and keeps the limits of RFC 1035."""
    assert rejection(raw_query(name + A_IN))[0] is Rcode.FORMERR


def test_longest_legal_names() -> None:
    """A label of 63 octets and a name of 255 are fine."""
    name = longest_name()
    assert name[0] == 63
    assert parse_query(raw_query(name + A_IN)).question().name == name


def test_opt_need_not_be_last() -> None:
    """OPT may stand anywhere in the additional section (RFC 6891 section 6.1.1)."""
    other = record(b"\xc0\xff?", 65280)
    for records in ([opt(ttl=0x8000), other], [other, opt(ttl=0x8000)], [other, OPT, other]):
        query = parse_query(with_additional(*records))
        assert query.edns
        assert query.do == (OPT not in records)
        assert not query.plain


def test_other_additional_records_alone() -> None:
    """Additional records that are not OPT are passed over: no EDNS then."""
    query = parse_query(with_additional(record(b"\xc0\xff?", 65280)))
    assert not query.edns
    assert query.payload == 512


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([OPT, OPT], id="two OPT"),
        pytest.param([OPT, record(b"", 65280), OPT], id="two OPT apart"),
        pytest.param([opt(owner=b"\1a\0")], id="owner not the root"),
        pytest.param([opt(owner=b"\xc0\x0c")], id="owner a pointer"),
        pytest.param([opt(data=b"\0")], id="option cut in its code"),
        pytest.param([opt(data=b"\0\x0a\0")], id="option cut in its length"),
        pytest.param([opt(data=b"\0\x0a\0\5abcd")], id="option longer than the record"),
        pytest.param([opt(data=b"\0\x0a\0\4abcd\0")], id="a byte behind the options"),
        pytest.param(
            [opt(data=b"\0\x0a\0\5abcd"), record(b"xyz", 65280)], id="option over the end"
        ),
        pytest.param([opt(ttl=0x010000), OPT], id="two OPT, one of version 1"),
        pytest.param([record(b"", 65280, owner=b"\x40")], id="reserved label type"),
    ],
)
def test_broken_additional_sections(records: list[bytes]) -> None:
    """What RFC 6891 forbids is FORMERR, with the question copied."""
    rcode, query = rejection(with_additional(*records))
    assert rcode is Rcode.FORMERR
    assert query.question_end == 12 + len(wire_name(NAME)) + 4


def test_counts_that_promise_too_much_or_too_little() -> None:
    """The additional section is as long as its count says."""
    message = with_additional(OPT)
    for count in (0, 2, 65535):
        assert rejection(message[:10] + struct.pack("!H", count) + message[12:])[0] is Rcode.FORMERR


@pytest.mark.parametrize("version", [1, 2, 255])
def test_unknown_edns_versions(version: int) -> None:
    """An EDNS version other than 0 is BADVERS, and the client's OPT is noted."""
    rcode, query = rejection(with_additional(opt(ttl=version << 16)))
    assert rcode is Rcode.BADVERS
    assert query.edns


def test_unknown_options_and_flags_are_ignored() -> None:
    """Options, the other EDNS flags and the extended code of a query mean nothing to us."""
    query = parse_query(with_additional(opt(ttl=0xFF007FFF, data=b"\xff\xfe\0\3abc\0\x0b\0\0")))
    assert query.edns
    assert not query.do


def test_plain_says_what_may_be_answered_by_bytes() -> None:
    """A bare OPT keeps a query plain; options and other records, which vary, do not."""
    assert scanned(payload=1232).plain
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    assert not scanned(payload=1232, options=[cookie]).plain
    assert not parse_query(with_additional(record(b"", 65280))).plain


def test_flags_that_say_nothing_in_a_query() -> None:
    """AA, TC, RA and the reserved bit of a query are no reason to refuse it."""
    for bit in (dns.flags.AA, dns.flags.TC, dns.flags.RA, 0x0040):
        message = raw_query(wire_name(NAME) + A_IN, flags=0x0100 | bit)
        assert parse_query(message).qtype == 1


def test_what_upstreams_are_asked() -> None:
    """An upstream gets the question in lower case with RD and AD; DO and CD are as asked."""
    for do in (False, True):
        for cd in (False, True):
            asked = scanned("WWW.Example.COM.", "HTTPS", do=do, cd=cd, payload=4096).question()
            sent = dns.message.from_wire(b"\xab\xcd" + asked.client_query())
            assert sent.id == 0xABCD
            assert sent.opcode() == dns.opcode.QUERY
            expected = dns.flags.RD | dns.flags.AD | (dns.flags.CD if cd else 0)
            assert sent.flags == expected
            assert [str(rrset) for rrset in sent.question] == ["www.example.com. IN HTTPS"]
            assert (sent.edns, sent.payload, sent.options) == (0, 1232, ())
            assert sent.ednsflags == (0x8000 if do else 0)
            assert not (sent.answer)
            assert not (sent.authority)
            assert not (sent.additional)


@pytest.mark.parametrize(
    ("rdtype", "do", "mergeable"),
    [
        ("A", False, True),
        ("AAAA", False, True),
        ("A", True, False),
        ("AAAA", True, False),
        ("TXT", False, False),
        ("HTTPS", False, False),
    ],
)
def test_what_may_be_merged(rdtype: str, do: bool, mergeable: bool) -> None:
    """Address questions without DO are merged, nothing else is."""
    assert scanned(rdtype=rdtype, do=do, payload=1232).question().mergeable == mergeable
    assert not make_question(wire_name(NAME), 1, 3).mergeable
