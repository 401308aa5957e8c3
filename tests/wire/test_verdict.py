"""What a reply is worth: docs/specification.rst, Verdicts, RFC 2308."""

from __future__ import annotations

import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import WireError
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.verdict import Verdict
from tests.kit.messages import (
    NAME,
    POINTER,
    ask,
    judged,
    raw_reply,
    record,
    sections_answer,
    upstream_reply,
    wire_name,
)

SOA = "example.com. {ttl} SOA ns.example.com. host.example.com. 1 7200 3600 1209600 {minimum}"
SOA_60 = SOA.format(ttl=60, minimum=60)
NS = "com. 172800 NS a.gtld-servers.net."
RRSIG = "A 8 3 300 20300101000000 20200101000000 1 example.com. c2ln"
QTYPES = ["A", "AAAA", "MX", "TXT", "HTTPS", "SRV", "CAA", "PTR", "NS", "TYPE65280"]

POSITIVE = [
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("MX", "10 mx.example.com."),
    ("TXT", '"hello" "world"'),
    ("HTTPS", "1 . alpn=h2"),
    ("SRV", "1 2 443 srv.example.com."),
    ("CAA", '0 issue "ca.example"'),
    ("PTR", "host.example.com."),
    ("NS", "ns.example.com."),
    ("SOA", "ns.example.com. host.example.com. 1 2 3 4 5"),
    ("CNAME", "c.example.com."),
    ("TYPE65280", r"\# 3 c0ff00"),
]


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(("rdtype", "data"), POSITIVE)
def test_positive(rdtype: str, data: str, do: bool) -> None:
    """A record of the type asked for is a positive answer, whatever the type."""
    asked = ask(rdtype=rdtype, do=do)
    verdict, answer = judged(upstream_reply(asked, [f"{NAME} 300 {rdtype} {data}"]), asked)
    assert verdict is Verdict.POSITIVE
    assert answer is not None
    assert isinstance(answer, AddressPool) == (rdtype in ("A", "AAAA") and not do)
    assert (answer.rcode, answer.negative, answer.ttl) == (0, False, 300)


@pytest.mark.parametrize("rdtype", ["MX", "HTTPS", "TYPE65280"])
@pytest.mark.parametrize("shortest", range(4))
def test_positive_behind_a_chain(rdtype: str, shortest: int) -> None:
    """Other types are positive behind a CNAME, too, and live as long as their shortest record.

    All records of an answer get one TTL, so one in any section counts.
    """
    asked = ask(rdtype=rdtype)
    data = dict(POSITIVE)[rdtype]
    ttls = [300 - (index == shortest) * 260 for index in range(4)]
    reply = upstream_reply(
        asked,
        [f"{NAME} {ttls[0]} CNAME b.example.com.", f"b.example.com. {ttls[1]} {rdtype} {data}"],
        [f"example.com. {ttls[2]} NS ns.example.com."],
        [f"ns.example.com. {ttls[3]} A 192.0.2.1"],
        edns=True,
    )
    answer = sections_answer(reply, asked)
    assert not answer.negative
    assert answer.ttl == 40


@pytest.mark.parametrize("rdtype", QTYPES)
@pytest.mark.parametrize("rcode", [0, 3])
def test_negative(rdtype: str, rcode: int) -> None:
    """NODATA and NXDOMAIN are good answers for every type, with the upstream's code."""
    asked = ask(rdtype=rdtype)
    verdict, answer = judged(upstream_reply(asked, authority=[SOA_60], rcode=rcode), asked)
    assert verdict is Verdict.NEGATIVE
    assert isinstance(answer, SectionsAnswer)
    assert (answer.rcode, answer.negative, answer.ttl) == (rcode, True, 60)


@pytest.mark.parametrize(
    ("ttl", "minimum", "granted"), [(60, 300, 60), (300, 60, 60), (0, 60, 0), (60, 0, 0), (7, 7, 7)]
)
@pytest.mark.parametrize("rcode", [0, 3])
def test_negative_ttl(ttl: int, minimum: int, granted: int, rcode: int) -> None:
    """A negative lives for the smaller of the SOA's TTL and MINIMUM (RFC 2308 section 5)."""
    asked = ask()
    soa = SOA.format(ttl=ttl, minimum=minimum)
    assert (
        sections_answer(upstream_reply(asked, authority=[soa], rcode=rcode), asked).ttl == granted
    )


def test_negative_ttl_with_a_huge_minimum() -> None:
    """A MINIMUM above any TTL leaves the SOA's TTL to count, not a negative number."""
    asked = ask()
    soa = SOA.format(ttl=60, minimum=0xFFFFFFFF)
    assert sections_answer(upstream_reply(asked, authority=[soa], rcode=3), asked).ttl == 60


def test_negative_without_soa_is_not_kept() -> None:
    """Without a SOA nobody said for how long (RFC 2308 section 5): 0 seconds."""
    asked = ask()
    for rcode in (0, 3):
        verdict, answer = judged(upstream_reply(asked, rcode=rcode), asked)
        assert verdict is Verdict.NEGATIVE
        assert answer is not None
        assert answer.ttl == 0


