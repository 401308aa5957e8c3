"""Who may ask (``server.allow``)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

MAX_REMEMBERED = 4096
"""Addresses whose permission is remembered; when full, the memory starts anew."""


class Network:
    """A range of client addresses, written ``192.168.0.0/16`` or as one address.

    Raises `ValueError` for anything else.
    """

    __slots__ = ("_range",)

    def __init__(self, text: str) -> None:
        self._range = ip_network(text)

    def __contains__(self, address: IPv4Address | IPv6Address) -> bool:
        return address in self._range

    def __str__(self) -> str:
        return str(self._range)


class Access:
    """Decides by client address; ``remembered`` holds addresses already found allowed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self.remembered: set[str] = set()
        self._networks = tuple(networks)

    def allows(self, host: str) -> bool:
        """Say whether the client at ``host`` (text, with or without a zone) may ask."""
        if host in self.remembered:
            return True
        address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if not any(address in network for network in self._networks):
            return False
        if len(self.remembered) >= MAX_REMEMBERED:
            self.remembered.clear()
        self.remembered.add(host)
        return True
