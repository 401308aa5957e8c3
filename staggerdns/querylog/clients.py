"""How much is shown of the addresses of clients: all, the network, or nothing."""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network

from staggerdns.wire.constants import Type
from staggerdns.wire.records import outlines

FULL = "full"
PREFIX = "prefix"
NONE = "none"
CLIENTS = (FULL, PREFIX, NONE)
"""Values of ``query_log.clients``."""
IPV4_PREFIX = 24
IPV6_PREFIX = 48
"""Bits of an address that are shown of a client by its prefix."""
_REMEMBERED = 4_096


@lru_cache(_REMEMBERED)
def client_prefix(host: str) -> str:
    """Return the network that is shown of the client at ``host``."""
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    bits = IPV4_PREFIX if address.version == 4 else IPV6_PREFIX
    return str(ip_network((address, bits), strict=False))


def shown_client(host: str, clients: str) -> str | None:
    """Return what is shown of the client at ``host``, by one of `CLIENTS`; `None`: nothing."""
    if clients == FULL:
        return host
    return client_prefix(host) if clients == PREFIX else None


def without_options(message: bytes) -> bytes:
    """Return a DNS message without its EDNS options: some tell clients apart, as their subnets do
    (RFC 7871) and cookies (RFC 7873). It is empty for what cannot be read.
    """
    try:
        places = [(start, end) for rtype, _, start, end in outlines(message) if rtype == Type.OPT]
    except (ValueError, LookupError, struct.error):
        return b""
    for start, end in reversed(places):
        message = message[: start - 2] + b"\0\0" + message[end:]
    return message
