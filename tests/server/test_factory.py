"""The way of a query through the server, on a clock that the test winds."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import dns.edns
import dns.flags
import dns.rcode
import dns.rdatatype
import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.testing import StringTransport
from twisted.names import dns as names_dns
from twisted.names.resolve import ResolverChain
from twisted.names.server import DNSServerFactory

from staggerdns.resolver.cache import AnswerCache
from staggerdns.settings.sections import CacheSettings
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.question import make_question
from tests.kit.clients import addresses, parse
from tests.kit.connections import Connection
from tests.kit.factory import FRIEND, STRANGER, FakeForwarder, MemoryServer, pool
from tests.kit.messages import (
    NAME,
    ask,
    client_query,
    edes,
    sections_answer,
    texts,
    upstream_reply,
    wire_name,
)

if TYPE_CHECKING:
    from tests.conftest import CriticalEvents

TRANSPORTS = pytest.mark.parametrize("transport", ["udp", "tcp"])


@pytest.fixture
def server() -> MemoryServer:
    """A server with an empty cache."""
    return MemoryServer()


def negative(rcode: int = 3, ttl: int = 60) -> Any:
    """Return a negative answer to the usual question."""
    soa = f"example.com. {ttl} SOA ns.example.com. host.example.com. 1 2 3 4 {ttl}"
    return sections_answer(upstream_reply(ask(), authority=[soa], rcode=rcode), ask())


def responses(server: MemoryServer, transport: str, rcode: int) -> int:
    """Return how many responses with this code were counted on the long way."""
    return server.metrics.response(transport, rcode).value


@TRANSPORTS
def test_a_question_goes_to_the_forwarder(server: MemoryServer, transport: str) -> None:
    """What no cache has the forwarder is asked, once, and its answer is the reply."""
    query = client_query("wWw.Example.COM.", cd=True, do=True)
    replies = server.later(query, transport=transport)
    (asked,) = server.forwarder.asked
    assert asked.name == wire_name("www.example.com.")
    assert (asked.qtype, asked.qclass, asked.do, asked.cd) == (1, 1, True, True)
    assert not replies
    server.forwarder.waiting[0].callback(server.entry(pool()))
    reply = parse(replies[0])
    assert str(reply.question[0].name) == "wWw.Example.COM."
    assert addresses(reply) == ["198.18.0.0"]
    assert responses(server, transport, 0) == 1
    assert server.metrics.query(transport, 1).value == 1


@TRANSPORTS
def test_a_cached_answer(server: MemoryServer, transport: str) -> None:
    """What the cache has nobody is asked; the TTL is what is left of it."""
    server.commit(ask(), pool(ttl=100))
    for seconds, ttl in ((0, 100), (1, 99), (98, 1)):
        server.clock.advance(seconds)
        reply = server.reply(client_query("WWW.example.COM."), transport=transport)
        assert texts(reply.answer) == [f"WWW.example.COM. {ttl} A 198.18.0.0"]
    assert not server.forwarder.asked
    renewed = server.metrics.hit(transport, 1, 0).value
    assert (server.metrics.query(transport, 1).value, renewed) == (1, 2)
    assert responses(server, transport, 0) + renewed == 3


@pytest.mark.parametrize("change", [{"do": True}, {"cd": True}, {"rdtype": "AAAA"}])
def test_a_cached_answer_to_another_question(server: MemoryServer, change: dict[str, Any]) -> None:
    """DO, CD and the type make another question."""
    server.commit(ask(), pool())
    replies = server.later(client_query(**change))
    assert len(server.forwarder.asked) == 1
    assert not replies
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert len(replies) == 1


def test_names_that_look_alike(server: MemoryServer) -> None:
    """A dot within a label does not make it the cached name of two labels."""
    server.commit(make_question(wire_name("a.b.example."), 1), pool())
    assert addresses(server.reply(client_query("a.b.example."))) == ["198.18.0.0"]
    for other in (r"a\.b.example.", r"a\000b.example."):
        server.later(client_query(other))
    assert [asked.name for asked in server.forwarder.asked] == [
        wire_name(r"a\.b.example."),
        wire_name(r"a\000b.example."),
    ]
    for waiting in server.forwarder.waiting:
        waiting.callback(server.entry(pool()))


@TRANSPORTS
@pytest.mark.parametrize("payload", [None, 512, 1232, 4096])
def test_size_limits(server: MemoryServer, transport: str, payload: int | None) -> None:
    """Over UDP a reply fits the client and 1232 bytes, over TCP nothing is cut."""
    server.commit(ask(), pool(100))
    reply = server.factory.serve(client_query(payload=payload), FRIEND, transport, 0.0)
    assert isinstance(reply, bytes)
    count = len(addresses(parse(reply)))
    assert not parse(reply).flags & dns.flags.TC
    if transport == "tcp":
        assert count == 100
    else:
        limit = min(payload or 512, 1232)
        assert limit - 16 < len(reply) <= limit
        assert count < 100


@TRANSPORTS
def test_truncation(server: MemoryServer, transport: str) -> None:
    """A TXT answer of 2000 bytes is an empty reply with TC over UDP, and whole over TCP."""
    asked = ask(rdtype="TXT")
    text = " ".join('"' + "x" * 200 + '"' for _ in range(10))
    server.commit(asked, sections_answer(upstream_reply(asked, [f"{NAME} 60 TXT {text}"]), asked))
    reply = server.reply(client_query(rdtype="TXT", payload=4096), transport=transport)
    assert bool(reply.flags & dns.flags.TC) == (transport == "udp")
    assert len(reply.answer) == (transport == "tcp")


@TRANSPORTS
@pytest.mark.parametrize("payload", [None, 1232])
def test_strangers_are_refused(server: MemoryServer, transport: str, payload: int | None) -> None:
    """Clients outside the allowed ranges get REFUSED with EDE 18, and nothing from the cache."""
    server.commit(ask(), pool())
    server.reply(client_query(payload=payload))
    for query in (client_query(payload=payload), client_query(rdtype="ANY", payload=payload)):
        reply = server.reply(query, STRANGER, transport)
        assert reply.rcode() == dns.rcode.REFUSED
        assert not reply.answer
        assert edes(reply) == ([] if payload is None else [18])
        assert server.factory.ready["udp"].reply(query, STRANGER, 0.0) is None
    assert responses(server, transport, 5) == 2
    assert not server.forwarder.asked


@TRANSPORTS
def test_strangers_learn_nothing_from_broken_queries(server: MemoryServer, transport: str) -> None:
    """A malformed query from outside is REFUSED like any other, a response gets nothing."""
    broken = client_query() + b"junk"
    assert server.reply(broken, STRANGER, transport).rcode() == dns.rcode.REFUSED
    assert server.reply(broken, FRIEND, transport).rcode() == dns.rcode.FORMERR
    notify = bytearray(client_query())
    notify[2] |= 4 << 3
    assert server.reply(bytes(notify), STRANGER, transport).rcode() == dns.rcode.REFUSED
    assert server.reply(bytes(notify), FRIEND, transport).rcode() == dns.rcode.NOTIMP
    assert [responses(server, transport, code) for code in (1, 4, 5)] == [1, 1, 2]


@TRANSPORTS
def test_what_gets_no_reply(server: MemoryServer, transport: str) -> None:
    """Responses and messages shorter than a header are dropped and counted."""
    response = bytearray(client_query())
    response[2] |= 0x80
    for message in (b"", b"\0" * 11, bytes(response)):
        for host in (FRIEND, STRANGER):
            assert server.now(message, host, transport) is None
    assert server.metrics.dropped.cell(transport, "unanswerable").value == 6
    assert not server.forwarder.asked


def test_badvers(server: MemoryServer) -> None:
    """An unknown EDNS version gets BADVERS and is counted as that."""
    query = bytearray(client_query(payload=1232))
    query[-5] = 1  # the version octet of the OPT record at the end
    reply = server.reply(bytes(query))
    assert reply.rcode() == dns.rcode.BADVERS
    assert responses(server, "udp", 16) == 1


@pytest.mark.parametrize("rcode", [0, 3])
def test_negative_answers(server: MemoryServer, rcode: int) -> None:
    """A cached negative comes with the upstream's code and SOA, its TTL counting down."""
    server.commit(ask(), negative(rcode))
    server.clock.advance(20)
    reply = server.reply(client_query(payload=1232))
    assert reply.rcode() == rcode
    assert texts(reply.authority) == [
        "example.com. 40 SOA ns.example.com. host.example.com. 1 2 3 4 60"
    ]
    assert edes(reply) == []


