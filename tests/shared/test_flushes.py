"""What one server flushes is forgotten by all."""

from __future__ import annotations

import pytest

from staggerdns.ranking.rtt import RttTable
from staggerdns.settings.sections import RankingSettings
from staggerdns.settings.upstreams import ParallelSettings
from staggerdns.shared.flushes import (
    EVERYTHING,
    MAX_ENTRY,
    MAX_EPOCH,
    MAX_FLUSHES,
    TELLING,
    Flush,
    Flushes,
    ForeignFlush,
    NumberedFlush,
    Polled,
    parse_flush,
)
from staggerdns.shared.poll import INTERVAL
from staggerdns.wire.constants import MAX_NAME
from tests.kit.acts import name, says
from tests.kit.sharedstore import MemoryStore, SharingResolver

WWW, ALL = Flush(name("www.example"), below=False), Flush(name("example"), below=True)


class Node:
    """What one server knows of flushes, and what it was to forget: with ages in seconds."""

    def __init__(self, known: int = 0) -> None:
        self.done: list[tuple[Flush, float]] = []
        self.flushes = Flushes(lambda flush, age: self.done.append((flush, round(age, 3))))
        self.flushes.epoch = known

    def hear(
        self, epoch: int, *flushes: NumberedFlush, time: int = 10_000, now: float = 100.0
    ) -> None:
        """Hear of an epoch and of flushes."""
        self.flushes.heard(Polled(epoch, time, flushes[::-1]), now)


def numbered(epoch: int, flush: Flush | None = WWW, *, before: int | None = None) -> NumberedFlush:
    """A flush that the store has, a second old."""
    return NumberedFlush(epoch, epoch - 1 if before is None else before, 9_000, flush)


def begun(epoch: int) -> NumberedFlush:
    """What a store has that begins with an epoch."""
    return numbered(epoch, None, before=0)


def given_back(epoch: int) -> NumberedFlush:
    """What a store has that got its epoch from a server."""
    return numbered(epoch, None, before=epoch)


def test_what_a_flush_covers() -> None:
    """A name alone, or all below it."""
    assert WWW.covers(name("www.example"))
    assert not WWW.covers(name("a.www.example"))
    assert ALL.covers(name("example"))
    assert ALL.covers(name("www.example"))
    assert not ALL.covers(name("www.xexample"))
    assert EVERYTHING.covers(name("www.example"))


@pytest.mark.parametrize("flush", [WWW, ALL, EVERYTHING, Flush(b"\3a b\0", below=True)])
def test_there_and_back(flush: Flush) -> None:
    """A flush is what the store has of it."""
    assert parse_flush(b"12 11 34 " + flush.octets) == (12, 11, 34, flush)
    longest = str(MAX_EPOCH).encode()
    entry = b" ".join([longest, longest, longest, b"=" + bytes(MAX_NAME)])
    assert len(entry) == MAX_ENTRY
    assert parse_flush(entry).epoch == MAX_EPOCH


def test_the_beginning() -> None:
    """A store has where it began in the place of a flush."""
    assert parse_flush(b"12 0 34 !") == (12, 0, 34, None)


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", b"1 1 2", b"1 1 2 ", b"1 1 2 =", b"1 1 2 ?\0", b"1 1 2 !\0", b"1 2 =\0"),
        *(b"x 1 2 =\0", b"1 x 2 =\0", b"1 1 x =\0", b"-1 1 2 =\0"),
        b"1 1 2 =" + bytes(256),
        *(b"9" * 17 + b" 1 2 =\0", b"1 1 " + b"9" * 17 + b" =\0"),
    ],
)
def test_foreign_entries(octets: bytes) -> None:
    """What is no flush is no flush."""
    with pytest.raises(ForeignFlush):
        parse_flush(octets)


