"""Replies that are ready as bytes: the seam of the hot path, datagram in, reply or nothing out.

Two queries whose bytes after the ID are equal get equal replies, ID apart, as long as the
entry behind them stands and its TTLs read the same, which is at most a second. So a reply made
once is kept under the query's bytes and given again by one look-up: no parsing, no clock
call, no log, no object. What is not here, or no longer true, takes the long way and comes back.
"""

from __future__ import annotations

from staggerdns.metrics import HitCell
from staggerdns.resolver.entry import Entry
from staggerdns.server.access import Access

MAX_READY = 16_384
"""Replies kept ready; when full, the table starts anew."""
MAX_READY_OF_STREAMS = 4_096
"""The same of each other transport, whose replies are longer."""
OCTETS_EACH = 2_048
"""Memory that each of them may take, about, on average, with its entry: that may be in no cache any
more. When all together take more, the table starts anew.
"""
READY_OCTETS = 300
"""What one of them takes beside query, reply and entry."""


class ReadyReplies:
    """Replies by query bytes, for the clients that ``access`` allows; at most ``limit`` of them.

    There is one for each transport: the same query gets another reply over another.
    """

    def __init__(self, access: Access, limit: int = MAX_READY) -> None:
        self._limit = limit
        self._allowed = access.remembered
        self._replies: dict[bytes, tuple[bytes, float, Entry, HitCell]] = {}
        self._octets = 0

    def __len__(self) -> int:
        return len(self._replies)

    def reply(self, message: bytes, host: str, now: float) -> bytes | None:
        """Return the reply to ``message`` from ``host`` at ``now``, or `None` if not ready."""
        ready = self._replies.get(message[2:])
        if ready is None:
            return None
        tail, until, entry, cell = ready
        if now >= until or not entry.alive or host not in self._allowed:
            return None
        cell.value += 1
        return message[:2] + tail

    def keep(self, message: bytes, reply: bytes, until: float, entry: Entry, cell: HitCell) -> None:
        """Keep ``reply`` for queries like ``message`` until ``until`` or the end of ``entry``."""
        key = message[2:]
        octets = READY_OCTETS + len(key) + len(reply) + entry.octets
        replaced = self._replies.pop(key, None)
        if replaced is not None:
            self._octets -= READY_OCTETS + len(key) + len(replaced[0]) + 2 + replaced[2].octets
        limit = self._limit
        if len(self._replies) >= limit or self._octets + octets > limit * OCTETS_EACH:
            self._replies.clear()
            self._octets = 0
        self._replies[key] = (reply[2:], until, entry, cell)
        self._octets += octets
