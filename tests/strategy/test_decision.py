"""The decision on one question, without a clock: every small case against the rules written
down once more (docs/specification.rst, Client's answer), and examples of each rule.
"""

from __future__ import annotations

from itertools import product
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pytest

from staggerdns.strategy.decision import Decision
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.upstream.exchange import Outcome
from staggerdns.upstream.reason import Reason
from staggerdns.wire.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

POSITIVE, NEGATIVE, FAILURE, ERROR = Verdict
KINDS = tuple(product((ACTIVE, STAGGERED), Verdict))
GRACE = 1.5
"""Ends between two outcomes, which come at 1, 2, 3 ... seconds."""
REASONS = {FAILURE: Reason.SERVFAIL, ERROR: Reason.CLOSED}


def outcome(verdict: Verdict, tier: str = ACTIVE, at: float = 0.0) -> Outcome:
    """An exchange that took a second and ended at ``at``."""
    nobody = cast("Any", None)
    return Outcome(nobody, verdict, None, REASONS.get(verdict), tier, at - 1.0, 1.0, at)


class Case(NamedTuple):
    """Outcomes in their order, and queries of the active and of any tier that stay without one."""

    kinds: Sequence[tuple[str, Verdict]]
    silent_active: int
    silent: int
    grace: float
    single: bool

    @property
    def end(self) -> float:
        """When nobody is left who could say more."""
        return inf if self.silent_active or self.silent else float(len(self.kinds))

    def times(self, verdict: Verdict) -> list[int]:
        """When outcomes with this verdict come."""
        return [at for at, kind in enumerate(self.kinds, 1) if kind[1] == verdict]


class Result(NamedTuple):
    """What comes of a question: the first answer and when it is given, which positives are of use
    after that, who is blamed and pardoned, and whose negatives were wrong; all by when they came.
    """

    answer: tuple[float, float] | None
    gains: list[int]
    blamed: list[int]
    pardoned: list[int]
    wrong: list[int]


def decided(case: Case) -> Result:
    """What `Decision` makes of a case, with a look at it each half second."""
    decision = Decision(case.grace, single=case.single)
    decision.ask_active(sum(tier == ACTIVE for tier, _ in case.kinds) + case.silent_active)
    coming = {float(at): kind for at, kind in enumerate(case.kinds, 1)}
    answer: tuple[float, float] | None = None
    gains = []
    for now in (tick / 2 for tick in range(2, 2 * len(coming) + 6)):
        if now in coming:
            tier, verdict = coming[now]
            if decision.take(outcome(verdict, tier, now)):
                if answer:
                    gains.append(int(now))
                else:
                    answer = now, now
        held = decision.settle(now, nobody_left=now >= case.end)
        if held is not None:
            assert answer is None
            answer = held.at, now
        assert decision.made == (answer is not None)
    return Result(
        answer,
        gains,
        [int(one.at) for one in decision.blamed()],
        [int(one.at) for one in decision.pardoned()],
        [int(one.at) for one in decision.negatives if decision.contradicted()],
    )


def by_the_rules(case: Case) -> Result:
    """What the rules say of a case, all outcomes known."""
    positives, negatives, failures, _ = map(case.times, Verdict)
    active = [verdict for tier, verdict in case.kinds if tier == ACTIVE]
    active_times = [at for at, (tier, _) in enumerate(case.kinds, 1) if tier == ACTIVE]
    active_end = inf if case.silent_active else max(active_times, default=0)
    first_positive = min(positives, default=inf)
    due = inf  # when the first negative is the answer, unless a positive has come by then
    if negatives:
        due = min(negatives[0] + case.grace, case.end)
        if NEGATIVE in active:
            due = min(due, max(active_end, negatives[0]))
    answer: tuple[float, float] | None = None
    gains = []
    overtaken = bool(positives) and first_positive <= due
    if overtaken:
        answer = first_positive, first_positive
        gains = positives[1:]
    elif due < inf:
        answer = negatives[0], due
        agreed_at = active_end if set(active) <= {NEGATIVE} else inf
        if first_positive < agreed_at:
            gains = positives
    if case.single:
        gains = []
    positive = (overtaken or bool(gains)) and not case.single
    wrong = positive and len(positives) >= len(negatives)
    return Result(
        answer,
        gains,
        failures if answer else [],
        [] if answer else failures,
        negatives if wrong else [],
    )


@pytest.mark.parametrize("length", range(5))
def test_every_small_case(length: int) -> None:
    """Up to four outcomes of both tiers in every order, others silent or not: as the rules say."""
    silent = ((0, 0), (1, 0), (0, 1))
    for kinds, (silent_active, others), grace, single in product(
        product(KINDS, repeat=length), silent, (0.0, GRACE, inf), (False, True)
    ):
        case = Case(kinds, silent_active, others, grace, single)
        assert decided(case) == by_the_rules(case), case


def decide(*verdicts: Verdict, active: int = 2, grace: float = 0.03) -> Decision:
    """A decision that has taken these from the active tier, a second apart, and the rest from the
    staggered one.
    """
    decision = Decision(grace, single=False)
    decision.ask_active(active)
    for at, verdict in enumerate(verdicts):
        decision.take(outcome(verdict, ACTIVE if at < active else STAGGERED, float(at)))
        decision.settle(float(at), nobody_left=False)
    return decision


def test_nothing_is_decided_at_the_start() -> None:
    """Before anything came there is no answer, no negative and nobody to blame."""
    decision = decide()
    assert not decision.made
    assert not decision.negative
    assert decision.held is None
    assert decision.answered == 0
    assert decision.active_left == 2
    assert decision.settle(1e9, nobody_left=True) is None
    assert list(decision.reasons()) == []


