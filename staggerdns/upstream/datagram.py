"""Queries to one upstream over UDP.

Each upstream has up to `SOCKETS` connected sockets, each bound to a random port. A query takes
one of them at random and a random ID that is new to it, so ports stay unpredictable (RFC 5452
section 9.2) at a fraction of the cost of a socket per query. A socket is replaced

* when it has sent `QUERIES_PER_SOCKET` queries, or is `LIFETIME` old,
* when a query on it timed out or could not be sent: our address or the route may have changed,
* when somebody guesses at its IDs; the queries that wait on it then go out once more over TCP.

The kernel delivers to a connected socket only what comes from the upstream's address and port, and
reports ICMP errors on it. Those do not say whose query they are about, and may be forged: they are
hints for all that wait on the socket.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from errno import EADDRINUSE, EMFILE, ENFILE

from staggerdns.settings.addresses import Endpoint
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.readers import Reader, Readers
from staggerdns.upstream.reason import Reason, of_errno
from staggerdns.wire.constants import MAX_MESSAGE
from staggerdns.wire.reply import Mismatch, mismatch, repeats

SOCKETS = 8
QUERIES_PER_SOCKET = 128
LIFETIME = 60.0
"""Seconds; looked at when the socket is next used."""
MAX_REJECTED = 8
"""Messages with a wrong ID that one socket receives before it is given up."""
LOWEST_PORT = 1024
_BIND_ATTEMPTS = 16
_READS_PER_WAKE_UP = 16


class DatagramTransport:
    """Sends exchanges to ``endpoint``.

    ``rejected`` is told why a message was not accepted, ``moved`` which of our addresses is used.
    """

    def __init__(
        self,
        readers: Readers,
        endpoint: Endpoint,
        entropy: Entropy,
        rejected: Callable[[Mismatch], None],
        moved: Callable[[str], None],
    ) -> None:
        self._readers = readers
        self._endpoint = endpoint
        self._entropy = entropy
        self.rejected = rejected
        self._moved = moved
        self._sockets: list[_ConnectedSocket | None] = [None] * SOCKETS
        self._retiring: set[_ConnectedSocket] = set()

    def send(self, exchange: Exchange) -> None:
        """Send the exchange's query; a network error ends the exchange before this returns."""
        slot = self._entropy.below(SOCKETS)
        held = self._sockets[slot]
        try:
            try:
                if held is None or exchange.started >= held.spent_at:
                    held = self._socket_in(slot, exchange.started)
                held.send(exchange)
            except BlockingIOError:
                raise
            except OSError:  # the socket may be at fault: a new one shows
                self._empty(slot)
                self._socket_in(slot, exchange.started).send(exchange)
        except OSError as error:
            exchange.error(of_errno(error.errno))

    def close(self) -> None:
        """Close every socket; exchanges still under way stay unanswered."""
        for connected in [*self._sockets, *self._retiring]:
            if connected is not None:
                connected.close()
        self._sockets = [None] * SOCKETS
        self._retiring.clear()

    def _socket_in(self, slot: int, now: float) -> _ConnectedSocket:
        """Return the socket in ``slot``, a new one when the old one has had its time."""
        held = self._sockets[slot]
        if held is not None and now < held.spent_at:
            return held
        self._empty(slot)
        try:
            opened = self._sockets[slot] = self._open(now)
        except OSError as error:
            # Out of descriptors: fewer ports to guess at are better than no answers.
            others = [other for other in self._sockets if other and now < other.spent_at]
            if error.errno not in (EMFILE, ENFILE) or not others:
                raise
            return others[self._entropy.below(len(others))]
        return opened

    def _empty(self, slot: int) -> None:
        held, self._sockets[slot] = self._sockets[slot], None
        if held is not None:
            self._retire(held)

    def _open(self, now: float) -> _ConnectedSocket:
        host = self._endpoint.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        opened = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._bind_randomly(opened, "::" if family == socket.AF_INET6 else "0.0.0.0")
            opened.connect(self._endpoint.place)
            self._moved(opened.getsockname()[0])
        except OSError:
            opened.close()
            raise
        return _ConnectedSocket(self, self._readers, opened, self._entropy, now)

    def _bind_randomly(self, opened: socket.socket, any_address: str) -> None:
        for attempt in range(_BIND_ATTEMPTS):
            port = LOWEST_PORT + self._entropy.below(65536 - LOWEST_PORT)
            try:
                opened.bind((any_address, port))
            except OSError as error:
                if error.errno != EADDRINUSE or attempt == _BIND_ATTEMPTS - 1:
                    raise
            else:
                return

    def _retire(self, connected: _ConnectedSocket) -> None:
        """Keep a spent socket only as long as it waits for replies."""
        if connected.idle:
            connected.close()
        else:
            self._retiring.add(connected)

    def drained(self, connected: _ConnectedSocket) -> None:
        """Close a retiring socket that waits for nothing any more; called by the socket."""
        if connected in self._retiring:
            self._retiring.remove(connected)
            connected.close()


