"""What all connections of clients have in common: DNS over TCP and TLS, HTTP/1.1 and HTTP/2.

Each is one of the `Connections`, and closed when it has been idle for the idle timeout. It is idle
while none of its queries waits for an answer; the time counts from the last whole query or answer,
whatever other octets come.

A connection is not read while its client does not read the replies, and aborted when that lasts for
the idle timeout. Replies that are written while input is being processed are sent in one piece.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.protocols.policies import TimeoutMixin
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.server.clientgroups import ClientGroup
from staggerdns.server.connections import Connections

MAX_PENDING = 100
"""Queries of one connection under way at once."""
TURN_SIZE = 2048
"""Octets that are read at one wake-up, and octets of replies that may wait before reading pauses:
a flood of queries on one connection takes turns with all others.
"""
_ROUNDING = 1e-6


@implementer(IPushProducer)
class ClientConnection(Protocol, TimeoutMixin):
    """One of ``connections``.

    Subclasses speak the protocol: they override `pending` and what follows it, and call
    `query_began` and `query_ended` for each query.
    """

    coalesces = True
    """Whether replies that are ready together may be sent in one piece."""
    transport: Any  # a TCP or TLS transport, which has more than ITransport says

    def __init__(self, connections: Connections) -> None:
        self.host = ""
        self.client_group: ClientGroup | None = None
        self.disallowed = False  # its client may not ask
        self.draining = False  # accepts no more queries
        self.blocked = False  # the client does not read, and the transport is full
        self.closing = False
        self._connections = connections
        self._clock = connections.clock
        self._idle_since = 0.0
        self._idle_timeout = connections.idle_timeout
        self.reading = False
        self.reading_stopped = False
        self._unsent: deque[bytes] = deque()
        self._unsent_size = 0
        self.last_write = 0
        self._in_transport = 0  # octets, while blocked
        self._unread = 0  # octets, as reported
        self._ended = False
        self.callLater = self._clock.callLater  # type: ignore[method-assign, assignment]

    # What subclasses override.

    @property
    def pending(self) -> int:
        """Queries that wait for their answers."""
        return 0

    @property
    def flow_blocked(self) -> int:
        """Octets of replies that flow control does not let us send yet."""
        return 0

    def _is_admissible(self) -> bool:
        """Return whether to accept the connection; note in `disallowed` if it may not ask."""
        return True

    def _resume(self) -> None:
        """Continue reading, and serve what has been read already."""

    def _announce_end(self) -> None:
        """Tell the client that the connection ends, where its protocol has words for that."""

    # The life of a connection.

    def connectionMade(self) -> None:
        """Accept the connection, or drop it when there are too many."""
        connections = self._connections
        self.host = self.transport.getPeer().host
        self.client_group = connections.client_groups.find(self.host)
        self._idle_since = self._clock.seconds()
        if not self._is_admissible():
            connections.refused.value += 1
            self.abort()
            return
        if not connections.admit(self):
            self.abort()
            return
        self.transport.setTcpNoDelay(True)
        self.tcp_transport.bufferSize = TURN_SIZE
        self.transport.registerProducer(self, True)
        self.setTimeout(self._idle_timeout)

    @property
    def tcp_transport(self) -> Any:
        """The TCP connection, which may be below one of TLS."""
        return getattr(self.transport, "transport", self.transport)

    @property
    def idle_since(self) -> float | None:
        """The time since which no query waits here, `None` when one does."""
        return None if self.pending else self._idle_since

    def move_to(self, connections: Connections) -> bool:
        """Become one of other connections, if these have room; return whether they have."""
        if not connections.admit(self):
            return False
        self._connections.remove(self)
        self._connections = connections
        self._unread = 0
        self.note_unread()
        return True

    def query_began(self) -> None:
        """Note that a whole query has come."""
        self._idle_since = self._clock.seconds()

    def query_ended(self) -> None:
        """Note that a query has its answer, or needs none any more."""
        self._idle_since = self._clock.seconds()
        if self.draining and not self.pending and not self.flow_blocked:
            self.close()

    def abort(self) -> None:
        """Abort the connection, with all that has not been sent."""
        self._end()
        self.transport.abortConnection()

    def drain(self) -> None:
        """Accept no more queries, since the server stops; close when all are answered."""
        self.draining = True
        if not self.pending and not self.flow_blocked:
            self.close()

    def close(self) -> None:
        """Close the connection when what is written has been sent, for which it has a timeout."""
        if self.closing:
            return
        self.draining = True
        self._announce_end()
        self.closing = True
        self.setTimeout(self._connections.idle_timeout)
        self.flush()
        self._close_when_sent()

    def set_idle_timeout(self, seconds: float) -> None:
        """Set for how long the connection may be idle; it has just been made."""
        self._idle_timeout = seconds
        self.setTimeout(seconds)

    def timeoutConnection(self) -> None:
        """Close the connection if it has been idle for so long; called by the timer.

        Queries do not set the timer anew: that would cost more than their answers do.
        """
        rest = self._idle_since + self._idle_timeout - self._clock.seconds()
        if rest > _ROUNDING and not self.closing:
            self.setTimeout(rest)
        else:
            self._idle_too_long()

    def _idle_too_long(self) -> None:
        """Close the connection, unless an answer is still to come.

        One whose client does not read is aborted: its replies could not be sent before the end.
        """
        if self.blocked or self.closing or self.flow_blocked:
            self.abort()
        elif self.pending:
            self.setTimeout(self._idle_timeout)
        else:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Drop what has not been sent."""
        self.setTimeout(None)
        self._end()

    # Writing.

    def write(self, data: bytes) -> None:
        """Send ``data``, at once or with the other replies to the input that is being processed."""
        self._unsent.append(data)
        self._unsent_size += len(data)
        if not self.reading or self._unsent_size >= TURN_SIZE:
            self.flush()

    def flush(self) -> None:
        """Send what waits, until the transport is full."""
        unsent = self._unsent
        while unsent and not self.blocked:
            data = unsent.popleft()
            while self.coalesces and unsent and len(data) < TURN_SIZE:
                data += unsent.popleft()
            self._unsent_size -= len(data)
            self.last_write = len(data)
            self.transport.write(data)
        self.note_unread()

    def note_unread(self) -> None:
        """Report to the `Connections` how many octets the client has yet to read."""
        unread = self._in_transport + self._unsent_size + self.flow_blocked
        if unread != self._unread and not self._ended:
            self._unread = unread
            self._connections.note_unread(self, unread)

    def pauseProducing(self) -> None:
        """Stop reading while the transport is full, since the client does not read."""
        self.blocked = True
        self._in_transport = self.last_write + TURN_SIZE
        self.stop_reading()
        self.note_unread()

    def resumeProducing(self) -> None:
        """Continue after the client has read what was sent."""
        self.blocked = False
        self._in_transport = 0
        self.flush()
        if self.blocked:
            return
        if self.closing:
            self._close_when_sent()
        else:
            self._resume()

    def stop_reading(self) -> None:
        """Read nothing that the client sends."""
        self.reading_stopped = True
        self.transport.pauseProducing()

    def start_reading(self) -> None:
        """Read on."""
        self.reading_stopped = False
        self.transport.resumeProducing()

    def stopProducing(self) -> None:
        """Stop nothing: there is nothing to send but replies."""

    def _close_when_sent(self) -> None:
        if not self._unsent:
            self.transport.unregisterProducer()
            self.transport.loseConnection()

    def _end(self) -> None:
        self._ended = True
        self.draining = True
        self.closing = True
        self._unsent.clear()
        self._unsent_size = 0
        self._connections.remove(self)
