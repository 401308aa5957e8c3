"""What counts for some clients beside what is ours: by now the routes, which lead names to scopes.

The server asks this about each name once. Nobody behind it needs to know who the client was.
"""

from __future__ import annotations

from staggerdns.policy.routes import Routes


class Rules:
    """The rules of some clients: their ``routes``."""

    __slots__ = ("routes",)

    def __init__(self, routes: Routes) -> None:
        self.routes = routes
