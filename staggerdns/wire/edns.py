"""EDNS options in queries and replies, and the upper bits of the response code.

What goes upstream holds nothing about a client; a client subnet there is one that the
configuration names (`ClientSubnet`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

from staggerdns.wire.constants import (
    EXTENDED_ERROR,
    HEADER_SIZE,
    KEEPALIVE,
    MAX_MESSAGE,
    OPT_SIZE,
    PADDING,
    RCODE,
    Type,
    WireError,
)
from staggerdns.wire.records import outlines

PADDING_BLOCK = 128
REPLY_BLOCK = 468
"""Octets that a padded query and a padded reply are a multiple of (RFC 8467 section 4.1)."""
_ID_SIZE = 2
_u16 = struct.Struct("!H")
_OPTION = struct.Struct("!HH")
_option_header, _read_option = _OPTION.pack, _OPTION.unpack_from


def option(code: int, data: bytes) -> bytes:
    """Return an option as it stands in an OPT record (RFC 6891 section 6.1.2)."""
    return _option_header(code, len(data)) + data


KEEPALIVE_WANTED = option(KEEPALIVE, b"")
"""The option that asks an upstream how long it keeps an idle connection."""
# Octets that few messages hold without such an option: a quick first look for it.
_KEEPALIVE_HEADER = _option_header(KEEPALIVE, 2)
_PADDING_CODE = PADDING.to_bytes(2, "big")
_EXTENDED_ERROR_CODE = EXTENDED_ERROR.to_bytes(2, "big")


def with_options(query: bytes, size: int, options: bytes, *, padded: bool) -> bytes:
    """Return ``query`` with ``options`` added to its OPT record, padded to whole blocks if wanted.

    ``query``: a message without its ID that holds a question section of ``size`` octets and, at
    its end, an OPT record; one without that stays as it is.
    """
    start = HEADER_SIZE - _ID_SIZE + size + OPT_SIZE
    if start > len(query):
        return query
    if padded:
        filling = -(_ID_SIZE + len(query) + len(options) + _OPTION.size) % PADDING_BLOCK
        options += option(PADDING, bytes(filling))
    options = query[start:] + options
    return query[: start - 2] + _u16.pack(len(options)) + options


def padded_reply(query: bytes, reply: bytes) -> bytes:
    """Return our ``reply``, padded to whole blocks if the ``query`` was padded (RFC 7830)."""
    if _PADDING_CODE not in query or _find_option(query, PADDING) is None:
        return reply
    rtype, start = 0, 0
    for rtype, _, start, _ in outlines(reply):  # noqa: B007 (the last one counts)
        pass
    filling = -(len(reply) + _OPTION.size) % REPLY_BLOCK
    if rtype != Type.OPT or len(reply) + _OPTION.size + filling > MAX_MESSAGE:
        return reply
    options = reply[start:] + option(PADDING, bytes(filling))
    return reply[: start - 2] + _u16.pack(len(options)) + options


def keepalive(message: bytes) -> float | None:
    """Return the seconds that an upstream keeps an idle connection, `None` if it does not say.

    (RFC 7828 section 3.1: the unit on the wire is 100 milliseconds.) Nothing is raised for a broken
    message: it is judged elsewhere.
    """
    if _KEEPALIVE_HEADER not in message:
        return None
    found = _find_option(message, KEEPALIVE)
    return _u16.unpack(found)[0] / 10 if found is not None and len(found) == 2 else None


def extended_errors(message: bytes) -> list[int]:
    """Return the codes of the Extended DNS Errors in a reply, none if it cannot be read."""
    if _EXTENDED_ERROR_CODE not in message:
        return []
    found = options_in(message, EXTENDED_ERROR)
    return [_u16.unpack_from(option)[0] for option in found if len(option) >= 2]


def full_rcode(message: bytes) -> int:
    """Return the code of a reply, with the upper bits that its OPT record has.

    (RFC 6891 section 6.1.3.) Of a message that cannot be read the header's, which has four bits.
    """
    upper = 0
    if message[10:12] != b"\0\0":
        with suppress(WireError, struct.error, IndexError):
            for rtype, ttl, _, _ in outlines(message):
                if rtype == Type.OPT:
                    upper = ttl >> 24 << 4
                    break
    return upper | message[3] & RCODE


def _find_option(message: bytes, code: int) -> bytes | None:
    """Return the data of an EDNS option, `None` if it is not there or the message is broken."""
    return next(options_in(message, code), None)


def options_in(message: bytes, code: int) -> Iterator[bytes]:
    """Yield the data of each EDNS option with this code, as far as the message can be read."""
    try:
        for rtype, _, start, end in outlines(message):
            position = start
            while rtype == Type.OPT and position < end:
                data = position + _OPTION.size
                its_code, length = _read_option(message, position)
                following = data + length
                if its_code == code and following <= end:
                    yield message[data:following]
                position = following
    except (WireError, struct.error):
        pass
