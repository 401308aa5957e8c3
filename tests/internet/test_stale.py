"""Stale answers are given at once, with the short TTL, and one refresh goes behind them."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING

from tests.kit import behaviours as b
from tests.kit.clients import eventually, stays
from tests.kit.internet.hosts import Kind, by_distance, near, special
from tests.kit.internet.testbed import SHORT

if TYPE_CHECKING:
    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.testbed import InternetTestbed
    from tests.kit.internet.world import World

SLOW = 0.6
"""Seconds that a slow upstream takes: an answer quicker than that has not waited for it."""


def test_old_order(restless: InternetTestbed, host: int) -> None:
    """An old order is served at once, with the short TTL; one refresh and one sort go behind."""
    pool = [near(90, host), near(30, host), near(60, host)]
    restless.ask(name := restless.everywhere("old", b.answers(*pool)))
    restless.settled(name, pool)
    restless.idle()
    restless.route("old", b.answers(*pool, after=SLOW), name=name)
    time.sleep(1.2)
    first = restless.ask(name)
    assert first.seconds < SLOW
    assert first.ttl <= SHORT
    for reply in (first, *(restless.ask(name) for _ in range(10))):
        assert reply.addresses == by_distance(pool)
    restless.complete(name, rounds=2)
    restless.idle()
    assert restless.counts(name) == [2] * 5
    restless.settled(name, pool)


def test_old_order_and_a_failed_refresh(restless: InternetTestbed, host: int) -> None:
    """When the refresh behind an old order fails, the entry stays and is sorted again."""
    pool = [near(90, host), near(30, host), near(60, host)]
    restless.ask(name := restless.everywhere("kept", b.answers(*pool)))
    restless.settled(name, pool)
    restless.idle()
    restless.route("kept", b.rcode("SERVFAIL"), name=name)
    time.sleep(1.2)
    assert restless.ask(name).ttl <= SHORT
    restless.complete(name, rounds=2)
    restless.settled(name, pool)
    assert restless.ask(name).rcode == "NOERROR"


def test_moved_address(restless: InternetTestbed, world: World, host: int) -> None:
    """An address that has become far is behind the others after a few sorts."""
    pool = [near(20, host), near(30, host)]
    restless.ask(name := restless.everywhere("moved", b.answers(*pool)))
    restless.ranked(name, pool)
    world.move(pool[0], 90)
    restless.ranked(name, pool[::-1], timeout=8)


def test_jitter_does_not_swap(restless: InternetTestbed, world: World, host: int) -> None:
    """Two addresses whose distances differ by less than they vary keep their order."""
    pair = [special(Kind.JITTERY, 40 + host % 8, number) for number in (1, 2)]
    far = near(80, host)
    restless.ask(name := restless.everywhere("pair", b.answers(*pair, far)))
    first = eventually(
        lambda: restless.ask(name), lambda reply: reply.ttl > SHORT and reply.addresses[2] == far
    )
    before = world.probes(pair)
    # Replies are kept ready for a second, under the octets of the query: ask in ever new ones.
    sizes = itertools.count(600)
    stays(
        lambda: restless.ask(name, payload=next(sizes)).addresses,
        lambda got: got == first.addresses,
        seconds=5,
    )
    after = world.probes(pair)
    # At least three sorts have measured both anew.
    assert all(after["icmp", address] - before["icmp", address] > 6 for address in pair)


def test_expired_entry(testbed: InternetTestbed, host: int) -> None:
    """An expired entry is served at once with the short TTL, and refreshed once."""
    pool = [near(40, host), near(20, host)]
    testbed.ask(name := testbed.everywhere("expired", b.answers(*pool, ttl=1)))
    testbed.idle()
    testbed.route("expired", b.answers(*pool, after=SLOW), name=name)
    time.sleep(1.2)
    first = testbed.ask(name)
    assert first.seconds < SLOW
    assert first.ttl <= SHORT
    for reply in (first, *(testbed.ask(name) for _ in range(10))):
        assert reply.addresses == by_distance(pool)
    testbed.complete(name, rounds=2)
    testbed.settled(name, pool)
    assert testbed.counts(name) == [2] * 5


def test_expired_entry_and_a_failed_refresh(build: BuildTestbed, host: int) -> None:
    """A failed refresh keeps the entry, until max_stale is over; a failure is never stale."""
    testbed = build({"cache": {"max_stale": 2, "fast_response_ttl": 1}})
    pool = [near(40, host), near(20, host)]
    testbed.ask(name := testbed.everywhere("fails", b.answers(*pool, ttl=1)))
    testbed.idle()
    testbed.route("fails", b.rcode("SERVFAIL"), name=name)
    time.sleep(1.2)
    start = time.monotonic()
    for _ in range(15):
        reply = testbed.ask(name)
        assert reply.rcode == "NOERROR"
        assert reply.addresses == by_distance(pool)
        assert reply.ttl == 1
        time.sleep(0.05)
    # One refresh a second, however many ask.
    assert max(testbed.counts(name)) <= 2 + math.ceil(time.monotonic() - start)
    eventually(lambda: testbed.ask(name).rcode, lambda rcode: rcode == "SERVFAIL", timeout=5)
    testbed.route("fails", b.answers(*pool), name=name)
    eventually(lambda: testbed.ask(name).rcode, lambda rcode: rcode == "NOERROR", timeout=5)
