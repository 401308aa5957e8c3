"""What comes from a proxy: the same header is read in a datagram and octet by octet, and what is
behind it is the client's, to the last octet; nothing is answered that has none.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from types import SimpleNamespace
from typing import Any, cast

from twisted.internet.address import IPv4Address as Place
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from staggerdns.instruments import Cell, Counter
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.connections import Connections
from staggerdns.server.proxies import Proxies
from staggerdns.server.proxyconnection import ProxyConnection
from staggerdns.server.request import TCP, UDP
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import ClientSettings, ServerSettings
from staggerdns.wire.proxyheader import (
    MAX_PROXY_HEADER,
    SIGNATURE,
    ProxyHeaderError,
    read_proxy_header,
)

_PROXY, _OTHER = "192.0.2.53", "192.0.2.54"
_PEER: tuple[Any, ...] = (_PROXY, 5353)
_FIXED = 16


def check(data: bytes) -> None:
    """Check what one proxy sends; raises `AssertionError`, or anything else, for a defect."""
    expected = _expected(data)
    try:
        client, end = read_proxy_header(data)
    except ProxyHeaderError as error:
        assert expected is None, "a good header is refused"
        reason = error.reason
    else:
        assert expected == (client, end), "another client, or another end"
        reason = ""
    metrics = _metrics()
    proxies = Proxies([Network(_PROXY)], metrics)
    own = (data, (_OTHER, 53))
    read = proxies.unwrap([(data, _PEER), own])
    assert read.pop() == (data, (_OTHER, (_OTHER, 53))), "a header from elsewhere is read"
    if expected is None:
        assert read == []
        assert metrics.dropped.values() == {(UDP, reason): 1}
    else:
        client, end = expected
        assert read == [(data[end:], (client or _PROXY, _PEER))]
        assert metrics.dropped.values() == {}
    _check_stream(data, expected, reason)


def _metrics() -> Any:
    """Return what counts what is dropped, without all the rest, which takes long to make."""
    return SimpleNamespace(dropped=Counter("dropped", "", "transport", "reason"))


def _expected(data: bytes) -> tuple[str, int] | None:
    """Return the client and the end of the header, by the words of the protocol."""
    if len(data) < _FIXED or data[:12] != SIGNATURE or data[12] not in (0x20, 0x21):
        return None
    end = _FIXED + int.from_bytes(data[14:16], "big")
    if end > min(len(data), MAX_PROXY_HEADER):
        return None
    block = data[_FIXED:end]
    if data[12] == 0x20 or data[13] in (0x00, 0x31, 0x32):
        return "", end
    if data[13] in (0x11, 0x12) and len(block) >= 12:
        return str(IPv4Address(block[:4])), end
    if data[13] in (0x21, 0x22) and len(block) >= 36:
        return _text(IPv6Address(block[:16])), end
    return None


def _text(address: IPv6Address) -> str:
    """Return an address as the kernel writes it: one that has an IPv4 address in it ends so."""
    mapped = address.ipv4_mapped
    if mapped is not None:
        return f"::ffff:{mapped}"
    number = int(address)
    return f"::{IPv4Address(number)}" if 0xFFFF < number < 1 << 32 else str(address)


class _Transport(StringTransport):
    """A connection from the proxy."""

    bufferSize = 65536
    aborted = False
    protocol: Protocol

    def setTcpNoDelay(self, enabled: bool) -> None:
        """Do nothing."""

    def unregisterProducer(self) -> None:
        """Allow it twice."""
        self.producer = None

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True

    def speak_for(self, client: Any) -> None:
        """Have another peer."""
        self.peerAddr = client


class _Behind(Protocol):
    """What speaks with the client; ``last`` is the one that was made last."""

    last: _Behind | None = None

    def connectionMade(self) -> None:
        """Note who it is."""
        _Behind.last = self
        self.host = cast("Any", self.transport).getPeer().host
        self.got = b""

    def dataReceived(self, data: bytes) -> None:
        """Note what comes."""
        self.got += data


class _Server:
    """What a connection knows of the factory, and a factory of protocols behind it."""

    def __init__(self) -> None:
        settings = ServerSettings()
        self.metrics = _metrics()
        self.clock = Clock()
        self.client_connections = Connections(
            settings,
            self.clock,
            ClientGroups(ClientSettings()),
            refused=Cell(),
            dropped=Cell(),
        )

    def buildProtocol(self, addr: object) -> Protocol:
        """Return what comes behind the header."""
        return _Behind()


def _check_stream(data: bytes, expected: tuple[str, int] | None, reason: str) -> None:
    """Check the same over a connection, where it comes in two pieces and the header may be cut."""
    server: Any = _Server()
    transport: Any = _Transport(peerAddress=Place("TCP", _PROXY, 5353), lenient=True)
    _Behind.last = None
    protocol = transport.protocol = ProxyConnection(server, server, TCP)
    protocol.makeConnection(transport)
    middle = data[-1] % (len(data) + 1) if data else 0
    for piece in (data[:middle], data[middle:]):
        if piece and not transport.aborted:
            transport.protocol.dataReceived(piece)
    behind: Any = _Behind.last
    dropped = server.metrics.dropped.values()
    if expected is not None:
        assert behind is not None, "the header is not seen"
        client, end = expected
        assert behind.host == (client or _PROXY)
        rest = data[end:]
        if rest.startswith(SIGNATURE):
            assert dropped == {(TCP, "proxy_unexpected"): 1}
        else:
            assert behind.got == (b"" if SIGNATURE.startswith(rest) else rest)
            assert dropped == {}
    else:
        assert behind is None
        if reason == "proxy_cut" or not data:
            assert dropped == {}
            assert not transport.aborted
        else:
            assert dropped == {(TCP, reason): 1}
            assert transport.aborted
    transport.protocol.connectionLost()
    assert server.client_connections.open == []
    assert not server.clock.getDelayedCalls()
