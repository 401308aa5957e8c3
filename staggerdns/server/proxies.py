"""The proxies that say for whom they ask (``server.proxy_protocol``), over UDP.

From these each datagram has to begin with a header (`staggerdns.wire.proxyheader`), and what is
behind it is the client's. From everybody else a header is no part of the protocol, so that a
message which begins with one is dropped where it is read (`staggerdns.wire.query`).

What comes over connections is read by `staggerdns.server.proxyconnection`.
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.metrics import Metrics
from staggerdns.server.ratelimit import Datagram
from staggerdns.server.request import UDP
from staggerdns.settings.networks import Network, client_address
from staggerdns.wire.proxyheader import ProxyHeaderError, read_proxy_header

MAX_REMEMBERED = 4096
"""Peers of which is remembered whether they are proxies; when there are so many, all are forgotten.
"""


class Proxies:
    """The proxies at the addresses of ``networks``."""

    def __init__(self, networks: Sequence[Network], metrics: Metrics) -> None:
        self._networks = tuple(networks)
        self._known: dict[str, bool] = {}
        self._dropped = metrics.dropped

    def __len__(self) -> int:
        return len(self._known)

    def includes(self, host: str) -> bool:
        """Return whether the peer at ``host`` (text, with or without a zone) is a proxy."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= MAX_REMEMBERED:
                self._known.clear()
            address = client_address(host)
            known = self._known[host] = any(address in network for network in self._networks)
        return known

    def unwrap(self, datagrams: list[Datagram]) -> list[Datagram]:
        """Return the messages in ``datagrams``, each with a pair in place of its address: that of
        its client, as text, and the address of the peer, to which the reply goes.

        What should have a header and has none that can be believed is counted and left out.
        """
        messages: list[Datagram] = []
        known = self._known
        for message, peer in datagrams:
            host = peer[0]
            if known.get(host) or (host not in known and self.includes(host)):
                try:
                    client, end = read_proxy_header(message)
                except ProxyHeaderError as error:
                    self._dropped.cell(UDP, error.reason).value += 1
                    continue
                messages.append((message[end:], (client or host, peer)))
            else:
                messages.append((message, (host, peer)))
        return messages
