"""An answer as the query log and whoever watches show it: an object of JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

import msgspec

from staggerdns.server.answered import Answered

FULL = "full"
PREFIX = "prefix"
NONE = "none"
CLIENTS = (FULL, PREFIX, NONE)
"""Values of ``query_log.clients``."""
IPV4_PREFIX = 24
IPV6_PREFIX = 48
"""Bits of an address that are shown of a client by its prefix."""
_REMEMBERED = 4_096

_encode = msgspec.json.Encoder().encode


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


@lru_cache(2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def shown_time(seconds: float) -> str:
    """Return a time as the log has it, in seconds since 1970 and UTC (RFC 3339)."""
    whole, thousandths = divmod(int(1000 * seconds), 1000)
    return f"{_second(whole)}.{thousandths:03d}+00:00"


def shown(answered: Answered, clients: str) -> dict[str, Any]:
    """Return what is shown of an answer (docs/operating.rst, The query log)."""
    read = answered.read
    return {
        "time": shown_time(answered.time),
        "client": shown_client(answered.client, clients),
        "transport": answered.transport,
        "name": read.name_text,
        "type": read.type_text,
        "rcode": read.rcode_text,
        "source": answered.source,
        "list": answered.list,
        "ms": round(1000 * answered.seconds, 3),
        "addresses": read.addresses,
    }


def json_line(answered: Answered, clients: str) -> bytes:
    """Return the same as a line of JSON, with its line feed. Names have no octets but those of
    printable ASCII.
    """
    return _encode(shown(answered, clients)) + b"\n"
