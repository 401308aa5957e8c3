"""What is told of replies as they leave, and that nothing is done for it while nobody listens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from staggerdns.server.answered import Answered, AnswerHub
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.doh import DohResource, Response
from staggerdns.server.sources import SOURCES
from staggerdns.settings.addresses import parse_listener
from staggerdns.settings.sections import RateLimitSettings
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.names import from_text
from tests.kit.clients import addresses, parse
from tests.kit.compiled import PURE_ONLY
from tests.kit.connections import Connection
from tests.kit.factory import EPOCH, FRIEND, STRANGER, MemoryServer, pool
from tests.kit.listed import ListedProgram
from tests.kit.messages import ask, client_query, upstream_reply

if TYPE_CHECKING:
    from tests.conftest import CriticalEvents

PORT = 5353


class Socket:
    """Gives datagrams from one client, and keeps what is sent."""

    def __init__(self) -> None:
        self.come: list[bytes] = []
        self.sent: list[bytes] = []

    def recvfrom(self, size: int) -> tuple[bytes, tuple[str, int]]:
        """Give the next datagram, as a socket that does not block."""
        if not self.come:
            raise BlockingIOError
        return self.come.pop(0), (FRIEND, PORT)

    def sendto(self, message: bytes, address: tuple[str, int]) -> None:
        """Keep a datagram."""
        self.sent.append(message)


class ObservedServer(MemoryServer):
    """A server with one answer in its cache, and what is told of its replies."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.told: list[Answered] = []
        self.socket = Socket()
        self.context = self.factory.listener_context(parse_listener("192.0.2.1:53"))
        reactor = cast("Any", MemoryReactor())
        self.port = DatagramPort(53, "192.0.2.1", reactor, self.factory, self.context)
        self.port.socket = cast("Any", self.socket)
        self.commit(ask(), pool(2))

    def listen(self) -> None:
        """Hear of replies from now on."""
        self.leave = self.factory.answers.subscribe(self.told.append)

    def datagrams(self, *messages: bytes) -> list[bytes]:
        """Read these at one wake-up; what is sent."""
        self.socket.come.extend(messages)
        self.socket.sent = []
        self.port.doRead()
        self.clock.advance(0)
        return self.socket.sent

    def serve(self, query: bytes, host: str = FRIEND) -> bytes:
        """Answer one message at once."""
        reply = self.factory.serve(query, host, "udp", 0.0)
        assert isinstance(reply, bytes)
        self.clock.advance(0)
        return reply

    @property
    def sources(self) -> list[str]:
        """Where the replies came from that were told of; they are forgotten."""
        found = [one.source for one in self.told]
        self.told.clear()
        return found


@pytest.fixture
def server() -> ObservedServer:
    """A server to which somebody listens."""
    made = ObservedServer()
    made.listen()
    return made


def test_an_event(server: ObservedServer) -> None:
    """It has the octets of both messages, who asked and how, and when; the rest is read of them."""
    query = client_query("WWW.Example.com.", id=7)
    server.clock.advance(3)
    (reply,) = server.datagrams(query)
    (told,) = server.told
    assert (told.query, told.reply) == (query, reply)
    assert (told.client, told.transport, str(told.listener)) == (FRIEND, "udp", "192.0.2.1:53")
    assert (told.time, told.seconds, told.source, told.list) == (EPOCH + 3, 0, "cache", "")
    assert (told.name, told.name_text) == (from_text("www.example.com"), "www.example.com.")
    assert (told.qtype, told.type_text, told.rcode, told.rcode_text) == (1, "A", 0, "NOERROR")
    assert told.addresses == addresses(parse(reply)) == ["198.18.0.0", "198.18.0.1"]


