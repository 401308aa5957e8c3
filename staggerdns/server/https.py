"""Connections of clients over HTTPS: HTTP/2, and HTTP/1.1 for clients that do not speak it."""

from __future__ import annotations

import re

from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory

from staggerdns.deferreds import ignore_cancellation
from staggerdns.server.connections import StreamServer
from staggerdns.server.doh import DohResource, Response
from staggerdns.server.http1 import Http1Request, Http1Session
from staggerdns.server.http2 import Http2Session
from staggerdns.server.httpsession import HttpClientConnection, HttpSession
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.wire.constants import MAX_MESSAGE

PROTOCOLS = (b"h2", b"http/1.1")
_ORIGIN = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)  # RFC 9112 section 3.2.2


class HttpsFactory(ServerFactory):
    """Builds the connections on which ``factory`` answers the queries that come to ``path``, by
    ``listener`` if it is one of the configuration.
    """

    noisy = False

    def __init__(
        self, factory: StreamServer, path: str, listener: ListenerContext | None = None
    ) -> None:
        self._factory = factory
        self._resource = DohResource(factory, path, listener)

    def buildProtocol(self, addr: IAddress | None) -> HttpsConnection:
        """Return the protocol of a new connection."""
        return HttpsConnection(self._factory, self._resource)


class HttpsConnection(HttpClientConnection):
    """One client connection."""

    max_body = MAX_MESSAGE
    # Of several responses in one TLS record dnsperf 2.10 reads only the first.
    coalesces = False

    def __init__(self, factory: StreamServer, resource: DohResource) -> None:
        super().__init__(factory.client_connections)
        self._factory = factory
        self._resource = resource

    def open_session(self) -> HttpSession:
        """Return a session of HTTP/2 if the TLS handshake has chosen that, else of HTTP/1.1."""
        if getattr(self.transport, "negotiatedProtocol", None) == b"h2":
            return Http2Session(self, self._resource)
        return Http1Session(self, self)

    def answer(self, request: Http1Request) -> None:
        """Answer a request over HTTP/1.1, now or later."""
        body = None if request.too_long else request.body()
        media_type = request.getHeader(b"content-type") or b""
        target = _ORIGIN.sub(b"", request.uri, count=1) if request.uri[:1] != b"/" else request.uri
        found = self._resource.answer(request.method, target, media_type, body, self.host)
        if isinstance(found, Response):
            request.respond(found.fields(), found.body)
            return
        request.notifyFinish().addErrback(lambda _: found.cancel())  # the client has gone
        found.addCallbacks(
            lambda response: request.respond(response.fields(), response.body), ignore_cancellation
        )

    def _is_admissible(self) -> bool:
        return self._factory.access.allows(self.host)
