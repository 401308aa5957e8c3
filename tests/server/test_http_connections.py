"""HTTPS connections, both versions of HTTP, on a clock: what keeps them open, and who has to go."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any, cast

import h2.events
import h2.exceptions
import pytest
from twisted.logger import globalLogPublisher

from staggerdns.server.http2 import MAX_BODIES, MAX_RESETS
from staggerdns.settings.sections import ServerSettings
from staggerdns.wire.constants import MAX_MESSAGE
from tests.kit.connections import Http1Client, HttpClient
from tests.kit.factory import STRANGER, MemoryServer, pool
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
def server() -> MemoryServer:
    """A server whose connections may be idle for `IDLE`."""
    return MemoryServer(ServerSettings(tcp_idle_timeout=IDLE))


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


def test_idle(server: MemoryServer, kind: type[HttpClient], log: list[LogEvent]) -> None:
    """A connection is closed the idle timeout after its last reply, not before, and no line of the
    log tells of it.
    """
    client = kind(server)
    server.clock.advance(IDLE - 1)
    server.forwarder.instant = server.entry(pool())
    client.ask()
    assert client.replies() == 1
    server.pass_time(IDLE - 0.1)
    assert not client.transport.over()
    server.pass_time(0.2)
    assert client.transport.over()
    assert not client.transport.aborted()
    server.clock.advance(IDLE)
    assert client.transport.aborted(), "a client that does not let us close"
    client.lost()
    assert not server.clock.getDelayedCalls()
    assert log == []


def test_what_came_while_the_server_stood_still(
    server: MemoryServer, kind: type[HttpClient]
) -> None:
    """A connection is not idle for the time in which nobody could read it."""
    asking, idle = kind(server), kind(server)
    server.forwarder.instant = server.entry(pool())
    server.clock.callLater(IDLE + 1, asking.body, asking.head(), client_query("www.example"))
    server.clock.advance(IDLE - 1)
    server.clock.advance(IDLE)  # late by far: a standstill
    assert asking.replies() == 1
    assert not asking.transport.over()
    assert idle.transport.over()


def test_silence(server: MemoryServer, kind: type[HttpClient], log: list[LogEvent]) -> None:
    """A connection on which nothing ever comes is broken, and no line of the log tells of it."""
    client = kind(server) if kind is Http1Client else Silent(server)
    server.clock.advance(IDLE + 0.1)
    assert client.transport.aborted()
    client.lost()
    assert not server.clock.getDelayedCalls()
    assert log == []


class Silent(HttpClient):
    """Does not even say hello."""

    def start(self) -> None:
        """Send no preface."""


def test_queries_under_way(server: MemoryServer, kind: type[HttpClient]) -> None:
    """A query that takes longer than the idle timeout gets its answer; then idling begins."""
    client = kind(server)
    client.ask()
    for _ in range(5):
        server.clock.advance(IDLE - 1)
    assert not client.transport.over()
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert client.replies() == 1
    server.pass_time(IDLE - 0.1)
    assert not client.transport.over()
    server.pass_time(0.2)
    assert client.transport.over()
    client.lost()


def trickle(server: MemoryServer, client: HttpClient, drop: Any) -> float:
    """Send drops each second until the server has enough; seconds."""
    for _ in range(40):
        server.clock.advance(1)
        if client.transport.over():
            break
        drop()
    return server.clock.seconds()


def test_bodies_in_trickles(
    server: MemoryServer, kind: type[HttpClient], log: list[LogEvent]
) -> None:
    """A body has to be complete within the idle timeout, whatever trickles meanwhile."""
    client = kind(server)
    stream = client.head()
    assert trickle(server, client, lambda: client.body(stream, b"x", last=False)) == IDLE
    client.lost()
    assert server.forwarder.asked == []
    assert log == []


def test_heads_in_trickles(server: MemoryServer) -> None:
    """So has a head."""
    client = Http1Client(server)
    client.connection.dataReceived(b"GET /dns-query HTTP/1.1\r\n")
    assert trickle(server, client, lambda: client.connection.dataReceived(b"x: y\r\n")) == IDLE
    client.lost()


def test_frames_that_ask_nothing(server: MemoryServer) -> None:
    """PINGs, SETTINGS, window updates and streams that are opened and reset keep nothing open."""
    client = HttpClient(server)

    def drop() -> None:
        client.h2.ping(b"12345678")
        client.h2.update_settings({})
        client.h2.increment_flow_control_window(1)
        client.h2.reset_stream(client.head())
        client.flush()

    assert trickle(server, client, drop) == IDLE
    client.lost()
    assert not server.clock.getDelayedCalls()


def test_head_requests_are_not_logged(
    server: MemoryServer, log: list[LogEvent], kind: type[HttpClient]
) -> None:
    """What a client asks with HEAD is no matter for the log either."""
    encoded = base64.urlsafe_b64encode(client_query("localhost")).rstrip(b"=").decode()
    client = kind(server)
    path = f"/dns-query?dns={encoded}"
    if kind is Http1Client:
        client.connection.dataReceived(f"HEAD {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    else:
        fields = [(":method", "HEAD"), (":scheme", "https"), (":authority", "x"), (":path", path)]
        client.h2.send_headers(1, fields, end_stream=True)
        client.flush()
    assert client.replies() == 1
    client.lost()
    assert log == []


def test_who_floods_and_does_not_read(server: MemoryServer, log: list[LogEvent]) -> None:
    """A client that wants PINGs answered and takes nothing is not listened to, and dropped after
    the idle time, without a line.
    """
    client = HttpClient(server)
    client.stop_taking()
    for _ in range(2_000):
        client.h2.ping(b"12345678")
    client.connection.dataReceived(client.h2.data_to_send())
    assert client.transport.producerState == "paused"
    assert client.transport.value() == b""
    server.clock.advance(IDLE + 0.1)
    assert client.transport.aborted()
    client.lost()
    assert log == []


def test_the_longest_idle_one_makes_room(kind: type[HttpClient]) -> None:
    """At the limit the one leaves that has been without a request for the longest."""
    server = MemoryServer(ServerSettings(tcp_max_connections=3))
    held = []
    for _ in range(3):
        held.append(kind(server))
        server.clock.advance(1)
    held[0].ask("busy.example")
    stream = held[1].head()
    held[1].body(stream, b"x", last=False)  # is no request
    newcomer = kind(server)
    assert [client.transport.aborted() for client in held] == [False, True, False]
    assert server.factory.client_connections.open == [
        held[0].connection,
        held[2].connection,
        newcomer.connection,
    ]
    assert server.metrics.tcp_refused.cell().value == 0
    held[1].lost()
    assert len(server.factory.client_connections.open) == 3, "its place is given once, not twice"
    for client in (held[0], held[2], newcomer):
        client.lost()
    assert server.factory.client_connections.open == []
    assert not server.clock.getDelayedCalls()


def test_no_room(kind: type[HttpClient]) -> None:
    """While requests are under way on all connections one more is refused, and counted."""
    server = MemoryServer(ServerSettings(tcp_max_connections=3))
    held = [kind(server) for _ in range(3)]
    for client in held:
        client.ask()
    refused = Silent(server)
    assert refused.transport.aborted()
    refused.lost()
    assert server.metrics.tcp_refused.cell().value == 1
    assert not any(client.transport.over() for client in held)
    for client in held:
        client.lost()
    assert not server.clock.getDelayedCalls()


def test_strangers(server: MemoryServer) -> None:
    """Whoever may not ask is turned away, and takes nobody's place."""
    stranger = Silent(server, STRANGER)
    assert stranger.transport.aborted()
    assert server.factory.client_connections.open == []
    assert server.metrics.tcp_refused.cell().value == 1
    stranger.lost()
    assert not server.clock.getDelayedCalls()


