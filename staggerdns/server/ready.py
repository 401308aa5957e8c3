"""Replies that are ready as bytes: the hot path.

Two queries with the same bytes after the ID get the same reply, except for the ID, as long as the
entry of the cache is the same and its TTLs are, which is at most for a second. So a reply is kept
under the bytes of its query and found again by one look-up, without parsing, without reading the
clock, logging or making objects. A query for which there is none here is served by the factory,
which keeps the reply here if it may.
"""

from __future__ import annotations

from collections.abc import Callable

from staggerdns.instruments import Cell
from staggerdns.metrics import HitCell
from staggerdns.resolver.entry import Entry
from staggerdns.server.access import Access
from staggerdns.server.ratelimit import Address, Datagram

MAX_READY = 16_384
"""Replies that are kept for UDP; when there are so many, all are forgotten."""
MAX_READY_OF_STREAMS = 4_096
"""The same for each other transport, whose replies are longer."""
OCTETS_EACH = 2_048
"""Octets of memory that a reply may take on average, with its entry, which the cache may have
dropped. When all together take more, all are forgotten.
"""
READY_OCTETS = 300
"""Octets that a reply takes in the table beside query, reply and entry."""


class ReadyReplies:
    """Replies by query bytes, for the clients that ``access`` allows; at most ``limit`` of them.

    There is one table for each transport, since the reply to a query depends on it.
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

    def answer(
        self,
        datagrams: list[Datagram],
        now: float,
        send: Callable[[bytes, Address], object],
        send_errors: Cell,
    ) -> list[Datagram]:
        """Give ``send`` the ready replies to these datagrams; return those that have none.

        What cannot be sent is counted in ``send_errors``.
        """
        replies = self._replies
        allowed = self._allowed
        not_ready = []
        for datagram in datagrams:
            message, address = datagram
            ready = replies.get(message[2:])
            if ready is None:
                not_ready.append(datagram)
                continue
            tail, until, entry, cell = ready
            if now >= until or not entry.alive or address[0] not in allowed:
                not_ready.append(datagram)
                continue
            cell.value += 1
            try:
                send(message[:2] + tail, address)
            except OSError:
                send_errors.value += 1
        return not_ready

    def reply_frames(
        self, stream: bytes, start: int, host: str, now: float, limit: int
    ) -> tuple[list[bytes], int, int]:
        """Return the ready replies to the messages in a stream of TCP, from ``start`` on.

        That is, their octets with lengths in front, in pieces; the offset of the first message
        that has none or is not complete; and how many there are. With ``limit`` octets it is
        enough.
        """
        pieces: list[bytes] = []
        if host not in self._allowed:
            return pieces, start, 0
        replies = self._replies
        size = len(stream)
        octets = hits = 0
        while octets < limit:
            end = start + 2 + int.from_bytes(stream[start : start + 2], "big")
            if end > size or end < start + 4:  # not all there, or too short to have an ID
                break
            ready = replies.get(stream[start + 4 : end])
            if ready is None:
                break
            tail, until, entry, cell = ready
            if now >= until or not entry.alive:
                break
            cell.value += 1
            length = len(tail) + 2
            pieces += (length.to_bytes(2, "big"), stream[start + 2 : start + 4], tail)
            octets += length
            hits += 1
            start = end
        return pieces, start, hits

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
