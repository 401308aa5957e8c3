"""The promises of docs/specification.rst, Tiers for any upstreams and any settings.

What should have happened is worked out from the recorded launches and the script alone: see
`Expected`, which knows nothing of the strategy's state.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import example, given, settings
from hypothesis import strategies as st

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.strategy.alarms import SLACK
from staggerdns.strategy.run import RETRY_INTERVAL
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from tests.kit.acts import (
    AAAA,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SILENT,
    Act,
    fails,
    garbles,
    negative,
    own,
    says_own,
    unreachable,
)
from tests.kit.compiled import PURE_ONLY
from tests.kit.effort import amount
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from collections.abc import Sequence

POSITIVE, NEGATIVE, FAILURE = "positive", "negative", "failure"
TOLERANCE = SLACK * 1000 * 2
"""Milliseconds that a timer may be early, and what follows from it."""


@dataclass(frozen=True)
class Script:
    """One upstream: what comes of a query, and after how many milliseconds."""

    worth: str
    after: float | None
    act: Act


@dataclass(frozen=True)
class Numbers:
    """Settings in milliseconds."""

    active: int
    batch: int
    fallback: float
    stagger: int
    total: float
    grace: float
    timeout: float

    @property
    def pace(self) -> ParallelSettings:
        """The same as the strategy takes them."""
        return ParallelSettings(
            active_tier_size=self.active,
            batch_size=self.batch,
            fallback_timeout=self.fallback / 1000,
            stagger_delay=self.stagger / 1000,
            total_collect_timeout=self.total / 1000,
            negative_grace=self.grace / 1000,
            max_pool_size=50,
        )


DEFAULTS = Numbers(
    active=2, batch=2, fallback=300.15, stagger=50, total=3000.6, grace=30.75, timeout=3000.3
)
_AFTER = st.one_of(st.integers(0, 120), st.integers(0, 4000))


@st.composite
def scripts(draw: st.DrawFn) -> list[Script]:
    """Between 2 and 50 upstreams of every kind."""
    kinds = (POSITIVE, NEGATIVE, "nodata", "servfail", "refused", "garbled", "error", "now", "no")
    favoured = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4))
    found = []
    for index in range(draw(st.integers(2, 50))):
        kind = draw(st.sampled_from(favoured))
        after = draw(_AFTER)
        found.append(
            {
                POSITIVE: Script(POSITIVE, after, says_own(index, after)),
                NEGATIVE: Script(NEGATIVE, after, negative(after, NXDOMAIN)),
                "nodata": Script(NEGATIVE, after, negative(after, NOERROR)),
                "servfail": Script(FAILURE, after, fails(after)),
                "refused": Script(FAILURE, after, fails(after, REFUSED)),
                "garbled": Script(FAILURE, after, garbles(after)),
                "error": Script(FAILURE, after, unreachable(after)),
                "now": Script(FAILURE, 0, unreachable(None)),
                "no": Script(FAILURE, None, SILENT),
            }[kind]
        )
    return found


def _between(low: int, high: int, fraction: float) -> st.SearchStrategy[float]:
    """Times with a fraction of their own.

    Answers come at whole milliseconds: no two causes fall on one instant, where either may win.
    """
    return st.integers(low, high).map(lambda whole: whole + fraction)


@st.composite
def settings_of_a_user(draw: st.DrawFn) -> Numbers:
    """The defaults, or anything that makes sense: the fallback not before the pace allows."""
    if draw(st.booleans()):
        return DEFAULTS
    stagger = draw(st.integers(1, 120))
    return Numbers(
        active=draw(st.integers(1, 5)),
        batch=draw(st.integers(1, 5)),
        fallback=draw(_between(stagger, 500, 0.15)),
        stagger=stagger,
        total=draw(_between(50, 5000, 0.6)),
        grace=draw(_between(1, 100, 0.75)),
        timeout=draw(_between(50, 5000, 0.3)),
    )


class Expected:
    """What the client must get and when, told from who was asked when and what they do."""

    def __init__(
        self, resolver: SimulatedResolver, upstreams: Sequence[Script], numbers: Numbers
    ) -> None:
        total = numbers.total
        self.positive: list[float] = []
        self.sure: set[int] = set()  # whose answers came in time
        negatives: list[float] = []
        active_ends: list[float] = []
        self.failed_tier = True
        denied, active_negative = True, False
        # While somebody is still to be asked, nothing is lost.
        self.last = 0.0 if len(resolver.launched) >= len(upstreams) else float(total)
        for at, index, tier in resolver.launched:
            script = upstreams[index]
            end, worth = total + 1, FAILURE
            if script.after is not None:
                end, worth = at + script.after, script.worth
            if end > at + numbers.timeout:
                end, worth = at + numbers.timeout, FAILURE
            if end > total:
                end, worth = total, FAILURE
            self.last = max(self.last, end)
            if worth == POSITIVE:
                self.positive.append(end)
                if end < total - 1:
                    self.sure.add(index)  # it may have been asked twice
            elif worth == NEGATIVE:
                negatives.append(end)
            if tier == ACTIVE:
                active_ends.append(end)
                self.failed_tier &= worth == FAILURE
                denied &= worth == NEGATIVE
                active_negative |= worth == NEGATIVE
        self.active_end = max(active_ends)
        self.best = min(self.positive, default=None)
        self.negative: float | None = None
        if negatives:
            first = min(negatives)
            self.negative = min(first + numbers.grace, total)
            if active_negative:
                self.negative = min(self.negative, max(first, self.active_end))
            elif len(resolver.launched) >= len(upstreams):  # nobody is left who could know better
                self.negative = min(self.negative, self.last)
        # By how much the whole active tier's "no" came before any "yes"; less than 0: it came
        # too late, or not at all.
        self.agreed_by = float("-inf")
        if denied:
            self.agreed_by = min([*self.positive, total]) - self.active_end
        good = [time for time in (self.best, self.negative) if time is not None]
        self.at = min(good, default=self.last)


@PURE_ONLY
@settings(max_examples=amount(60, 500))
@given(scripts(), settings_of_a_user())
@example([Script(FAILURE, 5, fails(5))] * 2 + [Script(FAILURE, 0, unreachable(None))] * 9, DEFAULTS)
@example([Script(POSITIVE, 49, says_own(index, 49)) for index in range(50)], DEFAULTS)
@example([Script(NEGATIVE, 10, negative(10))] + [Script(FAILURE, None, SILENT)] * 5, DEFAULTS)
@example([Script(FAILURE, 3000, fails(3000))] * 4, DEFAULTS)
@example(
    [Script(NEGATIVE, after, negative(after)) for after in (5, 60)]
    + [Script(POSITIVE, 30, says_own(index, 30)) for index in (2, 3)],
    DEFAULTS,
)
@example([Script(NEGATIVE, 10, negative(10))] * 2 + [Script(POSITIVE, 9, says_own(2, 9))], DEFAULTS)
def test_promises(upstreams: list[Script], numbers: Numbers) -> None:
    """Pacing, completeness, one timely answer, and nothing left: whatever happens."""
    resolver = SimulatedResolver(
        *[script.act for script in upstreams],
        parallel=numbers.pace,
        timeout=numbers.timeout / 1000,
        level="info",
    )
    client = resolver.ask()
    resolver.run()
    resolver.assert_nothing_left()
    expected = Expected(resolver, upstreams, numbers)
    _check_answer(client.at, client.rcode, expected)
    _check_pacing(resolver, expected, numbers)
    _check_everybody_is_asked(resolver, expected, len(upstreams), numbers)
    assert resolver.now <= numbers.total + TOLERANCE
    if expected.agreed_by > TOLERANCE:
        assert resolver.pool() == [], "somebody overturned what the active tier agreed on"
        return
    if expected.agreed_by >= -TOLERANCE:  # a tie may go either way
        return
    # Whatever came in time is in the pool, and nothing else.
    assert len(expected.sure) <= len(resolver.pool()) <= len(expected.positive)


def _check_answer(at: float, rcode: int, expected: Expected) -> None:
    assert abs(at - expected.at) <= TOLERANCE
    # A tie may go either way.
    allowed = set()
    if expected.best is not None and expected.best <= expected.at + TOLERANCE:
        allowed.add(NOERROR)
    if expected.negative is not None and expected.negative <= expected.at + TOLERANCE:
        allowed |= {NXDOMAIN, NOERROR}
    assert rcode in (allowed or {SERVFAIL})


def _check_pacing(resolver: SimulatedResolver, expected: Expected, numbers: Numbers) -> None:
    times = {
        tier: [launch.at for launch in resolver.launched if launch.tier == tier]
        for tier in (ACTIVE, STAGGERED)
    }
    assert times[ACTIVE] == [0] * len(times[ACTIVE])
    checked = sorted(times[ACTIVE] + times[STAGGERED])
    if times[STAGGERED] and expected.failed_tier and times[STAGGERED][0] >= expected.active_end:
        checked = times[STAGGERED]
    most = max(numbers.active, numbers.batch)
    for start in checked:
        end = start + numbers.stagger - TOLERANCE
        assert sum(start <= time < end for time in checked) <= most


def _check_everybody_is_asked(
    resolver: SimulatedResolver, expected: Expected, count: int, numbers: Numbers
) -> None:
    asked = [upstream for _, upstream in resolver.launches][:count]
    assert len(asked) == len(set(asked)), "somebody was asked twice before all were asked"
    pause = max(1000 * RETRY_INTERVAL, numbers.stagger) - TOLERANCE
    for (before, _), (at, _) in itertools.pairwise(resolver.launches[count - 1 :]):
        assert at == before or at >= before + pause, "asked again too soon"
        assert at < expected.at + TOLERANCE, "asked again after the answer"
    batches = -(-(count - numbers.active) // numbers.batch)
    if batches > 0:
        # The earliest of the three causes; the pace yields to a failed active tier alone.
        begins = max(min(numbers.fallback, expected.at), numbers.stagger)
        if expected.failed_tier:
            begins = min(numbers.fallback, expected.active_end)
        staggered = [launch.at for launch in resolver.launched if launch.tier == STAGGERED]
        due = [begins + numbers.stagger * (index // numbers.batch) for index in range(count)]
        due = due[: count - numbers.active]
        in_time = [time for time in due if time < numbers.total - 1]
        assert len(staggered) >= len(in_time)
        for time, planned in zip(staggered, due, strict=False):
            assert abs(time - planned) < 1
        if due[-1] < numbers.total - 1:
            assert len(asked) == count


@PURE_ONLY
@settings(max_examples=amount(40, 500))
@given(scripts(), settings_of_a_user(), st.integers(0, 5000), st.sampled_from([1, AAAA]))
def test_cancelled_at_any_time(
    upstreams: list[Script], numbers: Numbers, at: int, qtype: int
) -> None:
    """Cancelled whenever: nothing is left, nobody is asked any more, the client has one answer."""
    resolver = SimulatedResolver(
        *[script.act for script in upstreams],
        parallel=numbers.pace,
        timeout=numbers.timeout / 1000,
        level="info",
    )
    client = resolver.ask(resolver.question(qtype=qtype))
    resolver.run_to(at)
    marks = [upstream.marks for upstream in resolver.upstreams]
    asked = len(resolver.launches)
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert len(client.answers) == 1
    resolver.run()
    assert len(resolver.launches) == asked
    assert [upstream.marks for upstream in resolver.upstreams] == marks


@PURE_ONLY
@given(st.permutations(range(5)), st.lists(st.integers(0, 2500), min_size=5, max_size=5))
def test_any_order_of_answers_gives_the_whole_pool(order: list[int], after: list[int]) -> None:
    """Five different sets end in one pool, whoever is first and whoever last."""
    resolver = SimulatedResolver(*[says_own(index, after[index]) for index in order])
    client = resolver.ask()
    resolver.run()
    assert len(client.addresses) == 1
    assert resolver.pool()[0] == client.addresses[0]
    assert sorted(resolver.pool()) == [own(index) for index in range(5)]
