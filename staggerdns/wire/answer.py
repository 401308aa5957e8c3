"""What the cache keeps of an answer, in the form that a reply is put together from.

Two forms, one interface. A `Pool` is a CNAME chain and the addresses at its end, merged from one
or more upstreams; its records are composed when a reply is rendered, so that the order and the
number of addresses are free. A `Whole` is everything else: the sections of one upstream's
reply as they came, to be sent on with new TTLs patched in.

All records of one answer carry one TTL, the smallest that came (seconds).
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from array import array
from collections.abc import Sequence
from copy import copy

from staggerdns.wire.constants import (
    AD,
    CLASS_IN,
    HEADER_SIZE,
    MAX_MESSAGE,
    MAX_TTL,
    RCODE,
    TC,
    Rcode,
    Type,
    WireError,
)
from staggerdns.wire.names import read_name, skip_name
from staggerdns.wire.question import Question
from staggerdns.wire.reply import NAMES_IN_DATA, Record, Reply

MAX_CHAIN = 16
"""CNAME links followed in one answer; a longer chain is refused."""
MAX_OWNERS = 64
"""Owner names read in one answer section, each way of writing one counted: a chain has 17. To
read thousands of long names would cost more than a query may.
"""

_u16 = struct.Struct("!H").pack
_u32 = struct.Struct("!I")
_counts = struct.Struct("!5H").unpack_from
SOA_BEHIND_MNAME = b"\6nobody\7invalid\0" + struct.pack("!5I", 1, 3600, 1200, 604_800, 10_800)
"""The data of an SOA of our own (RFC 6303 section 3); in front of it comes the zone's name."""
_outline = struct.Struct("!H2xIH").unpack_from  # a record behind its owner, without the class
_record_header = struct.Struct("!HHIH").pack
_QUESTION_POINTER = b"\xc0\x0c"
_CNAME_IN = b"\0\5\0\1"
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
        """Return the same answer with its addresses in another order; without any it is itself."""
        return self

    @abstractmethod
    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the three section counts (6 bytes) and the records behind the question.

        ``question_end``: offset of the first record in the message. ``ttl``: seconds to put
        on every record. ``room``: bytes for the records. `None` when they cannot fit.
        """


class Pool(Answer):
    """The addresses found for a name: ``links`` are the targets of its CNAME chain in order."""

    __slots__ = ("links",)

    def __init__(
        self, links: tuple[bytes, ...], addresses: tuple[bytes, ...], ttl: int, ad: bool
    ) -> None:
        self.rcode = Rcode.NOERROR
        self.negative = False
        self.links = links
        self.addresses = addresses
        self.ttl = ttl
        self.ad = ad

    def reordered(self, addresses: tuple[bytes, ...]) -> Pool:
        """Return the same pool with its addresses in another order."""
        return Pool(self.links, addresses, self.ttl, self.ad)

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Compose the answer section; addresses that do not fit are left out from the end."""
        ttl_field = _u32.pack(ttl)
        owner = _QUESTION_POINTER
        chain = b""
        for target in self.links:
            chain += owner + _CNAME_IN + ttl_field + _u16(len(target)) + target
            owner = _u16(0xC000 | (question_end + len(chain) - len(target)))
        addresses = self.addresses
        width = len(addresses[0])
        fitting = (room - len(chain)) // (_ADDRESS_HEADER + width)
        if fitting < len(addresses):
            if fitting < 1:
                return None
            addresses = addresses[:fitting]
        header = owner + (b"\0\1\0\1" if width == 4 else b"\0\x1c\0\1") + ttl_field + _u16(width)
        count = _u16(len(self.links) + len(addresses))
        return count + b"\0\0\0\0", chain + header + header.join(addresses)


