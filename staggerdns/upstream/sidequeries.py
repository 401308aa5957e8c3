"""Side queries beside that of an exchange: to check a doubted reply, to try less EDNS, to learn.

A reply over UDP that is doubted (see `Dialect`) proves no more than the right ID and port. It is
kept while the same query goes over TCP, where nobody forges; the exchange goes on waiting for
the right reply over UDP at the same time. The first that comes over TCP, or in order over UDP, is
used. When TCP is refused, or silent for `TCP_PATIENCE` seconds, what was kept is used, unless

* a second one came that differs from it: somebody is guessing;
* the upstream's TCP has worked before, or it has shown the lacking letters in its replies before:
  whoever can do better is held to it.

Then, too, what was kept only counts as far as a reply counts: see `Dialect.doubt`.

An upstream of which not even the OPT record is proven may drop what has one. After `SILENCE`
seconds (on a connection `STREAM_SILENCE`) the query goes once more, one level lower, and again
after as long; at last, over UDP, in lower case, unless random case is proven. Those before still
count. All these end with their exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from staggerdns.upstream.dialect import sent_level
from staggerdns.upstream.edns import BARE, PLAIN
from staggerdns.upstream.exchange import Exchange
from staggerdns.wire.judge import Judge

if TYPE_CHECKING:
    from staggerdns.upstream.upstream import Upstream

TCP_PATIENCE = 0.3
SILENCE = 0.2
STREAM_SILENCE = 0.5
"""The same on a connection, which loses nothing."""
MAX_WATCHED = 20
"""Exchanges of one upstream that are tried in other ways at once, while none has been answered for
that: a crowd that gets no reply is an outage or a slow upstream, and needs no more queries.
"""
SIDE_QUERY = "side query"
"""The tier of these queries, which no metric shows."""


class SideQuery(Exchange):
    """A query that is no exchange of its own; ``taker`` gets it with its reply, which is empty when
    there is none, and whether that came over a stream.
    """

    def __init__(
        self,
        upstream: Upstream,
        judge: Judge,
        query: bytes,
        started: float,
        taker: Callable[[SideQuery, bytes, bool], None],
    ) -> None:
        super().__init__(upstream, judge, query, SIDE_QUERY, started)
        self._answer_to = taker

    def reply(self, message: bytes, *, final: bool) -> bool:
        """Hand the reply on."""
        if not self.called:
            self.called = True
            self._answer_to(self, message, final)
        return False

    def error(self, reason: str) -> None:
        """Say that no reply will come."""
        self.reply(b"", final=False)

    def carried(self) -> None:
        """Watch the exchange alone."""

    def descends(self) -> bool:
        """Leave that to the exchange."""
        return False

    def failure(self, reason: str) -> None:
        """Say that no DNS message will come."""
        self.reply(b"", final=False)

    def flee(self) -> None:
        """Leave it to the exchange to go on elsewhere."""
        self.reply(b"", final=False)

    def drop(self, *, timed_out: bool = False) -> None:
        """Want no reply any more."""
        if not self.called:
            self.called = True
            self.release(timed_out=timed_out)


class SideQueries:
    """The side queries of one exchange of ``upstream``; made when there is a reason."""

    __slots__ = (
        "_upstream",
        "_exchange",
        "_clock",
        "_steps",
        "_step_level",
        "_check",
        "_kept",
        "_doubt",
        "_failed",
        "_timer",
        "_patience",
        "_stepped_down",
        "_watched",
    )

    def __init__(self, upstream: Upstream, exchange: Exchange, clock: IReactorTime) -> None:
        self._upstream = upstream
        self._clock = clock
        self._exchange = exchange
        self._steps: list[SideQuery] = []
        self._step_level = PLAIN
        self._check: SideQuery | None = None
        self._kept = b""
        self._doubt = ""
        self._failed = False  # TCP cannot be asked
        self._timer: IDelayedCall | None = None
        self._patience = SILENCE
        self._stepped_down = False  # to lower case
        self._watched = False

    @property
    def waits(self) -> bool:
        """Whether the right reply to a query with a doubted one may still come."""
        return bool(self._doubt)

    def end(self) -> None:
        """Drop all of it."""
        self._stop_steps()
        check, self._check = self._check, None
        if check is not None:
            check.drop()

    # Silence.

    def watch(self, patience: float) -> None:
        """Ask at lower levels, and in lower case, while nothing comes: one in so many seconds."""
        self._stop_steps()
        upstream = self._upstream
        if upstream.watched >= MAX_WATCHED and upstream.dialect.edns.is_settled:
            return
        upstream.watched += 1
        self._watched = True
        self._patience = patience
        self._stepped_down = False
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
        if dialect.unsure(exchange) and self._step_level > self._lowest:
            self._step_level = level = self._step_level - 1
        elif dialect.unsure_of_case(exchange) and not self._stepped_down:
            self._stepped_down = lowered = True
        else:
            return  # by now more is known
        query = dialect.compose(exchange.question, now, level, lowered=lowered)
        side_query = SideQuery(upstream, exchange.judge, query, now, self._stepped)
        side_query.level, side_query.lowered = level, lowered
        self._steps.append(side_query)
        upstream.send_side_query(side_query, "silence", over_stream=False)
        if not exchange.called:
            self._step_later()

    @property
    def _lowest(self) -> int:
        signed = self._exchange.question.do and not self._exchange.unsigned
        return max(BARE if signed else PLAIN, self._upstream.dialect.edns.proven)

    def _step_later(self) -> None:
        in_case = self._upstream.dialect.unsure_of_case(self._exchange) and not self._stepped_down
        if in_case or self._step_level > self._lowest:
            self._timer = self._clock.callLater(self._patience, self._step)

    def _stepped(self, side_query: SideQuery, message: bytes, over_stream: bool) -> None:
        if not message:
            return
        exchange = self._exchange
        exchange.complained = max(exchange.complained, sent_level(exchange))
        exchange.level, exchange.query = side_query.level, side_query.query
        exchange.optioned, exchange.lowered = side_query.optioned, side_query.lowered
        self._stop_steps()
        exchange.release()
        exchange.reply(message, final=over_stream)

    def _stop_steps(self) -> None:
        self._upstream.watched -= self._watched
        self._watched = False
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        steps, self._steps = self._steps, []
        for side_query in steps:
            side_query.drop()

    # Doubted replies.

    def check(self, message: bytes, doubt: str) -> None:
        """Take a doubted reply, and see whether TCP knows better."""
        if self._doubt:
            if message != self._kept:
                self._kept = b""
            self._upstream.doubted()
            return
        self._stop_steps()
        self._kept, self._doubt = message, doubt
        if self._failed:
            self._use_kept()
            return
        upstream, exchange = self._upstream, self._exchange
        self._timer = self._clock.callLater(TCP_PATIENCE, self._too_slow)
        side_query = SideQuery(
            upstream, exchange.judge, exchange.query, self._clock.seconds(), self._checked
        )
        side_query.level = exchange.level
        self._check = side_query
        upstream.send_side_query(side_query, doubt, over_stream=True)

    def disown(self) -> None:
        """Use nothing that was kept: somebody forges replies."""
        self._kept = b""

    @property
    def checks(self) -> bool:
        """Whether TCP is being asked."""
        return self._check is not None

    def _checked(self, side_query: SideQuery, message: bytes, over_stream: bool) -> None:
        self._check = None
        self._stop_steps()
        if not over_stream:
            if not self._failed:
                self._unchecked()
            return
        exchange = self._exchange
        exchange.optioned = side_query.optioned
        self._kept, self._doubt = b"", ""
        exchange.release()
        exchange.reply(message, final=True)

    def _too_slow(self) -> None:
        self._timer = None
        self._unchecked()

    def _unchecked(self) -> None:
        self._failed = True
        self._use_kept(now=self._clock.seconds())

    def _use_kept(self, now: float | None = None) -> None:
        """Let what was kept be the reply, if the upstream cannot do better.

        ``now``: when TCP turned out not to be there, if it was this doubt that showed it.
        """
        dialect, exchange, kept = self._upstream.dialect, self._exchange, self._kept
        trusted = dialect.trusts(self._doubt)
        if now is not None:
            dialect.uncleared(self._doubt, now)
        if not kept or not trusted:
            return  # the right one may still come
        self._kept, self._doubt = b"", ""
        check, self._check = self._check, None
        if check is not None:
            check.drop()
        exchange.release()
        exchange.believe(kept)
