"""One upstream resolver: address, transports, health and latency in one place.

`Upstream.ask` starts an `Exchange`. Whatever becomes of it is decided here: what a reply is worth,
whether the query is sent once more, and what the outcome says about the upstream. Time limits are
for the caller to keep: see `Exchange.expire`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTCP

from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.settings.values import AUTO
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.blame import failing_reason, subject
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.concurrentretries import SILENCE, STREAM_SILENCE
from staggerdns.upstream.datagram import DatagramTransport
from staggerdns.upstream.dialect import Dialect
from staggerdns.upstream.edns import BARE, FULL, PLAIN
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import AskedUpstream, Exchange, Outcome
from staggerdns.upstream.health import Health, NegativeTrust, State, Uplink
from staggerdns.upstream.latency import Latency
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.reason import Reason, RetryReason
from staggerdns.upstream.report import StreamReport, UpstreamReport
from staggerdns.upstream.retries import Retries
from staggerdns.upstream.stream import Resolve, StreamTransport
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import SOUND, WireError
from staggerdns.wire.edns import full_rcode
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.reply import Mismatch
from staggerdns.wire.verdict import FAILURE, NETWORK_ERROR, Verdict

_HEALTHY, _, _UNHEALTHY = State


class Upstream(AskedUpstream):
    """A resolver that we forward to.

    ``address``: where it is. ``readers`` watch its UDP sockets. ``rng``: returns that many random
    bytes, unpredictable in production. ``budget``: of the resolver. ``resolve`` finds the addresses
    of a host name, ``authorities`` may certify the upstream.
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
        budget: QueryBudget,
        resolve: Resolve | None = None,
        authorities: Authorities | None = None,
    ) -> None:
        self.name = str(address)
        self.latency = Latency(settings.adaptive.ewma_alpha)
        self.health = Health(settings.health)
        self.negative_trust = NegativeTrust()
        self.budget = budget
        self.uplink = Uplink()
        self._clock = clock
        self._inflight = 0
        self.report = report = UpstreamReport(self.name, metrics, journal)
        self.skipped = report.skipped
        entropy = Entropy(rng)
        # Over a connection nobody can forge a reply (RFC 7873 section 5.3): no tricks are needed.
        self._over_udp = over_udp = address.transport == "udp"
        self.dialect = Dialect(
            entropy,
            case=over_udp and settings.case_randomization == AUTO,
            cookies=over_udp and settings.cookies,
            subnet=address.subnet,
        )
        self._stream = StreamTransport(
            reactor,
            clock,
            address,
            entropy,
            StreamReport(
                self.name,
                metrics,
                journal,
                report.rejected,
                lambda seconds: budget.pause(clock.seconds(), seconds),
            ),
            timeout=settings.timeout,
            resolve=resolve,
            authorities=authorities,
        )
        self._transport: DatagramTransport | StreamTransport = self._stream
        if over_udp:
            self._transport = DatagramTransport(
                readers, address.endpoint, entropy, report.rejected, self.dialect.moved
            )
        patience = SILENCE if over_udp else STREAM_SILENCE
        self._retries = Retries(self, clock, patience=patience, timeout=settings.timeout)
        self.watched = 0
        """Exchanges tried in other ways while nothing comes: see `ConcurrentRetries.watch`."""
        report.show(
            clock, self.health, self.latency, lambda: self._inflight, lambda: self.budget.rate
        )

    def succeed(self, other: Upstream) -> None:
        """Adopt what is known of the same resolver, which was asked by other rules so far."""
        self.health.succeed(other.health)
        self.latency.succeed(other.latency)
        self.negative_trust = other.negative_trust

    def usable(self, now: float) -> bool:
        """Return whether the upstream should be asked at ``now``."""
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
        """Whether health and budget would let any query go now; quickly found."""
        budget = self.budget
        return (
            budget.inflight < budget.spare_places
            and not budget.rate
            and self.health.state is not _UNHEALTHY
        )

    def has_room(self, now: float, *, first: bool) -> bool:
        """Return whether the budget lets one more query go; ``first``: a client waits for it."""
        return self.budget.has_room(now, first=first)

    def room_at(self, now: float) -> float:
        """Return the earliest time at which the budget may have room for a first answer."""
        return self.budget.room_at(now)

    @property
    def signs(self) -> bool:
        """Whether the upstream may give signatures: it is not known to do without EDNS."""
        return self.dialect.edns.level > PLAIN

    @property
    def decides_health(self) -> bool:
        """Whether what comes of a query decides about its health: it is on trial, or may heal."""
        return self.health.state is not _HEALTHY

    def usual_time(self, now: float) -> float:
        """Return the seconds that a reply takes on average, 0 if none was ever measured."""
        return self.latency.mean(now) if self.latency.measured else 0.0

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
        self.budget.inflight += 1
        self.budget.spend(now)
        if self.health.state is not _HEALTHY:
            self.health.asked(now)
        if question.do:
            if unsigned and dialect.edns.proven < BARE:
                exchange.unsigned = True
                exchange.level = PLAIN
                exchange.query = dialect.compose(question, now, PLAIN)
            elif exchange.level == PLAIN:
                exchange.error(Reason.NO_EDNS)  # its answer would lack the signatures
                return exchange
        self._transport.send(exchange)
        if self._over_udp and dialect.is_unsure:
            self._retries.watch(exchange)
        return exchange

    # What exchanges and their transports report.

    def received(
        self,
        exchange: Exchange,
        message: bytes,
        *,
        over_stream: bool,
        repeated: bool = False,
        believed: bool = False,
    ) -> bool:
        """Judge a reply and end the exchange with it, unless it is not the last word: then the
        query is sent once more.

        ``repeated``: its question is known to be the one that was sent, letter by letter.
        ``believed``: it comes from `believe`. Return whether another reply to the same query is
        still welcome: this one may be forged.
        """
        if exchange.over:
            return False
        dialect = self.dialect
        usual = repeated and dialect.is_as_usual(message)
        if over_stream:
            dialect.stream_works = True
        retries = self._retries
        if not usual and retries.retry_if_needed(
            exchange, message, over_stream=over_stream, believed=believed
        ):
            exchange.hinted = None
            return retries.waits_on(exchange)
        answer, reason = None, None
        try:
            verdict, answer = exchange.judge.verdict(message)
        except WireError:
            verdict, reason = FAILURE, Reason.MALFORMED
        else:
            exchange.dropped = exchange.judge.dropped
            if verdict is NETWORK_ERROR:
                return self._ignore_reply(exchange, over_stream=over_stream)
            if answer is None:
                if (
                    usual  # but an error may stand in its OPT record
                    and full_rcode(message) not in SOUND
                    and retries.retry_if_needed(
                        exchange, message, over_stream=over_stream, believed=believed
                    )
                ):
                    exchange.hinted = None
                    return retries.waits_on(exchange)
                reason = failing_reason(message)
        self._end(exchange, verdict, answer, reason)
        return False

    def believe(self, exchange: Exchange, message: bytes) -> None:
        """Use a reply that is doubted, since there is no way to check it any more."""
        self.received(exchange, message, over_stream=False, believed=True)

    def _ignore_reply(self, exchange: Exchange, *, over_stream: bool) -> bool:
        """Note a reply that counts as none. Over UDP the right one may be behind it, so that others
        are asked and this exchange waits on; return whether it does.
        """
        if over_stream:
            self._end(exchange, NETWORK_ERROR, None, Reason.IGNORED)
        else:
            exchange.hint(Reason.IGNORED)
        return not exchange.over

    def ended(self, exchange: Exchange, verdict: Verdict, reason: Reason) -> None:
        """End the exchange, to which there will be no reply with a DNS message."""
        self._end(exchange, verdict, None, reason)

    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Go on over TCP: somebody forges replies."""
        self._retries.retry_over_tcp(exchange)

    def abandoned(self, exchange: Exchange) -> None:
        """Note that an exchange was cancelled, which is no mark.

        If it had taken longer than usual already, that is a measurement all the same.
        """
        if self._retries.beside:
            self._retries.end(exchange)
        now = self._clock.seconds()
        waited = now - exchange.started
        if waited > self.latency.mean(now) and exchange.started >= self._clock.woke:
            self.latency.add(waited, now)
        self._inflight -= 1
        self.budget.inflight -= 1
        self.health.abandoned(exchange.started)

    def carried(self, exchange: Exchange) -> None:
        """Note that a query has gone out on a connection."""
        if not self._over_udp:
            self._retries.watch(exchange)

    def asks_for_less(self, exchange: Exchange) -> bool:
        """Phrase a query with less EDNS, if that may be why its connections are closed."""
        return self._retries.ask_for_less(exchange)

    # What retries ask for.

    def send_again(self, exchange: Exchange, reason: RetryReason, *, over_stream: bool) -> None:
        """Send a query once more, or one beside it."""
        self.report.repeated(reason)
        self.budget.spend(self._clock.seconds())
        (self._stream if over_stream else self._transport).send(exchange)

    def doubted(self) -> None:
        """Note one more doubted reply to the same query."""
        self.report.rejected(Mismatch.DOUBTED)

    # Health.

    def _end(
        self, exchange: Exchange, verdict: Verdict, answer: Answer | None, reason: Reason | None
    ) -> None:
        """Note what the end of an exchange says about the upstream, and end it."""
        if self._retries.beside:
            self._retries.end(exchange)
        now = self._clock.seconds()
        seconds = now - exchange.started
        asleep = exchange.started < self._clock.woke  # we were, for a part of that time
        if asleep:
            seconds = min(seconds, self.latency.mean(now))
        self._inflight -= 1
        self.budget.inflight -= 1
        tier = exchange.tier
        distribution = self.report.distributions[verdict].get(tier)
        if distribution is None:
            distribution = self.report.distribution(verdict, tier)
        distribution.observe(seconds)
        if reason is not None:
            self._note_failure(exchange, verdict, reason, now, None if asleep else seconds)
        else:
            if not asleep:
                self.latency.add(seconds, now)
            if exchange.started > self.uplink.last_worked:  # noqa: PLR1730 (max() is slower)
                self.uplink.last_worked = exchange.started
            change = self.health.succeeded(now, exchange.started)
            if change is not None:
                self._note_change(change, None)
        exchange.conclude(
            Outcome(self, verdict, answer, reason, tier, exchange.started, seconds, now)
        )

    def _note_failure(
        self,
        exchange: Exchange,
        verdict: Verdict,
        reason: Reason,
        now: float,
        seconds: float | None,
    ) -> None:
        """Note a failure; ``seconds``: that it took, `None` if we slept meanwhile.

        What a failing reply says depends on the others: see `blame` and `pardon`.
        """
        self.report.failed(reason)
        if verdict == FAILURE:
            if exchange.complained:
                self.dialect.edns.failed_at_all_levels(exchange.started, now)
            if reason is Reason.REFUSED:
                self.budget.refused(now)
        elif reason.counts_against_upstream and seconds is not None:
            if reason is Reason.TIMEOUT:  # a lost packet is no measurement: a hint, a small one
                self.latency.add(min(seconds, 2 * self.latency.mean(now)), now)
            self._mark(now, exchange.started, reason)
        else:
            self.health.abandoned(exchange.started)

    def blame(self, outcome: Outcome, question: Question) -> None:
        """Mark a failing reply to ``question``, which others answered well, unless it may be the
        fault of the name.
        """
        reason, asked = outcome.reason, outcome.asked
        assert reason is not None, "a failure without a reason"
        if self.health.excuses(subject(reason, question), asked):
            self.health.abandoned(asked)
        else:
            self._mark(self._clock.seconds(), asked, reason)

    def pardon(self, outcome: Outcome) -> None:
        """Let a failing reply be none of the upstream's own fault: nobody answered well."""
        self.health.abandoned(outcome.asked)

    def close(self) -> None:
        """Close all sockets."""
        self._retries.close()
        self._transport.close()
        self._stream.close()

    def _mark(self, now: float, asked: float, reason: Reason) -> None:
        alone = self.uplink.last_worked >= min(self.health.last_failed, asked)
        change = self.health.failed(now, asked, alone=alone)
        if change is not None:
            self._note_change(change, reason)

    def _note_change(self, state: State, reason: Reason | None) -> None:
        # Silence may be about what we send: let lower levels of EDNS be tried again.
        if state is _UNHEALTHY and reason is Reason.TIMEOUT:
            self.dialect.edns.forget_proof()
        self.report.changed(state, reason)
