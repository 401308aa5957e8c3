"""CNAMEs of our own, in front of what is known of the name that they lead to."""

from __future__ import annotations

import struct

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer, ErrorAnswer
from staggerdns.wire.constants import CLASS_IN, Type, WireError
from staggerdns.wire.question import Question
from staggerdns.wire.records import pack_fields
from staggerdns.wire.reply import index_reply
from staggerdns.wire.rewrite import Rewriter

_HEADER = struct.Struct("!HHH").pack  # without the counts of the three sections
_TO_THE_QUESTION = b"\xc0\x0c"


class Alias:
    """Where a name of our own leads: ``cname_chain`` are the targets of its CNAMEs in order, which
    may be kept for ``ttl`` seconds.
    """

    __slots__ = ("cname_chain", "ttl")

    def __init__(self, cname_chain: tuple[bytes, ...], ttl: int) -> None:
        self.cname_chain = cname_chain
        self.ttl = ttl

    @property
    def target(self) -> bytes:
        """The name that they lead to (wire form)."""
        return self.cname_chain[-1]

    def joined(self, answer: Answer, key: bytes) -> Answer:
        """Return the answer to a question about us; ``answer`` is that to the same question about
        the target, under ``key``. An error stays what it is.
        """
        ttl = min(self.ttl, answer.ttl)
        if isinstance(answer, AddressPool):
            return AddressPool(self.cname_chain + answer.cname_chain, answer.addresses, ttl, False)
        if isinstance(answer, ErrorAnswer):
            return answer
        return AliasAnswer(self.cname_chain, answer, Question(key), ttl)


class AliasAnswer(Answer):
    """The ``answer`` to another ``question``, behind CNAMEs that lead to its name."""

    __slots__ = ("_cname_chain", "_answer", "_question")

    def __init__(
        self, cname_chain: tuple[bytes, ...], answer: Answer, question: Question, ttl: int
    ) -> None:
        self.rcode = answer.rcode
        self.ad = False  # nobody has validated the CNAMEs
        self.negative = answer.negative
        self.ttl = ttl
        self._cname_chain = cname_chain
        self._answer = answer
        self._question = question

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the CNAMEs and behind them the records of the answer, all of them or none."""
        question = self._question
        found = self._answer.sections(question.end, ttl, room)
        if found is None:
            return None
        counts, body = found
        records = b""
        owner = _TO_THE_QUESTION
        for target in self._cname_chain:
            records += owner + pack_fields(Type.CNAME, CLASS_IN, ttl, len(target)) + target
            owner = (0xC000 | (question_end + len(records) - len(target))).to_bytes(2, "big")
        message = _HEADER(0, self.rcode, 1) + counts + question.section + body
        behind = question_end + len(records)
        try:
            reply = index_reply(message, question)
            rewriter = Rewriter(reply, question, behind, behind)
            for record in reply.records():
                rewriter.write(record)
        except WireError:
            return None
        records += rewriter.body
        if len(records) > room:
            return None
        sizes = (len(reply.authority), len(reply.additional))
        answers = len(self._cname_chain) + len(reply.answers)
        return struct.pack("!3H", answers, *sizes), records
