"""How many queries over UDP a client may send: a token bucket for each.

A bucket is one number, the time at which it will be full again. A query moves it on by the price
of a token, and is beyond the limit when that would take more than the bucket holds. A source
that is silent for a while has a full bucket, like one never seen, so forgetting it is safe.
Clients are kept in two generations: when the younger is full, the older is dropped and the
younger takes its place. Whoever keeps asking is carried over; nothing ever walks a table. Forged
sources can push a bucket out early, at the price of `MAX_CLIENTS` queries for one burst.
"""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns.server.clientgroups import ClientGroup, ClientGroups
from staggerdns.settings.sections import RateLimitSettings

MAX_CLIENTS = 32_768
"""Buckets of one generation; there are two."""

Datagram = tuple[bytes, tuple[str, int]]
"""A message and where it came from."""
_UNKNOWN = 1 << 32  # no client's number


class RateLimiter:
    """The buckets of all clients: a steady rate, and so many queries at once.

    Of the queries beyond, each ``slip``-th is answered with TC set (or, where there is a cookie
    option, with BADCOOKIE), so that who really is there can come back; 0: none.
    """

    def __init__(self, settings: RateLimitSettings, client_groups: ClientGroups) -> None:
        self._client_groups = client_groups
        self._price = 1 / settings.queries_per_second
        # Half a token of slack: sums of prices are not exact.
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
        """Say whether the query beyond the limit that is being looked at gets its answer."""
        self._slipped += 1
        return bool(self._slip) and self._slipped % self._slip == 0

    def _carry_over(self, client: ClientGroup) -> float:
        """Give ``client``, which is not in the younger generation, its place there."""
        if len(self._younger) >= MAX_CLIENTS:
            self._older, self._younger = self._younger, {}
        full = self._younger[client] = self._older.pop(client, 0.0)
        return full