class _ConnectedSocket(Reader):
    """One socket and the exchanges that wait on it, by message ID."""

    def __init__(
        self,
        transport: DatagramTransport,
        readers: Readers,
        connected: socket.socket,
        entropy: Entropy,
        now: float,
    ) -> None:
        self._transport = transport
        self._readers = readers
        self._socket = connected
        self._entropy = entropy
        self._waiting: dict[bytes, Exchange] = {}
        self._used: set[bytes] = set()  # IDs of all queries; their replies may come late, or twice
        self._rejected = 0
        self.spent_at = now + LIFETIME
        """When it sends nothing more: or at once, see above."""
        readers.add(self)

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    @property
    def idle(self) -> bool:
        """Whether nothing waits for a reply here."""
        return not self._waiting

    def send(self, exchange: Exchange) -> None:
        """Send a query under a fresh ID. Raises `OSError` when the system does not take it."""
        waiting, used = self._waiting, self._used
        message_id = self._entropy.take()
        while message_id in used:
            message_id = self._entropy.take()
        used.add(message_id)
        if len(used) >= QUERIES_PER_SOCKET:
            self.spent_at = 0.0
        message = message_id + exchange.query
        refused: Sequence[Exchange] = ()
        try:
            self._socket.send(message)
        except ConnectionRefusedError:
            # The system reports the refusal of an earlier query, and has not sent this one.
            self._socket.send(message)
            refused = tuple(waiting.values())
        waiting[message_id] = exchange
        exchange.message_id = message_id
        exchange.forget = self._forget
        for earlier in refused:
            earlier.hint(Reason.CONNECTION_REFUSED)

    def read(self) -> None:
        """Read the replies that have come, or the error."""
        receive = self._socket.recv
        waiting = self._waiting
        for _ in range(_READS_PER_WAKE_UP):
            try:
                message = receive(MAX_MESSAGE)  # not only what EDNS has offered
            except BlockingIOError:
                break
            except OSError as error:
                self._hint(of_errno(error.errno))
                break
            message_id = message[:2]
            exchange = waiting.get(message_id)
            if exchange is None:
                self._reject(message_id)
                continue
            repeated = repeats(message, exchange.query, exchange.question.end)
            reason = None if repeated else mismatch(message, exchange.question)
            if reason is not None:
                self._transport.rejected(reason)
                continue
            del waiting[message_id]
            exchange.forget = None
            still = exchange.owner.received(exchange, message, over_stream=False, repeated=repeated)
            if still and exchange.forget is None:
                # The right reply may be behind one that may be forged.
                waiting[message_id] = exchange
                exchange.forget = self._forget
            if not waiting:
                break
        if not waiting:
            self._transport.drained(self)

    def _reject(self, message_id: bytes) -> None:
        """Count a message with the ID of no query that waits."""
        if message_id in self._used:
            self._transport.rejected(Mismatch.LATE)
            return
        self._rejected += 1
        self._transport.rejected(Mismatch.ID)
        if self._rejected == MAX_REJECTED:
            self._retry_over_tcp()

    def _retry_over_tcp(self) -> None:
        """Send what waits here over TCP: somebody guesses at the IDs, and knows the port."""
        self.spent_at = 0.0
        endangered = list(self._waiting.values())
        self._waiting.clear()
        for exchange in endangered:
            exchange.forget = None
            exchange.retry_over_tcp()

    def close(self) -> None:
        """Close the socket."""
        self._readers.remove(self)
        self._socket.close()

    def _hint(self, reason: Reason) -> None:
        for exchange in list(self._waiting.values()):
            exchange.hint(reason)

    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        if timed_out:
            self.spent_at = 0.0
        del self._waiting[exchange.message_id]
        if not self._waiting:
            self._transport.drained(self)
