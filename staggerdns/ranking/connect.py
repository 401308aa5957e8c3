"""Probing by opening a TCP connection: an accepted one or a refused one is a round trip.

Of an accepted one the kernel knows the round trip of the handshake (TCP_INFO), which a busy
program cannot lengthen.
"""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure

_RTT_OFFSET = 68  # tcpi_rtt in struct tcp_info, linux/tcp.h


class Connector:
    """Probes one ``port``; ``timeout``: seconds until a connection attempt is given up."""

    def __init__(
        self, port: int, reactor: IReactorTCP, clock: IReactorTime, timeout: float
    ) -> None:
        self._port = port
        self._reactor = reactor
        self._clock = clock
        self._timeout = timeout

    def ping(self, address: bytes) -> Deferred[float]:
        """Connect to ``address``; a Deferred of the seconds, failing when nothing came back."""
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        attempt = _Attempt(self._clock)
        attempt.connector = self._reactor.connectTCP(
            socket.inet_ntop(family, address), self._port, attempt, timeout=self._timeout
        )
        return attempt.done


class _Attempt(ClientFactory):
    noisy = False

    def __init__(self, clock: IReactorTime) -> None:
        self.connector: IConnector | None = None
        self.done: Deferred[float] = Deferred(self._cancelled)
        self._clock = clock
        self._started = clock.seconds()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        return _AbortAtOnce(self)

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        if reason.check(error.ConnectionRefusedError):
            self.answered(None)
        elif not self.done.called:
            self.done.errback(reason)

    def answered(self, handshake: float | None) -> None:
        """Report the seconds of the ``handshake``, or those that have passed."""
        if not self.done.called:
            elapsed = self._clock.seconds() - self._started
            self.done.callback(elapsed if handshake is None else min(handshake, elapsed))

    def _cancelled(self, _: Deferred[float]) -> None:
        if self.connector is not None:
            self.connector.disconnect()


class _AbortAtOnce(Protocol):
    """Aborts the connection at once, so that the kernel keeps no state of it."""

    transport: Any  # a TCP transport, which has more than ITransport says

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    def connectionMade(self) -> None:
        self._attempt.answered(_handshake(self.transport.getHandle()))
        self.transport.abortConnection()


def _handshake(connected: socket.socket) -> float | None:
    """Return the round trip of the handshake in seconds, `None` when the kernel does not say."""
    try:
        info = connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RTT_OFFSET + 4)
    except (OSError, AttributeError):
        return None
    (microseconds,) = struct.unpack_from("=I", info, _RTT_OFFSET)
    return microseconds / 1e6 if microseconds else None
