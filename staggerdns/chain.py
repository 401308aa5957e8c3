"""The resolver chain of a configuration: every room below it is made and connected here."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
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
from staggerdns.settings.sections import Config, RankingSettings
from staggerdns.standstill import StandstillClock
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import Alarms
from staggerdns.strategy.statistics import Statistics
from staggerdns.strategy.strategies import Strategies
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.upstream.bootstrap import Bootstrap
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.stream import Resolve
from staggerdns.upstream.tls import Authorities
from staggerdns.upstream.upstream import Upstream
from staggerdns.upstream.upstreams import Upstreams
from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Type
from staggerdns.wire.question import make_question
from staggerdns.wire.rebinding import Rebinding


class Chain:
    """The resolver chain of a configuration, complete and ready to ask.

    ``resolver`` is the whole chain as an `IResolver` provider, for programs that want answers
    and no server; ``caching`` and ``forwarding`` are its two links as such, for a server's
    ``caches`` and ``clients``. `close` it in the end.
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

        # A resolver of names may be an upstream as well: its figures are no upstream's.
        resolvers = [connect(address, Metrics()) for address in upstream.bootstrap]
        self._bootstrap = Bootstrap(resolvers, awake, metrics, journal)
        self.upstreams = Upstreams(
            [connect(address, metrics, self._bootstrap.resolve) for address in upstream.servers]
        )
        context = StrategyContext(
            upstreams=self.upstreams,
            settings=upstream,
            adaptive=Adaptive(upstream),
            alarms=Alarms(awake, journal),
            clock=awake,
            rng=rng,
            metrics=metrics,
            journal=journal,
        )
        self._strategies = Strategies(context)
        rebinding = config.rebinding
        screen = Rebinding(rebinding.allow_domains) if rebinding.strip else None
        addresses = config.addresses
        address_filter: AddressFilter | None = None
        if addresses.ignore or addresses.bogus_nxdomain:
            address_filter = AddressFilter(
                [network.addresses for network in addresses.ignore],
                [network.addresses for network in addresses.bogus_nxdomain],
            )
        self._ranking: Ranking | None = None
        ranker: Ranker | None = None
        if config.ranking.enabled:
            self._ranking = Ranking(config.ranking, reactor, clock, awake, rng, metrics, journal)
            ranker = Ranker(config.ranking, self._ranking.sorts, journal)
        most_given = config.ranking.max_addresses
        cache = AnswerCache(config.cache, metrics, ranker, most_given=most_given)
        forwarder = Forwarder(
            self._strategies.chosen,
            cache,
            upstream.parallel,
            clock,
            metrics,
            journal,
            screen,
            address_filter,
        )
        cache.refresh_with(forwarder.refresh)
        self.caching = CacheAdapter(cache, clock)
        self.forwarding = ForwarderAdapter(forwarder, self.caching, clock)
        self.resolver = ChainAdapter(self.caching, self.forwarding, clock)

    @property
    def cache(self) -> AnswerCache:
        """The cache that counts now."""
        return self.caching.cache

    @property
    def forwarder(self) -> Forwarder:
        """The forwarder that counts now."""
        return self.forwarding.forwarder

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
        if "readiness" in vars(self):
            self.readiness.close()
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
        self.probes = Probes(settings, reactor, clock, rng, journal)
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
