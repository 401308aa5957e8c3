"""The triggers of a sort, each through the running program and under its own label."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.internet.hosts import by_distance, near
from tests.kit.internet.testbed import SHORT, InternetTestbed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.kit.internet.world import World

TRIGGERS = {
    "first_answer",
    "refresh",
    "more_addresses",
    "rtt_stale",
    "sorted_missing",
    "queue_full",
}


class Counted:
    """What the triggers have counted since it was made."""

    def __init__(self, testbed: InternetTestbed) -> None:
        self._testbed = testbed
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        samples = self._testbed.program.metrics().find("staggerdns_sorts_total")
        return {sample.labels["trigger"]: sample.value for sample in samples}

    def since(self) -> dict[str, float]:
        """The triggers that counted, and how often."""
        now = self._read()
        assert set(now) == TRIGGERS
        return {
            trigger: now[trigger] - self._before[trigger]
            for trigger in now
            if now[trigger] != self._before[trigger]
        }


def test_first_answer(testbed: InternetTestbed, host: int) -> None:
    """A new name whose first answer is all that there is: one sort, for its first answer."""
    pool = [near(40, host), near(20, host), near(60, host)]
    counted = Counted(testbed)
    testbed.ask(name := testbed.everywhere("first", b.answers(*pool)))
    testbed.settled(name, pool)
    testbed.idle()
    testbed.ask(name)
    assert counted.since() == {"first_answer": 1}


def test_more_addresses(testbed: InternetTestbed, host: int) -> None:
    """Upstreams that bring more addresses have them sorted anew, in place of the old sort.

    How often depends on who looks in between: what comes meanwhile is merged together.
    """
    pool = [near(100 + 10 * index, host) for index in range(10)]
    counted = Counted(testbed)
    cancelled = testbed.program.metrics().value("staggerdns_sorts_cancelled_total")
    testbed.ask(name := testbed.spread("more", pool))
    testbed.settled(name, pool)
    seen = counted.since()
    assert seen.keys() == {"first_answer", "more_addresses"}
    assert seen["first_answer"] == 1
    assert 1 <= seen["more_addresses"] <= 4
    after = testbed.program.metrics().value("staggerdns_sorts_cancelled_total")
    assert after - cancelled == seen["more_addresses"]


def test_chain(testbed: InternetTestbed, host: int) -> None:
    """A chain of names is one pool and one sort; its names are sorted when they are asked for."""
    pool = [near(40, host), near(20, host)]
    links = [f"one{host}.example.", f"two{host}.example."]
    counted = Counted(testbed)
    testbed.ask(name := testbed.everywhere("chain", b.cname_chain(links, *pool)))
    testbed.settled(name, pool)
    assert counted.since() == {"first_answer": 1}


def test_refresh(testbed: InternetTestbed, host: int) -> None:
    """An entry that has run out is sorted again when its refresh lands."""
    pool = [near(40, host), near(20, host)]
    counted = Counted(testbed)
    testbed.ask(name := testbed.everywhere("again", b.answers(*pool, ttl=1)))
    testbed.idle()
    time.sleep(1.1)
    assert testbed.ask(name).ttl <= SHORT
    eventually(counted.since, lambda seen: seen == {"first_answer": 1, "refresh": 1})
    assert testbed.complete(name, rounds=2) == [2] * 5


def test_rtt_stale(restless: InternetTestbed, host: int) -> None:
    """An order older than rtt_cache_ttl starts a sort and a refresh when it is asked for."""
    pool = [near(40, host), near(20, host)]
    counted = Counted(restless)
    restless.ask(name := restless.everywhere("stale", b.answers(*pool)))
    restless.settled(name, pool)
    restless.idle()
    time.sleep(1.1)
    assert counted.since() == {"first_answer": 1}  # nothing by itself
    restless.ask(name)
    seen = eventually(counted.since, lambda seen: "rtt_stale" in seen)
    assert seen["rtt_stale"] == 1
    assert restless.complete(name, rounds=2) == [2] * 5


# A crowd.


@pytest.fixture
def crowded(world: World, tmp_path: Path) -> Iterator[InternetTestbed]:
    """A program with a short queue and one sample for each address, which a busy machine may let
    wait for seconds; and one upstream.
    """
    settings = {"ranking": {"queue": 8, "samples": 1, "timeout": 5, "max_probes_per_second": 100}}
    with InternetTestbed(world, tmp_path, settings, upstreams=1) as testbed:
        yield testbed


def test_queue_full_and_sorted_missing(crowded: InternetTestbed) -> None:
    """200 names at once and room for 8 sorts: nobody waits, and later hits are sorted.

    ``queue_full`` counts the sorts that found no room; ``sorted_missing`` those that a later hit
    started.
    """
    pools = {}
    for number in range(200):
        # Every name has two addresses of its own, the far one first.
        near_by, far = near(5 + number % 25, 100 + number // 25), near(57, 1 + number)
        pools[crowded.spread("crowd", [far, near_by])] = [near_by, far]
    addresses = {address for pool in pools.values() for address in pool}
    before = crowded.world.probes(addresses)
    counted = Counted(crowded)
    start = time.monotonic()
    first = crowded.at_once(list(pools), timeout=10)
    for reply, pool in zip(first, pools.values(), strict=True):
        assert set(reply.addresses) == set(pool)
        assert reply.ttl <= SHORT
    seen = counted.since()
    assert seen["first_answer"] + seen["queue_full"] == 200
    assert seen["queue_full"] > 20

    left = list(pools)
    # Replies are kept ready for a second, under the octets of the query: ask in ever new ones.
    sizes = itertools.count(600)
    while left:
        replies = crowded.at_once(left, payload=next(sizes), timeout=10)
        left = [
            name
            for name, reply in zip(left, replies, strict=True)
            if reply.addresses != pools[name] or reply.ttl <= SHORT
        ]
        assert time.monotonic() < start + 60, f"{len(left)} names are not sorted"
    seen = counted.since()
    assert seen["sorted_missing"] == 200 - seen["first_answer"]
    took = time.monotonic() - start
    probed = crowded.world.probes(addresses) - before
    assert all(probed["icmp", address] for address in addresses), probed
    # A machine that is busy for a moment has echoes repeated.
    assert probed.total() <= 1.25 * len(addresses), probed
    assert took > 3.4  # 400 probes: 50 at once, 100 each second


def test_full_queue_ranks_by_what_is_known(crowded: InternetTestbed, host: int) -> None:
    """Names of known addresses need no place in the queue: they are ranked at once."""
    known = [near(90, host), near(30, host), near(60, host)]
    crowded.ask(name := crowded.everywhere("known", b.answers(*known)))
    crowded.settled(name, known)
    crowd = [
        crowded.spread("crowd", [near(150, 1 + number), near(160, 1 + number)])
        for number in range(40)
    ]
    others = [crowded.everywhere("others", b.answers(*known)) for _ in range(10)]
    full = crowded.sorts("queue_full")
    crowded.at_once(crowd)
    for reply in crowded.at_once(others):
        assert reply.addresses == by_distance(known)
    assert crowded.sorts("queue_full") > full
    for name in others:
        assert crowded.ask(name).ttl > SHORT


def test_partly_known_names_in_a_full_queue(crowded: InternetTestbed, host: int) -> None:
    """A name that finds no place is in the order of what is known; strangers come behind."""
    known, stranger = near(90, host), near(70, host)
    crowded.ask(name := crowded.everywhere("known", b.answers(known, near(200, host))))
    crowded.settled(name, [known, near(200, host)])
    crowd = [
        crowded.spread("crowd", [near(170, 1 + number), near(180, 1 + number)])
        for number in range(40)
    ]
    later = crowded.everywhere("later", b.answers(stranger, known))
    replies = crowded.at_once([*crowd, later])
    assert replies[-1].addresses == [known, stranger]
    crowded.ranked(later, [stranger, known], timeout=8)
