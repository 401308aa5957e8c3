"""A server of lists on loopback, over TLS, that does what tests want of it: slow, cut off, odd."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import succeed
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.task import deferLater
from twisted.web.http import HTTPChannel
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twisted.internet.defer import Deferred

    from tests.kit.certificates import Certificate

reactor: Any = _reactor
HOST = "lists.example"


class ListServer:
    """Serves what ``acts`` say, by path; keeps the headers of ``requests``."""

    def __init__(self, certificate: Certificate) -> None:
        self.acts: dict[str, Callable[[Request], bytes | int]] = {}
        self.requests: list[tuple[str, dict[bytes, Sequence[bytes]]]] = []
        self.channels: set[HTTPChannel] = set()
        self.context = DefaultOpenSSLContextFactory(str(certificate.key), str(certificate.chain))
        self._port: Any = None

    async def start(self, port: int = 0) -> None:
        """Listen on a port, 0: one that is free."""
        server = self

        class Everything(Resource):
            isLeaf = True

            def render_GET(self, request: Request) -> bytes | int:
                path = request.path.decode()
                server.requests.append((path, dict(request.requestHeaders.getAllRawHeaders())))
                return server.acts[path](request)

        site = Site(Everything())
        site.noisy = False
        build = site.buildProtocol

        def noted(address: Any) -> Any:
            channel = build(address)
            server.channels.add(channel)
            return channel

        site.buildProtocol = noted  # type: ignore[method-assign]
        endpoint = SSL4ServerEndpoint(reactor, port, self.context, interface="127.0.0.1")
        self._port = await endpoint.listen(site)

    async def stop(self) -> None:
        """Close everything that is open."""
        if self._port is None:
            return
        port, self._port = self._port, None
        await port.stopListening()
        for channel in self.channels:
            with contextlib.suppress(AttributeError):
                channel.forceAbortClient()
        await deferLater(reactor, 0.02, lambda: None)

    def url(self, path: str, *, host: str = HOST) -> str:
        """Return where something is; its path must have an act."""
        return f"https://{host}:{self._port.getHost().port}{path}"


def resolve(name: str) -> Deferred[Sequence[str]]:
    """Find the host of the server, and no other."""
    return succeed(["127.0.0.1"] if name == HOST else [])


def says(body: bytes, **headers: str) -> Callable[[Request], bytes]:
    """Return what sends ``body``, with headers in which ``_`` stands for ``-``."""

    def act(request: Request) -> bytes:
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return act


def code(number: int, **headers: str) -> Callable[[Request], bytes]:
    """Return what answers with a status code."""

    def act(request: Request) -> bytes:
        request.setResponseCode(number)
        return says(b"<html>", **headers)(request)

    return act


def tagged(body: bytes, etag: str) -> Callable[[Request], bytes]:
    """Return what sends ``body`` to whoever does not have it."""

    def act(request: Request) -> bytes:
        if request.getHeader("if-none-match") == etag:
            request.setResponseCode(304)
            return b""
        return says(body, etag=etag, last_modified="Mon, 30 Nov 2026 07:00:00 GMT")(request)

    return act


def cut_off(request: Request) -> int:
    """Send half of what is announced, and break the connection."""
    request.setHeader("content-length", "1000")
    request.write(b"ads.example\n" * 20)
    channel: Any = request.channel
    reactor.callLater(0.05, channel.transport.abortConnection)  # when that has been sent
    return NOT_DONE_YET


def silent(request: Request) -> int:
    """Send the beginning, and then nothing."""
    request.write(b"ads.example\n" * 20)
    return NOT_DONE_YET


def mute(request: Request) -> int:
    """Send nothing at all."""
    return NOT_DONE_YET
