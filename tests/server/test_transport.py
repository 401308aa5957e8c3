"""What is sent at once on a client's connection, and what is left to the reactor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol
from twisted.internet.testing import MemoryReactorClock
from zope.interface import implementer

from staggerdns.server.transport import ClientTransport


@implementer(IPushProducer)
class Producer:
    """Notes whether it was paused."""

    def __init__(self) -> None:
        self.paused = False

    def pauseProducing(self) -> None:
        """The transport has enough."""
        self.paused = True

    def resumeProducing(self) -> None:
        """The transport has sent all."""
        self.paused = False

    def stopProducing(self) -> None:
        """The transport is gone."""


class Served(Protocol):
    """Does what a test says with what it is sent."""

    def __init__(self) -> None:
        self.does: Callable[[bytes], None] = lambda data: None

    def dataReceived(self, data: bytes) -> None:
        """Do it."""
        self.does(data)


class Pair:
    """A connection and its client, whose socket gives each piece that is sent on its own."""

    def __init__(self) -> None:
        self.client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.client.setblocking(False)
        self.reactor = MemoryReactorClock()
        self.protocol = Served()
        self.transport = ClientTransport(
            server, self.protocol, ("192.0.2.77", 4711), cast("Any", None), 0, self.reactor
        )
        self.protocol.makeConnection(cast("Any", self.transport))

    def gets(self) -> list[bytes]:
        """What the client has been sent, in pieces."""
        pieces = []
        try:
            while data := self.client.recv(65536):
                pieces.append(data)
        except BlockingIOError:
            pass
        return pieces

    def sends(self, data: bytes, does: Callable[[bytes], None]) -> None:
        """Have the server process ``data`` from the client."""
        self.protocol.does = does
        self.client.send(data)
        self.transport.doRead()

    def waits(self) -> bool:
        """Whether the reactor is to say when the socket takes more."""
        return self.transport in self.reactor.writers

    def fill(self) -> int:
        """Write until the socket takes no more; how often."""
        count = 0
        while not self.waits():
            self.transport.write(b"x" * 4096)
            count += 1
        return count


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A connection that ends with the test."""
    made = Pair()
    yield made
    made.client.close()
    if made.transport.connected:
        made.transport.socket.close()


def test_sent_at_once(pair: Pair) -> None:
    """What is written between two reads needs no reactor."""
    pair.transport.write(b"one")
    assert pair.gets() == [b"one"]
    pair.transport.write(b"")
    pair.transport.writeSequence([b"tw", b"o"])
    assert pair.gets() == [b"two"]
    assert not pair.waits()


def test_in_one_piece(pair: Pair) -> None:
    """What input leads to is sent when it has been processed."""
    sent_early = []

    def answer(data: bytes) -> None:
        for octet in data:
            pair.transport.write(bytes((octet,)) * 2)
        sent_early.extend(pair.gets())

    pair.sends(b"abc", answer)
    assert sent_early == []
    assert pair.gets() == [b"aabbcc"]
    assert not pair.waits()


@pytest.mark.parametrize(("size", "at_once"), [(50, 0), (51, 1)])
def test_as_much_as_is_held(pair: Pair, size: int, at_once: int) -> None:
    """More than the size of the buffer is sent before all is processed."""
    pair.transport.bufferSize = 100
    sent_early = []

    def answer(data: bytes) -> None:
        for _ in range(2):
            pair.transport.write(b"x" * size)
        sent_early.extend(pair.gets())

    pair.sends(b"?", answer)
    assert len(sent_early) == at_once
    assert sent_early + pair.gets() == [b"x" * 2 * size]


def test_a_client_that_does_not_read(pair: Pair) -> None:
    """What the socket does not take waits for the reactor, in its order, and pauses who writes."""
    producer = Producer()
    pair.transport.bufferSize = 6000
    pair.transport.registerProducer(producer, True)
    count = pair.fill()
    assert count > 1
    paused = [producer.paused]  # 4,096 octets wait
    pair.transport.write(b"y" * 4096)
    paused.append(producer.paused)
    assert paused == [False, True]
    got = pair.gets()
    assert len(got) == count - 1
    pair.transport.doWrite()
    assert pair.gets() == [b"x" * 4096 + b"y" * 4096]
    assert not producer.paused
    assert not pair.waits()
    pair.transport.write(b"z")
    assert pair.gets() == [b"z"]


def test_a_part(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the socket takes in part the rest follows."""
    monkeypatch.setattr(pair.transport, "SEND_LIMIT", 4)
    pair.transport.write(b"abcdef")
    assert pair.gets() == [b"abcd"]
    assert pair.waits()
    pair.transport.doWrite()
    assert pair.gets() == [b"ef"]
    assert not pair.waits()


def test_closed_while_input_is_processed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before the end is sent, in its order."""
    monkeypatch.setattr(pair.transport, "SEND_LIMIT", 4)

    def answer(data: bytes) -> None:
        pair.transport.write(data)
        pair.transport.loseConnection()
        pair.transport.write(b"!")

    pair.sends(b"at last", answer)
    assert pair.gets() == [b"at l"]
    assert pair.transport.doWrite() is not None
    assert pair.gets() == [b"ast!"]


def test_aborted_while_input_is_processed(pair: Pair) -> None:
    """Nothing more is sent on a connection that is aborted."""

    def answer(data: bytes) -> None:
        pair.transport.write(data)
        pair.transport.abortConnection()
        pair.transport.write(b"more")

    pair.sends(b"never", answer)
    pair.reactor.advance(0)
    assert pair.gets() == []


def test_a_client_that_has_gone(pair: Pair) -> None:
    """The reactor finds out, and not whoever writes."""
    pair.client.close()
    pair.transport.write(b"to nobody")
    assert pair.waits()
    assert isinstance(pair.transport.doWrite(), Exception)
