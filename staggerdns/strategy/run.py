"""What every strategy has in common: exchanges under way, time limits, and the client's answer.

A `Run` asks upstreams one question. Its subclass decides whom to ask when, in `Run._step`, which
is called after every event: an outcome, or the one timer, set for the earliest time at which
something is due. The rules for the client's answer are here (SPEC section 2): a positive at
once; a negative when every upstream of the first tier has answered, or the grace is over; a
failure never while anybody may still answer well. A negative in which the whole first tier
agreed stands, whatever others say later: one liar must not turn it into addresses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from staggerdns.strategy.adaptive import Adaptive
from staggerdns.strategy.alarms import SLACK, Alarm, Alarms
from staggerdns.strategy.candidates import Candidates
from staggerdns.strategy.listener import Listener
from staggerdns.upstream.dialect import NO_EDNS
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.refusals import give_up_at, unrefused
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict

ACTIVE = "active"
STAGGERED = "staggered"
AGAIN_AFTER = 1.0
"""Seconds after the last query to the next round, when nobody has answered."""


class Run(ABC):
    """One question on its way to several upstreams.

    ``timeout`` and ``total`` limit one exchange and the whole run, ``grace`` how long a
    first negative waits for something better: all in seconds. ``waiting``: the upstreams, best
    first; ``at_once``: how many of them are asked together when all have been silent.
    """

    # fmt: off
    __slots__ = (
        "question", "_listener", "_clock", "_alarms", "_timeout", "_grace", "_adaptive", "_at_once",
        "_started", "_end", "_candidates", "_last_launch", "_in_window", "_outstanding",
        "_first_tier", "_first_tier_left", "_decided", "_negative", "_negative_tier", "_grace_end",
        "_answered", "_denied", "_denying", "_agreed", "_deniers", "_failed", "_reasons", "_alarm",
        "_alarm_due", "_busy", "_over", "_hinted_at",
    )
    # fmt: on
    strategy = ""
    """The name of the strategy, for the metrics."""

    def __init__(
        self,
        question: Question,
        listener: Listener,
        clock: IReactorTime,
        alarms: Alarms,
        *,
        timeout: float,
        total: float,
        grace: float,
        adaptive: Adaptive,
        waiting: list[Upstream],
        at_once: int,
    ) -> None:
        self.question = question
        self._listener = listener
        self._clock = clock
        self._alarms = alarms
        self._timeout = timeout
        self._grace = grace
        self._adaptive = adaptive
        self._at_once = at_once
        self._started = clock.seconds()
        self._end = self._started + total
        self._candidates = Candidates(waiting, adaptive, signed=question.do)
        self._last_launch = self._started
        self._in_window = 0
        self._outstanding: dict[Exchange, None] = {}
        self._first_tier = 0
        self._first_tier_left = 0
        self._decided = False
        self._negative: Outcome | None = None
        self._negative_tier = ""
        self._grace_end = 0.0
        self._answered = 0
        self._denied = 0  # negatives of the first tier
        self._denying = False  # the client got a negative, and nothing better has come since
        self._agreed = False  # the whole first tier denied: nobody else overturns that
        self._deniers: list[Upstream] = []
        self._failed: list[tuple[Outcome, float]] = []  # they replied, but not well
        self._reasons: list[str] = []
        self._alarm: Alarm | None = None
        self._alarm_due = 0.0
        self._busy = False
        self._over = False
        self._hinted_at = 0.0  # when the last exchange was refused

    def start(self) -> None:
        """Ask the first upstreams. The listener may be called before this returns."""
        self._advance(self._started)

    def cancel(self) -> None:
        """End the run now, without marks on anybody and without a call to the listener."""
        self._over = True
        self._drop_outstanding()
        self._disarm()
        for outcome, asked in self._failed:
            outcome.upstream.pardon(asked)

    @abstractmethod
    def _step(self, now: float) -> float | None:
        """Do what is due at ``now``; return when something else will be, `None` if nothing.

        The limits that this class keeps are not the subclass's concern.
        """

    def _ask_next(self, count: int, tier: str, now: float) -> list[Upstream]:
        """Ask up to ``count`` of those that wait and whose budget has room; return them."""
        chosen = self._candidates.take(count, now, first=not self._decided)
        if chosen:
            self._launch(chosen, tier, now)
        return chosen

    def _heard(self, outcome: Outcome, exchange: Exchange) -> None:  # noqa: B027 (not all need it)
        """Take note of an outcome before anything follows from it."""

    def _heard_hint(self, exchange: Exchange) -> None:  # noqa: B027 (not all need it)
        """Take note of an ICMP error before anything follows from it."""

    def _ask_again(self, now: float) -> float | None:
        """Ask silent ones once more when all were asked and nobody has answered: a query or its
        reply may be lost. Return when to do it next.
        """
        pause = max(AGAIN_AFTER, self._adaptive.window)
        if self._last_launch + pause > now + SLACK:
            return self._last_launch + pause
        replied = {outcome.upstream for outcome, _ in self._failed}
        silent = self._candidates.take_silent(self._at_once, now, replied)
        self._last_launch = now
        self._launch(silent, STAGGERED, now)
        return now + pause

    def _launch(self, upstreams: list[Upstream], tier: str, now: float) -> None:
        self._busy = True
        if now + SLACK >= self._last_launch + self._adaptive.window:
            self._in_window = 0
        self._in_window += len(upstreams)
        self._last_launch = now
        self._adaptive.launches_window.see(self._in_window, now)
        if tier == ACTIVE:
            self._first_tier += len(upstreams)
            self._first_tier_left += len(upstreams)
        unsigned = self._candidates.reserve.is_open
        for upstream in upstreams:
            exchange = upstream.ask(self.question, tier, now, unsigned=unsigned)
            self._outstanding[exchange] = None
            exchange.on_hint = self._take_hint
            if tier == ACTIVE:
                exchange.addCallbacks(self._take, _swallow_cancellation, callbackArgs=(exchange,))
            else:
                exchange.tell(self._take)
        self._busy = False

    def _take(self, outcome: Outcome, exchange: Exchange) -> None:
        del self._outstanding[exchange]
        tier = exchange.tier
        if tier == ACTIVE:
            self._first_tier_left -= 1
        verdict = outcome.verdict
        decided = self._decided
        self._heard(outcome, exchange)
        if verdict == Verdict.POSITIVE:
            self._answered += 1
            if not decided:
                self._decide(outcome, tier, outcome.at)
            elif not self._agreed:
                self._denying = False
                self._listener.more(outcome, tier)
        elif verdict == Verdict.NEGATIVE:
            self._answered += 1
            self._deniers.append(outcome.upstream)
            self._denied += tier == ACTIVE
            self._note_agreement()
            if not decided and self._negative is None:
                self._negative = outcome
                self._negative_tier = tier
                self._grace_end = outcome.at + self._grace
        else:
            self._reasons.append(outcome.reason)
            if outcome.reason == NO_EDNS:
                self._candidates.reserve.add(outcome.upstream)
            if verdict == Verdict.FAILURE:
                self._failed.append((outcome, exchange.started))
        if self._busy:
            return
        if decided and (self._outstanding or self._candidates.waiting):
            return  # the timer sees to the rest
        self._advance(outcome.at)

    def _take_hint(self, exchange: Exchange) -> None:
        self._hinted_at = now = self._clock.seconds()
        self._heard_hint(exchange)
        if not self._busy and not self._decided:
            self._advance(now)

    def _decide(self, outcome: Outcome, tier: str, now: float) -> None:
        self._decided = True
        self._candidates.want_no_room()
        self._adaptive.racing_delay.latency.add(outcome.seconds, now)
        self._denying = outcome.verdict == Verdict.NEGATIVE
        self._listener.first(outcome, tier)

    def _drop_outstanding(self) -> None:
        """Cancel what is under way, without a mark: those queries lost a race."""
        losers, self._outstanding = list(self._outstanding), {}
        for exchange in losers:
            exchange.cancel()

    def _advance(self, now: float) -> None:
        if self._over:
            return
        candidates = self._candidates
        at_end = now + SLACK >= self._end
        if self._outstanding:
            self._expire(now, at_end)
        if self._negative is not None:
            self._settle_negative(now, at_end=at_end)
        due = None
        if not candidates.reserve.is_open:
            self._consider_reserve(now)
        if not at_end and not self._ended():
            due = self._step(now)
            if self._negative is not None:
                self._settle_negative(now)
            if not self._decided and not candidates.waiting and self._outstanding:
                refused = self._hinted_at and not unrefused(self._outstanding)
                due = self._bear_refusals(now) if refused else self._ask_again(now)
        if self._ended():  # the listener has cancelled us
            return
        if not self._outstanding and (at_end or not candidates.waiting):
            self._finish()
        else:
            self._arm(due)

    def _consider_reserve(self, now: float) -> None:
        """Do without signatures when all who may give them have failed, or are silent."""
        if self._candidates.waiting or self._decided or self._negative is not None:
            return
        silent = now + SLACK >= self._last_launch + max(AGAIN_AFTER, self._adaptive.window)
        if silent or not self._outstanding:
            self._candidates.open_reserve()

    def _ended(self) -> bool:
        return self._over

    def _note_agreement(self) -> None:
        if self._denying and self._first_tier_left == 0 and self._denied == self._first_tier:
            self._agreed = True

    def _settle_negative(self, now: float, *, at_end: bool = False) -> None:
        negative = self._negative
        if negative is None or self._decided:
            return
        nobody_left = not self._outstanding and not self._candidates.waiting
        first_tier_denies = self._first_tier_left == 0 and self._denied
        if first_tier_denies or now + SLACK >= self._grace_end or nobody_left or at_end:
            self._decide(negative, self._negative_tier, now)
            self._note_agreement()

    def _expire(self, now: float, at_end: bool) -> None:
        """End the exchanges whose time is up, at the end of the run all of them.

        One that the end of the run leaves less than half its time gets no mark.
        """
        self._busy = True
        while self._outstanding:
            exchange = next(iter(self._outstanding))  # in the order in which they were asked
            waited = now + SLACK - exchange.started
            if waited >= self._timeout or (at_end and waited >= self._timeout / 2):
                exchange.expire()
            elif at_end:
                del self._outstanding[exchange]
                exchange.cancel()
                self._reasons.append("timeout")
            else:
                break
        if at_end:
            self._first_tier_left = 0
        self._busy = False

    def _bear_refusals(self, now: float) -> float:
        """Give up those that have been refused in vain for long enough; return when that is so."""
        end = give_up_at(self._outstanding, self._hinted_at, now)
        if now + SLACK >= end:
            self._busy = True
            for exchange in list(self._outstanding):
                exchange.expire()
            self._busy = False
        return end

    def _finish(self) -> None:
        self._over = True
        self._disarm()
        for outcome, asked in self._failed:
            if self._decided:
                outcome.upstream.blame(outcome.reason, asked, self.question)
            else:  # a failure that all have in common is the name's, not theirs
                outcome.upstream.pardon(asked)
        # By at least as many: who invents names must not discredit those who know better.
        outvoted = self._answered >= 2 * len(self._deniers) and not self._denying
        for upstream in self._deniers:
            upstream.credit.denied(contradicted=outvoted and not self._agreed)
        self._listener.ended(self._candidates.asked, self._answered, self._reasons)

    def _arm(self, due: float | None) -> None:
        """Have the alarm go off at the earliest time at which anything is due.

        One that goes off too early is left alone: it sets itself anew, which is cheaper
        than replacing it.
        """
        earliest = self._end if due is None else min(due, self._end)
        if self._outstanding:
            oldest = next(iter(self._outstanding))
            earliest = min(earliest, oldest.started + self._timeout)
        if self._negative is not None and not self._decided:
            earliest = min(earliest, self._grace_end)
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
        self._candidates.want_no_room()
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None


def _swallow_cancellation(failure: Failure) -> None:
    """Cancellations are our own doing; anything else is a defect and stays an error."""
    failure.trap(CancelledError)
