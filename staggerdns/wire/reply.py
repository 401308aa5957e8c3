"""An upstream's reply, indexed: where each record starts, its type, TTL and data.

Nothing is decoded that a forwarder does not need. Names inside are checked once, here, so that
bytes which pass may be sent on to clients: every name is legal, every pointer leads to a name
before it, and the data of the types that carry names or addresses has the shape RFC 1035 gives
it. Unknown types are opaque (RFC 3597).
"""

from __future__ import annotations

import struct

from staggerdns.wire.constants import (
    HEADER_SIZE,
    MAX_LABEL,
    MAX_NAME,
    MAX_TTL,
    RCODE,
    Type,
    WireError,
)
from staggerdns.wire.names import MAX_HOPS, read_name
from staggerdns.wire.question import Question

MAX_OWNERS = 64
"""Owner names read in one answer section, each way of writing one counted: a chain has 17. To
read thousands of long names would cost more than a query may.
"""

_counts = struct.Struct("!HHHHH").unpack_from
_record = struct.Struct("!HHIH").unpack_from
_RECORD_SIZE = 10

# The types whose data a receiver must be ready to decompress (RFC 3597 section 4): octets before
# the names, number of names, octets behind them.
NAMES_IN_DATA: dict[int, tuple[int, int, int]] = {
    2: (0, 1, 0),  # NS
    3: (0, 1, 0),  # MD
    4: (0, 1, 0),  # MF
    5: (0, 1, 0),  # CNAME
    6: (0, 2, 20),  # SOA
    7: (0, 1, 0),  # MB
    8: (0, 1, 0),  # MG
    9: (0, 1, 0),  # MR
    12: (0, 1, 0),  # PTR
    14: (0, 2, 0),  # MINFO
    15: (2, 1, 0),  # MX
    17: (0, 2, 0),  # RP
    18: (2, 1, 0),  # AFSDB
    21: (2, 1, 0),  # RT
    26: (2, 2, 0),  # PX
    33: (6, 1, 0),  # SRV
    36: (2, 1, 0),  # KX
    39: (0, 1, 0),  # DNAME
}
_NEVER_SENT_COMPRESSED = frozenset((17, 18, 21, 26, 33, 36, 39))  # newer than RFC 1035
_FIXED_SIZE = {1: 4, 28: 16}


class Record:
    """One resource record of an indexed reply; offsets count from the start of the message."""

    __slots__ = ("owner", "type", "rclass", "ttl", "header", "data", "end")

    def __init__(
        self, owner: int, rtype: int, rclass: int, ttl: int, header: int, data: int, end: int
    ) -> None:
        self.owner = owner
        self.type = rtype
        self.rclass = rclass
        self.ttl = ttl
        self.header = header  # the type field, so the TTL is at header + 4
        self.data = data
        self.end = end


class Reply:
    """An indexed reply: ``message``, ``flags``, ``rcode`` and the records of each section.

    ``opt`` is the OPT record, which is in no section list; the extended bits of its TTL are in
    ``rcode`` already (RFC 6891 section 6.1.3). ``needs_expansion``: some data is compressed that a
    client may not be ready to read so.
    """

    __slots__ = (
        "message",
        "flags",
        "rcode",
        "answers",
        "authority",
        "additional",
        "opt",
        "needs_expansion",
    )

    def __init__(self, message: bytes, flags: int) -> None:
        self.message = message
        self.flags = flags
        self.rcode = flags & RCODE
        self.answers: list[Record] = []
        self.authority: list[Record] = []
        self.additional: list[Record] = []
        self.opt: Record | None = None
        self.needs_expansion = False

    def records(self) -> list[Record]:
        """Return the records of all three sections in the order of the message."""
        return self.answers + self.authority + self.additional


