"""Which address means what in the test internet.

``198.18.R.N`` and ``2001:2:0:R::N`` are R milliseconds away and behave. ``198.19.K.R`` and
``2001:2:0:R:K::N`` do what kind K says (modulo 16: the rest tells hosts of one kind apart). Both
are the ranges for benchmarks (RFC 2544, RFC 5180), which are as good as public. Whatever else
is asked lies R milliseconds away, too, where R is the third octet or the fourth group.
"""

from __future__ import annotations

import enum
import ipaddress
from typing import NamedTuple


class Kind(enum.IntEnum):
    """How a host behaves, beyond its distance."""

    SILENT = 0  # nothing ever comes back
    LOSSY = 1  # every second packet to it is lost
    TCP_ONLY = 2  # echoes are not answered
    JITTERY = 3  # JITTER more or less than its distance
    ICMP_ONLY = 4  # connections are not answered
    REFUSING = 5  # echoes are not answered, connections are refused
    FORGED = 6  # forgeries come at once, the true answer in its time
    FORGED_ONLY = 7  # nothing but forgeries
    PLAIN = 8


JITTER = 0.004
"""Seconds by which an answer of a `Kind.JITTERY` host may come early or late."""

UNREACHABLE, UNREACHABLE_6 = "203.0.113.0/24", "2001:db8::/32"
"""Networks to which there is no route: sending there fails at once."""


class Host(NamedTuple):
    """What an address means; ``seconds``: its round-trip time."""

    kind: Kind
    seconds: float


def host_at(address: bytes) -> Host:
    """Read an address of 4 or 16 bytes."""
    if len(address) == 4:
        if address[:2] == b"\xc6\x13":
            return Host(_kind(address[2]), address[3] / 1000)
        return Host(Kind.PLAIN, address[2] / 1000)
    seconds = int.from_bytes(address[6:8], "big") / 1000
    number = int.from_bytes(address[8:10], "big")
    return Host(_kind(number) if number else Kind.PLAIN, seconds)


def _kind(number: int) -> Kind:
    number %= 16
    return Kind(number) if number < Kind.PLAIN else Kind.PLAIN


def milliseconds(text: str) -> int:
    """Return the round-trip time that is written in an address, in milliseconds."""
    return round(host_at(ipaddress.ip_address(text).packed).seconds * 1000)


def near(distance: int, host: int = 1) -> str:
    """Return a plain address ``distance`` milliseconds away (up to 255)."""
    return f"198.18.{distance}.{host}"


def near6(distance: int, host: int = 1) -> str:
    """Return a plain IPv6 address ``distance`` milliseconds away."""
    return f"2001:2:0:{distance:x}::{host:x}"


def special(kind: Kind, distance: int, host: int = 0) -> str:
    """Return an address of a ``kind``; ``host`` is below 16."""
    return f"198.19.{16 * host + kind}.{distance}"


def special6(kind: Kind, distance: int, host: int = 1) -> str:
    """Return an IPv6 address of a ``kind``."""
    return f"2001:2:0:{distance:x}:{16 + kind:x}::{host:x}"


def by_distance(addresses: list[str] | set[str]) -> list[str]:
    """Return addresses nearest first, by what is written in them."""
    return sorted(addresses, key=milliseconds)