def test_what_is_new_is_done_once() -> None:
    """Whenever it was stored: until the flush was heard of, it may have come from the store."""
    node = Node()
    node.hear(5, begun(5))
    assert node.done == []
    node.hear(7, begun(5), numbered(6), numbered(7, ALL))
    assert node.done == [(WWW, 0.0), (ALL, 0.0)]
    node.hear(7)
    node.hear(8, begun(5), numbered(6), numbered(7, ALL), numbered(8))
    assert node.done[2:] == [(WWW, 0.0)]


def test_after_a_start() -> None:
    """All that there is counts, with its age: what was kept over a restart may be newer."""
    node = Node()
    node.hear(7, begun(5), numbered(6), numbered(7, ALL), time=11_000)
    assert node.done == [(WWW, 2.0), (ALL, 2.0)]


@pytest.mark.parametrize("known", [0, 1, 2, 3])
def test_more_than_there_are(known: int) -> None:
    """Whoever has missed some forgets all that it had; who has just started, what it has kept from
    before the first that is known.
    """
    node = Node(known)
    every = [numbered(number) for number in range(3, 3 + MAX_FLUSHES)]
    node.hear(every[-1].epoch, *every)
    age = 0.0 if known else 1.0
    assert node.done[: known < 2] == [(EVERYTHING, age)] * (known < 2)
    assert node.done[known < 2 :] == [(WWW, age)] * (MAX_FLUSHES - (known == 3))
    assert node.flushes.covers(name("other.example"), 1)
    assert not node.flushes.covers(name("other.example"), 2)


def test_epochs_of_pools() -> None:
    """A pool counts unless its name was flushed after its collection had begun."""
    node = Node()
    node.hear(7, begun(5), numbered(6), numbered(7, ALL))
    for epoch, names in ((5, "www.example"), (6, "www.example"), (6, "b.example")):
        assert node.flushes.covers(name(names), epoch)
    for epoch, names in ((7, "www.example"), (5, "www.test")):
        assert not node.flushes.covers(name(names), epoch)
    for epoch in (4, 0, 8):  # before all that is known, and after it
        assert node.flushes.covers(name("www.test"), epoch)


@pytest.mark.parametrize(
    ("listed", "is_missed", "since"),
    [
        ([numbered(8), numbered(9)], False, 7),
        ([numbered(6), numbered(7), numbered(8), numbered(9)], False, 5),
        ([begun(8), numbered(9)], False, 8),  # another store
        ([begun(9)], False, 9),
        ([], True, 9),  # the store has lost them
        ([given_back(9)], True, 9),
        ([given_back(8), numbered(9)], True, 8),
        ([numbered(8)], True, 9),
        ([numbered(9)], True, 8),
        ([numbered(6), numbered(7), numbered(9)], True, 8),
        ([given_back(7), numbered(9, before=7)], False, 7),
    ],
)
@pytest.mark.parametrize("known", [7, 0])
def test_flushes_that_are_lost(
    listed: list[NumberedFlush], known: int, since: int, *, is_missed: bool
) -> None:
    """Whoever cannot know what was flushed since forgets all that it has, one that has just started
    what it has kept from before then; a pool that was there before then does not count.
    """
    node = Node(known)
    node.hear(9, *listed)
    chain = [one for one in listed if one.epoch > since]
    age = 1.0 if chain or listed[-1:] == [given_back(9)] else 0.0
    is_whole = is_missed if known else not any(one.before == 0 for one in listed)
    everything = [(EVERYTHING, 0.0 if known else age)] if is_whole else []
    news = [one for one in chain if one.epoch > known and one.flush is not None]
    assert node.done == everything + [(WWW, 0.0 if known else 1.0) for _ in news]
    assert not node.flushes.covers(name("other.example"), since)
    assert node.flushes.covers(name("other.example"), since - 1)