def test_ready_replies_over_udp(server: ObservedServer) -> None:
    """Each of a batch is told of, whether it was ready, was renewed or has been made."""
    first = server.datagrams(client_query(id=1))
    assert server.sources == ["cache"]
    again = server.datagrams(client_query(id=2), client_query(id=3))
    assert [message[2:] for message in again] == [first[0][2:]] * 2
    assert [(told.query, told.reply, told.source) for told in server.told] == [
        (client_query(id=number), reply, "cache")
        for number, reply in zip((2, 3), again, strict=True)
    ]
    assert str(server.told[0].listener) == "192.0.2.1:53"
    assert server.metrics.hit("udp", 1, 0).value == 2, "they were ready"
    server.told.clear()
    server.clock.advance(1)
    (renewed,) = server.datagrams(client_query(id=4))
    assert (server.told[0].reply, server.sources) == (renewed, ["cache"])
    assert server.metrics.hit("udp", 1, 0).value == 3


def test_streams(server: ObservedServer) -> None:
    """Over TCP, and over HTTPS, each reply is told of with its transport."""
    connection = Connection(server)
    resource = DohResource(server.factory, "/dns-query")
    for _ in range(2):
        connection.send(client_query(id=1), client_query(id=2))
        response = resource.answer(
            b"POST", b"/dns-query", b"application/dns-message", client_query(id=0), FRIEND
        )
        assert isinstance(response, Response)
        server.clock.advance(0)
        assert server.told[-1].reply == response.body
    assert [told.transport for told in server.told] == ["tcp", "tcp", "https"] * 2
    assert connection.ids == [1, 2] * 2
    assert server.sources == ["cache"] * 6
    assert server.metrics.hit("tcp", 1, 0).value == 3
    assert server.metrics.hit("https", 1, 0).value == 1
    connection.lost()


def test_who_was_waited_for(server: ObservedServer) -> None:
    """An answer of upstreams is told of when it comes, with the time that it took; so is that they
    have none, and nothing is told of a reply that nobody waits for any more.
    """
    server.datagrams(client_query("later.example.", id=1), client_query("failing.example.", id=2))
    assert server.told == []
    server.clock.advance(0.25)
    waiting = server.forwarder.waiting
    waiting[0].callback(server.entry(pool()))
    waiting[1].callback(server.entry(FailureAnswer(22, 5)))
    server.clock.advance(0)
    assert [(told.source, told.seconds, told.rcode_text) for told in server.told] == [
        ("upstream", 0.25, "NOERROR"),
        ("upstream", 0.25, "SERVFAIL"),
    ]
    connection = Connection(server)
    connection.send(client_query("gone.example."))
    connection.lost()
    assert len(server.told) == 2


def test_stale(server: ObservedServer) -> None:
    """An answer that has expired is another source than the cache."""
    server.clock.advance(301)
    server.datagrams(client_query())
    assert server.sources == ["stale"]


@pytest.mark.parametrize(
    ("query", "host", "source", "rcode"),
    [
        (client_query("localhost."), FRIEND, "local", "NOERROR"),
        (client_query("no.invalid."), FRIEND, "local", "NXDOMAIN"),
        (client_query(rdtype="ANY"), FRIEND, "local", "NOERROR"),
        (client_query(), STRANGER, "refused", "REFUSED"),
        (client_query(rdtype="AXFR"), FRIEND, "refused", "REFUSED"),
        (client_query()[:-1], FRIEND, "refused", "FORMERR"),
        (client_query()[:-1], STRANGER, "refused", "REFUSED"),
        (b"\0\1\x10" + client_query()[3:], FRIEND, "refused", "NOTIMP"),
    ],
)
def test_what_is_said_here(
    server: ObservedServer, query: bytes, host: str, source: str, rcode: str
) -> None:
    """Names of ours, and what is refused."""
    reply = server.serve(query, host)
    (told,) = server.told
    assert (told.source, told.rcode_text, told.client) == (source, rcode, host)
    assert (told.query, told.reply) == (query, reply)


def test_no_question(server: ObservedServer) -> None:
    """A query that has none, or a broken one, has no name and no type."""
    header = b"\0\1\1\0" + bytes(8)
    server.serve(header)
    (told,) = server.told
    assert (told.name, told.name_text, told.qtype, told.type_text) == (b"", "", 0, "")
    assert (told.addresses, told.rcode_text) == ([], "FORMERR")


