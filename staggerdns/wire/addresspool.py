"""Pools: the addresses of a name, from one or more upstreams (docs/specification.rst, Merging).

The records of a pool are composed when a reply is rendered, so that the order and the number of
addresses are free. Upstreams may lead to a name's addresses by different CNAMEs. The pool has those
of one of them; a `MixedPool` has the targets of the others as well, since it matters where any of
its addresses come from.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from staggerdns.wire.answer import BYTES_OCTETS, OBJECT_OCTETS, QUESTION_POINTER, Answer
from staggerdns.wire.constants import Rcode
from staggerdns.wire.contributors import CONTRIBUTORS, UNKNOWN

_u16 = struct.Struct("!H").pack
_u32 = struct.Struct("!I")
_CNAME_IN = b"\0\5\0\1"
_TUPLE = 64  # octets of memory
_ADDRESS = 6  # its life and its contributors
_ADDRESS_HEADER = 12  # pointer, type, class, TTL and length in front of an address


class AddressPool(Answer):
    """The addresses found for a name: ``cname_chain`` are the targets of its CNAMEs in order.

    Every address has a life of its own, in seconds since the first of them came: ``ttl`` is the
    longest, ``least`` the shortest, and ``packed_lives`` those of all, 32 bits each in the
    order of ``addresses``; empty when they are equal. ``cname_life`` is that of the CNAMEs.

    Every address has its set of upstreams that brought it, too, which `CONTRIBUTORS` numbers:
    ``packed_contributors`` are the numbers of all, 16 bits each; empty when they are equal to
    ``brought_by``.

    A pool that waits in the cache is packed (see `pack`): addresses are one string of octets then.
    """

    __slots__ = (
        "cname_chain",
        "least",
        "packed_lives",
        "cname_life",
        "packed_contributors",
        "brought_by",
        "_held",
        "_each",
    )

    def __init__(
        self,
        cname_chain: tuple[bytes, ...],
        addresses: tuple[bytes, ...],
        ttl: int,
        ad: bool,
        *,
        lives: bytes = b"",
        least: int | None = None,
        cname_life: int | None = None,
        contributors: bytes = b"",
        brought_by: int = UNKNOWN,
    ) -> None:
        self.rcode = Rcode.NOERROR
        self.negative = False
        self.cname_chain = cname_chain
        self.ttl = ttl
        self.ad = ad
        self.packed_lives = lives
        self.least = ttl if least is None else least
        self.cname_life = ttl if cname_life is None else cname_life
        self.packed_contributors = contributors
        self.brought_by = brought_by
        self._held: tuple[bytes, ...] | bytes = addresses
        self._each = 0  # octets of an address, when they are packed

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """The addresses, in order."""
        held = self._held
        if isinstance(held, tuple):
            return held
        width = self._each
        return tuple([held[start : start + width] for start in range(0, len(held), width)])

    @property
    def packed_addresses(self) -> bytes:
        """The addresses, in order, one behind the other."""
        held = self._held
        return b"".join(held) if isinstance(held, tuple) else held

    def chain_targets(self, key: bytes) -> tuple[bytes, ...]:
        """Return the targets of its CNAMEs in order, in lower case."""
        chain = self.cname_chain
        return tuple([target.lower() for target in chain]) if chain else ()

    def pack(self) -> None:
        """Keep the addresses as one string of octets, in half of the memory."""
        held = self._held
        if isinstance(held, tuple):
            self._each = len(held[0])
            self._held = b"".join(held)

    @property
    def octets(self) -> int:
        """About how much memory the pool takes when it is packed."""
        held = self._held
        if isinstance(held, tuple):
            count = len(held)
            size = count * len(held[0])
        else:
            size = len(held)
            count = size // self._each
        octets = OBJECT_OCTETS + BYTES_OCTETS + size
        if count > 1:
            octets += 2 * BYTES_OCTETS + count * _ADDRESS
        return octets + self._octets_of_names()

    def _octets_of_names(self) -> int:
        return _octets_of(self.cname_chain) if self.cname_chain else 0

    @property
    def lives(self) -> Sequence[int]:
        """The seconds that each address lives, in their order."""
        if self.packed_lives:
            return memoryview(self.packed_lives).cast("I")
        return (self.ttl,) * len(self.addresses)

    @property
    def contributor_numbers(self) -> Sequence[int]:
        """The number of each address's set of upstreams, in their order."""
        if self.packed_contributors:
            return memoryview(self.packed_contributors).cast("H").tolist()
        return (self.brought_by,) * len(self.addresses)

    @property
    def contributors(self) -> tuple[frozenset[str], ...]:
        """Who brought each address, in their order: upstreams by the text of their address in the
        configuration; none where that is not known.
        """
        return tuple(map(CONTRIBUTORS.names, self.contributor_numbers))

    @property
    def half_life(self) -> int:
        """The age in seconds at which half of the addresses or more have died."""
        if not self.packed_lives:
            return self.ttl
        lives = self.lives
        return sorted(lives)[(len(lives) - 1) // 2]

    def having(
        self,
        lives: Mapping[bytes, int],
        ad: bool | None = None,
        cname_life: int | None = None,
        contributors: Sequence[int] = (),
    ) -> AddressPool:
        """Return a pool of these addresses in this order, with these lives; at least one.

        ``ad`` and ``cname_life`` are as they are here if they are not given; of each address the
        number of its ``contributors`` is as all have it here.
        """
        values = lives.values()
        longest, least = max(values), min(values)
        brought_by = contributors[0] if contributors else self.brought_by
        alike = not contributors or contributors.count(brought_by) == len(contributors)
        return self._found_likewise(
            AddressPool(
                self.cname_chain,
                tuple(lives),
                longest,
                self.ad if ad is None else ad,
                lives=array("I", values).tobytes() if least < longest else b"",
                least=least,
                cname_life=self.cname_life if cname_life is None else cname_life,
                contributors=b"" if alike else array("H", contributors).tobytes(),
                brought_by=brought_by,
            )
        )

    def reordered(self, addresses: tuple[bytes, ...]) -> AddressPool:
        """Return the same pool with its addresses in another order."""
        mine = self.addresses
        if addresses == mine:
            return self
        if self.packed_lives or self.packed_contributors:
            places = {address: place for place, address in enumerate(mine)}
            return self._chosen(addresses, [places[address] for address in addresses])
        return self._found_likewise(
            AddressPool(
                self.cname_chain,
                addresses,
                self.ttl,
                self.ad,
                cname_life=self.cname_life,
                brought_by=self.brought_by,
            )
        )

    def only(self, wanted: Iterable[bool]) -> AddressPool:
        """Return a pool of the addresses for which ``wanted`` has a true value; at least one."""
        mine = self.addresses
        places = list(compress(range(len(mine)), wanted))
        if len(places) == len(mine):
            return self
        return self._chosen(tuple([mine[place] for place in places]), places)

    def _chosen(self, addresses: tuple[bytes, ...], places: Sequence[int]) -> AddressPool:
        """Return a pool of these addresses, which are at these ``places`` here."""
        longest = least = self.ttl
        lives = contributors = b""
        if self.packed_lives:
            every_life = self.lives
            values = [every_life[place] for place in places]
            longest, least = max(values), min(values)
            if least < longest:
                lives = array("I", values).tobytes()
        brought_by = self.brought_by
        if self.packed_contributors:
            every_number = self.contributor_numbers
            numbers = [every_number[place] for place in places]
            brought_by = numbers[0]
            if numbers.count(brought_by) < len(numbers):
                contributors = array("H", numbers).tobytes()
        return self._found_likewise(
            AddressPool(
                self.cname_chain,
                addresses,
                longest,
                self.ad,
                lives=lives,
                least=least,
                cname_life=self.cname_life,
                contributors=contributors,
                brought_by=brought_by,
            )
        )

    def _found_likewise(self, pool: AddressPool) -> AddressPool:
        """Return ``pool``, which has addresses of this one, with what else is known of it."""
        return pool

    def is_whole(self, age: int, spare: int) -> bool:
        """Return whether all addresses have ``spare`` seconds left at an age in seconds, or all
        live equally long.
        """
        return not self.packed_lives or self.least - age >= spare

    def living(self, age: int, spare: int) -> AddressPool:
        """Return a pool of the addresses that have ``spare`` seconds left at an age in seconds.

        When there is none, of those that live; when all have died, of all.
        """
        if self.least - age >= spare:
            return self
        for death in (age + spare, age + 1):
            if death <= self.ttl:
                return self.only([life >= death for life in self.lives])
        return self

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Compose the answer section; addresses that do not fit are left out from the end."""
        ttl_field = _u32.pack(ttl)
        owner = QUESTION_POINTER
        records = b""
        for target in self.cname_chain:
            records += owner + _CNAME_IN + ttl_field + _u16(len(target)) + target
            owner = _u16(0xC000 | (question_end + len(records) - len(target)))
        addresses = self.addresses
        width = len(addresses[0])
        fitting = (room - len(records)) // (_ADDRESS_HEADER + width)
        if fitting < len(addresses):
            if fitting < 1:
                return None
            addresses = addresses[:fitting]
        header = owner + (b"\0\1\0\1" if width == 4 else b"\0\x1c\0\1") + ttl_field + _u16(width)
        count = _u16(len(self.cname_chain) + len(addresses))
        return count + b"\0\0\0\0", records + header + header.join(addresses)


class MixedPool(AddressPool):
    """A pool to which upstreams have contributed that lead to the name by CNAMEs of their own:
    ``other_targets`` are those of their targets that ``cname_chain`` does not have.
    """

    __slots__ = ("other_targets",)

    other_targets: tuple[bytes, ...]

    def chain_targets(self, key: bytes) -> tuple[bytes, ...]:
        """Return the targets of all CNAMEs, in lower case."""
        return super().chain_targets(key) + self.other_targets

    def _octets_of_names(self) -> int:
        return super()._octets_of_names() + _octets_of(self.other_targets)

    def _found_likewise(self, pool: AddressPool) -> AddressPool:
        return mixed(pool, self.other_targets)


def mixed(pool: AddressPool, other_targets: tuple[bytes, ...]) -> MixedPool:
    """Return ``pool`` with ``other_targets``."""
    made = MixedPool(
        pool.cname_chain,
        pool.addresses,
        pool.ttl,
        pool.ad,
        lives=pool.packed_lives,
        least=pool.least,
        cname_life=pool.cname_life,
        contributors=pool.packed_contributors,
        brought_by=pool.brought_by,
    )
    made.other_targets = other_targets
    return made


def _octets_of(names: tuple[bytes, ...]) -> int:
    return _TUPLE + sum([BYTES_OCTETS + len(name) for name in names])