@pytest.mark.parametrize(("at", "given"), [(10.0299, False), (10.03, True), (10.0301, True)])
def test_a_negative_waits_for_the_grace(at: float, given: bool) -> None:
    """Not a moment less than the grace, and not a moment more."""
    decision = Decision(0.03, single=False)
    decision.ask_active(2)
    negative = outcome(NEGATIVE, at=10.0)
    assert not decision.take(negative)
    assert decision.grace_end == 10.03
    assert (decision.settle(at, nobody_left=False) is negative) == given
    assert decision.made == decision.negative == given
    assert (decision.held is None) == given


def test_the_grace_begins_with_the_first_negative() -> None:
    """A second negative does not prolong it, and it is the first that the client gets."""
    decision = Decision(0.03, single=False)
    decision.ask_active(3)
    first = outcome(NEGATIVE, at=10.0)
    decision.take(first)
    decision.take(outcome(NEGATIVE, at=10.02))
    assert decision.grace_end == 10.03
    assert decision.settle(10.03, nobody_left=False) is first


def test_a_positive_in_the_grace_wins() -> None:
    """Then nothing waits any more, and the end of the grace gives nothing."""
    decision = Decision(0.03, single=False)
    decision.ask_active(2)
    decision.take(outcome(NEGATIVE, at=10.0))
    assert decision.take(outcome(POSITIVE, at=10.02))
    assert decision.held is None
    assert not decision.negative
    assert decision.settle(10.03, nobody_left=True) is None


def test_a_negative_behind_the_answer_waits_for_nothing() -> None:
    """The client has its answer."""
    decision = decide(POSITIVE, NEGATIVE)
    assert decision.held is None
    assert decision.answered == 2


def test_agreement_may_be_complete_behind_the_answer() -> None:
    """A negative given at the end of the grace stands from the moment when the last active
    upstream has said the same.
    """
    early = decide(NEGATIVE, grace=0.0)
    assert early.made
    assert early.take(outcome(POSITIVE, STAGGERED))
    late = decide(NEGATIVE, NEGATIVE, grace=0.0)
    assert not late.take(outcome(POSITIVE, STAGGERED))
    assert late.negative
    assert late.answered == 3


def test_a_tier_that_is_asked_one_by_one_agrees_for_those_asked() -> None:
    """Upstreams that join the active tier later count from then on."""
    decision = Decision(10.0, single=False)
    decision.ask_active(1)
    decision.take(outcome(FAILURE))
    decision.ask_active(1)
    assert decision.active_left == 1
    negative = outcome(NEGATIVE)
    decision.take(negative)
    assert decision.settle(0.0, nobody_left=False) is negative


@pytest.mark.parametrize(
    ("verdicts", "agreed"), [((NEGATIVE, NEGATIVE), True), ((FAILURE, NEGATIVE), False)]
)
def test_those_who_joined_the_tier_have_to_agree_too(
    verdicts: Sequence[Verdict], agreed: bool
) -> None:
    """The whole active tier is all who were asked, at once or one by one: a negative stands
    against a later positive if all of them said it, and not if the last one alone did.
    """
    decision = Decision(10.0, single=False)
    for verdict in verdicts:
        decision.ask_active(1)
        decision.take(outcome(verdict))
    assert decision.settle(0.0, nobody_left=False) is not None
    assert decision.take(outcome(POSITIVE, STAGGERED)) is not agreed
    assert decision.negative is agreed


def test_a_single_answer_is_the_end_of_it() -> None:
    """Where one answer is all that is wanted, no other positive is of use or against anybody."""
    decision = Decision(0.0, single=True)
    decision.ask_active(1)
    assert decision.take(outcome(POSITIVE))
    assert not decision.take(outcome(POSITIVE, STAGGERED))
    decision.take(outcome(NEGATIVE, STAGGERED))
    assert not decision.contradicted()


@pytest.mark.parametrize(
    ("verdicts", "contradicted"),
    [
        ((POSITIVE, NEGATIVE), True),
        ((POSITIVE, NEGATIVE, NEGATIVE), False),
        ((POSITIVE, NEGATIVE, NEGATIVE, POSITIVE), True),
        ((NEGATIVE, FAILURE, POSITIVE), True),
        ((NEGATIVE, NEGATIVE, POSITIVE, POSITIVE, POSITIVE), False),
    ],
)
def test_negatives_are_wrong_by_a_majority(verdicts: Sequence[Verdict], contradicted: bool) -> None:
    """At least as many positives, unless the whole active tier agreed."""
    assert decide(*verdicts).contradicted() == contradicted


@pytest.mark.parametrize("answer", [POSITIVE, NEGATIVE])
def test_failing_replies_are_blamed_when_others_answered(answer: Verdict) -> None:
    """A network error has its mark already, and is neither blamed nor pardoned here."""
    decision = decide(FAILURE, answer, ERROR, FAILURE)
    assert [one.at for one in decision.blamed()] == [0.0, 3.0]
    assert decision.pardoned() == []


def test_failing_replies_are_pardoned_when_nobody_answered() -> None:
    """What fails everywhere is the name's fault."""
    decision = decide(FAILURE, ERROR, FAILURE)
    assert decision.blamed() == []
    assert [one.at for one in decision.pardoned()] == [0.0, 2.0]


def test_reasons() -> None:
    """Those of failing replies and network errors in their order, then what was given up."""
    decision = decide(ERROR, FAILURE, NEGATIVE, POSITIVE)
    decision.given_up += 2
    assert list(decision.reasons()) == [
        Reason.CLOSED,
        Reason.SERVFAIL,
        Reason.TIMEOUT,
        Reason.TIMEOUT,
    ]
