"""Probing by TCP connections: real ones on loopback, and the timing on a clock."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
import pytest_twisted
from twisted.internet import error
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from staggerdns.ranking.connect import Connector
from tests.kit.loopback import DEADLINE, no_connections, pause, reactor, until
from tests.kit.ports import free_endpoint
from tests.kit.probing import established

FOUR = socket.inet_pton(socket.AF_INET, "127.0.0.1")
SIX = socket.inet_pton(socket.AF_INET6, "::1")


@pytest.fixture(params=["127.0.0.1", "::1"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """A port that is open."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.bind((request.param, 0))
        listening.listen(16)
        listening.settimeout(DEADLINE)
        yield listening


def connector(port: int) -> Connector:
    """A connector on the real reactor."""
    return Connector(port, reactor, reactor, DEADLINE)


async def over() -> None:
    """Wait until every connection of ours is closed, which is a turn after its answer."""
    await pause(0)
    await no_connections()
    await until(lambda: not reactor.getDelayedCalls())


@pytest_twisted.ensureDeferred
async def test_open_port(listener: socket.socket) -> None:
    """An open port answers; the connection is reset at once, so that no state stays behind."""
    host, port = listener.getsockname()[:2]
    packed = socket.inet_pton(listener.family, host)
    seconds = await connector(port).ping(packed)
    assert 0 <= seconds < DEADLINE
    await over()
    accepted, _ = listener.accept()
    with accepted:
        accepted.settimeout(DEADLINE)
        with pytest.raises(ConnectionResetError):
            accepted.recv(1)


@pytest.mark.parametrize(("host", "packed"), [("127.0.0.1", FOUR), ("::1", SIX)])
@pytest_twisted.ensureDeferred
async def test_refused_port(host: str, packed: bytes) -> None:
    """A port that refuses is an answer: the host is there, and this far away."""
    seconds = await connector(free_endpoint(host).port).ping(packed)
    assert 0 <= seconds < DEADLINE
    await over()


@pytest_twisted.ensureDeferred
async def test_many_at_once(listener: socket.socket) -> None:
    """Connections under way at the same time do not meet."""
    host, port = listener.getsockname()[:2]
    packed = socket.inet_pton(listener.family, host)
    made = connector(port)
    assert len(await gatherResults([made.ping(packed) for _ in range(10)])) == 10
    await over()


@pytest_twisted.ensureDeferred
async def test_cancel_at_once(listener: socket.socket) -> None:
    """A probe that is given up leaves no connection and no timer."""
    host, port = listener.getsockname()[:2]
    failures: list[Failure] = []
    probe = connector(port).ping(socket.inet_pton(listener.family, host))
    if not probe.called:
        probe.addErrback(failures.append)
        probe.cancel()
        assert len(failures) == 1
    await over()


class Attempt:
    """A probe on a reactor in memory."""

    def __init__(self, port: int = 443, timeout: float = 1.0) -> None:
        self.reactor = MemoryReactorClock()
        self.answers: list[float] = []
        self.failures: list[Failure] = []
        made = Connector(port, self.reactor, self.reactor, timeout)
        self.done: Deferred[float] = made.ping(FOUR)
        self.done.addCallbacks(self.answers.append, self.failures.append)
        self.host, self.port, self.factory, self.timeout, _ = self.reactor.tcpClients[0]
        self.connector = self.reactor.connectors[0]


def test_where_to() -> None:
    """The address, the port and the timeout are those that were asked for."""
    attempt = Attempt(8443, 0.7)
    assert (attempt.host, attempt.port, attempt.timeout) == ("127.0.0.1", 8443, 0.7)


def test_time_to_connect() -> None:
    """The time is the one from the start to the connection."""
    attempt = Attempt()
    attempt.reactor.advance(0.040)
    established(attempt.factory)
    assert attempt.answers == [pytest.approx(0.040)]


@pytest.mark.parametrize(
    ("microseconds", "expected"), [(25_000, 0.025), (60_000, 0.040), (0, 0.040), (None, 0.040)]
)
def test_time_of_the_handshake(microseconds: int | None, expected: float) -> None:
    """The kernel's round trip of the handshake counts, unless it says nothing, or nonsense."""
    attempt = Attempt()
    attempt.reactor.advance(0.040)
    established(attempt.factory, microseconds)
    assert attempt.answers == [pytest.approx(expected)]


def test_time_to_refusal() -> None:
    """A refusal is as good as a connection."""
    attempt = Attempt()
    attempt.reactor.advance(0.030)
    attempt.factory.clientConnectionFailed(
        attempt.connector, Failure(error.ConnectionRefusedError())
    )
    assert attempt.answers == [pytest.approx(0.030)]


@pytest.mark.parametrize(
    "problem",
    [
        error.TimeoutError(),
        error.TCPTimedOutError(),
        error.NoRouteError(),
        error.ConnectError(),
        error.ConnectBindError(),
    ],
)
def test_what_is_no_answer(problem: Exception) -> None:
    """A timeout, no route and whatever else is wrong says nothing about the host."""
    attempt = Attempt()
    attempt.factory.clientConnectionFailed(attempt.connector, Failure(problem))
    assert attempt.answers == []
    assert [failure.value for failure in attempt.failures] == [problem]


def test_cancel_disconnects() -> None:
    """Giving up ends the attempt; what comes after that goes nowhere."""
    attempt = Attempt()
    attempt.done.cancel()
    assert attempt.connector.stoppedConnecting or attempt.connector._disconnected
    assert len(attempt.failures) == 1
    assert attempt.failures[0].check(CancelledError, error.UserError)
    attempt.factory.clientConnectionFailed(
        attempt.connector, Failure(error.ConnectionRefusedError())
    )
    attempt.factory.buildProtocol(None)
    assert (attempt.answers, len(attempt.failures)) == ([], 1)
