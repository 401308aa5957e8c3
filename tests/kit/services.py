"""Answers with HTTPS and SVCB records, and the hints in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dns.rdtypes.svcbbase
from dns.rdtypes.svcbbase import ParamKey

from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.messages import NAME, replied, scanned, upstream_reply

if TYPE_CHECKING:
    import dns.message

HTTPS = 65


def service_answer(
    question: Question, *data: str, ttl: int = 300, owner: str = NAME, rdtype: str = "HTTPS"
) -> SectionsAnswer:
    """What is kept of a reply with such records, each written as in a zone file."""
    message = upstream_reply(question, [f"{owner} {ttl} {rdtype} {one}" for one in data])
    _, answer = Judge(question).verdict(message)
    assert isinstance(answer, SectionsAnswer)
    return answer


def given(answer: SectionsAnswer, rdtype: str = "HTTPS", name: str = NAME) -> dns.message.Message:
    """The reply that a client gets."""
    return replied(scanned(name, rdtype, payload=1232), answer, ttl=answer.ttl)


def hinted(message: dns.message.Message) -> list[list[str]]:
    """The addresses of all hints in a reply, in their order, hint by hint."""
    found = []
    for rrset in message.answer:
        for rdata in rrset:
            assert isinstance(rdata, dns.rdtypes.svcbbase.SVCBBase)
            for key in (ParamKey.IPV4HINT, ParamKey.IPV6HINT):
                hint = rdata.params.get(key)
                if hint is not None:
                    found.append([*hint.addresses])
    return found
