"""Queries and replies of the soak, octet by octet: it makes millions of them."""

from __future__ import annotations

import struct
from zlib import crc32

_HEADER = struct.Struct("!6H")
_RECORD = struct.Struct("!HHHIH")
_POINTER = 0xC00C
_OPT = b"\0\0\x29\x04\xd0\0\0\0\0\0\0"
A, CNAME, SOA, TXT, AAAA = 1, 5, 6, 16, 28
NOERROR, SERVFAIL, NXDOMAIN = 0, 2, 3
_SOA_DATA = b"\0\0" + struct.pack("!5I", 1, 3600, 600, 86400, 5)


def query(name: str, rtype: int, message_id: int, *, edns: bool) -> bytes:
    """Return a query for ``name``, with an OPT record or without."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    header = _HEADER.pack(message_id, 0x0100, 1, 0, 0, edns)
    return header + labels + b"\0" + struct.pack("!HH", rtype, 1) + (_OPT if edns else b"")


def rcode(reply: bytes) -> int:
    """Return the code of a reply."""
    return reply[3] & 15


def _question_end(message: bytes) -> int:
    position = 12
    while message[position]:
        position += message[position] + 1
    return position + 5


def reply(message: bytes, upstream: int, code: int = NOERROR, *, truncated: bool = False) -> bytes:
    """Return what upstream number ``upstream`` says to a query of ours.

    Names that begin with ``nx`` do not exist, ``ali`` is an alias; TTLs are 1 to 20 s.
    """
    end = _question_end(message)
    section = message[12:end]
    seed = crc32(section.lower())
    rtype = section[-3]
    answer = authority = b""
    counts = [0, 0]
    if code or truncated:
        pass
    elif section[1:3] == b"nx" or rtype not in (A, AAAA, TXT):
        code = NXDOMAIN if section[1:3] == b"nx" else NOERROR
        authority = b"\0" + struct.pack("!HHIH", SOA, 1, 5, len(_SOA_DATA)) + _SOA_DATA
        counts = [0, 1]
    else:
        ttl = 1 + seed % 20
        owner = _POINTER
        if section[1:4] == b"ali":
            target = b"\3end\xc0" + bytes((13 + section[0],))  # beside the name asked for
            answer = _RECORD.pack(_POINTER, CNAME, 1, ttl, len(target)) + target
            owner = 0xC000 | (end + 12)
            counts = [1, 0]
        for number in range(1 + (seed + upstream) % 3):
            data = struct.pack("!BBBB", 203, upstream, seed & 255, number + 1)
            data = {AAAA: b"\x20\1\x0d\xb8" + bytes(8) + data, TXT: b"\4" + data}.get(rtype, data)
            answer += _RECORD.pack(owner, rtype, 1, ttl, len(data)) + data
            counts[0] += 1
    flags = 0x8180 | code | (0x0200 if truncated else 0)
    return (
        message[:2] + struct.pack("!5H", flags, 1, *counts, 1) + section + answer + authority + _OPT
    )
