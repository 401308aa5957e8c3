"""The ranked cache: what clients are told, and the triggers of sorts (docs/specification.rst,
Ranking).
"""

from __future__ import annotations

import pytest

from staggerdns.resolver.ranker import MAX_RANKED, QUEUE_FULL_RETRY, UNRANKED_RETRY
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import gives
from tests.kit.cache import no_such_name
from tests.kit.probing import silent, written
from tests.kit.ranked import (
    RankedResolver,
    SimulatedRankedCache,
    asks,
    dead_below,
    packed,
    pool,
    sections_answer,
    shown,
)

WWW, OTHER, DO = asks(), asks("other.example"), asks(do=True)


# What clients are told.


@pytest.mark.parametrize(("ttl", "told"), [(3600, 5), (6, 5), (5, 5), (4, 4), (1, 1)])
def test_not_ranked_yet(ttl: int, told: int) -> None:
    """A first answer comes as received, for min(upstream, 5 s)."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, 20, ttl=ttl))
    assert simulated.hit() == ([30, 10, 20], told)


def test_ranked() -> None:
    """A sorted answer has its nearest address first and the long TTL, in steps of 600 s."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, 20))
    simulated.at(0.049)
    assert simulated.hit() == ([10, 30, 20], 5)
    simulated.at(0.051)
    assert simulated.hit() == ([10, 20, 30], 600)
    simulated.at(100.5)
    assert simulated.hit()[1] == 500


def test_the_first_echo_orders() -> None:
    """It comes from the nearest: that is first at once, and nothing says that all is sorted."""
    simulated = SimulatedRankedCache()
    old = simulated.store(pool(30, 10, 20))
    simulated.at(0.0099)
    assert simulated.hit() == ([30, 10, 20], 5)
    assert old.alive
    simulated.at(0.0101)
    assert simulated.hit() == ([10, 30, 20], 5)
    entry = simulated.peek()
    assert entry is not None
    now = simulated.clock.seconds()
    assert (old.alive, entry.sorted_at) == (False, None)
    assert simulated.cache.freshness.true_until(entry, now) == now, "no reply is kept ready"
    simulated.at(1)
    assert simulated.hit() == ([10, 20, 30], 599)


def test_the_first_echo_of_what_is_in_order() -> None:
    """An order that stands already is not replaced, nor are replies that are ready."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(10, 20, ttl=86_400))
    simulated.at(301)
    simulated.hit()
    before = simulated.peek()
    simulated.at(301.011)
    assert simulated.peek() is before


def test_an_entry_that_is_replaced_after_the_first_echo() -> None:
    """Its sort is cancelled: the order so far goes with it, and so does the last one."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10, 20)
    simulated.at(0.015)
    simulated.put(30, 20, generation=2)
    simulated.at(0.0199)
    assert simulated.hit()[0] == [30, 20]
    simulated.at(1)
    assert simulated.hit()[0] == [20, 30]


@pytest.mark.parametrize("again", [False, True])
def test_a_name_that_is_asked_for_again(again: bool) -> None:
    """While its sort waits for the budget, a look-up lets it go before others."""
    simulated = SimulatedRankedCache(max_probes_per_second=4)
    for number in range(1, 6):
        simulated.store(pool(2 * number, 2 * number + 1), asks(f"n{number}.example"))
    simulated.store(pool(90, 50))
    simulated.at(0.1)
    if again:
        for _ in range(50):
            simulated.hit()
    simulated.at(1.3)
    assert simulated.hit()[0] == ([50, 90] if again else [90, 50])


