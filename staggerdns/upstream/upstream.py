"""One upstream resolver: address, transports, health and latency in one place.

`Upstream.ask` starts an `Exchange`; however that ends, it reports back here, and here alone is
noted what it says about the upstream. Time limits belong to whoever asks: see
`Exchange.expire`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorFDSet, IReactorTCP, IReactorTime
from zope.interface import Interface

from staggerdns.journal import Journal
from staggerdns.metrics import Distribution, Metrics
from staggerdns.upstream.address import UpstreamAddress
from staggerdns.upstream.datagram import DatagramTransport
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import LOCAL, Exchange, Outcome
from staggerdns.upstream.health import Health
from staggerdns.upstream.latency import Latency
from staggerdns.upstream.stream import StreamTransport
from staggerdns.wire.answer import Answer
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict


class INetworkReactor(IReactorFDSet, IReactorTCP, Interface):
    """The parts of a reactor that transports need."""


class Upstream:
    """A resolver that we forward to.

    ``address``: where it is. ``timeout``: seconds for opening a TCP connection. ``rng``:
    returns that many random bytes, unpredictable in production.
    """

    def __init__(
        self,
        address: UpstreamAddress,
        *,
        reactor: INetworkReactor,
        clock: IReactorTime,
        rng: Callable[[int], bytes],
        timeout: float,
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self.name = str(address)
        self.latency = Latency()
        self._health = Health()
        self._clock = clock
        self._journal = journal
        self._inflight = 0
        self._metrics = metrics
        self._distributions: dict[tuple[str, Verdict], Distribution] = {}
        self._truncated = metrics.upstream_truncated.cell(self.name)
        entropy = Entropy(rng)
        self._stream = StreamTransport(reactor, address.endpoint, entropy, self._reject, timeout)
        self._transport: DatagramTransport | StreamTransport = self._stream
        if address.transport == "udp":
            self._transport = DatagramTransport(reactor, address.endpoint, entropy, self._reject)
        metrics.upstream_inflight.read_from(lambda: self._inflight, self.name)
        metrics.upstream_usable.read_from(lambda: float(self.usable(clock.seconds())), self.name)
        metrics.upstream_latency.read_from(lambda: self.latency.seconds, self.name)

    def usable(self, now: float) -> bool:
        """Say whether the upstream should be asked at ``now``, in seconds of the clock."""
        return self._health.usable(now)

    def ask(self, question: Question, query: bytes, tier: str) -> Exchange:
        """Send ``query`` (a message without its ID) and return the exchange.

        ``tier`` labels the metrics. The exchange may have ended already when this returns.
        """
        exchange = Exchange(self, question, query, tier, self._clock.seconds())
        self._inflight += 1
        self._transport.send(exchange)
        return exchange

    def ask_again_over_stream(self, exchange: Exchange) -> None:
        """Repeat over TCP a query whose reply was truncated (RFC 7766 section 5)."""
        self._truncated.value += 1
        self._stream.send(exchange)

    def finished(
        self, exchange: Exchange, verdict: Verdict, answer: Answer | None, reason: str
    ) -> Outcome:
        """Note how an exchange ended and return its outcome; called by the exchange."""
        now = self._clock.seconds()
        seconds = now - exchange.started
        self._inflight -= 1
        key = (exchange.tier, verdict)
        distribution = self._distributions.get(key)
        if distribution is None:
            distribution = self._distributions[key] = self._metrics.upstream_seconds.distribution(
                self.name, exchange.tier, verdict.name.lower()
            )
        distribution.observe(seconds)
        if verdict <= Verdict.NEGATIVE:
            self.latency.add(seconds)
            if self._health.succeeded():
                self._journal.info("upstream {upstream} is usable again", upstream=self.name)
        elif verdict == Verdict.NETWORK_ERROR and reason != LOCAL:
            if reason == "timeout":
                self.latency.add(seconds)
            self._mark(now, reason)
        return Outcome(self, verdict, answer, reason, seconds)

    def blame(self) -> None:
        """Mark a failing reply to a question that others answered well; called by the run."""
        self._mark(self._clock.seconds(), "failing replies")

    def abandoned(self) -> None:
        """Note that an exchange was cancelled, which is no mark; called by the exchange."""
        self._inflight -= 1

    def close(self) -> None:
        """Close all sockets."""
        self._transport.close()
        self._stream.close()

    def _mark(self, now: float, reason: str) -> None:
        if self._health.failed(now):
            self._journal.warn(
                "upstream {upstream} rests after failures in a row, the last: {reason}",
                upstream=self.name,
                reason=reason,
            )

    def _reject(self, reason: str) -> None:
        self._metrics.upstream_rejected.cell(self.name, reason).value += 1


def order(upstreams: list[Upstream], now: float) -> list[Upstream]:
    """Return the upstreams to ask, best first: the usable ones, or all when none is."""
    usable = [upstream for upstream in upstreams if upstream.usable(now)]
    return sorted(usable or upstreams, key=_by_latency)


def _by_latency(upstream: Upstream) -> float:
    return upstream.latency.seconds
