"""One flight per question: followers, joiners, clients that go away, and what the key holds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import TcpClient, UdpClient, ask_many, check_belongs, eventually, question
from tests.kit.testbed import Testbed, all_sets, own_answer, own_set

if TYPE_CHECKING:
    from .conftest import BuildTestbed


def test_followers(testbed: Testbed) -> None:
    """Sixty clients at once cost one query per upstream, and all get an answer."""
    name = testbed.route("followers", *(own_answer(index, 0.15) for index in range(5)))
    replies = ask_many(testbed.program.endpoint, name, 60)
    assert all(reply.rcode == "NOERROR" and reply.addresses for reply in replies)
    assert len({tuple(sorted(reply.addresses)) for reply in replies}) == 1
    testbed.pool(name, all_sets(range(5)))
    assert testbed.counts(name) == [1] * 5


def test_followers_of_a_failure(build: BuildTestbed) -> None:
    """All followers of a question that fails get SERVFAIL, for one query per upstream."""
    testbed = build([b.rcode("SERVFAIL", 0.15)] * 3, known=True)
    replies = ask_many(testbed.program.endpoint, "www.example.", 20)
    assert [reply.rcode for reply in replies] == ["SERVFAIL"] * 20
    assert testbed.counts("www.example.") == [1, 1, 1]


def test_followers_of_a_negative_answer(testbed: Testbed) -> None:
    """All followers of a name that does not exist get NXDOMAIN with the SOA."""
    name = testbed.route("followers-nx", b.nxdomain(after=0.1))
    replies = ask_many(testbed.program.endpoint, name, 20)
    assert [reply.rcode for reply in replies] == ["NXDOMAIN"] * 20
    assert all(reply.authority("SOA") is not None for reply in replies)
    assert max(testbed.counts(name)) == 1


def test_each_follower_keeps_its_case_and_transport(testbed: Testbed) -> None:
    """The case of a name joins flights and yet comes back to each client as it was sent."""
    name = testbed.route("case", *(own_answer(index, 0.2) for index in range(5)))
    forms = [name, name.upper(), name.title()]
    with UdpClient(testbed.program.endpoint) as udp, TcpClient(testbed.program.endpoint) as tcp:
        queries = {}
        for client in (udp, tcp):
            for form in forms:
                query = question(form)
                queries[query.id] = query
                client.send(query)
        for client in (udp, tcp):
            for _ in forms:
                reply = client.receive()
                check_belongs(queries.pop(reply.message.id), reply)
                assert reply.addresses
    testbed.complete(name)
    assert testbed.counts(name) == [1] * 5


def test_ttl_zero_joins_the_running_collection(build: BuildTestbed) -> None:
    """TTL 0 is not cached: a newcomer joins the collection, and a later one starts a new one."""
    testbed = build(
        [own_answer(index, 0.02 if index < 2 else 0.6, ttl=0) for index in range(5)], known=True
    )
    first = testbed.ask("www.example.")
    assert first.ttl == 0
    for _ in range(10):
        assert testbed.ask("www.example.").rcode == "NOERROR"
    assert max(testbed.counts("www.example.")) == 1
    time_of_last = 0.1 + 0.6
    eventually(lambda: time.monotonic() - _first(testbed) > time_of_last + 0.5)
    assert testbed.ask("www.example.").rcode == "NOERROR"
    assert testbed.complete("www.example.", rounds=2) == [2] * 5


def _first(testbed: Testbed) -> float:
    return min(query.at for queries in testbed.asked("www.example.") for query in queries)


def test_ttl_zero_while_the_active_tier_runs(testbed: Testbed) -> None:
    """Followers of a TTL 0 answer all get it."""
    name = testbed.route("zero", *(own_answer(index, 0.15, ttl=0) for index in range(5)))
    replies = ask_many(testbed.program.endpoint, name, 20)
    assert all(reply.addresses and reply.ttl == 0 for reply in replies)
    testbed.complete(name)
    assert max(testbed.counts(name)) == 1


def test_first_client_goes_away(testbed: Testbed) -> None:
    """The first client closes its connection: the follower is answered, the pool complete."""
    name = testbed.route("gone", *(own_answer(index, 0.3) for index in range(5)))
    first = TcpClient(testbed.program.endpoint)
    first.send(question(name))
    eventually(lambda: sum(testbed.counts(name)) >= 2)
    with UdpClient(testbed.program.endpoint) as follower:
        follower.send(question(name))
        first.close()
        assert follower.receive().rcode == "NOERROR"
    testbed.pool(name, all_sets(range(5)))
    assert testbed.counts(name) == [1] * 5


def test_only_client_goes_away(testbed: Testbed) -> None:
    """Even when nobody waits any more, the collection completes the pool."""
    name = testbed.route("alone", *(own_answer(index, 0.1) for index in range(5)))
    only = TcpClient(testbed.program.endpoint)
    only.send(question(name))
    eventually(lambda: sum(testbed.counts(name)) >= 2)
    only.close()
    testbed.pool(name, all_sets(range(5)))
    assert testbed.counts(name) == [1] * 5


def test_who_brought_what(testbed: Testbed) -> None:
    """The log of a collection says how many addresses of the pool each upstream brought."""
    name = testbed.route("contributors", *(own_answer(index, 0.02) for index in range(5)))
    testbed.pool(name, all_sets(range(5)))

    def said() -> str:
        lines = testbed.program.log.splitlines()
        return next((each for each in lines if f"{name} A: collection complete" in each), "")

    complete = eventually(said)
    assert "10 addresses in the pool" in complete
    for endpoint in testbed.endpoints:
        assert f", 2 by {endpoint}" in complete


def test_do_and_cd_are_questions_of_their_own(testbed: Testbed) -> None:
    """DO and CD are part of the key, and reach the upstreams as the client sent them."""
    name = testbed.route("key", *(own_answer(index, 0.1) for index in range(5)))
    kinds = [(False, False), (True, False), (False, True), (True, True)]
    with UdpClient(testbed.program.endpoint) as client:
        for do, cd in kinds:
            client.send(question(name, do=do, cd=cd, payload=1232))
        for _ in kinds:
            assert client.receive().addresses
    eventually(lambda: sum(testbed.counts(name)) >= 14)
    for queries in testbed.asked(name):
        seen = [(bool(q.parsed.ednsflags & 0x8000), bool(q.parsed.flags & 0x10)) for q in queries]
        assert len(seen) == len(set(seen)), "one of them was asked twice"
        assert set(seen) >= {(False, False), (False, True)}
    everything = {
        (bool(q.parsed.ednsflags & 0x8000), bool(q.parsed.flags & 0x10))
        for queries in testbed.asked(name)
        for q in queries
    }
    assert everything == set(kinds)


def test_types_are_questions_of_their_own(testbed: Testbed) -> None:
    """A and AAAA of one name are two flights."""
    name = testbed.route("types", b.answers("203.0.113.1", "2001:db8::1", after=0.1))
    with UdpClient(testbed.program.endpoint) as client:
        client.send(question(name))
        client.send(question(name, "AAAA"))
        found = {address for _ in range(2) for address in client.receive().addresses}
    assert found == {"203.0.113.1", "2001:db8::1"}


def test_the_pool_survives_the_reply_of_a_failing_tier(build: BuildTestbed) -> None:
    """Losers of the first answer are no failures: they are asked again for the next name."""
    testbed = build(
        [own_answer(0, 0.01), *(own_answer(index, 0.3) for index in range(1, 5))], known=True
    )
    for number in range(8):
        name = f"name{number}.example."
        assert testbed.ask(name).rcode == "NOERROR"
        testbed.pool(name, all_sets(range(5)))
        assert testbed.counts(name) == [1] * 5
    assert testbed.program.health() == 200
    assert set(own_set(4)) <= set(testbed.ask(name).addresses)
