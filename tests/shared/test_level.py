"""What collections ask and tell the second level, with a store in memory on a clock."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from staggerdns.inspection.waterfall import show_trace
from staggerdns.resolver.secondlevel import Collected
from staggerdns.settings.sections import CacheSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.breaker import FAILURES
from staggerdns.shared.level import MAX_READINGS, MAX_WRITES
from staggerdns.shared.pools import pool_key, write_pool
from staggerdns.strategy.learned import Learned
from staggerdns.strategy.tiers import SHARED
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.scrub import MAX_CNAME_CHAIN
from tests.kit.acts import AAAA, NXDOMAIN, SERVFAIL, SILENT, TXT, Act, fails, negative, says
from tests.kit.ranked import packed
from tests.kit.sharedstore import DIGEST, MemoryStore, SharingResolver

ONE, OTHER, THIRD = "203.0.113.1", "203.0.113.2", "203.0.113.3"
NAMES = ("192.0.2.1:53", "192.0.2.2:53")
"""How the upstreams are called."""
QUICK = ParallelSettings(stagger_delay=0.001, total_collect_timeout=0.5)


def two(
    store: MemoryStore | None = None,
    acts: tuple[Act, Act] = (says(2, ONE), says(3, OTHER)),
    **keywords: Any,
) -> SharingResolver:
    """A resolver of two upstreams, each with an address of its own."""
    return SharingResolver(*acts, store=store, parallel=QUICK, **keywords)


def put(
    resolver: SharingResolver,
    *addresses: str,
    ttl: int = 300,
    due: int = 100,
    answered: tuple[str, ...] = NAMES,
    whole: bool = True,
) -> None:
    """Have the store know a pool for the usual question, brought by the first upstream."""
    brought = CONTRIBUTORS.number(CONTRIBUTORS.bit(NAMES[0]))
    pool = AddressPool((), packed(*addresses), ttl, ad=False, brought_by=brought)
    question = resolver.question()
    made = write_pool(question, Collected(pool, due, answered, whole), 0)
    assert made is not None
    resolver.store.put(pool_key(DIGEST, question), *made)


def elapse(resolver: SharingResolver, seconds: float) -> None:
    """Let time pass."""
    resolver.run_to(resolver.now + seconds * 1000)


def test_what_one_collects_another_has() -> None:
    """It asks nobody: the pool is whole, complete, as old as it is, and says who brought what."""
    first = two()
    first.ask()
    first.run()
    assert first.reads == {"miss": 1}
    assert first.writes == {"written": 1}
    assert first.shared.seconds.count == 1
    elapse(first, 10)
    second = two(first.store)
    client = second.ask()
    second.run()
    assert client.addresses == [ONE, OTHER]
    assert second.launches == []
    assert second.reads == {"whole": 1}
    assert second.writes == {}
    entry = client.entry
    assert entry.complete
    assert entry.hearsay
    assert list(entry.answer.lives) == [288, 288]  # type: ignore[attr-defined]
    assert entry.answer.contributors == ({NAMES[0]}, {NAMES[1]})  # type: ignore[attr-defined]
    original = first.cache.held(first.question().key)
    assert original is not None
    assert not original.hearsay
    assert entry.refresh_age == original.refresh_age - 12
    assert dict(second.metrics.collection_outcomes.values()) == {(SHARED, "positive"): 1}
    assert second.metrics.pool_addresses.values()[SHARED,] == 2
    second.assert_nothing_left()


def test_followers_wait_for_the_store_as_well() -> None:
    """There is one reading for all."""
    resolver = two()
    put(resolver, ONE, OTHER)
    clients = [resolver.ask() for _ in range(3)]
    resolver.run()
    assert [client.addresses for client in clients] == [[ONE, OTHER]] * 3
    assert resolver.store.commands == ["read"]


def traced(resolver: SharingResolver) -> dict[str, Any]:
    """What is shown of the usual question."""
    trace = resolver.traces.find(resolver.question().key)
    assert trace is not None
    return show_trace(trace, {}, None, resolver.clock.seconds(), 0.0)


def test_a_trace_shows_it() -> None:
    """As one of those that were asked."""
    resolver = two()
    put(resolver, ONE)
    resolver.ask()
    resolver.run()
    shown = traced(resolver)
    (asked,) = shown["asked"]
    assert (asked["upstream"], asked["tier"], asked["result"]) == (SHARED, SHARED, "positive")
    assert asked["first"]
    assert asked["addresses"] == [ONE]
    assert (shown["strategy"], shown["client_ms"], shown["ended_ms"]) == (SHARED, 1.0, 1.0)


@pytest.mark.parametrize(
    ("what", "result", "reason"),
    [
        ("miss", "nothing", ""),
        ("garbage", "network_error", "malformed"),
        ("error", "network_error", "closed"),
        ("late", "network_error", "timeout"),
    ],
)
def test_a_trace_shows_why_not(what: str, result: str, reason: str) -> None:
    """The store had nothing, or nothing good."""
    resolver = two()
    if what == "garbage":
        resolver.store.put(pool_key(DIGEST, resolver.question()), b"garbage", 10_000)
    resolver.store.broken = "ERR" if what == "error" else ""
    resolver.store.replies = what != "late"
    resolver.ask()
    resolver.run()
    first, *others = traced(resolver)["asked"]
    assert (first["upstream"], first["result"], first["reason"]) == (SHARED, result, reason)
    assert [one["first"] for one in (first, *others)] == [False, True, False]


@pytest.mark.parametrize("answered", [NAMES[:1], ()])
def test_a_part_is_a_source(answered: tuple[str, ...]) -> None:
    """Clients have it at once, upstreams are asked, and all of it is one pool."""
    resolver = two()
    put(resolver, THIRD, ttl=50, answered=answered)
    client = resolver.ask()
    resolver.run()
    assert client.at == 1.0
    assert client.addresses == [THIRD]
    assert client.entry.hearsay
    assert len(resolver.launches) == 2
    assert resolver.reads == {"partial": 1}
    assert resolver.pool() == [THIRD, ONE, OTHER]
    entry = resolver.cache.held(resolver.question().key)
    assert entry is not None
    assert not entry.hearsay
    assert list(entry.answer.lives) == [49, 300, 300]  # type: ignore[attr-defined]
    assert entry.answer.contributors == (  # type: ignore[attr-defined]
        {NAMES[0]},
        {NAMES[0]},
        {NAMES[1]},
    )
    assert entry.refresh_age == 300
    assert resolver.metrics.pool_addresses.values()[SHARED,] == 1


def test_a_pool_that_is_due_is_a_source() -> None:
    """Whoever reads it refreshes it."""
    resolver = two()
    put(resolver, ONE, due=0)
    resolver.ask()
    resolver.run()
    assert resolver.reads == {"partial": 1}
    assert len(resolver.launches) == 2


def test_upstreams_deny_what_the_store_has() -> None:
    """They know better; what comes later of the store does not change that."""
    resolver = two(acts=(negative(3), negative(4)))
    put(resolver, ONE, answered=())
    first = resolver.ask()
    resolver.run()
    assert first.addresses == [ONE]
    assert resolver.ask().rcode == NXDOMAIN
    assert resolver.writes == {}


def test_upstreams_fail_where_the_store_has_a_part() -> None:
    """It is an answer; it is asked for again soon, and not written as if it were new."""
    resolver = two(acts=(fails(3), fails(4)))
    put(resolver, ONE, answered=())
    failures: list[bool] = []
    resolver.forwarder.tell_failures(failures.append)
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [ONE]
    entry = resolver.cache.held(resolver.question().key)
    assert entry is not None
    assert entry.due_age == CacheSettings().fast_response_ttl
    assert resolver.writes == {}
    assert len(failures) == 1


def test_an_unhealthy_upstream_is_not_missed() -> None:
    """A pool without it is whole for whoever would not ask it."""
    resolver = two()
    put(resolver, ONE, answered=NAMES[:1])
    resolver.upstreams[1].open_circuit()
    resolver.ask()
    resolver.run()
    assert resolver.launches == []


@pytest.mark.parametrize("strategy", ["racing", "sequential", "random"])
def test_one_answer_is_whole_where_one_is_wanted(strategy: str) -> None:
    """Strategies that ask for one answer take any pool."""
    resolver = two(strategy=strategy)
    put(resolver, ONE, answered=NAMES[:1])
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [ONE]
    assert resolver.launches == []


def test_what_is_not_shared() -> None:
    """Other types, DO, answers without addresses, and what may not be kept."""
    resolver = two()
    resolver.ask(resolver.question(qtype=TXT))
    resolver.ask(resolver.question(do=True))
    resolver.run()
    assert resolver.store.commands == []
    resolver.script(negative(1), negative(1))
    resolver.ask(resolver.question("a.example"))
    resolver.script(fails(1), fails(1))
    resolver.ask(resolver.question("b.example"))
    resolver.run()
    resolver.script(says(1, ONE, ttl=0), says(1, ONE, ttl=0))
    resolver.ask(resolver.question("c.example"))
    resolver.run()
    assert resolver.store.commands == ["read"] * 3
    assert resolver.store.values == {}


def test_questions_do_not_mix() -> None:
    """Type and CD are part of the key."""
    resolver = two()
    put(resolver, ONE, OTHER)
    resolver.script(says(1, "2001:db8::1"), says(1, "2001:db8::1"))
    resolver.ask(resolver.question(qtype=AAAA))
    resolver.run()
    resolver.script(says(1, THIRD), says(1, THIRD))
    client = resolver.ask(resolver.question(cd=True))
    resolver.run()
    assert client.addresses == [THIRD]
    assert resolver.reads == {"miss": 2}


def test_no_reply_in_time() -> None:
    """Upstreams are asked when the time is over; what comes later joins."""
    resolver = two(acts=(says(20, ONE), says(60, OTHER)))
    put(resolver, THIRD, ONE)
    resolver.store.delay = 0.030
    client = resolver.ask()
    resolver.run_to(4.9)
    assert resolver.launches == []
    resolver.run()
    assert resolver.times[0] == 5.0
    assert client.at == 25.0
    assert resolver.pool() == [ONE, THIRD, OTHER]
    assert resolver.reads == {"timeout": 1, "partial": 1}


def test_a_late_pool_is_the_first_answer() -> None:
    """If nobody else has answered by then."""
    resolver = two(acts=(says(90, ONE), says(91, OTHER)))
    put(resolver, THIRD)
    resolver.store.delay = 0.030
    client = resolver.ask()
    resolver.run()
    assert (client.at, client.addresses) == (30.0, [THIRD])
    assert resolver.pool() == [THIRD, ONE, OTHER]


def test_the_breaker() -> None:
    """After some failures in a row nobody waits any more, until a poll has been answered."""
    resolver = two()
    resolver.store.replies = False
    for number in range(FAILURES + 2):
        client = resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
        waited = 5.0 if number < FAILURES else 0.0
        assert client.at - waited == pytest.approx(resolver.launches[2 * number][0] + 2 - waited)
    assert resolver.reads == {"timeout": FAILURES, "open": 2}
    assert resolver.told == ["", "no reply in time"]
    assert not resolver.breaker.closed
    resolver.store.replies = True
    resolver.breaker.recovered()
    resolver.ask(resolver.question("back.example"))
    resolver.run()
    assert resolver.reads["miss"] == 1
    assert resolver.told == ["", "no reply in time", ""]


def test_failures_that_are_not_in_a_row() -> None:
    """A reply in time begins a new count."""
    resolver = two()
    for number in range(2 * FAILURES):
        resolver.store.broken = "LOADING" if number % FAILURES else ""
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.run()
    assert resolver.breaker.closed
    assert resolver.reads == {"miss": 2, "error": 2 * FAILURES - 2}


def test_errors_cost_no_time() -> None:
    """Upstreams are asked as soon as there is one."""
    resolver = two()
    resolver.store.broken = "ERR"
    client = resolver.ask()
    resolver.run()
    assert client.at == 3.0
    assert client.addresses == [ONE]
    assert resolver.writes == {"error": 1}


def test_garbage_is_replaced() -> None:
    """It counts, and the next pool takes its place."""
    resolver = two()
    key = pool_key(DIGEST, resolver.question())
    resolver.store.put(key, b"garbage", 10_000_000)
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [ONE]
    assert resolver.reads == {"invalid": 1}
    assert resolver.writes == {"written": 1}
    again = two(resolver.store)
    again.ask()
    again.run()
    assert again.reads == {"whole": 1}


@pytest.mark.parametrize("aliases", [MAX_CNAME_CHAIN + 1, 5_000])
def test_more_aliases_than_a_reply_has(aliases: int) -> None:
    """A chain that no message could hold is not believed, and is no defect of ours."""
    resolver = two()
    question = resolver.question()
    chain = tuple([b"\3%03d\0" % (number % 1000) for number in range(aliases)])
    pool = AddressPool(chain, packed(ONE), 300, ad=False, cname_life=300)
    made = write_pool(question, Collected(pool, 100, NAMES, whole=True), 0)
    assert made is not None
    resolver.store.put(pool_key(DIGEST, question), *made)
    client = resolver.ask()
    resolver.run()
    assert client.addresses == [ONE]
    assert resolver.reads == {"invalid": 1}


def test_private_addresses_of_a_part() -> None:
    """They are judged as those of an upstream that answers first."""
    resolver = two()
    put(resolver, "0.0.0.0", ONE)
    resolver.ask()
    resolver.run()
    assert resolver.reads == {"whole": 1}


def test_a_refresh_reads_what_another_has_refreshed() -> None:
    """A newer pool makes it unnecessary to ask; one's own does not."""
    first = two()
    first.ask()
    first.run()
    second = two(first.store)
    second.ask()
    second.run()
    elapse(first, 295)
    second.clock.rightNow = first.clock.seconds()
    first.forwarder.refresh(first.question(), first.clock.seconds())
    first.run()
    assert first.reads == {"miss": 1, "partial": 1}
    assert len(first.launches) == 4
    elapse(first, 2)
    second.forwarder.refresh(second.question(), second.clock.seconds())
    second.run()
    assert second.reads == {"whole": 2}
    assert second.launches == []
    entry = second.cache.held(second.question().key)
    assert entry is not None
    assert entry.expires > second.clock.seconds() + 290


