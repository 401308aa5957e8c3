"""Addresses that are left out of answers, and those that make an answer NXDOMAIN."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from staggerdns.wire.addressfilter import AddressFilter
from staggerdns.wire.answer import Answer
from staggerdns.wire.judge import Judge
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
)

IGNORED = ["198.51.100.0/24", "203.0.113.9/32", "2001:db8:9::/48"]
BOGUS = ["192.0.2.66/32", "2001:db8:bad::1/128"]
GOOD, GOOD_6 = "203.0.113.1", "2001:db8::1"
UNWANTED = ["198.51.100.0", "198.51.100.255", "203.0.113.9"]
UNWANTED_6 = ["2001:db8:9::1", "2001:db8:9:ffff::", "::ffff:198.51.100.7", "64:ff9b::203.0.113.9"]


def rules(ignored: list[str] = IGNORED, bogus: list[str] = BOGUS) -> AddressFilter:
    """The rules about these networks."""
    return AddressFilter(map(ip_network, ignored), map(ip_network, bogus))


def judge_of(rdtype: str = "A", *, do: bool = False, screened: bool = False) -> Judge:
    """A judge that goes by the rules above."""
    return Judge(ask(rdtype=rdtype, do=do), screened=screened, address_filter=rules())


def judged(judge: Judge, answer: list[str], **more: object) -> tuple[Verdict, Answer | None]:
    """The verdict on a reply, and what it answers."""
    return judge.verdict(upstream_reply(judge.question, answer, **more))  # type: ignore[arg-type]


def given_addresses(answer: Answer | None, rdtype: str = "A", *, do: bool = False) -> list[str]:
    """The addresses that a client gets."""
    assert answer is not None
    return addresses(replied(scanned(rdtype=rdtype, do=do, payload=1232), answer, ttl=answer.ttl))


@pytest.mark.parametrize(
    ("address", "ignored", "bogus"),
    [
        *[(address, True, False) for address in UNWANTED + UNWANTED_6],
        ("198.51.99.255", False, False),
        ("198.51.101.0", False, False),
        ("203.0.113.8", False, False),
        ("203.0.113.10", False, False),
        ("2001:db8:8:ffff:ffff:ffff:ffff:ffff", False, False),
        ("2001:db8:a::", False, False),
        ("192.0.2.66", False, True),
        ("192.0.2.67", False, False),
        ("2001:db8:bad::1", False, True),
        ("2001:db8:bad::2", False, False),
        ("2002:c000:242::1", False, True),  # 6to4 of 192.0.2.66
        ("::1", False, False),
    ],
)
def test_networks(address: str, ignored: bool, bogus: bool) -> None:
    """An address is one of a network from its first to its last, in whatever form it comes."""
    packed = ip_address(address).packed
    found = rules()
    assert (found.ignores(packed), found.is_bogus(packed)) == (ignored, bogus)
    assert found.concerns(packed) == (ignored or bogus)


@given(
    st.lists(
        st.ip_addresses(v=4).flatmap(
            lambda address: st.integers(0, 32).map(
                lambda size: ip_network(f"{address}/{size}", strict=False)
            )
        ),
        max_size=5,
    ),
    st.ip_addresses(v=4),
)
def test_any_networks(networks: list[IPv4Network], address: IPv4Address) -> None:
    """It agrees with the standard library, from a whole family to one address."""
    packed = address.packed
    assert AddressFilter(networks, []).ignores(packed) == any(address in one for one in networks)


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(
    ("rdtype", "good", "unwanted"), [("A", GOOD, UNWANTED), ("AAAA", GOOD_6, UNWANTED_6)]
)
def test_ignored_addresses_go(rdtype: str, good: str, unwanted: list[str], do: bool) -> None:
    """What is left of an answer is an answer; nothing claims to be validated any more."""
    judge = judge_of(rdtype, do=do)
    records = [f"{NAME} 300 {rdtype} {address}" for address in [*unwanted, good]]
    verdict, answer = judged(judge, records, ad=True)
    assert verdict is Verdict.POSITIVE
    assert answer is not None
    assert not answer.ad
    assert given_addresses(answer, rdtype, do=do) == [good]
    assert (judge.ignored, judge.stripped, judge.bogus) == (len(unwanted), 0, 0)


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("cname_chain", [False, True])
def test_nothing_left(do: bool, cname_chain: bool) -> None:
    """An answer with no other address counts as none, behind a CNAME as well."""
    judge = judge_of(do=do)
    owner = "elsewhere.example." if cname_chain else NAME
    records = [f"{NAME} 300 CNAME {owner}"] * cname_chain + [f"{owner} 300 A {UNWANTED[0]}"]
    assert judged(judge, records) == (Verdict.NETWORK_ERROR, None)
    assert judge.ignored == 1


def test_a_denial_is_no_answer_with_ignored_addresses() -> None:
    """NODATA and NXDOMAIN have no address that could be ignored."""
    soa = ["example.com. 120 SOA ns.example. host.example. 1 2 3 4 30"]
    for rcode in (0, 3):
        judge = judge_of()
        assert judged(judge, [], authority=soa, rcode=rcode)[0] is Verdict.NEGATIVE
        assert judge.ignored == 0


def test_in_other_sections() -> None:
    """Addresses beside an answer go, and the answer stays."""
    judge = judge_of("MX")
    verdict, answer = judged(
        judge,
        [f"{NAME} 300 MX 10 mail.example.", f"{NAME} 300 MX 20 mail2.example."],
        additional=[f"mail.example. 300 A {UNWANTED[0]}", f"mail2.example. 300 A {GOOD}"],
    )
    assert (verdict, judge.ignored) == (Verdict.POSITIVE, 1)
    assert answer is not None
    reply = replied(scanned(rdtype="MX"), answer, ttl=60)
    assert [rrset.to_text() for rrset in reply.additional] == [f"mail2.example. 60 IN A {GOOD}"]


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
@pytest.mark.parametrize("hint", [f"ipv4hint={GOOD},{UNWANTED[0]}", f"ipv6hint={UNWANTED_6[0]}"])
def test_hints(rdtype: str, hint: str) -> None:
    """A record with such a hint is left out. Without any there is no data: the address that the
    client asks for then may be another one.
    """
    judge = judge_of(rdtype)
    bad, good = f"{NAME} 300 {rdtype} 1 . {hint}", f"{NAME} 300 {rdtype} 2 . ipv4hint={GOOD}"
    verdict, answer = judged(judge, [bad, good])
    assert verdict is Verdict.POSITIVE
    assert answer is not None
    assert len(replied(scanned(rdtype=rdtype), answer, ttl=60).answer[0]) == 1
    assert judged(judge, [bad])[0] is Verdict.NEGATIVE
    assert (judge.ignored, judge.stripped) == (2, 0)


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize("others", [[], [GOOD], [UNWANTED[0]]])
@pytest.mark.parametrize("cname_chain", [False, True])
def test_bogus(others: list[str], do: bool, cname_chain: bool) -> None:
    """One such address, whatever stands beside it and before it, and there is no such name: with an
    SOA of our own, for as long as the answer would have been kept.
    """
    judge = judge_of(do=do)
    owner = "elsewhere.example." if cname_chain else NAME
    records = [f"{NAME} 77 CNAME {owner}"] * cname_chain
    records += [f"{owner} 77 A {address}" for address in [*others, "192.0.2.66"]]
    verdict, answer = judged(judge, records, ad=True)
    assert verdict is Verdict.NEGATIVE
    assert answer is not None
    assert (answer.negative, answer.ad, answer.ttl) == (True, False, 77)
    assert (judge.bogus, judge.ignored, judge.stripped) == (1, 0, 0)
    reply = replied(scanned(do=do, payload=1232), answer, ttl=30)
    assert (reply.rcode(), reply.answer) == (3, [])
    (soa,) = reply.authority
    assert (soa.name.to_text(), soa.rdtype.name, soa.ttl) == ("example.com.", "SOA", 30)


@pytest.mark.parametrize(
    ("name", "zone"),
    [(".", "."), ("com.", "."), ("example.com.", "com."), ("a.b.example.com.", "b.example.com.")],
)
def test_the_zone_of_a_bogus_name(name: str, zone: str) -> None:
    """The SOA is of the name above."""
    judge = Judge(ask(name), address_filter=rules())
    _, answer = judged(judge, [f"{name} 60 A 192.0.2.66"])
    assert answer is not None
    (soa,) = replied(scanned(name), answer, ttl=30).authority
    assert soa.name.to_text() == zone


def test_bogus_beside_an_answer() -> None:
    """An address in another section, or of another name, says nothing about this one."""
    judge = judge_of("MX")
    extra = ["mail.example. 300 A 192.0.2.66"]
    records = [f"{NAME} 300 MX 10 mail.example."]
    assert judged(judge, records, additional=extra)[0] is Verdict.POSITIVE
    judge = judge_of()
    records = [f"{NAME} 300 A {GOOD}", "stranger.example. 300 A 192.0.2.66"]
    assert judged(judge, records)[0] is Verdict.POSITIVE
    assert judge.bogus == 0


def test_with_protection_from_rebinding() -> None:
    """Each kind is counted for itself; what is left when private addresses went is no data, as
    ever.
    """
    judge = judge_of(screened=True)
    records = [f"{NAME} 300 A {address}" for address in ("10.0.0.1", UNWANTED[0], GOOD)]
    _, answer = judged(judge, records)
    assert given_addresses(answer) == [GOOD]
    assert (judge.stripped, judge.ignored) == (1, 1)
    assert judged(judge, [f"{NAME} 300 A 10.0.0.2"])[0] is Verdict.NEGATIVE
    assert judged(judge, records[:2]) == (Verdict.NETWORK_ERROR, None)
    assert (judge.stripped, judge.ignored) == (3, 2)


def test_private_addresses_stay_where_nobody_screens() -> None:
    """The rules are about what they name."""
    judge = judge_of()
    _, answer = judged(judge, [f"{NAME} 300 A 10.0.0.1", f"{NAME} 300 A {UNWANTED[0]}"])
    assert given_addresses(answer) == ["10.0.0.1"]
    assert (judge.stripped, judge.ignored) == (0, 1)


def test_a_bogus_address_alone_takes_nothing_out() -> None:
    """Without ignored addresses malformed hints are no reason to leave a record out."""
    asked = ask(rdtype="HTTPS")
    message = raw_reply(asked, [record(b"\0\1\0\0\4\0\4", 65)])
    some = Judge(asked, address_filter=rules(IGNORED, []))
    none = Judge(asked, address_filter=rules([], BOGUS))
    assert some.verdict(message)[0] is Verdict.NEGATIVE
    assert none.verdict(message)[0] is Verdict.POSITIVE


def test_without_rules_nothing_is_looked_at() -> None:
    """Where there are no rules a judge has nothing to ask for each address."""
    judge = Judge(ask())
    verdict, answer = judged(judge, [f"{NAME} 300 A {UNWANTED[0]}", f"{NAME} 300 A 192.0.2.66"])
    assert verdict is Verdict.POSITIVE
    assert given_addresses(answer) == [UNWANTED[0], "192.0.2.66"]
