"""What of a reply reaches clients: what its question leads to, and what belongs to that."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import dns.name
import dns.rdatatype
import dns.rrset
import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.constants import WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.scrub import MAX_CNAME_CHAIN
from staggerdns.wire.verdict import Verdict
from tests.kit.effort import amount
from tests.kit.messages import (
    NAME,
    ask,
    judged,
    pool_of,
    raw_reply,
    record,
    replied,
    rrsets,
    scanned,
    texts,
    upstream_reply,
    wire_data,
    wire_name,
)

SIGNED = "8 3 300 20300101000000 20200101000000 1"
SOA = "SOA ns.example.net. host.example.net. 1 2 3 4 60"


def given(
    asked: Judge | Question,
    rdtype: str,
    answer: list[str],
    authority: list[str] | None = None,
    additional: list[str] | None = None,
    *,
    rcode: int = 0,
) -> tuple[list[str], list[str], list[str]]:
    """Return the sections that a client gets of an upstream's, with TTL 60."""
    judge = asked if isinstance(asked, Judge) else Judge(asked)
    asked = judge.question
    wire = upstream_reply(asked, answer, authority or [], additional or [], rcode=rcode, edns=True)
    _, found = judge.verdict(wire)
    assert found is not None
    message = replied(scanned(NAME, rdtype, do=asked.do), found)
    return texts(message.answer), texts(message.authority), texts(message.additional)


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(
    ("rdtype", "data"),
    [("A", "192.0.2.1"), ("MX", "1 mail.example."), ("TXT", '"x"'), ("HTTPS", "1 .")],
)
def test_answers_to_other_questions(rdtype: str, data: str, do: bool) -> None:
    """Records of other names and other types do not come through with an answer."""
    judge = Judge(ask(rdtype=rdtype, do=do))
    answer = f"{NAME} 60 {rdtype} {data}"
    others = [
        f"bank.example. 60 {rdtype} {data}",
        "bank.example. 60 A 192.0.2.66",
        "bank.example. 60 CNAME www.evil.example.",
        "example.com. 60 MX 1 evil.example.",
        "com. 60 DNAME evil.example.",
        f"{NAME} 60 SRV 1 1 1 evil.example.",
        f"bank.example. 60 RRSIG {rdtype} {SIGNED} example. c2ln",
        f"{NAME} 60 RRSIG SRV {SIGNED} example. c2ln",
    ]
    assert given(judge, rdtype, [*others, answer, *others])[0] == [answer]
    assert sum(judge.strays.values()) == 2 * len(others)


def test_signatures_of_other_types() -> None:
    """A signature at the name asked for stays if it covers what was asked for."""
    for rdtype, data in (("A", "192.0.2.1"), ("TXT", '"x"')):
        asked = ask(rdtype=rdtype, do=True)
        mine = [f"{NAME} 60 {rdtype} {data}", f"{NAME} 60 RRSIG {rdtype} {SIGNED} com. c2ln"]
        assert given(asked, rdtype, mine)[0] == mine
        assert given(asked, rdtype, [*mine, f"{NAME} 60 RRSIG MX {SIGNED} com. c2ln"])[0] == mine


@pytest.mark.parametrize("rcode", [0, 3])
def test_negatives(rcode: int) -> None:
    """A negative keeps its zone's SOA, NS and denials, and nothing of other zones."""
    asked = ask(rdtype="MX", do=True)
    mine = [
        f"example.com. 60 {SOA}",
        f"example.com. 60 RRSIG SOA {SIGNED} example.com. c2ln",
        "w.example.com. 60 NSEC x.example.com. A",
        f"w.example.com. 60 RRSIG NSEC {SIGNED} example.com. c2ln",
        "example.com. 60 NS ns.example.com.",
    ]
    others = [
        f"bank.example. 60 {SOA}",
        f"bank.example. 60 RRSIG SOA {SIGNED} bank.example. c2ln",
        "a.bank.example. 60 NSEC z.bank.example. A",
        f"a.bank.example. 60 RRSIG NSEC {SIGNED} bank.example. c2ln",
        "bank.example. 60 NS ns.evil.example.",
        "sub.www.example.com. 60 NS ns.evil.example.",
        f"{NAME} 60 MX 1 evil.example.",
    ]
    assert given(asked, "MX", [], others + mine + others, rcode=rcode) == ([], mine, [])
    plain = Judge(ask(rdtype="MX"))
    assert given(plain, "MX", [], mine, rcode=rcode)[1] == [mine[0], mine[4]]
    assert plain.strays == {"dnssec": 3}


