"""What the commands do, in a whole program on a clock."""

from __future__ import annotations

from ipaddress import ip_address
from itertools import pairwise
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, formatEvent

from staggerdns import __version__
from staggerdns.control.flushing import SLICE
from staggerdns.control.operations import MAX_ENTRIES_SHOWN, resident_octets
from staggerdns.control.protocol import BAD_REQUEST, REFUSED, Refused
from staggerdns.control.rates import SAMPLE_EVERY, SAMPLES
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.names import is_below
from staggerdns.wire.question import make_question
from tests.kit.acts import A, fails, name, negative, says
from tests.kit.commands import begin, do, refused, until
from tests.kit.listed import ListedProgram
from tests.kit.routed import INSIDE, NO_RANKING, PUBLIC, RoutedProgram

ROUTE = f"{{domains: [corp.example], servers: [{INSIDE}]}}"


def program(more: str = NO_RANKING) -> RoutedProgram:
    """A program with a route."""
    return RoutedProgram(ROUTE, more=more)


def turn(running: RoutedProgram) -> None:
    """Let a turn of the reactor pass, in which no more is done than was due when it began."""
    due = [call for call in running.clock.calls if call.getTime() <= running.clock.seconds()]
    for call in due:
        running.clock.calls.remove(call)
        call.called = 1
        call.func(*call.args, **call.kw)


def fill(running: RoutedProgram, count: int, domain: str = "example") -> None:
    """Put so many names into the cache."""
    now, cache = running.clock.seconds(), running.chain.cache
    for number in range(count):
        key = make_question(name(f"n{number}.{domain}"), A).key
        cache.commit(key, number, AddressPool((), (bytes(4),), 300, ad=False), now)


# status


def test_status() -> None:
    """What an operator asks first."""
    running = ListedProgram(
        ads="", groups="{default: {block: [ads]}, kids: {clients: [10.0.1.0/24]}}"
    )
    status = do(running, "status")
    assert (status["version"], status["phase"], status["ready"]) == (__version__, "starting", False)
    assert status["uptime"] == 0
    assert status["cache"] == {
        "entries": 0,
        "octets": 0,
        "max_entries": 50_000,
        "max_octets": 128 * 1024**2,
    }
    assert status["pending"] == 0
    assert status["answering"] is True
    assert status["memory"] > 1_000_000
    assert status["shared"] is None
    assert status["blocking"] == [
        {"group": "default", "lists": ("ads",), "paused": False, "seconds_left": None},
        {"group": "kids", "lists": ("ads",), "paused": False, "seconds_left": None},
    ]
    running.service.lifecycle.serve()
    running.script(PUBLIC, says(50, "203.0.113.1"))
    running.ask("www.example")
    status = do(running, "status")
    assert (status["phase"], status["ready"]) == ("serving", True)
    assert (status["pending"], status["collections"]["running"]) == (1, 1)
    until(running, 100)
    status = do(running, "status")
    assert status["pending"] == 0
    assert status["collections"] == {"running": 0, "queued": 0, "ended": 1}
    assert status["cache"]["entries"] == 1
    assert status["uptime"] == 0.1


def test_rates() -> None:
    """They are those of the last seconds; without queries there is no share."""
    running = program()
    operations = running.service.control.operations
    assert do(running, "status")["rates"]["queries_per_second"] == 0
    operations.start()
    window = SAMPLES * SAMPLE_EVERY
    for second in range(20):
        until(running, 1_000 * (second + 1) - 500)
        running.metrics.answer_seconds.distribution("cache").observe(0.001, 2)
        running.metrics.answer_seconds.distribution("stale").observe(0.001, 1)
        running.metrics.answer_seconds.distribution("upstream").observe(0.001, 1)
    until(running, 20_000)
    rates = do(running, "status")["rates"]
    assert window - SAMPLE_EVERY <= rates["seconds"] <= window
    assert rates["queries_per_second"] == pytest.approx(4)
    assert rates["cache_share"] == 0.75
    assert rates["answered"] == 80
    until(running, 20_000 + 1_000 * (window + 1))
    rates = do(running, "status")["rates"]
    assert (rates["queries_per_second"], rates["cache_share"]) == (0, None)
    operations.close()
    assert not running.clock.getDelayedCalls()


def test_memory() -> None:
    """It is what the process takes, as the system says."""
    assert 5_000_000 < resident_octets() < 10**11


