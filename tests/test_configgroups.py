"""Groups of clients in a configuration: what may stand there, and what is said of the rest."""

from __future__ import annotations

import pytest

from staggerdns.config import parse_config
from staggerdns.configgroups import MAX_GROUPS
from staggerdns.configwarnings import config_warnings
from staggerdns.descriptors import others
from staggerdns.policy.scope import MAX_SCOPES
from staggerdns.settings.document import ConfigError
from staggerdns.settings.sections import Config

BASE = (
    "upstream: {servers: [192.0.2.1], strategy: racing}\n"
    "server: {listen: ['127.0.0.1:5300', '127.0.0.2:5300'], allow: [0.0.0.0/0, '::/0']}\n"
)
ROUTE = "{domains: [corp.example], servers: [10.0.0.53]}"


def config(groups: str, more: str = "") -> Config:
    """A configuration with these groups."""
    return parse_config(f"{BASE}groups: {groups}\n{more}")


def error(groups: str, more: str = "") -> str:
    """What is wrong with it."""
    with pytest.raises(ConfigError) as caught:
        config(groups, more)
    return str(caught.value)


def test_all_that_a_group_may_say() -> None:
    """Networks of both versions, listeners, routes; nothing at all for the default group."""
    groups = config(
        "{kids: {clients: [192.168.2.0/24, 'fd00:2::/64'], listeners: ['127.0.0.2:5300'],"
        f" routes: [{ROUTE}]}}, default: {{}}}}"
    ).groups
    kids = groups["kids"]
    assert list(map(str, kids.clients)) == ["192.168.2.0/24", "fd00:2::/64"]
    assert list(map(str, kids.listeners)) == ["127.0.0.2:5300"]
    assert kids.routes is not None
    assert len(kids.routes) == 1
    assert groups["default"].routes is None


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        (
            "{a: {clients: [10.0.0.0/8]}, b: {clients: [10.1.0.0/16, 10.0.0.0/8]}}",
            "groups.b.clients[1]: 10.0.0.0/8 belongs to groups.a already",
        ),
        (
            "{a: {clients: ['fd00::1']}, b: {clients: ['fd00::1/128']}}",
            "groups.b.clients[0]: fd00::1/128 belongs to groups.a already",
        ),
        (
            "{a: {clients: [10.0.0.0/8]}, b: {clients: ['::ffff:10.0.0.0/104']}}",
            "groups.b.clients[0]: 10.0.0.0/8 belongs to groups.a already",
        ),
        (
            "{a: {clients: ['::ffff:10.0.0.1', 10.0.0.1]}}",
            "groups.a.clients[1]: 10.0.0.1/32 is there already",
        ),
        (
            "{a: {clients: ['fe80::1%eth0']}, b: {clients: ['fe80::1%eth1']}}",
            "groups.a.clients[0]: expected a network like 192.168.0.0/16, got 'fe80::1%eth0'",
        ),
        (
            "{a: {clients: [10.0.0.0/8, 10.0.0.0/8]}}",
            "groups.a.clients[1]: 10.0.0.0/8 is there already",
        ),
        (
            "{a: {listeners: ['127.0.0.1:5300']}, b: {listeners: ['127.0.0.1:5300']}}",
            "groups.b.listeners[0]: 127.0.0.1:5300 belongs to groups.a already",
        ),
        (
            "{a: {listeners: ['127.0.0.1:5300', '127.0.0.1:5300']}}",
            "groups.a.listeners[1]: 127.0.0.1:5300 is there already",
        ),
        (
            "{a: {listeners: ['127.0.0.1:53']}}",
            "groups.a.listeners[0]: we do not listen on 127.0.0.1:53: expected one of server.",
        ),
        (
            "{a: {listeners: ['tls://127.0.0.1:5300']}}",
            "groups.a.listeners[0]: we do not listen on tls://127.0.0.1:5300: ",
        ),
        ("{default: {clients: [10.0.0.0/8]}}", "groups.default.clients: everybody who is in no"),
        ("{default: {listeners: ['127.0.0.1:5300']}}", "groups.default.listeners: everybody"),
        ("{a: {}}", "groups.a: nobody belongs to it: it needs clients or listeners"),
        ("{a: {cliens: [10.0.0.0/8]}}", "groups.a.cliens: unknown key: did you mean clients?"),
        ("{a: {client: [10.0.0.0/8]}}", "groups.a.client: unknown key: did you mean clients"),
        ("{a: {clients: [10.0.0.0/8], x: 1}}", "groups.a.x: unknown key"),
        (
            "{b: {clients: ['10.0.0.0']}, a: {clients: ['10.0.0.1/8']}}",
            "groups.a.clients[0]: expected a network like 192.168.0.0/16, got '10.0.0.1/8'",
        ),
        ("{a: {listeners: [x]}}", "groups.a.listeners[0]: expected an address and a port"),
        ("{default: {block: [ads]}}", "groups.default.block[0]: there is no list ads"),
        ("{a: {clients: ['::1'], allow: [b]}}", "groups.a.allow[0]: there is no list b"),
        ("{a: 5}", "groups.a: expected a map of keys and values, got a whole number"),
        ("{a: null}", "groups.a: expected a map of keys and values, got nothing"),
        ("[a]", "groups: expected a map of keys and values, got a list"),
        ("{5: {}}", "groups: expected text as a key"),
        ("{a: {clients: [10.0.0.0/8]}, a: {}}", "groups.a: this key is there twice"),
    ],
)
def test_what_is_wrong(groups: str, said: str) -> None:
    """The error names the place, and what to do."""
    assert error(groups).startswith(said)


