"""How networks of the configuration are written: like 192.168.0.0/16, or as one address, a
link-local one without its interface.
"""

from __future__ import annotations

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_MAPPED_PREFIX = 96
_WITH_INTERFACE = re.compile(r"%[^/]*")


class Network:
    """A range of addresses, written ``192.168.0.0/16`` or as one address.

    One of IPv4 addresses that are mapped into IPv6 is that of IPv4, as it is with addresses of
    clients (`client_address`). Raises `ValueError` for anything else, and for a link-local address
    with an interface, since that is not compared.
    """

    __slots__ = ("_range",)

    def __init__(self, text: str) -> None:
        if "%" in text:
            raise ValueError("expected no interface")
        self._range = _unmapped(ip_network(text))

    @property
    def addresses(self) -> IPv4Network | IPv6Network:
        """The range itself."""
        return self._range

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        return address in self._range

    @property
    def bounds(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Its first and last address: the version of IP, and the number."""
        addresses = self._range
        version = addresses.version
        return (version, int(addresses[0])), (version, int(addresses[-1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Network) and other._range == self._range

    def __hash__(self) -> int:
        return hash(self._range)

    def __str__(self) -> str:
        return str(self._range)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    """Return the IPv4 network that is mapped into an IPv6 one (RFC 4291 section 2.5.5.2), or else
    the network itself.
    """
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED_PREFIX:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            return IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))
    return network


def client_address(host: str) -> IPv4Address | IPv6Address:
    """Return the address of a client: without its zone, and as IPv4 if that is mapped into IPv6
    (RFC 4291 section 2.5.5.2).
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_network(text: str) -> Network:
    """Read a network, or one address. Raises `ValueError` that says what was expected."""
    try:
        return Network(text)
    except ValueError:
        expected = f"expected a network like 192.168.0.0/16, got {text!r}"
    bare = _WITH_INTERFACE.sub("", text)
    try:
        around = ip_network(bare, strict=False)
    except ValueError:
        raise ValueError(expected) from None
    because = "" if bare == text else " By which interface it is reached does not count here."
    raise ValueError(f"{expected}: did you mean {around}?{because}")
