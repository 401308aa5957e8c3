"""HTTPS and SVCB answers whose hints are put in order (RFC 9460 section 7.3)."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given as always
from hypothesis import strategies as st

from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from staggerdns.wire.serviceanswer import ServiceAnswer
from tests.kit.messages import NAME, ask, raw_reply, record, upstream_reply
from tests.kit.services import HTTPS, given, hinted, service_answer

FOUR = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
SIX = ["2001:db8::1", "2001:db8::2"]
BOTH = f"1 . alpn=h2,h3 ipv4hint={','.join(FOUR)} ipv6hint={','.join(SIX)} key65280=x"


def packed(*addresses: str) -> tuple[bytes, ...]:
    """Addresses in wire form."""
    return tuple(ip_address(address).packed for address in addresses)


def ordered(*data: str, **more: str) -> ServiceAnswer:
    """An answer with these records that has something to order."""
    question = ask(rdtype=more.get("rdtype", "HTTPS"))
    answer = service_answer(question, *data, **more)  # type: ignore[arg-type]
    assert isinstance(answer, ServiceAnswer)
    return answer


@pytest.mark.parametrize("rdtype", ["HTTPS", "SVCB"])
def test_hints_in_another_order(rdtype: str) -> None:
    """Each hint is put in order for itself; nothing else changes, not by an octet."""
    answer = ordered(BOTH, rdtype=rdtype)
    assert answer.addresses == packed(*FOUR, *SIX)
    wanted = packed(SIX[1], FOUR[2], FOUR[0], SIX[0], FOUR[1])
    changed = answer.reordered(wanted)
    assert changed.addresses == wanted
    assert hinted(given(changed, rdtype)) == [[FOUR[2], FOUR[0], FOUR[1]], [SIX[1], SIX[0]]]
    assert len(changed.body) == len(answer.body)
    in_hints = {
        place
        for hint in answer.hints
        for place in range(hint.offset, hint.offset + hint.count * hint.width)
    }
    for place, (before, after) in enumerate(zip(answer.body, changed.body, strict=True)):
        assert before == after or place in in_hints
    assert changed.reordered(answer.addresses).body == answer.body
    assert changed.octets == answer.octets > len(answer.body)


def test_several_records() -> None:
    """One address may be in the hints of several; a record that is an alias has none."""
    answer = ordered(
        f"1 . ipv4hint={FOUR[0]},{FOUR[1]}",
        f"2 a.example. port=8443 ipv4hint={FOUR[1]},{FOUR[2]},{FOUR[0]}",
    )
    assert answer.addresses == packed(*FOUR)
    assert [*answer.ports.values()] == [443, 443, 8443]
    changed = answer.reordered(packed(*reversed(FOUR)))
    assert hinted(given(changed)) == [[FOUR[1], FOUR[0]], [FOUR[2], FOUR[1], FOUR[0]]]


@pytest.mark.parametrize(
    ("name", "rdtype", "data", "port"),
    [
        (NAME, "HTTPS", "1 . ", 443),
        (NAME, "HTTPS", "1 . port=8443", 8443),
        ("_8443._https.www.example.", "HTTPS", "1 .", 8443),
        ("_8443._https.www.example.", "HTTPS", "1 . port=1", 1),
        ("_65535._https.www.example.", "HTTPS", "1 .", 65535),
        ("_65536._https.www.example.", "HTTPS", "1 .", 0),
        ("_999999._https.www.example.", "HTTPS", "1 .", 443),
        ("_x._https.www.example.", "HTTPS", "1 .", 443),
        ("_8443._http.www.example.", "HTTPS", "1 .", 443),
        ("8443._https.www.example.", "HTTPS", "1 .", 443),
        ("_dns.www.example.", "SVCB", "1 .", 0),
        ("_dns.www.example.", "SVCB", "1 . port=853", 853),
    ],
)
def test_ports(name: str, rdtype: str, data: str, port: int) -> None:
    """The record names it, or the name does, or it is that of HTTPS (section 9)."""
    question = ask(name, rdtype)
    text = f"{data} ipv4hint={FOUR[0]},{FOUR[1]}"
    answer = service_answer(question, text, owner=name, rdtype=rdtype)
    assert isinstance(answer, ServiceAnswer)
    assert answer.ports == dict.fromkeys(packed(*FOUR[:2]), port)


@pytest.mark.parametrize(
    "data", ["1 .", "0 a.example.", f"1 . ipv4hint={FOUR[0]} ipv6hint={SIX[0]}"]
)
def test_nothing_to_order(data: str) -> None:
    """Without two addresses in one hint the answer is as any other."""
    assert not isinstance(service_answer(ask(rdtype="HTTPS"), data), ServiceAnswer)


def test_never_with_do() -> None:
    """A signature covers the hints as they stand."""
    answer = service_answer(ask(rdtype="HTTPS", do=True), BOTH)
    assert not isinstance(answer, ServiceAnswer)
    assert answer.addresses == ()


def test_only_what_was_asked_for() -> None:
    """Such a record that comes with something else is not looked at."""
    question = ask(rdtype="MX")
    message = upstream_reply(question, [f"{NAME} 300 MX 1 a.example."])
    _, answer = Judge(question).verdict(message)
    assert type(answer) is SectionsAnswer


def test_it_stays_what_it_is() -> None:
    """Kept for another time it can be put in order as before."""
    answer = ordered(BOTH).reordered(packed(*SIX, *reversed(FOUR)))
    kept = answer.lasting(7)
    assert isinstance(kept, ServiceAnswer)
    assert (kept.ttl, kept.addresses, kept.body) == (7, answer.addresses, answer.body)


PARAMETER = b"\0\4\0\x08" + bytes(packed(FOUR[0])[0] + packed(FOUR[1])[0])


@pytest.mark.parametrize(
    "data",
    [
        b"\0\1\0" + PARAMETER[:-1],
        b"\0\1\0\0\4\0\x07" + PARAMETER[4:-1],
        b"\0\1\0" + PARAMETER + b"\0\6\0",
        b"\0\0\0" + PARAMETER,
        b"\0\1\7exa",
        b"",
    ],
)
def test_what_cannot_be_read_stays(data: bytes) -> None:
    """Nobody checks these records on the way; and an alias has no parameters (section 2.4.2)."""
    question = ask(rdtype="HTTPS")
    _, answer = Judge(question).verdict(raw_reply(question, [record(data, HTTPS)]))
    assert isinstance(answer, SectionsAnswer)
    assert not isinstance(answer, ServiceAnswer)
    beside = raw_reply(question, [record(data, HTTPS), record(b"\0\1\0" + PARAMETER, HTTPS)])
    _, answer = Judge(question).verdict(beside)
    assert isinstance(answer, ServiceAnswer)
    assert answer.reordered(packed(FOUR[1], FOUR[0])).body.startswith(answer.body[: 12 + len(data)])


@always(st.binary(max_size=60), st.randoms())
def test_anything_in_a_record(data: bytes, random: object) -> None:
    """It can be put in any order, and has the same octets then."""
    question: Question = ask(rdtype="HTTPS")
    _, answer = Judge(question).verdict(raw_reply(question, [record(data, HTTPS)]))
    if isinstance(answer, ServiceAnswer):
        addresses = [*answer.addresses]
        random.shuffle(addresses)  # type: ignore[attr-defined]
        changed = answer.reordered(tuple(addresses))
        assert sorted(changed.body) == sorted(answer.body)