@pytest.mark.parametrize("name", ["a", "x" * 64, "Kids-2_b", "0", "null"])
def test_names(name: str) -> None:
    """A name has letters, digits, ``-`` and ``_``, since it is a label of metrics."""
    assert name in config(f"{{'{name}': {{clients: [10.0.0.0/8]}}}}").groups


@pytest.mark.parametrize(
    "name", ["", "x" * 65, "a b", "a.b", "kinder\u00e9", "a\\n", '{"a"}', "a\n"]
)
def test_what_is_no_name(name: str) -> None:
    """Anything else is an error, in one line."""
    shown = name.encode("unicode_escape").decode().replace('"', '\\"')
    message = error(f'{{"{shown}": {{clients: [10.0.0.0/8]}}}}')
    assert message.startswith("groups: expected names of 1 to 64 letters, digits, - and _, got ")
    assert "\n" not in message


def test_how_many() -> None:
    """`MAX_GROUPS` groups, the default one included, and not one more."""
    some = [f"g{number}: {{clients: [10.0.{number}.0/24]}}" for number in range(MAX_GROUPS)]
    assert len(config(f"{{{', '.join(some)}}}").groups) == MAX_GROUPS
    said = error(f"{{default: {{}}, {', '.join(some)}}}")
    assert said == f"groups: at most {MAX_GROUPS}, got {MAX_GROUPS + 1}"


@pytest.mark.parametrize(
    ("routes", "said"),
    [
        ("[{servers: [10.0.0.53]}]", "[0]: no names go there"),
        (f"[{ROUTE}, {ROUTE}]", "[1].domains[0]: corp.example. belongs to groups.kids.routes[0]"),
        ("[{domains: [a], servers: [10.0.0.53], strateg: x}]", "[0].strateg: unknown key: did you"),
        ("[{domains: [a], servers: [10.0.0.53], strategy: x}]", "[0].strategy: expected parallel"),
        ("[{domains: [a], domain_files: [/none], servers: []}]", "[0].domain_files[0]: /none "),
        (
            "[{domains: [a], servers: default, parallel: {fallback_timeout: null}}]",
            "[0].parallel.fallback_timeout: expected auto",
        ),
        (
            "[{domains: [a], servers: default, parallel: {ask: some}}]",
            "[0].parallel.ask: expected all or learned",
        ),
        ("[5]", "[0]: expected a map"),
        ("5", ": expected a list"),
    ],
)
def test_routes_of_a_group(routes: str, said: str) -> None:
    """They are checked as the common ones are."""
    text = f"{{kids: {{clients: [10.0.0.0/8], routes: {routes}}}}}"
    assert error(text).startswith(f"groups.kids.routes{said}")


