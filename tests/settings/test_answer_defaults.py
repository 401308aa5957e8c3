"""What becomes of answers where the configuration says nothing: every default, by its effect."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.testing import MemoryReactorClock

from staggerdns import chain as chain_module
from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.ranking.budget import ProbeBudget
from staggerdns.ranking.probes import Probes
from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import (
    RankingSettings,
)
from tests.kit.acts import says
from tests.kit.cache import WWW, SimulatedCache, no_such_name
from tests.kit.factory import pool
from tests.kit.filling import giant
from tests.kit.probing import SimulatedRanking, address, make_clock, silent
from tests.kit.ranked import RankedResolver

if TYPE_CHECKING:
    from staggerdns.settings.sections import Config

MINIMAL = "upstream: {servers: [192.0.2.1]}"
RATE = RankingSettings().max_probes_per_second
"""For a simulated ranking, which has another one unless it is told."""


def chain(config: Config) -> Chain:
    """The chain of a configuration."""
    return Chain(config, MemoryReactorClock(), rng=bytes)


def test_rebinding(monkeypatch: pytest.MonkeyPatch) -> None:
    """``rebinding``: nothing is stripped; if it is, there is no domain that may keep it."""
    made: list[tuple[bytes, ...]] = []
    monkeypatch.setattr(chain_module, "Rebinding", made.append)
    chain(parse_config(MINIMAL)).close()
    assert made == []
    chain(parse_config(f"{MINIMAL}\nrebinding: {{strip: true}}")).close()
    assert made == [()]


def test_times_of_the_cache() -> None:
    """``cache``: a day at most, no least time, five minutes for what is not there; an hour beyond
    the end with a TTL of 5 s, and every 600 s a new look.
    """
    simulated = SimulatedCache()
    assert simulated.cache.admit(pool(ttl=604_800)).ttl == 86_400
    assert simulated.cache.admit(pool(ttl=0)).ttl == 0
    assert simulated.cache.admit(no_such_name(86_400)).ttl == 300
    now = simulated.clock.seconds()
    simulated.cache.commit(WWW.key, 1, pool(ttl=3000), now)
    simulated.cache.complete(WWW.key, 1, 3000)
    assert simulated.ttl() == 600
    simulated.at(3001)
    assert simulated.ttl() == 5
    simulated.at(3000 + 3599.9)
    assert simulated.ttl() == 5
    simulated.at(3000 + 3600)
    assert simulated.cache.lookup(WWW.key, simulated.clock.seconds()) is None


def test_entries_of_the_cache() -> None:
    """``cache.max_entries``: 50,000."""
    simulated = SimulatedCache()
    now, answer = simulated.clock.seconds(), pool()
    for number in range(50_001):
        assert len(simulated.cache) == number
        simulated.cache.commit(number.to_bytes(8, "big"), number, answer, now)
    assert len(simulated.cache) == 50_000


def test_memory_of_the_cache() -> None:
    """``cache.max_size``: 128 MiB; the same octets count as often as they are kept."""
    simulated = SimulatedCache()
    now, (_, answer) = simulated.clock.seconds(), giant(random.Random(1), 1)
    octets = simulated.cache.commit(bytes(8), 1, answer, now).octets
    fits = 128 * 1024 * 1024 // octets
    for number in range(1, fits + 1):
        assert len(simulated.cache) == number
        simulated.cache.commit(number.to_bytes(8, "big"), number, answer, now)
    assert len(simulated.cache) == fits


def test_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """``ranking``: it is on, with three ways of probing; private addresses are not probed."""
    names: list[tuple[str, ...]] = []

    class Noting(Probes):
        def __init__(self, settings: RankingSettings, *more: Any) -> None:
            names.append(settings.probes)
            super().__init__(settings, *more)

    monkeypatch.setattr(chain_module, "Probes", Noting)
    chain(parse_config(MINIMAL)).close()
    assert names == [("icmp", "tcp:443", "tcp:80")]
    ranked = RankedResolver(says(5, "10.0.0.1", "10.0.0.2"))
    ranked.ask()
    ranked.run()
    assert ranked.ranking.sent == []


def test_probing() -> None:
    """``ranking``: three samples, 1 s for each, 16 addresses at once, 200 probes a second."""
    ranking = SimulatedRanking(silent, names=["icmp"], max_probes_per_second=RATE)
    for number in range(1, 18):
        ranking.measurer.measure(address(number))
    ranking.at(0.9)
    assert len({sample.address for sample in ranking.sent}) == 16
    assert len([one for one in ranking.sent if one.address == address(1)]) == 3
    ranking.at(20)
    first, *_ = (one.at for one in ranking.sent if one.address == address(17))
    last = max(one.at for one in ranking.sent if one.address == address(1))
    assert first == pytest.approx(last + 1, abs=0.05)
    budget = ProbeBudget(RankingSettings().max_probes_per_second, make_clock())
    assert [budget.reserve() for _ in range(102)][-3:] == pytest.approx([0, 0.005, 0.01])


def test_sorts() -> None:
    """``ranking.queue``: 200 sorts; ``ranking.rtt_cache_ttl``: 300 s until one is measured anew."""
    ranking = SimulatedRanking(silent, names=["icmp"], max_probes_per_second=RATE)
    started = [
        ranking.sorts.start(
            b"%d" % number, [address(1)], [address(1), address(2)], (), "first_answer",
            ranking.clock.seconds(), lambda *_: None,
        )
        for number in range(201)
    ]  # fmt: skip
    assert started == [True] * 200 + [False]
    table = RttTable(RankingSettings())
    table.add(address(1), [0.01], 1000.0)
    assert table.fresh(address(1), 1299.9)
    assert not table.fresh(address(1), 1300.0)
