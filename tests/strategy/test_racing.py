"""Races on the clock: who is asked when, who wins, and what becomes of the losers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from staggerdns.settings.upstreams import RacingSettings
from staggerdns.strategy.tiers import ACTIVE, STAGGERED
from staggerdns.upstream.reason import Reason
from staggerdns.wire.constants import Ede
from tests.kit.acts import (
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
from tests.kit.simulated import SimulatedResolver, addresses

if TYPE_CHECKING:
    from collections.abc import Sequence


def race(*acts: Act, concurrent: int = 50, timeout: float = 3.0) -> SimulatedResolver:
    """A resolver on which questions are raced for."""
    return SimulatedResolver(
        *acts, strategy="racing", racing=RacingSettings(max_concurrent=concurrent), timeout=timeout
    )


def early_triggers(resolver: SimulatedResolver) -> int:
    """Early triggers so far."""
    return resolver.strategies.statistics().early_triggers


def spread(resolver: SimulatedResolver, milliseconds: float) -> None:
    """Make the deviation of reply times what it says."""
    now, delay = resolver.clock.seconds(), resolver.adaptive.racing_delay
    delay.latency._variance = (milliseconds / 1000) ** 2
    delay.latency._measured = now + 1  # does not fade until the batches have gone
    assert delay.deviation(now + 1) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize("after", [1, 60, 99])
def test_first_wins_before_the_delay(after: float) -> None:
    """An answer within the delay: one query, nobody else is asked."""
    resolver = race(*[says_own(index, after) for index in range(8)])
    client = resolver.ask()
    resolver.run()
    assert resolver.launched == [(0, 0, ACTIVE)]
    assert (client.at, client.addresses) == (after, [own(0)])
    assert resolver.now == after
    resolver.assert_nothing_left()


def test_others_after_the_delay() -> None:
    """The delay over, the others go in batches; the first answer of any is the client's."""
    resolver = race(SILENT, SILENT, SILENT, says_own(3, 30), *[SILENT] * 3)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), *[(100, i) for i in (1, 2, 3)], (120, 4), (120, 5)]
    assert (client.at, client.addresses) == (130, [own(3)])
    assert [launch.tier for launch in resolver.launched] == [ACTIVE] + [STAGGERED] * 5
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("deviation", "upstreams", "times"),
    [
        (49, 6, [100] * 2 + [120] * 2 + [140]),
        (49, 7, [100] * 3 + [120] * 2 + [140]),
        (50.001, 6, [100] * 3 + [115] * 2),
        (50.001, 7, [100] * 4 + [115] * 2),
        (51, 6, [100] * 3 + [115] * 2),
        (51, 7, [100] * 4 + [115] * 2),
        (51, 13, [100] * 4 + [115] * 4 + [130] * 3 + [145]),
    ],
)
def test_batches_at_the_boundaries(deviation: float, upstreams: int, times: list[float]) -> None:
    """Two every 20 ms or three every 15 ms, one more while more than five remain."""
    resolver = race(*[SILENT] * upstreams, timeout=0.5)
    spread(resolver, deviation)
    resolver.ask()
    resolver.run_to(400)
    assert resolver.times == [0, *times]
    resolver.run()
    resolver.assert_nothing_left()


@pytest.mark.parametrize("reason", [Reason.CONNECTION_REFUSED, Reason.CLOSED, Reason.UNREACHABLE])
@pytest.mark.parametrize("after", [None, 2, 99])
def test_early_trigger(reason: Reason, after: float | None) -> None:
    """A network error of the first starts the others at once, as many as may be under way."""
    resolver = race(unreachable(after, reason), *[SILENT] * 3, says_own(4, 7), SILENT, concurrent=4)
    client = resolver.ask()
    resolver.run()
    at = after or 0
    assert resolver.launches == [(0, 0)] + [(at, index) for index in (1, 2, 3, 4)]
    assert (client.at, client.addresses) == (at + 7, [own(4)])
    assert early_triggers(resolver) == 1
    resolver.assert_nothing_left()


def test_early_trigger_by_timeout() -> None:
    """Silence to the end of the timeout is a network error too."""
    resolver = race(SILENT, *[says_own(index, 9) for index in (1, 2)], concurrent=1, timeout=0.5)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), (500, 1)]
    assert client.at == 509
    assert early_triggers(resolver) == 1


