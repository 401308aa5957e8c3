"""The upstreams of the benchmark: which addresses each of them knows."""

from __future__ import annotations

import itertools
import re

from bench import load
from bench.authority import UPSTREAMS, ZONE, own, same

POOLS = [[f"198.18.{distance}.{host}" for distance in range(15)] for host in (1, 2)]


def addresses(text: str, owner: str) -> list[str]:
    """The addresses that a zone file has for an owner name."""
    return re.findall(rf"^{re.escape(owner)} A (\S+)$", text, re.MULTILINE)


def test_upstreams_with_the_same_addresses() -> None:
    """One nsd listens for all of them."""
    (zone,) = same(["192.0.2.5", "192.0.2.6"])
    assert zone.addresses == UPSTREAMS
    assert addresses(zone.text(), "*") == ["192.0.2.5", "192.0.2.6"]


def test_upstreams_with_addresses_of_their_own() -> None:
    """The pool of a name is what all of them know together; no two know the same."""
    zones = own(POOLS)
    assert [zone.addresses for zone in zones] == [[upstream] for upstream in UPSTREAMS]
    for number, pool in enumerate(POOLS):
        shares = [addresses(zone.text(), f"*.p{number}") for zone in zones]
        assert [len(share) for share in shares] == [3] * 5
        assert sorted(itertools.chain(*shares)) == sorted(pool)


def test_upstreams_differ_in_their_ttls() -> None:
    """As caches do."""
    assert len({zone.ttl for zone in own(POOLS)}) == len(UPSTREAMS)


def test_names_take_turns_in_the_parts_of_a_zone() -> None:
    """So each pool has as many of them."""
    names = load.names("one", 3, start=7, pools=2)
    assert names == [
        f"one-000007.p1.{ZONE}",
        f"one-000008.p0.{ZONE}",
        f"one-000009.p1.{ZONE}",
    ]


def test_names_of_a_zone_without_parts() -> None:
    """Their addresses are those of the zone."""
    assert load.names("one", 1, start=7) == [f"one-000007.{ZONE}"]
