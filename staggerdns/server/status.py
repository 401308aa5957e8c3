"""The pages over HTTP: ``/metrics`` for Prometheus, ``/healthz`` for supervisors, ``/readyz`` for
balancers.

Whoever requests them cannot slow DNS down: their connections have limits of their own and are
accepted one at a time, bodies are refused, and requests beyond a modest rate are delayed.
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
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from twisted.web.http import datetimeToString

from staggerdns.deferreds import ignore_cancellation
from staggerdns.instruments import Cell
from staggerdns.lifecycle import Lifecycle
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.connections import Connections
from staggerdns.server.http1 import Http1Request, Http1Session
from staggerdns.server.httpsession import HttpClientConnection
from staggerdns.settings.sections import ClientSettings, ServerSettings

LIMITS = ServerSettings(tcp_idle_timeout=30.0, tcp_max_connections=16, tcp_max_per_client=8)
"""Limits of the connections to the pages."""
METRICS_COST = 1 / 8
"""Seconds that a page of metrics takes of the time there is: eight pages a second."""
OTHER_COST = 1 / 64
"""The same of other pages, and of new connections."""
BURST = 4.0
"""Seconds of unused time that are saved up for a burst: 32 pages of metrics."""
_TEXT = b"text/plain; charset=utf-8"
_Page = tuple[HTTPStatus, bytes, bytes]  # status, media type, content
_HEALTHY: _Page = HTTPStatus.OK, _TEXT, b"ok\n"
_UNHEALTHY: _Page = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"no upstream answers\n"


class Throttle:
    """Spreads work over time: a token bucket whose tokens are seconds."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._free = clock.seconds() - BURST

    def wait(self, cost: float) -> float:
        """Spend ``cost`` seconds; return the seconds that the work has to wait for them."""
        now = self._clock.seconds()
        begin = max(self._free, now - BURST)
        self._free = begin + cost
        return max(0.0, self._free - now)


class StatusFactory(ServerFactory):
    """Serves the metrics of ``collectors``, whether upstreams answer, as ``check`` finds out, and
    whether ``lifecycle`` says that the server is ready.

    ``refused`` and ``dropped`` count connections as those of `Connections` do.
    """

    noisy = False

    def __init__(
        self,
        collectors: Sequence[Collector],
        check: Callable[[], Deferred[bool]],
        lifecycle: Lifecycle,
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
        self._lifecycle = lifecycle
        self.clock = clock
        self.throttle = Throttle(clock)
        self.client_connections = Connections(
            LIMITS, clock, ClientGroups(ClientSettings(exempt=())), refused=refused, dropped=dropped
        )

    def buildProtocol(self, addr: IAddress | None) -> StatusConnection:
        """Return the protocol of a new connection."""
        return StatusConnection(self)

    def close(self) -> None:
        """Abort all connections."""
        self.client_connections.abort()

    def page(self, path: bytes) -> _Page:
        """Return any page but ``/healthz``, which needs a check."""
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST.encode(), generate_latest(self._registry)
        if path == b"/readyz":
            ready = self._lifecycle.ready
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _TEXT, f"{self._lifecycle.phase}\n".encode()
        return HTTPStatus.NOT_FOUND, _TEXT, b"expected /metrics, /healthz or /readyz\n"


class StatusConnection(HttpClientConnection):
    """A connection on which pages are requested."""

    max_body = 0

    def __init__(self, factory: StatusFactory) -> None:
        super().__init__(factory.client_connections)
        self._factory = factory
        self._later: IDelayedCall | None = None
        self._checking: Deferred[bool] | None = None

    def open_session(self) -> Http1Session:
        """Return a session of HTTP/1.1."""
        return Http1Session(self, self)

    def answer(self, request: Http1Request) -> None:
        """Answer a request, at once or when the throttle allows."""
        path = request.uri.partition(b"?")[0]
        wait = self._factory.throttle.wait(METRICS_COST if path == b"/metrics" else OTHER_COST)
        if wait:
            self._later = self._factory.clock.callLater(wait, self._answer, request, path)
        else:
            self._answer(request, path)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel the answer that the client no longer waits for."""
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
            self._checking.addCallbacks(
                self._respond_health, ignore_cancellation, callbackArgs=(request,)
            )
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
