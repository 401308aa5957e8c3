"""What every strategy has in common: exchanges under way, time limits, and the client's answer.

A `Run` asks upstreams one question. Its subclass decides whom to ask when, in `Run._step`, which
is called after every event: an outcome, or the one timer, set for the earliest time at which
something is due. The rules for the client's answer are here (SPEC section 2): a positive at
once; a negative when every upstream of the first tier has answered or the grace is over; a
failure never while anybody may still answer well. A negative in which the whole first tier
agreed stands, whatever others say later: one liar must not turn it into addresses.
"""

from __future__ import annotations

from typing import Protocol

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict

ACTIVE = "active"
STAGGERED = "staggered"
SLACK = 0.0001
"""Seconds by which a timer may fire early (rounding, two clocks) and still count as due."""


class Listener(Protocol):
    """Whoever wants the outcomes of a run."""

    def first(self, outcome: Outcome, tier: str) -> None:
        """Take the good answer that the client gets; called at most once."""

    def more(self, outcome: Outcome, tier: str) -> None:
        """Take a positive answer that came after the first."""

    def ended(self, asked: int, answered: int, reasons: list[str]) -> None:
        """Take the end of the run: how many upstreams were asked, how many answered well, and
        what was wrong with the others, in order.
        """


class Run:
    """One question on its way to several upstreams.

    ``timeout`` and ``total`` limit one exchange and the whole run, ``grace`` how long a
    first negative waits for something better: all in seconds.
    """

    def __init__(
        self,
        question: Question,
        listener: Listener,
        clock: IReactorTime,
        *,
        timeout: float,
        total: float,
        grace: float,
    ) -> None:
        self.question = question
        self._listener = listener
        self._clock = clock
        self._timeout = timeout
        self._grace = grace
        self._started = clock.seconds()
        self._end = self._started + total
        self._query = question.upstream_query()
        self._outstanding: dict[Exchange, None] = {}
        self._first_tier = 0
        self._first_tier_left = 0
        self._decided = False
        self._negative: Outcome | None = None
        self._negative_tier = ""
        self._grace_end = 0.0
        self._asked = 0
        self._answered = 0
        self._denied = 0  # negatives of the first tier
        self._denying = False  # the client got a negative, and nothing better has come since
        self._agreed = False  # the whole first tier denied: nobody else overturns that
        self._failed: list[Upstream] = []  # they replied, but not well
        self._reasons: list[str] = []
        self._timer: IDelayedCall | None = None
        self._timer_due = 0.0
        self._busy = False
        self._over = False

    def start(self) -> None:
        """Ask the first upstreams. The listener may be called before this returns."""
        self._advance()

    def cancel(self) -> None:
        """End the run now, without marks on anybody and without a call to the listener."""
        self._over = True
        for exchange in list(self._outstanding):
            exchange.cancel()
        self._outstanding.clear()
        self._disarm()

    def _step(self, now: float) -> float | None:
        """Do what is due at ``now``; return when something else will be, `None` if nothing.

        The limits that this class keeps are not the subclass's concern.
        """
        raise NotImplementedError

    def _finished_asking(self) -> bool:
        """Say whether no further upstream will be asked."""
        raise NotImplementedError

    def _heard_positive(self) -> None:
        """Take note of a positive answer before the listener does."""

    def _launch(self, upstreams: list[Upstream], tier: str) -> None:
        self._busy = True
        self._asked += len(upstreams)
        if tier == ACTIVE:
            self._first_tier += len(upstreams)
            self._first_tier_left += len(upstreams)
        for upstream in upstreams:
            exchange = upstream.ask(self.question, self._query, tier)
            self._outstanding[exchange] = None
            exchange.addCallbacks(self._take, _swallow_cancellation, callbackArgs=(exchange,))
        self._busy = False

    def _take(self, outcome: Outcome, exchange: Exchange) -> None:
        del self._outstanding[exchange]
        tier = exchange.tier
        if tier == ACTIVE:
            self._first_tier_left -= 1
        verdict = outcome.verdict
        decided = self._decided
        if verdict == Verdict.POSITIVE:
            self._answered += 1
            self._heard_positive()
            if not decided:
                self._decide(outcome, tier)
            elif not self._agreed:
                self._denying = False
                self._listener.more(outcome, tier)
        elif verdict == Verdict.NEGATIVE:
            self._answered += 1
            self._denied += tier == ACTIVE
            self._note_agreement()
            if not decided and self._negative is None:
                self._negative = outcome
                self._negative_tier = tier
                self._grace_end = self._clock.seconds() + self._grace
        else:
            self._reasons.append(outcome.reason)
            if verdict == Verdict.FAILURE:
                self._failed.append(outcome.upstream)
        if self._busy:
            return
        if decided and (self._outstanding or not self._finished_asking()):
            return  # the timer sees to the rest
        self._advance()

    def _decide(self, outcome: Outcome, tier: str) -> None:
        self._decided = True
        self._denying = outcome.verdict == Verdict.NEGATIVE
        self._listener.first(outcome, tier)

    def _advance(self) -> None:
        if self._ended():
            return
        now = self._clock.seconds()
        at_end = now + SLACK >= self._end
        self._expire(now, at_end)
        self._settle_negative(now)
        due = None
        if not at_end and not self._ended():
            due = self._step(now)
            self._settle_negative(now)
        if self._ended():  # the listener has cancelled us
            return
        if not self._outstanding and (at_end or self._finished_asking()):
            self._finish()
        else:
            self._arm(due)

    def _ended(self) -> bool:
        return self._over

    def _note_agreement(self) -> None:
        if self._denying and self._first_tier_left == 0 and self._denied == self._first_tier:
            self._agreed = True

    def _settle_negative(self, now: float) -> None:
        negative = self._negative
        if negative is None or self._decided:
            return
        nobody_left = not self._outstanding and self._finished_asking()
        if self._first_tier_left == 0 or now + SLACK >= self._grace_end or nobody_left:
            self._decide(negative, self._negative_tier)
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

    def _finish(self) -> None:
        self._over = True
        self._disarm()
        if self._decided:  # a failure that all have in common is the name's, not theirs
            for upstream in self._failed:
                upstream.blame()
        self._listener.ended(self._asked, self._answered, self._reasons)

    def _arm(self, due: float | None) -> None:
        """Have the timer fire at the earliest time at which anything is due.

        A timer that fires too early is left alone: it sets itself anew, which is cheaper
        than replacing it.
        """
        earliest = self._end if due is None else min(due, self._end)
        if self._outstanding:
            oldest = next(iter(self._outstanding))
            earliest = min(earliest, oldest.started + self._timeout)
        if self._negative is not None and not self._decided:
            earliest = min(earliest, self._grace_end)
        if self._timer is not None:
            if self._timer_due <= earliest:
                return
            self._timer.cancel()
        self._timer_due = earliest
        self._timer = self._clock.callLater(max(0.0, earliest - self._clock.seconds()), self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._advance()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _swallow_cancellation(failure: Failure) -> None:
    """Cancellations are our own doing; anything else is a defect and stays an error."""
    failure.trap(CancelledError)
