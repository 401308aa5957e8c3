"""DNS over HTTPS for clients (RFC 8484), on twisted.web: HTTP/2, and HTTP/1.1 too.

A request is a query, in its body (POST) or in its URL (GET), and every reply that DNS has for it
is an HTTP success (section 4.2.1). How long it may be kept is the least of its TTLs (section 5.1).
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from io import BytesIO
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from twisted.web import http
from twisted.web.http import Request as BaseRequest
from twisted.web.pages import errorPage, notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.webline import QUIET, WebLine
from staggerdns.wire.constants import MAX_MESSAGE
from staggerdns.wire.edns import least_ttl, padded_reply

PROTOCOLS = (b"h2", b"http/1.1")
TRANSPORT = "https"
MAX_HELD = 4 * MAX_MESSAGE
"""Octets of bodies, of one connection, that wait for their rest or for an answer."""
_TYPE = b"application/dns-message"


def dns_site(factory: StaggerServerFactory, path: str) -> Site:
    """Return the HTTP server that answers queries at ``path`` from ``factory``."""
    return _Site(factory, path)


class _Site(Site):
    noisy = False
    displayTracebacks = False

    def __init__(self, factory: StaggerServerFactory, path: str) -> None:
        root = _Root(path.encode("ascii"), _Queries(factory))
        super().__init__(root, reactor=factory.clock)
        self._factory = factory

    def buildProtocol(self, addr: Any) -> Any:
        """Return the protocol of a new connection."""
        return WebLine(self._factory, self, _BoundedRequest)

    def log(self, request: BaseRequest) -> None:
        """Keep no access log: it would hold what clients ask."""


class _BoundedRequest(Request):
    """Holds no more of a body than a DNS message can have, nor than its connection has room for;
    ``too_long`` says that there was more.
    """

    line: WebLine
    _held = 0
    too_long = False
    _log = QUIET  # a line for each HEAD, with what it asks

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        """Answer the request, which is complete, and tell its connection."""
        if self.line.deaf:
            return
        self.line.began()
        self.notifyFinish().addCallbacks(self.line.ended, self.line.given_up)
        super().requestReceived(command, path, version)

    def gotLength(self, length: int | None) -> None:
        """Keep the body in memory, whatever its length is said to be."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """Take a part of the body."""
        assert self.content is not None
        held = self._held + len(data)
        if held > MAX_MESSAGE or self.line.held + len(data) > MAX_HELD:
            self.too_long = True
            return
        if not self._held:
            self.notifyFinish().addBoth(self._release)
        self._held = held
        self.line.held += len(data)
        super().handleContentChunk(data)

    def _release(self, _: object) -> None:
        self.line.held -= self._held


class _Root(Resource):
    def __init__(self, path: bytes, page: Resource) -> None:
        super().__init__()
        self._path = path
        self._page = page

    def getChildWithDefault(self, path: bytes, request: Any) -> IResource:
        """Return the one page that there is."""
        return self._page if request.path == self._path else notFound()


class _Queries(Resource):
    isLeaf = True

    def __init__(self, factory: StaggerServerFactory) -> None:
        super().__init__()
        self._factory = factory

    def render_GET(self, request: Request) -> bytes | int:
        """Answer the query in the URL."""
        values = (request.args or {}).get(b"dns", [])
        if len(values) != 1:
            return _complain(request, http.BAD_REQUEST, "the URL has no query: dns=...")
        try:
            padded = values[0] + b"=" * (-len(values[0]) % 4)
            message = b64decode(padded, altchars=b"-_", validate=True)
        except binascii.Error:
            return _complain(request, http.BAD_REQUEST, "dns= is not base64url")
        return self._answer(request, message)

    def render_POST(self, request: Request) -> bytes | int:
        """Answer the query in the body."""
        kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
        if kind != _TYPE:
            return _complain(request, http.UNSUPPORTED_MEDIA_TYPE, "expected a DNS message")
        if isinstance(request, _BoundedRequest) and request.too_long:
            return _complain(request, http.REQUEST_ENTITY_TOO_LARGE, "too long for a DNS message")
        assert request.content is not None
        return self._answer(request, request.content.read())

    def _answer(self, request: Request, message: bytes) -> bytes | int:
        client = request.getClientAddress()
        reply = self._factory.serve(message, client.host, TRANSPORT)
        if reply is None:
            return _complain(request, http.BAD_REQUEST, "that is no DNS query")
        if isinstance(reply, bytes):
            return _respond(request, message, reply)
        gone = request.notifyFinish()
        gone.addErrback(lambda _: reply.cancel())
        reply.addCallbacks(_finish, _give_up, callbackArgs=(request, message))
        return NOT_DONE_YET


def _finish(reply: bytes, request: Request, message: bytes) -> None:
    request.write(_respond(request, message, reply))
    request.finish()


def _give_up(failure: Failure) -> None:
    failure.trap(CancelledError)  # the client has gone


def _respond(request: Request, message: bytes, reply: bytes) -> bytes:
    reply = padded_reply(message, reply)
    request.setHeader(b"content-type", _TYPE)
    request.setHeader(b"content-length", str(len(reply)).encode("ascii"))
    request.setHeader(b"cache-control", f"max-age={least_ttl(reply)}".encode("ascii"))
    return reply


def _complain(request: Request, code: int, what: str) -> bytes | int:
    brief = http.RESPONSES[code].decode("ascii")
    page: Any = errorPage(code, brief, what)
    rendered: bytes | int = page.render(request)
    return rendered
