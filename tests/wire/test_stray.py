"""Replies of odd servers: what is stray in them is dropped and counted, the answer is taken."""

from __future__ import annotations

import struct

import dns.message
import dns.tsigkeyring
import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.reply import STRAYS
from staggerdns.wire.verdict import Verdict
from tests.kit.messages import (
    NAME,
    OPT,
    POINTER,
    ask,
    judged,
    raw_reply,
    record,
    replied,
    scanned,
    sections_answer,
    texts,
    upstream_reply,
    wire_data,
    wire_name,
)

QUESTIONS = [
    pytest.param("A", False, b"\xc0\0\2\1", f"{NAME} 60 A 192.0.2.1", id="pool"),
    pytest.param("A", True, b"\xc0\0\2\1", f"{NAME} 60 A 192.0.2.1", id="signed"),
    pytest.param("MX", False, b"\0\1\1m\0", f"{NAME} 60 MX 1 m.", id="MX"),
    pytest.param("TXT", True, b"\1x", f'{NAME} 60 TXT "x"', id="TXT"),
]
TSIG = record(
    wire_data("TSIG", "hmac-sha256. 1700000000 300 32 " + "A" * 43 + "= 1 0 0"),
    250,
    owner=wire_name("key.example."),
    rdclass=255,
    ttl=0,
)
SIG0 = record(bytes(18) + b"\0signature", 24, owner=b"\0", rdclass=255, ttl=0)
STRAY = {
    "octets": ([], [], [], b"\0" * 24),
    "one octet": ([], [], [], b"\xff"),
    "a record behind": ([], [], [], record(b"\1x", 16)),
    "TSIG": ([], [], [TSIG], b""),
    "TSIG behind OPT": ([], [], [OPT, TSIG], b""),
    "SIG(0)": ([], [], [SIG0], b""),
    "two OPT": ([], [], [OPT, OPT], b""),
    "named OPT": ([], [], [record(b"", 41, owner=wire_name("x."))], b""),
    "OPT of an answer": ([OPT], [], [], b""),
    "OPT of authority": ([], [OPT], [], b""),
    "CH answer": ([record(bytes(4), 1, rdclass=3)], [], [], b""),
    "CH authority": ([], [record(b"\0", 2, rdclass=3)], [], b""),
    "class of OPT": ([], [], [record(bytes(4), 1, rdclass=1232)], b""),
    "short address": ([], [], [record(bytes(3), 1)], b""),
    "names that do not fill": ([], [record(b"\0\0", 2)], [], b""),
    "another name": ([record(bytes(4), 1, owner=wire_name("x.example."))], [], [], b""),
}


@pytest.mark.parametrize(("rdtype", "do", "data", "shown"), QUESTIONS)
@pytest.mark.parametrize("kind", STRAY)
@pytest.mark.parametrize("first", [False, True])
def test_stray(
    rdtype: str,
    do: bool,
    data: bytes,
    shown: str,
    first: bool,
    kind: str,
) -> None:
    """The answer comes through alone, and one thing is counted under a known kind."""
    answer, authority, additional, tail = STRAY[kind]
    asked = ask(rdtype=rdtype, do=do)
    judge = Judge(asked)
    mine = [record(data, asked.qtype)]
    answers = [*answer, *mine] if first else [*mine, *answer]
    wire = raw_reply(asked, answers, authority, additional) + tail
    verdict, found = judge.verdict(wire)
    assert verdict is Verdict.POSITIVE
    assert found is not None
    message = replied(scanned(rdtype=rdtype, do=do), found)
    assert texts(message.answer) == [shown]
    assert not message.authority
    assert not message.additional
    unseen = isinstance(found, AddressPool) and {"short", "names"} & {*kind.split()}
    assert sum(judge.strays.values()) == (0 if unseen else 1), "a pool takes no data from there"
    assert set(judge.strays) <= set(STRAYS)


@pytest.mark.parametrize(("rdtype", "do", "data", "shown"), QUESTIONS)
@pytest.mark.parametrize("offset", [8, 10])
@pytest.mark.parametrize("more", [1, 2, 65535])
@pytest.mark.parametrize("opt", [[], [OPT]])
def test_counts(
    rdtype: str, do: bool, data: bytes, shown: str, offset: int, more: int, opt: list[bytes]
) -> None:
    """Counts of authority and additional section may promise more than comes."""
    asked = ask(rdtype=rdtype, do=do)
    wire = bytearray(raw_reply(asked, [record(data, asked.qtype)], [], opt))
    struct.pack_into("!H", wire, offset, more)
    verdict, found = judged(bytes(wire), asked)
    assert verdict is Verdict.POSITIVE
    assert found is not None
    assert texts(replied(scanned(rdtype=rdtype, do=do), found).answer) == [shown]


