"""What an upstream's reply is worth: one place for the rules that every strategy obeys.

(docs/specification.rst, Verdicts; RFC 2308 for negatives.)
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.addresskinds import is_private
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import HEADER_SIZE, SOUND, TC, Type, WireError
from staggerdns.wire.dropped import BOGUS, IGNORED, REBINDING, Dropped
from staggerdns.wire.nametable import NameTree
from staggerdns.wire.question import Question
from staggerdns.wire.reading import quick_pool, read_pool
from staggerdns.wire.rebinding import holds, strip
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.scrub import scrub_answers, scrub_rest
from staggerdns.wire.sections import LoneAliasAnswer, SectionsAnswer, no_such_name
from staggerdns.wire.serviceanswer import with_ranked_hints
from staggerdns.wire.verdict import FAILURE, NEGATIVE, NETWORK_ERROR, POSITIVE, Verdict

_u32 = struct.Struct("!I").unpack_from
_Test = Callable[[bytes], bool]
_ADDRESSES = frozenset((int(Type.A), int(Type.AAAA)))


class Judge:
    """Judges the replies of all upstreams to one ``question``.

    ``screened``: private addresses do not answer it. ``stripped``: how many records have been
    taken out of replies because of that; ``ignored``: how many by the rules of ``address_filter``,
    and ``bogus``: how many replies are NXDOMAIN by them; ``strays``: how many records did not
    belong there, by kind. ``dropped``: addresses of the reply judged last that answer nothing, and
    why.
    """

    __slots__ = (
        "question",
        "screened",
        "stripped",
        "ignored",
        "bogus",
        "strays",
        "dropped",
        "_filter",
        "_unwanted",
        "_suspect",
        "_head",
        "_tail",
        "_verdict",
        "_answer",
        "_dropped",
        "_names",
    )

    def __init__(
        self,
        question: Question,
        *,
        screened: bool = False,
        address_filter: AddressFilter | None = None,
    ) -> None:
        self.question = question
        self.screened = screened
        self.stripped = 0
        self.ignored = 0
        self.bogus = 0
        self._filter = address_filter
        # What is taken out of replies, and with what a reply has to be looked at more closely.
        self._unwanted: _Test | None = is_private if screened else None
        self._suspect: _Test | None = self._unwanted
        if address_filter is not None:
            if address_filter.ignores_some:
                self._unwanted = _either(self._unwanted, address_filter.ignores)
            self._suspect = _either(self._suspect, address_filter.concerns)
        self.strays: dict[str, int] = {}
        self.dropped: Sequence[Dropped] = ()
        # Of the reply judged last: what was compared, and what came of it.
        self._head = self._tail = b""
        self._verdict = FAILURE
        self._answer: Answer | None = None
        self._dropped: Sequence[Dropped] = ()
        self._names: NameTree | None = None

    def verdict(self, message: bytes) -> tuple[Verdict, Answer | None]:
        """Return the verdict on a reply and, unless it failed, the answer that it gives.

        ``message`` has the header and question section of a reply to the question. An address
        question is answered positively by at least one address at the end of the chain; any other
        by at least one record of its type. NXDOMAIN and everything else without an error is
        negative, except a referral, which a resolver does not give. One whose addresses are all
        ignored counts as none: that is a network error. Raises `WireError` for what is malformed.
        """
        # Upstreams often agree to the octet, but for the ID and the case of the name.
        head, tail = message[2:HEADER_SIZE], message[self.question.end :]
        if tail != self._tail or head != self._head:
            self._verdict, self._answer = self._judge(message)
            self._head, self._tail = head, tail
        self.dropped = self._dropped
        return self._verdict, self._answer

    def _judge(self, message: bytes) -> tuple[Verdict, Answer | None]:
        question = self.question
        if question.mergeable:
            pool = quick_pool(message, question)
            suspect = self._suspect
            if pool is not None and (suspect is None or not any(map(suspect, pool.addresses))):
                self._dropped = ()
                return POSITIVE, pool
        names = self._names
        if names is None:
            names = self._names = NameTree(question.name)
        reply = index_reply(message, question, names)
        try:
            return self._weigh(reply)
        finally:
            self._dropped = reply.dropped
            for kind, count in reply.strays.items():
                self.strays[kind] = self.strays.get(kind, 0) + count

    def _weigh(self, reply: Reply) -> tuple[Verdict, Answer | None]:
        # What is missing in a reply that is cut even over TCP cannot be known.
        if reply.flags & TC or reply.rcode not in SOUND:
            return FAILURE, None
        question = self.question
        positive = not reply.rcode
        is_referral = positive and bool(reply.authority) and _is_referral(reply)
        path = scrub_answers(reply, question)
        answered = bool(reply.answers)
        if positive and self._is_bogus(reply):
            self.bogus += 1
            reply.drop(reply.answers, BOGUS)
            return NEGATIVE, no_such_name(question, min(record.ttl for record in reply.answers))
        stripped: set[Record] = set()
        if self._unwanted is not None:
            ignored = self.ignored
            stripped = self._strip(reply, reply.answers, self._unwanted)
            path.found = [record for record in path.found if record not in stripped]
            if self.ignored > ignored and not path.found and question.qtype in _ADDRESSES:
                return NETWORK_ERROR, None
        if positive and question.mergeable:
            pool = read_pool(reply, path)
            if pool is not None:
                return POSITIVE, pool
        scrub_rest(reply, question, path)
        if self._unwanted is not None:
            stripped |= self._strip(reply, reply.authority, self._unwanted)
            stripped |= self._strip(reply, reply.additional, self._unwanted)
        if positive and path.found:
            ttl = min([record.ttl for record in reply.records()])
            choice = path.found if question.qtype in _ADDRESSES else ()
            found = SectionsAnswer.of(reply, question, ttl, negative=False, choice=choice)
            return POSITIVE, with_ranked_hints(found, question)
        if is_referral and not answered:
            return FAILURE, None
        ttl = _negative_ttl(reply)
        came = reply.message[6:8] != b"\0\0"
        if positive and came and not answered and not _has_soa(reply):
            raise WireError("an answer section with nothing that was asked for")
        if stripped and answered:  # there is hardly an SOA to say it
            ttl = ttl or min(record.ttl for record in stripped)
        negative = SectionsAnswer.of(reply, question, ttl, negative=True)
        if positive and path.cname_chain and not stripped and not _has_soa(reply):
            return NEGATIVE, LoneAliasAnswer(negative, path.cname_chain[-1].lower(), reply.message)
        return NEGATIVE, negative

    def _is_bogus(self, reply: Reply) -> bool:
        """Return whether an answer has an address, or a hint of one, that stands for NXDOMAIN."""
        if self._filter is None:
            return False
        is_bogus, message = self._filter.is_bogus, reply.message
        return any(holds(message, record, is_bogus, malformed=False) for record in reply.answers)

    def _strip(self, reply: Reply, section: list[Record], unwanted: _Test) -> set[Record]:
        """Remove unwanted addresses from a section; return their records."""
        removed = strip(reply, section, unwanted)
        for record in section:
            if record not in removed:
                continue
            if self._filter is not None and holds(reply.message, record, self._filter.ignores):
                self.ignored += 1
                reply.drop([record], IGNORED)
            else:
                self.stripped += 1
                reply.drop([record], REBINDING)
        if removed:
            section[:] = [record for record in section if record not in removed]
        return removed


def _either(one: _Test | None, other: _Test) -> _Test:
    """Return a test that is true where one of these is; the first may be missing."""
    if one is None:
        return other
    first = one
    return lambda address: first(address) or other(address)


def _is_referral(reply: Reply) -> bool:
    types = {record.type for record in reply.authority}
    return Type.NS in types and Type.SOA not in types


def _has_soa(reply: Reply) -> bool:
    return any(record.type == Type.SOA for record in reply.authority)


def _negative_ttl(reply: Reply) -> int:
    """Return the seconds that the upstream's SOA grants (RFC 2308 section 5), 0 without one."""
    for record in reply.authority:
        if record.type == Type.SOA:
            minimum: int = _u32(reply.message, record.end - 4)[0]
            others = (other.ttl for other in reply.answers)
            return min(record.ttl, minimum, *others)
    return 0