@pytest.mark.parametrize(("rcode", "code"), [(0, 3), (3, 19)])
def test_stale_answers(server: MemoryServer, rcode: int, code: int) -> None:
    """An expired answer is given with a TTL of 5 s and an EDE, and refreshed once behind."""
    server.commit(ask(), negative(rcode) if rcode else pool(ttl=60))
    server.clock.advance(60)
    for payload in (1232, None):
        reply = server.reply(client_query(payload=payload))
        (ttl,) = {rrset.ttl for rrset in [*reply.answer, *reply.authority]}
        assert ttl == 5
        assert reply.rcode() == rcode
        assert edes(reply) == ([code] if payload else [])
    assert [question.key for question in server.forwarder.refreshed] == [ask().key]
    assert not server.forwarder.asked


@TRANSPORTS
@pytest.mark.parametrize("payload", [None, 1232])
def test_failures(server: MemoryServer, transport: str, payload: int | None) -> None:
    """When nobody answered well the client gets SERVFAIL, and the reason in an EDE."""
    replies = server.later(client_query(payload=payload), transport=transport)
    server.forwarder.waiting[0].callback(server.entry(FailureAnswer(23, 1)))
    reply = parse(replies[0])
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert edes(reply) == ([23] if payload else [])
    assert responses(server, transport, 2) == 1


