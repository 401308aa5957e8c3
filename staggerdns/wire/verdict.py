"""What an upstream's reply is worth: one place for the rules that every strategy obeys.

(SPEC section 2, "Which answer goes to the client"; RFC 2308 for negatives.)
"""

from __future__ import annotations

import struct
from enum import IntEnum

from staggerdns.wire.answer import Answer, Whole
from staggerdns.wire.constants import HEADER_SIZE, TC, Rcode, Type
from staggerdns.wire.pool import is_private
from staggerdns.wire.question import Question
from staggerdns.wire.reading import quick_pool, read_pool
from staggerdns.wire.rebinding import strip
from staggerdns.wire.reply import Reply, index_reply

_u32 = struct.Struct("!I").unpack_from


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
    if message[5]:  # names that point into the question shall not show random case
        end = HEADER_SIZE + len(question.section)
        message = message[:HEADER_SIZE] + question.section + message[end:]
    reply = index_reply(message, question)
    answered = bool(reply.answers)
    stripped = strip(reply) if question.screened else []
    question.stripped += len(stripped)
    if reply.flags & TC:  # cut even over TCP: what is missing cannot be known
        return Verdict.FAILURE, None
    if reply.rcode == Rcode.NOERROR:
        if question.mergeable:
            pool = read_pool(reply, question)
            if pool is not None:
                return Verdict.POSITIVE, pool
        elif any(record.type == question.qtype for record in reply.answers):
            ttl = min(record.ttl for record in reply.records())
            return Verdict.POSITIVE, Whole(reply, question, ttl, negative=False)
        if not answered and _is_referral(reply):
            return Verdict.FAILURE, None
    elif reply.rcode != Rcode.NXDOMAIN:
        return Verdict.FAILURE, None
    ttl = _negative_ttl(reply)
    if stripped and answered:  # there is hardly an SOA to say it
        ttl = ttl or min(record.ttl for record in stripped)
    return Verdict.NEGATIVE, Whole(reply, question, ttl, negative=True)


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
