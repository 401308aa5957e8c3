"""One flight per question: followers, joiners, generations, limits, shutdown
(docs/specification.rst, Flights and generations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twisted.internet.defer import CancelledError

from staggerdns.resolver import forwarder as forwarder_module
from staggerdns.resolver.collection import Collection
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.forwarder import (
    MAX_COLLECTIONS,
    MAX_FOLLOWERS,
    MAX_QUEUED,
    STARTS_PER_TURN,
    TURN,
)
from staggerdns.settings.sections import CacheSettings
from staggerdns.strategy.run import Run
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Ede
from staggerdns.wire.judge import Judge
from tests.kit.acts import (
    AAAA,
    NOERROR,
    NXDOMAIN,
    REFUSED,
    SERVFAIL,
    SILENT,
    Act,
    fails,
    garbles,
    negative,
    own,
    says,
    says_own,
    unreachable,
)
from tests.kit.simulated import Client, SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.strategy.observer import Observer
    from tests.conftest import CriticalEvents


def ede_of(client: Client) -> int:
    """The extended error of a failed answer."""
    assert isinstance(client.entry.answer, FailureAnswer)
    return client.entry.answer.ede


def evicted(resolver: SimulatedResolver, limit: str) -> int:
    """How many clients were evicted because of this limit."""
    return resolver.metrics.evicted_queries.cell(limit).value


def test_followers_get_the_first_answer() -> None:
    """Whoever asks during the active phase waits for the same answer; upstreams are asked once."""
    resolver = SimulatedResolver(says_own(0, 48), says_own(1, 60), says_own(2, 10))
    clients = [resolver.ask()]
    for at in (10, 20, 47):
        resolver.run_to(at)
        clients.append(resolver.ask())
    resolver.run()
    assert [client.at for client in clients] == [48] * 4
    assert len({client.entry for client in clients}) == 1
    assert len(resolver.launches) == 3
    assert resolver.metrics.followers.cell().value == 3


@pytest.mark.parametrize("qtype", [1, AAAA])
def test_case_is_no_difference(qtype: int) -> None:
    """The name counts without its case."""
    resolver = SimulatedResolver(says(10, own(0)))
    resolver.ask(resolver.question("www.example", qtype))
    resolver.ask(resolver.question("WWW.EXample", qtype))
    assert len(resolver.launches) == 1
    resolver.run()


def test_what_makes_another_flight() -> None:
    """Name, type, DO and CD are each a question of their own."""
    resolver = SimulatedResolver(says_own(0, 10))
    questions = [
        resolver.question(),
        resolver.question("w.example"),
        resolver.question(qtype=AAAA),
        resolver.question(do=True),
        resolver.question(cd=True),
        resolver.question(do=True, cd=True),
    ]
    for question in questions * 2:
        resolver.ask(question)
    assert len(resolver.launches) == len(questions)
    resolver.run()
    resolver.assert_nothing_left()


def test_the_cache_answers_while_the_collection_runs() -> None:
    """After the first answer newcomers are served from the cache with the pool so far."""
    resolver = SimulatedResolver(says_own(0, 10), says_own(1, 70), says_own(2, 500))
    resolver.ask()
    resolver.run_to(80)
    client = resolver.ask()
    assert client.addresses == [own(0), own(1)]
    assert len(resolver.launches) == 3
    resolver.run()


def test_joiners_where_the_cache_cannot_answer() -> None:
    """TTL 0: newcomers join the running collection, at once; after its end a new one starts."""
    resolver = SimulatedResolver(says_own(0, 10, 0), says_own(1, 70, 0), says_own(2, 500, 0))
    first = resolver.ask()
    resolver.run_to(80)
    joiner = resolver.ask()
    assert (joiner.at, joiner.addresses) == (80, [own(0), own(1)])
    assert resolver.cache.reply_ttl(joiner.entry, resolver.clock.seconds()) == 0
    assert len(resolver.launches) == 3
    resolver.run()
    assert first.addresses == [own(0)]
    assert len(resolver.cache) == 0
    resolver.ask()
    assert len(resolver.launches) == 5
    resolver.run()
    resolver.assert_nothing_left()


def test_joiners_of_a_negative_without_soa() -> None:
    """A negative that may not be kept is shared by whoever joins its collection."""
    resolver = SimulatedResolver(negative(5, soa=False), negative(5, soa=False), SILENT)
    resolver.ask()
    resolver.run_to(100)
    joiner = resolver.ask()
    assert (joiner.at, joiner.rcode) == (100, NXDOMAIN)
    assert len(resolver.launches) == 3
    resolver.run()


def test_the_first_client_goes_away() -> None:
    """The collection belongs to the question: a follower lives on, the pool gets complete."""
    resolver = SimulatedResolver(says_own(0, 40), says_own(1, 50), says_own(2, 10))
    first = resolver.ask()
    resolver.run_to(10)
    follower = resolver.ask()
    resolver.run_to(20)
    first.deferred.cancel()
    resolver.run()
    assert not first.answers
    assert first.failures[0].check(CancelledError)
    assert follower.at == 40
    assert resolver.pool() == [own(0), own(1), own(2)]
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0, 0]


def test_everybody_goes_away() -> None:
    """With nobody waiting any more the answer still lands in the cache."""
    resolver = SimulatedResolver(says_own(0, 40))
    clients = [resolver.ask(), resolver.ask()]
    for client in clients:
        client.deferred.cancel()
    resolver.run()
    assert resolver.pool() == [own(0)]
    assert [len(client.failures) for client in clients] == [1, 1]
    resolver.assert_nothing_left()


def test_cancelled_twice_and_too_late() -> None:
    """Going away twice, or after the answer, disturbs nobody."""
    resolver = SimulatedResolver(says_own(0, 40))
    first, second = resolver.ask(), resolver.ask()
    first.deferred.cancel()
    first.deferred.cancel()
    resolver.run()
    second.deferred.cancel()
    assert second.addresses == [own(0)]
    assert not second.failures


def test_a_follower_that_raises() -> None:
    """What one client's callback does is no matter to the others."""
    resolver = SimulatedResolver(says_own(0, 40))
    first, second = resolver.ask(), resolver.ask()

    def fail(_: object) -> None:
        raise RuntimeError("a client's own fault")

    first.deferred.addCallback(fail)
    seen: list[object] = []
    first.deferred.addErrback(seen.append)
    resolver.run()
    assert len(seen) == 1
    assert second.at == 40


