"""TCP ports: how connections are accepted, however fast they come.

Twisted accepts all that it can at once, tries again without a pause what cannot succeed, and logs
every failure. Here the pace is bounded, and so is the log.
"""

from __future__ import annotations

import socket
from typing import Any, cast

from twisted.internet import tcp
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IProtocolFactory, IReactorCore, IReactorTime
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.python.failure import Failure

from staggerdns.server.factory import StaggerServerFactory
from staggerdns.server.status import OTHER_COST, StatusFactory, Throttle
from staggerdns.server.transport import ClientTransport
from staggerdns.settings.addresses import Endpoint

BACKLOG = 128
"""Connections of clients that wait to be accepted."""
PAGES_BACKLOG = 16
"""The same of the pages of metrics."""
MAX_ACCEPTS = 8
"""Connections that a port accepts in one turn of the reactor. The connections that are aborted to
make room for them keep their descriptors until the turn is over.
"""
WARN_EVERY = 60.0
"""Seconds between two warnings that connections cannot be accepted."""
ACCEPT_PAUSE = 1.0
"""Seconds for which nothing is accepted after descriptors or memory were exhausted."""
_EXHAUSTED = frozenset(("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"))
_CLOSED = "EMFILE recovery: Closed"


class ClosablePort(tcp.Port):
    """A port at ``place`` that can be closed at once. ``passed``: its socket was passed in."""

    place: Endpoint
    passed = False
    _pause: IDelayedCall | None = None

    def pause(self, clock: IReactorTime, seconds: float) -> None:
        """Accept nothing for a while."""
        self.stopReading()
        self._pause = clock.callLater(seconds, self._resume)

    def leave_unread(self) -> None:
        """Accept nothing any more: what waits is for whoever else has the socket."""
        self._end_pause()
        self.stopReading()

    def leave(self) -> None:
        """Let no more connections come in: the kernel has no such thing."""

    def stop_reading(self) -> Deferred[None]:
        """Accept no more connections; the Deferred fires when the listener is closed."""
        return maybeDeferred(self.stopListening)

    def finish(self) -> Deferred[None]:
        """Close the listener in this very turn of the reactor; its connections stay."""
        if self.connected:
            self.stopReading()
            self.connectionLost(Failure(CONNECTION_DONE))
        return succeed(None)

    def connectionLost(self, reason: Failure) -> None:
        """Close the listener, unless it is closed."""
        self._end_pause()
        if self.connected:
            super().connectionLost(reason)

    def _resume(self) -> None:
        self._pause = None
        self.startReading()

    def _end_pause(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None


class StreamPort(ClosablePort):
    """Listens for ``factory`` on one address: that of ``opened``, a socket that listens already.

    ``protocols`` builds the protocols of its connections, by default ``factory`` does.
    """

    transport = ClientTransport

    def __init__(
        self,
        port: int,
        factory: StaggerServerFactory,
        interface: str,
        reactor: IReactorCore,
        protocols: IProtocolFactory | None = None,
        opened: socket.socket | None = None,
    ) -> None:
        super().__init__(port, protocols or factory, BACKLOG, interface, reactor)
        self._preexistingSocket = opened
        self.place = Endpoint(interface, port)
        # Twisted logs several lines for each connection that it cannot accept. Whoever opens
        # connections could fill a disk with them.
        observer = cast("ILogObserver", self.accept_failed)
        self._logger = Logger(namespace="staggerdns", observer=observer)
        self._dns_factory = factory
        self._next_warning = float("-inf")

    def doRead(self) -> None:
        """Accept a few connections; Twisted would accept a hundred."""
        self.numberAccepts = min(self.numberAccepts, MAX_ACCEPTS)
        super().doRead()

    def accept_failed(self, event: LogEvent) -> None:
        """Observe what Twisted would log; count failures to accept, and warn of them now and then.

        When descriptors or memory are exhausted, the connection stays in the backlog and would be
        tried again at once, so the port pauses.
        """
        reason = event.get("acceptError")
        if reason is None and not event.get("log_format", "").startswith(_CLOSED):
            return
        clock = self._dns_factory.clock
        self._dns_factory.client_connections.refused.value += 1
        now = clock.seconds()
        if now >= self._next_warning:
            self._next_warning = now + WARN_EVERY
            self._dns_factory.journal.warn(
                "TCP connections cannot be accepted: {reason}", reason=reason or "EMFILE"
            )
        if reason in _EXHAUSTED and self._pause is None:
            self.pause(clock, ACCEPT_PAUSE)


class StatusPort(ClosablePort):
    """Listens for ``factory`` on one address, that of ``opened``, and limits the rate of new
    connections.
    """

    factory: StatusFactory

    def __init__(
        self,
        port: int,
        factory: StatusFactory,
        interface: str,
        reactor: Any,
        opened: socket.socket | None = None,
    ) -> None:
        super().__init__(port, factory, PAGES_BACKLOG, interface, reactor)
        self._preexistingSocket = opened
        self.place = Endpoint(interface, port)
        self._accepted = Throttle(factory.clock)

    def doRead(self) -> None:
        """Accept one connection, and pause if there were many."""
        self.numberAccepts = 1
        super().doRead()
        wait = self._accepted.wait(OTHER_COST)
        if wait:
            self.pause(self.factory.clock, wait)
