"""By what rules clients are served: what a configuration says, made ready for use."""

from __future__ import annotations

from dataclasses import dataclass

from staggerdns.policy.groups import Groups
from staggerdns.server.access import Access
from staggerdns.server.clientgroups import ClientGroups
from staggerdns.server.cookies import Cookies
from staggerdns.server.local import LocalNames
from staggerdns.server.proxies import Proxies
from staggerdns.server.ratelimit import RateLimiter
from staggerdns.settings.sections import ServerSettings


@dataclass(frozen=True, slots=True)
class Serving:
    """``access``: who may ask. ``local`` answers in front of the chain. ``client_groups``: who
    counts as one client, ``limiter``: how much each may ask over UDP, `None` for any. ``groups``:
    which rules count for whom, `None`: nobody has any. ``cookies``: `None` for none. ``proxies``:
    who says for whom he asks, `None`: nobody does.
    """

    settings: ServerSettings
    access: Access
    local: LocalNames
    client_groups: ClientGroups
    groups: Groups | None = None
    cookies: Cookies | None = None
    limiter: RateLimiter | None = None
    proxies: Proxies | None = None
