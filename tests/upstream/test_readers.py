"""Many sockets behind one descriptor of the reactor."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor as _reactor

from staggerdns.journal import Journal
from staggerdns.upstream.readers import BATCH, Reader, Readers
from tests.conftest import CriticalEvents
from tests.kit.loopback import until

reactor: Any = _reactor


class Pair(Reader):
    """One end that is watched and reads a byte a time, and the other one."""

    def __init__(self, readers: Readers) -> None:
        self.readers = readers
        self.watched, self.other = socket.socketpair()
        self.seen = b""
        self.also: Any = None  # done before the reading
        readers.add(self)

    def fileno(self) -> int:
        """Return the descriptor of the end that is watched."""
        return self.watched.fileno()

    def read(self) -> None:
        """Read a byte."""
        if self.also is not None:
            self.also()
        self.seen += self.watched.recv(1)

    def close(self) -> None:
        """Leave, unless that has happened, and close both ends."""
        if self.watched.fileno() >= 0:
            self.readers.remove(self)
        self.watched.close()
        self.other.close()


class Set:
    """`Readers` on the real reactor, and pairs to watch."""

    def __init__(self) -> None:
        self.readers = Readers(reactor, Journal())
        self.pairs: list[Pair] = []

    def pair(self) -> Pair:
        """Watch one more."""
        self.pairs.append(Pair(self.readers))
        return self.pairs[-1]


@pytest.fixture
def some() -> Iterator[Set]:
    """A set that leaves nothing behind."""
    made = Set()
    yield made
    for pair in made.pairs:
        pair.close()
    assert len(made.readers) == 0
    assert made.readers not in reactor.getReaders()
    made.readers.close()


@pytest_twisted.ensureDeferred
async def test_each_gets_its_own(some: Set) -> None:
    """What comes is read by whom it is for, until there is no more; more at once than a batch."""
    pairs = [some.pair() for _ in range(BATCH + 1)]
    for index, pair in enumerate(pairs):
        pair.other.send(bytes([index, 255]))
    await until(lambda: all(len(pair.seen) == 2 for pair in pairs))
    assert [pair.seen for pair in pairs] == [bytes([index, 255]) for index in range(BATCH + 1)]


def test_the_reactor_sees_one_or_none(some: Set) -> None:
    """The reactor watches the set while there is anything in it."""
    assert some.readers not in reactor.getReaders()
    first, second = some.pair(), some.pair()
    assert some.readers in reactor.getReaders()
    first.close()
    assert some.readers in reactor.getReaders()
    second.close()
    assert some.readers not in reactor.getReaders()


def test_one_closes_another(some: Set) -> None:
    """A socket closed by the one before it in the batch is not read, also if its number is back."""
    first, second = some.pair(), some.pair()
    first.other.send(b"1")
    second.other.send(b"2")
    first.also = second.close
    second.also = first.close
    some.readers.doRead()
    assert sorted([first.seen, second.seen]) in ([b"", b"1"], [b"", b"2"], [b"", b""])
    assert (first.watched.fileno() < 0) != (second.watched.fileno() < 0)


def test_a_defect_costs_nobody_else(some: Set, critical_events: CriticalEvents) -> None:
    """An exception is logged, and the others are read."""
    bad, good = some.pair(), some.pair()

    def fail() -> None:
        raise RuntimeError("a defect")

    bad.also = fail
    for pair in (bad, good):
        pair.other.send(b"x")
    some.readers.doRead()
    assert good.seen == b"x"
    assert [event["log_failure"].type for event in critical_events.flush()] == [RuntimeError]
