"""Client connections over TCP: RFC 7766, on a clock that the test winds."""

from __future__ import annotations

from typing import Any

import pytest

from staggerdns.server.clientconnection import MAX_PENDING, TURN_SIZE
from staggerdns.server.connections import MAX_DISALLOWED
from staggerdns.server.stream import DISALLOWED_TIMEOUT, StreamFactory
from staggerdns.settings.sections import ServerSettings
from staggerdns.wire.answer import FailureAnswer
from tests.kit.clients import addresses
from tests.kit.connections import Connection, Transport, framed, numbered
from tests.kit.factory import FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import ask, client_query

IDLE = 10.0


@pytest.fixture
def server() -> MemoryServer:
    """A server with one answer in its cache, three connections at most."""
    made = MemoryServer(ServerSettings(tcp_idle_timeout=IDLE, tcp_max_connections=3))
    made.commit(ask(), pool(100))
    return made


def test_a_cached_answer(server: MemoryServer) -> None:
    """A query that the cache answers is answered at once and whole."""
    connection = Connection(server)
    connection.send(client_query(id=5))
    (reply,) = connection.replies
    assert reply.id == 5
    assert len(addresses(reply)) == 100
    connection.lost()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 1000])
def test_any_segmentation(server: MemoryServer, piece: int) -> None:
    """However the stream is cut, every query in it gets its reply."""
    connection = Connection(server)
    data = framed(*(client_query(id=number) for number in range(4)))
    for start in range(0, len(data), piece):
        connection.protocol.dataReceived(data[start : start + piece])
    assert connection.ids == [0, 1, 2, 3]
    connection.lost()


def test_answers_out_of_order(server: MemoryServer) -> None:
    """Each query is answered when its answer is there, in whatever order (RFC 7766 6.2.1.1)."""
    connection = Connection(server)
    connection.send(*numbered(0, 3), client_query(id=99))
    assert connection.ids == [99]
    for number in (2, 0, 1):
        server.forwarder.waiting[number].callback(server.entry(pool()))
    assert connection.ids == [99, 2, 0, 1]
    connection.lost()


def test_what_gets_no_reply_over_tcp(server: MemoryServer) -> None:
    """Empty frames, short ones and responses are passed over, queries behind them answered."""
    connection = Connection(server)
    response = bytearray(client_query())
    response[2] |= 0x80
    connection.send(b"", b"x" * 11, bytes(response), client_query(id=1))
    assert connection.ids == [1]
    assert not connection.closing()
    connection.lost()


def test_a_broken_query(server: MemoryServer) -> None:
    """A friend's broken query gets its code over TCP, and the connection lives."""
    friend = Connection(server)
    friend.send(client_query() + b"x")
    assert [reply.rcode() for reply in friend.replies] == [1]
    assert not friend.closing()
    friend.lost()


@pytest.mark.parametrize("count", [MAX_PENDING - 1, MAX_PENDING, MAX_PENDING + 1])
def test_pending_limit(server: MemoryServer, count: int) -> None:
    """`MAX_PENDING` queries are under way at once; the rest waits unread."""
    connection = Connection(server)
    connection.send(*numbered(0, count))
    assert len(server.forwarder.asked) == min(count, MAX_PENDING)
    assert connection.reading() == (count < MAX_PENDING)
    if count > MAX_PENDING:
        server.forwarder.waiting[7].callback(server.entry(pool()))
        assert len(server.forwarder.asked) == count
        assert not connection.reading()
    for waiting in server.forwarder.waiting:
        if not waiting.called:
            waiting.callback(server.entry(pool()))
    assert connection.reading()
    assert sorted(connection.ids) == list(range(count))
    connection.lost()


def test_many_more_than_the_limit(server: MemoryServer) -> None:
    """Any number of queries in one segment is answered in the end, each once."""
    connection = Connection(server)
    count = 5 * MAX_PENDING
    connection.send(*numbered(0, count))
    for number in range(count):
        assert len(server.forwarder.asked) - number <= MAX_PENDING
        server.forwarder.waiting[number].callback(server.entry(pool()))
    assert connection.ids == list(range(count))
    assert connection.reading()
    connection.lost()


@pytest.mark.parametrize("waiting", [0, 1, MAX_PENDING - 1])
def test_answers_that_are_there_at_once(server: MemoryServer, waiting: int) -> None:
    """Deferreds that have fired already, beside as many that have not: each query once."""
    connection = Connection(server)
    connection.send(*numbered(0, waiting))
    server.forwarder.instant = server.entry(FailureAnswer(0, 0))
    connection.send(*numbered(waiting, 2 * MAX_PENDING))
    assert len(server.forwarder.asked) == waiting + 2 * MAX_PENDING
    assert connection.ids == list(range(waiting, waiting + 2 * MAX_PENDING))
    connection.lost()


