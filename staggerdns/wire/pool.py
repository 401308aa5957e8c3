"""How the addresses of several upstreams become one pool (SPEC section 2, merging)."""

from __future__ import annotations

from ipaddress import ip_network

from staggerdns.wire.answer import Answer, Pool

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


def is_private(address: bytes) -> bool:
    """Say whether an address (4 or 16 bytes) means a place that only the network itself knows."""
    return _is_within(address, _KEPT_OUT_4, _KEPT_OUT_6)


def is_unicast(address: bytes) -> bool:
    """Say whether an address (4 or 16 bytes) can belong to one host."""
    return not _is_within(address, _NO_HOST_4, _NO_HOST_6)


def _is_within(address: bytes, ranges_4: _Ranges, ranges_6: _Ranges) -> bool:
    if len(address) == 16:
        address = _embedded_ipv4(address) or address
    value = int.from_bytes(address, "big")
    ranges = ranges_4 if len(address) == 4 else ranges_6
    return any(value & mask == network for network, mask in ranges)


def _embedded_ipv4(address: bytes) -> bytes | None:
    """Return the IPv4 address that an IPv6 one stands for, `None` when it is its own."""
    if address[:12] in _STAND_FOR_IPV4 and address[:15] != bytes(15):  # not :: and not ::1
        return address[12:]
    return address[2:6] if address[:2] == _SIX_TO_FOUR else None


def merge(pool: Pool, other: Pool, limit: int, *, private: bool, age: int = 0) -> Pool:
    """Return ``pool`` with the new addresses of ``other`` behind its own, or ``pool`` itself.

    The chain stays that of ``pool``, whose TTL was true ``age`` seconds ago. The result has at
    most ``limit`` addresses; ``private`` lets private addresses of ``other`` join. AD stays
    only if both had it. What may not be kept at all (TTL 0) does not join what may.
    """
    if pool.ttl > age and not other.ttl:
        return pool
    known = set(pool.addresses)
    new = [
        address
        for address in other.addresses
        if address not in known and (private or not is_private(address))
    ][: max(0, limit - len(known))]
    if not new:
        return pool
    return Pool(
        pool.links,
        pool.addresses + tuple(new),
        max(0, min(pool.ttl - age, other.ttl)),
        pool.ad and other.ad,
    )


def without_private(answer: Answer) -> Answer | None:
    """Return ``answer`` without its private addresses, `None` when nothing is left.

    What cannot be cut, because it may be signed, is left out whole.
    """
    public = tuple(address for address in answer.addresses if not is_private(address))
    if len(public) == len(answer.addresses):
        return answer
    if not public or not isinstance(answer, Pool):
        return None
    return Pool(answer.links, public, answer.ttl, answer.ad)


def cap(pool: Pool, limit: int) -> Pool:
    """Return ``pool`` with at most ``limit`` addresses."""
    if len(pool.addresses) <= limit:
        return pool
    return Pool(pool.links, pool.addresses[:limit], pool.ttl, pool.ad)