def test_asking_again_from_the_callback() -> None:
    """A client that asks the same again as it is answered gets the answer, not a new collection."""
    resolver = SimulatedResolver(says_own(0, 40, 0), says_own(1, 90, 0))
    first = resolver.ask()
    again: list[Client] = []
    first.deferred.addCallback(lambda _: again.append(resolver.ask()))
    resolver.run()
    assert again[0].at == 40
    assert len(resolver.launches) == 2


def test_an_old_collection_ends_after_a_new_one() -> None:
    """The generation decides, not the time: what an old collection brings late changes nothing."""
    resolver = SimulatedResolver(says_own(0, 10))
    context = resolver.forwarder._default
    over: list[Collection] = []
    question = resolver.question()
    now = resolver.clock.seconds()
    old = Collection(question, 1, context, over.append, now)
    new = Collection(question, 2, context, over.append, now)
    resolver.script(says_own(7, 100))
    old.begin()
    late = Client(resolver.clock, old.join(now))
    resolver.script(says_own(8, 20))
    new.begin()
    resolver.run_to(50)
    entry = resolver.cache.lookup(question.key, resolver.clock.seconds())
    assert resolver.pool() == [own(8)]
    resolver.run()
    assert resolver.cache.lookup(question.key, resolver.clock.seconds()) is entry
    assert entry is not None
    assert entry.alive
    assert (late.at, late.addresses) == (100, [own(8)])
    assert over == [new, old]


def test_generations_grow() -> None:
    """Each collection has a later number than the one before, whatever it was about."""
    resolver = SimulatedResolver(says_own(0, 10, 1))
    generations = []
    for index in range(3):
        resolver.ask(resolver.question(f"n{index % 2}.example"))
        resolver.run()
        generations.append(max(entry.generation for entry in resolver.cache.entries.values()))
        resolver.run_to(resolver.now + 1500)
    resolver.run()
    assert generations == sorted(set(generations))


