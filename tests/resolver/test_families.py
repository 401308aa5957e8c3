"""Whether clients get the IPv6 addresses of a name (docs/specification.rst, Families)."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest

from staggerdns.resolver import families as families_module
from staggerdns.resolver.families import HELD_FOR, Verdict
from staggerdns.settings.policy import FamiliesSettings, OwnFamiliesSettings
from staggerdns.settings.values import Seconds
from staggerdns.wire.addresspool import AddressPool
from staggerdns.wire.answer import LocalNegativeAnswer
from staggerdns.wire.judge import Judge
from staggerdns.wire.question import Question, make_question
from staggerdns.wire.sections import SectionsAnswer
from tests.kit.acts import name
from tests.kit.cache import no_such_name
from tests.kit.effort import amount
from tests.kit.families import FOUR, SHORT_TTL, SIX, SimulatedFamilies, near6
from tests.kit.messages import ask, upstream_reply
from tests.kit.probing import silent
from tests.kit.ranked import asks, near, packed
from tests.kit.services import given, hinted, service_answer

GIVE, SUPPRESS, WAIT = Verdict.GIVE, Verdict.SUPPRESS, Verdict.WAIT


def no_ipv6(address: bytes, _: int) -> float | None:
    """A script: IPv6 does not connect."""
    return None if len(address) == 16 else address[-1] / 1000


def no_ipv4(address: bytes, _: int) -> float | None:
    """A script: IPv4 does not connect."""
    return None if len(address) == 4 else address[-1] / 1000


@pytest.mark.parametrize(
    ("four", "six", "expected"),
    [
        (20, 60, SUPPRESS),
        (20, 42, SUPPRESS),  # a millisecond more than the margin counts as jitter
        (20, 40, GIVE),
        (20, 20, GIVE),
        (60, 20, GIVE),
    ],
)
def test_nearer_by_the_margin(four: int, six: int, expected: Verdict) -> None:
    """First it is found out, and IPv6 addresses are given meanwhile."""
    families = SimulatedFamilies()
    families.put_both(four, six)
    assert families.verdict() is WAIT
    assert families.settled() is expected
    assert families.changes() == ({"ipv4_nearer": 1} if expected is SUPPRESS else {})


def test_the_margin_is_a_setting() -> None:
    """In milliseconds both ways."""
    for margin, expected in ((0.005, SUPPRESS), (0.015, GIVE)):
        families = SimulatedFamilies(margin=margin)
        families.put_both(20, 30)
        assert families.settled() is expected


def test_ipv6_does_not_connect() -> None:
    """However near its echoes come from."""
    families = SimulatedFamilies(no_ipv6)
    families.put_both(80, 10)
    assert families.settled() is SUPPRESS
    assert families.changes() == {"ipv6_unreachable": 1}


@pytest.mark.parametrize("script", [no_ipv4, silent])
def test_ipv4_does_not_connect_either(script: object) -> None:
    """Then there is nothing to prefer."""
    families = SimulatedFamilies(script)  # type: ignore[arg-type]
    families.put_both(10, 80)
    assert families.settled() is GIVE


def test_one_family_alone() -> None:
    """Nothing is suppressed, and nobody is connected to."""
    families = SimulatedFamilies(no_ipv6)
    families.put(SIX, near6(50))
    assert families.settled() is GIVE
    families.cache.commit(FOUR.key, 9, no_such_name(), families.clock.seconds())
    assert families.settled() is GIVE
    assert families.simulated.connected_to == []


def test_not_while_it_is_collected() -> None:
    """More addresses may come: it is asked again soon."""
    families = SimulatedFamilies(no_ipv6)
    families.put(SIX, near6(50))
    families.ranked.put(20)
    assert families.settled() is WAIT
    families.cache.complete(FOUR.key, 1)
    assert families.settled() is SUPPRESS


def test_not_while_it_is_sorted() -> None:
    """Which is the nearest is not known yet."""
    families = SimulatedFamilies(no_ipv6, echoes=silent)
    families.put(FOUR, near(10), near(20))
    families.put(SIX, near6(50))
    assert families.verdict() is WAIT
    assert families.simulated.connected_to == []


@pytest.mark.parametrize(("probe_private", "expected"), [(False, GIVE), (True, SUPPRESS)])
def test_private_addresses(probe_private: bool, expected: Verdict) -> None:
    """Nobody connects to what must not be probed."""
    for four, six in (("10.0.0.1", 50), (20, "fd00::50")):
        families = SimulatedFamilies(no_ipv6, probe_private=probe_private)
        families.put_both(four, six)
        assert families.settled() is expected


def test_it_comes_back() -> None:
    """A path that was broken is looked at again within a minute."""
    broken = [True]
    families = SimulatedFamilies(lambda one, nth: no_ipv6(one, nth) if broken[0] else 0.01)
    families.put_both(10, 12)
    assert families.settled() is SUPPRESS
    broken[0] = False
    families.wait(70)
    assert families.verdict() is SUPPRESS, "while it is measured anew"
    assert families.settled() is GIVE
    assert families.changes() == {"ipv6_unreachable": 1, "both": 1}


def test_a_decision_does_not_last_for_ever() -> None:
    """If nobody has asked for long it is found out from the beginning."""
    families = SimulatedFamilies()
    families.put_both(20, 60)
    assert families.settled() is SUPPRESS
    families.wait(HELD_FOR - 1)
    assert families.verdict() is SUPPRESS
    families = SimulatedFamilies()
    families.put_both(20, 60)
    assert families.settled() is SUPPRESS
    families.wait(HELD_FOR)
    assert families.verdict() is WAIT


def jittery(random: Random, address: bytes, _: int) -> float:
    """A script: what the address says, and up to ten milliseconds."""
    return address[-1] / 1000 + random.uniform(0, 0.01)


@pytest.mark.parametrize("gain", [14, 17, 20, 23, 26])
def test_jitter_around_the_margin(gain: int) -> None:
    """Round trips that vary by ten milliseconds turn a decision less than once an hour."""
    hours = amount(6, 100)
    changes = 0
    for seed in range(amount(2, 20)):
        random = Random(seed)
        families = SimulatedFamilies(partial(jittery, random))
        families.put_both(20, 20 + gain)
        for _ in range(hours * 12):
            families.settled(300)
        changes = max(changes, sum(families.changes().values()))
    assert changes <= hours / 3


def test_as_many_as_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more the one that was not asked for the longest is found out anew."""
    monkeypatch.setattr(families_module, "MAX_DECISIONS", 3)
    families = SimulatedFamilies()
    families.put_both(20, 60)
    families.settled()
    now = families.clock.seconds()
    margins = [0.010, 0.011, 0.012]
    for count, margin in enumerate(margins, 2):
        assert families.families.verdict(SIX.key, margin, now) is SUPPRESS
        assert families.ranked.metrics.families_suppressed.values() == {(): min(count, 3)}
    owns = [OwnFamiliesSettings(margin=Seconds(margin)) for margin in (0.02, *margins)]
    entry = families.cache.held(SIX.key)
    assert entry is not None
    told = [families.families.suppressed(SIX, entry.answer, own, now) for own in owns]
    assert told == [False, True, True, True]


