"""Names: their limits, odd octets, case, pointers, and bytes that belong to nothing."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import dns.name
import pytest

from tests.kit import behaviours as b
from tests.kit.octets import A_IN, WWW, address_of, label, message, opt, record, sent
from tests.kit.scripted import Send
from tests.kit.testbed import unique_name

if TYPE_CHECKING:
    from tests.kit.scripted import Action, Query
    from tests.kit.testbed import Testbed

TRANSPORTS = pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
LONGEST = label(b"a" * 63) * 3 + label(b"b" * 61) + b"\0"
assert len(LONGEST) == 255

LEGAL = {
    "root": b"\0",
    "one letter": b"\1a\0",
    "63 octets": label(b"c" * 63) + b"\7example\0",
    "255 octets": LONGEST,
    "127 labels": b"\1a" * 127 + b"\0",
    "nothing but zeros": label(b"\0" * 63) + b"\0",
    "nothing but 255": label(b"\xff" * 63) + b"\0",
    "a blank": b"\1 \7example\0",
    "looks like a pointer": b"\2\xc0\x0c\7example\0",
    "looks like a name": b"\4\3www\0",
}


@TRANSPORTS
@pytest.mark.parametrize("name", LEGAL.values(), ids=LEGAL)
def test_legal_names(testbed: Testbed, name: bytes, tcp: bool) -> None:
    """A name of any octets within the limits of RFC 1035 section 3.1 is asked and answered."""
    for _ in range(2):
        reply = sent(testbed, message(name=name), tcp=tcp)
        assert reply is not None
        text = dns.name.from_wire(name, 0)[0].to_text().lower()
        assert reply.addresses == [address_of(text)]
        assert reply.wire[12 : 12 + len(name)] == name


ILLEGAL = {
    "a label of 64": b"\x40" + b"a" * 64 + b"\0",
    "256 octets": label(b"a" * 63) * 3 + label(b"b" * 62) + b"\0",
    "128 labels": b"\1a" * 128 + b"\0",
    "reserved label type 10": b"\x80" + b"a" * 10 + b"\0",
    "bit string": b"\x41\x08\xff\0",
    "runs over the end": b"\3www\7exam",
    "no end": b"\3www",
    # A first name has nothing that it could point back to.
    "pointer to itself": b"\xc0\x0c",
    "pointer into the header": b"\xc0\x00",
    "pointer forwards": b"\xc0\x12\0\0",
    "pointer behind the end": b"\xff\xff",
    "label and a pointer back to it": b"\3www\xc0\x0c",
    "two that point at each other": b"\xc0\x0e\xc0\x0c",
}


@TRANSPORTS
@pytest.mark.parametrize("name", ILLEGAL.values(), ids=ILLEGAL)
def test_illegal_names(testbed: Testbed, name: bytes, tcp: bool) -> None:
    """A question whose name is none is FORMERR, at once."""
    reply = sent(testbed, message(name=name), tcp=tcp)
    assert reply is not None
    assert reply.rcode == "FORMERR"
    assert not reply.message.answer


ALIKE = [
    (rb"a\.b.example.", "a.b.example."),
    (rb"a\000b.example.", rb"ab.example."),
    (rb"a\000.example.", rb"a.example."),
    (rb"\000.example.", rb"\000\000.example."),
    (rb"a\032.example.", rb"a.example."),
    (rb"\[.example.", rb"{.example."),  # 0x5B and 0x7B differ in the bit that letters fold
    (rb"@.example.", rb"`.example."),
    (rb"\196.example.", rb"\228.example."),  # a letter in Latin-1, none in DNS
    (rb"a\.example.", rb"a.example."),
    (rb"\001a.example.", rb"a.example."),
    (rb"\\.example.", rb"\..example."),
]


@TRANSPORTS
@pytest.mark.parametrize("pair", ALIKE, ids=str)
def test_names_that_look_alike(testbed: Testbed, pair: tuple[bytes | str, ...], tcp: bool) -> None:
    """Names that differ in their octets are different questions with different answers."""
    seen = set()
    for _, text in itertools.product(range(2), pair):
        name = dns.name.from_text(text if isinstance(text, str) else text.decode())
        reply = sent(testbed, message(name=name.to_wire() or b""), tcp=tcp)
        assert reply is not None
        assert reply.addresses == [address_of(name.to_text().lower())]
        seen.update(reply.addresses)
    assert len(seen) == 2


@TRANSPORTS
def test_case(testbed: Testbed, tcp: bool) -> None:
    """Each client gets its own case back; all share one answer and one query upstream."""
    name = unique_name("mIxEd")
    forms = [name, name.upper(), name.swapcase(), name.title()]
    for form in forms * 2:
        reply = testbed.ask(form, tcp=tcp)
        assert reply.addresses == [address_of(name.lower())]
        assert reply.message.question[0].name.to_text() == form
        assert reply.message.answer[0].name.to_text() == form
    assert testbed.complete(name) == [1, 1, 1]


def test_case_of_negatives(testbed: Testbed) -> None:
    """A negative answer is shared among all cases as well."""
    name = testbed.route("negative", b.nxdomain())
    assert [testbed.ask(form).rcode for form in (name, name.upper(), name)] == ["NXDOMAIN"] * 3
    assert max(testbed.counts(name)) == 1


TRAILING = {
    "one octet": message(b"\0"),
    "a second question": message(WWW + A_IN),
    "behind the OPT": message(opt(), b"x", counts=(1, 0, 0, 1)),
    "a record that nobody counts": message(record()),
    "as many as fit": message(b"\xff" * 3000),
}


@TRANSPORTS
@pytest.mark.parametrize("wire", TRAILING.values(), ids=TRAILING)
def test_trailing_bytes(testbed: Testbed, wire: bytes, tcp: bool) -> None:
    """Octets behind the last record are FORMERR."""
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == "FORMERR"


@TRANSPORTS
@pytest.mark.parametrize("size", range(12))
def test_less_than_a_header(testbed: Testbed, size: int, tcp: bool) -> None:
    """Nothing that lacks a whole header can be answered."""
    assert sent(testbed, message()[:size], tcp=tcp, answered=False) is None


@TRANSPORTS
def test_every_cut(testbed: Testbed, tcp: bool) -> None:
    """A query that ends early, wherever, is FORMERR."""
    whole = message(opt(options=b"\xfd\xe9\0\2ab"), counts=(1, 0, 0, 1))
    for end in range(12, len(whole)):
        reply = sent(testbed, whole[:end], tcp=tcp)
        assert reply is not None
        assert reply.rcode == "FORMERR"


# 64 KiB of records in which every owner is a pointer to the pointer before it.
_FIRST = len(message())
_CHAIN = record(data=b"") + b"".join(
    record(owner=(0xC000 | min(_FIRST + 12 * index, 0x3FFF)).to_bytes(2, "big"), data=b"")
    for index in range(5000)
)
BOMBS = {
    "a chain of pointers": message(_CHAIN, counts=(1, 0, 0, 5001)),
    "a chain of pointers for UPDATE": message(_CHAIN, counts=(1, 0, 0, 5001), flags=5 << 11),
    "questions": message((b"\xc0\x0c" + A_IN) * 10000, counts=(10001, 0, 0, 0)),
    "owner that points to itself": message(
        record(owner=(0xC000 | _FIRST).to_bytes(2, "big")), counts=(1, 0, 0, 1)
    ),
}


@pytest.mark.parametrize("wire", BOMBS.values(), ids=BOMBS)
def test_bombs_from_clients(testbed: Testbed, wire: bytes) -> None:
    """A message full of pointers costs what its octets cost: no pointer is followed."""
    start = time.monotonic()
    reply = sent(testbed, wire, tcp=True)
    assert time.monotonic() - start < 5
    assert reply is not None


def _poisoned(name: bytes) -> bytes:
    """Return a CNAME record at the question's name whose target is ``name``."""
    return record(rtype=5, data=name)


