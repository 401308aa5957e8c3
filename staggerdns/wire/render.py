"""Replies to clients: header, the question as it was asked, sections, OPT."""

from __future__ import annotations

import struct

from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import (
    AD,
    CD,
    EDNS_DO,
    EDNS_UDP_SIZE,
    EXTENDED_ERROR,
    HEADER_SIZE,
    OPCODE,
    QR,
    RA,
    RCODE,
    RD,
    TC,
    Type,
)
from staggerdns.wire.edns import option
from staggerdns.wire.query import Query
from staggerdns.wire.records import outlines, pack_opt

_u16 = struct.Struct("!H").pack
_ONE_QUESTION = b"\0\1"
_NO_RECORDS = b"\0\0\0\0\0\0"


def render(
    query: Query,
    answer: Answer,
    ttl: int,
    limit: int,
    ede: int | None = None,
    text: bytes = b"",
) -> bytes:
    """Return the reply to ``query`` with every TTL set to ``ttl`` seconds.

    ``limit``: bytes that the reply may have. What cannot be cut to it becomes an empty reply
    with TC set (RFC 2181 section 9). ``ede`` with its ``text`` (UTF-8) is attached when the query
    had an OPT record.
    """
    tail = _opt_record(query, 0, ede, text) if query.edns else b""
    end = query.question_end
    flags = QR | RA | (query.flags & (RD | CD)) | answer.rcode
    if answer.ad and (query.do or query.flags & AD):  # RFC 6840 section 5.8
        flags |= AD
    sections = answer.sections(end, ttl, limit - end - len(tail))
    if sections is None:
        counts, records = _NO_RECORDS, b""
        flags |= TC
    else:
        counts, records = sections
    if tail:
        counts = counts[:4] + _u16((counts[4] << 8 | counts[5]) + 1)
    message = query.message
    return b"".join(
        (
            message[:2],
            _u16(flags),
            _ONE_QUESTION,
            counts,
            message[HEADER_SIZE:end],
            records,
            tail,
        )
    )


def with_ttl(reply: bytes, ttl: int) -> bytes:
    """Return the reply that `render` makes with ``ttl``, from one that it made with another."""
    octets = bytearray(reply)
    field = ttl.to_bytes(4, "big")
    for rtype, _, start, _ in outlines(reply):
        if rtype != Type.OPT:
            octets[start - 6 : start - 2] = field
    return bytes(octets)


def deny_data_only(reply: bytes) -> bytes:
    """Turn NXDOMAIN into NODATA, for a name that exists here though not upstream (RFC 8020)."""
    return reply[:3] + bytes((reply[3] & ~(RCODE | AD),)) + reply[4:]


def render_error(
    query: Query, rcode: int, ede: int | None = None, *, truncated: bool = False
) -> bytes:
    """Return a reply without records; opcode, RD, CD and a legible question are copied.

    ``truncated`` sets TC: the client shall come back over TCP.
    """
    end = query.question_end
    flags = (
        QR | RA | (query.flags & (OPCODE | RD | CD)) | (rcode & RCODE) | (TC if truncated else 0)
    )
    tail = _opt_record(query, rcode >> 4, ede) if query.edns else b""
    return b"".join(
        (
            query.message[:2],
            _u16(flags),
            _ONE_QUESTION if end > HEADER_SIZE else b"\0\0",
            b"\0\0\0\0\0\1" if tail else _NO_RECORDS,
            query.message[HEADER_SIZE:end],
            tail,
        )
    )


def _opt_record(query: Query, extended_rcode: int, ede: int | None, text: bytes = b"") -> bytes:
    """Return our OPT record (RFC 6891 section 6.1.2); DO is copied (RFC 3225 section 3)."""
    ttl = extended_rcode << 24 | (EDNS_DO if query.do else 0)
    options = query.options
    if ede is not None:
        options += option(EXTENDED_ERROR, _u16(ede) + text)
    return pack_opt(0, Type.OPT, EDNS_UDP_SIZE, ttl, len(options)) + options
