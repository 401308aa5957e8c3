"""Our replies as somebody else reads them: dnspython, strictly."""

from __future__ import annotations

import struct

import dns.exception
import dns.message
import dns.name
import dns.rdata

# The types whose data is checked before it is sent on; that of others is opaque (RFC 3597
# section 3), and a client may get it as broken as it came.
CHECKED = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 21, 26, 28, 33, 35, 36, 39, 41}

_NAMED = (2, 5, 6, 12, 15, 17, 18, 33, 35, 36, 39)  # of those, which hold names

Record = tuple[dns.name.Name, int, int, bytes]
"""Owner, type, TTL and the data as it stands."""


def message(wire: bytes) -> dns.message.Message:
    """Read a message all of which is our own; octets behind it are an error."""
    return dns.message.from_wire(wire)


def sections(wire: bytes) -> list[list[Record]]:
    """Read a message that somebody else made: answer, authority, additional."""
    return sections_and_names(wire)[0]


def sections_and_names(wire: bytes) -> tuple[list[list[Record]], list[dns.name.Name]]:
    """Also return the names that stand in the data of the older types."""
    names: list[dns.name.Name] = []
    _, _, questions, *counts = struct.unpack("!HHHHHH", wire[:12])
    position = 12
    for _ in range(questions):
        position += dns.name.from_wire(wire, position)[1] + 4
    found: list[list[Record]] = [[], [], []]
    for section in (section for section, count in enumerate(counts) for _ in range(count)):
        owner, size = dns.name.from_wire(wire, position)
        position += size
        rdtype, rdclass, ttl, length = struct.unpack_from("!HHIH", wire, position)
        position += 10
        assert position + length <= len(wire), "a record runs over the end"
        if rdtype in CHECKED:
            data = dns.rdata.from_wire(rdclass, rdtype, wire, position, length)
            if rdtype in _NAMED:
                names += _names_in(data)
        found[section].append((owner, rdtype, ttl, wire[position : position + length]))
        position += length
    assert position == len(wire), "octets behind the last record"
    return found, names


def _names_in(data: dns.rdata.Rdata) -> list[dns.name.Name]:
    fields = (getattr(data, field, None) for field in data.__slots__)
    return [field for field in fields if isinstance(field, dns.name.Name)]


def outline(wire: bytes) -> list[tuple[bytes, int]]:
    """Read how records fill a message: the owner of each as it is written, and its type."""
    _, _, questions, *counts = struct.unpack("!HHHHHH", wire[:12])
    position = 12
    found = []
    for number in range(questions + sum(counts)):
        start = position
        while 0 < wire[position] < 64:
            position += wire[position] + 1
        position += 2 if wire[position] else 1
        owner = wire[start:position]
        if number < questions:
            position += 4
            continue
        (rdtype, length) = struct.unpack_from("!H6xH", wire, position)
        position += 10 + length
        found.append((owner, rdtype))
    assert position == len(wire), "octets behind the last record, or too few"
    return found