@pytest.mark.parametrize(("ttl", "told"), [(3600, 600), (601, 600), (599, 599), (2, 2)])
def test_ranked_ttl(ttl: int, told: int) -> None:
    """The long TTL is what remains, at most `user_return_ttl`."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, ttl=ttl))
    simulated.at(0.5)
    assert simulated.hit()[1] == told


def test_limits_of_the_configuration() -> None:
    """`fast_response_ttl` and `user_return_ttl` are the numbers that count."""
    simulated = SimulatedRankedCache(fast_response_ttl=9, user_return_ttl=70)
    simulated.store(pool(30, 10))
    assert simulated.hit()[1] == 9
    simulated.at(0.5)
    assert simulated.hit()[1] == 70


@pytest.mark.parametrize(
    "answer", [pool(30), no_such_name(300), pool("10.0.0.1", "10.0.0.2"), sections_answer(DO, 30)]
)
def test_nothing_to_rank(answer: AddressPool | SectionsAnswer) -> None:
    """One address, a negative, private addresses: the real TTL at once, no sort, no probe."""
    simulated = SimulatedRankedCache()
    simulated.store(answer)
    entry = simulated.cache.lookup(WWW.key, simulated.clock.seconds())
    assert entry is not None
    assert simulated.cache.reply_ttl(entry, simulated.clock.seconds()) == min(600, answer.ttl)
    simulated.at(60)
    simulated.cache.lookup(WWW.key, simulated.clock.seconds())
    assert simulated.ranking.counts() == {}
    assert simulated.ranking.sent == []


def test_other_types_have_their_ttl() -> None:
    """What is no address keeps the TTL that the upstream gave."""
    resolver = RankedResolver(gives(5, 16, b"\3abc", 3000))
    text = resolver.question(qtype=16)
    client = resolver.ask(text)
    resolver.run()
    assert resolver.cache.reply_ttl(client.entry, resolver.clock.seconds()) == 600
    assert resolver.ranking.counts() == {}


@pytest.mark.parametrize("numbers", [(7,), (7, 3)])
def test_while_the_collection_runs(numbers: tuple[int, ...]) -> None:
    """More may come: an answer of a running collection has the short TTL, ranked or single."""
    simulated = SimulatedRankedCache()
    simulated.put(*numbers)
    simulated.at(1)
    assert simulated.hit()[1] == 5
    simulated.cache.complete(WWW.key, 1)
    assert simulated.hit()[1] == 599


def test_complete_of_an_older_collection() -> None:
    """The end of a collection says nothing about the entry of a newer one."""
    simulated = SimulatedRankedCache()
    simulated.put(7, generation=2)
    simulated.cache.complete(WWW.key, 1)
    assert simulated.hit()[1] == 5


def test_expired() -> None:
    """An expired entry has the short TTL, is refreshed behind, and is not sorted."""
    simulated = SimulatedRankedCache(fast_response_ttl=7)
    simulated.store(pool(30, 10, ttl=60))
    simulated.at(59.9)
    assert simulated.hit()[1] == 1
    simulated.at(60)
    assert simulated.hit() == ([10, 30], 7)
    assert [asked.key for asked in simulated.refreshed] == [WWW.key]
    assert simulated.ranking.counts() == {"first_answer": 1}


def test_nobody_answers() -> None:
    """The order stays as received; until the next try clients need not come back."""
    simulated = SimulatedRankedCache(silent)
    simulated.store(pool(30, 10, 20))
    simulated.at(1)
    assert simulated.hit()[1] == 5
    simulated.at(1.6)  # the last of three samples was given up at 1.5
    assert simulated.hit() == ([30, 10, 20], int(UNRANKED_RETRY) - 1)
    sent = len(simulated.ranking.sent)
    simulated.at(1.5 + UNRANKED_RETRY - 0.01)
    assert simulated.hit()[1] == 5
    assert len(simulated.ranking.sent) == sent
    simulated.probe.script = written
    simulated.at(1.5 + UNRANKED_RETRY + 0.01)
    simulated.hit()
    simulated.at(70)
    assert simulated.hit() == ([10, 20, 30], 530)
    assert simulated.ranking.counts() == {"first_answer": 1, "sorted_missing": 1}


def test_silent_ones_go_last() -> None:
    """An address that never answers comes last and is never dropped."""
    simulated = SimulatedRankedCache(dead_below(15))
    simulated.store(pool(10, 30, 5, 20))
    simulated.at(5)
    assert simulated.hit() == ([20, 30, 10, 5], 595)


def test_no_way_of_probing() -> None:
    """Without any way of probing there is nothing to rank: the real TTL, no sort, no short life."""
    simulated = SimulatedRankedCache(names=[])
    simulated.store(pool(30, 10))
    assert simulated.hit() == ([30, 10], 600)
    assert simulated.ranking.counts() == {}


# The triggers.


def test_first_answer() -> None:
    """A new name is sorted as soon as its first answer is stored."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10)
    assert simulated.ranking.counts() == {"first_answer": 1}
    assert WWW.key in simulated.ranking.sorts


