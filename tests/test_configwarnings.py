"""What a configuration says and hardly means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from staggerdns.config import load_config, parse_config
from staggerdns.configwarnings import config_warnings, is_own_address
from tests.kit.certificates import CertificateAuthority
from tests.kit.checkout import ROOT

if TYPE_CHECKING:
    from pathlib import Path

OWN = {"127.0.0.1", "::1", "192.168.1.1", "fd00::1"}


def told(servers: str, more: str = "", listen: str = "['127.0.0.1:5300']") -> list[str]:
    """The lines about a configuration, on a machine with the addresses above."""
    text = f"server: {{listen: {listen}}}\nupstream: {{servers: {servers}{more}}}"
    return config_warnings(parse_config(text), OWN.__contains__)


def test_nothing_to_say() -> None:
    """The example file, the defaults, neighbours and other ports of this machine are meant."""
    assert config_warnings(load_config(str(ROOT / "etc" / "staggerdns.yaml"))) == []
    for servers in ("[1.1.1.1]", "['127.0.0.1:5301']", "['[::1]:5300']", "['127.0.0.2:5300']"):
        assert told(servers) == []
    assert told("['192.168.1.2:5300']", listen="['0.0.0.0:5300']") == []
    assert told("['[fd00::1]:5300']", listen="['0.0.0.0:5300']") == []
    assert told("['192.168.1.1:5300']", listen="['[::]:5300']") == []
    assert told("['tls://127.0.0.1:5300', 'tls://dns.example']") == []


@pytest.mark.parametrize(
    ("server", "listen"),
    [
        ("127.0.0.1:5300", "127.0.0.1:5300"),
        ("tcp://127.0.0.1:5300", "127.0.0.1:5300"),
        ("127.0.0.1", "127.0.0.1:53"),
        ("[::1]:5300", "[::1]:5300"),
        ("192.168.1.1:5300", "0.0.0.0:5300"),
        ("[fd00::1]:5300", "[::]:5300"),
    ],
)
def test_a_loop(server: str, listen: str) -> None:
    """An upstream or bootstrap resolver that is a listener of ours, by name or by wildcard."""
    said = f"is our own listener {listen}: queries would go round in circles"
    (line,) = told(f"[1.1.1.1, '{server}']", listen=f"['{listen}']")
    assert line.startswith("upstream.servers[1]: ")
    assert line.endswith(said)
    if "://" not in server:
        (line,) = told("[1.1.1.1]", f", bootstrap: ['{server}']", listen=f"['{listen}']")
        assert line.startswith("upstream.bootstrap[0]: ")
        assert line.endswith(said)


@pytest.mark.parametrize("scheme", ["tls", "https"])
def test_an_encrypted_loop(tmp_path: Path, scheme: str) -> None:
    """The same between encrypted ones, of the same kind only."""
    files = CertificateAuthority(tmp_path).issue("127.0.0.1")
    text = (
        f"server: {{listen: ['{scheme}://127.0.0.1:5300'], tls_certificate: {files.chain}, "
        f"tls_key: {files.key}}}\nupstream: {{servers: ['127.0.0.1:5300', 'tls://127.0.0.1:5300',"
        " 'https://127.0.0.1:5300/dns-query']}"
    )
    (line,) = config_warnings(parse_config(text), OWN.__contains__)
    assert line.startswith(f"upstream.servers[{['tls', 'https'].index(scheme) + 1}]: {scheme}://")


@pytest.mark.parametrize("server", ["0.0.0.0", "::", "[::]:5353", "tcp://0.0.0.0", "tls://0.0.0.0"])
def test_no_address(server: str) -> None:
    """The unspecified address is nobody's."""
    (line,) = told(f"[1.1.1.1, '{server}']")
    assert "is no address of a server" in line


