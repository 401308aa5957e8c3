"""The program as a service: listeners, and starting and stopping the whole.

Start: listeners are bound in ``privilegedStartService``, before twistd gives up its privileges; a
port that cannot be had ends the program. Stop: no more queries are read, those under way get
their answer or, after `DRAIN_TIME`, a failure; then everything that was opened is closed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from errno import EADDRNOTAVAIL, EAFNOSUPPORT
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import globalLogPublisher

from staggerdns.building import Chain
from staggerdns.doubts import doubts
from staggerdns.journal import Journal, LostLines
from staggerdns.metrics import Metrics
from staggerdns.server.access import Access
from staggerdns.server.clients import ClientRules, Clients
from staggerdns.server.cookies import Cookies
from staggerdns.server.datagram import DatagramPort
from staggerdns.server.factory import StaggerServerFactory, StreamLimits
from staggerdns.server.hosts import Hosts
from staggerdns.server.https import PROTOCOLS, HttpsFactory
from staggerdns.server.listener import Listener
from staggerdns.server.local import LocalNames, LocalRules
from staggerdns.server.pending import PendingLimits
from staggerdns.server.ratelimit import RateLimit, RateLimiter
from staggerdns.server.status import status_site
from staggerdns.server.stream import StreamFactory, StreamPort
from staggerdns.server.tls import Certificate, EncryptedFactory
from staggerdns.settings import Config
from staggerdns.settings import Local as LocalConfig
from staggerdns.upstream.address import Endpoint
from staggerdns.upstream.tls import DOT

__all__ = ["DRAIN_TIME", "Chain", "StaggerService"]

DRAIN_TIME = 0.9
"""Seconds that queries under way have at a stop, so that all is over within a second."""


class StaggerService(Service):
    """The running program; ``reactor`` and ``rng`` come from whoever makes it."""

    def __init__(self, config: Config, reactor: Any, rng: Callable[[int], bytes]) -> None:
        self._config = config
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._journal = Journal(config.log.level)
        self._metrics = Metrics()
        self._lost_lines = LostLines(self._metrics.log_lost.cell())
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
        client, rate, cookies = server.client, server.rate_limit, server.cookies
        clients = Clients(
            ClientRules(
                ipv4_prefix=client.ipv4_prefix,
                ipv6_prefix=client.ipv6_prefix,
                exempt=client.exempt,
            )
        )
        limit = RateLimit(
            queries_per_second=rate.queries_per_second, burst=rate.burst, slip=rate.slip
        )
        self.factory = StaggerServerFactory(
            caches=[self._chain.cache],
            clients=[self._chain.forwarder],
            access=Access(server.allow),
            local=self._local_names(config.local),
            clock=self._clock,
            metrics=self._metrics,
            journal=self._journal,
            stream_limits=StreamLimits(
                idle_timeout=server.tcp_idle_timeout,
                max_connections=server.tcp_max_connections,
                max_per_client=server.tcp_max_per_client,
            ),
            identities=clients,
            pending_limits=PendingLimits(
                max_pending=server.max_pending,
                max_per_client=server.max_pending_per_client,
            ),
            max_udp_size=server.max_udp_size,
            cookies=Cookies(self._clock, time.time, rng, cookies.secret)
            if cookies.enabled
            else None,
            limiter=RateLimiter(limit, clients) if limit.queries_per_second else None,
        )

    def _local_names(self, local: LocalConfig) -> LocalNames:
        hosts = None
        if local.hosts is not None:
            hosts = Hosts(local.hosts, self._clock, self._journal)
        rules = LocalRules(
            localhost=local.localhost,
            invalid=local.invalid,
            test=local.test,
            mdns=local.mdns,
            onion=local.onion,
            home_arpa=local.home_arpa,
            resolver_arpa=local.resolver_arpa,
            private_reverse=local.private_reverse,
        )
        return LocalNames(rules, hosts)

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
        globalLogPublisher.addObserver(self._lost_lines)
        self._journal.info(
            "listening on {listen}, asking {upstreams}",
            listen=", ".join(map(str, self._bound)),
            upstreams=", ".join(upstream.name for upstream in self._chain.upstreams),
        )
        for doubt in doubts(self._config):
            self._journal.warn("{doubt}", doubt=doubt)

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
            globalLogPublisher.removeObserver(self._lost_lines)
            for connection in list(self.factory.connections):
                connection.close()
            closed.extend(encrypted.close() for encrypted in self._encrypted)
            for port in (*self._datagram_ports, *self._site_ports):
                closed.append(maybeDeferred(port.stopListening))  # noqa: PERF401 (two kinds)
            return gatherResults(closed)

        return self.factory.drain().addCallback(close).addCallback(lambda _: None)

    def healthy(self) -> bool:
        """Say whether listeners are up and some upstream is usable."""
        return bool(self.running) and self._chain.usable

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
        inner = HttpsFactory(self.factory, endpoint.path) if https else StreamFactory(self.factory)
        encrypted = EncryptedFactory(files, inner, self._reactor)
        stream = StreamPort(endpoint.port, self.factory, endpoint.host, self._reactor, encrypted)
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