@pytest.mark.parametrize(("version", "rcode"), [(1, "BADVERS"), (0, "NOERROR")])
def test_codes_of_edns(server: ObservedServer, version: int, rcode: str) -> None:
    """The part of a response code that is in the OPT record counts."""
    query = bytearray(client_query(payload=1232))
    query[-5] = version
    server.serve(bytes(query))
    assert [told.rcode_text for told in server.told] == [rcode]


def test_beyond_the_rate_limit() -> None:
    """The small reply that sends a client to TCP is refused; what gets none is not told of."""
    server = ObservedServer(
        rate=RateLimitSettings(queries_per_second=1, burst=2, slip=2), cookies=False
    )
    server.listen()
    assert len(server.datagrams(*[client_query()] * 4)) == 3
    assert sorted(server.sources) == ["cache", "cache", "refused"]


def test_blocked() -> None:
    """A name that is blocked, and an answer that leads to one, with the list; also from the
    cache.
    """
    running = ListedProgram(ads="{}")
    running.lists.put(ads=["ads.example"])
    told: list[Answered] = []
    running.service.factory.answers.subscribe(told.append)
    running.ask("x.ads.example")
    running.answer("www.example")
    running.answer("www.example")
    running.lists.put(ads=["www.example"])
    running.answer("www.example")
    running.wait(0)
    assert [(one.source, one.list, one.name_text, one.addresses) for one in told] == [
        ("blocked", "ads", "x.ads.example.", ["0.0.0.0"]),
        ("upstream", "", "www.example.", ["203.0.2.1"]),
        ("cache", "", "www.example.", ["203.0.2.1"]),
        ("blocked", "ads", "www.example.", ["0.0.0.0"]),
    ]
    assert {one.source for one in told} <= {*SOURCES}
    running.close()


def test_nobody_listens() -> None:
    """Nothing is made, and replies are ready at the port."""
    server = ObservedServer()
    assert not server.factory.answers.active
    server.datagrams(client_query(id=1))
    ready = server.context.ready["udp"]
    assert ready.reply(client_query(id=2), FRIEND, 0.0) is not None


def test_listening_begins_and_ends() -> None:
    """Replies that were ready are told of as well, from the first one on; when nobody listens any
    more, they are ready at the port again.
    """
    server = ObservedServer()
    ready = server.context.ready["udp"]
    for _ in range(2):
        server.datagrams(client_query(id=1))
        assert ready.reply(client_query(), FRIEND, 0.0) is not None
        server.listen()
        assert server.factory.answers.active
        assert ready.reply(client_query(), FRIEND, 0.0) is None, "the port has to ask"
        assert len(server.datagrams(client_query(id=2), client_query(id=3))) == 2
        assert ready.reply(client_query(), FRIEND, 0.0) is None
        assert server.sources == ["cache"] * 2
        server.leave()
        server.datagrams(client_query(id=4))
        assert ready.reply(client_query(), FRIEND, 0.0) is not None
        assert server.told == []


def test_replies_are_forgotten_while_somebody_listens(server: ObservedServer) -> None:
    """As they are at other times: a reload, a list or a dead entry makes them void."""
    server.datagrams(client_query())
    hits = server.metrics.hit("udp", 1, 0)
    server.factory.forget_ready()
    server.datagrams(client_query())
    assert hits.value == 0
    server.commit(ask(), pool(3))
    (reply,) = server.datagrams(client_query())
    assert (len(addresses(parse(reply))), hits.value) == (3, 0)
    assert server.sources == ["cache"] * 3


def test_several_listeners() -> None:
    """Each hears of all from when it begins until it leaves, which it may do more than once."""
    server = ObservedServer()
    heard: list[list[Answered]] = [[], [], []]
    leave = []
    for listener in heard[:2]:
        leave.append(server.factory.answers.subscribe(listener.append))
        server.datagrams(client_query())
    leave += [server.factory.answers.subscribe(heard[2].append)]
    leave[0]()
    leave[0]()
    server.datagrams(client_query())
    assert [len(events) for events in heard] == [2, 2, 1]
    assert heard[1][1] is heard[2][0]
    leave[1]()
    assert server.factory.answers.active
    leave[2]()
    assert not server.factory.answers.active


