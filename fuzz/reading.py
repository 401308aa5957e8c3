"""Our replies as somebody else reads them: dnspython, strictly."""

from __future__ import annotations

import contextlib
import struct

import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdatatype

# The types whose data is checked before it is sent on; that of others is opaque (RFC 3597
# section 3), and a client may get it as broken as it came.
CHECKED = {1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15, 16, 17, 18, 21, 26, 28, 33, 36, 39, 41}

Record = tuple[dns.name.Name, int, int, bytes]
"""Owner, type, TTL and the data as it stands."""


def message(wire: bytes) -> dns.message.Message:
    """Read a message all of which is our own; octets behind it are an error."""
    return dns.message.from_wire(wire)


def sections(wire: bytes) -> list[list[Record]]:
    """Read a message that passes on what an upstream said: answer, authority, additional."""
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
            # A sender must not compress names in the newer of these types; whoever passes
            # them on lets them be, and most receivers read them (RFC 3597 section 4).
            with contextlib.suppress(dns.name.DecompressionForbidden):
                dns.rdata.from_wire(rdclass, rdtype, wire, position, length)
        if rdtype != dns.rdatatype.OPT:
            assert ttl < 2**31, "a TTL with its highest bit set"
            found[section].append((owner, rdtype, ttl, wire[position : position + length]))
        position += length
    assert position == len(wire), "octets behind the last record"
    return found
