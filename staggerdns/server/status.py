"""The pages over HTTP: ``/metrics`` for Prometheus, ``/healthz`` for supervisors, ``/readyz`` for
balancers. What is beside them is left to a `Site`.

Whoever requests them cannot slow DNS down: their connections have limits of their own and are
accepted one at a time, bodies are refused, and requests beyond a modest rate are delayed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Protocol

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
MAX_VIEWERS = 16
"""Connections that a `Site` may keep beside these, for those who watch."""
METRICS_COST = 1 / 8
"""Seconds that a page of metrics takes of the time there is: eight pages a second."""
OTHER_COST = 1 / 64
"""The same of other pages, and of new connections."""
BURST = 4.0
"""Seconds of unused time that are saved up for a burst: 32 pages of metrics."""
_TEXT = b"text/plain; charset=utf-8"
PATHS = (b"/metrics", b"/healthz", b"/readyz")
"""What is served here. Everything else is for the `Site`, if there is one."""
Fields = Sequence[tuple[bytes, bytes]]
Page = tuple[HTTPStatus, bytes, bytes]
"""Status, media type and content of a response."""
_HEALTHY: Page = HTTPStatus.OK, _TEXT, b"ok\n"
_UNHEALTHY: Page = HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"no upstream answers\n"
NOT_FOUND: Page = HTTPStatus.NOT_FOUND, _TEXT, b"expected /metrics, /healthz or /readyz\n"


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

    def spend(self, cost: float) -> float:
        """Spend ``cost`` seconds if they are there; else return the seconds until they will be."""
        missing = max(self._free, self._clock.seconds() - BURST) + cost - self._clock.seconds()
        if missing > 0:
            return missing
        self.wait(cost)
        return 0.0


class Site(Protocol):
    """What is served beside `PATHS`, by limits of its own."""

    def answer(self, request: Http1Request, visitor: StatusConnection) -> None:
        """Answer a request that came by ``visitor``, now or later."""


class StatusFactory(ServerFactory):
    """Serves the metrics of ``collectors``, whether upstreams answer, as ``check`` finds out, and
    whether ``lifecycle`` says that the server is ready.

    ``refused`` and ``dropped`` count connections as those of `Connections` do. ``site``: what there
    is beside these pages, `None` if nothing is.
    """

    site: Site | None = None
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

    def page(self, path: bytes) -> Page:
        """Return any page but ``/healthz``, which needs a check."""
        if path == b"/metrics":
            return HTTPStatus.OK, CONTENT_TYPE_LATEST.encode(), generate_latest(self._registry)
        if path == b"/readyz":
            ready = self._lifecycle.ready
            status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
            return status, _TEXT, f"{self._lifecycle.phase}\n".encode()
        return NOT_FOUND


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
        site = self._factory.site
        if site is not None and path not in PATHS:
            site.answer(request, self)
            return
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
        if refuse(request):
            return
        if path == b"/healthz":
            self._checking = self._factory.check()
            self._checking.addCallbacks(
                self._respond_health, ignore_cancellation, callbackArgs=(request,)
            )
        else:
            send_page(request, self._factory.page(path))

    def _respond_health(self, healthy: bool, request: Http1Request) -> None:
        self._checking = None
        send_page(request, _HEALTHY if healthy else _UNHEALTHY)


def refuse(request: Http1Request) -> bool:
    """Refuse a request that asks for more than to be shown something; return whether it did."""
    if request.method not in (b"GET", b"HEAD"):
        page = HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"expected GET\n"
        send_page(request, page, [(b"allow", b"GET, HEAD")])
    elif request.too_long:
        send_page(request, (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _TEXT, b"expected no body\n"))
    else:
        return False
    return True


def send_page(request: Http1Request, page: Page, more: Fields = ()) -> None:
    """Send a response, with ``more`` fields in its header."""
    _, _, body = page
    request.respond([*header(page, more), (b"content-length", b"%d" % len(body))], body)


def header(page: Page, more: Fields = ()) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response, but for how long it is."""
    status, kind, _ = page
    return [
        (b":status", b"%d" % status),
        *more,
        (b"content-type", kind),
        (b"date", datetimeToString()),
    ]