class Whole(Answer):
    """One upstream's answer with all its sections.

    ``spots`` are the offsets of its TTLs in ``body``, ``places`` those of its addresses. Their
    order may change, since a signature covers a set of records (RFC 4034 section 3.1.8.1).
    """

    __slots__ = ("counts", "body", "spots", "places")

    def __init__(self, reply: Reply, question: Question, ttl: int, negative: bool) -> None:
        self.rcode = reply.rcode
        self.ad = bool(reply.flags & AD)
        self.negative = negative
        self.ttl = ttl
        self.counts = (
            _u16(len(reply.answers)) + _u16(len(reply.authority)) + _u16(len(reply.additional))
        )
        start = HEADER_SIZE + len(question.section)
        records = reply.records()
        opt = reply.opt
        opt_is_last = opt is None or not records or records[-1].end <= opt.owner
        if opt_is_last and not reply.needs_expansion:
            self.body = reply.message[start : records[-1].end if records else start]
            spots: Sequence[int] = [record.header + 4 - start for record in records]
            found = [] if negative else _addresses(reply, question)
            self.places = tuple(record.data - start for record in found)
            self.addresses = tuple(reply.message[record.data : record.end] for record in found)
        else:
            # Records behind the OPT move up, and pointers in them would go astray.
            self.body, spots = _expand(reply, records)
            self.places = self.addresses = ()
        self.spots = array("H", spots)

    def reordered(self, addresses: tuple[bytes, ...]) -> Whole:
        """Return the same answer with other addresses at the places of its own."""
        body = bytearray(self.body)
        for place, address in zip(self.places, addresses, strict=True):
            body[place : place + len(address)] = address
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
        for spot in self.spots:
            pack_into(body, spot, ttl)
        return self.counts, bytes(body)


class Failed(Answer):
    """No upstream answered well: SERVFAIL, kept briefly (RFC 9520).

    ``ede`` says why in a number (RFC 8914 section 4), ``text`` in words.
    """

    __slots__ = ("ede", "text")

    def __init__(self, ede: int, ttl: int, text: str = "") -> None:
        self.rcode = Rcode.SERVFAIL
        self.ad = False
        self.negative = False
        self.ttl = ttl
        self.addresses = ()
        self.ede = ede
        self.text = text.encode()

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return three empty sections."""
        return b"\0\0\0\0\0\0", b""


class Local(Answer):
    """One record of our own making at the name asked for."""

    __slots__ = ("record",)

    def __init__(self, rtype: int, rclass: int, data: bytes, ttl: int) -> None:
        self.rcode = Rcode.NOERROR
        self.ad = False
        self.negative = False
        self.ttl = ttl
        self.addresses = ()
        self.record = _record_header(rtype, rclass, ttl, len(data)) + data

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the record; it fits any reply."""
        return b"\0\1\0\0\0\0", _QUESTION_POINTER + self.record


class Nothing(Answer):
    """NXDOMAIN or NODATA of our own, with an SOA by which it may be kept (RFC 2308 section 3).

    ``zone``: how many octets at the end of the name asked for are the zone's own name. What the
    SOA says is what RFC 6303 section 3 gives to zones that nobody administers.
    """

    __slots__ = ("zone",)

    def __init__(self, rcode: Rcode, zone: int, ttl: int) -> None:
        self.rcode = rcode
        self.ad = False
        self.negative = True
        self.ttl = ttl
        self.addresses = ()
        self.zone = zone

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the SOA record; it fits any reply."""
        zone = _u16(0xC000 | (question_end - 4 - self.zone))
        header = _record_header(Type.SOA, CLASS_IN, ttl, 2 + len(SOA_BEHIND_MNAME))
        return b"\0\0\0\1\0\0", zone + header + zone + SOA_BEHIND_MNAME


def _addresses(reply: Reply, question: Question) -> list[Record]:
    """Return the records of the one set of addresses that answers an address question.

    Nothing when they are no set: duplicates, or more than one owner.
    """
    if question.qtype not in (Type.A, Type.AAAA):
        return []
    found = [record for record in reply.answers if record.type == question.qtype]
    known: dict[bytes, bytes] = {}
    owners = {_owner(reply.message, record, known) for record in found}
    different = {reply.message[record.data : record.end] for record in found}
    return found if len(owners) == 1 and len(different) == len(found) else []


def _owner(message: bytes, record: Record, known: dict[bytes, bytes]) -> bytes:
    """Return a record's owner name in lower case; ``known`` are those of this message by the way
    they are written. Raises `WireError` beyond `MAX_OWNERS`.
    """
    written = message[record.owner : record.header]
    name = known.get(written)
    if name is None:
        if len(known) == MAX_OWNERS:
            raise WireError("more owner names than a chain has")
        name = known[written] = read_name(message, record.owner)[0].lower()
    return name


def _expand(reply: Reply, records: list[Record]) -> tuple[bytes, list[int]]:
    """Return the records with all names written out, and the offsets of their TTLs."""
    message = reply.message
    body = bytearray()
    spots: list[int] = []
    for record in records:
        body += read_name(message, record.owner)[0]
        spots.append(len(body) + 4)
        data = expand_data(message, record)
        body += message[record.header : record.header + 8] + _u16(len(data)) + data
        if len(body) > MAX_MESSAGE:
            raise WireError("too large with its names written out")
    return bytes(body), spots


def expand_data(message: bytes, record: Record) -> bytes:
    """Return a record's data with its compressed names written out (RFC 3597 section 4)."""
    shape = NAMES_IN_DATA.get(record.type)
    if shape is None:
        return message[record.data : record.end]
    before, names, _ = shape
    position = record.data + before
    data = message[record.data : position]
    for _ in range(names):
        name, position = read_name(message, position)
        data += name
    return data + message[position : record.end]


