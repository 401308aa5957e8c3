"""Messages from upstreams: whatever is accepted reaches clients whole, and says the same.

The first octet chooses the question. With its highest bit the rest is the message without its
ID; else the question stands in its place already, in letters that no client shall see, so that
mutations get past it. The other bits
choose what the upstream did before, and does with TCP, when a real `Upstream` gets the message:
every query comes to its end after a few repeats, and nothing is held against EDNS for ever.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any, cast

import dns.flags
import dns.name
from twisted.internet.task import Clock

from fuzz import reading
from staggerdns.journal import Journal
from staggerdns.metrics import Metrics
from staggerdns.settings.addresses import parse_upstream
from staggerdns.settings.upstreams import UpstreamSettings
from staggerdns.standstill import StandstillClock
from staggerdns.upstream.budget import QueryBudget
from staggerdns.upstream.edns import FULL, MEMORY
from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.readers import Readers
from staggerdns.upstream.reason import Reason
from staggerdns.upstream.upstream import Upstream
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import HEADER_SIZE, MAX_MESSAGE, MIN_UDP_SIZE, Type, WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.pool import GrowingPool, cap, without_private
from staggerdns.wire.query import Query, parse_query
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.reading import read_pool
from staggerdns.wire.render import render
from staggerdns.wire.reply import index_reply, mismatch
from staggerdns.wire.scrub import scrub_answers
from staggerdns.wire.verdict import Verdict

NAME = b"\3www\7example\3com\0"
OURS = b"\3wWw\7eXAMplE\3cOM\0"
_ASKED = [
    (1, False),
    (28, False),
    (1, True),
    (15, False),
    (16, False),
    (33, False),
    (65, False),
    (6, True),
]
QUESTIONS = tuple(make_question(NAME, rdtype, do=do).key for rdtype, do in _ASKED)
MOST = 8
"""Addresses of a pool here."""
SILENT_BEFORE, NO_TCP, LOWER_CASE, COOKIE_BEFORE = 0x40, 0x20, 0x10, 0x08
MOST_SENT = 7
"""Messages of one query: with a new cookie, two steps of EDNS, lower case, over TCP, and once more
where that was refused.
"""
_COOKIE = bytes((0, 0, 0x29, 4, 0xD0, 0, 0, 0, 0, 0, 20, 0, 10, 0, 16)) + b"!!!!!!!!severals"
_SETTINGS = UpstreamSettings(servers=())
_READERS = Readers(cast("Any", None), Journal("error"))
_OUR_LABELS = frozenset((b"wWw", b"eXAMplE", b"cOM"))
_ALIASES = (5, 39)
_SIGNATURE = 46
_OF_AUTHORITY = {False: {2, 6}, True: {2, 6, 43, _SIGNATURE, 47, 50}}
_OF_ADDITIONAL = {False: {1, 28, 33, 64, 65, 5}, True: {1, 28, 33, 64, 65, 5, _SIGNATURE}}
_TTL = 0x3F3F3F3F  # legal, and an unlikely thing to be left in place


def check(data: bytes) -> None:
    """Check one message; raises `AssertionError`, or anything else, for a defect."""
    if not data:
        return
    asked = Question(QUESTIONS[data[0] % len(QUESTIONS)])
    message = b"\0\0" + data[1:]
    if not data[0] & 0x80:
        message = message[:HEADER_SIZE] + OURS + asked.section[-4:] + message[HEADER_SIZE:]
    if mismatch(message, asked):
        return
    _check_asked(asked, message, data[0])
    try:
        verdict, answer = judge(message, asked)
    except WireError:
        return
    assert (answer is None) == (verdict is Verdict.FAILURE)
    if answer is None:
        return
    assert answer.negative == (verdict is Verdict.NEGATIVE)
    assert 0 <= answer.ttl < 2**31
    assert len(set(answer.addresses)) == len(answer.addresses)
    _check_rendered(asked, answer)
    if len(answer.addresses) > 1:
        _check_rendered(asked, answer.reordered(answer.addresses[::-1]))
    public = without_private(answer)
    if public is not None:
        _check_public(public.addresses)
    if isinstance(answer, AddressPool):
        _check_pool(asked, message, answer)


def judge(message: bytes, asked: Question) -> tuple[Verdict, Answer | None]:
    """Judge one reply."""
    return Judge(asked).verdict(message)


class _Wires:
    """UDP or TCP to nowhere, which notes in ``sent`` what went there."""

    def __init__(self, sent: list[tuple[Exchange, bool]], *, stream: bool) -> None:
        self._sent = sent
        self._stream = stream

    def send(self, exchange: Exchange) -> None:
        """Note it."""
        self._sent.append((exchange, self._stream))

    def close(self) -> None:
        """Nothing is open."""


def _check_asked(asked: Question, message: bytes, ways: int) -> None:
    """Have an upstream reply with ``message`` to a few queries, in its or in their letters."""
    clock = Clock()
    sent: list[tuple[Exchange, bool]] = []
    udp, tcp = _Wires(sent, stream=False), _Wires(sent, stream=True)
    upstream = Upstream(
        parse_upstream("192.0.2.1"),
        _SETTINGS,
        reactor=None,  # type: ignore[arg-type]
        readers=_READERS,
        clock=StandstillClock(clock),
        rng=lambda count: b"!" * count,  # all letters are capitals, and so is the cookie
        metrics=Metrics(),
        journal=Journal("error"),
        budget=QueryBudget(_SETTINGS.budget),
    )
    upstream._transport, upstream._stream = cast("Any", udp), cast("Any", tcp)  # noqa: SLF001
    for _ in range(3 if ways & SILENT_BEFORE else 0):
        upstream.ask(Judge(asked), "active", clock.seconds()).expire()
    if ways & COOKIE_BEFORE:
        good = b"\0\0\x81\x80\0\1\0\0\0\0\0\1" + asked.section.upper() + _COOKIE
        exchange = upstream.ask(Judge(asked), "active", clock.seconds())
        exchange.owner.received(exchange, good, over_stream=True)
        exchange.expire()  # it is asked about in lower case
    for _ in range(4):
        sent.clear()
        clock.advance(1)
        exchange = upstream.ask(Judge(asked), "active", clock.seconds())
        answered = 0
        while not exchange.over:
            assert len(sent) <= MOST_SENT
            if answered == len(sent):
                exchange.expire()  # a doubted reply was the last
                break
            answered = len(sent)
            query, over_stream = sent[-1]
            if over_stream and ways & NO_TCP:
                query.error(Reason.CLOSED)
            else:
                query.owner.received(
                    query, _in_letters(message, query, ways), over_stream=over_stream
                )
    _check_relearning(upstream, asked, clock, sent)
    upstream.close()
    assert not upstream._inflight  # noqa: SLF001
    assert not clock.getDelayedCalls()


def _in_letters(message: bytes, query: Exchange, ways: int) -> bytes:
    """Return the reply with the letters that the query had, if they are to be repeated."""
    end = HEADER_SIZE + len(query.question.section)
    if message[4:6] == b"\0\1" and not ways & LOWER_CASE:
        return message[:HEADER_SIZE] + query.query[HEADER_SIZE - 2 : end - 2] + message[end:]
    return message


def _check_relearning(
    upstream: Upstream, asked: Question, clock: Clock, sent: list[tuple[Exchange, bool]]
) -> None:
    """Check that an upstream which copes with everything by now is soon asked so."""
    plain = make_question(asked.name, asked.qtype)
    dialect = upstream.dialect
    for _ in range(6):
        if dialect.edns.level == FULL and dialect.case.is_mixed:
            return
        clock.advance(MEMORY)
        sent.clear()
        exchange = upstream.ask(Judge(plain), "active", clock.seconds())
        for query, over_stream in sent:  # which grows
            end = HEADER_SIZE - 2 + len(plain.section)
            good = b"\0\0\x81\x80\0\1\0\1\0\0" + (b"\0\1" if query.query[9] else bytes(2))
            good += query.query[10:end] + b"\xc0\x0c" + plain.section[-4:] + bytes(5) + b"\4"
            query.owner.received(
                query,
                good + bytes(4) + (_COOKIE if query.query[9] else b""),
                over_stream=over_stream,
            )
        if not exchange.over:
            exchange.expire()
    assert dialect.edns.level == FULL, "no EDNS any more"
    assert dialect.case.is_mixed, "no random case any more"


def _check_pool(asked: Question, message: bytes, pool: AddressPool) -> None:
    """Check that both ways to read a pool agree, and what it does to another upstream's."""
    reply = index_reply(message, asked)
    indexed = read_pool(reply, scrub_answers(reply, asked))
    assert indexed is not None
    assert (pool.cname_chain, pool.addresses) == (indexed.cname_chain, indexed.addresses)
    assert (pool.ttl, pool.ad) == (indexed.ttl, indexed.ad)
    size = 4 if asked.qtype == Type.A else 16
    known = tuple(bytes([8] * (size - 1) + [host]) for host in range(3))
    growing = GrowingPool(AddressPool((), known, 60, ad=True), MOST, private=False)
    growing.add(pool, 0)
    merged = growing.pool()
    assert merged.addresses[:3] == known
    assert len(set(merged.addresses)) == len(merged.addresses) <= MOST
    assert not merged.cname_chain
    _check_public(merged.addresses)
    capped = cap(pool, MOST)
    growing = GrowingPool(capped, MOST, private=True)
    growing.add(AddressPool((), known, 60, ad=True), 0)
    assert len(growing.pool().addresses) <= MOST


