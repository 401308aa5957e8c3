"""The DNS-over-HTTPS site, on HTTP/1.1 in memory; tests/live has real clients and HTTP/2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dns.message
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from staggerdns.server.https import HttpsFactory
from tests.kit.factory import FRIEND, MemoryServer, pool
from tests.kit.messages import client_query

if TYPE_CHECKING:
    from staggerdns.server.factory import StaggerServerFactory

TYPE = "application/dns-message"


class Client:
    """One connection to the site."""

    def __init__(self, factory: StaggerServerFactory, host: str = FRIEND) -> None:
        where = IPv4Address("TCP", host, 4711)
        self._transport = StringTransport(peerAddress=where, lenient=True)
        self._transport.setTcpNoDelay = lambda enabled: None  # type: ignore[attr-defined]
        self._transport.abortConnection = lambda: None  # type: ignore[method-assign]
        self.protocol: Any = HttpsFactory(factory, "/dns-query").buildProtocol(where)
        self.protocol.makeConnection(self._transport)

    def post(self, message: bytes) -> None:
        """Send a query."""
        head = f"POST /dns-query HTTP/1.1\r\nhost: x\r\ncontent-type: {TYPE}\r\n"
        length = f"content-length: {len(message)}\r\n\r\n"
        self.protocol.dataReceived((head + length).encode() + message)

    def leave(self) -> None:
        """End the connection."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def reply(self) -> dns.message.Message | None:
        """The reply that came since the last call, if there is one."""
        data = self._transport.value()
        self._transport.clear()
        if not data:
            return None
        head, _, body = data.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head
        return dns.message.from_wire(body)


def test_answered_later() -> None:
    """A reply that needs the forwarder comes when that has an answer, whatever comes meanwhile."""
    server = MemoryServer()
    client = Client(server.factory)
    client.post(client_query("www.example"))
    assert client.reply() is None
    server.forwarder.waiting[0].callback(server.entry(pool()))
    reply = client.reply()
    assert reply is not None
    assert len(reply.answer) == 1
    client.leave()
    assert server.clock.getDelayedCalls() == []


def test_a_client_that_goes_away() -> None:
    """Nobody waits for an answer any more whose client has gone."""
    server = MemoryServer()
    client = Client(server.factory)
    client.post(client_query("www.example"))
    client.leave()
    assert server.forwarder.cancelled == server.forwarder.waiting
    assert len(server.forwarder.waiting) == 1
    assert server.clock.getDelayedCalls() == []
