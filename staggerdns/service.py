"""The program as a service: starting and stopping the whole.

Start: listeners are bound by `StaggerService.bind`, while there are the privileges to do so; a port
that cannot be had ends the program. Stop: what has come already is read, and no more; queries
under way get their answer or, after `DRAIN_TIME`, a failure; then everything that was opened is
closed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from msgspec.structs import replace
from prometheus_client.registry import Collector
from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import globalLogPublisher

from staggerdns import __version__
from staggerdns.chain import Chain
from staggerdns.compiled import is_compiled
from staggerdns.configroutes import all_routes
from staggerdns.configwarnings import config_warnings
from staggerdns.control.control import Control
from staggerdns.control.operations import Program, Reloads
from staggerdns.descriptors import fit_descriptors
from staggerdns.journal import Journal, LostLines
from staggerdns.lifecycle import Lifecycle
from staggerdns.listeners import Listeners
from staggerdns.logformat import Listed
from staggerdns.metrics import Metrics, ProcessMetrics
from staggerdns.policy.blocking import make_blocking
from staggerdns.policy.groups import Groups
from staggerdns.policy.lists.compose import make_lists
from staggerdns.policy.pauses import BlockingPauses
from staggerdns.policy.rules import Rules
from staggerdns.server.access import Access
from staggerdns.server.cannotbind import CannotBind
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.cookies import Cookies
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.hosts import Hosts
from staggerdns.server.local import LocalNames
from staggerdns.server.passedsockets import PassedSockets
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.server.received import read_received
from staggerdns.server.status import StatusFactory
from staggerdns.server.tls import Certificate
from staggerdns.settings.policy import DEFAULT_GROUP, GroupSettings
from staggerdns.settings.sections import Config
from staggerdns.state.compose import make_state
from staggerdns.state.directory import find_directory
from staggerdns.state.metrics import StateMetrics
from staggerdns.state.state import nothing_to_settle

DRAIN_TIME = 0.9
"""Seconds that queries under way have at a stop, so that all is over within a second."""


class StaggerService(Service):
    """The running program; ``reactor`` and ``rng`` come from whoever makes it, and sockets that
    were ``passed`` in.

    ``settle`` is called now and then while much is made that will live long: it may tell the
    collector. ``journal`` is what it logs with; ``lost_lines`` counts lines of the log that were
    not written. ``lifecycle``: its phase.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        rng: Callable[[int], bytes],
        settle: Callable[[], object] = nothing_to_settle,
        passed: PassedSockets | None = None,
    ) -> None:
        self._config = config
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self.journal = self._journal = Journal(config.log.level)
        self.lifecycle = Lifecycle(self._journal)
        self._metrics = Metrics()
        self.lost_lines = self._metrics.log_lost.cell()
        self._watch_log = LostLines(self.lost_lines)
        self._is_bound = False
        self._control_closed: Deferred[object] = succeed(None)
        self._chain = Chain(
            config,
            reactor,
            clock=self._clock,
            rng=rng,
            metrics=self._metrics,
            journal=self._journal,
        )
        self._readiness = self._chain.readiness
        self._pauses = BlockingPauses(self._clock, self._journal)
        state = replace(config.state, directory=find_directory(config.state.directory, os.environ))
        self._state_metrics = StateMetrics()
        self._state = make_state(
            state,
            self._chain,
            reactor=reactor,
            clock=self._clock,
            metrics=self._state_metrics,
            journal=self._journal,
            settle=settle,
        )
        self._lists = make_lists(
            config.lists,
            state,
            self._chain.resolve,
            reactor=reactor,
            clock=self._clock,
            metrics=self._metrics,
            journal=self._journal,
        )
        hosts = config.local.hosts
        self._hosts = None if hosts is None else Hosts(hosts, self._clock, self._journal)
        server = config.server
        client_groups = ClientGroups(server.client)
        rate_limit, cookies = server.rate_limit, server.cookies
        self.factory = StaggerServerFactory(
            caches=[self._chain.caching],
            clients=[self._chain.forwarding],
            settings=server,
            access=Access(server.allow),
            local=LocalNames(config.local, self._hosts, self.lifecycle),
            groups=self._groups(),
            clock=self._clock,
            metrics=self._metrics,
            journal=self._journal,
            client_groups=client_groups,
            cookies=Cookies(self._clock.seconds(), time.time, rng, cookies.secret)
            if cookies.enabled
            else None,
            limiter=RateLimiter(rate_limit, client_groups)
            if rate_limit.queries_per_second
            else None,
        )
        if self._hosts is not None:
            self._hosts.on_change(self.factory.forget_ready)
        self._chain.routes.on_change(self.factory.forget_ready)
        if self._lists is not None:
            self._lists.on_change(lambda _: self.factory.forget_ready())
        self._pauses.on_change(self.factory.forget_ready)
        self._certificate: Certificate | None = None
        if server.tls_certificate is not None and server.tls_key is not None:
            self._certificate = Certificate(
                server.tls_certificate, server.tls_key, self._journal, time.time
            )
        self._listeners = Listeners(self.factory, reactor, self._journal, passed)
        self.control = Control(self._program(), reactor)

    def _program(self) -> Program:
        """Return what the commands of the control socket work with."""
        return Program(
            path=None,
            config=lambda: self._config,
            chain=lambda: self._chain,
            listeners=lambda: list(map(str, self._listeners.bound)),
            answering=lambda: self._readiness.answering,
            reloads=lambda: Reloads(0, None, ()),
            reload=lambda: self.reload(),  # noqa: PLW0108 (tests put another in its place)
            forget_ready=self.factory.forget_ready,
            lifecycle=self.lifecycle,
            pauses=self._pauses,
            metrics=self._metrics,
            clock=self._clock,
            journal=self._journal,
        )

    def _groups(self) -> Groups | None:
        """Return the groups of clients, `None` if all names are the same for everybody."""
        config, routes = self._config, self._chain.routes
        if not config.routes and not config.groups:
            return None
        groups = {DEFAULT_GROUP: GroupSettings(), **config.groups}
        default = groups[DEFAULT_GROUP]
        rules = {}
        for name, group in groups.items():
            blocking = make_blocking(
                name, group, default, self._lists, config.lists, self._metrics, self._pauses
            )
            rules[name] = Rules(routes.of(name), blocking)
        return Groups(config.groups, rules)

    def bind(self) -> None:
        """Open the listeners, unless they are open. Raises `CannotBind`."""
        if self._is_bound:
            return
        fit = fit_descriptors(self._config)
        if fit.problem:
            self._journal.warn("{problem}", problem=fit.problem)
        connections = self.factory.client_connections
        connections.max_connections = fit.connections
        self._chain.open()
        listen = self._config.metrics.listen
        page = None if listen is None else self._page()
        change = self._listeners.prepare(
            self._config.server.listen, self._certificate, page, listen
        )
        change.commit()
        self._is_bound = True

    def privilegedStartService(self) -> None:
        """Open the listeners while there are the privileges to do so.

        Raises `SystemExit` with one line that says which cannot be had and why.
        """
        try:
            self.bind()
        except CannotBind as error:
            raise SystemExit(f"staggerdns: {error}") from None

    def startService(self) -> None:
        """Log that the server is up, with everything that the operator should know of it."""
        self.privilegedStartService()  # `twist` has not called it
        super().startService()
        globalLogPublisher.addObserver(self._watch_log)
        self._announce()
        if self._state is not None:
            self._state.start()
        if self._lists is not None:
            self._lists.start()
        if self._certificate is not None:
            self._certificate.warn()
        for warning in config_warnings(self._config):
            self._journal.warn("{warning}", warning=warning)
        self.control.open(self._config.control)
        self.lifecycle.serve()

    def _announce(self) -> None:
        """Log what runs, where it listens and whom it asks."""
        config, page = self._config, self._config.metrics.listen
        of_routes = Listed(
            dict.fromkeys(one for _, way in all_routes(config) for one in way.servers)
        )
        self._journal.announce(
            "listening on {listen}"
            + ("" if page is None else ", with metrics on {metrics}")
            + ", asking {upstreams}"
            + (", for routes {route_upstreams}" if of_routes else "")
            + ": StaggerDNS {version}, {build}",
            version=__version__,
            build="compiled" if is_compiled() else "pure Python",
            listen=Listed(self._listeners.bound),
            metrics=page,
            upstreams=Listed(config.upstream.servers),
            route_upstreams=of_routes,
        )

    def stopService(self) -> Deferred[None]:
        """Answer what is under way, then close everything."""
        super().stopService()
        self.lifecycle.stop()
        self._control_closed = self.control.close()
        self._readiness.close()
        numbers = asdict(self._chain.statistics())
        shown = ", ".join(f"{name}={number:.6g}" for name, number in numbers.items())
        self._journal.info(f"at the end: {shown}", **numbers)
        # The forwarder's end answers whoever still waits by then, and so ends the drain.
        late = self._clock.callLater(DRAIN_TIME, self._chain.forwarder.close)
        saved = succeed(None) if self._state is None else self._state.stop()
        self._listeners.stop_reading_passed()
        read = read_received(self._reactor, self._sockets)
        return read.addCallback(lambda _: self._drain(late)).addCallback(lambda _: saved)

    def _sockets(self) -> set[Any]:
        """Return what reads queries from the network."""
        return self.factory.client_connections.tcp_transports().union(self._listeners.ports)

    def _drain(self, late: IDelayedCall) -> Deferred[None]:
        closed = self._listeners.stop_reading()
        self.factory.client_connections.drain()

        def close(_: object) -> Deferred[list[Any]]:
            if late.active():
                late.cancel()
            if self._lists is not None:
                self._lists.stop()
            self._chain.close()
            globalLogPublisher.removeObserver(self._watch_log)
            self.factory.client_connections.close()
            return gatherResults([*closed, *self._listeners.close(), self._control_closed])

        return self.factory.drain().addCallback(close).addCallback(lambda _: None)

    def reread(self) -> None:
        """Read again what is in files of its own, and say how it went: hosts, the certificate, and
        the authorities that certify upstreams. Files of domains and of lists take longer, and have
        lines of their own in the log.
        """
        files = {"the hosts file": self._hosts, "the certificate": self._certificate}
        said = [
            name if file.reread() else f"{name} (cannot be used)"
            for name, file in files.items()
            if file is not None
        ]
        if self._lists is not None:
            self._lists.reread()
            said.append("the files of lists")
        if self._config.upstream.tls_ca is not None:
            problem = self._chain.authorities.reread()
            if problem:
                problem = f" (the old ones stay: upstream.tls_ca: {problem})"
            said.append(f"the upstreams' authorities{problem}")
        later = ""
        if self._chain.routes.reads_files:
            self._chain.routes.reread()
            later = "; the domains of routes follow when their files are complete"
        self._journal.announce(
            "read again: {files}{later}; other settings count from the next start",
            files=", ".join(said) or "nothing",
            later=later,
        )

    def reload(self) -> Deferred[tuple[str, ...]]:
        """Read the configuration again; the Deferred's result is what is wrong with it."""
        return succeed(("this program cannot do that yet",))

    def answered(self) -> Mapping[tuple[str, ...], int]:
        """Return how many queries have been answered, by where the answers came from."""
        return self._metrics.answer_seconds.counts()

    def healthy(self) -> bool:
        """Return whether listeners are up and upstreams answer, as far as is known."""
        return bool(self.running) and self._readiness.answering

    def check(self) -> Deferred[bool]:
        """Return a Deferred of the same; if nothing has been asked of late, it asks."""
        return self._readiness.check() if self.running else succeed(False)

    def _page(self) -> StatusFactory:
        return StatusFactory(
            self._collectors(),
            self.check,
            self.lifecycle,
            self._clock,
            refused=self._metrics.metrics_refused.cell(),
            dropped=self._metrics.unread_dropped.cell(),
        )

    def _collectors(self) -> list[Collector]:
        certificate = self._certificate
        expiry = None if certificate is None else lambda: certificate.expiry
        return [self._metrics, self._state_metrics, ProcessMetrics(expiry)]
