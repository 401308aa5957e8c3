"""Towards the upstreams: what is sent to them, and which replies are believed."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import dns.flags
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import UdpClient, eventually, question, stays
from tests.kit.scripted import ScriptedUpstream
from tests.kit.testbed import PATIENT, SOON, Testbed, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.scripted import Behaviour

    from .conftest import BuildTestbed

POISON = "203.0.113.66"


@pytest.mark.parametrize(
    "lie",
    [
        b.wrong_id,
        b.not_a_response,
        b.wrong_opcode,
        b.wrong_question,
        b.wrong_question_type,
        b.from_other_port,
        b.from_other_host,
    ],
)
def test_replies_that_do_not_belong(
    build: BuildTestbed, lie: Callable[[Behaviour], Behaviour]
) -> None:
    """A reply is believed only when source, ID, QR, opcode and question match.

    The right reply that comes after the wrong one, from the same upstream, still counts.
    """
    mixed = b.preceded_by(lie(b.answers(POISON)), own_answer(0, 0.12))
    testbed = build([mixed, mixed, lie(b.answers(POISON))])
    reply = testbed.ask("www.example.")
    assert set(reply.addresses) == set(own_set(0))
    assert 0.115 <= reply.seconds < SOON
    stays(lambda: testbed.ask("www.example.").addresses, lambda got: POISON not in got, 0.4)


@pytest.mark.parametrize(
    "broken",
    [
        b.garbage(),
        b.garbage(b""),
        b.garbage(b"", keep_id=False),
        b.garbage(b"\x00" * 600, keep_id=False),
        b.cut_short(b.answers(POISON), 11),
        b.cut_short(b.answers(POISON), 20),
        b.cut_short(b.answers(POISON), 40),
    ],
)
def test_garbage_from_upstreams(build: BuildTestbed, broken: Behaviour) -> None:
    """Garbage is a failure of that upstream at most: the others answer, nothing is poisoned."""
    testbed = build([broken, broken, own_answer(2, 0.02)])
    reply = testbed.ask("www.example.")
    assert set(reply.addresses) == set(own_set(2))
    assert reply.seconds < SOON
    assert set(testbed.ask("www.example.").addresses) == set(own_set(2))


def test_reply_twice(build: BuildTestbed) -> None:
    """The second copy of a reply changes nothing."""
    testbed = build([b.twice(own_answer(index, 0.01)) for index in range(2)])
    for name in (unique_name("twice") for _ in range(20)):
        assert testbed.ask(name).rcode == "NOERROR"
        testbed.pool(name, {*own_set(0), *own_set(1)})


def test_ports_and_ids_vary(build: BuildTestbed) -> None:
    """Source ports and IDs are many and in no simple order."""
    testbed = build([own_answer(0, 0.001)])
    for _ in range(150):
        testbed.ask(unique_name("vary"))
    queries = testbed.upstreams[0].queries
    ids = [query.parsed.id for query in queries]
    assert len(set(ids)) > 140
    assert len({(y - x) & 0xFFFF for x, y in itertools.pairwise(ids)}) > 100
    ports = [query.source.port for query in queries]
    assert len(set(ports)) >= 4, "one port for all queries"
    runs = sum(x == y for x, y in itertools.pairwise(ports))
    assert runs < 120


def test_what_upstreams_are_sent(testbed: Testbed) -> None:
    """A query as RFC 1035 and RFC 6891 want it: one question, RD, a modest OPT."""
    name = testbed.route("sent", *(own_answer(index) for index in range(5)))
    testbed.ask(name)
    testbed.complete(name)
    for queries in testbed.asked(name):
        message = queries[0].parsed
        assert len(message.question) == 1
        assert message.opcode() == 0
        assert message.flags & dns.flags.RD
        assert not message.flags & (dns.flags.QR | dns.flags.AA | dns.flags.TC | dns.flags.CD)
        assert not message.ednsflags & 0x8000
        assert message.edns <= 0
        if message.edns == 0:
            assert 512 <= message.payload <= 1232
            assert [option.otype for option in message.options] == [dns.edns.OptionType.COOKIE]
        assert (message.answer, message.authority, message.additional) == ([], [], [])


def test_client_details_stay_here(testbed: Testbed) -> None:
    """Cookies and client subnets of a client are not passed on (they are hop by hop)."""
    import dns.edns  # noqa: PLC0415

    name = testbed.route("subnet", *(own_answer(index) for index in range(5)))
    options = [
        dns.edns.ECSOption("192.0.2.0", 24),
        dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678"),
    ]
    with UdpClient(testbed.program.endpoint) as client:
        client.send(question(name, options=options))
        assert client.receive().addresses
    testbed.complete(name)
    for query in testbed.asked(name):
        (ours,) = query[0].parsed.options
        assert ours.otype == dns.edns.OptionType.COOKIE
        assert b"12345678" not in ours.to_wire()


def test_tc_is_retried_over_tcp_at_the_same_upstream(build: BuildTestbed) -> None:
    """A truncated reply is asked again over TCP, there, and never used as it is."""
    testbed = build([b.truncated_over_udp(own_answer(0, size=40)), own_answer(1, SOON)])
    reply = testbed.ask("www.example.", tcp=True)
    assert len(reply.addresses) >= 32
    assert reply.seconds < SOON
    assert [query.transport for query in testbed.upstreams[0].queries] == ["udp", "tcp"]
    assert [query.transport for query in testbed.upstreams[1].queries] == ["udp"]


def test_tc_is_no_nodata(build: BuildTestbed) -> None:
    """An empty truncated reply is not an empty answer, also when TCP fails after it."""
    cut = b.by_transport(b.truncated_over_udp(b.silent), b.closes_mid_message(b.answers(POISON)))
    testbed = build([cut, cut, own_answer(2, 0.02)])
    for _ in range(3):
        reply = testbed.ask("www.example.")
        assert set(reply.addresses) == set(own_set(2))
    assert reply.seconds < SOON


def test_tc_everywhere_and_tcp_dead(build: BuildTestbed) -> None:
    """When no upstream can give more than TC, the client gets SERVFAIL and nothing is kept."""
    cut = b.by_transport(b.truncated_over_udp(b.silent), b.closes_mid_message(b.answers(POISON)))
    testbed = build([cut, cut])
    assert testbed.ask("www.example.").rcode == "SERVFAIL"
    for upstream in testbed.upstreams.values():
        upstream.behaviour = own_answer(0)
    eventually(lambda: set(testbed.ask("www.example.").addresses) == set(own_set(0)), timeout=8)


def test_dead_upstreams_at_start(build: BuildTestbed) -> None:
    """Dead upstreams do not keep the program from starting, nor the first answer away."""
    testbed = build([None, None, None, None, own_answer(4)], PATIENT)
    start = time.monotonic()
    assert set(testbed.ask("www.example.").addresses) == set(own_set(4))
    assert time.monotonic() - start < SOON


def test_closed_ports_are_errors_at_once(build: BuildTestbed) -> None:
    """Port unreachable ends an exchange at once, every time and not only the first."""
    testbed = build([None, None, None])
    for _ in range(12):
        reply = testbed.ask(unique_name("closed"))
        assert reply.rcode == "SERVFAIL"
        assert reply.seconds < SOON


def test_upstream_that_starts_late(build: BuildTestbed) -> None:
    """A port that was closed is asked with success as soon as somebody listens there."""
    testbed = build([None])
    for _ in range(3):
        assert testbed.ask(unique_name("late")).rcode == "SERVFAIL"
    with ScriptedUpstream(own_answer(0), testbed.endpoints[0]):
        for _ in range(20):
            reply = testbed.ask(unique_name("late"))
            assert set(reply.addresses) == set(own_set(0))
            assert reply.seconds < SOON


def test_dead_upstream_leaves_the_active_tier(build: BuildTestbed) -> None:
    """An upstream that always fails is not asked first for ever."""
    testbed = build([None, b.rcode("SERVFAIL"), *(own_answer(i, 0.01) for i in (2, 3, 4))], PATIENT)
    seconds = [testbed.ask(unique_name("dead")).seconds for _ in range(25)]
    assert max(seconds) < SOON
    names = [unique_name("order") for _ in range(3)]
    for name in names:
        testbed.ask(name)
        eventually(lambda: sum(testbed.counts(name)) >= 3)  # noqa: B023
        asked = sorted(
            (queries[0].at, i) for i, queries in enumerate(testbed.asked(name)) if queries
        )
        # Numbers count the four that have a socket: 0 is the one that says SERVFAIL.
        assert 0 not in {index for _, index in asked[:2]}


def test_upstream_comes_back(build: BuildTestbed) -> None:
    """One upstream alone fails for a while and comes back: answers come back too."""
    testbed = build([b.in_turn(*[b.rcode("SERVFAIL")] * 12, own_answer(0))])
    for _ in range(8):
        assert testbed.ask(unique_name("back")).rcode in ("SERVFAIL", "NOERROR")
    eventually(lambda: testbed.ask(unique_name("back")).rcode == "NOERROR", timeout=10)


def test_cached_hits_ask_nobody(testbed: Testbed) -> None:
    """What is in the cache costs no query, for any type."""
    for rdtype, data in (("A", "203.0.113.1"), ("MX", "10 mx.example."), ("TXT", "x")):
        name = testbed.route("hit", b.records((None, 300, rdtype, data)))
        testbed.ask(name, rdtype)
        stays(lambda: testbed.ask(name, rdtype).rcode, lambda rcode: rcode == "NOERROR", 0.3)  # noqa: B023
        assert max(testbed.counts(name)) == 1
