"""Resource records as they stand in a message, whatever they hold (RFC 1035 section 4.1.3)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from staggerdns.wire.constants import HEADER_SIZE, RECORD_SIZE
from staggerdns.wire.names import skip_name

_FIELDS = struct.Struct("!HHIH")
read_fields = _FIELDS.unpack_from
"""Read type, class, TTL and length of the data, which stand behind the owner's name."""
pack_fields = _FIELDS.pack
pack_opt = struct.Struct("!BHHIH").pack
"""Write an OPT record: root, type, largest UDP message, flags, length (RFC 6891 section 6.1.2)."""
_counts = struct.Struct("!4H").unpack_from


def outlines(message: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield type, TTL, start and end of the data of each record.

    Raises `WireError` or `struct.error` for a message that is cut.
    """
    questions, *records = _counts(message, 4)
    position = HEADER_SIZE
    for _ in range(questions):
        position = skip_name(message, position) + 4
    for _ in range(sum(records)):
        position = skip_name(message, position)
        rtype, _, ttl, length = read_fields(message, position)
        position += RECORD_SIZE
        yield rtype, ttl, position, position + length
        position += length
