"""Which rules count for a client, and in which order routes of its group and of all do."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, ip_address
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from staggerdns.config import parse_config
from staggerdns.journal import Journal
from staggerdns.policy.domainfiles import CHECK_EVERY
from staggerdns.policy.domains import finish
from staggerdns.policy.groups import GroupRoutes, Groups
from staggerdns.policy.scope import NO_SUCH_NAMES, Scopes, default_scope
from staggerdns.settings.addresses import Listener, parse_listener
from staggerdns.settings.networks import Network
from staggerdns.settings.policy import GroupSettings
from tests.kit.acts import TXT, A, name

if TYPE_CHECKING:
    from pathlib import Path

    from staggerdns.policy.rules import Rules

FRONT = parse_listener("127.0.0.1:5300")
BACK = parse_listener("tls://127.0.0.1:5300")


class Grouped:
    """Groups whose rules are their names."""

    def __init__(self, **settings: GroupSettings) -> None:
        names = {"default", *settings}
        rules = cast("dict[str, Rules]", {one: one for one in names})
        self.groups = Groups(settings, rules)

    def find(self, host: str, listener: Listener | None = None) -> str:
        """The group of a client."""
        return str(self.groups.find(host, listener))


def group(*networks: str, listeners: tuple[Listener, ...] = ()) -> GroupSettings:
    """The settings of a group of these clients."""
    return GroupSettings(clients=tuple(map(Network, networks)), listeners=listeners)


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ("10.2.3.4", "wide"),
        ("10.1.3.4", "middle"),
        ("10.1.2.4", "narrow"),
        ("10.1.2.3", "one"),
        ("11.0.0.1", "default"),
        ("::ffff:10.1.2.3", "one"),
        ("::ffff:11.0.0.1", "default"),
        ("fd00::1", "wide"),
        ("fd00:0:0:1::1", "middle"),
        ("fe80::1%eth0", "one"),
        ("fe80::1", "one"),
        ("fe80::2%eth0", "default"),
        ("::a01:203", "default"),
    ],
)
def test_the_longest_network_counts(host: str, found: str) -> None:
    """Of both versions, whatever the order; of mapped addresses the IPv4 address does, and a zone
    does not.
    """
    settings = {
        "wide": group("10.0.0.0/8", "fd00::/16"),
        "one": group("10.1.2.3", "fe80::1"),
        "middle": group("10.1.0.0/16", "fd00:0:0:1::/64"),
        "narrow": group("10.1.2.0/24"),
    }
    assert Grouped(**settings).find(host) == found
    assert Grouped(**dict(reversed(settings.items()))).find(host) == found


def test_everybody() -> None:
    """A network may have all addresses of its version."""
    grouped = Grouped(all=group("0.0.0.0/0"), mine=group("10.0.0.0/8"))
    assert [grouped.find(host) for host in ("192.0.2.1", "10.0.0.1", "fd00::1")] == [
        "all",
        "mine",
        "default",
    ]


def test_listeners() -> None:
    """They count for clients of no network, and are one place each: port, address and protocol."""
    grouped = Grouped(guests=group(listeners=(FRONT,)), kids=group("10.0.0.0/8", listeners=(BACK,)))
    found = {
        (host, listener): grouped.find(host, listener)
        for host in ("10.0.0.1", "192.0.2.1")
        for listener in (FRONT, BACK, None, parse_listener("127.0.0.1:5301"))
    }
    assert list(found.values()) == ["kids"] * 4 + ["guests", "kids", "default", "default"]
    assert grouped.find("192.0.2.1", parse_listener("127.0.0.1:5300")) == "guests"


NETWORKS = st.builds(
    lambda number, length: IPv4Network((number >> (32 - length) << (32 - length), length)),
    st.integers(0, 255).map(lambda number: 0x0A000000 | number),
    st.integers(24, 32),
)


@given(st.dictionaries(NETWORKS, st.sampled_from("abc")), st.integers(0, 255), st.booleans())
def test_against_a_search(owners: dict[IPv4Network, str], last: int, mapped: bool) -> None:
    """Groups find what a search through all networks does."""
    address = ip_address(f"10.0.0.{last}")
    having = [network for network in owners if address in network]
    expected = max(having, key=lambda one: one.prefixlen, default=None)
    settings = {
        owner: group(*[str(network) for network in owners if owners[network] == owner])
        for owner in "abc"
    }
    host = str(IPv6Address(0xFFFF << 32 | int(address))) if mapped else str(address)
    found = Grouped(**settings).find(host)
    assert found == (owners[expected] if expected is not None else "default")


# Routes of groups.

OWN, COMMON, OTHER = 1, 2, 3
CONFIG = """
upstream: {servers: [192.0.2.1]}
routes:
  - {domains: [corp.example, '*.wild.example', b.a.kids.example], servers: [10.0.0.2]}
  - {domains: [gone.example], servers: []}
  - {single_label: true, servers: [10.0.0.2]}
groups:
"""
KIDS = """
  kids:
    clients: [10.0.0.0/8]
    routes: [{domains: [kids.example, x.corp.example, a.gone.example], servers: [10.0.0.1]}]
