"""HTTPS connections, both versions of HTTP, on a clock: what keeps them open, and who has to go."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any, cast

import h2.events
import h2.exceptions
import pytest
from twisted.logger import globalLogPublisher

from staggerdns.server.http2 import MAX_GIVEN_UP, MAX_HELD
from staggerdns.wire.constants import MAX_MESSAGE
from tests.kit.connections import Http1Client, HttpClient
from tests.kit.factory import STRANGER, Room, pool
from tests.kit.messages import client_query

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twisted.logger import ILogObserver, LogEvent

IDLE = 10.0
QUERY = base64.urlsafe_b64encode(client_query("www.example")).rstrip(b"=").decode()
ASK = [
    (":method", "GET"),
    (":scheme", "https"),
    (":authority", "x"),
    (":path", f"/dns-query?dns={QUERY}"),
]


@pytest.fixture
def room() -> Room:
    """A server whose connections may be idle for `IDLE`."""
    return Room(idle_timeout=IDLE)


@pytest.fixture(params=[HttpClient, Http1Client], ids=["h2", "http/1.1"])
def kind(request: pytest.FixtureRequest) -> type[HttpClient]:
    """Each version of HTTP."""
    found: type[HttpClient] = request.param
    return found


@pytest.fixture
def log() -> Iterator[list[LogEvent]]:
    """All that is logged."""
    events: list[LogEvent] = []
    observer = cast("ILogObserver", events.append)
    globalLogPublisher.addObserver(observer)
    yield events
    globalLogPublisher.removeObserver(observer)


def test_idle(room: Room, kind: type[HttpClient], log: list[LogEvent]) -> None:
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


def test_what_came_while_the_server_stood_still(room: Room, kind: type[HttpClient]) -> None:
    """A connection is not idle for the time in which nobody could read it."""
    asking, idle = kind(room), kind(room)
    room.forwarder.instant = room.entry(pool())
    room.clock.callLater(IDLE + 1, asking.body, asking.head(), client_query("www.example"))
    room.clock.advance(IDLE - 1)
    room.clock.advance(IDLE)  # late by far: a standstill
    assert asking.replies() == 1
    assert not asking.transport.over()
    assert idle.transport.over()


def test_silence(room: Room, kind: type[HttpClient], log: list[LogEvent]) -> None:
    """A connection on which nothing ever comes is broken, and no line of the log tells of it."""
    client = kind(room) if kind is Http1Client else Silent(room)
    room.clock.advance(IDLE + 0.1)
    assert client.transport.aborted()
    client.lost()
    assert not room.clock.getDelayedCalls()
    assert log == []


class Silent(HttpClient):
    """Does not even say hello."""

    def start(self) -> None:
        """Say nothing."""


def test_queries_under_way(room: Room, kind: type[HttpClient]) -> None:
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


def trickle(room: Room, client: HttpClient, drop: Any) -> float:
    """Send drops each second until the server has enough; seconds."""
    for _ in range(40):
        room.clock.advance(1)
        if client.transport.over():
            break
        drop()
    return room.clock.seconds()


def test_bodies_in_trickles(room: Room, kind: type[HttpClient], log: list[LogEvent]) -> None:
    """A body has to be complete within the idle timeout, whatever trickles meanwhile."""
    client = kind(room)
    stream = client.head()
    assert trickle(room, client, lambda: client.body(stream, b"x", last=False)) == IDLE
    client.lost()
    assert room.forwarder.asked == []
    assert log == []


def test_heads_in_trickles(room: Room) -> None:
    """So has a head."""
    client = Http1Client(room)
    client.line.dataReceived(b"GET /dns-query HTTP/1.1\r\n")
    assert trickle(room, client, lambda: client.line.dataReceived(b"x: y\r\n")) == IDLE
    client.lost()


def test_frames_that_ask_nothing(room: Room) -> None:
    """PINGs, SETTINGS, window updates and streams that are opened and reset keep nothing open."""
    client = HttpClient(room)

    def drop() -> None:
        client.h2.ping(b"12345678")
        client.h2.update_settings({})
        client.h2.increment_flow_control_window(1)
        client.h2.reset_stream(client.head())
        client.flush()

    assert trickle(room, client, drop) == IDLE
    client.lost()
    assert not room.clock.getDelayedCalls()


def test_head_requests_are_not_logged(
    room: Room, log: list[LogEvent], kind: type[HttpClient]
) -> None:
    """What a client asks with HEAD is no matter for the log either."""
    encoded = base64.urlsafe_b64encode(client_query("localhost")).rstrip(b"=").decode()
    client = kind(room)
    path = f"/dns-query?dns={encoded}"
    if kind is Http1Client:
        client.line.dataReceived(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    else:
        fields = [(":method", "HEAD"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        client.h2.send_headers(1, fields, end_stream=True)
        client.flush()
    assert client.replies() == 1
    client.lost()
    assert log == []


def test_who_floods_and_does_not_read(room: Room, log: list[LogEvent]) -> None:
    """A client that wants PINGs answered and takes nothing is not listened to, and dropped after
    the idle time, without a line.
    """
    client = HttpClient(room)
    client.stop_taking()
    for _ in range(2_000):
        client.h2.ping(b"12345678")
    client.line.dataReceived(client.h2.data_to_send())
    assert client.transport.producerState == "paused"
    assert client.transport.value() == b""
    room.clock.advance(IDLE + 0.1)
    assert client.transport.aborted()
    client.lost()
    assert log == []


def test_the_longest_idle_one_makes_room(kind: type[HttpClient]) -> None:
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
    assert room.factory.client_connections.open == [held[0].line, held[2].line, newcomer.line]
    assert room.metrics.tcp_refused.cell().value == 0
    held[1].lost()
    assert len(room.factory.client_connections.open) == 3, "its place is given once, not twice"
    for client in (held[0], held[2], newcomer):
        client.lost()
    assert room.factory.client_connections.open == []
    assert not room.clock.getDelayedCalls()


def test_no_room(kind: type[HttpClient]) -> None:
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
    assert room.factory.client_connections.open == []
    assert room.metrics.tcp_refused.cell().value == 1
    stranger.lost()
    assert not room.clock.getDelayedCalls()


def test_the_end(room: Room, kind: type[HttpClient]) -> None:
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
    with contextlib.suppress(h2.exceptions.StreamClosedError):  # a stream is refused at once
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
    client = HttpClient(room)
    part, streams = b"x" * 16_383, []
    for _ in range(MAX_HELD // MAX_MESSAGE):
        streams.append(client.head())
        for _ in range(4):
            client.body(streams[-1], part, last=False)
        client.body(streams[-1], b"x" * (MAX_MESSAGE - 4 * len(part)), last=False)
    assert client.line.session.bodies == MAX_HELD
    client.body(client.head(), b"x")
    assert client.statuses() == [b"413"]
    client.h2.reset_stream(streams[0])
    client.flush()
    client.body(client.head(), b"x")
    client.body(streams[1], b"")
    assert client.statuses()[1:] == [b"400", b"200"], "there is room: no query, and FORMERR or so"
    client.lost()
    assert client.line.session.bodies == 0


def test_rapid_resets(room: Room, log: list[LogEvent]) -> None:
    """Requests that are reset at once wait for nothing any more; with one too many of them the
    connection is broken, and what has come behind it is not answered.
    """
    client = HttpClient(room)

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
    client = HttpClient(room)
    for _ in range(600):
        stream = client.head()
        client.body(stream, b"x" * 100, last=False)
        client.h2.reset_stream(stream)
        client.flush()
    assert room.forwarder.asked == []
    assert client.line.session.bodies == 0
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


class Deaf(HttpClient):
    """Does not hear the server's limits."""

    def read(self) -> None:
        """Take nothing."""


