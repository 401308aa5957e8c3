"""Ordinary traffic: few names that everybody asks for, many that hardly anybody does, and upstreams
that answer from caches of their own. Times are seconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from random import Random

#: Client queries a second, and the names that they are for.
RATE = 250
NAMES = 3_000
#: What the zones of all names say.
TTL = 60
_ROTATING = 8


def popular(rng: Random, count: int, names: int = NAMES) -> list[int]:
    """Return ``count`` numbers of ``names`` names: the one of rank n is asked for 1/n as often as
    the first (Zipf's law).
    """
    weights = list(accumulate(1 / rank for rank in range(1, names + 1)))
    return rng.choices(range(names), cum_weights=weights, k=count)


def one_address(number: int, _upstream: int) -> list[str]:
    """Every name has one address, and all upstreams know it."""
    return [_address(0, number)]


def own_address(number: int, upstream: int) -> list[str]:
    """Every upstream knows another address of every name, as of names that are answered by where
    the question comes from.
    """
    return [_address(upstream, number)]


def rotating(number: int, upstream: int) -> list[str]:
    """Every name has eight addresses, and every upstream knows four of them."""
    return [_address((upstream + one) % _ROTATING, number) for one in range(_ROTATING // 2)]


def _address(which: int, number: int) -> str:
    high, low = divmod(number, 250)
    return f"198.{18 + which // 4}.{60 * (which % 4) + high}.{low + 1}"


class Ages:
    """How far the TTLs have run down in the caches of the upstreams.

    Each upstream fetched each name at a moment of its own, and again whenever the time was over:
    so at any moment what it says is what is left, anything from ``ttl`` to 1.
    """

    def __init__(self, rng: Random, upstreams: int, names: int = NAMES, ttl: int = TTL) -> None:
        self._ttl = ttl
        self._phases: Sequence[Sequence[float]] = [
            [rng.uniform(0, ttl) for _ in range(upstreams)] for _ in range(names)
        ]

    def left(self, upstream: int, number: int, now: float) -> int:
        """Return the TTL that an upstream gives for a name at that time."""
        return self._ttl - int((now + self._phases[number][upstream]) % self._ttl)
