"""From round-trip times to an order of addresses. Pure: it only reads the table.

(docs/specification.rst, Order.) Near before far, far before never measured, those before silent;
whoever is equal keeps the place in which it came. A new order must win by more than jitter: two
addresses that were ranked before swap only when the difference between them is larger than both
deviate.
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.ranking.rtt import RttTable

LEAST_JITTER = 0.001
"""Seconds that a timer, a scheduler and a busy link make of nothing."""
_UNKNOWN = 1e9


def order(
    addresses: Sequence[bytes], table: RttTable, ranked: Sequence[bytes] = ()
) -> tuple[bytes, ...]:
    """Return ``addresses`` nearest first; ``ranked`` is the order of an earlier sort."""
    costs = {address: _cost(address, table) for address in addresses}
    if not ranked:
        return tuple(sorted(addresses, key=costs.__getitem__))
    arranged = [address for address in ranked if address in costs]
    before = set(arranged)
    for address in addresses:
        if address not in before:
            place = len(arranged)
            while place and costs[address] < costs[arranged[place - 1]]:
                place -= 1
            arranged.insert(place, address)
    result: list[bytes] = []
    for address in arranged:
        place = 0
        while place < len(result) and not _clearly_nearer(address, result[place], costs, table):
            place += 1
        result.insert(place, address)
    return tuple(result)


def _clearly_nearer(one: bytes, other: bytes, costs: dict[bytes, float], table: RttTable) -> bool:
    margin = max(LEAST_JITTER, table.jitter(one) + table.jitter(other))
    return costs[one] + margin < costs[other]


def _cost(address: bytes, table: RttTable) -> float:
    cost = table.cost(address)
    return _UNKNOWN if cost is None else cost
