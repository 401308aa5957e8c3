"""An upstream over streams on a reactor in memory: what tests of all stream transports share."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any, cast

from twisted.internet import error
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from staggerdns.metrics import Metrics
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.edns import FULL
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.tls import Authorities
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import make_question
from tests.kit.acts import A, name, says
from tests.kit.upstreams import make_upstream

if TYPE_CHECKING:
    from collections.abc import Callable

    from staggerdns.upstream.exchange import Exchange, Outcome
    from staggerdns.upstream.stream import Resolve

WWW = make_question(name("www.example"), A)
REFUSED = error.getConnectError((errno.ECONNREFUSED, "refused"))


class SteadyReactor(MemoryReactorClock):
    """A reactor in memory that makes each call in time, however far it is advanced at once."""

    def advance(self, amount: float) -> None:
        """Let so many seconds pass."""
        end = self.rightNow + amount
        while self.calls and self.calls[0].getTime() <= end:
            super().advance(max(0.0, self.calls[0].getTime() - self.rightNow))
        super().advance(max(0.0, end - self.rightNow))


class StreamUpstream:
    """The upstream at ``where``, how its exchanges ended, and what it wanted to connect to."""

    def __init__(self, where: str, timeout: float = 3.0, resolve: Resolve | None = None) -> None:
        self.reactor = cast("Any", SteadyReactor())
        self.reactor.advance(1000)
        self.metrics = Metrics()
        self.clock = StandstillClock(self.reactor)
        self.upstream = make_upstream(
            where,
            self.clock,
            self.metrics,
            reactor=self.reactor,
            resolve=resolve,
            authorities=Authorities(),
            timeout=timeout,
        )
        self.upstream.dialect.edns.proven = FULL  # as if it had answered before
        self.outcomes: list[Outcome] = []
        self._made = 0

    def ask(self, then: Callable[[], object] = lambda: None) -> Exchange:
        """Ask for WWW; ``then`` is called with the outcome."""
        exchange = self.upstream.ask(Judge(WWW), "active", self.clock.seconds())

        def take(outcome: Outcome, _: Exchange) -> None:
            self.outcomes.append(outcome)
            then()

        exchange.on_outcome(take)
        return exchange

    @property
    def attempts(self) -> int:
        """Connections that our side has wanted."""
        return len(self.reactor.tcpClients)

    def next_attempt(self) -> tuple[str, int, Any]:
        """Host, port and factory of the next connection that is wanted."""
        host, port, factory = self.reactor.tcpClients[self._made][:3]
        self._made += 1
        return host, port, factory

    def reasons(self) -> list[Reason | None]:
        """Why exchanges have failed since the last call, `None` for a good one."""
        found = [outcome.reason for outcome in self.outcomes]
        self.outcomes.clear()
        return found


class MemoryTransport(StringTransport):
    """Notes how it is closed."""

    socket: Any  # which only TLS asks for

    def __init__(self) -> None:
        super().__init__()
        self._aborted = False

    def abortConnection(self) -> None:
        """Note it."""
        self._aborted = True

    def closing(self) -> bool:
        """Return whether it is being closed in order."""
        return self.disconnecting

    def cut(self) -> bool:
        """Return whether it was closed at once, without a goodbye."""
        return self._aborted


class TcpServerEnd:
    """One connection in memory: what our side wrote to it, and what the server says."""

    def __init__(self, factory: Any) -> None:
        self.protocol = factory.buildProtocol(None)
        self.transport = MemoryTransport()
        self.protocol.makeConnection(self.transport)
        self._taken = 0

    def queries(self) -> list[bytes]:
        """The queries since the last call, without their lengths."""
        data, found = self.transport.value()[self._taken :], []
        self._taken += len(data)
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            found.append(data[2:end])
            data = data[end:]
        return found

    def answer(self, query: bytes, *options: bytes) -> None:
        """Answer ``query``, with an OPT record that holds these options."""
        self.protocol.dataReceived(framed(good_reply(query, *options)))

    def lose(self) -> None:
        """End the connection, as the server does."""
        self.protocol.connectionLost(Failure(error.ConnectionDone()))


class TcpUpstream(StreamUpstream):
    """An upstream on a reactor in memory, and its connections."""

    def __init__(self, timeout: float = 3.0, *, ecs: str = "") -> None:
        super().__init__("tcp://192.0.2.1:5353" + ecs, timeout)

    def connect(self) -> TcpServerEnd:
        """Make the next connection that is wanted."""
        host, port, factory = self.next_attempt()
        assert (host, port) == ("192.0.2.1", 5353)
        return TcpServerEnd(factory)

    def refuse(self, reason: Exception | None = None) -> None:
        """Have the next connection that is wanted fail."""
        _, _, factory = self.next_attempt()
        factory.clientConnectionFailed(None, Failure(reason or REFUSED))


def framed(message: bytes) -> bytes:
    """A message as it stands in a stream."""
    return len(message).to_bytes(2, "big") + message


def good_reply(query: bytes, *options: bytes) -> bytes:
    """The reply to ``query``, which asks for WWW."""
    act = says(0, "203.0.113.1")
    assert act.reply is not None
    message = query[:2] + act.reply(WWW)[2:]
    data = b"".join(options)
    opt = struct.pack("!BHHIH", 0, 41, 1232, 0, len(data)) + data
    return message[:11] + b"\1" + message[12:] + opt
