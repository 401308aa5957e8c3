"""All upstreams of the program, one for each address and client subnet, whoever asks it.

    wanted by the configuration --a reload without it--> left --its last query has ended--> closed

At a reload an upstream of the same address, to be asked by the same rules, stays the one that it
is, with its connections. Where a rule has changed another one takes its place, which knows what was
known of its health and its reply times. Collections that are under way go on with those that left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.bootstrap import Bootstrap
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.tls import Authorities
from staggerdns.upstream.upstream import Upstream


class Members:
    """The upstreams that `use` has made, and the resolvers that find their addresses.

    ``rng``: returns that many random bytes.
    """

    def __init__(
        self,
        reactor: Any,
        clock: StandstillClock,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self._reactor = reactor
        self._readers = Readers(reactor, journal)
        self._clock = clock
        self._rng = rng
        self._metrics = metrics
        self._journal = journal
        self._settings: UpstreamSettings | None = None
        self._authorities: Authorities | None = None
        self._by_address: dict[UpstreamAddress, Upstream] = {}
        self._left: list[Upstream] = []
        self._bootstrap = Bootstrap([], clock, metrics, journal)

    def use(
        self,
        settings: UpstreamSettings,
        authorities: Authorities,
        addresses: Iterable[UpstreamAddress],
    ) -> list[Upstream]:
        """Have an upstream for each of ``addresses`` from now on, by the rules of ``settings``,
        certified by ``authorities``. Return those that left: `close_left` them in the end.
        """
        before, known = self._settings, self._by_address
        same = (
            before is not None
            and authorities is self._authorities
            and _rules_of_each(settings) == _rules_of_each(before)
        )
        self._settings, self._authorities = settings, authorities
        left: list[Upstream] = []
        if before is None or not same or settings.bootstrap != before.bootstrap:
            left += self._bootstrap.resolvers
            # A resolver of names may be an upstream as well: its figures are no upstream's.
            self._bootstrap.resolvers = [
                self._connect(address, Metrics(), QueryBudget(settings.budget))
                for address in settings.bootstrap
            ]
        self._by_address = {}
        wanted = dict.fromkeys(addresses)
        budgets: dict[str, QueryBudget] = {}
        for address, upstream in known.items() if same else ():
            if address in wanted:
                budgets[address.resolver] = upstream.budget
        for address in wanted:
            old = known.get(address)
            if old is not None and same:
                self._by_address[address] = old
                continue
            budget = budgets.setdefault(address.resolver, QueryBudget(settings.budget))
            made = self._by_address[address] = self._connect(address, self._metrics, budget)
            if old is not None:
                made.succeed(old)
        names = {upstream.name for upstream in self._by_address.values()}
        for address, upstream in known.items():
            if self._by_address.get(address) is not upstream:
                left.append(upstream)
        self._metrics.forget("upstream", {upstream.name for upstream in known.values()} - names)
        self._left += left
        return left

    @property
    def all(self) -> Collection[Upstream]:
        """Those that are asked."""
        return self._by_address.values()

    def of(self, addresses: Sequence[UpstreamAddress]) -> list[Upstream]:
        """Return the upstreams of these addresses, in their order."""
        return [self._by_address[address] for address in addresses]

    def close_left(self, upstreams: Iterable[Upstream]) -> None:
        """Close upstreams that left, when nobody asks them any more."""
        for upstream in upstreams:
            if upstream in self._left:
                self._left.remove(upstream)
                upstream.close()

    def resolve(self, host: str) -> Deferred[Sequence[str]]:
        """Return the addresses of a host that the configuration names, best first; none when they
        cannot be found. The Deferred never fails.
        """
        return self._bootstrap.resolve(host)

    def close(self) -> None:
        """Close every socket."""
        self._bootstrap.close()
        self.close_left([*self._left])
        for upstream in self._by_address.values():
            upstream.close()
        self._readers.close()

    def _connect(self, address: UpstreamAddress, metrics: Metrics, budget: QueryBudget) -> Upstream:
        assert self._settings is not None
        return Upstream(
            address,
            self._settings,
            reactor=self._reactor,
            readers=self._readers,
            clock=self._clock,
            rng=self._rng,
            metrics=metrics,
            journal=self._journal,
            budget=budget,
            resolve=self._bootstrap.resolve,
            authorities=self._authorities,
        )


def _rules_of_each(settings: UpstreamSettings) -> tuple[object, ...]:
    """Return what of the settings is about single upstreams, as opposed to who is asked when."""
    return (
        settings.timeout,
        settings.case_randomization,
        settings.cookies,
        settings.health,
        settings.adaptive.ewma_alpha,
        settings.budget,
    )
