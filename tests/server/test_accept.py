"""A TCP listener that cannot accept: counted, said once in a while, and never in a loop."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from staggerdns.server.ports import ACCEPT_PAUSE, MAX_ACCEPTS, WARN_EVERY, StreamPort
from tests.kit.factory import MemoryServer

LASTING = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM]


class Listener(socket.socket):
    """A listening socket whose ``accept`` fails as often as ``due`` says."""

    due: list[int]

    def accept(self) -> tuple[socket.socket, Any]:
        """Fail, or find nobody."""
        number = self.due.pop(0) if self.due else errno.EAGAIN
        raise OSError(number, os.strerror(number))


class FailingPort:
    """A listener and what it has to do with."""

    def __init__(self) -> None:
        self.server = MemoryServer()
        self.reactor = cast("Any", MemoryReactorClock())
        self.server.factory.clock = self.reactor
        self.port = StreamPort(0, self.server.factory, "127.0.0.1", self.reactor)
        self.port.startListening()
        real = self.port.socket
        self.socket = Listener(fileno=os.dup(real.fileno()))
        self.port.socket = self.socket
        real.close()

    def fails(self, *numbers: int) -> list[str]:
        """Let this many be accepted in vain; what is logged."""
        self.socket.due = list(numbers)
        with capturedLogs() as events:
            for _ in numbers:
                self.port.doRead()
        return [formatEvent(event) for event in events]

    def reading(self) -> bool:
        """Whether the listener looks for connections."""
        return self.port in self.reactor.readers

    @property
    def refused(self) -> int:
        """The connections that were counted."""
        return self.server.metrics.tcp_refused.cell().value


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingPort]:
    """A listener without Twisted's spare descriptor."""
    from twisted.internet import tcp  # noqa: PLC0415

    class Spent:
        def reserve(self) -> None:
            pass

        def available(self) -> bool:
            return False

    monkeypatch.setattr(tcp, "_reservedFD", Spent())
    made = FailingPort()
    assert made.reading()
    yield made
    if made.port.connected:
        made.port.connectionLost(Failure(ConnectionDone()))
    assert not made.reactor.getDelayedCalls()
    made.socket.close()


@pytest.mark.parametrize("number", LASTING)
def test_what_lasts(failing: FailingPort, number: int) -> None:
    """What is lacking will still be lacking in a moment: the listener rests, and goes on."""
    logged = failing.fails(number)
    assert logged == [f"TCP connections cannot be accepted: {errno.errorcode[number]}"]
    assert not failing.reading()
    failing.reactor.advance(ACCEPT_PAUSE - 0.01)
    assert not failing.reading()
    failing.reactor.advance(0.01)
    assert failing.reading()
    assert failing.refused == 1


def test_what_passes(failing: FailingPort) -> None:
    """A connection that the client has given up again is no reason to rest."""
    failing.fails(errno.ECONNABORTED)
    assert failing.reading()
    assert failing.refused == 1
    assert not failing.fails(errno.EAGAIN, errno.EPERM)
    assert failing.refused == 1


def test_said_now_and_then(failing: FailingPort) -> None:
    """The log has one line in `WARN_EVERY` seconds, however many connections come."""
    lines = failing.fails(*[errno.ECONNABORTED] * 50)
    failing.reactor.advance(WARN_EVERY - 0.01)
    lines += failing.fails(*[errno.ECONNABORTED] * 50)
    assert len(lines) == 1
    failing.reactor.advance(0.01)
    assert len(failing.fails(*[errno.ECONNABORTED] * 50)) == 1
    assert failing.refused == 150


def test_the_end_of_a_rest(failing: FailingPort) -> None:
    """A listener that is closed while it rests does not wake up."""
    failing.fails(errno.ENFILE)
    assert failing.reactor.getDelayedCalls()
    failing.port.connectionLost(Failure(ConnectionDone()))
    assert not failing.reactor.getDelayedCalls()


def test_few_at_once() -> None:
    """However many come, few are accepted in one turn of the reactor: what makes room for them is
    closed behind it, and until then both have their descriptors.
    """
    server = MemoryServer()
    reactor = cast("Any", MemoryReactorClock())
    port = StreamPort(0, server.factory, "127.0.0.1", reactor)
    port.startListening()
    address = port.socket.getsockname()
    clients = [socket.create_connection(address, 5) for _ in range(2 * MAX_ACCEPTS)]
    open_then = []
    for _ in range(2):
        port.doRead()
        open_then.append(len(server.factory.client_connections.open))
    assert open_then == [MAX_ACCEPTS, 2 * MAX_ACCEPTS]
    for connection in list(server.factory.client_connections.open):
        connection.tcp_transport.connectionLost(Failure(ConnectionDone()))
    for client in clients:
        client.close()
    port.connectionLost(Failure(ConnectionDone()))