def test_first_answer_is_ordered_by_what_is_known() -> None:
    """Times that other names brought order a first answer before any probe."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10), OTHER)
    simulated.at(1)
    entry = simulated.put(30, 99, 10)
    assert shown(entry) == [10, 30, 99]
    assert entry.sorted_at is None
    simulated.at(2)
    assert simulated.probed == set(packed(10, 30, 99))
    assert len(simulated.ranking.sent) == 5


def test_first_answer_when_all_is_known() -> None:
    """Nothing has to be probed: the answer is sorted before its first client gets it."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10), OTHER)
    simulated.at(1)
    entry = simulated.put(30, 10)
    assert (shown(entry), entry.sorted_at) == ([10, 30], simulated.clock.seconds())
    assert simulated.peek() is entry
    assert simulated.ranking.counts() == {"first_answer": 2}
    assert len(simulated.ranking.sent) == 4


@pytest.mark.parametrize("before", [FailureAnswer(Ede.OTHER, 1), no_such_name()])
def test_first_answer_behind_a_failure(before: FailureAnswer | SectionsAnswer) -> None:
    """A name that had no addresses until now is a new one."""
    simulated = SimulatedRankedCache()
    simulated.cache.commit(WWW.key, 1, before, simulated.clock.seconds())
    simulated.put(30, 10, generation=2)
    assert simulated.ranking.counts() == {"first_answer": 1}


def test_refresh() -> None:
    """The answer of a refresh is sorted anew, beginning with the order that stood."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, 20, ttl=400))
    simulated.at(401)
    simulated.hit()
    entry = simulated.put(20, 30, 10, generation=2, ttl=400)
    assert shown(entry) == [10, 20, 30]
    assert simulated.ranking.counts() == {"first_answer": 1, "refresh": 1}
    simulated.at(405)
    assert len(simulated.ranking.sent) == 10


def test_more_addresses() -> None:
    """A pool that grew ends the sort of the smaller one and starts its own."""
    simulated = SimulatedRankedCache()
    simulated.put(30, 10)
    simulated.at(0.020)
    simulated.put(30, 10, 5)
    assert simulated.ranking.cancelled() == 1
    assert simulated.ranking.counts() == {"first_answer": 1, "more_addresses": 1}
    simulated.at(0.0249)
    assert simulated.hit()[0] == [10, 30, 5]  # 10 is known by now
    simulated.at(0.0251)
    assert simulated.hit()[0] == [5, 10, 30]
    simulated.at(1)
    assert simulated.hit()[0] == [5, 10, 30]
    assert len(simulated.ranking.sent) == 5  # who was being measured was not measured twice
    assert simulated.ranking.cancelled() == 1


def test_rtt_stale() -> None:
    """An old order is given with the short TTL; sort and refresh run behind, once."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, ttl=86_400))
    simulated.at(0.5)
    sorted_at = 0.050
    simulated.at(sorted_at + 300 - 0.001)
    assert simulated.hit()[1] > 5
    assert simulated.refreshed == []
    simulated.at(sorted_at + 300)
    assert simulated.hit() == ([10, 30], 5)
    assert simulated.ranking.counts() == {"first_answer": 1, "rtt_stale": 1}
    for _ in range(10):
        assert simulated.hit() == ([10, 30], 5)
    assert len(simulated.refreshed) == 1
    assert simulated.ranking.counts() == {"first_answer": 1, "rtt_stale": 1}
    simulated.at(302)
    assert simulated.hit()[1] == 298
    assert len(simulated.refreshed) == 1


