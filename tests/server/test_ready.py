"""Replies that are ready as bytes."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, cast

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.instruments import Cell
from staggerdns.metrics import HitCell
from staggerdns.policy.rules import Rules
from staggerdns.resolver.entry import Entry
from staggerdns.server.ratelimit import Datagram
from staggerdns.server.ready import (
    MAX_CLIENTS,
    MAX_READY,
    OCTETS_EACH,
    READY_OCTETS,
    ReadyReplies,
    ReadyTables,
)
from tests.kit.connections import framed
from tests.kit.factory import FRIEND, STRANGER, MemoryServer, pool
from tests.kit.messages import ask, client_query

QUERY = b"\x12\x34rest of a query"
REPLY = b"\x12\x34rest of a reply"
KEY = b"key of an entry"


OTHER = "192.0.2.78"


def some_rules() -> Rules:
    """Rules of which only matters whose they are."""
    return cast("Rules", object())


class ReadyTable:
    """A table with one reply in it, for ``FRIEND``, until 10 s."""

    def __init__(self) -> None:
        self.tables = ReadyTables()
        self.ready = ReadyReplies(self.tables)
        self.rules = some_rules()
        self.entry = Entry(pool(), 1, 0.0)
        self.cell = HitCell(("udp", "A", "NOERROR"))
        self.keep()

    def keep(
        self,
        query: bytes = QUERY,
        reply: bytes = REPLY,
        *,
        host: str = FRIEND,
        rules: Rules | None = None,
        ready: ReadyReplies | None = None,
        entry: Entry | None = None,
    ) -> None:
        """Keep a reply until 10 s."""
        (ready or self.ready).keep(
            query, reply, 10.0, entry or self.entry, self.cell, KEY, host, rules or self.rules
        )


def test_a_ready_reply_gets_the_id_of_its_query() -> None:
    """Equal bytes after the ID get equal bytes after the ID, and are counted."""
    table = ReadyTable()
    for message_id in (b"\0\0", b"\xff\xff", b"\x12\x34"):
        reply = table.ready.reply(message_id + QUERY[2:], FRIEND, 0.0)
        assert reply == message_id + REPLY[2:]
    assert table.cell.value == 3
    assert len(table.ready) == 1


@pytest.mark.parametrize("now", [0.0, 9.999, 10.0, 11.0])
def test_until(now: float) -> None:
    """A reply is ready until its time, and not at it."""
    table = ReadyTable()
    assert (table.ready.reply(QUERY, FRIEND, now) is not None) == (now < 10)
    assert table.cell.value == (now < 10)


def test_a_dead_entry() -> None:
    """What is made from an entry is void when the entry is."""
    table = ReadyTable()
    table.entry.alive = False
    assert table.ready.reply(QUERY, FRIEND, 0.0) is None
    table.keep(reply=REPLY[:-1], entry=Entry(pool(), 2, 0.0))
    assert table.ready.reply(QUERY, FRIEND, 0.0) == REPLY[:-1]


def test_strangers() -> None:
    """Only clients for whom something has been kept are answered here, which may ask."""
    table = ReadyTable()
    for host in (STRANGER, OTHER):
        assert table.ready.reply(QUERY, host, 0.0) is None
    table.keep(b"id another", host=OTHER)
    assert table.ready.reply(QUERY, STRANGER, 0.0) is None
    assert table.ready.reply(QUERY, OTHER, 0.0) == REPLY, "its rules are the same"


def test_clients_with_other_rules() -> None:
    """Each gets what was kept for the same rules, whichever listener it came in by."""
    table = ReadyTable()
    other_rules, elsewhere = some_rules(), ReadyReplies(table.tables)
    table.keep(reply=b"\x12\x34another", host=OTHER, rules=other_rules)
    table.keep(b"id one more", host=OTHER, rules=table.rules, ready=elsewhere)
    assert table.ready.reply(QUERY, FRIEND, 0.0) == REPLY
    assert table.ready.reply(QUERY, OTHER, 0.0) == b"\x12\x34another"
    assert elsewhere.reply(QUERY, OTHER, 0.0) == REPLY
    assert elsewhere.reply(QUERY, FRIEND, 0.0) is None
    assert len(table.ready) == len(elsewhere) == 3


def test_the_limit_counts_for_all_rules() -> None:
    """With `MAX_READY` replies in all, one more has the tables of all clients start anew."""
    table = ReadyTable()
    other_rules = some_rules()
    table.keep(host=OTHER, rules=other_rules)
    for number in range(MAX_READY - 2):
        table.keep(b"id" + number.to_bytes(4, "big"))
    assert len(table.ready) == MAX_READY
    assert table.ready.reply(QUERY, FRIEND, 0.0) == table.ready.reply(QUERY, OTHER, 0.0) == REPLY
    table.keep(b"id one more", host=OTHER, rules=other_rules)
    assert len(table.ready) == 1
    assert table.ready.reply(QUERY, FRIEND, 0.0) is None
    assert table.ready.reply(QUERY, OTHER, 0.0) is None


def test_the_same_reply_again() -> None:
    """It takes the place of the one before, and is counted once."""
    table = ReadyTable()
    for _ in range(3):
        table.keep()
    assert len(table.ready) == 1


def test_clients_that_are_known() -> None:
    """The tables of `MAX_CLIENTS` are; one more, and the others are looked up again."""
    table = ReadyTable()
    first = ip_address("10.0.0.0")
    for number in range(MAX_CLIENTS - 1):
        table.keep(host=str(first + number))
    assert table.ready.reply(QUERY, FRIEND, 0.0) == REPLY
    table.keep(host=str(first))
    assert table.ready.reply(QUERY, FRIEND, 0.0) == REPLY
    table.keep(host=OTHER)
    assert table.ready.reply(QUERY, FRIEND, 0.0) is None
    assert table.ready.reply(QUERY, OTHER, 0.0) == REPLY


@given(st.binary(max_size=40))
def test_any_other_bytes(message: bytes) -> None:
    """What is not in the table byte for byte gets nothing; nothing raises."""
    table = ReadyTable()
    if message[2:] != QUERY[2:]:
        assert table.ready.reply(message, FRIEND, 0.0) is None
        assert table.cell.value == 0


def test_limit_in_octets() -> None:
    """Query, reply and entry count, a reply that takes another's place once; one octet more than
    there may be makes the table start anew.
    """
    table = ReadyTable()
    ready = table.ready
    each = READY_OCTETS + 2 + 4096 + table.entry.octets
    first = READY_OCTETS + len(QUERY) - 2 + len(REPLY) + table.entry.octets
    count, spare = divmod(MAX_READY * OCTETS_EACH - first, each)
    for number in range(count):
        query = b"\0\0" + number.to_bytes(2, "big")
        for size in (5, 4096):
            table.keep(query, bytes(size))
    assert len(ready) == count + 1
    table.keep(QUERY, REPLY + bytes(spare))
    assert len(ready) == count + 1
    table.keep(QUERY, REPLY + bytes(spare + 1))
    assert len(ready) == 1


def test_table_limit() -> None:
    """`MAX_READY` replies are kept; one more makes the table start anew."""
    table = ReadyTable()
    for number in range(MAX_READY - 1):
        query = b"id" + number.to_bytes(4, "big")
        table.keep(query)
    assert len(table.ready) == MAX_READY
    assert table.ready.reply(QUERY, FRIEND, 0.0) == REPLY
    table.keep(b"id one more")
    assert len(table.ready) == 1
    assert table.ready.reply(QUERY, FRIEND, 0.0) is None
    assert table.ready.reply(b"\x12\x34 one more", FRIEND, 0.0) == REPLY


def test_datagrams() -> None:
    """Of a batch the ready replies are sent, and those left over are told in their order."""
    table = ReadyTable()
    sent: list[tuple[bytes, Any]] = []
    here, there = (FRIEND, 53), (STRANGER, 53)
    six = ("2001:db8::1", 53, 0, 0)
    batch: list[Datagram] = [
        (b"\0\1another", here),
        (b"\0\2" + QUERY[2:], here),
        (b"\0\3" + QUERY[2:], there),
        (b"\0\4" + QUERY[2:], six),
        (b"\0\5" + QUERY[2:], here),
    ]
    errors = Cell()

    def send(reply: bytes, address: Any) -> None:
        sent.append((reply, address))

    assert table.ready.answer(batch, 0.0, send, errors) == [batch[0], batch[2], batch[3]]
    assert sent == [(b"\0\2" + REPLY[2:], here), (b"\0\5" + REPLY[2:], here)]
    assert table.cell.value == 2
    assert table.ready.answer(batch, 10.0, send, errors) == batch
    table.entry.alive = False
    assert table.ready.answer(batch, 0.0, send, errors) == batch
    assert (len(sent), errors.value) == (2, 0)


def test_a_datagram_that_cannot_be_sent() -> None:
    """It is counted, and the next one is sent."""
    table = ReadyTable()
    errors = Cell()
    tries: list[bytes] = []

    def send(reply: bytes, address: Any) -> None:
        tries.append(reply)
        if len(tries) == 1:
            raise OSError

    assert table.ready.answer([(QUERY, (FRIEND, 53))] * 2, 0.0, send, errors) == []
    assert tries == [REPLY, REPLY]
    assert errors.value == 1


def test_frames() -> None:
    """Replies to the messages of a stream are found until one has none, is old or incomplete."""
    table = ReadyTable()
    stream = framed(b"\0\1" + QUERY[2:], b"\0\2" + QUERY[2:], b"\0\3another", QUERY)
    both = framed(b"\0\1" + REPLY[2:], b"\0\2" + REPLY[2:])
    once = 2 + len(QUERY)
    frames = table.ready.reply_frames
    found, position, hits = frames(stream, 0, FRIEND, 0.0, 1000)
    assert (b"".join(found), position, hits) == (both, 2 * once, 2)
    assert table.cell.value == 2
    found, position, hits = frames(stream, once, FRIEND, 0.0, 1000)
    assert (b"".join(found), position, hits) == (both[len(both) // 2 :], 2 * once, 1)
    for size in (0, 1, 2, once - 1):
        assert frames(stream[:size], 0, FRIEND, 0.0, 1000) == ([], 0, 0)
    assert frames(stream, 0, FRIEND, 10.0, 1000) == ([], 0, 0)
    assert frames(stream, 0, STRANGER, 0.0, 1000) == ([], 0, 0)
    table.entry.alive = False
    assert frames(stream, 0, FRIEND, 0.0, 1000) == ([], 0, 0)
    assert table.cell.value == 3


@pytest.mark.parametrize(("limit", "hits"), [(0, 0), (1, 1), (len(REPLY), 1), (len(REPLY) + 1, 2)])
def test_frames_until_it_is_enough(limit: int, hits: int) -> None:
    """No further reply is looked for when those found have so many octets."""
    table = ReadyTable()
    found, position, count = table.ready.reply_frames(framed(QUERY) * 3, 0, FRIEND, 0.0, limit)
    assert (position, count) == (hits * (2 + len(QUERY)), hits)
    assert b"".join(found) == framed(REPLY) * hits


@pytest.mark.parametrize("transport", ["tcp", "tls", "https"])
def test_over_streams(transport: str) -> None:
    """Replies over each transport are ready on their own, padded where it is encrypted."""
    server = MemoryServer()
    server.commit(ask(), pool(3))
    message = dns.message.from_wire(client_query())
    message.use_edns(0, payload=1232, pad=128)
    query = message.to_wire()
    first = server.factory.serve_stream(query, FRIEND, transport)
    assert isinstance(first, bytes)
    assert (len(first) == 468) == (transport != "tcp")
    assert [len(table) for table in server.factory.ready.values()] == [
        name == transport for name in server.factory.ready
    ]
    again = server.factory.serve_stream(b"\x77\x77" + query[2:], FRIEND, transport)
    assert again == b"\x77\x77" + first[2:]
    assert server.metrics.hit(transport, 1, 0).value == 1
    server.clock.advance(1)
    later = server.factory.serve_stream(query, FRIEND, transport)
    assert later != first, "the TTL has become less"
    refused = server.factory.serve_stream(query, STRANGER, transport)
    assert isinstance(refused, bytes)
    assert refused[3] & 15 == 5
