"""Standstills of the program, and of the machine that it runs on, say nothing about upstreams."""

from __future__ import annotations

import pytest

from staggerdns.upstream.health import State
from tests.kit.acts import SILENT, Act, negative, own, says_own, unreachable
from tests.kit.simulated import HEALTH, Stage

STRATEGIES = ("parallel", "racing", "sequential", "random")
STILL = 9_000
"""Milliseconds for which nothing happens."""


def stand_still(stage: Stage, *then: Act) -> None:
    """Stop in the middle of things, and find all that was due since due at once; the upstreams
    do other things ``then``.
    """
    stage.clock.rightNow += STILL / 1000
    if then:
        stage.script(*then)
    stage.clock.advance(0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("act", [says_own(0, 400), negative(400)], ids=["answer", "denial"])
def test_replies_that_came_meanwhile(strategy: str, act: Act) -> None:
    """They are read before anything times out; nobody is marked, and no latency measured by it."""
    stage = Stage(act, act, strategy=strategy)
    clients = [stage.ask(stage.question(f"n{number}.example")) for number in range(8)]
    stage.run_to(100)
    stand_still(stage)
    stage.run()
    assert all(client.at <= 100 + STILL + 31 for client in clients)
    assert {client.rcode for client in clients} <= {0, 3}
    assert [upstream.marks for upstream in stage.upstreams] == [0, 0]
    now = stage.awake.seconds()
    # What is asked after the standstill may be measured.
    assert all(upstream.latency.mean(now) <= 0.401 for upstream in stage.upstreams)
    stage.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replies_that_never_came(strategy: str) -> None:
    """Their queries time out without a mark, and the next answers count as ever."""
    stage = Stage(SILENT, SILENT, SILENT, strategy=strategy)
    for number in range(2 * HEALTH.unhealthy_after):
        stage.ask(stage.question(f"n{number}.example"))
    stage.run_to(100)
    stand_still(stage, *[says_own(index, 20) for index in range(3)])
    stage.run_to(100 + STILL + 10)
    client = stage.ask(stage.question("after.example"))
    stage.run()
    assert client.at <= 100 + STILL + 31
    assert client.addresses[0] in [own(index) for index in range(3)]
    assert [upstream.health.state for upstream in stage.upstreams] == [State.HEALTHY] * 3
    assert [upstream.marks for upstream in stage.upstreams] == [0, 0, 0]
    stage.assert_nothing_left()


@pytest.mark.parametrize("act", [SILENT, unreachable(500)], ids=["silent", "refused"])
def test_failures_before_and_after(act: Act) -> None:
    """A standstill excuses what was under way in it, nothing else."""
    stage = Stage(act, says_own(1, 20))
    for number in range(HEALTH.unhealthy_after - 1):
        stage.ask(stage.question(f"before{number}.example"))
        stage.run()
    assert stage.upstreams[0].marks == HEALTH.unhealthy_after - 1
    stage.ask(stage.question("during.example"))
    stage.run_to(stage.now + 60)
    stand_still(stage)
    stage.run()
    assert stage.upstreams[0].marks == HEALTH.unhealthy_after - 1
    stage.ask(stage.question("after.example"))
    stage.run()
    assert stage.upstreams[0].health.state == State.UNHEALTHY


def test_measurements_know_nothing_of_it() -> None:
    """The delay of races and the fallback timeout are learnt from what is awake."""
    stage = Stage(says_own(0, 40), says_own(1, 45), strategy="racing")
    for number in range(10):
        stage.ask(stage.question(f"n{number}.example"))
        stage.run()
    before = stage.strategies.statistics()
    stage.ask(stage.question("during.example"))
    stage.run_to(stage.now + 20)
    stand_still(stage)
    stage.run()
    after = stage.strategies.statistics()
    assert after.average_latency == pytest.approx(before.average_latency, abs=0.001)
    assert abs(after.racing_delay - before.racing_delay) <= 0.0101
    assert stage.upstreams[0].latency.mean(stage.awake.seconds()) == pytest.approx(0.04, abs=0.001)


def test_a_first_measurement() -> None:
    """An upstream that nobody has measured stays unknown."""
    stage = Stage(says_own(0, 400))
    stage.ask()
    stage.run_to(100)
    stand_still(stage)
    stage.run()
    assert not stage.upstreams[0].latency.measured


def test_open_circuits_rest_as_long() -> None:
    """A rest goes on where it was: it is a time in which others were asked."""
    stage = Stage(SILENT, says_own(1, 20))
    stage.upstreams[0].open_circuit()
    stage.ask()
    stage.run_to(10)
    stand_still(stage)
    stage.run()
    assert not stage.upstreams[0].usable(stage.awake.seconds())
    stage.run_to(stage.now + 1000 * HEALTH.open_for)
    assert stage.upstreams[0].usable(stage.awake.seconds())


def test_entries_age_all_the_same() -> None:
    """A TTL runs while we do not."""
    stage = Stage(says_own(0, 20, ttl=5), SILENT)
    stage.ask()
    stage.run_to(50)
    stand_still(stage)
    stage.run()
    before = len(stage.launches)
    stage.ask()
    stage.run()
    assert len(stage.launches) > before
