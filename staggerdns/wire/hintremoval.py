"""Hints taken out of HTTPS and SVCB answers (RFC 9460), whose clients had better not use them.

A client that has no hint asks for the addresses of the record's target. A hint that the record
calls mandatory stays: a client has to use the record with it, or not at all (section 8).
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable

from staggerdns.wire.constants import WireError
from staggerdns.wire.names import read_name
from staggerdns.wire.question import Question
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.rewrite import Rewriter, expand_data
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.serviceanswer import SERVICE_TYPES, records_of
from staggerdns.wire.serviceparams import (
    ALIAS_MODE,
    IPV6_HINT,
    MANDATORY,
    PARAMETER_HEADER,
    PRIORITY_SIZE,
    parameters,
)

_ROOT = b"\0"
_TTL_BEHIND_TYPE = 4
_u16s = struct.Struct("!H").iter_unpack


def without_ipv6_hints(
    answer: SectionsAnswer, question: Question, unwanted: Callable[[bytes], bool]
) -> SectionsAnswer:
    """Return ``answer`` to ``question`` without the IPv6 hints of records whose targets are
    ``unwanted``, which is told their names (wire form, lower case); itself if there are none.
    """
    body = answer.body
    if not any(_shortened(body[start:end]) for start, end in records_of(answer)):
        return answer
    try:
        reply = index_reply(answer.as_reply(question), question)
        shorter = {
            record: data
            for record in reply.answers
            if record.type in SERVICE_TYPES
            and (data := _shortened(expand_data(reply, record, do=False)))
            and unwanted(_target(reply, record))
        }
        return _rewritten(answer, reply, question, shorter) if shorter else answer
    except WireError:  # nothing that was accepted is like that
        return answer


def _shortened(data: bytes) -> bytes:
    """Return the data of a record without its IPv6 hint; nothing if that has to stay, or there is
    none.
    """
    try:
        found = parameters(data)
    except (WireError, struct.error):
        return b""
    if data[:PRIORITY_SIZE] == ALIAS_MODE:
        return b""
    for key, start, end in found:
        if key == MANDATORY and not (end - start) % 2 and (IPV6_HINT,) in _u16s(data[start:end]):
            return b""
    for key, start, end in found:
        if key == IPV6_HINT:
            return data[: start - PARAMETER_HEADER] + data[end:]
    return b""


def _target(reply: Reply, record: Record) -> bytes:
    """Return the name whose addresses a record is about: its own, if it names no other."""
    target, _ = read_name(reply.message, record.data + PRIORITY_SIZE)
    if target == _ROOT:
        target, _ = read_name(reply.message, record.owner)
    return target.lower()


def _rewritten(
    answer: SectionsAnswer, reply: Reply, question: Question, data: dict[Record, bytes]
) -> SectionsAnswer:
    """Return ``answer``, which is in ``reply``, with other ``data`` in some of its records."""
    rewriter = Rewriter(reply, question)
    offsets = array("H")
    for record in reply.records():
        header, _ = rewriter.write(record, data.get(record))
        offsets.append(header + _TTL_BEHIND_TYPE)
    return SectionsAnswer(
        answer.rcode,
        False,  # nobody has validated what is left
        answer.negative,
        answer.ttl,
        answer.counts,
        bytes(rewriter.body),
        offsets,
        (),
        0,
    )
