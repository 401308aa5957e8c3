"""Standstills of the program, and of the machine that it runs on, say nothing about upstreams."""

from __future__ import annotations

import pytest

from staggerdns.upstream.health import State
from tests.kit.acts import SILENT, Act, negative, own, says_own, unreachable
from tests.kit.simulated import HEALTH, SimulatedResolver

STRATEGIES = ("parallel", "racing", "sequential", "random")
STILL = 9_000
"""Milliseconds for which nothing happens."""


def stand_still(resolver: SimulatedResolver, *then: Act) -> None:
    """Stop in the middle of things, and find all that was due since due at once; the upstreams
    do other things ``then``.
    """
    resolver.clock.rightNow += STILL / 1000
    if then:
        resolver.script(*then)
    resolver.clock.advance(0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("act", [says_own(0, 400), negative(400)], ids=["answer", "denial"])
def test_replies_that_came_meanwhile(strategy: str, act: Act) -> None:
    """They are read before anything times out; nobody is marked, and no latency measured by it."""
    resolver = SimulatedResolver(act, act, strategy=strategy)
    clients = [resolver.ask(resolver.question(f"n{number}.example")) for number in range(8)]
    resolver.run_to(100)
    stand_still(resolver)
    resolver.run()
    assert all(client.at <= 100 + STILL + 31 for client in clients)
    assert {client.rcode for client in clients} <= {0, 3}
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0]
    now = resolver.awake.seconds()
    # What is asked after the standstill may be measured.
    assert all(upstream.latency.mean(now) <= 0.401 for upstream in resolver.upstreams)
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_replies_that_never_came(strategy: str) -> None:
    """Their queries time out without a mark, and the next answers count as ever."""
    resolver = SimulatedResolver(SILENT, SILENT, SILENT, strategy=strategy)
    for number in range(2 * HEALTH.unhealthy_after):
        resolver.ask(resolver.question(f"n{number}.example"))
    resolver.run_to(100)
    stand_still(resolver, *[says_own(index, 20) for index in range(3)])
    resolver.run_to(100 + STILL + 10)
    client = resolver.ask(resolver.question("after.example"))
    resolver.run()
    assert client.at <= 100 + STILL + 31
    assert client.addresses[0] in [own(index) for index in range(3)]
    assert [upstream.health.state for upstream in resolver.upstreams] == [State.HEALTHY] * 3
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0, 0]
    resolver.assert_nothing_left()


@pytest.mark.parametrize("act", [SILENT, unreachable(500)], ids=["silent", "refused"])
def test_failures_before_and_after(act: Act) -> None:
    """A standstill excuses what was under way in it, nothing else."""
    resolver = SimulatedResolver(act, says_own(1, 20))
    for number in range(HEALTH.unhealthy_after - 1):
        resolver.ask(resolver.question(f"before{number}.example"))
        resolver.run()
    assert resolver.upstreams[0].marks == HEALTH.unhealthy_after - 1
    resolver.ask(resolver.question("during.example"))
    resolver.run_to(resolver.now + 60)
    stand_still(resolver)
    resolver.run()
    assert resolver.upstreams[0].marks == HEALTH.unhealthy_after - 1
    resolver.ask(resolver.question("after.example"))
    resolver.run()
    assert resolver.upstreams[0].health.state == State.UNHEALTHY


def test_measurements_know_nothing_of_it() -> None:
    """The delay of races and the fallback timeout are learnt from what is awake."""
    resolver = SimulatedResolver(says_own(0, 40), says_own(1, 45), strategy="racing")
    for number in range(10):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
    before = resolver.strategies.statistics()
    resolver.ask(resolver.question("during.example"))
    resolver.run_to(resolver.now + 20)
    stand_still(resolver)
    resolver.run()
    after = resolver.strategies.statistics()
    assert after.average_latency == pytest.approx(before.average_latency, abs=0.001)
    assert abs(after.racing_delay - before.racing_delay) <= 0.0101
    assert resolver.upstreams[0].latency.mean(resolver.awake.seconds()) == pytest.approx(
        0.04, abs=0.001
    )


def test_a_first_measurement() -> None:
    """An upstream that nobody has measured stays unknown."""
    resolver = SimulatedResolver(says_own(0, 400))
    resolver.ask()
    resolver.run_to(100)
    stand_still(resolver)
    resolver.run()
    assert not resolver.upstreams[0].latency.measured


def test_open_circuits_rest_as_long() -> None:
    """A rest goes on where it was: it is a time in which others were asked."""
    resolver = SimulatedResolver(SILENT, says_own(1, 20))
    resolver.upstreams[0].open_circuit()
    resolver.ask()
    resolver.run_to(10)
    stand_still(resolver)
    resolver.run()
    assert not resolver.upstreams[0].usable(resolver.awake.seconds())
    resolver.run_to(resolver.now + 1000 * HEALTH.open_for)
    assert resolver.upstreams[0].usable(resolver.awake.seconds())


def test_entries_age_all_the_same() -> None:
    """A TTL runs while we do not."""
    resolver = SimulatedResolver(says_own(0, 20, ttl=5), SILENT)
    resolver.ask()
    resolver.run_to(50)
    stand_still(resolver)
    resolver.run()
    before = len(resolver.launches)
    resolver.ask()
    resolver.run()
    assert len(resolver.launches) > before
