"""Who brought an address: sets of upstreams under numbers of two octets.

Cached pools say of each address which upstreams gave it. There are many addresses and few sets, so
each set is kept once, in a table for the whole process, and an address has the set's number. An
upstream goes by the text of its address in the configuration, so a set means the same after a
reload. While answers are merged a set is a number with one bit for each upstream.

The table is bounded and forgets nothing. When there is no room for another set, addresses that
would need it get the empty one: it is not known who brought them, and stays so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

MAX_UPSTREAMS: Final = 1_024
"""Upstreams that are told apart; others bring without being known."""
MAX_JOINT_SETS: Final = 16_384
"""Sets of several upstreams. With those of one there are fewer than two octets can number."""
UNKNOWN: Final = 0
"""The number of the empty set."""
UNKNOWN_BITS: Final = -1
"""Its bits: what joins it stays unknown."""


class ContributorSets:
    """A table of sets of upstreams.

    Sets of one upstream have their own room: they are what is added when others do not fit.
    """

    __slots__ = ("_bits", "_joint_room", "_masks", "_names", "_numbers", "_upstreams")

    def __init__(self, upstreams: int = MAX_UPSTREAMS, joint_sets: int = MAX_JOINT_SETS) -> None:
        self._upstreams = upstreams
        self._joint_room = joint_sets
        self._names: list[str] = []
        self._bits: dict[str, int] = {}
        self._masks = [UNKNOWN_BITS]  # by number
        self._numbers = {UNKNOWN_BITS: UNKNOWN, 0: UNKNOWN}  # by mask

    def __len__(self) -> int:
        return len(self._masks)

    def bit(self, upstream: str) -> int:
        """Return the bit of an upstream, by the text of its address.

        `UNKNOWN_BITS` if there is no room for it.
        """
        bit = self._bits.get(upstream)
        if bit is None:
            if len(self._names) >= self._upstreams:
                return UNKNOWN_BITS
            bit = self._bits[upstream] = 1 << len(self._names)
            self._names.append(upstream)
            self._add(bit)
        return bit

    def number(self, mask: int) -> int:
        """Return the number of the set with these bits, `UNKNOWN` if there is no room for it."""
        number = self._numbers.get(mask)
        if number is not None:
            return number
        if not self._joint_room:
            return UNKNOWN
        self._joint_room -= 1
        return self._add(mask)

    def mask(self, number: int) -> int:
        """Return the bits of the set with this number."""
        return self._masks[number]

    def names(self, number: int) -> frozenset[str]:
        """Return the upstreams of the set with this number; empty when they are not known."""
        if number == UNKNOWN:
            return frozenset()
        mask = self._masks[number]
        return frozenset([name for place, name in enumerate(self._names) if mask >> place & 1])

    def _add(self, mask: int) -> int:
        number = self._numbers[mask] = len(self._masks)
        self._masks.append(mask)
        return number


CONTRIBUTORS: Final = ContributorSets()
"""The table of the process."""


def described(sets: Iterable[frozenset[str]]) -> str:
    """Return how many addresses each upstream brought, for the log: there is a set for each."""
    counts = Counter([name for names in sets for name in sorted(names)])
    return "".join([f", {count} by {name}" for name, count in sorted(counts.items())])
