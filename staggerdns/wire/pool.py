"""How the addresses of several upstreams become one pool (SPEC section 2, merging)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from staggerdns.wire.answer import Pool

# Addresses that one upstream alone may not bring into a pool: unspecified, private, shared
# (RFC 6598), loopback, link-local, multicast and reserved.
_KEPT_OUT_4 = tuple(
    (int(network.network_address), int(network.netmask))
    for network in map(
        IPv4Network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/3",
        ),
    )
)
_KEPT_OUT_6 = tuple(
    (int(network.network_address), int(network.netmask))
    for network in map(IPv6Network, ("::/127", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"))
)
_MAPPED = (b"\0" * 10 + b"\xff\xff", b"\0" * 12)  # IPv4-mapped and IPv4-compatible


def is_private(address: bytes) -> bool:
    """Say whether an address (4 or 16 bytes) means a place that only the network itself knows."""
    if len(address) == 16 and address[:12] in _MAPPED:
        value, ranges = int.from_bytes(address[12:], "big"), _KEPT_OUT_4
    elif len(address) == 16:
        value, ranges = int.from_bytes(address, "big"), _KEPT_OUT_6
    else:
        value, ranges = int.from_bytes(address, "big"), _KEPT_OUT_4
    return any(value & mask == network for network, mask in ranges)


def merge(pool: Pool, other: Pool, limit: int, *, private: bool) -> Pool:
    """Return ``pool`` with the new addresses of ``other`` behind its own, or ``pool`` itself.

    The chain stays that of ``pool``. The result has at most ``limit`` addresses; ``private``
    lets private addresses of ``other`` join. AD stays only if both had it.
    """
    known = set(pool.addresses)
    new = [
        address
        for address in other.addresses
        if address not in known and (private or not is_private(address))
    ][: max(0, limit - len(known))]
    if not new:
        return pool
    return Pool(
        pool.links, pool.addresses + tuple(new), min(pool.ttl, other.ttl), pool.ad and other.ad
    )


def cap(pool: Pool, limit: int) -> Pool:
    """Return ``pool`` with at most ``limit`` addresses."""
    if len(pool.addresses) <= limit:
        return pool
    return Pool(pool.links, pool.addresses[:limit], pool.ttl, pool.ad)
