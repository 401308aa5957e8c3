"""The resolver chain of a configuration: every room below it is made and connected here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.policy.groups import GroupRoutes
from staggerdns.policy.scope import NO_SUCH_NAMES, Scope, Scopes, default_scope
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.measure import Measurer
from staggerdns.ranking.probes import Probes
from staggerdns.ranking.rtt import RttTable
from staggerdns.ranking.sorts import Sorts
from staggerdns.readiness import Readiness
from staggerdns.resolver.adapter import CacheAdapter, ChainAdapter, ForwarderAdapter
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import Forwarder
from staggerdns.resolver.ranker import Ranker
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.policy import AddressSettings
from staggerdns.settings.sections import Config, RankingSettings
from staggerdns.standstill import StandstillClock
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.statistics import Statistics
from staggerdns.strategy.strategies import Strategies
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.upstream.bootstrap import Bootstrap
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.health import Uplink
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.stream import Resolve
from staggerdns.upstream.tls import Authorities
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import Upstreams
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Type
from staggerdns.wire.key import DEFAULT_SCOPE
from staggerdns.wire.question import make_question
from staggerdns.wire.rebinding import Rebinding


class Chain:
    """The resolver chain of a configuration, complete and ready to ask.

    ``resolver`` is the whole chain as an `IResolver` provider, for programs that want answers
    and no server; ``caching`` and ``forwarding`` are its two links as such, for a server's
    ``caches`` and ``clients``. ``routes`` say which scope a name belongs to, for each group; for
    `IResolver` those of the default group count.
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
        # TTLs run on while the program stands still; upstreams are not measured by that.
        self._clock = clock
        self._awake = awake = StandstillClock(clock)
        metrics = metrics if metrics is not None else Metrics()
        self._journal = journal = journal if journal is not None else Journal(config.log.level)
        upstream = config.upstream
        self._readers = Readers(reactor, journal)
        self.authorities = Authorities(upstream.tls_ca)

        def connect(
            address: UpstreamAddress, metrics: Metrics, resolve: Resolve | None = None
        ) -> Upstream:
            return Upstream(
                address,
                upstream,
                reactor=reactor,
                readers=self._readers,
                clock=awake,
                rng=rng,
                metrics=metrics,
                journal=journal,
                resolve=resolve,
                authorities=self.authorities,
            )

        self._scopes = scopes = Scopes(default_scope(config))
        self.routes = GroupRoutes(config, scopes, clock, journal)
        self._digests = {
            number: _digest(scope, config.addresses) for number, scope in enumerate(scopes)
        }

        # A resolver of names may be an upstream as well: its figures are no upstream's.
        resolvers = [connect(address, Metrics()) for address in upstream.bootstrap]
        self._bootstrap = Bootstrap(resolvers, awake, metrics, journal)
        self._members: dict[UpstreamAddress, Upstream] = {}
        for address in dict.fromkeys(address for scope in scopes for address in scope.servers):
            self._members[address] = connect(address, metrics, self._bootstrap.resolve)
        alarms = Alarms(awake, journal)

        def strategies(scope: Scope, upstreams: Upstreams) -> Strategies:
            settings = replace(upstream, strategy=scope.strategy, parallel=scope.parallel)
            context = StrategyContext(
                upstreams=upstreams,
                settings=settings,
                adaptive=Adaptive(settings),
                alarms=alarms,
                clock=awake,
                rng=rng,
                metrics=metrics,
                journal=journal,
            )
            return Strategies(context)

        # Whether the default upstreams can be reached says nothing about those inside, nor do they.
        inside = Uplink()
        others = [
            (number, scope, strategies(scope, self._upstreams_of(scope, inside)))
            for number, scope in enumerate(scopes)
            if number != DEFAULT_SCOPE
        ]
        # The default scope is made last: its numbers are those that the metrics show.
        self.upstreams = self._upstreams_of(scopes.default)
        self._strategies = strategies(scopes.default, self.upstreams)
        self._ranking: Ranking | None = None
        if any(scope.ranked for scope in scopes):
            self._ranking = Ranking(config.ranking, reactor, clock, awake, rng, metrics, journal)
        self._rankers: dict[bool, Ranker] = {}
        cache = AnswerCache(
            config.cache,
            metrics,
            self._ranker(scopes.default, config.ranking),
            most_given=scopes.default.max_addresses,
        )
        forwarder = Forwarder(
            self._strategies.chosen,
            cache,
            upstream.parallel,
            clock,
            metrics,
            journal,
            _screen(scopes.default),
            _address_filter(config.addresses),
            self.routes.claim,
        )
        for number, scope, ways in others:
            ranker = self._ranker(scope, config.ranking)
            cache.add_scope(number, ranker, most_given=scope.max_addresses)
            forwarder.add_scope(
                ways.chosen,
                scope.parallel,
                _screen(scope),
                fallback=scope.fallback,
                route=scopes.labels[number],
            )
        cache.refresh_with(forwarder.refresh, forwarder.prefetch)
        self.caching = CacheAdapter(cache, clock, self._route)
        self.forwarding = ForwarderAdapter(forwarder, self.caching, clock)
        self.resolver = ChainAdapter(self.caching, self.forwarding, clock)
        self.routes.watch()

    def _route(self, name: bytes, qtype: int) -> int | None:
        """Return the number of the scope of a name, `None` if there are no such names."""
        number = self.routes.default.number(name, qtype)
        if number is None:
            return DEFAULT_SCOPE
        return None if number == NO_SUCH_NAMES else number

    def _upstreams_of(self, scope: Scope, uplink: Uplink | None = None) -> Upstreams:
        """Return the upstreams of a scope in an order of their own; a new uplink by default."""
        return Upstreams([self._members[address] for address in scope.servers], uplink)

    def _ranker(self, scope: Scope, settings: RankingSettings) -> Ranker | None:
        """Return who puts the answers of a scope in order, if anybody does."""
        if self._ranking is None or not scope.ranked:
            return None
        ranker = self._rankers.get(scope.probe_private)
        if ranker is None:
            settings = replace(settings, probe_private=scope.probe_private)
            ranker = Ranker(settings, self._ranking.sorts, self._journal)
            self._rankers[scope.probe_private] = ranker
        return ranker

    @property
    def members(self) -> Collection[Upstream]:
        """The upstreams of all scopes."""
        return self._members.values()

    @property
    def round_trips(self) -> RttTable | None:
        """What is known of addresses, `None` where nothing is ranked."""
        return None if self._ranking is None else self._ranking.sorts.table

    def route_label(self, scope: int) -> str:
        """Return what the routes are called that lead to a scope; empty for the default one."""
        return self._scopes.labels[scope]

    @property
    def cache(self) -> AnswerCache:
        """The cache that counts now."""
        return self.caching.cache

    @property
    def forwarder(self) -> Forwarder:
        """The forwarder that counts now."""
        return self.forwarding.forwarder

    @property
    def awake(self) -> IReactorTime:
        """The clock of the upstreams, which leaves out when the program stood still."""
        return self._awake

    @property
    def digests(self) -> Mapping[int, bytes]:
        """What stands for the content of each scope, by its number, the same at every start; the
        rules about addresses in all answers are part of it.
        """
        return self._digests

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """Return the addresses of a host that the configuration names, best first, as those of
        upstreams are found; none when that cannot be done. The Deferred never fails.
        """
        return self._bootstrap.resolve(host)

    def statistics(self) -> Statistics:
        """Return the adaptive numbers as they stand."""
        return self._strategies.statistics()

    @cached_property
    def readiness(self) -> Readiness:
        """What knows, from the first look at this on, whether upstreams answer."""
        clock, upstreams = self._clock, self.upstreams

        def ask() -> Deferred[str]:
            now, before = self._awake.seconds(), upstreams.last_worked
            found = self.forwarder.find(make_question(b"\0", Type.NS), clock.seconds())
            return found.addCallback(problem, now, before)

        def problem(entry: Entry, asked: float, before: float) -> str:
            answer = entry.answer
            if isinstance(answer, FailureAnswer):
                return answer.text.decode() or "no reason known"
            # What the cache still has says nothing about now.
            last = upstreams.last_worked
            return "" if last >= asked or last > before else "no good answer"

        readiness = Readiness(ask, lambda: upstreams.last_worked, self._awake, self._journal)
        self.forwarder.tell_failures(lambda served: readiness.failed(served=served))
        return readiness

    def open(self) -> None:
        """Open now what needs privileges; what is not opened here is opened when it is needed."""
        if self._ranking is not None:
            self._ranking.probes.open()

    def close(self) -> None:
        """Cancel all that is under way and close every socket."""
        self.routes.close()
        if "readiness" in vars(self):
            self.readiness.close()
        self.forwarder.close()
        if self._ranking is not None:
            self._ranking.close()
        self._bootstrap.close()
        for upstream in self._members.values():
            upstream.close()
        self._readers.close()


