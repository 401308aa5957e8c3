"""Connections that proxies make for clients, over TCP; over TLS and HTTPS see tests/live."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, cast

import pytest
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from staggerdns.server.access import Access
from staggerdns.server.connections import MAX_DISALLOWED
from staggerdns.server.proxies import Proxies
from staggerdns.server.proxyconnection import HEADER_TIMEOUT, FirstOctetsFactory
from staggerdns.server.request import TCP
from staggerdns.server.stream import StreamFactory, StreamProtocol
from staggerdns.server.transport import ClientTransport
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import ServerSettings
from tests.kit.clients import parse
from tests.kit.connections import framed
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import ask, client_query
from tests.kit.proxied import LOCAL, MAGIC, extension, header, speaking_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROXY = "198.51.100.7"
"""A proxy, which may not ask itself."""
CLIENT = "2001:db8::77"
QUERY = framed(client_query(id=1))


class Connection:
    """A TCP connection from ``host``; ``reads`` is one wake-up of the server."""

    def __init__(self, server: MemoryServer, host: str = PROXY) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            self.client = socket.create_connection(listening.getsockname())
            accepted, _ = listening.accept()
        self.client.setblocking(False)
        self.reactor = MemoryReactorClock()
        inner = StreamFactory(server.factory, TCP)
        peer: Any = (IPv6Address if ":" in host else IPv4Address)("TCP", host, 4711)
        protocol = FirstOctetsFactory(server.factory, inner, TCP).buildProtocol(peer)
        self.transport = ClientTransport(
            accepted, protocol, (host, 4711), cast("Any", None), 0, self.reactor
        )
        accepted.setblocking(False)
        protocol.makeConnection(cast("Any", self.transport))
        self.turn()

    def turn(self) -> None:
        """Let the reactor turn."""
        self.reactor.advance(0)

    def sends(self, data: bytes) -> None:
        """Send this and have it read, as far as the server reads."""
        self.client.send(data)
        while data and self.transport in self.reactor.readers:
            why = self.transport.doRead()
            data = data[self.transport.bufferSize :]
            if why is not None:
                self.transport.connectionLost(Failure(why))
        self.turn()

    def ends(self) -> None:
        """Close the client's side."""
        self.client.close()
        why = self.transport.doRead()
        if why is not None:
            self.transport.connectionLost(Failure(why))

    def gets(self) -> list[int]:
        """The codes of the replies that have come; raises `ConnectionError` if it was broken."""
        data, found = b"", []
        with contextlib.suppress(BlockingIOError):
            data = self.client.recv(65536)
        while data:
            size = 2 + int.from_bytes(data[:2], "big")
            found.append(int(parse(data[2:size]).rcode()))
            data = data[size:]
        return found

    def broken(self) -> bool:
        """Whether the server has given the connection up."""
        self.turn()
        return not self.transport.connected

    @property
    def protocol(self) -> StreamProtocol:
        """What speaks with the client behind the proxy."""
        found = self.transport.protocol
        assert isinstance(found, StreamProtocol)
        return found

    def close(self) -> None:
        """Close both ends."""
        self.client.close()
        self.transport.abortConnection()
        self.turn()


@pytest.fixture
def server() -> MemoryServer:
    """A server with a proxy in front that knows one name."""
    made = MemoryServer()
    made.factory.proxies = Proxies([Network(PROXY)], made.metrics)
    made.commit(ask(), pool())
    return made


@pytest.fixture
def connect(server: MemoryServer) -> Iterator[Callable[..., Connection]]:
    """Make connections, which end with the test, and then nothing is left of them."""
    with contextlib.ExitStack() as stack:

        def one(host: str = PROXY) -> Connection:
            made = Connection(server, host)
            stack.callback(made.close)
            return made

        yield one
    assert server.factory.client_connections.open == []


def dropped(server: MemoryServer) -> dict[str, int]:
    """How often something was dropped over TCP, by reason."""
    values = server.metrics.dropped.values()
    return {reason: count for (name, reason), count in values.items() if name == "tcp"}


