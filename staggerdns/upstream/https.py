"""DNS over HTTPS to one upstream (RFC 8484): each query is a stream of one HTTP/2 connection.

A query has the ID 0, so that HTTP caches know equal ones (section 4.1). Streams beyond what the
server allows wait for others to end, and bodies for its flow control (RFC 9113 sections 5.1.2 and
5.2). After GOAWAY the streams that the server will still answer go on, the others are sent again
on another connection. A stream whose exchange gave up is left open, since servers resent many
resets; it is reset when its time is up or its place is needed. Only frames of streams are signs of
life: a server that sends PINGs and no answers counts as dead.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from contextlib import suppress
from email.utils import parsedate_to_datetime

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error
from hpack import NeverIndexedHeaderTuple
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from staggerdns.settings.addresses import Endpoint
from staggerdns.upstream.connection import Connection, ConnectionOwner
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.http2 import ClientState
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.tls import Handshake
from staggerdns.wire.age import aged
from staggerdns.wire.constants import MAX_MESSAGE, MEDIA_TYPE
from staggerdns.wire.edns import with_options
from staggerdns.wire.reply import Mismatch, mismatch, repeats

MAX_STREAMS = 1000
"""Streams that we have open at once, whatever the server allows."""
MODEST_STREAMS = 100
"""Streams that we open before the server has said how many it allows (RFC 9113 section 6.5.2)."""
MAX_ABANDONED = 64
"""Streams whose exchanges gave up and that run on all the same."""
LAST_STREAM = 2**30
"""The number of a stream after which a new connection is made; they end at 2**31 - 1."""
_CONNECTION_WINDOW = 1 << 20  # bytes of all replies together that we have not yet read
_DNS_ID = b"\0\0"


class _Stream:
    """A query on its way; ``exchange`` is `None` when that has given up."""

    __slots__ = ("exchange", "unsent", "headers", "body")

    def __init__(self, exchange: Exchange, unsent: bytes) -> None:
        self.exchange: Exchange | None = exchange
        self.unsent = unsent
        self.headers: dict[bytes, bytes] = {}
        self.body = b""


@implementer(IPushProducer)
class HttpConnection(Connection):
    """An HTTP/2 connection."""

    def __init__(self, owner: ConnectionOwner, address: str, tls: Handshake | None) -> None:
        super().__init__(owner, address, tls)
        where = owner.address
        host = where.auth_name if where.auth_name and ":" not in where.auth_name else ""
        authority = host or str(Endpoint(where.endpoint.address, 0)).rpartition(":")[0]
        if where.endpoint.port != 443:
            authority += f":{where.endpoint.port}"
        self._get = where.get
        self._path = where.path.encode("ascii")
        self._pseudo = [  # these come first (RFC 9113 section 8.3)
            (b":method", b"GET" if where.get else b"POST"),
            (b":scheme", b"https"),
            (b":authority", authority.encode("ascii")),
        ]
        self._streams: dict[int, _Stream] = {}
        self._numbers: dict[Exchange, int] = {}
        self._backlog: dict[Exchange, None] = {}
        self._abandoned: dict[int, None] = {}
        self._held: dict[int, _Stream] = {}  # by flow control
        self._limit = MODEST_STREAMS
        self._reading = False  # events are being handled; h2 knows of later ones, like a GOAWAY
        self._h2 = ClientState()

    def dataReceived(self, data: bytes) -> None:
        """Read what the server sends."""
        if self._lost:
            return
        self._acknowledge()
        try:
            self._take_all(data)
            if not self._lost:
                self._launch_backlog()
                for number, stream in list(self._held.items()):
                    self._send_body(number, stream)
        except H2Error:
            self._flush()  # it holds the GOAWAY that says what was wrong
            self.drop(Reason.HTTP)
            return
        self._flush()
        self._settle()

    def pauseProducing(self) -> None:
        """Read nothing more while the server does not read what we answer to its frames."""
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Read on."""
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Nothing to stop: what we say comes from queries and from what we read."""

    # What the base asks for.

    def _begin(self) -> None:
        self.transport.registerProducer(self, True)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_CONNECTION_WINDOW)
        self._flush()

    def _send(self, exchange: Exchange) -> None:
        self._backlog[exchange] = None
        try:
            self._launch_backlog()
        except H2Error:
            self.drop(Reason.HTTP)
        self._flush()

    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        if exchange in self._backlog:
            del self._backlog[exchange]
        elif exchange in self._numbers:
            number = self._numbers.pop(exchange)
            self._streams[number].exchange = None
            self._abandoned[number] = None
            if timed_out:
                self._reset(number)
            elif len(self._abandoned) > MAX_ABANDONED:
                self._reset(next(iter(self._abandoned)))
            self._flush()
        else:
            return
        self._given_up(timed_out=timed_out)

    def _orphans(self) -> list[Exchange]:
        orphans = [*self._numbers, *self._backlog]
        self._numbers.clear()
        self._backlog.clear()
        self._streams.clear()
        self._abandoned.clear()
        self._held.clear()
        return orphans

    @property
    def _busy(self) -> bool:
        return bool(self._numbers or self._backlog)

    def _goodbye(self) -> None:
        self._h2.close_connection()
        self._flush()
        self.transport.unregisterProducer()

    def _take_all(self, data: bytes) -> None:
        self._reading = True
        try:
            for event in self._h2.receive_data(data):
                self._take(event)
                if getattr(event, "stream_id", 0):
                    self._alive()
        finally:
            self._reading = False

    # Requests.

    def _launch_backlog(self) -> None:
        """Open a stream for each exchange that waits, as far as the server allows."""
        while self._backlog and not self._reading:
            while len(self._streams) >= self._limit and self._abandoned:
                self._reset(next(iter(self._abandoned)))
            if len(self._streams) >= self._limit:
                return
            self._launch(next(iter(self._backlog)))

    def _launch(self, exchange: Exchange) -> None:
        size = len(exchange.question.section)
        message = exchange.query
        if exchange.level == FULL:
            exchange.optioned = True
            message = with_options(message, size, b"", padded=True)
        message = _DNS_ID + message
        number = self._h2.get_next_available_stream_id()
        fields: list[tuple[bytes, bytes]]
        if self._get:
            path = self._path + b"?dns=" + urlsafe_b64encode(message).rstrip(b"=")
            # Each is different, and would push what repeats out of the table (RFC 7541).
            fields = [NeverIndexedHeaderTuple(b":path", path), (b"accept", MEDIA_TYPE)]
            message = b""
        else:
            length = str(len(message)).encode("ascii")
            fields = [
                (b":path", self._path),
                (b"accept", MEDIA_TYPE),
                (b"content-type", MEDIA_TYPE),
                (b"content-length", length),
            ]
        self._h2.send_headers(number, [*self._pseudo, *fields], end_stream=not message)
        del self._backlog[exchange]  # not before: h2 may have refused
        stream = self._streams[number] = _Stream(exchange, message)
        self._numbers[exchange] = number
        if message:
            self._send_body(number, stream)
        if number >= LAST_STREAM:
            self.retire()

    def _send_body(self, number: int, stream: _Stream) -> None:
        """Send as much of a body as flow control allows."""
        room = min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)
        if room > 0:
            part, stream.unsent = stream.unsent[:room], stream.unsent[room:]
            self._h2.send_data(number, part, end_stream=not stream.unsent)
        if stream.unsent:
            self._held[number] = stream
        else:
            self._held.pop(number, None)

    def _reset(self, number: int) -> None:
        with suppress(H2Error):  # the server has closed it, which we have yet to read
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
        self._end(number)

    def _end(self, number: int) -> _Stream | None:
        """Forget a stream that is over, and return it if it was known."""
        stream = self._streams.pop(number, None)
        if stream is not None and stream.exchange is not None:
            del self._numbers[stream.exchange]
            stream.exchange.forget = None
        self._abandoned.pop(number, None)
        self._held.pop(number, None)
        return stream

    def _flush(self) -> None:
        data = self._h2.data_to_send()
        if data:
            self.transport.write(data)

    # Replies.

    def _take(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                stream.headers = dict(event.headers)
        elif isinstance(event, DataReceived):
            self._take_data(event)
        elif isinstance(event, StreamEnded):
            self._complete(event.stream_id)
        elif isinstance(event, StreamReset):
            stream = self._end(event.stream_id)
            if stream is not None and stream.exchange is not None:
                self._owner.again([stream.exchange], Reason.CLOSED)
        elif isinstance(event, RemoteSettingsChanged):
            self._limit = min(self._h2.remote_settings.max_concurrent_streams, MAX_STREAMS)
        elif isinstance(event, ConnectionTerminated):
            self.retire()
            last = event.last_stream_id or 0
            unseen = [number for number in self._streams if number > last]
            ended = [self._end(number) for number in unseen]
            backlog, self._backlog = self._backlog, {}
            refused = [stream.exchange for stream in ended if stream and stream.exchange]
            self._owner.again([*refused, *backlog], Reason.CLOSED)

    def _take_data(self, event: DataReceived) -> None:
        if event.flow_controlled_length:
            self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.body += event.data
        if len(stream.body) > MAX_MESSAGE:
            exchange = stream.exchange
            self._reset(event.stream_id)
            if exchange is not None:
                self._owner.report.rejected(Mismatch.SIZE)
                exchange.failure(Reason.HTTP)

    def _complete(self, number: int) -> None:
        stream = self._end(number)
        if stream is None:
            return
        if stream.unsent:  # it answered before it had the whole query
            self._h2.reset_stream(number, ErrorCodes.CANCEL)
        self._note_answer()
        exchange = stream.exchange
        if exchange is None:
            return
        try:
            self._read(stream, exchange)
        except Exception:
            exchange.failure(Reason.HTTP)  # it waits nowhere any more
            raise

    def _read(self, stream: _Stream, exchange: Exchange) -> None:
        headers = stream.headers
        status = _number(headers.get(b":status", b""))
        if status != 200:
            self._note_status(status, headers)
            exchange.failure(Reason.REFUSED if status == 429 else Reason.HTTP)
            return
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if media_type != MEDIA_TYPE:
            self._owner.report.rejected(Mismatch.TYPE)
            exchange.failure(Reason.HTTP)
            return
        reason = mismatch(stream.body, exchange.question)
        if reason is not None:
            self._owner.report.rejected(reason)
            exchange.failure(Reason.MISMATCH)
            return
        message = stream.body
        age = _number(headers.get(b"age", b""))
        if age:
            message = aged(message, exchange.question, age)
        repeated = repeats(message, exchange.query, exchange.question.end)
        exchange.owner.received(exchange, message, over_stream=True, repeated=repeated)

    def _note_status(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Heed a server that asks for less (RFC 6585 section 4, RFC 9110 section 15.6.4)."""
        self._owner.report.status(status)
        if status in (429, 503) and b"retry-after" in headers:
            seconds = _retry_after(headers[b"retry-after"], headers.get(b"date", b""))
            if seconds > 0:
                self._owner.report.wait(seconds)


def _number(text: bytes) -> int:
    """Return a number of a header field, 0 for what is none (RFC 9111 section 1.2.2: any size)."""
    return int(text[:12]) if text.isdigit() else 0


def _retry_after(text: bytes, date: bytes) -> float:
    """Return the seconds that Retry-After means: a number, or a date after that of the response."""
    if text.isdigit():
        return float(text[:12])
    try:
        later, now = (parsedate_to_datetime(field.decode("ascii")) for field in (text, date))
        return (later - now).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
