"""Who counts as one client."""

from __future__ import annotations

import pytest

from staggerdns.server.clientgroups import MAX_REMEMBERED, ClientGroups
from staggerdns.settings.networks import Network
from staggerdns.settings.sections import ClientSettings


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8:0:ff:ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:100::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("0.0.0.1", "::1:0:0:0:0", False),
    ],
)
def test_prefixes(one: str, other: str, same: bool) -> None:
    """By default an IPv4 address is one client, an IPv6 /56 is, and the families are apart."""
    groups = ClientGroups(ClientSettings())
    assert (groups.find(one) == groups.find(other)) is same


@pytest.mark.parametrize("prefix", [16, 56, 128])
def test_link_local(prefix: int) -> None:
    """Neighbours on a link are one client each, whatever the prefix, and links are apart."""
    groups = ClientGroups(ClientSettings(ipv6_prefix=prefix))
    hosts = ["fe80::1", "fe80::2", "fe80::1%eth0", "fe80::2%eth0", "fe80::1%eth1", "fe80::1%2"]
    hosts += ["fe80::", "febf:ffff::1", "febf:ffff::2", "2001:db8::1", "fe7f::1", "fec0::1"]
    found = [groups.find(host) for host in hosts]
    assert len(set(found)) == len(hosts)
    assert found == [ClientGroups(ClientSettings(ipv6_prefix=prefix)).find(host) for host in hosts]
    assert groups.find("fe80:0::1%eth0") == groups.find("fe80::1%eth0")


def test_next_to_link_local() -> None:
    """The networks right below and above are sites like all others."""
    groups = ClientGroups(ClientSettings())
    for network in ("fe7f:ffff:ffff:ff00", "fec0:0:0:0"):
        assert groups.find(f"{network}::1") == groups.find(f"{network}::2")


def test_link_local_can_be_exempt() -> None:
    """A list that has the link-local network lets it be, with and without a zone."""
    groups = ClientGroups(ClientSettings(exempt=(Network("fe80::/10"),)))
    assert groups.find("fe80::1") is None
    assert groups.find("fe80::1%eth0") is None


@pytest.mark.parametrize(
    ("rules", "one", "other", "next_one"),
    [
        (ClientSettings(ipv4_prefix=24), "192.0.2.0", "192.0.2.255", "192.0.3.0"),
        (ClientSettings(ipv4_prefix=8), "10.0.0.0", "10.255.255.255", "11.0.0.0"),
        (ClientSettings(ipv6_prefix=64), "2001:db8::", "2001:db8::ffff:0:0:1", "2001:db8:0:1::"),
        (ClientSettings(ipv6_prefix=16), "2001::", "2001:ffff::", "2002::"),
        (ClientSettings(ipv6_prefix=128), "2001:db8::1", "2001:db8:0:0::1", "2001:db8::2"),
    ],
)
def test_other_prefixes(rules: ClientSettings, one: str, other: str, next_one: str) -> None:
    """A prefix of any length holds its first and its last address, and not the next one."""
    groups = ClientGroups(rules)
    assert groups.find(one) == groups.find(other)
    assert groups.find(next_one) != groups.find(one)


def test_exempt() -> None:
    """Loopback is exempt by default; another list takes its place."""
    assert ClientGroups(ClientSettings()).find("127.0.0.1") is None
    assert ClientGroups(ClientSettings()).find("::1") is None
    assert ClientGroups(ClientSettings()).find("192.0.2.1") is not None
    groups = ClientGroups(
        ClientSettings(
            exempt=(
                Network("192.0.2.0/24"),
                Network("2001:db8::/32"),
            )
        )
    )
    assert groups.find("127.0.0.1") is not None
    for host in ("192.0.2.1", "::ffff:192.0.2.1", "2001:db8:ffff::1"):
        assert groups.find(host) is None


def test_memory() -> None:
    """`MAX_REMEMBERED` addresses are remembered; one more makes the memory start anew."""
    groups = ClientGroups(ClientSettings())
    found = [groups.find(f"10.{n >> 8}.{n & 255}.1") for n in range(MAX_REMEMBERED)]
    assert len(set(found)) == len(groups.remembered) == MAX_REMEMBERED
    groups.find("10.0.0.1")
    assert len(groups.remembered) == MAX_REMEMBERED
    groups.find("192.0.2.1")
    assert len(groups.remembered) == 1
    assert groups.find("10.0.0.1") == found[0]
