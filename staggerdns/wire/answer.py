"""What the cache keeps of an answer, in the form that a reply is put together from.

A `Pool` is a CNAME chain and the addresses at its end, merged from one or more upstreams; its
records are composed when a reply is rendered, so that the order and the number of addresses are
free. A `SectionsAnswer` is everything else that upstreams say: the sections of one reply as they
came, to be sent on with new TTLs patched in. The others are of our own making: one record
(`RecordAnswer`), none (`NegativeAnswer`), or an error (`FailureAnswer`).

All records of one reply carry one TTL in seconds, the smallest of what is in it.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from itertools import compress

from staggerdns.wire.constants import (
    AD,
    CLASS_IN,
    HEADER_SIZE,
    Rcode,
    Type,
)
from staggerdns.wire.question import Question
from staggerdns.wire.records import pack_fields
from staggerdns.wire.reply import Record, Reply
from staggerdns.wire.rewrite import Rewriter

_u16 = struct.Struct("!H").pack
_u32 = struct.Struct("!I")
SOA_BEHIND_MNAME = b"\6nobody\7invalid\0" + struct.pack("!5I", 1, 3600, 1200, 604_800, 10_800)
"""The data of an SOA of our own (RFC 6303 section 3); in front of it comes the zone's name."""
_QUESTION_POINTER = b"\xc0\x0c"
_CNAME_IN = b"\0\5\0\1"
# What CPython takes, in octets, beside those of names and addresses themselves: an answer with
# its tuples and numbers; an object of bytes; an address in a tuple, with its life; its offset in
# a body.
_OBJECT = 320
_BYTES = 48
_ADDRESS = 56
_OFFSET = 40
_ADDRESS_HEADER = 12  # pointer, type, class, TTL and length in front of an address


