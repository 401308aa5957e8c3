"""Pools that are merged in one call."""

from __future__ import annotations

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.pool import GrowingPool


def merge(
    pool: AddressPool,
    other: AddressPool,
    limit: int,
    *,
    private: bool,
    age: int = 0,
    contributor: int = 0,
) -> AddressPool:
    """Return ``pool`` with what ``other`` brings, or ``pool`` itself when that is nothing."""
    growing = GrowingPool(pool, limit, private=private)
    growing.add(other, age, contributor)
    return growing.pool()
