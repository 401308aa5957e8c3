"""What is probed, how DO is ranked, and the ranked cache between forwarder and server."""

from __future__ import annotations

import pytest

from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import negative, says
from tests.kit.clients import parse, question
from tests.kit.factory import make_factory
from tests.kit.probing import silent
from tests.kit.ranked import (
    RankedResolver,
    SimulatedRankedCache,
    asks,
    near,
    packed,
    pool,
    sections_answer,
    shown,
)

WWW, DO = asks(), asks(do=True)
HOST = "127.0.0.1"


# What is probed.


@pytest.mark.parametrize(
    "private", ["10.1.2.3", "127.0.0.1", "169.254.1.1", "192.168.1.1", "172.16.0.1", "100.64.0.1"]
)
def test_private_addresses_are_not_probed(private: str) -> None:
    """Unless allowed; they stay in the answer, behind those that are known."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(private, 30, 10))
    simulated.at(1)
    assert simulated.probed == set(packed(30, 10))
    assert simulated.hit()[0] == [10, 30, private]
    simulated = SimulatedRankedCache(lambda *_: 0.001, probe_private=True)
    simulated.store(pool(30, private))
    simulated.at(1)
    assert packed(private)[0] in simulated.probed


@pytest.mark.parametrize("nobody", ["0.0.0.0", "224.0.0.1", "255.255.255.255", "::", "ff02::1"])
def test_what_is_no_host_is_never_probed(nobody: str) -> None:
    """Unspecified, multicast and broadcast addresses are nobody's, whatever is allowed."""
    simulated = SimulatedRankedCache(lambda *_: 0.001, probe_private=True)
    others = ["2001:db8::1", "2001:db8::2"] if ":" in nobody else [30, 10]
    simulated.store(pool(nobody, *others))
    simulated.at(1)
    assert simulated.probed == set(packed(*others))
    assert simulated.hit()[0][-1] == nobody


def test_a_polluted_answer_does_not_win() -> None:
    """A loopback address in an answer does not become the nearest."""
    simulated = SimulatedRankedCache(lambda address, _: 0.0001 if address[0] == 127 else 0.030)
    simulated.store(pool("127.0.0.1", 30, 31))
    simulated.at(1)
    assert simulated.hit()[0][-1] == "127.0.0.1"


# DO.


def test_do_is_ranked_and_not_merged() -> None:
    """With DO one upstream's records stay whole, only the order of the addresses changes."""
    resolver = RankedResolver(says(5, near(30), near(10), near(20)), says(9, near(1)))
    asked = resolver.question(do=True)
    resolver.ask(asked)
    resolver.run()
    client = resolver.ask(asked)
    assert isinstance(client.entry.answer, SectionsAnswer)
    assert shown(client.entry) == [10, 20, 30]
    assert resolver.cache.reply_ttl(client.entry, resolver.clock.seconds()) == 300
    assert resolver.ranking.counts() == {"first_answer": 1}


def test_duplicates_in_a_do_answer() -> None:
    """An upstream that says an address twice, then and now not, upsets nobody."""
    simulated = SimulatedRankedCache()
    for generation, numbers in enumerate([(30, 10), (30, 10, 10), (30, 10, 30), (10, 30), (5, 5)]):
        entry = simulated.store(sections_answer(DO, *numbers), DO, generation)
        assert entry.generation == generation
        simulated.at(generation + 1)
        simulated.hit(DO)


# Through the forwarder and the server.


def test_a_whole_collection() -> None:
    """First the nearest of the winner, then all in order, put there at once when all have come."""
    resolver = RankedResolver(
        says(10, near(90), near(80)), says(30, near(70)), says(20, near(60)), says(20, near(5))
    )
    first = resolver.ask()
    resolver.run_to(11)
    assert shown(first.entry) == [90, 80]
    assert resolver.ttl() == 5
    resolver.run()
    assert resolver.pool() == [near(number) for number in (5, 60, 70, 80, 90)]
    assert resolver.ttl() == 300
    assert resolver.ranking.counts() == {"first_answer": 1, "more_addresses": 1}
    assert len(resolver.ranking.sent) == 7
    resolver.assert_nothing_left()
    resolver.ranking.assert_nothing_left()


def test_followers_get_the_sorted_entry() -> None:
    """Where all times are known, whoever waits gets the nearest first."""
    resolver = RankedResolver(says(10, near(30), near(10)))
    resolver.ask(resolver.question("a.example"))
    resolver.run()
    clients = [resolver.ask(resolver.question("b.example")) for _ in range(3)]
    resolver.run()
    assert [client.addresses for client in clients] == [[near(10), near(30)]] * 3


