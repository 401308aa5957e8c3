"""The client subnet that queries carry, and whether a reply is for it (RFC 7871)."""

from __future__ import annotations

from ipaddress import ip_network

import dns.edns
import dns.message
import pytest

from staggerdns.wire.clientsubnet import ClientSubnet

WWW = dns.message.make_query("www.example.", "A")


def reply(*options: dns.edns.Option) -> bytes:
    """A reply with these options."""
    made = dns.message.make_response(WWW)
    made.use_edns(0, options=list(options))
    return made.to_wire()


def ecs(text: str, scope: int = 0) -> dns.edns.Option:
    """The option for a subnet, as a reply has it."""
    address, _, length = text.partition("/")
    return dns.edns.ECSOption(address, int(length), scope)


def raw(octets: bytes) -> dns.edns.Option:
    """An option with the code of client subnets that holds anything."""
    return dns.edns.GenericOption(dns.edns.OptionType.ECS, octets)


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("192.0.2.0/24", "0001 18 00 c00002"),
        ("192.0.2.129/32", "0001 20 00 c0000281"),
        ("192.0.2.128/25", "0001 19 00 c0000280"),
        ("128.0.0.0/1", "0001 01 00 80"),
        ("2001:db8:5:6700::/56", "0002 38 00 20010db8000567"),
        ("2001:db8::/57", "0002 39 00 20010db800000000"),
        ("0.0.0.0/0", "0001 00 00"),
        ("::/0", "0002 00 00"),
    ],
)
def test_what_is_sent(text: str, octets: str) -> None:
    """Family, prefix length, scope 0, and no more octets of the address than the prefix needs
    (section 6).
    """
    data = bytes.fromhex(octets)
    option = ClientSubnet(ip_network(text)).option
    assert option == b"\0\x08" + len(data).to_bytes(2, "big") + data
    assert option[4:] == ecs(text).to_wire()


@pytest.mark.parametrize("scope", [0, 8, 24, 32])
def test_a_reply_for_this_subnet(scope: int) -> None:
    """Whatever network it holds for, and whatever else it has."""
    subnet = ClientSubnet(ip_network("192.0.2.0/24"))
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"\0\x08" * 4)
    assert subnet.fits(reply(ecs("192.0.2.0/24", scope)))
    assert subnet.fits(reply(cookie, ecs("192.0.2.0/24", scope), cookie))


def test_a_reply_without_any_subnet() -> None:
    """It is for all of them (section 7.3)."""
    subnet = ClientSubnet(ip_network("192.0.2.0/24"))
    assert subnet.fits(reply())
    assert subnet.fits(dns.message.make_response(WWW).to_wire())
    assert subnet.fits(reply(dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"\0\x08" * 4)))


@pytest.mark.parametrize(
    "wrong",
    [
        ecs("192.0.3.0/24"),
        ecs("192.0.2.0/25"),
        ecs("192.0.2.0/23"),
        ecs("0.0.0.0/0"),
        ecs("2001:db8::/24"),
        raw(bytes.fromhex("0002 18 00 c00002")),
        raw(bytes.fromhex("0001 18 00 c0000200")),
        raw(bytes.fromhex("0001 18 00 c000")),
        raw(bytes.fromhex("0001 18 00")),
        raw(b""),
    ],
)
def test_a_reply_for_another_subnet(wrong: dns.edns.Option) -> None:
    """Another family, length or address, and no right option beside it makes it good."""
    subnet = ClientSubnet(ip_network("192.0.2.0/24"))
    right = ecs("192.0.2.0/24")
    assert not subnet.fits(reply(wrong))
    assert not subnet.fits(reply(right, wrong))
    assert not subnet.fits(reply(wrong, right))


def test_a_broken_reply_is_judged_elsewhere() -> None:
    """What cannot be read names no subnet."""
    subnet = ClientSubnet(ip_network("192.0.2.0/24"))
    message = reply(ecs("192.0.3.0/24"))
    assert not subnet.fits(message)
    data = 7  # octets of the option
    for size in range(len(message)):
        assert subnet.fits(message[:size]) or size >= len(message) - data


def test_nothing_was_told() -> None:
    """A server that was to tell nothing may say of which network it did (section 7.3)."""
    off = ClientSubnet(ip_network("0.0.0.0/0"))
    for text in ("0.0.0.0/0", "::/0", "192.0.2.0/24"):
        assert off.fits(reply(ecs(text)))
