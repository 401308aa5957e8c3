"""What every strategy has in common: exchanges under way, time limits, and who hears of it.

A `Run` asks upstreams one question. Its subclass decides whom to ask when, in `Run.step`, which
is called after every event: an outcome, or the one timer, set for the earliest time at which
something is due. What the outcomes come to is for the `Decision`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final, NamedTuple

from twisted.internet.interfaces import IReactorTime

from staggerdns.deferreds import ignore_cancellation
from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import SLACK, Alarm, Alarms
from staggerdns.strategy.candidates import Candidates
from staggerdns.strategy.decision import Decision
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.upstream.exchange import AskedUpstream, Exchange, Outcome
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.refusals import give_up_at, unrefused
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.dropped import DENIED
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import POSITIVE


class GivenUp(NamedTuple):
    """A query to an ``upstream`` that nobody waits for any more: see `Outcome` for the rest."""

    upstream: AskedUpstream
    tier: str
    asked: float
    at: float


History = list[Outcome | GivenUp]
"""How queries ended, in order."""

_NO_EDNS: Final = Reason.NO_EDNS
RETRY_INTERVAL = 1.0
"""Seconds after the last query to the next round, when nobody has answered."""


class Run(ABC):
    """One question on its way to several upstreams.

    ``started``: the time now. ``timeout`` and ``total`` limit one exchange and the whole run: in
    seconds. ``waiting``: the upstreams, best first; ``at_once``: how many of them are asked
    together when all have been silent.

    For subclasses: `step` is theirs to write; `heard`, `hinted`, `answer`, `retry` and `finish`
    are there to be extended; `ask_next`, `launch` and `end_exchange` to be called; and these
    attributes to be read, `last_launch` to be set, too. ``history`` is written for whoever explains
    the answer.
    """

    __slots__ = (
        "judge",
        "question",
        "adaptive",
        "candidates",
        "decision",
        "history",
        "outstanding",
        "last_launch",
        "hinted_at",
        "spared",
        "_observer",
        "_clock",
        "_alarms",
        "_timeout",
        "_end",
        "_expire_at",
        "_at_once",
        "_in_window",
        "_alarm",
        "_alarm_due",
        "_busy",
        "_over",
    )
    strategy = ""
    """The name of the strategy, for the metrics."""
    wants_all = False
    """Whether it asks everybody for the addresses of a pool, and not for one answer alone."""

    def __init__(
        self,
        judge: Judge,
        observer: Observer,
        clock: IReactorTime,
        alarms: Alarms,
        *,
        started: float,
        timeout: float,
        total: float,
        decision: Decision,
        adaptive: Adaptive,
        waiting: list[Upstream],
        at_once: int,
    ) -> None:
        self.judge = judge
        self.question = judge.question
        self.adaptive = adaptive
        self.candidates = Candidates(waiting, adaptive, signed=judge.question.do)
        self.decision = decision
        self.history: History = []
        self.outstanding: dict[Exchange, Upstream] = {}
        """The exchanges under way, in the order in which they were asked, and who was."""
        self.last_launch = started
        """When the last queries were asked."""
        self.hinted_at = 0.0
        """When the last ICMP error came, 0 if none has."""
        self.spared = 0
        """Upstreams left out since they would add nothing."""
        self._observer = observer
        self._clock = clock
        self._alarms = alarms
        self._timeout = timeout
        self._end = started + total
        self._expire_at = started + timeout  # no exchange expires before
        self._at_once = at_once
        self._in_window = 0
        self._alarm: Alarm | None = None
        self._alarm_due = 0.0
        self._busy = False  # an outcome calls nothing: `_advance` follows anyway
        self._over = False

    def start(self) -> None:
        """Ask the first upstreams. The observer may be called before this returns."""
        self._advance(self.last_launch)

    def cancel(self) -> None:
        """End the run now, without marks on anybody and without a call to the observer."""
        self._over = True
        self._disarm()
        losers, self.outstanding = self.outstanding, {}
        for exchange, upstream in losers.items():
            self._give_up(exchange, upstream)
        for outcome in self.decision.failing():
            outcome.upstream.pardon(outcome)

    @abstractmethod
    def step(self, now: float) -> float | None:
        """Do what is due at ``now``; return when something else will be, `None` if nothing.

        The limits that this class keeps are not the subclass's concern.
        """

    def heard(self, outcome: Outcome, exchange: Exchange) -> None:  # noqa: B027 (not all need it)
        """Note an outcome before anything follows from it."""

    def hinted(self, exchange: Exchange, now: float) -> None:  # noqa: B027 (not all need it)
        """Note an ICMP error before anything follows from it."""

    def leaves_out(self) -> bool:
        """Return whether some are not asked for a pool that would add nothing to it."""
        return False

    def answer(self, outcome: Outcome, now: float) -> None:
        """Give the client its answer."""
        self.candidates.want_no_room()
        self.adaptive.racing_delay.latency.add(outcome.seconds, now)
        self._observer.first(outcome)

    def ask_next(self, count: int, tier: str, now: float) -> list[Upstream]:
        """Ask up to ``count`` of those that wait and whose budget has room; return them."""
        chosen = self.candidates.take(count, now, first=not self.decision.made)
        if chosen:
            self.launch(chosen, tier, now)
        return chosen

    def retry(self, now: float) -> float | None:
        """Ask silent ones once more when all were asked and nobody has answered: a query or its
        reply may be lost. Return when to do it next.
        """
        pause = max(RETRY_INTERVAL, self.adaptive.window)
        if self.last_launch + pause > now + SLACK:
            return self.last_launch + pause
        replied = {outcome.upstream for outcome in self.decision.failing()}
        silent = self.candidates.take_silent(self._at_once, now, replied)
        self.last_launch = now
        self.launch(silent, STAGGERED, now)
        return now + pause

    def launch(self, upstreams: list[Upstream], tier: str, now: float) -> None:
        """Ask these upstreams, whoever they are."""
        self._busy = True
        if now + SLACK >= self.last_launch + self.adaptive.window:
            self._in_window = 0
        self._in_window += len(upstreams)
        self.last_launch = now
        self.adaptive.launches_window.see(self._in_window, now)
        if tier == ACTIVE:
            self.decision.ask_active(len(upstreams))
        unsigned = self.candidates.reserve.is_open
        for upstream in upstreams:
            exchange = upstream.ask(self.judge, tier, now, unsigned=unsigned)
            self.outstanding[exchange] = upstream
            exchange.on_hint = self._take_hint
            if tier == ACTIVE:
                outcome = exchange.deferred()
                outcome.addCallbacks(self._take, ignore_cancellation, callbackArgs=(exchange,))
            else:
                exchange.on_outcome(self._take)
        self._busy = False

    def end_exchange(self, exchange: Exchange, *, expired: bool) -> None:
        """End an exchange under way: with a failure if its time has ``expired``, else without a
        mark.
        """
        if expired:
            busy, self._busy = self._busy, True
            exchange.expire()
            self._busy = busy
        else:
            self._give_up(exchange, self.outstanding.pop(exchange))

    def _give_up(self, exchange: Exchange, upstream: Upstream) -> None:
        now = self._clock.seconds()
        self.history.append(GivenUp(upstream, exchange.tier, exchange.started, now))
        exchange.cancel()

    def finish(self) -> None:
        """End the run: nobody will be asked any more, and nobody is."""
        self._over = True
        self._disarm()
        decision = self.decision
        reasons: Sequence[Reason] = ()
        if decision.failures or decision.given_up:
            reasons = decision.reasons()
            for outcome in decision.blamed():
                outcome.upstream.blame(outcome, self.question)
            for outcome in decision.pardoned():
                outcome.upstream.pardon(outcome)
        if decision.negatives:
            contradicted = decision.contradicted()
            for outcome in decision.negatives:
                outcome.upstream.negative_trust.negative(contradicted=contradicted)
        self._observer.ended(reasons)

    def _take(self, outcome: Outcome, exchange: Exchange) -> None:
        if outcome.reason is _NO_EDNS:
            self.candidates.reserve.add(self.outstanding[exchange])
        del self.outstanding[exchange]
        self.history.append(outcome)
        decision = self.decision
        answered_before = decision.made
        self.heard(outcome, exchange)
        if decision.take(outcome):
            if answered_before:
                self._observer.more(outcome)
            else:
                self.answer(outcome, outcome.at)
        elif outcome.verdict is POSITIVE and outcome.answer is not None:
            outcome.drop_all_but((), DENIED)
        if self._busy:
            return
        if answered_before and (self.outstanding or self.candidates.waiting):
            return  # the timer sees to the rest
        self._advance(outcome.at)

    def _take_hint(self, exchange: Exchange) -> None:
        self.hinted_at = now = self._clock.seconds()
        self.hinted(exchange, now)
        if not self._busy and not self.decision.made:
            self._advance(now)

    def _advance(self, now: float) -> None:
        """See what is due at ``now``. Each part may end in a call that cancels the run."""
        candidates, decision = self.candidates, self.decision
        at_end = now + SLACK >= self._end
        if not self._over:
            if at_end or now + SLACK >= self._expire_at:
                self._expire(now, at_end)
            if decision.held is not None:
                self._settle_negative(now, at_end=at_end)
            if not candidates.reserve.is_open:
                self._consider_reserve(now)
        due = None
        if not (self._over or at_end):
            due = self.step(now)
            if decision.held is not None:
                self._settle_negative(now, at_end=False)
            if not decision.made and not candidates.waiting and self.outstanding:
                refused = self.hinted_at and not unrefused(self.outstanding)
                due = self._give_up_refused(now) if refused else self.retry(now)
        if self._over:
            return
        if not self.outstanding and (at_end or not candidates.waiting):
            self.finish()
        else:
            self._arm(due)

    def _settle_negative(self, now: float, *, at_end: bool) -> None:
        nobody_left = at_end or not (self.outstanding or self.candidates.waiting)
        negative = self.decision.settle(now + SLACK, nobody_left=nobody_left)
        if negative is not None:
            self.answer(negative, now)

    def _consider_reserve(self, now: float) -> None:
        """Have upstreams without signatures asked when all the others have failed or are silent."""
        if self.candidates.waiting or self.decision.answered:
            return
        silent = now + SLACK >= self.last_launch + max(RETRY_INTERVAL, self.adaptive.window)
        if silent or not self.outstanding:
            self.candidates.open_reserve()

    def _expire(self, now: float, at_end: bool) -> None:
        """End the exchanges whose time is up, at the end of the run all of them.

        One that the end of the run leaves less than half its time gets no mark.
        """
        while self.outstanding:
            exchange = next(iter(self.outstanding))
            waited = now + SLACK - exchange.started
            if waited >= self._timeout or (at_end and waited >= self._timeout / 2):
                self.end_exchange(exchange, expired=True)
            elif at_end:
                self.end_exchange(exchange, expired=False)
                self.decision.given_up += 1
            else:
                self._expire_at = exchange.started + self._timeout
                return
        self._expire_at = now + self._timeout

    def _give_up_refused(self, now: float) -> float:
        """Give up what is under way if all of it has been refused for long enough; return when
        that is.
        """
        end = give_up_at(self.outstanding.values(), self.hinted_at, now)
        if now + SLACK >= end:
            for exchange in list(self.outstanding):
                self.end_exchange(exchange, expired=True)
        return end

    def _arm(self, due: float | None) -> None:
        """Have the alarm go off at the earliest time at which anything is due.

        An alarm that is set for an earlier time stays: it sets itself anew when it goes off, which
        is cheaper than to replace it.
        """
        earliest = self._end
        if self._expire_at < earliest and self.outstanding:
            earliest = self._expire_at
        if due is not None and due < earliest:
            earliest = due
        if self.decision.held is not None and self.decision.grace_end < earliest:
            earliest = self.decision.grace_end
        if self._alarm is not None:
            if self._alarm_due <= earliest:
                return
            self._alarms.cancel(self._alarm)
        self._alarm_due = earliest
        self._alarm = self._alarms.set(earliest, self._fire)

    def _fire(self) -> None:
        self._alarm = None
        self._advance(self._clock.seconds())

    def _disarm(self) -> None:
        self.candidates.want_no_room()
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None