def test_answers_at_once_in_the_same_segment(server: MemoryServer) -> None:
    """The hundredth query of a segment, answered at once, does not bring back the first."""
    connection = Connection(server)
    held = server.forwarder.find

    def find(question: Any, now: float) -> Any:
        if len(server.forwarder.asked) >= MAX_PENDING - 1:
            server.forwarder.instant = server.entry(FailureAnswer(0, 0))
        return held(question, now)

    server.forwarder.find = find  # type: ignore[method-assign]
    connection.send(*numbered(0, MAX_PENDING + 50))
    assert len(server.forwarder.asked) == MAX_PENDING + 50
    assert connection.ids == list(range(MAX_PENDING - 1, MAX_PENDING + 50))
    connection.lost()


def test_idle_timeout(server: MemoryServer) -> None:
    """A connection without queries is closed after the timeout, not before."""
    connection = Connection(server)
    server.clock.advance(IDLE - 0.001)
    assert not connection.closing()
    server.clock.advance(0.001)
    assert connection.closing()
    connection.lost()
    assert not server.clock.getDelayedCalls()


def test_a_query_starts_the_timeout_anew(server: MemoryServer) -> None:
    """Only whole queries count: a client that sends an octet now and then is idle."""
    connection = Connection(server)
    server.clock.advance(IDLE - 1)
    connection.send(client_query())
    server.pass_time(IDLE - 1)
    assert not connection.closing()
    connection.protocol.dataReceived(b"\1")
    server.pass_time(0.5)
    connection.protocol.dataReceived(b"\0")
    server.pass_time(0.6)
    assert connection.closing()
    connection.lost()


def test_what_came_while_the_server_stood_still(server: MemoryServer) -> None:
    """A connection is not idle for the time in which nobody could read it."""
    asking, idle = Connection(server), Connection(server)
    server.forwarder.instant = server.entry(pool())
    server.clock.callLater(IDLE + 1, asking.send, client_query(id=7))
    server.clock.advance(IDLE - 1)
    server.clock.advance(IDLE)  # late by far: a standstill
    assert asking.ids == [7]
    assert not asking.closing()
    assert idle.closing()


def test_waiting_is_not_idle(server: MemoryServer) -> None:
    """A client whose query is under way is not cut off; after its reply it has its time again."""
    connection = Connection(server)
    connection.send(*numbered(1, 1))
    server.clock.advance(IDLE * 0.9)
    for _ in range(5):
        server.clock.advance(IDLE / 2)
    assert not connection.closing()
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert connection.ids == [1]
    for _ in range(4):
        server.clock.advance(IDLE / 2)
    assert connection.closing()
    connection.lost()


def test_a_client_that_never_reads(server: MemoryServer) -> None:
    """A client that does not take its replies is dropped when it has been idle, not waited for."""
    connection = Connection(server)
    connection.send(*numbered(0, 1), client_query())
    connection.stop_taking()
    server.clock.advance(IDLE - 0.001)
    assert not connection.aborted()
    server.clock.advance(0.001)
    assert connection.aborted()
    connection.lost()
    assert not server.clock.getDelayedCalls()


@pytest.mark.parametrize("half_closed", [False, True])
def test_a_close_that_never_ends(server: MemoryServer, half_closed: bool) -> None:
    """A few replies that nobody takes hold a closed connection once more for its idle time.

    They may be less than makes the transport say that its buffer is full.
    """
    connection = Connection(server)
    connection.send(client_query())
    if half_closed:
        connection.protocol.readConnectionLost()
    else:
        server.clock.advance(IDLE)
    assert connection.closing()
    assert not connection.aborted()
    server.clock.advance(IDLE)
    assert connection.aborted()
    connection.lost()
    assert not server.clock.getDelayedCalls()


def test_back_pressure(server: MemoryServer) -> None:
    """While the client does not take its replies no query is read; then all are."""
    connection = Connection(server)
    connection.send(*numbered(0, 1))
    connection.stop_taking()
    assert not connection.reading()
    connection.send(*numbered(1, 2))
    assert len(server.forwarder.asked) == 1
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert connection.ids == [], "replies wait, and are counted"
    assert server.factory.client_connections.unread > 0
    connection.take()
    assert connection.reading()
    assert len(server.forwarder.asked) == 3
    for waiting in server.forwarder.waiting[1:]:
        waiting.callback(server.entry(pool()))
    assert connection.ids == [0, 1, 2]
    connection.lost()


