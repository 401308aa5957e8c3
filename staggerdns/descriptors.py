"""How many descriptors a configuration may use, and whether the system grants them.

Without a free one no connection is accepted, nobody is asked over a new socket and no file is read:
so the limits of client connections give way beforehand.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass

from staggerdns.configroutes import all_routes
from staggerdns.policy.lists.lists import MAX_FETCHES
from staggerdns.ranking.probes import ICMP
from staggerdns.server.connections import MAX_DISALLOWED
from staggerdns.server.ports import MAX_ACCEPTS
from staggerdns.server.status import LIMITS, MAX_VIEWERS
from staggerdns.settings.sections import Config, RankingSettings
from staggerdns.upstream.datagram import SOCKETS

RESERVE = 32
"""Descriptors for what is always or briefly open: the log, the reactor's own, files being read."""
STREAMS = 4
"""Connections to one upstream at once: in use, being opened, and old ones that have yet to end."""


LISTS = 4 * MAX_FETCHES
"""Descriptors that lists may need at once: for each that is fetched the connections that are being
opened, and the file that it goes to; and what the process that compiles is talked to by.
"""


@dataclass(frozen=True, slots=True)
class Fit:
    """What fits: client ``connections``; ``problem`` is a line for the log when that is less than
    the configuration wants, else empty.
    """

    connections: int
    problem: str = ""


def others(config: Config) -> int:
    """Return how many descriptors may be in use beside those of client connections."""
    ports = sum(MAX_ACCEPTS + (1 if listener.scheme else 2) for listener in config.server.listen)
    servers = {
        *config.upstream.servers,
        *(one for _, route in all_routes(config) for one in route.servers),
    }
    upstreams = [*servers, *config.upstream.bootstrap]
    sockets = sum(
        SOCKETS + STREAMS if upstream.transport == "udp" else STREAMS for upstream in upstreams
    )
    viewers = MAX_VIEWERS if config.page.enabled else 0
    pages = 0 if config.metrics.listen is None else 1 + LIMITS.tcp_max_connections + viewers
    lists = LISTS if config.lists else 0
    beside = MAX_DISALLOWED + sockets + pages + lists + _connections(config.ranking)
    return RESERVE + ports + beside


def _connections(ranking: RankingSettings) -> int:
    """Return how many connections may be under way to probe addresses."""
    ways = [probe for probe in ranking.probes if probe != ICMP]
    return ranking.concurrency * len(ways) if ranking.enabled else 0


def fit_descriptors(config: Config) -> Fit:
    """Raise the soft limit of descriptors (RLIMIT_NOFILE) as far as the configuration needs it and
    the hard one allows; return what fits then.
    """
    wanted = config.server.tcp_max_connections
    beside = others(config)
    needed = beside + wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _covers(soft, needed):
        return Fit(wanted)
    most = needed if _covers(hard, needed) else hard
    try:
        if most != soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    except (OSError, ValueError):  # a sandbox forbids it, or fs.nr_open is lower
        most = soft
    if most >= needed:
        return Fit(wanted)
    connections = max(1, most - beside)
    return Fit(
        connections,
        f"the system allows {most} open files where up to {needed} are needed: "
        f"server.tcp_max_connections counts as {connections} instead of {wanted}, unless the limit "
        "is raised (LimitNOFILE= of systemd, ulimit -Hn)",
    )


def _covers(limit: int, needed: int) -> bool:
    return limit == resource.RLIM_INFINITY or limit >= needed