def test_refresh_behind_a_stale_answer() -> None:
    """A stale entry is given at once while one collection runs; its pool then takes over."""
    resolver = SimulatedResolver(says_own(0, 10, 60), says_own(1, 20, 60))
    resolver.ask()
    resolver.run()
    resolver.script(says_own(2, 10), says_own(3, 20))
    resolver.run_to(61_000)
    stale = resolver.ask()
    assert (stale.at, stale.addresses) == (61_000, [own(0), own(1)])
    assert resolver.cache.freshness.is_stale(stale.entry, resolver.clock.seconds())
    resolver.run_to(61_005)
    resolver.ask()
    assert len(resolver.launches) == 4
    assert resolver.metrics.refreshes.cell().value == 1
    resolver.run()
    assert resolver.pool() == [own(2), own(3)]
    assert not stale.entry.alive


def test_failed_refresh() -> None:
    """When the refresh fails the old answer stays and is asked for again after 5 s."""
    resolver = SimulatedResolver(says_own(0, 10, 60))
    resolver.ask()
    resolver.run()
    resolver.script(fails(10))
    for at, launches in [(61_000, 2), (61_500, 2), (66_009, 2), (66_010, 3), (71_019, 3)]:
        resolver.run_to(at)
        client = resolver.ask()
        assert client.addresses == [own(0)]
        assert len(resolver.launches) == launches
    resolver.run()
    resolver.assert_nothing_left()


def test_nxdomain_takes_over_at_a_refresh() -> None:
    """A negative is a healthy answer: it replaces what has expired."""
    resolver = SimulatedResolver(says_own(0, 10, 60))
    resolver.ask()
    resolver.run()
    resolver.script(negative(10))
    resolver.run_to(61_000)
    resolver.ask()
    resolver.run()
    assert resolver.ask().rcode == NXDOMAIN


def test_refresh_is_no_second_flight() -> None:
    """A refresh asked for while the question is being collected starts nothing."""
    resolver = SimulatedResolver(says_own(0, 10, 1), says_own(1, 1500, 300))
    resolver.ask()
    resolver.run_to(1100)
    assert resolver.cache.freshness.is_stale(resolver.ask().entry, resolver.clock.seconds())
    assert len(resolver.launches) == 2
    assert resolver.metrics.refreshes.cell().value == 0
    resolver.run()


def test_most_followers() -> None:
    """At the limit all wait and are answered; for one more, the oldest gets SERVFAIL at once."""
    resolver = SimulatedResolver(says_own(0, 40))
    clients = [resolver.ask() for _ in range(MAX_FOLLOWERS)]
    assert evicted(resolver, "followers") == 0
    resolver.run_to(10)
    clients.append(resolver.ask())
    resolver.run_to(10)
    oldest = clients.pop(0)
    assert (oldest.at, oldest.rcode, ede_of(oldest)) == (10, SERVFAIL, Ede.OTHER)
    assert evicted(resolver, "followers") == 1
    # A place that becomes free can be taken.
    clients.pop().deferred.cancel()
    clients.append(resolver.ask())
    resolver.run()
    assert {client.at for client in clients} == {40}
    assert {client.rcode for client in clients} == {NOERROR}
    assert evicted(resolver, "followers") == 1
    assert len(resolver.cache) == 1


def test_most_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit all go on; for one more, the oldest is dropped: SERVFAIL, and no mark."""
    assert MAX_COLLECTIONS == 10_000
    monkeypatch.setattr(forwarder_module, "MAX_COLLECTIONS", 5)
    resolver = SimulatedResolver(says_own(0, 40))
    clients = [resolver.ask(resolver.question(f"n{index}.example")) for index in range(5)]
    assert resolver.running == 5
    assert evicted(resolver, "collections") == 0
    joined = resolver.ask(resolver.question("n0.example"))
    resolver.run_to(10)
    newest = resolver.ask()
    resolver.run_to(10)
    oldest = clients.pop(0)
    for client in (oldest, joined):
        assert (client.at, client.rcode, ede_of(client)) == (10, SERVFAIL, Ede.OTHER)
    assert resolver.running == 5
    assert evicted(resolver, "collections") == 2
    assert resolver.upstreams[0].inflight == 5
    resolver.run()
    assert [client.at for client in clients] == [40] * 4
    assert newest.at == 50
    assert resolver.upstreams[0].marks == 0
    again = resolver.ask(resolver.question("n0.example"))
    assert not again.answers, "nothing of the failure was kept"
    resolver.run()
    assert again.addresses == [own(0)]
    resolver.assert_nothing_left()


def test_an_answered_collection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose clients have their answer ends early: its pool stays, nobody is evicted."""
    monkeypatch.setattr(forwarder_module, "MAX_COLLECTIONS", 1)
    resolver = SimulatedResolver(says_own(0, 10), says_own(1, 20), says_own(2, 500))
    first = resolver.ask()
    resolver.run_to(100)
    second = resolver.ask(resolver.question("w.example"))
    assert resolver.running == 1
    resolver.run_to(105)
    assert resolver.pool() == [own(0), own(1)]
    assert resolver.ask().addresses == [own(0), own(1)]
    assert resolver.cache.entries[resolver.question().key].complete
    resolver.run()
    assert (first.rcode, second.rcode) == (NOERROR, NOERROR)
    assert resolver.pool() == [own(0), own(1)]
    assert evicted(resolver, "collections") == 0
    resolver.assert_nothing_left()


