"""What the answers hold: other types, chains, merging, DNSSEC bits, big pools."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import dns.rdatatype
import pytest

from tests.kit import behaviours as b
from tests.kit.clients import Reply, ask, eventually, stays
from tests.kit.scripted import Behaviour, Send
from tests.kit.testbed import Testbed, all_sets, own_answer, own_set, unique_name

if TYPE_CHECKING:
    from .conftest import BuildTestbed

# Other types.

RDATA = [
    ("MX", "10 Mail.Example."),
    ("TXT", '"v=spf1 -all" "second; string"'),
    ("SRV", "10 20 5060 Sip.Service."),  # one that ends as the question does may hold its letters
    ("CAA", '0 issue "ca.example"'),
    ("HTTPS", '1 . alpn="h2,h3" ipv4hint="203.0.113.1"'),
    ("SVCB", "2 svc.example. port=8443"),
    ("NS", "ns1.example."),
    ("PTR", "host.example."),
    ("NAPTR", '100 10 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .'),
    ("DS", "12345 13 2 " + "ab" * 32),
    ("TLSA", "3 1 1 " + "cd" * 32),
    ("TYPE65280", r"\# 8 c00cc00c00ffc0ff"),
    ("TYPE65281", r"\# 0"),
]


@pytest.mark.parametrize(("rdtype", "data"), RDATA)
def test_other_types_pass_octet_by_octet(testbed: Testbed, rdtype: str, data: str) -> None:
    """Records of any type come back with the very octets that the upstream sent."""
    name = testbed.route("types", b.records((None, 300, rdtype, data)))
    want = b"".join(rdata.to_wire() for rdata in _direct(testbed, name, rdtype).message.answer[0])
    for tcp in (False, True):
        reply = testbed.ask(name, rdtype, tcp=tcp)
        assert reply.types == [rdtype]
        assert b"".join(rdata.to_wire() for rdata in reply.message.answer[0]) == want
        assert 0 < reply.ttl <= 300
    assert max(testbed.counts(name)) <= 2  # ours to the first one included


def _direct(testbed: Testbed, name: str, rdtype: str) -> Reply:
    return ask(testbed.upstreams[0].endpoint, name, rdtype)


def test_unknown_type_in_an_address_answer_passes(testbed: Testbed) -> None:
    """Records of other types beside the addresses do no harm."""
    name = testbed.route(
        "mixed",
        b.records((None, 300, "A", "203.0.113.1"), (None, 300, "TYPE65280", r"\# 2 c00c")),
    )
    assert testbed.ask(name).addresses == ["203.0.113.1"]


# Chains.


def test_chains_that_differ(build: BuildTestbed) -> None:
    """The first answer gives the chain; all other addresses join at its end."""
    testbed = build(
        [
            b.cname_chain(["a.cdn.example.", "b.cdn.example."], *own_set(0), after=0.01),
            b.cname_chain(["c.cdn.example."], *own_set(1), after=0.05),
            own_answer(2, 0.02),
            b.cname_chain(["b.cdn.example."], *own_set(3), after=0.02),
            b.cname_chain(["a.cdn.example.", "d.cdn.example."], *own_set(4), after=0.02),
        ]
    )
    first = testbed.ask("www.example.")
    assert set(first.addresses) == set(own_set(0))
    reply = testbed.pool("www.example.", all_sets(range(5)))
    for seen in (first, reply):
        assert [rrset.to_text().split()[0] for rrset in seen.message.answer] == [
            "www.example.",
            "a.cdn.example.",
            "b.cdn.example.",
        ]
        assert seen.types == ["CNAME", "CNAME", "A"]
    assert len(reply.message.answer[2]) == 10
    assert testbed.counts("www.example.") == [1] * 5


def test_first_answer_without_a_chain(build: BuildTestbed) -> None:
    """When the first answer has no CNAME, no chain of another one gets in."""
    late = [b.cname_chain(["x.example."], *own_set(index), after=0.05) for index in (1, 2)]
    testbed = build([own_answer(0), *late])
    assert set(testbed.ask("www.example.").addresses) == set(own_set(0))
    reply = testbed.pool("www.example.", all_sets(range(3)))
    assert reply.types == ["A"]


def test_cname_without_addresses(build: BuildTestbed) -> None:
    """An upstream that gives the CNAME alone does not keep the addresses of the others away."""
    only = b.cname_chain(["a.cdn.example."])
    testbed = build(
        [only, b.cname_chain(["a.cdn.example."], *own_set(1), after=0.1), own_answer(2, 0.1)]
    )
    assert testbed.ask("www.example.").rcode == "NOERROR"
    reply = testbed.pool("www.example.", all_sets([1, 2]))
    assert reply.message.answer[0].name.to_text() == "www.example."
    chain_end = "a.cdn.example." if reply.types[0] == "CNAME" else "www.example."
    assert reply.message.answer[-1].name.to_text() == chain_end


def test_chain_to_nowhere(testbed: Testbed) -> None:
    """A chain that ends without data (NODATA with SOA) comes back whole, twice."""
    name = testbed.route(
        "nowhere",
        b.records((None, 300, "CNAME", "a.example."), authority=[b.soa(60, 60)]),
    )
    for _ in range(2):
        reply = testbed.ask(name, "AAAA")
        assert reply.rcode == "NOERROR"
        assert reply.types == ["CNAME"]
        assert reply.authority("SOA") is not None


# Merging.


def test_duplicates_go(testbed: Testbed) -> None:
    """An address that several upstreams give is in the pool once; the lowest TTL counts."""
    name = testbed.route(
        "duplicates",
        *(b.answers("203.0.113.1", f"203.0.113.{10 + i}", ttl=300 - i) for i in range(5)),
    )
    testbed.ask(name)
    wanted = {"203.0.113.1", *(f"203.0.113.{10 + i}" for i in range(5))}
    reply = testbed.pool(name, wanted)
    assert len(reply.addresses) == 6
    assert reply.ttl <= 296


PRIVATE = [
    "10.1.2.3",
    "192.168.1.1",
    "172.16.0.1",
    "127.0.0.1",
    "169.254.1.1",
    "0.0.0.0",
    "224.0.0.1",
]


def test_private_addresses_do_not_join(build: BuildTestbed) -> None:
    """Private and special addresses of an upstream that did not win stay out of the pool."""
    testbed = build([own_answer(0), b.answers(*PRIVATE, after=0.05), own_answer(2, 0.05)])
    assert set(testbed.ask("www.example.").addresses) == set(own_set(0))
    testbed.pool("www.example.", all_sets([0, 2]))
    stays(
        lambda: testbed.ask("www.example.").addresses, lambda got: not set(PRIVATE) & set(got), 0.3
    )


def test_private_addresses_of_the_winner_stay(build: BuildTestbed) -> None:
    """A private address from the upstream that answers first is an ordinary answer."""
    testbed = build([b.answers("192.168.1.1"), own_answer(1, 0.05)])
    assert testbed.ask("nas.example.").addresses == ["192.168.1.1"]
    reply = testbed.pool("nas.example.", {"192.168.1.1", *own_set(1)})
    assert reply.rcode == "NOERROR"


def test_merge_private(build: BuildTestbed) -> None:
    """With merge_private, private addresses join."""
    testbed = build(
        [own_answer(0), b.answers("10.1.2.3", after=0.05)],
        {"upstream": {"parallel": {"merge_private": True}}},
    )
    testbed.ask("www.example.")
    testbed.pool("www.example.", {"10.1.2.3", *own_set(0)})


def test_pool_is_capped(build: BuildTestbed) -> None:
    """A pool grows to max_pool_size (32) and no further."""
    testbed = build([own_answer(index, size=20) for index in range(5)])
    testbed.ask("www.example.")
    testbed.complete("www.example.")
    eventually(lambda: len(testbed.ask("www.example.", tcp=True).addresses), lambda n: n == 32)
    stays(lambda: len(testbed.ask("www.example.", tcp=True).addresses), lambda n: n == 32, 0.3)


def test_hundred_addresses(build: BuildTestbed) -> None:
    """A pool of 100: whole over TCP, cut without TC to what fits over UDP."""
    testbed = build(
        [own_answer(index, size=20) for index in range(5)],
        {"upstream": {"parallel": {"max_pool_size": 100}}},
    )
    testbed.ask("www.example.")
    everything = all_sets(range(5), 20)
    eventually(lambda: set(testbed.ask("www.example.", tcp=True).addresses) == everything)
    for payload, room, least in (
        (None, 512, 25),
        (512, 512, 25),
        (1232, 1232, 65),
        (4096, 1232, 65),
    ):
        reply = testbed.ask("www.example.", payload=payload)
        assert not reply.flag("TC")
        assert len(reply.wire) <= room
        assert len(reply.addresses) == len(set(reply.addresses)) >= least
        assert set(reply.addresses) <= everything
    assert len(testbed.ask("www.example.", tcp=True).addresses) == 100


# DNSSEC bits.


def _signed(index: int, after: float = 0.0, *, ad: bool = False) -> Behaviour:
    signature = base64.b64encode(bytes([index]) * 64).decode()
    return b.records(
        *((None, 300, "A", text) for text in own_set(index)),
        (
            None,
            300,
            "RRSIG",
            f"A 13 2 300 20400101000000 20200101000000 {index + 1} example. {signature}",
        ),
        after=after,
        ad=ad,
    )


def test_do_is_answered_by_one_upstream(testbed: Testbed) -> None:
    """With DO, the address set and its signature come from one upstream, first and later."""
    name = testbed.route("do", *(_signed(index, 0.01) for index in range(5)))
    sets = [set(own_set(index)) for index in range(5)]

    def whole() -> bool:
        reply = testbed.ask(name, do=True)
        assert reply.types == ["A", "RRSIG"]
        assert reply.message.ednsflags & 0x8000
        signer = reply.message.answer[1][0].key_tag - 1
        return set(reply.addresses) == sets[signer]

    stays(whole, seconds=0.4)
    testbed.ask(name)
    testbed.pool(name, all_sets(range(5)))
    assert whole()
    assert max(testbed.counts(name)) == 2


def test_no_signatures_without_do(testbed: Testbed) -> None:
    """Signatures that an upstream sends unasked do not reach a client without DO."""
    name = testbed.route("rrsig", *(_signed(index) for index in range(5)))
    testbed.ask(name)
    reply = testbed.pool(name, all_sets(range(5)))
    assert not reply.message.ednsflags & 0x8000
    assert reply.types == ["A"]


def test_ad_only_for_those_who_asked(testbed: Testbed) -> None:
    """AD is for clients that set AD or DO (RFC 6840 section 5.7)."""
    name = testbed.route("ad", *(_signed(index, ad=True) for index in range(5)))
    assert not testbed.ask(name).flag("AD")
    testbed.pool(name, all_sets(range(5)))
    assert not testbed.ask(name).flag("AD")
    assert testbed.ask(name, do=True).flag("AD")


def test_ad_survives_when_every_contributor_had_it(testbed: Testbed) -> None:
    """AD of a pool: all contributors had it, and the client asked with AD."""
    good = testbed.route("ad-all", *(_signed(index, ad=True) for index in range(5)))
    bad = testbed.route("ad-some", *(_signed(index, ad=index != 3) for index in range(5)))
    for name in (good, bad):
        testbed.ask(name, ad=True)
        eventually(
            lambda: set(testbed.ask(name, ad=True).addresses) == all_sets(range(5))  # noqa: B023
        )
    assert testbed.ask(good, ad=True).flag("AD")
    assert not testbed.ask(bad, ad=True).flag("AD")


def test_do_negative_keeps_its_proof(testbed: Testbed) -> None:
    """The NSEC and RRSIG records of a negative answer reach a client with DO."""
    signature = base64.b64encode(b"x" * 64).decode()
    proof: list[b.Record] = [
        b.soa(60, 60),
        ("a.example.", 60, "NSEC", "z.example. A RRSIG NSEC"),
        (
            "a.example.",
            60,
            "RRSIG",
            f"NSEC 13 2 60 20400101000000 20200101000000 1 example. {signature}",
        ),
    ]
    name = testbed.route("nsec", lambda query: [Send(b.reply(query, (), proof, rcode="NXDOMAIN"))])
    for _ in range(2):
        reply = testbed.ask(name, do=True)
        assert reply.rcode == "NXDOMAIN"
        found = {dns.rdatatype.to_text(rrset.rdtype) for rrset in reply.message.authority}
        assert found == {"SOA", "NSEC", "RRSIG"}


# Big answers.


def test_what_cannot_be_cut_is_truncated(testbed: Testbed) -> None:
    """A big TXT record gets TC over UDP, with or without EDNS, and is whole over TCP."""
    text = " ".join(f'"{"x" * 250}"' for _ in range(8))
    name = testbed.route("big", b.records((None, 300, "TXT", text)))
    for payload, room in ((None, 512), (1232, 1232), (4096, 1232)):
        reply = testbed.ask(name, "TXT", payload=payload)
        assert reply.flag("TC")
        assert len(reply.wire) <= room
    whole = testbed.ask(name, "TXT", tcp=True)
    assert not whole.flag("TC")
    assert len(whole.message.answer[0][0].strings) == 8


def test_payload_below_512_counts_as_512(testbed: Testbed) -> None:
    """RFC 6891 section 6.2.5: sizes below 512 are 512."""
    text = " ".join(f'"{"x" * 190}"' for _ in range(2))
    name = testbed.route("small", b.records((None, 300, "TXT", text)))
    reply = testbed.ask(name, "TXT", payload=100)
    assert not reply.flag("TC")
    assert 400 < len(reply.wire) <= 512


def test_root_and_short_names(testbed: Testbed) -> None:
    """The root, a top-level name and reverse names are ordinary questions."""
    for index, name in enumerate((".", "com.", "arpa.", "8.in-addr.arpa.")):
        testbed.route("short", b.records((None, 300, "NS", f"ns{index}.example.")), name=name)
        assert testbed.ask(name, "NS").rcode in ("NOERROR", "NXDOMAIN")
    assert testbed.ask(".", "NS").message.answer[0][0].to_text() == "ns0.example."
    assert testbed.ask("com.", "NS").message.answer[0][0].to_text() == "ns1.example."
    name = "4.3.2.8.in-addr.arpa."
    testbed.route("reverse", b.records((None, 300, "PTR", "host.example.")), name=name)
    assert testbed.ask(name, "PTR").message.answer[0][0].to_text() == "host.example."


def test_longest_name(testbed: Testbed) -> None:
    """A name of 255 octets is asked and answered."""
    number = unique_name("x").split(".", maxsplit=1)[0]
    name = ".".join([number.ljust(61, "a"), "b" * 63, "c" * 63, "d" * 63, ""])
    testbed.route("long", b.answers("203.0.113.1"), name=name)
    assert testbed.ask(name).addresses == ["203.0.113.1"]


def test_odd_labels_pass(testbed: Testbed) -> None:
    """Labels may hold any octet: dots, spaces, zeros; they are not confused with others."""
    name = testbed.route("odd", b.answers("203.0.113.1"))
    odd = rf"a\.b\000\255\032c.{name}"
    testbed.route("odd", b.answers("203.0.113.7"), name=odd.lower())
    dotted = rf"a.b\000\255\032c.{name}"
    testbed.route("odd", b.answers("203.0.113.8"), name=dotted.lower())
    assert testbed.ask(odd).addresses[0] != testbed.ask(dotted).addresses[0]