def test_the_cap_holds() -> None:
    """Ranking sees the pool that is kept, no more."""
    resolver = RankedResolver(
        says(5, near(9), near(8)), says(9, near(7)), parallel=ParallelSettings(max_pool_size=2)
    )
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [near(8), near(9)]


def test_refresh_behind_an_old_order() -> None:
    """The refresh of an old order goes upstream once, and what it brings is ranked."""
    resolver = RankedResolver(says(5, near(30), near(10), ttl=86_400))
    resolver.ask()
    resolver.run()
    resolver.run_to(301_000)
    resolver.script(says(5, near(30), near(10), near(2), ttl=86_400))
    for _ in range(5):
        assert resolver.ask().addresses == [near(10), near(30)]
    resolver.run()
    assert len(resolver.launches) == 2
    assert resolver.metrics.refreshes.cell().value == 1
    assert resolver.pool() == [near(2), near(10), near(30)]
    counts = resolver.ranking.counts()
    assert (counts["rtt_stale"], counts["refresh"]) == (1, 1)


def test_negative_then_positive() -> None:
    """Addresses behind a negative are a first answer, and sorted."""
    resolver = RankedResolver(negative(5), says(50, near(30), near(10)))
    resolver.ask()
    resolver.run()
    assert resolver.pool() == [near(10), near(30)]
    assert resolver.ranking.counts() == {"first_answer": 1}


def test_shutdown() -> None:
    """Closing forwarder, sorts and measurer in the middle leaves nothing."""
    resolver = RankedResolver(says(5, near(30), near(10)), says(60, near(9)), script=silent)
    resolver.ask()
    resolver.run_to(20)
    resolver.forwarder.close()
    resolver.ranking.sorts.close()
    resolver.ranking.measurer.close()
    assert resolver.clock.getDelayedCalls() == []


class ResolverServer:
    """The server in server of a resolver."""

    def __init__(self, resolver: RankedResolver) -> None:
        self.resolver = resolver
        self.factory = make_factory(
            resolver.cache, resolver.forwarder, resolver.clock, resolver.metrics
        )
        self.query = question("www.example.", "A").to_wire()

    def ready(self) -> bytes | None:
        """The reply that is ready, if there is one."""
        return self.factory.ready["udp"].reply(self.query, HOST, self.resolver.clock.seconds())

    def ask(self) -> tuple[list[str], int]:
        """Ask the long way; addresses and TTL of the answer."""
        reply = self.factory.serve(self.query, HOST, "udp", self.resolver.clock.seconds())
        assert isinstance(reply, bytes)
        answer = parse(reply).answer[0]
        return [rdata.to_text() for rdata in answer], answer.ttl


def test_no_ready_reply_before_the_sort() -> None:
    """What is not sorted yet is not kept ready, so that each hit can start what is missing."""
    resolver = RankedResolver(says(5, near(30), near(10)))
    resolver.ask()
    resolver.run_to(6)
    server = ResolverServer(resolver)
    assert server.ask() == ([near(30), near(10)], 5)
    assert server.ready() is None
    resolver.run_to(100)
    assert server.ask() == ([near(10), near(30)], 300)
    assert server.ready() is not None


def test_a_sort_voids_ready_replies() -> None:
    """A reply made ready from the old order is not given once there is a new one."""
    resolver = RankedResolver(says(5, near(30), near(10), ttl=86_400))
    resolver.ask()
    resolver.run()
    resolver.run_to(301_000)
    server = ResolverServer(resolver)
    assert server.ask() == ([near(10), near(30)], 5)
    assert server.ready() is not None
    resolver.run_to(301_200)
    assert server.ready() is None
    assert server.ask()[1] == 600


def test_a_ready_reply_of_a_sorted_entry() -> None:
    """A hit on a sorted entry is bytes: no sort, no look at the table, no new entry."""
    resolver = RankedResolver(says(5, near(30), near(10)))
    resolver.ask()
    resolver.run()
    server = ResolverServer(resolver)
    server.ask()
    entry = resolver.cache.entries[resolver.question().key]
    reply = server.ready()
    assert reply is not None
    assert [rdata.to_text() for rdata in parse(reply).answer[0]] == [near(10), near(30)]
    server.ask()
    assert resolver.cache.entries[resolver.question().key] is entry
