"""The cache as clients see it: TTLs, expiry, stale answers, its bounds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import eventually, stays
from tests.kit.testbed import House, all_sets, own_answer, unique_name

if TYPE_CHECKING:
    from .conftest import BuildHouse


def test_ttl_ages(house: House) -> None:
    """The TTL of a cached answer goes down with the time, and never up."""
    name = house.route("age", b.records((None, 120, "MX", "10 mx.example.")))
    house.ask(name, "MX")
    first = house.ask(name, "MX").ttl
    assert 100 < first <= 120
    seen = [first]

    def older() -> bool:
        seen.append(house.ask(name, "MX").ttl)
        assert seen[-1] <= seen[-2]
        return seen[-1] <= first - 2

    eventually(older)
    assert max(house.counts(name)) == 1


def test_ttl_is_capped_for_users(house: House) -> None:
    """No client is told a TTL above user_return_ttl (600 s)."""
    for rdtype, data in (("A", "203.0.113.1"), ("TXT", "x"), ("HTTPS", "1 .")):
        name = house.route("cap", b.records((None, 86400, rdtype, data)))
        assert house.ask(name, rdtype).ttl <= 600
        ttl = eventually(lambda: house.ask(name, rdtype).ttl, lambda ttl: ttl > 5)  # noqa: B023
        assert 500 < ttl <= 600


def test_each_rrset_keeps_its_ttl(house: House) -> None:
    """The TTLs of a chain are those of its parts, not all the lowest one."""
    name = house.route(
        "parts",
        b.records((None, 400, "CNAME", "c.example."), ("c.example.", 100, "A", "203.0.113.1")),
    )
    house.ask(name)
    house.complete(name)
    reply = house.ask(name)
    assert reply.message.answer[1].ttl <= 100
    assert reply.message.answer[0].ttl <= 400


def test_expired_answer_is_refreshed(build: BuildHouse) -> None:
    """After its TTL an answer is asked for again; the new addresses replace the old ones."""
    old = [own_answer(index, 0.01, ttl=2) for index in range(3)]
    house = build([b.in_turn(before, own_answer(5 + i, 0.01)) for i, before in enumerate(old)])
    house.ask("www.example.")
    house.pool("www.example.", all_sets([0, 1, 2]))
    reply = house.pool("www.example.", all_sets([5, 6, 7]), timeout=8)
    assert reply.ttl > 5
    assert house.counts("www.example.") == [2, 2, 2]


def test_stale_answer_when_all_fail(build: BuildHouse) -> None:
    """All upstreams fail after the TTL: the old answer, with fast_response_ttl at most."""
    house = build([b.in_turn(own_answer(i, 0.01, ttl=1), b.rcode("SERVFAIL")) for i in range(3)])
    house.ask("www.example.")
    house.pool("www.example.", all_sets([0, 1, 2]))

    def later() -> bool:
        reply = house.ask("www.example.")
        assert reply.rcode == "NOERROR"
        assert set(reply.addresses) == all_sets([0, 1, 2])
        assert reply.ttl <= 5
        return min(house.counts("www.example.")) >= 2

    eventually(later, timeout=8)
    stays(later, seconds=0.5)
    assert house.program.metrics().value("staggerdns_answer_seconds_count", source="stale") > 0


def test_stale_ends(build: BuildHouse) -> None:
    """Beyond max_stale an old answer is no answer any more."""
    house = build(
        [b.in_turn(own_answer(0, ttl=1), b.rcode("SERVFAIL"))], {"cache": {"max_stale": 1}}
    )
    house.ask("www.example.")
    eventually(lambda: house.ask("www.example.").rcode == "SERVFAIL", timeout=8)


def test_no_stale_at_all(build: BuildHouse) -> None:
    """With max_stale 0 an expired answer is not served."""
    house = build([b.in_turn(own_answer(0, ttl=1), own_answer(1))], {"cache": {"max_stale": 0}})
    assert set(house.ask("www.example.").addresses) == all_sets([0])
    start = time.monotonic()
    eventually(lambda: set(house.ask("www.example.").addresses) == all_sets([1]), timeout=4)
    assert time.monotonic() - start > 0.5


def test_ttl_clamps(build: BuildHouse) -> None:
    """min_ttl, max_ttl, user_return_ttl and max_negative_ttl are what the file says."""
    low = b.records((None, 3, "TXT", "low"))
    house = build(
        [low],
        {"cache": {"min_ttl": 60, "max_ttl": 90, "user_return_ttl": 80, "max_negative_ttl": 20}},
    )
    name = house.route("low", low)
    house.ask(name, "TXT")
    assert 50 < house.ask(name, "TXT").ttl <= 60
    name = house.route("high", b.records((None, 5000, "TXT", "high")))
    house.ask(name, "TXT")
    assert 70 < house.ask(name, "TXT").ttl <= 80
    name = house.route("negative", b.nxdomain(b.soa(3600, 3600)))
    house.ask(name)
    found = house.ask(name).authority("SOA")
    assert found is not None
    assert 10 < found.ttl <= 20


def test_max_ttl(build: BuildHouse) -> None:
    """max_ttl caps what enters the cache: the entry is asked for again after it."""
    house = build([b.records((None, 5000, "TXT", "high"))], {"cache": {"max_ttl": 1}})
    house.ask("www.example.", "TXT")
    assert house.ask("www.example.", "TXT").ttl <= 1

    def asked_again() -> bool:
        house.ask("www.example.", "TXT")
        return house.counts("www.example.")[0] >= 2

    eventually(asked_again)


def test_negative_cap(build: BuildHouse) -> None:
    """A negative answer with a huge SOA is kept for max_negative_ttl (300 s) at most."""
    house = build([b.nxdomain(b.soa(86400, 86400))])
    for _ in range(2):
        found = house.ask("www.example.").authority("SOA")
        assert found is not None
        assert found.ttl <= 300


def test_bounded_entries(build: BuildHouse) -> None:
    """The cache holds max_entries at most; the least recently used names go first."""
    house = build([own_answer(0)], {"cache": {"max_entries": 20}})
    names = [unique_name("entry") for _ in range(60)]
    house.ask(names[0])
    for number, name in enumerate(names[1:]):
        house.ask(name)
        # Stays the most recently used but one. Each time another query, because a hit on a reply
        # that is kept ready counts as a use once a second only.
        house.ask(names[0], payload=1232 + number)
    metrics = house.program.metrics()
    assert 0 < metrics.value("staggerdns_cache_entries") <= 20
    assert metrics.value("staggerdns_cache_evictions_total", limit="max_entries") >= 40
    assert house.counts(names[0]) == [1]
    house.ask(names[-1])
    assert house.counts(names[-1]) == [1]
    house.ask(names[1])
    assert house.counts(names[1]) == [2]


def test_fast_hits(house: House) -> None:
    """A cached answer does not wait for anything: 200 in a row are quick; waiting for one of the
    upstreams each time would take a minute.
    """
    name = house.route("fast", *(own_answer(index, 0.3) for index in range(5)))
    house.ask(name)
    start = time.monotonic()
    for _ in range(200):
        house.ask(name)
    assert time.monotonic() - start < 20
