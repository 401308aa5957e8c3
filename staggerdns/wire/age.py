"""The TTLs of whole messages, as HTTP caches count with them (RFC 8484 section 5.1)."""

from __future__ import annotations

import struct

from staggerdns.wire.constants import MAX_TTL, Type, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.records import outlines
from staggerdns.wire.reply import index_reply

_pack_u32 = struct.Struct("!I").pack_into


def least_ttl(message: bytes) -> int:
    """Return the least TTL of our reply ``message``, 0 when it has no record."""
    ttls = [ttl for rtype, ttl, _, _ in outlines(message) if rtype != Type.OPT]
    return min(ttls, default=0)


def aged(message: bytes, question: Question, seconds: int) -> bytes:
    """Return a reply that has lain in a cache for ``seconds``: with TTLs as much shorter.

    A message that cannot be read is returned as it is: others judge it.
    """
    try:
        records = index_reply(message, question).records()
    except WireError:
        return message
    older = bytearray(message)
    for record in records:
        ttl = max(0, record.ttl - min(seconds, MAX_TTL))
        _pack_u32(older, record.header + 4, ttl)
    return bytes(older)