def test_rtt_stale_with_new_times() -> None:
    """When what was far has clearly become the nearest, the new order replaces the old one."""
    simulated = SimulatedRankedCache()
    simulated.store(pool(30, 10, ttl=86_400))
    simulated.at(301)
    simulated.probe.script = lambda address, _: 0.001 if address[-1] == 30 else 0.2
    assert simulated.hit()[0] == [10, 30]
    simulated.at(305)
    assert simulated.hit()[0] == [30, 10]


def test_rtt_stale_with_nearly_the_same_times() -> None:
    """What was sorted swaps only for a clear difference: the order is compared with the last."""
    times = {(10, False): 0.0100, (10, True): 0.0110, (20, False): 0.0102, (20, True): 0.0102}
    simulated = SimulatedRankedCache(lambda address, sample: times[address[-1], sample >= 3])
    simulated.store(pool(20, 10, ttl=86_400))
    simulated.at(1)
    assert simulated.hit()[0] == [10, 20]
    simulated.at(301)
    simulated.hit()
    simulated.at(302)
    table = simulated.ranking.table
    assert table.cost(packed(10)[0]) > table.cost(packed(20)[0])  # type: ignore[operator]
    assert simulated.hit()[0] == [10, 20]
    assert simulated.ranking.counts() == {"first_answer": 1, "rtt_stale": 1}


def test_rtt_stale_and_a_refresh_that_fails() -> None:
    """The entry stays; as long as its order is old, a refresh is tried every five seconds."""
    simulated = SimulatedRankedCache(silent)
    simulated.put(30, 10, ttl=86_400)
    simulated.probe.script = written
    simulated.cache.complete(WWW.key, 1)
    simulated.at(100)
    simulated.hit()
    simulated.at(101)
    assert simulated.hit()[0] == [10, 30]
    simulated.probe.script = silent
    simulated.at(500)
    simulated.hit()
    simulated.cache.commit(WWW.key, 2, FailureAnswer(Ede.OTHER, 1), simulated.clock.seconds())
    simulated.at(501)
    assert simulated.hit() == ([10, 30], 5)
    simulated.at(502)
    assert simulated.hit()[1] > 5  # nobody answered: no new sort for a while
    assert len(simulated.refreshed) == 1
    assert simulated.ranking.counts()["rtt_stale"] == 1


def test_rtt_stale_with_a_full_queue() -> None:
    """As long as no sort can start, hits refresh once in five seconds, not each of them."""
    simulated = SimulatedRankedCache(queue=1)
    simulated.store(pool(30, 10, ttl=86_400))
    simulated.at(301)
    simulated.probe.script = silent
    simulated.store(pool(8, 9), OTHER)
    for at, refreshes in ((301.1, 1), (301.2, 1), (302, 1)):
        simulated.at(at)
        assert simulated.hit() == ([10, 30], 5)
        assert len(simulated.refreshed) == refreshes
    assert "rtt_stale" not in simulated.ranking.counts()


def test_sorted_missing() -> None:
    """A hit on an answer that has no order sorts it; a second hit joins."""
    simulated = SimulatedRankedCache(queue=1)
    simulated.store(pool(8, 9), OTHER)
    simulated.store(pool(30, 10))
    assert simulated.ranking.counts() == {"first_answer": 1, "queue_full": 1}
    simulated.at(1)
    for _ in range(3):
        assert simulated.hit() == ([30, 10], 5)
    assert simulated.ranking.counts() == {"first_answer": 1, "queue_full": 1, "sorted_missing": 1}
    simulated.at(2)
    assert simulated.hit() == ([10, 30], 598)


