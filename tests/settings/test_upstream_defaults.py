"""How upstreams are asked where the configuration says nothing: every default, by its effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.testing import MemoryReactorClock

from staggerdns import chain as chain_module
from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.sections import (
    AdaptiveSettings,
    BudgetSettings,
    HealthSettings,
    RacingSettings,
    SequentialSettings,
    UpstreamSettings,
)
from staggerdns.standstill import StandstillClock
from staggerdns.strategy.adaptive import RacingDelay, try_timeout
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.health import Health, State
from staggerdns.upstream.upstream import Upstream
from tests.kit.acts import NXDOMAIN, SILENT, negative, own, says, says_own
from tests.kit.simulated import SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.settings.sections import Config

MINIMAL = "upstream: {servers: [192.0.2.1]}"


def chain(config: Config) -> Chain:
    """The chain of a configuration."""
    return Chain(config, MemoryReactorClock(), rng=bytes)


def test_who_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """``upstream.bootstrap``: two public resolvers; ``upstream.tls_ca``: the system's own."""
    made: list[str] = []
    files: list[str | None] = []

    class Noting(Upstream):
        def __init__(self, address: Any, settings: UpstreamSettings, **more: Any) -> None:
            made.append(str(address))
            super().__init__(address, settings, **more)

    monkeypatch.setattr(chain_module, "Upstream", Noting)
    monkeypatch.setattr(chain_module, "Authorities", files.append)
    chain(parse_config(MINIMAL)).close()
    assert made == ["1.1.1.1:53", "8.8.8.8:53", "192.0.2.1:53"]
    assert files == [None]


def test_the_strategy() -> None:
    """``upstream.strategy``: parallel, with the numbers of ``upstream.profile`` balanced."""
    resolver = SimulatedResolver(*[SILENT] * 3)
    assert resolver.strategies.chosen is resolver.strategy
    numbers = parse_config(MINIMAL).upstream.parallel
    assert (numbers.active_tier_size, numbers.total_collect_timeout) == (2, 3.0)


def test_the_two_tiers() -> None:
    """``upstream.parallel``: two at once, after 300 ms two more every 50 ms, 3 s in all."""
    resolver = SimulatedResolver(*[SILENT] * 7)
    client = resolver.ask()
    resolver.run()
    tiers = [launch for launch in resolver.launches if launch[0] < 1000]
    assert [at for at, _ in tiers] == [0, 0, 300, 300, 350, 350, 400]
    assert client.at == 3000


@pytest.mark.parametrize("strategy", ["racing", "sequential"])
def test_the_timeout(strategy: str) -> None:
    """``upstream.timeout``: 3 s for one query, twice that for one question."""
    resolver = SimulatedResolver(SILENT, strategy=strategy)
    client = resolver.ask()
    resolver.run()
    assert client.at == 6000


def test_negative_grace() -> None:
    """``upstream.parallel.negative_grace``: 30 ms for a better answer."""
    for after, addressed in ((39, True), (41, False)):
        resolver = SimulatedResolver(negative(10), says_own(1, after))
        client = resolver.ask()
        resolver.run()
        assert (client.addresses == [own(1)]) is addressed
        assert client.at == (39 if addressed else 40)
        assert addressed or client.rcode == NXDOMAIN


def test_pools() -> None:
    """``upstream.parallel``: ``max_pool_size`` 32, and no private addresses are merged."""
    many = [f"198.18.0.{number}" for number in range(33)]
    resolver = SimulatedResolver(says(5, *many), says(6, "10.0.0.1", "198.18.1.1"))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == many[:32]
    resolver = SimulatedResolver(says_own(0, 5), says(6, "10.0.0.1", own(1)))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [own(0), own(1)]


def test_tricks_over_udp() -> None:
    """``upstream.case_randomization``: auto; ``upstream.cookies``: true."""
    upstream = Upstream(
        parse_upstream("192.0.2.1"),
        UpstreamSettings(servers=()),
        reactor=MemoryReactorClock(),
        readers=cast("Any", None),
        clock=StandstillClock(MemoryReactorClock()),
        rng=bytes,
        metrics=Metrics(),
        journal=Journal(),
    )
    assert upstream.dialect.case.is_mixed
    assert upstream.dialect.cookies.wanted
    upstream.close()


def test_races() -> None:
    """``upstream.racing``: 100 ms alone, at most four queries; between 20 ms and 200 ms."""
    resolver = SimulatedResolver(*[SILENT] * 7, strategy="racing")
    resolver.ask()
    resolver.run_to(2900)
    assert resolver.times[1] == 100
    assert resolver.peak == 4
    resolver.run()
    for seconds, bound_ in ((0.0, 0.02), (5.0, 0.2)):
        delay = RacingDelay(RacingSettings(), AdaptiveSettings())
        for number in range(100):
            delay.add(seconds, 1000 + number / 100)
        assert delay.seconds == pytest.approx(bound_)


def test_how_fast_numbers_follow() -> None:
    """``upstream.adaptive``: a fifth of each new time, 10 ms of the delay at most."""
    delay = RacingDelay(RacingSettings(), AdaptiveSettings())
    delay.add(0.1, 1000.0)
    delay.add(0.2, 1000.0)
    assert delay.average(1000.0) == pytest.approx(0.12)
    delay = RacingDelay(RacingSettings(), AdaptiveSettings())
    delay.add(5.0, 1000.0)
    assert delay.seconds == pytest.approx(0.11)


@pytest.mark.parametrize(("average", "timeout"), [(None, 1), (0.0, 0.5), (9.0, 2)])
def test_one_by_one(average: float | None, timeout: float) -> None:
    """``upstream.sequential``: 1 s, between 500 ms and 2 s."""
    assert try_timeout(SequentialSettings(), average) == timeout


def test_health() -> None:
    """``upstream.health``: degraded after 3 failures, unhealthy after 5 for 30 s, then for twice as
    long up to 600 s; healthy again after two good replies.
    """
    health = Health(HealthSettings())
    told = [health.failed(1000.0, 1000.0, alone=True) for _ in range(5)]
    assert told == [None, None, State.DEGRADED, None, State.UNHEALTHY]
    now = 1000.0
    for pause in (30, 60, 120, 240, 480, 600, 600):
        assert not health.usable(now + pause - 0.001)
        now += pause
        assert health.usable(now)
        health.asked(now)
        health.failed(now, now, alone=True)
    now += 600
    health.asked(now)
    healed = 0
    while health.state is not State.HEALTHY:
        healed += 1
        health.succeeded(now, now)
    assert healed == 2


def test_budgets() -> None:
    """``upstream.budget``: 1,000 queries under way, any rate; with a rate, 100 at once."""
    budget = QueryBudget(BudgetSettings())
    assert budget.has_room(1000.0, 999, first=True)
    assert not budget.has_room(1000.0, 1000, first=True)
    assert budget.rate == 0
    budget = QueryBudget(BudgetSettings(queries_per_second=1))
    for _ in range(100):
        assert budget.has_room(1000.0, 0, first=True)
        budget.spend(1000.0)
    assert not budget.has_room(1000.0, 0, first=True)
