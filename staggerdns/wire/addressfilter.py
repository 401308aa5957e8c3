"""Addresses that upstreams' answers must not have, whatever the name: the operator says which.

One kind is left out of every answer (``addresses.ignore``), the other makes an answer NXDOMAIN
(``addresses.bogus_nxdomain``): some networks answer with an address of their own where there is no
such name. An IPv6 address that stands for an IPv4 address (mapped, NAT64, 6to4) counts as that one,
too. `Judge` applies the rules, wherever the reply comes from.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network

from staggerdns.wire.addresskinds import embedded_ipv4


class AddressFilter:
    """The rules about addresses: networks ``ignored``, and those that are ``bogus``.

    ``ignores_some``: whether there are any of the first kind.
    """

    __slots__ = ("ignores_some", "_ignored", "_bogus")

    def __init__(
        self,
        ignored: Iterable[IPv4Network | IPv6Network],
        bogus: Iterable[IPv4Network | IPv6Network],
    ) -> None:
        self._ignored = _by_size(ignored)
        self.ignores_some = any(self._ignored.values())
        self._bogus = _by_size(bogus)

    def ignores(self, address: bytes) -> bool:
        """Return whether an address (4 or 16 bytes) is to be left out of answers."""
        return _is_within(address, self._ignored)

    def is_bogus(self, address: bytes) -> bool:
        """Return whether an answer that has this address (4 or 16 bytes) is NXDOMAIN."""
        return _is_within(address, self._bogus)

    def concerns(self, address: bytes) -> bool:
        """Return whether there is any rule about an address (4 or 16 bytes)."""
        return self.ignores(address) or self.is_bogus(address)


# By octets of an address and by how many of its last bits do not count: the first bits of networks.
_Networks = dict[int, dict[int, set[int]]]


def _by_size(networks: Iterable[IPv4Network | IPv6Network]) -> _Networks:
    found: _Networks = {4: {}, 16: {}}
    for network in networks:
        rest = network.max_prefixlen - network.prefixlen
        first = int(network.network_address) >> rest
        found[network.max_prefixlen // 8].setdefault(rest, set()).add(first)
    return found


def _is_within(address: bytes, networks: _Networks) -> bool:
    value = int.from_bytes(address, "big")
    for rest, firsts in networks[len(address)].items():
        if value >> rest in firsts:
            return True
    inner = embedded_ipv4(address) if len(address) == 16 else None
    return inner is not None and _is_within(inner, networks)
