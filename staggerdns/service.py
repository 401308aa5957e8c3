"""Builds the rooms, connects them, and starts and stops the whole.

Start: listeners are bound in ``privilegedStartService``, before twistd gives up its privileges; a
port that cannot be had ends the program. Stop: no more queries are read, those under way get
their answer or, after `DRAIN_TIME`, a failure; then everything that was opened is closed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.ranking.budget import Budget
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.probes import Probes
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sorts import Sorts
from staggerdns.resolver.cache import AnswerCache, CacheLimits
from staggerdns.resolver.chain import CachingResolver
from staggerdns.resolver.collection import PoolRules
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.resolver.ranked import RankedCache, RankingRules
from staggerdns.server.access import Access
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory, StreamLimits
from staggerdns.server.https import PROTOCOLS, dns_site
from staggerdns.server.listener import Listener
from staggerdns.server.status import status_site
from staggerdns.server.stream import StreamFactory, StreamPort
from staggerdns.server.tls import Certificate, EncryptedFactory
from staggerdns.settings import Config
from staggerdns.settings import Ranking as RankingConfig
from staggerdns.strategy.adaptive import Adaptive, RacingNumbers, SequentialNumbers
from staggerdns.strategy.parallel import Pace
from staggerdns.strategy.statistics import Statistics
from staggerdns.strategy.strategies import Strategies
from staggerdns.strategy.strategy import Tools
from staggerdns.upstream.address import Endpoint, UpstreamAddress
from staggerdns.upstream.bootstrap import Bootstrap
from staggerdns.upstream.budget import BudgetRules
from staggerdns.upstream.health import HealthRules
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.stream import Resolve
from staggerdns.upstream.tls import DOT, Authorities
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import Upstreams

DRAIN_TIME = 0.9
"""Seconds that queries under way have at a stop, so that all is over within a second."""


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
        clock = clock if clock is not None else reactor
        metrics = metrics if metrics is not None else Metrics()
        journal = journal if journal is not None else Journal(config.log.level)
        upstream, cache = config.upstream, config.cache
        numbers, health, budget = upstream.parallel, upstream.health, upstream.budget
        self._readers = Readers(reactor, journal)
        authorities = Authorities(upstream.tls_ca)

        def connect(
            address: UpstreamAddress, metrics: Metrics, resolve: Resolve | None = None
        ) -> Upstream:
            return Upstream(
                address,
                reactor=reactor,
                readers=self._readers,
                clock=clock,
                rng=rng,
                timeout=upstream.timeout,
                alpha=upstream.adaptive.ewma_alpha,
                health=HealthRules(
                    degraded_after=health.degraded_after,
                    unhealthy_after=health.unhealthy_after,
                    open_for=health.open_for,
                    max_open_for=health.max_open_for,
                    heal_after=health.heal_after,
                ),
                budget=BudgetRules(
                    max_inflight=budget.max_inflight,
                    queries_per_second=budget.queries_per_second,
                    burst=budget.burst,
                ),
                metrics=metrics,
                journal=journal,
                resolve=resolve,
                authorities=authorities,
            )

        # A resolver of names may be an upstream as well: its figures are no upstream's.
        resolvers = [connect(address, Metrics()) for address in upstream.bootstrap]
        self._bootstrap = Bootstrap(resolvers, clock, metrics, journal)
        self.upstreams = Upstreams(
            [connect(address, metrics, self._bootstrap.resolve) for address in upstream.servers]
        )
        sequential = SequentialNumbers(
            timeout=upstream.sequential.timeout,
            min_timeout=upstream.sequential.min_timeout,
            max_timeout=upstream.sequential.max_timeout,
        )
        racing = RacingNumbers(
            delay=upstream.racing.delay,
            min_delay=upstream.racing.min_delay,
            max_delay=upstream.racing.max_delay,
            max_step=upstream.adaptive.max_step,
        )
        tools = Tools(
            upstreams=self.upstreams,
            timeout=upstream.timeout,
            adaptive=Adaptive(
                racing, upstream.adaptive.ewma_alpha, window=upstream.parallel.stagger_delay
            ),
            clock=clock,
            rng=rng,
            metrics=metrics,
            journal=journal,
        )
        pace = Pace(
            active_tier_size=numbers.active_tier_size,
            fallback_timeout=numbers.fallback_timeout or None,
            batch_size=numbers.batch_size,
            stagger_delay=numbers.stagger_delay,
            total_collect_timeout=numbers.total_collect_timeout,
            negative_grace=numbers.negative_grace,
        )
        self._strategies = Strategies(
            upstream.strategy,
            tools,
            pace,
            sequential,
            max_concurrent=upstream.racing.max_concurrent,
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
        rules = PoolRules(max_pool_size=numbers.max_pool_size, merge_private=numbers.merge_private)
        self._ranking: Ranking | None = None
        self.cache: AnswerCache
        if config.ranking.enabled:
            self._ranking = Ranking(config.ranking, reactor, clock, rng, metrics, journal)
            order_rules = RankingRules(
                rtt_cache_ttl=config.ranking.rtt_cache_ttl,
                probe_private=config.ranking.probe_private,
            )
            self.cache = RankedCache(
                limits, clock, metrics, self._ranking.sorts, order_rules, journal
            )
        else:
            self.cache = AnswerCache(limits, clock, metrics)
        self.forwarder = Forwarder(
            self._strategies.chosen, self.cache, rules, clock, metrics, journal
        )
        self.cache.refresh = self.forwarder.refresh
        self.resolver = CachingResolver(self.cache, self.forwarder)

    def statistics(self) -> Statistics:
        """Return the adaptive numbers as they stand."""
        return self._strategies.statistics()

    def open(self) -> None:
        """Open now what needs privileges; what is not opened here is opened when it is needed."""
        if self._ranking is not None:
            self._ranking.probes.open()

    def close(self) -> None:
        """Cancel all that is under way and close every socket."""
        self.forwarder.close()
        if self._ranking is not None:
            self._ranking.close()
        self._bootstrap.close()
        self.upstreams.close()
        self._readers.close()


class Ranking:
    """The ranking room: ``sorts`` measures with ``probes``."""

    def __init__(
        self,
        config: RankingConfig,
        reactor: Any,
        clock: IReactorTime,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        table = RttTable(clock, config.rtt_cache_ttl, config.timeout)
        self.probes = Probes(config.probes, reactor, clock, rng, config.timeout, journal)
        self._measurer = Measurer(
            self.probes.all,
            table,
            Budget(config.max_probes_per_second, clock),
            clock,
            metrics,
            samples=config.samples,
            timeout=config.timeout,
            concurrency=config.concurrency,
        )
        self.sorts = Sorts(table, self._measurer, config.queue, metrics)

    def close(self) -> None:
        """End every sort and probe."""
        self.sorts.close()
        self._measurer.close()
        self.probes.close()


class StaggerService(Service):
    """The running program; ``reactor`` and ``rng`` come from whoever makes it."""

    def __init__(self, config: Config, reactor: Any, rng: Callable[[int], bytes]) -> None:
        self._config = config
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._journal = Journal(config.log.level)
        self._metrics = Metrics()
        self._bound: list[Listener] = []
        self._encrypted: list[EncryptedFactory] = []
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
        self._chain.open()
        missing: CannotListenError | None = None
        try:
            for endpoint in self._config.server.listen:
                try:
                    self._listen(endpoint)
                except CannotListenError as error:
                    if not _lacks_ipv6(endpoint, error):
                        raise
                    missing = error
                    self._journal.warn(
                        "no IPv6 on this machine: not listening on {listen}", listen=endpoint
                    )
            if missing is not None and not self._bound:
                raise missing
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
            listen=", ".join(map(str, self._bound)),
            upstreams=", ".join(upstream.name for upstream in self._chain.upstreams),
        )

    def stopService(self) -> Deferred[None]:
        """Answer what is under way, then close everything."""
        super().stopService()
        self._journal.info("at the end: {statistics}", statistics=self._chain.statistics())
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
            closed.extend(encrypted.close() for encrypted in self._encrypted)
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

    def _listen(self, endpoint: Listener) -> None:
        if endpoint.scheme:
            self._listen_encrypted(endpoint)
            return
        datagram = DatagramPort(endpoint.port, endpoint.host, self._reactor, self.factory)
        datagram.startListening()
        self._datagram_ports.append(datagram)
        stream = StreamPort(endpoint.port, self.factory, endpoint.host, self._reactor)
        stream.startListening()
        self._stream_ports.append(stream)
        self._bound.append(endpoint)

    def _listen_encrypted(self, endpoint: Listener) -> None:
        server, https = self._config.server, endpoint.scheme == "https"
        assert server.tls_certificate is not None
        assert server.tls_key is not None
        protocols = PROTOCOLS if https else (DOT,)
        files = Certificate(server.tls_certificate, server.tls_key, protocols, self._journal)
        inner = dns_site(self.factory, endpoint.path) if https else StreamFactory(self.factory)
        encrypted = EncryptedFactory(files, inner, self.factory, self._reactor, limited=https)
        stream = StreamPort(endpoint.port, encrypted, endpoint.host, self._reactor)
        stream.startListening()
        self._stream_ports.append(stream)
        self._encrypted.append(encrypted)
        self._bound.append(endpoint)

    def _listen_for_metrics(self, endpoint: Endpoint) -> None:
        site = status_site(self._metrics, self.healthy)
        self._site_ports.append(
            self._reactor.listenTCP(endpoint.port, site, interface=endpoint.host)
        )


def _lacks_ipv6(endpoint: Endpoint, error: CannotListenError) -> bool:
    """Say whether this is the IPv6 loopback of a machine that has none."""
    number = getattr(error.socketError, "errno", None)
    return endpoint.host == "::1" and number in (EADDRNOTAVAIL, EAFNOSUPPORT)


def _explain_bind(error: CannotListenError) -> str:
    where = Endpoint(error.interface, error.port)
    reason = getattr(error.socketError, "strerror", None) or error.socketError
    return f"cannot listen on {where}: {reason}: choose another address or port"