def test_queue_full() -> None:
    """Beyond the queue an answer is ordered by what is known, without a probe."""
    simulated = SimulatedRankedCache(queue=1)
    simulated.store(pool(10, 20, 99), asks("known.example"))
    simulated.at(1)
    simulated.store(pool(8, 9), OTHER)
    simulated.store(pool(50, 99, 20, 10))
    assert simulated.hit() == ([10, 20, 99, 50], 5)
    assert simulated.ranking.counts() == {"first_answer": 2, "queue_full": 1}
    simulated.at(2)
    assert set(packed(50)) & simulated.probed == set()
    simulated.hit()
    simulated.at(3)
    assert simulated.hit() == ([10, 20, 50, 99], 598)


def test_two_hundred_names_at_once() -> None:
    """With a queue of 8 nobody waits: the rest is counted, and sorted by later hits."""
    simulated = SimulatedRankedCache(queue=8)
    names = [asks(f"n{number}.example") for number in range(200)]
    for number, one in enumerate(names):
        simulated.store(pool(f"198.51.100.{number}", f"192.0.2.{number}"), one)
    assert simulated.ranking.counts() == {"first_answer": 8, "queue_full": 192}
    for second in range(1, 200):
        simulated.at(second)
        for one in names:
            simulated.cache.lookup(one.key, simulated.clock.seconds())
    entries = [simulated.peek(one) for one in names]
    assert all(entry is not None and entry.sorted_at is not None for entry in entries)


def test_the_same_addresses_under_fifty_names() -> None:
    """Fifteen addresses under fifty names cost fifteen measurements."""
    simulated = SimulatedRankedCache()
    numbers = range(1, 16)
    for number in range(50):
        simulated.store(pool(*numbers), asks(f"n{number}.example"))
        simulated.at(number / 100)
    simulated.at(60)
    assert len(simulated.ranking.sent) == 15 + 4
    for number in range(50):
        assert simulated.hit(asks(f"n{number}.example"))[0] == [*numbers]


def test_order_survives_a_merge() -> None:
    """A refresh that comes in parts starts from the order of the last whole pool."""
    jitter = {10: 0.0100, 11: 0.0102, 12: 0.0104}
    simulated = SimulatedRankedCache(lambda one, _: jitter[one[-1]])
    simulated.store(pool(10, 11, 12))
    simulated.at(1)
    assert simulated.hit()[0] == [10, 11, 12]
    for generation in range(2, 6):
        jitter.update({10: 0.0104, 11: 0.0102, 12: 0.0100} if generation % 2 else {10: 0.0100})
        simulated.at(400 * generation)
        simulated.put(12, generation=generation)
        simulated.put(12, 11, generation=generation)
        simulated.put(12, 11, 10, generation=generation)
        simulated.cache.complete(WWW.key, generation)
        simulated.at(400 * generation + 1)
        assert simulated.hit()[0] == [10, 11, 12]


@pytest.mark.parametrize(("count", "ranked"), [(MAX_RANKED, True), (MAX_RANKED + 1, False)])
def test_longest_answer_that_is_ranked(count: int, ranked: bool) -> None:
    """An answer with too many addresses is given as it came, and costs no probe."""
    simulated = SimulatedRankedCache()
    names = [f"198.51.{number // 200}.{number % 200 + 1}" for number in range(count)]
    simulated.store(sections_answer(asks(do=True), *names), asks(do=True))
    simulated.at(600)
    assert bool(simulated.probed) is ranked
    assert simulated.peek(asks(do=True)) is not None


def test_a_hit_beyond_the_queue() -> None:
    """It orders by what has become known since, counts once, and tries again a little later."""
    simulated = SimulatedRankedCache(queue=1)
    simulated.store(pool(99, 50, 20))  # takes the place in the queue, learns 50 and 20
    simulated.store(pool(8, 9), OTHER)
    third = asks("third.example")
    simulated.store(pool(50, 20), third)
    for _ in range(5):
        assert simulated.hit(third)[0] == [50, 20]
    assert simulated.ranking.counts()["queue_full"] == 2  # OTHER and third, once each
    simulated.at(QUEUE_FULL_RETRY + 0.001)
    simulated.hit(third)
    assert simulated.ranking.counts()["queue_full"] == 3
    simulated.at(5)
    assert simulated.hit(third)[0] == [20, 50]
