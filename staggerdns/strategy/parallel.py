"""Strategy ``parallel``: an active tier at once, all the others in timed batches.

(docs/specification.rst, Tiers.) The active tier is asked at t = 0. The staggered tier begins at the
earliest of the first good answer, ``fallback_timeout``, and the failure of the whole active tier.
Its batches keep ``stagger_delay`` between launches, so that no such window sees more than one
launch; only a failed active tier lets the first batch go without waiting.
"""

from __future__ import annotations

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.alarms import SLACK
from staggerdns.strategy.decision import Decision
from staggerdns.strategy.learned import Choice
from staggerdns.strategy.observer import Observer
from staggerdns.strategy.run import Run
from staggerdns.strategy.strategy import StrategyContext
from staggerdns.strategy.tiers import ACTIVE, SHARED, STAGGERED
from staggerdns.upstream.exchange import Exchange, Outcome
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.judge import Judge
from staggerdns.wire.verdict import POSITIVE

MAX_DELAYS = 3
"""How often a run delays batches for which budgets have no room, each time for twice as long."""


class Parallel:
    """Starts runs in two tiers over ``context.upstreams``."""

    name = "parallel"

    def __init__(self, context: StrategyContext) -> None:
        self.context = context
        self.settings: ParallelSettings = context.settings.parallel
        self.timeout = min(context.settings.timeout, self.settings.total_collect_timeout)
        metrics = context.metrics
        self.active_outcomes = {
            outcome: metrics.active_tier.cell(outcome)
            for outcome in ("answered", "negative", "fallback", "failed")
        }
        self.staggered_starts = {
            reason: metrics.staggered_starts.cell(reason)
            for reason in ("answered", "fallback", "failed")
        }
        self.spared = metrics.staggered_spared.cell()
        metrics.fallback_timeout.read_from(self.fallback_timeout)
        self.learned = context.adaptive.learned
        if self.learned is not None:
            metrics.pool_completeness.read_from(self.learned.completeness)

    def ask(self, judge: Judge, observer: Observer) -> Run:
        """Return a run that asks the question of ``judge``; start it to send the first queries."""
        return ParallelRun(self, judge, observer)

    def fallback_timeout(self) -> float:
        """Return the seconds that the active tier has now: as configured, or as learnt."""
        configured = self.settings.fallback_timeout
        return configured if configured is not None else self.context.adaptive.fallback.seconds


