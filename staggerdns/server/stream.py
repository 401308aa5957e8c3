"""DNS over TCP from clients (RFC 7766).

A connection carries any number of queries at once, each answered when its answer is there, in
whatever order. A connection may have `MAX_PENDING` unanswered queries, and is not read while it
has them or while the client does not take its replies. It is closed when no whole query came
for the idle timeout; one that the client has half-closed is closed after its last reply.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from staggerdns.server.factory import StaggerServerFactory

MAX_PENDING = 100
"""Queries of one connection under way at once."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class StreamProtocol(Protocol, TimeoutMixin):
    """One client connection of ``factory``."""

    transport: Any  # a TCP or TLS transport, which has more than ITransport says

    def __init__(self, factory: StaggerServerFactory) -> None:
        self._factory = factory
        self._buffer = b""
        self._pending: dict[Deferred[bytes], None] = {}
        self._reading = False
        self._accepted = False
        self._client_done = False
        self._blocked = False  # the client does not take its replies
        self._closing = False
        self._host = ""
        self.callLater = factory.clock.callLater  # type: ignore[method-assign, assignment]

    def connectionMade(self) -> None:
        """Accept the connection, or drop it when there are too many."""
        factory = self._factory
        if len(factory.connections) >= factory.stream_limits.max_connections:
            factory.metrics.tcp_refused.cell().value += 1
            self.transport.abortConnection()
            return
        self._accepted = True
        self._host = self.transport.getPeer().host
        factory.connectionMade(self)
        self.transport.setTcpNoDelay(True)
        self.transport.registerProducer(self, True)
        self.setTimeout(factory.stream_limits.idle_timeout)

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
        if self._accepted:
            self._factory.connectionLost(self)
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
        while len(self._pending) < MAX_PENDING and not self._blocked:
            end = position + 2 + int.from_bytes(buffer[position : position + 2], "big")
            if len(buffer) - position < 2 or end > len(buffer):
                break
            self._serve(buffer[position + 2 : end])
            position = end
            self.resetTimeout()
        self._buffer = buffer[position:]
        self._reading = False
        if len(self._pending) >= MAX_PENDING or self._blocked:
            self.transport.pauseProducing()
        elif not self._client_done:
            self.transport.resumeProducing()

    def _serve(self, message: bytes) -> None:
        try:
            reply = self._factory.serve(message, self._host, "tcp")
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the connection)
            self._factory.journal.failure("a message could not be answered")
            return
        if isinstance(reply, Deferred):
            self._pending[reply] = None
            reply.addBoth(self._answered, reply)
        elif reply is not None:
            self._write(reply)

    def _answered(self, result: bytes | Failure, pending: Deferred[bytes]) -> None:
        del self._pending[pending]
        if isinstance(result, Failure):
            result.trap(CancelledError)
            return
        self._write(result)
        self.resetTimeout()
        if self._client_done and not self._pending:
            self.close()
        elif len(self._pending) == MAX_PENDING - 1:
            self._read_frames()

    def _write(self, reply: bytes) -> None:
        self.transport.write(len(reply).to_bytes(2, "big") + reply)

    def close(self) -> None:
        """Close the connection behind what is written already, which has a limited time."""
        self._closing = True
        self.setTimeout(self._factory.stream_limits.idle_timeout)
        self.transport.unregisterProducer()
        self.transport.loseConnection()