def test_what_routes_of_a_group_do_not_say() -> None:
    """That is as for the whole program; ``default`` stands for its servers, ``auto`` is known."""
    filled = config(
        "{kids: {clients: [10.0.0.0/8], routes: [{domains: [a], servers: default,"
        " parallel: {fallback_timeout: auto}}]}}"
    )
    routes = filled.groups["kids"].routes
    assert routes is not None
    assert routes[0].servers == filled.upstream.servers
    assert routes[0].parallel is not None
    assert routes[0].parallel.fallback_timeout is None
    assert routes[0].parallel.batch_size == filled.upstream.parallel.batch_size


def test_the_profile_of_a_route_takes_the_place_of_the_common_one() -> None:
    """All that the common one sets is as if it were not given."""
    for profile, asked in (("balanced", "all"), ("gentle", "learned"), ("latency", "all")):
        group = (
            f"{{kids: {{clients: [10.0.0.0/8], routes: [{{domains: [a], servers: default,"
            f" profile: {profile}}}]}}}}"
        )
        filled = parse_config(
            f"{BASE}groups: {group}".replace("strategy: racing", "profile: gentle")
        )
        routes = filled.groups["kids"].routes
        assert routes is not None
        assert routes[0].parallel is not None
        assert routes[0].parallel.ask == asked


def test_a_domain_of_a_group_may_be_a_common_one_too() -> None:
    """And another group's: they count for different clients."""
    group = f"{{clients: [10.NUMBER.0.0/16], routes: [{ROUTE}]}}"
    groups = ", ".join(f"g{number}: {group.replace('NUMBER', str(number))}" for number in range(3))
    assert len(config(f"{{{groups}}}", f"routes: [{ROUTE}]").groups) == 3


def test_all_routes_share_the_scopes_there_may_be() -> None:
    """Those of groups are counted with the others, and where there are too many it is said."""
    many = ", ".join(
        f"{{domains: [d{number}], servers: [10.1.{number >> 8}.{number & 255}]}}"
        for number in range(MAX_SCOPES - 2)
    )
    kids = "{kids: {clients: [10.0.0.0/8], routes: [%s]}}"
    config(kids % ROUTE, f"routes: [{many}]")
    said = error(kids % f"{ROUTE}, {{domains: [x], servers: [10.0.0.54]}}", f"routes: [{many}]")
    assert said.startswith(f"groups.kids.routes[1]: more than {MAX_SCOPES} ways of asking")


def test_servers_of_groups_count() -> None:
    """For descriptors, pins and warnings they are like those of other routes."""
    plain = "{kids: {clients: [10.0.0.0/8]}}"
    routed = "{kids: {clients: [10.0.0.0/8], routes: [{domains: [a], servers: [%s]}]}}"
    once, twice = others(config(plain)), others(config(routed % "10.0.0.53, 10.0.0.54"))
    assert twice - once == 2 * (others(config(routed % "10.0.0.53")) - once) > 0
    (line,) = config_warnings(config(routed % "'127.0.0.1:5300'"))
    assert line.startswith("groups.kids.routes[0].servers[0]: 127.0.0.1:5300 is our own listener")


def test_clients_that_may_not_ask() -> None:
    """A network of a group that has nothing in common with ``server.allow`` is warned of."""
    base = BASE.replace("0.0.0.0/0, '::/0'", "192.168.0.0/16, 'fd00::/8'")
    text = "groups: {a: {clients: [192.168.1.1, 192.0.0.0/8, 'fd00::/64', 10.0.0.0/8, '::1']}}"
    lines = config_warnings(parse_config(base + text))
    assert lines == [
        f"groups.a.clients[{index}]: {network} may not ask: it is not within server.allow"
        for index, network in ((3, "10.0.0.0/8"), (4, "::1/128"))
    ]
