"""`sequential` and `random` on the clock: one upstream at a time (docs/specification.rst, Other
strategies).
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from random import Random as Generator

import pytest

from staggerdns.strategy.tiers import ACTIVE
from staggerdns.upstream.reason import Reason
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
from tests.kit.simulated import SimulatedResolver


def one_by_one(*acts: Act, strategy: str = "sequential", seed: int = 1) -> SimulatedResolver:
    """A resolver on which upstreams are asked one by one."""
    return SimulatedResolver(*acts, strategy=strategy, rng=Generator(seed).randbytes)


def test_first_answers() -> None:
    """One good answer, one query."""
    resolver = one_by_one(says_own(0, 700), says_own(1, 5))
    client = resolver.ask()
    resolver.run()
    assert resolver.launched == [(0, 0, ACTIVE)]
    assert (client.at, client.addresses) == (700, [own(0)])
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    "bad",
    [fails(30), fails(30, REFUSED), garbles(30), unreachable(30), unreachable(30, Reason.CLOSED)],
)
def test_next_after_a_failure(bad: Act) -> None:
    """A failure of any kind passes the question on at once, and never to the client."""
    resolver = one_by_one(bad, bad, says_own(2, 5), SILENT)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), (30, 1), (60, 2)]
    assert (client.at, client.addresses) == (65, [own(2)])
    assert resolver.peak == 1
    resolver.assert_nothing_left()


@pytest.mark.parametrize("rcode", [NXDOMAIN, NOERROR])
def test_negative_is_an_answer(rcode: int) -> None:
    """A negative ends the asking at once, and is no mark."""
    resolver = one_by_one(fails(10), negative(20, rcode), says_own(2, 5))
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.rcode, len(resolver.launches)) == (30, rcode, 2)
    assert resolver.now == 30
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 0, 0]


@pytest.mark.parametrize(
    ("average", "timeout"), [(None, 1000), (10, 500), (333, 500), (800, 1200), (5000, 2000)]
)
def test_timeout_per_try(average: float | None, timeout: float) -> None:
    """Silence ends a try after 1.5 times the average, within 500 ms and 2 s; 1 s at the start."""
    resolver = one_by_one(SILENT, says_own(1, 5))
    if average is not None:
        now = resolver.clock.seconds()
        resolver.upstreams[0].latency.add(average / 1000, now)
        resolver.upstreams[1].latency.add(6, now)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), (pytest.approx(timeout, abs=0.2), 1)]
    assert client.at == pytest.approx(timeout + 5, abs=0.2)
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 0]
    resolver.assert_nothing_left()


def test_each_try_has_its_own_timeout() -> None:
    """The timeout is the asked upstream's, not the one before's."""
    resolver = one_by_one(SILENT, SILENT, says_own(2, 5))
    now = resolver.clock.seconds()
    for upstream, seconds in zip(resolver.upstreams, (0.4, 0.8, 0.9), strict=True):
        upstream.latency.add(seconds, now)
    resolver.ask()
    resolver.run()
    assert [round(at) for at in resolver.times] == [0, 600, 1800]


def test_all_silent() -> None:
    """Every upstream has its second, and they go round again until the time is over: SERVFAIL."""
    resolver = one_by_one(*[SILENT] * 4)
    client = resolver.ask()
    resolver.run()
    assert [(round(at), upstream) for at, upstream in resolver.launches] == [
        (1000 * turn, turn % 4) for turn in range(6)
    ]
    assert (round(client.at), client.rcode) == (6000, SERVFAIL)
    resolver.assert_nothing_left()


def test_best_first() -> None:
    """Healthy by latency, then degraded; resting ones are left out."""
    resolver = one_by_one(*[fails(1)] * 4)
    now = resolver.clock.seconds()
    for upstream, seconds in zip(resolver.upstreams, (0.01, 0.05, 0.04, 0.03), strict=True):
        upstream.latency.add(seconds, now)
    for _ in range(3):
        resolver.upstreams[0].health.failed(now, now, alone=True)
    resolver.upstreams[3].open_circuit()
    resolver.ask()
    resolver.run()
    assert [upstream for _, upstream in resolver.launches] == [2, 1, 0]


def orders(upstreams: int, questions: int, seed: int) -> list[tuple[int, ...]]:
    """In which order `random` asks upstreams that all fail, question by question."""
    resolver = one_by_one(*[fails(1)] * upstreams, strategy="random", seed=seed)
    found = []
    for index in range(questions):
        asked = len(resolver.launches)
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
        found.append(tuple(upstream for _, upstream in resolver.launches[asked:]))
    return found


def test_random_asks_every_usable_one_once() -> None:
    """Each question goes to all of them, one after the other, in varying orders."""
    found = orders(6, 60, seed=7)
    assert all(sorted(order) == list(range(6)) for order in found)
    assert len(set(found)) > 50


@pytest.mark.long
def test_random_orders_are_equally_likely() -> None:
    """Each of the 24 orders of four comes up as often as chance allows."""
    counted = Counter(orders(4, 720, seed=3))
    assert set(counted) == set(permutations(range(4)))
    deviations = sum((count - 30) ** 2 / 30 for count in counted.values())
    assert deviations < 49.7  # chi-square, 23 degrees of freedom: one seed in a thousand is above


def test_random_leaves_out_resting_ones() -> None:
    """An open circuit is not asked, however the dice fall; if all are open, all are asked."""
    resolver = one_by_one(*[fails(1)] * 4, strategy="random")
    resolver.upstreams[1].open_circuit()
    for index in range(20):
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    assert Counter(upstream for _, upstream in resolver.launches) == {0: 20, 2: 20, 3: 20}
    for upstream in resolver.upstreams:
        upstream.open_circuit()
    asked = len(resolver.launches)
    resolver.ask(resolver.question("last.example"))
    resolver.run()
    assert sorted(upstream for _, upstream in resolver.launches[asked:]) == [0, 1, 2, 3]


@pytest.mark.parametrize("strategy", ["sequential", "random"])
@pytest.mark.parametrize("at", [0, 500, 1000, 1500])
def test_shutdown_in_the_middle(strategy: str, at: float) -> None:
    """Closed at any time: nothing is left, nobody else is asked or marked."""
    resolver = one_by_one(*[SILENT] * 4, strategy=strategy)
    client = resolver.ask()
    resolver.run_to(at)
    marks = [upstream.marks for upstream in resolver.upstreams]
    asked = len(resolver.launches)
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert client.rcode == SERVFAIL
    assert len(resolver.launches) == asked
    assert [upstream.marks for upstream in resolver.upstreams] == marks
