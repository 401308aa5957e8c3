"""Replies that are ready as bytes: the hot path.

Two queries with the same bytes after the ID get the same reply, except for the ID, as long as the
entry of the cache is the same and its TTLs are, which is at most for a second. So a reply is kept
under the bytes of its query and found again by one look-up, without parsing, without reading the
clock, logging or making objects. A query for which there is none here is served by the factory,
which keeps the reply here if it may.

When the second is over, the reply is the same but for its TTLs as long as the cache has the same
entry and all of it lives: then they alone are made anew. So whoever changes anything else that
replies depend on, the hosts file, domains of routes or lists, has all replies forgotten.

While somebody wants to hear of every reply (`staggerdns.server.answered`), replies are kept in
tables in which only the factory looks: what looks here finds nothing, and has no word about it.

There is one table for each transport, since the reply to a query depends on it, and of each one for
the clients with the same rules. A client's own look-up leads to its table, so it costs nothing to
have several. Only clients that were allowed to ask are known here.
"""

from __future__ import annotations

from collections.abc import Callable

from staggerdns.instruments import Cell
from staggerdns.metrics import HitCell
from staggerdns.policy.rules import Rules
from staggerdns.resolver.cache import AnswerCache
from staggerdns.resolver.entry import Entry
from staggerdns.server.ratelimit import Address, Datagram
from staggerdns.wire.answer import Answer
from staggerdns.wire.key import scope_of
from staggerdns.wire.render import with_ttl

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
MAX_CLIENTS = 4_096
"""Clients of one listener and transport whose table is known; when there are so many, all are
forgotten.
"""

_Table = dict[bytes, tuple[bytes, float, Entry, HitCell, bytes, Answer]]
"""Replies by what follows the ID in their queries: what follows theirs, until when they stand, what
they are made from, what counts them, the key of the entry, empty if other TTLs do not do, and what
the entry held.
"""


class ReadyTables:
    """The tables of one transport, by the rules of clients: as many as there are groups, and at
    most ``limit`` replies in all.
    """

    def __init__(self, limit: int = MAX_READY) -> None:
        self._limit = limit
        self._tables: dict[Rules | None, _Table] = {}
        self._count = 0
        self._octets = 0
        self.reported = False  # somebody wants to hear of every reply

    def __len__(self) -> int:
        return self._count

    def table(self, rules: Rules | None) -> _Table:
        """Return the table for clients with these rules, the same one at every call."""
        found = self._tables.get(rules)
        if found is None:
            found = self._tables[rules] = {}
        return found

    def keep(
        self,
        table: _Table,
        message: bytes,
        reply: bytes,
        until: float,
        entry: Entry,
        cell: HitCell,
        entry_key: bytes,
    ) -> None:
        """Keep ``reply`` in ``table`` for queries like ``message``."""
        key = message[2:]
        octets = READY_OCTETS + len(key) + len(reply) + entry.octets
        replaced = table.pop(key, None)
        if replaced is not None:
            self._count -= 1
            self._octets -= READY_OCTETS + len(key) + len(replaced[0]) + 2 + replaced[2].octets
        limit = self._limit
        if self._count >= limit or self._octets + octets > limit * OCTETS_EACH:
            self.clear()
        table[key] = (reply[2:], until, entry, cell, entry_key, entry.answer)
        self._count += 1
        self._octets += octets

    def clear(self) -> None:
        """Forget all replies."""
        for table in self._tables.values():
            table.clear()
        self._count = 0
        self._octets = 0

    def begin_anew(self) -> None:
        """Forget all replies, and the rules that clients had: they have others from now on."""
        self.clear()
        self._tables.clear()

    def report(self, wanted: bool) -> None:
        """Begin anew, with tables for the factory alone if every reply is reported."""
        self.begin_anew()
        self.reported = wanted


