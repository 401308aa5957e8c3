"""Queries beside that of an exchange: to check a doubted reply, and to break a silence.

Doubt. A reply over UDP that is doubted (see `Dialect`) proves no more than the right ID and port.
It is kept, and the same query goes over TCP, where nobody forges. Meanwhile the exchange still
waits for the right reply over UDP. Of the two, the one that comes first is used. When TCP is
refused, or silent for `TCP_PATIENCE` seconds, the kept reply is used, but not when

* a second doubted reply differs from it: somebody is guessing;
* the upstream's TCP has worked before, or its earlier replies had what this one lacks: an
  upstream that can do better is held to it.

A kept reply that is used goes through `Dialect.retry_reason` like any other, but for the doubt.

Silence. An upstream whose level of EDNS is not proven may drop what has an OPT record. After
`SILENCE` seconds (`STREAM_SILENCE` on a connection) without a reply the query goes out once more,
one level lower, and again after as long. Last, over UDP, it goes out in lower case, unless random
case is proven. A reply to any of these queries is the exchange's.

All concurrent retries end with their exchange.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.upstream.dialect import Dialect, lowest_level, sent_level
from staggerdns.upstream.edns import PLAIN
from staggerdns.upstream.exchange import Exchange, ExchangeOwner
from staggerdns.upstream.reason import Reason, RetryReason
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import Verdict

TCP_PATIENCE = 0.3
"""Seconds that TCP has to give the reply that settles a doubt, before the kept one may be used."""
SILENCE = 0.2
"""Seconds without a reply over UDP after which a query goes out once more with less EDNS."""
STREAM_SILENCE = 0.5
"""The same on a connection, which loses nothing."""
MAX_WATCHED = 20
"""Exchanges of one upstream whose silence is watched at once, while watching has not helped any of
them yet: when that many wait there is an outage, or a slow upstream, which more queries worsen.
"""
UNREPORTED = "concurrent retry"
"""The tier of exchanges without an outcome, which no metric shows."""


class RetryOwner(Protocol):
    """What concurrent retries and probes need of the upstream that they are for."""

    dialect: Dialect
    watched: int

    def has_room(self, now: float, *, first: bool) -> bool:
        """Return whether the budget lets one more query go; ``first``: a client waits for it."""

    def send_again(self, exchange: Exchange, reason: RetryReason, *, over_stream: bool) -> None:
        """Send a query once more, or one beside it."""

    def doubted(self) -> None:
        """Note one more doubted reply to the same query."""


def unreported_exchange(
    owner: ExchangeOwner, judge: Judge, query: bytes, now: float, level: int
) -> Exchange:
    """Return an exchange that gives no outcome, but hands its reply to ``owner``."""
    exchange = Exchange(owner, judge, query, UNREPORTED, now)
    exchange.level = level
    return exchange


class ConcurrentRetries(ExchangeOwner):
    """The concurrent retries of one exchange of ``upstream``; made when there is a reason."""

    __slots__ = (
        "_check",
        "_clock",
        "_doubt",
        "_exchange",
        "_failed",
        "_kept",
        "_lowered",
        "_patience",
        "_step_level",
        "_steps",
        "_timer",
        "_upstream",
        "_watched",
    )

    def __init__(self, upstream: RetryOwner, exchange: Exchange, clock: IReactorTime) -> None:
        self._upstream = upstream
        self._clock = clock
        self._exchange = exchange
        self._steps: list[Exchange] = []
        self._step_level = PLAIN
        self._lowered = False  # the step to lower case was taken
        self._check: Exchange | None = None
        self._kept = b""
        self._doubt: RetryReason | None = None
        self._failed = False  # TCP cannot be asked
        self._timer: IDelayedCall | None = None
        self._patience = SILENCE
        self._watched = False

    @property
    def waits(self) -> bool:
        """Whether the right reply to a query with a doubted one may still come."""
        return self._doubt is not None

    def end(self) -> None:
        """Drop all of it."""
        self._stop_steps()
        self._drop_check()

    # What becomes of the concurrent retries.

    def received(
        self,
        exchange: Exchange,
        message: bytes,
        *,
        over_stream: bool,
        repeated: bool = False,
    ) -> bool:
        """Use the reply to a concurrent retry for the exchange; no other is welcome."""
        exchange.over = True
        if exchange is self._check:
            self._checked(exchange, message, over_stream=over_stream)
        else:
            self._stepped(exchange, message, over_stream=over_stream)
        return False

    def ended(self, exchange: Exchange, verdict: Verdict, reason: Reason) -> None:
        """Go on without a reply to this concurrent retry."""
        exchange.over = True
        if exchange is self._check:
            self._check = None
            self._stop_steps()
            if not self._failed:
                self._tcp_failed()

    def retry_over_tcp(self, exchange: Exchange) -> None:
        """Give the concurrent retry up: its exchange goes on over TCP by itself."""
        self.ended(exchange, Verdict.NETWORK_ERROR, Reason.MISMATCH)

    # Silence.

    def watch(self, patience: float) -> None:
        """Send a concurrent retry each time when nothing has come for that many seconds."""
        self._stop_steps()
        upstream = self._upstream
        if upstream.watched >= MAX_WATCHED and upstream.dialect.edns.is_settled:
            return
        upstream.watched += 1
        self._watched = True
        self._patience = patience
        self._lowered = False
        self._step_level = sent_level(self._exchange)
        self._step_later()

    def _step(self) -> None:
        self._timer = None
        exchange, upstream = self._exchange, self._upstream
        now = self._clock.seconds()
        if not upstream.has_room(now, first=True):
            self._step_later()
            return
        dialect, level, lowered = upstream.dialect, exchange.level, exchange.lowered
        if dialect.unsure_of_level(exchange) and self._step_level > self._lowest:
            self._step_level = level = self._step_level - 1
        elif dialect.unsure_of_case(exchange) and not self._lowered:
            self._lowered = lowered = True
        else:
            return  # by now more is known
        query = dialect.compose(exchange.question, now, level, lowered=lowered)
        step = unreported_exchange(self, exchange.judge, query, now, level)
        step.lowered = lowered
        self._steps.append(step)
        upstream.send_again(step, RetryReason.SILENCE, over_stream=False)
        if not exchange.over:
            self._step_later()

    @property
    def _lowest(self) -> int:
        return max(lowest_level(self._exchange), self._upstream.dialect.edns.proven)

    def _step_later(self) -> None:
        in_case = self._upstream.dialect.unsure_of_case(self._exchange) and not self._lowered
        if in_case or self._step_level > self._lowest:
            self._timer = self._clock.callLater(self._patience, self._step)

    def _stepped(self, step: Exchange, message: bytes, *, over_stream: bool) -> None:
        exchange = self._exchange
        exchange.complained = max(exchange.complained, sent_level(exchange))
        exchange.level, exchange.query = step.level, step.query
        exchange.optioned, exchange.lowered = step.optioned, step.lowered
        self._stop_steps()
        exchange.release()
        exchange.owner.received(exchange, message, over_stream=over_stream)

    def _stop_steps(self) -> None:
        self._upstream.watched -= self._watched
        self._watched = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        steps, self._steps = self._steps, []
        for step in steps:
            step.drop()

    # Doubted replies.

    def check(self, message: bytes, doubt: RetryReason) -> None:
        """Keep a doubted reply, and ask the same over TCP."""
        if self._doubt is not None:
            if message != self._kept:
                self._kept = b""
            self._upstream.doubted()
            return
        self._stop_steps()
        self._kept, self._doubt = message, doubt
        upstream, exchange = self._upstream, self._exchange
        if self._failed:
            if upstream.dialect.trusts(doubt):
                self._use_kept()
            return
        self._timer = self._clock.callLater(TCP_PATIENCE, self._too_slow)
        now = self._clock.seconds()
        check = unreported_exchange(self, exchange.judge, exchange.query, now, exchange.level)
        self._check = check
        upstream.send_again(check, doubt, over_stream=True)

    def disown(self) -> None:
        """Use nothing that was kept: somebody forges replies."""
        self._kept = b""

    @property
    def checks(self) -> bool:
        """Whether TCP is being asked."""
        return self._check is not None

    def _checked(self, check: Exchange, message: bytes, *, over_stream: bool) -> None:
        self._check = None
        self._stop_steps()
        exchange = self._exchange
        exchange.optioned = check.optioned
        self._kept, self._doubt = b"", None
        exchange.release()
        exchange.owner.received(exchange, message, over_stream=over_stream)

    def _too_slow(self) -> None:
        self._timer = None
        self._tcp_failed()

    def _tcp_failed(self) -> None:
        doubt = self._doubt
        self._failed = True
        assert doubt is not None, "a check without a doubt"
        trusted = self._upstream.dialect.trusts(doubt)  # as it was before this showed
        self._upstream.dialect.uncleared(doubt, self._clock.seconds())
        if trusted:
            self._use_kept()

    def _use_kept(self) -> None:
        """Let the kept reply be the exchange's."""
        kept = self._kept
        if not kept:
            return  # the right one may still come
        self._kept, self._doubt = b"", None
        self._drop_check()
        exchange = self._exchange
        exchange.release()
        exchange.owner.believe(exchange, kept)

    def _drop_check(self) -> None:
        check, self._check = self._check, None
        if check is not None:
            check.drop()
