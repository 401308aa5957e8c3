"""Any octets at all, from clients and from upstreams: nothing raises, nothing garbled goes out."""

from __future__ import annotations

import contextlib
import struct
from functools import cache

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred

from staggerdns.resolver.entry import Entry
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import WireError
from staggerdns.wire.pool import cap
from staggerdns.wire.question import Question
from staggerdns.wire.render import render
from staggerdns.wire.reply import mismatch
from staggerdns.wire.verdict import Verdict
from tests.kit.clients import parse
from tests.kit.compiled import PURE_ONLY
from tests.kit.factory import ALL_SPECIAL, FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
    client_query,
    judged,
    raw_reply,
    read_the_long_way,
    record,
    scanned,
    sections_answer,
    upstream_reply,
    wire_name,
)
from tests.kit.pools import merge

# The types whose data the index checks: names, addresses, strings. The data of all others is
# opaque to a forwarder (RFC 3597 section 3), so a client may get it as broken as it came.
CHECKED = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 21, 26, 28, 33, 35, 36, 39, 41}


def read_as_a_forwarder(wire: bytes) -> None:
    """Read a message with dnspython's parts, strictly but for the data of opaque types."""
    _, _, *counts = struct.unpack("!HHHHHH", wire[:12])
    position = 12
    for _ in range(counts[0]):
        position += dns.name.from_wire(wire, position)[1] + 4
    for _ in range(sum(counts[1:])):
        position += dns.name.from_wire(wire, position)[1]
        rdtype, rdclass, ttl, length = struct.unpack_from("!HHIH", wire, position)
        position += 10
        assert position + length <= len(wire)
        if rdtype in CHECKED:
            # A sender must not compress names in the newer of these types; whoever passes
            # them on lets them be, and most receivers read them (RFC 3597 section 4).
            with contextlib.suppress(dns.name.DecompressionForbidden):
                dns.rdata.from_wire(rdclass, rdtype, wire, position, length)
        if rdtype != dns.rdatatype.OPT:
            assert ttl < 2**31
        position += length
    assert position == len(wire)


def check_reply(wire: bytes, query: bytes, limit: int) -> dns.message.Message | None:
    """Check a reply to a client; return it as dnspython reads it unless opaque data is broken."""
    assert len(wire) <= limit
    assert wire[:2] == query[:2]
    assert wire[2] & 0x80
    assert wire[2] & 0x78 == query[2] & 0x78
    assert not query[2] & 0x80, "a response was answered"
    try:
        return parse(wire)
    except dns.exception.DNSException:
        read_as_a_forwarder(wire)
        return None


# What clients send: pieces of real queries in any order, and anything.

_WORDS = st.sampled_from([0, 1, 2, 3, 28, 41, 65, 250, 255, 256, 512, 1232, 4096, 0x8000, 0xFFFF])
_NAMES = st.sampled_from(
    [wire_name(name) for name in (".", NAME, "version.bind.", "WWW.example.com.", r"a\.b\000.c.")]
    + [b"\xc0\x0c", b"\x40", b"\x3f" + b"x" * 63 + b"\0"]
)
_HEADERS = st.builds(
    struct.Struct("!HHHHHH").pack,
    st.integers(0, 0xFFFF),
    st.sampled_from([0, 0x0100, 0x0110, 0x0120, 0x0130, 0x2000, 0x8000, 0x0040, 0xFFFF])
    | st.integers(0, 0xFFFF),
    st.sampled_from([1, 1, 1, 0, 2]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 1, 1, 2, 65535]),
)
_QUESTIONS = st.builds(
    lambda name, rdtype, rdclass: name + struct.pack("!HH", rdtype, rdclass),
    _NAMES,
    _WORDS,
    st.sampled_from([1, 1, 1, 1, 3, 255, 0]),
)
_OPTS = st.builds(
    lambda owner, payload, ttl, data: record(data, 41, owner=owner, rdclass=payload, ttl=ttl),
    st.sampled_from([b"\0", b"\0", b"\0", b"\1a\0"]),
    _WORDS,
    st.sampled_from([0, 0x8000, 0x10000, 0xFFFFFFFF]),
    st.sampled_from([b"", b"\0\x0a\0\4abcd", b"\0\x0a\0\5abcd"]) | st.binary(max_size=6),
)
_BUILT = st.builds(
    lambda header, question, rest: header + question + b"".join(rest),
    _HEADERS,
    _QUESTIONS,
    st.lists(_OPTS | st.binary(max_size=12), max_size=2),
)
_QUERIES = [client_query(), client_query("version.bind.", "TXT", rdclass="CH")] + [
    client_query(rdtype=rdtype, do=do, payload=1232)
    for rdtype in ("A", "ANY", "AXFR", "TXT", "TYPE65280")
    for do in (False, True)
]