@pytest.mark.parametrize("more", [b"", extension(5, bytes(300))])
def test_the_client_counts(
    connect: Callable[..., Connection], server: MemoryServer, more: bytes
) -> None:
    """What comes behind the header is the client's, in the same segment or a later one."""
    given = speaking_for(CLIENT, stream=True, more=more)
    made = connect()
    made.sends(given + QUERY)
    assert made.gets() == [0]
    assert made.protocol.host == CLIENT
    made.sends(QUERY)
    assert made.gets() == [0]
    other = connect()
    other.sends(speaking_for("203.0.113.1", stream=True))
    assert [one.disallowed for one in server.factory.client_connections.open] == [False, True]
    other.sends(QUERY)
    assert other.gets() == [5]


def test_octet_by_octet(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """The header may come in any pieces."""
    made = connect()
    for octet in speaking_for(FRIEND, stream=True) + QUERY:
        made.sends(bytes([octet]))
    assert made.gets() == [0]
    assert made.protocol.host == FRIEND
    assert dropped(server) == {}


def test_hits_are_ready(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """What is ready is ready behind a proxy."""
    made = connect()
    made.sends(speaking_for(FRIEND, stream=True) + QUERY)
    before = server.metrics.hit("tcp", 1, 0).value
    made.sends(QUERY * 3)
    assert server.metrics.hit("tcp", 1, 0).value == before + 3
    assert made.gets() == [0] * 4


@pytest.mark.parametrize("given", [LOCAL, header(0, 0x11, bytes(12)), header(1, 0, b"")])
def test_the_proxy_itself(
    connect: Callable[..., Connection], server: MemoryServer, given: bytes
) -> None:
    """A proxy that speaks for itself is a client like any other: it may ask, or not."""
    for access, rcode in ((server.access, 5), (Access([Network(PROXY)]), 0)):
        server.factory.access = access
        made = connect()
        made.sends(given + QUERY)
        assert made.gets() == [rcode]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (QUERY, "proxy_missing"),
        (b"\r\n\r\n\r\n", "proxy_missing"),
        (header(2, 0x11, bytes(12)) + QUERY, "proxy_invalid"),
        (header(0, 0, b"", length=1009), "proxy_invalid"),
    ],
)
def test_what_is_broken(
    connect: Callable[..., Connection], server: MemoryServer, given: bytes, reason: str
) -> None:
    """Without a header that can be believed there is an end, and no reply."""
    made = connect()
    made.sends(given)
    assert made.broken()
    with pytest.raises(ConnectionError):
        made.gets()
    assert dropped(server) == {reason: 1}