def test_a_refresh_does_not_keep_what_is_gone() -> None:
    """What upstreams do not say any more leaves the pool, here as in the store."""
    resolver = two()
    resolver.ask()
    resolver.run()
    resolver.script(says(2, THIRD), says(3, THIRD))
    elapse(resolver, 200)
    resolver.forwarder.refresh(resolver.question(), resolver.clock.seconds())
    resolver.run()
    assert resolver.pool() == [THIRD]
    other = two(resolver.store)
    client = other.ask()
    other.run()
    assert client.addresses == [THIRD]


def test_missing_upstreams_do_not_shrink_a_pool() -> None:
    """What those know who have not answered this time stays in the store."""
    resolver = two()
    resolver.ask()
    resolver.run()
    resolver.script(says(2, THIRD), SILENT)
    elapse(resolver, 200)
    resolver.forwarder.refresh(resolver.question(), resolver.clock.seconds())
    resolver.run()
    assert resolver.writes == {"written": 1, "merged": 1}
    other = two(resolver.store, acts=(SILENT, SILENT))
    client = other.ask()
    other.run()
    assert client.addresses == [THIRD, ONE, OTHER]
    assert other.reads == {"partial": 1}


def test_two_at_once() -> None:
    """Who writes second merges: nothing is lost."""
    clock = Clock()
    store = MemoryStore(clock)
    first, second = two(store), two(store, acts=(says(4, THIRD), says(5, THIRD)))
    first.ask()
    second.ask()
    first.run()
    assert (first.writes, second.writes) == ({"written": 1}, {"merged": 1})
    third = two(store)
    client = third.ask()
    third.run()
    assert set(client.addresses) == {ONE, OTHER, THIRD}
    assert third.reads == {"whole": 1}