def test_a_foreign_soa_says_nothing() -> None:
    """The SOA of a zone that the question is not in gives no time to keep a negative for."""
    asked = ask()
    for owner, ttl in (("example.com.", 60), (".", 60), ("example.", 0), ("x.www.example.com.", 0)):
        _, answer = judged(upstream_reply(asked, authority=[f"{owner} 90 {SOA}"]), asked)
        assert answer is not None
        assert answer.ttl == ttl


def test_additional_records() -> None:
    """Addresses of the hosts that answer and authority name stay, and what services lead to."""
    asked = ask(rdtype="SRV", do=True)
    mine = [
        "host.example. 60 A 192.0.2.1",
        f"host.example. 60 RRSIG A {SIGNED} example. c2ln",
        "host.example. 60 HTTPS 1 other.example.",
        "other.example. 60 AAAA 2001:db8::1",
        "ns.example.com. 60 A 192.0.2.2",
        f"{NAME} 60 A 192.0.2.3",
    ]
    others = [
        "bank.example. 60 A 192.0.2.66",
        f"bank.example. 60 RRSIG A {SIGNED} example. c2ln",
        "host.example. 60 MX 1 evil.example.",
        "host.example. 60 TXT evil",
        "evil.example. 60 A 192.0.2.66",
        f"host.example. 60 RRSIG MX {SIGNED} example. c2ln",
    ]
    answer = [f"{NAME} 60 SRV 1 1 443 host.example."]
    authority = ["example.com. 60 NS ns.example.com."]
    assert given(asked, "SRV", answer, authority, others + mine + others)[2] == mine


def test_services_on_a_local_network() -> None:
    """A PTR's names may bring SRV and TXT along (RFC 6763 section 12.1), and their addresses."""
    asked = ask(rdtype="PTR")
    more = [
        "printer.example. 60 SRV 0 0 631 host.example.",
        'printer.example. 60 TXT "paper=A4"',
        "host.example. 60 A 192.0.2.1",
    ]
    assert given(asked, "PTR", [f"{NAME} 60 PTR printer.example."], [], more)[2] == more


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(("rdtype", "data"), [("A", "192.0.2.1"), ("TXT", '"x"')])
@pytest.mark.parametrize("links", [1, 25, MAX_CNAME_CHAIN])
def test_long_chains(links: int, rdtype: str, data: str, do: bool) -> None:
    """A chain is kept in any order; one link more than `MAX_CNAME_CHAIN` is refused."""
    names = [NAME, *(f"n{number}.example." for number in range(MAX_CNAME_CHAIN + 1))]
    chain = [f"{one} 60 CNAME {two}" for one, two in pairwise(names)]
    asked = ask(rdtype=rdtype, do=do)
    records = [*chain[:links], f"{names[links]} 60 {rdtype} {data}"]
    answer, _, _ = given(asked, rdtype, records[::-1])
    assert sorted(answer) == sorted(records)
    if links == MAX_CNAME_CHAIN:
        with pytest.raises(WireError, match="chain"):
            judged(upstream_reply(asked, chain), asked)


