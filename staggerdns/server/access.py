"""Who may ask (``server.allow``)."""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.settings.networks import Network, client_address

MAX_REMEMBERED = 4096
"""Allowed addresses that are remembered; when there are so many, all are forgotten."""


class Access:
    """Decides by client address; ``remembered`` holds addresses already found allowed."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self.remembered: set[str] = set()
        self._networks = tuple(networks)

    def allows(self, host: str) -> bool:
        """Return whether the client at ``host`` (text, with or without a zone) may ask."""
        if host in self.remembered:
            return True
        address = client_address(host)
        if not any(address in network for network in self._networks):
            return False
        if len(self.remembered) >= MAX_REMEMBERED:
            self.remembered.clear()
        self.remembered.add(host)
        return True