@pytest.mark.parametrize(("seconds", "left"), [(HELD_FOR - 1, 1), (HELD_FOR, 0)])
def test_names_that_nobody_asks_for_are_not_counted(seconds: float, left: int) -> None:
    """Nor is what was decided when nothing is chosen any more."""
    families = SimulatedFamilies()
    families.put_both(20, 60)
    assert families.settled() is SUPPRESS
    gauge = families.ranked.metrics.families_suppressed.values
    families.wait(seconds)
    assert gauge() == {(): left}
    families.families.use({}, None, short_ttl=5)
    assert gauge() == {(): 0}


# Whose margin.


def margin(
    question: Question, own: OwnFamiliesSettings | None = None, prefer: str = "auto"
) -> float | None:
    """The margin for a client."""
    return SimulatedFamilies(prefer=prefer).families.margin(question, own)


def test_which_questions() -> None:
    """AAAA and services, never under DO."""
    assert margin(SIX) == 0.02
    assert margin(ask(rdtype="HTTPS")) == margin(ask(rdtype="SVCB")) == 0.02
    assert margin(FOUR) is margin(ask(rdtype="MX")) is None
    assert margin(asks(qtype=28, do=True)) is margin(ask(rdtype="HTTPS", do=True)) is None


@pytest.mark.parametrize(
    ("common", "own", "expected"),
    [
        ("none", OwnFamiliesSettings(), None),
        ("none", OwnFamiliesSettings(margin=0.005), None),
        ("none", OwnFamiliesSettings(prefer="auto"), 0.02),
        ("auto", OwnFamiliesSettings(prefer="none"), None),
        ("auto", OwnFamiliesSettings(margin=0.005), 0.005),
        ("auto", None, 0.02),
    ],
)
def test_what_a_group_says(
    common: str, own: OwnFamiliesSettings | None, expected: float | None
) -> None:
    """It comes first."""
    assert margin(SIX, own, common) == expected


def test_what_a_route_says() -> None:
    """It is that of the scope."""
    families = SimulatedFamilies()
    families.use({0: FamiliesSettings(), 1: FamiliesSettings(prefer="auto", margin=0.001)})
    assert families.families.margin(SIX, None) is None
    other = make_question(SIX.name, 28, scope=1)
    assert families.families.margin(other, None) == 0.001
    assert families.families.margin(make_question(SIX.name, 28, scope=2), None) is None