def test_heads_without_end(room: Room, log: list[LogEvent]) -> None:
    """Heads that are far too long end the connection: 16 KiB for HTTP/1.1, 64 KiB for HTTP/2."""
    first = Http1Client(room)
    first.line.dataReceived(b"GET /dns-query HTTP/1.1\r\n" + b"x: " + b"y" * 16_384 + b"\r\n")
    second = HttpClient(room)
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
        client = HttpClient(room)
        room.forwarder.instant = room.entry(pool())
        path = f"/dns-query?dns={QUERY[:6]}{change}{QUERY[6:]}"
        client.h2.send_headers(1, [*ASK[:3], (":path", path)], end_stream=True)
        client.flush()
        assert client.statuses() == [status]
        client.lost()


def test_pipelined_requests_of_who_does_not_read(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP/1.1 the next request is served when the response before it has been taken."""
    room.forwarder.instant = room.entry(pool(100))
    client = Http1Client(room)
    write = client.transport.write

    def full(data: bytes) -> None:
        write(data)
        if len(data) > 1_000:
            client.stop_taking()

    monkeypatch.setattr(client.transport, "write", full)
    head = f"GET /dns-query?dns={QUERY} HTTP/1.1\r\nhost: x\r\n\r\n"
    client.line.dataReceived(head.encode() * 50)
    for number in range(1, 51):
        assert client.replies() == number
        assert len(room.forwarder.asked) == number
        assert room.factory.client_connections.unread > 0
        client.take()
    assert room.factory.client_connections.unread == 0
    client.lost()


def test_absolute_targets(room: Room) -> None:
    """A request may name the whole URL (RFC 9112 section 3.2.2)."""
    room.forwarder.instant = room.entry(pool())
    for target, found in ((f"https://x/dns-query?dns={QUERY}", 1), ("https://x/", 0)):
        client = Http1Client(room)
        client.line.dataReceived(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
        assert client.replies() == found
        client.lost()


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ([], True),
        ([("Upper", "x")], False),
        ([("connection", "close")], False),
        ([("transfer-encoding", "chunked")], False),
        ([(":path", "/")], False),
        ([(":status", "200")], False),
    ],
)
def test_malformed_requests(room: Room, fields: list[tuple[str, str]], answered: bool) -> None:
    """A malformed request (RFC 9113 section 8.1.1) ends its stream, and no other."""
    client = HttpClient(room)
    client.h2.send_headers(1, [*ASK, *fields], end_stream=True)
    client.flush()
    assert len(room.forwarder.asked) == answered
    resets = [event for event in client.events if isinstance(event, h2.events.StreamReset)]
    assert [reset.error_code for reset in resets] == ([] if answered else [1])
    client.ask()
    assert len(room.forwarder.asked) == answered + 1
    client.lost()
