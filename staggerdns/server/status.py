"""The pages for machines: ``/metrics`` for Prometheus, ``/healthz`` for supervisors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from twisted.web.http import Request as BaseRequest
from twisted.web.pages import notFound
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site


def status_site(metrics: Sequence[Collector], healthy: Callable[[], bool]) -> Site:
    """Return the HTTP server of both pages; ``healthy`` decides between 200 and 503."""
    registry = CollectorRegistry()
    for collector in metrics:
        registry.register(collector)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    root = _Root()
    root.putChild(b"metrics", _MetricsPage(registry))
    root.putChild(b"healthz", _HealthPage(healthy))
    site = _QuietSite(root)
    site.displayTracebacks = False
    return site


class _QuietSite(Site):
    noisy = False

    def log(self, request: BaseRequest) -> None:
        """Keep no access log: scrapes and health checks come all day."""


class _Root(Resource):
    def getChild(self, path: bytes, request: Request) -> IResource:
        return notFound()


class _MetricsPage(Resource):
    isLeaf = True

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", CONTENT_TYPE_LATEST.encode())
        return generate_latest(self._registry)


class _HealthPage(Resource):
    isLeaf = True

    def __init__(self, healthy: Callable[[], bool]) -> None:
        super().__init__()
        self._healthy = healthy

    def render_GET(self, request: Request) -> bytes:
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        if self._healthy():
            return b"ok\n"
        request.setResponseCode(503)
        return b"no upstream is usable\n"