def test_dname() -> None:
    """A DNAME, its signature and the CNAME made from it lead on, for a validating client whole."""
    records = [
        "example.com. 60 DNAME example.net.",
        f"example.com. 60 RRSIG DNAME {SIGNED} com. c2ln",
        f"{NAME} 60 CNAME www.example.net.",
        "example.net. 60 DNAME example.org.",
        "www.example.net. 60 CNAME www.example.org.",
        "www.example.org. 60 A 192.0.2.1",
        f"www.example.org. 60 RRSIG A {SIGNED} example.org. c2ln",
    ]
    assert given(ask(do=True), "A", records)[0] == records
    assert given(ask(), "A", records)[0] == [records[2], records[4], records[5]]


def test_dname_without_cname() -> None:
    """Where the CNAME was left out it is followed all the same (RFC 6672 section 3.4)."""
    records = ["com. 40 DNAME example.net.", "www.example.example.net. 60 A 192.0.2.1"]
    pool = pool_of(upstream_reply(ask(), records), ask())
    assert pool.cname_chain == (wire_name("www.example.example.net."),)
    assert pool.ttl == 40
    signed = ask(do=True)
    assert judged(upstream_reply(signed, records), signed)[0] is Verdict.POSITIVE


def test_dname_that_leads_elsewhere() -> None:
    """A DNAME at the name itself or beside its CNAME leads nowhere; one too long is refused."""
    asked = ask(do=True)
    address = f"{NAME} 60 A 192.0.2.1"
    assert given(asked, "A", [f"{NAME} 60 DNAME evil.example.", address])[0] == [address]
    records = [
        f"{NAME} 60 CNAME b.example.",
        "com. 60 DNAME evil.example.",
        "b.example. 60 A 192.0.2.1",
    ]
    assert given(asked, "A", records)[0] == [records[0], records[2]]
    long = ".".join(["a" * 60] * 4) + "."
    with pytest.raises(WireError, match="255"):
        judged(upstream_reply(asked, [f"com. 60 DNAME {long}"]), asked)


def test_signatures_of_every_link() -> None:
    """Who asks for RRSIG records gets them, at a CNAME and behind it."""
    asked = ask(rdtype="RRSIG", do=True)
    records = [
        f"{NAME} 60 CNAME b.example.",
        f"{NAME} 60 RRSIG CNAME {SIGNED} example.com. c2ln",
        f"b.example. 60 RRSIG A {SIGNED} example. c2ln",
    ]
    assert (
        given(asked, "RRSIG", [*records, f"c.example. 60 RRSIG A {SIGNED} example. c2ln"])[0]
        == records
    )


# A model of what may be there, by names as dnspython compares them, against replies at random.


class Made(NamedTuple):
    """A record as the model sees it."""

    owner: dns.name.Name
    rdtype: str
    text: str
    targets: tuple[dns.name.Name, ...]
    covers: str = ""


PLACES = [
    dns.name.from_text(text)
    for text in (
        NAME, "example.com.", "com.", ".", "x.www.example.com.", "mail.example.com.",
        "w.example.com.", "cdn.example.net.", "example.net.", "a.cdn.example.net.", "bank.example.",
        "www.bank.example.",
    )
]  # fmt: skip
SORTS = [
    "A",
    "AAAA",
    "MX",
    "NS",
    "CNAME",
    "DNAME",
    "SOA",
    "NSEC",
    "RRSIG",
    "TXT",
    "SRV",
    "HTTPS",
    "PTR",
    "DS",
]
HINTS = {"A", "AAAA", "SRV", "HTTPS", "SVCB"}