def test_the_soa_may_stand_behind_other_records() -> None:
    """A SOA is found behind NSEC and RRSIG, and their TTLs do not count."""
    asked = ask(do=True)
    reply = upstream_reply(
        asked,
        authority=["example.com. 5 NSEC www.example.com. A MX", SOA.format(ttl=90, minimum=80)],
        rcode=3,
    )
    assert sections_answer(reply, asked).ttl == 80


@pytest.mark.parametrize("rdtype", ["A", "AAAA", "MX", "HTTPS"])
@pytest.mark.parametrize("rcode", [0, 3])
def test_chain_without_an_end(rdtype: str, rcode: int) -> None:
    """A CNAME alone is negative, keeps its record, and lives no longer than that."""
    asked = ask(rdtype=rdtype)
    alias = f"{NAME} 20 CNAME b.example.com."
    answer = sections_answer(upstream_reply(asked, [alias], [SOA_60], rcode=rcode), asked)
    assert (answer.negative, answer.rcode, answer.ttl) == (True, rcode, 20)
    assert sections_answer(upstream_reply(asked, [alias], rcode=rcode), asked).ttl == 0


def test_a_chain_that_loops() -> None:
    """A loop is no answer at all."""
    asked = ask()
    alias = [f"{NAME} 20 CNAME b.example.com.", f"b.example.com. 20 CNAME {NAME}"]
    with pytest.raises(WireError):
        judged(upstream_reply(asked, alias), asked)


def test_signatures_alone_are_negative() -> None:
    """An RRSIG without the records it signs answers nothing, with DO and without, and only with an
    SOA is that a denial.
    """
    for do in (False, True):
        asked = ask(do=do)
        alone = [f"{NAME} 300 RRSIG {RRSIG}"]
        assert judged(upstream_reply(asked, alone, [SOA_60]), asked)[0] is Verdict.NEGATIVE
        with pytest.raises(WireError):
            judged(upstream_reply(asked, alone), asked)


@pytest.mark.parametrize("rdtype", QTYPES)
def test_referral(rdtype: str) -> None:
    """NS records instead of an answer are a referral: a resolver's failure."""
    asked = ask(rdtype=rdtype)
    assert judged(upstream_reply(asked, authority=[NS]), asked) == (Verdict.FAILURE, None)


def test_ns_beside_a_soa_is_no_referral() -> None:
    """An authority section with a SOA is a negative's, NS records or not."""
    asked = ask()
    for authority in ([NS, SOA_60], [SOA_60, NS]):
        assert judged(upstream_reply(asked, authority=authority), asked)[0] is Verdict.NEGATIVE


@pytest.mark.parametrize("rcode", [1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 15, 16, 19, 23, 4095])
@pytest.mark.parametrize("with_address", [False, True])
def test_failures(rcode: int, with_address: bool) -> None:
    """Every other code is a failure, an extended one too, records or not."""
    asked = ask()
    answer = [f"{NAME} 60 A 192.0.2.1"] if with_address else []
    reply = upstream_reply(asked, answer, [SOA_60], rcode=rcode, edns=True)
    assert judged(reply, asked) == (Verdict.FAILURE, None)


@pytest.mark.parametrize("records", [0, 1])
def test_a_truncated_reply_is_no_answer(records: int) -> None:
    """TC that is left after the retry over TCP is a failure: nobody knows what was cut."""
    for rdtype, data in (("A", bytes(4)), ("TXT", b"\1x")):
        asked = ask(rdtype=rdtype)
        answer = [record(data, asked.qtype)] * records
        assert judged(raw_reply(asked, answer, flags=0x8380), asked) == (Verdict.FAILURE, None)


def test_records_of_another_class_are_no_answer() -> None:
    """A record of the right type and another class does not answer the question."""
    for rdtype, data in (("A", bytes(4)), ("TXT", b"\1x")):
        asked = ask(rdtype=rdtype)
        with pytest.raises(WireError):
            judged(raw_reply(asked, [record(data, asked.qtype, rdclass=3)]), asked)


def test_expanding_a_reply_beyond_the_limit() -> None:
    """A reply that no message could hold once its names are written out is refused."""
    asked = ask(".".join(["a" * 63] * 3 + ["b" * 61]) + ".", "SRV")
    for count, fits in ((239, True), (240, False)):
        reply = raw_reply(asked, [record(bytes(6) + POINTER, 33)] * count)
        if fits:
            assert len(sections_answer(reply, asked).body) == count * (12 + 6 + 255)
        else:
            with pytest.raises(WireError, match="too large"):
                judged(reply, asked)


def test_records_for_another_name() -> None:
    """An address of some other name is not an answer to an address question, and no denial."""
    asked = ask()
    stranger = record(bytes(4), 1, owner=wire_name("other.example."))
    with pytest.raises(WireError):
        judged(raw_reply(asked, [stranger]), asked)