@st.composite
def mutated(draw: st.DrawFn, originals: list[bytes], start: int = 0) -> bytes:
    """One of ``originals`` with octets behind ``start`` changed, cut, doubled and inserted."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(start, max(start, len(data) - 1)))
        end = place + draw(st.integers(1, 16))
        match draw(st.sampled_from(["set", "flip", "pointer", "cut", "drop", "double", "insert"])):
            case "set" if place < len(data):
                data[place] = draw(st.integers(0, 255))
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "pointer":
                target = draw(st.integers(0, min(len(data), 0x3FFF)))
                data[place : place + 2] = struct.pack("!H", 0xC000 | target)
            case "cut":
                del data[place:]
            case "drop":
                del data[place:end]
            case "double":
                data[place:place] = data[place:end]
            case "insert":
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


def txt_entry() -> Entry:
    """Return an entry too big for UDP."""
    asked = ask(rdtype="TXT")
    text = " ".join('"' + "x" * 250 + '"' for _ in range(6))
    return Entry(sections_answer(upstream_reply(asked, [f"{NAME} 60 TXT {text}"]), asked), 1, 0.0)


ENTRIES = [Entry(pool(200), 1, 0.0), Entry(FailureAnswer(23, 1), 1, 0.0), txt_entry()]


@PURE_ONLY
@given(
    st.binary(max_size=80) | _BUILT | mutated(_QUERIES),
    st.sampled_from([FRIEND, STRANGER, "2001:db8::1", "fe80::1%eth0"]),
    st.sampled_from(["udp", "tcp"]),
    st.sampled_from(ENTRIES),
    st.booleans(),
)
@example(b"", FRIEND, "udp", ENTRIES[0], True)
@example(client_query(payload=1232), FRIEND, "udp", ENTRIES[0], True)
@example(client_query(), FRIEND, "tcp", ENTRIES[2], False)
@settings(max_examples=150)
def test_any_message_from_a_client(
    message: bytes, host: str, transport: str, entry: Entry, cached: bool
) -> None:
    """Nothing raises; a reply is a whole message with the query's ID, within the client's size.

    What was a response itself is never answered, and the table of ready replies gives
    the same bytes as the long way or nothing.
    """
    server = MemoryServer(local=ALL_SPECIAL)
    server.forwarder.instant = entry
    if cached:
        server.commit(ask(), entry.answer)
    assert server.factory.ready["udp"].reply(message, host, 0.0) is None
    found = server.factory.serve(message, host, transport, 0.0)
    replies: list[bytes | None] = []
    if isinstance(found, Deferred):
        found.addCallback(replies.append)
    else:
        replies.append(found)
    (reply,) = replies
    if reply is None:
        assert len(message) < 12 or message[2] & 0x80
        return
    parsed = check_reply(reply, message, 65535 if transport == "tcp" else 1232)
    assert parsed is not None, "all that we say here is our own"
    if host not in (FRIEND, "2001:db8::1"):
        assert parsed.rcode() == dns.rcode.REFUSED
    if parsed.question:
        asked = dns.message.from_wire(message, question_only=True).question
        assert parsed.question == asked
        assert str(parsed.question[0].name) == str(asked[0].name), "its case counts"
    with contextlib.suppress(dns.exception.DNSException):
        # What dnspython takes for a query, too, has its OPT known to the last bit.
        original = dns.message.from_wire(message)
        if len(parsed.question) == 1:
            assert (parsed.edns == 0) == (original.edns >= 0)
            assert parsed.ednsflags & 0x8000 == original.ednsflags & 0x8000
            if transport == "udp":
                assert len(reply) <= max(512, min(1232, original.payload or 0))
    ready = server.factory.ready["udp"].reply(message, host, 0.0)
    assert ready in (None, reply)
    if ready is not None:
        other = server.factory.ready["udp"].reply(b"\xff\xff" + message[2:], host, 0.0)
        assert other == b"\xff\xff" + reply[2:]


# What upstreams send.

QUESTIONS = [
    ask(),
    ask(rdtype="AAAA"),
    ask(do=True),
    ask(rdtype="MX"),
    ask(rdtype="TXT"),
    ask(rdtype="HTTPS"),
    ask(rdtype="TYPE65280"),
]
SOA = "example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 60"
SIGNATURE = "8 3 300 20300101000000 20200101000000 1 x. c2ln"
HONEST: list[tuple[Question, list[bytes]]] = [
    (
        asked,
        [
            upstream_reply(
                asked,
                [
                    f"{NAME} 300 CNAME b.example.com.",
                    "b.example.com. 200 CNAME c.example.net.",
                    f"c.example.net. 100 {rdtype} {data}",
                    f"c.example.net. 100 RRSIG {rdtype} {SIGNATURE}",
                ],
                ["example.net. 50 NS ns.example.net."],
                ["ns.example.net. 40 A 192.0.2.1", "ns.example.net. 40 AAAA 2001:db8::1"],
                edns=True,
            ),
            upstream_reply(asked, [f"{NAME} 300 {rdtype} {data}"], edns=True),
            upstream_reply(asked, authority=[SOA], rcode=3, edns=True),
            upstream_reply(asked, [f"{NAME} 9 CNAME b.example.com."], [SOA]),
            upstream_reply(asked, rcode=2),
        ],
    )
    for asked, rdtype, data in zip(
        QUESTIONS,
        ["A", "AAAA", "A", "MX", "TXT", "HTTPS", "TYPE65280"],
        [
            "192.0.2.1",
            "2001:db8::1",
            "192.0.2.1",
            "10 mail.example.com.",
            '"x" ""',
            "1 . alpn=h2",
            r"\# 2 c00c",
        ],
        strict=True,
    )
]


@st.composite
def mutations(draw: st.DrawFn) -> tuple[Question, bytes]:
    """A question and a changed reply to it; header and question are mostly left alone."""
    asked, originals = draw(st.sampled_from(HONEST))
    start = draw(st.sampled_from([12 + len(asked.section)] * 6 + [6, 2]))
    return asked, draw(mutated(originals, start))


def _forged_record(section: bytes, qtype: int) -> st.SearchStrategy[bytes]:
    """Records that nobody honest sends behind such a question."""
    size = 12 + len(section)
    pointers = st.integers(0, size + 120).map(lambda target: struct.pack("!H", 0xC000 | target))
    names = st.one_of(
        st.just(POINTER),
        pointers,
        st.sampled_from([wire_name(name) for name in (".", "b.example.com.", NAME.upper())]),
        st.builds(
            lambda label, rest: bytes((len(label),)) + label + rest,
            st.binary(min_size=1, max_size=3),
            pointers,
        ),
    )
    datas = st.one_of(
        names,
        st.builds(lambda before, name: before + name, st.binary(min_size=2, max_size=6), names),
        st.builds(
            lambda one, two, behind: one + two + behind,
            names,
            names,
            st.binary(min_size=20, max_size=20),
        ),
        st.binary(min_size=4, max_size=4),
        st.binary(min_size=16, max_size=16),
        st.sampled_from([b"", b"\1x", b"\2x"]),
    )
    return st.builds(
        lambda owner, rdtype, rdclass, ttl, data: record(
            data, rdtype, owner=owner, rdclass=rdclass, ttl=ttl
        ),
        names,
        st.sampled_from([qtype] * 4 + [1, 2, 5, 5, 5, 6, 15, 16, 28, 33, 39, 46, 65, 65280]),
        st.sampled_from([1] * 20 + [3, 255]),
        st.sampled_from([0, 1, 60, 0x3F3F3F3F, 0x7FFFFFFF, 0x80000000, 0xC00CC00C]),
        datas,
    )


@cache
def _forged_sections(section: bytes, qtype: int) -> list[st.SearchStrategy[list[bytes]]]:
    """The three sections of a forgery. To build them takes longer than to draw: once."""
    records = _forged_record(section, qtype)
    return [
        st.lists(records, max_size=4),
        st.lists(records, max_size=2),
        st.lists(records | st.just(OPT), max_size=2),
    ]


_FORGED_FLAGS = st.sampled_from([0x8180, 0x81A0, 0x8183, 0x8182, 0x8380])
_IDS = st.integers(0, 0xFFFF)


@st.composite
def forgeries(draw: st.DrawFn) -> tuple[Question, bytes]:
    """A question and records that nobody honest sends, put together with counts that fit."""
    asked = draw(st.sampled_from(QUESTIONS))
    sections = [draw(one) for one in _forged_sections(asked.section, asked.qtype)]
    return asked, raw_reply(asked, *sections, flags=draw(_FORGED_FLAGS), id=draw(_IDS))


def check_upstream_reply(asked: Question, message: bytes, ttl: int) -> Answer | None:
    """Pass a reply on as every reply is, and check what clients would be given of it.

    Addresses are in reverse, as ranking could have put them.
    """
    if mismatch(message, asked):
        return None
    try:
        verdict, answer = judged(message, asked)
    except WireError:
        return None
    assert (answer is None) == (verdict is Verdict.FAILURE)
    if answer is None:
        return None
    if len(answer.addresses) > 1:
        answer = answer.reordered(tuple(reversed(answer.addresses)))
    assert 0 <= answer.ttl < 2**31
    assert answer.negative == (verdict is Verdict.NEGATIVE)
    name = dns.name.from_wire(asked.name, 0)[0].to_text()
    rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType(asked.qtype))
    for edns, limit in ((True, 65535), (False, 512), (True, 1232)):
        # IDs and case that no upstream could have guessed.
        query = scanned(
            name.upper(), rdtype, id=0xFFFF, do=asked.do and edns, payload=1232 if edns else None
        )
        reply = render(query, answer, ttl, limit, 3)
        parsed = check_reply(reply, query.message, limit)
        if isinstance(answer, AddressPool):
            assert parsed is not None, "all that a pool says is our own"
        if parsed is not None:
            assert str(parsed.question[0].name) == name.upper()
            assert parsed.edns == (0 if edns else -1)
            ttls = {rrset.ttl for rrset in [*parsed.answer, *parsed.authority, *parsed.additional]}
            assert ttls <= {ttl}
    return answer


@given(mutations(), st.sampled_from([0, 1, 63, 64, 0xC0, 300, 0x3F3F3F3F, 0x7FFFFFFF]))
@settings(max_examples=150)
def test_mutated_replies(made: tuple[Question, bytes], ttl: int) -> None:
    """A reply changed anywhere is refused or comes out as a message that a client can read."""
    check_upstream_reply(*made, ttl)


@given(forgeries(), st.sampled_from([0, 1, 63, 64, 0xC0, 300, 0x3F3F3F3F, 0x7FFFFFFF]))
@settings(max_examples=150)
def test_forged_replies(made: tuple[Question, bytes], ttl: int) -> None:
    """Records with pointers to anywhere, wrong sizes and wrong classes: the same."""
    check_upstream_reply(*made, ttl)


@given(st.sampled_from(QUESTIONS), st.binary(max_size=100), st.binary(min_size=12, max_size=12))
def test_random_replies(asked: Question, junk: bytes, header: bytes) -> None:
    """Anything behind a question is refused or read, and any header too."""
    check_upstream_reply(asked, raw_reply(asked, [junk]), 60)
    check_upstream_reply(asked, header + asked.section + junk, 60)
    check_upstream_reply(asked, junk, 60)


@given(forgeries())
@settings(max_examples=100)
def test_the_quick_way_and_the_index_agree(made: tuple[Question, bytes]) -> None:
    """Where both read a pool in a reply, it is the same pool."""
    asked, message = made
    if not asked.mergeable or mismatch(message, asked):
        return
    try:
        verdict, answer = judged(message, asked)
    except WireError:
        return
    if verdict is Verdict.POSITIVE:
        assert isinstance(answer, AddressPool)
        indexed = read_the_long_way(message, asked)
        assert indexed is not None
        assert (answer.cname_chain, answer.addresses) == (indexed.cname_chain, indexed.addresses)
        assert (answer.ttl, answer.ad) == (indexed.ttl, indexed.ad)


@given(forgeries(), forgeries(), st.integers(1, 4), st.booleans())
@settings(max_examples=80)
def test_merged_forgeries(
    one: tuple[Question, bytes], two: tuple[Question, bytes], limit: int, private: bool
) -> None:
    """Whatever two upstreams say, the pool of both is a pool."""
    pools = []
    for asked, message in (one, two):
        if asked.mergeable and asked.key == one[0].key:
            answer = check_upstream_reply(asked, message, 60)
            if isinstance(answer, AddressPool):
                pools.append(cap(answer, limit))
    if len(pools) != 2:
        return
    merged = merge(pools[0], pools[1], limit, private=private)
    assert len(merged.addresses) == len(set(merged.addresses)) <= limit
    assert merged.addresses[: len(pools[0].addresses)] == pools[0].addresses
    assert merged.ttl == pools[0].ttl or merged.ttl == min(pools[0].ttl, pools[1].ttl)
    rdtype = dns.rdatatype.to_text(dns.rdatatype.RdataType(one[0].qtype))
    parse(render(scanned(NAME, rdtype), merged, 60, 65535))


@pytest.mark.parametrize("asked", QUESTIONS, ids=lambda asked: f"TYPE{asked.qtype}")
def test_honest_replies_come_through(asked: Question) -> None:
    """The replies that are mutated above are good ones, so that the tests above test something."""
    (originals,) = [replies for question, replies in HONEST if question is asked]
    verdicts = [judged(reply, asked)[0] for reply in originals]
    assert verdicts == [
        Verdict.POSITIVE,
        Verdict.POSITIVE,
        Verdict.NEGATIVE,
        Verdict.NEGATIVE,
        Verdict.FAILURE,
    ]
    for reply in originals:
        check_upstream_reply(asked, reply, 60)
