"""ICMP errors are hints: others are asked at once, and the reply is welcome all the same."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest

from staggerdns.strategy.parallel import Pace
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.health import State
from staggerdns.upstream.refusals import REFUSED_WAIT
from staggerdns.wire.answer import Failed
from staggerdns.wire.constants import Ede
from tests.kit.acts import SILENT, negative, own, refuses, says_own
from tests.kit.simulated import HEALTH, Stage

if TYPE_CHECKING:
    from collections.abc import Callable

STRATEGIES = ("parallel", "racing", "sequential", "random", "auto")
WAIT = 1000 * REFUSED_WAIT
ATTACKS = 1_000


@pytest.mark.parametrize("strategy", ["racing", "sequential"])
def test_the_next_is_asked_at_once(strategy: str) -> None:
    """Whoever has its turn next has it when the first is refused; the first stays in the race."""
    stage = Stage(refuses(5), says_own(1, 20), strategy=strategy)
    client = stage.ask()
    stage.run()
    assert stage.launches == [(0, 0), (5, 1)]
    assert client.at == 25
    assert stage.now == 3000, "only then is it sure that nothing comes"
    assert [upstream.marks for upstream in stage.upstreams] == [1, 0]
    stage.assert_nothing_left()


def test_the_active_tier_is_refused() -> None:
    """The staggered tier begins at once, as if the active one had failed."""
    stage = Stage(refuses(5), refuses(8), says_own(2, 20), SILENT)
    client = stage.ask()
    stage.run_to(8)
    assert stage.launches == [(0, 0), (0, 1), (8, 2), (8, 3)]
    stage.run()
    assert client.at == 28
    starts = {reason: cell.value for reason, cell in stage.strategy.staggered_starts.items()}
    assert starts == {"answered": 0, "fallback": 0, "failed": 1}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_reply_comes_all_the_same(strategy: str) -> None:
    """A forged error costs the client nothing, and the upstream is well."""
    stage = Stage(refuses(5, says_own(0, 40)), strategy=strategy)
    for number in range(2 * HEALTH.unhealthy_after):
        began = stage.now
        client = stage.ask(stage.question(f"n{number}.example"))
        stage.run()
        assert client.at == began + 40
        assert client.addresses == [own(0)]
    assert stage.upstreams[0].marks == 0
    assert stage.upstreams[0].latency.mean(stage.awake.seconds()) == pytest.approx(0.04)
    stage.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [1, 2, 5, 9])
def test_all_refuse(strategy: str, count: int) -> None:
    """Then no client waits for long, and each upstream has its mark."""
    stage = Stage(*[refuses(5)] * count, strategy=strategy)
    client = stage.ask()
    stage.run()
    assert client.rcode == 2
    failed = client.entry.answer
    assert isinstance(failed, Failed)
    assert (failed.ede, failed.text) == (Ede.NETWORK_ERROR, b"connection refused")
    last = stage.times[-1] + 5
    assert client.at == last + WAIT
    assert last <= 200
    assert [upstream.marks for upstream in stage.upstreams] == [1] * count
    stage.assert_nothing_left()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_really_closed_ports(strategy: str) -> None:
    """Five names in a row without any reply open the circuit, of one and of all."""
    stage = Stage(refuses(1), refuses(1), strategy=strategy)
    for number in range(HEALTH.unhealthy_after):
        stage.ask(stage.question(f"n{number}.example"))
        stage.run()
    assert [upstream.health.state for upstream in stage.upstreams] == [State.UNHEALTHY] * 2


@pytest.mark.parametrize("strategy", ["parallel", "random"])
def test_one_closed_port(strategy: str) -> None:
    """Where others answer, it is found out as soon."""
    stage = Stage(refuses(1), says_own(1, 20), strategy=strategy)
    while len([1 for _, upstream in stage.launches if upstream == 0]) < HEALTH.unhealthy_after:
        assert stage.upstreams[0].health.state != State.UNHEALTHY
        stage.ask(stage.question(f"n{len(stage.launches)}.example"))
        stage.run()
    assert [upstream.health.state for upstream in stage.upstreams] == [
        State.UNHEALTHY,
        State.HEALTHY,
    ]


@pytest.mark.parametrize(("late", "answered"), [(WAIT - 1, True), (WAIT + 1, False)])
def test_the_wait_for_a_reply_of_the_refused(late: float, answered: bool) -> None:
    """It is bounded by the last refusal."""
    stage = Stage(refuses(5, says_own(0, 10 + late)), refuses(10))
    client = stage.ask()
    stage.run()
    assert (client.rcode == 0) == answered
    assert client.at == min(10 + late, 10 + WAIT)


def test_slow_upstreams_have_more_time() -> None:
    """Where replies usually take long, twice the usual time is waited for one."""
    stage = Stage(says_own(0, 600))
    stage.ask(stage.question("before.example"))
    stage.run()
    stage.script(refuses(5, says_own(0, 1150)))
    began = stage.now
    client = stage.ask()
    stage.run()
    assert client.at == began + 1150
    stage.script(refuses(5))
    began = stage.now
    client = stage.ask(stage.question("after.example"))
    stage.run()
    assert client.rcode == 2
    assert 1150 < client.at - began < 1600


def test_a_denial_waits_for_no_refused_one() -> None:
    """It has its grace, no more."""
    stage = Stage(refuses(5, says_own(0, 50)), negative(20), pace=Pace(negative_grace=0.03))
    client = stage.ask()
    stage.run()
    assert client.at == 50
    assert client.addresses == [own(0)], "it came within the grace"
    stage = Stage(refuses(5), negative(20), pace=Pace(negative_grace=0.03))
    client = stage.ask()
    stage.run()
    assert client.rcode == 3
    assert client.at == 50


def test_places_in_a_race() -> None:
    """Who was refused takes nobody's place."""
    stage = Stage(*[refuses(5)] * 4, says_own(4, 20), strategy="racing", max_concurrent=2)
    client = stage.ask()
    stage.run()
    assert client.at < 60