def index_reply(message: bytes, question: Question) -> Reply:
    """Index the reply to ``question``; its header and question section match already.

    Raises `WireError` when the message is cut, has bytes behind its last record, or holds a
    name, a class or data that no client should be given.
    """
    flags, qdcount, ancount, nscount, arcount = _counts(message, 2)
    reply = Reply(message, flags)
    position = HEADER_SIZE + (len(question.section) if qdcount else 0)
    size = len(message)
    try:
        labels = _Labels(message, qdcount)
        for count, section in (
            (ancount, reply.answers),
            (nscount, reply.authority),
            (arcount, reply.additional),
        ):
            for _ in range(count):
                owner = position
                position = labels.skip_name(position)
                rtype, rclass, ttl, length = _record(message, position)
                data = position + _RECORD_SIZE
                end = data + length
                if end > size:
                    raise WireError("record runs over the end of the message")
                record = Record(owner, rtype, rclass, ttl, position, data, end)
                position = end
                if rtype == Type.OPT:
                    _take_opt(reply, record, section is reply.additional)
                    continue
                if rclass != question.qclass:
                    raise WireError("record of another class than the question's")
                if ttl > MAX_TTL:
                    record.ttl = 0
                fixed = _FIXED_SIZE.get(rtype)
                if fixed is None:
                    _check_data(reply, record, labels)
                elif length != fixed:
                    raise WireError("address of the wrong size")
                section.append(record)
    except (struct.error, IndexError):
        raise WireError("message is cut short") from None
    if position != size:
        raise WireError("bytes behind the last record")
    return reply


class _Labels:
    """The places where names, or the rest of one, start in a message, for pointers to lead to.

    A pointer means a name that came before (RFC 1035 section 4.1.4). One that leads anywhere
    else, into a header or a TTL, would change its meaning when those are patched.
    """

    __slots__ = ("_message", "_known")

    def __init__(self, message: bytes, qdcount: int) -> None:
        self._message = message
        # By place: octets of the uncompressed name from there on, pointers on the way.
        self._known: dict[int, tuple[int, int]] = {}
        if qdcount:
            self.skip_name(HEADER_SIZE)

    def skip_name(self, position: int) -> int:
        """Check the name at ``position``; return the offset behind it. Raises `WireError`."""
        message = self._message
        starts: list[int] = []
        while 0 < (length := message[position]) <= MAX_LABEL:
            starts.append(position)
            position += length + 1
        if length == 0:
            total, hops = 1, 0
            end = position + 1
        elif length >= 0xC0:
            known = self._known.get((length & 0x3F) << 8 | message[position + 1])
            if known is None or known[1] == MAX_HOPS:
                raise WireError("compression pointer to no earlier name")
            total, hops = known[0], known[1] + 1
            end = position + 2
        else:
            raise WireError("reserved label type")
        self._known[position] = (total, hops)
        for start in reversed(starts):
            total += message[start] + 1
            self._known[start] = (total, hops)
        if total > MAX_NAME:
            raise WireError("name longer than 255 octets")
        return end

    def length(self, position: int) -> int:
        """Return the octets of the uncompressed name at ``position``, which was checked."""
        return self._known[position][0]


def _take_opt(reply: Reply, record: Record, additional: bool) -> None:
    if reply.opt is not None or reply.message[record.owner] or not additional:
        raise WireError("OPT record where none may be")
    reply.opt = record
    reply.rcode |= record.ttl >> 24 << 4


def _check_data(reply: Reply, record: Record, labels: _Labels) -> None:
    message = reply.message
    shape = NAMES_IN_DATA.get(record.type)
    if shape is not None:
        before, names, behind = shape
        position = record.data + before
        for _ in range(names):
            start = position
            position = labels.skip_name(start)
            # A pointer takes two octets, what it stands for one (the root) or three and more.
            if position - start != labels.length(start) and record.type in _NEVER_SENT_COMPRESSED:
                reply.needs_expansion = True
        if position + behind != record.end:
            raise WireError("names do not fill the record's data")
    elif record.type == Type.TXT:
        position = record.data
        while position < record.end:
            position += message[position] + 1
        if position != record.end or record.end == record.data:
            raise WireError("strings do not fill the record's data")


def owner_name(message: bytes, record: Record, known: dict[bytes, bytes]) -> bytes:
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
