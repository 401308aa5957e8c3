"""The cache as clients see it: TTLs, expiry, stale answers, its bounds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import eventually, stays
from tests.kit.testbed import Testbed, all_sets, own_answer, unique_name

if TYPE_CHECKING:
    from .conftest import BuildTestbed


def test_ttl_ages(testbed: Testbed) -> None:
    """The TTL of a cached answer goes down with the time, and never up."""
    name = testbed.route("age", b.records((None, 120, "MX", "10 mx.example.")))
    testbed.ask(name, "MX")
    first = testbed.ask(name, "MX").ttl
    assert 100 < first <= 120
    seen = [first]

    def older() -> bool:
        seen.append(testbed.ask(name, "MX").ttl)
        assert seen[-1] <= seen[-2]
        return seen[-1] <= first - 2

    eventually(older)
    assert max(testbed.counts(name)) == 1


def test_ttl_is_capped_for_users(testbed: Testbed) -> None:
    """No client is told a TTL above user_return_ttl (600 s)."""
    for rdtype, data in (("A", "203.0.113.1"), ("TXT", "x"), ("HTTPS", "1 .")):
        name = testbed.route("cap", b.records((None, 86400, rdtype, data)))
        assert testbed.ask(name, rdtype).ttl <= 600
        ttl = eventually(lambda: testbed.ask(name, rdtype).ttl, lambda ttl: ttl > 5)  # noqa: B023
        assert 500 < ttl <= 600


def test_each_rrset_keeps_its_ttl(testbed: Testbed) -> None:
    """The TTLs of a chain are those of its parts, not all the lowest one."""
    name = testbed.route(
        "parts",
        b.records((None, 400, "CNAME", "c.example."), ("c.example.", 100, "A", "203.0.113.1")),
    )
    testbed.ask(name)
    testbed.complete(name)
    reply = testbed.ask(name)
    assert reply.message.answer[1].ttl <= 100
    assert reply.message.answer[0].ttl <= 400


def test_expired_answer_is_refreshed(build: BuildTestbed) -> None:
    """After its TTL an answer is asked for again; the new addresses replace the old ones."""
    old = [own_answer(index, 0.01, ttl=2) for index in range(3)]
    testbed = build([b.in_turn(before, own_answer(5 + i, 0.01)) for i, before in enumerate(old)])
    testbed.ask("www.example.")
    testbed.pool("www.example.", all_sets([0, 1, 2]))
    reply = testbed.pool("www.example.", all_sets([5, 6, 7]), timeout=8)
    assert reply.ttl > 5
    assert testbed.counts("www.example.") == [2, 2, 2]


def test_stale_answer_when_all_fail(build: BuildTestbed) -> None:
    """All upstreams fail after the TTL: the old answer, with fast_response_ttl at most."""
    testbed = build([b.in_turn(own_answer(i, 0.01, ttl=1), b.rcode("SERVFAIL")) for i in range(3)])
    testbed.ask("www.example.")
    testbed.pool("www.example.", all_sets([0, 1, 2]))

    def later() -> bool:
        reply = testbed.ask("www.example.")
        assert reply.rcode == "NOERROR"
        assert set(reply.addresses) == all_sets([0, 1, 2])
        assert reply.ttl <= 5
        return min(testbed.counts("www.example.")) >= 2

    eventually(later, timeout=8)
    stays(later, seconds=0.5)
    assert testbed.program.metrics().value("staggerdns_answer_seconds_count", source="stale") > 0


def test_stale_ends(build: BuildTestbed) -> None:
    """Beyond max_stale an old answer is no answer any more."""
    testbed = build(
        [b.in_turn(own_answer(0, ttl=1), b.rcode("SERVFAIL"))], {"cache": {"max_stale": 1}}
    )
    testbed.ask("www.example.")
    eventually(lambda: testbed.ask("www.example.").rcode == "SERVFAIL", timeout=8)


def test_no_stale_at_all(build: BuildTestbed) -> None:
    """With max_stale 0 an expired answer is not served."""
    testbed = build([b.in_turn(own_answer(0, ttl=1), own_answer(1))], {"cache": {"max_stale": 0}})
    assert set(testbed.ask("www.example.").addresses) == all_sets([0])
    start = time.monotonic()
    eventually(lambda: set(testbed.ask("www.example.").addresses) == all_sets([1]), timeout=4)
    assert time.monotonic() - start > 0.5


def test_ttl_clamps(build: BuildTestbed) -> None:
    """min_ttl, max_ttl, user_return_ttl and max_negative_ttl are what the file says."""
    low = b.records((None, 3, "TXT", "low"))
    testbed = build(
        [low],
        {"cache": {"min_ttl": 60, "max_ttl": 90, "user_return_ttl": 80, "max_negative_ttl": 20}},
    )
    name = testbed.route("low", low)
    testbed.ask(name, "TXT")
    assert 50 < testbed.ask(name, "TXT").ttl <= 60
    name = testbed.route("high", b.records((None, 5000, "TXT", "high")))
    testbed.ask(name, "TXT")
    assert 70 < testbed.ask(name, "TXT").ttl <= 80
    name = testbed.route("negative", b.nxdomain(b.soa(3600, 3600)))
    testbed.ask(name)
    found = testbed.ask(name).authority("SOA")
    assert found is not None
    assert 10 < found.ttl <= 20


def test_max_ttl(build: BuildTestbed) -> None:
    """max_ttl caps what enters the cache: the entry is asked for again after it."""
    testbed = build([b.records((None, 5000, "TXT", "high"))], {"cache": {"max_ttl": 1}})
    testbed.ask("www.example.", "TXT")
    assert testbed.ask("www.example.", "TXT").ttl <= 1

    def asked_again() -> bool:
        testbed.ask("www.example.", "TXT")
        return testbed.counts("www.example.")[0] >= 2

    eventually(asked_again)


def test_negative_cap(build: BuildTestbed) -> None:
    """A negative answer with a huge SOA is kept for max_negative_ttl (300 s) at most."""
    testbed = build([b.nxdomain(b.soa(86400, 86400))])
    for _ in range(2):
        found = testbed.ask("www.example.").authority("SOA")
        assert found is not None
        assert found.ttl <= 300


def test_bounded_entries(build: BuildTestbed) -> None:
    """The cache holds max_entries at most; the least recently used names go first."""
    testbed = build([own_answer(0)], {"cache": {"max_entries": 20}})
    names = [unique_name("entry") for _ in range(60)]
    testbed.ask(names[0])
    for number, name in enumerate(names[1:]):
        testbed.ask(name)
        # Stays the most recently used but one. Each time another query, because a hit on a reply
        # that is kept ready counts as a use once a second only.
        testbed.ask(names[0], payload=1232 + number)
    metrics = testbed.program.metrics()
    assert 0 < metrics.value("staggerdns_cache_entries") <= 20
    assert metrics.value("staggerdns_cache_evictions_total", limit="max_entries") >= 40
    assert testbed.counts(names[0]) == [1]
    testbed.ask(names[-1])
    assert testbed.counts(names[-1]) == [1]
    testbed.ask(names[1])
    assert testbed.counts(names[1]) == [2]


def test_fast_hits(testbed: Testbed) -> None:
    """A cached answer does not wait for anything: 200 in a row are quick; waiting for one of the
    upstreams each time would take a minute.
    """
    name = testbed.route("fast", *(own_answer(index, 0.3) for index in range(5)))
    testbed.ask(name)
    start = time.monotonic()
    for _ in range(200):
        testbed.ask(name)
    assert time.monotonic() - start < 20
