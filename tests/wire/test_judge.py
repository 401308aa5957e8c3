"""What a `Judge` keeps of the replies to its question, and that the question stays as it is."""

from __future__ import annotations

from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.verdict import Verdict
from tests.kit.compiled import PURE_ONLY
from tests.kit.messages import NAME, ask, raw_reply, record, upstream_reply, wire_name

CAPITALS = wire_name(NAME.upper())


def in_capitals(asked: Question, message: bytes) -> bytes:
    """A reply to the question in capitals."""
    return message[:12] + CAPITALS + message[12 + len(CAPITALS) :]


def test_the_same_reply_again() -> None:
    """A reply that differs in ID and case alone gives the same answer, and is not read again."""
    asked = ask(rdtype="MX")
    judge = Judge(asked)
    records = [record(b"\0\1\0", 15), record(b"", 46)]
    first = judge.verdict(raw_reply(asked, records))
    again = judge.verdict(in_capitals(asked, raw_reply(asked, records, id=7)))
    assert again[0] is first[0]
    assert again[1] is first[1]
    assert judge.strays == {"dnssec": 1}
    other = judge.verdict(raw_reply(asked, [record(b"\0\2\0", 15)]))
    assert other[1] is not first[1]


def test_every_reply_counts() -> None:
    """Judges of the same question know nothing of each other; one adds its replies up."""
    asked = ask()
    one, other = Judge(asked, screened=True), Judge(asked)
    for address in ("10.0.0.1", "10.0.0.2"):
        message = upstream_reply(asked, [f"{NAME} 60 A {address}", "x.example. 60 A 192.0.2.1"])
        assert one.verdict(message)[0] is Verdict.NEGATIVE
        assert other.verdict(message)[0] is Verdict.POSITIVE
    assert (one.stripped, other.stripped) == (2, 0)
    assert one.strays == other.strays == {"unrelated": 2}


@PURE_ONLY
def test_a_question_is_a_value() -> None:
    """Neither asking nor judging writes into a question."""
    asked = ask(rdtype="MX", do=True)
    before = [getattr(asked, slot) for slot in Question.__slots__]
    asked.in_random_case(bytes(range(len(asked.section))))
    judge = Judge(asked, screened=True)
    judge.verdict(raw_reply(asked, [record(b"\0\1\0", 15)]))
    judge.verdict(in_capitals(asked, upstream_reply(asked, rcode=3)))
    assert [getattr(asked, slot) for slot in Question.__slots__] == before
    assert [getattr(Question(asked.key), slot) for slot in Question.__slots__] == before
