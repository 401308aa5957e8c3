"""What counts for some clients beside what is ours: routes, which lead names to scopes, and lists
of names that they do not get.

The server asks this about each name once. Nobody behind it needs to know who the client was.
"""

from __future__ import annotations

from staggerdns.policy.blocking import Blocking
from staggerdns.policy.routes import Routes
from staggerdns.settings.policy import OwnFamiliesSettings


class Rules:
    """The rules of some clients: their ``routes``, what they do not get, `None` if there is nothing
    of the kind, and what is said of ``families`` for them.
    """

    __slots__ = ("routes", "blocking", "families")

    def __init__(
        self,
        routes: Routes,
        blocking: Blocking | None = None,
        families: OwnFamiliesSettings | None = None,
    ) -> None:
        self.routes = routes
        self.blocking = blocking
        self.families = OwnFamiliesSettings() if families is None else families
