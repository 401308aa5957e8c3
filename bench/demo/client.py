"""A client that asks the program, as dig would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.names import dns

#: Seconds after which a client gives up.
PATIENCE = 5.0


@dataclass(frozen=True)
class Answer:
    """What came back: addresses in their order, their TTL, and after how many seconds."""

    addresses: tuple[str, ...]
    ttl: int
    seconds: float


class _Client(DatagramProtocol):
    def __init__(self, reactor: Any, port: int, name: str) -> None:
        self.done: Deferred[Answer] = Deferred()
        self._reactor = reactor
        self._port = port
        self._query = dns.Message(id=1, recDes=1)
        self._query.addQuery(name.encode(), dns.A, dns.IN)
        self._began = 0.0

    def startProtocol(self) -> None:
        """Ask."""
        assert self.transport is not None
        self._began = self._reactor.seconds()
        self.transport.write(self._query.toStr(), ("127.0.0.1", self._port))

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Hand on the reply, once."""
        if self.done.called:
            return
        seconds = self._reactor.seconds() - self._began
        reply = dns.Message()
        reply.fromStr(datagram)
        records = [one for one in reply.answers if one.type == dns.A]
        self.done.callback(
            Answer(
                tuple(cast(dns.Record_A, record.payload).dottedQuad() for record in records),
                min((record.ttl for record in records), default=0),
                seconds,
            )
        )


def ask(reactor: Any, port: int, name: str) -> Deferred[Answer]:
    """Ask for the addresses of a name; fails with TimeoutError after `PATIENCE`."""
    client = _Client(reactor, port, name)
    bound = reactor.listenUDP(0, client, interface="127.0.0.1")

    def close(result: Any) -> Any:
        bound.stopListening()
        return result

    return client.done.addTimeout(PATIENCE, reactor).addBoth(close)