def make(rng: random.Random, number: int, asked: str) -> Made:
    """Return a record at random, one in two with the question's name or of its type."""
    owner = rng.choice(PLACES[:1] * 6 + PLACES)
    rdtype = rng.choice([asked] * 6 + ["CNAME"] * 3 + SORTS)
    target = rng.choice(PLACES)
    if rdtype == "NSEC":  # a name has one
        target = PLACES[PLACES.index(owner) - 1]
    covers = rng.choice([asked, asked, *SORTS]) if rdtype == "RRSIG" else ""
    data = {
        "A": f"192.0.2.{number}",
        "AAAA": f"2001:db8::{number}",
        "MX": f"{number} {target}",
        "SOA": f"{target} {target} {number} 2 3 4 60",
        "NSEC": f"{target} A MX",
        "RRSIG": f"{covers} 8 3 {number} 20300101000000 20200101000000 1 {target} c2ln",
        "TXT": f'"{number}"',
        "SRV": f"1 1 {number} {target}",
        "HTTPS": f"{number + 1} {target}",
        "DS": f"{number} 8 2 {'00' * 32}",
    }.get(rdtype, str(target))
    named = rdtype in ("MX", "NS", "CNAME", "DNAME", "RRSIG", "SRV", "HTTPS", "PTR")
    targets = (target,) if named else ()
    if rdtype == "HTTPS" and target == dns.name.root:
        targets = (owner,)
    return Made(owner, rdtype, f"{owner} 60 {rdtype} {data}", targets, covers)


class Model:
    """Which records of three sections may be there."""

    def __init__(self, asked: str, do: bool, sections: list[list[Made]]) -> None:
        self.asked, self.do = asked, do
        self.answers, self.authority, self.additional = sections
        self.chain = [PLACES[0]]
        self.kept: list[list[Made]] = [self._answers(), [], []]
        self.positive = any(made.rdtype == asked for made in self.kept[0])
        self.kept[1] = self._authority()
        self.kept[2] = self._additional()

    def _signed(self, section: list[Made], kept: list[Made]) -> list[Made]:
        """Return, in the section's order, what is kept and the signatures that cover it."""
        covered = {(made.owner, made.rdtype): made for made in reversed(kept)}
        kept = [
            made
            for made in kept
            if made.rdtype not in ("CNAME", "DNAME", "SOA")
            or made is covered[made.owner, made.rdtype]
        ]
        return [
            made
            for made in section
            if any(made is one for one in kept)
            or (self.do and made.rdtype == "RRSIG" and (made.owner, made.covers) in covered)
        ]

    def _at(self, owner: dns.name.Name, rdtype: str) -> list[Made]:
        return [made for made in self.answers if (made.owner, made.rdtype) == (owner, rdtype)]

    def _answers(self) -> list[Made]:
        kept: list[Made] = []
        while True:
            name = self.chain[-1]
            found = self._at(name, self.asked)
            alias = self._at(name, "CNAME")[:1]
            target = alias[0].targets[0] if alias else None
            for above in self._above(name)[1:]:
                redirects = self._at(above, "DNAME")[:1]
                if redirects:
                    made = name.relativize(above).concatenate(redirects[0].targets[0])
                    if target is None and not found:
                        target = made
                    if target == made:
                        kept += redirects
                    break
            kept += found
            if target is None or (found and self.asked != "RRSIG"):
                return self._signed(self.answers, kept)
            kept += alias
            self.chain.append(target)
            if len(self.chain) > MAX_CNAME_CHAIN + 1:
                raise WireError("loop")

    @staticmethod
    def _above(name: dns.name.Name) -> list[dns.name.Name]:
        return [name] + ([] if name == dns.name.root else Model._above(name.parent()))

    def _authority(self) -> list[Made]:
        enclosing = {above for name in self.chain for above in self._above(name)}
        kept = [
            made
            for made in self.authority
            if made.rdtype in ("SOA", "NS", *(["DS"] if self.do else []))
            and made.owner in enclosing
        ]
        zones = {made.owner for made in kept if made.rdtype == "SOA"}
        zones |= {made.targets[0] for made in self.authority if made.rdtype == "RRSIG"} & enclosing
        if self.do:
            kept += [
                made
                for made in self.authority
                if made.rdtype == "NSEC" and zones.intersection(self._above(made.owner))
            ]
        return self._signed(self.authority, kept)

    def _additional(self) -> list[Made]:
        named = set(self.chain)
        for made in self.kept[0] + [made for made in self.kept[1] if made.rdtype == "NS"]:
            if made.rdtype not in ("RRSIG", "NSEC", "SOA"):
                named.update(made.targets)
        hints = HINTS | {"PTR": {"TXT"}, "HTTPS": {"CNAME"}}.get(self.asked, set())
        kept: list[Made] = []
        while True:
            kept = [
                made for made in self.additional if made.rdtype in hints and made.owner in named
            ]
            before = len(named)
            named.update(target for made in kept for target in made.targets)
            if len(named) == before:
                return self._signed(self.additional, kept)


