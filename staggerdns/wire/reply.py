"""An upstream's reply, indexed: where each record starts, its type, TTL and data.

Nothing is decoded that a forwarder does not need. Names inside are checked once, here, so that
bytes which pass may be sent on to clients: every name is legal, every pointer leads to a name
before it, and the data of the types that carry names or addresses has the shape that their RFCs
give it. Unknown types are opaque (RFC 3597).

The answer section is read strictly. Of the other sections, and of what stands behind the last
record, we keep what can be read, as dig, glibc and unbound do. The rest is *stray*: it is left out
and counted by its kind, one of `STRAYS`.
"""

from __future__ import annotations

import struct
from enum import Enum
from typing import Final

from staggerdns.wire.constants import (
    HEADER_SIZE,
    MAX_TTL,
    OPCODE,
    POINTER,
    QR,
    RCODE,
    RECORD_SIZE,
    SOUND,
    Type,
    WireError,
)
from staggerdns.wire.dropped import Dropped
from staggerdns.wire.edns import full_rcode
from staggerdns.wire.nametable import NameTable, NameTree
from staggerdns.wire.question import Question
from staggerdns.wire.records import read_fields

_counts = struct.Struct("!HHHHH").unpack_from

CUT, OCTETS, SECOND_OPT, SIGNATURE, OTHER_CLASS, MALFORMED, DNSSEC, UNRELATED = STRAYS = (
    "cut",  # records that were promised, and are not there or not legible
    "octets",  # behind the last record
    "opt",  # a second one, or one where none may be (RFC 6891 section 6.1.1)
    "signature",  # of a whole message: TSIG (RFC 8945), SIG(0) (RFC 2931)
    "class",  # another one than the question's
    "malformed",  # data of the wrong shape
    "dnssec",  # for a question without DO (RFC 4035 section 3.2.1)
    "unrelated",  # nothing that the question leads to
)

_ID_SIZE: Final = 2
_QR: Final = QR >> 8
_QR_AND_OPCODE: Final = (QR | OPCODE) >> 8
ANYTHING = -1
# The types whose data a receiver must be ready to decompress (RFC 3597 section 4), and those where
# old servers have been seen to compress: octets before the names, number of names, octets behind.
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
    24: (18, 1, ANYTHING),  # SIG
    26: (2, 2, 0),  # PX
    30: (0, 1, ANYTHING),  # NXT
    33: (6, 1, 0),  # SRV
    35: (4, 1, 0),  # NAPTR; three strings stand before the name, too
    36: (2, 1, 0),  # KX
    39: (0, 1, 0),  # DNAME
    46: (18, 1, ANYTHING),  # RRSIG
    47: (0, 1, ANYTHING),  # NSEC
    64: (2, 1, ANYTHING),  # SVCB
    65: (2, 1, ANYTHING),  # HTTPS
}
MAY_BE_COMPRESSED = frozenset((2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 15))
"""Those of RFC 1035. Newer types must not be sent compressed (RFC 3597 section 4)."""
_OPAQUE_AT_WORST = frozenset((24, 30, 46, 47, 64, 65))  # nobody checks them on the way to a client
_OF_MESSAGES = frozenset((41, 250, 24))  # OPT, TSIG, SIG
_FIXED_SIZE = {1: 4, 28: 16}
_NAPTR = 35
_NAPTR_STRINGS = 3


def keeps_letters(rtype: int, *, do: bool) -> bool:
    """Return whether the letters of names in this type's data are covered by signatures.

    Those of the older types are signed in lower case (RFC 4034 section 6.2), of NSEC (RFC 6840
    section 5.1) and of types since RFC 3597 as they stand.
    """
    return rtype == Type.NSEC or (do and rtype in (Type.SVCB, Type.HTTPS))


class Record:
    """One resource record of an indexed reply; offsets count from the start of the message.

    ``name`` is the owner's number in the reply's `NameTable`, ``named`` are those of the names in
    its data.
    """

    __slots__ = ("owner", "name", "type", "rclass", "ttl", "header", "data", "end", "named")

    def __init__(
        self,
        owner: int,
        name: int,
        rtype: int,
        rclass: int,
        ttl: int,
        header: int,
        data: int,
        end: int,
    ) -> None:
        self.owner = owner
        self.name = name
        self.type = rtype
        self.rclass = rclass
        self.ttl = ttl
        self.header = header  # the type field, so the TTL is at header + 4
        self.data = data
        self.end = end
        self.named: tuple[int, ...] = ()