@pytest.mark.parametrize(
    ("server", "private"),
    [
        ("1.1.1.1;ecs=192.168.0.0/16", True),
        ("tls://dns.example;ecs=fd00::/8", True),
        ("1.1.1.1;ecs=198.51.100.0/24", False),
        ("1.1.1.1;ecs=off", False),
        ("10.0.0.53;ecs=192.168.0.0/16", False),
    ],
)
def test_private_client_subnets(server: str, private: bool) -> None:
    """They say something to resolvers inside, and nothing to others."""
    lines = told(f"[8.8.8.8, '{server}']")
    assert ["which is private" in line for line in lines] == [True] * private


@pytest.mark.parametrize("server", ["224.0.0.251", "ff02::fb", "239.1.2.3:5353", "255.255.255.255"])
def test_addresses_of_many(server: str) -> None:
    """Nobody answers from a multicast or broadcast address."""
    (line,) = told(f"[1.1.1.1, '{server}']")
    assert line.startswith("upstream.servers[1]: ")
    assert "is an address of many" in line


def servers(count: int) -> str:
    """So many upstreams."""
    return f"[{', '.join(f'192.0.2.{number + 1}' for number in range(count))}]"


@pytest.mark.parametrize(
    ("count", "more", "late"),
    [
        (120, "", False),  # 59 batches, 50 ms apart
        (121, "", True),
        (122, "", True),
        (4, ", parallel: {stagger_delay: 2999ms}", False),
        (4, ", parallel: {stagger_delay: 3s}", True),
        (2, ", parallel: {stagger_delay: 3s}", False),  # no staggered tier
        (5, ", parallel: {stagger_delay: 2s}", True),
        (5, ", parallel: {stagger_delay: 2s, batch_size: 3}", False),
        (5, ", parallel: {stagger_delay: 2s}, strategy: auto", True),
        (5, ", parallel: {stagger_delay: 2s}, strategy: racing", False),
        (5, ", parallel: {fallback_timeout: 3s}", True),
        (5, ", parallel: {fallback_timeout: 2.9s}", False),
        (5, ", parallel: {fallback_timeout: auto}", False),
        (5, ", parallel: {max_fallback_timeout: 3s}", True),
        (5, ", parallel: {max_fallback_timeout: 2.9s}", False),
        (5, ", parallel: {max_fallback_timeout: 3s, fallback_timeout: 300ms}", False),
        (2, ", parallel: {fallback_timeout: 3s}", False),
    ],
)
def test_batches_that_come_too_late(count: int, more: str, late: bool) -> None:
    """Upstreams whose turn comes after the end of the collection are never asked."""
    lines = told(servers(count), more)
    assert len(lines) == late
    assert all(line.startswith("upstream.parallel.total_collect_timeout: ") for line in lines)


def test_own_addresses() -> None:
    """Addresses of this machine are told from others by the kernel, with and without IPv6."""
    for own in ("127.0.0.1", "127.9.9.9"):
        assert is_own_address(own)
    for other in ("192.0.2.1", "198.51.100.1", "2001:db8::1"):
        assert not is_own_address(other)


def test_lists_without_effect() -> None:
    """A list that no group names."""
    lists = "lists: {ads: {}, good: {}, idle: {}}\n"
    groups = "groups: {default: {block: [ads]}, kids: {clients: [10.0.0.0/8], allow: [good]}}\n"
    text = "upstream: {servers: [1.1.1.1]}\n" + lists
    line = "lists.idle: no group has it in block or allow: it has no effect"
    assert config_warnings(parse_config(text + groups), OWN.__contains__) == [line]
    assert len(config_warnings(parse_config(text), OWN.__contains__)) == 3


SEEN = "is a name of a route, but it is looked up at upstream.bootstrap, which sees it: "
ROUTES = (
    "routes:\n- {domains: [corp.example], servers: [10.0.0.53, 10.0.0.54]}\n"
    "- {domains: [www.corp.example], servers: default}\n"
    "- {domains: [gone.example], servers: []}\n"
)


