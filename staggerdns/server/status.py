"""The pages for machines: ``/metrics`` for Prometheus, ``/healthz`` for supervisors.

Who can reach them can take nothing away from DNS: connections have limits of their own, are
accepted one at a time, bodies are refused, and what is asked beyond a modest pace waits its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from staggerdns.instruments import Cell
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.connections import Connections
from staggerdns.server.http1 import Http1Request, Http1Session
from staggerdns.server.httpsession import HttpClientConnection
from staggerdns.settings.sections import ClientSettings, ServerSettings

LIMITS = ServerSettings(tcp_idle_timeout=30.0, tcp_max_connections=16, tcp_max_per_client=8)
"""Of connections to the pages; beyond them the one that has been idle for the longest leaves."""
METRICS_COST = 1 / 8
"""Seconds until the next page when the pace is full: eight pages of metrics a second."""
OTHER_COST = 1 / 64
"""The same of other pages, and of connections."""
BURST = 4.0
"""Seconds' worth of pages that may be asked for at once: 32 of metrics."""
_TEXT = b"text/plain; charset=utf-8"
_Page = tuple[HTTPStatus, bytes, bytes]  # media type and content come behind
_HEALTHY: _Page = HTTPStatus.OK, _TEXT, b"ok\n"
_UNHEALTHY: _Page = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"no upstream answers\n"


class Throttle:
    """Says when the next piece of work is due, so that work is spread over time."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._free = clock.seconds() - BURST

    def wait(self, cost: float) -> float:
        """Take ``cost`` seconds of the time there is; return the seconds until that is so much."""
        now = self._clock.seconds()
        begin = max(self._free, now - BURST)
        self._free = begin + cost
        return max(0.0, self._free - now)


class StatusFactory(ServerFactory):
    """Serves both pages of ``collectors``; ``check`` decides between 200 and 503.

    ``refused`` and ``dropped`` count connections as those of `Connections` do.
    """

    noisy = False

    def __init__(
        self,
        collectors: Sequence[Collector],
        check: Callable[[], Deferred[bool]],
        clock: IReactorTime,
        *,
        refused: Cell,
        dropped: Cell,
    ) -> None:
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self.check = check
        self.clock = clock
        self.throttle = Throttle(clock)
        self.client_connections = Connections(
            LIMITS, clock, ClientGroups(ClientSettings(exempt=())), refused=refused, dropped=dropped
        )

    def buildProtocol(self, addr: IAddress | None) -> StatusConnection:
        """Return the protocol of a new connection."""
        return StatusConnection(self)

    def close(self) -> None:
        """Break all connections."""
        self.client_connections.abort()

    def page(self, path: bytes) -> _Page:
        """Return a page that is there at once, which ``/healthz`` may not be."""
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST.encode(), generate_latest(self._registry)
        return HTTPStatus.NOT_FOUND, _TEXT, b"expected /metrics or /healthz\n"


class StatusConnection(HttpClientConnection):
    """A connection on which pages are asked for."""

    max_body = 0

    def __init__(self, factory: StatusFactory) -> None:
        super().__init__(factory.client_connections)
        self._factory = factory
        self._later: IDelayedCall | None = None
        self._checking: Deferred[bool] | None = None

    def open_session(self) -> Http1Session:
        """Speak HTTP/1.1."""
        return Http1Session(self, self)

    def answer(self, request: Http1Request) -> None:
        """Answer a request when its turn comes."""
        path = request.uri.partition(b"?")[0]
        wait = self._factory.throttle.wait(METRICS_COST if path == b"/metrics" else OTHER_COST)
        if wait:
            self._later = self._factory.clock.callLater(wait, self._answer, request, path)
        else:
            self._answer(request, path)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Answer nobody who has gone."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._checking is not None:
            self._checking.cancel()
        super().connectionLost(reason)

    def _answer(self, request: Http1Request, path: bytes) -> None:
        self._later = None
        if request.method not in (b"GET", b"HEAD"):
            page = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"expected GET\n"
            self._respond(page, request, [(b"allow", b"GET, HEAD")])
        elif request.too_long:
            page = HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TEXT, b"expected no body\n"
            self._respond(page, request)
        elif path == b"/healthz":
            self._checking = self._factory.check()
            self._checking.addCallbacks(self._respond_health, _give_up, callbackArgs=(request,))
        else:
            self._respond(self._factory.page(path), request)

    def _respond_health(self, healthy: bool, request: Http1Request) -> None:
        self._checking = None
        self._respond(_HEALTHY if healthy else _UNHEALTHY, request)

    def _respond(
        self, page: _Page, request: Http1Request, more: Sequence[tuple[bytes, bytes]] = ()
    ) -> None:
        status, kind, body = page
        fields = [
            (b":status", b"%d" % status),
            *more,
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"date", datetimeToString()),
        ]
        request.respond(fields, body)


def _give_up(failure: Failure) -> None:
    failure.trap(CancelledError)  # whoever wanted to know has gone