def test_early_trigger_between_two_batches() -> None:
    """A network error of the first starts all the others also when a batch has gone already."""
    resolver = race(
        unreachable(105), *[SILENT] * 2, *[says_own(index, 50) for index in range(3, 6)]
    )
    resolver.ask()
    resolver.run_to(106)
    assert early_triggers(resolver) == 1
    assert [round(at) for at in resolver.times] == [0, 100, 100, 105, 105, 105]
    resolver.run()


@pytest.mark.parametrize("act", [fails(40), fails(40, REFUSED), garbles(40)])
def test_no_early_trigger_by_an_application_error(act: Act) -> None:
    """SERVFAIL is none, though the next batch, of usual size, goes: all that were asked failed."""
    resolver = race(act, *[SILENT] * 7)
    resolver.ask()
    resolver.run_to(59)
    assert resolver.launches == [(0, 0), (40, 1), (40, 2), (40, 3)]
    assert early_triggers(resolver) == 0
    resolver.run_to(60)
    assert resolver.launches[4:] == [(60, 4), (60, 5)]
    resolver.forwarder.close()


def test_a_failure_among_others_starts_nothing() -> None:
    """While somebody asked may still answer, a failure leaves the pace as it is."""
    resolver = race(SILENT, fails(3), unreachable(5), *[SILENT] * 4, timeout=0.5)
    resolver.ask()
    resolver.run_to(400)
    assert resolver.times == [0, 100, 100, 100, 120, 120, 140]
    assert early_triggers(resolver) == 0
    resolver.run()


def test_all_launched_have_failed() -> None:
    """As soon as all that were asked have failed the next batch goes, without its interval."""
    resolver = race(fails(10), fails(2), unreachable(4), *[fails(1)] * 2, says_own(5, 6))
    client = resolver.ask()
    resolver.run()
    assert resolver.times == [0, 10, 10, 14, 14, 15]
    assert (client.at, client.addresses) == (21, [own(5)])
    resolver.assert_nothing_left()


def test_max_concurrent() -> None:
    """At the limit the race goes on only as somebody asked fails; one past is never seen."""
    resolver = race(SILENT, SILENT, fails(150), *[SILENT] * 2, says_own(5, 5), concurrent=4)
    client = resolver.ask()
    resolver.run_to(260)
    assert resolver.peak == 4
    assert resolver.launches == [(0, 0), (100, 1), (100, 2), (120, 3), (250, 4)]
    assert not client.answers
    resolver.forwarder.close()
    resolver.assert_nothing_left()


@pytest.mark.parametrize(("upstreams", "under_way"), [(4, 4), (5, 4), (50, 4)])
def test_max_concurrent_and_one_past(upstreams: int, under_way: int) -> None:
    """Four of four silent ones are under way, and four of five."""
    resolver = race(*[SILENT] * upstreams, concurrent=4)
    resolver.ask()
    resolver.run_to(2990)
    assert sum(upstream.inflight for upstream in resolver.upstreams) == under_way
    assert len(resolver.launches) == under_way
    resolver.forwarder.close()


def test_silent_first_with_one_at_a_time() -> None:
    """A limit of one does not make a silent upstream the end of the question."""
    resolver = race(SILENT, says_own(1, 20), concurrent=1)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.addresses) == (3020, [own(1)])


def test_losers_are_cancelled_without_a_mark() -> None:
    """The winner ends the race: nothing is under way, no loser has a mark or a reply time."""
    resolver = race(SILENT, says_own(1, 10), SILENT, says_own(3, 40))
    for index in range(10):
        client = resolver.ask(resolver.question(f"n{index}.example"))
        began = resolver.now
        resolver.run_to(began + 300)
        assert client.addresses == [own(1)]
        resolver.assert_nothing_left()
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 4
    assert [upstream.latency.measured for upstream in resolver.upstreams] == [
        False,
        True,
        False,
        False,
    ]


def test_one_upstreams_records() -> None:
    """A race merges nothing: the pool is the winner's, though others would have had more."""
    resolver = race(says_own(0, 120), says_own(1, 10), says_own(2, 11))
    client = resolver.ask()
    resolver.run()
    assert (client.at, resolver.pool()) == (110, [own(1)])
    assert resolver.now == 110