def test_a_flush_that_the_store_has_lost() -> None:
    """A store that is older than it was hears of it once more from whoever knows it."""
    node = Node()
    node.hear(7, begun(5), numbered(6), numbered(7, ALL))
    node.hear(7, now=1_000.0)
    node.hear(20, begun(5), numbered(6), numbered(20, before=6), now=1_001.0)
    assert [*node.flushes.pending] == [ALL]


@pytest.mark.parametrize("later", [TELLING, TELLING + 0.1])
def test_a_flush_that_not_all_have_heard_of(later: float) -> None:
    """A store that begins anew hears of what it was told just before."""
    node = Node()
    node.hear(6, begun(5), numbered(6))
    node.hear(6, now=100.0 + later)
    node.hear(30, begun(30), now=1_000.0)
    assert [*node.flushes.pending] == [WWW] * (later <= TELLING)


def test_many_flushes_are_not_told_again() -> None:
    """Where the store has as many as it keeps, whoever has missed some knows it."""
    node = Node()
    every = [numbered(number) for number in range(3, 5 + MAX_FLUSHES)]
    node.hear(every[-3].epoch, *every[:-2])
    node.hear(every[-1].epoch, *every[2:])
    assert not node.flushes.pending


def test_what_waits_is_bounded() -> None:
    """One more, and everything is flushed."""
    node = Node()
    for _ in range(MAX_FLUSHES):
        node.flushes.add(WWW)
    assert len(node.flushes.pending) == MAX_FLUSHES
    node.flushes.add(WWW)
    assert [*node.flushes.pending] == [EVERYTHING]
    node.flushes.told([*node.flushes.pending, WWW])
    assert not node.flushes.pending


@pytest.mark.parametrize("under_way", [1, 50, MAX_FLUSHES])
def test_too_many_while_some_are_told(under_way: int) -> None:
    """What the store has heard of is not what has come since."""
    node = Node()
    for number in range(3 * MAX_FLUSHES + 1):
        if number == under_way:
            sent = [*node.flushes.pending]
        node.flushes.add(Flush(*WWW))
    node.flushes.told(sent)
    assert EVERYTHING in node.flushes.pending
    sent = [*node.flushes.pending]
    for _ in range(MAX_FLUSHES):
        node.flushes.add(Flush(*WWW))
    node.flushes.told(sent)
    assert EVERYTHING in node.flushes.pending


def sharing(store: MemoryStore | None = None) -> SharingResolver:
    """A resolver that polls the store."""
    resolver = SharingResolver(says(2, "203.0.113.1"), store=store)
    resolver.poll.start()
    return resolver


def wait(resolver: SharingResolver, seconds: float) -> None:
    """Let time pass."""
    resolver.run_to(resolver.now + 1000 * seconds)


def two_that_know() -> tuple[SharingResolver, SharingResolver]:
    """Two that share a store and have asked for the same name."""
    first = sharing()
    second = sharing(first.store)
    wait(first, 0.1)
    for resolver in (first, second):
        resolver.ask()
        wait(first, 0.1)
    return first, second


def test_two_servers() -> None:
    """Both forget, the second with its next poll; the store's pool does not count any more."""
    first, second = two_that_know()
    assert second.reads == {"whole": 1}
    first.flush(ALL)
    assert first.pool() == []
    wait(first, 0.01)
    first.ask()
    wait(first, INTERVAL)
    assert first.reads == {"miss": 2}
    assert second.pool() == []
    second.ask()
    wait(first, 0.1)
    assert second.reads == {"whole": 2}
    assert len(first.launches) == 2
    for resolver in (first, second):
        resolver.poll.stop()


def test_what_is_read_before_the_flush_is_heard_of() -> None:
    """A pool that comes from the store between a flush and the next poll is forgotten with it."""
    first = sharing()
    second = sharing(first.store)
    wait(first, 0.1)
    first.ask()
    wait(first, 0.1)
    first.flush(WWW)
    wait(first, 0.01)
    second.ask()
    wait(first, 0.01)
    assert second.reads == {"whole": 1}
    assert second.pool() != []
    wait(first, INTERVAL)
    assert second.pool() == []
    for resolver in (first, second):
        resolver.poll.stop()