def test_a_remembered_failure(server: MemoryServer) -> None:
    """A failure in the cache is given for a second, and never ready as bytes."""
    server.commit(ask(), FailureAnswer(22, 1))
    reply = server.reply(client_query(payload=1232))
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert edes(reply) == [22]
    assert len(server.factory.ready["udp"]) == 0
    server.clock.advance(1)
    server.later(client_query())
    assert len(server.forwarder.asked) == 1
    server.forwarder.waiting[0].callback(server.entry(pool()))


@TRANSPORTS
def test_a_defect_behind_is_a_servfail(
    server: MemoryServer, transport: str, critical_events: CriticalEvents
) -> None:
    """An unexpected error costs one SERVFAIL and is logged with its traceback."""
    replies = server.later(client_query(payload=1232), transport=transport)
    server.forwarder.waiting[0].errback(ZeroDivisionError("a defect"))
    reply = parse(replies[0])
    assert reply.rcode() == dns.rcode.SERVFAIL
    assert edes(reply) == [0]
    (event,) = critical_events.flush()
    assert event["log_failure"].check(ZeroDivisionError)
    drained: list[None] = []
    server.factory.drain().addCallback(drained.append)
    assert drained == [None]


def test_a_client_that_goes_away(server: MemoryServer) -> None:
    """Cancelling a reply cancels the wait behind it, as itself, and nobody waits for it."""
    reply = server.factory.serve(client_query(), FRIEND, "tcp", server.clock.seconds())
    assert isinstance(reply, Deferred)
    failures: list[Any] = []
    reply.addErrback(failures.append)
    reply.cancel()
    assert server.forwarder.cancelled == server.forwarder.waiting
    assert failures[0].check(CancelledError)
    drained: list[None] = []
    server.factory.drain().addCallback(drained.append)
    assert drained == [None]


def test_drain(server: MemoryServer) -> None:
    """Draining ends when the last of those who wait has been answered, and behind that reply."""
    drained: list[str] = []
    replies = [server.later(client_query()), server.later(client_query("other.example."))]
    server.factory.drain().addCallback(lambda _: drained.append("drained"))
    server.forwarder.waiting[1].callback(server.entry(pool()))
    server.clock.advance(0)
    assert not drained
    server.forwarder.waiting[0].callback(server.entry(pool()))
    server.clock.advance(0)
    assert drained == ["drained"]
    assert [len(found) for found in replies] == [1, 1]
    assert not server.clock.getDelayedCalls()


