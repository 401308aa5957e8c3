"""The program as a service: starting and stopping the whole.

Start: listeners are bound by `StaggerService.bind`, while there are the privileges to do so; a port
that cannot be had ends the program. Stop: what has come already is read, and no more; queries
under way get their answer or, after `DRAIN_TIME`, a failure; then everything that was opened is
closed. A reload of the configuration makes what is new beside what there is; then one step puts it
in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import globalLogPublisher

from staggerdns.assembly import Assembly, assemble, with_groups
from staggerdns.chain import Chain, Plan
from staggerdns.configreader import read_config
from staggerdns.configwarnings import config_warnings
from staggerdns.control.control import Control
from staggerdns.control.operations import Program
from staggerdns.descriptors import fit_descriptors
from staggerdns.journal import Journal, LogShape, LostLines
from staggerdns.lifecycle import Lifecycle
from staggerdns.listeners import ListenerChange, Listeners
from staggerdns.metrics import Metrics
from staggerdns.page.site import Site
from staggerdns.policy.domains import in_turns
from staggerdns.policy.lists.compose import make_lists
from staggerdns.policy.lists.lists import Lists
from staggerdns.policy.pauses import BlockingPauses
from staggerdns.processmetrics import ProcessMetrics
from staggerdns.querylog.querylog import QueryLog
from staggerdns.reload import NO_RELOADS, Problems, Reloads
from staggerdns.rereading import reread
from staggerdns.server.answered import AnswerHub
from staggerdns.server.cannotbind import CannotBind
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.passedsockets import PassedSockets
from staggerdns.server.received import read_received
from staggerdns.server.status import StatusFactory
from staggerdns.settings.policy import DEFAULT_GROUP
from staggerdns.settings.sections import Config
from staggerdns.startline import announce
from staggerdns.state.compose import make_state, state_settings
from staggerdns.state.metrics import StateMetrics
from staggerdns.state.state import SavedState, nothing_to_settle

DRAIN_TIME = 0.9
"""Seconds that queries under way have at a stop, so that all is over within a second."""


class StaggerService(Service):
    """The running program; ``reactor`` and ``rng`` come from whoever makes it, and sockets that
    were ``passed`` in.

    ``path``: the file that ``config`` was read from, if it can be read again. ``settle`` is called
    now and then while much is made that will live long: it may tell the collector. ``journal`` is
    what it logs with, ``log_shape`` how that is written; ``lost_lines`` counts lines of the log
    that were not written. ``lifecycle``: its phase. ``pages``: what it serves over HTTP; ``site``:
    the page for people among them.
    """

    def __init__(
        self,
        config: Config,
        reactor: Any,
        rng: Callable[[int], bytes],
        path: str | None = None,
        settle: Callable[[], object] = nothing_to_settle,
        passed: PassedSockets | None = None,
    ) -> None:
        self._reactor = reactor
        self._clock: IReactorTime = reactor
        self._rng = rng
        self._settle = settle
        self.journal = journal = Journal(config.log.level)
        self.log_shape = LogShape(journal, config.log)
        self.lifecycle = Lifecycle(journal)
        self._metrics = metrics = Metrics()
        self.lost_lines = metrics.log_lost.cell()
        self._watch_log = LostLines(self.lost_lines)
        self._is_bound = False
        self._control_closed: Deferred[object] = succeed(None)
        self._chain = Chain(
            config, reactor, clock=self._clock, rng=rng, metrics=metrics, journal=journal
        )
        self._readiness = self._chain.readiness
        self._pauses = BlockingPauses(self._clock, journal)
        self._state_metrics = StateMetrics()
        self._state = self._make_state(config)
        self._lists = self._make_lists(config, None)
        self._assembly = self._with_groups(self._assemble(config, None))
        self.factory = StaggerServerFactory(
            caches=[self._chain.caching],
            clients=[self._chain.forwarding],
            rules=self._assembly.rules,
            clock=self._clock,
            metrics=metrics,
            journal=journal,
            answers=AnswerHub(time.time, journal, self._clock),
        )
        self._forget_ready(None)
        self._chain.on_routes_changed(self.factory.forget_ready)
        self._pauses.on_change(self.factory.forget_ready)
        self._query_log = QueryLog(self.factory.answers, reactor, metrics, journal)
        self.pages = StatusFactory(
            [
                *(metrics, self._state_metrics, self._chain.shared.metrics),
                ProcessMetrics(lambda: self._assembly.certificate_expiry()),  # noqa: PLW0108
            ],
            self.check,
            self.lifecycle,
            self._clock,
            refused=metrics.metrics_refused.cell(),
            dropped=metrics.unread_dropped.cell(),
        )
        self._listeners = Listeners(self.factory, reactor, journal, passed)
        self._reloads: Reloads | None = None
        if path is not None:
            self._reloads = Reloads(
                path, partial(self._reload, path), self._clock, metrics, journal
            )
        program = self._program(path)
        self.control = Control(program, reactor)
        self._chain.shared.apply_flush = self.control.operations.flushed_elsewhere
        self.site = self.pages.site = Site(
            program, self.control.operations.perform, self.factory.answers
        )

    @property
    def config(self) -> Config:
        """The configuration that counts."""
        return self._assembly.config

    def _program(self, path: str | None) -> Program:
        """Return what the commands of the control socket work with."""
        return Program(
            path=path,
            config=lambda: self.config,
            chain=lambda: self._chain,
            local=lambda: self._assembly.rules.local,
            rules=lambda host: self._assembly.rules_of(host),  # noqa: PLW0108 (it is replaced)
            listeners=lambda: list(map(str, self._listeners.bound)),
            answering=lambda: self._readiness.answering,
            reloads=lambda: NO_RELOADS if self._reloads is None else self._reloads.history,
            reload=lambda: self.reload(),  # noqa: PLW0108 (tests put another in its place)
            forget_ready=self.factory.forget_ready,
            lifecycle=self.lifecycle,
            pauses=self._pauses,
            answers=self.factory.answers,
            metrics=self._metrics,
            clock=self._clock,
            journal=self.journal,
        )

    def _assemble(self, config: Config, before: Assembly | None) -> Assembly:
        return assemble(
            config,
            before,
            lifecycle=self.lifecycle,
            clock=self._clock,
            rng=self._rng,
            metrics=self._metrics,
            journal=self.journal,
        )

    def _make_state(self, config: Config) -> SavedState | None:
        return make_state(
            state_settings(config),
            self._chain,
            reactor=self._reactor,
            clock=self._clock,
            metrics=self._state_metrics,
            journal=self.journal,
            settle=self._settle,
        )

    def _make_lists(self, config: Config, before: Lists | None) -> Lists | None:
        return make_lists(
            config.lists,
            state_settings(config),
            self._chain.resolve,
            reactor=self._reactor,
            clock=self._clock,
            metrics=self._metrics,
            journal=self.journal,
            before=before,
        )

    def _with_groups(self, assembly: Assembly) -> Assembly:
        return with_groups(assembly, self._chain.routes, self._lists, self._metrics, self._pauses)

    def _forget_ready(self, before: Lists | None) -> None:
        """Have ready replies forgotten when what they depend on has changed; ``before``: the lists
        for which that has been seen to.
        """
        if self._assembly.hosts is not None:
            self._assembly.hosts.on_change(self.factory.forget_ready)
        if self._lists is not None and self._lists is not before:
            self._lists.on_change(lambda _: self.factory.forget_ready())

    def bind(self) -> None:
        """Open the listeners, unless they are open. Raises `CannotBind`."""
        if self._is_bound:
            return
        self._fit_descriptors()
        self._chain.open()
        self._prepare_listeners(self._assembly).commit()
        self._is_bound = True

    def _fit_descriptors(self) -> None:
        """Have no more connections than the system lets us have descriptors for."""
        fit = fit_descriptors(self.config)
        if fit.problem:
            self.journal.warn("{problem}", problem=fit.problem)
        self.factory.client_connections.max_connections = fit.connections

    def _prepare_listeners(self, assembly: Assembly) -> ListenerChange:
        """Bind what is new of the listeners that a configuration wants. Raises `CannotBind`."""
        server, page = assembly.config.server, assembly.config.metrics.listen
        return self._listeners.prepare(server.listen, assembly.certificate, self.pages, page)

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
        announce(self.config, self._listeners.bound, self.journal)
        if self._state is not None:
            self._state.start()
        if self._lists is not None:
            self._lists.start()
        self._warn()
        self.control.open(self.config.control)
        self._query_log.use(self.config.query_log)
        self.site.start()
        self.lifecycle.serve()

    def _warn(self) -> None:
        """Log what the configuration hardly means, and what is wrong with the certificate."""
        if self._assembly.certificate is not None:
            self._assembly.certificate.warn()
        for warning in config_warnings(self.config):
            self.journal.warn("{warning}", warning=warning)

    def stopService(self) -> Deferred[None]:
        """Answer what is under way, then close everything."""
        super().stopService()
        self.lifecycle.stop()
        self._control_closed = self.control.close()
        self.site.stop()
        if self._reloads is not None:
            self._reloads.close()
        self._readiness.close()
        numbers = asdict(self._chain.statistics())
        shown = ", ".join(f"{name}={number:.6g}" for name, number in numbers.items())
        self.journal.info(f"at the end: {shown}", **numbers)
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
            closed.extend((*self._listeners.close(), self._control_closed, self._query_log.close()))
            return gatherResults(closed)

        return self.factory.drain().addCallback(close).addCallback(lambda _: None)

    def hang_up(self) -> None:
        """Do what SIGHUP asks for: reload the configuration, and read all other files again."""
        if self._reloads is None:
            self.reread()
        else:
            self._reloads.want()

    def reload(self) -> Deferred[Problems]:
        """Return a Deferred of what is wrong with the configuration file, each in one line; if
        nothing is, it counts then. The Deferred never fails.
        """
        if self._reloads is None:
            return succeed(("there is no file that the configuration was read from",))
        return self._reloads.want()

    async def _reload(self, path: str) -> None:
        await self.change(await read_config(path, self._reactor, self._clock))
        self.reread()

    async def change(self, config: Config) -> None:
        """Put another configuration in the place of the one that counts.

        Raises a `StaggerDNSError`, after which nothing has changed.
        """
        assembly = self._assemble(config, self._assembly)
        plan = await in_turns(self._chain.prepare(config), self._clock)
        lists = self._next_lists(config)
        is_new = lists is not None and lists is not self._lists
        try:
            if lists is not None and is_new:
                await lists.prepare()
            self.control.prepare(config.control)
            change = self._prepare_listeners(assembly) if self._is_bound else None
        except BaseException:
            self.control.abandon()
            if lists is not None and is_new:
                lists.abandon()
            raise
        self._use(assembly, plan, lists)
        if change is not None:
            change.commit()

    def _next_lists(self, config: Config) -> Lists | None:
        """Return the lists that a configuration wants, which may be those that there are."""
        before = self.config
        same = [*config.lists.items()] == [*before.lists.items()]  # the first list that has a name
        if same and state_settings(config).directory == state_settings(before).directory:
            return self._lists
        return self._make_lists(config, self._lists) if config.lists else None

    def _use(self, assembly: Assembly, plan: Plan, lists: Lists | None) -> None:
        """Let another configuration count, in one step."""
        before, config = self.config, assembly.config
        old_lists, self._lists = self._lists, lists
        if lists is not None and lists is not old_lists:
            lists.take_over()
        elif lists is None and old_lists is not None:
            old_lists.stop()
        self._metrics.forget("list", before.lists.keys() - config.lists.keys())
        groups = before.groups.keys() - config.groups.keys() - {DEFAULT_GROUP}
        self._metrics.forget("group", groups)
        for name in groups:
            self._pauses.forget(name)
        self.journal.level = config.log.level
        self.log_shape.use(config.log)
        self._chain.use(plan)
        self._assembly = self._with_groups(assembly)
        self.factory.use(self._assembly.rules)
        self._fit_descriptors()
        self._forget_ready(old_lists)
        if state_settings(config) != state_settings(before):
            if self._state is not None:
                self._state.stop()
            self._state = self._make_state(config)
            if self._state is not None:
                self._state.start()
        self.control.open(config.control)
        self._query_log.use(config.query_log)
        self.site.use(config)
        self._warn()

    def reread(self) -> None:
        """Read again what is in files of its own, and say how it went."""
        reread(self._assembly, self._chain, self._lists, self.journal)
        self._query_log.reopen()

    def answered(self) -> Mapping[tuple[str, ...], int]:
        """Return how many queries have been answered, by where the answers came from."""
        return self._metrics.answer_seconds.counts()

    def healthy(self) -> bool:
        """Return whether listeners are up and upstreams answer, as far as is known."""
        return bool(self.running) and self._readiness.answering

    def check(self) -> Deferred[bool]:
        """Return a Deferred of the same; if nothing has been asked of late, it asks."""
        return self._readiness.check() if self.running else succeed(False)
