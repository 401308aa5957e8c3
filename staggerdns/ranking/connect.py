"""Probing by opening a TCP connection: an accepted one or a refused one is a round trip."""

from __future__ import annotations

import socket

from twisted.internet import error
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IConnector, IReactorTCP, IReactorTime
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.python.failure import Failure


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
        self._answered()
        return _Hangup()

    def clientConnectionFailed(self, connector: IConnector, reason: Failure) -> None:
        if reason.check(error.ConnectionRefusedError):
            self._answered()
        elif not self.done.called:
            self.done.errback(reason)

    def _answered(self) -> None:
        if not self.done.called:
            self.done.callback(self._clock.seconds() - self._started)

    def _cancelled(self, _: Deferred[float]) -> None:
        if self.connector is not None:
            self.connector.disconnect()


class _Hangup(Protocol):
    """Leaves at once, with a reset, so that no state stays behind."""

    def connectionMade(self) -> None:
        transport = self.transport
        assert transport is not None
        transport.abortConnection()  # type: ignore[attr-defined]