def test_the_end(server: MemoryServer, kind: type[HttpClient]) -> None:
    """When the server stops, idle connections are closed at once; no request is taken any more."""
    idle, busy = kind(server), kind(server)
    server.forwarder.instant = server.entry(pool())
    idle.ask()
    server.forwarder.instant = None
    busy.ask("busy.example")
    for client in (idle, busy):
        client.connection.drain()
    assert idle.transport.over()
    assert not busy.transport.over()
    with contextlib.suppress(h2.exceptions.StreamClosedError):  # a stream is refused at once
        busy.ask("late.example")
    assert len(server.forwarder.asked) == 2
    server.forwarder.waiting[0].callback(server.entry(pool()))
    assert busy.replies() == 1
    busy.connection.close()
    busy.connection.close()
    assert busy.transport.over()
    for client in (idle, busy):
        client.lost()
    assert not server.clock.getDelayedCalls()


def test_bodies_that_wait(server: MemoryServer) -> None:
    """The bodies that a connection holds are bounded together, and one past that is refused; those
    that are given up make room.
    """
    client = HttpClient(server)
    part, streams = b"x" * 16_383, []
    for _ in range(MAX_BODIES // MAX_MESSAGE):
        streams.append(client.head())
        for _ in range(4):
            client.body(streams[-1], part, last=False)
        client.body(streams[-1], b"x" * (MAX_MESSAGE - 4 * len(part)), last=False)
    assert client.connection.session.bodies == MAX_BODIES
    client.body(client.head(), b"x")
    assert client.statuses() == [b"413"]
    client.h2.reset_stream(streams[0])
    client.flush()
    client.body(client.head(), b"x")
    client.body(streams[1], b"")
    assert client.statuses()[1:] == [b"400", b"200"], "there is room: no query, and FORMERR or so"
    client.lost()
    assert client.connection.session.bodies == 0


def test_rapid_resets(server: MemoryServer, log: list[LogEvent]) -> None:
    """Requests that are reset at once wait for nothing any more; with one too many of them the
    connection is broken, and what has come behind it is not answered.
    """
    client = HttpClient(server)

    def give_up() -> None:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, ASK, end_stream=True)
        client.h2.reset_stream(stream)

    for _ in range(MAX_RESETS):
        give_up()
        client.flush()
    assert len(server.forwarder.cancelled) == len(server.forwarder.waiting) == MAX_RESETS
    assert server.factory.drain().called
    assert client.connection.idle_since is not None
    assert not client.transport.over()
    client.ask("real.example")
    server.forwarder.waiting[-1].callback(server.entry(pool()))
    assert client.replies() == 1
    give_up()  # which the answer has paid for
    client.flush()
    assert not client.transport.over()
    for _ in range(500):
        give_up()
    client.connection.dataReceived(client.h2.data_to_send())
    assert client.transport.aborted()
    assert len(server.forwarder.waiting) == MAX_RESETS + 3
    client.lost()
    server.clock.advance(0)
    assert not server.clock.getDelayedCalls()
    assert log == []


