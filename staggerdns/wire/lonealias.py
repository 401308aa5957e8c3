"""Aliases that lead out of what their server knows (docs/specification.rst, Lone aliases).

A server that is no resolver answers with a CNAME alone where the target is not its own. The target
is asked then, and what is said about it is judged as if it had been in the first reply, behind the
alias: so it is scrubbed, bounded and merged like the reply of a resolver.
"""

from __future__ import annotations

import struct

from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import AD, MAX_MESSAGE, WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.names import read_name
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.rewrite import expand_data
from staggerdns.wire.scrub import scrub_answers
from staggerdns.wire.sections import LoneAliasAnswer
from staggerdns.wire.verdict import Verdict

_header = struct.Struct("!6H").pack
_u16 = struct.Struct("!H").pack


class TargetJudge(Judge):
    """Judges replies about the target of ``alias`` as answers to the question of ``whole``."""

    __slots__ = ("_whole", "_alias")

    def __init__(self, whole: Judge, alias: LoneAliasAnswer) -> None:
        asked = whole.question
        target = make_question(
            alias.target, asked.qtype, asked.qclass, do=asked.do, cd=asked.cd, scope=asked.scope
        )
        super().__init__(target)
        self._whole = whole
        self._alias = alias.message

    def verdict(self, message: bytes) -> tuple[Verdict, Answer | None]:
        """Return the verdict on a reply about the target, and the answer with the alias in it.

        Raises `WireError` for what is malformed, a chain that leads back to itself included.
        """
        verdict, answer = super().verdict(message)
        if answer is None:
            return verdict, None
        whole = self._whole
        found = whole.verdict(join(self._alias, whole.question, message, self.question))
        self.stripped, self.ignored, self.bogus = whole.stripped, whole.ignored, whole.bogus
        self.dropped = (*self.dropped, *whole.dropped)
        return found


def join(alias: bytes, question: Question, message: bytes, target: Question) -> bytes:
    """Return one reply to ``question`` made of the ``alias`` that answers it and of ``message``,
    which answers ``target``. Raises `WireError` when it would be too large.
    """
    first, second = index_reply(alias, question), index_reply(message, target)
    scrub_answers(first, question)
    answers = [_written(first, record) for record in first.answers]
    answers += [_written(second, record) for record in second.answers]
    authority = [_written(second, record) for record in second.authority]
    additional = [_written(second, record) for record in second.additional]
    flags = second.flags & (first.flags | ~AD)
    counts = len(answers), len(authority), len(additional)
    joined = b"".join(
        (_header(0, flags, 1, *counts), question.section, *answers, *authority, *additional)
    )
    if len(joined) > MAX_MESSAGE:
        raise WireError("too large with the alias in front")
    return joined


def _written(reply: Reply, record: Record) -> bytes:
    """Return a record with its names written out."""
    owner = read_name(reply.message, record.owner)[0]
    data = expand_data(reply, record, do=True)
    return owner + reply.message[record.header : record.data - 2] + _u16(len(data)) + data
