"""Client connections over TCP: RFC 7766, on a clock that the test winds."""

from __future__ import annotations

from typing import Any

import dns.message
import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from staggerdns.server.stream import MAX_PENDING, StreamProtocol
from staggerdns.wire.answer import Failed
from tests.harness.clients import addresses, parse
from tests.server.rooms import FRIEND, STRANGER, Room, pool
from tests.wire.messages import ask, client_query

IDLE = 10.0


class Transport(StringTransport):
    """A connection that keeps what is written, and says so when it is aborted."""

    def __init__(self, host: str) -> None:
        super().__init__(peerAddress=IPv4Address("TCP", host, 4711), lenient=True)

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do as a TCP transport does."""

    def unregisterProducer(self) -> None:
        """Allow it twice, as a TCP transport does."""
        self.producer = None


class Connection:
    """A client's end of one connection to a room."""

    def __init__(self, room: Room, host: str = FRIEND) -> None:
        self.room = room
        self.transport = Transport(host)
        protocol = room.factory.buildProtocol(self.transport.getPeer())
        assert isinstance(protocol, StreamProtocol)
        self.protocol = protocol
        protocol.makeConnection(self.transport)

    def send(self, *messages: bytes) -> None:
        """Send messages with their lengths in front, in one piece."""
        self.protocol.dataReceived(framed(*messages))

    def lost(self) -> None:
        """Lose the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def stop_taking(self) -> None:
        """Leave the replies in the server's buffer until it is full."""
        assert self.transport.producer is not None
        self.transport.producer.pauseProducing()

    def take(self) -> None:
        """Take what is in the server's buffer."""
        assert self.transport.producer is not None
        self.transport.producer.resumeProducing()

    @property
    def replies(self) -> list[dns.message.Message]:
        """What has come so far."""
        data, found = self.transport.value(), []
        while data:
            size = int.from_bytes(data[:2], "big")
            found.append(parse(data[2 : 2 + size]))
            data = data[2 + size :]
        return found

    @property
    def ids(self) -> list[int]:
        """The IDs of the replies in their order."""
        return [reply.id for reply in self.replies]

    def reading(self) -> bool:
        """Whether the server reads."""
        return str(self.transport.producerState) == "producing"

    def closing(self) -> bool:
        """Whether the server has closed."""
        return bool(self.transport.disconnecting)

    def aborted(self) -> bool:
        """Whether the server has dropped the connection with all that is unsent."""
        return bool(self.transport.disconnected)


def framed(*messages: bytes) -> bytes:
    """Return messages with their lengths in front."""
    return b"".join(len(message).to_bytes(2, "big") + message for message in messages)


def numbered(first: int, count: int) -> list[bytes]:
    """Return queries for different names whose IDs count up."""
    return [
        client_query(f"n{number}.example.", id=number) for number in range(first, first + count)
    ]


@pytest.fixture
def room() -> Room:
    """A room with one answer in its cache, three connections at most."""
    made = Room(idle_timeout=IDLE, max_connections=3)
    made.commit(ask(), pool(100))
    return made


def test_a_cached_answer(room: Room) -> None:
    """A query that the cache answers is answered at once and whole."""
    connection = Connection(room)
    connection.send(client_query(id=5))
    (reply,) = connection.replies
    assert reply.id == 5
    assert len(addresses(reply)) == 100
    connection.lost()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_any_segmentation(room: Room, piece: int) -> None:
    """However the stream is cut, every query in it gets its reply."""
    connection = Connection(room)
    data = framed(*(client_query(id=number) for number in range(4)))
    for start in range(0, len(data), piece):
        connection.protocol.dataReceived(data[start : start + piece])
    assert connection.ids == [0, 1, 2, 3]
    connection.lost()


def test_answers_out_of_order(room: Room) -> None:
    """Each query is answered when its answer is there, in whatever order (RFC 7766 6.2.1.1)."""
    connection = Connection(room)
    connection.send(*numbered(0, 3), client_query(id=99))
    assert connection.ids == [99]
    for number in (2, 0, 1):
        room.forwarder.waiting[number].callback(room.entry(pool()))
    assert connection.ids == [99, 2, 0, 1]
    connection.lost()


def test_what_gets_no_reply_over_tcp(room: Room) -> None:
    """Empty frames, short ones and responses are passed over, queries behind them answered."""
    connection = Connection(room)
    response = bytearray(client_query())
    response[2] |= 0x80
    connection.send(b"", b"x" * 11, bytes(response), client_query(id=1))
    assert connection.ids == [1]
    assert not connection.closing()
    connection.lost()