def draws(seed: int) -> Iterator[tuple[str, bool, list[list[Made]], bool]]:
    """Yield questions and sections, and whether their names shall be compressed."""
    rng = random.Random(seed)
    for _ in range(amount(1_000, 20_000)):
        asked = rng.choice(
            ["A", "A", "AAAA", "MX", "HTTPS", "PTR", "NS", "TXT", "SRV", "CNAME", "RRSIG", "NSEC"]
        )
        numbers = iter(range(1, 100))
        sections = [
            [make(rng, next(numbers), asked) for _ in range(rng.randrange(size))]
            for size in (8, 6, 8)
        ]
        yield asked, rng.random() < 0.5, sections, rng.random() < 0.5


@pytest.mark.parametrize("seed", [20])
def test_any_reply(seed: int) -> None:
    """Of replies at random, clients get exactly what the model lets through, in its order."""
    came = dict.fromkeys(Verdict, 0)
    for rdtype, do, sections, compressed in draws(seed):
        asked = ask(rdtype=rdtype, do=do)
        written = [[made.text for made in section] for section in sections]
        wire = (
            upstream_reply(asked, *written)
            if compressed
            else raw_reply(asked, *map(plain, written))
        )
        try:
            model = Model(rdtype, do, sections)
        except (WireError, dns.name.NameTooLong):
            with pytest.raises(WireError):
                judged(wire, asked)
            continue
        judge = Judge(asked)
        sorts = {made.rdtype for made in sections[1]}
        referral = "NS" in sorts and "SOA" not in sorts
        denied = any(made.rdtype == "SOA" for made in model.kept[1])
        if sections[0] and not model.kept[0] and not referral and not denied:
            with pytest.raises(WireError):  # all of the answer section is stray
                judge.verdict(wire)
            continue
        verdict, answer = judge.verdict(wire)
        came[verdict] += 1
        if not model.kept[0] and referral:
            assert verdict is Verdict.FAILURE
            continue
        assert verdict is (Verdict.POSITIVE if model.positive else Verdict.NEGATIVE)
        assert answer is not None
        message = replied(scanned(NAME, rdtype, do=do), answer)
        got = [
            texts(section) for section in (message.answer, message.authority, message.additional)
        ]
        expected = [[lower(made.text) for made in section] for section in model.kept]
        if isinstance(answer, AddressPool):
            links = pairwise(model.chain)
            addresses = [lower(made.text) for made in model.kept[0] if made.rdtype == rdtype]
            expected = [[f"{one} 60 CNAME {two}" for one, two in links] + addresses, [], []]
        # dnspython joins records of one set, wherever they stand, and knows each once.
        assert [sorted(section) for section in got] == [sorted(set(part)) for part in expected]
        dropped = sum(map(len, sections)) - sum(map(len, model.kept))
        assert isinstance(answer, AddressPool) or sum(judge.strays.values()) == dropped
    assert min(came[verdict] for verdict in (Verdict.POSITIVE, Verdict.NEGATIVE)) > 200


def plain(section: list[str]) -> list[bytes]:
    """Return records octet by octet, with no name compressed."""
    made = []
    for text in section:
        owner, ttl, rdtype, data = text.split(None, 3)
        number = dns.rdatatype.from_text(rdtype)
        made.append(record(wire_data(rdtype, data), number, owner=wire_name(owner), ttl=int(ttl)))
    return made


def lower(text: str) -> str:
    """Return a record's text as dnspython writes it."""
    return texts(rrsets([text]))[0]