def test_a_second_header(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """Behind the header of a proxy there is none of another."""
    made = connect()
    made.sends(speaking_for(FRIEND, stream=True) + speaking_for(FRIEND, stream=True) + QUERY)
    assert made.broken()
    with pytest.raises(ConnectionError):
        made.gets()
    assert dropped(server) == {"proxy_unexpected": 1}


@pytest.mark.parametrize(
    ("given", "counted"),
    [(b"", {}), (MAGIC[:4], {"proxy_cut": 1}), (MAGIC + b"\x21", {"proxy_cut": 1})],
)
def test_an_end_in_the_middle(
    connect: Callable[..., Connection],
    server: MemoryServer,
    given: bytes,
    counted: dict[str, int],
) -> None:
    """A header that ends too early is counted; whoever only looks whether we are there is not."""
    made = connect()
    if given:
        made.sends(given)
    made.ends()
    assert dropped(server) == counted


@pytest.mark.parametrize(("given", "reason"), [(b"", "proxy_missing"), (MAGIC, "proxy_cut")])
def test_no_header_in_time(
    connect: Callable[..., Connection], server: MemoryServer, given: bytes, reason: str
) -> None:
    """A proxy has so many seconds for its header, however it dribbles."""
    assert HEADER_TIMEOUT == 3.0  # docs/specification.rst, Proxies
    made = connect()
    server.pass_time(HEADER_TIMEOUT - 0.1)
    if given:
        made.sends(given)
    assert not made.broken()
    server.pass_time(0.2)
    assert made.broken()
    assert dropped(server) == {reason: 1}


def test_it_stays_open_behind_the_header(
    connect: Callable[..., Connection], server: MemoryServer
) -> None:
    """The time for the header is not that of the connection."""
    made = connect()
    made.sends(speaking_for(FRIEND, stream=True))
    server.pass_time(ServerSettings().tcp_idle_timeout - 0.1)
    assert not made.broken()
    made.sends(QUERY)
    assert made.gets() == [0]


def test_limits_are_the_clients(server: MemoryServer) -> None:
    """Connections are limited for each client behind a proxy, not for the proxy."""
    settings = ServerSettings(tcp_max_per_client=2, tcp_max_connections=6)
    server.factory.client_connections.use(settings, server.client_groups)
    waiting = [Connection(server) for _ in range(4)]  # without a header yet
    assert not any(one.broken() for one in waiting)
    for one in waiting:
        one.sends(speaking_for(FRIEND, stream=True))
    assert [one.broken() for one in waiting] == [True, True, False, False]  # the idle ones gave way
    other = Connection(server)
    other.sends(speaking_for(CLIENT, stream=True))
    assert not other.broken()
    assert len(server.factory.client_connections.open) == 3
    for one in (*waiting, other):
        one.close()
    assert server.factory.client_connections.open == []


def test_who_waits_takes_a_place(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """Connections without a header yet count like all others, and give way as idle ones do."""
    settings = ServerSettings(tcp_max_connections=2)
    server.factory.client_connections.use(settings, server.client_groups)
    made = [connect() for _ in range(3)]
    assert len(server.factory.client_connections.open) == 2
    assert [one.broken() for one in made] == [True, False, False]
    assert dropped(server) == {}


def test_who_may_not_ask(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """A proxy that may not ask itself is no disallowed client; those behind it are."""
    waiting = [connect() for _ in range(MAX_DISALLOWED + 1)]
    assert not any(one.broken() for one in waiting)
    for one in waiting:
        one.sends(speaking_for("203.0.113.1", stream=True) + QUERY[:5])
    assert [one.broken() for one in waiting] == [False] * MAX_DISALLOWED + [True]
    assert server.metrics.tcp_refused.cell().value == 1


def test_the_end_of_the_server(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """What waits for a header is closed at once when the server stops."""
    made = connect()
    made.sends(MAGIC)
    server.factory.client_connections.drain()
    assert len(server.factory.client_connections.open) == 1
    made.transport.doWrite()
    made.ends()
    assert dropped(server) == {}


@pytest.mark.parametrize("host", [FRIEND, "203.0.113.8"])
@pytest.mark.parametrize("has_proxies", [True, False])
def test_a_header_from_elsewhere(
    connect: Callable[..., Connection], server: MemoryServer, host: str, has_proxies: bool
) -> None:
    """Nobody else may begin with one, in whatever pieces, whether there are proxies or none."""
    if not has_proxies:
        server.factory.proxies = None
    for pieces in ([speaking_for(FRIEND, stream=True) + QUERY], [MAGIC[:1], MAGIC[1:]]):
        made = connect(host)
        for piece in pieces:
            assert not made.broken()
            made.sends(piece)
        assert made.broken()
        with pytest.raises(ConnectionError):
            made.gets()
    assert dropped(server) == {"proxy_unexpected": 2}


def test_who_asks_himself(connect: Callable[..., Connection], server: MemoryServer) -> None:
    """Clients that are no proxies need no header, even if their first octets look like one."""
    made = connect(FRIEND)
    made.sends(QUERY)
    assert made.gets() == [0]
    assert made.protocol.host == FRIEND
    alike = connect(FRIEND)
    message = MAGIC[2:6] + client_query()[4:]  # the length in front is MAGIC[:2]
    alike.sends(MAGIC[:6])
    alike.sends(message[4:].ljust(int.from_bytes(MAGIC[:2], "big") - 4, b"\0"))
    assert alike.gets() == [1]
    assert dropped(server) == {}


def test_the_end_before_the_first_octet(
    connect: Callable[..., Connection], server: MemoryServer
) -> None:
    """A client that leaves without a word, or within what may have become a header."""
    for given in (b"", MAGIC[:3]):
        made = connect(FRIEND)
        assert len(server.factory.client_connections.open) == 1
        if given:
            made.sends(given)
        made.ends()
        assert server.factory.client_connections.open == []
    assert dropped(server) == {}