"""


class Routed:
    """Routes of groups made from YAML, on a clock; scopes by the last octet of their servers."""

    def __init__(self, groups: str, config: str = CONFIG) -> None:
        self.clock = Clock()
        found = parse_config(config + groups)
        self.scopes = Scopes(default_scope(found))
        self.routes = GroupRoutes(found, self.scopes, self.clock, Journal("error"))
        finish(self.routes.load())
        self.routes.watch()

    def _shown(self, number: int | None) -> int | None:
        if number is None or number == NO_SUCH_NAMES:
            return number
        return int(str([*self.scopes][number].servers[0].endpoint.host).rpartition(".")[2])

    def find(self, text: str, of: str = "kids") -> int | None:
        """Where a domain leads a name of a client of this group to."""
        return self._shown(self.routes.of(of).find(name(text)))

    def single(self, text: str, qtype: int = A, of: str = "kids") -> int | None:
        """Where a name leads to by its one label."""
        return self._shown(self.routes.of(of).find_single_label(name(text), qtype))


def test_own_routes_come_first() -> None:
    """Whatever is longer among the common ones; what they do not claim is the common ones'."""
    routed = Routed(KIDS)
    expected = {
        "kids.example": (OWN, None),
        "b.a.kids.example": (OWN, COMMON),
        "x.corp.example": (OWN, COMMON),
        "y.corp.example": (COMMON, COMMON),
        "z.wild.example": (COMMON, COMMON),
        "gone.example": (NO_SUCH_NAMES, NO_SUCH_NAMES),
        "b.a.gone.example": (OWN, NO_SUCH_NAMES),
        "www.example": (None, None),
    }
    for text, (own, common) in expected.items():
        assert (routed.find(text), routed.find(text, "default")) == (own, common), text
    assert (routed.single("nas"), routed.single("nas", TXT)) == (COMMON, COMMON)
    assert routed.routes.of("kids").zone(name("b.gone.example")) == len(name("gone.example"))
    assert routed.routes.of("kids").zone(name("x.kids.example")) == len(name("kids.example"))


def test_own_single_labels() -> None:
    """They take the place of the common ones, but not of a common domain with one label."""
    config = CONFIG.replace("domains: [corp.example", "domains: [intra, corp.example")
    routed = Routed(
        "  kids: {clients: [10.0.0.0/8], routes: [{single_label: true, servers: [10.0.0.1]}]}",
        config,
    )
    assert (routed.single("nas"), routed.single("nas", of="default")) == (OWN, COMMON)
    assert (routed.find("intra"), routed.find("nas")) == (COMMON, None)
    assert routed.routes.of("kids").number(name("intra"), A) == routed.routes.of("default").number(
        name("intra"), A
    )


def test_what_a_group_does_not_say() -> None:
    """The routes of the default group count for it; with ``[]`` it has the common ones alone."""
    default = "  default: {routes: [{domains: [corp.example], servers: [10.0.0.3]}]}\n"
    plain, none = "{clients: [10.1.0.0/16]}", "{clients: [10.2.0.0/16], routes: []}"
    for groups in (
        f"{default}  plain: {plain}\n  none: {none}\n{KIDS}",
        f"{KIDS}  none: {none}\n  plain: {plain}\n{default}",
    ):
        routed = Routed(groups)
        found = [routed.find("corp.example", of) for of in ("default", "plain", "none", "kids")]
        assert found == [OTHER, OTHER, COMMON, COMMON]
        assert routed.find("x.corp.example") == OWN
        assert routed.routes.of("plain") is routed.routes.default


def test_equal_ways_of_asking_are_one() -> None:
    """Groups that ask the same servers by the same rules share the scope, and so the answers."""
    routes = "routes: [{domains: [corp.example], servers: [10.0.0.2]}]"
    routed = Routed(f"  a: {{clients: [10.1.0.0/16], {routes}}}\n  b: {{clients: [10.2.0.0/16]}}")
    numbers = {routed.routes.of(one).find(name("corp.example")) for one in "ab"}
    assert len(numbers) == 1
    assert len(routed.scopes) == 2


def test_files_of_all_routes(tmp_path: Path) -> None:
    """Those of every group are reread, and of the common ones although nobody is left to them."""
    own, common = tmp_path / "own", tmp_path / "common"
    own.write_text("own.example\n")
    common.write_text("common.example\n")
    config = (
        "upstream: {servers: [192.0.2.1]}\n"
        f"routes: [{{domain_files: [{common}], servers: [10.0.0.2]}}]\ngroups:\n"
    )
    own_routes = f"routes: [{{domain_files: [{own}], servers: [10.0.0.1]}}]"
    routed = Routed(f"  default: {{{own_routes}}}\n", config)
    assert routed.routes.reads_files
    assert not Routed(KIDS).routes.reads_files
    assert (routed.find("own.example", "default"), routed.find("common.example", "default")) == (
        OWN,
        COMMON,
    )
    for path, text in ((own, "own.example\nown2.example\n"), (common, "common2.example\n")):
        path.write_text(text)
    routed.routes.reread()
    for _ in range(2):
        routed.clock.advance(CHECK_EVERY)
    assert routed.find("own2.example", "default") == OWN
    assert routed.find("common2.example", "default") == COMMON
