"""Queries over HTTP/2, frame by frame in memory, with h2 as the server."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import RequestReceived
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import error
from twisted.python.failure import Failure

from staggerdns.upstream.budget import LONGEST_PAUSE
from staggerdns.upstream.https import MAX_ABANDONED, MAX_STREAMS, MODEST_STREAMS
from staggerdns.upstream.reason import Reason
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.verdict import Verdict
from tests.kit.acts import says
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.memory import WWW, MemoryTransport
from tests.kit.memoryhttp import TYPE, HttpsUpstream, good_body

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def https() -> Iterator[HttpsUpstream]:
    """An upstream in memory; nothing is left of it in the end."""
    made = HttpsUpstream()
    yield made
    made.upstream.close()
    assert made.reactor.getDelayedCalls() == []


def test_post(https: HttpsUpstream) -> None:
    """The query is the body, with the ID 0, padded, and with the header fields of RFC 8484."""
    https.ask()
    server = https.connect()
    assert server.headers[1] == {
        ":method": "POST",
        ":scheme": "https",
        ":authority": "dns.example",
        ":path": "/dns-query",
        "accept": TYPE,
        "content-type": TYPE,
        "content-length": "128",
    }
    body = server.bodies[1]
    assert len(body) == 128
    assert body[:2] == b"\0\0"
    assert body[2:].startswith(WWW.client_query()[:-2])
    server.answer(1)
    (outcome,) = https.outcomes
    assert isinstance(outcome.answer, AddressPool)


def test_get() -> None:
    """The query is in the URL, in base64url without padding; the same query is the same URL."""
    https = HttpsUpstream("https://192.0.2.1:8443/q{?dns}")
    https.ask()
    https.ask()
    server = https.connect()
    fields = server.headers[1]
    assert fields[":method"] == "GET"
    assert fields[":authority"] == "192.0.2.1:8443"
    assert "content-type" not in fields
    path, _, encoded = fields[":path"].partition("?dns=")
    assert path == "/q"
    assert "=" not in encoded
    wire = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    assert len(wire) == 128
    assert wire[:2] == b"\0\0"
    assert server.headers[3] == fields
    server.answer(1)
    assert https.reasons() == [None]
    https.upstream.close()


@pytest.mark.parametrize("size", [0, 60, 4096, 8192])
def test_equal_fields_again_and_again(https: HttpsUpstream, size: int) -> None:
    """However large the server's table of fields is, and whenever it changes, it reads the same."""
    https.ask()
    server = https.connect()
    for _ in range(4):
        https.ask()
        server.listen()
    server.h2.update_settings({SettingCodes.HEADER_TABLE_SIZE: size})
    server.talk()
    for _ in range(4):
        https.ask()
        server.listen()
    assert len(server.headers) == 9
    assert all(fields == server.headers[1] for fields in server.headers.values())
    assert not server.transport.cut()


def test_urls_of_queries_are_not_remembered() -> None:
    """With GET each URL is one of a kind: it takes no place in the table of fields."""
    https = HttpsUpstream("https://192.0.2.1/dns-query{?dns}")
    https.ask()
    server = https.connect()
    before = len(server.h2.decoder.header_table.dynamic_entries)
    for _ in range(5):
        https.ask()
    server.listen()
    assert len(server.h2.decoder.header_table.dynamic_entries) == before
    assert not any(b":path" in entry for entry in server.h2.decoder.header_table.dynamic_entries)
    https.upstream.close()


@pytest.mark.parametrize(
    ("where", "authority"),
    [
        ("https://[2001:db8::1]/q", "[2001:db8::1]"),
        ("https://[2001:db8::1]:444/q", "[2001:db8::1]:444"),
        ("https://192.0.2.1/q", "192.0.2.1"),
        ("https://192.0.2.1:444/q#dns.example", "dns.example:444"),
        (f"https://192.0.2.1/q;pin-sha256={'A' * 43}=", "192.0.2.1"),
    ],
)
def test_authority(where: str, authority: str) -> None:
    """The authority is the name if there is one, and the port if it is another than 443."""
    https = HttpsUpstream(where)
    https.ask()
    assert https.connect().headers[1][":authority"] == authority
    https.upstream.close()