def test_a_least_ttl_does_not_keep_a_pool_for_ever() -> None:
    """What came from the store is not raised again, however often it goes around."""
    cache = CacheSettings(min_ttl=100)
    store = None
    for number in range(6):
        acts = (says(2, ONE, ttl=10), SILENT) if not number else (SILENT, says(2, OTHER, ttl=10))
        resolver = two(store, acts=acts, cache=cache)
        store = resolver.store
        client = resolver.ask()
        resolver.run()
        held = resolver.cache.held(resolver.question().key)
        assert held is not None
        assert (ONE in client.addresses) == (number < 5)
        elapse(resolver, 20)


def test_limits_of_readings_and_writes() -> None:
    """More are not under way at once, and cost nobody an answer."""
    resolver = two()
    resolver.store.delay = 60.0
    for number in range(MAX_READINGS + 1):
        resolver.ask(resolver.question(f"n{number}.example"))
        resolver.clock.advance(0)
    assert resolver.reads == {"busy": 1}
    assert resolver.access.reading == MAX_READINGS
    resolver.run(100_000)
    assert resolver.access.reading == resolver.access.writing == 0
    resolver.breaker.recovered()
    before = dict(resolver.writes)
    resolver.store.delay = 0.004
    for number in range(MAX_WRITES + 1):
        resolver.ask(resolver.question(f"m{number}.example"))
        resolver.clock.advance(0.000001)
    resolver.run()
    assert resolver.writes["left_out"] == before.get("left_out", 0) + 1
    assert resolver.writes["written"] == MAX_WRITES


