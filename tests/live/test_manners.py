"""Protocol manners towards clients: header bits, EDNS, what is refused and what is ignored."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.opcode
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import (
    NoReplyError,
    TcpClient,
    UdpClient,
    addresses,
    ask,
    exchange,
    parse,
    question,
    raw_udp,
)
from tests.kit.testbed import Testbed, unique_name

if TYPE_CHECKING:
    from .conftest import BuildTestbed


@pytest.mark.parametrize("tcp", [False, True])
@pytest.mark.parametrize("payload", [None, 1232])
@pytest.mark.parametrize("cd", [False, True])
def test_header_and_question_are_copied(
    testbed: Testbed, payload: int | None, cd: bool, tcp: bool
) -> None:
    """ID, RD, CD and the question's case come back, RA is set, OPT exactly when asked.

    From the upstreams and from the cache alike.
    """
    name = testbed.route("hEaDeR", b.answers("203.0.113.1"), name=unique_name("header"))
    mixed = "".join(c.upper() if i % 2 else c for i, c in enumerate(name))
    for form in (name, mixed, mixed.swapcase()):
        reply = testbed.ask(form, tcp=tcp, payload=payload, cd=cd)
        assert reply.addresses == ["203.0.113.1"]
        assert reply.flag("RA")
        assert not reply.flag("AA")
        assert not reply.flag("TC")
        assert (reply.message.edns == 0) == (payload is not None)
        if payload is not None:
            assert reply.message.payload == 1232
            assert not reply.message.ednsflags & 0x8000
        assert reply.message.answer[0].name.to_text().lower() == name


def test_nobody_is_asked_without_rd(testbed: Testbed) -> None:
    """Without RD a name is refused, before and after others have asked for it."""
    name = testbed.route("rd", b.answers("203.0.113.1"))
    assert testbed.ask(name, rd=False).rcode == "REFUSED"
    assert sum(testbed.counts(name)) == 0
    testbed.ask(name)
    reply = testbed.ask(name, rd=False)
    assert (reply.rcode, reply.flag("RD"), reply.flag("RA")) == ("REFUSED", False, True)


def test_aa_of_an_upstream_is_not_ours(testbed: Testbed) -> None:
    """A forwarder is no authority, even when its upstream is one."""
    name = testbed.route("aa", b.records((None, 300, "A", "203.0.113.1"), aa=True))
    assert not testbed.ask(name).flag("AA")
    assert not testbed.ask(name).flag("AA")


def test_do_is_copied(testbed: Testbed) -> None:
    """The OPT record of the reply has DO as the query's (RFC 3225)."""
    name = testbed.route("do-bit", b.answers("203.0.113.1"))
    for do in (True, False, True):
        reply = testbed.ask(name, do=do, payload=1232)
        assert bool(reply.message.ednsflags & 0x8000) == do


def test_unknown_edns_options_do_no_harm(testbed: Testbed) -> None:
    """An option that we do not know is ignored and not echoed."""
    name = testbed.route("option", b.answers("203.0.113.1"))
    option = dns.edns.GenericOption(dns.edns.OptionType.make(65001), b"hello")
    for _ in range(2):
        reply = exchange(testbed.program.endpoint, question(name, options=[option]))
        assert reply.addresses == ["203.0.113.1"]
        assert all(int(found.otype) != 65001 for found in reply.message.options)


def test_edns_version_1_is_badvers(testbed: Testbed) -> None:
    """An EDNS version that we do not speak is answered BADVERS, with version 0 (RFC 6891)."""
    query = question(unique_name("badvers"), payload=1232)
    query.use_edns(edns=1, payload=1232)
    reply = exchange(testbed.program.endpoint, query)
    assert reply.rcode == "BADVERS"
    assert reply.message.edns == 0


