"""What clients have been told and do not read: bounded in octets, of each and of all."""

from __future__ import annotations

import pytest

from staggerdns.server import connections as connections_module
from staggerdns.server.clientconnection import TURN_SIZE
from staggerdns.settings.sections import ServerSettings
from tests.kit.connections import Connection, HttpClient, numbered
from tests.kit.factory import MemoryServer, pool
from tests.kit.messages import ask, client_query

SIZE = 1600
"""Octets of a reply with a hundred addresses, at least."""


@pytest.fixture
def server() -> MemoryServer:
    """A server with one long answer in its cache."""
    made = MemoryServer(ServerSettings(tcp_max_connections=10))
    made.commit(ask(), pool(100))
    return made


def dropped(server: MemoryServer) -> int:
    """How many connections were broken for what they left unread."""
    return server.metrics.unread_dropped.cell().value


def fill(connection: Connection, answers: int) -> None:
    """Ask ``answers`` questions and take nothing."""
    first = len(connection.server.forwarder.waiting)
    connection.send(*numbered(0, answers))
    connection.stop_taking()
    for waiting in connection.server.forwarder.waiting[first:]:
        waiting.callback(connection.server.entry(pool(100)))


def test_counted_until_read(server: MemoryServer) -> None:
    """What waits for a client is counted, with what the transport may hold, until it has read."""
    connection = Connection(server)
    fill(connection, 3)
    assert TURN_SIZE + 3 * SIZE <= server.factory.client_connections.unread < TURN_SIZE + 4 * SIZE
    assert "staggerdns_unread_octets" in {family.name for family in server.metrics.collect()}
    connection.take()
    assert len(connection.ids) == 3
    assert server.factory.client_connections.unread == 0
    connection.lost()


def test_of_a_connection_that_is_lost(server: MemoryServer) -> None:
    """A connection that ends holds nothing any more."""
    connection = Connection(server)
    fill(connection, 3)
    connection.lost()
    assert server.factory.client_connections.unread == 0
    assert dropped(server) == 0


@pytest.mark.parametrize("beyond", [0, 1])
def test_of_one_connection(
    server: MemoryServer, monkeypatch: pytest.MonkeyPatch, beyond: int
) -> None:
    """A connection may leave `MAX_UNREAD` octets unread, and is broken for one more."""
    probe = Connection(server)
    fill(probe, 10)
    size = server.factory.client_connections.unread
    probe.lost()
    monkeypatch.setattr(connections_module, "MAX_UNREAD", size - beyond)
    connection, other = Connection(server), Connection(server)
    fill(connection, 10)
    assert connection.aborted() == bool(beyond)
    assert dropped(server) == beyond
    assert server.factory.client_connections.unread == (0 if beyond else size)
    other.send(client_query(id=1))
    assert other.ids == [1]
    connection.lost()
    other.lost()
    assert not server.clock.getDelayedCalls()


@pytest.mark.parametrize("beyond", [0, 1])
def test_of_all(server: MemoryServer, monkeypatch: pytest.MonkeyPatch, beyond: int) -> None:
    """All together may leave `MAX_UNREAD_IN_ALL` unread; beyond that the one with most goes."""
    sizes = [5, 10, 7]
    probes = [Connection(server) for _ in sizes]
    for probe, count in zip(probes, sizes, strict=True):
        fill(probe, count)
    size = server.factory.client_connections.unread
    for probe in probes:
        probe.lost()
    monkeypatch.setattr(connections_module, "MAX_UNREAD_IN_ALL", size - beyond)
    connections = [Connection(server) for _ in sizes]
    for connection, count in zip(connections, sizes, strict=True):
        fill(connection, count)
    assert [connection.aborted() for connection in connections] == [False, bool(beyond), False]
    assert dropped(server) == beyond
    for connection in connections:
        connection.lost()
    assert server.factory.client_connections.unread == 0


def test_of_http(server: MemoryServer) -> None:
    """Responses that wait for a window of HTTP/2 are unread, too, and go where it opens."""
    client = HttpClient(server)
    client.h2.update_settings({4: 0})  # SETTINGS_INITIAL_WINDOW_SIZE
    client.flush()
    for _ in range(3):
        client.ask()
    assert client.statuses() == []
    for waiting in server.forwarder.waiting:
        waiting.callback(server.entry(pool(100)))
    assert client.statuses() == [b"200"] * 3
    assert client.replies() == 0
    assert 3 * SIZE <= server.factory.client_connections.unread < 4 * SIZE
    client.h2.update_settings({4: 65_535})
    client.flush()
    assert client.replies() == 3
    assert server.factory.client_connections.unread == 0
    client.lost()


def test_of_a_stream_that_is_reset(server: MemoryServer) -> None:
    """A response that a client no longer wants is not held."""
    client = HttpClient(server)
    client.h2.update_settings({4: 0})
    client.flush()
    client.ask()
    server.forwarder.waiting[0].callback(server.entry(pool(100)))
    assert server.factory.client_connections.unread > 0
    client.h2.reset_stream(1)
    client.flush()
    assert server.factory.client_connections.unread == 0
    client.lost()


def test_window_that_never_opens(server: MemoryServer) -> None:
    """A client that asks and gives no window is dropped after the idle time, not before, and costs
    no timer but that of the connection.
    """
    client = HttpClient(server)
    client.h2.update_settings({4: 0})
    client.flush()
    client.ask()
    server.forwarder.waiting[0].callback(server.entry(pool(100)))
    for _ in range(90):
        server.clock.advance(0.1)
        assert len(server.clock.getDelayedCalls()) == 1
        assert not client.transport.over()
    server.clock.advance(1.1)
    assert client.transport.aborted()
    client.lost()
    assert not server.clock.getDelayedCalls()
