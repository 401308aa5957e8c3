"""The ranking room as the program builds it from its configuration."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_twisted
from twisted.internet.testing import MemoryReactorClock

from staggerdns.chain import Chain
from staggerdns.config import parse_config
from staggerdns.metrics import Metrics
from staggerdns.ranking.icmp import Pinger
from staggerdns.ranking.sorts import TRIGGERS
from tests.kit.loopback import reactor
from tests.kit.probing import established
from tests.kit.ranked import asks, pool, shown

WWW = asks()


def chain(ranking: str, on: Any, metrics: Metrics | None = None) -> Chain:
    """The program's chain with this ``ranking`` section."""
    config = parse_config(f"upstream: {{servers: [192.0.2.1]}}\nranking: {ranking}\n")
    return Chain(config, on, clock=on, metrics=metrics)


def connect(on: MemoryReactorClock, first: int) -> list[tuple[str, int]]:
    """Have all connections since number ``first`` succeed, nearest first; where they went."""
    clients = on.tcpClients[first:]
    for host, _, factory, _, _ in sorted(clients, key=lambda client: int(client[0].split(".")[-1])):
        on.advance(0.001)
        assert host
        established(factory)
    return [(host, port) for host, port, *_ in clients]


def test_numbers_arrive() -> None:
    """Ways, samples, timeout, concurrency and lifetime are those of the configuration."""
    on = MemoryReactorClock()
    made = chain(
        "{probes: ['tcp:8443'], samples: 2, timeout: 700ms, concurrency: 2, rtt_cache_ttl: 50}", on
    )
    answer = pool(30, 10, 20)
    made.cache.commit(WWW.key, 1, answer, on.seconds())
    made.cache.complete(WWW.key, 1)
    on.advance(0)
    assert [client[:2] for client in on.tcpClients] == [
        ("203.0.113.30", 8443),
        ("203.0.113.10", 8443),
    ]
    assert [client[3] for client in on.tcpClients] == pytest.approx([0.7, 0.7])
    seen = 0
    while seen < len(on.tcpClients):
        before, seen = seen, len(on.tcpClients)
        connect(on, before)
        on.advance(0)
    assert len(on.tcpClients) == 6
    entry = made.cache.lookup(WWW.key, on.seconds())
    assert entry is not None
    assert entry.sorted_at is not None
    sorted_at = entry.sorted_at
    assert made.cache.reply_ttl(entry, on.seconds()) == 600
    on.rightNow = sorted_at + 49.9
    assert made.cache.reply_ttl(entry, on.seconds()) > 5
    on.rightNow = sorted_at + 50
    assert made.cache.reply_ttl(entry, on.seconds()) == 5
    made.close()


def test_a_standstill_makes_no_address_nearer() -> None:
    """What passes while the program stands still counts for the probes that are under way."""
    on = MemoryReactorClock()
    metrics = Metrics()
    made = chain("{probes: ['tcp:443'], samples: 1}", on, metrics)
    made.cache.commit(WWW.key, 1, pool(10, 20), on.seconds())
    on.advance(0)
    on.rightNow += 3  # and nothing that was due has been called
    for _, _, factory, *_ in list(on.tcpClients):
        established(factory)
    _, total = metrics.probe_seconds.distribution("tcp:443").samples()
    assert total == pytest.approx(2 * 3)
    made.close()


def test_queue_arrives() -> None:
    """The bound of the queue is that of the configuration."""
    on = MemoryReactorClock()
    metrics = Metrics()
    made = chain("{probes: ['tcp:443'], queue: 1}", on, metrics)
    for number in range(3):
        made.cache.commit(
            asks(f"n{number}.example").key,
            1,
            pool(number * 2 + 1, number * 2 + 2),
            on.seconds(),
        )
    started = {trigger: metrics.sorts.cell(trigger).value for trigger in TRIGGERS}
    assert (started["first_answer"], started["queue_full"]) == (1, 2)
    made.close()


@pytest.mark.parametrize(("allowed", "probed"), [("true", 2), ("false", 0)])
def test_private_addresses(allowed: str, probed: int) -> None:
    """`probe_private` is what allows private addresses."""
    on = MemoryReactorClock()
    made = chain(f"{{probes: ['tcp:443'], probe_private: {allowed}}}", on)
    made.cache.commit(WWW.key, 1, pool("10.0.0.1", "10.0.0.2"), on.seconds())
    on.advance(0)
    assert len(on.tcpClients) == probed
    made.close()


def test_rate_arrives() -> None:
    """The budget is that of the configuration."""
    on = MemoryReactorClock()
    made = chain("{probes: ['tcp:443'], max_probes_per_second: 4}", on)
    made.cache.commit(WWW.key, 1, pool(*range(1, 9)), on.seconds())
    on.advance(0)
    assert len(on.tcpClients) == 2
    on.advance(0.5)
    assert len(on.tcpClients) == 4
    made.close()


def test_off() -> None:
    """`enabled: false`: a plain cache, real TTLs, nothing to open, nothing sent."""
    on = MemoryReactorClock()
    made = chain("{enabled: false}", on)
    made.open()
    entry = made.cache.commit(WWW.key, 1, pool(30, 10), on.seconds())
    on.advance(400)
    assert (shown(entry), made.cache.reply_ttl(entry, on.seconds())) == ([30, 10], 200)
    assert on.tcpClients == []
    assert on.getReaders() == []
    assert on.getDelayedCalls() == []
    made.close()


def test_close() -> None:
    """The end of the chain ends sorts and probes and leaves no timer."""
    on = MemoryReactorClock()
    made = chain("{probes: ['tcp:443', 'tcp:80'], max_probes_per_second: 2}", on)
    made.cache.commit(WWW.key, 1, pool(30, 10, 20), on.seconds())
    on.advance(0.3)
    made.close()
    assert on.getDelayedCalls() == []
    assert all(connector._disconnected for connector in on.connectors)


@pytest_twisted.ensureDeferred
async def test_sockets_are_opened_early_and_closed() -> None:
    """`open` has the ICMP sockets where they are allowed, `close` leaves none."""
    made = chain("{probes: [icmp]}", reactor)
    made.open()
    assert len([reader for reader in reactor.getReaders() if isinstance(reader, Pinger)]) <= 2
    made.close()
    assert not [reader for reader in reactor.getReaders() if isinstance(reader, Pinger)]
