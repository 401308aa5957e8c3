"""Names of both families, near and far and broken, as clients meet them in the test internet."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.kit import behaviours as b
from tests.kit.clients import eventually
from tests.kit.effort import amount
from tests.kit.internet.hosts import Kind, near, near6, special, special6
from tests.kit.services import hinted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.internet.conftest import BuildTestbed
    from tests.kit.internet.testbed import InternetTestbed
    from tests.kit.internet.world import Probe, World
    from tests.kit.scripted import Action, Behaviour, Query

SETTINGS = {
    "families": {"prefer": "auto"},
    "groups": {"ipv6only": {"clients": ["127.0.0.2/32"], "families": {"prefer": "none"}}},
}
IPV6_ONLY = "127.0.0.2"
HEAD_START = 0.25
"""Seconds that a client with happy eyeballs gives IPv6 (RFC 8305 section 8)."""
FOUND_OUT = 15.0
"""Seconds within which families have been compared, on a machine that is busy."""
GAP = 0.05
"""Seconds by which a client may be slower than the best."""
SAMPLES = 3
"""Handshakes with an address before families are compared, by default."""
AN_HOUR = 12
"""Measurements of an address in an hour in which clients always ask for it, by default."""
A_SHORT_HOUR = 40.0
"""Seconds that as many take at most where round trips are old after one, half of it at rest."""


def both(four: str, six: str, service: str = "1 .") -> Behaviour:
    """Answer with these addresses, and with an HTTPS record."""
    by_family, https = b.answers(four, six), b.records((None, 300, "HTTPS", service))

    def behave(query: Query) -> Sequence[Action]:
        return (https if query.rdtype == "HTTPS" else by_family)(query)

    return behave


def known(testbed: InternetTestbed, label: str, four: str, six: str, **more: str) -> str:
    """Make a name, and have somebody ask for all that it has."""
    name = testbed.everywhere(label, both(four, six, **more))
    for rdtype in ("A", "AAAA", "HTTPS"):
        testbed.ask(name, rdtype)
    return name


def suppressed(testbed: InternetTestbed, name: str) -> None:
    """Wait until clients get no IPv6 addresses of a name."""
    eventually(
        lambda: testbed.ask(name, "AAAA").addresses, lambda addresses: addresses == [], FOUND_OUT
    )


def compared(testbed: InternetTestbed, world: World, name: str, *addresses: str) -> None:
    """Have clients ask for a name until all of its addresses have been connected to."""

    def missing() -> list[str]:
        testbed.ask(name, "AAAA")
        seen = world.probes(addresses)
        return [one for one in addresses if not seen["tcp:443", one]]

    eventually(missing, lambda left: not left, FOUND_OUT)
    time.sleep(1.5)  # handshakes, further samples, and the second of a ready reply


def connects(addresses: Sequence[str]) -> float:
    """Connect to the first address that accepts it; the seconds that this takes."""
    began = time.monotonic()
    for address in addresses:
        try:
            with socket.create_connection((address, 443), timeout=5):
                return time.monotonic() - began
        except OSError:
            continue
    raise AssertionError("nobody accepts a connection")


def connects_eagerly(four: Sequence[str], six: Sequence[str]) -> float:
    """Connect as clients with happy eyeballs do: to both families, with IPv6 ahead."""
    took: list[float] = []
    done = threading.Event()
    began = time.monotonic()

    def attempt(addresses: Sequence[str]) -> None:
        connects(addresses)
        took.append(time.monotonic() - began)
        done.set()

    threads = []
    for addresses in filter(None, (six, four)):
        threads.append(threading.Thread(target=attempt, args=(addresses,), daemon=True))
        threads[-1].start()
        if done.wait(HEAD_START):
            break
    assert done.wait(10)
    return min(took)


def test_a_black_hole_behind_a_good_name(build: BuildTestbed, world: World, host: int) -> None:
    """Echoes come back from its IPv6 address, connections do not: whether clients try both families
    or one after the other, they are as fast as with IPv4 alone.
    """
    testbed = build(SETTINGS, upstreams=2)
    four, six = near(40, host), special6(Kind.ICMP_ONLY, 10, host)
    name = known(testbed, "black-hole", four, six)
    suppressed(testbed, name)
    best = connects([four])
    for _ in range(3):
        answers = {rdtype: testbed.ask(name, rdtype).addresses for rdtype in ("A", "AAAA")}
        assert answers == {"A": [four], "AAAA": []}
        assert connects(answers["AAAA"] + answers["A"]) < best + GAP
        assert connects_eagerly(answers["A"], answers["AAAA"]) < best + GAP
    assert testbed.ask(name, "AAAA", source=IPV6_ONLY).addresses == [six], "it has nothing else"
    changes = testbed.program.metrics().value("staggerdns_family_changes_total", to="both")
    assert changes == 0


def test_ipv6_that_is_far(build: BuildTestbed, host: int) -> None:
    """Its addresses and its hints go, a mandatory hint excepted; a client that has IPv6 alone gets
    all of it.
    """
    testbed = build(SETTINGS, upstreams=2)
    four, six = near(20, host), near6(90, host)
    hints = f"ipv4hint={four} ipv6hint={six}"
    name = known(testbed, "far", four, six, service=f"1 . alpn=h2 {hints}")
    needed = known(testbed, "needed", four, six, service=f"1 . mandatory=ipv6hint {hints}")
    for one in (name, needed):
        suppressed(testbed, one)
        assert testbed.ask(one).addresses == [four]
        assert testbed.ask(one, "AAAA", source=IPV6_ONLY).addresses == [six]
        assert hinted(testbed.ask(one, "HTTPS", source=IPV6_ONLY).message) == [[four], [six]]
    services = testbed.ask(name, "HTTPS")
    assert (hinted(services.message), services.ttl) == ([[four]], 5)
    assert hinted(testbed.ask(needed, "HTTPS").message) == [[four], [six]]
    assert testbed.ask(name, "AAAA", do=True).addresses == [six]


@pytest.mark.parametrize(
    ("distance", "six"), [(60, 20), (20, 30), (60, 60)], ids=["nearer", "margin", "same"]
)
def test_ipv6_that_is_as_good(
    build: BuildTestbed, world: World, host: int, distance: int, six: int
) -> None:
    """Clients get both families."""
    testbed = build({"families": {"prefer": "auto", "margin": "40ms"}}, upstreams=2)
    addresses = near(distance, host), near6(six, host)
    name = known(testbed, "good", *addresses)
    compared(testbed, world, name, *addresses)
    for _ in range(3):
        assert testbed.ask(name, "AAAA").addresses == [addresses[1]]
        assert testbed.ask(name).addresses == [addresses[0]]


def test_ipv4_that_is_broken(build: BuildTestbed, world: World, host: int) -> None:
    """A is never suppressed, and nor is AAAA then, however far it is."""
    testbed = build(SETTINGS, upstreams=2)
    four, six = special(Kind.ICMP_ONLY, 10, host % 16), near6(150, host)
    name = known(testbed, "old", four, six)
    testbed.ask(name, "AAAA")
    compared(testbed, world, name, four, six)
    assert testbed.ask(name, "AAAA").addresses == [six]
    assert testbed.ask(name).addresses == [four]
    assert connects([six]) < 1


@pytest.mark.long
def test_jitter_around_the_margin(build: BuildTestbed, world: World, host: int) -> None:
    """Names whose IPv6 is farther by about the margin of 20 ms, with jitter of 4 ms on both ways:
    while round trips are measured as often as otherwise in an hour or more, a client sees each name
    change once at most, when both families become IPv4 alone, and some never do.
    """
    testbed = build({**SETTINGS, "ranking": {"rtt_cache_ttl": 1}}, upstreams=2)
    addresses: dict[str, tuple[str, str]] = {}
    for place in range(27):
        distance, gain = 60 + place, 17 + place // 3
        four = special(Kind.JITTERY, distance, host % 16)
        six = special6(Kind.JITTERY, distance + gain, host)
        addresses[known(testbed, f"by-{gain}", four, six)] = four, six
    every = [one for pair in addresses.values() for one in pair]
    answers = {name: [True] for name in addresses}
    start = len(world.log())
    requests: list[Probe] = []

    def measurements() -> int:
        for name, (_, six) in addresses.items():
            found = testbed.ask(name, "AAAA").addresses
            assert found in ([], [six])
            if answers[name][-1] != bool(found):
                answers[name].append(bool(found))
        requests.extend(world.log(start + len(requests)))
        seen = Counter(one.address for one in requests if one.method == "tcp:443")
        return min(seen[one] for one in every) // SAMPLES

    hours = amount(1, 5)
    eventually(measurements, lambda count: count >= hours * AN_HOUR, hours * A_SHORT_HOUR)
    changes = {name: len(states) - 1 for name, states in answers.items()}
    assert max(changes.values()) == 1, changes
    assert min(changes.values()) == 0, changes
    counted = testbed.program.metrics().value("staggerdns_family_changes_total")
    assert counted == sum(changes.values())
