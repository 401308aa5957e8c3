"""Passes what comes from outside to the program, which is in a network namespace of its own."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.protocol import DatagramProtocol
from twisted.protocols.portforward import ProxyFactory

#: Seconds for which a reply is waited for.
_PATIENCE = 5.0


class _Reply(DatagramProtocol):
    """Sends one query inside and passes the reply on."""

    def __init__(
        self, outside: _Queries, query: bytes, client: Any, target: tuple[str, int]
    ) -> None:
        self._outside = outside
        self._query = query
        self._client = client
        self._target = target

    def startProtocol(self) -> None:
        """Ask."""
        assert self.transport is not None
        self.transport.write(self._query, self._target)

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Pass the reply on."""
        if self._outside.transport is not None:
            self._outside.transport.write(datagram, self._client)


class _Queries(DatagramProtocol):
    def __init__(self, reactor: Any, target: tuple[str, int]) -> None:
        self._reactor = reactor
        self._target = target

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Pass a query inside."""
        reply = _Reply(self, datagram, addr, self._target)
        port = self._reactor.listenUDP(0, reply, interface="127.0.0.1")
        self._reactor.callLater(_PATIENCE, port.stopListening)


def relay_datagrams(reactor: Any, descriptor: int, target: tuple[str, int]) -> None:
    """Relay what comes in on a UDP socket that was made outside."""
    reactor.adoptDatagramPort(descriptor, socket.AF_INET, _Queries(reactor, target))


def relay_connections(reactor: Any, descriptor: int, target: tuple[str, int]) -> None:
    """Relay the connections that come in on a listening TCP socket that was made outside."""
    reactor.adoptStreamPort(descriptor, socket.AF_INET, ProxyFactory(*target))
