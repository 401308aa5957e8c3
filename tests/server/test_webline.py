"""HTTPS connections, both versions of HTTP, on a clock: what keeps them open, and who has to go."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, cast

import h2.config
import h2.connection
import h2.events
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure

from staggerdns.server.https import MAX_HELD, dns_site
from staggerdns.server.webline import MAX_GIVEN_UP
from staggerdns.wire.constants import MAX_MESSAGE
from tests.server.rooms import FRIEND, STRANGER, Room, pool
from tests.wire.messages import client_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.logger import ILogObserver, LogEvent

IDLE = 10.0
TYPE = "application/dns-message"
QUERY = base64.urlsafe_b64encode(client_query("www.example")).rstrip(b"=").decode()
ASK = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "x"),
    (":path", f"/dns-query?dns={QUERY}"),
]


class Transport(StringTransport):
    """Memory where TLS would be; ``over``: it was closed or aborted."""

    def __init__(self, host: str, protocol: bytes) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 4711), lenient=True)
        self.negotiatedProtocol = protocol

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing: there is no TCP."""

    def over(self) -> bool:
        """Whether the server has closed the connection, in order or not."""
        return bool(self.disconnecting or self.disconnected)

    def aborted(self) -> bool:
        """Whether the server has broken the connection."""
        return bool(self.disconnected)


class Client:
    """A connection to the site of ``room`` with HTTP/2, or with HTTP/1.1 in `Client1`."""

    protocol = b"h2"

    def __init__(self, room: Room, host: str = FRIEND) -> None:
        self._room = room
        self.transport = Transport(host, self.protocol)
        self.line: Any = dns_site(room.factory, "/dns-query").buildProtocol(
            IPv4Address("TCP", host, 4711)
        )
        self.line.makeConnection(self.transport)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.events: list[Any] = []
        self.start()

    def start(self) -> None:
        """Say hello."""
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        """Send what h2 has to say, and take what the server says."""
        self.line.dataReceived(self.h2.data_to_send())
        self.read()

    def read(self) -> None:
        """Take what the server says."""
        for _ in range(4):  # turns in which it writes
            self._room.clock.advance(0)
        data = self.transport.value()
        self.transport.clear()
        if data:
            self.events += self.h2.receive_data(data)

    def head(self, length: int | None = None) -> int:
        """Begin a request with a body; the number of its stream."""
        stream = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "https"), (":authority", "x")]
        fields += [(":path", "/dns-query"), ("content-type", TYPE)]
        if length is not None:
            fields.append(("content-length", str(length)))
        self.h2.send_headers(stream, fields)
        self.flush()
        return stream

    def body(self, stream: int, data: bytes, *, last: bool = True) -> None:
        """Send a part of the body."""
        self.h2.send_data(stream, data, end_stream=last)
        self.flush()

    def ask(self, name: str = "www.example") -> None:
        """Send a query."""
        self.body(self.head(), client_query(name))

    def statuses(self) -> list[bytes]:
        """The statuses of all responses so far."""
        self.read()
        heads = [event for event in self.events if isinstance(event, h2.events.ResponseReceived)]
        return [value for event in heads for name, value in event.headers if name == b":status"]

    def replies(self) -> int:
        """How many replies are there."""
        self.read()
        return sum(isinstance(event, h2.events.StreamEnded) for event in self.events)

    def lost(self) -> None:
        """The connection is gone."""
        why = ConnectionAborted() if self.transport.aborted() else ConnectionDone()
        self.line.connectionLost(Failure(why))