def test_a_refresh_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refresh that finds no room is dropped; the stale answer is given all the same."""
    resolver = SimulatedResolver(says_own(0, 10, 60))
    resolver.ask()
    resolver.run()
    monkeypatch.setattr(forwarder_module, "MAX_COLLECTIONS", 0)
    resolver.run_to(61_000)
    assert resolver.ask().addresses == [own(0)]
    assert evicted(resolver, "collections") == 0
    resolver.run()
    resolver.assert_nothing_left()


def many(resolver: SimulatedResolver, count: int, first: int = 0) -> list[Client]:
    """Ask so many different questions at once."""
    return [resolver.ask(resolver.question(f"n{first + index}.example")) for index in range(count)]


def test_a_turn() -> None:
    """So many collections begin at once, the others in the next turns, the oldest first."""
    resolver = SimulatedResolver(says_own(0, 40))
    clients = many(resolver, STARTS_PER_TURN)
    assert len(resolver.launches) == STARTS_PER_TURN
    assert resolver.clock.getDelayedCalls()
    clients += many(resolver, 2 * STARTS_PER_TURN + 1, STARTS_PER_TURN)
    assert len(resolver.launches) == STARTS_PER_TURN
    names = [str(asked) for asked in resolver.upstreams[0].script.questions]
    resolver.run()
    names = [str(asked) for asked in resolver.upstreams[0].script.questions]
    assert names == [f"n{index}.example. A" for index in range(len(clients))]
    assert {client.rcode for client in clients} == {NOERROR}
    resolver.assert_nothing_left()


def test_turns_are_apart() -> None:
    """What the reactor brings in turns of their own never queues, however fast they follow."""
    resolver = SimulatedResolver(says_own(0, 40))
    for turn in range(5):
        resolver.run_to(0)  # the reactor's next turn, at the same time
        many(resolver, STARTS_PER_TURN, turn * STARTS_PER_TURN)
        assert len(resolver.launches) == (turn + 1) * STARTS_PER_TURN
    many(resolver, 1, 1000)
    assert len(resolver.launches) == 5 * STARTS_PER_TURN
    resolver.run()
    resolver.assert_nothing_left()


def slowly(resolver: SimulatedResolver, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Have each start take so much time of the clock."""
    ask = resolver.strategies.chosen.ask

    def ask_slowly(judge: Judge, observer: Observer) -> Run:
        resolver.clock.rightNow += seconds
        return ask(judge, observer)

    monkeypatch.setattr(resolver.strategies.chosen, "ask", ask_slowly)


def a_turn_later(resolver: SimulatedResolver) -> None:
    """End the reactor's turn, and let the next one do what is due."""
    (call,) = [call for call in resolver.clock.calls if call.getTime() <= resolver.clock.seconds()]
    resolver.clock.calls.remove(call)
    call.called = 1
    call.func(*call.args, **call.kw)


@pytest.mark.parametrize(
    ("takes", "begun"),
    [
        (0.0, [16, 32, 48]),
        (TURN / 16.5, [16, 32, 48]),
        (TURN / 3.5, [4, 8, 12]),
        (0.0005, [2, 4, 6]),
        (0.01, [1, 2, 3]),
    ],
)
def test_slow_starts(monkeypatch: pytest.MonkeyPatch, takes: float, begun: list[int]) -> None:
    """Where a start is dear no more begin in a turn than `TURN` lasts for, but at least one."""
    resolver = SimulatedResolver(SILENT)
    slowly(resolver, monkeypatch, takes)
    many(resolver, 50)
    assert len(resolver.launches) == begun[0]
    for count in begun[1:]:
        a_turn_later(resolver)
        assert len(resolver.launches) == count
        many(resolver, 1, 100 * count)  # newcomers of the same turn stand behind those that wait
        assert len(resolver.launches) == count
    resolver.forwarder.close()
    resolver.assert_nothing_left()