@pytest.mark.parametrize("kind", ["CH answer", "another name", "OPT of an answer"])
@pytest.mark.parametrize("with_soa", [False, True])
def test_stray_alone(kind: str, with_soa: bool) -> None:
    """An answer section of strays denies nothing, unless there is an SOA that does."""
    asked = ask()
    soa = record(b"\0\0" + struct.pack("!5I", 1, 2, 3, 4, 60), 6)
    wire = raw_reply(asked, STRAY[kind][0], [soa] if with_soa else [])
    if with_soa:
        assert judged(wire, asked)[0] is Verdict.NEGATIVE
    else:
        with pytest.raises(WireError):
            judged(wire, asked)


def test_counts_of_negatives() -> None:
    """A negative with an OPT that was promised and did not come keeps its SOA."""
    asked = ask()
    judge = Judge(asked)
    soa = "example.com. 60 SOA ns.example.com. host.example.com. 1 2 3 4 60"
    wire = bytearray(upstream_reply(asked, authority=[soa], rcode=3))
    wire[11] = 1
    verdict, answer = judge.verdict(bytes(wire))
    assert (verdict, answer and answer.ttl) == (Verdict.NEGATIVE, 60)
    assert judge.strays == {"cut": 1}


@pytest.mark.parametrize("flags", [0x8580, 0x8100, 0x8000, 0x81C0, 0x8590, 0x8490, 0x85F0])
@pytest.mark.parametrize("usual", [False, True])
def test_flags_do_not_matter(flags: int, usual: bool) -> None:
    """AA, RA, RD, CD and the reserved bit may be as they like, and are not passed on."""
    asked = ask()
    owner = POINTER if usual else wire_name(NAME)
    verdict, answer = judged(
        raw_reply(asked, [record(bytes(4), 1, owner=owner)], flags=flags), asked
    )
    assert verdict is Verdict.POSITIVE
    assert answer is not None
    assert answer.ad == bool(flags & 0x20)
    assert replied(scanned(), answer).flags == 0x8180


def test_empty_text() -> None:
    """A TXT record of no string is given as one empty string (RFC 6763 section 6.1), but for DO
    as it stands: its signature covers that.
    """
    good = record(b"\x0bv=spf1 -all", 16)
    for answer in ([good, record(b"", 16)], [record(b"", 16), good], [record(b"", 16)]):
        asked = ask(rdtype="TXT")
        judge = Judge(asked)
        found = judge.verdict(raw_reply(asked, answer))[1]
        assert found is not None
        message = replied(scanned(rdtype="TXT"), found)
        assert f'{NAME} 60 TXT ""' in texts(message.answer)
        assert len(texts(message.answer)) == len(answer)
        signed = ask(rdtype="TXT", do=True)
        body = b"".join(answer)
        assert sections_answer(raw_reply(signed, answer), signed).body == body
        assert not judge.strays


@pytest.mark.parametrize("rdtype", ["A", "MX"])
def test_signed_by_key(rdtype: str) -> None:
    """A reply with a real TSIG, which we did not ask for, is taken without it."""
    asked = ask(rdtype=rdtype)
    judge = Judge(asked)
    data = {"A": "192.0.2.1", "MX": "1 m.example."}[rdtype]
    message = dns.message.from_wire(
        upstream_reply(asked, [f"{NAME} 60 {rdtype} {data}"], edns=True)
    )
    message.use_tsig(dns.tsigkeyring.from_text({"key.": "c2VjcmV0c2VjcmV0"}), "key.")
    _, answer = judge.verdict(message.to_wire())
    assert answer is not None
    shown = replied(scanned(rdtype=rdtype), answer)
    assert texts(shown.answer) == [f"{NAME} 60 {rdtype} {data}"]
    assert not shown.had_tsig
    assert judge.strays == {"signature": 1}


def test_the_quick_way_counts_nothing_stray() -> None:
    """What the quick way takes has nothing stray in what it looks at."""
    asked = ask()
    judge = Judge(asked)
    _, answer = judge.verdict(raw_reply(asked, [record(bytes(4), 1)], [], [OPT]))
    assert isinstance(answer, AddressPool)
    assert not judge.strays


def test_dnssec_unasked() -> None:
    """Without DO no signatures or denials are passed on (RFC 4035 section 3.2.1), unless they are
    what was asked for.
    """
    signed = "8 3 300 20300101000000 20200101000000 1 example.com. c2ln"
    texts_ = [f'{NAME} 60 TXT "x"', f"{NAME} 60 RRSIG TXT {signed}"]
    for rdtype, shown in (("TXT", texts_[:1]), ("RRSIG", texts_[1:])):
        asked = ask(rdtype=rdtype)
        answer = sections_answer(upstream_reply(asked, texts_), asked)
        assert texts(replied(scanned(rdtype=rdtype), answer).answer) == shown
    nsec = f"{NAME} 60 NSEC x.example.com. A"
    asked = ask(rdtype="NSEC")
    assert texts(
        replied(
            scanned(rdtype="NSEC"), sections_answer(upstream_reply(asked, [nsec]), asked)
        ).answer
    ) == [nsec]
