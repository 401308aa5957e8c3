"""What the cache keeps of an answer, in the form that a reply is put together from.

An `AddressPool` (``staggerdns/wire/addresspool.py``) has the addresses that upstreams gave for a
name. A `SectionsAnswer` (``staggerdns/wire/sections.py``) is all else that upstreams say. The
others are of our own making: one record (`RecordAnswer`), none (`LocalNegativeAnswer`), or an error
(`FailureAnswer`).

All records of one reply carry one TTL in seconds, the smallest of what is in it.
"""

from __future__ import annotations

import struct
from abc import abstractmethod

from staggerdns.wire.constants import (
    CLASS_IN,
    Rcode,
    Type,
)
from staggerdns.wire.records import pack_fields

_u16 = struct.Struct("!H").pack
SOA_BEHIND_MNAME = b"\6nobody\7invalid\0" + struct.pack("!5I", 1, 3600, 1200, 604_800, 10_800)
"""The data of an SOA of our own (RFC 6303 section 3); in front of it comes the zone's name."""
QUESTION_POINTER = b"\xc0\x0c"
"""The name asked for, where a record begins (RFC 1035 section 4.1.4)."""
# What CPython takes beside the octets of names and addresses themselves.
OBJECT_OCTETS = 160
"""An answer with its numbers."""
BYTES_OCTETS = 48
"""An object of bytes, but for what is in it."""


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
        return b"\0\1\0\0\0\0", QUESTION_POINTER + self.record


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
