"""NXDOMAIN and NODATA: with the upstream's SOA, quickly, for the time that it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually, stays
from tests.kit.program import merged
from tests.kit.testbed import PATIENT, SOON, Testbed, own_answer, own_set

if TYPE_CHECKING:
    from .conftest import BuildTestbed


@pytest.mark.parametrize("rdtype", ["A", "AAAA", "MX", "TXT", "HTTPS", "TYPE65280"])
@pytest.mark.parametrize("kind", ["NXDOMAIN", "NOERROR"])
def test_negative_answers(testbed: Testbed, rdtype: str, kind: str) -> None:
    """NXDOMAIN and NODATA come in about one round trip, with the upstream's own SOA."""
    record = b.soa(50, 40, serial=4711)
    behaviour = (b.nxdomain if kind == "NXDOMAIN" else b.nodata)(record, after=0.01)
    name = testbed.route("negative", behaviour)
    first = testbed.ask(name, rdtype)
    assert first.seconds < SOON
    second = testbed.ask(name, rdtype)
    for reply in (first, second):
        assert reply.rcode == kind
        assert reply.message.answer == []
        found = reply.authority("SOA")
        assert found is not None
        assert found.name.to_text() == "example."
        assert " 4711 3600 600 86400 40" in found[0].to_text()
        assert 0 < found.ttl <= 40
    assert max(testbed.counts(name)) <= 2, "once, and once more in lower case"


def test_negative_is_cached_for_the_minimum_of_the_soa(testbed: Testbed) -> None:
    """A negative answer lives for min(SOA TTL, SOA minimum), and is asked for again after it."""
    name = testbed.route("soa", b.nxdomain(b.soa(900, 2)))
    testbed.ask(name)
    stays(lambda: testbed.ask(name).rcode, lambda rcode: rcode == "NXDOMAIN", 0.8)
    assert max(testbed.counts(name)) <= 2, "once, and once more in lower case"
    testbed.route("soa", b.answers("203.0.113.9"), name=name)
    eventually(lambda: testbed.ask(name).addresses == ["203.0.113.9"], timeout=8)


def test_negative_without_soa(testbed: Testbed) -> None:
    """No SOA is invented, and what has none is not kept (RFC 2308 section 5)."""
    for behaviour, rcode in ((b.nxdomain(None), "NXDOMAIN"), (b.nodata(None), "NOERROR")):
        name = testbed.route("nosoa", behaviour)
        reply = testbed.ask(name)
        assert reply.rcode == rcode
        assert reply.message.answer == []
        assert reply.message.authority == []
        testbed.route("nosoa", b.answers("203.0.113.9"), name=name)
        eventually(lambda: testbed.ask(name).addresses == ["203.0.113.9"], timeout=8)  # noqa: B023


def test_negative_waits_for_the_grace_only(build: BuildTestbed) -> None:
    """NXDOMAIN does not wait for a silent active upstream longer than negative_grace."""
    testbed = build([b.nxdomain(after=0.01), b.silent, *[b.nxdomain(after=5.0)] * 3], PATIENT)
    reply = testbed.ask("www.example.")
    assert reply.rcode == "NXDOMAIN"
    assert 0.035 <= reply.seconds < SOON


def test_negative_never_waits_for_the_staggered_tier(build: BuildTestbed) -> None:
    """When every active upstream says NXDOMAIN, the client hears it at once."""
    testbed = build(
        [b.nxdomain(after=0.01)] * 2 + [own_answer(2, 4)],
        merged(PATIENT, {"upstream": {"parallel": {"negative_grace": "4s"}}}),
    )
    reply = testbed.ask("www.example.")
    assert reply.rcode == "NXDOMAIN"
    assert reply.seconds < SOON


def test_positive_wins_in_the_grace(build: BuildTestbed) -> None:
    """A positive answer that comes within negative_grace wins over the negative one."""
    testbed = build(
        [b.nodata(after=0.005), own_answer(1, 0.1), b.nodata(), b.nodata()],
        {"upstream": {"parallel": {"negative_grace": "2s"}}},
    )
    reply = testbed.ask("www.example.")
    assert set(reply.addresses) == set(own_set(1))
    assert reply.seconds >= 0.1


def test_failure_does_not_end_a_negative(build: BuildTestbed) -> None:
    """One active upstream fails, the other says NXDOMAIN: NXDOMAIN, with its SOA."""
    testbed = build([b.rcode("SERVFAIL"), b.nxdomain(after=0.02), b.rcode("REFUSED")])
    reply = testbed.ask("www.example.")
    assert reply.rcode == "NXDOMAIN"
    assert reply.authority("SOA") is not None
