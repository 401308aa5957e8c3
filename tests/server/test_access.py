"""Who may ask."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from staggerdns.server.access import MAX_REMEMBERED, Access
from staggerdns.settings.networks import Network


@pytest.mark.parametrize(
    ("network", "host", "allowed"),
    [
        ("192.0.2.0/24", "192.0.1.255", False),
        ("192.0.2.0/24", "192.0.2.0", True),
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "192.0.3.0", False),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("0.0.0.0/0", "203.0.113.1", True),
        ("0.0.0.0/0", "2001:db8::1", False),
        ("::/0", "2001:db8::1", True),
        ("::/0", "203.0.113.1", False),
        ("2001:db8::/32", "2001:db8:ffff::1", True),
        ("2001:db8::/32", "2001:db9::", False),
        ("::1", "::1", True),
        ("fe80::/10", "fe80::1%eth0", True),
        ("2001:db8::/32", "fe80::1%eth0", False),
        ("192.0.2.0/24", "::ffff:192.0.2.1", True),
        ("192.0.2.0/24", "::ffff:192.0.3.1", False),
        ("::/0", "::ffff:192.0.2.1", False),
        ("::ffff:192.0.2.0/120", "192.0.2.255", True),
        ("::ffff:192.0.2.0/120", "::ffff:192.0.2.255", True),
        ("::ffff:192.0.2.0/120", "192.0.3.0", False),
        ("::ffff:0:0/96", "203.0.113.1", True),
        ("::ffff:0:0/96", "::1", False),
        ("::fffe:0:0/95", "203.0.113.1", False),
        ("::fffe:192.0.2.1", "192.0.2.1", False),
    ],
)
def test_ranges(network: str, host: str, allowed: bool) -> None:
    """A range holds its first and its last address; a mapped address counts as IPv4."""
    access = Access([Network("203.0.113.99"), Network(network)])
    assert [access.allows(host), access.allows(host)] == [allowed, allowed]


def test_nobody() -> None:
    """Without ranges nobody may ask."""
    assert not Access([]).allows("127.0.0.1")


NO_RANGES = [
    *("", "192.0.2.1/24", "192.0.2.0/33", "example.com", "::/129", "1"),
    *("fe80::1%eth0", "fe80::%eth0/64", "192.0.2.1%eth0"),
]


@pytest.mark.parametrize("text", NO_RANGES)
def test_what_is_no_range(text: str) -> None:
    """A range with host bits set, with an interface, or none at all, is an error."""
    with pytest.raises(ValueError):  # noqa: PT011 (the text is ipaddress's)
        Network(text)


@pytest.mark.parametrize("text", ["192.0.2.0/24", "2001:db8::/32", "::1/128"])
def test_text_of_a_range(text: str) -> None:
    """A range is shown as it is written."""
    assert str(Network(text)) == text


def test_only_the_allowed_are_remembered() -> None:
    """Strangers, who could be anybody, take no memory."""
    access = Access([Network("192.0.2.0/24")])
    for number in range(256):
        access.allows(f"198.51.100.{number}")
    assert not access.remembered
    access.allows("192.0.2.1")
    assert access.remembered == {"192.0.2.1"}


def test_memory_limit() -> None:
    """`MAX_REMEMBERED` addresses are remembered; one more makes the memory start anew."""
    access = Access([Network("10.0.0.0/8")])
    first = ip_address("10.0.0.0")
    for number in range(MAX_REMEMBERED):
        assert access.allows(str(first + number))
    assert len(access.remembered) == MAX_REMEMBERED
    assert access.allows(str(first))
    assert len(access.remembered) == MAX_REMEMBERED
    assert access.allows("10.255.0.1")
    assert access.remembered == {"10.255.0.1"}
    assert access.allows(str(first))