def test_an_end_in_the_middle() -> None:
    """Nothing is left, whoever waits."""
    resolver = two()
    client = resolver.ask()
    resolver.forwarder.close()
    assert client.rcode == SERVFAIL
    resolver.run()
    resolver.assert_nothing_left()


@pytest.mark.parametrize("whole", [True, False])
def test_where_some_are_left_out(monkeypatch: pytest.MonkeyPatch, *, whole: bool) -> None:
    """A pool is whole if whoever wrote it had asked all that it wanted to."""
    monkeypatch.setattr(Learned, "is_measured", lambda *_: False)
    settings = ParallelSettings(ask="learned", stagger_delay=0.001)
    resolver = SharingResolver(says(2, ONE), says(3, ONE), says(4, ONE), parallel=settings)
    put(resolver, ONE, answered=NAMES[:1], whole=whole)
    resolver.ask()
    resolver.run()
    assert resolver.reads == {"whole" if whole else "partial": 1}
    assert len(resolver.launches) in ((0,) if whole else (2, 3))


def test_what_the_store_knows_teaches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has asked nobody: who adds what is learnt of upstreams alone."""
    seen: list[str] = []
    monkeypatch.setattr(
        Learned, "measure", lambda _, outcomes, __: seen.extend(one.tier for one in outcomes)
    )
    settings = ParallelSettings(ask="learned", stagger_delay=0.001)
    resolver = SharingResolver(says(2, ONE), says(3, ONE), parallel=settings)
    put(resolver, ONE, answered=())
    resolver.ask()
    resolver.run()
    assert seen == ["active", "active"]


@pytest.mark.parametrize("apart", [0.0, 0.002, 1.0])
def test_three_servers_make_one_pool(apart: float) -> None:
    """It is all that any of them has found, whoever was first."""
    clock = Clock()
    store = MemoryStore(clock)
    nodes = [two(store, acts=(says(3, one), SILENT)) for one in (ONE, OTHER, THIRD)]
    for node in nodes:
        node.ask()
        elapse(node, apart)
    nodes[0].run()
    last = two(store, acts=(SILENT, SILENT))
    client = last.ask()
    last.run()
    assert set(client.addresses) == {ONE, OTHER, THIRD}


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_the_time_that_a_collection_takes(seconds: float) -> None:
    """It is taken from the lives of what others knew before."""
    settings = ParallelSettings(stagger_delay=0.001, total_collect_timeout=seconds)
    resolver = SharingResolver(says(2, ONE), SILENT, parallel=settings)
    put(resolver, THIRD, ttl=60, answered=())
    resolver.forwarder.refresh(resolver.question(), resolver.clock.seconds())
    resolver.run()
    other = two(resolver.store, acts=(SILENT, SILENT))
    other.ask()
    other.run()
    entry = other.cache.held(other.question().key)
    assert entry is not None
    lives = dict(zip(entry.answer.addresses, entry.answer.lives, strict=True))  # type: ignore[attr-defined]
    assert 60 - seconds - 5 < lives[packed(THIRD)[0]] <= 60 - seconds