# upstreams


def test_upstreams() -> None:
    """Each of all scopes, with what came of its queries, and why it is not healthy."""
    running = program()
    first = do(running, "upstreams")["upstreams"]
    assert [one["name"] for one in first] == [f"{PUBLIC}:53", f"{INSIDE}:53"] or len(first) == 2
    assert first[0]["state"] == "healthy"
    assert first[0]["latency"] is first[0]["deviation"] is None
    assert (first[0]["answered"], first[0]["failed"], first[0]["failures"]) == (0, 0, {})
    assert (first[0]["max_inflight"], first[0]["rate_limit"]) == (1000, 0)
    running.script(PUBLIC, says(20, "203.0.113.1"))
    running.ask("a.example")
    assert do(running, "upstreams")["upstreams"][0]["inflight"] == 1
    until(running, 50)
    running.script(PUBLIC, negative(10))
    running.ask("b.example")
    until(running, 100)
    one = do(running, "upstreams")["upstreams"][0]
    assert (one["answered"], one["inflight"]) == (2, 0)
    assert 0.01 < one["latency"] < 0.02


# cache


def entries(running: RoutedProgram, text: str, **more: str) -> list[dict[str, Any]]:
    """What is shown of a name."""
    found: list[dict[str, Any]] = do(running, "cache", name=text, **more)["entries"]
    return found


def test_a_pool() -> None:
    """Addresses in order with round trips, bringers and lives; the TTL that clients get now."""
    running = RoutedProgram("", more="ranking: {probes: ['tcp:443']}\nlocal: {hosts: null}\n")
    cache = running.chain.cache
    now = running.clock.seconds()
    key = make_question(name("www.example"), A).key
    addresses = [ip_address(f"203.0.113.{host}").packed for host in (1, 2, 3)]
    number = CONTRIBUTORS.number(CONTRIBUTORS.bit("one") | CONTRIBUTORS.bit("two"))
    pool = AddressPool((name("to.example"),), tuple(addresses), 300, ad=False, brought_by=number)
    table = running.chain.round_trips
    assert table is not None
    table.begin(addresses[0], 0.02, 0, "icmp", now)
    table.begin(addresses[1], 0.01, 0, "icmp", now)
    table.begin(addresses[2], None, 5, "", now)
    cache.commit(key, 1, pool, now)
    until(running, 10_000)
    (shown,) = entries(running, "WWW.example.")
    assert shown["cnames"] == ["to.example."]
    assert [one["address"] for one in shown["addresses"]] == [
        "203.0.113.2",
        "203.0.113.1",
        "203.0.113.3",
    ]
    assert [one["round_trip"] for one in shown["addresses"]] == [0.01, 0.02, None]
    assert [one["silent"] for one in shown["addresses"]] == [False, False, True]
    assert [one["loss"] > 0 for one in shown["addresses"]] == [True] * 3  # nobody is connected
    assert shown["addresses"][0]["upstreams"] == ["one", "two"]
    assert shown["addresses"][0]["seconds_left"] == 290
    assert (shown["age"], shown["seconds_left"]) == (10, 290)
    assert (shown["type"], shown["rcode"], shown["negative"]) == ("A", "NOERROR", False)
    assert shown["complete"] is False
    cache.complete(key, 1, 300)
    (shown,) = entries(running, "www.example")
    assert shown["complete"] is True
    assert shown["stale"] is False
    entry = cache.lookup(key, running.clock.seconds())
    assert entry is not None
    assert shown["ttl"] == cache.reply_ttl(entry, running.clock.seconds())
    until(running, 301_000)
    (shown,) = entries(running, "www.example")
    assert (shown["stale"], shown["servable"]) == (True, True)
    assert shown["seconds_left"] == -1
    running.service.control.close()
    running.chain.close()


def test_all_variants_of_a_name() -> None:
    """Of all types, flags and scopes, or of one type; of no other name."""
    running = program()
    running.ask("www.example")
    running.ask("www.example", "AAAA")
    running.ask("www.example", do=True)
    running.ask("other.example")
    running.ask("www.corp.example")
    until(running, 100)
    shown = entries(running, "www.example")
    assert sorted((one["type"], one["do"], one["cd"]) for one in shown) == [
        ("A", False, False),
        ("A", True, False),
        ("AAAA", False, False),
    ]
    assert [one["type"] for one in entries(running, "www.example", type="aaaa")] == ["AAAA"]
    assert entries(running, "www.example", type="TYPE65280") == []
    (inside,) = entries(running, "www.corp.example")
    assert inside["scope"] != 0
    assert inside["route"] == "corp.example"
    assert entries(running, "nobody.example") == []