class ReadyReplies:
    """The replies that are ready for the clients of one listener, in the ``tables`` of its
    transport.
    """

    def __init__(self, tables: ReadyTables) -> None:
        self._tables = tables
        self._by_client: dict[str, _Table] = {}
        self._reported: dict[str, _Table] = {}  # the same while every reply is reported

    def __len__(self) -> int:
        return len(self._tables)

    def reply(self, message: bytes, host: str, now: float) -> bytes | None:
        """Return the reply to ``message`` from ``host`` at ``now``, or `None` if not ready."""
        replies = self._by_client.get(host)
        if replies is None:
            return None
        ready = replies.get(message[2:])
        if ready is None:
            return None
        tail, until, entry, cell, _, _ = ready
        if now >= until or not entry.alive:
            return None
        cell.value += 1
        return message[:2] + tail

    def reported_reply(self, message: bytes, host: str, now: float) -> bytes | None:
        """Return the same of those that are kept while every reply is reported."""
        replies = self._reported.get(host)
        ready = None if replies is None else replies.get(message[2:])
        if ready is None:
            return None
        tail, until, entry, cell, _, _ = ready
        if now >= until or not entry.alive:
            return None
        cell.value += 1
        return message[:2] + tail

    def renew(self, message: bytes, host: str, now: float, cache: AnswerCache) -> bytes | None:
        """Return the reply to ``message`` if the one that was ready has to have other TTLs and is
        right then; that one is ready from now on. The entry is looked up in ``cache``.
        """
        replies = self._known.get(host)
        ready = None if replies is None else replies.get(message[2:])
        if replies is None or ready is None:
            return None
        tail, _, entry, cell, key, answer = ready
        if not key or cache.lookup(key, now) is not entry or entry.answer is not answer:
            return None
        if not cache.freshness.is_whole(entry, now):  # some may have been left out before, too
            return None
        until = cache.freshness.true_until(entry, now)
        if until <= now:
            return None
        reply = with_ttl(message[:2] + tail, cache.reply_ttl(entry, now, scope_of(key)))
        replies[message[2:]] = (reply[2:], until, entry, cell, key, answer)
        cell.value += 1
        return reply

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
        by_client = self._by_client
        not_ready = []
        for datagram in datagrams:
            message, address = datagram
            replies = by_client.get(address[0])
            if replies is None:
                not_ready.append(datagram)
                continue
            ready = replies.get(message[2:])
            if ready is None:
                not_ready.append(datagram)
                continue
            tail, until, entry, cell, _, _ = ready
            if now >= until or not entry.alive:
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
        replies = self._by_client.get(host)
        if replies is None:
            return pieces, start, 0
        size = len(stream)
        octets = hits = 0
        while octets < limit:
            end = start + 2 + int.from_bytes(stream[start : start + 2], "big")
            if end > size or end < start + 4:  # not all there, or too short to have an ID
                break
            ready = replies.get(stream[start + 4 : end])
            if ready is None:
                break
            tail, until, entry, cell, _, _ = ready
            if now >= until or not entry.alive:
                break
            cell.value += 1
            length = len(tail) + 2
            pieces += (length.to_bytes(2, "big"), stream[start + 2 : start + 4], tail)
            octets += length
            hits += 1
            start = end
        return pieces, start, hits

    def keep(
        self,
        message: bytes,
        reply: bytes,
        until: float,
        entry: Entry,
        cell: HitCell,
        entry_key: bytes,
        host: str,
        rules: Rules | None,
    ) -> None:
        """Keep ``reply`` for queries like ``message`` until ``until`` or the end of ``entry``, for
        the client at ``host`` and all others whose ``rules`` are the same.

        ``entry_key``: that of the entry in the cache, if `renew` may make the reply anew.
        """
        table = self._tables.table(rules)
        known = self._known
        if known.get(host) is not table:  # it is a new client, or has other rules now
            if len(known) >= MAX_CLIENTS:
                known.clear()
            known[host] = table
        self._tables.keep(table, message, reply, until, entry, cell, entry_key)

    @property
    def _known(self) -> dict[str, _Table]:
        return self._reported if self._tables.reported else self._by_client