def test_a_slow_start_delays_nobody_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the queue is empty and its turn over, the next name begins at once again."""
    resolver = SimulatedResolver(says_own(0, 40))
    slowly(resolver, monkeypatch, 2 * TURN)
    many(resolver, 3)
    assert len(resolver.launches) == 1
    resolver.run()
    assert len(resolver.launches) == 3
    many(resolver, 1, 10)
    assert len(resolver.launches) == 4
    resolver.run()
    resolver.assert_nothing_left()


@pytest.mark.parametrize("part", ["ask", "start"])
def test_a_defect_costs_one(
    monkeypatch: pytest.MonkeyPatch, critical_events: CriticalEvents, part: str
) -> None:
    """A collection that cannot begin gives its followers SERVFAIL; all others go on."""
    resolver = SimulatedResolver(says_own(0, 40), says_own(1, 50))
    real = getattr(resolver.strategies.chosen if part == "ask" else Run, part)

    def fail(subject: Any, *rest: Any) -> Any:
        question = subject.question  # of the judge, or of the run
        if "bad" in str(question):
            if part == "start":
                real(subject)  # what was sent is given up
            raise RuntimeError
        return real(subject, *rest)

    monkeypatch.setattr(resolver.strategies.chosen if part == "ask" else Run, part, fail)
    at_once = resolver.ask(resolver.question("bad.example"))
    assert (at_once.at, at_once.rcode) == (0, SERVFAIL)
    good = many(resolver, STARTS_PER_TURN)
    bad = [resolver.ask(resolver.question(f"bad{number // 2}.example")) for number in range(4)]
    good += many(resolver, STARTS_PER_TURN, 100)
    resolver.run()
    assert {client.rcode for client in good} == {NOERROR}
    assert {(client.at, client.rcode) for client in bad} == {(0, SERVFAIL)}
    assert [event["log_failure"].type for event in critical_events.flush()] == [RuntimeError] * 3
    assert resolver.ask(resolver.question("bad.example")).rcode == SERVFAIL, "it is tried anew"
    assert len(critical_events.flush()) == 1
    resolver.run()
    assert resolver.metrics.evicted_queries.values() == {}
    resolver.assert_nothing_left()


def test_one_flight_in_the_queue() -> None:
    """A question that waits for its turn is joined, and left, as any other."""
    resolver = SimulatedResolver(says_own(0, 40))
    many(resolver, STARTS_PER_TURN)
    leaving, staying = resolver.ask(), resolver.ask()
    leaving.deferred.cancel()
    resolver.run()
    assert staying.addresses == [own(0)]
    assert leaving.failures
    assert len(resolver.launches) == STARTS_PER_TURN + 1


def test_most_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may wait for their turn are asked; one more, and the oldest of them is dropped."""
    assert 2 * MAX_QUEUED < MAX_COLLECTIONS
    monkeypatch.setattr(forwarder_module, "MAX_QUEUED", 7)
    resolver = SimulatedResolver(says_own(0, 40))
    begun = many(resolver, STARTS_PER_TURN)
    queued = many(resolver, 7, 100)
    assert resolver.metrics.collections_queued.values()[()] == 7
    assert evicted(resolver, "queued") == 0
    one_more = many(resolver, 1, 200)
    resolver.run_to(0)
    oldest = queued.pop(0)
    assert (oldest.at, oldest.rcode, ede_of(oldest)) == (0, SERVFAIL, Ede.OTHER)
    assert evicted(resolver, "queued") == 1
    resolver.run()
    assert {client.rcode for client in begun + queued + one_more} == {NOERROR}
    assert len(resolver.launches) == STARTS_PER_TURN + 7
    resolver.assert_nothing_left()


def test_closing_with_a_queue() -> None:
    """At a shutdown those that wait for their turn get SERVFAIL like all, and are never asked."""
    resolver = SimulatedResolver(says_own(0, 40))
    clients = many(resolver, 3 * STARTS_PER_TURN)
    resolver.forwarder.close()
    assert {client.rcode for client in clients} == {SERVFAIL}
    assert len(resolver.launches) == STARTS_PER_TURN
    resolver.run()
    resolver.assert_nothing_left()


