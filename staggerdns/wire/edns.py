"""EDNS options of queries to upstreams and of their replies, and the age of a reply.

A client subnet (RFC 7871) is never among them: nothing about a client goes upstream.
"""

from __future__ import annotations

import struct

from staggerdns.wire.constants import HEADER_SIZE, MAX_TTL, Type, WireError
from staggerdns.wire.names import skip_name
from staggerdns.wire.question import Question
from staggerdns.wire.reply import index_reply

PADDING_BLOCK = 128
"""Octets that a padded query is a multiple of (RFC 8467 section 4.1)."""
_ID_SIZE = 2
_OPTION_HEADER = 4
_KEEPALIVE = b"\0\x0b"  # RFC 7828 section 3.1
KEEPALIVE_WANTED = _KEEPALIVE + b"\0\0"
"""The option that asks an upstream how long it keeps an idle connection."""
_KEEPALIVE_REPLY = _KEEPALIVE + b"\0\2"
_PADDING = b"\0\x0c"  # RFC 7830

_u16 = struct.Struct("!H")
_u32 = struct.Struct("!I")
_counts = struct.Struct("!4H").unpack_from
_record = struct.Struct("!H6xH").unpack_from
_RECORD_SIZE = 10


def with_options(query: bytes, options: bytes, *, padded: bool) -> bytes:
    """Return ``query`` with ``options`` in its OPT record, padded to whole blocks if wanted.

    ``query``: a message without its ID that ends in an OPT record without options.
    """
    if padded:
        size = _ID_SIZE + len(query) + len(options) + _OPTION_HEADER
        filling = -size % PADDING_BLOCK
        options += _PADDING + _u16.pack(filling) + bytes(filling)
    return query[:-2] + _u16.pack(len(options)) + options


def keepalive(message: bytes) -> float | None:
    """Return the seconds that an upstream keeps an idle connection, `None` if it does not say.

    (RFC 7828 section 3.1: the unit on the wire is 100 milliseconds.) Nothing is raised for a broken
    message: it is judged elsewhere.
    """
    if _KEEPALIVE_REPLY not in message:
        return None
    try:
        return _find_keepalive(message)
    except (WireError, struct.error, IndexError):
        return None


def _find_keepalive(message: bytes) -> float | None:
    questions, *records = _counts(message, 4)
    position = HEADER_SIZE
    for _ in range(questions):
        position = skip_name(message, position) + 4
    for _ in range(sum(records)):
        position = skip_name(message, position)
        rtype, length = _record(message, position)
        position += _RECORD_SIZE
        end = position + length
        while rtype == Type.OPT and position < end:
            code = message[position : position + 2]
            size = _u16.unpack_from(message, position + 2)[0]
            position += _OPTION_HEADER
            if code == _KEEPALIVE and size == 2:
                return float(_u16.unpack_from(message, position)[0]) / 10
            position += size
        position = end
    return None


def aged(message: bytes, question: Question, seconds: int) -> bytes:
    """Return a reply that has lain in a cache for ``seconds``: with TTLs as much shorter.

    (RFC 8484 section 5.1.) A message that cannot be read is returned as it is: others judge it.
    """
    try:
        records = index_reply(message, question).records()
    except WireError:
        return message
    older = bytearray(message)
    for record in records:
        ttl = max(0, record.ttl - min(seconds, MAX_TTL))
        _u32.pack_into(older, record.header + 4, ttl)
    return bytes(older)
