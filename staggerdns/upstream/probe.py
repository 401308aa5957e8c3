"""Trying again what an upstream did not cope with, beside the clients' queries.

There is at most one probe at a time, and one of each kind in `MEMORY` seconds. It takes only what
the upstream's budget spares, is a copy of a question that was just answered, and its reply, or
that there is none, tells the `Dialect` and nobody else. Its failure is no mark.
"""

from __future__ import annotations

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.upstream.concurrentretries import RetryOwner, unreported_exchange
from staggerdns.upstream.dialect import ProbeKind
from staggerdns.upstream.exchange import Exchange, ExchangeOwner
from staggerdns.upstream.reason import Reason, RetryReason
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict


class Probe(ExchangeOwner):
    """Probes ``upstream``; each has ``timeout`` seconds."""

    __slots__ = ("_clock", "_kind", "_query", "_timeout", "_timer", "_upstream")

    def __init__(self, upstream: RetryOwner, clock: IReactorTime, timeout: float) -> None:
        self._upstream = upstream
        self._clock = clock
        self._timeout = timeout
        self._kind = ProbeKind.CASE
        self._query: Exchange | None = None
        self._timer: IDelayedCall | None = None

    def consider(self, judge: Judge, now: float) -> None:
        """Send a probe with a question that was just answered, if one is due."""
        upstream = self._upstream
        if self._query is not None or not upstream.has_room(now, first=False):
            return
        found = upstream.dialect.probe(judge.question, now)
        if found is None:
            return
        self._kind, level, query = found
        self._query = probe = unreported_exchange(self, judge, query, now, level)
        self._timer = self._clock.callLater(self._timeout, self._give_up)
        upstream.send_again(probe, RetryReason.PROBE, over_stream=False)

    def end(self) -> None:
        """Drop a probe that is under way."""
        query, timer = self._query, self._timer
        self._query = self._timer = None
        if timer is not None:
            timer.cancel()
        if query is not None:
            query.drop()

    def received(
        self,
        exchange: Exchange,
        message: bytes,
        *,
        over_stream: bool,
        repeated: bool = False,
    ) -> bool:
        """Learn from the reply; no other is welcome."""
        exchange.over = True
        self._learn(exchange, message)
        return False

    def ended(self, exchange: Exchange, verdict: Verdict, reason: Reason) -> None:
        """Learn that there is no reply."""
        exchange.over = True
        self._learn(exchange, b"")

    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Give the probe up."""
        self.ended(exchange, Verdict.NETWORK_ERROR, Reason.MISMATCH)

    def _learn(self, exchange: Exchange, message: bytes) -> None:
        self.end()
        self._upstream.dialect.probed(self._kind, exchange, message, self._clock.seconds())

    def _give_up(self) -> None:
        self._timer = None
        exchange = self._query
        assert exchange is not None, "a probe that nobody knows"
        self._learn(exchange, b"")