class Answer:
    """An answer to one question.

    ``rcode``; ``ad``: the upstreams validated it; ``ttl``: seconds that it may be kept, 0 not
    at all; ``negative``: NXDOMAIN or NODATA; ``addresses``: those that a client may choose from, in
    order, when an address was asked for.
    """

    # Abstract without ABCMeta, which would make every isinstance() on the way of a reply slower.

    __slots__ = ("rcode", "ad", "ttl", "negative", "addresses")

    rcode: int
    ad: bool
    ttl: int
    negative: bool
    addresses: tuple[bytes, ...]

    def reordered(self, addresses: tuple[bytes, ...]) -> Answer:
        """Return the same answer with its addresses in another order; itself when it has none."""
        return self

    @property
    def octets(self) -> int:
        """About how much memory the answer takes."""
        return _OBJECT

    @abstractmethod
    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the three section counts (6 bytes) and the records behind the question.

        ``question_end``: offset of the first record in the message. ``ttl``: seconds to put
        on every record. ``room``: bytes for the records. `None` when they cannot fit.
        """


class Pool(Answer):
    """The addresses found for a name: ``cname_chain`` are the targets of its CNAMEs in order.

    Every address has a life of its own, in seconds since the first of them came: ``ttl`` is the
    longest, ``least`` the shortest, and ``packed_lives`` those of all, 32 bits each in the
    order of ``addresses``; empty when they are equal. ``cname_life`` is that of the CNAMEs.
    """

    __slots__ = ("cname_chain", "least", "packed_lives", "cname_life")

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
    ) -> None:
        self.rcode = Rcode.NOERROR
        self.negative = False
        self.cname_chain = cname_chain
        self.addresses = addresses
        self.ttl = ttl
        self.ad = ad
        self.packed_lives = lives
        self.least = ttl if least is None else least
        self.cname_life = ttl if cname_life is None else cname_life

    @property
    def octets(self) -> int:
        """About how much memory the pool takes."""
        addresses = self.addresses
        octets = _OBJECT + len(addresses) * (_ADDRESS + len(addresses[0]))
        if self.cname_chain:
            octets += sum(_BYTES + len(target) for target in self.cname_chain)
        return octets

    @property
    def lives(self) -> Sequence[int]:
        """The seconds that each address lives, in their order."""
        if self.packed_lives:
            return memoryview(self.packed_lives).cast("I")
        return (self.ttl,) * len(self.addresses)

    @property
    def half_life(self) -> int:
        """The age in seconds at which half of the addresses or more have died."""
        if not self.packed_lives:
            return self.ttl
        lives = self.lives
        return sorted(lives)[(len(lives) - 1) // 2]

    def having(
        self, lives: Mapping[bytes, int], ad: bool | None = None, cname_life: int | None = None
    ) -> Pool:
        """Return a pool of these addresses in this order, with these lives; at least one.

        ``ad`` and ``cname_life`` are as they are here if they are not given.
        """
        values = lives.values()
        longest, least = max(values), min(values)
        return Pool(
            self.cname_chain,
            tuple(lives),
            longest,
            self.ad if ad is None else ad,
            lives=array("I", values).tobytes() if least < longest else b"",
            least=least,
            cname_life=self.cname_life if cname_life is None else cname_life,
        )

    def reordered(self, addresses: tuple[bytes, ...]) -> Pool:
        """Return the same pool with its addresses in another order."""
        if addresses == self.addresses:
            return self
        if self.packed_lives:
            lives = dict(zip(self.addresses, self.lives, strict=True))
            return self.having({address: lives[address] for address in addresses})
        return Pool(self.cname_chain, addresses, self.ttl, self.ad, cname_life=self.cname_life)

    def only(self, wanted: Iterable[bool]) -> Pool:
        """Return a pool of the addresses for which ``wanted`` has a true value; at least one."""
        lives = dict(compress(zip(self.addresses, self.lives, strict=True), wanted))
        return self if len(lives) == len(self.addresses) else self.having(lives)

    def living(self, age: int, spare: int) -> Pool:
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


class SectionsAnswer(Answer):
    """One upstream's answer with all its sections.

    ``ttl_offsets``: where its TTLs are in ``body``; ``address_offsets``: where its addresses are.
    These may change their order, since a signature covers a set of records (RFC 4034
    section 3.1.8.1).
    """

    __slots__ = ("counts", "body", "ttl_offsets", "address_offsets")

    def __init__(
        self,
        reply: Reply,
        question: Question,
        ttl: int,
        negative: bool,
        choice: Sequence[Record] = (),
    ) -> None:
        """Keep what is left in ``reply``; ``choice`` are the addresses that may be reordered."""
        self.rcode = reply.rcode
        self.ad = bool(reply.flags & AD)
        self.negative = negative
        self.ttl = ttl
        self.counts = (
            _u16(len(reply.answers)) + _u16(len(reply.authority)) + _u16(len(reply.additional))
        )
        records = reply.records()
        message = reply.message
        self.addresses = tuple([message[record.data : record.end] for record in choice])
        if len(set(self.addresses)) != len(self.addresses):
            self.addresses, choice = (), ()  # no set of records
        start = HEADER_SIZE + len(question.section)
        if reply.as_is and _are_all(records, start):
            self.body = message[start : records[-1].end if records else start]
            self.ttl_offsets = array("H", [record.header + 4 - start for record in records])
            self.address_offsets = tuple([record.data - start for record in choice])
        else:
            rewriter = Rewriter(reply, question)
            written = {record: rewriter.write(record) for record in records}
            self.body = bytes(rewriter.body)
            self.ttl_offsets = array("H", [header + 4 for header, _ in written.values()])
            self.address_offsets = tuple([written[record][1] for record in choice])

    @property
    def octets(self) -> int:
        """About how much memory the answer takes."""
        octets = _OBJECT + _BYTES + len(self.body) + 2 * len(self.ttl_offsets)
        for address in self.addresses[:1]:
            octets += len(self.addresses) * (_OFFSET + _ADDRESS + len(address))
        return octets

    def reordered(self, addresses: tuple[bytes, ...]) -> SectionsAnswer:
        """Return the same answer with other addresses where its own stand."""
        body = bytearray(self.body)
        for offset, address in zip(self.address_offsets, addresses, strict=True):
            body[offset : offset + len(address)] = address
        other = copy(self)
        other.body = bytes(body)
        other.addresses = addresses
        return other

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the sections with ``ttl`` patched in, all of them or none."""
        if len(self.body) > room:
            return None
        body = bytearray(self.body)
        pack_into = _u32.pack_into
        for offset in self.ttl_offsets:
            pack_into(body, offset, ttl)
        return self.counts, bytes(body)


class _OwnAnswer(Answer):
    """An answer of our own making: nothing that an upstream validated, nothing to choose from."""

    __slots__ = ()

    def __init__(self, rcode: Rcode, ttl: int, *, negative: bool = False) -> None:
        self.rcode = rcode
        self.ad = False
        self.negative = negative
        self.ttl = ttl
        self.addresses = ()


class FailureAnswer(_OwnAnswer):
    """No upstream answered well: SERVFAIL, kept briefly (RFC 9520).

    ``ede`` says why in a number (RFC 8914 section 4), ``text`` in words.
    """

    __slots__ = ("ede", "text")

    def __init__(self, ede: int, ttl: int, text: str = "") -> None:
        super().__init__(Rcode.SERVFAIL, ttl)
        self.ede = ede
        self.text = text.encode()

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return three empty sections."""
        return b"\0\0\0\0\0\0", b""


class RecordAnswer(_OwnAnswer):
    """One record of our own making at the name asked for."""

    __slots__ = ("record",)

    def __init__(self, rtype: int, rclass: int, data: bytes, ttl: int) -> None:
        super().__init__(Rcode.NOERROR, ttl)
        self.record = pack_fields(rtype, rclass, ttl, len(data)) + data

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the record; it fits any reply."""
        return b"\0\1\0\0\0\0", _QUESTION_POINTER + self.record


class NegativeAnswer(_OwnAnswer):
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


def _are_all(records: Sequence[Record], position: int) -> bool:
    """Return whether the records follow each other without a gap from ``position`` on.

    Where one was left out, those behind it move up, so that pointers to them would be wrong.
    """
    for record in records:
        if record.owner != position:
            return False
        position = record.end
    return True
