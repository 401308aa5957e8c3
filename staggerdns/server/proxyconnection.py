"""Connections that proxies make for clients, and the first octets of all others.

A proxy (``server.proxy_protocol``) begins each connection with a header, in front of everything
else, the handshake of TLS included. `ProxyConnection` waits for it, and makes way for the protocol
of the listener, for which the transport has the client's address from then on. Until then it takes
a place among the connections, but none of a client's, and gives it up like any that is idle.

Nobody else may send one: `FirstOctets` breaks a connection that begins so. Both are gone as soon as
they have seen what they look for, so what follows costs no more than without them.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress, IProtocol, IProtocolFactory
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.instruments import Counter
from staggerdns.server.clientconnection import ClientConnection
from staggerdns.server.factory import StaggerServerFactory
from staggerdns.wire.proxyheader import (
    SIGNATURE,
    CutHeader,
    MissingHeader,
    ProxyHeaderError,
    read_proxy_header,
)
from staggerdns.wire.query import MisplacedHeader

HEADER_TIMEOUT = 3.0
"""Seconds that a proxy has for its header: the least that the protocol advises, so that a segment
may be lost.
"""


class FirstOctets(Protocol):
    """Stands in front of ``inner`` until it is clear that nothing pretends to be a proxy."""

    transport: Any
    _held = b""  # the beginning of the signature

    def __init__(self, inner: IProtocol, dropped: Counter, transport_name: str) -> None:
        self._inner = inner
        self._dropped = dropped
        self._transport_name = transport_name

    def connectionMade(self) -> None:
        """Let the connection begin."""
        self._inner.makeConnection(self.transport)

    def dataReceived(self, data: bytes) -> None:
        """Make way, or break the connection."""
        data = self._held + data
        if data.startswith(SIGNATURE):
            self._dropped.cell(self._transport_name, MisplacedHeader.reason).value += 1
            self._held = b""
            self.transport.abortConnection()
        elif SIGNATURE.startswith(data):
            self._held = data
        else:
            self.transport.protocol = self._inner
            self._inner.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Tell the protocol behind it."""
        self._inner.connectionLost(reason)


class ProxyConnection(ClientConnection):
    """Waits for the header of a proxy; ``inner`` builds the protocol for what follows."""

    def __init__(
        self, factory: StaggerServerFactory, inner: IProtocolFactory, transport_name: str
    ) -> None:
        super().__init__(factory.client_connections)
        self._inner = inner
        self._dropped = factory.metrics.dropped
        self._transport_name = transport_name
        self._buffer = b""

    def connectionMade(self) -> None:
        """Accept the connection, for as long as a header takes."""
        super().connectionMade()
        if not self.closing:
            self.set_idle_timeout(HEADER_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        """Read the header, however it is split."""
        if self.closing:
            return
        self._buffer += data
        try:
            client, end = read_proxy_header(self._buffer)
        except CutHeader:
            pass
        except ProxyHeaderError as error:
            self._drop(error.reason)
        else:
            self._make_way(client, self._buffer[end:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Count a header that was not complete."""
        if self._buffer and not self.closing:
            self._dropped.cell(self._transport_name, CutHeader.reason).value += 1
        super().connectionLost(reason)

    def _is_admissible(self) -> bool:
        self.client_group = None  # the proxy is nobody's client
        return True

    def _idle_too_long(self) -> None:
        self._drop(CutHeader.reason if self._buffer else MissingHeader.reason)

    def _drop(self, reason: str) -> None:
        self._dropped.cell(self._transport_name, reason).value += 1
        self.abort()

    def _make_way(self, client: str, rest: bytes) -> None:
        """Have the protocol of the listener go on with ``rest``, for the ``client``."""
        transport = self.transport
        self.setTimeout(None)
        transport.unregisterProducer()
        self._end()  # of this; the connection goes on
        if client:
            kind = IPv6Address if ":" in client else IPv4Address
            transport.speak_for(kind("TCP", client, 0))
        inner = self._inner.buildProtocol(transport.getPeer())
        assert inner is not None  # none of ours refuses
        protocol = FirstOctets(inner, self._dropped, self._transport_name)  # there is no second one
        transport.protocol = protocol
        protocol.makeConnection(transport)
        if rest:
            protocol.dataReceived(rest)


@implementer(IProtocolFactory)
class FirstOctetsFactory:
    """Builds what comes before the protocols that ``inner`` builds, for connections over
    ``transport_name`` whose queries ``factory`` answers.
    """

    def __init__(
        self, factory: StaggerServerFactory, inner: IProtocolFactory, transport_name: str
    ) -> None:
        self._factory = factory
        self._inner = inner
        self._transport_name = transport_name

    def doStart(self) -> None:
        """Start the factory behind it."""
        self._inner.doStart()

    def doStop(self) -> None:
        """Stop the factory behind it."""
        self._inner.doStop()

    def buildProtocol(self, addr: IAddress) -> Protocol:
        """Return the protocol of a new connection."""
        factory, name = self._factory, self._transport_name
        proxies = factory.proxies
        if proxies is not None and proxies.includes(getattr(addr, "host", "")):
            return ProxyConnection(factory, self._inner, name)
        protocol = self._inner.buildProtocol(addr)
        assert protocol is not None  # none of ours refuses
        return FirstOctets(protocol, factory.metrics.dropped, name)
