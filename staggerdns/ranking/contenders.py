"""Which addresses may yet be the nearest when each has been sampled once. Pure.

(docs/specification.rst, Measuring.)
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.ranking.order import LEAST_JITTER
from staggerdns.ranking.rtt import RttTable

MAX_CONTENDERS = 3
"""How many addresses are sampled further at the same time."""
JITTER_OF_ONE_SAMPLE = 0.5
"""The part of a round trip by which it may be off when it was sampled once (RFC 6298 section 2)."""


def contenders(addresses: Sequence[bytes], table: RttTable) -> list[bytes]:
    """Return the nearest address and those within jitter of it, nearest first.

    None when none has answered.
    """
    costs = [(cost, address) for address in addresses if (cost := table.cost(address)) is not None]
    nearest = sorted(costs)[:MAX_CONTENDERS]
    if not nearest or nearest[0][0] == float("inf"):
        return []
    best = nearest[0][0]
    limit = best + max(LEAST_JITTER, best * JITTER_OF_ONE_SAMPLE)
    return [address for cost, address in nearest if cost <= limit]