def _screen(scope: Scope) -> Rebinding | None:
    """Return whose answers must have no private addresses in a scope, `None` for nobody's."""
    return Rebinding(scope.allow_domains) if scope.strip else None


def _digest(scope: Scope, settings: AddressSettings) -> bytes:
    """Return what stands for how answers of a scope have come about."""
    rules = [sorted(map(str, networks)) for networks in (settings.ignore, settings.bogus_nxdomain)]
    return blake2b(json.dumps(rules).encode(), key=scope.digest, digest_size=16).digest()


def _address_filter(settings: AddressSettings) -> AddressFilter | None:
    """Return the rules about addresses in answers, `None` if there are none."""
    if not settings.ignore and not settings.bogus_nxdomain:
        return None
    return AddressFilter(
        [network.addresses for network in settings.ignore],
        [network.addresses for network in settings.bogus_nxdomain],
    )


class Ranking:
    """The ranking room: ``sorts`` measures with ``probes``."""

    def __init__(
        self,
        settings: RankingSettings,
        reactor: Any,
        clock: IReactorTime,
        awake: StandstillClock,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        table = RttTable(settings)
        # Round trips are real time: without what a standstill took of it they would come out too
        # short, and the far address first.
        self.probes = Probes(settings, reactor, clock, Entropy(rng).take_bytes, journal)
        self._measurer = Measurer(
            self.probes.all,
            table,
            ProbeBudget(settings.max_probes_per_second, awake),
            awake,
            clock,
            metrics,
            settings,
        )
        self.sorts = Sorts(table, self._measurer, settings, metrics)

    def close(self) -> None:
        """End every sort and probe."""
        self.sorts.close()
        self._measurer.close()
        self.probes.close()