@pytest.mark.parametrize(
    ("acts", "at", "rcode"),
    [
        pytest.param([negative(10), SILENT], 10, NXDOMAIN, id="first"),
        pytest.param([negative(10, NOERROR), SILENT], 10, NOERROR, id="nodata"),
        pytest.param([SILENT, negative(10), SILENT], 140, NXDOMAIN, id="grace"),
        pytest.param([SILENT, negative(10), says_own(2, 35)], 135, NOERROR, id="in the grace"),
        pytest.param([SILENT, negative(10), says_own(2, 45)], 140, NXDOMAIN, id="too late"),
        pytest.param([negative(115), negative(10)], 115, NXDOMAIN, id="first tier answered"),
        pytest.param([fails(10), negative(5), SILENT], 45, NXDOMAIN, id="first failed"),
        pytest.param([fails(10), fails(20), negative(500)], 510, NXDOMAIN, id="failures wait"),
    ],
)
def test_negatives(acts: Sequence[Act], at: float, rcode: int) -> None:
    """The rules for negatives are those of the other strategies: grace, and never a failure."""
    resolver = race(*acts)
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode) == (at, rcode)
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("act", "ede"),
    [(fails(5), Ede.OTHER), (unreachable(5), Ede.NETWORK_ERROR), (unreachable(None), 23)],
)
def test_all_fail(act: Act, ede: int) -> None:
    """SERVFAIL only when every upstream has failed, and then at once."""
    resolver = race(*[act] * 9, concurrent=4)
    client = resolver.ask()
    resolver.run()
    assert len(resolver.launches) == 9
    assert client.rcode == SERVFAIL
    assert client.entry.answer.ede == ede  # type: ignore[attr-defined]
    assert client.at <= 25
    resolver.assert_nothing_left()


def test_best_first() -> None:
    """The fastest healthy one begins, degraded ones come last, resting ones not at all."""
    resolver = race(*[SILENT] * 4, timeout=0.5)
    now = resolver.clock.seconds()
    for upstream, seconds in zip(resolver.upstreams, (0.01, 0.05, 0.04, 0.03), strict=True):
        upstream.latency.add(seconds, now)
    for _ in range(3):
        resolver.upstreams[0].health.failed(now, now, alone=True)
    resolver.upstreams[3].open_circuit()
    resolver.ask()
    resolver.run_to(400)
    assert resolver.launches == [(0, 2), (100, 1), (100, 0)]
    resolver.run()


def test_delay_adapts() -> None:
    """The delay of the next race follows the reply times of those before."""
    resolver = race(says_own(0, 60), SILENT)
    for index in range(3):
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    resolver.script(SILENT, says_own(1, 5))
    began = resolver.now
    resolver.ask(resolver.question("last.example"))
    resolver.run()
    assert resolver.launches[-2:] == [(began, 0), (began + 70, 1)]


@pytest.mark.parametrize("at", [0, 50, 100, 119, 120, 400])
def test_shutdown_in_mid_race(at: float) -> None:
    """Closed at any time of a race: no timer, no query, no mark, and the client has its answer."""
    resolver = race(SILENT, SILENT, says_own(2, 900), fails(10), SILENT)
    client = resolver.ask()
    resolver.run_to(at)
    asked = len(resolver.launches)
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert client.rcode == SERVFAIL
    resolver.run()
    assert len(resolver.launches) == asked
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 5


acts = st.one_of(
    st.integers(0, 600).map(lambda after: says_own(0, after)),
    st.integers(0, 600).map(negative),
    st.integers(0, 600).map(fails),
    st.integers(0, 600).map(unreachable),
    st.just(unreachable(None)),
    st.just(SILENT),
)


@PURE_ONLY
@settings(max_examples=amount(60, 500))
@given(
    st.lists(acts, min_size=1, max_size=20),
    st.integers(1, 6),
    st.sampled_from(["racing", "sequential", "random", "auto"]),
    st.integers(10, 200),
)
def test_promises(upstreams: list[Act], concurrent: int, strategy: str, delay: int) -> None:
    """Whatever happens: one answer in time, nobody asked twice, nothing left, limits kept."""
    numbers = RacingSettings(delay=delay / 1000, min_delay=0.01, max_concurrent=concurrent)
    resolver = SimulatedResolver(
        *upstreams,
        strategy=strategy,
        racing=numbers,
        timeout=1.0,
        level="info",
    )
    client = resolver.ask()
    resolver.run()
    resolver.assert_nothing_left()
    asked = [upstream for _, upstream in resolver.launches]
    assert len(asked) == len(set(asked))
    assert client.at <= 2 * 1000 + 1 or strategy == "auto"
    if strategy in {"sequential", "random"}:
        assert resolver.peak <= 1
    elif strategy == "racing":
        assert resolver.peak <= concurrent
    if client.rcode == SERVFAIL:
        assert len(asked) == len(upstreams) or client.at >= 1000
    held = addresses(client.entry)
    assert len(held) <= 1
