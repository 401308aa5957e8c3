"""`auto` on the clock, and what all strategies tell: outcomes and statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.strategy.strategies import NAMES
from tests.kit.acts import SERVFAIL, SILENT, Act, fails, negative, own, says_own, unreachable
from tests.kit.simulated import Stage

if TYPE_CHECKING:
    from staggerdns.instruments import Gauge

WHEN = {1: "sequential", 2: "racing", 3: "racing", 4: "parallel", 5: "parallel", 9: "parallel"}


def outcomes(stage: Stage) -> dict[tuple[str, str], float]:
    """Collections by strategy and outcome, as a scrape shows them."""
    return {
        (sample.labels["strategy"], sample.labels["outcome"]): sample.value
        for sample in stage.metrics.collection_outcomes.collect().samples
        if sample.name.endswith("_total") and sample.value
    }


def gauge(family: Gauge) -> float:
    """The one value of a gauge, as a scrape shows it."""
    (sample,) = family.collect().samples
    return float(sample.value)


@pytest.mark.parametrize(("upstreams", "strategy"), WHEN.items())
def test_by_number(upstreams: int, strategy: str) -> None:
    """One upstream: sequential; two or three: racing; four and more: parallel."""
    stage = Stage(*[says_own(index, 5) for index in range(upstreams)], strategy="auto")
    client = stage.ask()
    stage.run()
    assert client.addresses == [own(0)]
    assert outcomes(stage) == {(strategy, "positive"): 1}
    assert len(stage.launches) == (upstreams if strategy == "parallel" else 1)


def test_by_the_health_of_now() -> None:
    """As circuits open the strategy changes with the next question, and changes back."""
    stage = Stage(*[says_own(index, 5) for index in range(5)], strategy="auto")
    seen: list[str] = []

    def ask() -> None:
        before = outcomes(stage)
        stage.ask(stage.question(f"n{len(seen)}.example"))
        stage.run()
        (new,) = [key for key, value in outcomes(stage).items() if value != before.get(key, 0)]
        seen.append(new[0])

    ask()
    for index in (4, 3, 2, 1):
        stage.upstreams[index].open_circuit()
        ask()
    assert seen == ["parallel", "parallel", "racing", "racing", "sequential"]
    stage.upstreams[0].open_circuit()
    ask()  # nobody is usable, so everybody counts; the first good answers end the outage
    assert seen[-1] == "parallel"
    ask()
    assert seen[-1] == "parallel"
    stage.assert_nothing_left()


def test_a_circuit_due_for_its_trial_counts() -> None:
    """When an open circuit may be tried again, the strategy is that of one upstream more."""
    stage = Stage(*[says_own(index, 5) for index in range(4)], strategy="auto")
    stage.upstreams[3].open_circuit()
    stage.ask()
    stage.run_to(29_999)
    stage.ask(stage.question("before.example"))
    stage.run()
    assert outcomes(stage) == {("racing", "positive"): 2}
    stage.run_to(30_010)
    stage.ask(stage.question("after.example"))
    stage.run()
    assert outcomes(stage) == {("racing", "positive"): 2, ("parallel", "positive"): 1}


@pytest.mark.parametrize("strategy", NAMES)
@pytest.mark.parametrize(
    ("act", "outcome"),
    [(says_own(0, 5), "positive"), (negative(5), "negative"), (fails(5), "failed")],
)
def test_outcomes_by_strategy(strategy: str, act: Act, outcome: str) -> None:
    """Each collection counts once, under the strategy that did the asking."""
    stage = Stage(act, act, strategy=strategy)
    for index in range(3):
        stage.ask(stage.question(f"n{index}.example"))
        stage.run()
    label = "racing" if strategy == "auto" else strategy
    assert outcomes(stage) == {(label, outcome): 3}
    stage.assert_nothing_left()


@pytest.mark.parametrize("strategy", NAMES)
def test_shutdown(strategy: str) -> None:
    """Many questions under way, then the end: all have an answer and nothing is left."""
    stage = Stage(SILENT, fails(30), SILENT, unreachable(20), strategy=strategy)
    clients = []
    for index in range(50):
        clients.append(stage.ask(stage.question(f"n{index}.example")))
        stage.run_to(index * 7 + 1)
    assert stage.running == 50
    stage.forwarder.close()
    stage.assert_nothing_left()
    assert [client.rcode for client in clients] == [SERVFAIL] * 50
    assert outcomes(stage) == {}


def test_statistics_at_the_start() -> None:
    """Before anything is measured: the starting values."""
    statistics = Stage(SILENT).strategies.statistics()
    assert (statistics.average_latency, statistics.deviation) == (0.2, 0)
    assert statistics.racing_delay == 0.1
    assert statistics.sequential_timeout == 1
    assert statistics.fallback_timeout == 0.3
    assert (statistics.batch_size, statistics.early_triggers) == (0, 0)


def test_statistics_are_the_metrics() -> None:
    """The snapshot and a scrape show the same numbers, whatever has happened."""
    stage = Stage(
        unreachable(3),
        *[says_own(index, after) for index, after in ((1, 30), (2, 90), (3, 400), (4, 20))],
        strategy="racing",
    )
    for index in range(12):
        stage.upstreams[4].script.act = says_own(4, (20, 60)[index % 2])
        stage.ask(stage.question(f"n{index}.example"))
        stage.run()
    statistics = stage.strategies.statistics()
    metrics = stage.metrics
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
    assert statistics.sequential_timeout == timeouts[stage.upstreams[4].name] == 0.5
