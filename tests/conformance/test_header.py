"""Header bits, opcodes, classes and types: RFC 1035, RFC 6840, RFC 6895, RFC 8482."""

from __future__ import annotations

import itertools
import struct
from typing import TYPE_CHECKING

import dns.rcode
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import TcpClient, UdpClient, question
from tests.kit.octets import RD, WWW, address_of, message, opt, record, sent
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from tests.kit.testbed import Testbed

QR, AA, TC, RA, Z, AD, CD = 0x8000, 0x0400, 0x0200, 0x0080, 0x0040, 0x0020, 0x0010
TRANSPORTS = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])


@TRANSPORTS
def test_every_combination_of_flags(testbed: Testbed, tcp: bool) -> None:
    """RD and CD come back, RA is ours, and no other flag or code of a query has a meaning.

    Without RD nothing is looked up. The answer is not validated: AD stays clear for all.
    """
    bits = (AA, TC, RD, RA, Z, AD, CD, 0x0001, 0x000F)
    with (TcpClient if tcp else UdpClient)(testbed.program.endpoint) as client:
        for some in itertools.product((0, 1), repeat=len(bits)):
            flags = 0
            for bit, chosen in zip(bits, some, strict=True):
                flags |= bit * chosen
            client.send(message(flags=flags))
            reply = client.receive()
            (got,) = struct.unpack_from("!H", reply.wire, 2)
            refused = 0 if flags & RD else dns.rcode.REFUSED
            assert got == QR | RA | flags & (RD | CD) | refused, hex(flags)
            assert reply.addresses == ([address_of("www.example.")] if flags & RD else [])


@TRANSPORTS
@pytest.mark.parametrize("validated", [False, True])
def test_ad_for_those_who_asked(testbed: Testbed, validated: bool, tcp: bool) -> None:
    """AD is told to who sent AD or DO (RFC 6840 section 5.8), and only if the upstreams said it."""
    name = testbed.route("ad", b.answers("203.0.113.1", ad=validated))
    for ad, do, cd, _ in itertools.product((False, True), repeat=4):
        reply = testbed.ask(name, ad=ad, do=do, cd=cd, tcp=tcp)
        assert reply.flag("AD") == (validated and (ad or do)), (ad, do, cd)


def test_ad_is_asked_of_upstreams(testbed: Testbed) -> None:
    """Upstreams are asked with AD, RD and the client's CD, whatever else the client sent."""
    for number, flags in enumerate((0, AD, CD, AA | TC | Z | 0xF)):
        name = unique_name(f"sent-{number}")
        sent(testbed, message(name=_wire(name), flags=RD | flags), tcp=False)
        for queries in testbed.asked(name):
            for query in queries:
                (got,) = struct.unpack_from("!H", query.wire, 2)
                assert got == RD | AD | flags & CD


def _wire(name: str) -> bytes:
    return bytes(question(name).question[0].name.to_wire() or b"")


UPDATE = message(record(rtype=6, data=b"\0"), counts=(1, 0, 1, 0), flags=5 << 11, tail=b"\0\6\0\1")
OPCODES = {
    **{f"opcode {code}": message(flags=RD | code << 11) for code in range(1, 16)},
    "NOTIFY with its SOA": message(
        record(rtype=6, data=b"\0" * 22), counts=(1, 1, 0, 0), flags=4 << 11, tail=b"\0\6\0\1"
    ),
    "UPDATE with a change": UPDATE,
    "DSO without a question": message(name=b"", tail=b"", flags=6 << 11, counts=(0, 0, 0, 0)),
    "STATUS with EDNS": message(opt(), counts=(1, 0, 0, 1), flags=2 << 11),
    "IQUERY of old": message(record(), counts=(0, 1, 0, 0), flags=1 << 11, name=b"", tail=b""),
}


@TRANSPORTS
@pytest.mark.parametrize("wire", OPCODES.values(), ids=OPCODES)
def test_opcodes(testbed: Testbed, wire: bytes, tcp: bool) -> None:
    """All but QUERY is NOTIMP, with the opcode and RD as they came."""
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == "NOTIMP"
    assert reply.wire[2] == wire[2] | 0x80
    assert not reply.message.answer


COUNTS = {
    "no question": message(name=b"", tail=b"", counts=(0, 0, 0, 0)),
    "two questions": message(WWW, b"\0\1\0\1", counts=(2, 0, 0, 0)),
    "65535 questions": message(counts=(65535, 0, 0, 0)),
    "an answer": message(record(), counts=(1, 1, 0, 0)),
    "an authority": message(record(), counts=(1, 0, 1, 0)),
    "65535 of all": message(counts=(1, 65535, 65535, 65535)),
    "an additional that is missing": message(counts=(1, 0, 0, 1)),
}


@TRANSPORTS
@pytest.mark.parametrize("wire", COUNTS.values(), ids=COUNTS)
def test_counts(testbed: Testbed, wire: bytes, tcp: bool) -> None:
    """A query has one question and nothing in answer and authority; else FORMERR."""
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == "FORMERR"


@TRANSPORTS
@pytest.mark.parametrize("flags", [QR, QR | RD | RA, QR | 5 << 11, QR | 3])
def test_responses(testbed: Testbed, flags: int, tcp: bool) -> None:
    """Nobody answers a response: two servers would never stop."""
    assert sent(testbed, message(flags=flags), tcp=tcp, answered=False) is None


@TRANSPORTS
@pytest.mark.parametrize("rdclass", [0, 2, 3, 4, 254, 255, 256, 65280, 65535])
def test_classes(testbed: Testbed, rdclass: int, tcp: bool) -> None:
    """Of the classes only IN has data here: REFUSED, and nothing upstream."""
    name = unique_name("class")
    wire = message(name=_wire(name), tail=struct.pack("!HH", 1, rdclass))
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == "REFUSED"
    assert int(reply.message.question[0].rdclass) == rdclass
    assert sum(testbed.counts(name)) == 0


META = {
    "reserved 0": (0, "FORMERR"),
    "OPT": (41, "FORMERR"),
    "TKEY": (249, "REFUSED"),
    "TSIG": (250, "FORMERR"),
    "IXFR": (251, "REFUSED"),
    "AXFR": (252, "REFUSED"),
    "MAILB": (253, "REFUSED"),
    "MAILA": (254, "REFUSED"),
}


@TRANSPORTS
@pytest.mark.parametrize(("rdtype", "rcode"), META.values(), ids=META)
def test_meta_types(testbed: Testbed, rdtype: int, rcode: str, tcp: bool) -> None:
    """Types that are no data are no questions for an upstream, not even from the cache."""
    name = unique_name("meta")
    for _ in range(2):
        reply = sent(
            testbed, message(name=_wire(name), tail=struct.pack("!HH", rdtype, 1)), tcp=tcp
        )
        assert reply is not None
        assert reply.rcode == rcode
        assert len(reply.message.question) == 1
    assert sum(testbed.counts(name)) == 0


@TRANSPORTS
def test_any(testbed: Testbed, tcp: bool) -> None:
    """ANY gets one small record of our own (RFC 8482 section 4.2)."""
    name = unique_name("any")
    reply = testbed.ask(name, "ANY", tcp=tcp, payload=1232)
    assert reply.types == ["HINFO"]
    assert sum(testbed.counts(name)) == 0