def test_the_same_listener_twice(server: ObservedServer) -> None:
    """It hears of everything twice, until it leaves once."""
    leave = server.factory.answers.subscribe(server.told.append)
    server.leave()
    server.datagrams(client_query())
    assert len(server.told) == 1
    leave()
    assert not server.factory.answers.active


def test_a_listener_that_fails(server: ObservedServer, critical_events: CriticalEvents) -> None:
    """It hears of no more, which is logged; replies leave, and others hear of them."""

    def fail(answered: Answered) -> None:
        raise ZeroDivisionError

    server.factory.answers.subscribe(fail)
    other: list[Answered] = []
    server.factory.answers.subscribe(other.append)
    for _ in range(2):
        assert len(server.datagrams(client_query())) == 1
    assert len(server.told) == len(other) == 2
    assert len(critical_events.flush()) == 1


def test_a_listener_that_leaves_as_it_hears(server: ObservedServer) -> None:
    """It may; others hear of the same reply all the same."""
    heard: list[Answered] = []

    def hear(answered: Answered) -> None:
        heard.append(answered)
        leave()

    leave = server.factory.answers.subscribe(hear)
    other: list[Answered] = []
    server.factory.answers.subscribe(other.append)
    server.datagrams(client_query(), client_query())
    assert (len(heard), len(other)) == (1, 2)


def test_reading_a_reply_with_other_records() -> None:
    """Addresses of both families are found behind CNAMEs, and nothing else is taken for one."""
    asked = ask(rdtype="AAAA")
    records = [
        "www.example.com. 60 CNAME other.example.",
        "other.example. 60 AAAA 2001:db8::1",
        "other.example. 60 AAAA 2001:db8::2",
    ]
    extra = ["ns.example. 60 A 192.0.2.1"]
    message = upstream_reply(asked, records, additional=extra)
    event = Answered(0.0, FRIEND, "udp", None, b"", message, "upstream", 0.0)
    assert event.addresses == ["2001:db8::1", "2001:db8::2"]
    assert event.type_text == "AAAA"


@PURE_ONLY
@given(st.binary(min_size=1, max_size=63).filter(lambda label: label.lower() == label))
def test_any_name(label: bytes) -> None:
    """Whatever octets a name has, what is shown of it is printable ASCII, without blanks."""
    query = b"\0\1\1\0\0\1" + bytes(6) + bytes((len(label),)) + label + b"\0\0\1\0\1"
    server = ObservedServer()
    server.listen()
    reply = server.factory.serve(query, FRIEND, "udp", 0.0)
    if isinstance(reply, Deferred):
        server.forwarder.waiting[0].callback(server.entry(pool()))
    server.clock.advance(0)
    (told,) = server.told
    text = told.name_text
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    assert told.name == query[12:-4].lower()


def test_all_are_sent_first(server: ObservedServer) -> None:
    """Nobody hears of a reply before those that go out with it; whoever leaves has heard of all."""
    server.socket.come = [client_query(id=1), client_query("no.invalid.", id=2)]
    server.port.doRead()
    assert (len(server.socket.sent), server.told) == (2, [])
    server.leave()
    assert [told.query[:2] for told in server.told] == [b"\0\1", b"\0\2"]
    assert not server.clock.getDelayedCalls()


def test_a_hub_alone() -> None:
    """It tells whoever has asked for it when it becomes active and when it is no more."""
    hub = AnswerHub(lambda: 0.0, cast("Any", None), Clock())
    seen: list[bool] = []
    hub.on_switch(seen.append)
    leave = [hub.subscribe(lambda _: None) for _ in range(2)]
    for each in leave:
        each()
    assert seen == [True, False]
