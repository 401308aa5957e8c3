"""Queries to one upstream over connections that are kept: TCP, TLS, HTTPS.

    closed   --the first query-->                opening
    opening  --the server was accepted-->        open
    opening  --no address answers in time-->     closed
    open     --the connection retires or is lost-->  closed

New queries go to one connection, opened for the first of them; those that come while it is being
opened wait for it. Others may still be draining. Nothing ever goes to another transport.

Lost connections. What was under way is sent once more on a new connection, within the time that it
has (RFC 7766 section 6.2.4). A server may close a connection after so many answers; then only the
oldest query counts as tried once, since the others were hardly read.

Failures. When the second attempt in a row to open a connection fails, or a connection is lost
before any reply, the next attempt waits, each time twice as long. Meanwhile queries fail at once,
so that other upstreams are asked. One connection or attempt is one mark against the upstream,
however many exchanges fail with it. While EDNS is not proven it may be why the server closes
connections: after the second one in a row queries go out with less of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from staggerdns.deferreds import ignore_cancellation
from staggerdns.settings.addresses import UpstreamAddress
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.connection import Connection, DnsConnection
from staggerdns.upstream.entropy import Entropy
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.happyeyeballs import HappyEyeballs
from staggerdns.upstream.https import HttpConnection
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.report import StreamReport
from staggerdns.upstream.tls import DOT, H2, Authorities, Handshake, TlsClient

FIRST_WAIT = 0.25
"""Seconds between the second failure in a row to open a connection and the next attempt."""
LONGEST_WAIT = 8.0

Resolve = Callable[[str], "Deferred[Sequence[str]]"]
"""Finds the addresses of a name, best first; none when it cannot."""


class StreamTransport:
    """Sends exchanges to the upstream at ``address``; ``report`` is told what happens.

    ``timeout``: seconds that opening a connection may take, and a reply. ``resolve`` is needed for
    an address with a name in it, ``authorities`` for an encrypted one.
    """

    def __init__(
        self,
        reactor: Any,
        clock: StandstillClock,
        address: UpstreamAddress,
        entropy: Entropy,
        report: StreamReport,
        *,
        timeout: float,
        resolve: Resolve | None = None,
        authorities: Authorities | None = None,
    ) -> None:
        self.clock = clock
        self.address = address
        self.entropy = entropy
        self.report = report
        self.timeout = timeout
        self._reactor = reactor
        self._resolve = resolve
        self._tls: TlsClient | None = None
        if address.transport in ("tls", "https"):
            alpn = H2 if address.transport == "https" else DOT
            self._tls = TlsClient(
                address.auth_name, address.pins, alpn, authorities or Authorities()
            )
        self._connection: Connection | None = None  # the one that takes queries
        self._connections: set[Connection] = set()  # all that are open, or being opened
        self._queue: dict[Exchange, None] = {}  # what waits for a connection
        self._new: Connection | None = None  # connected, and not accepted yet
        self._stop: Callable[[], None] | None = None  # ends the search for addresses, or the race
        self._deadline: IDelayedCall | None = None  # of opening a connection
        self._best = ""  # the address that has worked last,
        self._unanswered: list[str] = []  # and those that connected in vain since, latest last
        self._failures = 0  # in a row
        self._not_before = 0.0
        self._closed = False
        report.count_connections(lambda: len(self._connections))

    @property
    def tls(self) -> TlsClient | None:
        """Our side of its TLS, `None` for one that goes without."""
        return self._tls

    @property
    def failures(self) -> int:
        """Failures in a row up to now."""
        return self._failures

    def send(self, exchange: Exchange) -> None:
        """Send the exchange's query, now or when there is a connection. May end the exchange."""
        if self._closed:
            exchange.error(Reason.LOCAL)
            return
        now = self.clock.seconds()
        connection = self._connection
        if connection is not None:
            if not connection.dead(now):
                connection.carry(exchange, now)
                return
            connection.drop(Reason.TIMEOUT)
        if self._backs_off:
            exchange.error(Reason.NO_CONNECTION)
            return
        self._queue[exchange] = None
        exchange.forget = self._leave_queue
        if self._deadline is None:
            self._open()

    def close(self) -> None:
        """Drop every connection; exchanges still under way stay unanswered."""
        self._closed = True
        self._stop_opening()
        self._queue.clear()
        self._connection = None
        connections, self._connections = self._connections, set()
        for connection in connections:
            connection.close()

    # What connections report.

    def opened(self, connection: Connection, kind: str) -> None:
        """Use a new connection, whose server was accepted."""
        self._new = None
        self._stop_opening()
        self.report.connected(kind)
        self._connection = connection
        now = self.clock.seconds()
        queue, self._queue = self._queue, {}
        for exchange in queue:
            if exchange.over:
                continue
            if self._connection is connection:
                connection.carry(exchange, now)
            else:
                self.send(exchange)

    def works(self, connection: Connection) -> None:
        """Note the first reply on a connection."""
        self._failures = 0
        self._best = connection.address
        self._unanswered.clear()

    def retired(self, connection: Connection) -> None:
        """Send nothing more to a connection."""
        if self._connection is connection:
            self._connection = None

    def lost(self, connection: Connection, reason: Reason, orphans: list[Exchange]) -> None:
        """Use a connection no more, and send once more what was under way on it."""
        if not connection.answered:
            self._note_unanswered(connection.address)
        if self._new is connection:
            self._new = None
            self._failed(reason)
            return
        self.retired(connection)
        descended: list[Exchange] = []
        if reason is Reason.CLOSED and not connection.answered:
            again = self._failures > 0
            descended = [
                one for one in orphans if (again or one.resent) and one.owner.asks_for_less(one)
            ]
        if orphans and not connection.answered and not descended:
            self._note_failure(reason)
        for exchange in descended:
            exchange.forget = None
            self.report.repeated()
            self.send(exchange)
        rest = [one for one in orphans if one not in descended] if descended else orphans
        self.again(rest, reason, unread=connection.answered)

    def gone(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        self._connections.discard(connection)

    def again(self, exchanges: Iterable[Exchange], reason: Reason, *, unread: bool = False) -> None:
        """Send once more what a connection has lost for this ``reason``; not twice.

        ``unread``: for all but the first that does not count.
        """
        for number, exchange in enumerate(exchanges):
            if exchange.over:  # ended by what became of another one
                continue
            exchange.forget = None
            counts = number == 0 or not unread
            if (exchange.resent and counts) or self._backs_off:
                exchange.error(reason)
                reason = Reason.NO_CONNECTION
            else:
                exchange.resent = exchange.resent or counts
                self.report.repeated()
                self.send(exchange)

    @property
    def _backs_off(self) -> bool:
        """Whether there is no connection, and it is too early to open one."""
        at_work = self._connection is not None or self._deadline is not None
        return not at_work and self.clock.seconds() < self._not_before

    # Opening.

    def _open(self) -> None:
        self._deadline = self.clock.callLater(self.timeout, self._give_up)
        endpoint = self.address.endpoint
        if not self.address.named:
            self._connect([endpoint.host])
            return
        assert self._resolve is not None, "a name, and nobody to resolve it"
        found = self._resolve(endpoint.host)
        self._stop = found.cancel
        found.addCallbacks(self._found, ignore_cancellation)

    def _found(self, addresses: Sequence[str]) -> None:
        if addresses:
            self._unanswered = unanswered = [one for one in self._unanswered if one in addresses]
            rank = {address: number for number, address in enumerate(unanswered, 1)}
            self._connect(sorted(addresses, key=lambda one: (rank.get(one, 0), one != self._best)))
        else:
            self._failed(Reason.NO_ADDRESS)

    def _connect(self, addresses: Sequence[str]) -> None:
        race = HappyEyeballs(
            self._reactor,
            self.clock,
            addresses,
            self.address.endpoint.port,
            timeout=self.timeout,
            build=self._build,
            failed=self._failed,
        )
        self._stop = race.cancel
        race.start()

    def _build(self, address: str) -> IProtocol:
        """Return the protocol of a connection that was made."""
        handshake = Handshake(self._tls) if self._tls is not None else None
        kind = HttpConnection if self.address.transport == "https" else DnsConnection
        connection = kind(self, address, handshake)
        self._connections.add(connection)
        self._new = connection
        if handshake is None:
            return connection
        factory = TLSMemoryBIOFactory(
            handshake, isClient=True, wrappedFactory=_Ready(connection), clock=self._reactor
        )
        factory.noisy = False
        return factory.buildProtocol(None)

    def _give_up(self) -> None:
        self._deadline = None
        if self._new is not None:  # it was reached, and the handshake never ended
            self._note_unanswered(self._new.address)
        self._failed(Reason.TIMEOUT)

    def _failed(self, reason: Reason) -> None:
        """End an attempt to open a connection, and what waits for it."""
        self._stop_opening()
        self.report.failed(reason)
        self._note_failure(reason)
        queue, self._queue = self._queue, {}
        for exchange in reversed(queue):  # the one mark is for the newest
            exchange.forget = None
            if not exchange.over:
                exchange.error(reason)
                reason = Reason.LOCAL if reason is Reason.LOCAL else Reason.NO_CONNECTION

    def _note_unanswered(self, address: str) -> None:
        if address in self._unanswered:
            self._unanswered.remove(address)
        self._unanswered.append(address)

    def _note_failure(self, reason: Reason) -> None:
        if reason is Reason.LOCAL:  # nothing about the upstream, and perhaps over soon
            return
        self._failures += 1
        if self._tls is not None:
            self._tls.session = None  # resuming it may be what fails
        if self._failures > 1:
            wait = min(FIRST_WAIT * 2 ** min(self._failures - 2, 16), LONGEST_WAIT)
            self._not_before = self.clock.seconds() + wait

    def _stop_opening(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()
        new, self._new = self._new, None
        if new is not None:
            self._connections.discard(new)
            new.close()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _leave_queue(self, exchange: Exchange, *, timed_out: bool) -> None:
        self._queue.pop(exchange, None)


class _Ready(Factory):
    """A factory of one protocol, which is there already."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: IAddress | None) -> Connection:
        """Return the connection."""
        return self._connection
