"""The addresses of upstreams that are given by name.

    unknown --wanted--> being looked up --found--> known --TTL over--> old --wanted--> ...

A name is looked up when somebody wants to connect and not before: all resolvers of
``upstream.bootstrap`` are asked for A and AAAA at once. When the TTL is over the name is looked up
again; the old addresses stay in use when that fails or takes longer than `PATIENCE`. When addresses
of one family have come, those of the other are awaited for `RESOLUTION_DELAY` (RFC 8305 section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain, zip_longest

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.deferreds import ignore_cancellation
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.refusals import give_up_at, unrefused
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.constants import Type
from staggerdns.wire.judge import Judge
from staggerdns.wire.names import from_text
from staggerdns.wire.question import make_question
from staggerdns.wire.verdict import Verdict

TIMEOUT = 2.0
"""Seconds that looking a name up may take."""
PATIENCE = 0.3
"""Seconds that somebody waits for new addresses when there are old ones."""
RESOLUTION_DELAY = 0.05
FIRST_RETRY = 0.5
"""Seconds after a failure until the next attempt; they double up to `LONGEST_RETRY`."""
LONGEST_RETRY = 30.0
SHORTEST_TTL = 10
LONGEST_TTL = 86_400
MAX_HOSTS = 1_024
"""Names that are remembered; for one more the first is forgotten, if it is not being looked up."""
MAX_ADDRESSES = 8
"""Addresses of each family that are kept."""
_TYPES = (Type.AAAA, Type.A)  # in the order of preference (RFC 8305 section 4)
_TIER = "bootstrap"

Addresses = Sequence[str]


class Bootstrap:
    """Looks names up with ``resolvers``, which are closed with it."""

    def __init__(
        self,
        resolvers: Sequence[Upstream],
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self.resolvers = resolvers
        self.clock = clock
        self.journal = journal
        self.lookups = metrics.bootstrap_lookups
        self._hosts: dict[str, _Host] = {}

    def resolve(self, name: str) -> Deferred[Addresses]:
        """Return the addresses of a host, best first; none when they cannot be found.

        ``name`` comes from a configuration, so that there are few. The Deferred never fails.
        """
        host = self._hosts.get(name)
        if host is None:
            if len(self._hosts) >= MAX_HOSTS:
                first = next(iter(self._hosts))
                if not self._hosts[first].busy:
                    del self._hosts[first]
            host = self._hosts[name] = _Host(self, name)
        return host.addresses()

    def close(self) -> None:
        """Give up what is under way, and close the resolvers."""
        for host in self._hosts.values():
            host.close()
        for resolver in self.resolvers:
            resolver.close()


class _Host:
    """One name: what is known of it, and who waits for more."""

    def __init__(self, bootstrap: Bootstrap, name: str) -> None:
        self._bootstrap = bootstrap
        self._clock = bootstrap.clock
        self._name = name
        self._known: dict[int, Addresses] = {}
        self._expires = 0.0
        self._failures = 0
        self._not_before = 0.0
        self._outstanding: dict[Exchange, tuple[Upstream, Type]] = {}
        self._found: dict[int, Addresses] = {}
        self._negative: set[int] = set()
        self._ttl = LONGEST_TTL
        self._timers: list[IDelayedCall] = []
        self._waiting: dict[Deferred[Addresses], None] = {}

    @property
    def busy(self) -> bool:
        """Whether it is being looked up."""
        return bool(self._outstanding or self._timers)

    def addresses(self) -> Deferred[Addresses]:
        """Return what is known, or will be."""
        now = self._clock.seconds()
        if now >= self._expires and now >= self._not_before and not self._outstanding:
            self._look_up()
        if now < self._expires or not self._outstanding or self._found:
            return succeed(self._list())
        waiting: Deferred[Addresses] = Deferred(lambda gone: self._waiting.pop(gone, None))
        self._waiting[waiting] = None
        if self._known:
            self._later(PATIENCE, self._answer_waiting)
        return waiting

    def close(self) -> None:
        """Drop everything; those who wait get no answer."""
        self._waiting.clear()
        self._stop()

    def _look_up(self) -> None:
        self._found, self._negative, self._ttl = {}, set(), LONGEST_TTL
        self._later(TIMEOUT, self._time_out)
        wire = from_text(self._name)
        asked: list[Exchange] = []
        for qtype in _TYPES:
            judge = Judge(make_question(wire, qtype))
            for resolver in self._bootstrap.resolvers:
                exchange = resolver.ask(judge, _TIER, self._clock.seconds())
                exchange.on_hint = self._refused
                self._outstanding[exchange] = resolver, qtype
                asked.append(exchange)
        for exchange in asked:
            exchange.deferred().addCallbacks(
                self._take, ignore_cancellation, callbackArgs=(exchange,)
            )

    def _take(self, outcome: Outcome, exchange: Exchange) -> None:
        asked = self._outstanding.pop(exchange, None)
        if asked is None:
            return
        resolver, qtype = asked
        if outcome.verdict == Verdict.POSITIVE and qtype not in self._found:
            assert outcome.answer is not None
            usable = [str(ip_address(address)) for address in outcome.answer.addresses]
            usable = [address for address in usable if _is_host(address)][:MAX_ADDRESSES]
            if usable:
                self._found[qtype] = usable
                self._ttl = min(self._ttl, outcome.answer.ttl)
                self._later(RESOLUTION_DELAY, self._answer_waiting)
        elif outcome.verdict == Verdict.NEGATIVE:
            self._negative.add(qtype)
        elif outcome.verdict == Verdict.FAILURE:
            resolver.pardon(outcome)
        if len(self._found) == len(_TYPES) or not self._outstanding:
            self._end()

    def _refused(self, _: Exchange) -> None:
        """Wait no longer than a client would when all resolvers have refused."""
        if not unrefused(self._outstanding):
            now = self._clock.seconds()
            asked = {resolver for resolver, _ in self._outstanding.values()}
            self._later(give_up_at(asked, now, now) - now, self._time_out)

    def _time_out(self) -> None:
        for exchange in list(self._outstanding):
            exchange.expire()

    def _end(self) -> None:
        """Keep what was found. What nobody found stays as it was, unless a resolver answered that
        there is none.
        """
        self._stop()
        now = self._clock.seconds()
        bootstrap = self._bootstrap
        before = set(chain.from_iterable(self._known.values()))
        if self._found:
            self._failures = 0
            self._expires = now + max(SHORTEST_TTL, self._ttl)
            for qtype in self._negative:
                self._known.pop(qtype, None)
            self._known.update(self._found)
            bootstrap.lookups.cell("found").value += 1
            if set(self._list()) != before:
                bootstrap.journal.info(
                    "{name} is at {addresses}", name=self._name, addresses=", ".join(self._list())
                )
        else:
            wait = min(FIRST_RETRY * 2 ** min(self._failures, 16), LONGEST_RETRY)
            self._not_before = now + wait
            bootstrap.lookups.cell("failed").value += 1
            if not self._failures:
                bootstrap.journal.warn("{name} has no address", name=self._name)
            self._failures += 1
        self._answer_waiting()

    def _answer_waiting(self) -> None:
        """Give those who wait what is known by now."""
        addresses = self._list()
        if addresses or not self._outstanding:
            waiting, self._waiting = self._waiting, {}
            for deferred in waiting:
                deferred.callback(addresses)

    def _list(self) -> Addresses:
        found = {**self._known, **self._found}
        pairs = zip_longest(*(found.get(qtype, ()) for qtype in _TYPES))
        return [address for address in chain.from_iterable(pairs) if address is not None]

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append(self._clock.callLater(seconds, call))

    def _stop(self) -> None:
        outstanding, self._outstanding = self._outstanding, {}
        for exchange in outstanding:
            exchange.cancel()
        timers, self._timers = self._timers, []
        for timer in timers:
            if timer.active():
                timer.cancel()


def _is_host(text: str) -> bool:
    """Return whether an address can be a server's: blocklists answer with 0.0.0.0, which is us."""
    address = ip_address(text)
    return not (address.is_unspecified or address.is_multicast)