def quick_pool(message: bytes, question: Question) -> Pool | None:
    """Return the pool of the most usual reply, `None` for any other: that needs an index.

    Usual is NOERROR and nothing in the answer section but addresses at the name asked for, each
    with a pointer to the question. A pool takes nothing from the other sections: of them only
    the outline is checked.
    """
    flags, _, count, nscount, arcount = _counts(message, 2)
    if flags & (TC | RCODE) or not count:
        return None
    header = question.pointer_type_class
    length, size = (b"\0\4", 16) if question.qtype == Type.A else (b"\0\x10", 28)
    start = HEADER_SIZE + len(question.section)
    end = start + count * size
    if end > len(message):
        return None
    ttl = MAX_TTL
    addresses: list[bytes] = []
    for position in range(start, end, size):
        if (
            message[position : position + 6] != header
            or message[position + 10 : position + 12] != length
        ):
            return None
        (its_ttl,) = _u32.unpack_from(message, position + 6)
        if its_ttl < ttl:
            ttl = its_ttl
        elif its_ttl > MAX_TTL:
            ttl = 0
        addresses.append(message[position + 12 : position + size])
    if (nscount or arcount) and not _outline_is_sound(message, end, nscount, arcount):
        return None
    if not nscount and not arcount and end != len(message):
        return None
    return Pool((), _unique(addresses), ttl, bool(flags & AD))


def _outline_is_sound(message: bytes, position: int, nscount: int, arcount: int) -> bool:
    """Say whether records fill the message, among them at most one OPT, with no error in it."""
    opts = 0
    try:
        for index in range(nscount + arcount):
            first = message[position]
            position = position + 1 if not first else skip_name(message, position)
            rtype, ttl, length = _outline(message, position)
            position += 10 + length
            if rtype == Type.OPT:
                opts += 1
                if first or opts > 1 or index < nscount or ttl >> 24:
                    return False
    except (IndexError, struct.error, WireError):
        return False
    return position == len(message)


def read_pool(reply: Reply, question: Question) -> Pool | None:
    """Return chain and addresses of a positive reply, `None` when it holds no address.

    Records that are not on the way from the question's name to the addresses are left out.
    Raises `WireError` for a chain that loops or is longer than `MAX_CHAIN`, and for more than
    `MAX_OWNERS` owner names.
    """
    message = reply.message
    aliases: dict[bytes, tuple[bytes, int]] = {}
    found: dict[bytes, list[Record]] = {}
    known: dict[bytes, bytes] = {}
    for record in reply.answers:
        if record.type == Type.CNAME:
            owner = _owner(message, record, known)
            if owner not in aliases:
                aliases[owner] = (read_name(message, record.data)[0], record.ttl)
        elif record.type == question.qtype:
            found.setdefault(_owner(message, record, known), []).append(record)
    name = question.name
    ttl = MAX_TTL
    links: list[bytes] = []
    while name in aliases and name not in found:
        target, link_ttl = aliases[name]
        links.append(target)
        ttl = min(ttl, link_ttl)
        name = target.lower()
        if len(links) > MAX_CHAIN:
            raise WireError("CNAME chain too long, or a loop")
    records = found.get(name)
    if records is None:
        return None
    addresses = _unique([message[record.data : record.end] for record in records])
    ttl = min(ttl, *(record.ttl for record in records))
    return Pool(tuple(links), addresses, ttl, bool(reply.flags & AD))


def _unique(addresses: list[bytes]) -> tuple[bytes, ...]:
    return tuple(addresses) if len(addresses) == 1 else tuple(dict.fromkeys(addresses))
