"""HTTP/1.1 on a client's connection, read by twisted.web: one request after the other.

Requests that come ahead of their turn wait, a bounded part of them unread; so does the next one
while the client does not take the last response. Twisted's own clocks do not run: it counts any
octet as a sign of life. Its lines for single connections are left out of the log: they name
clients, and who opens connections could fill a disk.
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


_QUIET = Logger(namespace="staggerdns", observer=_keep_failures)  # logs defects alone


class RequestHandler(Protocol):
    """Answers what is asked over HTTP/1.1."""

    max_body: int
    """Octets that the body of a request may have."""

    def answer(self, request: Http1Request) -> None:
        """Have ``request`` answered by `Http1Request.respond`, now or later."""


class Http1Request(Request):
    """A request, which holds no more of its body than is allowed; ``too_long``: it had more."""

    channel: Any
    too_long = False
    _log = _QUIET  # a line for each HEAD, with what it asks

    def process(self) -> None:
        """Have the request answered, which is complete."""
        channel = self.channel
        channel.pending = 1
        channel.connection.query_began()
        channel.handler.answer(self)

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory, whatever its length is said to be."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body."""
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
        """Send the response: ``fields``, the status first, and ``body``."""
        (_, status), *fields = fields
        self.setResponseCode(int(status))
        for name, value in fields:
            self.setHeader(name, value)
        channel = self.channel
        self.write(body)
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
        """Stop reading while the client does not take the response."""
        super().pauseProducing()
        self.connection.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on after the client has caught up."""
        super().resumeProducing()
        self.connection.resumeProducing()
        finished, self._finished = self._finished, None
        if finished is not None:
            super().requestDone(finished)

    def requestDone(self, request: Request) -> None:
        """Turn to the next request, as soon as the response to this one is on its way."""
        if self._waitingForTransport and self.persistent:
            self._finished = request
        else:
            super().requestDone(request)

    @property
    def unfinished(self) -> bool:
        """Whether there is a request that is not whole."""
        return bool(self.requests) and not self.pending

    def dataReceived(self, data: bytes) -> None:
        """Take what the client says, unless the server is going down."""
        if not self.connection.draining:
            super().dataReceived(data)

    def write(self, data: bytes) -> None:
        """Send a part of a response."""
        self.connection.last_write = len(data)
        super().write(data)

    def resume(self) -> None:
        """Nothing to do: the channel has done it by itself."""

    def announce_end(self) -> None:
        """Say nothing: HTTP/1.1 has no word for it."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer waits for."""
        if self._finished is not None:
            self.requests.remove(self._finished)
        super().connectionLost(reason)
