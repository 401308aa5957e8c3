"""The state machine of one upstream, times given by hand."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from staggerdns.settings.upstreams import HealthSettings
from staggerdns.upstream.health import OUTAGE_RETRY, Health, State

HEALTHY, DEGRADED, UNHEALTHY = State
SETTINGS = HealthSettings()


def opened(now: float = 100.0, settings: HealthSettings = SETTINGS) -> Health:
    """A health whose circuit has just opened."""
    health = Health(settings)
    for _ in range(settings.unhealthy_after):
        assert health.usable(now)
        health.failed(now, now, alone=True)
    assert health.state == UNHEALTHY
    return health


def trial_fails(health: Health, now: float, *, alone: bool = True) -> State | None:
    """Ask at ``now``, which must be allowed, and fail at once."""
    assert health.usable(now)
    health.asked(now)
    return health.failed(now, now, alone=alone)


def test_the_states() -> None:
    """The values are those that the metrics promise, and order upstreams best first."""
    assert (HEALTHY, DEGRADED, UNHEALTHY) == (0, 1, 2)
    assert Health(SETTINGS).state == HEALTHY
    assert Health(SETTINGS).usable(0.0)


@pytest.mark.parametrize(
    ("degraded_after", "unhealthy_after"), [(3, 5), (1, 1), (1, 2), (2, 2), (4, 9)]
)
def test_thresholds(degraded_after: int, unhealthy_after: int) -> None:
    """Each state comes with exactly its number of failures, and is told once."""
    settings = replace(SETTINGS, degraded_after=degraded_after, unhealthy_after=unhealthy_after)
    health = Health(settings)
    told = [health.failed(1.0, 1.0, alone=True) for _ in range(unhealthy_after + 3)]
    expected: list[State | None] = [None] * (unhealthy_after + 3)
    expected[degraded_after - 1] = DEGRADED
    expected[unhealthy_after - 1] = UNHEALTHY
    assert told == expected


def test_a_success_in_between_starts_the_count_anew() -> None:
    """Only failures in a row count: two of three, as often as one likes, change nothing."""
    health = Health(SETTINGS)
    for _ in range(10):
        assert [health.failed(1.0, 1.0, alone=True) for _ in range(2)] == [None, None]
        assert health.succeeded(1.0, 1.0) is None
    assert health.state == HEALTHY


@pytest.mark.parametrize("heal_after", [1, 2, 3, 7])
def test_successes_heal(heal_after: int) -> None:
    """A degraded upstream is healthy after exactly so many successes in a row."""
    health = Health(replace(SETTINGS, heal_after=heal_after))
    for _ in range(3):
        health.failed(1.0, 1.0, alone=True)
    for _ in range(heal_after - 1):
        assert health.succeeded(1.0, 1.0) is None
    health.failed(1.0, 1.0, alone=True)  # not in a row
    for _ in range(heal_after - 1):
        assert health.succeeded(1.0, 1.0) is None
        assert health.state == DEGRADED
    assert health.succeeded(1.0, 1.0) == HEALTHY


@pytest.mark.parametrize("heal_after", [1, 2, 3])
def test_the_trial_is_the_first_success(heal_after: int) -> None:
    """A good trial closes the circuit, and counts among the successes that heal."""
    health = opened(100.0, replace(SETTINGS, heal_after=heal_after))
    health.asked(130.0)
    told = [health.succeeded(130.1, 130.1) for _ in range(heal_after)]
    assert told[-1] == HEALTHY
    assert told[:-1] == [DEGRADED, None][: heal_after - 1]
    assert health.usable(130.1)


def test_closed_again_means_five_failures_again() -> None:
    """After a good trial the count of failures starts at none."""
    health = opened()
    health.asked(130.0)
    assert health.succeeded(130.1, 130.1) == DEGRADED
    assert [health.failed(131.0, 131.0, alone=True) for _ in range(5)] == [None] * 4 + [UNHEALTHY]


def test_open_for() -> None:
    """The circuit is open for 30 s to the very end, and then wants one trial."""
    health = opened(100.0)
    assert not health.usable(100.0)
    assert not health.usable(129.999)
    assert health.usable(130.0)


def test_a_failed_trial_opens_it_again_for_twice_as_long() -> None:
    """30 s, 60 s and so on up to ten minutes, where it stays (trap 5)."""
    health, now, waits = opened(100.0), 100.0, []
    for wait in (30, 60, 120, 240, 480, 600, 600, 600):
        assert not health.usable(now + wait - 0.001)
        now += wait
        waits.append(wait)
        assert trial_fails(health, now) is None, "unhealthy as before: nothing to tell"
        assert not health.usable(now)
    assert health.state == UNHEALTHY


def test_the_cap_may_be_no_multiple() -> None:
    """A cap between two doublings is kept exactly; one of ``open_for`` means no doubling."""
    for cap, waits in ((100.0, (30, 60, 100, 100)), (30.0, (30, 30, 30))):
        health, now = opened(0.0, replace(SETTINGS, max_open_for=cap)), 0.0
        for wait in waits:
            assert not health.usable(now + wait - 0.001)
            now += wait
            trial_fails(health, now)


def test_health_forgets_the_doubling_only_when_healthy() -> None:
    """A good trial alone does not make the next wait short again; healing does."""
    health = opened(0.0)
    trial_fails(health, 30.0)
    health.asked(90.0)
    health.succeeded(90.0, 90.0)
    for _ in range(5):
        health.failed(91.0, 91.0, alone=True)
    assert not health.usable(91.0 + 59.9)
    assert health.usable(91.0 + 60)
    health.asked(151.0)
    health.succeeded(151.0, 151.0)
    health.succeeded(151.0, 151.0)
    assert health.state == HEALTHY
    for _ in range(5):
        health.failed(152.0, 152.0, alone=True)
    assert not health.usable(152.0 + 29.9)
    assert health.usable(152.0 + 30)


def test_one_trial_at_a_time() -> None:
    """While the trial is under way nobody else is asked to be one, however long it takes."""
    health = opened(100.0)
    health.asked(130.0)
    for now in (130.0, 131.0, 1000.0):
        assert not health.usable(now)
    health.failed(133.0, 130.0, alone=True)
    assert not health.usable(192.9)
    assert health.usable(193.0), "the wait begins when the trial has failed"


def test_a_cancelled_trial_may_be_repeated() -> None:
    """Cancelling says nothing: no mark, no longer wait, and another trial may follow."""
    health = opened(100.0)
    health.asked(130.0)
    health.abandoned(130.0)
    assert health.state == UNHEALTHY
    assert health.usable(130.0)
    trial_fails(health, 130.0)
    assert health.usable(190.0)
    assert not health.usable(189.9), "twice 30 s, not four times"


def test_older_queries_are_no_trials() -> None:
    """What was asked before the time for a trial neither fails it, nor ends it, nor doubles."""
    health = opened(100.0)
    health.asked(129.0)  # as happens when no upstream is usable
    assert health.failed(131.0, 129.0, alone=True) is None
    assert health.usable(131.0), "reopened by a query that was not the trial"
    health.asked(131.0)
    health.failed(131.5, 129.5, alone=True)
    health.abandoned(129.9)
    assert not health.usable(131.6), "a second trial, while the first is under way"
    health.failed(132.0, 131.0, alone=True)
    assert not health.usable(132 + 59.9)
    assert health.usable(132 + 60)


def test_a_success_while_open_closes_it() -> None:
    """A late good reply is good news, and what fails from then on counts in full."""
    health = opened(100.0)
    assert health.succeeded(110.0, 110.0) == DEGRADED
    assert health.usable(110.0)
    assert [health.failed(111.0, 110.5, alone=True) for _ in range(5)] == [None] * 4 + [UNHEALTHY]


def test_failing_together_does_not_double() -> None:
    """Trials that fail while everybody fails are followed by others at once; the first that fails
    alone again begins with 30 s.
    """
    health, now = opened(0.0), 30.0
    for _ in range(20):
        trial_fails(health, now, alone=False)
        assert not health.usable(now + OUTAGE_RETRY - 0.001)
        now += OUTAGE_RETRY
    trial_fails(health, now)
    assert not health.usable(now + 29.9)
    assert health.usable(now + 30)


def test_trials_of_an_outage_do_not_wait_for_each_other() -> None:
    """A trial that is lost in silence holds up the next one for half a second only."""
    health = opened(0.0)
    trial_fails(health, 30.0, alone=False)
    health.asked(31.0)
    assert not health.usable(31.0 + OUTAGE_RETRY - 0.001)
    assert health.usable(31.0 + OUTAGE_RETRY)


def test_failures_from_an_outage_do_not_hurt_later() -> None:
    """Time-outs of queries asked during the outage, which come after it, are no marks."""
    health = opened(0.0)
    trial_fails(health, 30.0, alone=False)
    health.asked(30.5)
    assert health.succeeded(30.6, 30.5) == DEGRADED
    for _ in range(20):
        assert health.failed(32.0, 29.5, alone=True) is None
    assert health.state == DEGRADED


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "good", "bad", "cancel", "wait"]),
        st.floats(0.0, 50.0, allow_nan=False),
        st.booleans(),
    ),
    max_size=60,
)


@given(EVENTS)
def test_whatever_happens(events: list[tuple[str, float, bool]]) -> None:
    """In any course of events: told are changes only, its circuit is never open for longer than the
    cap once its queries are over, and no two trials run at once, but in an outage.
    """
    health, now, under_way = Health(SETTINGS), 0.0, list[float]()
    state, trials, outage = health.state, 0, False
    for what, wait, alone in events:
        now += wait
        told = None
        if what == "ask" and health.usable(now):
            if health.state == UNHEALTHY:
                assert trials == 0 or outage, "a second trial"
                trials += 1
            health.asked(now)
            under_way.append(now)
        elif what in ("good", "bad", "cancel") and under_way:
            asked = under_way.pop()
            if what == "good":
                told = health.succeeded(now, now)
            elif what == "bad":
                told = health.failed(now, asked, alone=alone)
                outage = not alone
            else:
                health.abandoned(asked)
        assert told in (None, health.state)
        assert (told is None) == (health.state == state)
        state = health.state
        if health.usable(now) or state != UNHEALTHY or what in ("good", "bad", "cancel"):
            trials = 0 if health.usable(now) or state != UNHEALTHY else trials
        if what == "bad" and state == UNHEALTHY and not health.usable(now):
            trials = 0
    for asked in under_way:
        health.abandoned(asked)
    assert health.usable(now + SETTINGS.max_open_for)


def test_every_way_through_the_states() -> None:
    """All the courses of eight good and bad replies keep the thresholds, by a count of our own."""
    for course in itertools.product("gb", repeat=8):
        health = Health(SETTINGS)
        bad_in_a_row = good_in_a_row = 0
        expected = HEALTHY
        for step in course:
            if step == "g":
                bad_in_a_row, good_in_a_row = 0, good_in_a_row + 1
                health.succeeded(1.0, 1.0)
                if expected != HEALTHY:
                    expected = HEALTHY if good_in_a_row >= 2 else DEGRADED
            else:
                bad_in_a_row, good_in_a_row = bad_in_a_row + 1, 0
                health.failed(1.0, 1.0, alone=True)
                if bad_in_a_row >= 5:
                    expected = UNHEALTHY
                elif bad_in_a_row >= 3:
                    expected = DEGRADED
            assert health.state == expected, course
            if expected == UNHEALTHY:
                break
