"""Ready-made behaviours of a scripted upstream: honest ones, broken ones and liars.

Those which take a behaviour as their argument change what that one would do. Delays are in
seconds.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

from tests.kit.scripted import Action, Behaviour, Close, Query, Send

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Record = tuple[str | None, int, str, str]
"""Owner (None: the name asked for), TTL, type and data, as text."""

SOA: Record = ("example.", 60, "SOA", "ns.example. host.example. 7 3600 600 86400 60")


def soa(ttl: int, minimum: int, serial: int = 7) -> Record:
    """An SOA record of ``example.`` for negative answers."""
    return ("example.", ttl, "SOA", f"ns.example. host.example. {serial} 3600 600 86400 {minimum}")


def _add(message: dns.message.Message, section: list[dns.rrset.RRset], record: Record) -> None:
    owner, ttl, rdtype, data = record
    name = message.question[0].name if owner is None else dns.name.from_text(owner)
    for rrset in section:
        if rrset.name == name and rrset.rdtype == dns.rdatatype.from_text(rdtype):
            rrset.add(dns.rrset.from_text(name, ttl, "IN", rdtype, data)[0], ttl)
            return
    section.append(dns.rrset.from_text(name, ttl, "IN", rdtype, data))


def reply(
    query: Query,
    answer: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    *,
    rcode: str = "NOERROR",
    ad: bool = False,
    aa: bool = False,
) -> bytes:
    """Build an honest reply to ``query``; over UDP it is cut to TC when it does not fit."""
    message = dns.message.make_response(query.parsed, recursion_available=True, our_payload=1232)
    message.set_rcode(dns.rcode.from_text(rcode))
    if ad:
        message.flags |= dns.flags.AD
    if aa:
        message.flags |= dns.flags.AA
    for record in answer:
        _add(message, message.answer, record)
    for record in authority:
        _add(message, message.authority, record)
    wire = message.to_wire(max_size=65535)
    room = max(query.parsed.payload, 512)
    if query.transport == "udp" and len(wire) > room:
        return truncated(query)
    return wire


def truncated(query: Query) -> bytes:
    """Build an empty reply with TC set."""
    message = dns.message.make_response(query.parsed, recursion_available=True, our_payload=1232)
    message.flags |= dns.flags.TC
    return message.to_wire()


def records(
    *answer: Record,
    authority: Sequence[Record] = (),
    after: float = 0.0,
    ad: bool = False,
    aa: bool = False,
) -> Behaviour:
    """Answer with these records."""
    return lambda query: [Send(reply(query, answer, authority, ad=ad, aa=aa), after)]


def answers(*addresses: str, after: float = 0.0, ttl: int = 300, ad: bool = False) -> Behaviour:
    """Answer A and AAAA questions with those of ``addresses`` that fit; others with NODATA."""

    def behave(query: Query) -> list[Action]:
        wanted = [
            (None, ttl, query.rdtype, address)
            for address in addresses
            if query.rdtype == ("AAAA" if ":" in address else "A")
        ]
        return [Send(reply(query, wanted, () if wanted else (SOA,), ad=ad), after)]

    return behave


def cname_chain(
    targets: Sequence[str], *addresses: str, after: float = 0.0, ttl: int = 300
) -> Behaviour:
    """Answer with a CNAME chain through ``targets``, and ``addresses`` (A) at its end."""
    owners: list[str | None] = [None, *targets]
    steps: list[Record] = [
        (owner, ttl, "CNAME", target) for owner, target in zip(owners, targets, strict=False)
    ]
    return records(*steps, *((targets[-1], ttl, "A", text) for text in addresses), after=after)


def rcode(name: str, after: float = 0.0) -> Behaviour:
    """Answer with an empty reply of this RCODE: SERVFAIL, REFUSED and so on."""
    return lambda query: [Send(reply(query, rcode=name), after)]


def rcode_without_edns(name: str) -> Behaviour:
    """Answer as servers do that have never heard of EDNS: an error code, and no OPT record."""

    def behave(query: Query) -> list[Action]:
        message = dns.message.make_response(query.parsed)
        message.use_edns(-1)
        message.set_rcode(dns.rcode.from_text(name))
        return [Send(message.to_wire())]

    return behave


def nxdomain(record: Record | None = SOA, after: float = 0.0) -> Behaviour:
    """Answer NXDOMAIN with this SOA in the authority section (None: without)."""
    authority = () if record is None else (record,)
    return lambda query: [Send(reply(query, (), authority, rcode="NXDOMAIN"), after)]


def nodata(record: Record | None = SOA, after: float = 0.0) -> Behaviour:
    """Answer NOERROR without data, with this SOA in the authority section (None: without)."""
    return records(authority=() if record is None else (record,), after=after)


def silent(_query: Query) -> list[Action]:
    """Answer nothing."""
    return []


def by_transport(udp: Behaviour, tcp: Behaviour) -> Behaviour:
    """Behave in one way over UDP and in another over TCP."""
    return lambda query: (udp if query.transport == "udp" else tcp)(query)


def by_name(routes: Mapping[str, Behaviour], default: Behaviour) -> Behaviour:
    """Behave by the name asked for (lower case, with its final dot)."""
    return lambda query: routes.get(query.name, default)(query)


def in_turn(*behaviours: Behaviour) -> Behaviour:
    """Behave as the first for the first query, and so on; the last one stays."""
    turns = itertools.chain(behaviours, itertools.repeat(behaviours[-1]))

    def behave(query: Query) -> Sequence[Action]:
        return next(turns)(query)

    return behave


def truncated_over_udp(full: Behaviour) -> Behaviour:
    """Answer with an empty TC reply over UDP, and as ``full`` does over TCP."""
    return by_transport(lambda query: [Send(truncated(query))], full)


def preceded_by(first: Behaviour, then: Behaviour) -> Behaviour:
    """Do what ``first`` does, and what ``then`` does."""
    return lambda query: [*first(query), *then(query)]


def _changed(original: Behaviour, change: Mapping[int, int]) -> Behaviour:
    """XOR single octets of every reply of ``original``: offset -> mask."""

    def changed(action: Action) -> Action:
        if isinstance(action, Close):
            return action
        data = bytearray(action.data)
        for offset, mask in change.items():
            data[offset] ^= mask
        return replace(action, data=bytes(data))

    return lambda query: [changed(action) for action in original(query)]


def wrong_id(original: Behaviour) -> Behaviour:
    """Reply with another ID than the query's."""
    return _changed(original, {0: 0x55, 1: 0x55})


