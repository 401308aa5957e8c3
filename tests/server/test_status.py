"""The metrics listener: what it serves, and that it takes nothing away from DNS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from staggerdns.instruments import Cell
from staggerdns.journal import Journal
from staggerdns.lifecycle import Lifecycle
from staggerdns.metrics import Metrics
from staggerdns.server.status import BURST, LIMITS, METRICS_COST, OTHER_COST, StatusFactory
from tests.kit.connections import HttpTransport

if TYPE_CHECKING:
    from collections.abc import Callable


class MemoryStatus:
    """A metrics listener on a clock."""

    def __init__(self, check: Callable[[], Deferred[bool]] = lambda: succeed(True)) -> None:
        self.clock = Clock()
        self.metrics = Metrics()
        self.refused = self.metrics.metrics_refused.cell()
        self.lifecycle = Lifecycle(Journal())
        self.lifecycle.serve()
        self.factory = StatusFactory(
            [self.metrics],
            check,
            self.lifecycle,
            self.clock,
            refused=self.refused,
            dropped=Cell(),
        )


class StatusClient:
    """A connection to it."""

    def __init__(self, page: MemoryStatus, host: str = "192.0.2.1") -> None:
        self.transport = HttpTransport(host, b"")
        self.connection = page.factory.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def send(self, text: str) -> None:
        """Send what is a request, or a part of one."""
        self.connection.dataReceived(text.encode())

    def ask(self, path: str, method: str = "GET", body: str = "") -> None:
        """Send a request."""
        length = f"content-length: {len(body)}\r\n" if body else ""
        self.send(f"{method} {path} HTTP/1.1\r\nhost: x\r\n{length}\r\n{body}")

    def statuses(self) -> list[int]:
        """The statuses of all responses so far."""
        found = re.findall(rb"HTTP/1.1 (\d+) ", self.transport.value())
        return [int(status) for status in found]


@pytest.fixture
def page() -> MemoryStatus:
    """A status page of one's own."""
    return MemoryStatus()


@pytest.mark.parametrize(
    ("path", "method", "body", "status"),
    [
        ("/metrics", "GET", "", 200),
        ("/metrics?x=1", "GET", "", 200),
        ("/healthz", "GET", "", 200),
        ("/healthz", "HEAD", "", 200),
        ("/readyz", "GET", "", 200),
        ("/readyz?x=1", "GET", "", 200),
        ("/", "GET", "", 404),
        ("/metrics/", "GET", "", 404),
        ("/metrics", "POST", "", 405),
        ("/metrics", "POST", "x" * 100_000, 405),
        ("/healthz", "GET", "x", 413),
    ],
)
def test_pages(page: MemoryStatus, path: str, method: str, body: str, status: int) -> None:
    """There are three pages, for GET and HEAD, and no body is taken."""
    client = StatusClient(page)
    client.ask(path, method, body)
    assert client.statuses() == [status]
    assert (b"staggerdns_queries" in client.transport.value()) == (
        status == 200 and "metrics" in path
    )
    assert method != "HEAD" or client.transport.value().endswith(b"\r\n\r\n")
    client.connection.connectionLost()
    assert not page.clock.getDelayedCalls()


def test_health() -> None:
    """When no upstream answers the health page is 503."""
    client = StatusClient(MemoryStatus(lambda: succeed(False)))
    client.ask("/healthz")
    assert client.statuses() == [503]


def test_readiness() -> None:
    """200 while the server is serving, 503 before, while it drains and at the end, whatever
    upstreams do.
    """
    page = MemoryStatus(lambda: succeed(False))
    client = StatusClient(page)
    for step in (page.lifecycle.drain, page.lifecycle.resume, page.lifecycle.stop):
        client.ask("/readyz")
        step()
    client.ask("/readyz")
    assert client.statuses() == [200, 503, 200, 503]
    bodies = re.findall(rb"\r\n\r\n(\w+)\n", client.transport.value())
    assert bodies == [b"serving", b"draining", b"serving", b"stopping"]


