"""What one server flushes is forgotten by all."""

from __future__ import annotations

import pytest

from staggerdns.shared.flushes import (
    EVERYTHING,
    MAX_FLUSHES,
    Flush,
    Flushes,
    ForeignFlush,
    Polled,
    parse_flush,
)
from staggerdns.shared.poll import INTERVAL
from tests.kit.acts import name, says
from tests.kit.sharedstore import MemoryStore, SharingResolver

WWW, ALL = Flush(name("www.example"), below=False), Flush(name("example"), below=True)


class Node:
    """What one server knows of flushes, and what it was to forget: with ages in seconds."""

    def __init__(self) -> None:
        self.done: list[tuple[Flush, float]] = []
        self.flushes = Flushes(lambda flush, age: self.done.append((flush, round(age, 3))))

    def hear(self, epoch: int, *flushes: tuple[int, int, Flush], time: int = 10_000) -> None:
        """Hear of an epoch and of flushes."""
        self.flushes.heard(Polled(epoch, time, flushes[::-1]))


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
    assert parse_flush(b"12 34 " + flush.octets) == (12, 34, flush)


@pytest.mark.parametrize(
    "octets",
    [
        *(b"", b"1 2", b"1 2 ", b"1 2 =", b"1 2 ?\0"),
        *(b"x 2 =\0", b"1 x =\0", b"-1 2 =\0"),
        b"1 2 =" + bytes(256),
        *(b"9" * 17 + b" 2 =\0", b"1 " + b"9" * 17 + b" =\0"),
    ],
)
def test_foreign_entries(octets: bytes) -> None:
    """What is no flush is no flush."""
    with pytest.raises(ForeignFlush):
        parse_flush(octets)


def test_what_is_new_is_done_once() -> None:
    """With the time that has passed since, by the store's clock."""
    node = Node()
    node.hear(5)
    assert node.done == []
    node.hear(7, (6, 9_000, WWW), (7, 9_500, ALL))
    assert node.done == [(WWW, 1.0), (ALL, 0.5)]
    node.hear(7)
    node.hear(8, (6, 9_000, WWW), (7, 9_500, ALL), (8, 9_900, WWW))
    assert node.done[2:] == [(WWW, 0.1)]


def test_after_a_start() -> None:
    """All that there is counts, with its age: what was kept over a restart may be older."""
    node = Node()
    node.hear(7, (6, 9_000, WWW), (7, 9_500, ALL))
    assert node.done == [(WWW, 1.0), (ALL, 0.5)]


@pytest.mark.parametrize("known", [1, 2, 3])
def test_more_than_there_are(known: int) -> None:
    """Whoever has missed some forgets all that it had before the first that is known."""
    node = Node()
    node.hear(known)
    every = [(number, 1_000 + number, WWW) for number in range(3, 3 + MAX_FLUSHES)]
    node.hear(every[-1][0], *every)
    missed = known < 2
    assert ((EVERYTHING, 8.997) in node.done) == missed
    assert len(node.done) == MAX_FLUSHES + missed - (known == 3)
    assert node.flushes.covers(name("other.example"), 1)
    assert not node.flushes.covers(name("other.example"), 2)


def test_epochs_of_pools() -> None:
    """A pool counts unless its name was flushed after its collection had begun."""
    node = Node()
    node.hear(7, (6, 9_000, WWW), (7, 9_500, ALL))
    for epoch, names in ((5, "www.example"), (6, "www.example"), (6, "b.example")):
        assert node.flushes.covers(name(names), epoch)
    for epoch, names in ((7, "www.example"), (5, "www.test")):
        assert not node.flushes.covers(name(names), epoch)


def test_epochs_that_nobody_can_have_seen() -> None:
    """What claims to be newer than any flush would outlive all of them: it does not count."""
    node = Node()
    node.hear(7)
    assert not node.flushes.covers(name("www.example"), 7 + MAX_FLUSHES)
    assert node.flushes.covers(name("www.example"), 8 + MAX_FLUSHES)
    node.hear(8, (8, 9_000, WWW), (9, 9_000, EVERYTHING))
    assert node.done == [(WWW, 1.0)]
    assert not node.flushes.covers(name("b.example"), 7)


@pytest.mark.parametrize(
    ("numbers", "age", "forgotten"),
    [
        ((8, 9), None, 7),
        ((6, 7, 8, 9), None, 5),
        ((), 0, 9),  # the store has lost them, and has the epoch from another server
        ((8,), 0, 9),
        ((9,), 1, 8),
        ((6, 7, 9), 1, 8),
    ],
)
def test_flushes_that_are_lost(numbers: tuple[int, ...], age: float | None, forgotten: int) -> None:
    """Whoever cannot know what was flushed since forgets all that it had before the next one, and
    a pool that was there before then does not count.
    """
    node = Node()
    node.hear(7, (7, 9_500, WWW))
    node.done.clear()
    node.hear(9, *((number, 9_000, WWW) for number in numbers))
    everything = [] if age is None else [(EVERYTHING, age)]
    assert node.done == everything + [(WWW, 1.0)] * sum(number > 7 for number in numbers)
    assert not node.flushes.covers(name("other.example"), forgotten)
    assert node.flushes.covers(name("other.example"), forgotten - 1)


def test_a_store_without_flushes() -> None:
    """Where none is known, whoever starts forgets nothing that it has kept."""
    node = Node()
    node.hear(7)
    assert node.done == []
    assert not node.flushes.covers(name("www.example"), 7)


def test_what_waits_is_bounded() -> None:
    """One more, and everything is flushed."""
    node = Node()
    for _ in range(MAX_FLUSHES):
        node.flushes.add(WWW)
    assert len(node.flushes.pending) == MAX_FLUSHES
    node.flushes.add(WWW)
    assert [*node.flushes.pending] == [EVERYTHING]
    node.flushes.told(2)
    assert not node.flushes.pending


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
    assert first.flushes.epoch == epoch + 1
    first.store.epoch = epoch - 1
    first.store.flushes.clear()
    wait(first, 2)
    assert {first.flushes.epoch, second.flushes.epoch, first.store.epoch} == {epoch + 1}
    for resolver in (first, second):
        resolver.poll.stop()
