"""The parts of a pool in a form that means the same in every process, and pools made of them.

Sets of upstreams go by numbers that mean something in one process alone: a `SetTable` has their
members by name. What is read may come from anybody: `pool_of` returns none of what
cannot be one.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from staggerdns.wire.addresspool import AddressPool, MixedPool, mixed
from staggerdns.wire.constants import MAX_NAME, WireError
from staggerdns.wire.contributors import CONTRIBUTORS
from staggerdns.wire.names import skip_name

WIDTHS = {b"\0\1\0\1": 4, b"\0\x1c\0\1": 16}
"""Octets of an address, by type and class of the question."""


class PoolParts(Protocol):
    """``contributors`` are places in a table of sets, one of each address or one of all; ``lives``
    are empty when all live for ``ttl``. For the rest see `AddressPool`.
    """

    @property
    def ad(self) -> bool: ...  # noqa: D102
    @property
    def ttl(self) -> int: ...  # noqa: D102
    @property
    def addresses(self) -> bytes: ...  # noqa: D102
    @property
    def lives(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def contributors(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def cname_chain(self) -> tuple[bytes, ...]: ...  # noqa: D102
    @property
    def cname_life(self) -> int: ...  # noqa: D102
    @property
    def other_targets(self) -> tuple[bytes, ...]: ...  # noqa: D102


Parts = tuple[bytes, tuple[int, ...], tuple[int, ...], tuple[bytes, ...], int, tuple[bytes, ...]]
"""From ``addresses`` to ``other_targets``."""


class SetTable:
    """Sets of upstreams by their places: ``sets`` are lists of places in ``names``."""

    def __init__(self) -> None:
        self.sets: list[list[int]] = []
        self._places: dict[int, int] = {}  # of each number of a set
        self._names: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The names of upstreams, each at its place."""
        return list(self._names)

    def place_of_name(self, name: str) -> int:
        """Return the place of the name of an upstream."""
        return self._names.setdefault(name, len(self._names))

    def place(self, number: int) -> int:
        """Return the place of the set that has a number in this process."""
        place = self._places.get(number)
        if place is None:
            place = self._places[number] = len(self.sets)
            self.sets.append([self.place_of_name(name) for name in CONTRIBUTORS.names(number)])
        return place

    def parts_of(self, pool: AddressPool) -> Parts:
        """Return the parts of a pool."""
        if pool.packed_contributors:
            contributors = tuple([self.place(number) for number in pool.contributor_numbers])
        else:
            contributors = (self.place(pool.brought_by),)
        return (
            pool.packed_addresses,
            tuple(pool.lives) if pool.packed_lives else (),
            contributors,
            pool.cname_chain,
            pool.cname_life,
            pool.other_targets if isinstance(pool, MixedPool) else (),
        )


class SetMembers:
    """The numbers that the sets of a table have in this process."""

    def __init__(self, names: Sequence[str], sets: Sequence[Sequence[int]]) -> None:
        self._names = names
        self._sets = sets
        self._numbers: dict[int, int] = {}  # by place

    def number(self, place: int) -> int:
        """Return the number of the set at a place."""
        number = self._numbers.get(place)
        if number is None:
            mask = 0
            for member in self._sets[place] if place < len(self._sets) else ():
                if member < len(self._names):
                    mask |= CONTRIBUTORS.bit(self._names[member])
            number = self._numbers[place] = CONTRIBUTORS.number(mask)
        return number


def pool_of(parts: PoolParts, width: int, number: Callable[[int], int]) -> AddressPool | None:
    """Return the pool, of addresses of that ``width``, unless it cannot be one. ``number`` returns
    that of the set at a place.
    """
    addresses = split(parts.addresses, width)
    lives, places = parts.lives, parts.contributors
    if (
        not addresses
        or (lives and len(lives) != len(addresses))
        or len(places) not in (1, len(addresses))
        or not all(map(_is_name, parts.cname_chain + parts.other_targets))
    ):
        return None
    numbers = [number(place) for place in places]
    longest, least = (max(lives), min(lives)) if lives else (parts.ttl, parts.ttl)
    alike = numbers.count(numbers[0]) == len(numbers)
    pool = AddressPool(
        parts.cname_chain,
        addresses,
        longest,
        parts.ad,
        lives=array("I", lives).tobytes() if least < longest else b"",
        least=least,
        cname_life=parts.cname_life,
        contributors=b"" if alike else array("H", numbers).tobytes(),
        brought_by=numbers[0],
    )
    return mixed(pool, parts.other_targets) if parts.other_targets else pool


def split(packed: bytes, width: int) -> tuple[bytes, ...]:
    """Return addresses that stand one behind the other; none if they have another ``width``."""
    if not width or len(packed) % width:
        return ()
    return tuple([packed[start : start + width] for start in range(0, len(packed), width)])


def _is_name(octets: bytes) -> bool:
    """Return whether these are one name in wire form."""
    if len(octets) > MAX_NAME:
        return False
    try:
        return skip_name(octets, 0) == len(octets) and octets[-1] == 0
    except WireError:
        return False