def test_who_is_evicted_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many turn to another name the moment that they are evicted, no call nests."""
    monkeypatch.setattr(forwarder_module, "MAX_QUEUED", 5)
    resolver = SimulatedResolver(says_own(0, 40))
    depth = deepest = asked = 0

    def ask_again(entry: Entry) -> None:
        nonlocal depth, deepest, asked
        depth += 1
        deepest = max(deepest, depth)
        if isinstance(entry.answer, FailureAnswer) and asked < 3000:
            asked += 1
            found = resolver.forwarder.find(
                resolver.question(f"again{asked}.example"), resolver.clock.seconds()
            )
            found.addCallback(ask_again)
        depth -= 1

    for index in range(STARTS_PER_TURN + 100):
        question = resolver.question(f"x{index}.example")
        resolver.forwarder.find(question, resolver.clock.seconds()).addCallback(ask_again)
    resolver.run()
    assert evicted(resolver, "queued") >= 95
    assert (deepest, depth) == (1, 0)
    resolver.assert_nothing_left()


def test_shutdown_in_mid_collection() -> None:
    """Closing ends every collection: followers get SERVFAIL, nothing is left, nobody is marked."""
    resolver = SimulatedResolver(SILENT, SILENT, SILENT, SILENT, SILENT)
    clients = [resolver.ask(resolver.question(f"n{index % 10}.example")) for index in range(20)]
    resolver.run_to(320)
    assert resolver.running == 10
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert {(client.at, client.rcode) for client in clients} == {(320, SERVFAIL)}
    assert {ede_of(client) for client in clients} == {Ede.NOT_READY}
    assert [upstream.marks for upstream in resolver.upstreams] == [0] * 5


def test_shutdown_keeps_what_is_known() -> None:
    """A collection that has answered ends silently; its pool so far stays in the cache."""
    resolver = SimulatedResolver(says_own(0, 10), SILENT, says_own(2, 5), SILENT)
    client = resolver.ask()
    resolver.run_to(70)
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert client.addresses == [own(0)]
    assert resolver.pool() == [own(0), own(2)]


def test_shutdown_gives_stale_rather_than_nothing() -> None:
    """A refresh cut short by the shutdown leaves the stale entry where it is."""
    resolver = SimulatedResolver(says_own(0, 10, 60))
    resolver.ask()
    resolver.run()
    resolver.script(SILENT)
    resolver.run_to(61_000)
    resolver.ask()
    resolver.forwarder.close()
    resolver.assert_nothing_left()
    assert resolver.ask().addresses == [own(0)]


def test_closed_for_good() -> None:
    """After the close nothing is asked any more; closing twice is harmless."""
    resolver = SimulatedResolver(says_own(0, 10))
    resolver.forwarder.close()
    client = resolver.ask()
    resolver.forwarder.close()
    assert (client.at, client.rcode) == (0, SERVFAIL)
    assert resolver.launches == []
    resolver.assert_nothing_left()


def test_names_share_nothing() -> None:
    """Many questions at once: each is asked of everybody once and ends in its own entry."""
    resolver = SimulatedResolver(
        *[says_own(index, 10 + 30 * index) for index in range(5)],
        cache=CacheSettings(max_entries=100),
    )
    questions = [resolver.question(f"n{index}.example") for index in range(30)]
    clients = []
    for index, question in enumerate(questions):
        resolver.run_to(index * 7)
        clients.append(resolver.ask(question))
    resolver.run()
    assert len(resolver.launches) == 5 * 30
    for index, question in enumerate(questions):
        assert clients[index].at == index * 7 + 10
        assert sorted(resolver.pool(question)) == [own(number) for number in range(5)]
    resolver.assert_nothing_left()


@pytest.mark.parametrize(
    ("act", "served"),
    [
        (fails(5), True),
        (garbles(5), True),
        (fails(5, REFUSED), False),
        (unreachable(5), False),
        (SILENT, False),
    ],
)
def test_a_failure_tells_whether_we_are_served(act: Act, *, served: bool) -> None:
    """An error that may be the name's own is no outage; refusal and silence may be one."""
    resolver = SimulatedResolver(act, act)
    told: list[bool] = []
    resolver.forwarder.tell_failures(told.append)
    client = resolver.ask()
    resolver.run_to(4000)
    assert client.rcode == SERVFAIL
    assert told == [served]
    resolver = SimulatedResolver(act, fails(5))
    resolver.forwarder.tell_failures(told.append)
    resolver.ask()
    resolver.run_to(4000)
    assert told == [served, True]