def test_out_of_order(https: HttpsUpstream) -> None:
    """Many queries are under way on one connection and end as their answers come."""
    exchanges = [https.ask() for _ in range(5)]
    server = https.connect()
    assert server.requests == [1, 3, 5, 7, 9]
    for index in (3, 0, 4, 2, 1):
        server.answer(server.requests[index])
        assert exchanges[index].over
    assert https.reasons() == [None] * 5
    assert https.attempts == 1


def test_settings_are_respected(https: HttpsUpstream) -> None:
    """No more streams than the server allows; the others wait for their turn."""
    https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=2)
    for _ in range(4):
        https.ask()
    server.listen()
    assert server.requests == [1, 3]
    server.answer(3)
    assert server.requests == [1, 3, 5]
    for stream in (1, 5, 7, 9):
        server.answer(stream)
    assert https.reasons() == [None] * 5


def test_before_the_settings(https: HttpsUpstream) -> None:
    """Until the server has spoken it is asked no more than what any server should allow."""
    for _ in range(MODEST_STREAMS + 1):
        https.ask()
    factory = https.reactor.tcpClients[0][2]
    protocol, transport = factory.buildProtocol(None), MemoryTransport()
    protocol.makeConnection(transport)
    seen = H2Connection(H2Configuration(client_side=False)).receive_data(transport.value())
    assert sum(isinstance(event, RequestReceived) for event in seen) == MODEST_STREAMS


def test_asked_in_the_middle_of_a_read(https: HttpsUpstream) -> None:
    """What is asked because of a reply heeds the settings, or the goodbye, right behind it."""
    https.ask(then=https.ask)
    https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=2)
    server.h2.send_headers(1, [(":status", "200"), ("content-type", TYPE)])
    server.h2.send_data(1, good_body(), end_stream=True)
    server.h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: 1})
    server.talk()
    assert (server.requests, server.transport.cut()) == ([1, 3], False)
    server.answer(3)
    assert server.requests == [1, 3, 5]
    server.answer(5)
    assert https.reasons() == [None, None, None]


def test_asked_between_a_reply_and_a_goodbye(https: HttpsUpstream) -> None:
    """What is asked because of a reply goes elsewhere when a GOAWAY is right behind it."""
    https.ask(then=https.ask)
    server = https.connect()
    server.h2.close_connection(last_stream_id=1)
    server.protocol.dataReceived(response(1) + server.h2.data_to_send())
    assert not server.transport.cut()
    other = https.connect()
    other.answer(1)
    assert https.reasons() == [None, None]


def test_a_stream_that_cannot_be_opened(
    https: HttpsUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exchange whose stream h2 refuses goes to a new connection with the others."""

    def refuse(*_: object, **__: object) -> None:
        raise ProtocolError

    https.ask()
    server = https.connect()
    with monkeypatch.context() as patch:
        patch.setattr(H2Connection, "send_headers", refuse)
        https.ask()
    assert server.transport.cut()
    other = https.connect()
    for stream in (1, 3):
        other.answer(stream)
    assert https.reasons() == [None, None]


def test_a_thousand_at_once(https: HttpsUpstream) -> None:
    """A burst beyond `MAX_STREAMS` goes over one connection all the same."""
    for _ in range(MAX_STREAMS + 5):
        https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=2**31 - 1)
    assert len(server.requests) == MAX_STREAMS
    while len(https.outcomes) < MAX_STREAMS + 5:
        server.answer(server.requests[len(https.outcomes)])
    assert set(https.reasons()) == {None}
    assert https.attempts == 1


def test_flow_control_of_bodies(https: HttpsUpstream) -> None:
    """A body goes out in the pieces that the server's windows allow."""
    https.ask()
    server = https.connect()
    server.answer(1)
    server.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 50})
    server.talk()
    https.ask()
    server.listen()
    assert len(server.bodies[3]) == 50
    server.h2.increment_flow_control_window(50, 3)
    server.talk()
    assert len(server.bodies[3]) >= 100
    while len(server.bodies[3]) < 128:
        server.h2.increment_flow_control_window(10, 3)
        server.talk()
    server.answer(3)
    assert https.reasons() == [None, None]