def test_a_cached_reply_is_ready_for_a_second(server: MemoryServer) -> None:
    """The reply that the long way gives is what the short way gives, until its TTL would lie."""
    server.commit(ask(), pool(3, ttl=100))
    server.clock.advance(0.25)
    query = client_query("WWW.example.com.", id=1, payload=1232)
    same = client_query("WWW.example.com.", id=2, payload=1232)
    assert server.factory.ready["udp"].reply(query, FRIEND, 0.25) is None
    long_way = server.factory.serve(query, FRIEND, "udp", server.clock.seconds())
    assert isinstance(long_way, bytes)
    for now in (0.25, 0.999):
        ready = server.factory.ready["udp"].reply(same, FRIEND, now)
        assert ready == b"\0\2" + long_way[2:]
    assert server.factory.ready["udp"].reply(same, FRIEND, 1.0) is None
    hits = server.metrics.hit("udp", 1, 0).value
    assert hits == 2
    server.clock.advance(0.75)
    assert {rrset.ttl for rrset in server.reply(same).answer} == {99}


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_without_recursion_desired(server: MemoryServer, transport: str) -> None:
    """RD=0 is refused with EDE 20 (RFC 8914 section 4.21), whether the answer is cached or not: it
    asks no upstream, shows nothing of what others asked for, and does not refresh anything.
    """
    query = client_query(rd=False, payload=1232)
    replies = [server.reply(query, transport=transport)]
    server.commit(ask(), pool(ttl=60))
    replies.append(server.reply(query, transport=transport))
    server.clock.advance(61)
    replies.append(server.reply(query, transport=transport))
    for reply in replies:
        assert reply.rcode() == dns.rcode.REFUSED
        assert not reply.flags & dns.flags.RD
        assert [option.code for option in reply.options] == [20]
        assert (reply.answer, reply.authority) == ([], [])
    assert (server.forwarder.asked, server.forwarder.refreshed) == ([], [])
    assert server.factory.ready["udp"].reply(query, FRIEND, 0.0) is None


def test_local_names_without_recursion_desired(server: MemoryServer) -> None:
    """What is answered here is answered, recursion or not."""
    reply = server.reply(client_query("localhost.", rd=False))
    assert addresses(reply) == ["127.0.0.1"]


@pytest.mark.parametrize(
    "change",
    [
        {"name": "www.example.COM."},
        {"ad": True},
        {"cd": True},
        {"do": True},
        {"payload": 512},
        {"payload": None},
        {"rdtype": "AAAA"},
    ],
)
def test_a_ready_reply_is_for_the_very_same_query(
    server: MemoryServer, change: dict[str, Any]
) -> None:
    """Any difference behind the ID takes the long way."""
    server.commit(ask(), pool())
    server.reply(client_query(payload=1232))
    assert server.factory.ready["udp"].reply(client_query(payload=1232), FRIEND, 0.0) is not None
    other = client_query(**{"payload": 1232, **change})
    assert server.factory.ready["udp"].reply(other, FRIEND, 0.0) is None


def test_a_new_answer_voids_ready_replies(server: MemoryServer) -> None:
    """As soon as the pool has grown the old reply is gone."""
    server.commit(ask(), pool(1))
    query = client_query()
    assert addresses(server.reply(query)) == ["198.18.0.0"]
    server.commit(ask(), pool(2))
    assert server.factory.ready["udp"].reply(query, FRIEND, 0.0) is None
    assert addresses(server.reply(query)) == ["198.18.0.0", "198.18.0.1"]


def test_what_is_never_ready(server: MemoryServer) -> None:
    """Stale replies, replies over TCP and to queries with options take the long way each time."""
    server.commit(ask(), pool(ttl=60))
    server.reply(client_query(), transport="tcp")
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    server.reply(client_query(options=[cookie]))
    server.clock.advance(60)
    server.reply(client_query())
    assert len(server.factory.ready["udp"]) == 0


def test_a_ready_reply_ends_with_its_entry(server: MemoryServer) -> None:
    """A reply made in the last second of an entry is void at its end, not a second later."""
    server.commit(ask(), pool(ttl=1))
    server.clock.advance(0.5)
    query = client_query()
    assert {rrset.ttl for rrset in server.reply(query).answer} == {1}
    assert server.factory.ready["udp"].reply(query, FRIEND, 0.999) is not None
    assert server.factory.ready["udp"].reply(query, FRIEND, 1.0) is None