def test_refusals(room: Room) -> None:
    """Strangers and broken queries get their codes over TCP, and the connection lives."""
    stranger = Connection(room, STRANGER)
    stranger.send(client_query())
    friend = Connection(room)
    friend.send(client_query() + b"x")
    assert [stranger.replies[0].rcode(), friend.replies[0].rcode()] == [5, 1]
    assert not (stranger.closing())
    assert not (friend.closing())
    stranger.lost()
    friend.lost()


@pytest.mark.parametrize("count", [MAX_PENDING - 1, MAX_PENDING, MAX_PENDING + 1])
def test_pending_limit(room: Room, count: int) -> None:
    """`MAX_PENDING` queries are under way at once; the rest waits unread."""
    connection = Connection(room)
    connection.send(*numbered(0, count))
    assert len(room.forwarder.asked) == min(count, MAX_PENDING)
    assert connection.reading() == (count < MAX_PENDING)
    if count > MAX_PENDING:
        room.forwarder.waiting[7].callback(room.entry(pool()))
        assert len(room.forwarder.asked) == count
        assert not connection.reading()
    for waiting in room.forwarder.waiting:
        if not waiting.called:
            waiting.callback(room.entry(pool()))
    assert connection.reading()
    assert sorted(connection.ids) == list(range(count))
    connection.lost()


def test_many_more_than_the_limit(room: Room) -> None:
    """Any number of queries in one segment is answered in the end, each once."""
    connection = Connection(room)
    count = 5 * MAX_PENDING
    connection.send(*numbered(0, count))
    for number in range(count):
        assert len(room.forwarder.asked) - number <= MAX_PENDING
        room.forwarder.waiting[number].callback(room.entry(pool()))
    assert connection.ids == list(range(count))
    assert connection.reading()
    connection.lost()


@pytest.mark.parametrize("waiting", [0, 1, MAX_PENDING - 1])
def test_answers_that_are_there_at_once(room: Room, waiting: int) -> None:
    """Deferreds that have fired already, beside as many that have not: each query once."""
    connection = Connection(room)
    connection.send(*numbered(0, waiting))
    room.forwarder.instant = room.entry(Failed(0, 0), 0)
    connection.send(*numbered(waiting, 2 * MAX_PENDING))
    assert len(room.forwarder.asked) == waiting + 2 * MAX_PENDING
    assert connection.ids == list(range(waiting, waiting + 2 * MAX_PENDING))
    connection.lost()


def test_answers_at_once_in_the_same_segment(room: Room) -> None:
    """The hundredth query of a segment, answered at once, does not bring back the first."""
    connection = Connection(room)
    held = room.forwarder.find

    def find(question: Any) -> Any:
        if len(room.forwarder.asked) >= MAX_PENDING - 1:
            room.forwarder.instant = room.entry(Failed(0, 0), 0)
        return held(question)

    room.forwarder.find = find  # type: ignore[method-assign]
    connection.send(*numbered(0, MAX_PENDING + 50))
    assert len(room.forwarder.asked) == MAX_PENDING + 50
    assert connection.ids == list(range(MAX_PENDING - 1, MAX_PENDING + 50))
    connection.lost()


def test_idle_timeout(room: Room) -> None:
    """A connection without queries is closed after the timeout, not before."""
    connection = Connection(room)
    room.clock.advance(IDLE - 0.001)
    assert not connection.closing()
    room.clock.advance(0.001)
    assert connection.closing()
    connection.lost()
    assert not room.clock.getDelayedCalls()


def test_a_query_starts_the_timeout_anew(room: Room) -> None:
    """Only whole queries count: a client that sends an octet now and then is idle."""
    connection = Connection(room)
    room.clock.advance(IDLE - 1)
    connection.send(client_query())
    room.clock.advance(IDLE - 1)
    assert not connection.closing()
    connection.protocol.dataReceived(b"\1")
    room.clock.advance(0.5)
    connection.protocol.dataReceived(b"\0")
    room.clock.advance(0.5)
    assert connection.closing()
    connection.lost()


def test_waiting_is_not_idle(room: Room) -> None:
    """A client whose query is under way is not cut off; after its reply it has its time again."""
    connection = Connection(room)
    connection.send(*numbered(1, 1))
    room.clock.advance(IDLE * 0.9)
    for _ in range(5):
        room.clock.advance(IDLE / 2)
    assert not connection.closing()
    room.forwarder.waiting[0].callback(room.entry(pool()))
    assert connection.ids == [1]
    for _ in range(4):
        room.clock.advance(IDLE / 2)
    assert connection.closing()
    connection.lost()


