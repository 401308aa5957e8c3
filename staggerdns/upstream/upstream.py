"""One upstream resolver: address, transports, health and latency in one place.

`Upstream.ask` starts an `Exchange`; however that ends, it reports back here, and here alone is
noted what it says about the upstream. Time limits belong to whoever asks: see
`Exchange.expire`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTCP

from staggerdns.instruments import Distribution
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.sections import UpstreamSettings
from staggerdns.settings.values import AUTO
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.blame import subject
from staggerdns.upstream.budget import Budget
from staggerdns.upstream.datagram import DatagramTransport
from staggerdns.upstream.dialect import DOUBTS, NO_EDNS, Dialect, is_positive, sent_level
from staggerdns.upstream.edns import BARE, FULL, PLAIN
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import LOCAL, UNMARKED, Exchange, Outcome, reason_label
from staggerdns.upstream.health import Credit, Health, State, Uplink
from staggerdns.upstream.latency import Latency
from staggerdns.upstream.probe import Probe
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.report import StreamReport
from staggerdns.upstream.sidequeries import (
    SILENCE,
    STREAM_SILENCE,
    SideQueries,
    SideQuery,
)
from staggerdns.upstream.stream import Resolve, StreamTransport
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.answer import Answer
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict

LONGEST_PAUSE = 300.0
"""Seconds that an upstream may have itself left alone by Retry-After."""
_HEALTHY, _, _UNHEALTHY = State


class Upstream:
    """A resolver that we forward to.

    ``address``: where it is. ``readers`` watch its UDP sockets. ``rng``: returns that many random
    bytes, unpredictable in production. ``resolve`` finds the addresses of a host name,
    ``authorities`` may certify the upstream.
    """

    def __init__(
        self,
        address: UpstreamAddress,
        settings: UpstreamSettings,
        *,
        reactor: IReactorTCP,
        readers: Readers,
        clock: StandstillClock,
        rng: Callable[[int], bytes],
        metrics: Metrics,
        journal: Journal,
        resolve: Resolve | None = None,
        authorities: Authorities | None = None,
    ) -> None:
        self.name = str(address)
        self.latency = Latency(settings.adaptive.ewma_alpha)
        self.health = Health(settings.health)
        self.credit = Credit()
        self._budget = Budget(settings.budget)
        self.uplink = Uplink()
        self._clock = clock
        self._journal = journal
        self._inflight = 0
        self._metrics = metrics
        self._distributions: list[dict[str, Distribution]] = [{} for _ in Verdict]
        self._truncated = metrics.upstream_truncated.cell(self.name)
        self._local_errors = metrics.upstream_local_errors.cell(self.name)
        entropy = Entropy(rng)
        # Over a connection nobody can forge a reply (RFC 7873 section 5.3): no tricks are needed.
        self._over_udp = over_udp = address.transport == "udp"
        self.dialect = Dialect(
            entropy,
            case=over_udp and settings.case_randomization == AUTO,
            cookies=over_udp and settings.cookies,
        )
        self._stream = StreamTransport(
            reactor,
            clock,
            address,
            entropy,
            StreamReport(self.name, metrics, journal, self._reject, self._wait),
            timeout=settings.timeout,
            resolve=resolve,
            authorities=authorities,
        )
        self._transport: DatagramTransport | StreamTransport = self._stream
        if address.transport == "udp":
            self._transport = DatagramTransport(
                readers, address.endpoint, entropy, self._reject, self.dialect.moved
            )
        self._probe = Probe(self, clock, settings.timeout)
        self.watched = 0
        """Exchanges that are tried in other ways while nothing comes: see `SideQueries.watch`."""
        metrics.upstream_inflight.read_from(lambda: self._inflight, self.name)
        # Not whether a trial is due, which changes twice a second while nobody answers.
        metrics.upstream_usable.read_from(
            lambda: float(self.health.state is not _UNHEALTHY), self.name
        )
        metrics.upstream_state.read_from(lambda: self.health.state, self.name)
        metrics.upstream_latency.read_from(lambda: self.latency.mean(clock.seconds()), self.name)
        metrics.upstream_rate.read_from(lambda: self._budget.rate, self.name)
        self.skipped = metrics.staggered_skipped.cell(self.name)
        self._changes = {
            state: metrics.upstream_changes.cell(self.name, state.name.lower()) for state in State
        }

    def usable(self, now: float) -> bool:
        """Say whether the upstream should be asked at ``now``, in seconds of the clock."""
        return self.health.usable(now)

    @property
    def inflight(self) -> int:
        """The queries that wait for an answer."""
        return self._inflight

    @property
    def stream(self) -> StreamTransport:
        """The connections to it."""
        return self._stream

    @property
    def unhindered(self) -> bool:
        """Whether health and budget would let any query go now; quick to say."""
        budget = self._budget
        return (
            self._inflight < budget.spare_places
            and not budget.rate
            and self.health.state is not _UNHEALTHY
        )

    def has_room(self, now: float, *, first: bool) -> bool:
        """Say whether the budget lets one more query go; ``first``: a client waits for it."""
        return self._budget.has_room(now, self._inflight, first=first)

    def room_at(self, now: float) -> float:
        """Return the earliest time at which the budget may have room for a first answer."""
        return self._budget.room_at(now)

    @property
    def signs(self) -> bool:
        """Whether the upstream may give signatures: it is not known to do without EDNS."""
        return self.dialect.edns.level > PLAIN

    def ask(self, judge: Judge, tier: str, now: float, *, unsigned: bool = False) -> Exchange:
        """Send a query for the question of ``judge`` at ``now`` and return the exchange.

        ``tier`` labels the metrics; ``unsigned``: for a question with DO, too, an answer without
        signatures is better than none. The exchange may have ended already when this returns.
        """
        dialect = self.dialect
        question = judge.question
        exchange = Exchange(self, judge, dialect.compose(question, now), tier, now)
        if dialect.edns.level != FULL:
            exchange.level = dialect.edns.level
        self._inflight += 1
        self._budget.spend(now)
        if self.health.state is not _HEALTHY:
            self.health.asked(now)
        if question.do:
            if unsigned and dialect.edns.proven < BARE:
                exchange.unsigned = True
                exchange.level = PLAIN
                exchange.query = dialect.compose(question, now, PLAIN)
            elif exchange.level == PLAIN:
                exchange.error(NO_EDNS)  # its answer would lack the signatures
                return exchange
        self._transport.send(exchange)
        if self._over_udp and dialect.is_unsure:
            self.watch(exchange)
        return exchange

    def carried(self, exchange: Exchange) -> None:
        """Note that a query has gone out on a connection."""
        if not self._over_udp:
            self.watch(exchange)

    def watch(self, exchange: Exchange) -> None:
        """Have a query that was just sent tried in other ways if nothing comes for it."""
        dialect = self.dialect
        if not exchange.called and (dialect.unsure(exchange) or dialect.unsure_of_case(exchange)):
            patience = SILENCE if self._over_udp else STREAM_SILENCE
            self._side_queries(exchange).watch(patience)

    def descends(self, exchange: Exchange) -> bool:
        """Phrase a query with less EDNS if that may be why its connections are closed."""
        dialect = self.dialect
        lowest = BARE if exchange.question.do and not exchange.unsigned else PLAIN
        if sent_level(exchange) <= lowest or not dialect.unsure(exchange):
            return False
        dialect.prepare(exchange, "edns", self._clock.seconds())
        return True

    def asks_again(
        self, exchange: Exchange, message: bytes, *, over_stream: bool, believed: bool = False
    ) -> bool:
        """Repeat a query whose reply ``message`` is not the last word, or check that reply; say
        whether that is so. What is done why, `Dialect` says.

        ``believed``: there is no way to check it any more.
        """
        now = self._clock.seconds()
        dialect = self.dialect
        reason = dialect.doubt(exchange, message, now, over_stream=over_stream, believed=believed)
        if not reason:
            if is_positive(message):
                self._probe.consider(exchange.judge, now)
            return False
        if reason in DOUBTS:
            self._side_queries(exchange).check(message, reason)
            return True
        exchange.release()
        if reason == NO_EDNS:
            exchange.error(NO_EDNS)
        elif reason == "truncated":
            self.ask_over_stream(exchange, reason)
        else:
            self._note_repeated(reason, now)
            dialect.prepare(exchange, reason, now)
            (self._stream if over_stream else self._transport).send(exchange)
        return True

    def ask_over_stream(self, exchange: Exchange, reason: str) -> None:
        """Repeat a query over TCP for that ``reason``."""
        self._note_repeated(reason, self._clock.seconds())
        self._stream.send(exchange)

    def send_side_query(self, side_query: SideQuery, reason: str, *, over_stream: bool) -> None:
        """Send a query beside an exchange for that ``reason``."""
        self._note_repeated(reason, self._clock.seconds())
        (self._stream if over_stream else self._transport).send(side_query)

    def doubted(self) -> None:
        """Note one more doubted reply to the same query."""
        self._reject("doubted")

    def _side_queries(self, exchange: Exchange) -> SideQueries:
        if exchange.side_queries is None:
            exchange.side_queries = SideQueries(self, exchange, self._clock)
        return exchange.side_queries

    def _note_repeated(self, reason: str, now: float) -> None:
        if reason == "truncated":
            self._truncated.value += 1
        else:
            self._metrics.upstream_repeated.cell(self.name, reason).value += 1
        self._budget.spend(now)

    def finished(
        self, exchange: Exchange, verdict: Verdict, answer: Answer | None, reason: str
    ) -> Outcome:
        """Note how an exchange ended and return its outcome; called by the exchange."""
        now = self._clock.seconds()
        seconds = now - exchange.started
        asleep = exchange.started < self._clock.woke  # for a part of that time
        if asleep:
            seconds = min(seconds, self.latency.mean(now))
        self._inflight -= 1
        if reason:
            self._metrics.upstream_failures.cell(self.name, reason_label(reason)).value += 1
            if exchange.complained and verdict == Verdict.FAILURE:
                self.dialect.edns.vain(exchange.started, now)
        by_tier = self._distributions[verdict]
        distribution = by_tier.get(exchange.tier)
        if distribution is None:
            distribution = by_tier[exchange.tier] = self._metrics.upstream_seconds.distribution(
                self.name, exchange.tier, verdict.name.lower()
            )
        distribution.observe(seconds)
        if verdict <= Verdict.NEGATIVE:
            if not asleep:
                self.latency.add(seconds, now)
            if exchange.started > self.uplink.last_worked:  # noqa: PLR1730 (max() is slower)
                self.uplink.last_worked = exchange.started
            change = self.health.succeeded(now, exchange.started)
            if change is not None:
                self._note_change(change, "")
        elif verdict == Verdict.NETWORK_ERROR and reason not in UNMARKED and not asleep:
            if reason == "timeout":  # a lost packet is no measurement: a hint, and a small one
                self.latency.add(min(seconds, 2 * self.latency.mean(now)), now)
            self._mark(now, exchange.started, reason)
        elif verdict == Verdict.NETWORK_ERROR:
            self._local_errors.value += reason == LOCAL
            self.health.abandoned(exchange.started)
        elif reason == "refused":
            self._budget.refused(now)
        # What a failing reply says depends on the others: see blame() and pardon().
        tier, asked = exchange.tier, exchange.started
        return Outcome(self, verdict, answer, reason, tier, asked, seconds, now)

    def blame(self, reason: str, asked: float, question: Question) -> None:
        """Mark a failing reply to a query of the time ``asked`` that others answered well, unless
        it may be the fault of the name; called by the run.
        """
        if self.health.excuses(subject(reason, question), asked):
            self.health.abandoned(asked)
        else:
            self._mark(self._clock.seconds(), asked, reason)

    def pardon(self, asked: float) -> None:
        """Take a failing reply to a query of the time ``asked`` for none of its own fault: nobody
        answered well; called by the run.
        """
        self.health.abandoned(asked)

    def abandoned(self, exchange: Exchange) -> None:
        """Note that an exchange was cancelled, which is no mark; called by the exchange.

        If it had taken longer than usual already, that is a measurement all the same.
        """
        now = self._clock.seconds()
        waited = now - exchange.started
        if waited > self.latency.mean(now) and exchange.started >= self._clock.woke:
            self.latency.add(waited, now)
        self._inflight -= 1
        self.health.abandoned(exchange.started)

    def close(self) -> None:
        """Close all sockets."""
        self._probe.end()
        self._transport.close()
        self._stream.close()

    def _mark(self, now: float, asked: float, reason: str) -> None:
        alone = self.uplink.last_worked >= min(self.health.last_failed, asked)
        change = self.health.failed(now, asked, alone=alone)
        if change is not None:
            self._note_change(change, reason)

    def _note_change(self, state: State, reason: str) -> None:
        self._changes[state].value += 1
        if state is _UNHEALTHY and reason == "timeout":  # is it what we send that it drops by now?
            self.dialect.edns.forget_proof()
        tell = self._journal.info if state == State.HEALTHY else self._journal.warn
        tell(
            "upstream {upstream} is {state}{because}",
            upstream=self.name,
            state=state.name.lower(),
            because=f" ({reason})" if reason else "",
        )

    def _wait(self, seconds: float) -> None:
        """Leave the upstream alone for as long as it asks, within reason."""
        self._budget.pause(self._clock.seconds(), min(seconds, LONGEST_PAUSE))

    def _reject(self, reason: str) -> None:
        self._metrics.upstream_rejected.cell(self.name, reason).value += 1
