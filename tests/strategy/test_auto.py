"""`auto` on the clock, and what all strategies tell: outcomes and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.strategy.strategies import NAMES
from tests.kit.acts import SERVFAIL, SILENT, Act, fails, negative, own, says_own, unreachable
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.instruments import Gauge

WHEN = {1: "sequential", 2: "racing", 3: "racing", 4: "parallel", 5: "parallel", 9: "parallel"}


def outcomes(resolver: SimulatedResolver) -> dict[tuple[str, ...], int]:
    """Collections by strategy and outcome, those that there were."""
    found = resolver.metrics.collection_outcomes.values().items()
    return {labels: value for labels, value in found if value}


def gauge(family: Gauge) -> float:
    """The one value of a gauge."""
    return family.values()[()]


@pytest.mark.parametrize(("upstreams", "strategy"), WHEN.items())
def test_by_number(upstreams: int, strategy: str) -> None:
    """One upstream: sequential; two or three: racing; four and more: parallel."""
    resolver = SimulatedResolver(
        *[says_own(index, 5) for index in range(upstreams)], strategy="auto"
    )
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [own(0)]
    assert outcomes(resolver) == {(strategy, "positive"): 1}
    assert len(resolver.launches) == (upstreams if strategy == "parallel" else 1)


def test_by_the_health_of_now() -> None:
    """As circuits open the strategy changes with the next question, and changes back."""
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(5)], strategy="auto")
    seen: list[str] = []

    def ask() -> None:
        before = outcomes(resolver)
        resolver.ask(resolver.question(f"n{len(seen)}.example"))
        resolver.run()
        (new,) = [key for key, value in outcomes(resolver).items() if value != before.get(key, 0)]
        seen.append(new[0])

    ask()
    for index in (4, 3, 2, 1):
        resolver.upstreams[index].open_circuit()
        ask()
    assert seen == ["parallel", "parallel", "racing", "racing", "sequential"]
    resolver.upstreams[0].open_circuit()
    ask()  # nobody is usable, so everybody counts; the first good answers end the outage
    assert seen[-1] == "parallel"
    ask()
    assert seen[-1] == "parallel"
    resolver.assert_nothing_left()


def test_a_circuit_due_for_its_trial_counts() -> None:
    """When an open circuit may be tried again, the strategy is that of one upstream more."""
    resolver = SimulatedResolver(*[says_own(index, 5) for index in range(4)], strategy="auto")
    resolver.upstreams[3].open_circuit()
    resolver.ask()
    resolver.run_to(29_999)
    resolver.ask(resolver.question("before.example"))
    resolver.run()
    assert outcomes(resolver) == {("racing", "positive"): 2}
    resolver.run_to(30_010)
    resolver.ask(resolver.question("after.example"))
    resolver.run()
    assert outcomes(resolver) == {("racing", "positive"): 2, ("parallel", "positive"): 1}


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize(
    ("act", "outcome"),
    [(says_own(0, 5), "positive"), (negative(5), "negative"), (fails(5), "failed")],
)
def test_outcomes_by_strategy(strategy: str, act: Act, outcome: str) -> None:
    """Each collection counts once, under the strategy that did the asking."""
    resolver = SimulatedResolver(act, act, strategy=strategy)
    for index in range(3):
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    label = "racing" if strategy == "auto" else strategy
    assert outcomes(resolver) == {(label, outcome): 3}
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", NAMES)
def test_shutdown(strategy: str) -> None:
    """Many questions under way, then the end: all have an answer and nothing is left."""
    resolver = SimulatedResolver(SILENT, fails(30), SILENT, unreachable(20), strategy=strategy)
    clients = []
    for index in range(50):
        clients.append(resolver.ask(resolver.question(f"n{index}.example")))
        resolver.run_to(index * 7 + 1)
    assert resolver.running == 50
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert [client.rcode for client in clients] == [SERVFAIL] * 50
    assert outcomes(resolver) == {}


def test_statistics_at_the_start() -> None:
    """Before anything is measured: the starting values."""
    statistics = SimulatedResolver(SILENT).strategies.statistics()
    assert (statistics.average_latency, statistics.deviation) == (0.2, 0)
    assert statistics.racing_delay == 0.1
    assert statistics.sequential_timeout == 1
    assert statistics.fallback_timeout == 0.3
    assert (statistics.batch_size, statistics.early_triggers) == (0, 0)


def test_statistics_are_the_metrics() -> None:
    """The snapshot and a scrape show the same numbers, whatever has happened."""
    resolver = SimulatedResolver(
        unreachable(3),
        *[says_own(index, after) for index, after in ((1, 30), (2, 90), (3, 400), (4, 20))],
        strategy="racing",
    )
    for index in range(12):
        resolver.upstreams[4].script.act = says_own(4, (20, 60)[index % 2])
        resolver.ask(resolver.question(f"n{index}.example"))
        resolver.run()
    statistics = resolver.strategies.statistics()
    metrics = resolver.metrics
    assert statistics.deviation > 0
    assert statistics.early_triggers > 0
    assert statistics.batch_size > 0
    assert gauge(metrics.racing_delay) == statistics.racing_delay != 0.1
    assert gauge(metrics.racing_deviation) == statistics.deviation
    assert gauge(metrics.racing_batch) == statistics.batch_size
    assert gauge(metrics.fallback_timeout) == statistics.fallback_timeout
    assert metrics.early_triggers.cell().value == statistics.early_triggers
    timeouts = {
        sample.labels["upstream"]: sample.value
        for sample in metrics.sequential_timeout.collect().samples
    }
    assert statistics.sequential_timeout == timeouts[resolver.upstreams[4].name] == 0.5
