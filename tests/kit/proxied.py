"""Headers of the PROXY protocol, version 2, made octet by octet."""

from __future__ import annotations

import struct
from ipaddress import ip_address

MAGIC = bytes.fromhex("0D0A0D0A000D0A515549540A")
HERE = {4: "192.0.2.53", 6: "2001:db8::53"}
"""To which the client has sent its query, as the proxy has it."""


def header(
    command: int, family: int, block: bytes, *, version: int = 2, length: int | None = None
) -> bytes:
    """Return a header; ``length``: what it says of ``block``, if not the truth."""
    said = len(block) if length is None else length
    return MAGIC + struct.pack("!BBH", version << 4 | command, family, said) + block


def addresses(client: str) -> bytes:
    """Return the addresses and ports of a client and of the proxy that it asks."""
    source = ip_address(client)
    there = ip_address(HERE[source.version])
    return source.packed + there.packed + struct.pack("!HH", 4711, 53)


def speaking_for(client: str, *, stream: bool = False, more: bytes = b"") -> bytes:
    """Return the header for a client; ``more``: extensions behind the addresses."""
    family = {4: 0x10, 6: 0x20}[ip_address(client).version] | (1 if stream else 2)
    return header(1, family, addresses(client) + more)


def extension(kind: int, content: bytes) -> bytes:
    """Return an extension (TLV)."""
    return struct.pack("!BH", kind, len(content)) + content


LOCAL = header(0, 0, b"")
"""The proxy speaks for itself."""
