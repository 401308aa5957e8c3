"""What a failing reply says about its upstream when others answered well, and what it does not."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from staggerdns.upstream.blame import explained, subject
from staggerdns.upstream.health import LONG_SERIES, State
from staggerdns.upstream.reason import Reason
from staggerdns.wire.constants import HEADER_SIZE
from staggerdns.wire.question import make_question
from tests.kit.acts import (
    AAAA,
    CNAME,
    FORMERR,
    MX,
    REFUSED,
    SERVFAIL,
    TXT,
    A,
    Act,
    fails,
    garbles,
    gives,
    name,
    negative,
    record,
    reply,
    says_own,
)
from tests.kit.simulated import HEALTH, SimulatedResolver

if TYPE_CHECKING:
    from staggerdns.wire.question import Question

HEALTHY, DEGRADED, UNHEALTHY = State
NOTIMP = 4
HTTPS = 65
STRATEGIES = ("parallel", "racing", "sequential")
DNSSEC_CODES = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 25, 27)
BLOCKED_CODES = (15, 16, 17)
OTHER_CODES = (0, 3, 4, 13, 14, 18, 19, 20, 21, 22, 23, 24, 26, 28, 29, 30, 49152)


def with_errors(message: bytes, *codes: int) -> bytes:
    """The reply with an OPT record that holds these Extended DNS Errors."""
    options = b"".join(struct.pack("!HHH", 15, 2 + 4, code) + b"text" for code in codes)
    opt = b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(options)) + options
    return message[: HEADER_SIZE - 2] + b"\0\1" + message[HEADER_SIZE:] + opt


def explains(after: float, *codes: int, rcode: int = SERVFAIL) -> Act:
    """Answer with an error code and Extended DNS Errors."""
    return Act(after, lambda question: with_errors(reply(question, rcode=rcode), *codes))


def to_itself(after: float) -> Act:
    """Answer with a CNAME that leads to its owner."""
    pointer = b"\xc0\x0c"
    return Act(after, lambda question: reply(question, [record(pointer, CNAME, 300, pointer)]))


def cut(after: float) -> Act:
    """Answer with TC, over a stream."""
    return Act(after, lambda question: reply(question, flags=0x8380))


def ask_all(resolver: SimulatedResolver, *questions: Question) -> None:
    """Ask one question after the other and let everything happen."""
    for question in questions:
        resolver.ask(question)
        resolver.run()


def names(count: int, domain: str, qtype: int = A) -> list[Question]:
    """Questions for so many names of a domain, or of so many domains (``{}``)."""
    text = domain if "{}" in domain else f"n{{}}.{domain}"
    return [make_question(name(text.format(number)), qtype) for number in range(count)]


ZONE = [
    garbles(5),
    to_itself(5),
    cut(5),
    explains(5, 6),
    explains(5, 22, 9),
    explains(5, 15, rcode=REFUSED),
]
ZONE_IDS = ["malformed", "loop", "truncated", "bogus", "two codes", "blocked"]


@pytest.mark.parametrize("better", [says_own(1, 15), negative(15)], ids=["data", "denial"])
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("act", ZONE, ids=ZONE_IDS)
def test_what_says_that_the_zone_is_at_fault(act: Act, strategy: str, better: Act) -> None:
    """It marks nobody, in however many zones, and slows nobody down."""
    resolver = SimulatedResolver(act, better, strategy=strategy)
    ask_all(resolver, *names(LONG_SERIES, "www.n{}.example"))
    assert [upstream.marks for upstream in resolver.upstreams] == [0, 0]
    assert resolver.upstreams[0].health.state == HEALTHY
    resolver.assert_nothing_left()


@pytest.mark.parametrize("act", ZONE, ids=ZONE_IDS)
def test_nothing_but_such_replies(act: Act) -> None:
    """Behind a long series each counts: an upstream that fails everything is found out."""
    resolver = SimulatedResolver(act, says_own(1, 15))
    ask_all(resolver, *names(LONG_SERIES + HEALTH.unhealthy_after - 1, "example.com"))
    assert resolver.upstreams[0].health.state == DEGRADED
    ask_all(resolver, resolver.question("last.example.com"))
    assert resolver.upstreams[0].health.state == UNHEALTHY


def test_one_good_reply_ends_the_series() -> None:
    """A series is one in a row."""
    resolver = SimulatedResolver(garbles(5), says_own(1, 15))
    ask_all(resolver, *names(LONG_SERIES, "example.com"))
    resolver.script(says_own(0, 5), says_own(1, 15))
    ask_all(resolver, resolver.question("good.example.com"))
    resolver.script(garbles(5), says_own(1, 15))
    ask_all(resolver, *names(LONG_SERIES, "example.org"))
    assert resolver.upstreams[0].marks == 0


ERRORS = [fails(5), fails(5, FORMERR), fails(5, NOTIMP), fails(5, REFUSED), explains(5, 22)]
ERROR_IDS = ["SERVFAIL", "FORMERR", "NOTIMP", "REFUSED", "no authority"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("act", ERRORS, ids=ERROR_IDS)
@pytest.mark.parametrize(
    ("domain", "qtype"),
    [("example.com", A), ("example.com", AAAA), ("www.n{}.example", TXT), ("n{}.example", HTTPS)],
)
def test_one_zone_or_one_type(act: Act, strategy: str, domain: str, qtype: int) -> None:
    """An error for all names of a zone, or for a type in all zones, is one mark in a row."""
    data = {A: bytes(4), AAAA: bytes(16), TXT: b"\0", HTTPS: b"\0\1\0"}[qtype]
    resolver = SimulatedResolver(act, gives(15, qtype, data), strategy=strategy)
    ask_all(resolver, *names(20, domain, qtype))
    assert resolver.upstreams[0].marks == 1
    assert resolver.upstreams[0].health.state == HEALTHY


@pytest.mark.parametrize("act", ERRORS, ids=ERROR_IDS)
def test_several_zones(act: Act) -> None:
    """An error for several zones in a row, which others answer, opens the circuit."""
    resolver = SimulatedResolver(act, says_own(1, 15))
    ask_all(resolver, *names(HEALTH.unhealthy_after - 1, "www.n{}.example"))
    assert resolver.upstreams[0].health.state == DEGRADED
    ask_all(resolver, resolver.question("www.last.example"))
    assert resolver.upstreams[0].health.state == UNHEALTHY


def test_a_trial_that_fails_in_a_known_zone() -> None:
    """An upstream on trial has to answer: an error opens its circuit again."""
    resolver = SimulatedResolver(fails(5), says_own(1, 15))
    ask_all(resolver, *names(HEALTH.unhealthy_after, "n{}.example"))
    resolver.run_to(resolver.now + 30_000)
    ask_all(resolver, resolver.question("again.n0.example"))
    assert not resolver.upstreams[0].usable(resolver.clock.seconds() + 31)


def test_a_trial_that_meets_a_broken_zone() -> None:
    """It says nothing: the next question is the trial."""
    resolver = SimulatedResolver(fails(5), says_own(1, 15))
    ask_all(resolver, *names(HEALTH.unhealthy_after, "n{}.example"))
    resolver.script(explains(5, 6), says_own(1, 15))
    resolver.run_to(resolver.now + 30_000)
    ask_all(resolver, resolver.question("bogus.example"))
    assert resolver.upstreams[0].usable(resolver.clock.seconds())


def test_blocked_names_are_no_refusals() -> None:
    """An upstream that filters is not slowed down, however many of its names are asked for."""
    resolver = SimulatedResolver(explains(5, 15, rcode=REFUSED), says_own(1, 15))
    for question in names(100, "example.com"):
        resolver.ask(question)
    resolver.run()
    assert resolver.rates[0] == 0


@pytest.mark.parametrize(
    ("codes", "reason"),
    [
        *[((code,), Reason.DNSSEC) for code in DNSSEC_CODES],
        *[((code,), Reason.BLOCKED) for code in BLOCKED_CODES],
        *[((code,), None) for code in OTHER_CODES],
        ((22, 23, 9), Reason.DNSSEC),
        ((0, 17), Reason.BLOCKED),
        ((15, 6), Reason.DNSSEC),
        ((), None),
    ],
    ids=str,
)
def test_codes(codes: tuple[int, ...], reason: Reason | None) -> None:
    """Each code of RFC 8914 and the registry has its place, alone and among others."""
    message = with_errors(reply(make_question(name("www.example"), A), rcode=SERVFAIL), *codes)
    assert explained(message) is reason
    for size in range(HEADER_SIZE, len(message)):
        assert explained(message[:size]) in (None, Reason.BLOCKED, Reason.DNSSEC), (
            "nothing is raised"
        )


@pytest.mark.parametrize(
    ("text", "qtype", "expected"),
    [
        ("www.example.com", A, name("example.com")),
        ("a.b.c.d.example.com", AAAA, name("example.com")),
        ("example.com", A, name("example.com")),
        ("com", A, name("com")),
        ("", A, name("")),
        ("www.example.com", MX, b"\0\x0f"),
        ("", MX, b"\0\x0f"),
    ],
)
def test_subjects(text: str, qtype: int, expected: bytes) -> None:
    """The zone of address questions, else the type; nothing where the zone itself is at fault."""
    question = make_question(name(text), qtype)
    assert subject(Reason.SERVFAIL, question) == expected
    assert subject(Reason.DNSSEC, question) is None


def test_the_zones_of_a_series_are_bounded() -> None:
    """However many zones fail, no more are remembered than open a circuit."""
    resolver = SimulatedResolver(fails(5), says_own(1, 15))
    ask_all(resolver, *names(3 * HEALTH.unhealthy_after, "n{}.example"))
    assert len(resolver.upstreams[0].health._subjects) == HEALTH.unhealthy_after
