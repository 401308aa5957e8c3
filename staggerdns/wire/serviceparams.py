"""The parameters of SVCB and HTTPS records (RFC 9460 section 2.2)."""

from __future__ import annotations

import struct
from typing import Final

from staggerdns.wire.constants import WireError
from staggerdns.wire.names import skip_name

MANDATORY: Final = 0
PORT: Final = 3
IPV4_HINT: Final = 4
IPV6_HINT: Final = 6
HINT_WIDTHS: Final = {IPV4_HINT: 4, IPV6_HINT: 16}
"""Octets of each address, by parameter (section 7.3)."""
PRIORITY_SIZE: Final = 2
ALIAS_MODE: Final = b"\0\0"
"""The priority of a record that is an alias: parameters are ignored there (section 2.4.2)."""
PARAMETER_HEADER: Final = 4
"""Octets of key and length in front of a value."""
_read_header = struct.Struct("!HH").unpack_from


def parameters(data: bytes) -> list[tuple[int, int, int]]:
    """Return the key of each parameter in a record's data, with the offsets where its value begins
    and ends. Raises `WireError` or `struct.error` for what is malformed.
    """
    found = []
    position, size = skip_name(data, PRIORITY_SIZE), len(data)
    while position < size:
        key, length = _read_header(data, position)
        value = position + PARAMETER_HEADER
        position = value + length
        if position > size:
            raise WireError("parameter runs over the end of the record")
        if key in HINT_WIDTHS and length % HINT_WIDTHS[key]:
            raise WireError("hint of the wrong size")
        found.append((key, value, position))
    return found


def addresses_of(data: bytes, key: int, start: int, end: int) -> list[bytes]:
    """Return the addresses in the value of a hint with that key; none for another parameter."""
    width = HINT_WIDTHS.get(key)
    if width is None:
        return []
    return [data[place : place + width] for place in range(start, end, width)]