def test_two_opt_records_are_a_format_error(testbed: Testbed) -> None:
    """More than one OPT record is FORMERR (RFC 6891 section 6.1.1)."""
    wire = bytearray(question("opt.example", payload=1232).to_wire())
    wire += wire[-11:]
    wire[11] = 2
    answer = raw_udp(testbed.program.endpoint, bytes(wire), 2)
    assert answer is not None
    assert parse(answer).rcode() == 1


@pytest.mark.parametrize("opcode", [1, 2, 4, 5, 6, 15])
def test_other_opcodes(testbed: Testbed, opcode: int) -> None:
    """Any opcode but QUERY is answered NOTIMP, NOTIFY and UPDATE included."""
    name = unique_name("opcode")
    query = question(name, "SOA")
    query.flags = dns.opcode.to_flags(dns.opcode.Opcode(opcode)) | dns.flags.RD
    wire = dns.message.make_query(name, "SOA").to_wire()
    wire = struct.pack("!HH", query.id, int(query.flags)) + wire[4:]
    answer = raw_udp(testbed.program.endpoint, wire)
    assert answer is not None
    message = parse(answer)
    assert message.id == query.id
    assert message.flags & dns.flags.QR
    assert message.opcode() == opcode
    assert message.rcode() == 4
    assert sum(testbed.counts(name)) == 0


@pytest.mark.parametrize("count", [0, 2, 3])
def test_question_count(testbed: Testbed, count: int) -> None:
    """Any number of questions but one is FORMERR."""
    one = question("count.example").to_wire()
    wire = one[:4] + struct.pack("!HHHH", count, 0, 0, 0) + one[12:] * count
    answer = raw_udp(testbed.program.endpoint, wire)
    assert answer is not None
    assert answer[:2] == wire[:2]
    message = parse(answer)
    assert message.flags & dns.flags.QR
    assert message.flags & dns.flags.RD
    assert message.rcode() == 1
    assert sum(testbed.counts("count.example")) == 0


def test_responses_are_dropped(testbed: Testbed) -> None:
    """A message with QR=1 gets no answer, over UDP nor TCP: no packet loops."""
    name = testbed.route("loop", b.answers("203.0.113.1"))
    response = dns.message.make_response(question(name)).to_wire()
    assert raw_udp(testbed.program.endpoint, response, 0.3) is None
    with TcpClient(testbed.program.endpoint) as client:
        client.send(response)
        follow = question(name)
        client.send(follow)
        # Closing the connection of a client that talks nonsense is as good.
        with contextlib.suppress(NoReplyError):
            assert client.receive().message.id == follow.id
    assert testbed.ask(name).addresses == ["203.0.113.1"]


@pytest.mark.parametrize("size", [0, 1, 2, 11])
def test_short_datagrams_are_dropped(testbed: Testbed, size: int) -> None:
    """What is shorter than a header gets no answer."""
    assert raw_udp(testbed.program.endpoint, b"\x00" * size, 0.2) is None


def test_cut_question_is_a_format_error(testbed: Testbed) -> None:
    """A question that ends too early is FORMERR or ignored, and never asked upstream."""
    wire = question("cut.example").to_wire()
    for end in range(12, len(wire)):
        answer = raw_udp(testbed.program.endpoint, wire[:end], 0.05)
        assert answer is None or parse(answer).rcode() == 1
    assert sum(testbed.counts("cut.example")) == 0


@pytest.mark.parametrize("rdtype", ["TXT", "A", "ANY"])
@pytest.mark.parametrize("tcp", [False, True])
def test_class_ch_stays_here(testbed: Testbed, rdtype: str, tcp: bool) -> None:
    """Class CH is answered here, in class CH, and never sent on."""
    for name in ("version.bind.", "hostname.bind.", unique_name("chaos")):
        before = sum(testbed.counts(name))
        reply = testbed.ask(name, rdtype, rdclass="CH", tcp=tcp)
        assert reply.rcode in ("NOERROR", "REFUSED", "NOTIMP", "NXDOMAIN")
        assert all(int(rrset.rdclass) == 3 for rrset in reply.message.answer)
        assert len(reply.wire) < 200
        assert sum(testbed.counts(name)) == before