@pytest.mark.parametrize("pressure", [False, True])
def test_a_client_that_never_reads(room: Room, pressure: bool) -> None:
    """Replies that nobody takes do not hold the connection for ever.

    With our buffer full (``pressure``), and with less in it than makes the transport say so.
    """
    connection = Connection(room)
    connection.send(client_query())
    if pressure:
        connection.stop_taking()
    for _ in range(10):
        room.clock.advance(IDLE / 2)
    assert connection.aborted()
    connection.lost()
    assert not room.clock.getDelayedCalls()


def test_back_pressure(room: Room) -> None:
    """While the client does not take its replies no query is read; then all are."""
    connection = Connection(room)
    connection.send(*numbered(0, 1))
    connection.stop_taking()
    assert not connection.reading()
    connection.send(*numbered(1, 2))
    assert len(room.forwarder.asked) == 1
    room.forwarder.waiting[0].callback(room.entry(pool()))
    assert connection.ids == [0], "replies still go into the buffer"
    connection.take()
    assert connection.reading()
    assert len(room.forwarder.asked) == 3
    for waiting in room.forwarder.waiting[1:]:
        waiting.callback(room.entry(pool()))
    assert connection.ids == [0, 1, 2]
    connection.lost()


def test_back_pressure_from_within(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport that has enough while frames are served stops the next one."""
    connection = Connection(room)
    write = connection.transport.write

    def full(data: bytes) -> None:
        write(data)
        connection.stop_taking()

    monkeypatch.setattr(connection.transport, "write", full)
    connection.send(*(client_query(id=number) for number in range(3)))
    for expected in ([0], [0, 1], [0, 1, 2]):
        assert connection.ids == expected
        assert not connection.reading()
        connection.take()
    assert connection.ids == [0, 1, 2]
    assert connection.reading()
    connection.lost()


def test_half_closed(room: Room) -> None:
    """A client that sends no more gets the replies it waits for, then the connection ends."""
    connection = Connection(room)
    connection.send(*numbered(0, 2))
    connection.protocol.readConnectionLost()
    assert not connection.closing()
    room.forwarder.waiting[1].callback(room.entry(pool()))
    assert not connection.closing()
    room.forwarder.waiting[0].callback(room.entry(pool()))
    assert connection.ids == [1, 0]
    assert connection.closing()
    connection.lost()


def test_half_closed_with_nothing_to_wait_for(room: Room) -> None:
    """A client that sends no more and waits for nothing is done."""
    connection = Connection(room)
    connection.send(client_query())
    connection.protocol.readConnectionLost()
    assert connection.closing()
    assert len(connection.replies) == 1
    connection.lost()


def test_closed_for_writing(room: Room) -> None:
    """Where nothing can be written nothing is left to do."""
    connection = Connection(room)
    connection.protocol.writeConnectionLost()
    assert connection.closing()
    connection.lost()


def test_a_client_that_goes_away(room: Room) -> None:
    """A lost connection cancels its waits, stops its timer and writes nothing any more."""
    connection = Connection(room)
    other = Connection(room)
    connection.send(*numbered(0, 2))
    other.send(*numbered(2, 1))
    connection.protocol.dataReceived(b"\0")
    connection.lost()
    assert room.forwarder.cancelled == room.forwarder.waiting[:2]
    room.forwarder.waiting[2].callback(room.entry(pool()))
    assert connection.ids == []
    assert other.ids == [2]
    assert room.factory.connections == [other.protocol]
    other.lost()
    assert not room.clock.getDelayedCalls()


def test_connection_limit(room: Room) -> None:
    """One connection more than allowed is dropped and counted; a place given back is free."""
    held = [Connection(room) for _ in range(3)]
    assert not any(connection.closing() for connection in held)
    refused = Connection(room)
    assert refused.aborted()
    refused.lost()
    assert room.metrics.tcp_refused.cell().value == 1
    assert len(room.factory.connections) == 3
    held.pop().lost()
    held.append(Connection(room))
    assert not held[-1].closing()
    held[-1].send(client_query(id=3))
    assert held[-1].ids == [3]
    for connection in held:
        connection.lost()
    assert not room.factory.connections
    assert not room.clock.getDelayedCalls()


@pytest.mark.parametrize("waiting", [0, 2])
def test_stop_reading(room: Room, waiting: int) -> None:
    """A server that goes down reads no more and closes behind the last reply."""
    connection = Connection(room)
    connection.send(*numbered(0, waiting))
    connection.protocol.stop_reading()
    assert not connection.reading()
    assert connection.closing() == (waiting == 0)
    for found in list(room.forwarder.waiting):
        found.callback(room.entry(pool()))
    assert connection.ids == list(range(waiting))
    assert connection.closing()
    connection.lost()
