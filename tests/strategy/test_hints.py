"""ICMP errors are hints: others are asked at once, and the reply is welcome all the same."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest

from staggerdns.settings.upstreams import ParallelSettings, RacingSettings
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.health import State
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.refusals import REFUSED_WAIT
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from tests.kit.acts import SILENT, negative, own, refuses, says_own
from tests.kit.simulated import HEALTH, SimulatedResolver

if TYPE_CHECKING:
    from collections.abc import Callable

STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")
WAIT = 1000 * REFUSED_WAIT
ATTACKS = 400


@pytest.mark.parametrize("strategy", ["racing", "sequential"])
def test_the_next_is_asked_at_once(strategy: str) -> None:
    """Whoever has its turn next has it when the first is refused; the first stays in the race."""
    resolver = SimulatedResolver(refuses(5), says_own(1, 20), strategy=strategy)
    client = resolver.ask()
    resolver.run()
    assert resolver.launches == [(0, 0), (5, 1)]
    assert client.at == 25
    assert resolver.now == 3000, "only then is it sure that nothing comes"
    assert [upstream.marks for upstream in resolver.upstreams] == [1, 0]
    resolver.assert_nothing_left()


def test_the_active_tier_is_refused() -> None:
    """The staggered tier begins at once, as if the active one had failed."""
    resolver = SimulatedResolver(refuses(5), refuses(8), says_own(2, 20), SILENT)
    client = resolver.ask()
    resolver.run_to(8)
    assert resolver.launches == [(0, 0), (0, 1), (8, 2), (8, 3)]
    resolver.run()
    assert client.at == 28
    starts = {reason: cell.value for reason, cell in resolver.strategy.staggered_starts.items()}
    assert starts == {"answered": 0, "fallback": 0, "failed": 1}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_reply_comes_all_the_same(strategy: str) -> None:
    """A forged error costs the client nothing, and the upstream is well."""
    resolver = SimulatedResolver(refuses(5, says_own(0, 40)), strategy=strategy)
    for number in range(2 * HEALTH.unhealthy_after):
        began = resolver.now
        client = resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
        assert client.at == began + 40
        assert client.addresses == [own(0)]
    assert resolver.upstreams[0].marks == 0
    assert resolver.upstreams[0].latency.mean(resolver.awake.seconds()) == pytest.approx(0.04)
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_all_refuse(strategy: str, count: int) -> None:
    """Then no client waits for long, and each upstream has its mark."""
    resolver = SimulatedResolver(*[refuses(5)] * count, strategy=strategy)
    client = resolver.ask()
    resolver.run()
    assert client.rcode == 2
    failed = client.entry.answer
    assert isinstance(failed, FailureAnswer)
    assert (failed.ede, failed.text) == (Ede.NETWORK_ERROR, b"connection refused")
    last = resolver.times[-1] + 5
    assert client.at == last + WAIT
    assert last <= 200
    assert [upstream.marks for upstream in resolver.upstreams] == [1] * count
    resolver.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_really_closed_ports(strategy: str) -> None:
    """Five names in a row without any reply open the circuit, of one and of all."""
    resolver = SimulatedResolver(refuses(1), refuses(1), strategy=strategy)
    for number in range(HEALTH.unhealthy_after):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
    assert [upstream.health.state for upstream in resolver.upstreams] == [State.UNHEALTHY] * 2


@pytest.mark.parametrize("strategy", ["parallel", "random"])
def test_one_closed_port(strategy: str) -> None:
    """Where others answer, it is found out as soon."""
    resolver = SimulatedResolver(refuses(1), says_own(1, 20), strategy=strategy)
    while len([1 for _, upstream in resolver.launches if upstream == 0]) < HEALTH.unhealthy_after:
        assert resolver.upstreams[0].health.state != State.UNHEALTHY
        resolver.ask(resolver.question(f"n{len(resolver.launches)}.example"))
        resolver.run()
    assert [upstream.health.state for upstream in resolver.upstreams] == [
        State.UNHEALTHY,
        State.HEALTHY,
    ]


@pytest.mark.parametrize(("late", "answered"), [(WAIT - 1, True), (WAIT + 1, False)])
def test_the_wait_for_a_reply_of_the_refused(late: float, answered: bool) -> None:
    """It is bounded by the last refusal."""
    resolver = SimulatedResolver(refuses(5, says_own(0, 10 + late)), refuses(10))
    client = resolver.ask()
    resolver.run()
    assert (client.rcode == 0) == answered
    assert client.at == min(10 + late, 10 + WAIT)


def test_slow_upstreams_have_more_time() -> None:
    """Where replies usually take long, twice the usual time is waited for one."""
    resolver = SimulatedResolver(says_own(0, 600))
    resolver.ask(resolver.question("before.example"))
    resolver.run()
    resolver.script(refuses(5, says_own(0, 1150)))
    began = resolver.now
    client = resolver.ask()
    resolver.run()
    assert client.at == began + 1150
    resolver.script(refuses(5))
    began = resolver.now
    client = resolver.ask(resolver.question("after.example"))
    resolver.run()
    assert client.rcode == 2
    assert 1150 < client.at - began < 1600


def test_a_denial_waits_for_no_refused_one() -> None:
    """It has its grace, no more."""
    resolver = SimulatedResolver(
        refuses(5, says_own(0, 50)), negative(20), parallel=ParallelSettings(negative_grace=0.03)
    )
    client = resolver.ask()
    resolver.run()
    assert client.at == 50
    assert client.addresses == [own(0)], "it came within the grace"
    resolver = SimulatedResolver(
        refuses(5), negative(20), parallel=ParallelSettings(negative_grace=0.03)
    )
    client = resolver.ask()
    resolver.run()
    assert client.rcode == 3
    assert client.at == 50


def test_places_in_a_race() -> None:
    """Who was refused takes nobody's place."""
    resolver = SimulatedResolver(
        *[refuses(5)] * 4,
        says_own(4, 20),
        strategy="racing",
        racing=RacingSettings(max_concurrent=2),
    )
    client = resolver.ask()
    resolver.run()
    assert client.at < 60


