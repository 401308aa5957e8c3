"""The upstreams of one scope: whom to ask first, and the uplink that they share.

An upstream may belong to several scopes. Its health, latency, budget and sockets are its own,
whoever asks; the order in which a scope asks is the scope's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from staggerdns.upstream.health import State, Uplink
from staggerdns.upstream.upstream import Upstream

ORDER_FOR = 0.01
"""Seconds for which an order holds; sorting for every question would cost more than it tells."""


class Upstreams:
    """Knows the order in which ``members`` are asked, and makes them share one uplink.

    ``uplink``: the one that they share with those of other scopes; if not given, a new one.
    """

    def __init__(self, members: Sequence[Upstream], uplink: Uplink | None = None) -> None:
        self._members = tuple(members)
        self._order = list(members)
        self._order_until = float("-inf")
        self._uplink = Uplink() if uplink is None else uplink
        self.join_uplink()

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._members)

    def join_uplink(self) -> None:
        """Have all members share the uplink, whoever they belonged to before."""
        for upstream in self._members:
            upstream.uplink = self._uplink

    def arranged(self, now: float) -> list[Upstream]:
        """Return those to ask, best first: healthy by latency, then degraded, then trials.

        Of equal health, those whose negatives the others contradict come last. Those with an open
        circuit are left out, unless it is open everywhere: then all are tried, trials first.
        """
        if now >= self._order_until:
            self._order_until = now + ORDER_FOR
            self._order = sorted(
                self._members,
                key=lambda upstream: (
                    upstream.health.state,
                    upstream.negative_trust.doubtful,
                    upstream.latency.mean(now),
                ),
            )
        order = self._order
        if order[-1].health.state == State.UNHEALTHY:
            usable = [upstream for upstream in order if upstream.usable(now)]
            if not all_circuits_open(order):
                return usable
            return usable + [upstream for upstream in order if upstream not in usable]
        return order.copy()

    def usable(self, now: float) -> int:
        """Return how many are worth asking at ``now``: all of them when none is."""
        if all_circuits_open(self._members):
            return len(self._members)
        return sum(upstream.usable(now) for upstream in self._members)

    @property
    def last_worked(self) -> float:
        """When the latest query was asked that anybody answered well."""
        return self._uplink.last_worked

    def close(self) -> None:
        """Close all sockets."""
        for upstream in self._members:
            upstream.close()


def all_circuits_open(upstreams: Iterable[Upstream]) -> bool:
    """Return whether the circuits of all of them are open."""
    return all(upstream.health.state == State.UNHEALTHY for upstream in upstreams)
