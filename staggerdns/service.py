"""Builds the rooms, connects them, and starts and stops the whole.

Start: listeners are bound in ``privilegedStartService``, before twistd gives up its privileges; a
port that cannot be had ends the program. Stop: no more queries are read, those under way get
their answer or, after `DRAIN_TIME`, a failure; then everything that was opened is closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.web.resource import Resource
from twisted.web.server import Request, Site
from zope.interface import implementer

from staggerdns.config import Config
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.resolver.cache import AnswerCache, CacheLimits
from staggerdns.resolver.chain import CachingResolver
from staggerdns.resolver.collection import PoolRules
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.server.access import Access
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory, StreamLimits
from staggerdns.strategy.parallel import Pace, Parallel
from staggerdns.upstream.address import Endpoint
from staggerdns.upstream.upstream import Upstream

DRAIN_TIME = 0.9
"""Seconds that queries under way have at a stop, so that all is over within a second."""
STREAM_BACKLOG = 128
_STRATEGIES = {"parallel": Parallel}


@implementer(IReactorTime)
class MonotonicClock:
    """The reactor's timers with a time that nobody can set: `time.monotonic`."""

    seconds = staticmethod(time.monotonic)

    def __init__(self, reactor: IReactorTime) -> None:
        self.callLater = reactor.callLater
        self.getDelayedCalls = reactor.getDelayedCalls


