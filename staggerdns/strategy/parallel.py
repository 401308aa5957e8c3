"""Strategy ``parallel``: an active tier at once, all the others in timed batches.

(SPEC section 2.) The active tier is asked at t = 0. The staggered tier begins at the earliest of
the first good answer, ``fallback_timeout``, and the failure of the whole active tier. Its
batches keep ``stagger_delay`` between launches, so that no such window sees more than one
launch; only a failed active tier lets the first batch go without waiting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from twisted.internet.interfaces import IReactorTime

from staggerdns.journal import Journal
from staggerdns.metrics import Maximum, Metrics
from staggerdns.strategy.run import ACTIVE, SLACK, STAGGERED, Listener, Run
from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.upstream import Upstream, order
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The numbers of the two tiers; times in seconds."""

    active_tier_size: int = 2
    fallback_timeout: float = 0.3
    batch_size: int = 2
    stagger_delay: float = 0.05
    total_collect_timeout: float = 3.0
    negative_grace: float = 0.03


class Parallel:
    """Starts runs over ``upstreams``; ``timeout`` is what one exchange may take, in seconds."""

    name = "parallel"

    def __init__(
        self,
        upstreams: Sequence[Upstream],
        pace: Pace,
        timeout: float,
        clock: IReactorTime,
        metrics: Metrics,
        journal: Journal,
    ) -> None:
        self._upstreams = list(upstreams)
        self.pace = pace
        self.timeout = timeout
        self.clock = clock
        self.journal = journal
        self.active_outcomes = {
            outcome: metrics.active_tier.cell(outcome)
            for outcome in ("answered", "negative", "fallback", "failed")
        }
        self.staggered_starts = {
            reason: metrics.staggered_starts.cell(reason)
            for reason in ("answered", "fallback", "failed")
        }
        self.launches_window = Maximum()
        metrics.launches_window_max.read_from(lambda: self.launches_window.at(clock.seconds()))

    def ask(self, question: Question, listener: Listener) -> Run:
        """Return a run that asks ``question``; start it to send the first queries."""
        ordered = order(self._upstreams, self.clock.seconds())
        return ParallelRun(self, question, listener, ordered)


class ParallelRun(Run):
    """One question in two tiers."""

    def __init__(
        self, strategy: Parallel, question: Question, listener: Listener, ordered: list[Upstream]
    ) -> None:
        pace = strategy.pace
        super().__init__(
            question,
            listener,
            strategy.clock,
            timeout=strategy.timeout,
            total=pace.total_collect_timeout,
            grace=pace.negative_grace,
        )
        self._strategy = strategy
        self._pace = pace
        self._active = ordered[: pace.active_tier_size]
        self._waiting = ordered[pace.active_tier_size :]  # the staggered tier, not yet asked
        self._active_noted = False
        self._staggering = False
        self._batches = 0
        self._last_launch = self._started
        self._in_window = 0

    def _finished_asking(self) -> bool:
        return not self._waiting and not self._active

    def _step(self, now: float) -> float | None:
        if self._active:
            active, self._active = self._active, []
            self._note_launch(now, len(active))
            if self._strategy.journal.verbose:
                self._log(
                    "{name}: {active} upstreams at once, {staggered} staggered",
                    active=len(active),
                    staggered=len(self._waiting),
                )
            self._launch(active, ACTIVE)
        if not self._staggering:
            self._begin_staggering(now)
        while self._waiting:
            due = self._next_batch(now)
            if due > now + SLACK:
                return due
            self._launch_batch(now)
        return None

    def _begin_staggering(self, now: float) -> None:
        """Decide whether the staggered tier begins, and why."""
        pace = self._pace
        if self._decided:
            self._begin("answered")
        elif self._active_has_failed():
            self._note_active("failed")
            self._begin("failed")
        elif now + SLACK >= self._started + pace.fallback_timeout and self._waiting:
            self._note_active("fallback")
            self._begin("fallback")

    def _active_has_failed(self) -> bool:
        return self._first_tier_left == 0 and self._negative is None and not self._decided

    def _begin(self, reason: str) -> None:
        self._staggering = True
        if self._waiting:
            self._strategy.staggered_starts[reason].value += 1
            if self._strategy.journal.verbose:
                self._log("{name}: staggered tier begins: {reason}", reason=reason)

    def _next_batch(self, now: float) -> float:
        if not self._batches and self._active_has_failed():
            return now
        after_last = self._last_launch + self._pace.stagger_delay
        if self._staggering:
            return after_last
        # Not begun: look again when a batch could go at the earliest, so that the usual case,
        # an answer before that, needs no second timer.
        if after_last > now + SLACK:
            return after_last
        return self._started + self._pace.fallback_timeout

    def _launch_batch(self, now: float) -> None:
        size = self._pace.batch_size
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        self._batches += 1
        self._note_launch(now, len(batch))
        if self._strategy.journal.verbose:
            self._log("{name}: staggered batch of {size}", size=len(batch))
        self._launch(batch, STAGGERED)

    def _note_launch(self, now: float, count: int) -> None:
        if now + SLACK >= self._last_launch + self._pace.stagger_delay:
            self._in_window = 0
        self._in_window += count
        self._last_launch = now
        self._strategy.launches_window.see(self._in_window, now)

    def _heard_positive(self) -> None:
        if not self.question.mergeable:
            self._waiting = []  # nothing that others say could join this answer

    def _decide(self, outcome: Outcome, tier: str) -> None:
        if tier == ACTIVE:
            self._note_active("answered" if outcome.verdict == Verdict.POSITIVE else "negative")
        super()._decide(outcome, tier)

    def _finish(self) -> None:
        if not self._decided:
            self._note_active("failed")
        super()._finish()

    def _note_active(self, outcome: str) -> None:
        if not self._active_noted:
            self._active_noted = True
            self._strategy.active_outcomes[outcome].value += 1

    def _log(self, format: str, **fields: object) -> None:
        self._strategy.journal.debug(format, name=str(self.question), **fields)