def test_replies_longer_than_the_windows(https: HttpsUpstream) -> None:
    """We open our windows as we read: large replies, more of them than fit, all come through."""
    act = says(0, *[f"203.0.{high}.{low}" for high in range(10) for low in range(256)])
    assert act.reply is not None
    body = act.reply(WWW)
    assert len(body) > 40_000
    for _ in range(40):
        https.ask()
    server = https.connect()
    for stream in server.requests:
        server.answer(stream, body)
    assert https.reasons() == [None] * 40


def test_reply_in_pieces(https: HttpsUpstream) -> None:
    """However the stream is cut, the reply counts once, with its last byte."""
    https.ask()
    server = https.connect()
    server.h2.send_headers(1, [(":status", "200"), ("content-type", TYPE)])
    server.h2.send_data(1, good_body(), end_stream=True)
    data = server.h2.data_to_send()
    for position in range(len(data)):
        assert https.outcomes == []
        server.protocol.dataReceived(data[position : position + 1])
    assert https.reasons() == [None]


@pytest.mark.parametrize(
    ("status", "reason", "label"),
    [
        (204, Reason.HTTP, "2xx"),
        (301, Reason.HTTP, "3xx"),
        (400, Reason.HTTP, "4xx"),
        (404, Reason.HTTP, "4xx"),
        (429, Reason.REFUSED, "429"),
        (500, Reason.HTTP, "5xx"),
        (503, Reason.HTTP, "503"),
    ],
)
def test_status(https: HttpsUpstream, status: int, reason: Reason, label: str) -> None:
    """Anything but 200 is a failure, whatever the body says; nothing is followed."""
    https.ask()
    server = https.connect()
    server.answer(1, status=status, location="https://192.0.2.66/")
    (outcome,) = https.outcomes
    assert (outcome.verdict, outcome.reason) == (Verdict.FAILURE, reason)
    assert https.errors() == {label: 1}
    assert https.attempts == 1
    assert https.upstream.usable(1000.0)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("retry", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("99999999999999", LONGEST_PAUSE),
        ("Fri, 20 Nov 2026 10:00:30 GMT", 30.0),
        ("Fri, 20 Nov 2026 09:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("9" * 5000, LONGEST_PAUSE),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0.0),
        ("Fri, 99999999999999999999 Nov 2026 10:00:30 GMT", 0.0),
        ("Fri, 20 Nov 2026 10:00:30 -99999999999999", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_PAUSE),
    ],
)
def test_retry_after(https: HttpsUpstream, status: int, retry: str, seconds: float) -> None:
    """The upstream is left alone for as long as it asks (RFC 9110 section 10.2.3)."""
    https.ask()
    server = https.connect()
    server.answer(1, status=status, retry_after=retry, date="Fri, 20 Nov 2026 10:00:00 GMT")
    assert len(https.reasons()) == 1
    now = 1000.0
    assert https.upstream.has_room(now, first=True) == (seconds == 0)
    if seconds:
        assert https.upstream.room_at(now) == pytest.approx(now + seconds)
        assert not https.upstream.has_room(now + seconds - 0.1, first=True)
    assert https.upstream.has_room(now + seconds + 0.1, first=True)


