"""DNS over TCP from clients (RFC 7766).

Queries on a connection are answered in the order in which the answers are found. A connection is
not read while `MAX_PENDING` of its queries are unanswered or while the client does not read the
replies. One that the client has half-closed is closed after its last reply. A client that may not
ask gets one refusal; such connections take no room from others.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IHalfCloseableProtocol
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.deferreds import ignore_cancellation
from staggerdns.server.clientconnection import MAX_PENDING, TURN_SIZE, ClientConnection
from staggerdns.server.connections import StreamServer
from staggerdns.server.listenercontext import ListenerContext
from staggerdns.server.request import TCP, TLS
from staggerdns.wire.constants import HEADER_SIZE

_LEAST_FRAME = 2 + HEADER_SIZE
DISALLOWED_TIMEOUT = 2.0
"""Seconds in which a client that may not ask has to send the query that is refused."""


@implementer(IHalfCloseableProtocol)
class StreamProtocol(ClientConnection):
    """One client connection of ``factory``; ``listener``: that of the configuration that it came
    in by, if any.
    """

    def __init__(
        self,
        factory: StreamServer,
        transport_name: str = TCP,
        listener: ListenerContext | None = None,
    ) -> None:
        super().__init__(factory.client_connections)
        self._factory = factory
        self._transport_name = transport_name  # TCP or TLS
        self._listener = listener or factory.no_listener
        self._ready = self._listener.ready[transport_name]
        self._buffer = b""
        self._pending: dict[Deferred[bytes], None] = {}
        self._client_done = False

    @property
    def pending(self) -> int:
        """Queries that wait for their answers."""
        return len(self._pending)

    def connectionMade(self) -> None:
        """Accept the connection, or drop it when there are too many."""
        super().connectionMade()
        if self.disallowed and not self.closing:
            self.set_idle_timeout(DISALLOWED_TIMEOUT)

    def dataReceived(self, data: bytes) -> None:
        """Process octets of the stream, however they are split."""
        self._buffer += data
        self._resume()

    def readConnectionLost(self) -> None:
        """Close when the client, which sends no more, has all its replies."""
        self._client_done = True
        self._close_if_done()

    def writeConnectionLost(self) -> None:
        """Close, since the client reads no more."""
        self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Cancel what the client no longer waits for."""
        super().connectionLost(reason)
        for pending in list(self._pending):
            pending.cancel()
        self._buffer = b""

    def drain(self) -> None:
        """Read no more, since the server stops, but answer what has been read."""
        self.stop_reading()
        self.readConnectionLost()

    def _is_admissible(self) -> bool:
        self.disallowed = not self._factory.access.allows(self.host)
        return True

    def _resume(self) -> None:
        """Serve the complete messages in the buffer, as far as the limits allow."""
        if self.reading:  # called by an answer that was there at once: the loop below continues
            return
        self.reading = True
        factory = self._factory
        seconds = factory.clock.seconds
        started = seconds()
        position = hits = 0
        buffer = self._buffer
        size = len(buffer)
        while len(self._pending) < MAX_PENDING and not self.blocked and not self.closing:
            replies, position, found = self._ready.reply_frames(
                buffer, position, self.host, started, TURN_SIZE - self._unsent_size
            )
            if found:
                hits += found
                self.write(b"".join(replies))
            else:
                end = position + 2 + int.from_bytes(buffer[position : position + 2], "big")
                if end > size:
                    break
                self._serve(buffer[position + 2 : end])
                if end - position > _LEAST_FRAME and not self.disallowed:
                    self.query_began()  # a shorter message is no sign of life
                position = end
            if position == size:
                break
        if hits:
            self.query_began()
            factory.observe_ready((seconds() - started) / hits, hits)
        self._buffer = buffer[position:]
        self.reading = False
        self.flush()
        if len(self._pending) >= MAX_PENDING or self.blocked:
            self.stop_reading()
        elif self.reading_stopped and not self._client_done:
            self.start_reading()
        self._close_if_done()

    def _serve(self, message: bytes) -> None:
        factory = self._factory
        try:
            now = factory.clock.seconds()
            reply = factory.serve(message, self.host, self._transport_name, now, self._listener)
        except Exception:  # noqa: BLE001 (a defect must cost one reply, not the connection)
            factory.journal.failure("a message could not be answered")
            return
        if isinstance(reply, Deferred):
            self._pending[reply] = None
            reply.addBoth(self._answered, reply)
        elif reply is not None:
            self._write(reply)
            if self.disallowed:
                self.close()

    def _answered(self, result: bytes | Failure, pending: Deferred[bytes]) -> None:
        del self._pending[pending]
        if isinstance(result, Failure):
            ignore_cancellation(result)
            return
        self._write(result)
        self.query_ended()
        if len(self._pending) == MAX_PENDING - 1:
            self._resume()
        else:
            self._close_if_done()

    def _close_if_done(self) -> None:
        if self._client_done and not self._pending and not self.blocked and not self.reading:
            self.close()

    def _write(self, reply: bytes) -> None:
        self.write(len(reply).to_bytes(2, "big") + reply)


class StreamFactory(ServerFactory):
    """Builds the protocols of ``factory`` for connections to one listener, over TCP or TLS."""

    noisy = False

    def __init__(
        self,
        factory: StreamServer,
        transport_name: str = TLS,
        listener: ListenerContext | None = None,
    ) -> None:
        self._factory = factory
        self._transport_name = transport_name
        self._listener = listener

    def buildProtocol(self, addr: IAddress | None) -> StreamProtocol:
        """Return the protocol of a new connection."""
        return StreamProtocol(self._factory, self._transport_name, self._listener)
