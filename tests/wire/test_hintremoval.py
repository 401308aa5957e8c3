"""IPv6 hints taken out of HTTPS and SVCB answers (RFC 9460 section 8)."""

from __future__ import annotations

import pytest
from hypothesis import given as always
from hypothesis import strategies as st

from staggerdns.wire.hintremoval import without_ipv6_hints
from staggerdns.wire.judge import Judge
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.clients import parse
from tests.kit.messages import NAME, ask, raw_reply, record, texts, upstream_reply, wire_name
from tests.kit.services import HTTPS, given, service_answer

FOUR, SIX = "ipv4hint=198.51.100.1,198.51.100.2", "ipv6hint=2001:db8::1,2001:db8::2"


def shown(answer: SectionsAnswer, rdtype: str = "HTTPS") -> list[str]:
    """The records of the reply that a client gets."""
    return texts(given(answer, rdtype).answer)


def everything(_: bytes) -> bool:
    """Want no name's IPv6 addresses."""
    return True


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
@pytest.mark.parametrize("sections", ["", "OPT"])
def test_the_hint_goes(rdtype: str, sections: str) -> None:
    """All else stays as it was, other records too."""
    question = ask(rdtype=rdtype)
    data = f"1 . alpn=h2,h3 port=8443 {FOUR} {SIX} key65280=x"
    answer = service_answer(question, data, f"2 other.example. {SIX}", rdtype=rdtype)
    asked: list[bytes] = []

    def unwanted(name: bytes) -> bool:
        asked.append(name)
        return name == question.name

    found = without_ipv6_hints(answer, question, unwanted)
    first = f"{NAME} 300 {rdtype} 1 . " + 'alpn="h2,h3" port="8443" '
    four, six = FOUR.replace("=", '="') + '"', SIX.replace("=", '="') + '"'
    assert shown(found, rdtype) == [
        first + f'{four} key65280="x"',
        f"{NAME} 300 {rdtype} 2 other.example. {six}",
    ]
    assert asked == [question.name, wire_name("other.example.")]
    assert len(answer.body) - len(found.body) == 4 + 32


def test_what_stands_behind_moves_up() -> None:
    """Names that point to others still do, and all TTLs are where they were."""
    question = ask(rdtype="HTTPS")
    message = upstream_reply(
        question,
        [f"{NAME} 300 HTTPS 1 svc.example.net. {SIX}", f"{NAME} 300 HTTPS 2 . {SIX}"],
        additional=[
            "svc.example.net. 300 A 198.51.100.1",
            "svc.example.net. 300 AAAA 2001:db8::1",
        ],
    )
    _, answer = Judge(question).verdict(message)
    assert isinstance(answer, SectionsAnswer)
    found = without_ipv6_hints(answer, question, everything)
    reply = given(found)
    assert texts(reply.answer) == [
        f"{NAME} 300 HTTPS 1 svc.example.net.",
        f"{NAME} 300 HTTPS 2 .",
    ]
    assert texts(reply.additional) == texts(given(answer).additional)
    assert [rrset.ttl for rrset in reply.answer] == [300] * len(reply.answer)


def test_behind_a_cname() -> None:
    """The target of a record that names none is its owner, not the name asked for."""
    question = ask(rdtype="HTTPS")
    message = upstream_reply(
        question,
        [f"{NAME} 300 CNAME Edge.example.net.", f"Edge.example.net. 300 HTTPS 1 . {SIX}"],
    )
    _, answer = Judge(question).verdict(message)
    assert isinstance(answer, SectionsAnswer)
    asked: list[bytes] = []

    def unwanted(name: bytes) -> bool:
        asked.append(name)
        return False

    without_ipv6_hints(answer, question, unwanted)
    assert asked == [wire_name("edge.example.net.")]


@pytest.mark.parametrize(
    "data",
    [
        f"1 . mandatory=ipv6hint {FOUR} {SIX}",
        f"1 . mandatory=alpn,ipv6hint alpn=h2 {SIX}",
        f"1 . alpn=h2 {FOUR}",
        "1 .",
        "0 other.example.",
    ],
)
def test_what_stays(data: str) -> None:
    """A hint that is mandatory; and nothing is looked at where there is none."""
    question = ask(rdtype="HTTPS")
    answer = service_answer(question, data)
    assert without_ipv6_hints(answer, question, everything) is answer


def test_other_mandatory_parameters() -> None:
    """They do not keep it."""
    question = ask(rdtype="HTTPS")
    answer = service_answer(question, f"1 . mandatory=alpn alpn=h2 {SIX}")
    assert "ipv6hint" not in shown(without_ipv6_hints(answer, question, everything))[0]


def test_nobody_validated_that() -> None:
    """AD goes with the hint."""
    question = ask(rdtype="HTTPS")
    _, answer = Judge(question).verdict(
        upstream_reply(question, [f"{NAME} 300 HTTPS 1 . {SIX}"], ad=True)
    )
    assert isinstance(answer, SectionsAnswer)
    assert answer.ad
    assert without_ipv6_hints(answer, question, lambda _: False).ad
    assert not without_ipv6_hints(answer, question, everything).ad


@always(st.lists(st.binary(max_size=60), min_size=1, max_size=3))
def test_anything_in_records(data: list[bytes]) -> None:
    """The reply is whole, with as many records."""
    question = ask(rdtype="HTTPS")
    _, answer = Judge(question).verdict(raw_reply(question, [record(one, HTTPS) for one in data]))
    assert isinstance(answer, SectionsAnswer)
    found = without_ipv6_hints(answer, question, everything)
    assert found.counts == answer.counts
    if found is not answer:
        assert len(found.body) < len(answer.body)
        assert len(parse(given(found).to_wire()).answer) == 1