def test_a_reply_that_cannot_be_read(https: HttpsUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with a reply, its query has failed at once."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    https.ask()
    server = https.connect()
    monkeypatch.setattr("staggerdns.upstream.https.aged", broken)
    with pytest.raises(ZeroDivisionError):
        server.answer(1, age="5")
    assert https.reasons() == [Reason.HTTP]


def test_retry_after_without_need(https: HttpsUpstream) -> None:
    """With another status the field means nothing to us."""
    https.ask()
    https.connect().answer(1, status=500, retry_after="60")
    assert https.upstream.has_room(1000.0, first=True)


@pytest.mark.parametrize("kind", ["", "text/html", "application/dns-json", TYPE + "x"])
def test_content_type(https: HttpsUpstream, kind: str) -> None:
    """What is no DNS message is a failure, and counted."""
    https.ask()
    https.connect().answer(1, content_type=kind)
    assert https.reasons() == [Reason.HTTP]
    assert https.rejected() == {"type": 1}


@pytest.mark.parametrize("kind", [TYPE.upper(), TYPE + "; charset=utf-8", f" {TYPE} ;x=y"])
def test_content_type_with_decoration(https: HttpsUpstream, kind: str) -> None:
    """Case and parameters of the media type do not matter (RFC 9110 section 8.3.1)."""
    https.ask()
    https.connect().answer(1, content_type=kind.strip())
    assert https.reasons() == [None]


@pytest.mark.parametrize(
    ("body", "reason", "why"),
    [
        (b"", Reason.MISMATCH, "short"),
        (b"\0" * 40, Reason.MISMATCH, "flags"),
        (good_body().replace(b"www", b"wwx"), Reason.MISMATCH, "question"),
    ],
)
def test_body_that_does_not_answer(
    https: HttpsUpstream, body: bytes, reason: Reason, why: str
) -> None:
    """A message that is no reply to the query is a failure; the connection goes on."""
    https.ask()
    server = https.connect()
    server.answer(1, body)
    assert https.reasons() == [reason]
    assert https.rejected() == {why: 1}
    https.ask()
    server.listen()
    server.answer(3)
    assert https.reasons() == [None]


@pytest.mark.parametrize(("size", "reason"), [(65_535, Reason.MISMATCH), (65_536, Reason.HTTP)])
def test_size(https: HttpsUpstream, size: int, reason: Reason) -> None:
    """A body longer than a DNS message can be is not kept: its stream is reset."""
    https.ask()
    server = https.connect()
    server.h2.send_headers(1, [(":status", "200"), ("content-type", TYPE)])
    for _ in range(size // 8192):
        server.h2.send_data(1, bytes(8192))
        server.talk()
    if size % 8192:
        server.h2.send_data(1, bytes(size % 8192))
    server.talk()
    if size <= 65_535:
        server.h2.end_stream(1)
        server.talk()
    assert https.reasons() == [reason]
    assert server.resets == ([1] if reason is Reason.HTTP else [])


@pytest.mark.parametrize(
    ("age", "ttl"), [("", 300), ("0", 300), ("100", 200), ("301", 0), ("9" * 40, 0), ("x", 300)]
)
def test_age(https: HttpsUpstream, age: str, ttl: int) -> None:
    """What a cache on the way has kept is as much older (RFC 8484 section 5.1)."""
    https.ask()
    https.connect().answer(1, age=age)
    (outcome,) = https.outcomes
    assert outcome.answer is not None
    assert outcome.answer.ttl == ttl


@pytest.mark.parametrize("code", [ErrorCodes.REFUSED_STREAM, ErrorCodes.INTERNAL_ERROR])
def test_stream_reset(https: HttpsUpstream, code: ErrorCodes) -> None:
    """A query whose stream is reset goes out once more, on the same connection; then it ends."""
    https.ask()
    server = https.connect()
    server.h2.reset_stream(1, code)
    server.talk()
    assert server.requests == [1, 3]
    server.h2.reset_stream(3, code)
    server.talk()
    assert https.reasons() == [Reason.CLOSED]
    assert (server.requests, https.attempts) == ([1, 3], 1)


def test_goaway(https: HttpsUpstream) -> None:
    """Streams that the server will answer go on; the others, and new ones, go elsewhere."""
    for _ in range(3):
        https.ask()
    server = https.connect()
    server.h2.close_connection(last_stream_id=3)
    goaway = server.h2.data_to_send()
    server.protocol.dataReceived(goaway)
    other = https.connect()
    assert len(other.requests) == 1
    https.ask()
    other.listen()
    assert len(other.requests) == 2
    for stream in (1, 3):
        server.protocol.dataReceived(response(stream))
    assert https.reasons() == [None, None]
    assert server.transport.disconnecting
    other.answer(1)
    other.answer(3)
    assert https.reasons() == [None, None]


def test_goaway_in_one_go_with_answers(https: HttpsUpstream) -> None:
    """Answers right behind a GOAWAY, in the same bytes, count as well."""
    https.ask()
    server = https.connect()
    server.h2.close_connection(last_stream_id=1)
    server.protocol.dataReceived(server.h2.data_to_send() + response(1))
    assert https.reasons() == [None]
    assert server.transport.disconnecting
    assert not server.transport.cut()


def test_goaway_at_rest(https: HttpsUpstream) -> None:
    """A connection that nobody uses is closed at once."""
    https.ask()
    server = https.connect()
    server.answer(1)
    server.h2.close_connection()
    server.protocol.dataReceived(server.h2.data_to_send())
    assert server.transport.disconnecting
    https.ask()
    assert https.attempts == 2


def response(stream: int) -> bytes:
    """The frames of a good response, each field written out."""

    def frame(kind: int, flags: int, payload: bytes) -> bytes:
        return (
            struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
        )

    block = b"\x88\x0f\x10" + bytes([len(TYPE)]) + TYPE.encode()  # :status 200, content-type
    return frame(1, 4, block) + frame(0, 1, good_body())


def test_cancelled(https: HttpsUpstream) -> None:
    """A stream that was given up runs on, and its answer disturbs nobody."""
    exchange = https.ask()
    https.ask()
    server = https.connect()
    exchange.cancel()
    server.listen()
    assert server.resets == []
    server.answer(1)
    server.answer(3)
    assert https.reasons() == [None]


def test_many_cancelled(https: HttpsUpstream) -> None:
    """Beyond `MAX_ABANDONED` the oldest is reset, so that streams do not run out."""
    exchanges = [https.ask() for _ in range(MAX_ABANDONED + 2)]
    server = https.connect()
    for exchange in exchanges[:MAX_ABANDONED]:
        exchange.cancel()
    server.listen()
    assert server.resets == []
    for exchange in exchanges[MAX_ABANDONED:]:
        exchange.cancel()
    server.listen()
    assert server.resets == [1, 3]


def test_cancelled_streams_make_room(https: HttpsUpstream) -> None:
    """Streams that were given up are reset as soon as their places are needed, none before."""
    exchanges = [https.ask() for _ in range(4)]
    server = https.connect(MAX_CONCURRENT_STREAMS=4)
    for exchange in exchanges[:3]:
        exchange.cancel()
    server.listen()
    assert server.resets == []
    for _ in range(2):
        https.ask()
    server.listen()
    assert (server.resets, server.requests[4:]) == ([1, 3], [9, 11])
    for stream in (7, 9, 11):
        server.answer(stream)
    assert https.reasons() == [None, None, None]


def test_a_connection_that_dies_between_two_answers(https: HttpsUpstream) -> None:
    """One answer makes up for no silence after it: the next timeout ends the connection."""
    https.ask()
    second = https.ask()
    server = https.connect()
    server.answer(1)
    https.reactor.advance(3)
    second.expire()
    assert server.transport.cut()
    assert https.reasons() == [None, Reason.TIMEOUT]


def test_silence_with_nothing_to_say(https: HttpsUpstream) -> None:
    """A connection that has answered everything, and is idle, is as good as new."""
    https.ask()
    server = https.connect()
    server.answer(1)
    https.reactor.advance(20)
    https.ask()
    assert https.attempts == 1
    assert not server.transport.cut()


def test_pings_are_no_answers(https: HttpsUpstream) -> None:
    """A connection with nothing but PINGs and streams given up is replaced after a timeout."""
    https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=4)
    server.answer(1)
    for _ in range(4):
        https.ask().cancel()
    for _ in range(3):
        https.reactor.advance(1)
        server.h2.ping(b"12345678")
        server.talk()
    assert https.attempts == 1
    https.ask()
    assert server.transport.cut()
    other = https.connect()
    other.answer(1)
    assert https.reasons() == [None, None]


def test_timed_out(https: HttpsUpstream) -> None:
    """A stream that timed out is reset: the server need not work on it."""
    exchange = https.ask()
    server = https.connect()
    https.reactor.advance(2)
    https.ask()
    server.listen()
    server.answer(3)
    https.reactor.advance(1)
    exchange.expire()
    server.listen()
    assert server.resets == [1]
    assert https.reasons() == [None, Reason.TIMEOUT]
    assert not server.transport.cut()


def test_cancelled_in_the_backlog(https: HttpsUpstream) -> None:
    """What waits for its turn, and is cancelled, is never sent."""
    https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=1)
    https.ask().cancel()
    https.ask()
    server.listen()
    assert server.requests == [1]
    server.answer(1)
    assert server.requests == [1, 3]
    server.answer(3)
    assert https.reasons() == [None, None]


