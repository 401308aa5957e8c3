"""How the addresses of several upstreams become one pool (docs/specification.rst, Merging)."""

from __future__ import annotations

import struct
from ipaddress import ip_network

from staggerdns.wire.answer import Answer, Pool

_life = struct.Struct("=I").pack
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
    """Return whether an address (4 or 16 bytes) has a meaning inside of one network only."""
    if len(address) == 4 and address[0] not in _FIRST_4:
        return False
    return _is_within(address, _KEPT_OUT_4, _KEPT_OUT_6)


def is_unicast(address: bytes) -> bool:
    """Return whether an address (4 or 16 bytes) can belong to one host."""
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
    """Return ``pool`` with what ``other`` brings, or ``pool`` itself when that is nothing.

    New addresses join behind those of ``pool``; known ones live as long as the longest of their
    bringers allowed. ``age``: how many seconds ago the first of ``pool`` came. The result has at
    most ``limit`` addresses; ``private`` lets private addresses of ``other`` join. AD stays only
    if both had it. What may not be kept at all (TTL 0) does not join what may, and
    what joins it may not be kept either.
    """
    if pool.ttl and not other.ttl:
        return pool
    known = set(pool.addresses)
    new = [
        address
        for address in other.addresses
        if address not in known and (private or not is_private(address))
    ][: max(0, limit - len(known))]
    life = other.ttl + age if pool.ttl else 0
    if other.ad or not pool.ad:  # else it would live on by the word of who did not validate it
        if life > pool.least and len(new) < len(other.addresses):
            pool = _lengthened(pool, other.addresses, life)
        if pool.cname_chain and pool.cname_chain == other.cname_chain:
            cname_life = other.cname_life + age
            if cname_life > pool.cname_life:
                pool = _with_cname_life(pool, cname_life)
    if not new:
        return pool
    if pool.packed_lives or life != pool.ttl:
        held = pool.packed_lives or _life(pool.ttl) * len(pool.addresses)
        lives = held + _life(life) * len(new)
    else:
        lives = b""
    return Pool(
        pool.cname_chain,
        pool.addresses + tuple(new),
        max(pool.ttl, life),
        pool.ad and other.ad,
        lives=lives,
        least=min(pool.least, life),
        cname_life=pool.cname_life,
    )


def _lengthened(pool: Pool, addresses: tuple[bytes, ...], life: int) -> Pool:
    """Return ``pool`` with ``life`` for those of these addresses that have a shorter one."""
    lives = dict(zip(pool.addresses, pool.lives, strict=True))
    shorter = [address for address in addresses if lives.get(address, life) < life]
    if not shorter:
        return pool
    lives.update(dict.fromkeys(shorter, life))
    return pool.having(lives)


def _with_cname_life(pool: Pool, cname_life: int) -> Pool:
    """Return ``pool`` with another life of its CNAMEs."""
    return Pool(
        pool.cname_chain,
        pool.addresses,
        pool.ttl,
        pool.ad,
        lives=pool.packed_lives,
        least=pool.least,
        cname_life=cname_life,
    )


def bounded(pool: Pool, least: int, most: int) -> Pool:
    """Return ``pool`` with all its lives within these bounds, in seconds."""
    if (
        least <= pool.least
        and pool.ttl <= most
        and (not pool.cname_chain or pool.cname_life <= most)
    ):
        return pool
    lives = [min(max(life, least), most) for life in pool.lives]
    other = pool.having(dict(zip(pool.addresses, lives, strict=True)))
    return _with_cname_life(other, min(max(pool.cname_life, least), most))


def without_private(answer: Answer) -> Answer | None:
    """Return ``answer`` without its private addresses, `None` when nothing is left.

    What cannot be cut, because it may be signed, is left out whole.
    """
    public = [not is_private(address) for address in answer.addresses]
    if all(public):
        return answer
    return answer.only(public) if isinstance(answer, Pool) and any(public) else None


def cap(pool: Pool, limit: int) -> Pool:
    """Return ``pool`` with at most ``limit`` addresses."""
    if len(pool.addresses) <= limit:
        return pool
    return pool.only(index < limit for index in range(len(pool.addresses)))