class Client1(Client):
    """The same with HTTP/1.1."""

    protocol = b"http/1.1"

    def start(self) -> None:
        """Say nothing: there is no hello."""
        self._got = b""

    def read(self) -> None:
        """Take what the server says."""
        self._got += self.transport.value()
        self.transport.clear()

    def head(self, length: int | None = None) -> int:
        """Begin a request with a body."""
        size = f"content-length: {length}" if length is not None else "transfer-encoding: chunked"
        head = f"POST /dns-query HTTP/1.1\r\nhost: x\r\ncontent-type: {TYPE}\r\n{size}\r\n\r\n"
        self.line.dataReceived(head.encode())
        return 1

    def body(self, stream: int, data: bytes, *, last: bool = True) -> None:
        """Send a part of the body."""
        self.line.dataReceived(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        if last:
            self.line.dataReceived(b"0\r\n\r\n")

    def replies(self) -> int:
        """How many replies are there."""
        self.read()
        return self._got.count(b"HTTP/1.1 200")


@pytest.fixture
def room() -> Room:
    """A server whose connections may be idle for `IDLE`."""
    return Room(idle_timeout=IDLE)


@pytest.fixture(params=[Client, Client1], ids=["h2", "http/1.1"])
def kind(request: pytest.FixtureRequest) -> type[Client]:
    """Each version of HTTP."""
    found: type[Client] = request.param
    return found


@pytest.fixture
def log() -> Iterator[list[LogEvent]]:
    """All that is logged."""
    events: list[LogEvent] = []
    observer = cast("ILogObserver", events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def test_idle(room: Room, kind: type[Client], log: list[LogEvent]) -> None:
    """A connection is closed the idle timeout after its last reply, not before, and no line of the
    log tells of it.
    """
    client = kind(room)
    room.clock.advance(IDLE - 1)
    room.forwarder.instant = room.entry(pool())
    client.ask()
    assert client.replies() == 1
    room.clock.advance(IDLE - 0.1)
    assert not client.transport.over()
    room.clock.advance(0.2)
    assert client.transport.over()
    assert not client.transport.aborted()
    room.clock.advance(IDLE)
    assert client.transport.aborted(), "a client that does not let us close"
    client.lost()
    assert not room.clock.getDelayedCalls()
    assert log == []


def test_silence(room: Room, kind: type[Client], log: list[LogEvent]) -> None:
    """A connection on which nothing ever comes is broken, and no line of the log tells of it."""
    client = kind(room) if kind is Client1 else Silent(room)
    room.clock.advance(IDLE + 0.1)
    assert client.transport.aborted()
    client.lost()
    assert not room.clock.getDelayedCalls()
    assert log == []


class Silent(Client):
    """Does not even say hello."""

    def start(self) -> None:
        """Say nothing."""


def test_queries_under_way(room: Room, kind: type[Client]) -> None:
    """A query that takes longer than the idle timeout gets its answer; then idling begins."""
    client = kind(room)
    client.ask()
    for _ in range(5):
        room.clock.advance(IDLE - 1)
    assert not client.transport.over()
    room.forwarder.waiting[0].callback(room.entry(pool()))
    assert client.replies() == 1
    room.clock.advance(IDLE - 0.1)
    assert not client.transport.over()
    room.clock.advance(0.2)
    assert client.transport.over()
    client.lost()


def trickle(room: Room, client: Client, drop: Any) -> float:
    """Send drops each second until the server has enough; seconds."""
    for _ in range(40):
        room.clock.advance(1)
        if client.transport.over():
            break
        drop()
    return room.clock.seconds()


def test_bodies_in_trickles(room: Room, kind: type[Client], log: list[LogEvent]) -> None:
    """A body has to be complete within the idle timeout, whatever trickles meanwhile."""
    client = kind(room)
    stream = client.head()
    assert trickle(room, client, lambda: client.body(stream, b"x", last=False)) == IDLE
    client.lost()
    assert room.forwarder.asked == []
    assert log == []


def test_heads_in_trickles(room: Room) -> None:
    """So has a head."""
    client = Client1(room)
    client.line.dataReceived(b"GET /dns-query HTTP/1.1\r\n")
    assert trickle(room, client, lambda: client.line.dataReceived(b"x: y\r\n")) == IDLE
    client.lost()


def test_frames_that_ask_nothing(room: Room) -> None:
    """PINGs, SETTINGS, window updates and streams that are opened and reset keep nothing open."""
    client = Client(room)

    def drop() -> None:
        client.h2.ping(b"12345678")
        client.h2.update_settings({})
        client.h2.increment_flow_control_window(1)
        client.h2.reset_stream(client.head())
        client.flush()

    assert trickle(room, client, drop) == IDLE
    client.lost()
    assert not room.clock.getDelayedCalls()


def test_head_requests_are_not_logged(room: Room, log: list[LogEvent], kind: type[Client]) -> None:
    """What a client asks with HEAD is no matter for the log either."""
    encoded = base64.urlsafe_b64encode(client_query("localhost")).rstrip(b"=").decode()
    client = kind(room)
    path = f"/dns-query?dns={encoded}"
    if kind is Client1:
        client.line.dataReceived(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    else:
        fields = [(":method", "HEAD"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        client.h2.send_headers(1, fields, end_stream=True)
        client.flush()
    assert client.replies() == 1
    client.lost()
    assert log == []


def test_who_floods_and_does_not_read(room: Room, log: list[LogEvent]) -> None:
    """A client that wants PINGs answered and takes nothing is dropped, without a line."""
    client = Client(room)
    client.line._channel.pauseProducing()
    for _ in range(2_000):
        client.h2.ping(b"12345678")
    client.line.dataReceived(client.h2.data_to_send())
    assert client.transport.aborted()
    client.lost()
    assert log == []


def test_the_longest_idle_one_makes_room(kind: type[Client]) -> None:
    """At the limit the one leaves that has been without a request for the longest."""
    room = Room(max_connections=3)
    held = []
    for _ in range(3):
        held.append(kind(room))
        room.clock.advance(1)
    held[0].ask("busy.example")
    stream = held[1].head()
    held[1].body(stream, b"x", last=False)  # is no request
    newcomer = kind(room)
    assert [client.transport.aborted() for client in held] == [False, True, False]
    assert room.factory.connections == [held[0].line, held[2].line, newcomer.line]
    assert room.metrics.tcp_refused.cell().value == 0
    held[1].lost()
    assert len(room.factory.connections) == 3, "its place is given once, not twice"
    for client in (held[0], held[2], newcomer):
        client.lost()
    assert room.factory.connections == []
    assert not room.clock.getDelayedCalls()


def test_no_room(kind: type[Client]) -> None:
    """While requests are under way on all connections one more is refused, and counted."""
    room = Room(max_connections=3)
    held = [kind(room) for _ in range(3)]
    for client in held:
        client.ask()
    refused = Silent(room)
    assert refused.transport.aborted()
    refused.lost()
    assert room.metrics.tcp_refused.cell().value == 1
    assert not any(client.transport.over() for client in held)
    for client in held:
        client.lost()
    assert not room.clock.getDelayedCalls()


def test_strangers(room: Room) -> None:
    """Whoever may not ask is turned away, and takes nobody's place."""
    stranger = Silent(room, STRANGER)
    assert stranger.transport.aborted()
    assert room.factory.connections == []
    assert room.metrics.tcp_refused.cell().value == 1
    stranger.lost()
    assert not room.clock.getDelayedCalls()


def test_the_end(room: Room, kind: type[Client]) -> None:
    """When the server stops, idle connections are closed at once; no request is taken any more."""
    idle, busy = kind(room), kind(room)
    room.forwarder.instant = room.entry(pool())
    idle.ask()
    room.forwarder.instant = None
    busy.ask("busy.example")
    for client in (idle, busy):
        client.line.stop_reading()
    assert idle.transport.over()
    assert not busy.transport.over()
    busy.ask("late.example")
    assert len(room.forwarder.asked) == 2
    room.forwarder.waiting[0].callback(room.entry(pool()))
    assert busy.replies() == 1
    busy.line.close()
    busy.line.close()
    assert busy.transport.over()
    for client in (idle, busy):
        client.lost()
    assert not room.clock.getDelayedCalls()


def test_bodies_that_wait(room: Room) -> None:
    """The bodies that a connection holds are bounded together, and one past that is refused; those
    that are given up make room.
    """
    client = Client(room)
    part, streams = b"x" * 16_383, []
    for _ in range(MAX_HELD // MAX_MESSAGE):
        streams.append(client.head())
        for _ in range(4):
            client.body(streams[-1], part, last=False)
        client.body(streams[-1], b"x" * (MAX_MESSAGE - 4 * len(part)), last=False)
    assert client.line.held == MAX_HELD
    client.body(client.head(), b"x")
    assert client.statuses() == [b"413"]
    client.h2.reset_stream(streams[0])
    client.flush()
    client.body(client.head(), b"x")
    client.body(streams[1], b"")
    assert client.statuses()[1:] == [b"400", b"200"], "there is room: no query, and FORMERR or so"
    client.lost()
    assert client.line.held == 0


def test_rapid_resets(room: Room, log: list[LogEvent]) -> None:
    """Requests that are reset at once wait for nothing any more; with one too many of them the
    connection is broken, and what has come behind it is not answered.
    """
    client = Client(room)

    def give_up() -> None:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, ASK, end_stream=True)
        client.h2.reset_stream(stream)

    for _ in range(MAX_GIVEN_UP):
        give_up()
        client.flush()
    assert len(room.forwarder.cancelled) == len(room.forwarder.waiting) == MAX_GIVEN_UP
    assert room.factory.drain().called
    assert client.line.idle_since is not None
    assert not client.transport.over()
    client.ask("real.example")
    room.forwarder.waiting[-1].callback(room.entry(pool()))
    assert client.replies() == 1
    give_up()  # which the answer has paid for
    client.flush()
    assert not client.transport.over()
    for _ in range(500):
        give_up()
    client.line.dataReceived(client.h2.data_to_send())
    assert client.transport.aborted()
    assert len(room.forwarder.waiting) == MAX_GIVEN_UP + 3
    client.lost()
    room.clock.advance(0)
    assert not room.clock.getDelayedCalls()
    assert log == []


def test_resets_before_the_end_of_a_request(room: Room) -> None:
    """What is reset before it is whole has asked nothing, and leaves nothing behind."""
    client = Client(room)
    for _ in range(600):
        stream = client.head()
        client.body(stream, b"x" * 100, last=False)
        client.h2.reset_stream(stream)
        client.flush()
    assert room.forwarder.asked == []
    assert client.line.held == 0
    client.ask()
    assert len(room.forwarder.waiting) == 1
    client.lost()


def test_streams_without_end(room: Room, log: list[LogEvent]) -> None:
    """A connection has a hundred requests under way; one more ends it, and nobody waits."""
    client = Deaf(room)
    for number in range(101):
        assert not client.transport.over()
        assert len(room.forwarder.waiting) == number
        client.ask(f"a{number}.example")
    assert client.transport.over()
    assert len(room.forwarder.cancelled) == 100
    client.lost()
    room.clock.advance(0)  # the sender's last turn
    assert not room.clock.getDelayedCalls()
    assert log == []


class Deaf(Client):
    """Does not hear the server's limits."""

    def read(self) -> None:
        """Take nothing."""


def test_heads_without_end(room: Room, log: list[LogEvent]) -> None:
    """Heads that are far too long end the connection: 16 KiB for HTTP/1.1, 64 KiB for HTTP/2."""
    first = Client1(room)
    first.line.dataReceived(b"GET /dns-query HTTP/1.1\r\n" + b"x: " + b"y" * 16_384 + b"\r\n")
    second = Client(room)
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
    second.h2.send_headers(1, [*fields, *((f"x{n}", "y" * 1000) for n in range(66))])
    second.line.dataReceived(second.h2.data_to_send())
    for client in (first, second):
        assert client.transport.over()
        client.lost()
    assert not room.clock.getDelayedCalls()
    assert log == []


def test_queries_in_urls(room: Room) -> None:
    """What is no base64url is no query (RFC 8484 section 4.1), wherever it is not."""
    for change, status in (("", b"200"), ("*", b"400"), ("\xff", b"400"), ("=", b"400")):
        client = Client(room)
        room.forwarder.instant = room.entry(pool())
        path = f"/dns-query?dns={QUERY[:6]}{change}{QUERY[6:]}"
        client.h2.send_headers(1, [*ASK[:3], (":path", path)], end_stream=True)
        client.flush()
        assert client.statuses() == [status]
        client.lost()
