"""A client's query: one scan from datagram to the few facts that a reply needs.

The scan accepts what RFC 1035 and RFC 6891 allow a query to be and nothing else. A message that
deserves no reply (too short, the header of a proxy that we do not know,
or itself a response: answering it could start a packet loop)
raises `Unanswerable`; one that deserves an error reply raises `Rejected` with its code.
"""

from __future__ import annotations

import struct
from typing import ClassVar

from staggerdns.errors import StaggerDNSError
from staggerdns.wire.constants import (
    CD,
    CLIENT_COOKIE_SIZE,
    COOKIE,
    EDNS_DO,
    HEADER_SIZE,
    MAX_LABEL,
    MAX_NAME,
    MIN_UDP_SIZE,
    OPCODE,
    PADDING,
    QR,
    RECORD_SIZE,
    WITH_SERVER_COOKIE,
    Rcode,
    Type,
    WireError,
)
from staggerdns.wire.key import make_key
from staggerdns.wire.names import skip_name
from staggerdns.wire.proxyheader import SIGNATURE
from staggerdns.wire.question import Question
from staggerdns.wire.records import read_fields

_header = struct.Struct("!HHHHH").unpack_from  # the header without its ID
_type_class = struct.Struct("!HH").unpack_from
_COOKIE_SIZES = frozenset((CLIENT_COOKIE_SIZE, *WITH_SERVER_COOKIE))  # RFC 7873 section 5.2.2


class Unanswerable(StaggerDNSError, ValueError):
    """A message that gets no reply at all; ``reason``: as metrics call it."""

    reason: ClassVar[str] = "unanswerable"


class MisplacedHeader(Unanswerable):
    """The header of a proxy, where there must be none."""

    reason: ClassVar[str] = "proxy_unexpected"


class Query:
    """What a client asked.

    ``message``: the bytes received. ``question_end``: the offset behind the question, or 12 when
    there is no usable one. ``edns``: whether an OPT record came. ``payload``: the largest UDP
    reply in bytes that the client takes, at least 512. ``cookie``: what its COOKIE option
    holds. ``options``: what the OPT record of the reply shall carry, set by whoever answers.
    ``plain``: nothing in the message varies between equal questions of one client program (as
    EDNS options do, padding apart), so equal bytes after the ID may get equal replies.
    """

    __slots__ = (
        "message",
        "flags",
        "question_end",
        "qtype",
        "qclass",
        "key",
        "edns",
        "do",
        "payload",
        "cookie",
        "options",
        "plain",
    )

    def __init__(self, message: bytes, flags: int) -> None:
        self.message = message
        self.flags = flags
        self.question_end = HEADER_SIZE
        self.qtype = 0
        self.qclass = 0
        self.key = b""
        self.edns = False
        self.do = False
        self.payload = MIN_UDP_SIZE
        self.cookie = b""
        self.options = b""
        self.plain = True

    def question(self) -> Question:
        """Return the question to ask upstreams for this query."""
        return Question(self.key)


class Rejected(StaggerDNSError, ValueError):
    """A query that gets an error reply: ``rcode`` says which, ``query`` what is known of it."""

    def __init__(self, rcode: Rcode, query: Query) -> None:
        super().__init__(rcode.name)
        self.rcode = rcode
        self.query = query


def parse_query(message: bytes) -> Query:
    """Scan one message from a client.

    Raises `Unanswerable` for a message to drop and `Rejected` for one to refuse: NOTIMP for
    an opcode other than QUERY, FORMERR for a malformed one, BADVERS for an unknown EDNS version,
    NOERROR for one that asks for nothing but a cookie (RFC 7873 section 5.4).
    """
    size = len(message)
    if size < HEADER_SIZE:
        raise Unanswerable("shorter than a header")
    flags, qdcount, ancount, nscount, arcount = _header(message, 2)
    if flags & QR:
        raise Unanswerable("a response, not a query")
    query = Query(message, flags)
    if flags & OPCODE or qdcount != 1 or ancount or nscount:
        if not (flags & OPCODE or qdcount or ancount or nscount):
            _read_additional(query, HEADER_SIZE, arcount)
            raise Rejected(Rcode.NOERROR if query.cookie else Rcode.FORMERR, query)
        if message.startswith(SIGNATURE):  # its opcode is 1
            raise MisplacedHeader("the header of a proxy")
        query.edns = _has_opt(message, qdcount, ancount + nscount, arcount)
        raise Rejected(Rcode.NOTIMP if flags & OPCODE else Rcode.FORMERR, query)
    position = HEADER_SIZE
    try:
        while length := message[position]:
            if length > MAX_LABEL:  # a first name has nothing to point back to
                raise Rejected(Rcode.FORMERR, query)
            position += length + 1
        position += 1
        query.qtype, query.qclass = _type_class(message, position)
    except (IndexError, struct.error):
        raise Rejected(Rcode.FORMERR, query) from None
    if position - HEADER_SIZE > MAX_NAME:
        raise Rejected(Rcode.FORMERR, query)
    end = query.question_end = position + 4
    if arcount:
        _read_additional(query, end, arcount)
    elif end != size:
        raise Rejected(Rcode.FORMERR, query)
    query.key = make_key(
        message[HEADER_SIZE:position], message[position:end], query.do, bool(flags & CD)
    )
    return query


def _has_opt(message: bytes, questions: int, records: int, additional: int) -> bool:
    """Return whether a message that we refuse anyway has an OPT record, as far as it is legible."""
    position = HEADER_SIZE
    try:
        for _ in range(questions):
            position = skip_name(message, position) + 4
        for index in range(records + additional):
            owner = position
            position = skip_name(message, position)
            rtype, _, _, length = read_fields(message, position)
            position += RECORD_SIZE + length
            if rtype == Type.OPT and index >= records and not message[owner]:
                return True
    except (WireError, struct.error):
        pass
    return False


def _read_additional(query: Query, position: int, count: int) -> None:
    """Walk the additional section for the OPT record (RFC 6891 section 6.1.1: one at most)."""
    message = query.message
    size = len(message)
    version = 0
    try:
        for _ in range(count):
            owner = position
            position = skip_name(message, position)
            rtype, rclass, ttl, length = read_fields(message, position)
            position += RECORD_SIZE + length
            if rtype != Type.OPT:
                query.plain = False
                continue
            if query.edns or message[owner]:
                raise Rejected(Rcode.FORMERR, query)
            query.edns = True
            query.payload = max(rclass, MIN_UDP_SIZE)
            query.do = bool(ttl & EDNS_DO)
            version = ttl >> 16 & 0xFF
            if length and not version:  # another version may have options of another form
                _check_options(query, position - length, position)
    except (WireError, struct.error):
        raise Rejected(Rcode.FORMERR, query) from None
    if position != size:
        raise Rejected(Rcode.FORMERR, query)
    if version:
        raise Rejected(Rcode.BADVERS, query)


def _check_options(query: Query, position: int, end: int) -> None:
    """Check that the options fill the RDATA exactly; all but a first COOKIE are ignored.

    (RFC 6891 section 6.1.2, RFC 7873 section 5.2.)
    """
    while position < end:
        code, length = _type_class(query.message, position)
        position += 4 + length
        if code != PADDING:
            query.plain = False
        if code == COOKIE and not query.cookie:
            if length not in _COOKIE_SIZES:
                raise Rejected(Rcode.FORMERR, query)
            query.cookie = query.message[position - length : position]
    if position != end:
        raise Rejected(Rcode.FORMERR, query)
