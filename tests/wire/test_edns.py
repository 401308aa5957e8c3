"""EDNS options towards upstreams, and the age of replies."""

from __future__ import annotations

import struct

import dns.edns
import dns.message
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.age import aged, least_ttl
from staggerdns.wire.answer import FailureAnswer
from staggerdns.wire.constants import MAX_TTL, Ede
from staggerdns.wire.edns import (
    KEEPALIVE_WANTED,
    PADDING_BLOCK,
    REPLY_BLOCK,
    keepalive,
    option,
    padded_reply,
    with_options,
)
from staggerdns.wire.judge import Judge
from staggerdns.wire.names import from_labels
from staggerdns.wire.query import parse_query
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.render import render, render_error

COOKIE = dns.edns.OptionType.COOKIE
KEEPALIVE = dns.edns.OptionType.make(11)
PADDING = dns.edns.OptionType.PADDING


def named(length: int) -> Question:
    """A question whose name has ``length`` octets."""
    labels = []
    left = length - 1
    while left > 1:
        size = min(left - 1, 63)
        size -= left - 1 - size == 1  # a label needs an octet of its own
        labels.append(b"a" * size)
        left -= size + 1
    return make_question(from_labels(labels), 1)


def reply(question: Question, *options: dns.edns.Option, ttl: int = 300) -> bytes:
    """A reply with an address, an SOA record and an OPT record."""
    query = dns.message.from_wire(b"\0\0" + question.client_query())
    made = dns.message.make_response(query)
    name = query.question[0].name
    made.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", "203.0.113.1"))
    made.authority.append(dns.rrset.from_text("example.", 60, "IN", "SOA", "a. b. 1 2 3 4 5"))
    made.use_edns(0, options=list(options))
    return made.to_wire()


@pytest.mark.parametrize("length", [5, 80, 93, 94, 95, 200, 255])
@pytest.mark.parametrize("options", [b"", KEEPALIVE_WANTED])
def test_padded_queries_are_whole_blocks(length: int, options: bytes) -> None:
    """A padded query is a multiple of 128 octets, its ID included (RFC 8467 section 4.1)."""
    question = named(length)
    size = len(question.section)
    wire = b"\0\0" + with_options(question.client_query(), size, options, padded=True)
    assert len(wire) % PADDING_BLOCK == 0
    message = dns.message.from_wire(wire)
    kinds = [option.otype for option in message.options]
    assert kinds == [*([KEEPALIVE] if options else []), PADDING]
    assert message.edns == 0
    assert message.payload == 1232


@given(st.integers(3, 255))
def test_padding_is_the_least_that_does(length: int) -> None:
    """No block is added that is not needed, and the padding is zeros."""
    if length == 4:
        return  # a label of two octets and a root
    question = named(length)
    query = question.client_query()
    padded = with_options(query, len(question.section), b"", padded=True)
    assert 4 <= len(padded) - len(query) < PADDING_BLOCK + 4
    assert set(padded[len(query) + 4 :]) <= {0}


def test_options_without_padding() -> None:
    """An option alone changes nothing else; no option changes nothing at all."""
    question = named(20)
    query, size = question.client_query(), len(question.section)
    assert with_options(query, size, b"", padded=False) == query
    changed = with_options(query, size, KEEPALIVE_WANTED, padded=False)
    assert changed == query[:-2] + b"\0\4\0\x0b\0\0"


@pytest.mark.parametrize("cookie", [bytes(range(8)), bytes(range(40))])
def test_options_join_those_that_are_there(cookie: bytes) -> None:
    """A cookie stays in its place, in front of what a connection adds."""
    question = named(20)
    option = b"\0\x0a" + len(cookie).to_bytes(2, "big") + cookie
    query = question.client_query()[:-2] + len(option).to_bytes(2, "big") + option
    changed = with_options(query, len(question.section), KEEPALIVE_WANTED, padded=True)
    message = dns.message.from_wire(b"\0\0" + changed)
    assert [found.otype for found in message.options] == [COOKIE, KEEPALIVE, PADDING]
    assert option in changed
    assert len(changed) % PADDING_BLOCK == PADDING_BLOCK - 2


def test_a_query_without_edns_stays_as_it_is() -> None:
    """Where there is no OPT record no option is added."""
    question = named(20)
    plain = question.client_query()[:-11]
    plain = plain[:9] + b"\0" + plain[10:]
    assert with_options(plain, len(question.section), KEEPALIVE_WANTED, padded=True) == plain


@pytest.mark.parametrize(("tenths", "seconds"), [(0, 0.0), (1, 0.1), (300, 30.0), (65535, 6553.5)])
def test_keepalive(tenths: int, seconds: float) -> None:
    """The time is found behind other options; its unit is 100 ms (RFC 7828 section 3.1)."""
    options = [
        dns.edns.GenericOption(COOKIE, b"12345678"),
        dns.edns.GenericOption(KEEPALIVE, struct.pack("!H", tenths)),
        dns.edns.GenericOption(PADDING, bytes(9)),
    ]
    assert keepalive(reply(named(20), *options)) == seconds


def test_what_looks_like_keepalive() -> None:
    """The octets of the option elsewhere, or an option of another size, say nothing."""
    assert keepalive(reply(named(20))) is None
    assert keepalive(reply(named(20), dns.edns.GenericOption(COOKIE, b"\0\x0b\0\2\0\5"))) is None
    assert keepalive(reply(named(20), dns.edns.GenericOption(KEEPALIVE, b"\0\x0b\0\2"))) is None
    assert keepalive(reply(named(20), dns.edns.GenericOption(KEEPALIVE, b""))) is None