class ParallelRun(Run):
    """One question in two tiers."""

    __slots__ = (
        "_active_noted",
        "_batches",
        "_choice",
        "_delays",
        "_fallback_at",
        "_known",
        "_measured",
        "_put_off_until",
        "_settings",
        "_staggering",
        "_strategy",
    )
    strategy = "parallel"
    wants_all = True

    def __init__(self, strategy: Parallel, judge: Judge, observer: Observer) -> None:
        settings, context = strategy.settings, strategy.context
        now = context.clock.seconds()
        super().__init__(
            judge,
            observer,
            context.clock,
            context.alarms,
            started=now,
            timeout=strategy.timeout,
            total=settings.total_collect_timeout,
            decision=Decision(settings.negative_grace, single=False),
            adaptive=context.adaptive,
            waiting=context.upstreams.arranged(now),
            at_once=settings.active_tier_size,
        )
        self._strategy = strategy
        self._settings = settings
        self._fallback_at = 0.0  # known when the active tier has been asked
        self._active_noted = False
        self._staggering = False
        self._batches = 0
        self._delays = 0
        self._put_off_until = 0.0
        self._choice: Choice | None = None  # who is asked if it is not everybody
        self._known: AddressPool | None = None
        self._measured = True  # everybody is asked
        if strategy.learned is not None and judge.question.mergeable:
            self._known = observer.known()
            self._measured = strategy.learned.begin(judge.question.name, now)

    def step(self, now: float) -> float | None:
        """Ask the active tier, and then each batch of the staggered one when it is due."""
        if not self.candidates.asked and not self._ask_active(now):
            return self.candidates.room_at(now)
        if not self._staggering:
            self._begin_staggering(now)
        while self.candidates.waiting:
            due = self._next_batch(now)
            if due > now + SLACK:
                return due
            if not self._launch_batch(now):
                return self._put_off(now)
        return None

    def _ask_active(self, now: float) -> bool:
        size = self._settings.active_tier_size
        if self._strategy.context.journal.verbose:
            self._log(
                "{name}: {active} upstreams at once, {staggered} staggered",
                active=min(size, len(self.candidates.waiting)),
                staggered=max(0, len(self.candidates.waiting) - size),
            )
        self.last_launch = now
        self._fallback_at = now + self._strategy.fallback_timeout()
        return bool(self.ask_next(size, ACTIVE, now))

    def _begin_staggering(self, now: float) -> None:
        """Decide whether the staggered tier begins, and why."""
        if self.decision.made:
            self._begin("answered")
        elif self._active_has_failed():
            self._note_active("failed")
            self._begin("failed")
        elif now + SLACK >= self._fallback_at and self.candidates.waiting:
            self._note_active("fallback")
            self._begin("fallback")

    def _active_has_failed(self) -> bool:
        if self.decision.answered:
            return False
        return self.decision.active_left == 0 or (self.hinted_at > 0 and self._active_is_refused())

    def _active_is_refused(self) -> bool:
        return all(one.hinted or one.tier != ACTIVE for one in self.outstanding)

    def _begin(self, reason: str) -> None:
        self._staggering = True
        if self.candidates.waiting:
            self._strategy.staggered_starts[reason].value += 1
            if self._strategy.context.journal.verbose:
                self._log("{name}: staggered tier begins: {reason}", reason=reason)

    def _next_batch(self, now: float) -> float:
        if not self._batches and self._active_has_failed():
            return now
        after_last = self.last_launch + self._settings.stagger_delay
        if self._staggering:
            return max(after_last, self._put_off_until) if self._delays else after_last
        # Not begun: look again when a batch could go at the earliest, so that the usual case,
        # an answer before that, needs no second timer.
        if after_last > now + SLACK:
            return after_last
        return self._fallback_at

    def _launch_batch(self, now: float) -> bool:
        launched = len(self.ask_next(self._settings.batch_size, STAGGERED, now))
        if launched:
            self._batches += 1
            if self._strategy.context.journal.verbose:
                self._log("{name}: staggered batch of {size}", size=launched)
        return bool(launched)

    def _put_off(self, now: float) -> float | None:
        """Delay a batch for which the budgets have no room, and at last leave it out."""
        if not self.decision.made:
            return self.candidates.room_at(now)
        if self._delays == MAX_DELAYS:
            self._skip_the_rest()
            return None
        self._delays += 1
        self._put_off_until = now + self._settings.stagger_delay * (1 << self._delays)
        return self._put_off_until

    def heard(self, outcome: Outcome, exchange: Exchange) -> None:
        """Ask nobody else after a positive answer that nothing can be merged into."""
        if outcome.verdict is POSITIVE and not self.question.mergeable:
            self.candidates.waiting = []

    def answer(self, outcome: Outcome, now: float) -> None:
        """Give the client its answer, and count what became of the active tier."""
        if outcome.tier == ACTIVE:
            self._note_active("answered" if outcome.verdict is POSITIVE else "negative")
            if self._settings.fallback_timeout is None:
                self.adaptive.fallback.add(outcome.seconds)
        self._choose()
        super().answer(outcome, now)

    def leaves_out(self) -> bool:
        """Return whether some are not asked for a pool that would add nothing to it."""
        return not self._measured

    def _choose(self) -> None:
        """Leave out those who would add nothing to the answer, unless it is to be learnt who that
        is, or somebody has denied the name whom others may contradict.
        """
        learned, waiting = self._strategy.learned, self.candidates.waiting
        if learned is None or not self.question.mergeable:
            return
        asked = [
            one.upstream.name
            for one in self.history
            if isinstance(one, Outcome) and one.tier != SHARED and one.reason is None
        ]
        asked += [upstream.name for upstream in self.outstanding.values()]
        self._choice = choice = learned.choose(asked, waiting, self._known)
        if not (self._measured or self.decision.can_turn):
            self.candidates.waiting = chosen = learned.only(waiting, choice)
            self.spared = len(waiting) - len(chosen)
            self._strategy.spared.value += self.spared

    def finish(self) -> None:
        """End the run, and count those who were not asked."""
        if not self.decision.made:
            self._note_active("failed")
        self._skip_the_rest()
        learned = self._strategy.learned
        if learned is not None and self._measured and self._choice is not None:
            outcomes = [one for one in self.history if isinstance(one, Outcome)]
            learned.measure([one for one in outcomes if one.tier != SHARED], self._choice)
        super().finish()

    def _skip_the_rest(self) -> None:
        """Ask nobody any more; count those for whom the budgets or the time left no room."""
        for upstream in self.candidates.waiting:
            upstream.skipped.value += 1
        self.candidates.waiting = []

    def _note_active(self, outcome: str) -> None:
        if not self._active_noted:
            self._active_noted = True
            self._strategy.active_outcomes[outcome].value += 1

    def _log(self, format: str, **fields: object) -> None:
        self._strategy.context.journal.debug(format, name=str(self.question), **fields)
