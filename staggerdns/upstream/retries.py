"""Asking one upstream once more: after a reply that is not the last word, and while none comes.

`Dialect` says why that is needed. Here it is done: the exchange's query is phrased anew and sent
again, or `ConcurrentRetries` are sent beside it.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime

from staggerdns.upstream.concurrentretries import ConcurrentRetries, RetryOwner
from staggerdns.upstream.dialect import is_positive, lowest_level, sent_level
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.probe import Probe
from staggerdns.upstream.reason import Reason, RetryReason


class Retries:
    """The retries of all exchanges with ``upstream``.

    ``patience``: seconds of silence after which queries are tried in other ways; ``timeout``: those
    that a probe has. ``beside`` holds the concurrent retries of exchanges that have any.
    """

    def __init__(
        self, upstream: RetryOwner, clock: IReactorTime, *, patience: float, timeout: float
    ) -> None:
        self.beside: dict[Exchange, ConcurrentRetries] = {}
        self._upstream = upstream
        self._clock = clock
        self._patience = patience
        self._probe = Probe(upstream, clock, timeout)

    def retry_if_needed(
        self, exchange: Exchange, message: bytes, *, over_stream: bool, believed: bool
    ) -> bool:
        """Repeat a query whose reply ``message`` is not the last word, or check that reply. Return
        whether that was done.

        ``believed``: there is no way to check it any more.
        """
        now = self._clock.seconds()
        upstream = self._upstream
        reason = upstream.dialect.retry_reason(
            exchange, message, now, over_stream=over_stream, believed=believed
        )
        if reason is None:
            if is_positive(message):
                self._probe.consider(exchange.judge, now)
            return False
        if reason is RetryReason.SUBNET and over_stream:
            exchange.error(Reason.CLIENT_SUBNET)
            return True
        if reason.is_doubt:
            self._concurrent_retries(exchange).check(message, reason)
            return True
        exchange.release()
        if reason is RetryReason.TRUNCATED:
            upstream.send_again(exchange, reason, over_stream=True)
        elif reason is RetryReason.EDNS and sent_level(exchange) <= lowest_level(exchange):
            exchange.error(Reason.NO_EDNS)
        else:
            upstream.dialect.rephrase(exchange, reason, now)
            upstream.send_again(exchange, reason, over_stream=over_stream)
        return True

    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Go on over TCP, and use no reply that is kept: somebody forges them."""
        beside = self.beside.get(exchange)
        if beside is not None:
            beside.disown()
            if beside.checks:
                return  # it goes on over TCP already
        exchange.hinted = None
        self._upstream.send_again(exchange, RetryReason.FLOOD, over_stream=True)

    def ask_for_less(self, exchange: Exchange) -> bool:
        """Phrase a query with less EDNS, if that may be why its connections are closed. Return
        whether that was possible.
        """
        dialect = self._upstream.dialect
        if sent_level(exchange) <= lowest_level(exchange) or not dialect.unsure_of_level(exchange):
            return False
        dialect.rephrase(exchange, RetryReason.EDNS, self._clock.seconds())
        return True

    def watch(self, exchange: Exchange) -> None:
        """Try a query that was just sent in other ways, if nothing comes for it."""
        dialect = self._upstream.dialect
        if not exchange.over and (
            dialect.unsure_of_level(exchange) or dialect.unsure_of_case(exchange)
        ):
            self._concurrent_retries(exchange).watch(self._patience)

    def waits_on(self, exchange: Exchange) -> bool:
        """Return whether the right reply may still come behind a doubted one."""
        beside = self.beside.get(exchange)
        return beside is not None and beside.waits

    def end(self, exchange: Exchange) -> None:
        """Drop the concurrent retries of an exchange that is over."""
        beside = self.beside.pop(exchange, None)
        if beside is not None:
            beside.end()

    def close(self) -> None:
        """Drop a probe that is under way."""
        self._probe.end()

    def _concurrent_retries(self, exchange: Exchange) -> ConcurrentRetries:
        beside = self.beside.get(exchange)
        if beside is None:
            beside = ConcurrentRetries(self._upstream, exchange, self._clock)
            self.beside[exchange] = beside
        return beside