class Reply:
    """An indexed reply: ``message``, ``flags``, ``rcode`` and the records of each section.

    ``message`` has its question section in lower case. ``names`` are the names in it. ``opt`` is
    the OPT record, which is in no section list; the extended bits of its TTL are in ``rcode``
    already (RFC 6891 section 6.1.3). ``as_is``: clients may be given the records as they stand, if
    it is all of them. ``strays``: what was left out, by kind; ``dropped``: addresses, and why.
    """

    __slots__ = (
        "message",
        "flags",
        "rcode",
        "names",
        "answers",
        "authority",
        "additional",
        "opt",
        "as_is",
        "strays",
        "dropped",
    )

    def __init__(self, message: bytes, flags: int, names: NameTable) -> None:
        self.message = message
        self.flags = flags
        self.rcode = flags & RCODE
        self.names = names
        self.answers: list[Record] = []
        self.authority: list[Record] = []
        self.additional: list[Record] = []
        self.opt: Record | None = None
        self.as_is = True
        self.strays: dict[str, int] = {}
        self.dropped: list[Dropped] = []

    def records(self) -> list[Record]:
        """Return the records of all three sections in the order of the message."""
        return self.answers + self.authority + self.additional

    def strayed(self, kind: str, count: int = 1) -> None:
        """Count what is left out."""
        if count:
            self.strays[kind] = self.strays.get(kind, 0) + count

    def drop(self, records: list[Record], why: str) -> None:
        """Note which addresses are left out with these records."""
        for record in records:
            if record.type in (Type.A, Type.AAAA):
                self.dropped.append((self.message[record.data : record.end], why))


def repeats(message: bytes, query: bytes, end: int) -> bool:
    """Return whether ``message`` is a reply with nothing but the question of ``query``, letter by
    letter: most are, and it is quickly found.

    ``query`` is without its ID; ``end``: the offset behind the question in a message.
    """
    return (
        message[HEADER_SIZE:end] == query[HEADER_SIZE - _ID_SIZE : end - _ID_SIZE]
        and message[4:6] == b"\0\1"
        and message[2] & _QR_AND_OPCODE == _QR
    )


class Mismatch(Enum):
    """Why a message is not the reply that is waited for; metrics show its value."""

    SHORT = "short"
    FLAGS = "flags"
    QUESTION = "question"
    ID = "id"
    LATE = "late"
    SIZE = "size"
    TYPE = "type"
    """An HTTP response with another media type."""
    DOUBTED = "doubted"
    """One that may be forged (see `RetryReason`)."""


def mismatch(message: bytes, question: Question) -> Mismatch | None:
    """Return why ``message`` cannot be the reply to ``question``, `None` if it can.

    ID and source are the transport's to check. An error reply may lack the question, as
    servers that could not parse a query send it.
    """
    if len(message) < HEADER_SIZE:
        return Mismatch.SHORT
    flags = message[2] << 8 | message[3]
    if not flags & QR or flags & OPCODE:
        return Mismatch.FLAGS
    section = question.section
    end = question.end
    if message[4:6] == b"\0\1":
        name = message[HEADER_SIZE : end - 4]
        if message[end - 4 : end] == section[-4:] and name.lower() == question.name:
            return None
    elif message[4:8] == bytes(4) and full_rcode(message) not in SOUND:
        return None
    return Mismatch.QUESTION


def index_reply(message: bytes, question: Question, tree: NameTree | None = None) -> Reply:
    """Index the reply to ``question``; its header and question section match already.

    ``tree``: of the question's name, from whoever reads several replies to it.

    Raises `WireError` when the answer section is cut or holds a name or data that no client should
    be given. That of an error is not looked at so closely: nobody is given it.
    """
    flags, qdcount, ancount, nscount, arcount = _counts(message, 2)
    position = HEADER_SIZE
    sent: bytes | None = None
    if qdcount:
        position += len(question.section)
        sent = message[HEADER_SIZE : position - 4]
        message = message[:HEADER_SIZE] + question.section + message[position:]
    reply = Reply(message, flags, NameTable(message, tree or NameTree(question.name), sent))
    strict = flags & RCODE in SOUND
    for count, section in (
        (ancount, reply.answers),
        (nscount, reply.authority),
        (arcount, reply.additional),
    ):
        try:
            position = _read_section(reply, section, count, position, question, strict=strict)
        except (struct.error, IndexError, WireError) as error:
            if strict:
                raise WireError(f"answer section: {error}") from None
            reply.strayed(CUT)
            break
        strict = False
    else:
        if position != len(message):
            reply.strayed(OCTETS)
    if reply.names.odd_pointer:
        reply.as_is = False
    return reply


