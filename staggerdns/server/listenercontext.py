"""What the sockets of one listener share: by which rules its clients are answered, and what replies
are ready for them.
"""

from __future__ import annotations

from collections.abc import Mapping

from staggerdns.policy.groups import Groups
from staggerdns.policy.rules import Rules
from staggerdns.server.ready import ReadyReplies, ReadyTables
from staggerdns.settings.addresses import Listener

MAX_REMEMBERED = 4096
"""Clients whose rules are remembered; when there are so many, all are forgotten."""


class ListenerContext:
    """The context of ``listener``, `None` for what comes in by none of the configuration.

    ``groups``: whose rules count for whom, `None` if nobody has any. ``tables``: those of ready
    replies by transport, which all listeners have in common. ``ready``: what of them is for clients
    of this one.
    """

    def __init__(
        self, listener: Listener | None, groups: Groups | None, tables: Mapping[str, ReadyTables]
    ) -> None:
        self._listener = listener
        self._groups = groups
        self._rules: dict[str, Rules] = {}
        self.ready = {transport: ReadyReplies(its) for transport, its in tables.items()}

    def rules(self, host: str) -> Rules | None:
        """Return the rules for the client at ``host``, which may ask."""
        if self._groups is None:
            return None
        rules = self._rules.get(host)
        if rules is None:
            if len(self._rules) >= MAX_REMEMBERED:
                self._rules.clear()
            rules = self._rules[host] = self._groups.find(host, self._listener)
        return rules
