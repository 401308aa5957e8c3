"""What a restart keeps of entries: orders, ages, bringers, scopes (docs/specification.rst, Saved
state).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.control.flushing import forget
from staggerdns.resolver.entry import Entry
from staggerdns.resolver.restored import TABLES
from staggerdns.shared.flushes import Flush
from staggerdns.state.answers import BLOCK_ENTRIES
from staggerdns.wire.addresspool import AddressPool, mixed
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import Type
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.key import in_scope
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import A, name
from tests.kit.cache import no_such_name
from tests.kit.messages import ask
from tests.kit.pools import merge
from tests.kit.ranked import asks, near, pool, sections_answer, shown
from tests.kit.saved import DIGEST, SavedRun, World
from tests.kit.services import given, hinted, service_answer

if TYPE_CHECKING:
    from pathlib import Path

WWW, OTHER = asks(), asks("other.example")
DOWN = 40.0
"""Seconds from one run to the next, if it matters to no test."""


def put(run: SavedRun, question: Question, answer: AddressPool | SectionsAnswer) -> Entry:
    """Have a collection find an answer, and end."""
    generation = next(run.cache.generations)
    run.cache.commit(question.key, generation, answer, run.clock.seconds())
    run.cache.complete(question.key, generation, answer.ttl, answer.ttl)
    entry = run.cache.held(question.key)
    assert entry is not None
    return entry


def restarted(run: SavedRun, directory: Path, down: float = DOWN, **options: object) -> SavedRun:
    """Stop a run, and start the next one after so many seconds."""
    assert run.stop()
    run.world.now += down
    after = SavedRun(directory, run.world, born=7.5, **options)  # type: ignore[arg-type]
    after.start()
    return after


def begun(directory: Path, **options: object) -> SavedRun:
    """A first run, with nothing to read."""
    run = SavedRun(directory, World(), **options)  # type: ignore[arg-type]
    run.start()
    return run


def about_to_read(directory: Path) -> SavedRun:
    """A run that has yet to read two answers of the one before."""
    run = begun(directory)
    put(run, WWW, pool(10))
    put(run, OTHER, pool(10))
    assert run.stop()
    return SavedRun(directory, run.world)


def brought(entry: Entry) -> list[list[str]]:
    """Who brought each address."""
    assert isinstance(entry.answer, AddressPool)
    return [sorted(names) for names in entry.answer.contributors]


def grown() -> AddressPool:
    """A pool of two upstreams, with a life and a bringer of each address."""
    first = pool(30, 20, ttl=300)
    first.brought_by = CONTRIBUTORS.number(CONTRIBUTORS.bit("192.0.2.1"))
    second = pool(20, 10, ttl=100)
    both = merge(first, second, 32, private=True, contributor=CONTRIBUTORS.bit("192.0.2.2"))
    return merge(
        both, pool(40, ttl=500), 32, private=True, contributor=CONTRIBUTORS.bit("upstream")
    )


def test_order_lives_and_contributors(tmp_path: Path) -> None:
    """A sorted pool comes back in its order, each address with its life and who brought it."""
    run = begun(tmp_path)
    put(run, WWW, grown())
    run.pass_time(4, steps=40)
    entry = run.cache.held(WWW.key)
    assert entry is not None
    assert shown(entry) == [10, 20, 30, 40]
    after = restarted(run, tmp_path)
    kept = after.cache.held(WWW.key)
    assert kept is not None
    assert kept is not entry
    assert shown(kept) == [10, 20, 30, 40]
    assert isinstance(kept.answer, AddressPool)
    assert isinstance(entry.answer, AddressPool)
    assert list(kept.answer.lives) == list(entry.answer.lives) == [100, 300, 300, 500]
    assert brought(kept) == [["192.0.2.2"], ["192.0.2.1", "192.0.2.2"], ["192.0.2.1"], ["upstream"]]
    assert (kept.generation, kept.complete, kept.due_age) == (0, True, entry.due_age)
    assert after.clock.seconds() - kept.stored == pytest.approx(44, abs=0.3)
    assert kept.sorted_at is not None
    assert entry.sorted_at is not None
    slept = kept.stored - entry.stored
    assert kept.sorted_at - entry.sorted_at == pytest.approx(slept, abs=0.002)


def test_hits_age_by_the_wall_clock(tmp_path: Path) -> None:
    """A client gets a TTL that went on while the program was down, and no query goes out."""
    run = begun(tmp_path)
    put(run, WWW, pool(10, ttl=300))
    after = restarted(run, tmp_path, down=100)
    entry = after.cache.lookup(WWW.key, after.clock.seconds())
    assert entry is not None
    assert after.cache.reply_ttl(entry, after.clock.seconds()) in {199, 200}
    assert after.ranked.refreshed == []


def test_an_answer_with_all_its_sections(tmp_path: Path) -> None:
    """That of one upstream comes back octet by octet, in its order; so does a negative one."""
    run = begun(tmp_path)
    signed = asks(do=True)
    put(run, signed, sections_answer(signed, 30, 10, 20))
    missing = asks("missing.example")
    put(run, missing, no_such_name(60))
    run.pass_time(4, steps=40)
    before = run.cache.held(signed.key)
    after = restarted(run, tmp_path, down=5)
    for question in (signed, missing):
        was, kept = run.cache.held(question.key), after.cache.held(question.key)
        assert was is not None
        assert kept is not None
        room = question.end, 7, 1000
        assert kept.answer.sections(*room) == was.answer.sections(*room)
        assert (kept.answer.rcode, kept.answer.negative) == (was.answer.rcode, was.answer.negative)
    assert before is not None
    kept = after.cache.held(signed.key)
    assert shown(kept) == shown(before) == [10, 20, 30]
    assert kept is not None
    assert (
        kept.answer.reordered(kept.answer.addresses[::-1]).addresses == kept.answer.addresses[::-1]
    )


def test_chains(tmp_path: Path) -> None:
    """CNAMEs come back, and the targets of those that other upstreams gave."""
    run = begun(tmp_path)
    made = mixed(pool(10, cname_chain=["a.example", "b.example"]), (name("other.example"),))
    put(run, WWW, made)
    kept = restarted(run, tmp_path).cache.held(WWW.key)
    assert kept is not None
    assert kept.answer.chain_targets(WWW.key) == made.chain_targets(WWW.key)
    assert kept.answer.sections(WWW.end, 5, 500) == made.sections(WWW.end, 5, 500)


def test_ipv6(tmp_path: Path) -> None:
    """Addresses of sixteen octets come back as they were."""
    run = begun(tmp_path)
    question = asks(qtype=Type.AAAA)
    made = AddressPool((), (bytes(range(16)), bytes(range(1, 17))), 300, ad=True)
    put(run, question, made)
    kept = restarted(run, tmp_path).cache.held(question.key)
    assert kept is not None
    assert (kept.answer.addresses, kept.answer.ad) == (made.addresses, True)


def test_failures_are_not_kept(tmp_path: Path) -> None:
    """They say nothing about the time after a restart."""
    run = begun(tmp_path)
    run.cache.commit(WWW.key, 1, FailureAnswer(22, 600), run.clock.seconds())
    assert len(run.cache) == 1
    assert len(restarted(run, tmp_path, down=0).cache) == 0


def test_stale_and_dead(tmp_path: Path) -> None:
    """What has expired meanwhile is stale for ``max_stale``, with a refresh behind it; what is
    older has gone.
    """
    for down, ttl in ((299, 1), (301, 5), (360, 0)):
        directory = tmp_path / str(down)
        run = begun(directory, max_stale=50)
        put(run, WWW, pool(10, ttl=300))
        after = restarted(run, directory, down=down - 0.1, max_stale=50)
        now = after.clock.seconds()
        entry = after.cache.lookup(WWW.key, now)
        assert (after.cache.reply_ttl(entry, now) if entry else 0) == ttl, down
        assert bool(after.ranked.refreshed) == (down == 301)


def test_what_is_collected_meanwhile_wins(tmp_path: Path) -> None:
    """An answer that is there when the file is read stays, and a collection replaces what was
    read.
    """
    after = about_to_read(tmp_path)
    put(after, WWW, pool(20))
    after.start()
    assert shown(after.cache.held(WWW.key)) == [20]
    assert shown(after.cache.held(OTHER.key)) == [10]
    assert not after.cache.hold_back(WWW.key, 1, None, after.clock.seconds())  # type: ignore[arg-type]
    put(after, OTHER, pool(30))
    assert shown(after.cache.held(OTHER.key)) == [30]
    assert len(after.cache) == len(after.cache.names.of(OTHER.name)) + 1 == 2


@pytest.mark.parametrize("age", [0.0, 5.0])
def test_what_was_flushed_before_it_is_read(tmp_path: Path, age: float) -> None:
    """An answer does not come back that was older than the flush; one that was younger does."""
    after = about_to_read(tmp_path)
    flush = Flush(WWW.name, below=False)
    for _ in forget(after.cache, flush, after.clock.seconds() - age):
        pass
    after.start()
    assert (after.cache.held(WWW.key) is None) == (age == 0)
    assert shown(after.cache.held(OTHER.key)) == [10]


def test_a_collection_that_had_not_ended(tmp_path: Path) -> None:
    """What has come of it is kept, with a short TTL until all is asked for at the next use."""
    run = begun(tmp_path)
    run.cache.commit(WWW.key, 1, pool(10, 20, ttl=300), run.clock.seconds())
    after = restarted(run, tmp_path, down=10)
    now = after.clock.seconds()
    entry = after.cache.lookup(WWW.key, now)
    assert entry is not None
    assert not entry.complete
    assert after.cache.reply_ttl(entry, now) == 5
    assert [question.key for question in after.ranked.refreshed] == [WWW.key]


def test_scopes_go_by_content(tmp_path: Path) -> None:
    """Answers belong to whatever number their scope has now; without a scope they are dropped."""
    inside, gone = in_scope(WWW.key, 3), in_scope(WWW.key, 4)
    run = begun(tmp_path, digests={0: DIGEST, 3: b"inside", 4: b"gone"})
    put(run, WWW, pool(10))
    put(run, Question(inside), pool(20))
    put(run, Question(gone), pool(30))
    after = restarted(run, tmp_path, digests={0: b"another", 1: b"inside", 2: DIGEST})
    assert len(after.cache) == 2
    assert shown(after.cache.held(in_scope(WWW.key, 1))) == [20]
    assert shown(after.cache.held(in_scope(WWW.key, 2))) == [10]
    assert after.cache.held(WWW.key) is None


def test_limits_of_ttls_count(tmp_path: Path) -> None:
    """Those of the configuration now, not of the one before."""
    run = begun(tmp_path)
    put(run, WWW, pool(10, ttl=3000))
    after = restarted(run, tmp_path, down=0, max_ttl=100)
    entry = after.cache.held(WWW.key)
    assert entry is not None
    assert entry.answer.ttl == 100
    assert entry.due_age <= 100


@pytest.mark.parametrize("room", [6, 7])
def test_no_more_than_there_is_room_for(tmp_path: Path, room: int) -> None:
    """What is read makes nothing go; what is asked for later makes room among what was read."""
    run = begun(tmp_path)
    for number in range(7):
        put(run, asks(f"n{number}.example"), pool(10 + number))
    assert run.stop()
    after = SavedRun(tmp_path, run.world, max_entries=room)
    mine = asks("mine.example")
    put(after, mine, pool(99))
    after.start()
    assert len(after.cache) == room
    assert after.cache.held(mine.key) is not None
    used = next(key for key in after.cache.entries if key != mine.key)
    assert after.cache.lookup(used, after.clock.seconds()) is not None
    for number in range(room - 2):
        put(after, asks(f"new{number}.example"), pool(10))
    assert len(after.cache) == len(after.cache.entries) == room
    assert {mine.key, used} <= set(after.cache.entries)


def test_memory_is_a_limit_too(tmp_path: Path) -> None:
    """A smaller cache takes what fits, and nothing that takes more than its share."""
    run = begun(tmp_path)
    big = asks("big.example")
    for number in range(20):
        put(run, asks(f"n{number}.example"), pool(10))
    put(run, big, pool(*range(1, 120)))
    entry = run.cache.held(big.key)
    assert entry is not None
    after = restarted(run, tmp_path, max_size=entry.octets * 8)
    assert len(after.cache) == 20
    assert after.cache.octets == run.cache.octets - entry.octets
    small = restarted(after, tmp_path, max_size=after.cache.octets - 1)
    assert len(small.cache) == 19


def test_many_blocks_in_slices(tmp_path: Path) -> None:
    """Whatever changes between two slices, the rest is kept; and so it is when it is read."""
    total = 3 * BLOCK_ENTRIES + 5
    questions = [asks(f"n{number}.example") for number in range(total)]
    run = begun(tmp_path, slices=True)
    for question in questions:
        put(run, question, pool(10, ttl=300))
    over: list[None] = []
    run.state.stop().addCallback(over.append)
    turns = 0
    while not over:
        turns += 1
        run.clock.advance(0.001)
        run.cache.forget(questions[turns % 50].key)  # these come and go
        put(run, questions[50 + turns % 50], pool(20, ttl=300))
        put(run, asks(f"late{turns}.example"), pool(30, ttl=300))
    assert turns > 20
    after = SavedRun(tmp_path, run.world, slices=True)
    after.state.start()
    served = 0
    while after.numbers()["staggerdns_state_restored_totalanswers"] == 0:
        after.clock.advance(0.001)
        if after.cache.lookup(questions[-1].key, after.clock.seconds()) is not None:
            served += 1
        assert served < 1000
    kept = set(after.cache.entries)
    assert {question.key for question in questions[100:]} <= kept
    assert {question.key for question in questions[50:100]} <= kept
    for question in questions[50:]:
        assert shown(after.cache.held(question.key)) in ([10], [20])
    assert served > 1  # while others were still being read
    assert after.settled > 3
    after.stop()


def test_upstreams_that_are_not_known(tmp_path: Path) -> None:
    """Addresses of which nobody knows who brought them come back like that."""
    run = begun(tmp_path)
    put(run, WWW, pool(10))
    after = restarted(run, tmp_path)
    entry = after.cache.held(WWW.key)
    assert entry is not None
    assert brought(entry) == [[]]


def test_an_entry_is_moved_when_it_is_used(tmp_path: Path) -> None:
    """It is refreshed, replaced, and forgotten like any other."""
    run = begun(tmp_path)
    questions = [asks(f"n{number}.example") for number in range(TABLES)]
    for question in questions:
        put(run, question, pool(10))
    after = restarted(run, tmp_path)
    now = after.clock.seconds()
    for question in questions[::2]:
        assert after.cache.lookup(question.key, now) is not None
    assert len(after.cache) == len(list(after.cache.entries)) == TABLES
    assert after.cache.forget(questions[1].key)
    assert not after.cache.forget(questions[1].key)
    assert after.cache.lookup(questions[1].key, now) is None
    assert after.cache.entries[questions[3].key].generation == 0
    assert len(after.cache) == TABLES - 1
    again = restarted(after, tmp_path)
    assert len(again.cache) == TABLES - 1


def test_near_is_near() -> None:
    """The addresses of these tests are what they are shown as."""
    assert near(10) == "203.0.113.10"
    assert make_question(name("www.example"), A).key == WWW.key


def test_hints_in_order(tmp_path: Path) -> None:
    """They come back as they were, and can be put in another order."""
    run = begun(tmp_path)
    asked = ask(rdtype="HTTPS")
    answer = service_answer(asked, f"1 . ipv4hint={near(30)},{near(10)},{near(20)}")
    put(run, asked, answer.reordered(answer.addresses[::-1]))
    after = restarted(run, tmp_path)
    entry = after.cache.held(asked.key)
    assert entry is not None
    assert isinstance(entry.answer, SectionsAnswer)
    assert hinted(given(entry.answer)) == [[near(20), near(10), near(30)]]
    again = entry.answer.reordered(entry.answer.addresses[::-1])
    assert hinted(given(again)) == [[near(30), near(10), near(20)]]
    assert entry.rankable
