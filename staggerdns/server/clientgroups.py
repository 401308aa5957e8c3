"""Which addresses count as one client, for every limit that is per client.

They are grouped by network prefix: whoever has one address of it can have them all. IPv4 addresses
stand for themselves by default, since a whole home is one /24; of IPv6 a site gets a /56 or so.
Link-local addresses (RFC 4291 section 2.5.6) share their prefix with everybody on the same link, so
each of them is a group of its own; the same address on another link (RFC 4007) is another.
"""

from __future__ import annotations

from ipaddress import ip_network
from socket import AF_INET6, inet_aton, inet_pton

from staggerdns.settings.sections import ClientSettings

MAX_REMEMBERED = 16_384
"""Addresses whose group is remembered; when there are so many, all are forgotten."""

_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 in IPv6, RFC 4291 section 2.5.5.2
_LINK_LOCAL = 0xFE80 << 112, 0xFFC0 << 112  # network and mask

ClientGroup = int
"""A group's number; those of IPv6 are negative."""


class ClientGroups:
    """Groups clients by ``settings``.

    ``remembered`` holds addresses (text) whose group is known already; `None` is exempt.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self.remembered: dict[str, ClientGroup | None] = {}
        self._shift_4 = 32 - settings.ipv4_prefix
        self._shift_6 = 128 - settings.ipv6_prefix
        self._exempt_4: list[tuple[int, int]] = []
        self._exempt_6: list[tuple[int, int]] = []
        for network in map(ip_network, map(str, settings.exempt)):
            ranges = self._exempt_4 if network.version == 4 else self._exempt_6
            ranges.append((int(network.netmask), int(network.network_address)))

    def find(self, host: str) -> ClientGroup | None:
        """Return the group of ``host`` (text, with or without a zone), `None` if exempt."""
        try:
            return self.remembered[host]
        except KeyError:
            pass
        if len(self.remembered) >= MAX_REMEMBERED:
            self.remembered.clear()
        group = self.remembered[host] = self._look_up(host)
        return group

    def _look_up(self, host: str) -> ClientGroup | None:
        # A flood from forged sources comes here with each query, for which `ipaddress` is too slow.
        if ":" in host:
            address, _, zone = host.partition("%")
            packed = inet_pton(AF_INET6, address)
            if not packed.startswith(_MAPPED):
                number = int.from_bytes(packed, "big")
                for mask, network in self._exempt_6:
                    if number & mask == network:
                        return None
                if number & _LINK_LOCAL[1] == _LINK_LOCAL[0]:
                    return ~(int.from_bytes(zone.encode(), "big") << 128 | number)
                return ~(number >> self._shift_6)
            packed = packed[12:]
        else:
            packed = inet_aton(host)
        number = int.from_bytes(packed, "big")
        for mask, network in self._exempt_4:
            if number & mask == network:
                return None
        return number >> self._shift_4
