"""Kinds of addresses: of one host, and with a meaning inside of one network only."""

from __future__ import annotations

from ipaddress import ip_network

_Ranges = tuple[tuple[int, int], ...]


def _ranges(*texts: str) -> _Ranges:
    networks = [ip_network(text) for text in texts]
    return tuple((int(network.network_address), int(network.netmask)) for network in networks)


# Unspecified, multicast and reserved.
_NO_HOST_4 = _ranges("0.0.0.0/8", "224.0.0.0/3")
_NO_HOST_6 = _ranges("::/128", "100::/64", "ff00::/8")
# Addresses that one upstream alone may not bring into a pool: those, and private, shared
# (RFC 6598), loopback and link-local.
_KEPT_OUT_4 = _NO_HOST_4 + _ranges(
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
)
_KEPT_OUT_6 = _NO_HOST_6 + _ranges(
    "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "64:ff9b:1::/48"
)
# IPv4-mapped and IPv4-compatible (RFC 4291), translated (RFC 2765), NAT64 (RFC 6052).
_STAND_FOR_IPV4 = frozenset(
    bytes.fromhex(prefix)
    for prefix in (
        "00000000000000000000ffff",
        "000000000000000000000000",
        "0000000000000000ffff0000",
        "0064ff9b0000000000000000",
    )
)
_SIX_TO_FOUR = b"\x20\x02"  # RFC 3056


# First octets of IPv4 addresses that may be private: with any other an address is public.
_FIRST_4 = frozenset(
    first
    for first in range(256)
    if any(first << 24 & mask & 0xFF << 24 == network & 0xFF << 24 for network, mask in _KEPT_OUT_4)
)


def is_private(address: bytes) -> bool:
    """Return whether an address (4 or 16 bytes) has a meaning inside of one network only, or is no
    address of a host at all.
    """
    if len(address) == 4 and address[0] not in _FIRST_4:
        return False
    return _is_within(address, _KEPT_OUT_4, _KEPT_OUT_6)


def is_unicast(address: bytes) -> bool:
    """Return whether an address (4 or 16 bytes) can belong to one host."""
    return not _is_within(address, _NO_HOST_4, _NO_HOST_6)


def _is_within(address: bytes, ranges_4: _Ranges, ranges_6: _Ranges) -> bool:
    if len(address) == 16:
        address = embedded_ipv4(address) or address
    value = int.from_bytes(address, "big")
    ranges = ranges_4 if len(address) == 4 else ranges_6
    return any(value & mask == network for network, mask in ranges)


def embedded_ipv4(address: bytes) -> bytes | None:
    """Return the IPv4 address that an IPv6 one stands for, `None` when it is its own."""
    if address[:12] in _STAND_FOR_IPV4 and address[:15] != bytes(15):  # not :: and not ::1
        return address[12:]
    return address[2:6] if address[:2] == _SIX_TO_FOUR else None
