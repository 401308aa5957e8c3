"""What is said about the target of a lone alias, judged as an answer to the first question
(docs/specification.rst, Lone aliases).
"""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import Answer
from staggerdns.wire.constants import MAX_MESSAGE, WireError
from staggerdns.wire.judge import Judge
from staggerdns.wire.lonealias import TargetJudge, join
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.sections import LoneAliasAnswer
from staggerdns.wire.verdict import FAILURE, NEGATIVE, POSITIVE, Verdict
from tests.kit.acts import AAAA, CNAME, MX, NXDOMAIN, SERVFAIL, SOA, TXT, A, name, record, reply
from tests.kit.clients import parse

POINTER = b"\xc0\x0c"
AD = 0x81A0
PLAIN = 0x8180
NUMBERS = bytes(16) + b"\0\0\0\x3c"


def alias(
    question: Question, target: str = "end.example", ttl: int = 60, flags: int = PLAIN
) -> bytes:
    """A reply that is a CNAME alone."""
    return reply(question, [record(POINTER, CNAME, ttl, name(target))], flags=flags)


def lone(question: Question, flags: int = PLAIN) -> LoneAliasAnswer:
    """The answer that such a reply gives."""
    verdict, answer = Judge(question).verdict(alias(question, flags=flags))
    assert verdict is NEGATIVE
    assert isinstance(answer, LoneAliasAnswer)
    return answer


def about(
    question: Question, target: LoneAliasAnswer, *answers: bytes, flags: int = PLAIN
) -> tuple[Verdict, Answer | None]:
    """The verdict on a reply about the target."""
    judge = TargetJudge(Judge(question), target)
    return judge.verdict(reply(judge.question, answers, flags=flags))


def soa(owner: str) -> bytes:
    """An SOA record."""
    return record(name(owner), SOA, 60, name("ns.example") + name("a.example") + NUMBERS)


@pytest.mark.parametrize("qtype", [A, AAAA])
def test_addresses_at_the_end(qtype: int) -> None:
    """They make the pool that a resolver's reply makes."""
    question = make_question(name("WWW.corp.example").lower(), qtype)
    data = ip_address("203.0.113.7" if qtype == A else "2001:db8::7").packed
    found = about(question, lone(question), record(POINTER, qtype, 300, data))
    whole = reply(
        question,
        [
            record(POINTER, CNAME, 60, name("end.example")),
            record(name("end.example"), qtype, 300, data),
        ],
    )
    expected = Judge(question).verdict(whole)
    for verdict, answer in (found, expected):
        assert verdict is POSITIVE
        assert isinstance(answer, AddressPool)
        assert answer.cname_chain == (name("end.example"),)
        assert (answer.addresses, answer.ttl, answer.ad) == ((data,), 60, False)


@pytest.mark.parametrize(
    ("first", "second", "ad"), [(AD, AD, True), (PLAIN, AD, False), (AD, PLAIN, False)]
)
def test_validated_if_both_are(first: int, second: int, ad: bool) -> None:
    """AD stays only when whoever gave the alias had validated it, too."""
    question = make_question(name("www.corp.example"), A)
    data = record(POINTER, A, 300, b"\xcb\0q\7")
    _, answer = about(question, lone(question, flags=first), data, flags=second)
    assert answer is not None
    assert answer.ad is ad


def test_what_is_no_lone_alias() -> None:
    """With an SOA it is NODATA, with another code that code; one that is asked for is an answer."""
    question = make_question(name("www.corp.example"), A)
    chain = [record(POINTER, CNAME, 60, name("end.example"))]
    for message in (
        reply(question, chain, [soa("example")]),
        reply(question, chain, rcode=NXDOMAIN),
        reply(question, [], [soa("corp.example")]),
        reply(question),
    ):
        verdict, answer = Judge(question).verdict(message)
        assert verdict is NEGATIVE
        assert not isinstance(answer, LoneAliasAnswer)
    asked = make_question(name("www.corp.example"), CNAME)
    assert Judge(asked).verdict(alias(asked))[0] is POSITIVE


def test_negatives_and_failures_about_the_target() -> None:
    """They are what the whole question gets."""
    question = make_question(name("www.corp.example"), TXT)
    judge = TargetJudge(Judge(question), lone(question))
    denied = reply(judge.question, [], [soa("example")], rcode=NXDOMAIN)
    verdict, answer = judge.verdict(denied)
    assert verdict is NEGATIVE
    assert answer is not None
    assert (answer.rcode, answer.ttl) == (NXDOMAIN, 60)
    assert judge.verdict(reply(judge.question, rcode=SERVFAIL)) == (FAILURE, None)
    with pytest.raises(WireError):
        judge.verdict(reply(judge.question, [b"\xc0"]))


def test_a_chain_that_leads_back() -> None:
    """It is malformed, as it would be in one reply."""
    question = make_question(name("www.corp.example"), A)
    with pytest.raises(WireError, match="loop"):
        about(question, lone(question), record(POINTER, CNAME, 60, name("www.corp.example")))


def test_the_next_alias() -> None:
    """An alias behind the alias has the whole chain, and its own target."""
    question = make_question(name("www.corp.example"), A)
    _, second = about(question, lone(question), record(POINTER, CNAME, 60, name("x.example")))
    assert isinstance(second, LoneAliasAnswer)
    assert second.target == name("x.example")
    verdict, answer = about(question, second, record(POINTER, A, 300, b"\xcb\0q\7"))
    assert verdict is POSITIVE
    assert isinstance(answer, AddressPool)
    assert answer.cname_chain == (name("end.example"), name("x.example"))


def test_compressed_names_are_written_out() -> None:
    """Pointers lead into the message that they came in, and mean nothing in another."""
    question = make_question(name("www.corp.example"), MX)
    target = lone(question)
    verdict, answer = about(question, target, record(POINTER, MX, 300, b"\0\x0a" + POINTER))
    assert verdict is POSITIVE
    assert answer is not None
    sections = answer.sections(question.end, 60, MAX_MESSAGE)
    assert sections is not None
    message = reply(question)[:6] + sections[0] + question.section + sections[1]
    shown = [one.to_text() for one in parse(message).answer]
    assert shown == [
        "www.corp.example. 60 IN CNAME end.example.",
        "end.example. 60 IN MX 10 end.example.",
    ]


@pytest.mark.parametrize(("spare", "fits"), [(0, True), (1, False)])
def test_too_large(spare: int, fits: bool) -> None:
    """What does not fit one message with the alias in front is malformed."""
    question = make_question(name("www.corp.example"), TXT)
    target = lone(question)
    judge = TargetJudge(Judge(question), target)

    def joined(size: int) -> bytes:
        data = b"".join(bytes((len(part),)) + part for part in [b"x" * 255] * 200) + bytes(size)
        message = reply(judge.question, [record(POINTER, 65_280, 300, data)])
        return join(target.message, question, message, judge.question)

    room = MAX_MESSAGE - len(joined(0))
    if fits:
        assert len(joined(room + spare)) == MAX_MESSAGE
    else:
        with pytest.raises(WireError, match="too large"):
            joined(room + spare)