def test_connections(page: MemoryStatus) -> None:
    """One connection past `LIMITS` makes the idlest leave; those with requests stay."""
    visitors = []
    for number in range(LIMITS.tcp_max_connections):
        visitors.append(StatusClient(page, f"192.0.2.{number}"))
        page.clock.advance(0.1)
    assert not any(client.transport.over() for client in visitors)
    visitors.append(StatusClient(page, "192.0.2.200"))
    assert [client.transport.over() for client in visitors] == [True, *[False] * 16]
    assert len(page.factory.client_connections.open) == LIMITS.tcp_max_connections


def test_connections_of_one_client(page: MemoryStatus) -> None:
    """Nobody is exempt: a client has its own share."""
    visitors = [StatusClient(page, "127.0.0.1") for _ in range(LIMITS.tcp_max_per_client)]
    other = StatusClient(page)
    assert not any(client.transport.over() for client in visitors)
    visitors.append(StatusClient(page, "127.0.0.1"))
    assert sum(client.transport.over() for client in visitors) == 1
    assert not other.transport.over()


def test_no_room(page: MemoryStatus) -> None:
    """While all wait for a page, one more is refused and counted."""
    for _ in range(round(BURST / METRICS_COST)):
        page.factory.throttle.wait(METRICS_COST)
    visitors = [
        StatusClient(page, f"192.0.2.{number}") for number in range(LIMITS.tcp_max_connections)
    ]
    for client in visitors:
        client.ask("/healthz")
    assert StatusClient(page, "192.0.2.200").transport.over()
    assert page.refused.value == 1
    page.clock.advance(1)
    assert [client.statuses() for client in visitors] == [[200]] * LIMITS.tcp_max_connections


def test_idle_and_slow(page: MemoryStatus) -> None:
    """Who says nothing, or half a request in drops, leaves after the idle time."""
    silent, slow = StatusClient(page), StatusClient(page)
    slow.send("GET /metrics HTTP/1.1\r\n")
    for _ in range(round(LIMITS.tcp_idle_timeout) - 1):
        page.clock.advance(1)
        slow.send("x: y\r\n")
        assert not silent.transport.over()
        assert not slow.transport.over()
    page.clock.advance(1.1)
    assert silent.transport.over()
    assert slow.transport.over()


def test_who_does_not_read(page: MemoryStatus) -> None:
    """At most one page is made ahead of what is taken, and nobody is waited for without end."""
    client = StatusClient(page)
    client.send("GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")
    producer = client.transport.producer
    assert producer is not None
    producer.pauseProducing()
    for _ in range(20):
        client.ask("/metrics")
    assert len(client.statuses()) <= 2
    page.clock.advance(LIMITS.tcp_idle_timeout + 0.1)
    assert client.transport.aborted()


def test_pace(page: MemoryStatus) -> None:
    """`BURST` worth of pages is served at once; beyond it they come at their pace."""
    burst = round(BURST / METRICS_COST)
    visitors = [StatusClient(page, f"192.0.2.{number}") for number in range(10)]
    for number in range(burst + 10):
        visitors[number % 10].ask("/metrics")
    served = lambda: sum(len(client.statuses()) for client in visitors)  # noqa: E731
    assert served() == burst
    for number in range(1, 6):
        page.clock.advance(METRICS_COST)
        assert served() == burst + number
    StatusClient(page).connection.connectionLost()
    visitors[9].connection.connectionLost()
    page.clock.advance(10)
    assert served() == burst + 9, "nobody waits any more who has gone"
    assert OTHER_COST < METRICS_COST


@pytest.mark.parametrize(("healthy", "status"), [(True, 200), (False, 503)])
def test_health_that_is_not_known_yet(healthy: bool, status: int) -> None:
    """Who asks for it waits, as long as he stays; the connection serves other pages then."""
    waiting: list[Deferred[bool]] = []
    cancelled: list[Deferred[bool]] = []

    def check() -> Deferred[bool]:
        waiting.append(Deferred(cancelled.append))
        return waiting[-1]

    page = MemoryStatus(check)
    one, other = StatusClient(page), StatusClient(page)
    one.ask("/healthz")
    other.ask("/healthz")
    assert one.statuses() == other.statuses() == []
    other.connection.connectionLost(Failure(ConnectionDone()))
    assert cancelled == [waiting[1]]
    waiting[0].callback(healthy)
    assert one.statuses() == [status]
    one.ask("/")
    assert one.statuses() == [status, 404]
    one.connection.connectionLost(Failure(ConnectionDone()))
    assert len(cancelled) == 1
