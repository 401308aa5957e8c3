"""What the cache keeps of an answer, in the form that a reply is put together from.

An `AddressPool` is a CNAME chain and the addresses at its end, merged from one or more upstreams;
its records are composed when a reply is rendered, so that the order and the number of addresses are
free. A `SectionsAnswer` (``staggerdns/wire/sections.py``) is all else that upstreams say. The
others are of our own making: one record (`RecordAnswer`), none (`LocalNegativeAnswer`), or an error
(`FailureAnswer`).

All records of one reply carry one TTL in seconds, the smallest of what is in it.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

from staggerdns.wire.constants import (
    CLASS_IN,
    Rcode,
    Type,
)
from staggerdns.wire.contributors import CONTRIBUTORS, UNKNOWN
from staggerdns.wire.records import pack_fields

_u16 = struct.Struct("!H").pack
_u32 = struct.Struct("!I")
SOA_BEHIND_MNAME = b"\6nobody\7invalid\0" + struct.pack("!5I", 1, 3600, 1200, 604_800, 10_800)
"""The data of an SOA of our own (RFC 6303 section 3); in front of it comes the zone's name."""
_QUESTION_POINTER = b"\xc0\x0c"
_CNAME_IN = b"\0\5\0\1"
# What CPython takes beside the octets of names and addresses themselves.
OBJECT_OCTETS = 160
"""An answer with its numbers."""
BYTES_OCTETS = 48
"""An object of bytes, but for what is in it."""
_TUPLE = 64
_ADDRESS = 6  # its life and its contributors
_ADDRESS_HEADER = 12  # pointer, type, class, TTL and length in front of an address


class Answer:
    """An answer to one question.

    ``rcode``; ``ad``: the upstreams validated it; ``ttl``: seconds that it may be kept, 0 not
    at all; ``negative``: NXDOMAIN or NODATA.
    """

    # Abstract without ABCMeta, which would make every isinstance() on the way of a reply slower.

    __slots__ = ("rcode", "ad", "ttl", "negative")

    rcode: int
    ad: bool
    ttl: int
    negative: bool

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """Those that a client may choose from, in order, when an address was asked for."""
        return ()

    def chain_targets(self, key: bytes) -> tuple[bytes, ...]:
        """Return the targets of its CNAMEs (wire form, lower case), in whatever order; ``key`` is
        that of the question.
        """
        return ()

    def reordered(self, addresses: tuple[bytes, ...]) -> Answer:
        """Return the same answer with its addresses in another order; itself when it has none."""
        return self

    def pack(self) -> None:
        """Keep what it has in less memory from now on, if that is possible."""

    @property
    def octets(self) -> int:
        """About how much memory the answer takes."""
        return OBJECT_OCTETS

    @abstractmethod
    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the three section counts (6 bytes) and the records behind the question.

        ``question_end``: offset of the first record in the message. ``ttl``: seconds to put
        on every record. ``room``: bytes for the records. `None` when they cannot fit.
        """


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
        if self.cname_chain:
            octets += _TUPLE + sum(BYTES_OCTETS + len(target) for target in self.cname_chain)
        return octets

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
        return AddressPool(
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

    def reordered(self, addresses: tuple[bytes, ...]) -> AddressPool:
        """Return the same pool with its addresses in another order."""
        mine = self.addresses
        if addresses == mine:
            return self
        if self.packed_lives or self.packed_contributors:
            places = {address: place for place, address in enumerate(mine)}
            return self._chosen(addresses, [places[address] for address in addresses])
        return AddressPool(
            self.cname_chain,
            addresses,
            self.ttl,
            self.ad,
            cname_life=self.cname_life,
            brought_by=self.brought_by,
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
        return AddressPool(
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
        owner = _QUESTION_POINTER
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


class _OwnAnswer(Answer):
    """An answer of our own making: nothing that an upstream validated, nothing to choose from."""

    __slots__ = ()

    def __init__(self, rcode: Rcode, ttl: int, *, negative: bool = False) -> None:
        self.rcode = rcode
        self.ad = False
        self.negative = negative
        self.ttl = ttl


class ErrorAnswer(_OwnAnswer):
    """A code alone, which is no answer to the question: SERVFAIL or REFUSED."""

    __slots__ = ()

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return three empty sections."""
        return b"\0\0\0\0\0\0", b""


class FailureAnswer(ErrorAnswer):
    """No upstream answered well: SERVFAIL, kept briefly (RFC 9520).

    ``ede`` says why in a number (RFC 8914 section 4), ``text`` in words.
    """

    __slots__ = ("ede", "text")

    def __init__(self, ede: int, ttl: int, text: str = "") -> None:
        super().__init__(Rcode.SERVFAIL, ttl)
        self.ede = ede
        self.text = text.encode()

    def lasting(self, ttl: int) -> FailureAnswer:
        """Return the same answer, to be kept for ``ttl`` seconds."""
        return FailureAnswer(self.ede, ttl, self.text.decode())


class RecordAnswer(_OwnAnswer):
    """One record of our own making at the name asked for."""

    __slots__ = ("record",)

    def __init__(self, rtype: int, rclass: int, data: bytes, ttl: int) -> None:
        super().__init__(Rcode.NOERROR, ttl)
        self.record = pack_fields(rtype, rclass, ttl, len(data)) + data

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the record; it fits any reply."""
        return b"\0\1\0\0\0\0", _QUESTION_POINTER + self.record


class LocalNegativeAnswer(_OwnAnswer):
    """NXDOMAIN or NODATA of our own, with an SOA by which it may be kept (RFC 2308 section 3).

    ``zone``: how many octets at the end of the name asked for are the zone's own name. What the
    SOA says is what RFC 6303 section 3 gives to zones that nobody administers.
    """

    __slots__ = ("zone",)

    def __init__(self, rcode: Rcode, zone: int, ttl: int) -> None:
        super().__init__(rcode, ttl, negative=True)
        self.zone = zone

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the SOA record; it fits any reply."""
        zone = _u16(0xC000 | (question_end - 4 - self.zone))
        header = pack_fields(Type.SOA, CLASS_IN, ttl, 2 + len(SOA_BEHIND_MNAME))
        return b"\0\0\0\1\0\0", zone + header + zone + SOA_BEHIND_MNAME
