"""HTTP/1.1 on a client's connection, read by twisted.web: one request after the other.

A request that comes while another one waits for its response, or while the client does not read,
has to wait; what twisted.web keeps of such requests is bounded, the rest stays unread. Twisted's
own timeouts are off, since any octet would prolong them. What Twisted logs of single connections is
left out: it names clients, and whoever opens connections could fill a disk with it.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, Protocol

from twisted.internet.protocol import connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, Request
from zope.interface import provider

from staggerdns.server.clientconnection import ClientConnection


@provider(ILogObserver)
def _keep_failures(event: LogEvent) -> None:
    if "log_failure" in event:
        globalLogPublisher(event)


_QUIET = Logger(namespace="staggerdns", observer=_keep_failures)  # logs nothing but defects


class RequestHandler(Protocol):
    """Answers requests over HTTP/1.1."""

    max_body: int
    """The octets that the body of a request may have."""

    def answer(self, request: Http1Request) -> None:
        """Call `Http1Request.respond` of ``request``, now or later."""


class Http1Request(Request):
    """A request, which keeps no more of its body than is allowed; ``too_long``: there was more."""

    channel: Any
    too_long = False
    _log = _QUIET  # Twisted would log a line for each HEAD, with its URL

    def process(self) -> None:
        """Hand the request, which is complete, to the handler."""
        channel = self.channel
        channel.pending = 1
        channel.connection.query_began()
        channel.handler.answer(self)

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory: Twisted would write a long one to a file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Keep a part of the body, as far as it may be that long."""
        assert self.content is not None
        if self.content.tell() + len(data) > self.channel.handler.max_body:
            self.too_long = True
        else:
            self.content.write(data)

    def body(self) -> bytes:
        """Return the whole body."""
        assert isinstance(self.content, BytesIO)
        return self.content.getvalue()

    def respond(self, fields: list[tuple[bytes, bytes]], body: bytes) -> None:
        """Send the response: ``fields`` of the header, the first being the status, and ``body``."""
        self.begin(fields)
        self.write(body)
        self.end()

    def begin(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Begin a response, of which `write` sends parts: ``fields`` as `respond` has them."""
        (_, status), *fields = fields
        self.setResponseCode(int(status))
        for name, value in fields:
            self.setHeader(name, value)

    def end(self) -> None:
        """End the response: the connection is for the next request."""
        channel = self.channel
        channel.pending = 0
        self.finish()
        channel.connection.query_ended()


class Http1Session(HTTPChannel):
    """The requests on ``connection``, which ``handler`` answers."""

    _log = _QUIET
    site = factory = None
    requestFactory = Http1Request
    timeOut = None

    def __init__(self, connection: ClientConnection, handler: RequestHandler) -> None:
        super().__init__()
        self.connection = connection
        self.handler = handler
        self.pending = 0
        self.flow_blocked = 0
        self._finished: Request | None = None
        connection.transport.unregisterProducer()  # the channel is one itself
        self.makeConnection(connection.transport)

    def pauseProducing(self) -> None:
        """Stop reading while the client does not read the response."""
        super().pauseProducing()
        self.connection.pauseProducing()

    def resumeProducing(self) -> None:
        """Continue after the client has read the response."""
        super().resumeProducing()
        self.connection.resumeProducing()
        finished, self._finished = self._finished, None
        if finished is not None:
            super().requestDone(finished)

    def requestDone(self, request: Request) -> None:
        """Go on to the next request, when the response to this one has been sent."""
        if self._waitingForTransport and self.persistent:
            self._finished = request
        else:
            super().requestDone(request)

    @property
    def unfinished(self) -> bool:
        """Whether there is a request that is not complete."""
        return bool(self.requests) and not self.pending

    def dataReceived(self, data: bytes) -> None:
        """Process what the client sends, unless the connection drains."""
        if not self.connection.draining:
            super().dataReceived(data)

    def write(self, data: bytes) -> None:
        """Send a part of a response."""
        self.connection.last_write = len(data)
        super().write(data)

    def resume(self) -> None:
        """Do nothing: `resumeProducing` of the channel has done it."""

    def announce_end(self) -> None:
        """Do nothing: HTTP/1.1 has no message for it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what the client no longer waits for."""
        if self._finished is not None:
            self.requests.remove(self._finished)
        super().connectionLost(reason)
