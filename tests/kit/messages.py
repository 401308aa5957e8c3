"""Messages for tests, made by dnspython or octet by octet.

What a test expects is said in presentation form and encoded by dnspython, or written by hand;
nothing here is computed by the code under test.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.judge import Judge
from staggerdns.wire.query import Query, parse_query
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.reading import read_pool
from staggerdns.wire.render import render
from staggerdns.wire.reply import index_reply
from staggerdns.wire.scrub import scrub_answers
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.verdict import Verdict
from tests.kit.clients import parse, question

NAME = "www.example.com."
POINTER = b"\xc0\x0c"
"""A compression pointer to the name of the question."""


def wire_name(text: str) -> bytes:
    """Return a name's uncompressed wire form, as dnspython makes it."""
    return dns.name.from_text(text).to_wire() or b""


def wire_data(rdtype: str, text: str) -> bytes:
    """Return the uncompressed wire form of a record's data, as dnspython makes it."""
    rrset = dns.rrset.from_text(".", 0, "IN", rdtype, text)
    return bytes(rrset[0].to_wire() or b"")


def ask(name: str = NAME, rdtype: str = "A", *, do: bool = False, cd: bool = False) -> Question:
    """Return a question for an upstream."""
    return make_question(wire_name(name), dns.rdatatype.from_text(rdtype), do=do, cd=cd)


def client_query(name: str = NAME, rdtype: str = "A", *, id: int = 0x1234, **more: object) -> bytes:
    """Return a client's query; ``more`` as for `tests.kit.clients.question`."""
    message = question(name, rdtype, **more)  # type: ignore[arg-type]
    message.id = id
    return message.to_wire()


def scanned(name: str = NAME, rdtype: str = "A", *, id: int = 0x1234, **more: object) -> Query:
    """Return a client's query as the server sees it."""
    return parse_query(client_query(name, rdtype, id=id, **more))


def rrsets(texts: Iterable[str]) -> list[dns.rrset.RRset]:
    """Return one RRset per text ``owner ttl type data``, in that order."""
    made = []
    for text in texts:
        owner, ttl, rdtype, data = text.split(None, 3)
        made.append(dns.rrset.from_text(owner, int(ttl), "IN", rdtype, data))
    return made


def upstream_reply(
    asked: Question,
    answer: Iterable[str] = (),
    authority: Iterable[str] = (),
    additional: Iterable[str] = (),
    *,
    rcode: int = 0,
    ad: bool = False,
    edns: bool = False,
) -> bytes:
    """Return the reply of an upstream to ``asked``; records as for `rrsets`, names compressed."""
    message = dns.message.Message(id=0xBEEF)
    message.flags = dns.flags.QR | dns.flags.RD | dns.flags.RA | (dns.flags.AD if ad else 0)
    name = dns.name.from_wire(asked.name, 0)[0]
    message.question = [
        dns.rrset.RRset(
            name, dns.rdataclass.RdataClass(asked.qclass), dns.rdatatype.RdataType(asked.qtype)
        )
    ]
    message.answer = rrsets(answer)
    message.authority = rrsets(authority)
    message.additional = rrsets(additional)
    if edns:
        message.use_edns(0, payload=1232)
    message.set_rcode(dns.rcode.Rcode(rcode))
    return message.to_wire(max_size=65535)


def record(
    data: bytes, rdtype: int, *, owner: bytes = POINTER, rdclass: int = 1, ttl: int = 300
) -> bytes:
    """Return one record octet by octet, its length field included."""
    return owner + struct.pack("!HHIH", rdtype, rdclass, ttl, len(data)) + data


OPT = record(b"", 41, owner=b"\0", rdclass=1232, ttl=0)


def raw_reply(
    asked: Question,
    answer: Sequence[bytes] = (),
    authority: Sequence[bytes] = (),
    additional: Sequence[bytes] = (),
    *,
    flags: int = 0x8180,
    id: int = 0,
) -> bytes:
    """Return a reply put together octet by octet; records as `record` makes them."""
    counts = (1, len(answer), len(authority), len(additional))
    sections = b"".join([*answer, *authority, *additional])
    return struct.pack("!6H", id, flags, *counts) + asked.section + sections


def judged(wire: bytes, asked: Question | Judge) -> tuple[Verdict, Answer | None]:
    """Return what the program makes of an upstream's reply; a `Judge` remembers it."""
    return (asked if isinstance(asked, Judge) else Judge(asked)).verdict(wire)


def pool_of(wire: bytes, asked: Question) -> AddressPool:
    """Return the pool that a positive reply brings."""
    verdict, answer = judged(wire, asked)
    assert verdict is Verdict.POSITIVE
    assert isinstance(answer, AddressPool)
    return answer


def read_the_long_way(wire: bytes, asked: Question) -> AddressPool | None:
    """Return the pool that the index of a reply shows, usual or not."""
    reply = index_reply(wire, asked)
    return read_pool(reply, scrub_answers(reply, asked))


def sections_answer(wire: bytes, asked: Question) -> SectionsAnswer:
    """Return the sections that a reply brings unmerged."""
    _, answer = judged(wire, asked)
    assert isinstance(answer, SectionsAnswer)
    return answer


def replied(
    query: Query, answer: Answer, *, ttl: int = 60, limit: int = 65535, ede: int | None = None
) -> dns.message.Message:
    """Return our reply to ``query`` as dnspython reads it, strictly."""
    wire = render(query, answer, ttl, limit, ede)
    assert len(wire) <= limit
    return parse(wire)


def texts(section: Iterable[dns.rrset.RRset]) -> list[str]:
    """Return one text ``owner ttl type data`` per record, in order."""
    return [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in section
        for rdata in rrset
    ]


def edes(reply: dns.message.Message) -> list[int]:
    """Return the codes of the extended errors in a reply."""
    return [option.code for option in reply.options if isinstance(option, dns.edns.EDEOption)]


def longest_name(extra: int = 0) -> bytes:
    """Return a name of 255 octets, or of ``extra`` more."""
    last = 61 + extra
    return (b"\x3f" + b"a" * 63) * 3 + bytes((last,)) + b"b" * last + b"\0"