def test_lost_connection(https: HttpsUpstream) -> None:
    """What was under way, and what waited for its turn, goes out on a new connection."""
    https.ask()
    server = https.connect(MAX_CONCURRENT_STREAMS=1)
    https.ask()
    server.protocol.connectionLost(Failure(error.ConnectionDone()))
    other = https.connect()
    assert len(other.requests) == 2
    for stream in other.requests:
        other.answer(stream)
    assert https.reasons() == [None, None]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\4\0\0\0\0\0\0\0\0\0\0",  # DATA on stream 0
        b"\0\0\1\1\4\0\0\0\1\xff",  # a header block that is none
    ],
)
def test_what_is_no_http2(https: HttpsUpstream, data: bytes) -> None:
    """A server that breaks the protocol loses the connection; queries end after one more try."""
    https.ask()
    for _ in range(2):
        server = https.connect()
        server.protocol.dataReceived(data)
        assert server.transport.cut()
    assert https.reasons() == [Reason.HTTP]


def test_header_bombs(https: HttpsUpstream) -> None:
    """Header fields beyond a bound end the connection instead of filling the memory."""
    https.ask()
    server = https.connect()
    server.h2.send_headers(1, [(":status", "200"), *[("x", "y" * 4000)] * 5])
    server.protocol.dataReceived(server.h2.data_to_send())
    assert server.transport.cut()