def test_without_handshakes() -> None:
    """Nothing can be found out."""
    families = SimulatedFamilies()
    settings = {0: FamiliesSettings(prefer="auto")}
    families.families.use(settings, None, short_ttl=5)
    assert families.families.margin(SIX, None) is None


# What is given.


def test_nodata_of_our_own() -> None:
    """With the short TTL; so has what is given while it is found out."""
    families = SimulatedFamilies()
    families.put_both(20, 60)
    entry = families.cache.held(SIX.key)
    assert entry is not None
    now = families.clock.seconds()
    answer, ttl = families.families.chosen(SIX, entry.answer, 600, 0.02, now)
    assert (answer, ttl) == (entry.answer, SHORT_TTL)
    families.settled()
    now = families.clock.seconds()
    answer, ttl = families.families.chosen(SIX, entry.answer, 600, 0.02, now)
    assert isinstance(answer, LocalNegativeAnswer)
    assert (ttl, answer.ttl, answer.zone) == (SHORT_TTL, SHORT_TTL, len(SIX.name))
    assert families.families.chosen(SIX, entry.answer, 3, 0.02, now)[1] == 3
    assert families.cache.held(SIX.key) is entry, "nothing of that is stored"
    assert isinstance(entry.answer, AddressPool)


def test_the_usual_ttl() -> None:
    """Where both families are as good."""
    families = SimulatedFamilies()
    families.put_both(20, 20)
    families.settled()
    entry = families.cache.held(SIX.key)
    assert entry is not None
    chosen = families.families.chosen(SIX, entry.answer, 600, 0.02, families.clock.seconds())
    assert chosen == (entry.answer, 600)


def test_a_negative_stays() -> None:
    """There is nothing to suppress."""
    families = SimulatedFamilies()
    negative = no_such_name()
    assert families.families.chosen(SIX, negative, 60, 0.02, 1000.0) == (negative, 60)


WWW_HTTPS = ask("www.example.", "HTTPS")


@pytest.mark.parametrize(
    ("data", "left"),
    [
        ("1 . ipv4hint=203.0.113.20 ipv6hint=2606:4700::3c", [["203.0.113.20"]]),
        ("1 . ipv6hint=2606:4700::3c", []),
        ("1 . mandatory=ipv6hint ipv6hint=2606:4700::3c", [["2606:4700::3c"]]),
        ("1 other.example. ipv6hint=2606:4700::3c", [["2606:4700::3c"]]),
    ],
)
def test_hints_go_with_their_addresses(data: str, left: list[list[str]]) -> None:
    """Those of a name that is not suppressed stay, and mandatory ones."""
    families = SimulatedFamilies()
    families.put_both(20, 60)
    answer = service_answer(WWW_HTTPS, data, owner="www.example.")
    now = families.clock.seconds()
    found, ttl = families.families.chosen(WWW_HTTPS, answer, 300, 0.02, now)
    assert found is answer
    families.settled()
    now = families.clock.seconds()
    found, ttl = families.families.chosen(WWW_HTTPS, answer, 300, 0.02, now)
    assert isinstance(found, SectionsAnswer)
    assert hinted(given(found, name="www.example.")) == left
    assert ttl == (SHORT_TTL if found is not answer else 300)


@pytest.mark.parametrize("target", ["cdn.example.", "other.example."])
def test_hints_of_an_alias(target: str) -> None:
    """Where a name leads to the records by CNAMEs, its own addresses tell what becomes of hints."""
    families = SimulatedFamilies()
    now = families.clock.seconds()
    for question, address in ((FOUR, near(20)), (SIX, near6(60))):
        chain = (name("CDN.example"),)
        answer = AddressPool(chain, packed(address), 86_000, ad=False, cname_life=86_000)
        families.cache.commit(question.key, 1, answer, now)
        families.cache.complete(question.key, 1, 86_000, 86_000)
    families.verdict()
    families.settled()
    records = [
        f"www.example. 300 CNAME {target}",
        f"{target} 300 HTTPS 1 . ipv6hint=2606:4700::3c",
    ]
    _, service = Judge(WWW_HTTPS).verdict(upstream_reply(WWW_HTTPS, records))
    assert isinstance(service, SectionsAnswer)
    now = families.clock.seconds()
    found, _ = families.families.chosen(WWW_HTTPS, service, 300, 0.02, now)
    is_left = target == "other.example."
    assert (found is service) == is_left
    assert families.families.suppressed(WWW_HTTPS, service, None, now) != is_left
