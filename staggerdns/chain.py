"""The resolver chain of a configuration: every room below it is made and connected here.

A reload of the configuration has two parts. `Chain.prepare` makes what may fail and what takes
long, in steps, and changes nothing. `Chain.use` puts it in the place of what there was, in one step
that cannot fail. What has not changed stays: upstreams with their connections, answers, round
trips, collections under way. What a scope has collected by other rules is judged by its change
(docs/specification.rst, Reload).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.configroutes import all_routes
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.domains import Steps, finish
from staggerdns.policy.groups import GroupRoutes
from staggerdns.policy.scope import (
    NO_SUCH_NAMES,
    Scope,
    Scopes,
    address_filter,
    answers_digest,
    default_scope,
)
from staggerdns.ranking.rtt import RttTable
from staggerdns.readiness import Readiness
from staggerdns.resolver.adapter import CacheAdapter, ChainAdapter, ForwarderAdapter
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.families import Families
from staggerdns.resolver.forwarder import Forwarder, WayOfAsking
from staggerdns.resolver.rankers import Rankers
from staggerdns.resolver.scopechanges import NOTHING_STAYS
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.document import ConfigError
from staggerdns.settings.sections import Config
from staggerdns.settings.values import AUTO
from staggerdns.shared.shared import Shared
from staggerdns.standstill import StandstillClock
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.statistics import Statistics
from staggerdns.strategy.strategies import Strategies
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.traces.trace import Traces
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.health import Uplink
from staggerdns.upstream.members import Members
from staggerdns.upstream.tls import Authorities
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import Upstreams
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Type
from staggerdns.wire.key import DEFAULT_SCOPE
from staggerdns.wire.question import make_question
from staggerdns.wire.rebinding import Rebinding


class Plan(NamedTuple):
    """What is made of a configuration before it counts; ``digests`` are those of `Chain`."""

    config: Config
    scopes: Scopes
    routes: GroupRoutes
    authorities: Authorities
    digests: Mapping[int, bytes]


class Chain:
    """The resolver chain of a configuration, complete and ready to ask.

    ``resolver`` is the whole chain as an `IResolver` provider, for programs that want answers
    and no server; ``caching`` and ``forwarding`` are its two links as such, for a server's
    ``caches`` and ``clients``. ``routes`` say which scope a name belongs to, for each group; for
    `IResolver` those of the default group count. ``scopes`` are those of the configuration.
    `close` it in the end.
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
        self._reactor = reactor
        # TTLs run on while the program stands still; upstreams are not measured by that.
        self._clock = clock
        self._awake = awake = StandstillClock(clock)
        self._rng = rng
        self._metrics = metrics = metrics if metrics is not None else Metrics()
        self._journal = journal = journal if journal is not None else Journal(config.log.level)
        self._members = Members(reactor, awake, rng, metrics, journal)
        self._alarms = Alarms(awake, journal)
        self.shared = Shared(
            reactor, clock, journal, self._members.resolve, lambda: self.round_trips
        )
        # Whether the default upstreams can be reached says nothing about those inside, nor do they.
        self._uplink, self._inside = Uplink(), Uplink()
        self._strategies: dict[int, Strategies] = {}  # by the numbers of their scopes
        self.traces = Traces(config.traces)
        random = Entropy(rng).take_bytes
        self._rankers = Rankers(reactor, clock, awake, random, metrics, journal, self.traces)
        self._routes_changed: Callable[[], object] = _do_nothing
        self._plan = plan = finish(self.prepare(config))
        self._members.use(config.upstream, plan.authorities, _servers(plan))
        cache = AnswerCache(config.cache, metrics)
        rules = self._make_rules(plan)
        default = rules[DEFAULT_SCOPE]
        forwarder = Forwarder(
            default.strategy, cache, default.settings, clock, metrics, journal, traces=self.traces
        )
        cache.refresh_with(forwarder.refresh, forwarder.prefetch)
        self.caching = CacheAdapter(cache, clock, self._route)
        self._families = Families(cache, clock, metrics)
        self.forwarding = ForwarderAdapter(forwarder, self.caching, clock)
        self.resolver = ChainAdapter(self.caching, self.forwarding, clock)
        self._apply(plan, rules)

    def prepare(self, config: Config) -> Steps[Plan]:
        """Make in steps what there has to be before another configuration counts; nothing that
        counts now is changed. Raises `ConfigError`.
        """
        upstream = config.upstream
        before = self._plan if "_plan" in vars(self) else None
        if before is not None and before.config.upstream.tls_ca == upstream.tls_ca:
            authorities = before.authorities
        else:
            try:
                authorities = Authorities(upstream.tls_ca)
            except ValueError as error:
                raise ConfigError(f"upstream.tls_ca: {error}") from None
        routes = [route for _, route in all_routes(config)]
        scopes = Scopes(default_scope(config), None if before is None else before.scopes, routes)
        group_routes = GroupRoutes(config, scopes, self._clock, self._journal)
        yield from group_routes.load()
        rules = config.addresses
        digests = {
            number: answers_digest(scope, scopes.default, rules) for number, scope in scopes.items()
        }
        return Plan(config, scopes, group_routes, authorities, digests)

    def use(self, plan: Plan) -> None:
        """Go by another configuration from now on."""
        before, self._plan = self._plan, plan
        changes = plan.scopes.changes(before.scopes)
        if plan.config.addresses != before.config.addresses:
            changes = dict.fromkeys(plan.scopes.labels, NOTHING_STAYS)
        left = self._members.use(plan.config.upstream, plan.authorities, _servers(plan))
        rules = self._make_rules(plan)
        self.cache.change(changes)
        ended = self.forwarder.detach(changes)
        ended.addCallback(lambda _: self._members.close_left(left))
        before.routes.close()
        labels = {*before.scopes.labels.values()}
        self._metrics.forget("route", labels.difference(plan.scopes.labels.values()))
        self._apply(plan, rules)

    def _apply(self, plan: Plan, rules: dict[int, WayOfAsking]) -> None:
        """Let the rooms below go by a configuration."""
        config = plan.config
        self.traces.use(config.traces)
        rankers = self._rankers
        rankers.use(config.ranking, wanted=any(scope.ranked for scope in plan.scopes))
        order = {
            number: (
                rankers.of(ranked=scope.ranked, probe_private=scope.probe_private),
                scope.max_addresses,
            )
            for number, scope in plan.scopes.items()
        }
        self.cache.use(config.cache, order)
        chooses = _chooses_families(config)
        self._families.use(
            {number: scope.families for number, scope in plan.scopes.items()},
            rankers.handshakes if chooses else None,
            short_ttl=config.cache.fast_response_ttl,
        )
        self.caching.families = self._families if chooses else None
        self.forwarder.use(rules, address_filter(config.addresses), plan.routes.claim)
        plan.routes.on_change(self._routes_changed)
        plan.routes.watch()

    def _make_rules(self, plan: Plan) -> dict[int, WayOfAsking]:
        """Return how questions are asked in each scope, by number."""
        before, self._strategies = self._strategies, {}
        rules = {}
        self.shared.use(plan.config.cache.shared, plan.config.ranking)
        # The default scope is made last: its numbers are those that the metrics show.
        for number, scope in sorted(plan.scopes.items(), key=lambda item: -item[0]):
            ways = self._make_strategies(plan.config, number, scope, before.get(number))
            self._strategies[number] = ways
            rules[number] = WayOfAsking(
                ways.chosen,
                scope.parallel,
                Rebinding(scope.allow_domains) if scope.strip else None,
                fallback=scope.fallback,
                route=plan.scopes.labels[number],
                second_level=self.shared.of(
                    plan.digests[number], plan.scopes.asked(scope), scope.parallel
                ),
            )
        return rules

    def _make_strategies(
        self, config: Config, number: int, scope: Scope, before: Strategies | None
    ) -> Strategies:
        """Return the strategies of a scope: those ``before``, if nothing about them has changed,
        else new ones, which know what those have learnt as far as it is of use.
        """
        settings = replace(
            config.upstream,
            strategy=scope.strategy,
            parallel=scope.parallel,
            servers=scope.servers,
            bootstrap=(),
        )
        members = self._members.of(scope.servers)
        adaptive = None
        if before is not None and before.context.settings == settings:
            adaptive = before.context.adaptive
            if number != DEFAULT_SCOPE and [*before.context.upstreams] == members:
                before.context.upstreams.join_uplink()
                return before
        uplink = self._uplink if number == DEFAULT_SCOPE else self._inside
        context = StrategyContext(
            upstreams=Upstreams(members, uplink),
            settings=settings,
            adaptive=Adaptive(settings, self._rng) if adaptive is None else adaptive,
            alarms=self._alarms,
            clock=self._awake,
            rng=self._rng,
            metrics=self._metrics,
            journal=self._journal,
        )
        return Strategies(context)

    def _route(self, name: bytes, qtype: int) -> int | None:
        """Return the number of the scope of a name, `None` if there are no such names."""
        number = self.routes.default.number(name, qtype)
        if number is None:
            return DEFAULT_SCOPE
        return None if number == NO_SUCH_NAMES else number

    @property
    def scopes(self) -> Scopes:
        """The scopes of the configuration."""
        return self._plan.scopes

    @property
    def routes(self) -> GroupRoutes:
        """Which scope a name belongs to, for each group."""
        return self._plan.routes

    @property
    def authorities(self) -> Authorities:
        """Who certifies upstreams."""
        return self._plan.authorities

    @property
    def upstreams(self) -> Upstreams:
        """Those of the default scope."""
        return self._strategies[DEFAULT_SCOPE].context.upstreams

    @property
    def members(self) -> Collection[Upstream]:
        """The upstreams of all scopes."""
        return self._members.all

    @property
    def round_trips(self) -> RttTable | None:
        """What is known of addresses, `None` where nothing is ranked."""
        return self._rankers.table

    @property
    def awake(self) -> IReactorTime:
        """The clock of the upstreams, which leaves out when the program stood still."""
        return self._awake

    @property
    def digests(self) -> Mapping[int, bytes]:
        """What stands for the content of each scope, by its number, the same at every start; the
        rules about addresses in all answers are part of it.
        """
        return self._plan.digests

    def route_label(self, scope: int) -> str:
        """Return what the routes are called that lead to a scope; empty for the default one."""
        return self.scopes.labels.get(scope, "")

    @property
    def cache(self) -> AnswerCache:
        """The cache that counts now."""
        return self.caching.cache

    @property
    def forwarder(self) -> Forwarder:
        """The forwarder that counts now."""
        return self.forwarding.forwarder

    def on_routes_changed(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` whenever names may lead elsewhere than before, but for a reload."""
        self._routes_changed = callback
        self.routes.on_change(callback)

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """Return the addresses of a host that the configuration names, best first, as those of
        upstreams are found; none when that cannot be done. The Deferred never fails.
        """
        return self._members.resolve(host)

    def statistics(self) -> Statistics:
        """Return the adaptive numbers as they stand."""
        return self._strategies[DEFAULT_SCOPE].statistics()

    @cached_property
    def readiness(self) -> Readiness:
        """What knows, from the first look at this on, whether upstreams answer."""
        clock, uplink = self._clock, self._uplink

        def ask() -> Deferred[str]:
            now, before = self._awake.seconds(), uplink.last_worked
            found = self.forwarder.find(make_question(b"\0", Type.NS), clock.seconds())
            return found.addCallback(problem, now, before)

        def problem(entry: Entry, asked: float, before: float) -> str:
            answer = entry.answer
            if isinstance(answer, FailureAnswer):
                return answer.text.decode() or "no reason known"
            # What the cache still has says nothing about now.
            last = uplink.last_worked
            return "" if last >= asked or last > before else "no good answer"

        readiness = Readiness(ask, lambda: uplink.last_worked, self._awake, self._journal)
        self.forwarder.tell_failures(lambda served: readiness.failed(served=served))
        return readiness

    def open(self) -> None:
        """Open now what needs privileges; what is not opened here is opened when it is needed."""
        self._rankers.open()
        self.shared.open()

    def close(self) -> None:
        """Cancel all that is under way and close every socket."""
        self.routes.close()
        if "readiness" in vars(self):
            self.readiness.close()
        self.forwarder.close()
        self._rankers.close()
        self.shared.close()
        self._members.close()


def _do_nothing() -> None:
    """Do nothing: nobody wants to hear of it yet."""


def _servers(plan: Plan) -> list[UpstreamAddress]:
    """Return the upstreams of all scopes, those of the default one first."""
    return [server for scope in plan.scopes for server in scope.servers]


def _chooses_families(config: Config) -> bool:
    """Return whether any client gets one family of addresses alone of any name."""
    own = [route.families for _, route in all_routes(config)]
    own += [group.families for group in config.groups.values()]
    return AUTO in (config.families.prefer, *[families.prefer for families in own])