def test_answers_of_other_kinds() -> None:
    """Negatives, failures, and what is kept as it came."""
    running = program()
    running.script(PUBLIC, negative(1))
    running.ask("no.example")
    running.script(PUBLIC, fails(1))
    running.ask("broken.example")
    until(running, 900)
    (shown,) = entries(running, "no.example")
    assert (shown["rcode"], shown["negative"], shown["addresses"]) == ("NXDOMAIN", True, [])
    assert shown["records"]["authority"] == 1
    (shown,) = entries(running, "broken.example")
    assert (shown["rcode"], shown["records"]) == ("SERVFAIL", {})
    assert shown["error"]


def test_nothing_changes_by_looking() -> None:
    """No refresh, no order of use, no merge."""
    running = program("cache: {max_entries: 2}\n" + NO_RANKING)
    fill(running, 2)
    entries(running, "n0.example")
    until(running, 3_000_000)
    (shown,) = entries(running, "n0.example")
    assert shown["stale"]
    assert running.launched == []
    now = running.clock.seconds()
    key = make_question(name("new.example"), A).key
    running.chain.cache.commit(key, 9, AddressPool((), (bytes(4),), 300, ad=False), now)
    assert entries(running, "n0.example") == []


def test_many_entries_of_one_name() -> None:
    """A name may have them of every type; some are shown, and how many more there are."""
    running = program()
    now = running.clock.seconds()
    for qtype in range(MAX_ENTRIES_SHOWN + 1):
        key = make_question(name("www.example"), 1_000 + qtype).key
        running.chain.cache.commit(key, qtype, AddressPool((), (bytes(4),), 9, ad=False), now)
    found = do(running, "cache", name="www.example")
    assert len(found["entries"]) == MAX_ENTRIES_SHOWN
    assert found["more"] == 1


@pytest.mark.parametrize("arguments", [{"name": "a..b"}, {"name": "a", "type": "NONE"}])
def test_no_name_or_type(arguments: dict[str, str]) -> None:
    """What cannot be in a cache is refused."""
    assert refused(program(), "cache", **arguments).code == BAD_REQUEST


# flush


def test_flush_a_name() -> None:
    """In all types, flags and scopes; its ready replies are void, and others stay."""
    running = program()
    for _ in range(2):
        running.ask("www.example")
        running.ask("www.example", "AAAA")
        running.ask("www.corp.example")
        running.ask("other.example")
        running.wait(100)
    before = len(running.launched)
    with capturedLogs() as events:
        assert do(running, "flush", name="WWW.example") == {"flushed": 2}
    assert formatEvent(events[0]) == "flushed 2 answers for user 0: www.example."
    assert do(running, "flush", name="www.example") == {"flushed": 0}
    for text in ("other.example", "www.corp.example"):
        running.ask(text)
    assert len(running.launched) == before
    running.ask("www.example")
    assert len(running.launched) == before + 1


def test_flush_below() -> None:
    """A domain and all below it, as labels go."""
    running = program()
    kept = ("example", "a.example", "a.b.example", "aexample.other", "notexample", "xexample.b")
    for text in kept:
        running.ask(text)
    until(running, 100)
    assert do(running, "flush", below="example.") == {"flushed": 3}
    assert [bool(entries(running, text)) for text in kept] == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("text", "domain", "below"),
    [
        (b"\7example\0", b"\7example\0", True),
        (b"\1a\7example\0", b"\7example\0", True),
        (b"\1a\7example\0", b"\0", True),
        (b"\0", b"\0", True),
        (b"\x09a\7example\0", b"\7example\0", False),
        (b"\7example\0", b"\1a\7example\0", False),
        (b"\1a\7exampl3\0", b"\7example\0", False),
    ],
)
def test_what_is_below(text: bytes, domain: bytes, below: bool) -> None:
    """A label that ends with the octets of a domain is not below it."""
    assert is_below(text, domain) == below


