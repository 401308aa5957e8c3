"""DNS over TCP from clients (RFC 7766).

A connection carries any number of queries at once, each answered when its answer is there, in
whatever order. A connection may have `MAX_PENDING` unanswered queries, and is not read while it
has them or while the client does not take its replies. It is closed when no whole query came
for the idle timeout; one that the client has half-closed is closed after its last reply. When
there are too many, in all or of one client, the one that has been idle for the longest makes room
(RFC 7766 section 6.2.3). A client that may not ask gets one refusal, and takes no place from
those that may.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import tcp
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolFactory,
    IPushProducer,
    IReactorCore,
)
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.logger import ILogObserver, LogEvent, Logger
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.server.clients import Client
from staggerdns.wire.constants import HEADER_SIZE
from staggerdns.wire.edns import padded_reply

if TYPE_CHECKING:
    from staggerdns.server.factory import StaggerServerFactory

_BACKLOG = 128  # connections that wait to be accepted
_LEAST_FRAME = 2 + HEADER_SIZE
TURN_SIZE = 2048
"""Octets read at one wake-up, and octets of replies that may wait before reading pauses: a flood
of queries on one connection takes turns with everybody else's.
"""
MAX_PENDING = 100
"""Queries of one connection under way at once."""
QUIET = 60.0
"""Seconds between two lines of the log that say that connections cannot be accepted."""
REST = 1.0
"""Seconds without accepting after one could not be, for lack of what others may give back."""
_LASTING = frozenset(("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"))
_CLOSED = "EMFILE recovery: Closed"
OUTSIDER_TIMEOUT = 2.0
"""Seconds that a client which may not ask has to send the query that is refused."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class StreamProtocol(Protocol, TimeoutMixin):
    """One client connection of ``factory``."""

    transport: Any  # a TCP or TLS transport, which has more than ITransport says

    def __init__(self, factory: StaggerServerFactory, label: str = "tcp") -> None:
        self._factory = factory
        self._label = label  # the transport, as metrics call it: tcp or tls
        self._buffer = b""
        self._pending: dict[Deferred[bytes], None] = {}
        self._reading = False
        self._counted = False  # has a place among the factory's connections
        self._outsider = False
        self._idle_since = 0.0
        self._client_done = False
        self._blocked = False  # the client does not take its replies
        self._closing = False
        self._host = ""
        self.client: Client | None = None
        self.callLater = factory.clock.callLater  # type: ignore[method-assign, assignment]

    def connectionMade(self) -> None:
        """Accept the connection, or drop it when there are too many."""
        factory = self._factory
        self._host = self.transport.getPeer().host
        self._outsider = not factory.access.allows(self._host)
        self._idle_since = factory.clock.seconds()
        self.client = factory.identities.find(self._host)
        if not factory.admit(self.client, outsider=self._outsider):
            factory.metrics.tcp_refused.cell().value += 1
            self.transport.abortConnection()
            return
        self._counted = True
        factory.connectionMade(self)
        self.transport.setTcpNoDelay(True)
        socket_side = self.transport if self._label == "tcp" else self.transport.transport
        socket_side.bufferSize = TURN_SIZE
        self.transport.registerProducer(self, True)
        self.setTimeout(OUTSIDER_TIMEOUT if self._outsider else factory.stream_limits.idle_timeout)

    @property
    def outsider(self) -> bool:
        """Whether the client may not ask."""
        return self._outsider

    @property
    def idle_since(self) -> float | None:
        """Since when nothing has been under way here, `None` when something is."""
        return None if self._pending else self._idle_since

    def make_room(self) -> None:
        """Leave at once, for a connection that has something to ask."""
        self._leave()
        self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes of the stream, however they are cut."""
        self._buffer += data
        self._read_frames()

    def readConnectionLost(self) -> None:
        """Close once the client, which sends no more, has all its replies."""
        self._client_done = True
        if not self._pending:
            self.close()

    def writeConnectionLost(self) -> None:
        """Close: nobody reads what we would send."""
        self.close()

    def timeoutConnection(self) -> None:
        """Close an idle connection; one with queries under way is not idle.

        A client that leaves its replies lying would never let us close in order.
        """
        if self._blocked or self._closing:
            self.transport.abortConnection()
        elif self._pending:
            self.setTimeout(self._factory.stream_limits.idle_timeout)
        else:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what the client no longer waits for."""
        self.setTimeout(None)
        self._leave()
        for pending in list(self._pending):
            pending.cancel()
        self._buffer = b""

    def pauseProducing(self) -> None:
        """Stop reading while the client leaves its replies in our buffer."""
        self._blocked = True
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        """Go on after the client has caught up."""
        self._blocked = False
        self._read_frames()

    def stopProducing(self) -> None:
        """Nothing to stop: replies come only as queries did."""

    def stop_reading(self) -> None:
        """Take no more queries: the server is going down."""
        self._client_done = True
        self.transport.pauseProducing()
        if not self._pending:
            self.close()

    def _read_frames(self) -> None:
        """Serve the whole messages in the buffer, as far as the limits allow."""
        if self._reading:  # an answer that was there at once: the loop below goes on
            return
        self._reading = True
        position = 0
        buffer = self._buffer
        while len(self._pending) < MAX_PENDING and not self._blocked and not self._closing:
            end = position + 2 + int.from_bytes(buffer[position : position + 2], "big")
            if len(buffer) - position < 2 or end > len(buffer):
                break
            self._serve(buffer[position + 2 : end])
            if end - position > _LEAST_FRAME and not self._outsider:
                self.resetTimeout()  # nothing less shows a client at work
            position = end
        self._buffer = buffer[position:]
        self._reading = False
        if len(self._pending) >= MAX_PENDING or self._blocked:
            self.transport.pauseProducing()
        elif not self._client_done:
            self.transport.resumeProducing()

    def _serve(self, message: bytes) -> None:
        try:
            reply = self._factory.serve(message, self._host, self._label)
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the connection)
            self._factory.journal.failure("a message could not be answered")
            return
        if self._label != "tcp":
            reply = _padded(message, reply)
        if isinstance(reply, Deferred):
            self._pending[reply] = None
            reply.addBoth(self._answered, reply)
        elif reply is not None:
            self._write(reply)
            self._idle_since = self._factory.clock.seconds()
            if self._outsider:
                self._client_done = True
                self.close()

    def _answered(self, result: bytes | Failure, pending: Deferred[bytes]) -> None:
        del self._pending[pending]
        if isinstance(result, Failure):
            result.trap(CancelledError)
            return
        self._write(result)
        self._idle_since = self._factory.clock.seconds()
        self.resetTimeout()
        if self._client_done and not self._pending:
            self.close()
        elif len(self._pending) == MAX_PENDING - 1:
            self._read_frames()

    def _leave(self) -> None:
        if self._counted:
            self._counted = False
            self._factory.connectionLost(self)

    def _write(self, reply: bytes) -> None:
        self.transport.write(len(reply).to_bytes(2, "big") + reply)

    def close(self) -> None:
        """Close the connection behind what is written already, which has a limited time."""
        self._closing = True
        self.setTimeout(self._factory.stream_limits.idle_timeout)
        self.transport.unregisterProducer()
        self.transport.loseConnection()


