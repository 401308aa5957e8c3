"""What an upstream's reply is worth: one place for the rules that every strategy obeys.

(SPEC section 2, "Which answer goes to the client"; RFC 2308 for negatives.)
"""

from __future__ import annotations

import struct
from enum import IntEnum

from staggerdns.wire.answer import Answer, Whole
from staggerdns.wire.constants import HEADER_SIZE, SOUND, TC, Type
from staggerdns.wire.pool import is_private
from staggerdns.wire.question import Question
from staggerdns.wire.reading import quick_pool, read_pool
from staggerdns.wire.rebinding import strip
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.scrub import scrub_answers, scrub_rest

_u32 = struct.Struct("!I").unpack_from
_ADDRESSES = frozenset((int(Type.A), int(Type.AAAA)))


class Verdict(IntEnum):
    """The worth of a reply, best first."""

    POSITIVE = 0
    NEGATIVE = 1
    FAILURE = 2
    NETWORK_ERROR = 3


def judge(message: bytes, question: Question) -> tuple[Verdict, Answer | None]:
    """Return the verdict on a reply and, unless it failed, the answer that it gives.

    ``message`` has the header and question section of a reply to ``question``. An address
    question is answered positively by at least one address at the end of the chain; any other
    by at least one record of its type. NXDOMAIN and everything else without an error is
    negative, except a referral, which a resolver does not give. Raises `WireError` for what is
    malformed.
    """
    judged = question.judged
    # Upstreams often agree to the byte, but for the ID and the case of the name.
    compared = message[2:HEADER_SIZE] + message[HEADER_SIZE + len(question.section) :]
    if judged is not None and judged[0] == compared:
        remembered: tuple[Verdict, Answer | None] = judged[1]
        return remembered
    result = _judge(message, question)
    question.judged = (compared, result)
    return result


def _judge(message: bytes, question: Question) -> tuple[Verdict, Answer | None]:
    if question.mergeable:
        pool = quick_pool(message, question)
        if pool is not None and not (question.screened and any(map(is_private, pool.addresses))):
            return Verdict.POSITIVE, pool
    reply = index_reply(message, question)
    try:
        return _weigh(reply, question)
    finally:
        if reply.strays:
            for kind, count in reply.strays.items():
                question.strays[kind] = question.strays.get(kind, 0) + count


def _weigh(reply: Reply, question: Question) -> tuple[Verdict, Answer | None]:
    # What is missing in a reply that is cut even over TCP cannot be known.
    if reply.flags & TC or reply.rcode not in SOUND:
        return Verdict.FAILURE, None
    positive = not reply.rcode
    is_referral = positive and bool(reply.authority) and _is_referral(reply)
    path = scrub_answers(reply, question)
    answered = bool(reply.answers)
    stripped: set[Record] = set()
    if question.screened:
        stripped = _strip(reply, question, reply.answers)
        path.found = [record for record in path.found if record not in stripped]
    if positive and question.mergeable:
        pool = read_pool(reply, path)
        if pool is not None:
            return Verdict.POSITIVE, pool
    scrub_rest(reply, question, path)
    if question.screened:
        stripped |= _strip(reply, question, reply.authority)
        stripped |= _strip(reply, question, reply.additional)
    if positive and path.found:
        ttl = min([record.ttl for record in reply.records()])
        choice = path.found if question.qtype in _ADDRESSES else ()
        return Verdict.POSITIVE, Whole(reply, question, ttl, negative=False, choice=choice)
    if is_referral and not answered:
        return Verdict.FAILURE, None
    ttl = _negative_ttl(reply)
    if stripped and answered:  # there is hardly an SOA to say it
        ttl = ttl or min(record.ttl for record in stripped)
    return Verdict.NEGATIVE, Whole(reply, question, ttl, negative=True)


def _strip(reply: Reply, question: Question, section: list[Record]) -> set[Record]:
    """Take private addresses out of a section."""
    stripped = strip(reply, section)
    question.stripped += len(stripped)
    return stripped


def _is_referral(reply: Reply) -> bool:
    types = {record.type for record in reply.authority}
    return Type.NS in types and Type.SOA not in types


def _negative_ttl(reply: Reply) -> int:
    """Return the seconds that the upstream's SOA grants (RFC 2308 section 5), 0 without one."""
    for record in reply.authority:
        if record.type == Type.SOA:
            minimum: int = _u32(reply.message, record.end - 4)[0]
            others = (other.ttl for other in reply.answers)
            return min(record.ttl, minimum, *others)
    return 0
