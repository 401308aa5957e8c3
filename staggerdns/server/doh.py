"""DNS queries over HTTP, whatever its version (RFC 8484).

A query is the body of a request (POST) or in its URL (GET). Whatever DNS replies to it, an error
too, is an HTTP success (section 4.2.1), which may be kept for the least of its TTLs (section 5.1).
"""

from __future__ import annotations

import binascii
import time
from base64 import b64decode
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.web.http import datetimeToString

from staggerdns.server.connections import StreamServer
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.request import HTTPS
from staggerdns.wire.age import least_ttl
from staggerdns.wire.constants import MEDIA_TYPE

_max_age = lru_cache(maxsize=1024)(least_ttl)  # the same ready replies are sent many times
_TEXT = b"text/plain; charset=utf-8"


class Response:
    """A response over HTTP; ``max_age``: seconds that it may be kept, `None` for an error."""

    __slots__ = ("status", "media_type", "body", "max_age")

    def __init__(
        self, status: int, media_type: bytes, body: bytes, max_age: int | None = None
    ) -> None:
        self.status = status
        self.media_type = media_type
        self.body = body
        self.max_age = max_age

    def fields(self) -> list[tuple[bytes, bytes]]:
        """Return the header fields, the status first."""
        found = [
            (b":status", b"%d" % self.status),
            (b"content-type", self.media_type),
            (b"content-length", b"%d" % len(self.body)),
            (b"date", _date()),
        ]
        if self.max_age is not None:
            found.append((b"cache-control", b"max-age=%d" % self.max_age))
        return found


class DohResource:
    """Answers the queries that come to ``path`` from ``factory``; ``listener``: that of the
    configuration that they come in by, if any.
    """

    def __init__(
        self, factory: StreamServer, path: str, listener: ListenerContext | None = None
    ) -> None:
        self._factory = factory
        self._listener = listener
        self._path = path.encode("ascii")

    def answer(
        self, method: bytes, target: bytes, media_type: bytes, body: bytes | None, host: str
    ) -> Deferred[Response] | Response:
        """Return the response to a request from the client at ``host``, or a Deferred of it.

        ``target``: path and query of the URL. ``body``: `None` if it was longer than a DNS message
        can be.
        """
        path, _, parameters = target.partition(b"?")
        if path != self._path:
            return _error(HTTPStatus.NOT_FOUND, "there is nothing here")
        if method == b"POST":
            if media_type.partition(b";")[0].strip().lower() != MEDIA_TYPE:
                return _error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected a DNS message")
            if body is None:
                return _error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too long for a DNS message")
            message = body
        elif method in (b"GET", b"HEAD"):
            try:
                message = _query_in(parameters)
            except ValueError as error:
                return _error(HTTPStatus.BAD_REQUEST, str(error))
        else:
            return _error(HTTPStatus.NOT_IMPLEMENTED, "expected GET or POST")
        return self._serve(message, host)

    def _serve(self, message: bytes, host: str) -> Deferred[Response] | Response:
        try:
            reply = self._factory.serve_stream(message, host, HTTPS, self._listener)
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the connection)
            self._factory.journal.failure("a request could not be answered")
            return _error(HTTPStatus.INTERNAL_SERVER_ERROR, "that is our fault")
        if reply is None:
            return _error(HTTPStatus.BAD_REQUEST, "that is no DNS query")
        if isinstance(reply, Deferred):
            return reply.addCallback(_success)
        return _success(reply)


def _success(reply: bytes) -> Response:
    return Response(HTTPStatus.OK, MEDIA_TYPE, reply, _max_age(reply))


def _error(status: HTTPStatus, what: str) -> Response:
    return Response(status, _TEXT, f"{status.value} {status.phrase}: {what}\n".encode())


def _query_in(parameters: bytes) -> bytes:
    """Return the query in a URL. Raises `ValueError` that says what was expected."""
    values = [part[4:] for part in parameters.split(b"&") if part.startswith(b"dns=")]
    if len(values) != 1:
        raise ValueError("the URL has no query: dns=...")
    (text,) = values
    if b"%" in text:
        text = unquote_to_bytes(text)
    try:
        if b"+" not in text and b"/" not in text:  # Python would accept these, too
            return b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        pass
    raise ValueError("dns= is not base64url")


class _Date:
    """The time of day as HTTP writes it (RFC 9110 section 6.6.1), made once a second."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._second = 0
        self._text = b""

    def __call__(self) -> bytes:
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._text = datetimeToString(second)
        return self._text


_date = _Date(time.time)