def test_resets_before_the_end_of_a_request(server: MemoryServer) -> None:
    """What is reset before it is whole has asked nothing, and leaves nothing behind."""
    client = HttpClient(server)
    for _ in range(600):
        stream = client.head()
        client.body(stream, b"x" * 100, last=False)
        client.h2.reset_stream(stream)
        client.flush()
    assert server.forwarder.asked == []
    assert client.connection.session.bodies == 0
    client.ask()
    assert len(server.forwarder.waiting) == 1
    client.lost()


def test_streams_without_end(server: MemoryServer, log: list[LogEvent]) -> None:
    """A connection has a hundred requests under way; one more ends it, and nobody waits."""
    client = IgnoresSettings(server)
    for number in range(101):
        assert not client.transport.over()
        assert len(server.forwarder.waiting) == number
        client.ask(f"a{number}.example")
    assert client.transport.over()
    assert len(server.forwarder.cancelled) == 100
    client.lost()
    server.clock.advance(0)  # the sender's last turn
    assert not server.clock.getDelayedCalls()
    assert log == []


class IgnoresSettings(HttpClient):
    """Does not hear the server's limits."""

    def read(self) -> None:
        """Leave unread whatever the server sends."""


def test_heads_without_end(server: MemoryServer, log: list[LogEvent]) -> None:
    """Heads that are far too long end the connection: 16 KiB for HTTP/1.1, 64 KiB for HTTP/2."""
    first = Http1Client(server)
    first.connection.dataReceived(b"GET /dns-query HTTP/1.1\r\n" + b"x: " + b"y" * 16_384 + b"\r\n")
    second = HttpClient(server)
    fields = [(":method", "GET"), (":scheme", "https"), (":authority", "x"), (":path", "/")]
    second.h2.send_headers(1, [*fields, *((f"x{n}", "y" * 1000) for n in range(66))])
    second.connection.dataReceived(second.h2.data_to_send())
    for client in (first, second):
        assert client.transport.over()
        client.lost()
    assert not server.clock.getDelayedCalls()
    assert log == []


def test_queries_in_urls(server: MemoryServer) -> None:
    """What is no base64url is no query (RFC 8484 section 4.1), wherever it is not."""
    for change, status in (("", b"200"), ("*", b"400"), ("\xff", b"400"), ("=", b"400")):
        client = HttpClient(server)
        server.forwarder.instant = server.entry(pool())
        path = f"/dns-query?dns={QUERY[:6]}{change}{QUERY[6:]}"
        client.h2.send_headers(1, [*ASK[:3], (":path", path)], end_stream=True)
        client.flush()
        assert client.statuses() == [status]
        client.lost()


def test_pipelined_requests_of_who_does_not_read(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP/1.1 the next request is served when the response before it has been taken."""
    server.forwarder.instant = server.entry(pool(100))
    client = Http1Client(server)
    write = client.transport.write

    def full(data: bytes) -> None:
        write(data)
        if len(data) > 1_000:
            client.stop_taking()

    monkeypatch.setattr(client.transport, "write", full)
    head = f"GET /dns-query?dns={QUERY} HTTP/1.1\r\nhost: x\r\n\r\n"
    client.connection.dataReceived(head.encode() * 50)
    for number in range(1, 51):
        assert client.replies() == number
        assert len(server.forwarder.asked) == number
        assert server.factory.client_connections.unread > 0
        client.take()
    assert server.factory.client_connections.unread == 0
    client.lost()


def test_absolute_targets(server: MemoryServer) -> None:
    """A request may name the whole URL (RFC 9112 section 3.2.2)."""
    server.forwarder.instant = server.entry(pool())
    for target, found in ((f"https://x/dns-query?dns={QUERY}", 1), ("https://x/", 0)):
        client = Http1Client(server)
        client.connection.dataReceived(f"GET {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
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
def test_malformed_requests(
    server: MemoryServer, fields: list[tuple[str, str]], answered: bool
) -> None:
    """A malformed request (RFC 9113 section 8.1.1) ends its stream, and no other."""
    client = HttpClient(server)
    client.h2.send_headers(1, [*ASK, *fields], end_stream=True)
    client.flush()
    assert len(server.forwarder.asked) == answered
    resets = [event for event in client.events if isinstance(event, h2.events.StreamReset)]
    assert [reset.error_code for reset in resets] == ([] if answered else [1])
    client.ask()
    assert len(server.forwarder.asked) == answered + 1
    client.lost()
