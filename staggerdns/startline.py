"""The line in the log that says what runs, where it listens and whom it asks."""

from __future__ import annotations

from collections.abc import Sequence

from staggerdns import __version__
from staggerdns.compiled import is_compiled
from staggerdns.configroutes import all_routes
from staggerdns.journal import Journal
from staggerdns.logformat import Listed
from staggerdns.settings.addresses import Listener
from staggerdns.settings.sections import Config


def announce(config: Config, bound: Sequence[Listener], journal: Journal) -> None:
    """Log the line; ``bound`` are the listeners that are open."""
    page = config.metrics.listen
    of_routes = Listed(dict.fromkeys(one for _, way in all_routes(config) for one in way.servers))
    journal.announce(
        "listening on {listen}"
        + ("" if page is None else ", with metrics on {metrics}")
        + ", asking {upstreams}"
        + (", for routes {route_upstreams}" if of_routes else "")
        + ": StaggerDNS {version}, {build}",
        version=__version__,
        build="compiled" if is_compiled() else "pure Python",
        listen=Listed(bound),
        metrics=page,
        upstreams=Listed(config.upstream.servers),
        route_upstreams=of_routes,
    )
