"""How many queries over UDP a client may send: a token bucket for each.

A bucket is one number, the time at which it will be full again. Each query moves that time on by
the price of a token, and is beyond the limit when the bucket has no token left. A client that has
been silent for a while has a full bucket, like one that was never seen, so its bucket can be
forgotten.

Buckets are kept in two generations: when the younger one is full, the older one is dropped and the
younger one takes its place. A client that keeps asking is moved to the younger one, so no table is
ever searched for old buckets. Forged sources can have a bucket forgotten early, which gives its
client one more burst for `MAX_CLIENTS` queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from staggerdns.server.clientgroups import ClientGroup, ClientGroups
from staggerdns.settings.sections import RateLimitSettings

MAX_CLIENTS = 32_768
"""Buckets of one generation; there are two."""

Address = tuple[Any, ...]
"""A client as the kernel names it: address, port, and for IPv6 two more."""
Datagram = tuple[bytes, Address]
"""A message and where it came from."""
_UNKNOWN = 1 << 32  # not the number of any group


class RateLimiter:
    """The buckets of all clients: a steady rate, and so many queries at once.

    Of the queries beyond the limit every ``slip``-th is answered with TC set (or with BADCOOKIE, if
    it has a COOKIE option), so that a real client can ask again; with 0 none is.
    """

    def __init__(self, settings: RateLimitSettings, client_groups: ClientGroups) -> None:
        self._client_groups = client_groups
        self._price = 1 / settings.queries_per_second
        # Half a token less than full, since sums of prices are not exact.
        self._depth = (settings.burst - 0.5) * self._price
        self._slip = settings.slip
        self._slipped = 0
        self._younger: dict[ClientGroup, float] = {}
        self._older: dict[ClientGroup, float] = {}

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)

    def screen(
        self, datagrams: list[Datagram], now: float
    ) -> tuple[list[Datagram], Sequence[Datagram]]:
        """Return those of ``datagrams`` that are within the limits at ``now``, and the others."""
        known = self._client_groups.remembered
        younger = self._younger
        price = self._price
        latest = now + self._depth
        within = []
        beyond = []
        for datagram in datagrams:
            host = datagram[1][0]
            client = known.get(host, _UNKNOWN)
            if client == _UNKNOWN:
                client = self._client_groups.find(host)
            if client is None:
                within.append(datagram)
                continue
            full = younger.get(client)
            if full is None:
                full = self._carry_over(client)
                younger = self._younger
            if full > latest:
                beyond.append(datagram)
                continue
            younger[client] = (full if full > now else now) + price  # noqa: FURB136 (slower)
            within.append(datagram)
        return within, beyond

    def slips(self) -> bool:
        """Return whether the next query beyond the limit is answered, as every ``slip``-th is."""
        self._slipped += 1
        return bool(self._slip) and self._slipped % self._slip == 0

    def _carry_over(self, client: ClientGroup) -> float:
        """Give ``client``, which is not in the younger generation, a bucket there and return it."""
        if len(self._younger) >= MAX_CLIENTS:
            self._older, self._younger = self._younger, {}
        full = self._younger[client] = self._older.pop(client, 0.0)
        return full