def _at(query: Query, offset: int) -> bytes:
    """Return a pointer to ``offset`` behind the question."""
    end = query.wire.index(A_IN, 12) + 4
    return (0xC000 | (end + offset)).to_bytes(2, "big")


def _chain(query: Query, more: bytes) -> tuple[bytes, int]:
    """Return 200 records; each target is ``more`` and a pointer to the target before it."""
    records = _poisoned(b"\1a\0")
    target = 12
    for _ in range(199):
        pointer = _at(query, target)
        target = len(records) + 12
        records += _poisoned(more + pointer)
    return records, 200


UPSTREAM_BOMBS = {
    "target that points to itself": lambda query: (_poisoned(_at(query, 12)), 1),
    "targets that point at each other": lambda query: (
        _poisoned(_at(query, 26)) + _poisoned(_at(query, 12)),
        2,
    ),
    "target that points forwards": lambda query: (_poisoned(_at(query, 14)) + b"\1a\0", 1),
    "pointers to pointers": lambda query: _chain(query, b""),
    "labels and pointers": lambda query: _chain(query, b"\1a"),
    "record that is missing": lambda _: (record(), 2),
    "name longer than 255": lambda _: (
        _poisoned(label(b"a" * 63) * 3 + label(b"b" * 40) + b"\xc0\x0c"),
        1,
    ),
}


@pytest.mark.parametrize("kind", UPSTREAM_BOMBS)
def test_bombs_from_upstreams(testbed: Testbed, kind: str) -> None:
    """A reply that no name can be read of is no answer, and costs no time to speak of."""

    def bomb(query: Query) -> list[Action]:
        body, count = UPSTREAM_BOMBS[kind](query)
        end = query.wire.index(A_IN, 12) + 4
        header = query.wire[:2] + b"\x81\x80\0\1" + count.to_bytes(2, "big") + b"\0\0\0\0"
        return [Send(header + query.wire[12:end] + body)]

    reply = testbed.ask(testbed.route("bomb-with-a-name-that-is-long-enough", bomb))
    assert reply.rcode == "SERVFAIL"
    assert reply.seconds < 2.5