def test_a_cancelled_run() -> None:
    """It leaves nothing, and says nothing about who was refused."""
    resolver = SimulatedResolver(refuses(5), refuses(5))
    resolver.ask()
    resolver.run_to(100)
    resolver.forwarder.close()
    resolver.run()
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0]
    resolver.assert_nothing_left()


def attack(seed: int) -> None:
    """Forge ICMP errors for a second: at random times, on whatever waits then."""
    rng = Random(seed)
    delays = [rng.uniform(1, WAIT - 10) for _ in range(rng.randint(1, 6))]
    acts = [says_own(index, delay) for index, delay in enumerate(delays)]
    resolver = SimulatedResolver(*acts, strategy=rng.choice(STRATEGIES))
    waiting: dict[Exchange, None] = {}

    def remember(send: Callable[[Exchange], None], exchange: Exchange) -> None:
        waiting[exchange] = None
        send(exchange)

    for upstream in resolver.upstreams:
        send = upstream.script.send
        upstream.script.send = partial(remember, send)  # type: ignore[method-assign]

    def forge(share: float) -> None:
        for exchange in list(waiting):
            if not exchange.over and rng.random() < share:
                exchange.hint(rng.choice([Reason.CONNECTION_REFUSED, Reason.UNREACHABLE]))

    clients = []
    for number in range(5):
        at = resolver.now + rng.uniform(0, 80)
        for _ in range(rng.randint(1, 10)):
            share = rng.choice([0.3, 1.0])
            resolver.clock.callLater(rng.uniform(0, 0.5), forge, share)
        clients.append(resolver.ask(resolver.question(f"n{number}.example")))
        resolver.run_to(at)
    resolver.run()
    for client in clients:
        assert client.rcode == 0, seed
        assert set(client.addresses) <= {own(index) for index in range(len(acts))}, seed
    assert all(upstream.health.state == State.HEALTHY for upstream in resolver.upstreams), seed
    assert all(upstream.marks == 0 for upstream in resolver.upstreams), seed
    resolver.assert_nothing_left()


@pytest.mark.parametrize("start", range(0, ATTACKS, 100))
def test_forged_errors(start: int) -> None:
    """Whoever forges ICMP errors for all that waits, at any time, never costs a client an answer
    that upstreams give within `REFUSED_WAIT`, and never opens a circuit or makes a mark.
    """
    for seed in range(start, start + 100):
        attack(seed)