def test_back_pressure_from_within(server: MemoryServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transport that has enough while frames are served stops the next one."""
    connection = Connection(server)
    write = connection.transport.write

    def full(data: bytes) -> None:
        write(data)
        connection.stop_taking()

    monkeypatch.setattr(connection.transport, "write", full)
    connection.send(*(client_query(id=number) for number in range(3)))
    for expected in ([0, 1], [0, 1, 2]):  # of two there is more than a turn
        assert connection.ids == expected
        assert not connection.reading()
        connection.take()
    assert connection.ids == [0, 1, 2]
    assert connection.reading()
    connection.lost()


def test_half_closed(server: MemoryServer) -> None:
    """A client that sends no more gets the replies it waits for, then the connection ends."""
    connection = Connection(server)
    connection.send(*numbered(0, 2))
    connection.protocol.readConnectionLost()
    assert not connection.closing()
    server.forwarder.waiting[1].callback(server.entry(pool()))
    assert not connection.closing()
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert connection.ids == [1, 0]
    assert connection.closing()
    connection.lost()


def test_half_closed_with_nothing_to_wait_for(server: MemoryServer) -> None:
    """A client that sends no more and waits for nothing is done."""
    connection = Connection(server)
    connection.send(client_query())
    connection.protocol.readConnectionLost()
    assert connection.closing()
    assert len(connection.replies) == 1
    connection.lost()


def test_closed_for_writing(server: MemoryServer) -> None:
    """Where nothing can be written nothing is left to do."""
    connection = Connection(server)
    connection.protocol.writeConnectionLost()
    assert connection.closing()
    connection.lost()


def test_a_client_that_goes_away(server: MemoryServer) -> None:
    """A lost connection cancels its waits, stops its timer and writes nothing any more."""
    connection = Connection(server)
    other = Connection(server)
    connection.send(*numbered(0, 2))
    other.send(*numbered(2, 1))
    connection.protocol.dataReceived(b"\0")
    connection.lost()
    assert server.forwarder.cancelled == server.forwarder.waiting[:2]
    server.forwarder.waiting[2].callback(server.entry(pool()))
    assert connection.ids == []
    assert other.ids == [2]
    assert server.factory.client_connections.open == [other.protocol]
    other.lost()
    assert not server.clock.getDelayedCalls()


def test_connection_limit(server: MemoryServer) -> None:
    """While all are busy one connection too many is dropped and counted; busy ones live on."""
    held = [Connection(server) for _ in range(3)]
    for number, connection in enumerate(held):
        connection.send(*numbered(number, 1))
    refused = Connection(server)
    assert refused.aborted()
    refused.lost()
    assert server.metrics.tcp_refused.cell().value == 1
    assert [connection.protocol for connection in held] == server.factory.client_connections.open
    for number, connection in enumerate(held):
        server.forwarder.waiting[number].callback(server.entry(pool()))
        assert connection.ids == [number]
    held.pop().lost()
    held.append(Connection(server))
    assert not held[-1].closing()
    held[-1].send(client_query(id=3))
    assert held[-1].ids == [3]
    assert server.metrics.tcp_refused.cell().value == 1
    for connection in held:
        connection.lost()
    assert not server.factory.client_connections.open
    assert not server.clock.getDelayedCalls()


def test_the_longest_idle_connection_makes_room(server: MemoryServer) -> None:
    """At the limit the one that has been idle for the longest leaves, and nobody is refused."""
    held = []
    for number in range(3):
        held.append(Connection(server))
        server.clock.advance(1)
        held[-1].send(client_query(id=number))
    server.clock.advance(1)
    held[0].send(client_query(id=9))  # now the second one is the longest idle
    newcomer = Connection(server)
    assert [connection.aborted() for connection in held] == [False, True, False]
    assert server.factory.client_connections.open == [
        held[0].protocol,
        held[2].protocol,
        newcomer.protocol,
    ]
    assert server.metrics.tcp_refused.cell().value == 0
    held[1].lost()
    assert len(server.factory.client_connections.open) == 3, "its place is given once, not twice"
    for connection in (held[0], held[2], newcomer):
        connection.send(client_query(id=5))
        assert connection.ids[-1] == 5
        connection.lost()
    assert not server.clock.getDelayedCalls()


def test_who_never_asked_is_idle_since_it_came(server: MemoryServer) -> None:
    """A connection on which nothing, or half a query, ever came is idle too."""
    silent = Connection(server)
    server.clock.advance(1)
    half = Connection(server)
    half.protocol.dataReceived(framed(client_query())[:5])
    server.clock.advance(1)
    busy = Connection(server)
    busy.send(*numbered(0, 1))
    first = Connection(server)
    assert (silent.aborted(), half.aborted(), busy.aborted()) == (True, False, False)
    second = Connection(server)
    assert (half.aborted(), busy.aborted(), first.aborted()) == (True, False, False)
    for connection in (silent, half, busy, first, second):
        connection.lost()
    assert not server.clock.getDelayedCalls()


def test_an_answered_connection_is_idle_again(server: MemoryServer) -> None:
    """A connection counts as busy until its reply, and as idle from then on."""
    first = Connection(server)
    first.send(*numbered(0, 1))
    server.clock.advance(1)
    others = [Connection(server) for _ in range(2)]
    for number, other in enumerate(others, 1):
        other.send(*numbered(number, 1))
    assert Connection(server).aborted()
    server.clock.advance(1)
    server.forwarder.waiting[0].callback(server.entry(pool()))
    newcomer = Connection(server)
    assert first.aborted()
    assert first.ids == [0]
    assert not newcomer.aborted()
    for connection in (first, *others, newcomer):
        connection.lost()


def test_idle_since_the_last_reply_or_the_start(server: MemoryServer) -> None:
    """A reply that took long, and a connection that has just come, make nobody long idle."""
    slow, quick = Connection(server), Connection(server)
    slow.send(*numbered(0, 1))
    server.clock.advance(1)
    quick.send(client_query())
    server.clock.advance(1)
    server.forwarder.waiting[0].callback(server.entry(pool()))
    server.clock.advance(1)
    silent = Connection(server)
    newcomer = Connection(server)
    assert (slow.aborted(), quick.aborted(), silent.aborted()) == (False, True, False)
    another = Connection(server)
    assert (slow.aborted(), silent.aborted(), newcomer.aborted()) == (True, False, False)
    for connection in (slow, quick, silent, newcomer, another):
        connection.lost()


def test_a_stranger_gets_one_refusal(server: MemoryServer) -> None:
    """A client that may not ask gets REFUSED for its first query, and the connection closes."""
    stranger = Connection(server, STRANGER)
    assert not stranger.closing()
    stranger.send(*(client_query(id=number) for number in range(3)))
    assert stranger.ids == [0]
    assert stranger.replies[0].rcode() == 5
    assert stranger.closing()
    stranger.send(client_query(id=4))
    assert stranger.ids == [0]
    stranger.lost()
    assert server.metrics.tcp_refused.cell().value == 0
    assert not server.factory.client_connections.open
    assert not server.clock.getDelayedCalls()


def test_a_stranger_has_little_time(server: MemoryServer) -> None:
    """What is no query does not lengthen the stay of a client that may not ask."""
    stranger = Connection(server, STRANGER)
    response = bytearray(client_query())
    response[2] |= 0x80  # gets no reply
    server.clock.advance(DISALLOWED_TIMEOUT - 0.001)
    stranger.send(bytes(response))
    assert not stranger.closing()
    server.clock.advance(0.001)
    assert stranger.closing()
    assert stranger.ids == []
    stranger.lost()
    assert DISALLOWED_TIMEOUT < IDLE


def test_strangers_take_no_place(server: MemoryServer) -> None:
    """`MAX_DISALLOWED` at once and one no more, beside as many friends as ever."""
    strangers = [Connection(server, STRANGER) for _ in range(MAX_DISALLOWED)]
    assert not any(stranger.aborted() for stranger in strangers)
    one_too_many = Connection(server, STRANGER)
    assert one_too_many.aborted()
    assert server.metrics.tcp_refused.cell().value == 1
    friends = [Connection(server) for _ in range(3)]
    for number, friend in enumerate(friends):
        friend.send(*numbered(number, 1))
        assert not friend.aborted()
    assert not any(stranger.aborted() for stranger in strangers), "nor do friends take theirs"
    assert Connection(server).aborted(), "strangers do not make room either"
    assert len(server.factory.client_connections.open) == MAX_DISALLOWED + 3
    strangers.pop().lost()
    strangers.append(Connection(server, STRANGER))
    strangers[-1].send(client_query())
    assert strangers[-1].replies[0].rcode() == 5
    for connection in (*strangers, one_too_many, *friends):
        connection.lost()
    assert not server.factory.client_connections.open
    assert not server.clock.getDelayedCalls()


def test_friends_do_not_lock_out_the_refusal(server: MemoryServer) -> None:
    """A stranger is refused in order even where every place of a friend is taken."""
    friends = [Connection(server) for _ in range(3)]
    stranger = Connection(server, STRANGER)
    stranger.send(client_query())
    assert stranger.replies[0].rcode() == 5
    assert not any(friend.aborted() for friend in friends)
    for connection in (*friends, stranger):
        connection.lost()


@pytest.mark.parametrize("waiting", [0, 2])
def test_stop_reading(server: MemoryServer, waiting: int) -> None:
    """A server that goes down reads no more and closes behind the last reply."""
    connection = Connection(server)
    connection.send(*numbered(0, waiting))
    connection.protocol.drain()
    assert not connection.reading()
    assert connection.closing() == (waiting == 0)
    for found in list(server.forwarder.waiting):
        found.callback(server.entry(pool()))
    assert connection.ids == list(range(waiting))
    assert connection.closing()
    connection.lost()


OTHER = "192.0.2.78"


def test_connections_of_one_client() -> None:
    """A client at its limit leaves its own longest idle one, while all are busy it is refused."""
    server = MemoryServer(ServerSettings(tcp_max_connections=9, tcp_max_per_client=2))
    server.commit(ask(), pool())
    other = Connection(server, OTHER)
    held = [Connection(server) for _ in range(2)]
    third = Connection(server)
    assert [connection.aborted() for connection in (other, *held)] == [False, True, False]
    held.pop(0).lost()
    held.append(third)
    for number, connection in enumerate(held):
        connection.send(*numbered(number, 1))
    refused = Connection(server)
    assert refused.aborted()
    assert server.metrics.tcp_refused.cell().value == 1
    others = [other, Connection(server, OTHER)]
    assert not any(connection.aborted() for connection in (*held, *others))
    for connection in (*held, *others, refused):
        connection.lost()
    assert not server.clock.getDelayedCalls()


def test_a_prefix_is_one_client() -> None:
    """Addresses of one IPv6 site share the limit of a client."""
    server = MemoryServer(ServerSettings(tcp_max_connections=9, tcp_max_per_client=2))
    held = [Connection(server, f"2001:db8::{number}") for number in range(2)]
    more = Connection(server, "2001:db8:0:ff::1")
    elsewhere = Connection(server, "2001:db8:0:100::1")
    assert [connection.aborted() for connection in (*held, more, elsewhere)] == [
        True,
        False,
        False,
        False,
    ]
    for connection in (*held, more, elsewhere):
        connection.lost()


def test_who_has_no_limit_of_its_own() -> None:
    """An exempt client may have all connections that there are."""
    server = MemoryServer(ServerSettings(tcp_max_connections=5, tcp_max_per_client=2))
    server.access.remembered.add("127.0.0.1")
    held = [Connection(server, "127.0.0.1") for _ in range(5)]
    assert not any(connection.aborted() for connection in held)
    for connection in held:
        connection.lost()


@pytest.mark.parametrize("pause", [0.1, 1.0, 9.9])
def test_an_octet_at_a_time(server: MemoryServer, pause: float) -> None:
    """Whoever sends octets but never a whole query is closed after the idle timeout."""
    connection = Connection(server)
    dribble = b"\xff\xff" + bytes(200)
    for octet in dribble:
        if connection.closing():
            break
        connection.protocol.dataReceived(bytes([octet]))
        server.clock.advance(pause)
    assert connection.closing()
    assert server.clock.seconds() <= IDLE + pause
    connection.lost()
    assert not server.clock.getDelayedCalls()


def test_a_turn(server: MemoryServer) -> None:
    """No more than `TURN_SIZE` octets are taken from a connection at a time."""
    connection = Connection(server)
    assert connection.transport.bufferSize == TURN_SIZE
    connection.lost()


def test_a_turn_over_tls(server: MemoryServer) -> None:
    """The same over TLS: it is the TCP connection below that is read."""
    wrapper = Transport(FRIEND)
    wrapper.transport = Transport(FRIEND)  # type: ignore[attr-defined]
    protocol = StreamFactory(server.factory).buildProtocol(None)
    protocol.makeConnection(wrapper)
    assert wrapper.transport.bufferSize == TURN_SIZE  # type: ignore[attr-defined]
    protocol.connectionLost()
