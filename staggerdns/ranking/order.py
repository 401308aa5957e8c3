"""From round-trip times to an order of addresses. Pure: it only reads the table.

(docs/specification.rst, Order.) Near before far, far before never measured, those before silent;
whoever is equal keeps the place in which it came. A new order must win by more than jitter: two
addresses that were ranked before swap only when the difference between them is larger than both
deviate.

Most of what comes here is in order already, or nearly so. An address goes to its place by looking
at others only when somebody in front may be clearly farther.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from staggerdns.ranking.rtt import RttTable

LEAST_JITTER: Final = 0.001
"""Seconds that a timer, a scheduler and a busy link make of nothing."""
_UNKNOWN: Final = 1e9


def order(
    addresses: Sequence[bytes], table: RttTable, ranked: Sequence[bytes] = ()
) -> tuple[bytes, ...]:
    """Return ``addresses`` nearest first; ``ranked`` is the order of an earlier sort.

    A tuple that is in order is returned itself.
    """
    costs: dict[bytes, float] = {}
    for address in addresses:
        cost = table.cost(address)
        costs[address] = _UNKNOWN if cost is None else cost
    by_cost = costs.__getitem__
    arranged = [address for address in ranked if address in costs] if ranked else []
    if not arranged:
        found = sorted(addresses, key=by_cost)
    else:
        before = set(arranged)
        if len(before) < len(costs):
            new = [address for address in addresses if address not in before]
            arranged = _joined(arranged, sorted(new, key=by_cost), costs)
        found = _settled(arranged, costs, table)
    result = tuple(found)
    return addresses if isinstance(addresses, tuple) and result == addresses else result


def _joined(ranked: list[bytes], new: list[bytes], costs: dict[bytes, float]) -> list[bytes]:
    """Return ``ranked`` with ``new``, which is sorted: each behind the last that is no farther."""
    joined: list[bytes] = []
    left = len(ranked)
    for address in reversed(new):
        cost = costs[address]
        while left and costs[ranked[left - 1]] > cost:
            left -= 1
            joined.append(ranked[left])
        joined.append(address)
    joined.reverse()
    return ranked[:left] + joined


def _settled(arranged: list[bytes], costs: dict[bytes, float], table: RttTable) -> list[bytes]:
    """Return ``arranged`` with each address in front of the first that is clearly farther."""
    settled: list[bytes] = []
    jitters: dict[bytes, float] = {}
    farthest = 0.0
    for address in arranged:
        cost = costs[address]
        if cost + LEAST_JITTER < farthest:  # somebody in front may be clearly farther
            if not jitters:
                jitters = {one: table.jitter(one) for one in arranged}
            own = jitters[address]
            for place, other in enumerate(settled):
                if cost + max(LEAST_JITTER, own + jitters[other]) < costs[other]:
                    settled.insert(place, address)
                    break
            else:
                settled.append(address)
        else:
            settled.append(address)
            if cost > farthest:  # noqa: PLR1730 (max() is slower)
                farthest = cost
    return settled
