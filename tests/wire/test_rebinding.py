"""Private addresses taken out of what upstreams answer for public names."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.answer import Answer
from staggerdns.wire.judge import Judge
from staggerdns.wire.rebinding import Rebinding
from staggerdns.wire.verdict import Verdict
from tests.kit.clients import addresses
from tests.kit.messages import (
    NAME,
    ask,
    raw_reply,
    record,
    replied,
    scanned,
    upstream_reply,
    wire_data,
    wire_name,
)

PUBLIC, PUBLIC_6 = "198.51.100.7", "2001:db8:1::7"
PRIVATE = [
    "10.0.0.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "172.16.0.1", "192.168.1.1",
    "100.64.0.1", "224.0.0.1",
]  # fmt: skip
PRIVATE_6 = [
    "::", "::1", "fe80::1", "fc00::1", "fd12:3456::1", "ff02::1",
    "::ffff:10.0.0.1", "::ffff:127.0.0.1", "::192.168.1.1", "::ffff:0:192.168.1.1",
    "64:ff9b::10.0.0.1", "64:ff9b::192.168.1.1", "64:ff9b:1::1", "2002:c0a8:101::1",
]  # fmt: skip


def judged(
    rdtype: str, answer: list[str], *, do: bool = False, screened: bool = True, **more: object
) -> tuple[Verdict, Answer, int]:
    """The verdict on a reply, what it answers, and how many records were taken out."""
    judge = Judge(ask(rdtype=rdtype, do=do), screened=screened)
    verdict, found = judge.verdict(upstream_reply(judge.question, answer, **more))  # type: ignore[arg-type]
    assert found is not None
    return verdict, found, judge.stripped


def shown(answer: Answer, rdtype: str = "A", *, do: bool = False) -> dns.message.Message:
    """The reply that a client gets."""
    return replied(scanned(rdtype=rdtype, do=do, payload=1232), answer, ttl=answer.ttl)


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("address", PRIVATE + PRIVATE_6)
def test_private_addresses_go(address: str, do: bool) -> None:
    """With nothing else there is no data, kept for as long as the address would have been."""
    rdtype = "AAAA" if ":" in address else "A"
    verdict, answer, stripped = judged(rdtype, [f"{NAME} 77 {rdtype} {address}"], do=do)
    assert (verdict, answer.negative, answer.ttl, stripped) == (Verdict.NEGATIVE, True, 77, 1)
    reply = shown(answer, rdtype, do=do)
    assert (reply.rcode(), reply.answer) == (0, [])


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(
    ("rdtype", "public", "private"), [("A", PUBLIC, PRIVATE), ("AAAA", PUBLIC_6, PRIVATE_6)]
)
def test_public_addresses_stay(rdtype: str, public: str, private: list[str], do: bool) -> None:
    """Among others a public address stays, alone, and nothing claims to be validated."""
    records = [f"{NAME} 300 {rdtype} {address}" for address in [*private, public]]
    verdict, answer, stripped = judged(rdtype, records, do=do, ad=True)
    assert (verdict, answer.ad, stripped) == (Verdict.POSITIVE, False, len(private))
    assert addresses(shown(answer, rdtype, do=do)) == [public]


@pytest.mark.parametrize("do", [False, True])
def test_nothing_private_nothing_changed(do: bool) -> None:
    """A reply without private addresses is taken as if nobody looked."""
    records = [f"{NAME} 300 A {PUBLIC}", f"{NAME} 300 A 203.0.113.9"]
    with_screen = judged("A", records, do=do, ad=True)
    without = judged("A", records, do=do, ad=True, screened=False)
    assert with_screen[0] == without[0]
    assert with_screen[1].ad
    assert with_screen[2] == 0
    assert shown(with_screen[1], do=do).to_text() == shown(without[1], do=do).to_text()


@pytest.mark.parametrize("address", [PRIVATE[0], PRIVATE_6[0]])
def test_switched_off(address: str) -> None:
    """Where nobody screens, private addresses are answers like all."""
    rdtype = "AAAA" if ":" in address else "A"
    verdict, answer, stripped = judged(rdtype, [f"{NAME} 77 {rdtype} {address}"], screened=False)
    assert (verdict, stripped) == (Verdict.POSITIVE, 0)
    assert addresses(shown(answer, rdtype)) == [address]


@pytest.mark.parametrize("do", [False, True])
def test_behind_a_chain(do: bool) -> None:
    """An alias does not hide a private address; the chain stays."""
    records = [f"{NAME} 300 CNAME inside.example.", "inside.example. 60 A 192.168.0.1"]
    verdict, answer, stripped = judged("A", records, do=do)
    assert (verdict, answer.ttl, stripped) == (Verdict.NEGATIVE, 60, 1)
    assert [rrset.to_text() for rrset in shown(answer, do=do).answer] == [
        f"{NAME} 60 IN CNAME inside.example."
    ]


def test_in_other_sections() -> None:
    """Addresses beside an answer go as well, the answer stays."""
    verdict, answer, stripped = judged(
        "MX",
        [f"{NAME} 300 MX 10 mail.example.", f"{NAME} 300 MX 20 mail2.example."],
        additional=["mail.example. 300 A 10.0.0.1", f"mail2.example. 300 A {PUBLIC}"],
    )
    assert (verdict, stripped) == (Verdict.POSITIVE, 1)
    reply = shown(answer, "MX")
    assert len(reply.answer[0]) == 2
    assert [rrset.to_text() for rrset in reply.additional] == [f"mail2.example. 300 IN A {PUBLIC}"]


@pytest.mark.parametrize(
    ("data", "stays"),
    [
        (f"1 . alpn=h2 ipv4hint={PUBLIC} ipv6hint={PUBLIC_6}", True),
        ("1 . alpn=h2", True),
        ("0 elsewhere.example.", True),
        (f"1 . ipv4hint={PUBLIC},10.0.0.1", False),
        (f"1 . alpn=h2 ipv4hint={PUBLIC} ipv6hint={PUBLIC_6},::ffff:127.0.0.1", False),
        ("1 other.example. ipv6hint=fe80::1", False),
    ],
)
@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
def test_hints(rdtype: str, data: str, stays: bool) -> None:
    """A record with a private address among its hints is left out."""
    verdict, answer, stripped = judged(rdtype, [f"{NAME} 300 {rdtype} {data}"])
    assert (verdict == Verdict.POSITIVE) is stays
    assert stripped == (not stays)
    assert len(shown(answer, rdtype).answer) == stays


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\0" + b"\0\4\0\5" + bytes([198, 51, 100, 7, 9]),
        b"\0\1\0" + b"\0\4\0\x08" + bytes([198, 51, 100, 7]),
        b"\0\1\0" + b"\0\4\0",
        b"\0\1\7exa",
        b"\0\1",
        b"",
    ],
)
def test_malformed_hints(data: bytes) -> None:
    """What cannot be read is left out, since nobody knows how a client would read it."""
    judge = Judge(ask(rdtype="HTTPS"), screened=True)
    verdict, _ = judge.verdict(raw_reply(judge.question, [record(data, 65)]))
    assert (verdict, judge.stripped) == (Verdict.NEGATIVE, 1)


@given(st.binary(max_size=40))
def test_any_hints(data: bytes) -> None:
    """Whatever stands in such a record is judged without an error."""
    judge = Judge(ask(rdtype="HTTPS"), screened=True)
    judge.verdict(raw_reply(judge.question, [record(data, 65)]))


def test_a_referral_with_private_glue() -> None:
    """What answers nothing is no answer because something was taken out of it."""
    judge = Judge(ask(), screened=True)
    message = upstream_reply(
        judge.question,
        authority=["example.com. 300 NS ns.example.com."],
        additional=["ns.example.com. 300 A 10.0.0.1"],
    )
    assert judge.verdict(message) == (Verdict.FAILURE, None)


def test_a_private_answer_with_name_servers() -> None:
    """What answered before something was taken out of it is no referral."""
    authority = ["example.com. 300 NS ns.example.com."]
    verdict, answer, _ = judged("A", [f"{NAME} 300 A 10.0.0.1"], authority=authority)
    assert (verdict, answer.ttl) == (Verdict.NEGATIVE, 300)


def test_an_soa_beside_a_private_address() -> None:
    """An SOA says how long there is no data."""
    soa = "example.com. 120 SOA ns.example. host.example. 1 2 3 4 30"
    _, answer, stripped = judged("A", [f"{NAME} 300 A 10.0.0.1"], authority=[soa])
    assert (answer.ttl, stripped) == (30, 1)


@pytest.mark.parametrize(
    ("name", "screened"),
    [
        ("lan.", False),
        ("host.lan.", False),
        ("a.b.corp.example.", False),
        ("corp.example.", False),
        ("example.", True),
        ("xcorp.example.", True),
        ("corp.example.com.", True),
        ("nolan.", True),
        (r"x\003lan.", True),
        (".", True),
        ("lan.example.", True),
    ],
)
def test_domains(name: str, screened: bool) -> None:
    """Domains and what is below them are excepted, by whole labels."""
    rebinding = Rebinding([b"\3lan\0", b"\4corp\7example\0"])
    assert rebinding.screens(wire_name(name)) is screened
    assert Rebinding([]).screens(wire_name(name))


def test_wire_data_of_hints() -> None:
    """The examples above have their hints where the code looks for them (keys 4 and 6)."""
    data = wire_data("HTTPS", "1 . ipv4hint=10.0.0.1 ipv6hint=fe80::1")
    assert data.startswith(b"\0\1\0\0\4\0\4\x0a\0\0\1\0\6\0\x10\xfe\x80")
