"""Scopes as values, and their numbers (docs/specification.rst, Scopes)."""

from __future__ import annotations

import pytest

from staggerdns.config import parse_config
from staggerdns.policy.scope import (
    MAX_SCOPES,
    NO_SUCH_NAMES,
    Scope,
    Scopes,
    answers_digest,
    default_scope,
)
from staggerdns.settings.addresses import UpstreamAddress, parse_upstream
from staggerdns.settings.document import ConfigError
from staggerdns.settings.policy import RouteSettings
from staggerdns.wire.key import DEFAULT_SCOPE

UPSTREAM = "upstream: {servers: [192.0.2.1, 192.0.2.2]}\n"
CHANGES = {
    "servers": "servers: [10.0.0.1]",
    "subnet": "servers: [192.0.2.1, 192.0.2.2;ecs=198.51.100.0/24]",
    "no subnet": "servers: [192.0.2.1, 192.0.2.2;ecs=off]",
    "order": "servers: [192.0.2.2, 192.0.2.1]",
    "strategy": "servers: default, strategy: racing",
    "profile": "servers: default, profile: latency",
    "parallel": "servers: default, parallel: {max_pool_size: 7}",
    "fixed": "servers: default, parallel: {fallback_timeout: 200ms}",
    "ranked": "servers: default, ranking: {enabled: false}",
    "probe_private": "servers: default, ranking: {probe_private: true}",
    "max_addresses": "servers: default, ranking: {max_addresses: 1}",
    "prefer": "servers: default, families: {prefer: auto}",
    "margin": "servers: default, families: {margin: 5ms}",
    "strip": "servers: default, rebinding: {strip: true}",
    "allow_domains": "servers: default, rebinding: {allow_domains: [lan.example]}",
    "fallback": "servers: [10.0.0.1], fallback: true",
}
"""Routes each of which asks in a way of its own."""


def scopes_of(*routes: str, more: str = "") -> tuple[Scopes, list[int]]:
    """Return the scopes of a configuration with these routes, and where they lead."""
    listed = ", ".join(f"{{domains: [d{number}], {one}}}" for number, one in enumerate(routes))
    config = parse_config(f"{UPSTREAM}{more}\nroutes: [{listed}]\n")
    scopes = Scopes(default_scope(config))
    return scopes, [scopes.number(route) for route in config.routes]


def servers(count: int) -> tuple[UpstreamAddress, ...]:
    """Return this many upstreams."""
    return tuple(parse_upstream(f"10.0.{number >> 8}.{number & 255}") for number in range(count))


def test_every_rule_makes_a_scope_of_its_own() -> None:
    """Whatever is asked in another way has another number, and so have equal ways the same."""
    scopes, numbers = scopes_of(*CHANGES.values(), *CHANGES.values())
    assert numbers == [*range(1, len(CHANGES) + 1)] * 2
    assert len(scopes) == len(CHANGES) + 1


def test_what_a_route_does_not_say() -> None:
    """That is as for the whole program: who asks the same servers in the same way is in its scope,
    however that is written.
    """
    more = "rebinding: {strip: true}\nranking: {max_addresses: 3}"
    same = (
        "servers: default",
        "servers: [192.0.2.1, '192.0.2.2:53']",
        "servers: default, strategy: parallel, profile: balanced, parallel: {batch_size: 2}",
        "servers: default, rebinding: {strip: true}, ranking: {max_addresses: 3}",
        "servers: default, fallback: true",
    )
    assert scopes_of(*same, more=more)[1] == [DEFAULT_SCOPE] * len(same)


def test_the_profile_of_a_route() -> None:
    """It takes the place of the five numbers of the program; those that the route gives win."""
    config = parse_config(
        "upstream: {servers: [192.0.2.1], profile: latency, "
        "parallel: {batch_size: 7, max_pool_size: 9}}\n"
        "routes: [{domains: [a], servers: default, profile: balanced},"
        " {domains: [b], servers: default, profile: completeness, parallel: {batch_size: 5}},"
        " {domains: [c], servers: default, parallel: {stagger_delay: 1s}}]"
    )
    found = [route.parallel for route in config.routes]
    assert [
        (one.active_tier_size, one.batch_size, one.stagger_delay, one.max_pool_size)
        for one in found
        if one is not None
    ] == [(2, 2, 0.05, 9), (2, 5, 0.1, 9), (3, 7, 1.0, 9)]


