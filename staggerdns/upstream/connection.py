"""One connection to an upstream, and the exchanges that wait on it.

    opening --certificate accepted--> open --told to, full, idle--> retired --drained--> closed

Queries go out as they come, and replies may come in any order (RFC 7766 sections 6.2.1.1 and 7).
The ID of an exchange that gave up is not used again until its reply has come. An idle connection is
closed after the time that the upstream says (RFC 7828), else after `IDLE_TIMEOUT`. A connection
that has been asked and stays silent is dead: something on the way may drop all its packets.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from typing import Protocol as TypingProtocol

from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.report import StreamReport
from staggerdns.upstream.tls import Handshake
from staggerdns.wire.edns import KEEPALIVE_WANTED, keepalive, with_options
from staggerdns.wire.reply import Mismatch, mismatch, repeats

IDLE_TIMEOUT = 30.0
"""Seconds that an idle connection is kept when its upstream does not say for how long."""
LONGEST_IDLE = 120.0
"""Seconds that an idle connection is kept at most."""
CLOSING_TIME = 2.0
"""Seconds that a connection may take to close in order."""
_FIRST_LOOK = 0.001  # behind the first query
MAX_TAKEN = 4096
"""Queries of one connection without a reply, those of exchanges that gave up included."""


class ConnectionOwner(TypingProtocol):
    """The transport that a connection belongs to, as the connection knows it.

    ``timeout``: seconds that a reply may take; ``report`` is told what happens.
    """

    clock: StandstillClock
    address: UpstreamAddress
    entropy: Entropy
    report: StreamReport
    timeout: float

    def opened(self, connection: Connection, kind: str) -> None:
        """Use a new connection, whose server was accepted."""

    def works(self, connection: Connection) -> None:
        """Note the first reply on a connection."""

    def retired(self, connection: Connection) -> None:
        """Send nothing more to a connection."""

    def lost(self, connection: Connection, reason: Reason, orphans: list[Exchange]) -> None:
        """Use a connection no more, and see to what was under way on it."""

    def gone(self, connection: Connection) -> None:
        """Forget a connection that is closed."""

    def again(self, exchanges: Iterable[Exchange], reason: Reason) -> None:
        """Send once more what a connection has lost for this ``reason``; not twice."""


@implementer(IHandshakeListener)
class Connection(Protocol, ABC):
    """A connection of ``owner``; ``tls`` is its handshake if it is encrypted.

    Subclasses say how a query travels: they fill ``waiting``, whose keys are theirs to choose.
    """

    transport: Any  # a TCP or TLS transport, which has more than ITransport says

    def __init__(self, owner: ConnectionOwner, address: str, tls: Handshake | None) -> None:
        self.address = address
        self.waiting: dict[Any, Exchange] = {}
        self.retired = False
        self.answered = False
        self._owner = owner
        self._clock = owner.clock
        self._tls = tls
        self._lost = False
        self._problem = ""
        self._idle = IDLE_TIMEOUT
        self._used = self._clock.seconds()
        self._silent_since: float | None = None  # the last sign of life, or the first query since
        self._timer: IDelayedCall | None = None
        self._set_tcp: Callable[[int, int], None] = lambda *_: None  # of the socket

    # What the owner asks for.

    def carry(self, exchange: Exchange, now: float) -> None:
        """Send the exchange's query; the connection is open and not retired."""
        self._used = now
        if self._silent_since is None:
            self._silent_since = now
        exchange.forget = self._forget
        self._send(exchange)
        exchange.owner.carried(exchange)

    def dead(self, now: float) -> bool:
        """Return whether the connection has been silent for longer than a reply may take, or since
        a standstill in which the network may have forgotten it.
        """
        return self._silent_for(self._owner.timeout, now) or self._used < self._clock.woke_late

    def drop(self, reason: Reason) -> None:
        """Close the connection at once; what waits is the owner's concern again."""
        if not self._lost:
            self._leave(reason)
            self.transport.abortConnection()

    def close(self) -> None:
        """Close the connection at once; exchanges under way stay unanswered."""
        self._lost = True
        self._orphans()
        self._disarm()
        if self.transport is not None:
            self.transport.abortConnection()

    def retire(self) -> None:
        """Accept no more queries, and close when the last reply has come."""
        if not self.retired:
            self.retired = True
            self._owner.retired(self)
            self._settle()

    # What Twisted calls.

    def connectionMade(self) -> None:
        """Open the connection for queries, with TLS only after the handshake."""
        transport = self.transport
        if ITCPTransport.providedBy(transport):
            self._set_tcp = partial(self.transport.socket.setsockopt, socket.IPPROTO_TCP)
        self._set_tcp(socket.TCP_NODELAY, 1)
        # The kernel notices, too, when nobody acknowledges what we send (RFC 5482).
        self._set_tcp(socket.TCP_USER_TIMEOUT, int(self._owner.timeout * 1000))
        if self._tls is None:
            self._open("tcp")

    def handshakeCompleted(self) -> None:
        """Accept the server's certificate, or drop the connection."""
        assert self._tls is not None
        self._problem = self._tls.finish()
        if self._problem:
            self._refuse(Reason.CERTIFICATE, self._problem)
        elif not self._tls.speaks:
            self._refuse(Reason.TLS, self._tls.unspoken)
        else:
            self._open("resumed" if self._tls.resumed else "full")

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Return what waits to the owner."""
        why = Reason.CLOSED
        if self._tls is not None:
            explained = self._tls.explain(reason)
            if explained is not None:
                why = explained[0]
                if not self._lost:
                    self._owner.report.refused(*explained)
            self._tls.end()
        self._leave(why)
        self._disarm()
        self._owner.gone(self)

    # For subclasses.

    def _begin(self) -> None:
        """Send what comes before any query."""

    def _goodbye(self) -> None:
        """Send what comes last on a connection that closes in order."""

    @abstractmethod
    def _send(self, exchange: Exchange) -> None:
        """Send the exchange's query."""

    @abstractmethod
    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        """Note that nobody waits for the exchange's reply any more."""

    def _orphans(self) -> list[Exchange]:
        """Remove and return what waits, in the order of asking."""
        orphans = list(self.waiting.values())
        self.waiting.clear()
        return orphans

    def _acknowledge(self) -> None:
        # A server with Nagle's algorithm sends no reply before the last one is acknowledged, so
        # the kernel must not delay that. The option has to be set each time (tcp(7)).
        self._set_tcp(socket.TCP_QUICKACK, 1)

    def _alive(self) -> None:
        """Note a sign of life: silence counts from now on, if queries still wait."""
        self._used = now = self._clock.seconds()
        self._silent_since = now if self._busy else None

    def _note_answer(self) -> None:
        """Note a reply: the connection is not only open, its server answers."""
        if not self.answered:
            self.answered = True
            if self._tls is not None:
                self._tls.keep_session()
            self._owner.works(self)

    def _given_up(self, *, timed_out: bool) -> None:
        """Drop the connection if it is dead, close it if it is drained: an exchange gave up."""
        # Half the time is enough: the exchange may have waited for the connection before.
        if timed_out and self._silent_for(self._owner.timeout / 2, self._clock.seconds()):
            self.drop(Reason.TIMEOUT)
        else:
            self._settle()

    def _silent_for(self, seconds: float, now: float) -> bool:
        since = self._silent_since
        return since is not None and now - since >= seconds

    def _settle(self) -> None:
        """Close a retired connection that waits for nothing more."""
        if self.retired and not self._busy and not self._lost:
            self._finish()

    @property
    def _busy(self) -> bool:
        return bool(self.waiting)

    def _keep_for(self, seconds: float) -> None:
        """Keep the idle connection for as long as the upstream says that it does."""
        if seconds <= 0:
            self.retire()  # RFC 7828 section 3.2.2
        elif min(seconds, LONGEST_IDLE) != self._idle and not self._lost:
            self._idle = min(seconds, LONGEST_IDLE)
            self._disarm()
            self._timer = self._clock.callLater(self._idle, self._look)

    # The rest.

    def _open(self, kind: str) -> None:
        self._used = self._clock.seconds()
        self._timer = self._clock.callLater(_FIRST_LOOK, self._look)
        self._begin()
        self._owner.opened(self, kind)

    def _refuse(self, reason: Reason, detail: str) -> None:
        self._owner.report.refused(reason, detail)
        self.drop(reason)

    def _look(self) -> None:
        """Close an idle connection; look again later at any other."""
        self._timer = None
        self._set_tcp(socket.TCP_QUICKACK, 1)  # for the session tickets: see _acknowledge
        rest = self._idle if self._busy else self._used + self._idle - self._clock.seconds()
        if rest > 0:
            self._timer = self._clock.callLater(rest, self._look)
        else:
            self.retire()

    def _finish(self) -> None:
        """Close in order; whoever does not answer the goodbye is cut off."""
        self._leave(Reason.CLOSED)
        self._goodbye()
        self.transport.loseConnection()
        self._timer = self._clock.callLater(CLOSING_TIME, self._cut)

    def _cut(self) -> None:
        self._timer = None
        self.transport.abortConnection()

    def _leave(self, reason: Reason) -> None:
        if not self._lost:
            self._lost = self.retired = True
            self._disarm()
            self._owner.lost(self, reason, self._orphans())

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class DnsConnection(Connection):
    """DNS messages behind their length (RFC 1035 section 4.2.2), over TCP or TLS."""

    def __init__(self, owner: ConnectionOwner, address: str, tls: Handshake | None) -> None:
        super().__init__(owner, address, tls)
        self._buffer = b""
        self._asked_to_keep = False
        self._abandoned: set[bytes] = set()

    def dataReceived(self, data: bytes) -> None:
        """Read the replies in the stream, however it is cut into segments."""
        if self._lost:
            return
        self._acknowledge()
        buffer = self._buffer + data
        position, size = 0, len(buffer)
        while size - position >= 2 and not self._lost:
            start = position + 2
            end = start + (buffer[position] << 8 | buffer[position + 1])
            if end > size:
                break
            position = end
            self._take(buffer[start:end])
        self._buffer = buffer[position:]
        self._alive()
        self._settle()

    def _send(self, exchange: Exchange) -> None:
        waiting, abandoned, entropy = self.waiting, self._abandoned, self._owner.entropy
        message_id = entropy.take()
        while message_id in waiting or message_id in abandoned:
            message_id = entropy.take()
        waiting[message_id] = exchange
        exchange.message_id = message_id
        query = exchange.query
        exchange.optioned = exchange.level == FULL and (
            self._tls is not None or not self._asked_to_keep
        )
        if exchange.optioned:
            options = b"" if self._asked_to_keep else KEEPALIVE_WANTED
            self._asked_to_keep = True
            size = len(exchange.question.section)
            query = with_options(query, size, options, padded=self._tls is not None)
        self.transport.write((2 + len(query)).to_bytes(2, "big") + message_id + query)
        if len(waiting) + len(abandoned) >= MAX_TAKEN:
            self.retire()

    def _take(self, message: bytes) -> None:
        message_id = message[:2]
        exchange = self.waiting.pop(message_id, None)
        if exchange is None:
            if message_id in self._abandoned:
                self._abandoned.remove(message_id)
                self._note_answer()
            else:
                self._owner.report.rejected(Mismatch.ID)
                self.drop(Reason.MISMATCH)
            return
        exchange.forget = None
        repeated = repeats(message, exchange.query, exchange.question.end)
        reason = None if repeated else mismatch(message, exchange.question)
        if reason is not None:
            self._owner.report.rejected(reason)
            exchange.error(Reason.MISMATCH)
            self.drop(Reason.MISMATCH)
            return
        self._note_answer()
        seconds = keepalive(message)
        if seconds is not None:
            self._keep_for(seconds)
        try:
            exchange.owner.received(exchange, message, over_stream=True, repeated=repeated)
        except Exception:
            exchange.error(Reason.MISMATCH)  # it waits nowhere any more
            raise

    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        if self.waiting.pop(exchange.message_id, None) is not None:
            self._abandoned.add(exchange.message_id)
            self._given_up(timed_out=timed_out)