def test_a_flush_while_round_trips_are_read() -> None:
    """A pool that has come already, and of which nothing was told yet, does not count any more."""
    first = sharing()
    second = SharingResolver(says(2, "203.0.113.1", "203.0.113.2"), store=first.store)
    second.table = RttTable(RankingSettings())
    second.poll.start()
    wait(first, 0.1)
    second.ask()
    wait(first, 0.1)
    third = SharingResolver(says(2, "203.0.113.1"), store=first.store)
    third.table = RttTable(RankingSettings())
    third.poll.start()
    wait(first, 0.1)
    third.ask()
    wait(first, 0.0015)  # the pool is there, its round trips are under way
    third.flushes.heard(third.store.flushed(third.flushes.epoch, WWW), third.clock.seconds())
    wait(first, 0.1)
    assert third.reads == {"miss": 1}
    assert len(third.launches) == 1
    for resolver in (first, second, third):
        resolver.poll.stop()


@pytest.mark.parametrize("is_flushed", [False, True])
def test_a_part_that_is_flushed_meanwhile(*, is_flushed: bool) -> None:
    """Addresses of the store that had joined a pool go with the flush, when the collection ends."""
    first = sharing()
    wait(first, 0.1)
    first.ask()
    quick = ParallelSettings(stagger_delay=0.001, total_collect_timeout=0.5)
    acts = (says(50, "203.0.113.1"), says(60, "203.0.113.2"))
    second = SharingResolver(*acts, store=first.store, parallel=quick)
    second.poll.start()
    wait(first, 0.1)
    second.ask()
    wait(first, 0.01)
    assert second.reads == {"partial": 1}
    if is_flushed:
        polled = first.store.flushed(second.flushes.epoch, WWW)
        second.flushes.heard(polled, second.clock.seconds())
        assert second.pool() == []
    wait(first, 0.5)
    assert (second.pool() == []) == is_flushed
    for resolver in (first, second):
        resolver.poll.stop()


def test_a_flush_without_a_store() -> None:
    """Others learn of it when there is one again; until then it counts here."""
    first, second = two_that_know()
    first.store.broken = "down"
    first.flush(WWW)
    wait(first, 5)
    assert [*first.flushes.pending] == [WWW]
    assert second.pool() != []
    first.store.broken = ""
    wait(first, 2 * INTERVAL + 0.1)
    assert not first.flushes.pending
    assert second.pool() == []
    for resolver in (first, second):
        resolver.poll.stop()


def test_a_collection_across_a_flush() -> None:
    """What was asked for before is not written after it."""
    resolver = sharing()
    wait(resolver, 0.1)
    resolver.script(says(50, "203.0.113.1"))
    resolver.ask()
    wait(resolver, 0.02)
    resolver.flush(WWW)
    wait(resolver, 0.2)
    assert resolver.writes == {"left_out": 1}
    resolver.poll.stop()


def test_an_empty_store_gets_the_epoch_back() -> None:
    """From whoever knows it; a flush goes on from there."""
    first = sharing()
    second = sharing(first.store)
    wait(first, 0.1)
    first.flush(WWW)
    wait(first, 2)
    epoch = first.flushes.epoch
    first.store.clear()
    wait(first, 2)
    assert {first.flushes.epoch, second.flushes.epoch, first.store.epoch} == {epoch}
    second.flush(WWW)
    wait(first, 2)
    assert first.flushes.epoch == second.flushes.epoch > epoch
    epoch = first.flushes.epoch
    first.store.epoch = epoch - 1
    first.store.flushes.clear()
    wait(first, 2)
    assert {first.flushes.epoch, second.flushes.epoch, first.store.epoch} == {epoch}
    for resolver in (first, second):
        resolver.poll.stop()
