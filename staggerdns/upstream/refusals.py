"""When exchanges that were refused by ICMP are given up.

Anybody can forge an ICMP error. So others are asked at once, as if the refused ones had failed, and
their replies are still awaited. They are given up early only when a client waits and nobody else
is left.
"""

from __future__ import annotations

from collections.abc import Iterable

from staggerdns.upstream.exchange import Exchange
from staggerdns.upstream.upstream import Upstream

REFUSED_WAIT = 0.2
"""Seconds for which a client waits for a reply when all that were asked have been refused. Twice
the usual time of the slowest one's replies, if that is more.
"""


def unrefused(exchanges: Iterable[Exchange]) -> int:
    """Return how many of the exchanges have not been refused."""
    return sum(exchange.hinted is None for exchange in exchanges)


def give_up_at(upstreams: Iterable[Upstream], last: float, now: float) -> float:
    """Return when to give up exchanges with ``upstreams``, at least one, that all have been
    refused, the last at ``last``.
    """
    return last + max(REFUSED_WAIT, 2 * max(upstream.usual_time(now) for upstream in upstreams))