def test_labels() -> None:
    """Each scope is called after what leads there first: a domain, a file or single labels."""
    scopes = Scopes(default_scope(parse_config(UPSTREAM)))
    addresses = servers(4)
    for route in (
        RouteSettings(servers=addresses[:1], domains=(b"\1*\3lan\7example\0", b"\1a\0")),
        RouteSettings(servers=addresses[:1], domains=(b"\1b\0",)),
        RouteSettings(servers=addresses[1:2], domain_files=("/etc/corp", "/etc/lab")),
        RouteSettings(servers=addresses[2:3], single_label=True),
        RouteSettings(servers=(), domains=(b"\1c\0",)),
    ):
        scopes.number(route)
    assert scopes.labels == {0: "", 1: "*.lan.example", 2: "/etc/corp", 3: "single_label"}


def test_no_such_names() -> None:
    """Without servers there is no scope."""
    scopes, numbers = scopes_of("servers: []")
    assert numbers == [NO_SUCH_NAMES]
    assert len(scopes) == 1


OTHER = "upstream: {servers: [192.0.2.9]}"
"""Other default upstreams."""


def digest(text: str, number: int = 0) -> bytes:
    """The digest of a scope of a configuration."""
    config = parse_config(text)
    scopes = Scopes(default_scope(config))
    for route in config.routes:
        scopes.number(route)
    return answers_digest([*scopes][number], scopes.default, config.addresses)


def test_the_digest_is_of_what_answers_come_from() -> None:
    """It is the same at every start, and for all ways of asking the same upstreams."""
    first = digest(UPSTREAM)
    assert len(first) == 16
    assert first.hex() == "cc9f0ad35a9befb393816380550acd56"
    for same in (
        "upstream: {servers: [192.0.2.2, 192.0.2.1]}",
        "upstream: {servers: [192.0.2.1, 192.0.2.2], strategy: racing, timeout: 2s}",
        UPSTREAM + "\nranking: {max_addresses: 1}\ncache: {max_ttl: 5}\n",
    ):
        assert digest(same) == first, same
    others = [
        "upstream: {servers: [192.0.2.1]}",
        "upstream: {servers: [192.0.2.1, 'tls://192.0.2.2']}",
        f"upstream: {{servers: [192.0.2.1, 'tls://192.0.2.2;pin-sha256={'A' * 43}=']}}",
        "upstream: {servers: [192.0.2.1, 192.0.2.2;ecs=off]}",
        "upstream: {servers: [192.0.2.1, 192.0.2.2;ecs=198.51.100.0/24]}",
        UPSTREAM + "\nranking: {enabled: false}\n",
        UPSTREAM + "\nranking: {probe_private: true}\n",
        UPSTREAM + "\nrebinding: {strip: true}\n",
        UPSTREAM + "\nrebinding: {allow_domains: [a]}\n",
        UPSTREAM + "\naddresses: {ignore: [10.0.0.0/8]}\n",
        UPSTREAM + "\naddresses: {bogus_nxdomain: [10.0.0.0/8]}\n",
        "upstream: {servers: [192.0.2.1, 192.0.2.2], parallel: {merge_private: true}}",
    ]
    assert len({first, *map(digest, others)}) == len(others) + 1


def test_the_digest_of_a_route_that_falls_back() -> None:
    """The default upstreams, and what is believed of them, are part of it."""
    route = "\nroutes: [{domains: [a], servers: [10.0.0.1], fallback: true}]\n"
    found = {
        digest(text + route, 1)
        for text in (
            UPSTREAM,
            "upstream: {servers: [192.0.2.9]}",
            UPSTREAM + "\nrebinding: {strip: true}",
        )
    }
    assert len(found) == 3
    plain = route.replace(", fallback: true", "")
    assert digest(UPSTREAM + plain, 1) == digest(OTHER + plain, 1)


def test_the_number_of_scopes() -> None:
    """As many as there may be have numbers; one more is an error that says what to do."""
    scopes = Scopes(default_scope(parse_config(UPSTREAM)))
    routes = [RouteSettings(servers=(server,)) for server in servers(MAX_SCOPES)]
    numbers = [scopes.number(route) for route in routes[:-1]]
    assert numbers == list(range(1, MAX_SCOPES))
    for _ in range(2):
        with pytest.raises(ConfigError, match="more than 1000 ways of asking: give routes"):
            scopes.number(routes[-1])
    assert scopes.number(routes[0]) == 1
    assert len(scopes) == MAX_SCOPES


def test_scopes_are_in_the_order_of_their_numbers() -> None:
    """The default is the first."""
    scopes, numbers = scopes_of("servers: [10.0.0.1]", "servers: [10.0.0.2]", "servers: [10.0.0.1]")
    assert numbers == [1, 2, 1]
    listed: list[Scope] = list(scopes)
    assert listed[0] is scopes.default
    assert [str(scope.servers[0]) for scope in listed] == [
        "192.0.2.1:53", "10.0.0.1:53", "10.0.0.2:53",
    ]  # fmt: skip
