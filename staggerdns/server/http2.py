"""HTTP/2 on a client's connection (RFC 9113): requests on streams, each answered on its own.

A response is sent at once as far as the flow control windows of the client allow; its last frame
ends the stream. The rest waits, and counts as unread. A client that resets request after request is
disconnected, since upstreams have been asked for each of them.
"""

from __future__ import annotations

from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from staggerdns.deferreds import ignore_cancellation
from staggerdns.server.clientconnection import ClientConnection
from staggerdns.server.doh import DohResource, Response
from staggerdns.server.h2connection import ServerConnection
from staggerdns.wire.constants import MAX_MESSAGE

MAX_BODIES = 4 * MAX_MESSAGE
"""Octets of incomplete bodies that are kept for one connection."""
MAX_RESETS = 100
"""Requests that a client may reset on one connection; each that is answered allows one more.
Without this limit a client could ask for more than may wait at once, by resetting what it has
asked.
"""
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))
_FORBIDDEN = frozenset(  # RFC 9113 section 8.2.2
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_CONTINUE = [(b":status", b"100")]


class _PartialRequest:
    """A request that may not be complete; ``body`` is `None` when it is longer than allowed."""

    __slots__ = ("method", "target", "media_type", "body")

    def __init__(self, method: bytes, target: bytes, media_type: bytes) -> None:
        self.method = method
        self.target = target
        self.media_type = media_type
        self.body: bytes | None = b""


class Http2Session:
    """The requests on ``connection``, which ``resource`` answers."""

    def __init__(self, connection: ClientConnection, resource: DohResource) -> None:
        self._connection = connection
        self._resource = resource
        self._h2 = ServerConnection()
        self._requests: dict[int, _PartialRequest] = {}  # that are not complete yet
        self._pending: dict[int, Deferred[Response]] = {}
        self._unsent: dict[int, bytes] = {}  # parts of responses that wait for a window
        self._unprocessed = b""  # read while the client does not read responses
        self._goaway_sent = False
        self._resets = 0
        self.bodies = 0  # octets of `_requests`
        self.flow_blocked = 0  # octets of `_unsent`
        self._h2.initiate_connection()

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""
        return len(self._pending)

    @property
    def unfinished(self) -> bool:
        """Whether there are requests that are not complete."""
        return bool(self._requests)

    def dataReceived(self, data: bytes) -> None:
        """Process what the client sends."""
        self._unprocessed += data
        self.read_on()

    def resume(self) -> None:
        """Continue after the client has read its responses."""
        self._connection.start_reading()
        self.read_on()

    def read_on(self) -> None:
        """Process what has been read, as long as the client reads the responses."""
        connection = self._connection
        if connection.reading or self._stopped():
            return
        data, self._unprocessed = self._unprocessed, b""
        connection.reading = True
        try:
            for events in self._h2.take(data):
                for event in events:
                    self._take(event)
                if self._stopped():
                    break
            if self._unsent:
                self._send_held()
        except ProtocolError:
            self._goaway_sent = True  # it is ready to be sent
            connection.close()
            self._give_all_up()
        finally:
            connection.reading = False
        self._flush()
        connection.flush()

    def _stopped(self) -> bool:
        """Return whether no frame may be processed now."""
        return self._connection.blocked or self._connection.closing

    def announce_end(self) -> None:
        """Tell the client to send no more requests here; those that wait are still answered."""
        if not self._goaway_sent:
            self._goaway_sent = True
            self._h2.send_goaway()
        self._flush()

    def connectionLost(self, reason: Failure) -> None:
        """Cancel what the client no longer waits for."""
        self._give_all_up()

    def _give_all_up(self) -> None:
        pending, self._pending = self._pending, {}
        for reply in pending.values():
            reply.cancel()
        self._requests.clear()
        self._unsent.clear()
        self.bodies = self.flow_blocked = 0

    def _take(self, event: Event) -> None:
        if isinstance(event, RequestReceived):
            self._begin(event)
        elif isinstance(event, DataReceived):
            self._take_body(event)
        elif isinstance(event, StreamEnded):
            request = self._requests.pop(event.stream_id, None)
            if request is not None:
                self._complete(event.stream_id, request)
        elif isinstance(event, StreamReset):
            self._forget(event.stream_id)
        elif isinstance(event, WindowUpdated | RemoteSettingsChanged):
            if self._unsent:
                self._send_held()
        elif isinstance(event, ConnectionTerminated):
            self._connection.draining = True
            self.announce_end()
            if not (self._requests or self._pending or self._unsent):
                self._connection.close()

    # Requests.

    def _begin(self, event: RequestReceived) -> None:
        number = event.stream_id
        assert number is not None
        if self._connection.draining:
            self._h2.reset_stream(number, ErrorCodes.REFUSED_STREAM)
            return
        request = _read_fields(event.headers)
        if request is None:
            self._h2.reset_stream(number, ErrorCodes.PROTOCOL_ERROR)
            return
        self._requests[number] = request
        if event.stream_ended is None and (b"expect", b"100-continue") in event.headers:
            self._h2.send_headers(number, _CONTINUE)

    def _take_body(self, event: DataReceived) -> None:
        number = event.stream_id
        assert number is not None
        request = self._requests.get(number)
        if request is None or event.stream_ended is not None:
            self._h2.reopen_window(event.flow_controlled_length)
        else:
            self._h2.acknowledge_received_data(event.flow_controlled_length, number)
        if request is None or request.body is None:
            return
        size = len(event.data)
        if len(request.body) + size > MAX_MESSAGE or self.bodies + size > MAX_BODIES:
            self.bodies -= len(request.body)
            request.body = None
        else:
            self.bodies += size
            request.body += event.data

    def _complete(self, number: int, request: _PartialRequest) -> None:
        """Answer a request, now or later."""
        connection = self._connection
        body = request.body
        if body:
            self.bodies -= len(body)
        found = self._resource.answer(
            request.method, request.target, request.media_type, body, connection.host
        )
        if isinstance(found, Deferred):
            self._pending[number] = found
            connection.query_began()
            found.addCallbacks(self._answered, ignore_cancellation, (number, request))
        else:
            self._respond(number, request, found)

    def _answered(self, response: Response, number: int, request: _PartialRequest) -> None:
        del self._pending[number]
        self._respond(number, request, response)

    def _forget(self, number: int | None) -> None:
        """Cancel the request or response of a stream that was reset."""
        assert number is not None
        request = self._requests.pop(number, None)
        if request is not None:
            self.bodies -= len(request.body or b"")
        self.flow_blocked -= len(self._unsent.pop(number, b""))
        reply = self._pending.pop(number, None)
        if reply is None:
            return
        reply.cancel()
        self._connection.query_ended()
        self._resets += 1
        if self._resets > MAX_RESETS:
            self._connection.abort()

    # Responses.

    def _respond(self, number: int, request: _PartialRequest, response: Response) -> None:
        body = b"" if request.method == b"HEAD" else response.body
        self._keep(number, self._h2.respond(number, response.fields(), body))
        if self._resets:
            self._resets -= 1
        self._flush()
        self._connection.query_ended()

    def _keep(self, number: int, rest: bytes) -> None:
        """Keep the part of a body that has to wait for a window."""
        if rest:
            self._unsent[number] = rest
            self.flow_blocked += len(rest)

    def _send_held(self) -> None:
        """Send what the windows allow now, the oldest response first."""
        for number in list(self._unsent):
            if self._h2.outbound_flow_control_window <= 0:
                break
            body = self._unsent.pop(number)
            self.flow_blocked -= len(body)
            self._keep(number, self._h2.send_body(number, body))
        if self._connection.draining and not self.flow_blocked:
            self._connection.query_ended()

    def _flush(self) -> None:
        if self._h2.unsent:
            self._connection.write(self._h2.data_to_send())
        elif self.flow_blocked:
            self._connection.note_unread()


def _read_fields(fields: list[tuple[bytes, bytes]]) -> _PartialRequest | None:
    """Return the request that header fields describe, `None` if they are malformed.

    (RFC 9113 sections 8.2 and 8.3.)
    """
    pseudo: dict[bytes, bytes] = {}
    media_type = b""
    ordinary = False
    for name, value in fields:
        if name in _PSEUDO:
            if ordinary or name in pseudo:
                return None
            pseudo[name] = value
        else:
            ordinary = True
            if name == b"content-type":
                media_type = value
            elif name in _FORBIDDEN or name[:1] == b":" or not name or name != name.lower():
                return None
    method = pseudo.get(b":method")
    target = pseudo.get(b":path")
    if not method or not target or b":scheme" not in pseudo:
        return None
    return _PartialRequest(method, target, media_type)