def test_it_is_the_factory_that_twisted_knows(server: MemoryServer) -> None:
    """The factory is a `DNSServerFactory` whose chain is first the cache, then the forwarder."""
    assert isinstance(server.factory, DNSServerFactory)
    chain = server.factory.resolver
    assert isinstance(chain, ResolverChain)
    caching, forwarding = chain.resolvers
    assert (caching.cache, forwarding.forwarder) == (server.cache, server.forwarder)


class Wire:
    """A transport, datagram and stream in one, that keeps what is written."""

    def __init__(self) -> None:
        self.transport = self
        self.written: list[tuple[bytes, Any]] = []

    def write(self, data: bytes, address: Any = None) -> None:
        """Keep ``data``."""
        self.written.append((data, address))

    def getPeer(self) -> Any:
        """Return the peer of a stream."""
        return type("Peer", (), {"host": FRIEND})


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("address", [None, (FRIEND, 5353)])
def test_decoded_messages(
    server: MemoryServer, address: tuple[str, int] | None, waiting: bool
) -> None:
    """Twisted's own protocols may stand in front: the reply goes back the way of the message."""
    if not waiting:
        server.commit(ask(), pool())
    message = names_dns.Message(id=77, recDes=1)
    message.addQuery(NAME.encode().rstrip(b"."), names_dns.A)
    wire = Wire()
    server.factory.messageReceived(message, wire, address)  # type: ignore[arg-type]
    if waiting:
        assert not wire.written
        server.forwarder.waiting[0].callback(server.entry(pool()))
    ((data, to),) = wire.written
    assert to == address
    if address is None:
        assert struct.unpack("!H", data[:2])[0] == len(data) - 2
        data = data[2:]
    reply = parse(data)
    assert reply.id == 77
    assert addresses(reply) == ["198.18.0.0"]


def test_connections_of_twisted(server: MemoryServer) -> None:
    """Twisted's own protocols over TCP take no place among our connections, and none from them."""
    theirs = names_dns.DNSProtocol(server.factory)
    theirs.makeConnection(StringTransport())
    ours = [Connection(server) for _ in range(3)]
    assert not any(connection.aborted() for connection in ours)
    assert server.factory.client_connections.open == [one.protocol for one in ours]
    assert server.factory.connections == [theirs]
    for connection in ours:
        connection.lost()


def test_decoded_responses_get_no_reply(server: MemoryServer) -> None:
    """Not even decoded by Twisted is a response answered."""
    wire = Wire()
    response = names_dns.Message(id=77, answer=1)
    server.factory.messageReceived(response, wire, (FRIEND, 53))  # type: ignore[arg-type]
    assert not wire.written


@pytest.mark.parametrize("transport", ["tcp", "tls", "https"])
def test_one_reading_of_the_clock(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch, transport: str
) -> None:
    """A message has one time, when it came; how long its reply took needs one more reading."""
    real, readings = server.clock.seconds, []

    def seconds() -> float:
        readings.append(real())
        return real()

    monkeypatch.setattr(server.clock, "seconds", seconds)
    later = server.factory.serve_stream(client_query(), FRIEND, transport)
    assert isinstance(later, Deferred)
    assert len(readings) == 1
    found = server.entry(pool())
    readings.clear()
    server.forwarder.waiting[0].callback(found)
    assert len(readings) == 1
    server.commit(ask(), pool())
    readings.clear()
    assert isinstance(server.factory.serve_stream(client_query(), FRIEND, transport), bytes)
    assert len(readings) == 2


def test_cache_and_forwarder_may_be_replaced(server: MemoryServer) -> None:
    """Each message is for the cache and the forwarder that stand behind the adapters then."""
    caching, forwarding = server.factory.resolver.resolvers
    server.commit(ask(), pool(1))
    waiting = server.later(client_query("other.example."))
    old, old_forwarder = server.cache, server.forwarder
    server.cache = caching.cache = AnswerCache(CacheSettings(), server.metrics)
    server.forwarder = forwarding.forwarder = FakeForwarder()
    server.commit(ask(), pool(2))
    assert len(server.reply(client_query()).answer[0]) == 2
    server.later(client_query("third.example."))
    assert (len(old_forwarder.asked), len(server.forwarder.asked)) == (1, 1)
    old_forwarder.waiting[0].callback(server.entry(pool(3)))
    assert len(parse(waiting[0]).answer[0]) == 3
    assert len(old) == 1