@pytest.mark.parametrize(
    ("more", "paths"),
    [
        ("- {domains: [x.test], servers: ['tls://dns.corp.example']}", ["routes[3].servers[0]"]),
        ("- {domains: [x.test], servers: ['tls://dns.x.test']}", ["routes[3].servers[0]"]),
        ("- {domains: [x.test], servers: ['tls://dns.gone.example']}", ["routes[3].servers[0]"]),
        ("- {domains: [x.test], servers: ['https://DNS.Corp.Example/']}", ["routes[3].servers[0]"]),
        ("- {domains: [x.test], servers: ['tls://10.0.0.53#dns.corp.example']}", []),
        ("- {domains: [x.test], servers: ['tls://dns.example']}", []),
        ("- {domains: [x.test], servers: ['tls://www.corp.example']}", []),
        (
            (
                "groups: {kids: {clients: [10.0.0.0/8], routes: "
                "[{domains: [kids.example], servers: ['tls://dns.kids.example']}]}}"
            ),
            ["groups.kids.routes[0].servers[0]"],
        ),
        (
            (
                "lists: {ads: {urls: ['https://lists.example/a', 'https://x.CORP.example/a', "
                "'https://10.0.0.1/a']}}\ngroups: {default: {block: [ads]}}"
            ),
            ["lists.ads.urls[1]"],
        ),
    ],
)
def test_names_that_others_see(more: str, paths: list[str]) -> None:
    """An upstream or list server with a name of a route, which public resolvers are asked for."""
    config = parse_config(f"upstream: {{servers: [1.1.1.1]}}\n{ROUTES}{more}\n")
    lines = config_warnings(config, OWN.__contains__)
    assert [line.partition(": ")[0] for line in lines] == paths
    assert all(SEEN in line for line in lines)


def test_names_that_nobody_else_sees() -> None:
    """Whoever is asked for them may see them when he serves the route; all of them must."""
    for bootstrap, count in (("10.0.0.54", 0), ("10.0.0.54, 9.9.9.9", 2)):
        text = (
            f"upstream: {{servers: ['tls://a.corp.example'], bootstrap: [{bootstrap}]}}\n{ROUTES}"
            "- {domains: [x.test], servers: ['tls://b.corp.example']}\n"
        )
        lines = config_warnings(parse_config(text), OWN.__contains__)
        assert len(lines) == count
        assert all("as in tls://10.0.0.53#" in line for line in lines)


def test_names_in_files_of_domains(tmp_path: Path) -> None:
    """They count as those in the configuration; a route of names with one label does, too."""
    path = tmp_path / "domains"
    path.write_text("corp.example\n")
    for route, place in ((f"domain_files: [{path}]", 1), ("single_label: true", 2)):
        config = parse_config(
            "upstream: {servers: [1.1.1.1, 'tls://dns.corp.example', 'tls://router']}\n"
            f"routes: [{{{route}, servers: [10.0.0.53]}}]\n"
        )
        (line,) = config_warnings(config, OWN.__contains__)
        assert line.startswith(f"upstream.servers[{place}]: ")


@pytest.mark.parametrize(("group", "known"), [("root", True), ("there-is-no-such-group", False)])
def test_a_group_that_is_not_there(group: str, known: bool) -> None:
    """Nobody can be in it, so nobody may use the control socket by it."""
    text = f"upstream: {{servers: [1.1.1.1]}}\ncontrol: {{group: {group}}}"
    expected = [] if known else [f"control.group: this machine has no group {group}"]
    assert config_warnings(parse_config(text), OWN.__contains__) == expected


@pytest.mark.parametrize(
    ("network", "count"),
    [("192.0.2.1", 0), ("192.0.2.1/32", 0), ("192.0.2.0/31", 1), ("::1", 0), ("fd00::/127", 1)],
)
def test_proxies_that_are_networks(network: str, count: int) -> None:
    """Whoever speaks for others should be named alone."""
    server = f"server: {{proxy_protocol: [10.0.0.1, '{network}']}}\n"
    config = parse_config(server + "upstream: {servers: [1.1.1.1]}")
    lines = config_warnings(config, OWN.__contains__)
    assert len(lines) == count
    for line in lines:
        assert line.startswith(f"server.proxy_protocol[1]: {network} is a network: ")
