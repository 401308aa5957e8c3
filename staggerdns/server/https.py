"""Client connections over HTTPS: HTTP/2, and HTTP/1.1 for those that know no better."""

from __future__ import annotations

import re

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure

from staggerdns.server.answers import DnsAnswers, Response
from staggerdns.server.connection import ClientConnection
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.http1 import Http1, Http1Request
from staggerdns.server.http2 import Http2
from staggerdns.wire.constants import MAX_MESSAGE

PROTOCOLS = (b"h2", b"http/1.1")
_ORIGIN = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)  # RFC 9112 section 3.2.2


class HttpsFactory(ServerFactory):
    """Builds the connections on which queries at ``path`` are answered by ``factory``."""

    noisy = False

    def __init__(self, factory: StaggerServerFactory, path: str) -> None:
        self._factory = factory
        self._answers = DnsAnswers(factory, path)

    def buildProtocol(self, addr: IAddress | None) -> HttpsConnection:
        """Return the protocol of a new connection."""
        return HttpsConnection(self._factory, self._answers)


class HttpsConnection(ClientConnection):
    """One client connection, with the version of HTTP that the handshake chose, or 1.1."""

    max_body = MAX_MESSAGE
    # dnsperf 2.10 and its like lose all responses but the first that come in one TLS record.
    joins = False

    def __init__(self, factory: StaggerServerFactory, answers: DnsAnswers) -> None:
        super().__init__(factory.peers)
        self._factory = factory
        self._answers = answers
        self._session: Http1 | Http2 | None = None  # from the first octet on

    @property
    def pending(self) -> int:
        """Requests that wait for their responses."""
        return self._session.pending if self._session is not None else 0

    @property
    def held(self) -> int:
        """Octets of responses that wait for a window."""
        return self._session.held if self._session is not None else 0

    def dataReceived(self, data: bytes) -> None:
        """Hand on what comes."""
        if self.closing:
            return
        if self._session is None:
            second = getattr(self.transport, "negotiatedProtocol", None) == b"h2"
            self._session = Http2(self, self._answers) if second else Http1(self, self)
        self._session.dataReceived(data)

    def answer(self, request: Http1Request) -> None:
        """Answer a request over HTTP/1.1, now or later."""
        body = None if request.too_long else request.body()
        media_type = request.getHeader(b"content-type") or b""
        target = _ORIGIN.sub(b"", request.uri, count=1) if request.uri[:1] != b"/" else request.uri
        found = self._answers.find(request.method, target, media_type, body, self.host)
        if isinstance(found, Response):
            request.respond(found.fields(), found.body)
            return
        request.notifyFinish().addErrback(lambda _: found.cancel())  # the client has gone
        found.addCallbacks(
            lambda response: request.respond(response.fields(), response.body), _gone
        )

    def stop_reading(self) -> None:
        """Take no more requests: the server is going down."""
        self._say_goodbye()
        super().stop_reading()

    def timeoutConnection(self) -> None:
        """Close an idle connection; a handshake or a request that is never finished, at once."""
        if not self.pending and (self._session is None or self._session.unfinished):
            self.leave_now()
        else:
            super().timeoutConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer waits for."""
        super().connectionLost(reason)
        if self._session is not None:
            self._session.connectionLost(reason)

    def _may_enter(self) -> bool:
        return self._factory.access.allows(self.host)

    def _resume(self) -> None:
        if self._session is not None:
            self._session.resume()

    def _say_goodbye(self) -> None:
        if self._session is not None:
            self._session.say_goodbye()


def _gone(failure: Failure) -> None:
    failure.trap(CancelledError)