def test_flush_all() -> None:
    """Everything goes, in slices; what comes meanwhile stays."""
    running = program()
    fill(running, 3 * SLICE)
    results: list[Any] = []
    begin(running, "flush", all=True).addCallback(results.append)
    turns = 0
    left = [len(running.chain.cache)]
    while not results:
        turn(running)
        left.append(len(running.chain.cache))
        turns += 1
        if turns == 2:
            running.clock.rightNow += 0.001
            running.chain.cache.commit(
                make_question(name("late.example"), A).key,
                9_999,
                AddressPool((), (bytes(4),), 300, ad=False),
                running.clock.seconds(),
            )
    assert results == [{"flushed": 3 * SLICE}]
    assert max(before - after for before, after in pairwise(left)) < SLICE
    assert len(running.chain.cache) == 1


def test_flush_while_it_is_collected() -> None:
    """A collection that began before gives its answer to those who wait; it is what upstreams
    have said since, and is kept.
    """
    running = program()
    running.script(PUBLIC, says(50, "203.0.113.1"))
    asked = running.ask("www.example")
    assert do(running, "flush", name="www.example") == {"flushed": 0}
    until(running, 100)
    assert asked.result == ["203.0.113.1"]
    assert len(entries(running, "www.example")) == 1


# reload


def test_reload() -> None:
    """The reply comes when the configuration counts; its problems are all there if it does not."""
    running = program()
    waiting: Deferred[tuple[str, ...]] = Deferred()
    running.service.reload = lambda: waiting  # type: ignore[method-assign]
    results: list[Any] = []
    begin(running, "reload").addCallback(results.append)
    until(running, 2_500)
    assert results == []
    waiting.callback(())
    assert results == [{"seconds": 2.5}]
    problems = "server.listen: one", "cache: two"
    running.service.reload = lambda: succeed(problems)  # type: ignore[method-assign]
    refusal = refused(running, "reload")
    assert (refusal.code, refusal.problems) == (REFUSED, problems)


# drain


def test_drain() -> None:
    """It is the lifecycle that changes, there and back."""
    running = program()
    running.service.lifecycle.serve()
    assert do(running, "drain", draining=True) == {"phase": "draining", "ready": False}
    assert do(running, "status")["ready"] is False
    assert do(running, "drain", draining=False) == {"phase": "serving", "ready": True}


# block


def blocked(running: ListedProgram, client: str = "10.0.0.7") -> bool:
    """Whether a client does not get a name of the list."""
    asked = running.ask("ads.example", client=client)
    running.wait(50)
    return bool(asked.result == ["0.0.0.0"])


def test_block() -> None:
    """A pause for all, with an end: replies that were ready are forgotten at both ends."""
    running = ListedProgram(ads="")
    running.lists.put(ads=["ads.example"])
    assert blocked(running)
    shown = do(running, "block", blocking=False, seconds=60)["blocking"]
    assert shown == [{"group": "default", "lists": ("ads",), "paused": True, "seconds_left": 60}]
    for _ in range(2):
        assert not blocked(running)
    until(running, 61_000)
    assert blocked(running)
    assert do(running, "status")["blocking"][0]["paused"] is False


def test_block_a_group() -> None:
    """The pause of one is none of the others."""
    running = ListedProgram(
        ads="", groups="{default: {block: [ads]}, kids: {clients: [10.0.1.0/24]}}"
    )
    running.lists.put(ads=["ads.example"])
    do(running, "block", blocking=False, group="kids")
    assert blocked(running)
    assert not blocked(running, "10.0.1.7")
    assert [one["paused"] for one in do(running, "status")["blocking"]] == [False, True]
    do(running, "block", blocking=True)
    assert blocked(running, "10.0.1.7")


def test_nothing_to_pause() -> None:
    """Without lists, or for a group that is not there, it is refused, and says what there is."""
    assert refused(program(), "block", blocking=False).code == REFUSED
    running = ListedProgram(ads="", groups="{kids: {block: [ads], clients: [10.0.1.0/24]}}")
    refusal = refused(running, "block", blocking=False, group="default")
    assert refusal.message == "no group 'default' has lists that block: expected kids"


def test_the_end_comes_first() -> None:
    """What is under way is given up when the program ends, and nothing is left on the clock."""
    running = program()
    fill(running, 2 * SLICE)
    results: list[Any] = []
    begin(running, "flush", all=True).addErrback(results.append)
    turn(running)
    running.service.control.close()
    assert isinstance(results[0].value, Refused)
    assert not running.clock.getDelayedCalls()
