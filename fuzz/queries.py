"""Messages from clients: whatever is accepted can be asked and answered, the rest is refused."""

from __future__ import annotations

from zlib import crc32

import dns.flags
import dns.message
import dns.name

from fuzz import reading
from staggerdns.server.listenercontext import CurrentGroups, ListenerContext
from staggerdns.server.local import LocalNames
from staggerdns.server.request import UDP, Request
from staggerdns.settings.sections import LocalSettings
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, FailureAnswer
from staggerdns.wire.constants import EDNS_UDP_SIZE, HEADER_SIZE, MIN_UDP_SIZE, Ede, Rcode, Type
from staggerdns.wire.proxyheader import SIGNATURE
from staggerdns.wire.query import Query, Rejected, Unanswerable, parse_query
from staggerdns.wire.render import render, render_error

_NO_LISTENER = ListenerContext(None, CurrentGroups(None), {})
_LOCAL = LocalNames(LocalSettings(), None)
_ADDRESSES = tuple(bytes((192, 0, 2, host)) for host in range(100))
ANSWERS: tuple[Answer, ...] = (
    AddressPool((), _ADDRESSES[:2], 60, ad=True),
    AddressPool((b"\1a\7example\0", b"\1b\7example\0"), _ADDRESSES, 60, ad=False),
    FailureAnswer(Ede.NETWORK_ERROR, 1),
)


def check(data: bytes) -> None:
    """Check one message; raises `AssertionError`, or anything else, for a defect."""
    try:
        query = parse_query(data)
    except Unanswerable:
        assert len(data) < HEADER_SIZE or data[2] & 0x80 or data[:12] == SIGNATURE, "a query"
        return
    except Rejected as rejected:
        _check_error(rejected.query, rejected.rcode)
        return
    asked = query.question()
    end = query.question_end
    assert asked.section == data[HEADER_SIZE : end - 4].lower() + data[end - 4 : end]
    _check_accepted(query)
    # Each check below costs more than the scan itself: one a message is enough.
    turn = crc32(data) % (len(ANSWERS) + 2)
    if turn == len(ANSWERS):
        _check_question(query)
        return
    answer = _LOCAL.answer(Request(query, "192.0.2.1", UDP, 0.0, None, _NO_LISTENER))
    if isinstance(answer, Rcode) or turn == len(ANSWERS) + 1:
        _check_error(query, answer if isinstance(answer, Rcode) else Rcode.REFUSED)
        return
    answer = answer if answer is not None else ANSWERS[turn]
    limit = min(query.payload, EDNS_UDP_SIZE)  # as the server has it over UDP
    wire = render(query, answer, 60, limit, Ede.STALE_ANSWER)
    assert query.payload >= MIN_UDP_SIZE
    assert len(wire) <= limit
    reply = reading.message(wire)
    _check_belongs(query, wire, reply)
    if isinstance(answer, AddressPool):
        assert reply.flags & dns.flags.TC or reply.answer, "neither addresses nor TC"


def _check_accepted(query: Query) -> None:
    """Check that it is a query for others, too."""
    assert query.message[4:10] == b"\0\1\0\0\0\0"
    # Where the owners of other records point to is nothing to us.
    opts = [owner for owner, rdtype in reading.outline(query.message) if rdtype == Type.OPT]
    assert opts == [b"\0"] * query.edns, "OPT records, or their owners"


def _check_question(query: Query) -> None:
    """Check what an upstream would be asked."""
    wire = b"\x55\xaa" + query.question().client_query()
    message = reading.message(wire)
    (question,) = message.question
    assert (question.rdtype, question.rdclass) == (query.qtype, query.qclass)
    assert question.name == dns.name.from_wire(query.message, HEADER_SIZE)[0]
    assert bool(message.ednsflags & dns.flags.DO) == query.do
    assert parse_query(wire).key == query.key, "we do not understand ourselves"


def _check_error(query: Query, rcode: Rcode) -> None:
    wire = render_error(query, rcode, Ede.PROHIBITED)
    reply = reading.message(wire)
    assert int(reply.rcode()) == rcode or not query.edns
    assert not any(reply.sections[1:]), "records beside an error"
    _check_belongs(query, wire, reply)


def _check_belongs(query: Query, wire: bytes, reply: dns.message.Message) -> None:
    asked = query.message
    assert wire[:2] == asked[:2], "another ID"
    assert wire[2] & 0xF9 == 0x80 | asked[2] & 0x79, "QR, opcode or RD"
    assert wire[HEADER_SIZE : query.question_end] == asked[HEADER_SIZE : query.question_end]
    assert len(reply.question) == (query.question_end > HEADER_SIZE)
    assert (reply.edns == 0) == query.edns
    assert bool(reply.ednsflags & dns.flags.DO) == query.do