class Chain:
    """The resolver chain of a configuration, complete and ready to ask.

    ``resolver`` is the whole chain as an `IResolver` provider, for programs that want answers
    and no server; ``cache`` and ``forwarder`` are its two links. `close` it in the end.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        *,
        clock: IReactorTime | None = None,
        rng: Callable[[int], bytes] = os.urandom,
        metrics: Metrics | None = None,
        journal: Journal | None = None,
    ) -> None:
        clock = clock if clock is not None else MonotonicClock(reactor)
        metrics = metrics if metrics is not None else Metrics()
        journal = journal if journal is not None else Journal(config.log.level)
        upstream, cache = config.upstream, config.cache
        numbers = upstream.parallel
        self.upstreams = [
            Upstream(
                address,
                reactor=reactor,
                clock=clock,
                rng=rng,
                timeout=upstream.timeout,
                metrics=metrics,
                journal=journal,
            )
            for address in upstream.servers
        ]
        pace = Pace(
            active_tier_size=numbers.active_tier_size,
            fallback_timeout=numbers.fallback_timeout,
            batch_size=numbers.batch_size,
            stagger_delay=numbers.stagger_delay,
            total_collect_timeout=numbers.total_collect_timeout,
            negative_grace=numbers.negative_grace,
        )
        limits = CacheLimits(
            max_entries=cache.max_entries,
            fast_response_ttl=cache.fast_response_ttl,
            user_return_ttl=cache.user_return_ttl,
            min_ttl=cache.min_ttl,
            max_ttl=cache.max_ttl,
            max_negative_ttl=cache.max_negative_ttl,
            max_stale=cache.max_stale,
        )
        strategy = _STRATEGIES[upstream.strategy](
            self.upstreams, pace, upstream.timeout, clock, metrics, journal
        )
        rules = PoolRules(max_pool_size=numbers.max_pool_size, merge_private=numbers.merge_private)
        self.cache = AnswerCache(limits, clock, metrics)
        self.forwarder = Forwarder(strategy, self.cache, rules, clock, metrics, journal)
        self.cache.refresh = self.forwarder.refresh
        self.resolver = CachingResolver(self.cache, self.forwarder)

    def close(self) -> None:
        """Cancel all that is under way and close every upstream socket."""
        self.forwarder.close()
        for upstream in self.upstreams:
            upstream.close()


class StaggerService(Service):
    """The running program; ``reactor`` and ``rng`` come from whoever makes it."""

    def __init__(self, config: Config, reactor: Any, rng: Callable[[int], bytes]) -> None:
        self._config = config
        self._reactor = reactor
        self._clock = MonotonicClock(reactor)
        self._journal = Journal(config.log.level)
        self._metrics = Metrics()
        self._datagram_ports: list[DatagramPort] = []
        self._stream_ports: list[IListeningPort] = []
        self._site_ports: list[IListeningPort] = []
        self._chain = Chain(
            config,
            reactor,
            clock=self._clock,
            rng=rng,
            metrics=self._metrics,
            journal=self._journal,
        )
        server = config.server
        self.factory = StaggerServerFactory(
            caches=[self._chain.cache],
            clients=[self._chain.forwarder],
            access=Access(server.allow),
            clock=self._clock,
            metrics=self._metrics,
            journal=self._journal,
            stream_limits=StreamLimits(
                idle_timeout=server.tcp_idle_timeout,
                max_connections=server.tcp_max_connections,
            ),
        )

    def privilegedStartService(self) -> None:
        """Bind every listener, or exit with status 1 and one line that says which and why."""
        try:
            for endpoint in self._config.server.listen:
                self._listen(endpoint)
            if self._config.metrics.listen is not None:
                self._listen_for_metrics(self._config.metrics.listen)
        except CannotListenError as error:
            for port in [*self._datagram_ports, *self._stream_ports, *self._site_ports]:
                port.stopListening()
            raise SystemExit(f"staggerdns: {_explain_bind(error)}") from None

    def startService(self) -> None:
        """Say that the server is up."""
        super().startService()
        self._journal.info(
            "listening on {listen}, asking {upstreams}",
            listen=", ".join(map(str, self._config.server.listen)),
            upstreams=", ".join(upstream.name for upstream in self._chain.upstreams),
        )

    def stopService(self) -> Deferred[None]:
        """Answer what is under way, then close everything."""
        super().stopService()
        for datagram_port in self._datagram_ports:
            datagram_port.stopReading()
        closed: list[Deferred[Any]] = [
            maybeDeferred(port.stopListening) for port in self._stream_ports
        ]
        for connection in list(self.factory.connections):
            connection.stop_reading()
        # The forwarder's end answers whoever still waits by then, and so ends the drain.
        late = self._clock.callLater(DRAIN_TIME, self._chain.forwarder.close)

        def close(_: object) -> Deferred[list[Any]]:
            if late.active():
                late.cancel()
            self._chain.close()
            for connection in list(self.factory.connections):
                connection.close()
            for port in (*self._datagram_ports, *self._site_ports):
                closed.append(maybeDeferred(port.stopListening))  # noqa: PERF401 (two kinds)
            return gatherResults(closed)

        return self.factory.drain().addCallback(close).addCallback(lambda _: None)

    def healthy(self) -> bool:
        """Say whether listeners are up and some upstream is usable."""
        now = self._clock.seconds()
        return bool(self.running) and any(
            upstream.usable(now) for upstream in self._chain.upstreams
        )

    def _listen(self, endpoint: Endpoint) -> None:
        datagram = DatagramPort(endpoint.port, endpoint.host, self._reactor, self.factory)
        datagram.startListening()
        self._datagram_ports.append(datagram)
        self._stream_ports.append(self._listen_tcp(endpoint, self.factory))

    def _listen_for_metrics(self, endpoint: Endpoint) -> None:
        registry = CollectorRegistry()
        registry.register(self._metrics)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        root = Resource()
        root.putChild(b"metrics", _MetricsPage(registry))
        root.putChild(b"healthz", _HealthPage(self.healthy))
        site = Site(root)
        site.noisy = False
        site.displayTracebacks = False
        self._site_ports.append(self._listen_tcp(endpoint, site))

    def _listen_tcp(self, endpoint: Endpoint, factory: Any) -> IListeningPort:
        port: IListeningPort = self._reactor.listenTCP(
            endpoint.port, factory, STREAM_BACKLOG, endpoint.host
        )
        return port


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


def _explain_bind(error: CannotListenError) -> str:
    where = Endpoint(error.interface, error.port)
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return f"cannot listen on {where}: {reason}: choose another address or port"
