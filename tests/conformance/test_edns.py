"""EDNS from clients: RFC 6891, and what RFC 3225 and RFC 8914 build on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.rcode
import pytest

from tests.kit import behaviours as b
from tests.kit.octets import address_of, message, opt, option, record, sent
from tests.kit.scripted import Send

if TYPE_CHECKING:
    from tests.kit.scripted import Action, Query
    from tests.kit.testbed import Testbed

DO = 0x8000
NSID, SUBNET, EXPIRE, KEEPALIVE, PADDING, CHAIN, KEY_TAG = 3, 8, 9, 11, 12, 13, 14

GOOD = {
    "bare": opt(),
    "unknown option": opt(options=option(65001, b"hello")),
    "unknown and empty": opt(options=option(65001)),
    "the same twice": opt(options=option(65001, b"a") + option(65001, b"b")),
    "zero option code": opt(options=option(0, b"reserved")),
    "a crowd of options": opt(
        options=b"".join(
            option(code, data)
            for code, data in (
                (NSID, b""),
                (SUBNET, b"\0\1\x18\0\xc0\0\2"),
                (EXPIRE, b""),
                (KEEPALIVE, b""),
                (PADDING, b"\0" * 64),
                (CHAIN, b"\0"),
                (KEY_TAG, b"\x4f\x66"),
                (65534, b"x" * 100),
            )
        )
    ),
    "unknown flags": opt(flags=0x7FFF),
    "an extended rcode": opt(extended=255),
}
"""OPT records that change nothing (RFC 6891 sections 6.1.2 to 6.1.4)."""


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("record", GOOD.values(), ids=GOOD)
def test_what_is_ignored(testbed: Testbed, record: bytes, tcp: bool) -> None:
    """Options, flags and codes that we do not know change nothing and do not come back."""
    reply = sent(testbed, message(record, counts=(1, 0, 0, 1)), tcp=tcp)
    assert reply is not None
    assert reply.rcode == "NOERROR"
    assert reply.addresses == [address_of("www.example.")]
    found = reply.message
    assert (found.edns, found.ednsflags, found.payload, found.options) == (0, 0, 1232, ())


BEHIND = record(owner=b"\5other\0")
BAD = {
    "version 1": (message(opt(version=1), counts=(1, 0, 0, 1)), "BADVERS"),
    "version 255": (message(opt(version=255), counts=(1, 0, 0, 1)), "BADVERS"),
    "version 1, options of its own kind": (
        message(opt(version=1, options=b"\1\2\3"), counts=(1, 0, 0, 1)),
        "BADVERS",
    ),
    "two OPTs": (message(opt(), opt(), counts=(1, 0, 0, 2)), "FORMERR"),
    "two OPTs apart": (message(opt(), BEHIND, opt(), counts=(1, 0, 0, 3)), "FORMERR"),
    "two OPTs, one of version 1": (
        message(opt(version=1), opt(), counts=(1, 0, 0, 2)),
        "FORMERR",
    ),
    "OPT as an answer": (message(opt(), counts=(1, 1, 0, 0)), "FORMERR"),
    "OPT as authority": (message(opt(), counts=(1, 0, 1, 0)), "FORMERR"),
    "OPT of a name": (message(opt(owner=b"\1a\0"), counts=(1, 0, 0, 1)), "FORMERR"),
    "OPT of the question's name": (message(opt(owner=b"\xc0\x0c"), counts=(1, 0, 0, 1)), "FORMERR"),
    "option longer than its OPT": (
        message(opt(options=b"\xfd\xe9\0\5abcd"), counts=(1, 0, 0, 1)),
        "FORMERR",
    ),
    "half an option header": (message(opt(options=b"\xfd\xe9\0"), counts=(1, 0, 0, 1)), "FORMERR"),
    "OPT cut short": (message(opt()[:-1], counts=(1, 0, 0, 1)), "FORMERR"),
    "OPT not counted": (message(opt()), "FORMERR"),
    "OPT counted but not there": (message(counts=(1, 0, 0, 1)), "FORMERR"),
}


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize(("wire", "rcode"), BAD.values(), ids=BAD)
def test_what_is_wrong(testbed: Testbed, wire: bytes, rcode: str, tcp: bool) -> None:
    """A wrong OPT record is FORMERR, an unknown version BADVERS with version 0 in the reply."""
    reply = sent(testbed, wire, tcp=tcp)
    assert reply is not None
    assert reply.rcode == rcode
    assert not reply.message.answer
    assert reply.message.edns in (0, -1)
    if rcode == "BADVERS":
        assert reply.message.edns == 0
        assert len(reply.message.question) == 1


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("place", ["before", "behind"])
def test_other_additional_records(testbed: Testbed, place: str, tcp: bool) -> None:
    """A record beside the OPT is ignored (RFC 6891 section 6.1.1 lets OPT stand anywhere)."""
    both = (BEHIND, opt()) if place == "before" else (opt(), BEHIND)
    reply = sent(testbed, message(*both, counts=(1, 0, 0, 2)), tcp=tcp)
    assert reply is not None
    assert reply.rcode == "NOERROR"
    assert reply.message.edns == 0


@pytest.mark.parametrize("tcp", [False, True], ids=["udp", "tcp"])
@pytest.mark.parametrize("flags", [0, DO, 0x4000, 0xFFFF])
def test_do_is_copied_and_nothing_else(testbed: Testbed, flags: int, tcp: bool) -> None:
    """Of the flags, DO comes back (RFC 3225 section 3), with an error as well."""
    for version, rcode in ((0, "NOERROR"), (1, "BADVERS")):
        wire = message(opt(version=version, flags=flags), counts=(1, 0, 0, 1))
        reply = sent(testbed, wire, tcp=tcp)
        assert reply is not None
        assert reply.rcode == rcode
        assert reply.message.ednsflags & 0xFFFF == flags & DO


def test_no_opt_without_opt(testbed: Testbed) -> None:
    """Who sends no OPT gets none, whatever happens (RFC 6891 section 7)."""
    for wire in (message(), message(flags=0x1000), message(b"x"), message(tail=b"\0\xfb\0\1")):
        reply = sent(testbed, wire, tcp=False)
        assert reply is not None
        assert reply.message.edns == -1
        assert dns.rcode.to_text(reply.message.rcode()) == reply.rcode


def _text(size: int) -> str:
    """Return the presentation form of TXT data that take ``size`` octets."""
    strings = []
    while size > 256:
        strings.append("x" * 255)
        size -= 256
    return " ".join(f'"{text}"' for text in [*strings, "x" * (size - 1)])


@pytest.mark.parametrize("payload", [None, 0, 1, 511, 512, 513, 1231, 1232, 1233, 4096, 65535])
def test_payload_sizes(testbed: Testbed, payload: int | None) -> None:
    """A reply of the client's size fits, one octet more is cut and has TC; over TCP it is whole.

    Less than 512 counts as 512 (RFC 6891 section 6.2.3), and more than 1232 is not used.
    """
    limit = 512 if payload is None else min(max(payload, 512), 1232)
    for excess in (0, 1):
        name = testbed.route("payload", _silence)
        fixed = 12 + len(name) + 1 + 4 + 12 + (0 if payload is None else 11)
        data = _text(limit + excess - fixed)
        testbed.route("payload", b.records((None, 300, "TXT", data)), name=name)
        for _ in range(2):  # from upstream, then from the cache
            reply = testbed.ask(name, "TXT", payload=payload)
            assert len(reply.wire) <= limit
            assert reply.flag("TC") == bool(excess)
            assert len(reply.message.answer) == (not excess)
        whole = testbed.ask(name, "TXT", payload=payload, tcp=True)
        assert not whole.flag("TC")
        assert len(whole.wire) == limit + excess


def _silence(_query: Query) -> list[Action]:
    return [Send(b"")]
