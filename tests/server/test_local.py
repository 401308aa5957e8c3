"""Questions that we answer ourselves: RFC 8482, RFC 4892, RFC 6895."""

from __future__ import annotations

import dns.rcode
import pytest

from staggerdns.server.local import local_answer
from staggerdns.wire.query import parse_query
from tests.harness.clients import question
from tests.server.rooms import Room
from tests.wire.messages import client_query, texts


@pytest.mark.parametrize("name", ["version.bind.", "VERSION.Bind.", "version.server."])
@pytest.mark.parametrize("rdtype", ["TXT", "ANY"])
@pytest.mark.parametrize("payload", [None, 1232])
def test_version(name: str, rdtype: str, payload: int | None) -> None:
    """The name of the program, and no more, is told in class CH."""
    room = Room()
    reply = room.reply(client_query(name, rdtype, rdclass="CH", payload=payload))
    (rrset,) = reply.answer
    assert str(rrset) == f'{name} 0 CH TXT "staggerdns"'
    assert reply.rcode() == dns.rcode.NOERROR
    assert reply.edns == (-1 if payload is None else 0)
    assert not room.forwarder.asked


@pytest.mark.parametrize(
    ("name", "rdtype", "rdclass"),
    [
        ("version.bind.", "A", "CH"),
        ("hostname.bind.", "TXT", "CH"),
        ("a.version.bind.", "TXT", "CH"),
        ("version.bind.", "TXT", "HS"),
        ("www.example.com.", "A", "CH"),
        ("www.example.com.", "A", "ANY"),
        ("www.example.com.", "A", "NONE"),
        ("www.example.com.", "A", "CLASS0"),
        ("www.example.com.", "ANY", "CLASS65280"),
    ],
)
def test_other_classes(name: str, rdtype: str, rdclass: str) -> None:
    """Everything else of another class is REFUSED, and never sent on as class IN."""
    room = Room()
    reply = room.reply(client_query(name, rdtype, rdclass=rdclass))
    assert reply.rcode() == dns.rcode.REFUSED
    assert len(reply.question) == 1
    assert not room.forwarder.asked


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize("do", [False, True])
def test_any(transport: str, do: bool) -> None:
    """ANY is answered with one small record, over TCP as well (RFC 8482 section 4.2)."""
    room = Room()
    reply = room.reply(client_query("wWw.Example.", "ANY", do=do), transport=transport)
    assert texts(reply.answer) == ['wWw.Example. 3600 HINFO "RFC8482" ""']
    assert not room.forwarder.asked


@pytest.mark.parametrize(
    ("rdtype", "rcode"),
    [
        ("TYPE0", "FORMERR"),
        ("OPT", "FORMERR"),
        ("TKEY", "REFUSED"),
        ("TSIG", "FORMERR"),
        ("IXFR", "REFUSED"),
        ("AXFR", "REFUSED"),
        ("MAILB", "REFUSED"),
        ("MAILA", "REFUSED"),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_types_that_are_no_data(rdtype: str, rcode: str, transport: str) -> None:
    """Transfers, TKEY and types that no question may have never go upstream."""
    room = Room()
    reply = room.reply(client_query(rdtype=rdtype), transport=transport)
    assert dns.rcode.to_text(reply.rcode()) == rcode
    assert not reply.answer
    assert len(reply.question) == 1
    assert not room.forwarder.asked


@pytest.mark.parametrize("name", [".", "com.", "localhost.", "1.0.0.127.in-addr.arpa.", "a.b."])
@pytest.mark.parametrize("rdtype", ["A", "NS", "SOA", "PTR", "HTTPS", "ANY", "TYPE65280"])
def test_data_goes_upstream(name: str, rdtype: str) -> None:
    """Any name of class IN is a question for the upstreams, whatever it looks like."""
    answer = local_answer(parse_query(question(name, rdtype).to_wire()))
    assert (answer is None) == (rdtype != "ANY")
