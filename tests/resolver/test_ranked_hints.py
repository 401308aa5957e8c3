"""Hints of HTTPS answers in the order of round trips, from the cache to the client
(docs/specification.rst, Hints).
"""

from __future__ import annotations

import pytest

from staggerdns.wire.question import Question
from tests.kit.messages import ask
from tests.kit.probing import silent, written
from tests.kit.ranked import SimulatedRankedCache, near
from tests.kit.services import given, hinted, service_answer

ASKED = ask(rdtype="HTTPS")
FAR, MIDDLE, NEAR = near(80), near(40), near(20)
FAR6, NEAR6 = "2606:4700::50", "2606:4700::10"
BOTH = f"1 . ipv4hint={FAR},{NEAR},{MIDDLE} ipv6hint={FAR6},{NEAR6}"
SETTLED = 5.0
"""Seconds after which every sort is over."""


def hints(cache: SimulatedRankedCache, question: Question = ASKED) -> tuple[list[list[str]], int]:
    """What a client gets now: the hints, and the TTL."""
    now = cache.clock.seconds()
    entry = cache.cache.lookup(question.key, now)
    assert entry is not None
    return hinted(given(entry.answer)), cache.cache.reply_ttl(entry, now)  # type: ignore[arg-type]


def test_in_order_when_sorted() -> None:
    """As they came at first, for a short while, and then the nearest first in each hint."""
    cache = SimulatedRankedCache()
    cache.store(service_answer(ASKED, BOTH), ASKED)
    assert hints(cache) == ([[FAR, NEAR, MIDDLE], [FAR6, NEAR6]], 5)
    cache.at(SETTLED)
    assert hints(cache) == ([[NEAR, MIDDLE, FAR], [NEAR6, FAR6]], 295)
    cache.ranking.assert_nothing_left()


def test_in_the_order_of_what_is_known() -> None:
    """Round trips belong to addresses: those of A and AAAA answers order a first reply."""
    cache = SimulatedRankedCache()
    cache.put(80, 40, 20)
    cache.at(SETTLED)
    sent = len(cache.ranking.sent)
    cache.store(service_answer(ASKED, f"1 . ipv4hint={FAR},{NEAR}"), ASKED)
    assert hints(cache) == ([[NEAR, FAR]], 300)
    cache.at(2 * SETTLED)
    assert len(cache.ranking.sent) == sent


def test_one_address_each_is_not_probed() -> None:
    """There is nothing to order."""
    cache = SimulatedRankedCache()
    cache.store(service_answer(ASKED, f"1 . ipv4hint={FAR} ipv6hint={FAR6}"), ASKED)
    assert hints(cache) == ([[FAR], [FAR6]], 300)
    cache.at(SETTLED)
    assert cache.ranking.sent == []


def test_never_with_do() -> None:
    """A signature covers the order: the answer is as it came, and probes nobody."""
    cache = SimulatedRankedCache()
    signed = ask(rdtype="HTTPS", do=True)
    cache.store(service_answer(signed, BOTH), signed)
    cache.at(SETTLED)
    assert hints(cache, signed)[0] == [[FAR, NEAR, MIDDLE], [FAR6, NEAR6]]
    assert cache.ranking.sent == []


@pytest.mark.parametrize(("probe_private", "expected"), [(False, 2), (True, 3)])
def test_private_hints(probe_private: bool, expected: int) -> None:
    """They are probed as other private addresses are."""
    cache = SimulatedRankedCache(probe_private=probe_private)
    cache.store(service_answer(ASKED, f"1 . ipv4hint=10.0.0.1,{FAR},{NEAR}"), ASKED)
    cache.at(SETTLED)
    assert len(cache.probed) == expected


@pytest.mark.parametrize(
    ("data", "ports"),
    [
        ("1 .", set()),
        ("1 . port=443", set()),
        ("1 . port=8443", {"tcp:8443"}),
        ("1 . port=80", set()),
    ],
)
def test_at_the_port_of_the_record(data: str, ports: set[str]) -> None:
    """Echoes come first; where nothing answers them a connection to the service does. One to
    another port says nothing about it.
    """
    cache = SimulatedRankedCache(silent, written, written, names=("icmp", "tcp:443", "tcp:80"))
    cache.store(service_answer(ASKED, f"{data} ipv4hint={FAR},{NEAR}"), ASKED)
    cache.at(SETTLED)
    assert hints(cache)[0] == [[NEAR, FAR]]
    assert set(cache.ranking.ports) - {"tcp:443", "tcp:80"} == ports
    icmp, https, http = cache.ranking.probes
    assert icmp.samples
    used = {probe.name for probe in (https, http, *cache.ranking.ports.values()) if probe.samples}
    port = data.partition("port=")[2] or "443"
    assert used == {f"tcp:{port}"}
    assert cache.metrics.probes.cell("tcp").value == (
        len(cache.ranking.ports["tcp:8443"].samples) if ports else 0
    )