def _check_public(addresses: tuple[bytes, ...]) -> None:
    for raw in addresses:
        address = ip_address(raw)
        kept_out = (
            address.is_loopback,
            address.is_link_local,
            address.is_multicast,
            address.is_unspecified,
        )
        assert not any(kept_out), address


def _query(asked: Question, *, edns: bool) -> Query:
    """Return a client's query, in a case that no upstream saw, for a question asked."""
    wire = bytearray(b"\xff\xff" + asked.client_query())
    end = HEADER_SIZE + len(asked.section)
    wire[HEADER_SIZE : end - 4] = wire[HEADER_SIZE : end - 4].upper()
    if not edns:
        del wire[end:]
        wire[11] = 0
    return parse_query(bytes(wire))


def _check_rendered(asked: Question, answer: Answer) -> None:
    """Check what clients get: all of it, and as much as fits the smallest datagram."""
    name = dns.name.from_wire(asked.name.upper(), 0)[0]
    for edns, limit in ((True, MAX_MESSAGE), (False, MIN_UDP_SIZE)):
        query = _query(asked, edns=edns)
        wire = render(query, answer, _TTL, limit)
        assert len(wire) <= limit
        assert wire[:2] == b"\xff\xff"
        assert (
            wire[HEADER_SIZE : query.question_end]
            == asked.section.upper()[:-4] + (asked.section[-4:])
        )
        (answers, *others), names = reading.sections_and_names(wire)
        names += [owner for owner, _, _, _ in sum(others, answers)]
        assert not _OUR_LABELS.intersection(label for name in names for label in name.labels)
        _check_related(asked, answers, *others)
        found = [record for record in sum(others, answers) if record[1] != Type.OPT]
        assert {ttl for _, _, ttl, _ in found} <= {_TTL}
        addresses = tuple(data for _, rdtype, _, data in answers if rdtype == asked.qtype)
        if wire[2] << 8 & dns.flags.TC:
            assert not found
            assert limit == MIN_UDP_SIZE, "too large for any reply"
        elif isinstance(answer, AddressPool):
            assert reading.message(wire).question[0].name == name
            whole = limit == MAX_MESSAGE
            assert addresses == answer.addresses[: None if whole else len(addresses)]
            assert addresses
            assert found[0][0] == name
            assert len(found) == len(answer.cname_chain) + len(addresses)
        elif answer.addresses:
            assert addresses == answer.addresses


def _check_related(
    asked: Question,
    answers: list[reading.Record],
    authority: list[reading.Record],
    additional: list[reading.Record],
) -> None:
    """Check that nothing is there that the question has not led to."""
    types = {asked.qtype, *_ALIASES} | ({_SIGNATURE} if asked.do else set())
    assert {rdtype for _, rdtype, _, _ in answers} <= types
    assert {rdtype for _, rdtype, _, _ in authority} <= _OF_AUTHORITY[asked.do]
    others = {rdtype for _, rdtype, _, _ in additional} - {Type.OPT}
    assert others <= _OF_ADDITIONAL[asked.do]
    name = dns.name.from_wire(asked.name, 0)[0]
    aliases = sum(rdtype in _ALIASES for _, rdtype, _, _ in answers)
    for owner, rdtype, _, _ in answers:
        assert aliases or owner == name or rdtype == Type.DNAME, "an answer to another question"
    if not aliases:
        for owner, rdtype, _, _ in authority:
            assert name.is_subdomain(owner) or rdtype in (_SIGNATURE, Type.NSEC, Type.NSEC3)