def test_a_cancelled_run() -> None:
    """It leaves nothing, and says nothing about who was refused."""
    stage = Stage(refuses(5), refuses(5))
    stage.ask()
    stage.run_to(100)
    stage.forwarder.close()
    stage.run()
    assert [upstream.marks for upstream in stage.upstreams] == [0, 0]
    stage.assert_nothing_left()


def attack(seed: int) -> None:
    """Forge ICMP errors for a second: at random times, on whatever waits then."""
    rng = Random(seed)
    delays = [rng.uniform(1, WAIT - 10) for _ in range(rng.randint(1, 6))]
    acts = [says_own(index, delay) for index, delay in enumerate(delays)]
    stage = Stage(*acts, strategy=rng.choice(STRATEGIES))
    waiting: dict[Exchange, None] = {}

    def remember(send: Callable[[Exchange], None], exchange: Exchange) -> None:
        waiting[exchange] = None
        send(exchange)

    for upstream in stage.upstreams:
        send = upstream.script.send
        upstream.script.send = partial(remember, send)  # type: ignore[method-assign]

    def forge(share: float) -> None:
        for exchange in list(waiting):
            if not exchange.called and rng.random() < share:
                exchange.hint(rng.choice(["connection refused", "unreachable"]))

    clients = []
    for number in range(5):
        at = stage.now + rng.uniform(0, 80)
        for _ in range(rng.randint(1, 10)):
            share = rng.choice([0.3, 1.0])
            stage.clock.callLater(rng.uniform(0, 0.5), forge, share)
        clients.append(stage.ask(stage.question(f"n{number}.example")))
        stage.run_to(at)
    stage.run()
    for client in clients:
        assert client.rcode == 0, seed
        assert set(client.addresses) <= {own(index) for index in range(len(acts))}, seed
    assert all(upstream.health.state == State.HEALTHY for upstream in stage.upstreams), seed
    assert all(upstream.marks == 0 for upstream in stage.upstreams), seed
    stage.assert_nothing_left()


@pytest.mark.parametrize("start", range(0, ATTACKS, 100))
def test_forged_errors(start: int) -> None:
    """Whoever forges ICMP errors for all that waits, at any time, never costs a client an answer
    that upstreams give within `REFUSED_WAIT`, and never opens a circuit or makes a mark.
    """
    for seed in range(start, start + 100):
        attack(seed)