def _padded(query: bytes, reply: Deferred[bytes] | bytes | None) -> Deferred[bytes] | bytes | None:
    if isinstance(reply, Deferred):
        return reply.addCallback(lambda found: padded_reply(query, found))
    return padded_reply(query, reply) if reply is not None else None


class StreamFactory(ServerFactory):
    """Builds the protocols of ``factory`` for connections over TLS."""

    noisy = False

    def __init__(self, factory: StaggerServerFactory) -> None:
        self._factory = factory

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol:
        """Return the protocol of a new connection."""
        return StreamProtocol(self._factory, "tls")


class StreamPort(tcp.Port):
    """Listens for ``factory`` on one address; an IPv6 one leaves IPv4 to others, as UDP does.

    ``protocols`` builds the protocols of its connections, where that is not ``factory``.
    Raises `twisted.internet.error.CannotListenError` from ``startListening``.
    """

    def __init__(
        self,
        port: int,
        factory: StaggerServerFactory,
        interface: str,
        reactor: IReactorCore,
        protocols: IProtocolFactory | None = None,
    ) -> None:
        super().__init__(port, protocols or factory, _BACKLOG, interface, reactor)
        # Twisted logs several lines for each connection that it cannot accept, with which
        # whoever opens connections could fill a disk.
        observer = cast("ILogObserver", self.unaccepted)
        self._logger = Logger(namespace="staggerdns", observer=observer)
        self._stagger = factory
        self._quiet_until = float("-inf")
        self._rest: IDelayedCall | None = None

    def createInternetSocket(self) -> socket.socket:
        """Return the socket to bind."""
        created: socket.socket = super().createInternetSocket()
        if self.addressFamily == socket.AF_INET6:
            created.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        return created

    def unaccepted(self, event: LogEvent) -> None:
        """Take what Twisted would log; count connections that could not be accepted, say so now
        and then, and rest when one waits on: it would be tried again and again.
        """
        reason = event.get("acceptError")
        if reason is None and not event.get("log_format", "").startswith(_CLOSED):
            return
        clock, metrics = self._stagger.clock, self._stagger.metrics
        metrics.tcp_refused.cell().value += 1
        now = clock.seconds()
        if now >= self._quiet_until:
            self._quiet_until = now + QUIET
            self._stagger.journal.warn(
                "TCP connections cannot be accepted: {reason}", reason=reason or "EMFILE"
            )
        if reason in _LASTING and self._rest is None:
            self.stopReading()
            self._rest = clock.callLater(REST, self._go_on)

    def connectionLost(self, reason: Failure) -> None:
        """Close the listener."""
        if self._rest is not None:
            self._rest.cancel()
            self._rest = None
        super().connectionLost(reason)

    def _go_on(self) -> None:
        self._rest = None
        self.startReading()
