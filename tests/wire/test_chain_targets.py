"""Where the CNAMEs of an answer lead, in whatever form it is kept."""

from __future__ import annotations

from array import array
from itertools import pairwise

import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import FailureAnswer, LocalNegativeAnswer, RecordAnswer
from staggerdns.wire.constants import Ede, Rcode, Type
from staggerdns.wire.question import make_question
from staggerdns.wire.sections import SectionsAnswer, no_such_name
from tests.kit.messages import judged, pool_of, sections_answer, upstream_reply, wire_name

CHAIN = [
    "www.example. 60 CNAME CDN.example.",
    "CDN.example. 60 CNAME edge.Tracker.example.",
]
TARGETS = (wire_name("cdn.example."), wire_name("edge.tracker.example."))
SOA = "example. 60 SOA ns.example. admin.example. 1 3600 600 86400 60"


def test_pools() -> None:
    """All targets, in lower case, packed or not."""
    asked = make_question(wire_name("www.example."), Type.A)
    pool = pool_of(upstream_reply(asked, [*CHAIN, "edge.Tracker.example. 60 A 192.0.2.1"]), asked)
    assert pool.cname_chain[-1] != TARGETS[-1]
    assert pool.chain_targets(asked.key) == TARGETS
    pool.pack()
    assert pool.chain_targets(asked.key) == TARGETS
    assert AddressPool((), (bytes(4),), 60, False).chain_targets(asked.key) == ()


@pytest.mark.parametrize("do", [False, True])
@pytest.mark.parametrize(
    ("qtype", "end"),
    [
        (Type.TXT, "edge.Tracker.example. 60 TXT x"),
        (Type.HTTPS, "edge.Tracker.example. 60 HTTPS 1 other.example."),
        (Type.MX, "edge.Tracker.example. 60 MX 10 mail.example."),
    ],
)
def test_sections(qtype: int, end: str, do: bool) -> None:
    """Of all types, with signatures or without; what the last record names is no target."""
    asked = make_question(wire_name("www.example."), qtype, do=do)
    answer = sections_answer(upstream_reply(asked, [*CHAIN, end]), asked)
    assert set(answer.chain_targets(asked.key)) == set(TARGETS)
    plain = sections_answer(upstream_reply(asked, [end.replace("edge.Tracker", "www")]), asked)
    assert plain.chain_targets(asked.key) == ()


@pytest.mark.parametrize("rcode", [0, 3])
def test_nothing_at_the_end(rcode: int) -> None:
    """NXDOMAIN and NODATA have their chains, too."""
    asked = make_question(wire_name("www.example."), Type.A)
    for chain in ([], CHAIN):
        answer = sections_answer(upstream_reply(asked, chain, [SOA], rcode=rcode), asked)
        assert answer.negative
        assert set(answer.chain_targets(asked.key)) == (set(TARGETS) if chain else set())


def test_the_cname_itself() -> None:
    """Who asks for a CNAME is led to its target by it."""
    asked = make_question(wire_name("www.example."), Type.CNAME)
    answer = sections_answer(upstream_reply(asked, CHAIN[:1]), asked)
    assert answer.chain_targets(asked.key) == TARGETS[:1]


@pytest.mark.parametrize("with_cname", [False, True])
def test_a_dname(with_cname: bool) -> None:
    """What it makes of the name counts, whether the CNAME stands there or not (RFC 6672)."""
    asked = make_question(wire_name("www.old.example."), Type.TXT)
    records = ["old.example. 60 DNAME tracker.example."]
    if with_cname:
        records.append("www.old.example. 60 CNAME www.tracker.example.")
    records.append("www.tracker.example. 60 TXT x")
    answer = sections_answer(upstream_reply(asked, records), asked)
    assert answer.chain_targets(asked.key) == (wire_name("www.tracker.example."),)


def test_cnames_elsewhere() -> None:
    """Those behind the answers do not lead the question anywhere."""
    asked = make_question(wire_name("www.example."), Type.HTTPS)
    wire = upstream_reply(
        asked,
        ["www.example. 60 HTTPS 1 svc.example."],
        additional=["svc.example. 60 CNAME edge.tracker.example."],
    )
    answer = sections_answer(wire, asked)
    assert answer.counts[5] == 1
    assert answer.chain_targets(asked.key) == ()


def test_other_answers() -> None:
    """What we say ourselves leads nowhere."""
    asked = make_question(wire_name("www.example."), Type.A)
    for answer in (
        FailureAnswer(Ede.OTHER, 1),
        LocalNegativeAnswer(Rcode.NXDOMAIN, 1, 60),
        RecordAnswer(Type.CNAME, 1, wire_name("a.example."), 60),
        no_such_name(asked, 60),
    ):
        assert answer.chain_targets(asked.key) == ()


def test_what_cannot_be_read() -> None:
    """It counts as an answer without a chain."""
    body = b"\xc0\x0c\0\5\0\1\0\0\0\1\0\2\xc0\xff"
    counts = b"\0\1\0\0\0\0"
    answer = SectionsAnswer(0, False, False, 60, counts, body, array("H", [6]), (), 0)
    assert answer.chain_targets(make_question(wire_name("www.example."), Type.TXT).key) == ()


def test_a_long_chain() -> None:
    """As long as answers may be."""
    asked = make_question(wire_name("www.example."), Type.TXT)
    names = ["www.example.", *(f"n{number}.example." for number in range(32))]
    records = [f"{one} 60 CNAME {other}" for one, other in pairwise(names)]
    _, answer = judged(upstream_reply(asked, [*records, f"{names[-1]} 60 TXT x"]), asked)
    assert answer is not None
    assert set(answer.chain_targets(asked.key)) == set(map(wire_name, names[1:]))