@pytest.mark.parametrize("tcp", [False, True])
def test_any_is_answered_briefly_and_here(testbed: Testbed, tcp: bool) -> None:
    """ANY is answered with one small record set and never sent on (RFC 8482)."""
    name = testbed.route("any", b.answers("203.0.113.1"))
    reply = testbed.ask(name, "ANY", tcp=tcp)
    assert reply.rcode == "NOERROR"
    assert reply.types == ["HINFO"]
    assert "RFC8482" in reply.message.answer[0][0].to_text()
    assert len(reply.wire) < 200
    assert sum(testbed.counts(name)) == 0


@pytest.mark.parametrize("rdtype", ["AXFR", "IXFR"])
def test_transfers_are_not_sent_on(testbed: Testbed, rdtype: str) -> None:
    """Zone transfers are no business of a forwarder: an error, and nothing upstream."""
    name = unique_name("transfer")
    query = question(name, "A").to_wire().replace(b"\x00\x01\x00\x01", b"\x00\xfc\x00\x01")
    if rdtype == "IXFR":
        query = query.replace(b"\x00\xfc\x00\x01", b"\x00\xfb\x00\x01")
    with TcpClient(testbed.program.endpoint) as client:
        client.send(query)
        assert client.receive().rcode in ("NOTIMP", "REFUSED", "FORMERR")
    assert sum(testbed.counts(name)) == 0


def test_clients_outside_allow_are_refused(build: BuildTestbed) -> None:
    """A client that `server.allow` does not name is REFUSED over UDP and TCP; others are not."""
    testbed = build([b.answers("203.0.113.1")], {"server": {"allow": ["127.0.0.2/32"]}})
    for tcp in (False, True):
        for payload in (None, 1232):
            reply = testbed.ask("www.example.", tcp=tcp, payload=payload, source="127.0.0.1")
            assert reply.rcode == "REFUSED"
            assert reply.message.answer == []
    assert testbed.counts("www.example.") == [0]
    assert testbed.ask("www.example.", source="127.0.0.2").addresses == ["203.0.113.1"]
    assert testbed.ask("www.example.", tcp=True, source="127.0.0.2").rcode == "NOERROR"
    assert testbed.ask("www.example.", source="127.0.0.1").rcode == "REFUSED", "cached for all"
    assert testbed.ask("www.example.", tcp=True, source="127.0.0.1").rcode == "REFUSED"


def test_each_client_gets_its_own_reply(testbed: Testbed) -> None:
    """Fifty different names in flight from one socket: each reply belongs to its query."""
    names = {
        testbed.route("own", b.answers(f"203.0.114.{i}", after=(i * 37 % 50) / 1000)): i
        for i in range(50)
    }
    with UdpClient(testbed.program.endpoint) as client:
        queries = {}
        for number, name in enumerate(names):
            query = question(name)
            query.id = 1000 + number
            queries[query.id] = name
            client.send(query)
        for _ in names:
            message = client.receive().message
            name = queries.pop(message.id)
            assert message.question[0].name.to_text() == name
            assert addresses(message) == [f"203.0.114.{names[name]}"]


def test_duplicate_queries_from_one_socket(testbed: Testbed) -> None:
    """A client that repeats its query gets a reply to each, for one query upstream."""
    name = testbed.route("repeat", b.answers("203.0.113.1", after=0.1))
    query = question(name)
    with UdpClient(testbed.program.endpoint) as client:
        for _ in range(3):
            client.send(query)
        assert [client.receive().message.id for _ in range(3)] == [query.id] * 3
    assert max(testbed.counts(name)) == 1


def test_reply_comes_from_the_address_that_was_asked(testbed: Testbed) -> None:
    """A connected client socket accepts the reply: it comes from where the query went."""
    name = testbed.route("source", b.answers("203.0.113.1"))
    assert ask(testbed.program.endpoint, name, source="127.0.0.9").addresses == ["203.0.113.1"]