def test_pushed_streams_are_refused(https: HttpsUpstream) -> None:
    """We say that we want no pushes."""
    https.ask()
    assert https.connect().h2.remote_settings.enable_push == 0


def test_last_stream(https: HttpsUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream numbers end: long before that, a new connection takes over."""
    https.ask()
    server = https.connect()
    server.answer(1)
    monkeypatch.setattr("staggerdns.upstream.https.LAST_STREAM", 4)
    https.ask()
    assert https.attempts == 1
    https.ask()
    https.ask()
    assert https.attempts == 2


def test_a_client_that_does_not_read(https: HttpsUpstream) -> None:
    """While the server does not take what we say, we read nothing more from it."""
    https.ask()
    server = https.connect()
    assert server.transport.producer is server.protocol
    connection: Any = server.protocol
    connection.pauseProducing()
    assert server.transport.producerState == "paused"
    connection.resumeProducing()
    assert server.transport.producerState == "producing"


def test_closed_while_queries_are_under_way(https: HttpsUpstream) -> None:
    """After `close` the connection hears and says nothing; exchanges end by their own time."""
    exchanges = [https.ask()]
    server = https.connect(MAX_CONCURRENT_STREAMS=2)
    exchanges += [https.ask(), https.ask()]
    https.upstream.close()
    written = len(server.transport.value())
    server.protocol.dataReceived(response(1))
    https.reactor.advance(3)
    for exchange in exchanges:
        exchange.expire()
    assert https.reasons() == [Reason.TIMEOUT] * 3
    assert len(server.transport.value()) == written
    assert https.attempts == 1


frames = st.builds(
    lambda kind, flags, stream, payload: (
        struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, stream) + payload
    ),
    st.integers(0, 10),
    st.integers(0, 255),
    st.sampled_from([0, 1, 3, 5, 7, 2**31 - 1]),
    st.one_of(st.binary(max_size=40), st.just(good_body()), st.just(b"\x88\x0f\x10\0")),
)


@PURE_ONLY
@given(st.lists(frames, max_size=12))
@settings(max_examples=amount(25, 300))
def test_any_frames(found: list[bytes]) -> None:
    """Whatever frames come, nothing is raised, and each query ends or waits."""
    https = HttpsUpstream()
    exchanges = [https.ask() for _ in range(3)]
    server = https.connect()
    for frame in found:
        server.protocol.dataReceived(frame)
    if https.attempts == 2:
        https.connect()
    https.reactor.advance(3)
    for exchange in exchanges:
        exchange.expire()
    assert len(https.outcomes) == 3
    https.upstream.close()
    assert https.reactor.getDelayedCalls() == []