def _read_section(
    reply: Reply,
    section: list[Record],
    count: int,
    position: int,
    question: Question,
    *,
    strict: bool,
) -> int:
    """Read ``count`` records into ``section``; return the offset behind them.

    Raises `WireError`, `IndexError` or `struct.error` where the next one cannot be found and, if
    ``strict``, for one that no client should be given.
    """
    message, names = reply.message, reply.names
    by_offset, size, qclass = names.by_offset, len(message), question.qclass
    for _ in range(count):
        owner = position
        if message[position] == POINTER and message[position + 1] == HEADER_SIZE:
            name, _, is_ours = by_offset[position] = names.question
            position += 2
        else:
            name, position = names.read(position)
            is_ours = names.shares or names.has_ours
        rtype, rclass, ttl, length = read_fields(message, position)
        data = position + RECORD_SIZE
        end = data + length
        if end > size:
            raise WireError("record runs over the end of the message")
        if ttl > MAX_TTL:
            ttl = 0
        record = Record(owner, name, rtype, rclass, ttl, position, data, end)
        position = end
        if (rtype in _OF_MESSAGES or rclass != qclass) and _is_special(
            reply, record, section, qclass
        ):
            continue
        if length != _FIXED_SIZE.get(rtype):
            try:
                _check_data(reply, record, do=question.do)
            except (WireError, IndexError):
                if strict:
                    raise
                reply.strayed(MALFORMED)
                continue
        if is_ours:
            reply.as_is = False
        section.append(record)
    return position


def _is_special(reply: Reply, record: Record, section: list[Record], qclass: int) -> bool:
    """Keep or drop a record that is about the message, or of another class than the question.

    Returns whether it was one of these.
    """
    message = reply.message
    if record.type == Type.OPT:
        if section is reply.additional and reply.opt is None and not message[record.owner]:
            reply.opt = record
            reply.rcode |= message[record.header + 4] << 4
        else:
            reply.strayed(SECOND_OPT)
    elif record.type == Type.TSIG or (
        record.type == Type.SIG and message[record.data : record.data + 2] == b"\0\0"
    ):
        reply.strayed(SIGNATURE)
    elif record.rclass != qclass:
        reply.strayed(OTHER_CLASS)
    else:
        return False
    return True


def _check_data(reply: Reply, record: Record, *, do: bool) -> None:
    rtype = record.type
    if rtype in _FIXED_SIZE:
        raise WireError("address of the wrong size")
    if rtype in NAMES_IN_DATA:
        try:
            _read_names(reply, record, do=do)
        except (WireError, IndexError):
            if rtype not in _OPAQUE_AT_WORST:
                raise
    elif rtype == Type.TXT:
        if record.data == record.end:
            # To be taken for one empty string (RFC 6763 section 6.1), which few clients do; but a
            # signature covers what there is.
            reply.as_is = reply.as_is and do
        elif _behind_strings(reply.message, record.data, record.end) != record.end:
            raise WireError("strings do not fill the record's data")


def _read_names(reply: Reply, record: Record, *, do: bool) -> None:
    names, rtype, limit = reply.names, record.type, record.end
    before, count, behind = NAMES_IN_DATA[rtype]
    position = record.data + before if rtype != _NAPTR else names_start(reply.message, record)
    may_be_compressed = rtype in MAY_BE_COMPRESSED
    found = []
    for _ in range(count):
        start = position
        node, position = names.read(start, limit)
        found.append(node)
        if names.has_ours and not keeps_letters(rtype, do=do):
            reply.as_is = False
        # A pointer takes two octets, what it stands for one (the root) or three and more.
        if not may_be_compressed and position - start != names.sizes[node]:
            reply.as_is = False
    if behind != ANYTHING and position + behind != limit:
        raise WireError("names do not fill the record's data")
    record.named = tuple(found)


def names_start(message: bytes, record: Record) -> int:
    """Return where the names begin in the data of a type of `NAMES_IN_DATA`.

    Raises `IndexError` when the message ends before.
    """
    position = record.data + NAMES_IN_DATA[record.type][0]
    if record.type == _NAPTR:
        for _ in range(_NAPTR_STRINGS):
            position += message[position] + 1
    return position


def _behind_strings(message: bytes, position: int, end: int) -> int:
    while position < end:
        position += message[position] + 1
    return position
