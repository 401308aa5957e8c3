"""Round trips that servers of one site share."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from staggerdns.journal import Journal
from staggerdns.ranking.rtt import MANY_LOST, RttTable
from staggerdns.resolver.ranker import Ranker
from staggerdns.settings.sections import CacheSettings, RankingSettings
from staggerdns.shared.poll import INTERVAL
from staggerdns.shared.roundtrips import MAX_READ, MAX_WRITTEN, RoundTrips
from staggerdns.wire.key import DEFAULT_SCOPE
from tests.kit.acts import says
from tests.kit.probing import SimulatedRanking, make_clock
from tests.kit.ranked import near, packed, shown
from tests.kit.sharedstore import MemoryStore, SharingResolver

LIFE = 100
SETTINGS = RankingSettings(rtt_cache_ttl=LIFE, probes=("icmp", "tcp:443"))
(ADDRESS,) = packed(1)


class Node:
    """What one server of a site knows of addresses."""

    def __init__(
        self,
        store: MemoryStore | None = None,
        site: str = "here",
        settings: RankingSettings = SETTINGS,
    ) -> None:
        self.store = store or MemoryStore(make_clock())
        self.table = RttTable(settings)
        self.round_trips = RoundTrips(self.store, site, settings, lambda: self.table, self.now)
        self.wait(0.01)

    @property
    def now(self) -> float:
        """The time."""
        return self.store.clock.seconds()

    def measure(self, address: bytes, seconds: float | None, lost: int = 0) -> None:
        """Measure an address, with three samples."""
        self.table.begin(address, seconds, lost, "icmp", self.now)
        for _ in range(2):
            self.table.extend(address, seconds, 0, "icmp", self.now)

    def write(self) -> None:
        """Let the others know."""
        self.round_trips.write(self.now)
        self.wait(0.01)

    def read(self, *addresses: bytes) -> None:
        """Learn what they know."""
        self.round_trips.read(addresses, self.now)
        self.wait(0.01)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.store.clock.advance(seconds)


def test_what_one_measures_others_know() -> None:
    """With its age, and so well that it need not be measured anew."""
    first = Node()
    second = Node(first.store)
    first.measure(ADDRESS, 0.0123)
    first.write()
    first.wait(40)
    assert second.round_trips.missing([ADDRESS], second.now) == [ADDRESS]
    second.read(ADDRESS)
    assert second.table.cost(ADDRESS) == 0.0123
    assert second.table.settled(ADDRESS, SETTINGS.samples)
    assert second.table.way(ADDRESS) == "icmp"
    assert second.round_trips.missing([ADDRESS], second.now) == []
    assert second.table.fresh(ADDRESS, second.now + LIFE - 41)
    assert not second.table.fresh(ADDRESS, second.now + LIFE - 39)


def test_what_is_ones_own_stays() -> None:
    """As long as it is fresh; what is old is replaced."""
    first = Node()
    second = Node(first.store)
    second.measure(ADDRESS, 0.5)
    first.wait(LIFE - 10)
    first.measure(ADDRESS, 0.0123)
    first.write()
    second.read(ADDRESS)
    assert second.table.cost(ADDRESS) == 0.5
    first.wait(20)
    second.read(ADDRESS)
    assert second.table.cost(ADDRESS) == 0.0123
    assert len(second.table) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"site": "there"},
        {"settings": RankingSettings(rtt_cache_ttl=LIFE, probes=("tcp:443",))},
    ],
)
def test_what_is_another_measure(other: dict[str, Any]) -> None:
    """Elsewhere, or in another way."""
    first = Node()
    second = Node(first.store, **other)
    first.measure(ADDRESS, 0.0123)
    first.write()
    second.read(ADDRESS)
    assert second.table.cost(ADDRESS) is None


def test_what_is_written() -> None:
    """What has answered here since the last time; not what others have measured."""
    node = Node()
    silent, lossy, good = packed(2, 3, 4)
    node.measure(silent, None)
    node.measure(lossy, 0.01, MANY_LOST)
    node.measure(good, 0.01)
    node.write()
    assert [*node.store.values] == [node.round_trips.key(good)]
    node.write()
    assert node.store.commands == ["write"]
    second = Node(node.store)
    second.read(good)
    second.write()
    assert node.store.commands == ["write", "read"]
    node.measure(good, 0.02)
    node.write()
    assert node.store.commands == ["write", "read", "write"]


def test_what_was_known_before() -> None:
    """It may be old, as what was kept over a restart is: it is not written."""
    first = Node()
    first.measure(ADDRESS, 0.01)
    rtt = first.table.get(ADDRESS)
    assert rtt is not None
    later = Node(first.store)
    later.wait(5)
    later.table.restore(ADDRESS, rtt)
    again = Node(first.store)
    again.table = later.table
    again.write()
    assert first.store.commands == []


def test_limits() -> None:
    """The latest are written, and the first looked for."""
    node = Node()
    addresses = [number.to_bytes(4, "big") for number in range(1, MAX_WRITTEN + 2)]
    for address in addresses:
        node.measure(address, 0.01)
    node.write()
    assert len(node.store.values) == MAX_WRITTEN
    assert node.round_trips.key(addresses[0]) not in node.store.values
    other = Node(node.store)
    assert other.round_trips.missing(addresses, other.now) == addresses[:MAX_READ]


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"garbage",
        msgspec.msgpack.encode([LIFE * 1000, 0, 0, 3, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000, -5, 0, 3, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000, 1_000_001, 0, 3, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000, 5_000, -1, 3, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000, 5_000, 0, 0, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000, 5_000, 0, 3, "smoke"]),
        msgspec.msgpack.encode([LIFE * 1000 + 1, 5_000, 0, 3, "icmp"]),
        msgspec.msgpack.encode([LIFE * 1000 - 100, 5_000, 0, 3, "icmp"]),
    ],
)
def test_lies(value: bytes) -> None:
    """Times that cannot be, ways that there are not, ages that are none."""
    node = Node()
    node.store.put(node.round_trips.key(ADDRESS), value, LIFE * 1000 + 1)
    node.read(ADDRESS)
    assert node.table.cost(ADDRESS) is None
    good = msgspec.msgpack.encode([LIFE * 1000, 1_000_000, 0, 3, "icmp"])
    node.store.put(node.round_trips.key(ADDRESS), good, LIFE * 1000)
    node.read(ADDRESS)
    assert node.table.cost(ADDRESS) == 1.0


def ranked(store: MemoryStore | None = None) -> tuple[SharingResolver, SimulatedRanking]:
    """A resolver that ranks what it finds, and polls the store."""
    resolver = SharingResolver(says(2, near(90), near(5), near(40)), store=store)
    ranking = SimulatedRanking(names=["icmp"], clock=resolver.clock, metrics=resolver.metrics)
    ranker = Ranker(RankingSettings(), ranking.sorts, Journal("info"))
    resolver.cache.use(CacheSettings(), {DEFAULT_SCOPE: (ranker, 0)})
    resolver.table = ranking.sorts.table
    resolver.poll.start()
    return resolver, ranking


def test_the_first_answer_is_nearest_first() -> None:
    """Where another server has measured, nothing is probed here."""
    first, _ = ranked()
    first.run_to(100)
    first.ask()
    first.run_to(4 * INTERVAL * 1000)
    second, ranking = ranked(first.store)
    second.run_to(second.now + 100)
    client = second.ask()
    second.run_to(second.now + 100)
    assert shown(client.entry) == [5, 40, 90]
    assert client.entry.sorted_at is not None
    assert ranking.sent == []
    assert second.reads == {"whole": 1}
    for resolver in (first, second):
        resolver.poll.stop()


@pytest.mark.parametrize("how", ["slow", "broken"])
def test_round_trips_that_do_not_come(how: str) -> None:
    """The pool is the answer all the same, when the time is over, or at once after an error."""
    first, _ = ranked()
    first.run_to(100)
    first.ask()
    first.run_to(4 * INTERVAL * 1000)
    second, _ = ranked(first.store)
    second.run_to(second.now + 100)
    began = second.now
    client = second.ask()
    second.run_to(began + 1.0005)
    assert client.answers == []
    if how == "slow":
        second.store.replies = False
    else:
        second.store.broken = "ERR"
    second.run_to(began + 50)
    assert set(shown(client.entry)) == {5, 40, 90}
    assert second.reads == {"whole": 1}
    for resolver in (first, second):
        resolver.poll.stop()
