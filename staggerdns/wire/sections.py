"""Answers that are kept as they came: the sections of one upstream's reply."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence

from staggerdns.wire.answer import BYTES_OCTETS, OBJECT_OCTETS, Answer, LocalNegativeAnswer
from staggerdns.wire.constants import AD, HEADER_SIZE, MAX_MESSAGE, QR, Rcode, Type, WireError
from staggerdns.wire.names import read_name
from staggerdns.wire.question import Question
from staggerdns.wire.reply import Record, Reply, index_reply
from staggerdns.wire.rewrite import Rewriter
from staggerdns.wire.scrub import scrub_answers

_u16 = struct.Struct("!H").pack
_u32 = struct.Struct("!I")
_header = struct.Struct("!HHH").pack  # without the counts of the three sections
_OFFSET_OCTETS = 40
_TYPE_BEFORE_TTL = 4  # octets from one to the other
_CNAME = _u16(Type.CNAME)
_DNAME = _u16(Type.DNAME)
_TTL_OF_SOA = 6  # behind a pointer, type and class


class SectionsAnswer(Answer):
    """One upstream's answer with all its sections.

    ``ttl_offsets``: where its TTLs are in ``body``; ``address_offsets``: where its addresses are.
    These may change their order, since a signature covers a set of records (RFC 4034
    section 3.1.8.1). ``width``: octets of each.
    """

    __slots__ = ("counts", "body", "ttl_offsets", "address_offsets", "width")

    def __init__(
        self,
        rcode: int,
        ad: bool,
        negative: bool,
        ttl: int,
        counts: bytes,
        body: bytes,
        ttl_offsets: array[int],
        address_offsets: tuple[int, ...],
        width: int,
    ) -> None:
        self.rcode = rcode
        self.ad = ad
        self.negative = negative
        self.ttl = ttl
        self.counts = counts
        self.body = body
        self.ttl_offsets = ttl_offsets
        self.address_offsets = address_offsets
        self.width = width

    @staticmethod
    def of(
        reply: Reply,
        question: Question,
        ttl: int,
        *,
        negative: bool,
        choice: Sequence[Record] = (),
    ) -> SectionsAnswer:
        """Return what is left in ``reply``; ``choice`` are the addresses that may be reordered."""
        counts = _u16(len(reply.answers)) + _u16(len(reply.authority)) + _u16(len(reply.additional))
        records = reply.records()
        message = reply.message
        if len({message[record.data : record.end] for record in choice}) != len(choice):
            choice = ()  # no set of records
        width = choice[0].end - choice[0].data if choice else 0
        start = HEADER_SIZE + len(question.section)
        if reply.as_is and _are_all(records, start):
            body = message[start : records[-1].end if records else start]
            ttl_offsets = array("H", [record.header + 4 - start for record in records])
            address_offsets = tuple([record.data - start for record in choice])
        else:
            rewriter = Rewriter(reply, question)
            written = {record: rewriter.write(record) for record in records}
            body = bytes(rewriter.body)
            ttl_offsets = array("H", [header + 4 for header, _ in written.values()])
            address_offsets = tuple([written[record][1] for record in choice])
        return SectionsAnswer(
            reply.rcode,
            bool(reply.flags & AD),
            negative,
            ttl,
            counts,
            body,
            ttl_offsets,
            address_offsets,
            width,
        )

    @property
    def octets(self) -> int:
        """About how much memory the answer takes."""
        octets = OBJECT_OCTETS + 3 * BYTES_OCTETS + len(self.body) + 2 * len(self.ttl_offsets)
        return octets + len(self.address_offsets) * _OFFSET_OCTETS

    @property
    def addresses(self) -> tuple[bytes, ...]:
        """The addresses that may be reordered, as they stand in the answer."""
        body, width = self.body, self.width
        return tuple([body[offset : offset + width] for offset in self.address_offsets])

    def chain_targets(self, key: bytes) -> tuple[bytes, ...]:
        """Return the targets of its CNAMEs, in lower case; few answers have any."""
        body = self.body
        answers = self.counts[0] << 8 | self.counts[1]
        for ttl in self.ttl_offsets[:answers]:
            rtype = body[ttl - _TYPE_BEFORE_TTL : ttl - 2]
            if rtype in (_CNAME, _DNAME):
                return self._read_targets(Question(key))
        return ()

    def as_reply(self, question: Question) -> bytes:
        """Return a reply to ``question`` that brings this answer to it."""
        return _header(0, QR | self.rcode, 1) + self.counts + question.section + self.body

    def _read_targets(self, question: Question) -> tuple[bytes, ...]:
        message = self.as_reply(question)
        try:
            reply = index_reply(message, question)
            targets = [
                read_name(message, record.data)[0]
                for record in reply.answers
                if record.type == Type.CNAME
            ]
            targets += scrub_answers(reply, question).cname_chain  # what a DNAME alone leads to
        except WireError:  # nothing that was accepted is like that
            return ()
        return tuple(dict.fromkeys([target.lower() for target in targets]))

    def reordered(self, addresses: tuple[bytes, ...]) -> SectionsAnswer:
        """Return the same answer with other addresses where its own stand."""
        body = bytearray(self.body)
        for offset, address in zip(self.address_offsets, addresses, strict=True):
            body[offset : offset + len(address)] = address
        return self._with(bytes(body), self.ttl)

    def lasting(self, ttl: int) -> SectionsAnswer:
        """Return the same answer, to be kept for ``ttl`` seconds."""
        return self._with(self.body, ttl)

    def _with(self, body: bytes, ttl: int) -> SectionsAnswer:
        return SectionsAnswer(
            self.rcode,
            self.ad,
            self.negative,
            ttl,
            self.counts,
            body,
            self.ttl_offsets,
            self.address_offsets,
            self.width,
        )

    def sections(self, question_end: int, ttl: int, room: int) -> tuple[bytes, bytes] | None:
        """Return the sections with ``ttl`` patched in, all of them or none."""
        if len(self.body) > room:
            return None
        body = bytearray(self.body)
        pack_into = _u32.pack_into
        for offset in self.ttl_offsets:
            pack_into(body, offset, ttl)
        return self.counts, bytes(body)


def no_such_name(question: Question, ttl: int) -> SectionsAnswer:
    """Return an NXDOMAIN of our own in the place of what an upstream said, to be kept for ``ttl``
    seconds. Its SOA (RFC 2308 section 3) stands at the name above.
    """
    zone = max(1, len(question.name) - question.name[0] - 1)
    found = LocalNegativeAnswer(Rcode.NXDOMAIN, zone, ttl)
    sections = found.sections(question.end, ttl, MAX_MESSAGE)
    assert sections is not None
    counts, body = sections
    offsets = array("H", [_TTL_OF_SOA])
    return SectionsAnswer(found.rcode, False, True, ttl, counts, body, offsets, (), 0)


class LoneAliasAnswer(SectionsAnswer):
    """A chain of CNAMEs that ends with nothing: whoever gave it has not looked up what it leads to.

    ``target``: the name at its end, in lower case; ``message``: the reply that holds the chain.
    """

    __slots__ = ("target", "message")

    def __init__(self, answer: SectionsAnswer, target: bytes, message: bytes) -> None:
        super().__init__(
            answer.rcode,
            answer.ad,
            answer.negative,
            answer.ttl,
            answer.counts,
            answer.body,
            answer.ttl_offsets,
            answer.address_offsets,
            answer.width,
        )
        self.target = target
        self.message = message

    def plain(self) -> SectionsAnswer:
        """Return what can be kept of it as it stands."""
        return self.lasting(self.ttl)


def _are_all(records: Sequence[Record], position: int) -> bool:
    """Return whether the records follow each other without a gap from ``position`` on.

    Where one was left out, those behind it move up, so that pointers to them would be wrong.
    """
    for record in records:
        if record.owner != position:
            return False
        position = record.end
    return True