def not_a_response(original: Behaviour) -> Behaviour:
    """Reply with QR=0."""
    return _changed(original, {2: 0x80})


def wrong_opcode(original: Behaviour) -> Behaviour:
    """Reply with opcode STATUS instead of QUERY."""
    return _changed(original, {2: 0x10})


def wrong_question(original: Behaviour) -> Behaviour:
    """Reply with a question whose name differs in its first letter (XOR 1: ``c`` is ``b``)."""
    return _changed(original, {13: 0x01})


def wrong_question_type(original: Behaviour) -> Behaviour:
    """Reply with a question of the same name and another type."""

    def behave(query: Query) -> Sequence[Action]:
        end = 12
        while query.wire[end]:
            end += query.wire[end] + 1
        return _changed(original, {end + 2: 0x1C})(query)

    return behave


def from_other_port(original: Behaviour) -> Behaviour:
    """Reply from a port that nobody asked (UDP)."""
    return lambda query: [
        replace(action, origin="other port") if isinstance(action, Send) else action
        for action in original(query)
    ]


def from_other_host(original: Behaviour) -> Behaviour:
    """Reply from an address that nobody asked (UDP)."""
    return lambda query: [
        replace(action, origin="other host") if isinstance(action, Send) else action
        for action in original(query)
    ]


def twice(original: Behaviour) -> Behaviour:
    """Send every reply twice."""
    return lambda query: [action for action in original(query) for _ in range(2)]


def garbage(data: bytes = b"\xff" * 40, *, keep_id: bool = True, after: float = 0.0) -> Behaviour:
    """Send octets that are no DNS message, by default behind the right ID and QR=1."""
    return lambda query: [Send((query.wire[:2] + b"\x81\x80" if keep_id else b"") + data, after)]


def cut_short(original: Behaviour, keep: int) -> Behaviour:
    """Send the first ``keep`` octets of each reply only."""
    return lambda query: [
        replace(action, data=action.data[:keep]) if isinstance(action, Send) else action
        for action in original(query)
    ]


def closes_mid_message(original: Behaviour) -> Behaviour:
    """Over TCP, write half a reply and close; over UDP as the original."""

    def behave(query: Query) -> Sequence[Action]:
        if query.transport == "udp":
            return original(query)
        first = next(action for action in original(query) if isinstance(action, Send))
        whole = len(first.data).to_bytes(2, "big") + first.data
        return [Close(first.after, whole[: len(whole) // 2])]

    return behave
