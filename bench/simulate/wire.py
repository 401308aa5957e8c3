"""What stands in for the sockets of an upstream: replies come when and as they were drawn."""

from __future__ import annotations

import struct
from typing import Any

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock

from staggerdns.upstream.edns import FULL, PLAIN
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.upstream import Upstream

_RECORD = struct.Struct("!HHHIH")
_NAME_OF_THE_QUESTION = 0xC00C
_A, _IN = 1, 1


def record(address: bytes, ttl: int) -> bytes:
    """Return an A record of the name in question."""
    return _RECORD.pack(_NAME_OF_THE_QUESTION, _A, _IN, ttl, len(address)) + address


class Wire:
    """The transport of one upstream on a simulated clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._under_way: dict[Exchange, IDelayedCall] = {}

    def answer(self, exchange: Exchange) -> tuple[float, int, list[bytes]] | None:
        """Return after how many seconds the reply comes, its response code and its records;
        `None`: never.
        """
        raise NotImplementedError

    def delivered(self, exchange: Exchange) -> None:
        """Hear that the reply is about to be read."""

    def send(self, exchange: Exchange) -> None:
        """Deliver the reply to a query in its time, if there is one."""
        reply = self.answer(exchange)
        if reply is None:
            return
        seconds, rcode, records = reply
        exchange.forget = self._forget
        self._under_way[exchange] = self._clock.callLater(
            seconds, self._deliver, exchange, rcode, records
        )

    def close(self) -> None:
        """Have nothing open."""

    def _deliver(self, exchange: Exchange, rcode: int, records: list[bytes]) -> None:
        del self._under_way[exchange]
        exchange.forget = None
        self.delivered(exchange)
        header = struct.pack("!6H", 0, 0x8180 | rcode, 1, len(records), 0, 0)
        exchange.owner.received(
            exchange, header + exchange.question.section + b"".join(records), over_stream=True
        )

    def _forget(self, exchange: Exchange, *, timed_out: bool) -> None:
        call = self._under_way.pop(exchange, None)
        if call is not None:
            call.cancel()


def connect(upstream: Upstream, wire: Wire) -> None:
    """Put ``wire`` in place of the sockets of an upstream, which is known to cope with EDNS."""
    upstream.dialect.edns.good(FULL, PLAIN, 0.0, 0.0)
    stand_in: Any = wire
    upstream._transport = upstream._stream = stand_in  # noqa: SLF001 (no other way in)
