"""What a simulated upstream does with a query, and the messages that it answers with.

Times are milliseconds here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from staggerdns.upstream.reason import Reason
from staggerdns.wire.names import from_labels
from staggerdns.wire.question import Question

A, CNAME, SOA, MX, TXT, AAAA = 1, 5, 6, 15, 16, 28
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, REFUSED = 0, 1, 2, 3, 5

_TO_THE_QUESTION = b"\xc0\x0c"


def name(text: str) -> bytes:
    """The wire form of a name without escapes."""
    return from_labels([label.encode() for label in text.split(".") if label])


def record(owner: bytes, rtype: int, ttl: int, data: bytes) -> bytes:
    """A resource record of class IN in wire form."""
    return owner + struct.pack("!HHIH", rtype, 1, ttl, len(data)) + data


def reply(
    question: Question,
    answers: Sequence[bytes] = (),
    authority: Sequence[bytes] = (),
    *,
    rcode: int = NOERROR,
    flags: int = 0x8180,
) -> bytes:
    """A reply message to ``question`` with the ID 0."""
    header = struct.pack("!6H", 0, flags | rcode, 1, len(answers), len(authority), 0)
    return header + question.section + b"".join(answers) + b"".join(authority)


@dataclass(frozen=True)
class Act:
    """What an upstream does with a query: a reply or an error, ``after`` milliseconds.

    ``after`` None: at once, inside of the sending. Neither reply nor error: nothing, ever. A
    ``hint``: the error is one of ICMP, which the reply may follow after ``later`` milliseconds.
    """

    after: float | None = 0
    reply: Callable[[Question], bytes] | None = None
    error: Reason | None = None
    hint: bool = False
    later: float | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing ever comes."""
        return self.reply is None and self.error is None


SILENT = Act()


def says(
    after: float,
    *addresses: str,
    ttl: int = 300,
    cname_chain: Sequence[str] = (),
    flags: int = 0x8180,
) -> Act:
    """Answer with these addresses, at the end of a CNAME chain if there is one."""
    packed = [ip_address(address).packed for address in addresses]

    def answer(question: Question) -> bytes:
        owner, records = _TO_THE_QUESTION, []
        for target in cname_chain:
            records.append(record(owner, CNAME, ttl, name(target)))
            owner = name(target)
        records += [record(owner, A if len(data) == 4 else AAAA, ttl, data) for data in packed]
        return reply(question, records, flags=flags)

    return Act(after, answer)


def own(index: int) -> str:
    """The address that only upstream number ``index`` knows."""
    return f"203.0.113.{index + 1}"


def says_own(index: int, after: float, ttl: int = 300) -> Act:
    """Answer with the upstream's own address."""
    return says(after, own(index), ttl=ttl)


def negative(
    after: float, rcode: int = NXDOMAIN, ttl: int = 120, minimum: int = 60, *, soa: bool = True
) -> Act:
    """Answer NXDOMAIN (or NOERROR, so NODATA) with an SOA of our own, at the name's last label."""
    numbers = struct.pack("!5I", 1, 3600, 600, 86400, minimum)
    data = name("ns.example") + name("admin.example") + numbers

    def answer(question: Question) -> bytes:
        owner = question.name
        while owner[0] and owner[1 + owner[0]]:
            owner = owner[1 + owner[0] :]
        section = [record(owner, SOA, ttl, data)] if soa else []
        return reply(question, [], section, rcode=rcode)

    return Act(after, answer)


def fails(after: float, rcode: int = SERVFAIL) -> Act:
    """Answer with an error code."""
    return Act(after, lambda question: reply(question, rcode=rcode))


def garbles(after: float) -> Act:
    """Answer with a message that is cut in its record."""
    return Act(after, lambda question: says(0, own(0)).reply(question)[:-2])  # type: ignore[misc]


def unreachable(after: float | None, reason: Reason = Reason.CONNECTION_REFUSED) -> Act:
    """A network error; ``after`` None: inside of the sending, as a bad route gives it."""
    return Act(after, None, reason)


def refuses(after: float, then: Act | None = None) -> Act:
    """An ICMP error, and nothing else; or it was forged, and ``then`` is done."""
    if then is None:
        return Act(after, None, Reason.CONNECTION_REFUSED, hint=True)
    return Act(after, then.reply, Reason.CONNECTION_REFUSED, hint=True, later=then.after)


def gives(after: float, rtype: int, data: bytes, ttl: int = 300) -> Act:
    """Answer with one record of any type."""
    return Act(
        after, lambda question: reply(question, [record(_TO_THE_QUESTION, rtype, ttl, data)])
    )