@given(st.binary(max_size=120))
def test_keepalive_of_garbage(data: bytes) -> None:
    """Nothing that a server sends raises."""
    keepalive(data + b"\0\x0b\0\2" + data)
    message = reply(named(20), dns.edns.GenericOption(KEEPALIVE, b"\0\5"))
    keepalive(message[: len(data)] + data)


@pytest.mark.parametrize(
    ("age", "ttls"),
    [(1, (299, 59)), (60, (240, 0)), (300, (0, 0)), (301, (0, 0)), (MAX_TTL + 5, (0, 0))],
)
def test_aged(age: int, ttls: tuple[int, int]) -> None:
    """Every TTL becomes shorter by the age, and never less than 0; the OPT record stays."""
    question = named(20)
    message = reply(question, dns.edns.GenericOption(KEEPALIVE, b"\0\5"))
    older = dns.message.from_wire(aged(message, question, age))
    assert (older.answer[0].ttl, older.authority[0].ttl) == ttls
    assert older.payload == dns.message.from_wire(message).payload
    assert len(aged(message, question, age)) == len(message)


def test_age_of_garbage() -> None:
    """What cannot be read is left to be judged as it is."""
    question = named(20)
    message = reply(question)[: 12 + len(question.section) + 3]
    assert aged(message, question, 5) == message


def rendered(query: bytes, size: int, ede: int | None = None) -> bytes:
    """The reply of our own server with a text of ``size`` octets."""
    asked = parse_query(query)
    if not size:
        return render_error(asked, 2, ede)
    answer = dns.message.make_response(dns.message.from_wire(query))
    text = " ".join(["x" * 100] * (size // 101) + ["x" * (size % 101)])
    rrset = dns.rrset.from_text(answer.question[0].name, 70, "IN", "TXT", text)
    answer.answer.append(rrset)
    answer.use_edns(False)
    question = asked.question()
    verdict, whole = Judge(question).verdict(answer.to_wire(max_size=65535))
    assert whole is not None, verdict
    return render(asked, whole, 60, 65535, ede)


@pytest.mark.parametrize("size", [0, 1, 300, 400, 433, 434, 435, 468, 5000])
@pytest.mark.parametrize("ede", [None, 3])
def test_padded_replies(size: int, ede: int | None) -> None:
    """A reply to a padded query is a multiple of 468 octets (RFC 8467 section 4.1)."""
    query = dns.message.make_query("www.example", "TXT", use_edns=0, pad=128).to_wire()
    plain = rendered(query, size, ede)
    padded = padded_reply(query, plain)
    assert len(padded) % REPLY_BLOCK == 0
    assert len(padded) - len(plain) < REPLY_BLOCK + 4
    before, after = dns.message.from_wire(plain), dns.message.from_wire(padded)
    assert after.answer == before.answer
    assert (after.flags, after.payload) == (before.flags, before.payload)
    assert [int(option.otype) for option in after.options] == [15] * (ede is not None) + [12]


@pytest.mark.parametrize("size", [0, 1, 468])
def test_padding_joins_other_options(size: int) -> None:
    """A cookie, and a reason with its text, stay in front of the padding."""
    query = dns.message.make_query("www.example", "A", use_edns=0, pad=128).to_wire()
    asked = parse_query(query)
    asked.options = option(COOKIE, bytes(24))
    plain = render(
        asked, FailureAnswer(Ede.NETWORK_ERROR, 1), 1, 65535, Ede.NETWORK_ERROR, b"x" * size
    )
    padded = padded_reply(query, plain)
    assert len(padded) % REPLY_BLOCK == 0
    before, after = (dns.message.from_wire(wire).options for wire in (plain, padded))
    assert [int(option.otype) for option in after] == [10, 15, 12]
    assert [option.to_wire() for option in after[:2]] == [option.to_wire() for option in before]


def test_who_does_not_pad_gets_no_padding() -> None:
    """Without the option in the query, or without EDNS, the reply stays as it is (RFC 7830)."""
    for options in ({"use_edns": False}, {"use_edns": 0}):
        query = dns.message.make_query("www.example", "TXT", **options).to_wire()
        plain = rendered(query, 50)
        assert padded_reply(query, plain) == plain


def test_a_reply_too_long_to_pad() -> None:
    """What would not fit a message any more is sent as it is."""
    query = dns.message.make_query("www.example", "TXT", use_edns=0, pad=128).to_wire()
    largest = 65535 // REPLY_BLOCK * REPLY_BLOCK
    overhead = len(rendered(query, 64_641)) - 64_641
    fits, longer = (rendered(query, largest - 4 - overhead + more) for more in (0, 1))
    assert (len(fits), len(longer)) == (largest - 4, largest - 3)
    assert len(padded_reply(query, fits)) == largest
    assert padded_reply(query, longer) == longer


def test_least_ttl() -> None:
    """The least TTL of all records counts, the OPT record's flags are none."""
    question = named(20)
    assert least_ttl(reply(question)) == 60
    assert least_ttl(reply(question, ttl=7)) == 7
    query = dns.message.make_query("www.example", "TXT", use_edns=0, want_dnssec=True).to_wire()
    assert least_ttl(rendered(query, 0)) == 0
    assert least_ttl(rendered(query, 10)) == 60
